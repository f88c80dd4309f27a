//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	tcp "net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-gateway/pkg/client"
	"github.com/hyperledger/fabric-gateway/pkg/hash"
	"github.com/hyperledger/fabric-gateway/pkg/identity"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/gateway"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"

	"github.com/zhenglian/zhenglian/chaincode"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/test/consortium"
)

// dishonest is the chaincode of a department that keeps no rules: what it registers is
// published at once, without the lead's review, and whoever submits an entry of whatever
// department gives it other content.
type dishonest struct{ shim.Chaincode }

// untrue is what the dishonest chaincode writes for an entry's abstract.
const untrue = "任何部门均可使用。"

// Invoke runs a transaction against the rules, or as everybody does.
func (d dishonest) Invoke(stub shim.ChaincodeStubInterface) *peer.Response {
	name, args := stub.GetFunctionAndParameters()
	switch name {
	case "catalog:Register":
		return d.Chaincode.Invoke(publishing{stub})
	case "catalog:Submit":
		var entry domain.CodeArgs
		if err := json.Unmarshal([]byte(args[0]), &entry); err != nil {
			return shim.Error(err.Error())
		}
		key := domain.KeyOf(domain.KindCatalogEntry, entry.Code)
		value, err := stub.GetState(key)
		if err != nil {
			return shim.Error(err.Error())
		}
		value = bytes.ReplaceAll(value, []byte(content("").Abstract), []byte(untrue))
		if err := stub.PutState(key, value); err != nil {
			return shim.Error(err.Error())
		}
		return shim.Success(value)
	}
	return d.Chaincode.Invoke(stub)
}

// publishing writes entries that await their review as published.
type publishing struct{ shim.ChaincodeStubInterface }

func (p publishing) PutState(key string, value []byte) error {
	return p.ChaincodeStubInterface.PutState(key,
		bytes.Replace(value, []byte(`"state":"`+domain.CatalogRegPending+`"`), []byte(`"state":"`+domain.CatalogPublished+`"`), 1))
}

// serveDishonest runs the dishonest chaincode in the place of a department's own, with
// its keys and at its address, as its administrator could. The function answered puts
// the department's own back.
func serveDishonest(t *testing.T, department string) (stop func()) {
	t.Helper()
	home := filepath.Join(net.State, "departments", department, "chaincode")
	var config struct {
		Listen      string `json:"listen"`
		ChaincodeID string `json:"chaincodeId"`
		TLS         struct {
			Certificate string `json:"certificate"`
			Key         string `json:"key"`
			ClientRoots string `json:"clientRoots"`
		} `json:"tls"`
	}
	data, err := os.ReadFile(filepath.Join(home, "chaincode.json"))
	must(t, err)
	must(t, json.Unmarshal(data, &config))
	at := func(name string) string {
		if filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(home, name)
	}
	pair, err := tls.LoadX509KeyPair(at(config.TLS.Certificate), at(config.TLS.Key))
	must(t, err)
	contracts, err := chaincode.New(slog.New(slog.NewTextHandler(io.Discard, nil)))
	must(t, err)
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: certificatesIn(t, at(config.TLS.ClientRoots)),
	})))
	peer.RegisterChaincodeServer(server, &shim.ChaincodeServer{CCID: config.ChaincodeID, CC: dishonest{contracts}})

	process := consortium.Chaincode + "-" + department
	must(t, net.Halt(t.Context(), process))
	var listener tcp.Listener
	await(t, "the address of the department's chaincode", 30*time.Second, func() (bool, string) {
		listener, err = tcp.Listen("tcp", config.Listen)
		return err == nil, ""
	})
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(listener) }) // ends with Stop
	return sync.OnceFunc(func() {
		server.Stop()
		wg.Wait()
		must(t, net.Resume(context.Background(), process))
	})
}

// certificatesIn reads a PEM file of certificates.
func certificatesIn(t *testing.T, path string) *x509.CertPool {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		t.Fatalf("%s has no certificate", path)
	}
	return pool
}

// member is a user of a department who speaks to each department's peer directly.
type member struct {
	gateway  *client.Gateway
	contract *client.Contract
	sign     identity.Sign
	peers    map[string]*grpc.ClientConn // by the department's MSP
}

// newMember connects a department's operator, whose keys the department has.
func newMember(t *testing.T, department string) *member {
	t.Helper()
	home := filepath.Join(net.State, "departments", department)
	var config struct {
		Channel, Chaincode string
		Peers              []struct{ Endpoint, TLSRoots, ServerName, MSPID string }
	}
	data, err := os.ReadFile(filepath.Join(home, "gateway", "gateway.json"))
	must(t, err)
	must(t, json.Unmarshal(data, &config))
	m := &member{peers: map[string]*grpc.ClientConn{}}
	for _, p := range config.Peers {
		roots := certificatesIn(t, filepath.Join(home, "gateway", p.TLSRoots))
		m.peers[p.MSPID], err = grpc.NewClient(p.Endpoint, grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(roots, p.ServerName)))
		must(t, err)
	}
	own := config.Peers[0].MSPID // the department's own comes first
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(home, "users", "operator", name))
		must(t, err)
		return data
	}
	block, _ := pem.Decode(read("cert.pem"))
	certificate, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	id, err := identity.NewX509Identity(own, certificate)
	must(t, err)
	key, err := identity.PrivateKeyFromPEM(read("key.pem"))
	must(t, err)
	m.sign, err = identity.NewPrivateKeySign(key)
	must(t, err)
	m.gateway, err = client.Connect(id, client.WithSign(m.sign), client.WithHash(hash.SHA256), client.WithClientConnection(m.peers[own]))
	must(t, err)
	m.contract = m.gateway.GetNetwork(config.Channel).GetContract(config.Chaincode)
	return m
}

func (m *member) close() {
	_ = m.gateway.Close() // nothing is lost by either
	for _, conn := range m.peers {
		_ = conn.Close()
	}
}

// propose signs a proposal to run a transaction.
func (m *member) propose(t *testing.T, transaction string, args any) *gateway.ProposedTransaction {
	t.Helper()
	argument, err := domain.Canonical(args)
	must(t, err)
	proposal, err := m.contract.NewProposal(transaction, client.WithBytesArguments(argument))
	must(t, err)
	data, err := proposal.Bytes()
	must(t, err)
	proposed := new(gateway.ProposedTransaction)
	must(t, proto.Unmarshal(data, proposed))
	proposed.Proposal.Signature, err = m.sign(proposal.Digest())
	must(t, err)
	return proposed
}

// ask has a department's peer run a proposal, past every gateway.
func (m *member) ask(t *testing.T, mspID string, proposed *gateway.ProposedTransaction) *peer.ProposalResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	response, err := peer.NewEndorserClient(m.peers[mspID]).ProcessProposal(ctx, proposed.GetProposal())
	must(t, err)
	return response
}

// submit has a transaction ordered of one answer and any endorsements, and answers what
// the peers find.
func (m *member) submit(t *testing.T, proposed *gateway.ProposedTransaction, answer []byte, endorsements []*peer.Endorsement) peer.TxValidationCode {
	t.Helper()
	commit, err := m.assemble(t, proposed, proposed.GetTransactionId(), answer, endorsements).SubmitWithContext(t.Context())
	must(t, err)
	status, err := commit.StatusWithContext(t.Context())
	must(t, err)
	return status.Code
}

// assemble makes a transaction of one answer and any endorsements, under any ID, as a
// client can that checks nothing.
func (m *member) assemble(t *testing.T, proposed *gateway.ProposedTransaction, id string, answer []byte, endorsements []*peer.Endorsement) *client.Transaction {
	t.Helper()
	proposal, input := new(peer.Proposal), new(peer.ChaincodeProposalPayload)
	must(t, proto.Unmarshal(proposed.GetProposal().GetProposalBytes(), proposal))
	must(t, proto.Unmarshal(proposal.GetPayload(), input))
	header, channel := new(common.Header), new(common.ChannelHeader)
	must(t, proto.Unmarshal(proposal.GetHeader(), header))
	must(t, proto.Unmarshal(header.GetChannelHeader(), channel))
	input.TransientMap = nil // is never part of a transaction
	marshal := func(message proto.Message) []byte {
		data, err := proto.Marshal(message)
		must(t, err)
		return data
	}
	if channel.GetTxId() != id {
		channel.TxId = id
		header.ChannelHeader = marshal(channel)
	}
	payload := marshal(&common.Payload{Header: header, Data: marshal(&peer.Transaction{Actions: []*peer.TransactionAction{{
		Header: header.GetSignatureHeader(),
		Payload: marshal(&peer.ChaincodeActionPayload{
			ChaincodeProposalPayload: marshal(input),
			Action:                   &peer.ChaincodeEndorsedAction{ProposalResponsePayload: answer, Endorsements: endorsements},
		}),
	}}})})
	transaction, err := m.gateway.NewTransaction(marshal(&gateway.PreparedTransaction{TransactionId: id, Envelope: &common.Envelope{Payload: payload}}))
	must(t, err)
	return transaction
}

// entryAt is an entry as a department's peer has it, nil for none.
func (m *member) entryAt(t *testing.T, mspID, code string) *domain.CatalogEntry {
	t.Helper()
	response := m.ask(t, mspID, m.propose(t, "catalog:Get", domain.CodeArgs{Code: code}))
	if strings.HasPrefix(response.GetResponse().GetMessage(), string(domain.NotFound)) {
		return nil
	}
	entry := new(domain.CatalogEntry)
	if err := json.Unmarshal(response.GetResponse().GetPayload(), entry); err != nil {
		t.Fatalf("%s answers status %d, %q: %v", mspID, response.GetResponse().GetStatus(), response.GetResponse().GetMessage(), err)
	}
	return entry
}

// TestDishonestChaincode has a department run another chaincode on its own peer, which
// writes against the rules, with a user of its own who submits what it endorsed. Every
// peer, the department's own included, finds each of these transactions invalid, however
// their endorsements are put together; and the others go on.
func TestDishonestChaincode(t *testing.T) {
	const own = "PoliceMSP"
	honest := []string{"BigdataMSP", "CivilMSP", "MarketMSP"}
	before := contentOf("police")
	must(t, net.Gateway("police").Call(t.Context(), "operator", "POST", "/v1/catalog/entries", before, 201, nil))
	other := contentOf("civil")
	must(t, net.Gateway("civil").Call(t.Context(), "operator", "POST", "/v1/catalog/entries", other, 201, nil))
	for _, department := range net.Departments() {
		awaitState(t, department, before.Code, domain.CatalogRegPending)
		awaitState(t, department, other.Code, domain.CatalogRegPending)
	}
	m := newMember(t, "police")
	defer m.close()
	restore := serveDishonest(t, "police")
	defer restore()

	fresh := contentOf("police")
	for _, c := range []struct {
		name, transaction, code string
		args                    any
		writes                  string // what only the dishonest peer writes
	}{
		{"a record of its own, without the lead's review", "catalog:Register", fresh.Code, domain.RegisterCatalogArgs{Content: fresh}, `"state":"` + string(domain.CatalogPublished) + `"`},
		{"a change of its own record that the rules do not have", "catalog:Submit", before.Code, domain.CodeArgs{Code: before.Code}, untrue},
		{"a change of another department's record", "catalog:Submit", other.Code, domain.CodeArgs{Code: other.Code}, untrue},
	} {
		t.Run(c.name, func(t *testing.T) {
			endorsed := map[string]func(lie *peer.ProposalResponse, of []*peer.ProposalResponse) []*peer.Endorsement{
				"its own peer's alone": func(lie *peer.ProposalResponse, _ []*peer.ProposalResponse) []*peer.Endorsement {
					return []*peer.Endorsement{lie.GetEndorsement()}
				},
				"its own peer's, once for each department of the majority": func(lie *peer.ProposalResponse, _ []*peer.ProposalResponse) []*peer.Endorsement {
					return slices.Repeat([]*peer.Endorsement{lie.GetEndorsement()}, 3)
				},
				"its own peer's under the others' names": func(lie *peer.ProposalResponse, of []*peer.ProposalResponse) []*peer.Endorsement {
					all := []*peer.Endorsement{lie.GetEndorsement()}
					for _, r := range of {
						all = append(all, &peer.Endorsement{Endorser: r.GetEndorsement().GetEndorser(), Signature: lie.GetEndorsement().GetSignature()})
					}
					return all
				},
				"all departments', of what each of them computed": func(lie *peer.ProposalResponse, of []*peer.ProposalResponse) []*peer.Endorsement {
					all := []*peer.Endorsement{lie.GetEndorsement()}
					for _, r := range of {
						all = append(all, r.GetEndorsement())
					}
					return all
				},
			}
			there := m.entryAt(t, honest[0], c.code)
			if (there == nil) != (c.code == fresh.Code) {
				t.Fatalf("before it, there is %+v", there)
			}
			for how, endorsements := range endorsed {
				proposed := m.propose(t, c.transaction, c.args)
				lie := m.ask(t, own, proposed)
				if status := lie.GetResponse().GetStatus(); status != 200 || !bytes.Contains(lie.GetPayload(), []byte(c.writes)) {
					t.Fatalf("the dishonest peer answers status %d, %q", status, lie.GetResponse().GetMessage())
				}
				var of []*peer.ProposalResponse
				for _, mspID := range honest {
					r := m.ask(t, mspID, proposed)
					if bytes.Contains(r.GetPayload(), []byte(c.writes)) {
						t.Errorf("%s endorses it: %q", mspID, r.GetPayload())
					}
					if r.GetEndorsement() == nil { // its chaincode refuses; it signs other things
						r = m.ask(t, mspID, m.propose(t, "catalog:Get", domain.CodeArgs{Code: other.Code}))
					}
					of = append(of, r)
				}
				if code := m.submit(t, proposed, lie.GetPayload(), endorsements(lie, of)); code != peer.TxValidationCode_ENDORSEMENT_POLICY_FAILURE {
					t.Errorf("endorsements: %s: the peers find %s, want ENDORSEMENT_POLICY_FAILURE", how, code)
				}
			}
			await(t, "equal heights", 30*time.Second, func() (bool, string) { return equalHeights(t) })
			for _, mspID := range append(honest, own) {
				if diff := cmp.Diff(there, m.entryAt(t, mspID, c.code)); diff != "" {
					t.Errorf("%s has another entry (-before +after):\n%s", mspID, diff)
				}
			}
		})
	}

	// An honest transaction put together in the same way is valid: the majority does
	// without the department's peer.
	proposed := m.propose(t, "catalog:Register", domain.RegisterCatalogArgs{Content: contentOf("police")})
	var answer []byte
	var endorsements []*peer.Endorsement
	for _, mspID := range honest {
		r := m.ask(t, mspID, proposed)
		answer, endorsements = r.GetPayload(), append(endorsements, r.GetEndorsement())
	}
	if code := m.submit(t, proposed, answer, endorsements); code != peer.TxValidationCode_VALID {
		t.Errorf("what the three others endorsed: the peers find %s", code)
	}
	// A gateway service that collects endorsements as they should be collected gets none
	// for what the department's peer answers.
	argument, err := domain.Canonical(domain.RegisterCatalogArgs{Content: contentOf("police")})
	must(t, err)
	proposal, err := m.contract.NewProposal("catalog:Register", client.WithBytesArguments(argument))
	must(t, err)
	var refused *client.EndorseError
	if _, err := proposal.EndorseWithContext(t.Context()); !errors.As(err, &refused) {
		t.Errorf("the department's peer finds others that endorse what it answers: %v", err)
	}
	// The other departments' gateways do without it, whichever peers they ask.
	for range 3 {
		must(t, net.Gateway("civil").Call(t.Context(), "operator", "POST", "/v1/catalog/entries", contentOf("civil"), 201, nil))
	}

	restore()
	await(t, "the department's own chaincode endorses again", 60*time.Second, func() (bool, string) {
		res, err := net.Gateway("police").Do(t.Context(), "operator", "POST", "/v1/catalog/entries", contentOf("police"))
		return err == nil && res.Status == 201, string(res.Body)
	})
}
