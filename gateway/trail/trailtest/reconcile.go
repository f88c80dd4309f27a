package trailtest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/trail"
)

// pair is what the logs say of a call.
type pair struct {
	provider, consumer []*trail.Entry
}

// reconciled is the naive reconciliation: every call from all entries.
func reconciled(logs []Log, f trail.ReconcileFilter) ([]trail.PairDay, []trail.Discrepancy) {
	type key struct {
		id                 string
		provider, consumer domain.DepartmentCode
	}
	calls := map[key]*pair{}
	for _, l := range logs {
		for i := range l.Entries {
			e := &l.Entries[i]
			r := e.Record
			k := key{r.CallID, r.Provider, r.Consumer}
			if calls[k] == nil {
				calls[k] = &pair{}
			}
			if r.Direction == domain.DirectionProvider {
				calls[k].provider = append(calls[k].provider, e)
			} else {
				calls[k].consumer = append(calls[k].consumer, e)
			}
		}
	}
	days := map[string]*trail.PairDay{}
	var list []trail.Discrepancy
	for k, c := range calls {
		d := c.judge()
		d.CallID, d.Provider, d.Consumer = k.id, k.provider, k.consumer
		if f.Provider != "" && f.Provider != d.Provider || f.Consumer != "" && f.Consumer != d.Consumer ||
			f.FromDay != "" && d.Day < f.FromDay || f.ToDay != "" && d.Day > f.ToDay {
			continue
		}
		at := fmt.Sprint(k.provider, " ", k.consumer, " ", d.Day)
		if days[at] == nil {
			days[at] = &trail.PairDay{Provider: k.provider, Consumer: k.consumer, Day: d.Day}
		}
		waits := !f.Settled.IsZero() && !callTime(d).Before(f.Settled)
		switch p := days[at]; {
		case d.State == trail.CallBoth:
			p.Both++
			continue
		case d.State == trail.CallContradicting:
			p.Contradicting++
		case waits:
			p.Waiting++
			continue
		case d.State == trail.CallProviderOnly:
			p.ProviderOnly++
		default:
			p.ConsumerOnly++
		}
		list = append(list, d)
	}
	var sums []trail.PairDay
	for _, p := range days {
		sums = append(sums, *p)
	}
	slices.SortFunc(sums, func(a, b trail.PairDay) int {
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Consumer, b.Consumer), cmp.Compare(a.Day, b.Day))
	})
	return sums, list
}

func callTime(d trail.Discrepancy) time.Time {
	if d.ProviderEntry != nil {
		return d.ProviderEntry.Record.At
	}
	return d.ConsumerEntry.Record.At
}

// judge says of a call what the port's comments say.
func (c *pair) judge() trail.Discrepancy {
	var d trail.Discrepancy
	var again [2]bool
	d.ProviderEntry, again[0] = compared(c.provider)
	d.ConsumerEntry, again[1] = compared(c.consumer)
	d.Day = callTime(d).In(time.FixedZone("", 8*3600)).Format("2006-01-02")
	switch {
	case d.ConsumerEntry == nil:
		d.State = trail.CallProviderOnly
	case d.ProviderEntry == nil:
		d.State = trail.CallConsumerOnly
	default:
		d.State = trail.CallBoth
		if d.Fields = trail.Contradictions(d.ProviderEntry.Record, d.ConsumerEntry.Record); len(d.Fields) > 0 {
			d.State = trail.CallContradicting
		}
	}
	if again[0] || again[1] {
		d.State, d.Fields = trail.CallContradicting, append(d.Fields, trail.FieldRepeated)
	}
	return d
}

// compared answers the record of a side that is compared, and whether the side said
// something after it.
func compared(side []*trail.Entry) (*trail.Entry, bool) {
	if len(side) == 0 {
		return nil, false
	}
	i := slices.IndexFunc(side, func(e *trail.Entry) bool { return !strings.HasPrefix(e.Record.Result, "refused_") })
	if i < 0 {
		i = len(side) - 1
	}
	return side[i], i < len(side)-1
}

// wantReconciled checks counts and lists, in pages of several sizes.
func wantReconciled(t testing.TB, what string, logs []Log, s trail.Store, f trail.ReconcileFilter) {
	t.Helper()
	days, list := reconciled(logs, f)
	for _, limit := range []int{7, 200} {
		wantEqual(t, what+": days", days, reconcileAll(t, s, f, limit))
		got := discrepanciesAll(t, s, f, limit)
		if !slices.IsSortedFunc(got, func(a, b trail.Discrepancy) int {
			return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Consumer, b.Consumer), callTime(a).Compare(callTime(b)))
		}) {
			t.Errorf("%s: discrepancies are out of order", what)
		}
		// Which of two calls of the same moment comes first is the store's choice.
		byID := func(a, b trail.Discrepancy) int {
			return cmp.Or(cmp.Compare(a.CallID, b.CallID), cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Consumer, b.Consumer))
		}
		slices.SortFunc(got, byID)
		slices.SortFunc(list, byID)
		wantEqual(t, what+": discrepancies", list, got)
	}
}

// testRandom applies a random history, its logs in turn and in batches of any
// size, and reconciles it naively at every stage.
func testRandom(t *testing.T, s trail.Store, seed uint64) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 99)) //nolint:gosec // not for secrets
	logs := history(random, 900)
	applied := make([]Log, len(logs))
	for i, l := range logs {
		applied[i].Department = l.Department
	}
	stages := 0
	for left := true; left; {
		left = false
		for i, l := range logs {
			n := len(applied[i].Entries)
			to := min(n+random.IntN(120), len(l.Entries))
			apply(t, s, l.Department, l.Entries[n:to])
			applied[i].Entries = l.Entries[:to]
			left = left || to < len(l.Entries)
		}
		if stages++; stages > 2 && left {
			continue
		}
		for _, f := range []trail.ReconcileFilter{
			{}, {Provider: "police"}, {Consumer: "tax"}, {Provider: "civil", Consumer: "tax"},
			{FromDay: "2026-03-02"}, {ToDay: "2026-03-01"}, {Settled: Epoch.Add(30 * time.Second)}, {Settled: Epoch.Add(-time.Hour), Consumer: "health"},
		} {
			wantReconciled(t, fmt.Sprintf("seed %d, stage %d, %+v", seed, stages, f), applied, s, f)
		}
	}
}

// testSides follows one call through everything that logs can say of it.
func testSides(t *testing.T, s trail.Store) {
	day := "2026-03-02" // an hour after [Epoch] in Asia/Shanghai
	state := func(what string, want trail.PairDay) {
		t.Helper()
		want.Provider, want.Consumer = "police", "civil"
		if want.Day == "" {
			want.Day = day
		}
		wantEqual(t, what, []trail.PairDay{want}, reconcileAll(t, s, trail.ReconcileFilter{Provider: "police", Consumer: "civil"}, 10))
	}
	later := func(r *domain.AccessRecord) { r.At = Epoch.Add(time.Hour) }
	apply(t, s, "police", []trail.Entry{NewEntry(0, record(1, domain.DirectionProvider, later), 1)})
	state("one side", trail.PairDay{ProviderOnly: 1})
	// Another department that uses the same identifier disturbs nobody.
	apply(t, s, "tax", []trail.Entry{NewEntry(0, record(1, domain.DirectionProvider, later, func(r *domain.AccessRecord) { r.Provider = "tax" }), 1)})
	state("one side and a stranger", trail.PairDay{ProviderOnly: 1})
	apply(t, s, "civil", []trail.Entry{NewEntry(0, record(1, domain.DirectionConsumer, later), 1)})
	state("both sides", trail.PairDay{Both: 1})
	apply(t, s, "civil", []trail.Entry{NewEntry(1, record(1, domain.DirectionConsumer, later), 2)})
	state("one side twice", trail.PairDay{Contradicting: 1})
	wantEqual(t, "what contradicts", []string{trail.FieldRepeated}, discrepanciesAll(t, s, trail.ReconcileFilter{Consumer: "civil", Provider: "police"}, 1)[0].Fields)
}

// testRefusedFirst follows calls that a log refused before it let them through: one
// call each, whenever the records come.
func testRefusedFirst(t *testing.T, s trail.Store) {
	refused := func(r *domain.AccessRecord) { r.Result, r.RecordCount, r.ResponseDigest = "refused_quota", 0, "" }
	failed := func(r *domain.AccessRecord) { r.Result, r.RecordCount, r.ResponseDigest = "timeout", 0, "" }
	const provider, consumer = domain.DirectionProvider, domain.DirectionConsumer
	logs := []Log{{Department: "police"}, {Department: "civil"}}
	log := func(i int, direction domain.Direction, change ...func(*domain.AccessRecord)) {
		l := &logs[0]
		if direction == consumer {
			l = &logs[1]
		}
		n := uint64(len(l.Entries))
		l.Entries = append(l.Entries, NewEntry(n, record(i, direction, change...), n+1))
		apply(t, s, l.Department, l.Entries[n:])
		wantReconciled(t, fmt.Sprintf("after %d of the police and %d of civil affairs", len(logs[0].Entries), len(logs[1].Entries)), logs, s, trail.ReconcileFilter{})
	}
	state := func(i int) (trail.CallState, []string) {
		for _, d := range discrepanciesAll(t, s, trail.ReconcileFilter{}, 100) {
			if d.CallID == record(i, provider).CallID {
				return d.State, d.Fields
			}
		}
		return trail.CallBoth, nil
	}
	want := func(i int, state1 trail.CallState, fields ...string) {
		t.Helper()
		got, gotFields := state(i)
		wantEqual(t, fmt.Sprintf("call %d", i), state1, got)
		wantEqual(t, fmt.Sprintf("call %d, fields", i), fields, gotFields)
	}
	log(1, provider, refused)
	log(1, provider, refused)
	want(1, trail.CallProviderOnly)
	log(1, provider)
	want(1, trail.CallProviderOnly)
	log(1, consumer)
	want(1, trail.CallBoth)

	log(2, consumer, refused)
	log(2, provider)
	want(2, trail.CallContradicting, "recordCount", "responseDigest", "result")
	log(2, consumer)
	want(2, trail.CallBoth)

	log(3, provider)
	log(3, provider, refused) // after it, a refusal is no refusal before it
	log(3, consumer)
	want(3, trail.CallContradicting, trail.FieldRepeated)

	log(4, provider, refused)
	log(4, provider)
	log(4, provider)
	log(4, consumer)
	want(4, trail.CallContradicting, trail.FieldRepeated)

	log(5, provider, failed) // by the department's system, not by the log
	log(5, provider)
	log(5, consumer, failed)
	want(5, trail.CallContradicting, trail.FieldRepeated)

	// All at once, as a pull that comes late applies them.
	var entries []trail.Entry
	n := uint64(len(logs[0].Entries))
	for j, change := range []func(*domain.AccessRecord){refused, refused, func(*domain.AccessRecord) {}} {
		entries = append(entries, NewEntry(n+uint64(j), record(6, provider, change), n+3)) //nolint:gosec // not negative
	}
	logs[0].Entries = append(logs[0].Entries, entries...)
	apply(t, s, "police", entries)
	log(6, consumer)
	want(6, trail.CallBoth)
}

// testWaiting moves a call to another day when the provider's record comes, and
// lets calls wait.
func testWaiting(t *testing.T, s trail.Store) {
	night := time.Date(2026, 3, 1, 15, 59, 59, 0, time.UTC) // a second before midnight in Asia/Shanghai
	at := func(at time.Time) func(*domain.AccessRecord) {
		return func(r *domain.AccessRecord) { r.At = at }
	}
	apply(t, s, "civil", []trail.Entry{NewEntry(0, record(1, domain.DirectionConsumer, at(night.Add(time.Second))), 1)})
	one := trail.PairDay{Provider: "police", Consumer: "civil", Day: "2026-03-02", ConsumerOnly: 1}
	waiting := trail.PairDay{Provider: "police", Consumer: "civil", Day: "2026-03-02", Waiting: 1}
	for _, test := range []struct {
		name    string
		settled time.Time
		want    trail.PairDay
		listed  int
	}{
		{"no time given", time.Time{}, one, 1},
		{"settled", night.Add(2 * time.Second), one, 1},
		{"at that moment", night.Add(time.Second), waiting, 0},
		{"waiting", night, waiting, 0},
	} {
		f := trail.ReconcileFilter{Settled: test.settled}
		wantEqual(t, test.name, []trail.PairDay{test.want}, reconcileAll(t, s, f, 10))
		wantEqual(t, test.name+": listed", test.listed, len(discrepanciesAll(t, s, f, 10)))
	}
	apply(t, s, "police", []trail.Entry{NewEntry(0, record(1, domain.DirectionProvider, at(night)), 1)})
	wantEqual(t, "the provider's day", []trail.PairDay{{Provider: "police", Consumer: "civil", Day: "2026-03-01", Both: 1}},
		reconcileAll(t, s, trail.ReconcileFilter{}, 10))
}

func testDiscrepancies(t *testing.T, s trail.Store) {
	changes := []struct {
		field  string
		change func(*domain.AccessRecord)
	}{
		{"grantId", func(r *domain.AccessRecord) { r.GrantID = hexText(32, "x") }},
		{"catalogCode", func(r *domain.AccessRecord) { r.CatalogCode = "307/999999" }},
		{"catalogVersion", func(r *domain.AccessRecord) { r.CatalogVersion = 2 }},
		{"items", func(r *domain.AccessRecord) { r.Items = []string{"姓名"} }},
		{"purpose", func(r *domain.AccessRecord) { r.Purpose = "x" }},
		{"serviceItem", func(r *domain.AccessRecord) { r.ServiceItem = "x" }},
		{"recordCount", func(r *domain.AccessRecord) { r.RecordCount++ }},
		{"requestDigest", func(r *domain.AccessRecord) { r.RequestDigest = hexText(64, "x") }},
		{"responseDigest", func(r *domain.AccessRecord) { r.ResponseDigest = hexText(64, "x") }},
		{"result", func(r *domain.AccessRecord) { r.Result = "x" }},
		{"at", func(r *domain.AccessRecord) { r.At = r.At.Add(-trail.Tolerance - time.Millisecond) }},
		{"", func(r *domain.AccessRecord) { r.At = r.At.Add(-trail.Tolerance) }},
		{"", func(r *domain.AccessRecord) { slices.Reverse(r.Items) }},
		{"", func(r *domain.AccessRecord) { r.LoggedAt, r.System = r.At, "x" }}, // each side's own
	}
	var provider, consumer []trail.Entry
	for i, c := range changes {
		provider = append(provider, NewEntry(uint64(i), record(i, domain.DirectionProvider), uint64(len(changes))))           //nolint:gosec // not negative
		consumer = append(consumer, NewEntry(uint64(i), record(i, domain.DirectionConsumer, c.change), uint64(len(changes)))) //nolint:gosec // not negative
	}
	apply(t, s, "police", provider)
	apply(t, s, "civil", consumer)
	got := map[string]trail.Discrepancy{}
	for _, d := range discrepanciesAll(t, s, trail.ReconcileFilter{}, 3) {
		got[d.CallID] = d
	}
	for i, c := range changes {
		d, found := got[provider[i].Record.CallID]
		if c.field == "" {
			if found {
				t.Errorf("change %d contradicts in %q", i, d.Fields)
			}
			continue
		}
		wantEqual(t, c.field, trail.Discrepancy{
			CallID: provider[i].Record.CallID, Provider: "police", Consumer: "civil", Day: trail.Day(provider[i].Record.At),
			State: trail.CallContradicting, Fields: []string{c.field}, ProviderEntry: &provider[i], ConsumerEntry: &consumer[i],
		}, d)
	}
}
