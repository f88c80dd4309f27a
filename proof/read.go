package proof

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// The messages of a signed read, with the field numbers of Fabric's .proto
// files (fabric-protos: common/common.proto, peer/*.proto, msp/identities.proto,
// ledger/rwset/*.proto). A field that is missing here never occurs in a signed
// read made by fabric-gateway and a Fabric peer, and is refused.
var (
	proposalFields = []wireField{
		{number: 1, kind: wireBytes}, // header
		{number: 2, kind: wireBytes}, // payload
	}
	headerFields = []wireField{
		{number: 1, kind: wireBytes}, // channel_header
		{number: 2, kind: wireBytes}, // signature_header
	}
	channelHeaderFields = []wireField{
		{number: 1, kind: wireNumber},  // type
		{number: 3, kind: wireMessage}, // timestamp
		{number: 4, kind: wireText},    // channel_id
		{number: 5, kind: wireText},    // tx_id
		{number: 7, kind: wireBytes},   // extension: ChaincodeHeaderExtension
		{number: 8, kind: wireBytes},   // tls_cert_hash
	}
	timestampFields = []wireField{
		{number: 1, kind: wireNumber}, // seconds
		{number: 2, kind: wireNumber}, // nanos
	}
	chaincodeHeaderExtensionFields = []wireField{
		{number: 2, kind: wireMessage}, // chaincode_id
	}
	chaincodeIDFields = []wireField{
		{number: 2, kind: wireText}, // name
		{number: 3, kind: wireText}, // version
	}
	signatureHeaderFields = []wireField{
		{number: 1, kind: wireBytes}, // creator: SerializedIdentity
		{number: 2, kind: wireBytes}, // nonce
	}
	serializedIdentityFields = []wireField{
		{number: 1, kind: wireText},  // mspid
		{number: 2, kind: wireBytes}, // id_bytes: PEM
	}
	chaincodeProposalPayloadFields = []wireField{
		{number: 1, kind: wireBytes}, // input: ChaincodeInvocationSpec; no transient map
	}
	chaincodeInvocationSpecFields = []wireField{
		{number: 1, kind: wireMessage}, // chaincode_spec
	}
	chaincodeSpecFields = []wireField{
		{number: 2, kind: wireMessage}, // chaincode_id
		{number: 3, kind: wireMessage}, // input
	}
	chaincodeInputFields = []wireField{
		{number: 1, kind: wireBytes, repeated: true}, // args
	}
	proposalResponsePayloadFields = []wireField{
		{number: 1, kind: wireBytes}, // proposal_hash
		{number: 2, kind: wireBytes}, // extension: ChaincodeAction
	}
	chaincodeActionFields = []wireField{
		{number: 1, kind: wireBytes},   // results: TxReadWriteSet
		{number: 2, kind: wireBytes},   // events
		{number: 3, kind: wireMessage}, // response
		{number: 4, kind: wireMessage}, // chaincode_id
	}
	responseFields = []wireField{
		{number: 1, kind: wireNumber}, // status
		{number: 2, kind: wireText},   // message
		{number: 3, kind: wireBytes},  // payload
	}
	txReadWriteSetFields = []wireField{
		{number: 2, kind: wireMessage, repeated: true}, // ns_rwset; data_model is KV, the default
	}
	nsReadWriteSetFields = []wireField{
		{number: 1, kind: wireText},                    // namespace
		{number: 2, kind: wireBytes},                   // rwset: KVRWSet
		{number: 3, kind: wireMessage, repeated: true}, // collection_hashed_rwset
	}
	kvReadWriteSetFields = []wireField{
		{number: 1, kind: wireMessage, repeated: true}, // reads
		{number: 2, kind: wireMessage, repeated: true}, // range_queries_info
		{number: 3, kind: wireMessage, repeated: true}, // writes
		{number: 4, kind: wireMessage, repeated: true}, // metadata_writes
	}
	kvReadFields = []wireField{
		{number: 1, kind: wireText},    // key
		{number: 2, kind: wireMessage}, // version, absent when the key has no value
	}
	versionFields = []wireField{
		{number: 1, kind: wireNumber}, // block_num
		{number: 2, kind: wireNumber}, // tx_num
	}
	rangeQueryInfoFields = []wireField{
		{number: 1, kind: wireText},    // start_key
		{number: 2, kind: wireText},    // end_key
		{number: 3, kind: wireNumber},  // itr_exhausted
		{number: 4, kind: wireMessage}, // raw_reads: QueryReads
		{number: 5, kind: wireMessage}, // reads_merkle_hashes: QueryReadsMerkleSummary
	}
	queryReadsFields = []wireField{
		{number: 1, kind: wireMessage, repeated: true}, // kv_reads
	}
	merkleSummaryFields = []wireField{
		{number: 1, kind: wireNumber},                // max_degree
		{number: 2, kind: wireNumber},                // max_level
		{number: 3, kind: wireBytes, repeated: true}, // max_level_hashes
	}
)

// maxSeconds is the end of the year 9999, beyond which RFC 3339 has no form.
const maxSeconds = 253402300799

// proposal is what the asker sent.
type proposal struct {
	headerType         uint64
	time               time.Time // from the channel header, UTC
	channel            string
	txID               string
	headerChaincode    string // named by the channel header's extension
	chaincode          string // named by the invocation
	args               [][]byte
	hash               [sha256.Size]byte // as peers compute it
	computedTxID       string
	chaincodeVersioned bool // a version was asked for, which Fabric ignores
}

// namespace is what a transaction did to one chaincode's state.
type namespace struct {
	name        string
	writes      int // of values and of key metadata
	collections int // private data collections touched
}

// answer is what the peers signed.
type answer struct {
	proposalHash []byte
	chaincode    string
	version      string
	status       uint64
	message      string
	payload      []byte
	events       []byte
	namespaces   []namespace
}

// parseProposal reads a peer.Proposal.
func parseProposal(data []byte) (*proposal, error) {
	outer, err := parseWire("proposal", data, proposalFields)
	if err != nil {
		return nil, err
	}
	header, err := parseWire("header", outer.bytes(1), headerFields)
	if err != nil {
		return nil, err
	}
	p := &proposal{}
	if err := p.parseChannelHeader(header.bytes(1)); err != nil {
		return nil, err
	}
	signature, err := parseWire("signature header", header.bytes(2), signatureHeaderFields)
	if err != nil {
		return nil, err
	}
	creator, nonce := signature.bytes(1), signature.bytes(2)
	if len(nonce) == 0 {
		return nil, errors.New("signature header: no nonce")
	}
	if _, err := parseIdentity(creator); err != nil {
		return nil, fmt.Errorf("creator: %w", err)
	}
	if _, err := p.parsePayload(outer.bytes(2), chaincodeProposalPayloadFields); err != nil {
		return nil, err
	}

	digest := sha256.New()
	digest.Write(nonce)
	digest.Write(creator)
	p.computedTxID = hex.EncodeToString(digest.Sum(nil))

	// Fabric strips the transient map from the payload first; there is none.
	digest.Reset()
	digest.Write(header.bytes(1))
	digest.Write(header.bytes(2))
	digest.Write(outer.bytes(2))
	digest.Sum(p.hash[:0])
	return p, nil
}

func (p *proposal) parseChannelHeader(data []byte) error {
	channel, err := parseWire("channel header", data, channelHeaderFields)
	if err != nil {
		return err
	}
	if !channel.has(3) {
		return errors.New("channel header: no timestamp")
	}
	timestamp, err := parseWire("timestamp", channel.bytes(3), timestampFields)
	if err != nil {
		return err
	}
	seconds, nanos := timestamp.number(1), timestamp.number(2)
	if seconds > maxSeconds || nanos > 999_999_999 {
		return errors.New("timestamp: out of range")
	}
	extension, err := parseWire("chaincode header extension", channel.bytes(7), chaincodeHeaderExtensionFields)
	if err != nil {
		return err
	}
	id, err := parseWire("chaincode ID", extension.bytes(2), chaincodeIDFields)
	if err != nil {
		return err
	}
	if n := len(channel.bytes(8)); n != 0 && n != sha256.Size {
		return fmt.Errorf("channel header: a TLS certificate hash of %d bytes", n)
	}
	p.headerType = channel.number(1)
	p.time = time.Unix(int64(seconds), int64(nanos)).UTC()
	p.channel = channel.text(4)
	p.txID = channel.text(5)
	p.headerChaincode = id.text(2)
	p.chaincodeVersioned = id.has(3)
	return nil
}

// parsePayload reads a ChaincodeProposalPayload with the given fields and answers
// them.
func (p *proposal) parsePayload(data []byte, fields []wireField) (wireFields, error) {
	payload, err := parseWire("chaincode proposal payload", data, fields)
	if err != nil {
		return nil, err
	}
	invocation, err := parseWire("chaincode invocation", payload.bytes(1), chaincodeInvocationSpecFields)
	if err != nil {
		return nil, err
	}
	spec, err := parseWire("chaincode specification", invocation.bytes(1), chaincodeSpecFields)
	if err != nil {
		return nil, err
	}
	id, err := parseWire("chaincode ID", spec.bytes(2), chaincodeIDFields)
	if err != nil {
		return nil, err
	}
	input, err := parseWire("chaincode input", spec.bytes(3), chaincodeInputFields)
	if err != nil {
		return nil, err
	}
	p.chaincode = id.text(2)
	p.chaincodeVersioned = p.chaincodeVersioned || id.has(3)
	p.args = input.all(1)
	return payload, nil
}

// parseAnswer reads a peer.ProposalResponsePayload.
func parseAnswer(data []byte) (*answer, error) {
	outer, err := parseWire("proposal response", data, proposalResponsePayloadFields)
	if err != nil {
		return nil, err
	}
	action, err := parseWire("chaincode action", outer.bytes(2), chaincodeActionFields)
	if err != nil {
		return nil, err
	}
	response, err := parseWire("response", action.bytes(3), responseFields)
	if err != nil {
		return nil, err
	}
	id, err := parseWire("chaincode ID", action.bytes(4), chaincodeIDFields)
	if err != nil {
		return nil, err
	}
	namespaces, err := parseReadWriteSet(action.bytes(1))
	if err != nil {
		return nil, err
	}
	return &answer{
		proposalHash: outer.bytes(1),
		chaincode:    id.text(2),
		version:      id.text(3),
		status:       response.number(1),
		message:      response.text(2),
		payload:      response.bytes(3),
		events:       action.bytes(2),
		namespaces:   namespaces,
	}, nil
}

// parseReadWriteSet reads a TxReadWriteSet down to its last read. Writes are
// counted, not read: a signed read has none.
func parseReadWriteSet(data []byte) ([]namespace, error) {
	set, err := parseWire("read-write set", data, txReadWriteSetFields)
	if err != nil {
		return nil, err
	}
	var out []namespace
	for _, item := range set.all(2) {
		ns, err := parseWire("namespace", item, nsReadWriteSetFields)
		if err != nil {
			return nil, err
		}
		kv, err := parseWire("key-value set", ns.bytes(2), kvReadWriteSetFields)
		if err != nil {
			return nil, err
		}
		if err := parseReads(kv.all(1)); err != nil {
			return nil, err
		}
		for _, query := range kv.all(2) {
			if err := parseRangeQuery(query); err != nil {
				return nil, err
			}
		}
		name := ns.text(1)
		for _, earlier := range out {
			if earlier.name == name {
				return nil, errors.New("read-write set: a namespace occurs twice")
			}
		}
		out = append(out, namespace{
			name:        name,
			writes:      len(kv.all(3)) + len(kv.all(4)),
			collections: len(ns.all(3)),
		})
	}
	return out, nil
}

func parseReads(reads [][]byte) error {
	for _, item := range reads {
		read, err := parseWire("read", item, kvReadFields)
		if err != nil {
			return err
		}
		if _, err := parseWire("version", read.bytes(2), versionFields); err != nil {
			return err
		}
	}
	return nil
}

func parseRangeQuery(data []byte) error {
	query, err := parseWire("range query", data, rangeQueryInfoFields)
	if err != nil {
		return err
	}
	if query.number(3) > 1 {
		return errors.New("range query: not a truth value")
	}
	if query.has(4) && query.has(5) {
		return errors.New("range query: two results")
	}
	reads, err := parseWire("range query reads", query.bytes(4), queryReadsFields)
	if err != nil {
		return err
	}
	if err := parseReads(reads.all(1)); err != nil {
		return err
	}
	summary, err := parseWire("range query summary", query.bytes(5), merkleSummaryFields)
	if err != nil {
		return err
	}
	for _, field := range []protowire.Number{1, 2} {
		if summary.number(field) > 1<<32-1 {
			return errors.New("range query summary: out of range")
		}
	}
	return nil
}
