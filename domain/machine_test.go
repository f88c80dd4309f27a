package domain

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
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
				d, members, err := RegisterDepartment(tc.registered, as(tc.who, role), someTx, tc.args)
				switch {
				case want == ok:
					if err != nil || d.Code != tc.args.Code || d.Department != tc.who.Code || !DigestHolds(&d) {
						t.Errorf("got %+v, %v", d, err)
					}
					if members.Lead != leadDept.Code || len(members.Departments) != len(tc.registered)+1 || !DigestHolds(&members) ||
						!slices.Contains(members.Departments, Member{d.Code, d.MSPID}) || !slices.IsSortedFunc(members.Departments, func(a, b Member) int { return strings.Compare(string(a.Code), string(b.Code)) }) {
						t.Errorf("members %+v", members)
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
	_, err := ProposeStatus(certificateIn(t, "valid"), callOf(policeDept, RoleOperator, early), someProposal())
	wantKind(t, err, Conflict, "later time")
	_, err = DecideCertificate(DecideRecords{Existing: certificateIn(t, "valid+revoke")}, callOf(policeDept, RoleReviewer, early), someDecision(ApproveCertificate))
	wantKind(t, err, Conflict, "later time")
	_, err = EndAuthorisation(authorisationIn("active"), callOf(leadDept, RoleAdmin, early), EndAuthorisationArgs{policeDept.Code, someTypeCode, "职责划转"})
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

Every record that changes has a state machine: a diagram of its states, without the moves that leave the state as it is, and
a table of all moves. A row says which role of which department moves a record from one state to
the next, and by which transaction; whatever is not listed is refused. Refusals are decided in this order: the role
(forbidden), a record that is missing or already there (not_found, exists), the department (forbidden), the state
(wrong_state, with the state it is in). A transaction older than the record's last change is a conflict.

Sides: *founder* the first department, which registers itself as the lead · *lead* 主管部门 · *any* every registered department,
which becomes the owner · *owner* the department that the record belongs to · *provider* 提供部门 and *consumer* 需求部门 of a
share (every department but the provider may ask) · *peer* any department that is no party, where the lead is one itself:
whose reviewers decide is settled when the record is made.

Expiry is never stored: grants and authorisations are pending, active or expired, and certificates not_yet_valid, valid or
expired, by the time asked about.

Two persons act on a certificate 电子证照. The issuer's operator proposes its issue, or a change of its status with the act
behind it (决定文书号, legal basis, reason, effective time), one change at a time; the issuer's reviewer decides. A change counts
from the day its act takes effect, an issue and a replacement from the decision. The record keeps every status it had, so that
one signed read answers what it was at any time. A proposal leaves the status as it is; rejecting it is the event keep.

An objection 异议 is opened (object) and settled (settle) in the same way, in any status after the issue. It changes no status:
whoever verifies the certificate is told of it while it is open.

A certificate that replaces another 变更、延续 has the next version of its identifier. Approving its issue supersedes the
other one (event supersede) in the same transaction, and needs that one in force, with no change proposed.

What one transaction issues is a batch 发证批次: its contents are one record, ` + "`certb~…`" + `, and what became of them another,
` + "`certs~…`" + `. The first 12 digits of a certificate's reference name its batch. A certificate is not suspended again when what is
recorded of its batch has more than 512 KiB; everything else goes on.

An identifier is issued once: ` + "`certid~…`" + ` is written with the batch, and whoever issues the same identifier
again, under any reference, is refused (exists, with the first reference). Only the refusal of the issue frees it. The place
in the issuer's status lists, which ` + "`certbit~…`" + ` remembers with others, is taken once and never freed. A department issues the types it is authorised for,
both when the issue is proposed and when it is decided.

An alarm 告警 is raised once: its identifier follows from its kind, the department it is about and its subject, so that several
who see the same thing raise one alarm, and a closed one is not raised again. The lead's reviewer closes it, a reviewer of
another department one about the lead.
`)
	name := func(state string) string {
		if state == Absent {
			return "–"
		}
		return state
	}
	for _, m := range Machines() {
		fmt.Fprintf(&b, "\n## %s `%s`\n\n", strings.ReplaceAll(string(m.Kind), "_", " "), KeyOf(m.Kind, "…"))
		b.WriteString(stateDiagram(m))
		b.WriteString("| From | To | Transaction | Event | Role | Side |\n| --- | --- | --- | --- | --- | --- |\n")
		for _, r := range m.Transitions {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", name(r.From), r.To, r.Transaction, name(r.Event), r.Role, r.Side)
		}
	}
	return b.Bytes()
}

// stateDiagram draws a machine for Mermaid, one arrow for all moves between two
// states. What leaves the state as it is stands in the table only.
func stateDiagram(m Machine) string {
	type arrow struct{ from, to string }
	var arrows []arrow
	labels := map[arrow][]string{}
	for _, r := range m.Transitions {
		if r.From == r.To {
			continue
		}
		at := arrow{r.From, r.To}
		if at.from == Absent {
			at.from = "[*]"
		}
		if labels[at] == nil {
			arrows = append(arrows, at)
		}
		_, label, _ := strings.Cut(r.Transaction, ":")
		if r.Event != "" {
			label += " " + r.Event
		}
		if !slices.Contains(labels[at], label) {
			labels[at] = append(labels[at], label)
		}
	}
	var b strings.Builder
	b.WriteString("```mermaid\nstateDiagram-v2\n")
	for _, at := range arrows {
		fmt.Fprintf(&b, "    %s --> %s: %s\n", at.from, at.to, strings.Join(labels[at], ", "))
	}
	b.WriteString("```\n\n")
	return b.String()
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
	type where struct {
		transaction, event, from string
		role                     Role
		side                     Side
	}
	seen := map[where]string{}
	kinds := map[RecordKind]bool{}
	for _, m := range Machines() {
		if kinds[m.Kind] || len(m.Transitions) == 0 {
			t.Errorf("machine of %s is empty or repeated", m.Kind)
		}
		kinds[m.Kind] = true
		for _, r := range m.Transitions {
			at := where{r.Transaction + string(m.Kind), r.Event, r.From, r.Role, r.Side}
			if seen[at] != "" || r.To == Absent || r.Role == "" || r.Side == "" {
				t.Errorf("transition %+v is incomplete or repeated", r)
			}
			seen[at] = r.To
			at.role, at.side = "", ""
			if to := seen[at]; to != "" && to != r.To {
				t.Errorf("transition %+v is ambiguous: it also leads to %s", r, to)
			}
			seen[at] = r.To
		}
	}
}
