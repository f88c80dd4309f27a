package httpapi

import (
	"context"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

func (s *server) GetInbox(ctx context.Context, r api.GetInboxRequestObject) (api.GetInboxResponseObject, error) {
	ctx, caller := inbound(ctx)
	p := r.Params
	inbox, err := s.Overview.Inbox(ctx, caller, index.InboxFilter{
		Role: domain.Role(valueOf(p.Role)), OverdueOnly: valueOf(p.Overdue),
	}, page(p.Limit, p.Cursor))
	if err != nil {
		return nil, err
	}
	out := api.GetInbox200JSONResponse{Items: make([]api.InboxItem, 0, len(inbox.Items)), Next: s.cursors.seal(inbox.Next)}
	for _, item := range inbox.Items {
		out.Items = append(out.Items, api.InboxItem{
			Kind: api.RecordKind(item.Kind), ID: item.ID, Title: item.Title, State: item.State,
			Task: task(item.Task), Overdue: item.Overdue, Block: int64(item.Block), TxID: string(item.TxID),
		})
	}
	return out, nil
}

func task(t domain.Task) api.InboxTask {
	out := api.InboxTask{
		Transaction: t.Transaction, Role: api.Role(t.Role), Department: string(t.Department), Side: string(t.Side),
		Parties: make([]string, 0, len(t.Parties)), DueAt: t.DueAt,
	}
	for _, p := range t.Parties {
		out.Parties = append(out.Parties, string(p))
	}
	return out
}

func (s *server) GetIndicators(ctx context.Context, _ api.GetIndicatorsRequestObject) (api.GetIndicatorsResponseObject, error) {
	ctx, _ = inbound(ctx)
	all, err := s.Overview.Indicators(ctx)
	if err != nil {
		return nil, err
	}
	out := api.GetIndicators200JSONResponse{
		Items: make([]api.Indicator, 0, len(all.Items)), AsOf: all.AsOf, Height: int64(all.Height),
	}
	for _, i := range all.Items {
		out.Items = append(out.Items, api.Indicator{
			Code: i.Code, NameZh: i.NameZh, NameEn: i.NameEn, Unit: api.IndicatorUnit(i.Unit),
			Value: i.Value, Numerator: i.Numerator, Denominator: i.Denominator,
			Definition: i.Definition, Query: i.Query, Records: i.Records,
		})
	}
	return out, nil
}
