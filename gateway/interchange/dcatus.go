package interchange

import (
	"strings"

	"github.com/zhenglian/zhenglian/domain"
)

// access is what a word for public access says in the catalog's two lists.
type access struct {
	share domain.ShareType
	open  domain.OpenType
}

var (
	accessLevels = words[access]{ // DCAT-US accessLevel
		{"public", access{domain.Unconditional, domain.OpenFreely}},
		{"restricted public", access{domain.Conditional, domain.OpenConditional}},
		{"non-public", access{domain.NotShared, domain.NotOpen}},
	}
	isoCycles = words[string]{ // DCAT-US accrualPeriodicity, ISO 8601 repeating intervals
		{"irregular", "irregular"}, {"R/PT1S", "realtime"}, {"R/P1D", "daily"}, {"R/P1W", "weekly"}, {"R/P1M", "monthly"},
		{"R/P3M", "quarterly"}, {"R/P6M", "half_yearly"}, {"R/P1Y", "yearly"},
	}
	sdmxCycles = words[string]{ // SDMX code list of frequencies
		{"N", "realtime"}, {"D", "daily"}, {"B", "daily"}, {"W", "weekly"}, {"M", "monthly"}, {"Q", "quarterly"},
		{"S", "half_yearly"}, {"A", "yearly"},
	}
	mediaTypes = words[string]{ // file types by media type
		{"text/csv", "csv"}, {"application/json", "json"}, {"application/xml", "xml"}, {"text/xml", "xml"}, {"application/rdf+xml", "rdf"},
		{"application/vnd.ms-excel", "xls"}, {"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"},
		{"image/jpeg", "jpg"}, {"image/png", "png"}, {"image/tiff", "tif"}, {"excel", "xls"}, {"csv file", "csv"},
	}
)

// apiData is the item of an interface whose fields are not listed.
const apiData = "接口数据"

// dcatUSRow reads a data set of DCAT-US 1.1.
func (r *Reader) dcatUSRow(o object) Row {
	var found []domain.Finding
	d := r.defaults
	c := openContent(d)
	if id := plain(o.text("identifier")); id != "" {
		c.Code = derivedCode(d.ClassCode, string(DCATUS), id)
	} else {
		found = append(found, noIdentifier())
	}
	c.Name = plain(o.text("title"))
	c.Abstract = orElse(plain(o.text("description")), d.Abstract)
	c.ProviderOffice = plain(o.object("publisher").text("name"))
	c.Classification = orElse(plain(o.text("theme")), plain(o.text("keyword")))
	var types []string
	for _, file := range o.objects("distribution") {
		types = append(types, fileType(file.text("mediaType"), file.text("format")))
	}
	items := setFormat(&c, types)
	if cycle := o.text("accrualPeriodicity"); cycle != "" {
		c.UpdateCycle = isoCycle(&found, cycle)
	}
	if level := o.text("accessLevel"); level != "" || d.ShareType == 0 {
		a := accessLevels.value(&found, "openType", level)
		setAccess(&c, d, a)
	}
	if condition := plain(o.text("rights")); condition != "" {
		if c.ShareType == domain.Conditional {
			c.ShareCondition = condition
		}
		if c.OpenType == domain.OpenConditional {
			c.OpenCondition = condition
		}
	}
	settle(&c, d, items...)
	return Row{Content: c, Findings: found}
}

// setAccess says how open the resource is, and how it is shared where the
// defaults do not.
func setAccess(c *domain.CatalogContent, d Defaults, a access) {
	c.OpenType = a.open
	if d.ShareType == 0 && a.share != 0 { // 0: the word is unknown, which is a finding already
		c.ShareType = a.share
	}
}

// setFormat says what a resource with files of these types is. It answers the
// items, none for what is one file.
func setFormat(c *domain.CatalogContent, types []string) []string {
	onlyAPI := len(types) > 0
	for _, t := range types {
		onlyAPI = onlyAPI && t == "api"
	}
	if onlyAPI {
		c.Format, c.ShareMode = "api", "platform_api"
		return []string{apiData}
	}
	c.Format, c.FormatType = formatOfFiles(types)
	return nil
}

// fileType is the type of a file by its media type and by what its format is
// called.
func fileType(mediaType, format string) string {
	for _, text := range []string{mediaType, format} {
		text = strings.ToLower(plain(text))
		if t := knownType(text); t != "" {
			return t
		}
	}
	return strings.ToLower(plain(format))
}

func knownType(text string) string {
	for _, m := range mediaTypes {
		if m.text == text {
			return m.value
		}
	}
	return ""
}

// isoCycle is the update cycle of a repeating interval; one that the catalog has
// no word for is another cycle.
func isoCycle(found *[]domain.Finding, text string) string {
	for _, w := range isoCycles {
		if w.text == text {
			return w.value
		}
	}
	if strings.HasPrefix(text, "R/P") {
		return "other"
	}
	return isoCycles.value(found, "updateCycle", text)
}

// riikRow reads a data set of the Estonian portal. Its listing has no
// descriptions.
func (r *Reader) riikRow(o object) Row {
	var found []domain.Finding
	d := r.defaults
	c := openContent(d)
	if slug := plain(o.text("slug")); slug != "" {
		c.Code = derivedCode(d.ClassCode, string(RiikEE), slug)
	} else {
		found = append(found, noIdentifier())
	}
	c.Name = plain(o.text("title"))
	c.Abstract = orElse(plain(o.text("description")), d.Abstract)
	c.ProviderOffice = plain(o.text("organization"))
	c.Classification = plain(o.text("category"))
	var types []string
	for _, file := range o.objects("resources") {
		types = append(types, fileType("", file.text("format")))
	}
	items := setFormat(&c, types)
	if iri := o.text("update_freq"); iri != "" {
		c.UpdateCycle = sdmxCycles.value(&found, "updateCycle", strings.TrimPrefix(lastSegment(iri), "freq-"))
	}
	settle(&c, d, items...)
	return Row{Content: c, Findings: found}
}
