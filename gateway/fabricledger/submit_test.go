package fabricledger

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/gateway"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	pb "github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

const testTransaction = "certificate:Issue"

// submit does both halves of a submit.
func submit(l *Ledger, ctx context.Context, r ledger.Request) (ledger.Receipt, error) {
	tx, err := l.Endorse(ctx, r)
	if err != nil {
		return ledger.Receipt{}, err
	}
	return l.Order(ctx, tx, false)
}

// outcome is what a submit came to, in one word.
func outcome(err error) string {
	var unknown *ledger.OutcomeUnknownError
	var unavailable *ledger.UnavailableError
	switch {
	case err == nil:
		return "committed"
	case errors.As(err, &unknown):
		return "unknown"
	case errors.As(err, &unavailable):
		return "unavailable"
	case domain.KindOf(err) != "":
		return string(domain.KindOf(err))
	default:
		return "failed"
	}
}

var (
	errTooFewOrderers = fail(codes.Unavailable, "insufficient number of orderers could successfully process transaction to satisfy quorum requirement",
		detail("CivilMSP", "received unsuccessful response from orderer: status=SERVICE_UNAVAILABLE, info=failed to submit request: request already processed"))
	errNoPlan   = status.Error(codes.FailedPrecondition, "no combination of peers can be derived which satisfy the endorsement policy: no peer combination can satisfy the endorsement policy")
	errMismatch = fail(codes.Aborted, "failed to collect enough transaction endorsements, see attached details for more info",
		detail("CivilMSP", "ProposalResponsePayloads do not match"))
)

func refuse(mspID, text string) error {
	return fail(codes.Aborted, "failed to endorse transaction, see attached details for more info",
		detail(mspID, "chaincode response 500, "+text))
}

func TestSubmit(t *testing.T) {
	for _, tt := range []struct {
		name    string
		arrange func(own *fakePeer, others []*fakePeer)
		want    string // see outcome
		text    string // in the error
		// how often the own peer endorsed and was given the transaction; -1 for any
		endorsed, submitted int
	}{
		{
			name:     "commits",
			arrange:  func(*fakePeer, []*fakePeer) {},
			want:     "committed",
			endorsed: 1, submitted: 1,
		},
		{
			name: "commits although the submit is called failed",
			arrange: func(own *fakePeer, _ []*fakePeer) {
				own.onSubmit = func(_ int, r *gateway.SubmitRequest) error {
					own.channel.commit(r.GetTransactionId(), pb.TxValidationCode_VALID)
					return errTooFewOrderers
				}
			},
			want:     "committed",
			endorsed: 1, submitted: 1,
		},
		{
			name: "commits while the submit times out",
			arrange: func(own *fakePeer, _ []*fakePeer) {
				own.onSubmit = func(_ int, r *gateway.SubmitRequest) error {
					own.channel.commit(r.GetTransactionId(), pb.TxValidationCode_VALID)
					return status.Error(codes.DeadlineExceeded, "submit timeout expired while broadcasting to ordering service")
				}
			},
			want:     "committed",
			endorsed: 1, submitted: 1,
		},
		{
			name: "is lost twice, then commits",
			arrange: func(own *fakePeer, _ []*fakePeer) {
				own.onSubmit = func(n int, r *gateway.SubmitRequest) error {
					if n == 3 {
						own.channel.commit(r.GetTransactionId(), pb.TxValidationCode_VALID)
					}
					return nil
				}
			},
			want:     "committed",
			endorsed: 1, submitted: 3,
		},
		{
			name: "is refused by the orderers once, then commits",
			arrange: func(own *fakePeer, _ []*fakePeer) {
				own.onSubmit = func(n int, r *gateway.SubmitRequest) error {
					if n == 1 {
						return errTooFewOrderers
					}
					own.channel.commit(r.GetTransactionId(), pb.TxValidationCode_VALID)
					return nil
				}
			},
			want:     "committed",
			endorsed: 1, submitted: 2,
		},
		{
			name: "is known as a duplicate to a peer that waited",
			arrange: func(own *fakePeer, _ []*fakePeer) {
				own.onStatus = func(n int) (*gateway.CommitStatusResponse, error) {
					if n == 1 {
						return &gateway.CommitStatusResponse{Result: pb.TxValidationCode_DUPLICATE_TXID, BlockNumber: 8}, nil
					}
					return &gateway.CommitStatusResponse{Result: pb.TxValidationCode_VALID, BlockNumber: 7}, nil
				}
			},
			want:     "committed",
			endorsed: 1, submitted: 1,
		},
		{
			name: "loses against another transaction",
			arrange: func(own *fakePeer, _ []*fakePeer) {
				own.onSubmit = func(_ int, r *gateway.SubmitRequest) error {
					own.channel.commit(r.GetTransactionId(), pb.TxValidationCode_MVCC_READ_CONFLICT)
					return nil
				}
			},
			want:     "conflict",
			endorsed: 1, submitted: 1,
		},
		{
			name: "loses against one that set who must endorse",
			arrange: func(own *fakePeer, _ []*fakePeer) {
				own.onSubmit = func(_ int, r *gateway.SubmitRequest) error {
					own.channel.commit(r.GetTransactionId(), pb.TxValidationCode_ENDORSEMENT_POLICY_FAILURE)
					return nil
				}
			},
			want:     "conflict",
			text:     "who must endorse the same record",
			endorsed: 1, submitted: 1,
		},
		{
			name: "is refused by the contract",
			arrange: func(own *fakePeer, _ []*fakePeer) {
				own.onEndorse = func(int, *gateway.EndorseRequest) error {
					return refuse("PoliceMSP", "exists: certificate is on the ledger, see elsewhere")
				}
			},
			want:     "exists",
			text:     "exists: certificate is on the ledger, see elsewhere",
			endorsed: 1, submitted: 0,
		},
		{
			name: "fails in the contract",
			arrange: func(own *fakePeer, _ []*fakePeer) {
				own.onEndorse = func(int, *gateway.EndorseRequest) error {
					return refuse("PoliceMSP", "Function Isue not found in contract certificate")
				}
			},
			want:     "failed",
			text:     "Function Isue not found",
			endorsed: 1, submitted: 0,
		},
		{
			name: "is refused by a department that is behind, then commits",
			arrange: func(own *fakePeer, _ []*fakePeer) {
				own.onEndorse = func(n int, _ *gateway.EndorseRequest) error {
					if n == 1 {
						return refuse("CivilMSP", "not_found: grant")
					}
					return nil
				}
			},
			want:     "committed",
			endorsed: 2, submitted: 1,
		},
		{
			name: "is refused by other departments for good",
			arrange: func(own *fakePeer, _ []*fakePeer) {
				own.onEndorse = func(int, *gateway.EndorseRequest) error { return refuse("CivilMSP", "not_found: grant") }
			},
			want:     "not_found",
			endorsed: -1, submitted: 0,
		},
		{
			name: "may not be proposed",
			arrange: func(own *fakePeer, _ []*fakePeer) {
				own.onEndorse = func(int, *gateway.EndorseRequest) error {
					return fail(codes.Aborted, "failed to endorse transaction, see attached details for more info",
						detail("PoliceMSP", "error validating proposal: access denied: channel [zhenglian] creator org [PoliceMSP]"))
				}
			},
			want:     "failed",
			text:     "access denied",
			endorsed: 1, submitted: 0,
		},
		{
			name: "finds no peers until gossip has settled",
			arrange: func(own *fakePeer, others []*fakePeer) {
				for _, p := range append(others, own) {
					p.onEndorse = func(n int, _ *gateway.EndorseRequest) error {
						if n <= 2 {
							return errNoPlan
						}
						return nil
					}
				}
			},
			want:     "committed",
			endorsed: 3, submitted: 1,
		},
		{
			name: "gets answers that never match",
			arrange: func(own *fakePeer, others []*fakePeer) {
				for _, p := range append(others, own) {
					p.onEndorse = func(int, *gateway.EndorseRequest) error { return errMismatch }
				}
			},
			want:     "unavailable",
			text:     "ProposalResponsePayloads do not match",
			endorsed: -1, submitted: 0,
		},
		{
			name: "goes through another department when the own peer is down",
			arrange: func(own *fakePeer, _ []*fakePeer) {
				own.server.Stop()
			},
			want:     "committed",
			endorsed: 0, submitted: 0,
		},
		{
			name: "finds nobody",
			arrange: func(own *fakePeer, others []*fakePeer) {
				for _, p := range append(others, own) {
					p.server.Stop()
				}
			},
			want:     "unavailable",
			endorsed: 0, submitted: 0,
		},
		{
			name: "survives the own peer's end after the submit",
			arrange: func(own *fakePeer, _ []*fakePeer) {
				own.onStatus = func(int) (*gateway.CommitStatusResponse, error) {
					go own.server.Stop() // Stop waits for this call
					return nil, status.Error(codes.Unavailable, "stopping")
				}
			},
			want:     "committed",
			endorsed: 1, submitted: -1,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l, peers := newTestLedger(t)
			tt.arrange(peers[0], peers[1:])
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()

			receipt, err := submit(l, ctx, ledger.Request{Role: domain.RoleOperator, Transaction: testTransaction, Argument: []byte(`{"ref":"r"}`)})
			if got := outcome(err); got != tt.want {
				t.Fatalf("Submit = %q (%v), want %q", got, err, tt.want)
			}
			if err != nil && !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %q does not say %q", err, tt.text)
			}
			if err == nil && (receipt.Wrote || receipt.Block != 7 || len(receipt.TxID) != 64 || string(receipt.Result) != `{"result":true}`) {
				t.Errorf("receipt = %+v", receipt)
			}
			endorsed, submitted, _ := peers[0].calls()
			if tt.endorsed >= 0 && endorsed != tt.endorsed {
				t.Errorf("%d proposals, want %d", endorsed, tt.endorsed)
			}
			if tt.submitted >= 0 && submitted != tt.submitted {
				t.Errorf("%d submits, want %d", submitted, tt.submitted)
			}
			for _, p := range peers {
				checkSameBytes(t, p.submitted, peers[0].submitted)
			}
		})
	}
}

// checkSameBytes checks that a transaction was never signed twice: every submit
// carries the same signed envelope.
func checkSameBytes(t *testing.T, submits, reference []*gateway.SubmitRequest) {
	t.Helper()
	if len(reference) == 0 {
		return
	}
	for _, r := range submits {
		if len(r.GetPreparedTransaction().GetSignature()) == 0 {
			t.Error("a transaction was submitted unsigned")
		}
		if !proto.Equal(r, reference[0]) {
			t.Error("a transaction was submitted with other bytes than the first time")
		}
	}
}

// TestSubmitOperation checks that an operation travels as the second argument,
// and that without one there is none.
func TestSubmitOperation(t *testing.T) {
	const operation = "00112233445566778899aabbccddeeff"
	for _, tt := range []struct {
		operation string
		want      []string
	}{
		{"", []string{testTransaction, "argument"}},
		{operation, []string{testTransaction, "argument", operation}},
	} {
		l, peers := newTestLedger(t)
		if _, err := submit(l, t.Context(), ledger.Request{Role: domain.RoleOperator, Transaction: testTransaction, Argument: []byte("argument"), Operation: tt.operation}); err != nil {
			t.Fatal(err)
		}
		var envelope common.Payload
		var transaction pb.Transaction
		var action pb.ChaincodeActionPayload
		var payload pb.ChaincodeProposalPayload
		var invocation pb.ChaincodeInvocationSpec
		for _, read := range []struct {
			data func() []byte
			into proto.Message
		}{
			{func() []byte { return peers[0].submitted[0].GetPreparedTransaction().GetPayload() }, &envelope},
			{func() []byte { return envelope.GetData() }, &transaction},
			{func() []byte { return transaction.GetActions()[0].GetPayload() }, &action},
			{func() []byte { return action.GetChaincodeProposalPayload() }, &payload},
			{func() []byte { return payload.GetInput() }, &invocation},
		} {
			if err := proto.Unmarshal(read.data(), read.into); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		for _, a := range invocation.GetChaincodeSpec().GetInput().GetArgs() {
			got = append(got, string(a))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("with operation %q the chaincode gets %q, want %q", tt.operation, got, tt.want)
		}
	}
}

func TestSubmitUnknownOutcome(t *testing.T) {
	l, peers := newTestLedger(t)
	for _, p := range peers {
		p.onSubmit = func(int, *gateway.SubmitRequest) error { return errTooFewOrderers }
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := submit(l, ctx, ledger.Request{Role: domain.RoleOperator, Transaction: testTransaction, Argument: []byte(`{}`)})
	var unknown *ledger.OutcomeUnknownError
	if !errors.As(err, &unknown) {
		t.Fatalf("Submit = %v, want an unknown outcome", err)
	}
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "insufficient number of orderers") {
		t.Errorf("error %q names neither the deadline nor the cause", err)
	}
	peers[0].mu.Lock()
	defer peers[0].mu.Unlock()
	if len(peers[0].submitted) < 2 {
		t.Errorf("%d submits before giving up, want several", len(peers[0].submitted))
	}
	checkSameBytes(t, peers[0].submitted, peers[0].submitted)
	if got := peers[0].submitted[0].GetTransactionId(); got != string(unknown.TxID) {
		t.Errorf("unknown outcome of %s, submitted was %s", unknown.TxID, got)
	}
}

func TestSubmitWithoutIdentity(t *testing.T) {
	l, peers := newTestLedger(t)
	_, err := submit(l, t.Context(), ledger.Request{Role: domain.RoleAuditor, Transaction: testTransaction, Argument: []byte(`{}`)})
	if got := domain.KindOf(err); got != domain.Forbidden {
		t.Errorf("Submit = %v, want kind %s", err, domain.Forbidden)
	}
	if n, _, _ := peers[0].calls(); n != 0 {
		t.Errorf("%d proposals were sent", n)
	}
}

func TestSubmitConcurrently(t *testing.T) {
	l, _ := newTestLedger(t)
	var mu sync.Mutex
	seen := make(map[domain.TxID]bool)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			receipt, err := submit(l, t.Context(), ledger.Request{Role: domain.RoleOperator, Transaction: testTransaction, Argument: []byte(`{}`)})
			if err != nil {
				t.Errorf("Submit: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			seen[receipt.TxID] = true
		})
	}
	wg.Wait()
	if len(seen) != 32 {
		t.Errorf("%d distinct transactions, want 32", len(seen))
	}
}

// TestSubmitPastStuckPeer freezes the own peer before or after it endorsed: one
// call comes to nothing, then another department's peer does the rest, and the
// frozen one is left alone for the longest pause.
func TestSubmitPastStuckPeer(t *testing.T) {
	for _, tt := range []struct {
		name    string
		endorse bool // the peer still endorses, and freezes then
	}{
		{"endorsing", false},
		{"submitting", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // waits
			l, peers := newTestLedger(t)
			l.limits.endorseCall, l.limits.submitCall = time.Second, time.Second
			frozen := make(chan struct{})
			t.Cleanup(func() { close(frozen) }) // before the peers stop, which waits for their calls
			own := peers[0]
			own.onSubmit = func(int, *gateway.SubmitRequest) error { <-frozen; return nil }
			own.onStatus = func(int) (*gateway.CommitStatusResponse, error) { <-frozen; return nil, errors.New("frozen") }
			if !tt.endorse {
				own.onEndorse = func(int, *gateway.EndorseRequest) error { <-frozen; return nil }
			}
			if _, err := submit(l, t.Context(), ledger.Request{Role: domain.RoleOperator, Transaction: testTransaction, Argument: []byte("argument")}); err != nil {
				t.Fatal(err)
			}
			if endorsed, submitted, _ := own.calls(); endorsed == 0 || tt.endorse && submitted == 0 {
				t.Errorf("the frozen peer got %d proposals and %d transactions: it was not tried", endorsed, submitted)
			}
			if got := l.peers[0].breaker.pause(); got != 2*time.Second {
				t.Errorf("the frozen peer is left alone for %v, want 2s", got)
			}
		})
	}
}

// TestBreaker checks that calls keep away from a peer that is down and find it
// again when it is back.
func TestBreaker(t *testing.T) {
	start := time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC)
	var b breaker
	allowed := func(after time.Duration) bool { return b.allow(start.Add(after)) }
	if !allowed(0) {
		t.Fatal("a new breaker is open")
	}
	b.failed(start)
	if allowed(249 * time.Millisecond) {
		t.Error("closed 249 ms after the first failure")
	}
	if !allowed(250 * time.Millisecond) {
		t.Error("no trial 250 ms after the first failure")
	}
	if allowed(251 * time.Millisecond) {
		t.Error("a second trial beside the first")
	}
	b.failed(start.Add(260 * time.Millisecond))
	if allowed(700*time.Millisecond) || !allowed(760*time.Millisecond) {
		t.Error("after the second failure the pause is not 500 ms")
	}
	for range 100 {
		b.failed(start)
	}
	if got, want := b.pause(), 2*time.Second; got != want {
		t.Errorf("pause after many failures = %v, want %v", got, want)
	}
	b.succeeded()
	for range 2 {
		if !allowed(0) {
			t.Error("open after a success")
		}
	}
}

// TestEndorsingIsBounded has a peer answer no proposal while many are made.
func TestEndorsingIsBounded(t *testing.T) {
	l, peers := newTestLedger(t)
	release, arrived := make(chan struct{}), make(chan struct{}, 2*mostEndorsing)
	peers[0].onEndorse = func(int, *gateway.EndorseRequest) error {
		arrived <- struct{}{}
		<-release
		return nil
	}
	ended := make(chan error, 2*mostEndorsing)
	for range 2 * mostEndorsing {
		go func() {
			_, err := l.Endorse(t.Context(), ledger.Request{Role: domain.RoleOperator, Transaction: testTransaction})
			ended <- err
		}()
	}
	for range mostEndorsing {
		<-arrived
	}
	// Those that found no place give up by themselves, and say that nothing happened.
	for range mostEndorsing {
		var unavailable *ledger.UnavailableError
		if err := <-ended; !errors.As(err, &unavailable) {
			t.Errorf("Endorse = %v, want unavailable", err)
		}
	}
	if n := len(arrived); n > 0 {
		t.Errorf("%d more proposals reached the peer", n)
	}
	close(release)
	for range mostEndorsing {
		if err := <-ended; err != nil {
			t.Errorf("Endorse = %v", err)
		}
	}
}

// TestEndorseNotByThoseBehind has the own peer away and the next one lack a block
// that callers know of: it would refuse what builds on that block.
func TestEndorseNotByThoseBehind(t *testing.T) {
	l, peers := newTestLedger(t)
	l.learn(7)
	peers[0].server.Stop()
	peers[1].height, peers[2].height = 7, 8
	if _, err := l.Endorse(t.Context(), ledger.Request{Role: domain.RoleOperator, Transaction: testTransaction}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{0, 0, 1, 0} {
		if got, _, _ := peers[i].calls(); got != want {
			t.Errorf("peer %d endorsed %d times, want %d", i, got, want)
		}
	}
}

// TestHandOversInAStall counts how often one write is handed over while nothing is
// ordered for 30 s, at a twentieth of the real times: a repetition is work for every
// orderer, and comes of no use to one that has the transaction.
func TestHandOversInAStall(t *testing.T) {
	for _, tt := range []struct {
		name  string
		takes func(int, *gateway.SubmitRequest) error
		most  int
	}{
		{"orderers take it", func(int, *gateway.SubmitRequest) error { return nil }, 2},
		{"orderers refuse it", func(int, *gateway.SubmitRequest) error { return errTooFewOrderers }, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // waits
			const pace = 20
			l, peers := newTestLedger(t)
			l.limits.commit, l.limits.lookUp = defaultLimits.commit/pace, defaultLimits.lookUp/pace
			l.limits.pause, l.limits.longestPause = defaultLimits.pause/pace, defaultLimits.longestPause/pace
			handed, looked := 0, 0
			for _, p := range peers {
				p.onSubmit = tt.takes
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second/pace)
			defer cancel()
			if _, err := submit(l, ctx, ledger.Request{Role: domain.RoleOperator, Transaction: testTransaction, Argument: []byte(`{}`)}); outcome(err) != "unknown" {
				t.Errorf("Submit = %v, want an unknown outcome", err)
			}
			for _, p := range peers {
				_, submitted, _ := p.calls()
				handed += submitted
				p.mu.Lock()
				looked += p.statuses
				p.mu.Unlock()
			}
			t.Logf("handed over %d times, asked for %d times", handed, looked)
			if handed < 2 || handed > tt.most {
				t.Errorf("handed over %d times, want 2 to %d", handed, tt.most)
			}
		})
	}
}

// TestDeedOf reads what transactions answer and whether they write, and does not fall
// for what is no transaction.
func TestDeedOf(t *testing.T) {
	namespace := func(name string, set *kvrwset.KVRWSet) *rwset.NsReadWriteSet {
		return &rwset.NsReadWriteSet{Namespace: name, Rwset: marshal(set)}
	}
	read := &kvrwset.KVRWSet{Reads: []*kvrwset.KVRead{{Key: "k"}}}
	write := &kvrwset.KVRWSet{Reads: read.Reads, Writes: []*kvrwset.KVWrite{{Key: "k", Value: []byte("v")}}}
	for _, tt := range []struct {
		name    string
		results []*rwset.NsReadWriteSet
		wrote   bool
	}{
		{"nothing", nil, false},
		{"reads", []*rwset.NsReadWriteSet{namespace("_lifecycle", read), namespace("zhenglian", read)}, false},
		{"writes", []*rwset.NsReadWriteSet{namespace("_lifecycle", read), namespace("zhenglian", write)}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			envelope, err := assemble(&common.Header{}, []byte("proposal"), []byte("answer"), marshal(&rwset.TxReadWriteSet{NsRwset: tt.results}), []string{"PoliceMSP"})
			if err != nil {
				t.Fatal(err)
			}
			got, err := deedOf(envelope.GetPayload())
			if err != nil || string(got.result) != "answer" || got.wrote != tt.wrote {
				t.Errorf("deedOf = %q, wrote %t, %v; want wrote %t", got.result, got.wrote, err, tt.wrote)
			}
			for n := range envelope.GetPayload() { // neither panics nor invents an answer
				if cut, err := deedOf(envelope.GetPayload()[:n]); err == nil {
					t.Fatalf("deedOf of %d bytes = %+v", n, cut)
				}
			}
		})
	}
}
