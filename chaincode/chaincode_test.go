package chaincode_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

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
	keys      []string    // written, in order
	again     domain.Kind // the answer to a second run after the commit; "" if it is allowed
}

func cases() []transactionCase {
	agree := func(*world) any { return domain.AnswerArgs{ID: id, Decision: domain.Agree} }
	entry := func(*world) any { return domain.RegisterCatalogArgs{Content: content()} }
	byCode := func(*world) any { return domain.CodeArgs{Code: code} }
	register := func(w *world) { w.must("police operator", "catalog:Register", entry(w)) }
	approve := func(w *world) {
		register(w)
		w.must("bigdata reviewer", "catalog:Review", domain.ReviewCatalogArgs{Code: code, Decision: domain.Approve})
	}
	ask := func(w *world) {
		w.published()
		w.must("civil operator", "sharing:Request", request())
	}
	grant := func(w *world) {
		ask(w)
		w.must("police reviewer", "sharing:Answer", agree(w))
	}
	log := func(w *world) any { return domain.RegisterLogArgs{Origin: origin, VerifierKey: w.verifier} }
	issue := func(w *world) any { return domain.IssueArgs{Content: certificateContent(w.TB)} }
	issued := func(w *world) { w.must("police operator", "certificate:Issue", issue(w)) }
	return []transactionCase{
		{
			"governance:RegisterDepartment", nil,
			func(*world) any {
				return domain.RegisterDepartmentArgs{Code: "market", MSPID: "MarketMSP", NameZh: "市场监管局", NameEn: "Market", USCC: "11220000013544541J"}
			},
			"bigdata admin",
			[]string{"police admin", "bigdata operator", "bigdata gateway"},
			[]string{"dept~market"},
			domain.Exists,
		},
		{
			"catalog:Register", nil, entry,
			"police operator",
			[]string{"police reviewer", "police auditor", "police admin", "police gateway"},
			[]string{"cat~" + code, "catv~" + code + "~1"},
			domain.Exists,
		},
		{
			"catalog:Review", register,
			func(*world) any {
				return domain.ReviewCatalogArgs{Code: code, Decision: domain.Return, Opinion: "缺少共享条件"}
			},
			"bigdata reviewer",
			[]string{"police reviewer", "police operator", "bigdata operator", "bigdata admin"},
			[]string{"cat~" + code},
			domain.Exists,
		},
		{
			"catalog:Publish", approve, byCode,
			"police operator",
			[]string{"civil operator", "bigdata operator", "police reviewer"},
			[]string{"cat~" + code},
			domain.Exists,
		},
		{"catalog:Get", register, byCode, "civil auditor", nil, nil, ""},
		{
			"sharing:Request", (*world).published, func(*world) any { return request() },
			"civil operator",
			[]string{"police operator", "civil reviewer"},
			[]string{"req~" + id, "reqe~" + id + "~1"},
			domain.Exists,
		},
		{
			"sharing:Answer", ask, agree,
			"police reviewer",
			[]string{"civil reviewer", "bigdata reviewer", "police operator"},
			[]string{"grant~" + id, "req~" + id, "reqe~" + id + "~2"},
			domain.Exists,
		},
		{"sharing:GetGrant", grant, func(*world) any { return domain.IDArgs{ID: id} }, "bigdata auditor", nil, nil, ""},
		{
			"access:RegisterLog", nil, log,
			"police admin",
			[]string{"police operator", "police gateway"},
			[]string{"log~police"},
			domain.Exists,
		},
		{
			"access:Anchor",
			func(w *world) {
				w.must("police admin", "access:RegisterLog", log(w))
				w.grow(7)
				w.must("police gateway", "access:Anchor", w.anchor(0))
				w.grow(6)
			},
			func(w *world) any { return w.anchor(7) },
			"police gateway",
			[]string{"police admin", "police operator"},
			[]string{"log~police", "anchor~police~13"},
			domain.Invalid,
		},
		{
			"certificate:Issue", nil, issue,
			"police operator",
			[]string{"police reviewer", "police admin"},
			[]string{"certid~" + certID, "cert~" + id, "certe~" + id + "~1"},
			domain.Exists,
		},
		{
			"certificate:Revoke", issued, func(*world) any { return revocation() },
			"police reviewer",
			[]string{"civil reviewer", "bigdata reviewer", "police operator"},
			[]string{"cert~" + id, "certe~" + id + "~2"},
			domain.Exists,
		},
		{"certificate:Get", issued, func(*world) any { return domain.RefArgs{Ref: id} }, "civil gateway", nil, nil, ""},
		{"evidence:Attest", issued, func(*world) any {
			return domain.AttestArgs{Kind: domain.KindCertificate, ID: id, Nonce: otherID}
		}, "civil gateway", nil, nil, ""},
	}
}

func TestEveryTransaction(t *testing.T) {
	var names []string
	for _, tc := range cases() {
		names = append(names, tc.name)
		t.Run(tc.name, func(t *testing.T) {
			w := founded(t)
			if tc.prepare != nil {
				tc.prepare(w)
			}
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
			w.refused(tc.who, tc.name, strings.Repeat("x", 1<<20+1), domain.Invalid, "longer than")
			for _, args := range [][]string{nil, {}, {arg, arg}, {arg, ""}} {
				p := w.proposal(tc.who, tc.name, arg)
				p.Args = args
				if r := w.run(p); r.OK() || !strings.HasPrefix(r.Message, "invalid: "+tc.name+" takes exactly one argument") {
					t.Errorf("%d arguments: %q", len(args), r.Message)
				}
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
			if diff := cmp.Diff(tc.keys, writtenKeys(r)); diff != "" {
				t.Errorf("keys written (-want +got):\n%s", diff)
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
	w.refused("bigdata reviewer", "catalog:Review", domain.ReviewCatalogArgs{Code: code, Decision: domain.Approve}, domain.NotFound, code)
	w.refused("police operator", "catalog:Publish", domain.CodeArgs{Code: code}, domain.NotFound, code)
	w.refused("police operator", "catalog:Get", domain.CodeArgs{Code: code}, domain.NotFound, "catalog "+code)
	w.refused("civil operator", "sharing:Request", request(), domain.NotFound, code)
	w.refused("police reviewer", "sharing:Answer", domain.AnswerArgs{ID: id, Decision: domain.Agree}, domain.NotFound, id)
	w.refused("police reviewer", "sharing:GetGrant", domain.IDArgs{ID: id}, domain.NotFound, id)
	w.refused("police gateway", "access:Anchor", domain.AnchorArgs{Checkpoint: "x"}, domain.NotFound, "access log of police")
	w.refused("police reviewer", "certificate:Revoke", revocation(), domain.NotFound, id)
	w.refused("police reviewer", "certificate:Get", domain.RefArgs{Ref: id}, domain.NotFound, id)
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
	args := domain.RegisterCatalogArgs{Content: content()}
	w.must("police operator", "catalog:Register", args)
	w.must("bigdata reviewer", "catalog:Review", domain.ReviewCatalogArgs{Code: code, Decision: domain.Return, Opinion: "缺少依据"})
	w.refused("civil operator", "catalog:Register", args, domain.Exists, code)
	r := w.must("police operator", "catalog:Register", args)
	if diff := cmp.Diff([]string{"cat~" + code, "catv~" + code + "~2"}, writtenKeys(r)); diff != "" {
		t.Error(diff)
	}
	if e := decode[domain.CatalogEntry](t, r.Payload); e.Version != 2 || e.State != domain.CatalogRegPending || e.Opinion != "" {
		t.Errorf("entry %+v", e)
	}
}

func TestAnswers(t *testing.T) {
	for _, tc := range []struct {
		args  domain.AnswerArgs
		state domain.RequestState
		keys  []string
	}{
		{domain.AnswerArgs{ID: id, Decision: domain.Refuse, Reason: "理由", LegalBasis: []string{"依据"}}, domain.RequestRefused, []string{"req~" + id, "reqe~" + id + "~2"}},
		{domain.AnswerArgs{
			ID: id, Decision: domain.Partly, Reason: "理由", Items: request().Items, Period: request().Period, Quota: domain.Quota{Total: 1, PerDay: 1},
		}, domain.RequestPartlyAgreed, []string{"grant~" + id, "req~" + id, "reqe~" + id + "~2"}},
	} {
		t.Run(string(tc.args.Decision), func(t *testing.T) {
			w := founded(t)
			w.published()
			w.must("civil operator", "sharing:Request", request())
			r := w.must("police reviewer", "sharing:Answer", tc.args)
			if got := decode[domain.ShareRequest](t, r.Payload); got.State != tc.state {
				t.Errorf("request %+v", got)
			}
			if diff := cmp.Diff(tc.keys, writtenKeys(r)); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
		})
	}
}

func TestIdentifierIsIssuedOnce(t *testing.T) {
	w := founded(t)
	args, again := domain.IssueArgs{Content: certificateContent(t)}, domain.IssueArgs{Content: certificateContent(t)}
	again.Content.Ref = otherID

	// At the same time: each reads the key that the other writes, so that the
	// peers let only the first of them commit.
	first, second := w.run(w.proposal("police operator", "certificate:Issue", args)), w.run(w.proposal("police operator", "certificate:Issue", again))
	for _, r := range []chaincodetest.Result{first, second} {
		if !r.OK() || !slices.Contains(r.Reads, "certid~"+certID) || !slices.Contains(writtenKeys(r), "certid~"+certID) {
			t.Errorf("%q reads %q and writes %q, both should have the identifier's key", r.Message, r.Reads, writtenKeys(r))
		}
	}
	w.ledger.Commit(first)

	w.refused("police operator", "certificate:Issue", again, domain.Exists, certID+" is already issued as "+id)
	w.must("police reviewer", "certificate:Revoke", revocation())
	w.refused("police operator", "certificate:Issue", again, domain.Exists, certID+" is already issued as "+id)
	bound := decode[domain.IssuedID](t, w.ledger.State("certid~"+certID))
	if bound.CertID != certID || bound.Ref != id || bound.Department != "police" || !domain.DigestHolds(&bound) {
		t.Errorf("identifier %+v", bound)
	}
	s := decode[domain.Statement](t, w.must("civil gateway", "evidence:Attest", domain.AttestArgs{Kind: domain.KindCertificateID, ID: certID, Nonce: otherID}).Payload)
	if !s.Found || s.Status != "" || s.Record != string(w.ledger.State("certid~"+certID)) {
		t.Errorf("statement %+v", s)
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

func TestAttest(t *testing.T) {
	w := founded(t)
	ask := func(kind domain.RecordKind, name string) domain.Statement {
		t.Helper()
		r := w.must("civil gateway", "evidence:Attest", domain.AttestArgs{Kind: kind, ID: name, Nonce: otherID})
		if len(r.Writes) != 0 || len(r.Reads) != 1 {
			t.Errorf("attesting writes %v and reads %v", r.Writes, r.Reads)
		}
		return decode[domain.Statement](t, r.Payload)
	}
	for _, kind := range domain.RecordKinds {
		if s := ask(kind, "missing"); s.Found || s.Record != "" || s.Status != "" || s.Channel != "zhenglian" || s.Nonce != otherID {
			t.Errorf("%s: %+v", kind, s)
		}
	}
	w.must("police operator", "certificate:Issue", domain.IssueArgs{Content: certificateContent(t)})
	s := ask(domain.KindCertificate, id)
	if !s.Found || s.Status != "valid" || s.Record != string(w.ledger.State("cert~"+id)) || s.ValidUntil.Sub(s.AsOf) != domain.StatementLife {
		t.Errorf("statement %+v", s)
	}
	w.must("police reviewer", "certificate:Revoke", revocation())
	if s := ask(domain.KindCertificate, id); s.Status != "revoked" {
		t.Errorf("statement %+v", s)
	}
	// Asked by somebody without any attribute: the signatures count, not the asker.
	w.people["public"] = chaincodetest.NewIdentity(t, "PoliceMSP", nil)
	w.must("public", "evidence:Attest", domain.AttestArgs{Kind: domain.KindCertificate, ID: id, Nonce: otherID})

	// Status is evaluated at the transaction's time.
	p := w.proposal("civil gateway", "evidence:Attest", domain.AttestArgs{Kind: domain.KindCertificate, ID: id, Nonce: otherID})
	p.Time = noon.Add(-30 * time.Minute)
	if s := decode[domain.Statement](t, w.run(p).Payload); s.Status != "valid" {
		t.Errorf("half an hour before the revocation: %+v", s)
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
		{"cat~" + code, "civil operator", "sharing:Request", request()},
		{"req~" + id, "civil operator", "sharing:Request", request()},
		{"req~" + id, "police reviewer", "sharing:Answer", domain.AnswerArgs{ID: id, Decision: domain.Agree}},
		{"log~police", "police admin", "access:RegisterLog", domain.RegisterLogArgs{Origin: origin, VerifierKey: w.verifier}},
		{"log~police", "police gateway", "access:Anchor", domain.AnchorArgs{Checkpoint: "x"}},
		{"cert~" + id, "police operator", "certificate:Issue", domain.IssueArgs{Content: certificateContent(t)}},
		{"certid~" + certID, "police operator", "certificate:Issue", domain.IssueArgs{Content: certificateContent(t)}},
		{"cert~" + id, "police reviewer", "certificate:Revoke", revocation()},
		{"cert~" + id, "police operator", "evidence:Attest", domain.AttestArgs{Kind: domain.KindCertificate, ID: id, Nonce: otherID}},
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

// TestEnvironmentDoesNotShow runs the same transactions in processes with other
// time zones, processor counts and runtime settings.
func TestEnvironmentDoesNotShow(t *testing.T) {
	if os.Getenv("ZHENGLIAN_DIGEST") != "" {
		return // the child runs TestDigest only
	}
	var first string
	for _, env := range [][]string{
		{"TZ=UTC", "GOMAXPROCS=1"},
		{"TZ=Asia/Shanghai", "GOMAXPROCS=8"},
		{"TZ=America/New_York", "GODEBUG=asyncpreemptoff=1", "LANG=zh_CN.UTF-8"},
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestDigest$", "-test.v", "-test.count=1")
		cmd.Env = append(os.Environ(), append(env, "ZHENGLIAN_DIGEST=1")...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", env, err, out)
		}
		_, rest, found := strings.Cut(string(out), "digest ")
		if !found || len(rest) < 64 {
			t.Fatalf("%v: no digest in %s", env, out)
		}
		digest := rest[:64]
		if first == "" {
			first = digest
		}
		if digest != first {
			t.Errorf("%v: digest %s, want %s", env, digest, first)
		}
	}
}

// TestDigest prints a digest over the writes and answers of a fixed run. Keys of
// people and logs are fresh in each process and are not part of any of them.
func TestDigest(t *testing.T) {
	w := founded(t)
	w.published()
	w.must("civil operator", "sharing:Request", request())
	w.must("police reviewer", "sharing:Answer", domain.AnswerArgs{ID: id, Decision: domain.Agree})
	w.must("police operator", "certificate:Issue", domain.IssueArgs{Content: certificateContent(t)})
	w.must("police reviewer", "certificate:Revoke", revocation())
	all := w.must("civil gateway", "evidence:Attest", domain.AttestArgs{Kind: domain.KindCertificate, ID: id, Nonce: otherID}).Payload
	for _, key := range w.ledger.Keys() {
		all = append(append(all, key...), w.ledger.State(key)...)
	}
	t.Logf("digest %s", domain.Digest(all))
}

// FuzzArguments checks that no argument makes a transaction fail in any way but
// with a refusal.
func FuzzArguments(f *testing.F) {
	w := founded(f)
	w.published()
	w.must("civil operator", "sharing:Request", request())
	w.must("police admin", "access:RegisterLog", domain.RegisterLogArgs{Origin: origin, VerifierKey: w.verifier})
	w.grow(7)
	w.must("police gateway", "access:Anchor", w.anchor(0))
	w.grow(6)
	for i, tc := range cases() {
		f.Add(i, canonical(f, tc.arg(w)))
	}
	f.Fuzz(func(t *testing.T, which int, arg string) {
		all := cases()
		tc := all[uint(which)%uint(len(all))]
		p := chaincodetest.Proposal{
			Creator: w.people[tc.who], TxID: strings.Repeat("0", 64), Time: noon.Add(time.Hour), Function: tc.name, Args: []string{arg},
		}
		r := w.ledger.Simulate(w.chaincode, p)
		if r.OK() {
			return
		}
		if _, known := domain.ParseError(r.Message); !known {
			t.Errorf("%s(%q): %q", tc.name, arg, r.Message)
		}
		if !utf8.ValidString(r.Message) || len(r.Message) > 1<<14 {
			t.Errorf("%s: a message of %d bytes", tc.name, len(r.Message))
		}
	})
}
