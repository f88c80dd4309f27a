package credential

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
)

// Issuer issues credentials with a department's issuing key. It is safe for
// concurrent use.
type Issuer struct {
	department proof.Department
	channel    string
	cert       *x509.Certificate
	signer     jose.Signer // of credentials
	lists      jose.Signer // of status lists
	verifier   *Verifier
}

// NewIssuer returns the issuer of a department: certPEM is the certificate of its
// issuing key, keyPEM the key in PKCS #8. It fails if a [Verifier] with the same
// anchors would not accept what the key signs.
func NewIssuer(anchors *proof.Anchors, department domain.DepartmentCode, certPEM, keyPEM []byte) (*Issuer, error) {
	verifier, err := NewVerifier(anchors)
	if err != nil {
		return nil, err
	}
	i := &Issuer{channel: anchors.Channel, verifier: verifier}
	at := slices.IndexFunc(anchors.Departments, func(d proof.Department) bool { return d.Code == department })
	if at < 0 {
		return nil, fmt.Errorf("the trust anchors do not name %q", department)
	}
	i.department = anchors.Departments[at]
	block, rest := pem.Decode(certPEM)
	if block == nil || block.Type != "CERTIFICATE" || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, errors.New("the issuing certificate is not one certificate in PEM")
	}
	if i.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		return nil, fmt.Errorf("the issuing certificate: %w", err)
	}
	if err := verifier.checkCertificate(i.cert, department, i.cert.NotBefore); err != nil {
		return nil, fmt.Errorf("the issuing certificate: %w", err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(i.cert.PublicKey) {
		return nil, errors.New("the issuing key is not the issuing certificate's")
	}
	x5c := []string{base64.StdEncoding.EncodeToString(i.cert.Raw)}
	for _, s := range []struct {
		to      *jose.Signer
		options *jose.SignerOptions
	}{
		{&i.signer, (&jose.SignerOptions{}).WithType(Type)},
		{&i.lists, (&jose.SignerOptions{}).WithType(ListType).WithContentType("vc")},
	} {
		*s.to, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: lowS{key}}, s.options.WithHeader("x5c", x5c))
		if err != nil {
			return nil, fmt.Errorf("prepare the issuing key: %w", err)
		}
	}
	return i, nil
}

// Department is the one whose issuing key this is.
func (i *Issuer) Department() domain.DepartmentCode { return i.department.Code }

// SignStatusList signs a BitstringStatusListCredential of the department, as
// "Securing Verifiable Credentials using JOSE and COSE" of the W3C says: the
// document is the payload of a JWS of the type vc+jwt. What the document says is
// the caller's; at is the time that it is signed at.
func (i *Issuer) SignStatusList(document []byte, at time.Time) (string, error) {
	if at.Before(i.cert.NotBefore) || at.After(i.cert.NotAfter) {
		return "", errors.New("the issuing certificate is not in force")
	}
	signed, err := sign(i.lists, document)
	if err != nil {
		return "", fmt.Errorf("sign the status list: %w", err)
	}
	return signed, nil
}

// parseKey reads a P-256 key. Its error never holds a part of it.
func parseKey(keyPEM []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return nil, errors.New("the issuing key is not PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the issuing key is not PKCS #8")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the issuing key is not ECDSA P-256")
	}
	return key, nil
}

// Issued is a credential as it leaves its issuer. It holds personal data.
type Issued struct {
	Credential string // discloses every item: for the holder and for the issuer's [Store]
	ByCode     string // the same, disclosing what the check code shows; "" when that is nothing
}

// Issue signs a credential of these items, in their order. Channel, Issuer and
// IssuerUSCC of the claims are filled in where they are empty. What goes on the
// ledger is [Digest] of the answer.
//
// Its error is a [domain.Error] of kind [domain.Invalid] if the claims or items
// are not in their shape or name another issuer; any other error says that the
// issuing key cannot sign, and quotes nothing of them.
func (i *Issuer) Issue(c Claims, items []Item) (Issued, error) {
	if c.Channel == "" {
		c.Channel = i.channel
	}
	if c.Issuer == "" {
		c.Issuer = i.department.Code
	}
	if c.IssuerUSCC == "" {
		c.IssuerUSCC = i.department.USCC
	}
	if c.Channel != i.channel || c.Issuer != i.department.Code || c.IssuerUSCC != i.department.USCC {
		return Issued{}, invalidf("issuer: not that of the issuing key")
	}
	if err := c.check(); err != nil {
		return Issued{}, err
	}
	if err := CheckItems(items); err != nil {
		return Issued{}, err
	}
	if c.IssuedAt.Before(i.cert.NotBefore) || c.IssuedAt.After(i.cert.NotAfter) {
		return Issued{}, errors.New("the issuing certificate is not in force")
	}
	p := newPayload(c)
	disclosed, err := hide(items, &p.Items)
	if err != nil {
		return Issued{}, err
	}
	byCode, err := hide(shownByCode(items), &p.ByCode)
	if err != nil {
		return Issued{}, err
	}
	data, err := marshal(p)
	if err != nil {
		return Issued{}, fmt.Errorf("write the payload: %w", err)
	}
	jwt, err := sign(i.signer, data)
	if err != nil {
		return Issued{}, fmt.Errorf("sign the credential: %w", err)
	}
	out := Issued{Credential: jwt + "~" + disclosed}
	if byCode != "" {
		out.ByCode = jwt + "~" + byCode
	}
	if _, err := i.verifier.Verify(out.Credential+byCode, c.Validity.From); err != nil {
		return Issued{}, fmt.Errorf("check the credential just signed: %w", err)
	}
	return out, nil
}

// hide answers the disclosures of items under fresh salts, and adds their digests.
func hide(items []Item, digests *[]placeholder) (disclosed string, err error) {
	var all strings.Builder
	for _, item := range items {
		salt := make([]byte, saltBytes)
		_, _ = rand.Read(salt) // never fails
		text, err := disclose(base64.RawURLEncoding.EncodeToString(salt), item)
		if err != nil {
			return "", fmt.Errorf("write an item: %w", err)
		}
		*digests = append(*digests, placeholder{Digest: digestOf(text)})
		all.WriteString(text + "~")
	}
	return all.String(), nil
}

func sign(signer jose.Signer, payload []byte) (string, error) {
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return jws.CompactSerialize()
}

// lowS is a key whose signatures have the lower of the two values that are as
// good as one another, so that nobody can respell a signature.
type lowS struct{ key *ecdsa.PrivateKey }

func (l lowS) Public() *jose.JSONWebKey {
	return &jose.JSONWebKey{Key: &l.key.PublicKey, Algorithm: string(jose.ES256)}
}

func (l lowS) Algs() []jose.SignatureAlgorithm { return []jose.SignatureAlgorithm{jose.ES256} }

func (l lowS) SignPayload(data []byte, _ jose.SignatureAlgorithm) ([]byte, error) {
	sum := sha256.Sum256(data)
	r, s, err := ecdsa.Sign(rand.Reader, l.key, sum[:])
	if err != nil {
		return nil, err
	}
	if isHighS(s) {
		s.Sub(elliptic.P256().Params().N, s)
	}
	signature := make([]byte, signatureBytes)
	r.FillBytes(signature[:signatureBytes/2])
	s.FillBytes(signature[signatureBytes/2:])
	return signature, nil
}

// signatureBytes is the length of an ES256 signature: R and S.
const signatureBytes = 64

var halfOrder = new(big.Int).Rsh(elliptic.P256().Params().N, 1)

func isHighS(s *big.Int) bool { return s.Cmp(halfOrder) > 0 }

// Digest answers what the ledger holds of a credential: the SHA-256 of its
// issuer-signed JWT, in hexadecimal. It is the same whatever items are disclosed.
// It verifies nothing; its error is a [*RefusalError].
func Digest(text string) (string, error) {
	s, err := parse(text)
	if err != nil {
		return "", err
	}
	return s.digest(), nil
}

func (s *sdJWT) digest() string {
	sum := sha256.Sum256([]byte(s.jwt))
	return hex.EncodeToString(sum[:])
}

// Present answers the credential with the items of these names disclosed and no
// others; without a name, none. It verifies nothing but that it can read the
// credential. Its error is a [*RefusalError], or a [domain.Error] of kind
// [domain.NotFound] if an item is not there.
func Present(text string, names []string) (string, error) {
	s, err := parse(text)
	if err != nil {
		return "", err
	}
	wanted := make(map[string]bool, len(names))
	for _, name := range names {
		wanted[name] = true
	}
	shown := s.jwt + "~"
	for i := range s.disclosures {
		d := &s.disclosures[i]
		item, err := d.item()
		if err != nil {
			return "", err
		}
		if wanted[item.Name] {
			delete(wanted, item.Name)
			shown += d.text + "~"
		}
	}
	if len(wanted) > 0 {
		return "", &domain.Error{Kind: domain.NotFound, Msg: "the credential discloses no item of a name asked for"}
	}
	return shown, nil
}
