package service

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

const (
	// checkCodeAlphabet has 32 characters that nobody mistakes for one another:
	// no I, O, 0 and 1.
	checkCodeAlphabet = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
	checkCodeLength   = 10 // 50 bits: it is guarded by its reference's 128

	// firstVersion is the version part of an identifier: replacements, which
	// would raise it, do not exist yet.
	firstVersion = "001"
)

// Certificates issues, revokes and finds certificates. It is safe for concurrent
// use.
type Certificates struct {
	// Random and Clock are what references, check codes and dates of issue come
	// from. NewCertificates sets them to the operating system's; set them before
	// the first use only.
	Random io.Reader
	Clock  func() time.Time

	ledger    ledger.Ledger
	index     index.Index
	publicURL string
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
	TypeNameZh      string
	TypeNameEn      string
	HolderKind      string // person or organisation
	HolderSaltedRef string // 64 lower-case hexadecimal digits: the issuer's own salted reference to the holder; it stays here
	ValidFrom       time.Time
	ValidTo         time.Time // the first moment after
	ServiceItem     string
	ContentDigest   string // SHA-256 of the issuer-signed content, hexadecimal
	Serial          string // 流水号, unique at this issuer
}

// Issued is an issued certificate with what goes to its holder and is kept
// nowhere: the link that a QR code carries and the check code in it.
type Issued struct {
	Written[domain.Certificate]
	Link      string // {publicURL}/v/{ref}#{check code}
	CheckCode string
}

// Issue puts a certificate of the caller's department on the ledger. It draws
// the reference and the check code, composes the certificate's identifier and
// commits to the holder.
//
// Asking again under one operation is refused as [domain.Exists], naming the
// reference: what went to the holder was told once.
//
// With an error that wraps a [*ledger.OutcomeUnknownError] the answer holds the
// content, link and check code all the same: they are good if the transaction
// turns out to have committed, and nothing can restore them.
func (c *Certificates) Issue(ctx context.Context, caller Caller, r IssueRequest) (Issued, error) {
	const transaction, what = "certificate:Issue", "issue certificates"
	if err := duties[transaction].allow(caller, what); err != nil {
		return Issued{}, err
	}
	// The holder's reference is hashed before the ledger's rules see it, so its
	// shape is checked here.
	if !isHex(r.HolderSaltedRef, 64) {
		return Issued{}, &domain.Error{Kind: domain.Invalid, Msg: "holderSaltedRef: must be 64 lower-case hexadecimal digits"}
	}
	if err := c.issuedBefore(ctx, caller, transaction); err != nil {
		return Issued{}, err
	}
	issuer, err := get[domain.Department](ctx, c.index, domain.KindDepartment, string(caller.Department))
	if err != nil {
		return Issued{}, fmt.Errorf("find the issuer: %w", err)
	}
	certID, err := domain.CertificateID{
		TypeCode: r.TypeCode, IssuerCode: issuer.Value.USCC, Serial: r.Serial, Version: firstVersion,
	}.Compose()
	if err != nil {
		return Issued{}, fmt.Errorf("compose certificate identifier: %w", err)
	}
	ref, err := randomHex(c.Random)
	if err != nil {
		return Issued{}, err
	}
	code, err := randomCheckCode(c.Random)
	if err != nil {
		return Issued{}, err
	}
	content := domain.CertificateContent{
		Ref:           ref,
		CertID:        certID,
		TypeCode:      r.TypeCode,
		TypeNameZh:    r.TypeNameZh,
		TypeNameEn:    r.TypeNameEn,
		IssuerUSCC:    issuer.Value.USCC,
		HolderKind:    r.HolderKind,
		HolderRef:     domain.HolderCommitment(ref, r.HolderSaltedRef),
		IssuedAt:      c.Clock().UTC().Truncate(time.Second),
		Validity:      inUTC(domain.Period{From: r.ValidFrom, To: r.ValidTo}),
		ServiceItem:   r.ServiceItem,
		ContentDigest: r.ContentDigest,
		CheckCodeHash: domain.CheckCodeHash(ref, code),
	}
	issued := Issued{Link: c.publicURL + "/v/" + ref + "#" + code, CheckCode: code}
	issued.Written, err = write[domain.Certificate](ctx, c.ledger, c.index, caller, transaction, what, domain.IssueArgs{Content: content})
	if err != nil {
		issued.Value.Content = content
		return issued, err
	}
	return issued, nil
}

// issuedBefore refuses an operation that the index knows to have issued a
// certificate. One that the index does not know yet, the ledger refuses: a
// certificate issued anew is never the same.
func (c *Certificates) issuedBefore(ctx context.Context, caller Caller, transaction string) error {
	if caller.Operation == "" {
		return nil
	}
	done, err := find[domain.Operation](ctx, c.index, domain.KindOperation, domain.OperationID(caller.Department, caller.Operation))
	if err != nil || done == nil || done.Transaction != transaction {
		return err
	}
	var issued domain.Certificate
	if err := domain.ParseCanonical([]byte(done.Result), &issued); err != nil {
		return fmt.Errorf("indexed operation %s is unreadable: %v", caller.Operation, err) //nolint:errorlint // drops the kind
	}
	return &domain.Error{Kind: domain.Exists, Msg: "operation " + caller.Operation + " issued certificate " + issued.Content.Ref + " already; its link and check code were told once"}
}

// Revoke withdraws a certificate of the caller's department that was issued
// wrongly 撤销.
func (c *Certificates) Revoke(ctx context.Context, caller Caller, args domain.RevokeArgs) (Written[domain.Certificate], error) {
	args.Act.EffectiveAt = args.Act.EffectiveAt.UTC()
	return write[domain.Certificate](ctx, c.ledger, c.index, caller, "certificate:Revoke", "revoke certificates", args)
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
