package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
)

// The rule table of this file is written down from the law and the policy
// documents, not derived from the machines that the code runs.

// mayCall says which roles may call an operation; what is not listed, all may.
var mayCall = func() map[string][]domain.Role {
	const (
		admin, operator, reviewer = domain.RoleAdmin, domain.RoleOperator, domain.RoleReviewer
		auditor, gateway          = domain.RoleAuditor, domain.RoleGateway
	)
	m := map[string][]domain.Role{
		"POST /v1/departments":                                   {admin},
		"POST /v1/logs":                                          {admin},
		"POST /v1/calendars":                                     {admin},
		"POST /v1/rules":                                         {admin},
		"POST /v1/catalog/entries":                               {operator},
		"POST /v1/catalog/batches/register":                      {operator},
		"POST /v1/catalog/batches/review":                        {reviewer},
		"POST /v1/catalog/batches/publish":                       {operator},
		"POST /v1/catalog/entries/{code}/actions/submit":         {operator},
		"POST /v1/catalog/entries/{code}/actions/review":         {reviewer},
		"POST /v1/catalog/entries/{code}/actions/publish":        {operator},
		"POST /v1/catalog/entries/{code}/actions/change":         {operator},
		"POST /v1/catalog/entries/{code}/actions/retire":         {operator},
		"POST /v1/catalog/entries/{code}/actions/require-update": {operator, reviewer},
		"POST /v1/catalog/entries/{code}/actions/mark-overdue":   {operator, reviewer, gateway},
		"POST /v1/requests":                                      {operator},
		"POST /v1/requests/{id}/actions/accept":                  {reviewer},
		"POST /v1/requests/{id}/actions/supplement":              {operator},
		"POST /v1/requests/{id}/actions/answer":                  {reviewer},
		"POST /v1/requests/{id}/actions/extend":                  {reviewer},
		"POST /v1/requests/{id}/actions/decide-extension":        {reviewer},
		"POST /v1/requests/{id}/actions/dispute":                 {operator},
		"POST /v1/requests/{id}/actions/mediate":                 {reviewer},
		"POST /v1/requests/{id}/actions/deliver":                 {operator},
		"POST /v1/requests/{id}/actions/confirm":                 {operator},
		"POST /v1/requests/{id}/actions/withdraw":                {operator},
		"POST /v1/requests/{id}/actions/close":                   {operator},
		"POST /v1/requests/{id}/actions/mark-overdue":            {operator, reviewer, gateway},
		"POST /v1/grants/{id}/actions/suspend":                   {reviewer},
		"POST /v1/grants/{id}/actions/resume":                    {reviewer},
		"POST /v1/grants/{id}/actions/revoke":                    {reviewer},
		"POST /v1/access-records":                                {operator, gateway},
		"GET /v1/audit/trace":                                    {auditor},
		"GET /v1/audit/totals":                                   {auditor},
		"GET /v1/audit/reconciliation":                           {auditor},
		"GET /v1/audit/reconciliation/calls":                     {auditor},
		"GET /v1/audit/logs":                                     {auditor},
		"GET /v1/logs/{department}/tile/entries/{path}":          {auditor},
		"POST /v1/alarms":                                        {auditor, gateway},
		"POST /v1/alarms/{id}/actions/close":                     {reviewer},
		"POST /v1/certificates":                                  {operator},
		"POST /v1/certificates/batch":                            {operator},
		"POST /v1/certificates/decisions":                        {reviewer},
		"POST /v1/certificates/{ref}/actions/propose":            {operator},
		"POST /v1/certificates/{ref}/actions/decide":             {reviewer},
		"GET /v1/certificates/{ref}/print.pdf":                   {operator},
		"POST /v1/issuers":                                       {admin},
		"POST /v1/issuers/{department}/{typeCode}/actions/end":   {admin},
	}
	return m
}()

// leadsAlone are the operations of the lead's departments only.
var leadsAlone = []string{"POST /v1/departments", "POST /v1/calendars", "POST /v1/rules", "POST /v1/issuers"}

// TestRolesOfEveryOperation sends every operation as every role of the lead and of
// another department. No record is there to be changed, so that the answer to a
// role that may is anything but forbidden.
func TestRolesOfEveryOperation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	operations := contract(t)
	for key := range mayCall {
		if operations[key] == nil {
			t.Errorf("%s is no operation", key)
		}
	}
	cells := 0
	for key, op := range operations {
		s := samples[key]
		for _, department := range []domain.DepartmentCode{"bigdata", "market"} {
			for _, role := range domain.Roles {
				cells++
				roles, limited := mayCall[key]
				want := !limited || slices.Contains(roles, role)
				if department != "bigdata" && slices.Contains(leadsAlone, key) {
					want = false
				}
				as := s
				as.role = role
				r := httptest.NewRecorder()
				w.handlers[department].ServeHTTP(r, as.request(op.route.Method))
				if r.Code >= 500 {
					t.Errorf("%s as %s of %s: status %d: %s", key, role, department, r.Code, r.Body)
				}
				if got := r.Code != http.StatusForbidden; got != want {
					t.Errorf("%s as %s of %s: allowed %v, want %v: %d %s", key, role, department, got, want, r.Code, r.Body)
				}
			}
		}
	}
	if want := len(operations) * 2 * len(domain.Roles); cells != want || cells < 500 {
		t.Errorf("%d cells, want %d", cells, want)
	}
}

// function is something that may be done to a record.
type function struct {
	name   string
	action string
	body   string
	role   string
	by     []string // departments that may
	from   []string // states in which they may
	ready  func(w *world, id, state string)
}

var everyDepartment = []string{"bigdata", "police", "civil", "market"}

func passed(w *world, _, _ string) { w.pass() }

func ask(w *world, id, _ string) {
	w.t.Helper()
	w.must("police reviewer", "/v1/requests/"+id+"/actions/extend", `{"days":2,"reason":"核对口径"}`)
}

var requestStates = []string{"submitted", "returned", "accepted", "extended", "agreed", "partly_agreed", "refused", "disputed", "mediated", "delivered", "active", "closed", "withdrawn"}

var requestFunctions = func() []function {
	open := []string{"accepted", "extended", "mediated"} // wait for the answer
	limited := []string{"submitted", "accepted", "extended", "mediated", "agreed", "partly_agreed", "delivered", "disputed"}
	lead, provider, consumer := []string{"bigdata"}, []string{"police"}, []string{"civil"}
	list := []function{
		{"accept", "accept", `{"decision":"accept"}`, "reviewer", lead, []string{"submitted"}, nil},
		{"return", "accept", `{"decision":"return","reason":"补正"}`, "reviewer", lead, []string{"submitted"}, nil},
		{"supplement", "supplement", "request", "operator", consumer, []string{"returned"}, nil},
		{"agree", "answer", `{"decision":"agree"}`, "reviewer", provider, open, nil},
		{"agree in part", "answer", partly, "reviewer", provider, open, nil},
		{"refuse", "answer", `{"decision":"refuse","reason":"涉密","legalBasis":["保密法"]}`, "reviewer", provider, open, nil},
		{"extend", "extend", `{"days":2,"reason":"核对口径"}`, "reviewer", provider, open, nil},
		{"grant an extension", "decide-extension", `{"decision":"grant"}`, "reviewer", lead, open, ask},
		{"deny an extension", "decide-extension", `{"decision":"deny","reason":"不必"}`, "reviewer", lead, open, ask},
		{"dispute", "dispute", reason, "operator", consumer, []string{"refused", "accepted", "extended", "mediated"}, func(w *world, _, state string) {
			if state != "refused" { // silence is disputed when it is overdue, a refusal at once
				w.pass()
			}
		}},
		{"uphold", "mediate", `{"decision":"uphold","reason":"有依据"}`, "reviewer", lead, []string{"disputed"}, nil},
		{"remand", "mediate", `{"decision":"remand","reason":"重新答复"}`, "reviewer", lead, []string{"disputed"}, nil},
		{"deliver", "deliver", `{"deliveryDigest":"` + hex64 + `"}`, "operator", provider, []string{"agreed", "partly_agreed"}, nil},
		{"confirm", "confirm", `{"decision":"confirm"}`, "operator", consumer, []string{"delivered"}, nil},
		{"reject", "confirm", `{"decision":"reject","reason":"未收到"}`, "operator", consumer, []string{"delivered"}, nil},
		{"withdraw", "withdraw", reason, "operator", consumer, []string{"submitted", "returned", "accepted", "extended", "disputed", "mediated"}, nil},
		{"close", "close", reason, "operator", consumer, []string{"active", "refused"}, nil},
	}
	for _, role := range []string{"operator", "reviewer", "gateway"} {
		list = append(list, function{"mark overdue as " + role, "mark-overdue", "", role, everyDepartment, limited, passed})
	}
	return list
}()

var entryStates = []string{"draft", "reg_pending", "registered", "reg_rejected", "pub_pending", "pub_rejected", "published", "change_pending", "offline_pending", "offline", "retired"}

var entryFunctions = func() []function {
	pending := []string{"reg_pending", "pub_pending", "change_pending", "offline_pending"} // wait for a review
	lead, provider := []string{"bigdata"}, []string{"police"}
	list := []function{
		{"keep as a draft", "register?draft=true", "content", "operator", provider, []string{"draft", "reg_rejected"}, nil},
		{"register", "register", "content", "operator", provider, []string{"draft", "reg_rejected", "pub_rejected"}, nil},
		{"submit", "submit", "", "operator", provider, []string{"draft"}, nil},
		{"approve", "review", `{"decision":"approve"}`, "reviewer", lead, pending, nil},
		{"return", "review", `{"decision":"return","opinion":"补正"}`, "reviewer", lead, pending, nil},
		{"publish", "publish", "", "operator", provider, []string{"registered", "pub_rejected", "offline"}, nil},
		{"change", "change", "content", "operator", provider, []string{"published"}, nil},
		{"take offline", "retire", `{"way":"offline","reason":"职责调整"}`, "operator", provider, []string{"published"}, nil},
		{"withdraw", "retire", `{"way":"retire","reason":"职责调整"}`, "operator", provider, []string{"draft", "reg_rejected", "registered", "pub_rejected", "offline"}, nil},
		{"report a change of duties", "require-update", reason, "operator", provider, []string{"published"}, nil},
		{"find a change of duties", "require-update", reason, "reviewer", lead, []string{"published"}, nil},
	}
	for _, role := range []string{"operator", "reviewer", "gateway"} {
		list = append(list, function{"mark overdue as " + role, "mark-overdue", "", role, everyDepartment, slices.Concat(pending, []string{"published"}), func(w *world, code, state string) {
			if state == "published" { // waits for nothing unless its duties changed
				w.must("police operator", entryAction(code, "require-update"), reason)
			}
			w.pass()
		}})
	}
	return list
}()

var grantStates = []string{"active", "suspended", "revoked"}

var grantFunctions = []function{
	{"suspend", "suspend", reason, "reviewer", []string{"police", "bigdata"}, []string{"active"}, nil},
	{"resume", "resume", reason, "reviewer", []string{"police", "bigdata"}, []string{"suspended"}, nil},
	{"revoke", "revoke", reason, "reviewer", []string{"police", "bigdata"}, []string{"active", "suspended"}, nil},
}

// TestEveryFunctionInEveryState does everything to a record in every state, as
// every department, and reads the answer against the tables above.
func TestEveryFunctionInEveryState(t *testing.T) {
	t.Parallel()
	kinds := []struct {
		name      string
		states    []string
		functions []function
		make      func(w *world, state string) string
		target    func(id, action string) string
		read      func(id string) string
	}{
		{"request", requestStates, requestFunctions, (*world).request,
			func(id, action string) string { return "/v1/requests/" + id + "/actions/" + action },
			func(id string) string { return "/v1/requests/" + id }},
		{"entry", entryStates, entryFunctions, (*world).entry,
			func(code, action string) string {
				if rest, ok := strings.CutPrefix(action, "register"); ok {
					return "/v1/catalog/entries" + rest
				}
				return entryAction(code, action)
			},
			func(code string) string { return "/v1/catalog/entries/" + strings.ReplaceAll(code, "/", "%2F") }},
		{"grant", grantStates, grantFunctions, (*world).grant,
			func(id, action string) string { return "/v1/grants/" + id + "/actions/" + action },
			func(id string) string { return "/v1/grants/" + id }},
	}
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			resting := make(map[string]string) // a record of each state, which nothing changes
			for _, state := range kind.states {
				resting[state] = kind.make(w, state)
				got := read[struct{ Record struct{ State string } }](w, kind.read(resting[state])).Record.State
				if got != state {
					t.Fatalf("the record is %s, want %s", got, state)
				}
			}
			cells := 0
			for _, f := range kind.functions {
				for _, state := range kind.states {
					allowed := slices.Contains(f.from, state)
					id := resting[state]
					if allowed {
						id = kind.make(w, state)
						if f.ready != nil {
							f.ready(w, id, state)
						}
					}
					body := f.body
					switch body {
					case "content":
						body = content(id, "，再更新")
					case "request":
						body = request(id, w.published)
					}
					for _, department := range everyDepartment {
						if slices.Contains(f.by, department) {
							continue
						}
						cells++
						r := w.do(department+" "+f.role, http.MethodPost, kind.target(id, f.action), body)
						// A code belongs to its first provider; another one learns that it is taken.
						want := http.StatusForbidden
						if strings.HasPrefix(f.action, "register") {
							want = http.StatusConflict
						}
						if r.Code != want {
							t.Errorf("%s of a record that is %s, by %s: status %d, want %d: %s", f.name, state, department, r.Code, want, r.Body)
						}
					}
					for _, department := range f.by {
						cells++
						if allowed && department != f.by[0] {
							id = kind.make(w, state)
							if f.ready != nil {
								f.ready(w, id, state)
							}
							if f.body == "content" {
								body = content(id, "，再更新")
							}
						}
						r := w.do(department+" "+f.role, http.MethodPost, kind.target(id, f.action), body)
						name := fmt.Sprintf("%s of a record that is %s, by %s", f.name, state, department)
						if allowed {
							if r.Code != http.StatusOK && r.Code != http.StatusCreated {
								t.Errorf("%s: status %d: %s", name, r.Code, r.Body)
							}
							continue
						}
						checkWrongState(t, name, r, state)
					}
				}
			}
			if want := len(kind.functions) * len(kind.states) * len(everyDepartment); cells != want {
				t.Errorf("%d cells, want %d", cells, want)
			}
			for state, id := range resting {
				if got := read[struct{ Record struct{ State string } }](w, kind.read(id)).Record.State; got != state {
					t.Errorf("a refused function moved a record from %s to %s", state, got)
				}
			}
		})
	}
}

// checkWrongState holds a refusal to what the contract says of a record's state.
func checkWrongState(t *testing.T, name string, r *httptest.ResponseRecorder, state string) {
	t.Helper()
	if p := checkProblem(t, name, r); r.Code != http.StatusConflict || p.Code != api.ProblemCodeConflict || p.State != state {
		t.Errorf("%s: status %d, code %s, state %q; want conflict in state %s: %s", name, r.Code, p.Code, p.State, state, r.Body)
	}
}

// Fifty answers meet on one request, all run on the same state: one takes effect,
// every other one is told the state that it left.
func TestFiftyAnswersAtOnce(t *testing.T) {
	t.Parallel()
	const writers = 50
	w := newWorld(t)
	id := w.request("accepted")
	w.chain.Race(writers)
	answers := make([]*httptest.ResponseRecorder, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			answers[i] = w.do("police reviewer", http.MethodPost, "/v1/requests/"+id+"/actions/answer", `{"decision":"agree"}`)
		})
	}
	wg.Wait()
	won := 0
	for _, r := range answers {
		if r.Code == http.StatusOK {
			won++
			continue
		}
		checkWrongState(t, "answer", r, "agreed")
	}
	if won != 1 {
		t.Errorf("%d answers took effect", won)
	}
	if history := read[api.RequestEventList](w, "/v1/requests/"+id+"/history"); len(history.Items) != 3 {
		t.Errorf("the request has %d events, want submitted, accepted and agreed", len(history.Items))
	}
}

// Fifty requests under one key are one operation: all get its answer.
func TestFiftyRepetitionsOfOneOperation(t *testing.T) {
	t.Parallel()
	const writers = 50
	w := newWorld(t)
	id := w.request("accepted")
	do := func(role domain.Role, key, body string) *httptest.ResponseRecorder {
		s := sample{target: "/v1/requests/" + id + "/actions/answer", role: role, body: body}
		r := s.request(http.MethodPost)
		r.Header.Set(idempotencyKey, key)
		rec := httptest.NewRecorder()
		w.handlers["police"].ServeHTTP(rec, r)
		return rec
	}
	w.chain.Race(writers)
	answers := make([]*httptest.ResponseRecorder, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() { answers[i] = do(domain.RoleReviewer, "case-17", `{"decision":"agree"}`) })
	}
	wg.Wait()
	for _, r := range answers {
		var got api.WrittenShareRequest
		if err := json.Unmarshal(r.Body.Bytes(), &got); err != nil || r.Code != http.StatusOK || got.Record.State != api.RequestStateAgreed {
			t.Fatalf("status %d, %v: %s", r.Code, err, r.Body)
		}
	}
	if history := read[api.RequestEventList](w, "/v1/requests/"+id+"/history"); len(history.Items) != 3 {
		t.Errorf("the request has %d events, want submitted, accepted and agreed", len(history.Items))
	}
	// The key stands for that one answer.
	if r := do(domain.RoleReviewer, "case-17", `{"decision":"refuse","reason":"涉密","legalBasis":["保密法"]}`); r.Code != http.StatusBadRequest {
		t.Errorf("another answer under the key: status %d: %s", r.Code, r.Body)
	}
	checkWrongState(t, "under another key", do(domain.RoleReviewer, "case-18", `{"decision":"agree"}`), "agreed")
}
