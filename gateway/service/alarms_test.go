package service_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/service"
)

func unusualUse(subject string) domain.RaiseAlarmArgs {
	return domain.RaiseAlarmArgs{
		Kind: domain.AlarmUnusualUse, About: "civil", Subject: subject, Rule: domain.UnusualRate,
		Figures: "120 calls in an hour, mean 10", Records: []domain.RecordRef{{Department: "police", Index: 7}},
	}
}

func TestAlarms(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	police := service.NewAlarms(w.ledger, w.index)
	lead := service.NewAlarms(w.chain.Ledger("bigdata"), w.index)

	for _, caller := range []service.Caller{policeOperator, policeReviewer, policeAdmin} {
		_, err := police.Raise(ctx, caller, unusualUse("g/1"))
		wantKind(t, err, domain.Forbidden, "access:RaiseAlarm")
	}
	_, err := police.Raise(ctx, policeAuditor, domain.RaiseAlarmArgs{Kind: "odd"})
	wantKind(t, err, domain.Invalid, "kind")

	raised, err := police.Raise(ctx, policeAuditor, unusualUse("g/1"))
	if err != nil {
		t.Fatal(err)
	}
	if a := raised.Value; a.State != domain.AlarmOpen || a.About != "civil" || a.Role != domain.RoleAuditor {
		t.Errorf("raised %+v", a)
	}
	got, err := police.Get(ctx, raised.Value.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(raised, got); diff != "" {
		t.Errorf("Get (-raised +got):\n%s", diff)
	}
	_, err = lead.Raise(ctx, service.Caller{Department: "bigdata", Role: domain.RoleAuditor}, unusualUse("g/1"))
	wantKind(t, err, domain.Exists, "")

	_, err = police.Close(ctx, policeReviewer, domain.CloseAlarmArgs{ID: raised.Value.ID, Finding: "查实"})
	wantKind(t, err, domain.Forbidden, "")
	closed, err := lead.Close(ctx, leadReviewer, domain.CloseAlarmArgs{ID: raised.Value.ID, Finding: "批量核验，已补充说明"})
	if err != nil || closed.Value.State != domain.AlarmClosed {
		t.Errorf("Close answers %+v, %v", closed, err)
	}
	if _, err := police.Raise(ctx, policeAuditor, unusualUse("g/2")); err != nil {
		t.Fatal(err)
	}
	for state, want := range map[domain.AlarmState]int{domain.AlarmOpen: 1, domain.AlarmClosed: 1, "": 2} {
		l, err := police.List(ctx, index.Filter{Department: "civil", State: string(state)}, index.Page{})
		if err != nil || len(l.Items) != want {
			t.Errorf("List of state %q answers %d alarms, %v, want %d", state, len(l.Items), err, want)
		}
	}
	if l, err := police.List(ctx, index.Filter{Department: "police"}, index.Page{}); err != nil || len(l.Items) != 0 {
		t.Errorf("List about police answers %d alarms, %v, want none", len(l.Items), err)
	}
	_, err = police.Get(ctx, grantID(1))
	wantKind(t, err, domain.NotFound, "")
}

// TestAlarmsReport checks that gateways that see the same thing make one alarm,
// also when an index does not know of it yet.
func TestAlarmsReport(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	behind := newIndex(t)
	for _, a := range []*service.Alarms{
		service.NewAlarms(w.ledger, w.index),
		service.NewAlarms(w.ledger, w.index),
		service.NewAlarms(w.chain.Ledger("market"), behind),
	} {
		args := unusualUse("g/1")
		args.Records = nil
		if err := a.Report(ctx, args); err != nil {
			t.Error(err)
		}
	}
	l, err := service.NewAlarms(w.ledger, w.index).List(ctx, index.Filter{}, index.Page{})
	if err != nil || len(l.Items) != 1 || l.Items[0].Value.Role != domain.RoleGateway {
		t.Errorf("List answers %+v, %v, want one alarm by the gateway", l, err)
	}
	err = service.NewAlarms(w.ledger, w.index).Report(ctx, domain.RaiseAlarmArgs{})
	wantKind(t, err, domain.Invalid, "subject")
	w.ledger.SetFault(func(string) (bool, error) { return false, context.DeadlineExceeded })
	if err := service.NewAlarms(w.ledger, w.index).Report(ctx, unusualUse("g/3")); err == nil {
		t.Error("no error although the ledger is down")
	}
}
