package consortium

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"

	"github.com/hyperledger/fabric-gateway/pkg/client"
	"github.com/hyperledger/fabric-gateway/pkg/hash"
	"github.com/hyperledger/fabric-gateway/pkg/identity"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// maxMessage is Fabric's own limit. A block of what waited for the orderers is larger than
// the 4 MB that gRPC takes otherwise.
const maxMessage = 100 << 20

// Fabric is a connection to a department's own peer with the identity of one of
// its users, past the department's gateway.
type Fabric struct {
	Channel  *client.Network
	Contract *client.Contract // the chaincode
	Ledger   *client.Contract // qscc
	Name     string           // of the channel

	conn    *grpc.ClientConn
	gateway *client.Gateway
}

// Fabric connects to a department's peer as its user of a role.
func (c *Consortium) Fabric(department, role string, options ...grpc.DialOption) (*Fabric, error) {
	home := filepath.Join(c.State, "departments", department, "gateway")
	var cfg struct {
		Channel   string `json:"channel"`
		Chaincode string `json:"chaincode"`
		Peers     []struct {
			Endpoint   string `json:"endpoint"`
			TLSRoots   string `json:"tlsRoots"`
			ServerName string `json:"serverName"`
			MSPID      string `json:"mspId"`
		} `json:"peers"`
	}
	if err := readJSON(filepath.Join(home, "gateway.json"), &cfg); err != nil {
		return nil, err
	}
	own := cfg.Peers[0] // the department's own peer comes first
	roots, err := os.ReadFile(filepath.Join(home, own.TLSRoots))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(roots) {
		return nil, errors.New("no TLS root of the peer")
	}
	id, sign, err := c.user(department, role, own.MSPID)
	if err != nil {
		return nil, err
	}
	f := &Fabric{Name: cfg.Channel}
	options = append(options, grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(pool, own.ServerName)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if f.conn, err = grpc.NewClient(own.Endpoint, options...); err != nil {
		return nil, err
	}
	if f.gateway, err = client.Connect(id, client.WithSign(sign), client.WithHash(hash.SHA256), client.WithClientConnection(f.conn)); err != nil {
		return nil, errors.Join(err, f.conn.Close())
	}
	f.Channel = f.gateway.GetNetwork(cfg.Channel)
	f.Contract, f.Ledger = f.Channel.GetContract(cfg.Chaincode), f.Channel.GetContract("qscc")
	return f, nil
}

// user reads the certificate and the key of a department's user.
func (c *Consortium) user(department, role, mspID string) (*identity.X509Identity, identity.Sign, error) {
	home := filepath.Join(c.State, "departments", department, "users", role)
	certificate, err := os.ReadFile(filepath.Join(home, "cert.pem"))
	if err != nil {
		return nil, nil, err
	}
	block, _ := pem.Decode(certificate)
	if block == nil {
		return nil, nil, errors.New("the user's certificate is no PEM")
	}
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, nil, err
	}
	id, err := identity.NewX509Identity(mspID, parsed)
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err := os.ReadFile(filepath.Join(home, "key.pem"))
	if err != nil {
		return nil, nil, err
	}
	key, err := identity.PrivateKeyFromPEM(keyPEM)
	if err != nil {
		return nil, nil, err
	}
	sign, err := identity.NewPrivateKeySign(key)
	return id, sign, err
}

// Close ends the connection.
func (f *Fabric) Close() {
	_ = f.gateway.Close() // nothing is lost by either
	_ = f.conn.Close()
}
