// Package ledger is the gateway's port to the ledger: submit, evaluate, ask for
// a signed read, follow blocks. It speaks of records and transactions and knows
// no transport; package fabricledger implements it on Hyperledger Fabric.
package ledger

import (
	"context"
	"fmt"

	"github.com/zhenglian/zhenglian/domain"
)

// Receipt is what a committed transaction leaves behind.
type Receipt struct {
	domain.Position
	Result []byte // the transaction's return value
}

// Endorsement is one department's signature under a signed read.
type Endorsement struct {
	Endorser  []byte // serialized identity (MSP ID and certificate), as signed
	Signature []byte // ASN.1 ECDSA over response ‖ endorser
}

// SignedRead is a read-only transaction whose answer departments signed: the
// raw material of a proof.
type SignedRead struct {
	Proposal     []byte // marshalled peer.Proposal: header, payload, no extension
	Response     []byte // marshalled peer.ProposalResponsePayload, as every endorser signed it
	Endorsements []Endorsement
}

// DepartmentHeight is the number of blocks that one department's peer has.
type DepartmentHeight struct {
	Department domain.DepartmentCode
	Height     uint64
	Err        error // why the height is unknown; nil when known
}

// Ledger submits transactions and reads the channel on behalf of one department.
// All methods are safe for concurrent use and stop when their context ends.
//
// A refusal by a contract is a [*domain.Error] in the error's chain. A submit
// whose outcome could not be learned is an [*OutcomeUnknownError]. Anything else
// means that nothing was changed, now or later.
type Ledger interface {
	// Submit runs transaction ("contract:Name") under the department's identity
	// for role and answers after the commit. It resubmits the same bytes while
	// the outcome is unknown and ctx allows, and never reports a failure for a
	// transaction that may have committed.
	//
	// operation is "" or 32 lower-case hexadecimal digits: the ledger runs one
	// operation of a department once and answers a repetition with the first
	// result.
	Submit(ctx context.Context, role domain.Role, transaction string, argument []byte, operation string) (Receipt, error)

	// Evaluate runs a transaction on one peer without ordering it.
	Evaluate(ctx context.Context, role domain.Role, transaction string, argument []byte) ([]byte, error)

	// SignedRead has evidence:Attest endorsed by as many departments as answer,
	// at least quorum of them; with fewer it fails. It uses the gateway's own
	// service identity.
	SignedRead(ctx context.Context, args domain.AttestArgs, quorum int) (SignedRead, error)

	// Status answers the validation code of a transaction, "" with a nil error
	// when this department's peer does not know the transaction within ctx.
	Status(ctx context.Context, id domain.TxID) (code string, block uint64, err error)

	// Blocks calls yield for each block from number from on, in order, waiting
	// for new ones, until ctx ends, yield fails or the stream breaks.
	Blocks(ctx context.Context, from uint64, yield func(domain.Block) error) error

	// Heights answers every department's height, in the order of configuration.
	Heights(ctx context.Context) []DepartmentHeight
}

// OutcomeUnknownError says that a transaction was sent and may or may not be on
// the ledger. The caller must look it up by TxID and must not send a new one.
type OutcomeUnknownError struct {
	TxID domain.TxID
	Err  error
}

func (e *OutcomeUnknownError) Error() string {
	return fmt.Sprintf("outcome of transaction %s is unknown: %v", e.TxID, e.Err)
}

// Unwrap returns the cause.
func (e *OutcomeUnknownError) Unwrap() error { return e.Err }

// UnavailableError says that the ledger could not be reached or had too few
// departments, and that nothing was ordered. A later attempt may succeed.
type UnavailableError struct{ Err error }

func (e *UnavailableError) Error() string { return "ledger unavailable: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }
