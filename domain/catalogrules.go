package domain

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// PlainName is a resource name without what does not tell names apart: spaces,
// punctuation, full width, case. Signs that carry meaning, such as + and ℃, stay.
func PlainName(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= '\u4e00' && r <= '\u9fff' {
			return r // most of a name, and the tables take time
		}
		r = halfWidth(r)
		if unicode.IsSpace(r) || unicode.IsPunct(r) || strings.ContainsRune("|~`^", r) {
			return -1
		}
		return unicode.ToLower(r)
	}, name)
}

// RegisterCatalog records a resource of the caller's department: a new entry, or
// new content for its own draft or for one that was rejected. existing is the
// entry under the same code, taken the code of the entry that has the name already, ""
// when none has, missing the related codes that are not recorded. A code belongs to its
// first provider for ever.
func RegisterCatalog(existing *CatalogEntry, taken string, missing []string, call Call, args RegisterCatalogArgs) (CatalogChange, error) {
	var f findings
	args.check(&f)
	changes, err := registerCatalog(&f, []registration{{"content.", existing, taken, args.Content}}, missing, call, args.Draft)
	if err != nil {
		return CatalogChange{}, err
	}
	return changes[0], nil
}

// RegisterCatalogBatch is [RegisterCatalog] for many. existing and taken are in
// the order of args.Contents, nil and "" where nothing is recorded; missing are the
// related codes that are neither recorded nor in the batch. Findings name the
// entry: "contents[3].shareCondition".
func RegisterCatalogBatch(existing []*CatalogEntry, taken []string, missing []string, call Call, args RegisterBatchArgs) ([]CatalogChange, error) {
	var f findings
	if !args.check(&f) {
		return nil, f.err()
	}
	if len(existing) != len(args.Contents) || len(taken) != len(args.Contents) {
		return nil, refuse(Invalid, "contents: %d entries with the records of %d and the names of %d", len(args.Contents), len(existing), len(taken))
	}
	all := make([]registration, len(args.Contents))
	for i, content := range args.Contents {
		all[i] = registration{contentsPrefix(i), existing[i], taken[i], content}
	}
	return registerCatalog(&f, all, missing, call, args.Draft)
}

// contentsPrefix opens the field names of an entry of a batch.
func contentsPrefix(i int) string { return "contents[" + strconv.Itoa(i) + "]." }

// registration is one entry to register.
type registration struct {
	prefix   string // of its field names in findings
	existing *CatalogEntry
	taken    string // the code of the entry that has the name, "" when none has
	content  CatalogContent
}

// registerCatalog registers entries, all or none. f holds what is wrong with the
// arguments by themselves; it is reported before anything else, with what is
// wrong by the records, so that whoever fills in the form learns of all of it.
func registerCatalog(f *findings, all []registration, missing []string, call Call, draft bool) ([]CatalogChange, error) {
	name := "submit"
	if draft {
		name = "draft"
	}
	events := make([]catalogEvent, len(all))
	if len(f.list) == 0 {
		for i, r := range all {
			var err error
			if events[i], err = nextCatalogEvent(r.existing, call, catalogMove{"catalog:Register", name, name, r.content.Code}); err != nil {
				return nil, err
			}
		}
	}
	for _, r := range all {
		f.prefix = r.prefix
		r.content.checkRecords(f, r.taken, missing, call.Dept)
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	var review *Clock // one for all: they are submitted at one time
	if !draft {
		var err error
		if review, err = call.Deadlines.Start(DeadlineCatalogReview, call.Tx.Time); err != nil {
			return nil, err
		}
	}
	changes := make([]CatalogChange, len(all))
	for i, r := range all {
		event := events[i]
		if r.existing == nil {
			event.provider, event.reviewer = call.Who.Department, SideLead
			if call.Dept.Lead {
				event.reviewer = SidePeer
			}
		}
		event.LastVersion++
		event.Version = event.LastVersion
		if !draft {
			event.Opinion, event.review = "", review // there is no opinion yet
		}
		inForce, err := newVersion(call, event.LastVersion, r.content)
		if err != nil {
			return nil, err
		}
		replaced, err := event.keepInForce(r.existing, call)
		if err != nil {
			return nil, err
		}
		change, err := recordCatalog(r.existing, call, event, inForce)
		if err != nil {
			return nil, err
		}
		change.Versions = replaced
		changes[i] = change.takeName(r.existing, r.content)
		if r.existing != nil && changes[i].TakenName != "" {
			changes[i].FreedName = r.existing.nameID()
		}
	}
	return changes, nil
}

// checkRecords reports what the ledger's records make wrong with the content.
func (c CatalogContent) checkRecords(f *findings, taken string, missing []string, provider Department) {
	if c.ProviderUSCC != provider.USCC {
		f.add("providerUscc", "not the code of the caller's department")
	}
	if taken != "" && taken != c.Code {
		f.add("name", nameTakenRule)
	}
	for i, code := range c.RelatedCodes {
		if slices.Contains(missing, code) {
			f.add("relatedCodes["+strconv.Itoa(i)+"]", "not recorded")
		}
	}
}

// SubmitCatalog submits a draft for the review of its registration.
func SubmitCatalog(existing *CatalogEntry, call Call, args CodeArgs) (CatalogChange, error) {
	return submitForReview(existing, call, args, "catalog:Submit", "submit")
}

// PublishCatalog submits an entry for the review of its publication.
func PublishCatalog(existing *CatalogEntry, call Call, args CodeArgs) (CatalogChange, error) {
	return submitForReview(existing, call, args, "catalog:Publish", "publish")
}

func submitForReview(existing *CatalogEntry, call Call, args CodeArgs, transaction, name string) (CatalogChange, error) {
	if err := args.Validate(); err != nil {
		return CatalogChange{}, err
	}
	event, err := nextCatalogEvent(existing, call, catalogMove{transaction, "", name, args.Code})
	if err != nil {
		return CatalogChange{}, err
	}
	event.Reason = "" // of going offline, when it comes back
	if err := event.startReview(call); err != nil {
		return CatalogChange{}, err
	}
	return recordCatalog(existing, call, event, nil)
}

// ReviewCatalog records the decision of a reviewer of another department than the
// provider. pending is the version under review while a change is pending, nil
// otherwise.
func ReviewCatalog(existing *CatalogEntry, pending *CatalogVersion, call Call, args ReviewCatalogArgs) (CatalogChange, error) {
	if err := args.Validate(); err != nil {
		return CatalogChange{}, err
	}
	event, err := nextCatalogEvent(existing, call, catalogMove{"catalog:Review", string(args.Decision), string(args.Decision), args.Code})
	if err != nil {
		return CatalogChange{}, err
	}
	event.Opinion, event.review = args.Opinion, nil
	switch {
	case existing.State == CatalogChangePending:
		return reviewChange(existing, pending, call, event, args.Decision)
	case existing.State == CatalogOfflinePending && args.Decision == Approve:
		event.Update = nil // what is not offered need not be updated
	case existing.State == CatalogOfflinePending:
		event.Reason = ""
		if err := event.resumeUpdate(call); err != nil {
			return CatalogChange{}, err
		}
	}
	return recordCatalog(existing, call, event, nil)
}

// reviewChange ends the review of a change. One of two names becomes free when
// the change gave the resource another one.
func reviewChange(existing *CatalogEntry, pending *CatalogVersion, call Call, event catalogEvent, decision ReviewDecision) (CatalogChange, error) {
	if pending == nil || pending.Version != existing.Pending || pending.Content.Code != existing.Content.Code {
		return CatalogChange{}, refuse(NotFound, "version %d of catalog entry %s is not recorded", existing.Pending, existing.Content.Code)
	}
	event.Pending = 0
	freed, kept := CatalogNameID(existing.Provider, pending.Content.Name), existing.nameID()
	var inForce *CatalogVersion
	if decision == Approve {
		freed, kept = kept, freed
		event.Version, event.Update, event.Reason = pending.Version, nil, ""
		inForce = pending
	} else if err := event.resumeUpdate(call); err != nil {
		return CatalogChange{}, err
	}
	change, err := recordCatalog(existing, call, event, inForce)
	if err != nil {
		return CatalogChange{}, err
	}
	if freed != kept {
		change.FreedName = freed
	}
	return change, nil
}

// ChangeCatalog submits new content for a published entry. The code and the
// provider do not change; content equal to the version in force is refused.
func ChangeCatalog(existing *CatalogEntry, taken string, missing []string, call Call, args ChangeCatalogArgs) (CatalogChange, error) {
	var f findings
	args.check(&f)
	var event catalogEvent
	if len(f.list) == 0 {
		var err error
		if event, err = nextCatalogEvent(existing, call, catalogMove{"catalog:Change", "", "change", args.Content.Code}); err != nil {
			return CatalogChange{}, err
		}
	}
	f.prefix = "content."
	args.Content.checkRecords(&f, taken, missing, call.Dept)
	if err := f.err(); err != nil {
		return CatalogChange{}, err
	}
	event.LastVersion++
	event.Pending = event.LastVersion
	pending, err := newVersion(call, event.Pending, args.Content)
	if err != nil {
		return CatalogChange{}, err
	}
	if pending.ContentDigest == existing.ContentDigest {
		f.prefix = ""
		f.add("content", "does not differ from the version in force")
		return CatalogChange{}, f.err()
	}
	versions, err := event.keepInForce(existing, call)
	if err != nil {
		return CatalogChange{}, err
	}
	if err := seal(pending, SchemaCatalogVersion, call.Who, call.Tx); err != nil {
		return CatalogChange{}, err
	}
	event.RecordedVersion = pending.Version
	if err := event.startReview(call); err != nil {
		return CatalogChange{}, err
	}
	if err := event.stopUpdate(call); err != nil {
		return CatalogChange{}, err
	}
	change, err := recordCatalog(existing, call, event, nil)
	if err != nil {
		return CatalogChange{}, err
	}
	change.Versions = append(versions, *pending)
	return change.takeName(existing, args.Content), nil
}

// RetireCatalog takes an entry offline after review, or withdraws it.
func RetireCatalog(existing *CatalogEntry, call Call, args RetireCatalogArgs) (CatalogChange, error) {
	if err := args.Validate(); err != nil {
		return CatalogChange{}, err
	}
	event, err := nextCatalogEvent(existing, call, catalogMove{"catalog:Retire", string(args.Way), string(args.Way), args.Code})
	if err != nil {
		return CatalogChange{}, err
	}
	event.Reason = args.Reason
	if err := event.startReview(call); err != nil {
		return CatalogChange{}, err
	}
	if err := event.stopUpdate(call); err != nil {
		return CatalogChange{}, err
	}
	change, err := recordCatalog(existing, call, event, nil)
	if err != nil {
		return CatalogChange{}, err
	}
	if change.Entry.State == CatalogRetired {
		change.FreedName = existing.nameID()
	}
	return change, nil
}

// RequireCatalogUpdate starts the time limit within which a published entry must
// follow a change of duties. A change that is submitted, or taking the entry
// offline, stops it; a return lets it run on, an approval ends it.
func RequireCatalogUpdate(existing *CatalogEntry, call Call, args RequireUpdateArgs) (CatalogChange, error) {
	if err := args.Validate(); err != nil {
		return CatalogChange{}, err
	}
	way := "report"
	if call.Who.Role == RoleReviewer {
		way = "find"
	}
	event, err := nextCatalogEvent(existing, call, catalogMove{"catalog:RequireUpdate", way, "require_update", args.Code})
	if err != nil {
		return CatalogChange{}, err
	}
	if existing.Update != nil {
		return CatalogChange{}, refuse(Invalid, "code: an update is required already")
	}
	event.Reason = args.Reason
	if event.Update, err = call.Deadlines.Start(DeadlineCatalogUpdate, call.Tx.Time); err != nil {
		return CatalogChange{}, err
	}
	return recordCatalog(existing, call, event, nil)
}

// MarkCatalogOverdue records that the review or the update is overdue.
func MarkCatalogOverdue(existing *CatalogEntry, call Call, args CodeArgs) (CatalogChange, error) {
	if err := args.Validate(); err != nil {
		return CatalogChange{}, err
	}
	event, err := nextCatalogEvent(existing, call, catalogMove{"catalog:MarkOverdue", "", "mark_overdue", args.Code})
	if err != nil {
		return CatalogChange{}, err
	}
	unmarked := func(c *Clock) bool { return c.Overdue(call.Tx.Time) && c.OverdueAt == nil }
	switch {
	case unmarked(event.review):
		event.review, err = event.review.Mark(call.Tx.Time)
	case unmarked(event.Update):
		event.Update, err = event.Update.Mark(call.Tx.Time)
	default:
		err = refuse(Invalid, "code: no time limit of the entry has passed that is not recorded as overdue already")
	}
	if err != nil {
		return CatalogChange{}, err
	}
	return recordCatalog(existing, call, event, nil)
}

// catalogMove names a step of a catalog entry.
type catalogMove struct {
	transaction string
	way         string // the event of the state machine that the transaction asks for
	name        string // of the recorded event
	code        string
}

// catalogEvent is an event of one entry.
type catalogEvent struct {
	CatalogStep
	name     string
	provider DepartmentCode
	reviewer Side
	review   *Clock
}

// nextCatalogEvent is the event of an entry's next step, as far as the state
// machine tells: every value that the step does not change is that of before.
func nextCatalogEvent(existing *CatalogEntry, call Call, step catalogMove) (catalogEvent, error) {
	what := "catalog entry " + step.code
	to, err := move{
		who: call.Who, kind: KindCatalogEntry, what: what,
		transaction: step.transaction, event: step.way, from: entryState(existing),
		acts: func(s Side) bool { return existing.acts(s, step.transaction, call) },
	}.next()
	if err != nil {
		return catalogEvent{}, err
	}
	if existing == nil {
		return catalogEvent{CatalogStep: CatalogStep{Code: step.code, Seq: 1, State: CatalogState(to)}, name: step.name}, nil
	}
	if err := notBefore(what, existing.Meta, call.Tx); err != nil {
		return catalogEvent{}, err
	}
	event := catalogEvent{existing.step(), step.name, existing.Provider, existing.Reviewer, existing.Review}
	event.Seq++
	event.State = CatalogState(to)
	return event, nil
}

// step is the entry as an event left it.
func (e CatalogEntry) step() CatalogStep {
	return CatalogStep{
		Code: e.Content.Code, Seq: e.Seq, State: e.State,
		Version: e.Version, LastVersion: e.LastVersion, RecordedVersion: e.RecordedVersion, Pending: e.Pending,
		Opinion: e.Opinion, Reason: e.Reason, Update: e.Update,
	}
}

// acts reports whether the caller acts for a side of the entry, which may be nil.
// Nobody reviews what their own department provides.
func (e *CatalogEntry) acts(s Side, transaction string, call Call) bool {
	if s == SideAny {
		return true
	}
	if e == nil {
		return false
	}
	owner := e.Provider == call.Who.Department
	switch s {
	case SideOwner:
		return owner
	case SideLead:
		return call.Dept.Lead && (transaction != "catalog:Review" || e.Reviewer == SideLead && !owner)
	case SidePeer:
		return e.Reviewer == SidePeer && !owner
	case SideFounder, SideAny, SideProvider, SideConsumer: // no sides of a catalog entry, or answered above
	}
	return false
}

// startReview starts the reviewer's time limit when the event leaves the entry
// under review: for the decision to come, there is no opinion yet.
func (e *catalogEvent) startReview(call Call) (err error) {
	switch e.State {
	case CatalogRegPending, CatalogPubPending, CatalogChangePending, CatalogOfflinePending:
		e.Opinion = ""
		e.review, err = call.Deadlines.Start(DeadlineCatalogReview, call.Tx.Time)
	case CatalogDraft, CatalogRegistered, CatalogRegRejected, CatalogPubRejected, CatalogPublished, CatalogOffline, CatalogRetired:
	}
	return err
}

// stopUpdate stops the provider's time limit while others have to decide.
func (e *catalogEvent) stopUpdate(call Call) (err error) {
	if e.Update != nil {
		e.Update, err = call.Deadlines.Stop(e.Update, call.Tx.Time)
	}
	return err
}

// resumeUpdate lets the provider's time limit run on.
func (e *catalogEvent) resumeUpdate(call Call) (err error) {
	if e.Update != nil {
		e.Update, err = call.Deadlines.Resume(e.Update, call.Tx.Time)
	}
	return err
}

// nameID is the id under which the entry has its name.
func (e *CatalogEntry) nameID() string { return CatalogNameID(e.Provider, e.Content.Name) }

// newVersion is a version of the caller's content, not recorded yet.
func newVersion(call Call, number int, content CatalogContent) (*CatalogVersion, error) {
	content.Items = orEmpty(content.Items)
	content.LegalBasis = orEmpty(content.LegalBasis)
	content.RelatedCodes = orEmpty(content.RelatedCodes)
	data, err := Canonical(content)
	if err != nil {
		return nil, err
	}
	return &CatalogVersion{Provider: call.Who.Department, Version: number, Content: content, ContentDigest: Digest(data)}, nil
}

// keepInForce records the version that existing holds unless it is recorded:
// another one is about to take its place.
func (e *catalogEvent) keepInForce(existing *CatalogEntry, call Call) ([]CatalogVersion, error) {
	if existing == nil || existing.Version <= existing.RecordedVersion {
		return nil, nil
	}
	v := existing.InForce()
	if err := seal(&v, SchemaCatalogVersion, call.Who, call.Tx); err != nil {
		return nil, err
	}
	e.RecordedVersion = v.Version
	return []CatalogVersion{v}, nil
}

// takeName adds the name of new content to the change unless existing, the entry
// before, has it already.
func (c CatalogChange) takeName(existing *CatalogEntry, content CatalogContent) CatalogChange {
	if id := CatalogNameID(c.Entry.Provider, content.Name); existing == nil || existing.nameID() != id {
		c.TakenName = id
	}
	return c
}

// recordCatalog applies an event. inForce is the version that comes into force
// with it, nil when the one in force stays.
func recordCatalog(existing *CatalogEntry, call Call, event catalogEvent, inForce *CatalogVersion) (CatalogChange, error) {
	entry, err := applyCatalog(existing, event, inForce, call.Who, call.Tx)
	return CatalogChange{Entry: entry}, err
}

// applyCatalog is the entry after an event: the one place where entries are made.
// before is nil for the first event.
func applyCatalog(before *CatalogEntry, event catalogEvent, inForce *CatalogVersion, who Caller, tx Tx) (CatalogEntry, error) {
	e := CatalogEntry{Provider: event.provider, Reviewer: event.reviewer, Event: event.name}
	if before != nil {
		e.Content, e.ContentDigest = before.Content, before.ContentDigest
	}
	if before == nil || before.Version != event.Version {
		if inForce == nil || inForce.Version != event.Version || inForce.Content.Code != event.Code {
			return CatalogEntry{}, refuse(NotFound, "version %d of catalog entry %s is not recorded", event.Version, event.Code)
		}
		e.Content, e.ContentDigest = inForce.Content, inForce.ContentDigest
	}
	e.Version, e.LastVersion, e.RecordedVersion, e.Pending = event.Version, event.LastVersion, event.RecordedVersion, event.Pending
	e.State, e.Seq = event.State, event.Seq
	e.Opinion, e.Reason = event.Opinion, event.Reason
	e.Review, e.Update = event.review, event.Update
	return e, seal(&e, SchemaCatalogEntry, who, tx)
}

// CatalogEvents are the events that the changes of one transaction make up, one
// for each provider, in the order in which the changes name them.
func CatalogEvents(call Call, changes ...CatalogChange) ([]CatalogEvent, error) {
	var events []CatalogEvent
	for _, change := range changes {
		e := change.Entry
		at := slices.IndexFunc(events, func(known CatalogEvent) bool { return known.Provider == e.Provider })
		if at < 0 {
			at = len(events)
			events = append(events, CatalogEvent{Provider: e.Provider, Reviewer: e.Reviewer, Event: e.Event, Review: e.Review})
		}
		if known := events[at]; known.Event != e.Event || !reflect.DeepEqual(known.Review, e.Review) {
			return nil, fmt.Errorf("internal: %s and %s do not have one event", known.Entries[0].Code, e.Content.Code)
		}
		events[at].Entries = append(events[at].Entries, e.step())
	}
	for i := range events {
		if err := seal(&events[i], SchemaCatalogEvent, call.Who, call.Tx); err != nil {
			return nil, err
		}
	}
	return events, nil
}

// ReplayCatalog computes an entry from the events that name it, in order, and its
// versions.
func ReplayCatalog(code string, events []CatalogEvent, versions []CatalogVersion) (CatalogEntry, error) {
	if len(events) == 0 {
		return CatalogEntry{}, refuse(Invalid, "events: required")
	}
	var entry *CatalogEntry
	for i, event := range events {
		at := slices.IndexFunc(event.Entries, func(s CatalogStep) bool { return s.Code == code && s.Seq == i+1 })
		if at < 0 {
			return CatalogEntry{}, refuse(Invalid, "events[%d]: not event %d of catalog entry %s", i, i+1, code)
		}
		step := event.Entries[at]
		var inForce *CatalogVersion
		if at := slices.IndexFunc(versions, func(v CatalogVersion) bool { return v.Version == step.Version }); at >= 0 {
			inForce = &versions[at]
		}
		after, err := applyCatalog(entry, catalogEvent{step, event.Event, event.Provider, event.Reviewer, event.Review}, inForce,
			Caller{Department: event.Department, Role: event.Role}, Tx{ID: event.TxID, Time: event.TxTime})
		if err != nil {
			return CatalogEntry{}, fmt.Errorf("event %d: %w", step.Seq, err)
		}
		entry = &after
	}
	return *entry, nil
}
