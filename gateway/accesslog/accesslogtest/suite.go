package accesslogtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/accesslog"
)

// Run runs the conformance suite. open answers an empty log and sees to its
// being closed.
func Run(t *testing.T, open func(t *testing.T) accesslog.Log) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, accesslog.Log)
	}{
		{"empty", testEmpty},
		{"append and read back", testAppend},
		{"bad entries", testBadEntries},
		{"all proofs", testProofs},
		{"bad arguments", testBadArguments},
		{"concurrent appends", testConcurrent},
		{"cancelled", testCancelled},
		{"callers keep their bytes", testBytes},
		{"sign", testSign},
		{"close", testClose},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// AwaitSize waits until the log's checkpoint has at least size, and answers it.
func AwaitSize(t testing.TB, l accesslog.Log, size uint64) accesslog.Checkpoint {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		cp, err := l.Checkpoint(ctx)
		if err != nil {
			t.Fatalf("Checkpoint: %v", err)
		}
		if cp.Size >= size {
			return cp
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("the checkpoint stays at size %d, want %d", cp.Size, size)
		}
	}
}

// ReadAll reads every entry that the log's checkpoint covers.
func ReadAll(t testing.TB, l accesslog.Log) [][]byte {
	t.Helper()
	cp, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatalf("Checkpoint: %v", err)
	}
	var all [][]byte
	for from := uint64(0); from < cp.Size; from = uint64(len(all)) {
		some, err := l.Entries(t.Context(), from, cp.Size)
		if err != nil {
			t.Fatalf("Entries(%d, %d): %v", from, cp.Size, err)
		}
		if len(some) == 0 || uint64(len(all)+len(some)) > cp.Size {
			t.Fatalf("Entries(%d, %d) = %d entries", from, cp.Size, len(some))
		}
		all = append(all, some...)
	}
	return all
}

// Check checks the whole log against its checkpoint: the signature, the root of
// all entries, and what the last entry's inclusion proof shows. It answers the
// entries.
func Check(t testing.TB, l accesslog.Log) [][]byte {
	t.Helper()
	cp, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatalf("Checkpoint: %v", err)
	}
	checkCheckpoint(t, l, cp)
	all := ReadAll(t, l)
	var full reference
	for _, e := range all {
		full.add(e)
	}
	if root := full.root(uint64(len(all))); !bytes.Equal(root, cp.Root) {
		t.Fatalf("the root of the %d entries is %x and the checkpoint says %x", len(all), root, cp.Root)
	}
	if cp.Size > 0 {
		proof, err := l.InclusionProof(t.Context(), cp.Size-1, cp.Size)
		if err != nil {
			t.Fatalf("InclusionProof: %v", err)
		}
		checkInclusion(t, proof, all[cp.Size-1], cp.Size-1, cp.Size, cp.Root)
	}
	return all
}

func checkCheckpoint(t testing.TB, l accesslog.Log, cp accesslog.Checkpoint) {
	t.Helper()
	verifier, err := note.NewVerifier(l.VerifierKey())
	if err != nil {
		t.Fatalf("VerifierKey: %v", err)
	}
	if verifier.Name() != l.Origin() || cp.Origin != l.Origin() {
		t.Errorf("origin = %q, of the checkpoint %q, name of the key %q, want them equal", l.Origin(), cp.Origin, verifier.Name())
	}
	opened, err := note.Open(cp.Note, note.VerifierList(verifier))
	if err != nil {
		t.Fatalf("the checkpoint's signature: %v", err)
	}
	if len(opened.Sigs) != 1 || len(opened.UnverifiedSigs) != 0 {
		t.Errorf("the checkpoint has %d known and %d other signatures, want 1 and 0", len(opened.Sigs), len(opened.UnverifiedSigs))
	}
	if len(cp.Root) != tlog.HashSize {
		t.Fatalf("the root has %d bytes", len(cp.Root))
	}
	want := fmt.Sprintf("%s\n%d\n%s\n", l.Origin(), cp.Size, tlog.Hash(cp.Root))
	if opened.Text != want {
		t.Errorf("the checkpoint says %q, want %q", opened.Text, want)
	}
}

// reference is the plain form of RFC 6962 that logs are compared with.
type reference struct{ leaves []tlog.Hash }

func (r *reference) add(entry []byte) { r.leaves = append(r.leaves, tlog.RecordHash(entry)) }

// root is MTH of RFC 6962, section 2.1, as it is written there.
func (r *reference) root(size uint64) []byte {
	var mth func([]tlog.Hash) tlog.Hash
	mth = func(d []tlog.Hash) tlog.Hash {
		if len(d) == 1 {
			return d[0]
		}
		k := 1
		for k*2 < len(d) {
			k *= 2
		}
		return tlog.NodeHash(mth(d[:k]), mth(d[k:]))
	}
	if size == 0 {
		root, err := tlog.TreeHash(0, nil)
		if err != nil {
			panic(err)
		}
		return root[:]
	}
	root := mth(r.leaves[:size])
	return root[:]
}

func hashes(t testing.TB, proof [][]byte) []tlog.Hash {
	t.Helper()
	out := make([]tlog.Hash, len(proof))
	for i, h := range proof {
		if len(h) != tlog.HashSize {
			t.Fatalf("hash %d of the proof has %d bytes", i, len(h))
		}
		out[i] = tlog.Hash(h)
	}
	return out
}

func checkInclusion(t testing.TB, proof [][]byte, entry []byte, index, size uint64, root []byte) {
	t.Helper()
	if err := tlog.CheckRecord(hashes(t, proof), int64(size), tlog.Hash(root), int64(index), tlog.RecordHash(entry)); err != nil {
		t.Errorf("inclusion of %d in %d: %v", index, size, err)
	}
}

func entriesFrom(from, n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = fmt.Appendf(nil, `{"schema":"zhenglian/access-record/1","callId":"call-%d"}`, from+i)
	}
	return out
}

func mustAppend(t testing.TB, l accesslog.Log, entries [][]byte) []accesslog.Receipt {
	t.Helper()
	receipts, err := l.Append(t.Context(), entries)
	if err != nil {
		t.Fatalf("Append of %d entries: %v", len(entries), err)
	}
	checkReceipts(t, receipts, entries)
	return receipts
}

func checkReceipts(t testing.TB, receipts []accesslog.Receipt, entries [][]byte) {
	t.Helper()
	if len(receipts) != len(entries) {
		t.Fatalf("%d receipts for %d entries", len(receipts), len(entries))
	}
	for i, r := range receipts {
		if want := tlog.RecordHash(entries[i]); !bytes.Equal(r.LeafHash, want[:]) {
			t.Errorf("leaf hash of receipt %d = %x, want %x", i, r.LeafHash, want)
		}
		if i > 0 && r.Index <= receipts[i-1].Index {
			t.Errorf("receipt %d has index %d after %d: not in the order given", i, r.Index, receipts[i-1].Index)
		}
	}
}

func testEmpty(t *testing.T, l accesslog.Log) {
	cp, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatalf("Checkpoint: %v", err)
	}
	if cp.Size != 0 {
		t.Errorf("size = %d, want 0", cp.Size)
	}
	Check(t, l)
	if got, err := l.Append(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("Append of nothing = %v, %v", got, err)
	}
	if _, err := l.Entries(t.Context(), 0, 1); domain.KindOf(err) != domain.Invalid {
		t.Errorf("Entries of an empty log = %v, want invalid", err)
	}
}

func testAppend(t *testing.T, l accesslog.Log) {
	var all [][]byte
	for _, n := range []int{1, 1, 3, 251, 256, 1000, 4500, 7} { // across bundles and beyond one batch
		entries := entriesFrom(len(all), n)
		receipts := mustAppend(t, l, entries)
		if receipts[0].Index != uint64(len(all)) || receipts[n-1].Index != uint64(len(all)+n-1) {
			t.Fatalf("indexes = %d to %d, want %d to %d", receipts[0].Index, receipts[n-1].Index, len(all), len(all)+n-1)
		}
		all = append(all, entries...)
	}
	cp := AwaitSize(t, l, uint64(len(all)))
	if cp.Size != uint64(len(all)) {
		t.Errorf("size = %d, want %d", cp.Size, len(all))
	}
	if diff := cmp.Diff(all, Check(t, l)); diff != "" {
		t.Errorf("entries read back differ (-want +got):\n%s", diff)
	}
	for _, span := range [][2]uint64{{0, 1}, {255, 257}, {256, 300}, {511, 6019}, {6018, 6019}} {
		got, err := l.Entries(t.Context(), span[0], span[1])
		if err != nil || len(got) == 0 || uint64(len(got)) > span[1]-span[0] {
			t.Fatalf("Entries(%v) = %d entries, %v", span, len(got), err)
		}
		if diff := cmp.Diff(all[span[0]:span[0]+uint64(len(got))], got); diff != "" {
			t.Errorf("Entries(%v) (-want +got):\n%s", span, diff)
		}
	}
	// The same entry again is another record of another access.
	again := mustAppend(t, l, all[:1])
	if again[0].Index != uint64(len(all)) {
		t.Errorf("an equal entry got index %d, want %d", again[0].Index, len(all))
	}
}

func testBadEntries(t *testing.T, l accesslog.Log) {
	good := []byte("good")
	for name, entries := range map[string][][]byte{
		"too long": {good, make([]byte, 1<<16)},
		"empty":    {good, {}},
		"nil":      {nil},
	} {
		if _, err := l.Append(t.Context(), entries); domain.KindOf(err) != domain.Invalid {
			t.Errorf("Append of an entry that is %s = %v, want invalid", name, err)
		}
	}
	longest := bytes.Repeat([]byte{0xff}, 1<<16-1)
	if r := mustAppend(t, l, [][]byte{longest, {0}}); r[0].Index != 0 {
		t.Errorf("first index = %d: a refused append left an entry", r[0].Index)
	}
	AwaitSize(t, l, 2)
	if diff := cmp.Diff([][]byte{longest, {0}}, Check(t, l)); diff != "" {
		t.Errorf("entries (-want +got):\n%.300s", diff)
	}
}

func testProofs(t *testing.T, l accesslog.Log) {
	const most = 530
	var all [][]byte
	var want reference
	for len(all) < most { // sizes between the ones that were ever published
		entries := entriesFrom(len(all), min(1+len(all)/3, most-len(all)))
		mustAppend(t, l, entries)
		for _, e := range entries {
			want.add(e)
		}
		all = append(all, entries...)
	}
	AwaitSize(t, l, most)
	sizes := []uint64{1, 2, 3, 5, 8, 100, 255, 256, 257, 300, 511, 512, 513, most}
	for i, size := range sizes {
		root := want.root(size)
		for _, index := range []uint64{0, 1, size / 2, size - 1} {
			if index >= size {
				continue
			}
			proof, err := l.InclusionProof(t.Context(), index, size)
			if err != nil {
				t.Fatalf("InclusionProof(%d, %d): %v", index, size, err)
			}
			checkInclusion(t, proof, all[index], index, size, root)
		}
		for _, from := range sizes[:i+1] {
			proof, err := l.ConsistencyProof(t.Context(), from, size)
			if err != nil {
				t.Fatalf("ConsistencyProof(%d, %d): %v", from, size, err)
			}
			if err := tlog.CheckTree(hashes(t, proof), int64(size), tlog.Hash(root), int64(from), tlog.Hash(want.root(from))); err != nil {
				t.Errorf("consistency from %d to %d: %v", from, size, err)
			}
		}
	}
}

func testBadArguments(t *testing.T, l accesslog.Log) {
	mustAppend(t, l, entriesFrom(0, 10))
	AwaitSize(t, l, 10)
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"entries beyond the checkpoint":       func() error { _, err := l.Entries(ctx, 5, 11); return err },
		"entries of an empty range":           func() error { _, err := l.Entries(ctx, 5, 5); return err },
		"entries of a range turned round":     func() error { _, err := l.Entries(ctx, 6, 5); return err },
		"inclusion of the size itself":        func() error { _, err := l.InclusionProof(ctx, 10, 10); return err },
		"inclusion in a size not reached":     func() error { _, err := l.InclusionProof(ctx, 1, 11); return err },
		"inclusion in nothing":                func() error { _, err := l.InclusionProof(ctx, 0, 0); return err },
		"inclusion in the largest size":       func() error { _, err := l.InclusionProof(ctx, 1, 1<<64-1); return err },
		"consistency from nothing":            func() error { _, err := l.ConsistencyProof(ctx, 0, 5); return err },
		"consistency from nothing to nothing": func() error { _, err := l.ConsistencyProof(ctx, 0, 0); return err },
		"consistency backwards":               func() error { _, err := l.ConsistencyProof(ctx, 6, 5); return err },
		"consistency to a size not reached":   func() error { _, err := l.ConsistencyProof(ctx, 5, 11); return err },
	} {
		if err := call(); domain.KindOf(err) != domain.Invalid {
			t.Errorf("%s = %v, want an error of kind invalid", name, err)
		}
	}
}

func testConcurrent(t *testing.T, l accesslog.Log) {
	const writers, appends = 16, 12
	var mu sync.Mutex
	stored := map[uint64][]byte{}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for a := range appends {
				var entries [][]byte
				for i := range 1 + (w*7+a*13)%40 {
					entries = append(entries, fmt.Appendf(nil, "writer %d append %d entry %d", w, a, i))
				}
				receipts, err := l.Append(t.Context(), entries)
				if err != nil {
					t.Errorf("Append: %v", err)
					return
				}
				checkReceipts(t, receipts, entries)
				mu.Lock()
				for i, r := range receipts {
					if other, ok := stored[r.Index]; ok {
						t.Errorf("index %d was given to %q and %q", r.Index, other, entries[i])
					}
					stored[r.Index] = entries[i]
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	AwaitSize(t, l, uint64(len(stored)))
	all := Check(t, l)
	if len(all) != len(stored) {
		t.Fatalf("the log has %d entries and %d were acknowledged", len(all), len(stored))
	}
	for i, e := range all {
		if !bytes.Equal(stored[uint64(i)], e) {
			t.Errorf("entry %d is %q, its receipt was for %q", i, e, stored[uint64(i)])
		}
	}
}

func testCancelled(t *testing.T, l accesslog.Log) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Append(ctx, entriesFrom(0, 2)); !errors.Is(err, context.Canceled) {
		t.Errorf("Append with an ended context = %v", err)
	}
	receipts := mustAppend(t, l, entriesFrom(2, 2)) // the log goes on
	AwaitSize(t, l, receipts[1].Index+1)
	Check(t, l)
}

func testBytes(t *testing.T, l accesslog.Log) {
	entries := entriesFrom(0, 3)
	given := [][]byte{slices.Clone(entries[0]), slices.Clone(entries[1]), slices.Clone(entries[2])}
	mustAppend(t, l, given)
	for _, e := range given {
		clear(e)
	}
	AwaitSize(t, l, 3)
	got := ReadAll(t, l)
	if diff := cmp.Diff(entries, got); diff != "" {
		t.Errorf("entries changed with the caller's bytes:\n%s", diff)
	}
	clear(got[0])
	if diff := cmp.Diff(entries, ReadAll(t, l)); diff != "" {
		t.Errorf("entries changed with the bytes of an answer:\n%s", diff)
	}
}

func testSign(t *testing.T, l accesslog.Log) {
	mustAppend(t, l, entriesFrom(0, 1))
	cp := AwaitSize(t, l, 1)
	text := "zhenglian/receipt/1\n" + l.Origin() + "\n17\n"
	signed, err := l.Sign(text)
	if err != nil {
		t.Fatalf("Sign: %v", err)
	}
	verifier, err := note.NewVerifier(l.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := note.Open(signed, note.VerifierList(verifier)); err != nil || opened.Text != text {
		t.Errorf("the signed note = %v, %v, want the text", opened, err)
	}
	if _, err := l.Sign("no final newline"); err == nil {
		t.Error("Sign of a text without final newline succeeded")
	}
	own, _, _ := strings.Cut(string(cp.Note), "\n\n")
	for name, text := range map[string]string{
		"a checkpoint":                    own + "\n",
		"a checkpoint of another size":    l.Origin() + "\n1000\n" + tlog.Hash{1}.String() + "\n",
		"a checkpoint with an extra line": own + "\nextension\n",
	} {
		if _, err := l.Sign(text); domain.KindOf(err) != domain.Invalid {
			t.Errorf("Sign of %s = %v, want invalid: only the log itself may sign that", name, err)
		}
	}
}

func testClose(t *testing.T, l accesslog.Log) {
	entries := entriesFrom(0, 5)
	mustAppend(t, l, entries)
	for range 2 {
		if err := l.Close(t.Context()); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, err := l.Append(t.Context(), entries); err == nil {
		t.Error("Append to a closed log succeeded")
	}
}
