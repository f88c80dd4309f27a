package httpapi

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// answer sends a sample with headers, given as name, value, ….
func answer(h http.Handler, key string, headers ...string) *httptest.ResponseRecorder {
	method, _, _ := strings.Cut(key, " ")
	r := samples[key].request(method)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestOperationStates(t *testing.T) {
	h, g, _ := newTest(t)
	kept := testOperation
	t.Cleanup(func() { testOperation = kept })
	key := "GET /v1/operations/{id}"

	rejected := decode[api.Operation](t, answer(h, key))
	if rejected.State != "rejected" || rejected.Problem == nil || rejected.Problem.Code != api.ProblemCodeExists || rejected.SettledAt == nil {
		t.Errorf("rejected: %+v", rejected)
	}
	if g.got != testRef || g.caller.Department != "police" {
		t.Errorf("asked for %v as %+v", g.got, g.caller)
	}
	testOperation.Refusal = nil
	if p := decode[api.Operation](t, answer(h, key)).Problem; p == nil || p.Code != api.ProblemCodeInternal || p.Detail != rejectedDetail {
		t.Errorf("rejected without a rule: %+v", p)
	}
	testOperation = ledger.Operation{ID: testRef, Transaction: "catalog:Register", State: ledger.Pending, Accepted: testTime}
	w := answer(h, key)
	if o := decode[api.Operation](t, w); o.State != "pending" || o.TransactionID != "" || o.SettledAt != nil || w.Header().Get("Retry-After") != "2" {
		t.Errorf("pending: %+v, %v", o, w.Header())
	}
	testOperation.RetryAfter = 7 * time.Second
	if got := answer(h, key).Header().Get("Retry-After"); got != "7" {
		t.Errorf("pending, behind others: Retry-After %s", got)
	}
	testOperation.State, testOperation.TxID, testOperation.Settled = ledger.Committed, testTx, testTime
	testOperation.Receipt = ledger.Receipt{Position: testPosition, Result: []byte(`{"code":"x"}`)}
	if o := decode[api.Operation](t, answer(h, key)); o.Block != 17 || string(o.Record) != `{"code":"x"}` || o.TransactionID != testTx {
		t.Errorf("committed: %+v", o)
	}
}

func TestUnknownOutcomeNamesTheOperation(t *testing.T) {
	for _, tt := range []struct {
		err  ledger.OutcomeUnknownError
		want api.OutcomeUnknown
	}{
		{ledger.OutcomeUnknownError{Operation: testRef}, api.OutcomeUnknown{Operation: "/v1/operations/" + testRef}},
		{ledger.OutcomeUnknownError{Operation: testRef, TxID: testTx}, api.OutcomeUnknown{Operation: "/v1/operations/" + testRef, TransactionID: testTx}},
		{ledger.OutcomeUnknownError{TxID: testTx}, api.OutcomeUnknown{Operation: "/v1/chain/transactions/" + testTx, TransactionID: testTx}},
		{ledger.OutcomeUnknownError{Operation: testRef, RetryAfter: 10500 * time.Millisecond}, api.OutcomeUnknown{Operation: "/v1/operations/" + testRef}},
	} {
		after := "2"
		if tt.err.RetryAfter != 0 {
			after = "11"
		}
		h, g, _ := newTest(t)
		tt.err.Err = errors.New("x")
		g.err = &tt.err
		w := answer(h, "POST /v1/logs")
		if diff := cmp.Diff(tt.want, decode[api.OutcomeUnknown](t, w)); w.Code != http.StatusAccepted || diff != "" || w.Header().Get("Location") != tt.want.Operation || w.Header().Get("Retry-After") != after {
			t.Errorf("status %d, %v, want to ask after %s s (-want +got):\n%s", w.Code, w.Header(), after, diff)
		}
	}
}

// TestNoRoom refuses a write for which the gateway has no room.
func TestNoRoom(t *testing.T) {
	for _, tt := range []struct {
		wait                            time.Duration
		accept, after, language, detail string
	}{
		{11500 * time.Millisecond, "", "12", "en", fullDetail},
		{30 * time.Second, "zh-CN", "30", "zh", detailsZh[fullDetail]},
		{0, "zh", "1", "zh", detailsZh[fullDetail]},
	} {
		h, g, _ := newTest(t)
		g.err = fmt.Errorf("submit: %w", &ledger.BusyError{Writes: 9, RetryAfter: tt.wait})
		w := answer(h, "POST /v1/logs", "Accept-Language", tt.accept)
		p := decode[api.Problem](t, w)
		if w.Code != http.StatusTooManyRequests || p.Code != api.ProblemCodeRateLimited || p.Detail != tt.detail || tt.detail == "" ||
			w.Header().Get("Retry-After") != tt.after || w.Header().Get("Content-Language") != tt.language {
			t.Errorf("after %s in %q: status %d, %v, %+v", tt.wait, tt.accept, w.Code, w.Header(), p)
		}
	}
}

func TestPrefer(t *testing.T) {
	h, g, _ := newTest(t)
	const none = time.Duration(-1)
	for _, tt := range []struct {
		key, prefer, applied string
		wait                 time.Duration
	}{
		{"k", "respond-async", "respond-async", 0},
		{"k", "Respond-Async, wait=10", "wait=10", 10 * time.Second},
		{"k", `handling=lenient, wait="3"`, "wait=3", 3 * time.Second},
		{"k", "wait=-1", "", none},
		{"k", "wait=99999999999999999999", "", none},
		{"k", "return=minimal", "", none},
		{"", "respond-async", "", none},
	} {
		headers := []string{"Prefer", tt.prefer}
		if tt.key != "" {
			headers = append(headers, idempotencyKey, tt.key)
		}
		w := answer(h, "POST /v1/logs", headers...)
		wait, bounded := ledger.WaitOf(g.ctx)
		if !bounded {
			wait = none
		}
		if w.Code != http.StatusCreated || wait != tt.wait || w.Header().Get("Preference-Applied") != tt.applied {
			t.Errorf("%q with key %q: status %d, wait %v, applied %q", tt.prefer, tt.key, w.Code, wait, w.Header().Get("Preference-Applied"))
		}
	}
}

// TestDeadlineOfWrites checks how long a write is waited for before its caller is told
// to ask for it.
func TestDeadlineOfWrites(t *testing.T) {
	h, g, _ := newTest(t)
	for _, tt := range []struct {
		key, prefer string
		least, most time.Duration
	}{
		{"", "", 30 * time.Second, writeDeadline},
		{"k", "", 5 * time.Second, keyedDeadline},
		{"k", "wait=30", 30 * time.Second, writeDeadline},
	} {
		var headers []string
		if tt.key != "" {
			headers = append(headers, idempotencyKey, tt.key)
		}
		if tt.prefer != "" {
			headers = append(headers, "Prefer", tt.prefer)
		}
		w := answer(h, "POST /v1/logs", headers...)
		if left := time.Until(deadlineOf(g.ctx)); w.Code != http.StatusCreated || left < tt.least || left > tt.most {
			t.Errorf("key %q, Prefer %q: status %d, %v left, want %v to %v", tt.key, tt.prefer, w.Code, left, tt.least, tt.most)
		}
	}
}

func TestEntityTags(t *testing.T) {
	h, g, _ := newTest(t)
	for _, key := range []string{"GET /v1/catalog/entries/{code}", "GET /v1/requests/{id}", "GET /v1/grants/{id}", "GET /v1/alarms/{id}", "GET /v1/certificates/{ref}"} {
		if got := answer(h, key).Header().Get("ETag"); got != `"`+testTx+`"` {
			t.Errorf("%s: ETag %s", key, got)
		}
	}
	conditions := 0
	for key, op := range contract(t) {
		if !strings.Contains(op.route.Path, "/actions/") || strings.Contains(op.route.Path, "/issuers/") {
			continue
		}
		conditions++
		for value, want := range map[string]int{`"` + testTx + `"`: 0, "*": 0, testTx: 400, `W/"` + testTx + `"`: 400, `"` + testTx + `", "` + hex64 + `"`: 400, `"x"`: 400} {
			g.reset()
			w := answer(h, key, ifMatch, value)
			e := g.caller.Expect
			switch {
			case want == 0 && w.Code >= 300, want != 0 && w.Code != want:
				t.Errorf("%s, If-Match %s: status %d: %s", key, value, w.Code, w.Body)
			case want != 0:
				if p := decode[api.Problem](t, w); g.called != 0 || len(p.Fields) != 1 || p.Fields[0].Field != "header If-Match" {
					t.Errorf("%s, If-Match %s: %+v", key, value, p)
				}
			case value == "*" && e != nil:
				t.Errorf("%s: any version became %v", key, e)
			case value != "*" && (e == nil || e.TxID != testTx || !strings.HasSuffix(e.String(), e.ID+"="+testTx) || e.ID == ""):
				t.Errorf("%s: expectation %v", key, e)
			}
		}
	}
	if conditions < 20 {
		t.Errorf("only %d changes take a condition", conditions)
	}
	g.reset()
	g.err = domain.CheckExpected("grant~x", testTx, []byte(`{"txId":"`+hex64+`","state":"suspended"}`))
	w := answer(h, "POST /v1/grants/{id}/actions/revoke", ifMatch, `"`+testTx+`"`)
	p := decode[api.Problem](t, w)
	if w.Code != http.StatusPreconditionFailed || p.State != "suspended" || p.Code != "precondition_failed" || w.Header().Get("ETag") != `"`+hex64+`"` {
		t.Errorf("a changed record: status %d, ETag %s, %+v", w.Code, w.Header().Get("ETag"), p)
	}
}

func TestCursors(t *testing.T) {
	if testCursors.seal("") != "" {
		t.Error("the end of a list has a cursor")
	}
	for _, place := range []string{"c", "户口", strings.Repeat("x", 300)} {
		got, ok := testCursors.open(testCursors.seal(place))
		if !ok || got != place {
			t.Errorf("%q comes back as %q, %v", place, got, ok)
		}
	}
	h, g, _ := newTest(t)
	good := testCursors.seal("place")
	if w := send(h, "GET", "/v1/anchors?limit=7&cursor="+good, domain.RoleAuditor, ""); w.Code != http.StatusOK || g.got.(listArgs).Page.After != "place" || g.got.(listArgs).Page.Limit != 7 {
		t.Errorf("status %d, asked for %+v", w.Code, g.got)
	}
	other := cursors{[]byte("another key, also of 32 bytes ...")}
	for _, forged := range []string{"place", "x", good + "A", good[:len(good)-1], "A" + good[1:], good[:10], other.seal("place")} {
		g.reset()
		w := send(h, "GET", "/v1/anchors?cursor="+forged, domain.RoleAuditor, "")
		p := decode[api.Problem](t, w)
		if w.Code != http.StatusBadRequest || g.called != 0 || len(p.Fields) != 1 || p.Fields[0].Field != "query cursor" || p.Fields[0].Rule != "cursor" {
			t.Errorf("forged cursor %q: status %d, %+v", forged, w.Code, p)
		}
	}
}

func TestProblemsAreLocalised(t *testing.T) {
	h, g, _ := newTest(t)
	for _, tt := range []struct {
		accept, language, title, detail string
		err                             error
	}{
		{"", "en", "Already recorded", "entry x is recorded", &domain.Error{Kind: domain.Exists, Msg: "entry x is recorded"}},
		{"fr, *;q=0.1", "en", "Already recorded", "entry x is recorded", &domain.Error{Kind: domain.Exists, Msg: "entry x is recorded"}},
		{"en;q=0.4, zh-CN;q=0.8", "zh", "已有记录", "已有记录（entry x is recorded）", &domain.Error{Kind: domain.Exists, Msg: "entry x is recorded"}},
		{"zh;q=0.4, en", "en", "Already recorded", "entry x is recorded", &domain.Error{Kind: domain.Exists, Msg: "entry x is recorded"}},
		{"zh-CN,zh;q=0.9,en;q=0.8", "zh", "已有记录", "已有记录（entry x is recorded）", &domain.Error{Kind: domain.Exists, Msg: "entry x is recorded"}},
		{"fr, zh", "zh", "已有记录", "已有记录（entry x is recorded）", &domain.Error{Kind: domain.Exists, Msg: "entry x is recorded"}},
		{"zhx, en;q=0.1", "en", "Already recorded", "entry x is recorded", &domain.Error{Kind: domain.Exists, Msg: "entry x is recorded"}},
		{"zh", "zh", "与另一项变更冲突", "当前状态不允许此操作（x is agreed; no）", &domain.Error{Kind: domain.WrongState, Msg: "x is agreed; no"}},
		{"zh", "zh", "请求不符合要求", "/shareCondition：必填", &domain.Error{Kind: domain.Invalid, Msg: "content.shareCondition: required"}},
		{"zh-Hans", "zh", "暂时不可用", detailsZh[unavailableDetail], &ledger.UnavailableError{Err: errors.New("x")}},
		{"zh", "zh", "网关内部故障", detailsZh[internalDetail], errors.New("x")},
	} {
		g.err = tt.err
		w := answer(h, "POST /v1/logs", "Accept-Language", tt.accept)
		p := decode[api.Problem](t, w)
		if p.Title != tt.title || p.Detail != tt.detail || w.Header().Get("Content-Language") != tt.language || !strings.Contains(strings.Join(w.Header().Values("Vary"), ","), "Accept-Language") {
			t.Errorf("%q: %+v, %v", tt.accept, p, w.Header())
		}
	}
	for code, p := range problems {
		if p.titleZh == "" || p.title == "" {
			t.Errorf("%s has no title in both languages", code)
		}
	}
}

// TestDetailsAreTranslated reads the package: each fixed detail of a refusal has its
// words in Chinese.
func TestDetailsAreTranslated(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range files {
		if name := file.Name(); !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			pair, ok := n.(*ast.KeyValueExpr)
			if !ok {
				return true
			}
			key, ok := pair.Key.(*ast.Ident)
			value, literal := pair.Value.(*ast.BasicLit)
			if !ok || !literal || key.Name != "detail" {
				return true
			}
			text, err := strconv.Unquote(value.Value)
			if err != nil {
				t.Fatal(err)
			}
			found++
			if detailsZh[text] == "" {
				t.Errorf("%s: %q has no words in Chinese", file.Name(), text)
			}
			return true
		})
	}
	if found < 8 {
		t.Errorf("found %d details only", found)
	}
}

// TestReference checks the page: complete, and nothing that a browser would load
// from elsewhere or run.
func TestReference(t *testing.T) {
	h, _, _ := newTest(t)
	w := answer(h, "GET /docs/api")
	page := w.Body.String()
	if w.Code != http.StatusOK || w.Header().Get("Content-Security-Policy") != referencePolicy {
		t.Errorf("status %d, policy %q", w.Code, w.Header().Get("Content-Security-Policy"))
	}
	for _, op := range contract(t) {
		if !strings.Contains(page, `id="`+op.route.Operation.OperationID+`"`) {
			t.Errorf("the page does not have %s %s", op.route.Method, op.route.Path)
		}
	}
	for _, bad := range []string{"<script", "style=", "onclick", "ZgotmplZ"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	for _, attribute := range []string{`src="`, `href="`} {
		for rest := page; ; {
			_, after, ok := strings.Cut(rest, attribute)
			if !ok {
				break
			}
			target, _, _ := strings.Cut(after, `"`)
			if id, local := strings.CutPrefix(target, "#"); local && !strings.Contains(page, ` id="`+id+`"`) {
				t.Errorf("the page has no place %q", target)
			} else if !local && target != "/docs/api.css" && target != "/openapi.json" {
				t.Errorf("the page refers to %q", target)
			}
			rest = after
		}
	}
	if w := answer(h, "GET /docs/api.css"); w.Code != http.StatusOK || strings.Contains(w.Body.String(), "url(") || strings.Contains(w.Body.String(), "@import") {
		t.Errorf("style: status %d: %s", w.Code, w.Body)
	}
}
