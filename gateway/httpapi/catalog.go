package httpapi

import (
	"context"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

func (s *server) ListCatalogEntries(ctx context.Context, r api.ListCatalogEntriesRequestObject) (api.ListCatalogEntriesResponseObject, error) {
	ctx, _ = inbound(ctx)
	l, err := s.Catalog.List(ctx, index.Filter{
		Department: domain.DepartmentCode(valueOf(r.Params.Department)),
		State:      valueOf(r.Params.State),
		Text:       valueOf(r.Params.Text),
	}, page(r.Params.Limit, r.Params.Cursor))
	return listed[api.ListCatalogEntries200JSONResponse](l, err)
}

func (s *server) RegisterCatalogEntry(ctx context.Context, r api.RegisterCatalogEntryRequestObject) (api.RegisterCatalogEntryResponseObject, error) {
	ctx, caller := inbound(ctx)
	content, err := api.Convert[domain.CatalogContent](r.Body)
	if err != nil {
		return nil, err
	}
	w, err := s.Catalog.Register(ctx, caller, content)
	return written[api.RegisterCatalogEntry201JSONResponse](w, err)
}

func (s *server) GetCatalogEntry(ctx context.Context, r api.GetCatalogEntryRequestObject) (api.GetCatalogEntryResponseObject, error) {
	ctx, _ = inbound(ctx)
	w, err := s.Catalog.Get(ctx, r.Code)
	return written[api.GetCatalogEntry200JSONResponse](w, err)
}

func (s *server) GetCatalogHistory(ctx context.Context, r api.GetCatalogHistoryRequestObject) (api.GetCatalogHistoryResponseObject, error) {
	ctx, _ = inbound(ctx)
	l, err := s.Catalog.History(ctx, r.Code, page(r.Params.Limit, r.Params.Cursor))
	return listed[api.GetCatalogHistory200JSONResponse](l, err)
}

func (s *server) ReviewCatalogEntry(ctx context.Context, r api.ReviewCatalogEntryRequestObject) (api.ReviewCatalogEntryResponseObject, error) {
	ctx, caller := inbound(ctx)
	w, err := s.Catalog.Review(ctx, caller, domain.ReviewCatalogArgs{
		Code: r.Code, Decision: domain.ReviewDecision(r.Body.Decision), Opinion: r.Body.Opinion,
	})
	return written[api.ReviewCatalogEntry200JSONResponse](w, err)
}

func (s *server) PublishCatalogEntry(ctx context.Context, r api.PublishCatalogEntryRequestObject) (api.PublishCatalogEntryResponseObject, error) {
	ctx, caller := inbound(ctx)
	w, err := s.Catalog.Publish(ctx, caller, r.Code)
	return written[api.PublishCatalogEntry200JSONResponse](w, err)
}
