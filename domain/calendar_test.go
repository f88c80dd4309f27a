package domain

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// realYears are the years that both sources of calendars have. 2027 is in the
// first without any day, because its notice is not published.
var realYears = []int{2013, 2014, 2015, 2016, 2017, 2023, 2024, 2025, 2026}

// realFile reads a file of real data, or skips the test where the data is not
// there.
func realFile(t *testing.T, v any, name ...string) {
	t.Helper()
	root := filepath.Join("..", "..", "shared", "data")
	if _, err := os.Stat(root); errors.Is(err, fs.ErrNotExist) {
		t.Skip("no folder with real data beside the repository")
	}
	data, err := os.ReadFile(filepath.Join(append([]string{root, "calendar"}, name...)...))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}

// realWorkdays are the calendars of the real years, set as the lead would.
func realWorkdays(t *testing.T) Workdays {
	t.Helper()
	var w Workdays
	for _, year := range realYears {
		var notice struct {
			Papers []string
			Days   []struct {
				Date     string
				IsOffDay bool
			}
		}
		realFile(t, &notice, "holiday-cn", strconv.Itoa(year)+".json")
		if len(notice.Days) < 20 || len(notice.Papers) == 0 {
			t.Fatalf("the calendar of %d has %d days, %d papers", year, len(notice.Days), len(notice.Papers))
		}
		args := SetCalendarArgs{Year: year, Source: notice.Papers[0]}
		for _, day := range notice.Days {
			// A year's notice may already speak of the last days of December before.
			switch {
			case day.Date[:4] != strconv.Itoa(year):
			case day.IsOffDay:
				args.DaysOff = append(args.DaysOff, day.Date)
			default:
				args.Workdays = append(args.Workdays, day.Date)
			}
		}
		slices.Sort(args.DaysOff)
		slices.Sort(args.Workdays)
		args.DaysOff, args.Workdays = slices.Compact(args.DaysOff), slices.Compact(args.Workdays)
		c, err := SetCalendar(nil, callOf(leadDept, RoleAdmin, someTx), args)
		if err != nil {
			t.Fatalf("%d: %v", year, err)
		}
		w.Calendars = append(w.Calendars, c)
	}
	slices.Reverse(w.Calendars) // in any order
	return w
}

func TestRealWorkdaysAgreeWithSecondSource(t *testing.T) {
	var other struct{ Holidays, Workdays map[string]string }
	realFile(t, &other, "chinese-days.json")
	if len(other.Holidays) != 240 || len(other.Workdays) != 59 {
		t.Fatalf("the second source has %d days off, %d working weekend days", len(other.Holidays), len(other.Workdays))
	}
	w := realWorkdays(t)
	days, weekends := 0, 0
	for _, year := range realYears {
		for day := time.Date(year, 1, 1, 0, 0, 0, 0, shanghai); day.Year() == year; day = day.AddDate(0, 0, 1) {
			date := day.Format(time.DateOnly)
			_, off := other.Holidays[date]
			_, worked := other.Workdays[date]
			weekend := day.Weekday() == time.Saturday || day.Weekday() == time.Sunday
			want := worked || !weekend && !off
			if weekend && want {
				weekends++
			}
			// The first and the last millisecond of the Shanghai day, in UTC.
			for _, at := range []time.Time{day.UTC(), day.AddDate(0, 0, 1).Add(-time.Millisecond).UTC()} {
				if got, err := w.IsWorkday(at); err != nil || got != want {
					t.Errorf("IsWorkday(%s) = %v, %v, want %v", at, got, err, want)
				}
			}
			days++
		}
	}
	if days != 9*365+2 || weekends != 59 {
		t.Errorf("compared %d days, %d worked weekend days", days, weekends)
	}
}

// at reads a time of Shanghai.
func at(t testing.TB, s string) time.Time {
	t.Helper()
	v, err := time.ParseInLocation("2006-01-02 15:04:05", s, shanghai)
	if err != nil {
		t.Fatal(err)
	}
	return v.UTC()
}

func TestAfterInRealYears(t *testing.T) {
	w := realWorkdays(t)
	for _, tc := range []struct {
		name string
		from string // Shanghai
		n    int
		last string // the last day, which is still in time
		refs []int
	}{
		{"next day", "2026-03-02 09:00:00", 1, "2026-03-03", []int{2026}},
		{"over a weekend", "2026-03-06 09:00:00", 1, "2026-03-09", []int{2026}},
		{"from a Saturday", "2026-03-07 09:00:00", 1, "2026-03-09", []int{2026}},
		{"a second before midnight", "2026-03-02 23:59:59", 1, "2026-03-03", []int{2026}},
		{"at midnight", "2026-03-03 00:00:00", 1, "2026-03-04", []int{2026}},
		{"ten over the Spring Festival of 2024, with the worked Sunday 18 February", "2024-02-08 10:00:00", 10, "2024-02-28", []int{2024}},
		{"one before the Spring Festival of 2024: 9 February is worked", "2024-02-08 10:00:00", 1, "2024-02-09", []int{2024}},
		{"two: the festival lies between", "2024-02-08 10:00:00", 2, "2024-02-18", []int{2024}},
		{"the worked Sunday 4 February 2024", "2024-02-02 18:00:00", 1, "2024-02-04", []int{2024}},
		{"from a worked Sunday", "2024-02-04 09:00:00", 1, "2024-02-05", []int{2024}},
		{"the Spring Festival of 2025 with the worked Sunday 26 January", "2025-01-24 12:00:00", 3, "2025-02-05", []int{2025}},
		{"the National Day of 2023 with both worked weekends", "2023-09-28 12:00:00", 2, "2023-10-08", []int{2023}},
		{"the National Day of 2025", "2025-09-30 12:00:00", 1, "2025-10-09", []int{2025}},
		{"the extra days off of September 2015", "2015-09-02 12:00:00", 1, "2015-09-06", []int{2015}},
		{"over the year's end, 1 January off", "2023-12-29 12:00:00", 1, "2024-01-02", []int{2023, 2024}},
		{"ends on the last day of a year", "2024-12-30 12:00:00", 1, "2024-12-31", []int{2024}},
		{"twenty over the year's end", "2024-12-20 12:00:00", 20, "2025-01-20", []int{2024, 2025}},
		{"a year", "2024-01-02 12:00:00", 250, "2024-12-31", []int{2024}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			end, refs, err := w.After(at(t, tc.from), tc.n)
			if err != nil {
				t.Fatal(err)
			}
			want := at(t, tc.last+" 00:00:00").Add(24 * time.Hour)
			if !end.Equal(want) || end.Location() != time.UTC {
				t.Errorf("After(%s, %d) = %s, want %s", tc.from, tc.n, end, want)
			}
			var years []int
			for _, r := range refs {
				years = append(years, r.Year)
			}
			if !slices.Equal(years, tc.refs) || refs[0].Version != 1 {
				t.Errorf("calendars %v, want %v", refs, tc.refs)
			}
		})
	}
	t.Run("an evening in UTC is the next day in Shanghai", func(t *testing.T) {
		end, _, err := w.After(time.Date(2026, 3, 2, 16, 0, 0, 0, time.UTC), 1) // 3 March, 00:00
		if want := at(t, "2026-03-05 00:00:00"); err != nil || !end.Equal(want) {
			t.Errorf("After = %s, %v, want %s", end, err, want)
		}
	})
}

// TestAfterAgreesWithCounting counts, for every day of two years and many limits,
// the working days of the second source one by one.
func TestAfterAgreesWithCounting(t *testing.T) {
	w := realWorkdays(t)
	var other struct{ Holidays, Workdays map[string]string }
	realFile(t, &other, "chinese-days.json")
	works := func(day time.Time) bool {
		date := day.Format(time.DateOnly)
		weekday := day.Weekday() % 6 // 0 for Saturday and Sunday
		return other.Workdays[date] != "" || weekday != 0 && other.Holidays[date] == ""
	}
	for start := time.Date(2024, 1, 1, 15, 0, 0, 0, shanghai); start.Year() < 2026; start = start.AddDate(0, 0, 1) {
		n := 0
		for day := start.AddDate(0, 0, 1); n < 40; day = day.AddDate(0, 0, 1) {
			between, err := w.Between(start, day)
			if err != nil || between != n {
				t.Fatalf("Between(%s, %s) = %d, %v, want %d", start, day, between, err, n)
			}
			if !works(day) {
				continue
			}
			n++
			want := time.Date(day.Year(), day.Month(), day.Day()+1, 0, 0, 0, 0, shanghai)
			if end, _, err := w.After(start, n); err != nil || !end.Equal(want) {
				t.Fatalf("After(%s, %d) = %s, %v, want %s", start, n, end, err, want)
			}
		}
	}
}

func TestBetween(t *testing.T) {
	w := realWorkdays(t)
	for _, tc := range []struct {
		from, to string
		want     int
	}{
		{"2026-03-02 09:00:00", "2026-03-02 18:00:00", 0},
		{"2026-03-02 09:00:00", "2026-03-03 18:00:00", 0},
		{"2026-03-02 09:00:00", "2026-03-04 00:00:00", 1},
		{"2026-03-02 23:59:59", "2026-03-04 23:59:59", 1},
		{"2026-03-04 09:00:00", "2026-03-02 09:00:00", 0},
		{"2024-02-08 09:00:00", "2024-02-19 09:00:00", 2}, // the 9th and the worked Sunday, the 18th
		{"2023-12-28 09:00:00", "2024-01-03 09:00:00", 2},
	} {
		if got, err := w.Between(at(t, tc.from), at(t, tc.to)); err != nil || got != tc.want {
			t.Errorf("Between(%s, %s) = %d, %v, want %d", tc.from, tc.to, got, err, tc.want)
		}
	}
}

func TestMissingCalendarIsRefused(t *testing.T) {
	w := realWorkdays(t)
	const message = "the working days of 2027 are not set: the lead sets them with governance:SetCalendar"
	_, err := w.IsWorkday(at(t, "2027-01-01 00:00:00"))
	wantKind(t, err, Invalid, message)
	_, err = w.IsWorkday(time.Date(2026, 12, 31, 16, 0, 0, 0, time.UTC)) // 2027 in Shanghai
	wantKind(t, err, Invalid, message)
	if _, err = w.IsWorkday(time.Date(2026, 12, 31, 15, 59, 59, 0, time.UTC)); err != nil {
		t.Error(err)
	}
	_, _, err = w.After(at(t, "2026-12-30 12:00:00"), 2)
	wantKind(t, err, Invalid, message)
	// The last working day of 2026 ends with the year: 2027 is not asked.
	if end, _, err := w.After(at(t, "2026-12-30 12:00:00"), 1); err != nil || !end.Equal(at(t, "2027-01-01 00:00:00")) {
		t.Errorf("After = %s, %v", end, err)
	}
	_, err = w.Between(at(t, "2026-12-31 12:00:00"), at(t, "2027-01-02 12:00:00"))
	wantKind(t, err, Invalid, message)
	_, err = w.Between(at(t, "2017-12-31 12:00:00"), at(t, "2018-01-05 12:00:00"))
	wantKind(t, err, Invalid, "the working days of 2018 are not set")
}

func someCalendarArgs() SetCalendarArgs {
	return SetCalendarArgs{
		Year: 2026, DaysOff: []string{"2026-01-01", "2026-01-02"}, Workdays: []string{"2026-01-04"}, Source: "国办发明电〔2025〕7号",
	}
}

func TestSetCalendarArgsValidate(t *testing.T) {
	const notADay, notAscending = "not a day of the year in the form 2026-01-31", "not after the entry before it"
	checkInvalid(t, someCalendarArgs, []invalidCase[SetCalendarArgs]{
		{"empty lists", func(a *SetCalendarArgs) { a.DaysOff, a.Workdays, a.Provisional = nil, nil, true }, ""},
		{"a weekend day off", func(a *SetCalendarArgs) { a.DaysOff[1] = "2026-01-03" }, ""},
		{"year", func(a *SetCalendarArgs) { a.Year = 0 }, "year: must be 2000 to 2999"},
		{"a later year", func(a *SetCalendarArgs) { a.Year = 3000 }, "year: must be 2000 to 2999"},
		{"no real day", func(a *SetCalendarArgs) { a.DaysOff[1] = "2026-02-30" }, "daysOff[1]: " + notADay},
		{"another form", func(a *SetCalendarArgs) { a.DaysOff[1] = "2026-1-2" }, "daysOff[1]: " + notADay},
		{"another year", func(a *SetCalendarArgs) { a.DaysOff[1] = "2027-01-01" }, "daysOff[1]: " + notADay},
		{"descending", func(a *SetCalendarArgs) { a.DaysOff = []string{"2026-01-02", "2026-01-01"} }, "daysOff[1]: " + notAscending},
		{"repeated", func(a *SetCalendarArgs) { a.DaysOff = []string{"2026-01-02", "2026-01-02"} }, "daysOff[1]: " + notAscending},
		{"worked Monday", func(a *SetCalendarArgs) { a.Workdays[0] = "2026-01-05" }, "workdays[0]: neither a Saturday nor a Sunday"},
		{"worked and off", func(a *SetCalendarArgs) { a.DaysOff[1] = "2026-01-04" }, "workdays[0]: is a day off, too"},
		{"worked nonsense", func(a *SetCalendarArgs) { a.Workdays[0] = "x" }, "workdays[0]: " + notADay},
		{"source", func(a *SetCalendarArgs) { a.Source = "" }, "source: required"},
		{"too many", func(a *SetCalendarArgs) {
			a.DaysOff, a.Workdays = make([]string, 121), make([]string, 41)
		}, "daysOff: more than 120 entries; workdays: more than 40 entries"},
	})
}

func TestSetCalendar(t *testing.T) {
	call := callOf(leadDept, RoleAdmin, someTx)
	first, err := SetCalendar(nil, call, someCalendarArgs())
	if err != nil {
		t.Fatal(err)
	}
	want := Calendar{
		Meta: first.Meta, Year: 2026, Version: 1, DaysOff: []string{"2026-01-01", "2026-01-02"}, Workdays: []string{"2026-01-04"},
		Source: "国办发明电〔2025〕7号",
	}
	if diff := cmp.Diff(want, first); diff != "" || !DigestHolds(&first) || first.Schema != SchemaCalendar || first.Department != "bigdata" {
		t.Errorf("calendar (-want +got):\n%s", diff)
	}
	_, err = SetCalendar(&first, call, someCalendarArgs())
	wantKind(t, err, Exists, "calendar 2026 is recorded already with this content, as version 1")
	for name, change := range map[string]func(*SetCalendarArgs){
		"days off":    func(a *SetCalendarArgs) { a.DaysOff = a.DaysOff[:1] },
		"workdays":    func(a *SetCalendarArgs) { a.Workdays = nil },
		"source":      func(a *SetCalendarArgs) { a.Source = "更正" },
		"provisional": func(a *SetCalendarArgs) { a.Provisional = true },
	} {
		args := someCalendarArgs()
		change(&args)
		if got, err := SetCalendar(&first, call, args); err != nil || got.Version != 2 || got.Workdays == nil {
			t.Errorf("other %s: %+v, %v", name, got, err)
		}
	}
	args := someCalendarArgs()
	args.Source = "更正"
	_, err = SetCalendar(&first, callOf(leadDept, RoleAdmin, later(-time.Second)), args)
	wantKind(t, err, Conflict, "calendar 2026 was changed at a later time")
	_, err = SetCalendar(nil, call, SetCalendarArgs{})
	wantKind(t, err, Invalid, "year: ")
}

// TestGovernanceCells: only the lead's admin sets calendars and rules, whether or
// not there is one.
func TestGovernanceCells(t *testing.T) {
	calendar := Calendar{Meta: Meta{TxTime: noon}, Year: 2026, Version: 1}
	rule := DeadlineRule{Meta: Meta{TxTime: noon}, Event: DeadlineMediation, Version: 1}
	for _, dept := range []Department{leadDept, policeDept, civilDept, marketDept} {
		for _, role := range append([]Role{""}, Roles...) {
			for _, recorded := range []bool{false, true} {
				call := callOf(dept, role, someTx)
				existing, before := (*Calendar)(nil), (*DeadlineRule)(nil)
				if recorded {
					existing, before = &calendar, &rule
				}
				_, calendarErr := SetCalendar(existing, call, someCalendarArgs())
				_, ruleErr := SetRule(before, call, someRuleArgs())
				want := Forbidden
				if dept.Lead && role == RoleAdmin {
					want = ""
				}
				if KindOf(calendarErr) != want || KindOf(ruleErr) != want {
					t.Errorf("%s of %s, recorded %v: %v, %v, want kind %q", role, dept.Code, recorded, calendarErr, ruleErr, want)
				}
			}
		}
	}
}
