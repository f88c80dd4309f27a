package fabricledger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hyperledger/fabric-gateway/pkg/client"
	"github.com/hyperledger/fabric-protos-go-apiv2/gateway"
	pb "github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// transaction is endorsed and signed. The same bytes may be sent any number of
// times: the ledger takes them once.
type transaction struct {
	id        domain.TxID
	prepared  []byte // marshalled gateway.PreparedTransaction, unsigned
	signature []byte // the caller's, over the envelope's payload
	result    []byte
}

// Submit implements [ledger.Ledger]. Its states follow the exactly-once machine:
// until the transaction is signed nothing left this process and a new proposal
// may be made; from then on only the ledger says what became of it.
func (l *Ledger) Submit(ctx context.Context, role domain.Role, name string, argument []byte, operation string) (ledger.Receipt, error) {
	s, err := l.signer(role)
	if err != nil {
		return ledger.Receipt{}, fmt.Errorf("submit %s: %w", name, err)
	}
	arguments := [][]byte{argument}
	if operation != "" {
		arguments = append(arguments, []byte(operation))
	}
	tx, err := l.endorse(ctx, s, name, arguments)
	if err != nil {
		return ledger.Receipt{}, fmt.Errorf("submit %s: %w", name, err)
	}
	st, err := l.order(ctx, s, tx)
	if err != nil {
		return ledger.Receipt{}, fmt.Errorf("submit %s: %w", name, err)
	}
	switch st.Code {
	case pb.TxValidationCode_VALID:
		return ledger.Receipt{
			Position: domain.Position{Block: st.BlockNumber, TxID: tx.id},
			Result:   tx.result,
		}, nil
	case pb.TxValidationCode_MVCC_READ_CONFLICT, pb.TxValidationCode_PHANTOM_READ_CONFLICT:
		return ledger.Receipt{}, fmt.Errorf("submit %s: transaction %s: %w", name, tx.id,
			&domain.Error{Kind: domain.Conflict, Msg: "another transaction changed the same record first"})
	case pb.TxValidationCode_ENDORSEMENT_POLICY_FAILURE:
		// Endorsements were gathered for the policies in force, so another
		// transaction of the same block set who must endorse a record that this one
		// writes too: of two that create it at the same time, the second ends so.
		return ledger.Receipt{}, fmt.Errorf("submit %s: transaction %s: %w", name, tx.id,
			&domain.Error{Kind: domain.Conflict, Msg: "another transaction set who must endorse the same record first"})
	default:
		return ledger.Receipt{}, fmt.Errorf("submit %s: transaction %s was ordered and found invalid: %s", name, tx.id, st.Code)
	}
}

// endorse has a proposal signed by as many departments as the endorsement policy
// asks for, and signs the transaction. It makes new proposals for as long as the
// limit allows: nothing is ordered yet.
func (l *Ledger) endorse(ctx context.Context, s *signer, name string, arguments [][]byte) (*transaction, error) {
	deadline := time.Now().Add(l.limits.endorse)
	pause := l.newPause()
	for {
		var tx *transaction
		var last, final error
		l.each(func(p *peer) bool {
			if ctx.Err() != nil {
				return true
			}
			var err error
			if tx, err = l.endorseAt(ctx, p, s, name, arguments); err == nil {
				return true
			}
			f := readFailure(err)
			last = err
			if final = f.refusedBy(p); final != nil {
				return true
			}
			if f.permanent() {
				final = err
				return true
			}
			if len(f.refusals) > 0 {
				// Only other departments' peers refuse: they are behind, or this
				// one is. Asking one of them would make its refusal look final.
				last = f.refusals[0].err
				return true
			}
			return false
		})
		switch {
		case tx != nil:
			return tx, nil
		case final != nil:
			return nil, final
		case ctx.Err() != nil, time.Now().After(deadline), pause.wait(ctx) != nil:
			err := gaveUp(ctx, last)
			if domain.KindOf(last) != "" || errors.Is(err, context.Canceled) {
				return nil, err
			}
			return nil, &ledger.UnavailableError{Err: err}
		}
		l.log.DebugContext(ctx, "proposing again", "transaction", name, "error", last)
	}
}

func (l *Ledger) endorseAt(ctx context.Context, p *peer, s *signer, name string, arguments [][]byte) (*transaction, error) {
	call, cancel := context.WithTimeout(ctx, l.limits.endorseCall)
	defer cancel()
	proposal, err := l.contract(p, s, l.chaincode).NewProposal(name, client.WithBytesArguments(arguments...))
	if err != nil {
		return nil, fmt.Errorf("propose: %w", err)
	}
	endorsed, err := proposal.EndorseWithContext(call)
	if err = p.noteCall(ctx, call, err); err != nil {
		return nil, fmt.Errorf("endorse through the peer of %s: %w", p.department, err)
	}
	prepared, err := endorsed.Bytes()
	if err != nil {
		return nil, err
	}
	signature, err := s.sign(endorsed.Digest())
	if err != nil {
		return nil, fmt.Errorf("sign transaction: %w", err)
	}
	return &transaction{
		id:        domain.TxID(endorsed.TransactionID()),
		prepared:  prepared,
		signature: signature,
		result:    endorsed.Result(),
	}, nil
}

// order hands a signed transaction to the orderers, as often as needed, until a
// peer has committed it.
//
// What a submit answers is not believed. With SmartBFT the gateway service says
// "insufficient number of orderers" for transactions that commit, because an
// orderer answers "request already processed" once another passed it on; and an
// orderer that took a transaction may drop it. Only the ledger knows.
func (l *Ledger) order(ctx context.Context, s *signer, tx *transaction) (*client.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, l.limits.outcome)
	defer cancel()
	pause := l.newPause()
	for {
		wait := l.limits.commit
		sendErr := l.send(ctx, s, tx)
		if sendErr != nil {
			wait = l.limits.lookUp
			l.log.WarnContext(ctx, "submit not confirmed, looking the transaction up", "txId", tx.id, "error", sendErr)
		}
		st, err := l.lookUp(ctx, s, tx.id, wait)
		if err == nil && st != nil {
			return st, nil
		}
		if sendErr != nil {
			err = errors.Join(sendErr, err)
		}
		if ctx.Err() != nil || pause.wait(ctx) != nil {
			return nil, &ledger.OutcomeUnknownError{TxID: tx.id, Err: gaveUp(ctx, err)}
		}
		l.log.WarnContext(ctx, "sending the same transaction again", "txId", tx.id, "error", err)
	}
}

// send hands the transaction to the orderers through the first peer in reach.
func (l *Ledger) send(ctx context.Context, s *signer, tx *transaction) error {
	last := error(&unreachableError{errors.New("no peer in reach")})
	l.each(func(p *peer) bool {
		if err := ctx.Err(); err != nil {
			last = err
			return true
		}
		var unreachable *unreachableError
		last = l.sendAt(ctx, p, s, tx)
		return !errors.As(last, &unreachable)
	})
	return last
}

func (l *Ledger) sendAt(ctx context.Context, p *peer, s *signer, tx *transaction) error {
	call, cancel := context.WithTimeout(ctx, l.limits.submitCall)
	defer cancel()
	signed, err := s.gateways[p].NewSignedTransaction(tx.prepared, tx.signature)
	if err != nil {
		return fmt.Errorf("restore transaction: %w", err)
	}
	_, err = signed.SubmitWithContext(call)
	if err = p.noteCall(ctx, call, err); err != nil {
		return fmt.Errorf("submit through the peer of %s: %w", p.department, err)
	}
	return nil
}

// lookUp asks the own peer what became of a transaction, then one other: a peer
// cannot say "no such transaction", it waits until the limit. The status is nil
// when no peer knows the transaction.
func (l *Ledger) lookUp(ctx context.Context, s *signer, id domain.TxID, limit time.Duration) (*client.Status, error) {
	request, err := l.statusRequest(s, id)
	if err != nil {
		return nil, err
	}
	var st *client.Status
	last := error(&unreachableError{errors.New("no peer in reach")})
	waited := 0
	l.each(func(p *peer) bool {
		if err := ctx.Err(); err != nil {
			last = err
			return true
		}
		var unreachable *unreachableError
		st, last = l.lookUpAt(ctx, p, s, request, limit)
		if errors.As(last, &unreachable) {
			return false
		}
		waited++
		limit = min(limit, l.limits.lookUp)
		return st != nil || waited == 2
	})
	return st, last
}

func (l *Ledger) lookUpAt(ctx context.Context, p *peer, s *signer, request []byte, limit time.Duration) (*client.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	// A peer that was already waiting reports the occurrence it sees next; one
	// that looks into its index reports the first, which is the one that counts.
	for range 2 {
		commit, err := s.gateways[p].NewCommit(request)
		if err != nil {
			return nil, fmt.Errorf("restore status request: %w", err)
		}
		st, err := commit.StatusWithContext(ctx)
		if err != nil {
			return nil, fmt.Errorf("commit status from the peer of %s: %w", p.department, p.note(err))
		}
		p.breaker.succeeded()
		if st.Code != pb.TxValidationCode_DUPLICATE_TXID {
			return st, nil
		}
	}
	return nil, fmt.Errorf("the peer of %s knows transaction only as a duplicate", p.department)
}

// statusRequest builds the request that asks for a transaction by its ID.
func (l *Ledger) statusRequest(s *signer, id domain.TxID) ([]byte, error) {
	request, err := proto.Marshal(&gateway.CommitStatusRequest{
		ChannelId: l.channel, TransactionId: string(id), Identity: s.creator,
	})
	if err != nil {
		return nil, fmt.Errorf("marshal status request: %w", err)
	}
	signed, err := proto.Marshal(&gateway.SignedCommitStatusRequest{Request: request})
	if err != nil {
		return nil, fmt.Errorf("marshal status request: %w", err)
	}
	return signed, nil
}

// pause waits between attempts, each time about twice as long.
type pause struct{ next, longest time.Duration }

func (l *Ledger) newPause() *pause { return &pause{l.limits.pause, l.limits.longestPause} }

// wait waits, or returns the context's error as soon as there is one. The
// jitter keeps the gateways of several departments from marching in step.
func (p *pause) wait(ctx context.Context) error {
	d := p.next/2 + rand.N(p.next/2+1) //nolint:gosec // not a secret
	p.next = min(2*p.next, p.longest)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
