package httpapi

import (
	"context"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

func (s *server) ListGrants(ctx context.Context, r api.ListGrantsRequestObject) (api.ListGrantsResponseObject, error) {
	ctx, _ = inbound(ctx)
	p := r.Params
	l, err := s.Sharing.ListGrants(ctx, index.Filter{
		Department:   domain.DepartmentCode(valueOf(p.Department)),
		Provider:     domain.DepartmentCode(valueOf(p.Provider)),
		Consumer:     domain.DepartmentCode(valueOf(p.Consumer)),
		State:        valueOf(p.State),
		ChangedSince: valueOf(p.ChangedSince),
		GrantID:      valueOf(p.GrantID),
	}, page(p.Limit, p.Cursor))
	return listed[api.ListGrants200JSONResponse](s, l, err)
}

func (s *server) GetGrant(c context.Context, r api.GetGrantRequestObject) (api.GetGrantResponseObject, error) {
	ctx, _ := inbound(c)
	w, err := s.Sharing.GetGrant(ctx, r.ID)
	return tagged[api.GetGrant200JSONResponse](c, w, err)
}

func (s *server) GetGrantHistory(ctx context.Context, r api.GetGrantHistoryRequestObject) (api.GetGrantHistoryResponseObject, error) {
	ctx, _ = inbound(ctx)
	l, err := s.Sharing.GrantHistory(ctx, r.ID, page(r.Params.Limit, r.Params.Cursor))
	return listed[api.GetGrantHistory200JSONResponse](s, l, err)
}

func (s *server) SuspendGrant(ctx context.Context, r api.SuspendGrantRequestObject) (api.SuspendGrantResponseObject, error) {
	ctx, caller := inbound(ctx)
	w, err := s.Sharing.Suspend(ctx, caller, domain.ReasonArgs{ID: r.ID, Reason: r.Body.Reason})
	return written[api.SuspendGrant200JSONResponse](w, err)
}

func (s *server) ResumeGrant(ctx context.Context, r api.ResumeGrantRequestObject) (api.ResumeGrantResponseObject, error) {
	ctx, caller := inbound(ctx)
	w, err := s.Sharing.Resume(ctx, caller, domain.ReasonArgs{ID: r.ID, Reason: r.Body.Reason})
	return written[api.ResumeGrant200JSONResponse](w, err)
}

func (s *server) RevokeGrant(ctx context.Context, r api.RevokeGrantRequestObject) (api.RevokeGrantResponseObject, error) {
	ctx, caller := inbound(ctx)
	w, err := s.Sharing.Revoke(ctx, caller, domain.ReasonArgs{ID: r.ID, Reason: r.Body.Reason})
	return written[api.RevokeGrant200JSONResponse](w, err)
}
