package fabricledger

import (
	"context"
	"fmt"
	"strconv"

	"github.com/hyperledger/fabric-gateway/pkg/client"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	pb "github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/ledgeraudit"
)

// Copies answers the departments' copies of the ledger, each as its own peer gives
// it, the own department's first.
func (l *Ledger) Copies() []ledgeraudit.Copy {
	copies := make([]ledgeraudit.Copy, len(l.peers))
	for i, p := range l.peers {
		copies[i] = ledgeraudit.Copy{Department: p.department, Source: &peerCopy{l, p}}
	}
	return copies
}

// peerCopy is the ledger as one peer gives it: bytes to be checked, not words of
// the domain.
type peerCopy struct {
	ledger *Ledger
	peer   *peer
}

var _ ledgeraudit.Source = (*peerCopy)(nil)

// Height implements [ledgeraudit.Source].
func (c *peerCopy) Height(ctx context.Context) (uint64, error) {
	return c.ledger.height(ctx, c.peer)
}

// Block implements [ledgeraudit.Source].
func (c *peerCopy) Block(ctx context.Context, number uint64) (*common.Block, error) {
	result, err := c.ledger.evaluateAt(ctx, c.peer, c.ledger.service(), queryChaincode, "GetBlockByNumber",
		[]byte(c.ledger.channel), []byte(strconv.FormatUint(number, 10)))
	if err != nil {
		return nil, fmt.Errorf("read block %d: %w", number, err)
	}
	block := &common.Block{}
	if err := proto.Unmarshal(result, block); err != nil {
		return nil, fmt.Errorf("read block %d: %w", number, err)
	}
	return block, nil
}

// Blocks implements [ledgeraudit.Source].
func (c *peerCopy) Blocks(ctx context.Context, from, until uint64, yield func(*common.Block) error) error {
	if from >= until {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	stream, err := c.ledger.deliver(ctx, c.peer, from)
	if err != nil {
		return fmt.Errorf("read blocks from %d: %w", from, gaveUp(ctx, err))
	}
	for n := from; n < until; n++ {
		block, err := receive(stream)
		if err != nil {
			return fmt.Errorf("read block %d: %w", n, gaveUp(ctx, c.peer.note(err)))
		}
		if err := yield(block); err != nil {
			return err
		}
	}
	return nil
}

// SignedCode has as many departments as answer, at least quorum of them, sign what
// they recorded of a transaction.
func (l *Ledger) SignedCode(ctx context.Context, id domain.TxID, quorum int) (ledgeraudit.SignedCode, error) {
	asked := l.unsuspected(quorum)
	var last error
	for range 2 {
		signed, err := l.signedCodeBy(ctx, id, asked)
		if err == nil || ctx.Err() != nil {
			return signed, err
		}
		last = err
		if asked, err = l.chooseSigners(ctx, readFailure(err), quorum); err != nil {
			return ledgeraudit.SignedCode{}, &ledger.UnavailableError{Err: err}
		}
	}
	return ledgeraudit.SignedCode{}, fmt.Errorf("signed read of the code of %s: %w", id, last)
}

func (l *Ledger) signedCodeBy(ctx context.Context, id domain.TxID, asked []domain.MSPID) (ledgeraudit.SignedCode, error) {
	ctx, cancel := context.WithTimeout(ctx, l.limits.signedCall)
	defer cancel()
	orgs := make([]string, len(asked))
	for i, id := range asked {
		orgs[i] = string(id)
	}
	p := l.peers[0]
	proposal, err := l.contract(p, l.service(), queryChaincode).NewProposal("GetTransactionByID",
		client.WithBytesArguments([]byte(l.channel), []byte(id)), client.WithEndorsingOrganizations(orgs...))
	if err != nil {
		return ledgeraudit.SignedCode{}, fmt.Errorf("propose: %w", err)
	}
	endorsed, err := proposal.EndorseWithContext(ctx)
	if err != nil {
		return ledgeraudit.SignedCode{}, fmt.Errorf("endorse through the peer of %s: %w", p.department, p.note(err))
	}
	read, err := readSigned(proposal, endorsed, asked)
	if err != nil {
		return ledgeraudit.SignedCode{}, err
	}
	signed := ledgeraudit.SignedCode{Proposal: read.Proposal, Response: read.Response}
	for _, e := range read.Endorsements {
		signed.Endorsements = append(signed.Endorsements, &pb.Endorsement{Endorser: e.Endorser, Signature: e.Signature})
	}
	return signed, nil
}
