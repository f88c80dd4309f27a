package tilelog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/gateway/accesslog"
	"github.com/zhenglian/zhenglian/gateway/tilelog/tilelogtest"
)

// BenchmarkAppend measures durable records per second, and how long one append
// takes, for callers at a time × records of 700 bytes each. One iteration is one
// append.
func BenchmarkAppend(b *testing.B) {
	for _, test := range []struct{ callers, records int }{{1, 1}, {64, 1}, {1, 100}, {8, 100}, {4, 1000}} {
		b.Run(fmt.Sprintf("callers=%d/records=%d", test.callers, test.records), func(b *testing.B) {
			l := openDir(b, b.TempDir(), newKey(b, origin))
			times := make([]time.Duration, b.N)
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range test.callers {
				wg.Go(func() {
					entries := make([][]byte, test.records)
					for {
						n := next.Add(1) - 1
						if n >= int64(b.N) {
							return
						}
						for i := range entries {
							entries[i] = fmt.Appendf(nil, "%-700d", n*int64(test.records)+int64(i))
						}
						begin := time.Now()
						if _, err := l.Append(b.Context(), entries); err != nil {
							b.Error(err)
							return
						}
						times[n] = time.Since(begin)
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N*test.records)/b.Elapsed().Seconds(), "records/s")
			reportTimes(b, times)
		})
	}
}

// reportTimes reports the median and the 99th percentile of times, which it sorts.
func reportTimes(b *testing.B, times []time.Duration) {
	slices.Sort(times)
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	b.ReportMetric(ms(times[len(times)/2]), "p50-ms")
	b.ReportMetric(ms(times[len(times)*99/100]), "p99-ms")
}

// BenchmarkReceipts measures how long a durable receipt takes when records of 700
// bytes come at 2,000 a second, one by one or in arrays, whatever the log does: the
// times count from the intended start. One iteration is one append.
func BenchmarkReceipts(b *testing.B) {
	const rate = 2000 // records a second
	for _, records := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("records=%d", records), func(b *testing.B) {
			l := openDir(b, b.TempDir(), newKey(b, origin))
			times := make([]time.Duration, b.N)
			var refused atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			begin := time.Now()
			for n := range b.N {
				intended := begin.Add(time.Duration(n*records) * time.Second / rate)
				time.Sleep(time.Until(intended))
				wg.Go(func() {
					entries := make([][]byte, records)
					for i := range entries {
						entries[i] = fmt.Appendf(nil, "%-700d", n*records+i)
					}
					var busy *accesslog.BusyError
					if _, err := l.Append(b.Context(), entries); errors.As(err, &busy) {
						refused.Add(1)
					} else if err != nil {
						b.Error(err)
					}
					times[n] = time.Since(intended)
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N*records)/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(float64(refused.Load()), "refused")
			reportTimes(b, times)
		})
	}
}

// leavesEnv is the size of the log that [BenchmarkProofs] reads: 1,000,000 unless
// it says otherwise. 10,000,000 take some 500 MB of disk.
const leavesEnv = "ZHENGLIAN_BENCH_LEAVES"

// BenchmarkProofs measures how long proofs and reading take in a large log, each
// at a place of its own.
func BenchmarkProofs(b *testing.B) {
	leaves := uint64(1_000_000)
	if text := os.Getenv(leavesEnv); text != "" {
		var err error
		if leaves, err = strconv.ParseUint(text, 10, 64); err != nil {
			b.Fatal(err)
		}
	}
	dir, key := b.TempDir(), newKey(b, origin)
	begin := time.Now()
	if err := tilelogtest.Fill(b.Context(), dir, key, leaves); err != nil {
		b.Fatal(err)
	}
	l := openDir(b, dir, key)
	b.Logf("%d leaves written in %s", leaves, time.Since(begin).Round(time.Second))
	for _, test := range []struct {
		name string
		call func(at uint64) error
	}{
		{"inclusion", func(at uint64) error { _, err := l.InclusionProof(b.Context(), at, leaves); return err }},
		{"inclusion in an older tree", func(at uint64) error { _, err := l.InclusionProof(b.Context(), at/2, at/2+1); return err }},
		{"consistency", func(at uint64) error { _, err := l.ConsistencyProof(b.Context(), at+1, leaves); return err }},
		{"entries", func(at uint64) error { _, err := l.Entries(b.Context(), at, leaves); return err }},
	} {
		b.Run(test.name, func(b *testing.B) {
			times := make([]time.Duration, b.N)
			b.ResetTimer()
			for n := range b.N {
				at := rand.Uint64N(leaves) //nolint:gosec // any places do
				begin := time.Now()
				if err := test.call(at); err != nil {
					b.Fatal(err)
				}
				times[n] = time.Since(begin)
			}
			b.StopTimer()
			reportTimes(b, times)
		})
	}
}
