package domain

import (
	"errors"
	"flag"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// sharingLedger is what a ledger would hold of one request: the records, and the
// events that they must follow from.
type sharingLedger struct {
	entry       *CatalogEntry
	version     *CatalogVersion
	deadlines   Deadlines
	now         time.Time
	request     *ShareRequest
	events      []RequestEvent
	grant       *Grant
	granted     Grant
	grantEvents []GrantEvent
}

// newSharingLedger draws a resource of the lead or of police, with rules.
func newSharingLedger(t *rapid.T) *sharingLedger {
	entry := mixedEntry()
	entry.Provider = rapid.SampledFrom([]DepartmentCode{policeDept.Code, policeDept.Code, leadDept.Code}).Draw(t, "provider")
	l := &sharingLedger{entry: entry, deadlines: someDeadlines(), now: noon}
	l.version = &CatalogVersion{Provider: entry.Provider, Version: 1, Content: entry.Content}
	consent := rapid.SampledFrom([]ExtensionConsent{ExtendByLead, ExtendAlone}).Draw(t, "consent")
	limit := rapid.IntRange(1, 6).Draw(t, "limit")
	for i := range l.deadlines.Rules {
		l.deadlines.Rules[i].Limit, l.deadlines.Rules[i].ExtendWith = limit, consent
	}
	return l
}

// likely are the steps that a request in a state most often takes.
var likely = map[RequestState][]string{
	Absent:              {"request"},
	RequestSubmitted:    {"accept", "accept", "return"},
	RequestReturned:     {"supplement"},
	RequestAccepted:     {"agree", "partly", "refuse", "ask", "grant extension", "deny extension", "dispute"},
	RequestExtended:     {"agree", "partly", "refuse", "ask", "grant extension", "dispute"},
	RequestMediated:     {"agree", "partly", "refuse", "ask", "grant extension", "dispute"},
	RequestRefused:      {"dispute", "dispute", "close"},
	RequestDisputed:     {"uphold", "remand", "remand"},
	RequestAgreed:       {"deliver", "suspend", "resume"},
	RequestPartlyAgreed: {"deliver", "revoke"},
	RequestDelivered:    {"confirm", "reject"},
	RequestActive:       {"close", "suspend", "resume", "revoke"},
}

// sharingSteps are all steps, with the role that takes them.
var sharingSteps = map[string]Role{
	"request": RoleOperator, "accept": RoleReviewer, "return": RoleReviewer, "supplement": RoleOperator,
	"agree": RoleReviewer, "partly": RoleReviewer, "refuse": RoleReviewer,
	"ask": RoleReviewer, "grant extension": RoleReviewer, "deny extension": RoleReviewer,
	"dispute": RoleOperator, "uphold": RoleReviewer, "remand": RoleReviewer, "deliver": RoleOperator,
	"confirm": RoleOperator, "reject": RoleOperator, "withdraw": RoleOperator, "close": RoleOperator, "mark": RoleGateway,
	"suspend": RoleReviewer, "resume": RoleReviewer, "revoke": RoleReviewer,
}

var sharingStepNames = func() []string {
	var names []string
	for name := range sharingSteps {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}()

// step tries one transaction, most often a likely one by every department in
// turn, and checks what it wrote.
func (l *sharingLedger) step(t *rapid.T) {
	hours := rapid.SampledFrom([]int{0, 1, 20, 24, 24 * 3, 24 * 5, 24 * 12}).Draw(t, "hours")
	l.now = l.now.Add(time.Duration(hours) * time.Hour)
	state := RequestState(requestState(l.request))
	names := likely[state]
	if len(names) == 0 || rapid.IntRange(0, 4).Draw(t, "anything") == 0 {
		names = sharingStepNames
	}
	name := rapid.SampledFrom(names).Draw(t, "step")
	role := sharingSteps[name]
	if rapid.IntRange(0, 9).Draw(t, "any role") == 0 {
		role = rapid.SampledFrom(Roles).Draw(t, "role")
	}
	depts := slices.Clone(allDepts)
	first := rapid.IntRange(0, len(depts)-1).Draw(t, "department")
	for i := range depts {
		dept := depts[(first+i)%len(depts)]
		call := Call{Who: as(dept, role), Dept: dept, Lead: leadDept.Code, Tx: Tx{ID: someTx.ID, Time: l.now}, Deadlines: l.deadlines}
		if l.try(t, name, call) {
			return
		}
	}
}

// try runs a step and reports whether it wrote anything.
func (l *sharingLedger) try(t *rapid.T, name string, call Call) bool {
	var (
		change SharingChange
		err    error
	)
	switch name {
	case "suspend", "resume", "revoke":
		return l.tryGrant(t, name, call)
	case "request":
		change, err = RequestShare(l.request, l.entry, call, drawRequest(t))
	case "accept":
		change, err = AcceptShare(l.request, l.version, call, AcceptArgs{someID, AcceptRequest, ""})
	case "return":
		change, err = AcceptShare(l.request, l.version, call, AcceptArgs{someID, ReturnRequest, "缺函件"})
	case "supplement":
		change, err = SupplementShare(l.request, l.version, call, SupplementArgs{drawRequest(t)})
	case "agree", "refuse":
		args := AnswerArgs{ID: someID, Decision: AnswerDecision(name)}
		if name == "refuse" {
			args.Reason, args.LegalBasis = "不符合条件", []string{"条例第九条"}
		}
		change, err = AnswerShare(l.request, l.version, call, args)
	case "partly":
		change, err = AnswerShare(l.request, l.version, call, drawPart(t))
	case "ask":
		change, err = ExtendShare(l.request, call, ExtendArgs{someID, rapid.IntRange(1, 6).Draw(t, "days"), "数据未归集"})
	case "grant extension":
		change, err = DecideExtension(l.request, call, DecideExtensionArgs{someID, GrantExtension, ""})
	case "deny extension":
		change, err = DecideExtension(l.request, call, DecideExtensionArgs{someID, DenyExtension, "理由不足"})
	case "dispute":
		change, err = DisputeShare(l.request, call, DisputeArgs{someID, "依据不成立"})
	case "uphold", "remand":
		change, err = MediateShare(l.request, call, MediateArgs{someID, MediationDecision(name), "依据"})
	case "deliver":
		change, err = DeliverShare(l.request, call, DeliverArgs{someID, someDigest})
	case "confirm":
		change, err = ConfirmShare(l.request, call, ConfirmArgs{someID, ConfirmDelivery, ""})
	case "reject":
		change, err = ConfirmShare(l.request, call, ConfirmArgs{someID, RejectDelivery, "缺字段"})
	case "withdraw":
		change, err = WithdrawShare(l.request, call, ReasonArgs{someID, "不再需要"})
	case "close":
		change, err = CloseShare(l.request, call, ReasonArgs{someID, "使用结束"})
	case "mark":
		change, err = MarkShareOverdue(l.request, call, IDArgs{someID})
	default:
		t.Fatalf("no step %s", name)
	}
	if err != nil {
		checkRefusal(t, err)
		return false
	}
	l.put(t, change, call)
	return true
}

func (l *sharingLedger) tryGrant(t *rapid.T, name string, call Call) bool {
	run := map[string]func(*Grant, Call, ReasonArgs) (GrantChange, error){"suspend": SuspendGrant, "resume": ResumeGrant, "revoke": RevokeGrant}[name]
	change, err := run(l.grant, call, ReasonArgs{someID, "理由"})
	if err != nil {
		checkRefusal(t, err)
		return false
	}
	if (name == "resume") != (change.Grant.StoppedBy == "") || l.grant.State == GrantRevoked {
		t.Fatalf("%s of %+v gives %+v", name, l.grant, change.Grant)
	}
	l.grantEvents = append(l.grantEvents, checkStored(t, change.Event))
	l.grant = &change.Grant
	l.checkGrant(t)
	return true
}

// drawRequest draws content that is valid by itself, though not always for the
// resource.
func drawRequest(t *rapid.T) ShareRequestContent {
	c := someRequestContent()
	c.Items = rapid.SampledFrom([][]string{
		{"库名"}, {"库名"}, {"库名", "库水位（米）"}, {"库水位（米）"}, {"汛限水位（米）"}, {"库名", "姓名"},
	}).Draw(t, "items")
	c.Period.To = noon.AddDate(0, 0, rapid.SampledFrom([]int{365, 365, 30}).Draw(t, "period"))
	return c
}

// drawPart draws a partial agreement, which may be more than was asked for.
func drawPart(t *rapid.T) AnswerArgs {
	c := drawRequest(t)
	return AnswerArgs{
		ID: someID, Decision: Partly, Reason: "理由", Items: c.Items, Period: c.Period,
		Quota: rapid.SampledFrom([]Quota{{100, 10, 5}, {1000, 10, 5}, {2000, 10, 5}, {1000, 10, 6}}).Draw(t, "quota"),
	}
}

func checkRefusal(t *rapid.T, err error) {
	var e *Error
	if !errors.As(err, &e) || !slices.Contains(Kinds, e.Kind) {
		t.Fatalf("a refusal without kind: %v", err)
	}
	if e.Kind == WrongState && !slices.Contains(requestStates, RequestState(StateOf(err))) && StateOf(err) != string(GrantRevoked) && StateOf(err) != string(GrantSuspended) {
		t.Fatalf("a wrong state that is none: %v", err)
	}
}

// put records a change and checks everything that must hold after it.
func (l *sharingLedger) put(t *rapid.T, change SharingChange, call Call) {
	from := RequestState(requestState(l.request))
	declared := from == Absent && change.Request.State == RequestSubmitted
	for _, s := range requestSteps {
		to, ok := s.moves[from]
		declared = declared || ok && to == change.Request.State && slices.Contains(s.roles, call.Who.Role)
	}
	if !declared {
		t.Fatalf("%s leads from %q to %q by a %s", change.Event.Event, from, change.Request.State, call.Who.Role)
	}
	l.request, l.events = &change.Request, append(l.events, checkStored(t, change.Event))
	replayed, err := ReplayRequest(l.events)
	if err != nil {
		t.Fatal(err)
	}
	if !DigestHolds(&change.Request) || !DigestHolds(&change.Event) {
		t.Fatal("a digest does not hold")
	}
	if replayed.Digest != change.Request.Digest { // it is of all fields
		t.Fatalf("replayed (-stored +replayed):\n%s", cmp.Diff(change.Request, replayed))
	}
	checkStored(t, change.Request)
	l.checkClock(t)
	if waits := l.request.Clock != nil || l.request.State == RequestReturned; waits != (l.request.Task() != nil) {
		t.Fatalf("%s waits for %+v with the clock %+v", l.request.State, l.request.Task(), l.request.Clock)
	}
	if (change.Grant == nil) != (change.GrantEvent == nil) || (change.Request.GrantID != "") != (l.grant != nil || change.Grant != nil) {
		t.Fatalf("grant %v, event %v of %+v", change.Grant, change.GrantEvent, change.Request)
	}
	if change.Grant != nil {
		if l.grant != nil {
			t.Fatal("granted twice")
		}
		l.grant, l.granted, l.grantEvents = change.Grant, *change.Grant, []GrantEvent{checkStored(t, *change.GrantEvent)}
		l.checkGrant(t)
	}
}

// checkStored is the record as it is read back from its stored form, which gives
// the same form again.
func checkStored[T any](t *rapid.T, v T) T {
	data, err := Canonical(v)
	if err != nil {
		t.Fatal(err)
	}
	var again T
	if err := ParseCanonical(data, &again); err != nil {
		t.Fatal(err)
	}
	return again
}

func (l *sharingLedger) checkClock(t *rapid.T) {
	c := l.request.Clock
	if c == nil {
		return
	}
	due, refs, err := l.deadlines.After(c.StartedAt, c.Limit-c.Used)
	if c.StoppedAt != nil {
		due, refs, err = c.DueAt, c.Calendars, nil // as before the stop, computed anew when it runs on
	}
	if err != nil || !due.Equal(c.DueAt) || !slices.Equal(refs, c.Calendars) {
		t.Fatalf("clock %+v, want due at %s by %v, %v", c, due, refs, err)
	}
	if !c.DueAt.After(c.StartedAt) || c.Used < 0 || c.Used >= c.Limit || c.ExtendMax < 0 || c.StartedAt.After(l.now) ||
		(c.StoppedAt != nil) != (l.request.State == RequestReturned) || c.OverdueAt != nil && c.OverdueAt.Before(c.DueAt) {
		t.Fatalf("clock %+v of %s", c, l.request.State)
	}
}

// checkGrant checks that a grant gives nothing but what was asked for, offered in
// that version and shared, and that its events replay.
func (l *sharingLedger) checkGrant(t *rapid.T) {
	g, asked := l.grant, l.request.Content
	offered := offers(l.version.Content)
	for _, item := range g.Items {
		if shareType, ok := offered[item]; !ok || shareType == NotShared || !slices.Contains(asked.Items, item) {
			t.Fatalf("granted %q of %v", item, asked.Items)
		}
		if l.events[len(l.events)-1].Event == "grant" && offered[item] != Unconditional {
			t.Fatalf("granted %q without the provider's answer", item)
		}
	}
	if !g.Period.within(asked.Period) || g.Quota.Total > asked.Quota.Total || g.Quota.PerDay > asked.Quota.PerDay || g.Quota.PerMinute > asked.Quota.PerMinute ||
		g.CatalogVersion != l.version.Version || !g.Period.To.After(g.GrantedAt) {
		t.Fatalf("granted %+v of %+v", g, asked)
	}
	replayed, err := ReplayGrant(l.granted, l.grantEvents)
	if err != nil {
		t.Fatal(err)
	}
	if !DigestHolds(g) || replayed.Digest != g.Digest {
		t.Fatalf("replayed grant (-stored +replayed):\n%s", cmp.Diff(*g, replayed))
	}
}

// TestSharingProperties: no sequence of transactions reaches a state or makes a
// move that is not declared, events replay to the stored records after each step,
// and grants and time limits keep their bounds.
func TestSharingProperties(t *testing.T) {
	if err := flag.Set("rapid.checks", "10000"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = flag.Set("rapid.checks", "100") }()
	reached := map[RequestState]int{}
	grants, stopped := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		l := newSharingLedger(t)
		for range rapid.IntRange(1, 14).Draw(t, "steps") {
			l.step(t)
			if l.request != nil {
				reached[l.request.State]++
			}
		}
		if l.grant != nil {
			grants++
			if len(l.grantEvents) > 1 {
				stopped++
			}
		}
	})
	for _, state := range requestStates {
		if reached[state] < 50 {
			t.Errorf("the state %s was reached %d times only", state, reached[state])
		}
	}
	if grants < 500 || stopped < 50 {
		t.Errorf("%d grants, %d stopped only", grants, stopped)
	}
}
