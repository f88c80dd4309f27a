package sqlindex

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

// ApplyBlock implements [index.Index]. Besides gaps it refuses a block that does
// not fit the chain that the index holds: a consortium that was created anew has
// other blocks under the same numbers.
func (x *Index) ApplyBlock(ctx context.Context, b domain.Block) error {
	number, err := column("block", b.Number)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	grown := false
	err = inTransaction(ctx, x.writer, func(tx *sql.Tx) error {
		next, _, err := progress(ctx, tx)
		if err != nil {
			return err
		}
		switch {
		case b.Number > next:
			return fmt.Errorf("block %d is the next one", next)
		case b.Number < next:
			return x.checkHash(ctx, tx, number, b.Hash)
		}
		if number > 0 {
			if err := x.checkHash(ctx, tx, number-1, b.PreviousHash); err != nil {
				return err
			}
		}
		if err := x.store(ctx, tx, number, b); err != nil {
			return err
		}
		grown = true
		_, err = tx.ExecContext(ctx, `UPDATE progress SET next_block = ?`, number+1)
		return err
	})
	if err != nil {
		return fmt.Errorf("apply block %d to the index: %w", b.Number, err)
	}
	if grown {
		x.announce(b.Number + 1)
	}
	return nil
}

// checkHash compares the stored hash of a block with what another source says;
// an empty one says nothing.
func (x *Index) checkHash(ctx context.Context, tx *sql.Tx, number int64, hash string) error {
	var stored string
	if err := tx.QueryRowContext(ctx, `SELECT hash FROM blocks WHERE number = ?`, number).Scan(&stored); err != nil {
		return err
	}
	if hash != "" && stored != "" && hash != stored {
		return &domain.Error{Kind: domain.Conflict, Msg: fmt.Sprintf(
			"the index %s was built from another chain: block %d has the hash %s there and %s on the ledger; %s", x.file, number, stored, hash, remedy)}
	}
	return nil
}

func (x *Index) store(ctx context.Context, tx *sql.Tx, number int64, b domain.Block) error {
	s := x.insert.in(ctx, tx)
	head := b
	head.Transactions = emptied(b.Transactions)
	body, err := json.Marshal(head)
	if err != nil {
		return err
	}
	if _, err := s.block.ExecContext(ctx, number, b.Hash, body); err != nil {
		return err
	}
	var n int64
	if err := tx.QueryRowContext(ctx, `SELECT coalesce(max(n), 0) FROM writes`).Scan(&n); err != nil {
		return err
	}
	d := newDeriver(s, x.findIn(tx))
	var transactions, writes []any
	var counting []write
	for seq, t := range b.Transactions {
		head := t
		head.Writes = emptied(t.Writes)
		body, err := json.Marshal(head)
		if err != nil {
			return err
		}
		first := int64(0)
		if len(t.Writes) > 0 {
			first = n + 1
		}
		transactions = append(transactions, number, seq, string(t.ID), body, first, len(t.Writes))
		applies := t.Valid() && (x.chaincode == "" || x.chaincode == t.Chaincode)
		events := eventsIn(t.Writes, n+1)
		writes, counting = slices.Grow(writes, writeColumns*len(t.Writes)), slices.Grow(counting, len(t.Writes))
		for _, w := range t.Writes {
			kind, id, ok := domain.ParseKey(w.Key)
			counts := applies && ok && !isTold(kind)
			event, entry := events.of(kind, id, w)
			n++
			writes = append(writes, n, number, seq, w.Key, w.Delete, counts, event, w.Value)
			if counts {
				counting = append(counting, write{n, kind, id, w.Delete, w.Value, t.Time, entry})
			}
		}
	}
	if err := s.transactions.insert(ctx, transactions); err != nil {
		return err
	}
	if err := s.writes.insert(ctx, writes); err != nil {
		return err
	}
	return d.derive(ctx, counting)
}

// writeColumns is the number of columns of the table writes.
const writeColumns = 8

// emptied keeps of a list whether it is nil, which JSON tells apart and rows do not.
func emptied[T any](list []T) []T {
	if list == nil {
		return nil
	}
	return []T{}
}

// announce wakes who waits for the number of blocks to grow.
func (x *Index) announce(next uint64) {
	x.nextMu.Lock()
	defer x.nextMu.Unlock()
	x.next = next
	close(x.grown)
	x.grown = make(chan struct{})
}

// NextBlock implements [index.Index].
func (x *Index) NextBlock(context.Context) (uint64, error) {
	x.nextMu.Lock()
	defer x.nextMu.Unlock()
	return x.next, nil
}

// WaitBlock implements [index.Index].
func (x *Index) WaitBlock(ctx context.Context, number uint64) error {
	for {
		x.nextMu.Lock()
		next, grown := x.next, x.grown
		x.nextMu.Unlock()
		if next > number {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

const listBlocks = "blocks"

// Block implements [index.Index].
func (x *Index) Block(ctx context.Context, number uint64) (domain.Block, error) {
	n, err := column("block", number)
	if err != nil {
		return domain.Block{}, blockNotFound(number)
	}
	blocks, err := x.blocks(ctx, n, n)
	if err != nil {
		return domain.Block{}, fmt.Errorf("read block %d from the index: %w", number, err)
	}
	if len(blocks) == 0 {
		return domain.Block{}, blockNotFound(number)
	}
	return blocks[0], nil
}

func blockNotFound(number uint64) error {
	return &domain.Error{Kind: domain.NotFound, Msg: fmt.Sprintf("block %d is not in the index", number)}
}

// Blocks implements [index.Index].
func (x *Index) Blocks(ctx context.Context, page index.Page) ([]domain.Block, string, error) {
	if err := checkPage(page); err != nil {
		return nil, "", err
	}
	before, err := decodeNumberCursor(listBlocks, page.After, math.MaxInt64)
	if err != nil {
		return nil, "", err
	}
	next, err := x.NextBlock(ctx)
	if err != nil {
		return nil, "", err
	}
	before = min(before, int64(next)) // numbers have no gaps, so a page is a range of them
	first := max(0, before-int64(page.Limit))
	if before == 0 {
		return nil, "", nil
	}
	blocks, err := x.blocks(ctx, first, before-1)
	if err != nil {
		return nil, "", fmt.Errorf("list blocks from the index: %w", err)
	}
	cursor := ""
	if first > 0 {
		cursor = encodeCursor(listBlocks, strconv.FormatInt(first, 10))
	}
	return blocks, cursor, nil
}

// blocks reads the blocks from first to last, newest first. Blocks never change,
// so several queries see one state.
func (x *Index) blocks(ctx context.Context, first, last int64) ([]domain.Block, error) {
	var blocks []domain.Block
	rows, err := x.readers.QueryContext(ctx, `SELECT body FROM blocks WHERE number BETWEEN ? AND ? ORDER BY number DESC`, first, last)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var body []byte
		if err := rows.Scan(&body); err != nil {
			return nil, err
		}
		var b domain.Block
		if err := json.Unmarshal(body, &b); err != nil {
			return nil, err
		}
		blocks = append(blocks, b)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if len(blocks) == 0 {
		return nil, nil
	}
	top := int64(blocks[0].Number)
	err = x.transactions(ctx, `block BETWEEN ? AND ? ORDER BY block, seq`, []any{first, top}, func(block int64, _ int, t domain.Transaction) {
		b := &blocks[top-block]
		b.Transactions = append(b.Transactions, t)
	})
	if err != nil {
		return nil, err
	}
	err = x.writes(ctx, `t.block BETWEEN ? AND ?`, []any{first, top}, func(block int64, seq int, w domain.Write) {
		t := &blocks[top-block].Transactions[seq]
		t.Writes = append(t.Writes, w)
	})
	for _, b := range blocks {
		for _, t := range b.Transactions {
			domain.TellCatalog(t.Writes)
		}
	}
	return blocks, err
}

func (x *Index) transactions(ctx context.Context, where string, args []any, yield func(block int64, seq int, t domain.Transaction)) error {
	rows, err := x.readers.QueryContext(ctx, `SELECT block, seq, body FROM transactions WHERE `+where, args...) //nolint:gosec // callers pass constants
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var block int64
		var seq int
		var body []byte
		if err := rows.Scan(&block, &seq, &body); err != nil {
			return err
		}
		var t domain.Transaction
		if err := json.Unmarshal(body, &t); err != nil {
			return err
		}
		yield(block, seq, t)
	}
	return rows.Err()
}

// writes reads the writes of the transactions t for which where holds, in their
// order.
func (x *Index) writes(ctx context.Context, where string, args []any, yield func(block int64, seq int, w domain.Write)) error {
	rows, err := x.readers.QueryContext(ctx, `SELECT w.block, w.tx, w.key, w.deleted, w.value FROM transactions t
		CROSS JOIN writes w ON w.n >= t.first_write AND w.n < t.first_write + t.write_count WHERE `+where+` ORDER BY t.block, t.seq, w.n`, args...) //nolint:gosec // callers pass constants
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var block int64
		var seq int
		var w domain.Write
		if err := rows.Scan(&block, &seq, &w.Key, &w.Delete, &w.Value); err != nil {
			return err
		}
		yield(block, seq, w)
	}
	return rows.Err()
}

// Transaction implements [index.Index]. Of several transactions under one ID it
// answers the first, as peers do: the others are marked as duplicates and
// changed nothing.
func (x *Index) Transaction(ctx context.Context, id domain.TxID) (index.TransactionRecord, error) {
	var found *index.TransactionRecord
	at := 0
	if id != "" { // configuration transactions have none
		err := x.transactions(ctx, `tx_id = ? ORDER BY block, seq LIMIT 1`, []any{string(id)}, func(block int64, seq int, t domain.Transaction) {
			found, at = &index.TransactionRecord{Block: uint64(block), Transaction: t}, seq
		})
		if err != nil {
			return index.TransactionRecord{}, fmt.Errorf("read transaction %s from the index: %w", id, err)
		}
	}
	if found == nil {
		return index.TransactionRecord{}, &domain.Error{Kind: domain.NotFound, Msg: fmt.Sprintf("transaction %q is not in the index", id)}
	}
	err := x.writes(ctx, `t.block = ? AND t.seq = ?`, []any{int64(found.Block), at}, func(_ int64, _ int, w domain.Write) {
		found.Transaction.Writes = append(found.Transaction.Writes, w)
	})
	if err != nil {
		return index.TransactionRecord{}, fmt.Errorf("read writes of transaction %s from the index: %w", id, err)
	}
	domain.TellCatalog(found.Transaction.Writes)
	return *found, nil
}
