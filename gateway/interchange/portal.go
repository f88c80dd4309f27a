package interchange

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
)

// derivedCode is the code of a resource whose source has none of the national
// shape: the sequence number follows from the source and its identifier, so that
// a second run gives the same code.
func derivedCode(classCode string, identity ...string) string {
	sum := sha256.Sum256([]byte("zhenglian/portal-code/1\n" + strings.Join(identity, "\n")))
	return fmt.Sprintf("%s/%012d", classCode, binary.BigEndian.Uint64(sum[:8])%1_000_000_000_000)
}

// oneFile is the item of a resource that its source lists without a table of
// fields: it is one data file.
const oneFile = "数据文件"

// openContent is what resources of open-data portals have in common: a portal
// offers files, and what it opens to everybody is shared without condition.
func openContent(d Defaults) domain.CatalogContent {
	c := domain.CatalogContent{
		Abstract:     d.Abstract,
		ProviderUSCC: d.ProviderUSCC,
		Format:       "file",
		ShareType:    d.ShareType,
		LegalBasis:   []string{},
		ShareMode:    "platform_file",
		OpenType:     domain.OpenFreely,
		UpdateCycle:  d.UpdateCycle,
		RelatedCodes: []string{},
		DutyRef:      d.DutyRef,
		SystemRef:    d.SystemRef,
		RegionCode:   d.RegionCode,
		Level:        d.Level,
		PersonalData: d.PersonalData,
	}
	if c.ShareType == 0 {
		c.ShareType = domain.Unconditional
	}
	return c
}

// settle fills in what follows from the rest: the conditions, bases and grade of
// the file's defaults where they are called for, and the items.
func settle(c *domain.CatalogContent, d Defaults, items ...string) {
	if c.Level == 0 && c.OpenType == domain.OpenFreely {
		c.Level = 1
	}
	if c.ShareType == domain.Conditional && c.ShareCondition == "" {
		c.ShareCondition = d.Condition
	}
	if c.OpenType == domain.OpenConditional && c.OpenCondition == "" {
		c.OpenCondition = d.Condition
	}
	if c.ShareType != domain.Unconditional {
		c.LegalBasis = append(c.LegalBasis, d.LegalBasis...)
	}
	kind := "C"
	if len(items) == 0 {
		items, kind = []string{oneFile}, "G"
	}
	for _, name := range items {
		// Without grade the entry has a finding; its items need no second one.
		c.Items = append(c.Items, domain.CatalogItem{Name: name, Type: kind, Level: max(c.Level, 1), ShareType: c.ShareType})
	}
}

// orElse is text, or what the defaults say for it.
func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// portalContent is what the Chinese portals' files have in common.
func portalContent(field func(string) string, d Defaults) domain.CatalogContent {
	c := openContent(d)
	c.Code = derivedCode(d.ClassCode, field("portal"), field("provider"), domain.PlainName(field("resource_name")))
	c.Name = field("resource_name")
	c.ProviderOffice = field("provider")
	c.Abstract = orElse(field("abstract"), d.Abstract)
	return c
}

func guangxiContent(field func(string) string, d Defaults) (domain.CatalogContent, []domain.Finding) {
	var found []domain.Finding
	c := portalContent(field, d)
	c.Classification = field("theme")
	c.Format, c.FormatType = formatOfFiles(strings.Split(field("formats"), "|"))
	c.UpdateCycle = cycles.value(&found, "updateCycle", field("update_cycle"))
	c.OpenType = openTypes.value(&found, "openType", field("open_type"))
	if d.ShareType == 0 {
		c.ShareType = domain.ShareType(c.OpenType) // the same three steps
	}
	settle(&c, d)
	return c, found
}

func beijingContent(field func(string) string, d Defaults) (domain.CatalogContent, []domain.Finding) {
	c := portalContent(field, d)
	c.Classification = field("category_path")
	if field("resource_type") == "表格" {
		c.Format = "spreadsheet"
	}
	var items []string
	if names := field("info_items"); names != "" {
		for _, name := range strings.Split(names, "|") {
			items = append(items, strings.TrimSpace(name))
		}
	}
	settle(&c, d, items...)
	return c, nil
}

func tianjinContent(field func(string) string, d Defaults) (domain.CatalogContent, []domain.Finding) {
	c := portalContent(field, d)
	c.Classification = field("theme")
	settle(&c, d)
	return c, nil
}

// taiwanContent reads the listing of city portals in Taiwan. The city stands in
// the column portal; the listing has no theme.
func taiwanContent(field func(string) string, d Defaults) (domain.CatalogContent, []domain.Finding) {
	var found []domain.Finding
	c := openContent(d)
	if field("path") == "" {
		found = append(found, noIdentifier())
	} else {
		c.Code = derivedCode(d.ClassCode, field("portal"), field("path"))
	}
	c.Name = field("title")
	c.Abstract = orElse(field("description"), d.Abstract)
	c.Classification = field("portal")
	settle(&c, d)
	return c, found
}

// fileTypes are the file types of the catalog's formats, the format that says
// most first.
var fileTypes = []struct {
	format string
	types  []string
}{
	{"spreadsheet", []string{"csv", "xlsx", "xls"}},
	{"self_describing", []string{"json", "xml", "rdf"}},
	{"image", []string{"shp", "dwg", "dxf", "jpg", "jpeg", "png", "gif", "tif", "tiff"}},
	{"stream", []string{"mp4", "mp3"}},
	{"file", []string{"docx", "doc", "txt", "pdf", "html", "zip"}},
}

// formatOfFiles is the catalog's format for a resource that is offered as files
// of several types, and the type within it; "" where they tell nothing.
func formatOfFiles(extensions []string) (format, fileType string) {
	for i := range extensions {
		extensions[i] = strings.ToLower(strings.TrimSpace(extensions[i]))
	}
	for _, f := range fileTypes {
		for _, t := range f.types {
			if slices.Contains(extensions, t) {
				return f.format, t
			}
		}
	}
	return "file", ""
}
