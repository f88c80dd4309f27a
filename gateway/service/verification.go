package service

import (
	"context"
	"fmt"
	"sync"
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

	// maxLatest bounds the answers that are kept decoded: a few kilobytes each.
	maxLatest = 4096
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
	check   func(unverifiedBundle []byte, opts proof.Options) proof.Verdict // under anchors
	clock   func() time.Time
	heard   func() time.Time

	// latest are the answers given last, decoded. Who asks again within their time
	// costs neither the cache, which may be another machine, nor the index.
	latest  *lru.Cache[string, held]
	reads   singleflight.Group // of the index, by reference and height
	issuers sync.Map           // issuerAt by department code
	proofs  singleflight.Group // of the ledger, by kind, ID and nonce
	lists   statusLists

	signing chan struct{} // holds one for each signed read under way
}

// NewVerification returns the use cases of verification. heard answers when the
// index was last known to be at the head of the ledger, the zero time for never:
// see [Indexer.LastHeard].
func NewVerification(l ledger.Ledger, ix index.Index, c cache.Cache, anchors *proof.Anchors, clock, heard func() time.Time) *Verifier {
	latest, err := lru.New[string, held](maxLatest)
	if err != nil {
		panic(err) // it refuses sizes below 1 only
	}
	check := func(unverifiedBundle []byte, opts proof.Options) proof.Verdict {
		return proof.Verify(unverifiedBundle, anchors, opts) // says what is wrong with them
	}
	if reader, err := proof.NewVerifier(anchors); err == nil {
		check = reader.Verify
	}
	return &Verifier{
		ledger: l, index: ix, cache: c, anchors: anchors, check: check, clock: clock, heard: heard,
		latest: latest, signing: make(chan struct{}, maxSigning),
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
		out.Certificate, out.Issuer, out.Position = held.certificate, held.issuer, held.position
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

	certificateText, issuerText string // what the two were read from
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
	last, known := v.latest.Get(ref)
	if known && last.height == height && last.speaksOf(ref, now) {
		return last, nil
	}
	if e, ok := v.cache.Get(ctx, certificateCacheKey(ref)); ok && e.Height == height {
		if h, ok := open(e, last); ok && h.speaksOf(ref, now) {
			v.latest.Add(ref, h)
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

// speaksOf reports whether h is an answer about ref that may still be given.
func (h held) speaksOf(ref string, now time.Time) bool {
	age := now.Sub(h.readAt)
	return h.ref == ref && age >= 0 && age <= answerFor
}

// open reads a cached answer, false when it is none. last is the answer before.
func open(e cache.Entry, last held) (held, bool) {
	var a answer
	if domain.ParseCanonical(e.Value, &a) != nil {
		return held{}, false
	}
	h, err := a.held(last)
	h.height = e.Height
	return h, err == nil
}

// read asks the index and puts the answer into the cache.
func (v *Verifier) read(ctx context.Context, ref string, height uint64, now time.Time) (held, error) {
	a := answer{Ref: ref, ReadAt: now}
	known, _ := v.latest.Get(ref)
	certificate, err := v.index.Get(ctx, domain.KindCertificate, ref)
	switch {
	case domain.KindOf(err) == domain.NotFound:
	case err != nil:
		return held{}, fmt.Errorf("read certificate: %w", err)
	default:
		a.Certificate, a.Block, a.TxID = string(certificate.Value), certificate.Block, string(certificate.TxID)
		if err := known.readCertificate(a); err != nil {
			return held{}, err
		}
		// A certificate without a registered issuer cannot be written; an index
		// that says so is broken.
		issuer, err := v.issuer(ctx, known.certificate.Issuer, height)
		if err != nil {
			return held{}, err
		}
		a.Issuer, known.issuerText, known.issuer = issuer.text, issuer.text, issuer.record
	}
	h, err := a.held(known)
	if err != nil {
		return held{}, err
	}
	h.height = height
	v.latest.Add(ref, h)
	if value, err := domain.Canonical(a); err == nil {
		v.cache.Put(ctx, certificateCacheKey(ref), cache.Entry{Value: value, Height: height}, answerFor)
	}
	return h, nil
}

// issuerAt is the record of a department that issues certificates, as read at a
// height.
type issuerAt struct {
	height uint64
	text   string
	record *domain.Department
}

// issuer answers the record of a department at a height. There are few, and every
// certificate names one: each is read once at every height.
func (v *Verifier) issuer(ctx context.Context, code domain.DepartmentCode, height uint64) (issuerAt, error) {
	kept, _ := v.issuers.Load(code)
	last, _ := kept.(issuerAt)
	if last.record != nil && last.height == height {
		return last, nil
	}
	r, err := v.index.Get(ctx, domain.KindDepartment, string(code))
	if err != nil {
		return issuerAt{}, fmt.Errorf("read issuer: %w", err)
	}
	read := issuerAt{height: height, text: string(r.Value), record: last.record}
	if read.text != last.text {
		read.record = new(domain.Department)
		if err := domain.ParseCanonical(r.Value, read.record); err != nil {
			return issuerAt{}, fmt.Errorf("issuer %s is unreadable: %v", code, err) //nolint:errorlint // no caller's mistake: drops the kind
		}
	}
	v.issuers.Store(code, read)
	return read, nil
}

// readCertificate decodes the certificate in a, unless h has it decoded already:
// most answers are read again because time or other blocks went by, not because
// they changed.
func (h *held) readCertificate(a answer) error {
	if h.certificate != nil && h.certificateText == a.Certificate {
		return nil
	}
	h.certificateText, h.certificate = a.Certificate, new(domain.Certificate)
	if err := domain.ParseCanonical([]byte(a.Certificate), h.certificate); err != nil {
		return fmt.Errorf("certificate %s is unreadable: %v", a.Ref, err) //nolint:errorlint // no caller's mistake: drops the kind
	}
	return nil
}

// readIssuer decodes the department in a, unless h has it decoded already.
func (h *held) readIssuer(a answer) error {
	if h.issuer != nil && h.issuerText == a.Issuer {
		return nil
	}
	h.issuerText, h.issuer = a.Issuer, new(domain.Department)
	if err := domain.ParseCanonical([]byte(a.Issuer), h.issuer); err != nil {
		return fmt.Errorf("issuer of certificate %s is unreadable: %v", a.Ref, err) //nolint:errorlint // no caller's mistake: drops the kind
	}
	return nil
}

// held decodes the records in a as far as they are not in known, and refuses those
// that do not belong together.
func (a answer) held(known held) (held, error) {
	if a.Certificate == "" {
		return held{ref: a.Ref, readAt: a.ReadAt}, nil
	}
	h := known
	h.ref, h.readAt, h.position = a.Ref, a.ReadAt, domain.Position{Block: a.Block, TxID: domain.TxID(a.TxID)}
	if err := h.readCertificate(a); err != nil {
		return held{}, err
	}
	if err := h.readIssuer(a); err != nil {
		return held{}, err
	}
	if h.certificate.Content.Ref != a.Ref || h.certificate.Issuer != h.issuer.Code {
		return held{}, fmt.Errorf("index holds the records of another certificate under %s", a.Ref)
	}
	return h, nil
}
