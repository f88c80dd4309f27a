package sqlindex

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/index/indextest"
)

// BenchmarkSearch measures searches over 10,000 and over 100,000 catalog entries
// and reports the times within which 99 % of them ended, and their ratio. The
// goals are 50 ms over 100,000 and a ratio of at most 2.
func BenchmarkSearch(b *testing.B) {
	var p99 [2]time.Duration
	sizes := []int{10_000, 100_000}
	var catalogs []index.Index
	for _, entries := range sizes {
		x := openTemp(b)
		if err := indextest.FillCatalog(b.Context(), x, entries); err != nil {
			b.Fatal(err)
		}
		catalogs = append(catalogs, x)
	}
	measured, err := indextest.MeasureSearch(b.Context(), max(20, b.N), catalogs...)
	if err != nil {
		b.Fatal(err)
	}
	for i, searches := range measured {
		entries := sizes[i]
		slices.SortFunc(searches, func(a, c indextest.Search) int { return cmp.Compare(c.Quantile(0.5), a.Quantile(0.5)) })
		for _, s := range searches[:5] { // the slowest
			b.Logf("%7d entries, %-60s found %6d, p50 %9v, p99 %9v", entries, s.Name, s.Found, s.Quantile(0.5), s.Quantile(0.99))
		}
		p99[i] = indextest.Quantile(searches, 0.99)
		b.ReportMetric(float64(p99[i])/1e6, fmt.Sprintf("ms-p99/%d", entries))
	}
	b.ReportMetric(float64(p99[1])/float64(p99[0]), "ratio")
}

// BenchmarkApplyCatalog applies blocks that hold one batch of 200 registrations.
func BenchmarkApplyCatalog(b *testing.B) {
	x := openTemp(b)
	var c indextest.Chain
	var blocks []domain.Block
	for i := range b.N {
		blocks = append(blocks, c.Add(indextest.Registrations(i*200, i*200+200)))
	}
	b.ResetTimer()
	for _, block := range blocks {
		if err := x.ApplyBlock(b.Context(), block); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*200)/b.Elapsed().Seconds(), "entries/s")
}
