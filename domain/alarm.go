package domain

import (
	"fmt"
	"slices"
)

// AlarmKind says what an alarm 告警 is about.
type AlarmKind string

// The kinds of alarm. The first five are about an access log itself, the others
// about what it records.
const (
	AlarmFork          AlarmKind = "fork"             // the log signed two trees that contradict one another
	AlarmRollback      AlarmKind = "rollback"         // the log shows less than the ledger anchors
	AlarmMissingTile   AlarmKind = "missing_tile"     // a part of the log is not to be had
	AlarmChangedEntry  AlarmKind = "changed_entry"    // an entry or tile is not what was anchored
	AlarmBacklog       AlarmKind = "evidence_backlog" // a log grows and is not anchored
	AlarmOneSided      AlarmKind = "one_sided"        // one side of a share recorded a call, the other did not
	AlarmContradiction AlarmKind = "contradiction"    // both sides recorded a call, differently
	AlarmUnusualUse    AlarmKind = "unusual_use"      // 调用异常
)

// AlarmKinds lists every AlarmKind.
var AlarmKinds = []AlarmKind{
	AlarmFork, AlarmRollback, AlarmMissingTile, AlarmChangedEntry, AlarmBacklog,
	AlarmOneSided, AlarmContradiction, AlarmUnusualUse,
}

// AlarmState is the state of an alarm.
type AlarmState string

// The states.
const (
	AlarmOpen   AlarmState = "open"   // 未处置
	AlarmClosed AlarmState = "closed" // 已处置, with a finding
)

// RecordRef names a record of an access log.
type RecordRef struct {
	Department DepartmentCode `json:"department"` // whose log
	Index      uint64         `json:"index"`
}

// Alarm is what a department's gateway or auditor found and the ledger keeps
// until the lead has dealt with it.
//
// Its evidence, a checkpoint, always bears the signature of the log's key. Of a
// fork, Proven says that an anchor of the same size has another root: the log
// signed both. Of a rollback it says that the checkpoint is smaller than what was
// anchored; that the log showed it later than the anchor is the word of whoever
// raised the alarm, because a checkpoint bears no time.
type Alarm struct {
	Meta
	ID       string         `json:"id"` // [AlarmID]: several that see the same thing raise one alarm
	Kind     AlarmKind      `json:"kind"`
	About    DepartmentCode `json:"about"`    // whose log or whose use
	Subject  string         `json:"subject"`  // what, in codes, so that one thing is one alarm: a size, a grant and day, a call
	Rule     string         `json:"rule"`     // the rule that was broken, for example "rate"; the kind when there is no other
	Figures  string         `json:"figures"`  // what was seen and what was expected; no personal data
	Records  []RecordRef    `json:"records"`  // at most [MaxAlarmRecords]
	Evidence string         `json:"evidence"` // of a fork or rollback: the signed checkpoint; "" otherwise
	Proven   bool           `json:"proven"`   // the chaincode verified that the evidence contradicts an anchor
	State    AlarmState     `json:"state"`
	Seq      int            `json:"seq"`
	Finding  string         `json:"finding"` // with which it was closed; "" while open
}

// AlarmEvent is one step of an alarm.
type AlarmEvent struct {
	Meta
	AlarmID string     `json:"alarmId"`
	Seq     int        `json:"seq"`
	Event   string     `json:"event"` // raise, close
	State   AlarmState `json:"state"`
	Finding string     `json:"finding"`
}

// MaxAlarmRecords bounds the records that one alarm names.
const MaxAlarmRecords = 50

// RaiseAlarmArgs are the argument of access:RaiseAlarm.
type RaiseAlarmArgs struct {
	Kind     AlarmKind      `json:"kind"`
	About    DepartmentCode `json:"about"`
	Subject  string         `json:"subject"`
	Rule     string         `json:"rule"`
	Figures  string         `json:"figures"`
	Records  []RecordRef    `json:"records"`
	Evidence string         `json:"evidence"`
}

// CloseAlarmArgs are the argument of access:CloseAlarm.
type CloseAlarmArgs struct {
	ID      string `json:"id"`
	Finding string `json:"finding"` // what was found and done
}

// AlarmChange is what a transaction on an alarm writes.
type AlarmChange struct {
	Alarm Alarm
	Event AlarmEvent
}

// AlarmID is the identifier of the alarm of a kind about a department's subject:
// the first 32 hexadecimal digits of the SHA-256 of the three, joined by newlines.
func AlarmID(kind AlarmKind, about DepartmentCode, subject string) string {
	return Digest([]byte(string(kind) + "\n" + string(about) + "\n" + subject))[:32]
}

// needsEvidence reports whether an alarm of the kind accuses a log of something
// that its own signature shows.
func (k AlarmKind) needsEvidence() bool { return k == AlarmFork || k == AlarmRollback }

// Validate reports everything that is wrong with the argument.
func (a RaiseAlarmArgs) Validate() error {
	var f findings
	oneOf(&f, "kind", a.Kind, AlarmKinds...)
	f.match("about", string(a.About), departmentShape, "not a department code")
	f.match("subject", a.Subject, originShape, originRule)
	f.impersonal("subject", a.Subject)
	f.match("rule", a.Rule, resultShape, "must be 1 to 40 characters of a-z 0-9 _, a letter first")
	f.impersonal("rule", a.Rule)
	f.required("figures", a.Figures, MaxText)
	f.recordRefs("records", a.Records)
	switch {
	case !a.Kind.needsEvidence():
		if a.Evidence != "" {
			f.add("evidence", "only for a fork or a rollback")
		}
	case a.Evidence == "":
		f.add("evidence", "required")
	case len(a.Evidence) > maxCheckpointBytes:
		f.add("evidence", "longer than 4096 bytes")
	}
	return f.err()
}

// recordRefs checks the records that an alarm names.
func (f *findings) recordRefs(field string, refs []RecordRef) {
	if len(refs) > MaxAlarmRecords {
		f.add(field, fmt.Sprintf("more than %d entries", MaxAlarmRecords))
		return
	}
	for i, r := range refs {
		at := fmt.Sprintf("%s[%d]", field, i)
		f.match(at+".department", string(r.Department), departmentShape, "not a department code")
		if slices.Contains(refs[:i], r) {
			f.add(at, "repeats an earlier entry")
		}
	}
}

// Validate reports everything that is wrong with the argument.
func (a CloseAlarmArgs) Validate() error {
	var f findings
	f.match("id", a.ID, hex32Shape, hex32Rule)
	f.required("finding", a.Finding, MaxText)
	return f.err()
}

func alarmState(a *Alarm) string {
	if a == nil {
		return Absent
	}
	return string(a.State)
}

// RaiseAlarm records an alarm. existing is the alarm under the same identifier,
// about the department it names, nil when that is not registered. contradicts
// reports whether the evidence of a fork or rollback contradicts what the ledger
// anchors, and fails on evidence that is no checkpoint signed with the log's key;
// it is called for evidence only, once the caller is known to be allowed.
//
// One thing is one alarm for ever: a closed alarm is not raised again. What
// happens anew has a subject of its own.
func RaiseAlarm(existing *Alarm, about *Department, call Call, args RaiseAlarmArgs, contradicts func(evidence string) (bool, error)) (AlarmChange, error) {
	if err := args.Validate(); err != nil {
		return AlarmChange{}, err
	}
	id := AlarmID(args.Kind, args.About, args.Subject)
	to, err := move{
		who: call.Who, kind: KindAlarm, what: "alarm " + id, transaction: "access:RaiseAlarm", from: alarmState(existing),
		acts: func(s Side) bool { return s == SideAny },
	}.next()
	if err != nil {
		return AlarmChange{}, err
	}
	if about == nil {
		return AlarmChange{}, refuse(NotFound, "department %s is not registered", args.About)
	}
	a := Alarm{
		ID: id, Kind: args.Kind, About: args.About, Subject: args.Subject, Rule: args.Rule, Figures: args.Figures,
		Records: orEmpty(args.Records), Evidence: args.Evidence,
	}
	if args.Evidence != "" {
		if a.Proven, err = contradicts(args.Evidence); err != nil {
			return AlarmChange{}, err
		}
	}
	return a.step(call, AlarmEvent{Event: "raise", State: AlarmState(to)})
}

// CloseAlarm records what was found. The lead's reviewer closes; an alarm about
// the lead is closed by a reviewer of another department.
func CloseAlarm(existing *Alarm, call Call, args CloseAlarmArgs) (AlarmChange, error) {
	if err := args.Validate(); err != nil {
		return AlarmChange{}, err
	}
	what := "alarm " + args.ID
	to, err := move{
		who: call.Who, kind: KindAlarm, what: what, transaction: "access:CloseAlarm", from: alarmState(existing),
		acts: func(s Side) bool {
			aboutLead := existing != nil && existing.About == call.Lead
			return s == SideLead && call.Dept.Lead && !aboutLead || s == SidePeer && !call.Dept.Lead && aboutLead
		},
	}.next()
	if err != nil {
		return AlarmChange{}, err
	}
	if err := notBefore(what, existing.Meta, call.Tx); err != nil {
		return AlarmChange{}, err
	}
	return existing.step(call, AlarmEvent{Event: "close", State: AlarmState(to), Finding: args.Finding})
}

// step numbers and seals an event and the alarm after it.
func (a Alarm) step(call Call, e AlarmEvent) (AlarmChange, error) {
	e.AlarmID, e.Seq = a.ID, a.Seq+1
	a.Seq, a.State, a.Finding = e.Seq, e.State, e.Finding
	if err := seal(&a, SchemaAlarm, call.Who, call.Tx); err != nil {
		return AlarmChange{}, err
	}
	if err := seal(&e, SchemaAlarmEvent, call.Who, call.Tx); err != nil {
		return AlarmChange{}, err
	}
	return AlarmChange{Alarm: a, Event: e}, nil
}
