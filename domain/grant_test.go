package domain

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestGrantStatusAt(t *testing.T) {
	g := someGrant()
	for _, tc := range []struct {
		at   time.Time
		want GrantState
	}{
		{g.Period.From.Add(-1), GrantPending},
		{g.Period.From, GrantActive},
		{g.Period.To.Add(-1), GrantActive},
		{g.Period.To, GrantExpired},
	} {
		if got := g.StatusAt(tc.at); got != tc.want {
			t.Errorf("StatusAt(%s) = %s, want %s", tc.at, got, tc.want)
		}
		if got, want := g.Period.Contains(tc.at), tc.want == GrantActive; got != want {
			t.Errorf("Contains(%s) = %v", tc.at, got)
		}
	}
	g.State = "suspended"
	if got := g.StatusAt(noon); got != "suspended" {
		t.Errorf("a stored state other than active is %s", got)
	}
}

// grantSteps are the transactions on grants, with the states they start from.
var grantSteps = []struct {
	name string
	run  func(*Grant, Call, ReasonArgs) (GrantChange, error)
	from []GrantState
	to   GrantState
}{
	{"suspend", SuspendGrant, []GrantState{GrantActive}, GrantSuspended},
	{"resume", ResumeGrant, []GrantState{GrantSuspended}, GrantActive},
	{"revoke", RevokeGrant, []GrantState{GrantActive, GrantSuspended}, GrantRevoked},
}

// TestGrantCells asserts every cell: step × state × who suspended × department ×
// role.
func TestGrantCells(t *testing.T) {
	for _, step := range grantSteps {
		for _, state := range []GrantState{"", GrantActive, GrantSuspended, GrantRevoked} {
			for _, stopper := range []Department{policeDept, leadDept} {
				for _, dept := range allDepts {
					for _, role := range append([]Role{""}, Roles...) {
						var existing *Grant
						if state != "" {
							g := someGrant()
							g.State = state
							if state != GrantActive {
								g.StoppedBy = stopper.Code
							}
							existing = &g
						}
						var want Kind
						switch {
						case role != RoleReviewer:
							want = Forbidden
						case state == "":
							want = NotFound
						case dept.Code != policeDept.Code && !dept.Lead:
							want = Forbidden
						case !slices.Contains(step.from, state):
							want = WrongState
						case step.name == "resume" && stopper.Lead && !dept.Lead:
							want = Forbidden
						}
						got, err := step.run(existing, callOf(dept, role, someTx), ReasonArgs{someID, "发现滥用"})
						if KindOf(err) != want || want == "" && (err != nil || got.Grant.State != step.to || got.Event.State != step.to) {
							t.Errorf("%s, %q stopped by %s, %s of %s: got %q, %v, want kind %q", step.name, state, stopper.Code, role, dept.Code, got.Grant.State, err, want)
						}
					}
				}
			}
		}
	}
}

func TestGrantLife(t *testing.T) {
	granted, err := answer(Agree)(someRequest(RequestAccepted), callOf(policeDept, RoleReviewer, someTx))
	if err != nil {
		t.Fatal(err)
	}
	g, events := *granted.Grant, []GrantEvent{*granted.GrantEvent}
	for i, step := range []struct {
		name, reason string
		run          func(*Grant, Call, ReasonArgs) (GrantChange, error)
		by           Department
		state        GrantState
		stoppedBy    DepartmentCode
	}{
		{"suspend", "发现滥用", SuspendGrant, policeDept, GrantSuspended, "police"},
		{"resume", "已整改", ResumeGrant, leadDept, GrantActive, ""},
		{"suspend", "再次滥用", SuspendGrant, leadDept, GrantSuspended, "bigdata"},
		{"revoke", "屡次滥用", RevokeGrant, policeDept, GrantRevoked, "police"},
	} {
		got, err := step.run(&g, callOf(step.by, RoleReviewer, later(time.Duration(i)*time.Hour)), ReasonArgs{someID, step.reason})
		if err != nil {
			t.Fatal(err)
		}
		want := g
		want.Meta, want.State, want.Seq, want.Reason, want.StoppedBy = got.Grant.Meta, step.state, i+2, step.reason, step.stoppedBy
		if diff := cmp.Diff(want, got.Grant); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
		wantEvent := GrantEvent{
			Meta: got.Event.Meta, GrantID: someID, Seq: i + 2, Event: step.name, State: step.state, Reason: step.reason, StoppedBy: step.stoppedBy,
		}
		if diff := cmp.Diff(wantEvent, got.Event); diff != "" || !DigestHolds(&got.Grant) || !DigestHolds(&got.Event) {
			t.Errorf("%s event (-want +got):\n%s", step.name, diff)
		}
		g, events = got.Grant, append(events, got.Event)
		if replayed, err := ReplayGrant(*granted.Grant, events); err != nil || !cmp.Equal(replayed, g) {
			t.Errorf("replayed %+v, %v, want %+v", replayed, err, g)
		}
	}
}

func TestGrantRefusals(t *testing.T) {
	g := someGrant()
	g.TxTime = noon
	for _, step := range grantSteps {
		g.State = step.from[0]
		_, err := step.run(&g, callOf(policeDept, RoleReviewer, someTx), ReasonArgs{ID: someID})
		wantKind(t, err, Invalid, "reason: required")
		_, err = step.run(&g, callOf(policeDept, RoleReviewer, later(-time.Second)), ReasonArgs{someID, "理由"})
		wantKind(t, err, Conflict, "grant "+someID+" was changed at a later time")
	}
	first := GrantEvent{GrantID: someID, Seq: 1, Event: "grant", State: GrantActive}
	other := GrantEvent{GrantID: otherID, Seq: 2, Event: "suspend", State: GrantSuspended}
	for name, events := range map[string][]GrantEvent{"twice": {first, first}, "of another": {first, other}} {
		_, err := ReplayGrant(g, events)
		wantKind(t, err, Invalid, "does not follow event 1 of grant "+someID)
		if err == nil {
			t.Error(name)
		}
	}
	_, err := ReplayGrant(g, nil)
	wantKind(t, err, Invalid, "a grant has at least one event")
}
