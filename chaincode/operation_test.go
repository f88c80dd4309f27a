package chaincode_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/chaincode"
	"github.com/zhenglian/zhenglian/chaincode/chaincodetest"
	"github.com/zhenglian/zhenglian/domain"
)

const operation = "0123456789abcdef0123456789abcdef"

// under is a proposal that belongs to an operation.
func (w *world) under(operation, who, function string, arg any) chaincodetest.Proposal {
	w.Helper()
	p := w.proposal(who, function, arg)
	p.Args = append(p.Args, operation)
	return p
}

// TestOperations checks for every transaction that writes: under an operation it
// writes the same and remembers its answer, and run again it answers that and
// writes nothing. A read takes no operation.
func TestOperations(t *testing.T) {
	for _, tc := range cases() {
		t.Run(tc.name, func(t *testing.T) {
			w := tc.prepared(t)
			arg := canonical(t, tc.arg(w))
			first := w.run(w.under(operation, tc.who, tc.name, arg))
			if tc.changes == nil {
				if e, ok := domain.ParseError(first.Message); !ok || e.Kind != domain.Invalid || !strings.Contains(e.Msg, "writes nothing and takes none") {
					t.Errorf("%q", first.Message)
				}
				return
			}
			if !first.OK() {
				t.Fatal(first.Message)
			}
			department, role, _ := strings.Cut(tc.who, " ")
			key := "op~" + department + "~" + operation
			if diff := cmp.Diff(append(tc.changes[:len(tc.changes):len(tc.changes)], "put "+key), changes(t, first)); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			w.ledger.Commit(first)
			done := decode[domain.Operation](t, w.ledger.State(key))
			if done.Operation != operation || done.Transaction != tc.name || done.ArgumentDigest != domain.Digest([]byte(arg)) ||
				done.Result != string(first.Payload) || string(done.Department) != department || string(done.Role) != role ||
				done.Schema != domain.SchemaOperation || !domain.DigestHolds(&done) {
				t.Errorf("operation %+v", done)
			}

			again := w.run(w.under(operation, tc.who, tc.name, arg))
			if !again.OK() || string(again.Payload) != string(first.Payload) || len(again.Writes)+len(again.Policies) != 0 {
				t.Errorf("again: %q %s, %d writes", again.Message, again.Payload, len(again.Writes))
			}
		})
	}
}

func TestOperationBelongsToADepartment(t *testing.T) {
	w := founded(t)
	w.published()
	w.ledger.Commit(w.run(w.under(operation, "civil operator", "sharing:Request", request())))
	refused := func(p chaincodetest.Proposal, kind domain.Kind, msg string) {
		t.Helper()
		r := w.run(p)
		if e, ok := domain.ParseError(r.Message); r.OK() || !ok || e.Kind != kind || !strings.Contains(e.Msg, msg) {
			t.Errorf("%q, want %s: …%s…", r.Message, kind, msg)
		}
	}

	// Another argument or transaction under the same operation.
	other := request()
	other.ID = otherID
	const used = "operation " + operation + ": used for another transaction"
	refused(w.under(operation, "civil operator", "sharing:Request", other), domain.Invalid, used)
	refused(w.under(operation, "civil operator", "sharing:Withdraw", reason()), domain.Invalid, used)

	// Anybody of the department gets the answer, whatever their role.
	r := w.run(w.under(operation, "civil reviewer", "sharing:Request", request()))
	if !r.OK() || len(r.Writes) != 0 || decode[domain.ShareRequest](t, r.Payload).Content.ID != id {
		t.Errorf("the department's reviewer: %q", r.Message)
	}
	// Another department has operations of its own.
	refused(w.under(operation, "police operator", "sharing:Request", request()), domain.Exists, id)
	// Whoever names a department must come from it.
	w.people["impostor"] = chaincodetest.NewIdentity(t, "StrangerMSP", map[string]string{"zhenglian.role": "operator", "zhenglian.department": "civil"})
	refused(w.under(operation, "impostor", "sharing:Request", request()), domain.Forbidden, "not issued under its MSP")

	for _, bad := range []string{"", "x", strings.ToUpper(operation), operation + "0", operation[1:], operation[1:] + "~"} {
		refused(w.under(bad, "civil operator", "sharing:Request", other), domain.Invalid, "operation: must be 32 lower-case hexadecimal digits")
	}
	w.ledger.Set("op~civil~"+otherID, []byte(`{"damaged":true}`))
	if r := w.run(w.under(otherID, "civil operator", "sharing:Request", other)); r.OK() || !strings.HasPrefix(r.Message, "internal: ") {
		t.Errorf("damaged operation: %q", r.Message)
	}
}

// TestOperationOfTheFounder checks the one transaction whose department is not
// registered when it starts.
func TestOperationOfTheFounder(t *testing.T) {
	w := newWorld(t)
	for range 2 {
		r := w.run(w.under(operation, "bigdata admin", "governance:RegisterDepartment", departments[0]))
		if !r.OK() || decode[domain.Department](t, r.Payload).TxID != domain.TxID(strings.Repeat("0", 63)+"1") {
			t.Fatalf("%q %s", r.Message, r.Payload)
		}
		w.ledger.Commit(r)
	}
	if diff := cmp.Diff([]string{"dept~bigdata", "members~all", "op~bigdata~" + operation}, w.ledger.Keys()); diff != "" {
		t.Error(diff)
	}
}

// TestRefusalIsNotRemembered checks that an operation may succeed later.
func TestRefusalIsNotRemembered(t *testing.T) {
	w := founded(t)
	if r := w.run(w.under(operation, "civil operator", "sharing:Request", request())); domain.KindOf(parseError(t, r.Message)) != domain.NotFound {
		t.Fatalf("%q", r.Message)
	}
	w.published()
	if r := w.run(w.under(operation, "civil operator", "sharing:Request", request())); !r.OK() {
		t.Errorf("%q", r.Message)
	}
}

func parseError(t testing.TB, message string) error {
	t.Helper()
	e, ok := domain.ParseError(message)
	if !ok {
		t.Fatalf("%q is no refusal", message)
	}
	return e
}

func TestReadOnly(t *testing.T) {
	reads := 0
	for _, name := range chaincode.Transactions() {
		if chaincode.ReadOnly(name) {
			reads++
		}
	}
	if reads != 9 || chaincode.ReadOnly("catalog:get") || chaincode.ReadOnly("") || chaincode.ReadOnly("zzz") {
		t.Errorf("%d reads, or an unknown transaction is one", reads)
	}
}
