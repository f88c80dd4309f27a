package service_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/accesslog"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/proof"
)

// frozen is an index whose records stay as they were.
type frozen struct {
	index.Index
	mu      sync.Mutex
	records map[string]index.Record
}

func (f *frozen) Get(ctx context.Context, kind domain.RecordKind, id string) (index.Record, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := domain.KeyOf(kind, id)
	if r, ok := f.records[key]; ok {
		return r, nil
	}
	r, err := f.Index.Get(ctx, kind, id)
	if err == nil {
		f.records[key] = r
	}
	return r, err
}

func (d *desk) freeze() {
	d.index = &frozen{Index: d.world.index, records: make(map[string]index.Record)}
	d.restart()
}

// wantUnavailable checks that nothing was decided for want of the ledger.
func wantUnavailable(t *testing.T, err error, part string) {
	t.Helper()
	var unavailable *ledger.UnavailableError
	if !errors.As(err, &unavailable) || !strings.Contains(fmt.Sprint(err), part) {
		t.Errorf("error is %v, want an UnavailableError that says %q", err, part)
	}
}

// TestRecordIndexFrozen revokes a grant on the ledger of which the index never
// hears: two seconds later it is refused.
func TestRecordIndexFrozen(t *testing.T) {
	d := newDesk(t)
	g := d.grant(grantID(1), domain.Quota{Total: 100, PerDay: 100})
	d.freeze()
	use := func() error { _, err := d.record(d.use(g)); return err }
	if err := use(); err != nil {
		t.Fatal(err)
	}
	d.heard.Store(d.clock.Now().UnixMilli())
	if err := failure(d.sharing("police").Revoke(t.Context(), policeReviewer, because(g.ID))); err != nil {
		t.Fatal(err)
	}
	d.clock.Advance(2 * time.Second)
	if err := use(); err != nil {
		t.Errorf("while the index is known to be current: %v", err)
	}
	d.clock.Advance(time.Millisecond)
	wantKind(t, use(), domain.Forbidden, "the grant is revoked")
	logged := d.logged()
	if last := logged[len(logged)-1]; last.Result != "refused_revoked" || last.GrantSeq != 2 {
		t.Errorf("logged %s at step %d of the grant, want refused_revoked at 2", last.Result, last.GrantSeq)
	}
}

// TestRecordIndexBehind reads grants from the ledger while the index is behind,
// seldom, and releases nothing when the ledger does not answer for the present.
func TestRecordIndexBehind(t *testing.T) {
	d := newDesk(t)
	g := d.grant(grantID(1), domain.Quota{Total: 1000, PerDay: 1000})
	var reads int
	var fault error
	d.ledger.SetFault(func(op string) (bool, error) {
		if op == "evaluate sharing:GetGrant" {
			reads++
			return true, fault
		}
		return true, nil
	})
	d.heard.Store(d.clock.Now().Add(-time.Minute).UnixMilli())
	for range 10 {
		if _, err := d.record(d.use(g)); err != nil {
			t.Fatal(err)
		}
	}
	if reads != 1 {
		t.Errorf("the ledger was asked %d times in one moment, want once", reads)
	}
	unknown := d.use(g)
	unknown.GrantID = grantID(9)
	_, err := d.record(unknown)
	wantKind(t, err, domain.Forbidden, "no grant")

	police := d.sharing("police")
	if err := failure(police.Suspend(t.Context(), policeReviewer, because(g.ID))); err != nil {
		t.Fatal(err)
	}
	d.clock.Advance(time.Second)
	_, err = d.record(d.use(g))
	wantKind(t, err, domain.Forbidden, "suspended")
	if err := failure(police.Resume(t.Context(), policeReviewer, because(g.ID))); err != nil {
		t.Fatal(err)
	}

	d.clock.Advance(time.Second)
	fault = errors.New("peer down")
	_, err = d.record(d.use(g))
	wantUnavailable(t, err, "peer down")
	fault = nil
	d.chain.SetDown("police", errors.New("cut off"))
	_, err = d.record(d.use(g))
	wantUnavailable(t, err, "the own peer")
	d.chain.SetDown("police", nil)
	if _, err := d.record(d.use(g)); err != nil {
		t.Errorf("the peer is back: %v", err)
	}
	d.heard.Store(0)
	reads = 0
	d.clock.Advance(time.Minute)
	if _, err := d.record(d.use(g)); err != nil || reads != 0 {
		t.Errorf("the index is current: %v, the ledger was asked %d times", err, reads)
	}
}

// latePeer is a ledger whose own peer has not taken the last block.
type latePeer struct {
	ledger.Ledger
	times int // how often it is asked before it has
}

func (l *latePeer) Heights(ctx context.Context) []ledger.DepartmentHeight {
	heights := l.Ledger.Heights(ctx)
	for i, h := range heights {
		if h.Department == "police" && l.times > 0 {
			heights[i].Height--
			l.times--
		}
	}
	return heights
}

// TestRecordPeerBehind checks that a peer which lacks blocks that others have is
// not asked for a grant until it has them.
func TestRecordPeerBehind(t *testing.T) {
	d := newDesk(t)
	g := d.grant(grantID(1), domain.Quota{Total: 100, PerDay: 100})
	d.heard.Store(d.clock.Now().Add(-time.Minute).UnixMilli())
	options := d.options()
	peer := &latePeer{Ledger: d.ledger, times: 2}
	options.Ledger = peer
	d.access = service.NewAccess(options)
	if _, err := d.record(d.use(g)); err != nil || peer.times != 0 {
		t.Errorf("error is %v, and the heights should be asked %d times more", err, peer.times)
	}
	d.clock.Advance(time.Minute)
	peer.times = 1 << 30
	_, err := d.record(d.use(g))
	wantUnavailable(t, err, "the own peer has")
}

// TestRecordRepeated presents records again: with the same content they are
// answered alike and logged once, wherever the first is known from.
func TestRecordRepeated(t *testing.T) {
	for name, between := range map[string]func(d *desk){
		"not indexed": func(*desk) {},
		"indexed":     func(d *desk) { d.follow(); d.followed(); d.clock.Advance(time.Second) },
		"restarted":   func(d *desk) { d.follow(); d.restart() },
		"grant changed": func(d *desk) {
			police := d.sharing("police")
			for _, err := range []error{
				failure(police.Suspend(d.t.Context(), policeReviewer, because(grantID(1)))),
				failure(police.Resume(d.t.Context(), policeReviewer, because(grantID(1)))),
				failure(police.Revoke(d.t.Context(), policeReviewer, because(grantID(1)))),
			} {
				if err != nil {
					d.t.Fatal(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			g := d.grant(grantID(1), domain.Quota{Total: 3, PerDay: 3})
			given := d.uses(g, 3)
			given[1].At = given[1].At.In(time.FixedZone("UTC+8", 8*3600))
			first, err := d.record(given...)
			if err != nil {
				t.Fatal(err)
			}
			between(d)
			d.clock.Advance(time.Minute)
			again, err := d.record(given[2], given[0], given[1], given[0])
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]service.AccessReceipt{first[2], first[0], first[1], first[0]}, again); diff != "" {
				t.Errorf("receipts (-want +got):\n%s", diff)
			}
			other := given[1]
			other.RecordCount++
			_, err = d.record(given[0], other)
			wantKind(t, err, domain.Exists, "record 1: call "+other.CallID+" is logged at index 1, with other content")
			if n := d.log.size(t); n != 3 {
				t.Errorf("%d entries, want 3", n)
			}
		})
	}
}

func TestRecordMixed(t *testing.T) {
	d := newDesk(t)
	g := d.grant(grantID(1), domain.Quota{Total: 4, PerDay: 4})
	given := d.uses(g, 4)
	first, err := d.record(given[1], given[3])
	if err != nil {
		t.Fatal(err)
	}
	all, err := d.record(given[0], given[1], given[0], given[2], given[3])
	if err != nil {
		t.Fatal(err)
	}
	var indexes []uint64
	for _, r := range all {
		indexes = append(indexes, r.Index)
	}
	if want := []uint64{2, 0, 2, 3, 1}; !cmp.Equal(indexes, want) {
		t.Errorf("indexes are %v, want %v", indexes, want)
	}
	if diff := cmp.Diff(first, []service.AccessReceipt{all[1], all[4]}); diff != "" {
		t.Errorf("receipts of what was logged before (-first +again):\n%s", diff)
	}
	twice := d.uses(g, 2)
	twice[1].CallID = twice[0].CallID
	twice[1].System = "another"
	_, err = d.record(twice...)
	wantKind(t, err, domain.Exists, "record 1: call "+twice[0].CallID+" is record 0 of the batch too, with other content")
	if n := d.log.size(t); n != 4 {
		t.Errorf("%d entries, want 4", n)
	}
}

// TestRecordRefusedAgain checks that a call whose release was refused may be
// presented again, and a failed one may not become a release.
func TestRecordRefusedAgain(t *testing.T) {
	d := newDesk(t)
	d.follow()
	g := d.grant(grantID(1), domain.Quota{Total: 10, PerDay: 10, PerMinute: 1})
	uses := d.uses(g, 2)
	if _, err := d.record(uses[0]); err != nil {
		t.Fatal(err)
	}
	_, err := d.record(uses[1])
	wantKind(t, err, domain.Forbidden, "quota.perMinute")
	d.followed()
	d.clock.Advance(time.Minute)
	uses[1].At, uses[1].RespondedAt = d.clock.Now(), d.clock.Now()
	receipts, err := d.record(uses[1])
	if err != nil {
		t.Fatalf("a minute later: %v", err)
	}
	if want := []string{"ok", "refused_frequency", "ok"}; !cmp.Equal(d.results(), want) || receipts[0].Index != 2 {
		t.Errorf("logged %q, want %q, the last at index %d", d.results(), want, receipts[0].Index)
	}
	failed := d.use(g)
	failed.Result = "timeout"
	if _, err := d.record(failed); err != nil {
		t.Fatal(err)
	}
	failed.Result = domain.ResultOK
	_, err = d.record(failed)
	wantKind(t, err, domain.Exists, "with other content")
}

// TestRecordAtOnce presents the same records many times at once: one is logged,
// all are answered alike.
func TestRecordAtOnce(t *testing.T) {
	d := newDesk(t)
	d.follow()
	g := d.grant(grantID(1), domain.Quota{Total: 100, PerDay: 100})
	given := d.uses(g, 3)
	present := func() [][]service.AccessReceipt {
		answers := make([][]service.AccessReceipt, 50)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() {
				records := slices.Clone(given)
				if i%2 == 1 { // in another order, so that two wait for one another
					slices.Reverse(records)
				}
				receipts, err := d.record(records...)
				if err != nil {
					t.Errorf("submission %d: %v", i, err)
				}
				if i%2 == 1 {
					slices.Reverse(receipts)
				}
				answers[i] = receipts
			})
		}
		wg.Wait()
		return answers
	}
	first := present()
	d.restart()
	for i, got := range append(first, present()...) {
		if diff := cmp.Diff(first[0], got); diff != "" {
			t.Errorf("answer %d (-first +got):\n%s", i, diff)
		}
	}
	if n := d.log.size(t); n != 3 {
		t.Errorf("%d entries, want 3", n)
	}
}

// TestRecordCallerLeaves ends the caller's context while the log writes: the
// record is logged once, and its next presentation learns where.
func TestRecordCallerLeaves(t *testing.T) {
	d := newDesk(t)
	g := d.grant(grantID(1), domain.Quota{Total: 1, PerDay: 1})
	use := d.use(g)
	ctx, leave := context.WithCancel(t.Context())
	goOn := make(chan struct{})
	d.log.setFault(func() (bool, error) { leave(); <-goOn; return true, nil })
	if _, err := d.access.Record(ctx, policeOperator, service.RecordOptions{}, []domain.AccessRecord{use}); !errors.Is(err, context.Canceled) {
		t.Fatalf("error is %v, want context canceled", err)
	}
	again, done := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer done()
	if _, err := d.access.Record(again, policeOperator, service.RecordOptions{}, []domain.AccessRecord{use}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while it is being logged: error is %v, want deadline exceeded", err)
	}
	close(goOn)
	receipts, err := d.record(use)
	if err != nil || receipts[0].Index != 0 || d.log.size(t) != 1 {
		t.Errorf("presented again: %+v, %v, %d entries", receipts, err, d.log.size(t))
	}
}

// TestRecordAppendFails has the log fail, with the records stored or not. Until
// the index tells which, they are not logged again.
func TestRecordAppendFails(t *testing.T) {
	for _, stored := range []bool{true, false} {
		t.Run(fmt.Sprintf("stored=%t", stored), func(t *testing.T) {
			d := newDesk(t)
			g := d.grant(grantID(1), domain.Quota{Total: 2, PerDay: 2})
			given := d.uses(g, 2)
			d.log.setFault(func() (bool, error) { return stored, errors.New("disk") })
			if _, err := d.record(given...); err == nil || !strings.Contains(err.Error(), "disk") {
				t.Errorf("error is %v, want the disk's", err)
			}
			d.log.setFault(nil)
			_, err := d.record(given...)
			var busy *service.BusyError
			if !errors.As(err, &busy) || busy.RetryAfter != 30*time.Second {
				t.Errorf("at once: error is %v, want busy for 30 s", err)
			}
			d.follow()
			d.followed()
			if !stored {
				d.clock.Advance(30*time.Second + time.Millisecond)
			}
			receipts, err := d.record(given...)
			if err != nil || receipts[0].Index != 0 || receipts[1].Index != 1 || d.log.size(t) != 2 {
				t.Errorf("once the index tells: %+v, %v, %d entries", receipts, err, d.log.size(t))
			}
		})
	}
}

func TestRecordBusy(t *testing.T) {
	d := newDesk(t)
	g := d.grant(grantID(1), domain.Quota{Total: 2, PerDay: 2})
	given := d.uses(g, 2)
	d.log.setFault(func() (bool, error) { return false, &accesslog.BusyError{RetryAfter: 3 * time.Second} })
	wantBusy := func(records []domain.AccessRecord, after time.Duration) {
		t.Helper()
		_, err := d.record(records...)
		var busy *service.BusyError
		if !errors.As(err, &busy) || busy.RetryAfter != after {
			t.Errorf("error is %v, want a BusyError of %s", err, after)
		}
	}
	wantBusy(given, 3*time.Second)
	d.log.setFault(nil)
	if _, err := d.record(given...); err != nil { // the quota was not touched
		t.Errorf("presented again: %v", err)
	}

	d.access.SetMostUnindexed(3)
	failed := d.uses(g, 2)
	for i := range failed {
		failed[i].Result = "timeout"
	}
	wantBusy(failed, time.Second) // nobody follows the log
	d.follow()
	d.followed()
	if _, err := d.record(failed...); err != nil {
		t.Errorf("once the index has the log: %v", err)
	}
}

func TestRecordBacklog(t *testing.T) {
	d := newDesk(t)
	g := d.grant(grantID(1), domain.Quota{Total: 2, PerDay: 2})
	uses := d.uses(g, 4)
	uses[2].Result = "timeout"
	if _, err := d.record(uses[0]); err != nil {
		t.Fatal(err)
	}
	d.backlog.Store(int64(maxLag + time.Second))
	for range 2 {
		_, err := d.record(uses[1], uses[2])
		var backlog *service.BacklogError
		if !errors.As(err, &backlog) || backlog.Lag != maxLag+time.Second || backlog.MaxLag != maxLag {
			t.Errorf("error is %v, want a BacklogError", err)
		}
	}
	if _, err := d.record(uses[0], uses[2]); err != nil {
		t.Errorf("nothing new is released: %v", err)
	}
	d.backlog.Store(int64(maxLag))
	if _, err := d.record(uses[1]); err != nil {
		t.Errorf("anchored again: %v", err)
	}
	if want := []string{"ok", "refused_backlog", "refused_backlog", "timeout", "ok"}; !cmp.Equal(d.results(), want) {
		t.Errorf("logged %q, want %q", d.results(), want)
	}
}

// TestRecordAnchored waits for an anchorer that is late: on request, and always
// for data of grade 3.
func TestRecordAnchored(t *testing.T) {
	for _, tt := range []struct {
		name   string
		item   string
		result string
		asked  bool
		waits  bool
	}{
		{"grade 2", "户号", domain.ResultOK, false, false},
		{"grade 2, on request", "户号", domain.ResultOK, true, true},
		{"grade 3", "住址", domain.ResultOK, false, true},
		{"grade 3, refused", "住址", "no_such_person", false, false},
		{"refused, on request", "户号", "no_such_person", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t)
			g := d.grant(grantID(1), domain.Quota{Total: 100, PerDay: 100}, tt.item)
			given := d.use(g)
			given.Result = tt.result
			record := func(ctx context.Context) ([]service.AccessReceipt, error) {
				answer, err := d.access.Record(ctx, policeOperator, service.RecordOptions{Anchored: tt.asked}, []domain.AccessRecord{given})
				return answer.Receipts, err
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			receipts, err := record(ctx)
			if !tt.waits {
				if err != nil || receipts[0].AnchoredSize != 0 {
					t.Errorf("answer is %+v, %v, want a receipt at once", receipts, err)
				}
				return
			}
			var late *service.NotAnchoredError
			if !errors.As(err, &late) || len(late.Receipts) != 1 || late.Receipts[0].Index != 0 || !strings.Contains(err.Error(), "durable at index 0") {
				t.Fatalf("error is %v, want a NotAnchoredError", err)
			}
			answered := make(chan error, 1)
			go func() {
				var err error
				receipts, err = record(t.Context())
				answered <- err
			}()
			d.anchorSize.Store(1)
			if err := <-answered; err != nil || receipts[0].AnchoredSize != 1 {
				t.Errorf("answer is %+v, %v, want one anchored at size 1", receipts, err)
			}
			if n := d.log.size(t); n != 1 {
				t.Errorf("%d entries, want 1", n)
			}
		})
	}
}

// TestRecordGradeUnknown reads the grades of a catalog version from the ledger
// when the index does not have it, and releases nothing when neither has.
func TestRecordGradeUnknown(t *testing.T) {
	d := newDesk(t)
	g := d.grant(grantID(1), domain.Quota{Total: 100, PerDay: 100}, "住址")
	d.index = &forgetful{d.world.index}
	d.restart()
	down := true
	d.ledger.SetFault(func(op string) (bool, error) {
		if down && op == "evaluate evidence:Attest" {
			return false, errors.New("peer down")
		}
		return true, nil
	})
	_, err := d.record(d.use(g))
	wantUnavailable(t, err, "grades of catalog version")
	if n := d.log.size(t); n != 0 {
		t.Errorf("%d entries logged, want none", n)
	}
	down = false
	d.anchorSize.Store(1)
	receipts, err := d.record(d.use(g))
	if err != nil || receipts[0].AnchoredSize != 1 {
		t.Errorf("answer is %+v, %v, want an anchored one", receipts, err)
	}
}

// forgetful is an index without catalog entries and their versions.
type forgetful struct{ index.Index }

func (f *forgetful) Get(ctx context.Context, kind domain.RecordKind, id string) (index.Record, error) {
	if kind == domain.KindCatalogVersion || kind == domain.KindCatalogEntry {
		return index.Record{}, &domain.Error{Kind: domain.NotFound, Msg: "no " + string(kind) + " " + id}
	}
	return f.Index.Get(ctx, kind, id)
}

// TestFrequency bounds the calls of each minute by the grant's frequency.
func TestFrequency(t *testing.T) {
	d := newDesk(t)
	d.follow()
	g := d.grant(grantID(1), domain.Quota{Total: 1000, PerDay: 1000, PerMinute: 3})
	admitted := func(n int, back time.Duration) {
		t.Helper()
		uses := d.uses(g, n)
		for i := range uses {
			uses[i].At = uses[i].At.Add(-back)
		}
		if _, err := d.record(uses...); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(n int, back time.Duration) {
		t.Helper()
		uses := d.uses(g, n)
		for i := range uses {
			uses[i].At = uses[i].At.Add(-back)
		}
		_, err := d.record(uses...)
		wantKind(t, err, domain.Forbidden, "quota.perMinute")
		if got := d.results(); got[len(got)-1] != "refused_frequency" {
			t.Errorf("logged %q last, want refused_frequency", got[len(got)-1])
		}
	}
	refused(4, 0) // in one batch
	admitted(2, 0)
	refused(2, 0)
	admitted(1, 0)
	d.clock.Advance(59999 * time.Millisecond) // the minute's last moment
	d.followed()
	refused(1, 0)
	d.clock.Advance(time.Millisecond)
	admitted(3, 0)
	refused(1, 0)
	refused(1, time.Minute) // told late
	refused(1, time.Millisecond)
	d.clock.Advance(time.Hour) // all is indexed and counted again
	d.followed()
	refused(1, time.Hour)
	admitted(3, 30*time.Minute)
	refused(1, 30*time.Minute)
}

// TestAdmissionStress has many systems use a grant at once, under append faults
// and a clock that moves: no day, minute or total is overrun, and what was
// acknowledged is logged once.
func TestAdmissionStress(t *testing.T) {
	d := newDesk(t)
	d.follow()
	quota := domain.Quota{Total: 400, PerDay: 400, PerMinute: 60}
	g := d.grant(grantID(1), quota)
	var turn sync.Mutex
	appends := 0
	d.log.setFault(func() (bool, error) {
		turn.Lock()
		defer turn.Unlock()
		appends++
		switch appends % 7 {
		case 3:
			return false, &accesslog.BusyError{RetryAfter: time.Second}
		case 5:
			return appends%2 == 0, errors.New("disk")
		}
		return true, nil
	})
	var acknowledged sync.Map
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 40 {
				batch := d.uses(g, 3)
				for range 3 {
					receipts, err := d.record(batch...)
					for i, r := range receipts {
						acknowledged.Store(batch[i].CallID, r.Index)
					}
					if err == nil || domain.KindOf(err) == domain.Forbidden {
						break
					}
				}
				d.clock.Advance(900 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	d.checkLog(t, quota, &acknowledged)
	if n := len(d.results()); n < 300 {
		t.Errorf("%d entries: the test hardly logs anything", n)
	}
}

// checkLog checks the log against a quota and what was acknowledged.
func (d *desk) checkLog(t interface{ Errorf(string, ...any) }, quota domain.Quota, acknowledged *sync.Map) {
	var total int64
	minutes := make(map[time.Time]int64)
	at := make(map[string][]uint64)
	for i, r := range d.logged() {
		if r.Result != domain.ResultOK {
			continue
		}
		total++
		minutes[r.At.Truncate(time.Minute)]++
		at[r.CallID] = append(at[r.CallID], uint64(i))
	}
	if total > min(quota.Total, quota.PerDay) { // the tests stay within a day
		t.Errorf("%d uses, the quota is %+v", total, quota)
	}
	for m, n := range minutes {
		if n > quota.PerMinute {
			t.Errorf("%d uses in the minute %s, the frequency is %d", n, m, quota.PerMinute)
		}
	}
	acknowledged.Range(func(id, where any) bool {
		if got := at[id.(string)]; len(got) != 1 || got[0] != where.(uint64) {
			t.Errorf("call %s was acknowledged at index %d and is logged at %v", id, where, got)
		}
		return true
	})
}

// tail is an index whose access records a test takes from the log, as many as it
// likes.
type tail struct {
	index.Index
	entries []index.AccessEntry
}

func (x *tail) follow(t *rapid.T, log [][]byte, n int) {
	for _, data := range log[len(x.entries):min(len(x.entries)+n, len(log))] {
		leaf := proof.LeafHash(data)
		e := index.AccessEntry{Index: uint64(len(x.entries)), LeafHash: leaf[:]}
		if err := domain.ParseCanonical(data, &e.Record); err != nil {
			t.Fatal(err)
		}
		x.entries = append(x.entries, e)
	}
}

func (x *tail) NextAccess(context.Context) (uint64, error) { return uint64(len(x.entries)), nil }

func (x *tail) FindCalls(_ context.Context, ids []string, direction domain.Direction) ([]index.AccessEntry, error) {
	var found []index.AccessEntry
	for _, id := range ids {
		for _, e := range slices.Backward(x.entries) {
			if e.Record.CallID == id && e.Record.Direction == direction {
				found = append(found, e)
				break
			}
		}
	}
	return found, nil
}

func (x *tail) GrantUse(_ context.Context, grantID string, direction domain.Direction, day, minute time.Time) (total, today, lastMinute int64, err error) {
	for _, e := range x.entries {
		r := e.Record
		if r.GrantID != grantID || r.Direction != direction || r.Result != domain.ResultOK {
			continue
		}
		total++
		if !r.At.Before(day) {
			today++
		}
		if !r.At.Before(minute) {
			lastMinute++
		}
	}
	return total, today, lastMinute, nil
}

// TestRecordProperty runs random schedules of presentations, repeated ones too,
// of append faults, of an index that lags and of restarts: no acknowledged call
// is logged twice, each keeps its receipt, and no quota is exceeded.
func TestRecordProperty(t *testing.T) {
	d := newDesk(t)
	quota := domain.Quota{Total: 14, PerDay: 14, PerMinute: 5}
	g := d.grant(grantID(1), quota)
	rapid.Check(t, func(t *rapid.T) {
		ix := &tail{Index: d.world.index}
		d.log, d.index = newTestLog(d.t, origin("police")), ix
		d.restart()
		var known []domain.AccessRecord
		var acknowledged sync.Map
		t.Repeat(map[string]func(*rapid.T){
			"present": func(t *rapid.T) {
				batch := d.uses(g, rapid.IntRange(0, 3).Draw(t, "new"))
				known = append(known, batch...)
				for range rapid.IntRange(0, 3).Draw(t, "repeated") {
					if len(known) > 0 {
						batch = append(batch, rapid.SampledFrom(known).Draw(t, "repeat"))
					}
				}
				if len(batch) == 0 {
					return
				}
				fault := rapid.SampledFrom([]string{"", "", "", "stored", "dropped", "busy"}).Draw(t, "fault")
				d.log.setFault(func() (bool, error) {
					switch fault {
					case "stored", "dropped":
						return fault == "stored", errors.New("disk")
					case "busy":
						return false, &accesslog.BusyError{RetryAfter: time.Second}
					}
					return true, nil
				})
				receipts, err := d.record(batch...)
				var busy *service.BusyError
				if err != nil && domain.KindOf(err) != domain.Forbidden && !errors.As(err, &busy) && fault == "" {
					t.Fatalf("present %d records: %v", len(batch), err)
				}
				for i, r := range receipts {
					if first, again := acknowledged.LoadOrStore(batch[i].CallID, r.Index); again && first != r.Index {
						t.Errorf("call %s: acknowledged at index %d and at %d", r.CallID, first, r.Index)
					}
				}
			},
			"index": func(t *rapid.T) {
				ix.follow(t, d.log.all(d.t), rapid.IntRange(1, 6).Draw(t, "entries"))
			},
			"wait": func(t *rapid.T) {
				d.clock.Advance(time.Duration(rapid.IntRange(1, 8_000).Draw(t, "ms")) * time.Millisecond)
			},
			"wait for the index": func(t *rapid.T) { // as long as it may take at most
				ix.follow(t, d.log.all(d.t), int(d.log.size(d.t)))
				d.clock.Advance(31 * time.Second)
			},
			"restart": func(t *rapid.T) { // which waits for the index
				ix.follow(t, d.log.all(d.t), int(d.log.size(d.t)))
				d.restart()
			},
			"": func(t *rapid.T) { d.checkLog(t, quota, &acknowledged) },
		})
	})
}
