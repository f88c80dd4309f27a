package service_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/service"
)

// behind is an index that gets blocks when the test says so.
type behind struct {
	index.Index
	mu    sync.Mutex
	next  uint64
	grown chan struct{}
}

func (b *behind) now() (next uint64, grown chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.next, b.grown
}

func (b *behind) NextBlock(context.Context) (uint64, error) {
	next, _ := b.now()
	return next, nil
}

func (b *behind) WaitBlock(ctx context.Context, number uint64) error {
	for {
		next, grown := b.now()
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

func (b *behind) Get(context.Context, domain.RecordKind, string) (index.Record, error) {
	return index.Record{}, &domain.Error{Kind: domain.NotFound}
}

func (b *behind) grow(to uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next = to
	close(b.grown)
	b.grown = make(chan struct{})
}

// commits is a ledger that commits everything in one block.
type commits struct {
	ledger.Ledger
	block  uint64
	result []byte
	wrote  bool
}

func (c *commits) Submit(context.Context, ledger.Request) (ledger.Receipt, error) {
	return ledger.Receipt{Position: domain.Position{Block: c.block}, Result: c.result, Wrote: c.wrote}, nil
}

// TestToldWaitsInTheReader checks that a write is answered once it is on the ledger, and
// that who reads the index after that waits for its block, for a bounded time.
func TestToldWaitsInTheReader(t *testing.T) {
	result, err := domain.Canonical(domain.CatalogEntry{})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ix := &behind{next: 7, grown: make(chan struct{})}
		chain := &commits{block: 7, result: result, wrote: true}
		catalog := service.NewCatalog(chain, service.NewTold(ix, time.Now))
		write := func(want time.Duration) {
			t.Helper()
			for _, operation := range []string{"", grantID(1)} {
				began := time.Now()
				caller := service.Caller{Department: "police", Role: domain.RoleOperator, Operation: operation}
				if _, err := catalog.Register(t.Context(), caller, domain.RegisterCatalogArgs{Content: content()}); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took != want {
					t.Errorf("a write with operation %q waited for %s, want %s", operation, took, want)
				}
			}
		}
		read := func() chan time.Duration {
			done, began := make(chan time.Duration, 1), time.Now()
			go func() {
				_, err := catalog.Get(t.Context(), entryCode)
				wantKind(t, err, domain.NotFound, "")
				done <- time.Since(began)
			}()
			return done
		}
		wantRead := func(done chan time.Duration, want time.Duration) {
			t.Helper()
			if took := <-done; took != want {
				t.Errorf("the read took %s, want %s", took, want)
			}
		}

		wantRead(read(), 0) // nothing was told yet
		write(0)
		first := read()
		time.Sleep(time.Second)
		ix.grow(8)
		wantRead(first, time.Second)
		wantRead(read(), 0)

		// A block that the index has is not waited for, also after a later one was told of.
		write(0)
		wantRead(read(), 0)

		// An index that stays behind is waited for from the first block that it lacks on, and
		// not any more after that.
		chain.block = 8
		write(0)
		time.Sleep(2 * time.Second)
		chain.block = 9
		write(0)
		wantRead(read(), time.Second)
		wantRead(read(), 0)
		ix.grow(10)
		chain.block = 10
		write(0)
		wantRead(read(), 3*time.Second)
		ix.grow(11)

		// What was done before is looked for in the index, which must have the block of its repetition.
		chain.block, chain.wrote = 11, false
		began := time.Now()
		go func() { time.Sleep(time.Second); ix.grow(12) }()
		caller := service.Caller{Department: "police", Role: domain.RoleOperator, Operation: grantID(1)}
		var unknown *ledger.OutcomeUnknownError // this index finds nothing
		if _, err := catalog.Register(t.Context(), caller, domain.RegisterCatalogArgs{Content: content()}); !errors.As(err, &unknown) {
			t.Fatal(err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("a repeated write took %s, want %s", took, time.Second)
		}
	})
}
