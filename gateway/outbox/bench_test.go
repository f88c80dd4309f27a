package outbox

import (
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// BenchmarkStore stores and forgets a write of a usual size, from many callers at
// once: what the outbox adds to each.
func BenchmarkStore(b *testing.B) {
	s, _, err := openStore(b.Context(), filepath.Join(b.TempDir(), "outbox.sqlite"), func() (never time.Time) { return })
	if err != nil {
		b.Fatal(err)
	}
	argument, signed := make([]byte, 1_500), make([]byte, 9_000)
	var n atomic.Int64
	b.SetParallelism(16)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			r := row{id: strconv.FormatInt(n.Add(1), 10), request: ledger.Request{Role: role, Transaction: createTx, Argument: argument}, tx: ledger.Transaction{ID: "x", Bytes: signed}}
			if err := s.put(r); err != nil {
				b.Error(err)
			}
			s.forget(r.id)
		}
	})
	if err := s.close(); err != nil {
		b.Fatal(err)
	}
}
