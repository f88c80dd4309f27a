package domain

import (
	"fmt"
	"time"
)

// RequestState is the state of a share request 共享申请.
type RequestState string

// The states of a share request.
const (
	RequestSubmitted    RequestState = "submitted"     // 已提交: waits for the lead's check
	RequestReturned     RequestState = "returned"      // 退回补正: waits for the consumer
	RequestAccepted     RequestState = "accepted"      // 已受理: waits for the provider's answer
	RequestExtended     RequestState = "extended"      // 延期: still waits for the answer
	RequestAgreed       RequestState = "agreed"        // 同意: waits for delivery
	RequestPartlyAgreed RequestState = "partly_agreed" // 部分同意: waits for delivery
	RequestRefused      RequestState = "refused"       // 不同意: may be disputed
	RequestDisputed     RequestState = "disputed"      // 争议: waits for mediation
	RequestMediated     RequestState = "mediated"      // 协调: the provider must answer anew
	RequestDelivered    RequestState = "delivered"     // 已提供: waits for confirmation
	RequestActive       RequestState = "active"        // 使用中
	RequestClosed       RequestState = "closed"        // 办结
	RequestWithdrawn    RequestState = "withdrawn"     // 撤回
)

// RequestOverdue is what [ShareRequest.StatusAt] answers while the provider's
// answer is overdue; it is never stored.
const RequestOverdue RequestState = "overdue" // 逾期未答复

// Period is a half-open span of time: From ≤ t < To.
type Period struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Quota bounds the use of a grant, in calls. Zero is not "unlimited": all must be
// at least 1.
type Quota struct {
	Total     int64 `json:"total"`
	PerDay    int64 `json:"perDay"`
	PerMinute int64 `json:"perMinute"` // 频次
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

// ShareRequest is a share request with its state. It is what its events make of
// it; see [ReplayRequest].
type ShareRequest struct {
	Meta
	Content        ShareRequestContent `json:"content"`
	CatalogVersion int                 `json:"catalogVersion"` // the version that was published when it was asked for
	Consumer       DepartmentCode      `json:"consumer"`
	Provider       DepartmentCode      `json:"provider"`
	Checker        Side                `json:"checker"`       // whose reviewers check it: [SideLead], or [SidePeer] when the lead is the consumer
	Mediator       Side                `json:"mediator"`      // whose reviewers mediate: [SideLead], or [SidePeer] when the lead is a party
	Unconditional  bool                `json:"unconditional"` // all items asked for are shared unconditionally
	State          RequestState        `json:"state"`
	Seq            int                 `json:"seq"`         // number of the last event
	SubmittedAt    time.Time           `json:"submittedAt"` // transaction time of sharing:Request
	Clock          *Clock              `json:"clock"`       // the time limit of the present state; null when it has none
	Extension      *Extension          `json:"extension"`   // asked for and not yet decided; null otherwise
	Decision       AnswerDecision      `json:"decision"`    // "" before the answer, and again when it is to be answered anew
	AnsweredAt     *time.Time          `json:"answeredAt"`  // of that answer; null without
	AnsweredIn     int                 `json:"answeredIn"`  // working days that the answer took: n when given on the n-th after its time limit started, 0 on the same day
	AnsweredLate   bool                `json:"answeredLate"`
	Reason         string              `json:"reason"`         // of the last event that needs one
	LegalBasis     []string            `json:"legalBasis"`     // of a refusal
	GrantID        string              `json:"grantId"`        // "" unless agreed or partly agreed; equal to the request's ID
	DeliveryDigest string              `json:"deliveryDigest"` // SHA-256 of the delivery note 交付清单; "" before
	Disputes       int                 `json:"disputes"`       // how often it was disputed
	Overdues       int                 `json:"overdues"`       // how often a time limit was recorded as overdue
}

// Extension is an extension 延期 that the provider asks for.
type Extension struct {
	Days   int    `json:"days"` // working days
	Reason string `json:"reason"`
}

// RequestEvent is one step of a share request: what it changed, and the state
// and time limit after it. Fields that the event does not change are zero. The
// events are submit, accept, grant (accepted and granted at once), return,
// supplement, agree, partly, refuse, ask_extension, extend, deny_extension,
// dispute, uphold, remand, deliver, confirm, reject, withdraw, close and
// mark_overdue.
type RequestEvent struct {
	Meta
	RequestID string       `json:"requestId"`
	Seq       int          `json:"seq"` // 1, 2, …
	Event     string       `json:"event"`
	State     RequestState `json:"state"` // after the event
	Clock     *Clock       `json:"clock"` // after the event
	Reason    string       `json:"reason"`

	Opened         *Opened              `json:"opened"`    // when submitted or supplemented
	Content        *ShareRequestContent `json:"content"`   // as submitted or supplemented
	Extension      *Extension           `json:"extension"` // after the event
	Decision       AnswerDecision       `json:"decision"`
	AnsweredIn     int                  `json:"answeredIn"`
	AnsweredLate   bool                 `json:"answeredLate"`
	LegalBasis     []string             `json:"legalBasis"`
	GrantID        string               `json:"grantId"`
	DeliveryDigest string               `json:"deliveryDigest"`
}

// Opened is what a request settles when it is submitted. A supplement repeats it;
// only Unconditional may then differ, because it follows from the items.
type Opened struct {
	CatalogVersion int            `json:"catalogVersion"`
	Consumer       DepartmentCode `json:"consumer"`
	Provider       DepartmentCode `json:"provider"`
	Checker        Side           `json:"checker"`
	Mediator       Side           `json:"mediator"`
	Unconditional  bool           `json:"unconditional"`
}

// SharingChange is what a transaction on a request writes.
type SharingChange struct {
	Request    ShareRequest
	Event      RequestEvent
	Grant      *Grant // nil unless the event grants
	GrantEvent *GrantEvent
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

// CheckDecision is the lead's decision on a submitted request.
type CheckDecision string

// The decisions.
const (
	AcceptRequest CheckDecision = "accept" // 受理; what is shared unconditionally is granted by it
	ReturnRequest CheckDecision = "return" // 退回补正, with the reason
)

// AcceptArgs are the argument of sharing:Accept.
type AcceptArgs struct {
	ID       string        `json:"id"`
	Decision CheckDecision `json:"decision"`
	Reason   string        `json:"reason"` // required when returned
}

// SupplementArgs are the argument of sharing:Supplement: the content as it should
// be, for a request that was returned. ID and catalog code do not change.
type SupplementArgs struct {
	Content ShareRequestContent `json:"content"`
}

// ExtendArgs are the argument of sharing:Extend.
type ExtendArgs struct {
	ID     string `json:"id"`
	Days   int    `json:"days"` // working days, at most what the rule allows
	Reason string `json:"reason"`
}

// ExtensionDecision is the lead's decision on an extension.
type ExtensionDecision string

// The decisions.
const (
	GrantExtension ExtensionDecision = "grant" // 同意延期
	DenyExtension  ExtensionDecision = "deny"  // 不同意延期, with the reason
)

// DecideExtensionArgs are the argument of sharing:DecideExtension.
type DecideExtensionArgs struct {
	ID       string            `json:"id"`
	Decision ExtensionDecision `json:"decision"`
	Reason   string            `json:"reason"` // required when denied
}

// DisputeArgs are the argument of sharing:Dispute.
type DisputeArgs struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// MediationDecision is the mediator's decision on a dispute.
type MediationDecision string

// The decisions.
const (
	Uphold MediationDecision = "uphold" // 维持: the refusal stands and the request is closed
	Remand MediationDecision = "remand" // 重新答复: the provider must answer anew
)

// MediateArgs are the argument of sharing:Mediate.
type MediateArgs struct {
	ID       string            `json:"id"`
	Decision MediationDecision `json:"decision"`
	Reason   string            `json:"reason"`
}

// DeliverArgs are the argument of sharing:Deliver.
type DeliverArgs struct {
	ID             string `json:"id"`
	DeliveryDigest string `json:"deliveryDigest"` // SHA-256 of the delivery note 交付清单
}

// ConfirmDecision is what the consumer says of a delivery.
type ConfirmDecision string

// The decisions.
const (
	ConfirmDelivery ConfirmDecision = "confirm" // 确认
	RejectDelivery  ConfirmDecision = "reject"  // 未收到或不符, with the reason: delivery is due anew
)

// ConfirmArgs are the argument of sharing:Confirm.
type ConfirmArgs struct {
	ID       string          `json:"id"`
	Decision ConfirmDecision `json:"decision"`
	Reason   string          `json:"reason"` // required when rejected
}

// ReasonArgs are the argument of sharing:Withdraw, sharing:Close and of the
// transactions on grants, sharing:Suspend, sharing:Resume and sharing:Revoke.
type ReasonArgs struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// IDArgs name a record by its identifier: the argument of sharing:MarkOverdue and
// sharing:GetGrant.
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
	c.check(&f)
	return f.err()
}

func (c ShareRequestContent) check(f *findings) {
	f.match("id", c.ID, hex32Shape, hex32Rule)
	f.catalogCode("catalogCode", c.CatalogCode)
	if len(c.Items) == 0 {
		f.add("items", "required")
	}
	f.texts("items", c.Items, MaxItems, MaxName)
	f.required("purpose", c.Purpose, MaxText)
	f.required("useBasis", c.UseBasis, MaxText)
	f.serviceItem("serviceItem", c.ServiceItem)
	oneOf(f, "shareMode", c.ShareMode, "platform_table", "platform_file", "platform_api", "mail", "medium")
	f.period("period", c.Period)
	f.quota("quota", c.Quota)
	f.match("letterDigest", c.LetterDigest, hex64Shape, hex64Rule)
	f.required("securityMeasures", c.SecurityMeasures, MaxText)
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

// Validate reports everything that is wrong with the argument.
func (a AcceptArgs) Validate() error {
	return checkDecision(a.ID, a.Decision, a.Reason, a.Decision == ReturnRequest, AcceptRequest, ReturnRequest)
}

// Validate reports everything that is wrong with the argument.
func (a SupplementArgs) Validate() error {
	f := findings{prefix: "content."}
	a.Content.check(&f)
	return f.err()
}

// Validate reports everything that is wrong with the argument.
func (a ExtendArgs) Validate() error {
	var f findings
	f.match("id", a.ID, hex32Shape, hex32Rule)
	if a.Days < 1 || a.Days > MaxLimit {
		f.add("days", fmt.Sprintf("must be 1 to %d working days", MaxLimit))
	}
	f.required("reason", a.Reason, MaxText)
	return f.err()
}

// Validate reports everything that is wrong with the argument.
func (a DecideExtensionArgs) Validate() error {
	return checkDecision(a.ID, a.Decision, a.Reason, a.Decision == DenyExtension, GrantExtension, DenyExtension)
}

// Validate reports everything that is wrong with the argument.
func (a DisputeArgs) Validate() error { return ReasonArgs(a).Validate() }

// Validate reports everything that is wrong with the argument.
func (a MediateArgs) Validate() error {
	return checkDecision(a.ID, a.Decision, a.Reason, true, Uphold, Remand)
}

// Validate reports everything that is wrong with the argument.
func (a DeliverArgs) Validate() error {
	var f findings
	f.match("id", a.ID, hex32Shape, hex32Rule)
	f.match("deliveryDigest", a.DeliveryDigest, hex64Shape, hex64Rule)
	return f.err()
}

// Validate reports everything that is wrong with the argument.
func (a ConfirmArgs) Validate() error {
	return checkDecision(a.ID, a.Decision, a.Reason, a.Decision == RejectDelivery, ConfirmDelivery, RejectDelivery)
}

// Validate reports everything that is wrong with the argument.
func (a ReasonArgs) Validate() error {
	var f findings
	f.match("id", a.ID, hex32Shape, hex32Rule)
	f.required("reason", a.Reason, MaxText)
	return f.err()
}

// checkDecision checks a decision on a record, one of allowed, and its reason,
// which some decisions need.
func checkDecision[T ~string](id string, decision T, reason string, needsReason bool, allowed ...T) error {
	var f findings
	f.match("id", id, hex32Shape, hex32Rule)
	oneOf(&f, "decision", decision, allowed...)
	if needsReason {
		f.required("reason", reason, MaxText)
	} else {
		f.text("reason", reason, MaxText)
	}
	return f.err()
}
