package network

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/hyperledger/fabric-protos-go/common"
	"github.com/hyperledger/fabric-protos-go/orderer"
	"google.golang.org/protobuf/encoding/protowire"
)

// ConfigChange says how the channel's configuration is to change. Exactly one of Ordering,
// Department, Capability, Orderer and Revocation is set.
type ConfigChange struct {
	Ordering   bool        // as the edited definition says
	Department string      // folder with the certificates of the department that the edited definition has besides
	Capability string      // such as V3_0, of Section
	Section    string      // channel, orderer or application
	Orderer    bool        // new certificates for the own orderer
	Revocation *Revocation // of a certificate of the own department
}

// ProposeResult is the file with a change that waits for signatures.
type ProposeResult struct {
	File    string   `json:"file"` // "" if the channel is as the change would make it
	Digest  string   `json:"digest,omitempty"`
	Base    uint64   `json:"base"` // sequence of the present configuration
	Summary []string `json:"summary"`
}

// ProposeConfig writes a change of the channel's configuration, computed from the present
// one of the own peer, into a file for the departments to sign. It signs nothing itself.
func (c *Consortium) ProposeConfig(ctx context.Context, department string, change ConfigChange, file string) (*ProposeResult, error) {
	h, err := c.configuring(department)
	if err != nil {
		return nil, err
	}
	defer h.close()
	if _, err := os.Lstat(file); err == nil {
		return nil, problem("give another name with --output", "%s exists", file)
	}
	if err := h.exclude(); err != nil {
		return nil, err
	}
	apply, err := h.change(ctx, change)
	if err != nil {
		return nil, err
	}
	_, current, err := h.present(ctx)
	if err != nil {
		return nil, err
	}
	next := clone(current)
	if err := apply(next.ChannelGroup); err != nil {
		return nil, err
	}
	if equal(current, next) {
		return &ProposeResult{Base: current.Sequence, Summary: []string{}}, nil
	}
	p, err := propose(h.def.Channel, current, next)
	if err != nil {
		return nil, err
	}
	return &ProposeResult{File: file, Digest: p.file.Digest, Base: p.base, Summary: p.file.Summary}, writeProposal(file, p)
}

func writeProposal(file string, p *proposal) error {
	data, err := p.file.encode()
	if err != nil {
		return err
	}
	if len(data) > configFileLimit {
		return fmt.Errorf("the change takes %d bytes, more than the %d of a file", len(data), configFileLimit)
	}
	return writeFile(file, data, 0o644)
}

// change prepares a change of the channel and what has to be there before it.
func (h *configHost) change(ctx context.Context, change ConfigChange) (func(*common.ConfigGroup) error, error) {
	switch {
	case change.Ordering:
		next, _, err := h.edited(reorder)
		if err != nil {
			return nil, err
		}
		return func(channel *common.ConfigGroup) error { return setOrdering(channel, next.Ordering) }, nil
	case change.Department != "":
		return h.newDepartment(change.Department)
	case change.Capability != "":
		return func(channel *common.ConfigGroup) error {
			return setCapability(channel, change.Section, change.Capability)
		}, nil
	case change.Orderer:
		return h.newOrderer(ctx)
	case change.Revocation != nil:
		return h.revocation(ctx, *change.Revocation)
	}
	return nil, errors.New("nothing to propose")
}

// reorder names the command that changes the definition's ordering.
const reorder = "config propose ordering"

// newDepartment admits the department that the edited definition has besides or, once it
// is a member, lets its orderer order. dir has the certificates that the department sent.
func (h *configHost) newDepartment(dir string) (func(*common.ConfigGroup) error, error) {
	next, changed, err := h.edited("add-department")
	if err != nil {
		return nil, err
	}
	if len(changed.added) == 0 {
		return nil, problem("add the department to the edited definition and name that with --definition", "%s has nobody new", h.DefinitionPath)
	}
	dept := next.Departments[len(next.Departments)-1]
	ca, err := certificateIn(dir, "ca.pem", nil)
	if err != nil {
		return nil, err
	}
	tls, err := certificateIn(dir, "tlsca.pem", nil)
	if err != nil {
		return nil, err
	}
	return func(channel *common.ConfigGroup) error {
		if channel.GetGroups()[applicationGroup].GetGroups()[dept.MSPID] == nil || channel.GetGroups()[ordererGroup].GetGroups()[dept.MSPID] == nil {
			return admitTo(channel, h.dept.MSPID, dept, ca, tls)
		}
		identity, err := certificateIn(dir, "orderer.pem", ca)
		if err != nil {
			return err
		}
		node, err := certificateIn(dir, "orderer-tls.pem", tls)
		if err != nil {
			return err
		}
		return changeConsenters(channel, func(list []consenter) ([]consenter, error) {
			return withConsenter(list, consenter{
				Host: dept.Host, Port: uint32(dept.Ports.OrdererCluster), MSPID: dept.MSPID, //nolint:gosec // a port
				Identity: identity, ClientTLSCert: node, ServerTLSCert: node,
			}), nil
		})
	}, nil
}

// certificateIn reads a certificate in PEM that a new department sent: an authority's, or
// one that issuer, PEM, issued.
func certificateIn(dir, name string, issuer []byte) ([]byte, error) {
	path := filepath.Join(dir, name)
	cert, err := readCertificate(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, problem("ask the new department for it", "%s is missing", path)
	}
	if err != nil {
		return nil, err
	}
	if issuer == nil {
		if !cert.IsCA || cert.CheckSignatureFrom(cert) != nil {
			return nil, problem("ask the new department for it", "%s is no root of an authority", path)
		}
	} else {
		block, _ := pem.Decode(issuer)
		root, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if err := cert.CheckSignatureFrom(root); err != nil {
			return nil, problem("ask the new department for it", "%s was issued by another authority", path)
		}
	}
	// The certificate alone, whatever else the file has.
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), nil
}

// newOrderer enrols new certificates for the own orderer beside the present ones, unless
// an earlier run did, and names them to the channel.
func (h *configHost) newOrderer(ctx context.Context) (func(*common.ConfigGroup) error, error) {
	r := h.rotation()
	staged := h.Layout.Department(h.dept.Code, "orderer", "next")
	if !exists(filepath.Join(staged, "complete")) {
		if err := r.stageOrderer(ctx, staged, ordererIdentities); err != nil {
			return nil, err
		}
	}
	identity, err := os.ReadFile(filepath.Join(staged, "orderer.pem"))
	if err != nil {
		return nil, err
	}
	tls, err := os.ReadFile(filepath.Join(staged, "orderer-tls.pem"))
	if err != nil {
		return nil, err
	}
	return func(channel *common.ConfigGroup) error {
		return renewConsenter(channel, h.dept.MSPID, identity, tls)
	}, nil
}

func (h *configHost) rotation() *rotation {
	return &rotation{operation: h.operation, dept: h.dept, before: time.Now(), result: &RotateResult{
		Department: h.dept.Code, Retired: h.Layout.Department(h.dept.Code, "retired"),
	}}
}

// revocation revokes a certificate at the own authority, with a new one for its holder
// first if an identity is named, and gives the authority's list to the channel.
func (h *configHost) revocation(ctx context.Context, r Revocation) (func(*common.ConfigGroup) error, error) {
	if r.Identity != "" && !slices.Contains(revocable, r.Identity) {
		return nil, problem("run config propose orderer and revoke the old certificate by its file", "the identity %q cannot be replaced here", r.Identity)
	}
	path := r.Certificate
	if r.Identity != "" {
		if err := h.forgetRevoked(ctx, r.Identity); err != nil {
			return nil, err
		}
		var err error
		if path, err = h.markRevoked(h.dept, r.Identity); err != nil {
			return nil, err
		}
	}
	cert, err := readCertificate(path)
	if err != nil {
		return nil, err
	}
	if err := issuedBy(h.Layout, h.dept, cert); err != nil {
		return nil, err
	}
	if r.Identity != "" {
		if _, err := h.replace(ctx, h.dept, r.Identity, cert); err != nil {
			return nil, err
		}
	}
	result := &RevokeResult{Department: h.dept.Code}
	if err := h.revokeAt(ctx, h.dept, cert, r.Reason, result); err != nil {
		return nil, err
	}
	list, err := os.ReadFile(result.List)
	if err != nil {
		return nil, err
	}
	return func(channel *common.ConfigGroup) error {
		return setCRLs(channel, h.dept.MSPID, [][]byte{list})
	}, nil
}

// forgetRevoked removes the mark of an earlier revocation that the channel knows of.
func (h *configHost) forgetRevoked(ctx context.Context, name string) error {
	mark := h.Layout.revoking(h.dept, name)
	cert, err := readCertificate(mark)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, current, err := h.present(ctx)
	if err != nil {
		return err
	}
	config, err := memberMSP(current.ChannelGroup, h.dept.MSPID)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(config.RevocationList, func(list []byte) bool { return listed(list, cert) }) {
		return os.Remove(mark)
	}
	return nil
}

// The names of SmartBFT's options in the channel's configuration, orderer.smartbft.Options
// of Fabric 3. The protobuf package that fabric-sdk-go links is older than this message.
var optionNames = map[protowire.Number]string{
	1: "request_batch_max_count", 2: "request_batch_max_bytes", 3: "request_batch_max_interval", 4: "incoming_message_buffer_size",
	5: "request_pool_size", 6: "request_forward_timeout", 7: "request_complain_timeout", 8: "request_auto_remove_timeout",
	9: "request_max_bytes", 10: "view_change_resend_interval", 11: "view_change_timeout", 12: "leader_heartbeat_timeout",
	13: "leader_heartbeat_count", 14: "collect_timeout", 15: "sync_on_start", 16: "speed_up_view_change", 17: "leader_rotation",
	18: "decisions_per_leader",
}

// setOrdering gives the channel the limits and timers of ordering.
func setOrdering(channel *common.ConfigGroup, o Ordering) error {
	section := channel.Groups[ordererGroup]
	if section == nil || section.Values[batchSizeValue] == nil || section.Values[consensusValue] == nil {
		return errors.New("the channel's Orderer section has no limits")
	}
	var size orderer.BatchSize
	var kind orderer.ConsensusType
	if err := errors.Join(unmarshal(section.Values[batchSizeValue].Value, &size), unmarshal(section.Values[consensusValue].Value, &kind)); err != nil {
		return fmt.Errorf("read the channel's ordering: %w", err)
	}
	if kind.Type != "BFT" {
		return fmt.Errorf("the channel's ordering is %s", plain(kind.Type))
	}
	size.MaxMessageCount, size.AbsoluteMaxBytes, size.PreferredMaxBytes = o.MaxMessages, o.MaxBytes, o.MaxBytes
	var err error
	if kind.Metadata, err = withOptions(kind.Metadata, o); err != nil {
		return err
	}
	if section.Values[batchSizeValue].Value, err = marshal(&size); err != nil {
		return err
	}
	section.Values[consensusValue].Value, err = marshal(&kind)
	return err
}

// withOptions replaces those of SmartBFT's options that the definition has, in the order
// of their numbers, as they were written.
func withOptions(metadata []byte, o Ordering) ([]byte, error) {
	type option struct {
		varint uint64
		text   []byte
	}
	options := map[protowire.Number]option{}
	err := fields(metadata, func(number protowire.Number, varint uint64, value []byte) error {
		if _, ok := optionNames[number]; !ok {
			return fmt.Errorf("field %d of the ordering's options is not known", number)
		}
		options[number] = option{varint, value}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for number, d := range map[protowire.Number]Duration{
		3: o.RequestBatchMaxInterval, 6: o.RequestForwardTimeout, 7: o.RequestComplainTimeout, 8: o.RequestAutoRemoveTimeout,
		10: o.ViewChangeResendInterval, 11: o.ViewChangeTimeout, 12: o.LeaderHeartbeatTimeout, 14: o.CollectTimeout,
	} {
		options[number] = option{text: []byte(d.String())}
	}
	for number, v := range map[protowire.Number]uint64{4: o.IncomingMessageBufferSize, 5: o.RequestPoolSize, 13: o.LeaderHeartbeatCount} {
		options[number] = option{varint: v}
	}
	var out []byte
	for number := protowire.Number(1); int(number) <= len(optionNames); number++ {
		switch v, ok := options[number]; {
		case !ok:
		case len(v.text) > 0:
			out = protowire.AppendBytes(protowire.AppendTag(out, number, protowire.BytesType), v.text)
		default:
			out = protowire.AppendVarint(protowire.AppendTag(out, number, protowire.VarintType), v.varint)
		}
	}
	return out, nil
}

var capabilityPattern = regexp.MustCompile(`^V[0-9]+_[0-9]+(_[0-9]+)?$`)

// setCapability makes a capability the only one of a section. Nodes that do not know it
// stop.
func setCapability(channel *common.ConfigGroup, section, name string) error {
	group, ok := map[string]*common.ConfigGroup{
		"channel": channel, "orderer": channel.GetGroups()[ordererGroup], "application": channel.GetGroups()[applicationGroup],
	}[section]
	if !ok || group.GetValues()[capabilitiesValue] == nil {
		return fmt.Errorf("the channel has no capabilities of the section %s", strconv.Quote(section))
	}
	if !capabilityPattern.MatchString(name) {
		return problem("give one such as V2_5", "%s is no capability", strconv.Quote(name))
	}
	data, err := marshal(&common.Capabilities{Capabilities: map[string]*common.Capability{name: {}}})
	group.Values[capabilitiesValue].Value = data
	return err
}
