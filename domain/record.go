package domain

import "time"

// TxID identifies a transaction of the channel: 64 lower-case hexadecimal
// digits.
type TxID string

// MSPID names a department's membership service provider on the channel.
type MSPID string

// DepartmentCode names a department of the consortium, for example "police".
// It matches [a-z][a-z0-9]{1,19}.
type DepartmentCode string

// Role is the duty of a person or service in a department, carried by its
// certificate (attribute zhenglian.role). Roles exclude one another
// (GB/T 39477-2020: 管理, 审计, 操作 separated).
type Role string

// The roles.
const (
	RoleAdmin    Role = "admin"    // 管理: departments, logs, who may issue
	RoleOperator Role = "operator" // 操作: registers, requests, proposes certificates
	RoleReviewer Role = "reviewer" // 审核: reviews, answers, decides on certificates
	RoleAuditor  Role = "auditor"  // 审计: reads everything, changes nothing
	RoleGateway  Role = "gateway"  // the department's gateway service: anchors its log
)

// Roles lists every Role.
var Roles = []Role{RoleAdmin, RoleOperator, RoleReviewer, RoleAuditor, RoleGateway}

// Caller is who asks: taken from a client certificate, never from an argument.
type Caller struct {
	Department DepartmentCode
	MSPID      MSPID
	Role       Role
}

// Tx is what a rule may know of the transaction that runs it.
type Tx struct {
	ID      TxID
	Time    time.Time // the transaction's own time, UTC, whole milliseconds
	Channel string
}

// Meta opens every ledger record: who wrote it, when, in which transaction.
type Meta struct {
	Schema     string         `json:"schema"` // for example "zhenglian/catalog-entry/1"
	Department DepartmentCode `json:"department"`
	Role       Role           `json:"role"`
	TxID       TxID           `json:"txId"`
	TxTime     time.Time      `json:"txTime"` // chosen by the client, checked by the peers within their time window
	Digest     string         `json:"digest"` // SHA-256 of the record's canonical bytes with this field empty
}

// RecordKind is a kind of ledger record, as used in proofs and in the index.
type RecordKind string

// The kinds of records and, beside each, its state key.
const (
	KindDepartment      RecordKind = "department"       // dept~{code}
	KindMembers         RecordKind = "members"          // members~all
	KindCalendar        RecordKind = "calendar"         // cal~{year}
	KindCalendarVersion RecordKind = "calendar_version" // calv~{year}~{version}
	KindRule            RecordKind = "rule"             // rule~{event}
	KindRuleVersion     RecordKind = "rule_version"     // rulev~{event}~{version}
	KindCatalogEntry    RecordKind = "catalog"          // cat~{code}
	KindCatalogVersion  RecordKind = "catalog_version"  // catv~{code}~{version}
	KindCatalogEvent    RecordKind = "catalog_event"    // cate~{txId}~{provider}
	KindCatalogName     RecordKind = "catalog_name"     // catn~{provider}~{plain name}, which holds the code of the entry and is no record
	KindRequest         RecordKind = "request"          // req~{id}
	KindRequestEvent    RecordKind = "request_event"    // reqe~{id}~{seq}
	KindGrant           RecordKind = "grant"            // grant~{id}
	KindGrantEvent      RecordKind = "grant_event"      // grante~{id}~{seq}
	KindOperation       RecordKind = "operation"        // op~{department}~{operation}
	KindLog             RecordKind = "log"              // log~{department}
	KindAnchor          RecordKind = "anchor"           // anchor~{department}~{size}
	KindAlarm           RecordKind = "alarm"            // alarm~{id}
	KindAlarmEvent      RecordKind = "alarm_event"      // alarme~{id}~{seq}
	KindIssuer          RecordKind = "issuer"           // issuer~{department}~{typeCode}
	KindCertificate     RecordKind = "certificate"      // cert~{ref}, which is never written: it is told from its batch
	KindCertificateID   RecordKind = "certificate_id"   // certid~{see IssuedIDKey}, which holds a reference
	KindIssuingBatch    RecordKind = "issuing_batch"    // certb~{first 12 digits of its references}
	KindBatchStatus     RecordKind = "batch_status"     // certs~{as its batch}
	KindStatusPlaces    RecordKind = "status_places"    // certbit~{department}~{number}
)

// RecordKinds lists every RecordKind but that of names: the entry that has a name is the
// record of it.
var RecordKinds = []RecordKind{
	KindDepartment, KindMembers, KindCalendar, KindCalendarVersion, KindRule, KindRuleVersion,
	KindCatalogEntry, KindCatalogVersion, KindCatalogEvent,
	KindRequest, KindRequestEvent, KindGrant, KindGrantEvent, KindOperation,
	KindLog, KindAnchor, KindAlarm, KindAlarmEvent, KindIssuer, KindCertificate, KindCertificateID,
	KindIssuingBatch, KindBatchStatus, KindStatusPlaces,
}

// Statement is what evidence:Attest answers and departments sign: what the
// ledger held under one name when the transaction ran. A record that does not
// exist is a statement too (Found false), because peers never sign an error.
type Statement struct {
	Schema     string     `json:"schema"` // "zhenglian/statement/1"
	Channel    string     `json:"channel"`
	Kind       RecordKind `json:"kind"`
	ID         string     `json:"id"`
	Nonce      string     `json:"nonce"`
	Found      bool       `json:"found"`
	Status     string     `json:"status"`     // the record's status at AsOf; "" when the kind has none
	AsOf       time.Time  `json:"asOf"`       // transaction time
	ValidUntil time.Time  `json:"validUntil"` // AsOf + [StatementLife]
	Record     string     `json:"record"`     // the record's canonical bytes, as text; "" when not found
}

// StatementLife is how long a statement speaks for the present.
const StatementLife = 24 * time.Hour

// AttestArgs are the argument of evidence:Attest. The nonce is 32 lower-case
// hexadecimal digits chosen by the asker.
type AttestArgs struct {
	Kind  RecordKind `json:"kind"`
	ID    string     `json:"id"` // the part of the state key after its first "~", for example "police~17" for an anchor
	Nonce string     `json:"nonce"`
}

// Operation remembers what one operation of a department did, so that asking
// again under the same identifier answers the same and changes nothing.
type Operation struct {
	Meta
	Operation      string `json:"operation"` // 32 lower-case hexadecimal digits
	Transaction    string `json:"transaction"`
	ArgumentDigest string `json:"argumentDigest"` // SHA-256 of the argument
	Result         string `json:"result"`         // what the transaction answered
}
