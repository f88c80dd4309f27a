package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

// certificateType is what the load issues, by both of its issuers.
const certificateType = "11100000000013338W011"

// issuers propose and decide on the load's certificates.
var issuers = []string{"police", "civil"}

// members are the departments of network/consortium.yaml in its order, by which
// the ordering service numbers them.
var members = []string{"bigdata", "police", "civil", "market"}

// creditCodes are theirs.
var creditCodes = map[string]string{
	"bigdata": "11990000A000000113", "police": "11990000A0000002XT", "civil": "11990000A00000038T", "market": "11990000A00000046M",
}

// load is an open loop: requests begin at a rate, whatever became of the earlier
// ones.
type load struct {
	*clients
	random *mathrand.Rand // of the dispatcher alone

	use       domain.Grant
	contended []domain.Grant // that are suspended and resumed

	mu           sync.Mutex
	certificates []*certificate

	sequence atomic.Int64
	inFlight atomic.Int64
	shed     atomic.Int64 // requests that did not begin: too many were under way
	work     sync.WaitGroup
}

// certificate goes through its life one operation at a time.
type certificate struct {
	ref, issuer string
	next        int // in steps
	busy        bool
}

var steps = []string{"approve", "propose", "revoke"}

// mostInFlight bounds the memory of a load that nobody answers.
const mostInFlight = 2000

func newLoad(c *clients, random *mathrand.Rand) *load {
	l := &load{clients: c, random: random}
	l.sequence.Store(time.Now().Unix() % 1_000_000 * 1000)
	return l
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return hex.EncodeToString(b)
}

// contendedAt is the number of writes a second for which there is one grant to
// contend for: of more, too many would be under way at one time to look for an order
// of them.
const contendedAt = 5

// prepare writes what a load of so many writes a second needs: grants, and the right
// to issue.
func (l *load) prepare(ctx context.Context, perSecond float64) (err error) {
	for _, issuer := range issuers {
		body := map[string]any{
			"issuer": issuer, "typeCode": certificateType, "typeNameZh": "居住证", "typeNameEn": "Residence permit", "basis": "《居住证暂行条例》",
			"period": domain.Period{From: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2056, 1, 1, 0, 0, 0, 0, time.UTC)},
		}
		o := &operation{Kind: "setup", Action: "authorise", Object: issuer, Department: "bigdata", Role: "admin", Key: randomHex(8)}
		if l.perform(ctx, o, request{"/v1/issuers", body}); o.Outcome == open {
			return fmt.Errorf("authorise %s: %s", issuer, o.Attempts[0].Detail)
		}
	}
	if l.use, err = l.grant(ctx); err != nil {
		return err
	}
	for range max(1, int(perSecond/contendedAt)) {
		g, err := l.grant(ctx)
		if err != nil {
			return err
		}
		l.contended = append(l.contended, g)
	}
	return nil
}

// resume knows the grants that the operations of its history contended for.
func (l *load) resume() {
	operations, _, _ := l.history.snapshot()
	known := map[string]bool{}
	for _, o := range operations {
		if o.Kind == kindGrant && !known[o.Object] {
			known[o.Object] = true
			l.contended = append(l.contended, domain.Grant{ID: o.Object})
		}
	}
}

// grant has the police share a resource with the civil affairs bureau.
func (l *load) grant(ctx context.Context) (domain.Grant, error) {
	code, id := l.newCode(), randomHex(16)
	entry := "/v1/catalog/entries/" + url.PathEscape(code)
	from := time.Now().UTC().Truncate(time.Second).Add(-time.Minute)
	for _, s := range []struct {
		department, role, path string
		body                   any
	}{
		{"police", "operator", "/v1/catalog/entries", contentOf("police", code)},
		{"bigdata", "reviewer", entry + "/actions/review", map[string]any{"decision": "approve", "opinion": "符合编制要求"}},
		{"police", "operator", entry + "/actions/publish", nil},
		{"bigdata", "reviewer", entry + "/actions/review", map[string]any{"decision": "approve", "opinion": "同意发布"}},
		{"civil", "operator", "/v1/requests", domain.ShareRequestContent{
			ID: id, CatalogCode: code, Items: []string{"登记状态"}, Purpose: "婚姻登记核验", UseBasis: "《婚姻登记条例》", ServiceItem: "000512001000",
			ShareMode: "platform_api", Period: domain.Period{From: from, To: from.AddDate(1, 0, 0)},
			Quota:        domain.Quota{Total: 10_000_000, PerDay: 10_000_000, PerMinute: 1_000_000},
			LetterDigest: domain.Digest([]byte("application letter")), SecurityMeasures: "专线传输，结果不落地",
		}},
		{"bigdata", "reviewer", "/v1/requests/" + id + "/actions/accept", map[string]any{"decision": "accept", "reason": ""}},
		{"police", "reviewer", "/v1/requests/" + id + "/actions/answer", map[string]any{"decision": "agree", "reason": "符合共享条件"}},
	} {
		if err := l.awaitLatest(ctx, s.department); err != nil {
			return domain.Grant{}, err
		}
		o := &operation{Kind: "setup", Action: s.path, Object: code, Department: s.department, Role: s.role, Key: randomHex(8)}
		if _, err := l.require(ctx, o, request{s.path, s.body}); err != nil {
			return domain.Grant{}, err
		}
	}
	var answered struct {
		Record domain.ShareRequest `json:"record"`
	}
	if err := l.get(ctx, "police", "operator", "/v1/requests/"+id, &answered); err != nil {
		return domain.Grant{}, err
	}
	var g struct {
		Record domain.Grant `json:"record"`
	}
	err := l.get(ctx, "police", "operator", "/v1/grants/"+answered.Record.GrantID, &g)
	return g.Record, err
}

// awaitLatest waits until a gateway has the latest block that a client knows of.
func (l *load) awaitLatest(ctx context.Context, department string) error {
	return eventually(ctx, 30*time.Second, "the gateway of "+department+" keeps up", func() (bool, string) {
		var chain struct {
			Items []domain.Block `json:"items"`
		}
		err := l.get(ctx, department, "auditor", "/v1/chain/blocks?limit=1", &chain)
		return err == nil && len(chain.Items) == 1 && chain.Items[0].Number >= l.latest.Load(), fmt.Sprint(err)
	})
}

// newCode answers an information resource code that nobody used yet.
func (l *load) newCode() string { return fmt.Sprintf("306003/%09d", l.sequence.Add(1)) }

func contentOf(department, code string) domain.CatalogContent {
	return domain.CatalogContent{
		Code: code, Name: "居住登记核验信息 " + code, Abstract: "用于核验居住登记状态的结果信息。",
		ProviderUSCC: creditCodes[department], Classification: "公共安全", Format: "api",
		Items:     []domain.CatalogItem{{Name: "登记状态", Type: "C", Level: 2, ShareType: domain.Conditional}},
		ShareType: domain.Conditional, ShareCondition: "仅用于婚姻登记办理时核验",
		LegalBasis: []string{"《政务数据共享条例》（国务院令第809号）"}, ShareMode: "platform_api",
		OpenType: domain.NotOpen, UpdateCycle: "daily", RelatedCodes: []string{},
		DutyRef: "居住登记管理", SystemRef: "居住登记系统", RegionCode: "370200", Level: 2, PersonalData: "general",
	}
}

// run begins requests at the rates until ctx ends. It answers at once then;
// [load.drain] waits for what is under way. The requests themselves end with all.
func (l *load) run(ctx, all context.Context, writes, reads float64) {
	var wg sync.WaitGroup
	wg.Go(func() { l.dispatch(ctx, writes, l.nextWrite(all)) })
	wg.Go(func() { l.dispatch(ctx, reads, l.nextRead(all)) })
	wg.Wait()
}

// dispatch calls next at a rate and runs what it answers.
func (l *load) dispatch(ctx context.Context, perSecond float64, next func() func()) {
	tick := time.NewTicker(time.Duration(float64(time.Second) / perSecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if l.inFlight.Load() >= mostInFlight {
			l.shed.Add(1)
			continue
		}
		if do := next(); do != nil {
			l.inFlight.Add(1)
			l.work.Go(func() {
				defer l.inFlight.Add(-1)
				do()
			})
		}
	}
}

// drain waits until nothing is under way.
func (l *load) drain() { l.work.Wait() }

// nextWrite draws the next write: what it is depends on the seed, not on what
// became of earlier ones.
func (l *load) nextWrite(ctx context.Context) func() func() {
	departments := l.net.Departments()
	random := mathrand.New(mathrand.NewPCG(l.random.Uint64(), 0))
	return func() func() {
		switch n := random.IntN(20); {
		case n < 8:
			department := departments[random.IntN(len(departments))]
			return func() { l.register(ctx, department, kindCatalog) }
		case n < 14:
			return l.advance(ctx, random)
		case n < 18:
			return func() { l.access(ctx) }
		default:
			action, id := []string{"suspend", "resume"}[random.IntN(2)], l.contended[random.IntN(len(l.contended))].ID
			return func() {
				o := &operation{Kind: kindGrant, Action: action, Object: id, Department: "police", Role: "reviewer", Key: randomHex(8)}
				l.perform(ctx, o, request{"/v1/grants/" + id + "/actions/" + action, map[string]any{"reason": "核查"}})
			}
		}
	}
}

func (l *load) register(ctx context.Context, department, kind string) *operation {
	code := l.newCode()
	o := &operation{Kind: kind, Action: "register", Object: code, Department: department, Role: "operator", Key: randomHex(8)}
	l.perform(ctx, o, request{"/v1/catalog/entries", contentOf(department, code)})
	return o
}

func (l *load) access(ctx context.Context) {
	g, call := l.use, "call-"+randomHex(8)
	at := time.Now().UTC().Truncate(time.Millisecond)
	record := domain.AccessRecord{
		Direction: domain.DirectionProvider, CallID: call, GrantID: g.ID, CatalogCode: g.CatalogCode, CatalogVersion: g.CatalogVersion,
		Items: g.Items, Provider: g.Provider, Consumer: g.Consumer, Purpose: g.Purpose, ServiceItem: g.ServiceItem,
		System: "marriage-registration", Operator: "op-7f3a", OperatorRole: "clerk", RecordCount: 1,
		RequestDigest: domain.Digest([]byte("request " + call)), ResponseDigest: domain.Digest([]byte("response " + call)),
		LegalBasis: "《婚姻登记条例》", Channel: domain.ChannelAPI, At: at, RespondedAt: at, Result: "ok",
	}
	data, err := json.Marshal(record)
	if err != nil {
		panic(err) // plain values always encode
	}
	var input map[string]any
	if err := json.Unmarshal(data, &input); err != nil {
		panic(err) // it was just encoded
	}
	for _, filledIn := range []string{"schema", "loggedAt", "grantSeq"} {
		delete(input, filledIn)
	}
	o := &operation{Kind: kindAccess, Action: "log", Object: call, Department: "police", Role: "operator", Key: call}
	l.perform(ctx, o, request{"/v1/access-records", map[string]any{"records": []any{input}}})
}

// advance takes a certificate one step further, or proposes another one.
func (l *load) advance(ctx context.Context, random *mathrand.Rand) func() {
	l.mu.Lock()
	defer l.mu.Unlock()
	var free []*certificate
	for _, c := range l.certificates {
		if !c.busy && c.next < len(steps) {
			free = append(free, c)
		}
	}
	issuer := issuers[random.IntN(len(issuers))]
	// Most certificates stay good for a while: the public has something to verify.
	if len(free) < 30 {
		return func() { l.issue(ctx, issuer) }
	}
	c := free[random.IntN(len(free))]
	c.busy = true
	return func() { l.step(ctx, c) }
}

func (l *load) issue(ctx context.Context, issuer string) {
	now := time.Now().UTC().Truncate(time.Second)
	serial := strings.ToUpper(randomHex(8))
	o := &operation{Kind: kindCertificate, Action: "issue", Object: "serial " + serial, Department: issuer, Role: "operator", Key: randomHex(8)}
	reply := l.perform(ctx, o, request{"/v1/certificates", map[string]any{
		"typeCode": certificateType, "typeNameZh": "居住证", "typeNameEn": "Residence permit",
		"holderKind": "person", "holderSaltedRef": domain.Digest([]byte("salt and holder " + serial)), "serial": serial,
		"validity": domain.Period{From: now.Add(-time.Hour), To: now.AddDate(1, 0, 0)}, "serviceItem": "000512001000",
		"contentDigest": domain.Digest([]byte("certificate content " + serial)),
	}})
	if o.Outcome == committed && reply.Ref != "" {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.certificates = append(l.certificates, &certificate{ref: reply.Ref, issuer: issuer})
	}
}

// step is the next operation in a certificate's life. One that has no end ends
// this life: what comes after it would depend on it.
func (l *load) step(ctx context.Context, c *certificate) {
	action := steps[c.next]
	o := &operation{Kind: kindCertificate, Action: action, Object: c.ref, Department: c.issuer, Role: "reviewer", Key: randomHex(8)}
	path, body := "/actions/decide", any(map[string]any{"decision": "approve"})
	if action == "propose" {
		o.Role, path = "operator", "/actions/propose"
		body = map[string]any{"event": "revoke", "act": domain.StatusAct{
			DocumentNo: "撤字〔2026〕1号", LegalBasis: "《中华人民共和国行政许可法》第六十九条", ReasonCode: "issued_in_error", EffectiveAt: time.Now().UTC(),
		}}
	}
	l.perform(ctx, o, request{"/v1/certificates/" + c.ref + path, body})
	l.mu.Lock()
	defer l.mu.Unlock()
	c.busy = o.Outcome != committed
	c.next++
}

// nextRead draws the next read: mostly the public's, some that must be
// linearizable.
func (l *load) nextRead(ctx context.Context) func() func() {
	departments := l.net.Departments()
	random := mathrand.New(mathrand.NewPCG(l.random.Uint64(), 0))
	return func() func() {
		order := random.Perm(len(departments))
		gateways := make([]string, len(order))
		for i, j := range order {
			gateways[i] = departments[j]
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.certificates) == 0 {
			return nil
		}
		ref := l.certificates[random.IntN(len(l.certificates))].ref
		switch n := random.IntN(10); {
		case n == 0:
			return func() { l.read(ctx, gateways[0], ref, "/v1/certificates/"+ref) }
		case n == 1:
			id := l.contended[random.IntN(len(l.contended))].ID
			return func() { l.read(ctx, gateways[0], id, "/v1/grants/"+id) }
		default:
			return func() { l.verify(ctx, ref, gateways) }
		}
	}
}
