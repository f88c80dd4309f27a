// Package ledger is the gateway's port to the ledger: submit, evaluate, ask for
// a signed read, follow blocks. It speaks of records and transactions and knows
// no transport; package fabricledger implements it on Hyperledger Fabric.
package ledger

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

// Receipt is what a committed transaction leaves behind.
type Receipt struct {
	domain.Position
	Result []byte // the transaction's return value
	Wrote  bool   // it wrote something: an operation that the ledger had done before writes nothing
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

// Reader reads the channel on behalf of one department. All methods are safe for
// concurrent use and stop when their context ends.
type Reader interface {
	// Evaluate runs a transaction on one peer without ordering it. A refusal by a
	// contract is a [*domain.Error] in the error's chain.
	Evaluate(ctx context.Context, role domain.Role, transaction string, argument []byte) ([]byte, error)

	// SignedRead has evidence:Attest endorsed by as many departments as answer,
	// at least quorum of them; with fewer it fails. It uses the gateway's own
	// service identity.
	SignedRead(ctx context.Context, args domain.AttestArgs, quorum int) (SignedRead, error)

	// Status answers the validation code of a transaction, "" with a nil error
	// when this department's peer does not know the transaction within ctx.
	Status(ctx context.Context, id domain.TxID) (code string, block uint64, err error)

	// Blocks calls yield for each block from number from on, in order, waiting
	// for new ones, until ctx ends, yield fails or the stream breaks. Writes have the
	// values that their keys hold, from which [domain.TellCatalog] tells records.
	Blocks(ctx context.Context, from uint64, yield func(domain.Block) error) error

	// Heights answers every department's height, in the order of configuration.
	Heights(ctx context.Context) []DepartmentHeight
}

// Request is what a department asks the ledger to do.
type Request struct {
	Role        domain.Role // whose identity signs
	Transaction string      // "contract:Name"
	Argument    []byte      // canonical

	// Operation is "" or 32 lower-case hexadecimal digits: the ledger runs one
	// operation of a department once and answers a repetition with the first
	// result.
	Operation string

	// Expect is nil, or the write that a record must still be at: the ledger
	// refuses the transaction as [domain.Changed] otherwise.
	Expect *domain.Expectation

	// Certificate is "", or the certificate, as PEM, of the person of that role who
	// signs with a key that the gateway does not have; see [Offline].
	Certificate string
}

// Ledger submits transactions besides: what use cases write through.
type Ledger interface {
	Reader

	// Submit runs a transaction and answers after the commit. One that lost a race
	// against another transaction is proposed anew, a few times.
	//
	// A refusal by a contract is a [*domain.Error] in the error's chain, of kind
	// conflict when the race was lost each time. A transaction whose outcome is
	// not known when ctx or its wait (see [WithWait]) ends is an
	// [*OutcomeUnknownError]. Anything else means that nothing was changed, now or
	// later.
	Submit(ctx context.Context, r Request) (Receipt, error)
}

// Transaction is endorsed and signed. The same bytes may be handed over any number
// of times: the ledger takes them once.
type Transaction struct {
	ID    domain.TxID
	Bytes []byte // in the form of the adapter that signed it
}

// Adapter is a ledger whose submit has two halves, with a place between them to
// keep what was signed. Package outbox makes a [Ledger] of it.
type Adapter interface {
	Reader

	// Endorse has a proposal signed by as many departments as must, and signs the
	// transaction. Nothing is ordered yet, whatever it answers. A refusal by a
	// contract is a [*domain.Error], too few peers an [*UnavailableError].
	Endorse(ctx context.Context, r Request) (Transaction, error)

	// Order hands tx to the orderers, as often as needed, until a peer has
	// committed it. With sent it may have been handed over before: then it is
	// looked for first. The outcome is unknown ([*OutcomeUnknownError]) until it
	// answers a receipt or another error; those are final. A [*domain.Error] of
	// kind conflict says that a new proposal may succeed.
	Order(ctx context.Context, tx Transaction, sent bool) (Receipt, error)
}

// Unsigned waits for a signature by a key that the gateway does not have: ECDSA P-256
// over the SHA-256 of its message.
type Unsigned struct {
	TxID    domain.TxID
	Message []byte // a peer.Proposal, or the common.Payload of a transaction
}

// Offline is the part of an adapter for signatures that are made elsewhere. The
// caller has checked every signature that it passes on.
type Offline interface {
	// Propose makes the proposal of a request with a certificate. It asks nobody.
	Propose(r Request) (Unsigned, error)

	// EndorseSigned is [Adapter.Endorse] for a proposal that r's person has signed:
	// it answers the transaction that is to be signed next. The same proposal may be
	// endorsed any number of times.
	EndorseSigned(ctx context.Context, r Request, proposal Unsigned, signature []byte) (Unsigned, error)

	// Signed answers the transaction with its signature, for [Adapter.Order].
	Signed(transaction Unsigned, signature []byte) (Transaction, error)
}

// Retries is how often a write is proposed anew that lost a race against another
// transaction (MVCC): a conflict changed nothing, so trying again is safe, unlike
// after an unknown outcome.
const Retries = 4

const conflictPause = 50 * time.Millisecond

// Retry makes attempts until one does not lose a race against another transaction,
// with at most [Retries] after the first, and answers the last one's error.
func Retry(ctx context.Context, attempt func() error) error {
	for tries := 1; ; tries++ {
		err := attempt()
		if domain.KindOf(err) != domain.Conflict || tries > Retries {
			return err
		}
		// Jitter keeps two losers of one race from meeting again.
		timer := time.NewTimer(conflictPause*time.Duration(tries) + rand.N(conflictPause)) //nolint:gosec // not a secret
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

type waitKey struct{}

// WithWait returns a context under which [Ledger.Submit] waits at most d for the
// outcome of an operation, and then answers that it is unknown. What is on its way
// goes on without the caller.
func WithWait(ctx context.Context, d time.Duration) context.Context {
	return context.WithValue(ctx, waitKey{}, d)
}

// WaitOf answers how long the caller waits for an outcome; without ok it waits
// until ctx ends.
func WaitOf(ctx context.Context) (d time.Duration, ok bool) {
	d, ok = ctx.Value(waitKey{}).(time.Duration)
	return d, ok
}

// State is how far an operation is.
type State string

// The states of an operation. An unsigned one waits for its caller; it may be
// forgotten. A pending one becomes one of the last two, for good.
const (
	ToSign    State = "unsigned"
	Pending   State = "pending"
	Committed State = "committed"
	Rejected  State = "rejected"
)

// Operation is what became of a write whose caller did not wait for the outcome.
type Operation struct {
	ID          string
	Transaction string // "contract:Name"
	State       State
	TxID        domain.TxID   // "" before a transaction is signed
	Receipt     Receipt       // of a committed one
	Refusal     *domain.Error // of a rejected one; nil when no rule explains it
	Accepted    time.Time
	Settled     time.Time     // zero while pending
	RetryAfter  time.Duration // when a pending one may be settled; 0: soon
	Signing     *Signing      // of one in state [ToSign]
}

// Step is what of an operation is to be signed.
type Step string

// The steps, in their order.
const (
	StepProposal    Step = "proposal"
	StepTransaction Step = "transaction"
)

// Signing is what an operation needs a signature under.
type Signing struct {
	Step        Step
	Role        domain.Role // whose operation it is
	Certificate string      // SHA-256 of the signer's certificate as DER, hexadecimal
	Message     []byte      // as in [Unsigned]
	Proposal    []byte      // in [StepTransaction] the message that was signed before
	Expires     time.Time   // when the operation is forgotten unless it was signed
}

// OutcomeUnknownError says that a transaction may or may not get on the ledger. The
// caller must ask for the operation, or look the transaction up, and must not send a
// new one.
type OutcomeUnknownError struct {
	Operation string      // that goes on without the caller, or with Signing waits for it; "" when nothing does
	Signing   *Signing    // nil unless the caller has to sign for it to go on
	TxID      domain.TxID // "" when it is not signed yet
	Err       error

	RetryAfter time.Duration // when the outcome may be known; 0: soon
}

func (e *OutcomeUnknownError) Error() string {
	if e.TxID == "" {
		return fmt.Sprintf("outcome of operation %s is unknown: %v", e.Operation, e.Err)
	}
	return fmt.Sprintf("outcome of transaction %s is unknown: %v", e.TxID, e.Err)
}

// Unwrap returns the cause.
func (e *OutcomeUnknownError) Unwrap() error { return e.Err }

// UnderWayError says that an operation is on its way with another argument, and that
// nothing was done for this one. It is a refusal of kind [domain.Conflict].
type UnderWayError struct {
	First   Request              // what is on its way
	Unknown *OutcomeUnknownError // how far it is
}

func (e *UnderWayError) Error() string { return e.Unwrap().Error() }

// Unwrap returns the refusal.
func (e *UnderWayError) Unwrap() error {
	return &domain.Error{Kind: domain.Conflict, Msg: "operation " + e.First.Operation + ": under way with another request; ask for its outcome first"}
}

// UnavailableError says that the ledger could not be reached or had too few
// departments, and that nothing was ordered. A later attempt may succeed.
type UnavailableError struct{ Err error }

func (e *UnavailableError) Error() string { return "ledger unavailable: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }

// BusyError says that as many writes are on their way already as may be, and that
// nothing was done for this one. It is an [*UnavailableError].
type BusyError struct {
	Writes     int           // on their way
	RetryAfter time.Duration // when there may be room
}

func (e *BusyError) Error() string { return e.Unwrap().Error() }

// Unwrap returns it as what it is to those who do not ask why.
func (e *BusyError) Unwrap() error {
	return &UnavailableError{fmt.Errorf("%d writes wait for the ledger already", e.Writes)}
}
