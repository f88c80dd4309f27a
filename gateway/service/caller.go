package service

import (
	"fmt"
	"slices"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
)

// Caller is who asks a use case: a person or system of the gateway's own
// department, in the role of its access token.
type Caller struct {
	Department domain.DepartmentCode
	Role       domain.Role

	// Operation identifies what the caller wants done, so that asking again does
	// it once: 32 lower-case hexadecimal digits, or "" for no such promise.
	Operation string

	// Expect is the write that the record to be changed must still be at; nil for
	// no such condition.
	Expect *domain.Expectation

	// Certificate is "", or that of the person who calls, as PEM, who signs what is
	// written with a key that the gateway does not have; see [Signing].
	Certificate string
}

// duty says which roles may do something.
type duty struct {
	rule  string // for the refusal, for example "catalog:Review is for a reviewer of the lead"
	roles []domain.Role
}

// batches are the transactions that do for many records what another does for
// one: whoever may do the one may do the other.
var batches = map[string]string{
	"catalog:RegisterBatch": "catalog:Register",
	"catalog:ReviewBatch":   "catalog:Review",
	"catalog:PublishBatch":  "catalog:Publish",

	"certificate:IssueBatch":  "certificate:Issue",
	"certificate:DecideBatch": "certificate:Decide",
}

// duties are those of the transactions of [domain.Machines], and of their
// batches, by transaction.
var duties = func() map[string]duty {
	rows := make(map[string][]domain.Transition)
	for _, m := range domain.Machines() {
		for _, t := range m.Transitions {
			rows[t.Transaction] = append(rows[t.Transaction], t)
		}
	}
	for batch, one := range batches {
		rows[batch] = rows[one]
	}
	out := make(map[string]duty)
	for transaction, rows := range rows {
		out[transaction] = newDuty(transaction, rows)
	}
	return out
}()

// newDuty reads the duty of a transaction from its rows. Sides for which the
// same roles act are named together.
func newDuty(transaction string, rows []domain.Transition) duty {
	var d duty
	var sides []domain.Side
	roles := make(map[domain.Side][]domain.Role)
	for _, t := range rows {
		if !slices.Contains(d.roles, t.Role) {
			d.roles = append(d.roles, t.Role)
		}
		if !slices.Contains(sides, t.Side) {
			sides = append(sides, t.Side)
		}
		if !slices.Contains(roles[t.Side], t.Role) {
			roles[t.Side] = append(roles[t.Side], t.Role)
		}
	}
	var who []string
	for len(sides) > 0 {
		first := roles[sides[0]]
		var names []string
		sides = slices.DeleteFunc(sides, func(s domain.Side) bool {
			alike := slices.Equal(roles[s], first)
			if alike {
				names = append(names, sideName(s))
			}
			return alike
		})
		who = append(who, roleNames(first)+" of "+strings.Join(names, " or "))
	}
	d.rule = transaction + " is for " + strings.Join(who, ", or for ")
	return d
}

func sideName(s domain.Side) string {
	switch s {
	case domain.SideAny:
		return "any department"
	case domain.SideFounder:
		return "the first department"
	case domain.SidePeer:
		return "any other department in the lead's own matters"
	case domain.SideLead, domain.SideOwner, domain.SideProvider, domain.SideConsumer:
		return "the " + string(s)
	}
	return string(s)
}

func roleNames(roles []domain.Role) string {
	var names []string
	for _, r := range roles {
		names = append(names, "role "+string(r))
	}
	return strings.Join(names, " or ")
}

// allow answers nil when the caller's role has the duty, and otherwise a
// [*domain.Error] of kind forbidden that names the rule. what completes "may
// not".
func (d duty) allow(c Caller, what string) error {
	if slices.Contains(d.roles, c.Role) {
		return nil
	}
	return &domain.Error{Kind: domain.Forbidden, Msg: fmt.Sprintf("role %s may not %s; rule: %s", c.Role, what, d.rule)}
}
