package chaincodetest_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/zhenglian/zhenglian/chaincode/chaincodetest"
)

// does is a chaincode that does one thing.
type does func(shim.ChaincodeStubInterface) error

func (does) Init(shim.ChaincodeStubInterface) *peer.Response { return shim.Success(nil) }

func (d does) Invoke(stub shim.ChaincodeStubInterface) *peer.Response {
	if err := d(stub); err != nil {
		return shim.Error(err.Error())
	}
	return shim.Success(nil)
}

func simulate(l *chaincodetest.Ledger, do does) chaincodetest.Result {
	return l.Simulate(do, chaincodetest.Proposal{TxID: "t", Time: time.Unix(0, 0), Function: "f"})
}

// TestBatch checks what chaincode may rely on: a batch shows nothing before it is
// finished, and shim finishes it at the end of the transaction at the latest.
func TestBatch(t *testing.T) {
	l := chaincodetest.NewLedger("c")
	l.Set("old", []byte("1"))
	want := chaincodetest.Result{
		Status: shim.OK, Messages: 3, Reads: []string{"old", "new"},
		Writes:   []chaincodetest.Write{{Key: "direct", Value: []byte("0")}, {Key: "new", Value: []byte("2")}, {Key: "old", Delete: true}},
		Policies: []chaincodetest.Policy{{Key: "new", Value: []byte("p")}},
	}
	for _, finish := range []bool{true, false} {
		r := simulate(l, func(s shim.ChaincodeStubInterface) error {
			values, err := s.GetMultipleStates("old", "new")
			if err != nil || string(values[0]) != "1" || values[1] != nil {
				t.Errorf("read %q, %v", values, err)
			}
			if err := s.PutState("direct", []byte("0")); err != nil {
				return err
			}
			s.StartWriteBatch()
			s.StartWriteBatch() // the same batch
			if err := s.PutState("new", []byte("2")); err != nil {
				return err
			}
			if err := s.SetStateValidationParameter("new", []byte("p")); err != nil {
				return err
			}
			if err := s.DelState("old"); err != nil {
				return err
			}
			if finish {
				return s.FinishWriteBatch()
			}
			return nil
		})
		if diff := cmp.Diff(want, r); diff != "" {
			t.Errorf("finished %t (-want +got):\n%s", finish, diff)
		}
		if diff := cmp.Diff([]string{"old"}, l.Keys()); diff != "" {
			t.Errorf("simulating changed the state:\n%s", diff)
		}
	}
}

func TestCommit(t *testing.T) {
	l := chaincodetest.NewLedger("c")
	l.Commit(simulate(l, func(s shim.ChaincodeStubInterface) error {
		if err := s.PutState("k", []byte("1")); err != nil {
			return err
		}
		return s.SetStateValidationParameter("k", []byte("p"))
	}))
	if string(l.State("k")) != "1" || string(l.Policy("k")) != "p" {
		t.Errorf("%q under %q", l.State("k"), l.Policy("k"))
	}
	l.Commit(simulate(l, func(s shim.ChaincodeStubInterface) error { return s.PutState("k", []byte("2")) }))
	if string(l.State("k")) != "2" || string(l.Policy("k")) != "p" {
		t.Errorf("%q under %q", l.State("k"), l.Policy("k"))
	}
	l.Commit(simulate(l, func(s shim.ChaincodeStubInterface) error { return s.DelState("k") }))
	if l.State("k") != nil || l.Policy("k") != nil {
		t.Errorf("%q under %q", l.State("k"), l.Policy("k"))
	}
}

func TestViolations(t *testing.T) {
	for name, do := range map[string]does{
		"read after write: k": func(s shim.ChaincodeStubInterface) error {
			s.StartWriteBatch()
			_ = s.PutState("k", []byte("1"))
			_, err := s.GetState("k")
			return err
		},
		"second write: k": func(s shim.ChaincodeStubInterface) error {
			_ = s.PutState("k", []byte("1"))
			s.StartWriteBatch()
			return s.DelState("k")
		},
		"policy without a value: k": func(s shim.ChaincodeStubInterface) error {
			return s.SetStateValidationParameter("k", []byte("p"))
		},
	} {
		if r := simulate(chaincodetest.NewLedger("c"), do); !cmp.Equal(r.Violations, []string{name}) {
			t.Errorf("violations %q, want %q", r.Violations, name)
		}
	}
	for _, key := range []string{"", "\x00k", "\xff"} {
		if r := simulate(chaincodetest.NewLedger("c"), func(s shim.ChaincodeStubInterface) error { return s.PutState(key, nil) }); r.OK() {
			t.Errorf("key %q is taken", key)
		}
	}
}

func TestIdentity(t *testing.T) {
	i := chaincodetest.RawIdentity(t, "M", []byte("x"))
	if !cmp.Equal(chaincodetest.ParseIdentity(i.Bytes()).Bytes(), i.Bytes()) || len(i.Bytes()) == 0 {
		t.Error("an identity does not come back")
	}
}
