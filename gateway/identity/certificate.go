package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

// attributesOID is the extension in which a Fabric CA writes a certificate's
// attributes, as JSON {"attrs":{name:value}}.
var attributesOID = asn1.ObjectIdentifier{1, 2, 3, 4, 5, 6, 7, 8, 1}

// The attributes that say who somebody is; the chaincode reads the same ones.
const (
	roleAttribute       = "zhenglian.role"
	departmentAttribute = "zhenglian.department"
)

// maxCertificates bounds the certificates whose verdict is remembered.
const maxCertificates = 1024

// Certificates knows the holders of client certificates that the department's own
// authority issued: those that chain to its roots, are in their time, are on no
// revocation list, and carry the department and one role. Create it with
// [NewCertificates]. It is safe for concurrent use.
type Certificates struct {
	department domain.DepartmentCode
	roots      []*x509.Certificate
	pool       *x509.CertPool
	revoked    map[string]bool // issuer's subject and serial number
	nextUpdate time.Time       // the earliest end of a revocation list; zero without lists

	mu    sync.Mutex
	known map[[sha256.Size]byte]verdict
}

type verdict struct {
	role domain.Role
	err  error
}

// NewCertificates returns what knows the holders of department's certificates.
// rootsPEM are its authorities' certificates, crlsPEM revocation lists (one or
// more each), every one of which must be signed by a root.
func NewCertificates(department domain.DepartmentCode, rootsPEM []string, crlsPEM [][]byte) (*Certificates, error) {
	c := &Certificates{department: department, pool: x509.NewCertPool(), revoked: make(map[string]bool), known: make(map[[sha256.Size]byte]verdict)}
	for _, text := range rootsPEM {
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			return nil, errors.New("an authority's certificate is no PEM")
		}
		root, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("an authority's certificate: %w", err)
		}
		c.roots = append(c.roots, root)
		c.pool.AddCert(root)
	}
	if len(c.roots) == 0 {
		return nil, errors.New("no authority is named")
	}
	for i, data := range crlsPEM {
		found := false
		for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
			if block.Type != "X509 CRL" {
				return nil, fmt.Errorf("revocation list %d: holds a %s", i, block.Type)
			}
			if err := c.revoke(block.Bytes); err != nil {
				return nil, fmt.Errorf("revocation list %d: %w", i, err)
			}
			found = true
		}
		if !found {
			return nil, fmt.Errorf("revocation list %d: is no PEM", i)
		}
	}
	return c, nil
}

// revoke takes over one revocation list.
func (c *Certificates) revoke(der []byte) error {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return err
	}
	for _, root := range c.roots {
		if list.CheckSignatureFrom(root) != nil {
			continue
		}
		for _, e := range list.RevokedCertificateEntries {
			c.revoked[revocationKey(root.RawSubject, e.SerialNumber)] = true
		}
		if c.nextUpdate.IsZero() || list.NextUpdate.Before(c.nextUpdate) {
			c.nextUpdate = list.NextUpdate
		}
		return nil
	}
	return errors.New("is signed by none of the department's authorities")
}

func revocationKey(issuer []byte, serial *big.Int) string {
	return string(issuer) + "\x00" + serial.String()
}

// Pool answers the authorities, for the server's handshake.
func (c *Certificates) Pool() *x509.CertPool { return c.pool }

// NextUpdate answers when the first of the revocation lists should have been
// replaced by a newer one; the zero time without lists. An old list is used all
// the same: it revokes what it names.
func (c *Certificates) NextUpdate() time.Time { return c.nextUpdate }

// Role answers the role of the holder of cert at a time, or a [*Refusal]. The
// caller has checked, in the handshake, that whoever presents cert has its key.
func (c *Certificates) Role(cert *x509.Certificate, now time.Time) (domain.Role, error) {
	switch {
	case now.Before(cert.NotBefore):
		return "", refuse(NotYetValid, nil)
	case now.After(cert.NotAfter):
		return "", refuse(Expired, nil)
	}
	sum := sha256.Sum256(cert.Raw)
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.known[sum]
	if !ok {
		v.role, v.err = c.judge(cert, now)
		if len(c.known) >= maxCertificates {
			clear(c.known)
		}
		c.known[sum] = v
	}
	return v.role, v.err
}

// judge answers what does not change with time.
func (c *Certificates) judge(cert *x509.Certificate, now time.Time) (domain.Role, error) {
	chains, err := cert.Verify(x509.VerifyOptions{Roots: c.pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil || cert.IsCA {
		return "", refuse(WrongIssuer, err)
	}
	for _, chain := range chains {
		for i := range len(chain) - 1 {
			if c.revoked[revocationKey(chain[i+1].RawSubject, chain[i].SerialNumber)] {
				return "", refuse(Revoked, nil)
			}
		}
	}
	var attributes map[string]string
	for _, e := range cert.Extensions {
		if !e.Id.Equal(attributesOID) {
			continue
		}
		var written struct {
			Attrs map[string]string `json:"attrs"`
		}
		if attributes != nil || json.Unmarshal(e.Value, &written) != nil || written.Attrs == nil {
			return "", refuse(Malformed, errors.New("the attributes cannot be read"))
		}
		attributes = written.Attrs
	}
	return caller(c.department, attributes[departmentAttribute], attributes[roleAttribute])
}
