package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/service"
)

func (s *server) RecordAccess(ctx context.Context, r api.RecordAccessRequestObject) (api.RecordAccessResponseObject, error) {
	ctx, caller := inbound(ctx)
	records := make([]domain.AccessRecord, 0, len(r.Body.Records))
	for _, in := range r.Body.Records {
		records = append(records, accessRecord(in))
	}
	anchored := prefersAnchored(valueOf(r.Params.Prefer))
	answer, err := s.Access.Record(ctx, caller, service.RecordOptions{Anchored: anchored}, records)
	if err != nil {
		return nil, err
	}
	out := recorded{anchored: anchored}
	out.Promise = string(answer.Promise)
	out.Receipts = make([]api.AccessReceipt, 0, len(answer.Receipts))
	for _, r := range answer.Receipts {
		receipt := api.AccessReceipt{CallID: r.CallID, Index: int64(r.Index), LeafHash: r.LeafHash}
		if r.AnchoredSize > 0 {
			size := int64(r.AnchoredSize)
			receipt.AnchoredSize = &size
		}
		out.anchored = out.anchored && r.AnchoredSize > 0
		out.Receipts = append(out.Receipts, receipt)
	}
	return out, nil
}

// prefersAnchored says whether a Prefer header (RFC 7240) asks to wait for the
// anchor.
func prefersAnchored(prefer string) bool {
	for preference := range strings.SplitSeq(prefer, ",") {
		token, _, _ := strings.Cut(preference, ";")
		if strings.EqualFold(strings.TrimSpace(token), preferAnchored) {
			return true
		}
	}
	return false
}

const preferAnchored = "anchored"

// recorded is the answer to records that are durable. The generated one would
// name an empty preference.
type recorded struct {
	api.AccessReceipts
	anchored bool // was preferred, and all are
}

func (r recorded) VisitRecordAccessResponse(w http.ResponseWriter) error {
	data, err := json.Marshal(r.AccessReceipts)
	if err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	if r.anchored {
		w.Header().Set("Preference-Applied", preferAnchored)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	if _, err := w.Write(data); err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	return nil
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
		LegalBasis:     in.LegalBasis,
		ServiceItem:    in.ServiceItem,
		CaseRef:        in.CaseRef,
		System:         in.System,
		Operator:       in.Operator,
		OperatorRole:   in.OperatorRole,
		SubjectRef:     in.SubjectRef,
		RecordCount:    in.RecordCount,
		RequestDigest:  in.RequestDigest,
		ResponseDigest: in.ResponseDigest,
		Channel:        string(in.Channel),
		At:             in.At,
		RespondedAt:    in.RespondedAt,
		Result:         in.Result,
	}
}

func (s *server) GetAccessRecord(ctx context.Context, r api.GetAccessRecordRequestObject) (api.GetAccessRecordResponseObject, error) {
	ctx, caller := inbound(ctx)
	department := domain.DepartmentCode(r.Department)
	e, err := s.accessRecordOf(ctx, caller, department, uint64(r.Index))
	if err != nil {
		return nil, err
	}
	out, err := accessEntry(e)
	return api.GetAccessRecord200JSONResponse(out), err
}

// accessRecordOf reads the own log; an auditor also reads those of others, where
// this gateway has them.
func (s *server) accessRecordOf(ctx context.Context, caller service.Caller, department domain.DepartmentCode, idx uint64) (index.AccessEntry, error) {
	if department == s.Department || s.Auditor == nil || caller.Role != domain.RoleAuditor {
		return s.Access.Get(ctx, department, idx)
	}
	e, err := s.Auditor.Entry(ctx, caller, department, idx)
	return index.AccessEntry{Index: e.Index, LeafHash: e.LeafHash, Record: e.Record}, err
}

func (s *server) GetAccessProof(ctx context.Context, r api.GetAccessProofRequestObject) (api.GetAccessProofResponseObject, error) {
	ctx, caller := inbound(ctx)
	text, err := s.accessProofOf(ctx, caller, domain.DepartmentCode(r.Department), uint64(r.Index))
	return document{media: "text/plain; charset=utf-8", body: text}, err
}

// accessProofOf proves for an auditor against the anchor that the trace names,
// and for everybody else, and where the auditor has not got as far, against the
// own log's last.
func (s *server) accessProofOf(ctx context.Context, caller service.Caller, department domain.DepartmentCode, idx uint64) ([]byte, error) {
	if s.Auditor != nil && caller.Role == domain.RoleAuditor {
		text, err := s.Auditor.Proof(ctx, caller, department, idx)
		if department != s.Department || domain.KindOf(err) != domain.NotFound {
			return text, err
		}
	}
	return s.Access.Proof(ctx, department, idx)
}

func accessEntry(e index.AccessEntry) (api.AccessEntry, error) {
	record, err := api.Convert[api.AccessRecord](e.Record)
	return api.AccessEntry{Index: int64(e.Index), LeafHash: e.LeafHash, Record: record}, err
}
