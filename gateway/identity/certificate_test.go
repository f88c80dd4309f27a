package identity

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// attributes has a certificate carry attributes as a Fabric CA writes them.
func attributes(text string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: attributesOID, Value: []byte(text)})
	}
}

// TestCertificates judges certificates of the own and another authority.
func TestCertificates(t *testing.T) {
	own := prooftest.New().Department("police").Authority
	foreign := prooftest.New().Department("civil").Authority
	impostor := prooftest.NewAuthority("impostor", own.MSPID)
	now := prooftest.Epoch
	const operator = `{"attrs":{"hf.Affiliation":"","zhenglian.department":"police","zhenglian.role":"operator"}}`
	revoked := own.IssueAs("revoked", attributes(operator))
	for name, crl := range map[string][][]byte{
		"no list": nil,
		"a list":  {[]byte(own.CRL(map[*prooftest.Identity]time.Time{revoked: now}, nil))},
		"an old list of two": {[]byte(own.CRL(nil, nil) + own.CRL(map[*prooftest.Identity]time.Time{revoked: now}, func(l *x509.RevocationList) {
			l.NextUpdate = now.Add(-time.Hour)
			l.ThisUpdate = now.Add(-2 * time.Hour)
		}))},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := NewCertificates("police", []string{string(own.PEM())}, crl)
			if err != nil {
				t.Fatal(err)
			}
			if c.NextUpdate().IsZero() != (crl == nil) {
				t.Errorf("NextUpdate = %v", c.NextUpdate())
			}
			ofRevoked := Reason("")
			if crl != nil {
				ofRevoked = Revoked
			}
			for _, tt := range []struct {
				name string
				id   *prooftest.Identity
				at   time.Time
				want Reason
			}{
				{name: "good", id: own.IssueAs("good", attributes(operator))},
				{name: "revoked", id: revoked, want: ofRevoked},
				{name: "other authority", id: foreign.IssueAs("x", attributes(operator)), want: WrongIssuer},
				{name: "authority of the same name", id: impostor.IssueAs("x", attributes(operator)), want: WrongIssuer},
				{name: "the authority itself", id: own, want: WrongIssuer},
				{name: "server's", id: own.IssueAs("server", func(c *x509.Certificate) {
					attributes(operator)(c)
					c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
				}), want: WrongIssuer},
				{name: "no attributes", id: own.Issue("plain", "client"), want: WrongDepartment},
				{name: "other department", id: own.IssueAs("o", attributes(`{"attrs":{"zhenglian.department":"civil","zhenglian.role":"operator"}}`)), want: WrongDepartment},
				{name: "no role", id: own.IssueAs("n", attributes(`{"attrs":{"zhenglian.department":"police"}}`)), want: WrongRole},
				{name: "the service's role", id: own.IssueAs("g", attributes(`{"attrs":{"zhenglian.department":"police","zhenglian.role":"gateway"}}`)), want: WrongRole},
				{name: "two roles", id: own.IssueAs("t", attributes(`{"attrs":{"zhenglian.department":"police","zhenglian.role":"operator,admin"}}`)), want: WrongRole},
				{name: "role in a list", id: own.IssueAs("l", attributes(`{"attrs":{"zhenglian.department":"police","zhenglian.role":["operator"]}}`)), want: Malformed},
				{name: "attributes of nothing", id: own.IssueAs("e", attributes(`{}`)), want: Malformed},
				{name: "attributes elsewhere", id: own.IssueAs("w", func(c *x509.Certificate) {
					c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4, 5, 6, 7, 8, 2}, Value: []byte(operator)})
				}), want: WrongDepartment},
				{name: "expired", id: own.IssueAs("old", attributes(operator)), at: prooftest.NotAfter.Add(time.Second), want: Expired},
				{name: "not yet valid", id: own.IssueAs("new", attributes(operator)), at: prooftest.NotBefore.Add(-time.Second), want: NotYetValid},
			} {
				t.Run(tt.name, func(t *testing.T) {
					at := tt.at
					if at.IsZero() {
						at = now
					}
					for range 2 { // judged, and remembered
						role, err := c.Role(tt.id.Cert, at)
						var refused *Refusal
						if err != nil && !errors.As(err, &refused) {
							t.Fatal(err)
						}
						got := Reason("")
						if refused != nil {
							got = refused.Reason
						}
						if got != tt.want || (role == domain.RoleOperator) != (tt.want == "") {
							t.Errorf("role %q, refused %q (%v), want %q", role, got, err, tt.want)
						}
					}
				})
			}
		})
	}
}

func TestNewCertificatesRefuses(t *testing.T) {
	own := prooftest.New().Department("police").Authority
	foreign := prooftest.New().Department("civil").Authority
	good := []string{string(own.PEM())}
	block, _ := pem.Decode([]byte(own.CRL(nil, nil)))
	block.Bytes[len(block.Bytes)-1] ^= 1
	damaged := pem.EncodeToMemory(block)
	for name, tt := range map[string]struct {
		roots []string
		crls  [][]byte
	}{
		"no authority":           {},
		"no PEM":                 {roots: []string{"x"}},
		"list no PEM":            {good, [][]byte{[]byte("x")}},
		"list of another":        {good, [][]byte{[]byte(foreign.CRL(nil, nil))}},
		"certificate for list":   {good, [][]byte{own.PEM()}},
		"second list of another": {good, [][]byte{[]byte(own.CRL(nil, nil) + foreign.CRL(nil, nil))}},
		"damaged list":           {good, [][]byte{damaged}},
	} {
		if _, err := NewCertificates("police", tt.roots, tt.crls); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
