package httpapi

import (
	"context"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

func (s *server) ListDepartments(ctx context.Context, r api.ListDepartmentsRequestObject) (api.ListDepartmentsResponseObject, error) {
	ctx, _ = inbound(ctx)
	all, err := s.Governance.Departments(ctx)
	if err == nil {
		all, err = sliced(all, page(r.Params.Limit, r.Params.Cursor))
	}
	return listed[api.ListDepartments200JSONResponse](s, all, err)
}

func (s *server) RegisterDepartment(ctx context.Context, r api.RegisterDepartmentRequestObject) (api.RegisterDepartmentResponseObject, error) {
	ctx, caller := inbound(ctx)
	args, err := api.Convert[domain.RegisterDepartmentArgs](r.Body)
	if err != nil {
		return nil, err
	}
	w, err := s.Governance.RegisterDepartment(ctx, caller, args)
	return written[api.RegisterDepartment201JSONResponse](w, err)
}

func (s *server) ListLogs(ctx context.Context, r api.ListLogsRequestObject) (api.ListLogsResponseObject, error) {
	ctx, _ = inbound(ctx)
	all, err := s.Governance.Logs(ctx)
	if err == nil {
		all, err = sliced(all, page(r.Params.Limit, r.Params.Cursor))
	}
	return listed[api.ListLogs200JSONResponse](s, all, err)
}

func (s *server) RegisterLog(ctx context.Context, r api.RegisterLogRequestObject) (api.RegisterLogResponseObject, error) {
	ctx, caller := inbound(ctx)
	args, err := api.Convert[domain.RegisterLogArgs](r.Body)
	if err != nil {
		return nil, err
	}
	w, err := s.Governance.RegisterLog(ctx, caller, args)
	return written[api.RegisterLog201JSONResponse](w, err)
}

func (s *server) ListAnchors(ctx context.Context, r api.ListAnchorsRequestObject) (api.ListAnchorsResponseObject, error) {
	ctx, _ = inbound(ctx)
	filter := index.Filter{Department: domain.DepartmentCode(valueOf(r.Params.Department))}
	l, err := s.Governance.Anchors(ctx, filter, page(r.Params.Limit, r.Params.Cursor))
	return listed[api.ListAnchors200JSONResponse](s, l, err)
}

func (s *server) ListCalendars(ctx context.Context, r api.ListCalendarsRequestObject) (api.ListCalendarsResponseObject, error) {
	ctx, _ = inbound(ctx)
	all, err := s.Governance.ListCalendars(ctx)
	if err == nil {
		all, err = sliced(all, page(r.Params.Limit, r.Params.Cursor))
	}
	return listed[api.ListCalendars200JSONResponse](s, all, err)
}

func (s *server) SetCalendar(ctx context.Context, r api.SetCalendarRequestObject) (api.SetCalendarResponseObject, error) {
	ctx, caller := inbound(ctx)
	args, err := api.Convert[domain.SetCalendarArgs](r.Body)
	if err != nil {
		return nil, err
	}
	w, err := s.Governance.SetCalendar(ctx, caller, args)
	return written[api.SetCalendar201JSONResponse](w, err)
}

func (s *server) ListRules(ctx context.Context, r api.ListRulesRequestObject) (api.ListRulesResponseObject, error) {
	ctx, _ = inbound(ctx)
	all, err := s.Governance.ListRules(ctx)
	if err == nil {
		all, err = sliced(all, page(r.Params.Limit, r.Params.Cursor))
	}
	return listed[api.ListRules200JSONResponse](s, all, err)
}

func (s *server) SetRule(ctx context.Context, r api.SetRuleRequestObject) (api.SetRuleResponseObject, error) {
	ctx, caller := inbound(ctx)
	args, err := api.Convert[domain.SetRuleArgs](r.Body)
	if err != nil {
		return nil, err
	}
	w, err := s.Governance.SetRule(ctx, caller, args)
	return written[api.SetRule201JSONResponse](w, err)
}
