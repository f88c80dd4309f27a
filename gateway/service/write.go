package service

import (
	"context"
	"fmt"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// ownWriteWait bounds how long a committed write waits for the index, so that its
// caller reads its own write. A slower index makes the read stale, never the write
// failed.
const ownWriteWait = 3 * time.Second

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
	written, err := submit[T](ctx, l, ix, caller, transaction, args)
	if err == nil && caller.Operation != "" {
		written.Position = performed(ctx, ix, caller, written.Position)
	}
	return written, err
}

// performed answers where an operation took effect: asked for again, it is a
// transaction that writes nothing, and what it answers stands where the first
// one wrote it. An index that lags does not know; then at is the best answer.
func performed(ctx context.Context, ix index.Index, caller Caller, at domain.Position) domain.Position {
	r, err := ix.Get(ctx, domain.KindOperation, domain.OperationID(caller.Department, caller.Operation))
	if err != nil {
		return at
	}
	return r.Position
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
	awaitBlock(ctx, ix, receipt.Block)
	return written, nil
}

// awaitBlock waits for the index to apply block number, at most [ownWriteWait].
func awaitBlock(ctx context.Context, ix index.Index, number uint64) {
	ctx, cancel := context.WithTimeout(ctx, ownWriteWait)
	defer cancel()
	// Being late is the only way this fails, and the answer goes out all the same.
	_ = ix.WaitBlock(ctx, number)
}
