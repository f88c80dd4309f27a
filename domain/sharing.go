package domain

import "time"

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
