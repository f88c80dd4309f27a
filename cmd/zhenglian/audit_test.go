package main

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/evidence/evidencetest"
	"github.com/zhenglian/zhenglian/gateway/ledger/ledgertest"
	"github.com/zhenglian/zhenglian/gateway/sqltrail/postgrestest"
	"github.com/zhenglian/zhenglian/gateway/tilelog"
	"github.com/zhenglian/zhenglian/proof"
)

// auditedWorld is a consortium with logs of the police and of civil affairs, each
// served by a gateway that answers for the ledger, too.
type auditedWorld struct {
	*evidencetest.World
	t     *testing.T
	trust string
	args  []string // --trust and --log
	lie   func(bundle []byte) []byte
}

func newAuditedWorld(t *testing.T) *auditedWorld {
	t.Helper()
	w := &auditedWorld{World: evidencetest.New(t, "police", "civil"), t: t, trust: filepath.Join(t.TempDir(), "consortium.json")}
	writeTestFile(t, w.trust, w.TrustFile())
	token := filepath.Join(t.TempDir(), "auditor.token")
	writeTestFile(t, token, []byte(evidencetest.Token+"\n"))
	w.args = []string{"--trust", w.trust}
	for _, code := range []domain.DepartmentCode{"police", "civil"} {
		server := httptest.NewServer(w.gateway(w.Logs[code]))
		t.Cleanup(server.Close)
		w.args = append(w.args, "--log", string(code)+"="+server.URL+",token-file="+token)
	}
	police, civil := w.Logs["police"], w.Logs["civil"]
	for from := 0; from < 300; from += 150 {
		police.Append(t, evidencetest.Records(domain.DirectionProvider, "police", "civil", from, 150)...)
		police.Anchor(t)
	}
	civil.Append(t, evidencetest.Records(domain.DirectionConsumer, "police", "civil", 0, 299)...)
	civil.Anchor(t)
	return w
}

// gateway answers as a department's gateway does.
func (w *auditedWorld) gateway(l *evidencetest.Log) http.Handler {
	mux := http.NewServeMux()
	answer := func(rw http.ResponseWriter, records []any) {
		items := []any{}
		for _, r := range records {
			items = append(items, map[string]any{"record": r, "block": 1, "txId": strings.Repeat("ab", 32)})
		}
		rw.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(rw).Encode(map[string]any{"items": items, "next": ""}); err != nil {
			w.t.Error(err)
		}
	}
	mux.HandleFunc("GET /v1/anchors", func(rw http.ResponseWriter, r *http.Request) {
		var records []any
		for _, a := range w.Anchors(domain.DepartmentCode(r.URL.Query().Get("department"))) {
			records = append([]any{a}, records...) // in no order of size
		}
		answer(rw, records)
	})
	mux.HandleFunc("GET /v1/logs", func(rw http.ResponseWriter, _ *http.Request) {
		var records []any
		for code := range w.Logs {
			anchors := w.Anchors(code)
			records = append(records, domain.LogRegistration{Owner: code, Size: anchors[len(anchors)-1].Size})
		}
		answer(rw, records)
	})
	mux.HandleFunc("GET /v1/proofs/anchor/{id}", func(rw http.ResponseWriter, r *http.Request) {
		for code := range w.Logs {
			for _, a := range w.Anchors(code) {
				if domain.AnchorID(code, a.Size) != r.PathValue("id") {
					continue
				}
				bundle := w.Bundle(a)
				if w.lie != nil {
					bundle = w.lie(bundle)
				}
				_, _ = rw.Write(bundle) // a broken connection shows at the client
			}
		}
	})
	mux.Handle("GET /v1/logs/", l.Handler())
	return mux
}

func (w *auditedWorld) pull(trail string, want int, more ...string) (stdout, stderr string) {
	w.t.Helper()
	return runCommand(w.t, want, append(append([]string{"audit", "pull", "--trail", trail}, w.args...), more...)...)
}

// TestAudit runs every command on a trail in a file and on one in a PostgreSQL
// server, by either name of the flag: they print the same.
func TestAudit(t *testing.T) {
	w := newAuditedWorld(t)
	postgres, err := postgrestest.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := postgres.Stop(); err != nil {
			t.Error(err)
		}
	})
	t.Run("SQLite", func(t *testing.T) { testAudit(t, w, "--trail", filepath.Join(t.TempDir(), "trail.sqlite")) })
	t.Run("PostgreSQL", func(t *testing.T) { testAudit(t, w, "--index", postgres.Database(t)) })
}

func testAudit(t *testing.T, w *auditedWorld, flag, store string) {
	t.Helper()
	out, errs := runCommand(t, exitOK, append([]string{"audit", "pull", flag, store, "--all-anchors"}, w.args...)...)
	if !strings.Contains(out, "police: 300 entries, verified up to the anchor of size 300") || !strings.Contains(out, "in order") {
		t.Errorf("pull says %q", out)
	}
	if !strings.Contains(errs, "police: 300 of 300 entries (100 %)") {
		t.Errorf("pull shows %q", errs)
	}

	t.Run("trace", func(t *testing.T) {
		out, errs := runCommand(t, exitOK, "audit", "trace", flag, store, "--writer", "police", "--limit", "3")
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if len(lines) != 4 || !strings.Contains(lines[1], "299") || !strings.Contains(lines[1], "police>civil") || !strings.Contains(errs, "--after ") {
			t.Errorf("trace prints %q and says %q", out, errs)
		}
		out, _ = runCommand(t, exitOK, "audit", "trace", flag, store, "--case", "case-3", "--order", "oldest", "--limit", "500", "--json")
		var page struct {
			Items []traceRow `json:"items"`
			Next  string     `json:"next"`
		}
		if err := json.Unmarshal([]byte(out), &page); err != nil {
			t.Fatal(err)
		}
		if len(page.Items) != 86 || page.Next != "" { // 43 of each side: 3, 10, … 297
			t.Fatalf("%d rows, next %q", len(page.Items), page.Next)
		}
		first := page.Items[1]
		if first.Log != "police" || first.Index != 3 || first.AnchorSize != 150 || first.Record.CaseRef != "case-3" ||
			first.Inclusion != "/v1/access-records/police/3/proof" || first.Anchor != "/v1/proofs/anchor/police~150" || len(first.LeafHash) != 64 {
			t.Errorf("the first row of the police is %+v", first)
		}
		out, _ = runCommand(t, exitOK, "audit", "trace", flag, store, "--writer", "civil", "--csv")
		if got := strings.Count(out, "\n"); got != 300 || !strings.HasPrefix(out, "log,index,") {
			t.Errorf("%d lines of CSV", got)
		}
		runCommand(t, exitUsage, "audit", "trace", flag, store, "--limit", "0")
		runCommand(t, exitFailed, "audit", "trace", flag, store, "--after", "nonsense")
	})

	t.Run("reconcile", func(t *testing.T) {
		out, _ := runCommand(t, exitOK, "audit", "reconcile", flag, store)
		if !strings.Contains(out, "PROVIDER ONLY") || !strings.Contains(out, "299") {
			t.Errorf("reconcile prints %q", out)
		}
		out, _ = runCommand(t, exitOK, "audit", "reconcile", flag, store, "--json")
		var days []pairDay
		if err := json.Unmarshal([]byte(out), &days); err != nil || len(days) != 1 || days[0].Both != 299 || days[0].ProviderOnly != 1 {
			t.Errorf("days are %+v, %v", days, err)
		}
		out, _ = runCommand(t, exitOK, "audit", "reconcile", flag, store, "--calls")
		if !strings.Contains(out, "provider_only") || !strings.Contains(out, "police/299") {
			t.Errorf("reconcile --calls prints %q", out)
		}
		out, _ = runCommand(t, exitOK, "audit", "reconcile", flag, store, "--calls", "--json", "--provider", "police")
		var calls []discrepancy
		if err := json.Unmarshal([]byte(out), &calls); err != nil || len(calls) != 1 || len(calls[0].Rows) != 1 || calls[0].Rows[0].Index != 299 {
			t.Errorf("calls are %+v, %v", calls, err)
		}
	})

	t.Run("export", func(t *testing.T) {
		folder := filepath.Join(t.TempDir(), "evidence")
		args := append([]string{"audit", "export", "--out", folder, "--case", "case-3", "--range", "police=100:250"}, w.args...)
		out, errs := runCommand(t, exitOK, args...)
		if !strings.Contains(out, "The evidence holds") || !strings.Contains(errs, "police: 150 of 150") {
			t.Errorf("export prints %q and says %q", out, errs)
		}
		again, _ := runCommand(t, exitOK, "verify", folder, "--trust", w.trust)
		if again != out || !strings.Contains(again, "100 to 249: all 150 of them, of the 300") || !strings.Contains(again, "trace.csv  65 records") {
			t.Errorf("verify prints %q", again)
		}
		out, _ = runCommand(t, exitOK, "verify", folder, "--trust", w.trust, "--json")
		var verdict folderVerdict
		if err := json.Unmarshal([]byte(out), &verdict); err != nil || verdict.Overall != "complete" || verdict.Rows != 65 || len(verdict.Logs) != 2 {
			t.Errorf("verdict is %+v, %v", verdict, err)
		}
		runCommand(t, exitFailed, args...) // the folder exists
		runCommand(t, exitUsage, "verify", folder, "--trust", w.trust, "--check-code", "X")
		runCommand(t, exitCannotDecide, "verify", folder, "--trust", filepath.Join(folder, "manifest.json"))

		entries := filepath.Join(folder, "logs", "police", "entries")
		data, err := os.ReadFile(entries)
		if err != nil {
			t.Fatal(err)
		}
		writeTestFile(t, entries, []byte(strings.Replace(string(data), "op-1", "op-2", 1)))
		out, errs = runCommand(t, exitProofRefused, "verify", folder, "--trust", w.trust)
		if !strings.Contains(out, "does NOT hold") || !strings.Contains(errs, "logs/police/entries") {
			t.Errorf("verify prints %q and says %q", out, errs)
		}
		out, _ = runCommand(t, exitProofRefused, "verify", folder, "--trust", w.trust, "--json")
		if err := json.Unmarshal([]byte(out), &verdict); err != nil || verdict.Overall != "bad_proof" || verdict.Reason == "" {
			t.Errorf("verdict is %+v, %v", verdict, err)
		}
	})
}

func TestAuditFinds(t *testing.T) {
	w := newAuditedWorld(t)
	store := filepath.Join(t.TempDir(), "trail.sqlite")
	bundle := filepath.Join(w.Logs["police"].Dir, "tile", "entries", "000")
	data, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(bundle); err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, bundle, []byte(strings.Replace(string(data), "op-3", "op-4", 1)))
	out, errs := w.pull(store, exitProofRefused)
	if !strings.Contains(out, "FINDING police changed_entry at 3: ") || !strings.Contains(out, "civil: 299 entries") || !strings.Contains(errs, "1 findings") {
		t.Errorf("pull prints %q and says %q", out, errs)
	}
	runCommand(t, exitProofRefused, append([]string{"audit", "export", "--out", filepath.Join(t.TempDir(), "evidence")}, w.args...)...)

	writeTestFile(t, bundle, data)
	out, _ = w.pull(store, exitOK)
	if !strings.Contains(out, "police: 300 entries") {
		t.Errorf("pull of the log that was put right prints %q", out)
	}
}

// A gateway is not believed what the departments do not sign.
func TestAuditDoubtsTheGateway(t *testing.T) {
	w := newAuditedWorld(t)
	anchors := w.Anchors("police")
	t.Run("proof does not verify", func(t *testing.T) {
		w.lie = func(bundle []byte) []byte { return bundle[:len(bundle)-3] }
		defer func() { w.lie = nil }()
		out, _ := w.pull(filepath.Join(t.TempDir(), "trail.sqlite"), exitProofRefused)
		if !strings.Contains(out, "FINDING police bad_anchor at 300") || !strings.Contains(out, "FINDING civil bad_anchor at 299") {
			t.Errorf("pull prints %q", out)
		}
	})
	t.Run("proof of another anchor", func(t *testing.T) {
		w.lie = func([]byte) []byte { return w.Bundle(anchors[0]) }
		defer func() { w.lie = nil }()
		out, _ := w.pull(filepath.Join(t.TempDir(), "trail.sqlite"), exitProofRefused)
		if !strings.Contains(out, "FINDING police bad_anchor at 300") {
			t.Errorf("pull prints %q", out)
		}
	})
	t.Run("another anchor than the signed one", func(t *testing.T) {
		signed := w.Bundle(anchors[1])
		w.lie = func([]byte) []byte { return signed }
		changed := anchors[1]
		changed.TxTime = changed.TxTime.Add(time.Hour)
		w.SetAnchors("police", anchors[0], changed)
		defer func() { w.lie = nil; w.SetAnchors("police", anchors...) }()
		out, _ := w.pull(filepath.Join(t.TempDir(), "trail.sqlite"), exitProofRefused)
		if !strings.Contains(out, "FINDING police bad_anchor at 300") || !strings.Contains(out, "sign another anchor") {
			t.Errorf("pull prints %q", out)
		}
	})
}

func TestAuditUsage(t *testing.T) {
	w := newAuditedWorld(t)
	log := w.args[3]
	store := filepath.Join(t.TempDir(), "trail.sqlite")
	for _, args := range [][]string{
		{"audit", "pull", "--trail", store},
		{"audit", "pull", "--trail", store, "--trust", w.trust},
		{"audit", "pull", "--trail", store, "--trust", w.trust, "--log", "police"},
		{"audit", "pull", "--trail", store, "--trust", w.trust, "--log", "nobody=http://127.0.0.1:1"},
		{"audit", "pull", "--trail", store, "--trust", w.trust, "--log", "police=ftp://127.0.0.1:1"},
		{"audit", "pull", "--trail", store, "--trust", w.trust, "--log", "police=http://127.0.0.1:1,token=x"},
		{"audit", "pull", "--trail", store, "--trust", w.trust, "--log", "police=http://127.0.0.1:1,token-file=none"},
		{"audit", "pull", "--trail", store, "--trust", w.trust, "--log", log, "--log", log},
		{"audit", "pull", "--trail", store, "--trust", log, "--log", log},
		{"audit", "pull", "--trail", store, "--trust", w.trust, "--state", "x", "--log", log},
		{"audit", "pull", "--trail", store, "--state", t.TempDir()},
		{"audit", "pull", "--trail", store, "--trust", w.trust, "--log", log, "--anchors-from", "http://127.0.0.1:1,x"},
		{"audit", "export", "--out", store, "--trust", w.trust, "--log", log, "--range", "police"},
		{"audit", "export", "--out", store, "--trust", w.trust, "--log", log, "--range", "police=5:5"},
		{"audit", "export", "--out", store, "--trust", w.trust, "--log", log, "--range", "civil=5:6"},
		{"audit", "trace", "--trail", store, "--order", "random"},
	} {
		if _, errs := runCommand(t, exitUsage, args...); errs == "" {
			t.Errorf("%v: says nothing", args)
		}
	}
	out, errs := runCommand(t, exitFailed, "audit", "pull", "--trail", store, "--trust", w.trust, "--log", "police=http://127.0.0.1:1", "--anchors-from", strings.SplitN(log, "=", 2)[1])
	if strings.Contains(out, "in order") || !strings.Contains(errs, "log of police") {
		t.Errorf("a log that does not answer: %q, %q", out, errs)
	}
}

// TestAuditOfAGateway audits a log that a real gateway anchors on the real
// contracts and serves.
func TestAuditOfAGateway(t *testing.T) {
	chain := ledgertest.NewChain(contracts(t))
	chain.SetClock(func() time.Time { return time.Now().UTC().Truncate(time.Millisecond) })
	f := newGatewayFolder(t, "bigdata", chain)
	fillLog(t, f, evidencetest.Records(domain.DirectionProvider, "bigdata", "civil", 0, 300))
	g := startGateway(t, f, chain.Ledger("bigdata"), nil)
	await(t, "the gateway is ready", func() bool { return g.call("GET", "/readyz", "", nil, nil) == http.StatusOK })
	var trust proof.Anchors
	g.must(http.StatusOK, "GET", "/v1/trust", "", nil, &trust)
	own := trust.Departments[0]
	g.must(http.StatusCreated, "POST", "/v1/departments", domain.RoleAdmin, api.RegisterDepartment{
		Code: string(own.Code), MSPID: string(own.MSPID), NameZh: own.NameZh, NameEn: own.NameEn, USCC: own.USCC, Lead: true,
	}, nil)
	g.must(http.StatusCreated, "POST", "/v1/logs", domain.RoleAdmin, api.RegisterLog{Origin: own.LogOrigin, VerifierKey: own.LogKey}, nil)
	await(t, "the log is anchored", func() bool {
		var logs list[domain.LogRegistration]
		g.must(http.StatusOK, "GET", "/v1/logs", domain.RoleAuditor, nil, &logs)
		return len(logs.Items) == 1 && logs.Items[0].Record.Size == 300
	})

	token, store := filepath.Join(t.TempDir(), "token"), filepath.Join(t.TempDir(), "trail.sqlite")
	writeTestFile(t, token, []byte(evidencetest.Token))
	from := []string{"--trust", filepath.Join(f.state(), "trust", "consortium.json"), "--log", "bigdata=" + g.url + ",token-file=" + token}
	out, _ := runCommand(t, exitOK, append([]string{"audit", "pull", "--trail", store, "--all-anchors"}, from...)...)
	if !strings.Contains(out, "bigdata: 300 entries, verified up to the anchor of size 300") {
		t.Errorf("pull prints %q", out)
	}
	out, _ = runCommand(t, exitOK, "audit", "trace", "--trail", store, "--limit", "1", "--json")
	var page struct{ Items []traceRow }
	if err := json.Unmarshal([]byte(out), &page); err != nil || len(page.Items) != 1 {
		t.Fatalf("trace prints %q", out)
	}
	for _, path := range []string{page.Items[0].Inclusion, page.Items[0].Anchor} { // the links lead somewhere
		if got := g.call("GET", path, domain.RoleAuditor, nil, nil); got != http.StatusOK {
			t.Errorf("GET %s: status %d", path, got)
		}
	}
	folder := filepath.Join(t.TempDir(), "evidence")
	runCommand(t, exitOK, append([]string{"audit", "export", "--out", folder, "--range", "bigdata=7:290"}, from...)...)
	out, _ = runCommand(t, exitOK, "verify", folder, "--trust", from[1])
	if !strings.Contains(out, "7 to 289: all 283 of them, of the 300") {
		t.Errorf("verify prints %q", out)
	}
	if err := g.end(); err != nil {
		t.Error(err)
	}
}

// fillLog writes records into the log of a gateway that has not started.
func fillLog(t *testing.T, f *gatewayFolder, records []domain.AccessRecord) {
	t.Helper()
	setup, err := loadGateway(f.file(), "")
	if err != nil {
		t.Fatal(err)
	}
	log, err := tilelog.Open(t.Context(), tilelog.Options{
		Dir: filepath.Join(setup.Data, "log"), Origin: setup.Log.Origin, Key: setup.logKey, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	entries := make([][]byte, len(records))
	for i, r := range records {
		if entries[i], err = domain.Canonical(r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := log.Append(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// The state folder of a consortium on this machine says where all logs are.
func TestAuditSourcesOfAState(t *testing.T) {
	f := newFakeConsortium(t)
	flags := logFlags{State: f.folder, Patience: time.Second}
	s, err := flags.sources()
	if err != nil {
		t.Fatal(err)
	}
	if len(s.departments) != 4 || len(s.logs) != 4 || s.departments[0] != "bigdata" || s.anchors.client.url != f.urls["bigdata"] {
		t.Errorf("logs of %v, anchors from %s", s.departments, s.anchors.client.url)
	}
}
