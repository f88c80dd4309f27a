package domain

import "time"

// LogRegistration binds a department to its access log and remembers the last
// anchored tree head.
type LogRegistration struct {
	Meta
	Owner       DepartmentCode `json:"owner"`
	Origin      string         `json:"origin"`      // C2SP checkpoint origin
	VerifierKey string         `json:"verifierKey"` // golang.org/x/mod/sumdb/note verifier key text, Ed25519; its name is Origin
	Size        uint64         `json:"size"`        // last anchored tree size, 0 before the first anchor
	Root        string         `json:"root"`        // last anchored root hash, standard base64; "" before the first anchor
}

// RegisterLogArgs are the argument of access:RegisterLog.
type RegisterLogArgs struct {
	Origin      string `json:"origin"`
	VerifierKey string `json:"verifierKey"`
}

// GrantCount is how many records of one grant lie between two anchors.
type GrantCount struct {
	GrantID string `json:"grantId"`
	Count   int64  `json:"count"`
}

// Anchor is a checkpoint of a department's access log, accepted by the
// consortium after its signature and its consistency with the previous one were
// checked in chaincode.
type Anchor struct {
	Meta
	Owner        DepartmentCode `json:"owner"`
	Origin       string         `json:"origin"`
	Size         uint64         `json:"size"`
	Root         string         `json:"root"` // standard base64, as in the checkpoint
	PreviousSize uint64         `json:"previousSize"`
	Checkpoint   string         `json:"checkpoint"` // the signed note, as given
	Counts       []GrantCount   `json:"counts"`     // sorted by grant; records since the previous anchor
}

// AnchorArgs are the argument of access:Anchor.
type AnchorArgs struct {
	Checkpoint string       `json:"checkpoint"`
	Proof      []string     `json:"proof"` // consistency proof from the last anchored size, standard base64 SHA-256 hashes; empty for the first anchor
	Counts     []GrantCount `json:"counts"`
}

// Direction says which side of a share wrote an access record.
type Direction string

// The directions.
const (
	DirectionProvider Direction = "provider" // 提供方
	DirectionConsumer Direction = "consumer" // 需求方
)

// AccessRecord is one use of shared data 访问留痕: a leaf of the department's
// access log in the form that [Canonical] gives. It names no person: the
// operator is a pseudonym, the subject a salted reference.
type AccessRecord struct {
	Schema         string         `json:"schema"` // "zhenglian/access-record/1"
	Direction      Direction      `json:"direction"`
	CallID         string         `json:"callId"` // shared by both sides, 16–64 characters of [A-Za-z0-9-]
	GrantID        string         `json:"grantId"`
	CatalogCode    string         `json:"catalogCode"`
	CatalogVersion int            `json:"catalogVersion"`
	Items          []string       `json:"items"`
	Provider       DepartmentCode `json:"provider"`
	Consumer       DepartmentCode `json:"consumer"`
	Purpose        string         `json:"purpose"`
	ServiceItem    string         `json:"serviceItem"`
	CaseRef        string         `json:"caseRef"`      // 办件编号 as a pseudonym, "" when none
	System         string         `json:"system"`       // information system that called
	Operator       string         `json:"operator"`     // pseudonym
	OperatorRole   string         `json:"operatorRole"` // the operator's role in that system
	SubjectRef     string         `json:"subjectRef"`   // salted reference, hexadecimal, "" when none
	RecordCount    int64          `json:"recordCount"`  // data records returned
	RequestDigest  string         `json:"requestDigest"`
	ResponseDigest string         `json:"responseDigest"`
	At             time.Time      `json:"at"`     // when the call was made, UTC
	Result         string         `json:"result"` // "ok" or a refusal or failure code
	LoggedAt       time.Time      `json:"loggedAt"`
}
