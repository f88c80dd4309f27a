package service

import (
	"context"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/cache"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/proof"
)

const (
	// answerFor is how long a cached answer may be used, found or not.
	answerFor = 5 * time.Second

	// maxOpened bounds the decoded answers: a few kilobytes each.
	maxOpened = 4096
)

// Verifier answers the public: is this certificate good, and what proves it. It
// is safe for concurrent use.
//
// The answer comes from the index, which must have heard from the ledger within
// [FreshFor]; the ledger itself is asked for proofs only. A cached answer is
// used at the height it was read at and no other: whatever the cache holds, a
// certificate that a block has changed since is read again.
type Verifier struct {
	ledger  ledger.Ledger
	index   index.Index
	cache   cache.Cache
	anchors *proof.Anchors
	clock   func() time.Time
	heard   func() time.Time

	opened *lru.Cache[string, held] // cached answers as decoded, by their bytes
	reads  singleflight.Group       // of the index, by reference and height
	proofs singleflight.Group       // of the ledger, by kind, ID and nonce
	lists  statusLists

	signing chan struct{} // holds one for each signed read under way
}

// NewVerification returns the use cases of verification. heard answers when the
// index was last known to be at the head of the ledger, the zero time for never:
// see [Indexer.LastHeard].
func NewVerification(l ledger.Ledger, ix index.Index, c cache.Cache, anchors *proof.Anchors, clock, heard func() time.Time) *Verifier {
	opened, err := lru.New[string, held](maxOpened)
	if err != nil {
		panic(err) // it refuses sizes below 1 only
	}
	return &Verifier{
		ledger: l, index: ix, cache: c, anchors: anchors, clock: clock, heard: heard,
		opened: opened, signing: make(chan struct{}, maxSigning),
	}
}

// ParseRef checks that s is a certificate reference, 32 lower-case hexadecimal
// digits. Its error is a [*domain.Error] of kind invalid.
func ParseRef(s string) (string, error) {
	if !isHex(s, 32) {
		return "", &domain.Error{Kind: domain.Invalid, Msg: "certificate reference: must be 32 lower-case hexadecimal digits"}
	}
	return s, nil
}

// Verify answers what is known of the certificate ref, which [ParseRef] has
// passed. It never fails: what cannot be read or is too old to speak for the
// present is [CannotCheck].
func (v *Verifier) Verify(ctx context.Context, ref string) Verification {
	now := v.clock().UTC()
	out := Verification{Verdict: CannotCheck, Ref: ref, AsOf: now}
	heard := v.heard()
	switch {
	case heard.IsZero():
		out.Reason = ReasonStarting
		return out
	case !fresh(heard, now):
		out.Reason = ReasonIndexBehind
		return out
	}
	if _, err := ParseRef(ref); err != nil {
		out.Reason = ReasonInternal
		return out
	}
	held, err := v.held(ctx, ref, now)
	if err != nil {
		out.Reason = ReasonInternal
		return out
	}
	out.Height = held.height
	if held.certificate == nil {
		out.Verdict = NotFound
		return out
	}
	out.Verdict = verdictOf(held.certificate.StatusAt(now))
	switch {
	case out.Verdict == CannotCheck:
		out.Reason = ReasonInternal // a status that this version does not know
	case out.Verdict.Issued():
		certificate, issuer := *held.certificate, *held.issuer // others hold these, too
		out.Certificate, out.Issuer, out.Position = &certificate, &issuer, held.position
	}
	return out
}

// verdictOf puts a status into the words of a verdict.
func verdictOf(s domain.CertificateStatus) Verdict {
	switch s {
	case domain.CertificateValid:
		return Valid
	case domain.CertificateSuspended:
		return Suspended
	case domain.CertificateRevoked:
		return Revoked
	case domain.CertificateWithdrawn:
		return Withdrawn
	case domain.CertificateCancelled:
		return Cancelled
	case domain.CertificateSuperseded:
		return Superseded
	case domain.CertificateExpired:
		return Expired
	case domain.CertificateNotYetValid:
		return NotYetValid
	case domain.CertificateProposed, domain.CertificateRejected:
		return NotFound
	}
	return CannotCheck
}

// held is what the index holds of a reference.
type held struct {
	ref         string
	certificate *domain.Certificate // nil: not on the ledger
	issuer      *domain.Department
	position    domain.Position
	readAt      time.Time
	height      uint64 // the index had at least so many blocks
}

// answer is the form of held in the cache.
type answer struct {
	Ref         string    `json:"ref"`
	Certificate string    `json:"certificate"` // canonical bytes as text, "" when not on the ledger
	Issuer      string    `json:"issuer"`
	Block       uint64    `json:"block"`
	TxID        string    `json:"txId"`
	ReadAt      time.Time `json:"readAt"`
}

func certificateCacheKey(ref string) string { return "cert/" + ref }

// held answers from the cache, or else from the index and for the cache.
func (v *Verifier) held(ctx context.Context, ref string, now time.Time) (held, error) {
	height, err := v.index.NextBlock(ctx)
	if err != nil {
		return held{}, fmt.Errorf("read the index's height: %w", err)
	}
	key := certificateCacheKey(ref)
	if e, ok := v.cache.Get(ctx, key); ok && e.Height == height {
		if h, ok := v.open(e, ref, now); ok {
			return h, nil
		}
	}
	result := v.reads.DoChan(fmt.Sprintf("%s@%d", ref, height), func() (any, error) {
		// Others wait for this read: it must not end with its first caller.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return v.read(ctx, ref, height, now)
	})
	select {
	case r := <-result:
		if r.Err != nil {
			return held{}, r.Err
		}
		return r.Val.(held), nil
	case <-ctx.Done():
		return held{}, ctx.Err()
	}
}

// open reads a cached answer, false when it is not one for ref at now. Answers
// are decoded once: what bytes mean does not change.
func (v *Verifier) open(e cache.Entry, ref string, now time.Time) (held, bool) {
	h, ok := v.opened.Get(string(e.Value))
	if !ok {
		var a answer
		if domain.ParseCanonical(e.Value, &a) != nil {
			return held{}, false
		}
		var err error
		if h, err = a.held(); err != nil {
			return held{}, false
		}
		v.opened.Add(string(e.Value), h)
	}
	h.height = e.Height
	age := now.Sub(h.readAt)
	return h, h.ref == ref && age >= 0 && age <= answerFor
}

// read asks the index and puts the answer into the cache.
func (v *Verifier) read(ctx context.Context, ref string, height uint64, now time.Time) (held, error) {
	a := answer{Ref: ref, ReadAt: now}
	certificate, err := v.index.Get(ctx, domain.KindCertificate, ref)
	switch {
	case domain.KindOf(err) == domain.NotFound:
	case err != nil:
		return held{}, fmt.Errorf("read certificate: %w", err)
	default:
		a.Certificate, a.Block, a.TxID = string(certificate.Value), certificate.Block, string(certificate.TxID)
		issuer, err := issuerOf(certificate)
		if err != nil {
			return held{}, err
		}
		// A certificate without a registered issuer cannot be written; an index
		// that says so is broken.
		department, err := v.index.Get(ctx, domain.KindDepartment, string(issuer))
		if err != nil {
			return held{}, fmt.Errorf("read issuer: %w", err)
		}
		a.Issuer = string(department.Value)
	}
	h, err := a.held()
	if err != nil {
		return held{}, err
	}
	h.height = height
	if value, err := domain.Canonical(a); err == nil {
		v.cache.Put(ctx, certificateCacheKey(ref), cache.Entry{Value: value, Height: height}, answerFor)
	}
	return h, nil
}

func issuerOf(r index.Record) (domain.DepartmentCode, error) {
	c, err := decoded[domain.Certificate](r)
	return c.Value.Issuer, err
}

// held decodes the records in a, and refuses those that do not belong together.
func (a answer) held() (held, error) {
	h := held{ref: a.Ref, readAt: a.ReadAt}
	if a.Certificate == "" {
		return h, nil
	}
	h.certificate, h.issuer = new(domain.Certificate), new(domain.Department)
	if err := domain.ParseCanonical([]byte(a.Certificate), h.certificate); err != nil {
		return held{}, fmt.Errorf("certificate %s is unreadable: %v", a.Ref, err) //nolint:errorlint // no caller's mistake: drops the kind
	}
	if err := domain.ParseCanonical([]byte(a.Issuer), h.issuer); err != nil {
		return held{}, fmt.Errorf("issuer of certificate %s is unreadable: %v", a.Ref, err) //nolint:errorlint // the same
	}
	if h.certificate.Content.Ref != a.Ref || h.certificate.Issuer != h.issuer.Code {
		return held{}, fmt.Errorf("index holds the records of another certificate under %s", a.Ref)
	}
	h.position = domain.Position{Block: a.Block, TxID: domain.TxID(a.TxID)}
	return h, nil
}
