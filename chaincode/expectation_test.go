package chaincode_test

import (
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/chaincode/chaincodetest"
	"github.com/zhenglian/zhenglian/domain"
)

// expecting is a proposal that runs only while a record is at a write.
func (w *world) expecting(key string, at domain.TxID, operation, who, function string, arg any) chaincodetest.Proposal {
	w.Helper()
	p := w.under(operation, who, function, arg)
	p.Args = append(p.Args, key+"="+string(at))
	return p
}

// TestExpectation changes a record that is at the expected write, and one that is not.
func TestExpectation(t *testing.T) {
	w := founded(t)
	w.published()
	w.ledger.Commit(w.run(w.proposal("civil operator", "sharing:Request", request())))
	key := domain.KeyOf(domain.KindRequest, id)
	at := decode[domain.ShareRequest](t, w.ledger.State(key)).TxID
	other := domain.TxID(domain.Digest([]byte("another")))
	withdraw := func(key string, at domain.TxID, operation string) chaincodetest.Proposal {
		return w.expecting(key, at, operation, "civil operator", "sharing:Withdraw", reason())
	}
	w.people["stranger"] = chaincodetest.NewIdentity(t, "StrangerMSP", map[string]string{"zhenglian.role": "operator", "zhenglian.department": "stranger"})
	for _, tt := range []struct {
		name string
		p    chaincodetest.Proposal
		kind domain.Kind
		msg  string
	}{
		{"another write", withdraw(key, other, ""), domain.Changed, string(at)},
		{"another record", withdraw(domain.KeyOf(domain.KindCatalogEntry, request().CatalogCode), at, ""), domain.Changed, "is published"},
		{"no such record", withdraw("req~"+otherID, at, ""), domain.NotFound, "req~" + otherID},
		{"no transaction", withdraw(key, "x", ""), domain.Invalid, "expectation: "},
		{"no key", withdraw("", at, ""), domain.Invalid, "expectation: "},
		{"no member", w.expecting(key, at, "", "stranger", "sharing:Withdraw", reason()), domain.Forbidden, ""},
		{"a read", w.expecting(key, at, "", "civil operator", "sharing:Get", domain.IDArgs{ID: id}), domain.Invalid, "takes none"},
	} {
		r := w.run(tt.p)
		if e, ok := domain.ParseError(r.Message); r.OK() || !ok || e.Kind != tt.kind || !strings.Contains(e.Msg, tt.msg) {
			t.Errorf("%s: %q, want %s: …%s…", tt.name, r.Message, tt.kind, tt.msg)
		}
	}
	e, _ := domain.ParseError(w.run(withdraw(key, other, "")).Message)
	if state, current := domain.CurrentOf(e); state != string(domain.RequestSubmitted) || current != at {
		t.Errorf("the refusal names state %q and transaction %q, want %q and %q", state, current, domain.RequestSubmitted, at)
	}
	done := w.run(withdraw(key, at, operation))
	if !done.OK() {
		t.Fatal(done.Message)
	}
	w.ledger.Commit(done)
	// Repeated, an operation answers what it answered, although the record moved on.
	if again := w.run(withdraw(key, at, operation)); !again.OK() || string(again.Payload) != string(done.Payload) {
		t.Errorf("again: %q", again.Message)
	}
}
