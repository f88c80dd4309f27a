package domain

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestCheckUnusual(t *testing.T) {
	rules := []UnusualRule{
		{UnusualRate, 2, 20}, {UnusualHours, 0.01, 100}, {UnusualVolume, 5, 100}, {UnusualPurpose, 0, 100}, {UnusualRefusals, 20, 0},
	}
	at := time.Date(2026, 3, 2, 1, 30, 0, 0, time.UTC) // 09:30 in Beijing
	history := GrantHistory{Hours: 240, Calls: 1000, Busiest: 30, DataRecords: 5000, Largest: 10, ServiceItems: []string{"a", "b"}}
	history.ByHour[9], history.ByHour[14] = 500, 500
	for name, test := range map[string]struct {
		change func(*GrantHistory, *AccessRecord)
		at     time.Time
		want   string // rules
	}{
		"as usual":                           {func(*GrantHistory, *AccessRecord) {}, at, ""},
		"at the bound of rate":               {func(h *GrantHistory, _ *AccessRecord) { h.LastHour = 59 }, at, ""},
		"above the bound of rate":            {func(h *GrantHistory, _ *AccessRecord) { h.LastHour = 60 }, at, "rate"},
		"a rate of few calls":                {func(h *GrantHistory, _ *AccessRecord) { h.LastHour, h.Busiest = 18, 1 }, at, ""},
		"a rate without history":             {func(h *GrantHistory, _ *AccessRecord) { *h = GrantHistory{LastHour: 5000} }, at, ""},
		"the hour beside":                    {func(*GrantHistory, *AccessRecord) {}, at.Add(time.Hour), ""},
		"in the night":                       {func(*GrantHistory, *AccessRecord) {}, at.Add(14 * time.Hour), "hours"},
		"in the night, early in the history": {func(h *GrantHistory, _ *AccessRecord) { h.Hours = 71 }, at.Add(14 * time.Hour), ""},
		"at the bound of volume":             {func(_ *GrantHistory, r *AccessRecord) { r.RecordCount = 50 }, at, ""},
		"above it":                           {func(_ *GrantHistory, r *AccessRecord) { r.RecordCount = 51 }, at, "volume"},
		"a new item":                         {func(_ *GrantHistory, r *AccessRecord) { r.ServiceItem = "c" }, at, "purpose"},
		"a new item, refused":                {func(_ *GrantHistory, r *AccessRecord) { r.ServiceItem, r.Result = "c", "not_in_grant" }, at, "purpose"},
		"refusals below":                     {func(h *GrantHistory, r *AccessRecord) { h.Refused, r.Result = 18, "failed" }, at, ""},
		"refusals":                           {func(h *GrantHistory, r *AccessRecord) { h.Refused, r.Result = 19, "failed" }, at, "refusals"},
		"refused at night, large":            {func(_ *GrantHistory, r *AccessRecord) { r.Result, r.RecordCount = "failed", 1000 }, at.Add(14 * time.Hour), ""},
		"everything at once":                 {func(h *GrantHistory, r *AccessRecord) { h.LastHour, r.RecordCount, r.ServiceItem = 99, 99, "c" }, at.Add(14 * time.Hour), "rate hours volume purpose"},
	} {
		t.Run(name, func(t *testing.T) {
			h, r := history, AccessRecord{Result: ResultOK, ServiceItem: "a", RecordCount: 5}
			test.change(&h, &r)
			var got []string
			for _, u := range CheckUnusual(rules, h, r, test.at) {
				got = append(got, u.Rule)
				if u.Figures == "" || len(u.Figures) > 300 {
					t.Errorf("figures of %s = %q", u.Rule, u.Figures)
				}
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("found %q, want %q", got, test.want)
			}
		})
	}
}

// Equal input gives equal findings, in the order of rules, and a rule that asks
// for more never finds more.
func TestCheckUnusualProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		small := rapid.Int64Range(0, 300)
		h := GrantHistory{
			Hours: rapid.Int64Range(0, HistoryHours).Draw(t, "hours"), Calls: small.Draw(t, "calls"), Busiest: small.Draw(t, "busiest"),
			Largest: small.Draw(t, "largest"), LastHour: small.Draw(t, "last hour"), Refused: small.Draw(t, "refused"), ServiceItems: []string{"a"},
		}
		for i := range h.ByHour {
			h.ByHour[i] = rapid.Int64Range(0, 20).Draw(t, "by hour")
		}
		r := AccessRecord{
			Result: rapid.SampledFrom([]string{ResultOK, "failed"}).Draw(t, "result"), ServiceItem: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "item"),
			RecordCount: small.Draw(t, "records"),
		}
		at := time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "at"), 0).UTC()
		var looser, stricter []UnusualRule
		for _, id := range UnusualRules {
			low, high := rapid.Float64Range(0, 20).Draw(t, "bound"), rapid.Float64Range(0, 20).Draw(t, "bound")
			if id == UnusualHours {
				low, high = low/20, high/20
			}
			low, high = min(low, high), max(low, high)
			if id == UnusualHours { // the one whose bound is from below
				low, high = high, low
			}
			least := rapid.Int64Range(0, 200).Draw(t, "least")
			looser = append(looser, UnusualRule{id, low, least})
			stricter = append(stricter, UnusualRule{id, high, least + rapid.Int64Range(0, 100).Draw(t, "more")})
		}
		found := map[string]bool{}
		order := -1
		first := CheckUnusual(looser, h, r, at)
		for _, u := range first {
			found[u.Rule] = true
			if next := slices.Index(UnusualRules, u.Rule); next <= order {
				t.Fatalf("%s is not in the order of rules", u.Rule)
			} else {
				order = next
			}
		}
		if diff := cmp.Diff(first, CheckUnusual(looser, h, r, at)); diff != "" {
			t.Fatalf("judged again (-first +again):\n%s", diff)
		}
		for _, u := range CheckUnusual(stricter, h, r, at) {
			if !found[u.Rule] {
				t.Fatalf("%s finds with a stricter rule what it does not find with a looser one", u.Rule)
			}
		}
	})
}

func TestUnusualRuleValidate(t *testing.T) {
	for want, rule := range map[string]UnusualRule{
		"":      {UnusualRate, 2, 20},
		"id":    {"colour", 2, 20},
		"bound": {UnusualRate, -1, 20},
		"least": {UnusualRate, 2, -1},
	} {
		err := rule.Validate()
		if (err == nil) != (want == "") || (err != nil && (!strings.HasPrefix(err.Error(), "invalid: "+want+":") && !strings.HasPrefix(err.Error(), want+":"))) {
			t.Errorf("Validate(%+v) = %v, want a finding on %q", rule, err, want)
		}
	}
}
