package fabricledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hyperledger/fabric-gateway/pkg/client"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// queryChaincode is Fabric's own chaincode that answers questions on the chain.
const queryChaincode = "qscc"

// Evaluate implements [ledger.Reader]. A peer that has not answered when nearly
// all of its answers usually have come is not waited for alone: another one that
// has all blocks is asked besides, and the first answer counts.
func (l *Ledger) Evaluate(ctx context.Context, role domain.Role, name string, argument []byte) ([]byte, error) {
	s, err := l.signer(role)
	if err != nil {
		return nil, fmt.Errorf("evaluate %s: %w", name, err)
	}
	result, last := l.firstAnswer(ctx, func(ctx context.Context, p *peer) ([]byte, error) {
		return l.evaluateAt(ctx, p, s, l.chaincode, name, argument)
	})
	if last == nil {
		return result, nil
	}
	err = fmt.Errorf("evaluate %s: %w", name, gaveUp(ctx, last))
	if domain.KindOf(last) == "" && !errors.Is(err, context.Canceled) && retryable(last) {
		return nil, &ledger.UnavailableError{Err: err}
	}
	return nil, err
}

// firstAnswer calls ask with one peer after the other until one has answered:
// with the next as soon as one failed, and with one more when one takes unusually
// long.
func (l *Ledger) firstAnswer(ctx context.Context, ask func(context.Context, *peer) ([]byte, error)) ([]byte, error) {
	type reply struct {
		result []byte
		err    error
	}
	replies := make(chan reply, len(l.peers)) // the slower one must not wait for a reader
	next, asked, hedged := l.inReach(), 0, false
	call := func(p *peer) bool {
		if p == nil {
			return false
		}
		asked++
		go func() {
			// It goes on when another one was faster: what becomes of it says
			// whether this peer is stuck.
			begun := time.Now()
			result, err := ask(context.WithoutCancel(ctx), p)
			if err == nil {
				p.usual.took(time.Since(begun))
			}
			replies <- reply{result, err}
		}()
		return true
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	first := next(nil)
	call(first)
	hedge := time.NewTimer(first.usual.patience())
	defer hedge.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-hedge.C:
			if !hedged {
				hedged = call(next(l.hasAll))
			}
		case r := <-replies:
			asked--
			if r.err == nil {
				return r.result, nil
			}
			f := readFailure(r.err)
			if len(f.refusals) > 0 {
				return nil, f.refusals[0].err
			}
			if f.permanent() || asked == 0 && !call(next(nil)) {
				return nil, r.err
			}
		}
	}
}

// hasAll reports whether a peer had as many blocks as any when they were last
// asked. A read that is not waited for at one peer must not see less at another.
func (l *Ledger) hasAll(p *peer) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, height := range l.heights {
		if height > l.heights[p] {
			return false
		}
	}
	return l.heights[p] > 0
}

// retryable reports whether a failed read may succeed later: it does not when a
// contract or an access rule ended it.
func retryable(err error) bool {
	switch statusOf(err).Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Aborted, codes.FailedPrecondition, codes.ResourceExhausted:
		return !readFailure(err).permanent()
	}
	return false
}

// evaluateAt runs a transaction on one peer, or, for a chaincode that this peer
// has not running, wherever its gateway service finds it.
func (l *Ledger) evaluateAt(ctx context.Context, p *peer, s *signer, chaincode, name string, arguments ...[]byte) ([]byte, error) {
	call, cancel := context.WithTimeout(ctx, l.limits.evaluateCall)
	defer cancel()
	options := []client.ProposalOption{client.WithBytesArguments(arguments...)}
	if chaincode == queryChaincode {
		// Each peer must speak for itself.
		options = append(options, client.WithEndorsingOrganizations(string(p.mspID)))
	}
	proposal, err := l.contract(p, s, chaincode).NewProposal(name, options...)
	if err != nil {
		return nil, fmt.Errorf("propose: %w", err)
	}
	result, err := proposal.EvaluateWithContext(call)
	if err = p.noteCall(ctx, call, err); err != nil {
		return nil, fmt.Errorf("evaluate on the peer of %s: %w", p.department, err)
	}
	return result, nil
}

// Status implements [ledger.Reader]. It waits at most a few seconds for a
// transaction that the own peer does not know.
func (l *Ledger) Status(ctx context.Context, id domain.TxID) (string, uint64, error) {
	request, err := l.statusRequest(id)
	if err != nil {
		return "", 0, err
	}
	st, err := l.lookUpAt(ctx, l.peers[0], request, l.limits.lookUp)
	switch {
	case err == nil:
		return st.GetResult().String(), st.GetBlockNumber(), nil
	case errors.Is(ctx.Err(), context.Canceled):
		return "", 0, fmt.Errorf("status of transaction %s: %w", id, ctx.Err())
	case statusOf(err).Code() == codes.DeadlineExceeded:
		return "", 0, nil
	default:
		return "", 0, fmt.Errorf("status of transaction %s: %w", id, &ledger.UnavailableError{Err: err})
	}
}

// Heights implements [ledger.Reader]. It asks all peers at once and gives each a
// second.
func (l *Ledger) Heights(ctx context.Context) []ledger.DepartmentHeight {
	ctx, cancel := context.WithTimeout(ctx, l.limits.height)
	defer cancel()
	heights := make([]ledger.DepartmentHeight, len(l.peers))
	var wg sync.WaitGroup
	for i, p := range l.peers {
		wg.Go(func() {
			height, err := l.height(ctx, p)
			heights[i] = ledger.DepartmentHeight{Department: p.department, Height: height, Err: err}
		})
	}
	wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, p := range l.peers {
		l.heights[p] = heights[i].Height // 0 of one that did not answer
	}
	return heights
}

func (l *Ledger) height(ctx context.Context, p *peer) (uint64, error) {
	result, err := l.evaluateAt(ctx, p, l.service(), queryChaincode, "GetChainInfo", []byte(l.channel))
	if err != nil {
		return 0, err
	}
	var info common.BlockchainInfo
	if err := proto.Unmarshal(result, &info); err != nil {
		return 0, fmt.Errorf("read chain info of %s: %w", p.department, err)
	}
	return info.GetHeight(), nil
}
