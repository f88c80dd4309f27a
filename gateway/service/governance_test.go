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
