package ledgertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// Transaction is something to submit or evaluate.
type Transaction struct {
	Role     domain.Role
	Name     string // "contract:Name"
	Argument []byte
}

// Subject is a ledger under test and the transactions that the suite may run on
// it. Records are named by 32 lower-case hexadecimal digits that the suite
// draws, so that it can run again and again on one network.
type Subject struct {
	Ledger ledger.Ledger
	Quorum int // departments that must sign a read

	// Create writes a new record with one submit, and is refused as
	// [domain.Exists] when the record exists. Its result is not empty.
	Create func(id string) Transaction
	// Read answers the record, with the bytes that are in the state, and is
	// refused as [domain.NotFound] when there is none.
	Read func(id string) Transaction
	// Key is the state key that Create writes.
	Key func(id string) string
	// Attest asks for a statement on the record.
	Attest func(id, nonce string) domain.AttestArgs
	// Verify checks a signed read. Optional.
	Verify func(ledger.SignedRead) error
}

// limit bounds each wait of the suite. It is long because a test machine may be
// slow; nothing waits for it to pass.
const limit = 60 * time.Second

// Run checks that a ledger keeps the promises of [ledger.Ledger]. newSubject is
// called once per check; the ledgers it returns may share a channel.
func Run(t *testing.T, newSubject func(t *testing.T) Subject) {
	for _, check := range []struct {
		name string
		run  func(*testing.T, context.Context, Subject)
	}{
		{"submit answers after the commit", checkSubmit},
		{"a refusal names its kind", checkRefusal},
		{"evaluate writes nothing", checkEvaluate},
		{"concurrent submits each commit once", checkConcurrent},
		{"an operation runs once", checkOperation},
		{"an operation is for one transaction", checkOperationReused},
		{"a refused operation may be tried again", checkOperationRefused},
		{"concurrent repetitions of an operation have one effect", checkOperationConcurrent},
		{"a cancelled submit has a known outcome", checkCancelled},
		{"blocks are complete and linked", checkBlocks},
		{"blocks wait for new ones", checkFollow},
		{"an unknown transaction has no status", checkUnknownStatus},
		{"departments' heights reach the last commit", checkHeights},
		{"a signed read has a quorum of distinct signers", checkSignedRead},
		{"a read that too few can sign is unavailable", checkNoQuorum},
	} {
		t.Run(check.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			check.run(t, ctx, newSubject(t))
		})
	}
}

func newID(t *testing.T) string {
	t.Helper()
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

func create(t *testing.T, ctx context.Context, s Subject, id string) ledger.Receipt {
	t.Helper()
	tx := s.Create(id)
	receipt, err := s.Ledger.Submit(ctx, ledger.Request{Role: tx.Role, Transaction: tx.Name, Argument: tx.Argument})
	if err != nil {
		t.Fatalf("Submit(%s): %v", tx.Name, err)
	}
	return receipt
}

// errFound ends the reading of blocks in a check.
var errFound = errors.New("found")

// find reads blocks from number from on until match accepts one.
func find(ctx context.Context, l ledger.Ledger, from uint64, match func(domain.Block) bool) error {
	err := l.Blocks(ctx, from, func(b domain.Block) error {
		if match(b) {
			return errFound
		}
		return nil
	})
	if errors.Is(err, errFound) {
		return nil
	}
	return fmt.Errorf("blocks from %d ended before what was looked for: %w", from, err)
}

func checkSubmit(t *testing.T, ctx context.Context, s Subject) {
	id := newID(t)
	receipt := create(t, ctx, s, id)
	if len(receipt.Result) == 0 || len(receipt.TxID) != 64 || receipt.Block == 0 {
		t.Errorf("receipt = %+v, want a result, a transaction ID and a block", receipt)
	}
	code, block, err := s.Ledger.Status(ctx, receipt.TxID)
	if code != "VALID" || block != receipt.Block || err != nil {
		t.Errorf("Status = %q, %d, %v; want VALID, %d", code, block, err, receipt.Block)
	}
	read := s.Read(id)
	if _, err := s.Ledger.Evaluate(ctx, read.Role, read.Name, read.Argument); err != nil {
		t.Errorf("read after the commit: %v", err)
	}

	tx := s.Create(id)
	err = find(ctx, s.Ledger, receipt.Block, func(b domain.Block) bool {
		i := slices.IndexFunc(b.Transactions, func(t domain.Transaction) bool { return t.ID == receipt.TxID })
		if b.Number != receipt.Block || i < 0 {
			t.Errorf("block %d does not hold transaction %s", b.Number, receipt.TxID)
			return true
		}
		got := b.Transactions[i]
		if !got.Valid() || got.Type != "endorser" || got.Contract+":"+got.Name != tx.Name {
			t.Errorf("transaction in block is %s %s:%s %s, want a valid endorser transaction %s", got.Type, got.Contract, got.Name, got.ValidationCode, tx.Name)
		}
		if !slices.Equal(got.Arguments, []string{string(tx.Argument)}) {
			t.Errorf("arguments in block = %q, want %q", got.Arguments, tx.Argument)
		}
		if !slices.ContainsFunc(got.Writes, func(w domain.Write) bool { return w.Key == s.Key(id) && len(w.Value) > 0 }) {
			t.Errorf("no write to %s in block; writes: %v", s.Key(id), got.Writes)
		}
		if len(got.Endorsers) == 0 || !slices.IsSorted(got.Endorsers) || got.Creator == "" || got.Time.IsZero() {
			t.Errorf("endorsers %v, creator %q, time %v: want sorted endorsers, a creator and a time", got.Endorsers, got.Creator, got.Time)
		}
		return true
	})
	if err != nil {
		t.Error(err)
	}
}

func checkRefusal(t *testing.T, ctx context.Context, s Subject) {
	id := newID(t)
	create(t, ctx, s, id)
	again := s.Create(id)
	_, err := s.Ledger.Submit(ctx, ledger.Request{Role: again.Role, Transaction: again.Name, Argument: again.Argument})
	if got := domain.KindOf(err); got != domain.Exists {
		t.Errorf("second Submit of %s: kind %q of error %v, want %q", again.Name, got, err, domain.Exists)
	}
	var unknown *ledger.OutcomeUnknownError
	if errors.As(err, &unknown) {
		t.Errorf("a refusal must not be an unknown outcome: %v", err)
	}
	read := s.Read(newID(t))
	_, err = s.Ledger.Evaluate(ctx, read.Role, read.Name, read.Argument)
	if got := domain.KindOf(err); got != domain.NotFound {
		t.Errorf("Evaluate of an absent record: kind %q of error %v, want %q", got, err, domain.NotFound)
	}
}

func checkEvaluate(t *testing.T, ctx context.Context, s Subject) {
	id := newID(t)
	tx := s.Create(id)
	if _, err := s.Ledger.Evaluate(ctx, tx.Role, tx.Name, tx.Argument); err != nil {
		t.Fatalf("Evaluate(%s): %v", tx.Name, err)
	}
	read := s.Read(id)
	_, err := s.Ledger.Evaluate(ctx, read.Role, read.Name, read.Argument)
	if got := domain.KindOf(err); got != domain.NotFound {
		t.Errorf("after evaluating %s: kind %q of error %v, want %q", tx.Name, got, err, domain.NotFound)
	}
}

func checkConcurrent(t *testing.T, ctx context.Context, s Subject) {
	const n = 8
	receipts := make([]ledger.Receipt, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		tx := s.Create(newID(t))
		wg.Go(func() {
			receipts[i], errs[i] = s.Ledger.Submit(ctx, ledger.Request{Role: tx.Role, Transaction: tx.Name, Argument: tx.Argument})
		})
	}
	wg.Wait()
	seen := make(map[domain.TxID]bool)
	for i, err := range errs {
		if err != nil {
			t.Errorf("submit %d: %v", i, err)
		}
		seen[receipts[i].TxID] = true
	}
	if len(seen) != n {
		t.Errorf("%d distinct transaction IDs, want %d", len(seen), n)
	}
}

// submit runs tx as an operation.
func submit(ctx context.Context, s Subject, tx Transaction, operation string) (ledger.Receipt, error) {
	return s.Ledger.Submit(ctx, ledger.Request{Role: tx.Role, Transaction: tx.Name, Argument: tx.Argument, Operation: operation})
}

func checkOperation(t *testing.T, ctx context.Context, s Subject) {
	tx, operation := s.Create(newID(t)), newID(t)
	first, err := submit(ctx, s, tx, operation)
	if err != nil {
		t.Fatalf("Submit(%s): %v", tx.Name, err)
	}
	again, err := submit(ctx, s, tx, operation)
	if err != nil {
		t.Fatalf("the operation again: %v, want the first answer", err)
	}
	if !bytes.Equal(again.Result, first.Result) {
		t.Errorf("the operation again answers %s, want %s", again.Result, first.Result)
	}
	if again.TxID == first.TxID {
		t.Error("the repetition has the first transaction's ID")
	}
	if !first.Wrote || again.Wrote {
		t.Errorf("the operation wrote something: %t, and again: %t", first.Wrote, again.Wrote)
	}
	err = find(ctx, s.Ledger, first.Block, func(b domain.Block) bool {
		for _, got := range b.Transactions {
			if got.ID != first.TxID && got.ID != again.TxID {
				continue
			}
			if want := []string{string(tx.Argument), operation}; !slices.Equal(got.Arguments, want) {
				t.Errorf("arguments in block = %q, want %q", got.Arguments, want)
			}
			if got.ID == again.TxID && len(got.Writes) != 0 {
				t.Errorf("the repetition writes %v", got.Writes)
			}
		}
		return b.Number == again.Block
	})
	if err != nil {
		t.Error(err)
	}
}

func checkOperationReused(t *testing.T, ctx context.Context, s Subject) {
	operation, other := newID(t), newID(t)
	tx := s.Create(newID(t))
	if _, err := submit(ctx, s, tx, operation); err != nil {
		t.Fatalf("Submit(%s): %v", tx.Name, err)
	}
	_, err := submit(ctx, s, s.Create(other), operation)
	if got := domain.KindOf(err); got != domain.Invalid || !strings.Contains(err.Error(), operation) {
		t.Errorf("the operation with another argument: %v, want kind %q and the operation named", err, domain.Invalid)
	}
	read := s.Read(other)
	if _, err := s.Ledger.Evaluate(ctx, read.Role, read.Name, read.Argument); domain.KindOf(err) != domain.NotFound {
		t.Errorf("after the refusal: read of the other record answers %v, want kind %q", err, domain.NotFound)
	}
}

// checkOperationRefused checks that only what succeeded is remembered.
func checkOperationRefused(t *testing.T, ctx context.Context, s Subject) {
	id, operation := newID(t), newID(t)
	create(t, ctx, s, id)
	if _, err := submit(ctx, s, s.Create(id), operation); domain.KindOf(err) != domain.Exists {
		t.Fatalf("Submit of a record that is there = %v, want kind %q", err, domain.Exists)
	}
	if _, err := submit(ctx, s, s.Create(newID(t)), operation); err != nil {
		t.Errorf("the operation with another argument, after it was refused: %v", err)
	}
}

func checkOperationConcurrent(t *testing.T, ctx context.Context, s Subject) {
	const n = 8
	before := create(t, ctx, s, newID(t)).Block
	id, operation := newID(t), newID(t)
	tx := s.Create(id)
	receipts := make([]ledger.Receipt, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			var err error
			if receipts[i], err = submit(ctx, s, tx, operation); err != nil {
				t.Errorf("submit %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	last := before
	for i, r := range receipts {
		last = max(last, r.Block)
		if !bytes.Equal(r.Result, receipts[0].Result) {
			t.Errorf("submit %d answers %s, the first %s", i, r.Result, receipts[0].Result)
		}
	}
	effects := 0
	err := find(ctx, s.Ledger, before, func(b domain.Block) bool {
		for _, got := range b.Transactions {
			if got.Valid() && slices.ContainsFunc(got.Writes, func(w domain.Write) bool { return w.Key == s.Key(id) }) {
				effects++
			}
		}
		return b.Number == last
	})
	if err != nil || effects != 1 {
		t.Errorf("%d transactions wrote the record, %v; want 1", effects, err)
	}
}

func checkCancelled(t *testing.T, ctx context.Context, s Subject) {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	tx := s.Create(newID(t))
	_, err := s.Ledger.Submit(ctx, ledger.Request{Role: tx.Role, Transaction: tx.Name, Argument: tx.Argument})
	var unknown *ledger.OutcomeUnknownError
	if err == nil || errors.As(err, &unknown) {
		t.Errorf("Submit with a cancelled context = %v, want an error that says nothing was ordered", err)
	}
}

func checkBlocks(t *testing.T, ctx context.Context, s Subject) {
	last := create(t, ctx, s, newID(t)).Block
	next, previous := uint64(0), ""
	err := find(ctx, s.Ledger, 0, func(b domain.Block) bool {
		if b.Number != next {
			t.Errorf("block %d follows, want %d", b.Number, next)
			return true
		}
		if b.Number > 0 && b.PreviousHash != previous {
			t.Errorf("block %d: previous hash %s, want %s", b.Number, b.PreviousHash, previous)
		}
		if len(b.Hash) != 64 || len(b.DataHash) != 64 || len(b.Transactions) == 0 {
			t.Errorf("block %d: hash %q, data hash %q, %d transactions", b.Number, b.Hash, b.DataHash, len(b.Transactions))
		}
		if b.Number > 0 && len(b.Signers) == 0 || !slices.IsSorted(b.Signers) {
			t.Errorf("block %d: signers %v, want some, sorted", b.Number, b.Signers)
		}
		next, previous = b.Number+1, b.Hash
		return b.Number == last
	})
	if err != nil {
		t.Error(err)
	}
}

func checkFollow(t *testing.T, ctx context.Context, s Subject) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	from := create(t, ctx, s, newID(t)).Block

	id := newID(t)
	ended := make(chan error, 1)
	following := make(chan struct{})
	go func() {
		ended <- s.Ledger.Blocks(ctx, from, func(b domain.Block) error {
			if b.Number == from {
				close(following)
			}
			for _, tx := range b.Transactions {
				for _, w := range tx.Writes {
					if w.Key == s.Key(id) {
						return errFound
					}
				}
			}
			return nil
		})
	}()
	select {
	case <-following:
	case err := <-ended:
		t.Fatalf("Blocks ended before block %d: %v", from, err)
	}
	create(t, ctx, s, id)
	if err := <-ended; !errors.Is(err, errFound) {
		t.Errorf("Blocks = %v, want the error that yield returned", err)
	}

	ctx, cancel = context.WithCancel(ctx)
	err := s.Ledger.Blocks(ctx, from, func(domain.Block) error { cancel(); return nil })
	cancel()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Blocks after its context was cancelled = %v, want %v", err, context.Canceled)
	}
}

func checkUnknownStatus(t *testing.T, ctx context.Context, s Subject) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	code, block, err := s.Ledger.Status(ctx, domain.TxID(domain.Digest([]byte(newID(t)))))
	if code != "" || block != 0 || err != nil {
		t.Errorf("Status of a transaction nobody sent = %q, %d, %v; want nothing", code, block, err)
	}
}

func checkHeights(t *testing.T, ctx context.Context, s Subject) {
	block := create(t, ctx, s, newID(t)).Block
	for {
		heights := s.Ledger.Heights(ctx)
		if len(heights) < s.Quorum {
			t.Fatalf("%d heights, want at least %d", len(heights), s.Quorum)
		}
		behind := slices.IndexFunc(heights, func(h ledger.DepartmentHeight) bool { return h.Err != nil || h.Height <= block })
		if behind < 0 {
			return
		}
		if err := ctx.Err(); err != nil {
			t.Fatalf("department %s: height %d, error %v; want more than %d", heights[behind].Department, heights[behind].Height, heights[behind].Err, block)
		}
		select { // a peer commits when it has the block: ask again
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func checkSignedRead(t *testing.T, ctx context.Context, s Subject) {
	id, nonce := newID(t), newID(t)
	create(t, ctx, s, id)
	for _, ask := range []domain.AttestArgs{s.Attest(id, nonce), s.Attest(newID(t), nonce)} {
		read, err := s.Ledger.SignedRead(ctx, ask, s.Quorum)
		if err != nil {
			t.Fatalf("SignedRead(%+v): %v", ask, err)
		}
		if !bytes.Contains(read.Proposal, []byte(nonce)) || !bytes.Contains(read.Response, []byte(nonce)) {
			t.Error("the nonce is not in the proposal and the response")
		}
		signers := make(map[string]bool)
		for _, e := range read.Endorsements {
			if len(e.Signature) == 0 {
				t.Error("an endorsement has no signature")
			}
			signers[string(e.Endorser)] = true
		}
		if len(signers) < s.Quorum || len(signers) != len(read.Endorsements) {
			t.Errorf("%d distinct signers of %d endorsements, want at least %d", len(signers), len(read.Endorsements), s.Quorum)
		}
		if s.Verify != nil {
			if err := s.Verify(read); err != nil {
				t.Errorf("verify the signed read: %v", err)
			}
		}
	}
}

func checkNoQuorum(t *testing.T, ctx context.Context, s Subject) {
	departments := len(s.Ledger.Heights(ctx))
	_, err := s.Ledger.SignedRead(ctx, s.Attest(newID(t), newID(t)), departments+1)
	var unavailable *ledger.UnavailableError
	if !errors.As(err, &unavailable) {
		t.Errorf("SignedRead by %d of %d departments = %v, want an UnavailableError", departments+1, departments, err)
	}
}
