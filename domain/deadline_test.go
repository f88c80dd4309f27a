package domain

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func someRuleArgs() SetRuleArgs {
	return SetRuleArgs{Event: DeadlineMediation, Limit: 10, ExtendMax: 5, ExtendWith: ExtendByLead, LegalBasis: "条例第二十条"}
}

func TestSetRuleArgsValidate(t *testing.T) {
	checkInvalid(t, someRuleArgs, []invalidCase[SetRuleArgs]{
		{"no extension", func(a *SetRuleArgs) { a.ExtendMax, a.ExtendWith = 0, ExtendAlone }, ""},
		{"the longest", func(a *SetRuleArgs) { a.Limit, a.ExtendMax = 250, 250 }, ""},
		{
			"event", func(a *SetRuleArgs) { a.Event = "x" },
			"event: not one of catalog_review, catalog_update, request_check, request_answer, request_delivery, request_confirm, request_dispute, mediation",
		},
		{"no limit", func(a *SetRuleArgs) { a.Limit = 0 }, "limit: must be 1 to 250 working days"},
		{"long", func(a *SetRuleArgs) { a.Limit, a.ExtendMax = 251, 251 }, "limit: must be 1 to 250 working days; extendMax: must be 0 to 250 working days"},
		{"negative extension", func(a *SetRuleArgs) { a.ExtendMax = -1 }, "extendMax: must be 0 to 250 working days"},
		{"consent", func(a *SetRuleArgs) { a.ExtendWith = "" }, "extendWith: not one of lead, none"},
		{"basis", func(a *SetRuleArgs) { a.LegalBasis = "" }, "legalBasis: required"},
	})
}

func TestSetRule(t *testing.T) {
	call := callOf(leadDept, RoleAdmin, someTx)
	first, err := SetRule(nil, call, someRuleArgs())
	if err != nil {
		t.Fatal(err)
	}
	want := DeadlineRule{
		Meta: first.Meta, Event: DeadlineMediation, Version: 1, Limit: 10, ExtendMax: 5, ExtendWith: ExtendByLead, LegalBasis: "条例第二十条",
	}
	if diff := cmp.Diff(want, first); diff != "" || !DigestHolds(&first) || first.Schema != SchemaRule {
		t.Errorf("rule (-want +got):\n%s", diff)
	}
	_, err = SetRule(&first, call, someRuleArgs())
	wantKind(t, err, Exists, "deadline rule mediation is recorded already with this content, as version 1")
	args := someRuleArgs()
	args.Limit = 11
	if second, err := SetRule(&first, call, args); err != nil || second.Version != 2 || second.Limit != 11 {
		t.Errorf("second version %+v, %v", second, err)
	}
	_, err = SetRule(&first, callOf(leadDept, RoleAdmin, later(-time.Second)), args)
	wantKind(t, err, Conflict, "deadline rule mediation was changed at a later time")
	_, err = SetRule(nil, call, SetRuleArgs{})
	wantKind(t, err, Invalid, "event: ")
}

// realDeadlines are rules of ten working days over the real calendars.
func realDeadlines(t *testing.T) Deadlines {
	t.Helper()
	return Deadlines{Rules: someDeadlines().Rules, Workdays: realWorkdays(t)}
}

// mustClock fails the test for a clock that is refused.
func mustClock(t testing.TB) func(*Clock, error) *Clock {
	return func(c *Clock, err error) *Clock {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
}

func TestStart(t *testing.T) {
	d := realDeadlines(t)
	start := at(t, "2023-12-20 17:30:00")
	got, err := d.Start(DeadlineRequestAnswer, start)
	want := &Clock{
		Event: DeadlineRequestAnswer, RuleVersion: 3, LegalBasis: "依据", Calendars: []CalendarRef{{2023, 1}, {2024, 1}},
		Limit: 10, ExtendMax: 5, ExtendWith: ExtendByLead, StartedAt: start, DueAt: at(t, "2024-01-05 00:00:00"),
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("clock (-want +got):\n%s%v", diff, err)
	}
	_, err = d.Start(DeadlineRequestAnswer, at(t, "2026-12-28 09:00:00"))
	wantKind(t, err, Invalid, "the working days of 2027 are not set: the lead sets them with governance:SetCalendar")
	d.Rules = d.Rules[:1]
	_, err = d.Start(DeadlineRequestAnswer, start)
	wantKind(t, err, Invalid, "the time limit request_answer is not set: the lead sets it with governance:SetRule")
}

func TestClockOverdue(t *testing.T) {
	d := realDeadlines(t)
	c := mustClock(t)(d.Start(DeadlineRequestAnswer, at(t, "2026-03-02 09:00:00")))
	for _, tc := range []struct {
		at   string
		want bool
	}{
		{"2026-03-16 23:59:59", false},
		{"2026-03-17 00:00:00", true},
		{"2026-03-17 00:00:01", true},
	} {
		if got := c.Overdue(at(t, tc.at)); got != tc.want {
			t.Errorf("Overdue(%s) = %v, due at %s", tc.at, got, c.DueAt)
		}
	}
	stopped := mustClock(t)(d.Stop(c, at(t, "2026-03-03 09:00:00")))
	if stopped.Overdue(at(t, "2026-04-01 00:00:00")) || (*Clock)(nil).Overdue(noon) {
		t.Error("a stopped clock, or none, is overdue")
	}
}

func TestStopAndResume(t *testing.T) {
	d := realDeadlines(t)
	for _, tc := range []struct {
		name                  string
		start, stop, resume   string
		used                  int
		due                   string // the first moment that is too late
		stopAgain, resumeLast string // "" for no second stop
		usedAgain             int
		dueAgain              string
	}{
		{name: "the same day", start: "2026-03-02 09:00:00", stop: "2026-03-02 10:00:00", resume: "2026-03-02 11:00:00", used: 0, due: "2026-03-17 00:00:00"},
		{name: "the day of the stop is not used", start: "2026-03-02 09:00:00", stop: "2026-03-03 23:59:59", resume: "2026-03-05 09:00:00", used: 0, due: "2026-03-20 00:00:00"},
		{name: "a day that is over is used", start: "2026-03-02 09:00:00", stop: "2026-03-04 00:00:00", resume: "2026-03-05 09:00:00", used: 1, due: "2026-03-19 00:00:00"},
		{
			name:  "stopped over the Spring Festival of 2024",
			start: "2024-02-05 09:00:00", stop: "2024-02-09 15:00:00", resume: "2024-02-18 09:00:00",
			used: 3, due: "2024-02-28 00:00:00",
		},
		{
			name:  "stopped in it",
			start: "2024-02-05 09:00:00", stop: "2024-02-12 15:00:00", resume: "2024-02-15 09:00:00",
			used: 4, due: "2024-02-24 00:00:00",
		},
		{
			name:  "stopped over the year's end, then again",
			start: "2023-12-25 09:00:00", stop: "2023-12-28 09:00:00", resume: "2024-01-08 09:00:00",
			used: 2, due: "2024-01-19 00:00:00",
			stopAgain: "2024-01-10 09:00:00", resumeLast: "2024-01-15 09:00:00", usedAgain: 3, dueAgain: "2024-01-25 00:00:00",
		},
		{
			name:  "long overdue: one day is left",
			start: "2026-03-02 09:00:00", stop: "2026-05-20 09:00:00", resume: "2026-05-22 09:00:00",
			used: 9, due: "2026-05-26 00:00:00",
			stopAgain: "2026-05-29 09:00:00", resumeLast: "2026-06-01 09:00:00", usedAgain: 9, dueAgain: "2026-06-03 00:00:00",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := mustClock(t)(d.Start(DeadlineRequestCheck, at(t, tc.start)))
			began, due := c.StartedAt, c.DueAt
			check := func(c *Clock, stop, resume string, used int, due string) *Clock {
				stopped := mustClock(t)(d.Stop(c, at(t, stop)))
				if stopped.Used != used || !stopped.StoppedAt.Equal(at(t, stop)) || !stopped.StartedAt.Equal(c.StartedAt) || !stopped.DueAt.Equal(c.DueAt) {
					t.Errorf("stopped %+v, want %d used", stopped, used)
				}
				resumed := mustClock(t)(d.Resume(stopped, at(t, resume)))
				if resumed.Used != used || resumed.StoppedAt != nil || !resumed.StartedAt.Equal(at(t, resume)) || !resumed.DueAt.Equal(at(t, due)) {
					t.Errorf("resumed %+v, want due at %s", resumed, due)
				}
				return resumed
			}
			resumed := check(c, tc.stop, tc.resume, tc.used, tc.due)
			if tc.stopAgain != "" {
				check(resumed, tc.stopAgain, tc.resumeLast, tc.usedAgain, tc.dueAgain)
			}
			if !c.StartedAt.Equal(began) || !c.DueAt.Equal(due) || c.Used != 0 || c.StoppedAt != nil {
				t.Errorf("the first clock changed: %+v", c)
			}
		})
	}
	t.Run("calendars are those of the last computation", func(t *testing.T) {
		c := mustClock(t)(d.Start(DeadlineRequestCheck, at(t, "2023-12-01 09:00:00")))
		stopped := mustClock(t)(d.Stop(c, at(t, "2023-12-05 09:00:00")))
		resumed := mustClock(t)(d.Resume(stopped, at(t, "2024-01-02 09:00:00")))
		if diff := cmp.Diff([]CalendarRef{{2024, 1}}, resumed.Calendars); diff != "" {
			t.Errorf("calendars (-want +got):\n%s", diff)
		}
	})
	t.Run("an overdue mark ends with the new due time", func(t *testing.T) {
		c := mustClock(t)(d.Start(DeadlineRequestCheck, at(t, "2026-03-02 09:00:00")))
		marked := mustClock(t)(c.Mark(c.DueAt))
		stopped := mustClock(t)(d.Stop(marked, c.DueAt))
		if stopped.OverdueAt == nil {
			t.Error("a stop forgets the mark")
		}
		if resumed := mustClock(t)(d.Resume(stopped, c.DueAt)); resumed.OverdueAt != nil {
			t.Error("a resumed clock is marked")
		}
	})
}

func TestClockRefusals(t *testing.T) {
	d := realDeadlines(t)
	c := mustClock(t)(d.Start(DeadlineRequestCheck, at(t, "2026-12-01 09:00:00")))
	stopped := mustClock(t)(d.Stop(c, at(t, "2026-12-02 09:00:00")))
	for _, clock := range []*Clock{nil, stopped} {
		_, err := d.Stop(clock, noon)
		wantKind(t, err, Invalid, "clock: no time limit runs")
		_, err = d.Extend(clock, 1, noon)
		wantKind(t, err, Invalid, "clock: no time limit runs")
		_, err = clock.Mark(noon)
		wantKind(t, err, Invalid, "clock: no time limit runs")
	}
	for _, clock := range []*Clock{nil, c} {
		_, err := d.Resume(clock, noon)
		wantKind(t, err, Invalid, "clock: no time limit is stopped")
	}
	_, err := d.Stop(c, at(t, "2027-01-05 09:00:00"))
	wantKind(t, err, Invalid, "the working days of 2027 are not set")
	_, err = d.Resume(stopped, at(t, "2026-12-30 09:00:00"))
	wantKind(t, err, Invalid, "the working days of 2027 are not set")
	late := mustClock(t)(d.Start(DeadlineRequestCheck, at(t, "2026-12-15 09:00:00")))
	_, err = d.Extend(late, 5, at(t, "2026-12-16 09:00:00"))
	wantKind(t, err, Invalid, "the working days of 2027 are not set")
}

func TestExtend(t *testing.T) {
	d := realDeadlines(t)
	c := mustClock(t)(d.Start(DeadlineRequestAnswer, at(t, "2024-01-30 09:00:00")))
	if want := at(t, "2024-02-19 00:00:00"); !c.DueAt.Equal(want) { // the tenth is the worked Sunday after the festival
		t.Fatalf("due at %s, want %s", c.DueAt, want)
	}
	last := c.DueAt.Add(-time.Millisecond)
	got := mustClock(t)(d.Extend(c, 3, last))
	want := *c
	want.Limit, want.ExtendMax, want.DueAt = 13, 2, at(t, "2024-02-22 00:00:00")
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("extended (-want +got):\n%s", diff)
	}
	again := mustClock(t)(d.Extend(got, 2, last))
	if again.Limit != 15 || again.ExtendMax != 0 || !again.DueAt.Equal(at(t, "2024-02-24 00:00:00")) {
		t.Errorf("extended again %+v", again)
	}
	for _, tc := range []struct {
		name  string
		clock *Clock
		days  int
		at    time.Time
		want  string
	}{
		{"too many days", c, 6, last, "days: 6 working days asked for, at most 5 may be added"},
		{"nothing left", again, 1, last, "days: 1 working days asked for, at most 0 may be added"},
		{"no days", c, 0, last, "days: 0 working days asked for"},
		{"overdue", c, 1, c.DueAt, "clock: the time limit passed at 2024-02-18T16:00:00Z"},
		{"both", c, 9, c.DueAt, "clock: the time limit passed at 2024-02-18T16:00:00Z; days: 9 working days asked for, at most 5 may be added"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := d.Extend(tc.clock, tc.days, tc.at)
			wantKind(t, err, Invalid, tc.want)
		})
	}
	t.Run("after a stop", func(t *testing.T) {
		stopped := mustClock(t)(d.Stop(c, at(t, "2024-02-02 09:00:00"))) // two days used
		resumed := mustClock(t)(d.Resume(stopped, at(t, "2024-02-19 09:00:00")))
		got := mustClock(t)(d.Extend(resumed, 5, at(t, "2024-02-20 09:00:00")))
		if want := at(t, "2024-03-08 00:00:00"); got.Used != 2 || got.Limit != 15 || !got.DueAt.Equal(want) {
			t.Errorf("extended %+v, want due at %s", got, want)
		}
	})
}

func TestMark(t *testing.T) {
	c := mustClock(t)(realDeadlines(t).Start(DeadlineRequestAnswer, at(t, "2026-03-02 09:00:00")))
	_, err := c.Mark(c.DueAt.Add(-time.Millisecond))
	wantKind(t, err, Invalid, "clock: the time limit has not passed, it ends at 2026-03-16T16:00:00Z")
	marked := mustClock(t)(c.Mark(c.DueAt))
	if marked.OverdueAt == nil || !marked.OverdueAt.Equal(c.DueAt) || c.OverdueAt != nil {
		t.Errorf("marked %+v", marked)
	}
	_, err = marked.Mark(c.DueAt)
	wantKind(t, err, Exists, "clock: that the time limit passed is recorded already")
}
