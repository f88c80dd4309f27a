package domain

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Calendar says which days of one year are working days 工作日, as the State
// Council's yearly notice has them: Monday to Friday unless listed as off, and
// the weekend days listed as worked in exchange 调休. Days are those of
// Asia/Shanghai, which has kept UTC+8 all year since 1991.
type Calendar struct {
	Meta
	Year        int      `json:"year"`
	Version     int      `json:"version"`     // 1, 2, …: a notice may be amended, as in 2015 and 2020
	DaysOff     []string `json:"daysOff"`     // days without work, "2026-01-01", ascending; weekend days may be listed
	Workdays    []string `json:"workdays"`    // Saturdays and Sundays that are worked, ascending
	Source      string   `json:"source"`      // the notice
	Provisional bool     `json:"provisional"` // 暂定: set before the notice was published
}

// SetCalendarArgs are the argument of governance:SetCalendar. Setting a year
// again makes a new version; time limits that run keep their due times.
type SetCalendarArgs struct {
	Year        int      `json:"year"`
	DaysOff     []string `json:"daysOff"`
	Workdays    []string `json:"workdays"`
	Source      string   `json:"source"`
	Provisional bool     `json:"provisional"`
}

// CalendarRef names the version of a year's calendar that a due time was
// computed with.
type CalendarRef struct {
	Year    int `json:"year"`
	Version int `json:"version"`
}

// shanghai is the time zone of every deadline.
var shanghai = time.FixedZone("Asia/Shanghai", 8*60*60)

// The limits of a calendar's lists. A year has about 20 days off beside its
// weekends, or about 115 with them, and a handful of days worked in exchange.
const (
	MaxDaysOff  = 120
	MaxWorkdays = 40
)

// Validate reports everything that is wrong with the argument.
func (a SetCalendarArgs) Validate() error {
	var f findings
	if a.Year < 2000 || a.Year > 2999 {
		f.add("year", "must be 2000 to 2999")
		return f.err()
	}
	f.days("daysOff", a.DaysOff, a.Year, MaxDaysOff)
	f.days("workdays", a.Workdays, a.Year, MaxWorkdays)
	if len(a.Workdays) <= MaxWorkdays {
		a.checkWorkdays(&f)
	}
	f.required("source", a.Source, MaxText)
	return f.err()
}

func (a SetCalendarArgs) checkWorkdays(f *findings) {
	for i, day := range a.Workdays {
		at := "workdays[" + strconv.Itoa(i) + "]"
		if date, err := time.Parse(time.DateOnly, day); err == nil && !isWeekend(date) {
			f.add(at, "neither a Saturday nor a Sunday")
		}
		if slices.Contains(a.DaysOff, day) {
			f.add(at, "is a day off, too")
		}
	}
}

// days checks a list of days of one year.
func (f *findings) days(field string, list []string, year, limit int) {
	if len(list) > limit {
		f.add(field, fmt.Sprintf("more than %d entries", limit))
		return
	}
	for i, day := range list {
		at := field + "[" + strconv.Itoa(i) + "]"
		if date, err := time.Parse(time.DateOnly, day); err != nil || date.Year() != year {
			f.add(at, "not a day of the year in the form 2026-01-31")
		}
		if i > 0 && list[i-1] >= day {
			f.add(at, "not after the entry before it")
		}
	}
}

// SetCalendar records the working days of a year. existing is the year's
// calendar in force, nil when there is none. The result is stored twice: as the
// year's calendar and, for ever, as its version.
func SetCalendar(existing *Calendar, call Call, args SetCalendarArgs) (Calendar, error) {
	if err := args.Validate(); err != nil {
		return Calendar{}, err
	}
	what := "calendar " + strconv.Itoa(args.Year)
	c := Calendar{
		Year: args.Year, Version: 1, DaysOff: orEmpty(args.DaysOff), Workdays: orEmpty(args.Workdays),
		Source: args.Source, Provisional: args.Provisional,
	}
	if err := call.set(KindCalendar, what, "governance:SetCalendar", existing != nil); err != nil {
		return Calendar{}, err
	}
	if existing != nil {
		if err := notBefore(what, existing.Meta, call.Tx); err != nil {
			return Calendar{}, err
		}
		if existing.says(c) {
			return Calendar{}, refuse(Exists, "%s is recorded already with this content, as version %d", what, existing.Version)
		}
		c.Version = existing.Version + 1
	}
	return c, seal(&c, SchemaCalendar, call.Who, call.Tx)
}

// says reports whether two calendars differ in nothing but version and Meta.
func (c Calendar) says(o Calendar) bool {
	return slices.Equal(c.DaysOff, o.DaysOff) && slices.Equal(c.Workdays, o.Workdays) &&
		c.Source == o.Source && c.Provisional == o.Provisional
}

// isWorkday reports whether a day of the calendar's year is worked.
func (c Calendar) isWorkday(day time.Time) bool {
	date := day.Format(time.DateOnly)
	if _, off := slices.BinarySearch(c.DaysOff, date); off {
		return false
	}
	if isWeekend(day) {
		_, worked := slices.BinarySearch(c.Workdays, date)
		return worked
	}
	return true
}

func isWeekend(day time.Time) bool {
	return day.Weekday() == time.Saturday || day.Weekday() == time.Sunday
}

// Workdays answers questions about working days from the calendars it is given.
type Workdays struct {
	// Calendars are the years known, in any order, one each.
	Calendars []Calendar
}

// calendar is the calendar of a year. A year without one is refused.
func (w Workdays) calendar(year int) (Calendar, error) {
	i := slices.IndexFunc(w.Calendars, func(c Calendar) bool { return c.Year == year })
	if i < 0 {
		return Calendar{}, refuse(Invalid, "the working days of %d are not set: the lead sets them with governance:SetCalendar", year)
	}
	return w.Calendars[i], nil
}

// IsWorkday reports whether the day of t in Asia/Shanghai is a working day. A
// year without calendar is an [Error] of kind [Invalid] that names it: nobody
// guesses.
func (w Workdays) IsWorkday(t time.Time) (bool, error) {
	day := dayOf(t)
	c, err := w.calendar(day.Year())
	return err == nil && c.isWorkday(day), err
}

// After is the end of the n-th working day after the day of t: the first moment
// of the day after it, UTC. The day of t itself does not count (民法典 201: 开始
// 的当日不计入). refs are the calendars that were asked, in order of year. n ≥ 1.
func (w Workdays) After(t time.Time, n int) (end time.Time, refs []CalendarRef, err error) {
	day := dayOf(t)
	for left := n; left > 0; {
		day = day.AddDate(0, 0, 1)
		c, err := w.calendar(day.Year())
		if err != nil {
			return time.Time{}, nil, err
		}
		if len(refs) == 0 || refs[len(refs)-1].Year != c.Year {
			refs = append(refs, CalendarRef{Year: c.Year, Version: c.Version})
		}
		if c.isWorkday(day) {
			left--
		}
	}
	return day.AddDate(0, 0, 1).UTC(), refs, nil
}

// Between counts the working days that lie wholly between the days of from and
// to: after the one and before the other.
func (w Workdays) Between(from, to time.Time) (int, error) {
	n := 0
	for day, last := dayOf(from).AddDate(0, 0, 1), dayOf(to); day.Before(last); day = day.AddDate(0, 0, 1) {
		c, err := w.calendar(day.Year())
		if err != nil {
			return 0, err
		}
		if c.isWorkday(day) {
			n++
		}
	}
	return n, nil
}

// dayOf is the first moment of the day of t in Asia/Shanghai.
func dayOf(t time.Time) time.Time {
	year, month, day := t.In(shanghai).Date()
	return time.Date(year, month, day, 0, 0, 0, 0, shanghai)
}
