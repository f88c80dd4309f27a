package ledgeraudit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/msp"
	pb "github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// world makes blocks with keys that tests have, so that a block can break one rule
// and keep the others.
type world struct {
	*prooftest.Consortium
	orderers []*prooftest.Identity // their numbers are 1, 2 …
	blocks   []*common.Block
	nonce    int
}

func newWorld() *world {
	w := &world{Consortium: prooftest.New()}
	for _, d := range w.Departments {
		w.orderers = append(w.orderers, d.Orderer)
	}
	b := w.seal(nil, w.configuration(0, nil))
	b.Metadata.Metadata[common.BlockMetadataIndex_SIGNATURES] = nil // nobody signs the first block
	w.blocks = append(w.blocks, b)
	return w
}

func (w *world) genesis() []byte { return Hash(w.blocks[0]) }

func marshal(m proto.Message) []byte {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err)
	}
	return data
}

// mspOf is a department's MSP.
func mspOf(d *prooftest.Department) []byte {
	unit := func(role string) *msp.FabricOUIdentifier {
		return &msp.FabricOUIdentifier{OrganizationalUnitIdentifier: role}
	}
	return marshal(&msp.MSPConfig{Config: marshal(&msp.FabricMSPConfig{
		Name: string(d.MSPID), RootCerts: [][]byte{d.Authority.PEM()},
		FabricNodeOus: &msp.FabricNodeOUs{
			Enable: true, PeerOuIdentifier: unit("peer"), ClientOuIdentifier: unit("client"),
			AdminOuIdentifier: unit("admin"), OrdererOuIdentifier: unit("orderer"),
		},
	})})
}

// configuration is a transaction that sets the present orderers and departments.
func (w *world) configuration(sequence uint64, lastUpdate *common.Envelope) []byte {
	orderers := &common.Orderers{}
	for i, o := range w.orderers {
		orderers.ConsenterMapping = append(orderers.ConsenterMapping, &common.Consenter{Id: uint32(i + 1), MspId: string(o.MSPID), Identity: o.PEM()})
	}
	groups := map[string]*common.ConfigGroup{}
	for _, d := range w.Departments {
		groups[string(d.Code)] = &common.ConfigGroup{Values: map[string]*common.ConfigValue{"MSP": {Value: mspOf(d)}}}
	}
	data := marshal(&common.ConfigEnvelope{LastUpdate: lastUpdate, Config: &common.Config{Sequence: sequence, ChannelGroup: &common.ConfigGroup{Groups: map[string]*common.ConfigGroup{
		"Application": {Groups: groups},
		"Orderer":     {Groups: groups, Values: map[string]*common.ConfigValue{"Orderers": {Value: marshal(orderers)}}},
	}}}})
	creator := w.orderers[0]
	payload := marshal(&common.Payload{Data: data, Header: &common.Header{
		ChannelHeader:   marshal(&common.ChannelHeader{Type: int32(common.HeaderType_CONFIG), ChannelId: w.Channel}),
		SignatureHeader: w.header(creator),
	}})
	return marshal(&common.Envelope{Payload: payload, Signature: creator.Sign(payload)})
}

// update is a request for a configuration, signed by identities.
func (w *world) update(signers ...*prooftest.Identity) *common.Envelope {
	update := marshal(&common.ConfigUpdate{ChannelId: w.Channel})
	envelope := &common.ConfigUpdateEnvelope{ConfigUpdate: update}
	for _, s := range signers {
		header := w.header(s)
		envelope.Signatures = append(envelope.Signatures, &common.ConfigSignature{SignatureHeader: header, Signature: s.Sign(slices.Concat(header, update))})
	}
	payload := marshal(&common.Payload{Data: marshal(envelope), Header: &common.Header{
		ChannelHeader: marshal(&common.ChannelHeader{Type: int32(common.HeaderType_CONFIG_UPDATE), ChannelId: w.Channel}),
	}})
	return &common.Envelope{Payload: payload, Signature: []byte("not looked at")}
}

func (w *world) header(creator *prooftest.Identity) []byte {
	w.nonce++
	return marshal(&common.SignatureHeader{Creator: creator.Serialized(), Nonce: fmt.Appendf(nil, "nonce %d", w.nonce)})
}

// draft is an endorser transaction before it is signed.
type draft struct {
	channel   string
	txID      string // "": the right one
	at        time.Time
	chaincode string
	answered  string // chaincode named in the answer
	status    int32
	hash      []byte // of the proposal; nil: the right one
	results   *rwset.TxReadWriteSet
	creator   *prooftest.Identity
	signer    *prooftest.Identity // nil: the creator
	endorsers []*prooftest.Identity

	response func([]byte) []byte // changes what endorsers sign
	payload  func([]byte) []byte // changes what the creator signs
	envelope func([]byte) []byte // changes the envelope afterwards
}

// writes is a result that writes one key of a namespace.
func writes(namespace string) *rwset.TxReadWriteSet {
	return &rwset.TxReadWriteSet{NsRwset: []*rwset.NsReadWriteSet{{Namespace: namespace, Rwset: marshal(&kvrwset.KVRWSet{
		Writes: []*kvrwset.KVWrite{{Key: "k", Value: []byte("v")}},
	})}}}
}

// writesPrivately is a result that writes to a collection of the lifecycle.
func writesPrivately(collection string) *rwset.TxReadWriteSet {
	return &rwset.TxReadWriteSet{NsRwset: []*rwset.NsReadWriteSet{{Namespace: lifecycle, CollectionHashedRwset: []*rwset.CollectionHashedReadWriteSet{{
		CollectionName: collection,
		HashedRwset:    marshal(&kvrwset.HashedRWSet{HashedWrites: []*kvrwset.KVWriteHash{{KeyHash: []byte("k"), ValueHash: []byte("v")}}}),
	}}}}}
}

// transaction makes a transaction that is in order but for what change changes.
func (w *world) transaction(change func(*draft)) []byte {
	d := &draft{
		channel: w.Channel, at: prooftest.Epoch, chaincode: "zhenglian", answered: "zhenglian", status: 200,
		results: writes("zhenglian"), creator: w.Departments[0].Client,
	}
	for _, department := range w.Departments[1:] {
		d.endorsers = append(d.endorsers, department.Peer)
	}
	if change != nil {
		change(d)
	}
	same := func(b []byte) []byte { return b }
	for _, f := range []*func([]byte) []byte{&d.response, &d.payload, &d.envelope} {
		if *f == nil {
			*f = same
		}
	}
	header := w.header(d.creator)
	var parsed common.SignatureHeader
	if err := proto.Unmarshal(header, &parsed); err != nil {
		panic(err)
	}
	if d.txID == "" {
		sum := sha256.Sum256(slices.Concat(parsed.GetNonce(), parsed.GetCreator()))
		d.txID = hex.EncodeToString(sum[:])
	}
	channel := marshal(&common.ChannelHeader{
		Type: int32(common.HeaderType_ENDORSER_TRANSACTION), ChannelId: d.channel, TxId: d.txID, Timestamp: timestamppb.New(d.at),
		Extension: marshal(&pb.ChaincodeHeaderExtension{ChaincodeId: &pb.ChaincodeID{Name: "zhenglian"}}),
	})
	proposal := marshal(&pb.ChaincodeProposalPayload{Input: marshal(&pb.ChaincodeInvocationSpec{ChaincodeSpec: &pb.ChaincodeSpec{
		ChaincodeId: &pb.ChaincodeID{Name: d.chaincode}, Input: &pb.ChaincodeInput{Args: [][]byte{[]byte("catalog:Register"), []byte("{}")}},
	}})})
	if d.hash == nil {
		sum := sha256.Sum256(slices.Concat(channel, header, proposal))
		d.hash = sum[:]
	}
	response := d.response(marshal(&pb.ProposalResponsePayload{ProposalHash: d.hash, Extension: marshal(&pb.ChaincodeAction{
		Results: marshal(d.results), Response: &pb.Response{Status: d.status}, ChaincodeId: &pb.ChaincodeID{Name: d.answered},
	})}))
	endorsed := &pb.ChaincodeEndorsedAction{ProposalResponsePayload: response}
	for _, e := range d.endorsers {
		endorsed.Endorsements = append(endorsed.Endorsements, &pb.Endorsement{Endorser: e.Serialized(), Signature: e.Sign(slices.Concat(response, e.Serialized()))})
	}
	payload := d.payload(marshal(&common.Payload{
		Header: &common.Header{ChannelHeader: channel, SignatureHeader: header},
		Data: marshal(&pb.Transaction{Actions: []*pb.TransactionAction{{
			Header: header, Payload: marshal(&pb.ChaincodeActionPayload{ChaincodeProposalPayload: proposal, Action: endorsed}),
		}}}),
	}))
	if d.signer == nil {
		d.signer = d.creator
	}
	return d.envelope(marshal(&common.Envelope{Payload: payload, Signature: d.signer.Sign(payload)}))
}

// signing says how orderers sign a block.
type signing struct {
	signers    []*prooftest.Identity // nil: all orderers
	numbers    []uint32              // nil: each its own
	lastConfig uint64
	codes      []byte // nil: all valid
}

// seal makes the next block.
func (w *world) seal(s *signing, data ...[]byte) *common.Block {
	if s == nil {
		s = &signing{}
	}
	if s.codes == nil {
		s.codes = make([]byte, len(data))
	}
	sum := sha256.Sum256(bytes.Join(data, nil))
	header := &common.BlockHeader{Number: uint64(len(w.blocks)), DataHash: sum[:]}
	if len(w.blocks) > 0 {
		header.PreviousHash = Hash(w.blocks[len(w.blocks)-1])
	}
	b := &common.Block{
		Header: header, Data: &common.BlockData{Data: data},
		Metadata: &common.BlockMetadata{Metadata: make([][]byte, 5)},
	}
	b.Metadata.Metadata[common.BlockMetadataIndex_TRANSACTIONS_FILTER] = s.codes
	b.Metadata.Metadata[common.BlockMetadataIndex_COMMIT_HASH] = fmt.Appendf(nil, "commit %d", header.Number)
	w.sign(b, s)
	return b
}

// sign puts the orderers' signatures on a block.
func (w *world) sign(b *common.Block, s *signing) {
	if s.signers == nil {
		s.signers = w.orderers
	}
	md := &common.Metadata{Value: marshal(&common.OrdererBlockMetadata{LastConfig: &common.LastConfig{Index: s.lastConfig}})}
	for i, signer := range s.signers {
		number := uint32(slices.Index(w.orderers, signer) + 1)
		if s.numbers != nil {
			number = s.numbers[i]
		}
		id := marshal(&common.IdentifierHeader{Identifier: number, Nonce: []byte("nonce")})
		md.Signatures = append(md.Signatures, &common.MetadataSignature{
			IdentifierHeader: id, Signature: signer.Sign(slices.Concat(md.Value, id, headerBytes(b.Header))),
		})
	}
	b.Metadata.Metadata[common.BlockMetadataIndex_SIGNATURES] = marshal(md)
}

// add makes the next block and keeps it.
func (w *world) add(s *signing, data ...[]byte) *common.Block {
	b := w.seal(s, data...)
	w.blocks = append(w.blocks, b)
	return b
}

// blocksSource is a copy in memory.
type blocksSource []*common.Block

func (s blocksSource) Height(context.Context) (uint64, error) { return uint64(len(s)), nil }

func (s blocksSource) Block(_ context.Context, n uint64) (*common.Block, error) {
	if n >= uint64(len(s)) {
		return nil, fmt.Errorf("no block %d", n)
	}
	return s[n], nil
}

func (s blocksSource) Blocks(_ context.Context, from, until uint64, yield func(*common.Block) error) error {
	for n := from; n < until; n++ {
		if err := yield(s[n]); err != nil {
			return err
		}
	}
	return nil
}
