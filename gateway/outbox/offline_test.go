package outbox

import (
	"context"
	"errors"
	"testing"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/ledger/ledgertest"
)

// handed is a request of a caller who signs, with its transaction.
func handed(t *testing.T, l *ledgertest.Ledger, operation, name string) (ledger.Request, ledger.Transaction) {
	t.Helper()
	r := ledger.Request{Role: role, Transaction: createTx, Argument: []byte(name), Operation: operation}
	tx, err := l.Endorse(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return r, tx
}

// TestHand hands over what was signed elsewhere, and again.
func TestHand(t *testing.T) {
	b, chain, l, _ := newOutbox(t)
	r, tx := handed(t, l, id(1), "a")
	receipt, err := b.Hand(t.Context(), r, tx)
	if err != nil || receipt.TxID != tx.ID {
		t.Fatalf("got %+v, %v, want %s", receipt, err, tx.ID)
	}
	// Its caller may have lost the answer: the outcome stays.
	if o := await(t, b, id(1), ledger.Committed); o.TxID != tx.ID {
		t.Errorf("the operation is %+v", o)
	}
	if again, err := b.Hand(t.Context(), r, tx); err != nil || again.Position != receipt.Position {
		t.Errorf("handed over again: %+v, %v", again, err)
	}
	if n := effects(t, chain, "a"); n != 1 {
		t.Errorf("written %d times", n)
	}
	if _, err := b.Hand(t.Context(), ledger.Request{Transaction: createTx}, tx); err == nil {
		t.Error("taken without an operation")
	}
}

// TestHandLost hands over what lost a race: the gateway cannot sign it anew, and does
// not try, also not after a restart.
func TestHandLost(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		b, chain, l, file := newOutbox(t)
		r, tx := handed(t, l, id(1), "a")
		winner, won := handed(t, l, id(2), "a")
		if _, err := b.Hand(t.Context(), winner, won); err != nil {
			t.Fatal(err)
		}
		signed := 0
		fault := func(op string) (bool, error) {
			switch op {
			case "endorse " + createTx:
				signed++
			case "submit " + createTx:
				if restarted {
					return false, &ledger.OutcomeUnknownError{Err: errors.New("lost")}
				}
			}
			return true, nil
		}
		l.SetFault(fault)
		ctx := t.Context()
		if restarted {
			var cancel context.CancelFunc
			ctx, cancel = context.WithCancel(ctx)
			cancel()
		}
		_, err := b.Hand(ctx, r, tx)
		if restarted {
			var unknown *ledger.OutcomeUnknownError
			if !errors.As(err, &unknown) || unknown.TxID != tx.ID {
				t.Fatalf("got %v", err)
			}
			if first, now, ok := b.UnderWay(id(1)); !ok || string(first.Argument) != "a" || now.TxID != tx.ID {
				t.Errorf("under way: %+v, %+v", first, now)
			}
			closeNow(t, b)
			restarted = false // what follows is the next process
			b = open(t, file, l)
		} else if domain.KindOf(err) != domain.Conflict {
			t.Errorf("a lost race: %v", err)
		}
		if o := await(t, b, id(1), ledger.Rejected); o.Refusal == nil || o.Refusal.Kind != domain.Conflict || signed != 0 {
			t.Errorf("the operation is %+v, signed anew %d times", o, signed)
		}
		if n := effects(t, chain, "a"); n != 1 {
			t.Errorf("written %d times", n)
		}
	}
}

// TestOpenFirstSchema opens an outbox that was written before callers could sign.
func TestOpenFirstSchema(t *testing.T) {
	b, _, l, file := newOutbox(t)
	if _, err := b.store.db.Exec(`ALTER TABLE writes DROP COLUMN offline; PRAGMA user_version = 1`); err != nil {
		t.Fatal(err)
	}
	closeNow(t, b)
	b = open(t, file, l)
	r, tx := handed(t, l, id(1), "a")
	if _, err := b.Hand(t.Context(), r, tx); err != nil {
		t.Error(err)
	}
}
