package chaincode

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/hyperledger/fabric-contract-api-go/v2/contractapi"

	"github.com/zhenglian/zhenglian/domain"
)

// governance holds the transactions about the consortium itself.
type governance struct{ contractapi.Contract }

// RegisterDepartment adds a department; see [domain.RegisterDepartment]. Whoever
// founds the consortium is not registered yet, so the rule itself decides who
// may.
func (*governance) RegisterDepartment(t *transaction, arg string) (string, error) {
	return submit(t, arg, func(args domain.RegisterDepartmentArgs) (any, error) {
		registered, err := t.departments()
		if err != nil {
			return nil, err
		}
		d, members, err := domain.RegisterDepartment(registered, t.who, t.tx, args)
		if err != nil {
			return nil, err
		}
		if err := t.put(domain.KindDepartment, string(d.Code), d); err != nil {
			return nil, err
		}
		return d, t.put(domain.KindMembers, domain.MembersID, members)
	})
}

// SetCalendar records the working days of a year; see [domain.SetCalendar].
func (*governance) SetCalendar(t *transaction, arg string) (string, error) {
	return submit(t, arg, func(args domain.SetCalendarArgs) (any, error) {
		year := strconv.Itoa(args.Year)
		existing, err := load[domain.Calendar](t, domain.KindCalendar, year)
		if err != nil {
			return nil, err
		}
		call, err := t.call()
		if err != nil {
			return nil, err
		}
		c, err := domain.SetCalendar(existing, call, args)
		if err != nil {
			return nil, err
		}
		if err := t.put(domain.KindCalendar, year, c); err != nil {
			return nil, err
		}
		return c, t.put(domain.KindCalendarVersion, domain.VersionID(year, c.Version), c)
	})
}

// SetRule records a deadline rule; see [domain.SetRule].
func (*governance) SetRule(t *transaction, arg string) (string, error) {
	return submit(t, arg, func(args domain.SetRuleArgs) (any, error) {
		event := string(args.Event)
		existing, err := load[domain.DeadlineRule](t, domain.KindRule, event)
		if err != nil {
			return nil, err
		}
		call, err := t.call()
		if err != nil {
			return nil, err
		}
		r, err := domain.SetRule(existing, call, args)
		if err != nil {
			return nil, err
		}
		if err := t.put(domain.KindRule, event, r); err != nil {
			return nil, err
		}
		return r, t.put(domain.KindRuleVersion, domain.VersionID(event, r.Version), r)
	})
}

// GetCalendar answers the calendar in force of a year.
func (*governance) GetCalendar(t *transaction, arg string) (string, error) {
	return get[domain.Calendar](t, arg, domain.KindCalendar, func(a calendarArgs) string { return strconv.Itoa(a.Year) })
}

// GetRule answers the deadline rule in force of an event.
func (*governance) GetRule(t *transaction, arg string) (string, error) {
	return get[domain.DeadlineRule](t, arg, domain.KindRule, func(a ruleArgs) string { return string(a.Event) })
}

// calendarArgs are the argument of governance:GetCalendar.
type calendarArgs struct {
	Year int `json:"year"`
}

// Validate reports what is wrong with the argument.
func (a calendarArgs) Validate() error {
	if a.Year < 1000 || a.Year > 9999 {
		return &domain.Error{Kind: domain.Invalid, Msg: "year: must have 4 digits"}
	}
	return nil
}

// ruleArgs are the argument of governance:GetRule.
type ruleArgs struct {
	Event domain.DeadlineEvent `json:"event"`
}

// Validate reports what is wrong with the argument.
func (a ruleArgs) Validate() error {
	if !slices.Contains(domain.DeadlineEvents, a.Event) {
		return &domain.Error{Kind: domain.Invalid, Msg: "event: not one that starts a time limit"}
	}
	return nil
}

// departments reads all departments, in order of code. A range read is checked
// for phantoms at commit, so of two departments that found the consortium at
// the same time one fails.
func (t *transaction) departments() (_ []domain.Department, err error) {
	first := domain.KeyOf(domain.KindDepartment, "")
	rows, err := t.GetStub().GetStateByRange(first, first+"\x7f")
	if err != nil {
		return nil, fmt.Errorf("internal: read departments: %w", err)
	}
	defer func() {
		if closeErr := rows.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("internal: read departments: %w", closeErr)
		}
	}()
	var list []domain.Department
	for rows.HasNext() {
		row, err := rows.Next()
		if err != nil {
			return nil, fmt.Errorf("internal: read departments: %w", err)
		}
		d, err := decode[domain.Department](row.GetValue(), row.GetKey())
		if err != nil {
			return nil, err
		}
		list = append(list, *d)
	}
	return list, nil
}
