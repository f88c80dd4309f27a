package httpapi

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/service"
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

	testDepartment  = domain.Department{Meta: testMeta, Code: "police", MSPID: "PoliceMSP", NameZh: "公安局", NameEn: "Police", USCC: "11330000002482131G"}
	testEntry       = domain.CatalogEntry{Meta: testMeta, Provider: "police", Version: 1, State: domain.CatalogPublished, Content: testContent, ContentDigest: hex64}
	testContent     = domain.CatalogContent{Code: testCode, Name: "户籍信息", Abstract: "摘要", ProviderUSCC: "11330000002482131G", Format: "database", Items: []domain.CatalogItem{{Name: "户号", Type: "C", Level: 2, ShareType: domain.Conditional}}, ShareType: domain.Conditional, ShareCondition: "审批", LegalBasis: []string{"条例"}, ShareMode: "platform_api", UpdateCycle: "daily", SystemRef: "sys", RegionCode: "330000", PersonalData: "general"}
	testRequest     = domain.ShareRequest{Meta: testMeta, Content: domain.ShareRequestContent{ID: testRef, CatalogCode: testCode, Items: []string{"户号"}, Period: testPeriod, Quota: domain.Quota{Total: 10, PerDay: 1}, LetterDigest: hex64}, CatalogVersion: 1, Consumer: "civil", Provider: "police", State: domain.RequestSubmitted, Seq: 1, SubmittedAt: testTime}
	testGrant       = domain.Grant{Meta: testMeta, ID: testRef, RequestID: testRef, CatalogCode: testCode, CatalogVersion: 1, Items: []string{"户号"}, Provider: "police", Consumer: "civil", Period: testPeriod, Quota: domain.Quota{Total: 10, PerDay: 1}, State: domain.GrantActive, Seq: 1}
	testLog         = domain.LogRegistration{Meta: testMeta, Owner: "police", Origin: "zhenglian.example/log/police", VerifierKey: "key", Size: 3, Root: "cm9vdA=="}
	testAnchor      = domain.Anchor{Meta: testMeta, Owner: "police", Origin: "zhenglian.example/log/police", Size: 3, Root: "cm9vdA==", PreviousSize: 1, Checkpoint: "note"}
	testCertificate = domain.Certificate{Meta: testMeta, Issuer: "police", Content: domain.CertificateContent{Ref: testRef, CertID: "1.2.156.3005.2.x", TypeCode: "type", TypeNameZh: "证", TypeNameEn: "Certificate", IssuerUSCC: "11330000002482131G", HolderKind: "person", HolderRef: "canary-holder", IssuedAt: testTime, Validity: testPeriod, ServiceItem: "canary-item", ContentDigest: hex64, CheckCodeHash: "canary-check"}, Status: domain.CertificateRevoked, StatusSince: testTime, StatusAct: &domain.StatusAct{DocumentNo: "文1", LegalBasis: "法", ReasonCode: "error", EffectiveAt: testTime}, Seq: 2}
	testAccess      = index.AccessEntry{Index: 5, LeafHash: bytes.Repeat([]byte{7}, 32), Record: domain.AccessRecord{Schema: "zhenglian/access-record/1", Direction: domain.DirectionProvider, CallID: "call-0000000000000001", GrantID: testRef, CatalogCode: testCode, CatalogVersion: 1, Items: []string{"户号"}, Provider: "police", Consumer: "civil", At: testTime, Result: "ok", LoggedAt: testTime}}
	testTransaction = domain.Transaction{ID: testTx, Type: "endorser", Creator: "PoliceMSP", Time: testTime, Chaincode: "zhenglian", Contract: "catalog", Name: "Register", Arguments: []string{"{}"}, Writes: []domain.Write{{Key: "cat~x", Value: []byte("{}")}}, Endorsers: []domain.MSPID{"CivilMSP", "PoliceMSP"}, ValidationCode: "VALID"}
	testBlock       = domain.Block{Number: 17, Hash: hex64, PreviousHash: hex64, DataHash: hex64, Signers: []domain.MSPID{"CivilMSP"}, Transactions: []domain.Transaction{testTransaction}}
	testBundle      = []byte(`{"format":"zhenglian-proof/1","read":{"proposal":"","response":"","endorsements":[]}}`)
	testTrust       = []byte(`{"format":"zhenglian-trust/1","channel":"zhenglian","chaincode":"zhenglian","versions":["1.0"],"quorum":3,"departments":[]}`)
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

func (g governance) Anchors(ctx context.Context, f index.Filter, p index.Page) (service.Listed[domain.Anchor], error) {
	return list(testAnchor, g.call(ctx, service.Caller{}, listArgs{f, p}))
}

type catalog struct{ *gateway }

func (g catalog) Register(ctx context.Context, c service.Caller, a domain.CatalogContent) (service.Written[domain.CatalogEntry], error) {
	return write(testEntry, g.call(ctx, c, a))
}

func (g catalog) Review(ctx context.Context, c service.Caller, a domain.ReviewCatalogArgs) (service.Written[domain.CatalogEntry], error) {
	return write(testEntry, g.call(ctx, c, a))
}

func (g catalog) Publish(ctx context.Context, c service.Caller, code string) (service.Written[domain.CatalogEntry], error) {
	return write(testEntry, g.call(ctx, c, code))
}

func (g catalog) Get(ctx context.Context, code string) (service.Written[domain.CatalogEntry], error) {
	return write(testEntry, g.call(ctx, service.Caller{}, code))
}

func (g catalog) List(ctx context.Context, f index.Filter, p index.Page) (service.Listed[domain.CatalogEntry], error) {
	return list(testEntry, g.call(ctx, service.Caller{}, listArgs{f, p}))
}

func (g catalog) History(ctx context.Context, code string, _ index.Page) (service.Listed[domain.CatalogEntry], error) {
	return list(testEntry, g.call(ctx, service.Caller{}, code))
}

type sharing struct{ *gateway }

func (g sharing) Request(ctx context.Context, c service.Caller, a domain.ShareRequestContent) (service.Written[domain.ShareRequest], error) {
	return write(testRequest, g.call(ctx, c, a))
}

func (g sharing) Answer(ctx context.Context, c service.Caller, a domain.AnswerArgs) (service.Written[domain.ShareRequest], error) {
	return write(testRequest, g.call(ctx, c, a))
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

type access struct{ *gateway }

func (g access) Record(ctx context.Context, c service.Caller, a []domain.AccessRecord) ([]service.AccessReceipt, error) {
	return []service.AccessReceipt{{CallID: a[0].CallID, Index: 5, LeafHash: testAccess.LeafHash, Promise: []byte("promise\n")}}, g.call(ctx, c, a)
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

type certificates struct{ *gateway }

func (g certificates) Issue(ctx context.Context, c service.Caller, a service.IssueRequest) (service.Issued, error) {
	w, err := write(testCertificate, g.call(ctx, c, a))
	return service.Issued{Written: w, Link: "https://gateway.example/v/" + testRef + "#CODE", CheckCode: "CODE"}, err
}

func (g certificates) Revoke(ctx context.Context, c service.Caller, a domain.RevokeArgs) (service.Written[domain.Certificate], error) {
	return write(testCertificate, g.call(ctx, c, a))
}

func (g certificates) Get(ctx context.Context, ref string) (service.Written[domain.Certificate], error) {
	return write(testCertificate, g.call(ctx, service.Caller{}, ref))
}

func (g certificates) List(ctx context.Context, f index.Filter, p index.Page) (service.Listed[domain.Certificate], error) {
	return list(testCertificate, g.call(ctx, service.Caller{}, listArgs{f, p}))
}

type verifier struct{ *gateway }

func (g verifier) Verify(ctx context.Context, ref string) service.Verification {
	_ = g.call(ctx, service.Caller{}, ref)
	v := service.Verification{Verdict: g.verdict, Ref: ref, AsOf: testTime, Height: 18}
	switch g.verdict {
	case service.Valid, service.Revoked, service.Expired, service.NotYetValid:
		v.Certificate, v.Issuer, v.Position = &testCertificate, &testDepartment, testPosition
	case service.CannotCheck:
		v.Reason = service.ReasonIndexBehind
	case service.NotFound:
	}
	return v
}

func (g verifier) Proof(ctx context.Context, kind, id string) ([]byte, proof.Verdict, error) {
	return testBundle, proof.Verdict{}, g.call(ctx, service.Caller{}, kind+" "+id)
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

func (g *gateway) Allow(_ context.Context, key string, _ float64, _ int) (bool, time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.explode {
		panic("boom zl_secret " + testRef)
	}
	g.keys = append(g.keys, key)
	return !g.deny, 1500 * time.Millisecond
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
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
		Governance: governance{g}, Catalog: catalog{g}, Sharing: sharing{g}, Access: access{g},
		Certificates: certificates{g}, Verification: verifier{g}, Chain: chain{g}, Readiness: readiness{g},
		Tokens: tokens{}, Limiter: g, Pages: g,
		Gauges: func(context.Context) Gauges { return Gauges{IndexBlocks: 18, LogSize: 7, AnchoredSize: 5} },
		Log:    slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

// unlimited lets everything through and remembers nothing.
type unlimited struct{}

func (unlimited) Allow(context.Context, string, float64, int) (bool, time.Duration) { return true, 0 }
