package interchange_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/interchange"
)

const uscc = "11430000006122244L"

var defaults = interchange.Defaults{
	ProviderUSCC: uscc, RegionCode: "379900", SystemRef: "开放平台", DutyRef: "公共数据开放", ClassCode: "309001",
}

var meta = interchange.CatalogMeta{
	ID: "http://127.0.0.1:8081/v1/catalog", Title: "政务信息资源目录", Description: "已发布的目录条目", PublisherID: uscc,
	Publishers: map[string]string{uscc: "大数据局"}, EntryAddress: "http://127.0.0.1:8081/v1/catalog/entries/",
}

// read reads a whole file.
func read(t testing.TB, data string, format interchange.Format, form string, d interchange.Defaults) (string, []interchange.Row) {
	t.Helper()
	r, err := interchange.NewReader(strings.NewReader(data), format, form, d)
	if err != nil {
		t.Fatal(err)
	}
	var rows []interchange.Row
	for row, err := range r.Rows() {
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	return r.Form(), rows
}

// sequence answers contents one by one.
func sequence(contents []domain.CatalogContent) iter.Seq2[domain.CatalogContent, error] {
	return func(yield func(domain.CatalogContent, error) bool) {
		for _, c := range contents {
			if !yield(c, nil) {
				return
			}
		}
	}
}

// written writes contents in a format.
func written(t testing.TB, format interchange.Format, contents []domain.CatalogContent) string {
	t.Helper()
	var buf bytes.Buffer
	var err error
	if format == interchange.CSV {
		err = interchange.WriteCSV(&buf, sequence(contents))
	} else {
		err = interchange.WriteDCAT(&buf, meta, sequence(contents))
	}
	if err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

var writable = []interchange.Format{interchange.CSV, interchange.DCATAP}

// checkRoundTrip writes contents in every format and reads them back.
func checkRoundTrip(t testing.TB, contents []domain.CatalogContent) {
	t.Helper()
	for _, format := range writable {
		_, rows := read(t, written(t, format, contents), format, "", interchange.Defaults{})
		if len(rows) != len(contents) {
			t.Fatalf("%s: %d rows of %d", format, len(rows), len(contents))
		}
		for i, row := range rows {
			if row.Number != i+1 || len(row.Findings) > 0 {
				t.Errorf("%s: row %d: %+v", format, row.Number, row.Findings)
			}
			if diff := cmp.Diff(contents[i], row.Content); diff != "" {
				t.Errorf("%s: row %d (-want +got):\n%s", format, row.Number, diff)
			}
		}
	}
}

// text draws text that a field admits: no space at its ends, nothing invisible,
// nothing personal. The characters are those that formats treat specially.
func text(least int) *rapid.Generator[string] {
	runes := []rune(`目录数据Ab1 |:\"',;=+-@#%/<>&{}[]（）、。～𠀀é`)
	return rapid.Custom(func(rt *rapid.T) string {
		s := string(rapid.SliceOfN(rapid.SampledFrom(runes), 0, 12).Draw(rt, "runes"))
		s = strings.TrimSpace(s)
		if least > 0 {
			s = strings.TrimSpace(s + rapid.StringMatching(`[甲乙丙丁][a-z]{1,3}`).Draw(rt, "end"))
		}
		return s
	})
}

func code() *rapid.Generator[string] { return rapid.StringMatching(`[1-9][0-9]{5,8}/[0-9]{4,12}`) }

// content draws content that the ledger admits.
func content() *rapid.Generator[domain.CatalogContent] {
	formats := map[string][]string{
		"file": {"platform_file", "mail", "medium"}, "spreadsheet": {"platform_file", "mail", "medium"}, "image": {"platform_file"},
		"stream": {"platform_file"}, "self_describing": {"platform_file"}, "database": {"platform_table"}, "api": {"platform_api"},
	}
	names := slices.Sorted(maps.Keys(formats))
	draw := rapid.Custom(func(rt *rapid.T) domain.CatalogContent {
		c := domain.CatalogContent{
			Code: code().Draw(rt, "code"), Name: text(1).Draw(rt, "name"), Abstract: "说明" + text(1).Draw(rt, "abstract"),
			ProviderUSCC: uscc, ProviderOffice: text(0).Draw(rt, "office"), Classification: text(1).Draw(rt, "classification"),
			Format:    rapid.SampledFrom(names).Draw(rt, "format"),
			ShareType: domain.ShareType(rapid.IntRange(1, 3).Draw(rt, "share")), LegalBasis: []string{},
			OpenType:     domain.OpenType(rapid.IntRange(1, 3).Draw(rt, "open")),
			UpdateCycle:  rapid.SampledFrom([]string{"irregular", "realtime", "daily", "weekly", "monthly", "quarterly", "half_yearly", "yearly", "other"}).Draw(rt, "cycle"),
			RelatedCodes: []string{}, DutyRef: text(0).Draw(rt, "duty"), SystemRef: "系统" + text(1).Draw(rt, "system"), RegionCode: "379900",
			Level: rapid.IntRange(1, 4).Draw(rt, "level"), PersonalData: rapid.SampledFrom([]string{"none", "general", "sensitive"}).Draw(rt, "personal"),
			Items: []domain.CatalogItem{},
		}
		c.ShareMode = rapid.SampledFrom(formats[c.Format]).Draw(rt, "mode")
		if c.Format == "spreadsheet" && rapid.Bool().Draw(rt, "typed") {
			c.FormatType = "csv"
		}
		if c.ShareType == domain.Conditional {
			c.ShareCondition = text(1).Draw(rt, "condition")
		}
		if c.OpenType == domain.OpenConditional {
			c.OpenCondition = text(1).Draw(rt, "openCondition")
		}
		for i := range rapid.IntRange(1, 3).Draw(rt, "bases") {
			c.LegalBasis = append(c.LegalBasis, fmt.Sprintf("%s%d", text(1).Draw(rt, "basis"), i))
		}
		for i := range rapid.IntRange(0, 2).Draw(rt, "related") {
			c.RelatedCodes = append(c.RelatedCodes, fmt.Sprintf("30700%d/%04d", i+1, i))
		}
		for i := range rapid.IntRange(0, 3).Draw(rt, "items") {
			c.Items = append(c.Items, domain.CatalogItem{
				Name: fmt.Sprintf("%s%d", text(1).Draw(rt, "item"), i), Type: rapid.SampledFrom([]string{"C", "N", "Y", "D", "T", "L", "M", "G", "B", "I", "F"}).Draw(rt, "type"),
				Level: rapid.IntRange(1, c.Level).Draw(rt, "itemLevel"), Sensitive: rapid.Bool().Draw(rt, "sensitive"),
				ShareType: domain.ShareType(rapid.IntRange(int(c.ShareType), 3).Draw(rt, "itemShare")),
			})
		}
		return c
	})
	return draw.Filter(func(c domain.CatalogContent) bool { return c.Validate() == nil })
}

// TestRoundTrip: what is exported reads back as equal content.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		contents := rapid.SliceOfNDistinct(content(), 0, 4, func(c domain.CatalogContent) string { return domain.PlainName(c.Name) }).Draw(rt, "contents")
		for i := range contents {
			contents[i].Code = fmt.Sprintf("%s%02d", contents[i].Code[:9], i)
		}
		// With its new code an entry may be related to itself.
		contents = slices.DeleteFunc(contents, func(c domain.CatalogContent) bool { return c.Validate() != nil })
		for _, format := range writable {
			var buf bytes.Buffer
			var err error
			if format == interchange.CSV {
				err = interchange.WriteCSV(&buf, sequence(contents))
			} else {
				err = interchange.WriteDCAT(&buf, meta, sequence(contents))
			}
			if err != nil {
				rt.Fatal(err)
			}
			r, err := interchange.NewReader(&buf, format, "", interchange.Defaults{})
			if err != nil {
				rt.Fatal(err)
			}
			n := 0
			for row, err := range r.Rows() {
				if err != nil || len(row.Findings) > 0 {
					rt.Fatalf("%s: row %d: %v %+v", format, row.Number, err, row.Findings)
				}
				if diff := cmp.Diff(contents[n], row.Content); diff != "" {
					rt.Fatalf("%s: row %d (-want +got):\n%s", format, row.Number, diff)
				}
				n++
			}
			if n != len(contents) {
				rt.Fatalf("%s: %d rows of %d", format, n, len(contents))
			}
		}
	})
}

// TestWriteStops: an error of the sequence ends the file and is answered.
func TestWriteStops(t *testing.T) {
	broken := errors.New("broken")
	contents := func(yield func(domain.CatalogContent, error) bool) {
		if yield(domain.CatalogContent{Code: "307003/0001"}, nil) {
			yield(domain.CatalogContent{}, broken)
		}
	}
	if err := interchange.WriteCSV(io.Discard, contents); !errors.Is(err, broken) {
		t.Errorf("CSV: %v", err)
	}
	if err := interchange.WriteDCAT(io.Discard, meta, contents); !errors.Is(err, broken) {
		t.Errorf("DCAT-AP: %v", err)
	}
	full := failingWriter{}
	many := sequence(make([]domain.CatalogContent, 5000))
	if err := interchange.WriteCSV(full, many); err == nil {
		t.Error("CSV: a full disk was not noticed")
	}
	if err := interchange.WriteDCAT(full, meta, many); err == nil {
		t.Error("DCAT-AP: a full disk was not noticed")
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("no space") }

// realFile is a file of the shared data with what its rows amount to.
type realFile struct {
	path     string
	format   interchange.Format
	form     string
	rows     int
	imported int
}

// TestRealFiles reads every real file there is: each row is imported or says
// which field breaks which rule, and what was imported survives an export.
func TestRealFiles(t *testing.T) {
	root := filepath.Join("..", "..", "..", "shared", "data")
	for _, f := range realFiles {
		t.Run(f.path, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(f.path)))
			if err != nil {
				t.Fatal(err)
			}
			d := defaults
			if f.format == interchange.RiikEE {
				d.Abstract = "爱沙尼亚开放数据门户所列数据集" // the listing has no descriptions
			}
			form, rows := read(t, string(data), f.format, "", d)
			var good []domain.CatalogContent
			rules := make(map[string]int)
			for _, row := range rows {
				for _, finding := range row.Findings {
					if finding.Field == "" || finding.Rule == "" || finding.Rule == domain.RuleOther || finding.Zh == "" || finding.En == "" {
						t.Errorf("row %d: finding without field or rule: %+v", row.Number, finding)
					}
					rules[finding.Field[:min(len(finding.Field), 8)]+" "+finding.Rule]++
				}
				if len(row.Findings) == 0 {
					good = append(good, row.Content)
				}
			}
			t.Logf("%d of %d rows can be imported; findings: %v", len(good), len(rows), rules)
			if form != f.form || len(rows) != f.rows || len(good) != f.imported {
				t.Errorf("form %s, %d rows, %d imported; want %s, %d, %d", form, len(rows), len(good), f.form, f.rows, f.imported)
			}
			if len(good) == 0 {
				return
			}
			checkRoundTrip(t, good)
			_, again := read(t, string(data), f.format, f.csvForm(), d)
			for i := range again {
				if again[i].Content.Code != rows[i].Content.Code {
					t.Fatalf("row %d: the code changed from %s to %s", i+1, rows[i].Content.Code, again[i].Content.Code)
				}
			}
		})
	}
}

func (f realFile) csvForm() string {
	if f.format == interchange.CSV {
		return f.form
	}
	return ""
}

// realFiles are all of them, with the counts of their rows.
var realFiles = []realFile{
	{"catalog_cn/guangxi_2021.csv", interchange.CSV, "guangxi", 776, 341},
	{"catalog_cn/beijing_2021.csv", interchange.CSV, "beijing", 524, 520},
	{"catalog_cn/tianjin_2021.csv", interchange.CSV, "tianjin", 1043, 1037},
	{"catalog_tw/city_portals_2018.csv", interchange.CSV, "taiwan", 1704, 1666},
	{"catalog_ee/datasets_2021.json", interchange.RiikEE, "riik-ee", 528, 527},
	{"dcat_us/cms.data.json", interchange.DCATUS, "dcat-us", 29, 28},
	{"dcat_us/consumerfinance.data.json", interchange.DCATUS, "dcat-us", 11, 11},
	{"dcat_us/dhs.data.json", interchange.DCATUS, "dcat-us", 1093, 911},
	{"dcat_us/dol.data.json", interchange.DCATUS, "dcat-us", 465, 272},
	{"dcat_us/energy.data.json", interchange.DCATUS, "dcat-us", 308, 190},
	{"dcat_us/fcc.data.json", interchange.DCATUS, "dcat-us", 59, 54},
	{"dcat_us/fda.data.json", interchange.DCATUS, "dcat-us", 86, 86},
	{"dcat_us/opm.data.json", interchange.DCATUS, "dcat-us", 134, 28},
	{"dcat_us/opendataphilly.data.json", interchange.DCATUS, "dcat-us", 263, 262},
	{"dcat_us/edge/arm.data.json", interchange.DCATUS, "dcat-us", 3, 3},
	{"dcat_us/edge/collection-2-parent-4-children.data.json", interchange.DCATUS, "dcat-us", 6, 6},
	{"dcat_us/edge/geospatial.data.json", interchange.DCATUS, "dcat-us", 2, 2},
	{"dcat_us/edge/many-resources.data.json", interchange.DCATUS, "dcat-us", 1, 1},
	{"dcat_us/edge/missing-catalog.data.json", interchange.DCATUS, "dcat-us", 2, 0},
	{"dcat_us/edge/missing-identifier-title.data.json", interchange.DCATUS, "dcat-us", 3, 1},
	{"dcat_us/edge/null-spatial.data.json", interchange.DCATUS, "dcat-us", 1, 1},
	{"dcat_us/edge/ny.data.json", interchange.DCATUS, "dcat-us", 1, 1},
	{"dcat_us/edge/reserved-title.data.json", interchange.DCATUS, "dcat-us", 1, 1},
}

// TestDefaultsOpenRows: what the rows of a restricted catalog lack can be given
// for the whole file.
func TestDefaultsOpenRows(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "data", "dcat_us", "energy.data.json"))
	if err != nil {
		t.Fatal(err)
	}
	d := defaults
	d.LegalBasis, d.Level, d.Condition = []string{"《政务数据共享条例》"}, 2, "用于法定职责"
	_, rows := read(t, string(data), interchange.DCATUS, "", d)
	kinds := make(map[domain.ShareType]int)
	for _, row := range rows {
		if len(row.Findings) > 0 {
			t.Errorf("row %d: %+v", row.Number, row.Findings)
		}
		kinds[row.Content.ShareType]++
	}
	if len(kinds) != 3 {
		t.Errorf("share types %v, want all three", kinds)
	}
}
