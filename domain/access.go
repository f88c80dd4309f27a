package domain

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"
)

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
	GrantSeq       int            `json:"grantSeq"` // the grant's Seq that the log decided on; set by the log
	CatalogCode    string         `json:"catalogCode"`
	CatalogVersion int            `json:"catalogVersion"`
	Items          []string       `json:"items"`
	Provider       DepartmentCode `json:"provider"`
	Consumer       DepartmentCode `json:"consumer"`
	Purpose        string         `json:"purpose"`
	LegalBasis     string         `json:"legalBasis"` // 依据 of the use
	ServiceItem    string         `json:"serviceItem"`
	CaseRef        string         `json:"caseRef"`      // 办件编号 as a pseudonym, "" when none
	System         string         `json:"system"`       // information system that called
	Operator       string         `json:"operator"`     // pseudonym
	OperatorRole   string         `json:"operatorRole"` // the operator's role in that system
	SubjectRef     string         `json:"subjectRef"`   // salted reference, hexadecimal, "" when none
	RecordCount    int64          `json:"recordCount"`  // data records returned
	RequestDigest  string         `json:"requestDigest"`
	ResponseDigest string         `json:"responseDigest"`
	Channel        string         `json:"channel"`     // how the data went: [ChannelAPI], [ChannelTable] or [ChannelFile]
	At             time.Time      `json:"at"`          // when the call came in, UTC
	RespondedAt    time.Time      `json:"respondedAt"` // when it was answered, UTC
	Result         string         `json:"result"`      // "ok" or a refusal or failure code
	LoggedAt       time.Time      `json:"loggedAt"`
}

// maxCheckpointBytes bounds a signed checkpoint.
const maxCheckpointBytes = 4096

// MaxCounts bounds the per-grant counts of one anchor.
const MaxCounts = 5000

// MaxAccessRecordBytes bounds the canonical form of an access record: entries
// of a tiled log are shorter than 64 KiB.
const MaxAccessRecordBytes = 1<<16 - 1

// ClockTolerance is how far a caller's clock may run ahead of the log's.
const ClockTolerance = 2 * time.Minute

// ResultOK is the result of an access that released data. Every other result is
// a refusal or a failure.
const ResultOK = "ok"

// The channels through which data goes.
const (
	ChannelAPI   = "api"   // 服务接口
	ChannelTable = "table" // 库表交换
	ChannelFile  = "file"  // 文件下载
)

// Validate reports everything that is wrong with the argument.
func (a RegisterLogArgs) Validate() error {
	var f findings
	f.match("origin", a.Origin, originShape, originRule)
	if !validVerifierKey(a.Origin, a.VerifierKey) {
		f.add("verifierKey", "not an Ed25519 note verifier key whose name is the origin")
	}
	return f.err()
}

// validVerifierKey checks the text form of a golang.org/x/mod/sumdb/note verifier
// key: name, key hash and key, joined by "+".
func validVerifierKey(name, text string) bool {
	rest, ok := strings.CutPrefix(text, name+"+")
	hash, encoded, found := strings.Cut(rest, "+")
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if !ok || !found || err != nil || len(key) != 1+ed25519.PublicKeySize || key[0] != 1 {
		return false
	}
	sum := sha256.Sum256(append([]byte(name+"\n"), key...))
	return hash == hex.EncodeToString(sum[:4])
}

// Validate reports everything that is wrong with the form of the argument;
// signature and consistency are checked where the log's key is known.
func (a AnchorArgs) Validate() error {
	var f findings
	switch {
	case a.Checkpoint == "":
		f.add("checkpoint", "required")
	case len(a.Checkpoint) > maxCheckpointBytes:
		f.add("checkpoint", "longer than 4096 bytes")
	}
	if len(a.Proof) > 64 {
		f.add("proof", "more than 64 hashes")
	} else if _, err := a.ProofHashes(); err != nil {
		f.add("proof", "every entry must be 32 bytes of standard base64")
	}
	if len(a.Counts) > MaxCounts {
		f.add("counts", "more than 5000 entries")
		return f.err()
	}
	for i, c := range a.Counts {
		at := "counts[" + strconv.Itoa(i) + "]"
		f.match(at+".grantId", c.GrantID, hex32Shape, hex32Rule)
		if c.Count < 1 {
			f.add(at+".count", "must be at least 1")
		}
		if i > 0 && a.Counts[i-1].GrantID >= c.GrantID {
			f.add(at+".grantId", "not sorted, or repeated")
		}
	}
	return f.err()
}

// ProofHashes decodes the consistency proof.
func (a AnchorArgs) ProofHashes() ([][]byte, error) {
	hashes := make([][]byte, 0, len(a.Proof))
	for _, s := range a.Proof {
		h, err := base64.StdEncoding.Strict().DecodeString(s)
		if err != nil || len(h) != sha256.Size || base64.StdEncoding.EncodeToString(h) != s {
			return nil, refuse(Invalid, "proof: every entry must be 32 bytes of standard base64")
		}
		hashes = append(hashes, h)
	}
	return hashes, nil
}

func logState(l *LogRegistration) string {
	if l == nil {
		return Absent
	}
	return stateRegistered
}

// RegisterLog binds the caller's department to its access log. A log is
// registered once.
func RegisterLog(existing *LogRegistration, who Caller, tx Tx, args RegisterLogArgs) (LogRegistration, error) {
	if err := args.Validate(); err != nil {
		return LogRegistration{}, err
	}
	_, err := move{
		who: who, kind: KindLog, what: "access log of " + string(who.Department),
		transaction: "access:RegisterLog", from: logState(existing),
		acts: func(s Side) bool { return s == SideAny },
	}.next()
	if err != nil {
		return LogRegistration{}, err
	}
	// Department codes are unique, so no two logs can share an origin.
	if own := "/" + string(who.Department); !strings.HasSuffix(args.Origin, own) {
		return LogRegistration{}, refuse(Forbidden, "origin: must end in %s: a department registers its own log only", own)
	}
	l := LogRegistration{Owner: who.Department, Origin: args.Origin, VerifierKey: args.VerifierKey}
	return l, seal(&l, SchemaLog, who, tx)
}

// TreeHead is the size and root of a log.
type TreeHead struct {
	Size uint64
	Root string // standard base64
}

// AnchorLog records a checkpoint of the caller's own log. open must check the
// checkpoint's signature against the registered log, and its consistency with
// the registered size and root, and answer what the checkpoint says; it is
// called once the caller is known to be allowed.
func AnchorLog(existing *LogRegistration, who Caller, tx Tx, args AnchorArgs, open func(LogRegistration, AnchorArgs) (TreeHead, error)) (LogRegistration, Anchor, error) {
	fail := func(err error) (LogRegistration, Anchor, error) { return LogRegistration{}, Anchor{}, err }
	if err := args.Validate(); err != nil {
		return fail(err)
	}
	what := "access log of " + string(who.Department)
	_, err := move{
		who: who, kind: KindLog, what: what, transaction: "access:Anchor", from: logState(existing),
		acts: func(s Side) bool { return s == SideOwner && existing != nil && existing.Owner == who.Department },
	}.next()
	if err != nil {
		return fail(err)
	}
	if err := notBefore(what, existing.Meta, tx); err != nil {
		return fail(err)
	}
	if existing.Size == 0 && len(args.Proof) != 0 {
		return fail(refuse(Invalid, "proof: must be empty for the first anchor"))
	}
	head, err := open(*existing, args)
	if err != nil {
		return fail(err)
	}
	if head.Size <= existing.Size {
		return fail(refuse(Invalid, "checkpoint: size %d is not above the anchored size %d", head.Size, existing.Size))
	}
	left := head.Size - existing.Size
	for _, c := range args.Counts {
		if uint64(c.Count) > left {
			return fail(refuse(Invalid, "counts: more records than the log grew by"))
		}
		left -= uint64(c.Count)
	}
	l := *existing
	l.Size, l.Root = head.Size, head.Root
	a := Anchor{
		Owner: l.Owner, Origin: l.Origin, Size: head.Size, Root: head.Root, PreviousSize: existing.Size,
		Checkpoint: args.Checkpoint, Counts: orEmpty(args.Counts),
	}
	if err := seal(&l, SchemaLog, who, tx); err != nil {
		return fail(err)
	}
	if err := seal(&a, SchemaAnchor, who, tx); err != nil {
		return fail(err)
	}
	return l, a, nil
}

// Writer is the department whose log the record belongs to.
func (r AccessRecord) Writer() DepartmentCode {
	if r.Direction == DirectionConsumer {
		return r.Consumer
	}
	return r.Provider
}

// Validate reports everything that is wrong with the form of the record. A
// record that the log has not dated yet has a zero LoggedAt.
func (r AccessRecord) Validate() error {
	var f findings
	oneOf(&f, "schema", r.Schema, SchemaAccessRecord)
	oneOf(&f, "direction", r.Direction, DirectionProvider, DirectionConsumer)
	f.match("callId", r.CallID, callIDShape, "must be 16 to 64 characters of A-Z a-z 0-9 -")
	f.impersonal("callId", r.CallID)
	f.match("grantId", r.GrantID, hex32Shape, hex32Rule)
	switch {
	case r.GrantSeq < 0:
		f.add("grantSeq", "must not be negative")
	case r.GrantSeq == 0 && !r.LoggedAt.IsZero():
		f.add("grantSeq", "required")
	}
	f.catalogCode("catalogCode", r.CatalogCode)
	if r.CatalogVersion < 1 {
		f.add("catalogVersion", "must be at least 1")
	}
	if len(r.Items) == 0 {
		f.add("items", "required")
	}
	f.texts("items", r.Items, MaxItems, MaxName)
	f.match("provider", string(r.Provider), departmentShape, "not a department code")
	f.match("consumer", string(r.Consumer), departmentShape, "not a department code")
	f.required("purpose", r.Purpose, MaxText)
	f.required("legalBasis", r.LegalBasis, MaxText)
	f.serviceItem("serviceItem", r.ServiceItem)
	f.text("caseRef", r.CaseRef, MaxName)
	f.required("system", r.System, MaxText)
	f.required("operator", r.Operator, MaxName)
	f.required("operatorRole", r.OperatorRole, MaxName)
	if r.SubjectRef != "" {
		f.match("subjectRef", r.SubjectRef, subjectShape, "must be 32 to 128 lower-case hexadecimal digits")
	}
	if r.RecordCount < 0 {
		f.add("recordCount", "must not be negative")
	}
	f.match("requestDigest", r.RequestDigest, hex64Shape, hex64Rule)
	if r.ResponseDigest != "" || r.Result == ResultOK {
		f.match("responseDigest", r.ResponseDigest, hex64Shape, hex64Rule)
	}
	oneOf(&f, "channel", r.Channel, ChannelAPI, ChannelTable, ChannelFile)
	f.match("result", r.Result, resultShape, "must be ok or a code of 1 to 40 characters of a-z 0-9 _, a letter first")
	f.impersonal("result", r.Result)
	r.checkTimes(&f)
	if data, err := Canonical(r); err != nil || len(data) > MaxAccessRecordBytes {
		f.add("record", "longer than 65535 bytes")
	}
	return f.err()
}

// checkTimes checks the record's times: a call comes in, is answered and is
// logged. What released nothing may have no answer.
func (r AccessRecord) checkTimes(f *findings) {
	f.time("at", r.At)
	if !r.RespondedAt.IsZero() || r.Result == ResultOK {
		f.time("respondedAt", r.RespondedAt)
		if !r.RespondedAt.IsZero() && r.RespondedAt.Before(r.At) {
			f.add("respondedAt", "before the call came in")
		}
	}
	if r.LoggedAt.IsZero() {
		return
	}
	f.time("loggedAt", r.LoggedAt)
	latest := r.LoggedAt.Add(ClockTolerance)
	if r.At.After(latest) {
		f.add("at", "later than the log's clock")
	}
	if r.RespondedAt.After(latest) {
		f.add("respondedAt", "later than the log's clock")
	}
}

// Used is how many calls with result "ok" are logged under a grant in one
// direction.
type Used struct {
	Total      int64 // in all
	Today      int64 // on the day of the call
	LastMinute int64 // in the minute of the call
}

// Admit decides whether a valid record may enter the log under its grant, of
// which used tells the use in the record's direction. The record's GrantSeq, once
// set, must be the grant's.
//
// A record of a refusal or a failure released nothing: it must name the grant's
// own parties, and is then always admitted, so that a call made after the grant
// ended leaves its trace. Its error is an [*Error] of kind [Forbidden].
func Admit(grant Grant, record AccessRecord, used Used) error {
	var f findings
	if record.GrantID != grant.ID {
		f.add("grantId", "names another grant")
	}
	if record.GrantSeq != 0 && record.GrantSeq != grant.Seq {
		f.add("grantSeq", "is not the grant's")
	}
	if record.Provider != grant.Provider {
		f.add("provider", "is not the grant's")
	}
	if record.Consumer != grant.Consumer {
		f.add("consumer", "is not the grant's")
	}
	if record.Result == ResultOK {
		checkRelease(&f, grant, record, used)
	}
	if err := f.err(); err != nil {
		return refuse(Forbidden, "grant %s does not admit the access: %s", grant.ID, strings.Join(f.list, "; "))
	}
	return nil
}

func checkRelease(f *findings, grant Grant, record AccessRecord, used Used) {
	if status := grant.StatusAt(record.At); status != GrantActive {
		f.add("at", "the grant is "+string(status)+" at that time")
	} else if record.At.Before(grant.GrantedAt) {
		f.add("at", "is before the grant was recorded") // its period may reach back; the permission does not
	}
	if record.CatalogCode != grant.CatalogCode || record.CatalogVersion != grant.CatalogVersion {
		f.add("catalogCode", "not the catalog version of the grant")
	}
	for i, item := range record.Items {
		if !slices.Contains(grant.Items, item) {
			f.add("items["+strconv.Itoa(i)+"]", "not in the grant")
		}
	}
	if record.Purpose != grant.Purpose {
		f.add("purpose", "not the purpose of the grant")
	}
	if record.ServiceItem != grant.ServiceItem {
		f.add("serviceItem", "not the service item of the grant")
	}
	if used.Total >= grant.Quota.Total {
		f.add("quota.total", "used up")
	}
	if used.Today >= grant.Quota.PerDay {
		f.add("quota.perDay", "used up for that day")
	}
	if used.LastMinute >= grant.Quota.PerMinute {
		f.add("quota.perMinute", "used up for that minute")
	}
}
