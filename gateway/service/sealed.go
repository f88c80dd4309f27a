package service

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/credential"
)

// seal answers what the check code shows of a certificate, sealed under the code;
// "" when the code shows nothing.
func seal(ref, code, byCode string) (string, error) {
	if byCode == "" {
		return "", nil
	}
	sealed, err := credential.Seal(ref, code, byCode)
	if err != nil {
		return "", fmt.Errorf("seal what the check code shows: %w", err)
	}
	return string(sealed), nil
}

// Sealed answers what the check code shows of a certificate, sealed under that
// code: see [credential.Seal]. Of a certificate that was never issued, that is
// another department's or of which the code shows nothing, it answers bytes that
// look the same and that no code opens, so that it tells nobody which it is.
func (c *Certificates) Sealed(ctx context.Context, ref string) ([]byte, error) {
	if _, err := ParseRef(ref); err != nil {
		return nil, err
	}
	decoy, err := decoyOf(ref)
	if err != nil {
		return nil, err
	}
	certificate, err := find[domain.Certificate](ctx, c.index, domain.KindCertificate, ref)
	if err != nil {
		return nil, fmt.Errorf("find the certificate: %w", err)
	}
	if c.Issuing == nil {
		return decoy, nil
	}
	// Asked for all the same: the time an answer takes is an answer, too.
	kept, err := c.Issuing.Store.Get(ctx, ref)
	if err != nil && domain.KindOf(err) != domain.NotFound {
		return nil, fmt.Errorf("read what is sealed: %w", err)
	}
	if certificate == nil || kept.Sealed == "" || !verdictOf(certificate.StatusAt(c.Clock())).Issued() {
		return decoy, nil
	}
	return []byte(kept.Sealed), nil
}

// SignStatusList signs a status list of this gateway's department with its issuing
// key. Another department's is [domain.NotFound]: its own gateway signs it.
func (c *Certificates) SignStatusList(issuer domain.DepartmentCode, document []byte) (string, error) {
	if c.Issuing == nil || c.Issuing.Issuer.Department() != issuer {
		return "", &domain.Error{Kind: domain.NotFound, Msg: fmt.Sprintf("only the gateway of %s signs its status lists", issuer)}
	}
	return c.Issuing.Issuer.SignStatusList(document, c.Clock())
}

// decoySecret is drawn anew by each process: that an answer changes when a gateway
// starts again tells no more than the issuer's certificate itself, which is public.
var decoySecret = sync.OnceValue(func() []byte {
	secret := make([]byte, sha256.Size)
	_, _ = rand.Read(secret) // never fails
	return secret
})

// decoyOf answers random-looking bytes of the length of what is sealed, the same
// ones for the same reference.
func decoyOf(ref string) ([]byte, error) {
	return hkdf.Expand(sha256.New, decoySecret(), "decoy "+ref, credential.SealedBlock+credential.SealedOverhead)
}
