package ledgertest

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

var _ ledger.Offline = (*Ledger)(nil)

// waiting are transactions that wait for signatures, by ID.
type waiting struct {
	read     prooftest.Read
	cert     *x509.Certificate
	endorsed *endorsed
}

// Propose implements [ledger.Offline]: what is to be signed has the bytes that it would
// have on Fabric.
func (l *Ledger) Propose(r ledger.Request) (ledger.Unsigned, error) {
	block, _ := pem.Decode([]byte(r.Certificate))
	if block == nil {
		return ledger.Unsigned{}, errors.New("propose: the certificate is no PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return ledger.Unsigned{}, fmt.Errorf("propose: %w", err)
	}
	l.chain.mu.Lock()
	defer l.chain.mu.Unlock()
	tx := l.chain.next()
	creator := &prooftest.Identity{MSPID: l.department.MSPID, Cert: cert}
	nonce := []byte(tx.ID)[:24]
	id := sha256.Sum256(append(slices.Clone(nonce), creator.Serialized()...))
	tx.ID = domain.TxID(hex.EncodeToString(id[:])) // as Fabric derives it
	p := proposal{l.caller(r.Role), r.Transaction, r.Argument, r.Operation, r.Expect}
	w := &waiting{cert: cert, endorsed: &endorsed{Proposal: p, Tx: tx}, read: prooftest.Read{
		Channel: Channel, HeaderType: 3, HeaderChaincode: Chaincode, Chaincode: Chaincode, Args: [][]byte{[]byte(r.Transaction)},
		Time: tx.Time, Nonce: nonce, Creator: creator, AnswerChaincode: Chaincode, Version: Version, Status: 200,
		Namespaces: []prooftest.Namespace{{Name: Chaincode}},
	}}
	for _, argument := range p.call().Arguments() {
		w.read.Args = append(w.read.Args, []byte(argument))
	}
	if len(r.Argument) > domain.InlineArgument {
		w.read.Args[1] = domain.ArgumentReference(r.Argument)
		w.read.Transient = []prooftest.Transient{{Name: domain.TransientArgument, Value: r.Argument}}
	}
	if l.chain.waiting == nil {
		l.chain.waiting = make(map[domain.TxID]*waiting)
	}
	l.chain.waiting[tx.ID] = w
	return ledger.Unsigned{TxID: tx.ID, Message: w.read.ProposalBytes()}, nil
}

// EndorseSigned implements [ledger.Offline]. Departments check the signature, as on
// Fabric.
func (l *Ledger) EndorseSigned(ctx context.Context, r ledger.Request, unsigned ledger.Unsigned, signature []byte) (ledger.Unsigned, error) {
	if err := ctx.Err(); err != nil {
		return ledger.Unsigned{}, err
	}
	if _, err := l.strike("endorse " + r.Transaction); err != nil {
		return ledger.Unsigned{}, err
	}
	l.chain.mu.Lock()
	defer l.chain.mu.Unlock()
	w := l.chain.waiting[unsigned.TxID]
	if err := proof.CheckSignature(w.cert, unsigned.Message, signature); err != nil {
		return ledger.Unsigned{}, fmt.Errorf("endorse: %w", err)
	}
	e, err := l.chain.endorseAs(w.endorsed.Proposal, w.endorsed.Tx)
	if err != nil {
		return ledger.Unsigned{}, fmt.Errorf("submit %s: %w", r.Transaction, err)
	}
	w.endorsed = &e
	w.read.Payload, w.read.Signers = e.Result, nil
	for _, d := range l.chain.departments {
		w.read.Signers = append(w.read.Signers, l.chain.keys[d.MSPID].Peer)
	}
	return ledger.Unsigned{TxID: unsigned.TxID, Message: w.read.TransactionBytes()}, nil
}

// Signed implements [ledger.Offline].
func (l *Ledger) Signed(transaction ledger.Unsigned, signature []byte) (ledger.Transaction, error) {
	l.chain.mu.Lock()
	defer l.chain.mu.Unlock()
	w := l.chain.waiting[transaction.TxID]
	if err := proof.CheckSignature(w.cert, transaction.Message, signature); err != nil {
		return ledger.Transaction{}, err
	}
	data, err := json.Marshal(w.endorsed)
	return ledger.Transaction{ID: transaction.TxID, Bytes: data}, err
}
