package proof

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
	return &identity{mspID: domain.MSPID(fields.text(1)), cert: cert}, nil
}

// parseCertificate reads one certificate from PEM in the form that
// [pem.EncodeToMemory] writes: nothing before, between or behind.
func parseCertificate(data []byte) (*x509.Certificate, error) {
	block, rest := pem.Decode(data)
	if block == nil || len(rest) > 0 || block.Type != "CERTIFICATE" || len(block.Headers) > 0 {
		return nil, errors.New("not one PEM certificate")
	}
	if !bytes.Equal(pem.EncodeToMemory(block), data) {
		return nil, errors.New("PEM is not in its one canonical form")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return cert, nil
}

// publicKey answers the certificate's ECDSA P-256 key; nothing else signs here.
func publicKey(cert *x509.Certificate) (*ecdsa.PublicKey, error) {
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the key is not ECDSA P-256")
	}
	return key, nil
}

// checkPeer checks that the certificate was issued to a peer by one of roots and
// was in force at the time given.
func checkPeer(cert *x509.Certificate, roots *x509.CertPool, at time.Time) error {
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
		Roots:         roots,
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
	return nil
}

// ecdsaSignature is the ASN.1 form of an ECDSA signature.
type ecdsaSignature struct{ R, S *big.Int }

// halfOrder is the largest S of a low-S signature on P-256.
var halfOrder = new(big.Int).Rsh(elliptic.P256().Params().N, 1)

// checkSignature checks an ECDSA P-256 signature over message. Of the spellings
// and twins that mathematics permits, it accepts one: strict DER, low S.
func checkSignature(key *ecdsa.PublicKey, message, der []byte) error {
	var parsed ecdsaSignature
	rest, err := asn1.Unmarshal(der, &parsed)
	if err != nil || len(rest) > 0 {
		return errors.New("the signature is not DER")
	}
	again, err := asn1.Marshal(parsed)
	if err != nil || !bytes.Equal(again, der) {
		return errors.New("the signature is not in its one canonical form")
	}
	if parsed.R.Sign() <= 0 || parsed.S.Sign() <= 0 {
		return errors.New("the signature is out of range")
	}
	if parsed.S.Cmp(halfOrder) > 0 {
		return errors.New("the signature has a high S")
	}
	digest := sha256.Sum256(message)
	if !ecdsa.VerifyASN1(key, digest[:], der) {
		return errors.New("the signature does not hold")
	}
	return nil
}
