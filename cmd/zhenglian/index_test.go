package main

import (
	"database/sql"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/ledger/ledgertest"
	"github.com/zhenglian/zhenglian/proof"
)

// rebuild runs "index rebuild" over a chain in memory.
func rebuild(t *testing.T, f *gatewayFolder, chain ledger.Reader, check bool) (out, progress string, err error) {
	t.Helper()
	setup, err := loadGateway(f.file(), "")
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr strings.Builder
	err = rebuildIndex(&env{ctx: t.Context(), stdout: &stdout, stderr: &stderr}, setup, chain, slog.New(slog.DiscardHandler), check)
	if _, statErr := os.Stat(filepath.Join(setup.Data, indexFile+".rebuild")); !os.IsNotExist(statErr) {
		t.Errorf("the second index stays: %v", statErr)
	}
	return stdout.String(), stderr.String(), err
}

// TestIndexRebuild: the index of a gateway that ran is equal to one built from
// block 0, a changed one is found out, and a rebuilt one is equal again.
func TestIndexRebuild(t *testing.T) {
	chain := ledgertest.NewChain(contracts(t))
	chain.SetClock(func() time.Time { return time.Now().UTC().Truncate(time.Millisecond) })
	f := newGatewayFolder(t, "bigdata", chain)
	g := startGateway(t, f, chain.Ledger("bigdata"), nil)
	await(t, "the gateway is ready", func() bool { return g.call("GET", "/readyz", "", nil, nil) == http.StatusOK })
	var trust proof.Anchors
	g.must(http.StatusOK, "GET", "/v1/trust", "", nil, &trust)
	own := trust.Departments[0]
	g.must(http.StatusCreated, "POST", "/v1/departments", domain.RoleAdmin, api.RegisterDepartment{
		Code: string(own.Code), MSPID: string(own.MSPID), NameZh: own.NameZh, NameEn: own.NameEn, USCC: own.USCC, Lead: true,
	}, nil)
	g.must(http.StatusCreated, "POST", "/v1/logs", domain.RoleAdmin, api.RegisterLog{Origin: own.LogOrigin, VerifierKey: own.LogKey}, nil)
	for _, rule := range sampleRules() {
		g.must(http.StatusCreated, "POST", "/v1/rules", domain.RoleAdmin, rule, nil)
	}
	for _, calendar := range neededCalendars(time.Now()) {
		g.must(http.StatusCreated, "POST", "/v1/calendars", domain.RoleAdmin, calendar, nil)
	}
	content := sampleEntries()[0].Content
	content.ProviderUSCC = own.USCC
	g.must(http.StatusCreated, "POST", "/v1/catalog/batches/register", domain.RoleOperator, domain.RegisterBatchArgs{Contents: []domain.CatalogContent{content}}, nil)

	if _, _, err := rebuild(t, f, chain.Ledger("bigdata"), false); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("beside a running gateway: %v", err)
	}
	if err := g.end(); err != nil {
		t.Fatal(err)
	}

	out, progress, err := rebuild(t, f, chain.Ledger("bigdata"), true)
	if err != nil || !strings.Contains(out, "is equal to one built from block 0") {
		t.Fatalf("%v; output %q", err, out)
	}
	if want := fmt.Sprintf("blocks: %d of %d (100 %%)", chain.Height(), chain.Height()); !strings.Contains(progress, want) {
		t.Errorf("progress %q, want %q", progress, want)
	}

	file := filepath.Join(f.dir, "data", indexFile)
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "UPDATE records SET state = 'published' WHERE kind = 'catalog'"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if out, _, err := rebuild(t, f, chain.Ledger("bigdata"), true); err == nil || !strings.Contains(err.Error(), "differs") {
		t.Errorf("a changed index passes: %v; output %q", err, out)
	}
	if out, _, err := rebuild(t, f, chain.Ledger("bigdata"), false); err != nil || !strings.Contains(out, "rebuilt from") {
		t.Errorf("%v; output %q", err, out)
	}
	if out, _, err := rebuild(t, f, chain.Ledger("bigdata"), true); err != nil {
		t.Errorf("%v; output %q", err, out)
	}

	g = startGateway(t, f, chain.Ledger("bigdata"), nil)
	await(t, "the gateway is ready again", func() bool { return g.call("GET", "/readyz", "", nil, nil) == http.StatusOK })
	g.must(http.StatusOK, "GET", "/v1/catalog/entries/"+strings.ReplaceAll(content.Code, "/", "%2F"), domain.RoleAuditor, nil, nil)
	if err := g.end(); err != nil {
		t.Error(err)
	}
}

func TestIndexRebuildUsage(t *testing.T) {
	for _, args := range [][]string{
		{"index", "rebuild"},
		{"index", "rebuild", "--department", "../police"},
		{"index", "rebuild", "--config", filepath.Join(t.TempDir(), "none.json")},
	} {
		runCommand(t, exitUsage, args...)
	}
}

// TestIndexRebuildWithoutPeer: without the own peer nothing is touched.
func TestIndexRebuildWithoutPeer(t *testing.T) {
	chain := ledgertest.NewChain(contracts(t))
	f := newGatewayFolder(t, "police", chain)
	chain.SetDown("police", os.ErrDeadlineExceeded)
	if _, _, err := rebuild(t, f, chain.Ledger("police"), false); err == nil || !strings.Contains(err.Error(), "own peer") {
		t.Errorf("got %v", err)
	}
	chain.SetDown("police", nil)
	if _, _, err := rebuild(t, f, chain.Ledger("police"), true); err == nil || !strings.Contains(err.Error(), "no index to compare with") {
		t.Errorf("got %v", err)
	}
}

// TestImportThroughGateway imports through a real gateway and the real contracts:
// the row that only the ledger can refuse is named, and the export reads back.
func TestImportThroughGateway(t *testing.T) {
	chain := ledgertest.NewChain(contracts(t))
	chain.SetClock(func() time.Time { return time.Now().UTC().Truncate(time.Millisecond) })
	f := newGatewayFolder(t, "bigdata", chain)
	g := startGateway(t, f, chain.Ledger("bigdata"), nil)
	await(t, "the gateway is ready", func() bool { return g.call("GET", "/readyz", "", nil, nil) == http.StatusOK })
	var trust proof.Anchors
	g.must(http.StatusOK, "GET", "/v1/trust", "", nil, &trust)
	own := trust.Departments[0]
	g.must(http.StatusCreated, "POST", "/v1/departments", domain.RoleAdmin, api.RegisterDepartment{
		Code: string(own.Code), MSPID: string(own.MSPID), NameZh: own.NameZh, NameEn: own.NameEn, USCC: own.USCC, Lead: true,
	}, nil)
	folder := t.TempDir()
	put := func(name, text string) string {
		path := filepath.Join(folder, name)
		writeTestFile(t, path, []byte(text))
		return path
	}
	admin, operator := put("admin", "zl_admin"), put("operator", "zl_operator")
	runCommand(t, exitOK, "rule", "import", filepath.Join("sample", "rules.json"), "--gateway", g.url, "--token-file", admin)
	for _, calendar := range neededCalendars(time.Now()) {
		g.must(http.StatusCreated, "POST", "/v1/calendars", domain.RoleAdmin, calendar, nil)
	}
	file := nationalHeader + "\n"
	for i := range 5 {
		changes := map[string]string{"信息资源提供方代码": own.USCC, colCode: fmt.Sprintf("307003/%06d", i), colName: fmt.Sprintf("资源 %d", i)}
		if i == 3 {
			changes["信息资源提供方代码"], changes[colRelated] = policeUSCC, "307003/777777"
		}
		file += nationalRow(changes)
	}
	report := filepath.Join(folder, "report.csv")
	args := []string{"catalog", "import", put("c.csv", file), "--gateway", g.url, "--token-file", operator, "--report", report, "--allow-errors"}
	out, _ := runCommand(t, exitOK, args...)
	if got := mustRead(t, report); !strings.Contains(out, "4 imported, 0 there already, 1 with errors, 0 left") || !strings.Contains(got, "4,307003/000003,providerUscc,") || !strings.Contains(got, ",relatedCodes[0],") {
		t.Errorf("output %q; report:\n%s", out, got)
	}
	if err := os.Remove(report + ".journal"); err != nil {
		t.Fatal(err)
	}
	height := chain.Height()
	if out, _ = runCommand(t, exitOK, args...); !strings.Contains(out, "0 imported, 4 there already, 1 with errors") {
		t.Errorf("output %q", out)
	}
	for format, name := range map[string]string{"csv": "e.csv", "dcat-ap": "e.jsonld"} {
		exported := filepath.Join(folder, name)
		runCommand(t, exitOK, "catalog", "export", "--gateway", g.url, "--token-file", operator, "--format", format, "--state", "all", "--out", exported)
		out, _ := runCommand(t, exitOK, "catalog", "import", exported, "--gateway", g.url, "--token-file", operator, "--report", exported+".report")
		if !strings.Contains(out, "4 rows: 0 imported, 4 there already, 0 with errors") {
			t.Errorf("%s: output %q", format, out)
		}
	}
	if chain.Height() != height {
		t.Errorf("%d blocks by what was there already", chain.Height()-height)
	}
	if err := g.end(); err != nil {
		t.Error(err)
	}
}
