package httpapi

import (
	"context"
	"io"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

func (s *server) ListCatalogEntries(ctx context.Context, r api.ListCatalogEntriesRequestObject) (api.ListCatalogEntriesResponseObject, error) {
	ctx, _ = inbound(ctx)
	p := r.Params
	l, err := s.Catalog.List(ctx, index.Filter{
		Department:   domain.DepartmentCode(valueOf(p.Department)),
		Provider:     domain.DepartmentCode(valueOf(p.Provider)),
		ShareType:    domain.ShareType(valueOf(p.ShareType)),
		State:        valueOf(p.State),
		Overdue:      s.overdue(p.Overdue),
		ChangedSince: valueOf(p.ChangedSince),
		Text:         valueOf(p.Text),
	}, page(p.Limit, p.Cursor))
	return listed[api.ListCatalogEntries200JSONResponse](s, l, err)
}

func (s *server) RegisterCatalogEntry(ctx context.Context, r api.RegisterCatalogEntryRequestObject) (api.RegisterCatalogEntryResponseObject, error) {
	ctx, caller := inbound(ctx)
	content, err := api.Convert[domain.CatalogContent](r.Body)
	if err != nil {
		return nil, err
	}
	w, err := s.Catalog.Register(ctx, caller, domain.RegisterCatalogArgs{Content: content, Draft: valueOf(r.Params.Draft)})
	return written[api.RegisterCatalogEntry201JSONResponse](w, err)
}

func (s *server) ValidateCatalogContent(ctx context.Context, r api.ValidateCatalogContentRequestObject) (api.ValidateCatalogContentResponseObject, error) {
	ctx, _ = inbound(ctx)
	content, err := api.Convert[domain.CatalogContent](r.Body)
	if err != nil {
		return nil, err
	}
	if err := s.Catalog.Validate(ctx, content); err != nil {
		return nil, err
	}
	return api.ValidateCatalogContent200JSONResponse{Valid: true}, nil
}

func (s *server) GetCatalogEntry(c context.Context, r api.GetCatalogEntryRequestObject) (api.GetCatalogEntryResponseObject, error) {
	ctx, _ := inbound(c)
	w, err := s.Catalog.Get(ctx, r.Code)
	return tagged[api.GetCatalogEntry200JSONResponse](c, w, err)
}

func (s *server) GetCatalogVersion(ctx context.Context, r api.GetCatalogVersionRequestObject) (api.GetCatalogVersionResponseObject, error) {
	ctx, _ = inbound(ctx)
	w, err := s.Catalog.Version(ctx, r.Code, r.Version)
	return written[api.GetCatalogVersion200JSONResponse](w, err)
}

func (s *server) GetCatalogHistory(ctx context.Context, r api.GetCatalogHistoryRequestObject) (api.GetCatalogHistoryResponseObject, error) {
	ctx, _ = inbound(ctx)
	history, err := s.Catalog.History(ctx, r.Code, page(r.Params.Limit, r.Params.Cursor))
	if err != nil {
		return nil, err
	}
	out := api.GetCatalogHistory200JSONResponse{Items: make([]api.CatalogStep, 0, len(history.Items)), Next: s.cursors.seal(history.Next)}
	for _, step := range history.Items {
		entry, err := written[api.WrittenCatalogEntry](step.Entry, nil)
		if err != nil {
			return nil, err
		}
		changes := make([]api.FieldChange, 0, len(step.Changes))
		for _, c := range step.Changes {
			changes = append(changes, api.FieldChange{Field: c.Field, Before: c.Before, After: c.After})
		}
		out.Items = append(out.Items, api.CatalogStep{Entry: entry, Changes: changes})
	}
	return out, nil
}

func (s *server) SubmitCatalogEntry(ctx context.Context, r api.SubmitCatalogEntryRequestObject) (api.SubmitCatalogEntryResponseObject, error) {
	ctx, caller := inbound(ctx)
	w, err := s.Catalog.Submit(ctx, caller, r.Code)
	return written[api.SubmitCatalogEntry200JSONResponse](w, err)
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

func (s *server) ChangeCatalogEntry(ctx context.Context, r api.ChangeCatalogEntryRequestObject) (api.ChangeCatalogEntryResponseObject, error) {
	ctx, caller := inbound(ctx)
	content, err := api.Convert[domain.CatalogContent](r.Body)
	if err != nil {
		return nil, err
	}
	if content.Code != r.Code {
		return nil, otherThanPath("/code")
	}
	w, err := s.Catalog.Change(ctx, caller, domain.ChangeCatalogArgs{Content: content})
	return written[api.ChangeCatalogEntry200JSONResponse](w, err)
}

func (s *server) RetireCatalogEntry(ctx context.Context, r api.RetireCatalogEntryRequestObject) (api.RetireCatalogEntryResponseObject, error) {
	ctx, caller := inbound(ctx)
	w, err := s.Catalog.Retire(ctx, caller, domain.RetireCatalogArgs{
		Code: r.Code, Way: domain.Retirement(r.Body.Way), Reason: r.Body.Reason,
	})
	return written[api.RetireCatalogEntry200JSONResponse](w, err)
}

func (s *server) RequireCatalogUpdate(ctx context.Context, r api.RequireCatalogUpdateRequestObject) (api.RequireCatalogUpdateResponseObject, error) {
	ctx, caller := inbound(ctx)
	w, err := s.Catalog.RequireUpdate(ctx, caller, domain.RequireUpdateArgs{Code: r.Code, Reason: r.Body.Reason})
	return written[api.RequireCatalogUpdate200JSONResponse](w, err)
}

func (s *server) MarkCatalogOverdue(ctx context.Context, r api.MarkCatalogOverdueRequestObject) (api.MarkCatalogOverdueResponseObject, error) {
	ctx, caller := inbound(ctx)
	w, err := s.Catalog.MarkOverdue(ctx, caller, r.Code)
	return written[api.MarkCatalogOverdue200JSONResponse](w, err)
}

func (s *server) RegisterCatalogBatch(ctx context.Context, r api.RegisterCatalogBatchRequestObject) (api.RegisterCatalogBatchResponseObject, error) {
	ctx, caller := inbound(ctx)
	args, err := api.Convert[domain.RegisterBatchArgs](r.Body)
	if err != nil {
		return nil, err
	}
	w, err := s.Catalog.RegisterBatch(ctx, caller, args)
	return written[api.RegisterCatalogBatch201JSONResponse](w, err)
}

func (s *server) ReviewCatalogBatch(ctx context.Context, r api.ReviewCatalogBatchRequestObject) (api.ReviewCatalogBatchResponseObject, error) {
	ctx, caller := inbound(ctx)
	w, err := s.Catalog.ReviewBatch(ctx, caller, domain.ReviewBatchArgs{
		Codes: r.Body.Codes, Decision: domain.ReviewDecision(r.Body.Decision), Opinion: r.Body.Opinion,
	})
	return written[api.ReviewCatalogBatch200JSONResponse](w, err)
}

func (s *server) PublishCatalogBatch(ctx context.Context, r api.PublishCatalogBatchRequestObject) (api.PublishCatalogBatchResponseObject, error) {
	ctx, caller := inbound(ctx)
	w, err := s.Catalog.PublishBatch(ctx, caller, domain.CodesArgs{Codes: r.Body.Codes})
	return written[api.PublishCatalogBatch200JSONResponse](w, err)
}

// exports gives each format of an export its media type and file name.
var exports = map[api.ExportCatalogParamsFormat]struct{ media, name string }{
	api.ExportCatalogParamsFormatDcatAp: {"application/ld+json", "catalog.jsonld"},
	api.ExportCatalogParamsFormatCsv:    {"text/csv; charset=utf-8", "catalog.csv"},
}

func (s *server) ExportCatalog(ctx context.Context, r api.ExportCatalogRequestObject) (api.ExportCatalogResponseObject, error) {
	ctx, _ = inbound(ctx)
	p := r.Params
	filter := index.Filter{
		Provider:     domain.DepartmentCode(valueOf(p.Provider)),
		ShareType:    domain.ShareType(valueOf(p.ShareType)),
		State:        valueOf(p.State),
		Overdue:      s.overdue(p.Overdue),
		ChangedSince: valueOf(p.ChangedSince),
		Text:         valueOf(p.Text),
	}
	as := exports[p.Format]
	return stream{
		media: as.media, disposition: `attachment; filename="` + as.name + `"`,
		body: func(w io.Writer) error { return s.Catalog.Export(ctx, string(p.Format), w, filter) },
	}, nil
}
