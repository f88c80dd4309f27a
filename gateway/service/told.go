package service

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

// ownWriteWait bounds how long the index is waited for, so that who wrote something
// reads it. A slower index makes the read stale, never the write failed.
const ownWriteWait = 3 * time.Second

// Told is an index in which everybody finds what this gateway has told anybody. A
// write is answered as soon as the ledger has committed it; who reads the index after
// that waits until it has the block, not who wrote: the block is being indexed at the
// very moment at which its writers are told, and few of them ask for what they know.
//
// What the index itself is made with must not read through it: it would wait for itself.
type Told struct {
	index.Index
	clock func() time.Time

	next  atomic.Uint64 // the number of blocks that were told of
	mu    sync.Mutex
	since time.Time // when that came to be more than the index has
}

// NewTold returns an index of which nothing was told yet.
func NewTold(ix index.Index, clock func() time.Time) *Told { return &Told{Index: ix, clock: clock} }

// tell notes that somebody is about to be told of a block.
func (t *Told) tell(ctx context.Context, number uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	has, err := t.Index.NextBlock(ctx)
	if err != nil || has > number {
		return
	}
	told := t.next.Load()
	if has >= told {
		t.since = t.clock()
	}
	t.next.Store(max(told, number+1))
}

// await waits until the index has what was told of. One that has been behind for
// [ownWriteWait] is not waited for: then everybody who asks would wait.
func (t *Told) await(ctx context.Context) {
	told := t.next.Load()
	if has, err := t.Index.NextBlock(ctx); err != nil || has >= told {
		return
	}
	t.mu.Lock()
	left := ownWriteWait - t.clock().Sub(t.since)
	t.mu.Unlock()
	if left <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	// Being late is the only way this fails, and what the index has is answered all the same.
	_ = t.Index.WaitBlock(ctx, told-1)
}

// tell makes sure that who is told of a block finds it in ix.
func tell(ctx context.Context, ix index.Index, number uint64) {
	if t, ok := ix.(*Told); ok {
		t.tell(ctx, number)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, ownWriteWait)
	defer cancel()
	_ = ix.WaitBlock(ctx, number) // as in await
}

// NextBlock implements [index.Index], as what follows does.
func (t *Told) NextBlock(ctx context.Context) (uint64, error) {
	t.await(ctx)
	return t.Index.NextBlock(ctx)
}

// Get answers the current record.
func (t *Told) Get(ctx context.Context, kind domain.RecordKind, id string) (index.Record, error) {
	t.await(ctx)
	return t.Index.Get(ctx, kind, id)
}

// History answers every write of a record.
func (t *Told) History(ctx context.Context, kind domain.RecordKind, id string, page index.Page) (index.Records, error) {
	t.await(ctx)
	return t.Index.History(ctx, kind, id, page)
}

// List answers current records of a kind.
func (t *Told) List(ctx context.Context, kind domain.RecordKind, filter index.Filter, page index.Page) (index.Records, error) {
	t.await(ctx)
	return t.Index.List(ctx, kind, filter, page)
}

// ListEvents answers the records that belong to one record.
func (t *Told) ListEvents(ctx context.Context, kind domain.RecordKind, of string, page index.Page) (index.Records, error) {
	t.await(ctx)
	return t.Index.ListEvents(ctx, kind, of, page)
}

// StatusIndexes answers the places of an issuer's certificates in some states.
func (t *Told) StatusIndexes(ctx context.Context, issuer domain.DepartmentCode, states []domain.CertificateStatus, from, to int) ([]int, error) {
	t.await(ctx)
	return t.Index.StatusIndexes(ctx, issuer, states, from, to)
}

// Inbox answers what waits for a department.
func (t *Told) Inbox(ctx context.Context, filter index.InboxFilter, page index.Page) (index.InboxRecords, error) {
	t.await(ctx)
	return t.Index.Inbox(ctx, filter, page)
}

// Tally counts what indicators are made of.
func (t *Told) Tally(ctx context.Context, now time.Time) (index.Tally, error) {
	t.await(ctx)
	return t.Index.Tally(ctx, now)
}

// Block answers a block.
func (t *Told) Block(ctx context.Context, number uint64) (domain.Block, error) {
	t.await(ctx)
	return t.Index.Block(ctx, number)
}

// Blocks answers the newest blocks.
func (t *Told) Blocks(ctx context.Context, page index.Page) ([]domain.Block, string, error) {
	t.await(ctx)
	return t.Index.Blocks(ctx, page)
}

// Transaction answers one transaction.
func (t *Told) Transaction(ctx context.Context, id domain.TxID) (index.TransactionRecord, error) {
	t.await(ctx)
	return t.Index.Transaction(ctx, id)
}
