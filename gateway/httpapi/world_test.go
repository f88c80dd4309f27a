package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/chaincode"
	"github.com/zhenglian/zhenglian/chaincode/chaincodetest"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/accesslog"
	"github.com/zhenglian/zhenglian/gateway/accesslog/accesslogtest"
	"github.com/zhenglian/zhenglian/gateway/identity"
	"github.com/zhenglian/zhenglian/gateway/ledger/ledgertest"
	"github.com/zhenglian/zhenglian/gateway/memcache"
	"github.com/zhenglian/zhenglian/gateway/outbox"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/sqlindex"
	"github.com/zhenglian/zhenglian/gateway/sqltrail"
	"github.com/zhenglian/zhenglian/proof"
)

// world is a consortium in memory behind the real HTTP side: the handlers of all
// departments, the real use cases, contracts and index. Civil asks police for
// data; bigdata is the lead.
type world struct {
	t        testing.TB
	chain    *ledgertest.Chain
	now      atomic.Int64 // milliseconds
	handlers map[domain.DepartmentCode]http.Handler
	numbers  atomic.Int64

	published string // code of the entry that requests are for

	offline bool                                        // everybody signs with a key of their own
	known   map[domain.DepartmentCode]*identity.Signers // who does
	signed  map[string]bool                             // transactions that were
	outbox  map[domain.DepartmentCode]*outbox.Outbox    // of what was
	waiting map[domain.DepartmentCode]*service.Signing
	cut     func(r *http.Request) (lost bool) // loses answers; nil loses none
	change  func(answer []byte) []byte        // what a gateway answers that lies; nil for none that does
}

var worldUSCC = map[domain.DepartmentCode]string{
	"bigdata": "11100000000013338W",
	"police":  "11430000006122244L",
	"civil":   "11330105002500287C",
	"market":  "11220000013544541J",
}

// contracts answers a handler that runs the real chaincode.
func contracts(t testing.TB) ledgertest.Handler {
	t.Helper()
	cc, err := chaincode.New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	identities := make(map[domain.Caller]chaincodetest.Identity)
	for _, d := range ledgertest.Departments {
		for _, role := range domain.Roles {
			identities[domain.Caller{Department: d.Code, MSPID: d.MSPID, Role: role}] = chaincodetest.NewIdentity(t, string(d.MSPID), map[string]string{
				"zhenglian.role": string(role), "zhenglian.department": string(d.Code),
			})
		}
	}
	return func(call ledgertest.Call) ([]byte, []domain.Write, error) {
		l := chaincodetest.NewLedger(call.Tx.Channel)
		for _, k := range call.State.Keys("") {
			l.Set(k, call.State.Get(k))
		}
		r := l.Simulate(cc, chaincodetest.Proposal{
			Creator: identities[call.Caller], TxID: string(call.Tx.ID), Time: call.Tx.Time,
			Function: call.Transaction, Args: call.Arguments(),
		})
		if !r.OK() {
			if e, ok := domain.ParseError(r.Message); ok {
				return nil, nil, e
			}
			return nil, nil, fmt.Errorf("chaincode: %s", r.Message)
		}
		writes := []domain.Write{}
		for _, w := range r.Writes {
			writes = append(writes, domain.Write{Key: w.Key, Value: w.Value, Delete: w.Delete})
		}
		return r.Payload, writes, nil
	}
}

// departmentTokens knows "zl_" followed by a role of its department.
type departmentTokens domain.DepartmentCode

func (d departmentTokens) Caller(token string) (service.Caller, bool) {
	c, ok := tokens{}.Caller(token)
	c.Department = domain.DepartmentCode(d)
	return c, ok
}

// newWorld returns a consortium of registered departments with working days of some
// years, time limits of one working day, and a published entry of the police.
func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOf(t, false)
}

// newWorldOf is newWorld, in which with offline everything is signed by the callers.
func newWorldOf(t testing.TB, offline bool) *world {
	t.Helper()
	w := &world{
		t: t, handlers: make(map[domain.DepartmentCode]http.Handler), offline: offline, known: make(map[domain.DepartmentCode]*identity.Signers),
		signed: make(map[string]bool), outbox: make(map[domain.DepartmentCode]*outbox.Outbox), waiting: make(map[domain.DepartmentCode]*service.Signing),
	}
	w.now.Store(ledgertest.Start.UnixMilli())
	w.chain = ledgertest.NewChain(contracts(t))
	w.chain.SetClock(w.clock)
	ix, err := sqlindex.Open(t.Context(), filepath.Join(t.TempDir(), "index.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ix.Close(); err != nil {
			t.Error(err)
		}
	})
	cache, err := memcache.New(memcache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	indexer := service.NewIndexer(w.chain.Ledger("police"), ix, cache, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = indexer.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })

	store, err := sqltrail.Open(t.Context(), filepath.Join(t.TempDir(), "trail.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	audits := service.NewAuditor(service.AuditorOptions{Trail: store, Anchors: service.IndexAnchors(ix), Trust: new(proof.Anchors), Grace: time.Hour, Logger: slog.New(slog.DiscardHandler), Clock: w.clock})
	for _, d := range ledgertest.Departments {
		l := w.signing(d, ix)
		g := new(gateway) // for what needs neither ledger nor index
		g.reset()
		cfg := g.config(io.Discard)
		cfg.Governance = service.NewGovernance(l, ix)
		cfg.Catalog = service.NewCatalog(l, ix)
		cfg.Sharing = service.NewSharing(l, ix)
		cfg.Chain = service.NewChain(l, ix, ledgertest.Channel)
		cfg.Overview = service.NewOverview(ix, w.clock)
		log := accesslogtest.New()
		cfg.Department = d.Code
		cfg.Tiles = log
		cfg.Alarms = service.NewAlarms(l, ix)
		cfg.Auditor = audits
		if d.Code == "market" { // a gateway that reads its own log only
			cfg.Auditor = nil
		}
		cfg.Access = service.NewAccess(service.AccessOptions{
			Department: d.Code, Index: ix, Log: log, Ledger: l, Heard: w.clock, AnchorEvery: time.Second, MaxLag: time.Minute, Clock: w.clock,
			Anchored: func() (accesslog.Anchored, bool) { return accesslog.Anchored{}, false }, Backlog: func() time.Duration { return 0 },
		})
		certificates := service.NewCertificates(l, ix, cfg.PublicURL)
		certificates.Clock = w.clock
		cfg.Certificates = certificates
		cfg.Tokens = departmentTokens(d.Code)
		w.configureSigning(&cfg)
		cfg.Limiter = unlimited{}
		cfg.Clock = w.clock
		cfg.Log = slog.New(slog.DiscardHandler)
		if w.handlers[d.Code], err = New(cfg); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range ledgertest.Departments {
		w.must("bigdata admin", "/v1/departments", fmt.Sprintf(`{"code":%q,"mspId":%q,"nameZh":"部门","nameEn":"Department","uscc":%q,"lead":%v}`,
			d.Code, d.MSPID, worldUSCC[d.Code], d.Code == "bigdata"))
	}
	for year := 2026; year < 2030; year++ {
		w.must("bigdata admin", "/v1/calendars", fmt.Sprintf(`{"year":%d,"daysOff":["%d-01-01"],"workdays":[],"source":"测试日历"}`, year, year))
	}
	for _, event := range domain.DeadlineEvents {
		w.must("bigdata admin", "/v1/rules", fmt.Sprintf(`{"event":%q,"limit":1,"extendMax":50,"extendWith":"lead","legalBasis":"测试办法第1条"}`, event))
	}
	w.published = w.entry("published")
	return w
}

func (w *world) clock() time.Time { return time.UnixMilli(w.now.Load()).UTC() }

// pass lets a time limit of one working day, or an extended one of three, pass.
func (w *world) pass() { w.now.Add((7 * 24 * time.Hour).Milliseconds()) }

// do sends a request as "department role".
func (w *world) do(who, method, target, body string) *httptest.ResponseRecorder {
	department, role, _ := strings.Cut(who, " ")
	return send(w.handlers[domain.DepartmentCode(department)], method, target, domain.Role(role), body)
}

// must posts what must succeed.
func (w *world) must(who, target, body string) *httptest.ResponseRecorder {
	w.t.Helper()
	if w.offline {
		w.sign(who, target, body)
		return nil
	}
	r := w.do(who, http.MethodPost, target, body)
	if r.Code != http.StatusOK && r.Code != http.StatusCreated {
		w.t.Fatalf("%s posts %s to %s: status %d: %s", who, body, target, r.Code, r.Body)
	}
	return r
}

// read answers what GET of target answers to the police's auditor.
func read[T any](w *world, target string) T {
	w.t.Helper()
	r := w.do("police auditor", http.MethodGet, target, "")
	if r.Code != http.StatusOK {
		w.t.Fatalf("%s: status %d: %s", target, r.Code, r.Body)
	}
	var v T
	if err := json.Unmarshal(r.Body.Bytes(), &v); err != nil {
		w.t.Fatal(err)
	}
	return v
}

// content is the body of an entry of the police; note sets two contents of one
// entry apart.
func content(code, note string) string {
	return fmt.Sprintf(`{"code":%q,"name":%q,"abstract":%q,"providerUscc":%q,"classification":"人口","format":"api",
		"items":[{"name":"户号","type":"C","level":2,"shareType":2},{"name":"住址","type":"C","level":3,"shareType":2}],"shareType":2,"shareCondition":"办理本部门事项时",
		"legalBasis":["某市办法第1条"],"shareMode":"platform_api","openType":3,"updateCycle":"daily","dutyRef":"户籍管理","systemRef":"人口系统",
		"regionCode":"350400","level":3,"personalData":"general"}`, code, "户籍信息第"+code[7:]+"册", "常住人口登记信息"+note, worldUSCC["police"])
}

func request(id, code string) string {
	return fmt.Sprintf(`{"id":%q,"catalogCode":%q,"items":["户号","住址"],"purpose":"婚姻登记核验","useBasis":"婚姻登记条例","serviceItem":"11330000-marriage",
		"shareMode":"platform_api","period":{"from":"2026-01-01T00:00:00Z","to":"2030-01-01T00:00:00Z"},"quota":{"total":10,"perDay":5,"perMinute":5},
		"letterDigest":%q,"securityMeasures":"专线传输"}`, id, code, hex64)
}

// partly is an answer that leaves something out.
const partly = `{"decision":"partly","reason":"仅限必要项","items":["户号"],"period":{"from":"2026-01-01T00:00:00Z","to":"2030-01-01T00:00:00Z"},"quota":{"total":10,"perDay":5,"perMinute":5}}`

const reason = `{"reason":"因故"}`

// A record gets into a state by a step from another state.
type step struct{ from, who, action, body string }

var entrySteps = map[string]step{
	"reg_pending":     {"draft", "police operator", "submit", ""},
	"reg_rejected":    {"reg_pending", "bigdata reviewer", "review", `{"decision":"return","opinion":"补正"}`},
	"registered":      {"reg_pending", "bigdata reviewer", "review", `{"decision":"approve"}`},
	"pub_pending":     {"registered", "police operator", "publish", ""},
	"pub_rejected":    {"pub_pending", "bigdata reviewer", "review", `{"decision":"return","opinion":"补正"}`},
	"published":       {"pub_pending", "bigdata reviewer", "review", `{"decision":"approve"}`},
	"change_pending":  {"published", "police operator", "change", "content"},
	"offline_pending": {"published", "police operator", "retire", `{"way":"offline","reason":"职责调整"}`},
	"offline":         {"offline_pending", "bigdata reviewer", "review", `{"decision":"approve"}`},
	"retired":         {"registered", "police operator", "retire", `{"way":"retire","reason":"职责调整"}`},
}

var requestSteps = map[string]step{
	"returned":      {"submitted", "bigdata reviewer", "accept", `{"decision":"return","reason":"补正"}`},
	"accepted":      {"submitted", "bigdata reviewer", "accept", `{"decision":"accept"}`},
	"extended":      {"asked", "bigdata reviewer", "decide-extension", `{"decision":"grant"}`},
	"asked":         {"accepted", "police reviewer", "extend", `{"days":2,"reason":"核对口径"}`},
	"agreed":        {"accepted", "police reviewer", "answer", `{"decision":"agree"}`},
	"partly_agreed": {"accepted", "police reviewer", "answer", partly},
	"refused":       {"accepted", "police reviewer", "answer", `{"decision":"refuse","reason":"涉密","legalBasis":["保密法"]}`},
	"disputed":      {"refused", "civil operator", "dispute", reason},
	"mediated":      {"disputed", "bigdata reviewer", "mediate", `{"decision":"remand","reason":"重新答复"}`},
	"delivered":     {"agreed", "police operator", "deliver", `{"deliveryDigest":"` + hex64 + `"}`},
	"active":        {"delivered", "civil operator", "confirm", `{"decision":"confirm"}`},
	"closed":        {"active", "civil operator", "close", reason},
	"withdrawn":     {"submitted", "civil operator", "withdraw", reason},
}

// newCode and newID draw names that no record has.
func (w *world) newCode() string { return fmt.Sprintf("307003/%06d", w.numbers.Add(1)) }
func (w *world) newID() string   { return fmt.Sprintf("%032x", w.numbers.Add(1)) }

// entry answers the code of a new entry of the police in a state.
func (w *world) entry(state string) string {
	w.t.Helper()
	if state == "draft" {
		code := w.newCode()
		w.must("police operator", "/v1/catalog/entries?draft=true", content(code, ""))
		return code
	}
	s, ok := entrySteps[state]
	if !ok {
		w.t.Fatalf("no way to the state %q", state)
	}
	code := w.entry(s.from)
	body := s.body
	if body == "content" {
		body = content(code, "，更新")
	}
	w.must(s.who, entryAction(code, s.action), body)
	return code
}

func entryAction(code, action string) string {
	return "/v1/catalog/entries/" + strings.ReplaceAll(code, "/", "%2F") + "/actions/" + action
}

// request answers the id of a new request of civil for the police's entry in a
// state.
func (w *world) request(state string) string {
	w.t.Helper()
	if state == "submitted" {
		id := w.newID()
		w.must("civil operator", "/v1/requests", request(id, w.published))
		return id
	}
	s, ok := requestSteps[state]
	if !ok {
		w.t.Fatalf("no way to the state %q", state)
	}
	id := w.request(s.from)
	w.must(s.who, "/v1/requests/"+id+"/actions/"+s.action, s.body)
	return id
}

// grant answers the id of a new grant in a state.
func (w *world) grant(state string) string {
	w.t.Helper()
	id := w.request("agreed")
	switch state {
	case "active":
	case "suspended":
		w.must("police reviewer", "/v1/grants/"+id+"/actions/suspend", reason)
	case "revoked":
		w.must("police reviewer", "/v1/grants/"+id+"/actions/revoke", reason)
	default:
		w.t.Fatalf("no way to the state %q", state)
	}
	return id
}
