// Package trailtest says in tests what a [trail.Store] must do, and makes the
// logs to try it with.
package trailtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/trail"
)

// Run runs the conformance suite. open answers an empty trail and sees to its
// being closed.
func Run(t *testing.T, open func(t testing.TB) trail.Store) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, trail.Store)
	}{
		{"empty", testEmpty},
		{"entries read back", testReadBack},
		{"entries come in order", testOrder},
		{"refused entries", testRefused},
		{"filters", testFilters},
		{"fields that never meet", testNeverMeet},
		{"bad pages", testBadPages},
		{"pages while the trail grows", testPagesGrow},
		{"large counts", testLargeCounts},
		{"hostile filters", testHostileFilters},
		{"export stops", testExportStops},
		{"both sides of a call", testSides},
		{"a refusal before a release", testRefusedFirst},
		{"calls wait", testWaiting},
		{"discrepancies", testDiscrepancies},
		{"findings", testFindings},
		{"logs at the same time", testConcurrent},
		{"cancelled", testCancelled},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
	t.Run("random histories", func(t *testing.T) {
		for seed := range uint64(6) {
			testRandom(t, open(t), seed)
		}
	})
}

func wantKind(t testing.TB, what string, err error, want domain.Kind) {
	t.Helper()
	if err == nil || domain.KindOf(err) != want {
		t.Errorf("%s: error = %v, want one of kind %s", what, err, want)
	}
}

func wantEqual(t testing.TB, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// record is one side's record of call number i.
func record(i int, direction domain.Direction, change ...func(*domain.AccessRecord)) domain.AccessRecord {
	r := call(rand.New(rand.NewPCG(7, 7)), i, Epoch.Add(time.Duration(i)*time.Second)) //nolint:gosec // not for secrets
	r.Provider, r.Consumer, r.Direction, r.Result = "police", "civil", direction, domain.ResultOK
	for _, f := range change {
		f(&r)
	}
	return r
}

func testEmpty(t *testing.T, s trail.Store) {
	wantEqual(t, "an empty trail", Contents{}, Dump(t, s))
	p, err := s.Progress(t.Context(), "police")
	if err != nil {
		t.Errorf("Progress: %v", err)
	}
	wantEqual(t, "progress of a log that is not there", trail.Progress{}, p)
}

func testReadBack(t *testing.T, s trail.Store) {
	first := NewEntry(0, record(0, domain.DirectionProvider), 2)
	none := trail.Entry{Department: "police", Index: 1, LeafHash: make([]byte, 32), AnchorSize: 2}
	second := NewEntry(2, record(2, domain.DirectionProvider, func(r *domain.AccessRecord) { r.CaseRef, r.SubjectRef, r.ServiceItem = "", "", "" }), 3)
	if err := s.Apply(t.Context(), "police", []trail.Entry{first, none, second}, At(3, 5)); err != nil {
		t.Fatalf("Apply: %v", err)
	}
	p, err := s.Progress(t.Context(), "police")
	if err != nil {
		t.Fatalf("Progress: %v", err)
	}
	wantEqual(t, "progress", At(3, 5), p)
	got, err := s.Trace(t.Context(), trail.Filter{}, trail.Page{Limit: 10})
	if err != nil {
		t.Fatalf("Trace: %v", err)
	}
	wantEqual(t, "trace", trail.Entries{Items: []trail.Entry{second, first}}, got)

	later := At(3, 9)
	if err := s.Apply(t.Context(), "police", nil, later); err != nil {
		t.Fatalf("Apply of progress only: %v", err)
	}
	logs, err := s.Logs(t.Context())
	if err != nil {
		t.Fatalf("Logs: %v", err)
	}
	wantEqual(t, "logs", []trail.Log{{Department: "police", Progress: later}}, logs)
}

func testOrder(t *testing.T, s trail.Store) {
	var entries []trail.Entry
	for i := range 4 {
		entries = append(entries, NewEntry(uint64(i), record(i, domain.DirectionProvider), 4)) //nolint:gosec // not negative
	}
	apply(t, s, "police", entries[:2])
	before := Dump(t, s)
	for _, test := range []struct {
		name     string
		entries  []trail.Entry
		progress trail.Progress
	}{
		{"a gap", entries[3:], At(3, 4)},
		{"a repetition", entries[1:3], At(4, 4)},
		{"a gap within", []trail.Entry{entries[2], entries[2]}, At(4, 4)},
		{"progress too far", entries[2:3], At(4, 4)},
		{"progress not far enough", entries[2:], At(3, 4)},
		{"an earlier anchor", nil, At(2, 1)},
		{"an anchor that goes back", nil, trail.Progress{Size: 2, Anchored: 1, Root: make([]byte, 32)}},
		{"entries beyond the anchor", entries[2:], trail.Progress{Size: 4, Anchored: 3, Root: make([]byte, 32)}},
		{"an entry whose anchor is beyond the last one", []trail.Entry{NewEntry(2, entries[2].Record, 9)}, At(3, 4)},
		{"a short root", entries[2:], trail.Progress{Size: 4, Anchored: 4, Root: make([]byte, 31)}},
		{"a size out of range", nil, At(math.MaxUint64, math.MaxUint64)},
	} {
		wantKind(t, test.name, s.Apply(t.Context(), "police", test.entries, test.progress), domain.Invalid)
	}
	wantEqual(t, "the trail after refusals", before, Dump(t, s))
	apply(t, s, "police", entries[2:])
}

func testRefused(t *testing.T, s trail.Store) {
	fine := NewEntry(0, record(0, domain.DirectionProvider), 1)
	for _, test := range []struct {
		name   string
		change func(*trail.Entry)
	}{
		{"of another log", func(e *trail.Entry) { e.Department = "civil" }},
		{"another leaf", func(e *trail.Entry) { e.LeafHash = make([]byte, 32) }},
		{"no anchor", func(e *trail.Entry) { e.AnchorSize = 0 }},
		{"no direction", func(e *trail.Entry) { *e = NewEntry(0, record(0, "sideways"), 1) }},
		{"the other side's record", func(e *trail.Entry) {
			*e = NewEntry(0, record(0, domain.DirectionConsumer), 1)
			e.Department = "police"
		}},
		{"no consumer", func(e *trail.Entry) {
			*e = NewEntry(0, record(0, domain.DirectionProvider, func(r *domain.AccessRecord) { r.Consumer = "" }), 1)
		}},
		{"a NUL", func(e *trail.Entry) {
			*e = NewEntry(0, record(0, domain.DirectionProvider, func(r *domain.AccessRecord) { r.Result = "o\x00k" }), 1)
		}},
		{"an index out of range", func(e *trail.Entry) { e.Index, e.AnchorSize = math.MaxUint64-1, math.MaxUint64 }},
		{"an anchor out of range", func(e *trail.Entry) { e.AnchorSize = math.MaxUint64 }},
	} {
		e := fine
		test.change(&e)
		wantKind(t, test.name, s.Apply(t.Context(), "police", []trail.Entry{e}, At(1, 1)), domain.Invalid)
	}
	wantKind(t, "no department", s.Apply(t.Context(), "", nil, At(0, 1)), domain.Invalid)
	wantEqual(t, "the trail after refusals", Contents{}, Dump(t, s))
}

// expected is the naive answer to a trace, oldest first.
func expected(logs []Log, f trail.Filter) []trail.Entry {
	var all []trail.Entry
	for _, l := range logs {
		for _, e := range l.Entries {
			if f.Matches(e) {
				all = append(all, e)
			}
		}
	}
	slices.SortFunc(all, func(a, b trail.Entry) int {
		return cmpEntries(a, b)
	})
	return all
}

func cmpEntries(a, b trail.Entry) int {
	if c := a.Record.At.UnixMilli() - b.Record.At.UnixMilli(); c != 0 {
		return int(c)
	}
	if a.Department != b.Department {
		if a.Department < b.Department {
			return -1
		}
		return 1
	}
	return int(a.Index) - int(b.Index) //nolint:gosec // small
}

// filters are filters of one field each, the values being those of r.
func filters(r domain.AccessRecord) []trail.Filter {
	return []trail.Filter{
		{}, {CatalogCode: r.CatalogCode}, {GrantID: r.GrantID}, {Department: r.Provider}, {Writer: r.Writer()}, {Counterpart: r.Provider},
		{Purpose: r.Purpose}, {ServiceItem: r.ServiceItem}, {CaseRef: r.CaseRef}, {SubjectRef: r.SubjectRef}, {Operator: r.Operator},
		{Result: r.Result}, {CallID: r.CallID}, {From: r.At}, {To: r.At}, {From: r.At, To: r.At.Add(time.Minute)},
	}
}

// join adds the fields of b to a.
func join(a, b trail.Filter) trail.Filter {
	pick := func(to *string, from string) {
		if *to == "" {
			*to = from
		}
	}
	for _, f := range []struct {
		to   *string
		from string
	}{
		{&a.CatalogCode, b.CatalogCode}, {&a.GrantID, b.GrantID}, {&a.Purpose, b.Purpose}, {&a.ServiceItem, b.ServiceItem}, {&a.CaseRef, b.CaseRef},
		{&a.SubjectRef, b.SubjectRef}, {&a.Operator, b.Operator}, {&a.Result, b.Result}, {&a.CallID, b.CallID},
		{(*string)(&a.Department), string(b.Department)}, {(*string)(&a.Writer), string(b.Writer)}, {(*string)(&a.Counterpart), string(b.Counterpart)},
	} {
		pick(f.to, f.from)
	}
	if a.From.IsZero() {
		a.From = b.From
	}
	if a.To.IsZero() {
		a.To = b.To
	}
	return a
}

func testFilters(t *testing.T, s trail.Store) {
	logs := History(1500)
	for _, l := range logs {
		apply(t, s, l.Department, l.Entries)
	}
	random := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // not for secrets
	pick := func() domain.AccessRecord {
		l := logs[random.IntN(len(logs))]
		return l.Entries[random.IntN(len(l.Entries))].Record
	}
	asked := filters(pick())
	for range 60 {
		// Fields of one record have something in common, those of two have as a rule nothing.
		of := filters(pick())
		f := join(of[random.IntN(len(of))], of[random.IntN(len(of))])
		if random.IntN(3) == 0 {
			of = filters(pick())
		}
		asked = append(asked, join(f, of[random.IntN(len(of))]))
	}
	found := 0
	for _, f := range asked {
		want := expected(logs, f)
		found += len(want)
		what := fmt.Sprintf("%+v", f)
		got, err := traceAll(t.Context(), s, f, trail.Page{Limit: 1 + random.IntN(200), OldestFirst: true})
		if err != nil {
			t.Fatalf("Trace %s: %v", what, err)
		}
		wantEqual(t, what+" oldest first", want, got)
		var exported []trail.Entry
		if err := s.Export(t.Context(), f, func(e trail.Entry) error { exported = append(exported, e); return nil }); err != nil {
			t.Fatalf("Export %s: %v", what, err)
		}
		wantEqual(t, "export of "+what, want, exported)
		totals, err := s.Totals(t.Context(), f)
		if err != nil {
			t.Fatalf("Totals %s: %v", what, err)
		}
		wantEqual(t, "totals of "+what, totalsOf(want), totals)
		if got, err = traceAll(t.Context(), s, f, trail.Page{Limit: 1 + random.IntN(200)}); err != nil {
			t.Fatalf("Trace %s: %v", what, err)
		}
		slices.Reverse(want)
		wantEqual(t, what+" newest first", want, got)
	}
	if found < 5000 {
		t.Errorf("all filters together found %d entries: they try too little", found)
	}
}

// totalsOf counts entries naively.
func totalsOf(entries []trail.Entry) trail.Totals {
	var out trail.Totals
	for _, direction := range []domain.Direction{domain.DirectionConsumer, domain.DirectionProvider} {
		by := map[string]*trail.ResultTotal{}
		var names []string
		for _, e := range entries {
			r := e.Record
			if r.Direction != direction {
				continue
			}
			if by[r.Result] == nil {
				by[r.Result] = &trail.ResultTotal{Direction: direction, Result: r.Result}
				names = append(names, r.Result)
			}
			by[r.Result].Records++
			by[r.Result].DataRecords += r.RecordCount
			out.Records++
			out.DataRecords += r.RecordCount
		}
		slices.Sort(names)
		for _, name := range names {
			out.ByResult = append(out.ByResult, *by[name])
		}
	}
	return out
}

// Two fields that many entries have each and none has both cost no more than
// others: the pages are short, and end.
func testNeverMeet(t *testing.T, s trail.Store) {
	var entries []trail.Entry
	for i := range 9000 {
		entries = append(entries, NewEntry(uint64(i), record(i, domain.DirectionProvider, func(r *domain.AccessRecord) { //nolint:gosec // not negative
			r.Purpose, r.Result = "一", "denied"
			if i%2 == 0 {
				r.Purpose, r.Result = "二", domain.ResultOK
			}
		}), 9000))
	}
	apply(t, s, "police", entries)
	for _, page := range []trail.Page{{Limit: 100}, {Limit: 100, OldestFirst: true}} {
		pages := 0
		for {
			got, err := s.Trace(t.Context(), trail.Filter{Purpose: "一", Result: domain.ResultOK}, page)
			if err != nil || len(got.Items) > 0 {
				t.Fatalf("Trace = %d entries, %v", len(got.Items), err)
			}
			if pages++; got.Next == "" {
				break
			}
			page.After = got.Next
		}
		if pages > 10 {
			t.Errorf("it took %d pages to find nothing", pages)
		}
	}
	wantEqual(t, "a filter that meets", 4500, func() int {
		all, err := traceAll(t.Context(), s, trail.Filter{Purpose: "一", Result: "denied"}, trail.Page{Limit: 200})
		if err != nil {
			t.Error(err)
		}
		return len(all)
	}())
}

func testBadPages(t *testing.T, s trail.Store) {
	for _, l := range History(300) {
		apply(t, s, l.Department, l.Entries)
	}
	for i := range 3 {
		if err := s.AddFinding(t.Context(), trail.Finding{Department: "tax", Kind: "fork", Place: uint64(i), Text: "x"}); err != nil { //nolint:gosec // not negative
			t.Fatalf("AddFinding: %v", err)
		}
	}
	lists := map[string]func(page trail.Page) (string, error){
		"trace": func(p trail.Page) (string, error) {
			got, err := s.Trace(t.Context(), trail.Filter{}, p)
			return got.Next, err
		},
		"trace oldest first": func(p trail.Page) (string, error) {
			p.OldestFirst = true
			got, err := s.Trace(t.Context(), trail.Filter{}, p)
			return got.Next, err
		},
		"trace with a filter": func(p trail.Page) (string, error) {
			got, err := s.Trace(t.Context(), trail.Filter{Result: domain.ResultOK}, p)
			return got.Next, err
		},
		"reconcile": func(p trail.Page) (string, error) {
			got, err := s.Reconcile(t.Context(), trail.ReconcileFilter{}, p)
			return got.Next, err
		},
		"discrepancies": func(p trail.Page) (string, error) {
			got, err := s.Discrepancies(t.Context(), trail.ReconcileFilter{}, p)
			return got.Next, err
		},
		"findings": func(p trail.Page) (string, error) {
			got, err := s.ListFindings(t.Context(), trail.FindingFilter{}, p)
			return got.Next, err
		},
	}
	for name, list := range lists {
		next, err := list(trail.Page{Limit: 1})
		if err != nil || next == "" {
			t.Fatalf("%s: the first page gave the cursor %q, %v", name, next, err)
		}
		bad := []trail.Page{{}, {Limit: -1}, {Limit: 201}, {Limit: 1, After: "!"}, {Limit: 1, After: "AAAA"}, {Limit: 1, After: "AAAAAAAAAAAA"}, {Limit: 1, After: next[:len(next)-2] + "__"}}
		for other, list := range lists {
			if other == name {
				continue
			}
			cursor, err := list(trail.Page{Limit: 1})
			if err != nil {
				t.Fatalf("%s: %v", other, err)
			}
			bad = append(bad, trail.Page{Limit: 1, After: cursor})
		}
		for _, page := range bad {
			_, err := list(page)
			wantKind(t, fmt.Sprintf("%s, page %+v", name, page), err, domain.Invalid)
		}
	}
}

func testPagesGrow(t *testing.T, s trail.Store) {
	logs := History(3000)
	var before []Log
	for _, l := range logs {
		half := len(l.Entries) / 2
		apply(t, s, l.Department, l.Entries[:half])
		before = append(before, Log{l.Department, l.Entries[:half]})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var grown sync.WaitGroup
	grown.Go(func() {
		for from := 0; ctx.Err() == nil; from += 20 {
			more := false
			for _, l := range logs {
				rest := l.Entries[len(l.Entries)/2:]
				if from < len(rest) {
					apply(t, s, l.Department, rest[from:min(from+20, len(rest))])
					more = true
				}
			}
			if !more {
				return
			}
		}
	})
	for _, filter := range []trail.Filter{{}, {Department: "civil"}, {Writer: "tax", Result: domain.ResultOK}} {
		for _, oldest := range []bool{false, true} {
			got, err := traceAll(t.Context(), s, filter, trail.Page{Limit: 17, OldestFirst: oldest})
			if err != nil {
				t.Fatalf("Trace: %v", err)
			}
			type place struct {
				department domain.DepartmentCode
				index      uint64
			}
			seen := map[place]bool{}
			for i, e := range got {
				if seen[place{e.Department, e.Index}] {
					t.Errorf("entry %d of %s came twice", e.Index, e.Department)
				}
				seen[place{e.Department, e.Index}] = true
				if i > 0 && (cmpEntries(got[i-1], e) < 0) != oldest {
					t.Errorf("entry %d of %s came out of order", e.Index, e.Department)
				}
			}
			for _, e := range expected(before, filter) {
				if !seen[place{e.Department, e.Index}] {
					t.Errorf("entry %d of %s did not come", e.Index, e.Department)
				}
			}
		}
	}
	cancel()
	grown.Wait()
}

func testLargeCounts(t *testing.T, s trail.Store) {
	var entries []trail.Entry
	for i, n := range []int64{math.MaxInt64, math.MaxInt64, 5, 1 << 40} {
		entries = append(entries, NewEntry(uint64(i), record(i, domain.DirectionProvider, func(r *domain.AccessRecord) { //nolint:gosec // not negative
			r.RecordCount = n
			if n < math.MaxInt64 {
				r.Result = "partly"
			}
		}), 4))
	}
	apply(t, s, "police", entries)
	got, err := s.Totals(t.Context(), trail.Filter{})
	if err != nil {
		t.Fatalf("Totals: %v", err)
	}
	wantEqual(t, "totals", trail.Totals{Records: 4, DataRecords: math.MaxInt64, ByResult: []trail.ResultTotal{
		{Direction: domain.DirectionProvider, Result: "ok", Records: 2, DataRecords: math.MaxInt64},
		{Direction: domain.DirectionProvider, Result: "partly", Records: 2, DataRecords: 1<<40 + 5},
	}}, got)
}

// What no text of a record can be is refused alike by every store.
func testHostileFilters(t *testing.T, s trail.Store) {
	page := trail.Page{Limit: 1}
	for _, text := range []string{"a\x00b", "\xff"} {
		d := domain.DepartmentCode(text)
		for _, f := range []trail.Filter{{Result: text}, {Writer: d}, {Counterpart: d}, {Department: d, CaseRef: "a"}} {
			_, err := s.Trace(t.Context(), f, page)
			wantKind(t, fmt.Sprintf("Trace %+q", f), err, domain.Invalid)
			_, err = s.Totals(t.Context(), f)
			wantKind(t, fmt.Sprintf("Totals %+q", f), err, domain.Invalid)
		}
		_, err := s.Reconcile(t.Context(), trail.ReconcileFilter{Provider: d}, page)
		wantKind(t, "Reconcile", err, domain.Invalid)
		_, err = s.Discrepancies(t.Context(), trail.ReconcileFilter{FromDay: text}, page)
		wantKind(t, "Discrepancies", err, domain.Invalid)
		_, err = s.ListFindings(t.Context(), trail.FindingFilter{Kind: trail.FindingKind(text)}, page)
		wantKind(t, "ListFindings", err, domain.Invalid)
		wantKind(t, "AddFinding", s.AddFinding(t.Context(), trail.Finding{Department: d, Kind: "fork", Text: "x"}), domain.Invalid)
	}
	for _, text := range []string{"' OR 1 = 1 --", "?", "$1", strings.Repeat("长", 10_000)} {
		got, err := s.Trace(t.Context(), trail.Filter{Result: text, CaseRef: text}, page)
		if err != nil || len(got.Items) > 0 {
			t.Errorf("Trace of %.20q = %d entries, %v", text, len(got.Items), err)
		}
	}
}

func testExportStops(t *testing.T, s trail.Store) {
	for _, l := range History(50) {
		apply(t, s, l.Department, l.Entries)
	}
	enough := errors.New("enough")
	n := 0
	err := s.Export(t.Context(), trail.Filter{}, func(trail.Entry) error {
		if n++; n == 7 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || n != 7 {
		t.Errorf("Export = %v after %d entries, want the caller's error after 7", err, n)
	}
}

func testFindings(t *testing.T, s trail.Store) {
	at := func(n int) time.Time { return Epoch.Add(time.Duration(n) * time.Minute) }
	found := []trail.Finding{
		{Department: "civil", Kind: "fork", Place: 7, Text: "two roots", FirstSeen: at(1), LastSeen: at(1)},
		{Department: "police", Kind: "missing_tile", Place: 0, Text: "tile 0/0", FirstSeen: at(2), LastSeen: at(2)},
		{Department: "police", Kind: "missing_tile", Place: 256, Text: "tile 0/1", FirstSeen: at(3), LastSeen: at(3)},
		{Department: "police", Kind: "rollback", Place: 4, Text: "smaller", FirstSeen: at(1), LastSeen: at(1)},
	}
	for _, i := range []int{2, 0, 3, 1} {
		if err := s.AddFinding(t.Context(), found[i]); err != nil {
			t.Fatalf("AddFinding: %v", err)
		}
	}
	again := found[1]
	again.Text, again.FirstSeen, again.LastSeen = "tile 0/0 still", at(9), at(9)
	if err := s.AddFinding(t.Context(), again); err != nil {
		t.Fatalf("AddFinding again: %v", err)
	}
	found[1].Text, found[1].LastSeen = again.Text, at(9)
	for _, limit := range []int{1, 2, 200} {
		wantEqual(t, "findings", found, findingsAll(t, s, trail.FindingFilter{}, limit))
	}
	wantEqual(t, "findings of a log", found[:1], findingsAll(t, s, trail.FindingFilter{Department: "civil"}, 1))
	wantEqual(t, "findings of a kind", found[1:3], findingsAll(t, s, trail.FindingFilter{Kind: "missing_tile"}, 1))
	wantEqual(t, "recent findings", found[1:3], findingsAll(t, s, trail.FindingFilter{SeenSince: at(3)}, 1))
	for name, bad := range map[string]trail.Finding{
		"no department":        {Kind: "fork", Text: "x"},
		"no kind":              {Department: "tax", Text: "x"},
		"no text":              {Department: "tax", Kind: "fork"},
		"a NUL":                {Department: "tax", Kind: "fork", Text: "\x00"},
		"a place out of range": {Department: "tax", Kind: "fork", Text: "x", Place: math.MaxUint64},
	} {
		wantKind(t, name, s.AddFinding(t.Context(), bad), domain.Invalid)
	}
}

// Logs that are applied at the same time, and one log that two want to apply,
// leave what one after the other would.
func testConcurrent(t *testing.T, s trail.Store) {
	logs := History(2000)
	var all sync.WaitGroup
	for range 2 {
		for _, l := range logs {
			all.Go(func() {
				for {
					p, err := s.Progress(t.Context(), l.Department)
					if err != nil {
						t.Errorf("Progress: %v", err)
						return
					}
					to := min(p.Size+50, uint64(len(l.Entries)))
					if to == p.Size {
						return
					}
					// Refused when the other one was faster.
					if err := s.Apply(t.Context(), l.Department, l.Entries[p.Size:to], At(to, uint64(len(l.Entries)))); err != nil && domain.KindOf(err) != domain.Invalid {
						t.Errorf("Apply: %v", err)
						return
					}
				}
			})
		}
	}
	all.Wait()
	got := Dump(t, s)
	wantEqual(t, "entries", expected(logs, trail.Filter{}), got.Entries)
	wantReconciled(t, "logs applied at the same time", logs, s, trail.ReconcileFilter{})
}

func testCancelled(t *testing.T, s trail.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	page := trail.Page{Limit: 1}
	for name, call := range map[string]func() error{
		"Logs":          func() error { _, err := s.Logs(ctx); return err },
		"Progress":      func() error { _, err := s.Progress(ctx, "police"); return err },
		"Apply":         func() error { return s.Apply(ctx, "police", nil, At(0, 1)) },
		"Trace":         func() error { _, err := s.Trace(ctx, trail.Filter{}, page); return err },
		"Trace of two":  func() error { _, err := s.Trace(ctx, trail.Filter{Purpose: "a", CaseRef: "b"}, page); return err },
		"Totals":        func() error { _, err := s.Totals(ctx, trail.Filter{}); return err },
		"Export":        func() error { return s.Export(ctx, trail.Filter{}, func(trail.Entry) error { return nil }) },
		"Reconcile":     func() error { _, err := s.Reconcile(ctx, trail.ReconcileFilter{}, page); return err },
		"Discrepancies": func() error { _, err := s.Discrepancies(ctx, trail.ReconcileFilter{}, page); return err },
		"AddFinding":    func() error { return s.AddFinding(ctx, trail.Finding{Department: "tax", Kind: "fork", Text: "x"}) },
		"ListFindings":  func() error { _, err := s.ListFindings(ctx, trail.FindingFilter{}, page); return err },
	} {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error = %v, want that the context was cancelled", name, err)
		}
	}
	wantEqual(t, "the trail", Contents{}, Dump(t, s))
}
