package service

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/credential"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

const (
	// checkCodeAlphabet has 32 characters that nobody mistakes for one another:
	// no I, O, 0 and 1.
	checkCodeAlphabet = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
	checkCodeLength   = 28 // 140 bits, seven groups of four: what it seals is public, see credential.Seal

	// firstVersion is the version part of an identifier that replaces no other.
	firstVersion = "001"

	// placeAttempts is how often an issue is tried with other places in the status
	// lists: another issue, which this gateway has not heard of yet, may have taken
	// one in the meantime.
	placeAttempts = 4
)

// Certificates issues, replaces, prints and finds certificates and changes their
// status. It is safe for concurrent use.
type Certificates struct {
	// Random and Clock are what references, check codes, places in status lists and
	// dates of issue come from. NewCertificates sets them to the operating system's;
	// set them before the first use only.
	Random io.Reader
	Clock  func() time.Time

	// Issuing signs, keeps and prints what the department issues. Nil: it has no
	// issuing key here, and certificates with items are refused. Set it before the
	// first use only.
	Issuing *Issuing

	ledger    ledger.Ledger
	index     index.Index
	publicURL string
	places    places
}

// NewCertificates returns the use cases of certificates whose links begin with
// publicURL, for example "https://zheng.example".
func NewCertificates(l ledger.Ledger, ix index.Index, publicURL string) *Certificates {
	return &Certificates{
		Random: rand.Reader, Clock: time.Now, //nolint:forbidigo // the clock that others may replace
		ledger: l, index: ix, publicURL: strings.TrimSuffix(publicURL, "/"),
	}
}

// IssueRequest is what an issuer says of a certificate.
type IssueRequest struct {
	TypeCode        string // 证照类型代码, 21 characters
	TypeNameZh      string // as authorised, both
	TypeNameEn      string
	HolderKind      string // person or organisation
	HolderSaltedRef string // 64 lower-case hexadecimal digits: the issuer's own salted reference to the holder; it stays here
	ValidFrom       time.Time
	ValidTo         time.Time // the first moment after
	ServiceItem     string
	Serial          string // 流水号, unique at this issuer; "" with Replaces: that of the predecessor
	Replaces        string // reference of the valid certificate that this one replaces 变更、延续; "" for a first issue

	// One of the two: the digest of content that was signed elsewhere, SHA-256 in
	// hexadecimal, or the face items 照面信息项 for a credential that is signed here.
	ContentDigest string
	Items         []credential.Item
}

// Issued is an issued certificate with what goes to its holder: the link that a QR
// code carries and the check code in it, which are told once.
type Issued struct {
	Written[domain.Certificate]
	Handout
}

// Handout is what goes to the holder of a certificate.
type Handout struct {
	Link       string // {publicURL}/v/{ref}#{check code}
	CheckCode  string
	Credential string // of the items; "" without any
}

// IssuedBatch are certificates that one transaction issued, in the order in which
// they were asked for.
type IssuedBatch struct {
	Items []IssuedItem
	domain.Position
}

// IssuedItem is one of a batch.
type IssuedItem struct {
	Ref, CertID string
	Handout
}

// Issue proposes a certificate of the caller's department, which its reviewer
// issues. It draws the reference, the check code and a place in the status lists,
// composes the certificate's identifier, commits to the holder and signs the
// credential.
//
// Asking again under one operation is refused as [domain.Exists], naming the
// reference: what went to the holder was told once. While the outcome of the first
// request is open, it stays as unknown to the second, without a handout.
//
// With an error that wraps a [*ledger.OutcomeUnknownError] the answer to the first
// request holds the content and the handout all the same: they are good if the
// transaction turns out to have committed, and nothing can restore them.
func (c *Certificates) Issue(ctx context.Context, caller Caller, r IssueRequest) (Issued, error) {
	const transaction, what = "certificate:Issue", "issue certificates"
	if err := duties[transaction].allow(caller, what); err != nil {
		return Issued{}, err
	}
	if err := c.issuedBefore(ctx, caller, transaction); err != nil {
		return Issued{}, err
	}
	var out Issued
	err := c.issue(ctx, caller, []IssueRequest{r}, "", func(all []prepared) error {
		one := all[0]
		written, err := write[domain.Certificate](ctx, c.ledger, c.index, caller, transaction, what, domain.IssueArgs{Content: one.content})
		out = Issued{Written: written, Handout: one.handout}
		if err != nil {
			out.Value.Content = one.content
		}
		return err
	})
	if err != nil && !isUnknown(err) {
		return Issued{}, c.asRepeated(ctx, caller, transaction, []IssueRequest{r}, err)
	}
	return out, err
}

// IssueBatch proposes up to [domain.MaxBatch] certificates of the caller's
// department in one transaction, all or none; see [Certificates.Issue]. What is
// wrong with one of them is named as in "certificates[3].serial".
func (c *Certificates) IssueBatch(ctx context.Context, caller Caller, requests []IssueRequest) (IssuedBatch, error) {
	const transaction, what = "certificate:IssueBatch", "issue certificates"
	if err := duties[transaction].allow(caller, what); err != nil {
		return IssuedBatch{}, err
	}
	if n := len(requests); n == 0 || n > domain.MaxBatch {
		return IssuedBatch{}, &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf("certificates: must be 1 to %d", domain.MaxBatch)}
	}
	if err := c.issuedBefore(ctx, caller, transaction); err != nil {
		return IssuedBatch{}, err
	}
	var out IssuedBatch
	err := c.issue(ctx, caller, requests, "certificates", func(all []prepared) error {
		args := domain.IssueBatchArgs{Contents: make([]domain.CertificateContent, len(all))}
		out = IssuedBatch{Items: make([]IssuedItem, len(all))}
		for i, one := range all {
			args.Contents[i] = one.content
			out.Items[i] = IssuedItem{Ref: one.content.Ref, CertID: one.content.CertID, Handout: one.handout}
		}
		written, err := write[domain.CertificateBatchResult](ctx, c.ledger, c.index, caller, transaction, what, args)
		out.Position = written.Position
		return err
	})
	if err != nil && !isUnknown(err) {
		return IssuedBatch{}, c.asRepeated(ctx, caller, transaction, requests, named(err))
	}
	return out, err
}

// named puts the names that a caller of IssueBatch knows into a refusal of the
// ledger's.
func named(err error) error {
	var e *domain.Error
	if !errors.As(err, &e) || !strings.Contains(e.Msg, "contents[") {
		return err
	}
	return &domain.Error{Kind: e.Kind, Msg: strings.ReplaceAll(e.Msg, "contents[", "certificates[")}
}

func isUnknown(err error) bool {
	var unknown *ledger.OutcomeUnknownError
	return errors.As(err, &unknown)
}

// prepared is a certificate that is ready for the ledger.
type prepared struct {
	content domain.CertificateContent
	handout Handout
	sealed  string // what the check code shows, see credential.Record
}

// issue prepares certificates and has them submitted, again with other places in
// the status lists when one was taken. at names the list of requests in findings,
// "" for the one that is no list. What is kept of credentials is kept before they
// are submitted and forgotten when the ledger has refused them.
func (c *Certificates) issue(ctx context.Context, caller Caller, requests []IssueRequest, at string, submit func([]prepared) error) error {
	issuer, err := get[domain.Department](ctx, c.index, domain.KindDepartment, string(caller.Department))
	if err != nil {
		return fmt.Errorf("find the issuer: %w", err)
	}
	for attempt := 1; ; attempt++ {
		all, err := c.prepareAll(ctx, issuer.Value, requests, at)
		if err != nil {
			return err
		}
		if err := c.keep(ctx, all); err != nil {
			return err
		}
		err = submit(all)
		if err == nil || isUnknown(err) {
			return err
		}
		if forgetting := c.forget(ctx, all); forgetting != nil {
			return errors.Join(err, forgetting)
		}
		if !placeTaken(err) || attempt == placeAttempts {
			return err
		}
	}
}

// placeTaken reports whether the ledger refused an issue because another
// certificate has its place in the status lists.
func placeTaken(err error) bool {
	var e *domain.Error
	return errors.As(err, &e) && e.Kind == domain.Exists && strings.Contains(e.Msg, "status index ") && !strings.Contains(e.Msg, "certificate id ")
}

func (c *Certificates) prepareAll(ctx context.Context, issuer domain.Department, requests []IssueRequest, at string) ([]prepared, error) {
	places, err := c.places.draw(ctx, c.Random, c.index, issuer.Code, len(requests))
	if err != nil {
		return nil, err
	}
	all := make([]prepared, len(requests))
	together := issuing{issuer: issuer, at: c.Clock().UTC().Truncate(time.Second), refs: references{random: c.Random}}
	var found domain.Refusals
	for i, r := range requests {
		var err error
		if all[i], err = c.prepare(ctx, &together, r, places[i]); err == nil {
			continue
		}
		if at == "" {
			return nil, err
		}
		if !found.Add(fmt.Sprintf("%s[%d]", at, i), err) {
			return nil, fmt.Errorf("%s[%d]: %w", at, i, err)
		}
	}
	return all, found.Err()
}

// issuing is what certificates have in common that are issued together.
type issuing struct {
	issuer domain.Department
	at     time.Time // the date of issue
	refs   references
}

// references draws the references of certificates that are issued together: those that
// can stand in one issuing batch share the first digits, which name it.
type references struct {
	random io.Reader
	open   map[domain.SharedContent]*openBatch
}

// openBatch is an issuing batch that takes more certificates.
type openBatch struct {
	id   string
	rows int
}

func (r *references) draw(shared domain.SharedContent) (string, error) {
	ref, err := randomHex(r.random)
	if err != nil {
		return "", err
	}
	b := r.open[shared]
	if b == nil || b.rows == domain.MaxBatchRows {
		b = &openBatch{id: domain.BatchOf(ref)}
		if r.open == nil {
			r.open = make(map[domain.SharedContent]*openBatch)
		}
		r.open[shared] = b
	}
	b.rows++
	return b.id + ref[len(b.id):], nil
}

// prepare composes what the ledger is to hold of a certificate, and what goes to
// its holder.
func (c *Certificates) prepare(ctx context.Context, together *issuing, r IssueRequest, place int) (prepared, error) {
	issuer := together.issuer
	// The holder's reference is hashed before the ledger's rules see it, so its
	// shape is checked here.
	if !isHex(r.HolderSaltedRef, 64) {
		return prepared{}, &domain.Error{Kind: domain.Invalid, Msg: "holderSaltedRef: must be 64 lower-case hexadecimal digits"}
	}
	id, err := c.identifier(ctx, issuer, r)
	if err != nil {
		return prepared{}, err
	}
	certID, err := id.Compose()
	if err != nil {
		return prepared{}, fmt.Errorf("compose certificate identifier: %w", err)
	}
	content := domain.CertificateContent{
		CertID:        certID,
		TypeCode:      r.TypeCode,
		TypeNameZh:    r.TypeNameZh,
		TypeNameEn:    r.TypeNameEn,
		IssuerUSCC:    issuer.USCC,
		HolderKind:    r.HolderKind,
		IssuedAt:      together.at,
		Validity:      inUTC(domain.Period{From: r.ValidFrom, To: r.ValidTo}),
		ServiceItem:   r.ServiceItem,
		ContentDigest: r.ContentDigest,
		Replaces:      r.Replaces,
		StatusIndex:   place,
	}
	ref, err := together.refs.draw(content.Shared())
	if err != nil {
		return prepared{}, err
	}
	code, err := randomCheckCode(c.Random)
	if err != nil {
		return prepared{}, err
	}
	content.Ref, content.HolderRef, content.CheckCodeHash = ref, domain.HolderCommitment(ref, r.HolderSaltedRef), domain.CheckCodeHash(ref, code)
	p := prepared{content: content, handout: Handout{Link: c.link(ref, code), CheckCode: code}}
	if len(r.Items) == 0 {
		return p, nil
	}
	if r.ContentDigest != "" {
		return prepared{}, &domain.Error{Kind: domain.Invalid, Msg: "contentDigest: must not be given together with items, which are signed here"}
	}
	signed, digest, err := c.sign(issuer, p.content, r.Items)
	if err != nil {
		return prepared{}, err
	}
	p.handout.Credential, p.content.ContentDigest = signed.Credential, digest
	p.sealed, err = seal(ref, code, signed.ByCode)
	return p, err
}

// identifier answers the parts of the identifier: the next version of what is
// replaced, or the first one of a serial.
func (c *Certificates) identifier(ctx context.Context, issuer domain.Department, r IssueRequest) (domain.CertificateID, error) {
	id := domain.CertificateID{TypeCode: r.TypeCode, IssuerCode: issuer.USCC, Serial: r.Serial, Version: firstVersion}
	if r.Replaces == "" {
		return id, nil
	}
	if _, err := ParseRef(r.Replaces); err != nil {
		return id, &domain.Error{Kind: domain.Invalid, Msg: "replaces: must be 32 lower-case hexadecimal digits"}
	}
	old, err := find[domain.Certificate](ctx, c.index, domain.KindCertificate, r.Replaces)
	switch {
	case err != nil:
		return id, err
	case old == nil:
		return id, &domain.Error{Kind: domain.Invalid, Msg: "replaces: not recorded"}
	}
	replaced, err := domain.ParseCertificateID(old.Content.CertID)
	if err != nil {
		return id, fmt.Errorf("certificate %s has an unreadable identifier: %v", r.Replaces, err) //nolint:errorlint // no caller's mistake: drops the kind
	}
	if id.Serial == "" {
		id.Serial = replaced.Serial
	}
	version, err := strconv.Atoi(replaced.Version)
	if err != nil {
		return id, fmt.Errorf("certificate %s has an unreadable version: %w", r.Replaces, err)
	}
	id.Version = fmt.Sprintf("%03d", version+1)
	return id, nil
}

// issuedBefore refuses an operation that the index knows to have issued
// certificates. One that the index does not know yet, the ledger refuses: see
// [Certificates.asRepeated].
func (c *Certificates) issuedBefore(ctx context.Context, caller Caller, transaction string) error {
	if caller.Operation == "" {
		return nil
	}
	done, err := find[domain.Operation](ctx, c.index, domain.KindOperation, domain.OperationID(caller.Department, caller.Operation))
	if err != nil || done == nil || done.Transaction != transaction {
		return err
	}
	var result struct {
		Content struct {
			Ref string `json:"ref"`
		} `json:"content"` // of one certificate
		Batches []string `json:"batches"` // of many
	}
	if err := json.Unmarshal([]byte(done.Result), &result); err != nil { // the parts of it that are asked for
		return fmt.Errorf("indexed operation %s is unreadable: %w", caller.Operation, err)
	}
	refs := []string{result.Content.Ref}
	if result.Content.Ref == "" {
		refs = nil
	}
	for _, id := range result.Batches { // each by its first certificate's
		b, err := get[domain.IssuingBatch](ctx, c.index, domain.KindIssuingBatch, id)
		if err != nil {
			return fmt.Errorf("find what operation %s issued: %w", caller.Operation, err)
		}
		refs = append(refs, b.Value.Refs()[0])
	}
	return &domain.Error{Kind: domain.Exists, Msg: fmt.Sprintf("operation %s issued %s already; links and check codes were told once", caller.Operation, strings.Join(refs, ", "))}
}

// indexPause is how often the index is asked for what the ledger has already.
const indexPause = 50 * time.Millisecond

// asRepeated answers what an issue that was refused is refused with. Each attempt
// draws another reference, so the ledger takes the repetition of one that the
// index did not have yet, or that is on its way, for another transaction of the same
// operation. That must not read as if nothing had been issued.
func (c *Certificates) asRepeated(ctx context.Context, caller Caller, transaction string, requests []IssueRequest, refused error) error {
	var under *ledger.UnderWayError
	if errors.As(refused, &under) && under.First.Transaction == transaction && repeats(under.First, requests) {
		return fmt.Errorf("%s: %w", transaction, under.Unknown)
	}
	if !domain.IsOperationReused(refused) {
		return refused
	}
	ctx, cancel := context.WithTimeout(ctx, ownWriteWait)
	defer cancel()
	for {
		done, err := find[domain.Operation](ctx, c.index, domain.KindOperation, domain.OperationID(caller.Department, caller.Operation))
		switch {
		case err == nil && done != nil && done.Transaction != transaction:
			return refused
		case err == nil && done != nil:
			return c.issuedBefore(ctx, caller, transaction)
		}
		if !pause(ctx, indexPause) {
			return &domain.Error{Kind: domain.Exists, Msg: fmt.Sprintf("operation %s was run before; what it issued is not known here yet", caller.Operation)}
		}
	}
}

// repeats reports whether a transaction that issues was made of the same requests, as
// far as that can be told: items are in it as a digest under salts.
func repeats(first ledger.Request, requests []IssueRequest) bool {
	var one domain.IssueArgs
	var many domain.IssueBatchArgs
	var err error
	if first.Transaction == "certificate:Issue" {
		err = domain.ParseCanonical(first.Argument, &one)
		many.Contents = []domain.CertificateContent{one.Content}
	} else {
		err = domain.ParseCanonical(first.Argument, &many)
	}
	if err != nil { // this gateway made it
		return false
	}
	return slices.EqualFunc(many.Contents, requests, func(c domain.CertificateContent, r IssueRequest) bool {
		id, err := domain.ParseCertificateID(c.CertID)
		period := inUTC(domain.Period{From: r.ValidFrom, To: r.ValidTo})
		return err == nil && (id.Serial == r.Serial || r.Serial == "" && r.Replaces != "") &&
			c.TypeCode == r.TypeCode && c.TypeNameZh == r.TypeNameZh && c.TypeNameEn == r.TypeNameEn &&
			c.HolderKind == r.HolderKind && c.HolderRef == domain.HolderCommitment(c.Ref, r.HolderSaltedRef) &&
			c.Validity.From.Equal(period.From) && c.Validity.To.Equal(period.To) &&
			c.ServiceItem == r.ServiceItem && c.Replaces == r.Replaces &&
			(len(r.Items) > 0 || c.ContentDigest == r.ContentDigest)
	})
}

// Propose proposes a change of the status of a certificate of the caller's
// department, on which its reviewer decides.
func (c *Certificates) Propose(ctx context.Context, caller Caller, args domain.ProposeArgs) (Written[domain.Certificate], error) {
	args.Act.EffectiveAt = args.Act.EffectiveAt.UTC()
	return write[domain.Certificate](ctx, c.ledger, c.index, caller, "certificate:Propose", "propose changes of certificates", args)
}

// Decide decides on the issue of a certificate of the caller's department, or on a
// proposed change of its status.
func (c *Certificates) Decide(ctx context.Context, caller Caller, args domain.DecideArgs) (Written[domain.Certificate], error) {
	return write[domain.Certificate](ctx, c.ledger, c.index, caller, "certificate:Decide", "decide on certificates", args)
}

// DecideBatch gives one decision on many certificates, all or none.
func (c *Certificates) DecideBatch(ctx context.Context, caller Caller, args domain.DecideBatchArgs) (Written[domain.CertificateBatchResult], error) {
	return write[domain.CertificateBatchResult](ctx, c.ledger, c.index, caller, "certificate:DecideBatch", "decide on certificates", args)
}

// Authorise lets a department issue a type of certificate, or changes what is
// recorded of that.
func (c *Certificates) Authorise(ctx context.Context, caller Caller, args domain.AuthoriseArgs) (Written[domain.Authorisation], error) {
	args.Period = inUTC(args.Period)
	return write[domain.Authorisation](ctx, c.ledger, c.index, caller, "certificate:Authorise", "authorise issuers", args)
}

// EndAuthorisation ends an authorisation. What was issued under it stays valid.
func (c *Certificates) EndAuthorisation(ctx context.Context, caller Caller, args domain.EndAuthorisationArgs) (Written[domain.Authorisation], error) {
	return write[domain.Authorisation](ctx, c.ledger, c.index, caller, "certificate:EndAuthorisation", "end authorisations", args)
}

// Authorisations answers the register of issuers, from the index.
func (c *Certificates) Authorisations(ctx context.Context, filter index.Filter, page index.Page) (Listed[domain.Authorisation], error) {
	return list[domain.Authorisation](ctx, c.index, domain.KindIssuer, filter, page)
}

// Get answers the certificate with this reference, from the index.
func (c *Certificates) Get(ctx context.Context, ref string) (Written[domain.Certificate], error) {
	return get[domain.Certificate](ctx, c.index, domain.KindCertificate, ref)
}

// List answers certificates in order of reference, from the index.
func (c *Certificates) List(ctx context.Context, filter index.Filter, page index.Page) (Listed[domain.Certificate], error) {
	return list[domain.Certificate](ctx, c.index, domain.KindCertificate, filter, page)
}

// randomCheckCode draws a check code. Every character is equally likely, because
// 256 is a multiple of the alphabet's 32.
func randomCheckCode(random io.Reader) (string, error) {
	var b [checkCodeLength]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("draw random bits: %w", err)
	}
	for i := range b {
		b[i] = checkCodeAlphabet[int(b[i])%len(checkCodeAlphabet)]
	}
	return string(b[:]), nil
}

// isHex reports whether s is n lower-case hexadecimal digits.
func isHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}
