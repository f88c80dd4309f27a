package service

import (
	"context"
	"fmt"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/credential"
	"github.com/zhenglian/zhenglian/gateway/print"
	"github.com/zhenglian/zhenglian/proof"
)

// Issuing is what a department issues and prints credentials with. The store is the
// only place where a gateway keeps personal data.
type Issuing struct {
	Issuer  *credential.Issuer
	Store   credential.Store
	Reader  *credential.Verifier // of what is kept
	Printer Printer

	// Prove answers the proof file that goes with what is printed; see
	// [Verifier.Proof].
	Prove func(ctx context.Context, kind, id string) ([]byte, proof.Verdict, error)
}

// Printer makes the paper form of a certificate.
type Printer interface {
	PDF(print.Certificate) ([]byte, error)
}

// printing is not a transaction: nothing is recorded of it.
var printing = duty{rule: "printing certificates is for role operator of the issuer", roles: []domain.Role{domain.RoleOperator}}

// Print answers the paper form of a certificate of the caller's department as a PDF,
// with its proof file attached. The certificate must be valid, or be so from a day to
// come, and its credential kept here: it was issued with items, by this gateway.
func (c *Certificates) Print(ctx context.Context, caller Caller, ref string) ([]byte, error) {
	if err := printing.allow(caller, "print certificates"); err != nil {
		return nil, err
	}
	certificate, err := c.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	content, now := certificate.Value.Content, c.Clock().UTC()
	if certificate.Value.Issuer != caller.Department {
		return nil, &domain.Error{Kind: domain.Forbidden, Msg: "the certificate is another department's; rule: " + printing.rule}
	}
	if status := certificate.Value.StatusAt(now); certificate.Value.Status != domain.CertificateValid || status == domain.CertificateExpired {
		return nil, &domain.Error{Kind: domain.WrongState, Msg: fmt.Sprintf("certificate %s is %s; only a valid one is printed", ref, status)}
	}
	if c.Issuing == nil {
		return nil, &domain.Error{Kind: domain.NotFound, Msg: "this gateway keeps no credentials: it has no issuing key"}
	}
	issuer, err := get[domain.Department](ctx, c.index, domain.KindDepartment, string(caller.Department))
	if err != nil {
		return nil, fmt.Errorf("find the issuer: %w", err)
	}
	kept, err := c.Issuing.Store.Get(ctx, ref)
	if domain.KindOf(err) == domain.NotFound {
		return nil, &domain.Error{Kind: domain.NotFound, Msg: "no credential of this certificate is kept here: it was issued without items, or elsewhere"}
	}
	if err != nil {
		return nil, fmt.Errorf("read the credential: %w", err)
	}
	read, err := c.Issuing.Reader.Verify(kept.Credential, time.Time{})
	if err != nil {
		return nil, fmt.Errorf("the kept credential of certificate %s does not verify: %v", ref, err) //nolint:errorlint // no caller's mistake: drops the kind
	}
	if read.Digest != content.ContentDigest {
		return nil, fmt.Errorf("the kept credential of certificate %s is not the one on the ledger", ref)
	}
	bundle, _, err := c.Issuing.Prove(ctx, string(domain.KindCertificate), ref)
	if err != nil {
		return nil, fmt.Errorf("prove what is printed: %w", err)
	}
	return c.Issuing.Printer.PDF(print.Certificate{
		TypeNameZh: content.TypeNameZh, TypeNameEn: content.TypeNameEn, CertID: content.CertID, Ref: ref,
		IssuerZh: issuer.Value.NameZh, IssuerEn: issuer.Value.NameEn, IssuerUSCC: content.IssuerUSCC,
		IssuedAt: content.IssuedAt, Validity: content.Validity, Items: read.Items,
		Link: c.link(ref, kept.CheckCode), CheckCode: kept.CheckCode, PrintedAt: now, ProofName: "certificate.zlproof", Proof: bundle,
	})
}

// link is what a holder's QR code carries.
func (c *Certificates) link(ref, code string) string { return c.publicURL + "/v/" + ref + "#" + code }

// sign answers the credential of a certificate with these items, and its digest.
func (c *Certificates) sign(issuer domain.Department, content domain.CertificateContent, items []credential.Item) (signed credential.Issued, digest string, err error) {
	if c.Issuing == nil {
		return signed, "", &domain.Error{Kind: domain.Invalid, Msg: "items: this gateway has no issuing key; give the contentDigest of what was signed elsewhere"}
	}
	list := func(p StatusPurpose) string {
		return fmt.Sprintf("%s/v1/status-lists/%s/%s/%d", c.publicURL, issuer.Code, p, content.StatusIndex/domain.StatusListLength)
	}
	signed, err = c.Issuing.Issuer.Issue(credential.Claims{
		Issuer: issuer.Code, IssuerUSCC: issuer.USCC, Ref: content.Ref, CertID: content.CertID,
		TypeCode: content.TypeCode, TypeNameZh: content.TypeNameZh, TypeNameEn: content.TypeNameEn,
		IssuedAt: content.IssuedAt, Validity: content.Validity,
		Status: credential.Status{
			Index: content.StatusIndex % domain.StatusListLength, Revocation: list(RevocationList), Suspension: list(SuspensionList),
		},
	}, items)
	if err != nil {
		return signed, "", fmt.Errorf("sign the credential: %w", err)
	}
	if digest, err = credential.Digest(signed.Credential); err != nil {
		return signed, "", fmt.Errorf("digest of the credential: %w", err)
	}
	return signed, digest, nil
}

// keep keeps the credentials that are about to be submitted: if the answer of the
// ledger is lost they may be on it.
func (c *Certificates) keep(ctx context.Context, all []prepared) error {
	var records []credential.Record
	for _, p := range all {
		if p.handout.Credential != "" {
			records = append(records, credential.Record{Ref: p.content.Ref, Credential: p.handout.Credential, CheckCode: p.handout.CheckCode, Sealed: p.sealed})
		}
	}
	if len(records) == 0 {
		return nil
	}
	if err := c.Issuing.Store.Put(ctx, records...); err != nil {
		return fmt.Errorf("keep the credentials: %w", err)
	}
	return nil
}

// forget forgets credentials of certificates that were not issued.
func (c *Certificates) forget(ctx context.Context, all []prepared) error {
	var refs []string
	for _, p := range all {
		if p.handout.Credential != "" {
			refs = append(refs, p.content.Ref)
		}
	}
	if len(refs) == 0 {
		return nil
	}
	if err := c.Issuing.Store.Delete(context.WithoutCancel(ctx), refs...); err != nil {
		return fmt.Errorf("forget credentials of certificates that were not issued: %w", err)
	}
	return nil
}
