package domain

import (
	"slices"
	"time"
)

// Task is something that a record waits for: the next duty, whose it is and until
// when. Exactly one of Department and Side is set.
type Task struct {
	Department  DepartmentCode // of the department whose turn it is
	Side        Side           // [SideLead] or [SidePeer]; then Parties do not count as peers
	Parties     []DepartmentCode
	Role        Role
	Transaction string     // the one to run, for example "sharing:Answer"
	DueAt       *time.Time // nil: no time limit
}

// Waits reports whether the task waits for a department. lead says whether it is
// the lead.
func (t *Task) Waits(d DepartmentCode, lead bool) bool {
	switch {
	case t == nil:
		return false
	case t.Side == SideLead:
		return lead
	case t.Side == SidePeer:
		return !slices.Contains(t.Parties, d)
	}
	return t.Department == d
}

// Task is the first of [CatalogEntry.Tasks]; nil when the entry waits for nothing.
func (e CatalogEntry) Task() *Task { return firstTask(e.Tasks()) }

// Tasks are what the entry waits for, at most one thing. What is not published
// yet, or was rejected, waits for its provider.
func (e CatalogEntry) Tasks() []Task {
	provider := func(transaction string, c *Clock) []Task {
		return []Task{{Department: e.Provider, Role: RoleOperator, Transaction: transaction, DueAt: c.due()}}
	}
	switch e.State {
	case CatalogDraft:
		return provider("catalog:Submit", nil)
	case CatalogRegRejected:
		return provider("catalog:Register", nil)
	case CatalogRegistered, CatalogPubRejected:
		return provider("catalog:Publish", nil)
	case CatalogPublished:
		if e.Update != nil && e.Update.StoppedAt == nil {
			return provider("catalog:Change", e.Update)
		}
	case CatalogRegPending, CatalogPubPending, CatalogChangePending, CatalogOfflinePending:
		return []Task{{
			Side: e.Reviewer, Parties: []DepartmentCode{e.Provider}, Role: RoleReviewer,
			Transaction: "catalog:Review", DueAt: e.Review.due(),
		}}
	case CatalogOffline, CatalogRetired: // wait for nothing
	}
	return nil
}

// Task is the first of [ShareRequest.Tasks]; nil when the request waits for
// nothing.
func (r ShareRequest) Task() *Task { return firstTask(r.Tasks()) }

// Tasks are what the request waits for: one thing, or two while an extension is
// asked for, the answer and the decision on the extension, both until the answer
// is due. The consumer of a refused request may dispute it, or close it.
func (r ShareRequest) Tasks() []Task {
	due := r.Clock.due()
	own := func(d DepartmentCode, role Role, transaction string) Task {
		return Task{Department: d, Role: role, Transaction: transaction, DueAt: due}
	}
	judge := func(side Side, transaction string) Task {
		return Task{
			Side: side, Parties: []DepartmentCode{r.Consumer, r.Provider}, Role: RoleReviewer,
			Transaction: transaction, DueAt: due,
		}
	}
	switch r.State {
	case RequestSubmitted:
		return []Task{judge(r.Checker, "sharing:Accept")}
	case RequestReturned:
		return []Task{own(r.Consumer, RoleOperator, "sharing:Supplement")}
	case RequestAccepted, RequestExtended, RequestMediated:
		tasks := []Task{own(r.Provider, RoleReviewer, "sharing:Answer")}
		if r.Extension != nil {
			tasks = append(tasks, judge(r.Mediator, "sharing:DecideExtension"))
		}
		return tasks
	case RequestRefused:
		return []Task{own(r.Consumer, RoleOperator, "sharing:Dispute")}
	case RequestDisputed:
		return []Task{judge(r.Mediator, "sharing:Mediate")}
	case RequestAgreed, RequestPartlyAgreed:
		return []Task{own(r.Provider, RoleOperator, "sharing:Deliver")}
	case RequestDelivered:
		return []Task{own(r.Consumer, RoleOperator, "sharing:Confirm")}
	case RequestActive, RequestClosed, RequestWithdrawn, RequestOverdue: // wait for nothing
	}
	return nil
}

// Task is the first of [Certificate.Tasks]; nil when the certificate waits for
// nothing.
func (c Certificate) Task() *Task { return firstTask(c.Tasks()) }

// Tasks are what the certificate waits for, at most one thing: the decision of its
// issuer's reviewer, on the issue or on a change of status.
func (c Certificate) Tasks() []Task {
	if c.Status != CertificateProposed && c.Pending == nil {
		return nil
	}
	return []Task{{Department: c.Issuer, Role: RoleReviewer, Transaction: "certificate:Decide"}}
}

func firstTask(tasks []Task) *Task {
	if len(tasks) == 0 {
		return nil
	}
	return &tasks[0]
}

// due is until when a record waits; nil without a running clock.
func (c *Clock) due() *time.Time {
	if c == nil || c.StoppedAt != nil {
		return nil
	}
	due := c.DueAt
	return &due
}
