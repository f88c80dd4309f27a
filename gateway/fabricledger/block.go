package fabricledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	pb "github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/zhenglian/zhenglian/domain"
)

// decodeBlock turns a block into the words of the domain. consenters names the
// department of each orderer by its number.
//
// It trusts nothing in the block: what cannot be read is an error. A transaction
// that the peer found invalid may hold anything, since orderers do not look
// inside; of such a one it keeps what can be read.
func decodeBlock(b *common.Block, consenters map[uint32]domain.MSPID) (domain.Block, error) {
	header := b.GetHeader()
	if header == nil {
		return domain.Block{}, errors.New("block without header")
	}
	block, err := decode(b, consenters)
	if err != nil {
		return domain.Block{}, fmt.Errorf("block %d: %w", header.GetNumber(), err)
	}
	return block, nil
}

func decode(b *common.Block, consenters map[uint32]domain.MSPID) (domain.Block, error) {
	header, data := b.GetHeader(), b.GetData().GetData()
	if len(data) == 0 {
		return domain.Block{}, errors.New("no transactions")
	}
	dataHash := sha256.New()
	for _, envelope := range data {
		dataHash.Write(envelope)
	}
	if !bytes.Equal(dataHash.Sum(nil), header.GetDataHash()) {
		return domain.Block{}, errors.New("the data does not have the hash in the header")
	}
	hash, err := headerHash(header)
	if err != nil {
		return domain.Block{}, err
	}
	codes, err := validationCodes(b)
	if err != nil {
		return domain.Block{}, err
	}
	signers, err := blockSigners(b, consenters)
	if err != nil {
		return domain.Block{}, err
	}
	block := domain.Block{
		Number:       header.GetNumber(),
		Hash:         hash,
		PreviousHash: hex.EncodeToString(header.GetPreviousHash()),
		DataHash:     hex.EncodeToString(header.GetDataHash()),
		Signers:      signers,
		Transactions: make([]domain.Transaction, len(data)),
	}
	for i, envelope := range data {
		tx := domain.Transaction{Arguments: []string{}, Writes: []domain.Write{}, Endorsers: []domain.MSPID{}, ValidationCode: codes[i]}
		if err := decodeEnvelope(&tx, envelope); err != nil && tx.Valid() {
			return domain.Block{}, fmt.Errorf("transaction %d: %w", i, err)
		}
		block.Transactions[i] = tx
	}
	return block, nil
}

// headerHash is what the next block names as its previous hash: SHA-256 over the
// ASN.1 sequence of number, previous hash and data hash (fabric
// protoutil/blockutils.go).
func headerHash(h *common.BlockHeader) (string, error) {
	encoded, err := asn1.Marshal(struct {
		Number       *big.Int
		PreviousHash []byte
		DataHash     []byte
	}{new(big.Int).SetUint64(h.GetNumber()), h.GetPreviousHash(), h.GetDataHash()})
	if err != nil {
		return "", fmt.Errorf("encode header: %w", err)
	}
	return domain.Digest(encoded), nil
}

// metadata returns one slot of the block's metadata, nil when it is missing.
func metadata(b *common.Block, index common.BlockMetadataIndex) []byte {
	slots := b.GetMetadata().GetMetadata()
	if int(index) >= len(slots) {
		return nil
	}
	return slots[index]
}

// validationCodes returns the peer's verdict on each transaction, by name.
func validationCodes(b *common.Block) ([]string, error) {
	n := len(b.GetData().GetData())
	filter := metadata(b, common.BlockMetadataIndex_TRANSACTIONS_FILTER)
	if len(filter) == 0 && b.GetHeader().GetNumber() == 0 {
		filter = make([]byte, n) // the genesis block is not validated, it is given; 0 is VALID
	}
	if len(filter) != n {
		return nil, fmt.Errorf("%d validation codes for %d transactions", len(filter), n)
	}
	codes := make([]string, n)
	for i, code := range filter {
		name, ok := pb.TxValidationCode_name[int32(code)]
		if !ok {
			name = strconv.Itoa(int(code))
		}
		codes[i] = name
	}
	return codes, nil
}

// signatures reads the orderers' signatures and what they signed beside the
// header. Both are nil when there are none.
func signatures(b *common.Block) (*common.Metadata, *common.OrdererBlockMetadata, error) {
	slot := metadata(b, common.BlockMetadataIndex_SIGNATURES)
	if len(slot) == 0 {
		return nil, nil, nil
	}
	md := &common.Metadata{}
	if err := proto.Unmarshal(slot, md); err != nil {
		return nil, nil, fmt.Errorf("read signatures: %w", err)
	}
	signed := &common.OrdererBlockMetadata{}
	if err := proto.Unmarshal(md.GetValue(), signed); err != nil {
		return nil, nil, fmt.Errorf("read signed metadata: %w", err)
	}
	return md, signed, nil
}

// blockSigners returns the departments whose orderers signed, sorted. A BFT
// orderer signs under its number, another under its certificate. A number that
// consenters does not hold counts for nobody, as in Fabric.
func blockSigners(b *common.Block, consenters map[uint32]domain.MSPID) ([]domain.MSPID, error) {
	signers := []domain.MSPID{}
	md, _, err := signatures(b)
	if err != nil {
		return nil, err
	}
	for _, s := range md.GetSignatures() {
		if len(s.GetSignatureHeader()) == 0 && len(s.GetIdentifierHeader()) > 0 {
			var id common.IdentifierHeader
			if err := proto.Unmarshal(s.GetIdentifierHeader(), &id); err != nil {
				return nil, fmt.Errorf("read identifier of a signature: %w", err)
			}
			if mspID, ok := consenters[id.GetIdentifier()]; ok {
				signers = append(signers, mspID)
			}
			continue
		}
		var h common.SignatureHeader
		if err := proto.Unmarshal(s.GetSignatureHeader(), &h); err != nil {
			return nil, fmt.Errorf("read header of a signature: %w", err)
		}
		mspID, err := mspIDOf(h.GetCreator())
		if err != nil {
			return nil, err
		}
		signers = append(signers, mspID)
	}
	slices.Sort(signers)
	return slices.Compact(signers), nil
}

// lastConfig returns the number of the configuration block in force for b,
// according to its signed metadata.
func lastConfig(b *common.Block) (uint64, error) {
	_, signed, err := signatures(b)
	if err != nil {
		return 0, err
	}
	return signed.GetLastConfig().GetIndex(), nil
}

// readConsenters returns the departments of the orderers by number, as the
// channel configuration in block b names them; none when b holds no
// configuration. Orderers other than BFT ones have no number.
func readConsenters(b *common.Block) (map[uint32]domain.MSPID, error) {
	data := b.GetData().GetData()
	if len(data) != 1 {
		return nil, fmt.Errorf("configuration block %d holds %d transactions", b.GetHeader().GetNumber(), len(data))
	}
	payload, channelHeader, err := openEnvelope(data[0])
	if err != nil {
		return nil, err
	}
	if channelHeader.GetType() != int32(common.HeaderType_CONFIG) {
		return nil, fmt.Errorf("block %d holds no configuration", b.GetHeader().GetNumber())
	}
	var config common.ConfigEnvelope
	if err := proto.Unmarshal(payload.GetData(), &config); err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	value := config.GetConfig().GetChannelGroup().GetGroups()["Orderer"].GetValues()["Orderers"].GetValue()
	var orderers common.Orderers
	if err := proto.Unmarshal(value, &orderers); err != nil {
		return nil, fmt.Errorf("read orderers: %w", err)
	}
	consenters := make(map[uint32]domain.MSPID)
	for _, c := range orderers.GetConsenterMapping() {
		consenters[c.GetId()] = domain.MSPID(c.GetMspId())
	}
	return consenters, nil
}

func openEnvelope(raw []byte) (*common.Payload, *common.ChannelHeader, error) {
	envelope := &common.Envelope{}
	content, err := open(raw, 1, envelope, envelope.GetPayload)
	if err != nil {
		return nil, nil, fmt.Errorf("read envelope: %w", err)
	}
	payload := &common.Payload{}
	if payload.Data, err = open(content, 2, payload, payload.GetData); err != nil {
		return nil, nil, fmt.Errorf("read payload: %w", err)
	}
	channelHeader := &common.ChannelHeader{}
	if err := proto.Unmarshal(payload.GetHeader().GetChannelHeader(), channelHeader); err != nil {
		return nil, nil, fmt.Errorf("read channel header: %w", err)
	}
	return payload, channelHeader, nil
}

// open reads the message m and answers its field number, of type bytes, which get reads
// from m. What a transaction wrote stands eight messages deep, and reading protobuf
// copies every one of them: the field is left where it is unless it stands there
// in another way than once.
func open(data []byte, number protowire.Number, m proto.Message, get func() []byte) ([]byte, error) {
	field, rest, ok := detach(data, number)
	if ok {
		return field, proto.Unmarshal(rest, m)
	}
	err := proto.Unmarshal(data, m)
	return get(), err
}

// detach splits the bytes of a message into a field of bytes that it has once, and the
// rest of the message; ok is false when it has it in another way or not at all.
func detach(data []byte, number protowire.Number) (field, rest []byte, ok bool) {
	from, to := 0, 0 // of the field, with its tag
	for at := 0; at < len(data); {
		n, wire, tag := protowire.ConsumeTag(data[at:])
		if tag < 0 {
			return nil, nil, false
		}
		length := protowire.ConsumeFieldValue(n, wire, data[at+tag:])
		if length < 0 {
			return nil, nil, false
		}
		end := at + tag + length
		if n == number {
			if to > 0 || wire != protowire.BytesType {
				return nil, nil, false
			}
			field, _ = protowire.ConsumeBytes(data[at+tag : end])
			from, to = at, end
		}
		at = end
	}
	return field, slices.Concat(data[:from], data[to:]), to > 0
}

// decodeEnvelope fills in tx as far as it can read the envelope.
func decodeEnvelope(tx *domain.Transaction, raw []byte) error {
	payload, channelHeader, err := openEnvelope(raw)
	if err != nil {
		return err
	}
	tx.ID = domain.TxID(channelHeader.GetTxId())
	if ts := channelHeader.GetTimestamp(); ts.IsValid() {
		tx.Time = ts.AsTime()
	} else if ts != nil {
		return errors.New("the time in the channel header is no time")
	}
	var signatureHeader common.SignatureHeader
	if err := proto.Unmarshal(payload.GetHeader().GetSignatureHeader(), &signatureHeader); err != nil {
		return fmt.Errorf("read signature header: %w", err)
	}
	if tx.Creator, err = mspIDOf(signatureHeader.GetCreator()); err != nil {
		return fmt.Errorf("read creator: %w", err)
	}
	switch kind := common.HeaderType(channelHeader.GetType()); kind {
	case common.HeaderType_ENDORSER_TRANSACTION:
		tx.Type = "endorser"
		return decodeEndorserTransaction(tx, payload.GetData())
	case common.HeaderType_CONFIG:
		tx.Type = "config"
		return nil
	default:
		tx.Type = strconv.Itoa(int(kind))
		return nil
	}
}

func decodeEndorserTransaction(tx *domain.Transaction, data []byte) error {
	action, err := endorsedAction(data)
	if err != nil {
		return err
	}
	var proposal pb.ChaincodeProposalPayload
	if err := proto.Unmarshal(action.GetChaincodeProposalPayload(), &proposal); err != nil {
		return fmt.Errorf("read proposal: %w", err)
	}
	var invocation pb.ChaincodeInvocationSpec
	if err := proto.Unmarshal(proposal.GetInput(), &invocation); err != nil {
		return fmt.Errorf("read invocation: %w", err)
	}
	spec := invocation.GetChaincodeSpec()
	tx.Chaincode = spec.GetChaincodeId().GetName()
	if args := spec.GetInput().GetArgs(); len(args) > 0 {
		name := text(string(args[0]))
		var qualified bool
		if tx.Contract, tx.Name, qualified = strings.Cut(name, ":"); !qualified {
			tx.Contract, tx.Name = "", name
		}
		for _, arg := range args[1:] {
			tx.Arguments = append(tx.Arguments, text(string(arg)))
		}
	}
	for _, e := range action.GetAction().GetEndorsements() {
		mspID, err := mspIDOf(e.GetEndorser())
		if err != nil {
			return fmt.Errorf("read endorser: %w", err)
		}
		tx.Endorsers = append(tx.Endorsers, mspID)
	}
	slices.Sort(tx.Endorsers)
	tx.Endorsers = slices.Compact(tx.Endorsers)
	return decodeWrites(tx, action.GetAction().GetProposalResponsePayload())
}

// decodeWrites reads what the transaction wrote to its own chaincode's
// namespace, as the keys hold it: see [domain.TellCatalog].
func decodeWrites(tx *domain.Transaction, response []byte) error {
	payload, action := &pb.ProposalResponsePayload{}, &pb.ChaincodeAction{}
	extension, err := open(response, 2, payload, payload.GetExtension)
	if err != nil {
		return fmt.Errorf("read response: %w", err)
	}
	written, err := open(extension, 1, action, action.GetResults)
	if err != nil {
		return fmt.Errorf("read chaincode action: %w", err)
	}
	var results rwset.TxReadWriteSet
	if err := proto.Unmarshal(written, &results); err != nil {
		return fmt.Errorf("read results: %w", err)
	}
	for _, ns := range results.GetNsRwset() {
		if ns.GetNamespace() != tx.Chaincode {
			continue
		}
		var set kvrwset.KVRWSet
		if err := proto.Unmarshal(ns.GetRwset(), &set); err != nil {
			return fmt.Errorf("read writes to %s: %w", tx.Chaincode, err)
		}
		for _, w := range set.GetWrites() {
			tx.Writes = append(tx.Writes, domain.Write{Key: key(w.GetKey()), Value: w.GetValue(), Delete: w.GetIsDelete()})
		}
	}
	return nil
}

// key shows a composite key of Fabric, U+0000 type U+0000 part U+0000 …, as
// "type~part~…" and leaves any other key as it is.
func key(k string) string {
	parts, composite := strings.CutPrefix(k, "\x00")
	if !composite {
		return k
	}
	return strings.ReplaceAll(strings.TrimSuffix(parts, "\x00"), "\x00", "~")
}

// text returns s if it is text, and its bytes in hexadecimal after "0x" if not,
// as in the arguments of Fabric's own chaincodes.
func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return "0x" + hex.EncodeToString([]byte(s))
}
