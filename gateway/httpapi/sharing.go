package httpapi

import (
	"context"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

func (s *server) ListRequests(ctx context.Context, r api.ListRequestsRequestObject) (api.ListRequestsResponseObject, error) {
	ctx, _ = inbound(ctx)
	l, err := s.Sharing.ListRequests(ctx, index.Filter{
		Department: domain.DepartmentCode(valueOf(r.Params.Department)),
		State:      valueOf(r.Params.State),
		GrantID:    valueOf(r.Params.GrantID),
	}, page(r.Params.Limit, r.Params.Cursor))
	return listed[api.ListRequests200JSONResponse](l, err)
}

func (s *server) RequestShare(ctx context.Context, r api.RequestShareRequestObject) (api.RequestShareResponseObject, error) {
	ctx, caller := inbound(ctx)
	content, err := api.Convert[domain.ShareRequestContent](r.Body)
	if err != nil {
		return nil, err
	}
	w, err := s.Sharing.Request(ctx, caller, content)
	return written[api.RequestShare201JSONResponse](w, err)
}

func (s *server) GetRequest(ctx context.Context, r api.GetRequestRequestObject) (api.GetRequestResponseObject, error) {
	ctx, _ = inbound(ctx)
	w, err := s.Sharing.GetRequest(ctx, r.ID)
	return written[api.GetRequest200JSONResponse](w, err)
}

func (s *server) AnswerRequest(ctx context.Context, r api.AnswerRequestRequestObject) (api.AnswerRequestResponseObject, error) {
	ctx, caller := inbound(ctx)
	args, err := api.Convert[domain.AnswerArgs](r.Body)
	if err != nil {
		return nil, err
	}
	args.ID = r.ID
	w, err := s.Sharing.Answer(ctx, caller, args)
	return written[api.AnswerRequest200JSONResponse](w, err)
}

func (s *server) ListGrants(ctx context.Context, r api.ListGrantsRequestObject) (api.ListGrantsResponseObject, error) {
	ctx, _ = inbound(ctx)
	l, err := s.Sharing.ListGrants(ctx, index.Filter{
		Department: domain.DepartmentCode(valueOf(r.Params.Department)),
		State:      valueOf(r.Params.State),
		GrantID:    valueOf(r.Params.GrantID),
	}, page(r.Params.Limit, r.Params.Cursor))
	return listed[api.ListGrants200JSONResponse](l, err)
}

func (s *server) GetGrant(ctx context.Context, r api.GetGrantRequestObject) (api.GetGrantResponseObject, error) {
	ctx, _ = inbound(ctx)
	w, err := s.Sharing.GetGrant(ctx, r.ID)
	return written[api.GetGrant200JSONResponse](w, err)
}
