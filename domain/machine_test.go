package domain

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite generated files")

// outcome is what a cell of a transition table must give: "ok" or the kind of
// the refusal.
type outcome string

const ok outcome = "ok"

// grid says, for callers of the right role, what each department meets in each
// state: the owner (police), the lead (bigdata), any other (civil).
type grid map[string][3]outcome

// testCells runs a transition for every role, department and state. Callers of
// any other role than role must be forbidden everywhere.
func testCells(t *testing.T, role Role, states []string, want grid, run func(who Caller, dept Department, state string) (to string, err error), to string) {
	t.Helper()
	if len(want) != len(states) {
		t.Fatalf("the grid has %d states, the record %d", len(want), len(states))
	}
	for _, state := range states {
		cells, known := want[state]
		if !known {
			t.Fatalf("the grid lacks state %q", state)
		}
		for i, dept := range []Department{policeDept, leadDept, civilDept} {
			for _, r := range append([]Role{""}, Roles...) {
				t.Run(fmt.Sprintf("state=%s/department=%s/role=%s", state, dept.Code, r), func(t *testing.T) {
					expected := outcome(Forbidden)
					if r == role {
						expected = cells[i]
					}
					got, err := run(as(dept, r), dept, state)
					if expected == ok {
						if err != nil || got != to {
							t.Errorf("got %q, %v, want %q", got, err, to)
						}
						return
					}
					if KindOf(err) != Kind(expected) {
						t.Errorf("got %q, %v, want kind %s", got, err, expected)
					}
				})
			}
		}
	}
}

// row is a grid row with one outcome for all departments.
func row(o Kind) [3]outcome { return [3]outcome{outcome(o), outcome(o), outcome(o)} }

var catalogStates = []string{Absent, string(CatalogRegPending), string(CatalogRegistered), string(CatalogRegRejected), string(CatalogPublished)}

func entryIn(state string) *CatalogEntry {
	if state == Absent {
		return nil
	}
	return someEntry(CatalogState(state))
}

func TestRegisterCatalogCells(t *testing.T) {
	testCells(t, RoleOperator, catalogStates, grid{
		Absent:                     {ok, ok, ok},
		string(CatalogRegPending):  row(Exists),
		string(CatalogRegistered):  row(Exists),
		string(CatalogRegRejected): {ok, outcome(Exists), outcome(Exists)},
		string(CatalogPublished):   row(Exists),
	}, func(who Caller, dept Department, state string) (string, error) {
		c := someContent()
		c.ProviderUSCC = dept.USCC
		e, _, err := RegisterCatalog(entryIn(state), who, dept, someTx, RegisterCatalogArgs{c})
		return string(e.State), err
	}, string(CatalogRegPending))
}

func TestReviewCatalogCells(t *testing.T) {
	forbidden := outcome(Forbidden)
	for _, tc := range []struct {
		decision ReviewDecision
		to       CatalogState
		again    outcome // when registered
		reject   outcome // when rejected
	}{
		{Approve, CatalogRegistered, outcome(Exists), outcome(Invalid)},
		{Return, CatalogRegRejected, outcome(Invalid), outcome(Exists)},
	} {
		t.Run(string(tc.decision), func(t *testing.T) {
			testCells(t, RoleReviewer, catalogStates, grid{
				Absent:                     row(NotFound),
				string(CatalogRegPending):  {forbidden, ok, forbidden},
				string(CatalogRegistered):  {forbidden, tc.again, forbidden},
				string(CatalogRegRejected): {forbidden, tc.reject, forbidden},
				string(CatalogPublished):   {forbidden, outcome(Invalid), forbidden},
			}, func(who Caller, dept Department, state string) (string, error) {
				e, err := ReviewCatalog(entryIn(state), who, dept, someTx, ReviewCatalogArgs{someCode, tc.decision, "意见"})
				return string(e.State), err
			}, string(tc.to))
		})
	}
	t.Run("the lead reviews its own entry", func(t *testing.T) {
		e := someEntry(CatalogRegPending)
		e.Provider = leadDept.Code
		if _, err := ReviewCatalog(e, as(leadDept, RoleReviewer), leadDept, someTx, ReviewCatalogArgs{someCode, Approve, ""}); err != nil {
			t.Error(err)
		}
		_, err := ReviewCatalog(e, as(leadDept, RoleOperator), leadDept, someTx, ReviewCatalogArgs{someCode, Approve, ""})
		wantKind(t, err, Forbidden, "catalog:Review is for the role reviewer, the caller is operator")
	})
}

func TestPublishCatalogCells(t *testing.T) {
	forbidden := outcome(Forbidden)
	testCells(t, RoleOperator, catalogStates, grid{
		Absent:                     row(NotFound),
		string(CatalogRegPending):  {outcome(Invalid), forbidden, forbidden},
		string(CatalogRegistered):  {ok, forbidden, forbidden},
		string(CatalogRegRejected): {outcome(Invalid), forbidden, forbidden},
		string(CatalogPublished):   {outcome(Exists), forbidden, forbidden},
	}, func(who Caller, _ Department, state string) (string, error) {
		e, err := PublishCatalog(entryIn(state), who, someTx, CodeArgs{someCode})
		return string(e.State), err
	}, string(CatalogPublished))
}

var requestStates = []string{Absent, string(RequestSubmitted), string(RequestAgreed), string(RequestPartlyAgreed), string(RequestRefused)}

func requestIn(state string) *ShareRequest {
	if state == Absent {
		return nil
	}
	return someRequest(RequestState(state))
}

func TestRequestShareCells(t *testing.T) {
	testCells(t, RoleOperator, requestStates, grid{
		Absent:                      {outcome(Forbidden), ok, ok}, // the owner of the resource does not ask itself
		string(RequestSubmitted):    row(Exists),
		string(RequestAgreed):       row(Exists),
		string(RequestPartlyAgreed): row(Exists),
		string(RequestRefused):      row(Exists),
	}, func(who Caller, _ Department, state string) (string, error) {
		r, _, err := RequestShare(requestIn(state), who, someTx, someEntry(CatalogPublished), someRequestContent())
		return string(r.State), err
	}, string(RequestSubmitted))
}

func TestAnswerShareCells(t *testing.T) {
	forbidden := outcome(Forbidden)
	for _, tc := range []struct {
		decision AnswerDecision
		to       RequestState
	}{{Agree, RequestAgreed}, {Partly, RequestPartlyAgreed}, {Refuse, RequestRefused}} {
		t.Run(string(tc.decision), func(t *testing.T) {
			want := grid{Absent: row(NotFound), string(RequestSubmitted): {ok, forbidden, forbidden}}
			for _, s := range []RequestState{RequestAgreed, RequestPartlyAgreed, RequestRefused} {
				want[string(s)] = [3]outcome{outcome(Invalid), forbidden, forbidden}
			}
			want[string(tc.to)] = [3]outcome{outcome(Exists), forbidden, forbidden}
			testCells(t, RoleReviewer, requestStates, want, func(who Caller, _ Department, state string) (string, error) {
				args := AnswerArgs{ID: someID, Decision: tc.decision}
				switch tc.decision {
				case Agree: // says nothing more
				case Partly:
					args.Reason, args.Items = "部分字段未归集", []string{"库名"}
					args.Period, args.Quota = someRequestContent().Period, someRequestContent().Quota
				case Refuse:
					args.Reason, args.LegalBasis = "不符合条件", []string{"条例"}
				}
				r, _, g, err := AnswerShare(requestIn(state), who, someTx, someVersion(), args)
				if err == nil && (g != nil) != (tc.decision != Refuse) {
					t.Errorf("grant = %v", g)
				}
				return string(r.State), err
			}, string(tc.to))
		})
	}
}

func someVersion() *CatalogVersion {
	return &CatalogVersion{Provider: policeDept.Code, Version: 1, Content: someContent()}
}

var certificateStates = []string{Absent, string(CertificateValid), string(CertificateRevoked)}

func certificateIn(t *testing.T, state string) *Certificate {
	if state == Absent {
		return nil
	}
	return &Certificate{
		Meta: Meta{TxTime: noon}, Issuer: policeDept.Code, Content: someCertificateContent(t),
		Status: CertificateStatus(state), StatusSince: noon, Seq: 1,
	}
}

func TestIssueCertificateCells(t *testing.T) {
	testCells(t, RoleOperator, certificateStates, grid{
		Absent:                     {ok, ok, ok},
		string(CertificateValid):   row(Exists),
		string(CertificateRevoked): row(Exists),
	}, func(who Caller, dept Department, state string) (string, error) {
		c := someCertificateContent(t)
		c.IssuerUSCC = dept.USCC
		var err error
		if c.CertID, err = (CertificateID{c.TypeCode, dept.USCC, "1", "001"}).Compose(); err != nil {
			return "", err
		}
		got, _, _, err := IssueCertificate(certificateIn(t, state), nil, who, dept, someTx, IssueArgs{c})
		return string(got.Status), err
	}, string(CertificateValid))
}

func TestRevokeCertificateCells(t *testing.T) {
	forbidden := outcome(Forbidden)
	testCells(t, RoleReviewer, certificateStates, grid{
		Absent:                     row(NotFound),
		string(CertificateValid):   {ok, forbidden, forbidden},
		string(CertificateRevoked): {outcome(Exists), forbidden, forbidden},
	}, func(who Caller, _ Department, state string) (string, error) {
		got, _, err := RevokeCertificate(certificateIn(t, state), who, someTx, someRevocation())
		return string(got.Status), err
	}, string(CertificateRevoked))
}

func someRevocation() RevokeArgs {
	return RevokeArgs{Ref: someID, Act: StatusAct{
		DocumentNo: "撤决〔2026〕1号", LegalBasis: "行政许可法第六十九条", ReasonCode: "issued_wrongly", EffectiveAt: noon,
	}}
}

var logStates = []string{Absent, stateRegistered}

func TestRegisterLogCells(t *testing.T) {
	testCells(t, RoleAdmin, logStates, grid{Absent: {ok, ok, ok}, stateRegistered: row(Exists)},
		func(who Caller, _ Department, state string) (string, error) {
			l, err := RegisterLog(logIn(state), who, someTx, logArgsOf(who.Department))
			if l.Owner == who.Department {
				return stateRegistered, err
			}
			return Absent, err
		}, stateRegistered)
}

func TestRegisterLogOfAnother(t *testing.T) {
	_, err := RegisterLog(nil, as(civilDept, RoleAdmin), someTx, someLogArgs())
	wantKind(t, err, Forbidden, "origin: must end in /civil: a department registers its own log only")
}

func TestAnchorLogCells(t *testing.T) {
	forbidden := outcome(Forbidden)
	testCells(t, RoleGateway, logStates, grid{Absent: row(NotFound), stateRegistered: {ok, forbidden, forbidden}},
		func(who Caller, _ Department, state string) (string, error) {
			_, a, err := AnchorLog(logIn(state), who, someTx, AnchorArgs{Checkpoint: "x"}, headOf(5))
			return a.Origin, err
		}, someLogArgs().Origin)
}

func TestRegisterDepartmentCells(t *testing.T) {
	all := []Department{leadDept, policeDept, civilDept}
	args := func(d Department) RegisterDepartmentArgs {
		return RegisterDepartmentArgs{Code: d.Code, MSPID: d.MSPID, NameZh: d.NameZh, NameEn: d.NameEn, USCC: d.USCC, Lead: d.Lead}
	}
	for _, tc := range []struct {
		name       string
		registered []Department
		who        Department
		args       RegisterDepartmentArgs
		want       outcome
	}{
		{"the lead founds", nil, leadDept, args(leadDept), ok},
		{"another founds", nil, policeDept, args(policeDept), outcome(Forbidden)},
		{"found for another", nil, policeDept, args(leadDept), outcome(Forbidden)},
		{"found under another MSP", nil, Department{Code: "bigdata", MSPID: "PoliceMSP"}, args(leadDept), outcome(Forbidden)},
		{"the lead admits", all[:1], leadDept, args(policeDept), ok},
		{"the lead admits again", all[:2], leadDept, args(policeDept), outcome(Exists)},
		{"the founder again", all[:1], leadDept, args(leadDept), outcome(Exists)},
		{"another admits", all[:2], policeDept, args(civilDept), outcome(Forbidden)},
		{"an unregistered one admits itself", all[:1], policeDept, args(policeDept), outcome(Forbidden)},
		{"the lead's name under another MSP", all[:1], Department{Code: "bigdata", MSPID: "PoliceMSP"}, args(policeDept), outcome(Forbidden)},
		{"a second lead", all[:1], leadDept, func() RegisterDepartmentArgs { a := args(policeDept); a.Lead = true; return a }(), outcome(Invalid)},
		{"a taken MSP", all[:2], leadDept, func() RegisterDepartmentArgs { a := args(civilDept); a.MSPID = policeDept.MSPID; return a }(), outcome(Exists)},
		{"a taken USCC", all[:2], leadDept, func() RegisterDepartmentArgs { a := args(civilDept); a.USCC = policeDept.USCC; return a }(), outcome(Exists)},
		{"a bad argument", nil, leadDept, RegisterDepartmentArgs{}, outcome(Invalid)},
	} {
		for _, role := range Roles {
			t.Run(tc.name+"/"+string(role), func(t *testing.T) {
				want := tc.want
				if role != RoleAdmin && tc.args.Code != "" {
					want = outcome(Forbidden)
				}
				d, err := RegisterDepartment(tc.registered, as(tc.who, role), someTx, tc.args)
				switch {
				case want == ok:
					if err != nil || d.Code != tc.args.Code || d.Department != tc.who.Code || !DigestHolds(&d) {
						t.Errorf("got %+v, %v", d, err)
					}
				case KindOf(err) != Kind(want):
					t.Errorf("got %v, want kind %s", err, want)
				}
			})
		}
	}
}

func TestTimesOfOneRecordGrow(t *testing.T) {
	early := later(-time.Second)
	_, _, err := RegisterCatalog(someEntry(CatalogRegRejected), as(policeDept, RoleOperator), policeDept, early, RegisterCatalogArgs{someContent()})
	wantKind(t, err, Conflict, "later time")
	_, err = ReviewCatalog(someEntry(CatalogRegPending), as(leadDept, RoleReviewer), leadDept, early, ReviewCatalogArgs{someCode, Approve, ""})
	wantKind(t, err, Conflict, "later time")
	_, err = PublishCatalog(someEntry(CatalogRegistered), as(policeDept, RoleOperator), early, CodeArgs{someCode})
	wantKind(t, err, Conflict, "later time")
	_, _, _, err = AnswerShare(someRequest(RequestSubmitted), as(policeDept, RoleReviewer), early, someVersion(), AnswerArgs{ID: someID, Decision: Agree})
	wantKind(t, err, Conflict, "later time")
	_, _, err = RevokeCertificate(certificateIn(t, string(CertificateValid)), as(policeDept, RoleReviewer), early, someRevocation())
	wantKind(t, err, Conflict, "later time")
	_, _, err = AnchorLog(logIn(stateRegistered), as(policeDept, RoleGateway), early, AnchorArgs{Checkpoint: "x"}, headOf(5))
	wantKind(t, err, Conflict, "later time")
}

func TestCheckMember(t *testing.T) {
	if err := CheckMember(&policeDept, as(policeDept, RoleAuditor)); err != nil {
		t.Error(err)
	}
	wantKind(t, CheckMember(nil, as(policeDept, RoleAuditor)), Forbidden, "department police is not registered")
	other := as(policeDept, RoleAuditor)
	other.MSPID = civilDept.MSPID
	wantKind(t, CheckMember(&policeDept, other), Forbidden, "not issued under its MSP")
	wantKind(t, CheckMember(&civilDept, as(policeDept, RoleAuditor)), Forbidden, "not issued under its MSP")
}

func TestUnknownEventIsRefused(t *testing.T) {
	_, err := move{kind: KindCatalogEntry, transaction: "catalog:Review", event: "maybe"}.next()
	wantKind(t, err, Invalid, `no event "maybe"`)
}

// statesPage renders the machines for docs/states.md.
func statesPage() []byte {
	var b bytes.Buffer
	b.WriteString(`<!-- Generated from domain.Machines by "go test ./domain -run TestStatesPage -update". Do not edit. -->

# States

Every record that changes has a state machine. A row says which role of which department moves a record from one state to
the next, and by which transaction; whatever is not listed is refused. Refusals are decided in this order: the role
(forbidden), a record that is missing or already there (not_found, exists), the department (forbidden), the state (exists
when it is already the one asked for, else invalid). A transaction older than the record's last change is a conflict.

Sides: *founder* the first department, which registers itself as the lead · *lead* 主管部门 · *any* every registered department,
which becomes the owner · *owner* the department that the record belongs to · *provider* 提供部门 and *consumer* 需求部门 of a
share (every department but the provider may ask).

Expiry is never stored: grants are pending, active or expired, and certificates not_yet_valid, valid or expired, by the time
asked about. A revocation counts from the day it takes effect.

A certificate's identifier 电子证照标识 is issued once. certificate:Issue writes ` + "`certid~…`" + ` beside the certificate, never
to change; whoever issues the same identifier again, under any reference, is refused (exists, with the first reference).
`)
	name := func(state string) string {
		if state == Absent {
			return "–"
		}
		return state
	}
	for _, m := range Machines() {
		fmt.Fprintf(&b, "\n## %s `%s`\n\n", strings.ReplaceAll(string(m.Kind), "_", " "), KeyOf(m.Kind, "…"))
		b.WriteString("| From | To | Transaction | Event | Role | Side |\n| --- | --- | --- | --- | --- | --- |\n")
		for _, r := range m.Transitions {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", name(r.From), r.To, r.Transaction, name(r.Event), r.Role, r.Side)
		}
	}
	return b.Bytes()
}

func TestStatesPage(t *testing.T) {
	const path = "../docs/states.md"
	want := statesPage()
	if *update {
		if err := os.MkdirAll("../docs", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is out of date; run go test ./domain -run TestStatesPage -update", path)
	}
}

func TestMachinesAreWellFormed(t *testing.T) {
	seen := map[Transition]bool{}
	kinds := map[RecordKind]bool{}
	for _, m := range Machines() {
		if kinds[m.Kind] || len(m.Transitions) == 0 {
			t.Errorf("machine of %s is empty or repeated", m.Kind)
		}
		kinds[m.Kind] = true
		for _, r := range m.Transitions {
			at := Transition{Transaction: r.Transaction + string(m.Kind), Event: r.Event, From: r.From}
			if seen[at] || r.To == Absent || r.Role == "" || r.Side == "" {
				t.Errorf("transition %+v is incomplete or ambiguous", r)
			}
			seen[at] = true
		}
	}
}
