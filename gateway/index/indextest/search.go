package indextest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

// FillCatalog applies blocks of 200 registrations until the index has as many
// catalog entries as asked for, a multiple of 200.
func FillCatalog(ctx context.Context, x index.Index, entries int) error {
	var c Chain
	for n := 0; n < entries; n += 200 {
		if err := x.ApplyBlock(ctx, c.Add(Registrations(n, n+200))); err != nil {
			return err
		}
	}
	return nil
}

// Search is one way to search the catalog that [FillCatalog] made, and how long
// it took.
type Search struct {
	Name    string
	Filter  index.Filter
	Deep    bool // pages from the middle of the results on
	Found   int  // entries in all
	Latency []time.Duration
}

// Quantile answers the time within which the share q of the searches ended.
func (s Search) Quantile(q float64) time.Duration { return quantile(s.Latency, q) }

// Quantile answers the time within which the share q of all searches ended.
func Quantile(searches []Search, q float64) time.Duration {
	var all []time.Duration
	for _, s := range searches {
		all = append(all, s.Latency...)
	}
	return quantile(all, q)
}

func quantile(latency []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(latency))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// MeasureSearch searches catalogs that [FillCatalog] made for common and rare
// words, Chinese and English, with and without filters, first and deep pages of
// 50, each as often as said, and answers the searches of each catalog. All searches
// take turns, so that each finds the others' pages in memory and not only its own;
// so do the catalogs at every search, in order and back, so that what else the
// machine does falls on all of them.
func MeasureSearch(ctx context.Context, times int, catalogs ...index.Index) ([][]Search, error) {
	measured := make([][]Search, len(catalogs))
	from := make([][]index.Page, len(catalogs))
	for c, x := range catalogs {
		measured[c] = searches()
		for i := range measured[c] {
			page, err := start(ctx, x, &measured[c][i])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", measured[c][i].Name, err)
			}
			from[c] = append(from[c], page)
		}
	}
	for round := range times {
		for i := range measured[0] {
			for c := range catalogs {
				if round%2 == 1 {
					c = len(catalogs) - 1 - c
				}
				if err := measured[c][i].measure(ctx, catalogs[c], from[c][i]); err != nil {
					return nil, fmt.Errorf("%s: %w", measured[c][i].Name, err)
				}
			}
		}
	}
	return measured, nil
}

func (s *Search) measure(ctx context.Context, x index.Index, page index.Page) error {
	started := time.Now()
	got, err := x.List(ctx, domain.KindCatalogEntry, s.Filter, page)
	s.Latency = append(s.Latency, time.Since(started))
	if err == nil && len(got.Items) == 0 && s.Found > 0 {
		err = errors.New("found nothing")
	}
	return err
}

// start counts what a search finds and answers the page to measure.
func start(ctx context.Context, x index.Index, s *Search) (index.Page, error) {
	cursors := []string{""}
	for {
		got, err := x.List(ctx, domain.KindCatalogEntry, s.Filter, index.Page{Limit: 200, After: cursors[len(cursors)-1]})
		if err != nil {
			return index.Page{}, err
		}
		s.Found += len(got.Items)
		if got.Next == "" {
			break
		}
		cursors = append(cursors, got.Next)
	}
	page := index.Page{Limit: 50}
	if s.Deep {
		page.After = cursors[len(cursors)/2]
	}
	return page, nil
}

func searches() []Search {
	published := string(domain.CatalogPublished)
	var out []Search
	for _, w := range []struct{ name, text string }{
		{"in every entry", "系统"},
		{"common", "登记"},
		{"common, one character", "证"},
		{"common, English", "register"},
		{"two common words", "企业 license"},
		{"a long word", "个体工商户"},
		{"a long common word", "事项核对使用"},
		{"a pair that does not make the word", "统全市"},
		{"rare", "系列 K00123"},
		{"rare, of few", "k00123"},
		{"a code", "000777"},
		{"absent", "火星"},
	} {
		for _, f := range []struct {
			name   string
			filter index.Filter
		}{
			{"no filter", index.Filter{}},
			{"state", index.Filter{State: string(domain.CatalogOffline)}},
			{"large provider", index.Filter{Provider: "dept00"}},
			{"small provider", index.Filter{Provider: "dept36"}},
			{"share type", index.Filter{ShareType: domain.NotShared}},
			{"all", index.Filter{Provider: "dept36", State: published, ShareType: domain.Conditional}},
		} {
			f.filter.Text = w.text
			out = append(out, Search{Name: w.name + ", " + f.name, Filter: f.filter})
			if f.name == "no filter" || f.name == "share type" {
				out = append(out, Search{Name: w.name + ", " + f.name + ", deep", Filter: f.filter, Deep: true})
			}
		}
	}
	for _, f := range []index.Filter{
		{}, {State: published}, {Provider: "dept36"}, {ShareType: domain.Conditional},
		{Provider: "dept36", State: published, ShareType: domain.Conditional}, {ChangedSince: Epoch}, {Text: "登记", ChangedSince: Epoch.Add(time.Minute)},
	} {
		out = append(out, Search{Name: fmt.Sprintf("list %+v", f), Filter: f, Deep: true})
	}
	return out
}
