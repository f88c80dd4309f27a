package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

func TestMain(m *testing.M) {
	// The validator knows JSON and plain text only.
	for _, media := range []string{"text/html", "text/css", "text/javascript", "text/csv", "application/pdf", "image/png", "image/svg+xml", "application/octet-stream"} {
		openapi3filter.RegisterBodyDecoder(media, openapi3filter.FileBodyDecoder)
	}
	openapi3filter.RegisterBodyDecoder(proofMedia, openapi3filter.JSONBodyDecoder)
	openapi3filter.RegisterBodyDecoder("application/vc+json", openapi3filter.JSONBodyDecoder)
	m.Run()
}

// sample is a request that the contract allows.
type sample struct {
	target string // with percent-encoding
	role   domain.Role
	body   string
	media  string // of the body; "" for JSON
}

const (
	samplePeriod  = `{"from":"2026-03-01T00:00:00Z","to":"2027-03-01T00:00:00Z"}`
	sampleContent = `{"code":"307020300000000000/000001","name":"户籍信息","abstract":"摘要","providerUscc":"11330000002482131G","classification":"人口","format":"database",
		"items":[{"name":"户号","type":"C","level":2,"shareType":2}],"shareType":2,"shareCondition":"审批","legalBasis":["条例"],"shareMode":"platform_api",
		"updateCycle":"daily","dutyRef":"duty","systemRef":"sys","regionCode":"330000","personalData":"general"}`
	sampleRequest = `{"id":"` + testRef + `","catalogCode":"` + testCode + `","items":["户号"],"purpose":"办证","useBasis":"法","serviceItem":"item","shareMode":"platform_api",
		"period":` + samplePeriod + `,"quota":{"total":10,"perDay":1,"perMinute":1},"letterDigest":"` + hex64 + `","securityMeasures":"加密"}`
	sampleAccess = `{"direction":"provider","callId":"call-0000000000000001","grantId":"` + testRef + `","catalogCode":"` + testCode + `","catalogVersion":1,"items":["户号"],
		"provider":"police","consumer":"civil","purpose":"办证","legalBasis":"条例","serviceItem":"item","system":"sys","operator":"op-1","operatorRole":"clerk","recordCount":1,
		"requestDigest":"` + hex64 + `","responseDigest":"` + hex64 + `","channel":"api","at":"2026-03-01T08:00:00Z","respondedAt":"2026-03-01T08:00:00Z","result":"ok"}`
	sampleIssue = `{"typeCode":"11100000000013338W032","typeNameZh":"证","typeNameEn":"Certificate","holderKind":"person","holderSaltedRef":"` + hex64 + `",
		"validity":` + samplePeriod + `,"serviceItem":"item","serial":"0001","contentDigest":"` + hex64 + `"}`
	sampleFilter = "catalogCode=307020300000000000%2F000001&grantId=" + testRef + "&department=civil&purpose=p&serviceItem=s&caseRef=c&subjectRef=ab&callId=call" +
		"&writer=police&operator=op-1&result=ok&from=2026-01-01T00:00:00Z&to=2027-01-01T00:00:00Z"
	sampleReconcile = "provider=police&consumer=civil&fromDay=2026-01-01&toDay=2026-01-31&settled=2026-02-01T00:00:00Z&limit=10&cursor=c"

	sampleForm = "--part\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n{}\r\n--part--\r\n"
)

var (
	codePath        = strings.ReplaceAll(testCode, "/", "%2F")
	exampleCodePath = "307003%2F000017" // of the contract's examples
)

// samples has one for each operation of the contract. Where a body is needed and
// none is named, it is the contract's example.
var samples = map[string]sample{
	"GET /v1/departments":                                    {target: "/v1/departments?limit=10", role: domain.RoleAuditor},
	"POST /v1/departments":                                   {target: "/v1/departments", role: domain.RoleAdmin},
	"GET /v1/logs":                                           {target: "/v1/logs", role: domain.RoleAuditor},
	"POST /v1/logs":                                          {target: "/v1/logs", role: domain.RoleAdmin, body: `{"origin":"zhenglian.example/log/police","verifierKey":"key"}`},
	"GET /v1/anchors":                                        {target: "/v1/anchors?department=police", role: domain.RoleAuditor},
	"GET /v1/catalog/entries":                                {target: "/v1/catalog/entries?department=police&provider=police&shareType=1&state=published&overdue=true&changedSince=2026-01-01T00:00:00Z&text=%E6%88%B7&limit=200&cursor=c", role: domain.RoleOperator},
	"POST /v1/catalog/entries":                               {target: "/v1/catalog/entries?draft=true", role: domain.RoleOperator},
	"GET /v1/catalog/entries/{code}":                         {target: "/v1/catalog/entries/" + codePath, role: domain.RoleOperator},
	"GET /v1/catalog/entries/{code}/history":                 {target: "/v1/catalog/entries/" + codePath + "/history", role: domain.RoleOperator},
	"POST /v1/catalog/entries/{code}/actions/review":         {target: "/v1/catalog/entries/" + codePath + "/actions/review", role: domain.RoleReviewer, body: `{"decision":"return","opinion":"改"}`},
	"POST /v1/catalog/entries/{code}/actions/publish":        {target: "/v1/catalog/entries/" + codePath + "/actions/publish", role: domain.RoleOperator},
	"GET /v1/requests":                                       {target: "/v1/requests?provider=police&consumer=civil&state=refused&overdue=true&changedSince=2026-01-01T00:00:00Z&grantId=" + testRef, role: domain.RoleOperator},
	"POST /v1/requests":                                      {target: "/v1/requests", role: domain.RoleOperator, body: sampleRequest},
	"GET /v1/requests/{id}":                                  {target: "/v1/requests/" + testRef, role: domain.RoleOperator},
	"POST /v1/requests/{id}/actions/answer":                  {target: "/v1/requests/" + testRef + "/actions/answer", role: domain.RoleReviewer, body: `{"decision":"partly","reason":"部分","items":["户号"],"period":` + samplePeriod + `,"quota":{"total":5,"perDay":1,"perMinute":1}}`},
	"GET /v1/grants":                                         {target: "/v1/grants?provider=police&consumer=civil&state=active&changedSince=2026-01-01T00:00:00Z", role: domain.RoleOperator},
	"GET /v1/grants/{id}":                                    {target: "/v1/grants/" + testRef, role: domain.RoleOperator},
	"GET /v1/calendars":                                      {target: "/v1/calendars?limit=10", role: domain.RoleAuditor},
	"POST /v1/calendars":                                     {target: "/v1/calendars", role: domain.RoleAdmin},
	"GET /v1/rules":                                          {target: "/v1/rules", role: domain.RoleAuditor},
	"POST /v1/rules":                                         {target: "/v1/rules", role: domain.RoleAdmin},
	"GET /v1/inbox":                                          {target: "/v1/inbox?role=reviewer&overdue=true&limit=10&cursor=c", role: domain.RoleReviewer},
	"GET /v1/indicators":                                     {target: "/v1/indicators", role: domain.RoleAuditor},
	"GET /v1/catalog/entries/{code}/versions/{version}":      {target: "/v1/catalog/entries/" + codePath + "/versions/1", role: domain.RoleOperator},
	"GET /v1/catalog/export":                                 {target: "/v1/catalog/export?format=dcat-ap&provider=police&shareType=2&state=published&overdue=true&changedSince=2026-01-01T00:00:00Z&text=%E6%88%B7", role: domain.RoleAuditor},
	"POST /v1/catalog/validate":                              {target: "/v1/catalog/validate", role: domain.RoleOperator},
	"POST /v1/catalog/batches/register":                      {target: "/v1/catalog/batches/register", role: domain.RoleOperator},
	"POST /v1/catalog/batches/review":                        {target: "/v1/catalog/batches/review", role: domain.RoleReviewer},
	"POST /v1/catalog/batches/publish":                       {target: "/v1/catalog/batches/publish", role: domain.RoleOperator},
	"GET /v1/requests/{id}/history":                          {target: "/v1/requests/" + testRef + "/history", role: domain.RoleOperator},
	"GET /v1/grants/{id}/history":                            {target: "/v1/grants/" + testRef + "/history", role: domain.RoleOperator},
	"POST /v1/catalog/entries/{code}/actions/submit":         {target: "/v1/catalog/entries/" + codePath + "/actions/submit", role: domain.RoleOperator},
	"POST /v1/catalog/entries/{code}/actions/retire":         {target: "/v1/catalog/entries/" + codePath + "/actions/retire", role: domain.RoleOperator},
	"POST /v1/catalog/entries/{code}/actions/require-update": {target: "/v1/catalog/entries/" + codePath + "/actions/require-update", role: domain.RoleOperator},
	"POST /v1/catalog/entries/{code}/actions/mark-overdue":   {target: "/v1/catalog/entries/" + codePath + "/actions/mark-overdue", role: domain.RoleOperator},
	"POST /v1/catalog/entries/{code}/actions/change":         {target: "/v1/catalog/entries/" + exampleCodePath + "/actions/change", role: domain.RoleOperator},
	"POST /v1/requests/{id}/actions/accept":                  {target: "/v1/requests/" + testRef + "/actions/accept", role: domain.RoleReviewer},
	"POST /v1/requests/{id}/actions/supplement":              {target: "/v1/requests/" + testRef + "/actions/supplement", role: domain.RoleOperator},
	"POST /v1/requests/{id}/actions/extend":                  {target: "/v1/requests/" + testRef + "/actions/extend", role: domain.RoleReviewer},
	"POST /v1/requests/{id}/actions/decide-extension":        {target: "/v1/requests/" + testRef + "/actions/decide-extension", role: domain.RoleReviewer},
	"POST /v1/requests/{id}/actions/dispute":                 {target: "/v1/requests/" + testRef + "/actions/dispute", role: domain.RoleOperator},
	"POST /v1/requests/{id}/actions/mediate":                 {target: "/v1/requests/" + testRef + "/actions/mediate", role: domain.RoleReviewer},
	"POST /v1/requests/{id}/actions/deliver":                 {target: "/v1/requests/" + testRef + "/actions/deliver", role: domain.RoleOperator},
	"POST /v1/requests/{id}/actions/confirm":                 {target: "/v1/requests/" + testRef + "/actions/confirm", role: domain.RoleOperator},
	"POST /v1/requests/{id}/actions/withdraw":                {target: "/v1/requests/" + testRef + "/actions/withdraw", role: domain.RoleOperator},
	"POST /v1/requests/{id}/actions/close":                   {target: "/v1/requests/" + testRef + "/actions/close", role: domain.RoleOperator},
	"POST /v1/requests/{id}/actions/mark-overdue":            {target: "/v1/requests/" + testRef + "/actions/mark-overdue", role: domain.RoleOperator},
	"POST /v1/grants/{id}/actions/suspend":                   {target: "/v1/grants/" + testRef + "/actions/suspend", role: domain.RoleReviewer},
	"POST /v1/grants/{id}/actions/resume":                    {target: "/v1/grants/" + testRef + "/actions/resume", role: domain.RoleReviewer},
	"POST /v1/grants/{id}/actions/revoke":                    {target: "/v1/grants/" + testRef + "/actions/revoke", role: domain.RoleReviewer},
	"POST /v1/access-records":                                {target: "/v1/access-records", role: domain.RoleOperator, body: `{"records":[` + sampleAccess + `]}`},
	"GET /v1/access-records/{department}/{index}":            {target: "/v1/access-records/police/5", role: domain.RoleAuditor},
	"GET /v1/access-records/{department}/{index}/proof":      {target: "/v1/access-records/police/5/proof", role: domain.RoleAuditor},
	"GET /v1/audit/trace":                                    {target: "/v1/audit/trace?" + sampleFilter + "&order=oldest&limit=10&cursor=c", role: domain.RoleAuditor},
	"GET /v1/audit/totals":                                   {target: "/v1/audit/totals?" + sampleFilter, role: domain.RoleAuditor},
	"GET /v1/audit/reconciliation":                           {target: "/v1/audit/reconciliation?" + sampleReconcile, role: domain.RoleAuditor},
	"GET /v1/audit/reconciliation/calls":                     {target: "/v1/audit/reconciliation/calls?" + sampleReconcile, role: domain.RoleAuditor},
	"GET /v1/audit/logs":                                     {target: "/v1/audit/logs", role: domain.RoleAuditor},
	"GET /v1/alarms":                                         {target: "/v1/alarms?department=civil&state=open&limit=10&cursor=c", role: domain.RoleOperator},
	"POST /v1/alarms":                                        {target: "/v1/alarms", role: domain.RoleAuditor},
	"GET /v1/alarms/{id}":                                    {target: "/v1/alarms/" + testRef, role: domain.RoleOperator},
	"POST /v1/alarms/{id}/actions/close":                     {target: "/v1/alarms/" + testRef + "/actions/close", role: domain.RoleReviewer},
	"GET /v1/logs/{department}/checkpoint":                   {target: "/v1/logs/police/checkpoint"},
	"GET /v1/logs/{department}/tile/{level}/{path}":          {target: "/v1/logs/police/tile/1/x001/x234/067.p/8"},
	"GET /v1/logs/{department}/tile/entries/{path}":          {target: "/v1/logs/police/tile/entries/x001/067", role: domain.RoleAuditor},
	"GET /audit":                                           {target: "/audit?lang=en"},
	"GET /audit/audit.js":                                  {target: "/audit/audit.js"},
	"GET /audit/audit.css":                                 {target: "/audit/audit.css"},
	"GET /v1/certificates":                                 {target: "/v1/certificates?state=valid", role: domain.RoleOperator},
	"POST /v1/certificates":                                {target: "/v1/certificates", role: domain.RoleOperator, body: sampleIssue},
	"GET /v1/certificates/{ref}":                           {target: "/v1/certificates/" + testRef, role: domain.RoleOperator},
	"POST /v1/certificates/batch":                          {target: "/v1/certificates/batch", role: domain.RoleOperator},
	"POST /v1/certificates/decisions":                      {target: "/v1/certificates/decisions", role: domain.RoleReviewer},
	"POST /v1/certificates/{ref}/actions/propose":          {target: "/v1/certificates/" + testRef + "/actions/propose", role: domain.RoleOperator},
	"POST /v1/certificates/{ref}/actions/decide":           {target: "/v1/certificates/" + testRef + "/actions/decide", role: domain.RoleReviewer, body: `{"decision":"reject","opinion":"证据不足"}`},
	"GET /v1/issuers":                                      {target: "/v1/issuers?department=police&state=active", role: domain.RoleAuditor},
	"POST /v1/issuers":                                     {target: "/v1/issuers", role: domain.RoleAdmin},
	"POST /v1/issuers/{department}/{typeCode}/actions/end": {target: "/v1/issuers/police/11100000000013338W032/actions/end", role: domain.RoleAdmin},
	"GET /verify":                                          {target: "/verify?lang=en"},
	"POST /verify":                                         {target: "/verify?size=large", body: sampleForm, media: "multipart/form-data; boundary=part"},
	"GET /verify/page.js":                                  {target: "/verify/page.js"},
	"GET /verify/zhenglian-proof.js":                       {target: "/verify/zhenglian-proof.js"},
	"POST /v1/verify":                                      {target: "/v1/verify", body: string(testBundle), media: "application/octet-stream"},
	"GET /v1/status-lists/{department}/{purpose}/{list}":   {target: "/v1/status-lists/police/revocation/3"},
	"GET /v1/certificates/{ref}/print.pdf":                 {target: "/v1/certificates/" + testRef + "/print.pdf", role: domain.RoleOperator},
	"GET /v1/certificates/{ref}/qr.png":                    {target: "/v1/certificates/" + testRef + "/qr.png?module=4"},
	"GET /v1/certificates/{ref}/qr.svg":                    {target: "/v1/certificates/" + testRef + "/qr.svg"},
	"GET /v/{ref}":                                         {target: "/v/" + testRef + "?lang=en&size=large&at=2026-02-28"},
	"GET /v1/verify/{ref}":                                 {target: "/v1/verify/" + testRef + "?at=2026-02-28"},
	"GET /v1/verify/{ref}/sealed":                          {target: "/v1/verify/" + testRef + "/sealed"},
	"GET /v1/verify/{ref}/proof":                           {target: "/v1/verify/" + testRef + "/proof"},
	"GET /v1/proofs/{kind}/{id}":                           {target: "/v1/proofs/catalog/" + codePath, role: domain.RoleAuditor},
	"GET /v1/trust":                                        {target: "/v1/trust"},
	"GET /v1/chain":                                        {target: "/v1/chain", role: domain.RoleAuditor},
	"GET /v1/chain/blocks":                                 {target: "/v1/chain/blocks?limit=1", role: domain.RoleAuditor},
	"GET /v1/chain/blocks/{number}":                        {target: "/v1/chain/blocks/17", role: domain.RoleAuditor},
	"GET /v1/chain/transactions/{id}":                      {target: "/v1/chain/transactions/" + testTx, role: domain.RoleAuditor},
	"POST /v1/operations/{id}/signature":                   {target: "/v1/operations/" + testRef + "/signature", role: domain.RoleOperator},
	"GET /v1/operations/{id}":                              {target: "/v1/operations/" + testRef, role: domain.RoleOperator},
	"GET /docs/api":                                        {target: "/docs/api"},
	"GET /docs/api.css":                                    {target: "/docs/api.css"},
	"GET /livez":                                           {target: "/livez"},
	"GET /readyz":                                          {target: "/readyz"},
	"GET /metrics":                                         {target: "/metrics"},
	"GET /openapi.json":                                    {target: "/openapi.json"},
}

// testCursors are those of the gateway under test.
var testCursors = cursors{[]byte("0123456789abcdef0123456789abcdef")}

func init() {
	for key, s := range samples {
		s.target = strings.Replace(s.target, "cursor=c", "cursor="+testCursors.seal("c"), 1)
		samples[key] = s
	}
	for key, body := range examples() {
		if s := samples[key]; s.body == "" {
			s.body = body
			samples[key] = s
		}
	}
}

// examples answers the contract's example of each body, by operation.
var examples = sync.OnceValue(func() map[string]string {
	doc, err := api.GetSpec()
	if err != nil {
		panic(err)
	}
	out := make(map[string]string)
	for path, item := range doc.Paths.Map() {
		for method, o := range item.Operations() {
			if o.RequestBody == nil || o.RequestBody.Value.Content[jsonMedia] == nil {
				continue
			}
			body, err := json.Marshal(o.RequestBody.Value.Content["application/json"].Example)
			if err != nil {
				panic(err)
			}
			out[method+" "+path] = string(body)
		}
	}
	return out
})

// TestExamplesAreWhatTheContractTakes sends every example.
func TestExamplesAreWhatTheContractTakes(t *testing.T) {
	h, _, _ := newTest(t)
	sent := 0
	for key, body := range examples() {
		method, _, _ := strings.Cut(key, " ")
		s := samples[key]
		if body == "null" || s.target == "" {
			t.Errorf("%s: example %s, sample %+v", key, body, s)
			continue
		}
		sent++
		if w := send(h, method, s.target, s.role, body); w.Code >= 300 {
			t.Errorf("%s: status %d: %s", key, w.Code, w.Body)
		}
	}
	if sent < 20 {
		t.Errorf("only %d examples", sent)
	}
}

func (s sample) request(method string) *http.Request {
	var body io.Reader
	if s.body != "" {
		body = strings.NewReader(s.body)
	}
	r := httptest.NewRequest(method, s.target, body)
	if s.body != "" {
		r.Header.Set("Content-Type", jsonMedia)
	}
	if s.media != "" {
		r.Header.Set("Content-Type", s.media)
	}
	if s.role != "" {
		r.Header.Set("Authorization", "Bearer zl_"+string(s.role))
	}
	return r
}

func contract(t *testing.T) map[string]*operation {
	t.Helper()
	byGin, err := loadOperations()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]*operation)
	for _, op := range byGin {
		out[op.route.Method+" "+op.route.Path] = op
	}
	if len(out) == 0 {
		t.Fatal("the contract has no operations")
	}
	return out
}

func TestContractIsSound(t *testing.T) {
	doc, err := api.GetSpec()
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestRoutesAreThoseOfTheContract(t *testing.T) {
	_, g, log := newTest(t)
	cfg := g.config(log)
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, r := range h.(*front).Routes() {
		got = append(got, r.Method+" "+r.Path)
	}
	for _, op := range contract(t) {
		want = append(want, op.route.Method+" "+ginPath(op.route.Path))
	}
	sort.Strings(got)
	sort.Strings(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("routes (-contract +server):\n%s", diff)
	}
}

// provocations say how to get an answer of a status. Each changes the fake or
// the request and answers the request to send; nil when it does not apply.
var provocations = map[int][]func(*gateway, string, *operation, sample) *http.Request{
	http.StatusOK:       {plain},
	http.StatusCreated:  {plain},
	http.StatusAccepted: {failing(fmt.Errorf("catalog:Register: %w", &ledger.OutcomeUnknownError{Operation: testRef, Err: context.DeadlineExceeded})), failing(fmt.Errorf("catalog:Register: %w", &ledger.OutcomeUnknownError{TxID: testTx, Err: &domain.Error{Kind: domain.Invalid, Msg: "not the answer"}}))},
	http.StatusBadRequest: {
		func(g *gateway, m string, op *operation, s sample) *http.Request {
			switch op.route.Path {
			case "/v/{ref}":
				g.pageStatus = http.StatusBadRequest
				return s.request(m)
			case "/verify": // the page takes any query; a form without a file it does not
				s.body = strings.Replace(s.body, `name="file"`, `name="other"`, 1)
				return s.request(m)
			}
			s.target += "&unknown=1"
			if !strings.Contains(s.target, "?") {
				s.target = strings.Replace(s.target, "&", "?", 1)
			}
			return s.request(m)
		},
		failing(&domain.Error{Kind: domain.Invalid, Msg: "code: must have 27 characters"}),
		func(_ *gateway, m string, op *operation, s sample) *http.Request {
			if op.media != jsonMedia {
				return nil
			}
			s.body = strings.Replace(s.body, "{", `{"extra":1,`, 1)
			return s.request(m)
		},
	},
	http.StatusUnauthorized: {
		func(_ *gateway, m string, _ *operation, s sample) *http.Request { s.role = ""; return s.request(m) },
		func(_ *gateway, m string, _ *operation, s sample) *http.Request {
			s.role = "nobody"
			return s.request(m)
		},
		func(_ *gateway, m string, _ *operation, s sample) *http.Request {
			r := s.request(m)
			r.Header.Set("Authorization", "Basic enw6b3BlcmF0b3I=")
			return r
		},
	},
	http.StatusForbidden: {failing(&domain.Error{Kind: domain.Forbidden, Msg: "role operator may not do this; rule: it is for a reviewer"})},
	http.StatusNotFound: {func(g *gateway, m string, _ *operation, s sample) *http.Request {
		g.err = &domain.Error{Kind: domain.NotFound, Msg: "there is no such record"}
		g.pageStatus = http.StatusNotFound
		return s.request(m)
	}},
	http.StatusConflict: {
		failing(fmt.Errorf("x: %w", &domain.Error{Kind: domain.Exists, Msg: "it is recorded"})),
		failing(fmt.Errorf("x: %w", &domain.Error{Kind: domain.Conflict, Msg: "another transaction won"})),
		failing(fmt.Errorf("x: %w", &domain.Error{Kind: domain.WrongState, Msg: "request x is agreed; sharing:Answer needs accepted"})),
	},
	http.StatusPreconditionFailed: {func(g *gateway, m string, op *operation, s sample) *http.Request {
		g.err = domain.CheckExpected("req~x", testTx, []byte(`{"txId":"`+hex64+`","state":"agreed"}`))
		r := s.request(m)
		r.Header.Set("If-Match", `"`+testTx+`"`)
		return r
	}},
	http.StatusRequestEntityTooLarge: {
		func(_ *gateway, m string, op *operation, s sample) *http.Request {
			s.body = strings.Repeat(" ", int(op.maxBody)) + s.body
			return s.request(m)
		},
		func(_ *gateway, m string, op *operation, s sample) *http.Request {
			s.body = strings.Repeat(" ", int(op.maxBody)) + s.body
			r := s.request(m)
			r.ContentLength = -1 // chunked: the length is not told
			return r
		},
	},
	http.StatusUnsupportedMediaType: {
		func(_ *gateway, m string, _ *operation, s sample) *http.Request {
			r := s.request(m)
			r.Header.Set("Content-Type", "text/plain")
			return r
		},
		func(_ *gateway, m string, _ *operation, s sample) *http.Request {
			r := s.request(m)
			r.Header.Del("Content-Type")
			return r
		},
	},
	http.StatusTooManyRequests: {func(g *gateway, m string, _ *operation, s sample) *http.Request { g.deny = true; return s.request(m) }},
	http.StatusInternalServerError: {
		failing(errors.New("dial peer0.police.internal:7051 with zl_secret for " + testRef + ": refused")),
		func(g *gateway, m string, _ *operation, s sample) *http.Request {
			g.explode = true
			return s.request(m)
		},
		func(g *gateway, m string, _ *operation, s sample) *http.Request { g.panics = true; return s.request(m) },
	},
	http.StatusServiceUnavailable: {
		func(g *gateway, m string, _ *operation, s sample) *http.Request {
			g.err = fmt.Errorf("x: %w", &ledger.UnavailableError{Err: errors.New("peer0.police.internal:7051 refused")})
			g.pageStatus = http.StatusServiceUnavailable
			g.notReady = errors.New("the index has 5 of 90 blocks")
			return s.request(m)
		},
		failing(fmt.Errorf("x: %w", context.DeadlineExceeded)),
	},
}

func plain(_ *gateway, m string, _ *operation, s sample) *http.Request { return s.request(m) }

func failing(err error) func(*gateway, string, *operation, sample) *http.Request {
	return func(g *gateway, m string, _ *operation, s sample) *http.Request { g.err = err; return s.request(m) }
}

// TestEveryStatusOfEveryOperation provokes each status that the contract names,
// and holds the answer to the contract. A provocation that an operation cannot
// meet (a picture has no ledger to be down) must leave its ordinary answer.
func TestEveryStatusOfEveryOperation(t *testing.T) {
	t.Parallel()
	h, g, log := newTest(t)
	operations := contract(t)
	for key := range samples {
		if operations[key] == nil {
			t.Errorf("the sample %q is of no operation", key)
		}
	}
	for key, op := range operations {
		s, ok := samples[key]
		if !ok {
			t.Errorf("%s has no sample", key)
			continue
		}
		var statuses []int
		for status := range op.route.Operation.Responses.Map() {
			n, err := strconv.Atoi(status)
			if err != nil {
				t.Fatalf("%s: status %q is not a number", key, status)
			}
			statuses = append(statuses, n)
		}
		slices.Sort(statuses)
		for _, status := range statuses {
			tries := provocations[status]
			if len(tries) == 0 {
				t.Errorf("%s: nothing provokes %d", key, status)
			}
			met := false
			for i, provoke := range tries {
				g.reset()
				log.Reset()
				r := provoke(g, op.route.Method, op, s)
				if r == nil {
					continue
				}
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				name := fmt.Sprintf("%s, %d (way %d)", key, status, i)
				met = met || w.Code == status
				checkAnswer(t, name, op, r, w)
				checkSilence(t, name, w, log)
			}
			if !met {
				t.Errorf("%s: nothing provoked %d", key, status)
			}
		}
	}
}

// TestNoOtherStatus provokes what any request may meet before a use case runs:
// the contract must name the answer of every operation.
func TestNoOtherStatus(t *testing.T) {
	t.Parallel()
	h, g, log := newTest(t)
	for key, op := range contract(t) {
		for status, provoke := range map[int]func(*gateway, string, *operation, sample) *http.Request{
			http.StatusBadRequest:          provocations[http.StatusBadRequest][0],
			http.StatusUnauthorized:        provocations[http.StatusUnauthorized][0],
			http.StatusTooManyRequests:     provocations[http.StatusTooManyRequests][0],
			http.StatusInternalServerError: provocations[http.StatusInternalServerError][1],
		} {
			g.reset()
			log.Reset()
			r := provoke(g, op.route.Method, op, samples[key])
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			name := fmt.Sprintf("%s, %d", key, status)
			checkAnswer(t, name, op, r, w)
			checkSilence(t, name, w, log)
		}
	}
}

// checkAnswer holds an answer to the contract and to the rules of all answers.
func checkAnswer(t *testing.T, name string, op *operation, r *http.Request, w *httptest.ResponseRecorder) {
	t.Helper()
	err := openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, Route: op.route},
		Status:                 w.Code,
		Header:                 w.Header(),
		Body:                   io.NopCloser(bytes.NewReader(w.Body.Bytes())),
		Options:                &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	})
	if err != nil {
		t.Errorf("%s: answer %d breaks the contract: %v\n%s", name, w.Code, err, w.Body)
	}
	for _, header := range []string{"X-Content-Type-Options", "Content-Security-Policy", "Referrer-Policy", "Cache-Control", "Strict-Transport-Security", "X-Request-Id"} {
		if w.Header().Get(header) == "" {
			t.Errorf("%s: answer %d has no %s", name, w.Code, header)
		}
	}
	if w.Code < 400 || strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
		return
	}
	checkProblem(t, name, w)
	switch w.Code {
	case http.StatusUnauthorized:
		if w.Header().Get("WWW-Authenticate") == "" {
			t.Errorf("%s: no WWW-Authenticate", name)
		}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if n, err := strconv.Atoi(w.Header().Get("Retry-After")); err != nil || n < 1 {
			t.Errorf("%s: Retry-After is %q", name, w.Header().Get("Retry-After"))
		}
	}
}

func checkProblem(t *testing.T, name string, w *httptest.ResponseRecorder) api.Problem {
	t.Helper()
	var p api.Problem
	if got := w.Header().Get("Content-Type"); got != problemMedia {
		t.Errorf("%s: error %d is %q, want %q: %s", name, w.Code, got, problemMedia, w.Body)
		return p
	}
	dec := json.NewDecoder(bytes.NewReader(w.Body.Bytes()))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		t.Errorf("%s: %v", name, err)
		return p
	}
	switch {
	case p.Status != w.Code, p.Type != ProblemType+string(p.Code), p.Title == "", p.Detail == "":
		t.Errorf("%s: incomplete problem %+v of status %d", name, p, w.Code)
	case len(p.TraceID) != 32 || p.TraceID != w.Header().Get("X-Request-Id"):
		t.Errorf("%s: trace id %q, X-Request-Id %q", name, p.TraceID, w.Header().Get("X-Request-Id"))
	}
	return p
}

// checkSilence looks for what must reach neither clients nor the log.
func checkSilence(t *testing.T, name string, w *httptest.ResponseRecorder, log *bytes.Buffer) {
	t.Helper()
	for _, secret := range []string{"zl_", "police.internal", "boom", ".go:"} {
		if strings.Contains(w.Body.String(), secret) {
			t.Errorf("%s: answer %d holds %q: %s", name, w.Code, secret, w.Body)
		}
	}
	for _, secret := range []string{"zl_", testRef, "Bearer", "307020300000000000"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("%s: log holds %q: %s", name, secret, log)
		}
	}
}

func TestProblemsCoverTheContract(t *testing.T) {
	doc, err := api.GetSpec()
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, v := range doc.Components.Schemas["ProblemCode"].Value.Enum {
		want = append(want, fmt.Sprint(v))
	}
	for code := range problems {
		got = append(got, string(code))
	}
	sort.Strings(want)
	sort.Strings(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("problem codes (-contract +mapping):\n%s", diff)
	}
}

func TestEveryKindHasItsProblem(t *testing.T) {
	want := map[domain.Kind]int{
		domain.Invalid: 400, domain.Forbidden: 403, domain.NotFound: 404, domain.Exists: 409, domain.Conflict: 409, domain.WrongState: 409, domain.Changed: 412,
	}
	if len(want) != len(domain.Kinds) {
		t.Fatalf("%d kinds are tested of %d", len(want), len(domain.Kinds))
	}
	for _, k := range domain.Kinds {
		code, name := codeOf(k), k
		if k == domain.WrongState {
			name = domain.Conflict
		}
		if k == domain.Changed {
			name = "precondition_failed"
		}
		if got := problems[code].status; got != want[k] || string(code) != string(name) {
			t.Errorf("kind %s is problem %q with status %d, want %s with %d", k, code, got, name, want[k])
		}
		if kindsZh[k] == "" {
			t.Errorf("kind %s has no words in Chinese", k)
		}
	}
	if got := codeOf("no such kind"); got != "" {
		t.Errorf("an unknown kind is problem %q", got)
	}
	if got := refusalOf(&domain.Error{Kind: "no such kind", Msg: "secret"}); got.code != api.ProblemCodeInternal || got.detail != internalDetail {
		t.Errorf("an unknown kind is told as %+v", got)
	}
}

func TestExamplesOfTheContractAreSchemas(t *testing.T) {
	// Every object that a client sends must refuse unknown fields.
	doc, err := api.GetSpec()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for path, item := range doc.Paths.Map() {
		for method, o := range item.Operations() {
			if o.RequestBody == nil || o.RequestBody.Value.Content[jsonMedia] == nil {
				continue
			}
			seen++
			closed(t, method+" "+path, o.RequestBody.Value.Content["application/json"].Schema.Value)
		}
	}
	if seen == 0 {
		t.Fatal("no operation takes a body")
	}
}

// closed checks that s and all objects in it have no other fields than named.
func closed(t *testing.T, name string, s *openapi3.Schema) {
	t.Helper()
	if s.Type.Is("object") && (s.AdditionalProperties.Has == nil || *s.AdditionalProperties.Has) {
		t.Errorf("%s takes unknown fields", name)
	}
	for field, p := range s.Properties {
		closed(t, name+"/"+field, p.Value)
	}
	for _, part := range s.AllOf {
		closed(t, name, part.Value)
	}
	if s.Items != nil {
		closed(t, name+"[]", s.Items.Value)
	}
}
