package ledgeraudit

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/protobuf/proto"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
)

// Configuration is a channel's configuration as far as an audit needs it.
type Configuration struct {
	Channel  string
	Block    uint64 // that holds it
	Sequence uint64

	members     map[domain.MSPID]*member
	application []domain.MSPID // sorted: whose peers endorse
	consenters  map[uint32]consenter
}

// consenter is an orderer by its number.
type consenter struct {
	mspID domain.MSPID
	key   *ecdsa.PublicKey
}

// ConfigChange is a change of a channel's configuration.
type ConfigChange struct {
	Block    uint64         `json:"block"`
	Sequence uint64         `json:"sequence"`
	SignedBy []domain.MSPID `json:"signedBy"` // departments whose administrators signed it, sorted
}

// readConfiguration reads the configuration in a block.
func readConfiguration(b *common.Block) (*Configuration, *common.ConfigEnvelope, error) {
	data := b.GetData().GetData()
	if len(data) != 1 {
		return nil, nil, fmt.Errorf("a configuration among %d transactions", len(data))
	}
	payload, header, err := openEnvelope(data[0])
	if err != nil {
		return nil, nil, err
	}
	if header.GetType() != int32(common.HeaderType_CONFIG) {
		return nil, nil, errors.New("no configuration")
	}
	var envelope common.ConfigEnvelope
	if err := readAny("configuration", payload.GetData(), &envelope); err != nil {
		return nil, nil, err
	}
	root := envelope.GetConfig().GetChannelGroup()
	c := &Configuration{
		Channel: header.GetChannelId(), Block: blockNumber(b), Sequence: envelope.GetConfig().GetSequence(),
		members: map[domain.MSPID]*member{}, consenters: map[uint32]consenter{},
	}
	for _, group := range []string{"Application", "Orderer"} {
		organisations := root.GetGroups()[group].GetGroups()
		for _, name := range slices.Sorted(maps.Keys(organisations)) {
			m, err := readMSP(organisations[name])
			if err != nil {
				return nil, nil, fmt.Errorf("%s of the %s group: %w", name, group, err)
			}
			if group == "Application" {
				c.application = append(c.application, m.id)
			}
			if _, ok := c.members[m.id]; !ok {
				c.members[m.id] = m
			}
		}
	}
	slices.Sort(c.application)
	if len(slices.Compact(slices.Clone(c.application))) != len(c.application) || len(c.application) == 0 {
		return nil, nil, errors.New("no departments, or one twice")
	}
	return c, &envelope, c.readConsenters(root.GetGroups()["Orderer"].GetValues()["Orderers"].GetValue())
}

func readMSP(group *common.ConfigGroup) (*member, error) {
	var outer msp.MSPConfig
	if err := readAny("MSP", group.GetValues()["MSP"].GetValue(), &outer); err != nil {
		return nil, err
	}
	var config msp.FabricMSPConfig
	if err := readAny("MSP", outer.GetConfig(), &config); err != nil {
		return nil, err
	}
	return newMember(&config)
}

func (c *Configuration) readConsenters(value []byte) error {
	var orderers common.Orderers
	if err := readAny("orderers", value, &orderers); err != nil {
		return err
	}
	for _, o := range orderers.GetConsenterMapping() {
		m, ok := c.members[domain.MSPID(o.GetMspId())]
		if !ok {
			return fmt.Errorf("orderer %d is of no member of the channel", o.GetId())
		}
		id, err := m.identify(o.GetIdentity())
		if err != nil {
			return fmt.Errorf("orderer %d of %s: %w", o.GetId(), m.id, err)
		}
		if _, twice := c.consenters[o.GetId()]; twice {
			return fmt.Errorf("orderer %d is named twice", o.GetId())
		}
		c.consenters[o.GetId()] = consenter{m.id, id.key}
	}
	if len(c.consenters) == 0 {
		return errors.New("no orderers with numbers: not a BFT channel")
	}
	return nil
}

// Quorum is how many orderers must have signed a block: ⌈(n+f+1)/2⌉ of n, where f
// is the number of faulty ones that n tolerate (fabric policies.ComputeBFTQuorum).
func (c *Configuration) Quorum() int {
	n := len(c.consenters)
	f := (n - 1) / 3
	return (n + f + 2) / 2
}

// Majority is how many departments' peers must have endorsed a transaction.
func (c *Configuration) Majority() int { return len(c.application)/2 + 1 }

// CheckTrust compares the departments and their authorities with a trust file.
func (c *Configuration) CheckTrust(anchors *proof.Anchors) []Finding {
	var found []Finding
	add := func(format string, args ...any) {
		found = append(found, Finding{c.Block, -1, RuleTrust, fmt.Sprintf(format, args...)})
	}
	if anchors.Channel != c.Channel {
		add("the channel is %s, the trust file is about %s", c.Channel, anchors.Channel)
	}
	left := slices.Clone(c.application)
	for _, d := range anchors.Departments {
		i := slices.Index(left, d.MSPID)
		if i < 0 {
			add("department %s of the trust file has no peers in the channel", d.Code)
			continue
		}
		left = slices.Delete(left, i, i+1)
		for _, root := range c.members[d.MSPID].rootCerts {
			if !slices.ContainsFunc(d.CARoots, func(text string) bool {
				cert, err := parsePEM([]byte(text))
				return err == nil && cert.Equal(root)
			}) {
				add("an authority of %s is not in the trust file", d.Code)
			}
		}
	}
	for _, id := range left {
		add("%s is a member of the channel and not in the trust file", id)
	}
	return found
}

// checkUpdate checks the request behind a configuration, and answers the
// departments whose administrators signed it. before is the configuration that it
// changed. Which of them must have signed follows from what it changes; that the
// orderers, who judge it, took it is what their quorum says.
func checkUpdate(before *Configuration, envelope *common.ConfigEnvelope) ([]domain.MSPID, error) {
	var payload common.Payload
	if err := proto.Unmarshal(envelope.GetLastUpdate().GetPayload(), &payload); err != nil {
		return nil, errors.New("the request for the configuration cannot be read")
	}
	var header common.ChannelHeader
	if err := proto.Unmarshal(payload.GetHeader().GetChannelHeader(), &header); err != nil || header.GetType() != int32(common.HeaderType_CONFIG_UPDATE) || header.GetChannelId() != before.Channel {
		return nil, errors.New("the configuration was not asked for on this channel")
	}
	var update common.ConfigUpdateEnvelope
	if err := readAny("request for a configuration", payload.GetData(), &update); err != nil {
		return nil, err
	}
	signers := []domain.MSPID{}
	for _, s := range update.GetSignatures() {
		header, err := read("signature header", s.GetSignatureHeader(), &common.SignatureHeader{})
		if err != nil {
			return nil, err
		}
		id, err := before.identify(header.GetCreator(), noTime)
		if err != nil {
			return nil, err
		}
		if err := id.signed(s.GetSignature(), s.GetSignatureHeader(), update.GetConfigUpdate()); err != nil {
			return nil, err
		}
		if id.role == roleAdmin {
			signers = append(signers, id.mspID)
		}
	}
	slices.SortFunc(signers, func(a, b domain.MSPID) int { return strings.Compare(string(a), string(b)) })
	if signers = slices.Compact(signers); len(signers) == 0 {
		return nil, errors.New("no administrator signed the request for the configuration")
	}
	return signers, nil
}
