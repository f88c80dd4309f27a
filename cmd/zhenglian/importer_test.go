package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// Columns of the national form that the tests change.
const (
	colCode     = "信息资源代码"
	colName     = "信息资源名称"
	colAbstract = "信息资源摘要"
	colRelated  = "关联资源"
)

const nationalHeader = "信息资源代码,信息资源名称,信息资源摘要,信息资源提供方代码,信息资源分类,信息资源格式,信息项,共享类型,共享条件,共享依据,共享方式,更新周期,职责,信息系统,行政区划代码,涉及个人信息,关联资源"

var policeUSCC = prooftest.New().Department("police").USCC

// nationalRow is a good row; changes replace cells by column.
func nationalRow(changes map[string]string) string {
	cells := map[string]string{
		colCode: "307003/000017", colName: "户籍登记核验", colAbstract: "核验户籍登记情况。", "信息资源提供方代码": policeUSCC,
		"信息资源分类": "人口", "信息资源格式": "服务接口", "信息项": "核验结果:逻辑:3:是:2|户别:字符:2", "共享类型": "有条件共享",
		"共享条件": "用于法定职责", "共享依据": "《甲条例》|《乙办法》", "共享方式": "接口", "更新周期": "实时",
		"职责": "户口登记", "信息系统": "户籍系统", "行政区划代码": "379900", "涉及个人信息": "一般",
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
		"--token-file", filepath.Join(f.folder, "tokens", "police.json"), "--report", report, "--batch", "10",
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
	if len(f.entries) != 40 || f.writes != 4 || f.batches != 4 {
		t.Errorf("%d entries by %d writes", len(f.entries), f.writes)
	}
	lines, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(mustRead(t, report), "\ufeff"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{{"row", "code", "field", "rule", "zh", "en"}, {"41", "307003/999999", "abstract", "required", "必填", "required"}}
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
		if !strings.Contains(out, "0 imported, 40 there already") || f.writes != 4 {
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
		if isWrite(r) && count.Add(1) == 3 {
			interrupt()
			panic(http.ErrAbortHandler)
		}
	}
	args := importArgs(f, file, report, "--concurrency", "1")
	var out strings.Builder
	if code := run(ctx, args, strings.NewReader(""), &out, &out); code != exitInterrupted {
		t.Fatalf("exit code %d\n%s", code, out.String())
	}
	if !strings.Contains(out.String(), "20 imported") || !strings.Contains(out.String(), "to resume") {
		t.Errorf("output %q", out.String())
	}
	f.mu.Lock()
	f.after = nil
	before := f.batches
	f.mu.Unlock()
	if before != 3 {
		t.Fatalf("%d batches before the interruption", before)
	}
	// A crash in the middle of a line.
	journal, err := os.OpenFile(report+".journal", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := journal.WriteString(`{"step":"register","ro`); err != nil {
		t.Fatal(err)
	}
	if err := journal.Close(); err != nil {
		t.Fatal(err)
	}
	second, _ := runCommand(t, exitOK, append(args, "--allow-errors")...)
	// The batch whose answer was lost is found on the ledger.
	if !strings.Contains(second, "50 imported, 10 there already, 1 with errors, 0 left") {
		t.Errorf("output %q", second)
	}
	if len(f.entries) != 60 || f.batches != 6 {
		t.Errorf("%d entries by %d batches, want 60 by 6", len(f.entries), f.batches)
	}
}

// TestImportPublishes goes the whole way and, when the reviewing department lags
// behind, waits for it.
func TestImportPublishes(t *testing.T) {
	f := newFakeConsortium(t)
	f.found(t)
	lags := 0
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v1/catalog/batches/review" && lags < 3 {
			lags++
			refusal(w, http.StatusNotFound, api.ProblemCodeNotFound, "catalog entry is not recorded")
			return true
		}
		return false
	}
	report := filepath.Join(t.TempDir(), "r.csv")
	args := importArgs(f, importFile(t, 25), report, "--allow-errors", "--reviewer-gateway", f.urls["bigdata"], "--reviewer-token-file", filepath.Join(f.folder, "tokens", "bigdata.json"))
	out, _ := runCommand(t, exitOK, args...)
	if !strings.Contains(out, "25 imported, 0 there already, 1 with errors, 0 left") || f.batches != 3*4 || lags != 3 {
		t.Errorf("%d batches, %d lags; output %q", f.batches, lags, out)
	}
	for code, e := range f.entries {
		if e.State != domain.CatalogPublished {
			t.Errorf("%s is %s", code, e.State)
		}
	}
	asked := f.asked
	if out, _ = runCommand(t, exitOK, args...); f.asked != asked || !strings.Contains(out, "25 imported") {
		t.Errorf("asked %d times; output %q", f.asked-asked, out)
	}
}

// TestImportSplits: what the ledger refuses of a batch is reported row by row
// with all that is wrong, and the rest goes on.
func TestImportSplits(t *testing.T) {
	f := newFakeConsortium(t)
	f.found(t)
	var b bytes.Buffer
	b.WriteString(nationalHeader + "\n")
	for i := range 20 {
		changes := map[string]string{colCode: fmt.Sprintf("307003/%06d", i), colName: fmt.Sprintf("资源 %d", i)}
		switch i {
		case 4: // not the department's own
			changes["信息资源提供方代码"] = f.Department("civil").USCC
		case 11: // two findings
			changes["信息资源提供方代码"], changes[colRelated] = f.Department("civil").USCC, "307003/777777"
		case 2: // related to a row of a later batch
			changes[colRelated] = "307003/000019"
		case 13: // related to nothing
			changes[colRelated] = "307003/888888"
		}
		b.WriteString(nationalRow(changes))
	}
	path, report := filepath.Join(t.TempDir(), "c.csv"), filepath.Join(t.TempDir(), "r.csv")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	out, _ := runCommand(t, exitFailed, importArgs(f, path, report, "--concurrency", "1")...)
	if !strings.Contains(out, "20 rows: 17 imported, 0 there already, 3 with errors, 0 left") || len(f.entries) != 17 {
		t.Errorf("%d entries; output %q", len(f.entries), out)
	}
	lines, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(mustRead(t, report), "\ufeff"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, line := range lines[1:] {
		got = append(got, line[0]+" "+line[2])
	}
	want := []string{"5 providerUscc", "12 providerUscc", "12 relatedCodes[0]", "14 relatedCodes[0]"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

// TestImportFormats imports what an export wrote, in both formats.
func TestImportFormats(t *testing.T) {
	f := newFakeConsortium(t)
	f.found(t)
	folder := t.TempDir()
	runCommand(t, exitOK, importArgs(f, importFile(t, 30), filepath.Join(folder, "first.csv"), "--allow-errors")...)
	want := f.entries
	for format, name := range map[string]string{"csv": "out.csv", "dcat-ap": "out.jsonld"} {
		t.Run(format, func(t *testing.T) {
			file := filepath.Join(folder, name)
			out, _ := runCommand(t, exitOK, "catalog", "export", "--gateway", f.urls["civil"], "--token-file", filepath.Join(f.folder, "tokens", "civil.json"),
				"--format", format, "--state", "all", "--out", file)
			if !strings.Contains(out, name) {
				t.Errorf("output %q", out)
			}
			f.entries, f.names = make(map[string]*domain.CatalogEntry), make(map[string]string)
			out, errs := runCommand(t, exitOK, importArgs(f, file, filepath.Join(folder, format+".report"))...)
			if !strings.Contains(out, "30 imported") {
				t.Errorf("output %q %q", out, errs)
			}
			for code, e := range want {
				if got := f.entries[code]; got == nil {
					t.Errorf("%s is missing", code)
				} else if diff := cmp.Diff(e.Content, got.Content); diff != "" {
					t.Errorf("%s (-want +got):\n%s", code, diff)
				}
			}
		})
	}
	t.Run("standard output", func(t *testing.T) {
		out, _ := runCommand(t, exitOK, "catalog", "export", "--gateway", f.urls["civil"], "--token-file", filepath.Join(f.folder, "tokens", "civil.json"))
		if !strings.Contains(out, colCode) || strings.Contains(out, "307003/") { // nothing is published
			t.Errorf("output %q", out)
		}
	})
	t.Run("broken off", func(t *testing.T) {
		file := filepath.Join(folder, "broken.csv")
		f.fault = func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte("信息"))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		_, errs := runCommand(t, exitFailed, "catalog", "export", "--gateway", f.urls["civil"], "--token-file", filepath.Join(f.folder, "tokens", "civil.json"), "--out", file, "--patience", "1s")
		if _, err := os.Stat(file); !os.IsNotExist(err) || !strings.Contains(errs, "broke off") {
			t.Errorf("kept: %v; error %q", err, errs)
		}
	})
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
		case count == 6:
			refusal(w, http.StatusRequestEntityTooLarge, api.ProblemCodeTooLarge, "the body is too large")
			return true
		case count == 7:
			refusal(w, http.StatusConflict, api.ProblemCodeConflict, "another transaction won")
			return true
		case count == 8: // carried out, and the answer is that nobody knows
			rec := &lostAnswer{header: make(http.Header)}
			fault := f.fault
			f.fault = nil
			f.mu.Unlock()
			f.handlerOf(r).ServeHTTP(rec, r)
			f.mu.Lock()
			f.fault = fault
			var done struct {
				TxID string `json:"txId"`
			}
			if err := json.Unmarshal(rec.body, &done); err != nil || rec.status != http.StatusCreated {
				t.Errorf("status %d: %v", rec.status, err)
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusAccepted)
			fmt.Fprintf(w, `{"operation":"/v1/operations/%s"}`, done.TxID[:32])
			return true
		}
		return false
	}
	start := time.Now()
	out, _ := runCommand(t, exitOK, importArgs(f, importFile(t, 80), filepath.Join(t.TempDir(), "r.csv"), "--allow-errors")...)
	if !strings.Contains(out, "80 imported, 0 there already, 1 with errors") || len(f.entries) != 80 || f.batches != 9 {
		t.Errorf("%d entries by %d batches; output %q", len(f.entries), f.batches, out)
	}
	if busy < 2 || time.Since(start) < time.Second {
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
		{"form of another", []string{"--map", "beijing"}, exitUsage, "lacks the columns portal"},
		{"unknown format", []string{"--format", "x"}, exitUsage, "--format"},
		{"bad batch", []string{"--batch", "1001"}, exitUsage, "--batch must be 1 to 1000"},
		{"half a reviewer", []string{"--reviewer-gateway", "http://127.0.0.1:1"}, exitUsage, "belong together"},
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
			fmt.Fprintf(w, `{"transactionId":%q,"operation":"/v1/operations/%s"}`, id, id[:32])
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

// TestImportTellsFormats: the name tells the format, and files of others need to
// be told what they do not say.
func TestImportTellsFormats(t *testing.T) {
	f := newFakeConsortium(t)
	f.found(t)
	file := filepath.Join(t.TempDir(), "agency.data.json")
	const text = `{"dataset":[{"identifier":"a-1","title":"Sites","description":"Parking sites","accessLevel":"public","keyword":["traffic"]},{"title":"x"}]}`
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(t.TempDir(), "r.csv")
	_, errs := runCommand(t, exitUsage, importArgs(f, file, report)...)
	if !strings.Contains(errs, "--provider-uscc, --region, --system-ref, --class-code") {
		t.Errorf("error %q", errs)
	}
	out, errs := runCommand(t, exitOK, importArgs(f, file, report, "--provider-uscc", policeUSCC, "--region", "379900", "--system-ref", "开放平台", "--class-code", "309001", "--allow-errors")...)
	if !strings.Contains(out, "2 rows: 1 imported, 0 there already, 1 with errors") || !strings.Contains(errs, "dcat-us form") {
		t.Errorf("output %q %q", out, errs)
	}
	other := filepath.Join(t.TempDir(), "agency.txt")
	if err := os.WriteFile(other, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, errs = runCommand(t, exitUsage, importArgs(f, other, report)...); !strings.Contains(errs, "give --format") {
		t.Errorf("error %q", errs)
	}
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
