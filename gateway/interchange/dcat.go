package interchange

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
)

// Namespace is where the words stand that DCAT-AP has none for. Nothing is
// fetched from it.
const Namespace = "https://zhenglian.example/ns/catalog#"

// dcatContext is the JSON-LD context that every export carries.
const dcatContext = `{
    "adms": "http://www.w3.org/ns/adms#",
    "csvw": "http://www.w3.org/ns/csvw#",
    "dcat": "http://www.w3.org/ns/dcat#",
    "dcatap": "http://data.europa.eu/r5r/",
    "dct": "http://purl.org/dc/terms/",
    "eli": "http://data.europa.eu/eli/ontology#",
    "foaf": "http://xmlns.com/foaf/0.1/",
    "odrl": "http://www.w3.org/ns/odrl/2/",
    "prov": "http://www.w3.org/ns/prov#",
    "skos": "http://www.w3.org/2004/02/skos/core#",
    "zl": "` + Namespace + `",
    "csvw:column": {"@container": "@list"},
    "dcatap:applicableLegislation": {"@container": "@list"},
    "dct:relation": {"@container": "@list"}
  }`

const (
	accessRightIRI = "http://publications.europa.eu/resource/authority/access-right/"
	frequencyIRI   = "http://publications.europa.eu/resource/authority/frequency/"
)

var (
	accessRights = words[access]{
		{"PUBLIC", access{domain.Unconditional, domain.OpenFreely}},
		{"RESTRICTED", access{domain.Conditional, domain.OpenConditional}},
		{"NON_PUBLIC", access{domain.NotShared, domain.NotOpen}},
	}
	frequencies = words[string]{
		{"IRREG", "irregular"}, {"CONT", "realtime"}, {"UPDATE_CONT", "realtime"}, {"DAILY", "daily"}, {"WEEKLY", "weekly"}, {"MONTHLY", "monthly"},
		{"QUARTERLY", "quarterly"}, {"ANNUAL_2", "half_yearly"}, {"ANNUAL", "yearly"}, {"OTHER", "other"},
	}
	datatypes = map[string]string{ // CSVW datatypes of item types; everything else is text
		"N": "decimal", "Y": "decimal", "D": "date", "T": "dateTime", "L": "boolean", "B": "double", "I": "integer", "F": "float",
	}
)

// CatalogMeta describes the catalog that is exported.
type CatalogMeta struct {
	ID           string // IRI of the catalog
	Title        string
	Description  string
	PublisherID  string            // unified social credit code of the publisher
	Publishers   map[string]string // names of departments by unified social credit code; a missing one is named by its code
	EntryAddress string            // IRI of an entry without its code at the end, for example "http://127.0.0.1:8081/v1/catalog/entries/"
}

type node = map[string]any

// WriteDCAT writes content as a DCAT-AP 3 catalog in JSON-LD, one data set after
// the other. It reads contents to its end or to its first error, which it
// answers: what was written until then is no JSON.
func WriteDCAT(w io.Writer, meta CatalogMeta, contents iter.Seq2[domain.CatalogContent, error]) error {
	out := bufio.NewWriter(w)
	head := []struct {
		name  string
		value any
	}{
		{"@id", meta.ID},
		{"@type", "dcat:Catalog"},
		{"dct:title", meta.Title},
		{"dct:description", meta.Description},
		{"dct:publisher", meta.publisher(meta.PublisherID)},
	}
	fmt.Fprintf(out, "{\n  \"@context\": %s", dcatContext) // errors stay in out until Flush
	for _, field := range head {
		data, err := encode(field.value)
		if err != nil {
			return fmt.Errorf("write DCAT-AP: %w", err)
		}
		fmt.Fprintf(out, ",\n  %q: %s", field.name, data)
	}
	fmt.Fprint(out, ",\n  \"dcat:dataset\": [")
	separator := "\n"
	for c, err := range contents {
		if err != nil {
			return err
		}
		data, err := encode(meta.dataset(c))
		if err != nil {
			return fmt.Errorf("write DCAT-AP: %w", err)
		}
		if _, err := fmt.Fprintf(out, "%s%s", separator, data); err != nil {
			return fmt.Errorf("write DCAT-AP: %w", err)
		}
		separator = ",\n"
	}
	fmt.Fprint(out, "\n  ]\n}\n")
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write DCAT-AP: %w", err)
	}
	return nil
}

// encode is JSON in the order of the names, without HTML escapes.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

func (m CatalogMeta) publisher(uscc string) node {
	name := m.Publishers[uscc]
	if name == "" {
		name = uscc
	}
	return node{"@type": "foaf:Agent", "foaf:name": name, "dct:identifier": uscc}
}

// address is the IRI of an entry. A code's slash is escaped, as in the API.
func (m CatalogMeta) address(code string) string {
	return m.EntryAddress + strings.ReplaceAll(code, "/", "%2F")
}

func (m CatalogMeta) dataset(c domain.CatalogContent) node {
	at := node{"@id": m.address(c.Code)}
	publisher := m.publisher(c.ProviderUSCC)
	put(publisher, "zl:office", c.ProviderOffice)
	activity := node{"@type": "prov:Activity", "prov:wasAssociatedWith": node{"@type": "prov:SoftwareAgent", "dct:title": c.SystemRef}}
	put(activity, "dct:title", c.DutyRef)
	out := node{
		"@id":                    at["@id"],
		"@type":                  "dcat:Dataset",
		"dct:identifier":         c.Code,
		"dct:title":              c.Name,
		"dct:description":        c.Abstract,
		"dct:publisher":          publisher,
		"dcat:theme":             node{"@type": "skos:Concept", "skos:prefLabel": c.Classification},
		"dct:accessRights":       node{"@id": accessRightIRI + accessRight(c.ShareType)},
		"dct:accrualPeriodicity": node{"@id": frequencyIRI + frequencies.text(c.UpdateCycle)},
		"dct:spatial":            node{"@type": "dct:Location", "dct:identifier": c.RegionCode},
		"prov:wasGeneratedBy":    activity,
		"dcat:distribution":      node{"@type": "dcat:Distribution", "dcat:accessURL": at, "dct:format": format(c), "zl:shareMode": c.ShareMode},
		"zl:shareType":           c.ShareType,
		"zl:openType":            c.OpenType,
		"zl:level":               c.Level,
		"zl:personalData":        c.PersonalData,
	}
	put(out, "zl:openCondition", c.OpenCondition)
	if c.ShareCondition != "" {
		out["odrl:hasPolicy"] = node{"@type": "odrl:Policy", "dct:description": c.ShareCondition}
	}
	var laws, relations, columns []node
	for _, basis := range c.LegalBasis {
		laws = append(laws, node{"@type": "eli:LegalResource", "dct:title": basis})
	}
	for _, code := range c.RelatedCodes {
		relations = append(relations, node{"@id": m.address(code), "dct:identifier": code})
	}
	for _, item := range c.Items {
		columns = append(columns, column(item))
	}
	putAll(out, "dcatap:applicableLegislation", laws)
	putAll(out, "dct:relation", relations)
	if len(columns) > 0 {
		out["csvw:tableSchema"] = node{"@type": "csvw:Schema", "csvw:column": columns}
	}
	return out
}

// accessRight is the nearest word for a share type.
func accessRight(t domain.ShareType) string {
	for _, w := range accessRights {
		if w.value.share == t {
			return w.text
		}
	}
	return ""
}

func format(c domain.CatalogContent) node {
	label := c.Format
	if c.FormatType != "" {
		label = c.FormatType
	}
	out := node{"@type": "dct:MediaTypeOrExtent", "skos:prefLabel": label, "zl:formatClass": c.Format}
	put(out, "zl:formatType", c.FormatType)
	return out
}

func column(item domain.CatalogItem) node {
	datatype := datatypes[item.Type]
	if datatype == "" {
		datatype = "string"
	}
	return node{
		"@type": "csvw:Column", "csvw:name": item.Name, "csvw:datatype": datatype,
		"zl:itemType": item.Type, "zl:level": item.Level, "zl:sensitive": item.Sensitive, "zl:shareType": item.ShareType,
	}
}

func put(o node, name, value string) {
	if value != "" {
		o[name] = value
	}
}

func putAll(o node, name string, values []node) {
	if len(values) > 0 {
		o[name] = values
	}
}

// dcatRow reads a data set of DCAT-AP: ours, or another's with the file's
// defaults.
func (r *Reader) dcatRow(o object) Row {
	if o.text("zl:shareType") == "" {
		return r.foreignRow(o)
	}
	var found []domain.Finding
	publisher, files, activity := o.object("dct:publisher"), o.object("dcat:distribution"), o.object("prov:wasGeneratedBy")
	c := domain.CatalogContent{
		Code:           o.text("dct:identifier"),
		Name:           o.text("dct:title"),
		Abstract:       o.text("dct:description"),
		ProviderUSCC:   publisher.text("dct:identifier"),
		ProviderOffice: publisher.text("zl:office"),
		Classification: o.object("dcat:theme").text("skos:prefLabel"),
		Format:         files.object("dct:format").text("zl:formatClass"),
		FormatType:     files.object("dct:format").text("zl:formatType"),
		Items:          []domain.CatalogItem{},
		ShareType:      domain.ShareType(number(&found, "shareType", o.text("zl:shareType"))),
		ShareCondition: o.object("odrl:hasPolicy").text("dct:description"),
		LegalBasis:     []string{},
		ShareMode:      files.text("zl:shareMode"),
		OpenType:       domain.OpenType(number(&found, "openType", o.text("zl:openType"))),
		OpenCondition:  o.text("zl:openCondition"),
		UpdateCycle:    frequencies.value(&found, "updateCycle", lastSegment(o.text("dct:accrualPeriodicity"))),
		RelatedCodes:   []string{},
		DutyRef:        activity.text("dct:title"),
		SystemRef:      activity.object("prov:wasAssociatedWith").text("dct:title"),
		RegionCode:     o.object("dct:spatial").text("dct:identifier"),
		Level:          number(&found, "level", o.text("zl:level")),
		PersonalData:   o.text("zl:personalData"),
	}
	for _, law := range o.objects("dcatap:applicableLegislation") {
		c.LegalBasis = append(c.LegalBasis, law.text("dct:title"))
	}
	for _, relation := range o.objects("dct:relation") {
		c.RelatedCodes = append(c.RelatedCodes, relation.text("dct:identifier"))
	}
	for i, column := range o.object("csvw:tableSchema").objects("csvw:column") {
		at := "items[" + strconv.Itoa(i) + "]"
		sensitive, ok := column["zl:sensitive"].(bool)
		if !ok {
			found = append(found, shape(at+".sensitive", "应为 true 或 false", "must be true or false"))
		}
		c.Items = append(c.Items, domain.CatalogItem{
			Name: column.text("csvw:name"), Type: column.text("zl:itemType"),
			Level: number(&found, at+".level", column.text("zl:level")), Sensitive: sensitive,
			ShareType: domain.ShareType(number(&found, at+".shareType", column.text("zl:shareType"))),
		})
	}
	return Row{Content: c, Findings: found}
}

// foreignRow reads a data set that does not carry our words.
func (r *Reader) foreignRow(o object) Row {
	d := r.defaults
	if err := d.check(string(DCATAP)); err != nil {
		return Row{Findings: []domain.Finding{shape(wholeRow, "缺少本系统的目录要素，须在命令行给出默认值", err.Error())}}
	}
	var found []domain.Finding
	c := openContent(d)
	if id := plain(orElse(o.text("dct:identifier"), o.text("@id"))); id != "" {
		c.Code = derivedCode(d.ClassCode, string(DCATAP), id)
	} else {
		found = append(found, noIdentifier())
	}
	c.Name = plain(o.text("dct:title"))
	c.Abstract = orElse(plain(o.text("dct:description")), d.Abstract)
	c.ProviderOffice = plain(o.object("dct:publisher").text("foaf:name"))
	theme := o.object("dcat:theme")
	c.Classification = plain(orElse(orElse(theme.text("skos:prefLabel"), lastSegment(theme.text("@id"))), o.text("dcat:keyword")))
	var types []string
	for _, file := range o.objects("dcat:distribution") {
		label := orElse(file.object("dct:format").text("skos:prefLabel"), lastSegment(file.text("dct:format")))
		types = append(types, fileType(strings.TrimPrefix(file.text("dcat:mediaType"), "https://www.iana.org/assignments/media-types/"), label))
	}
	items := setFormat(&c, types)
	if iri := o.text("dct:accrualPeriodicity"); iri != "" {
		c.UpdateCycle = frequencies.value(&found, "updateCycle", lastSegment(iri))
	}
	if right := o.text("dct:accessRights"); right != "" {
		setAccess(&c, d, accessRights.value(&found, "openType", lastSegment(right)))
	}
	for _, law := range o.objects("dcatap:applicableLegislation") {
		if title := plain(orElse(law.text("dct:title"), law.text("@id"))); title != "" {
			c.LegalBasis = append(c.LegalBasis, title)
		}
	}
	settle(&c, d, items...)
	return Row{Content: c, Findings: found}
}

// number reads a whole number.
func number(found *[]domain.Finding, field, text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		*found = append(*found, shape(field, "应为整数", "must be a whole number"))
	}
	return n
}
