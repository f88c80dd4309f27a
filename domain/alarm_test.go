package domain

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func someAlarmArgs() RaiseAlarmArgs {
	return RaiseAlarmArgs{
		Kind: AlarmUnusualUse, About: civilDept.Code, Subject: someID + ":2026-03-02", Rule: UnusualRate,
		Figures: "近1小时调用1200次，此前每小时平均40次，界限10倍", Records: []RecordRef{{civilDept.Code, 17}, {policeDept.Code, 17}},
	}
}

// forkArgs accuse police's log.
func forkArgs() RaiseAlarmArgs {
	return RaiseAlarmArgs{
		Kind: AlarmFork, About: policeDept.Code, Subject: "17:" + someDigest, Rule: string(AlarmFork),
		Figures: "size 17, two roots", Evidence: "checkpoint\n",
	}
}

// alarmIn is an alarm about a department, raised by market's gateway.
func alarmIn(state string, about DepartmentCode) *Alarm {
	if state == Absent {
		return nil
	}
	args := someAlarmArgs()
	a := &Alarm{
		Meta: Meta{TxTime: noon}, ID: AlarmID(args.Kind, about, args.Subject), Kind: args.Kind, About: about, Subject: args.Subject,
		Rule: args.Rule, Figures: args.Figures, Records: args.Records, State: AlarmState(state), Seq: 1,
	}
	if a.State == AlarmClosed {
		a.Seq, a.Finding = 2, "已核实"
	}
	return a
}

// unasked is for alarms whose evidence nobody may look at.
func unasked(string) (bool, error) { return false, errors.New("evidence was looked at") }

func TestRaiseAlarmArgsValidate(t *testing.T) {
	checkInvalid(t, someAlarmArgs, []invalidCase[RaiseAlarmArgs]{
		{"no records", func(a *RaiseAlarmArgs) { a.Records = nil }, ""},
		{"kind", func(a *RaiseAlarmArgs) { a.Kind = "other" }, "kind: not one of fork, rollback, missing_tile, changed_entry, evidence_backlog, one_sided, contradiction, unusual_use"},
		{"about", func(a *RaiseAlarmArgs) { a.About = "" }, "about: not a department code"},
		{"no subject", func(a *RaiseAlarmArgs) { a.Subject = "" }, "subject: " + originRule},
		{"text as subject", func(a *RaiseAlarmArgs) { a.Subject = "某人" }, "subject: " + originRule},
		{"long subject", func(a *RaiseAlarmArgs) { a.Subject = strings.Repeat("1", 201) }, "subject: " + originRule},
		{"a phone in the subject", func(a *RaiseAlarmArgs) { a.Subject = "case:13800000000" }, "subject: " + personalRule},
		{"a person as subject", func(a *RaiseAlarmArgs) { a.Subject = "999999199001011238" }, "subject: " + personalRule},
		{"a UUID with what looks like a phone", func(a *RaiseAlarmArgs) { a.Subject = "0d4fabcd-abcd-4138-1234-5678a3812345" }, ""},
		{"rule", func(a *RaiseAlarmArgs) { a.Rule = "Too much" }, "rule: must be 1 to 40 characters of a-z 0-9 _, a letter first"},
		{"a phone in the rule", func(a *RaiseAlarmArgs) { a.Rule = "rate_13800000000" }, "rule: " + personalRule},
		{"no figures", func(a *RaiseAlarmArgs) { a.Figures = "" }, "figures: required"},
		{"a phone in the figures", func(a *RaiseAlarmArgs) { a.Figures = "138 0000 0000" }, "figures: " + personalRule},
		{"record", func(a *RaiseAlarmArgs) { a.Records[0].Department = "" }, "records[0].department: not a department code"},
		{"record twice", func(a *RaiseAlarmArgs) { a.Records[1] = a.Records[0] }, "records[1]: repeats an earlier entry"},
		{"many records", func(a *RaiseAlarmArgs) { a.Records = make([]RecordRef, MaxAlarmRecords+1) }, "records: more than 50 entries"},
		{"evidence", func(a *RaiseAlarmArgs) { a.Evidence = "x" }, "evidence: only for a fork or a rollback"},
	})
	checkInvalid(t, forkArgs, []invalidCase[RaiseAlarmArgs]{
		{"rollback", func(a *RaiseAlarmArgs) { a.Kind = AlarmRollback }, ""},
		{"no evidence", func(a *RaiseAlarmArgs) { a.Evidence = "" }, "evidence: required"},
		{"long evidence", func(a *RaiseAlarmArgs) { a.Evidence = strings.Repeat("x", 4097) }, "evidence: longer than 4096 bytes"},
	})
	checkInvalid(t, func() CloseAlarmArgs { return CloseAlarmArgs{someID, "已核实"} }, []invalidCase[CloseAlarmArgs]{
		{"alarm", func(a *CloseAlarmArgs) { a.ID = "x" }, "id: " + hex32Rule},
		{"no finding", func(a *CloseAlarmArgs) { a.Finding = "" }, "finding: required"},
	})
}

func TestAlarmID(t *testing.T) {
	seen := map[string]bool{}
	for _, kind := range AlarmKinds {
		for _, about := range []DepartmentCode{"police", "civil"} {
			for _, subject := range []string{"1", "11"} {
				id := AlarmID(kind, about, subject)
				if seen[id] || !hex32Shape.MatchString(id) || id != AlarmID(kind, about, subject) {
					t.Errorf("AlarmID(%s, %s, %s) = %s", kind, about, subject, id)
				}
				seen[id] = true
			}
		}
	}
}

var alarmStates = []string{Absent, string(AlarmOpen), string(AlarmClosed)}

func TestRaiseAlarmCells(t *testing.T) {
	for _, state := range alarmStates {
		for _, dept := range []Department{leadDept, policeDept, civilDept} {
			for _, role := range append([]Role{""}, Roles...) {
				want := Exists
				switch {
				case role != RoleGateway && role != RoleAuditor:
					want = Forbidden
				case state == Absent:
					want = ""
				}
				change, err := RaiseAlarm(alarmIn(state, civilDept.Code), &civilDept, callOf(dept, role, someTx), someAlarmArgs(), unasked)
				if KindOf(err) != want || (err == nil) != (change.Alarm.State == AlarmOpen) || err != nil && want == "" {
					t.Errorf("state %q, %s of %s: %+v, %v, want %q", state, role, dept.Code, change.Alarm, err, want)
				}
			}
		}
	}
}

func TestCloseAlarmCells(t *testing.T) {
	forbidden, wrong := outcome(Forbidden), outcome(WrongState)
	for _, tc := range []struct {
		about        DepartmentCode
		open, closed [3]outcome // of police, the lead, civil
	}{
		{civilDept.Code, [3]outcome{forbidden, ok, forbidden}, [3]outcome{forbidden, wrong, forbidden}},
		{leadDept.Code, [3]outcome{ok, forbidden, ok}, [3]outcome{wrong, forbidden, wrong}},
	} {
		t.Run("about="+string(tc.about), func(t *testing.T) {
			testCells(t, RoleReviewer, alarmStates, grid{Absent: row(NotFound), string(AlarmOpen): tc.open, string(AlarmClosed): tc.closed},
				func(who Caller, dept Department, state string) (string, error) {
					change, err := CloseAlarm(alarmIn(state, tc.about), callOf(dept, who.Role, someTx), CloseAlarmArgs{someID, "已核实"})
					return string(change.Alarm.State), err
				}, string(AlarmClosed))
		})
	}
}

func TestAlarmEvidence(t *testing.T) {
	call := callOf(marketDept, RoleGateway, someTx)
	for _, proven := range []bool{true, false} {
		var shown string
		change, err := RaiseAlarm(nil, &policeDept, call, forkArgs(), func(evidence string) (bool, error) {
			shown = evidence
			return proven, nil
		})
		a := change.Alarm
		if err != nil || a.Proven != proven || shown != forkArgs().Evidence || a.Evidence != shown || a.Records == nil {
			t.Errorf("proven %t: %+v, %v", proven, a, err)
		}
	}
	broken := errors.New("broken")
	if _, err := RaiseAlarm(nil, &policeDept, call, forkArgs(), func(string) (bool, error) { return true, broken }); !errors.Is(err, broken) {
		t.Errorf("err = %v, want that of the check", err)
	}
	// Nobody makes the chaincode look at evidence before it is known to matter.
	without := forkArgs()
	without.Evidence = ""
	_, err := RaiseAlarm(nil, &policeDept, call, without, unasked)
	wantKind(t, err, Invalid, "evidence: required")
	_, err = RaiseAlarm(nil, nil, call, forkArgs(), unasked)
	wantKind(t, err, NotFound, "department police is not registered")
	_, err = RaiseAlarm(nil, &policeDept, callOf(marketDept, RoleOperator, someTx), forkArgs(), unasked)
	wantKind(t, err, Forbidden, "for the role gateway or auditor")
	_, err = RaiseAlarm(alarmIn(string(AlarmClosed), policeDept.Code), &policeDept, call, forkArgs(), unasked)
	wantKind(t, err, Exists, "is recorded already")
}

func TestCloseAlarmRefusals(t *testing.T) {
	open := alarmIn(string(AlarmOpen), civilDept.Code)
	_, err := CloseAlarm(open, callOf(leadDept, RoleReviewer, later(-time.Second)), CloseAlarmArgs{open.ID, "已核实"})
	wantKind(t, err, Conflict, "later time")
	_, err = CloseAlarm(open, callOf(leadDept, RoleReviewer, someTx), CloseAlarmArgs{open.ID, ""})
	wantKind(t, err, Invalid, "finding: required")
}

// TestAlarmProperties lets drawn callers raise and close drawn alarms and checks
// after each step that an alarm is raised once, keeps what it says, is closed by
// nobody whom it is about, and is what its events tell.
func TestAlarmProperties(t *testing.T) {
	all := []Department{leadDept, policeDept, marketDept, civilDept}
	rapid.Check(t, func(t *rapid.T) {
		ledger := map[string]Alarm{}
		events := map[string][]AlarmEvent{}
		for step := range rapid.IntRange(1, 30).Draw(t, "steps") {
			caller := rapid.SampledFrom(all).Draw(t, "caller")
			call := callOf(caller, rapid.SampledFrom(Roles).Draw(t, "role"), later(time.Duration(step)*time.Second))
			call.Tx.ID = TxID(fmt.Sprintf("%064x", step))
			args := someAlarmArgs()
			args.About = rapid.SampledFrom(all).Draw(t, "about").Code
			args.Subject = rapid.SampledFrom([]string{"1", "2"}).Draw(t, "subject")
			args.Figures = fmt.Sprintf("step %d", step)
			id := AlarmID(args.Kind, args.About, args.Subject)
			var existing *Alarm
			if a, known := ledger[id]; known {
				existing = &a
			}
			var change AlarmChange
			var err error
			raises := rapid.Bool().Draw(t, "raise")
			if raises {
				change, err = RaiseAlarm(existing, &policeDept, call, args, unasked)
			} else {
				change, err = CloseAlarm(existing, call, CloseAlarmArgs{id, args.Figures})
			}
			if err != nil {
				checkRefusal(t, err)
				continue
			}
			a, e := checkStored(t, change.Alarm), checkStored(t, change.Event)
			switch {
			case raises && (existing != nil || a.State != AlarmOpen || a.Figures != args.Figures || a.Seq != 1 || a.Finding != "" || a.Proven):
				t.Fatalf("raised %+v over %+v", a, existing)
			case !raises && (existing == nil || existing.State != AlarmOpen || a.State != AlarmClosed || a.Figures != existing.Figures || a.Seq != 2 || a.Finding != args.Figures):
				t.Fatalf("closed %+v from %+v", a, existing)
			case !raises && (call.Who.Role != RoleReviewer || caller.Code == a.About || !caller.Lead && a.About != leadDept.Code):
				t.Fatalf("%s of %s closed %+v", call.Who.Role, caller.Code, a)
			case a.ID != id || e.AlarmID != id || e.Seq != a.Seq || e.State != a.State || e.Finding != a.Finding || e.TxID != a.TxID || !DigestHolds(&a) || !DigestHolds(&e):
				t.Fatalf("alarm %+v, event %+v", a, e)
			}
			ledger[id], events[id] = a, append(events[id], e)
		}
		for id, a := range ledger {
			if len(events[id]) != a.Seq || events[id][0].Event != "raise" || a.Seq == 2 && events[id][1].Event != "close" {
				t.Fatalf("events %+v of %+v", events[id], a)
			}
		}
	})
}
