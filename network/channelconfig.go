package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"github.com/hyperledger/fabric-protos-go/common"
	"github.com/hyperledger/fabric-protos-go/msp"
	"github.com/hyperledger/fabric-sdk-go/pkg/client/ledger"
	"github.com/hyperledger/fabric-sdk-go/pkg/client/resmgmt"
	sdkmsp "github.com/hyperledger/fabric-sdk-go/pkg/common/providers/msp"
	"github.com/hyperledger/fabric-sdk-go/pkg/fabsdk"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/protoadapt"
)

// The groups and values of a channel's configuration that the commands change.
const (
	applicationGroup = "Application"
	ordererGroup     = "Orderer"
	mspValue         = "MSP"
	orderersValue    = "Orderers"
	blockValidation  = "BlockValidation"

	consensusValue    = "ConsensusType"
	batchSizeValue    = "BatchSize"
	capabilitiesValue = "Capabilities"
)

// configBlock is the channel's last configuration block as the peer of a department has
// it.
func (a *administrators) configBlock(ctx context.Context, code string) (*common.Block, error) {
	client, err := a.ledger(code)
	if err != nil {
		return nil, err
	}
	block, err := client.QueryConfigBlock(ledger.WithTargetEndpoints(peerName(code)), ledger.WithParentContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("ask peer-%s for the channel's configuration: %w", code, err)
	}
	return block, nil
}

// readConfig reads the configuration in a configuration block.
func readConfig(block *common.Block) (*common.Config, error) {
	if len(block.GetData().GetData()) != 1 {
		return nil, errors.New("a configuration block holds one transaction")
	}
	var envelope common.Envelope
	var payload common.Payload
	var config common.ConfigEnvelope
	for _, step := range []struct {
		data func() []byte
		into protoadapt.MessageV1
	}{
		{func() []byte { return block.Data.Data[0] }, &envelope},
		{func() []byte { return envelope.Payload }, &payload},
		{func() []byte { return payload.Data }, &config},
	} {
		if err := unmarshal(step.data(), step.into); err != nil {
			return nil, fmt.Errorf("read the channel's configuration: %w", err)
		}
	}
	if config.GetConfig().GetChannelGroup() == nil {
		return nil, errors.New("the block holds no configuration of a channel")
	}
	return config.Config, nil
}

// reconfigure changes the channel's configuration. The admins of signers sign the change
// and a majority of the peers has it when reconfigure returns. It reports false when
// change changes nothing.
func (a *administrators) reconfigure(ctx context.Context, signers []string, change func(*common.ConfigGroup) error) (bool, error) {
	block, err := a.configBlock(ctx, signers[0])
	if err != nil {
		return false, err
	}
	current, err := readConfig(block)
	if err != nil {
		return false, err
	}
	next := clone(current)
	if err := change(next.ChannelGroup); err != nil {
		return false, err
	}
	if equal(current, next) {
		return false, nil
	}
	update, err := resmgmt.CalculateConfigUpdate(a.def.Channel, current, next)
	if err != nil {
		return false, fmt.Errorf("compare the configurations: %w", err)
	}
	data, err := marshal(update)
	if err != nil {
		return false, err
	}
	transaction, err := updateEnvelope(a.def.Channel, data)
	if err != nil {
		return false, err
	}
	if err := a.submitUpdate(ctx, signers, transaction); err != nil {
		return false, err
	}
	return true, a.awaitConfig(ctx, current.Sequence+1)
}

// updateEnvelope wraps a change, a common.ConfigUpdate, as the SDK wants it.
func updateEnvelope(channel string, update []byte) ([]byte, error) {
	var err error
	encode := func(m protoadapt.MessageV1) []byte {
		data, e := marshal(m)
		err = errors.Join(err, e)
		return data
	}
	data := encode(&common.Envelope{Payload: encode(&common.Payload{
		Header: &common.Header{ChannelHeader: encode(&common.ChannelHeader{ChannelId: channel, Type: int32(common.HeaderType_CONFIG_UPDATE)})},
		Data:   encode(&common.ConfigUpdateEnvelope{ConfigUpdate: update}),
	})})
	return data, err
}

// submitUpdate has the admins sign the change and gives it to the first signer's orderer,
// or to another's when that one is down.
func (a *administrators) submitUpdate(ctx context.Context, signers []string, transaction []byte) error {
	identities := make([]sdkmsp.SigningIdentity, len(signers))
	for i, code := range signers {
		admin, err := a.sdk.Context(fabsdk.WithUser("admin"), fabsdk.WithOrg(code))()
		if err != nil {
			return fmt.Errorf("sign as the admin of %s: %w", code, err)
		}
		identities[i] = admin
	}
	client, err := a.resources(signers[0])
	if err != nil {
		return err
	}
	for _, code := range signers {
		_, err = client.SaveChannel(resmgmt.SaveChannelRequest{
			ChannelID: a.def.Channel, ChannelConfig: bytes.NewReader(transaction), SigningIdentities: identities,
		}, resmgmt.WithOrdererEndpoint(ordererName(code)), unhurried(), resmgmt.WithParentContext(ctx))
		if err == nil {
			return nil
		}
	}
	return fmt.Errorf("the orderers refuse the change of the channel: %w", err)
}

// configWait is how long a change of the channel may take: a follower passes it on to the
// leader after a second, and a change of the leader may come between.
const configWait = 60 * time.Second

// configGrace is how long a peer may be behind the majority before nobody waits for it: an
// orderer that was restarted misses the first block after it and gets it a little later.
const configGrace = 10 * time.Second

// awaitConfig waits until a majority of the peers has the configuration with the sequence
// number, and gives the others that answer a little longer.
func (a *administrators) awaitConfig(ctx context.Context, sequence uint64) error {
	deadline := time.Now().Add(configWait)
	var majority time.Time // when it was reached
	for {
		have, silent := make([]bool, len(a.def.Departments)), make([]bool, len(a.def.Departments))
		var group errgroup.Group
		for i, dept := range a.def.Departments {
			group.Go(func() error {
				block, err := a.configBlock(ctx, dept.Code)
				if err != nil {
					silent[i] = true
					return nil
				}
				config, err := readConfig(block)
				have[i] = err == nil && config.Sequence >= sequence
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		if n := count(have); n >= a.def.Quorum() {
			if majority.IsZero() {
				majority = time.Now()
			}
			if n+count(silent) == len(have) || time.Since(majority) > configGrace {
				return nil
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d peers have the channel's configuration %d after %s", count(have), len(have), sequence, configWait)
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// departmentGroup is the configuration of a department among the members of the channel
// or among those who order.
func departmentGroup(channel *common.ConfigGroup, group, mspID string) (*common.ConfigGroup, error) {
	of := channel.Groups[group]
	if of == nil || of.Groups[mspID] == nil {
		return nil, fmt.Errorf("the channel's %s section has no %s", group, mspID)
	}
	return of.Groups[mspID], nil
}

// setCRLs gives a department's revocation lists, PEM, to the channel.
func setCRLs(channel *common.ConfigGroup, mspID string, lists [][]byte) error {
	for _, section := range []string{applicationGroup, ordererGroup} {
		group, err := departmentGroup(channel, section, mspID)
		if err != nil {
			return err
		}
		value := group.Values[mspValue]
		if value == nil {
			return fmt.Errorf("the channel's %s section has no MSP of %s", section, mspID)
		}
		var outer msp.MSPConfig
		var inner msp.FabricMSPConfig
		if err := unmarshal(value.Value, &outer); err != nil {
			return fmt.Errorf("read the MSP of %s: %w", mspID, err)
		}
		if err := unmarshal(outer.Config, &inner); err != nil {
			return fmt.Errorf("read the MSP of %s: %w", mspID, err)
		}
		if slices.EqualFunc(inner.RevocationList, lists, bytes.Equal) {
			continue
		}
		inner.RevocationList = lists
		if outer.Config, err = marshal(&inner); err != nil {
			return err
		}
		if value.Value, err = marshal(&outer); err != nil {
			return err
		}
	}
	return nil
}

// consenter is one orderer of the BFT cluster as the channel's configuration has it. The
// protobuf package that fabric-sdk-go links is older than this message.
type consenter struct {
	ID            uint32
	Host          string
	Port          uint32
	MSPID         string
	Identity      []byte // PEM
	ClientTLSCert []byte // PEM
	ServerTLSCert []byte // PEM
}

// readConsenters reads the value "Orderers" of the channel's Orderer section,
// common.Orderers of Fabric 3. It refuses what it does not know, because writeConsenters
// would lose it.
func readConsenters(data []byte) ([]consenter, error) {
	var list []consenter
	err := fields(data, func(number protowire.Number, _ uint64, value []byte) error {
		if number != 1 {
			return fmt.Errorf("field %d of the orderers is not known", number)
		}
		var c consenter
		err := fields(value, func(number protowire.Number, varint uint64, value []byte) error {
			switch number {
			case 1:
				c.ID = uint32(varint) //nolint:gosec // a uint32 on the wire
			case 2:
				c.Host = string(value)
			case 3:
				c.Port = uint32(varint) //nolint:gosec // a uint32 on the wire
			case 4:
				c.MSPID = string(value)
			case 5:
				c.Identity = value
			case 6:
				c.ClientTLSCert = value
			case 7:
				c.ServerTLSCert = value
			default:
				return fmt.Errorf("field %d of an orderer is not known", number)
			}
			return nil
		})
		list = append(list, c)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the orderers of the channel: %w", err)
	}
	return list, nil
}

// fields calls visit for each field of a protobuf message that has only integers and
// bytes.
func fields(data []byte, visit func(number protowire.Number, varint uint64, value []byte) error) error {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		var varint uint64
		var value []byte
		switch kind {
		case protowire.VarintType:
			varint, n = protowire.ConsumeVarint(data)
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(data)
		default:
			return fmt.Errorf("field %d has the wire type %d", number, kind)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		if err := visit(number, varint, bytes.Clone(value)); err != nil {
			return err
		}
	}
	return nil
}

// writeConsenters is the opposite of [readConsenters].
func writeConsenters(list []consenter) []byte {
	var out []byte
	for _, c := range list {
		var one []byte
		integer := func(number protowire.Number, v uint32) {
			if v != 0 {
				one = protowire.AppendVarint(protowire.AppendTag(one, number, protowire.VarintType), uint64(v))
			}
		}
		text := func(number protowire.Number, v []byte) {
			if len(v) > 0 {
				one = protowire.AppendBytes(protowire.AppendTag(one, number, protowire.BytesType), v)
			}
		}
		integer(1, c.ID)
		text(2, []byte(c.Host))
		integer(3, c.Port)
		text(4, []byte(c.MSPID))
		text(5, c.Identity)
		text(6, c.ClientTLSCert)
		text(7, c.ServerTLSCert)
		out = protowire.AppendBytes(protowire.AppendTag(out, 1, protowire.BytesType), one)
	}
	return out
}

// changeConsenters lets change edit the orderers of the cluster, and sets the policy by
// which blocks are valid to their quorum: Fabric does not derive it by itself.
func changeConsenters(channel *common.ConfigGroup, change func([]consenter) ([]consenter, error)) error {
	section := channel.Groups[ordererGroup]
	if section == nil || section.Values[orderersValue] == nil || section.Policies[blockValidation] == nil {
		return errors.New("the channel's Orderer section names no BFT orderers")
	}
	list, err := readConsenters(section.Values[orderersValue].Value)
	if err != nil {
		return err
	}
	if list, err = change(list); err != nil {
		return err
	}
	policy, err := quorumPolicy(list)
	if err != nil {
		return err
	}
	section.Values[orderersValue].Value = writeConsenters(list)
	section.Policies[blockValidation].Policy = &common.Policy{Type: int32(common.Policy_SIGNATURE), Value: policy}
	return nil
}

// bftQuorum is how many of n orderers sign a block: ⌈(n+f+1)/2⌉, f of which may lie.
func bftQuorum(n int) int {
	f := (n - 1) / 3
	return int(math.Ceil(float64(n+f+1) / 2))
}

// quorumPolicy asks for the signatures of a quorum of the orderers, in the bytes that
// configtxgen writes.
func quorumPolicy(list []consenter) ([]byte, error) {
	envelope := &common.SignaturePolicyEnvelope{}
	rules := make([]*common.SignaturePolicy, len(list))
	for i, c := range list {
		identity, err := marshal(&msp.SerializedIdentity{Mspid: c.MSPID, IdBytes: c.Identity})
		if err != nil {
			return nil, err
		}
		envelope.Identities = append(envelope.Identities, &msp.MSPPrincipal{
			PrincipalClassification: msp.MSPPrincipal_IDENTITY, Principal: identity,
		})
		rules[i] = &common.SignaturePolicy{Type: &common.SignaturePolicy_SignedBy{SignedBy: int32(i)}} //nolint:gosec // a few orderers
	}
	envelope.Rule = &common.SignaturePolicy{Type: &common.SignaturePolicy_NOutOf_{
		NOutOf: &common.SignaturePolicy_NOutOf{N: int32(bftQuorum(len(list))), Rules: rules}, //nolint:gosec // a few orderers
	}}
	return marshal(envelope)
}

// consenterOf is the orderer of a department with the certificates that it has now.
func consenterOf(l Layout, dept Department, id uint32) (consenter, error) {
	identity, err := os.ReadFile(l.Department(dept.Code, "orderer", "msp", "signcerts", "cert.pem"))
	if err != nil {
		return consenter{}, err
	}
	tls, err := os.ReadFile(l.Department(dept.Code, "orderer", "tls", "server.pem"))
	if err != nil {
		return consenter{}, err
	}
	return consenter{
		ID: id, Host: dept.Host, Port: uint32(dept.Ports.OrdererCluster), MSPID: dept.MSPID, //nolint:gosec // a port
		Identity: identity, ClientTLSCert: tls, ServerTLSCert: tls,
	}, nil
}
