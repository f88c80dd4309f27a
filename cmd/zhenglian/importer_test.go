package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/encoding/simplifiedchinese"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

const nationalHeader = "信息资源代码,信息资源名称,信息资源摘要,信息资源提供方代码,信息资源分类,信息资源格式,信息项,共享类型,共享条件,共享依据,共享方式,更新周期,职责,信息系统,行政区划代码,涉及个人信息"

var policeUSCC = prooftest.New().Department("police").USCC

// nationalRow is a good row; changes replace cells by column.
func nationalRow(changes map[string]string) string {
	cells := map[string]string{
		colCode: "307003/000017", colName: "户籍登记核验", colAbstract: "核验户籍登记情况。", colProvider: policeUSCC,
		colTheme: "人口", colFormat: "服务接口", colItems: "核验结果:逻辑:3:是:2|户别:字符:2", colShareType: "有条件共享",
		colCondition: "用于法定职责", colBasis: "《甲条例》|《乙办法》", colShareMode: "接口", colCycle: "实时",
		colDuty: "户口登记", colSystem: "户籍系统", colRegion: "379900", colPersonal: "一般",
	}
	for column, cell := range changes {
		cells[column] = cell
	}
	var row []string
	for _, column := range strings.Split(nationalHeader, ",") {
		row = append(row, cells[column])
	}
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write(row)
	w.Flush()
	return b.String()
}

func TestNationalForm(t *testing.T) {
	want := domain.CatalogContent{
		Code: "307003/000017", Name: "户籍登记核验", Abstract: "核验户籍登记情况。", ProviderUSCC: policeUSCC,
		Classification: "人口", Format: "api",
		Items: []domain.CatalogItem{
			{Name: "核验结果", Type: "L", Level: 3, Sensitive: true, ShareType: domain.Conditional},
			{Name: "户别", Type: "C", Level: 2, ShareType: domain.Conditional},
		},
		ShareType: domain.Conditional, ShareCondition: "用于法定职责", LegalBasis: []string{"《甲条例》", "《乙办法》"},
		ShareMode: "platform_api", UpdateCycle: "realtime", DutyRef: "户口登记", SystemRef: "户籍系统",
		RegionCode: "379900", PersonalData: "general",
	}
	file := nationalHeader + "\n" + nationalRow(nil)
	gb, err := simplifiedchinese.GB18030.NewEncoder().String(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{"utf-8": file, "byte-order mark": "\ufeff" + file, "gb 18030": gb, "crlf": strings.ReplaceAll(file, "\n", "\r\n")} {
		t.Run(name, func(t *testing.T) {
			form, rows, err := readCatalog([]byte(data), "", portalDefaults{})
			if err != nil {
				t.Fatal(err)
			}
			if form.name != "national" || len(rows) != 1 || rows[0].number != 1 || len(rows[0].findings) != 0 {
				t.Fatalf("form %s, rows %+v", form.name, rows)
			}
			if diff := cmp.Diff(want, rows[0].content); diff != "" {
				t.Errorf("content (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRowFindings(t *testing.T) {
	tests := []struct {
		name    string
		changes map[string]string
		want    []string // "field: beginning of the rule"
	}{
		{"no abstract", map[string]string{colAbstract: ""}, []string{"abstract: required"}},
		{"no system", map[string]string{colSystem: " "}, []string{"systemRef: required"}},
		{"no condition", map[string]string{colCondition: ""}, []string{"shareCondition: required"}},
		{"no basis", map[string]string{colBasis: " | "}, []string{"legalBasis: required"}},
		{"unknown words", map[string]string{colShareType: "共享", colCycle: "常常"}, []string{"shareType: not one of 1, 2", "updateCycle: not one of 不定"}},
		{"mode against format", map[string]string{colShareMode: "邮件"}, []string{"shareMode: not one of platform_api"}},
		{"bad code", map[string]string{colCode: "7/1"}, []string{"code: must be class"}},
		{"bad provider", map[string]string{colProvider: "11430000006122244A"}, []string{"providerUscc: not a unified"}},
		{"full-width colons", map[string]string{colItems: "核验结果：逻辑：3"}, []string{"items[0]: must be 名称:类型:分级", "items: required"}},
		{"level", map[string]string{colItems: "核验结果:逻辑:高"}, []string{"items[0]: the level", "items: required"}},
		{"item type", map[string]string{colItems: "核验结果:真假:3"}, []string{"items[0].type: not one of"}},
		{"looser item", map[string]string{colItems: "核验结果:逻辑:3:否:无条件共享"}, []string{"items[0].shareType: looser"}},
		{"personal number", map[string]string{colAbstract: "联系 13800138000"}, []string{"abstract: personal-number rule"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, rows, err := readCatalog([]byte(nationalHeader+"\n"+nationalRow(tt.changes)), "", portalDefaults{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range rows[0].findings {
				got = append(got, f.field+": "+f.rule)
			}
			ok := len(got) == len(tt.want)
			for i := range min(len(got), len(tt.want)) {
				ok = ok && strings.HasPrefix(got[i], tt.want[i])
			}
			if !ok {
				t.Errorf("findings %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRepeatedRows(t *testing.T) {
	file := nationalHeader + "\n" +
		nationalRow(nil) +
		nationalRow(map[string]string{colCode: "307003/000018", colName: "户籍　登记（核验）"}) +
		nationalRow(map[string]string{colName: "别的资源"}) +
		"a,b\n"
	_, rows, err := readCatalog([]byte(file), "", portalDefaults{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, row := range rows {
		for _, f := range row.findings {
			got = append(got, fmt.Sprintf("%d %s: %s", row.number, f.field, f.rule))
		}
	}
	want := []string{"2 name: repeats the name of row 1", "3 code: repeats the code of row 1", "4 row: has 2 fields, the header has 16"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

var defaults = portalDefaults{
	providerUSCC: policeUSCC, regionCode: "379900", systemRef: "开放平台", classCode: "309001",
	personalData: "none", updateCycle: "other",
}

func TestPortalForms(t *testing.T) {
	tests := []struct {
		form, file string
		want       domain.CatalogContent // only what differs between forms
	}{
		{
			"guangxi", "portal,resource_name,provider,theme,industry,open_type,update_cycle,record_count,formats,published_at,updated_at,abstract\n" +
				"甲平台,停车场名录,乙局,交通,其他,无条件开放,每季度,\"1,204\",csv|json|xls,2021-06-22 18:26:40,2021-06-23 01:20:06,公共停车场名称和泊位数\n",
			domain.CatalogContent{
				Name: "停车场名录", Abstract: "公共停车场名称和泊位数", Classification: "交通", Format: "spreadsheet", UpdateCycle: "quarterly",
				Items: []domain.CatalogItem{{Name: "数据文件", Type: "G", Level: 1, ShareType: domain.Unconditional}},
			},
		},
		{
			"beijing", "portal,resource_name,provider,category_path,resource_type,keywords,record_count,published_date,abstract,info_items\n" +
				"甲平台,水库水情,丙局,环境/水,表格,水,若干,2020年12月31日,水库每日水情,库名|水位（米）\n",
			domain.CatalogContent{
				Name: "水库水情", Abstract: "水库每日水情", Classification: "环境/水", Format: "spreadsheet", UpdateCycle: "other",
				Items: []domain.CatalogItem{{Name: "库名", Type: "C", Level: 1, ShareType: domain.Unconditional}, {Name: "水位（米）", Type: "C", Level: 1, ShareType: domain.Unconditional}},
			},
		},
		{
			"tianjin", "portal,resource_name,theme,abstract\n甲平台,收费标准,生活服务,各类收费标准\n",
			domain.CatalogContent{
				Name: "收费标准", Abstract: "各类收费标准", Classification: "生活服务", Format: "file", UpdateCycle: "other",
				Items: []domain.CatalogItem{{Name: "数据文件", Type: "G", Level: 1, ShareType: domain.Unconditional}},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.form, func(t *testing.T) {
			form, rows, err := readCatalog([]byte(tt.file), "", defaults)
			if err != nil {
				t.Fatal(err)
			}
			if form.name != tt.form || len(rows) != 1 || len(rows[0].findings) != 0 {
				t.Fatalf("form %s, rows %+v", form.name, rows)
			}
			got := rows[0].content
			want := tt.want
			want.Code, want.ProviderUSCC, want.ShareType, want.LegalBasis = got.Code, policeUSCC, domain.Unconditional, []string{}
			want.ShareMode, want.SystemRef, want.RegionCode, want.PersonalData = "platform_file", "开放平台", "379900", "none"
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("content (-want +got):\n%s", diff)
			}
			_, again, _ := readCatalog([]byte(tt.file), tt.form, defaults)
			if again[0].content.Code != got.Code || !strings.HasPrefix(got.Code, "309001/") {
				t.Errorf("codes %q and %q", got.Code, again[0].content.Code)
			}
		})
	}
}

func TestUnusableFiles(t *testing.T) {
	tests := []struct {
		name, file, form, want string
		defaults               portalDefaults
	}{
		{"empty", "", "", "empty", defaults},
		{"header only", "portal,resource_name,theme,abstract\n", "", "no rows", defaults},
		{"unknown header", "a,b\n1,2\n", "", "fits no known form", defaults},
		{"mistyped column", nationalHeader + ",共享说明\n", "", `column "共享说明" is unknown`, defaults},
		{"repeated column", nationalHeader + ",职责\n", "", `column "职责" appears twice`, defaults},
		{"other form", nationalHeader + "\n", "beijing", "lacks the columns portal", defaults},
		{"no defaults", "portal,resource_name,theme,abstract\na,b,c,d\n", "", "--provider-uscc, --region, --system-ref, --class-code", portalDefaults{}},
		{"stray quote", "portal,resource_name,theme,abstract\na,b\"c,d,e\n", "", "row 1", defaults},
		{"utf-16", "\xff\xfea\x00", "", "UTF-16", defaults},
		{"not text", "\xff\xff\xff\xff\n", "", "neither UTF-8 nor GB 18030", defaults},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := readCatalog([]byte(tt.file), tt.form, tt.defaults)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// TestRealPortalFiles reads the exports of three real portals, where they are.
func TestRealPortalFiles(t *testing.T) {
	folder := filepath.Join("..", "..", "..", "shared", "data", "catalog_cn")
	if _, err := os.Stat(folder); err != nil {
		t.Skipf("real portal exports are not part of the repository: %v", err)
	}
	good := 0
	for _, form := range []string{"guangxi", "beijing", "tianjin"} {
		data, err := os.ReadFile(filepath.Join(folder, form+"_2021.csv"))
		if err != nil {
			t.Fatal(err)
		}
		got, rows, err := readCatalog(data, "", defaults)
		if err != nil || got.name != form {
			t.Fatalf("%s: read as %q: %v", form, got.name, err)
		}
		rules := make(map[string]int)
		for _, row := range rows {
			for _, f := range row.findings {
				rules[f.field+": "+strings.TrimRight(f.rule, "0123456789")]++
			}
		}
		fine := len(rows) - failedRows(rows)
		good += fine
		t.Logf("%s: %d of %d rows can be imported; findings: %v", form, fine, len(rows), rules)
		if fine < len(rows)/3 {
			t.Errorf("%s: only %d of %d rows can be imported", form, fine, len(rows))
		}
	}
	if good < 300 {
		t.Errorf("only %d rows can be imported", good)
	}
}

// importFile writes a national file of n good rows and one bad one.
func importFile(t *testing.T, n int) string {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(nationalHeader + "\n")
	for i := range n {
		b.WriteString(nationalRow(map[string]string{colCode: fmt.Sprintf("307003/%06d", i), colName: fmt.Sprintf("资源 %d", i)}))
	}
	b.WriteString(nationalRow(map[string]string{colCode: "307003/999999", colName: "=坏资源()", colAbstract: ""}))
	path := filepath.Join(t.TempDir(), "catalog.csv")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func importArgs(f *fakeConsortium, file, report string, more ...string) []string {
	return append([]string{
		"catalog", "import", file, "--gateway", f.urls["police"],
		"--token-file", filepath.Join(f.folder, "tokens", "police.json"), "--report", report,
	}, more...)
}

func TestImport(t *testing.T) {
	f := newFakeConsortium(t)
	f.found(t)
	file, report := importFile(t, 40), filepath.Join(t.TempDir(), "sub", "report.csv")
	out, errs := runCommand(t, exitFailed, importArgs(f, file, report)...)
	if !strings.Contains(out, "41 rows: 40 imported, 0 there already, 1 with errors, 0 left") {
		t.Errorf("output %q", out)
	}
	if !strings.Contains(errs, "catalog entries: 41 of 41") {
		t.Errorf("no progress in %q", errs)
	}
	if len(f.entries) != 40 || f.writes != 40 {
		t.Errorf("%d entries by %d writes", len(f.entries), f.writes)
	}
	lines, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(mustRead(t, report), "\ufeff"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{{"row", "code", "field", "rule", "text"}, {"41", "307003/999999", "abstract", "required", ""}}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}

	t.Run("again", func(t *testing.T) {
		asked := f.asked
		out, _ := runCommand(t, exitOK, importArgs(f, file, report, "--allow-errors")...)
		if !strings.Contains(out, "40 imported, 0 there already, 1 with errors, 0 left") || f.asked != asked {
			t.Errorf("asked %d times; output %q", f.asked-asked, out)
		}
	})
	t.Run("again without journal", func(t *testing.T) {
		other := filepath.Join(t.TempDir(), "report.csv")
		out, _ := runCommand(t, exitOK, importArgs(f, file, other, "--allow-errors")...)
		if !strings.Contains(out, "0 imported, 40 there already") || f.writes != 40 {
			t.Errorf("%d writes; output %q", f.writes, out)
		}
	})
	t.Run("journal of another file", func(t *testing.T) {
		_, errs := runCommand(t, exitFailed, importArgs(f, importFile(t, 3), report)...)
		if !strings.Contains(errs, "belongs to another import") {
			t.Errorf("error %q", errs)
		}
	})
	t.Run("code of another resource", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "other.csv")
		text := nationalHeader + "\n" + nationalRow(map[string]string{colCode: "307003/000001", colName: "另一资源"})
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		other := filepath.Join(t.TempDir(), "report.csv")
		runCommand(t, exitFailed, importArgs(f, path, other)...)
		if got := mustRead(t, other); !strings.Contains(got, "another resource under this code") {
			t.Errorf("report %q", got)
		}
	})
}

func TestImportResumes(t *testing.T) {
	f := newFakeConsortium(t)
	f.found(t)
	file, report := importFile(t, 60), filepath.Join(t.TempDir(), "report.csv")
	// The command is interrupted while it imports: answers stop coming.
	ctx, interrupt := context.WithCancel(t.Context())
	var count atomic.Int32
	f.after = func(r *http.Request) {
		if isWrite(r) && count.Add(1) == 20 {
			interrupt()
			panic(http.ErrAbortHandler)
		}
	}
	var out strings.Builder
	if code := run(ctx, importArgs(f, file, report), strings.NewReader(""), &out, &out); code != exitInterrupted {
		t.Fatalf("exit code %d\n%s", code, out.String())
	}
	if !strings.Contains(out.String(), "to resume") {
		t.Errorf("output %q", out.String())
	}
	f.mu.Lock()
	f.after = nil
	before := f.writes
	f.mu.Unlock()
	if before < 20 || before >= 60 {
		t.Fatalf("%d writes before the interruption", before)
	}
	// A crash in the middle of a line.
	journal, err := os.OpenFile(report+".journal", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := journal.WriteString(`{"row":3,"co`); err != nil {
		t.Fatal(err)
	}
	if err := journal.Close(); err != nil {
		t.Fatal(err)
	}
	second, _ := runCommand(t, exitOK, importArgs(f, file, report, "--allow-errors")...)
	if !strings.Contains(second, "1 with errors, 0 left") {
		t.Errorf("output %q", second)
	}
	if len(f.entries) != 60 || f.writes != 60 {
		t.Errorf("%d entries by %d writes, want 60 by 60", len(f.entries), f.writes)
	}
}

// TestImportWaits answers busy, away and unknown in turn: nothing is lost and
// nothing imported twice.
func TestImportWaits(t *testing.T) {
	f := newFakeConsortium(t)
	f.found(t)
	count, busy := 0, 0
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if !isWrite(r) {
			return false
		}
		count++
		switch {
		case count%10 == 3:
			busy++
			refusal(w, http.StatusServiceUnavailable, api.ProblemCodeUnavailable, "too few departments answer")
			return true
		case count == 5:
			busy++
			w.Header().Set("Retry-After", "1")
			refusal(w, http.StatusTooManyRequests, api.ProblemCodeRateLimited, "too many requests")
			return true
		case count == 7:
			refusal(w, http.StatusConflict, api.ProblemCodeConflict, "another transaction won")
			return true
		case count == 8: // carried out, and the answer is that nobody knows
			tx := f.tx()
			content, err := decodeBody[domain.CatalogContent](r)
			if err != nil {
				t.Error(err)
			}
			d := f.Department("police")
			entry, _, err := domain.RegisterCatalog(nil, domain.Caller{Department: d.Code, MSPID: d.MSPID, Role: domain.RoleOperator}, f.departments[1], tx, domain.RegisterCatalogArgs{Content: content})
			if err != nil {
				t.Error(err)
			}
			f.entries[content.Code] = &entry
			f.commit(tx, entry)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusAccepted)
			fmt.Fprintf(w, `{"transactionId":%q,"operation":"/v1/chain/transactions/%s"}`, tx.ID, tx.ID)
			return true
		}
		return false
	}
	start := time.Now()
	out, _ := runCommand(t, exitOK, importArgs(f, importFile(t, 30), filepath.Join(t.TempDir(), "r.csv"), "--allow-errors", "--concurrency", "4")...)
	if !strings.Contains(out, "30 imported, 0 there already, 1 with errors") || len(f.entries) != 30 || f.writes != 30 {
		t.Errorf("%d entries by %d writes; output %q", len(f.entries), f.writes, out)
	}
	if busy < 3 || time.Since(start) < time.Second {
		t.Errorf("busy %d times, took %s: Retry-After was not kept", busy, time.Since(start))
	}
}

func TestImportStops(t *testing.T) {
	tests := []struct {
		name string
		args []string
		code int
		want string
	}{
		{"unknown token", []string{"--role", "stranger"}, exitUsage, "no token for the role"},
		{"role without the right", []string{"--role", "auditor"}, exitFailed, "forbidden"},
		{"bad concurrency", []string{"--concurrency", "0"}, exitUsage, "--concurrency"},
		{"unknown form", []string{"--map", "x"}, exitUsage, "--map"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeConsortium(t)
			f.found(t)
			_, errs := runCommand(t, tt.code, importArgs(f, importFile(t, 5), filepath.Join(t.TempDir(), "r.csv"), tt.args...)...)
			if !strings.Contains(errs, tt.want) || f.writes != 0 {
				t.Errorf("%d writes; error %q", f.writes, errs)
			}
		})
	}
	t.Run("outcome stays unknown", func(t *testing.T) {
		f := newFakeConsortium(t)
		f.found(t)
		f.fault = func(w http.ResponseWriter, r *http.Request) bool {
			if !isWrite(r) {
				return false
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusAccepted)
			id := strings.Repeat("0", 64)
			fmt.Fprintf(w, `{"transactionId":%q,"operation":"/v1/chain/transactions/%s"}`, id, id)
			return true
		}
		_, errs := runCommand(t, exitUnknown, importArgs(f, importFile(t, 2), filepath.Join(t.TempDir(), "r.csv"), "--patience", "1s")...)
		if !strings.Contains(errs, "is not known") {
			t.Errorf("error %q", errs)
		}
	})
	t.Run("gateway away", func(t *testing.T) {
		f := newFakeConsortium(t)
		f.urls["police"] = "http://127.0.0.1:1"
		_, errs := runCommand(t, exitFailed, importArgs(f, importFile(t, 2), filepath.Join(t.TempDir(), "r.csv"), "--patience", "1s")...)
		if !strings.Contains(errs, "gave up after 1s") {
			t.Errorf("error %q", errs)
		}
	})
}

func TestPlainCell(t *testing.T) {
	for in, want := range map[string]string{"": "", "文本": "文本", "=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@a": "'@a", "a=b": "a=b"} {
		if got := plainCell(in); got != want {
			t.Errorf("plainCell(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestReadToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	for content, want := range map[string]string{"zl_abc\n": "zl_abc", `{"operator":"zl_op"}`: "zl_op", "": "", "two words": "", `{"admin":"x"}`: "", "{": ""} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readToken(path, "operator")
		if got != want || (err == nil) != (want != "") {
			t.Errorf("readToken of %q = %q, %v", content, got, err)
		}
	}
}
