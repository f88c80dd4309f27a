package trailtest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/trail"
)

// Fill applies a history of n entries in batches, the logs in turn. It answers
// how long Apply took in all.
func Fill(ctx context.Context, s trail.Store, n, batch int) (time.Duration, error) {
	logs := History(n)
	var took time.Duration
	for more, from := true, 0; more; from += batch {
		more = false
		for _, l := range logs {
			to := min(from+batch, len(l.Entries))
			if from >= to {
				continue
			}
			more = true
			started := time.Now()
			err := s.Apply(ctx, l.Department, l.Entries[from:to], At(uint64(to), uint64(len(l.Entries)))) //nolint:gosec // not negative
			took += time.Since(started)
			if err != nil {
				return took, err
			}
		}
	}
	return took, nil
}

// Question is a trace to measure.
type Question struct {
	Name    string
	Filter  trail.Filter
	Page    trail.Page
	Depth   int // entries before the page
	Latency []time.Duration
}

// Quantile answers the latency that the part q of all questions did not exceed.
func Quantile(questions []Question, q float64) time.Duration {
	var all []time.Duration
	for _, question := range questions {
		all = append(all, question.Latency...)
	}
	slices.Sort(all)
	return all[min(int(q*float64(len(all))), len(all)-1)]
}

// Measure asks for pages of 100 of a history that [Fill] made: common and rare
// filters, one and several fields, first pages and those with deep entries before
// them if there are so many, newest and oldest first, each as often as said. The questions take turns, so that each finds the others'
// pages in memory and not only its own.
func Measure(ctx context.Context, s trail.Store, times, deep int) ([]Question, error) {
	questions, err := questions(ctx, s, deep)
	if err != nil {
		return nil, err
	}
	for range times {
		for i := range questions {
			q := &questions[i]
			started := time.Now()
			got, err := s.Trace(ctx, q.Filter, q.Page)
			q.Latency = append(q.Latency, time.Since(started))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", q.Name, err)
			}
			if len(got.Items) == 0 && q.Filter.CallID != absent {
				return nil, fmt.Errorf("%s: found nothing", q.Name)
			}
		}
	}
	return questions, nil
}

const absent = "00000000000000000000000000000000"

func questions(ctx context.Context, s trail.Store, deep int) ([]Question, error) {
	newest, err := s.Trace(ctx, trail.Filter{Result: domain.ResultOK}, trail.Page{Limit: 200})
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(newest.Items, func(e trail.Entry) bool { return e.Record.CaseRef != "" && e.Record.SubjectRef != "" })
	if i < 0 {
		return nil, fmt.Errorf("no entry among %d has a case and a subject", len(newest.Items))
	}
	r := newest.Items[i].Record
	commonGrant, rareGrant := hexText(32, "grant", 0), r.GrantID
	var out []Question
	for _, f := range []struct {
		name   string
		filter trail.Filter
	}{
		{"all", trail.Filter{}},
		{"department", trail.Filter{Department: "civil"}},
		{"writer", trail.Filter{Writer: "civil"}},
		{"counterpart", trail.Filter{Counterpart: "civil"}},
		{"common grant", trail.Filter{GrantID: commonGrant}},
		{"rare grant", trail.Filter{GrantID: rareGrant}},
		{"resource", trail.Filter{CatalogCode: r.CatalogCode}},
		{"purpose", trail.Filter{Purpose: r.Purpose}},
		{"service item", trail.Filter{ServiceItem: r.ServiceItem}},
		{"operator", trail.Filter{Operator: r.Operator}},
		{"case", trail.Filter{CaseRef: r.CaseRef}},
		{"subject", trail.Filter{SubjectRef: r.SubjectRef}},
		{"call", trail.Filter{CallID: r.CallID}},
		{"absent call", trail.Filter{CallID: absent}},
		{"ok", trail.Filter{Result: domain.ResultOK}},
		{"refused", trail.Filter{Result: "forbidden"}},
		{"a span of time", trail.Filter{From: Epoch.Add(time.Minute), To: Epoch.Add(10 * time.Minute)}},
		{"department, refused", trail.Filter{Department: "civil", Result: "forbidden"}},
		{"department, counterpart, ok", trail.Filter{Department: "civil", Counterpart: "tax", Result: domain.ResultOK}},
		{"resource, purpose, ok", trail.Filter{CatalogCode: r.CatalogCode, Purpose: r.Purpose, Result: domain.ResultOK}},
		{"grant, writer, since", trail.Filter{GrantID: commonGrant, Writer: "police", From: Epoch.Add(time.Minute)}},
		{"operator, service item", trail.Filter{Operator: r.Operator, ServiceItem: r.ServiceItem}},
		{"subject, department", trail.Filter{SubjectRef: r.SubjectRef, Department: r.Provider}},
	} {
		for _, page := range []trail.Page{{Limit: 100}, {Limit: 100, OldestFirst: true}} {
			q := Question{Name: f.name, Filter: f.filter, Page: page}
			if page.OldestFirst {
				q.Name += ", oldest first"
			}
			out = append(out, q)
			deeper, err := deepPage(ctx, s, q, deep)
			if err != nil {
				return nil, err
			}
			if deeper.Depth > 0 {
				out = append(out, deeper)
			}
		}
	}
	return out, nil
}

// deepPage answers the question for a page far into the list.
func deepPage(ctx context.Context, s trail.Store, q Question, deep int) (Question, error) {
	out := q
	out.Name += ", deep"
	for page := (trail.Page{Limit: 200, OldestFirst: q.Page.OldestFirst}); out.Depth < deep; {
		got, err := s.Trace(ctx, q.Filter, page)
		if err != nil {
			return out, err
		}
		if got.Next == "" {
			break
		}
		page.After, out.Page.After = got.Next, got.Next
		out.Depth += len(got.Items)
	}
	return out, nil
}
