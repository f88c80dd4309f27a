// Package fabricledger implements the port to the ledger on Hyperledger Fabric,
// through the gateway services of the departments' peers.
//
// It talks to the department's own peer first and to another department's when
// that one does not answer; the identity that signs stays the caller's own. A
// transaction is signed once; package outbox keeps its bytes until its outcome is
// known, so that sending it again can never order it twice.
package fabricledger

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hyperledger/fabric-gateway/pkg/client"
	"github.com/hyperledger/fabric-gateway/pkg/identity"
	"github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// Config says which channel to use, through which peers, as whom.
type Config struct {
	Channel    string
	Chaincode  string
	Peers      []Peer                                        // the own department's first, then the order of failing over
	Identities map[domain.Role]Identity                      // by the role in the certificate; [domain.RoleGateway] is required
	Instrument func(domain.DepartmentCode) []grpc.DialOption // watches the calls to a department's peer; nil: nobody does
}

// Peer is one department's peer.
type Peer struct {
	Department domain.DepartmentCode
	MSPID      domain.MSPID
	Endpoint   string // host:port
	TLSRoots   []byte // PEM certificates that the peer's server certificate must chain to
	ServerName string // name in the server certificate; "" for the endpoint's host
}

// Identity signs on behalf of a person or service of the own department.
type Identity struct {
	MSPID          domain.MSPID
	CertificatePEM []byte
	KeyPEM         []byte // PKCS #8 or SEC 1, ECDSA P-256
}

// limits are the times that the adapter waits. Tests shorten them.
type limits struct {
	endorseCall  time.Duration // one attempt to have a proposal endorsed; above the peers' gateway.endorsementTimeout
	endorse      time.Duration // new attempts begin for that long
	submitCall   time.Duration // one attempt to hand a transaction to the orderers
	commit       time.Duration // wait for the commit of a transaction the orderers took
	lookUp       time.Duration // ask one peer for a transaction that may not exist
	outcome      time.Duration // go on resubmitting for that long
	evaluateCall time.Duration
	signedCall   time.Duration // one attempt at a signed read
	signedRead   time.Duration // new attempts at a signed read begin for that long
	height       time.Duration // one peer's answer to how many blocks it has
	pause        time.Duration // before the second attempt; doubled after each
	longestPause time.Duration
	suspicion    time.Duration // leave a department that failed to sign out of the first attempt
	stall        time.Duration // follow others' blocks when the own peer has not delivered one for that long that they have
	witness      time.Duration // wait for another peer to confirm a block
}

// mostEndorsing bounds the proposals of one gateway that are under way at a time.
// A peer in order answers one in some 10 ms, so no load that the network can carry
// is held back by it.
const mostEndorsing = 32

// longestCommit is how many times the first wait for a commit the longest is: half a
// minute, by when the orderers have changed their leader several times over.
const longestCommit = 4

// defaultLimits let a write go on within 10 s of a peer's freezing: after one
// call that comes to nothing the peer is left out for a while. A change of the
// ordering leader, about 5 s, passes within one wait for the commit.
var defaultLimits = limits{
	endorseCall:  6 * time.Second,
	endorse:      10 * time.Second,
	submitCall:   6 * time.Second,
	commit:       8 * time.Second,
	lookUp:       3 * time.Second,
	outcome:      2 * time.Minute,
	evaluateCall: 5 * time.Second,
	signedCall:   3 * time.Second,
	signedRead:   5 * time.Second,
	height:       time.Second,
	pause:        100 * time.Millisecond,
	longestPause: 2 * time.Second,
	suspicion:    10 * time.Second,
	stall:        2 * time.Second,
	witness:      2 * time.Second,
}

// Ledger is a [ledger.Adapter] on a Fabric channel. Create it with [New]. It is
// safe for concurrent use.
type Ledger struct {
	channel   string
	chaincode string
	peers     []*peer // own first
	signers   atomic.Pointer[map[domain.Role]*signer]
	limits    limits
	log       *slog.Logger

	mu         sync.Mutex
	suspects   map[domain.MSPID]time.Time         // departments that failed to sign, until when
	consenters map[uint64]map[uint32]domain.MSPID // by number of the config block
	heights    map[*peer]uint64                   // when they were last asked; 0 of one that did not answer

	endorsing chan struct{} // holds one for each proposal under way

	latest   atomic.Uint64                           // number of the latest block known of; see learn
	servedBy atomic.Pointer[[]domain.DepartmentCode] // see [Ledger.ServedBy]
}

var _ ledger.Adapter = (*Ledger)(nil)

// New returns a ledger for the configuration. It connects when it is first used,
// so that a gateway starts while its peer does not run. A nil logger logs
// nothing. The caller must Close the ledger.
func New(cfg Config, logger *slog.Logger) (*Ledger, error) {
	return newLedger(cfg, logger, defaultLimits)
}

func newLedger(cfg Config, logger *slog.Logger, limits limits) (*Ledger, error) {
	if cfg.Channel == "" || cfg.Chaincode == "" {
		return nil, errors.New("connect to ledger: channel and chaincode must be named")
	}
	if len(cfg.Peers) == 0 {
		return nil, errors.New("connect to ledger: no peer is configured")
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	l := &Ledger{
		channel:    cfg.Channel,
		chaincode:  cfg.Chaincode,
		limits:     limits,
		log:        logger,
		suspects:   make(map[domain.MSPID]time.Time),
		consenters: make(map[uint64]map[uint32]domain.MSPID),
		heights:    make(map[*peer]uint64),
		endorsing:  make(chan struct{}, mostEndorsing),
	}
	for _, p := range cfg.Peers {
		var instrument []grpc.DialOption
		if cfg.Instrument != nil {
			instrument = cfg.Instrument(p.Department)
		}
		connected, err := newPeer(p, instrument)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("peer of %s at %s: %w", p.Department, p.Endpoint, err), l.Close())
		}
		l.peers = append(l.peers, connected)
	}
	if err := l.SetIdentities(cfg.Identities); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to ledger: %w", err), l.Close())
	}
	return l, nil
}

// SetIdentities has everything that begins from now on signed by these
// identities: keys and certificates change without a restart. What is under way
// goes on under the identity that it began with. It changes nothing when it
// fails.
func (l *Ledger) SetIdentities(identities map[domain.Role]Identity) error {
	if _, ok := identities[domain.RoleGateway]; !ok {
		return fmt.Errorf("no identity for role %s", domain.RoleGateway)
	}
	signers := make(map[domain.Role]*signer)
	for role, id := range identities {
		s, err := newSigner(id, l.peers)
		if err != nil {
			return fmt.Errorf("identity of role %s: %w", role, err)
		}
		signers[role] = s
	}
	l.signers.Store(&signers)
	return nil
}

// Close ends every connection. Calls under way fail.
func (l *Ledger) Close() error {
	var errs []error
	for _, p := range l.peers {
		errs = append(errs, p.close())
	}
	return errors.Join(errs...)
}

// signer returns the department's identity for a role.
func (l *Ledger) signer(role domain.Role) (*signer, error) {
	s, ok := (*l.signers.Load())[role]
	if !ok {
		return nil, &domain.Error{Kind: domain.Forbidden, Msg: fmt.Sprintf("this gateway has no key of role %q; sign with your own: Prefer: sign-offline", role)}
	}
	return s, nil
}

// service returns the identity of the gateway itself, which there always is.
func (l *Ledger) service() *signer { return (*l.signers.Load())[domain.RoleGateway] }

// contract returns a chaincode as one identity sees it through one peer.
func (l *Ledger) contract(p *peer, s *signer, chaincode string) *client.Contract {
	return s.gateways[p].GetNetwork(l.channel).GetContract(chaincode)
}

// signer is an identity with its private key, and the gateway services of the
// peers as this identity uses them.
type signer struct {
	gateways map[*peer]*client.Gateway

	id      *identity.X509Identity
	sign    identity.Sign
	creator []byte // marshalled msp.SerializedIdentity
}

func newSigner(id Identity, peers []*peer) (*signer, error) {
	cert, err := identity.CertificateFromPEM(id.CertificatePEM)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	key, err := identity.PrivateKeyFromPEM(id.KeyPEM)
	if err != nil {
		return nil, fmt.Errorf("read private key: %w", err)
	}
	if !keyMatches(cert, key) {
		return nil, errors.New("the private key is not the certificate's")
	}
	sign, err := identity.NewPrivateKeySign(key)
	if err != nil {
		return nil, fmt.Errorf("use private key: %w", err)
	}
	x509ID, err := identity.NewX509Identity(string(id.MSPID), cert)
	if err != nil {
		return nil, fmt.Errorf("use certificate: %w", err)
	}
	creator, err := proto.Marshal(&msp.SerializedIdentity{Mspid: x509ID.MspID(), IdBytes: x509ID.Credentials()})
	if err != nil {
		return nil, fmt.Errorf("marshal identity: %w", err)
	}
	s := &signer{gateways: make(map[*peer]*client.Gateway), id: x509ID, sign: sign, creator: creator}
	for _, p := range peers {
		// The connection is the peer's: such a gateway holds nothing to close.
		if s.gateways[p], err = client.Connect(x509ID, client.WithSign(sign), client.WithClientConnection(p.pool)); err != nil {
			return nil, fmt.Errorf("connect to the peer of %s: %w", p.department, err)
		}
	}
	return s, nil
}

// keyMatches reports whether key is the private key of an ECDSA certificate.
func keyMatches(cert *x509.Certificate, key any) bool {
	private, ok := key.(*ecdsa.PrivateKey)
	return ok && private.PublicKey.Equal(cert.PublicKey)
}
