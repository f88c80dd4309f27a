package chaincode_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/zhenglian/zhenglian/chaincode"
	"github.com/zhenglian/zhenglian/chaincode/chaincodetest"
	"github.com/zhenglian/zhenglian/domain"
)

// transactionCase is what every transaction is put through.
type transactionCase struct {
	name      string
	prepare   func(*world)
	arg       func(*world) any
	who       string      // who may
	forbidden []string    // who may not, a wrong department or a wrong role
	changes   []string    // what it writes, see changes; nil for a read
	again     domain.Kind // the answer to a second run after the commit; "" if it is allowed
}

// always is an argument that does not depend on the world.
func always(arg any) func(*world) any { return func(*world) any { return arg } }

func governanceCases() []transactionCase {
	market := domain.RegisterDepartmentArgs{Code: "market", MSPID: "MarketMSP", NameZh: "市场监管局", NameEn: "Market", USCC: "11220000013544541J"}
	amended := calendar(2026)
	amended.Workdays = []string{"2026-02-14"}
	longer := rule(domain.DeadlineMediation)
	longer.Limit = 15
	notLead := []string{"police admin", "bigdata operator", "bigdata reviewer", "bigdata gateway"}
	return []transactionCase{
		{
			"governance:RegisterDepartment", nil, always(market), "bigdata admin", notLead,
			[]string{"put dept~market", "put members~all"}, domain.Exists,
		},
		{
			"governance:SetCalendar", nil, always(amended), "bigdata admin", notLead,
			[]string{"put cal~2026", "put calv~2026~2"}, domain.Exists,
		},
		{
			"governance:SetRule", nil, always(longer), "bigdata admin", notLead,
			[]string{"put rule~mediation", "put rulev~mediation~2"}, domain.Exists,
		},
		{"governance:GetCalendar", nil, always(map[string]int{"year": 2026}), "civil auditor", nil, nil, ""},
		{"governance:GetRule", nil, always(map[string]string{"event": "mediation"}), "civil gateway", nil, nil, ""},
	}
}

func catalogCases() []transactionCase {
	byCode := always(domain.CodeArgs{Code: code})
	const event = "create cate~tx~police by police+1"
	step := []string{"put cat~" + code, event}
	operators := []string{"civil operator", "bigdata operator", "police reviewer", "police admin"}
	batch := several(3)
	var registered, batched []string
	for _, c := range batch {
		registered = append(registered, "create cat~"+c.Code+" by police+1", "put "+nameKey(c.Name))
		batched = append(batched, "put cat~"+c.Code)
	}
	registered, batched = append(registered, event), append(batched, event)
	registerBatch := func(w *world) {
		w.must("police operator", "catalog:RegisterBatch", domain.RegisterBatchArgs{Contents: batch})
	}
	return []transactionCase{
		{
			"catalog:Register", nil, always(domain.RegisterCatalogArgs{Content: content()}), "police operator",
			[]string{"police reviewer", "police auditor", "police admin", "police gateway"},
			[]string{"create cat~" + code + " by police+1", "put " + nameKey(content().Name), event},
			domain.WrongState,
		},
		{
			"catalog:RegisterBatch", nil, always(domain.RegisterBatchArgs{Contents: batch}), "police operator",
			[]string{"police reviewer", "police auditor", "police admin", "police gateway"},
			registered, domain.WrongState,
		},
		{"catalog:Submit", (*world).drafted, byCode, "police operator", operators, step, domain.WrongState},
		{
			"catalog:Review", (*world).submitted,
			always(domain.ReviewCatalogArgs{Code: code, Decision: domain.Return, Opinion: "缺少共享条件"}), "bigdata reviewer",
			[]string{"police reviewer", "civil reviewer", "police operator", "bigdata operator", "bigdata admin"},
			step, domain.WrongState,
		},
		{
			"catalog:ReviewBatch", registerBatch, always(domain.ReviewBatchArgs{Codes: codesOf(batch), Decision: domain.Approve}), "bigdata reviewer",
			[]string{"police reviewer", "civil reviewer", "police operator", "bigdata operator", "bigdata admin"},
			batched, domain.WrongState,
		},
		{"catalog:Publish", (*world).approved, byCode, "police operator", operators, step, domain.WrongState},
		{
			"catalog:PublishBatch",
			func(w *world) {
				registerBatch(w)
				w.must("bigdata reviewer", "catalog:ReviewBatch", domain.ReviewBatchArgs{Codes: codesOf(batch), Decision: domain.Approve})
			},
			always(domain.CodesArgs{Codes: codesOf(batch)}), "police operator", operators, batched, domain.WrongState,
		},
		{
			"catalog:Change", (*world).published, always(domain.ChangeCatalogArgs{Content: changed()}), "police operator",
			[]string{"police reviewer", "police admin"},
			[]string{
				"put cat~" + code, "create catv~" + code + "~1 by police+1", "create catv~" + code + "~2 by police+1",
				"put " + nameKey(changed().Name), event,
			}, domain.WrongState,
		},
		{
			"catalog:Retire", (*world).published,
			always(domain.RetireCatalogArgs{Code: code, Way: domain.TakeOffline, Reason: "系统停用"}), "police operator", operators, step, domain.WrongState,
		},
		{
			"catalog:RequireUpdate", (*world).published, always(domain.RequireUpdateArgs{Code: code, Reason: "职责划转"}), "police operator",
			[]string{"civil operator", "civil reviewer", "police reviewer", "police admin"}, step, domain.Invalid,
		},
		{
			"catalog:MarkOverdue",
			func(w *world) {
				w.submitted()
				w.overdue()
			},
			byCode, "civil gateway", []string{"civil auditor", "bigdata admin"}, step, domain.Invalid,
		},
		{"catalog:Get", (*world).submitted, byCode, "civil auditor", nil, nil, ""},
	}
}

func sharingCases() []transactionCase {
	steps := func(n int) []string { return []string{"put req~" + id, fmt.Sprintf("put reqe~%s~%d", id, n)} }
	const grantBy = " by bigdata+1|police+1"
	grants := func(n int) []string {
		return []string{"put grant~" + id, fmt.Sprintf("create grante~%s~%d", id, n) + grantBy}
	}
	consumers := []string{"police operator", "bigdata operator", "civil reviewer", "civil admin"}
	providers := []string{"civil reviewer", "bigdata reviewer", "police operator"}
	judges := []string{"civil reviewer", "police reviewer", "bigdata operator", "bigdata auditor"}
	deliverers := []string{"civil operator", "bigdata operator", "police reviewer"}
	supplemented := request()
	supplemented.Purpose = "防汛调度"
	days := domain.ExtendArgs{ID: id, Days: 5, Reason: "数据整理"}
	return []transactionCase{
		{
			"sharing:Request", (*world).published, always(request()), "civil operator",
			[]string{"police operator", "civil reviewer"}, steps(1), domain.Exists,
		},
		{
			"sharing:Accept", (*world).asked, always(domain.AcceptArgs{ID: id, Decision: domain.AcceptRequest}), "bigdata reviewer",
			judges, steps(2), domain.WrongState,
		},
		{
			"sharing:Supplement",
			func(w *world) {
				w.asked()
				w.must("bigdata reviewer", "sharing:Accept", domain.AcceptArgs{ID: id, Decision: domain.ReturnRequest, Reason: "用途不明"})
			},
			always(domain.SupplementArgs{Content: supplemented}), "civil operator", consumers, steps(3), domain.WrongState,
		},
		{
			"sharing:Answer", (*world).accepted, always(agreement()), "police reviewer", providers,
			append(steps(3), "create grant~"+id+grantBy, "create grante~"+id+"~1"+grantBy), domain.WrongState,
		},
		{"sharing:Extend", (*world).accepted, always(days), "police reviewer", providers, steps(3), domain.Exists},
		{
			"sharing:DecideExtension",
			func(w *world) {
				w.accepted()
				w.must("police reviewer", "sharing:Extend", days)
			},
			always(domain.DecideExtensionArgs{ID: id, Decision: domain.GrantExtension}), "bigdata reviewer", judges, steps(4), domain.NotFound,
		},
		{
			"sharing:Dispute", (*world).denied, always(domain.DisputeArgs{ID: id, Reason: "依据不成立"}), "civil operator", consumers, steps(4), domain.WrongState,
		},
		{
			"sharing:Mediate", (*world).disputed, always(domain.MediateArgs{ID: id, Decision: domain.Remand, Reason: "应当共享"}), "bigdata reviewer",
			judges, steps(5), domain.WrongState,
		},
		{
			"sharing:Deliver", (*world).agreed, always(domain.DeliverArgs{ID: id, DeliveryDigest: domain.Digest(nil)}), "police operator",
			deliverers, steps(4), domain.WrongState,
		},
		{
			"sharing:Confirm", (*world).delivered, always(domain.ConfirmArgs{ID: id, Decision: domain.RejectDelivery, Reason: "文件不全"}), "civil operator",
			consumers, steps(5), domain.WrongState,
		},
		{"sharing:Withdraw", (*world).asked, always(reason()), "civil operator", consumers, steps(2), domain.WrongState},
		{"sharing:Close", (*world).active, always(reason()), "civil operator", consumers, steps(6), domain.WrongState},
		{
			"sharing:MarkOverdue",
			func(w *world) {
				w.accepted()
				w.overdue()
			},
			always(domain.IDArgs{ID: id}), "civil operator", []string{"civil auditor", "bigdata admin"}, steps(3), domain.Exists,
		},
		{"sharing:Get", (*world).asked, always(domain.IDArgs{ID: id}), "bigdata auditor", nil, nil, ""},
		{"sharing:Suspend", (*world).agreed, always(reason()), "police reviewer", []string{"civil reviewer", "police operator"}, grants(2), domain.WrongState},
		{"sharing:Resume", (*world).suspended, always(reason()), "police reviewer", []string{"civil reviewer", "police operator"}, grants(3), domain.WrongState},
		{"sharing:Revoke", (*world).suspended, always(reason()), "bigdata reviewer", []string{"civil reviewer", "bigdata admin"}, grants(3), domain.WrongState},
		{"sharing:GetGrant", (*world).agreed, always(domain.IDArgs{ID: id}), "bigdata auditor", nil, nil, ""},
	}
}

func otherCases() []transactionCase {
	log := func(w *world) any { return domain.RegisterLogArgs{Origin: origin, VerifierKey: w.verifier} }
	forkID := domain.AlarmID(domain.AlarmFork, "police", "7")
	return []transactionCase{
		{
			"access:RegisterLog", nil, log, "police admin", []string{"police operator", "police gateway"},
			[]string{"create log~police by police+1"}, domain.Exists,
		},
		{
			"access:Anchor",
			func(w *world) {
				w.anchored()
				w.grow(6)
			},
			func(w *world) any { return w.anchor(7) }, "police gateway", []string{"police admin", "police operator"},
			[]string{"put log~police", "create anchor~police~13 by police+1"}, domain.Invalid,
		},
		{
			"access:RaiseAlarm", (*world).anchored, func(w *world) any { return w.fork() }, "civil gateway",
			[]string{"civil operator", "civil reviewer", "bigdata admin"},
			[]string{"put alarm~" + forkID, "put alarme~" + forkID + "~1"}, domain.Exists,
		},
		{
			"access:CloseAlarm", (*world).alarmed, always(closing()), "bigdata reviewer",
			[]string{"police reviewer", "civil reviewer", "bigdata gateway", "bigdata auditor"},
			[]string{"put alarm~" + alarmID, "put alarme~" + alarmID + "~2"}, domain.WrongState,
		},
		{"access:GetAlarm", (*world).alarmed, always(domain.IDArgs{ID: alarmID}), "civil auditor", nil, nil, ""},
		{"evidence:Attest", (*world).issued, always(domain.AttestArgs{Kind: domain.KindCertificate, ID: id, Nonce: otherID}), "civil gateway", nil, nil, ""},
	}
}

func cases() []transactionCase {
	return slices.Concat(governanceCases(), catalogCases(), sharingCases(), certificateCases(), otherCases())
}

// prepared is a world in which the transaction may run.
func (tc transactionCase) prepared(t testing.TB) *world {
	t.Helper()
	w := founded(t)
	if tc.prepare != nil {
		tc.prepare(w)
	}
	return w
}

func TestEveryTransaction(t *testing.T) {
	var names []string
	for _, tc := range cases() {
		names = append(names, tc.name)
		t.Run(tc.name, func(t *testing.T) {
			w := tc.prepared(t)
			arg := canonical(t, tc.arg(w))
			before := w.ledger.Keys()

			// Nothing but the exact name and the exact argument runs.
			contract, name, _ := strings.Cut(tc.name, ":")
			lower := contract + ":" + string(unicode.ToLower(rune(name[0]))) + name[1:]
			for _, alias := range []string{lower, name, "x:" + name, contract + ":" + name + "X", strings.ToUpper(tc.name)} {
				w.refused(tc.who, alias, arg, domain.Invalid, "no such transaction")
			}
			for _, bad := range []string{"", "null", "[]", "{}", arg + " ", " " + arg, "{\"x\":1}", `{"constructor":{}}`, strings.Repeat("[", 1<<12)} {
				w.refused(tc.who, tc.name, bad, domain.Invalid, "")
				w.refused(tc.who, lower, bad, domain.Invalid, "")
			}
			limit := 1 << 20
			if strings.HasSuffix(tc.name, "Batch") {
				limit = 4 << 20
			}
			w.refused(tc.who, tc.name, strings.Repeat("x", limit), domain.Invalid, "syntax error")
			w.refused(tc.who, tc.name, strings.Repeat("x", limit+1), domain.Invalid, "longer than")
			for _, args := range [][]string{nil, {}, {arg, id, id, id}, {arg, id, "", ""}} {
				p := w.proposal(tc.who, tc.name, arg)
				p.Args = args
				if r := w.run(p); r.OK() || !strings.HasPrefix(r.Message, "invalid: "+tc.name+" takes one argument") {
					t.Errorf("%d arguments: %q", len(args), r.Message)
				}
			}
			if chaincode.ReadOnly(tc.name) != (tc.changes == nil) {
				t.Errorf("read only: %t", chaincode.ReadOnly(tc.name))
			}

			for _, who := range tc.forbidden {
				w.refused(who, tc.name, arg, domain.Forbidden, "")
			}
			if tc.name != "evidence:Attest" {
				w.people["stranger"] = chaincodetest.NewIdentity(t, "StrangerMSP", map[string]string{"zhenglian.role": "admin", "zhenglian.department": "stranger"})
				w.refused("stranger", tc.name, arg, domain.Forbidden, "department stranger is not registered")
				department, role, _ := strings.Cut(tc.who, " ")
				w.people["impostor"] = chaincodetest.NewIdentity(t, "StrangerMSP", map[string]string{"zhenglian.role": role, "zhenglian.department": department})
				w.refused("impostor", tc.name, arg, domain.Forbidden, "was not issued under its MSP")
				w.people["nobody"] = chaincodetest.NewIdentity(t, "PoliceMSP", nil)
				w.refused("nobody", tc.name, arg, domain.Forbidden, "no attribute zhenglian.role")
				w.people["homeless"] = chaincodetest.NewIdentity(t, "PoliceMSP", map[string]string{"zhenglian.role": role})
				w.refused("homeless", tc.name, arg, domain.Forbidden, "no attribute zhenglian.department")
				w.people["forger"] = chaincodetest.RawIdentity(t, "PoliceMSP", []byte("not a certificate"))
				w.refused("forger", tc.name, arg, domain.Forbidden, "certificate cannot be read")
			}
			if diff := cmp.Diff(before, w.ledger.Keys()); diff != "" {
				t.Errorf("refusals changed the state:\n%s", diff)
			}

			r := w.must(tc.who, tc.name, arg)
			if diff := cmp.Diff(tc.changes, changes(t, r)); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			for _, write := range r.Writes {
				if got := w.ledger.State(write.Key); !bytes.Equal(got, write.Value) {
					t.Errorf("%s holds %q", write.Key, got)
				}
			}
			for _, policy := range r.Policies {
				if got := w.ledger.Policy(policy.Key); !bytes.Equal(got, policy.Value) {
					t.Errorf("%s has the policy %q", policy.Key, got)
				}
			}
			// One message for what every transaction reads, one for its records, one
			// for what these name, one for the writes. A certificate is found by its
			// reference first, and so is the one that it replaces; the catalog entry that
			// a request names has an event.
			most := 4
			switch contract, _, _ := strings.Cut(tc.name, ":"); contract {
			case "certificate":
				most = 6
			case "sharing":
				most = 5
			}
			if r.Messages > most {
				t.Errorf("%d messages to the peer", r.Messages)
			}
			if !json.Valid(r.Payload) || len(r.Payload) == 0 {
				t.Errorf("payload %q", r.Payload)
			}
			if tc.again == "" {
				w.must(tc.who, tc.name, arg)
			} else {
				w.refused(tc.who, tc.name, arg, tc.again, "")
			}
		})
	}
	slices.Sort(names)
	if diff := cmp.Diff(chaincode.Transactions(), names); diff != "" {
		t.Errorf("transactions tested (-all +tested):\n%s", diff)
	}
}

func TestNotFound(t *testing.T) {
	w := founded(t)
	// Of the transactions that change one record, each names what it misses.
	creating := []string{
		"governance:RegisterDepartment", "governance:SetCalendar", "governance:SetRule", "governance:GetCalendar", "governance:GetRule",
		"catalog:Register", "catalog:RegisterBatch", "access:RegisterLog", "access:Anchor", "access:RaiseAlarm",
		"certificate:Authorise", "certificate:Issue", "certificate:IssueBatch", "evidence:Attest",
	}
	for _, tc := range cases() {
		if !slices.Contains(creating, tc.name) {
			w.refused(tc.who, tc.name, tc.arg(w), domain.NotFound, "is not recorded")
		}
	}
	w.refused("police gateway", "access:Anchor", domain.AnchorArgs{Checkpoint: "x"}, domain.NotFound, "access log of police")
	w.refused("civil gateway", "access:RaiseAlarm", w.fork(), domain.NotFound, "access log of police")
	unknown := unusual()
	unknown.About = "market"
	w.refused("civil gateway", "access:RaiseAlarm", unknown, domain.NotFound, "department market is not registered")
	w.refused("police gateway", "governance:GetCalendar", map[string]int{"year": 2001}, domain.NotFound, "calendar 2001")
	w.refused("police gateway", "governance:GetCalendar", map[string]int{"year": 1}, domain.Invalid, "year: must have 4 digits")
	w.refused("police gateway", "governance:GetRule", map[string]string{"event": "x"}, domain.Invalid, "event: ")
	bare := registered(t)
	bare.refused("police gateway", "governance:GetRule", map[string]string{"event": "mediation"}, domain.NotFound, "rule mediation")
}

func TestFoundingAConsortium(t *testing.T) {
	w := newWorld(t)
	lead, police := departments[0], departments[1]
	w.refused("police admin", "governance:RegisterDepartment", police, domain.Forbidden, "founder")
	w.refused("bigdata operator", "governance:RegisterDepartment", lead, domain.Forbidden, "role admin")
	w.refused("police operator", "catalog:Register", domain.RegisterCatalogArgs{Content: content()}, domain.Forbidden, "department police is not registered")
	r := w.must("bigdata admin", "governance:RegisterDepartment", lead)
	d := decode[domain.Department](t, r.Payload)
	if !d.Lead || d.Department != "bigdata" || d.Role != domain.RoleAdmin || !domain.DigestHolds(&d) {
		t.Errorf("department %+v", d)
	}
	if want := noon.Add(time.Duration(w.proposals) * time.Second).Truncate(time.Millisecond); !d.TxTime.Equal(want) {
		t.Errorf("time %s, want the transaction's to the millisecond, %s", d.TxTime, want)
	}
	w.refused("bigdata admin", "governance:RegisterDepartment", lead, domain.Exists, "bigdata")
	w.refused("police admin", "governance:RegisterDepartment", police, domain.Forbidden, "police is not registered")
	w.must("bigdata admin", "governance:RegisterDepartment", police)
}

func TestReturnedEntryIsRegisteredAgain(t *testing.T) {
	w := founded(t)
	w.submitted()
	w.must("bigdata reviewer", "catalog:Review", domain.ReviewCatalogArgs{Code: code, Decision: domain.Return, Opinion: "缺少依据"})
	foreign := content()
	foreign.ProviderUSCC = departments[2].USCC
	w.refused("civil operator", "catalog:Register", domain.RegisterCatalogArgs{Content: foreign}, domain.Exists, code)

	// The same name is kept, another one is taken and the old one freed.
	r := w.must("police operator", "catalog:Register", domain.RegisterCatalogArgs{Content: content(), Draft: true})
	// The version that the entry no longer holds is recorded.
	const event = "create cate~tx~police by police+1"
	if diff := cmp.Diff([]string{"put cat~" + code, "create catv~" + code + "~1 by police+1", event}, changes(t, r)); diff != "" {
		t.Error(diff)
	}
	r = w.must("police operator", "catalog:Register", domain.RegisterCatalogArgs{Content: changed()})
	want := []string{
		"put cat~" + code, "create catv~" + code + "~2 by police+1", "delete " + nameKey(content().Name),
		"put " + nameKey(changed().Name), event,
	}
	if diff := cmp.Diff(want, changes(t, r)); diff != "" {
		t.Error(diff)
	}
	if e := decode[domain.CatalogEntry](t, r.Payload); e.Version != 3 || e.State != domain.CatalogRegPending || e.Opinion != "" {
		t.Errorf("entry %+v", e)
	}
	if w.ledger.State(nameKey(content().Name)) != nil || w.ledger.Policy(nameKey(content().Name)) != nil {
		t.Error("the freed name is still there")
	}
}

func TestReviewedChangeFreesAName(t *testing.T) {
	for _, tc := range []struct {
		decision domain.ReviewDecision
		freed    string
		version  int
	}{{domain.Approve, content().Name, 2}, {domain.Return, changed().Name, 1}} {
		t.Run(string(tc.decision), func(t *testing.T) {
			w := founded(t)
			w.changing()
			r := w.must("bigdata reviewer", "catalog:Review", domain.ReviewCatalogArgs{Code: code, Decision: tc.decision, Opinion: "已核"})
			want := []string{"put cat~" + code, "delete " + nameKey(tc.freed), "create cate~tx~police by police+1"}
			if diff := cmp.Diff(want, changes(t, r)); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			if e := decode[domain.CatalogEntry](t, r.Payload); e.Version != tc.version || e.Pending != 0 || e.State != domain.CatalogPublished {
				t.Errorf("entry %+v", e)
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	grant := []string{"create grant~" + id + " by bigdata+1|police+1", "create grante~" + id + "~1 by bigdata+1|police+1"}
	for _, tc := range []struct {
		args    domain.AnswerArgs
		state   domain.RequestState
		changes []string
	}{
		{refusal(), domain.RequestRefused, nil},
		{domain.AnswerArgs{
			ID: id, Decision: domain.Partly, Reason: "理由", LegalBasis: []string{}, Items: request().Items, Period: request().Period,
			Quota: domain.Quota{Total: 1, PerDay: 1, PerMinute: 1},
		}, domain.RequestPartlyAgreed, grant},
	} {
		t.Run(string(tc.args.Decision), func(t *testing.T) {
			w := founded(t)
			w.accepted()
			r := w.must("police reviewer", "sharing:Answer", tc.args)
			if got := decode[domain.ShareRequest](t, r.Payload); got.State != tc.state {
				t.Errorf("request %+v", got)
			}
			want := append([]string{"put req~" + id, "put reqe~" + id + "~3"}, tc.changes...)
			if diff := cmp.Diff(want, changes(t, r)); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnchors(t *testing.T) {
	w := founded(t)
	w.must("police admin", "access:RegisterLog", domain.RegisterLogArgs{Origin: origin, VerifierKey: w.verifier})
	w.refused("police gateway", "access:Anchor", w.anchor(0), domain.Invalid, "counts[0].count") // an empty log
	w.grow(5)
	first := w.anchor(0)

	withProof := first
	withProof.Proof = []string{"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}
	w.refused("police gateway", "access:Anchor", withProof, domain.Invalid, "proof: must be empty for the first anchor")
	counted := first
	counted.Counts = []domain.GrantCount{{GrantID: id, Count: 6}}
	w.refused("police gateway", "access:Anchor", counted, domain.Invalid, "counts: more records than the log grew by")
	forged := first
	forged.Checkpoint = strings.Replace(first.Checkpoint, "\n5\n", "\n4\n", 1)
	w.refused("police gateway", "access:Anchor", forged, domain.Invalid, "checkpoint")
	w.refused("civil gateway", "access:Anchor", first, domain.NotFound, "access log of civil")

	a := decode[domain.Anchor](t, w.must("police gateway", "access:Anchor", first).Payload)
	if a.Size != 5 || a.PreviousSize != 0 || a.Owner != "police" {
		t.Errorf("anchor %+v", a)
	}
	w.refused("police gateway", "access:Anchor", first, domain.Invalid, "not above the anchored size 5")

	w.grow(4)
	second := w.anchor(5)
	without := second
	without.Proof = nil
	w.refused("police gateway", "access:Anchor", without, domain.Invalid, "consistency proof")
	swapped := second
	swapped.Proof = append([]string{second.Proof[len(second.Proof)-1]}, second.Proof[:len(second.Proof)-1]...)
	w.refused("police gateway", "access:Anchor", swapped, domain.Invalid, "consistency proof")

	// Another history of the same length, signed by the log itself: a fork.
	fork := newWorld(t)
	fork.signer, fork.verifier = w.signer, w.verifier
	fork.grow(1)
	fork.leaves[0][0] ^= 1
	fork.grow(8)
	w.refused("police gateway", "access:Anchor", fork.anchor(5), domain.Invalid, "consistency proof")

	l := w.must("police gateway", "access:Anchor", second)
	if a := decode[domain.Anchor](t, l.Payload); a.Size != 9 || a.PreviousSize != 5 {
		t.Errorf("anchor %+v", a)
	}
	if got := decode[domain.LogRegistration](t, w.ledger.State("log~police")); got.Size != 9 {
		t.Errorf("log %+v", got)
	}
}

// TestAlarmEvidence checks what the chaincode makes of a checkpoint that is said
// to show a fork or a rollback of a log anchored at 7 and 13.
func TestAlarmEvidence(t *testing.T) {
	w := founded(t)
	w.anchored()
	old := w.anchor(0).Checkpoint
	w.grow(2)
	between, err := tlog.TreeHash(9, w.reader())
	if err != nil {
		t.Fatal(err)
	}
	w.grow(4)
	w.must("police gateway", "access:Anchor", w.anchor(7))
	now := w.anchor(0).Checkpoint
	for i, tc := range []struct {
		name     string
		kind     domain.AlarmKind
		evidence string
		proven   bool
	}{
		{"another root at the first anchor", domain.AlarmFork, w.checkpoint(7, tlog.Hash{1}), true},
		{"another root at the last anchor", domain.AlarmFork, w.checkpoint(13, tlog.Hash{1}), true},
		{"what is anchored", domain.AlarmFork, now, false},
		{"what was anchored", domain.AlarmFork, old, false},
		{"no anchor of that size", domain.AlarmFork, w.checkpoint(9, between), false},
		{"beyond the anchors", domain.AlarmFork, w.checkpoint(14, tlog.Hash{1}), false},
		{"an older tree", domain.AlarmRollback, old, true},
		{"an empty tree", domain.AlarmRollback, w.checkpoint(0, sha256.Sum256(nil)), true},
		{"an older tree that never was", domain.AlarmRollback, w.checkpoint(12, tlog.Hash{1}), true},
		{"what is anchored, no rollback", domain.AlarmRollback, now, false},
		{"beyond the anchors, no rollback", domain.AlarmRollback, w.checkpoint(14, tlog.Hash{1}), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := w.fork()
			args.Kind, args.Evidence, args.Subject = tc.kind, tc.evidence, fmt.Sprint(i)
			a := decode[domain.Alarm](t, w.must("civil auditor", "access:RaiseAlarm", args).Payload)
			if a.Proven != tc.proven || a.Evidence != tc.evidence || a.State != domain.AlarmOpen {
				t.Errorf("alarm %+v, want proven %t", a, tc.proven)
			}
		})
	}
	forged := newWorld(t)
	before := w.ledger.Keys()
	for _, evidence := range []string{
		"x", strings.Replace(old, "\n7\n", "\n8\n", 1), old + "\n", strings.Replace(old, "\n7\n", "\n07\n", 1),
		forged.checkpoint(7, tlog.Hash{1}), // by another key under the log's name
		strings.Replace(old, origin, "zhenglian.example/log/civil", 2),
	} {
		args := w.fork()
		args.Subject, args.Evidence = "new", evidence
		for _, kind := range []domain.AlarmKind{domain.AlarmFork, domain.AlarmRollback} {
			args.Kind = kind
			w.refused("civil gateway", "access:RaiseAlarm", args, domain.Invalid, "checkpoint")
		}
	}
	if diff := cmp.Diff(before, w.ledger.Keys()); diff != "" {
		t.Errorf("refusals changed the state:\n%s", diff)
	}
}

// TestAlarmAboutTheLead checks that the lead closes no alarm about itself, and
// that what is closed is not raised again.
func TestAlarmAboutTheLead(t *testing.T) {
	w := founded(t)
	args := unusual()
	args.About = "bigdata"
	a := decode[domain.Alarm](t, w.must("bigdata gateway", "access:RaiseAlarm", args).Payload)
	w.refused("civil auditor", "access:RaiseAlarm", args, domain.Exists, a.ID)
	closes := domain.CloseAlarmArgs{ID: a.ID, Finding: "已核实"}
	w.refused("bigdata reviewer", "access:CloseAlarm", closes, domain.Forbidden, "lead or peer")
	closed := decode[domain.Alarm](t, w.must("civil reviewer", "access:CloseAlarm", closes).Payload)
	if closed.State != domain.AlarmClosed || closed.Finding != closes.Finding || closed.Department != "civil" || closed.Figures != args.Figures {
		t.Errorf("alarm %+v", closed)
	}
	w.refused("civil auditor", "access:RaiseAlarm", args, domain.Exists, a.ID)
	raised, end := decode[domain.AlarmEvent](t, w.ledger.State("alarme~"+a.ID+"~1")), decode[domain.AlarmEvent](t, w.ledger.State("alarme~"+a.ID+"~2"))
	if raised.Department != "bigdata" || raised.Event != "raise" || end.Department != "civil" || end.Event != "close" || end.Finding != closes.Finding {
		t.Errorf("events %+v, %+v", raised, end)
	}
}

func TestAttest(t *testing.T) {
	w := founded(t)
	ask := func(kind domain.RecordKind, name string) domain.Statement {
		t.Helper()
		r := w.must("civil gateway", "evidence:Attest", domain.AttestArgs{Kind: kind, ID: name, Nonce: otherID})
		if reads := len(r.Reads); len(r.Writes) != 0 || reads != 1 && (kind != domain.KindCertificate || reads != 2) {
			t.Errorf("attesting writes %v and reads %v", r.Writes, r.Reads)
		}
		return decode[domain.Statement](t, r.Payload)
	}
	for _, kind := range domain.RecordKinds {
		if s := ask(kind, "missing"); s.Found || s.Record != "" || s.Status != "" || s.Channel != "zhenglian" || s.Nonce != otherID {
			t.Errorf("%s: %+v", kind, s)
		}
	}
	w.issued()
	s := ask(domain.KindCertificate, id)
	if !s.Found || s.Status != "valid" || s.Record != string(w.must("civil gateway", "certificate:Get", domain.RefArgs{Ref: id}).Payload) || s.ValidUntil.Sub(s.AsOf) != domain.StatementLife {
		t.Errorf("statement %+v", s)
	}
	effective := noon.Add(time.Duration(w.proposals) * time.Second)
	w.must("police operator", "certificate:Propose", proposal(domain.RevokeCertificate, effective))
	if s := ask(domain.KindCertificate, id); s.Status != "valid" {
		t.Errorf("a proposal is a statement of %s", s.Status)
	}
	w.must("police reviewer", "certificate:Decide", approvalOf(id))
	if s := ask(domain.KindCertificate, id); s.Status != "revoked" {
		t.Errorf("statement %+v", s)
	}
	// Asked by somebody without any attribute: the signatures count, not the asker.
	w.people["public"] = chaincodetest.NewIdentity(t, "PoliceMSP", nil)
	w.must("public", "evidence:Attest", domain.AttestArgs{Kind: domain.KindCertificate, ID: id, Nonce: otherID})

	// Status is evaluated at the transaction's time.
	p := w.proposal("civil gateway", "evidence:Attest", domain.AttestArgs{Kind: domain.KindCertificate, ID: id, Nonce: otherID})
	p.Time = effective.Add(-time.Millisecond)
	if s := decode[domain.Statement](t, w.run(p).Payload); s.Status != "valid" {
		t.Errorf("before the revocation took effect: %+v", s)
	}
}

func TestDamagedState(t *testing.T) {
	w := founded(t)
	for _, tc := range []struct {
		key, who, name string
		arg            any
	}{
		{"cat~" + code, "police operator", "catalog:Get", domain.CodeArgs{Code: code}},
		{"cat~" + code, "police operator", "catalog:Register", domain.RegisterCatalogArgs{Content: content()}},
		{"cat~" + code, "bigdata reviewer", "catalog:Review", domain.ReviewCatalogArgs{Code: code, Decision: domain.Approve}},
		{"cat~" + code, "police operator", "catalog:Publish", domain.CodeArgs{Code: code}},
		{"cat~" + code, "police operator", "catalog:Change", domain.ChangeCatalogArgs{Content: content()}},
		{"cat~" + code, "police operator", "catalog:PublishBatch", domain.CodesArgs{Codes: []string{code}}},
		{nameKey(content().Name), "police operator", "catalog:Register", domain.RegisterCatalogArgs{Content: content()}},
		{"rule~catalog_review", "police operator", "catalog:Register", domain.RegisterCatalogArgs{Content: content()}},
		{"cal~2026", "police operator", "catalog:Register", domain.RegisterCatalogArgs{Content: content()}},
		{"cal~2026", "bigdata admin", "governance:SetCalendar", calendar(2026)},
		{"rule~mediation", "bigdata admin", "governance:SetRule", rule(domain.DeadlineMediation)},
		{"members~all", "police operator", "catalog:Submit", domain.CodeArgs{Code: code}},
		{"grant~" + id, "police reviewer", "sharing:Suspend", reason()},
		{"cat~" + code, "civil operator", "sharing:Request", request()},
		{"req~" + id, "civil operator", "sharing:Request", request()},
		{"req~" + id, "police reviewer", "sharing:Answer", agreement()},
		{"log~police", "police admin", "access:RegisterLog", domain.RegisterLogArgs{Origin: origin, VerifierKey: w.verifier}},
		{"log~police", "police gateway", "access:Anchor", domain.AnchorArgs{Checkpoint: "x"}},
		{"alarm~" + alarmID, "civil gateway", "access:RaiseAlarm", unusual()},
		{"dept~civil", "police gateway", "access:RaiseAlarm", unusual()},
		{"log~police", "civil gateway", "access:RaiseAlarm", w.fork()},
		{"alarm~" + alarmID, "bigdata reviewer", "access:CloseAlarm", closing()},
		{"alarm~" + alarmID, "bigdata reviewer", "access:GetAlarm", domain.IDArgs{ID: alarmID}},
		{"certb~" + domain.BatchOf(id), "police operator", "certificate:Issue", domain.IssueArgs{Content: certificateContent(t)}},
		{keyOf(certID), "police operator", "certificate:Issue", domain.IssueArgs{Content: certificateContent(t)}},
		{"certbit~police~0", "police operator", "certificate:Issue", domain.IssueArgs{Content: certificateContent(t)}},
		{"issuer~police~" + typeCode, "police operator", "certificate:Issue", domain.IssueArgs{Content: certificateContent(t)}},
		{"issuer~police~" + typeCode, "police operator", "certificate:IssueBatch", domain.IssueBatchArgs{Contents: certificateContents(t, 2)}},
		{"issuer~police~" + typeCode, "bigdata admin", "certificate:Authorise", authorisation()},
		{"dept~police", "bigdata admin", "certificate:Authorise", authorisation()},
		{"issuer~police~" + typeCode, "civil auditor", "certificate:GetAuthorisation", domain.AuthorisationArgs{Issuer: "police", TypeCode: typeCode}},
		{"certb~" + domain.BatchOf(id), "police operator", "certificate:Propose", proposal(domain.RevokeCertificate, noon)},
		{"certb~" + domain.BatchOf(id), "police reviewer", "certificate:Decide", approvalOf(id)},
		{"certb~" + domain.BatchOf(id), "police reviewer", "certificate:DecideBatch", domain.DecideBatchArgs{Refs: []string{id}, Decision: domain.ApproveCertificate}},
		{"certb~" + domain.BatchOf(id), "police operator", "evidence:Attest", domain.AttestArgs{Kind: domain.KindCertificate, ID: id, Nonce: otherID}},
		{"dept~zzz", "bigdata admin", "governance:RegisterDepartment", departments[0]},
		{"dept~police", "police operator", "catalog:Get", domain.CodeArgs{Code: code}},
	} {
		t.Run(tc.key+" "+tc.name, func(t *testing.T) {
			w := founded(t)
			w.ledger.Set(tc.key, []byte(`{"damaged":true}`))
			r := w.run(w.proposal(tc.who, tc.name, tc.arg))
			// Not a refusal: the gateway must not tell the caller it is their fault.
			if r.OK() || !strings.HasPrefix(r.Message, "internal: ") {
				t.Errorf("got %d %q", r.Status, r.Message)
			}
		})
	}
}

func TestPanicFailsTheTransactionOnly(t *testing.T) {
	var logged bytes.Buffer
	cc, err := chaincode.New(slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	w := founded(t)
	w.chaincode = cc
	r := w.ledger.Simulate(cc, chaincodetest.Proposal{
		Creator: w.people["police operator"], Function: "catalog:Get", TxID: "t1", Time: noon,
		Args: []string{canonical(t, domain.CodeArgs{Code: code})}, Panic: true,
	})
	if r.OK() || !strings.HasPrefix(r.Message, "internal: ") {
		t.Errorf("got %d %q", r.Status, r.Message)
	}
	if !strings.Contains(logged.String(), "transaction panicked") || !strings.Contains(logged.String(), "txId=t1") {
		t.Errorf("log %q", logged.String())
	}
	w.must("police operator", "catalog:Register", domain.RegisterCatalogArgs{Content: content()})
}

func TestBadTransactionTime(t *testing.T) {
	w := founded(t)
	p := w.proposal("civil gateway", "evidence:Attest", domain.AttestArgs{Kind: domain.KindGrant, ID: id, Nonce: otherID})
	p.Time = time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)
	if r := w.run(p); r.OK() || !strings.HasPrefix(r.Message, "invalid: the transaction has no valid time") {
		t.Errorf("got %d %q", r.Status, r.Message)
	}
}

func TestInitAndEmptyCall(t *testing.T) {
	w := founded(t)
	if r := w.chaincode.Init(nil); r.GetStatus() < 400 {
		t.Errorf("Init answers %v", r)
	}
	if r := w.ledger.Simulate(w.chaincode, chaincodetest.Proposal{}); r.OK() || !strings.HasPrefix(r.Message, "invalid: ") {
		t.Errorf("an empty call answers %q", r.Message)
	}
	for _, name := range []string{"org.hyperledger.fabric:GetMetadata", "Register", "governance:", ":", ""} {
		w.refused("bigdata admin", name, "{}", domain.Invalid, "no such transaction")
	}
}

// FuzzArguments checks that no argument makes a transaction fail in any way but
// with a refusal.
func FuzzArguments(f *testing.F) {
	w := founded(f)
	w.asked()
	w.anchored()
	w.grow(6)
	w.alarmed()
	w.issued()
	for i, tc := range cases() {
		f.Add(i, canonical(f, tc.arg(w)))
	}
	f.Fuzz(func(t *testing.T, which int, arg string) {
		all := cases()
		tc := all[uint(which)%uint(len(all))]
		p := chaincodetest.Proposal{
			Creator: w.people[tc.who], TxID: strings.Repeat("0", 64), Time: noon.Add(time.Hour), Function: tc.name, Args: []string{arg},
		}
		checkHostile(t, p, w.ledger.Simulate(w.chaincode, p))
	})
}
