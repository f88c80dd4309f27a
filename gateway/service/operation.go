package service

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// Outbox knows the writes that go on without their callers.
type Outbox interface {
	// Operation is refused as [domain.NotFound] for a write that it does not know,
	// or no longer.
	Operation(ctx context.Context, id string) (ledger.Operation, error)
}

// Operations says what became of writes. It is safe for concurrent use.
type Operations struct {
	outbox Outbox
	index  index.Index
}

// NewOperations returns the use case over what is on its way and what is on the
// ledger.
func NewOperations(o Outbox, ix index.Index) *Operations { return &Operations{o, ix} }

// Get answers an operation of the caller's department: from the outbox, and else,
// when the ledger remembers it, from the index. What is committed is pending until the
// index has it.
func (o *Operations) Get(ctx context.Context, caller Caller, id string) (ledger.Operation, error) {
	known, err := o.outbox.Operation(ctx, id)
	caller.Operation = id
	switch {
	case err == nil && known.State == ledger.Committed:
		at, indexed, err := performed(ctx, o.index, caller)
		if err != nil {
			return ledger.Operation{}, err
		}
		if !indexed { // the outbox knows a transaction, which may have repeated the first one
			return ledger.Operation{ID: known.ID, Transaction: known.Transaction, State: ledger.Pending, Accepted: known.Accepted}, nil
		}
		known.Receipt.Position, known.TxID = at, at.TxID
	case err == nil && known.Refusal != nil && domain.IsOperationReused(known.Refusal):
		return o.asRepeated(ctx, caller, known)
	}
	if domain.KindOf(err) != domain.NotFound {
		return known, err
	}
	done, err := get[domain.Operation](ctx, o.index, domain.KindOperation, domain.OperationID(caller.Department, id))
	if err != nil {
		return ledger.Operation{}, err
	}
	return ledger.Operation{
		ID: id, Transaction: done.Value.Transaction, State: ledger.Committed, TxID: done.TxID,
		Receipt:  ledger.Receipt{Position: done.Position, Result: []byte(done.Value.Result)},
		Accepted: done.Value.TxTime, Settled: done.Value.TxTime,
	}, nil
}

// asRepeated answers an operation that was accepted and that the ledger then refused,
// because it remembers another argument. An issue draws a reference anew each time it is
// asked for (see [Certificates.asRepeated]), and must not read as if it had done nothing.
func (o *Operations) asRepeated(ctx context.Context, caller Caller, refused ledger.Operation) (ledger.Operation, error) {
	if !strings.HasPrefix(refused.Transaction, "certificate:Issue") {
		return refused, nil
	}
	done, err := find[domain.Operation](ctx, o.index, domain.KindOperation, domain.OperationID(caller.Department, caller.Operation))
	if err != nil {
		return ledger.Operation{}, err
	}
	if done == nil { // the index does not know yet what the ledger remembers
		refused.State, refused.Refusal, refused.Settled = ledger.Pending, nil, time.Time{}
		return refused, nil
	}
	var before *domain.Error
	switch err := (&Certificates{index: o.index}).issuedBefore(ctx, caller, refused.Transaction); {
	case errors.As(err, &before):
		refused.Refusal = before
	case err != nil:
		return ledger.Operation{}, err
	}
	return refused, nil
}
