package domain

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
// USCC are each registered once.
func RegisterDepartment(registered []Department, who Caller, tx Tx, args RegisterDepartmentArgs) (Department, error) {
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
			case SideAny, SideOwner, SideProvider, SideConsumer: // admit nobody
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
