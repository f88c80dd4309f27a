package proof

import (
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

// The overall verdicts. Recorded is that of a record without a status, such as
// a catalog entry.
const (
	CannotCheck Overall = ""
	BadProof    Overall = "bad_proof"
	NotFound    Overall = "not_found"
	Recorded    Overall = "recorded"
	Valid       Overall = "valid"
	Revoked     Overall = "revoked"
	Expired     Overall = "expired"
	NotYetValid Overall = "not_yet_valid"
)

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
}
