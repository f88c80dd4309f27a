package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
)

// Whatever is wrong with an entry is told at once, field by field, in both
// languages, as auditors complain of it.
func TestAllFindingsOfAnEntryAtOnce(t *testing.T) {
	w := newWorld(t)
	body := `{"code":"12/3","name":"户籍信息","abstract":"常住人口登记信息","providerUscc":"11430000006122244X","classification":"人口","format":"api",
		"items":[{"name":"户号","type":"C","level":2,"shareType":1}],"shareType":2,"shareMode":"platform_table","openType":3,"updateCycle":"daily",
		"regionCode":"350400","level":3,"personalData":"general"}`
	rules := map[string]string{
		"/code": "catalog-code", "/providerUscc": "uscc", "/shareMode": "not-in-list", "/items/0/shareType": "looser-than-resource",
		"/shareCondition": "required", "/legalBasis": "basis-required", "/systemRef": "required",
	}
	for _, target := range []string{"/v1/catalog/entries", "/v1/catalog/validate"} {
		r := w.do("police operator", http.MethodPost, target, body)
		if r.Code != http.StatusBadRequest {
			t.Fatalf("%s: status %d: %s", target, r.Code, r.Body)
		}
		got := make(map[string][]string)
		for _, f := range checkProblem(t, target, r).Fields {
			got[f.Field] = append(got[f.Field], f.Rule)
			if f.Zh == "" || f.En == "" {
				t.Errorf("%s: %+v lacks words", target, f)
			}
		}
		for field, rule := range rules {
			if !slices.Contains(got[field], rule) {
				t.Errorf("%s: %s breaks %q, want %q (all: %v)", target, field, got[field], rule, got)
			}
		}
	}
	batch := w.do("police operator", http.MethodPost, "/v1/catalog/batches/register", `{"contents":[`+content(w.newCode(), "")+`,`+body+`]}`)
	if p := checkProblem(t, "batch", batch); len(p.Fields) == 0 || !strings.HasPrefix(p.Fields[0].Field, "/contents/1/") {
		t.Errorf("batch: status %d: %s", batch.Code, batch.Body)
	}
	if r := w.do("police auditor", http.MethodPost, "/v1/catalog/validate", content(w.newCode(), "")); r.Code != http.StatusOK {
		t.Errorf("valid content: status %d: %s", r.Code, r.Body)
	}
}

// A full batch of large entries passes, one more does not.
func TestFullCatalogBatch(t *testing.T) {
	w := newWorld(t)
	contents := make([]string, domain.MaxBatch+1)
	codes := make([]string, domain.MaxBatch)
	for i := range contents {
		code := w.newCode()
		contents[i] = content(code, strings.Repeat("登记", 300))
		if i < len(codes) {
			codes[i] = `"` + code + `"`
		}
	}
	if body := `{"contents":[` + strings.Join(contents[:domain.MaxBatch], ",") + `]}`; len(body) < maxBody {
		t.Fatalf("the batch has %d bytes only", len(body))
	} else {
		w.must("police operator", "/v1/catalog/batches/register", body)
	}
	r := w.do("police operator", http.MethodPost, "/v1/catalog/batches/register", `{"contents":[`+strings.Join(contents, ",")+`]}`)
	if p := checkProblem(t, "too many entries", r); r.Code != http.StatusBadRequest || p.Fields[0].Rule != "max-items" {
		t.Errorf("too many entries: status %d: %s", r.Code, r.Body)
	}
	list := "[" + strings.Join(codes, ",") + "]"
	for _, step := range []struct{ who, target, body, state string }{
		{"bigdata reviewer", "review", `{"codes":` + list + `,"decision":"approve"}`, "registered"},
		{"police operator", "publish", `{"codes":` + list + `}`, "pub_pending"},
	} {
		var got api.WrittenBatch
		r := w.must(step.who, "/v1/catalog/batches/"+step.target, step.body)
		if err := json.Unmarshal(r.Body.Bytes(), &got); err != nil || got.Record.State != step.state || len(got.Record.Codes) != domain.MaxBatch {
			t.Errorf("%s: state %s of %d: %v", step.target, got.Record.State, len(got.Record.Codes), err)
		}
	}
	// A batch in the wrong state tells it, too.
	checkWrongState(t, "batch", w.do("police operator", http.MethodPost, "/v1/catalog/batches/publish", `{"codes":`+list+`}`), "pub_pending")
}

func TestIdempotencyKeys(t *testing.T) {
	h, g, _ := newTest(t)
	ask := func(key string, role domain.Role, values ...string) (*httptest.ResponseRecorder, string) {
		g.reset()
		s := samples[key]
		s.role = role
		method, _, _ := strings.Cut(key, " ")
		r := s.request(method)
		r.Header[idempotencyKey] = values
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w, g.caller.Operation
	}
	keyed := 0
	for key, op := range contract(t) {
		if op.route.Method != http.MethodPost {
			continue
		}
		// These write no ledger, or go on with what was named before.
		if want := !slices.Contains([]string{"POST /v1/operations/{id}/signature", "POST /v1/access-records", "POST /v1/catalog/validate", "POST /v1/verify", "POST /verify"}, key); op.keyed != want {
			t.Errorf("%s: takes a key: %v, want %v", key, op.keyed, want)
		}
		if !op.keyed {
			continue
		}
		keyed++
		w, operation := ask(key, samples[key].role, "case-17")
		if w.Code >= 300 || len(operation) != 32 {
			t.Errorf("%s: status %d, operation %q", key, w.Code, operation)
		}
		if _, without := ask(key, samples[key].role); without != "" {
			t.Errorf("%s: operation %q without a key", key, without)
		}
		w, _ = ask(key, samples[key].role, "a b")
		if p := checkProblem(t, key, w); w.Code != http.StatusBadRequest || len(p.Fields) != 1 || p.Fields[0].Field != "header Idempotency-Key" {
			t.Errorf("%s: a bad key: status %d: %s", key, w.Code, w.Body)
		}
	}
	if keyed < 30 {
		t.Errorf("only %d operations take a key", keyed)
	}
	// The identifier stays the same for one key and differs between all others.
	const publish = "POST /v1/catalog/entries/{code}/actions/publish"
	seen := make(map[string]string)
	for _, role := range []domain.Role{domain.RoleOperator, domain.RoleReviewer} {
		for _, value := range []string{"case-17", "case-18", "r", "operator", strings.Repeat("k", 128)} {
			_, once := ask(publish, role, value)
			if _, again := ask(publish, role, value); again != once {
				t.Errorf("key %q of %s: %s, then %s", value, role, once, again)
			}
			if other, taken := seen[once]; taken {
				t.Errorf("key %q of %s is the operation of %s", value, role, other)
			}
			seen[once] = string(role) + " " + value
		}
	}
	if got, want := domain.OperationOf("police", domain.RoleOperator, "case-17"), "155ab7e1f664a667eaad8a4b451b6d08"; got != want {
		t.Errorf("the operation of a key is %s, was %s: clients would repeat what was done", got, want)
	}
}

// An export that fails before its first byte is a problem; one that fails later
// breaks off, so that nobody takes a part for the whole.
func TestExport(t *testing.T) {
	h, g, log := newTest(t)
	for format, want := range map[string][3]string{
		"dcat-ap": {"application/ld+json", `attachment; filename="catalog.jsonld"`, "{}\n"},
		"csv":     {"text/csv; charset=utf-8", `attachment; filename="catalog.csv"`, "code\n"},
	} {
		g.reset()
		w := send(h, http.MethodGet, "/v1/catalog/export?format="+format, domain.RoleAuditor, "")
		got := [3]string{w.Header().Get("Content-Type"), w.Header().Get("Content-Disposition"), w.Body.String()}
		if diff := cmp.Diff(want, got); diff != "" || w.Code != http.StatusOK {
			t.Errorf("%s: status %d (-want +got):\n%s", format, w.Code, diff)
		}
		if left := time.Until(deadlineOf(g.ctx)); left < writeDeadline {
			t.Errorf("%s: has %v to be sent", format, left)
		}
	}
	g.reset()
	g.err = errors.New("the index is gone")
	w := send(h, http.MethodGet, "/v1/catalog/export?format=csv", domain.RoleAuditor, "")
	if checkProblem(t, "early", w); w.Code != http.StatusInternalServerError || w.Header().Get("Content-Disposition") != "" {
		t.Errorf("status %d, headers %v", w.Code, w.Header())
	}

	g.late = true
	server := httptest.NewServer(h)
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/v1/catalog/export?format=csv", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer zl_auditor")
	resp, err := server.Client().Do(r)
	if err == nil {
		defer resp.Body.Close()
		_, err = io.ReadAll(resp.Body)
	}
	if err == nil {
		t.Error("an export that failed was received as complete")
	}
	if !strings.Contains(log.String(), "the index is gone") {
		t.Errorf("the log does not say why the export broke off: %s", log)
	}
}

func deadlineOf(ctx context.Context) time.Time {
	at, _ := ctx.Deadline()
	return at
}

// TestOverview reads inbox, indicators, histories and filters of a real index.
func TestOverview(t *testing.T) {
	w := newWorld(t)
	accepted, refused := w.request("accepted"), w.request("refused")
	w.entry("reg_pending")

	inbox := func(who, query string) []string {
		r := w.do(who, http.MethodGet, "/v1/inbox"+query, "")
		var page api.InboxItemList
		if err := json.Unmarshal(r.Body.Bytes(), &page); err != nil || r.Code != http.StatusOK {
			t.Fatalf("status %d: %s", r.Code, r.Body)
		}
		var out []string
		for _, item := range page.Items {
			out = append(out, item.Task.Transaction)
			if item.Task.DueAt == nil || item.Overdue != (query == "?overdue=true") {
				t.Errorf("%s: item %+v", who, item)
			}
		}
		return out
	}
	if diff := cmp.Diff([]string{"sharing:Answer"}, inbox("police reviewer", "")); diff != "" {
		t.Errorf("inbox of the provider (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"catalog:Review"}, inbox("bigdata reviewer", "?role=reviewer")); diff != "" {
		t.Errorf("inbox of the lead (-want +got):\n%s", diff)
	}
	if got := inbox("police reviewer", "?overdue=true"); got != nil {
		t.Errorf("overdue already: %v", got)
	}
	w.pass()
	if diff := cmp.Diff([]string{"sharing:Answer"}, inbox("police reviewer", "?overdue=true")); diff != "" {
		t.Errorf("overdue (-want +got):\n%s", diff)
	}

	requests := func(query string) (ids []string) {
		for _, item := range read[api.ShareRequestList](w, "/v1/requests?"+query).Items {
			ids = append(ids, item.Record.Content.ID)
		}
		return ids
	}
	for query, want := range map[string][]string{
		"provider=police":                   {accepted, refused},
		"provider=civil":                    nil,
		"consumer=civil&state=refused":      {refused},
		"overdue=true&state=accepted":       {accepted},
		"changedSince=2026-01-01T00:00:00Z": {accepted, refused},
		"changedSince=2029-01-01T00:00:00Z": nil,
	} {
		if diff := cmp.Diff(want, requests(query)); diff != "" {
			t.Errorf("requests with %s (-want +got):\n%s", query, diff)
		}
	}
	for query, want := range map[string]int{
		"provider=police&shareType=2": 2, "shareType=1": 0, "state=published": 1, "overdue=true": 1, "text=" + url.QueryEscape("常住人口"): 2, "text=none": 0,
	} {
		if got := len(read[api.CatalogEntryList](w, "/v1/catalog/entries?"+query).Items); got != want {
			t.Errorf("%d entries with %s, want %d", got, query, want)
		}
	}

	indicators := read[api.Indicators](w, "/v1/indicators")
	if len(indicators.Items) < 7 || uint64(indicators.Height) != w.chain.Height() {
		t.Errorf("indicators: %+v", indicators)
	}
	for _, i := range indicators.Items {
		if i.NameZh == "" || i.Query == "" || i.Definition == "" {
			t.Errorf("indicator %+v lacks words", i)
		}
		if r := w.do("police auditor", http.MethodGet, i.Records, ""); r.Code != http.StatusOK {
			t.Errorf("%s: its records %s: status %d: %s", i.Code, i.Records, r.Code, r.Body)
		}
	}

	changed := w.entry("change_pending")
	w.must("bigdata reviewer", entryAction(changed, "review"), `{"decision":"approve"}`)
	path := "/v1/catalog/entries/" + strings.ReplaceAll(changed, "/", "%2F")
	history := read[api.CatalogHistory](w, path+"/history")
	var fields []string
	for _, step := range history.Items {
		for _, c := range step.Changes {
			fields = append(fields, c.Field)
		}
	}
	if diff := cmp.Diff([]string{"abstract"}, fields); diff != "" {
		t.Errorf("changes in the history (-want +got):\n%s", diff)
	}
	if v := read[api.WrittenCatalogVersion](w, path+"/versions/2"); v.Record.Version != 2 || v.Record.Content.Abstract != "常住人口登记信息，更新" {
		t.Errorf("version 2 is %+v", v.Record)
	}
	if got := len(read[api.RequestEventList](w, "/v1/requests/"+refused+"/history").Items); got != 3 {
		t.Errorf("the refused request has %d events, want 3", got)
	}
	if got := len(read[api.GrantEventList](w, "/v1/grants/"+w.grant("suspended")+"/history").Items); got != 2 {
		t.Errorf("the suspended grant has %d events, want 2", got)
	}
	if got := len(read[api.CalendarList](w, "/v1/calendars").Items); got != 4 {
		t.Errorf("%d calendars, want 4", got)
	}
	if got := len(read[api.RuleList](w, "/v1/rules").Items); got != len(domain.DeadlineEvents) {
		t.Errorf("%d rules, want %d", got, len(domain.DeadlineEvents))
	}
}
