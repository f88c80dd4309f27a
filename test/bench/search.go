package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/zhenglian/zhenglian/gateway/index/indextest"
	"github.com/zhenglian/zhenglian/gateway/sqlindex"
)

// searchTimes is how often each of about a hundred searches is made.
const searchTimes = 20

// search measures full-text search in the gateway's index over a catalog of the
// given size and over one ten times smaller, one after the other on the machine
// that the network idles on.
func (b *bench) search(ctx context.Context, entries int) ([]figure, error) {
	small, err := searchP99(ctx, entries/10)
	if err != nil {
		return nil, err
	}
	large, err := searchP99(ctx, entries)
	if err != nil {
		return nil, err
	}
	return []figure{
		{Name: "catalog.search_p99", Value: milliseconds(large), Unit: "ms", Goal: "≤ 50 over 100,000 entries"},
		{Name: "catalog.search_growth", Value: float64(large) / float64(small), Unit: "× for 10 × the entries", Goal: "≤ 2"},
	}, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// searchP99 fills an index of its own and answers the 99th percentile of all
// searches: common and rare words, with and without filters, first and deep pages.
func searchP99(ctx context.Context, entries int) (_ time.Duration, err error) {
	dir, err := os.MkdirTemp("", "zhenglian-bench-*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	x, err := sqlindex.Open(ctx, filepath.Join(dir, "index.sqlite"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, x.Close()) }()
	if err := indextest.FillCatalog(ctx, x, entries); err != nil {
		return 0, err
	}
	searches, err := indextest.MeasureSearch(ctx, x, searchTimes)
	if err != nil {
		return 0, err
	}
	return indextest.Quantile(searches, 0.99), nil
}
