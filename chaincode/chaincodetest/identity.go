package chaincodetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/protobuf/proto"
)

// attributesOID is the certificate extension in which Fabric CA writes
// attributes.
var attributesOID = asn1.ObjectIdentifier{1, 2, 3, 4, 5, 6, 7, 8, 1}

// Identity is the creator of a transaction, as a peer hands it to chaincode.
type Identity struct{ serialized []byte }

// ParseIdentity returns the identity that [Identity.Bytes] was asked of.
func ParseIdentity(serialized []byte) Identity { return Identity{slices.Clone(serialized)} }

// Bytes is the identity as peers and chaincode exchange it.
func (i Identity) Bytes() []byte { return slices.Clone(i.serialized) }

// NewIdentity returns an identity under mspID whose certificate carries
// attributes as Fabric CA writes them; none when attributes is nil.
func NewIdentity(t testing.TB, mspID string, attributes map[string]string) Identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "user", OrganizationalUnit: []string{"client"}},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	if attributes != nil {
		value, err := json.Marshal(map[string]any{"attrs": attributes})
		if err != nil {
			t.Fatal(err)
		}
		template.ExtraExtensions = []pkix.Extension{{Id: attributesOID, Value: value}}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return RawIdentity(t, mspID, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// RawIdentity returns an identity with any bytes in place of a certificate.
func RawIdentity(t testing.TB, mspID string, certificate []byte) Identity {
	t.Helper()
	serialized, err := proto.Marshal(&msp.SerializedIdentity{Mspid: mspID, IdBytes: certificate})
	if err != nil {
		t.Fatal(err)
	}
	return Identity{serialized}
}
