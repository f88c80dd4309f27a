package domain

import (
	"errors"
	"fmt"
	"time"
)

// CertificateStatus is the status of an electronic certificate 电子证照.
type CertificateStatus string

// The statuses. The last two are never stored: they follow from the validity
// period, and from when the certificate was issued, when [Certificate.StatusAt] is
// asked. 撤销, 吊销 and 注销 are different acts in law and are never merged.
const (
	CertificateProposed    CertificateStatus = "proposed"      // 待审核, waits for the reviewer
	CertificateRejected    CertificateStatus = "rejected"      // 不予颁发, was never issued
	CertificateValid       CertificateStatus = "valid"         // 有效
	CertificateSuspended   CertificateStatus = "suspended"     // 暂扣
	CertificateSuperseded  CertificateStatus = "superseded"    // 已被替代, by a later version
	CertificateRevoked     CertificateStatus = "revoked"       // 撤销, issued wrongly
	CertificateWithdrawn   CertificateStatus = "withdrawn"     // 吊销, a penalty
	CertificateCancelled   CertificateStatus = "cancelled"     // 注销, by the holder or by procedure
	CertificateNotYetValid CertificateStatus = "not_yet_valid" // 未到生效日
	CertificateExpired     CertificateStatus = "expired"       // 失效
)

// StatusEvent is a change of a certificate's status that an operator proposes.
type StatusEvent string

// The changes that may be proposed. A replacement 变更、延续 is proposed with the
// certificate that replaces.
const (
	SuspendCertificate  StatusEvent = "suspend"  // 暂扣
	RestoreCertificate  StatusEvent = "restore"  // 暂扣发还
	RevokeCertificate   StatusEvent = "revoke"   // 撤销
	WithdrawCertificate StatusEvent = "withdraw" // 吊销
	CancelCertificate   StatusEvent = "cancel"   // 注销

	// An objection 异议 changes no status: whoever verifies the certificate is told of
	// it while it is open. Two persons decide on it all the same, because a notice
	// beside a good certificate harms its holder as a wrong suspension does.
	ObjectCertificate StatusEvent = "object" // 异议登记, opens an objection
	SettleCertificate StatusEvent = "settle" // 异议办结, closes it
)

// CertificateDecision is what a reviewer decides on an issue or a change.
type CertificateDecision string

// The decisions.
const (
	ApproveCertificate CertificateDecision = "approve"
	RejectCertificate  CertificateDecision = "reject"
)

// Each certificate has a bit of its own in its issuer's status lists, at its
// status index; index / StatusListLength is the list's number, index %
// StatusListLength the bit's place in it. The length is the smallest that W3C
// Bitstring Status List allows, so that whoever reads a list hides among as many.
const (
	StatusListLength = 131_072
	MaxStatusIndex   = 1<<24 - 1
)

// MaxStatusChanges is how many changes of status a certificate remembers. The
// last ones are kept for what ends it.
const MaxStatusChanges = 64

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
	ContentDigest string    `json:"contentDigest"`      // SHA-256 of the issuer-signed content, hexadecimal
	CheckCodeHash string    `json:"checkCodeHash"`      // see [CheckCodeHash]
	Replaces      string    `json:"replaces,omitempty"` // reference of the certificate that it replaces 关联证照
	StatusIndex   int       `json:"statusIndex"`        // its bit in the issuer's status lists, 0 to [MaxStatusIndex]
}

// StatusAct is the administrative act behind a change of status.
type StatusAct struct {
	DocumentNo  string    `json:"documentNo"` // 决定文书号
	LegalBasis  string    `json:"legalBasis"`
	ReasonCode  string    `json:"reasonCode"`
	EffectiveAt time.Time `json:"effectiveAt"` // not after the transaction time
}

// StatusChange is one status that a certificate was given.
type StatusChange struct {
	Status     CertificateStatus `json:"status"`
	Since      time.Time         `json:"since"`               // when the act takes effect; without an act, when it was decided
	RecordedAt time.Time         `json:"recordedAt"`          // transaction time of the decision
	Act        *StatusAct        `json:"act,omitempty"`       // nil for an issue, its refusal and a replacement
	Successor  string            `json:"successor,omitempty"` // reference of what replaces it
}

// Objection is a dispute about a certificate that its issuer has recorded and not
// settled.
type Objection struct {
	Act        StatusAct `json:"act"`        // EffectiveAt is since when it is open
	RecordedAt time.Time `json:"recordedAt"` // transaction time of the decision
}

// StatusProposal is a change of status that waits for the reviewer.
type StatusProposal struct {
	Event      StatusEvent `json:"event"`
	Act        StatusAct   `json:"act"`
	ProposedBy Role        `json:"proposedBy"`
	ProposedAt time.Time   `json:"proposedAt"` // transaction time
}

// Certificate is the ledger's record of a certificate. Status, StatusSince,
// StatusAct and Successor repeat the last of Changes; before the first decision
// the certificate is proposed, since the proposal.
type Certificate struct {
	Meta
	Issuer      DepartmentCode     `json:"issuer"`
	Content     CertificateContent `json:"content"`
	Status      CertificateStatus  `json:"status"`
	StatusSince time.Time          `json:"statusSince"`
	StatusAct   *StatusAct         `json:"statusAct,omitempty"`
	Changes     []StatusChange     `json:"changes"`             // every decided status, oldest first, at most [MaxStatusChanges]
	Pending     *StatusProposal    `json:"pending,omitempty"`   // not decided yet
	Successor   string             `json:"successor,omitempty"` // reference of what replaces it
	Opinion     string             `json:"opinion"`             // the reviewer's, of the last decision
	Seq         int                `json:"seq"`                 // transactions that changed the record, 1 is the proposal

	OpenObjection *Objection `json:"openObjection,omitempty"`
}

// IssuedID says which certificate bears an identifier 电子证照标识. The identifier is
// taken with the certificate and belongs to it for ever, revoked or not; only the
// refusal of the issue frees it, because nothing was issued then. Under the
// identifier's key the ledger holds the reference alone, as a JSON string, which says
// nothing by itself; see [Batch.IssuedID].
type IssuedID struct {
	Meta
	CertID string `json:"certId"`
	Ref    string `json:"ref"`
}

// CertificateChange is what a transaction does to a certificate.
type CertificateChange struct {
	Certificate Certificate
	New         bool         // it takes its identifier and its status index
	Predecessor *Certificate // superseded by the certificate
	FreedID     string       // the identifier that is free again; "" for none
}

// IssueArgs are the argument of certificate:Issue.
type IssueArgs struct {
	Content CertificateContent `json:"content"`
}

// IssueBatchArgs are the argument of certificate:IssueBatch. In JSON what neighbours
// have in common is told once: a transaction's bytes are most of its cost.
type IssueBatchArgs struct {
	// 1 to [MaxBatch], of different references, identifiers and status indexes. Those
	// with the same first [BatchPart] digits of the reference become one issuing batch:
	// they have their [SharedContent] in common and are at most [MaxBatchRows].
	Contents []CertificateContent
}

// ProposeArgs are the argument of certificate:Propose.
type ProposeArgs struct {
	Ref   string      `json:"ref"`
	Event StatusEvent `json:"event"`
	Act   StatusAct   `json:"act"`
}

// DecideArgs are the argument of certificate:Decide. A rejection needs an
// opinion.
type DecideArgs struct {
	Ref      string              `json:"ref"`
	Decision CertificateDecision `json:"decision"`
	Opinion  string              `json:"opinion"`
}

// DecideBatchArgs are the argument of certificate:DecideBatch, on 1 to [MaxBatch]
// certificates.
type DecideBatchArgs struct {
	Refs     []string            `json:"refs"`
	Decision CertificateDecision `json:"decision"`
	Opinion  string              `json:"opinion"`
}

// CertificateBatchResult is what a batch of certificates answers: the whole
// records would be the larger part of a block.
type CertificateBatchResult struct {
	Batches []string          `json:"batches"` // ids of the issuing batches that were written or changed
	Count   int               `json:"count"`   // of the certificates asked for
	Status  CertificateStatus `json:"status"`  // of all these after the transaction; "" when they differ
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

// firstVersion is the version of an identifier that replaces no other.
const firstVersion = "001"

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
		if c.Replaces == "" && id.Version != firstVersion {
			f.add("certId", "the version must be 001 unless the certificate replaces another")
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
	if c.Replaces != "" {
		f.match("replaces", c.Replaces, hex32Shape, hex32Rule)
		if c.Replaces == c.Ref {
			f.add("replaces", "is the certificate itself")
		}
	}
	if c.StatusIndex < 0 || c.StatusIndex > MaxStatusIndex {
		f.add("statusIndex", fmt.Sprintf("must be 0 to %d", MaxStatusIndex))
	}
}

// Validate reports everything that is wrong with the argument.
func (a IssueArgs) Validate() error {
	f := findings{prefix: "content."}
	a.Content.check(&f)
	return f.err()
}

// Validate reports everything that is wrong with the argument: of every
// certificate, and what no two of them may have in common.
func (a IssueBatchArgs) Validate() error {
	var f findings
	a.check(&f)
	return f.err()
}

// check reports whether the number of certificates is right; it does not look at
// them otherwise.
func (a IssueBatchArgs) check(f *findings) bool {
	if !f.batch("contents", len(a.Contents)) {
		return false
	}
	n := len(a.Contents)
	refs, ids, indexes := make(map[string]bool, n), make(map[string]bool, n), make(map[int]bool, n)
	batches := make(map[string][]CertificateContent)
	for i, content := range a.Contents {
		f.prefix = contentsPrefix(i)
		content.check(f)
		batch := append(batches[BatchOf(content.Ref)], content)
		batches[BatchOf(content.Ref)] = batch
		switch {
		case content.Shared() != batch[0].Shared():
			f.add("ref", batchRule)
		case len(batch) > MaxBatchRows:
			f.add("ref", batchSizeRule)
		}
		for _, each := range []struct {
			field    string
			repeated bool
		}{{"ref", refs[content.Ref]}, {"certId", ids[content.CertID]}, {"statusIndex", indexes[content.StatusIndex]}} {
			if each.repeated {
				f.add(each.field, "repeats that of an earlier entry")
			}
		}
		refs[content.Ref], ids[content.CertID], indexes[content.StatusIndex] = true, true, true
	}
	f.prefix = ""
	return true
}

const batchRule = "its first 12 digits name the issuing batch of certificates that differ in more than holder and serial"

var batchSizeRule = fmt.Sprintf("its first 12 digits name an issuing batch of more than %d certificates", MaxBatchRows)

// Validate reports everything that is wrong with the argument.
func (a ProposeArgs) Validate() error {
	var f findings
	f.match("ref", a.Ref, hex32Shape, hex32Rule)
	oneOf(&f, "event", a.Event, SuspendCertificate, RestoreCertificate, RevokeCertificate, WithdrawCertificate, CancelCertificate,
		ObjectCertificate, SettleCertificate)
	f.prefix = "act."
	f.required("documentNo", a.Act.DocumentNo, MaxName)
	f.required("legalBasis", a.Act.LegalBasis, MaxText)
	f.match("reasonCode", a.Act.ReasonCode, resultShape, "must be 1 to 40 characters of a-z 0-9 _, a letter first")
	f.time("effectiveAt", a.Act.EffectiveAt)
	return f.err()
}

// Validate reports everything that is wrong with the argument.
func (a DecideArgs) Validate() error {
	var f findings
	f.match("ref", a.Ref, hex32Shape, hex32Rule)
	checkCertificateDecision(&f, a.Decision, a.Opinion)
	return f.err()
}

// Validate reports everything that is wrong with the argument.
func (a DecideBatchArgs) Validate() error {
	var f findings
	f.distinct("refs", a.Refs, func(at, ref string) { f.match(at, ref, hex32Shape, hex32Rule) })
	checkCertificateDecision(&f, a.Decision, a.Opinion)
	return f.err()
}

// distinct checks a list of names that must not be empty, and each name with check.
func (f *findings) distinct(field string, names []string, check func(at, name string)) {
	if !f.batch(field, len(names)) {
		return
	}
	seen := make(map[string]bool, len(names))
	for i, name := range names {
		at := fmt.Sprintf("%s[%d]", field, i)
		check(at, name)
		if seen[name] {
			f.add(at, "repeats an earlier entry")
		}
		seen[name] = true
	}
}

func checkCertificateDecision(f *findings, decision CertificateDecision, opinion string) {
	oneOf(f, "decision", decision, ApproveCertificate, RejectCertificate)
	if decision == RejectCertificate {
		f.required("opinion", opinion, MaxText)
	} else {
		f.text("opinion", opinion, MaxText)
	}
}

// Validate reports everything that is wrong with the argument.
func (a RefArgs) Validate() error {
	var f findings
	f.match("ref", a.Ref, hex32Shape, hex32Rule)
	return f.err()
}

// StatusAt is the status in force at t, as far as this record tells: that of the
// last change that had taken effect by then. Before the issue the certificate was
// not yet valid, and only a valid one expires. A certificate that nobody has
// decided on, or that was refused, is that at every time.
func (c Certificate) StatusAt(t time.Time) CertificateStatus {
	if c.Status == CertificateProposed || c.Status == CertificateRejected {
		return c.Status
	}
	change, changed := c.ChangeAt(t)
	switch {
	case !changed:
		return CertificateNotYetValid
	case change.Status != CertificateValid:
		return change.Status
	case t.Before(c.Content.Validity.From):
		return CertificateNotYetValid
	case !t.Before(c.Content.Validity.To):
		return CertificateExpired
	}
	return CertificateValid
}

// ChangeAt is the last change of status that had taken effect at t. It reports
// false before the first one.
func (c Certificate) ChangeAt(t time.Time) (StatusChange, bool) {
	for i := len(c.Changes) - 1; i >= 0; i-- {
		if !t.Before(c.Changes[i].Since) {
			return c.Changes[i], true
		}
	}
	return StatusChange{}, false
}
