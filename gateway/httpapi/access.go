package httpapi

import (
	"context"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

func (s *server) RecordAccess(ctx context.Context, r api.RecordAccessRequestObject) (api.RecordAccessResponseObject, error) {
	ctx, caller := inbound(ctx)
	records := make([]domain.AccessRecord, 0, len(r.Body.Records))
	for _, in := range r.Body.Records {
		records = append(records, accessRecord(in))
	}
	receipts, err := s.Access.Record(ctx, caller, records)
	if err != nil {
		return nil, err
	}
	out := api.RecordAccess201JSONResponse{Receipts: make([]api.AccessReceipt, 0, len(receipts))}
	for _, r := range receipts {
		out.Receipts = append(out.Receipts, api.AccessReceipt{
			CallID: r.CallID, Index: int64(r.Index), LeafHash: r.LeafHash, Promise: string(r.Promise),
		})
	}
	return out, nil
}

// accessRecord answers what the caller says of an access. It is the one record
// that is not converted by way of JSON: batches of a thousand come many times a
// second.
func accessRecord(in api.AccessInput) domain.AccessRecord {
	return domain.AccessRecord{
		Direction:      domain.Direction(in.Direction),
		CallID:         in.CallID,
		GrantID:        in.GrantID,
		CatalogCode:    in.CatalogCode,
		CatalogVersion: in.CatalogVersion,
		Items:          in.Items,
		Provider:       domain.DepartmentCode(in.Provider),
		Consumer:       domain.DepartmentCode(in.Consumer),
		Purpose:        in.Purpose,
		ServiceItem:    in.ServiceItem,
		CaseRef:        in.CaseRef,
		System:         in.System,
		Operator:       in.Operator,
		OperatorRole:   in.OperatorRole,
		SubjectRef:     in.SubjectRef,
		RecordCount:    in.RecordCount,
		RequestDigest:  in.RequestDigest,
		ResponseDigest: in.ResponseDigest,
		At:             in.At,
		Result:         in.Result,
	}
}

func (s *server) GetAccessRecord(ctx context.Context, r api.GetAccessRecordRequestObject) (api.GetAccessRecordResponseObject, error) {
	ctx, _ = inbound(ctx)
	e, err := s.Access.Get(ctx, domain.DepartmentCode(r.Department), uint64(r.Index))
	if err != nil {
		return nil, err
	}
	out, err := accessEntry(e)
	return api.GetAccessRecord200JSONResponse(out), err
}

func (s *server) GetAccessProof(ctx context.Context, r api.GetAccessProofRequestObject) (api.GetAccessProofResponseObject, error) {
	ctx, _ = inbound(ctx)
	text, err := s.Access.Proof(ctx, domain.DepartmentCode(r.Department), uint64(r.Index))
	return document{media: "text/plain; charset=utf-8", body: text}, err
}

func (s *server) TraceAccess(ctx context.Context, r api.TraceAccessRequestObject) (api.TraceAccessResponseObject, error) {
	ctx, caller := inbound(ctx)
	p := r.Params
	entries, err := s.Access.Trace(ctx, caller, index.AccessFilter{
		CatalogCode: valueOf(p.CatalogCode),
		GrantID:     valueOf(p.GrantID),
		Department:  domain.DepartmentCode(valueOf(p.Department)),
		Purpose:     valueOf(p.Purpose),
		ServiceItem: valueOf(p.ServiceItem),
		CaseRef:     valueOf(p.CaseRef),
		SubjectRef:  valueOf(p.SubjectRef),
		CallID:      valueOf(p.CallID),
		From:        valueOf(p.From),
		To:          valueOf(p.To),
	}, page(p.Limit, p.Cursor))
	if err != nil {
		return nil, err
	}
	out := api.TraceAccess200JSONResponse{Items: make([]api.AccessEntry, 0, len(entries.Items)), Next: entries.Next}
	for _, e := range entries.Items {
		item, err := accessEntry(e)
		if err != nil {
			return nil, err
		}
		out.Items = append(out.Items, item)
	}
	return out, nil
}

func accessEntry(e index.AccessEntry) (api.AccessEntry, error) {
	record, err := api.Convert[api.AccessRecord](e.Record)
	return api.AccessEntry{Index: int64(e.Index), LeafHash: e.LeafHash, Record: record}, err
}
