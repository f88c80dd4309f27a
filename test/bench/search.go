package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/index/indextest"
	"github.com/zhenglian/zhenglian/gateway/sqlindex"
)

// searchTimes is how often each of about a hundred searches is made. The 99th
// percentile of all is about the median of the slowest one.
const searchTimes = 50

// search measures full-text search in the gateway's index over a catalog of the
// given size and over one ten times smaller, in turns, on the machine that the
// network idles on.
func (b *bench) search(ctx context.Context, entries int) (_ []figure, err error) {
	dir, err := os.MkdirTemp("", "zhenglian-bench-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var catalogs []index.Index
	for _, size := range []int{entries / 10, entries} {
		x, err := sqlindex.Open(ctx, filepath.Join(dir, strconv.Itoa(size)+".sqlite"))
		if err != nil {
			return nil, err
		}
		defer x.Close() //nolint:errcheck // is deleted
		if err := indextest.FillCatalog(ctx, x, size); err != nil {
			return nil, err
		}
		catalogs = append(catalogs, x)
	}
	measured, err := indextest.MeasureSearch(ctx, searchTimes, catalogs...)
	if err != nil {
		return nil, err
	}
	small, large := indextest.Quantile(measured[0], 0.99), indextest.Quantile(measured[1], 0.99)
	return []figure{
		{Name: "catalog.search_p99", Value: milliseconds(large), Unit: "ms", Goal: "≤ 50 over 100,000 entries"},
		{Name: "catalog.search_growth", Value: float64(large) / float64(small), Unit: "× for 10 × the entries", Goal: "≤ 2"},
	}, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
