package fabricledger

import (
	"context"
	"fmt"

	"github.com/hyperledger/fabric-gateway/pkg/client"
	"github.com/hyperledger/fabric-gateway/pkg/identity"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/gateway"
	pb "github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

var _ ledger.Offline = (*Ledger)(nil)

// Propose implements [ledger.Offline]. The proposal is made for the own department's
// MSP: the certificate is one of its people's.
func (l *Ledger) Propose(r ledger.Request) (ledger.Unsigned, error) {
	unsigned, err := l.propose(r)
	if err != nil {
		return ledger.Unsigned{}, fmt.Errorf("propose %s: %w", r.Transaction, err)
	}
	return unsigned, nil
}

func (l *Ledger) propose(r ledger.Request) (ledger.Unsigned, error) {
	var none ledger.Unsigned
	cert, err := identity.CertificateFromPEM([]byte(r.Certificate))
	if err != nil {
		return none, fmt.Errorf("read certificate: %w", err)
	}
	id, err := identity.NewX509Identity(l.service().id.MspID(), cert)
	if err != nil {
		return none, fmt.Errorf("use certificate: %w", err)
	}
	// Any peer's connection does: nothing is sent. Without a key nothing is signed.
	unable, err := client.Connect(id, client.WithClientConnection(l.peers[0].pool))
	if err != nil {
		return none, err
	}
	defer func() { _ = unable.Close() }() // the connection is the peer's
	proposal, err := unable.GetNetwork(l.channel).GetContract(l.chaincode).NewProposal(r.Transaction, optionsOf(argumentsOf(r))...)
	if err != nil {
		return none, err
	}
	data, err := proposal.Bytes()
	if err != nil {
		return none, err
	}
	var proposed gateway.ProposedTransaction
	if err := proto.Unmarshal(data, &proposed); err != nil {
		return none, err
	}
	return ledger.Unsigned{TxID: domain.TxID(proposal.TransactionID()), Message: proposed.GetProposal().GetProposalBytes()}, nil
}

// EndorseSigned implements [ledger.Offline]. What is signed names its creator, so the
// calls are made as the gateway itself.
func (l *Ledger) EndorseSigned(ctx context.Context, r ledger.Request, proposal ledger.Unsigned, signature []byte) (ledger.Unsigned, error) {
	data, err := proto.Marshal(&gateway.ProposedTransaction{
		TransactionId: string(proposal.TxID), Proposal: &pb.SignedProposal{ProposalBytes: proposal.Message},
	})
	if err != nil {
		return ledger.Unsigned{}, fmt.Errorf("submit %s: %w", r.Transaction, err)
	}
	var transaction ledger.Unsigned
	err = l.endorse(ctx, r.Transaction, func(p *peer) (err error) {
		transaction, err = l.endorseSignedAt(ctx, p, data, signature)
		return err
	})
	if err != nil {
		return ledger.Unsigned{}, fmt.Errorf("submit %s: %w", r.Transaction, err)
	}
	return transaction, nil
}

func (l *Ledger) endorseSignedAt(ctx context.Context, p *peer, proposed, signature []byte) (ledger.Unsigned, error) {
	var none ledger.Unsigned
	call, cancel := context.WithTimeout(ctx, l.limits.endorseCall)
	defer cancel()
	proposal, err := l.service().gateways[p].NewSignedProposal(proposed, signature)
	if err != nil {
		return none, fmt.Errorf("read proposal: %w", err)
	}
	endorsed, err := proposal.EndorseWithContext(call)
	if err = p.noteCall(ctx, call, err); err != nil {
		return none, fmt.Errorf("endorse through the peer of %s: %w", p.department, err)
	}
	data, err := endorsed.Bytes()
	if err != nil {
		return none, err
	}
	var prepared gateway.PreparedTransaction
	if err := proto.Unmarshal(data, &prepared); err != nil {
		return none, err
	}
	return ledger.Unsigned{TxID: domain.TxID(endorsed.TransactionID()), Message: prepared.GetEnvelope().GetPayload()}, nil
}

// Signed implements [ledger.Offline].
func (l *Ledger) Signed(transaction ledger.Unsigned, signature []byte) (ledger.Transaction, error) {
	data, err := proto.Marshal(&gateway.PreparedTransaction{
		TransactionId: string(transaction.TxID), Envelope: &common.Envelope{Payload: transaction.Message, Signature: signature},
	})
	if err != nil {
		return ledger.Transaction{}, fmt.Errorf("put transaction %s together: %w", transaction.TxID, err)
	}
	return ledger.Transaction{ID: transaction.TxID, Bytes: data}, nil
}
