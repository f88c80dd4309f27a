package proof

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

// The role that the NodeOUs of a Fabric MSP give a certificate by an
// organisational unit in its subject. Exactly one of them must be there.
const peerOU = "peer"

var nodeOUs = []string{"client", peerOU, "admin", "orderer"}

// identity is an MSP ID with a certificate, from an msp.SerializedIdentity.
type identity struct {
	mspID domain.MSPID
	cert  *x509.Certificate
}

// parseIdentity reads an msp.SerializedIdentity. It trusts nothing yet.
func parseIdentity(data []byte) (*identity, error) {
	fields, err := parseWire("identity", data, serializedIdentityFields)
	if err != nil {
		return nil, err
	}
	if !fields.has(1) {
		return nil, errors.New("identity: no MSP ID")
	}
	cert, err := parseCertificate(fields.bytes(2))
	if err != nil {
		// The cause may quote the certificate, which nobody has vouched for.
		return nil, errors.New("identity: not one X.509 certificate in PEM's canonical form")
	}
	switch key := cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() && key.Curve != elliptic.P521() {
			return nil, errors.New("identity: a key on another curve")
		}
	case ed25519.PublicKey:
	default:
		return nil, errors.New("identity: a key of another kind than elliptic curves'")
	}
	return &identity{mspID: domain.MSPID(fields.text(1)), cert: cert}, nil
}

// maxPeers bounds the identities that a verifier keeps: enough for the peers of the
// largest consortium and those that were renewed.
const maxPeers = 4 * maxDepartments

// peers are identities as read, by their bytes. The same few peers sign everything,
// and to read a certificate takes an eighth of what it takes to check its signature.
// Only identities of peers whose endorsement held are kept, so that nobody else can
// fill the place; what is kept is how their bytes read, and whether they are
// believed is asked anew every time. The zero value is ready for use.
type peers struct {
	mu    sync.Mutex
	known map[string]*identity
}

func (p *peers) read(endorser []byte) (*identity, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id, ok := p.known[string(endorser)]
	return id, ok
}

func (p *peers) keep(endorser []byte, id *identity) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil || len(p.known) >= maxPeers {
		p.known = make(map[string]*identity)
	}
	p.known[string(endorser)] = id
}

// parseCertificate reads one certificate from PEM in its canonical form.
func parseCertificate(data []byte) (*x509.Certificate, error) {
	der, err := fromPEM("CERTIFICATE", data)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return cert, nil
}

// pemLine is how many characters a line of PEM has.
const pemLine = 64

// fromPEM reads one PEM block of a type in the form that
// [encoding/pem.EncodeToMemory] writes: lines of 64 characters, no headers, nothing
// before or behind.
func fromPEM(kind string, data []byte) ([]byte, error) {
	text, headed := bytes.CutPrefix(data, []byte("-----BEGIN "+kind+"-----\n"))
	text, tailed := bytes.CutSuffix(text, []byte("\n-----END "+kind+"-----\n"))
	if !headed || !tailed || len(text) == 0 {
		return nil, errors.New("not one PEM block of its type")
	}
	digits := make([]byte, 0, len(text))
	for len(text) > pemLine {
		if text[pemLine] != '\n' {
			return nil, errors.New("PEM is not in its one canonical form")
		}
		digits, text = append(digits, text[:pemLine]...), text[pemLine+1:]
	}
	digits = append(digits, text...)
	// The decoder skips line breaks, of which none is left in the right places.
	if len(text) == 0 || bytes.IndexByte(digits, '\n') >= 0 || bytes.IndexByte(digits, '\r') >= 0 {
		return nil, errors.New("PEM is not in its one canonical form")
	}
	der, err := base64.StdEncoding.Strict().AppendDecode(nil, digits)
	if err != nil {
		return nil, errors.New("PEM is not in its one canonical form")
	}
	return der, nil
}

// publicKey answers the certificate's ECDSA P-256 key; nothing else signs here.
func publicKey(cert *x509.Certificate) (*ecdsa.PublicKey, error) {
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the key is not ECDSA P-256")
	}
	return key, nil
}

// checkPeer checks that the certificate was issued to a peer by one of the
// member's roots and was in force, not revoked, at the time given.
func (m *member) checkPeer(cert *x509.Certificate, at time.Time) error {
	roles := 0
	isPeer := false
	for _, unit := range cert.Subject.OrganizationalUnit {
		for _, role := range nodeOUs {
			if unit == role {
				roles++
				isPeer = isPeer || unit == peerOU
			}
		}
	}
	if !isPeer || roles != 1 {
		return errors.New("the certificate is not a peer's")
	}
	if cert.IsCA {
		return errors.New("the certificate is a certificate authority's")
	}
	if at.Before(cert.NotBefore) || at.After(cert.NotAfter) {
		return errors.New("the certificate was not in force when the statement was made")
	}
	chains, err := cert.Verify(x509.VerifyOptions{
		Roots:         m.pool,
		Intermediates: x509.NewCertPool(),
		CurrentTime:   at,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fmt.Errorf("the certificate does not chain to the department's authority: %w", err)
	}
	// As Fabric does: with more than one chain it is unclear who owns the identity.
	if len(chains) != 1 {
		return errors.New("the certificate has more than one chain")
	}
	return m.checkRevoked(cert, chains[0][len(chains[0])-1], at)
}

// halfOrder is the largest s of a low-S signature on P-256, big-endian.
var halfOrder = new(big.Int).Rsh(elliptic.P256().Params().N, 1).Bytes()

// checkSignature checks an ECDSA P-256 signature over a digest. Of the spellings
// and twins that mathematics permits, it accepts one: strict DER, low S.
func checkSignature(key *ecdsa.PublicKey, digest [sha256.Size]byte, der []byte) error {
	// SEQUENCE { r INTEGER, s INTEGER }; no length in it needs more than one byte.
	if len(der) < 2 || der[0] != 0x30 || int(der[1]) != len(der)-2 || der[1] >= 0x80 {
		return errors.New("the signature is not DER")
	}
	_, rest, err := natural(der[2:])
	if err != nil {
		return err
	}
	s, rest, err := natural(rest)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return errors.New("the signature is not DER")
	}
	if len(s) > len(halfOrder) || len(s) == len(halfOrder) && bytes.Compare(s, halfOrder) > 0 {
		return errors.New("the signature has a high S")
	}
	if !ecdsa.VerifyASN1(key, digest[:], der) {
		return errors.New("the signature does not hold")
	}
	return nil
}

// natural reads a DER INTEGER above zero and answers its bytes without a zero
// before them, and what follows it.
func natural(der []byte) (value, rest []byte, err error) {
	if len(der) < 3 || der[0] != 0x02 || der[1] == 0 || der[1] >= 0x80 || int(der[1]) > len(der)-2 {
		return nil, nil, errors.New("the signature is not DER")
	}
	value, rest = der[2:2+der[1]], der[2+der[1]:]
	switch {
	case value[0] >= 0x80:
		return nil, nil, errors.New("the signature is out of range")
	case value[0] != 0:
		return value, rest, nil
	case len(value) == 1:
		return nil, nil, errors.New("the signature is out of range")
	case value[1] < 0x80:
		return nil, nil, errors.New("the signature is not in its one canonical form")
	}
	return value[1:], rest, nil
}
