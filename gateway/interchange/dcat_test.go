package interchange_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/interchange"
)

// TestDCATWords checks the words that readers of DCAT-AP know.
func TestDCATWords(t *testing.T) {
	c := narrowContent()
	c.RelatedCodes, c.ProviderOffice = []string{"307003/000018"}, "治安支队"
	file := written(t, interchange.DCATAP, []domain.CatalogContent{c})
	var catalog struct {
		Context map[string]any   `json:"@context"`
		Type    string           `json:"@type"`
		ID      string           `json:"@id"`
		Title   string           `json:"dct:title"`
		Dataset []map[string]any `json:"dcat:dataset"`
	}
	if err := json.Unmarshal([]byte(file), &catalog); err != nil {
		t.Fatal(err)
	}
	if catalog.Type != "dcat:Catalog" || catalog.ID != meta.ID || catalog.Title != meta.Title || len(catalog.Dataset) != 1 {
		t.Fatalf("catalog %+v", catalog)
	}
	if catalog.Context["dcat"] != "http://www.w3.org/ns/dcat#" || catalog.Context["zl"] != interchange.Namespace {
		t.Errorf("context %v", catalog.Context)
	}
	got := catalog.Dataset[0]
	entry := meta.EntryAddress + "307003%2F000017"
	want := map[string]any{
		"@id": entry, "@type": "dcat:Dataset", "dct:identifier": "307003/000017", "dct:title": "户籍登记核验", "dct:description": "核验户籍登记情况。",
		"dct:publisher":                map[string]any{"@type": "foaf:Agent", "foaf:name": "大数据局", "dct:identifier": uscc, "zl:office": "治安支队"},
		"dct:accessRights":             map[string]any{"@id": "http://publications.europa.eu/resource/authority/access-right/RESTRICTED"},
		"dct:accrualPeriodicity":       map[string]any{"@id": "http://publications.europa.eu/resource/authority/frequency/CONT"},
		"odrl:hasPolicy":               map[string]any{"@type": "odrl:Policy", "dct:description": "用于法定职责"},
		"dcatap:applicableLegislation": []any{map[string]any{"@type": "eli:LegalResource", "dct:title": "《甲条例》"}, map[string]any{"@type": "eli:LegalResource", "dct:title": "《乙办法》"}},
		"dct:relation":                 []any{map[string]any{"@id": meta.EntryAddress + "307003%2F000018", "dct:identifier": "307003/000018"}},
		"dct:spatial":                  map[string]any{"@type": "dct:Location", "dct:identifier": "379900"},
	}
	for name, value := range want {
		if diff := cmp.Diff(value, got[name]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	checkRoundTrip(t, []domain.CatalogContent{c})
}

// TestForeignDCAT reads a catalog that others wrote.
func TestForeignDCAT(t *testing.T) {
	const file = `{"@context": {"dcat": "http://www.w3.org/ns/dcat#"}, "@type": "dcat:Catalog", "dcat:dataset": [
		{"@id": "https://data.example/sets/1", "@type": "dcat:Dataset",
		 "dct:title": {"@value": "Parking  sites", "@language": "en"}, "dct:description": [{"@value": "Sites\nand capacity", "@language": "en"}],
		 "dct:publisher": {"@id": "https://data.example/org", "foaf:name": "City"},
		 "dcat:theme": {"@id": "http://publications.europa.eu/resource/authority/data-theme/TRAN"},
		 "dct:accessRights": {"@id": "http://publications.europa.eu/resource/authority/access-right/PUBLIC"},
		 "dct:accrualPeriodicity": {"@id": "http://publications.europa.eu/resource/authority/frequency/DAILY"},
		 "dcat:distribution": [{"dct:format": {"@id": "http://publications.europa.eu/resource/authority/file-type/CSV"}}]},
		{"@id": "https://data.example/sets/2", "dct:title": "Closed", "dct:description": "Not for everybody", "dcat:keyword": ["x"],
		 "dct:accessRights": {"@id": "http://publications.europa.eu/resource/authority/access-right/NON_PUBLIC"},
		 "dct:accrualPeriodicity": {"@id": "http://publications.europa.eu/resource/authority/frequency/BIDECENNIAL"}},
		"no data set"
	]}`
	_, rows := read(t, file, interchange.DCATAP, "", defaults)
	if len(rows) != 3 {
		t.Fatalf("%d rows", len(rows))
	}
	want := domain.CatalogContent{
		Code: rows[0].Content.Code, Name: "Parking sites", Abstract: "Sites and capacity", ProviderUSCC: uscc, ProviderOffice: "City", Classification: "TRAN",
		Format: "spreadsheet", FormatType: "csv", Items: []domain.CatalogItem{{Name: "数据文件", Type: "G", Level: 1, ShareType: domain.Unconditional}},
		ShareType: domain.Unconditional, LegalBasis: []string{}, ShareMode: "platform_file", OpenType: domain.OpenFreely, UpdateCycle: "daily",
		RelatedCodes: []string{}, DutyRef: "公共数据开放", SystemRef: "开放平台", RegionCode: "379900", Level: 1, PersonalData: "none",
	}
	if diff := cmp.Diff(want, rows[0].Content); diff != "" || len(rows[0].Findings) > 0 {
		t.Errorf("content (-want +got):\n%s%+v", diff, rows[0].Findings)
	}
	got := [][]string{nil, nil}
	for i := range got {
		for _, f := range rows[i+1].Findings {
			got[i] = append(got[i], f.Field+" "+f.Rule)
		}
	}
	if diff := cmp.Diff([][]string{{"updateCycle unknown_word", "legalBasis basis-required", "level level-range"}, {"row shape"}}, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	_, rows = read(t, file, interchange.DCATAP, "", interchange.Defaults{})
	if len(rows[0].Findings) != 1 || rows[0].Findings[0].Field != "row" {
		t.Errorf("without defaults: %+v", rows[0].Findings)
	}
}

// TestTamperedDCAT: an export that was edited is refused field by field.
func TestTamperedDCAT(t *testing.T) {
	file := written(t, interchange.DCATAP, []domain.CatalogContent{narrowContent()})
	var catalog map[string]any
	if err := json.Unmarshal([]byte(file), &catalog); err != nil {
		t.Fatal(err)
	}
	set := catalog["dcat:dataset"].([]any)[0].(map[string]any)
	set["zl:level"], set["zl:openType"] = "high", 7
	delete(set, "odrl:hasPolicy")
	set["csvw:tableSchema"].(map[string]any)["csvw:column"].([]any)[0].(map[string]any)["zl:sensitive"] = "yes"
	data, err := json.Marshal(catalog)
	if err != nil {
		t.Fatal(err)
	}
	_, rows := read(t, string(data), interchange.DCATAP, "", interchange.Defaults{})
	var got []string
	for _, f := range rows[0].Findings {
		got = append(got, f.Field+" "+f.Rule)
	}
	want := []string{"level shape", "items[0].sensitive shape", "shareCondition required", "openType not-in-list"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}
