package ledgeraudit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	pb "github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/zhenglian/zhenglian/domain"
)

// noTime asks for no time in [Configuration.identify].
var noTime time.Time

// lifecycle is Fabric's own chaincode that defines the others. What one department
// approves for itself goes to a collection of its own, which it endorses alone.
const (
	lifecycle          = "_lifecycle"
	implicitCollection = "_implicit_org_"
)

// breach is an error with the rule that it breaks.
type breach struct {
	rule Rule
	error
}

func breaks(rule Rule, err error) error {
	if err == nil {
		return nil
	}
	return &breach{rule, err}
}

// checkEnvelope checks that the bytes of a transaction have one spelling and
// answers its payload. It is asked of every transaction, whatever the peers made
// of it: only thus does the data hash say where one transaction ends.
func checkEnvelope(raw []byte) (*common.Envelope, error) {
	envelope, err := read("envelope", raw, &common.Envelope{})
	switch {
	case err != nil:
		return nil, err
	case len(envelope.GetPayload()) == 0:
		return nil, errors.New("an envelope without payload")
	case len(envelope.GetSignature()) == 0:
		return nil, errors.New("an envelope without signature")
	}
	return envelope, nil
}

// openEnvelope reads the payload and the channel header of an envelope that may be
// the one of the first block, which nobody signed.
func openEnvelope(raw []byte) (*common.Payload, *common.ChannelHeader, error) {
	envelope, err := read("envelope", raw, &common.Envelope{})
	if err != nil {
		return nil, nil, err
	}
	payload, err := read("payload", envelope.GetPayload(), &common.Payload{})
	if err != nil {
		return nil, nil, err
	}
	header, err := read("channel header", payload.GetHeader().GetChannelHeader(), &common.ChannelHeader{})
	if err != nil {
		return nil, nil, err
	}
	return payload, header, nil
}

// checkTransaction checks an endorser transaction of a channel with this
// configuration. It answers the first thing that is wrong, a [*breach].
func (c *Configuration) checkTransaction(envelope *common.Envelope) error {
	payload, err := read("payload", envelope.GetPayload(), &common.Payload{})
	if err != nil {
		return breaks(RuleEnvelope, err)
	}
	channel, err := read("channel header", payload.GetHeader().GetChannelHeader(), &common.ChannelHeader{})
	if err != nil {
		return breaks(RuleEnvelope, err)
	}
	at, err := c.checkHeader(envelope, payload, channel)
	if err != nil {
		return err
	}
	tx, err := read("transaction", payload.GetData(), &pb.Transaction{})
	switch {
	case err != nil:
		return breaks(RuleEnvelope, err)
	case len(tx.GetActions()) != 1:
		return breaks(RuleTransaction, fmt.Errorf("%d actions, not 1", len(tx.GetActions())))
	case !bytes.Equal(tx.GetActions()[0].GetHeader(), payload.GetHeader().GetSignatureHeader()):
		return breaks(RuleTransaction, errors.New("the action has another signature header"))
	}
	action, err := read("chaincode action", tx.GetActions()[0].GetPayload(), &pb.ChaincodeActionPayload{})
	if err != nil {
		return breaks(RuleEnvelope, err)
	}
	result, err := checkProposal(payload.GetHeader(), channel, action)
	if err != nil {
		return err
	}
	writers, err := c.whoMustEndorse(result)
	if err != nil {
		return err
	}
	endorsers, err := c.checkEndorsements(action.GetAction().GetProposalResponsePayload(), action.GetAction().GetEndorsements(), at)
	if err != nil {
		return breaks(RuleEndorsement, err)
	}
	return breaks(RuleEndorsement, writers.met(endorsers))
}

// checkHeader checks whose transaction it is, and answers when that says it was
// made.
func (c *Configuration) checkHeader(envelope *common.Envelope, payload *common.Payload, channel *common.ChannelHeader) (time.Time, error) {
	signature, err := read("signature header", payload.GetHeader().GetSignatureHeader(), &common.SignatureHeader{})
	if err != nil {
		return noTime, breaks(RuleEnvelope, err)
	}
	id := sha256.Sum256(slices.Concat(signature.GetNonce(), signature.GetCreator()))
	switch {
	case channel.GetType() != int32(common.HeaderType_ENDORSER_TRANSACTION):
		return noTime, breaks(RuleTransaction, fmt.Errorf("a transaction of type %d", channel.GetType()))
	case channel.GetChannelId() != c.Channel:
		return noTime, breaks(RuleTransaction, errors.New("a transaction for another channel"))
	case channel.GetEpoch() != 0:
		return noTime, breaks(RuleTransaction, errors.New("a transaction of another epoch"))
	case len(signature.GetNonce()) == 0 || channel.GetTxId() != hex.EncodeToString(id[:]):
		return noTime, breaks(RuleTransaction, errors.New("the identifier is not that of nonce and creator"))
	case !channel.GetTimestamp().IsValid():
		return noTime, breaks(RuleTransaction, errors.New("the time is no time"))
	}
	at := channel.GetTimestamp().AsTime()
	creator, err := c.identify(signature.GetCreator(), at)
	if err != nil {
		return noTime, breaks(RuleCreator, err)
	}
	return at, breaks(RuleCreator, creator.signed(envelope.GetSignature(), envelope.GetPayload()))
}

// checkProposal checks that the endorsed result answers the proposal in the
// transaction, and answers the result.
func checkProposal(header *common.Header, channel *common.ChannelHeader, action *pb.ChaincodeActionPayload) (*pb.ChaincodeAction, error) {
	extension, err := read("chaincode header extension", channel.GetExtension(), &pb.ChaincodeHeaderExtension{})
	if err != nil {
		return nil, breaks(RuleEnvelope, err)
	}
	proposal, err := read("proposal", action.GetChaincodeProposalPayload(), &pb.ChaincodeProposalPayload{})
	if err != nil {
		return nil, breaks(RuleEnvelope, err)
	}
	if len(proposal.GetTransientMap()) > 0 {
		return nil, breaks(RuleTransaction, errors.New("transient data on the ledger"))
	}
	invocation, err := read("invocation", proposal.GetInput(), &pb.ChaincodeInvocationSpec{})
	if err != nil {
		return nil, breaks(RuleEnvelope, err)
	}
	response, err := read("response", action.GetAction().GetProposalResponsePayload(), &pb.ProposalResponsePayload{})
	if err != nil {
		return nil, breaks(RuleEnvelope, err)
	}
	hash := sha256.Sum256(slices.Concat(header.GetChannelHeader(), header.GetSignatureHeader(), action.GetChaincodeProposalPayload()))
	if !bytes.Equal(response.GetProposalHash(), hash[:]) {
		return nil, breaks(RuleTransaction, errors.New("the endorsed answer belongs to another proposal"))
	}
	result, err := read("chaincode result", response.GetExtension(), &pb.ChaincodeAction{})
	if err != nil {
		return nil, breaks(RuleEnvelope, err)
	}
	name := extension.GetChaincodeId().GetName()
	switch {
	case name == "" || name != invocation.GetChaincodeSpec().GetChaincodeId().GetName() || name != result.GetChaincodeId().GetName():
		return nil, breaks(RuleTransaction, errors.New("header, invocation and answer name different chaincodes"))
	case result.GetResponse().GetStatus() < 200 || result.GetResponse().GetStatus() >= 400:
		return nil, breaks(RuleTransaction, fmt.Errorf("the endorsed answer has status %d", result.GetResponse().GetStatus()))
	}
	return result, nil
}

// endorsers say whose endorsements a transaction needs.
type endorsers struct {
	majority int            // so many departments; 0 when it writes nothing that all share
	each     []domain.MSPID // each of these
}

func (e endorsers) met(by []domain.MSPID) error {
	if len(by) == 0 || len(by) < e.majority {
		return fmt.Errorf("%d departments endorsed, %d are required", len(by), max(1, e.majority))
	}
	for _, id := range e.each {
		if !slices.Contains(by, id) {
			return fmt.Errorf("no endorsement of %s, for which it writes", id)
		}
	}
	return nil
}

// whoMustEndorse follows from what the transaction writes: a majority, but for what
// a department keeps to itself.
func (c *Configuration) whoMustEndorse(result *pb.ChaincodeAction) (endorsers, error) {
	set, err := read("read-write set", result.GetResults(), &rwset.TxReadWriteSet{})
	if err != nil {
		return endorsers{}, breaks(RuleEnvelope, err)
	}
	var need endorsers
	wrote := false
	for _, ns := range set.GetNsRwset() {
		keys, err := read("key-value set", ns.GetRwset(), &kvrwset.KVRWSet{})
		if err != nil {
			return endorsers{}, breaks(RuleEnvelope, err)
		}
		if len(keys.GetWrites())+len(keys.GetMetadataWrites()) > 0 {
			need.majority, wrote = c.Majority(), true
		}
		for _, collection := range ns.GetCollectionHashedRwset() {
			hashed, err := read("private data hashes", collection.GetHashedRwset(), &kvrwset.HashedRWSet{})
			if err != nil {
				return endorsers{}, breaks(RuleEnvelope, err)
			}
			if len(hashed.GetHashedWrites())+len(hashed.GetMetadataWrites()) == 0 {
				continue
			}
			wrote = true
			owner, own := strings.CutPrefix(collection.GetCollectionName(), implicitCollection)
			if ns.GetNamespace() == lifecycle && own {
				need.each = append(need.each, domain.MSPID(owner))
			} else {
				need.majority = c.Majority()
			}
		}
	}
	if !wrote {
		need.majority = c.Majority() // an answer that was only recorded
	}
	return need, nil
}

// checkEndorsements checks every endorsement of a response and answers the
// departments whose peers made them, sorted.
func (c *Configuration) checkEndorsements(response []byte, endorsements []*pb.Endorsement, at time.Time) ([]domain.MSPID, error) {
	var out []domain.MSPID
	for _, e := range endorsements {
		id, err := c.identify(e.GetEndorser(), at)
		if err != nil {
			return nil, err
		}
		if id.role != rolePeer || !slices.Contains(c.application, id.mspID) {
			return nil, fmt.Errorf("an endorsement by %s, not by one of its peers", id.mspID)
		}
		if err := id.signed(e.GetSignature(), response, e.GetEndorser()); err != nil {
			return nil, err
		}
		out = append(out, id.mspID)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
