package ledgeraudit

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
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/msp"

	"github.com/zhenglian/zhenglian/domain"
)

// The roles that the NodeOUs of a Fabric MSP give a certificate.
const (
	rolePeer    = "peer"
	roleClient  = "client"
	roleAdmin   = "admin"
	roleOrderer = "orderer"
)

// member is a department's MSP as a configuration defines it.
type member struct {
	id            domain.MSPID
	roots         *x509.CertPool
	intermediates *x509.CertPool
	rootCerts     []*x509.Certificate
	revoked       map[string]bool // issuer's raw name ‖ serial number
	units         map[string]string
	known         map[string]*identity // by PEM: those whose chain was checked
}

// identity is a member's certificate whose chain was checked.
type identity struct {
	mspID domain.MSPID
	role  string // "" when it has none
	cert  *x509.Certificate
	key   *ecdsa.PublicKey
}

// newMember reads the definition of an MSP.
func newMember(config *msp.FabricMSPConfig) (*member, error) {
	m := &member{
		id: domain.MSPID(config.GetName()), roots: x509.NewCertPool(), intermediates: x509.NewCertPool(),
		revoked: map[string]bool{}, units: map[string]string{}, known: map[string]*identity{},
	}
	if m.id == "" || len(config.GetRootCerts()) == 0 {
		return nil, errors.New("an MSP without a name or without roots")
	}
	for _, data := range config.GetRootCerts() {
		cert, err := parsePEM(data)
		if err != nil {
			return nil, fmt.Errorf("root of %s: %w", m.id, err)
		}
		m.roots.AddCert(cert)
		m.rootCerts = append(m.rootCerts, cert)
	}
	for _, data := range config.GetIntermediateCerts() {
		cert, err := parsePEM(data)
		if err != nil {
			return nil, fmt.Errorf("intermediate authority of %s: %w", m.id, err)
		}
		m.intermediates.AddCert(cert)
	}
	for _, data := range config.GetRevocationList() {
		block, _ := pem.Decode(data)
		if block == nil {
			return nil, fmt.Errorf("revocation list of %s: not PEM", m.id)
		}
		list, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("revocation list of %s: %w", m.id, err)
		}
		for _, entry := range list.RevokedCertificateEntries {
			m.revoked[string(list.RawIssuer)+entry.SerialNumber.String()] = true
		}
	}
	ous := config.GetFabricNodeOus()
	for role, unit := range map[string]*msp.FabricOUIdentifier{
		rolePeer: ous.GetPeerOuIdentifier(), roleClient: ous.GetClientOuIdentifier(),
		roleAdmin: ous.GetAdminOuIdentifier(), roleOrderer: ous.GetOrdererOuIdentifier(),
	} {
		if ous.GetEnable() && unit.GetOrganizationalUnitIdentifier() != "" {
			m.units[unit.GetOrganizationalUnitIdentifier()] = role
		}
	}
	return m, nil
}

func parsePEM(data []byte) (*x509.Certificate, error) {
	block, rest := pem.Decode(data)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 || block.Type != "CERTIFICATE" {
		return nil, errors.New("not one PEM certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

// identify reads a serialized identity and checks its chain to the roots of its
// department. It was in force at the time given, unless that is zero.
func (c *Configuration) identify(serialized []byte, at time.Time) (*identity, error) {
	id, err := read("identity", serialized, &msp.SerializedIdentity{})
	if err != nil {
		return nil, err
	}
	m, ok := c.members[domain.MSPID(id.GetMspid())]
	if !ok {
		return nil, errors.New("the identity is of no member of the channel")
	}
	found, err := m.identify(id.GetIdBytes())
	if err != nil {
		return nil, fmt.Errorf("identity of %s: %w", m.id, err)
	}
	if !at.IsZero() && (at.Before(found.cert.NotBefore) || at.After(found.cert.NotAfter)) {
		return nil, fmt.Errorf("identity of %s: the certificate was not in force", m.id)
	}
	return found, nil
}

func (m *member) identify(pemBytes []byte) (*identity, error) {
	if known, ok := m.known[string(pemBytes)]; ok {
		return known, nil
	}
	cert, err := parsePEM(pemBytes)
	if err != nil {
		return nil, errors.New("not a certificate")
	}
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the key is not ECDSA P-256")
	}
	// As Fabric does: whether it is in force is asked for another time than now.
	chains, err := cert.Verify(x509.VerifyOptions{
		Roots: m.roots, Intermediates: m.intermediates, CurrentTime: cert.NotBefore.Add(time.Second),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil || len(chains) != 1 || cert.IsCA {
		return nil, errors.New("the certificate does not chain to the department's authority")
	}
	for i, link := range chains[0][:len(chains[0])-1] {
		if m.revoked[string(chains[0][i+1].RawSubject)+link.SerialNumber.String()] {
			return nil, errors.New("the certificate is revoked")
		}
	}
	found := &identity{mspID: m.id, cert: cert, key: key}
	for _, unit := range cert.Subject.OrganizationalUnit {
		if role, ok := m.units[unit]; ok {
			if found.role != "" {
				return nil, errors.New("the certificate has two roles")
			}
			found.role = role
		}
	}
	m.known[string(pemBytes)] = found
	return found, nil
}

// signed checks a signature of the identity over the parts one behind the other.
func (i *identity) signed(signature []byte, parts ...[]byte) error {
	if err := checkSignature(i.key, signature, parts...); err != nil {
		return fmt.Errorf("signature of %s: %w", i.mspID, err)
	}
	return nil
}

var halfOrder = new(big.Int).Rsh(elliptic.P256().Params().N, 1)

// checkSignature checks an ECDSA signature with a low S, as Fabric demands.
func checkSignature(key *ecdsa.PublicKey, der []byte, parts ...[]byte) error {
	var pair struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &pair); err != nil || len(rest) > 0 {
		return errors.New("not DER")
	}
	if pair.S.Cmp(halfOrder) > 0 {
		return errors.New("a high S")
	}
	digest := sha256.Sum256(slices.Concat(parts...))
	if !ecdsa.VerifyASN1(key, digest[:], der) {
		return errors.New("does not hold")
	}
	return nil
}
