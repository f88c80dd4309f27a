package service_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/cache"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/ledger/ledgertest"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/proof"
)

// signing counts signed reads, and may change what they answer.
type signing struct {
	ledger.Ledger
	reads  atomic.Int64
	delay  chan struct{}
	change func(*ledger.SignedRead)
	args   func(*domain.AttestArgs)
}

func (s *signing) SignedRead(ctx context.Context, args domain.AttestArgs, quorum int) (ledger.SignedRead, error) {
	s.reads.Add(1)
	if s.delay != nil {
		<-s.delay
	}
	if s.args != nil {
		s.args(&args)
	}
	r, err := s.Ledger.SignedRead(ctx, args, quorum)
	if err == nil && s.change != nil {
		s.change(&r)
	}
	return r, err
}

func TestProof(t *testing.T) {
	w := newWorld(t)
	w.grant(grantID(1), domain.Quota{Total: 5, PerDay: 5})
	ref := w.issue(issueRequest()).Value.Content.Ref
	v := w.verifier()
	entry, err := w.catalog("police").Get(t.Context(), entryCode)
	if err != nil {
		t.Fatal(err)
	}
	event := entry.TxID
	for _, tt := range []struct {
		kind domain.RecordKind
		id   string
		want proof.Overall
	}{
		{domain.KindCertificate, ref, proof.Valid},
		{domain.KindCertificate, grantID(9), proof.NotFound},
		{domain.KindCatalogEntry, entryCode, proof.Recorded},
		{domain.KindCatalogEvent, domain.CatalogEventID(event, "police"), proof.Recorded},
		{domain.KindCatalogVersion, entryCode + "~1", proof.NotFound}, // the entry itself holds it
		{domain.KindDepartment, "police", proof.Recorded},
	} {
		t.Run(string(tt.kind)+" "+string(tt.want), func(t *testing.T) {
			bundle, verdict, err := v.Proof(t.Context(), string(tt.kind), tt.id)
			if err != nil {
				t.Fatal(err)
			}
			if verdict.Overall != tt.want || len(verdict.Signers) != 4 {
				t.Errorf("verdict is %+v, want %q by 4", verdict, tt.want)
			}
			// What a citizen does with the file.
			again := proof.Verify(bundle, w.anchors, proof.Options{At: w.clock.Now()})
			if again.Overall != tt.want {
				t.Errorf("offline the proof is %+v", again)
			}
		})
	}
}

func TestProofFollowsRecord(t *testing.T) {
	w := newWorld(t)
	ref := w.issue(issueRequest()).Value.Content.Ref
	signer := &signing{Ledger: w.ledger}
	v := service.NewVerification(signer, w.index, w.cache, w.anchors, w.clock.Now, w.clock.Now)
	prove := func(name string, want proof.Overall, reads int64) {
		t.Helper()
		before := signer.reads.Load()
		_, verdict, err := v.Proof(t.Context(), string(domain.KindCertificate), ref)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if verdict.Overall != want {
			t.Errorf("%s: verdict %q, want %q", name, verdict.Overall, want)
		}
		if got := signer.reads.Load() - before; got != reads {
			t.Errorf("%s: %d signed reads, want %d", name, got, reads)
		}
	}
	prove("first", proof.Valid, 1)
	prove("cached", proof.Valid, 0)
	w.chain.Append()
	w.indexed()
	prove("after a block about something else", proof.Valid, 0)
	w.clock.Advance(domain.StatementLife/2 - time.Millisecond)
	prove("shortly before half its life", proof.Valid, 0)
	w.clock.Advance(time.Millisecond)
	prove("at half its life", proof.Valid, 1)
	w.revoke(ref)
	prove("revoked", proof.Revoked, 1)
	prove("revoked, cached", proof.Revoked, 0)
}

// TestProofOfStaleIndex checks that a gateway which is cut off from the blocks
// does not hand out the proof that it keeps: the certificate may have been
// revoked since.
func TestProofOfStaleIndex(t *testing.T) {
	t.Parallel() // waits
	w := newWorld(t)
	ref := w.issue(issueRequest()).Value.Content.Ref
	before, err := w.index.Get(t.Context(), domain.KindCertificate, ref)
	if err != nil {
		t.Fatal(err)
	}
	var cutOff atomic.Bool
	frozen := broken{w.index, func(r *index.Record) error {
		if cutOff.Load() && r.Kind == domain.KindCertificate {
			*r = before
		}
		return nil
	}}
	heard := w.clock.Now()
	signer := &signing{Ledger: w.ledger}
	v := service.NewVerification(signer, frozen, w.cache, w.anchors, w.clock.Now, func() time.Time { return heard })
	prove := func() (proof.Verdict, error) {
		_, verdict, err := v.Proof(t.Context(), string(domain.KindCertificate), ref)
		return verdict, err
	}
	if verdict, err := prove(); err != nil || verdict.Overall != proof.Valid {
		t.Fatalf("verdict %q, %v", verdict.Overall, err)
	}
	cutOff.Store(true)
	w.clock.Advance(service.FreshFor + time.Millisecond)
	if verdict, err := prove(); err != nil || verdict.Overall != proof.Valid || signer.reads.Load() != 2 {
		t.Errorf("unchanged: verdict %q, %v after %d signed reads, want valid after 2", verdict.Overall, err, signer.reads.Load())
	}
	w.revoke(ref)
	verdict, err := prove()
	var unavailable *ledger.UnavailableError
	if !errors.As(err, &unavailable) {
		t.Errorf("revoked: verdict %q, %v, want an UnavailableError", verdict.Overall, err)
	}
}

// TestProofsAreBounded asks for proofs of many records while the departments do
// not answer.
func TestProofsAreBounded(t *testing.T) {
	w := newWorld(t)
	w.indexed()
	signer := &signing{Ledger: w.ledger, delay: make(chan struct{})}
	v := service.NewVerification(signer, w.index, w.cache, w.anchors, w.clock.Now, w.clock.Now)
	const asked, most = 100, 16
	errs := make(chan error, asked)
	for i := range asked {
		go func() {
			_, _, err := v.Proof(t.Context(), string(domain.KindCertificate), fmt.Sprintf("%032x", i))
			errs <- err
		}()
	}
	for range asked - most {
		var unavailable *ledger.UnavailableError
		if err := <-errs; !errors.As(err, &unavailable) {
			t.Errorf("error is %v, want an UnavailableError", err)
		}
	}
	close(signer.delay)
	for range most {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := signer.reads.Load(); n != most {
		t.Errorf("%d signed reads, want %d", n, most)
	}
}

// TestProofExpires checks that a cached proof does not hide that a certificate
// ran out since.
func TestProofExpires(t *testing.T) {
	w := newWorld(t)
	r := issueRequest()
	r.ValidTo = ledgertest.Start.Add(time.Hour)
	ref := w.issue(r).Value.Content.Ref
	v := w.verifier()
	for _, want := range []proof.Overall{proof.Valid, proof.Expired} {
		_, verdict, err := v.Proof(t.Context(), string(domain.KindCertificate), ref)
		if err != nil || verdict.Overall != want {
			t.Errorf("verdict %q, %v, want %q", verdict.Overall, err, want)
		}
		w.clock.Advance(time.Hour)
	}
}

func TestProofRefuses(t *testing.T) {
	w := newWorld(t)
	v := w.verifier()
	for _, tt := range []struct{ kind, id string }{
		{"", "x"}, {"nonsense", "x"}, {"certificate", ""}, {"certificate", strings.Repeat("a", 200)}, {"certificate", "a b"},
	} {
		_, _, err := v.Proof(t.Context(), tt.kind, tt.id)
		wantKind(t, err, domain.Invalid, "")
	}
}

// TestProofIsNeverServedUnverified gives the gateway signed reads that prove
// nothing: it must answer an error, keep none and recover.
func TestProofIsNeverServedUnverified(t *testing.T) {
	w := newWorld(t)
	ref := w.issue(issueRequest()).Value.Content.Ref
	for name, s := range map[string]*signing{
		"signature changed": {change: func(r *ledger.SignedRead) { r.Endorsements[0].Signature[8] ^= 1 }},
		"answer changed":    {change: func(r *ledger.SignedRead) { r.Response[len(r.Response)/2] ^= 1 }},
		"too few":           {change: func(r *ledger.SignedRead) { r.Endorsements = r.Endorsements[:2] }},
		"one thrice": {change: func(r *ledger.SignedRead) {
			r.Endorsements = []ledger.Endorsement{r.Endorsements[0], r.Endorsements[0], r.Endorsements[0]}
		}},
		"none":           {change: func(r *ledger.SignedRead) { r.Endorsements = nil }},
		"empty":          {change: func(r *ledger.SignedRead) { *r = ledger.SignedRead{} }},
		"another nonce":  {args: func(a *domain.AttestArgs) { a.Nonce = grantID(1) }},
		"another record": {args: func(a *domain.AttestArgs) { a.ID = grantID(1) }},
		"another kind":   {args: func(a *domain.AttestArgs) { a.Kind = domain.KindGrant }},
	} {
		t.Run(name, func(t *testing.T) {
			s.Ledger = w.ledger
			kept := newMemory()
			v := service.NewVerification(s, w.index, kept, w.anchors, w.clock.Now, w.clock.Now)
			bundle, _, err := v.Proof(t.Context(), string(domain.KindCertificate), ref)
			if err == nil || bundle != nil {
				t.Fatalf("answers %d bytes, error %v", len(bundle), err)
			}
			if len(kept.entries) != 0 {
				t.Error("keeps the proof")
			}
			s.change, s.args = nil, nil
			if _, _, err := v.Proof(t.Context(), string(domain.KindCertificate), ref); err != nil {
				t.Errorf("does not recover: %v", err)
			}
		})
	}
}

// TestProofPoisonedCache checks that a proof is verified when it comes out of
// the cache, too.
func TestProofPoisonedCache(t *testing.T) {
	w := newWorld(t)
	ref := w.issue(issueRequest()).Value.Content.Ref
	v := w.verifier()
	good, _, err := v.Proof(t.Context(), string(domain.KindCertificate), ref)
	if err != nil {
		t.Fatal(err)
	}
	w.revoke(ref)
	flipped := append([]byte{}, good...)
	flipped[len(flipped)/2] ^= 1
	for name, value := range map[string][]byte{"before the revocation": good, "changed": flipped, "empty": nil} {
		w.cache.poison = func(string) (cache.Entry, bool) { return cache.Entry{Value: value, Height: 1}, true }
		_, verdict, err := v.Proof(t.Context(), string(domain.KindCertificate), ref)
		if err != nil || verdict.Overall != proof.Revoked {
			t.Errorf("%s: verdict %q, %v, want revoked", name, verdict.Overall, err)
		}
	}
}

// TestProofDiffersFromIndex checks that a signed read of a state that is not the
// index's is not handed out.
func TestProofDiffersFromIndex(t *testing.T) {
	t.Parallel() // waits
	w := newWorld(t)
	ref := w.issue(issueRequest()).Value.Content.Ref
	w.indexed()
	stale := broken{w.index, func(r *index.Record) error {
		if r.Kind == domain.KindCertificate {
			r.Value = append(r.Value, ' ')
		}
		return nil
	}}
	v := service.NewVerification(w.ledger, stale, newMemory(), w.anchors, w.clock.Now, w.clock.Now)
	_, _, err := v.Proof(t.Context(), string(domain.KindCertificate), ref)
	var unavailable *ledger.UnavailableError
	if !errors.As(err, &unavailable) {
		t.Errorf("error is %v, want an UnavailableError", err)
	}
}

// TestProofIndexBehindForAMoment checks that a proof made just after a write is
// served once the index has the write.
func TestProofIndexBehindForAMoment(t *testing.T) {
	w := newWorld(t)
	ref := w.issue(issueRequest()).Value.Content.Ref
	before, err := w.index.Get(t.Context(), domain.KindCertificate, ref)
	if err != nil {
		t.Fatal(err)
	}
	w.revoke(ref)
	w.indexed()
	var reads atomic.Int64
	behind := broken{w.index, func(r *index.Record) error {
		if r.Kind == domain.KindCertificate && reads.Add(1) <= 3 {
			*r = before
		}
		return nil
	}}
	v := service.NewVerification(w.ledger, behind, newMemory(), w.anchors, w.clock.Now, w.clock.Now)
	_, verdict, err := v.Proof(t.Context(), string(domain.KindCertificate), ref)
	if err != nil || verdict.Overall != proof.Revoked {
		t.Errorf("verdict %q, %v, want revoked", verdict.Overall, err)
	}
	if reads.Load() != 4 {
		t.Errorf("%d reads of the index, want 4", reads.Load())
	}
}

func TestProofNeedsQuorum(t *testing.T) {
	w := newWorld(t)
	ref := w.issue(issueRequest()).Value.Content.Ref
	w.chain.SetDown("civil", errors.New("down"))
	v := w.verifier()
	_, verdict, err := v.Proof(t.Context(), string(domain.KindCertificate), ref)
	if err != nil || len(verdict.Signers) != 3 {
		t.Errorf("with three departments: %v, %v", verdict.Signers, err)
	}
	w.chain.SetDown("market", errors.New("down"))
	v = service.NewVerification(w.ledger, w.index, newMemory(), w.anchors, w.clock.Now, w.clock.Now)
	_, _, err = v.Proof(t.Context(), string(domain.KindCertificate), ref)
	var unavailable *ledger.UnavailableError
	if !errors.As(err, &unavailable) {
		t.Errorf("with two departments: error is %v, want an UnavailableError", err)
	}
}

func TestProofSingleFlight(t *testing.T) {
	w := newWorld(t)
	ref := w.issue(issueRequest()).Value.Content.Ref
	signer := &signing{Ledger: w.ledger, delay: make(chan struct{})}
	v := service.NewVerification(signer, w.index, w.cache, w.anchors, w.clock.Now, w.clock.Now)
	errs := make(chan error, 1000)
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			_, verdict, err := v.Proof(t.Context(), string(domain.KindCertificate), ref)
			if err == nil && verdict.Overall != proof.Valid {
				err = fmt.Errorf("verdict %q", verdict.Overall)
			}
			errs <- err
		})
	}
	await(t, "the signed read", func() bool { return signer.reads.Load() == 1 })
	close(signer.delay)
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if got := signer.reads.Load(); got != 1 { // whoever came late found the cache
		t.Errorf("%d signed reads, want 1", got)
	}
}
