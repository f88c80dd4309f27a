package chaincode

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-contract-api-go/v2/contractapi"

	"github.com/zhenglian/zhenglian/domain"
)

// failingStub is a peer whose ledger fails at one method; every other method
// that is not named here is missing.
type failingStub struct {
	shim.ChaincodeStubInterface
	fails string
	calls []string
}

var errBroken = errors.New("stream broken")

func (s *failingStub) call(method string) error {
	s.calls = append(s.calls, method)
	if s.fails == method {
		return errBroken
	}
	return nil
}

func (s *failingStub) GetMultipleStates(keys ...string) ([][]byte, error) {
	if s.fails == "silence" {
		return nil, nil // what peers answer when their database fails
	}
	return make([][]byte, len(keys)), s.call("get")
}

func (s *failingStub) GetStateByRange(string, string) (shim.StateQueryIteratorInterface, error) {
	return nil, s.call("range")
}
func (s *failingStub) PutState(string, []byte) error { return s.call("put") }
func (s *failingStub) DelState(string) error         { return s.call("delete") }
func (s *failingStub) SetStateValidationParameter(string, []byte) error {
	return s.call("policy")
}
func (s *failingStub) StartWriteBatch()        { s.calls = append(s.calls, "start") }
func (s *failingStub) FinishWriteBatch() error { return s.call("finish") }

func onStub(fails string) (*transaction, *failingStub) {
	stub := &failingStub{fails: fails}
	tx := &transaction{}
	tx.SetStub(stub)
	return tx, stub
}

func TestOneWritePerKey(t *testing.T) {
	tx, stub := onStub("")
	if err := tx.put(domain.KindGrant, "x", domain.Grant{}); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		tx.put(domain.KindGrant, "x", domain.Grant{}),
		tx.create(domain.KindGrant, "x", domain.Grant{}, []byte("policy")),
		tx.free(domain.KindGrant, "x"),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), "internal: grant~x is written twice") {
			t.Errorf("second write: %v", err)
		}
	}
	if len(stub.calls) != 0 {
		t.Errorf("the peer heard %q before the end", stub.calls)
	}
	if err := tx.send(); err != nil || strings.Join(stub.calls, " ") != "start put finish" {
		t.Errorf("%v after %q", err, stub.calls)
	}
}

// TestEachRecordIsReadOnce checks that wanted records come with one message and
// never again.
func TestEachRecordIsReadOnce(t *testing.T) {
	tx, stub := onStub("")
	tx.want(domain.KindGrant, "x")
	tx.want(domain.KindGrant, "x")
	for _, id := range []string{"y", "x", "y"} {
		if g, err := load[domain.Grant](tx, domain.KindGrant, id); g != nil || err != nil {
			t.Errorf("%s: %v, %v", id, g, err)
		}
	}
	if len(stub.calls) != 1 || len(tx.state) != 2 {
		t.Errorf("%q for %d keys", stub.calls, len(tx.state))
	}
}

// TestLedgerFailure checks that a failing peer is never taken for a refusal or
// for a missing record.
func TestLedgerFailure(t *testing.T) {
	for _, tc := range []struct {
		fails string
		do    func(*transaction) error
	}{
		{"get", func(tx *transaction) error { _, err := load[domain.Grant](tx, domain.KindGrant, "x"); return err }},
		{"get", func(tx *transaction) error {
			_, err := loadAll[domain.Grant](tx, domain.KindGrant, []string{"x"})
			return err
		}},
		{"silence", func(tx *transaction) error { _, err := load[domain.Grant](tx, domain.KindGrant, "x"); return err }},
		{"range", func(tx *transaction) error { _, err := tx.departments(); return err }},
		{"put", (*transaction).send},
		{"delete", (*transaction).send},
		{"policy", (*transaction).send},
		{"finish", (*transaction).send},
	} {
		tx, stub := onStub(tc.fails)
		for _, err := range []error{
			tx.create(domain.KindGrant, "new", domain.Grant{}, []byte("policy")),
			tx.free(domain.KindCatalogName, "old"),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		err := tc.do(tx)
		if err == nil || domain.KindOf(err) != "" || !strings.HasPrefix(err.Error(), "internal: ") {
			t.Errorf("%s: %v", tc.fails, err)
		}
		if tc.fails != "silence" && !errors.Is(err, errBroken) {
			t.Errorf("%s: %v hides the cause", tc.fails, err)
		}
		if tc.fails != "finish" && slices.Contains(stub.calls, "finish") {
			t.Errorf("%s: what failed was sent", tc.fails)
		}
	}
}

// TestContractsHoldOnlyTransactions checks that every exported method is listed:
// contract-api would make any other public.
func TestContractsHoldOnlyTransactions(t *testing.T) {
	listed := map[string]bool{}
	for _, name := range Transactions() {
		listed[name] = true
	}
	if !slices.IsSorted(Transactions()) {
		t.Error("the list is not sorted")
	}
	count := 0
	for _, contract := range exported() {
		for _, method := range contract.methods {
			count++
			if !listed[contract.name+":"+method] {
				t.Errorf("%s:%s is reachable and not listed", contract.name, method)
			}
		}
	}
	if count != len(listed) {
		t.Errorf("%d methods for %d transactions", count, len(listed))
	}
}

func TestRefusedKeepsTheKindInFront(t *testing.T) {
	inner := &domain.Error{Kind: domain.Invalid, Msg: "2 bytes"}
	got := refused(errors.Join(errors.New("consistency proof"), inner))
	if e, ok := domain.ParseError(got.Error()); !ok || e.Kind != domain.Invalid || !strings.Contains(e.Msg, "2 bytes") {
		t.Errorf("refused = %v", got)
	}
	other := errors.New("internal: x")
	if refused(other) != other || refused(nil) != nil { //nolint:errorlint // the very same error is to come back
		t.Error("refused changes what is no refusal")
	}
}

type contractMethods struct {
	name    string
	methods []string
}

// exported lists the methods that each contract has beyond those of its base.
func exported() []contractMethods {
	base := reflect.TypeFor[*contractapi.Contract]()
	var all []contractMethods
	for name, c := range map[string]any{
		"governance": &governance{}, "catalog": &catalog{}, "sharing": &sharing{},
		"access": &access{}, "certificate": &certificate{}, "evidence": &evidence{},
	} {
		typ := reflect.TypeOf(c)
		m := contractMethods{name: name}
		for i := range typ.NumMethod() {
			if _, inherited := base.MethodByName(typ.Method(i).Name); !inherited {
				m.methods = append(m.methods, typ.Method(i).Name)
			}
		}
		all = append(all, m)
	}
	return all
}
