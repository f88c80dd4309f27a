package domain

import (
	"cmp"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
)

// Expectation says at which write a record must be for a transaction to run: the
// caller decided by that version of it, and by no other.
type Expectation struct {
	Kind RecordKind
	ID   string
	TxID TxID // the transaction that last wrote the record
}

var txIDShape = regexp.MustCompile(`^[0-9a-f]{64}$`)

// String is the form in which an expectation travels: the record's state key, "="
// and the transaction.
func (e Expectation) String() string { return KeyOf(e.Kind, e.ID) + "=" + string(e.TxID) }

// ParseExpected reads the form of [Expectation.String].
func ParseExpected(s string) (key string, id TxID, err error) {
	i := strings.LastIndexByte(s, '=')
	if i < 1 || !txIDShape.MatchString(s[i+1:]) {
		return "", "", refuse(Invalid, "expectation: must be a state key, = and a transaction")
	}
	return s[:i], TxID(s[i+1:]), nil
}

// CheckExpected refuses a record, of which stored are the bytes and nil says that
// there is none, that was last written by another transaction than expected. The
// refusal names that transaction and the state; see [CurrentOf].
func CheckExpected(key string, expected TxID, stored []byte) error {
	if stored == nil {
		return refuse(NotFound, "%s is not recorded", key)
	}
	var current struct {
		TxID   TxID   `json:"txId"`
		State  string `json:"state"`
		Status string `json:"status"` // of a certificate
	}
	if err := json.Unmarshal(stored, &current); err != nil {
		return err
	}
	if current.TxID == expected {
		return nil
	}
	state := cmp.Or(current.State, current.Status, "recorded")
	return refuse(Changed, "%s is %s; it was last written by transaction %s, not by the one expected", key, state, current.TxID)
}

var currentShape = regexp.MustCompile(` is ([a-z_]+); it was last written by transaction ([0-9a-f]{64}),`)

// CurrentOf returns the state of the record and the transaction that last wrote it
// from the first [Error] of kind [Changed] in err's chain, or "".
func CurrentOf(err error) (state string, id TxID) {
	var e *Error
	if !errors.As(err, &e) || e.Kind != Changed {
		return "", ""
	}
	if m := currentShape.FindStringSubmatch(e.Msg); m != nil {
		return m[1], TxID(m[2])
	}
	return "", ""
}
