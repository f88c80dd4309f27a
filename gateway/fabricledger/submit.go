package fabricledger

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hyperledger/fabric-gateway/pkg/client"
	"github.com/hyperledger/fabric-protos-go-apiv2/gateway"
	pb "github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// Endorse implements [ledger.Adapter].
func (l *Ledger) Endorse(ctx context.Context, r ledger.Request) (ledger.Transaction, error) {
	s, err := l.signer(r.Role)
	if err != nil {
		return ledger.Transaction{}, fmt.Errorf("submit %s: %w", r.Transaction, err)
	}
	var tx ledger.Transaction
	arguments := argumentsOf(r)
	err = l.endorse(ctx, r.Transaction, func(p *peer) (err error) {
		tx, err = l.endorseAt(ctx, p, s, r.Transaction, arguments)
		return err
	})
	if err != nil {
		return ledger.Transaction{}, fmt.Errorf("submit %s: %w", r.Transaction, err)
	}
	return tx, nil
}

// argumentsOf answers a transaction's arguments.
func argumentsOf(r ledger.Request) [][]byte {
	arguments := [][]byte{r.Argument}
	if r.Operation != "" || r.Expect != nil {
		arguments = append(arguments, []byte(r.Operation))
	}
	if r.Expect != nil {
		arguments = append(arguments, []byte(r.Expect.String()))
	}
	return arguments
}

// Order implements [ledger.Adapter]. It acts as the gateway itself: the envelope
// carries the signature of whom it is by.
func (l *Ledger) Order(ctx context.Context, tx ledger.Transaction, sent bool) (ledger.Receipt, error) {
	st, did, err := l.order(ctx, tx, sent)
	if err != nil {
		return ledger.Receipt{}, err
	}
	switch st.GetResult() {
	case pb.TxValidationCode_VALID:
		l.learn(st.GetBlockNumber())
		return ledger.Receipt{Position: domain.Position{Block: st.GetBlockNumber(), TxID: tx.ID}, Result: did.result, Wrote: did.wrote}, nil
	case pb.TxValidationCode_MVCC_READ_CONFLICT, pb.TxValidationCode_PHANTOM_READ_CONFLICT:
		return ledger.Receipt{}, fmt.Errorf("transaction %s: %w", tx.ID,
			&domain.Error{Kind: domain.Conflict, Msg: "another transaction changed the same record first"})
	case pb.TxValidationCode_ENDORSEMENT_POLICY_FAILURE:
		// Endorsements were gathered for the policies in force, so another
		// transaction of the same block set who must endorse a record that this one
		// writes too: of two that create it at the same time, the second ends so.
		return ledger.Receipt{}, fmt.Errorf("transaction %s: %w", tx.ID,
			&domain.Error{Kind: domain.Conflict, Msg: "another transaction set who must endorse the same record first"})
	case pb.TxValidationCode_EXPIRED_CHAINCODE:
		return ledger.Receipt{}, fmt.Errorf("transaction %s: %w", tx.ID,
			&domain.Error{Kind: domain.Conflict, Msg: "the contracts were upgraded after it was endorsed"})
	default:
		return ledger.Receipt{}, fmt.Errorf("transaction %s was ordered and found invalid: %s", tx.ID, st.GetResult())
	}
}

// endorse has the transaction called name signed, through the peer that attempt gets,
// by as many departments as the endorsement policy asks for. It makes attempts for as
// long as the limit allows: nothing is ordered yet.
func (l *Ledger) endorse(ctx context.Context, name string, attempt func(*peer) error) error {
	deadline := time.Now().Add(l.limits.endorse)
	pause := l.newPause()
	for {
		var last, final error
		endorsed := false
		if err := l.enterEndorsing(ctx, deadline); err != nil {
			return err
		}
		l.each(func(p *peer) bool {
			if ctx.Err() != nil {
				return true
			}
			if p != l.peers[0] && !l.knowsOurs(ctx, p) {
				last = cmp.Or(last, fmt.Errorf("the peer of %s does not have block %d yet", p.department, l.latest.Load()))
				return false
			}
			err := attempt(p)
			if endorsed = err == nil; endorsed {
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
		<-l.endorsing
		switch {
		case endorsed:
			return nil
		case final != nil:
			return final
		case ctx.Err() != nil, time.Now().After(deadline), pause.wait(ctx) != nil:
			err := gaveUp(ctx, last)
			if domain.KindOf(last) != "" || errors.Is(err, context.Canceled) {
				return err
			}
			return &ledger.UnavailableError{Err: err}
		}
		l.log.DebugContext(ctx, "proposing again", "transaction", name, "error", last)
	}
}

// knowsOurs reports whether another department's peer has every block that
// callers of this gateway may know of: one that is behind would refuse what
// builds on them. One that does not answer is left to say so.
func (l *Ledger) knowsOurs(ctx context.Context, p *peer) bool {
	height, err := l.height(ctx, p)
	return err != nil || height > l.latest.Load()
}

// learn keeps the number of the latest block that this gateway knows of.
func (l *Ledger) learn(block uint64) {
	for known := l.latest.Load(); known < block && !l.latest.CompareAndSwap(known, block); known = l.latest.Load() {
	}
}

// enterEndorsing waits for a place among the proposals under way. Without a bound
// the writes that pile up while peers are away keep those that come back from
// ever answering in time.
func (l *Ledger) enterEndorsing(ctx context.Context, deadline time.Time) error {
	select {
	case l.endorsing <- struct{}{}:
		return nil // also of a last attempt that begins at the deadline
	default:
	}
	limited, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	select {
	case l.endorsing <- struct{}{}:
		return nil
	case <-limited.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return ctx.Err()
		}
		return &ledger.UnavailableError{Err: errors.New("too many proposals are under way")}
	}
}

func (l *Ledger) endorseAt(ctx context.Context, p *peer, s *signer, name string, arguments [][]byte) (ledger.Transaction, error) {
	var none ledger.Transaction
	call, cancel := context.WithTimeout(ctx, l.limits.endorseCall)
	defer cancel()
	proposal, err := l.contract(p, s, l.chaincode).NewProposal(name, optionsOf(arguments)...)
	if err != nil {
		return none, fmt.Errorf("propose: %w", err)
	}
	signed, err := signedProposal(s, proposal)
	if err != nil {
		return none, fmt.Errorf("sign proposal: %w", err)
	}
	// Past fabric-gateway's own transaction, which takes the envelope apart whenever it is
	// made or read, seven messages deep: four times, that was a fifth of
	// what a gateway allocated under load.
	endorsed, err := p.service.Endorse(call, &gateway.EndorseRequest{TransactionId: proposal.TransactionID(), ChannelId: l.channel, ProposedTransaction: signed})
	if err = p.noteCall(ctx, call, withDetails(err)); err != nil {
		return none, fmt.Errorf("endorse through the peer of %s: %w", p.department, err)
	}
	envelope := endorsed.GetPreparedTransaction()
	if envelope.GetPayload() == nil {
		return none, fmt.Errorf("endorse through the peer of %s: no transaction came back", p.department)
	}
	digest := sha256.Sum256(envelope.GetPayload())
	if envelope.Signature, err = s.sign(digest[:]); err != nil {
		return none, fmt.Errorf("sign transaction: %w", err)
	}
	tx := ledger.Transaction{ID: domain.TxID(proposal.TransactionID())}
	tx.Bytes, err = proto.Marshal(&gateway.PreparedTransaction{TransactionId: proposal.TransactionID(), Envelope: envelope})
	return tx, err
}

// signedProposal answers a proposal with the signature of its creator.
func signedProposal(s *signer, proposal *client.Proposal) (*pb.SignedProposal, error) {
	data, err := proposal.Bytes()
	if err != nil {
		return nil, err
	}
	var proposed gateway.ProposedTransaction
	if err := proto.Unmarshal(data, &proposed); err != nil {
		return nil, err
	}
	signature, err := s.sign(proposal.Digest())
	return &pb.SignedProposal{ProposalBytes: proposed.GetProposal().GetProposalBytes(), Signature: signature}, err
}

// optionsOf passes arguments, the first of them beside the transaction when it is
// long.
func optionsOf(arguments [][]byte) []client.ProposalOption {
	argument := arguments[0]
	if len(argument) <= domain.InlineArgument {
		return []client.ProposalOption{client.WithBytesArguments(arguments...)}
	}
	arguments = append([][]byte{domain.ArgumentReference(argument)}, arguments[1:]...)
	return []client.ProposalOption{
		client.WithBytesArguments(arguments...), client.WithTransient(map[string][]byte{domain.TransientArgument: argument}),
	}
}

// order hands a signed transaction to the orderers, as often as needed, until a
// peer has committed it.
//
// What a submit answers is not believed. With SmartBFT the gateway service says
// "insufficient number of orderers" for transactions that commit, because an
// orderer answers "request already processed" once another passed it on; and an
// orderer that took a transaction may drop it. Only the ledger knows. So the ledger is
// asked before each repetition, and after each time that the orderers took it, twice as
// long: it is seldom lost, and where much waits a repetition is only more to do.
func (l *Ledger) order(ctx context.Context, tx ledger.Transaction, sent bool) (*gateway.CommitStatusResponse, deed, error) {
	ctx, cancel := context.WithTimeout(ctx, l.limits.outcome)
	defer cancel()
	unknown := func(err error) error {
		return &ledger.OutcomeUnknownError{TxID: tx.ID, Err: gaveUp(ctx, err)}
	}
	var prepared gateway.PreparedTransaction
	if err := proto.Unmarshal(tx.Bytes, &prepared); err != nil {
		return nil, deed{}, unknown(fmt.Errorf("read transaction: %w", err))
	}
	did, err := deedOf(prepared.GetEnvelope().GetPayload())
	if err != nil {
		return nil, deed{}, unknown(fmt.Errorf("read transaction: %w", err))
	}
	question := func() (*gateway.SignedCommitStatusRequest, error) { return l.statusRequest(tx.ID) }
	if sent {
		if st, err := l.lookUp(ctx, question, l.limits.lookUp); err == nil && st != nil {
			return st, did, nil
		}
	}
	// The first one is signed while the orderers are asked, later ones as whom the
	// gateway is then.
	ask := sync.OnceValues(question)
	go func() { _, _ = ask() }() // lookUp sees the error
	pause, commit := l.newPause(), l.limits.commit
	for {
		wait := commit
		sendErr := l.send(ctx, &prepared)
		if sendErr != nil {
			wait = l.limits.lookUp
			l.log.WarnContext(ctx, "submit not confirmed, looking the transaction up", "txId", tx.ID, "error", sendErr)
		} else {
			commit = min(2*commit, longestCommit*l.limits.commit)
		}
		st, err := l.lookUp(ctx, ask, wait)
		if err == nil && st != nil {
			return st, did, nil
		}
		if sendErr != nil {
			err = errors.Join(sendErr, err)
		}
		if ctx.Err() != nil || pause.wait(ctx) != nil {
			return nil, deed{}, unknown(err)
		}
		l.log.WarnContext(ctx, "sending the same transaction again", "txId", tx.ID, "error", err)
		ask = question
	}
}

// deed is what an endorsed transaction does once it is valid.
type deed struct {
	result []byte
	wrote  bool // anything at all
}

// deedOf reads the payload of a transaction's envelope. It copies nothing of it.
func deedOf(payload []byte) (deed, error) {
	// Payload.data, Transaction.actions, TransactionAction.payload, ChaincodeActionPayload.action,
	// ChaincodeEndorsedAction.proposal_response_payload, ProposalResponsePayload.extension
	action := within(payload, 2, 1, 2, 2, 1, 2)
	if action == nil {
		return deed{}, errors.New("it has no answer of a chaincode")
	}
	did := deed{result: within(action, 3, 3)}      // ChaincodeAction.response, Response.payload
	for ns := range fields(within(action, 1), 2) { // ChaincodeAction.results, TxReadWriteSet.ns_rwset
		if within(ns, 2, 3) != nil { // NsReadWriteSet.rwset, KVRWSet.writes
			did.wrote = true
		}
	}
	return did, nil
}

// within answers the first field of each of these numbers in the one before, beginning
// in message; nil where there is none.
func within(message []byte, path ...protowire.Number) []byte {
	for _, number := range path {
		var first []byte
		for first = range fields(message, number) {
			break
		}
		message = first
	}
	return message
}

// fields are the fields of a message that have a number and hold bytes. It ends where
// the message cannot be read.
func fields(message []byte, number protowire.Number) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(message) > 0 {
			n, kind, tag := protowire.ConsumeTag(message)
			if tag < 0 {
				return
			}
			length := protowire.ConsumeFieldValue(n, kind, message[tag:])
			if length < 0 {
				return
			}
			if n == number && kind == protowire.BytesType {
				if field, _ := protowire.ConsumeBytes(message[tag:]); !yield(field) {
					return
				}
			}
			message = message[tag+length:]
		}
	}
}

// send hands the transaction to the orderers through the first peer in reach.
func (l *Ledger) send(ctx context.Context, tx *gateway.PreparedTransaction) error {
	last := error(&unreachableError{errors.New("no peer in reach")})
	l.each(func(p *peer) bool {
		if err := ctx.Err(); err != nil {
			last = err
			return true
		}
		var unreachable *unreachableError
		last = l.sendAt(ctx, p, tx)
		return !errors.As(last, &unreachable)
	})
	return last
}

func (l *Ledger) sendAt(ctx context.Context, p *peer, tx *gateway.PreparedTransaction) error {
	call, cancel := context.WithTimeout(ctx, l.limits.submitCall)
	defer cancel()
	_, err := p.service.Submit(call, &gateway.SubmitRequest{TransactionId: tx.GetTransactionId(), ChannelId: l.channel, PreparedTransaction: tx.GetEnvelope()})
	if err = p.noteCall(ctx, call, withDetails(err)); err != nil {
		return fmt.Errorf("submit through the peer of %s: %w", p.department, err)
	}
	return nil
}

// lookUp asks the own peer what became of a transaction, then one other: a peer
// cannot say "no such transaction", it waits until the limit. The status is nil
// when no peer knows the transaction.
func (l *Ledger) lookUp(ctx context.Context, question func() (*gateway.SignedCommitStatusRequest, error), limit time.Duration) (*gateway.CommitStatusResponse, error) {
	request, err := question()
	if err != nil {
		return nil, err
	}
	var st *gateway.CommitStatusResponse
	last := error(&unreachableError{errors.New("no peer in reach")})
	waited := 0
	l.each(func(p *peer) bool {
		if err := ctx.Err(); err != nil {
			last = err
			return true
		}
		var unreachable *unreachableError
		st, last = l.lookUpAt(ctx, p, request, limit)
		if errors.As(last, &unreachable) {
			return false
		}
		waited++
		limit = min(limit, l.limits.lookUp)
		return st != nil || waited == 2
	})
	return st, last
}

func (l *Ledger) lookUpAt(ctx context.Context, p *peer, request *gateway.SignedCommitStatusRequest, limit time.Duration) (*gateway.CommitStatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	// A peer that was already waiting reports the occurrence it sees next; one
	// that looks into its index reports the first, which is the one that counts.
	for range 2 {
		st, err := p.service.CommitStatus(ctx, request)
		if err != nil {
			return nil, fmt.Errorf("commit status from the peer of %s: %w", p.department, p.note(err))
		}
		p.breaker.succeeded()
		if st.GetResult() != pb.TxValidationCode_DUPLICATE_TXID {
			return st, nil
		}
	}
	return nil, fmt.Errorf("the peer of %s knows transaction only as a duplicate", p.department)
}

// statusRequest is the gateway's own question for a transaction by its ID.
func (l *Ledger) statusRequest(id domain.TxID) (*gateway.SignedCommitStatusRequest, error) {
	s := l.service()
	request, err := proto.Marshal(&gateway.CommitStatusRequest{
		ChannelId: l.channel, TransactionId: string(id), Identity: s.creator,
	})
	if err != nil {
		return nil, fmt.Errorf("marshal status request: %w", err)
	}
	digest := sha256.Sum256(request)
	signature, err := s.sign(digest[:])
	if err != nil {
		return nil, fmt.Errorf("sign status request: %w", err)
	}
	return &gateway.SignedCommitStatusRequest{Request: request, Signature: signature}, nil
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
