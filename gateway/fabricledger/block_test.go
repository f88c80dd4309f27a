package fabricledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/msp"
	pb "github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index/indextest"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

var blockTime = time.Date(2026, 1, 5, 8, 0, 0, 123456789, time.UTC)

// envelope builds a transaction of a header type.
func envelope(kind common.HeaderType, id, creator string, data []byte) []byte {
	return marshal(&common.Envelope{Payload: marshal(&common.Payload{
		Header: &common.Header{
			ChannelHeader:   marshal(&common.ChannelHeader{Type: int32(kind), ChannelId: "zhenglian", TxId: id, Timestamp: timestamppb.New(blockTime)}),
			SignatureHeader: marshal(&common.SignatureHeader{Creator: marshal(&msp.SerializedIdentity{Mspid: creator})}),
		},
		Data: data,
	})})
}

// issue builds an endorser transaction that writes to its own namespace and to
// another.
func issue(id string) []byte {
	return endorsed(id, "certificate:Issue", []string{`{"ref":"r"}`, "\xff\x00"}, &kvrwset.KVRWSet{Writes: []*kvrwset.KVWrite{
		{Key: "cert~r", Value: []byte("{}")},
		{Key: "\x00type\x00a\x00b\x00", Value: []byte("1")},
		{Key: "gone", IsDelete: true},
	}})
}

// endorsed builds an endorser transaction that writes to its own namespace, and
// another key to another one.
func endorsed(id, transaction string, arguments []string, set *kvrwset.KVRWSet) []byte {
	header := &common.Header{
		ChannelHeader:   marshal(&common.ChannelHeader{Type: int32(common.HeaderType_ENDORSER_TRANSACTION), TxId: id, Timestamp: timestamppb.New(blockTime)}),
		SignatureHeader: marshal(&common.SignatureHeader{Creator: marshal(&msp.SerializedIdentity{Mspid: "PoliceMSP"})}),
	}
	args := [][]byte{[]byte(transaction)}
	for _, a := range arguments {
		args = append(args, []byte(a))
	}
	proposal := marshal(&pb.ChaincodeProposalPayload{Input: marshal(&pb.ChaincodeInvocationSpec{ChaincodeSpec: &pb.ChaincodeSpec{
		ChaincodeId: &pb.ChaincodeID{Name: "zhenglian"},
		Input:       &pb.ChaincodeInput{Args: args},
	}})})
	results := marshal(&rwset.TxReadWriteSet{NsRwset: []*rwset.NsReadWriteSet{
		{Namespace: "_lifecycle", Rwset: marshal(&kvrwset.KVRWSet{Writes: []*kvrwset.KVWrite{{Key: "other"}}})},
		{Namespace: "zhenglian", Rwset: marshal(set)},
	}})
	e, err := assemble(header, proposal, []byte("{}"), results, []string{"PoliceMSP", "CivilMSP", "PoliceMSP"})
	if err != nil {
		panic(err)
	}
	return marshal(e)
}

// configuration builds a configuration transaction that names four orderers.
func configuration() []byte {
	orderers := &common.Orderers{}
	for i, d := range testDepartments {
		orderers.ConsenterMapping = append(orderers.ConsenterMapping, &common.Consenter{Id: uint32(i + 1), MspId: d.mspID})
	}
	return envelope(common.HeaderType_CONFIG, "", "BigdataMSP", marshal(&common.ConfigEnvelope{Config: &common.Config{
		ChannelGroup: &common.ConfigGroup{Groups: map[string]*common.ConfigGroup{
			"Orderer": {Values: map[string]*common.ConfigValue{"Orderers": {Value: marshal(orderers)}}},
		}},
	}}))
}

// seal makes a block of transactions, signed by the orderers with the given
// numbers.
func seal(number uint64, previous []byte, codes []byte, signers []uint32, data ...[]byte) *common.Block {
	sum := sha256.Sum256(bytes.Join(data, nil))
	md := &common.Metadata{Value: marshal(&common.OrdererBlockMetadata{LastConfig: &common.LastConfig{Index: 0}})}
	for _, id := range signers {
		md.Signatures = append(md.Signatures, &common.MetadataSignature{
			IdentifierHeader: marshal(&common.IdentifierHeader{Identifier: id, Nonce: []byte("nonce")}),
			Signature:        []byte("signature"),
		})
	}
	signatures := marshal(md)
	if number == 0 {
		signatures = nil
	}
	return &common.Block{
		Header:   &common.BlockHeader{Number: number, PreviousHash: previous, DataHash: sum[:]},
		Data:     &common.BlockData{Data: data},
		Metadata: &common.BlockMetadata{Metadata: [][]byte{signatures, nil, codes, nil, nil}},
	}
}

func hashOf(t testing.TB, b *common.Block) []byte {
	t.Helper()
	h, err := headerHash(b.GetHeader())
	if err != nil {
		t.Fatal(err)
	}
	var raw []byte
	if _, err := fmt.Sscanf(h, "%x", &raw); err != nil {
		t.Fatal(err)
	}
	return raw
}

var testConsenters = map[uint32]domain.MSPID{1: "PoliceMSP", 2: "BigdataMSP", 3: "CivilMSP", 4: "MarketMSP"}

func TestDecodeBlock(t *testing.T) {
	raw := seal(7, []byte{0xab}, []byte{0, 11, 2, 200}, []uint32{3, 1, 9, 2, 1},
		issue("a"), issue("b"), []byte("not an envelope"), envelope(common.HeaderType_MESSAGE, "c", "CivilMSP", nil))
	got, err := decodeBlock(raw, testConsenters)
	if err != nil {
		t.Fatal(err)
	}
	issued := domain.Transaction{
		ID: "a", Type: "endorser", Creator: "PoliceMSP", Time: blockTime,
		Chaincode: "zhenglian", Contract: "certificate", Name: "Issue",
		Arguments: []string{`{"ref":"r"}`, "0xff00"},
		Writes: []domain.Write{
			{Key: "cert~r", Value: []byte("{}")},
			{Key: "type~a~b", Value: []byte("1")},
			{Key: "gone", Delete: true},
		},
		Endorsers:      []domain.MSPID{"CivilMSP", "PoliceMSP"},
		ValidationCode: "VALID",
	}
	conflict := issued
	conflict.ID, conflict.ValidationCode = "b", "MVCC_READ_CONFLICT"
	want := domain.Block{
		Number:       7,
		Hash:         fmt.Sprintf("%x", hashOf(t, raw)),
		PreviousHash: "ab",
		DataHash:     fmt.Sprintf("%x", raw.GetHeader().GetDataHash()),
		Signers:      []domain.MSPID{"BigdataMSP", "CivilMSP", "PoliceMSP"},
		Transactions: []domain.Transaction{
			issued, conflict,
			{Arguments: []string{}, Writes: []domain.Write{}, Endorsers: []domain.MSPID{}, ValidationCode: "BAD_PAYLOAD"},
			{ID: "c", Type: "0", Creator: "CivilMSP", Time: blockTime, Arguments: []string{}, Writes: []domain.Write{}, Endorsers: []domain.MSPID{}, ValidationCode: "200"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestHeaderHash pins the header's encoding: SEQUENCE of INTEGER and two OCTET
// STRINGs.
func TestHeaderHash(t *testing.T) {
	h := &common.BlockHeader{Number: 255, PreviousHash: []byte{1}, DataHash: []byte{2, 3}}
	got, err := headerHash(h)
	if want := domain.Digest([]byte{0x30, 11, 2, 2, 0, 255, 4, 1, 1, 4, 2, 2, 3}); got != want || err != nil {
		t.Errorf("headerHash = %s, %v; want %s", got, err, want)
	}
}

func TestDecodeGenesis(t *testing.T) {
	for name, filter := range map[string][]byte{"validated": {0}, "not validated": nil} {
		t.Run(name, func(t *testing.T) {
			genesis := seal(0, nil, filter, nil, configuration())
			got, err := decodeBlock(genesis, nil)
			if err != nil {
				t.Fatal(err)
			}
			if tx := got.Transactions[0]; tx.Type != "config" || !tx.Valid() || tx.Creator != "BigdataMSP" {
				t.Errorf("transaction %+v", tx)
			}
			consenters, err := readConsenters(genesis)
			if diff := cmp.Diff(testConsenters, consenters); diff != "" || err != nil {
				t.Errorf("consenters (%v):\n%s", err, diff)
			}
		})
	}
}

func TestDecodeRefusesBrokenBlocks(t *testing.T) {
	good := func() *common.Block { return seal(7, nil, []byte{0}, []uint32{1}, issue("a")) }
	reseal := func(b *common.Block) *common.Block {
		sum := sha256.Sum256(bytes.Join(b.GetData().GetData(), nil))
		b.Header.DataHash = sum[:]
		return b
	}
	for _, tt := range []struct {
		name string
		b    func() *common.Block
		want string
	}{
		{"nil", func() *common.Block { return nil }, "without header"},
		{"no header", func() *common.Block { b := good(); b.Header = nil; return b }, "without header"},
		{"no data", func() *common.Block { b := good(); b.Data = nil; return b }, "no transactions"},
		{"changed data", func() *common.Block { b := good(); b.Data.Data[0][5] ^= 1; return b }, "hash in the header"},
		{"no metadata", func() *common.Block { b := good(); b.Metadata = nil; return b }, "0 validation codes for 1"},
		{"short filter", func() *common.Block {
			b := good()
			b.Data.Data = append(b.Data.Data, issue("b"))
			return reseal(b)
		}, "1 validation codes for 2"},
		{"broken signatures", func() *common.Block { b := good(); b.Metadata.Metadata[0] = []byte{0xff}; return b }, "read signatures"},
		{"broken identifier", func() *common.Block {
			b := good()
			b.Metadata.Metadata[0] = marshal(&common.Metadata{Signatures: []*common.MetadataSignature{{IdentifierHeader: []byte{0xff}}}})
			return b
		}, "identifier of a signature"},
		{"broken creator of a signature", func() *common.Block {
			b := good()
			b.Metadata.Metadata[0] = marshal(&common.Metadata{Signatures: []*common.MetadataSignature{{
				SignatureHeader: marshal(&common.SignatureHeader{Creator: []byte{0xff}}),
			}}})
			return b
		}, "read identity"},
		{"valid transaction that is none", func() *common.Block {
			b := good()
			b.Data.Data[0] = []byte("not an envelope")
			return reseal(b)
		}, "transaction 0: read envelope"},
		{"valid transaction without action", func() *common.Block {
			b := good()
			b.Data.Data[0] = envelope(common.HeaderType_ENDORSER_TRANSACTION, "a", "PoliceMSP", nil)
			return reseal(b)
		}, "transaction 0: transaction has 0 actions"},
		{"time out of range", func() *common.Block {
			b := good()
			b.Data.Data[0] = marshal(&common.Envelope{Payload: marshal(&common.Payload{Header: &common.Header{
				ChannelHeader: marshal(&common.ChannelHeader{Timestamp: &timestamppb.Timestamp{Seconds: 1 << 60}}),
			}})})
			return reseal(b)
		}, "no time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := decodeBlock(tt.b(), testConsenters)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("decodeBlock = %v, want an error that says %q", err, tt.want)
			}
		})
	}
}

// FuzzDecodeBlock checks that no block makes the decoder panic. The hash over
// the data is mended, so that the transactions are reached.
func FuzzDecodeBlock(f *testing.F) {
	f.Add(marshal(seal(7, nil, []byte{0, 4}, []uint32{1, 2}, issue("a"), []byte("junk"))))
	f.Add(marshal(seal(0, nil, nil, nil, configuration())))
	f.Fuzz(func(t *testing.T, data []byte) {
		var b common.Block
		if proto.Unmarshal(data, &b) != nil {
			return
		}
		if b.GetHeader() != nil {
			sum := sha256.Sum256(bytes.Join(b.GetData().GetData(), nil))
			b.Header.DataHash = sum[:]
		}
		if _, err := lastConfig(&b); err != nil {
			return
		}
		consenters, err := readConsenters(&b)
		if err != nil {
			consenters = testConsenters
		}
		got, err := decodeBlock(&b, consenters)
		if err == nil && len(got.Transactions) != len(b.GetData().GetData()) {
			t.Errorf("%d transactions of %d", len(got.Transactions), len(b.GetData().GetData()))
		}
	})
}

// chain seals n blocks after a genesis block.
func chain(t testing.TB, n int) []*common.Block {
	blocks := []*common.Block{seal(0, nil, nil, nil, configuration())}
	for i := 1; i <= n; i++ {
		blocks = append(blocks, seal(uint64(i), hashOf(t, blocks[i-1]), []byte{0}, []uint32{1, 2, 4}, issue(fmt.Sprint(i))))
	}
	return blocks
}

func TestBlocks(t *testing.T) {
	l, peers := newTestLedger(t)
	blocks := chain(t, 4)
	peers[0].channel.append(blocks[:3]...)

	stop := errors.New("stop")
	var got []uint64
	err := l.Blocks(t.Context(), 1, func(b domain.Block) error {
		got = append(got, b.Number)
		if diff := cmp.Diff([]domain.MSPID{"BigdataMSP", "MarketMSP", "PoliceMSP"}, b.Signers); diff != "" {
			t.Error(diff)
		}
		switch b.Number {
		case 2: // the stream must wait for these
			peers[0].channel.append(blocks[3:]...)
		case 4:
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) {
		t.Errorf("Blocks = %v, want the error that yield returned", err)
	}
	if diff := cmp.Diff([]uint64{1, 2, 3, 4}, got); diff != "" {
		t.Error(diff)
	}
	if _, _, evaluated := peers[0].calls(); evaluated != 1 {
		t.Errorf("the configuration block was read %d times, want once", evaluated)
	}
}

func TestBlocksEnd(t *testing.T) {
	send := func(stream pb.Deliver_DeliverServer, blocks ...*common.Block) error {
		for _, b := range blocks {
			if err := stream.Send(&pb.DeliverResponse{Type: &pb.DeliverResponse_Block{Block: b}}); err != nil {
				return err
			}
		}
		return nil
	}
	blocks := chain(t, 3)
	for _, tt := range []struct {
		name    string
		deliver func(pb.Deliver_DeliverServer, uint64) error
		want    string
	}{
		{"peer refuses", func(s pb.Deliver_DeliverServer, _ uint64) error {
			return s.Send(&pb.DeliverResponse{Type: &pb.DeliverResponse_Status{Status: common.Status_FORBIDDEN}})
		}, "status FORBIDDEN"},
		{"empty answer", func(s pb.Deliver_DeliverServer, _ uint64) error { return s.Send(&pb.DeliverResponse{}) }, "no block"},
		{"gap", func(s pb.Deliver_DeliverServer, _ uint64) error { return send(s, blocks[0], blocks[2]) }, "block 2 came, want 1"},
		{"fork", func(s pb.Deliver_DeliverServer, _ uint64) error {
			return send(s, blocks[0], seal(1, []byte("another"), []byte{0}, nil, issue("a")))
		}, "as its previous block"},
		{"broken block", func(s pb.Deliver_DeliverServer, _ uint64) error {
			return send(s, seal(0, nil, []byte{0, 0}, nil, configuration()))
		}, "validation codes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l, peers := newTestLedger(t)
			peers[0].channel.append(blocks...)
			peers[0].onDeliver = tt.deliver
			err := l.Blocks(t.Context(), 0, func(domain.Block) error { return nil })
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Blocks = %v, want an error that says %q", err, tt.want)
			}
		})
	}
}

// TestBlocksOfOthers takes the own peer away while blocks are followed.
func TestBlocksOfOthers(t *testing.T) {
	for _, tt := range []struct {
		name string
		lose func(own *fakePeer)
	}{
		{"stopped", func(own *fakePeer) { own.stop() }},
		{"never there", func(own *fakePeer) { own.stop() }},
		{"delivers nothing", func(own *fakePeer) {
			own.onDeliver = func(s pb.Deliver_DeliverServer, _ uint64) error { <-s.Context().Done(); return nil }
		}},
		{"refuses connections for a while", func(own *fakePeer) {
			own.onDeliver = func(pb.Deliver_DeliverServer, uint64) error { return status.Error(codes.Unavailable, "starting") }
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l, peers := newTestLedger(t)
			blocks := chain(t, 4)
			peers[0].channel.append(blocks[:3]...)
			if tt.name != "stopped" {
				tt.lose(peers[0])
			}
			asking, stopAsking := context.WithCancel(t.Context())
			defer stopAsking()
			go func() { // as the indexer does
				for asking.Err() == nil {
					l.Heights(asking)
				}
			}()
			stop := errors.New("stop")
			var got []uint64
			err := l.Blocks(t.Context(), 1, func(b domain.Block) error {
				got = append(got, b.Number)
				switch b.Number {
				case 2:
					if tt.name == "stopped" {
						tt.lose(peers[0])
					}
					peers[0].channel.append(blocks[3:]...)
				case 4:
					if by := l.ServedBy(); len(by) != 2 || slices.Contains(by, "police") {
						t.Errorf("served by %v, want two other departments", by)
					}
					return stop
				}
				return nil
			})
			if !errors.Is(err, stop) {
				t.Errorf("Blocks = %v, want the error that yield returned", err)
			}
			if diff := cmp.Diff([]uint64{1, 2, 3, 4}, got); diff != "" {
				t.Error(diff)
			}
			if by := l.ServedBy(); by != nil {
				t.Errorf("after the end served by %v", by)
			}
		})
	}
}

// TestBlocksReturnToOwnPeer has the own peer deliver nothing at first.
func TestBlocksReturnToOwnPeer(t *testing.T) {
	l, peers := newTestLedger(t)
	blocks := chain(t, 3)
	peers[0].channel.append(blocks[:3]...)
	tries := 0
	peers[0].onDeliver = func(s pb.Deliver_DeliverServer, from uint64) error {
		if tries++; tries == 1 {
			return status.Error(codes.Unavailable, "starting")
		}
		if by := l.ServedBy(); by != nil || from != 3 {
			t.Errorf("the own peer is asked from block %d on, served by %v", from, by)
		}
		return s.Send(&pb.DeliverResponse{Type: &pb.DeliverResponse_Block{Block: blocks[3]}})
	}
	stop := errors.New("stop")
	err := l.Blocks(t.Context(), 1, func(b domain.Block) error {
		if (b.Number == 3) != (l.ServedBy() == nil) {
			t.Errorf("block %d is served by %v", b.Number, l.ServedBy())
		}
		if b.Number == 3 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) {
		t.Errorf("Blocks = %v, want the error that yield returned", err)
	}
}

// TestBlocksOfLiars has one department find other transactions valid than the
// rest: no block is taken on its word alone.
func TestBlocksOfLiars(t *testing.T) {
	lie := func(b *common.Block) *common.Block {
		b = proto.Clone(b).(*common.Block)
		b.Metadata.Metadata[common.BlockMetadataIndex_TRANSACTIONS_FILTER] = []byte{byte(pb.TxValidationCode_MVCC_READ_CONFLICT)}
		return b
	}
	for _, liar := range []int{1, 2} {
		l, peers := newTestLedger(t)
		blocks := chain(t, 2)
		peers[0].channel.append(blocks...)
		peers[0].stop()
		peers[liar].height = 9 // it is asked first
		peers[liar].onDeliver = func(s pb.Deliver_DeliverServer, from uint64) error {
			return s.Send(&pb.DeliverResponse{Type: &pb.DeliverResponse_Block{Block: lie(blocks[from])}})
		}
		err := l.Blocks(t.Context(), 1, func(b domain.Block) error {
			t.Errorf("block %d was taken: %s", b.Number, b.Transactions[0].ValidationCode)
			return nil
		})
		if err == nil || !strings.Contains(err.Error(), "found other transactions of it valid") {
			t.Errorf("liar %d: Blocks = %v", liar, err)
		}
	}
}

// TestBlocksWithoutOthers has too few other departments answer to be believed.
func TestBlocksWithoutOthers(t *testing.T) {
	l, peers := newTestLedger(t)
	peers[0].channel.append(chain(t, 2)...)
	for _, p := range peers[:len(peers)-1] {
		p.stop()
	}
	err := l.Blocks(t.Context(), 1, func(domain.Block) error { return errors.New("a block was taken") })
	var unavailable *ledger.UnavailableError
	if !errors.As(err, &unavailable) || !strings.Contains(err.Error(), "2 are needed") {
		t.Errorf("Blocks = %v, want unavailable", err)
	}
}

// TestNoGoroutineIsLeft checks that neither calls nor abandoned streams leave
// goroutines behind.
func TestNoGoroutineIsLeft(t *testing.T) {
	l, peers := newTestLedger(t)
	peers[0].channel.append(chain(t, 3)...)
	use := func() {
		ctx, cancel := context.WithCancel(t.Context())
		err := l.Blocks(ctx, 0, func(domain.Block) error { cancel(); return nil })
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("Blocks = %v, want %v", err, context.Canceled)
		}
		if _, err := submit(l, t.Context(), ledger.Request{Role: domain.RoleOperator, Transaction: testTransaction}); err != nil {
			t.Fatal(err)
		}
		l.Heights(t.Context())
	}
	for range 4 {
		use() // connections come up
	}
	before := runtime.NumGoroutine()
	for range 50 {
		use()
	}
	waitFor(t, "the goroutines of 50 rounds are gone", func() bool { return runtime.NumGoroutine() <= before+10 })
}

// However the fields of a message are spelled, opening it says what protobuf says.
func TestOpen(t *testing.T) {
	field := func(number protowire.Number, value string) []byte {
		return protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), value)
	}
	number := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 7)
	for name, data := range map[string][]byte{
		"none": nil, "the field": field(1, "a"), "both": slices.Concat(field(1, "a"), field(2, "b")), "the other way round": slices.Concat(field(2, "b"), field(1, "a")),
		"twice": slices.Concat(field(1, "a"), field(2, "b"), field(1, "c")), "empty": field(1, ""), "empty and not": slices.Concat(field(1, ""), field(1, "c")),
		"a number": number, "a number and the field": slices.Concat(number, field(1, "a")), "an unknown field": slices.Concat(field(9, "x"), field(1, "a")),
		"cut": field(1, "abc")[:3], "cut behind": slices.Concat(field(1, "a"), field(2, "b")[:2]), "no tag": {0xff}, "field 0": slices.Concat(field(1, "a"), []byte{0, 0}),
	} {
		t.Run(name, func(t *testing.T) {
			var want, got common.Envelope
			wantErr := proto.Unmarshal(data, &want)
			payload, err := open(data, 1, &got, got.GetPayload)
			if (err == nil) != (wantErr == nil) {
				t.Fatalf("open: %v, protobuf: %v", err, wantErr)
			}
			if err == nil && (!bytes.Equal(payload, want.GetPayload()) || !bytes.Equal(got.GetSignature(), want.GetSignature())) {
				t.Errorf("open reads %q and %v, protobuf %v", payload, &got, &want)
			}
		})
	}
}

// A transaction is read as protobuf reads it, however its client spelled it: peers took
// it, so that no gateway may stop at it.
func TestDecodeOddSpelling(t *testing.T) {
	var envelope common.Envelope
	var payload common.Payload
	var tx pb.Transaction
	var action pb.ChaincodeActionPayload
	for _, step := range []func() error{
		func() error { return proto.Unmarshal(issue("a"), &envelope) },
		func() error { return proto.Unmarshal(envelope.GetPayload(), &payload) },
		func() error { return proto.Unmarshal(payload.GetData(), &tx) },
		func() error { return proto.Unmarshal(tx.GetActions()[0].GetPayload(), &action) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	number := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 7)
	endorsements := &pb.ChaincodeActionPayload{Action: &pb.ChaincodeEndorsedAction{Endorsements: action.GetAction().GetEndorsements()}}
	action.Action.Endorsements = nil
	split := proto.Clone(&tx).(*pb.Transaction)
	split.Actions[0].Payload = slices.Concat(marshal(&action), marshal(endorsements))
	decoded := func(data []byte) domain.Transaction {
		raw := seal(7, nil, []byte{0}, nil, marshal(&common.Envelope{Payload: marshal(&common.Payload{Header: payload.GetHeader(), Data: data})}))
		block, err := decodeBlock(raw, testConsenters)
		if err != nil {
			t.Fatal(err)
		}
		return block.Transactions[0]
	}
	want := decoded(payload.GetData())
	if len(want.Writes) != 3 || len(want.Endorsers) != 2 {
		t.Fatalf("transaction %+v", want)
	}
	for name, data := range map[string][]byte{"a number for an action": slices.Concat(number, marshal(&tx)), "an action in two parts": marshal(split)} {
		if diff := cmp.Diff(want, decoded(data)); diff != "" {
			t.Errorf("%s (-plain +odd):\n%s", name, diff)
		}
	}
}

// BenchmarkDecodeBlock decodes a block with one batch of 1,000 registrations, as the
// ledger stores them.
func BenchmarkDecodeBlock(b *testing.B) {
	const size = 1000
	contents := make([]domain.CatalogContent, size)
	for i := range contents {
		contents[i] = indextest.SmallContent(i)
	}
	batch := indextest.StoredBatch("police", blockTime, contents...)
	set := &kvrwset.KVRWSet{}
	for _, w := range batch.Writes {
		set.Reads = append(set.Reads, &kvrwset.KVRead{Key: w.Key})
		set.Writes = append(set.Writes, &kvrwset.KVWrite{Key: w.Key, Value: w.Value})
	}
	raw := seal(7, []byte{0xab}, []byte{0}, []uint32{1, 2, 3}, endorsed("a", "catalog:RegisterBatch", batch.Arguments, set))
	bytes := marshal(raw)
	b.ReportAllocs()
	before := processorTime(b)
	for b.Loop() {
		var block common.Block
		if err := proto.Unmarshal(bytes, &block); err != nil {
			b.Fatal(err)
		}
		if got, err := decodeBlock(&block, testConsenters); err != nil || len(got.Transactions[0].Writes) != 2*size+1 {
			b.Fatalf("%d transactions, %v", len(got.Transactions), err)
		}
	}
	b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/1e3/float64(b.N*size), "µs-cpu/entry")
}

// processorTime is what this process has used of processors.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
