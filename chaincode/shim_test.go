package chaincode_test

import (
	"errors"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/queryresult"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/zhenglian/zhenglian/chaincode"
	"github.com/zhenglian/zhenglian/chaincode/chaincodetest"
	"github.com/zhenglian/zhenglian/domain"
)

// peerStream is a peer at the other end of shim's own protocol, in memory.
type peerStream struct {
	grpc.ServerStream
	toChaincode, toPeer chan *peer.ChaincodeMessage
}

func (s *peerStream) Send(m *peer.ChaincodeMessage) error {
	s.toPeer <- m
	return nil
}

func (s *peerStream) Recv() (*peer.ChaincodeMessage, error) {
	if m, open := <-s.toChaincode; open {
		return m, nil
	}
	return nil, io.EOF
}

// serve runs a chaincode on shim as a peer starts it, with messages of at most
// batch records.
func serve(t *testing.T, cc shim.Chaincode, batch uint32) *peerStream {
	t.Helper()
	s := &peerStream{toChaincode: make(chan *peer.ChaincodeMessage, 8), toPeer: make(chan *peer.ChaincodeMessage, 8)}
	ended := make(chan error, 1)
	go func() { ended <- (&shim.ChaincodeServer{CCID: "zhenglian:1", CC: cc}).Connect(s) }()
	t.Cleanup(func() {
		close(s.toChaincode)
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "EOF") {
			t.Errorf("the chaincode ended with %v", err)
		}
	})
	if m := <-s.toPeer; m.GetType() != peer.ChaincodeMessage_REGISTER {
		t.Fatalf("first message %v", m)
	}
	s.toChaincode <- &peer.ChaincodeMessage{Type: peer.ChaincodeMessage_REGISTERED}
	s.toChaincode <- &peer.ChaincodeMessage{Type: peer.ChaincodeMessage_READY, Payload: marshal(t, &peer.ChaincodeAdditionalParams{
		UseWriteBatch: true, MaxSizeWriteBatch: batch, UseGetMultipleKeys: true, MaxSizeGetMultipleKeys: batch,
	})}
	return s
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func unmarshal[M proto.Message](t *testing.T, data []byte, m M) M {
	t.Helper()
	if err := proto.Unmarshal(data, m); err != nil {
		t.Fatal(err)
	}
	return m
}

// run is [chaincodetest.Ledger.Simulate] over shim's protocol.
func (s *peerStream) run(t *testing.T, l *chaincodetest.Ledger, p chaincodetest.Proposal) chaincodetest.Result {
	t.Helper()
	header := &common.Header{
		ChannelHeader: marshal(t, &common.ChannelHeader{
			Type: int32(common.HeaderType_ENDORSER_TRANSACTION), ChannelId: "zhenglian", TxId: p.TxID, Timestamp: timestamppb.New(p.Time),
		}),
		SignatureHeader: marshal(t, &common.SignatureHeader{Creator: p.Creator.Bytes()}),
	}
	input := &peer.ChaincodeInput{Args: [][]byte{[]byte(p.Function)}}
	for _, a := range p.Args {
		input.Args = append(input.Args, []byte(a))
	}
	proposal := &peer.Proposal{Header: marshal(t, header), Payload: marshal(t, &peer.ChaincodeProposalPayload{TransientMap: p.Transient})}
	s.toChaincode <- &peer.ChaincodeMessage{
		Type: peer.ChaincodeMessage_TRANSACTION, Txid: p.TxID, ChannelId: "zhenglian", Payload: marshal(t, input),
		Proposal: &peer.SignedProposal{ProposalBytes: marshal(t, proposal)},
	}
	var r chaincodetest.Result
	for m := range s.toPeer {
		if m.GetType() == peer.ChaincodeMessage_COMPLETED {
			response := unmarshal(t, m.GetPayload(), &peer.Response{})
			r.Status, r.Message, r.Payload = response.GetStatus(), response.GetMessage(), response.GetPayload()
			return r
		}
		r.Messages++
		answer := &peer.ChaincodeMessage{Type: peer.ChaincodeMessage_RESPONSE, Txid: m.GetTxid(), ChannelId: m.GetChannelId()}
		payload, err := handle(t, l, m, &r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Payload = payload
		s.toChaincode <- answer
	}
	return r
}

// handle is what a peer does with a message of a transaction.
func handle(t *testing.T, l *chaincodetest.Ledger, m *peer.ChaincodeMessage, r *chaincodetest.Result) ([]byte, error) {
	t.Helper()
	switch m.GetType() {
	case peer.ChaincodeMessage_GET_STATE_MULTIPLE:
		result := &peer.GetStateMultipleResult{}
		for _, key := range unmarshal(t, m.GetPayload(), &peer.GetStateMultiple{}).GetKeys() {
			r.Reads = append(r.Reads, key)
			result.Values = append(result.Values, l.State(key))
		}
		return marshal(t, result), nil
	case peer.ChaincodeMessage_GET_STATE_BY_RANGE:
		ask := unmarshal(t, m.GetPayload(), &peer.GetStateByRange{})
		r.Reads = append(r.Reads, ask.GetStartKey()+".."+ask.GetEndKey())
		result := &peer.QueryResponse{Id: "1"}
		for _, key := range l.Keys() {
			if key >= ask.GetStartKey() && key < ask.GetEndKey() {
				row := marshal(t, &queryresult.KV{Key: key, Value: l.State(key)})
				result.Results = append(result.Results, &peer.QueryResultBytes{ResultBytes: row})
			}
		}
		return marshal(t, result), nil
	case peer.ChaincodeMessage_QUERY_STATE_CLOSE:
		r.Messages-- // no part of the ledger interface
		return marshal(t, &peer.QueryResponse{Id: "1"}), nil
	case peer.ChaincodeMessage_WRITE_BATCH_STATE:
		for _, w := range unmarshal(t, m.GetPayload(), &peer.WriteBatchState{}).GetRec() {
			switch w.GetType() {
			case peer.WriteRecord_PUT_STATE:
				r.Writes = append(r.Writes, chaincodetest.Write{Key: w.GetKey(), Value: w.GetValue()})
			case peer.WriteRecord_DEL_STATE:
				r.Writes = append(r.Writes, chaincodetest.Write{Key: w.GetKey(), Delete: true})
			case peer.WriteRecord_PUT_STATE_METADATA:
				if w.GetMetadata().GetMetakey() != peer.MetaDataKeys_VALIDATION_PARAMETER.String() {
					return nil, errors.New("unknown metadata " + w.GetMetadata().GetMetakey())
				}
				r.Policies = append(r.Policies, chaincodetest.Policy{Key: w.GetKey(), Value: w.GetMetadata().GetValue()})
			default:
				return nil, errors.New("unknown record " + w.GetType().String())
			}
		}
		return nil, nil
	}
	return nil, errors.New("unexpected message " + m.GetType().String())
}

// sorted is a result as a peer builds it: sorted by key.
func sorted(r chaincodetest.Result) chaincodetest.Result {
	slices.SortFunc(r.Writes, func(a, b chaincodetest.Write) int { return strings.Compare(a.Key, b.Key) })
	slices.SortFunc(r.Policies, func(a, b chaincodetest.Policy) int { return strings.Compare(a.Key, b.Key) })
	return r
}

// TestShim runs every transaction over shim's own protocol and compares it with
// the ledger of package chaincodetest: what peers see is what the other tests
// see, and nothing goes to the peer message by message.
func TestShim(t *testing.T) {
	cc, err := chaincode.New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, cc, 1000)
	compare := func(w *world, p chaincodetest.Proposal) chaincodetest.Result {
		t.Helper()
		want, got := sorted(w.ledger.Simulate(cc, p)), sorted(s.run(t, w.ledger, p))
		if !reflect.DeepEqual(want, got) {
			t.Errorf("%s: chaincodetest and shim differ:\n%s", p.Function, cmp.Diff(want, got))
		}
		return got
	}
	for _, tc := range cases() {
		w := tc.prepared(t)
		arg := tc.arg(w)
		p := w.proposal(tc.who, tc.name, arg)
		if tc.changes != nil {
			p = w.under(operation, tc.who, tc.name, arg)
		}
		if r := compare(w, p); r.Status != shim.OK {
			t.Errorf("%s: %s", tc.name, r.Message)
		}
		p.Args[0] = "{}"
		if r := compare(w, p); r.Status != shim.ERROR || len(r.Writes) != 0 {
			t.Errorf("%s refused: %d, %d writes", tc.name, r.Status, len(r.Writes))
		}
	}
	w := founded(t)
	full := w.proposal("police operator", "catalog:RegisterBatch", domain.RegisterBatchArgs{Contents: several(domain.MaxBatch)})
	if r := compare(w, full); len(r.Writes) != 2*domain.MaxBatch+1 || len(r.Policies) != domain.MaxBatch+1 {
		t.Errorf("full batch: %q, %d writes", r.Message, len(r.Writes))
	}
	// The same with the argument beside the transaction.
	want := sorted(w.ledger.Simulate(cc, full))
	if got := compare(w, beside(full)); !reflect.DeepEqual(want, got) {
		t.Errorf("with the argument beside it a transaction differs:\n%s", cmp.Diff(want, got))
	}
	forged := beside(full)
	forged.Transient[domain.TransientArgument] = append(slices.Clone(forged.Transient[domain.TransientArgument]), ' ')
	unnamed, missing := beside(full), beside(full)
	unnamed.Args, missing.Transient = full.Args, nil
	for name, p := range map[string]chaincodetest.Proposal{"another argument": forged, "an argument that is not named": unnamed, "no argument": missing} {
		r := compare(w, p)
		if refusal, ok := domain.ParseError(r.Message); !ok || refusal.Kind != domain.Invalid || len(r.Writes) != 0 {
			t.Errorf("%s beside the transaction: %q, %d writes", name, r.Message, len(r.Writes))
		}
	}
}

// beside is a proposal whose argument travels beside it.
func beside(p chaincodetest.Proposal) chaincodetest.Proposal {
	argument := []byte(p.Args[0])
	p.Args = append([]string{string(domain.ArgumentReference(argument))}, p.Args[1:]...)
	p.Transient = map[string][]byte{domain.TransientArgument: argument}
	return p
}
