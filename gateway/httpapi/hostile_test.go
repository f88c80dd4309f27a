package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

// attack is a request that nothing may come of.
type attack struct {
	method, target string
	role           domain.Role
	header         http.Header
	body           []byte
}

func (a attack) send(h http.Handler) *httptest.ResponseRecorder {
	r := httptest.NewRequest(a.method, a.target, bytes.NewReader(a.body))
	if a.body == nil {
		r.Body = http.NoBody
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer zl_"+string(a.role))
	for name, values := range a.header {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// leaf is a place in a JSON value that holds neither an object nor a list.
type leaf struct {
	value any
	set   func(any)
}

func leaves(v any, set func(any)) []leaf {
	var out []leaf
	switch v := v.(type) {
	case map[string]any:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			out = append(out, leaves(v[name], func(by any) { v[name] = by })...)
		}
	case []any:
		for i := range v {
			out = append(out, leaves(v[i], func(by any) { v[i] = by })...)
		}
	default:
		out = append(out, leaf{v, set})
	}
	return out
}

func objects(v any) []map[string]any {
	var out []map[string]any
	switch v := v.(type) {
	case map[string]any:
		out = append(out, v)
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			out = append(out, objects(v[name])...)
		}
	case []any:
		for _, each := range v {
			out = append(out, objects(each)...)
		}
	}
	return out
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// rawMark stands in a body for text that json.Marshal would not write.
const rawMark = "raw-mark"

// mutations each make an attack of a valid request with a body. They answer false
// where there is nothing to mutate.
var mutations = map[string]func(r *rand.Rand, a *attack, op *operation) bool{
	"wrong type": func(r *rand.Rand, a *attack, _ *operation) bool {
		return a.mutate(r, func(l leaf) any {
			switch l.value.(type) {
			case string:
				return pick(r, []any{nil, true, 17, []any{l.value}, map[string]any{"text": l.value}})
			case bool:
				return pick(r, []any{nil, 0, "true", []any{true}})
			}
			return pick(r, []any{nil, "7", 1.5, false, []any{7}, map[string]any{}})
		})
	},
	"deep": func(r *rand.Rand, a *attack, _ *operation) bool {
		depth := 17 + r.IntN(2000)
		return a.raw(r, pick(r, []string{
			strings.Repeat("[", depth) + strings.Repeat("]", depth), strings.Repeat(`{"a":`, depth) + "0" + strings.Repeat("}", depth),
		}))
	},
	"huge number": func(r *rand.Rand, a *attack, _ *operation) bool {
		return a.raw(r, pick(r, []string{"1e400", "-1e308", "99999999999999999999999", "1" + strings.Repeat("0", 5000), "-9223372036854775809", "1e-400000000"}))
	},
	"unknown field": func(r *rand.Rand, a *attack, _ *operation) bool {
		return a.change(func(v any) bool {
			pick(r, objects(v))[pick(r, []string{"__proto__", "constructor", "id ", "Code", "department", "role", "txId", "state", "$ref", "", "\u0000", "ｉd"})] = pick(r, []any{nil, 1, "x", map[string]any{"a": 1}})
			return true
		})
	},
	"field twice": func(r *rand.Rand, a *attack, _ *operation) bool {
		var v map[string]json.RawMessage
		if json.Unmarshal(a.body, &v) != nil || len(v) == 0 {
			return false
		}
		for name, value := range v {
			a.body = append(fmt.Appendf(nil, `{%q:%s,`, name, value), a.body[1:]...)
			break
		}
		return true
	},
	"control character": func(r *rand.Rand, a *attack, _ *operation) bool {
		return a.mutate(r, func(l leaf) any {
			s, ok := l.value.(string)
			if !ok {
				return "\u0000"
			}
			at := r.IntN(len([]rune(s)) + 1)
			return string([]rune(s)[:at]) + pick(r, []string{"\u0000", "\u202e", "\u200b", "\ufeff", "\n", "\u2028"}) + string([]rune(s)[at:])
		})
	},
	"long text": func(r *rand.Rand, a *attack, _ *operation) bool {
		return a.mutate(r, func(leaf) any { return strings.Repeat(pick(r, []string{"x", "字", "\\", "0"}), 20_000+r.IntN(10_000)) })
	},
	"long list": func(r *rand.Rand, a *attack, _ *operation) bool {
		return a.raw(r, "["+strings.Repeat(`"x",`, 2_000+r.IntN(4_000))+`"x"]`)
	},
	"not UTF-8": func(r *rand.Rand, a *attack, _ *operation) bool {
		at := r.IntN(len(a.body) + 1)
		a.body = slices.Insert(a.body, at, pick(r, [][]byte{{0xff}, {0xc0, 0xaf}, {0xed, 0xa0, 0x80}, {0xf8, 0x88, 0x80, 0x80, 0x80}, {0x80}})...)
		return true
	},
	"cut short": func(r *rand.Rand, a *attack, _ *operation) bool {
		a.body = a.body[:r.IntN(len(a.body))]
		return true
	},
	"trailing": func(r *rand.Rand, a *attack, _ *operation) bool {
		a.body = append(a.body, pick(r, []string{"{}", "]", ",", "\x00", "null", "//"})...)
		return true
	},
	"not an object": func(r *rand.Rand, a *attack, _ *operation) bool {
		a.body = []byte(pick(r, []string{"", " ", "null", "true", "17", `""`, "[]", `[{}]`, "NaN", "\ufeff{}", "<xml/>", "a=b", "{'a':1}", "{}}"}))
		return true
	},
	"media type": func(r *rand.Rand, a *attack, _ *operation) bool {
		a.header = http.Header{"Content-Type": pick(r, [][]string{
			nil, {""}, {"text/plain"}, {"application/xml"}, {"application/x-www-form-urlencoded"}, {"multipart/form-data; boundary=x"},
			{"application/jsonp"}, {"application/json, text/plain"}, {"application/json; charset"}, {strings.Repeat("a", 5000)},
		})}
		return true
	},
	"token": func(r *rand.Rand, a *attack, _ *operation) bool {
		a.header = http.Header{"Authorization": pick(r, [][]string{
			nil, {""}, {"Bearer"}, {"Bearer zl_root"}, {"Basic enw6eg=="}, {"Bearer " + strings.Repeat("x", 9000)}, {"Bearer zl_operator\x00"}, {"bearer \xff"},
		})}
		return true
	},
	"idempotency key": func(r *rand.Rand, a *attack, op *operation) bool {
		a.header = http.Header{idempotencyKey: pick(r, [][]string{
			{""}, {" "}, {"a b"}, {"键"}, {"\x7f"}, {"a\tb"}, {strings.Repeat("k", 129)}, {"a", "b"}, {"a", "a"}, {"\xff"},
		})}
		return op.keyed
	},
	"query": func(r *rand.Rand, a *attack, _ *operation) bool {
		sep := "?"
		if strings.Contains(a.target, "?") {
			sep = "&"
		}
		a.target += sep + pick(r, []string{"x=1", "draft=maybe", "draft=true&draft=false", "%00=1", "limit=1", "cursor=x", "department=bigdata", "role=admin"})
		return true
	},
	"too large": func(r *rand.Rand, a *attack, op *operation) bool {
		if r.IntN(20) > 0 { // costs a mebibyte or eight
			return false
		}
		a.body = append(a.body, bytes.Repeat([]byte(" "), int(op.maxBody))...)
		return true
	},
}

// mutate replaces a leaf of the body.
func (a *attack) mutate(r *rand.Rand, by func(leaf) any) bool {
	return a.change(func(v any) bool {
		list := leaves(v, nil)
		if len(list) == 0 {
			return false
		}
		l := pick(r, list)
		l.set(by(l))
		return true
	})
}

// raw replaces a leaf of the body by text.
func (a *attack) raw(r *rand.Rand, text string) bool {
	ok := a.mutate(r, func(leaf) any { return rawMark })
	a.body = bytes.Replace(a.body, []byte(`"`+rawMark+`"`), []byte(text), 1)
	return ok
}

func (a *attack) change(f func(any) bool) bool {
	var v any
	if err := json.Unmarshal(a.body, &v); err != nil || !f(v) {
		return false
	}
	body, err := json.Marshal(v)
	a.body = body
	return err == nil
}

// checkHostile holds the answer to an attack: a problem document that says it was
// the request's fault.
func checkHostile(t *testing.T, name string, a attack, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Code < 400 || w.Code >= 500 {
		t.Errorf("%s: %s %.200s %v: status %d: %.300s\n%.600s", name, a.method, a.target, a.header, w.Code, w.Body, a.body)
		return
	}
	if checkProblem(t, name, w); w.Body.Len() > 64<<10 {
		t.Errorf("%s: %s: the answer has %d bytes", name, a.target, w.Body.Len())
	}
}

// TestTenThousandHostileRequests sends requests that break something to every
// operation that takes a body. The real rules run behind them, up to the
// contracts.
func TestTenThousandHostileRequests(t *testing.T) {
	t.Parallel()
	const count = 10_000
	start := time.Now()
	w := newWorld(t)
	height := w.chain.Height()
	r := rand.New(rand.NewPCG(20260601, 3))
	bodies := examples()
	var keys, names []string
	for key := range bodies {
		keys = append(keys, key)
	}
	for name := range mutations {
		names = append(names, name)
	}
	slices.Sort(keys)
	slices.Sort(names)
	operations := contract(t)
	sent := make(map[string]int)
	for n := 0; n < count; {
		key, name := keys[n%len(keys)], pick(r, names)
		method, _, _ := strings.Cut(key, " ")
		a := attack{method: method, target: samples[key].target, role: samples[key].role, body: []byte(bodies[key])}
		if !mutations[name](r, &a, operations[key]) {
			continue
		}
		n++
		sent[key]++
		sent[name]++
		checkHostile(t, name, a, a.send(w.handlers["police"]))
		if t.Failed() && n > 500 {
			t.Fatal("stopped")
		}
	}
	for _, each := range slices.Concat(keys, names) {
		if sent[each] < 20 {
			t.Errorf("%s: only %d requests", each, sent[each])
		}
	}
	if got := w.chain.Height(); got != height {
		t.Errorf("%d hostile requests were written to the ledger", got-height)
	}
	if took := time.Since(start); took > time.Minute {
		t.Errorf("took %v", took)
	}
}

// TestHostileQueries sends what no list takes as a page or a filter.
func TestHostileQueries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := rand.New(rand.NewPCG(20260602, 3))
	values := []string{"", "%00", "%ff", "%ED%A0%80", "-1", "0", "201", "1e3", "999999999999999999999", "x", "..%2f..", "'%20OR%201=1--", "%E2%80%AE", strings.Repeat("A", 600)}
	sent := 0
	for key, op := range contract(t) {
		if op.public || op.route.Method != http.MethodGet || !slices.Contains(op.queries, "cursor") {
			continue
		}
		path, _, _ := strings.Cut(samples[key].target, "?")
		for range 40 {
			for _, query := range []string{"cursor=" + noise(r), "limit=" + pick(r, []string{"0", "201", "-1", "x", "1.5", "99999999999999999999"}), noise(r) + "=" + pick(r, values)} {
				a := attack{method: http.MethodGet, target: path + "?" + query, role: domain.RoleAuditor}
				sent++
				checkHostile(t, key, a, a.send(w.handlers["police"]))
			}
		}
		for _, name := range []string{"changedSince", "overdue", "shareType", "provider", "consumer", "department", "grantId", "role", "writer", "from", "order", "fromDay", "settled"} {
			if !slices.Contains(op.queries, name) {
				continue
			}
			for _, value := range values {
				if value == "0" && name == "overdue" || value == "x" && strings.HasSuffix(name, "er") {
					continue // false, and a code that no department has
				}
				a := attack{method: http.MethodGet, target: path + "?" + name + "=" + value, role: domain.RoleAuditor}
				sent++
				checkHostile(t, key, a, a.send(w.handlers["police"]))
			}
		}
	}
	if sent < 1000 {
		t.Errorf("only %d requests", sent)
	}
}

// noise is text of characters that a query may hold as they are.
func noise(r *rand.Rand) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~"
	b := make([]byte, 6+r.IntN(60))
	for i := range b {
		b[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(b)
}

// fuzzBody fuzzes the body of one operation: whatever it is, the answer is no
// failure of the gateway, and a refusal is a problem document.
func fuzzBody(f *testing.F, key string) {
	body, ok := examples()[key]
	if !ok {
		f.Fatalf("%s takes no body", key)
	}
	f.Add([]byte(body))
	f.Add([]byte(`{}`))
	f.Add([]byte(strings.ReplaceAll(body, ":", ":[")))
	w := newWorld(f)
	method, _, _ := strings.Cut(key, " ")
	f.Fuzz(func(t *testing.T, body []byte) {
		a := attack{method: method, target: samples[key].target, role: samples[key].role, body: body}
		r := a.send(w.handlers["police"])
		if r.Code >= 500 {
			t.Errorf("status %d: %s", r.Code, r.Body)
		}
		if r.Code >= 400 {
			checkProblem(t, key, r)
		}
	})
}

// fuzzed are the operations whose body a target of [fuzzBody] stands for, one for
// each kind of body.
var fuzzed = map[string]string{
	"RegisterDepartment":   "POST /v1/departments",
	"SetCalendar":          "POST /v1/calendars",
	"SetRule":              "POST /v1/rules",
	"RegisterLog":          "POST /v1/logs",
	"CatalogContent":       "POST /v1/catalog/entries",
	"RegisterCatalogBatch": "POST /v1/catalog/batches/register",
	"ReviewCatalogBatch":   "POST /v1/catalog/batches/review",
	"CatalogCodes":         "POST /v1/catalog/batches/publish",
	"ReviewCatalogEntry":   "POST /v1/catalog/entries/{code}/actions/review",
	"RetireCatalogEntry":   "POST /v1/catalog/entries/{code}/actions/retire",
	"ShareRequestContent":  "POST /v1/requests",
	"AcceptRequest":        "POST /v1/requests/{id}/actions/accept",
	"AnswerRequest":        "POST /v1/requests/{id}/actions/answer",
	"ExtendRequest":        "POST /v1/requests/{id}/actions/extend",
	"DecideExtension":      "POST /v1/requests/{id}/actions/decide-extension",
	"MediateRequest":       "POST /v1/requests/{id}/actions/mediate",
	"DeliverRequest":       "POST /v1/requests/{id}/actions/deliver",
	"ConfirmRequest":       "POST /v1/requests/{id}/actions/confirm",
	"Reason":               "POST /v1/requests/{id}/actions/dispute",
	"RecordAccess":         "POST /v1/access-records",
	"RaiseAlarm":           "POST /v1/alarms",
	"CloseAlarm":           "POST /v1/alarms/{id}/actions/close",
	"IssueCertificate":     "POST /v1/certificates",

	"IssueCertificateBatch":    "POST /v1/certificates/batch",
	"ProposeCertificateChange": "POST /v1/certificates/{ref}/actions/propose",
	"DecideCertificate":        "POST /v1/certificates/{ref}/actions/decide",
	"DecideCertificateBatch":   "POST /v1/certificates/decisions",
	"AuthoriseIssuer":          "POST /v1/issuers",
	"SignOperation":            "POST /v1/operations/{id}/signature",
}

func FuzzBodyOfRegisterDepartment(f *testing.F)   { fuzzBody(f, fuzzed["RegisterDepartment"]) }
func FuzzBodyOfSetCalendar(f *testing.F)          { fuzzBody(f, fuzzed["SetCalendar"]) }
func FuzzBodyOfSetRule(f *testing.F)              { fuzzBody(f, fuzzed["SetRule"]) }
func FuzzBodyOfRegisterLog(f *testing.F)          { fuzzBody(f, fuzzed["RegisterLog"]) }
func FuzzBodyOfCatalogContent(f *testing.F)       { fuzzBody(f, fuzzed["CatalogContent"]) }
func FuzzBodyOfRegisterCatalogBatch(f *testing.F) { fuzzBody(f, fuzzed["RegisterCatalogBatch"]) }
func FuzzBodyOfReviewCatalogBatch(f *testing.F)   { fuzzBody(f, fuzzed["ReviewCatalogBatch"]) }
func FuzzBodyOfCatalogCodes(f *testing.F)         { fuzzBody(f, fuzzed["CatalogCodes"]) }
func FuzzBodyOfReviewCatalogEntry(f *testing.F)   { fuzzBody(f, fuzzed["ReviewCatalogEntry"]) }
func FuzzBodyOfRetireCatalogEntry(f *testing.F)   { fuzzBody(f, fuzzed["RetireCatalogEntry"]) }
func FuzzBodyOfShareRequestContent(f *testing.F)  { fuzzBody(f, fuzzed["ShareRequestContent"]) }
func FuzzBodyOfAcceptRequest(f *testing.F)        { fuzzBody(f, fuzzed["AcceptRequest"]) }
func FuzzBodyOfAnswerRequest(f *testing.F)        { fuzzBody(f, fuzzed["AnswerRequest"]) }
func FuzzBodyOfExtendRequest(f *testing.F)        { fuzzBody(f, fuzzed["ExtendRequest"]) }
func FuzzBodyOfDecideExtension(f *testing.F)      { fuzzBody(f, fuzzed["DecideExtension"]) }
func FuzzBodyOfMediateRequest(f *testing.F)       { fuzzBody(f, fuzzed["MediateRequest"]) }
func FuzzBodyOfDeliverRequest(f *testing.F)       { fuzzBody(f, fuzzed["DeliverRequest"]) }
func FuzzBodyOfConfirmRequest(f *testing.F)       { fuzzBody(f, fuzzed["ConfirmRequest"]) }
func FuzzBodyOfReason(f *testing.F)               { fuzzBody(f, fuzzed["Reason"]) }
func FuzzBodyOfRecordAccess(f *testing.F)         { fuzzBody(f, fuzzed["RecordAccess"]) }
func FuzzBodyOfRaiseAlarm(f *testing.F)           { fuzzBody(f, fuzzed["RaiseAlarm"]) }
func FuzzBodyOfCloseAlarm(f *testing.F)           { fuzzBody(f, fuzzed["CloseAlarm"]) }
func FuzzBodyOfIssueCertificate(f *testing.F)     { fuzzBody(f, fuzzed["IssueCertificate"]) }
func FuzzBodyOfIssueCertificateBatch(f *testing.F) {
	fuzzBody(f, fuzzed["IssueCertificateBatch"])
}

func FuzzBodyOfProposeCertificateChange(f *testing.F) {
	fuzzBody(f, fuzzed["ProposeCertificateChange"])
}
func FuzzBodyOfDecideCertificate(f *testing.F) { fuzzBody(f, fuzzed["DecideCertificate"]) }
func FuzzBodyOfDecideCertificateBatch(f *testing.F) {
	fuzzBody(f, fuzzed["DecideCertificateBatch"])
}
func FuzzBodyOfSignOperation(f *testing.F)   { fuzzBody(f, fuzzed["SignOperation"]) }
func FuzzBodyOfAuthoriseIssuer(f *testing.F) { fuzzBody(f, fuzzed["AuthoriseIssuer"]) }

func TestEveryKindOfBodyIsFuzzed(t *testing.T) {
	kinds := make(map[string]bool)
	for key, op := range contract(t) {
		if op.media != jsonMedia {
			continue
		}
		ref := op.route.Operation.RequestBody.Value.Content["application/json"].Schema.Ref
		kind := ref[strings.LastIndex(ref, "/")+1:]
		kinds[kind] = true
		if fuzzed[kind] == "" {
			t.Errorf("%s: nothing fuzzes %s", key, kind)
		}
	}
	if len(kinds) != len(fuzzed) {
		t.Errorf("%d kinds of bodies, %d are fuzzed", len(kinds), len(fuzzed))
	}
}
