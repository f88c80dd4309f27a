package domain

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// UnusualRule is one rule for unusual use 调用异常监测. Rules are data: which of
// them run, and with which bounds, is the department's configuration.
type UnusualRule struct {
	ID    string  `json:"id"`    // one of [UnusualRules]
	Bound float64 `json:"bound"` // what it means is said with each rule
	Least int64   `json:"least"` // calls that the history must have before the rule speaks; of rate, also that the hour must have; not used by refusals
}

// The rules for unusual use, with the meaning of Bound. The history of a grant is
// that of at most the 14 days before.
const (
	UnusualRate     = "rate"     // calls within an hour over those of the busiest hour of the history: more than so many times
	UnusualHours    = "hours"    // share of the calls of the history made at this hour of the day or the one before or after it: below it, 0 to 1; the history covers three days or more
	UnusualVolume   = "volume"   // data records of a call over those of the largest call of the history: more than so many times
	UnusualPurpose  = "purpose"  // a service item that no call has had that released data; Bound is not used
	UnusualRefusals = "refusals" // refused and failed calls within 5 minutes: so many or more
)

// UnusualRules lists every rule.
var UnusualRules = []string{UnusualRate, UnusualHours, UnusualVolume, UnusualPurpose, UnusualRefusals}

// Validate reports everything that is wrong with the rule.
func (r UnusualRule) Validate() error {
	var f findings
	oneOf(&f, "id", r.ID, UnusualRules...)
	if r.Bound < 0 {
		f.add("bound", "must not be negative")
	}
	if r.Least < 0 {
		f.add("least", "must not be negative")
	}
	return f.err()
}

// HistoryHours is how many whole hours a [GrantHistory] covers at most: 14 days.
const HistoryHours = 14 * 24

// MaxCountedData is the most data records that one call counts with in a
// [GrantHistory], so that no sum overflows.
const MaxCountedData = 1 << 40

// GrantHistory is what the past of a grant in one direction says as of a moment.
// The calls of the minute of that moment are not in it: who judges them adds
// them to LastHour and Refused as they come. Times are those of the calls.
type GrantHistory struct {
	Hours        int64     // whole hours from the first call covered to the hour of the moment, at most [HistoryHours]; the hour of the moment is not among them
	Calls        int64     // calls with result ok in these hours
	Busiest      int64     // of them, in the hour that had the most
	DataRecords  int64     // data records released by them
	Largest      int64     // data records of the one that released the most
	ByHour       [24]int64 // the calls by hour of the day, Asia/Shanghai
	ServiceItems []string  // of calls with result ok before the minute of the moment, sorted
	LastHour     int64     // calls with result ok in the 59 whole minutes before the minute of the moment
	Refused      int64     // calls with another result in the 4 whole minutes before it
}

// Unusual is one finding of a rule.
type Unusual struct {
	Rule    string
	Figures string // what was seen, what was expected, the bound
}

// CheckUnusual judges one record against the history of its grant in the record's
// direction, at being the time of the call. It is pure: equal input gives equal
// findings, in the order of rules.
func CheckUnusual(rules []UnusualRule, history GrantHistory, record AccessRecord, at time.Time) []Unusual {
	var found []Unusual
	for _, rule := range rules {
		check, ok := unusualChecks[rule.ID]
		if !ok {
			continue
		}
		if figures, unusual := check(rule, history, record, at); unusual {
			found = append(found, Unusual{rule.ID, figures})
		}
	}
	return found
}

var unusualChecks = map[string]func(UnusualRule, GrantHistory, AccessRecord, time.Time) (string, bool){
	UnusualRate:     checkRate,
	UnusualHours:    checkHours,
	UnusualVolume:   checkVolume,
	UnusualPurpose:  checkPurpose,
	UnusualRefusals: checkRefusals,
}

func checkRate(rule UnusualRule, h GrantHistory, r AccessRecord, _ time.Time) (string, bool) {
	seen := h.LastHour + 1
	if r.Result != ResultOK || h.Calls < rule.Least || seen < rule.Least {
		return "", false
	}
	return fmt.Sprintf("%d calls within an hour; the busiest of %d hours before had %d; bound %s times", seen, h.Hours, h.Busiest, number(rule.Bound)),
		float64(seen) > rule.Bound*float64(h.Busiest)
}

// dayHours is how much of its past a grant must show before an hour of the day
// can be unusual: three days.
const dayHours = 3 * 24

func checkHours(rule UnusualRule, h GrantHistory, r AccessRecord, at time.Time) (string, bool) {
	if r.Result != ResultOK || h.Calls < rule.Least || h.Hours < dayHours {
		return "", false
	}
	// A call a little before or after the usual hours is not unusual.
	hour := at.In(shanghai).Hour()
	calls := h.ByHour[(hour+23)%24] + h.ByHour[hour] + h.ByHour[(hour+1)%24]
	share := float64(calls) / float64(h.Calls)
	return fmt.Sprintf("a call at %02d h; of %d calls in %d hours before, %d were made from %02d to %02d h; bound %s of all",
		hour, h.Calls, h.Hours, calls, (hour+23)%24, (hour+2)%24, number(rule.Bound)), share < rule.Bound
}

func checkVolume(rule UnusualRule, h GrantHistory, r AccessRecord, _ time.Time) (string, bool) {
	if r.Result != ResultOK || h.Calls < rule.Least {
		return "", false
	}
	largest := max(h.Largest, 1)
	return fmt.Sprintf("a call released %d data records; the largest of %d calls before released %d; bound %s times", r.RecordCount, h.Calls, h.Largest, number(rule.Bound)),
		float64(r.RecordCount) > rule.Bound*float64(largest)
}

func checkPurpose(rule UnusualRule, h GrantHistory, r AccessRecord, _ time.Time) (string, bool) {
	if h.Calls < rule.Least || slices.Contains(h.ServiceItems, r.ServiceItem) {
		return "", false
	}
	return fmt.Sprintf("service item %s; none of %d calls before had it", r.ServiceItem, h.Calls), true
}

func checkRefusals(rule UnusualRule, h GrantHistory, r AccessRecord, _ time.Time) (string, bool) {
	seen := h.Refused + 1
	if r.Result == ResultOK {
		return "", false
	}
	return fmt.Sprintf("%d refused or failed calls within 5 minutes; bound %s", seen, number(rule.Bound)), float64(seen) >= rule.Bound
}

func number(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
