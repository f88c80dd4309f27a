package domain

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestShareRequestContentValidate(t *testing.T) {
	checkInvalid(t, someRequestContent, []invalidCase[ShareRequestContent]{
		{"id", func(c *ShareRequestContent) { c.ID = "1" }, "id: " + hex32Rule},
		{"no items", func(c *ShareRequestContent) { c.Items = nil }, "items: required"},
		{"repeated items", func(c *ShareRequestContent) { c.Items = []string{"库名", "库名"} }, "items[1]: repeats an earlier entry"},
		{"no purpose", func(c *ShareRequestContent) { c.Purpose = "" }, "purpose: required"},
		{"a person in the purpose", func(c *ShareRequestContent) { c.Purpose = "核验999999199001011234" }, "purpose: personal-number rule: contains what looks like a resident ID number or a mobile telephone number"},
		{"service item", func(c *ShareRequestContent) { c.ServiceItem = "" }, "serviceItem: " + serviceItemRule},
		{"a phone as service item", func(c *ShareRequestContent) { c.ServiceItem = "13800000000" }, "serviceItem: personal-number rule: contains what looks like a resident ID number or a mobile telephone number"},
		{"mode", func(c *ShareRequestContent) { c.ShareMode = "fax" }, "shareMode: not one of platform_table, platform_file, platform_api, mail, medium"},
		{"period", func(c *ShareRequestContent) { c.Period.To = c.Period.From }, "period.to: not after from"},
		{"no period", func(c *ShareRequestContent) { c.Period = Period{} }, "period.from: required; period.to: required"},
		{"quota", func(c *ShareRequestContent) { c.Quota = Quota{} }, "quota.total: must be at least 1; quota.perDay: must be at least 1; quota.perMinute: must be at least 1"},
		{"daily quota", func(c *ShareRequestContent) { c.Quota = Quota{5, 6, 1} }, "quota.perDay: more than the total"},
		{"quota of a minute", func(c *ShareRequestContent) { c.Quota = Quota{7, 6, 7} }, "quota.perMinute: more than the daily quota"},
		{"letter", func(c *ShareRequestContent) { c.LetterDigest = "" }, "letterDigest: " + hex64Rule},
		{"measures", func(c *ShareRequestContent) { c.SecurityMeasures, c.UseBasis = "", "" }, "useBasis: required; securityMeasures: required"},
	})
}

func TestAnswerArgsValidate(t *testing.T) {
	part := func(a *AnswerArgs) {
		a.Decision, a.Reason, a.Items = Partly, "理由", []string{"库名"}
		a.Period, a.Quota = someRequestContent().Period, someRequestContent().Quota
	}
	checkInvalid(t, func() AnswerArgs { return AnswerArgs{ID: someID, Decision: Agree} }, []invalidCase[AnswerArgs]{
		{"agree with a word", func(a *AnswerArgs) { a.Reason = "同意" }, ""},
		{"partly", part, ""},
		{
			"partly without all", func(a *AnswerArgs) { a.Decision = Partly },
			"reason: required; items: required for a partial agreement; period.from: required; period.to: required; quota.total: must be at least 1; quota.perDay: must be at least 1; quota.perMinute: must be at least 1",
		},
		{
			"agree with items", func(a *AnswerArgs) { part(a); a.Decision = Agree },
			"items: only for a partial agreement; period: only for a partial agreement; quota: only for a partial agreement",
		},
		{"refuse without basis", func(a *AnswerArgs) { a.Decision = Refuse }, "reason: required; legalBasis: required for a refusal"},
		{"refuse", func(a *AnswerArgs) { a.Decision, a.Reason, a.LegalBasis = Refuse, "理由", []string{"依据"} }, ""},
		{"decision", func(a *AnswerArgs) { a.Decision, a.Reason = "", "x" }, "decision: not one of agree, partly, refuse"},
		{"id", func(a *AnswerArgs) { a.ID = "" }, "id: " + hex32Rule},
	})
}

func TestSharingArgsValidate(t *testing.T) {
	const id = "id: " + hex32Rule
	long := strings.Repeat("字", MaxText+1)
	for _, tc := range []struct {
		name string
		args validator
		want string // the findings; "" if valid
	}{
		{"accept", AcceptArgs{someID, AcceptRequest, ""}, ""},
		{"accept with a word", AcceptArgs{someID, AcceptRequest, "已核"}, ""},
		{"return", AcceptArgs{someID, ReturnRequest, "缺函件"}, ""},
		{"return without reason", AcceptArgs{someID, ReturnRequest, ""}, "reason: required"},
		{"accept nothing", AcceptArgs{}, id + "; decision: not one of accept, return"},
		{"accept with a long reason", AcceptArgs{someID, AcceptRequest, long}, "reason: longer than 500 characters"},
		{"extend", ExtendArgs{someID, 250, "数据未归集"}, ""},
		{"extend nothing", ExtendArgs{}, id + "; days: must be 1 to 250 working days; reason: required"},
		{"extend long", ExtendArgs{someID, 251, "x"}, "days: must be 1 to 250 working days"},
		{"grant an extension", DecideExtensionArgs{someID, GrantExtension, ""}, ""},
		{"deny an extension", DecideExtensionArgs{someID, DenyExtension, "理由不足"}, ""},
		{"deny without reason", DecideExtensionArgs{someID, DenyExtension, ""}, "reason: required"},
		{"decide nothing", DecideExtensionArgs{}, id + "; decision: not one of grant, deny"},
		{"dispute", DisputeArgs{someID, "依据不成立"}, ""},
		{"dispute nothing", DisputeArgs{}, id + "; reason: required"},
		{"uphold", MediateArgs{someID, Uphold, "依据成立"}, ""},
		{"remand without reason", MediateArgs{someID, Remand, ""}, "reason: required"},
		{"mediate nothing", MediateArgs{}, id + "; decision: not one of uphold, remand; reason: required"},
		{"deliver", DeliverArgs{someID, someDigest}, ""},
		{"deliver nothing", DeliverArgs{}, id + "; deliveryDigest: " + hex64Rule},
		{"confirm", ConfirmArgs{someID, ConfirmDelivery, ""}, ""},
		{"reject", ConfirmArgs{someID, RejectDelivery, "缺字段"}, ""},
		{"reject without reason", ConfirmArgs{someID, RejectDelivery, ""}, "reason: required"},
		{"confirm nothing", ConfirmArgs{}, id + "; decision: not one of confirm, reject"},
		{"withdraw", ReasonArgs{someID, "不再需要"}, ""},
		{"withdraw nothing", ReasonArgs{}, id + "; reason: required"},
		{"a person in the reason", ReasonArgs{someID, "致电13800000000"}, "reason: " + personalRule},
		{"supplement", SupplementArgs{someRequestContent()}, ""},
		{"supplement without purpose", SupplementArgs{func() ShareRequestContent { c := someRequestContent(); c.Purpose = ""; return c }()}, "content.purpose: required"},
		{"mark", IDArgs{someID}, ""},
		{"mark nothing", IDArgs{}, id},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.args.Validate()
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || err.Error() != "invalid: "+tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

// requestStates are all states of a request that exists.
var requestStates = []RequestState{
	RequestSubmitted, RequestReturned, RequestAccepted, RequestExtended, RequestAgreed, RequestPartlyAgreed, RequestRefused,
	RequestDisputed, RequestMediated, RequestDelivered, RequestActive, RequestClosed, RequestWithdrawn,
}

// A constellation says who acts for which part in a request.
type constellation struct {
	name               string
	provider, consumer Department
	checker, mediator  Side
	check, mediate     []Department // who may
}

var allDepts = []Department{leadDept, policeDept, civilDept, marketDept}

var constellations = []constellation{
	{"the lead is no party", policeDept, civilDept, SideLead, SideLead, []Department{leadDept}, []Department{leadDept}},
	{"the lead asks", policeDept, leadDept, SidePeer, SidePeer, []Department{civilDept, marketDept}, []Department{civilDept, marketDept}},
	{"the lead provides", leadDept, civilDept, SideLead, SidePeer, []Department{leadDept}, []Department{policeDept, marketDept}},
}

func (c constellation) request(state RequestState) *ShareRequest {
	r := someRequest(state)
	r.Provider, r.Consumer, r.Checker, r.Mediator = c.provider.Code, c.consumer.Code, c.checker, c.mediator
	return r
}

// part names the departments that may do something in a constellation.
type part func(c constellation) []Department

var (
	byProvider part = func(c constellation) []Department { return []Department{c.provider} }
	byConsumer part = func(c constellation) []Department { return []Department{c.consumer} }
	byChecker  part = func(c constellation) []Department { return c.check }
	byMediator part = func(c constellation) []Department { return c.mediate }
	byAny      part = func(constellation) []Department { return allDepts }
)

// requestStep is what the law lets happen to a request, written down beside the
// machine, not derived from it.
type requestStep struct {
	name  string
	roles []Role
	who   part
	moves map[RequestState]RequestState
	run   func(r *ShareRequest, call Call) (SharingChange, error)
}

var (
	operator = []Role{RoleOperator}
	reviewer = []Role{RoleReviewer}
)

// answer runs an answer with everything that its decision needs.
func answer(decision AnswerDecision) func(*ShareRequest, Call) (SharingChange, error) {
	args := AnswerArgs{ID: someID, Decision: decision}
	switch decision {
	case Agree: // says nothing more
	case Partly:
		args.Reason, args.Items = "部分字段未归集", []string{"库名"}
		args.Period, args.Quota = someRequestContent().Period, someRequestContent().Quota
	case Refuse:
		args.Reason, args.LegalBasis = "不符合条件", []string{"条例第九条"}
	}
	return func(r *ShareRequest, call Call) (SharingChange, error) {
		return AnswerShare(r, someVersion(), call, args)
	}
}

// prepare gives the request, if there is one, what the step needs.
func prepare(r *ShareRequest, change func(*ShareRequest)) *ShareRequest {
	if r != nil {
		change(r)
	}
	return r
}

// overdue makes the request's time limit pass before the call.
func overdue(r *ShareRequest) *ShareRequest {
	return prepare(r, func(r *ShareRequest) {
		if r.Clock != nil {
			r.Clock.DueAt = noon
		}
	})
}

// waiting are the moves of a step from the states that wait for the answer: to its
// own state where one is named, else to the one under "".
func waiting(to map[RequestState]RequestState) map[RequestState]RequestState {
	moves := map[RequestState]RequestState{}
	for _, from := range []RequestState{RequestAccepted, RequestExtended, RequestMediated} {
		moves[from] = to[from]
		if moves[from] == "" {
			moves[from] = to[""]
		}
	}
	return moves
}

var requestSteps = []requestStep{
	{"accept", reviewer, byChecker, map[RequestState]RequestState{RequestSubmitted: RequestAccepted},
		func(r *ShareRequest, call Call) (SharingChange, error) {
			return AcceptShare(r, someVersion(), call, AcceptArgs{someID, AcceptRequest, ""})
		}},
	{"accept what is unconditional", reviewer, byChecker, map[RequestState]RequestState{RequestSubmitted: RequestAgreed},
		func(r *ShareRequest, call Call) (SharingChange, error) {
			return AcceptShare(prepare(r, func(r *ShareRequest) { r.Unconditional = true }), someVersion(), call, AcceptArgs{someID, AcceptRequest, ""})
		}},
	{"return", reviewer, byChecker, map[RequestState]RequestState{RequestSubmitted: RequestReturned},
		func(r *ShareRequest, call Call) (SharingChange, error) {
			return AcceptShare(r, someVersion(), call, AcceptArgs{someID, ReturnRequest, "缺函件"})
		}},
	{"supplement", operator, byConsumer, map[RequestState]RequestState{RequestReturned: RequestSubmitted},
		func(r *ShareRequest, call Call) (SharingChange, error) {
			return SupplementShare(r, someVersion(), call, SupplementArgs{someRequestContent()})
		}},
	{"agree", reviewer, byProvider, waiting(map[RequestState]RequestState{"": RequestAgreed}), answer(Agree)},
	{"partly", reviewer, byProvider, waiting(map[RequestState]RequestState{"": RequestPartlyAgreed}), answer(Partly)},
	{"refuse", reviewer, byProvider, waiting(map[RequestState]RequestState{"": RequestRefused}), answer(Refuse)},
	{"ask for an extension", reviewer, byProvider, waiting(map[RequestState]RequestState{
		RequestAccepted: RequestAccepted, RequestExtended: RequestExtended, RequestMediated: RequestMediated}),
		func(r *ShareRequest, call Call) (SharingChange, error) {
			return ExtendShare(r, call, ExtendArgs{someID, 5, "数据未归集"})
		}},
	{"extend alone", reviewer, byProvider, waiting(map[RequestState]RequestState{"": RequestExtended}),
		func(r *ShareRequest, call Call) (SharingChange, error) {
			return ExtendShare(prepare(r, func(r *ShareRequest) {
				if r.Clock != nil {
					r.Clock.ExtendWith = ExtendAlone
				} else {
					r.Clock = &Clock{ExtendWith: ExtendAlone}
				}
			}), call, ExtendArgs{someID, 5, "数据未归集"})
		}},
	{"grant an extension", reviewer, byMediator, waiting(map[RequestState]RequestState{"": RequestExtended}),
		func(r *ShareRequest, call Call) (SharingChange, error) {
			return DecideExtension(prepare(r, func(r *ShareRequest) { r.Extension = &Extension{5, "数据未归集"} }), call, DecideExtensionArgs{someID, GrantExtension, ""})
		}},
	{"deny an extension", reviewer, byMediator, waiting(map[RequestState]RequestState{
		RequestAccepted: RequestAccepted, RequestExtended: RequestExtended, RequestMediated: RequestMediated}),
		func(r *ShareRequest, call Call) (SharingChange, error) {
			return DecideExtension(prepare(r, func(r *ShareRequest) { r.Extension = &Extension{5, "数据未归集"} }), call, DecideExtensionArgs{someID, DenyExtension, "理由不足"})
		}},
	{"dispute a refusal", operator, byConsumer, map[RequestState]RequestState{RequestRefused: RequestDisputed},
		func(r *ShareRequest, call Call) (SharingChange, error) {
			if r != nil && slices.Contains([]RequestState{RequestAccepted, RequestExtended, RequestMediated}, r.State) {
				r.State = RequestActive // silence is the next step's
			}
			return DisputeShare(r, call, DisputeArgs{someID, "依据不成立"})
		}},
	{"dispute silence", operator, byConsumer, waiting(map[RequestState]RequestState{"": RequestDisputed}),
		func(r *ShareRequest, call Call) (SharingChange, error) {
			if r != nil && r.State == RequestRefused {
				r.State = RequestActive
			}
			return DisputeShare(overdue(r), call, DisputeArgs{someID, "逾期未答复"})
		}},
	{"uphold", reviewer, byMediator, map[RequestState]RequestState{RequestDisputed: RequestClosed},
		func(r *ShareRequest, call Call) (SharingChange, error) {
			return MediateShare(r, call, MediateArgs{someID, Uphold, "依据成立"})
		}},
	{"remand", reviewer, byMediator, map[RequestState]RequestState{RequestDisputed: RequestMediated},
		func(r *ShareRequest, call Call) (SharingChange, error) {
			return MediateShare(r, call, MediateArgs{someID, Remand, "依据不足"})
		}},
	{"deliver", operator, byProvider, map[RequestState]RequestState{RequestAgreed: RequestDelivered, RequestPartlyAgreed: RequestDelivered},
		func(r *ShareRequest, call Call) (SharingChange, error) {
			return DeliverShare(r, call, DeliverArgs{someID, someDigest})
		}},
	{"confirm", operator, byConsumer, map[RequestState]RequestState{RequestDelivered: RequestActive},
		func(r *ShareRequest, call Call) (SharingChange, error) {
			return ConfirmShare(r, call, ConfirmArgs{someID, ConfirmDelivery, ""})
		}},
	{"reject", operator, byConsumer, map[RequestState]RequestState{RequestDelivered: RequestAgreed},
		func(r *ShareRequest, call Call) (SharingChange, error) {
			return ConfirmShare(r, call, ConfirmArgs{someID, RejectDelivery, "缺字段"})
		}},
	{"withdraw", operator, byConsumer, map[RequestState]RequestState{
		RequestSubmitted: RequestWithdrawn, RequestReturned: RequestWithdrawn, RequestAccepted: RequestWithdrawn,
		RequestExtended: RequestWithdrawn, RequestDisputed: RequestWithdrawn, RequestMediated: RequestWithdrawn},
		func(r *ShareRequest, call Call) (SharingChange, error) {
			return WithdrawShare(r, call, ReasonArgs{someID, "不再需要"})
		}},
	{"close", operator, byConsumer, map[RequestState]RequestState{RequestActive: RequestClosed, RequestRefused: RequestClosed},
		func(r *ShareRequest, call Call) (SharingChange, error) {
			return CloseShare(r, call, ReasonArgs{someID, "使用结束"})
		}},
	{"mark overdue", []Role{RoleOperator, RoleReviewer, RoleGateway}, byAny, map[RequestState]RequestState{
		RequestSubmitted: RequestSubmitted, RequestAccepted: RequestAccepted, RequestExtended: RequestExtended, RequestMediated: RequestMediated,
		RequestAgreed: RequestAgreed, RequestPartlyAgreed: RequestPartlyAgreed, RequestDelivered: RequestDelivered, RequestDisputed: RequestDisputed},
		func(r *ShareRequest, call Call) (SharingChange, error) {
			return MarkShareOverdue(overdue(r), call, IDArgs{someID})
		}},
}

// TestRequestCells asserts every cell: step × constellation × state × department ×
// role.
func TestRequestCells(t *testing.T) {
	states := append([]RequestState{Absent}, requestStates...)
	cells := 0
	for _, step := range requestSteps {
		for _, c := range constellations {
			for _, state := range states {
				for _, dept := range allDepts {
					for _, role := range append([]Role{""}, Roles...) {
						cells++
						var r *ShareRequest
						if state != Absent {
							r = c.request(state)
						}
						to, allowed := step.moves[state]
						var want Kind
						switch {
						case !slices.Contains(step.roles, role):
							want = Forbidden
						case state == Absent:
							want = NotFound
						case !slices.ContainsFunc(step.who(c), func(d Department) bool { return d.Code == dept.Code }):
							want = Forbidden
						case !allowed:
							want = WrongState
						}
						got, err := step.run(r, callOf(dept, role, someTx))
						if KindOf(err) != want || err == nil && want != "" || want == "" && (err != nil || got.Request.State != to || got.Event.State != to) {
							t.Errorf("%s, %s, %q, %s of %s: got %q, %v, want %q %s", step.name, c.name, state, role, dept.Code, got.Request.State, err, to, want)
						}
						if want == WrongState && StateOf(err) != string(r.State) {
							t.Errorf("%s, %q: the error names the state %q", step.name, state, StateOf(err))
						}
					}
				}
			}
		}
	}
	if want := len(requestSteps) * 3 * 14 * 4 * 6; cells != want || len(requestSteps) != 21 {
		t.Errorf("%d cells of %d steps, want %d", cells, len(requestSteps), want)
	}
}

func TestRequestShareCells(t *testing.T) {
	for _, state := range append([]RequestState{Absent}, requestStates...) {
		for _, dept := range allDepts {
			for _, role := range append([]Role{""}, Roles...) {
				var existing *ShareRequest
				var want Kind
				switch {
				case role != RoleOperator:
					want = Forbidden
				case state != Absent:
					want = Exists
				case dept.Code == policeDept.Code:
					want = Forbidden // the provider does not ask itself
				}
				if state != Absent {
					existing = someRequest(state)
				}
				got, err := RequestShare(existing, someEntry(CatalogPublished), callOf(dept, role, someTx), someRequestContent())
				if KindOf(err) != want || want == "" && (err != nil || got.Request.State != RequestSubmitted) {
					t.Errorf("%q, %s of %s: got %q, %v, want kind %q", state, role, dept.Code, got.Request.State, err, want)
				}
			}
		}
	}
}

func TestRequestShare(t *testing.T) {
	call := callOf(civilDept, RoleOperator, someTx)
	got, err := RequestShare(nil, someEntry(CatalogPublished), call, someRequestContent())
	if err != nil {
		t.Fatal(err)
	}
	content := someRequestContent()
	clock, _ := someDeadlines().Start(DeadlineRequestCheck, noon)
	want := SharingChange{
		Request: ShareRequest{
			Meta: got.Request.Meta, Content: content, CatalogVersion: 1, Consumer: "civil", Provider: "police", Checker: SideLead, Mediator: SideLead,
			State: RequestSubmitted, Seq: 1, SubmittedAt: noon, Clock: clock, LegalBasis: []string{},
		},
		Event: RequestEvent{
			Meta: got.Event.Meta, RequestID: someID, Seq: 1, Event: "submit", State: RequestSubmitted, Clock: clock, Content: &content, LegalBasis: []string{},
			Opened: &Opened{CatalogVersion: 1, Consumer: "civil", Provider: "police", Checker: SideLead, Mediator: SideLead},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("change (-want +got):\n%s", diff)
	}
	if !DigestHolds(&got.Request) || !DigestHolds(&got.Event) || got.Request.Schema != SchemaRequest || got.Event.Schema != SchemaRequestEvent {
		t.Errorf("meta %+v, %+v", got.Request.Meta, got.Event.Meta)
	}
	for _, tc := range []struct {
		name   string
		entry  func(*CatalogEntry)
		args   func(*ShareRequestContent)
		reason string
	}{
		{"not shared", func(e *CatalogEntry) { e.Content.ShareType = NotShared }, nil, "catalogCode: the resource is not shared"},
		{"unknown item", nil, func(c *ShareRequestContent) { c.Items[1] = "姓名" }, "items[1]: not an item of the resource"},
		{"item not shared", nil, func(c *ShareRequestContent) { c.Items[1] = "汛限水位（米）" }, "items[1]: the item is not shared"},
		{"mode", nil, func(c *ShareRequestContent) { c.ShareMode = "mail" }, "shareMode: the resource is shared by platform_table"},
		{"past", nil, func(c *ShareRequestContent) { c.Period = Period{noon.AddDate(-1, 0, 0), noon} }, "period.to: already past"},
		{"a document by a part", func(e *CatalogEntry) { e.Content.Items = nil }, nil, "items[0]: not an item of the resource"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			entry, args := someEntry(CatalogPublished), someRequestContent()
			if tc.entry != nil {
				tc.entry(entry)
			}
			if tc.args != nil {
				tc.args(&args)
			}
			_, err := RequestShare(nil, entry, call, args)
			wantKind(t, err, Invalid, tc.reason)
		})
	}
	t.Run("entry not recorded", func(t *testing.T) {
		_, err := RequestShare(nil, nil, call, someRequestContent())
		wantKind(t, err, NotFound, "catalog entry "+someCode)
	})
	t.Run("bad argument", func(t *testing.T) {
		_, err := RequestShare(nil, someEntry(CatalogPublished), call, ShareRequestContent{})
		wantKind(t, err, Invalid, "id: ")
	})
	t.Run("no rule", func(t *testing.T) {
		call := call
		call.Deadlines.Rules = nil
		_, err := RequestShare(nil, someEntry(CatalogPublished), call, someRequestContent())
		wantKind(t, err, Invalid, "the time limit request_check is not set")
	})
}

func TestRequestableStates(t *testing.T) {
	for _, state := range []CatalogState{
		CatalogDraft, CatalogRegPending, CatalogRegistered, CatalogRegRejected, CatalogPubPending, CatalogPubRejected,
		CatalogPublished, CatalogChangePending, CatalogOfflinePending, CatalogOffline, CatalogRetired,
	} {
		_, err := RequestShare(nil, someEntry(state), callOf(civilDept, RoleOperator, someTx), someRequestContent())
		switch state {
		case CatalogPublished, CatalogChangePending, CatalogOfflinePending:
			if err != nil {
				t.Errorf("%s: %v", state, err)
			}
		default:
			wantKind(t, err, Invalid, "catalogCode: the entry is "+string(state)+", only a published one can be asked for")
		}
	}
}

func TestSidesAreSettledWithTheRequest(t *testing.T) {
	for _, c := range constellations {
		entry := someEntry(CatalogPublished)
		entry.Provider = c.provider.Code
		got, err := RequestShare(nil, entry, callOf(c.consumer, RoleOperator, someTx), someRequestContent())
		if err != nil || got.Request.Checker != c.checker || got.Request.Mediator != c.mediator {
			t.Errorf("%s: %+v, %v", c.name, got.Request, err)
		}
	}
}

// mixedEntry has an unconditional item beside a conditional one.
func mixedEntry() *CatalogEntry {
	e := someEntry(CatalogPublished)
	e.Content.ShareType, e.Content.ShareCondition = Unconditional, ""
	e.Content.Items[0].ShareType = Unconditional
	return e
}

func mixedVersion() *CatalogVersion {
	v := someVersion()
	v.Content = mixedEntry().Content
	return v
}

func TestUnconditional(t *testing.T) {
	document := mixedEntry()
	document.Content.Items = nil
	conditionalDocument := someEntry(CatalogPublished)
	conditionalDocument.Content.Items = nil
	for _, tc := range []struct {
		name  string
		entry *CatalogEntry
		items []string
		want  bool
	}{
		{"an unconditional item", mixedEntry(), []string{"库名"}, true},
		{"a conditional item", mixedEntry(), []string{"库水位（米）"}, false},
		{"both", mixedEntry(), []string{"库名", "库水位（米）"}, false},
		{"an unconditional document", document, []string{document.Content.Name}, true},
		{"a conditional document", conditionalDocument, []string{document.Content.Name}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := someRequestContent()
			args.Items = tc.items
			got, err := RequestShare(nil, tc.entry, callOf(civilDept, RoleOperator, someTx), args)
			if err != nil || got.Request.Unconditional != tc.want || got.Event.Opened.Unconditional != tc.want {
				t.Errorf("unconditional = %v, %v, want %v", got.Request.Unconditional, err, tc.want)
			}
		})
	}
}

func TestAcceptGrantsWhatIsUnconditional(t *testing.T) {
	r := someRequest(RequestSubmitted)
	r.Unconditional, r.Content.Items = true, []string{"库名"}
	tx := later(time.Hour)
	call := callOf(leadDept, RoleReviewer, tx)
	got, err := AcceptShare(r, mixedVersion(), call, AcceptArgs{someID, AcceptRequest, ""})
	if err != nil {
		t.Fatal(err)
	}
	delivery, _ := someDeadlines().Start(DeadlineRequestDelivery, tx.Time)
	want := *r
	want.Meta, want.State, want.Seq, want.Clock = got.Request.Meta, RequestAgreed, 2, delivery
	want.Decision, want.AnsweredAt, want.GrantID = Agree, &tx.Time, someID
	if diff := cmp.Diff(want, got.Request); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	if got.Event.Event != "grant" || got.Event.GrantID != someID || got.Event.Decision != Agree {
		t.Errorf("event %+v", got.Event)
	}
	grant := someGrant()
	grant.Meta, grant.Items, grant.GrantedAt, grant.ConditionsDigest = got.Grant.Meta, []string{"库名"}, tx.Time, Digest(nil)
	if diff := cmp.Diff(&grant, got.Grant); diff != "" {
		t.Errorf("grant (-want +got):\n%s", diff)
	}
	wantEvent := &GrantEvent{Meta: got.GrantEvent.Meta, GrantID: someID, Seq: 1, Event: "grant", State: GrantActive}
	if diff := cmp.Diff(wantEvent, got.GrantEvent); diff != "" || !DigestHolds(got.Grant) || !DigestHolds(got.GrantEvent) {
		t.Errorf("grant event (-want +got):\n%s", diff)
	}
	_, err = AcceptShare(r, nil, call, AcceptArgs{someID, AcceptRequest, ""})
	wantKind(t, err, NotFound, "version 1 of catalog entry "+someCode)
	other := mixedVersion()
	other.Version = 2
	_, err = AcceptShare(r, other, call, AcceptArgs{someID, AcceptRequest, ""})
	wantKind(t, err, NotFound, "version 1 of catalog entry "+someCode)
	r.Content.Period.To = tx.Time
	_, err = AcceptShare(r, mixedVersion(), call, AcceptArgs{someID, AcceptRequest, ""})
	wantKind(t, err, Invalid, "period.to: already past")
}

func TestReturnAndSupplement(t *testing.T) {
	r := someRequest(RequestSubmitted) // Monday, 2 March 2026
	back, err := AcceptShare(r, someVersion(), callOf(leadDept, RoleReviewer, later(50*time.Hour)), AcceptArgs{someID, ReturnRequest, "缺函件"})
	if err != nil {
		t.Fatal(err)
	}
	if c := back.Request.Clock; c.StoppedAt == nil || c.Used != 1 || back.Request.Reason != "缺函件" || back.Event.Event != "return" {
		t.Errorf("returned %+v", back)
	}
	content := someRequestContent()
	content.Items, content.LetterDigest = []string{"库名"}, Digest([]byte("函"))
	call := callOf(civilDept, RoleOperator, later(7*24*time.Hour)) // 9 March
	again, err := SupplementShare(&back.Request, mixedVersion(), call, SupplementArgs{content})
	if err != nil {
		t.Fatal(err)
	}
	want := back.Request
	want.Meta, want.State, want.Seq, want.Content, want.Unconditional = again.Request.Meta, RequestSubmitted, 3, content, true
	want.Clock, _ = someDeadlines().Resume(back.Request.Clock, call.Tx.Time)
	if diff := cmp.Diff(want, again.Request); diff != "" || again.Event.Event != "supplement" {
		t.Errorf("supplemented (-want +got):\n%s", diff)
	}
	if due := at(t, "2026-03-21 00:00:00"); !again.Request.Clock.DueAt.Equal(due) { // nine working days after 9 March
		t.Errorf("due at %s, want %s", again.Request.Clock.DueAt, due)
	}
	for _, tc := range []struct {
		name    string
		change  func(*ShareRequestContent)
		version *CatalogVersion
		kind    Kind
		want    string
	}{
		{"another resource", func(c *ShareRequestContent) { c.CatalogCode = "307003/000018" }, someVersion(), Invalid, "content.catalogCode: not the one of the request"},
		{"another item", func(c *ShareRequestContent) { c.Items = []string{"姓名"} }, someVersion(), Invalid, "content.items[0]: not an item of the resource"},
		{"no version", func(*ShareRequestContent) {}, nil, NotFound, "version 1 of catalog entry"},
		{"invalid", func(c *ShareRequestContent) { c.Purpose = "" }, someVersion(), Invalid, "content.purpose: required"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := someRequestContent()
			tc.change(&c)
			_, err := SupplementShare(&back.Request, tc.version, call, SupplementArgs{c})
			wantKind(t, err, tc.kind, tc.want)
		})
	}
}

func TestAnswerShare(t *testing.T) {
	call := callOf(policeDept, RoleReviewer, later(time.Hour))
	got, err := AnswerShare(someRequest(RequestAccepted), someVersion(), call, AnswerArgs{ID: someID, Decision: Agree})
	if err != nil {
		t.Fatal(err)
	}
	want := someGrant()
	want.ConditionsDigest = Digest([]byte("仅用于防汛调度"))
	want.Meta, want.GrantedAt = got.Grant.Meta, call.Tx.Time
	if diff := cmp.Diff(&want, got.Grant); diff != "" {
		t.Errorf("grant (-want +got):\n%s", diff)
	}
	if r, e := got.Request, got.Event; r.GrantID != someID || r.Seq != 2 || e.Seq != 2 || e.Event != "agree" || e.GrantID != someID ||
		r.Decision != Agree || !r.AnsweredAt.Equal(call.Tx.Time) || r.AnsweredIn != 0 || r.AnsweredLate || r.Clock.Event != DeadlineRequestDelivery {
		t.Errorf("request %+v, event %+v", r, e)
	}
	if !DigestHolds(&got.Request) || !DigestHolds(&got.Event) || !DigestHolds(got.Grant) || !DigestHolds(got.GrantEvent) {
		t.Error("a digest does not hold")
	}
	refused, err := answer(Refuse)(someRequest(RequestAccepted), call)
	if err != nil || refused.Grant != nil || refused.GrantEvent != nil || refused.Request.GrantID != "" ||
		!slices.Equal(refused.Request.LegalBasis, []string{"条例第九条"}) || refused.Request.Reason != "不符合条件" || refused.Request.Clock.Event != DeadlineRequestDispute {
		t.Errorf("refused %+v, %v", refused, err)
	}

	asked := someRequestContent()
	partly := AnswerArgs{ID: someID, Decision: Partly, Reason: "理由", Items: []string{"库名"}, Period: asked.Period, Quota: Quota{10, 1, 1}}
	part, err := AnswerShare(someRequest(RequestAccepted), someVersion(), call, partly)
	if err != nil || !slices.Equal(part.Grant.Items, partly.Items) || part.Grant.Quota != partly.Quota {
		t.Errorf("partial grant %+v, %v", part.Grant, err)
	}
	for _, tc := range []struct {
		name   string
		change func(*AnswerArgs)
		reason string
	}{
		{"items not asked for", func(a *AnswerArgs) { a.Items = []string{"姓名"} }, "items[0]: was not asked for"},
		{"longer", func(a *AnswerArgs) { a.Period.To = a.Period.To.Add(time.Second) }, "period: outside the period asked for"},
		{"earlier", func(a *AnswerArgs) { a.Period.From = a.Period.From.Add(-time.Second) }, "period: outside the period asked for"},
		{"more calls", func(a *AnswerArgs) { a.Quota = Quota{1001, 1, 1} }, "quota: more than was asked for"},
		{"more calls a day", func(a *AnswerArgs) { a.Quota = Quota{1000, 11, 1} }, "quota: more than was asked for"},
		{"more calls a minute", func(a *AnswerArgs) { a.Quota = Quota{1000, 10, 6} }, "quota: more than was asked for"},
		{"all of it", func(a *AnswerArgs) { a.Items, a.Quota = asked.Items, asked.Quota }, "decision: nothing is left out"},
		{"past", func(a *AnswerArgs) { a.Period.To = noon.Add(time.Minute) }, "period.to: already past"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := partly
			tc.change(&args)
			_, err := AnswerShare(someRequest(RequestAccepted), someVersion(), call, args)
			wantKind(t, err, Invalid, tc.reason)
		})
	}
	for _, version := range []*CatalogVersion{nil, {Version: 2, Content: someContent()}, {Version: 1}} {
		_, err = AnswerShare(someRequest(RequestAccepted), version, call, AnswerArgs{ID: someID, Decision: Agree})
		wantKind(t, err, NotFound, "version 1 of catalog entry "+someCode)
	}
}

func TestAnsweredIn(t *testing.T) {
	for _, tc := range []struct {
		accepted, answered string
		days               int
		late               bool
	}{
		{"2026-03-02 09:00:00", "2026-03-02 23:59:59", 0, false},
		{"2026-03-02 23:59:59", "2026-03-03 00:00:00", 1, false},
		{"2026-03-02 09:00:00", "2026-03-08 09:00:00", 4, false}, // a Sunday
		{"2026-03-02 09:00:00", "2026-03-16 23:59:59", 10, false},
		{"2026-03-02 09:00:00", "2026-03-17 00:00:00", 11, true},
		{"2024-02-08 09:00:00", "2024-02-19 09:00:00", 3, false}, // over the Spring Festival, with the worked Sunday
		{"2023-12-29 09:00:00", "2024-01-02 09:00:00", 1, false},
	} {
		d := realDeadlines(t)
		r := someRequest(RequestAccepted)
		r.TxTime = at(t, tc.accepted)
		r.Clock = mustClock(t)(d.Start(DeadlineRequestAnswer, r.TxTime))
		call := callOf(policeDept, RoleReviewer, Tx{Time: at(t, tc.answered)})
		call.Deadlines = d
		got, err := answer(Refuse)(r, call)
		if err != nil || got.Request.AnsweredIn != tc.days || got.Request.AnsweredLate != tc.late || got.Event.AnsweredIn != tc.days || got.Event.AnsweredLate != tc.late {
			t.Errorf("accepted %s, answered %s: in %d, late %v, %v", tc.accepted, tc.answered, got.Request.AnsweredIn, got.Request.AnsweredLate, err)
		}
	}
}

func TestExtension(t *testing.T) {
	provider := callOf(policeDept, RoleReviewer, later(time.Hour))
	lead := callOf(leadDept, RoleReviewer, later(2*time.Hour))
	r := someRequest(RequestAccepted)
	asked, err := ExtendShare(r, provider, ExtendArgs{someID, 4, "数据未归集"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&Extension{4, "数据未归集"}, asked.Request.Extension); diff != "" || asked.Event.Event != "ask_extension" ||
		asked.Request.State != RequestAccepted || asked.Request.Reason != "数据未归集" {
		t.Errorf("asked %+v", asked.Request)
	}
	if diff := cmp.Diff(r.Clock, asked.Request.Clock); diff != "" {
		t.Errorf("asking changes the clock (-want +got):\n%s", diff)
	}
	_, err = ExtendShare(&asked.Request, lead, ExtendArgs{someID, 4, "再延"})
	wantKind(t, err, Forbidden, "provider")
	_, err = ExtendShare(&asked.Request, callOf(policeDept, RoleReviewer, lead.Tx), ExtendArgs{someID, 1, "再延"})
	wantKind(t, err, Exists, "an extension of request "+someID+" is asked for already")

	granted, err := DecideExtension(&asked.Request, lead, DecideExtensionArgs{someID, GrantExtension, ""})
	if err != nil {
		t.Fatal(err)
	}
	if c := granted.Request.Clock; granted.Request.Extension != nil || granted.Event.Event != "extend" || granted.Request.State != RequestExtended ||
		c.Limit != 14 || c.ExtendMax != 1 || !c.DueAt.Equal(at(t, "2026-03-21 00:00:00")) {
		t.Errorf("granted %+v, clock %+v", granted.Request, c)
	}
	denied, err := DecideExtension(&asked.Request, lead, DecideExtensionArgs{someID, DenyExtension, "理由不足"})
	if err != nil || denied.Request.Extension != nil || denied.Event.Event != "deny_extension" || denied.Request.State != RequestAccepted ||
		!cmp.Equal(denied.Request.Clock, r.Clock) || denied.Request.Reason != "理由不足" {
		t.Errorf("denied %+v, %v", denied.Request, err)
	}
	_, err = DecideExtension(&denied.Request, lead, DecideExtensionArgs{someID, GrantExtension, ""})
	wantKind(t, err, NotFound, "no extension of request "+someID+" is asked for")

	late := callOf(policeDept, RoleReviewer, Tx{Time: r.Clock.DueAt})
	_, err = ExtendShare(r, late, ExtendArgs{someID, 6, "数据未归集"})
	wantKind(t, err, Invalid, "clock: the time limit passed at 2026-03-16T16:00:00Z; days: 6 working days asked for, at most 5 may be added")
	lead.Tx = late.Tx
	_, err = DecideExtension(&asked.Request, lead, DecideExtensionArgs{someID, GrantExtension, ""})
	wantKind(t, err, Invalid, "clock: the time limit passed at 2026-03-16T16:00:00Z")

	t.Run("an answer ends what is asked", func(t *testing.T) {
		got, err := answer(Agree)(&asked.Request, callOf(policeDept, RoleReviewer, later(3*time.Hour)))
		if err != nil || got.Request.Extension != nil {
			t.Errorf("answered %+v, %v", got.Request, err)
		}
	})
	t.Run("an overdue mark does not", func(t *testing.T) {
		got, err := MarkShareOverdue(&asked.Request, late, IDArgs{someID})
		if err != nil || got.Request.Extension == nil || got.Request.Overdues != 1 {
			t.Errorf("marked %+v, %v", got.Request, err)
		}
	})
	t.Run("taken alone", func(t *testing.T) {
		alone := someRequest(RequestAccepted)
		alone.Clock.ExtendWith = ExtendAlone
		got, err := ExtendShare(alone, provider, ExtendArgs{someID, 5, "数据未归集"})
		if err != nil || got.Event.Event != "extend" || got.Request.State != RequestExtended || got.Request.Clock.Limit != 15 || got.Request.Extension != nil {
			t.Errorf("extended %+v, %v", got.Request, err)
		}
	})
}

func TestDispute(t *testing.T) {
	consumer := func(tx Tx) Call { return callOf(civilDept, RoleOperator, tx) }
	args := DisputeArgs{someID, "依据不成立"}
	refused := someRequest(RequestRefused)
	last := Tx{Time: refused.Clock.DueAt.Add(-time.Millisecond)}
	got, err := DisputeShare(refused, consumer(last), args)
	if err != nil || got.Request.Disputes != 1 || got.Request.Clock.Event != DeadlineMediation || got.Request.Decision != Refuse || got.Request.Reason != args.Reason {
		t.Errorf("disputed %+v, %v", got.Request, err)
	}
	_, err = DisputeShare(refused, consumer(Tx{Time: refused.Clock.DueAt}), args)
	wantKind(t, err, Invalid, "clock: the time to dispute the refusal passed at 2026-03-16T16:00:00Z")
	silent := someRequest(RequestAccepted)
	_, err = DisputeShare(silent, consumer(last), args)
	wantKind(t, err, Invalid, "clock: the answer is not overdue before 2026-03-16T16:00:00Z")
	disputed, err := DisputeShare(silent, consumer(Tx{Time: silent.Clock.DueAt}), args)
	if err != nil {
		t.Fatal(err)
	}

	lead := func(d time.Duration) Call { return callOf(leadDept, RoleReviewer, Tx{Time: silent.Clock.DueAt.Add(d)}) }
	_, err = MediateShare(&disputed.Request, lead(0), MediateArgs{someID, Uphold, "依据成立"})
	wantKind(t, err, Invalid, "decision: there is no answer to uphold, only silence")
	upheld, err := MediateShare(&got.Request, lead(0), MediateArgs{someID, Uphold, "依据成立"})
	if err != nil || upheld.Request.State != RequestClosed || upheld.Request.Clock != nil || upheld.Request.Decision != Refuse {
		t.Errorf("upheld %+v, %v", upheld.Request, err)
	}
	remanded, err := MediateShare(&got.Request, lead(0), MediateArgs{someID, Remand, "依据不足"})
	if err != nil {
		t.Fatal(err)
	}
	if r := remanded.Request; r.State != RequestMediated || r.Clock.Event != DeadlineRequestAnswer || r.Decision != "" || r.AnsweredAt != nil ||
		r.AnsweredIn != 0 || r.AnsweredLate || len(r.LegalBasis) != 0 || r.LegalBasis == nil {
		t.Errorf("remanded %+v", r)
	}
	// The remand set the refusal aside: silence after it cannot be upheld either.
	again, err := DisputeShare(&remanded.Request, consumer(Tx{Time: remanded.Request.Clock.DueAt}), args)
	if err != nil || again.Request.Disputes != 2 {
		t.Fatalf("disputed again %+v, %v", again.Request, err)
	}
	_, err = MediateShare(&again.Request, lead(90*24*time.Hour), MediateArgs{someID, Uphold, "依据成立"})
	wantKind(t, err, Invalid, "decision: there is no answer to uphold, only silence")
}

func TestDelivery(t *testing.T) {
	consumer := callOf(civilDept, RoleOperator, later(2*time.Hour))
	delivered, err := DeliverShare(someRequest(RequestPartlyAgreed), callOf(policeDept, RoleOperator, later(time.Hour)), DeliverArgs{someID, someDigest})
	if err != nil || delivered.Request.DeliveryDigest != someDigest || delivered.Request.Clock.Event != DeadlineRequestConfirm {
		t.Fatalf("delivered %+v, %v", delivered.Request, err)
	}
	active, err := ConfirmShare(&delivered.Request, consumer, ConfirmArgs{someID, ConfirmDelivery, ""})
	if err != nil || active.Request.Clock != nil || active.Request.State != RequestActive {
		t.Errorf("confirmed %+v, %v", active.Request, err)
	}
	rejected, err := ConfirmShare(&delivered.Request, consumer, ConfirmArgs{someID, RejectDelivery, "缺字段"})
	if err != nil || rejected.Request.State != RequestAgreed || rejected.Request.Clock.Event != DeadlineRequestDelivery || rejected.Request.Reason != "缺字段" ||
		rejected.Request.DeliveryDigest != someDigest {
		t.Errorf("rejected %+v, %v", rejected.Request, err)
	}
	closed, err := CloseShare(&active.Request, consumer, ReasonArgs{someID, "使用结束"})
	if err != nil || closed.Request.State != RequestClosed || closed.Event.Event != "close" || closed.Request.Reason != "使用结束" {
		t.Errorf("closed %+v, %v", closed.Request, err)
	}
	withdrawn, err := WithdrawShare(someRequest(RequestAccepted), consumer, ReasonArgs{someID, "不再需要"})
	if err != nil || withdrawn.Request.Clock != nil || withdrawn.Event.Event != "withdraw" {
		t.Errorf("withdrawn %+v, %v", withdrawn.Request, err)
	}
}

func TestMarkShareOverdue(t *testing.T) {
	r := someRequest(RequestAccepted)
	gateway := func(at time.Time) Call { return callOf(marketDept, RoleGateway, Tx{Time: at}) }
	_, err := MarkShareOverdue(r, gateway(r.Clock.DueAt.Add(-time.Millisecond)), IDArgs{someID})
	wantKind(t, err, Invalid, "clock: the time limit has not passed, it ends at 2026-03-16T16:00:00Z")
	got, err := MarkShareOverdue(r, gateway(r.Clock.DueAt), IDArgs{someID})
	if err != nil || got.Request.Overdues != 1 || !got.Request.Clock.OverdueAt.Equal(r.Clock.DueAt) || got.Event.Event != "mark_overdue" || got.Request.State != RequestAccepted {
		t.Fatalf("marked %+v, %v", got.Request, err)
	}
	_, err = MarkShareOverdue(&got.Request, gateway(r.Clock.DueAt), IDArgs{someID})
	wantKind(t, err, Exists, "clock: that the time limit passed is recorded already")
	late, err := answer(Agree)(&got.Request, callOf(policeDept, RoleReviewer, Tx{Time: r.Clock.DueAt.Add(time.Hour)}))
	if err != nil || !late.Request.AnsweredLate || late.Request.Overdues != 1 {
		t.Errorf("late answer %+v, %v", late.Request, err)
	}
}

func TestRequestStatusAt(t *testing.T) {
	for _, state := range requestStates {
		r := someRequest(state)
		want := state
		if slices.Contains([]RequestState{RequestAccepted, RequestExtended, RequestMediated}, state) {
			want = RequestOverdue
			if got := r.StatusAt(r.Clock.DueAt.Add(-time.Millisecond)); got != state {
				t.Errorf("%s before it is due is %s", state, got)
			}
		}
		if got := r.StatusAt(noon.AddDate(1, 0, 0)); got != want {
			t.Errorf("%s after a year is %s, want %s", state, got, want)
		}
	}
}

// TestSharingNeedsRulesAndCalendars: whatever starts a time limit is refused
// where the lead has not set what it needs.
func TestSharingNeedsRulesAndCalendars(t *testing.T) {
	timeless := map[string]bool{"deny an extension": true, "uphold": true, "confirm": true, "withdraw": true, "close": true, "mark overdue": true}
	for _, step := range requestSteps {
		for _, state := range requestStates {
			if _, allowed := step.moves[state]; !allowed {
				continue
			}
			c := constellations[0]
			call := callOf(step.who(c)[0], step.roles[0], later(48*time.Hour))
			call.Deadlines.Calendars = nil
			_, err := step.run(c.request(state), call)
			if timeless[step.name] {
				if err != nil {
					t.Errorf("%s of %s: %v", step.name, state, err)
				}
				continue
			}
			wantKind(t, err, Invalid, "the working days of 2026 are not set")
		}
	}
}

func TestSharingTimesGrow(t *testing.T) {
	for _, step := range requestSteps {
		for _, state := range requestStates {
			if _, allowed := step.moves[state]; allowed {
				c := constellations[0]
				_, err := step.run(c.request(state), callOf(step.who(c)[0], step.roles[0], later(-time.Millisecond)))
				wantKind(t, err, Conflict, "request "+someID+" was changed at a later time")
			}
		}
	}
}

func TestSharingRefusesInvalidArguments(t *testing.T) {
	call := callOf(leadDept, RoleReviewer, someTx)
	for name, run := range map[string]func() (SharingChange, error){
		"accept":     func() (SharingChange, error) { return AcceptShare(nil, nil, call, AcceptArgs{}) },
		"supplement": func() (SharingChange, error) { return SupplementShare(nil, nil, call, SupplementArgs{}) },
		"answer":     func() (SharingChange, error) { return AnswerShare(nil, nil, call, AnswerArgs{}) },
		"extend":     func() (SharingChange, error) { return ExtendShare(nil, call, ExtendArgs{}) },
		"decide":     func() (SharingChange, error) { return DecideExtension(nil, call, DecideExtensionArgs{}) },
		"dispute":    func() (SharingChange, error) { return DisputeShare(nil, call, DisputeArgs{}) },
		"mediate":    func() (SharingChange, error) { return MediateShare(nil, call, MediateArgs{}) },
		"deliver":    func() (SharingChange, error) { return DeliverShare(nil, call, DeliverArgs{}) },
		"confirm":    func() (SharingChange, error) { return ConfirmShare(nil, call, ConfirmArgs{}) },
		"withdraw":   func() (SharingChange, error) { return WithdrawShare(nil, call, ReasonArgs{}) },
		"close":      func() (SharingChange, error) { return CloseShare(nil, call, ReasonArgs{}) },
		"mark":       func() (SharingChange, error) { return MarkShareOverdue(nil, call, IDArgs{}) },
	} {
		got, err := run()
		if diff := cmp.Diff(SharingChange{}, got); KindOf(err) != Invalid || diff != "" {
			t.Errorf("%s: %v, %s", name, err, diff)
		}
	}
}

func TestReplayRequestRefusals(t *testing.T) {
	got, err := RequestShare(nil, someEntry(CatalogPublished), callOf(civilDept, RoleOperator, someTx), someRequestContent())
	if err != nil {
		t.Fatal(err)
	}
	first := got.Event
	closed := RequestEvent{RequestID: someID, Seq: 1, Event: "submit"}
	foreign := RequestEvent{RequestID: otherID, Seq: 2, Event: "withdraw"}
	for _, tc := range []struct {
		name   string
		events []RequestEvent
		want   string
	}{
		{"none", nil, "a request has at least one event"},
		{"twice", []RequestEvent{first, first}, "event 1 of request " + someID + " does not follow event 1"},
		{"of another", []RequestEvent{first, foreign}, "event 2 of request " + otherID + " does not follow event 1 of request " + someID},
		{"not opened", []RequestEvent{closed}, "the first event of request " + someID + " does not open it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ReplayRequest(tc.events)
			wantKind(t, err, Invalid, tc.want)
		})
	}
}
