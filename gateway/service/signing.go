package service

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/proof"
)

const (
	// signWithin is how long a write waits for its signatures. Its time is that of the
	// proposal, and what departments answered to it grows old.
	signWithin = 10 * time.Minute

	// mostUnsigned and mostUnsignedBytes bound what waits for signatures, of one
	// certificate and of all.
	mostUnsigned      = 16
	mostUnsignedBytes = 64 << 20
)

// UnsignedError says that too much waits for signatures already. Nothing was done.
type UnsignedError struct{ RetryAfter time.Duration }

func (e *UnsignedError) Error() string {
	return fmt.Sprintf("too many writes wait for a signature; sign them, or wait %s for the first to be forgotten", e.RetryAfter.Round(time.Second))
}

// SigningOutbox takes transactions over that their callers signed.
type SigningOutbox interface {
	Outbox

	// Hand is [ledger.Ledger.Submit] for a transaction that is signed. Nothing was
	// taken over with a [*ledger.UnavailableError].
	Hand(ctx context.Context, r ledger.Request, tx ledger.Transaction) (ledger.Receipt, error)

	// UnderWay answers the request that is on its way as an operation.
	UnderWay(operation string) (ledger.Request, ledger.Operation, bool)
}

// SigningOptions are the parts of a [Signing]. All are required.
type SigningOptions struct {
	Department domain.DepartmentCode
	Ledger     ledger.Ledger // for whatever the gateway signs itself
	Offline    ledger.Offline
	Outbox     SigningOutbox
	Index      index.Index

	// Holder answers the role of a certificate that is in force now.
	Holder func(*x509.Certificate) (domain.Role, error)
	Clock  func() time.Time
}

// Signing is a ledger for people who keep their key to themselves: what is submitted
// with a certificate waits for their signatures, under the proposal and then under the
// transaction. Nothing of that is durable, because until the second signature nothing
// can happen; from then on the transaction is the outbox's. It is safe for concurrent
// use.
type Signing struct {
	ledger.Ledger
	SigningOptions

	mu    sync.Mutex
	tasks map[string]*signingTask // by operation
	bytes int
}

var _ ledger.Ledger = (*Signing)(nil)

// signingTask is a write that waits for its caller's signatures.
type signingTask struct {
	request  ledger.Request
	cert     *x509.Certificate
	proposal ledger.Unsigned
	bytes    int
	accepted time.Time
	turn     chan struct{} // holds one while a signature is worked on

	// Guarded by the mutex of the Signing.
	transaction ledger.Unsigned // without a message: not endorsed yet
	handed      bool            // the outbox has it, or is about to
	refusal     *domain.Error   // why departments did not endorse it
	settled     time.Time
}

// NewSigning returns a ledger over its parts.
func NewSigning(o SigningOptions) *Signing {
	return &Signing{Ledger: o.Ledger, SigningOptions: o, tasks: make(map[string]*signingTask)}
}

// Submit implements [ledger.Ledger]. With a certificate it answers an
// [*ledger.OutcomeUnknownError] that says what is to be signed, unless the ledger
// remembers the operation already.
func (s *Signing) Submit(ctx context.Context, r ledger.Request) (ledger.Receipt, error) {
	if r.Certificate == "" {
		return s.Ledger.Submit(ctx, r)
	}
	receipt, err := s.submit(ctx, r)
	if err != nil {
		return ledger.Receipt{}, fmt.Errorf("submit %s: %w", r.Transaction, err)
	}
	return receipt, nil
}

func (s *Signing) submit(ctx context.Context, r ledger.Request) (ledger.Receipt, error) {
	if r.Operation == "" {
		return ledger.Receipt{}, &domain.Error{Kind: domain.Invalid, Msg: "what is signed elsewhere needs an Idempotency-Key"}
	}
	if first, now, ok := s.Outbox.UnderWay(r.Operation); ok {
		return ledger.Receipt{}, underWay(first, r, &ledger.OutcomeUnknownError{Operation: r.Operation, TxID: now.TxID, RetryAfter: now.RetryAfter, Err: errors.New("it is on its way")})
	}
	if receipt, known, err := s.remembered(ctx, r); known || err != nil {
		return receipt, err
	}
	block, _ := pem.Decode([]byte(r.Certificate))
	if block == nil {
		return ledger.Receipt{}, errors.New("the signer's certificate is no PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return ledger.Receipt{}, fmt.Errorf("the signer's certificate: %w", err)
	}
	t, err := s.enter(r, cert)
	if err != nil {
		return ledger.Receipt{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return ledger.Receipt{}, underWay(t.request, r, &ledger.OutcomeUnknownError{
		Operation: r.Operation, TxID: t.proposal.TxID, Signing: t.signing(), Err: errors.New("it waits for a signature"),
	})
}

// underWay answers a request whose operation is on its way with the first one.
func underWay(first, r ledger.Request, unknown *ledger.OutcomeUnknownError) error {
	if sameRequest(first, r) {
		return unknown
	}
	return &ledger.UnderWayError{First: first, Unknown: unknown}
}

func sameRequest(a, b ledger.Request) bool {
	return a.Role == b.Role && a.Transaction == b.Transaction && bytes.Equal(a.Argument, b.Argument)
}

// remembered answers a request whose operation the ledger remembers: nobody has to
// sign in order to learn what was done.
func (s *Signing) remembered(ctx context.Context, r ledger.Request) (receipt ledger.Receipt, known bool, err error) {
	last, err := s.Outbox.Operation(ctx, r.Operation)
	switch {
	case err == nil && last.State == ledger.Committed:
		tell(ctx, s.Index, last.Receipt.Block)
	case err != nil && domain.KindOf(err) != domain.NotFound:
		return receipt, false, err
	}
	done, err := get[domain.Operation](ctx, s.Index, domain.KindOperation, domain.OperationID(s.Department, r.Operation))
	switch {
	case domain.KindOf(err) == domain.NotFound:
		return receipt, false, nil
	case err != nil:
		return receipt, false, err
	case done.Value.Transaction != r.Transaction || done.Value.ArgumentDigest != domain.Digest(r.Argument):
		return receipt, true, domain.OperationReused(r.Operation)
	}
	return ledger.Receipt{Position: done.Position, Result: []byte(done.Value.Result)}, true, nil
}

// enter answers the task of a request, which is a new one unless one waits already.
func (s *Signing) enter(r ledger.Request, cert *x509.Certificate) (*signingTask, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.Clock()
	s.sweep(now)
	if t := s.tasks[r.Operation]; t != nil && t.refusal == nil {
		return t, nil
	}
	s.drop(r.Operation)
	waiting, first := 0, now.Add(signWithin)
	for _, t := range s.tasks {
		if t.cert.Equal(cert) {
			waiting++
			first = minTime(first, t.accepted.Add(signWithin))
		}
	}
	size := 4 * len(r.Argument) // as argument, in the proposal, and about as much twice in the transaction
	if waiting >= mostUnsigned || s.bytes+size > mostUnsignedBytes {
		return nil, &UnsignedError{RetryAfter: max(first.Sub(now), time.Second)}
	}
	proposal, err := s.Offline.Propose(r)
	if err != nil {
		return nil, err
	}
	t := &signingTask{request: r, cert: cert, proposal: proposal, bytes: size, accepted: now, turn: make(chan struct{}, 1)}
	s.tasks[r.Operation], s.bytes = t, s.bytes+size
	return t, nil
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// sweep forgets what has waited too long. What the outbox is taking over stays.
func (s *Signing) sweep(now time.Time) {
	for id, t := range maps.Clone(s.tasks) {
		if !t.handed && now.After(t.accepted.Add(signWithin)) {
			s.drop(id)
		}
	}
}

func (s *Signing) drop(operation string) {
	if t := s.tasks[operation]; t != nil {
		delete(s.tasks, operation)
		s.bytes -= t.bytes
	}
}

// task answers what waits for signatures as an operation, nil for nothing.
func (s *Signing) task(operation string) *signingTask {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(s.Clock())
	return s.tasks[operation]
}

// Waiting answers how many writes wait for a signature of their caller, and since when
// the first of them was asked for, the zero time for none.
func (s *Signing) Waiting() (n int, oldest time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(s.Clock())
	for _, t := range s.tasks {
		if t.signing() == nil || t.refusal != nil {
			continue
		}
		if n++; n == 1 || t.accepted.Before(oldest) {
			oldest = t.accepted
		}
	}
	return n, oldest
}

// Sign goes on with an operation by its caller's signature under one step's message.
// The same step signed again changes nothing. It answers how far the operation is
// then: signed for the first step it waits for the second, and for the second the
// answer is the outcome, or that it is pending when ctx ends before.
//
// It refuses as [domain.NotFound] what waits for no signature, also after a restart of
// the gateway or ten minutes: the caller sends the write again, under the same key.
func (s *Signing) Sign(ctx context.Context, caller Caller, operation string, step ledger.Step, signature []byte) (ledger.Operation, error) {
	t := s.task(operation)
	if t == nil {
		return s.outcome(ctx, caller, operation)
	}
	if caller.Role != t.request.Role {
		return ledger.Operation{}, &domain.Error{Kind: domain.Forbidden, Msg: fmt.Sprintf("operation %s is one of role %s", operation, t.request.Role)}
	}
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return ledger.Operation{}, fmt.Errorf("sign operation %s: %w", operation, ctx.Err())
	}
	if s.task(operation) != t {
		return s.outcome(ctx, caller, operation)
	}
	if role, err := s.Holder(t.cert); err != nil || role != t.request.Role {
		return ledger.Operation{}, &domain.Error{Kind: domain.Forbidden, Msg: "the certificate of operation " + operation + " is not in force any more"}
	}
	if err := s.advance(ctx, t, step, signature); err != nil {
		return ledger.Operation{}, fmt.Errorf("sign operation %s: %w", operation, err)
	}
	return s.outcome(ctx, caller, operation)
}

// advance takes a signature. Only one call at a time does for a task.
func (s *Signing) advance(ctx context.Context, t *signingTask, step ledger.Step, signature []byte) error {
	unsigned := t.proposal
	if step == ledger.StepTransaction {
		unsigned = t.transaction
	}
	if unsigned.Message == nil {
		return &domain.Error{Kind: domain.WrongState, Msg: "signature: the proposal is to be signed first"}
	}
	if err := proof.CheckSignature(t.cert, unsigned.Message, signature); err != nil {
		return &domain.Error{Kind: domain.Invalid, Msg: "signature: " + err.Error()}
	}
	switch {
	case t.refusal != nil, step == ledger.StepProposal && t.transaction.Message != nil:
		return nil // signed before
	case step == ledger.StepProposal:
		return s.endorse(ctx, t, signature)
	}
	return s.hand(ctx, t, signature)
}

func (s *Signing) endorse(ctx context.Context, t *signingTask, signature []byte) error {
	transaction, err := s.Offline.EndorseSigned(ctx, t.request, t.proposal, signature)
	var refusal *domain.Error
	if err != nil && !errors.As(err, &refusal) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.transaction, t.refusal = transaction, refusal; refusal != nil {
		t.settled = s.Clock()
	}
	return nil
}

func (s *Signing) hand(ctx context.Context, t *signingTask, signature []byte) error {
	tx, err := s.Offline.Signed(t.transaction, signature)
	if err != nil {
		return err
	}
	s.hold(t, true)
	receipt, err := s.Outbox.Hand(ctx, t.request, tx)
	var unavailable *ledger.UnavailableError
	if errors.As(err, &unavailable) {
		s.hold(t, false)
		return err
	}
	if err == nil {
		tell(ctx, s.Index, receipt.Block)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(t.request.Operation)
	return nil // what became of it is the operation's to tell
}

func (s *Signing) hold(t *signingTask, handed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.handed = handed
}

// outcome answers how far an operation is.
func (s *Signing) outcome(ctx context.Context, caller Caller, operation string) (ledger.Operation, error) {
	found, err := NewOperations(s, s.Index).Get(ctx, caller, operation)
	if domain.KindOf(err) == domain.NotFound {
		return found, &domain.Error{Kind: domain.NotFound, Msg: "operation " + operation + " waits for no signature; it may have waited too long: send the write again, under the same key"}
	}
	return found, err
}

// Operation implements [Outbox]: what waits for signatures is an operation too.
func (s *Signing) Operation(ctx context.Context, id string) (ledger.Operation, error) {
	t := s.task(id)
	if t != nil {
		s.mu.Lock()
		handed, now := t.handed, t.operation()
		s.mu.Unlock()
		if !handed {
			return now, nil
		}
	}
	found, err := s.Outbox.Operation(ctx, id)
	if t != nil && domain.KindOf(err) == domain.NotFound { // the outbox is taking it over
		return ledger.Operation{ID: id, Transaction: t.request.Transaction, State: ledger.Pending, TxID: t.proposal.TxID, Accepted: t.accepted}, nil
	}
	return found, err
}

// operation answers how far a task is that was not handed over.
func (t *signingTask) operation() ledger.Operation {
	o := ledger.Operation{
		ID: t.request.Operation, Transaction: t.request.Transaction, State: ledger.ToSign, TxID: t.proposal.TxID, Accepted: t.accepted,
	}
	if t.refusal != nil {
		o.State, o.Refusal, o.Settled = ledger.Rejected, t.refusal, t.settled
		return o
	}
	o.Signing = t.signing()
	return o
}

// signing answers what is to be signed next, nil when nothing is.
func (t *signingTask) signing() *ledger.Signing {
	if t.handed {
		return nil
	}
	next := &ledger.Signing{
		Step: ledger.StepProposal, Role: t.request.Role, Certificate: domain.Digest(t.cert.Raw),
		Message: t.proposal.Message, Expires: t.accepted.Add(signWithin),
	}
	if t.transaction.Message != nil {
		next.Step, next.Message, next.Proposal = ledger.StepTransaction, t.transaction.Message, t.proposal.Message
	}
	return next
}
