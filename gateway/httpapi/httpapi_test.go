package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/credential"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/trail"
)

func send(h http.Handler, method, target string, role domain.Role, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, sample{target: target, role: role, body: body}.request(method))
	return w
}

func TestConfigNamesWhatIsMissing(t *testing.T) {
	_, err := New(Config{})
	if err == nil || !strings.Contains(err.Error(), "Tokens is missing") || !strings.Contains(err.Error(), "Pages is missing") {
		t.Errorf("got %v", err)
	}
}

func TestUseCasesGetWhatWasSent(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	period := domain.Period{From: at("2026-03-01T00:00:00Z"), To: at("2027-03-01T00:00:00Z")}
	sampleTrail := trail.Filter{
		CatalogCode: testCode, GrantID: testRef, Department: "civil", Purpose: "p", ServiceItem: "s", CaseRef: "c", SubjectRef: "ab", CallID: "call",
		Writer: "police", Operator: "op-1", Result: "ok", From: at("2026-01-01T00:00:00Z"), To: at("2027-01-01T00:00:00Z"),
	}
	reconcile := trail.ReconcileFilter{Provider: "police", Consumer: "civil", FromDay: "2026-01-01", ToDay: "2026-01-31", Settled: at("2026-02-01T00:00:00Z")}
	tests := []struct {
		key  string
		want any
	}{
		{"POST /v1/departments", domain.RegisterDepartmentArgs{Code: "police", MSPID: "PoliceMSP", NameZh: "公安局", NameEn: "Police", USCC: "11430000006122244L"}},
		{"POST /v1/calendars", domain.SetCalendarArgs{Year: 2026, DaysOff: []string{"2026-01-01", "2026-01-02"}, Workdays: []string{"2026-01-04"}, Source: "国务院办公厅关于2026年部分节假日安排的通知"}},
		{"POST /v1/rules", domain.SetRuleArgs{Event: domain.DeadlineRequestAnswer, Limit: 10, ExtendMax: 5, ExtendWith: domain.ExtendByLead, LegalBasis: "政务数据共享条例第二十三条"}},
		{"GET /v1/inbox", inboxArgs{index.InboxFilter{Role: domain.RoleReviewer, OverdueOnly: true}, index.Page{Limit: 10, After: "c"}}},
		{"GET /v1/catalog/export", index.Filter{Provider: "police", ShareType: domain.Conditional, State: "published", Overdue: &testTime, ChangedSince: at("2026-01-01T00:00:00Z"), Text: "户"}},
		{"GET /v1/catalog/entries/{code}/versions/{version}", testCode + "~1"},
		{"POST /v1/catalog/entries", domain.RegisterCatalogArgs{Content: exampleContent(t), Draft: true}},
		{"POST /v1/catalog/validate", exampleContent(t)},
		{"POST /v1/catalog/batches/register", domain.RegisterBatchArgs{Contents: []domain.CatalogContent{exampleContent(t)}}},
		{"POST /v1/catalog/batches/review", domain.ReviewBatchArgs{Codes: []string{exampleCode, "307003/000018"}, Decision: domain.Approve}},
		{"POST /v1/catalog/batches/publish", domain.CodesArgs{Codes: []string{exampleCode, "307003/000018"}}},
		{"POST /v1/catalog/entries/{code}/actions/submit", testCode},
		{"POST /v1/catalog/entries/{code}/actions/mark-overdue", testCode},
		{"POST /v1/catalog/entries/{code}/actions/change", domain.ChangeCatalogArgs{Content: exampleContent(t)}},
		{"POST /v1/catalog/entries/{code}/actions/retire", domain.RetireCatalogArgs{Code: testCode, Way: domain.TakeOffline, Reason: "职责调整"}},
		{"POST /v1/catalog/entries/{code}/actions/require-update", domain.RequireUpdateArgs{Code: testCode, Reason: "机构改革，职责划转"}},
		{"POST /v1/requests/{id}/actions/accept", domain.AcceptArgs{ID: testRef, Decision: domain.AcceptRequest}},
		{"POST /v1/requests/{id}/actions/supplement", domain.SupplementArgs{Content: exampleRequest(t)}},
		{"POST /v1/requests/{id}/actions/extend", domain.ExtendArgs{ID: testRef, Days: 5, Reason: "需核对数据口径"}},
		{"POST /v1/requests/{id}/actions/decide-extension", domain.DecideExtensionArgs{ID: testRef, Decision: domain.GrantExtension}},
		{"POST /v1/requests/{id}/actions/dispute", domain.DisputeArgs{ID: testRef, Reason: "拒绝理由与依据不符"}},
		{"POST /v1/requests/{id}/actions/mediate", domain.MediateArgs{ID: testRef, Decision: domain.Remand, Reason: "应当重新答复"}},
		{"POST /v1/requests/{id}/actions/deliver", domain.DeliverArgs{ID: testRef, DeliveryDigest: hex64}},
		{"POST /v1/requests/{id}/actions/confirm", domain.ConfirmArgs{ID: testRef, Decision: domain.ConfirmDelivery}},
		{"POST /v1/requests/{id}/actions/withdraw", domain.ReasonArgs{ID: testRef, Reason: "业务取消"}},
		{"POST /v1/requests/{id}/actions/close", domain.ReasonArgs{ID: testRef, Reason: "使用结束"}},
		{"POST /v1/requests/{id}/actions/mark-overdue", testRef},
		{"GET /v1/requests/{id}/history", testRef},
		{"POST /v1/grants/{id}/actions/suspend", domain.ReasonArgs{ID: testRef, Reason: "发现超范围使用"}},
		{"POST /v1/grants/{id}/actions/resume", domain.ReasonArgs{ID: testRef, Reason: "发现超范围使用"}},
		{"POST /v1/grants/{id}/actions/revoke", domain.ReasonArgs{ID: testRef, Reason: "发现超范围使用"}},
		{"GET /v1/grants/{id}/history", testRef},
		{"POST /v1/logs", domain.RegisterLogArgs{Origin: "zhenglian.example/log/police", VerifierKey: "key"}},
		{"GET /v1/anchors", listArgs{index.Filter{Department: "police"}, index.Page{Limit: 50}}},
		{"GET /v1/catalog/entries", listArgs{index.Filter{Department: "police", Provider: "police", ShareType: domain.Unconditional, State: "published", Overdue: &testTime, ChangedSince: at("2026-01-01T00:00:00Z"), Text: "户"}, index.Page{Limit: 200, After: "c"}}},
		{"GET /v1/catalog/entries/{code}", testCode},
		{"GET /v1/catalog/entries/{code}/history", testCode},
		{"POST /v1/catalog/entries/{code}/actions/publish", testCode},
		{"POST /v1/catalog/entries/{code}/actions/review", domain.ReviewCatalogArgs{Code: testCode, Decision: domain.Return, Opinion: "改"}},
		{"GET /v1/requests", listArgs{index.Filter{Provider: "police", Consumer: "civil", State: "refused", Overdue: &testTime, ChangedSince: at("2026-01-01T00:00:00Z"), GrantID: testRef}, index.Page{Limit: 50}}},
		{"GET /v1/grants", listArgs{index.Filter{Provider: "police", Consumer: "civil", State: "active", ChangedSince: at("2026-01-01T00:00:00Z")}, index.Page{Limit: 50}}},
		{"POST /v1/requests/{id}/actions/answer", domain.AnswerArgs{ID: testRef, Decision: domain.Partly, Reason: "部分", LegalBasis: []string{}, Items: []string{"户号"}, Period: period, Quota: domain.Quota{Total: 5, PerDay: 1, PerMinute: 1}}},
		{"GET /v1/access-records/{department}/{index}", uint64(5)},
		{"GET /v1/audit/trace", trailArgs{sampleTrail, trail.Page{Limit: 10, After: "c", OldestFirst: true}}},
		{"GET /v1/audit/totals", sampleTrail},
		{"GET /v1/audit/reconciliation", trailArgs{reconcile, trail.Page{Limit: 10, After: "c"}}},
		{"GET /v1/audit/reconciliation/calls", trailArgs{reconcile, trail.Page{Limit: 10, After: "c"}}},
		{"GET /v1/alarms", listArgs{index.Filter{Department: "civil", State: "open"}, index.Page{Limit: 10, After: "c"}}},
		{"GET /v1/alarms/{id}", testRef},
		{"POST /v1/alarms", example[domain.RaiseAlarmArgs](t, "POST /v1/alarms")},
		{"POST /v1/alarms/{id}/actions/close", domain.CloseAlarmArgs{ID: testRef, Finding: "核查属系统重复上报，已补记"}},
		{"GET /v1/logs/{department}/tile/{level}/{path}", tileArgs{1, 1234067, 8}},
		{"GET /v1/logs/{department}/tile/entries/{path}", tileArgs{0, 1067, 0}},
		{"POST /v1/certificates", service.IssueRequest{TypeCode: "11100000000013338W032", TypeNameZh: "证", TypeNameEn: "Certificate", HolderKind: "person", HolderSaltedRef: hex64, ValidFrom: period.From, ValidTo: period.To, ServiceItem: "item", Serial: "0001", ContentDigest: hex64}},
		{"POST /v1/certificates/batch", []service.IssueRequest{{TypeCode: "11100000000013338W011", TypeNameZh: "居住证", TypeNameEn: "Residence permit", HolderKind: "person", HolderSaltedRef: hex64, ValidFrom: period.From, ValidTo: period.To, ServiceItem: "11330000-residence", Serial: "2026000001", Items: []credential.Item{{Name: "姓名", Value: "张三"}, {Name: "居住地址", Value: "某市某区某路1号"}}}}},
		{"POST /v1/certificates/decisions", domain.DecideBatchArgs{Refs: []string{testRef}, Decision: domain.ApproveCertificate}},
		{"POST /v1/certificates/{ref}/actions/propose", domain.ProposeArgs{Ref: testRef, Event: domain.RevokeCertificate, Act: domain.StatusAct{DocumentNo: "公决字2026第1号", LegalBasis: "居住证暂行条例第18条", ReasonCode: "issued_in_error", EffectiveAt: at("2026-03-01T08:00:00Z")}}},
		{"POST /v1/certificates/{ref}/actions/decide", domain.DecideArgs{Ref: testRef, Decision: domain.RejectCertificate, Opinion: "证据不足"}},
		{"GET /v1/issuers", listArgs{index.Filter{Department: "police", State: "active"}, index.Page{Limit: 50}}},
		{"POST /v1/issuers", domain.AuthoriseArgs{Issuer: "police", TypeCode: "11100000000013338W011", TypeNameZh: "居住证", TypeNameEn: "Residence permit", Basis: "居住证暂行条例", Period: domain.Period{From: at("2026-01-01T00:00:00Z"), To: at("2036-01-01T00:00:00Z")}}},
		{"POST /v1/issuers/{department}/{typeCode}/actions/end", domain.EndAuthorisationArgs{Issuer: "police", TypeCode: "11100000000013338W032", Reason: "职责划转至市场监管局"}},
		{"POST /v1/verify", string(testBundle)},
		{"POST /verify", "{}"},
		{"GET /v1/status-lists/{department}/{purpose}/{list}", "police revocation 3"},
		{"GET /v1/verify/{ref}", testRef},
		{"GET /v1/verify/{ref}/proof", "certificate " + testRef},
		{"GET /v1/verify/{ref}/sealed", "sealed " + testRef},
		{"GET /v1/proofs/{kind}/{id}", "catalog " + testCode},
		{"GET /v1/chain/blocks", index.Page{Limit: 1}},
		{"GET /v1/chain/blocks/{number}", uint64(17)},
		{"GET /v1/chain/transactions/{id}", domain.TxID(testTx)},
	}
	h, g, _ := newTest(t)
	for _, tt := range tests {
		t.Run(tt.key, func(t *testing.T) {
			g.reset()
			method, _, _ := strings.Cut(tt.key, " ")
			s := samples[tt.key]
			w := httptest.NewRecorder()
			h.ServeHTTP(w, s.request(method))
			if w.Code >= 300 {
				t.Fatalf("status %d: %s", w.Code, w.Body)
			}
			if diff := cmp.Diff(tt.want, g.got); diff != "" {
				t.Errorf("use case was called with (-want +got):\n%s", diff)
			}
			if method == http.MethodPost {
				want := service.Caller{Department: "police", Role: s.role}
				if s.role == "" {
					want = service.Caller{} // public
				}
				if g.caller != want && tt.key != "POST /v1/catalog/validate" {
					t.Errorf("caller is %+v, want %+v", g.caller, want)
				}
			}
			if _, ok := g.ctx.Deadline(); !ok {
				t.Error("the use case has no deadline")
			}
		})
	}
}

// exampleCode is the code of the contract's examples.
const exampleCode = "307003/000017"

func exampleContent(t *testing.T) domain.CatalogContent {
	return example[domain.CatalogContent](t, "POST /v1/catalog/validate")
}

func exampleRequest(t *testing.T) domain.ShareRequestContent {
	return example[domain.ShareRequestContent](t, "POST /v1/requests/{id}/actions/supplement")
}

// example reads the contract's example of an operation's body.
func example[T any](t *testing.T, key string) T {
	t.Helper()
	var v T
	dec := json.NewDecoder(strings.NewReader(examples()[key]))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	return v
}

// A client may write what is optional or leave it out; the ledger gets the same.
func TestOptionalFields(t *testing.T) {
	h, g, _ := newTest(t)
	if w := send(h, "POST", "/v1/requests/"+testRef+"/actions/answer", domain.RoleReviewer, `{"decision":"agree"}`); w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	want := domain.AnswerArgs{ID: testRef, Decision: domain.Agree, LegalBasis: []string{}, Items: []string{}}
	if diff := cmp.Diff(want, g.got); diff != "" {
		t.Errorf("use case was called with (-want +got):\n%s", diff)
	}
}

func TestValidationNamesFieldAndRule(t *testing.T) {
	canary := "canary-身份证号"
	replace := func(s, part, by string) string {
		if !strings.Contains(s, part) {
			t.Fatalf("sample has no %q", part)
		}
		return strings.Replace(s, part, by, 1)
	}
	tests := []struct {
		name   string
		method string
		target string
		body   string
		want   []string // field and what the rule says
	}{
		{"missing field", "POST", "/v1/logs", `{"origin":"o"}`, []string{"/verifierKey: is missing"}},
		{"unknown field", "POST", "/v1/logs", `{"origin":"o","verifierKey":"k","more":"` + canary + `"}`, []string{"/more: is not a field of the contract"}},
		{"case matters", "POST", "/v1/logs", `{"Origin":"` + canary + `","verifierKey":"k"}`, []string{"/Origin: is not a field of the contract", "/origin: is missing"}},
		{"wrong type", "POST", "/v1/logs", `{"origin":["` + canary + `"],"verifierKey":"k"}`, []string{"/origin: must be of type string"}},
		{"null", "POST", "/v1/logs", `{"origin":null,"verifierKey":"k"}`, []string{"/origin: must not be null"}},
		{"too short", "POST", "/v1/logs", `{"origin":"","verifierKey":"k"}`, []string{"/origin: must have at least 1 characters"}},
		{"too long", "POST", "/v1/logs", `{"origin":"` + strings.Repeat("x", 256) + `","verifierKey":"k"}`, []string{"/origin: may have at most 255 characters"}},
		{"enumeration", "POST", "/v1/catalog/entries/x/actions/review", `{"decision":"` + canary + `"}`, []string{"/decision: must be one of approve, return"}},
		{"pattern", "POST", "/v1/certificates", replace(sampleIssue, `"holderSaltedRef":"`+hex64, `"holderSaltedRef":"`+canary), []string{"/holderSaltedRef: must match ^[0-9a-f]{64}$"}},
		{"format", "POST", "/v1/certificates", replace(sampleIssue, `"from":"2026-03-01T00:00:00Z"`, `"from":"`+canary+`"`), []string{"/validity/from: must have the format date-time"}},
		{"impossible date", "POST", "/v1/certificates", replace(sampleIssue, `"from":"2026-03-01T00:00:00Z"`, `"from":"2026-02-30T00:00:00Z"`), nil},
		{"nested", "POST", "/v1/catalog/entries", replace(sampleContent, `"level":2`, `"level":100`), []string{"/items/0/level: may be at most 99"}},
		{"no items", "POST", "/v1/access-records", `{"records":[]}`, []string{"/records: must have at least 1 items"}},
		{"not an object", "POST", "/v1/logs", `["` + canary + `"]`, []string{"/: must be of type object"}},
		{"cut short", "POST", "/v1/logs", `{"origin":"` + canary, nil},
		{"name twice", "POST", "/v1/logs", `{"origin":"o","verifierKey":"k","origin":"canary"}`, nil},
		{"name twice, deep", "POST", "/v1/access-records", `{"records":[{"items":[{"a":1},{"a":[{"b":1,"b":2}]}]}]}`, nil},
		{"name twice by escape", "POST", "/v1/logs", `{"origin":"o","verifierKey":"k","\u006frigin":"canary"}`, nil},
		{"two values", "POST", "/v1/logs", `{"origin":"o","verifierKey":"k"} {}`, nil},
		{"page too long", "GET", "/v1/requests?limit=201", "", []string{"query limit: may be at most 200"}},
		{"page of nothing", "GET", "/v1/requests?limit=0", "", []string{"query limit: must be at least 1"}},
		{"limit is no number", "GET", "/v1/requests?limit=" + "canary", "", []string{"query limit: does not have the type that the contract says"}},
		{"misspelt filter", "GET", "/v1/anchors?departmnet=police", "", []string{"query departmnet: is not a parameter of this path; it takes department, limit, cursor"}},
		{"filter twice", "GET", "/v1/anchors?department=police&department=civil", "", []string{"query department: must be given once"}},
		{"reference", "GET", "/v1/verify/canary", "", []string{"path ref: must match ^[0-9a-f]{32}$"}},
		{"kind", "GET", "/v1/proofs/canary/x", "", []string{"path kind: must be one of department, members, calendar, calendar_version, rule, rule_version, catalog, catalog_version, catalog_event, request, request_event, grant, grant_event, operation, log, anchor, alarm, alarm_event, issuer, certificate, certificate_id, issuing_batch, batch_status, status_places"}},
		{"negative", "GET", "/v1/chain/blocks/-1", "", []string{"path number: must be at least 0"}},
		{"overflow", "GET", "/v1/chain/blocks/99999999999999999999", "", nil},
	}
	h, g, log := newTest(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g.reset()
			log.Reset()
			w := send(h, tt.method, tt.target, domain.RoleAdmin, tt.body)
			if w.Code != http.StatusBadRequest {
				t.Fatalf("status %d: %s", w.Code, w.Body)
			}
			p := checkProblem(t, tt.name, w)
			if tt.want != nil {
				var got []string
				for _, f := range p.Fields {
					got = append(got, f.Field+": "+f.En)
					if f.Rule == "" || !strings.ContainsFunc(f.Zh, func(r rune) bool { return unicode.Is(unicode.Han, r) }) {
						t.Errorf("finding %+v has no rule or no words in Chinese", f)
					}
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("errors (-want +got):\n%s", diff)
				}
			}
			if g.called != 0 {
				t.Error("the use case was called")
			}
			if strings.Contains(w.Body.String(), "canary") || strings.Contains(log.String(), "canary") {
				t.Errorf("the value sent comes back:\n%s\n%s", w.Body, log)
			}
		})
	}
}

func TestBodyBombs(t *testing.T) {
	tests := map[string]string{
		"deep arrays":       `{"records":` + strings.Repeat("[", 1_000_000) + strings.Repeat("]", 1_000_000) + `}`,
		"deep objects":      strings.Repeat(`{"a":`, 500_000) + "1" + strings.Repeat("}", 500_000),
		"unclosed":          strings.Repeat("[", 4_000_000),
		"many values":       `{"records":[` + strings.Repeat("0,", 3_900_000) + `0]}`,
		"many objects":      `{"records":[` + strings.Repeat("{},", 2_600_000) + `{}]}`,
		"long string":       `{"records":"` + strings.Repeat("x", 8_000_000) + `"}`,
		"escapes":           `{"records":"` + strings.Repeat(`\u0000`, 1_300_000) + `"}`,
		"long number":       `{"records":1` + strings.Repeat("0", 8_000_000) + `}`,
		"big exponent":      `{"records":1e999999999}`,
		"repeated field":    `{` + strings.Repeat(`"records":[],`, 200_000) + `"records":[]}`,
		"not UTF-8":         "{\"records\":\"\xff\xfe\"}",
		"byte order mark":   "\ufeff{}",
		"blank":             " \n\t ",
		"empty":             "",
		"word":              "null",
		"long field":        `{"` + strings.Repeat("k", 8_000_000) + `":1}`,
		"many fields":       `{` + manyFields(240_000) + `"z":1}`,
		"2000 records":      `{"records":[` + strings.Repeat(`{"direction":"provider"},`, 2000) + `{}]}`,
		"too many of items": `{"records":[{"items":[` + strings.Repeat(`"x",`, 5000) + `"x"]}]}`,
	}
	h, g, _ := newTest(t)
	for name, body := range tests {
		t.Run(name, func(t *testing.T) {
			g.reset()
			r := httptest.NewRequest("POST", "/v1/access-records", strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json; charset=utf-8")
			r.Header.Set("Authorization", "Bearer zl_operator")
			w := httptest.NewRecorder()
			start := time.Now()
			h.ServeHTTP(w, r)
			// The requirement is 1 s; shared test machines get some more.
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("took %v", took)
			}
			if w.Code != http.StatusBadRequest {
				t.Errorf("status %d: %.300s", w.Code, w.Body)
			}
			if p := checkProblem(t, name, w); w.Body.Len() > 16<<10 {
				t.Errorf("the answer has %d bytes: %.300s", w.Body.Len(), p.Detail)
			}
			if g.called != 0 {
				t.Error("the use case was called")
			}
		})
	}
}

func manyFields(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"f%d":0,`, i)
	}
	return b.String()
}

func TestFullBatchPasses(t *testing.T) {
	h, g, _ := newTest(t)
	w := send(h, "POST", "/v1/access-records", domain.RoleOperator, `{"records":[`+strings.Repeat(sampleAccess+",", 999)+sampleAccess+`]}`)
	if w.Code != http.StatusCreated {
		t.Fatalf("status %d: %.300s", w.Code, w.Body)
	}
	records := g.got.([]domain.AccessRecord)
	want := domain.AccessRecord{
		Direction: domain.DirectionProvider, CallID: "call-0000000000000001", GrantID: testRef, CatalogCode: testCode, CatalogVersion: 1,
		Items: []string{"户号"}, Provider: "police", Consumer: "civil", Purpose: "办证", LegalBasis: "条例", Channel: "api", RespondedAt: testTime, ServiceItem: "item", System: "sys", Operator: "op-1",
		OperatorRole: "clerk", RecordCount: 1, RequestDigest: hex64, ResponseDigest: hex64, At: testTime, Result: "ok",
	}
	if len(records) != 1000 {
		t.Fatalf("%d records", len(records))
	}
	if diff := cmp.Diff(want, records[999]); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

func TestRefusedRecordsAreNamed(t *testing.T) {
	h, g, log := newTest(t)
	refused := &service.RefusedError{Refusals: []service.Refusal{
		{Record: 3, Err: &domain.Error{Kind: domain.Forbidden, Msg: "items: 户号 is not granted"}},
	}}
	g.err = fmt.Errorf("x: %w", refused)
	w := send(h, "POST", "/v1/access-records", domain.RoleOperator, `{"records":[`+sampleAccess+`]}`)
	p := checkProblem(t, "refused", w)
	if diff := cmp.Diff([]api.FieldFinding{{Field: "/records/3", Rule: "forbidden", Zh: "无权进行此操作", En: "items: 户号 is not granted"}}, p.Fields); diff != "" || w.Code != http.StatusForbidden {
		t.Errorf("status %d, errors (-want +got):\n%s", w.Code, diff)
	}
	if strings.Contains(log.String(), "request failed") {
		t.Errorf("a refusal is logged as a failure: %s", log)
	}
	// What was found in a record is named one by one.
	g.err = &service.RefusedError{Refusals: []service.Refusal{
		{Record: 0, Err: &domain.Error{Kind: domain.Invalid, Msg: "items[1]: required; at: must be in UTC"}},
	}}
	w = send(h, "POST", "/v1/access-records", domain.RoleOperator, `{"records":[`+sampleAccess+`]}`)
	if diff := cmp.Diff([]api.FieldFinding{
		{Field: "/records/0/items/1", Rule: "required", Zh: "必填", En: "required"},
		{Field: "/records/0/at", Rule: "not-utc", Zh: "须为协调世界时（UTC）", En: "must be in UTC"},
	}, checkProblem(t, "found", w).Fields); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	// The refusal could not be logged: still a refusal, and an alarm.
	g.err = errors.Join(refused, errors.New("no space left on device"))
	w = send(h, "POST", "/v1/access-records", domain.RoleOperator, `{"records":[`+sampleAccess+`]}`)
	if p := checkProblem(t, "joined", w); w.Code != http.StatusForbidden || len(p.Fields) != 1 || strings.Contains(w.Body.String(), "device") {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), "no space left on device") {
		t.Errorf("the log does not say that the refusal was not logged: %s", log)
	}
}

func TestPathsAndMethods(t *testing.T) {
	tests := []struct {
		method, target string
		status         int
		allow          string
	}{
		{"GET", "/", 404, ""},
		{"GET", "/v1/nothing", 404, ""},
		{"GET", "/v1/trust/", 404, ""},
		{"GET", "/V1/trust", 404, ""},
		{"GET", "/v1//trust", 404, ""},
		{"GET", "/v1/../v1/trust", 404, ""},
		{"GET", "/v1/catalog/entries/" + testCode, 404, ""}, // a slash that is not %2F
		{"GET", "/debug/pprof/", 404, ""},
		{"DELETE", "/v1/certificates/" + testRef, 405, "GET"},
		{"PUT", "/v1/catalog/entries", 405, "GET, POST"},
		{"OPTIONS", "/v1/trust", 405, "GET"},
		{"TRACE", "/v1/trust", 405, "GET"},
	}
	h, g, _ := newTest(t)
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.target, func(t *testing.T) {
			g.reset()
			w := send(h, tt.method, tt.target, domain.RoleAdmin, "")
			if w.Code != tt.status {
				t.Fatalf("status %d, want %d: %s", w.Code, tt.status, w.Body)
			}
			checkProblem(t, tt.target, w)
			got := strings.Split(w.Header().Get("Allow"), ", ")
			slices.Sort(got)
			if strings.Join(got, ", ") != tt.allow {
				t.Errorf("Allow is %q, want %q", got, tt.allow)
			}
			if len(g.keys) == 0 {
				t.Error("the request was not counted")
			}
		})
	}
}

func TestLimitsCountTheRightOne(t *testing.T) {
	tests := []struct {
		name, target, remote string
		header               http.Header
		want                 []string
	}{
		{"public", "/v1/trust", "192.0.2.7:1234", nil, []string{"http:address:192.0.2.7"}},
		{"claimed address", "/v1/trust", "192.0.2.7:1234", http.Header{"X-Forwarded-For": {"198.51.100.1"}, "X-Real-Ip": {"198.51.100.2"}, "Forwarded": {"for=198.51.100.3"}}, []string{"http:address:192.0.2.7"}},
		{"IPv6 subscriber", "/v1/trust", "[2001:db8:1:2:3::4]:1234", nil, []string{"http:address:2001:db8:1:2::/64"}},
		{"IPv4 in IPv6", "/v1/trust", "[::ffff:192.0.2.7]:1234", nil, []string{"http:address:192.0.2.7"}},
		{"identity", "/v1/grants", "192.0.2.7:1234", http.Header{"Authorization": {"Bearer zl_auditor"}}, []string{"http:caller:police:auditor"}},
		{"guessed token", "/v1/grants", "192.0.2.7:1234", http.Header{"Authorization": {"Bearer zl_guess"}}, []string{"http:address:192.0.2.7"}},
		{"token on a public path", "/v1/trust", "192.0.2.7:1234", http.Header{"Authorization": {"Bearer zl_auditor"}}, []string{"http:caller:police:auditor"}},
		{"guessed token on a public path", "/v1/trust", "192.0.2.7:1234", http.Header{"Authorization": {"Bearer zl_guess"}}, []string{"http:address:192.0.2.7"}},
		{"tile", "/v1/logs/police/tile/0/x001/067", "192.0.2.7:1234", nil, []string{"http:tiles:192.0.2.7"}},
		{"checkpoint with a token", "/v1/logs/police/checkpoint", "192.0.2.7:1234", http.Header{"Authorization": {"Bearer zl_auditor"}}, []string{"http:tiles:192.0.2.7"}},
		{"entries", "/v1/logs/police/tile/entries/000", "192.0.2.7:1234", http.Header{"Authorization": {"Bearer zl_auditor"}}, []string{"http:caller:police:auditor"}},
		{"probe", "/livez", "192.0.2.7:1234", nil, nil},
	}
	h, g, _ := newTest(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g.reset()
			r := httptest.NewRequest("GET", tt.target, nil)
			r.RemoteAddr = tt.remote
			for k, v := range tt.header {
				r.Header[k] = v
			}
			h.ServeHTTP(httptest.NewRecorder(), r)
			if diff := cmp.Diff(tt.want, g.keys); diff != "" {
				t.Errorf("counted (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNothingRunsWithoutAToken holds every path that is not public to the token.
func TestNothingRunsWithoutAToken(t *testing.T) {
	public := []string{
		"GET /livez", "GET /readyz", "GET /metrics", "GET /openapi.json", "GET /docs/api", "GET /docs/api.css", "GET /v/{ref}", "GET /v1/trust",
		"GET /v1/logs/{department}/checkpoint", "GET /v1/logs/{department}/tile/{level}/{path}", "GET /audit", "GET /audit/audit.js", "GET /audit/audit.css",
		"GET /verify", "POST /verify", "GET /verify/page.js", "GET /verify/zhenglian-proof.js", "POST /v1/verify", "GET /v1/status-lists/{department}/{purpose}/{list}",
		"GET /v1/verify/{ref}", "GET /v1/verify/{ref}/proof", "GET /v1/verify/{ref}/sealed", "GET /v1/certificates/{ref}/qr.png", "GET /v1/certificates/{ref}/qr.svg",
	}
	h, g, _ := newTest(t)
	for key, op := range contract(t) {
		if op.public != slices.Contains(public, key) {
			t.Errorf("%s: public is %v", key, op.public)
		}
		if op.public {
			continue
		}
		for _, authorization := range []string{"", "Bearer", "Bearer ", "Bearer zl_gateway2", "zl_admin", "Basic zl_admin", "Bearer zl_admin zl_admin", "Bearer null"} {
			g.reset()
			r := samples[key].request(op.route.Method)
			r.Header.Set("Authorization", authorization)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != http.StatusUnauthorized || g.called != 0 {
				t.Errorf("%s with Authorization %q: status %d, use case called %d times", key, authorization, w.Code, g.called)
			}
		}
	}
}

func TestVerificationSaysNoMoreThanItMust(t *testing.T) {
	h, g, _ := newTest(t)
	certificate := []string{"certId", "changes", "contentDigest", "holderKind", "issuedAt", "issuer", "issuerNameEn", "issuerNameZh", "issuerUscc", "statusAct", "statusIndex", "statusSince", "typeCode", "typeNameEn", "typeNameZh", "validity"}
	for _, v := range []service.Verdict{
		service.CannotCheck, service.Valid, service.Suspended, service.Revoked, service.Withdrawn, service.Cancelled, service.Superseded,
		service.Expired, service.NotYetValid, service.NotFound, "", "new",
	} {
		g.reset()
		g.verdict = v
		w := send(h, "GET", "/v1/verify/"+testRef, "", "")
		if w.Code != http.StatusOK {
			t.Fatalf("%s: status %d: %s", v, w.Code, w.Body)
		}
		if strings.Contains(w.Body.String(), "canary") {
			t.Errorf("%s: says too much: %s", v, w.Body)
		}
		var got map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		want := string(v)
		if v == "" || v == "new" {
			want = "cannot_check"
		}
		if got["verdict"] != want {
			t.Errorf("verdict is %v, want %s", got["verdict"], want)
		}
		if c, ok := got["certificate"].(map[string]any); ok {
			var names []string
			for name := range c {
				names = append(names, name)
			}
			slices.Sort(names)
			if diff := cmp.Diff(certificate, names); diff != "" {
				t.Errorf("%s: fields (-documented +got):\n%s", v, diff)
			}
		}
	}
}

// A certificate's check code exists in the answer to its issue only, also when
// the outcome is unknown.
func TestIssueHandsOverTheLink(t *testing.T) {
	h, g, log := newTest(t)
	for _, err := range []error{nil, &ledger.OutcomeUnknownError{TxID: testTx, Err: errors.New("x")}} {
		g.reset()
		g.err = err
		w := send(h, "POST", "/v1/certificates", domain.RoleOperator, sampleIssue)
		var got struct{ Link, CheckCode string }
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if got.Link != "https://gateway.example/v/"+testRef+"#CODE" || got.CheckCode != "CODE" {
			t.Errorf("status %d: %s", w.Code, w.Body)
		}
		if err != nil && (w.Code != http.StatusAccepted || w.Header().Get("Location") != "/v1/chain/transactions/"+testTx) {
			t.Errorf("status %d, Location %q", w.Code, w.Header().Get("Location"))
		}
		if strings.Contains(log.String(), "CODE") {
			t.Errorf("the check code is in the log: %s", log)
		}
	}
}

func TestPicturesCarryTheLink(t *testing.T) {
	h, _, _ := newTest(t)
	w := send(h, "GET", "/v1/certificates/"+testRef+"/qr.png", "", "")
	picture, err := png.Decode(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	bitmap, err := gozxing.NewBinaryBitmapFromImage(picture)
	if err != nil {
		t.Fatal(err)
	}
	got, err := qrcode.NewQRCodeReader().Decode(bitmap, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := "https://gateway.example/v/" + testRef; got.GetText() != want {
		t.Errorf("the code says %q, want %q", got.GetText(), want)
	}
	if w := send(h, "GET", "/v1/certificates/"+testRef+"/qr.svg", "", ""); !strings.Contains(w.Body.String(), "<svg") {
		t.Errorf("not a picture: %s", w.Body)
	}
}

func TestGivenBytesStayAsTheyAre(t *testing.T) {
	h, _, _ := newTest(t)
	spec, err := api.GetSpecJSON()
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string][]byte{
		"/v1/trust":                         testTrust,
		"/v1/verify/" + testRef + "/proof":  testBundle,
		"/openapi.json":                     spec,
		"/v1/access-records/police/5/proof": []byte("c2sp.org/tlog-proof@v1\n"),
	} {
		w := send(h, "GET", target, domain.RoleAuditor, "")
		if !bytes.Equal(w.Body.Bytes(), want) {
			t.Errorf("%s: got %s, want %s", target, w.Body, want)
		}
	}
}

func TestCompleteListsArePaged(t *testing.T) {
	var all service.Listed[int]
	for i := range 7 {
		all.Items = append(all.Items, service.Written[int]{Value: i})
	}
	var got []int
	p := index.Page{Limit: 3}
	for pages := 1; ; pages++ {
		l, err := sliced(all, p)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range l.Items {
			got = append(got, w.Value)
		}
		if p.After = l.Next; p.After == "" {
			break
		}
		if pages > 3 {
			t.Fatal("the list has no end")
		}
	}
	if diff := cmp.Diff([]int{0, 1, 2, 3, 4, 5, 6}, got); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
	for _, after := range []string{"0", "-1", "01", "x", "1 ", "+1"} {
		if _, err := sliced(all, index.Page{Limit: 3, After: after}); domain.KindOf(err) != domain.Invalid {
			t.Errorf("cursor %q: %v", after, err)
		}
	}
	if l, err := sliced(all, index.Page{Limit: 3, After: "99"}); err != nil || len(l.Items) != 0 || l.Next != "" {
		t.Errorf("cursor past the end: %+v, %v", l, err)
	}
}

func TestMetrics(t *testing.T) {
	h, _, _ := newTest(t)
	send(h, "GET", "/v1/verify/"+testRef, "", "")
	send(h, "BREW", "/v1/verify/"+testRef, "", "")
	send(h, "GET", "/"+testRef, "", "")
	body := send(h, "GET", "/metrics", "", "").Body.String()
	for _, want := range []string{
		`zhenglian_http_request_duration_seconds_count{method="GET",route="/v1/verify/:ref",status="200"} 1`,
		`zhenglian_http_request_duration_seconds_count{method="other",route="none",status="405"} 1`,
		`zhenglian_http_request_duration_seconds_count{method="GET",route="none",status="404"} 1`,
		"zhenglian_index_next_block 18\n", "zhenglian_access_log_size 7\n", "zhenglian_access_log_anchored_size 5\n",
		"zhenglian_access_log_backlog_seconds 1.5\n", "zhenglian_watched_logs_with_problems 1\n", "zhenglian_alarms_open 1\n",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(body, testRef) || strings.Contains(body, "BREW") {
		t.Error("metrics hold what a client sent")
	}
}

// TestReadinessSaysWhy checks that a probe learns what is missing, and the log
// alone where.
func TestReadinessSaysWhy(t *testing.T) {
	h, g, log := newTest(t)
	g.notReady = &service.NotReadyError{Reason: "the index has 5 of 90 blocks", Err: errors.New("dial peer0.police.internal:7051: refused")}
	w := send(h, "GET", "/readyz", "", "")
	if p := checkProblem(t, "readyz", w); w.Code != http.StatusServiceUnavailable || p.Detail != "not ready: the index has 5 of 90 blocks" {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), "peer0.police.internal") {
		t.Errorf("the log does not name the cause: %s", log)
	}
	if w := send(h, "GET", "/livez", "", ""); w.Code != http.StatusOK {
		t.Errorf("livez: status %d", w.Code)
	}
}

// TestHead checks, over a real connection, that HEAD is answered as GET is, for
// every path that has a GET, and without a body.
func TestHead(t *testing.T) {
	h, _, _ := newTest(t)
	server := httptest.NewServer(h)
	defer server.Close()
	heads := 0
	for key, op := range contract(t) {
		if op.route.Method != http.MethodGet || key == "GET /metrics" { // its length varies
			continue
		}
		heads++
		ask := func(method string) *http.Response {
			r := samples[key].request(method)
			r.RequestURI, r.Host = "", ""
			var err error
			if r.URL, err = url.Parse(server.URL + samples[key].target); err != nil {
				t.Fatal(err)
			}
			resp, err := server.Client().Do(r)
			if err != nil {
				t.Fatalf("%s %s: %v", method, key, err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || (method == http.MethodHead) != (len(body) == 0) {
				t.Errorf("%s for %s: body of %d bytes, %v", method, key, len(body), err)
			}
			for _, varies := range []string{"Date", "X-Request-Id", "Content-Length"} { // HEAD may leave out the last
				resp.Header.Del(varies)
			}
			return resp
		}
		get, head := ask(http.MethodGet), ask(http.MethodHead)
		if head.StatusCode != get.StatusCode {
			t.Errorf("%s: HEAD answers %d, GET %d", key, head.StatusCode, get.StatusCode)
		}
		if diff := cmp.Diff(get.Header, head.Header); diff != "" {
			t.Errorf("%s: headers (-GET +HEAD):\n%s", key, diff)
		}
	}
	if heads < 20 {
		t.Errorf("only %d paths", heads)
	}
	resp, err := server.Client().Head(server.URL + "/v1/catalog/entries")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("HEAD without a token: status %d", resp.StatusCode)
	}
}

func TestTraceIDs(t *testing.T) {
	h, _, log := newTest(t)
	for _, tt := range []struct{ header, want string }{
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "4bf92f3577b34da6a3ce929d0e0e4736"},
		{"00-00000000000000000000000000000000-00f067aa0ba902b7-01", ""},
		{"00-4bf92f3577b34da6a3ce929d0e0e4736\n-x-01", ""},
		{"", ""},
	} {
		log.Reset()
		r := httptest.NewRequest("POST", "/v1/nothing", nil)
		r.Header.Set("Traceparent", tt.header)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		got := w.Header().Get("X-Request-Id")
		if len(got) != 32 || tt.want != "" && got != tt.want {
			t.Errorf("traceparent %q: request id %q", tt.header, got)
		}
		if !strings.Contains(log.String(), got) {
			t.Errorf("the log does not name the request %s: %s", got, log)
		}
	}
}

// TestVerifiersAreNotLogged: a request without a token leaves no address, so that
// nobody can read from the log who verified which certificate.
func TestVerifiersAreNotLogged(t *testing.T) {
	h, _, log := newTest(t)
	for _, target := range []string{"/v1/verify/" + testRef, "/v/" + testRef, "/v1/verify/x"} {
		r := httptest.NewRequest("GET", target+"?x=canary", nil)
		r.RemoteAddr = "203.0.113.77:5"
		r.Header.Set("User-Agent", "canary")
		r.Header.Set("Referer", "https://canary.example/")
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	for _, secret := range []string{"203.0.113", testRef, "canary"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log holds %q: %s", secret, log)
		}
	}
	if log.Len() == 0 {
		t.Error("nothing was logged: this test would pass whatever is")
	}
}

// TestClientReachesTheServer runs the generated client against the handler over
// a real connection.
func TestClientReachesTheServer(t *testing.T) {
	h, g, _ := newTest(t)
	srv := httptest.NewServer(h)
	defer srv.Close()
	client, err := api.NewClientWithResponses(srv.URL, api.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer zl_operator")
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	got, err := client.GetCatalogEntryWithResponse(ctx, testCode)
	if err != nil {
		t.Fatal(err)
	}
	if got.JSON200 == nil || got.JSON200.Record.Content.Name != "户籍信息" || g.got != testCode {
		t.Errorf("status %d, use case called with %v: %s", got.StatusCode(), g.got, got.Body)
	}
	content, err := api.Convert[api.CatalogContent](exampleContent(t))
	if err != nil {
		t.Fatal(err)
	}
	registered, err := client.RegisterCatalogEntryWithResponse(ctx, nil, content)
	if err != nil || registered.JSON201 == nil {
		t.Fatalf("%v: %s", err, registered.Body)
	}
	limit := 5
	listed, err := client.ListCatalogEntriesWithResponse(ctx, &api.ListCatalogEntriesParams{Limit: &limit})
	if err != nil || listed.JSON200 == nil {
		t.Fatalf("%v: %s", err, listed.Body)
	}
	if diff := cmp.Diff(listArgs{Page: index.Page{Limit: 5}}, g.got); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	g.err = &domain.Error{Kind: domain.Exists, Msg: "it is recorded"}
	again, err := client.RegisterCatalogEntryWithResponse(ctx, nil, content)
	if err != nil || again.ApplicationProblemJSON409 == nil || again.ApplicationProblemJSON409.Code != api.ProblemCodeExists {
		t.Errorf("%v: %s", err, again.Body)
	}
}

// Slow clients are cut off by the server itself.
func TestServerBounds(t *testing.T) {
	_, g, log := newTest(t)
	srv := NewServer(http.NotFoundHandler(), g.config(log).Log)
	for name, d := range map[string]time.Duration{
		"header": srv.ReadHeaderTimeout, "read": srv.ReadTimeout, "write": srv.WriteTimeout, "idle": srv.IdleTimeout,
	} {
		if d <= 0 || d > 2*time.Minute {
			t.Errorf("%s timeout is %v", name, d)
		}
	}
	if srv.WriteTimeout <= writeDeadline {
		t.Errorf("the write timeout %v cuts off use cases of %v", srv.WriteTimeout, writeDeadline)
	}
	if srv.MaxHeaderBytes <= 0 {
		t.Error("headers have no bound")
	}
}

func TestRedact(t *testing.T) {
	tests := map[string]string{
		"token zl_Ab-9_x refused":   "token … refused",
		"read " + testRef + ": x":   "read …: x",
		"transaction " + testTx:     "transaction " + testTx,
		"Authorization: Bearer abc": "Authorization: …",
		"plain":                     "plain",
	}
	for in, want := range tests {
		if got := redact(in); got != want {
			t.Errorf("redact(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestNameFault(t *testing.T) {
	for body, want := range map[string]bool{
		`{}`:                                 false,
		`"a"`:                                false,
		`[{"a":1},{"a":1}]`:                  false,
		`{"a":{"a":1},"b":["a","a","b"]}`:    false,
		`{"a":"a","b":"a"}`:                  false,
		`{"a":[],"b":{"c":[{"d":1}]},"c":1}`: false,
		`{"a\\":1,"a":2}`:                    false,
		`{"a\"":1,"a":2}`:                    false,
		`{"a":1,"a":2}`:                      true,
		`{"a":1 , "b":{}, "a" : 2}`:          true,
		`{"a":{},"b":[],"a":2}`:              true,
		`[[{"x":{"y":1,"y":2}}]]`:            true,
		`{"\u0061":1,"a":2}`:                 true,
		`{"":1,"":2}`:                        true,
	} {
		if !json.Valid([]byte(body)) {
			t.Fatalf("%s is not JSON", body)
		}
		if got := nameFault([]byte(body)); (got != "") != want {
			t.Errorf("nameFault(%s) = %q", body, got)
		}
	}
}

// FuzzNameFault: whatever is valid JSON is looked at without a panic, and an
// object of two equal names is found wherever it stands.
func FuzzNameFault(f *testing.F) {
	for _, s := range samples {
		f.Add(s.body, "a")
	}
	f.Fuzz(func(t *testing.T, body, name string) {
		if !json.Valid([]byte(body)) || bombFault([]byte(body)) != "" {
			t.Skip()
		}
		fault := nameFault([]byte(body))
		quoted, err := json.Marshal(name)
		if err != nil {
			t.Fatal(err)
		}
		twice := fmt.Sprintf(`{%s:%s,"x":{%s:1,%s:2}}`, quoted, body, quoted, quoted)
		if got := nameFault([]byte(twice)); got == "" {
			t.Errorf("a name that comes twice was not found in %s (body alone: %q)", twice, fault)
		}
	})
}
