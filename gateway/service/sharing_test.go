package service_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/service"
)

func TestSharing(t *testing.T) {
	w := newWorld(t)
	w.publish()
	ctx := t.Context()
	civil, police := w.sharing("civil"), w.sharing("police")

	// The caller's zone must not matter: the ledger has one spelling of a time.
	asked := shareRequest("", domain.Quota{Total: 10, PerDay: 5})
	asked.Period.To = asked.Period.To.In(time.FixedZone("UTC+8", 8*3600))
	request, err := civil.Request(ctx, civilOperator, asked)
	if err != nil {
		t.Fatal(err)
	}
	id := request.Value.Content.ID
	if len(id) != 32 || request.Value.State != domain.RequestSubmitted || request.Value.Consumer != "civil" || request.Value.Provider != "police" {
		t.Errorf("request is %+v", request.Value)
	}
	if _, err := w.sharing("bigdata").Accept(ctx, leadReviewer, domain.AcceptArgs{ID: id, Decision: domain.AcceptRequest}); err != nil {
		t.Fatal(err)
	}
	if _, err := police.GetGrant(ctx, id); domain.KindOf(err) != domain.NotFound {
		t.Errorf("grant before the answer: error is %v, want not_found", err)
	}
	answered, err := police.Answer(ctx, policeReviewer, domain.AnswerArgs{
		ID: id, Decision: domain.Partly, Reason: "最小必要", Items: []string{"户号"},
		Period: asked.Period, Quota: domain.Quota{Total: 3, PerDay: 3, PerMinute: 3},
	})
	if err != nil {
		t.Fatal(err)
	}
	if answered.Value.State != domain.RequestPartlyAgreed || answered.Value.GrantID != id {
		t.Errorf("answered request is %+v", answered.Value)
	}
	got, err := police.GetRequest(ctx, id)
	if err != nil || got.Value.State != domain.RequestPartlyAgreed {
		t.Errorf("GetRequest answers %+v, %v", got.Value, err)
	}
	grant, err := police.GetGrant(ctx, id)
	if err != nil || grant.Value.Quota.Total != 3 {
		t.Errorf("GetGrant answers %+v, %v", grant.Value, err)
	}
	for _, department := range []domain.DepartmentCode{"civil", "police", "market"} {
		want := 1
		if department == "market" {
			want = 0
		}
		requests, err := police.ListRequests(ctx, index.Filter{Department: department}, index.Page{})
		if err != nil || len(requests.Items) != want {
			t.Errorf("%s has %d requests, %v, want %d", department, len(requests.Items), err, want)
		}
		grants, err := police.ListGrants(ctx, index.Filter{Department: department}, index.Page{})
		if err != nil || len(grants.Items) != want {
			t.Errorf("%s has %d grants, %v, want %d", department, len(grants.Items), err, want)
		}
	}
}

// sharingStep is one step of a request and what it leads to.
type sharingStep struct {
	name  string
	do    func() (service.Written[domain.ShareRequest], error)
	state domain.RequestState // after it
}

func lead(t *testing.T, steps []sharingStep) {
	t.Helper()
	for _, s := range steps {
		got, err := s.do()
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if got.Value.State != s.state || got.Value.TxID != got.TxID {
			t.Fatalf("%s leads to %s, written by %s at %s; want %s", s.name, got.Value.State, got.Value.TxID, got.TxID, s.state)
		}
	}
}

type written = service.Written[domain.ShareRequest]

// TestSharingLongWay leads one request through return, extension, refusal,
// dispute, remand, delivery and its rejection to the end of the use.
func TestSharingLongWay(t *testing.T) {
	w := newWorld(t)
	w.publish()
	ctx := t.Context()
	civil, police, bigdata := w.sharing("civil"), w.sharing("police"), w.sharing("bigdata")
	id := grantID(1)
	asked := shareRequest(id, domain.Quota{Total: 10, PerDay: 5})
	supplemented := asked
	supplemented.SecurityMeasures = "专线传输，落地加密"
	supplemented.Period.To = asked.Period.To.In(time.FixedZone("UTC+8", 8*3600))
	delivery := domain.DeliverArgs{ID: id, DeliveryDigest: strings.Repeat("e", 64)}
	lead(t, []sharingStep{
		{"request", func() (written, error) { return civil.Request(ctx, civilOperator, asked) }, domain.RequestSubmitted},
		{"return", func() (written, error) {
			return bigdata.Accept(ctx, leadReviewer, domain.AcceptArgs{ID: id, Decision: domain.ReturnRequest, Reason: "安全措施不明"})
		}, domain.RequestReturned},
		{"supplement", func() (written, error) {
			return civil.Supplement(ctx, civilOperator, domain.SupplementArgs{Content: supplemented})
		}, domain.RequestSubmitted},
		{"accept", func() (written, error) {
			return bigdata.Accept(ctx, leadReviewer, domain.AcceptArgs{ID: id, Decision: domain.AcceptRequest})
		}, domain.RequestAccepted},
		{"ask for time", func() (written, error) {
			return police.Extend(ctx, policeReviewer, domain.ExtendArgs{ID: id, Days: 5, Reason: "数据量大"})
		}, domain.RequestAccepted},
		{"give time", func() (written, error) {
			return bigdata.DecideExtension(ctx, leadReviewer, domain.DecideExtensionArgs{ID: id, Decision: domain.GrantExtension})
		}, domain.RequestExtended},
		{"refuse", func() (written, error) {
			return police.Answer(ctx, policeReviewer, domain.AnswerArgs{
				ID: id, Decision: domain.Refuse, Reason: "涉密", LegalBasis: []string{"保守国家秘密法第9条"},
			})
		}, domain.RequestRefused},
		{"dispute", func() (written, error) {
			return civil.Dispute(ctx, civilOperator, domain.DisputeArgs{ID: id, Reason: "该数据不涉密"})
		}, domain.RequestDisputed},
		{"remand", func() (written, error) {
			return bigdata.Mediate(ctx, leadReviewer, domain.MediateArgs{ID: id, Decision: domain.Remand, Reason: "应当共享"})
		}, domain.RequestMediated},
		{"agree", func() (written, error) {
			return police.Answer(ctx, policeReviewer, domain.AnswerArgs{ID: id, Decision: domain.Agree})
		}, domain.RequestAgreed},
		{"deliver", func() (written, error) { return police.Deliver(ctx, policeOperator, delivery) }, domain.RequestDelivered},
		{"reject the delivery", func() (written, error) {
			return civil.Confirm(ctx, civilOperator, domain.ConfirmArgs{ID: id, Decision: domain.RejectDelivery, Reason: "缺字段"})
		}, domain.RequestAgreed},
		{"deliver again", func() (written, error) { return police.Deliver(ctx, policeOperator, delivery) }, domain.RequestDelivered},
		{"confirm", func() (written, error) {
			return civil.Confirm(ctx, civilOperator, domain.ConfirmArgs{ID: id, Decision: domain.ConfirmDelivery})
		}, domain.RequestActive},
		{"close", func() (written, error) { return civil.Close(ctx, civilOperator, because(id)) }, domain.RequestClosed},
	})
	history, err := police.RequestHistory(ctx, id, index.Page{})
	if err != nil {
		t.Fatal(err)
	}
	var replayed []domain.RequestEvent
	for _, e := range history.Items {
		replayed = append(replayed, e.Value)
		if e.TxID != e.Value.TxID {
			t.Errorf("event %d stands at %s, was written by %s", e.Value.Seq, e.TxID, e.Value.TxID)
		}
	}
	if len(replayed) != 15 {
		t.Errorf("%d events, want 15", len(replayed))
	}
	want, err := police.GetRequest(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	got, err := domain.ReplayRequest(replayed)
	if diff := cmp.Diff(want.Value, got); diff != "" || err != nil {
		t.Errorf("the history replays to another request (-stored +replayed), %v:\n%s", err, diff)
	}
	_, err = civil.Close(ctx, civilOperator, because(id))
	wantKind(t, err, domain.WrongState, "")
	if got := domain.StateOf(err); got != string(domain.RequestClosed) {
		t.Errorf("the refusal names the state %q, want closed", got)
	}
	_, err = police.RequestHistory(ctx, grantID(9), index.Page{})
	wantKind(t, err, domain.NotFound, "")
}

func TestSharingWithdraw(t *testing.T) {
	w := newWorld(t)
	w.accepted(grantID(1), domain.Quota{Total: 1, PerDay: 1})
	_, err := w.sharing("police").Withdraw(t.Context(), policeOperator, because(grantID(1)))
	wantKind(t, err, domain.Forbidden, "")
	withdrawn, err := w.sharing("civil").Withdraw(t.Context(), civilOperator, because(grantID(1)))
	if err != nil || withdrawn.Value.State != domain.RequestWithdrawn {
		t.Errorf("Withdraw answers %+v, %v", withdrawn.Value, err)
	}
}

// TestSharingUnconditional grants with the check what is shared unconditionally.
func TestSharingUnconditional(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	open := content()
	open.ShareType, open.ShareCondition, open.LegalBasis = domain.Unconditional, "", nil
	for i := range open.Items {
		open.Items[i].ShareType = domain.Unconditional
	}
	w.publishContent(open)
	id := grantID(1)
	if _, err := w.sharing("civil").Request(ctx, civilOperator, shareRequest(id, domain.Quota{Total: 1, PerDay: 1})); err != nil {
		t.Fatal(err)
	}
	checked, err := w.sharing("bigdata").Accept(ctx, leadReviewer, domain.AcceptArgs{ID: id, Decision: domain.AcceptRequest})
	if err != nil || checked.Value.State != domain.RequestAgreed {
		t.Errorf("Accept answers %+v, %v", checked.Value, err)
	}
	if g, err := w.sharing("civil").GetGrant(ctx, id); err != nil || g.Value.State != domain.GrantActive {
		t.Errorf("grant is %+v, %v", g.Value, err)
	}
}

// TestSharingSilence records that a provider was silent, and lets the consumer
// dispute it.
func TestSharingSilence(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	id := grantID(1)
	w.accepted(id, domain.Quota{Total: 1, PerDay: 1})
	market := w.sharing("market")
	caller := service.Caller{Department: "market", Role: domain.RoleGateway}
	_, err := market.MarkOverdue(ctx, caller, id)
	wantKind(t, err, domain.Invalid, "has not passed")
	w.clock.Advance(15 * day)
	marked, err := market.MarkOverdue(ctx, caller, id)
	if err != nil || marked.Value.Overdues != 1 || marked.Value.Clock.OverdueAt == nil {
		t.Fatalf("MarkOverdue answers %+v, %v", marked.Value, err)
	}
	_, err = market.MarkOverdue(ctx, caller, id)
	wantKind(t, err, domain.Exists, "")
	overdue := w.clock.Now()
	listed, err := market.ListRequests(ctx, index.Filter{Overdue: &overdue}, index.Page{})
	if err != nil || len(listed.Items) != 1 {
		t.Errorf("overdue requests: %+v, %v; want one", listed.Items, err)
	}
	disputed, err := w.sharing("civil").Dispute(ctx, civilOperator, domain.DisputeArgs{ID: id, Reason: "逾期未答复"})
	if err != nil || disputed.Value.State != domain.RequestDisputed {
		t.Errorf("Dispute answers %+v, %v", disputed.Value, err)
	}
}

// TestNoCalendar checks that nobody guesses working days.
func TestNoCalendar(t *testing.T) {
	w := newWorld(t)
	w.clock.Advance(360 * day)
	_, err := w.catalog("police").Register(t.Context(), policeOperator, domain.RegisterCatalogArgs{Content: content()})
	wantKind(t, err, domain.Invalid, "2027")
}

func TestGrants(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	id := grantID(1)
	granted := w.grant(id, domain.Quota{Total: 10, PerDay: 5})
	police, bigdata := w.sharing("police"), w.sharing("bigdata")
	_, err := w.sharing("civil").Suspend(ctx, civilReviewer, because(id))
	wantKind(t, err, domain.Forbidden, "")
	for _, step := range []struct {
		name  string
		do    func() (service.Written[domain.Grant], error)
		state domain.GrantState
	}{
		{"suspend", func() (service.Written[domain.Grant], error) { return police.Suspend(ctx, policeReviewer, because(id)) }, domain.GrantSuspended},
		{"resume", func() (service.Written[domain.Grant], error) { return police.Resume(ctx, policeReviewer, because(id)) }, domain.GrantActive},
		{"the lead suspends", func() (service.Written[domain.Grant], error) { return bigdata.Suspend(ctx, leadReviewer, because(id)) }, domain.GrantSuspended},
		{"the lead resumes", func() (service.Written[domain.Grant], error) { return bigdata.Resume(ctx, leadReviewer, because(id)) }, domain.GrantActive},
		{"revoke", func() (service.Written[domain.Grant], error) { return police.Revoke(ctx, policeReviewer, because(id)) }, domain.GrantRevoked},
	} {
		got, err := step.do()
		if err != nil || got.Value.State != step.state {
			t.Fatalf("%s answers %+v, %v; want %s", step.name, got.Value, err, step.state)
		}
	}
	_, err = police.Resume(ctx, policeReviewer, because(id))
	wantKind(t, err, domain.WrongState, "")
	history, err := police.GrantHistory(ctx, id, index.Page{})
	if err != nil {
		t.Fatal(err)
	}
	var events []domain.GrantEvent
	for _, e := range history.Items {
		events = append(events, e.Value)
	}
	want, err := police.GetGrant(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	got, err := domain.ReplayGrant(granted, events)
	if diff := cmp.Diff(want.Value, got); diff != "" || err != nil || len(events) != 6 {
		t.Errorf("%d events replay to another grant (-stored +replayed), %v:\n%s", len(events), err, diff)
	}
	_, err = police.GrantHistory(ctx, grantID(9), index.Page{})
	wantKind(t, err, domain.NotFound, "")
	_, err = police.GrantHistory(ctx, id, index.Page{Limit: 201})
	wantKind(t, err, domain.Invalid, "limit")
}
