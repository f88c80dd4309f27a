package domain

import (
	"slices"
	"strconv"
	"time"
)

// RequestState is the state of a share request 共享申请.
type RequestState string

// The states of a share request that this version reaches.
const (
	RequestSubmitted    RequestState = "submitted"     // 已提交
	RequestAgreed       RequestState = "agreed"        // 同意
	RequestPartlyAgreed RequestState = "partly_agreed" // 部分同意
	RequestRefused      RequestState = "refused"       // 不同意
)

// Period is a half-open span of time: From ≤ t < To.
type Period struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Quota bounds the use of a grant, in calls. Zero is not "unlimited": both must
// be at least 1.
type Quota struct {
	Total  int64 `json:"total"`
	PerDay int64 `json:"perDay"`
}

// ShareRequestContent is what the demand department (需求部门) asks for.
type ShareRequestContent struct {
	ID               string   `json:"id"` // 32 lower-case hexadecimal digits, chosen at random by the asker
	CatalogCode      string   `json:"catalogCode"`
	Items            []string `json:"items"`       // names of information items, at least one
	Purpose          string   `json:"purpose"`     // 使用场景, no personal data
	UseBasis         string   `json:"useBasis"`    // 使用依据
	ServiceItem      string   `json:"serviceItem"` // 事项编码
	ShareMode        string   `json:"shareMode"`
	Period           Period   `json:"period"`
	Quota            Quota    `json:"quota"`
	LetterDigest     string   `json:"letterDigest"`     // SHA-256 of the application letter 申请函件
	SecurityMeasures string   `json:"securityMeasures"` // 安全措施
}

// ShareRequest is a share request with its state.
type ShareRequest struct {
	Meta
	Content        ShareRequestContent `json:"content"`
	CatalogVersion int                 `json:"catalogVersion"` // the version that was published when it was asked for
	Consumer       DepartmentCode      `json:"consumer"`
	Provider       DepartmentCode      `json:"provider"`
	State          RequestState        `json:"state"`
	Seq            int                 `json:"seq"`         // number of the last event
	SubmittedAt    time.Time           `json:"submittedAt"` // transaction time of sharing:Request
	Reason         string              `json:"reason"`      // the provider's words; "" before the answer
	LegalBasis     []string            `json:"legalBasis"`  // of a refusal
	GrantID        string              `json:"grantId"`     // "" unless agreed or partly agreed; equal to the request's ID
}

// RequestEvent is one step of a share request.
type RequestEvent struct {
	Meta
	RequestID string       `json:"requestId"`
	Seq       int          `json:"seq"` // 1, 2, …
	Event     string       `json:"event"`
	State     RequestState `json:"state"` // after the event
	Reason    string       `json:"reason"`
}

// AnswerDecision is the provider's answer to a request.
type AnswerDecision string

// The decisions.
const (
	Agree  AnswerDecision = "agree"  // 同意
	Partly AnswerDecision = "partly" // 部分同意: fewer items or a smaller quota or period
	Refuse AnswerDecision = "refuse" // 不同意: reason and legal basis required
)

// AnswerArgs are the argument of sharing:Answer. Items, Period and Quota are
// read for a partial agreement only and must then lie within the request.
type AnswerArgs struct {
	ID         string         `json:"id"` // of the request
	Decision   AnswerDecision `json:"decision"`
	Reason     string         `json:"reason"`
	LegalBasis []string       `json:"legalBasis"`
	Items      []string       `json:"items"`
	Period     Period         `json:"period"`
	Quota      Quota          `json:"quota"`
}

// GrantState is the stored state of a grant; expiry is evaluated at read time.
type GrantState string

// GrantActive is the only stored state that this version reaches; GrantPending
// and GrantExpired are what [Grant.StatusAt] answers outside the period.
const (
	GrantActive  GrantState = "active"  // 使用中
	GrantPending GrantState = "pending" // 未到生效日
	GrantExpired GrantState = "expired" // 到期
)

// Grant is an authorization 授权 to use exact items of one catalog version.
type Grant struct {
	Meta
	ID               string         `json:"id"` // equal to the request's ID
	RequestID        string         `json:"requestId"`
	CatalogCode      string         `json:"catalogCode"`
	CatalogVersion   int            `json:"catalogVersion"`
	Items            []string       `json:"items"`
	Provider         DepartmentCode `json:"provider"`
	Consumer         DepartmentCode `json:"consumer"`
	Purpose          string         `json:"purpose"`
	ServiceItem      string         `json:"serviceItem"`
	ShareMode        string         `json:"shareMode"`
	Period           Period         `json:"period"`
	Quota            Quota          `json:"quota"`
	ConditionsDigest string         `json:"conditionsDigest"` // SHA-256 of the entry's share condition at the time
	State            GrantState     `json:"state"`
	Seq              int            `json:"seq"`
}

// IDArgs name a record by its identifier: the argument of sharing:GetGrant.
type IDArgs struct {
	ID string `json:"id"`
}

// Contains reports whether t lies in the period.
func (p Period) Contains(t time.Time) bool { return !t.Before(p.From) && t.Before(p.To) }

// within reports whether p lies in outer.
func (p Period) within(outer Period) bool {
	return !p.From.Before(outer.From) && !p.To.After(outer.To)
}

// Validate reports everything that is wrong with the content.
func (c ShareRequestContent) Validate() error {
	var f findings
	f.match("id", c.ID, hex32Shape, hex32Rule)
	f.catalogCode("catalogCode", c.CatalogCode)
	if len(c.Items) == 0 {
		f.add("items", "required")
	}
	f.texts("items", c.Items, MaxItems, MaxName)
	f.required("purpose", c.Purpose, MaxText)
	f.required("useBasis", c.UseBasis, MaxText)
	f.serviceItem("serviceItem", c.ServiceItem)
	oneOf(&f, "shareMode", c.ShareMode, "platform_table", "platform_file", "platform_api", "mail", "medium")
	f.period("period", c.Period)
	f.quota("quota", c.Quota)
	f.match("letterDigest", c.LetterDigest, hex64Shape, hex64Rule)
	f.required("securityMeasures", c.SecurityMeasures, MaxText)
	return f.err()
}

// Validate reports everything that is wrong with the argument.
func (a AnswerArgs) Validate() error {
	var f findings
	f.match("id", a.ID, hex32Shape, hex32Rule)
	oneOf(&f, "decision", a.Decision, Agree, Partly, Refuse)
	if a.Decision == Agree {
		f.text("reason", a.Reason, MaxText)
	} else {
		f.required("reason", a.Reason, MaxText)
	}
	if a.Decision == Refuse && len(a.LegalBasis) == 0 {
		f.add("legalBasis", "required for a refusal")
	}
	f.texts("legalBasis", a.LegalBasis, MaxBases, MaxText)
	if a.Decision == Partly {
		if len(a.Items) == 0 {
			f.add("items", "required for a partial agreement")
		}
		f.texts("items", a.Items, MaxItems, MaxName)
		f.period("period", a.Period)
		f.quota("quota", a.Quota)
		return f.err()
	}
	// Somebody who names fewer items and agrees to all of them by mistake would
	// give away more than they meant to.
	if len(a.Items) != 0 {
		f.add("items", "only for a partial agreement")
	}
	if !a.Period.From.IsZero() || !a.Period.To.IsZero() {
		f.add("period", "only for a partial agreement")
	}
	if a.Quota != (Quota{}) {
		f.add("quota", "only for a partial agreement")
	}
	return f.err()
}

// Validate reports everything that is wrong with the argument.
func (a IDArgs) Validate() error {
	var f findings
	f.match("id", a.ID, hex32Shape, hex32Rule)
	return f.err()
}

// RequestShare records that the caller's department asks for items of entry.
// existing is the request under the same id. The result includes the request's
// first event.
//
// A resource that declares no items, such as a document, is asked for as a whole:
// the one item is then the resource's name.
func RequestShare(existing *ShareRequest, who Caller, tx Tx, entry *CatalogEntry, args ShareRequestContent) (ShareRequest, RequestEvent, error) {
	fail := func(err error) (ShareRequest, RequestEvent, error) { return ShareRequest{}, RequestEvent{}, err }
	if err := args.Validate(); err != nil {
		return fail(err)
	}
	from := Absent
	if existing != nil {
		from = string(existing.State)
	}
	to, err := move{
		who: who, kind: KindRequest, what: "request " + args.ID, transaction: "sharing:Request", from: from,
		acts: func(s Side) bool {
			return s == SideConsumer && (entry == nil || entry.Provider != who.Department)
		},
	}.next()
	if err != nil {
		return fail(err)
	}
	if entry == nil {
		return fail(refuse(NotFound, "catalog entry %s is not recorded", args.CatalogCode))
	}
	if err := checkRequestable(entry, tx, args); err != nil {
		return fail(err)
	}
	r := ShareRequest{
		Content: args, CatalogVersion: entry.Version, Consumer: who.Department, Provider: entry.Provider,
		State: RequestState(to), Seq: 1, SubmittedAt: tx.Time, LegalBasis: []string{},
	}
	e := RequestEvent{RequestID: args.ID, Seq: 1, Event: "submit", State: r.State}
	if err := seal(&r, SchemaRequest, who, tx); err != nil {
		return fail(err)
	}
	if err := seal(&e, SchemaRequestEvent, who, tx); err != nil {
		return fail(err)
	}
	return r, e, nil
}

// checkRequestable compares a request with the entry it asks for.
func checkRequestable(entry *CatalogEntry, tx Tx, args ShareRequestContent) error {
	if entry.State != CatalogPublished {
		return refuse(Invalid, "catalogCode: the entry is %s, only a published one can be asked for", entry.State)
	}
	content := entry.Content
	var f findings
	if content.ShareType == NotShared {
		f.add("catalogCode", "the resource is not shared")
	}
	offered := make(map[string]ShareType, len(content.Items))
	for _, item := range content.Items {
		offered[item.Name] = item.ShareType
	}
	if len(content.Items) == 0 {
		offered[content.Name] = content.ShareType
	}
	for i, name := range args.Items {
		at := "items[" + strconv.Itoa(i) + "]"
		switch shareType, ok := offered[name]; {
		case !ok:
			f.add(at, "not an item of the resource")
		case shareType == NotShared:
			f.add(at, "the item is not shared")
		}
	}
	if args.ShareMode != content.ShareMode {
		f.add("shareMode", "the resource is shared by "+content.ShareMode)
	}
	if !args.Period.To.After(tx.Time) {
		f.add("period.to", "already past")
	}
	return f.err()
}

// AnswerShare records the provider's answer to a request. version is the catalog
// version that was asked for. The grant is nil for a refusal.
func AnswerShare(existing *ShareRequest, who Caller, tx Tx, version *CatalogVersion, args AnswerArgs) (ShareRequest, RequestEvent, *Grant, error) {
	fail := func(err error) (ShareRequest, RequestEvent, *Grant, error) {
		return ShareRequest{}, RequestEvent{}, nil, err
	}
	if err := args.Validate(); err != nil {
		return fail(err)
	}
	what := "request " + args.ID
	from := Absent
	if existing != nil {
		from = string(existing.State)
	}
	to, err := move{
		who: who, kind: KindRequest, what: what, transaction: "sharing:Answer", event: string(args.Decision), from: from,
		acts: func(s Side) bool { return s == SideProvider && existing != nil && existing.Provider == who.Department },
	}.next()
	if err != nil {
		return fail(err)
	}
	if err := notBefore(what, existing.Meta, tx); err != nil {
		return fail(err)
	}
	r := *existing
	r.State, r.Seq, r.Reason, r.LegalBasis = RequestState(to), existing.Seq+1, args.Reason, orEmpty(args.LegalBasis)
	var grant *Grant
	if args.Decision != Refuse {
		if grant, err = newGrant(existing, who, tx, version, args); err != nil {
			return fail(err)
		}
		r.GrantID = grant.ID
	}
	e := RequestEvent{RequestID: args.ID, Seq: r.Seq, Event: string(args.Decision), State: r.State, Reason: args.Reason}
	if err := seal(&r, SchemaRequest, who, tx); err != nil {
		return fail(err)
	}
	if err := seal(&e, SchemaRequestEvent, who, tx); err != nil {
		return fail(err)
	}
	return r, e, grant, nil
}

// newGrant makes the grant of an agreement, whole or partial.
func newGrant(request *ShareRequest, who Caller, tx Tx, version *CatalogVersion, args AnswerArgs) (*Grant, error) {
	content := request.Content
	if version == nil {
		return nil, refuse(NotFound, "version %d of catalog entry %s is not recorded", request.CatalogVersion, content.CatalogCode)
	}
	items, period, quota := content.Items, content.Period, content.Quota
	if args.Decision == Partly {
		items, period, quota = args.Items, args.Period, args.Quota
		if err := checkPart(content, args); err != nil {
			return nil, err
		}
	}
	if !period.To.After(tx.Time) {
		return nil, refuse(Invalid, "period.to: already past")
	}
	state, err := move{
		who: who, kind: KindGrant, what: "grant " + content.ID, transaction: "sharing:Answer", event: string(args.Decision),
		acts: func(s Side) bool { return s == SideProvider && request.Provider == who.Department },
	}.next()
	if err != nil {
		return nil, err
	}
	g := &Grant{
		ID: content.ID, RequestID: content.ID,
		CatalogCode: content.CatalogCode, CatalogVersion: request.CatalogVersion, Items: items,
		Provider: request.Provider, Consumer: request.Consumer,
		Purpose: content.Purpose, ServiceItem: content.ServiceItem, ShareMode: content.ShareMode,
		Period: period, Quota: quota,
		ConditionsDigest: Digest([]byte(version.Content.ShareCondition)),
		State:            GrantState(state), Seq: 1,
	}
	return g, seal(g, SchemaGrant, who, tx)
}

// checkPart compares a partial agreement with the request: nothing more, and
// something less.
func checkPart(asked ShareRequestContent, given AnswerArgs) error {
	var f findings
	for i, name := range given.Items {
		if !slices.Contains(asked.Items, name) {
			f.add("items["+strconv.Itoa(i)+"]", "was not asked for")
		}
	}
	if !given.Period.within(asked.Period) {
		f.add("period", "outside the period asked for")
	}
	if given.Quota.Total > asked.Quota.Total || given.Quota.PerDay > asked.Quota.PerDay {
		f.add("quota", "more than was asked for")
	}
	if len(given.Items) >= len(asked.Items) && given.Quota == asked.Quota &&
		given.Period.From.Equal(asked.Period.From) && given.Period.To.Equal(asked.Period.To) {
		f.add("decision", "nothing is left out, so the answer is agree")
	}
	return f.err()
}

// StatusAt is the state of the grant at t.
func (g Grant) StatusAt(t time.Time) GrantState {
	switch {
	case g.State != GrantActive:
		return g.State
	case t.Before(g.Period.From):
		return GrantPending
	case !t.Before(g.Period.To):
		return GrantExpired
	}
	return GrantActive
}
