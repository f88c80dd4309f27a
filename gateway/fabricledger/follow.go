package fabricledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-gateway/pkg/client"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	pb "github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// Blocks implements [ledger.Ledger]. It reads from the own peer only: the read
// model speaks for what this department has seen.
//
// It holds the stream itself instead of fabric-gateway's channel of blocks,
// which closes without saying why and whose goroutine outlives a reader that
// leaves.
func (l *Ledger) Blocks(ctx context.Context, from uint64, yield func(domain.Block) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream

	stream, err := l.deliver(ctx, l.peers[0], from)
	if err != nil {
		return fmt.Errorf("follow blocks from %d: %w", from, gaveUp(ctx, err))
	}
	for next, previous := from, ""; ; next++ {
		raw, err := receive(stream)
		if err != nil {
			return fmt.Errorf("follow blocks: block %d: %w", next, gaveUp(ctx, l.peers[0].note(err)))
		}
		if n := raw.GetHeader().GetNumber(); n != next {
			return fmt.Errorf("follow blocks: block %d came, want %d", n, next)
		}
		consenters, err := l.consentersOf(ctx, raw)
		if err != nil {
			return fmt.Errorf("follow blocks: orderers of block %d: %w", next, gaveUp(ctx, err))
		}
		block, err := decodeBlock(raw, consenters)
		if err != nil {
			return fmt.Errorf("follow blocks: %w", err)
		}
		if previous != "" && block.PreviousHash != previous {
			return fmt.Errorf("follow blocks: block %d names %s as its previous block, which is %s", next, block.PreviousHash, previous)
		}
		previous = block.Hash
		if err := yield(block); err != nil {
			return err
		}
	}
}

// deliver opens a peer's stream of blocks.
func (l *Ledger) deliver(ctx context.Context, p *peer, from uint64) (pb.Deliver_DeliverClient, error) {
	s := l.service()
	request, err := s.gateways[p].GetNetwork(l.channel).NewBlockEventsRequest(client.WithStartBlock(from))
	if err != nil {
		return nil, fmt.Errorf("ask for blocks: %w", err)
	}
	raw, err := request.Bytes()
	if err != nil {
		return nil, err
	}
	var envelope common.Envelope
	if err := proto.Unmarshal(raw, &envelope); err != nil {
		return nil, fmt.Errorf("ask for blocks: %w", err)
	}
	if envelope.Signature, err = s.sign(request.Digest()); err != nil {
		return nil, fmt.Errorf("sign request for blocks: %w", err)
	}
	stream, err := pb.NewDeliverClient(p.pool).Deliver(ctx)
	if err != nil {
		return nil, &ledger.UnavailableError{Err: p.note(err)}
	}
	if err := stream.Send(&envelope); err != nil {
		return nil, &ledger.UnavailableError{Err: p.note(err)}
	}
	return stream, nil
}

func receive(stream pb.Deliver_DeliverClient) (*common.Block, error) {
	response, err := stream.Recv()
	if err != nil {
		return nil, &ledger.UnavailableError{Err: err}
	}
	switch r := response.GetType().(type) {
	case *pb.DeliverResponse_Block:
		return r.Block, nil
	case *pb.DeliverResponse_Status:
		return nil, fmt.Errorf("the peer ended the stream with status %s", r.Status)
	default:
		return nil, errors.New("the peer sent something that is no block")
	}
}

// consentersOf returns the orderers' departments as the configuration in force
// for b names them.
func (l *Ledger) consentersOf(ctx context.Context, b *common.Block) (map[uint32]domain.MSPID, error) {
	index, err := lastConfig(b)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	consenters, known := l.consenters[index]
	l.mu.Unlock()
	if known {
		return consenters, nil
	}
	config := b
	if index != b.GetHeader().GetNumber() {
		if config, err = l.blockByNumber(ctx, index); err != nil {
			return nil, err
		}
	}
	if consenters, err = readConsenters(config); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.consenters[index] = consenters
	return consenters, nil
}
