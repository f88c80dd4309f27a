package service

import (
	"context"
	"errors"
	"fmt"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// argument is what a transaction takes.
type argument interface{ Validate() error }

// write runs a transaction for the caller and answers the record that it wrote.
// The chaincode decides again what is decided here, from the client
// certificate; refusing a wrong role or a malformed argument at once only saves
// the transaction.
func write[T any](ctx context.Context, l ledger.Ledger, ix index.Index, caller Caller, transaction, what string, args argument) (Written[T], error) {
	if err := duties[transaction].allow(caller, what); err != nil {
		return Written[T]{}, err
	}
	if err := args.Validate(); err != nil {
		return Written[T]{}, fmt.Errorf("%s: %w", transaction, err)
	}
	return submit[T](ctx, l, ix, caller, transaction, args)
}

// performed answers where the caller's operation took effect: asked for again, it is a
// transaction that writes nothing, and what it answers stands where the first one wrote
// it. Only the index knows, and one that lags is no reason to name the wrong place: then
// it answers known false.
func performed(ctx context.Context, ix index.Index, caller Caller) (at domain.Position, known bool, err error) {
	r, err := ix.Get(ctx, domain.KindOperation, domain.OperationID(caller.Department, caller.Operation))
	if domain.KindOf(err) == domain.NotFound {
		return domain.Position{}, false, nil
	}
	return r.Position, err == nil, err
}

// submit runs transaction with args in canonical form and answers the record it
// wrote. The errors are those of [ledger.Ledger.Submit], untouched but for what
// was attempted.
func submit[T any](ctx context.Context, l ledger.Ledger, ix index.Index, caller Caller, transaction string, args argument) (Written[T], error) {
	var none Written[T]
	data, err := domain.Canonical(args)
	if err != nil {
		return none, fmt.Errorf("%s: %w", transaction, err)
	}
	receipt, err := l.Submit(ctx, ledger.Request{
		Role: caller.Role, Transaction: transaction, Argument: data, Operation: caller.Operation, Expect: caller.Expect,
		Certificate: caller.Certificate,
	})
	if err != nil {
		return none, fmt.Errorf("%s: %w", transaction, err)
	}
	written := Written[T]{Position: receipt.Position}
	if err := domain.ParseCanonical(receipt.Result, &written.Value); err != nil {
		// The transaction is on the ledger, so this must not read as a failure
		// that invites another attempt.
		return none, fmt.Errorf("%s: %w", transaction, &ledger.OutcomeUnknownError{
			TxID: receipt.TxID,
			Err:  fmt.Errorf("committed in block %d, but its result is unreadable: %v", receipt.Block, err), //nolint:errorlint // no caller's mistake: drops the kind
		})
	}
	tell(ctx, ix, receipt.Block)
	if caller.Operation == "" || receipt.Wrote {
		return written, nil
	}
	var known bool
	if written.Position, known, err = performed(ctx, ix, caller); !known {
		return none, fmt.Errorf("%s: %w", transaction, &ledger.OutcomeUnknownError{
			Operation: caller.Operation, Err: errors.Join(errors.New("it was done before, in a block that the index does not have yet"), err),
		})
	}
	return written, nil
}
