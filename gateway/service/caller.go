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
}

// duty says which roles may do something.
type duty struct {
	rule  string // for the refusal, for example "catalog:Review is for a reviewer of the lead"
	roles []domain.Role
}

// duties are those of the transactions of [domain.Machines], by transaction.
var duties = func() map[string]duty {
	out := make(map[string]duty)
	sides := make(map[string][]string)
	for _, m := range domain.Machines() {
		for _, t := range m.Transitions {
			d := out[t.Transaction]
			if !slices.Contains(d.roles, t.Role) {
				d.roles = append(d.roles, t.Role)
			}
			if s := sideName(t.Side); !slices.Contains(sides[t.Transaction], s) {
				sides[t.Transaction] = append(sides[t.Transaction], s)
			}
			d.rule = fmt.Sprintf("%s is for %s of %s", t.Transaction, roleNames(d.roles), strings.Join(sides[t.Transaction], " or "))
			out[t.Transaction] = d
		}
	}
	return out
}()

func sideName(s domain.Side) string {
	switch s {
	case domain.SideAny:
		return "any department"
	case domain.SideFounder:
		return "the first department"
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
