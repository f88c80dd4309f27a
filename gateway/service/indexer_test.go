package service_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/cache"
	"github.com/zhenglian/zhenglian/gateway/index/indextest"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/ledger/ledgertest"
	"github.com/zhenglian/zhenglian/gateway/service"
)

// writeKey writes one key, whatever it is called with.
func writeKey(call ledgertest.Call) ([]byte, []domain.Write, error) {
	return nil, []domain.Write{{Key: string(call.Argument), Value: []byte("{}")}}, nil
}

func (w *world) freshIndexer(t *testing.T) *service.Indexer {
	t.Helper()
	x := service.NewIndexer(w.ledger, w.index, w.cache, slog.New(slog.DiscardHandler))
	x.SetContactEvery(5 * time.Millisecond)
	run(t, x.Run)
	return x
}

// bare is a world without records or contracts.
func bare(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, chain: ledgertest.NewChain(writeKey), cache: newMemory(), index: newIndex(t)}
	w.ledger = w.chain.Ledger("police")
	return w
}

func (w *world) put(key string) {
	w.t.Helper()
	if _, err := w.ledger.Submit(w.t.Context(), ledger.Request{Role: domain.RoleOperator, Transaction: "a:B", Argument: []byte(key)}); err != nil {
		w.t.Fatal(err)
	}
}

func TestIndexer(t *testing.T) {
	w := bare(t)
	for i := range 20 {
		w.put(fmt.Sprintf("dept~d%d", i))
	}
	x := service.NewIndexer(w.ledger, w.index, w.cache, slog.New(slog.DiscardHandler))
	x.SetContactEvery(5 * time.Millisecond)
	if x.Fresh(time.Now()) || !x.LastHeard().IsZero() {
		t.Error("fresh before it began")
	}
	run(t, x.Run)
	await(t, "contact", func() bool { return x.Fresh(time.Now()) })
	if next, err := w.index.NextBlock(t.Context()); next != 21 || err != nil {
		t.Errorf("index has %d blocks, %v, and is called fresh", next, err)
	}
	if x.Fresh(x.LastHeard().Add(service.FreshFor + time.Millisecond)) {
		t.Error("fresh for longer than it may be")
	}

	// No block for a while is not silence.
	heard := x.LastHeard()
	await(t, "contact without a block", func() bool { return x.LastHeard().After(heard) })
}

// TestIndexerReconnects breaks the stream after every few blocks.
func TestIndexerReconnects(t *testing.T) {
	w := bare(t)
	var breaks atomic.Int64
	w.ledger.SetFault(func(op string) (bool, error) {
		if op == "blocks" && breaks.Add(1) <= 2 {
			return false, errors.New("stream reset")
		}
		return true, nil
	})
	for i := range 5 {
		w.put(fmt.Sprintf("dept~d%d", i))
	}
	w.freshIndexer(t)
	w.indexed()
	if breaks.Load() != 3 {
		t.Errorf("%d streams, want 3", breaks.Load())
	}
}

// TestIndexerContact checks when the index counts as current: some departments
// are silent, some lie.
func TestIndexerContact(t *testing.T) {
	for _, tt := range []struct {
		name string
		down []domain.DepartmentCode
		want bool
	}{
		{"all answer", nil, true},
		{"one is down", []domain.DepartmentCode{"market"}, true},
		{"own peer is down, blocks come from another", []domain.DepartmentCode{"police"}, true},
		{"two are down", []domain.DepartmentCode{"market", "civil"}, true}, // the other two cannot have gone on without these
		{"cut off alone", []domain.DepartmentCode{"market", "civil", "bigdata"}, false},
		{"nobody answers", []domain.DepartmentCode{"market", "civil", "bigdata", "police"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := bare(t)
			w.put("dept~x")
			for _, d := range tt.down {
				w.chain.SetDown(d, errors.New("connection refused"))
			}
			var asked atomic.Int64
			w.ledger.SetFault(func(op string) (bool, error) {
				if op == "heights" {
					asked.Add(1)
				}
				return true, nil
			})
			x := w.freshIndexer(t)
			w.indexed()
			if tt.want {
				await(t, "contact", func() bool { return x.Fresh(time.Now()) })
				return
			}
			n := asked.Load()
			await(t, "three more questions", func() bool { return asked.Load() > n+3 })
			if x.Fresh(time.Now()) {
				t.Error("fresh without contact")
			}
		})
	}
}

// TestIndexerStalled checks that an index which stops growing stops being fresh
// though all departments answer.
func TestIndexerStalled(t *testing.T) {
	w := bare(t)
	x := w.freshIndexer(t)
	await(t, "contact", func() bool { return x.Fresh(time.Now()) })
	block := make(chan struct{})
	t.Cleanup(func() { close(block) })
	stalled := service.NewIndexer(stuck{w.ledger, block}, newIndex(t), newMemory(), slog.New(slog.DiscardHandler))
	stalled.SetContactEvery(5 * time.Millisecond)
	run(t, stalled.Run)
	heard := x.LastHeard()
	await(t, "the other's contact", func() bool { return x.LastHeard().After(heard.Add(50 * time.Millisecond)) })
	if stalled.Fresh(time.Now()) {
		t.Error("fresh with no block applied")
	}
}

// stuck delivers no block.
type stuck struct {
	*ledgertest.Ledger
	block chan struct{}
}

func (s stuck) Blocks(ctx context.Context, _ uint64, _ func(domain.Block) error) error {
	select {
	case <-s.block:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// TestIndexerOtherLedger checks that an index left over from another ledger is
// found out, whether that was longer or shorter.
func TestIndexerOtherLedger(t *testing.T) {
	for name, blocks := range map[string]int{"longer": 3, "shorter": 9} {
		t.Run(name, func(t *testing.T) {
			old := bare(t)
			for i := range 6 {
				old.put(fmt.Sprintf("dept~old%d", i))
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = service.NewIndexer(old.ledger, old.index, newMemory(), slog.New(slog.DiscardHandler)).Run(ctx)
			}()
			old.indexed()
			cancel()
			<-done

			w := bare(t)
			for i := range blocks {
				w.put(fmt.Sprintf("dept~new%d", i))
			}
			var said lines
			x := service.NewIndexer(w.ledger, old.index, newMemory(), said.logger())
			x.SetContactEvery(5 * time.Millisecond)
			run(t, x.Run)
			await(t, "the alarm", func() bool { return strings.Contains(said.text(), "the index belongs to another ledger") })
			if x.Fresh(time.Now()) {
				t.Error("fresh")
			}
		})
	}
}

func TestIndexerDropsCache(t *testing.T) {
	w := bare(t)
	written, other := strings.Repeat("a", 32), strings.Repeat("b", 32)
	for _, ref := range []string{written, other} {
		w.cache.Put(t.Context(), cacheKey+ref, cache.Entry{Value: []byte("x")}, time.Minute)
	}
	w.freshIndexer(t)
	// An invalid transaction changes nothing.
	w.chain.Append(domain.Transaction{
		ID: "ff", Type: "endorser", Chaincode: ledgertest.Chaincode, ValidationCode: "MVCC_READ_CONFLICT",
		Writes: indextest.PutBatch("1", "police", indextest.Certificate("1", other, domain.CertificateValid, 0)).Writes,
	})
	w.chain.Append(domain.Transaction{
		ID: "fe", Type: "endorser", Chaincode: ledgertest.Chaincode, ValidationCode: "VALID",
		Writes: indextest.PutBatch("1", "police", indextest.Certificate("1", written, domain.CertificateValid, 0)).Writes,
	})
	await(t, "the entry to be dropped", func() bool { return !w.cache.has(cacheKey + written) })
	if !w.cache.has(cacheKey + other) {
		t.Error("dropped the entry of a certificate that was not written")
	}
}
