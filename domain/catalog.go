package domain

// ShareType is the sharing attribute 共享类型 of a resource.
type ShareType int

// The share types with the codes of the national catalog guide.
const (
	Unconditional ShareType = 1 // 无条件共享
	Conditional   ShareType = 2 // 有条件共享
	NotShared     ShareType = 3 // 不予共享
)

// CatalogState is the state 目录状态 of a catalog entry.
type CatalogState string

// The states of a catalog entry that this version reaches.
const (
	CatalogRegPending  CatalogState = "reg_pending"  // 待注册审核
	CatalogRegistered  CatalogState = "registered"   // 已注册
	CatalogRegRejected CatalogState = "reg_rejected" // 退回修改
	CatalogPublished   CatalogState = "published"    // 已发布
)

// CatalogItem is one information item 信息项.
type CatalogItem struct {
	Name      string    `json:"name"`
	Type      string    `json:"type"`  // C N Y D T L M G B I F: 字符 数值 货币 日期 日期时间 逻辑 备注 通用 双精度 整型 浮点
	Level     int       `json:"level"` // 数据分级 1–4
	Sensitive bool      `json:"sensitive"`
	ShareType ShareType `json:"shareType"` // never looser than the entry's
}

// CatalogContent is what the provider department declares of a resource.
type CatalogContent struct {
	Code           string        `json:"code"` // 信息资源代码: 类1位 项2位 目3位 细目 "/" 顺序码
	Name           string        `json:"name"`
	Abstract       string        `json:"abstract"`
	ProviderUSCC   string        `json:"providerUscc"`
	Classification string        `json:"classification"` // 信息资源分类, free text theme
	Format         string        `json:"format"`         // 电子文件 电子表格 数据库 图形图像 流媒体 自描述格式 服务接口, in English: file spreadsheet database image stream self_describing api
	Items          []CatalogItem `json:"items"`
	ShareType      ShareType     `json:"shareType"`
	ShareCondition string        `json:"shareCondition"` // required when conditional; "" otherwise
	LegalBasis     []string      `json:"legalBasis"`     // required when conditional or not shared (三明 22)
	ShareMode      string        `json:"shareMode"`      // platform_table platform_file platform_api mail medium
	UpdateCycle    string        `json:"updateCycle"`    // irregular realtime daily weekly monthly quarterly half_yearly yearly other
	DutyRef        string        `json:"dutyRef"`        // 职责/权责事项
	SystemRef      string        `json:"systemRef"`      // 信息系统, required
	RegionCode     string        `json:"regionCode"`     // GB/T 2260, 6 digits
	PersonalData   string        `json:"personalData"`   // none general sensitive
}

// CatalogEntry is a catalog entry 目录条目: the current version and its state.
type CatalogEntry struct {
	Meta
	Provider      DepartmentCode `json:"provider"`
	Version       int            `json:"version"` // 1, 2, …
	State         CatalogState   `json:"state"`
	Content       CatalogContent `json:"content"`
	ContentDigest string         `json:"contentDigest"` // SHA-256 of Content's canonical bytes
	Opinion       string         `json:"opinion"`       // the reviewer's words; "" before review
}

// CatalogVersion is one immutable version of a catalog entry's content.
type CatalogVersion struct {
	Meta
	Provider      DepartmentCode `json:"provider"`
	Version       int            `json:"version"`
	Content       CatalogContent `json:"content"`
	ContentDigest string         `json:"contentDigest"`
}

// RegisterCatalogArgs are the argument of catalog:Register.
type RegisterCatalogArgs struct {
	Content CatalogContent `json:"content"`
}

// ReviewDecision is a reviewer's decision on a catalog entry.
type ReviewDecision string

// The decisions.
const (
	Approve ReviewDecision = "approve" // 通过
	Return  ReviewDecision = "return"  // 退回, with an opinion
)

// ReviewCatalogArgs are the argument of catalog:Review.
type ReviewCatalogArgs struct {
	Code     string         `json:"code"`
	Decision ReviewDecision `json:"decision"`
	Opinion  string         `json:"opinion"` // required when returned
}

// CodeArgs name a catalog entry: the argument of catalog:Publish and catalog:Get.
type CodeArgs struct {
	Code string `json:"code"`
}
