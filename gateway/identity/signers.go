package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

// Signers are certificates of the department's people who keep their keys to
// themselves. Create them with [NewSigners]. They are read-only and safe for
// concurrent use.
type Signers struct {
	known *Certificates
	certs []*x509.Certificate
}

// NewSigners reads certificates, one in each PEM file, whose holders known judges. A
// certificate that is revoked or out of its time is no error: it is refused when it
// is used.
func NewSigners(known *Certificates, files [][]byte) (*Signers, error) {
	s := &Signers{known: known}
	for i, file := range files {
		block, _ := pem.Decode(file)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("signer %d: is no certificate in PEM", i)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("signer %d: %w", i, err)
		}
		s.certs = append(s.certs, cert)
	}
	return s, nil
}

// Pool answers the authorities; see [Certificates.Pool].
func (s *Signers) Pool() *x509.CertPool { return s.known.Pool() }

// Role answers the role of the holder of cert; see [Certificates.Role].
func (s *Signers) Role(cert *x509.Certificate, now time.Time) (domain.Role, error) {
	return s.known.Role(cert, now)
}

// Find answers the certificate under which somebody of a role signs: the one with this
// fingerprint, the SHA-256 of its DER in hexadecimal, among those that are known and
// presented, which is that of the caller's connection or nil. Without a fingerprint it
// is the presented one, or else the only one that is known of the role.
//
// It refuses as [domain.Forbidden], in words for the caller.
func (s *Signers) Find(role domain.Role, fingerprint string, presented *x509.Certificate, now time.Time) (*x509.Certificate, error) {
	candidates := s.certs
	if presented != nil {
		candidates = append([]*x509.Certificate{presented}, candidates...)
	}
	var found *x509.Certificate
	for _, cert := range candidates {
		if fingerprint != "" && fingerprint != Fingerprint(cert) {
			continue
		}
		held, err := s.known.Role(cert, now)
		switch {
		case fingerprint == "" && cert != presented && (err != nil || held != role):
			continue
		case err != nil:
			return nil, &domain.Error{Kind: domain.Forbidden, Msg: "the certificate to sign with is not in force here"}
		case held != role:
			return nil, &domain.Error{Kind: domain.Forbidden, Msg: fmt.Sprintf("the certificate to sign with is one of role %s, and the caller has role %s", held, role)}
		case fingerprint != "" || cert == presented:
			return cert, nil
		case found != nil:
			return nil, &domain.Error{Kind: domain.Forbidden, Msg: fmt.Sprintf("several certificates of role %s are known here; name one by its fingerprint, as in Prefer: sign-offline=SHA-256", role)}
		}
		found = cert
	}
	if found == nil {
		return nil, &domain.Error{Kind: domain.Forbidden, Msg: fmt.Sprintf("no such certificate of role %s to sign with is known here", role)}
	}
	return found, nil
}

// Fingerprint answers the SHA-256 of a certificate's DER in hexadecimal.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}
