// Package httpapi is the gateway's HTTP side: it decodes a request that the
// contract in package api allows, calls one use case and renders the answer.
// Every failure leaves as a problem document (RFC 9457), made in problem.go.
//
// # What is refused before a use case runs
//
// In this order: too many requests from one address or identity, or from the
// public as a whole, a missing or unknown access token, a body that is too large, too deep or not JSON, and a
// request that breaks the contract (unknown fields and query parameters
// included). The rules of the field itself are the use cases' own.
//
// # What is logged
//
// The route's template, never the path; the caller's role, never the token. The
// address of a caller is logged for requests with a token only, so that the log
// does not say who verified which certificate.
package httpapi

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"github.com/gin-gonic/gin"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/accesslog"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/requestlog"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/trail"
	"github.com/zhenglian/zhenglian/proof"
)

// Governance registers departments and their access logs, and sets what time
// limits are computed with.
type Governance interface {
	RegisterDepartment(context.Context, service.Caller, domain.RegisterDepartmentArgs) (service.Written[domain.Department], error)
	Departments(context.Context) (service.Listed[domain.Department], error)
	RegisterLog(context.Context, service.Caller, domain.RegisterLogArgs) (service.Written[domain.LogRegistration], error)
	Logs(context.Context) (service.Listed[domain.LogRegistration], error)
	Anchors(context.Context, index.Filter, index.Page) (service.Listed[domain.Anchor], error)
	SetCalendar(context.Context, service.Caller, domain.SetCalendarArgs) (service.Written[domain.Calendar], error)
	ListCalendars(context.Context) (service.Listed[domain.Calendar], error)
	SetRule(context.Context, service.Caller, domain.SetRuleArgs) (service.Written[domain.DeadlineRule], error)
	ListRules(context.Context) (service.Listed[domain.DeadlineRule], error)
}

// Catalog keeps catalog entries from draft to withdrawal, finds and exports them.
type Catalog interface {
	Register(context.Context, service.Caller, domain.RegisterCatalogArgs) (service.Written[domain.CatalogEntry], error)
	RegisterBatch(context.Context, service.Caller, domain.RegisterBatchArgs) (service.Written[domain.BatchResult], error)
	Submit(ctx context.Context, caller service.Caller, code string) (service.Written[domain.CatalogEntry], error)
	Review(context.Context, service.Caller, domain.ReviewCatalogArgs) (service.Written[domain.CatalogEntry], error)
	ReviewBatch(context.Context, service.Caller, domain.ReviewBatchArgs) (service.Written[domain.BatchResult], error)
	Publish(ctx context.Context, caller service.Caller, code string) (service.Written[domain.CatalogEntry], error)
	PublishBatch(context.Context, service.Caller, domain.CodesArgs) (service.Written[domain.BatchResult], error)
	Change(context.Context, service.Caller, domain.ChangeCatalogArgs) (service.Written[domain.CatalogEntry], error)
	Retire(context.Context, service.Caller, domain.RetireCatalogArgs) (service.Written[domain.CatalogEntry], error)
	RequireUpdate(context.Context, service.Caller, domain.RequireUpdateArgs) (service.Written[domain.CatalogEntry], error)
	MarkOverdue(ctx context.Context, caller service.Caller, code string) (service.Written[domain.CatalogEntry], error)
	Validate(context.Context, domain.CatalogContent) error
	Get(ctx context.Context, code string) (service.Written[domain.CatalogEntry], error)
	List(context.Context, index.Filter, index.Page) (service.Listed[domain.CatalogEntry], error)
	History(ctx context.Context, code string, page index.Page) (service.CatalogHistory, error)
	Version(ctx context.Context, code string, version int) (service.Written[domain.CatalogVersion], error)
	// Export writes all entries that filter leaves, as "dcat-ap" or "csv".
	Export(ctx context.Context, format string, w io.Writer, filter index.Filter) error
}

// Sharing asks for data, answers, delivers, and finds requests and grants.
type Sharing interface {
	Request(context.Context, service.Caller, domain.ShareRequestContent) (service.Written[domain.ShareRequest], error)
	Accept(context.Context, service.Caller, domain.AcceptArgs) (service.Written[domain.ShareRequest], error)
	Supplement(context.Context, service.Caller, domain.SupplementArgs) (service.Written[domain.ShareRequest], error)
	Answer(context.Context, service.Caller, domain.AnswerArgs) (service.Written[domain.ShareRequest], error)
	Extend(context.Context, service.Caller, domain.ExtendArgs) (service.Written[domain.ShareRequest], error)
	DecideExtension(context.Context, service.Caller, domain.DecideExtensionArgs) (service.Written[domain.ShareRequest], error)
	Dispute(context.Context, service.Caller, domain.DisputeArgs) (service.Written[domain.ShareRequest], error)
	Mediate(context.Context, service.Caller, domain.MediateArgs) (service.Written[domain.ShareRequest], error)
	Deliver(context.Context, service.Caller, domain.DeliverArgs) (service.Written[domain.ShareRequest], error)
	Confirm(context.Context, service.Caller, domain.ConfirmArgs) (service.Written[domain.ShareRequest], error)
	Withdraw(context.Context, service.Caller, domain.ReasonArgs) (service.Written[domain.ShareRequest], error)
	Close(context.Context, service.Caller, domain.ReasonArgs) (service.Written[domain.ShareRequest], error)
	MarkOverdue(ctx context.Context, caller service.Caller, id string) (service.Written[domain.ShareRequest], error)
	GetRequest(ctx context.Context, id string) (service.Written[domain.ShareRequest], error)
	ListRequests(context.Context, index.Filter, index.Page) (service.Listed[domain.ShareRequest], error)
	RequestHistory(ctx context.Context, id string, page index.Page) (service.Listed[domain.RequestEvent], error)
	Suspend(context.Context, service.Caller, domain.ReasonArgs) (service.Written[domain.Grant], error)
	Resume(context.Context, service.Caller, domain.ReasonArgs) (service.Written[domain.Grant], error)
	Revoke(context.Context, service.Caller, domain.ReasonArgs) (service.Written[domain.Grant], error)
	GetGrant(ctx context.Context, id string) (service.Written[domain.Grant], error)
	ListGrants(context.Context, index.Filter, index.Page) (service.Listed[domain.Grant], error)
	GrantHistory(ctx context.Context, id string, page index.Page) (service.Listed[domain.GrantEvent], error)
}

// Overview answers what waits for the caller's department, and how well data is
// shared.
type Overview interface {
	Inbox(context.Context, service.Caller, index.InboxFilter, index.Page) (service.InboxItems, error)
	Indicators(context.Context) (service.Indicators, error)
}

// Access logs accesses and reads the department's access log.
type Access interface {
	Record(context.Context, service.Caller, service.RecordOptions, []domain.AccessRecord) (service.AccessReceipts, error)
	Get(ctx context.Context, department domain.DepartmentCode, idx uint64) (index.AccessEntry, error)
	Proof(ctx context.Context, department domain.DepartmentCode, idx uint64) ([]byte, error)
	Trace(context.Context, service.Caller, index.AccessFilter, index.Page) (index.AccessEntries, error)
}

// Alarms records what gateways and auditors find, and how it was dealt with.
type Alarms interface {
	Raise(context.Context, service.Caller, domain.RaiseAlarmArgs) (service.Written[domain.Alarm], error)
	Close(context.Context, service.Caller, domain.CloseAlarmArgs) (service.Written[domain.Alarm], error)
	Get(ctx context.Context, id string) (service.Written[domain.Alarm], error)
	List(context.Context, index.Filter, index.Page) (service.Listed[domain.Alarm], error)
}

// Auditor answers auditors from the logs of all departments, as far as it has
// verified them.
type Auditor interface {
	Trace(context.Context, service.Caller, trail.Filter, trail.Page) (trail.Entries, error)
	Totals(context.Context, service.Caller, trail.Filter) (trail.Totals, error)
	Reconcile(context.Context, service.Caller, trail.ReconcileFilter, trail.Page) (trail.Reconciliation, error)
	Discrepancies(context.Context, service.Caller, trail.ReconcileFilter, trail.Page) (trail.Discrepancies, error)
	Logs(context.Context, service.Caller) ([]trail.Log, error)
	Findings(context.Context, service.Caller, trail.FindingFilter, trail.Page) (trail.Findings, error)
	Entry(ctx context.Context, caller service.Caller, department domain.DepartmentCode, idx uint64) (trail.Entry, error)
	Proof(ctx context.Context, caller service.Caller, department domain.DepartmentCode, idx uint64) ([]byte, error)
}

// Certificates issues, replaces and finds certificates and changes their status.
type Certificates interface {
	Issue(context.Context, service.Caller, service.IssueRequest) (service.Issued, error)
	IssueBatch(context.Context, service.Caller, []service.IssueRequest) (service.IssuedBatch, error)
	Propose(context.Context, service.Caller, domain.ProposeArgs) (service.Written[domain.Certificate], error)
	Decide(context.Context, service.Caller, domain.DecideArgs) (service.Written[domain.Certificate], error)
	DecideBatch(context.Context, service.Caller, domain.DecideBatchArgs) (service.Written[domain.CertificateBatchResult], error)
	Get(ctx context.Context, ref string) (service.Written[domain.Certificate], error)
	List(context.Context, index.Filter, index.Page) (service.Listed[domain.Certificate], error)
	Authorise(context.Context, service.Caller, domain.AuthoriseArgs) (service.Written[domain.Authorisation], error)
	EndAuthorisation(context.Context, service.Caller, domain.EndAuthorisationArgs) (service.Written[domain.Authorisation], error)
	Authorisations(context.Context, index.Filter, index.Page) (service.Listed[domain.Authorisation], error)
	// Sealed answers what the check code shows, encrypted under that code.
	Sealed(ctx context.Context, ref string) ([]byte, error)
	// SignStatusList signs a list of the gateway's own department.
	SignStatusList(issuer domain.DepartmentCode, document []byte) (string, error)
	// Print answers a PDF.
	Print(ctx context.Context, caller service.Caller, ref string) ([]byte, error)
}

// Verification says what is known of a certificate, and proves records.
type Verification interface {
	Verify(ctx context.Context, ref string) service.Verification
	// Proof answers a bundle in its canonical bytes, which it has verified;
	// FreshProof one that carries the asker's nonce.
	Proof(ctx context.Context, kind, id string) ([]byte, proof.Verdict, error)
	FreshProof(ctx context.Context, kind, id, nonce string) ([]byte, proof.Verdict, error)
	CheckFile(ctx context.Context, unverifiedFile []byte) service.Checked
	StatusList(ctx context.Context, issuer domain.DepartmentCode, purpose service.StatusPurpose, list int) (service.StatusList, error)
}

// Pages are the public pages.
type Pages interface {
	// ServeHTTP answers GET of /v/{ref}, of /verify and of the files under it.
	http.Handler
	// ServeChecked answers with the page that says what was found of a file.
	ServeChecked(http.ResponseWriter, *http.Request, service.Checked)
}

// Chain shows the channel itself.
type Chain interface {
	Info(context.Context) (service.ChainInfo, error)
	Blocks(context.Context, index.Page) ([]domain.Block, string, error)
	Block(ctx context.Context, number uint64) (domain.Block, error)
	Transaction(ctx context.Context, id domain.TxID) (index.TransactionRecord, error)
}

// Readiness says whether the gateway answers from a current ledger.
type Readiness interface {
	Check(context.Context) error
}

// Blocks says when this gateway has a block; see [index.Index.WaitBlock].
type Blocks interface {
	WaitBlock(ctx context.Context, number uint64) error
}

// Operations says what became of writes whose callers did not wait.
type Operations interface {
	Get(ctx context.Context, caller service.Caller, id string) (ledger.Operation, error)
}

// Tokens knows who holds an access token.
type Tokens interface {
	Caller(token string) (service.Caller, bool)
}

// OIDC knows the holders of an OpenID provider's tokens; see [identity.Provider].
type OIDC interface {
	Known(token string) (domain.Role, bool)
	Role(token string) (domain.Role, error)
}

// Limiter counts calls; see [cache.Cache.Allow].
type Limiter interface {
	Allow(ctx context.Context, key string, perSecond float64, burst int) (ok bool, retryAfter time.Duration, left int)
}

// Rate is a limit on calls: Burst at once, refilled at PerSecond.
type Rate struct {
	PerSecond float64
	Burst     int
}

// The limits that apply where [Config] sets none. An address stands for a person
// or an office behind one router; an identity for a department's whole system.
var (
	DefaultAddressRate  = Rate{PerSecond: 50, Burst: 200}
	DefaultIdentityRate = Rate{PerSecond: 5000, Burst: 10000}
)

// publicPerProcessor is how many requests of the public a second a gateway takes in
// for each of its processors: each costs up to 140 µs beside others, so that they
// take a fifteenth of it, and what is left over belongs to the departments however
// many people come.
const publicPerProcessor = 500

// DefaultPublicRate answers the limit on the public part of a gateway as a whole
// that applies where [Config] sets none.
func DefaultPublicRate() Rate {
	processors := runtime.GOMAXPROCS(0)
	return Rate{PerSecond: publicPerProcessor * float64(processors), Burst: publicPerProcessor / 10 * processors}
}

// tileRate limits the public tiles of the log, per address and apart from all else:
// the gateways that watch one another fetch hundreds while a log is busy, and may
// do so from one address.
var tileRate = Rate{PerSecond: 2000, Burst: 20000}

// DefaultTileRate answers the limit on public tiles as a whole that applies where
// [Config] sets none: as much as the public may ask for besides, with room for what a
// few watchers fetch at once when a log was busy.
func DefaultTileRate() Rate {
	processors := runtime.GOMAXPROCS(0)
	return Rate{PerSecond: publicPerProcessor * float64(processors), Burst: 2 * publicPerProcessor * processors}
}

// Gauges are the numbers that /metrics shows of the gateway's progress.
type Gauges struct {
	IndexBlocks  uint64 // blocks applied to the index: the number of the next one
	LogSize      uint64 // entries of the department's access log
	AnchoredSize uint64 // entries of it covered by the last anchor
	// Backlog is the age of the oldest entry that no anchor covers; 0 for none.
	Backlog time.Duration
	// Heard is when enough departments were last asked how far the ledger is.
	Heard   time.Time
	Heights []ledger.DepartmentHeight
}

// Config is what the HTTP side is made of. Every field is required but the
// auditor, the rates, the clock and those below it.
type Config struct {
	Department   domain.DepartmentCode // whose gateway this is
	PublicURL    string                // scheme and host that links and QR codes carry
	Trust        []byte                // trust anchors in canonical form
	Governance   Governance
	Catalog      Catalog
	Sharing      Sharing
	Overview     Overview
	Access       Access
	Tiles        accesslog.Tiles // the department's own log
	Alarms       Alarms
	Watched      func() []service.WatchedLog // the other departments' logs; must be quick
	Auditor      Auditor                     // nil: this gateway reads its own log only
	Certificates Certificates
	Verification Verification
	Chain        Chain
	Readiness    Readiness
	Blocks       Blocks
	ServedBy     func() []domain.DepartmentCode // on whose word this gateway follows the ledger, none for its own peer's; nil: always that
	Operations   Operations
	Signing      Signing // of callers who sign with keys of their own; nil, as Signer: there are none
	Signer       Signer
	CursorKey    []byte // 32 bytes at least, the same for all replicas of this gateway
	Tokens       Tokens
	Limiter      Limiter
	Pages        Pages
	AuditPage    http.Handler                 // GET /audit and its files
	Gauges       func(context.Context) Gauges // must be quick
	AddressRate  Rate                         // per remote address, for requests without a token; zero: [DefaultAddressRate]
	IdentityRate Rate                         // per department and role; zero: [DefaultIdentityRate]
	PublicRate   Rate                         // of all requests without a valid credential together; zero: [DefaultPublicRate]
	TileRate     Rate                         // of all requests for public tiles together; zero: [DefaultTileRate]
	Clock        func() time.Time             // nil: the system's
	Log          *slog.Logger

	OIDC              OIDC                                         // nil: no provider's tokens are accepted
	ClientCertificate func(*x509.Certificate) (domain.Role, error) // nil: no client certificates are accepted
	Requests          func(requestlog.Entry)                       // takes a line for every request; nil: nobody does
	Refused           func(reason string)                          // counts refused credentials; nil: nobody does
	Collectors        []prometheus.Collector                       // shown by /metrics besides its own
	Tracer            trace.Tracer                                 // nil: no traces are made
}

func (c *Config) check() error {
	var missing []error
	need := func(name string, set bool) {
		if !set {
			missing = append(missing, errors.New(name+" is missing"))
		}
	}
	need("Department", c.Department != "")
	need("PublicURL", c.PublicURL != "")
	need("Trust", len(c.Trust) > 0)
	need("Governance", c.Governance != nil)
	need("Catalog", c.Catalog != nil)
	need("Sharing", c.Sharing != nil)
	need("Overview", c.Overview != nil)
	need("Access", c.Access != nil)
	need("Tiles", c.Tiles != nil)
	need("Alarms", c.Alarms != nil)
	need("Watched", c.Watched != nil)
	need("Certificates", c.Certificates != nil)
	need("Verification", c.Verification != nil)
	need("Chain", c.Chain != nil)
	need("Readiness", c.Readiness != nil)
	need("Blocks", c.Blocks != nil)
	need("Operations", c.Operations != nil)
	need("CursorKey", len(c.CursorKey) >= 32)
	need("Tokens", c.Tokens != nil)
	need("Limiter", c.Limiter != nil)
	need("Pages", c.Pages != nil)
	need("AuditPage", c.AuditPage != nil)
	need("Gauges", c.Gauges != nil)
	need("Log", c.Log != nil)
	return errors.Join(missing...)
}

// server implements the generated server interface.
type server struct {
	Config
	cursors    cursors
	spec       []byte // OpenAPI as JSON
	reference  []byte // the same as a page
	operations map[routeKey]*operation
	metrics    *metrics
	headers    []securityHeader
	limits     map[string]*limit
	public     pool
	tiles      pool                         // apart from public: whoever crowds one keeps nobody from the other
	rendered   *lru.Cache[string, rendered] // by reference
}

var _ api.StrictServerInterface = (*server)(nil)

// New returns the handler of all of the gateway's paths. It fails when cfg is
// incomplete or the embedded contract is damaged.
func New(cfg Config) (http.Handler, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("make HTTP handler: %w", err)
	}
	if cfg.AddressRate == (Rate{}) {
		cfg.AddressRate = DefaultAddressRate
	}
	if cfg.IdentityRate == (Rate{}) {
		cfg.IdentityRate = DefaultIdentityRate
	}
	if cfg.PublicRate == (Rate{}) {
		cfg.PublicRate = DefaultPublicRate()
	}
	if cfg.TileRate == (Rate{}) {
		cfg.TileRate = DefaultTileRate()
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	spec, err := api.GetSpecJSON()
	if err != nil {
		return nil, fmt.Errorf("read the contract: %w", err)
	}
	operations, err := loadOperations()
	if err != nil {
		return nil, err
	}
	answers, err := lru.New[string, rendered](maxRendered)
	if err != nil {
		return nil, fmt.Errorf("make HTTP handler: %w", err)
	}
	doc, err := api.GetSpec()
	if err != nil {
		return nil, fmt.Errorf("read the contract: %w", err)
	}
	page, err := renderReference(doc)
	if err != nil {
		return nil, err
	}
	s := &server{
		cursors: cursors{cfg.CursorKey}, reference: page,
		Config: cfg, spec: spec, operations: operations, metrics: newMetrics(&cfg),
		headers: securityHeaders(cfg.PublicURL), rendered: answers,
		public: newPool("public", cfg.PublicRate), tiles: newPool("all-tiles", cfg.TileRate),
		limits: newLimits(map[string]Rate{"address": cfg.AddressRate, "caller": cfg.IdentityRate, "tiles": tileRate}),
	}
	e, err := s.engine()
	if err != nil {
		return nil, err
	}
	return &front{e}, nil
}

// front stands before the engine for what its routes cannot say. It answers HEAD
// as GET is answered, and the server leaves the body out. It takes the path of a
// tile for one parameter, although it has slashes.
type front struct{ *gin.Engine }

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	joined := joinTilePath(r.URL)
	if r.Method == http.MethodHead || joined != nil {
		r = r.WithContext(r.Context()) // a copy: the server still has to know
	}
	if r.Method == http.MethodHead {
		r.Method = http.MethodGet
	}
	if joined != nil {
		r.URL = joined
	}
	f.Engine.ServeHTTP(w, r)
}

func (s *server) engine() (*gin.Engine, error) {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	// Catalog codes hold a slash, sent as %2F: match the path as it was sent.
	e.UseRawPath = true
	e.UnescapePathValues = true
	e.HandleMethodNotAllowed = true
	e.RedirectTrailingSlash = false
	if err := e.SetTrustedProxies(nil); err != nil {
		return nil, fmt.Errorf("trust no proxies: %w", err)
	}
	e.Use(s.trace, s.recovery, s.secure, s.identify, s.limitBody, s.validate, s.openCursor, s.identifyOperation, s.preference, s.expect, s.awaitBlock, s.verifyQuickly)
	e.NoRoute(func(c *gin.Context) {
		s.fail(c, &refusal{code: api.ProblemCodeNotFound, detail: "there is nothing under this path"})
	})
	e.NoMethod(func(c *gin.Context) {
		s.fail(c, &refusal{code: api.ProblemCodeMethodNotAllowed, detail: "this path does not take the method; the Allow header lists those it takes"})
	})
	strict := api.NewStrictHandlerWithOptions(s, nil, api.StrictGinServerOptions{
		RequestErrorHandlerFunc:  func(c *gin.Context, err error) { s.fail(c, unreadable(err)) },
		HandlerErrorFunc:         s.fail,
		ResponseErrorHandlerFunc: s.fail,
	})
	api.RegisterHandlersWithOptions(e, strict, api.GinServerOptions{
		ErrorHandler: func(c *gin.Context, err error, _ int) { s.fail(c, unreadable(err)) },
	})
	return e, nil
}

// NewServer returns a server of h with the limits that keep slow and hostile
// clients from holding it up.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      writeDeadline + 30*time.Second, // after the longest use case, time to send the answer
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
