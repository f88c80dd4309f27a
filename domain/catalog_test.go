package domain

import (
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestCatalogContentValidate(t *testing.T) {
	item := func(s ShareType) CatalogItem { return CatalogItem{Name: "库名", Type: "C", Level: 1, ShareType: s} }
	checkInvalid(t, someContent, []invalidCase[CatalogContent]{
		{"unconditional without basis", func(c *CatalogContent) {
			c.ShareType, c.ShareCondition, c.LegalBasis = Unconditional, "", nil
			c.Items = []CatalogItem{item(Unconditional)}
		}, ""},
		{"a document without items", func(c *CatalogContent) {
			c.Items, c.Format, c.FormatType, c.ShareMode = nil, "file", "ofd", "platform_file"
		}, ""},
		{"a file by mail", func(c *CatalogContent) { c.Format, c.FormatType, c.ShareMode = "spreadsheet", "et", "mail" }, ""},
		{"an interface", func(c *CatalogContent) { c.Format, c.FormatType, c.ShareMode = "api", "rest", "platform_api" }, ""},
		{"free form of a self-describing format", func(c *CatalogContent) {
			c.Format, c.FormatType, c.ShareMode = "self_describing", "hl7-v2", "medium"
		}, ""},
		{"no format type", func(c *CatalogContent) { c.FormatType = "" }, ""},
		{"longest name", func(c *CatalogContent) { c.Name = strings.Repeat("名", MaxName) }, ""},
		{"longest abstract", func(c *CatalogContent) { c.Abstract = strings.Repeat("摘", MaxAbstract) }, ""},
		{"no duty", func(c *CatalogContent) { c.DutyRef = "" }, ""},
		{"related resources", func(c *CatalogContent) { c.RelatedCodes = []string{"307003/000018", "307003/000019"} }, ""},
		{"conditional opening", func(c *CatalogContent) { c.OpenType, c.OpenCondition = OpenConditional, "实名申请" }, ""},
		{"an office", func(c *CatalogContent) { c.ProviderOffice = "水文处" }, ""},

		// What audits complain of.
		{"no linked system", func(c *CatalogContent) { c.SystemRef = "" }, "systemRef: required"},
		{"conditional without condition", func(c *CatalogContent) { c.ShareCondition = "" }, "shareCondition: required"},
		{"conditional without basis", func(c *CatalogContent) { c.LegalBasis = nil }, "legalBasis: required unless the resource and all its items are unconditional"},
		{"refused without basis", func(c *CatalogContent) {
			c.ShareType, c.ShareCondition, c.LegalBasis = NotShared, "", nil
			c.Items = []CatalogItem{item(NotShared)}
		}, "legalBasis: required unless the resource and all its items are unconditional"},
		{"restricted item without basis", func(c *CatalogContent) {
			c.ShareType, c.ShareCondition, c.LegalBasis = Unconditional, "", nil
		}, "legalBasis: required unless the resource and all its items are unconditional"},
		{"item looser than its entry", func(c *CatalogContent) { c.Items = []CatalogItem{item(Unconditional)} }, "items[0].shareType: looser than the resource's"},
		{"system name as name", func(c *CatalogContent) { c.Name = "水情（信息）系统" }, "name: is the name of the information system, not of a resource"},
		{"no provider", func(c *CatalogContent) { c.ProviderUSCC = "" }, "providerUscc: " + usccRule},
		{"bad check character", func(c *CatalogContent) { c.ProviderUSCC = "11370000004504927B" }, "providerUscc: " + usccRule},
		{"no abstract", func(c *CatalogContent) { c.Abstract = "" }, "abstract: required"},
		{"bad code", func(c *CatalogContent) { c.Code = "X" }, "code: " + catalogCodeRule},
		{"short code", func(c *CatalogContent) { c.Code = "30700/000017" }, "code: " + catalogCodeRule},
		{"code without separator", func(c *CatalogContent) { c.Code = "307003000017" }, "code: " + catalogCodeRule},
		{"type of another format class", func(c *CatalogContent) { c.Format, c.FormatType, c.ShareMode = "api", "pdf", "platform_api" }, "formatType: not one of rest, soap, webservice, graphql, grpc, odata, wms, wfs, wmts"},
		{"table as interface", func(c *CatalogContent) { c.ShareMode = "platform_api" }, "shareMode: not one of platform_table"},
		{"interface as table", func(c *CatalogContent) { c.Format, c.FormatType = "api", "" }, "shareMode: not one of platform_api"},
		{"file as table", func(c *CatalogContent) { c.Format, c.FormatType = "file", "" }, "shareMode: not one of platform_file, mail, medium"},
		{"number typed with its unit", func(c *CatalogContent) { c.Items[0].Type, c.Items[1].Type = "N（万元）", "F米" }, "items[0].type: " + unitRule + "; items[1].type: " + unitRule},
		{"item twice by punctuation", func(c *CatalogContent) { c.Items[2].Name = "库 水位(米)" }, "items[2].name: " + itemTwiceRule},
		{"level lower than an item's", func(c *CatalogContent) { c.Level = 2 }, "items[2].level: higher than the resource's"},
		{"sensitive data opened", func(c *CatalogContent) { c.PersonalData, c.OpenType = "sensitive", OpenFreely }, "openType: sensitive personal data is not opened without condition"},
		{"not shared but opened", func(c *CatalogContent) {
			c.ShareType, c.ShareCondition, c.OpenType = NotShared, "", OpenFreely
			c.Items = []CatalogItem{item(NotShared)}
		}, "openType: what is not shared is not opened without condition"},
		{"opening without condition", func(c *CatalogContent) { c.OpenType = OpenConditional }, "openCondition: required"},
		{"condition without opening", func(c *CatalogContent) { c.OpenCondition = "实名" }, "openCondition: only conditional opening has a condition"},

		{"condition on an unconditional resource", func(c *CatalogContent) { c.ShareType = Unconditional }, "shareCondition: only a conditional resource has a condition"},
		{"empty basis", func(c *CatalogContent) { c.LegalBasis = []string{""} }, "legalBasis[0]: required"},
		{"repeated basis", func(c *CatalogContent) { c.LegalBasis = []string{"甲", "甲"} }, "legalBasis[1]: repeats an earlier entry"},
		{"many bases", func(c *CatalogContent) { c.LegalBasis = make([]string, MaxBases+1) }, "legalBasis: more than 20 entries"},
		{"region of five digits", func(c *CatalogContent) { c.RegionCode = "37010" }, "regionCode: must be the 6 digits of an administrative division (GB/T 2260)"},
		{"region with a letter", func(c *CatalogContent) { c.RegionCode = "3701O0" }, "regionCode: must be the 6 digits of an administrative division (GB/T 2260)"},
		{"structured without items", func(c *CatalogContent) { c.Items = nil }, "items: required for the formats spreadsheet, database and api"},
		{"no name", func(c *CatalogContent) { c.Name = "" }, "name: required"},
		{"name of punctuation", func(c *CatalogContent) { c.Name = "（——）" }, "name: only spaces and punctuation"},
		{"long name", func(c *CatalogContent) { c.Name = strings.Repeat("名", MaxName+1) }, "name: longer than 200 characters"},
		{"long abstract", func(c *CatalogContent) { c.Abstract = strings.Repeat("摘", MaxAbstract+1) }, "abstract: longer than 2000 characters"},
		{"long office", func(c *CatalogContent) { c.ProviderOffice = strings.Repeat("处", MaxName+1) }, "providerOffice: longer than 200 characters"},
		{"unknown format", func(c *CatalogContent) { c.Format = "pdf" }, "format: not one of file, spreadsheet, database, image, stream, self_describing, api"},
		{"format type in capitals", func(c *CatalogContent) {
			c.Format, c.FormatType, c.ShareMode = "self_describing", "HL7", "medium"
		}, "formatType: " + formatTypeRule},
		{"unknown cycle", func(c *CatalogContent) { c.UpdateCycle = "hourly" }, "updateCycle: not one of irregular, realtime, daily, weekly, monthly, quarterly, half_yearly, yearly, other"},
		{"unknown share type", func(c *CatalogContent) { c.ShareType = 0 }, "shareType: not one of 1, 2, 3; shareCondition: only a conditional resource has a condition"},
		{"unknown open type", func(c *CatalogContent) { c.OpenType = 0 }, "openType: not one of 1, 2, 3"},
		{"unknown personal data", func(c *CatalogContent) { c.PersonalData = "" }, "personalData: not one of none, general, sensitive"},
		{"no level", func(c *CatalogContent) { c.Level = 0 }, "level: must be 1 to 4"},
		{"level 5", func(c *CatalogContent) { c.Level = 5 }, "level: must be 1 to 4"},
		{"item faults", func(c *CatalogContent) {
			c.Items = []CatalogItem{{Type: "Z", Level: 5, ShareType: 4}}
		}, "items[0].name: required; items[0].type: not one of C, N, Y, D, T, L, M, G, B, I, F; items[0].level: must be 1 to 4; items[0].shareType: not one of 1, 2, 3"},
		{"item of punctuation", func(c *CatalogContent) { c.Items[0].Name = "……" }, "items[0].name: only spaces and punctuation"},
		{"many items", func(c *CatalogContent) { c.Items = make([]CatalogItem, MaxItems+1) }, "items: more than 500 entries"},
		{"related to itself", func(c *CatalogContent) { c.RelatedCodes = []string{someCode} }, "relatedCodes[0]: is the resource itself"},
		{"related twice", func(c *CatalogContent) { c.RelatedCodes = []string{"307003/000018", "307003/000018"} }, "relatedCodes[1]: repeats an earlier entry"},
		{"related to no code", func(c *CatalogContent) { c.RelatedCodes = []string{"水情"} }, "relatedCodes[0]: " + catalogCodeRule},
		{"many related", func(c *CatalogContent) { c.RelatedCodes = make([]string, MaxRelated+1) }, "relatedCodes: more than 50 entries"},
		{"a person's number", func(c *CatalogContent) { c.Abstract = "联系电话13800000000" }, "abstract: " + personalRule},
	})
}

func TestCatalogArgumentsValidate(t *testing.T) {
	other := func() CatalogContent {
		c := someContent()
		c.Code, c.Name = "307003/000018", "雨情信息"
		return c
	}
	many := make([]string, MaxBatch+1)
	t.Run("RegisterBatch", func(t *testing.T) {
		checkInvalid(t, func() RegisterBatchArgs {
			return RegisterBatchArgs{Contents: []CatalogContent{someContent(), other()}}
		}, []invalidCase[RegisterBatchArgs]{
			{"nothing", func(a *RegisterBatchArgs) { a.Contents = nil }, "contents: required"},
			{"too many", func(a *RegisterBatchArgs) { a.Contents = make([]CatalogContent, MaxBatch+1) }, "contents: more than 1000 entries"},
			{"one code twice", func(a *RegisterBatchArgs) { a.Contents[1].Code = someCode }, "contents[1].code: repeats the code of an earlier entry"},
			{"one name twice", func(a *RegisterBatchArgs) { a.Contents[1].Name = "大中型 水库水情信息" }, "contents[1].name: repeats the name of an earlier entry, told apart without spaces and punctuation"},
			{"faults of both", func(a *RegisterBatchArgs) {
				a.Contents[0].Abstract, a.Contents[1].ShareCondition = "", ""
			}, "contents[0].abstract: required; contents[1].shareCondition: required"},
		})
	})
	t.Run("ReviewBatch", func(t *testing.T) {
		checkInvalid(t, func() ReviewBatchArgs {
			return ReviewBatchArgs{Codes: []string{someCode, "307003/000018"}, Decision: Approve}
		}, []invalidCase[ReviewBatchArgs]{
			{"nothing", func(a *ReviewBatchArgs) { a.Codes = nil }, "codes: required"},
			{"too many", func(a *ReviewBatchArgs) { a.Codes = many }, "codes: more than 1000 entries"},
			{"twice", func(a *ReviewBatchArgs) { a.Codes[1] = someCode }, "codes[1]: repeats an earlier entry"},
			{"code", func(a *ReviewBatchArgs) { a.Codes[1] = "" }, "codes[1]: " + catalogCodeRule},
			{"decision", func(a *ReviewBatchArgs) { a.Decision = "" }, "decision: not one of approve, return"},
			{"return without opinion", func(a *ReviewBatchArgs) { a.Decision = Return }, "opinion: required"},
		})
	})
	t.Run("Codes", func(t *testing.T) {
		checkInvalid(t, func() CodesArgs { return CodesArgs{[]string{someCode}} }, []invalidCase[CodesArgs]{
			{"nothing", func(a *CodesArgs) { a.Codes = nil }, "codes: required"},
			{"too many", func(a *CodesArgs) { a.Codes = many }, "codes: more than 1000 entries"},
			{"code", func(a *CodesArgs) { a.Codes[0] = "1" }, "codes[0]: " + catalogCodeRule},
		})
	})
	t.Run("Change", func(t *testing.T) {
		checkInvalid(t, func() ChangeCatalogArgs { return ChangeCatalogArgs{someContent()} }, []invalidCase[ChangeCatalogArgs]{
			{"content", func(a *ChangeCatalogArgs) { a.Content.Abstract = "" }, "content.abstract: required"},
		})
	})
	t.Run("Register", func(t *testing.T) {
		checkInvalid(t, func() RegisterCatalogArgs { return RegisterCatalogArgs{Content: someContent()} }, []invalidCase[RegisterCatalogArgs]{
			{"content", func(a *RegisterCatalogArgs) { a.Content.Abstract = "" }, "content.abstract: required"},
			{"a draft is no excuse", func(a *RegisterCatalogArgs) { a.Draft, a.Content.Abstract = true, "" }, "content.abstract: required"},
		})
	})
	t.Run("Retire", func(t *testing.T) {
		checkInvalid(t, func() RetireCatalogArgs { return RetireCatalogArgs{someCode, Withdraw, "理由"} }, []invalidCase[RetireCatalogArgs]{
			{"all", func(a *RetireCatalogArgs) { *a = RetireCatalogArgs{} }, "code: " + catalogCodeRule + "; way: not one of offline, retire; reason: required"},
		})
	})
	t.Run("RequireUpdate", func(t *testing.T) {
		checkInvalid(t, func() RequireUpdateArgs { return RequireUpdateArgs{someCode, "机构改革"} }, []invalidCase[RequireUpdateArgs]{
			{"all", func(a *RequireUpdateArgs) { *a = RequireUpdateArgs{} }, "code: " + catalogCodeRule + "; reason: required"},
		})
	})
}

func TestFormatTypesBelongToOneClass(t *testing.T) {
	class := map[string]string{}
	for _, c := range formatClasses {
		for _, name := range c.types {
			if class[name] != "" || !formatTypeShape.MatchString(name) {
				t.Errorf("format type %s of %s and %s", name, class[name], c.name)
			}
			class[name] = c.name
		}
	}
	if len(class) < 50 {
		t.Errorf("%d format types", len(class))
	}
}

func TestPlainName(t *testing.T) {
	for _, tc := range []struct{ a, b string }{
		{"水情信息（2023）", "水情信息2023"},
		{" 水　情·信息 ", "水情信息"},
		{"ＡＢＣ１２３", "abc123"},
		{"A|B~C`D^E", "abcde"},
		{"“企业”—名录", "企业名录"},
	} {
		if PlainName(tc.a) != PlainName(tc.b) || PlainName(PlainName(tc.a)) != PlainName(tc.a) {
			t.Errorf("PlainName(%q) = %q, of %q it is %q", tc.a, PlainName(tc.a), tc.b, PlainName(tc.b))
		}
	}
	if PlainName("A+级企业") == PlainName("A级企业") {
		t.Error("a sign with a meaning does not tell names apart")
	}
	for r := range unicode.MaxRune + 1 { // the short way leaves what the tables leave
		half := halfWidth(r)
		gone := unicode.IsSpace(half) || unicode.IsPunct(half) || strings.ContainsRune("|~`^", half)
		if s := string(r); gone && PlainName(s) != "" || !gone && PlainName(s) != string(unicode.ToLower(half)) {
			t.Fatalf("PlainName(%U) = %q", r, PlainName(s))
		}
	}
}

// The id of a name is fit for a key, whatever somebody asks for, and of every name that
// is recorded for one of bounded length.
func TestCatalogNameID(t *testing.T) {
	recordable := 0
	check := func(t fataler, name string) {
		id := CatalogNameID("police", name)
		plain, found := strings.CutPrefix(id, "police~")
		if !found || strings.Contains(plain, "~") || !utf8.ValidString(id) {
			t.Fatal(fmt.Sprintf("of %q: %q", name, id))
		}
		content := someContent()
		content.Name = name
		if content.Validate() != nil {
			return
		}
		recordable++
		if n := utf8.RuneCountInString(plain); n < 1 || n > MaxName || strings.ContainsFunc(plain, unicode.IsControl) {
			t.Fatal(fmt.Sprintf("of %q: %d characters, %q", name, n, id))
		}
	}
	for _, name := range []string{"", "~", "～a~b", "a\x00b", "\xff\xfe", "a\u2028b", "Ⱥ𠮷" + strings.Repeat("𠮷", MaxName-2), strings.Repeat("水", MaxName+1)} {
		check(t, name)
	}
	rapid.Check(t, func(t *rapid.T) { check(t, rapid.String().Draw(t, "name")) })
	if recordable < 20 {
		t.Errorf("%d of the names can be recorded: too few to tell", recordable)
	}
	if CatalogNameID("police", "水情 信息") != CatalogNameID("police", "水情信息") || CatalogNameID("police", "水情信息") == CatalogNameID("civil", "水情信息") {
		t.Error("names are not told apart by provider and plain name")
	}
}

func TestDiffContent(t *testing.T) {
	before := someContent()
	if got := DiffContent(before, someContent()); got != nil {
		t.Errorf("nothing differs, got %v", got)
	}
	none, empty := someContent(), someContent()
	none.RelatedCodes, none.LegalBasis, none.Items = nil, nil, nil
	empty.RelatedCodes, empty.LegalBasis, empty.Items = []string{}, []string{}, []CatalogItem{}
	if got := DiffContent(none, empty); got != nil {
		t.Errorf("no list and an empty one differ: %v", got)
	}
	after := someContent()
	after.Name = "水情<实时>信息"
	after.ShareType = NotShared
	after.LegalBasis = append(after.LegalBasis, "防汛条例")
	after.Items = []CatalogItem{
		{Name: "库水位（米）", Type: "F", Level: 3, ShareType: NotShared},
		{Name: "库名", Type: "C", Level: 1, ShareType: Conditional},
		{Name: "蓄水量", Type: "F", Level: 2, ShareType: NotShared},
	}
	after.RegionCode = "370200"
	want := []FieldChange{
		{"name", `"大中型水库水情信息"`, `"水情<实时>信息"`},
		{"items[库水位（米）].type", `"N"`, `"F"`},
		{"items[库水位（米）].level", `2`, `3`},
		{"items[库水位（米）].shareType", `2`, `3`},
		{"items[汛限水位（米）]", `{"name":"汛限水位（米）","type":"N","level":3,"sensitive":true,"shareType":3}`, ""},
		{"items[蓄水量]", "", `{"name":"蓄水量","type":"F","level":2,"sensitive":false,"shareType":3}`},
		{"items", `["库名","库水位（米）"]`, `["库水位（米）","库名"]`},
		{"shareType", `2`, `3`},
		{"legalBasis", `["中华人民共和国防洪法"]`, `["中华人民共和国防洪法","防汛条例"]`},
		{"regionCode", `"370100"`, `"370200"`},
	}
	if diff := cmp.Diff(want, DiffContent(before, after)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

// Every list that a content has is bounded, so that a batch of the largest
// entries still is one transaction.
func TestLargestContentIsValid(t *testing.T) {
	c := someContent()
	c.Items = nil
	for i := range MaxItems {
		c.Items = append(c.Items, CatalogItem{Name: fmt.Sprintf("信息项%d", i), Type: "C", Level: 1, ShareType: Conditional})
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}
