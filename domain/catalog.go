package domain

import (
	"fmt"
	"regexp"
)

// ShareType is the sharing attribute 共享类型 of a resource.
type ShareType int

// The share types with the codes of the national catalog guide.
const (
	Unconditional ShareType = 1 // 无条件共享
	Conditional   ShareType = 2 // 有条件共享
	NotShared     ShareType = 3 // 不予共享
)

// OpenType is the attribute of opening to the public 开放类型 of a resource.
type OpenType int

// The open types.
const (
	OpenFreely      OpenType = 1 // 无条件开放
	OpenConditional OpenType = 2 // 有条件开放
	NotOpen         OpenType = 3 // 不予开放
)

// CatalogState is the state 目录状态 of a catalog entry.
type CatalogState string

// The states of a catalog entry.
const (
	CatalogDraft          CatalogState = "draft"           // 草稿
	CatalogRegPending     CatalogState = "reg_pending"     // 待注册审核
	CatalogRegistered     CatalogState = "registered"      // 已注册
	CatalogRegRejected    CatalogState = "reg_rejected"    // 退回修改
	CatalogPubPending     CatalogState = "pub_pending"     // 待发布审核
	CatalogPubRejected    CatalogState = "pub_rejected"    // 发布审核退回
	CatalogPublished      CatalogState = "published"       // 已发布
	CatalogChangePending  CatalogState = "change_pending"  // 变更审核
	CatalogOfflinePending CatalogState = "offline_pending" // 下线审核
	CatalogOffline        CatalogState = "offline"         // 已下线
	CatalogRetired        CatalogState = "retired"         // 已撤销
)

// CatalogItem is one information item 信息项.
type CatalogItem struct {
	Name      string    `json:"name"`
	Type      string    `json:"type"`  // C N Y D T L M G B I F: 字符 数值 货币 日期 日期时间 逻辑 备注 通用 双精度 整型 浮点
	Level     int       `json:"level"` // 数据分级 1–4
	Sensitive bool      `json:"sensitive"`
	ShareType ShareType `json:"shareType"` // never looser than the entry's
}

// CatalogContent is what the provider department declares of a resource: the
// core metadata 核心元数据 of 政务信息资源目录编制指南（试行）, with what audits found
// missing (审计署 2024: the information system, the share condition).
type CatalogContent struct {
	Code           string        `json:"code"` // 信息资源代码: 类1位 项2位 目3位 细目 "/" 顺序码
	Name           string        `json:"name"` // 信息资源名称
	Abstract       string        `json:"abstract"`
	ProviderUSCC   string        `json:"providerUscc"`   // 提供方代码
	ProviderOffice string        `json:"providerOffice"` // 提供方内部部门; may be ""
	Classification string        `json:"classification"` // 信息资源分类, free text theme
	Format         string        `json:"format"`         // 信息资源格式分类: 电子文件 电子表格 数据库 图形图像 流媒体 自描述格式 服务接口, in English: file spreadsheet database image stream self_describing api
	FormatType     string        `json:"formatType"`     // 格式类型 within the class, lower case, for example "csv"; may be ""
	Items          []CatalogItem `json:"items"`
	ShareType      ShareType     `json:"shareType"`
	ShareCondition string        `json:"shareCondition"` // required when conditional; "" otherwise
	LegalBasis     []string      `json:"legalBasis"`     // required when conditional or not shared (三明 22)
	ShareMode      string        `json:"shareMode"`      // platform_table platform_file platform_api mail medium
	OpenType       OpenType      `json:"openType"`
	OpenCondition  string        `json:"openCondition"` // required when opening is conditional; "" otherwise
	UpdateCycle    string        `json:"updateCycle"`   // irregular realtime daily weekly monthly quarterly half_yearly yearly other
	RelatedCodes   []string      `json:"relatedCodes"`  // 关联资源代码, of recorded entries
	DutyRef        string        `json:"dutyRef"`       // 职责/权责事项
	SystemRef      string        `json:"systemRef"`     // 信息系统, required
	RegionCode     string        `json:"regionCode"`    // 行政区划, GB/T 2260, 6 digits
	Level          int           `json:"level"`         // 数据分级 1–4, not lower than any item's
	PersonalData   string        `json:"personalData"`  // 涉及个人信息: none general sensitive
}

// CatalogEntry is a catalog entry 目录条目: the version in force and the state. It
// is what its events make of it; see [ReplayCatalog]. Its key holds less; see
// [StoredCatalogEntry].
type CatalogEntry struct {
	Meta
	Provider        DepartmentCode `json:"provider"`
	Reviewer        Side           `json:"reviewer"` // whose reviewers decide: [SideLead], or [SidePeer] for what the lead itself provides
	Version         int            `json:"version"`  // of Content: 1, 2, …
	State           CatalogState   `json:"state"`
	Content         CatalogContent `json:"content"`
	ContentDigest   string         `json:"contentDigest"`   // SHA-256 of Content's canonical bytes
	Seq             int            `json:"seq"`             // number of the last event
	Event           string         `json:"event"`           // the last event: draft submit publish approve return change offline retire require_update mark_overdue
	LastVersion     int            `json:"lastVersion"`     // the highest version there is
	RecordedVersion int            `json:"recordedVersion"` // the versions up to this one have a [CatalogVersion]
	Pending         int            `json:"pending"`         // the version under review while a change is pending; 0 otherwise
	Opinion         string         `json:"opinion"`         // the last reviewer's words; "" before review and for an approval without any
	Reason          string         `json:"reason"`          // why it must be updated, goes or went offline, or was retired; "" otherwise
	Review          *Clock         `json:"review"`          // the reviewer's time limit while a review is pending; null otherwise
	Update          *Clock         `json:"update"`          // the provider's time limit after a change of duties; null otherwise
}

// InForce is the version that the entry itself holds.
func (e CatalogEntry) InForce() CatalogVersion {
	return CatalogVersion{Meta: e.Meta, Provider: e.Provider, Version: e.Version, Content: e.Content, ContentDigest: e.ContentDigest}
}

// CatalogVersion is one immutable version of a catalog entry's content. It is
// recorded when the entry itself does not hold it: while it is under review, and
// from when another one takes its place. Content is by far the largest part of a
// record, and most entries never have a second version.
type CatalogVersion struct {
	Meta
	Provider      DepartmentCode `json:"provider"`
	Version       int            `json:"version"`
	Content       CatalogContent `json:"content"`
	ContentDigest string         `json:"contentDigest"`
}

// CatalogEvent is what one transaction did to entries of one provider. Every
// entry says in txId and seq which event it comes from.
type CatalogEvent struct {
	Meta
	Provider DepartmentCode `json:"provider"`
	Reviewer Side           `json:"reviewer"`
	Event    string         `json:"event"`
	Review   *Clock         `json:"review"`  // after the event, of every entry
	Entries  []CatalogStep  `json:"entries"` // as the transaction names them
}

// CatalogStep is an entry after an event; see [CatalogEntry] for the fields.
type CatalogStep struct {
	Code            string       `json:"code"`
	Seq             int          `json:"seq"` // 1, 2, …
	State           CatalogState `json:"state"`
	Version         int          `json:"version"`
	LastVersion     int          `json:"lastVersion"`
	RecordedVersion int          `json:"recordedVersion,omitempty"`
	Pending         int          `json:"pending,omitempty"`
	Opinion         string       `json:"opinion,omitempty"`
	Reason          string       `json:"reason,omitempty"`
	Update          *Clock       `json:"update,omitempty"`
}

// CatalogChange is what a catalog transaction writes.
type CatalogChange struct {
	Entry     CatalogEntry
	Versions  []CatalogVersion // that are recorded from now on
	TakenName string           // the [CatalogNameID] of a name that the entry has from now on; "" when there is none
	FreedName string           // that of a name that is free from now on; "" when there is none
}

// RegisterCatalogArgs are the argument of catalog:Register. A draft is kept
// without review until catalog:Submit, or until it is registered again without
// Draft.
type RegisterCatalogArgs struct {
	Content CatalogContent `json:"content"`
	Draft   bool           `json:"draft"`
}

// RegisterBatchArgs are the argument of catalog:RegisterBatch: all entries are
// recorded, or none.
type RegisterBatchArgs struct {
	Contents []CatalogContent `json:"contents"` // 1 to [MaxBatch], of different codes and names
	Draft    bool             `json:"draft"`
}

// MaxBatch is how many catalog entries one transaction may change, or how many
// certificates it may issue or decide on.
const MaxBatch = 1000

// BatchResult is what a batch of catalog transactions answers. The records stand
// under their own keys.
type BatchResult struct {
	Codes  []string     `json:"codes"`  // as given
	State  CatalogState `json:"state"`  // of all of them, "" if they differ
	Digest string       `json:"digest"` // SHA-256 of the entries' digests, joined by newlines
}

// ReviewDecision is a reviewer's decision on a catalog entry.
type ReviewDecision string

// The decisions.
const (
	Approve ReviewDecision = "approve" // 通过
	Return  ReviewDecision = "return"  // 退回, with an opinion
)

// ReviewCatalogArgs are the argument of catalog:Review. What is reviewed, the
// registration, publication, change or going offline, follows from the entry's
// state.
type ReviewCatalogArgs struct {
	Code     string         `json:"code"`
	Decision ReviewDecision `json:"decision"`
	Opinion  string         `json:"opinion"` // required when returned
}

// ReviewBatchArgs are the argument of catalog:ReviewBatch.
type ReviewBatchArgs struct {
	Codes    []string       `json:"codes"`
	Decision ReviewDecision `json:"decision"`
	Opinion  string         `json:"opinion"`
}

// CodeArgs name a catalog entry: the argument of catalog:Submit, catalog:Publish,
// catalog:MarkOverdue and catalog:Get.
type CodeArgs struct {
	Code string `json:"code"`
}

// CodesArgs name catalog entries: the argument of catalog:PublishBatch.
type CodesArgs struct {
	Codes []string `json:"codes"`
}

// ChangeCatalogArgs are the argument of catalog:Change: new content for a
// published entry. The version in force stays so until the change is approved.
type ChangeCatalogArgs struct {
	Content CatalogContent `json:"content"`
}

// Retirement says how an entry leaves the catalog.
type Retirement string

// The ways.
const (
	TakeOffline Retirement = "offline" // 下线, after review; it may be published again
	Withdraw    Retirement = "retire"  // 撤销, for ever; of an entry that is not published
)

// RetireCatalogArgs are the argument of catalog:Retire.
type RetireCatalogArgs struct {
	Code   string     `json:"code"`
	Way    Retirement `json:"way"`
	Reason string     `json:"reason"`
}

// RequireUpdateArgs are the argument of catalog:RequireUpdate: the provider's
// duties changed, and the entry must follow within the time limit of the rule
// [DeadlineCatalogUpdate] (青海 6: 20 working days). The provider reports it, or
// the lead finds it.
type RequireUpdateArgs struct {
	Code   string `json:"code"`
	Reason string `json:"reason"` // what changed, for example the document that reassigned the duty
}

// FieldChange is one difference between two versions of content.
type FieldChange struct {
	Field  string // as in findings: "shareType", "items[库名].level"
	Before string // JSON of the value; "" when it was not there
	After  string // JSON of the value; "" when it is not there any more
}

// The closed lists of catalog content.
var (
	itemTypes     = [...]string{"C", "N", "Y", "D", "T", "L", "M", "G", "B", "I", "F"}
	updateCycles  = [...]string{"irregular", "realtime", "daily", "weekly", "monthly", "quarterly", "half_yearly", "yearly", "other"}
	personalKinds = [...]string{"none", "general", "sensitive"}
)

// MaxRelated is how many related resources an entry may name.
const MaxRelated = 50

// formatClass is a class of formats 信息资源格式分类.
type formatClass struct {
	name  string
	types []string // 格式类型; nil: free text, as the data describe themselves
	modes []string // how such a resource may be delivered
}

// formatClasses are the classes: an interface is delivered as an interface, a
// table as a table, everything else as a file on the platform, by mail or on a
// medium.
var formatClasses = [...]formatClass{
	{"file", []string{"doc", "docx", "pdf", "ofd", "wps", "txt", "html", "xml", "rtf", "ppt", "pptx", "odt", "md", "zip"}, fileModes},
	{"spreadsheet", []string{"xls", "xlsx", "et", "csv", "tsv", "ods"}, fileModes},
	{"database", []string{
		"oracle", "mysql", "mariadb", "postgresql", "sqlserver", "db2", "sqlite", "access", "dbf", "sybase", "informix",
		"dm", "kingbase", "gbase", "oscar", "opengauss", "gaussdb", "oceanbase", "tidb", "polardb", "tdsql",
		"mongodb", "redis", "hive", "hbase", "clickhouse", "elasticsearch",
	}, []string{"platform_table"}},
	{"image", []string{"jpg", "jpeg", "png", "gif", "bmp", "tif", "tiff", "svg", "webp", "shp", "dwg", "dxf", "geotiff"}, fileModes},
	{"stream", []string{"mp4", "avi", "mov", "mkv", "flv", "wmv", "mpeg", "swf", "rm", "rtsp", "rtmp", "hls", "mp3", "wav", "aac", "flac"}, fileModes},
	{"self_describing", nil, fileModes},
	{"api", []string{"rest", "soap", "webservice", "graphql", "grpc", "odata", "wms", "wfs", "wmts"}, []string{"platform_api"}},
}

var fileModes = []string{"platform_file", "mail", "medium"}

// classOf is the class of that name, nil if there is none.
func classOf(format string) *formatClass {
	for i := range formatClasses {
		if formatClasses[i].name == format {
			return &formatClasses[i]
		}
	}
	return nil
}

// structured reports whether resources of a format consist of named items.
func structured(format string) bool {
	return format == "spreadsheet" || format == "database" || format == "api"
}

// The rules of catalog content that have more to say than a word.
const (
	nameTakenRule  = "the department has a resource of this name already, told apart without spaces and punctuation"
	itemTwiceRule  = "repeats an earlier item, told apart without spaces and punctuation"
	unitRule       = "a number has its unit in the item's name, not in its type"
	formatTypeRule = "must be 1 to 40 characters of a-z 0-9 . + -, a letter or digit first"
)

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
	c.checkName(f)
	f.uscc("providerUscc", c.ProviderUSCC)
	f.text("providerOffice", c.ProviderOffice, MaxName)
	f.required("classification", c.Classification, MaxName)
	c.checkFormat(f)
	c.checkSharing(f)
	c.checkOpening(f)
	oneOf(f, "updateCycle", c.UpdateCycle, updateCycles[:]...)
	f.codes("relatedCodes", c.RelatedCodes, MaxRelated)
	for i, code := range c.RelatedCodes {
		if code == c.Code {
			f.add(fmt.Sprintf("relatedCodes[%d]", i), "is the resource itself")
		}
	}
	f.text("dutyRef", c.DutyRef, MaxText)
	f.required("systemRef", c.SystemRef, MaxText)
	f.match("regionCode", c.RegionCode, regionShape, "must be the 6 digits of an administrative division (GB/T 2260)")
	if c.Level < 1 || c.Level > 4 {
		f.add("level", "must be 1 to 4")
	}
	oneOf(f, "personalData", c.PersonalData, personalKinds[:]...)
}

// checkName checks what the resource is called and said to be.
func (c CatalogContent) checkName(f *findings) {
	f.required("name", c.Name, MaxName)
	f.required("abstract", c.Abstract, MaxAbstract)
	plain := PlainName(c.Name)
	if plain == "" {
		if c.Name != "" {
			f.add("name", "only spaces and punctuation")
		}
		return
	}
	if plain == PlainName(c.SystemRef) {
		f.add("name", "is the name of the information system, not of a resource")
	}
}

func (c CatalogContent) checkFormat(f *findings) {
	class := classOf(c.Format)
	if class == nil {
		names := make([]string, len(formatClasses))
		for i, each := range formatClasses {
			names[i] = each.name
		}
		oneOf(f, "format", c.Format, names...)
		return
	}
	oneOf(f, "shareMode", c.ShareMode, class.modes...)
	switch {
	case c.FormatType == "":
	case class.types == nil:
		f.match("formatType", c.FormatType, formatTypeShape, formatTypeRule)
	default:
		oneOf(f, "formatType", c.FormatType, class.types...)
	}
}

// checkSharing checks the items and how they are shared.
func (c CatalogContent) checkSharing(f *findings) {
	oneOf(f, "shareType", c.ShareType, Unconditional, Conditional, NotShared)
	restricted := c.ShareType != Unconditional
	if len(c.Items) == 0 && structured(c.Format) {
		f.add("items", "required for the formats spreadsheet, database and api")
	}
	if len(c.Items) > MaxItems {
		f.add("items", fmt.Sprintf("more than %d entries", MaxItems))
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
}

// checkOpening checks the opening to the public, which never goes further than
// the sharing between departments.
func (c CatalogContent) checkOpening(f *findings) {
	oneOf(f, "openType", c.OpenType, OpenFreely, OpenConditional, NotOpen)
	if c.OpenType == OpenConditional {
		f.required("openCondition", c.OpenCondition, MaxAbstract)
	} else if c.OpenCondition != "" {
		f.add("openCondition", "only conditional opening has a condition")
	}
	if c.OpenType != OpenFreely {
		return
	}
	if c.PersonalData == "sensitive" {
		f.add("openType", "sensitive personal data is not opened without condition")
	}
	if c.ShareType == NotShared {
		f.add("openType", "what is not shared is not opened without condition")
	}
}

// checkItems reports whether any item is not unconditional.
func (c CatalogContent) checkItems(f *findings) bool {
	restricted := false
	names := make(map[string]bool, len(c.Items))
	for i, item := range c.Items {
		at := fmt.Sprintf("items[%d]", i)
		f.required(at+".name", item.Name, MaxName)
		switch plain := PlainName(item.Name); {
		case plain == "" && item.Name != "":
			f.add(at+".name", "only spaces and punctuation")
		case plain != "" && names[plain]:
			f.add(at+".name", itemTwiceRule)
		default:
			names[plain] = true
		}
		if unitedType.MatchString(item.Type) {
			f.add(at+".type", unitRule)
		} else {
			oneOf(f, at+".type", item.Type, itemTypes[:]...)
		}
		if item.Level < 1 || item.Level > 4 {
			f.add(at+".level", "must be 1 to 4")
		} else if item.Level > c.Level && c.Level >= 1 && c.Level <= 4 {
			f.add(at+".level", "higher than the resource's")
		}
		oneOf(f, at+".shareType", item.ShareType, Unconditional, Conditional, NotShared)
		if item.ShareType < c.ShareType {
			f.add(at+".shareType", "looser than the resource's")
		}
		restricted = restricted || item.ShareType != Unconditional
	}
	return restricted
}

// unitedType is the type of a number followed by a unit, as in "N（万元）" or "F米".
var unitedType = regexp.MustCompile(`^[NYBIF][^A-Za-z0-9]`)

var formatTypeShape = regexp.MustCompile(`^[a-z0-9][a-z0-9.+-]{0,39}$`)

// Validate reports everything that is wrong with the argument.
func (a RegisterCatalogArgs) Validate() error {
	var f findings
	a.check(&f)
	return f.err()
}

func (a RegisterCatalogArgs) check(f *findings) {
	f.prefix = "content."
	a.Content.check(f)
	f.prefix = ""
}

// Validate reports everything that is wrong with the argument: of every entry,
// and what entries have in common that no two may.
func (a RegisterBatchArgs) Validate() error {
	var f findings
	a.check(&f)
	return f.err()
}

// check reports whether the number of entries is right; it does not look at the
// entries otherwise.
func (a RegisterBatchArgs) check(f *findings) bool {
	if !f.batch("contents", len(a.Contents)) {
		return false
	}
	codes, names := make(map[string]bool, len(a.Contents)), make(map[string]bool, len(a.Contents))
	for i, content := range a.Contents {
		f.prefix = contentsPrefix(i)
		content.check(f)
		if content.Code != "" && codes[content.Code] {
			f.add("code", "repeats the code of an earlier entry")
		}
		plain := PlainName(content.Name)
		if plain != "" && names[plain] {
			f.add("name", "repeats the name of an earlier entry, told apart without spaces and punctuation")
		}
		codes[content.Code], names[plain] = true, true
	}
	f.prefix = ""
	return true
}

// Validate reports everything that is wrong with the argument.
func (a ReviewCatalogArgs) Validate() error {
	var f findings
	f.catalogCode("code", a.Code)
	checkReview(&f, a.Decision, a.Opinion)
	return f.err()
}

// Validate reports everything that is wrong with the argument.
func (a ReviewBatchArgs) Validate() error {
	var f findings
	if f.batch("codes", len(a.Codes)) {
		f.codes("codes", a.Codes, MaxBatch)
	}
	checkReview(&f, a.Decision, a.Opinion)
	return f.err()
}

func checkReview(f *findings, decision ReviewDecision, opinion string) {
	oneOf(f, "decision", decision, Approve, Return)
	if decision == Return {
		f.required("opinion", opinion, MaxText)
	} else {
		f.text("opinion", opinion, MaxText)
	}
}

// Validate reports everything that is wrong with the argument.
func (a CodeArgs) Validate() error {
	var f findings
	f.catalogCode("code", a.Code)
	return f.err()
}

// Validate reports everything that is wrong with the argument.
func (a CodesArgs) Validate() error {
	var f findings
	if f.batch("codes", len(a.Codes)) {
		f.codes("codes", a.Codes, MaxBatch)
	}
	return f.err()
}

// Validate reports everything that is wrong with the argument.
func (a ChangeCatalogArgs) Validate() error {
	var f findings
	a.check(&f)
	return f.err()
}

func (a ChangeCatalogArgs) check(f *findings) { RegisterCatalogArgs{Content: a.Content}.check(f) }

// Validate reports everything that is wrong with the argument.
func (a RetireCatalogArgs) Validate() error {
	var f findings
	f.catalogCode("code", a.Code)
	oneOf(&f, "way", a.Way, TakeOffline, Withdraw)
	f.required("reason", a.Reason, MaxText)
	return f.err()
}

// Validate reports everything that is wrong with the argument.
func (a RequireUpdateArgs) Validate() error {
	var f findings
	f.catalogCode("code", a.Code)
	f.required("reason", a.Reason, MaxText)
	return f.err()
}

// batch checks how many entries a batch has.
func (f *findings) batch(field string, n int) bool {
	switch {
	case n == 0:
		f.add(field, "required")
	case n > MaxBatch:
		f.add(field, fmt.Sprintf("more than %d entries", MaxBatch))
	}
	return n >= 1 && n <= MaxBatch
}

// codes checks a list of catalog codes without repetition.
func (f *findings) codes(field string, list []string, limit int) {
	if len(list) > limit {
		f.add(field, fmt.Sprintf("more than %d entries", limit))
		return
	}
	seen := make(map[string]bool, len(list))
	for i, code := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		f.catalogCode(at, code)
		if seen[code] {
			f.add(at, "repeats an earlier entry")
		}
		seen[code] = true
	}
}

// entryState is the state of an entry that may not exist.
func entryState(e *CatalogEntry) string {
	if e == nil {
		return Absent
	}
	return string(e.State)
}
