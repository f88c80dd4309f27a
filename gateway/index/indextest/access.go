package indextest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

func testEntriesAndCalls(t *testing.T, x index.Index) {
	all := Access(0, 1500)
	for i := 200; i < 600; i++ {
		all[i].Record.CallID = all[i%15].Record.CallID // seen again, in either direction
		all[i].LeafHash = leafHash(all[i].Record)
	}
	if err := x.ApplyAccess(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	for _, span := range [][2]int{{0, 1}, {0, 1000}, {700, 1000}, {1499, 5}, {1500, 5}, {9000, 5}} {
		want := all[min(span[0], len(all)):min(span[0]+span[1], len(all))]
		got, err := x.Entries(t.Context(), uint64(span[0]), span[1])
		if err != nil {
			t.Fatalf("Entries%v: %v", span, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("Entries%v (-want +got):\n%s", span, diff)
		}
	}
	for _, limit := range []int{-1, 0, 1001} {
		_, err := x.Entries(t.Context(), 0, limit)
		wantKind(t, fmt.Sprintf("Entries, limit %d", limit), err, domain.Invalid)
	}
	for from, calls := range map[int][]string{0: {"none", "' OR 1=1 --", "\x00"}, 100: nil, 500: {"none"}, 1499: {all[1499].Record.CallID}} {
		for i := from; i < min(from+900, len(all)) && from > 0; i++ {
			calls = append(calls, all[i].Record.CallID)
		}
		for _, direction := range []domain.Direction{domain.DirectionProvider, domain.DirectionConsumer} {
			var want []index.AccessEntry
			seen := map[string]bool{}
			for _, e := range slices.Backward(all) {
				if r := e.Record; slices.Contains(calls, r.CallID) && r.Direction == direction && !seen[r.CallID] {
					seen[r.CallID] = true
					want = append(want, e)
				}
			}
			got, err := x.FindCalls(t.Context(), calls, direction)
			if err != nil {
				t.Fatalf("FindCalls: %v", err)
			}
			slices.SortFunc(got, func(a, b index.AccessEntry) int { return int(b.Index) - int(a.Index) })
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("FindCalls from %d, %s (-want +got):\n%s", from, direction, diff)
			}
		}
	}
	for _, calls := range [][]string{nil, make([]string, 1001)} {
		_, err := x.FindCalls(t.Context(), calls, domain.DirectionProvider)
		wantKind(t, fmt.Sprintf("FindCalls of %d", len(calls)), err, domain.Invalid)
	}
}

// A history is what looking at every record finds, whatever their order.
func testGrantHistory(t *testing.T, x index.Index) {
	r := rand.New(rand.NewPCG(5, 5)) //nolint:gosec // samples, not secrets
	all := Access(0, 6000)
	for i := range all {
		record := &all[i].Record
		record.GrantID = digest("grant %d", i%3)[:32]
		record.Direction = []domain.Direction{domain.DirectionProvider, domain.DirectionConsumer}[i/3%2]
		record.At = Epoch.Add(time.Duration(r.IntN(20*24*3600*1000)) * time.Millisecond)
		if i%2 == 0 { // many in one hour
			record.At = Epoch.AddDate(0, 0, 17).Add(time.Duration(r.IntN(3600*1000)) * time.Millisecond)
		}
		record.RecordCount = r.Int64N(1000)
		record.ServiceItem = fmt.Sprintf("item-%d", i/700)
	}
	for i := range 30 { // as many as would make the sum overflow
		all[2*i+1].Record.RecordCount = 1 << 62
	}
	for from := 0; from < len(all); from += 500 {
		if err := x.ApplyAccess(t.Context(), all[from:from+500]); err != nil {
			t.Fatal(err)
		}
	}
	var most domain.GrantHistory // of each field
	for _, grant := range []string{all[0].Record.GrantID, all[1].Record.GrantID, "none"} {
		for _, direction := range []domain.Direction{domain.DirectionProvider, domain.DirectionConsumer} {
			for _, at := range []time.Time{
				Epoch, Epoch.Add(90*time.Minute + 13*time.Second), Epoch.AddDate(0, 0, 3), Epoch.AddDate(0, 0, 17).Add(30*time.Minute + time.Second),
				Epoch.AddDate(0, 0, 17).Add(time.Hour), Epoch.AddDate(0, 0, 18), Epoch.AddDate(0, 0, 40), {},
			} {
				want := plainHistory(all, grant, direction, at)
				most.LastHour, most.Refused, most.Hours = max(most.LastHour, want.LastHour), max(most.Refused, want.Refused), max(most.Hours, want.Hours)
				most.Largest, most.ServiceItems = max(most.Largest, want.Largest), slices.MaxFunc([][]string{most.ServiceItems, want.ServiceItems}, func(a, b []string) int { return len(a) - len(b) })
				got, err := x.GrantHistory(t.Context(), grant, direction, at)
				if err != nil {
					t.Fatalf("GrantHistory: %v", err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("GrantHistory(%.6s, %s, %v) (-want +got):\n%s", grant, direction, at, diff)
				}
			}
		}
	}
	if most.LastHour < 100 || most.Refused < 2 || most.Hours < domain.HistoryHours-5 || most.Largest != domain.MaxCountedData || len(most.ServiceItems) < 5 {
		t.Errorf("no history has much of each field, the most is %+v: the test does not tell", most)
	}
}

// plainHistory is the plain reading of [domain.GrantHistory].
func plainHistory(all []index.AccessEntry, grant string, direction domain.Direction, at time.Time) (h domain.GrantHistory) {
	thisHour, thisMinute := at.Truncate(time.Hour), at.Truncate(time.Minute)
	first := thisHour
	hours, items := map[time.Time]int64{}, map[string]bool{}
	for _, e := range all {
		r := e.Record
		if r.GrantID != grant || r.Direction != direction || !r.At.Before(thisMinute) {
			continue
		}
		if r.Result != domain.ResultOK {
			if !r.At.Before(thisMinute.Add(-4 * time.Minute)) {
				h.Refused++
			}
			continue
		}
		items[r.ServiceItem] = true
		if !r.At.Before(thisMinute.Add(-59 * time.Minute)) {
			h.LastHour++
		}
		if !r.At.Before(thisHour) || r.At.Before(thisHour.Add(-domain.HistoryHours*time.Hour)) {
			continue
		}
		hour := r.At.Truncate(time.Hour)
		if hour.Before(first) {
			first = hour
		}
		hours[hour]++
		data := min(r.RecordCount, domain.MaxCountedData)
		h.Calls, h.DataRecords, h.Largest = h.Calls+1, h.DataRecords+data, max(h.Largest, data)
		h.Busiest = max(h.Busiest, hours[hour])
		h.ByHour[r.At.In(time.FixedZone("CST", 8*3600)).Hour()]++
	}
	h.Hours = int64(thisHour.Sub(first) / time.Hour)
	for item := range items {
		h.ServiceItems = append(h.ServiceItems, item)
	}
	slices.Sort(h.ServiceItems)
	return h
}

func testJudged(t *testing.T, x index.Index) {
	if err := x.ApplyAccess(t.Context(), Access(0, 10)); err != nil {
		t.Fatal(err)
	}
	for _, n := range []uint64{4, 10, 10} {
		if err := x.SetJudged(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		wantNumber(t, "Judged", x.Judged, n)
	}
	wantNumber(t, "NextAccess", x.NextAccess, 10)
	wantKind(t, "SetJudged out of range", x.SetJudged(t.Context(), 1<<63), domain.Invalid)
}
