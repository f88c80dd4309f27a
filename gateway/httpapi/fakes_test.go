package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/accesslog"
	"github.com/zhenglian/zhenglian/gateway/credential"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/trail"
	"github.com/zhenglian/zhenglian/gateway/web"
	"github.com/zhenglian/zhenglian/proof"
)

const (
	testRef  = "fedcba98765432100123456789abcdef"
	testTx   = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	testCode = "307020300000000000/000001"
	hex64    = "89abcdef0123456789abcdef0123456789abcdef0123456789abcdef01234567"
)

var (
	testTime = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	testMeta = domain.Meta{
		Schema: "zhenglian/test/1", Department: "police", Role: domain.RoleOperator,
		TxID: testTx, TxTime: testTime, Digest: hex64,
	}
	testPosition = domain.Position{Block: 17, TxID: testTx}
	testPeriod   = domain.Period{From: testTime, To: testTime.AddDate(1, 0, 0)}

	testDepartment = domain.Department{Meta: testMeta, Code: "police", MSPID: "PoliceMSP", NameZh: "公安局", NameEn: "Police", USCC: "11330000002482131G"}
	testClock      = &domain.Clock{
		Event: domain.DeadlineRequestAnswer, RuleVersion: 1, LegalBasis: "条例第二十三条", Calendars: []domain.CalendarRef{{Year: 2026, Version: 1}},
		Limit: 10, ExtendMax: 5, ExtendWith: domain.ExtendByLead, StartedAt: testTime, DueAt: testTime.AddDate(0, 0, 14),
	}
	testContent = domain.CatalogContent{
		Code: testCode, Name: "户籍信息", Abstract: "摘要", ProviderUSCC: "11330000002482131G", Format: "database",
		Items:     []domain.CatalogItem{{Name: "户号", Type: "C", Level: 2, ShareType: domain.Conditional}},
		ShareType: domain.Conditional, ShareCondition: "审批", LegalBasis: []string{"条例"}, ShareMode: "platform_table", OpenType: domain.NotOpen,
		UpdateCycle: "daily", SystemRef: "sys", RegionCode: "330000", Level: 2, PersonalData: "general",
	}
	testEntry = domain.CatalogEntry{
		Meta: testMeta, Provider: "police", Reviewer: domain.SideLead, Version: 1, State: domain.CatalogPublished, Content: testContent,
		ContentDigest: hex64, Seq: 4, Event: "approve", LastVersion: 1, Update: testClock,
	}
	testVersion = domain.CatalogVersion{Meta: testMeta, Provider: "police", Version: 1, Content: testContent, ContentDigest: hex64}
	testBatch   = domain.BatchResult{Codes: []string{testCode}, State: domain.CatalogRegPending, Digest: hex64}
	testRequest = domain.ShareRequest{
		Meta: testMeta, Content: domain.ShareRequestContent{ID: testRef, CatalogCode: testCode, Items: []string{"户号"}, Period: testPeriod, Quota: domain.Quota{Total: 10, PerDay: 1, PerMinute: 1}, LetterDigest: hex64},
		CatalogVersion: 1, Consumer: "civil", Provider: "police", Checker: domain.SideLead, Mediator: domain.SideLead,
		State: domain.RequestAccepted, Seq: 2, SubmittedAt: testTime, Clock: testClock, Extension: &domain.Extension{Days: 5, Reason: "口径"},
	}
	testRequestEvent = domain.RequestEvent{
		Meta: testMeta, RequestID: testRef, Seq: 1, Event: "submit", State: domain.RequestSubmitted, Content: &testRequest.Content,
		Opened: &domain.Opened{CatalogVersion: 1, Consumer: "civil", Provider: "police", Checker: domain.SideLead, Mediator: domain.SideLead},
	}
	testGrant      = domain.Grant{Meta: testMeta, ID: testRef, RequestID: testRef, CatalogCode: testCode, CatalogVersion: 1, Items: []string{"户号"}, Provider: "police", Consumer: "civil", Period: testPeriod, Quota: domain.Quota{Total: 10, PerDay: 1, PerMinute: 1}, GrantedAt: testTime, State: domain.GrantActive, Seq: 1}
	testGrantEvent = domain.GrantEvent{Meta: testMeta, GrantID: testRef, Seq: 1, Event: "grant", State: domain.GrantActive}
	testCalendar   = domain.Calendar{Meta: testMeta, Year: 2026, Version: 1, DaysOff: []string{"2026-01-01"}, Workdays: []string{"2026-01-04"}, Source: "通知"}
	testRule       = domain.DeadlineRule{Meta: testMeta, Event: domain.DeadlineRequestAnswer, Version: 1, Limit: 10, ExtendMax: 5, ExtendWith: domain.ExtendByLead, LegalBasis: "条例"}

	testLog         = domain.LogRegistration{Meta: testMeta, Owner: "police", Origin: "zhenglian.example/log/police", VerifierKey: "key", Size: 3, Root: "cm9vdA=="}
	testAnchor      = domain.Anchor{Meta: testMeta, Owner: "police", Origin: "zhenglian.example/log/police", Size: 3, Root: "cm9vdA==", PreviousSize: 1, Checkpoint: "note"}
	testCertificate = domain.Certificate{Meta: testMeta, Issuer: "police", Content: domain.CertificateContent{Ref: testRef, CertID: "1.2.156.3005.2.x", TypeCode: "type", TypeNameZh: "证", TypeNameEn: "Certificate", IssuerUSCC: "11330000002482131G", HolderKind: "person", HolderRef: "canary-holder", IssuedAt: testTime, Validity: testPeriod, ServiceItem: "canary-item", ContentDigest: hex64, CheckCodeHash: "canary-check"}, Status: domain.CertificateRevoked, StatusSince: testTime, StatusAct: testAct, Changes: []domain.StatusChange{{Status: domain.CertificateValid, Since: testTime.Add(-time.Hour), RecordedAt: testTime}, {Status: domain.CertificateRevoked, Since: testTime, RecordedAt: testTime, Act: testAct}}, Opinion: "canary-opinion", Pending: &domain.StatusProposal{Event: domain.CancelCertificate, Act: domain.StatusAct{DocumentNo: "canary-proposal", LegalBasis: "法", ReasonCode: "error", EffectiveAt: testTime}, ProposedBy: domain.RoleOperator, ProposedAt: testTime}, Seq: 2}
	testAct         = &domain.StatusAct{DocumentNo: "文1", LegalBasis: "法", ReasonCode: "error", EffectiveAt: testTime}

	testAuthorisation = domain.Authorisation{Meta: testMeta, Issuer: "police", TypeCode: "11100000000013338W032", TypeNameZh: "证", TypeNameEn: "Certificate", Basis: "法", Period: testPeriod, State: domain.AuthorisationActive, Seq: 1}
	testAlarm         = domain.Alarm{Meta: testMeta, ID: testRef, Kind: domain.AlarmRollback, About: "civil", Subject: "17/" + hex64, Rule: "rollback", Figures: "17 of 20", Records: []domain.RecordRef{{Department: "civil", Index: 17}}, Evidence: "note", Proven: true, State: domain.AlarmOpen, Seq: 1}
	testEntryOf       = trail.Entry{Department: "civil", Index: 5, LeafHash: testAccess.LeafHash, Record: testAccess.Record, AnchorSize: 8}
	testAccess        = index.AccessEntry{Index: 5, LeafHash: bytes.Repeat([]byte{7}, 32), Record: domain.AccessRecord{Schema: "zhenglian/access-record/1", Direction: domain.DirectionProvider, CallID: "call-0000000000000001", GrantID: testRef, CatalogCode: testCode, CatalogVersion: 1, Items: []string{"户号"}, Provider: "police", Consumer: "civil", LegalBasis: "条例", Channel: "api", At: testTime, RespondedAt: testTime, Result: "ok", LoggedAt: testTime}}
	testTransaction   = domain.Transaction{ID: testTx, Type: "endorser", Creator: "PoliceMSP", Time: testTime, Chaincode: "zhenglian", Contract: "catalog", Name: "Register", Arguments: []string{"{}"}, Writes: []domain.Write{{Key: "cat~x", Value: []byte("{}")}}, Endorsers: []domain.MSPID{"CivilMSP", "PoliceMSP"}, ValidationCode: "VALID"}
	testBlock         = domain.Block{Number: 17, Hash: hex64, PreviousHash: hex64, DataHash: hex64, Signers: []domain.MSPID{"CivilMSP"}, Transactions: []domain.Transaction{testTransaction}}
	testOperation     = ledger.Operation{ID: testRef, Transaction: "catalog:Register", State: ledger.Rejected, TxID: testTx, Refusal: &domain.Error{Kind: domain.Exists, Msg: "catalog entry x is recorded already"}, Accepted: testTime, Settled: testTime}
	testBundle        = []byte(`{"format":"zhenglian-proof/1","read":{"proposal":"","response":"","endorsements":[]}}`)
	testTrust         = []byte(`{"format":"zhenglian-trust/1","channel":"zhenglian","chaincode":"zhenglian","versions":["1.0"],"quorum":3,"departments":[]}`)
)

// gateway stands for all use cases: each answers its sample, or err, and leaves
// what it was called with in got.
type gateway struct {
	mu     sync.Mutex
	err    error
	panics bool
	called int
	got    any
	caller service.Caller
	ctx    context.Context

	notPulled bool // the auditor has not read the own log

	late    bool // an export fails after its first bytes
	deny    bool // the limiter refuses
	explode bool // the limiter panics
	keys    []string

	pageStatus int
	verdict    service.Verdict
	notReady   error
}

func (g *gateway) call(ctx context.Context, caller service.Caller, got any) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.panics {
		panic("boom zl_secret")
	}
	g.called++
	g.ctx, g.caller, g.got = ctx, caller, got
	return g.err
}

func write[T any](v T, err error) (service.Written[T], error) {
	return service.Written[T]{Value: v, Position: testPosition}, err
}

func list[T any](v T, err error) (service.Listed[T], error) {
	return service.Listed[T]{Items: []service.Written[T]{{Value: v, Position: testPosition}}, Next: "more"}, err
}

type listArgs struct {
	Filter index.Filter
	Page   index.Page
}

type governance struct{ *gateway }

func (g governance) RegisterDepartment(ctx context.Context, c service.Caller, a domain.RegisterDepartmentArgs) (service.Written[domain.Department], error) {
	return write(testDepartment, g.call(ctx, c, a))
}

func (g governance) Departments(ctx context.Context) (service.Listed[domain.Department], error) {
	l, err := list(testDepartment, g.call(ctx, service.Caller{}, nil))
	l.Next = ""
	return l, err
}

func (g governance) RegisterLog(ctx context.Context, c service.Caller, a domain.RegisterLogArgs) (service.Written[domain.LogRegistration], error) {
	return write(testLog, g.call(ctx, c, a))
}

func (g governance) Logs(ctx context.Context) (service.Listed[domain.LogRegistration], error) {
	return list(testLog, g.call(ctx, service.Caller{}, nil))
}

func (g governance) SetCalendar(ctx context.Context, c service.Caller, a domain.SetCalendarArgs) (service.Written[domain.Calendar], error) {
	return write(testCalendar, g.call(ctx, c, a))
}

func (g governance) ListCalendars(ctx context.Context) (service.Listed[domain.Calendar], error) {
	return list(testCalendar, g.call(ctx, service.Caller{}, nil))
}

func (g governance) SetRule(ctx context.Context, c service.Caller, a domain.SetRuleArgs) (service.Written[domain.DeadlineRule], error) {
	return write(testRule, g.call(ctx, c, a))
}

func (g governance) ListRules(ctx context.Context) (service.Listed[domain.DeadlineRule], error) {
	return list(testRule, g.call(ctx, service.Caller{}, nil))
}

func (g governance) Anchors(ctx context.Context, f index.Filter, p index.Page) (service.Listed[domain.Anchor], error) {
	return list(testAnchor, g.call(ctx, service.Caller{}, listArgs{f, p}))
}

type catalog struct{ *gateway }

func (g catalog) Register(ctx context.Context, c service.Caller, a domain.RegisterCatalogArgs) (service.Written[domain.CatalogEntry], error) {
	return write(testEntry, g.call(ctx, c, a))
}

func (g catalog) Review(ctx context.Context, c service.Caller, a domain.ReviewCatalogArgs) (service.Written[domain.CatalogEntry], error) {
	return write(testEntry, g.call(ctx, c, a))
}

func (g catalog) Change(ctx context.Context, c service.Caller, a domain.ChangeCatalogArgs) (service.Written[domain.CatalogEntry], error) {
	return write(testEntry, g.call(ctx, c, a))
}

func (g catalog) Retire(ctx context.Context, c service.Caller, a domain.RetireCatalogArgs) (service.Written[domain.CatalogEntry], error) {
	return write(testEntry, g.call(ctx, c, a))
}

func (g catalog) RequireUpdate(ctx context.Context, c service.Caller, a domain.RequireUpdateArgs) (service.Written[domain.CatalogEntry], error) {
	return write(testEntry, g.call(ctx, c, a))
}

func (g catalog) Submit(ctx context.Context, c service.Caller, code string) (service.Written[domain.CatalogEntry], error) {
	return write(testEntry, g.call(ctx, c, code))
}

func (g catalog) Publish(ctx context.Context, c service.Caller, code string) (service.Written[domain.CatalogEntry], error) {
	return write(testEntry, g.call(ctx, c, code))
}

func (g catalog) MarkOverdue(ctx context.Context, c service.Caller, code string) (service.Written[domain.CatalogEntry], error) {
	return write(testEntry, g.call(ctx, c, code))
}

func (g catalog) RegisterBatch(ctx context.Context, c service.Caller, a domain.RegisterBatchArgs) (service.Written[domain.BatchResult], error) {
	return write(testBatch, g.call(ctx, c, a))
}

func (g catalog) ReviewBatch(ctx context.Context, c service.Caller, a domain.ReviewBatchArgs) (service.Written[domain.BatchResult], error) {
	return write(testBatch, g.call(ctx, c, a))
}

func (g catalog) PublishBatch(ctx context.Context, c service.Caller, a domain.CodesArgs) (service.Written[domain.BatchResult], error) {
	return write(testBatch, g.call(ctx, c, a))
}

func (g catalog) Validate(ctx context.Context, a domain.CatalogContent) error {
	return g.call(ctx, service.Caller{}, a)
}

func (g catalog) Version(ctx context.Context, code string, version int) (service.Written[domain.CatalogVersion], error) {
	return write(testVersion, g.call(ctx, service.Caller{}, domain.VersionID(code, version)))
}

// Export writes some, then fails if it is to.
func (g catalog) Export(ctx context.Context, format string, w io.Writer, f index.Filter) error {
	err := g.call(ctx, service.Caller{}, f)
	if err != nil && !g.late {
		return err
	}
	text := "code\n"
	if format == "dcat-ap" {
		text = "{}\n"
	}
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	return err
}

func (g catalog) Get(ctx context.Context, code string) (service.Written[domain.CatalogEntry], error) {
	return write(testEntry, g.call(ctx, service.Caller{}, code))
}

func (g catalog) List(ctx context.Context, f index.Filter, p index.Page) (service.Listed[domain.CatalogEntry], error) {
	return list(testEntry, g.call(ctx, service.Caller{}, listArgs{f, p}))
}

func (g catalog) History(ctx context.Context, code string, _ index.Page) (service.CatalogHistory, error) {
	entry, err := write(testEntry, g.call(ctx, service.Caller{}, code))
	return service.CatalogHistory{Items: []service.CatalogStep{
		{Entry: entry, Changes: []domain.FieldChange{{Field: "name", Before: `"户籍"`, After: `"户籍信息"`}}}, {Entry: entry},
	}, Next: "more"}, err
}

type sharing struct{ *gateway }

func (g sharing) Request(ctx context.Context, c service.Caller, a domain.ShareRequestContent) (service.Written[domain.ShareRequest], error) {
	return write(testRequest, g.call(ctx, c, a))
}

func (g sharing) Accept(ctx context.Context, c service.Caller, a domain.AcceptArgs) (service.Written[domain.ShareRequest], error) {
	return write(testRequest, g.call(ctx, c, a))
}

func (g sharing) Supplement(ctx context.Context, c service.Caller, a domain.SupplementArgs) (service.Written[domain.ShareRequest], error) {
	return write(testRequest, g.call(ctx, c, a))
}

func (g sharing) Answer(ctx context.Context, c service.Caller, a domain.AnswerArgs) (service.Written[domain.ShareRequest], error) {
	return write(testRequest, g.call(ctx, c, a))
}

func (g sharing) Extend(ctx context.Context, c service.Caller, a domain.ExtendArgs) (service.Written[domain.ShareRequest], error) {
	return write(testRequest, g.call(ctx, c, a))
}

func (g sharing) DecideExtension(ctx context.Context, c service.Caller, a domain.DecideExtensionArgs) (service.Written[domain.ShareRequest], error) {
	return write(testRequest, g.call(ctx, c, a))
}

func (g sharing) Dispute(ctx context.Context, c service.Caller, a domain.DisputeArgs) (service.Written[domain.ShareRequest], error) {
	return write(testRequest, g.call(ctx, c, a))
}

func (g sharing) Mediate(ctx context.Context, c service.Caller, a domain.MediateArgs) (service.Written[domain.ShareRequest], error) {
	return write(testRequest, g.call(ctx, c, a))
}

func (g sharing) Deliver(ctx context.Context, c service.Caller, a domain.DeliverArgs) (service.Written[domain.ShareRequest], error) {
	return write(testRequest, g.call(ctx, c, a))
}

func (g sharing) Confirm(ctx context.Context, c service.Caller, a domain.ConfirmArgs) (service.Written[domain.ShareRequest], error) {
	return write(testRequest, g.call(ctx, c, a))
}

func (g sharing) Withdraw(ctx context.Context, c service.Caller, a domain.ReasonArgs) (service.Written[domain.ShareRequest], error) {
	return write(testRequest, g.call(ctx, c, a))
}

func (g sharing) Close(ctx context.Context, c service.Caller, a domain.ReasonArgs) (service.Written[domain.ShareRequest], error) {
	return write(testRequest, g.call(ctx, c, a))
}

func (g sharing) MarkOverdue(ctx context.Context, c service.Caller, id string) (service.Written[domain.ShareRequest], error) {
	return write(testRequest, g.call(ctx, c, id))
}

func (g sharing) Suspend(ctx context.Context, c service.Caller, a domain.ReasonArgs) (service.Written[domain.Grant], error) {
	return write(testGrant, g.call(ctx, c, a))
}

func (g sharing) Resume(ctx context.Context, c service.Caller, a domain.ReasonArgs) (service.Written[domain.Grant], error) {
	return write(testGrant, g.call(ctx, c, a))
}

func (g sharing) Revoke(ctx context.Context, c service.Caller, a domain.ReasonArgs) (service.Written[domain.Grant], error) {
	return write(testGrant, g.call(ctx, c, a))
}

func (g sharing) RequestHistory(ctx context.Context, id string, _ index.Page) (service.Listed[domain.RequestEvent], error) {
	return list(testRequestEvent, g.call(ctx, service.Caller{}, id))
}

func (g sharing) GrantHistory(ctx context.Context, id string, _ index.Page) (service.Listed[domain.GrantEvent], error) {
	return list(testGrantEvent, g.call(ctx, service.Caller{}, id))
}

func (g sharing) GetRequest(ctx context.Context, id string) (service.Written[domain.ShareRequest], error) {
	return write(testRequest, g.call(ctx, service.Caller{}, id))
}

func (g sharing) ListRequests(ctx context.Context, f index.Filter, p index.Page) (service.Listed[domain.ShareRequest], error) {
	return list(testRequest, g.call(ctx, service.Caller{}, listArgs{f, p}))
}

func (g sharing) GetGrant(ctx context.Context, id string) (service.Written[domain.Grant], error) {
	return write(testGrant, g.call(ctx, service.Caller{}, id))
}

func (g sharing) ListGrants(ctx context.Context, f index.Filter, p index.Page) (service.Listed[domain.Grant], error) {
	return list(testGrant, g.call(ctx, service.Caller{}, listArgs{f, p}))
}

type overview struct{ *gateway }

func (g overview) Inbox(ctx context.Context, c service.Caller, f index.InboxFilter, p index.Page) (service.InboxItems, error) {
	return service.InboxItems{Items: []service.InboxItem{
		{Kind: domain.KindRequest, ID: testRef, Title: "户籍信息", State: "accepted", Overdue: true, Position: testPosition,
			Task: domain.Task{Department: "police", Role: domain.RoleReviewer, Transaction: "sharing:Answer", DueAt: &testTime}},
		{Kind: domain.KindCatalogEntry, ID: testCode, State: "reg_pending", Position: testPosition,
			Task: domain.Task{Side: domain.SidePeer, Parties: []domain.DepartmentCode{"bigdata"}, Role: domain.RoleReviewer, Transaction: "catalog:Review"}},
	}, Next: "more"}, g.call(ctx, c, inboxArgs{f, p})
}

type inboxArgs struct {
	Filter index.InboxFilter
	Page   index.Page
}

func (g overview) Indicators(ctx context.Context) (service.Indicators, error) {
	half := 0.5
	return service.Indicators{Items: []service.Indicator{
		{Code: "satisfaction", NameZh: "共享需求满足率", NameEn: "requests satisfied", Unit: "ratio", Value: &half, Numerator: 1, Denominator: 2, Definition: "d", Query: "q", Records: "/v1/requests"},
		{Code: "answer-time", NameZh: "平均答复工作日", NameEn: "mean working days to answer", Unit: "workdays", Definition: "d", Query: "q", Records: "/v1/requests"},
	}, AsOf: testTime, Height: 18}, g.call(ctx, service.Caller{}, nil)
}

type access struct{ *gateway }

func (g access) Record(ctx context.Context, c service.Caller, o service.RecordOptions, a []domain.AccessRecord) (service.AccessReceipts, error) {
	receipt := service.AccessReceipt{CallID: a[0].CallID, Index: 5, LeafHash: testAccess.LeafHash}
	if o.Anchored {
		receipt.AnchoredSize = 8
	}
	return service.AccessReceipts{Receipts: []service.AccessReceipt{receipt}, Promise: []byte("promise\n")}, g.call(ctx, c, a)
}

func (g access) Get(ctx context.Context, _ domain.DepartmentCode, idx uint64) (index.AccessEntry, error) {
	return testAccess, g.call(ctx, service.Caller{}, idx)
}

func (g access) Proof(ctx context.Context, _ domain.DepartmentCode, idx uint64) ([]byte, error) {
	return []byte("c2sp.org/tlog-proof@v1\n"), g.call(ctx, service.Caller{}, idx)
}

func (g access) Trace(ctx context.Context, c service.Caller, f index.AccessFilter, _ index.Page) (index.AccessEntries, error) {
	return index.AccessEntries{Items: []index.AccessEntry{testAccess}, Next: "more"}, g.call(ctx, c, f)
}

type alarms struct{ *gateway }

func (g alarms) Raise(ctx context.Context, c service.Caller, a domain.RaiseAlarmArgs) (service.Written[domain.Alarm], error) {
	return write(testAlarm, g.call(ctx, c, a))
}

func (g alarms) Close(ctx context.Context, c service.Caller, a domain.CloseAlarmArgs) (service.Written[domain.Alarm], error) {
	return write(testAlarm, g.call(ctx, c, a))
}

func (g alarms) Get(ctx context.Context, id string) (service.Written[domain.Alarm], error) {
	return write(testAlarm, g.call(ctx, service.Caller{}, id))
}

func (g alarms) List(ctx context.Context, f index.Filter, p index.Page) (service.Listed[domain.Alarm], error) {
	return list(testAlarm, g.call(ctx, service.Caller{}, listArgs{f, p}))
}

// tiles is a log of which every tile is the same.
type tiles struct{ *gateway }

type tileArgs struct {
	Level, Index uint64
	Width        uint8
}

func (g tiles) Checkpoint(ctx context.Context) (accesslog.Checkpoint, error) {
	return accesslog.Checkpoint{Size: 7, Note: []byte("zhenglian.example/log/police\n7\n")}, g.call(ctx, service.Caller{}, nil)
}

func (g tiles) Tile(ctx context.Context, level, idx uint64, width uint8) ([]byte, error) {
	return testAccess.LeafHash, g.call(ctx, service.Caller{}, tileArgs{level, idx, width})
}

func (g tiles) EntryBundle(ctx context.Context, idx uint64, width uint8) ([]byte, error) {
	return []byte("\x00\x02{}"), g.call(ctx, service.Caller{}, tileArgs{0, idx, width})
}

type auditor struct{ *gateway }

type trailArgs struct {
	Filter any
	Page   trail.Page
}

func (g auditor) Trace(ctx context.Context, c service.Caller, f trail.Filter, p trail.Page) (trail.Entries, error) {
	return trail.Entries{Items: []trail.Entry{testEntryOf}, Next: "more"}, g.call(ctx, c, trailArgs{f, p})
}

func (g auditor) Totals(ctx context.Context, c service.Caller, f trail.Filter) (trail.Totals, error) {
	return trail.Totals{Records: 3, DataRecords: 9, ByResult: []trail.ResultTotal{
		{Direction: domain.DirectionConsumer, Result: "ok", Records: 2, DataRecords: 9}, {Direction: domain.DirectionProvider, Result: "refused_quota", Records: 1},
	}}, g.call(ctx, c, f)
}

func (g auditor) Reconcile(ctx context.Context, c service.Caller, f trail.ReconcileFilter, p trail.Page) (trail.Reconciliation, error) {
	return trail.Reconciliation{Items: []trail.PairDay{
		{Provider: "police", Consumer: "civil", Day: "2026-03-01", Both: 5, ProviderOnly: 4, ConsumerOnly: 3, Contradicting: 2, Waiting: 1},
	}, Next: "more"}, g.call(ctx, c, trailArgs{f, p})
}

func (g auditor) Discrepancies(ctx context.Context, c service.Caller, f trail.ReconcileFilter, p trail.Page) (trail.Discrepancies, error) {
	return trail.Discrepancies{Items: []trail.Discrepancy{
		{CallID: "call-0000000000000001", Provider: "police", Consumer: "civil", Day: "2026-03-01", State: trail.CallConsumerOnly, ConsumerEntry: &testEntryOf},
		{CallID: "call-0000000000000002", Provider: "police", Consumer: "civil", Day: "2026-03-01", State: trail.CallContradicting, Fields: []string{"recordCount"}, ProviderEntry: &testEntryOf, ConsumerEntry: &testEntryOf},
	}, Next: "more"}, g.call(ctx, c, trailArgs{f, p})
}

func (g auditor) Logs(ctx context.Context, c service.Caller) ([]trail.Log, error) {
	return []trail.Log{{Department: "civil", Progress: trail.Progress{Size: 8, Anchored: 8, Seen: testTime}}}, g.call(ctx, c, nil)
}

func (g auditor) Findings(ctx context.Context, c service.Caller, f trail.FindingFilter, p trail.Page) (trail.Findings, error) {
	if f.Department != "civil" {
		return trail.Findings{}, g.call(ctx, c, trailArgs{f, p})
	}
	return trail.Findings{Items: []trail.Finding{
		{Department: "civil", Kind: "changed_entry", Place: 3, Text: "entry 3 does not have the hash", FirstSeen: testTime, LastSeen: testTime},
	}, Next: "more"}, g.call(ctx, c, trailArgs{f, p})
}

func (g auditor) Entry(ctx context.Context, c service.Caller, _ domain.DepartmentCode, idx uint64) (trail.Entry, error) {
	return testEntryOf, g.call(ctx, c, idx)
}

func (g auditor) Proof(ctx context.Context, c service.Caller, d domain.DepartmentCode, idx uint64) ([]byte, error) {
	if d == "police" && g.notPulled {
		return nil, &domain.Error{Kind: domain.NotFound, Msg: "not pulled"}
	}
	return []byte("c2sp.org/tlog-proof@v1\n"), g.call(ctx, c, idx)
}

func watched() []service.WatchedLog {
	return []service.WatchedLog{{Department: "civil", VerifiedSize: 8}, {Department: "market", VerifiedSize: 2, Problem: "the log shows 2 of 3 entries", Since: testTime}}
}

type certificates struct{ *gateway }

var testHandout = service.Handout{Link: "https://gateway.example/v/" + testRef + "#CODE", CheckCode: "CODE", Credential: "CREDENTIAL"}

func (g certificates) Issue(ctx context.Context, c service.Caller, a service.IssueRequest) (service.Issued, error) {
	w, err := write(testCertificate, g.call(ctx, c, a))
	return service.Issued{Written: w, Handout: testHandout}, err
}

func (g certificates) IssueBatch(ctx context.Context, c service.Caller, a []service.IssueRequest) (service.IssuedBatch, error) {
	return service.IssuedBatch{Items: []service.IssuedItem{{Ref: testRef, CertID: "1.2.156.3005.2.x", Handout: testHandout}}, Position: testPosition}, g.call(ctx, c, a)
}

func (g certificates) Propose(ctx context.Context, c service.Caller, a domain.ProposeArgs) (service.Written[domain.Certificate], error) {
	return write(testCertificate, g.call(ctx, c, a))
}

func (g certificates) Decide(ctx context.Context, c service.Caller, a domain.DecideArgs) (service.Written[domain.Certificate], error) {
	return write(testCertificate, g.call(ctx, c, a))
}

func (g certificates) DecideBatch(ctx context.Context, c service.Caller, a domain.DecideBatchArgs) (service.Written[domain.CertificateBatchResult], error) {
	return write(domain.CertificateBatchResult{Batches: []string{domain.BatchOf(testRef)}, Count: 1, Status: domain.CertificateValid}, g.call(ctx, c, a))
}

func (g certificates) Authorise(ctx context.Context, c service.Caller, a domain.AuthoriseArgs) (service.Written[domain.Authorisation], error) {
	return write(testAuthorisation, g.call(ctx, c, a))
}

func (g certificates) EndAuthorisation(ctx context.Context, c service.Caller, a domain.EndAuthorisationArgs) (service.Written[domain.Authorisation], error) {
	return write(testAuthorisation, g.call(ctx, c, a))
}

func (g certificates) Authorisations(ctx context.Context, f index.Filter, p index.Page) (service.Listed[domain.Authorisation], error) {
	return list(testAuthorisation, g.call(ctx, service.Caller{}, listArgs{f, p}))
}

func (g certificates) Get(ctx context.Context, ref string) (service.Written[domain.Certificate], error) {
	return write(testCertificate, g.call(ctx, service.Caller{}, ref))
}

func (g certificates) List(ctx context.Context, f index.Filter, p index.Page) (service.Listed[domain.Certificate], error) {
	return list(testCertificate, g.call(ctx, service.Caller{}, listArgs{f, p}))
}

func (g certificates) Sealed(ctx context.Context, ref string) ([]byte, error) {
	return []byte("sealed"), g.call(ctx, service.Caller{}, "sealed "+ref)
}

func (g certificates) SignStatusList(issuer domain.DepartmentCode, payload []byte) (string, error) {
	if issuer != "police" {
		return "", &domain.Error{Kind: domain.NotFound, Msg: "another department's"}
	}
	return "signed " + string(payload), nil
}

func (g certificates) Print(ctx context.Context, c service.Caller, ref string) ([]byte, error) {
	return []byte("%PDF-"), g.call(ctx, c, ref)
}

type verifier struct{ *gateway }

func (g verifier) Verify(ctx context.Context, ref string) service.Verification {
	_ = g.call(ctx, service.Caller{}, ref)
	return g.verification(ref)
}

func (g verifier) verification(ref string) service.Verification {
	v := service.Verification{Verdict: g.verdict, Ref: ref, AsOf: testTime, Height: 18}
	switch {
	case g.verdict.Issued():
		v.Certificate, v.Issuer, v.Position = &testCertificate, &testDepartment, testPosition
	case g.verdict == service.CannotCheck:
		v.Reason = service.ReasonIndexBehind
	}
	return v
}

func (g verifier) Proof(ctx context.Context, kind, id string) ([]byte, proof.Verdict, error) {
	return testBundle, proof.Verdict{}, g.call(ctx, service.Caller{}, kind+" "+id)
}

func (g verifier) FreshProof(ctx context.Context, kind, id, nonce string) ([]byte, proof.Verdict, error) {
	return testBundle, proof.Verdict{}, g.call(ctx, service.Caller{}, kind+" "+id+" "+nonce)
}

func (g verifier) CheckFile(ctx context.Context, file []byte) service.Checked {
	_ = g.call(ctx, service.Caller{}, string(file))
	now := g.verification(testRef)
	return service.Checked{
		Verdict: g.verdict, Reason: "because", Checks: []proof.Check{{Question: proof.Integrity, Outcome: proof.Pass, Reason: "one proposal"}},
		Signers: []proof.Department{{Code: "police"}}, Statement: &domain.Statement{Kind: domain.KindCertificate, ID: testRef, Nonce: testRef, Found: true, AsOf: testTime, ValidUntil: testTime},
		Items: []credential.Item{{Name: "姓名", Value: "张三"}}, Withheld: 2, Certificate: &testCertificate, Now: &now,
	}
}

func (g verifier) StatusList(ctx context.Context, issuer domain.DepartmentCode, purpose service.StatusPurpose, n int) (service.StatusList, error) {
	return service.StatusList{Issuer: issuer, Purpose: purpose, List: n, Encoded: "uAAAA", AsOf: testTime, Height: 18}, g.call(ctx, service.Caller{}, fmt.Sprint(issuer, " ", purpose, " ", n))
}

type chain struct{ *gateway }

func (g chain) Info(ctx context.Context) (service.ChainInfo, error) {
	return service.ChainInfo{Channel: "zhenglian", Height: 18, LastBlock: testBlock, Departments: []ledger.DepartmentHeight{
		{Department: "police", Height: 18}, {Department: "civil", Err: context.DeadlineExceeded},
	}}, g.call(ctx, service.Caller{}, nil)
}

func (g chain) Blocks(ctx context.Context, p index.Page) ([]domain.Block, string, error) {
	return []domain.Block{testBlock}, "more", g.call(ctx, service.Caller{}, p)
}

func (g chain) Block(ctx context.Context, n uint64) (domain.Block, error) {
	return testBlock, g.call(ctx, service.Caller{}, n)
}

func (g chain) Transaction(ctx context.Context, id domain.TxID) (index.TransactionRecord, error) {
	return index.TransactionRecord{Block: 17, Transaction: testTransaction}, g.call(ctx, service.Caller{}, id)
}

type readiness struct{ *gateway }

func (g readiness) Check(context.Context) error { return g.notReady }

// blocks has blocks 0 to 17, and says 18 after an instant.
type blocks struct{ *gateway }

func (blocks) WaitBlock(ctx context.Context, number uint64) error {
	if number <= 17 {
		return nil
	}
	if number > 18 {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// tokens knows "zl_" followed by a role.
type tokens struct{}

func (tokens) Caller(token string) (service.Caller, bool) {
	role, ok := strings.CutPrefix(token, "zl_")
	for _, r := range domain.Roles {
		if ok && string(r) == role {
			return service.Caller{Department: "police", Role: r}, true
		}
	}
	return service.Caller{}, false
}

func (g *gateway) Allow(_ context.Context, key string, _ float64, burst int) (ok bool, retryAfter time.Duration, left int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.explode {
		panic("boom zl_secret " + testRef)
	}
	g.keys = append(g.keys, key)
	if g.deny {
		return false, 1500 * time.Millisecond, 0
	}
	return true, 0, burst - 1
}

func (g *gateway) ServeChecked(w http.ResponseWriter, _ *http.Request, _ service.Checked) {
	g.ServeHTTP(w, nil)
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if r != nil && strings.HasSuffix(r.URL.Path, ".js") {
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
	}
	w.WriteHeader(g.pageStatus)
	_, _ = io.WriteString(w, "<!doctype html>")
}

// reset makes the fake answer as if all were well.
func (g *gateway) reset() {
	*g = gateway{pageStatus: http.StatusOK, verdict: service.Valid}
}

// newTest answers a handler over a fresh fake, and what it logs at any level.
func newTest(t *testing.T) (http.Handler, *gateway, *bytes.Buffer) {
	t.Helper()
	g := new(gateway)
	g.reset()
	var log bytes.Buffer
	h, err := New(g.config(&log))
	if err != nil {
		t.Fatal(err)
	}
	return h, g, &log
}

func (g *gateway) config(log io.Writer) Config {
	return Config{
		PublicURL: "https://gateway.example", Trust: testTrust,
		Governance: governance{g}, Catalog: catalog{g}, Sharing: sharing{g}, Overview: overview{g}, Access: access{g},
		Department: "police", Tiles: tiles{g}, Alarms: alarms{g}, Watched: watched, Auditor: auditor{g},
		Certificates: certificates{g}, Verification: verifier{g}, Chain: chain{g}, Readiness: readiness{g}, Blocks: blocks{g}, Operations: operations{g}, Signing: operations{g}, CursorKey: testCursors.key,
		Tokens: tokens{}, Limiter: g, Pages: g, AuditPage: web.NewAudit(),
		Gauges: func(context.Context) Gauges {
			return Gauges{IndexBlocks: 18, LogSize: 7, AnchoredSize: 5, Backlog: 1500 * time.Millisecond}
		},
		Clock: func() time.Time { return testTime },
		Log:   slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

// operations answers a rejected write.
type operations struct{ *gateway }

func (g operations) Get(ctx context.Context, c service.Caller, id string) (ledger.Operation, error) {
	return testOperation, g.call(ctx, c, id)
}

func (g operations) Sign(ctx context.Context, c service.Caller, id string, step ledger.Step, signature []byte) (ledger.Operation, error) {
	return testOperation, g.call(ctx, c, signArgs{id, step, string(signature)})
}

type signArgs struct {
	id        string
	step      ledger.Step
	signature string
}

// unlimited lets everything through and remembers nothing.
type unlimited struct{}

func (unlimited) Allow(context.Context, string, float64, int) (bool, time.Duration, int) {
	return true, 0, 1
}
