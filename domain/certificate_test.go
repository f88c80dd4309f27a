package domain

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// authorisationIn is police's authorisation for the type of
// [someCertificateContent], nil when absent.
func authorisationIn(state string) *Authorisation {
	if state == Absent {
		return nil
	}
	return &Authorisation{
		Meta: Meta{TxTime: noon}, Issuer: policeDept.Code, TypeCode: someTypeCode, TypeNameZh: "营业执照", TypeNameEn: "Business Licence",
		Basis: "市场主体登记管理条例", Period: Period{From: noon.AddDate(-1, 0, 0), To: noon.AddDate(5, 0, 0)}, State: AuthorisationState(state), Seq: 1,
	}
}

// certificateIn is police's certificate in a stored status, with a proposed change
// after a plus sign: "valid+suspend"; nil when absent. It was issued an hour before
// noon and got its status half an hour later.
func certificateIn(t testing.TB, state string) *Certificate {
	t.Helper()
	status, event, pending := strings.Cut(state, "+")
	if status == Absent {
		return nil
	}
	c := &Certificate{
		Meta: Meta{TxTime: noon}, Issuer: policeDept.Code, Content: someCertificateContent(t), Status: CertificateProposed, StatusSince: noon.Add(-time.Hour),
		Changes: []StatusChange{}, Seq: 1,
	}
	issued, changed := noon.Add(-time.Hour), noon.Add(-30*time.Minute)
	act := someProposal().Act
	act.EffectiveAt = changed
	switch CertificateStatus(status) {
	case CertificateProposed:
	case CertificateRejected:
		c.record(StatusChange{Status: CertificateRejected, Since: issued, RecordedAt: issued})
	default:
		c.record(StatusChange{Status: CertificateValid, Since: issued, RecordedAt: issued})
		switch CertificateStatus(status) { //nolint:exhaustive // the others have an act
		case CertificateValid:
		case CertificateSuperseded:
			c.record(StatusChange{Status: CertificateSuperseded, Since: changed, RecordedAt: changed, Successor: otherID})
		default:
			c.record(StatusChange{Status: CertificateStatus(status), Since: changed, RecordedAt: changed, Act: &act})
		}
	}
	if pending {
		c.Pending = &StatusProposal{Event: StatusEvent(event), Act: someProposal().Act, ProposedBy: RoleOperator, ProposedAt: noon}
	}
	return c
}

func someProposal() ProposeArgs {
	return ProposeArgs{Ref: someID, Event: RevokeCertificate, Act: StatusAct{
		DocumentNo: "撤决〔2026〕1号", LegalBasis: "行政许可法第六十九条", ReasonCode: "issued_wrongly", EffectiveAt: noon,
	}}
}

func someDecision(d CertificateDecision) DecideArgs {
	return DecideArgs{Ref: someID, Decision: d, Opinion: "材料不全"}
}

// certificateStates are all that a stored certificate can be in.
var certificateStates = []string{
	Absent, "proposed", "rejected", "valid", "suspended", "superseded", "revoked", "withdrawn", "cancelled",
	"valid+suspend", "valid+revoke", "valid+withdraw", "valid+cancel", "suspended+restore", "suspended+revoke", "suspended+withdraw",
}

// certificateStep is one transaction on a certificate and what it leads to.
type certificateStep struct {
	name string
	role Role
	run  func(existing *Certificate, call Call) (CertificateChange, error)
	ok   map[string]string // from each state that allows it to the status after it
	// taken refuses what is allowed but for a proposal that waits.
	taken []string
}

func certificateSteps(t *testing.T) []certificateStep {
	propose := func(event StatusEvent) func(*Certificate, Call) (CertificateChange, error) {
		return func(existing *Certificate, call Call) (CertificateChange, error) {
			args := someProposal()
			args.Event = event
			return ProposeStatus(existing, call, args)
		}
	}
	decide := func(d CertificateDecision) func(*Certificate, Call) (CertificateChange, error) {
		return func(existing *Certificate, call Call) (CertificateChange, error) {
			return DecideCertificate(DecideRecords{Existing: existing, Authorisation: authorisationIn("active")}, call, someDecision(d))
		}
	}
	onValid := []string{"valid+suspend", "valid+revoke", "valid+withdraw", "valid+cancel"}
	onSuspended := []string{"suspended+restore", "suspended+revoke", "suspended+withdraw"}
	both := slices.Concat(onValid, onSuspended)
	return []certificateStep{
		{"issue", RoleOperator, func(existing *Certificate, call Call) (CertificateChange, error) {
			c := contentBy(t, call.Dept)
			a := authorisationIn("active")
			a.Issuer = call.Dept.Code
			return IssueCertificate(IssueRecords{Existing: existing != nil, Authorisation: a}, call, IssueArgs{c})
		}, map[string]string{Absent: "proposed"}, nil},
		{"suspend", RoleOperator, propose(SuspendCertificate), map[string]string{"valid": "valid"}, onValid},
		{"restore", RoleOperator, propose(RestoreCertificate), map[string]string{"suspended": "suspended"}, onSuspended},
		{"revoke", RoleOperator, propose(RevokeCertificate), map[string]string{"valid": "valid", "suspended": "suspended"}, both},
		{"withdraw", RoleOperator, propose(WithdrawCertificate), map[string]string{"valid": "valid", "suspended": "suspended"}, both},
		{"cancel", RoleOperator, propose(CancelCertificate), map[string]string{"valid": "valid"}, onValid},
		{"approve", RoleReviewer, decide(ApproveCertificate), map[string]string{
			"proposed":      "valid",
			"valid+suspend": "suspended", "valid+revoke": "revoked", "valid+withdraw": "withdrawn", "valid+cancel": "cancelled",
			"suspended+restore": "valid", "suspended+revoke": "revoked", "suspended+withdraw": "withdrawn",
		}, nil},
		{"reject", RoleReviewer, decide(RejectCertificate), map[string]string{
			"proposed":      "rejected",
			"valid+suspend": "valid", "valid+revoke": "valid", "valid+withdraw": "valid", "valid+cancel": "valid",
			"suspended+restore": "suspended", "suspended+revoke": "suspended", "suspended+withdraw": "suspended",
		}, nil},
	}
}

// contentBy is content of a department's own.
func contentBy(t testing.TB, d Department) CertificateContent {
	t.Helper()
	c := someCertificateContent(t)
	c.IssuerUSCC = d.USCC
	c.CertID = composed(t, d, "20260001", "001")
	return c
}

func composed(t testing.TB, d Department, serial, version string) string {
	t.Helper()
	id, err := CertificateID{someTypeCode, d.USCC, serial, version}.Compose()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestCertificateCells runs every transaction by every role of every department on
// a certificate of police in every state.
func TestCertificateCells(t *testing.T) {
	cells := 0
	for _, step := range certificateSteps(t) {
		for _, state := range certificateStates {
			for _, dept := range []Department{policeDept, leadDept, civilDept} {
				for _, role := range append([]Role{""}, Roles...) {
					cells++
					to, allowed := step.ok[state]
					want := ok
					switch {
					case role != step.role:
						want = outcome(Forbidden)
					case step.name == "issue" && state != Absent:
						want = outcome(Exists)
					case step.name == "issue":
					case state == Absent:
						want = outcome(NotFound)
					case dept.Code != policeDept.Code:
						want = outcome(Forbidden)
					case slices.Contains(step.taken, state):
						want = outcome(Exists)
					case !allowed:
						want = outcome(WrongState)
					}
					t.Run(fmt.Sprintf("%s/state=%s/department=%s/role=%s", step.name, state, dept.Code, role), func(t *testing.T) {
						existing := certificateIn(t, state)
						before, _ := Canonical(existing)
						change, err := step.run(existing, callOf(dept, role, someTx))
						if after, _ := Canonical(existing); string(after) != string(before) {
							t.Error("the rule changed its argument")
						}
						if want != ok {
							if KindOf(err) != Kind(want) || StateOf(err) != "" && !strings.HasPrefix(state, StateOf(err)) {
								t.Errorf("got %+v, %v, want kind %s", change.Certificate.Status, err, want)
							}
							return
						}
						c := change.Certificate
						if err != nil || string(c.Status) != to || !DigestHolds(&c) || c.Department != dept.Code || c.Role != role {
							t.Errorf("got %+v, %v, want %s", c, err, to)
						}
						if existing != nil && c.Seq != existing.Seq+1 || existing == nil && c.Seq != 1 {
							t.Errorf("seq %d", c.Seq)
						}
						if (c.Pending != nil) != (step.role == RoleOperator && step.name != "issue") {
							t.Errorf("pending %+v", c.Pending)
						}
					})
				}
			}
		}
	}
	if want := 8 * len(certificateStates) * 3 * 6; cells != want {
		t.Errorf("%d cells, want %d", cells, want)
	}
}

func TestAuthorisationCells(t *testing.T) {
	states := []string{Absent, "active", "ended"}
	forbidden := outcome(Forbidden)
	testCells(t, RoleAdmin, states, grid{
		Absent: {forbidden, ok, forbidden}, "active": {forbidden, ok, forbidden}, "ended": {forbidden, ok, forbidden},
	}, func(who Caller, dept Department, state string) (string, error) {
		a, err := Authorise(authorisationIn(state), &policeDept, callOf(dept, who.Role, someTx), someAuthorisationArgs())
		return string(a.State), err
	}, "active")
	testCells(t, RoleAdmin, states, grid{
		Absent: row(NotFound), "active": {forbidden, ok, forbidden}, "ended": {forbidden, outcome(WrongState), forbidden},
	}, func(who Caller, dept Department, state string) (string, error) {
		a, err := EndAuthorisation(authorisationIn(state), callOf(dept, who.Role, someTx), EndAuthorisationArgs{policeDept.Code, someTypeCode, "职责划转"})
		return string(a.State), err
	}, "ended")
}

func someAuthorisationArgs() AuthoriseArgs {
	a := authorisationIn("active")
	return AuthoriseArgs{a.Issuer, a.TypeCode, a.TypeNameZh, a.TypeNameEn, "市场主体登记管理条例第三条", a.Period}
}

func TestAuthorisations(t *testing.T) {
	lead := callOf(leadDept, RoleAdmin, someTx)
	args := someAuthorisationArgs()
	first, err := Authorise(nil, &policeDept, lead, args)
	if err != nil || first.Seq != 1 || first.State != AuthorisationActive || !DigestHolds(&first) {
		t.Fatalf("%+v, %v", first, err)
	}
	_, err = Authorise(&first, &policeDept, lead, args)
	wantKind(t, err, Exists, "authorisation of police for type "+someTypeCode+" is recorded already with this content")
	for name, change := range map[string]func(*AuthoriseArgs){
		"Chinese name": func(a *AuthoriseArgs) { a.TypeNameZh = "执照" }, "basis": func(a *AuthoriseArgs) { a.Basis = "条例" },
		"start": func(a *AuthoriseArgs) { a.Period.From = noon }, "end": func(a *AuthoriseArgs) { a.Period.To = a.Period.To.AddDate(1, 0, 0) },
	} {
		other := args
		change(&other)
		if a, err := Authorise(&first, &policeDept, lead, other); err != nil || a.Seq != 2 {
			t.Errorf("another %s: %+v, %v", name, a, err)
		}
	}
	args.TypeNameEn = "Licence"
	second, err := Authorise(&first, &policeDept, lead, args)
	if err != nil || second.Seq != 2 || second.TypeNameEn != "Licence" {
		t.Errorf("%+v, %v", second, err)
	}
	ended, err := EndAuthorisation(&second, callOf(leadDept, RoleAdmin, later(time.Hour)), EndAuthorisationArgs{args.Issuer, args.TypeCode, "职责划转"})
	if err != nil || ended.Seq != 3 || ended.Reason != "职责划转" || ended.TypeNameEn != "Licence" || !DigestHolds(&ended) {
		t.Errorf("%+v, %v", ended, err)
	}
	again, err := Authorise(&ended, &policeDept, callOf(leadDept, RoleAdmin, later(2*time.Hour)), args)
	if err != nil || again.Seq != 4 || again.Reason != "" || again.State != AuthorisationActive {
		t.Errorf("%+v, %v", again, err)
	}
	_, err = Authorise(nil, nil, lead, args)
	wantKind(t, err, NotFound, "department police is not registered")
	args.Period.To = noon
	_, err = Authorise(nil, &policeDept, lead, args)
	wantKind(t, err, Invalid, "period.to: already past")
	_, err = Authorise(nil, &policeDept, lead, AuthoriseArgs{})
	wantKind(t, err, Invalid, "issuer: ")
	_, err = EndAuthorisation(&first, lead, EndAuthorisationArgs{})
	wantKind(t, err, Invalid, "issuer: ")

	for _, tc := range []struct {
		a    Authorisation
		at   time.Time
		want AuthorisationState
	}{
		{first, first.Period.From.Add(-1), AuthorisationPending},
		{first, first.Period.From, AuthorisationActive},
		{first, first.Period.To.Add(-1), AuthorisationActive},
		{first, first.Period.To, AuthorisationExpired},
		{ended, ended.TxTime.Add(-1), AuthorisationActive},
		{ended, ended.TxTime, AuthorisationEnded},
		{ended, ended.Period.To, AuthorisationEnded},
	} {
		if got := tc.a.StatusAt(tc.at); got != tc.want {
			t.Errorf("%s at %s is %s, want %s", tc.a.State, tc.at, got, tc.want)
		}
	}
}

func TestCertificateContentValidate(t *testing.T) {
	valid := func() CertificateContent { return someCertificateContent(t) }
	checkInvalid(t, valid, []invalidCase[CertificateContent]{
		{"no service item", func(c *CertificateContent) { c.ServiceItem = "" }, ""},
		{"ref", func(c *CertificateContent) { c.Ref = "" }, "ref: " + hex32Rule},
		{
			"identifier", func(c *CertificateContent) { c.CertID = c.CertID[:len(c.CertID)-1] + "*" },
			"certId: certificate identifier: the check character must be one of 0-9 A-Z",
		},
		{"other type", func(c *CertificateContent) { c.TypeCode = "11100000MB0143028R002" }, "certId: names another type than typeCode"},
		{"other issuer", func(c *CertificateContent) { c.IssuerUSCC = civilDept.USCC }, "certId: names another issuer than issuerUscc"},
		{"type code", func(c *CertificateContent) { c.TypeCode = "1" }, "certId: names another type than typeCode; typeCode: " + typeCodeRule},
		{"second version", func(c *CertificateContent) { c.CertID = composed(t, policeDept, "20260001", "002") }, "certId: the version must be 001 unless the certificate replaces another"},
		{"second version of another", func(c *CertificateContent) {
			c.CertID, c.Replaces = composed(t, policeDept, "20260001", "002"), otherID
		}, ""},
		{"replaces", func(c *CertificateContent) { c.Replaces = "x" }, "replaces: " + hex32Rule},
		{"replaces itself", func(c *CertificateContent) { c.Replaces = c.Ref }, "replaces: is the certificate itself"},
		{"first index", func(c *CertificateContent) { c.StatusIndex = 0 }, ""},
		{"last index", func(c *CertificateContent) { c.StatusIndex = MaxStatusIndex }, ""},
		{"index below", func(c *CertificateContent) { c.StatusIndex = -1 }, "statusIndex: must be 0 to 16777215"},
		{"index above", func(c *CertificateContent) { c.StatusIndex = MaxStatusIndex + 1 }, "statusIndex: must be 0 to 16777215"},
		{"names", func(c *CertificateContent) { c.TypeNameZh, c.TypeNameEn = "", "" }, "typeNameZh: required; typeNameEn: required"},
		{"holder kind", func(c *CertificateContent) { c.HolderKind = "dog" }, "holderKind: not one of person, organisation"},
		{"a holder in the clear", func(c *CertificateContent) { c.HolderRef = "999999199001011234" }, "holderRef: " + hex64Rule},
		{"issued", func(c *CertificateContent) { c.IssuedAt = time.Time{} }, "issuedAt: required"},
		{"validity", func(c *CertificateContent) { c.Validity.To = c.Validity.From }, "validity.to: not after from"},
		{"service item", func(c *CertificateContent) { c.ServiceItem = "a b" }, "serviceItem: " + serviceItemRule},
		{"digests", func(c *CertificateContent) { c.ContentDigest, c.CheckCodeHash = "", "2345" }, "contentDigest: " + hex64Rule + "; checkCodeHash: " + hex64Rule},
	})
}

func TestCertificateArgsValidate(t *testing.T) {
	const reasonRule = "must be 1 to 40 characters of a-z 0-9 _, a letter first"
	checkInvalid(t, someProposal, []invalidCase[ProposeArgs]{
		{"ref", func(a *ProposeArgs) { a.Ref = "" }, "ref: " + hex32Rule},
		{"event", func(a *ProposeArgs) { a.Event = "supersede" }, "event: not one of suspend, restore, revoke, withdraw, cancel, object, settle"},
		{
			"act", func(a *ProposeArgs) { a.Act = StatusAct{} },
			"act.documentNo: required; act.legalBasis: required; act.reasonCode: " + reasonRule + "; act.effectiveAt: required",
		},
		{"a person in the act", func(a *ProposeArgs) { a.Act.DocumentNo = "持证人13800000000" }, "act.documentNo: " + personalRule},
	})
	decision := func() DecideArgs { return someDecision(RejectCertificate) }
	checkInvalid(t, decision, []invalidCase[DecideArgs]{
		{"approve without opinion", func(a *DecideArgs) { a.Decision, a.Opinion = ApproveCertificate, "" }, ""},
		{"reject without opinion", func(a *DecideArgs) { a.Opinion = "" }, "opinion: required"},
		{"decision", func(a *DecideArgs) { a.Decision = "return" }, "decision: not one of approve, reject"},
		{"ref", func(a *DecideArgs) { a.Ref = someID + "0" }, "ref: " + hex32Rule},
	})
	refs := func() DecideBatchArgs {
		return DecideBatchArgs{Refs: []string{someID, otherID}, Decision: RejectCertificate, Opinion: "材料不全"}
	}
	checkInvalid(t, refs, []invalidCase[DecideBatchArgs]{
		{"none", func(a *DecideBatchArgs) { a.Refs = nil }, "refs: required"},
		{"too many", func(a *DecideBatchArgs) { a.Refs = make([]string, MaxBatch+1) }, "refs: more than 1000 entries"},
		{"twice", func(a *DecideBatchArgs) { a.Refs[1] = someID }, "refs[1]: repeats an earlier entry"},
		{"ref", func(a *DecideBatchArgs) { a.Refs[0] = "x" }, "refs[0]: " + hex32Rule},
		{"opinion", func(a *DecideBatchArgs) { a.Opinion = "" }, "opinion: required"},
	})
	contents := func() IssueBatchArgs {
		first, second := someCertificateContent(t), someCertificateContent(t)
		second.Ref, second.CertID, second.StatusIndex = otherID, composed(t, policeDept, "20260002", "001"), 18
		return IssueBatchArgs{[]CertificateContent{first, second}}
	}
	checkInvalid(t, contents, []invalidCase[IssueBatchArgs]{
		{"none", func(a *IssueBatchArgs) { a.Contents = nil }, "contents: required"},
		{"too many", func(a *IssueBatchArgs) { a.Contents = make([]CertificateContent, MaxBatch+1) }, "contents: more than 1000 entries"},
		{"one is wrong", func(a *IssueBatchArgs) { a.Contents[1].HolderKind = "dog" }, "contents[1].holderKind: not one of person, organisation"},
		{
			"twice", func(a *IssueBatchArgs) { a.Contents[1] = a.Contents[0] },
			"contents[1].ref: repeats that of an earlier entry; contents[1].certId: repeats that of an earlier entry; contents[1].statusIndex: repeats that of an earlier entry",
		},
	})
	checkInvalid(t, someAuthorisationArgs, []invalidCase[AuthoriseArgs]{
		{"issuer", func(a *AuthoriseArgs) { a.Issuer = "Police" }, "issuer: must be 2 to 20 characters of a-z 0-9, a letter first"},
		{"type", func(a *AuthoriseArgs) { a.TypeCode = "1" }, "typeCode: " + typeCodeRule},
		{"names", func(a *AuthoriseArgs) { a.TypeNameZh, a.TypeNameEn = "", "" }, "typeNameZh: required; typeNameEn: required"},
		{"basis", func(a *AuthoriseArgs) { a.Basis = "" }, "basis: required"},
		{"period", func(a *AuthoriseArgs) { a.Period.To = a.Period.From }, "period.to: not after from"},
	})
	end := func() EndAuthorisationArgs { return EndAuthorisationArgs{"police", someTypeCode, "职责划转"} }
	checkInvalid(t, end, []invalidCase[EndAuthorisationArgs]{
		{"reason", func(a *EndAuthorisationArgs) { a.Reason = "" }, "reason: required"},
		{"issuer", func(a *EndAuthorisationArgs) { a.Issuer = "" }, "issuer: must be 2 to 20 characters of a-z 0-9, a letter first"},
	})
	checkInvalid(t, func() AuthorisationArgs { return AuthorisationArgs{"police", someTypeCode} }, []invalidCase[AuthorisationArgs]{
		{"type", func(a *AuthorisationArgs) { a.TypeCode = "" }, "typeCode: " + typeCodeRule},
	})
}

// life runs transactions of police on certificates, one an hour.
type life struct {
	*testing.T
	hours int
	now   map[string]*Certificate
}

func newLife(t *testing.T) *life { return &life{T: t, now: map[string]*Certificate{}} }

func (l *life) call(r Role) Call {
	l.hours++
	return callOf(policeDept, r, later(time.Duration(l.hours)*time.Hour))
}

func (l *life) put(change CertificateChange, err error) CertificateChange {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
	l.now[change.Certificate.Content.Ref] = &change.Certificate
	if old := change.Predecessor; old != nil {
		l.now[old.Content.Ref] = old
	}
	return change
}

func (l *life) issue(content CertificateContent) CertificateChange {
	l.Helper()
	return l.put(IssueCertificate(IssueRecords{Authorisation: authorisationIn("active"), Predecessor: l.now[content.Replaces]}, l.call(RoleOperator), IssueArgs{content}))
}

func (l *life) decide(ref string, d CertificateDecision) CertificateChange {
	l.Helper()
	return l.put(l.decision(ref, d))
}

func (l *life) decision(ref string, d CertificateDecision) (CertificateChange, error) {
	args := someDecision(d)
	args.Ref = ref
	known := DecideRecords{Existing: l.now[ref], Authorisation: authorisationIn("active")}
	if known.Existing != nil {
		known.Predecessor = l.now[known.Existing.Content.Replaces]
	}
	return DecideCertificate(known, l.call(RoleReviewer), args)
}

// change proposes and approves a change that took effect half an hour before the
// proposal.
func (l *life) change(ref string, event StatusEvent) CertificateChange {
	l.Helper()
	call := l.call(RoleOperator)
	args := someProposal()
	args.Ref, args.Event, args.Act.EffectiveAt = ref, event, call.Tx.Time.Add(-30*time.Minute)
	l.put(ProposeStatus(l.now[ref], call, args))
	return l.decide(ref, ApproveCertificate)
}

// replacement is the content of the next version of a certificate.
func replacement(t testing.TB, old CertificateContent, ref string, index int) CertificateContent {
	t.Helper()
	id, err := nextVersion(old.CertID)
	if err != nil {
		t.Fatal(err)
	}
	c := old
	c.Ref, c.CertID, c.Replaces, c.StatusIndex = ref, id, old.Ref, index
	return c
}

func TestCertificateLife(t *testing.T) {
	l := newLife(t)
	content := someCertificateContent(t)
	issue := l.issue(content)
	c := issue.Certificate
	if c.Issuer != "police" || c.Status != CertificateProposed || len(c.Changes) != 0 || !c.StatusSince.Equal(noon.Add(time.Hour)) {
		t.Errorf("certificate %+v", c)
	}
	if !issue.New || !DigestHolds(&c) {
		t.Errorf("issue %+v", issue)
	}
	l.decide(someID, ApproveCertificate)        // hour 2
	l.change(someID, SuspendCertificate)        // from 2:30, recorded at 4
	l.change(someID, RestoreCertificate)        // from 4:30, recorded at 6
	last := l.change(someID, RevokeCertificate) // from 6:30, recorded at 8
	after := func(hours float64) time.Time { return noon.Add(time.Duration(hours * float64(time.Hour))) }
	act := func(hours float64) *StatusAct {
		a := someProposal().Act
		a.EffectiveAt = after(hours)
		return &a
	}
	changes := []StatusChange{
		{Status: CertificateValid, Since: after(2), RecordedAt: after(2)},
		{Status: CertificateSuspended, Since: after(2.5), RecordedAt: after(4), Act: act(2.5)},
		{Status: CertificateValid, Since: after(4.5), RecordedAt: after(6), Act: act(4.5)},
		{Status: CertificateRevoked, Since: after(6.5), RecordedAt: after(8), Act: act(6.5)},
	}
	c = last.Certificate
	if diff := cmp.Diff(changes, c.Changes); diff != "" || c.Seq != 8 || c.Opinion != "材料不全" || c.Pending != nil {
		t.Errorf("seq %d, pending %+v, changes (-want +got):\n%s", c.Seq, c.Pending, diff)
	}
	if !c.StatusSince.Equal(after(6.5)) || c.StatusAct == nil || !c.StatusAct.EffectiveAt.Equal(after(6.5)) {
		t.Errorf("since %s by %+v", c.StatusSince, c.StatusAct)
	}
	for _, tc := range []struct {
		at   time.Time
		want CertificateStatus
	}{
		{content.Validity.From, CertificateNotYetValid}, // its validity had started, but nobody had issued it
		{after(2).Add(-1), CertificateNotYetValid},
		{after(2), CertificateValid},
		{after(2.5).Add(-1), CertificateValid},
		{after(2.5), CertificateSuspended},
		{after(4.5).Add(-1), CertificateSuspended},
		{after(4.5), CertificateValid},
		{after(6.5), CertificateRevoked},
		{content.Validity.To, CertificateRevoked},
	} {
		if got := c.StatusAt(tc.at); got != tc.want {
			t.Errorf("at %s it is %s, want %s", tc.at, got, tc.want)
		}
	}
}

// TestDecisionsShareNothing checks that two decisions on what was read once, as two
// transactions simulated on one peer, do not write into one another's history.
func TestDecisionsShareNothing(t *testing.T) {
	roomy := certificateIn(t, "valid+suspend")
	roomy.Changes = append(make([]StatusChange, 0, 8), roomy.Changes...)
	known := DecideRecords{Existing: roomy}
	reviewer := callOf(policeDept, RoleReviewer, someTx)
	first, err := DecideCertificate(known, reviewer, someDecision(ApproveCertificate))
	if err != nil {
		t.Fatal(err)
	}
	roomy.Pending.Event = RevokeCertificate
	second, err := DecideCertificate(known, reviewer, someDecision(ApproveCertificate))
	if err != nil {
		t.Fatal(err)
	}
	if got := first.Certificate; got.Changes[1].Status != CertificateSuspended || !DigestHolds(&got) || second.Certificate.Changes[1].Status != CertificateRevoked {
		t.Errorf("first %+v, second %+v", got.Changes, second.Certificate.Changes)
	}
}

func TestStatusOutsideValidity(t *testing.T) {
	at := func(state string, change func(*Certificate), when time.Time) CertificateStatus {
		c := certificateIn(t, state)
		if change != nil {
			change(c)
		}
		return c.StatusAt(when)
	}
	from, to := someCertificateContent(t).Validity.From, someCertificateContent(t).Validity.To
	startsLater := func(c *Certificate) { c.Content.Validity.From = noon.Add(time.Hour) }
	for _, tc := range []struct {
		name      string
		got, want CertificateStatus
	}{
		{"first moment", at("valid", nil, from), CertificateValid},
		{"last moment", at("valid", nil, to.Add(-1)), CertificateValid},
		{"after validity", at("valid", nil, to), CertificateExpired},
		{"before validity", at("valid", startsLater, noon), CertificateNotYetValid},
		{"when validity starts", at("valid", startsLater, noon.Add(time.Hour)), CertificateValid},
		{"revoked before validity", at("revoked", startsLater, noon), CertificateRevoked},
		{"a proposal changes nothing", at("valid+revoke", nil, noon.Add(time.Hour)), CertificateValid},
		{"proposed", at("proposed", nil, noon), CertificateProposed},
		{"proposed and past", at("proposed", nil, to), CertificateProposed},
		{"rejected", at("rejected", nil, noon), CertificateRejected},
		{"rejected, before", at("rejected", nil, from.Add(-1)), CertificateRejected},
		{"suspended and past", at("suspended", nil, to), CertificateSuspended},
		{"superseded and past", at("superseded", nil, to), CertificateSuperseded},
		{"withdrawn and past", at("withdrawn", nil, to), CertificateWithdrawn},
		{"cancelled and past", at("cancelled", nil, to), CertificateCancelled},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, tc.got, tc.want)
		}
	}
}

func TestReplacement(t *testing.T) {
	const third = "11112222333344445555666677778888"
	l := newLife(t)
	first := someCertificateContent(t)
	l.issue(first)
	l.decide(someID, ApproveCertificate)
	second := replacement(t, first, otherID, 18)
	if want := composed(t, policeDept, "20260001", "002"); second.CertID != want {
		t.Fatalf("next version %s, want %s", second.CertID, want)
	}
	l.issue(second)
	if l.now[someID].Status != CertificateValid {
		t.Error("a proposal supersedes")
	}
	// Refused: nothing happens to the first, and the identifier is free.
	refusal := l.decide(otherID, RejectCertificate)
	if refusal.FreedID != second.CertID || refusal.Predecessor != nil || refusal.Certificate.Opinion != "材料不全" || l.now[someID].Status != CertificateValid {
		t.Errorf("refusal %+v", refusal)
	}
	again := second
	again.Ref, again.StatusIndex = third, 19
	l.issue(again)
	approval := l.decide(third, ApproveCertificate)
	old := approval.Predecessor
	if old == nil || old.Status != CertificateSuperseded || old.Successor != third || old.Seq != 3 || !DigestHolds(old) ||
		!old.StatusSince.Equal(approval.Certificate.StatusSince) || old.Changes[1].Successor != third || approval.FreedID != "" {
		t.Fatalf("predecessor %+v", old)
	}
	since := approval.Certificate.StatusSince
	if old.StatusAt(since.Add(-1)) != CertificateValid || old.StatusAt(since) != CertificateSuperseded || approval.Certificate.StatusAt(since) != CertificateValid {
		t.Error("one does not take over from the other")
	}
	// A successor has no successor of its own yet, and can have one.
	if approval.Certificate.Successor != "" || approval.Certificate.Content.Replaces != someID {
		t.Errorf("successor %+v", approval.Certificate)
	}
}

func TestReplacementRefusals(t *testing.T) {
	operator := callOf(policeDept, RoleOperator, someTx)
	content := replacement(t, someCertificateContent(t), otherID, 18)
	ofLast := content
	ofLast.CertID = composed(t, policeDept, "20260001", "003")
	last := certificateIn(t, "valid")
	last.Content.CertID = composed(t, policeDept, "20260001", "999")
	past := certificateIn(t, "valid")
	past.Content.Validity.To = noon
	otherSerial := content
	otherSerial.CertID = composed(t, policeDept, "20260002", "002")
	foreign := certificateIn(t, "valid")
	foreign.Issuer = civilDept.Code
	next := "content.certId: must be the identifier of the replaced certificate with the next version, " + content.CertID
	for _, tc := range []struct {
		name    string
		old     *Certificate
		content CertificateContent
		want    string
	}{
		{"not recorded", nil, content, "content.replaces: not recorded"},
		{"of another", foreign, content, "content.replaces: is a certificate of another department"},
		{"pending", certificateIn(t, "valid+suspend"), content, "content.replaces: a proposed change of that certificate waits for the reviewer"},
		{"proposed", certificateIn(t, "proposed"), content, "content.replaces: that certificate is proposed, only a valid one can be replaced"},
		{"rejected", certificateIn(t, "rejected"), content, "content.replaces: that certificate is rejected, only a valid one can be replaced"},
		{"suspended", certificateIn(t, "suspended"), content, "content.replaces: that certificate is suspended, only a valid one can be replaced"},
		{"superseded", certificateIn(t, "superseded"), content, "content.replaces: that certificate is superseded, only a valid one can be replaced"},
		{"revoked", certificateIn(t, "revoked"), content, "content.replaces: that certificate is revoked, only a valid one can be replaced"},
		{"expired", past, content, "content.replaces: that certificate is expired, only a valid one can be replaced"},
		{"a version too far", certificateIn(t, "valid"), ofLast, next},
		{"another serial", certificateIn(t, "valid"), otherSerial, next},
		{"no version left", last, content, "content.certId: the replaced certificate has version 999, the last there is"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := IssueCertificate(IssueRecords{Authorisation: authorisationIn("active"), Predecessor: tc.old}, operator, IssueArgs{tc.content})
			if KindOf(err) != Invalid || err.Error() != "invalid: "+tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
	notYet := certificateIn(t, "valid")
	notYet.Content.Validity.From = noon.Add(time.Hour)
	if _, err := IssueCertificate(IssueRecords{Authorisation: authorisationIn("active"), Predecessor: notYet}, operator, IssueArgs{content}); err != nil {
		t.Errorf("of one whose validity has not started: %v", err)
	}

	// What changed between the proposal and the decision.
	proposed := certificateIn(t, "proposed")
	proposed.Content = content
	args := someDecision(ApproveCertificate)
	args.Ref = otherID
	for _, tc := range []struct {
		name string
		old  *Certificate
		kind Kind
		want string
	}{
		{"not recorded", nil, NotFound, "certificate " + someID + " is not recorded"},
		{"pending", certificateIn(t, "valid+revoke"), WrongState, "certificate " + someID + " is valid; a proposed change of it waits for the reviewer"},
		{"suspended", certificateIn(t, "suspended"), WrongState, "certificate " + someID + " is suspended; certificate:Decide needs valid"},
		{"revoked", certificateIn(t, "revoked"), WrongState, "is revoked; "},
		{"superseded", certificateIn(t, "superseded"), WrongState, "is superseded; "},
		{"expired", past, WrongState, "certificate " + someID + " is expired; only a valid certificate can be replaced"},
		{"of another", foreign, Forbidden, "is for the owner"},
	} {
		t.Run("decide/"+tc.name, func(t *testing.T) {
			known := DecideRecords{Existing: proposed, Authorisation: authorisationIn("active"), Predecessor: tc.old}
			_, err := DecideCertificate(known, callOf(policeDept, RoleReviewer, someTx), args)
			wantKind(t, err, tc.kind, tc.want)
			// It can still be refused.
			args := args
			args.Decision = RejectCertificate
			if change, err := DecideCertificate(known, callOf(policeDept, RoleReviewer, someTx), args); err != nil || change.Certificate.Status != CertificateRejected {
				t.Errorf("refuse: %v", err)
			}
		})
	}
}

func TestCertificateRefusals(t *testing.T) {
	operator, authorised := callOf(policeDept, RoleOperator, someTx), IssueRecords{Authorisation: authorisationIn("active")}
	content := someCertificateContent(t)
	_, err := IssueCertificate(authorised, callOf(civilDept, RoleOperator, someTx), IssueArgs{content})
	wantKind(t, err, Invalid, "content.issuerUscc: not the code of department civil")
	content.IssuedAt = noon.Add(time.Millisecond)
	_, err = IssueCertificate(authorised, operator, IssueArgs{content})
	wantKind(t, err, Invalid, "content.issuedAt: after the transaction's time")
	content.IssuedAt = noon.Add(time.Millisecond - 1)
	if _, err := IssueCertificate(authorised, operator, IssueArgs{content}); err != nil {
		t.Errorf("within the transaction's millisecond: %v", err)
	}
	_, err = IssueCertificate(authorised, operator, IssueArgs{})
	wantKind(t, err, Invalid, "content.ref: ")

	propose := func(state string, change func(*Certificate, *ProposeArgs)) error {
		c, args := certificateIn(t, state), someProposal()
		change(c, &args)
		_, err := ProposeStatus(c, operator, args)
		return err
	}
	wantKind(t, propose("valid", func(_ *Certificate, a *ProposeArgs) { a.Act.EffectiveAt = noon.Add(time.Second) }), Invalid, "act.effectiveAt: after the transaction's time")
	wantKind(t, propose("valid", func(_ *Certificate, a *ProposeArgs) { a.Act.EffectiveAt = noon.Add(-2 * time.Hour) }), Invalid, "act.effectiveAt: before the certificate was issued")
	wantKind(t, propose("suspended", func(_ *Certificate, a *ProposeArgs) { a.Act.EffectiveAt = noon.Add(-31 * time.Minute) }), Invalid, "act.effectiveAt: before the last change of status took effect")
	if err := propose("suspended", func(_ *Certificate, a *ProposeArgs) { a.Act.EffectiveAt = noon.Add(-30 * time.Minute) }); err != nil {
		t.Errorf("at the same time: %v", err)
	}
	wantKind(t, propose("valid", func(_ *Certificate, a *ProposeArgs) { *a = ProposeArgs{} }), Invalid, "ref: ")
	_, err = DecideCertificate(DecideRecords{Existing: certificateIn(t, "proposed")}, callOf(policeDept, RoleReviewer, someTx), DecideArgs{})
	wantKind(t, err, Invalid, "ref: ")
	wantKind(t, propose("valid+suspend", func(*Certificate, *ProposeArgs) {}), Exists,
		"a change of certificate "+someID+" is proposed already, suspend: the reviewer decides on it first")
}

// TestIssueNeedsAuthorisation checks both persons' transactions.
func TestIssueNeedsAuthorisation(t *testing.T) {
	past, future, renamed := authorisationIn("active"), authorisationIn("active"), authorisationIn("active")
	past.Period.To, future.Period.From = noon, noon.Add(time.Millisecond)
	renamed.TypeNameZh, renamed.TypeNameEn = "执照", "Licence"
	for _, tc := range []struct {
		name          string
		authorisation *Authorisation
		want          string // "" if allowed
	}{
		{"active", authorisationIn("active"), ""},
		{"none", nil, "content.typeCode: the department is not authorised to issue this type at this time"},
		{"ended", authorisationIn("ended"), "content.typeCode: the department is not authorised to issue this type at this time"},
		{"past", past, "content.typeCode: the department is not authorised to issue this type at this time"},
		{"to come", future, "content.typeCode: the department is not authorised to issue this type at this time"},
		{"other names", renamed, "content.typeNameZh: " + typeNameRule + "; content.typeNameEn: " + typeNameRule},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := IssueCertificate(IssueRecords{Authorisation: tc.authorisation}, callOf(policeDept, RoleOperator, someTx), IssueArgs{someCertificateContent(t)})
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || err.Error() != "invalid: "+tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			known := DecideRecords{Existing: certificateIn(t, "proposed"), Authorisation: tc.authorisation}
			reviewer := callOf(policeDept, RoleReviewer, someTx)
			_, err = DecideCertificate(known, reviewer, someDecision(ApproveCertificate))
			if strings.Contains(tc.want, "authorised") {
				wantKind(t, err, Forbidden, "department police is not authorised to issue certificates of type "+someTypeCode+" at this time")
			} else if err != nil {
				t.Errorf("decide: %v", err) // names are those of the time of the proposal
			}
			if _, err := DecideCertificate(known, reviewer, someDecision(RejectCertificate)); err != nil {
				t.Errorf("refuse: %v", err)
			}
			// What is issued needs no authorisation to change.
			known.Existing = certificateIn(t, "valid+revoke")
			if _, err := DecideCertificate(known, reviewer, someDecision(ApproveCertificate)); err != nil {
				t.Errorf("revoke: %v", err)
			}
		})
	}
}

// TestObjection checks that an objection is opened and settled by two persons, and
// that it changes no status and no answer about one.
func TestObjection(t *testing.T) {
	l := newLife(t)
	l.issue(someCertificateContent(t))
	if _, err := ProposeStatus(l.now[someID], l.call(RoleOperator), ProposeArgs{someID, ObjectCertificate, someProposal().Act}); KindOf(err) != WrongState {
		t.Errorf("objected to what is not issued: %v", err)
	}
	l.decide(someID, ApproveCertificate)
	propose := func(event StatusEvent, effective time.Duration) error {
		call := l.call(RoleOperator)
		args := ProposeArgs{someID, event, someProposal().Act}
		args.Act.EffectiveAt = call.Tx.Time.Add(effective)
		_, err := ProposeStatus(l.now[someID], call, args)
		return err
	}
	wantKind(t, propose(SettleCertificate, -time.Minute), Invalid, "no objection to the certificate is open")
	before := *l.now[someID]
	c := l.change(someID, ObjectCertificate).Certificate
	if c.OpenObjection == nil || !c.OpenObjection.RecordedAt.Equal(c.TxTime) || c.OpenObjection.Act.ReasonCode != someProposal().Act.ReasonCode || c.Pending != nil {
		t.Errorf("objection %+v", c.OpenObjection)
	}
	if c.Status != before.Status || len(c.Changes) != len(before.Changes) || c.StatusAt(c.TxTime) != CertificateValid || !DigestHolds(&c) {
		t.Errorf("an objection made it %s, changes %+v", c.Status, c.Changes)
	}
	wantKind(t, propose(ObjectCertificate, -time.Minute), Exists, "is open already")
	wantKind(t, propose(SettleCertificate, -100*time.Hour), Invalid, "act.effectiveAt: before the certificate was issued")
	wantKind(t, propose(SettleCertificate, c.OpenObjection.Act.EffectiveAt.Sub(c.TxTime)-10*time.Hour), Invalid, "act.effectiveAt: before the")

	// It outlives the certificate, and is settled then, too.
	ended := l.change(someID, RevokeCertificate).Certificate
	if ended.OpenObjection == nil || ended.Status != CertificateRevoked {
		t.Errorf("certificate %+v", ended)
	}
	settled := l.change(someID, SettleCertificate).Certificate
	if settled.OpenObjection != nil || settled.Status != CertificateRevoked || len(settled.Changes) != len(ended.Changes) {
		t.Errorf("certificate %+v", settled)
	}
	// The reviewer may reject either.
	call := l.call(RoleOperator)
	args := ProposeArgs{someID, ObjectCertificate, someProposal().Act}
	args.Act.EffectiveAt = call.Tx.Time
	l.put(ProposeStatus(l.now[someID], call, args))
	if c := l.decide(someID, RejectCertificate).Certificate; c.OpenObjection != nil || c.Pending != nil || c.Status != CertificateRevoked {
		t.Errorf("certificate %+v", c)
	}
}

// TestIdentifierIsIssuedOnce checks what a client meets that repeats an issue
// under a fresh reference because it never saw the first answer.
func TestIdentifierIsIssuedOnce(t *testing.T) {
	operator := callOf(policeDept, RoleOperator, someTx)
	known := IssueRecords{Authorisation: authorisationIn("active")}
	first, err := IssueCertificate(known, operator, IssueArgs{someCertificateContent(t)})
	if err != nil {
		t.Fatal(err)
	}
	again := someCertificateContent(t)
	again.Ref = otherID
	known.IndexTaken = true
	_, err = IssueCertificate(known, operator, IssueArgs{again})
	wantKind(t, err, Exists, "status index 17 of department police is taken")
	known.Issued = &IssuedID{CertID: first.Certificate.Content.CertID, Ref: first.Certificate.Content.Ref}
	_, err = IssueCertificate(known, operator, IssueArgs{again})
	wantKind(t, err, Exists, "certificate id "+again.CertID+" is already issued as "+someID)
	known.Authorisation = nil // whatever else is wrong with it by now
	_, err = IssueCertificate(known, operator, IssueArgs{again})
	wantKind(t, err, Exists, "is already issued as "+someID)
	// Nobody but the issuer learns the reference.
	_, err = IssueCertificate(known, callOf(policeDept, RoleReviewer, someTx), IssueArgs{again})
	wantKind(t, err, Forbidden, "role operator")
	_, err = IssueCertificate(known, callOf(civilDept, RoleOperator, someTx), IssueArgs{again})
	if KindOf(err) != Invalid || err.Error() != "invalid: content.issuerUscc: not the code of department civil" {
		t.Errorf("another department learns %v", err)
	}
}

// TestBatchesByReference checks that certificates whose references name one batch fit
// into one.
func TestBatchesByReference(t *testing.T) {
	content := func(i int) CertificateContent {
		c := someCertificateContent(t)
		c.Ref, c.CertID, c.StatusIndex = fmt.Sprintf("%012x%020x", 1, i), composed(t, policeDept, fmt.Sprint(20260001+i), "001"), i
		return c
	}
	var args IssueBatchArgs
	for i := range MaxBatchRows {
		args.Contents = append(args.Contents, content(i))
	}
	if err := args.Validate(); err != nil {
		t.Errorf("a full batch: %v", err)
	}
	other := content(MaxBatchRows)
	args.Contents = append(args.Contents, other)
	wantKind(t, args.Validate(), Invalid, "contents[50].ref: its first 12 digits name an issuing batch of more than 50 certificates")
	other.Ref, args.Contents[3].ServiceItem = fmt.Sprintf("%012x%020x", 2, 0), "0000"
	args.Contents[MaxBatchRows] = other
	wantKind(t, args.Validate(), Invalid, "contents[3].ref: "+batchRule)
	args.Contents[3] = content(3)
	data, err := Canonical(args)
	var read IssueBatchArgs
	if err == nil {
		err = ParseCanonical(data, &read)
	}
	if diff := cmp.Diff(args, read); diff != "" || err != nil {
		t.Errorf("as JSON, %v (-want +got):\n%s", err, diff)
	}
	var changes []CertificateChange
	for _, c := range args.Contents {
		changes = append(changes, CertificateChange{Certificate: Certificate{Content: c}})
	}
	batches, err := NewBatches(changes, callOf(policeDept, RoleOperator, someTx))
	if err != nil || len(batches) != 2 || batches[0].Issued.ID() != "000000000001" || batches[0].Size() != MaxBatchRows || batches[1].Size() != 1 {
		t.Errorf("%d batches, %v", len(batches), err)
	}
}

// TestStatusOfABatchIsBounded checks that whatever is recorded of the certificates of a
// batch fits into a transaction: suspensions end at a limit, and everything that ends a
// certificate goes on.
func TestStatusOfABatchIsBounded(t *testing.T) {
	longName, longText := strings.Repeat("𠮷", MaxName), strings.Repeat("𠮷", MaxText)
	var changes []CertificateChange
	var refs []string
	for i := range MaxBatchRows {
		content := someCertificateContent(t)
		content.Ref = fmt.Sprintf("%012x%020x", 1, i)
		refs = append(refs, content.Ref)
		changes = append(changes, CertificateChange{Certificate: Certificate{Issuer: "police", Content: content, Changes: []StatusChange{}, Seq: 1}})
	}
	now := someTx.Time
	steps := 0
	callBy := func(role Role) Call {
		now = now.Add(time.Second)
		steps++
		return callOf(policeDept, role, Tx{ID: TxID(fmt.Sprintf("%064x", steps)), Time: now, Channel: someTx.Channel})
	}
	batches, err := NewBatches(changes, callBy(RoleOperator))
	if err != nil {
		t.Fatal(err)
	}
	b := &batches[0]
	// each changes certificates of the batch with one transaction, and answers the size of
	// the status then.
	each := func(refs []string, role Role, change func(*Certificate, Call) (CertificateChange, error)) int {
		t.Helper()
		call, changed := callBy(role), map[string]Certificate{}
		for _, ref := range refs {
			row, _ := b.Row(ref)
			c := b.Certificate(row)
			next, err := change(&c, call)
			if err != nil {
				t.Fatal(err)
			}
			changed[ref] = next.Certificate
		}
		if b.Status, err = b.Changed(changed, call); err != nil {
			t.Fatal(err)
		}
		data, err := Canonical(&b.Status)
		if err != nil {
			t.Fatal(err)
		}
		return len(data)
	}
	act := func(i string) StatusAct { // no two are equal
		return StatusAct{DocumentNo: longName[4*len(i):] + i, LegalBasis: longText, ReasonCode: strings.Repeat("r", 40), EffectiveAt: now}
	}
	event := func(refs []string, event StatusEvent) int {
		t.Helper()
		each(refs, RoleOperator, func(c *Certificate, call Call) (CertificateChange, error) {
			return ProposeStatus(c, call, ProposeArgs{c.Content.Ref, event, act(c.Content.Ref[28:])})
		})
		return each(refs, RoleReviewer, func(c *Certificate, call Call) (CertificateChange, error) {
			return DecideCertificate(DecideRecords{Existing: c}, call, DecideArgs{c.Content.Ref, ApproveCertificate, longText})
		})
	}
	each(refs, RoleReviewer, func(c *Certificate, call Call) (CertificateChange, error) {
		return DecideCertificate(DecideRecords{Existing: c, Authorisation: authorisationIn("active")}, call, DecideArgs{c.Content.Ref, ApproveCertificate, longText})
	})
	for i := 0; b.RoomFor(SuspendCertificate) == nil; i++ {
		one := refs[i%len(refs) : i%len(refs)+1]
		event(one, SuspendCertificate)
		event(one, RestoreCertificate)
	}
	wantKind(t, b.RoomFor(SuspendCertificate), Invalid, "too much is recorded")
	last := 0
	for _, e := range []StatusEvent{ObjectCertificate, WithdrawCertificate} {
		if err := b.RoomFor(e); err != nil {
			t.Error(err)
		}
		last = event(refs, e)
	}
	if last < maxStatusBytes || last > 3*maxStatusBytes {
		t.Errorf("a status of %d bytes", last)
	}
}

func TestIssueBatch(t *testing.T) {
	operator := callOf(policeDept, RoleOperator, someTx)
	batch := func() (IssueBatchArgs, []IssueRecords) {
		var args IssueBatchArgs
		var known []IssueRecords
		for i := range 5 {
			c := someCertificateContent(t)
			c.Ref, c.CertID, c.StatusIndex = fmt.Sprintf("%012x%020x", i+1, 0), composed(t, policeDept, fmt.Sprint(20260001+i), "001"), i
			args.Contents = append(args.Contents, c)
			known = append(known, IssueRecords{Authorisation: authorisationIn("active")})
		}
		return args, known
	}
	args, known := batch()
	changes, err := IssueCertificateBatch(known, operator, args)
	if err != nil || len(changes) != 5 {
		t.Fatal(changes, err)
	}
	for i, change := range changes {
		single, err := IssueCertificate(known[i], operator, IssueArgs{args.Contents[i]})
		change, sealErr := change.sealed()
		if err == nil {
			err = sealErr
		}
		if diff := cmp.Diff(single, change); diff != "" || err != nil {
			t.Errorf("%d differs from a single issue, %v:\n%s", i, err, diff)
		}
	}

	known[3].Authorisation, known[4].Authorisation = nil, nil
	args.Contents[1].IssuedAt = noon.Add(time.Second)
	_, err = IssueCertificateBatch(known, operator, args)
	const rule = "typeCode: the department is not authorised to issue this type at this time"
	if err == nil || err.Error() != "invalid: contents[1].issuedAt: after the transaction's time; contents[3]."+rule+"; contents[4]."+rule {
		t.Errorf("got %v", err)
	}
	for _, finding := range Findings(err) {
		if finding.Rule == RuleOther || !strings.HasPrefix(finding.Field, "contents[") {
			t.Errorf("finding %+v", finding)
		}
	}
	// What is wrong with the arguments is told with it.
	args.Contents[2].HolderKind = ""
	_, err = IssueCertificateBatch(known, operator, args)
	if got := Findings(err); len(got) != 4 || got[0].Field != "contents[2].holderKind" {
		t.Errorf("findings %+v", got)
	}

	args, known = batch()
	known[0].Existing = true
	known[2].Issued = &IssuedID{CertID: args.Contents[2].CertID, Ref: otherID}
	known[4].IndexTaken = true
	_, err = IssueCertificateBatch(known, operator, args)
	if err == nil || err.Error() != "exists: contents[0]: certificate "+args.Contents[0].Ref+" is recorded already; contents[2]: certificate id "+
		args.Contents[2].CertID+" is already issued as "+otherID+"; contents[4]: status index 4 of department police is taken" {
		t.Errorf("got %v", err)
	}
	_, err = IssueCertificateBatch(known, callOf(policeDept, RoleReviewer, someTx), args)
	if KindOf(err) != Forbidden || strings.Contains(err.Error(), "contents") {
		t.Errorf("got %v", err)
	}
	_, err = IssueCertificateBatch(known[1:], operator, args)
	wantKind(t, err, Invalid, "contents: 5 certificates with the records of 4")
	_, err = IssueCertificateBatch(nil, operator, IssueBatchArgs{})
	wantKind(t, err, Invalid, "contents: required")
}

// TestChangesHaveAnEnd checks that a certificate that is suspended as often as it
// may be can still be restored and ended in every way.
func TestChangesHaveAnEnd(t *testing.T) {
	for _, event := range []StatusEvent{RevokeCertificate, WithdrawCertificate, CancelCertificate, "replace"} {
		l := newLife(t)
		l.issue(someCertificateContent(t))
		l.decide(someID, ApproveCertificate)
		suspensions := 0
		for {
			args := someProposal()
			args.Event = SuspendCertificate
			call := l.call(RoleOperator)
			args.Act.EffectiveAt = call.Tx.Time
			if _, err := ProposeStatus(l.now[someID], call, args); err != nil {
				wantKind(t, err, Invalid, "event: the certificate has too many changes of status to be suspended again")
				break
			}
			l.change(someID, SuspendCertificate)
			l.change(someID, RestoreCertificate)
			suspensions++
		}
		if event == "replace" {
			l.issue(replacement(t, someCertificateContent(t), otherID, 18))
			l.decide(otherID, ApproveCertificate)
		} else {
			l.change(someID, event)
		}
		if n := len(l.now[someID].Changes); suspensions != 31 || n != MaxStatusChanges {
			t.Errorf("%s after %d suspensions: %d changes", event, suspensions, n)
		}
		if len(l.now[someID].Tasks()) != 0 {
			t.Errorf("%s waits for %+v", event, l.now[someID].Tasks())
		}
	}
}

// TestCertificateTasks checks that whoever a certificate waits for can decide, and
// that it waits for nobody when nothing is to be decided.
func TestCertificateTasks(t *testing.T) {
	for _, state := range certificateStates[1:] {
		c := certificateIn(t, state)
		task := c.Task()
		for _, d := range []Department{policeDept, leadDept, civilDept} {
			for _, r := range Roles {
				_, err := DecideCertificate(DecideRecords{Existing: c, Authorisation: authorisationIn("active")}, callOf(d, r, someTx), someDecision(RejectCertificate))
				if waits := task.Waits(d.Code, d.Lead) && task.Role == r; waits != (err == nil) {
					t.Errorf("%s waits for the %s of %s: %t, but %v", state, r, d.Code, waits, err)
				}
			}
		}
		if task != nil && (task.Transaction != "certificate:Decide" || task.DueAt != nil) {
			t.Errorf("%s: task %+v", state, task)
		}
	}
}

func TestRefusals(t *testing.T) {
	var none, one, many Refusals
	if none.Err() != nil || none.Add("x", fmt.Errorf("broken")) || none.Err() != nil {
		t.Errorf("nothing was refused: %v", none.Err())
	}
	one.Add("", refuse(Exists, "taken"))
	wantKind(t, one.Err(), Exists, "exists: taken")
	for i := range MaxFindings + 2 {
		many.Add(fmt.Sprintf("refs[%d]", i), fmt.Errorf("decide: %w", wrongState("it", "valid", "no")))
	}
	wantKind(t, many.Err(), WrongState, "refs[49]: it is valid; no; 2 more findings")
}
