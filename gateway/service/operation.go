package service

import (
	"context"

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
// when the ledger remembers it, from the index.
func (o *Operations) Get(ctx context.Context, caller Caller, id string) (ledger.Operation, error) {
	known, err := o.outbox.Operation(ctx, id)
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
