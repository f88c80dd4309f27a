package service_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/chaincode"
	"github.com/zhenglian/zhenglian/chaincode/chaincodetest"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/cache"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger/ledgertest"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/sqlindex"
	"github.com/zhenglian/zhenglian/proof"
)

// The departments' codes of the tests: true credit codes of public bodies.
var usccs = map[domain.DepartmentCode]string{
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
	var mu sync.Mutex
	identities := make(map[domain.Caller]chaincodetest.Identity)
	identity := func(c domain.Caller) chaincodetest.Identity {
		mu.Lock()
		defer mu.Unlock()
		id, ok := identities[c]
		if !ok {
			id = chaincodetest.NewIdentity(t, string(c.MSPID), map[string]string{
				"zhenglian.role": string(c.Role), "zhenglian.department": string(c.Department),
			})
			identities[c] = id
		}
		return id
	}
	return func(call ledgertest.Call) ([]byte, []domain.Write, error) {
		l := chaincodetest.NewLedger(call.Tx.Channel)
		for _, k := range call.State.Keys("") {
			l.Set(k, call.State.Get(k))
		}
		r := l.Simulate(cc, chaincodetest.Proposal{
			Creator: identity(call.Caller), TxID: string(call.Tx.ID), Time: call.Tx.Time,
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

// clock is a clock that tests move.
type clock struct{ now atomic.Int64 }

func (c *clock) Now() time.Time          { return time.UnixMilli(c.now.Load()).UTC() }
func (c *clock) Advance(d time.Duration) { c.now.Add(d.Milliseconds()) }

const day = 24 * time.Hour

// faultyIndex fails every read after the first few.
type faultyIndex struct {
	index.Index
	err  error
	good int // reads that succeed first
}

func (f *faultyIndex) fails() bool {
	f.good--
	return f.good < 0
}

func (f *faultyIndex) Get(ctx context.Context, kind domain.RecordKind, id string) (index.Record, error) {
	if f.fails() {
		return index.Record{}, f.err
	}
	return f.Index.Get(ctx, kind, id)
}

func (f *faultyIndex) List(ctx context.Context, kind domain.RecordKind, filter index.Filter, page index.Page) (index.Records, error) {
	if f.fails() {
		return index.Records{}, f.err
	}
	return f.Index.List(ctx, kind, filter, page)
}

func (f *faultyIndex) ListEvents(ctx context.Context, kind domain.RecordKind, of string, page index.Page) (index.Records, error) {
	if f.fails() {
		return index.Records{}, f.err
	}
	return f.Index.ListEvents(ctx, kind, of, page)
}

func (f *faultyIndex) Inbox(ctx context.Context, filter index.InboxFilter, page index.Page) (index.InboxRecords, error) {
	if f.fails() {
		return index.InboxRecords{}, f.err
	}
	return f.Index.Inbox(ctx, filter, page)
}

func (f *faultyIndex) Tally(ctx context.Context, now time.Time) (index.Tally, error) {
	if f.fails() {
		return index.Tally{}, f.err
	}
	return f.Index.Tally(ctx, now)
}

// memory is a cache that a test can look into and write to.
type memory struct {
	mu      sync.Mutex
	entries map[string]cache.Entry
	poison  func(key string) (cache.Entry, bool) // answers in place of entries when set
	gets    int
}

func newMemory() *memory { return &memory{entries: make(map[string]cache.Entry)} }

func (m *memory) Get(_ context.Context, key string) (cache.Entry, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gets++
	if m.poison != nil {
		return m.poison(key)
	}
	e, ok := m.entries[key]
	return e, ok
}

func (m *memory) Put(_ context.Context, key string, e cache.Entry, _ time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries[key] = cache.Entry{Value: bytes.Clone(e.Value), Height: e.Height}
}

func (m *memory) Drop(_ context.Context, keys ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range keys {
		delete(m.entries, k)
	}
}

func (m *memory) Allow(context.Context, string, float64, int) (bool, time.Duration, int) {
	return true, 0, 1
}
func (m *memory) Close() error { return nil }

func (m *memory) has(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.entries[key]
	return ok
}

// counting counts reads of an index.
type counting struct {
	index.Index
	gets  atomic.Int64
	delay chan struct{} // when set, Get waits for it
}

func (c *counting) Get(ctx context.Context, kind domain.RecordKind, id string) (index.Record, error) {
	c.gets.Add(1)
	if c.delay != nil {
		select {
		case <-c.delay:
		case <-ctx.Done():
			return index.Record{}, ctx.Err()
		}
	}
	return c.Index.Get(ctx, kind, id)
}

// world is a consortium in memory, seen through the police gateway.
type world struct {
	t       testing.TB
	clock   *clock
	chain   *ledgertest.Chain
	ledger  *ledgertest.Ledger // the police's
	index   *sqlindex.Index
	cache   *memory
	indexer *service.Indexer
	anchors *proof.Anchors
}

var (
	leadOperator   = service.Caller{Department: "bigdata", Role: domain.RoleOperator}
	marketReviewer = service.Caller{Department: "market", Role: domain.RoleReviewer}
	civilReviewer  = service.Caller{Department: "civil", Role: domain.RoleReviewer}
	policeOperator = service.Caller{Department: "police", Role: domain.RoleOperator}
	policeReviewer = service.Caller{Department: "police", Role: domain.RoleReviewer}
	policeAuditor  = service.Caller{Department: "police", Role: domain.RoleAuditor}
	policeAdmin    = service.Caller{Department: "police", Role: domain.RoleAdmin}
	leadAdmin      = service.Caller{Department: "bigdata", Role: domain.RoleAdmin}
	leadReviewer   = service.Caller{Department: "bigdata", Role: domain.RoleReviewer}
	civilOperator  = service.Caller{Department: "civil", Role: domain.RoleOperator}
)

// newWorld returns a consortium of registered departments, indexed.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, clock: new(clock), cache: newMemory()}
	w.clock.now.Store(ledgertest.Start.UnixMilli())
	w.chain = ledgertest.NewChain(contracts(t))
	w.chain.SetClock(w.clock.Now)
	w.ledger = w.chain.Ledger("police")
	w.index = newIndex(t)
	w.indexer = service.NewIndexer(w.ledger, w.index, w.cache, slog.New(slog.DiscardHandler))
	run(t, w.indexer.Run)

	w.anchors = &proof.Anchors{
		Format: proof.TrustFormat, Channel: ledgertest.Channel, Chaincode: ledgertest.Chaincode,
		Versions: []string{ledgertest.Version}, Quorum: 3,
	}
	governance := service.NewGovernance(w.chain.Ledger("bigdata"), w.index)
	for _, d := range ledgertest.Departments {
		_, err := governance.RegisterDepartment(t.Context(), leadAdmin, domain.RegisterDepartmentArgs{
			Code: d.Code, MSPID: d.MSPID, NameZh: "部门" + string(d.Code), NameEn: "Department " + string(d.Code),
			USCC: usccs[d.Code], Lead: d.Code == "bigdata",
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	w.setDeadlines()
	w.authorise("police", issueRequest().TypeCode)
	for _, code := range []domain.DepartmentCode{"bigdata", "civil", "market", "police"} { // sorted
		for _, d := range ledgertest.Departments {
			if d.Code != code {
				continue
			}
			w.anchors.Departments = append(w.anchors.Departments, proof.Department{
				Code: d.Code, MSPID: d.MSPID, NameZh: "部门" + string(d.Code), NameEn: "Department " + string(d.Code),
				USCC: usccs[d.Code], CARoots: []string{w.chain.CARoot(d.MSPID)},
				LogOrigin: origin(d.Code), LogKey: newTestLog(t, origin(d.Code)).VerifierKey(),
			})
		}
	}
	return w
}

// limits are the time limits of the tests, in working days.
var limits = map[domain.DeadlineEvent]int{
	domain.DeadlineCatalogReview: 2, domain.DeadlineCatalogUpdate: 20,
	domain.DeadlineRequestCheck: 2, domain.DeadlineRequestAnswer: 10, domain.DeadlineRequestDelivery: 20,
	domain.DeadlineRequestConfirm: 5, domain.DeadlineRequestDispute: 10, domain.DeadlineMediation: 10,
}

// setDeadlines sets the working days of 2026, as if nothing but New Year were
// off, and all time limits.
func (w *world) setDeadlines() {
	w.t.Helper()
	governance := w.governance("bigdata")
	if _, err := governance.SetCalendar(w.t.Context(), leadAdmin, calendar()); err != nil {
		w.t.Fatal(err)
	}
	for _, event := range domain.DeadlineEvents {
		if _, err := governance.SetRule(w.t.Context(), leadAdmin, deadlineRule(event)); err != nil {
			w.t.Fatal(err)
		}
	}
}

func calendar() domain.SetCalendarArgs {
	return domain.SetCalendarArgs{
		Year: 2026, DaysOff: []string{"2026-01-01", "2026-01-02"}, Workdays: []string{"2026-01-04"}, Source: "测试日历",
	}
}

func deadlineRule(event domain.DeadlineEvent) domain.SetRuleArgs {
	return domain.SetRuleArgs{Event: event, Limit: limits[event], ExtendMax: 10, ExtendWith: domain.ExtendByLead, LegalBasis: "测试办法第1条"}
}

// governance, catalog and sharing answer the use cases of a department.
func (w *world) governance(code domain.DepartmentCode) *service.Governance {
	return service.NewGovernance(w.chain.Ledger(code), w.index)
}

func (w *world) catalog(code domain.DepartmentCode) *service.Catalog {
	return service.NewCatalog(w.chain.Ledger(code), w.index)
}

func (w *world) sharing(code domain.DepartmentCode) *service.Sharing {
	return service.NewSharing(w.chain.Ledger(code), w.index)
}

// overview answers what many records say, at the clock's time.
func (w *world) overview() *service.Overview { return service.NewOverview(w.index, w.clock.Now) }

func newIndex(t testing.TB) *sqlindex.Index {
	t.Helper()
	ix, err := sqlindex.Open(t.Context(), filepath.Join(t.TempDir(), "index.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ix.Close(); err != nil {
			t.Error(err)
		}
	})
	return ix
}

func origin(code domain.DepartmentCode) string { return "zhenglian.example/log/" + string(code) }

// run runs f in the background until the test ends.
func run(t testing.TB, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// await waits until condition holds.
func await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// indexed waits until the index is at the head of the chain.
func (w *world) indexed() {
	w.t.Helper()
	if err := w.index.WaitBlock(w.t.Context(), w.chain.Height()-1); err != nil {
		w.t.Fatal(err)
	}
}

const entryCode = "307003/000017"

func content() domain.CatalogContent {
	return domain.CatalogContent{
		Code: entryCode, Name: "户籍信息", Abstract: "常住人口登记信息", ProviderUSCC: usccs["police"],
		Classification: "人口", Format: "api",
		Items: []domain.CatalogItem{
			{Name: "户号", Type: "C", Level: 2, ShareType: domain.Conditional},
			{Name: "住址", Type: "C", Level: 3, ShareType: domain.Conditional},
		},
		ShareType: domain.Conditional, ShareCondition: "办理本部门事项时", LegalBasis: []string{"三明市方案第22条"},
		ShareMode: "platform_api", OpenType: domain.NotOpen, Level: 3, UpdateCycle: "daily", DutyRef: "户籍管理", SystemRef: "人口系统",
		RegionCode: "350400", PersonalData: "general",
	}
}

// contents are n contents like [content], with codes and names of their own.
func contents(n int) []domain.CatalogContent {
	out := make([]domain.CatalogContent, n)
	for i := range out {
		out[i] = content()
		out[i].Code = fmt.Sprintf("307003/%06d", 100+i)
		out[i].Name = fmt.Sprintf("户籍信息（第%d册）", i)
	}
	return out
}

// publish publishes the police's entry.
func (w *world) publish() { w.publishContent(content()) }

// publishContent registers and publishes an entry of the police, with both
// reviews by the lead.
func (w *world) publishContent(c domain.CatalogContent) {
	w.t.Helper()
	ctx := w.t.Context()
	if _, err := w.catalog("police").Register(ctx, policeOperator, domain.RegisterCatalogArgs{Content: c}); err != nil {
		w.t.Fatal(err)
	}
	w.approve(c.Code)
	if _, err := w.catalog("police").Publish(ctx, policeOperator, c.Code); err != nil {
		w.t.Fatal(err)
	}
	w.approve(c.Code)
}

// approve has the lead approve what is under review.
func (w *world) approve(code string) {
	w.t.Helper()
	_, err := w.catalog("bigdata").Review(w.t.Context(), leadReviewer, domain.ReviewCatalogArgs{Code: code, Decision: domain.Approve})
	if err != nil {
		w.t.Fatal(err)
	}
}

// shareRequest asks for the use of one item. A quota without a frequency bounds it
// by the day only.
func shareRequest(id string, quota domain.Quota) domain.ShareRequestContent {
	if quota.PerMinute == 0 {
		quota.PerMinute = quota.PerDay
	}
	return domain.ShareRequestContent{
		ID: id, CatalogCode: entryCode, Items: []string{"户号"}, Purpose: "婚姻登记核验", UseBasis: "婚姻登记条例",
		ServiceItem: "11330000-marriage", ShareMode: "platform_api",
		Period: domain.Period{From: ledgertest.Start, To: ledgertest.Start.AddDate(0, 1, 0)}, Quota: quota,
		LetterDigest: strings.Repeat("a", 64), SecurityMeasures: "专线传输",
	}
}

// accepted publishes the police's entry, if need be, and has civil's request for
// it accepted: for items, or for the one of [shareRequest].
func (w *world) accepted(id string, quota domain.Quota, items ...string) {
	w.t.Helper()
	ctx := w.t.Context()
	asked := shareRequest(id, quota)
	if len(items) > 0 {
		asked.Items = items
	}
	if _, err := w.catalog("police").Get(ctx, entryCode); err != nil {
		w.publish()
	}
	if _, err := w.sharing("civil").Request(ctx, civilOperator, asked); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.sharing("bigdata").Accept(ctx, leadReviewer, domain.AcceptArgs{ID: id, Decision: domain.AcceptRequest}); err != nil {
		w.t.Fatal(err)
	}
}

// grant grants civil the use of the police's entry; see [world.accepted].
func (w *world) grant(id string, quota domain.Quota, items ...string) domain.Grant {
	w.t.Helper()
	w.accepted(id, quota, items...)
	police := w.sharing("police")
	if _, err := police.Answer(w.t.Context(), policeReviewer, domain.AnswerArgs{ID: id, Decision: domain.Agree}); err != nil {
		w.t.Fatal(err)
	}
	g, err := police.GetGrant(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return g.Value
}

func issueRequest() service.IssueRequest {
	return service.IssueRequest{
		TypeCode: "11100000000013338W011", TypeNameZh: "居住证", TypeNameEn: "Residence permit",
		HolderKind: domain.HolderPerson, HolderSaltedRef: strings.Repeat("5a", 32),
		ValidFrom: ledgertest.Start.AddDate(0, 0, -1), ValidTo: ledgertest.Start.AddDate(1, 0, 0),
		ContentDigest: strings.Repeat("b", 64), Serial: "2026000001",
	}
}

func (w *world) certificates() *service.Certificates {
	c := service.NewCertificates(w.ledger, w.index, "http://127.0.0.1:8082/")
	c.Clock = w.clock.Now
	return c
}

// authorise lets a department issue certificates of a type for ten years.
func (w *world) authorise(department domain.DepartmentCode, typeCode string) {
	w.t.Helper()
	lead := service.NewCertificates(w.chain.Ledger("bigdata"), w.index, "http://x")
	_, err := lead.Authorise(w.t.Context(), leadAdmin, domain.AuthoriseArgs{
		Issuer: department, TypeCode: typeCode, TypeNameZh: issueRequest().TypeNameZh, TypeNameEn: issueRequest().TypeNameEn,
		Basis: "居住证暂行条例", Period: domain.Period{From: ledgertest.Start.AddDate(0, 0, -1), To: ledgertest.Start.AddDate(10, 0, 0)},
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// issue issues a certificate of the police: its operator proposes, its reviewer
// approves.
func (w *world) issue(r service.IssueRequest) service.Issued {
	w.t.Helper()
	issued := w.propose(r)
	written, err := w.certificates().Decide(w.t.Context(), policeReviewer, approval(issued.Value.Content.Ref))
	if err != nil {
		w.t.Fatal(err)
	}
	issued.Written = written
	return issued
}

// propose proposes a certificate of the police.
func (w *world) propose(r service.IssueRequest) service.Issued {
	w.t.Helper()
	issued, err := w.certificates().Issue(w.t.Context(), policeOperator, r)
	if err != nil {
		w.t.Fatal(err)
	}
	return issued
}

func approval(ref string) domain.DecideArgs {
	return domain.DecideArgs{Ref: ref, Decision: domain.ApproveCertificate}
}

// change proposes and approves a change of a certificate's status.
func (w *world) change(ref string, event domain.StatusEvent) domain.Certificate {
	w.t.Helper()
	if _, err := w.certificates().Propose(w.t.Context(), policeOperator, proposal(ref, event, w.clock.Now())); err != nil {
		w.t.Fatal(err)
	}
	changed, err := w.certificates().Decide(w.t.Context(), policeReviewer, approval(ref))
	if err != nil {
		w.t.Fatal(err)
	}
	return changed.Value
}

func (w *world) revoke(ref string) {
	w.t.Helper()
	w.change(ref, domain.RevokeCertificate)
}

func proposal(ref string, event domain.StatusEvent, at time.Time) domain.ProposeArgs {
	return domain.ProposeArgs{Ref: ref, Event: event, Act: domain.StatusAct{
		DocumentNo: "公决字2026第1号", LegalBasis: "居住证暂行条例第18条", ReasonCode: "issued_in_error", EffectiveAt: at,
	}}
}

// verifier answers the verification of a gateway that is in touch with the
// ledger now.
func (w *world) verifier() *service.Verifier {
	return service.NewVerification(w.ledger, w.index, w.cache, w.anchors, w.clock.Now, w.clock.Now)
}

// wantKind checks the kind of an error and that its text holds part.
func wantKind(t *testing.T, err error, kind domain.Kind, part string) {
	t.Helper()
	if domain.KindOf(err) != kind || !strings.Contains(fmt.Sprint(err), part) {
		t.Errorf("error is %v, want one of kind %s that says %q", err, kind, part)
	}
}
