package domain

import (
	"strings"
	"testing"
)

func TestExpectation(t *testing.T) {
	at, other := TxID(Digest([]byte("at"))), TxID(Digest([]byte("other")))
	for _, e := range []Expectation{{KindGrant, someID, at}, {KindCatalogEntry, "307003/000017", at}, {KindCertificate, someID, other}} {
		key, id, err := ParseExpected(e.String())
		if err != nil || key != KeyOf(e.Kind, e.ID) || id != e.TxID {
			t.Errorf("%s reads as %q, %q, %v", e, key, id, err)
		}
	}
	for _, bad := range []string{"", "=", "=" + string(at), "grant~x", "grant~x=", "grant~x=" + strings.ToUpper(string(at)), "grant~x=" + string(at[1:]), "grant~x=" + string(at) + "\n"} {
		if _, _, err := ParseExpected(bad); KindOf(err) != Invalid {
			t.Errorf("%q: %v, want kind %s", bad, err, Invalid)
		}
	}
}

func TestCheckExpected(t *testing.T) {
	at, other := TxID(Digest([]byte("at"))), TxID(Digest([]byte("other")))
	for _, tt := range []struct {
		stored string
		kind   Kind
		state  string
	}{
		{`{"txId":"` + string(at) + `","state":"agreed"}`, "", ""},
		{`{"txId":"` + string(other) + `","state":"agreed"}`, Changed, "agreed"},
		{`{"txId":"` + string(other) + `","status":"valid"}`, Changed, "valid"},
		{`{"txId":"` + string(other) + `"}`, Changed, "recorded"},
		{"", NotFound, ""},
	} {
		var stored []byte
		if tt.stored != "" {
			stored = []byte(tt.stored)
		}
		err := CheckExpected("req~x", at, stored)
		state, current := CurrentOf(err)
		if KindOf(err) != tt.kind || state != tt.state || (tt.kind == Changed) != (current == other) {
			t.Errorf("%s: %v, state %q, transaction %q", tt.stored, err, state, current)
		}
		if parsed, ok := ParseError(errorText(err)); ok { // as it comes from the ledger
			if again, id := CurrentOf(parsed); again != state || id != current {
				t.Errorf("%s reads as %q, %q", parsed, again, id)
			}
		}
	}
	if err := CheckExpected("req~x", at, []byte("{")); err == nil || KindOf(err) != "" {
		t.Errorf("damaged record: %v, want a failure without a kind", err)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
