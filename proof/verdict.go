package proof

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

// Outcome is the answer to one question about a bundle. The zero value is
// [Unknown].
type Outcome string

// The outcomes.
const (
	Unknown Outcome = ""
	Pass    Outcome = "pass"
	Fail    Outcome = "fail"
)

// Question names a check that [Verify] makes.
type Question string

// The questions, in the order they are asked.
const (
	Integrity Question = "integrity" // canonical, complete, one proposal, one response, matching hashes
	Quorum    Question = "quorum"    // enough distinct departments' peers signed exactly this answer
	Scope     Question = "scope"     // the right channel, chaincode, version and transaction; nothing written
	Freshness Question = "freshness" // the answer speaks for the time asked about, and carries the nonce asked for
	Status    Question = "status"    // what the record's status was
)

// Overall is the one-word verdict. The zero value is [CannotCheck].
type Overall string

// The overall verdicts. Recorded is that of a record of another kind than a
// certificate, the others below it are those of a certificate. NotFound is also
// that of one that was proposed or rejected, and never issued.
const (
	CannotCheck Overall = ""
	BadProof    Overall = "bad_proof"
	NotFound    Overall = "not_found"
	Recorded    Overall = "recorded"
	Valid       Overall = "valid"         // 有效
	NotYetValid Overall = "not_yet_valid" // 未到生效日
	Suspended   Overall = "suspended"     // 暂扣
	Revoked     Overall = "revoked"       // 撤销
	Withdrawn   Overall = "withdrawn"     // 吊销
	Cancelled   Overall = "cancelled"     // 注销
	Superseded  Overall = "superseded"    // 已被替代
	Expired     Overall = "expired"       // 已过有效期
)

// Overalls lists every overall verdict.
var Overalls = []Overall{
	CannotCheck, BadProof, NotFound, Recorded, Valid, NotYetValid, Suspended, Revoked, Withdrawn, Cancelled, Superseded, Expired,
}

// Check is the answer to one question.
type Check struct {
	Question Question `json:"question"`
	Outcome  Outcome  `json:"outcome"`
	Reason   string   `json:"reason"` // one line of English; of an unverified bundle it quotes a field name at most
}

// Verdict is what [Verify] found.
type Verdict struct {
	Overall   Overall                 `json:"overall"`
	Reason    string                  `json:"reason"` // one line: why the overall verdict is what it is
	Checks    []Check                 `json:"checks"`
	Statement *domain.Statement       `json:"statement,omitempty"` // what the departments signed; nil unless integrity, quorum and scope passed
	Signers   []domain.DepartmentCode `json:"signers"`             // departments whose signatures hold, sorted; nil unless quorum passed
}

// Options narrow what a verdict must speak about. The zero value asks only what
// the ledger held when the departments signed.
type Options struct {
	At    time.Time // the verifier's present; zero: do not judge freshness (Freshness is Unknown, the verdict speaks as of Statement.AsOf)
	Nonce string    // nonce the verifier chose; "" when it did not ask for the proof itself

	// StatusAt is the time whose status is asked; zero: At, or else Statement.AsOf.
	// An earlier time than AsOf has the status that the record gives it as known at
	// AsOf: an act decided later may still reach back.
	StatusAt time.Time

	Policy Policy
}

// Policy is what a verifier demands of the signers beyond the anchors. It only
// narrows: the anchors' quorum holds in any case. The zero value demands nothing.
type Policy struct {
	Quorum      int                     // distinct departments that must have signed
	Departments []domain.DepartmentCode // each of them must have signed
	Issuer      IssuerRule
}

// IssuerRule says what the signature of the department counts that made the record
// as it stands: of a certificate, its issuer.
type IssuerRule string

// The rules for the issuer's signature.
const (
	IssuerLikeAny  IssuerRule = ""         // it counts like any other
	IssuerIncluded IssuerRule = "included" // it must be there
	IssuerExcluded IssuerRule = "excluded" // it does not count: so many others must have signed
)

// refuses answers why signers do not meet the rule, or "". issuer is empty when
// there is no record: then nobody's signature is the issuer's.
func (r IssuerRule) refuses(signers []domain.DepartmentCode, issuer domain.DepartmentCode, quorum int) string {
	signed := issuer != "" && slices.Contains(signers, issuer)
	switch r {
	case IssuerIncluded:
		if !signed {
			return "the policy requires the issuer's signature"
		}
	case IssuerExcluded:
		if signed && len(signers)-1 < quorum {
			return fmt.Sprintf("%d departments beside the issuer signed, %d are required", len(signers)-1, quorum)
		}
	case IssuerLikeAny:
	}
	return ""
}

// demanded checks that a policy can be met at all, and answers how many
// departments must have signed.
func (f *Verifier) demanded(p Policy) (int, error) {
	switch p.Issuer {
	case IssuerLikeAny, IssuerIncluded, IssuerExcluded:
	default:
		return 0, errors.New("the policy has a rule for the issuer that this release does not know")
	}
	if p.Quorum < 0 || p.Quorum > len(f.members) {
		return 0, errors.New("the policy requires more signatures than there are departments")
	}
	for _, code := range p.Departments {
		if !slices.ContainsFunc(f.members, func(m member) bool { return m.code == code }) {
			return 0, errors.New("the policy requires a department that is not among the trust anchors")
		}
	}
	return max(f.quorum, p.Quorum), nil
}
