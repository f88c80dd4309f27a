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

// failingStub is a peer whose ledger fails; every other method is missing.
type failingStub struct {
	shim.ChaincodeStubInterface
	puts int
	err  error
}

func (s *failingStub) GetState(string) ([]byte, error) { return nil, s.err }
func (s *failingStub) PutState(string, []byte) error   { s.puts++; return s.err }
func (s *failingStub) GetStateByRange(string, string) (shim.StateQueryIteratorInterface, error) {
	return nil, s.err
}

func TestOneWritePerKey(t *testing.T) {
	stub := &failingStub{}
	tx := &transaction{}
	tx.SetStub(stub)
	if err := tx.put(domain.KindGrant, "x", domain.Grant{}); err != nil {
		t.Fatal(err)
	}
	err := tx.put(domain.KindGrant, "x", domain.Grant{})
	if err == nil || !strings.HasPrefix(err.Error(), "internal: grant~x is written twice") || stub.puts != 1 {
		t.Errorf("second write: %v after %d puts", err, stub.puts)
	}
}

// TestLedgerFailure checks that a failing peer is never taken for a refusal or
// for a missing record.
func TestLedgerFailure(t *testing.T) {
	broken := errors.New("stream broken")
	tx := &transaction{}
	tx.SetStub(&failingStub{err: broken})
	_, readErr := load[domain.Grant](tx, domain.KindGrant, "x")
	_, rangeErr := tx.departments()
	for _, err := range []error{readErr, rangeErr, tx.put(domain.KindGrant, "x", domain.Grant{})} {
		if !errors.Is(err, broken) || domain.KindOf(err) != "" || !strings.HasPrefix(err.Error(), "internal: ") {
			t.Errorf("got %v", err)
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
