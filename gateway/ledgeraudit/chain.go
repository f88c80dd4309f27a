package ledgeraudit

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	pb "github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/zhenglian/zhenglian/domain"
)

// StateFormat is the format of [State] as JSON.
const StateFormat = "zhenglian-ledger-audit/1"

// maxFindings is how many findings a state keeps; more are counted.
const maxFindings = 1000

// State is how far an audit has come. It is the auditor's own: whoever can change
// it can skip blocks.
type State struct {
	Format       string         `json:"format"`
	Channel      string         `json:"channel"`
	Genesis      string         `json:"genesis"`      // hash of the first block, hexadecimal
	Next         uint64         `json:"next"`         // the first block that was not checked
	Last         string         `json:"last"`         // hash of the block before it
	Config       uint64         `json:"config"`       // block of the configuration in force
	ConfigHash   string         `json:"configHash"`   // its hash
	Transactions uint64         `json:"transactions"` // in the blocks checked
	Codes        map[string]int `json:"codes"`        // how many of them have each validation code
	Changes      []ConfigChange `json:"changes"`      // of the configuration
	Findings     []Finding      `json:"findings"`     // the first of them
	Found        int            `json:"found"`        // all of them
}

// Chain checks the blocks of a channel in order. It is not safe for concurrent use.
type Chain struct {
	state  State
	config *Configuration
	ended  bool
}

// ErrEnded says that an audit came to a block that nothing can be built upon.
var ErrEnded = errors.New("the chain cannot be followed beyond a block that breaks it")

// New returns an audit that begins with the first block, whose hash is genesis.
func New(channel string, genesis []byte) *Chain {
	return &Chain{state: State{
		Format: StateFormat, Channel: channel, Genesis: hex.EncodeToString(genesis),
		Codes: map[string]int{}, Changes: []ConfigChange{}, Findings: []Finding{},
	}}
}

// Resume returns an audit that goes on from a state. config is the block with the
// configuration in force, as the state names it; it is nil when nothing was checked
// yet.
func Resume(state State, config *common.Block) (*Chain, error) {
	c := &Chain{state: state}
	switch {
	case state.Format != StateFormat:
		return nil, fmt.Errorf("the state has the format %q and not %q", state.Format, StateFormat)
	case state.Codes == nil || state.Next > 0 && config == nil:
		return nil, errors.New("the state is not whole")
	case state.Next == 0:
		return c, nil
	}
	if blockNumber(config) != state.Config || hex.EncodeToString(Hash(config)) != state.ConfigHash {
		return nil, fmt.Errorf("block %d is not the one with the configuration that was checked", state.Config)
	}
	if err := checkData(config); err != nil {
		return nil, fmt.Errorf("block %d: %w", state.Config, err)
	}
	var err error
	c.config, _, err = readConfiguration(config)
	c.ended = slices.ContainsFunc(state.Findings, func(f Finding) bool { return ends[f.Rule] })
	return c, err
}

// State returns how far the audit has come.
func (c *Chain) State() State {
	s := c.state
	s.Findings, s.Changes = slices.Clone(s.Findings), slices.Clone(s.Changes)
	s.Codes = map[string]int{}
	for code, n := range c.state.Codes {
		s.Codes[code] = n
	}
	return s
}

// Configuration returns the configuration in force after the last block checked,
// nil before the first.
func (c *Chain) Configuration() *Configuration { return c.config }

// Add adds findings that were made otherwise than from a block.
func (c *Chain) Add(found ...Finding) {
	c.state.Found += len(found)
	room := max(0, maxFindings-len(c.state.Findings))
	c.state.Findings = append(c.state.Findings, found[:min(room, len(found))]...)
}

// Check checks the next block and answers what is wrong with it. Its error is
// [ErrEnded] once a finding has ended the audit: then no block counts as checked.
func (c *Chain) Check(b *common.Block) ([]Finding, error) {
	if c.ended {
		return nil, ErrEnded
	}
	k := &check{number: c.state.Next, block: b}
	next := c.follow(k)
	c.Add(k.found...)
	if slices.ContainsFunc(k.found, func(f Finding) bool { return ends[f.Rule] }) {
		c.ended = true
		return k.found, nil
	}
	hash := hex.EncodeToString(Hash(b))
	if next != nil {
		c.config = next
		c.state.Config, c.state.ConfigHash = k.number, hash
		if k.change != nil {
			c.state.Changes = append(c.state.Changes, *k.change)
		}
	}
	c.state.Next, c.state.Last = k.number+1, hash
	c.state.Transactions += uint64(len(b.GetData().GetData()))
	for _, code := range k.codes {
		c.state.Codes[code]++
	}
	return k.found, nil
}

// Ended reports whether a finding has ended the audit.
func (c *Chain) Ended() bool { return c.ended }

// check is the check of one block.
type check struct {
	number uint64
	block  *common.Block
	found  []Finding
	codes  []string
	change *ConfigChange
}

func (k *check) add(tx int, rule Rule, err error) {
	if err != nil {
		k.found = append(k.found, Finding{k.number, tx, rule, err.Error()})
	}
}

func (k *check) ends() bool {
	return slices.ContainsFunc(k.found, func(f Finding) bool { return ends[f.Rule] })
}

// follow checks a block on top of those before. It answers the configuration that
// the block sets, nil if it sets none.
func (c *Chain) follow(k *check) *Configuration {
	b := k.block
	if n := blockNumber(b); b.GetHeader() == nil || n != k.number {
		k.add(-1, RuleNumber, fmt.Errorf("the peer gave block %d", n))
		return nil
	}
	if k.number > 0 && hex.EncodeToString(b.GetHeader().GetPreviousHash()) != c.state.Last {
		k.add(-1, RuleLink, errors.New("the header names another block before it"))
		return nil
	}
	if err := checkData(b); err != nil {
		k.add(-1, RuleData, err)
		return nil
	}
	k.readCodes()
	if k.number == 0 {
		return c.first(k)
	}
	if k.checkSignatures(c.config); k.ends() {
		return nil
	}
	return k.checkTransactions(c.config)
}

// first checks the first block, which nobody signs: its hash is what is pinned.
func (c *Chain) first(k *check) *Configuration {
	if hex.EncodeToString(Hash(k.block)) != c.state.Genesis {
		k.add(-1, RuleGenesis, errors.New("not the block that was pinned"))
		return nil
	}
	config, _, err := readConfiguration(k.block)
	if err == nil && config.Channel != c.state.Channel {
		err = fmt.Errorf("the channel is %s", config.Channel)
	}
	k.add(-1, RuleConfiguration, err)
	return config
}

// readCodes reads the peer's verdict on each transaction, by name.
func (k *check) readCodes() {
	n := len(k.block.GetData().GetData())
	filter := metadata(k.block, common.BlockMetadataIndex_TRANSACTIONS_FILTER)
	if len(filter) == 0 && k.number == 0 {
		filter = make([]byte, n) // the first block is given, not validated; 0 is VALID
	}
	if len(filter) != n {
		k.add(-1, RuleValidationCode, fmt.Errorf("%d codes for %d transactions", len(filter), n))
		filter = slices.Concat(filter, slices.Repeat([]byte{byte(pb.TxValidationCode_NOT_VALIDATED)}, n))[:n]
	}
	k.codes = make([]string, n)
	for i, code := range filter {
		k.codes[i] = codeName(int32(code))
	}
}

func codeName(code int32) string {
	if name, ok := pb.TxValidationCode_name[code]; ok {
		return name
	}
	return strconv.Itoa(int(code))
}

var valid = pb.TxValidationCode_VALID.String()

// checkSignatures checks what orderers signed, and that enough of them did.
func (k *check) checkSignatures(config *Configuration) {
	signers, lastConfig, err := config.blockSigners(k.block, func(err error) { k.add(-1, RuleSignature, err) })
	if err != nil {
		k.add(-1, RuleQuorum, err)
		return
	}
	if len(signers) < config.Quorum() {
		k.add(-1, RuleQuorum, fmt.Errorf("%d of %d orderers signed, %d are required", len(signers), len(config.consenters), config.Quorum()))
	}
	// A configuration's block is already in force for itself.
	if lastConfig != config.Block && lastConfig != k.number {
		k.add(-1, RuleMetadata, fmt.Errorf("the configuration in force is that of block %d and not of block %d", config.Block, lastConfig))
	}
}

// blockSigners answers the numbers of the orderers whose signatures on a block
// hold, sorted, and the configuration's block that they signed. It tells object of
// each signature that does not hold.
func (c *Configuration) blockSigners(b *common.Block, object func(error)) (signers []uint32, lastConfig uint64, err error) {
	md, err := read("signatures", metadata(b, common.BlockMetadataIndex_SIGNATURES), &common.Metadata{})
	if err != nil {
		return nil, 0, err
	}
	signed, err := read("signed metadata", md.GetValue(), &common.OrdererBlockMetadata{})
	if err != nil {
		return nil, 0, err
	}
	for _, s := range md.GetSignatures() {
		header, err := read("identifier of a signature", s.GetIdentifierHeader(), &common.IdentifierHeader{})
		if err != nil {
			object(err)
			continue
		}
		orderer, known := c.consenters[header.GetIdentifier()]
		switch {
		case len(s.GetSignatureHeader()) > 0:
			object(errors.New("a signature under a certificate and not under a number"))
		case !known:
			object(fmt.Errorf("a signature of orderer %d, which there is not", header.GetIdentifier()))
		case slices.Contains(signers, header.GetIdentifier()):
			object(fmt.Errorf("two signatures of orderer %d", header.GetIdentifier()))
		default:
			if err := checkSignature(orderer.key, s.GetSignature(), md.GetValue(), s.GetIdentifierHeader(), headerBytes(b.GetHeader())); err != nil {
				object(fmt.Errorf("signature of orderer %d of %s: %w", header.GetIdentifier(), orderer.mspID, err))
				continue
			}
			signers = append(signers, header.GetIdentifier())
		}
	}
	slices.Sort(signers)
	return signers, signed.GetLastConfig().GetIndex(), nil
}

// checkTransactions checks every transaction. It answers the configuration that
// the block sets, nil if it sets none.
func (k *check) checkTransactions(config *Configuration) *Configuration {
	data := k.block.GetData().GetData()
	var next *Configuration
	for i, raw := range data {
		envelope, err := checkEnvelope(raw)
		if err != nil {
			k.add(i, RuleEnvelope, err)
			continue
		}
		if isConfiguration(raw) {
			if next, err = k.checkConfiguration(config, envelope); err != nil {
				k.add(i, RuleConfiguration, err)
			}
			continue
		}
		k.judge(i, config.checkTransaction(envelope))
	}
	return next
}

func isConfiguration(raw []byte) bool {
	_, header, err := openEnvelope(raw)
	return err == nil && header.GetType() == int32(common.HeaderType_CONFIG)
}

// formCodes are the validation codes that follow from the transaction alone, so
// that a transaction without fault cannot have them.
var formCodes = []pb.TxValidationCode{
	pb.TxValidationCode_NIL_ENVELOPE, pb.TxValidationCode_BAD_PAYLOAD, pb.TxValidationCode_BAD_COMMON_HEADER,
	pb.TxValidationCode_BAD_CREATOR_SIGNATURE, pb.TxValidationCode_INVALID_ENDORSER_TRANSACTION, pb.TxValidationCode_UNSUPPORTED_TX_PAYLOAD,
	pb.TxValidationCode_BAD_PROPOSAL_TXID, pb.TxValidationCode_UNKNOWN_TX_TYPE, pb.TxValidationCode_TARGET_CHAIN_NOT_FOUND,
	pb.TxValidationCode_MARSHAL_TX_ERROR, pb.TxValidationCode_NIL_TXACTION, pb.TxValidationCode_BAD_HEADER_EXTENSION,
	pb.TxValidationCode_BAD_CHANNEL_HEADER, pb.TxValidationCode_BAD_RESPONSE_PAYLOAD, pb.TxValidationCode_BAD_RWSET,
	pb.TxValidationCode_NOT_VALIDATED,
}

// judge compares what is wrong with a transaction with what the peer recorded.
func (k *check) judge(tx int, wrong error) {
	code := k.codes[tx]
	var broken *breach
	switch {
	case wrong == nil && slices.ContainsFunc(formCodes, func(c pb.TxValidationCode) bool { return c.String() == code }):
		k.add(tx, RuleValidationCode, fmt.Errorf("recorded as %s, and nothing of the kind is wrong with it", code))
	case wrong != nil && code == valid && errors.As(wrong, &broken):
		k.add(tx, broken.rule, fmt.Errorf("recorded as valid, but %w", broken.error))
	}
}

// checkConfiguration checks a block that sets a configuration.
func (k *check) checkConfiguration(before *Configuration, envelope *common.Envelope) (*Configuration, error) {
	next, config, err := readConfiguration(k.block)
	switch {
	case err != nil:
		return nil, err
	case next.Channel != before.Channel:
		return nil, errors.New("the configuration is of another channel")
	case next.Sequence != before.Sequence+1:
		return nil, fmt.Errorf("configuration %d follows configuration %d", next.Sequence, before.Sequence)
	case k.codes[0] != valid:
		return nil, fmt.Errorf("a configuration recorded as %s", k.codes[0])
	}
	payload, err := read("payload", envelope.GetPayload(), &common.Payload{})
	if err != nil {
		return nil, err
	}
	header, err := read("signature header", payload.GetHeader().GetSignatureHeader(), &common.SignatureHeader{})
	if err != nil {
		return nil, err
	}
	creator, err := before.identify(header.GetCreator(), noTime)
	if err != nil {
		return nil, err
	}
	if err := creator.signed(envelope.GetSignature(), envelope.GetPayload()); err != nil {
		return nil, err
	}
	signers, err := checkUpdate(before, config)
	if err != nil {
		return nil, err
	}
	k.change = &ConfigChange{Block: k.number, Sequence: next.Sequence, SignedBy: signers}
	return next, nil
}

// sameFilter reports whether two departments recorded the same validation codes.
func sameFilter(a, b *common.Block) bool {
	return bytes.Equal(metadata(a, common.BlockMetadataIndex_TRANSACTIONS_FILTER), metadata(b, common.BlockMetadataIndex_TRANSACTIONS_FILTER))
}

// ordererNames are the departments of orderers by their numbers.
func (c *Configuration) ordererNames(numbers []uint32) []domain.MSPID {
	out := []domain.MSPID{}
	for _, n := range numbers {
		out = append(out, c.consenters[n].mspID)
	}
	slices.Sort(out)
	return out
}
