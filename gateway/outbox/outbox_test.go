package outbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/ledger/ledgertest"
)

const (
	department = "police"
	role       = domain.RoleOperator
	createTx   = "catalog:Register"
)

// things is a ledger of things: created once, read, counted by their writes.
func things(call ledgertest.Call) ([]byte, []domain.Write, error) {
	key := keyOf(string(call.Argument))
	switch stored := call.State.Get(key); {
	case call.Transaction == "evidence:Attest":
		return call.Argument, nil, nil
	case call.Transaction != createTx && stored == nil:
		return nil, nil, &domain.Error{Kind: domain.NotFound, Msg: string(call.Argument)}
	case call.Transaction != createTx:
		return stored, nil, nil
	case stored != nil:
		return nil, nil, &domain.Error{Kind: domain.Exists, Msg: string(call.Argument)}
	}
	value := []byte(`{"by":"` + string(call.Tx.ID) + `"}`)
	return value, []domain.Write{{Key: key, Value: value}}, nil
}

func keyOf(name string) string { return domain.KeyOf(domain.KindCertificate, name) }

func newChain() *ledgertest.Chain { return ledgertest.NewChain(ledgertest.Once(things)) }

// quick makes a test not wait between attempts.
var quick = Options{pauses: pauses{time.Millisecond, 10 * time.Millisecond}}

func open(t *testing.T, file string, adapter ledger.Adapter) *Outbox {
	t.Helper()
	b, err := Open(t.Context(), file, adapter, quick)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.stop(); b.work.Wait() })
	return b
}

func newOutbox(t *testing.T) (*Outbox, *ledgertest.Chain, *ledgertest.Ledger, string) {
	t.Helper()
	chain := newChain()
	l := chain.Ledger(department)
	file := filepath.Join(t.TempDir(), "folder", "outbox.sqlite")
	return open(t, file, l), chain, l, file
}

func closeNow(t *testing.T, b *Outbox) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

func id(n int) string { return fmt.Sprintf("%032x", n) }

// effects counts the valid transactions that wrote a thing.
func effects(t *testing.T, chain *ledgertest.Chain, name string) (n int) {
	t.Helper()
	last, done := chain.Height()-1, errors.New("done")
	err := chain.Ledger(department).Blocks(t.Context(), 0, func(b domain.Block) error {
		for _, tx := range b.Transactions {
			for _, w := range tx.Writes {
				if tx.Valid() && w.Key == keyOf(name) {
					n++
				}
			}
		}
		if b.Number == last {
			return done
		}
		return nil
	})
	if !errors.Is(err, done) {
		t.Fatal(err)
	}
	return n
}

// await waits until an operation is in a state.
func await(t *testing.T, b *Outbox, operation string, state ledger.State) ledger.Operation {
	t.Helper()
	for {
		o, err := b.Operation(t.Context(), operation)
		if err != nil {
			t.Fatal(err)
		}
		if o.State == state {
			return o
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("operation is %+v, want state %s", o, state)
		case <-time.After(time.Millisecond):
		}
	}
}

func stored(t *testing.T, file string) (n int) {
	t.Helper()
	s, _, err := openStore(t.Context(), file, func() time.Time { return time.Time{} })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.db.QueryRow("SELECT count(*) FROM writes").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestConformance(t *testing.T) {
	ledgertest.Run(t, func(t *testing.T) ledgertest.Subject {
		return ledgertest.Subject{
			Ledger: open(t, filepath.Join(t.TempDir(), "outbox.sqlite"), newChain().Ledger(department)),
			Quorum: 3,
			Create: func(id string) ledgertest.Transaction {
				return ledgertest.Transaction{Role: role, Name: createTx, Argument: []byte(id)}
			},
			Read: func(id string) ledgertest.Transaction {
				return ledgertest.Transaction{Role: role, Name: "certificate:Get", Argument: []byte(id)}
			},
			Key: keyOf,
			Attest: func(id, nonce string) domain.AttestArgs {
				return domain.AttestArgs{Kind: domain.KindCertificate, ID: id, Nonce: nonce}
			},
		}
	})
}

// TestAnsweredWritesLeaveNothing checks that what the caller knows is not kept, and
// who may read the file.
func TestAnsweredWritesLeaveNothing(t *testing.T) {
	b, chain, _, file := newOutbox(t)
	for i, operation := range []string{"", id(1)} {
		name := fmt.Sprint("thing", i)
		receipt, err := b.Submit(t.Context(), ledger.Request{Role: role, Transaction: createTx, Argument: []byte(name), Operation: operation})
		if err != nil || receipt.Block == 0 || !strings.Contains(string(receipt.Result), string(receipt.TxID)) {
			t.Errorf("Submit = %+v, %v", receipt, err)
		}
		if _, err := b.Submit(t.Context(), ledger.Request{Role: role, Transaction: createTx, Argument: []byte(name)}); domain.KindOf(err) != domain.Exists {
			t.Errorf("again: %v, want kind %s", err, domain.Exists)
		}
		if n := effects(t, chain, name); n != 1 {
			t.Errorf("%d effects, want 1", n)
		}
	}
	if _, err := b.Operation(t.Context(), id(2)); domain.KindOf(err) != domain.NotFound {
		t.Errorf("an operation nobody sent: %v, want kind %s", err, domain.NotFound)
	}
	for _, f := range []string{file, file + "-wal"} {
		info, err := os.Stat(f)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode of %s is %v, %v; want 0600", f, info.Mode(), err)
		}
	}
	closeNow(t, b)
	if n := stored(t, file); n != 0 || b.Pending() != 0 {
		t.Errorf("%d writes are stored, %d pending", n, b.Pending())
	}
}

// TestUnknownOutcome lets the answer to a transaction get lost, before or after it
// had its effect: the caller learns the outcome all the same.
func TestUnknownOutcome(t *testing.T) {
	for _, applied := range []bool{true, false} {
		b, chain, l, _ := newOutbox(t)
		left := 3
		l.SetFault(func(op string) (bool, error) {
			if left--; strings.HasPrefix(op, "submit ") && left >= 0 {
				return applied, &ledger.OutcomeUnknownError{Err: errors.New("insufficient number of orderers")}
			}
			return true, nil
		})
		if _, err := b.Submit(t.Context(), ledger.Request{Role: role, Transaction: createTx, Argument: []byte("thing")}); err != nil {
			t.Error(err)
		}
		if n := effects(t, chain, "thing"); n != 1 {
			t.Errorf("applied %v: %d effects, want 1", applied, n)
		}
	}
}

// TestCallerDoesNotWait gives up on a write whose outcome takes long: it goes on.
func TestCallerDoesNotWait(t *testing.T) {
	for _, operation := range []string{id(1), ""} {
		b, chain, l, file := newOutbox(t)
		ctx, cancel := context.WithCancel(t.Context())
		l.SetFault(func(op string) (bool, error) {
			if strings.HasPrefix(op, "submit ") {
				cancel()
				return false, &ledger.OutcomeUnknownError{Err: errors.New("no orderer")}
			}
			return true, nil
		})
		_, err := b.Submit(ctx, ledger.Request{Role: role, Transaction: createTx, Argument: []byte("thing"), Operation: operation})
		var unknown *ledger.OutcomeUnknownError
		if !errors.As(err, &unknown) || unknown.TxID == "" || unknown.Operation == "" || operation != "" && unknown.Operation != operation {
			t.Fatalf("Submit = %v, want an unknown outcome with operation and transaction", err)
		}
		if o := await(t, b, unknown.Operation, ledger.Pending); o.TxID != unknown.TxID || o.Transaction != createTx {
			t.Errorf("pending operation is %+v", o)
		}
		closeNow(t, b) // the process ends

		l.SetFault(nil)
		b = open(t, file, l)
		o := await(t, b, unknown.Operation, ledger.Committed)
		if o.TxID != unknown.TxID || o.Receipt.Block == 0 || len(o.Receipt.Result) == 0 || o.Settled.IsZero() {
			t.Errorf("committed operation is %+v", o)
		}
		if n := effects(t, chain, "thing"); n != 1 {
			t.Errorf("%d effects, want 1", n)
		}
		closeNow(t, b)
		b = open(t, file, l) // the outcome is answered by a later process, too
		if again := await(t, b, unknown.Operation, ledger.Committed); !again.Settled.Equal(o.Settled.Truncate(time.Millisecond)) || again.TxID != o.TxID {
			t.Errorf("later the operation is %+v, it was %+v", again, o)
		}
	}
}

// TestPeerDown writes while nothing can be endorsed: with an operation it is
// accepted and happens when it can, also in another process; without one it fails.
func TestPeerDown(t *testing.T) {
	b, chain, l, file := newOutbox(t)
	down := func(op string) (bool, error) {
		if strings.HasPrefix(op, "endorse ") {
			return false, &ledger.UnavailableError{Err: errors.New("no peer")}
		}
		return true, nil
	}
	l.SetFault(down)
	var unavailable *ledger.UnavailableError
	if _, err := b.Submit(t.Context(), ledger.Request{Role: role, Transaction: createTx, Argument: []byte("no key")}); !errors.As(err, &unavailable) {
		t.Errorf("without an operation: %v, want an UnavailableError", err)
	}
	for i := range 3 {
		var unknown *ledger.OutcomeUnknownError
		_, err := b.Submit(t.Context(), ledger.Request{Role: role, Transaction: createTx, Argument: fmt.Append(nil, "thing", i%2), Operation: id(i)})
		if !errors.As(err, &unknown) || unknown.Operation != id(i) || unknown.TxID != "" {
			t.Errorf("with an operation: %v, want an unknown outcome", err)
		}
	}
	closeNow(t, b)
	b = open(t, file, l)
	await(t, b, id(0), ledger.Pending)
	l.SetFault(nil)
	await(t, b, id(1), ledger.Committed)
	states := []ledger.State{"", ""}
	for i, n := range []int{0, 2} { // both create the same: one of them does
		for states[i] == "" || states[i] == ledger.Pending {
			o, err := b.Operation(t.Context(), id(n))
			if err != nil {
				t.Fatal(err)
			}
			if states[i] = o.State; o.State == ledger.Rejected && (o.Refusal == nil || o.Refusal.Kind != domain.Exists) {
				t.Errorf("rejected for %v, want kind %s", o.Refusal, domain.Exists)
			}
		}
	}
	if states[0] == states[1] {
		t.Errorf("two creations of one thing are both %s", states[0])
	}
	for _, name := range []string{"thing0", "thing1"} {
		if n := effects(t, chain, name); n != 1 {
			t.Errorf("%s: %d effects, want 1", name, n)
		}
	}
}

// TestBoundedWait asks not to wait, or for a while.
func TestBoundedWait(t *testing.T) {
	b, _, _, _ := newOutbox(t)
	var unknown *ledger.OutcomeUnknownError
	if _, err := b.Submit(ledger.WithWait(t.Context(), 0), ledger.Request{Role: role, Transaction: createTx, Argument: []byte("a"), Operation: id(1)}); !errors.As(err, &unknown) {
		t.Errorf("without a wait: %v, want an unknown outcome", err)
	}
	await(t, b, id(1), ledger.Committed)
	if _, err := b.Submit(ledger.WithWait(t.Context(), time.Minute), ledger.Request{Role: role, Transaction: createTx, Argument: []byte("b"), Operation: id(2)}); err != nil {
		t.Errorf("with a long wait: %v", err)
	}
	if _, err := b.Submit(ledger.WithWait(t.Context(), 0), ledger.Request{Role: role, Transaction: createTx, Argument: []byte("c")}); err != nil {
		t.Errorf("without an operation nobody could ask for the outcome: %v", err)
	}
}

// TestRepetition sends an operation again while it is on its way.
func TestRepetition(t *testing.T) {
	b, chain, l, _ := newOutbox(t)
	held, reached := make(chan struct{}), make(chan struct{}, 9)
	l.SetFault(func(op string) (bool, error) {
		if strings.HasPrefix(op, "submit ") {
			reached <- struct{}{}
			<-held
		}
		return true, nil
	})
	receipts := make([]ledger.Receipt, 4)
	var wg sync.WaitGroup
	for i := range receipts {
		wg.Go(func() {
			var err error
			if receipts[i], err = b.Submit(t.Context(), ledger.Request{Role: role, Transaction: createTx, Argument: []byte("thing"), Operation: id(1)}); err != nil {
				t.Error(err)
			}
		})
	}
	<-reached
	another := ledger.Request{Role: role, Transaction: createTx, Argument: []byte("another"), Operation: id(1)}
	if _, err := b.Submit(ledger.WithWait(t.Context(), 0), another); domain.KindOf(err) != domain.Conflict {
		t.Errorf("another request under the operation, which is under way: %v, want kind %s", err, domain.Conflict)
	}
	wg.Go(func() {
		if _, err := b.Submit(t.Context(), another); !domain.IsOperationReused(err) {
			t.Errorf("another request under the operation, which has an effect: %v, want that it was used", err)
		}
	})
	close(held)
	wg.Wait()
	for _, r := range receipts {
		if diff := cmp.Diff(string(receipts[0].Result), string(r.Result)); diff != "" {
			t.Error(diff)
		}
	}
	if n := effects(t, chain, "thing"); n != 1 {
		t.Errorf("%d effects, want 1", n)
	}
}

// TestLostRaces has transactions endorsed on one state: those that lose are
// proposed anew, a bounded number of times.
func TestLostRaces(t *testing.T) {
	b, chain, _, _ := newOutbox(t)
	const n = 5
	chain.Race(n)
	var wg sync.WaitGroup
	kinds := make([]domain.Kind, n)
	for i := range n {
		wg.Go(func() {
			_, err := b.Submit(t.Context(), ledger.Request{Role: role, Transaction: createTx, Argument: []byte("thing")})
			kinds[i] = domain.KindOf(err)
		})
	}
	wg.Wait()
	count := map[domain.Kind]int{}
	for _, k := range kinds {
		count[k]++
	}
	if diff := cmp.Diff(map[domain.Kind]int{"": 1, domain.Exists: n - 1}, count); diff != "" {
		t.Error(diff)
	}

	b, _, l, _ := newOutbox(t)
	endorsed := 0
	l.SetFault(func(op string) (bool, error) {
		if strings.HasPrefix(op, "endorse ") {
			endorsed++
			return true, nil
		}
		return false, &domain.Error{Kind: domain.Conflict, Msg: "MVCC_READ_CONFLICT"}
	})
	if _, err := b.Submit(t.Context(), ledger.Request{Role: role, Transaction: createTx, Argument: []byte("thing"), Operation: id(1)}); domain.KindOf(err) != domain.Conflict || endorsed != 1+ledger.Retries {
		t.Errorf("after %d proposals: %v, want kind %s after %d", endorsed, err, domain.Conflict, 1+ledger.Retries)
	}
}

// TestFull refuses what it has no room for, before anything is endorsed.
func TestFull(t *testing.T) {
	b, _, l, _ := newOutbox(t)
	l.SetFault(func(string) (bool, error) { return false, &ledger.UnavailableError{Err: errors.New("no peer")} })
	big := make([]byte, maxBytes/2-10)
	var unknown *ledger.OutcomeUnknownError
	if _, err := b.Submit(t.Context(), ledger.Request{Role: role, Transaction: createTx, Argument: big, Operation: id(1)}); !errors.As(err, &unknown) {
		t.Fatal(err)
	}
	var busy *ledger.BusyError
	if _, err := b.Submit(t.Context(), ledger.Request{Role: role, Transaction: createTx, Argument: big[:100], Operation: id(2)}); !errors.As(err, &busy) || busy.RetryAfter < time.Second || !strings.Contains(err.Error(), "1 writes wait") {
		t.Errorf("Submit = %v, want a BusyError that says why, and when to come again", err)
	}
	if _, err := b.Submit(t.Context(), ledger.Request{Role: domain.RoleGateway, Transaction: "access:Anchor", Argument: big[:100]}); err == nil || errors.As(err, &busy) {
		t.Errorf("an anchor: %v, want that there is no peer", err)
	}
	if _, err := b.Submit(t.Context(), ledger.Request{Role: role, Transaction: createTx, Argument: big[:1], Operation: id(3)}); !errors.As(err, &unknown) {
		t.Errorf("what there is room for: %v", err)
	}
}

// TestStorageFails lets the file fail: nothing that is not stored is handed over,
// and the outbox says that it has failed.
func TestStorageFails(t *testing.T) {
	b, chain, _, _ := newOutbox(t)
	if err := b.store.db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, operation := range []string{"", id(1)} {
		var unknown *ledger.OutcomeUnknownError
		if _, err := b.Submit(t.Context(), ledger.Request{Role: role, Transaction: createTx, Argument: []byte("thing"), Operation: operation}); err == nil || errors.As(err, &unknown) {
			t.Errorf("Submit = %v, want a failure", err)
		}
	}
	if n := effects(t, chain, "thing"); n != 0 {
		t.Errorf("%d effects of what could not be stored", n)
	}
	if b.Failed() == nil {
		t.Error("the outbox does not say that it failed")
	}
}

// TestOpenRefuses opens files that are no outbox.
func TestOpenRefuses(t *testing.T) {
	for name, content := range map[string]string{
		"no database": strings.Repeat("not a database ", 100),
		"a torn one":  "SQLite format 3\x00 and no more",
	} {
		file := filepath.Join(t.TempDir(), "outbox.sqlite")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), file, newChain().Ledger(department), quick); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v, want an error that names the file", name, err)
		}
	}
	b, _, _, file := newOutbox(t)
	if _, err := b.store.db.Exec("PRAGMA user_version = 3"); err != nil {
		t.Fatal(err)
	}
	closeNow(t, b)
	if _, err := Open(t.Context(), file, newChain().Ledger(department), quick); err == nil || !strings.Contains(err.Error(), "newer program") {
		t.Errorf("a later version: %v", err)
	}
}

// TestOutcomesGo forgets outcomes that were kept long enough.
func TestOutcomesGo(t *testing.T) {
	b, _, _, file := newOutbox(t)
	var unknown *ledger.OutcomeUnknownError
	if _, err := b.Submit(ledger.WithWait(t.Context(), 0), ledger.Request{Role: role, Transaction: createTx, Argument: []byte("a"), Operation: id(1)}); !errors.As(err, &unknown) {
		t.Fatal(err)
	}
	await(t, b, id(1), ledger.Committed)
	closeNow(t, b)
	now := time.Now()
	for _, tt := range []struct {
		after time.Duration
		kept  int
	}{{6 * 24 * time.Hour, 1}, {8 * 24 * time.Hour, 0}} {
		o := quick
		o.Clock = func() time.Time { return now.Add(tt.after) }
		b, err := Open(t.Context(), file, newChain().Ledger(department), o)
		if err != nil {
			t.Fatal(err)
		}
		closeNow(t, b)
		if n := stored(t, file); n != tt.kept {
			t.Errorf("after %v %d outcomes are kept, want %d", tt.after, n, tt.kept)
		}
	}
}
