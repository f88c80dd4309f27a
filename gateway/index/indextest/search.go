package indextest

import (
	"context"
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

// MeasureSearch searches a catalog that [FillCatalog] made for common and rare
// words, Chinese and English, with and without filters, first and deep pages of
// 50, each as often as said. All searches take turns, so that each finds the
// others' pages in memory and not only its own.
func MeasureSearch(ctx context.Context, x index.Index, times int) ([]Search, error) {
	searches := searches()
	from := make([]index.Page, len(searches))
	for i := range searches {
		page, err := start(ctx, x, &searches[i])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", searches[i].Name, err)
		}
		from[i] = page
	}
	for range times {
		for i := range searches {
			s := &searches[i]
			started := time.Now()
			got, err := x.List(ctx, domain.KindCatalogEntry, s.Filter, from[i])
			s.Latency = append(s.Latency, time.Since(started))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.Name, err)
			}
			if len(got.Items) == 0 && s.Found > 0 {
				return nil, fmt.Errorf("%s: found nothing", s.Name)
			}
		}
	}
	return searches, nil
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
