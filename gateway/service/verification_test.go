package service_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/cache"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger/ledgertest"
	"github.com/zhenglian/zhenglian/gateway/service"
)

const cacheKey = "cert/"

func TestParseRef(t *testing.T) {
	good := strings.Repeat("0f", 16)
	if got, err := service.ParseRef(good); err != nil || got != good {
		t.Errorf("ParseRef(%q) = %q, %v", good, got, err)
	}
	for _, bad := range []string{"", good[1:], good + "0", strings.ToUpper(good), good[:31] + "g", good[:31] + "\n", "../" + good[3:]} {
		_, err := service.ParseRef(bad)
		wantKind(t, err, domain.Invalid, "32 lower-case hexadecimal digits")
	}
}

func TestVerify(t *testing.T) {
	w := newWorld(t)
	v := w.verifier()
	ref := w.issue(issueRequest()).Value.Content.Ref
	future := issueRequest()
	future.ValidFrom, future.Serial = ledgertest.Start.AddDate(0, 6, 0), "2026000002"
	futureRef := w.issue(future).Value.Content.Ref

	check := func(name, ref string, want service.Verdict) {
		t.Helper()
		got := v.Verify(t.Context(), ref)
		if got.Verdict != want || got.Reason != "" || got.Ref != ref || !got.AsOf.Equal(w.clock.Now()) {
			t.Errorf("%s: %+v, want verdict %s", name, got, want)
		}
		if known := want != service.NotFound; (got.Certificate != nil) != known || (got.Issuer != nil) != known || (got.Position.TxID != "") != known {
			t.Errorf("%s: certificate %v, issuer %v, position %v", name, got.Certificate, got.Issuer, got.Position)
		}
		if got.Height == 0 {
			t.Errorf("%s: no height", name)
		}
	}
	for range 2 { // from the index, then from the cache
		check("valid", ref, service.Valid)
		check("not yet valid", futureRef, service.NotYetValid)
		check("unknown", grantID(77), service.NotFound)
	}
	w.clock.Advance(366 * 24 * time.Hour)
	check("expired", ref, service.Expired)
	w.revoke(ref)
	check("revoked", ref, service.Revoked)
	check("now valid", futureRef, service.Expired)
}

// TestThen asks what was the case at moments of a life.
func TestThen(t *testing.T) {
	w := newWorld(t)
	issued := w.clock.Now()
	ref := w.issue(issueRequest()).Value.Content.Ref
	w.clock.Advance(day)
	suspended := w.clock.Now()
	w.change(ref, domain.SuspendCertificate)
	w.clock.Advance(day)
	restored := w.clock.Now()
	w.change(ref, domain.RestoreCertificate)
	w.clock.Advance(day)
	revoked := w.clock.Now()
	w.clock.Advance(day)
	if _, err := w.certificates().Propose(t.Context(), policeOperator, proposal(ref, domain.RevokeCertificate, revoked)); err != nil { // which reaches back
		t.Fatal(err)
	}
	if _, err := w.certificates().Decide(t.Context(), policeReviewer, approval(ref)); err != nil {
		t.Fatal(err)
	}
	v := w.verifier().Verify(t.Context(), ref)
	for _, tt := range []struct {
		name string
		at   time.Time
		want service.Verdict
	}{
		{"before the issue", issued.Add(-time.Second), service.NotYetValid},
		{"at the issue", issued, service.Valid},
		{"before the suspension", suspended.Add(-time.Millisecond), service.Valid},
		{"suspended", suspended, service.Suspended},
		{"given back", restored, service.Valid},
		{"before the revocation", revoked.Add(-time.Millisecond), service.Valid},
		{"revoked, before it was recorded", revoked, service.Revoked},
		{"now", v.AsOf, service.Revoked},
	} {
		got := v.Then(tt.at)
		if got.Verdict != tt.want || (got.Change == nil) != (tt.want == service.NotYetValid) || !got.At.Equal(tt.at) {
			t.Errorf("%s: %+v, want %s", tt.name, got, tt.want)
		}
	}
	if got := w.verifier().Verify(t.Context(), grantID(9)).Then(issued); got.Verdict != service.NotFound || got.Change != nil {
		t.Errorf("of an unknown reference: %+v", got)
	}
}

func TestParseMoment(t *testing.T) {
	now := time.Date(2026, 11, 21, 14, 5, 6, 0, time.UTC) // 22:05 in Beijing
	for s, want := range map[string]time.Time{
		"2026-11-20":                time.Date(2026, 11, 20, 15, 59, 59, 999e6, time.UTC),
		"2026-11-21":                now, // the day lasts
		"2026-11-21T14:05:06Z":      now,
		"2026-11-21T22:05:06+08:00": now,
		"1999-12-31":                time.Date(1999, 12, 31, 15, 59, 59, 999e6, time.UTC),
	} {
		if got, err := service.ParseMoment(s, now); err != nil || !got.Equal(want) {
			t.Errorf("%s is %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "today", "2026-11-22", "2026-11-21T14:05:07Z", "2026-02-30", "2026-1-1", "20261120", "2026-11-20 ", "2026-11-20T10:00:00", "0000-01-01T00:00:00Z"} {
		_, err := service.ParseMoment(s, now)
		wantKind(t, err, domain.Invalid, "at: must be a past time")
	}
}

// TestVerifySaysWhatItDoesNotKnow checks that a gateway out of touch gives no
// verdict, for known and unknown references alike.
func TestVerifySaysWhatItDoesNotKnow(t *testing.T) {
	w := newWorld(t)
	ref := w.issue(issueRequest()).Value.Content.Ref
	for _, tt := range []struct {
		name    string
		heard   time.Time
		ref     string
		reason  string
		verdict service.Verdict
	}{
		{"just now", w.clock.Now(), ref, "", service.Valid},
		{"10 s ago", w.clock.Now().Add(-10 * time.Second), ref, "", service.Valid},
		{"11 s ago", w.clock.Now().Add(-11 * time.Second), ref, service.ReasonIndexBehind, service.CannotCheck},
		{"11 s ago, unknown", w.clock.Now().Add(-11 * time.Second), grantID(5), service.ReasonIndexBehind, service.CannotCheck},
		{"never", time.Time{}, ref, service.ReasonStarting, service.CannotCheck},
		{"malformed reference", w.clock.Now(), "xyz", service.ReasonInternal, service.CannotCheck},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := service.NewVerification(w.ledger, w.index, w.cache, w.anchors, w.clock.Now, func() time.Time { return tt.heard })
			got := v.Verify(t.Context(), tt.ref)
			if got.Verdict != tt.verdict || got.Reason != tt.reason {
				t.Errorf("verdict %s, reason %q, want %s, %q", got.Verdict, got.Reason, tt.verdict, tt.reason)
			}
			if tt.verdict == service.CannotCheck && (got.Certificate != nil || got.Issuer != nil) {
				t.Error("shows a certificate that it cannot vouch for")
			}
		})
	}
}

// broken is an index whose records are not what they should be.
type broken struct {
	index.Index
	change func(r *index.Record) error
}

func (b broken) Get(ctx context.Context, kind domain.RecordKind, id string) (index.Record, error) {
	r, err := b.Index.Get(ctx, kind, id)
	if err != nil {
		return r, err
	}
	err = b.change(&r)
	return r, err
}

func TestVerifyBrokenIndex(t *testing.T) {
	w := newWorld(t)
	ref := w.issue(issueRequest()).Value.Content.Ref
	second := issueRequest()
	second.Serial = "2026000002"
	other, err := w.index.Get(t.Context(), domain.KindCertificate, w.issue(second).Value.Content.Ref)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*index.Record) error{
		"unreadable": func(r *index.Record) error { r.Value = r.Value[1:]; return nil },
		"another certificate": func(r *index.Record) error {
			if r.Kind == domain.KindCertificate {
				r.Value = other.Value
			}
			return nil
		},
		"issuer unreadable": func(r *index.Record) error {
			if r.Kind == domain.KindDepartment {
				r.Value = []byte("{}")
			}
			return nil
		},
		"issuer missing": func(r *index.Record) error {
			if r.Kind == domain.KindDepartment {
				return &domain.Error{Kind: domain.NotFound, Msg: "gone"}
			}
			return nil
		},
		"disk error": func(*index.Record) error { return errors.New("input/output error") },
	} {
		t.Run(name, func(t *testing.T) {
			v := service.NewVerification(w.ledger, broken{w.index, change}, newMemory(), w.anchors, w.clock.Now, w.clock.Now)
			got := v.Verify(t.Context(), ref)
			if got.Verdict != service.CannotCheck || got.Reason != service.ReasonInternal || got.Certificate != nil {
				t.Errorf("%+v, want that it cannot be checked", got)
			}
		})
	}
}

// TestVerifyUsesCache checks that an answer is read once while nothing is
// written, and again after a block or after its time.
func TestVerifyUsesCache(t *testing.T) {
	w := newWorld(t)
	ref := w.issue(issueRequest()).Value.Content.Ref
	counted := &counting{Index: w.index}
	v := service.NewVerification(w.ledger, counted, w.cache, w.anchors, w.clock.Now, w.clock.Now)
	reads := func(name string, want int64) {
		t.Helper()
		before := counted.gets.Load()
		if got := v.Verify(t.Context(), ref); got.Verdict != service.Valid {
			t.Fatalf("%s: %+v", name, got)
		}
		if got := counted.gets.Load() - before; got != want {
			t.Errorf("%s: %d reads, want %d", name, got, want)
		}
	}
	reads("first", 2) // certificate and issuer
	reads("second", 0)
	w.clock.Advance(5 * time.Second)
	reads("within its time", 0)
	w.clock.Advance(time.Millisecond)
	reads("after its time", 1) // of the certificate: its issuer did not change while no block came
	w.chain.Append()
	w.indexed()
	reads("after a block", 2)
}

// TestVerifyPoisonedCache puts whatever an attacker, or an old replica, could
// leave in the cache: none of it makes a revoked certificate look valid. That the
// answer before the revocation comes with the height after it is left out: the
// cache authenticates heights, and TestAnswerIsKeptAtTheHeightItWasReadAt checks
// that no gateway writes such an entry.
func TestVerifyPoisonedCache(t *testing.T) {
	w := newWorld(t)
	ref := w.issue(issueRequest()).Value.Content.Ref
	second := issueRequest()
	second.Serial = "2026000002"
	otherRef := w.issue(second).Value.Content.Ref
	v := w.verifier()
	for _, r := range []string{ref, otherRef} {
		if got := v.Verify(t.Context(), r); got.Verdict != service.Valid {
			t.Fatalf("%+v", got)
		}
	}
	genuine, other := w.cache.entries[cacheKey+ref], w.cache.entries[cacheKey+otherRef]
	w.revoke(ref)
	w.indexed()
	height, err := w.index.NextBlock(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	tries := 0
	try := func(name string, e cache.Entry) {
		t.Helper()
		tries++
		w.cache.poison = func(string) (cache.Entry, bool) { return e, true }
		if got := w.verifier().Verify(t.Context(), ref); got.Verdict != service.Revoked {
			t.Errorf("%s: %+v, want revoked", name, got)
		}
	}
	try("the answer before the revocation", genuine)
	for h := range height + 3 {
		if h != height {
			try(fmt.Sprintf("the answer before the revocation at height %d", h), cache.Entry{Value: genuine.Value, Height: h})
		}
		try(fmt.Sprintf("another certificate's answer at height %d", h), cache.Entry{Value: other.Value, Height: h})
		for _, value := range []string{"", "valid", `{"verdict":"valid"}`, "null", "{}"} {
			try(fmt.Sprintf("%q at height %d", value, h), cache.Entry{Value: []byte(value), Height: h})
		}
	}
	for cut := range len(genuine.Value) {
		try(fmt.Sprintf("cut at %d", cut), cache.Entry{Value: genuine.Value[:cut], Height: height})
	}
	old := strings.Replace(string(genuine.Value), `"readAt":"2026`, `"readAt":"2025`, 1)
	try("an answer of last year", cache.Entry{Value: []byte(old), Height: height})
	soon := strings.Replace(string(genuine.Value), `"readAt":"2026`, `"readAt":"2027`, 1)
	try("an answer of next year", cache.Entry{Value: []byte(soon), Height: height})
	g := rand.New(rand.NewPCG(2026, 11))
	for tries < 10_000 {
		value := bytes.Clone([]cache.Entry{genuine, other}[g.IntN(2)].Value)
		for range g.IntN(4) {
			value[g.IntN(len(value))] ^= byte(1 + g.IntN(255))
		}
		h := g.Uint64N(height + 3)
		if h == height { // authenticated, see above
			h++
		}
		try(fmt.Sprintf("a mutation at height %d", h), cache.Entry{Value: value, Height: h})
	}
	if tries < 10_000 {
		t.Errorf("only %d tries", tries)
	}
}

// TestAnswerIsKeptAtTheHeightItWasReadAt revokes a certificate between the read
// of the index and the writing of the cache, by this gateway or a replica. The
// entry is genuine and old: it must bear the height before the revocation, so
// that it is of no use after, however often it is put back.
func TestAnswerIsKeptAtTheHeightItWasReadAt(t *testing.T) {
	w := newWorld(t)
	ref := w.issue(issueRequest()).Value.Content.Ref
	w.indexed()
	before := w.chain.Height()
	revoked := false
	overtaken := broken{w.index, func(r *index.Record) error {
		if r.Kind == domain.KindCertificate && !revoked {
			revoked = true
			w.revoke(ref)
			w.indexed()
		}
		return nil
	}}
	v := service.NewVerification(w.ledger, overtaken, w.cache, w.anchors, w.clock.Now, w.clock.Now)
	if got := v.Verify(t.Context(), ref); got.Verdict != service.Valid || got.Height != before {
		t.Fatalf("%+v, want valid at height %d", got, before)
	}
	old := w.cache.entries[cacheKey+ref]
	if old.Height != before {
		t.Errorf("the answer is kept at height %d, want %d", old.Height, before)
	}
	for range 3 {
		w.cache.Put(t.Context(), cacheKey+ref, old, time.Minute)
		if got := v.Verify(t.Context(), ref); got.Verdict != service.Revoked {
			t.Errorf("%+v, want revoked", got)
		}
	}
}

// TestRevokedAtOnce races verifications with a revocation: after it is indexed
// nobody sees "valid".
func TestRevokedAtOnce(t *testing.T) {
	w := newWorld(t)
	v := w.verifier()
	for i := range 10 {
		r := issueRequest()
		r.Serial = fmt.Sprintf("20260001%02d", i)
		ref := w.issue(r).Value.Content.Ref
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						v.Verify(t.Context(), ref)
					}
				}
			})
		}
		w.revoke(ref)
		w.indexed()
		for range 50 {
			if got := v.Verify(t.Context(), ref); got.Verdict != service.Revoked {
				t.Fatalf("%+v, want revoked", got)
			}
		}
		close(stop)
		wg.Wait()
	}
}

// fixed is an index of records in memory.
type fixed struct {
	index.Index
	records map[domain.RecordKind]index.Record
	height  uint64
	reads   atomic.Int64
	delay   chan struct{}
}

func (f *fixed) NextBlock(context.Context) (uint64, error) { return f.height, nil }

func (f *fixed) Get(_ context.Context, kind domain.RecordKind, _ string) (index.Record, error) {
	f.reads.Add(1)
	<-f.delay
	return f.records[kind], nil
}

// TestVerifySingleFlight has 1,000 callers miss the cache on one reference at
// one time.
func TestVerifySingleFlight(t *testing.T) {
	w := newWorld(t)
	ref := w.issue(issueRequest()).Value.Content.Ref
	records := make(map[domain.RecordKind]index.Record)
	for kind, id := range map[domain.RecordKind]string{domain.KindCertificate: ref, domain.KindDepartment: "police"} {
		r, err := w.index.Get(t.Context(), kind, id)
		if err != nil {
			t.Fatal(err)
		}
		records[kind] = r
	}
	synctest.Test(t, func(t *testing.T) {
		ix := &fixed{records: records, height: w.chain.Height(), delay: make(chan struct{})}
		v := service.NewVerification(w.ledger, ix, newMemory(), w.anchors, w.clock.Now, w.clock.Now)
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				if got := v.Verify(t.Context(), ref); got.Verdict != service.Valid {
					t.Errorf("%+v", got)
				}
			})
		}
		synctest.Wait() // all have missed; one reads, the others wait for it
		close(ix.delay)
		wg.Wait()
		if got := ix.reads.Load(); got != 2 { // certificate and issuer
			t.Errorf("%d reads of the index, want 2", got)
		}
	})
}

// TestVerifyCallerLeaves checks that the first of several callers, leaving, does
// not spoil the answer of the others.
func TestVerifyCallerLeaves(t *testing.T) {
	w := newWorld(t)
	ref := w.issue(issueRequest()).Value.Content.Ref
	counted := &counting{Index: w.index, delay: make(chan struct{})}
	v := service.NewVerification(w.ledger, counted, newMemory(), w.anchors, w.clock.Now, w.clock.Now)
	ctx, leave := context.WithCancel(t.Context())
	first := make(chan service.Verification)
	go func() { first <- v.Verify(ctx, ref) }()
	await(t, "the first read", func() bool { return counted.gets.Load() == 1 })
	second := make(chan service.Verification)
	go func() { second <- v.Verify(t.Context(), ref) }()
	leave()
	if got := <-first; got.Verdict != service.CannotCheck {
		t.Errorf("the caller who left got %+v", got)
	}
	close(counted.delay)
	if got := <-second; got.Verdict != service.Valid {
		t.Errorf("the caller who stayed got %+v", got)
	}
}
