package sqlindex

import (
	"fmt"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/index/indextest"
)

// BenchmarkApplyBlock applies blocks of 10 and of 200 transactions.
func BenchmarkApplyBlock(b *testing.B) {
	for _, size := range []int{10, 200} {
		b.Run(fmt.Sprintf("transactions=%d", size), func(b *testing.B) {
			blocks := indextest.Blocks(b.N+1, size)
			x := openTemp(b)
			b.ResetTimer()
			for _, block := range blocks[1:] {
				block.Number-- // without the block of configuration
				block.PreviousHash = ""
				if err := x.ApplyBlock(b.Context(), block); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "tx/s")
		})
	}
}

// BenchmarkApplyAccess applies access records in batches of 256.
func BenchmarkApplyAccess(b *testing.B) {
	x := openTemp(b)
	entries := indextest.Access(0, 256*b.N)
	b.ResetTimer()
	for i := range b.N {
		if err := x.ApplyAccess(b.Context(), entries[i*256:(i+1)*256]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*256)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkTrace reads pages of 50 out of 100,000 records.
func BenchmarkTrace(b *testing.B) {
	const rows = 100_000
	x := openTemp(b)
	for from := uint64(0); from < rows; from += 1000 {
		if err := x.ApplyAccess(b.Context(), indextest.Access(from, 1000)); err != nil {
			b.Fatal(err)
		}
	}
	r := indextest.Access(rows/2-rows/2%60, 1)[0].Record // has a case and a subject
	for _, test := range []struct {
		name   string
		filter index.AccessFilter
	}{
		{"all", index.AccessFilter{}},
		{"grant", index.AccessFilter{GrantID: r.GrantID}},
		{"catalog", index.AccessFilter{CatalogCode: r.CatalogCode}},
		{"department", index.AccessFilter{Department: r.Provider}},
		{"case", index.AccessFilter{CaseRef: r.CaseRef}},
		{"subject", index.AccessFilter{SubjectRef: r.SubjectRef}},
		{"an hour", index.AccessFilter{From: r.At, To: r.At.Add(time.Hour)}},
		{"department in an old hour", index.AccessFilter{Department: r.Provider, From: indextest.Epoch, To: indextest.Epoch.Add(time.Hour)}},
		{"all of the time", index.AccessFilter{From: indextest.Epoch}},
	} {
		b.Run(test.name, func(b *testing.B) {
			for range b.N {
				got, err := x.Trace(b.Context(), test.filter, index.Page{Limit: 50})
				if err != nil || len(got.Items) == 0 {
					b.Fatalf("Trace = %d items, %v", len(got.Items), err)
				}
			}
		})
	}
	b.Run("grant use", func(b *testing.B) {
		for range b.N {
			if total, _, _, err := x.GrantUse(b.Context(), r.GrantID, domain.DirectionProvider, r.At, r.At.Add(time.Hour)); err != nil || total == 0 {
				b.Fatalf("GrantUse = %d, %v", total, err)
			}
		}
	})
	b.Run("grant history", func(b *testing.B) {
		for range b.N {
			if h, err := x.GrantHistory(b.Context(), r.GrantID, domain.DirectionProvider, r.At); err != nil || h.Calls == 0 {
				b.Fatalf("GrantHistory = %+v, %v", h, err)
			}
		}
	})
	var known, unknown []string
	for _, e := range indextest.Access(rows-1000, 2000) {
		if known = append(known, e.Record.CallID); e.Index >= rows {
			unknown = append(unknown, e.Record.CallID)
		}
	}
	for name, calls := range map[string][]string{"1000 new calls": unknown, "1000 known calls": known[:1000], "a new call": unknown[:1]} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				if _, err := x.FindCalls(b.Context(), calls, r.Direction); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("grant counts of 2000", func(b *testing.B) {
		for range b.N {
			if _, err := x.GrantCounts(b.Context(), rows-2000, rows); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkList reads pages of 50 of 1000 catalog entries, and one department.
func BenchmarkList(b *testing.B) {
	x := openTemp(b)
	var c indextest.Chain
	for i := range 20 {
		var records []any
		for j := range 50 {
			n := i*50 + j
			records = append(records, fmt.Sprintf("cat~307/%06d", n), domain.CatalogEntry{
				Provider: []domain.DepartmentCode{"civil", "police"}[n%2], State: domain.CatalogPublished,
				Content: domain.CatalogContent{Name: fmt.Sprintf("资源 %d", n), Abstract: "abstract"},
			}, fmt.Sprintf("dept~%d", n), domain.Department{Code: "civil"})
		}
		if err := x.ApplyBlock(b.Context(), c.Add(indextest.Put(records...))); err != nil {
			b.Fatal(err)
		}
	}
	for _, test := range []struct {
		name   string
		filter index.Filter
	}{{"all", index.Filter{}}, {"department", index.Filter{Department: "civil"}}, {"text", index.Filter{Text: "源 99"}}} {
		b.Run(test.name, func(b *testing.B) {
			for range b.N {
				if _, err := x.List(b.Context(), domain.KindCatalogEntry, test.filter, index.Page{Limit: 50}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("get", func(b *testing.B) {
		for range b.N {
			if _, err := x.Get(b.Context(), domain.KindDepartment, "500"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
