package interchange_test

import (
	"encoding/csv"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/encoding/simplifiedchinese"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/interchange"
)

// nationalHeader has the columns that files had before opening, grade and
// relations were added: they are still read.
const nationalHeader = "信息资源代码,信息资源名称,信息资源摘要,信息资源提供方代码,信息资源分类,信息资源格式,信息项,共享类型,共享条件,共享依据,共享方式,更新周期,职责,信息系统,行政区划代码,涉及个人信息"

const wideHeader = nationalHeader + ",内部部门,格式类型,开放类型,开放条件,关联资源,数据分级"

// national is a file with one good row; changes replace cells by column.
func national(header string, changes map[string]string) string {
	return header + "\n" + nationalRow(header, changes)
}

func nationalRow(header string, changes map[string]string) string {
	cells := map[string]string{
		"信息资源代码": "307003/000017", "信息资源名称": "户籍登记核验", "信息资源摘要": "核验户籍登记情况。", "信息资源提供方代码": uscc,
		"信息资源分类": "人口", "信息资源格式": "服务接口", "信息项": "核验结果:逻辑:3:是:2|户别:字符:2", "共享类型": "有条件共享",
		"共享条件": "用于法定职责", "共享依据": "《甲条例》|《乙办法》", "共享方式": "接口", "更新周期": "实时",
		"职责": "户口登记", "信息系统": "户籍系统", "行政区划代码": "379900", "涉及个人信息": "一般",
		"内部部门": "治安支队", "格式类型": "rest", "开放类型": "有条件开放", "开放条件": "统计后开放", "关联资源": "307003/000018|307003/000019", "数据分级": "4",
	}
	for column, cell := range changes {
		cells[column] = cell
	}
	var row []string
	for _, column := range strings.Split(header, ",") {
		row = append(row, cells[column])
	}
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write(row)
	w.Flush()
	return b.String()
}

func narrowContent() domain.CatalogContent {
	return domain.CatalogContent{
		Code: "307003/000017", Name: "户籍登记核验", Abstract: "核验户籍登记情况。", ProviderUSCC: uscc,
		Classification: "人口", Format: "api",
		Items: []domain.CatalogItem{
			{Name: "核验结果", Type: "L", Level: 3, Sensitive: true, ShareType: domain.Conditional},
			{Name: "户别", Type: "C", Level: 2, ShareType: domain.Conditional},
		},
		ShareType: domain.Conditional, ShareCondition: "用于法定职责", LegalBasis: []string{"《甲条例》", "《乙办法》"},
		ShareMode: "platform_api", OpenType: domain.NotOpen, UpdateCycle: "realtime", RelatedCodes: []string{},
		DutyRef: "户口登记", SystemRef: "户籍系统", RegionCode: "379900", Level: 3, PersonalData: "general",
	}
}

func TestNationalForm(t *testing.T) {
	narrow, wide := narrowContent(), narrowContent()
	wide.ProviderOffice, wide.FormatType, wide.OpenType, wide.OpenCondition = "治安支队", "rest", domain.OpenConditional, "统计后开放"
	wide.RelatedCodes, wide.Level = []string{"307003/000018", "307003/000019"}, 4
	file := national(wideHeader, nil)
	gb, err := simplifiedchinese.GB18030.NewEncoder().String(file)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, data string
		want       domain.CatalogContent
	}{
		{"columns of old", national(nationalHeader, nil), narrow},
		{"utf-8", file, wide},
		{"byte-order mark", "\ufeff" + file, wide},
		{"gb 18030", gb, wide},
		{"crlf", strings.ReplaceAll(file, "\n", "\r\n"), wide},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			form, rows := read(t, tt.data, interchange.CSV, "", interchange.Defaults{})
			if form != "national" || len(rows) != 1 || rows[0].Number != 1 || len(rows[0].Findings) != 0 {
				t.Fatalf("form %s, rows %+v", form, rows)
			}
			if diff := cmp.Diff(tt.want, rows[0].Content); diff != "" {
				t.Errorf("content (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLongFiles: the encoding is told from the beginning, wherever its last
// character is cut.
func TestLongFiles(t *testing.T) {
	for shift := range 4 {
		var b strings.Builder
		b.WriteString(nationalHeader + "\n")
		for i := range 400 {
			b.WriteString(nationalRow(nationalHeader, map[string]string{
				"信息资源代码": fmt.Sprintf("307003/%06d", i), "信息资源名称": strings.Repeat("a", shift) + fmt.Sprintf("资源%d", i), "信息资源摘要": strings.Repeat("摘要", 60),
			}))
		}
		gb, err := simplifiedchinese.GB18030.NewEncoder().String(b.String())
		if err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string]string{"utf-8": b.String(), "gb 18030": gb} {
			_, rows := read(t, data, interchange.CSV, "", interchange.Defaults{})
			for _, row := range rows {
				if len(row.Findings) > 0 || !strings.Contains(row.Content.Name, "资源") {
					t.Fatalf("%s, row %d: %q %+v", name, row.Number, row.Content.Name, row.Findings)
				}
			}
			if len(rows) != 400 {
				t.Errorf("%s: %d rows", name, len(rows))
			}
		}
	}
}

func TestRowFindings(t *testing.T) {
	tests := []struct {
		name    string
		changes map[string]string
		want    []string // "field rule"
	}{
		{"no abstract", map[string]string{"信息资源摘要": ""}, []string{"abstract required"}},
		{"no system", map[string]string{"信息系统": " "}, []string{"systemRef required"}},
		{"no condition", map[string]string{"共享条件": ""}, []string{"shareCondition required"}},
		{"no basis", map[string]string{"共享依据": " | "}, []string{"legalBasis basis-required"}},
		{"unknown words", map[string]string{"共享类型": "共享", "更新周期": "常常", "开放类型": "开放"}, []string{"shareType unknown_word", "updateCycle unknown_word", "openType unknown_word"}},
		{"mode against format", map[string]string{"共享方式": "邮件"}, []string{"shareMode not-in-list"}},
		{"type against format", map[string]string{"格式类型": "csv"}, []string{"formatType not-in-list"}},
		{"unknown format", map[string]string{"信息资源格式": "纸"}, []string{"format unknown_word"}},
		{"full-width colons", map[string]string{"信息项": "核验结果：逻辑：3"}, []string{"items[0] shape", "items items-required"}},
		{"level of an item", map[string]string{"信息项": "核验结果:逻辑:高"}, []string{"items[0].level unknown_word"}},
		{"level below an item's", map[string]string{"数据分级": "2"}, []string{"items[0].level level-above-resource"}},
		{"item type", map[string]string{"信息项": "核验结果:真假:3"}, []string{"items[0].type unknown_word"}},
		{"looser item", map[string]string{"信息项": "核验结果:逻辑:3:否:无条件共享"}, []string{"items[0].shareType looser-than-resource"}},
		{"personal number", map[string]string{"信息资源摘要": "联系 13800138000"}, []string{"abstract personal-number"}},
		{"own code as related", map[string]string{"关联资源": "307003/000017"}, []string{"relatedCodes[0] related-to-itself"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, rows := read(t, national(wideHeader, tt.changes), interchange.CSV, "", interchange.Defaults{})
			var got []string
			for _, f := range rows[0].Findings {
				got = append(got, f.Field+" "+f.Rule)
				if f.Zh == "" || f.En == "" {
					t.Errorf("finding without text: %+v", f)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRepeatedRows(t *testing.T) {
	file := nationalHeader + "\n" +
		nationalRow(nationalHeader, nil) +
		nationalRow(nationalHeader, map[string]string{"信息资源代码": "307003/000018", "信息资源名称": "户籍　登记（核验）"}) +
		nationalRow(nationalHeader, map[string]string{"信息资源名称": "别的资源"}) +
		"a,b\n"
	_, rows := read(t, file, interchange.CSV, "", interchange.Defaults{})
	var got []string
	for _, row := range rows {
		for _, f := range row.Findings {
			got = append(got, fmt.Sprintf("%d %s: %s", row.Number, f.Field, f.En))
		}
	}
	want := []string{"2 name: repeats the name of row 1", "3 code: repeats the code of row 1", "4 row: has 2 fields, the header has 16"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestPortalForms(t *testing.T) {
	file := []domain.CatalogItem{{Name: "数据文件", Type: "G", Level: 1, ShareType: domain.Unconditional}}
	tests := []struct {
		form, file string
		want       domain.CatalogContent // only what differs between forms
	}{
		{
			"guangxi", "portal,resource_name,provider,theme,industry,open_type,update_cycle,record_count,formats,published_at,updated_at,abstract\n" +
				"甲平台,停车场名录,乙局,交通,其他,无条件开放,每季度,\"1,204\",csv|json|xls,2021-06-22 18:26:40,2021-06-23 01:20:06,公共停车场名称和泊位数\n",
			domain.CatalogContent{
				Name: "停车场名录", Abstract: "公共停车场名称和泊位数", ProviderOffice: "乙局", Classification: "交通",
				Format: "spreadsheet", FormatType: "csv", UpdateCycle: "quarterly", Items: file,
			},
		},
		{
			"beijing", "portal,resource_name,provider,category_path,resource_type,keywords,record_count,published_date,abstract,info_items\n" +
				"甲平台,水库水情,丙局,环境/水,表格,水,若干,2020年12月31日,水库每日水情,库名|水位（米）\n",
			domain.CatalogContent{
				Name: "水库水情", Abstract: "水库每日水情", ProviderOffice: "丙局", Classification: "环境/水", Format: "spreadsheet", UpdateCycle: "other",
				Items: []domain.CatalogItem{{Name: "库名", Type: "C", Level: 1, ShareType: domain.Unconditional}, {Name: "水位（米）", Type: "C", Level: 1, ShareType: domain.Unconditional}},
			},
		},
		{
			"tianjin", "portal,resource_name,theme,abstract\n甲平台,收费标准,生活服务,各类收费的标准\n",
			domain.CatalogContent{Name: "收费标准", Abstract: "各类收费的标准", Classification: "生活服务", Format: "file", UpdateCycle: "other", Items: file},
		},
		{
			"taiwan", "portal,title,description,path\n甲市,充電站名稱,各充電站的名稱及地址,/dataset/moto\n",
			domain.CatalogContent{Name: "充電站名稱", Abstract: "各充電站的名稱及地址", Classification: "甲市", Format: "file", UpdateCycle: "other", Items: file},
		},
	}
	for _, tt := range tests {
		t.Run(tt.form, func(t *testing.T) {
			form, rows := read(t, tt.file, interchange.CSV, "", defaults)
			if form != tt.form || len(rows) != 1 || len(rows[0].Findings) != 0 {
				t.Fatalf("form %s, rows %+v", form, rows)
			}
			got, want := rows[0].Content, tt.want
			want.Code, want.ProviderUSCC, want.ShareType, want.LegalBasis = got.Code, uscc, domain.Unconditional, []string{}
			want.ShareMode, want.DutyRef, want.SystemRef, want.RegionCode, want.PersonalData = "platform_file", "公共数据开放", "开放平台", "379900", "none"
			want.OpenType, want.RelatedCodes, want.Level = domain.OpenFreely, []string{}, 1
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("content (-want +got):\n%s", diff)
			}
			_, again := read(t, tt.file, interchange.CSV, tt.form, defaults)
			if again[0].Content.Code != got.Code || !strings.HasPrefix(got.Code, "309001/") {
				t.Errorf("codes %q and %q", got.Code, again[0].Content.Code)
			}
		})
	}
}

func TestUnusableFiles(t *testing.T) {
	csv, us, ap, ee := interchange.CSV, interchange.DCATUS, interchange.DCATAP, interchange.RiikEE
	tests := []struct {
		name, file string
		format     interchange.Format
		form, want string
		defaults   interchange.Defaults
	}{
		{"empty", "", csv, "", "empty", defaults},
		{"unknown header", "a,b\n1,2\n", csv, "", "fits no known form", defaults},
		{"mistyped column", nationalHeader + ",共享说明\n", csv, "", `column "共享说明" is unknown`, defaults},
		{"repeated column", nationalHeader + ",职责\n", csv, "", `column "职责" appears twice`, defaults},
		{"other form", nationalHeader + "\n", csv, "beijing", "lacks the columns portal", defaults},
		{"no such form", nationalHeader + "\n", csv, "x", `no form is called "x"`, defaults},
		{"no defaults", "portal,resource_name,theme,abstract\na,b,c,d\n", csv, "", "provider USCC, region, system, class code", interchange.Defaults{}},
		{"stray quote", "portal,resource_name,theme,abstract\na,b\"c,d,e\n", csv, "", "row 1", defaults},
		{"utf-16", "\xff\xfea\x00", csv, "", "UTF-16", defaults},
		{"not text", "\xff\xff\xff\xff\n\xff\xff\xff\xff\n", csv, "", "neither UTF-8 nor GB 18030", defaults},
		{"no format", "", "", "", "no format is called", defaults},
		{"form of no CSV", "{}", us, "national", "a form is for CSV files", defaults},
		{"not JSON", "portal,resource_name\n", us, "", "not JSON", defaults},
		{"empty JSON", "", us, "", "ends early", defaults},
		{"no defaults for DCAT-US", `{"dataset":[]}`, us, "", "provider USCC", interchange.Defaults{}},
		{"no data sets", `{"conformsTo":"x"}`, us, "", `no "dataset"`, defaults},
		{"no list", `{"dcat:dataset":{}}`, ap, "", "not an array", defaults},
		{"no object", `[]`, ap, "", "not a JSON object", defaults},
		{"no array", `{}`, ee, "", "not a JSON array", defaults},
		{"cut in a row", `{"dataset":[{"title":`, us, "", "row 1: the file ends early", defaults},
		{"cut after a row", `{"dataset":[{"title":"a"}`, us, "", "row 2: the file ends early", defaults},
		{"cut after the rows", `{"dataset":[{"title":"a"}]`, us, "", "row 2: the file ends early", defaults},
		{"more text", `{"dataset":[]} {}`, us, "", "text follows", defaults},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := interchange.NewReader(strings.NewReader(tt.file), tt.format, tt.form, tt.defaults)
			if err == nil {
				for _, rowErr := range r.Rows() {
					err = rowErr
				}
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// TestExportedCSVIsSafe: office software runs no cell as a formula.
func TestExportedCSVIsSafe(t *testing.T) {
	c := narrowContent()
	c.Name, c.Abstract, c.DutyRef = "=1+1", "'引号", "-职责"
	file := written(t, interchange.CSV, []domain.CatalogContent{c})
	records, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(file, "\ufeff"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, cell := range records[1] {
		if cell != "" && strings.ContainsAny(cell[:1], "=+-@") {
			t.Errorf("cell %q begins a formula", cell)
		}
	}
	checkRoundTrip(t, []domain.CatalogContent{c})
}

func TestFormatOf(t *testing.T) {
	for name, want := range map[string]interchange.Format{
		"a.csv": interchange.CSV, "A.CSV": interchange.CSV, "catalog.jsonld": interchange.DCATAP, "fda.data.json": interchange.DCATUS, "data.json": interchange.DCATUS, "other.json": "", "x": "",
	} {
		if got := interchange.FormatOf(name); got != want {
			t.Errorf("FormatOf(%q) = %q, want %q", name, got, want)
		}
	}
}
