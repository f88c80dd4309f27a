package network

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/hyperledger/fabric-protos-go/common"
	"github.com/hyperledger/fabric-protos-go/msp"
	"github.com/hyperledger/fabric-protos-go/orderer"
	"github.com/hyperledger/fabric-protos-go/peer"
	"github.com/hyperledger/fabric-sdk-go/pkg/client/resmgmt"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// applied is the configuration that a channel has after an update of its present one. The
// update must be the one that Fabric computes between the two: what else it may say would
// not be seen in their difference.
func applied(current *common.Config, update *common.ConfigUpdate) (*common.Config, error) {
	next := clone(current)
	if err := overlay(next.ChannelGroup, update.GetWriteSet()); err != nil {
		return nil, err
	}
	again, err := resmgmt.CalculateConfigUpdate(update.GetChannelId(), current, next)
	if err != nil {
		return nil, fmt.Errorf("compare the configurations: %w", err)
	}
	again.IsolatedData = update.GetIsolatedData()
	if !equal(again, update) {
		return nil, errors.New("it is not the update between the channel's configuration and any other")
	}
	return next, nil
}

// elementName is what Fabric takes for the name of a group, value or policy.
var elementName = regexp.MustCompile(`^[A-Za-z0-9.-]{1,249}$`)

// overlay changes group as the write set of an update says. Versions that do not follow
// are found by [applied].
func overlay(group, write *common.ConfigGroup) error {
	if write == nil {
		return errors.New("it writes nothing")
	}
	for _, names := range [][]string{slices.Collect(maps.Keys(write.Groups)), slices.Collect(maps.Keys(write.Values)), slices.Collect(maps.Keys(write.Policies))} {
		for _, name := range names {
			if !elementName.MatchString(name) {
				return fmt.Errorf("it names an element %s", plain(name))
			}
		}
	}
	if write.Version != group.Version {
		keep(group.Groups, write.Groups)
		keep(group.Values, write.Values)
		keep(group.Policies, write.Policies)
		group.ModPolicy = write.ModPolicy
	}
	for name, value := range write.Values {
		if old := group.Values[name]; old == nil || old.Version != value.Version {
			group.Values = put(group.Values, name, clone(value))
		}
	}
	for name, policy := range write.Policies {
		if old := group.Policies[name]; old == nil || old.Version != policy.Version {
			group.Policies = put(group.Policies, name, clone(policy))
		}
	}
	for name, inner := range write.Groups {
		if group.Groups[name] == nil {
			group.Groups = put(group.Groups, name, &common.ConfigGroup{ModPolicy: inner.GetModPolicy()})
		}
		if err := overlay(group.Groups[name], inner); err != nil {
			return err
		}
	}
	return nil
}

func keep[T any](have, want map[string]T) {
	maps.DeleteFunc(have, func(name string, _ T) bool { _, ok := want[name]; return !ok })
}

func put[T any](into map[string]T, name string, v T) map[string]T {
	if into == nil {
		into = map[string]T{}
	}
	into[name] = v
	return into
}

// modPolicyMark ends the path of what says which policy guards an element.
const modPolicyMark = " (who may change it)"

// outline is a configuration in words: a path and what stands there.
type outline struct {
	lines map[string]string
	bytes map[string]string // path of a value or policy: its bytes
}

// outlineOf writes a channel's configuration down.
func outlineOf(config *common.Config) *outline {
	o := &outline{lines: map[string]string{}, bytes: map[string]string{}}
	o.group("Channel", config.GetChannelGroup())
	return o
}

func (o *outline) group(path string, group *common.ConfigGroup) {
	o.lines[path+modPolicyMark] = plain(group.GetModPolicy())
	for name, value := range group.GetValues() {
		at := path + "/" + plain(name)
		o.lines[at+modPolicyMark] = plain(value.GetModPolicy())
		o.bytes[at] = string(value.GetValue())
		o.value(at, name, value.GetValue())
	}
	for name, policy := range group.GetPolicies() {
		at := path + "/policy " + plain(name)
		o.lines[at+modPolicyMark] = plain(policy.GetModPolicy())
		o.bytes[at] = strconv.Itoa(int(policy.GetPolicy().GetType())) + " " + string(policy.GetPolicy().GetValue())
		o.lines[at] = policyText(policy.GetPolicy())
	}
	for name, inner := range group.GetGroups() {
		o.group(path+"/"+plain(name), inner)
	}
}

// value writes down the value with the name that Fabric gives its type.
func (o *outline) value(path, name string, data []byte) {
	var m protoadapt.MessageV1
	switch name {
	case mspValue:
		o.msp(path, data)
		return
	case orderersValue:
		o.orderers(path, data)
		return
	case consensusValue:
		o.consensus(path, data)
		return
	case "BatchSize":
		m = &orderer.BatchSize{}
	case "BatchTimeout":
		m = &orderer.BatchTimeout{}
	case "ChannelRestrictions":
		m = &orderer.ChannelRestrictions{}
	case capabilitiesValue:
		m = &common.Capabilities{}
	case "HashingAlgorithm":
		m = &common.HashingAlgorithm{}
	case "BlockDataHashingStructure":
		m = &common.BlockDataHashingStructure{}
	case "OrdererAddresses", "Endpoints":
		m = &common.OrdererAddresses{}
	case "AnchorPeers":
		m = &peer.AnchorPeers{}
	case "ACLs":
		m = &peer.ACLs{}
	}
	if m == nil || unmarshal(data, m) != nil {
		o.lines[path] = bytesText(data)
		return
	}
	o.message(path, protoadapt.MessageV2Of(m).ProtoReflect())
}

func (o *outline) msp(path string, data []byte) {
	var outer msp.MSPConfig
	var inner msp.FabricMSPConfig
	if unmarshal(data, &outer) != nil || outer.Type != 0 || unmarshal(outer.Config, &inner) != nil {
		o.lines[path] = bytesText(data)
		return
	}
	o.message(path, protoadapt.MessageV2Of(&inner).ProtoReflect())
}

func (o *outline) orderers(path string, data []byte) {
	list, err := readConsenters(data)
	if err != nil {
		o.lines[path] = bytesText(data)
		return
	}
	for _, c := range list {
		at := fmt.Sprintf("%s %d", path, c.ID)
		o.lines[at+" address"] = plain(c.Host) + ":" + strconv.FormatUint(uint64(c.Port), 10)
		o.lines[at+" member"] = plain(c.MSPID)
		o.lines[at+" identity"] = bytesText(c.Identity)
		o.lines[at+" TLS as a client"] = bytesText(c.ClientTLSCert)
		o.lines[at+" TLS as a server"] = bytesText(c.ServerTLSCert)
	}
}

func (o *outline) consensus(path string, data []byte) {
	var kind orderer.ConsensusType
	if err := unmarshal(data, &kind); err != nil {
		o.lines[path] = bytesText(data)
		return
	}
	o.lines[path+" type"] = plain(kind.Type)
	o.lines[path+" state"] = kind.State.String()
	err := fields(kind.Metadata, func(number protowire.Number, varint uint64, value []byte) error {
		name, ok := optionNames[number]
		if !ok {
			name = "field " + strconv.Itoa(int(number))
		}
		text := strconv.FormatUint(varint, 10)
		if len(value) > 0 {
			text = plain(string(value))
		}
		o.lines[path+" "+name] = text
		return nil
	})
	if err != nil {
		o.lines[path+" options"] = bytesText(kind.Metadata)
	}
}

// message writes down every field that is set.
func (o *outline) message(path string, m protoreflect.Message) {
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		at := path + " " + string(field.Name())
		switch {
		case field.IsMap():
			v.Map().Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
				o.field(at+" "+plain(key.String()), field.MapValue(), v)
				return true
			})
		case field.IsList():
			for i := range v.List().Len() {
				o.field(fmt.Sprintf("%s %d", at, i+1), field, v.List().Get(i))
			}
		default:
			o.field(at, field, v)
		}
		return true
	})
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		o.lines[path+" (fields that this release does not know)"] = bytesText(unknown)
	}
}

func (o *outline) field(path string, field protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch field.Kind() {
	case protoreflect.MessageKind:
		o.lines[path] = "there"
		o.message(path, v.Message())
	case protoreflect.BytesKind:
		o.lines[path] = bytesText(v.Bytes())
	case protoreflect.EnumKind:
		o.lines[path] = strconv.Itoa(int(v.Enum()))
	default:
		o.lines[path] = plain(v.String())
	}
}

// difference lists what differs between two outlines, a line each, sorted by path: "+" for
// what is new, "-" for what goes and "~" for what changes.
func difference(before, after *outline) []string {
	var lines []string
	// seen reports whether a line tells something else of an element than who may change it.
	seen := func(path string) bool {
		return slices.ContainsFunc(lines, func(line string) bool {
			rest, ok := strings.CutPrefix(line[2:], path)
			return ok && (rest[0] == ' ' || rest[0] == ':') && !strings.HasPrefix(rest, modPolicyMark)
		})
	}
	for _, path := range unite(before.lines, after.lines) {
		old, had := before.lines[path]
		now, has := after.lines[path]
		switch {
		case had && has && old != now:
			lines = append(lines, "~ "+path+": "+old+" → "+now)
		case has && !had:
			lines = append(lines, "+ "+path+": "+now)
		case had && !has:
			lines = append(lines, "- "+path+": "+old)
		}
	}
	// What the words do not tell apart must not pass unseen.
	for _, path := range unite(before.bytes, after.bytes) {
		old, now := before.bytes[path], after.bytes[path]
		if old != now && !seen(path) {
			lines = append(lines, "~ "+path+": other bytes, "+bytesText([]byte(old))+" → "+bytesText([]byte(now)))
		}
	}
	return lines
}

func unite(a, b map[string]string) []string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

// plain is text from elsewhere as a terminal may show it: on one line, and nothing that
// moves the cursor or turns the direction of writing.
func plain(s string) string {
	if s == "" {
		return `""`
	}
	if len(s) > 300 {
		return bytesText([]byte(s))
	}
	for _, r := range s {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return strconv.QuoteToASCII(s)
		}
	}
	return s
}

// bytesText describes bytes: certificates and revocation lists by what they say, anything
// else by its length; all by their digest.
func bytesText(data []byte) string {
	sum := sha256.Sum256(data)
	block, rest := pem.Decode(data)
	if block != nil && len(bytes.TrimSpace(rest)) == 0 {
		switch block.Type {
		case "CERTIFICATE":
			if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
				sum = sha256.Sum256(block.Bytes)
				return fmt.Sprintf("certificate of %s, serial %x, ends %s, sha256 %x", plain(cert.Subject.String()), cert.SerialNumber,
					cert.NotAfter.UTC().Format(time.DateOnly), sum)
			}
		case "X509 CRL":
			if list, err := x509.ParseRevocationList(block.Bytes); err == nil {
				serials := make([]string, 0, len(list.RevokedCertificateEntries))
				for _, entry := range list.RevokedCertificateEntries {
					serials = append(serials, hex.EncodeToString(entry.SerialNumber.Bytes()))
				}
				text := strings.Join(serials, ", ")
				if len(serials) > 20 {
					text = strings.Join(serials[:20], ", ") + ", …"
				}
				return fmt.Sprintf("list of %s that revokes %d (%s), sha256 %x", plain(list.Issuer.String()), len(serials), text, sum)
			}
		}
	}
	return fmt.Sprintf("%d bytes, sha256 %x", len(data), sum)
}

// policyText writes a policy down as Fabric's documentation does.
func policyText(p *common.Policy) string {
	switch common.Policy_PolicyType(p.GetType()) {
	case common.Policy_IMPLICIT_META:
		var meta common.ImplicitMetaPolicy
		if err := unmarshal(p.GetValue(), &meta); err == nil {
			return meta.Rule.String() + " " + plain(meta.SubPolicy)
		}
	case common.Policy_SIGNATURE:
		var envelope common.SignaturePolicyEnvelope
		if err := unmarshal(p.GetValue(), &envelope); err == nil {
			return ruleText(envelope.Rule, envelope.Identities)
		}
	}
	return fmt.Sprintf("policy of type %d, %s", p.GetType(), bytesText(p.GetValue()))
}

func ruleText(rule *common.SignaturePolicy, identities []*msp.MSPPrincipal) string {
	switch t := rule.GetType().(type) {
	case *common.SignaturePolicy_SignedBy:
		if t.SignedBy >= 0 && int(t.SignedBy) < len(identities) {
			return principalText(identities[t.SignedBy])
		}
	case *common.SignaturePolicy_NOutOf_:
		parts := make([]string, 0, len(t.NOutOf.GetRules()))
		for _, inner := range t.NOutOf.GetRules() {
			parts = append(parts, ruleText(inner, identities))
		}
		return fmt.Sprintf("%d of (%s)", t.NOutOf.GetN(), strings.Join(parts, "; "))
	}
	return "nobody"
}

func principalText(p *msp.MSPPrincipal) string {
	switch p.GetPrincipalClassification() {
	case msp.MSPPrincipal_ROLE:
		var role msp.MSPRole
		if err := unmarshal(p.Principal, &role); err == nil {
			return plain(role.MspIdentifier) + "." + strings.ToLower(role.Role.String())
		}
	case msp.MSPPrincipal_IDENTITY:
		var id msp.SerializedIdentity
		if err := unmarshal(p.Principal, &id); err == nil {
			return plain(id.Mspid) + " with the " + bytesText(id.IdBytes)
		}
	}
	return fmt.Sprintf("principal of type %d, %s", p.GetPrincipalClassification(), bytesText(p.GetPrincipal()))
}
