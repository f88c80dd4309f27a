//go:build e2e

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	tcp "net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hyperledger/fabric-gateway/pkg/client"
	"github.com/hyperledger/fabric-gateway/pkg/hash"
	"github.com/hyperledger/fabric-gateway/pkg/identity"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/discovery"
	"github.com/hyperledger/fabric-protos-go-apiv2/gateway"
	"github.com/hyperledger/fabric-protos-go-apiv2/gossip"
	"github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/zhenglian/zhenglian/test/consortium"
)

// TestEveryPort connects to everything that listens in a running consortium as somebody
// on the machine who has no certificate and no token, and is refused, or served only what
// is for everyone. What listens is read from the kernel: a port that nobody thought of
// has no rule here, and fails.
func TestEveryPort(t *testing.T) {
	var definition struct {
		Channel     string
		Departments []struct {
			Code  string
			MSPID string `yaml:"mspId"`
			Ports map[string]int
		}
	}
	data, err := os.ReadFile(net.Definition())
	must(t, err)
	must(t, yaml.Unmarshal(data, &definition))
	type place struct{ use, department, mspID string }
	known := map[int]place{}
	for _, d := range definition.Departments {
		for use, port := range d.Ports {
			known[port] = place{use, d.Code, d.MSPID}
		}
	}
	probes := map[string]func(*stranger, *testing.T, string){
		"gateway":           (*stranger).gateway,
		"peer":              (*stranger).peer,
		"peerChaincode":     (*stranger).mutual,
		"peerOperations":    (*stranger).mutual,
		"ca":                (*stranger).ca,
		"caOperations":      (*stranger).caOperations,
		"orderer":           (*stranger).orderer,
		"ordererCluster":    (*stranger).mutual,
		"ordererAdmin":      (*stranger).mutual,
		"ordererOperations": (*stranger).mutual,
		"chaincode":         (*stranger).mutual,
		// The gateways' cache is on this machine and asks for no password; what somebody
		// writes into it makes no verdict valid: see TestPoisoned.
		"redis": func(*stranger, *testing.T, string) {},
	}
	seen := map[int]bool{}
	for _, l := range listeners(t) {
		p, ok := known[l.port()]
		switch {
		case ok:
			seen[l.port()] = true
		case l.kind == consortium.CA:
			p = place{use: "caOperations", department: l.department} // at a port that the kernel chooses
		case l.port() == redisPort:
			p = place{use: "redis"}
		}
		if !l.address.Addr().IsLoopback() {
			t.Errorf("%s listens at %s, which other machines reach", l, l.address)
		}
		probe := probes[p.use]
		if probe == nil {
			t.Errorf("%s listens at %s: no rule says what it may answer", l, l.address)
			continue
		}
		t.Run(p.use+" "+p.department, func(t *testing.T) {
			probe(newStranger(t, definition.Channel, p.mspID), t, l.address.String())
		})
	}
	for port, p := range known {
		if !seen[port] {
			t.Errorf("nothing of %s listens at port %d, its %s", p.department, port, p.use)
		}
	}
	info, err := os.Stat(filepath.Join(net.State, "run", "supervisor.sock"))
	must(t, err)
	folder, err := os.Stat(filepath.Join(net.State, "run"))
	must(t, err)
	if info.Mode().Perm()&0o077 != 0 && folder.Mode().Perm()&0o077 != 0 {
		t.Errorf("others may talk to the supervisor: socket %s in %s", info.Mode(), folder.Mode())
	}
}

// listener is a listening socket of a process of the consortium.
type listener struct {
	address          netip.AddrPort
	program          string
	department, kind string // "" outside of the departments' folders
	pid              int
}

func (l listener) port() int { return int(l.address.Port()) }

func (l listener) String() string {
	return fmt.Sprintf("%s (pid %d, %s of %s)", l.program, l.pid, l.kind, l.department)
}

// listeners lists what the consortium's processes listen at, and the processes that this
// test started.
func listeners(t *testing.T) []listener {
	t.Helper()
	pids, err := net.AllProcesses()
	must(t, err)
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	must(t, err)
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// The name, in brackets, may hold anything; the parent is the second field after it.
		fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && len(fields) > 1 && fields[1] == strconv.Itoa(os.Getpid()) {
			pids = append(pids, pid)
		}
	}
	sockets := listening(t)
	var found []listener
	for _, pid := range pids {
		folder := filepath.Join("/proc", strconv.Itoa(pid))
		links, err := filepath.Glob(filepath.Join(folder, "fd", "*"))
		must(t, err)
		exe, _ := os.Readlink(filepath.Join(folder, "exe"))
		cwd, _ := os.Readlink(filepath.Join(folder, "cwd"))
		l := listener{pid: pid, program: filepath.Base(exe)}
		if rel, err := filepath.Rel(filepath.Join(net.State, "departments"), cwd); err == nil && !strings.HasPrefix(rel, "..") {
			l.department, l.kind, _ = strings.Cut(rel, string(filepath.Separator))
		}
		for _, link := range links {
			target, err := os.Readlink(link)
			if err != nil {
				continue // closed since
			}
			if address, ok := sockets[target]; ok {
				l.address = address
				found = append(found, l)
			}
		}
	}
	return found
}

// listening reads the kernel's tables of listening TCP sockets: the address of each, by
// the name that a descriptor of it has.
func listening(t *testing.T) map[string]netip.AddrPort {
	t.Helper()
	sockets := map[string]netip.AddrPort{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, err := os.ReadFile(table)
		if errors.Is(err, os.ErrNotExist) {
			continue // no IPv6 here
		}
		must(t, err)
		for line := range strings.Lines(string(data)) {
			fields := strings.Fields(line)
			if len(fields) < 10 || fields[3] != "0A" { // TCP_LISTEN
				continue
			}
			host, port, _ := strings.Cut(fields[1], ":")
			raw, err := hex.DecodeString(host)
			must(t, err)
			for word := range len(raw) / 4 { // in the machine's byte order
				binary.NativeEndian.PutUint32(raw[word*4:], binary.BigEndian.Uint32(raw[word*4:]))
			}
			ip, ok := netip.AddrFromSlice(raw)
			number, err := strconv.ParseUint(port, 16, 16)
			if !ok || err != nil {
				t.Fatalf("%s: address %s", table, fields[1])
			}
			sockets["socket:["+fields[9]+"]"] = netip.AddrPortFrom(ip.Unmap(), uint16(number))
		}
	}
	return sockets
}

// stranger is somebody on the machine: with no certificate but one that it made itself,
// which claims to be of the department.
type stranger struct {
	channel     string
	certificate tls.Certificate
	id          *identity.X509Identity
	sign        identity.Sign
}

func newStranger(t *testing.T, channel, mspID string) *stranger {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stranger", OrganizationalUnit: []string{"admin"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	leaf, err := x509.ParseCertificate(der)
	must(t, err)
	s := &stranger{channel: channel, certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}}
	s.id, err = identity.NewX509Identity(mspID, leaf)
	must(t, err)
	s.sign, err = identity.NewPrivateKeySign(key)
	must(t, err)
	return s
}

// anyServer is how the stranger speaks TLS. It does not care who answers: what matters is
// whether it is let in.
func anyServer(certificates ...tls.Certificate) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, //nolint:gosec // see above
		// Send it whatever authorities the server asks for.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(certificates) == 0 {
				return new(tls.Certificate), nil
			}
			return &certificates[0], nil
		},
	}
}

// mutual is refused by a server that asks for a certificate: without one, with its own,
// and without TLS.
func (s *stranger) mutual(t *testing.T, address string) {
	for name, config := range map[string]*tls.Config{"no certificate": anyServer(), "a certificate of its own": anyServer(s.certificate)} {
		conn, err := tls.DialWithDialer(&tcp.Dialer{Timeout: 10 * time.Second}, "tcp", address, config)
		if err == nil {
			// With TLS 1.3 the server refuses after the client has finished its part.
			must(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
			_, err = conn.Read(make([]byte, 1))
			_ = conn.Close() // nothing was sent
		}
		var alert *tcp.OpError
		if !errors.As(err, &alert) || alert.Op != "remote error" || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("with %s: %v, want a refusal for the certificate", name, err)
		}
	}
	res, err := (&http.Client{Timeout: 10 * time.Second}).Get("http://" + address + "/healthz")
	if err == nil {
		_ = res.Body.Close() // its status says enough
		if res.StatusCode < 400 {
			t.Errorf("without TLS: status %d", res.StatusCode)
		}
	}
}

// refusal is the answer to a request that must not succeed: an error, or what tells that
// it was refused.
type refusal struct {
	request string
	answer  func(context.Context) (refused bool, err error)
}

// refuse makes requests, each of which must end without what it asks for.
func refuse(t *testing.T, requests []refusal) {
	t.Helper()
	for _, r := range requests {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		refused, err := r.answer(ctx)
		if err == nil && !refused {
			t.Errorf("%s is answered", r.request)
		}
		if ctx.Err() != nil {
			t.Errorf("%s is not refused: it waits", r.request)
		}
		cancel()
	}
}

// dial connects without a client certificate.
func (s *stranger) dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(anyServer())))
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// creator is how the stranger names itself to Fabric.
func (s *stranger) creator(t *testing.T) []byte {
	t.Helper()
	return marshalled(t, &msp.SerializedIdentity{
		Mspid:   s.id.MspID(),
		IdBytes: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.certificate.Certificate[0]}),
	})
}

// envelope signs data as a message of the channel.
func (s *stranger) envelope(t *testing.T, kind common.HeaderType, data []byte) *common.Envelope {
	t.Helper()
	nonce := []byte(randomHex(t, 12))
	payload := marshalled(t, &common.Payload{
		Header: &common.Header{
			ChannelHeader: marshalled(t, &common.ChannelHeader{
				Type: int32(kind), ChannelId: s.channel, Timestamp: timestamppb.Now(),
				TxId: hex.EncodeToString(hash.SHA256(append(nonce, s.creator(t)...))),
			}),
			SignatureHeader: marshalled(t, &common.SignatureHeader{Creator: s.creator(t), Nonce: nonce}),
		},
		Data: data,
	})
	return &common.Envelope{Payload: payload, Signature: s.signed(t, payload)}
}

func (s *stranger) signed(t *testing.T, data []byte) []byte {
	t.Helper()
	signature, err := s.sign(hash.SHA256(data))
	must(t, err)
	return signature
}

func marshalled(t *testing.T, message proto.Message) []byte {
	t.Helper()
	data, err := proto.Marshal(message)
	must(t, err)
	return data
}

// seekAll asks for every block.
func (s *stranger) seekAll(t *testing.T) *common.Envelope {
	return s.envelope(t, common.HeaderType_DELIVER_SEEK_INFO, marshalled(t, &orderer.SeekInfo{
		Start:    &orderer.SeekPosition{Type: &orderer.SeekPosition_Specified{Specified: &orderer.SeekSpecified{Number: 0}}},
		Stop:     &orderer.SeekPosition{Type: &orderer.SeekPosition_Specified{Specified: &orderer.SeekSpecified{Number: 0}}},
		Behavior: orderer.SeekInfo_FAIL_IF_NOT_READY,
	}))
}

// peer has no certificate in its TLS and its own in every message: each service of a
// peer refuses it.
func (s *stranger) peer(t *testing.T, address string) {
	conn := s.dial(t, address)
	user, err := client.Connect(s.id, client.WithSign(s.sign), client.WithHash(hash.SHA256), client.WithClientConnection(conn))
	must(t, err)
	defer user.Close()
	channel := user.GetNetwork(s.channel)
	var requests []refusal
	ask := func(request string, answer func(context.Context) (bool, error)) {
		requests = append(requests, refusal{request, answer})
	}
	for _, q := range []struct{ chaincode, transaction, argument string }{
		{"qscc", "GetChainInfo", s.channel}, {"cscc", "GetChannels", ""}, {"_lifecycle", "QueryInstalledChaincodes", ""},
		{"zhenglian", "governance:GetCalendar", `{"year":2026}`},
	} {
		proposal, err := channel.GetContract(q.chaincode).NewProposal(q.transaction, client.WithArguments(q.argument))
		must(t, err)
		ask("evaluate "+q.chaincode, func(ctx context.Context) (bool, error) {
			_, err := proposal.EvaluateWithContext(ctx)
			return false, err
		})
		ask("endorse "+q.chaincode, func(ctx context.Context) (bool, error) {
			_, err := proposal.EndorseWithContext(ctx)
			return false, err
		})
		data, err := proposal.Bytes()
		must(t, err)
		proposed := new(gateway.ProposedTransaction)
		must(t, proto.Unmarshal(data, proposed))
		proposed.Proposal.Signature = s.signed(t, proposed.GetProposal().GetProposalBytes())
		ask("propose "+q.chaincode, func(ctx context.Context) (bool, error) {
			response, err := peer.NewEndorserClient(conn).ProcessProposal(ctx, proposed.GetProposal())
			return response.GetEndorsement() == nil && response.GetResponse().GetStatus() >= 400 && len(response.GetPayload()) == 0, err
		})
	}
	ask("submit", func(ctx context.Context) (bool, error) {
		_, err := gateway.NewGatewayClient(conn).Submit(ctx, &gateway.SubmitRequest{
			TransactionId: "stranger", ChannelId: s.channel, PreparedTransaction: s.envelope(t, common.HeaderType_ENDORSER_TRANSACTION, nil),
		})
		return false, err
	})
	status := marshalled(t, &gateway.CommitStatusRequest{TransactionId: "stranger", ChannelId: s.channel, Identity: s.creator(t)})
	ask("commit status", func(ctx context.Context) (bool, error) {
		_, err := gateway.NewGatewayClient(conn).CommitStatus(ctx, &gateway.SignedCommitStatusRequest{Request: status, Signature: s.signed(t, status)})
		return false, err
	})
	ask("chaincode events", func(ctx context.Context) (bool, error) {
		events, err := channel.ChaincodeEvents(ctx, "zhenglian", client.WithStartBlock(0))
		if err != nil {
			return false, err
		}
		_, some := <-events // closed when the peer refuses
		return !some, nil
	})
	for name, open := range map[string]func(context.Context) (grpc.BidiStreamingClient[common.Envelope, peer.DeliverResponse], error){
		"blocks": func(ctx context.Context) (grpc.BidiStreamingClient[common.Envelope, peer.DeliverResponse], error) {
			return peer.NewDeliverClient(conn).Deliver(ctx)
		},
		"filtered blocks": func(ctx context.Context) (grpc.BidiStreamingClient[common.Envelope, peer.DeliverResponse], error) {
			return peer.NewDeliverClient(conn).DeliverFiltered(ctx)
		},
		"blocks with private data": func(ctx context.Context) (grpc.BidiStreamingClient[common.Envelope, peer.DeliverResponse], error) {
			return peer.NewDeliverClient(conn).DeliverWithPrivateData(ctx)
		},
	} {
		ask(name, func(ctx context.Context) (bool, error) {
			stream, err := open(ctx)
			if err != nil {
				return false, err
			}
			if err := stream.Send(s.seekAll(t)); err != nil {
				return false, err
			}
			response, err := stream.Recv()
			return response.GetStatus() == common.Status_FORBIDDEN, err
		})
	}
	query := marshalled(t, &discovery.Request{
		Authentication: &discovery.AuthInfo{ClientIdentity: s.creator(t)},
		Queries: []*discovery.Query{
			{Channel: s.channel, Query: &discovery.Query_ConfigQuery{ConfigQuery: new(discovery.ConfigQuery)}},
			{Channel: s.channel, Query: &discovery.Query_PeerQuery{PeerQuery: new(discovery.PeerMembershipQuery)}},
		},
	})
	ask("discovery", func(ctx context.Context) (bool, error) {
		response, err := discovery.NewDiscoveryClient(conn).Discover(ctx, &discovery.SignedRequest{Payload: query, Signature: s.signed(t, query)})
		for _, r := range response.GetResults() {
			if r.GetError() == nil {
				return false, err
			}
		}
		return true, err
	})
	snapshots := marshalled(t, &peer.SnapshotQuery{SignatureHeader: &common.SignatureHeader{Creator: s.creator(t)}, ChannelId: s.channel})
	ask("snapshots", func(ctx context.Context) (bool, error) {
		_, err := peer.NewSnapshotClient(conn).QueryPendings(ctx, &peer.SignedSnapshotRequest{Request: snapshots, Signature: s.signed(t, snapshots)})
		return false, err
	})
	ask("gossip", func(ctx context.Context) (bool, error) {
		stream, err := gossip.NewGossipClient(conn).GossipStream(ctx)
		if err != nil {
			return false, err
		}
		_, err = stream.Recv()
		return false, err
	})
	refuse(t, requests)
}

// orderer refuses to order what the stranger signed, and to give it blocks.
func (s *stranger) orderer(t *testing.T, address string) {
	conn := s.dial(t, address)
	refuse(t, []refusal{
		{"broadcast", func(ctx context.Context) (bool, error) {
			stream, err := orderer.NewAtomicBroadcastClient(conn).Broadcast(ctx)
			if err != nil {
				return false, err
			}
			if err := stream.Send(s.envelope(t, common.HeaderType_ENDORSER_TRANSACTION, nil)); err != nil {
				return false, err
			}
			response, err := stream.Recv()
			return response.GetStatus() >= 400, err
		}},
		{"deliver", func(ctx context.Context) (bool, error) {
			stream, err := orderer.NewAtomicBroadcastClient(conn).Deliver(ctx)
			if err != nil {
				return false, err
			}
			if err := stream.Send(s.seekAll(t)); err != nil {
				return false, err
			}
			response, err := stream.Recv()
			return response.GetStatus() == common.Status_FORBIDDEN, err
		}},
		{"step", func(ctx context.Context) (bool, error) { // is served where orderers talk, alone
			stream, err := orderer.NewClusterNodeServiceClient(conn).Step(ctx)
			if err != nil {
				return false, err
			}
			_, err = stream.Recv()
			return false, err
		}},
	})
}

// answer makes one HTTP request with a body of JSON and answers status and body.
func (s *stranger) answer(t *testing.T, method, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader("{}"))
	must(t, err)
	req.Header.Set("Content-Type", "application/json")
	config := anyServer()
	config.NextProtos = nil // what net/http offers is enough
	do := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	res, err := do.Do(req)
	must(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	must(t, err)
	return res.StatusCode, string(body)
}

// ca shows its root certificates, which are public, and asks everybody else who they are.
func (s *stranger) ca(t *testing.T, address string) {
	base := "https://" + address
	if status, body := s.answer(t, "GET", base+"/api/v1/cainfo"); status != 200 || !strings.Contains(body, "CAChain") {
		t.Errorf("cainfo: status %d: %s", status, body)
	}
	for _, request := range []string{
		"POST enroll", "POST reenroll", "POST register", "POST revoke", "POST gencrl", "POST idemix/credential", "POST idemix/cri",
		"GET identities", "GET identities/admin", "POST identities", "PUT identities/admin", "DELETE identities/admin",
		"GET affiliations", "POST affiliations", "GET certificates",
	} {
		method, path, _ := strings.Cut(request, " ")
		if status, body := s.answer(t, method, base+"/api/v1/"+path); status < 400 || strings.Contains(body, `"success":true`) {
			t.Errorf("%s: status %d: %s", request, status, body)
		}
	}
}

// caOperations says that the certificate authority runs, and of which version it is.
func (s *stranger) caOperations(t *testing.T, address string) {
	for path, want := range map[string]int{"/healthz": 200, "/version": 200, "/metrics": 404, "/logspec": 404, "/debug/pprof/": 404, "/": 404} {
		status, body := s.answer(t, "GET", "http://"+address+path)
		if status != want || len(body) > 200 {
			t.Errorf("%s: status %d, want %d: %s", path, status, want, body)
		}
	}
	if status, _ := s.answer(t, "PUT", "http://"+address+"/logspec"); status != 404 {
		t.Errorf("change what is logged: status %d", status)
	}
}

// gateway answers without a token what its description says is public, and asks for one
// everywhere else.
func (s *stranger) gateway(t *testing.T, address string) {
	base := "http://" + address
	status, body := s.answer(t, "GET", base+"/openapi.json")
	if status != 200 {
		t.Fatalf("description: status %d", status)
	}
	var description struct {
		Paths map[string]map[string]json.RawMessage
	}
	must(t, json.Unmarshal([]byte(body), &description))
	parameter := regexp.MustCompile(`\{[^}]*\}`)
	asked := 0
	for path, operations := range description.Paths {
		for method, data := range operations {
			var operation struct{ Security *[]any }
			if json.Unmarshal(data, &operation) != nil || operation.Security != nil && len(*operation.Security) == 0 {
				continue // what several operations share, or public
			}
			asked++
			if status, body := s.answer(t, strings.ToUpper(method), base+parameter.ReplaceAllString(path, "1")); status != 401 {
				t.Errorf("%s %s: status %d: %.300s", method, path, status, body)
			}
		}
	}
	if asked < 50 {
		t.Errorf("%d operations of the description ask for a token", asked)
	}
	for _, path := range []string{"/debug/pprof/", "/debug/vars", "/gateway.json", "/v1/../gateway.json", "/.git/config", "/tokens"} {
		if status, body := s.answer(t, "GET", base+path); status != 404 {
			t.Errorf("%s: status %d: %.300s", path, status, body)
		}
	}
}
