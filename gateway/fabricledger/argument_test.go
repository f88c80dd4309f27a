package fabricledger

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	pb "github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// A long argument travels beside the transaction, which holds its digest.
func TestLongArgumentTravelsBeside(t *testing.T) {
	t.Parallel()
	l, peers := newTestLedger(t)
	operation := "0123456789abcdef0123456789abcdef"
	for i, length := range []int{domain.InlineArgument, domain.InlineArgument + 1} {
		argument := bytes.Repeat([]byte("x"), length)
		if _, err := l.Endorse(t.Context(), ledger.Request{Role: domain.RoleOperator, Transaction: testTransaction, Argument: argument, Operation: operation}); err != nil {
			t.Fatal(err)
		}
		proposed := peers[0].endorsed[i].GetProposedTransaction()
		var proposal pb.Proposal
		var payload pb.ChaincodeProposalPayload
		if err := proto.Unmarshal(proposed.GetProposalBytes(), &proposal); err != nil {
			t.Fatal(err)
		}
		if err := proto.Unmarshal(proposal.GetPayload(), &payload); err != nil {
			t.Fatal(err)
		}
		_, args, err := invocation(proposed)
		if err != nil {
			t.Fatal(err)
		}
		stands, beside := string(argument), map[string][]byte(nil)
		if length > domain.InlineArgument {
			stands, beside = string(domain.ArgumentReference(argument)), map[string][]byte{domain.TransientArgument: argument}
		}
		if want := []string{testTransaction, stands, operation}; !slices.Equal(args, want) {
			t.Errorf("%d bytes: the transaction holds %.100q, want %.100q", length, args, want)
		}
		if !maps.EqualFunc(payload.GetTransientMap(), beside, bytes.Equal) {
			t.Errorf("%d bytes: %d arguments beside the transaction, want %d", length, len(payload.GetTransientMap()), len(beside))
		}
	}
}
