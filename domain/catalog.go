package domain

import "strconv"

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

// The closed lists of catalog content.
var (
	itemTypes     = [...]string{"C", "N", "Y", "D", "T", "L", "M", "G", "B", "I", "F"}
	updateCycles  = [...]string{"irregular", "realtime", "daily", "weekly", "monthly", "quarterly", "half_yearly", "yearly", "other"}
	personalKinds = [...]string{"none", "general", "sensitive"}
)

// shareModes answers how a resource of a format may be delivered: an interface
// as an interface, a table as a table, everything else as a file on the platform,
// by mail or on a medium. It is nil for an unknown format.
func shareModes(format string) []string {
	switch format {
	case "api":
		return []string{"platform_api"}
	case "database":
		return []string{"platform_table"}
	case "file", "spreadsheet", "image", "stream", "self_describing":
		return []string{"platform_file", "mail", "medium"}
	}
	return nil
}

// structured reports whether resources of a format consist of named items.
func structured(format string) bool {
	return format == "spreadsheet" || format == "database" || format == "api"
}

// Validate reports everything that is wrong with the content. It refuses what
// audits of data catalogs found most: a resource without its system, a condition
// that is not stated, a restriction without legal basis.
func (c CatalogContent) Validate() error {
	var f findings
	c.check(&f)
	return f.err()
}

func (c CatalogContent) check(f *findings) {
	f.catalogCode("code", c.Code)
	f.required("name", c.Name, MaxName)
	f.required("abstract", c.Abstract, MaxAbstract)
	f.uscc("providerUscc", c.ProviderUSCC)
	f.required("classification", c.Classification, MaxName)
	modes := shareModes(c.Format)
	if modes == nil {
		f.add("format", "not one of file, spreadsheet, database, image, stream, self_describing, api")
	} else {
		oneOf(f, "shareMode", c.ShareMode, modes...)
	}
	oneOf(f, "shareType", c.ShareType, Unconditional, Conditional, NotShared)
	restricted := c.ShareType != Unconditional
	if len(c.Items) == 0 && structured(c.Format) {
		f.add("items", "required for the formats spreadsheet, database and api")
	}
	if len(c.Items) > MaxItems {
		f.add("items", "more than 500 entries")
	} else {
		restricted = c.checkItems(f) || restricted
	}
	if c.ShareType == Conditional {
		f.required("shareCondition", c.ShareCondition, MaxAbstract)
	} else if c.ShareCondition != "" {
		f.add("shareCondition", "only a conditional resource has a condition")
	}
	if restricted && len(c.LegalBasis) == 0 {
		f.add("legalBasis", "required unless the resource and all its items are unconditional")
	}
	f.texts("legalBasis", c.LegalBasis, MaxBases, MaxText)
	oneOf(f, "updateCycle", c.UpdateCycle, updateCycles[:]...)
	f.text("dutyRef", c.DutyRef, MaxText)
	f.required("systemRef", c.SystemRef, MaxText)
	if c.Name != "" && c.Name == c.SystemRef {
		f.add("name", "is the name of the information system, not of a resource")
	}
	f.match("regionCode", c.RegionCode, regionShape, "must be the 6 digits of an administrative division (GB/T 2260)")
	oneOf(f, "personalData", c.PersonalData, personalKinds[:]...)
}

// checkItems reports whether any item is not unconditional.
func (c CatalogContent) checkItems(f *findings) bool {
	restricted := false
	names := make([]string, len(c.Items))
	for i, item := range c.Items {
		names[i] = item.Name
		at := "items[" + strconv.Itoa(i) + "]"
		oneOf(f, at+".type", item.Type, itemTypes[:]...)
		if item.Level < 1 || item.Level > 4 {
			f.add(at+".level", "must be 1 to 4")
		}
		oneOf(f, at+".shareType", item.ShareType, Unconditional, Conditional, NotShared)
		if item.ShareType < c.ShareType {
			f.add(at+".shareType", "looser than the resource's")
		}
		restricted = restricted || item.ShareType != Unconditional
	}
	f.texts("items.name", names, MaxItems, MaxName)
	return restricted
}

// Validate reports everything that is wrong with the argument.
func (a RegisterCatalogArgs) Validate() error {
	f := findings{prefix: "content."}
	a.Content.check(&f)
	return f.err()
}

// Validate reports everything that is wrong with the argument.
func (a ReviewCatalogArgs) Validate() error {
	var f findings
	f.catalogCode("code", a.Code)
	oneOf(&f, "decision", a.Decision, Approve, Return)
	if a.Decision == Return {
		f.required("opinion", a.Opinion, MaxText)
	} else {
		f.text("opinion", a.Opinion, MaxText)
	}
	return f.err()
}

// Validate reports everything that is wrong with the argument.
func (a CodeArgs) Validate() error {
	var f findings
	f.catalogCode("code", a.Code)
	return f.err()
}

// entryState is the state of an entry that may not exist.
func entryState(e *CatalogEntry) string {
	if e == nil {
		return Absent
	}
	return string(e.State)
}

// RegisterCatalog records a resource of the caller's department, dept, or new
// content for one that the lead returned. existing is the entry under the same
// code. A code belongs to its first provider for ever.
func RegisterCatalog(existing *CatalogEntry, who Caller, dept Department, tx Tx, args RegisterCatalogArgs) (CatalogEntry, CatalogVersion, error) {
	fail := func(err error) (CatalogEntry, CatalogVersion, error) { return CatalogEntry{}, CatalogVersion{}, err }
	if err := args.Validate(); err != nil {
		return fail(err)
	}
	what := "catalog entry " + args.Content.Code
	to, err := move{
		who: who, kind: KindCatalogEntry, what: what,
		transaction: "catalog:Register", from: entryState(existing),
		acts: func(s Side) bool {
			return s == SideAny || s == SideOwner && existing != nil && existing.Provider == who.Department
		},
	}.next()
	if err != nil {
		return fail(err)
	}
	if args.Content.ProviderUSCC != dept.USCC {
		return fail(refuse(Invalid, "content.providerUscc: not the code of department %s", dept.Code))
	}
	version := 1
	if existing != nil {
		if err := notBefore(what, existing.Meta, tx); err != nil {
			return fail(err)
		}
		version = existing.Version + 1
	}
	content, err := Canonical(args.Content)
	if err != nil {
		return fail(err)
	}
	e := CatalogEntry{
		Provider: who.Department, Version: version, State: CatalogState(to),
		Content: args.Content, ContentDigest: Digest(content),
	}
	v := CatalogVersion{Provider: e.Provider, Version: version, Content: e.Content, ContentDigest: e.ContentDigest}
	if err := seal(&e, SchemaCatalogEntry, who, tx); err != nil {
		return fail(err)
	}
	if err := seal(&v, SchemaCatalogVersion, who, tx); err != nil {
		return fail(err)
	}
	return e, v, nil
}

// ReviewCatalog records the decision of the lead's reviewer; dept is the
// caller's department.
func ReviewCatalog(existing *CatalogEntry, who Caller, dept Department, tx Tx, args ReviewCatalogArgs) (CatalogEntry, error) {
	if err := args.Validate(); err != nil {
		return CatalogEntry{}, err
	}
	e, err := moveCatalog(existing, who, tx, "catalog:Review", string(args.Decision), args.Code, func(s Side) bool {
		return s == SideLead && dept.Lead
	})
	if err != nil {
		return CatalogEntry{}, err
	}
	e.Opinion = args.Opinion
	return e, seal(&e, SchemaCatalogEntry, who, tx)
}

// PublishCatalog makes an approved entry available for requests.
func PublishCatalog(existing *CatalogEntry, who Caller, tx Tx, args CodeArgs) (CatalogEntry, error) {
	if err := args.Validate(); err != nil {
		return CatalogEntry{}, err
	}
	e, err := moveCatalog(existing, who, tx, "catalog:Publish", "", args.Code, func(s Side) bool {
		return s == SideOwner && existing != nil && existing.Provider == who.Department
	})
	if err != nil {
		return CatalogEntry{}, err
	}
	return e, seal(&e, SchemaCatalogEntry, who, tx)
}

// moveCatalog returns a copy of an existing entry in its next state.
func moveCatalog(existing *CatalogEntry, who Caller, tx Tx, transaction, event, code string, acts func(Side) bool) (CatalogEntry, error) {
	what := "catalog entry " + code
	to, err := move{
		who: who, kind: KindCatalogEntry, what: what, transaction: transaction, event: event,
		from: entryState(existing), acts: acts,
	}.next()
	if err != nil {
		return CatalogEntry{}, err
	}
	if err := notBefore(what, existing.Meta, tx); err != nil {
		return CatalogEntry{}, err
	}
	e := *existing
	e.State = CatalogState(to)
	return e, nil
}
