package fabricledger

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/gateway"
	"github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	pb "github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/zhenglian/zhenglian/domain"
)

// fakeChannel is what the fake peers of a test have in common: which
// transactions are committed, and the blocks.
type fakeChannel struct {
	mu        sync.Mutex
	committed map[string]*gateway.CommitStatusResponse
	grown     chan struct{}
	blocks    []*common.Block
	stopped   []string // MSP IDs of the peers that are down
}

func newFakeChannel() *fakeChannel {
	return &fakeChannel{committed: make(map[string]*gateway.CommitStatusResponse), grown: make(chan struct{})}
}

func (c *fakeChannel) commit(id string, code pb.TxValidationCode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.committed[id]; !ok {
		c.committed[id] = &gateway.CommitStatusResponse{Result: code, BlockNumber: 7}
	}
	close(c.grown)
	c.grown = make(chan struct{})
}

func (c *fakeChannel) append(blocks ...*common.Block) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocks = append(c.blocks, blocks...)
	close(c.grown)
	c.grown = make(chan struct{})
}

// missing answers for a gateway service whose gossip knows which peers are down.
func (c *fakeChannel) missing(orgs []string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var missing []string
	for _, org := range orgs {
		if slices.Contains(c.stopped, org) {
			missing = append(missing, org)
		}
	}
	return noPeersOf(missing...)
}

// noPeersOf is what a gateway service answers that knows no peers of the
// organisations; nil when there are none.
func noPeersOf(orgs ...string) error {
	if len(orgs) == 0 {
		return nil
	}
	return status.Error(codes.Unavailable, "failed to find any endorsing peers for org(s): "+strings.Join(orgs, ", "))
}

// stop ends the peer; the others know.
func (p *fakePeer) stop() {
	p.channel.mu.Lock()
	p.channel.stopped = append(p.channel.stopped, p.mspID)
	p.channel.mu.Unlock()
	p.server.Stop()
}

// wait calls found under the lock, now and after each change, until it reports
// true or ctx ends.
func (c *fakeChannel) wait(ctx context.Context, found func() bool) error {
	for {
		c.mu.Lock()
		ok, grown := found(), c.grown
		c.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-grown:
		}
	}
}

// fakePeer is a peer's gateway and deliver service over TLS on loopback. The
// functions replace the default behaviour of a healthy peer; n counts the calls
// from 1.
type fakePeer struct {
	gateway.UnimplementedGatewayServer
	pb.UnimplementedDeliverServer

	channel *fakeChannel
	mspID   string
	config  Peer
	server  *grpc.Server

	onEndorse  func(n int, r *gateway.EndorseRequest) error
	onSubmit   func(n int, r *gateway.SubmitRequest) error
	onStatus   func(n int) (*gateway.CommitStatusResponse, error)
	onEvaluate func(r *gateway.EvaluateRequest) ([]byte, error)
	onDeliver  func(stream pb.Deliver_DeliverServer, from uint64) error
	height     uint64

	mu        sync.Mutex
	endorsed  []*gateway.EndorseRequest
	submitted []*gateway.SubmitRequest
	statuses  int
	evaluated int
}

// authority issues the certificates of a test.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  []byte
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{key, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue returns a certificate and its key as PEM.
func (a *authority) issue(t testing.TB, name string) (certPEM, keyPEM []byte) {
	t.Helper()
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
		NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

// testLimits are short where a test waits for them to pass and long where it
// waits for something else.
var testLimits = limits{
	endorseCall:  5 * time.Second,
	endorse:      2 * time.Second,
	submitCall:   5 * time.Second,
	commit:       200 * time.Millisecond,
	lookUp:       200 * time.Millisecond,
	outcome:      30 * time.Second,
	evaluateCall: 5 * time.Second,
	signedCall:   5 * time.Second,
	signedRead:   3 * time.Second,
	height:       2 * time.Second,
	pause:        time.Millisecond,
	longestPause: 20 * time.Millisecond,
	suspicion:    time.Minute,
	stall:        100 * time.Millisecond,
	witness:      5 * time.Second,
}

var testDepartments = []struct {
	code  domain.DepartmentCode
	mspID string
}{{"police", "PoliceMSP"}, {"bigdata", "BigdataMSP"}, {"civil", "CivilMSP"}, {"market", "MarketMSP"}}

// newTestLedger starts four fake peers on one channel, of which police is the
// own one, and a ledger that uses them.
func newTestLedger(t *testing.T) (*Ledger, []*fakePeer) {
	t.Helper()
	ca := newAuthority(t)
	channel := newFakeChannel()
	cfg := Config{Channel: "zhenglian", Chaincode: "zhenglian", Identities: make(map[domain.Role]Identity)}
	var peers []*fakePeer
	for _, d := range testDepartments {
		p := startPeer(t, ca, channel, d.code, d.mspID)
		peers = append(peers, p)
		cfg.Peers = append(cfg.Peers, p.config)
	}
	for _, role := range []domain.Role{domain.RoleGateway, domain.RoleOperator} {
		certPEM, keyPEM := ca.issue(t, string(role))
		cfg.Identities[role] = Identity{MSPID: "PoliceMSP", CertificatePEM: certPEM, KeyPEM: keyPEM}
	}
	l, err := newLedger(cfg, nil, testLimits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return l, peers
}

func startPeer(t *testing.T, ca *authority, channel *fakeChannel, code domain.DepartmentCode, mspID string) *fakePeer {
	t.Helper()
	certPEM, keyPEM := ca.issue(t, "peer of "+string(code))
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &fakePeer{
		channel: channel, mspID: mspID, height: 8,
		server: grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}}))),
		config: Peer{
			Department: code, MSPID: domain.MSPID(mspID), Endpoint: listener.Addr().String(),
			TLSRoots: ca.pem, ServerName: "localhost",
		},
	}
	gateway.RegisterGatewayServer(p.server, p)
	pb.RegisterDeliverServer(p.server, p)
	go p.server.Serve(listener) // ends with Stop
	t.Cleanup(p.server.Stop)
	return p
}

// fail builds an error of the gateway service with one detail per department.
func fail(code codes.Code, message string, details ...*gateway.ErrorDetail) error {
	st := status.New(code, message)
	for _, d := range details {
		var err error
		if st, err = st.WithDetails(d); err != nil {
			panic(err)
		}
	}
	return st.Err()
}

func detail(mspID, message string) *gateway.ErrorDetail {
	return &gateway.ErrorDetail{Address: "peer", MspId: mspID, Message: message}
}

func (p *fakePeer) Endorse(_ context.Context, r *gateway.EndorseRequest) (*gateway.EndorseResponse, error) {
	p.mu.Lock()
	p.endorsed = append(p.endorsed, r)
	n := len(p.endorsed)
	p.mu.Unlock()
	if p.onEndorse != nil {
		if err := p.onEndorse(n, r); err != nil {
			return nil, err
		}
	}
	if err := p.channel.missing(r.GetEndorsingOrganizations()); err != nil {
		return nil, err
	}
	envelope, err := endorse(r)
	return &gateway.EndorseResponse{PreparedTransaction: envelope}, err
}

// endorse assembles the transaction of a proposal, endorsed by the organisations
// asked, or by three.
func endorse(r *gateway.EndorseRequest) (*common.Envelope, error) {
	var proposal pb.Proposal
	if err := proto.Unmarshal(r.GetProposedTransaction().GetProposalBytes(), &proposal); err != nil {
		return nil, err
	}
	var header common.Header
	if err := proto.Unmarshal(proposal.GetHeader(), &header); err != nil {
		return nil, err
	}
	orgs := slices.Clone(r.GetEndorsingOrganizations())
	if len(orgs) == 0 {
		orgs = []string{"PoliceMSP", "BigdataMSP", "CivilMSP"}
	}
	return assemble(&header, proposal.GetPayload(), []byte(`{"result":true}`), nil, orgs)
}

func marshal(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

func assemble(header *common.Header, proposal, result, results []byte, orgs []string) (*common.Envelope, error) {
	response := marshal(&pb.ProposalResponsePayload{
		ProposalHash: []byte("hash"),
		Extension: marshal(&pb.ChaincodeAction{
			Results:     results,
			Response:    &pb.Response{Status: 200, Payload: result},
			ChaincodeId: &pb.ChaincodeID{Name: "zhenglian", Version: "1.0"},
		}),
	})
	action := &pb.ChaincodeEndorsedAction{ProposalResponsePayload: response}
	for _, org := range orgs {
		endorser := marshal(&msp.SerializedIdentity{Mspid: org, IdBytes: []byte("certificate")})
		digest := sha256.Sum256(append(slices.Clone(response), endorser...))
		action.Endorsements = append(action.Endorsements, &pb.Endorsement{Endorser: endorser, Signature: digest[:]})
	}
	return &common.Envelope{Payload: marshal(&common.Payload{
		Header: header,
		Data: marshal(&pb.Transaction{Actions: []*pb.TransactionAction{{
			Header:  header.GetSignatureHeader(),
			Payload: marshal(&pb.ChaincodeActionPayload{ChaincodeProposalPayload: proposal, Action: action}),
		}}}),
	})}, nil
}

func (p *fakePeer) Submit(_ context.Context, r *gateway.SubmitRequest) (*gateway.SubmitResponse, error) {
	p.mu.Lock()
	p.submitted = append(p.submitted, r)
	n := len(p.submitted)
	p.mu.Unlock()
	if p.onSubmit != nil {
		return &gateway.SubmitResponse{}, p.onSubmit(n, r)
	}
	p.channel.commit(r.GetTransactionId(), pb.TxValidationCode_VALID)
	return &gateway.SubmitResponse{}, nil
}

func (p *fakePeer) CommitStatus(ctx context.Context, r *gateway.SignedCommitStatusRequest) (*gateway.CommitStatusResponse, error) {
	p.mu.Lock()
	p.statuses++
	n := p.statuses
	p.mu.Unlock()
	if p.onStatus != nil {
		return p.onStatus(n)
	}
	var request gateway.CommitStatusRequest
	if err := proto.Unmarshal(r.GetRequest(), &request); err != nil {
		return nil, err
	}
	if len(r.GetSignature()) == 0 || request.GetChannelId() != "zhenglian" {
		return nil, status.Error(codes.PermissionDenied, "unsigned or for another channel")
	}
	var answer *gateway.CommitStatusResponse
	err := p.channel.wait(ctx, func() bool {
		answer = p.channel.committed[request.GetTransactionId()]
		return answer != nil
	})
	return answer, err
}

func (p *fakePeer) Evaluate(_ context.Context, r *gateway.EvaluateRequest) (*gateway.EvaluateResponse, error) {
	p.mu.Lock()
	p.evaluated++
	p.mu.Unlock()
	chaincode, args, err := invocation(r.GetProposedTransaction())
	if err != nil {
		return nil, err
	}
	var result []byte
	switch {
	case chaincode == "qscc" && args[0] == "GetChainInfo":
		if got := r.GetTargetOrganizations(); !slices.Equal(got, []string{p.mspID}) {
			return nil, status.Errorf(codes.InvalidArgument, "asked the peer of %s for the height of %v", p.mspID, got)
		}
		result = marshal(&common.BlockchainInfo{Height: p.height})
	case chaincode == "qscc" && args[0] == "GetBlockByNumber":
		p.channel.mu.Lock()
		defer p.channel.mu.Unlock()
		number, err := strconv.Atoi(args[2])
		if args[1] != "zhenglian" || err != nil || number >= len(p.channel.blocks) {
			return nil, status.Errorf(codes.InvalidArgument, "no block %v", args)
		}
		result = marshal(p.channel.blocks[number])
	case p.onEvaluate != nil:
		if result, err = p.onEvaluate(r); err != nil {
			return nil, err
		}
	default:
		result = []byte(args[1])
	}
	return &gateway.EvaluateResponse{Result: &pb.Response{Status: 200, Payload: result}}, nil
}

func invocation(proposed *pb.SignedProposal) (chaincode string, args []string, err error) {
	var proposal pb.Proposal
	if err := proto.Unmarshal(proposed.GetProposalBytes(), &proposal); err != nil {
		return "", nil, err
	}
	var payload pb.ChaincodeProposalPayload
	if err := proto.Unmarshal(proposal.GetPayload(), &payload); err != nil {
		return "", nil, err
	}
	var spec pb.ChaincodeInvocationSpec
	if err := proto.Unmarshal(payload.GetInput(), &spec); err != nil {
		return "", nil, err
	}
	for _, arg := range spec.GetChaincodeSpec().GetInput().GetArgs() {
		args = append(args, string(arg))
	}
	return spec.GetChaincodeSpec().GetChaincodeId().GetName(), args, nil
}

func (p *fakePeer) Deliver(stream pb.Deliver_DeliverServer) error {
	envelope, err := stream.Recv()
	if err != nil {
		return err
	}
	var payload common.Payload
	if err := proto.Unmarshal(envelope.GetPayload(), &payload); err != nil {
		return err
	}
	var seek orderer.SeekInfo
	if err := proto.Unmarshal(payload.GetData(), &seek); err != nil {
		return err
	}
	if len(envelope.GetSignature()) == 0 {
		return status.Error(codes.PermissionDenied, "unsigned")
	}
	from := seek.GetStart().GetSpecified().GetNumber()
	if p.onDeliver != nil {
		return p.onDeliver(stream, from)
	}
	for n := from; ; n++ {
		if err := p.channel.wait(stream.Context(), func() bool { return n < uint64(len(p.channel.blocks)) }); err != nil {
			return err
		}
		p.channel.mu.Lock()
		b := p.channel.blocks[n]
		p.channel.mu.Unlock()
		if err := stream.Send(&pb.DeliverResponse{Type: &pb.DeliverResponse_Block{Block: b}}); err != nil {
			return err
		}
	}
}

// calls returns how often the peer's services were called.
func (p *fakePeer) calls() (endorse, submit, evaluate int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.endorsed), len(p.submitted), p.evaluated
}
