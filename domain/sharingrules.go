package domain

import (
	"slices"
	"strconv"
	"time"
)

// RequestShare records that the caller's department asks for items of entry.
// existing is the request under the same id.
//
// A resource that declares no items, such as a document, is asked for as a whole:
// the one item is then the resource's name.
func RequestShare(existing *ShareRequest, entry *CatalogEntry, call Call, args ShareRequestContent) (SharingChange, error) {
	if err := args.Validate(); err != nil {
		return SharingChange{}, err
	}
	to, err := move{
		who: call.Who, kind: KindRequest, what: "request " + args.ID, transaction: "sharing:Request", from: requestState(existing),
		acts: func(s Side) bool {
			return s == SideConsumer && (entry == nil || entry.Provider != call.Who.Department)
		},
	}.next()
	if err != nil {
		return SharingChange{}, err
	}
	if entry == nil {
		return SharingChange{}, refuse(NotFound, "catalog entry %s is not recorded", args.CatalogCode)
	}
	if err := checkRequestable(entry, call.Tx, args); err != nil {
		return SharingChange{}, err
	}
	opened := Opened{
		CatalogVersion: entry.Version, Consumer: call.Who.Department, Provider: entry.Provider,
		Checker: SideLead, Mediator: SideLead, Unconditional: unconditional(entry.Content, args.Items),
	}
	if opened.Consumer == call.Lead {
		opened.Checker, opened.Mediator = SidePeer, SidePeer
	}
	if opened.Provider == call.Lead {
		opened.Mediator = SidePeer
	}
	var none ShareRequest
	return none.start(DeadlineRequestCheck, call, RequestEvent{
		RequestID: args.ID, Event: "submit", State: RequestState(to), Opened: &opened, Content: &args,
	})
}

// AcceptShare records the check of a submitted request. What is shared
// unconditionally is granted by it and the provider only delivers; anything else
// waits for the provider's answer. version is the catalog version asked for.
func AcceptShare(existing *ShareRequest, version *CatalogVersion, call Call, args AcceptArgs) (SharingChange, error) {
	if err := args.Validate(); err != nil {
		return SharingChange{}, err
	}
	e := RequestEvent{RequestID: args.ID, Event: string(args.Decision), Reason: args.Reason}
	granted := args.Decision == AcceptRequest && existing != nil && existing.Unconditional
	if granted {
		e.Event, e.Decision = "grant", Agree
	}
	if err := existing.next(call, "sharing:Accept", e.Event, &e); err != nil {
		return SharingChange{}, err
	}
	switch {
	case granted:
		content := existing.Content
		return existing.agree(version, call, "sharing:Accept", e, content.Items, content.Period, content.Quota)
	case args.Decision == AcceptRequest:
		return existing.start(DeadlineRequestAnswer, call, e)
	}
	clock, err := call.Deadlines.Stop(existing.Clock, call.Tx.Time)
	if err != nil {
		return SharingChange{}, err
	}
	e.Clock = clock
	return existing.record(call, e)
}

// SupplementShare records the supplemented content of a returned request, which
// keeps its catalog version; version is that one.
func SupplementShare(existing *ShareRequest, version *CatalogVersion, call Call, args SupplementArgs) (SharingChange, error) {
	if err := args.Validate(); err != nil {
		return SharingChange{}, err
	}
	e := RequestEvent{RequestID: args.Content.ID, Event: "supplement", Content: &args.Content}
	if err := existing.next(call, "sharing:Supplement", "", &e); err != nil {
		return SharingChange{}, err
	}
	if err := existing.checkVersion(version); err != nil {
		return SharingChange{}, err
	}
	f := findings{prefix: "content."}
	if args.Content.CatalogCode != existing.Content.CatalogCode {
		f.add("catalogCode", "not the one of the request")
	}
	checkAsked(&f, version.Content, call.Tx, args.Content)
	if err := f.err(); err != nil {
		return SharingChange{}, err
	}
	clock, err := call.Deadlines.Resume(existing.Clock, call.Tx.Time)
	if err != nil {
		return SharingChange{}, err
	}
	e.Clock = clock
	e.Opened = &Opened{
		CatalogVersion: existing.CatalogVersion, Consumer: existing.Consumer, Provider: existing.Provider,
		Checker: existing.Checker, Mediator: existing.Mediator,
		Unconditional: unconditional(version.Content, args.Content.Items),
	}
	return existing.record(call, e)
}

// AnswerShare records the provider's answer to an accepted request. version is
// the catalog version that was asked for. A late answer counts as one.
func AnswerShare(existing *ShareRequest, version *CatalogVersion, call Call, args AnswerArgs) (SharingChange, error) {
	if err := args.Validate(); err != nil {
		return SharingChange{}, err
	}
	e := RequestEvent{
		RequestID: args.ID, Event: string(args.Decision), Reason: args.Reason,
		Decision: args.Decision, LegalBasis: args.LegalBasis,
	}
	if err := existing.next(call, "sharing:Answer", e.Event, &e); err != nil {
		return SharingChange{}, err
	}
	// The day of the answer counts: an answer on the last day of a limit of ten
	// took ten.
	took, err := call.Deadlines.Between(existing.Clock.StartedAt, call.Tx.Time.AddDate(0, 0, 1))
	if err != nil {
		return SharingChange{}, err
	}
	e.AnsweredIn, e.AnsweredLate = took, existing.Clock.Overdue(call.Tx.Time)
	items, period, quota := existing.Content.Items, existing.Content.Period, existing.Content.Quota
	switch args.Decision {
	case Refuse:
		return existing.start(DeadlineRequestDispute, call, e)
	case Partly:
		if err := checkPart(existing.Content, args); err != nil {
			return SharingChange{}, err
		}
		items, period, quota = args.Items, args.Period, args.Quota
	case Agree: // to all that was asked for
	}
	return existing.agree(version, call, "sharing:Answer", e, items, period, quota)
}

// ExtendShare asks for an extension of the time to answer, or takes it where the
// rule needs nobody's consent.
func ExtendShare(existing *ShareRequest, call Call, args ExtendArgs) (SharingChange, error) {
	if err := args.Validate(); err != nil {
		return SharingChange{}, err
	}
	alone := existing != nil && existing.Clock != nil && existing.Clock.ExtendWith == ExtendAlone
	e := RequestEvent{RequestID: args.ID, Event: "ask_extension", Reason: args.Reason}
	event := "ask"
	if alone {
		e.Event, event = "extend", "extend"
	}
	if err := existing.next(call, "sharing:Extend", event, &e); err != nil {
		return SharingChange{}, err
	}
	if existing.Extension != nil {
		return SharingChange{}, refuse(Exists, "an extension of request %s is asked for already", args.ID)
	}
	extended, err := call.Deadlines.Extend(existing.Clock, args.Days, call.Tx.Time)
	if err != nil {
		return SharingChange{}, err
	}
	if alone {
		e.Clock = extended
	} else {
		e.Clock, e.Extension = existing.Clock, &Extension{Days: args.Days, Reason: args.Reason}
	}
	return existing.record(call, e)
}

// DecideExtension records the decision on an extension, by the lead or, where the
// lead is a party, by a peer: nobody consents to its own extension.
func DecideExtension(existing *ShareRequest, call Call, args DecideExtensionArgs) (SharingChange, error) {
	if err := args.Validate(); err != nil {
		return SharingChange{}, err
	}
	e := RequestEvent{RequestID: args.ID, Event: "deny_extension", Reason: args.Reason}
	if args.Decision == GrantExtension {
		e.Event = "extend"
	}
	if err := existing.next(call, "sharing:DecideExtension", string(args.Decision), &e); err != nil {
		return SharingChange{}, err
	}
	if existing.Extension == nil {
		return SharingChange{}, refuse(NotFound, "no extension of request %s is asked for", args.ID)
	}
	e.Clock = existing.Clock
	if args.Decision == GrantExtension {
		clock, err := call.Deadlines.Extend(existing.Clock, existing.Extension.Days, call.Tx.Time)
		if err != nil {
			return SharingChange{}, err
		}
		e.Clock = clock
	}
	return existing.record(call, e)
}

// DisputeShare records that the consumer disputes a refusal, within its time
// limit, or the silence of a provider whose answer is overdue.
func DisputeShare(existing *ShareRequest, call Call, args DisputeArgs) (SharingChange, error) {
	if err := args.Validate(); err != nil {
		return SharingChange{}, err
	}
	e := RequestEvent{RequestID: args.ID, Event: "dispute", Reason: args.Reason}
	if err := existing.next(call, "sharing:Dispute", "", &e); err != nil {
		return SharingChange{}, err
	}
	overdue, due := existing.Clock.Overdue(call.Tx.Time), existing.Clock.DueAt.Format(time.RFC3339)
	refused := existing.State == RequestRefused
	switch {
	case refused && overdue:
		return SharingChange{}, refuse(Invalid, "clock: the time to dispute the refusal passed at %s", due)
	case !refused && !overdue:
		return SharingChange{}, refuse(Invalid, "clock: the answer is not overdue before %s", due)
	}
	return existing.start(DeadlineMediation, call, e)
}

// MediateShare records the decision of a dispute. Silence cannot be upheld.
func MediateShare(existing *ShareRequest, call Call, args MediateArgs) (SharingChange, error) {
	if err := args.Validate(); err != nil {
		return SharingChange{}, err
	}
	e := RequestEvent{RequestID: args.ID, Event: string(args.Decision), Reason: args.Reason}
	if err := existing.next(call, "sharing:Mediate", e.Event, &e); err != nil {
		return SharingChange{}, err
	}
	if args.Decision == Remand {
		return existing.start(DeadlineRequestAnswer, call, e)
	}
	if existing.Decision == "" {
		return SharingChange{}, refuse(Invalid, "decision: there is no answer to uphold, only silence")
	}
	return existing.record(call, e)
}

// DeliverShare records that the provider has delivered.
func DeliverShare(existing *ShareRequest, call Call, args DeliverArgs) (SharingChange, error) {
	if err := args.Validate(); err != nil {
		return SharingChange{}, err
	}
	e := RequestEvent{RequestID: args.ID, Event: "deliver", DeliveryDigest: args.DeliveryDigest}
	if err := existing.next(call, "sharing:Deliver", "", &e); err != nil {
		return SharingChange{}, err
	}
	return existing.start(DeadlineRequestConfirm, call, e)
}

// ConfirmShare records what the consumer says of the delivery.
func ConfirmShare(existing *ShareRequest, call Call, args ConfirmArgs) (SharingChange, error) {
	if err := args.Validate(); err != nil {
		return SharingChange{}, err
	}
	e := RequestEvent{RequestID: args.ID, Event: string(args.Decision), Reason: args.Reason}
	if err := existing.next(call, "sharing:Confirm", e.Event, &e); err != nil {
		return SharingChange{}, err
	}
	if args.Decision == RejectDelivery {
		return existing.start(DeadlineRequestDelivery, call, e)
	}
	return existing.record(call, e)
}

// WithdrawShare takes back a request that is not answered.
func WithdrawShare(existing *ShareRequest, call Call, args ReasonArgs) (SharingChange, error) {
	return existing.end(call, "sharing:Withdraw", "withdraw", args)
}

// CloseShare closes a request: one in use when the use has ended, or a refusal
// that the consumer accepts.
func CloseShare(existing *ShareRequest, call Call, args ReasonArgs) (SharingChange, error) {
	return existing.end(call, "sharing:Close", "close", args)
}

// end records that the consumer ends a request, with the reason.
func (r *ShareRequest) end(call Call, transaction, event string, args ReasonArgs) (SharingChange, error) {
	if err := args.Validate(); err != nil {
		return SharingChange{}, err
	}
	e := RequestEvent{RequestID: args.ID, Event: event, Reason: args.Reason}
	if err := r.next(call, transaction, "", &e); err != nil {
		return SharingChange{}, err
	}
	return r.record(call, e)
}

// MarkShareOverdue records that the time limit of a request has passed.
func MarkShareOverdue(existing *ShareRequest, call Call, args IDArgs) (SharingChange, error) {
	if err := args.Validate(); err != nil {
		return SharingChange{}, err
	}
	e := RequestEvent{RequestID: args.ID, Event: "mark_overdue"}
	if err := existing.next(call, "sharing:MarkOverdue", "", &e); err != nil {
		return SharingChange{}, err
	}
	clock, err := existing.Clock.Mark(call.Tx.Time)
	if err != nil {
		return SharingChange{}, err
	}
	e.Clock, e.Extension = clock, existing.Extension
	return existing.record(call, e)
}

// ReplayRequest computes a request from its events, in order.
func ReplayRequest(events []RequestEvent) (ShareRequest, error) {
	if len(events) == 0 {
		return ShareRequest{}, refuse(Invalid, "a request has at least one event")
	}
	var r ShareRequest
	for _, e := range events {
		var err error
		if r, err = r.apply(e); err != nil {
			return ShareRequest{}, err
		}
	}
	return r, nil
}

// StatusAt is the state of the request at t: the stored one, or [RequestOverdue]
// while it waits for the provider's answer and the time limit has passed.
func (r ShareRequest) StatusAt(t time.Time) RequestState {
	waits := r.State == RequestAccepted || r.State == RequestExtended || r.State == RequestMediated
	if waits && r.Clock.Overdue(t) {
		return RequestOverdue
	}
	return r.State
}

// requestState is the state of a request that may not exist.
func requestState(r *ShareRequest) string {
	if r == nil {
		return Absent
	}
	return string(r.State)
}

// next asks the machine for the state after e and fills it in.
func (r *ShareRequest) next(call Call, transaction, event string, e *RequestEvent) error {
	what := "request " + e.RequestID
	to, err := move{
		who: call.Who, kind: KindRequest, what: what, transaction: transaction, event: event, from: requestState(r),
		acts: r.sides(call, transaction),
	}.next()
	if err != nil {
		return err
	}
	e.State = RequestState(to)
	return notBefore(what, r.Meta, call.Tx)
}

// sides tells for which sides of a request the caller acts. The lead's part is
// settled with the request: who checks it, and who decides between its parties.
func (r *ShareRequest) sides(call Call, transaction string) func(Side) bool {
	return func(s Side) bool {
		if r == nil {
			return false
		}
		judge := r.Mediator
		if transaction == "sharing:Accept" {
			judge = r.Checker
		}
		own := call.Who.Department
		switch s {
		case SideAny:
			return true
		case SideProvider:
			return own == r.Provider
		case SideConsumer:
			return own == r.Consumer
		case SideLead:
			return judge == SideLead && call.Dept.Lead
		case SidePeer:
			return judge == SidePeer && own != r.Provider && own != r.Consumer
		case SideFounder, SideOwner: // are sides of other records
		}
		return false
	}
}

// start records e with the time limit that it starts.
func (r *ShareRequest) start(event DeadlineEvent, call Call, e RequestEvent) (SharingChange, error) {
	clock, err := call.Deadlines.Start(event, call.Tx.Time)
	if err != nil {
		return SharingChange{}, err
	}
	e.Clock = clock
	return r.record(call, e)
}

// agree records e with the grant that it makes: items, period and quota of the
// version asked for. The time to deliver starts.
func (r *ShareRequest) agree(version *CatalogVersion, call Call, transaction string, e RequestEvent, items []string, period Period, quota Quota) (SharingChange, error) {
	if err := r.checkVersion(version); err != nil {
		return SharingChange{}, err
	}
	if !period.To.After(call.Tx.Time) {
		return SharingChange{}, refuse(Invalid, "period.to: already past")
	}
	content := r.Content
	granted, err := recordGrant(Grant{
		ID: content.ID, RequestID: content.ID,
		CatalogCode: content.CatalogCode, CatalogVersion: r.CatalogVersion, Items: items,
		Provider: r.Provider, Consumer: r.Consumer,
		Purpose: content.Purpose, ServiceItem: content.ServiceItem, ShareMode: content.ShareMode,
		Period: period, Quota: quota,
		ConditionsDigest: Digest([]byte(version.Content.ShareCondition)),
		GrantedAt:        call.Tx.Time,
	}, call, transaction, e.Event, r.sides(call, transaction), GrantEvent{Event: "grant"})
	if err != nil {
		return SharingChange{}, err
	}
	e.GrantID = granted.Grant.ID
	change, err := r.start(DeadlineRequestDelivery, call, e)
	if err != nil {
		return SharingChange{}, err
	}
	change.Grant, change.GrantEvent = &granted.Grant, &granted.Event
	return change, nil
}

// checkVersion refuses any catalog version but the one asked for.
func (r *ShareRequest) checkVersion(v *CatalogVersion) error {
	if v == nil || v.Version != r.CatalogVersion || v.Content.Code != r.Content.CatalogCode {
		return refuse(NotFound, "version %d of catalog entry %s is not recorded", r.CatalogVersion, r.Content.CatalogCode)
	}
	return nil
}

// record numbers and seals the event after r and applies it.
func (r *ShareRequest) record(call Call, e RequestEvent) (SharingChange, error) {
	e.Seq, e.LegalBasis = r.Seq+1, orEmpty(e.LegalBasis)
	if err := seal(&e, SchemaRequestEvent, call.Who, call.Tx); err != nil {
		return SharingChange{}, err
	}
	after, err := r.apply(e)
	return SharingChange{Request: after, Event: e}, err
}

// apply is the request after an event: the one place where a request changes.
func (r ShareRequest) apply(e RequestEvent) (ShareRequest, error) {
	if e.Seq != r.Seq+1 || (r.Seq > 0 && e.RequestID != r.Content.ID) {
		return ShareRequest{}, refuse(Invalid, "event %d of request %s does not follow event %d of request %s", e.Seq, e.RequestID, r.Seq, r.Content.ID)
	}
	if e.Seq == 1 {
		if e.Opened == nil || e.Content == nil {
			return ShareRequest{}, refuse(Invalid, "the first event of request %s does not open it", e.RequestID)
		}
		r.SubmittedAt, r.LegalBasis = e.TxTime, []string{}
	}
	r.State, r.Seq, r.Clock, r.Extension = e.State, e.Seq, e.Clock, e.Extension
	if o := e.Opened; o != nil {
		r.CatalogVersion, r.Consumer, r.Provider = o.CatalogVersion, o.Consumer, o.Provider
		r.Checker, r.Mediator, r.Unconditional = o.Checker, o.Mediator, o.Unconditional
	}
	if e.Content != nil {
		r.Content = *e.Content
	}
	if e.Reason != "" {
		r.Reason = e.Reason
	}
	if e.GrantID != "" {
		r.GrantID = e.GrantID
	}
	if e.DeliveryDigest != "" {
		r.DeliveryDigest = e.DeliveryDigest
	}
	r = r.answered(e)
	switch e.Event {
	case "dispute":
		r.Disputes++
	case "mark_overdue":
		r.Overdues++
	}
	return r, seal(&r, SchemaRequest, Caller{Department: e.Department, Role: e.Role}, Tx{ID: e.TxID, Time: e.TxTime})
}

// answered is the request with the answer that an event gives, or without the one
// that it sets aside.
func (r ShareRequest) answered(e RequestEvent) ShareRequest {
	switch {
	case e.Decision != "":
		r.AnsweredAt = &e.TxTime
	case e.Event == "remand":
		r.AnsweredAt = nil
	default:
		return r
	}
	r.Decision, r.AnsweredIn, r.AnsweredLate, r.LegalBasis = e.Decision, e.AnsweredIn, e.AnsweredLate, orEmpty(e.LegalBasis)
	return r
}

// checkRequestable compares a request with the entry it asks for. The version in
// force can be asked for while a change or the way offline is under review.
func checkRequestable(entry *CatalogEntry, tx Tx, args ShareRequestContent) error {
	inForce := []CatalogState{CatalogPublished, CatalogChangePending, CatalogOfflinePending}
	if !slices.Contains(inForce, entry.State) {
		return refuse(Invalid, "catalogCode: the entry is %s, only a published one can be asked for", entry.State)
	}
	var f findings
	checkAsked(&f, entry.Content, tx, args)
	return f.err()
}

// checkAsked compares a request with the content it asks for.
func checkAsked(f *findings, content CatalogContent, tx Tx, args ShareRequestContent) {
	if content.ShareType == NotShared {
		f.add("catalogCode", "the resource is not shared")
	}
	offered := offers(content)
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
}

// offers are the items of a resource with their share types: its name, for one
// without items.
func offers(content CatalogContent) map[string]ShareType {
	offered := make(map[string]ShareType, len(content.Items))
	for _, item := range content.Items {
		offered[item.Name] = item.ShareType
	}
	if len(content.Items) == 0 {
		offered[content.Name] = content.ShareType
	}
	return offered
}

// unconditional reports whether all these items are shared unconditionally.
func unconditional(content CatalogContent, items []string) bool {
	offered := offers(content)
	return !slices.ContainsFunc(items, func(name string) bool { return offered[name] != Unconditional })
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
	if given.Quota.Total > asked.Quota.Total || given.Quota.PerDay > asked.Quota.PerDay || given.Quota.PerMinute > asked.Quota.PerMinute {
		f.add("quota", "more than was asked for")
	}
	if len(given.Items) >= len(asked.Items) && given.Quota == asked.Quota &&
		given.Period.From.Equal(asked.Period.From) && given.Period.To.Equal(asked.Period.To) {
		f.add("decision", "nothing is left out, so the answer is agree")
	}
	return f.err()
}
