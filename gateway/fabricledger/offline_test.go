package fabricledger

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/gateway"
	pb "github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// TestSignedElsewhere has a person whose key the ledger does not have sign a write, with
// an argument in the transaction and one beside it.
func TestSignedElsewhere(t *testing.T) {
	c := prooftest.New()
	person := c.Department("police").Client
	verifier, err := proof.NewVerifier(c.Anchors())
	if err != nil {
		t.Fatal(err)
	}
	for _, argument := range []string{`{"short":true}`, `{"long":"` + strings.Repeat("长", domain.InlineArgument) + `"}`} {
		l, peers := newTestLedger(t)
		peers[0].onSubmit = func(_ int, r *gateway.SubmitRequest) error {
			peers[0].channel.commit(r.GetTransactionId(), pb.TxValidationCode_VALID)
			return nil
		}
		peers[0].onEndorse = func(int, *gateway.EndorseRequest) error {
			return status.Error(codes.ResourceExhausted, "too many requests")
		}
		r := ledger.Request{
			Role: domain.RoleOperator, Transaction: testTransaction, Argument: []byte(argument), Operation: strings.Repeat("a", 32),
			Expect: &domain.Expectation{Kind: domain.KindCertificate, ID: strings.Repeat("b", 32), TxID: domain.TxID(strings.Repeat("c", 64))}, Certificate: string(person.PEM()),
		}
		proposal, err := l.Propose(r)
		if err != nil {
			t.Fatal(err)
		}
		checked, err := verifier.CheckProposal(proposal.Message, proof.Intent{
			Certificate: person.Cert, Transaction: testTransaction, Operation: r.Operation, Expect: r.Expect.String(), Now: time.Now(),
			Argument: func(got []byte) error {
				if string(got) != argument {
					return errors.New("differs")
				}
				return nil
			},
		})
		if err != nil || checked.TxID != proposal.TxID {
			t.Fatalf("the proposal is not what was asked for: %v", err)
		}
		first := person.Sign(proposal.Message)
		transaction, err := l.EndorseSigned(t.Context(), r, proposal, first)
		if err != nil {
			t.Fatal(err)
		}
		if transaction.TxID != proposal.TxID || len(transaction.Message) == 0 {
			t.Errorf("endorsed %+v", transaction.TxID)
		}
		second := person.Sign(transaction.Message)
		tx, err := l.Signed(transaction, second)
		if err != nil {
			t.Fatal(err)
		}
		if receipt, err := l.Order(t.Context(), tx, false); err != nil || receipt.TxID != proposal.TxID {
			t.Errorf("got %+v, %v", receipt, err)
		}
		asked := append(slices.Clone(peers[0].endorsed), peers[1].endorsed...)
		if len(asked) != 2 {
			t.Errorf("proposed %d times, want once to the peer that is busy and once to another", len(asked))
		}
		for _, sent := range asked {
			if signed := sent.GetProposedTransaction(); !bytes.Equal(signed.GetProposalBytes(), proposal.Message) || !bytes.Equal(signed.GetSignature(), first) {
				t.Error("a peer got another proposal than the person signed")
			}
		}
		for _, sent := range peers[0].submitted {
			if envelope := sent.GetPreparedTransaction(); !bytes.Equal(envelope.GetPayload(), transaction.Message) || !bytes.Equal(envelope.GetSignature(), second) {
				t.Error("the orderers got another transaction than the person signed")
			}
		}
	}
}

// TestNoKeyOfRole submits for a role whose key is not here.
func TestNoKeyOfRole(t *testing.T) {
	l, peers := newTestLedger(t)
	_, err := submit(l, t.Context(), ledger.Request{Role: domain.RoleReviewer, Transaction: testTransaction, Argument: []byte("{}")})
	if domain.KindOf(err) != domain.Forbidden || len(peers[0].endorsed) != 0 {
		t.Errorf("got %v, %d proposals", err, len(peers[0].endorsed))
	}
	if _, err := l.Propose(ledger.Request{Transaction: testTransaction, Certificate: "no certificate"}); err == nil {
		t.Error("proposed without a certificate")
	}
}
