package proof

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"slices"
	"time"
)

// crlType is the PEM type of a certificate revocation list, as
// "fabric-ca-client gencrl" writes it.
const crlType = "X509 CRL"

// revokedKey names a certificate by the authority that issued it, as its place
// among the department's roots, and its serial number.
type revokedKey struct {
	root   int
	serial string // big-endian bytes
}

// readCRL adds what a revocation list says of the member's certificates.
func (m *member) readCRL(text string) error {
	list, err := parseCRL([]byte(text))
	if err != nil {
		return err
	}
	root, err := crlIssuer(list, m.roots)
	if err != nil {
		return err
	}
	for _, entry := range list.RevokedCertificateEntries {
		key := revokedKey{root, string(entry.SerialNumber.Bytes())}
		if earlier, ok := m.revoked[key]; !ok || entry.RevocationTime.Before(earlier) {
			m.revoked[key] = entry.RevocationTime
		}
	}
	return nil
}

// parseCRL reads one revocation list from PEM in its canonical form. It trusts
// nothing yet.
func parseCRL(data []byte) (*x509.RevocationList, error) {
	der, err := fromPEM(crlType, data)
	if err != nil {
		return nil, err
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("revocation list: %w", err)
	}
	// A critical extension says that the list is less than the whole list of its
	// issuer: changes only, some reasons only, other authorities' certificates.
	critical := func(e pkix.Extension) bool { return e.Critical }
	if slices.ContainsFunc(list.Extensions, critical) {
		return nil, errors.New("the revocation list is not a whole one")
	}
	for _, entry := range list.RevokedCertificateEntries {
		if entry.SerialNumber.Sign() <= 0 {
			return nil, errors.New("the revocation list names no serial number")
		}
		if slices.ContainsFunc(entry.Extensions, critical) {
			return nil, errors.New("the revocation list is not a whole one")
		}
	}
	return list, nil
}

// crlIssuer answers which of the roots signed a revocation list.
func crlIssuer(list *x509.RevocationList, roots []*x509.Certificate) (int, error) {
	for i, root := range roots {
		if bytes.Equal(list.RawIssuer, root.RawSubject) && list.CheckSignatureFrom(root) == nil {
			return i, nil
		}
	}
	return 0, errors.New("no authority of the department signed the revocation list")
}

// checkRevoked checks that no revocation list says of a certificate that it was
// revoked at the time given or before. issuer is the root that issued it.
func (m *member) checkRevoked(cert, issuer *x509.Certificate, at time.Time) error {
	root := slices.IndexFunc(m.roots, issuer.Equal)
	if revokedAt, ok := m.revoked[revokedKey{root, string(cert.SerialNumber.Bytes())}]; ok && !at.Before(revokedAt) {
		return errors.New("the certificate was revoked when the statement was made")
	}
	return nil
}

// WithCRL returns the anchors with a revocation list added to the department
// whose authority signed it: one PEM block as "fabric-ca-client gencrl" writes
// it. The anchors themselves stay as they are.
//
// Its error is a [domain.Error] of kind [domain.Invalid].
func (a *Anchors) WithCRL(text string) (*Anchors, error) {
	members, err := a.members()
	if err != nil {
		return nil, err
	}
	list, err := parseCRL([]byte(text))
	if err != nil {
		return nil, invalidf("%v", err)
	}
	for i, m := range members {
		if _, err := crlIssuer(list, m.roots); err != nil {
			continue
		}
		more := *a
		more.Departments = slices.Clone(a.Departments)
		more.Departments[i].CRLs = append(slices.Clone(a.Departments[i].CRLs), text)
		_, err := more.members()
		return &more, err
	}
	return nil, invalidf("no department's authority signed the revocation list")
}
