package service_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/service"
)

func TestGovernance(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	police := service.NewGovernance(w.ledger, w.index)
	departments, err := police.Departments(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var codes []domain.DepartmentCode
	for _, d := range departments.Items {
		codes = append(codes, d.Value.Code)
	}
	if want := []domain.DepartmentCode{"bigdata", "civil", "market", "police"}; !cmp.Equal(codes, want) {
		t.Errorf("departments are %v, want %v", codes, want)
	}
	_, err = police.RegisterDepartment(ctx, policeAdmin, domain.RegisterDepartmentArgs{
		Code: "health", MSPID: "HealthMSP", NameZh: "卫健委", NameEn: "Health", USCC: "11100000MB03271699",
	})
	wantKind(t, err, domain.Forbidden, "") // an admin, but not the lead's

	log, err := police.RegisterLog(ctx, policeAdmin, domain.RegisterLogArgs{Origin: origin("police"), VerifierKey: policeKey})
	if err != nil {
		t.Fatal(err)
	}
	if log.Value.Owner != "police" || log.Value.Size != 0 {
		t.Errorf("log is %+v", log.Value)
	}
	logs, err := police.Logs(ctx)
	if err != nil || len(logs.Items) != 1 || logs.Items[0].Value.VerifierKey != policeKey {
		t.Errorf("Logs answers %+v, %v", logs, err)
	}
	anchors, err := police.Anchors(ctx, index.Filter{Department: "police"}, index.Page{})
	if err != nil || len(anchors.Items) != 0 {
		t.Errorf("Anchors answers %+v, %v", anchors, err)
	}
}

// TestDeadlineRecords sets working days and time limits, which only the lead may,
// and amends them.
func TestDeadlineRecords(t *testing.T) {
	w := newWorld(t) // has set 2026 and all time limits
	ctx := t.Context()
	lead := w.governance("bigdata")
	_, err := w.governance("police").SetCalendar(ctx, policeAdmin, calendar())
	wantKind(t, err, domain.Forbidden, "")
	_, err = w.governance("police").SetRule(ctx, policeAdmin, deadlineRule(domain.DeadlineMediation))
	wantKind(t, err, domain.Forbidden, "")

	amended := calendar()
	amended.DaysOff = append(amended.DaysOff, "2026-05-01")
	next := calendar()
	next.Year, next.DaysOff, next.Workdays, next.Provisional = 2027, []string{"2027-01-01"}, nil, true
	for _, args := range []domain.SetCalendarArgs{next, amended} {
		if _, err := lead.SetCalendar(ctx, leadAdmin, args); err != nil {
			t.Fatal(err)
		}
	}
	calendars, err := lead.ListCalendars(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var years [][2]int
	for _, c := range calendars.Items {
		years = append(years, [2]int{c.Value.Year, c.Value.Version})
	}
	if want := [][2]int{{2026, 2}, {2027, 1}}; !cmp.Equal(years, want) {
		t.Errorf("years and versions are %v, want %v", years, want)
	}

	rule := deadlineRule(domain.DeadlineMediation)
	rule.Limit = 15
	if _, err := lead.SetRule(ctx, leadAdmin, rule); err != nil {
		t.Fatal(err)
	}
	rules, err := lead.ListRules(ctx)
	if err != nil || len(rules.Items) != len(domain.DeadlineEvents) {
		t.Fatalf("%d rules, %v, want %d", len(rules.Items), err, len(domain.DeadlineEvents))
	}
	for _, r := range rules.Items {
		want := [2]int{limits[r.Value.Event], 1}
		if r.Value.Event == domain.DeadlineMediation {
			want = [2]int{15, 2}
		}
		if got := [2]int{r.Value.Limit, r.Value.Version}; got != want {
			t.Errorf("limit and version of %s are %v, want %v", r.Value.Event, got, want)
		}
	}
	rule.Limit = 0
	_, err = lead.SetRule(ctx, leadAdmin, rule)
	wantKind(t, err, domain.Invalid, "limit")
}
