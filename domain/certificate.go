package domain

import (
	"errors"
	"time"
)

// CertificateStatus is the status of an electronic certificate 电子证照.
type CertificateStatus string

// The statuses. Valid and revoked are stored; not yet valid and expired follow
// from the validity period when [Certificate.StatusAt] is asked.
const (
	CertificateValid       CertificateStatus = "valid"         // 有效
	CertificateRevoked     CertificateStatus = "revoked"       // 撤销
	CertificateNotYetValid CertificateStatus = "not_yet_valid" // 未到生效日
	CertificateExpired     CertificateStatus = "expired"       // 失效
)

// CertificateContent is what the issuing department puts on the ledger of a
// certificate. The certificate itself stays with the issuer and the holder.
type CertificateContent struct {
	Ref           string    `json:"ref"`      // 128 random bits, 32 lower-case hexadecimal digits
	CertID        string    `json:"certId"`   // 电子证照标识, OID root 1.2.156.3005.2 … check character
	TypeCode      string    `json:"typeCode"` // 证照类型代码, 21 characters
	TypeNameZh    string    `json:"typeNameZh"`
	TypeNameEn    string    `json:"typeNameEn"`
	IssuerUSCC    string    `json:"issuerUscc"` // 颁发机构代码
	HolderKind    string    `json:"holderKind"` // person 自然人 or organisation 法人
	HolderRef     string    `json:"holderRef"`  // salted commitment, SHA-256, hexadecimal
	IssuedAt      time.Time `json:"issuedAt"`   // 颁发日期
	Validity      Period    `json:"validity"`
	ServiceItem   string    `json:"serviceItem"`
	ContentDigest string    `json:"contentDigest"` // SHA-256 of the issuer-signed content, hexadecimal
	CheckCodeHash string    `json:"checkCodeHash"` // see [CheckCodeHash]
}

// StatusAct is the administrative act behind a change of status.
type StatusAct struct {
	DocumentNo  string    `json:"documentNo"` // 决定文书号
	LegalBasis  string    `json:"legalBasis"`
	ReasonCode  string    `json:"reasonCode"`
	EffectiveAt time.Time `json:"effectiveAt"` // not after the transaction time
}

// Certificate is the ledger's record of a certificate.
type Certificate struct {
	Meta
	Issuer      DepartmentCode     `json:"issuer"`
	Content     CertificateContent `json:"content"`
	Status      CertificateStatus  `json:"status"` // valid or revoked
	StatusSince time.Time          `json:"statusSince"`
	StatusAct   *StatusAct         `json:"statusAct,omitempty"` // nil while valid
	Seq         int                `json:"seq"`
}

// CertificateEvent is one step in the life of a certificate.
type CertificateEvent struct {
	Meta
	Ref    string            `json:"ref"`
	Seq    int               `json:"seq"`   // 1 is the issue
	Event  string            `json:"event"` // issue, revoke
	Status CertificateStatus `json:"status"`
	Act    *StatusAct        `json:"act,omitempty"`
}

// IssuedID says which certificate bears an identifier 电子证照标识. It is written
// with the certificate and never again: the identifier belongs to that
// certificate for ever, revoked or not.
type IssuedID struct {
	Meta
	CertID string `json:"certId"`
	Ref    string `json:"ref"`
}

// IssueArgs are the argument of certificate:Issue.
type IssueArgs struct {
	Content CertificateContent `json:"content"`
}

// RevokeArgs are the argument of certificate:Revoke (撤销, issued wrongly).
type RevokeArgs struct {
	Ref string    `json:"ref"`
	Act StatusAct `json:"act"`
}

// RefArgs name a certificate: the argument of certificate:Get.
type RefArgs struct {
	Ref string `json:"ref"`
}

// The kinds of holder.
const (
	HolderPerson       = "person"       // 自然人
	HolderOrganisation = "organisation" // 法人
)

// Validate reports everything that is wrong with the content.
func (c CertificateContent) Validate() error {
	var f findings
	c.check(&f)
	return f.err()
}

func (c CertificateContent) check(f *findings) {
	f.match("ref", c.Ref, hex32Shape, hex32Rule)
	if id, err := ParseCertificateID(c.CertID); err != nil {
		var e *Error
		if errors.As(err, &e) {
			f.add("certId", e.Msg)
		}
	} else {
		if id.TypeCode != c.TypeCode {
			f.add("certId", "names another type than typeCode")
		}
		if id.IssuerCode != c.IssuerUSCC {
			f.add("certId", "names another issuer than issuerUscc")
		}
	}
	if !validTypeCode(c.TypeCode) {
		f.add("typeCode", typeCodeRule)
	}
	f.required("typeNameZh", c.TypeNameZh, MaxName)
	f.required("typeNameEn", c.TypeNameEn, MaxName)
	f.uscc("issuerUscc", c.IssuerUSCC)
	oneOf(f, "holderKind", c.HolderKind, HolderPerson, HolderOrganisation)
	f.match("holderRef", c.HolderRef, hex64Shape, hex64Rule)
	f.time("issuedAt", c.IssuedAt)
	f.period("validity", c.Validity)
	if c.ServiceItem != "" {
		f.serviceItem("serviceItem", c.ServiceItem)
	}
	f.match("contentDigest", c.ContentDigest, hex64Shape, hex64Rule)
	f.match("checkCodeHash", c.CheckCodeHash, hex64Shape, hex64Rule)
}

// Validate reports everything that is wrong with the argument.
func (a IssueArgs) Validate() error {
	f := findings{prefix: "content."}
	a.Content.check(&f)
	return f.err()
}

// Validate reports everything that is wrong with the argument.
func (a RevokeArgs) Validate() error {
	var f findings
	f.match("ref", a.Ref, hex32Shape, hex32Rule)
	f.prefix = "act."
	f.required("documentNo", a.Act.DocumentNo, MaxName)
	f.required("legalBasis", a.Act.LegalBasis, MaxText)
	f.match("reasonCode", a.Act.ReasonCode, resultShape, "must be 1 to 40 characters of a-z 0-9 _, a letter first")
	f.time("effectiveAt", a.Act.EffectiveAt)
	return f.err()
}

// Validate reports everything that is wrong with the argument.
func (a RefArgs) Validate() error {
	var f findings
	f.match("ref", a.Ref, hex32Shape, hex32Rule)
	return f.err()
}

func certificateState(c *Certificate) string {
	if c == nil {
		return Absent
	}
	return string(c.Status)
}

// IssueCertificate records a certificate of the caller's department, dept.
// existing is the certificate under the same reference, issued what is recorded
// of its identifier. A reference is fresh at every attempt, so it is the
// identifier, with the issuer's own serial in it, that keeps an issue repeated
// after a lost answer from making a second certificate; the refusal names the
// reference of the first.
func IssueCertificate(existing *Certificate, issued *IssuedID, who Caller, dept Department, tx Tx, args IssueArgs) (Certificate, CertificateEvent, IssuedID, error) {
	fail := func(err error) (Certificate, CertificateEvent, IssuedID, error) {
		return Certificate{}, CertificateEvent{}, IssuedID{}, err
	}
	if err := args.Validate(); err != nil {
		return fail(err)
	}
	to, err := move{
		who: who, kind: KindCertificate, what: "certificate " + args.Content.Ref,
		transaction: "certificate:Issue", from: certificateState(existing),
		acts: func(s Side) bool { return s == SideAny },
	}.next()
	if err != nil {
		return fail(err)
	}
	if args.Content.IssuerUSCC != dept.USCC {
		return fail(refuse(Invalid, "content.issuerUscc: not the code of department %s", dept.Code))
	}
	// After the issuer: only the department whose code is in the identifier learns
	// the reference.
	if issued != nil {
		return fail(refuse(Exists, "certificate id %s is already issued as %s", issued.CertID, issued.Ref))
	}
	if after(args.Content.IssuedAt, tx) {
		return fail(refuse(Invalid, "content.issuedAt: after the transaction's time"))
	}
	c := Certificate{
		Issuer: who.Department, Content: args.Content,
		Status: CertificateStatus(to), StatusSince: tx.Time, Seq: 1,
	}
	e := CertificateEvent{Ref: args.Content.Ref, Seq: 1, Event: "issue", Status: c.Status}
	id := IssuedID{CertID: args.Content.CertID, Ref: args.Content.Ref}
	if err := seal(&c, SchemaCertificate, who, tx); err != nil {
		return fail(err)
	}
	if err := seal(&e, SchemaCertificateEvent, who, tx); err != nil {
		return fail(err)
	}
	if err := seal(&id, SchemaCertificateID, who, tx); err != nil {
		return fail(err)
	}
	return c, e, id, nil
}

// RevokeCertificate records that the issuer revokes 撤销 a certificate.
func RevokeCertificate(existing *Certificate, who Caller, tx Tx, args RevokeArgs) (Certificate, CertificateEvent, error) {
	fail := func(err error) (Certificate, CertificateEvent, error) { return Certificate{}, CertificateEvent{}, err }
	if err := args.Validate(); err != nil {
		return fail(err)
	}
	what := "certificate " + args.Ref
	to, err := move{
		who: who, kind: KindCertificate, what: what,
		transaction: "certificate:Revoke", from: certificateState(existing),
		acts: func(s Side) bool { return s == SideOwner && existing != nil && existing.Issuer == who.Department },
	}.next()
	if err != nil {
		return fail(err)
	}
	if err := notBefore(what, existing.Meta, tx); err != nil {
		return fail(err)
	}
	switch {
	case after(args.Act.EffectiveAt, tx):
		return fail(refuse(Invalid, "act.effectiveAt: after the transaction's time"))
	case args.Act.EffectiveAt.Before(existing.Content.IssuedAt):
		return fail(refuse(Invalid, "act.effectiveAt: before the certificate was issued"))
	}
	c := *existing
	act := args.Act
	c.Status, c.StatusSince, c.StatusAct, c.Seq = CertificateStatus(to), act.EffectiveAt, &act, existing.Seq+1
	e := CertificateEvent{Ref: args.Ref, Seq: c.Seq, Event: "revoke", Status: c.Status, Act: &act}
	if err := seal(&c, SchemaCertificate, who, tx); err != nil {
		return fail(err)
	}
	if err := seal(&e, SchemaCertificateEvent, who, tx); err != nil {
		return fail(err)
	}
	return c, e, nil
}

// after reports whether t lies after the transaction's time, to the millisecond
// that a transaction's time has: a gateway takes both from one clock.
func after(t time.Time, tx Tx) bool { return t.Truncate(time.Millisecond).After(tx.Time) }

// StatusAt is the status of the certificate at t, as far as this record tells.
// A revocation counts from the day it takes effect and outlasts the validity
// period.
func (c Certificate) StatusAt(t time.Time) CertificateStatus {
	switch {
	case c.Status != CertificateValid && !t.Before(c.StatusSince):
		return c.Status
	case t.Before(c.Content.Validity.From):
		return CertificateNotYetValid
	case !t.Before(c.Content.Validity.To):
		return CertificateExpired
	}
	return CertificateValid
}
