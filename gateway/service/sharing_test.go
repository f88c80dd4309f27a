package service_test

import (
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/service"
)

func TestSharing(t *testing.T) {
	w := newWorld(t)
	w.publish()
	ctx := t.Context()
	civil := service.NewSharing(w.chain.Ledger("civil"), w.index)
	police := service.NewSharing(w.ledger, w.index)

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
	if _, err := police.GetGrant(ctx, id); domain.KindOf(err) != domain.NotFound {
		t.Errorf("grant before the answer: error is %v, want not_found", err)
	}
	answered, err := police.Answer(ctx, policeReviewer, domain.AnswerArgs{
		ID: id, Decision: domain.Partly, Reason: "最小必要", Items: []string{"户号"},
		Period: asked.Period, Quota: domain.Quota{Total: 3, PerDay: 3},
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
