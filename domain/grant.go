package domain

import "time"

// GrantState is the state of a grant.
type GrantState string

// The states of a grant. GrantPending and GrantExpired are what [Grant.StatusAt]
// answers for an active grant outside its period; they are never stored.
const (
	GrantActive    GrantState = "active"    // 使用中
	GrantSuspended GrantState = "suspended" // 暂停
	GrantRevoked   GrantState = "revoked"   // 收回
	GrantPending   GrantState = "pending"   // 未到生效日
	GrantExpired   GrantState = "expired"   // 到期
)

// Grant is an authorization 授权 to use exact items of one catalog version. A new
// version of the entry never widens it.
type Grant struct {
	Meta
	ID               string         `json:"id"` // equal to the request's ID
	RequestID        string         `json:"requestId"`
	CatalogCode      string         `json:"catalogCode"`
	CatalogVersion   int            `json:"catalogVersion"`
	Items            []string       `json:"items"`
	Provider         DepartmentCode `json:"provider"`
	Consumer         DepartmentCode `json:"consumer"`
	Purpose          string         `json:"purpose"`
	ServiceItem      string         `json:"serviceItem"`
	ShareMode        string         `json:"shareMode"`
	Period           Period         `json:"period"`
	Quota            Quota          `json:"quota"`
	ConditionsDigest string         `json:"conditionsDigest"` // SHA-256 of the entry's share condition at the time
	GrantedAt        time.Time      `json:"grantedAt"`        // transaction time of the agreement
	State            GrantState     `json:"state"`
	Seq              int            `json:"seq"`
	Reason           string         `json:"reason"`    // of the last suspension, resumption or revocation; "" before
	StoppedBy        DepartmentCode `json:"stoppedBy"` // who suspended or revoked it; "" while active
}

// GrantEvent is one step of a grant.
type GrantEvent struct {
	Meta
	GrantID   string         `json:"grantId"`
	Seq       int            `json:"seq"`   // 1, 2, …
	Event     string         `json:"event"` // grant, suspend, resume, revoke
	State     GrantState     `json:"state"` // after the event
	Reason    string         `json:"reason"`
	StoppedBy DepartmentCode `json:"stoppedBy"` // after the event
}

// GrantChange is what a transaction on a grant writes.
type GrantChange struct {
	Grant Grant
	Event GrantEvent
}

// SuspendGrant stops the use of a grant until it is resumed. The provider or the
// lead may.
func SuspendGrant(existing *Grant, call Call, args ReasonArgs) (GrantChange, error) {
	return existing.change(call, "sharing:Suspend", "suspend", args)
}

// ResumeGrant ends a suspension. What the lead suspended only the lead resumes.
func ResumeGrant(existing *Grant, call Call, args ReasonArgs) (GrantChange, error) {
	return existing.change(call, "sharing:Resume", "resume", args)
}

// RevokeGrant ends a grant for ever. The provider or the lead may.
func RevokeGrant(existing *Grant, call Call, args ReasonArgs) (GrantChange, error) {
	return existing.change(call, "sharing:Revoke", "revoke", args)
}

// change records a step of a grant, with the reason.
func (g *Grant) change(call Call, transaction, event string, args ReasonArgs) (GrantChange, error) {
	if err := args.Validate(); err != nil {
		return GrantChange{}, err
	}
	before := Grant{ID: args.ID}
	if g != nil {
		before = *g
	}
	e := GrantEvent{Event: event, Reason: args.Reason, StoppedBy: call.Who.Department}
	if event == "resume" {
		e.StoppedBy = ""
	}
	change, err := recordGrant(before, call, transaction, "", func(s Side) bool {
		return s == SideProvider && call.Who.Department == before.Provider || s == SideLead && call.Dept.Lead
	}, e)
	if err != nil {
		return GrantChange{}, err
	}
	if event == "resume" && before.StoppedBy == call.Lead && !call.Dept.Lead {
		return GrantChange{}, refuse(Forbidden, "grant %s was suspended by the lead, only the lead resumes it", before.ID)
	}
	if err := notBefore("grant "+before.ID, before.Meta, call.Tx); err != nil {
		return GrantChange{}, err
	}
	return change, nil
}

// recordGrant asks the machine for the state after e, numbers and seals e and
// applies it to g. A grant without State does not exist yet.
func recordGrant(g Grant, call Call, transaction, event string, acts func(Side) bool, e GrantEvent) (GrantChange, error) {
	to, err := move{
		who: call.Who, kind: KindGrant, what: "grant " + g.ID, transaction: transaction, event: event, from: string(g.State), acts: acts,
	}.next()
	if err != nil {
		return GrantChange{}, err
	}
	e.GrantID, e.Seq, e.State = g.ID, g.Seq+1, GrantState(to)
	if err := seal(&e, SchemaGrantEvent, call.Who, call.Tx); err != nil {
		return GrantChange{}, err
	}
	after, err := g.apply(e)
	return GrantChange{Grant: after, Event: e}, err
}

// apply is the grant after an event: the one place where a grant changes.
func (g Grant) apply(e GrantEvent) (Grant, error) {
	if e.Seq != g.Seq+1 || e.GrantID != g.ID {
		return Grant{}, refuse(Invalid, "event %d of grant %s does not follow event %d of grant %s", e.Seq, e.GrantID, g.Seq, g.ID)
	}
	g.State, g.Seq, g.Reason, g.StoppedBy = e.State, e.Seq, e.Reason, e.StoppedBy
	return g, seal(&g, SchemaGrant, Caller{Department: e.Department, Role: e.Role}, Tx{ID: e.TxID, Time: e.TxTime})
}

// ReplayGrant computes a grant from what was granted and its events, in order.
func ReplayGrant(granted Grant, events []GrantEvent) (Grant, error) {
	if len(events) == 0 {
		return Grant{}, refuse(Invalid, "a grant has at least one event")
	}
	g := granted
	g.Seq = 0
	for _, e := range events {
		var err error
		if g, err = g.apply(e); err != nil {
			return Grant{}, err
		}
	}
	return g, nil
}

// StatusAt is the state of the grant at t.
func (g Grant) StatusAt(t time.Time) GrantState {
	switch {
	case g.State != GrantActive:
		return g.State
	case t.Before(g.Period.From):
		return GrantPending
	case !t.Before(g.Period.To):
		return GrantExpired
	}
	return GrantActive
}
