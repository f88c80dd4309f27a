package fabricledger

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/gateway"
	pb "github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

func TestEvaluate(t *testing.T) {
	refusal := "chaincode response 500, not_found: no certificate has this reference"
	for _, tt := range []struct {
		name    string
		arrange func(own *fakePeer, others []*fakePeer)
		want    string // see outcome; "committed" is success
		asked   []int  // evaluations of each peer
	}{
		{"answers", func(*fakePeer, []*fakePeer) {}, "committed", []int{1, 0, 0, 0}},
		{
			"is refused", func(own *fakePeer, _ []*fakePeer) {
				own.onEvaluate = func(*gateway.EvaluateRequest) ([]byte, error) {
					return nil, fail(codes.Unknown, "evaluate call to endorser returned error: "+refusal, detail("PoliceMSP", refusal))
				}
			}, "not_found", []int{1, 0, 0, 0},
		},
		{
			"is refused without details", func(own *fakePeer, _ []*fakePeer) {
				own.onEvaluate = func(*gateway.EvaluateRequest) ([]byte, error) {
					return nil, status.Error(codes.Unknown, "evaluate call to endorser returned error: "+refusal)
				}
			}, "not_found", []int{1, 0, 0, 0},
		},
		{
			"asks another department when the own peer is down", func(own *fakePeer, _ []*fakePeer) {
				own.server.Stop()
			}, "committed", []int{0, 1, 0, 0},
		},
		{
			"asks another department when the own chaincode is down", func(own *fakePeer, _ []*fakePeer) {
				own.onEvaluate = func(*gateway.EvaluateRequest) ([]byte, error) {
					return nil, fail(codes.Aborted, "failed to evaluate transaction, see attached details for more info",
						detail("PoliceMSP", "error in simulation: failed to execute transaction: chaincode stream terminated"))
				}
			}, "committed", []int{1, 1, 0, 0},
		},
		{
			"is denied", func(own *fakePeer, _ []*fakePeer) {
				own.onEvaluate = func(*gateway.EvaluateRequest) ([]byte, error) {
					return nil, status.Error(codes.PermissionDenied, "access denied")
				}
			}, "failed", []int{1, 0, 0, 0},
		},
		{
			"finds nobody", func(own *fakePeer, others []*fakePeer) {
				for _, p := range append(others, own) {
					p.server.Stop()
				}
			}, "unavailable", []int{0, 0, 0, 0},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l, peers := newTestLedger(t)
			tt.arrange(peers[0], peers[1:])
			result, err := l.Evaluate(t.Context(), domain.RoleOperator, "certificate:Get", []byte("argument"))
			if got := outcome(err); got != tt.want {
				t.Fatalf("Evaluate = %q (%v), want %q", got, err, tt.want)
			}
			if err == nil && string(result) != "argument" {
				t.Errorf("result %q", result)
			}
			var asked []int
			for _, p := range peers {
				_, _, n := p.calls()
				asked = append(asked, n)
			}
			if diff := cmp.Diff(tt.asked, asked); diff != "" {
				t.Errorf("evaluations per peer (-want +got):\n%s", diff)
			}
		})
	}
}

// TestEvaluateAsksASecondPeer has the own peer take its time.
func TestEvaluateAsksASecondPeer(t *testing.T) {
	l, peers := newTestLedger(t)
	peers[1].height, peers[2].height = 7, 8 // one is a block behind the own peer
	l.Heights(t.Context())
	release := make(chan struct{})
	peers[0].onEvaluate = func(*gateway.EvaluateRequest) ([]byte, error) { <-release; return []byte("late"), nil }
	result, err := l.Evaluate(t.Context(), domain.RoleOperator, "certificate:Get", []byte("argument"))
	close(release)
	if err != nil || string(result) != "argument" {
		t.Errorf("Evaluate = %q, %v", result, err)
	}
	// Each answered once for its height.
	for i, want := range []int{2, 1, 2, 1} {
		if _, _, got := peers[i].calls(); got != want {
			t.Errorf("peer %d was asked %d times, want %d", i, got, want)
		}
	}
}

// TestEvaluateDoesNotAskThoseBehind lets the own peer answer when others that lag
// could have been asked.
func TestEvaluateDoesNotAskThoseBehind(t *testing.T) {
	l, peers := newTestLedger(t)
	for _, p := range peers[1:] {
		p.height = 7
	}
	if l.hasAll(l.peers[0]) {
		t.Error("a peer that was never asked for its height has all blocks")
	}
	l.Heights(t.Context())
	for i, want := range []bool{true, false, false, false} {
		if got := l.hasAll(l.peers[i]); got != want {
			t.Errorf("peer %d has all blocks: %v", i, got)
		}
	}
}

func TestLatency(t *testing.T) {
	var l latency
	if got := l.patience(); got != longestPatience {
		t.Errorf("patience with an unknown peer %s", got)
	}
	for range 100 {
		l.took(10 * time.Millisecond)
	}
	if got := l.patience(); got != shortestPatience {
		t.Errorf("patience with a peer that takes 10 ms %s", got)
	}
	for i := range 100 {
		l.took(time.Duration(80+40*(i%2)) * time.Millisecond)
	}
	if got := l.patience(); got < 120*time.Millisecond || got > 250*time.Millisecond {
		t.Errorf("patience with a peer that takes 80 to 120 ms %s", got)
	}
	l.took(time.Minute)
	if got := l.patience(); got != longestPatience {
		t.Errorf("patience after an answer that took a minute %s", got)
	}
}

func TestEvaluateCancelled(t *testing.T) {
	l, _ := newTestLedger(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Evaluate(ctx, domain.RoleOperator, "certificate:Get", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Evaluate = %v, want %v", err, context.Canceled)
	}
}

func TestStatus(t *testing.T) {
	l, peers := newTestLedger(t)
	peers[0].channel.commit("known", pb.TxValidationCode_MVCC_READ_CONFLICT)
	if code, block, err := l.Status(t.Context(), "known"); code != "MVCC_READ_CONFLICT" || block != 7 || err != nil {
		t.Errorf("Status = %q, %d, %v", code, block, err)
	}
	if code, block, err := l.Status(t.Context(), "unknown"); code != "" || block != 0 || err != nil {
		t.Errorf("Status of an unknown transaction = %q, %d, %v; want nothing", code, block, err)
	}
	peers[0].server.Stop()
	var unavailable *ledger.UnavailableError
	if _, _, err := l.Status(t.Context(), "known"); !errors.As(err, &unavailable) {
		t.Errorf("Status with the own peer down = %v, want an UnavailableError", err)
	}
}

func TestHeights(t *testing.T) {
	l, peers := newTestLedger(t)
	peers[1].height = 12
	peers[2].server.Stop()
	heights := l.Heights(t.Context())
	if heights[2].Err == nil {
		t.Error("no error for the peer that is down")
	}
	heights[2].Err = nil
	want := []ledger.DepartmentHeight{{Department: "police", Height: 8}, {Department: "bigdata", Height: 12}, {Department: "civil"}, {Department: "market", Height: 8}}
	if diff := cmp.Diff(want, heights); diff != "" {
		t.Error(diff)
	}
}

func TestSignedRead(t *testing.T) {
	args := domain.AttestArgs{Kind: domain.KindCertificate, ID: "r", Nonce: "00"}
	const everyone = "PoliceMSP BigdataMSP CivilMSP MarketMSP"
	tooFew := func(details ...*gateway.ErrorDetail) error {
		return fail(codes.Aborted, "failed to collect enough transaction endorsements, see attached details for more info", details...)
	}
	for _, tt := range []struct {
		name    string
		arrange func(own *fakePeer, others []*fakePeer)
		quorum  int
		want    string // see outcome; "committed" is success
		signers string
	}{
		{"all sign", func(*fakePeer, []*fakePeer) {}, 3, "committed", everyone},
		{"a peer that is down is left out", func(_ *fakePeer, others []*fakePeer) { others[1].stop() }, 3, "committed", "PoliceMSP BigdataMSP MarketMSP"},
		{
			"the own peer has just started", func(own *fakePeer, _ []*fakePeer) {
				own.onEndorse = func(int, *gateway.EndorseRequest) error { return noPeersOf("BigdataMSP", "CivilMSP", "MarketMSP") }
			}, 3, "committed", everyone,
		},
		{
			"the own peer has just started and another is down", func(own *fakePeer, others []*fakePeer) {
				own.onEndorse = func(int, *gateway.EndorseRequest) error { return noPeersOf("BigdataMSP", "CivilMSP", "MarketMSP") }
				others[1].stop()
			}, 3, "committed", "PoliceMSP BigdataMSP MarketMSP",
		},
		{
			"a department whose chaincode is down is left out", func(own *fakePeer, _ []*fakePeer) {
				own.onEndorse = func(n int, _ *gateway.EndorseRequest) error {
					if n == 1 {
						return tooFew(detail("MarketMSP", "error in simulation: chaincode stream terminated"))
					}
					return nil
				}
			}, 3, "committed", "PoliceMSP BigdataMSP CivilMSP",
		},
		{
			"a peer that is behind is left out", func(own *fakePeer, others []*fakePeer) {
				others[0].height = 7
				own.onEndorse = func(n int, _ *gateway.EndorseRequest) error {
					if n == 1 {
						return tooFew(detail("CivilMSP", mismatch), detail("MarketMSP", mismatch))
					}
					return nil
				}
			}, 3, "committed", "PoliceMSP CivilMSP MarketMSP",
		},
		{
			"peers that are behind catch up", func(own *fakePeer, others []*fakePeer) {
				others[0].height, others[1].height = 7, 7
				own.onEndorse = func(n int, _ *gateway.EndorseRequest) error {
					if n <= 3 {
						return tooFew(detail("CivilMSP", mismatch))
					}
					return nil
				}
			}, 3, "committed", everyone,
		},
		{"the own peer is down", func(own *fakePeer, _ []*fakePeer) { own.stop() }, 3, "committed", "BigdataMSP CivilMSP MarketMSP"},
		{
			"two peers are down", func(_ *fakePeer, others []*fakePeer) {
				others[0].stop()
				others[1].stop()
			}, 3, "unavailable", "",
		},
		{"more signers are wanted than there are", func(*fakePeer, []*fakePeer) {}, 5, "unavailable", ""},
		{"no signer is wanted", func(*fakePeer, []*fakePeer) {}, 0, "failed", ""},
		{
			"the contract refuses the question", func(own *fakePeer, _ []*fakePeer) {
				own.onEndorse = func(int, *gateway.EndorseRequest) error {
					return tooFew(detail("CivilMSP", "chaincode response 500, invalid: nonce"))
				}
			}, 3, "invalid", "",
		},
		{
			"answers never match", func(own *fakePeer, _ []*fakePeer) {
				own.onEndorse = func(int, *gateway.EndorseRequest) error { return tooFew(detail("CivilMSP", mismatch)) }
			}, 3, "unavailable", "",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l, peers := newTestLedger(t)
			tt.arrange(peers[0], peers[1:])
			read, err := l.SignedRead(t.Context(), args, tt.quorum)
			if got := outcome(err); got != tt.want {
				t.Fatalf("SignedRead = %q (%v), want %q", got, err, tt.want)
			}
			if err != nil {
				return
			}
			var signers []string
			for _, e := range read.Endorsements {
				mspID, err := mspIDOf(e.Endorser)
				if err != nil || len(e.Signature) == 0 {
					t.Errorf("endorsement by %q: signature of %d bytes, %v", mspID, len(e.Signature), err)
				}
				signers = append(signers, string(mspID))
			}
			if got := strings.Join(signers, " "); got != tt.signers {
				t.Errorf("signed by %s, want %s", got, tt.signers)
			}
			var proposal pb.Proposal
			if err := proto.Unmarshal(read.Proposal, &proposal); err != nil || len(proposal.GetHeader()) == 0 {
				t.Errorf("proposal of %d bytes: %v", len(read.Proposal), err)
			}
			_, asked, err := invocation(&pb.SignedProposal{ProposalBytes: read.Proposal})
			if diff := cmp.Diff([]string{"evidence:Attest", `{"kind":"certificate","id":"r","nonce":"00"}`}, asked); err != nil || diff != "" {
				t.Errorf("asked (%v):\n%s", err, diff)
			}
			var response pb.ProposalResponsePayload
			if err := proto.Unmarshal(read.Response, &response); err != nil || len(response.GetExtension()) == 0 {
				t.Errorf("response of %d bytes: %v", len(read.Response), err)
			}
		})
	}
}

// TestSignedReadRemembersSuspects checks that a department that did not sign is
// not asked first again.
func TestSignedReadRemembersSuspects(t *testing.T) {
	l, peers := newTestLedger(t)
	peers[0].onEndorse = func(_ int, r *gateway.EndorseRequest) error {
		if slices.Contains(r.GetEndorsingOrganizations(), "MarketMSP") {
			return fail(codes.Aborted, "failed to collect", detail("MarketMSP", "rpc error: connection refused"))
		}
		return nil
	}
	for range 3 {
		if _, err := l.SignedRead(t.Context(), domain.AttestArgs{}, 3); err != nil {
			t.Fatal(err)
		}
	}
	if n, _, _ := peers[0].calls(); n != 4 {
		t.Errorf("%d proposals for three signed reads, want 4: one with the department that fails", n)
	}
}

func TestNewRefusesBadConfigurations(t *testing.T) {
	ca := newAuthority(t)
	certPEM, keyPEM := ca.issue(t, "gateway")
	_, otherKey := ca.issue(t, "other")
	good := func() Config {
		return Config{
			Channel: "zhenglian", Chaincode: "zhenglian",
			Peers:      []Peer{{Department: "police", MSPID: "PoliceMSP", Endpoint: "127.0.0.1:1", TLSRoots: ca.pem}},
			Identities: map[domain.Role]Identity{domain.RoleGateway: {MSPID: "PoliceMSP", CertificatePEM: certPEM, KeyPEM: keyPEM}},
		}
	}
	for _, tt := range []struct {
		name string
		edit func(*Config)
		want string
	}{
		{"good", func(*Config) {}, ""},
		{"no channel", func(c *Config) { c.Channel = "" }, "channel and chaincode"},
		{"no peers", func(c *Config) { c.Peers = nil }, "no peer"},
		{"no service identity", func(c *Config) { c.Identities = nil }, "no identity for role gateway"},
		{"no TLS roots", func(c *Config) { c.Peers[0].TLSRoots = []byte("x") }, "no TLS root"},
		{"no certificate", func(c *Config) {
			c.Identities[domain.RoleGateway] = Identity{MSPID: "PoliceMSP", CertificatePEM: keyPEM, KeyPEM: keyPEM}
		}, "read certificate"},
		{"no key", func(c *Config) {
			c.Identities[domain.RoleGateway] = Identity{MSPID: "PoliceMSP", CertificatePEM: certPEM, KeyPEM: []byte("x")}
		}, "read private key"},
		{"another's key", func(c *Config) {
			c.Identities[domain.RoleGateway] = Identity{MSPID: "PoliceMSP", CertificatePEM: certPEM, KeyPEM: otherKey}
		}, "not the certificate's"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := good()
			tt.edit(&cfg)
			l, err := New(cfg, nil)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if err := l.Close(); err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New = %v, want an error that says %q", err, tt.want)
			}
		})
	}
}

// waitFor waits until the condition holds.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
