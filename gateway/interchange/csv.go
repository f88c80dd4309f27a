package interchange

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
)

// The columns of the national form, in the order that they are written in.
const (
	colCode          = "信息资源代码"
	colName          = "信息资源名称"
	colAbstract      = "信息资源摘要"
	colProvider      = "信息资源提供方代码"
	colOffice        = "内部部门"
	colTheme         = "信息资源分类"
	colFormat        = "信息资源格式"
	colFormatType    = "格式类型"
	colItems         = "信息项"
	colShareType     = "共享类型"
	colCondition     = "共享条件"
	colBasis         = "共享依据"
	colShareMode     = "共享方式"
	colOpenType      = "开放类型"
	colOpenCondition = "开放条件"
	colCycle         = "更新周期"
	colRelated       = "关联资源"
	colDuty          = "职责"
	colSystem        = "信息系统"
	colRegion        = "行政区划代码"
	colLevel         = "数据分级"
	colPersonal      = "涉及个人信息"
)

var nationalColumns = []string{
	colCode, colName, colAbstract, colProvider, colOffice, colTheme, colFormat, colFormatType, colItems,
	colShareType, colCondition, colBasis, colShareMode, colOpenType, colOpenCondition, colCycle, colRelated,
	colDuty, colSystem, colRegion, colLevel, colPersonal,
}

// form turns the records of one kind of CSV file into content.
type form struct {
	name     string
	portal   bool     // its rows need defaults
	required []string // columns that tell the kind of file
	optional []string // columns read besides
	ignored  []string // known columns that content has no place for
	content  func(field func(string) string, d Defaults) (domain.CatalogContent, []domain.Finding)
}

// forms lists the kinds of CSV files, the most demanding first.
var forms = []form{
	{
		name: "national",
		required: []string{
			colCode, colName, colAbstract, colProvider, colTheme, colFormat, colItems,
			colShareType, colShareMode, colCycle, colSystem, colRegion, colPersonal,
		},
		optional: []string{colOffice, colFormatType, colCondition, colBasis, colOpenType, colOpenCondition, colRelated, colDuty, colLevel},
		content:  nationalContent,
	},
	{
		name: "guangxi", portal: true,
		required: []string{"portal", "resource_name", "provider", "theme", "open_type", "update_cycle", "formats"},
		optional: []string{"abstract"},
		ignored:  []string{"industry", "record_count", "published_at", "updated_at"},
		content:  guangxiContent,
	},
	{
		name: "beijing", portal: true,
		required: []string{"portal", "resource_name", "provider", "category_path", "resource_type", "info_items"},
		optional: []string{"abstract"},
		ignored:  []string{"keywords", "record_count", "published_date"},
		content:  beijingContent,
	},
	{
		name: "tianjin", portal: true,
		required: []string{"portal", "resource_name", "theme", "abstract"},
		content:  tianjinContent,
	},
	{
		name: "taiwan", portal: true,
		required: []string{"portal", "title", "description", "path"},
		content:  taiwanContent,
	},
}

// Forms names the kinds of CSV files that can be read.
func Forms() []string {
	var names []string
	for _, f := range forms {
		names = append(names, f.name)
	}
	return names
}

// findForm picks the form by name, or by the header when name is "".
func findForm(name string, header []string) (form, error) {
	for _, f := range forms {
		missing := slices.DeleteFunc(slices.Clone(f.required), func(c string) bool { return slices.Contains(header, c) })
		switch {
		case name == "" && len(missing) > 0, name != "" && name != f.name:
			continue
		case len(missing) > 0:
			return form{}, fmt.Errorf("the file lacks the columns %s of the %s form", strings.Join(missing, ", "), f.name)
		}
		known := slices.Concat(f.required, f.optional, f.ignored)
		for i, column := range header {
			if !slices.Contains(known, column) {
				return form{}, fmt.Errorf("column %q is unknown to the %s form; remove it or correct its name", column, f.name)
			}
			if slices.Contains(header[:i], column) {
				return form{}, fmt.Errorf("column %q appears twice", column)
			}
		}
		return f, nil
	}
	if name != "" {
		return form{}, fmt.Errorf("no form is called %q", name)
	}
	var known []string
	for _, f := range forms {
		known = append(known, f.name+" ("+strings.Join(f.required, ",")+")")
	}
	return form{}, fmt.Errorf("the header fits no known form; the forms and their columns are: %s", strings.Join(known, "; "))
}

func (r *Reader) openCSV(file io.Reader, formName string) error {
	text, err := decodeText(file)
	if err != nil {
		return err
	}
	reader := csv.NewReader(text)
	reader.FieldsPerRecord = -1 // a short row is that row's finding
	header, err := reader.Read()
	if errors.Is(err, io.EOF) {
		return errors.New("the file is empty")
	} else if err != nil {
		return fmt.Errorf("read the header: %w", err)
	}
	for i := range header {
		header[i] = strings.TrimSpace(header[i])
	}
	f, err := findForm(formName, header)
	if err != nil {
		return err
	}
	if f.portal {
		if err := r.defaults.check(f.name); err != nil {
			return err
		}
	}
	r.form = f.name
	r.next = func() (Row, error) {
		record, err := reader.Read()
		if err != nil { // past a stray quote nothing can be told apart
			return Row{}, err
		}
		if len(record) != len(header) {
			return Row{Findings: []domain.Finding{shape(wholeRow,
				fmt.Sprintf("有%d列，表头有%d列", len(record), len(header)),
				fmt.Sprintf("has %d fields, the header has %d", len(record), len(header)))}}, nil
		}
		var row Row
		row.Content, row.Findings = f.content(func(column string) string {
			if i := slices.Index(header, column); i >= 0 {
				return unguard(strings.TrimSpace(record[i]))
			}
			return ""
		}, r.defaults)
		return row, nil
	}
	return nil
}

func nationalContent(field func(string) string, _ Defaults) (domain.CatalogContent, []domain.Finding) {
	var found []domain.Finding
	c := domain.CatalogContent{
		Code:           field(colCode),
		Name:           field(colName),
		Abstract:       field(colAbstract),
		ProviderUSCC:   field(colProvider),
		ProviderOffice: field(colOffice),
		Classification: field(colTheme),
		Format:         formatWords.value(&found, "format", field(colFormat)),
		FormatType:     field(colFormatType),
		ShareType:      shareTypes.value(&found, "shareType", field(colShareType)),
		ShareCondition: field(colCondition),
		LegalBasis:     list(field(colBasis)),
		ShareMode:      modes.value(&found, "shareMode", field(colShareMode)),
		OpenType:       domain.NotOpen, // opening is declared, or it is not
		OpenCondition:  field(colOpenCondition),
		UpdateCycle:    cycles.value(&found, "updateCycle", field(colCycle)),
		RelatedCodes:   list(field(colRelated)),
		DutyRef:        field(colDuty),
		SystemRef:      field(colSystem),
		RegionCode:     field(colRegion),
		PersonalData:   personal.value(&found, "personalData", field(colPersonal)),
	}
	if text := field(colOpenType); text != "" {
		c.OpenType = openTypes.value(&found, "openType", text)
	}
	c.Items = []domain.CatalogItem{}
	for i, text := range split(field(colItems), '|') {
		if strings.TrimSpace(text) == "" {
			continue
		}
		item, ok := parseItem(text, c.ShareType, "items["+strconv.Itoa(i)+"]", &found)
		if ok {
			c.Items = append(c.Items, item)
		}
	}
	if text := field(colLevel); text != "" {
		c.Level = levels.value(&found, "level", text)
	} else {
		for _, item := range c.Items { // no lower than any item's
			c.Level = max(c.Level, item.Level)
		}
	}
	return c, found
}

// parseItem reads an information item: name:type:level, and where it differs
// from the rule :sensitive:share type.
func parseItem(text string, entry domain.ShareType, at string, found *[]domain.Finding) (domain.CatalogItem, bool) {
	parts := split(text, ':')
	for i := range parts {
		parts[i] = strings.TrimSpace(unescape(parts[i]))
	}
	if len(parts) != 3 && len(parts) != 5 {
		*found = append(*found, shape(at, "应为“名称:类型:分级”或“名称:类型:分级:敏感:共享类型”，用半角冒号分隔",
			"must be 名称:类型:分级 or 名称:类型:分级:敏感:共享类型, joined by half-width colons"))
		return domain.CatalogItem{}, false
	}
	item := domain.CatalogItem{
		Name: parts[0], Type: itemTypes.value(found, at+".type", parts[1]),
		Level: levels.value(found, at+".level", parts[2]), ShareType: entry,
	}
	if len(parts) == 5 {
		item.Sensitive = yesNo.value(found, at+".sensitive", parts[3])
		item.ShareType = shareTypes.value(found, at+".shareType", parts[4])
	}
	return item, true
}

// WriteCSV writes content in the national form: UTF-8 with byte-order mark, as
// office software wants it. It reads contents to its end or to its first error,
// which it answers.
func WriteCSV(w io.Writer, contents iter.Seq2[domain.CatalogContent, error]) error {
	if _, err := io.WriteString(w, "\ufeff"); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	out := csv.NewWriter(w)
	if err := out.Write(nationalColumns); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	for c, err := range contents {
		if err != nil {
			out.Flush() // whole rows, so that a reader sees how far it went
			return err
		}
		record := nationalRecord(c)
		for i := range record {
			record[i] = guard(record[i])
		}
		if err := out.Write(record); err != nil {
			return fmt.Errorf("write CSV: %w", err)
		}
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}

func nationalRecord(c domain.CatalogContent) []string {
	var items []string
	for _, item := range c.Items {
		items = append(items, strings.Join([]string{
			escape(item.Name), itemTypes.text(item.Type), strconv.Itoa(item.Level), yesNo.text(item.Sensitive), shareTypes.text(item.ShareType),
		}, ":"))
	}
	return []string{
		c.Code, c.Name, c.Abstract, c.ProviderUSCC, c.ProviderOffice, c.Classification, formatWords.text(c.Format), c.FormatType, strings.Join(items, "|"),
		shareTypes.text(c.ShareType), c.ShareCondition, joined(c.LegalBasis), modes.text(c.ShareMode), openTypes.text(c.OpenType), c.OpenCondition,
		cycles.text(c.UpdateCycle), joined(c.RelatedCodes), c.DutyRef, c.SystemRef, c.RegionCode, strconv.Itoa(c.Level), personal.text(c.PersonalData),
	}
}

// Cells that hold several values separate them by "|", and the parts of an item
// by ":". A separator that belongs to a value, and a backslash, has a backslash
// before it.
var escaper = strings.NewReplacer(`\`, `\\`, `|`, `\|`, `:`, `\:`)

func escape(s string) string { return escaper.Replace(s) }

// unescape undoes escape. A backslash before anything else is one.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && strings.IndexByte(`\|:`, s[i+1]) >= 0 {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// split cuts s at the separators that have no backslash before them, and leaves
// the escapes as they are.
func split(s string, separator byte) []string {
	var parts []string
	from := 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && strings.IndexByte(`\|:`, s[i+1]) >= 0:
			i++
		case s[i] == separator:
			parts = append(parts, s[from:i])
			from = i + 1
		}
	}
	return append(parts, s[from:])
}

// list reads a cell of several values, never nil.
func list(cell string) []string {
	out := []string{}
	for _, text := range split(cell, '|') {
		if text = strings.TrimSpace(unescape(text)); text != "" {
			out = append(out, text)
		}
	}
	return out
}

func joined(values []string) string {
	escaped := make([]string, len(values))
	for i, v := range values {
		escaped[i] = escape(v)
	}
	return strings.Join(escaped, "|")
}

// formulaStarts are what office software takes for the beginning of a formula.
const formulaStarts = "=+-@'"

// guard keeps office software from running a cell as a formula; the apostrophe is
// guarded too, so that unguard knows its own.
func guard(cell string) string {
	if cell != "" && strings.IndexByte(formulaStarts, cell[0]) >= 0 {
		return "'" + cell
	}
	return cell
}

func unguard(cell string) string {
	if len(cell) >= 2 && cell[0] == '\'' && strings.IndexByte(formulaStarts, cell[1]) >= 0 {
		return cell[1:]
	}
	return cell
}
