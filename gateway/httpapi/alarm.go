package httpapi

import (
	"context"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

func (s *server) ListAlarms(ctx context.Context, r api.ListAlarmsRequestObject) (api.ListAlarmsResponseObject, error) {
	ctx, _ = inbound(ctx)
	p := r.Params
	filter := index.Filter{Department: domain.DepartmentCode(valueOf(p.Department)), State: valueOf(p.State)}
	l, err := s.Alarms.List(ctx, filter, page(p.Limit, p.Cursor))
	return listed[api.ListAlarms200JSONResponse](s, l, err)
}

func (s *server) RaiseAlarm(ctx context.Context, r api.RaiseAlarmRequestObject) (api.RaiseAlarmResponseObject, error) {
	ctx, caller := inbound(ctx)
	args, err := api.Convert[domain.RaiseAlarmArgs](r.Body)
	if err != nil {
		return nil, err
	}
	w, err := s.Alarms.Raise(ctx, caller, args)
	return written[api.RaiseAlarm201JSONResponse](w, err)
}

func (s *server) GetAlarm(c context.Context, r api.GetAlarmRequestObject) (api.GetAlarmResponseObject, error) {
	ctx, _ := inbound(c)
	w, err := s.Alarms.Get(ctx, r.ID)
	return tagged[api.GetAlarm200JSONResponse](c, w, err)
}

func (s *server) CloseAlarm(ctx context.Context, r api.CloseAlarmRequestObject) (api.CloseAlarmResponseObject, error) {
	ctx, caller := inbound(ctx)
	w, err := s.Alarms.Close(ctx, caller, domain.CloseAlarmArgs{ID: r.ID, Finding: r.Body.Finding})
	return written[api.CloseAlarm200JSONResponse](w, err)
}
