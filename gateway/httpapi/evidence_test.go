package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/service"
)

func decode[T any](t *testing.T, w *httptest.ResponseRecorder) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	return v
}

func TestTilesAreServedAsTheLogHasThem(t *testing.T) {
	h, g, _ := newTest(t)
	tests := []struct {
		target string
		status int
		cache  string
		media  string
		want   any
	}{
		{"/v1/logs/police/checkpoint", 200, "no-cache", "text/plain; charset=utf-8", nil},
		{"/v1/logs/police/tile/0/000", 200, "public, max-age=31536000, immutable", "application/octet-stream", tileArgs{0, 0, 0}},
		{"/v1/logs/police/tile/2/067", 200, "public, max-age=31536000, immutable", "application/octet-stream", tileArgs{2, 67, 0}},
		{"/v1/logs/police/tile/0/x001/x234/067", 200, "public, max-age=31536000, immutable", "application/octet-stream", tileArgs{0, 1234067, 0}},
		{"/v1/logs/police/tile/0/x001%2Fx234%2F067", 200, "public, max-age=31536000, immutable", "application/octet-stream", tileArgs{0, 1234067, 0}},
		{"/v1/logs/police/tile/0/x001/067.p/255", 200, "public, max-age=86400, immutable", "application/octet-stream", tileArgs{0, 1067, 255}},
		{"/v1/logs/police/tile/entries/x001/067.p/3", 200, "no-store", "application/octet-stream", tileArgs{0, 1067, 3}},
		{"/v1/logs/civil/checkpoint", 404, "no-store", problemMedia, nil},
		{"/v1/logs/civil/tile/0/000", 404, "no-store", problemMedia, nil},
		{"/v1/logs/civil/tile/entries/000", 404, "no-store", problemMedia, nil},
		{"/v1/logs/police/tile/0/x000/067", 404, "no-store", problemMedia, nil},
		{"/v1/logs/police/tile/0/067.p/256", 404, "no-store", problemMedia, nil},
		{"/v1/logs/police/tile/0/067.p/0", 400, "no-store", problemMedia, nil},
		{"/v1/logs/police/tile/0/67", 400, "no-store", problemMedia, nil},
		{"/v1/logs/police/tile/0/001/067", 400, "no-store", problemMedia, nil},
		{"/v1/logs/police/tile/0/000/..", 400, "no-store", problemMedia, nil},
		{"/v1/logs/police/tile/0/", 404, "no-store", problemMedia, nil},
		{"/v1/logs/police/tile/8/000", 400, "no-store", problemMedia, nil},
		{"/v1/logs/police/tile/x/000", 400, "no-store", problemMedia, nil},
		{"/v1/logs/police/tile/-1/000", 400, "no-store", problemMedia, nil},
	}
	for _, tt := range tests {
		t.Run(tt.target, func(t *testing.T) {
			g.reset()
			w := send(h, http.MethodGet, tt.target, domain.RoleAuditor, "")
			if w.Code != tt.status || w.Header().Get("Cache-Control") != tt.cache || w.Header().Get("Content-Type") != tt.media {
				t.Errorf("status %d, %v: %s", w.Code, w.Header(), w.Body)
			}
			if diff := cmp.Diff(tt.want, g.got); diff != "" {
				t.Errorf("the log was asked (-want +got):\n%s", diff)
			}
		})
	}
	// A failure is kept by nobody.
	g.err = &domain.Error{Kind: domain.NotFound, Msg: "not in the tree"}
	if w := send(h, http.MethodGet, "/v1/logs/police/tile/0/000", "", ""); w.Code != http.StatusNotFound || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("status %d, Cache-Control %q", w.Code, w.Header().Get("Cache-Control"))
	}
}

func record(h http.Handler, prefer string) *httptest.ResponseRecorder {
	s := samples["POST /v1/access-records"]
	r := s.request(http.MethodPost)
	if prefer != "" {
		r.Header.Set("Prefer", prefer)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestPreferAnchored(t *testing.T) {
	h, _, _ := newTest(t)
	for prefer, want := range map[string]bool{
		"": false, "anchored": true, "Anchored": true, "respond-async, anchored;x=1": true, "wait=10": false, "not-anchored": false, "anchored-later": false,
	} {
		w := record(h, prefer)
		receipts := decode[api.AccessReceipts](t, w)
		if w.Code != http.StatusCreated || len(receipts.Receipts) != 1 {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		_, applied := w.Header()["Preference-Applied"]
		size := receipts.Receipts[0].AnchoredSize
		if applied != want || (size != nil) != want || want && (*size != 8 || w.Header().Get("Preference-Applied") != "anchored") {
			t.Errorf("Prefer: %s: applied %v, size %v", prefer, applied, size)
		}
		if !want && !strings.Contains(w.Body.String(), `"anchoredSize":null`) {
			t.Errorf("Prefer: %s: %s", prefer, w.Body)
		}
	}
}

// What stands in the way of evidence is told so that a client knows what to do.
func TestEvidenceStandsInTheWay(t *testing.T) {
	h, g, _ := newTest(t)
	g.err = fmt.Errorf("x: %w", &service.BusyError{RetryAfter: 2500 * time.Millisecond})
	w := record(h, "")
	if p := checkProblem(t, "busy", w); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "3" || p.Code != api.ProblemCodeRateLimited || !strings.Contains(p.Detail, "none of these was logged") {
		t.Errorf("busy: %d, Retry-After %q: %s", w.Code, w.Header().Get("Retry-After"), w.Body)
	}
	g.err = fmt.Errorf("x: %w", &service.BacklogError{Lag: 90 * time.Second, MaxLag: time.Minute})
	w = record(h, "")
	if p := checkProblem(t, "backlog", w); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || !strings.Contains(p.Detail, "evidence backlog") {
		t.Errorf("backlog: %d: %s", w.Code, w.Body)
	}
	g.err = fmt.Errorf("x: %w", &service.NotAnchoredError{Receipts: []service.AccessReceipt{{Index: 41}, {Index: 42}}})
	w = record(h, "anchored")
	p := checkProblem(t, "not anchored", w)
	want := []api.FieldFinding{
		{Field: "/records/0", Rule: "not-anchored", Zh: "已存证于日志第 41 条，尚未锚定", En: "is durable at index 41, and not anchored yet"},
		{Field: "/records/1", Rule: "not-anchored", Zh: "已存证于日志第 42 条，尚未锚定", En: "is durable at index 42, and not anchored yet"},
	}
	if diff := cmp.Diff(want, p.Fields); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || diff != "" {
		t.Errorf("not anchored: %d: %s\n%s", w.Code, w.Body, diff)
	}
	g.err = &service.NotAnchoredError{Receipts: make([]service.AccessReceipt, service.MaxAccessRecords)}
	if p := checkProblem(t, "all", record(h, "anchored")); len(p.Fields) != maxFindings {
		t.Errorf("%d fields", len(p.Fields))
	}
	g.err = &service.RefusedError{Refusals: []service.Refusal{{Record: 0, Err: &domain.Error{Kind: domain.Exists, Msg: "callId: logged at index 7 with other content"}}}}
	w = record(h, "")
	if p := checkProblem(t, "exists", w); w.Code != http.StatusConflict || p.Code != api.ProblemCodeExists || !strings.Contains(p.Detail, "index 7") {
		t.Errorf("exists: %d: %s", w.Code, w.Body)
	}
}

func TestTraceRowsLinkToTheirProof(t *testing.T) {
	h, g, _ := newTest(t)
	trace := decode[api.Trace](t, send(h, http.MethodGet, "/v1/audit/trace", domain.RoleAuditor, ""))
	want := api.TraceLinks{Record: "/v1/access-records/civil/5", Proof: "/v1/access-records/civil/5/proof", Anchor: "/v1/proofs/anchor/civil~8"}
	if trace.Scope != api.AuditScopeAll || len(trace.Items) != 1 || trace.Items[0].Links != want || *trace.Items[0].AnchoredSize != 8 || trace.Next != testCursors.seal("more") {
		t.Fatalf("trace %+v", trace)
	}
	for link, body := range map[string]string{want.Record: `"index":5`, want.Proof: "c2sp.org/tlog-proof@v1", want.Anchor: string(testBundle)} {
		g.reset()
		if w := send(h, http.MethodGet, link, domain.RoleAuditor, ""); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), body) || g.called != 1 {
			t.Errorf("%s: status %d: %s", link, w.Code, w.Body)
		}
	}
	if diff := cmp.Diff(any("anchor civil~8"), func() any {
		send(h, http.MethodGet, want.Anchor, domain.RoleAuditor, "")
		return g.got
	}()); diff != "" {
		t.Errorf("proof of (-want +got):\n%s", diff)
	}
	// An own record that the auditor has not read yet is proven from the log.
	g.reset()
	g.notPulled = true
	if w := send(h, http.MethodGet, "/v1/access-records/police/5/proof", domain.RoleAuditor, ""); w.Code != http.StatusOK || g.got != uint64(5) {
		t.Errorf("own record: status %d: %s", w.Code, w.Body)
	}
}

// Without an auditor's configuration a gateway traces its own log and says so.
func TestOwnLogOnly(t *testing.T) {
	_, g, log := newTest(t)
	cfg := g.config(log)
	cfg.Auditor = nil
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := send(h, http.MethodGet, "/v1/audit/trace?catalogCode="+codePath, domain.RoleAuditor, "")
	trace := decode[api.Trace](t, w)
	// The last anchor covers 3 entries, and not this one.
	if trace.Scope != api.AuditScopeOwn || trace.Items[0].Department != "police" || trace.Items[0].AnchoredSize != nil ||
		trace.Items[0].Links != (api.TraceLinks{Record: "/v1/access-records/police/5"}) {
		t.Errorf("trace %s", w.Body)
	}
	row, err := traceRow("police", index.AccessEntry{Index: 2}, 3)
	if err != nil || *row.AnchoredSize != 3 || row.Links.Anchor != "/v1/proofs/anchor/police~3" {
		t.Errorf("an anchored row is %+v, %v", row, err)
	}
	for _, query := range []string{"writer=police", "operator=op-1", "result=ok", "order=oldest"} {
		p := checkProblem(t, query, send(h, http.MethodGet, "/v1/audit/trace?"+query, domain.RoleAuditor, ""))
		name, _, _ := strings.Cut(query, "=")
		if len(p.Fields) != 1 || p.Fields[0].Field != "query "+name || p.Fields[0].Rule != "own-log" {
			t.Errorf("%s: %+v", query, p)
		}
	}
	for _, target := range []string{"/v1/audit/totals", "/v1/audit/reconciliation", "/v1/audit/reconciliation/calls"} {
		if w := send(h, http.MethodGet, target, domain.RoleAuditor, ""); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "its configuration has no audit") {
			t.Errorf("%s: status %d: %s", target, w.Code, w.Body)
		}
	}
	logs := decode[api.AuditLogs](t, send(h, http.MethodGet, "/v1/audit/logs", domain.RoleAuditor, ""))
	if logs.Scope != api.AuditScopeOwn || len(logs.Items) != 3 {
		t.Errorf("logs %+v", logs)
	}
}

func TestLogHealthNamesEveryLog(t *testing.T) {
	h, _, _ := newTest(t)
	got := decode[api.AuditLogs](t, send(h, http.MethodGet, "/v1/audit/logs", domain.RoleAuditor, ""))
	want := api.AuditLogs{Scope: api.AuditScopeAll, Items: []api.AuditLog{
		{Department: "civil", Audited: &api.AuditedLog{Size: 8, Seen: testTime}, Watched: &api.WatchedLog{Size: 8}, MoreFindings: true, Findings: []api.LogFinding{
			{Kind: "changed_entry", Place: 3, Text: "entry 3 does not have the hash", FirstSeen: testTime, LastSeen: testTime},
		}},
		{Department: "market", Watched: &api.WatchedLog{Size: 2, Problem: "the log shows 2 of 3 entries", Since: &testTime}, Findings: []api.LogFinding{}},
		{Department: "police", AnchoredSize: 3, Findings: []api.LogFinding{}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("logs (-want +got):\n%s", diff)
	}
}

func TestReconciliationIsRenderedWhole(t *testing.T) {
	h, _, _ := newTest(t)
	counts := decode[api.Reconciliation](t, send(h, http.MethodGet, "/v1/audit/reconciliation", domain.RoleAuditor, ""))
	if diff := cmp.Diff(api.Reconciliation{Items: []api.PairDay{
		{Provider: "police", Consumer: "civil", Day: "2026-03-01", Both: 5, ProviderOnly: 4, ConsumerOnly: 3, Contradicting: 2, Waiting: 1},
	}, Next: testCursors.seal("more")}, counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	calls := decode[api.DiscrepancyList](t, send(h, http.MethodGet, "/v1/audit/reconciliation/calls", domain.RoleAuditor, ""))
	if len(calls.Items) != 2 || calls.Items[0].ProviderEntry != nil || calls.Items[0].ConsumerEntry.Links.Anchor != "/v1/proofs/anchor/civil~8" ||
		calls.Items[0].Fields == nil || calls.Items[1].Fields[0] != "recordCount" || calls.Items[1].State != "contradicting" {
		t.Errorf("calls %+v", calls)
	}
	totals := decode[api.AuditTotals](t, send(h, http.MethodGet, "/v1/audit/totals", domain.RoleAuditor, ""))
	if totals.Records != 3 || totals.DataRecords != 9 || len(totals.ByResult) != 2 || totals.ByResult[1].Result != "refused_quota" {
		t.Errorf("totals %+v", totals)
	}
}
