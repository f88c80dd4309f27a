package service

import (
	"context"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// Governance registers departments and their access logs, and keeps the working
// days and time limits that the lead sets. It is safe for concurrent use.
type Governance struct {
	ledger ledger.Ledger
	index  index.Index
}

// NewGovernance returns the use cases of the consortium's members.
func NewGovernance(l ledger.Ledger, ix index.Index) *Governance {
	return &Governance{ledger: l, index: ix}
}

// RegisterDepartment enters a department on the ledger.
func (g *Governance) RegisterDepartment(ctx context.Context, caller Caller, args domain.RegisterDepartmentArgs) (Written[domain.Department], error) {
	return write[domain.Department](ctx, g.ledger, g.index, caller, "governance:RegisterDepartment", "register departments", args)
}

// Departments answers all departments in order of code; Next is always "".
func (g *Governance) Departments(ctx context.Context) (Listed[domain.Department], error) {
	return listAll[domain.Department](ctx, g.index, domain.KindDepartment)
}

// SetCalendar records the working days of a year.
func (g *Governance) SetCalendar(ctx context.Context, caller Caller, args domain.SetCalendarArgs) (Written[domain.Calendar], error) {
	return write[domain.Calendar](ctx, g.ledger, g.index, caller, "governance:SetCalendar", "set the working days of a year", args)
}

// ListCalendars answers the calendars in force in order of year; Next is always
// "".
func (g *Governance) ListCalendars(ctx context.Context) (Listed[domain.Calendar], error) {
	return listAll[domain.Calendar](ctx, g.index, domain.KindCalendar)
}

// SetRule records a time limit with its legal basis.
func (g *Governance) SetRule(ctx context.Context, caller Caller, args domain.SetRuleArgs) (Written[domain.DeadlineRule], error) {
	return write[domain.DeadlineRule](ctx, g.ledger, g.index, caller, "governance:SetRule", "set time limits", args)
}

// ListRules answers the deadline rules in force in order of event; Next is always
// "".
func (g *Governance) ListRules(ctx context.Context) (Listed[domain.DeadlineRule], error) {
	return listAll[domain.DeadlineRule](ctx, g.index, domain.KindRule)
}

// RegisterLog binds the caller's department to its access log.
func (g *Governance) RegisterLog(ctx context.Context, caller Caller, args domain.RegisterLogArgs) (Written[domain.LogRegistration], error) {
	return write[domain.LogRegistration](ctx, g.ledger, g.index, caller, "access:RegisterLog", "register access logs", args)
}

// Logs answers all registered access logs in order of department; Next is
// always "".
func (g *Governance) Logs(ctx context.Context) (Listed[domain.LogRegistration], error) {
	return listAll[domain.LogRegistration](ctx, g.index, domain.KindLog)
}

// Anchors answers anchors in order of ID (department and size as text), from
// the index; filter.Department narrows them to one department's.
func (g *Governance) Anchors(ctx context.Context, filter index.Filter, page index.Page) (Listed[domain.Anchor], error) {
	return list[domain.Anchor](ctx, g.index, domain.KindAnchor, filter, page)
}
