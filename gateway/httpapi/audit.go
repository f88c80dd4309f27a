package httpapi

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/trail"
)

// maxLogFindings bounds the findings that are listed of one log.
const maxLogFindings = 50

// auditorOnly refuses every other role. The use cases refuse it again; some of
// what is answered here is theirs only in part, or not at all.
func auditorOnly(caller service.Caller, what string) error {
	if caller.Role == domain.RoleAuditor {
		return nil
	}
	return &domain.Error{Kind: domain.Forbidden, Msg: fmt.Sprintf("role %s may not %s; rule: it is for role auditor", caller.Role, what)}
}

// audits answers the auditor's use cases where this gateway reads all logs.
func (s *server) audits(caller service.Caller) (Auditor, error) {
	if err := auditorOnly(caller, "audit access logs"); err != nil {
		return nil, err
	}
	if s.Auditor == nil {
		return nil, &domain.Error{Kind: domain.NotFound, Msg: "this gateway reads its own access log only; its configuration has no audit"}
	}
	return s.Auditor, nil
}

func (s *server) TraceAccess(ctx context.Context, r api.TraceAccessRequestObject) (api.TraceAccessResponseObject, error) {
	ctx, caller := inbound(ctx)
	if err := auditorOnly(caller, "trace access records"); err != nil {
		return nil, err
	}
	var trace api.Trace
	var err error
	if s.Auditor == nil {
		trace, err = s.traceOwn(ctx, caller, r.Params)
	} else {
		trace, err = s.traceAll(ctx, caller, r.Params)
	}
	return api.TraceAccess200JSONResponse(trace), err
}

func (s *server) traceAll(ctx context.Context, caller service.Caller, p api.TraceAccessParams) (api.Trace, error) {
	filter := trailFilter(api.TotalAccessParams{
		CatalogCode: p.CatalogCode, GrantID: p.GrantID, Department: p.Department, Purpose: p.Purpose, ServiceItem: p.ServiceItem,
		CaseRef: p.CaseRef, SubjectRef: p.SubjectRef, CallID: p.CallID, Writer: p.Writer, Operator: p.Operator, Result: p.Result,
		From: p.From, To: p.To,
	})
	at := trailPage(p.Limit, p.Cursor)
	at.OldestFirst = valueOf(p.Order) == api.OrderOldest
	entries, err := s.Auditor.Trace(ctx, caller, filter, at)
	if err != nil {
		return api.Trace{}, err
	}
	out := api.Trace{Scope: api.AuditScopeAll, Items: make([]api.TraceRow, 0, len(entries.Items)), Next: s.cursors.seal(entries.Next)}
	for _, e := range entries.Items {
		row, err := trailRow(e)
		if err != nil {
			return api.Trace{}, err
		}
		out.Items = append(out.Items, row)
	}
	return out, nil
}

// traceOwn answers from the department's own log, which is indexed for less.
func (s *server) traceOwn(ctx context.Context, caller service.Caller, p api.TraceAccessParams) (api.Trace, error) {
	for name, given := range map[string]bool{
		"writer": p.Writer != nil, "operator": p.Operator != nil, "result": p.Result != nil, "order": valueOf(p.Order) == api.OrderOldest,
	} {
		if given {
			f := finding("query "+name, ruleOwnLog)
			return api.Trace{}, &refusal{code: api.ProblemCodeInvalid, detail: f.Field + ": " + f.En, fields: []api.FieldFinding{f}}
		}
	}
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
		return api.Trace{}, err
	}
	anchored, err := s.anchoredSizes(ctx)
	if err != nil {
		return api.Trace{}, err
	}
	out := api.Trace{Scope: api.AuditScopeOwn, Items: make([]api.TraceRow, 0, len(entries.Items)), Next: s.cursors.seal(entries.Next)}
	for _, e := range entries.Items {
		row, err := traceRow(s.Department, e, anchored[s.Department])
		if err != nil {
			return api.Trace{}, err
		}
		out.Items = append(out.Items, row)
	}
	return out, nil
}

// anchoredSizes answers the size of each registered log's last anchor.
func (s *server) anchoredSizes(ctx context.Context) (map[domain.DepartmentCode]uint64, error) {
	logs, err := s.Governance.Logs(ctx)
	if err != nil {
		return nil, err
	}
	sizes := make(map[domain.DepartmentCode]uint64, len(logs.Items))
	for _, l := range logs.Items {
		sizes[l.Value.Owner] = l.Value.Size
	}
	return sizes, nil
}

func trailRow(e trail.Entry) (api.TraceRow, error) {
	return traceRow(e.Department, index.AccessEntry{Index: e.Index, LeafHash: e.LeafHash, Record: e.Record}, e.AnchorSize)
}

// traceRow answers a row with its links. The anchor of size anchored covers the
// entry if it is large enough.
func traceRow(department domain.DepartmentCode, e index.AccessEntry, anchored uint64) (api.TraceRow, error) {
	entry, err := accessEntry(e)
	if err != nil {
		return api.TraceRow{}, err
	}
	row := api.TraceRow{
		Department: string(department), Index: entry.Index, LeafHash: entry.LeafHash, Record: entry.Record,
		Links: api.TraceLinks{Record: fmt.Sprintf("/v1/access-records/%s/%d", department, e.Index)},
	}
	if e.Index < anchored {
		size := int64(anchored)
		row.AnchoredSize = &size
		row.Links.Proof = row.Links.Record + "/proof"
		row.Links.Anchor = "/v1/proofs/anchor/" + domain.AnchorID(department, anchored)
	}
	return row, nil
}

func trailFilter(p api.TotalAccessParams) trail.Filter {
	return trail.Filter{
		CatalogCode: valueOf(p.CatalogCode),
		GrantID:     valueOf(p.GrantID),
		Department:  domain.DepartmentCode(valueOf(p.Department)),
		Writer:      domain.DepartmentCode(valueOf(p.Writer)),
		Purpose:     valueOf(p.Purpose),
		ServiceItem: valueOf(p.ServiceItem),
		CaseRef:     valueOf(p.CaseRef),
		SubjectRef:  valueOf(p.SubjectRef),
		Operator:    valueOf(p.Operator),
		Result:      valueOf(p.Result),
		CallID:      valueOf(p.CallID),
		From:        valueOf(p.From),
		To:          valueOf(p.To),
	}
}

func trailPage(limit *api.Limit, cursor *api.Cursor) trail.Page {
	p := page(limit, cursor)
	return trail.Page{Limit: p.Limit, After: p.After}
}

func (s *server) TotalAccess(ctx context.Context, r api.TotalAccessRequestObject) (api.TotalAccessResponseObject, error) {
	ctx, caller := inbound(ctx)
	auditor, err := s.audits(caller)
	if err != nil {
		return nil, err
	}
	totals, err := auditor.Totals(ctx, caller, trailFilter(r.Params))
	if err != nil {
		return nil, err
	}
	out := api.TotalAccess200JSONResponse{Records: totals.Records, DataRecords: totals.DataRecords, ByResult: make([]api.ResultTotal, 0, len(totals.ByResult))}
	for _, t := range totals.ByResult {
		out.ByResult = append(out.ByResult, api.ResultTotal{
			Direction: api.Direction(t.Direction), Result: t.Result, Records: t.Records, DataRecords: t.DataRecords,
		})
	}
	return out, nil
}

func (s *server) ReconcileAccess(ctx context.Context, r api.ReconcileAccessRequestObject) (api.ReconcileAccessResponseObject, error) {
	ctx, caller := inbound(ctx)
	auditor, err := s.audits(caller)
	if err != nil {
		return nil, err
	}
	counts, err := auditor.Reconcile(ctx, caller, reconcileFilter(r.Params), trailPage(r.Params.Limit, r.Params.Cursor))
	if err != nil {
		return nil, err
	}
	out := api.ReconcileAccess200JSONResponse{Items: make([]api.PairDay, 0, len(counts.Items)), Next: s.cursors.seal(counts.Next)}
	for _, c := range counts.Items {
		out.Items = append(out.Items, api.PairDay{
			Provider: string(c.Provider), Consumer: string(c.Consumer), Day: c.Day, Both: c.Both, ProviderOnly: c.ProviderOnly,
			ConsumerOnly: c.ConsumerOnly, Contradicting: c.Contradicting, Waiting: c.Waiting,
		})
	}
	return out, nil
}

func (s *server) ListDiscrepancies(ctx context.Context, r api.ListDiscrepanciesRequestObject) (api.ListDiscrepanciesResponseObject, error) {
	ctx, caller := inbound(ctx)
	auditor, err := s.audits(caller)
	if err != nil {
		return nil, err
	}
	filter := reconcileFilter(api.ReconcileAccessParams(r.Params))
	found, err := auditor.Discrepancies(ctx, caller, filter, trailPage(r.Params.Limit, r.Params.Cursor))
	if err != nil {
		return nil, err
	}
	out := api.ListDiscrepancies200JSONResponse{Items: make([]api.Discrepancy, 0, len(found.Items)), Next: s.cursors.seal(found.Next)}
	for _, d := range found.Items {
		item := api.Discrepancy{
			CallID: d.CallID, Provider: string(d.Provider), Consumer: string(d.Consumer), Day: d.Day,
			State: api.CallState(d.State), Fields: append([]string{}, d.Fields...),
		}
		if item.ProviderEntry, err = optionalRow(d.ProviderEntry); err != nil {
			return nil, err
		}
		if item.ConsumerEntry, err = optionalRow(d.ConsumerEntry); err != nil {
			return nil, err
		}
		out.Items = append(out.Items, item)
	}
	return out, nil
}

func optionalRow(e *trail.Entry) (*api.TraceRow, error) {
	if e == nil {
		return nil, nil //nolint:nilnil // no entry, no row
	}
	row, err := trailRow(*e)
	return &row, err
}

func reconcileFilter(p api.ReconcileAccessParams) trail.ReconcileFilter {
	return trail.ReconcileFilter{
		Provider: domain.DepartmentCode(valueOf(p.Provider)), Consumer: domain.DepartmentCode(valueOf(p.Consumer)),
		FromDay: valueOf(p.FromDay), ToDay: valueOf(p.ToDay), Settled: valueOf(p.Settled),
	}
}

// ListAuditLogs puts together what is known of each log, from the ledger, the
// trail and the watcher: a log that one of them does not know is not left out.
func (s *server) ListAuditLogs(ctx context.Context, _ api.ListAuditLogsRequestObject) (api.ListAuditLogsResponseObject, error) {
	ctx, caller := inbound(ctx)
	if err := auditorOnly(caller, "see how far access logs are verified"); err != nil {
		return nil, err
	}
	anchored, err := s.anchoredSizes(ctx)
	if err != nil {
		return nil, err
	}
	logs := make(map[domain.DepartmentCode]*api.AuditLog)
	of := func(d domain.DepartmentCode) *api.AuditLog {
		if logs[d] == nil {
			logs[d] = &api.AuditLog{Department: string(d), AnchoredSize: int64(anchored[d]), Findings: []api.LogFinding{}}
		}
		return logs[d]
	}
	for department := range anchored {
		of(department)
	}
	for _, w := range s.Watched() {
		watched := api.WatchedLog{Size: int64(w.VerifiedSize), Problem: w.Problem}
		if !w.Since.IsZero() {
			watched.Since = &w.Since
		}
		of(w.Department).Watched = &watched
	}
	out := api.ListAuditLogs200JSONResponse{Scope: api.AuditScopeOwn}
	if s.Auditor != nil {
		out.Scope = api.AuditScopeAll
		if err := s.auditedLogs(ctx, caller, of); err != nil {
			return nil, err
		}
	}
	out.Items = make([]api.AuditLog, 0, len(logs))
	for department, l := range logs {
		if s.Auditor != nil {
			if err := s.logFindings(ctx, caller, department, l); err != nil {
				return nil, err
			}
		}
		out.Items = append(out.Items, *l)
	}
	slices.SortFunc(out.Items, func(a, b api.AuditLog) int { return strings.Compare(a.Department, b.Department) })
	return out, nil
}

func (s *server) auditedLogs(ctx context.Context, caller service.Caller, of func(domain.DepartmentCode) *api.AuditLog) error {
	audited, err := s.Auditor.Logs(ctx, caller)
	if err != nil {
		return err
	}
	for _, l := range audited {
		of(l.Department).Audited = &api.AuditedLog{Size: int64(l.Progress.Size), Seen: l.Progress.Seen}
	}
	return nil
}

func (s *server) logFindings(ctx context.Context, caller service.Caller, department domain.DepartmentCode, l *api.AuditLog) error {
	found, err := s.Auditor.Findings(ctx, caller, trail.FindingFilter{Department: department}, trail.Page{Limit: maxLogFindings})
	if err != nil {
		return err
	}
	for _, f := range found.Items {
		l.Findings = append(l.Findings, api.LogFinding{
			Kind: string(f.Kind), Place: int64(f.Place), Text: f.Text, FirstSeen: f.FirstSeen, LastSeen: f.LastSeen,
		})
	}
	l.MoreFindings = found.Next != ""
	return nil
}
