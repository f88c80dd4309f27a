package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding/simplifiedchinese"

	"github.com/zhenglian/zhenglian/domain"
)

// finding is one reason why a row cannot be imported.
type finding struct {
	field string
	rule  string
	text  string // the whole sentence, where there is more to say
}

// catalogRow is one row of a file as a catalog entry.
type catalogRow struct {
	number   int // of the row: the first after the header is 1
	content  domain.CatalogContent
	findings []finding
}

// portalDefaults are what the files of open-data portals lack.
type portalDefaults struct {
	providerUSCC string
	regionCode   string
	systemRef    string
	classCode    string // the code before the "/"
	abstract     string // where the file has none
	personalData string
	updateCycle  string // where the file has none
}

// mapping turns the records of one kind of file into catalog entries.
type mapping struct {
	name     string
	portal   bool     // its entries need portalDefaults
	required []string // columns that tell the kind of file
	optional []string // columns read besides
	ignored  []string // known columns that no entry has a place for
	entry    func(field func(string) string, d portalDefaults) (domain.CatalogContent, []finding)
}

// mappings lists the kinds of files, the most demanding first.
var mappings = []mapping{
	{
		name: "national",
		required: []string{
			colCode, colName, colAbstract, colProvider, colTheme, colFormat, colItems,
			colShareType, colShareMode, colCycle, colSystem, colRegion, colPersonal,
		},
		optional: []string{colCondition, colBasis, colDuty},
		entry:    nationalEntry,
	},
	{
		name: "guangxi", portal: true,
		required: []string{"portal", "resource_name", "provider", "theme", "open_type", "update_cycle", "formats"},
		optional: []string{"abstract"},
		ignored:  []string{"industry", "record_count", "published_at", "updated_at"},
		entry:    guangxiEntry,
	},
	{
		name: "beijing", portal: true,
		required: []string{"portal", "resource_name", "provider", "category_path", "resource_type", "info_items"},
		optional: []string{"abstract"},
		ignored:  []string{"keywords", "record_count", "published_date"},
		entry:    beijingEntry,
	},
	{
		name: "tianjin", portal: true,
		required: []string{"portal", "resource_name", "theme", "abstract"},
		entry:    tianjinEntry,
	},
}

// The columns of the national form, see docs/catalog-csv.md.
const (
	colCode      = "信息资源代码"
	colName      = "信息资源名称"
	colAbstract  = "信息资源摘要"
	colProvider  = "信息资源提供方代码"
	colTheme     = "信息资源分类"
	colFormat    = "信息资源格式"
	colItems     = "信息项"
	colShareType = "共享类型"
	colCondition = "共享条件"
	colBasis     = "共享依据"
	colShareMode = "共享方式"
	colCycle     = "更新周期"
	colDuty      = "职责"
	colSystem    = "信息系统"
	colRegion    = "行政区划代码"
	colPersonal  = "涉及个人信息"
)

// findMapping picks the mapping by name, or by the header when name is "".
func findMapping(name string, header []string) (mapping, error) {
	for _, m := range mappings {
		missing := slices.DeleteFunc(slices.Clone(m.required), func(c string) bool { return slices.Contains(header, c) })
		switch {
		case name == "" && len(missing) > 0, name != "" && name != m.name:
			continue
		case len(missing) > 0:
			return mapping{}, fmt.Errorf("the file lacks the columns %s of the %s form", strings.Join(missing, ", "), m.name)
		}
		known := slices.Concat(m.required, m.optional, m.ignored)
		for i, column := range header {
			if !slices.Contains(known, column) {
				return mapping{}, fmt.Errorf("column %q is unknown to the %s form; remove it or correct its name", column, m.name)
			}
			if slices.Contains(header[:i], column) {
				return mapping{}, fmt.Errorf("column %q appears twice", column)
			}
		}
		return m, nil
	}
	if name != "" {
		return mapping{}, fmt.Errorf("no form is called %q", name)
	}
	var forms []string
	for _, m := range mappings {
		forms = append(forms, m.name+" ("+strings.Join(m.required, ",")+")")
	}
	return mapping{}, fmt.Errorf("the header fits no known form; the forms and their columns are: %s", strings.Join(forms, "; "))
}

// readCatalog reads a CSV file into rows. Rows that cannot become entries carry
// findings; the error is for a file that cannot be read at all.
func readCatalog(data []byte, mapName string, d portalDefaults) (mapping, []catalogRow, error) {
	text, err := decodeText(data)
	if err != nil {
		return mapping{}, nil, err
	}
	reader := csv.NewReader(bytes.NewReader(text))
	reader.FieldsPerRecord = -1 // a short row is that row's finding
	header, err := reader.Read()
	if errors.Is(err, io.EOF) {
		return mapping{}, nil, errors.New("the file is empty")
	} else if err != nil {
		return mapping{}, nil, fmt.Errorf("read the header: %w", err)
	}
	for i := range header {
		header[i] = strings.TrimSpace(header[i])
	}
	m, err := findMapping(mapName, header)
	if err != nil {
		return mapping{}, nil, err
	}
	if err := d.check(m); err != nil {
		return mapping{}, nil, err
	}

	var rows []catalogRow
	names := make(map[string]int) // row that first had a name
	codes := make(map[string]int)
	for number := 1; ; number++ {
		record, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			// Past a stray quote nothing can be told apart any more.
			return m, nil, fmt.Errorf("row %d: %w", number, err)
		}
		row := catalogRow{number: number}
		if len(record) != len(header) {
			row.findings = []finding{{field: "row", rule: fmt.Sprintf("has %d fields, the header has %d", len(record), len(header))}}
			rows = append(rows, row)
			continue
		}
		field := func(column string) string {
			if i := slices.Index(header, column); i >= 0 {
				return strings.TrimSpace(record[i])
			}
			return ""
		}
		row.content, row.findings = m.entry(field, d)
		row.findings = append(row.findings, contentFindings(row.content, row.findings)...)
		key := field("provider") + "\n" + normalName(row.content.Name)
		if first, ok := names[key]; ok && row.content.Name != "" {
			row.findings = append(row.findings, finding{field: "name", rule: fmt.Sprintf("repeats the name of row %d", first)})
		} else if first, ok := codes[row.content.Code]; ok && row.content.Code != "" {
			row.findings = append(row.findings, finding{field: "code", rule: fmt.Sprintf("repeats the code of row %d", first)})
		} else {
			names[key], codes[row.content.Code] = number, number
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return m, nil, errors.New("the file has a header and no rows")
	}
	return m, rows, nil
}

// decodeText returns data as UTF-8 without byte-order mark. Office software in
// China still writes CSV in GB 18030, so text that is not UTF-8 is read as that.
func decodeText(data []byte) ([]byte, error) {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return nil, errors.New("the file is in UTF-16; save it as UTF-8 or GB 18030")
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if utf8.Valid(data) {
		return data, nil
	}
	text, err := simplifiedchinese.GB18030.NewDecoder().Bytes(data)
	if err != nil || bytes.ContainsRune(text, utf8.RuneError) {
		return nil, errors.New("the file is neither UTF-8 nor GB 18030 text")
	}
	return text, nil
}

// check reports missing defaults for a portal's file.
func (d portalDefaults) check(m mapping) error {
	if !m.portal {
		return nil
	}
	var missing []string
	for _, f := range []struct{ flag, value string }{
		{"--provider-uscc", d.providerUSCC},
		{"--region", d.regionCode},
		{"--system-ref", d.systemRef},
		{"--class-code", d.classCode},
	} {
		if f.value == "" {
			missing = append(missing, f.flag)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("a file of the %s form says nothing of these, so give %s", m.name, strings.Join(missing, ", "))
	}
	return nil
}

// contentFindings are the ledger's own objections to the content, found before
// anything is sent. Fields that already have a finding are left out.
func contentFindings(content domain.CatalogContent, already []finding) []finding {
	err := content.Validate()
	if err == nil {
		return nil
	}
	var refused *domain.Error
	if !errors.As(err, &refused) {
		return []finding{{field: "row", rule: err.Error()}}
	}
	known := func(field string) bool {
		return slices.ContainsFunc(already, func(f finding) bool { return f.field == field })
	}
	var out []finding
	for _, part := range strings.Split(refused.Msg, "; ") {
		field, rule, ok := strings.Cut(part, ": ")
		if !ok {
			field, rule = "row", part
		}
		// With the share type unread, what depends on it says nothing new.
		follows := strings.HasSuffix(field, ".shareType") || field == "shareCondition" || field == "legalBasis"
		if !known(field) && (!follows || !known("shareType")) {
			out = append(out, finding{field: field, rule: rule})
		}
	}
	return out
}

// normalName is a name without spaces and punctuation: two names that differ in
// nothing else are one resource entered twice.
func normalName(name string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.IsPunct(r) || unicode.IsSymbol(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, name)
}

// portalCode is the code of a resource that its portal lists without one: the
// sequence number follows from the source and the name, so that a second run
// gives the same code.
func portalCode(classCode, portal, provider, name string) string {
	sum := sha256.Sum256([]byte("zhenglian/portal-code/1\n" + portal + "\n" + provider + "\n" + normalName(name)))
	return fmt.Sprintf("%s/%012d", classCode, binary.BigEndian.Uint64(sum[:8])%1_000_000_000_000)
}

// portalEntry is what all portals' files have in common. An open-data portal
// offers files; what it lists without a table of fields is one data file.
func portalEntry(field func(string) string, d portalDefaults) domain.CatalogContent {
	c := domain.CatalogContent{
		Code:         portalCode(d.classCode, field("portal"), field("provider"), field("resource_name")),
		Name:         field("resource_name"),
		Abstract:     field("abstract"),
		ProviderUSCC: d.providerUSCC,
		Format:       "file",
		Items:        []domain.CatalogItem{{Name: "数据文件", Type: "G", Level: 1, ShareType: domain.Unconditional}},
		ShareType:    domain.Unconditional, // what a portal opens to everybody is shared without condition
		LegalBasis:   []string{},
		ShareMode:    "platform_file",
		UpdateCycle:  d.updateCycle,
		SystemRef:    d.systemRef,
		RegionCode:   d.regionCode,
		PersonalData: d.personalData,
	}
	if c.Abstract == "" {
		c.Abstract = d.abstract
	}
	return c
}

func guangxiEntry(field func(string) string, d portalDefaults) (domain.CatalogContent, []finding) {
	var found []finding
	c := portalEntry(field, d)
	c.Classification = field("theme")
	c.Format = formatOf(strings.Split(field("formats"), "|"))
	c.UpdateCycle = lookUp(&found, "updateCycle", field("update_cycle"), updateCycles)
	c.ShareType = lookUp(&found, "shareType", field("open_type"), openTypes)
	for i := range c.Items {
		c.Items[i].ShareType = c.ShareType
	}
	return c, found
}

func beijingEntry(field func(string) string, d portalDefaults) (domain.CatalogContent, []finding) {
	c := portalEntry(field, d)
	c.Classification = field("category_path")
	if field("resource_type") == "表格" {
		c.Format = "spreadsheet"
	}
	if names := field("info_items"); names != "" {
		c.Items = nil
		for _, name := range strings.Split(names, "|") {
			c.Items = append(c.Items, domain.CatalogItem{Name: strings.TrimSpace(name), Type: "C", Level: 1, ShareType: domain.Unconditional})
		}
	}
	return c, nil
}

func tianjinEntry(field func(string) string, d portalDefaults) (domain.CatalogContent, []finding) {
	c := portalEntry(field, d)
	c.Classification = field("theme")
	return c, nil
}

// formatOf is the catalog's word for a resource that a portal offers in several
// file formats: a table where one of them is a table.
func formatOf(extensions []string) string {
	has := func(some ...string) bool {
		return slices.ContainsFunc(extensions, func(e string) bool { return slices.Contains(some, strings.ToLower(strings.TrimSpace(e))) })
	}
	switch {
	case has("csv", "xls", "xlsx"):
		return "spreadsheet"
	case has("json", "xml", "rdf"):
		return "self_describing"
	case has("jpg", "jpeg", "png", "tif", "tiff"):
		return "image"
	}
	return "file"
}

// The words of the files, and the catalog's.
var (
	openTypes = map[string]domain.ShareType{
		"无条件开放": domain.Unconditional, "有条件开放": domain.Conditional, "不予开放": domain.NotShared,
	}
	shareTypes = map[string]domain.ShareType{
		"1": domain.Unconditional, "无条件共享": domain.Unconditional,
		"2": domain.Conditional, "有条件共享": domain.Conditional,
		"3": domain.NotShared, "不予共享": domain.NotShared,
	}
	updateCycles = map[string]string{
		"不定期": "irregular", "不定时": "irregular", "实时": "realtime",
		"每天": "daily", "每日": "daily", "每周": "weekly", "每月": "monthly", "每季度": "quarterly",
		"每半年": "half_yearly", "每年": "yearly", "其他": "other",
	}
	formats = map[string]string{
		"电子文件": "file", "电子表格": "spreadsheet", "数据库": "database", "图形图像": "image",
		"流媒体": "stream", "自描述格式": "self_describing", "服务接口": "api",
	}
	modes = map[string]string{
		"共享平台库表": "platform_table", "共享平台文件": "platform_file", "共享平台接口": "platform_api",
		"库表": "platform_table", "文件": "platform_file", "接口": "platform_api", "邮件": "mail", "介质": "medium",
	}
	personal = map[string]string{"不涉及": "none", "无": "none", "一般": "general", "敏感": "sensitive"}
	yesNo    = map[string]bool{"是": true, "否": false, "": false}
	itemType = map[string]string{
		"字符": "C", "数值": "N", "货币": "Y", "日期": "D", "日期时间": "T", "逻辑": "L",
		"备注": "M", "通用": "G", "双精度": "B", "整型": "I", "浮点": "F",
		"C": "C", "N": "N", "Y": "Y", "D": "D", "T": "T", "L": "L", "M": "M", "G": "G", "B": "B", "I": "I", "F": "F",
	}
)

// lookUp translates word, or notes which words there are.
func lookUp[T any](found *[]finding, field, word string, words map[string]T) T {
	value, ok := words[word]
	if !ok {
		var known []string
		for w := range words {
			if w != "" {
				known = append(known, w)
			}
		}
		slices.Sort(known)
		*found = append(*found, finding{field: field, rule: "not one of " + strings.Join(known, ", ")})
	}
	return value
}

func nationalEntry(field func(string) string, _ portalDefaults) (domain.CatalogContent, []finding) {
	var found []finding
	c := domain.CatalogContent{
		Code:           field(colCode),
		Name:           field(colName),
		Abstract:       field(colAbstract),
		ProviderUSCC:   field(colProvider),
		Classification: field(colTheme),
		Format:         lookUp(&found, "format", field(colFormat), formats),
		ShareType:      lookUp(&found, "shareType", field(colShareType), shareTypes),
		ShareCondition: field(colCondition),
		LegalBasis:     []string{},
		ShareMode:      lookUp(&found, "shareMode", field(colShareMode), modes),
		UpdateCycle:    lookUp(&found, "updateCycle", field(colCycle), updateCycles),
		DutyRef:        field(colDuty),
		SystemRef:      field(colSystem),
		RegionCode:     field(colRegion),
		PersonalData:   lookUp(&found, "personalData", field(colPersonal), personal),
	}
	for _, basis := range strings.Split(field(colBasis), "|") {
		if basis = strings.TrimSpace(basis); basis != "" {
			c.LegalBasis = append(c.LegalBasis, basis)
		}
	}
	c.Items = []domain.CatalogItem{}
	for i, text := range strings.Split(field(colItems), "|") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		at := "items[" + strconv.Itoa(i) + "]"
		item, err := parseItem(text, c.ShareType, at, &found)
		if err != nil {
			found = append(found, finding{field: at, rule: err.Error()})
			continue
		}
		c.Items = append(c.Items, item)
	}
	return c, found
}

// parseItem reads an information item: name:type:level, and where it differs
// from the rule :sensitive:share type.
func parseItem(text string, entry domain.ShareType, at string, found *[]finding) (domain.CatalogItem, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 && len(parts) != 5 {
		return domain.CatalogItem{}, errors.New("must be 名称:类型:分级 or 名称:类型:分级:敏感:共享类型, joined by half-width colons")
	}
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	item := domain.CatalogItem{Name: parts[0], Type: lookUp(found, at+".type", parts[1], itemType), ShareType: entry}
	level, err := strconv.Atoi(parts[2])
	if err != nil {
		return domain.CatalogItem{}, errors.New("the level 分级 must be a number from 1 to 4")
	}
	item.Level = level
	if len(parts) == 5 {
		item.Sensitive = lookUp(found, at+".sensitive", parts[3], yesNo)
		item.ShareType = lookUp(found, at+".shareType", parts[4], shareTypes)
	}
	return item, nil
}
