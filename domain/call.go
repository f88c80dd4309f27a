package domain

// Call is one transaction as the rules see it: who asks, for which department,
// when, and what the ledger says about working days and time limits.
type Call struct {
	Who       Caller
	Dept      Department // the caller's department, registered
	Lead      DepartmentCode
	Tx        Tx
	Deadlines Deadlines
}

// set decides whether the caller may set a record of governance, which only the
// lead does.
func (c Call) set(kind RecordKind, what, transaction string, recorded bool) error {
	from := Absent
	if recorded {
		from = stateRegistered
	}
	_, err := move{
		who: c.Who, kind: kind, what: what, transaction: transaction, from: from,
		acts: func(s Side) bool { return s == SideLead && c.Dept.Lead },
	}.next()
	return err
}
