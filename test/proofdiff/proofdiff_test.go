// Package proofdiff compares package proof, which reads protobuf by hand, with
// Fabric's own messages and client: what those write, proof must read, and what
// the test bundles hold must be what Fabric would have written. It is apart from
// package proof because proof and its tests link no Fabric package.
package proofdiff

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-gateway/pkg/client"
	"github.com/hyperledger/fabric-gateway/pkg/identity"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/gateway"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// marshal writes a message as Fabric does.
func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// roundTrip reads data into m with Fabric's messages and checks that writing it
// again gives the same bytes and that nothing in it is unknown.
func roundTrip[M proto.Message](t *testing.T, name string, data []byte, m M) M {
	t.Helper()
	if err := proto.Unmarshal(data, m); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if n := len(m.ProtoReflect().GetUnknown()); n > 0 {
		t.Errorf("%s: %d bytes unknown to Fabric", name, n)
	}
	if again := marshal(t, m); !bytes.Equal(again, data) {
		t.Errorf("%s: Fabric writes %x, the bundle holds %x", name, again, data)
	}
	return m
}

// TestBundleIsFabrics reads every message of a test bundle with Fabric's types.
func TestBundleIsFabrics(t *testing.T) {
	c := prooftest.New()
	read := c.AttestCertificate(c.Certificate(), domain.CertificateValid)
	read.Namespaces[1].RangeQueries = [][]byte{marshal(t, &kvrwset.RangeQueryInfo{
		StartKey: "dept~", EndKey: "dept~~", ItrExhausted: true,
		ReadsInfo: &kvrwset.RangeQueryInfo_RawReads{RawReads: &kvrwset.QueryReads{KvReads: []*kvrwset.KVRead{
			{Key: "dept~civil", Version: &kvrwset.Version{BlockNum: 3}}, {Key: "dept~police"},
		}}},
	}), marshal(t, &kvrwset.RangeQueryInfo{
		StartKey: "a", ReadsInfo: &kvrwset.RangeQueryInfo_ReadsMerkleHashes{ReadsMerkleHashes: &kvrwset.QueryReadsMerkleSummary{
			MaxDegree: 50, MaxLevel: 2, MaxLevelHashes: [][]byte{{1}, {2}},
		}},
	})}
	if v := proof.Verify(read.File(), c.Anchors(), proof.Options{}); v.Overall != proof.Valid {
		t.Fatalf("the original: %q: %s", v.Overall, v.Reason)
	}

	p := roundTrip(t, "proposal", read.ProposalBytes(), &peer.Proposal{})
	header := roundTrip(t, "header", p.GetHeader(), &common.Header{})
	channel := roundTrip(t, "channel header", header.GetChannelHeader(), &common.ChannelHeader{})
	extension := roundTrip(t, "chaincode header extension", channel.GetExtension(), &peer.ChaincodeHeaderExtension{})
	signature := roundTrip(t, "signature header", header.GetSignatureHeader(), &common.SignatureHeader{})
	roundTrip(t, "creator", signature.GetCreator(), &msp.SerializedIdentity{})
	payload := roundTrip(t, "chaincode proposal payload", p.GetPayload(), &peer.ChaincodeProposalPayload{})
	invocation := roundTrip(t, "invocation", payload.GetInput(), &peer.ChaincodeInvocationSpec{})
	if channel.GetType() != int32(common.HeaderType_ENDORSER_TRANSACTION) || channel.GetChannelId() != c.Channel ||
		extension.GetChaincodeId().GetName() != c.Chaincode || !channel.GetTimestamp().AsTime().Equal(read.Time) {
		t.Errorf("channel header is %v", channel)
	}
	if diff := cmp.Diff(read.Args, invocation.GetChaincodeSpec().GetInput().GetArgs()); diff != "" {
		t.Errorf("arguments (-want +got):\n%s", diff)
	}

	response := roundTrip(t, "proposal response payload", read.ResponseBytes(), &peer.ProposalResponsePayload{})
	action := roundTrip(t, "chaincode action", response.GetExtension(), &peer.ChaincodeAction{})
	set := roundTrip(t, "read-write set", action.GetResults(), &rwset.TxReadWriteSet{})
	for _, ns := range set.GetNsRwset() {
		roundTrip(t, "key-value set of "+ns.GetNamespace(), ns.GetRwset(), &kvrwset.KVRWSet{})
	}
	if action.GetResponse().GetStatus() != 200 || !bytes.Equal(action.GetResponse().GetPayload(), read.Payload) {
		t.Errorf("response is %v", action.GetResponse())
	}
	// What Fabric's protoutil.GetProposalHash1 computes.
	withoutTransient := marshal(t, &peer.ChaincodeProposalPayload{Input: payload.GetInput()})
	want := sha256.Sum256(slices.Concat(header.GetChannelHeader(), header.GetSignatureHeader(), withoutTransient))
	if !bytes.Equal(response.GetProposalHash(), want[:]) {
		t.Error("the proposal hash is not Fabric's")
	}
	for _, e := range read.Endorsements() {
		id := roundTrip(t, "endorser", e.Endorser, &msp.SerializedIdentity{})
		if !bytes.HasPrefix(id.GetIdBytes(), []byte("-----BEGIN CERTIFICATE-----\n")) {
			t.Error("the endorser holds no PEM")
		}
	}
}

// TestGatewayClientProposal verifies a proposal that Fabric's own client wrote,
// answered by messages that Fabric's own encoder wrote.
func TestGatewayClientProposal(t *testing.T) {
	c := prooftest.New()
	police := c.Department("police")
	connection, err := grpc.NewClient("127.0.0.1:1", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := connection.Close(); err != nil {
			t.Error(err)
		}
	})
	id, err := identity.NewX509Identity(string(police.MSPID), police.Client.Cert)
	if err != nil {
		t.Fatal(err)
	}
	sign, err := identity.NewPrivateKeySign(police.Client.Key)
	if err != nil {
		t.Fatal(err)
	}
	gw, err := client.Connect(id, client.WithSign(sign), client.WithClientConnection(connection))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := gw.Close(); err != nil {
			t.Error(err)
		}
	})
	args, err := domain.Canonical(domain.AttestArgs{Kind: domain.KindCertificate, ID: prooftest.Ref, Nonce: prooftest.Nonce})
	if err != nil {
		t.Fatal(err)
	}
	built, err := gw.GetNetwork(c.Channel).GetContract(c.Chaincode).NewProposal("evidence:Attest",
		client.WithBytesArguments(args), client.WithEndorsingOrganizations("PoliceMSP", "CivilMSP", "MarketMSP"))
	if err != nil {
		t.Fatal(err)
	}
	sent, err := built.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	var proposed gateway.ProposedTransaction
	if err := proto.Unmarshal(sent, &proposed); err != nil {
		t.Fatal(err)
	}
	proposalBytes := proposed.GetProposal().GetProposalBytes()

	var p peer.Proposal
	var header common.Header
	var channel common.ChannelHeader
	for _, read := range []struct {
		data func() []byte
		into proto.Message
	}{
		{func() []byte { return proposalBytes }, &p},
		{func() []byte { return p.GetHeader() }, &header},
		{func() []byte { return header.GetChannelHeader() }, &channel},
	} {
		if err := proto.Unmarshal(read.data(), read.into); err != nil {
			t.Fatal(err)
		}
	}
	asOf := channel.GetTimestamp().AsTime().Truncate(time.Millisecond)
	certificate := c.Certificate()
	certificate.Content.Validity = domain.Period{From: asOf.AddDate(-1, 0, 0), To: asOf.AddDate(1, 0, 0)}
	statement, err := domain.Attest(prooftest.Seal(&certificate, &certificate.Meta),
		domain.Tx{ID: domain.TxID(built.TransactionID()), Time: asOf, Channel: c.Channel},
		domain.AttestArgs{Kind: domain.KindCertificate, ID: prooftest.Ref, Nonce: prooftest.Nonce})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := domain.Canonical(statement)
	if err != nil {
		t.Fatal(err)
	}
	response := endorse(t, &header, p.GetPayload(), c, answer)

	var endorsements []proof.RawEndorsement
	for _, code := range []domain.DepartmentCode{"police", "market", "civil"} {
		signer := c.Department(code).Peer
		endorser := marshal(t, &msp.SerializedIdentity{Mspid: string(signer.MSPID), IdBytes: signer.PEM()})
		endorsements = append(endorsements, proof.RawEndorsement{Endorser: endorser, Signature: signer.Sign(slices.Concat(response, endorser))})
	}
	file, err := proof.Encode(proof.NewBundle(proposalBytes, response, endorsements))
	if err != nil {
		t.Fatal(err)
	}
	v := proof.Verify(file, c.Anchors(), proof.Options{At: asOf, Nonce: prooftest.Nonce})
	if v.Overall != proof.Valid {
		t.Fatalf("got %q: %s", v.Overall, v.Reason)
	}
	if diff := cmp.Diff(&statement, v.Statement); diff != "" {
		t.Errorf("statement (-signed +shown):\n%s", diff)
	}
	t.Logf("%d bytes with three departments", len(file))
}

// endorse writes what a peer signs: the answer of a read-only transaction.
func endorse(t *testing.T, header *common.Header, payload []byte, c *prooftest.Consortium, answer []byte) []byte {
	t.Helper()
	hash := sha256.Sum256(slices.Concat(header.GetChannelHeader(), header.GetSignatureHeader(), payload))
	set := &rwset.TxReadWriteSet{DataModel: rwset.TxReadWriteSet_KV, NsRwset: []*rwset.NsReadWriteSet{
		{Namespace: "_lifecycle", Rwset: marshal(t, &kvrwset.KVRWSet{Reads: []*kvrwset.KVRead{
			{Key: "namespaces/fields/zhenglian/Sequence", Version: &kvrwset.Version{BlockNum: 6}},
		}})},
		{Namespace: c.Chaincode, Rwset: marshal(t, &kvrwset.KVRWSet{Reads: []*kvrwset.KVRead{
			{Key: "cert~" + prooftest.Ref, Version: &kvrwset.Version{BlockNum: 17, TxNum: 2}},
		}})},
	}}
	return marshal(t, &peer.ProposalResponsePayload{
		ProposalHash: hash[:],
		Extension: marshal(t, &peer.ChaincodeAction{
			Results:     marshal(t, set),
			Response:    &peer.Response{Status: 200, Payload: answer},
			ChaincodeId: &peer.ChaincodeID{Name: c.Chaincode, Version: c.Version},
		}),
	})
}

// TestSecondSpelling shows why proof reads protobuf more strictly than Fabric
// does: Fabric reads a channel header whose first tag is one byte too long as the
// same header, so that one statement would have many proofs.
func TestSecondSpelling(t *testing.T) {
	c := prooftest.New()
	plain := c.AttestCertificate(c.Certificate(), domain.CertificateValid)
	want := &common.ChannelHeader{}
	edited := c.AttestCertificate(c.Certificate(), domain.CertificateValid)
	edited.Edit = map[prooftest.Message]func([]byte) []byte{prooftest.ChannelHeader: func(data []byte) []byte {
		if err := proto.Unmarshal(data, want); err != nil {
			t.Fatal(err)
		}
		return append([]byte{data[0] | 0x80, 0x00}, data[1:]...)
	}}
	var p peer.Proposal
	var header common.Header
	var got common.ChannelHeader
	if err := proto.Unmarshal(edited.ProposalBytes(), &p); err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(p.GetHeader(), &header); err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(header.GetChannelHeader(), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, &got, protocmp.Transform()); diff != "" {
		t.Errorf("Fabric reads the long tag as something else (-want +got):\n%s", diff)
	}
	for name, read := range map[string]*prooftest.Read{"plain": plain, "long tag": edited} {
		wantOverall := proof.Valid
		if read == edited {
			wantOverall = proof.BadProof
		}
		if v := proof.Verify(read.File(), c.Anchors(), proof.Options{}); v.Overall != wantOverall {
			data, err := json.Marshal(v)
			t.Errorf("%s: %s (%v)", name, data, err)
		}
	}
}
