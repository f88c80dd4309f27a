package proof_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"
	"golang.org/x/mod/sumdb/note"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
)

// counter is an endless deterministic stream, so that test keys never change.
type counter struct {
	seed string
	n    uint64
	rest []byte
}

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		if len(c.rest) == 0 {
			block := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(c.seed), c.n))
			c.n++
			c.rest = block[:]
		}
		p[i], c.rest = c.rest[0], c.rest[1:]
	}
	return len(p), nil
}

const testOrigin = "zhenglian.example/log/police"

// logKey returns a log's signer and the text of its verifier key.
func logKey(t testing.TB, seed, origin string) (note.Signer, string) {
	t.Helper()
	private, public, err := note.GenerateKey(&counter{seed: seed}, origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, public
}

// signNote signs text as a note.
func signNote(t testing.TB, text string, signers ...note.Signer) []byte {
	t.Helper()
	signed, err := note.Sign(&note.Note{Text: text}, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func checkpointText(origin string, size uint64, root []byte) string {
	return fmt.Sprintf("%s\n%d\n%s\n", origin, size, base64.StdEncoding.EncodeToString(root))
}

// wantInvalid checks that err is what this package promises.
func wantInvalid(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil {
		t.Fatalf("%s: accepted", what)
	}
	if got := domain.KindOf(err); got != domain.Invalid {
		t.Errorf("%s: kind %q, want %q: %v", what, got, domain.Invalid, err)
	}
}

func TestOpenCheckpoint(t *testing.T) {
	signer, key := logKey(t, "police", testOrigin)
	stranger, _ := logKey(t, "stranger", testOrigin)
	other, otherKey := logKey(t, "civil", "zhenglian.example/log/civil")
	root := sha256.Sum256([]byte("root"))
	text := checkpointText(testOrigin, 17, root[:])
	signed := signNote(t, text, signer)

	got, err := proof.OpenCheckpoint(signed, testOrigin, key)
	if err != nil {
		t.Fatal(err)
	}
	if want := (proof.Checkpoint{Origin: testOrigin, Size: 17, Root: root}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	empty := sha256.Sum256(nil)
	if _, err := proof.OpenCheckpoint(signNote(t, checkpointText(testOrigin, 0, empty[:]), signer), testOrigin, key); err != nil {
		t.Errorf("empty log: %v", err)
	}

	refused := map[string][]byte{
		"nothing":               nil,
		"unsigned":              []byte(text),
		"another log's key":     signNote(t, text, other),
		"same name, other key":  signNote(t, text, stranger),
		"second signature":      signNote(t, text, signer, other),
		"repeated signature":    []byte(string(signed) + string(signed[len(text)+1:])),
		"another origin":        signNote(t, checkpointText("zhenglian.example/log/civil", 17, root[:]), signer),
		"extension line":        signNote(t, text+"extension\n", signer),
		"missing root":          signNote(t, testOrigin+"\n17\n", signer),
		"leading zero":          signNote(t, strings.Replace(text, "\n17\n", "\n017\n", 1), signer),
		"signed size":           signNote(t, strings.Replace(text, "\n17\n", "\n+17\n", 1), signer),
		"size too large":        signNote(t, checkpointText(testOrigin, 1<<53, root[:]), signer),
		"size beyond 64 bits":   signNote(t, strings.Replace(text, "\n17\n", "\n18446744073709551616\n", 1), signer),
		"short root":            signNote(t, checkpointText(testOrigin, 17, root[:31]), signer),
		"long root":             signNote(t, checkpointText(testOrigin, 17, append(root[:], 0)), signer),
		"wrong root when empty": signNote(t, checkpointText(testOrigin, 0, root[:]), signer),
		"root padding bits":     signNote(t, testOrigin+"\n17\n"+paddingBits(base64.StdEncoding.EncodeToString(root[:]))+"\n", signer),
		"carriage return":       []byte(strings.ReplaceAll(string(signed), "\n", "\r\n")),
		"trailing newline":      append(append([]byte{}, signed...), '\n'),
		"too long":              signNote(t, text+strings.Repeat("x", 5000)+"\n", signer),
	}
	for name, bad := range refused {
		t.Run(name, func(t *testing.T) {
			_, err := proof.OpenCheckpoint(bad, testOrigin, key)
			wantInvalid(t, name, err)
		})
	}

	t.Run("every bit", func(t *testing.T) {
		for i := range signed {
			for bit := range 8 {
				bad := append([]byte{}, signed...)
				bad[i] ^= 1 << bit
				if _, err := proof.OpenCheckpoint(bad, testOrigin, key); err == nil {
					t.Errorf("accepted with bit %d of byte %d flipped", bit, i)
				}
			}
		}
	})
	t.Run("every truncation", func(t *testing.T) {
		for i := range signed {
			if _, err := proof.OpenCheckpoint(signed[:i], testOrigin, key); err == nil {
				t.Errorf("accepted when cut to %d bytes", i)
			}
		}
	})
	t.Run("keys", func(t *testing.T) {
		for name, bad := range map[string]string{
			"empty":            "",
			"another log's":    otherKey,
			"upper-case hash":  upperHash(key),
			"trailing newline": key + "\n",
			"no base64":        key[:len(key)-4] + "????",
		} {
			_, err := proof.OpenCheckpoint(signed, testOrigin, bad)
			wantInvalid(t, name, err)
		}
	})
}

// paddingBits sets the two unused bits of the last base64 digit before "=",
// which Go's decoder ignores.
func paddingBits(s string) string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	i := len(s) - 2
	return s[:i] + string(digits[strings.IndexByte(digits, s[i])|1]) + s[i+1:]
}

// upperHash writes the key hash of a verifier key in capitals.
func upperHash(key string) string {
	parts := strings.SplitN(key, "+", 3)
	return parts[0] + "+" + strings.ToUpper(parts[1]) + "+" + parts[2]
}

// referenceTree is a log kept by transparency-dev/merkle, an implementation
// independent of the one under test.
func referenceTree(size uint64) *testonly.Tree {
	tree := testonly.New(rfc6962.DefaultHasher)
	for i := range size {
		tree.AppendData(record(i))
	}
	return tree
}

func record(i uint64) []byte { return fmt.Appendf(nil, "record %d", i) }

// mutations returns wrong variants of a Merkle proof.
func mutations(hashes [][]byte) map[string][][]byte {
	out := map[string][][]byte{
		"added": append(append([][]byte{}, hashes...), make([]byte, 32)),
		"led":   append([][]byte{make([]byte, 32)}, hashes...),
	}
	for i := range hashes {
		flipped := append([][]byte{}, hashes...)
		flipped[i] = append([]byte{}, hashes[i]...)
		flipped[i][(i*7)%32] ^= 1 << (i % 8)
		out[fmt.Sprint("flipped ", i)] = flipped
		out[fmt.Sprint("dropped ", i)] = append(append([][]byte{}, hashes[:i]...), hashes[i+1:]...)
		short := append([][]byte{}, hashes...)
		short[i] = hashes[i][:31]
		out[fmt.Sprint("short ", i)] = short
		long := append([][]byte{}, hashes...)
		long[i] = append(append([]byte{}, hashes[i]...), 0)
		out[fmt.Sprint("long ", i)] = long
		if i > 0 {
			swapped := append([][]byte{}, hashes...)
			swapped[i], swapped[i-1] = swapped[i-1], swapped[i]
			out[fmt.Sprint("swapped ", i)] = swapped
		}
	}
	return out
}

const treeSizes = 64

func TestVerifyConsistency(t *testing.T) {
	tree := referenceTree(treeSizes)
	proofs, mutated := 0, 0
	for newSize := uint64(1); newSize <= treeSizes; newSize++ {
		newRoot := [32]byte(tree.HashAt(newSize))
		for oldSize := uint64(1); oldSize < newSize; oldSize++ {
			oldRoot := [32]byte(tree.HashAt(oldSize))
			hashes, err := tree.ConsistencyProof(oldSize, newSize)
			if err != nil {
				t.Fatal(err)
			}
			if err := proof.VerifyConsistency(oldSize, newSize, oldRoot, newRoot, hashes); err != nil {
				t.Errorf("%d to %d: %v", oldSize, newSize, err)
			}
			proofs++
			for name, bad := range mutations(hashes) {
				if err := proof.VerifyConsistency(oldSize, newSize, oldRoot, newRoot, bad); err == nil {
					t.Errorf("%d to %d: accepted when %s", oldSize, newSize, name)
				}
				mutated++
			}
			wrong := oldRoot
			wrong[31] ^= 1
			wantInvalid(t, "wrong old root", proof.VerifyConsistency(oldSize, newSize, wrong, newRoot, hashes))
			wrong = newRoot
			wrong[0] ^= 0x80
			wantInvalid(t, "wrong new root", proof.VerifyConsistency(oldSize, newSize, oldRoot, wrong, hashes))
			wantInvalid(t, "swapped roots", proof.VerifyConsistency(oldSize, newSize, newRoot, oldRoot, hashes))
		}
		wantInvalid(t, "from size 0", proof.VerifyConsistency(0, newSize, sha256.Sum256(nil), newRoot, nil))
		wantInvalid(t, "equal sizes", proof.VerifyConsistency(newSize, newSize, newRoot, newRoot, nil))
		wantInvalid(t, "shrunk", proof.VerifyConsistency(newSize+1, newSize, newRoot, newRoot, nil))
	}
	wantInvalid(t, "0 to 0", proof.VerifyConsistency(0, 0, sha256.Sum256(nil), sha256.Sum256(nil), nil))
	if proofs != treeSizes*(treeSizes-1)/2 {
		t.Errorf("checked %d proofs", proofs)
	}
	t.Logf("%d proofs accepted, %d mutated ones refused", proofs, mutated)
}

func TestVerifyInclusion(t *testing.T) {
	tree := referenceTree(treeSizes)
	proofs, mutated := 0, 0
	for size := uint64(1); size <= treeSizes; size++ {
		root := [32]byte(tree.HashAt(size))
		for index := range size {
			leaf := proof.LeafHash(record(index))
			if want := [32]byte(tree.LeafHash(index)); leaf != want {
				t.Fatalf("leaf %d: hash %x, want %x", index, leaf, want)
			}
			hashes, err := tree.InclusionProof(index, size)
			if err != nil {
				t.Fatal(err)
			}
			if err := proof.VerifyInclusion(leaf, index, size, root, hashes); err != nil {
				t.Errorf("%d in %d: %v", index, size, err)
			}
			proofs++
			for name, bad := range mutations(hashes) {
				if err := proof.VerifyInclusion(leaf, index, size, root, bad); err == nil {
					t.Errorf("%d in %d: accepted when %s", index, size, name)
				}
				mutated++
			}
			wantInvalid(t, "another record", proof.VerifyInclusion(proof.LeafHash([]byte("x")), index, size, root, hashes))
			if size > 1 {
				wantInvalid(t, "another index", proof.VerifyInclusion(leaf, (index+1)%size, size, root, hashes))
			}
		}
		wantInvalid(t, "index = size", proof.VerifyInclusion(proof.LeafHash(record(0)), size, size, root, nil))
	}
	wantInvalid(t, "empty log", proof.VerifyInclusion(proof.LeafHash(record(0)), 0, 0, sha256.Sum256(nil), nil))
	if proofs != treeSizes*(treeSizes+1)/2 {
		t.Errorf("checked %d proofs", proofs)
	}
	t.Logf("%d proofs accepted, %d mutated ones refused", proofs, mutated)
}

// TestHugeSizes guards against sizes for which tlog never returns.
func TestHugeSizes(t *testing.T) {
	var root [32]byte
	for _, size := range []uint64{1 << 53, 1<<62 + 1, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64} {
		wantInvalid(t, fmt.Sprint("consistency to ", size), proof.VerifyConsistency(1, size, root, root, [][]byte{root[:]}))
		wantInvalid(t, fmt.Sprint("inclusion in ", size), proof.VerifyInclusion(root, 0, size, root, [][]byte{root[:]}))
	}
	wantInvalid(t, "largest", proof.VerifyConsistency(1<<52, 1<<53-1, root, root, nil))
	wantInvalid(t, "too many hashes", proof.VerifyInclusion(root, 0, 1<<53-1, root, make([][]byte, 129)))
}
