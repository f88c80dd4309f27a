package httpapi

import (
	"context"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

func (s *server) ListRequests(ctx context.Context, r api.ListRequestsRequestObject) (api.ListRequestsResponseObject, error) {
	ctx, _ = inbound(ctx)
	p := r.Params
	l, err := s.Sharing.ListRequests(ctx, index.Filter{
		Department:   domain.DepartmentCode(valueOf(p.Department)),
		Provider:     domain.DepartmentCode(valueOf(p.Provider)),
		Consumer:     domain.DepartmentCode(valueOf(p.Consumer)),
		State:        valueOf(p.State),
		Overdue:      s.overdue(p.Overdue),
		ChangedSince: valueOf(p.ChangedSince),
		GrantID:      valueOf(p.GrantID),
	}, page(p.Limit, p.Cursor))
	return listed[api.ListRequests200JSONResponse](s, l, err)
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

func (s *server) GetRequest(c context.Context, r api.GetRequestRequestObject) (api.GetRequestResponseObject, error) {
	ctx, _ := inbound(c)
	w, err := s.Sharing.GetRequest(ctx, r.ID)
	return tagged[api.GetRequest200JSONResponse](c, w, err)
}

func (s *server) GetRequestHistory(ctx context.Context, r api.GetRequestHistoryRequestObject) (api.GetRequestHistoryResponseObject, error) {
	ctx, _ = inbound(ctx)
	l, err := s.Sharing.RequestHistory(ctx, r.ID, page(r.Params.Limit, r.Params.Cursor))
	return listed[api.GetRequestHistory200JSONResponse](s, l, err)
}

func (s *server) AcceptRequest(ctx context.Context, r api.AcceptRequestRequestObject) (api.AcceptRequestResponseObject, error) {
	ctx, caller := inbound(ctx)
	w, err := s.Sharing.Accept(ctx, caller, domain.AcceptArgs{
		ID: r.ID, Decision: domain.CheckDecision(r.Body.Decision), Reason: r.Body.Reason,
	})
	return written[api.AcceptRequest200JSONResponse](w, err)
}

func (s *server) SupplementRequest(ctx context.Context, r api.SupplementRequestRequestObject) (api.SupplementRequestResponseObject, error) {
	ctx, caller := inbound(ctx)
	content, err := api.Convert[domain.ShareRequestContent](r.Body)
	if err != nil {
		return nil, err
	}
	if content.ID != r.ID {
		return nil, otherThanPath("/id")
	}
	w, err := s.Sharing.Supplement(ctx, caller, domain.SupplementArgs{Content: content})
	return written[api.SupplementRequest200JSONResponse](w, err)
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

func (s *server) ExtendRequest(ctx context.Context, r api.ExtendRequestRequestObject) (api.ExtendRequestResponseObject, error) {
	ctx, caller := inbound(ctx)
	w, err := s.Sharing.Extend(ctx, caller, domain.ExtendArgs{ID: r.ID, Days: r.Body.Days, Reason: r.Body.Reason})
	return written[api.ExtendRequest200JSONResponse](w, err)
}

func (s *server) DecideExtension(ctx context.Context, r api.DecideExtensionRequestObject) (api.DecideExtensionResponseObject, error) {
	ctx, caller := inbound(ctx)
	w, err := s.Sharing.DecideExtension(ctx, caller, domain.DecideExtensionArgs{
		ID: r.ID, Decision: domain.ExtensionDecision(r.Body.Decision), Reason: r.Body.Reason,
	})
	return written[api.DecideExtension200JSONResponse](w, err)
}

func (s *server) DisputeRequest(ctx context.Context, r api.DisputeRequestRequestObject) (api.DisputeRequestResponseObject, error) {
	ctx, caller := inbound(ctx)
	w, err := s.Sharing.Dispute(ctx, caller, domain.DisputeArgs{ID: r.ID, Reason: r.Body.Reason})
	return written[api.DisputeRequest200JSONResponse](w, err)
}

func (s *server) MediateRequest(ctx context.Context, r api.MediateRequestRequestObject) (api.MediateRequestResponseObject, error) {
	ctx, caller := inbound(ctx)
	w, err := s.Sharing.Mediate(ctx, caller, domain.MediateArgs{
		ID: r.ID, Decision: domain.MediationDecision(r.Body.Decision), Reason: r.Body.Reason,
	})
	return written[api.MediateRequest200JSONResponse](w, err)
}

func (s *server) DeliverRequest(ctx context.Context, r api.DeliverRequestRequestObject) (api.DeliverRequestResponseObject, error) {
	ctx, caller := inbound(ctx)
	w, err := s.Sharing.Deliver(ctx, caller, domain.DeliverArgs{ID: r.ID, DeliveryDigest: r.Body.DeliveryDigest})
	return written[api.DeliverRequest200JSONResponse](w, err)
}

func (s *server) ConfirmRequest(ctx context.Context, r api.ConfirmRequestRequestObject) (api.ConfirmRequestResponseObject, error) {
	ctx, caller := inbound(ctx)
	w, err := s.Sharing.Confirm(ctx, caller, domain.ConfirmArgs{
		ID: r.ID, Decision: domain.ConfirmDecision(r.Body.Decision), Reason: r.Body.Reason,
	})
	return written[api.ConfirmRequest200JSONResponse](w, err)
}

func (s *server) WithdrawRequest(ctx context.Context, r api.WithdrawRequestRequestObject) (api.WithdrawRequestResponseObject, error) {
	ctx, caller := inbound(ctx)
	w, err := s.Sharing.Withdraw(ctx, caller, domain.ReasonArgs{ID: r.ID, Reason: r.Body.Reason})
	return written[api.WithdrawRequest200JSONResponse](w, err)
}

func (s *server) CloseRequest(ctx context.Context, r api.CloseRequestRequestObject) (api.CloseRequestResponseObject, error) {
	ctx, caller := inbound(ctx)
	w, err := s.Sharing.Close(ctx, caller, domain.ReasonArgs{ID: r.ID, Reason: r.Body.Reason})
	return written[api.CloseRequest200JSONResponse](w, err)
}

func (s *server) MarkRequestOverdue(ctx context.Context, r api.MarkRequestOverdueRequestObject) (api.MarkRequestOverdueResponseObject, error) {
	ctx, caller := inbound(ctx)
	w, err := s.Sharing.MarkOverdue(ctx, caller, r.ID)
	return written[api.MarkRequestOverdue200JSONResponse](w, err)
}
