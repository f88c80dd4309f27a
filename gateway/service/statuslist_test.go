package service_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/statuslist"
)

// bits answers what the status lists say of a certificate.
func bits(t *testing.T, v *service.Verifier, place int) (revoked, suspended bool) {
	t.Helper()
	at := func(purpose service.StatusPurpose) bool {
		l, err := v.StatusList(t.Context(), "police", purpose, place/domain.StatusListLength)
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := statuslist.Decode(l.Encoded)
		if err != nil {
			t.Fatal(err)
		}
		return decoded.At(place % domain.StatusListLength)
	}
	return at(service.RevocationList), at(service.SuspensionList)
}

// TestStatusLists follows certificates through their lives, and asks after each
// step both lists and the verdict: a certificate whose bits are 0 is one that was
// valid, and no other.
func TestStatusLists(t *testing.T) {
	w := newWorld(t)
	v := w.verifier()
	serial := 0
	issue := func(replaces string) (string, int) {
		r := issueRequest()
		serial++
		r.Serial, r.Replaces = fmt.Sprintf("2026L%05d", serial), replaces
		if replaces != "" {
			r.Serial = ""
		}
		issued := w.propose(r)
		return issued.Value.Content.Ref, issued.Value.Content.StatusIndex
	}
	check := func(name, ref string, place int, want service.Verdict, revoked, suspended bool) {
		t.Helper()
		w.clock.Advance(time.Second) // a list is served for as long
		if got := v.Verify(t.Context(), ref).Verdict; got != want {
			t.Errorf("%s: verdict %s, want %s", name, got, want)
		}
		if gotRevoked, gotSuspended := bits(t, v, place); gotRevoked != revoked || gotSuspended != suspended {
			t.Errorf("%s: revoked %v, suspended %v, want %v, %v", name, gotRevoked, gotSuspended, revoked, suspended)
		}
	}
	decide := func(ref string, decision domain.CertificateDecision) {
		t.Helper()
		if _, err := w.certificates().Decide(t.Context(), policeReviewer, domain.DecideArgs{Ref: ref, Decision: decision, Opinion: "意见"}); err != nil {
			t.Fatal(err)
		}
	}

	ref, place := issue("")
	check("proposed", ref, place, service.NotFound, false, true)
	decide(ref, domain.RejectCertificate)
	check("rejected", ref, place, service.NotFound, true, false)

	ref, place = issue("")
	decide(ref, domain.ApproveCertificate)
	check("issued", ref, place, service.Valid, false, false)
	w.change(ref, domain.SuspendCertificate)
	check("suspended", ref, place, service.Suspended, false, true)
	w.change(ref, domain.RestoreCertificate)
	check("given back", ref, place, service.Valid, false, false)
	next, nextPlace := issue(ref)
	check("to be replaced", ref, place, service.Valid, false, false)
	decide(next, domain.ApproveCertificate)
	check("replaced", ref, place, service.Superseded, true, false)
	check("successor", next, nextPlace, service.Valid, false, false)
	for _, end := range []struct {
		event domain.StatusEvent
		want  service.Verdict
	}{
		{domain.RevokeCertificate, service.Revoked}, {domain.WithdrawCertificate, service.Withdrawn}, {domain.CancelCertificate, service.Cancelled},
	} {
		ref, place := issue("")
		decide(ref, domain.ApproveCertificate)
		w.change(ref, end.event)
		check(string(end.event), ref, place, end.want, true, false)
	}
}

func TestStatusListRefuses(t *testing.T) {
	w := newWorld(t)
	v := w.verifier()
	for name, tt := range map[string]struct {
		issuer  domain.DepartmentCode
		purpose service.StatusPurpose
		list    int
		kind    domain.Kind
	}{
		"unknown department": {"nobody", service.RevocationList, 0, domain.NotFound},
		"another purpose":    {"police", "message", 0, domain.Invalid},
		"below":              {"police", service.RevocationList, -1, domain.Invalid},
		"beyond":             {"police", service.RevocationList, 128, domain.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := v.StatusList(t.Context(), tt.issuer, tt.purpose, tt.list)
			wantKind(t, err, tt.kind, "")
		})
	}
	if l, err := v.StatusList(t.Context(), "police", service.SuspensionList, 127); err != nil || l.Encoded == "" {
		t.Errorf("the last list: %v", err)
	}
	behind := service.NewVerification(w.ledger, w.index, w.cache, w.anchors, w.clock.Now, func() time.Time { return w.clock.Now().Add(-time.Minute) })
	var unavailable *ledger.UnavailableError
	if _, err := behind.StatusList(t.Context(), "police", service.RevocationList, 0); !errors.As(err, &unavailable) {
		t.Errorf("a gateway that is behind answers %v, want an UnavailableError", err)
	}
	broken := service.NewVerification(w.ledger, brokenLists{w.index}, w.cache, w.anchors, w.clock.Now, w.clock.Now)
	if _, err := broken.StatusList(t.Context(), "police", service.RevocationList, 0); err == nil || domain.KindOf(err) != "" {
		t.Errorf("a broken index: %v", err)
	}
}

type brokenLists struct{ index.Index }

func (brokenLists) StatusIndexes(context.Context, domain.DepartmentCode, []domain.CertificateStatus, int, int) ([]int, error) {
	return nil, errors.New("input/output error")
}

// countedLists counts reads of status lists.
type countedLists struct {
	index.Index
	reads int
}

func (c *countedLists) StatusIndexes(ctx context.Context, issuer domain.DepartmentCode, states []domain.CertificateStatus, from, to int) ([]int, error) {
	c.reads++
	return c.Index.StatusIndexes(ctx, issuer, states, from, to)
}

// TestStatusListIsReadOnce: while nothing is written a list is read once, and while
// blocks come at most once a second.
func TestStatusListIsReadOnce(t *testing.T) {
	w := newWorld(t)
	counted := &countedLists{Index: w.index}
	v := service.NewVerification(w.ledger, counted, w.cache, w.anchors, w.clock.Now, w.clock.Now)
	get := func(name string, reads int) {
		t.Helper()
		l, err := v.StatusList(t.Context(), "police", service.RevocationList, 0)
		if err != nil {
			t.Fatal(err)
		}
		if counted.reads != reads {
			t.Errorf("%s: %d reads, want %d", name, counted.reads, reads)
		}
		if age := w.clock.Now().Sub(l.AsOf); age < 0 || age >= time.Second {
			t.Errorf("%s: the list speaks of %v ago", name, age)
		}
	}
	get("first", 1)
	w.clock.Advance(time.Hour)
	get("an hour later, nothing written", 1)
	w.chain.Append()
	w.indexed()
	get("after a block", 2)
	w.chain.Append()
	w.indexed()
	w.clock.Advance(999 * time.Millisecond)
	get("after a block, within a second", 2)
	w.clock.Advance(time.Millisecond)
	get("after that second", 3)
}
