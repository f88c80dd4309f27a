package fabricledger

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hyperledger/fabric-gateway/pkg/client"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	pb "github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// Blocks implements [ledger.Reader]. The read model speaks for what this
// department has seen, so blocks come from its own peer.
//
// While that one cannot be reached, or does not deliver what others have, they
// come from another department's peer, each confirmed by so many more that one of
// them is honest: the orderers sign a block's order, but which of its
// transactions are valid is each peer's own word. When the own peer has all
// these blocks, too, it is read again, and must have come to the same state.
// [Ledger.ServedBy] says whose word counts.
func (l *Ledger) Blocks(ctx context.Context, from uint64, yield func(domain.Block) error) error {
	f := &follower{ledger: l, yield: yield}
	f.next.Store(from)
	defer l.servedBy.Store(nil)
	for {
		err := f.own(ctx)
		var unavailable *ledger.UnavailableError
		if f.failed || ctx.Err() != nil || !errors.As(err, &unavailable) && !errors.Is(err, errStalled) {
			return err
		}
		if othersErr := f.others(ctx); !errors.Is(othersErr, errOwnBack) {
			if f.failed || ctx.Err() != nil {
				return othersErr
			}
			return errors.Join(err, othersErr)
		}
	}
}

// ServedBy answers the departments on whose word the blocks of [Ledger.Blocks]
// are taken at present, nil for the own peer's.
func (l *Ledger) ServedBy() []domain.DepartmentCode {
	if by := l.servedBy.Load(); by != nil {
		return *by
	}
	return nil
}

var (
	errStalled = errors.New("the own peer does not deliver the blocks that others have")
	errOwnBack = errors.New("the own peer is back")
)

// follower is one use of [Ledger.Blocks].
type follower struct {
	ledger   *Ledger
	yield    func(domain.Block) error
	next     atomic.Uint64
	previous string        // hash of the block before next; "" before the first
	foreign  *common.Block // the last block, when it was taken on others' word
	failed   bool          // yield did, or the blocks cannot be believed
}

// own follows the own peer until its stream breaks or stalls.
func (f *follower) own(ctx context.Context) error {
	p := f.ledger.peers[0]
	if f.foreign != nil {
		if err := f.compare(ctx, p, f.foreign); err != nil {
			return err
		}
		f.foreign = nil
	}
	f.ledger.servedBy.Store(nil)
	return f.watched(ctx, f.awaitStall, func(ctx context.Context) error {
		return f.stream(ctx, p, func(*common.Block) error { return nil })
	})
}

// awaitStall returns when others have had a block for a while that the own peer
// has not delivered.
func (f *follower) awaitStall(ctx context.Context) error {
	l := f.ledger
	since, at := time.Now(), f.next.Load()
	for {
		if err := sleep(ctx, l.limits.stall/4); err != nil {
			return err
		}
		if next := f.next.Load(); next != at || !l.othersHave(next) {
			since, at = time.Now(), next
		}
		if time.Since(since) >= l.limits.stall {
			return errStalled
		}
	}
}

// othersHave reports whether enough other departments to be believed said lately
// that they have a block.
func (l *Ledger) othersHave(number uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, p := range l.peers[1:] {
		if l.heights[p] > number {
			n++
		}
	}
	return n >= l.needed()
}

// needed is how many departments must say the same for one of them to be honest.
func (l *Ledger) needed() int { return (len(l.peers)-1)/3 + 1 }

// others follows another department's peer, confirmed by more, until the own peer
// has what these have.
func (f *follower) others(ctx context.Context) error {
	l := f.ledger
	source, witnesses, err := f.chooseOthers(ctx)
	if err != nil {
		return err
	}
	by := []domain.DepartmentCode{source.department}
	for _, w := range witnesses {
		by = append(by, w.department)
	}
	l.servedBy.Store(&by)
	l.log.WarnContext(ctx, "following the blocks of other departments", "departments", by, "from", f.next.Load())
	return f.watched(ctx, f.awaitOwn, func(ctx context.Context) error {
		return f.stream(ctx, source, func(b *common.Block) error {
			for _, w := range witnesses {
				if err := f.compare(ctx, w, b); err != nil {
					return err
				}
			}
			f.foreign = b
			return nil
		})
	})
}

// awaitOwn returns when the own peer has what was delivered.
func (f *follower) awaitOwn(ctx context.Context) error {
	for {
		if err := sleep(ctx, f.ledger.limits.stall); err != nil {
			return err
		}
		// A peer that is behind would only stall again.
		if height, err := f.ledger.height(ctx, f.ledger.peers[0]); err == nil && height >= f.next.Load() {
			return errOwnBack
		}
	}
}

// chooseOthers picks other departments' peers that answer, the one that has most
// blocks first.
func (f *follower) chooseOthers(ctx context.Context) (source *peer, witnesses []*peer, err error) {
	type candidate struct {
		peer   *peer
		height uint64
	}
	var candidates []candidate
	var why []error
	for i, h := range f.ledger.Heights(ctx) {
		switch {
		case i == 0:
		case h.Err != nil:
			why = append(why, h.Err)
		default:
			candidates = append(candidates, candidate{f.ledger.peers[i], h.Height})
		}
	}
	n := f.ledger.needed()
	if len(candidates) < n {
		return nil, nil, &ledger.UnavailableError{Err: errors.Join(append(why, fmt.Errorf("%d other departments answer, %d are needed", len(candidates), n))...)}
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int { return cmp.Compare(b.height, a.height) })
	for _, c := range candidates[1:n] {
		witnesses = append(witnesses, c.peer)
	}
	return candidates[0].peer, witnesses, nil
}

// watched runs stream until it ends or watch does, whose error then counts.
func (f *follower) watched(ctx context.Context, watch, stream func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { cancel(watch(ctx)) })
	err := stream(ctx)
	if cause := context.Cause(ctx); err != nil && !f.failed && (errors.Is(cause, errStalled) || errors.Is(cause, errOwnBack)) {
		err = cause
	}
	cancel(nil)
	wg.Wait()
	return err
}

// stream yields the blocks of one peer that accept takes.
//
// It holds the stream itself instead of fabric-gateway's channel of blocks,
// which closes without saying why and whose goroutine outlives a reader that
// leaves.
func (f *follower) stream(ctx context.Context, p *peer, accept func(*common.Block) error) error {
	l := f.ledger
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream

	stream, err := l.deliver(ctx, p, f.next.Load())
	if err != nil {
		return fmt.Errorf("follow blocks from %d: %w", f.next.Load(), gaveUp(ctx, err))
	}
	for {
		next := f.next.Load()
		raw, err := receive(stream)
		if err != nil {
			return fmt.Errorf("follow blocks: block %d: %w", next, gaveUp(ctx, p.note(err)))
		}
		if n := raw.GetHeader().GetNumber(); n != next {
			return fmt.Errorf("follow blocks: block %d came, want %d", n, next)
		}
		consenters, err := l.consentersOf(ctx, p, raw)
		if err != nil {
			return fmt.Errorf("follow blocks: orderers of block %d: %w", next, gaveUp(ctx, err))
		}
		block, err := decodeBlock(raw, consenters)
		if err != nil {
			return fmt.Errorf("follow blocks: %w", err)
		}
		if f.previous != "" && block.PreviousHash != f.previous {
			return fmt.Errorf("follow blocks: block %d names %s as its previous block, which is %s", next, block.PreviousHash, f.previous)
		}
		if err := accept(raw); err != nil {
			return err
		}
		if err := f.yield(block); err != nil {
			f.failed = true
			return err
		}
		l.learn(next)
		f.previous = block.Hash
		f.next.Store(next + 1)
	}
}

// compare checks that a peer has a block as another one gave it: the same header,
// validation codes and commit hash, in which Fabric chains the codes and the
// state written by all blocks so far. It waits for a peer that is a block behind.
func (f *follower) compare(ctx context.Context, p *peer, b *common.Block) error {
	l := f.ledger
	number := b.GetHeader().GetNumber()
	deadline, pause := time.Now().Add(l.limits.witness), l.newPause()
	for {
		theirs, err := (&peerCopy{l, p}).Block(ctx, number)
		if err == nil {
			if !sameBlock(b, theirs) {
				f.failed = true
				return fmt.Errorf("follow blocks: the peer of %s has another block %d than was taken from other departments, or found other transactions of it valid", p.department, number)
			}
			return nil
		}
		if time.Now().After(deadline) || pause.wait(ctx) != nil {
			return &ledger.UnavailableError{Err: fmt.Errorf("follow blocks: have block %d confirmed: %w", number, gaveUp(ctx, err))}
		}
	}
}

func sameBlock(a, b *common.Block) bool {
	if !proto.Equal(a.GetHeader(), b.GetHeader()) {
		return false
	}
	for _, slot := range []common.BlockMetadataIndex{common.BlockMetadataIndex_TRANSACTIONS_FILTER, common.BlockMetadataIndex_COMMIT_HASH} {
		if !bytes.Equal(metadata(a, slot), metadata(b, slot)) {
			return false
		}
	}
	return true
}

// sleep waits for d or answers ctx's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
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
// for b names them, asking p for that configuration.
func (l *Ledger) consentersOf(ctx context.Context, p *peer, b *common.Block) (map[uint32]domain.MSPID, error) {
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
		if config, err = (&peerCopy{l, p}).Block(ctx, index); err != nil {
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
