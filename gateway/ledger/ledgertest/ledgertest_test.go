package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// things is a contract small enough to read: it creates and reads things.
func things(call Call) ([]byte, []domain.Write, error) {
	key := "thing~" + string(call.Argument)
	switch call.Transaction {
	case "thing:Create":
		if call.State.Get(key) != nil {
			return nil, nil, &domain.Error{Kind: domain.Exists, Msg: "thing is recorded"}
		}
		value := []byte(string(call.Caller.Department) + " at " + call.Tx.Time.String())
		return value, []domain.Write{{Key: key, Value: value}}, nil
	case "thing:Delete":
		return nil, []domain.Write{{Key: key, Delete: true}}, nil
	case "thing:Get":
		if value := call.State.Get(key); value != nil {
			return value, nil, nil
		}
		return nil, nil, &domain.Error{Kind: domain.NotFound, Msg: "no such thing"}
	case "evidence:Attest":
		return call.Argument, nil, nil
	}
	return nil, nil, &domain.Error{Kind: domain.Invalid, Msg: "no such transaction"}
}

func TestConformance(t *testing.T) {
	Run(t, func(*testing.T) Subject {
		chain := NewChain(Once(things))
		return Subject{
			Ledger: chain.Ledger("police"),
			Quorum: 3,
			Create: func(id string) Transaction {
				return Transaction{domain.RoleOperator, "thing:Create", []byte(id)}
			},
			Read: func(id string) Transaction {
				return Transaction{domain.RoleOperator, "thing:Get", []byte(id)}
			},
			Key: func(id string) string { return "thing~" + id },
			Attest: func(id, nonce string) domain.AttestArgs {
				return domain.AttestArgs{Kind: "thing", ID: id, Nonce: nonce}
			},
			Verify: func(read ledger.SignedRead) error { return verify(chain, read) },
		}
	})
}

// verify checks that a signed read is whole and that a quorum signed it. What it
// says is no statement of the consortium, so the rest is not asked.
func verify(chain *Chain, read ledger.SignedRead) error {
	anchors := prooftest.New().Anchors()
	for i, d := range anchors.Departments {
		anchors.Departments[i].CARoots = []string{chain.CARoot(d.MSPID)}
	}
	var endorsements []proof.RawEndorsement
	for _, e := range read.Endorsements {
		endorsements = append(endorsements, proof.RawEndorsement{Endorser: e.Endorser, Signature: e.Signature})
	}
	data, err := proof.Encode(proof.NewBundle(read.Proposal, read.Response, endorsements))
	if err != nil {
		return err
	}
	verdict := proof.Verify(data, anchors, proof.Options{})
	for _, c := range verdict.Checks {
		if (c.Question == proof.Integrity || c.Question == proof.Quorum) && c.Outcome != proof.Pass {
			return fmt.Errorf("%s: %q %s", c.Question, c.Outcome, c.Reason)
		}
	}
	return nil
}

func TestFaults(t *testing.T) {
	boom := errors.New("boom")
	for _, tt := range []struct {
		name    string
		fault   Fault
		applied bool
		unknown bool
	}{
		{"before the commit", func(string) (bool, error) { return false, boom }, false, false},
		{"after the commit", func(string) (bool, error) { return true, boom }, true, false},
		{"unknown, lost", func(string) (bool, error) { return false, &ledger.OutcomeUnknownError{Err: boom} }, false, true},
		{"unknown, committed", func(string) (bool, error) { return true, &ledger.OutcomeUnknownError{Err: boom} }, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			chain := NewChain(things)
			l := chain.Ledger("civil")
			l.SetFault(func(op string) (bool, error) {
				if op == "submit thing:Create" {
					return tt.fault(op)
				}
				return true, nil
			})
			_, err := l.Submit(t.Context(), ledger.Request{Role: domain.RoleOperator, Transaction: "thing:Create", Argument: []byte("x")})
			if !errors.Is(err, boom) {
				t.Errorf("error %v, want %v", err, boom)
			}
			if got := chain.State().Get("thing~x") != nil; got != tt.applied {
				t.Errorf("applied: %v, want %v", got, tt.applied)
			}
			var unknown *ledger.OutcomeUnknownError
			if errors.As(err, &unknown) != tt.unknown {
				t.Fatalf("error %v, want unknown outcome: %v", err, tt.unknown)
			}
			if !tt.unknown {
				return
			}
			code, _, err := l.Status(t.Context(), unknown.TxID)
			if want := map[bool]string{true: "VALID", false: ""}[tt.applied]; code != want || err != nil {
				t.Errorf("Status = %q, %v; want %q", code, err, want)
			}
		})
	}
}

func TestStateFollowsValidWrites(t *testing.T) {
	chain := NewChain(things)
	l := chain.Ledger("market")
	for _, name := range []string{"b", "a"} {
		if _, err := l.Submit(t.Context(), ledger.Request{Role: domain.RoleOperator, Transaction: "thing:Create", Argument: []byte(name)}); err != nil {
			t.Fatal(err)
		}
	}
	chain.Append(
		domain.Transaction{ID: "1", Chaincode: Chaincode, ValidationCode: "VALID", Writes: []domain.Write{{Key: "thing~c", Value: []byte("c")}}},
		domain.Transaction{ID: "2", Chaincode: Chaincode, ValidationCode: "MVCC_READ_CONFLICT", Writes: []domain.Write{{Key: "thing~d", Value: []byte("d")}}},
		domain.Transaction{ID: "3", Chaincode: "other", ValidationCode: "VALID", Writes: []domain.Write{{Key: "thing~e", Value: []byte("e")}}},
	)
	if _, err := l.Submit(t.Context(), ledger.Request{Role: domain.RoleOperator, Transaction: "thing:Delete", Argument: []byte("b")}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"thing~a", "thing~c"}, chain.State().Keys("thing~")); diff != "" {
		t.Error(diff)
	}
	if code, block, err := l.Status(t.Context(), "2"); code != "MVCC_READ_CONFLICT" || block != 3 || err != nil {
		t.Errorf("Status = %q, %d, %v", code, block, err)
	}
}

func TestDownDepartments(t *testing.T) {
	chain := NewChain(things)
	down := errors.New("connection refused")
	chain.SetDown("civil", down)
	l := chain.Ledger("bigdata")
	args := domain.AttestArgs{Kind: "thing", ID: "x", Nonce: "n"}
	read, err := l.SignedRead(t.Context(), args, 3)
	if err != nil || len(read.Endorsements) != 3 {
		t.Fatalf("SignedRead = %d endorsements, %v; want 3", len(read.Endorsements), err)
	}
	chain.SetDown("market", down)
	var unavailable *ledger.UnavailableError
	if _, err := l.SignedRead(t.Context(), args, 3); !errors.As(err, &unavailable) {
		t.Errorf("SignedRead with two departments down = %v, want an UnavailableError", err)
	}
	var unreachable []domain.DepartmentCode
	for _, h := range l.Heights(context.Background()) {
		if errors.Is(h.Err, down) {
			unreachable = append(unreachable, h.Department)
		}
	}
	if diff := cmp.Diff([]domain.DepartmentCode{"civil", "market"}, unreachable); diff != "" {
		t.Error(diff)
	}
}

// TestRace lets submits run on one state: of those that write one key the first
// wins, the others conflict and find its record when they try again.
func TestRace(t *testing.T) {
	const n = 6
	chain := NewChain(things)
	chain.Race(n)
	kinds := make([]domain.Kind, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			name := "same"
			if i == n-1 {
				name = "its own"
			}
			_, err := chain.Ledger("civil").Submit(t.Context(), ledger.Request{Role: domain.RoleOperator, Transaction: "thing:Create", Argument: []byte(name)})
			kinds[i] = domain.KindOf(err)
			if err != nil && kinds[i] == "" {
				t.Errorf("submit %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	won := 0
	for _, k := range kinds[:n-1] {
		switch k {
		case "":
			won++
		case domain.Exists:
		default:
			t.Errorf("kind %q, want %q", k, domain.Exists)
		}
	}
	if won != 1 || kinds[n-1] != "" {
		t.Errorf("%d won, the one with a key of its own got %q; want 1 and no error", won, kinds[n-1])
	}
	codes := make(map[string]int)
	for _, b := range chain.blocks[1:] {
		codes[b.Transactions[0].ValidationCode]++
	}
	if diff := cmp.Diff(map[string]int{"VALID": 2, "MVCC_READ_CONFLICT": n - 2}, codes); diff != "" {
		t.Errorf("validation codes (-want +got):\n%s", diff)
	}
}
