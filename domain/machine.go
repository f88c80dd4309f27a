package domain

import (
	"fmt"
	"slices"
	"strings"
)

// Side says which department may act on a record.
type Side string

// The sides. The owner of a record is the department that created it: the
// provider of a catalog entry, the issuer of a certificate, the owner of a log.
const (
	SideFounder  Side = "founder"  // the first department, which registers itself as the lead
	SideLead     Side = "lead"     // 主管部门
	SideAny      Side = "any"      // every registered department; it becomes the owner
	SideOwner    Side = "owner"    // the department that the record belongs to
	SideProvider Side = "provider" // 提供部门 of the resource asked for
	SideConsumer Side = "consumer" // 需求部门: every department but the provider
)

// Absent is the state of a record that does not exist yet.
const Absent = ""

// Transition is one permitted move of a record.
type Transition struct {
	Transaction string // "catalog:Review"
	Event       string // what tells moves of one transaction apart; "" when there is one
	From, To    string // [Absent] or a stored state
	Role        Role
	Side        Side
}

// Machine is the state machine of one kind of record: whatever is not listed is
// refused.
type Machine struct {
	Kind        RecordKind
	Transitions []Transition
}

// stateRegistered is the one state of records that only exist.
const stateRegistered = "registered"

// Machines returns the state machines of all records that change, as the
// transition functions run them.
func Machines() []Machine {
	return []Machine{
		{KindDepartment, []Transition{
			{"governance:RegisterDepartment", "found", Absent, stateRegistered, RoleAdmin, SideFounder},
			{"governance:RegisterDepartment", "admit", Absent, stateRegistered, RoleAdmin, SideLead},
		}},
		{KindCatalogEntry, []Transition{
			{"catalog:Register", "", Absent, string(CatalogRegPending), RoleOperator, SideAny},
			{"catalog:Register", "", string(CatalogRegRejected), string(CatalogRegPending), RoleOperator, SideOwner},
			{"catalog:Review", string(Approve), string(CatalogRegPending), string(CatalogRegistered), RoleReviewer, SideLead},
			{"catalog:Review", string(Return), string(CatalogRegPending), string(CatalogRegRejected), RoleReviewer, SideLead},
			{"catalog:Publish", "", string(CatalogRegistered), string(CatalogPublished), RoleOperator, SideOwner},
		}},
		{KindRequest, []Transition{
			{"sharing:Request", "", Absent, string(RequestSubmitted), RoleOperator, SideConsumer},
			{"sharing:Answer", string(Agree), string(RequestSubmitted), string(RequestAgreed), RoleReviewer, SideProvider},
			{"sharing:Answer", string(Partly), string(RequestSubmitted), string(RequestPartlyAgreed), RoleReviewer, SideProvider},
			{"sharing:Answer", string(Refuse), string(RequestSubmitted), string(RequestRefused), RoleReviewer, SideProvider},
		}},
		{KindGrant, []Transition{
			{"sharing:Answer", string(Agree), Absent, string(GrantActive), RoleReviewer, SideProvider},
			{"sharing:Answer", string(Partly), Absent, string(GrantActive), RoleReviewer, SideProvider},
		}},
		{KindLog, []Transition{
			{"access:RegisterLog", "", Absent, stateRegistered, RoleAdmin, SideAny},
			{"access:Anchor", "", stateRegistered, stateRegistered, RoleGateway, SideOwner},
		}},
		{KindCertificate, []Transition{
			{"certificate:Issue", "", Absent, string(CertificateValid), RoleOperator, SideAny},
			{"certificate:Revoke", "", string(CertificateValid), string(CertificateRevoked), RoleReviewer, SideOwner},
		}},
	}
}

// move is an attempt to move a record.
type move struct {
	who         Caller
	kind        RecordKind
	what        string // names the record in errors, for example "catalog entry 307003/000017"
	transaction string
	event       string
	from        string            // current state, Absent when there is no record
	acts        func(s Side) bool // whether the caller acts for the side
}

// next returns the state after m, or why m is refused: [Forbidden] for the role,
// then [NotFound] or [Exists] for the record, [Forbidden] for the side, and at
// last the state ([Exists] if the record is there already, [Invalid] otherwise).
func (m move) next() (string, error) {
	var rows []Transition
	for _, machine := range Machines() {
		if machine.Kind != m.kind {
			continue
		}
		for _, t := range machine.Transitions {
			if t.Transaction == m.transaction && t.Event == m.event {
				rows = append(rows, t)
			}
		}
	}
	if len(rows) == 0 {
		return "", refuse(Invalid, "%s: no event %q", m.transaction, m.event)
	}
	if !slices.ContainsFunc(rows, func(t Transition) bool { return t.Role == m.who.Role }) {
		return "", refuse(Forbidden, "%s is for the role %s, the caller is %s", m.transaction, rows[0].Role, m.who.Role)
	}
	creates := slices.ContainsFunc(rows, func(t Transition) bool { return t.From == Absent })
	if m.from == Absent && !creates {
		return "", refuse(NotFound, "%s is not recorded", m.what)
	}
	var from []string
	sideHolds := false
	for _, t := range rows {
		holds := m.acts(t.Side)
		if t.From == m.from && holds {
			return t.To, nil
		}
		if (t.From == Absent) == (m.from == Absent) {
			sideHolds = sideHolds || holds
		}
		from = append(from, t.From)
	}
	switch {
	case m.from != Absent && creates:
		return "", refuse(Exists, "%s is recorded already", m.what)
	case !sideHolds:
		return "", refuse(Forbidden, "%s of %s is for the %s, the caller is department %s", m.transaction, m.what, sidesOf(rows), m.who.Department)
	case slices.ContainsFunc(rows, func(t Transition) bool { return t.To == m.from }):
		return "", refuse(Exists, "%s is %s already", m.what, m.from)
	}
	return "", refuse(Invalid, "%s is %s, %s needs %s", m.what, m.from, m.transaction, strings.Join(from, " or "))
}

func sidesOf(rows []Transition) string {
	var sides []string
	for _, t := range rows {
		if !slices.Contains(sides, string(t.Side)) {
			sides = append(sides, string(t.Side))
		}
	}
	return strings.Join(sides, " or ")
}

func refuse(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Msg: fmt.Sprintf(format, args...)}
}

// CheckMember refuses a caller whose department is not registered, or whose
// certificate comes from another department's certificate authority: the
// department named in a certificate counts only under that department's own MSP.
func CheckMember(dept *Department, who Caller) error {
	if dept == nil {
		return refuse(Forbidden, "department %s is not registered", who.Department)
	}
	if dept.Code != who.Department || dept.MSPID != who.MSPID {
		return refuse(Forbidden, "the caller's certificate names department %s and was not issued under its MSP", who.Department)
	}
	return nil
}

// notBefore refuses a transaction older than the record's last change: the
// times of one record only grow. A later transaction may succeed.
func notBefore(what string, last Meta, tx Tx) error {
	if tx.Time.Before(last.TxTime) {
		return refuse(Conflict, "%s was changed at a later time than this transaction's", what)
	}
	return nil
}
