// Package prooftest makes consortia and proof bundles for tests: authorities,
// peers and signed reads in the bytes that Fabric would produce, without Fabric.
// Everything is derived from names, so that the same calls give the same bytes.
//
// Its keys are public knowledge. It panics where a test has asked for the
// impossible.
package prooftest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
)

// Epoch is when the statements of this package are made unless a test says
// otherwise.
var Epoch = time.Date(2026, 3, 2, 1, 30, 0, 123_000_000, time.UTC)

// The life of every certificate issued here.
var (
	NotBefore = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	NotAfter  = time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC)
)

// Consortium is a set of departments with their keys.
type Consortium struct {
	Channel     string
	Chaincode   string
	Version     string
	Quorum      int
	Departments []*Department // sorted by code
}

// Department is a member with an authority and one identity of each role.
type Department struct {
	Code      domain.DepartmentCode
	MSPID     domain.MSPID
	NameZh    string
	NameEn    string
	USCC      string
	Authority *Identity
	Peer      *Identity
	Client    *Identity
	Admin     *Identity
	Orderer   *Identity
	LogSigner note.Signer
	LogOrigin string
	LogKey    string // verifier key text
}

// New returns a consortium of four departments of which three must sign.
func New() *Consortium {
	c := &Consortium{Channel: "zhenglian", Chaincode: "zhenglian", Version: "1.0", Quorum: 3}
	for _, d := range []struct {
		code         domain.DepartmentCode
		mspID        domain.MSPID
		zh, en, uscc string
	}{
		{"bigdata", "BigdataMSP", "示例市大数据局", "Big Data Bureau", "11990000000000001"},
		{"civil", "CivilMSP", "示例市民政局", "Civil Affairs Bureau", "11990000000000002"},
		{"market", "MarketMSP", "示例市市场监管局", "Market Regulation Bureau", "11990000000000003"},
		{"police", "PoliceMSP", "示例市公安局", "Public Security Bureau", "11990000000000004"},
	} {
		c.Departments = append(c.Departments, NewDepartment(d.code, d.mspID, d.zh, d.en, d.uscc))
	}
	return c
}

// NewDepartment returns a department whose keys follow from its code. uscc lacks
// its check character.
func NewDepartment(code domain.DepartmentCode, mspID domain.MSPID, zh, en, uscc string) *Department {
	d := &Department{Code: code, MSPID: mspID, NameZh: zh, NameEn: en, USCC: withCheckCharacter(uscc)}
	d.Authority = NewAuthority(string(code), mspID)
	d.Peer = d.Authority.Issue("peer", "peer")
	d.Client = d.Authority.Issue("client", "client")
	d.Admin = d.Authority.Issue("admin", "admin")
	d.Orderer = d.Authority.Issue("orderer", "orderer")
	d.LogOrigin = "zhenglian.example/log/" + string(code)
	private, public, err := note.GenerateKey(NewStream("log "+string(code)), d.LogOrigin)
	must(err)
	d.LogKey = public
	d.LogSigner, err = note.NewSigner(private)
	must(err)
	return d
}

// Department returns the department with a code.
func (c *Consortium) Department(code domain.DepartmentCode) *Department {
	i := slices.IndexFunc(c.Departments, func(d *Department) bool { return d.Code == code })
	if i < 0 {
		panic("prooftest: no department " + code)
	}
	return c.Departments[i]
}

// Anchors returns the trust anchors of the consortium.
func (c *Consortium) Anchors() *proof.Anchors {
	a := &proof.Anchors{
		Format:    proof.TrustFormat,
		Channel:   c.Channel,
		Chaincode: c.Chaincode,
		Versions:  []string{c.Version},
		Quorum:    c.Quorum,
	}
	for _, d := range c.Departments {
		a.Departments = append(a.Departments, proof.Department{
			Code:      d.Code,
			MSPID:     d.MSPID,
			NameZh:    d.NameZh,
			NameEn:    d.NameEn,
			USCC:      d.USCC,
			CARoots:   []string{string(d.Authority.PEM())},
			LogOrigin: d.LogOrigin,
			LogKey:    d.LogKey,
		})
	}
	return a
}

// TrustFile returns the anchors as consortium.json.
func (c *Consortium) TrustFile() []byte { return canonical(c.Anchors()) }

// Identity is a certificate with its key.
type Identity struct {
	MSPID domain.MSPID
	Cert  *x509.Certificate
	Key   *ecdsa.PrivateKey

	name string
}

// NewAuthority returns a self-signed certificate authority.
func NewAuthority(name string, mspID domain.MSPID) *Identity {
	key := newKey("authority " + name)
	template := &x509.Certificate{
		SerialNumber:          serial("authority " + name),
		Subject:               pkix.Name{Organization: []string{name}, CommonName: "ca." + name},
		NotBefore:             NotBefore,
		NotAfter:              NotAfter,
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId:          keyID(key),
	}
	return &Identity{MSPID: mspID, Cert: issue(template, template, key, key), Key: key, name: name}
}

// Issue returns an identity whose subject has the given organisational units.
func (i *Identity) Issue(name string, units ...string) *Identity {
	return i.IssueAs(name, func(template *x509.Certificate) { template.Subject.OrganizationalUnit = units })
}

// IssueAs is [Identity.Issue] with any change to the certificate.
func (i *Identity) IssueAs(name string, change func(*x509.Certificate)) *Identity {
	full := i.name + "/" + name
	key := newKey("identity " + full)
	template := &x509.Certificate{
		SerialNumber:          serial("identity " + full),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             NotBefore,
		NotAfter:              NotAfter,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		SubjectKeyId:          keyID(key),
	}
	change(template)
	return &Identity{MSPID: i.MSPID, Cert: issue(template, i.Cert, key, i.Key), Key: key, name: full}
}

// CRL returns the authority's revocation list as of Epoch: the certificates and
// when each was revoked. A change, which may be nil, is made before it is signed.
func (i *Identity) CRL(revoked map[*Identity]time.Time, change func(*x509.RevocationList)) string {
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: Epoch.Truncate(time.Second), NextUpdate: Epoch.Truncate(time.Second).AddDate(0, 0, 1)}
	for identity, at := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: identity.Cert.SerialNumber, RevocationTime: at.Truncate(time.Second)})
	}
	slices.SortFunc(list.RevokedCertificateEntries, func(a, b x509.RevocationListEntry) int { return a.SerialNumber.Cmp(b.SerialNumber) })
	if change != nil {
		change(list)
	}
	der, err := x509.CreateRevocationList(NewStream("unused"), list, i.Cert, lowS{i.Key})
	must(err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

// PEM returns the certificate.
func (i *Identity) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Cert.Raw})
}

// Serialized returns the msp.SerializedIdentity.
func (i *Identity) Serialized() []byte {
	var b []byte
	b = appendText(b, 1, string(i.MSPID))
	return appendBytes(b, 2, i.PEM())
}

// Sign returns the ASN.1 signature of message with low S, always the same.
func (i *Identity) Sign(message []byte) []byte {
	digest := sha256.Sum256(message)
	der, err := lowS{i.Key}.Sign(nil, digest[:], crypto.SHA256)
	must(err)
	return der
}

// HighS returns the twin of a signature, which the mathematics accepts as well.
func HighS(der []byte) []byte {
	r, s := splitSignature(der)
	return joinSignature(r, new(big.Int).Sub(elliptic.P256().Params().N, s))
}

// lowS signs deterministically (RFC 6979) and with low S, as Fabric requires.
type lowS struct{ key *ecdsa.PrivateKey }

func (l lowS) Public() crypto.PublicKey { return &l.key.PublicKey }

func (l lowS) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	der, err := l.key.Sign(nil, digest, opts)
	if err != nil {
		return nil, err
	}
	n := elliptic.P256().Params().N
	r, s := splitSignature(der)
	if s.Cmp(new(big.Int).Rsh(n, 1)) > 0 {
		s.Sub(n, s)
	}
	return joinSignature(r, s), nil
}

func splitSignature(der []byte) (r, s *big.Int) {
	var v struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(der, &v)
	must(err)
	if len(rest) > 0 {
		panic("prooftest: bytes behind a signature")
	}
	return v.R, v.S
}

func joinSignature(r, s *big.Int) []byte {
	der, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
	must(err)
	return der
}

func issue(template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
	der, err := x509.CreateCertificate(NewStream("unused"), template, parent, &key.PublicKey, lowS{signer})
	must(err)
	cert, err := x509.ParseCertificate(der)
	must(err)
	return cert
}

// newKey returns the P-256 key of a name.
func newKey(name string) *ecdsa.PrivateKey {
	scalar := sha256.Sum256([]byte("zhenglian prooftest key\n" + name))
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar[:])
	must(err)
	return key
}

func keyID(key *ecdsa.PrivateKey) []byte {
	raw, err := key.PublicKey.Bytes()
	must(err)
	sum := sha256.Sum256(raw)
	return sum[:20]
}

func serial(name string) *big.Int {
	sum := sha256.Sum256([]byte("serial\n" + name))
	sum[0] &= 0x7f
	return new(big.Int).SetBytes(sum[:16])
}

// withCheckCharacter completes a unified social credit code.
func withCheckCharacter(s string) string {
	for _, c := range "0123456789ABCDEFGHJKLMNPQRTUWXY" {
		if full := s + string(c); domain.ValidUSCC(full) {
			return full
		}
	}
	panic("prooftest: no unified social credit code starts with " + s)
}

// Stream is an endless deterministic stream of bytes.
type Stream struct {
	name string
	n    uint64
	rest []byte
}

// NewStream returns the stream of a name.
func NewStream(name string) *Stream { return &Stream{name: name} }

// Read fills p. It never fails.
func (s *Stream) Read(p []byte) (int, error) {
	for i := range p {
		if len(s.rest) == 0 {
			block := sha256.Sum256(fmt.Appendf(nil, "%s\n%d", s.name, s.n))
			s.n++
			s.rest = block[:]
		}
		p[i], s.rest = s.rest[0], s.rest[1:]
	}
	return len(p), nil
}

func appendBytes(b []byte, field protowire.Number, value []byte) []byte {
	if len(value) == 0 {
		return b
	}
	return appendMessage(b, field, value)
}

func appendText(b []byte, field protowire.Number, value string) []byte {
	return appendBytes(b, field, []byte(value))
}

// appendMessage writes value even when it is empty.
func appendMessage(b []byte, field protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), value)
}

func appendNumber(b []byte, field protowire.Number, value uint64) []byte {
	if value == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), value)
}

func canonical(v any) []byte {
	data, err := domain.Canonical(v)
	must(err)
	return data
}

func must(err error) {
	if err != nil {
		panic("prooftest: " + err.Error())
	}
}

func base64URL(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
