package sqltrail

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/gateway/trail/trailtest"
)

// benchEntries is how many entries the large trail of [BenchmarkTrace] has: a
// million, or what ZHENGLIAN_BENCH_TRAIL says.
func benchEntries(b *testing.B) int {
	text := os.Getenv("ZHENGLIAN_BENCH_TRAIL")
	if text == "" {
		return 1_000_000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// BenchmarkTrace fills a trail of 10,000 entries and one of a million, and asks
// both for pages of 100. It reports the rate of filling and the latencies.
func BenchmarkTrace(b *testing.B) {
	for _, database := range []struct {
		name  string
		where func(b *testing.B) string
	}{
		{"SQLite", func(b *testing.B) string { return filepath.Join(b.TempDir(), "trail.sqlite") }},
		{"PostgreSQL", func(b *testing.B) string { return server.Database(b) }},
	} {
		for _, n := range []int{10_000, benchEntries(b)} {
			b.Run(fmt.Sprintf("%s/entries=%d", database.name, n), func(b *testing.B) {
				s := open(b, database.where(b))
				took, err := trailtest.Fill(b.Context(), s, n, 10_000)
				if err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					questions, err := trailtest.Measure(b.Context(), s, 30, 40_000)
					if err != nil {
						b.Fatal(err)
					}
					for _, q := range questions {
						one := []trailtest.Question{q}
						b.Logf("%-45s depth %6d  p50 %8v  p99 %8v", q.Name, q.Depth,
							trailtest.Quantile(one, 0.5).Round(10*time.Microsecond), trailtest.Quantile(one, 0.99).Round(10*time.Microsecond))
					}
					b.ReportMetric(trailtest.Quantile(questions, 0.5).Seconds()*1000, "p50-ms")
					b.ReportMetric(trailtest.Quantile(questions, 0.99).Seconds()*1000, "p99-ms")
				}
				b.ReportMetric(float64(n)/took.Seconds(), "entries/s")
			})
		}
	}
}
