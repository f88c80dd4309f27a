package network

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/hyperledger/fabric-protos-go/common"
	"github.com/hyperledger/fabric-protos-go/msp"
)

// A change of a channel's configuration is in force when the signatures satisfy, for each
// element it changes, the policy that the element had before. This file answers that
// question as Fabric's orderers do, so that an operator knows before handing it over; the
// orderers decide. Where the two could differ, this one is the stricter: it counts no
// certificate that has ended.

// signer is who made a signature.
type signer struct {
	mspID string
	pem   []byte // of cert, as the signature has it
	cert  *x509.Certificate
	units map[msp.MSPRole_MSPRoleType]bool // that its certificate names
}

// memberMSP is the MSP of a member as the channel's configuration has it.
func memberMSP(channel *common.ConfigGroup, mspID string) (*msp.FabricMSPConfig, error) {
	for _, section := range []string{applicationGroup, ordererGroup} {
		value := channel.GetGroups()[section].GetGroups()[mspID].GetValues()[mspValue]
		if value == nil {
			continue
		}
		var outer msp.MSPConfig
		var inner msp.FabricMSPConfig
		if err := errors.Join(unmarshal(value.Value, &outer), unmarshal(outer.Config, &inner)); err != nil {
			return nil, fmt.Errorf("read the MSP of %s: %w", plain(mspID), err)
		}
		if inner.Name == mspID {
			return &inner, nil
		}
	}
	return nil, fmt.Errorf("%s is no member of the channel", plain(mspID))
}

// identify checks the creator of a signature, a msp.SerializedIdentity, against its member's
// MSP in the channel. It answers what is known of it with an error, too.
func identify(channel *common.ConfigGroup, creator []byte, now time.Time) (*signer, error) {
	var id msp.SerializedIdentity
	if err := unmarshal(creator, &id); err != nil {
		return &signer{}, fmt.Errorf("its creator cannot be read: %w", err)
	}
	s := &signer{mspID: id.Mspid, pem: id.IdBytes, units: map[msp.MSPRole_MSPRoleType]bool{}}
	block, rest := pem.Decode(id.IdBytes)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return s, errors.New("its creator is no certificate")
	}
	var err error
	if s.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		return s, fmt.Errorf("its creator is no certificate: %w", err)
	}
	config, err := memberMSP(channel, id.Mspid)
	if err != nil {
		return s, err
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, root := range config.RootCerts {
		roots.AppendCertsFromPEM(root)
	}
	for _, cert := range config.IntermediateCerts {
		intermediates.AppendCertsFromPEM(cert)
	}
	if s.cert.IsCA {
		return s, errors.New("its certificate is an authority's")
	}
	_, err = s.cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return s, fmt.Errorf("its certificate is not one of %s: %w", plain(id.Mspid), err)
	}
	for _, list := range config.RevocationList {
		if listed(list, s.cert) {
			return s, errors.New("its certificate is revoked")
		}
	}
	units := config.FabricNodeOus
	for role, unit := range map[msp.MSPRole_MSPRoleType]*msp.FabricOUIdentifier{
		msp.MSPRole_CLIENT: units.GetClientOuIdentifier(), msp.MSPRole_PEER: units.GetPeerOuIdentifier(),
		msp.MSPRole_ADMIN: units.GetAdminOuIdentifier(), msp.MSPRole_ORDERER: units.GetOrdererOuIdentifier(),
	} {
		s.units[role] = units.GetEnable() && unit != nil && slices.Contains(s.cert.Subject.OrganizationalUnit, unit.OrganizationalUnitIdentifier)
	}
	if slices.ContainsFunc(config.Admins, func(admin []byte) bool { return bytes.Equal(bytes.TrimSpace(admin), bytes.TrimSpace(id.IdBytes)) }) {
		s.units[msp.MSPRole_ADMIN] = true
	}
	return s, nil
}

// verifySignature checks a signature of an update. Fabric takes one of the two values that
// ECDSA allows, the one with the smaller s.
func (s *signer) verifySignature(header, update, signature []byte) error {
	key, ok := s.cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return errors.New("its key is not one of ECDSA with P-256")
	}
	digest := sha256.Sum256(slices.Concat(header, update))
	if !ecdsa.VerifyASN1(key, digest[:], signature) {
		return errors.New("it is not a signature of this update")
	}
	var value struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(signature, &value); err != nil || len(rest) > 0 || value.S.Cmp(new(big.Int).Rsh(elliptic.P256().Params().N, 1)) > 0 {
		return errors.New("it has the form that Fabric does not take")
	}
	return nil
}

// satisfies reports whether a policy of the group with the name is satisfied by the
// signers.
func satisfies(group *common.ConfigGroup, name string, signers []*signer) bool {
	policy := group.GetPolicies()[name].GetPolicy()
	switch common.Policy_PolicyType(policy.GetType()) {
	case common.Policy_SIGNATURE:
		var envelope common.SignaturePolicyEnvelope
		if err := unmarshal(policy.GetValue(), &envelope); err != nil {
			return false
		}
		return meets(envelope.Rule, envelope.Identities, signers, make([]bool, len(signers)))
	case common.Policy_IMPLICIT_META:
		var meta common.ImplicitMetaPolicy
		if err := unmarshal(policy.GetValue(), &meta); err != nil {
			return false
		}
		given := 0
		for _, inner := range group.GetGroups() {
			if satisfies(inner, meta.SubPolicy, signers) {
				given++
			}
		}
		switch n := len(group.GetGroups()); meta.Rule {
		case common.ImplicitMetaPolicy_ANY:
			return given >= min(1, n)
		case common.ImplicitMetaPolicy_ALL:
			return given == n
		case common.ImplicitMetaPolicy_MAJORITY:
			return n == 0 || given > n/2
		}
	}
	return false
}

// meets evaluates a rule of a signature policy. A signer counts once: used are those who
// counted.
func meets(rule *common.SignaturePolicy, principals []*msp.MSPPrincipal, signers []*signer, used []bool) bool {
	switch t := rule.GetType().(type) {
	case *common.SignaturePolicy_SignedBy:
		if t.SignedBy < 0 || int(t.SignedBy) >= len(principals) {
			return false
		}
		for i, s := range signers {
			if !used[i] && s.is(principals[t.SignedBy]) {
				used[i] = true
				return true
			}
		}
	case *common.SignaturePolicy_NOutOf_:
		given := int32(0)
		for _, inner := range t.NOutOf.GetRules() {
			trial := slices.Clone(used)
			if meets(inner, principals, signers, trial) {
				given++
				copy(used, trial)
			}
		}
		return given >= t.NOutOf.GetN()
	}
	return false
}

// is reports whether the signer is who a policy names.
func (s *signer) is(p *msp.MSPPrincipal) bool {
	switch p.GetPrincipalClassification() {
	case msp.MSPPrincipal_ROLE:
		var role msp.MSPRole
		if err := unmarshal(p.Principal, &role); err != nil || role.MspIdentifier != s.mspID {
			return false
		}
		return role.Role == msp.MSPRole_MEMBER || s.units[role.Role]
	case msp.MSPPrincipal_IDENTITY:
		var id msp.SerializedIdentity
		err := unmarshal(p.Principal, &id)
		return err == nil && id.Mspid == s.mspID && bytes.Equal(id.IdBytes, s.pem)
	}
	return false
}

// ConfigPolicy is a policy that a change of the channel has to satisfy.
type ConfigPolicy struct {
	Policy    string `json:"policy"`   // its path, such as /Channel/Orderer/Admins
	Rule      string `json:"rule"`     // such as "MAJORITY Admins"
	Elements  int    `json:"elements"` // that it guards and the change touches
	Satisfied bool   `json:"satisfied"`
}

// policiesOf are the policies that guard what an update changes in the present
// configuration, and whether the signers satisfy them.
func policiesOf(channel *common.ConfigGroup, update *common.ConfigUpdate, signers []*signer) []ConfigPolicy {
	found := map[string]*ConfigPolicy{}
	guard := func(path []string, modPolicy string) {
		absolute := "/" + strings.Join(append(slices.Clone(path), modPolicy), "/")
		if strings.HasPrefix(modPolicy, "/") {
			absolute = modPolicy
		}
		p := found[absolute]
		if p == nil {
			p = &ConfigPolicy{Policy: plain(absolute), Rule: "there is none, nobody can satisfy it"}
			if group, name := policyAt(channel, absolute); group != nil && group.GetPolicies()[name] != nil {
				p.Rule = policyText(group.GetPolicies()[name].GetPolicy())
				p.Satisfied = satisfies(group, name, signers)
			}
			found[absolute] = p
		}
		p.Elements++
	}
	var walk func(path []string, old, write *common.ConfigGroup)
	walk = func(path []string, old, write *common.ConfigGroup) {
		if old == nil {
			return // new: its parent's policy decides
		}
		if old.GetVersion() != write.GetVersion() {
			guard(path, old.GetModPolicy())
		}
		for name, value := range write.GetValues() {
			if had := old.GetValues()[name]; had != nil && had.GetVersion() != value.GetVersion() {
				guard(path, had.GetModPolicy())
			}
		}
		for name, policy := range write.GetPolicies() {
			if had := old.GetPolicies()[name]; had != nil && had.GetVersion() != policy.GetVersion() {
				guard(path, had.GetModPolicy())
			}
		}
		for name, inner := range write.GetGroups() {
			walk(append(slices.Clone(path), name), old.GetGroups()[name], inner)
		}
	}
	walk([]string{"Channel"}, channel, update.GetWriteSet())
	list := make([]ConfigPolicy, 0, len(found))
	for _, p := range found {
		list = append(list, *p)
	}
	slices.SortFunc(list, func(a, b ConfigPolicy) int { return strings.Compare(a.Policy, b.Policy) })
	return list
}

// policyAt is the group that holds the policy with an absolute path, and the policy's name.
func policyAt(channel *common.ConfigGroup, path string) (*common.ConfigGroup, string) {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if len(parts) < 2 || parts[0] != "Channel" {
		return nil, ""
	}
	group := channel
	for _, part := range parts[1 : len(parts)-1] {
		if group = group.GetGroups()[part]; group == nil {
			return nil, ""
		}
	}
	return group, parts[len(parts)-1]
}
