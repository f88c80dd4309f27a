package domain

import "time"

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
