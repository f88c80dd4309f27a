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
