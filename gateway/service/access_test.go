package service_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/accesslog"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/proof"
)

// desk is the police's access log with what keeps it.
type desk struct {
	*world
	log        *testLog
	index      index.Index // that access reads
	access     *service.Access
	heard      atomic.Int64  // Unix milliseconds; 0: now
	anchorSize atomic.Uint64 // the size that the ledger anchors
	backlog    atomic.Int64  // nanoseconds
}

func newDesk(t testing.TB) *desk {
	w := newWorld(t)
	d := &desk{world: w, log: newTestLog(t, origin("police")), index: w.index}
	d.restart()
	return d
}

const maxLag = time.Minute

func (d *desk) options() service.AccessOptions {
	return service.AccessOptions{
		Department: "police", Index: d.index, Log: d.log, Ledger: d.ledger, Clock: d.clock.Now,
		Heard: func() time.Time {
			if at := d.heard.Load(); at != 0 {
				return time.UnixMilli(at)
			}
			return d.clock.Now()
		},
		Anchored: func() (accesslog.Anchored, bool) {
			size := d.anchorSize.Load()
			return accesslog.Anchored{Size: size}, size > 0
		},
		Backlog: func() time.Duration { return time.Duration(d.backlog.Load()) }, MaxLag: maxLag,
	}
}

// restart begins as a new process does.
func (d *desk) restart() { d.access = service.NewAccess(d.options()) }

// record logs records as an operator of the police.
func (d *desk) record(records ...domain.AccessRecord) ([]service.AccessReceipt, error) {
	answer, err := d.access.Record(d.t.Context(), policeOperator, service.RecordOptions{}, records)
	return answer.Receipts, err
}

// follow keeps the index at the log's size from now on.
func (d *desk) follow() {
	run(d.t, service.NewLogIndexer(d.log, d.world.index, slog.New(slog.DiscardHandler)).Run)
}

func (d *desk) followed() {
	d.t.Helper()
	await(d.t, "the index to have all access records", func() bool {
		n, err := d.world.index.NextAccess(d.t.Context())
		return err == nil && n == d.log.size(d.t)
	})
}

var calls atomic.Int64

// use is an access that the grant allows.
func (d *desk) use(g domain.Grant) domain.AccessRecord {
	n := calls.Add(1)
	return domain.AccessRecord{
		Direction: domain.DirectionProvider, CallID: fmt.Sprintf("call-%016d", n), GrantID: g.ID,
		CatalogCode: g.CatalogCode, CatalogVersion: g.CatalogVersion, Items: g.Items,
		Provider: g.Provider, Consumer: g.Consumer, Purpose: g.Purpose, LegalBasis: "婚姻登记条例", ServiceItem: g.ServiceItem,
		System: "婚姻登记系统", Operator: "op-7", OperatorRole: "窗口", RecordCount: 1,
		RequestDigest: strings.Repeat("c", 64), ResponseDigest: strings.Repeat("d", 64),
		Channel: domain.ChannelAPI, At: d.clock.Now(), RespondedAt: d.clock.Now(), Result: domain.ResultOK,
	}
}

func (d *desk) uses(g domain.Grant, n int) []domain.AccessRecord {
	out := make([]domain.AccessRecord, n)
	for i := range out {
		out[i] = d.use(g)
	}
	return out
}

// logged answers the records in the log.
func (d *desk) logged() []domain.AccessRecord {
	d.t.Helper()
	var out []domain.AccessRecord
	for i, e := range d.log.all(d.t) {
		var r domain.AccessRecord
		if err := domain.ParseCanonical(e, &r); err != nil {
			d.t.Fatalf("log entry %d: %v", i, err)
		}
		out = append(out, r)
	}
	return out
}

func (d *desk) results() []string {
	out := []string{}
	for _, r := range d.logged() {
		out = append(out, r.Result)
	}
	return out
}

func TestRecord(t *testing.T) {
	d := newDesk(t)
	g := d.grant(grantID(1), domain.Quota{Total: 100, PerDay: 100})
	given := d.uses(g, 3)
	given[1].At = given[1].At.In(time.FixedZone("UTC+8", 8*3600)) // spelled otherwise, the same moment
	given[2].Result, given[2].ResponseDigest = "no_such_person", ""
	answer, err := d.access.Record(t.Context(), policeOperator, service.RecordOptions{}, given)
	if err != nil {
		t.Fatal(err)
	}
	receipts := answer.Receipts
	if given[0].Schema != "" || !given[0].LoggedAt.IsZero() {
		t.Error("changes the caller's records")
	}
	logged := d.logged()
	if len(receipts) != 3 || len(logged) != 3 {
		t.Fatalf("%d receipts, %d entries, want 3 and 3", len(receipts), len(logged))
	}
	verifier, err := note.NewVerifier(d.log.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	text := "zhenglian/access-receipt/2\n" + d.log.Origin() + "\n"
	for i, r := range receipts {
		want := given[i]
		want.Schema, want.GrantSeq, want.LoggedAt, want.At = domain.SchemaAccessRecord, g.Seq, d.clock.Now(), given[i].At.UTC()
		if diff := cmp.Diff(want, logged[i]); diff != "" {
			t.Errorf("entry %d (-want +got):\n%s", i, diff)
		}
		leaf := proof.LeafHash(d.log.all(t)[i])
		if r.CallID != given[i].CallID || r.Index != uint64(i) || !bytes.Equal(r.LeafHash, leaf[:]) {
			t.Errorf("receipt %d is %+v", i, r)
		}
		text += fmt.Sprintf("%d %s\n", i, base64.StdEncoding.EncodeToString(leaf[:]))
	}
	promise, err := note.Open(answer.Promise, note.VerifierList(verifier))
	if err != nil {
		t.Fatal(err)
	}
	if promise.Text != text {
		t.Errorf("promise is %q, want %q", promise.Text, text)
	}
	if _, err := proof.OpenCheckpoint(answer.Promise, d.log.Origin(), d.log.VerifierKey()); err == nil {
		t.Error("a promise passes for a checkpoint")
	}
	gateway := service.Caller{Department: "police", Role: domain.RoleGateway}
	if _, err := d.access.Record(t.Context(), gateway, service.RecordOptions{}, d.uses(g, 1)); err != nil {
		t.Errorf("the gateway itself: %v", err)
	}
}

func TestRecordRoles(t *testing.T) {
	d := newDesk(t)
	g := d.grant(grantID(1), domain.Quota{Total: 100, PerDay: 100})
	for _, role := range []domain.Role{domain.RoleAdmin, domain.RoleReviewer, domain.RoleAuditor, ""} {
		_, err := d.access.Record(t.Context(), service.Caller{Department: "police", Role: role}, service.RecordOptions{}, d.uses(g, 1))
		wantKind(t, err, domain.Forbidden, "rule:")
	}
	for _, n := range []int{0, 1001} {
		_, err := d.record(d.uses(g, n)...)
		wantKind(t, err, domain.Invalid, "1 to 1000")
	}
	if n := d.log.size(d.t); n != 0 {
		t.Errorf("%d entries logged", n)
	}
}

// TestRecordRefuses has one bad record in the middle of good ones: nothing of
// the batch is logged but the refusal, where it can be a record.
func TestRecordRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(r *domain.AccessRecord)
		kind   domain.Kind
		part   string
		trace  string // result of the refusal's record, "" for none
	}{
		{"unknown grant", func(r *domain.AccessRecord) { r.GrantID = grantID(9) }, domain.Forbidden, "no grant", ""},
		{"other provider", func(r *domain.AccessRecord) { r.Provider = "market" }, domain.Forbidden, "this log is police's", ""},
		{"other side's record", func(r *domain.AccessRecord) { r.Direction = domain.DirectionConsumer }, domain.Forbidden, "this log is police's", ""},
		{"not the grant's consumer", func(r *domain.AccessRecord) { r.Consumer = "market" }, domain.Forbidden, "consumer", ""},
		{"purpose", func(r *domain.AccessRecord) { r.Purpose = "好奇" }, domain.Forbidden, "purpose", "refused_purpose"},
		{"item outside the grant", func(r *domain.AccessRecord) { r.Items = []string{"户号", "住址"} }, domain.Forbidden, "items[1]", "refused_items"},
		{"catalog version", func(r *domain.AccessRecord) { r.CatalogVersion = 2 }, domain.Forbidden, "catalog", "refused_catalog"},
		{"service item", func(r *domain.AccessRecord) { r.ServiceItem = "other" }, domain.Forbidden, "serviceItem", "refused_service_item"},
		{"before the period", func(r *domain.AccessRecord) { r.At = r.At.AddDate(0, 0, -1) }, domain.Forbidden, "pending", "refused_period"},
		{"shape", func(r *domain.AccessRecord) { r.CallID = "short" }, domain.Invalid, "callId", ""},
		{"in the future", func(r *domain.AccessRecord) { r.At = r.At.Add(time.Hour) }, domain.Invalid, "at", ""},
		{"personal number", func(r *domain.AccessRecord) { r.CaseRef = "11010119900307123X" }, domain.Invalid, "personal-number", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t)
			g := d.grant(grantID(1), domain.Quota{Total: 100, PerDay: 100})
			batch := d.uses(g, 5)
			tt.change(&batch[3])
			_, err := d.record(batch...)
			wantKind(t, err, tt.kind, "record 3: ")
			wantKind(t, err, tt.kind, tt.part)
			var refused *service.RefusedError
			if !errors.As(err, &refused) || len(refused.Refusals) != 1 || refused.Refusals[0].Record != 3 {
				t.Errorf("error is %#v, want a refusal of record 3", err)
			}
			want := []string{}
			if tt.trace != "" {
				want = append(want, tt.trace)
			}
			if got := d.results(); !cmp.Equal(got, want) {
				t.Errorf("logged results %q, want %q", got, want)
			}
			// A refusal uses nothing up, and does not stop the next batch.
			if _, err := d.record(d.uses(g, 100)...); err != nil {
				t.Errorf("the next batch: %v", err)
			}
		})
	}
}

// TestRecordStoppedGrant refuses uses of a grant that is suspended or revoked,
// and of one that has run out, and logs what was wanted.
func TestRecordStoppedGrant(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	id := grantID(1)
	g := d.grant(id, domain.Quota{Total: 100, PerDay: 100})
	d.grant(grantID(2), domain.Quota{Total: 1, PerDay: 1})
	police := d.sharing("police")
	want := []string{}
	for _, step := range []struct {
		name   string
		do     func() error
		part   string
		result string
	}{
		{"granted", func() error { return nil }, "", domain.ResultOK},
		{"suspended", func() error { return failure(police.Suspend(ctx, policeReviewer, because(id))) }, "suspended", "refused_suspended"},
		{"resumed", func() error { return failure(police.Resume(ctx, policeReviewer, because(id))) }, "", domain.ResultOK},
		{"by the lead", func() error { return failure(d.sharing("bigdata").Suspend(ctx, leadReviewer, because(id))) }, "suspended", "refused_suspended"},
		{"revoked", func() error { return failure(police.Revoke(ctx, policeReviewer, because(id))) }, "revoked", "refused_revoked"},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		_, err := d.record(d.uses(g, 1)...)
		if step.part == "" && err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
		if step.part != "" {
			wantKind(t, err, domain.Forbidden, "the grant is "+step.part)
		}
		if want = append(want, step.result); !cmp.Equal(d.results(), want) {
			t.Errorf("%s: logged %q, want %q", step.name, d.results(), want)
		}
	}
	// A refusal under a revoked grant released nothing, so it may be told.
	refusal := d.use(g)
	refusal.Result, refusal.ResponseDigest = "no_such_person", ""
	if _, err := d.record(refusal); err != nil {
		t.Errorf("a refusal under a revoked grant: %v", err)
	}
	expired, err := police.GetGrant(ctx, grantID(2))
	if err != nil {
		t.Fatal(err)
	}
	d.clock.Advance(60 * day)
	_, err = d.record(d.uses(expired.Value, 1)...)
	wantKind(t, err, domain.Forbidden, "the grant is expired")
	if got := d.results(); got[len(got)-1] != "refused_period" {
		t.Errorf("logged %q last, want refused_period", got[len(got)-1])
	}
}

// TestRecordRefusalOfLateGrant checks that the result of a refusal names the rule
// also when the grant's period began before it was granted.
func TestRecordRefusalOfLateGrant(t *testing.T) {
	d := newDesk(t)
	d.clock.Advance(day) // the period begins at the start of the chain
	g := d.grant(grantID(1), domain.Quota{Total: 1, PerDay: 1})
	bad := d.use(g)
	bad.Purpose = "好奇"
	_, err := d.record(bad)
	wantKind(t, err, domain.Forbidden, "purpose")
	if got := d.results(); !cmp.Equal(got, []string{"refused_purpose"}) {
		t.Errorf("logged %q, want refused_purpose", got)
	}
}

func TestRecordNamesEveryRefusal(t *testing.T) {
	d := newDesk(t)
	g := d.grant(grantID(1), domain.Quota{Total: 100, PerDay: 100})
	batch := d.uses(g, 30)
	for i := range batch {
		if i != 0 {
			batch[i].Purpose = "好奇"
		}
	}
	_, err := d.record(batch...)
	wantKind(t, err, domain.Forbidden, "record 1: ")
	wantKind(t, err, domain.Forbidden, "and 9 more") // 29 refused, 20 named
	var refused *service.RefusedError
	if !errors.As(err, &refused) || len(refused.Refusals) != 29 {
		t.Errorf("error is %v, want 29 refusals", err)
	}
	if got := d.log.size(d.t); got != 29 {
		t.Errorf("%d refusals logged, want 29", got)
	}
}

func TestRecordRefusalNotLogged(t *testing.T) {
	d := newDesk(t)
	g := d.grant(grantID(1), domain.Quota{Total: 100, PerDay: 100})
	d.log.setFault(func() (bool, error) { return false, errors.New("no space left on device") })
	bad := d.use(g)
	bad.Purpose = "好奇"
	_, err := d.record(bad)
	wantKind(t, err, domain.Forbidden, "no space left on device")
}

// TestQuota counts uses wherever they are: in the index, in the log only, in the
// same batch, in an append that failed, or in an earlier process' log.
func TestQuota(t *testing.T) {
	refusedQuota := func(t *testing.T, d *desk, g domain.Grant, n int, part string) {
		t.Helper()
		_, err := d.record(d.uses(g, n)...)
		wantKind(t, err, domain.Forbidden, part)
	}
	admitted := func(t *testing.T, d *desk, g domain.Grant, n int) {
		t.Helper()
		if _, err := d.record(d.uses(g, n)...); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("in one batch", func(t *testing.T) {
		d := newDesk(t)
		g := d.grant(grantID(1), domain.Quota{Total: 5, PerDay: 5})
		refusedQuota(t, d, g, 6, "record 5: ")
		if got := d.results(); !cmp.Equal(got, []string{"refused_quota"}) {
			t.Errorf("logged %q", got)
		}
		admitted(t, d, g, 5)
		refusedQuota(t, d, g, 1, "quota")
	})
	t.Run("index lags", func(t *testing.T) { // nobody follows the log
		d := newDesk(t)
		g := d.grant(grantID(1), domain.Quota{Total: 5, PerDay: 5})
		admitted(t, d, g, 2)
		admitted(t, d, g, 2)
		refusedQuota(t, d, g, 2, "quota")
		d.clock.Advance(time.Minute) // the tally is read again
		admitted(t, d, g, 1)
		refusedQuota(t, d, g, 1, "quota")
	})
	t.Run("index catches up", func(t *testing.T) {
		d := newDesk(t)
		d.follow()
		g := d.grant(grantID(1), domain.Quota{Total: 10, PerDay: 10})
		for range 10 {
			admitted(t, d, g, 1)
			d.followed()
			d.clock.Advance(6 * time.Second) // read again each time: nothing counts twice
		}
		refusedQuota(t, d, g, 1, "quota")
	})
	t.Run("per day, in Beijing", func(t *testing.T) {
		d := newDesk(t) // 08:00 UTC is 16:00 in Beijing
		g := d.grant(grantID(1), domain.Quota{Total: 100, PerDay: 2})
		admitted(t, d, g, 2)
		refusedQuota(t, d, g, 1, "perDay")
		d.clock.Advance(8*time.Hour - time.Millisecond)
		refusedQuota(t, d, g, 1, "perDay")
		d.clock.Advance(time.Millisecond) // midnight in Beijing, 16:00 UTC
		admitted(t, d, g, 2)
		late := d.use(g)
		late.At = late.At.Add(-time.Hour) // a call of the day before, told late
		_, err := d.record(late)
		wantKind(t, err, domain.Forbidden, "perDay")
	})
	t.Run("per day, indexed", func(t *testing.T) {
		d := newDesk(t)
		d.follow()
		g := d.grant(grantID(1), domain.Quota{Total: 100, PerDay: 2})
		admitted(t, d, g, 2)
		d.clock.Advance(24 * time.Hour)
		admitted(t, d, g, 1)
		d.followed()
		d.clock.Advance(time.Minute)
		admitted(t, d, g, 1)
		refusedQuota(t, d, g, 1, "perDay")
	})
	t.Run("each direction by itself", func(t *testing.T) {
		d := newDesk(t)
		g := d.grant(grantID(1), domain.Quota{Total: 1, PerDay: 1})
		admitted(t, d, g, 1)
		options := d.options()
		options.Department, options.Log = "civil", newTestLog(t, origin("civil"))
		civil := service.NewAccess(options)
		r := d.use(g)
		r.Direction = domain.DirectionConsumer
		if _, err := civil.Record(t.Context(), civilOperator, service.RecordOptions{}, []domain.AccessRecord{r}); err != nil {
			t.Errorf("the consumer's record of the call: %v", err)
		}
	})
	t.Run("failed append counts for a while", func(t *testing.T) {
		for _, applied := range []bool{true, false} {
			d := newDesk(t)
			d.follow()
			g := d.grant(grantID(1), domain.Quota{Total: 3, PerDay: 3})
			d.log.setFault(func() (bool, error) { return applied, errors.New("disk") })
			if _, err := d.record(d.uses(g, 2)...); err == nil || domain.KindOf(err) != "" {
				t.Errorf("error is %v, want one without kind", err)
			}
			d.log.setFault(nil)
			refusedQuota(t, d, g, 2, "quota")
			d.followed()
			d.clock.Advance(31 * time.Second) // by now the index knows
			if applied {
				refusedQuota(t, d, g, 2, "quota")
				admitted(t, d, g, 1)
			} else {
				admitted(t, d, g, 3)
			}
		}
	})
	t.Run("earlier process", func(t *testing.T) {
		t.Parallel() // waits
		d := newDesk(t)
		g := d.grant(grantID(1), domain.Quota{Total: 3, PerDay: 3})
		admitted(t, d, g, 3)
		d.restart()
		_, err := d.record(d.uses(g, 1)...)
		var unavailable *ledger.UnavailableError
		if !errors.As(err, &unavailable) {
			t.Errorf("before the index has the log: error is %v, want an UnavailableError", err)
		}
		d.follow()
		refusedQuota(t, d, g, 1, "quota")
	})
	t.Run("failures use nothing", func(t *testing.T) {
		d := newDesk(t)
		g := d.grant(grantID(1), domain.Quota{Total: 1, PerDay: 1})
		failed := d.uses(g, 5)
		for i := range failed {
			failed[i].Result = "timeout"
		}
		if _, err := d.record(failed...); err != nil {
			t.Fatal(err)
		}
		admitted(t, d, g, 1)
	})
}

// TestQuotaUnderConcurrency has many systems use two grants at once while the
// index follows: of each grant exactly its quota is admitted.
func TestQuotaUnderConcurrency(t *testing.T) {
	d := newDesk(t)
	d.follow()
	const quota = 300
	grants := []domain.Grant{
		d.grant(grantID(1), domain.Quota{Total: quota, PerDay: quota}),
		d.grant(grantID(2), domain.Quota{Total: quota, PerDay: quota}),
	}
	batches := make([][]domain.AccessRecord, 200)
	for i := range batches {
		batches[i] = append(d.uses(grants[0], 2), d.uses(grants[1], 2)...)
	}
	next := make(chan []domain.AccessRecord)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for b := range next {
				_, err := d.record(b...)
				if err != nil && domain.KindOf(err) != domain.Forbidden {
					t.Errorf("error is %v", err)
				}
				d.clock.Advance(300 * time.Millisecond) // tallies are read again now and then
			}
		})
	}
	for _, b := range batches {
		next <- b
	}
	close(next)
	wg.Wait()
	used := make(map[string]int)
	for _, r := range d.logged() {
		if r.Result == domain.ResultOK {
			used[r.GrantID]++
		}
	}
	for _, g := range grants {
		if used[g.ID] != quota {
			t.Errorf("grant %s was used %d times, want its quota of %d", g.ID, used[g.ID], quota)
		}
	}
}

func TestAccessGet(t *testing.T) {
	d := newDesk(t)
	g := d.grant(grantID(1), domain.Quota{Total: 100, PerDay: 100})
	given := d.uses(g, 3)
	receipts, err := d.record(given...)
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.access.Get(t.Context(), "police", 1)
	if err != nil || got.Index != 1 || got.Record.CallID != given[1].CallID || !bytes.Equal(got.LeafHash, receipts[1].LeafHash) {
		t.Errorf("Get answers %+v, %v", got, err)
	}
	_, err = d.access.Get(t.Context(), "police", 3)
	wantKind(t, err, domain.NotFound, "3 entries")
	_, err = d.access.Get(t.Context(), "civil", 1)
	wantKind(t, err, domain.NotFound, "ask the gateway of the department")
	_, err = d.access.Proof(t.Context(), "civil", 1)
	wantKind(t, err, domain.NotFound, "")
}

func TestTrace(t *testing.T) {
	d := newDesk(t)
	d.follow()
	g := d.grant(grantID(1), domain.Quota{Total: 100, PerDay: 100})
	if _, err := d.record(d.uses(g, 10)...); err != nil {
		t.Fatal(err)
	}
	d.followed()
	for _, role := range []domain.Role{domain.RoleAdmin, domain.RoleOperator, domain.RoleReviewer, domain.RoleGateway} {
		_, err := d.access.Trace(t.Context(), service.Caller{Department: "police", Role: role}, index.AccessFilter{}, index.Page{})
		wantKind(t, err, domain.Forbidden, "role auditor")
	}
	var got []uint64
	page := index.Page{Limit: 4}
	for {
		entries, err := d.access.Trace(t.Context(), policeAuditor, index.AccessFilter{GrantID: g.ID}, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries.Items {
			got = append(got, e.Index)
		}
		if page.After = entries.Next; page.After == "" {
			break
		}
	}
	if want := []uint64{9, 8, 7, 6, 5, 4, 3, 2, 1, 0}; !cmp.Equal(got, want) {
		t.Errorf("trace is %v, want %v", got, want)
	}
	_, err := d.access.Trace(t.Context(), policeAuditor, index.AccessFilter{}, index.Page{Limit: 201})
	wantKind(t, err, domain.Invalid, "limit")
}

// TestLogIndexerAlarms checks that what is wrong with the log stops the index
// and is said, and that nothing is skipped.
func TestLogIndexerAlarms(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(d *desk)
		part  string
	}{
		{"entry unreadable", func(d *desk) {
			if _, err := d.log.Append(d.t.Context(), [][]byte{[]byte("not a record")}); err != nil {
				d.t.Fatal(err)
			}
		}, "log entry 3 is unreadable"},
		{"entries lost", func(d *desk) { d.log.putBack(d.t, 2) }, "3 access records are indexed and the log has 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t)
			g := d.grant(grantID(1), domain.Quota{Total: 100, PerDay: 100})
			if _, err := d.record(d.uses(g, 3)...); err != nil {
				t.Fatal(err)
			}
			var alarms lines
			run(t, service.NewLogIndexer(d.log, d.world.index, alarms.logger()).Run)
			d.followed()
			tt.spoil(d)
			await(t, "the alarm", func() bool { return strings.Contains(alarms.text(), tt.part) })
			if n, err := d.index.NextAccess(t.Context()); n != 3 || err != nil {
				t.Errorf("%d records indexed, %v, want 3", n, err)
			}
		})
	}
}

// batches counts the transactions of access records.
type batches struct {
	index.Index
	n atomic.Int64
}

func (b *batches) ApplyAccess(ctx context.Context, entries []index.AccessEntry) error {
	b.n.Add(1)
	return b.Index.ApplyAccess(ctx, entries)
}

// TestLogIndexerBatches checks that a long log is indexed in few transactions,
// though it hands out 256 entries at a time, and up to the last good entry.
func TestLogIndexerBatches(t *testing.T) {
	d := newDesk(t)
	g := d.grant(grantID(1), domain.Quota{Total: 5000, PerDay: 5000})
	for range 3 {
		if _, err := d.record(d.uses(g, 1000)...); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.log.Append(t.Context(), [][]byte{[]byte("not a record")}); err != nil {
		t.Fatal(err)
	}
	counted := &batches{Index: d.index}
	var alarms lines
	run(t, service.NewLogIndexer(d.log, counted, alarms.logger()).Run)
	await(t, "the alarm", func() bool { return strings.Contains(alarms.text(), "log entry 3000 is unreadable") })
	if n, err := d.index.NextAccess(t.Context()); n != 3000 || err != nil {
		t.Errorf("%d records indexed, %v, want 3000", n, err)
	}
	if n := counted.n.Load(); n != 3 {
		t.Errorf("%d transactions, want 3", n)
	}
}

// lines keeps what is logged.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// countedIndex counts how often grants are read.
type countedIndex struct {
	index.Index
	grants atomic.Int64
}

func (x *countedIndex) Get(ctx context.Context, kind domain.RecordKind, id string) (index.Record, error) {
	if kind == domain.KindGrant {
		x.grants.Add(1)
	}
	return x.Index.Get(ctx, kind, id)
}

// A grant is read again when a block came in, and one that is not there each time:
// anybody can name as many as he likes.
func TestGrantReadOncePerBlock(t *testing.T) {
	d := newDesk(t)
	g := d.grant(grantID(1), domain.Quota{Total: 100, PerDay: 100})
	counted := &countedIndex{Index: d.index}
	d.index = counted
	d.restart()
	for range 3 {
		if _, err := d.record(d.uses(g, 2)...); err != nil {
			t.Fatal(err)
		}
	}
	if n := counted.grants.Load(); n != 1 {
		t.Errorf("the grant was read %d times, want once", n)
	}
	if err := failure(d.sharing("police").Suspend(t.Context(), policeReviewer, because(g.ID))); err != nil {
		t.Fatal(err)
	}
	before := counted.grants.Load()
	if _, err := d.record(d.use(g)); err == nil || counted.grants.Load() != before+1 {
		t.Errorf("after a block: %v, %d further readings, want a refusal and 1", err, counted.grants.Load()-before)
	}
	none := d.use(g)
	none.GrantID = grantID(9)
	for range 2 {
		if _, err := d.record(none); err == nil {
			t.Error("logged under a grant that is not there")
		}
	}
	if n := counted.grants.Load() - before; n != 3 {
		t.Errorf("%d readings, want 3", n)
	}
}
