package ledgeraudit

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	pb "github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/zhenglian/zhenglian/proof"
)

// recorded is the ledger of a real network of four departments after the sample
// was loaded, as the peer of bigdata stored it: testdata/ledger.gz.
var recorded = sync.OnceValue(func() *Files {
	packed, err := os.Open("testdata/ledger.gz")
	if err != nil {
		panic(err)
	}
	defer packed.Close() //nolint:errcheck // only read
	r, err := gzip.NewReader(packed)
	if err != nil {
		panic(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		panic(err)
	}
	files, err := OpenFiles(folder(data))
	if err != nil {
		panic(err)
	}
	return files
})

// folder is a folder with one block file.
func folder(data []byte) fs.FS { return fstest.MapFS{"blockfile_000000": {Data: data}} }

func recordedBlock(t testing.TB, number uint64) *common.Block {
	t.Helper()
	b, err := recorded().Block(context.Background(), number)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func recordedHeight(t testing.TB) uint64 {
	t.Helper()
	height, err := recorded().Height(context.Background())
	if err != nil || height < 20 {
		t.Fatalf("%d recorded blocks: %v", height, err)
	}
	return height
}

func recordedAnchors(t testing.TB) *proof.Anchors {
	t.Helper()
	data, err := os.ReadFile("testdata/consortium.json")
	if err != nil {
		t.Fatal(err)
	}
	anchors, err := proof.ParseAnchors(data)
	if err != nil {
		t.Fatal(err)
	}
	return anchors
}

// checkAll audits blocks from the first one on.
func checkAll(t testing.TB, genesis []byte, blocks ...*common.Block) *Chain {
	t.Helper()
	c := New("zhenglian", genesis)
	for _, b := range blocks {
		if _, err := c.Check(b); err != nil {
			t.Fatal(err)
		}
		if c.Ended() {
			break
		}
	}
	return c
}

func TestRecordedLedger(t *testing.T) {
	c := New("zhenglian", Hash(recordedBlock(t, 0)))
	height := recordedHeight(t)
	err := recorded().Blocks(t.Context(), 0, height, func(b *common.Block) error {
		found, err := c.Check(b)
		for _, f := range found {
			t.Error(f)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s := c.State()
	if s.Next != height || s.Codes[valid] < int(height) || s.Found != 0 {
		t.Errorf("state is %+v", s)
	}
	for _, f := range c.Configuration().CheckTrust(recordedAnchors(t)) {
		t.Error(f)
	}
	t.Logf("%d blocks, %d transactions, codes %v", s.Next, s.Transactions, s.Codes)
}

// clone copies a block, so that it can be changed.
func clone(b *common.Block) *common.Block {
	c, ok := proto.Clone(b).(*common.Block)
	if !ok {
		panic("no block")
	}
	return c
}

// TestResume stops an audit after each block and goes on from what was written.
func TestResume(t *testing.T) {
	genesis := Hash(recordedBlock(t, 0))
	straight, c := New("zhenglian", genesis), New("zhenglian", genesis)
	for n := range recordedHeight(t) {
		b := recordedBlock(t, n)
		if _, err := straight.Check(b); err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(c.State())
		if err != nil {
			t.Fatal(err)
		}
		var state State
		if err := json.Unmarshal(data, &state); err != nil {
			t.Fatal(err)
		}
		var config *common.Block
		if state.Next > 0 {
			config = recordedBlock(t, state.Config)
		}
		if c, err = Resume(state, config); err != nil {
			t.Fatal(err)
		}
		if found, err := c.Check(b); err != nil || len(found) > 0 {
			t.Fatalf("block %d: %v, %v", n, found, err)
		}
	}
	if diff := cmp.Diff(straight.State(), c.State()); diff != "" {
		t.Errorf("state (-straight +resumed):\n%s", diff)
	}
	state := c.State()
	for name, config := range map[string]*common.Block{"none": nil, "another": recordedBlock(t, state.Config-1)} {
		if _, err := Resume(state, config); err == nil {
			t.Errorf("%s: taken for the block with the configuration", name)
		}
	}
	forged := clone(recordedBlock(t, state.Config))
	forged.Data.Data[0][100] ^= 1
	if _, err := Resume(state, forged); err == nil {
		t.Error("a configuration with another content was taken")
	}
}

// TestTamperRecorded flips every bit of a block's header and data, and checks that
// the audit ends there; and every bit of what orderers signed, and checks that
// something is found.
func TestTamperRecorded(t *testing.T) {
	const number = 6
	state, config := prepared(t, number)
	original := recordedBlock(t, number)
	parts := map[string]func(*common.Block) []byte{
		"previous hash": func(b *common.Block) []byte { return b.Header.PreviousHash },
		"data hash":     func(b *common.Block) []byte { return b.Header.DataHash },
		"signatures":    func(b *common.Block) []byte { return b.Metadata.Metadata[common.BlockMetadataIndex_SIGNATURES] },
	}
	for i := range original.Data.Data {
		parts[fmt.Sprint("transaction ", i)] = func(b *common.Block) []byte { return b.Data.Data[i] }
	}
	for name, part := range parts {
		t.Run(name, func(t *testing.T) {
			size := len(part(original))
			step := 1
			if size > 1000 || testing.Short() {
				step = 97 // each flip costs the checks of a block; coprime to 8
			}
			tried := 0
			for i := 0; i < size*8; i += step {
				b := clone(original)
				part(b)[i/8] ^= 1 << (i % 8)
				c, err := Resume(state, config)
				if err != nil {
					t.Fatal(err)
				}
				found, err := c.Check(b)
				if err != nil || len(found) == 0 {
					t.Fatalf("bit %d of byte %d: nothing found (%v)", i%8, i/8, err)
				}
				if name != "signatures" && !c.Ended() {
					t.Errorf("bit %d of byte %d: the audit goes on after %v", i%8, i/8, found)
				}
				tried++
			}
			if tried == 0 {
				t.Error("nothing was tried")
			}
		})
	}
}

// prepared is the state of an audit before a recorded block, and the block with
// the configuration.
func prepared(t testing.TB, before uint64) (State, *common.Block) {
	t.Helper()
	c := New("zhenglian", Hash(recordedBlock(t, 0)))
	for n := range before {
		if _, err := c.Check(recordedBlock(t, n)); err != nil {
			t.Fatal(err)
		}
	}
	return c.State(), recordedBlock(t, c.State().Config)
}

// TestBlockOrder leaves a recorded block out, repeats one, swaps two.
func TestBlockOrder(t *testing.T) {
	genesis := Hash(recordedBlock(t, 0))
	get := func(numbers ...uint64) []*common.Block {
		var out []*common.Block
		for _, n := range numbers {
			out = append(out, recordedBlock(t, n))
		}
		return out
	}
	renumbered := clone(recordedBlock(t, 3))
	renumbered.Header.Number = 2
	for name, blocks := range map[string][]*common.Block{
		"left out": get(0, 1, 3), "repeated": get(0, 1, 1), "swapped": get(0, 2, 1), "first again": get(0, 0),
		"renumbered": append(get(0, 1), renumbered), "begins later": get(1), "no header": append(get(0), &common.Block{}), "nothing": {nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := checkAll(t, genesis, blocks...)
			if s := c.State(); !c.Ended() || s.Found != 1 {
				t.Errorf("found %v", s.Findings)
			}
			if _, err := c.Check(blocks[0]); !errors.Is(err, ErrEnded) {
				t.Errorf("goes on: %v", err)
			}
		})
	}
	if c := checkAll(t, make([]byte, 32), get(0)...); !c.Ended() || c.State().Findings[0].Rule != RuleGenesis {
		t.Errorf("another first block: %v", c.State().Findings)
	}
}

// recordedCodes are signed reads of validation codes, made by the recorded network.
func recordedCodes(t testing.TB) map[string]struct {
	Sample
	SignedCode
} {
	t.Helper()
	data, err := os.ReadFile("testdata/codes.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Block                 uint64
		Transaction           int
		Proposal, Response    []byte
		Endorsers, Signatures [][]byte
	}
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	out := map[string]struct {
		Sample
		SignedCode
	}{}
	for _, item := range list {
		signed := SignedCode{Proposal: item.Proposal, Response: item.Response}
		for i := range item.Endorsers {
			signed.Endorsements = append(signed.Endorsements, &pb.Endorsement{Endorser: item.Endorsers[i], Signature: item.Signatures[i]})
		}
		for _, s := range Samples(recordedBlock(t, item.Block)) {
			if s.Transaction == item.Transaction {
				out[s.Code] = struct {
					Sample
					SignedCode
				}{s, signed}
			}
		}
	}
	if len(out) != 2 {
		t.Fatalf("%d signed codes", len(out))
	}
	return out
}

func TestSignedCodes(t *testing.T) {
	c := checkAll(t, Hash(recordedBlock(t, 0)), recordedBlock(t, 0))
	config := c.Configuration()
	codes := recordedCodes(t)
	for name, r := range codes {
		code, by, err := config.CheckCode(r.SignedCode, r.Envelope)
		if err != nil || code != name || len(by) != 4 {
			t.Errorf("%s: got %s by %v, %v", name, code, by, err)
		}
		if f := config.Judge(r.Sample, r.SignedCode, 3); f != nil {
			t.Errorf("%s: %v", name, f)
		}
		if f := config.Judge(r.Sample, r.SignedCode, 5); f == nil {
			t.Errorf("%s: four signatures pass for five", name)
		}
		lied := r.Sample
		lied.Code = "PHANTOM_READ_CONFLICT"
		if f := config.Judge(lied, r.SignedCode, 3); f == nil {
			t.Errorf("%s: another code passes", name)
		}
		for i := range r.Response {
			bad := r.SignedCode
			bad.Response = bytes.Clone(r.Response)
			bad.Response[i] ^= 1 << (i % 8)
			if _, _, err := config.CheckCode(bad, r.Envelope); err == nil {
				t.Fatalf("%s: accepted with byte %d of the response changed", name, i)
			}
		}
		for i := range r.Proposal {
			bad := r.SignedCode
			bad.Proposal = bytes.Clone(r.Proposal)
			bad.Proposal[i] ^= 1 << (i % 8)
			if _, _, err := config.CheckCode(bad, r.Envelope); err == nil {
				t.Fatalf("%s: accepted with byte %d of the proposal changed", name, i)
			}
		}
	}
	if _, _, err := config.CheckCode(codes["VALID"].SignedCode, codes["MVCC_READ_CONFLICT"].Envelope); err == nil {
		t.Error("one transaction's code passes for another's")
	}
}

// FuzzBlock checks that no block makes the audit panic.
func FuzzBlock(f *testing.F) {
	state, config := prepared(f, 6)
	ready, err := Resume(state, config)
	if err != nil {
		f.Fatal(err)
	}
	for _, n := range []uint64{6, 7, 48} { // small ones: the first one has 50 KB
		f.Add(marshal(recordedBlock(f, n)))
	}
	w := newWorld()
	f.Add(marshal(w.blocks[0]))
	f.Add(marshal(w.add(nil, w.transaction(nil))))
	f.Fuzz(func(t *testing.T, data []byte) {
		var b common.Block
		if proto.Unmarshal(data, &b) != nil {
			return
		}
		if _, err := (&Chain{state: ready.State(), config: ready.config}).Check(&b); err != nil {
			t.Fatal(err)
		}
		if _, err := New("zhenglian", Hash(&b)).Check(&b); err != nil {
			t.Fatal(err)
		}
		_, _ = parseStored(data)
	})
}
