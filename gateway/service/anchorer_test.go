package service_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/proof"
)

const anchorEvery = 5 * time.Millisecond

func (d *desk) registerLog() {
	d.t.Helper()
	_, err := service.NewGovernance(d.ledger, d.index).RegisterLog(d.t.Context(), policeAdmin,
		domain.RegisterLogArgs{Origin: d.log.Origin(), VerifierKey: d.log.VerifierKey()})
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) anchorer(l ledger.Ledger, log *slog.Logger) *service.Anchorer {
	return service.NewAnchorer("police", l, d.index, d.log, anchorEvery, log)
}

// awaitAnchored waits until the ledger anchors the whole log.
func (d *desk) awaitAnchored() domain.LogRegistration {
	d.t.Helper()
	var got domain.LogRegistration
	await(d.t, "the log to be anchored", func() bool {
		r, err := d.index.Get(d.t.Context(), domain.KindLog, "police")
		if err != nil {
			return false
		}
		got = domain.LogRegistration{}
		return domain.ParseCanonical(r.Value, &got) == nil && got.Size == d.log.size(d.t)
	})
	return got
}

func (d *desk) anchors() []domain.Anchor {
	d.t.Helper()
	l, err := service.NewGovernance(d.ledger, d.index).Anchors(d.t.Context(), index.Filter{Department: "police"}, index.Page{Limit: 200})
	if err != nil {
		d.t.Fatal(err)
	}
	var out []domain.Anchor
	for _, a := range l.Items {
		out = append(out, a.Value)
	}
	return out
}

func TestAnchorer(t *testing.T) {
	d := newDesk(t)
	d.follow()
	g := d.grant(grantID(1), domain.Quota{Total: 1000, PerDay: 1000})
	h := d.grant(grantID(2), domain.Quota{Total: 1000, PerDay: 1000})
	a := d.anchorer(d.ledger, slog.New(slog.DiscardHandler))
	run(t, a.Run)
	if _, ok := a.Anchored(); ok {
		t.Error("something is anchored before the log is registered")
	}
	record := func(g domain.Grant, n int) {
		t.Helper()
		if _, err := d.record(d.uses(g, n)...); err != nil {
			t.Fatal(err)
		}
	}
	record(g, 3)
	d.registerLog()
	d.awaitAnchored()
	record(g, 2)
	record(h, 4)
	d.awaitAnchored()

	total := make(map[string]int64)
	for _, anchor := range d.anchors() {
		checkpoint, err := proof.OpenCheckpoint([]byte(anchor.Checkpoint), d.log.Origin(), d.log.VerifierKey())
		if err != nil || checkpoint.Size != anchor.Size {
			t.Errorf("anchor %d holds checkpoint %+v, %v", anchor.Size, checkpoint, err)
		}
		for _, c := range anchor.Counts {
			total[c.GrantID] += c.Count
		}
	}
	if total[g.ID] != 5 || total[h.ID] != 4 {
		t.Errorf("counts of all anchors are %v, want 5 and 4", total)
	}
	await(t, "Anchored to say so", func() bool {
		got, ok := a.Anchored()
		return ok && got.Size == 9 && got.TxID != "" && got.Block > 0
	})

	// Every entry has a proof that verifies with the log's key alone.
	for i := range uint64(9) {
		text, err := d.access.Proof(t.Context(), "police", i)
		if err != nil {
			t.Fatal(err)
		}
		checkTlogProof(t, string(text), d.log, i)
	}
	_, err := d.access.Proof(t.Context(), "police", 9)
	wantKind(t, err, domain.Conflict, "not anchored")
}

// checkTlogProof reads a C2SP tlog-proof@v1 and verifies it for entry i.
func checkTlogProof(t *testing.T, text string, log *testLog, i uint64) {
	t.Helper()
	head, checkpoint, ok := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	if !ok || len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" || lines[1] != "index "+strconv.FormatUint(i, 10) {
		t.Fatalf("proof is %q", text)
	}
	var path [][]byte
	for _, l := range lines[2:] {
		h, err := base64.StdEncoding.DecodeString(l)
		if err != nil {
			t.Fatal(err)
		}
		path = append(path, h)
	}
	c, err := proof.OpenCheckpoint([]byte(checkpoint), log.Origin(), log.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	if err := proof.VerifyInclusion(proof.LeafHash(log.all(t)[i]), i, c.Size, c.Root, path); err != nil {
		t.Errorf("entry %d: %v", i, err)
	}
}

// TestAnchorerFaults has submits fail before and after the commit. Whatever is
// told, each record is anchored and counted exactly once.
func TestAnchorerFaults(t *testing.T) {
	unknown := func() error { return &ledger.OutcomeUnknownError{Err: context.DeadlineExceeded} }
	unavailable := func() error { return &ledger.UnavailableError{Err: errors.New("no orderer")} }
	for _, tt := range []struct {
		name  string
		op    string
		apply bool
		err   func() error
	}{
		{"unknown, not committed", "submit access:Anchor", false, unknown},
		{"unknown, committed", "submit access:Anchor", true, unknown},
		{"unavailable", "submit access:Anchor", false, unavailable},
		{"evaluate fails", "evaluate evidence:Attest", false, unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			d.follow()
			d.registerLog()
			g := d.grant(grantID(1), domain.Quota{Total: 1000, PerDay: 1000})
			var hits atomic.Int64
			d.ledger.SetFault(func(op string) (bool, error) {
				if op == tt.op && hits.Add(1) <= 2 {
					return tt.apply, tt.err()
				}
				if op == "status" && tt.name == "unknown, not committed" {
					return true, errors.New("the peer does not know") // or the look-up would last for its full time
				}
				return true, nil
			})
			// A short life for the step, as a killed process would have: the next
			// anchorer starts from the ledger.
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = d.anchorer(d.ledger, slog.New(slog.DiscardHandler)).Run(ctx)
			}()
			if _, err := d.record(d.uses(g, 7)...); err != nil {
				t.Fatal(err)
			}
			await(t, "the first fault", func() bool { return hits.Load() >= 1 })
			cancel()
			<-done
			if _, err := d.record(d.uses(g, 5)...); err != nil {
				t.Fatal(err)
			}
			next := d.anchorer(d.ledger, slog.New(slog.DiscardHandler))
			next.SetLookUpFor(20 * time.Millisecond)
			run(t, next.Run)
			if got := d.awaitAnchored(); got.Size != 12 {
				t.Errorf("anchored size is %d, want 12", got.Size)
			}
			d.indexed()
			var records int64
			for _, anchor := range d.anchors() {
				for _, c := range anchor.Counts {
					records += c.Count
				}
			}
			if records != 12 {
				t.Errorf("anchors count %d records, want 12", records)
			}
		})
	}
}

// TestAnchorerLooksUp checks that an unknown outcome is looked up until it is
// known, and that meanwhile no other anchor is sent.
func TestAnchorerLooksUp(t *testing.T) {
	d := newDesk(t)
	d.follow()
	d.registerLog()
	g := d.grant(grantID(1), domain.Quota{Total: 1000, PerDay: 1000})
	var submitted, asked atomic.Int64
	d.ledger.SetFault(func(op string) (bool, error) {
		switch op {
		case "submit access:Anchor":
			if submitted.Add(1) == 1 {
				return true, &ledger.OutcomeUnknownError{Err: context.DeadlineExceeded}
			}
		case "status":
			if n := asked.Add(1); n <= 3 {
				if submitted.Load() != 1 {
					t.Errorf("another anchor was sent before the outcome of the first was known")
				}
				return true, errors.New("not yet")
			}
		}
		return true, nil
	})
	if _, err := d.record(d.uses(g, 2)...); err != nil {
		t.Fatal(err)
	}
	a := d.anchorer(d.ledger, slog.New(slog.DiscardHandler))
	run(t, a.Run)
	d.awaitAnchored()
	await(t, "Anchored to follow the ledger", func() bool { got, ok := a.Anchored(); return ok && got.Size == 2 })
	if submitted.Load() != 1 || asked.Load() != 4 {
		t.Errorf("%d anchors sent, outcome asked for %d times, want 1 and 4", submitted.Load(), asked.Load())
	}
}

// TestAnchorerAlarms checks that a log which is not the one that was anchored is
// never anchored, and that the reason is said.
func TestAnchorerAlarms(t *testing.T) {
	for _, tt := range []struct {
		name   string
		tamper func(d *desk)
		part   string
	}{
		{"entries lost", func(d *desk) { d.log.putBack(d.t, 3) }, "the ledger anchors 5 entries and the log holds 3"},
		{"rewritten, same size", func(d *desk) {
			d.log.putBack(d.t, 3)
			d.append(2)
		}, "different entries at size 5"},
		{"rewritten, grown", func(d *desk) {
			d.log.putBack(d.t, 3)
			d.append(6)
		}, "not shown to extend"},
		{"another key", func(d *desk) {
			d.log.newKey(d.t, d.log.Origin())
			d.append(1)
		}, "with key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t)
			d.registerLog()
			d.append(5)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = d.anchorer(d.ledger, slog.New(slog.DiscardHandler)).Run(ctx)
			}()
			d.applyAccess()
			d.awaitAnchored()
			cancel()
			<-done
			tt.tamper(d)
			d.applyAccess()
			var alarms lines
			a := d.anchorer(d.ledger, alarms.logger())
			run(t, a.Run)
			await(t, "the alarm", func() bool { return strings.Contains(alarms.text(), tt.part) })
			if got := d.anchors(); len(got) != 1 {
				t.Errorf("%d anchors, want the first only", len(got))
			}
			if got, ok := a.Anchored(); ok && got.Size != 5 {
				t.Errorf("Anchored answers %+v", got)
			}
		})
	}
}

// append puts records of no consequence into the log.
func (d *desk) append(n int) {
	d.t.Helper()
	for range n {
		r := d.use(domain.Grant{ID: grantID(1), CatalogCode: entryCode, CatalogVersion: 1, Items: []string{"户号"}, Provider: "police", Consumer: "civil", Purpose: "p", ServiceItem: "s"})
		r.Schema, r.LoggedAt, r.Result = domain.SchemaAccessRecord, d.clock.Now(), "failed"
		data, err := domain.Canonical(r)
		if err != nil {
			d.t.Fatal(err)
		}
		if _, err := d.log.Append(d.t.Context(), [][]byte{data}); err != nil {
			d.t.Fatal(err)
		}
	}
}

// applyAccess has the index believe that it has the log's entries, whatever they
// are.
func (d *desk) applyAccess() {
	d.t.Helper()
	next, err := d.index.NextAccess(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	var entries []index.AccessEntry
	for i, r := range d.logged() {
		if uint64(i) >= next {
			leaf := proof.LeafHash(d.log.all(d.t)[i])
			entries = append(entries, index.AccessEntry{Index: uint64(i), LeafHash: leaf[:], Record: r})
		}
	}
	if err := d.index.ApplyAccess(d.t.Context(), entries); err != nil {
		d.t.Fatal(err)
	}
}

// The backlog is the age of the oldest record that no anchor covers, as the record
// says it, also for a process that has just begun and cannot reach the ledger.
func TestAnchorerBacklog(t *testing.T) {
	d := newDesk(t)
	d.follow()
	d.registerLog()
	g := d.grant(grantID(1), domain.Quota{Total: 1000, PerDay: 1000, PerMinute: 1000})
	record := func(n int) {
		t.Helper()
		if _, err := d.access.Record(t.Context(), policeOperator, service.RecordOptions{}, d.uses(g, n)); err != nil {
			t.Fatal(err)
		}
	}
	record(3)
	first := d.anchorer(d.ledger, slog.New(slog.DiscardHandler))
	end := d.runUntil(first)
	d.awaitAnchored()
	await(t, "no backlog", func() bool { return first.Backlog() == 0 })
	end()

	d.ledger.SetFault(func(string) (bool, error) { return false, &ledger.UnavailableError{Err: errors.New("down")} })
	record(2)
	logged := d.lastLogged()
	next := d.anchorer(d.ledger, slog.New(slog.DiscardHandler))
	var now atomic.Int64
	next.SetClock(func() time.Time { return logged.Add(time.Duration(now.Load())) })
	if got := next.Backlog(); got != 0 {
		t.Errorf("backlog is %v before anything is known", got)
	}
	end = d.runUntil(next)
	now.Store(int64(time.Hour))
	await(t, "the backlog to be known", func() bool { return next.Backlog() == time.Hour })
	record(1) // a younger one changes nothing
	now.Store(int64(2 * time.Hour))
	await(t, "the backlog to grow", func() bool { return next.Backlog() == 2*time.Hour })
	d.ledger.SetFault(nil)
	await(t, "the backlog to end", func() bool { return next.Backlog() == 0 })
	end()
}

// runUntil runs the anchorer and answers how to end it.
func (d *desk) runUntil(a *service.Anchorer) func() {
	ctx, cancel := context.WithCancel(d.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = a.Run(ctx) // ends with ctx
	}()
	return func() {
		cancel()
		<-done
	}
}

// lastLogged is when the last two records were logged.
func (d *desk) lastLogged() time.Time {
	d.t.Helper()
	all := d.log.all(d.t)
	var r domain.AccessRecord
	if err := domain.ParseCanonical(all[len(all)-2], &r); err != nil {
		d.t.Fatal(err)
	}
	return r.LoggedAt
}

// After a long outage more grants may have records than an anchor lists. It lists
// those with most, and never stalls.
func TestAnchorCounts(t *testing.T) {
	var counts []domain.GrantCount
	for i := range domain.MaxCounts + 700 {
		count := int64(1)
		if i%8 == 7 {
			count = int64(i)
		}
		counts = append(counts, domain.GrantCount{GrantID: fmt.Sprintf("%032x", i), Count: count})
	}
	got := service.AnchorCounts(counts)
	args := domain.AnchorArgs{Checkpoint: "x", Proof: []string{}, Counts: got}
	if err := args.Validate(); err != nil {
		t.Fatal(err)
	}
	listed := make(map[string]int64)
	for _, c := range got {
		listed[c.GrantID] = c.Count
	}
	if len(listed) != domain.MaxCounts {
		t.Fatalf("%d grants are listed, want %d", len(listed), domain.MaxCounts)
	}
	ones := 0 // of the grants with one record, the smaller come first
	left := domain.MaxCounts - len(counts)/8
	for _, c := range counts {
		switch {
		case c.Count > 1:
			if listed[c.GrantID] != c.Count {
				t.Errorf("grant %s with %d records is listed with %d", c.GrantID, c.Count, listed[c.GrantID])
			}
		default:
			if ones++; (listed[c.GrantID] == 1) != (ones <= left) {
				t.Errorf("grant %s, number %d with one record: listed %t", c.GrantID, ones, listed[c.GrantID] == 1)
			}
		}
	}
	data, err := domain.Canonical(args)
	if err != nil {
		t.Fatal(err)
	}
	// Thrice in a transaction: argument, record and answer. A block holds 10 MiB.
	if limit := 10 << 20 / 3 / 5; len(data) > limit {
		t.Errorf("the argument has %d bytes, want at most %d, a fifth of a block", len(data), limit)
	}
	if got := service.AnchorCounts(nil); got == nil || len(got) != 0 {
		t.Errorf("no counts are %v, want an empty list", got)
	}
	if got := service.AnchorCounts(counts[:domain.MaxCounts]); len(got) != domain.MaxCounts || got[7] != counts[7] {
		t.Error("as many as fit are not listed as they are")
	}
}
