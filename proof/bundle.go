// Package proof checks a Zhenglian proof bundle offline: bytes and trust anchors
// in, a typed verdict out.
//
// # Trust
//
// It trusts the [Anchors] it is given and nothing in the bundle. Every byte of a
// bundle is either covered by the signatures of the departments or has exactly
// one permitted value.
//
// # Compatibility
//
// A bundle names its format. Formats known to one release stay known to later
// ones; an unknown format is [CannotCheck], never a failure of the record.
package proof

import (
	"github.com/zhenglian/zhenglian/domain"
)

// The formats written by this release.
const (
	BundleFormat = "zhenglian-proof/1"
	TrustFormat  = "zhenglian-trust/1"
)

// Anchors are what a verifier trusts: the consortium's departments and their
// certificate authorities, what these have revoked, and how many departments must
// agree. They are published as consortium.json in canonical form (see
// [domain.Canonical]).
type Anchors struct {
	Format      string       `json:"format"`
	Channel     string       `json:"channel"`
	Chaincode   string       `json:"chaincode"`
	Versions    []string     `json:"versions"` // accepted chaincode versions
	Quorum      int          `json:"quorum"`   // distinct departments that must have signed
	Departments []Department `json:"departments"`
}

// Department is one member of the consortium in the anchors, sorted by code.
type Department struct {
	Code      domain.DepartmentCode `json:"code"`
	MSPID     domain.MSPID          `json:"mspId"`
	NameZh    string                `json:"nameZh"`
	NameEn    string                `json:"nameEn"`
	USCC      string                `json:"uscc"`
	CARoots   []string              `json:"caRoots"` // PEM, one certificate each
	LogOrigin string                `json:"logOrigin"`
	LogKey    string                `json:"logKey"`         // note verifier key text
	CRLs      []string              `json:"crls,omitempty"` // PEM, one revocation list of an authority in CARoots each
}

// Bundle is a proof file: a signed read. It is written in canonical form; binary
// fields are base64url without padding.
type Bundle struct {
	Format string `json:"format"`
	Read   Read   `json:"read"`
}

// Read is a read-only transaction that departments endorsed.
type Read struct {
	Proposal     string        `json:"proposal"`     // peer.Proposal
	Response     string        `json:"response"`     // peer.ProposalResponsePayload
	Endorsements []Endorsement `json:"endorsements"` // sorted by MSP ID, one per department
}

// Endorsement is one department's signature over Response ‖ Endorser.
type Endorsement struct {
	Endorser  string `json:"endorser"`  // msp.SerializedIdentity
	Signature string `json:"signature"` // ASN.1 ECDSA P-256, low S
}
