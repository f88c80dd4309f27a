package credential

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
)

// Verified is what a credential says, all of it signed by its issuer.
type Verified struct {
	Claims
	Items    []Item // those disclosed, in the order of the face
	Withheld int    // how many more there may be: digests without disclosure
	ByCode   []Item // disclosed to those who have the check code: items whole or masked
	Digest   string // what the ledger must hold of it, see [Digest]
}

// Verifier verifies credentials against trust anchors. It is safe for concurrent
// use.
type Verifier struct {
	channel string
	issuers map[domain.DepartmentCode]issuer
}

type issuer struct {
	uscc    string
	roots   *x509.CertPool
	revoked map[revokedKey]time.Time // when, by the department's revocation lists
}

// revokedKey names a certificate by the key of the authority that issued it and
// its serial number.
type revokedKey struct{ authority, serial string }

func keyOf(cert, authority *x509.Certificate) revokedKey {
	return revokedKey{string(authority.RawSubjectPublicKeyInfo), string(cert.SerialNumber.Bytes())}
}

// NewVerifier returns a verifier that trusts the departments of the anchors. It
// fails if a CA root or revocation list cannot be read; what else anchors must
// hold is [proof.ParseAnchors]'s to check.
func NewVerifier(anchors *proof.Anchors) (*Verifier, error) {
	v := &Verifier{channel: anchors.Channel, issuers: make(map[domain.DepartmentCode]issuer)}
	for _, d := range anchors.Departments {
		from, err := newIssuer(d)
		if err != nil {
			return nil, fmt.Errorf("trust anchors of %s: %w", d.Code, err)
		}
		v.issuers[d.Code] = from
	}
	return v, nil
}

func newIssuer(d proof.Department) (issuer, error) {
	i := issuer{uscc: d.USCC, roots: x509.NewCertPool(), revoked: make(map[revokedKey]time.Time)}
	var roots []*x509.Certificate
	for _, text := range d.CARoots {
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			return issuer{}, errors.New("a CA root is not PEM")
		}
		root, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return issuer{}, fmt.Errorf("a CA root: %w", err)
		}
		roots = append(roots, root)
		i.roots.AddCert(root)
	}
	for _, text := range d.CRLs {
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			return issuer{}, errors.New("a revocation list is not PEM")
		}
		list, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return issuer{}, fmt.Errorf("a revocation list: %w", err)
		}
		at := slices.IndexFunc(roots, func(root *x509.Certificate) bool { return list.CheckSignatureFrom(root) == nil })
		if at < 0 {
			return issuer{}, errors.New("no CA root signed a revocation list")
		}
		for _, entry := range list.RevokedCertificateEntries {
			key := revokedKey{string(roots[at].RawSubjectPublicKeyInfo), string(entry.SerialNumber.Bytes())}
			if earlier, ok := i.revoked[key]; !ok || entry.RevocationTime.Before(earlier) {
				i.revoked[key] = entry.RevocationTime
			}
		}
	}
	return i, nil
}

// Verify answers what a credential says, if its issuer signed it. at is the time
// at which it must be within its validity; the zero time asks for no such thing,
// for callers that take the status from the ledger.
//
// It never panics, and its error is always a [*RefusalError].
func (v *Verifier) Verify(text string, at time.Time) (*Verified, error) {
	s, err := parse(text)
	if err != nil {
		return nil, err
	}
	cert, err := s.certificate()
	if err != nil {
		return nil, err
	}
	var p payload // nobody vouches for it yet
	if err := parseExactly(s.payload, &p); err != nil {
		return nil, err
	}
	from, ok := v.issuers[p.Issuer]
	if !ok {
		return nil, refuse(RuleIssuer, "the trust anchors do not name the issuer")
	}
	if err := v.checkCertificate(cert, p.Issuer, time.Unix(p.IssuedAt, 0)); err != nil {
		return nil, err
	}
	if err := s.checkSignature(cert); err != nil {
		return nil, err
	}
	claims, err := p.claims()
	if err != nil {
		return nil, err
	}
	if claims.Channel != v.channel || claims.IssuerUSCC != from.uscc {
		return nil, refuse(RuleIssuer, "the trust anchors are of another channel, or know the issuer by another code")
	}
	items, byCode, err := s.items(p.Items, p.ByCode)
	if err != nil {
		return nil, err
	}
	switch {
	case at.IsZero():
	case at.Before(claims.Validity.From):
		return nil, refuse(RuleNotYetValid, "the validity begins later")
	case !at.Before(claims.Validity.To):
		return nil, refuse(RuleExpired, "the validity has ended")
	}
	return &Verified{Claims: claims, Items: items, Withheld: len(p.Items) - len(items), ByCode: byCode, Digest: s.digest()}, nil
}

// certificate reads the header and the certificate in it.
func (s *sdJWT) certificate() (*x509.Certificate, error) {
	// First what must be there at all: a header of another algorithm or type
	// has other members too, and the reason is to be the clearer one.
	value, err := parseJSON(s.header)
	if err != nil {
		return nil, err
	}
	members, ok := value.(map[string]any)
	switch {
	case !ok:
		return nil, refuse(RuleHeader, "the header is no object")
	case members["alg"] != string(jose.ES256):
		return nil, refuse(RuleAlgorithm, "alg is not ES256")
	case members["typ"] != Type:
		return nil, refuse(RuleType, "typ is not "+Type)
	}
	var h header
	if err := parseExactly(s.header, &h); err != nil {
		return nil, refuse(RuleHeader, "the header has not exactly alg, typ and x5c")
	}
	if len(h.X5C) != 1 {
		return nil, refuse(RuleCertificate, "x5c has %d certificates, not 1", len(h.X5C))
	}
	der, err := base64.StdEncoding.DecodeString(h.X5C[0])
	if err != nil || base64.StdEncoding.EncodeToString(der) != h.X5C[0] {
		return nil, refuse(RuleCertificate, "x5c is not base64 in its one spelling")
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, refuse(RuleCertificate, "x5c is no certificate")
	}
	return cert, nil
}

// fabricUnits are the organisational units by which Fabric knows the duty of a
// certificate. A department's CA gives one to each, and the issuing key has none.
var fabricUnits = []string{"client", "peer", "admin", "orderer"}

// checkCertificate checks that the department's CA certified the key for issuing,
// and that the certificate was in force at the time given.
func (v *Verifier) checkCertificate(cert *x509.Certificate, department domain.DepartmentCode, at time.Time) error {
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	switch {
	case !ok || key.Curve != elliptic.P256():
		return refuse(RuleCertificate, "the issuing key is not ECDSA P-256")
	case cert.IsCA:
		return refuse(RuleCertificate, "the certificate is a certificate authority's")
	case cert.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return refuse(RuleCertificate, "the certificate is not for signing")
	case !slices.Contains(cert.Subject.OrganizationalUnit, IssuingUnit):
		return refuse(RuleCertificate, "the certificate is not for issuing")
	case slices.ContainsFunc(cert.Subject.OrganizationalUnit, func(unit string) bool { return slices.Contains(fabricUnits, unit) }):
		return refuse(RuleCertificate, "the certificate is for another duty too")
	case at.Before(cert.NotBefore) || at.After(cert.NotAfter):
		return refuse(RuleCertificate, "the certificate was not in force when the credential was issued")
	}
	chains, err := cert.Verify(x509.VerifyOptions{
		Roots:         v.issuers[department].roots,
		Intermediates: x509.NewCertPool(),
		CurrentTime:   at,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil || len(chains) != 1 || len(chains[0]) != 2 {
		return refuse(RuleIssuer, "the certificate does not chain to the department's authority")
	}
	if revokedAt, ok := v.issuers[department].revoked[keyOf(cert, chains[0][1])]; ok && !at.Before(revokedAt) {
		return refuse(RuleCertificate, "the certificate was revoked when the credential was issued")
	}
	return nil
}

// checkSignature checks the signature with the certificate's key.
func (s *sdJWT) checkSignature(cert *x509.Certificate) error {
	if len(s.signature) != signatureBytes {
		return refuse(RuleSignature, "the signature has not %d bytes", signatureBytes)
	}
	if isHighS(new(big.Int).SetBytes(s.signature[signatureBytes/2:])) {
		return refuse(RuleSignature, "the signature has a high S")
	}
	jws, err := jose.ParseSignedCompact(s.jwt, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return refuse(RuleHeader, "the signed part is no JWS")
	}
	if _, err := jws.Verify(cert.PublicKey); err != nil {
		return refuse(RuleSignature, "the signature does not hold")
	}
	return nil
}
