package ledgeraudit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	pb "github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/zhenglian/zhenglian/domain"
)

// queryChaincode is Fabric's own chaincode that answers questions on the chain.
const (
	queryChaincode   = "qscc"
	queryTransaction = "GetTransactionByID"
)

// SignedCode is a signed read of what departments recorded of a transaction:
// qscc's GetTransactionByID, in the bytes that peers signed.
type SignedCode struct {
	Proposal     []byte // peer.Proposal
	Response     []byte // peer.ProposalResponsePayload
	Endorsements []*pb.Endorsement
}

// TransactionID reads the identifier of a transaction that was checked.
func TransactionID(envelope []byte) (domain.TxID, error) {
	_, header, err := openEnvelope(envelope)
	if err != nil {
		return "", err
	}
	return domain.TxID(header.GetTxId()), nil
}

// CheckCode checks a signed read of the validation code of a transaction, given by
// its envelope in the audited copy, and answers the code and the departments whose
// peers signed it.
func (c *Configuration) CheckCode(signed SignedCode, envelope []byte) (code string, by []domain.MSPID, err error) {
	id, err := TransactionID(envelope)
	if err != nil {
		return "", nil, err
	}
	proposal, err := read("proposal", signed.Proposal, &pb.Proposal{})
	if err != nil {
		return "", nil, err
	}
	header, err := read("header", proposal.GetHeader(), &common.Header{})
	if err != nil {
		return "", nil, err
	}
	channel, err := read("channel header", header.GetChannelHeader(), &common.ChannelHeader{})
	if err != nil {
		return "", nil, err
	}
	if err := c.checkQuestion(channel, proposal, id); err != nil {
		return "", nil, err
	}
	response, err := read("response", signed.Response, &pb.ProposalResponsePayload{})
	if err != nil {
		return "", nil, err
	}
	hash := sha256.Sum256(slices.Concat(header.GetChannelHeader(), header.GetSignatureHeader(), proposal.GetPayload()))
	if !bytes.Equal(response.GetProposalHash(), hash[:]) {
		return "", nil, errors.New("the answer belongs to another question")
	}
	result, err := read("chaincode result", response.GetExtension(), &pb.ChaincodeAction{})
	if err != nil {
		return "", nil, err
	}
	if result.GetResponse().GetStatus() != 200 || result.GetChaincodeId().GetName() != queryChaincode {
		return "", nil, errors.New("not a plain answer of " + queryChaincode)
	}
	// A transaction is stored with its code as peers put them together: the envelope
	// inside is compared in its own bytes.
	var processed pb.ProcessedTransaction
	if err := readAny("answer", result.GetResponse().GetPayload(), &processed); err != nil {
		return "", nil, err
	}
	stored, err := read("envelope", envelope, &common.Envelope{})
	if err != nil {
		return "", nil, err
	}
	got := processed.GetTransactionEnvelope()
	if !bytes.Equal(got.GetPayload(), stored.GetPayload()) || !bytes.Equal(got.GetSignature(), stored.GetSignature()) {
		return "", nil, errors.New("the departments hold another transaction under this identifier")
	}
	by, err = c.checkEndorsements(signed.Response, signed.Endorsements, channel.GetTimestamp().AsTime())
	if err != nil {
		return "", nil, err
	}
	return codeName(processed.GetValidationCode()), by, nil
}

// checkQuestion checks that a proposal asks qscc for one transaction of this
// channel.
func (c *Configuration) checkQuestion(channel *common.ChannelHeader, proposal *pb.Proposal, id domain.TxID) error {
	payload, err := read("proposal", proposal.GetPayload(), &pb.ChaincodeProposalPayload{})
	if err != nil {
		return err
	}
	invocation, err := read("invocation", payload.GetInput(), &pb.ChaincodeInvocationSpec{})
	if err != nil {
		return err
	}
	spec := invocation.GetChaincodeSpec()
	args := spec.GetInput().GetArgs()
	if channel.GetChannelId() != c.Channel || spec.GetChaincodeId().GetName() != queryChaincode || len(args) != 3 ||
		string(args[0]) != queryTransaction || string(args[1]) != c.Channel || string(args[2]) != string(id) {
		return errors.New("not the question for this transaction's code")
	}
	return nil
}

// Sample is a transaction whose code is to be confirmed.
type Sample struct {
	Block       uint64
	Transaction int
	Envelope    []byte
	Code        string
}

// Samples picks endorser transactions of a block to be confirmed: those recorded
// as anything but valid, or else the last one.
func Samples(b *common.Block) []Sample {
	var out []Sample
	data := b.GetData().GetData()
	filter := metadata(b, common.BlockMetadataIndex_TRANSACTIONS_FILTER)
	for i, envelope := range data {
		if i >= len(filter) || isConfiguration(envelope) {
			continue
		}
		s := Sample{blockNumber(b), i, envelope, codeName(int32(filter[i]))}
		if s.Code != valid || i == len(data)-1 && len(out) == 0 {
			out = append(out, s)
		}
	}
	return out
}

// Judge compares a signed read with what the audited copy recorded. enough is how
// many departments must have signed.
func (c *Configuration) Judge(s Sample, signed SignedCode, enough int) *Finding {
	code, by, err := c.CheckCode(signed, s.Envelope)
	text := ""
	switch {
	case err != nil:
		text = "signed read of the code: " + err.Error()
	case len(by) < enough:
		text = fmt.Sprintf("%d departments signed the code, %d are required", len(by), enough)
	case code != s.Code:
		text = fmt.Sprintf("recorded as %s, and the departments sign %s", s.Code, code)
	default:
		return nil
	}
	return &Finding{s.Block, s.Transaction, RuleValidationCode, text}
}

// GenesisHash reads a channel's first block as a file (genesis.block) and answers
// its hash in hexadecimal, which is what an auditor pins.
func GenesisHash(file []byte) (string, error) {
	var b common.Block
	if err := readAny("block", file, &b); err != nil {
		return "", err
	}
	if blockNumber(&b) != 0 || b.GetHeader() == nil {
		return "", errors.New("not a first block")
	}
	if err := checkData(&b); err != nil {
		return "", err
	}
	return hex.EncodeToString(Hash(&b)), nil
}
