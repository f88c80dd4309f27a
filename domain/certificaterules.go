package domain

import (
	"fmt"
	"strconv"
	"time"
)

// IssueRecords are what the ledger holds about a certificate that is to be
// issued, nil where it holds nothing.
type IssueRecords struct {
	Existing      bool           // whether the reference is taken
	Issued        *IssuedID      // of the same identifier
	IndexTaken    bool           // of the caller's department
	Authorisation *Authorisation // of the caller's department, for the type
	Predecessor   *Certificate   // that the content replaces
}

// DecideRecords are what the ledger holds about a certificate that is to be
// decided on, nil where it holds nothing.
type DecideRecords struct {
	At            string // of a batch, where the certificate is named: "refs[3]"
	Ref           string
	Existing      *Certificate
	Authorisation *Authorisation // of the issuer, for the type; not needed once the certificate is issued
	Predecessor   *Certificate   // that it replaces
}

// IssueCertificate proposes a certificate of the caller's department, which the
// reviewer issues with [DecideCertificate]. A reference is fresh at every attempt,
// so it is the identifier, with the issuer's own serial in it, that keeps an issue
// repeated after a lost answer from making a second certificate; the refusal names
// the reference of the first.
func IssueCertificate(known IssueRecords, call Call, args IssueArgs) (CertificateChange, error) {
	f := findings{prefix: "content."}
	args.Content.check(&f)
	changes, err := issueCertificates(&f, []issue{{"", "content.", known, args.Content}}, call)
	if err != nil {
		return CertificateChange{}, err
	}
	return changes[0].sealed()
}

// IssueCertificateBatch is [IssueCertificate] for many, all or none. known is in
// the order of args.Contents. Refusals and findings name the certificate:
// "contents[3].typeCode". The certificates have no digests yet.
func IssueCertificateBatch(known []IssueRecords, call Call, args IssueBatchArgs) ([]CertificateChange, error) {
	var f findings
	if !args.check(&f) {
		return nil, f.err()
	}
	if len(known) != len(args.Contents) {
		return nil, refuse(Invalid, "contents: %d certificates with the records of %d", len(args.Contents), len(known))
	}
	all := make([]issue, len(args.Contents))
	for i, content := range args.Contents {
		all[i] = issue{fmt.Sprintf("contents[%d]", i), contentsPrefix(i), known[i], content}
	}
	return issueCertificates(&f, all, call)
}

// issue is one certificate to issue.
type issue struct {
	at, prefix string // in refusals, and of its field names in findings
	known      IssueRecords
	content    CertificateContent
}

// issueCertificates proposes certificates, all or none. f holds what is wrong with
// the arguments by themselves; it is reported with what is wrong by the records.
func issueCertificates(f *findings, all []issue, call Call) ([]CertificateChange, error) {
	if len(f.list) == 0 {
		var found Refusals
		for _, one := range all {
			err := one.refusal(call)
			if KindOf(err) == Forbidden {
				return nil, err // of the caller, not of one certificate
			}
			if err != nil && !found.Add(one.at, err) {
				return nil, err
			}
		}
		if err := found.Err(); err != nil {
			return nil, err
		}
	}
	for _, one := range all {
		f.prefix = one.prefix
		one.check(f, call)
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	changes := make([]CertificateChange, len(all))
	for i, one := range all {
		changes[i] = one.propose(call)
	}
	return changes, nil
}

// refusal says why nothing can be recorded under the names of the certificate.
// Only the department whose code is in the identifier learns the reference that it
// is issued under already.
func (i issue) refusal(call Call) error {
	_, err := move{
		who: call.Who, kind: KindCertificate, what: "certificate " + i.content.Ref, transaction: "certificate:Issue",
		from: i.state(), acts: func(s Side) bool { return s == SideAny },
	}.next()
	switch {
	case err != nil:
		return err
	case i.content.IssuerUSCC != call.Dept.USCC: // see check
	case i.known.Issued != nil:
		return refuse(Exists, "certificate id %s is already issued as %s", i.known.Issued.CertID, i.known.Issued.Ref)
	case i.known.IndexTaken:
		return refuse(Exists, "status index %d of department %s is taken", i.content.StatusIndex, call.Dept.Code)
	}
	return nil
}

// state is whether the reference is taken, in words of the machine.
func (i issue) state() string {
	if i.known.Existing {
		return string(CertificateProposed) // or any other: none can be issued anew
	}
	return Absent
}

// check reports what the ledger's records make wrong with the content.
func (i issue) check(f *findings, call Call) {
	c := i.content
	if c.IssuerUSCC != call.Dept.USCC {
		f.add("issuerUscc", fmt.Sprintf("not the code of department %s", call.Dept.Code))
		return // the other records are those of the caller's department
	}
	if after(c.IssuedAt, call.Tx) {
		f.add("issuedAt", "after the transaction's time")
	}
	switch a := i.known.Authorisation; {
	case a == nil || a.StatusAt(call.Tx.Time) != AuthorisationActive:
		f.add("typeCode", "the department is not authorised to issue this type at this time")
	default:
		if c.TypeNameZh != a.TypeNameZh {
			f.add("typeNameZh", typeNameRule)
		}
		if c.TypeNameEn != a.TypeNameEn {
			f.add("typeNameEn", typeNameRule)
		}
	}
	if c.Replaces != "" {
		i.known.Predecessor.checkReplacement(f, c, call)
	}
}

const typeNameRule = "not the name in the register of issuers"

// checkReplacement reports why the content cannot replace a certificate, nil for
// one that is not recorded.
func (c *Certificate) checkReplacement(f *findings, content CertificateContent, call Call) {
	switch {
	case c == nil:
		f.add("replaces", "not recorded")
		return
	case c.Issuer != call.Dept.Code:
		f.add("replaces", "is a certificate of another department")
		return
	case c.Pending != nil:
		f.add("replaces", "a proposed change of that certificate waits for the reviewer")
	case !c.inForce(call.Tx.Time):
		f.add("replaces", fmt.Sprintf("that certificate is %s, only a valid one can be replaced", c.StatusAt(call.Tx.Time)))
	}
	switch next, err := nextVersion(c.Content.CertID); {
	case err != nil:
		f.add("certId", "the replaced certificate has version 999, the last there is")
	case content.CertID != next:
		f.add("certId", "must be the identifier of the replaced certificate with the next version, "+next)
	}
}

// inForce reports whether the certificate is valid at t, or will be when its
// validity starts.
func (c *Certificate) inForce(t time.Time) bool {
	return c.Status == CertificateValid && c.StatusAt(t) != CertificateExpired
}

// nextVersion is the identifier of what replaces the certificate with this one. It
// fails after version 999.
func nextVersion(certID string) (string, error) {
	id, err := ParseCertificateID(certID)
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(id.Version)
	if err != nil {
		return "", err
	}
	id.Version = fmt.Sprintf("%03d", n+1)
	return id.Compose()
}

// propose is the record of a certificate that waits for the reviewer.
func (i issue) propose(call Call) CertificateChange {
	c := Certificate{
		Issuer: call.Dept.Code, Content: i.content, Status: CertificateProposed, StatusSince: call.Tx.Time, Changes: []StatusChange{}, Seq: 1,
	}
	c.stamp(call)
	return CertificateChange{Certificate: c, New: true}
}

// stamp says who changes the certificate, and when.
func (c *Certificate) stamp(call Call) {
	c.Meta = Meta{SchemaCertificate, call.Who.Department, call.Who.Role, call.Tx.ID, call.Tx.Time, ""}
}

// ProposeStatus proposes a change of the status of a certificate of the caller's
// department.
func ProposeStatus(existing *Certificate, call Call, args ProposeArgs) (CertificateChange, error) {
	fail := func(err error) (CertificateChange, error) { return CertificateChange{}, err }
	if err := args.Validate(); err != nil {
		return fail(err)
	}
	if _, err := existing.next(args.Ref, call, "certificate:Propose", string(args.Event)); err != nil {
		return fail(err)
	}
	what := "certificate " + args.Ref
	last := existing.Changes[len(existing.Changes)-1]
	objection := existing.OpenObjection
	changes := args.Event != ObjectCertificate && args.Event != SettleCertificate // the status
	switch {
	case existing.Pending != nil:
		return fail(refuse(Exists, "a change of %s is proposed already, %s: the reviewer decides on it first", what, existing.Pending.Event))
	case args.Event == ObjectCertificate && objection != nil:
		return fail(refuse(Exists, "an objection to %s is open already", what))
	case args.Event == SettleCertificate && objection == nil:
		return fail(refuse(Invalid, "event: no objection to the certificate is open"))
	case args.Event == SuspendCertificate && len(existing.Changes) > MaxStatusChanges-3:
		// What follows a suspension, its end and the certificate's, must have room too.
		return fail(refuse(Invalid, "event: the certificate has too many changes of status to be suspended again"))
	case after(args.Act.EffectiveAt, call.Tx):
		return fail(refuse(Invalid, "act.effectiveAt: after the transaction's time"))
	case args.Act.EffectiveAt.Before(existing.Content.IssuedAt):
		return fail(refuse(Invalid, "act.effectiveAt: before the certificate was issued"))
	case args.Event == SettleCertificate && args.Act.EffectiveAt.Before(objection.Act.EffectiveAt):
		return fail(refuse(Invalid, "act.effectiveAt: before the objection was opened"))
	case changes && args.Act.EffectiveAt.Before(last.Since):
		return fail(refuse(Invalid, "act.effectiveAt: before the last change of status took effect"))
	}
	c := *existing
	c.Pending = &StatusProposal{Event: args.Event, Act: args.Act, ProposedBy: call.Who.Role, ProposedAt: call.Tx.Time}
	c.Seq++
	c.stamp(call)
	return CertificateChange{Certificate: c}.sealed()
}

// DecideCertificate records what a reviewer of the issuer decides: on the issue of
// a proposed certificate, otherwise on the proposed change of its status. A
// certificate that replaces another one is issued only while that one is in force,
// and supersedes it.
func DecideCertificate(known DecideRecords, call Call, args DecideArgs) (CertificateChange, error) {
	if err := args.Validate(); err != nil {
		return CertificateChange{}, err
	}
	known.Ref = args.Ref
	change, err := known.decide(call, args.Decision, args.Opinion)
	if err != nil {
		return CertificateChange{}, err
	}
	return change.sealed()
}

// DecideCertificateBatch is [DecideCertificate] for many, all or none. Refusals
// name every certificate that stands in the way. The certificates have no digests
// yet.
func DecideCertificateBatch(known []DecideRecords, call Call, args DecideBatchArgs) ([]CertificateChange, error) {
	if err := args.Validate(); err != nil {
		return nil, err
	}
	if len(known) > MaxBatch {
		return nil, refuse(Invalid, "batches: together %d certificates, more than %d", len(known), MaxBatch)
	}
	changes := make([]CertificateChange, len(known))
	var found Refusals
	for i, one := range known {
		var err error
		if changes[i], err = one.decide(call, args.Decision, args.Opinion); err != nil && !found.Add(one.At, err) {
			return nil, err
		}
	}
	return changes, found.Err()
}

func (known DecideRecords) decide(call Call, decision CertificateDecision, opinion string) (CertificateChange, error) {
	existing := known.Existing
	event := existing.decided(decision)
	status, err := existing.next(known.Ref, call, "certificate:Decide", event)
	if err != nil {
		return CertificateChange{}, err
	}
	change := CertificateChange{Certificate: *existing}
	c := &change.Certificate
	c.Pending, c.Opinion = nil, opinion
	c.Seq++
	c.stamp(call)
	switch event {
	case eventKeep: // the status that it has
	case eventRefuse:
		c.record(StatusChange{Status: status, Since: call.Tx.Time, RecordedAt: call.Tx.Time})
		change.FreedID = c.Content.CertID
	case eventIssue:
		if a := known.Authorisation; a == nil || a.StatusAt(call.Tx.Time) != AuthorisationActive {
			return CertificateChange{}, refuse(Forbidden, "department %s is not authorised to issue certificates of type %s at this time", c.Issuer, c.Content.TypeCode)
		}
		c.record(StatusChange{Status: status, Since: call.Tx.Time, RecordedAt: call.Tx.Time})
		if c.Content.Replaces != "" {
			if change.Predecessor, err = known.Predecessor.supersede(*c, call); err != nil {
				return CertificateChange{}, err
			}
		}
	case string(ObjectCertificate):
		c.OpenObjection = &Objection{Act: existing.Pending.Act, RecordedAt: call.Tx.Time}
	case string(SettleCertificate):
		c.OpenObjection = nil
	default:
		act := existing.Pending.Act
		c.record(StatusChange{Status: status, Since: act.EffectiveAt, RecordedAt: call.Tx.Time, Act: &act})
	}
	return change, nil
}

// What certificate:Decide does that no operator proposes under that name.
const (
	eventIssue     = "issue"     // of a proposed certificate
	eventRefuse    = "refuse"    // its issue
	eventKeep      = "keep"      // the status, a change is rejected
	eventSupersede = "supersede" // the predecessor
)

// decided is the event that a decision on the certificate is, nil for one that is
// not recorded.
func (c *Certificate) decided(decision CertificateDecision) string {
	pending := c != nil && c.Pending != nil
	switch {
	case pending && decision == ApproveCertificate:
		return string(c.Pending.Event)
	case pending:
		return eventKeep
	case decision == ApproveCertificate:
		return eventIssue
	}
	return eventRefuse
}

// supersede ends a certificate by its successor, whose issue is approved.
func (c *Certificate) supersede(successor Certificate, call Call) (*Certificate, error) {
	ref := successor.Content.Replaces
	what := "certificate " + ref
	status, err := c.next(ref, call, "certificate:Decide", eventSupersede)
	if err != nil {
		return nil, err
	}
	if c.Pending != nil {
		return nil, wrongState(what, string(c.Status), "a proposed change of it waits for the reviewer and is decided before it is replaced")
	}
	if !c.inForce(call.Tx.Time) {
		return nil, wrongState(what, string(c.StatusAt(call.Tx.Time)), "only a valid certificate can be replaced")
	}
	old := *c
	old.Opinion = successor.Opinion
	old.Seq++
	old.stamp(call)
	old.record(StatusChange{Status: status, Since: call.Tx.Time, RecordedAt: call.Tx.Time, Successor: successor.Content.Ref})
	return &old, nil
}

// record adds a change of status: the one place where the status changes.
func (c *Certificate) record(change StatusChange) {
	c.Changes = append(c.Changes[:len(c.Changes):len(c.Changes)], change)
	c.repeat(change)
}

// repeat sets what repeats the last change.
func (c *Certificate) repeat(change StatusChange) {
	c.Status, c.StatusSince, c.StatusAct, c.Successor = change.Status, change.Since, change.Act, change.Successor
}

// next asks the machine for the status after an event, on a certificate that may
// not be recorded.
func (c *Certificate) next(ref string, call Call, transaction, event string) (CertificateStatus, error) {
	what := "certificate " + ref
	to, err := move{
		who: call.Who, kind: KindCertificate, what: what, transaction: transaction, event: event, from: certificateState(c),
		acts: func(s Side) bool { return s == SideOwner && c != nil && c.Issuer == call.Who.Department },
	}.next()
	if err != nil {
		return "", err
	}
	return CertificateStatus(to), notBefore(what, c.Meta, call.Tx)
}

// sealed seals the certificates of a change.
func (c CertificateChange) sealed() (_ CertificateChange, err error) {
	if c.Predecessor != nil {
		old, err := c.Predecessor.Sealed()
		if err != nil {
			return CertificateChange{}, err
		}
		c.Predecessor = &old
	}
	c.Certificate, err = c.Certificate.Sealed()
	return c, err
}

func certificateState(c *Certificate) string {
	if c == nil {
		return Absent
	}
	return string(c.Status)
}

// after reports whether t lies after the transaction's time, to the millisecond
// that a transaction's time has: a gateway takes both from one clock.
func after(t time.Time, tx Tx) bool { return t.Truncate(time.Millisecond).After(tx.Time) }
