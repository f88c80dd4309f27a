package fabricledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hyperledger/fabric-gateway/pkg/client"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/gateway"
	"github.com/hyperledger/fabric-protos-go-apiv2/msp"
	pb "github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

const attestTransaction = "evidence:Attest"

// SignedRead implements [ledger.Reader]. Departments that lately failed to sign
// are left out of the first attempt; after a failure the peers are asked for
// their heights, and those that answer and are not behind are tried again.
func (l *Ledger) SignedRead(ctx context.Context, args domain.AttestArgs, quorum int) (ledger.SignedRead, error) {
	read, err := l.signedRead(ctx, args, quorum)
	if err != nil {
		return ledger.SignedRead{}, fmt.Errorf("signed read of %s %s: %w", args.Kind, args.ID, err)
	}
	return read, nil
}

func (l *Ledger) signedRead(ctx context.Context, args domain.AttestArgs, quorum int) (ledger.SignedRead, error) {
	if quorum < 1 {
		return ledger.SignedRead{}, fmt.Errorf("quorum of %d", quorum)
	}
	argument, err := domain.Canonical(args)
	if err != nil {
		return ledger.SignedRead{}, err
	}
	deadline := time.Now().Add(l.limits.signedRead)
	pause := l.newPause()
	asked := l.unsuspected(quorum)
	if len(asked) < quorum {
		return ledger.SignedRead{}, &ledger.UnavailableError{Err: fmt.Errorf("the ledger has %d departments, %d must sign", len(asked), quorum)}
	}
	for {
		read, f := l.attest(ctx, argument, asked)
		if f == nil {
			return read, nil
		}
		if len(f.refusals) > 0 {
			return ledger.SignedRead{}, f.refusals[0].err
		}
		if f.permanent() {
			return ledger.SignedRead{}, f.err
		}
		l.log.DebugContext(ctx, "signed read failed, choosing departments anew", "error", f.err)
		if asked, err = l.chooseSigners(ctx, f, quorum); err != nil {
			return ledger.SignedRead{}, &ledger.UnavailableError{Err: gaveUp(ctx, errors.Join(err, f.err))}
		}
		if time.Now().After(deadline) || pause.wait(ctx) != nil {
			err := gaveUp(ctx, f.err)
			if errors.Is(err, context.Canceled) {
				return ledger.SignedRead{}, err
			}
			return ledger.SignedRead{}, &ledger.UnavailableError{Err: err}
		}
	}
}

// attest has exactly the departments asked sign one statement. A peer that has
// just started does not know the other departments' peers yet, so the next peer
// is asked when one does not find them all; the failure that misses the fewest
// is returned.
func (l *Ledger) attest(ctx context.Context, argument []byte, asked []domain.MSPID) (ledger.SignedRead, *failure) {
	var read ledger.SignedRead
	var best *failure
	l.each(func(p *peer) bool {
		if err := ctx.Err(); err != nil {
			best = cmp.Or(best, readFailure(err))
			return true
		}
		got, err := l.attestAt(ctx, p, argument, asked)
		if err == nil {
			read, best = got, nil
			return true
		}
		f := readFailure(err)
		if f.unreachable || f.missing {
			if best == nil || best.unreachable || f.missing && len(f.failed) < len(best.failed) {
				best = f
			}
			return false
		}
		best = f
		return true
	})
	return read, best
}

func (l *Ledger) attestAt(ctx context.Context, p *peer, argument []byte, asked []domain.MSPID) (ledger.SignedRead, error) {
	ctx, cancel := context.WithTimeout(ctx, l.limits.signedCall)
	defer cancel()
	orgs := make([]string, len(asked))
	for i, id := range asked {
		orgs[i] = string(id)
	}
	proposal, err := l.contract(p, l.service(), l.chaincode).NewProposal(attestTransaction,
		client.WithBytesArguments(argument), client.WithEndorsingOrganizations(orgs...))
	if err != nil {
		return ledger.SignedRead{}, fmt.Errorf("propose: %w", err)
	}
	endorsed, err := proposal.EndorseWithContext(ctx)
	if err != nil {
		return ledger.SignedRead{}, fmt.Errorf("endorse through the peer of %s: %w", p.department, p.note(err))
	}
	p.breaker.succeeded()
	return readSigned(proposal, endorsed, asked)
}

// readSigned takes the signed bytes out of an endorsed proposal, as they are. It
// refuses an answer that others than those asked have signed.
func readSigned(proposal *client.Proposal, endorsed *client.Transaction, asked []domain.MSPID) (ledger.SignedRead, error) {
	proposalBytes, err := proposal.Bytes()
	if err != nil {
		return ledger.SignedRead{}, err
	}
	var proposed gateway.ProposedTransaction
	if err := proto.Unmarshal(proposalBytes, &proposed); err != nil {
		return ledger.SignedRead{}, fmt.Errorf("read proposal: %w", err)
	}
	endorsedBytes, err := endorsed.Bytes()
	if err != nil {
		return ledger.SignedRead{}, err
	}
	var prepared gateway.PreparedTransaction
	if err := proto.Unmarshal(endorsedBytes, &prepared); err != nil {
		return ledger.SignedRead{}, fmt.Errorf("read transaction: %w", err)
	}
	var payload common.Payload
	if err := proto.Unmarshal(prepared.GetEnvelope().GetPayload(), &payload); err != nil {
		return ledger.SignedRead{}, fmt.Errorf("read transaction payload: %w", err)
	}
	action, err := endorsedAction(payload.GetData())
	if err != nil {
		return ledger.SignedRead{}, err
	}
	read := ledger.SignedRead{
		Proposal: proposed.GetProposal().GetProposalBytes(),
		Response: action.GetAction().GetProposalResponsePayload(),
	}
	left := slices.Clone(asked)
	for _, e := range action.GetAction().GetEndorsements() {
		mspID, err := mspIDOf(e.GetEndorser())
		if err != nil {
			return ledger.SignedRead{}, fmt.Errorf("read endorser: %w", err)
		}
		i := slices.Index(left, mspID)
		if i < 0 {
			return ledger.SignedRead{}, fmt.Errorf("%s signed without being asked, or twice", mspID)
		}
		left = slices.Delete(left, i, i+1)
		read.Endorsements = append(read.Endorsements, ledger.Endorsement{Endorser: e.GetEndorser(), Signature: e.GetSignature()})
	}
	if len(left) > 0 {
		return ledger.SignedRead{}, fmt.Errorf("no signature by %v", left)
	}
	return read, nil
}

// endorsedAction reads the one action of an endorser transaction.
func endorsedAction(data []byte) (*pb.ChaincodeActionPayload, error) {
	payload, err := actionPayload(data)
	if err != nil {
		return nil, err
	}
	action, endorsed := &pb.ChaincodeActionPayload{}, &pb.ChaincodeEndorsedAction{}
	inner, rest, once := detach(payload, 2)
	if !once {
		rest = payload
	}
	if err := proto.Unmarshal(rest, action); err != nil {
		return nil, fmt.Errorf("read chaincode action: %w", err)
	}
	if once {
		action.Action = endorsed
		if endorsed.ProposalResponsePayload, err = open(inner, 1, endorsed, endorsed.GetProposalResponsePayload); err != nil {
			return nil, fmt.Errorf("read endorsed action: %w", err)
		}
	}
	return action, nil
}

// actionPayload reads the payload of a transaction's one action.
func actionPayload(data []byte) ([]byte, error) {
	if only, rest, once := detach(data, 1); once {
		if err := proto.Unmarshal(rest, &pb.Transaction{}); err != nil {
			return nil, fmt.Errorf("read transaction: %w", err)
		}
		action := &pb.TransactionAction{}
		payload, err := open(only, 2, action, action.GetPayload)
		if err != nil {
			return nil, fmt.Errorf("read transaction: %w", err)
		}
		return payload, nil
	}
	var tx pb.Transaction
	if err := proto.Unmarshal(data, &tx); err != nil {
		return nil, fmt.Errorf("read transaction: %w", err)
	}
	if n := len(tx.GetActions()); n != 1 {
		return nil, fmt.Errorf("transaction has %d actions, want 1", n)
	}
	return tx.GetActions()[0].GetPayload(), nil
}

// mspIDOf reads the MSP ID of a serialized identity.
func mspIDOf(identity []byte) (domain.MSPID, error) {
	var id msp.SerializedIdentity
	if err := proto.Unmarshal(identity, &id); err != nil {
		return "", fmt.Errorf("read identity: %w", err)
	}
	return domain.MSPID(id.GetMspid()), nil
}

// unsuspected returns the departments that have not failed to sign lately, or
// all of them when those are too few.
func (l *Ledger) unsuspected(quorum int) []domain.MSPID {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	var all, good []domain.MSPID
	for _, p := range l.peers {
		all = append(all, p.mspID)
		if now.After(l.suspects[p.mspID]) {
			good = append(good, p.mspID)
		}
	}
	if len(good) < quorum {
		return all
	}
	return good
}

func (l *Ledger) suspect(id domain.MSPID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.suspects[id] = time.Now().Add(l.limits.suspicion)
}

// chooseSigners picks the departments to ask after a failed attempt: those whose
// peers answer, without the ones that the failure names if enough are left, and,
// after a mismatch, without those behind if enough are left. It fails when too
// few peers answer at all.
func (l *Ledger) chooseSigners(ctx context.Context, f *failure, quorum int) ([]domain.MSPID, error) {
	var answering, willing, level []domain.MSPID
	var highest uint64
	var why []error
	heights := l.Heights(ctx)
	for i, h := range heights {
		id := l.peers[i].mspID
		if h.Err != nil {
			why = append(why, h.Err)
			l.suspect(id)
			continue
		}
		highest = max(highest, h.Height)
		answering = append(answering, id)
		if !slices.Contains(f.failed, id) {
			willing = append(willing, id)
		}
	}
	if len(answering) < quorum {
		return nil, errors.Join(append([]error{fmt.Errorf("%d departments answer, %d must sign", len(answering), quorum)}, why...)...)
	}
	if len(willing) < quorum {
		return answering, nil
	}
	for i, h := range heights {
		id := l.peers[i].mspID
		switch {
		case h.Err != nil:
		case slices.Contains(f.failed, id):
			l.suspect(id)
		case h.Height == highest:
			level = append(level, id)
		}
	}
	if f.contains(mismatch) && len(level) >= quorum {
		return level, nil
	}
	return willing, nil
}
