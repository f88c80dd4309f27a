package prooftest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
)

// Message names a protobuf message inside a signed read.
type Message string

// The messages of a signed read, as Fabric names them.
const (
	Proposal                 Message = "Proposal"
	Header                   Message = "Header"
	ChannelHeader            Message = "ChannelHeader"
	Timestamp                Message = "Timestamp"
	ChaincodeHeaderExtension Message = "ChaincodeHeaderExtension"
	SignatureHeader          Message = "SignatureHeader"
	Creator                  Message = "SerializedIdentity of the creator"
	ChaincodeProposalPayload Message = "ChaincodeProposalPayload"
	ChaincodeInvocationSpec  Message = "ChaincodeInvocationSpec"
	ChaincodeSpec            Message = "ChaincodeSpec"
	ChaincodeInput           Message = "ChaincodeInput"
	ChaincodeID              Message = "ChaincodeID"
	ProposalResponsePayload  Message = "ProposalResponsePayload"
	ChaincodeAction          Message = "ChaincodeAction"
	Response                 Message = "Response"
	TxReadWriteSet           Message = "TxReadWriteSet"
	NsReadWriteSet           Message = "NsReadWriteSet"
	KVRWSet                  Message = "KVRWSet"
	KVRead                   Message = "KVRead"
	Version                  Message = "Version"
	Endorser                 Message = "SerializedIdentity of an endorser"
)

// The messages of a transaction besides, see [Read.TransactionBytes].
const (
	EnvelopePayload         Message = "Payload"
	Transaction             Message = "Transaction"
	TransactionAction       Message = "TransactionAction"
	ChaincodeActionPayload  Message = "ChaincodeActionPayload"
	ChaincodeEndorsedAction Message = "ChaincodeEndorsedAction"
)

// Messages lists every message of a signed read.
var Messages = []Message{
	Proposal, Header, ChannelHeader, Timestamp, ChaincodeHeaderExtension, SignatureHeader, Creator,
	ChaincodeProposalPayload, ChaincodeInvocationSpec, ChaincodeSpec, ChaincodeInput, ChaincodeID,
	ProposalResponsePayload, ChaincodeAction, Response, TxReadWriteSet, NsReadWriteSet, KVRWSet, KVRead, Version, Endorser,
}

// Read is a signed read before it is signed. Tests change it to make proofs
// that must be refused: hashes and signatures are made afterwards, so that they
// hold over the change.
type Read struct {
	Channel         string
	HeaderType      uint64
	HeaderChaincode string // in the channel header's extension
	Chaincode       string // invoked
	Args            [][]byte
	Transient       []Transient // beside the transaction; signed reads have none
	Time            time.Time
	TxID            string // "": that of nonce and creator
	Nonce           []byte // of the signature header
	Creator         *Identity
	ProposalHash    []byte // nil: the right one
	AnswerChaincode string
	Version         string
	Status          uint64
	Message         string
	Payload         []byte
	Events          []byte
	Namespaces      []Namespace
	Signers         []*Identity // in the order in which they appear in the bundle

	// Edit changes the bytes of a message before it is put into the one around it.
	Edit map[Message]func([]byte) []byte
	// EditSignature changes what a signer has signed.
	EditSignature func(signer int, der []byte) []byte
}

// Namespace is what a read did to the state of one chaincode.
type Namespace struct {
	Name           string
	Reads          []KeyRead
	RangeQueries   [][]byte // kvrwset.RangeQueryInfo
	Writes         [][]byte // kvrwset.KVWrite
	MetadataWrites [][]byte // kvrwset.KVMetadataWrite
	Collections    [][]byte // rwset.CollectionHashedReadWriteSet
}

// Transient is an entry of a proposal's transient data.
type Transient struct {
	Name  string
	Value []byte
}

// KeyRead is one read of a key; Found is whether it had a value.
type KeyRead struct {
	Key   string
	Found bool
	Block uint64
	Tx    uint64
}

// Statement returns what evidence:Attest answers at Epoch for a record, which is
// stored as it is given; nil when the ledger has none.
func (c *Consortium) Statement(kind domain.RecordKind, id, nonce string, record []byte, status string) domain.Statement {
	return domain.Statement{
		Schema:     domain.SchemaStatement,
		Channel:    c.Channel,
		Kind:       kind,
		ID:         id,
		Nonce:      nonce,
		Found:      record != nil,
		Status:     status,
		AsOf:       Epoch,
		ValidUntil: Epoch.Add(domain.StatementLife),
		Record:     string(record),
	}
}

// Attest returns the signed read that answers a statement, signed by every
// department's peer.
func (c *Consortium) Attest(s domain.Statement) *Read {
	nonce := make([]byte, 24)
	_, _ = NewStream("nonce " + s.Nonce).Read(nonce)
	r := &Read{
		Channel:         c.Channel,
		HeaderType:      3,
		HeaderChaincode: c.Chaincode,
		Chaincode:       c.Chaincode,
		Args: [][]byte{
			[]byte("evidence:Attest"),
			canonical(domain.AttestArgs{Kind: s.Kind, ID: s.ID, Nonce: s.Nonce}),
		},
		Time:            s.AsOf.Add(456_789 * time.Nanosecond),
		Nonce:           nonce,
		Creator:         c.Departments[0].Client,
		AnswerChaincode: c.Chaincode,
		Version:         c.Version,
		Status:          200,
		Payload:         canonical(s),
		Namespaces: []Namespace{
			{Name: "_lifecycle", Reads: []KeyRead{{Key: "namespaces/fields/" + c.Chaincode + "/Sequence", Found: true, Block: 5}}},
			{Name: c.Chaincode, Reads: []KeyRead{{Key: domain.KeyOf(s.Kind, s.ID), Found: s.Found, Block: 17, Tx: 1}}},
		},
	}
	for _, d := range c.Departments {
		r.Signers = append(r.Signers, d.Peer)
	}
	slices.SortFunc(r.Signers, func(a, b *Identity) int { return bytes.Compare([]byte(a.MSPID), []byte(b.MSPID)) })
	return r
}

func (r *Read) edit(name Message, data []byte) []byte {
	if change := r.Edit[name]; change != nil {
		return change(slices.Clone(data))
	}
	return data
}

func (r *Read) chaincodeID(name, version string) []byte {
	var b []byte
	b = appendText(b, 2, name)
	b = appendText(b, 3, version)
	return r.edit(ChaincodeID, b)
}

func (r *Read) channelHeader() []byte {
	creator, nonce := r.edit(Creator, r.Creator.Serialized()), r.Nonce
	id := r.TxID
	if id == "" {
		sum := sha256.Sum256(slices.Concat(nonce, creator))
		id = hex.EncodeToString(sum[:])
	}
	var timestamp []byte
	timestamp = appendNumber(timestamp, 1, uint64(r.Time.Unix()))
	timestamp = appendNumber(timestamp, 2, uint64(r.Time.Nanosecond()))
	extension := appendMessage(nil, 2, r.chaincodeID(r.HeaderChaincode, ""))
	var b []byte
	b = appendNumber(b, 1, r.HeaderType)
	b = appendMessage(b, 3, r.edit(Timestamp, timestamp))
	b = appendText(b, 4, r.Channel)
	b = appendText(b, 5, id)
	b = appendBytes(b, 7, r.edit(ChaincodeHeaderExtension, extension))
	return r.edit(ChannelHeader, b)
}

func (r *Read) signatureHeader() []byte {
	var b []byte
	b = appendBytes(b, 1, r.edit(Creator, r.Creator.Serialized()))
	b = appendBytes(b, 2, r.Nonce)
	return r.edit(SignatureHeader, b)
}

func (r *Read) payload() []byte {
	var input []byte
	for _, arg := range r.Args {
		input = appendMessage(input, 1, arg)
	}
	spec := appendMessage(nil, 2, r.chaincodeID(r.Chaincode, ""))
	spec = appendMessage(spec, 3, r.edit(ChaincodeInput, input))
	invocation := appendMessage(nil, 1, r.edit(ChaincodeSpec, spec))
	b := appendBytes(nil, 1, r.edit(ChaincodeInvocationSpec, invocation))
	return r.edit(ChaincodeProposalPayload, b)
}

// transient is what the payload of a proposal has besides that of its transaction.
func (r *Read) transient() []byte {
	var b []byte
	for _, t := range r.Transient {
		b = appendMessage(b, 2, appendBytes(appendText(nil, 1, t.Name), 2, t.Value))
	}
	return b
}

// ProposalBytes returns the peer.Proposal.
func (r *Read) ProposalBytes() []byte {
	var header []byte
	header = appendBytes(header, 1, r.channelHeader())
	header = appendBytes(header, 2, r.signatureHeader())
	var b []byte
	b = appendBytes(b, 1, r.edit(Header, header))
	b = appendBytes(b, 2, slices.Concat(r.payload(), r.transient()))
	return r.edit(Proposal, b)
}

func (r *Read) readWriteSet() []byte {
	var set []byte
	for _, ns := range r.Namespaces {
		var kv []byte
		for _, read := range ns.Reads {
			b := appendText(nil, 1, read.Key)
			if read.Found {
				version := appendNumber(nil, 1, read.Block)
				version = appendNumber(version, 2, read.Tx)
				b = appendMessage(b, 2, r.edit(Version, version))
			}
			kv = appendMessage(kv, 1, r.edit(KVRead, b))
		}
		for i, list := range [][][]byte{ns.RangeQueries, ns.Writes, ns.MetadataWrites} {
			for _, item := range list {
				kv = appendMessage(kv, []protowire.Number{2, 3, 4}[i], item)
			}
		}
		b := appendText(nil, 1, ns.Name)
		b = appendBytes(b, 2, r.edit(KVRWSet, kv))
		for _, collection := range ns.Collections {
			b = appendMessage(b, 3, collection)
		}
		set = appendMessage(set, 2, r.edit(NsReadWriteSet, b))
	}
	return r.edit(TxReadWriteSet, set)
}

// ResponseBytes returns the peer.ProposalResponsePayload.
func (r *Read) ResponseBytes() []byte {
	hash := r.ProposalHash
	if hash == nil {
		sum := sha256.Sum256(slices.Concat(r.channelHeader(), r.signatureHeader(), r.payload()))
		hash = sum[:]
	}
	var response []byte
	response = appendNumber(response, 1, r.Status)
	response = appendText(response, 2, r.Message)
	response = appendBytes(response, 3, r.Payload)
	var action []byte
	action = appendBytes(action, 1, r.readWriteSet())
	action = appendBytes(action, 2, r.Events)
	action = appendMessage(action, 3, r.edit(Response, response))
	action = appendMessage(action, 4, r.chaincodeID(r.AnswerChaincode, r.Version))
	var b []byte
	b = appendBytes(b, 1, hash)
	b = appendBytes(b, 2, r.edit(ChaincodeAction, action))
	return r.edit(ProposalResponsePayload, b)
}

// Endorsements returns the signers' endorsements, in order.
func (r *Read) Endorsements() []proof.RawEndorsement {
	response := r.ResponseBytes()
	out := make([]proof.RawEndorsement, len(r.Signers))
	for i, signer := range r.Signers {
		endorser := r.edit(Endorser, signer.Serialized())
		der := signer.Sign(slices.Concat(response, endorser))
		if r.EditSignature != nil {
			der = r.EditSignature(i, der)
		}
		out[i] = proof.RawEndorsement{Endorser: endorser, Signature: der}
	}
	return out
}

// TransactionBytes returns the common.Payload of the transaction that an envelope
// carries.
func (r *Read) TransactionBytes() []byte {
	endorsed := appendBytes(nil, 1, r.ResponseBytes())
	for _, e := range r.Endorsements() {
		endorsed = appendMessage(endorsed, 2, appendBytes(appendBytes(nil, 1, e.Endorser), 2, e.Signature))
	}
	payload := appendBytes(nil, 1, r.payload())
	payload = appendMessage(payload, 2, r.edit(ChaincodeEndorsedAction, endorsed))
	action := appendBytes(nil, 1, r.signatureHeader())
	action = appendBytes(action, 2, r.edit(ChaincodeActionPayload, payload))
	transaction := r.edit(Transaction, appendMessage(nil, 1, r.edit(TransactionAction, action)))
	header := appendBytes(nil, 1, r.channelHeader())
	header = appendBytes(header, 2, r.signatureHeader())
	return r.edit(EnvelopePayload, appendBytes(appendMessage(nil, 1, r.edit(Header, header)), 2, transaction))
}

// Bundle returns the proof bundle, its endorsements in the order of Signers.
func (r *Read) Bundle() proof.Bundle {
	b := proof.Bundle{
		Format: proof.BundleFormat,
		Read:   proof.Read{Proposal: base64URL(r.ProposalBytes()), Response: base64URL(r.ResponseBytes())},
	}
	for _, e := range r.Endorsements() {
		b.Read.Endorsements = append(b.Read.Endorsements, proof.Endorsement{Endorser: base64URL(e.Endorser), Signature: base64URL(e.Signature)})
	}
	return b
}

// File returns the proof file.
func (r *Read) File() []byte { return canonical(r.Bundle()) }
