//go:build e2e

package e2e

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/test/consortium"
)

// realData answers the folder of real public data beside the repository, and
// skips the test, saying so, where there is none.
func realData(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(net.Root, "..", "shared", "data")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("skipped: the real data is not beside this checkout (%v)", err)
	}
	return dir
}

// firstRows copies the header and n rows of a CSV file into a new one.
func firstRows(t *testing.T, from string, n int) string {
	t.Helper()
	in, err := os.Open(from)
	must(t, err)
	defer in.Close()
	r := csv.NewReader(in)
	path := filepath.Join(t.TempDir(), filepath.Base(from))
	out, err := os.Create(path)
	must(t, err)
	w := csv.NewWriter(out)
	rows := 0
	for ; rows <= n; rows++ {
		row, err := r.Read()
		if err == io.EOF {
			break
		}
		must(t, err)
		must(t, w.Write(row))
	}
	w.Flush()
	must(t, w.Error())
	must(t, out.Close())
	if rows <= n {
		t.Fatalf("%s has only %d rows, want %d", from, rows-1, n)
	}
	return path
}

// TestImportRealCatalog imports real catalog entries, is interrupted, resumes
// and imports nothing twice.
func TestImportRealCatalog(t *testing.T) {
	const rows = 320
	file := firstRows(t, filepath.Join(realData(t), "catalog_cn", "beijing_2021.csv"), rows)
	token, err := net.TokenFile("market", "operator")
	must(t, err)
	report := filepath.Join(t.TempDir(), "report.csv")
	market := net.Gateway("market")
	args := []string{
		"catalog", "import", file, "--gateway", market.URL, "--token-file", token, "--report", report,
		"--provider-uscc", "11990000A00000046M", "--region", "110000", "--system-ref", "公共数据开放平台", "--class-code", "309009", "--allow-errors",
	}
	started := time.Now()
	out, err := net.Run(t.Context(), "zhenglian", args...)
	must(t, err)
	took := time.Since(started)
	t.Logf("%s", out)
	imported := countEntries(t, "market")
	t.Logf("%d of %d real entries on the ledger after %s: %.1f/s", imported, rows, took.Round(time.Millisecond), float64(imported)/took.Seconds())
	if imported < 300 {
		problems, _ := os.ReadFile(report) // best effort: it only explains the failure
		t.Fatalf("imported %d entries, want at least 300; report:\n%.3000s", imported, problems)
	}
	before := height(t)
	must(t, os.RemoveAll(report))
	_, err = net.Run(t.Context(), "zhenglian", args...)
	must(t, err)
	if again := countEntries(t, "market"); again != imported {
		t.Errorf("a second import changed the number of entries from %d to %d", imported, again)
	}
	if wrote := transactionsFrom(t, before); len(wrote) > 0 {
		t.Errorf("a second import wrote %q", wrote)
	}
}

// countEntries counts the provider's entries beyond the sample's.
func countEntries(t *testing.T, provider string) int {
	t.Helper()
	n, cursor := 0, ""
	for {
		var page struct {
			Items []consortium.Written[domain.CatalogEntry] `json:"items"`
			Next  string                                    `json:"next"`
		}
		must(t, net.Gateway(provider).Call(t.Context(), "auditor", "GET",
			"/v1/catalog/entries?limit=200&department="+provider+"&state=reg_pending"+after(cursor), nil, 200, &page))
		n += len(page.Items)
		if cursor = page.Next; cursor == "" {
			return n
		}
	}
}

// TestReplayRealAccess replays a day of a real web server's log as uses of a
// grant and finds every row again, anchored.
func TestReplayRealAccess(t *testing.T) {
	file := filepath.Join(realData(t), "access_logs", "nasa_http_19950801.csv")
	in, err := os.Open(file)
	must(t, err)
	defer in.Close()
	r := csv.NewReader(in)
	_, err = r.Read() // header
	must(t, err)

	grant := replayGrant(t)
	police := net.Gateway("police")
	before := anchoredSize(t, "police")
	var batch []domain.AccessRecord
	sent := 0
	var last int64
	flush := func() {
		if len(batch) == 0 {
			return
		}
		var got receipts
		must(t, police.Call(t.Context(), "operator", "POST", "/v1/access-records", inputs(t, batch...), 201, &got))
		if len(got.Receipts) != len(batch) {
			t.Fatalf("%d receipts for %d records", len(got.Receipts), len(batch))
		}
		for i, rc := range got.Receipts {
			if rc.CallID != batch[i].CallID {
				t.Fatalf("receipt %d is for %s, want %s", i, rc.CallID, batch[i].CallID)
			}
			last = max(last, rc.Index)
		}
		sent += len(batch)
		batch = batch[:0]
	}
	run := randomHex(t, 4)
	started := time.Now()
	for line := 1; ; line++ {
		row, err := r.Read()
		if err == io.EOF {
			break
		}
		must(t, err)
		// The real call's client, service and size stand as digests and a pseudonym;
		// the time is now, because a grant of today does not cover 1995.
		rec := accessRecord(grant, domain.DirectionProvider, fmt.Sprintf("replay-%s-%06d", run, line), time.Now())
		rec.RequestDigest = domain.Digest([]byte(row[3] + " " + row[4]))
		rec.ResponseDigest = domain.Digest([]byte(row[5] + " " + row[6]))
		rec.Operator = row[2]
		if row[5] != "200" {
			rec.Result = "http_" + row[5]
		}
		if batch = append(batch, rec); len(batch) == 1000 {
			flush()
		}
	}
	flush()
	took := time.Since(started)
	if sent < 20_000 {
		t.Fatalf("replayed %d rows, want at least 20,000", sent)
	}
	await(t, "all rows are anchored", 60*time.Second, func() (bool, string) {
		size := anchoredSize(t, "police")
		return size > uint64(last), fmt.Sprintf("anchored %d, last index %d", size, last)
	})
	anchored := time.Since(started)
	t.Logf("%d rows logged in %s (%.0f/s), anchored after %s", sent, took.Round(time.Millisecond), float64(sent)/took.Seconds(), anchored.Round(time.Millisecond))

	counted := int64(0)
	for _, a := range anchors(t, "police") {
		if a.Size <= before {
			continue
		}
		for _, c := range a.Counts {
			if c.GrantID == grant.ID {
				counted += c.Count
			}
		}
	}
	if counted != int64(sent) {
		t.Errorf("the anchors count %d records of the grant, %d were sent", counted, sent)
	}
	rows, cursor := 0, ""
	for {
		var page struct {
			Items []json.RawMessage `json:"items"`
			Next  string            `json:"next"`
		}
		must(t, police.Call(t.Context(), "auditor", "GET", "/v1/audit/trace?limit=200&grantId="+grant.ID+after(cursor), nil, 200, &page))
		rows += len(page.Items)
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if rows != sent {
		t.Errorf("the audit trace has %d rows, want %d", rows, sent)
	}
}

// replayGrant has a resource registered, published, requested and granted.
func replayGrant(t *testing.T) domain.Grant {
	t.Helper()
	f := &flow{code: "306002/" + fmt.Sprintf("%06d", time.Now().Unix()%1_000_000), requestID: randomHex(t, 16)}
	for _, step := range []func(*testing.T, *flow){register, review, publish, request, accept, answer} {
		step(t, f)
	}
	if t.Failed() {
		t.FailNow()
	}
	return f.grant
}

// after is the query parameter that asks for the page behind a cursor.
func after(cursor string) string {
	if cursor == "" {
		return ""
	}
	return "&cursor=" + urlQuery(cursor)
}

func anchors(t *testing.T, department string) []domain.Anchor {
	t.Helper()
	var all []domain.Anchor
	cursor := ""
	for {
		var page struct {
			Items []consortium.Written[domain.Anchor] `json:"items"`
			Next  string                              `json:"next"`
		}
		must(t, net.Gateway(department).Call(t.Context(), "auditor", "GET", "/v1/anchors?limit=200&department="+department+after(cursor), nil, 200, &page))
		for _, a := range page.Items {
			all = append(all, a.Record)
		}
		if cursor = page.Next; cursor == "" {
			return all
		}
	}
}

func anchoredSize(t *testing.T, department string) uint64 {
	t.Helper()
	var size uint64
	for _, a := range anchors(t, department) {
		size = max(size, a.Size)
	}
	return size
}

// TestRealNamesSurvive checks that real names come back letter for letter.
func TestRealNamesSurvive(t *testing.T) {
	file := filepath.Join(realData(t), "catalog_cn", "beijing_2021.csv")
	in, err := os.Open(file)
	must(t, err)
	defer in.Close()
	rows, err := csv.NewReader(in).ReadAll()
	must(t, err)
	found := 0
	for _, row := range rows[1:40] {
		name := strings.TrimSpace(row[1])
		var page struct {
			Items []consortium.Written[domain.CatalogEntry] `json:"items"`
		}
		must(t, net.Gateway("bigdata").Call(t.Context(), "auditor", "GET", "/v1/catalog/entries?limit=50&text="+urlQuery(name), nil, 200, &page))
		for _, item := range page.Items {
			if item.Record.Content.Name == name {
				found++
				break
			}
		}
	}
	if found < 30 {
		t.Errorf("found %d of 39 real names through another department's gateway, want at least 30", found)
	}
}
