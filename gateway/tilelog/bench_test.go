package tilelog

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
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
			slices.Sort(times)
			ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
			b.ReportMetric(float64(b.N*test.records)/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(ms(times[len(times)/2]), "p50-ms")
			b.ReportMetric(ms(times[len(times)*99/100]), "p99-ms")
		})
	}
}
