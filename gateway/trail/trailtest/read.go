package trailtest

import (
	"cmp"
	"context"
	"slices"
	"testing"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/trail"
)

// traceAll follows the pages of a trace to the end.
func traceAll(ctx context.Context, s trail.Store, filter trail.Filter, page trail.Page) ([]trail.Entry, error) {
	var all []trail.Entry
	for {
		got, err := s.Trace(ctx, filter, page)
		if err != nil {
			return nil, err
		}
		all = append(all, got.Items...)
		if page.After = got.Next; page.After == "" {
			return all, nil
		}
	}
}

func reconcileAll(t testing.TB, s trail.Store, filter trail.ReconcileFilter, limit int) []trail.PairDay {
	t.Helper()
	var all []trail.PairDay
	for page := (trail.Page{Limit: limit}); ; {
		got, err := s.Reconcile(t.Context(), filter, page)
		if err != nil {
			t.Fatalf("Reconcile: %v", err)
		}
		all = append(all, got.Items...)
		if page.After = got.Next; page.After == "" {
			return all
		}
	}
}

func discrepanciesAll(t testing.TB, s trail.Store, filter trail.ReconcileFilter, limit int) []trail.Discrepancy {
	t.Helper()
	var all []trail.Discrepancy
	for page := (trail.Page{Limit: limit}); ; {
		got, err := s.Discrepancies(t.Context(), filter, page)
		if err != nil {
			t.Fatalf("Discrepancies: %v", err)
		}
		all = append(all, got.Items...)
		if page.After = got.Next; page.After == "" {
			return all
		}
	}
}

func findingsAll(t testing.TB, s trail.Store, filter trail.FindingFilter, limit int) []trail.Finding {
	t.Helper()
	var all []trail.Finding
	for page := (trail.Page{Limit: limit}); ; {
		got, err := s.ListFindings(t.Context(), filter, page)
		if err != nil {
			t.Fatalf("ListFindings: %v", err)
		}
		all = append(all, got.Items...)
		if page.After = got.Next; page.After == "" {
			return all
		}
	}
}

// Contents is all that a trail can be asked for.
type Contents struct {
	Logs          []trail.Log
	Entries       []trail.Entry
	Totals        trail.Totals
	Days          []trail.PairDay
	Discrepancies []trail.Discrepancy
	Findings      []trail.Finding
}

// Dump reads all of a trail. Of two discrepancies of the same moment, whose order
// is the store's choice, the one with the smaller call identifier comes first.
func Dump(t testing.TB, s trail.Store) Contents {
	t.Helper()
	var c Contents
	var err error
	if c.Logs, err = s.Logs(t.Context()); err != nil {
		t.Fatalf("Logs: %v", err)
	}
	err = s.Export(t.Context(), trail.Filter{}, func(e trail.Entry) error {
		c.Entries = append(c.Entries, e)
		return nil
	})
	if err != nil {
		t.Fatalf("Export: %v", err)
	}
	if c.Totals, err = s.Totals(t.Context(), trail.Filter{}); err != nil {
		t.Fatalf("Totals: %v", err)
	}
	c.Days = reconcileAll(t, s, trail.ReconcileFilter{}, 200)
	c.Discrepancies = discrepanciesAll(t, s, trail.ReconcileFilter{}, 200)
	slices.SortStableFunc(c.Discrepancies, func(a, b trail.Discrepancy) int {
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Consumer, b.Consumer), callTime(a).Compare(callTime(b)), cmp.Compare(a.CallID, b.CallID))
	})
	c.Findings = findingsAll(t, s, trail.FindingFilter{}, 200)
	return c
}

// apply applies the entries of a log from what is applied on.
func apply(t testing.TB, s trail.Store, department domain.DepartmentCode, entries []trail.Entry) {
	t.Helper()
	p, err := s.Progress(t.Context(), department)
	if err != nil {
		t.Fatalf("Progress: %v", err)
	}
	size := p.Size + uint64(len(entries))
	anchored := max(size, p.Anchored)
	for _, e := range entries {
		anchored = max(anchored, e.AnchorSize)
	}
	if err := s.Apply(t.Context(), department, entries, At(size, anchored)); err != nil {
		t.Fatalf("Apply: %v", err)
	}
}
