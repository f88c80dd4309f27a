package domain

import (
	"slices"
	"strings"
)

// Department is a member of the consortium, as registered on the ledger.
type Department struct {
	Meta
	Code   DepartmentCode `json:"code"`
	MSPID  MSPID          `json:"mspId"`
	NameZh string         `json:"nameZh"`
	NameEn string         `json:"nameEn"`
	USCC   string         `json:"uscc"` // 统一社会信用代码, GB 32100
	Lead   bool           `json:"lead"` // 政务数据共享主管部门
}

// Members lists the departments in one record, so that a transaction learns them
// with one read: who is the lead, and whose peers endorse.
type Members struct {
	Meta
	Lead        DepartmentCode `json:"lead"`
	Departments []Member       `json:"departments"` // in order of code
}

// Member is a department in [Members].
type Member struct {
	Code  DepartmentCode `json:"code"`
	MSPID MSPID          `json:"mspId"`
}

// RegisterDepartmentArgs are the argument of governance:RegisterDepartment.
type RegisterDepartmentArgs struct {
	Code   DepartmentCode `json:"code"`
	MSPID  MSPID          `json:"mspId"`
	NameZh string         `json:"nameZh"`
	NameEn string         `json:"nameEn"`
	USCC   string         `json:"uscc"`
	Lead   bool           `json:"lead"`
}

// Validate reports everything that is wrong with the argument.
func (a RegisterDepartmentArgs) Validate() error {
	var f findings
	f.match("code", string(a.Code), departmentShape, "must be 2 to 20 characters of a-z 0-9, a letter first")
	f.match("mspId", string(a.MSPID), mspShape, "must be 1 to 64 characters of A-Z a-z 0-9 . -, a letter first")
	f.required("nameZh", a.NameZh, MaxName)
	f.required("nameEn", a.NameEn, MaxName)
	f.uscc("uscc", a.USCC)
	return f.err()
}

// RegisterDepartment adds a department to the consortium. registered are all
// departments on the ledger. The first to register is the lead and registers
// itself; afterwards only the lead's admin registers others. Code, MSP ID and
// USCC are each registered once. The members include the new one.
func RegisterDepartment(registered []Department, who Caller, tx Tx, args RegisterDepartmentArgs) (Department, Members, error) {
	d, err := registerDepartment(registered, who, tx, args)
	if err != nil {
		return Department{}, Members{}, err
	}
	var m Members
	for _, each := range append(registered[:len(registered):len(registered)], d) {
		m.Departments = append(m.Departments, Member{each.Code, each.MSPID})
		if each.Lead {
			m.Lead = each.Code
		}
	}
	slices.SortFunc(m.Departments, func(a, b Member) int { return strings.Compare(string(a.Code), string(b.Code)) })
	return d, m, seal(&m, SchemaMembers, who, tx)
}

func registerDepartment(registered []Department, who Caller, tx Tx, args RegisterDepartmentArgs) (Department, error) {
	if err := args.Validate(); err != nil {
		return Department{}, err
	}
	var own *Department
	for i := range registered {
		if registered[i].Code == who.Department {
			own = &registered[i]
		}
	}
	founding := len(registered) == 0
	m := move{
		who: who, kind: KindDepartment, what: "department " + string(args.Code),
		transaction: "governance:RegisterDepartment", event: "admit",
		acts: func(s Side) bool {
			switch s {
			case SideFounder:
				return args.Lead && args.Code == who.Department && args.MSPID == who.MSPID
			case SideLead:
				return own != nil && own.Lead
			case SideAny, SideOwner, SideProvider, SideConsumer, SidePeer: // admit nobody
			}
			return false
		},
	}
	if founding {
		m.event = "found"
	} else if err := CheckMember(own, who); err != nil {
		return Department{}, err
	}
	if _, err := m.next(); err != nil {
		return Department{}, err
	}
	for _, d := range registered {
		switch {
		case d.Code == args.Code:
			return Department{}, refuse(Exists, "department %s is recorded already", d.Code)
		case d.MSPID == args.MSPID:
			return Department{}, refuse(Exists, "MSP %s is recorded already, for department %s", d.MSPID, d.Code)
		case d.USCC == args.USCC:
			return Department{}, refuse(Exists, "unified social credit code %s is recorded already, for department %s", d.USCC, d.Code)
		}
	}
	if args.Lead && !founding {
		return Department{}, refuse(Invalid, "lead: the consortium has a lead already")
	}
	d := Department{Code: args.Code, MSPID: args.MSPID, NameZh: args.NameZh, NameEn: args.NameEn, USCC: args.USCC, Lead: args.Lead}
	if err := seal(&d, SchemaDepartment, who, tx); err != nil {
		return Department{}, err
	}
	return d, nil
}
