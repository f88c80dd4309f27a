package proof

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/zhenglian/zhenglian/domain"
)

// maxTreeSize is the largest log that this package accepts: every JSON reader
// keeps integers up to it exact. A bound is needed besides, because tlog does
// not return for sizes above 1<<62, and chaincode calls it with what a caller
// sends.
const maxTreeSize = 1<<53 - 1

// maxProofHashes bounds a Merkle proof before anything is computed. A proof for
// a log of maxTreeSize has fewer.
const maxProofHashes = 128

// maxNoteBytes bounds a checkpoint before it is parsed.
const maxNoteBytes = 4096

// emptyRoot is the root of a log without records, RFC 6962 section 2.1.
var emptyRoot = sha256.Sum256(nil)

// Checkpoint is the head of an access log: its origin, the number of its
// records and the Merkle root over them (C2SP tlog-checkpoint).
type Checkpoint struct {
	Origin string
	Size   uint64   // records
	Root   [32]byte // RFC 6962 tree head, SHA-256
}

// OpenCheckpoint checks a signed checkpoint against the origin and the verifier
// key (golang.org/x/mod/sumdb/note text, Ed25519) of the log it must come from.
// It is stricter than C2SP: three text lines, one signature line, made by that
// key under the origin's name, and no second spelling of any of them.
//
// Its error is a [domain.Error] of kind [domain.Invalid].
func OpenCheckpoint(unverifiedNote []byte, origin, verifierKey string) (Checkpoint, error) {
	verifier, err := parseVerifierKey(origin, verifierKey)
	if err != nil {
		return Checkpoint{}, err
	}
	if len(unverifiedNote) > maxNoteBytes {
		return Checkpoint{}, invalidf("checkpoint: %d bytes, at most %d are allowed", len(unverifiedNote), maxNoteBytes)
	}
	opened, err := note.Open(unverifiedNote, note.VerifierList(verifier))
	if err != nil {
		return Checkpoint{}, invalidf("checkpoint of %s: %v", origin, err)
	}
	if len(opened.Sigs) != 1 || len(opened.UnverifiedSigs) != 0 {
		return Checkpoint{}, invalidf("checkpoint of %s: exactly one signature, the log's own, is allowed", origin)
	}
	// Three lines, each ended by a newline.
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return Checkpoint{}, invalidf("checkpoint of %s: the text must be origin, size and root on a line each", origin)
	}
	if lines[0] != origin {
		return Checkpoint{}, invalidf("checkpoint names the log %q, not %q", lines[0], origin)
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil || size > maxTreeSize {
		return Checkpoint{}, invalidf("checkpoint of %s: size %q is not a number up to %d", origin, lines[1], maxTreeSize)
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != sha256.Size {
		return Checkpoint{}, invalidf("checkpoint of %s: the root is not 32 bytes of base64", origin)
	}
	checkpoint := Checkpoint{Origin: origin, Size: size, Root: [32]byte(root)}
	if size == 0 && checkpoint.Root != emptyRoot {
		return Checkpoint{}, invalidf("checkpoint of %s: wrong root for an empty log", origin)
	}
	// note.Open tolerates padding bits, newlines inside base64 and repeated
	// signature lines: only the spelling that a signer writes may pass.
	signature, err := base64.StdEncoding.DecodeString(opened.Sigs[0].Base64)
	if err != nil {
		return Checkpoint{}, invalidf("checkpoint of %s: signature: %v", origin, err)
	}
	canonical := checkpoint.text() + "\n— " + opened.Sigs[0].Name + " " + base64.StdEncoding.EncodeToString(signature) + "\n"
	if canonical != string(unverifiedNote) {
		return Checkpoint{}, invalidf("checkpoint of %s: not in its one canonical form", origin)
	}
	return checkpoint, nil
}

// text is what the log signs.
func (c Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

// parseVerifierKey reads the text of a note verifier key whose name is origin.
// It refuses a second spelling of the same key, such as upper-case digits in
// its key hash.
func parseVerifierKey(origin, key string) (note.Verifier, error) {
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return nil, invalidf("log key of %s: %v", origin, err)
	}
	if verifier.Name() != origin {
		return nil, invalidf("log key is named %q, not %q", verifier.Name(), origin)
	}
	// The name of a key holds no "+", so the last part is the public key.
	raw, err := base64.StdEncoding.DecodeString(key[len(origin)+len("+01234567+"):])
	if err != nil {
		return nil, invalidf("log key of %s: %v", origin, err)
	}
	canonical := fmt.Sprintf("%s+%08x+%s", origin, verifier.KeyHash(), base64.StdEncoding.EncodeToString(raw))
	if canonical != key {
		return nil, invalidf("log key of %s: not in its one canonical form", origin)
	}
	return verifier, nil
}

// LeafHash returns the RFC 6962 hash of a log record.
func LeafHash(data []byte) [32]byte {
	return tlog.RecordHash(data)
}

// VerifyInclusion checks that the record with the given leaf hash is at index
// of the log with this size and root. hashes go from the leaf's sibling to the
// root's child (RFC 6962 section 2.1.1). Requires 0 <= index < size.
//
// Its error is a [domain.Error] of kind [domain.Invalid].
func VerifyInclusion(leafHash [32]byte, index, size uint64, root [32]byte, hashes [][]byte) error {
	if size > maxTreeSize {
		return invalidf("inclusion proof: size %d is above %d", size, maxTreeSize)
	}
	if index >= size {
		return invalidf("inclusion proof: index %d is not below the size %d", index, size)
	}
	path, err := proofHashes(hashes)
	if err != nil {
		return fmt.Errorf("inclusion proof: %w", err)
	}
	if err := tlog.CheckRecord(path, int64(size), root, int64(index), leafHash); err != nil {
		return invalidf("inclusion proof: record %d is not shown to be in the log of size %d with this root", index, size)
	}
	return nil
}

// VerifyConsistency checks that the log with newSize records only added to the
// log with oldSize records (RFC 6962 section 2.1.2). Requires
// 0 < oldSize < newSize: a proof from size 0 would prove nothing, and equal
// sizes are a comparison of roots.
//
// Its error is a [domain.Error] of kind [domain.Invalid].
func VerifyConsistency(oldSize, newSize uint64, oldRoot, newRoot [32]byte, hashes [][]byte) error {
	if newSize > maxTreeSize {
		return invalidf("consistency proof: size %d is above %d", newSize, maxTreeSize)
	}
	if oldSize == 0 || oldSize >= newSize {
		return invalidf("consistency proof: sizes %d and %d are not 0 < old < new", oldSize, newSize)
	}
	path, err := proofHashes(hashes)
	if err != nil {
		return fmt.Errorf("consistency proof: %w", err)
	}
	if err := tlog.CheckTree(path, int64(newSize), newRoot, int64(oldSize), oldRoot); err != nil {
		return invalidf("consistency proof: the log of size %d is not shown to extend the one of size %d", newSize, oldSize)
	}
	return nil
}

// proofHashes takes over the hashes of a Merkle proof.
func proofHashes(hashes [][]byte) ([]tlog.Hash, error) {
	if len(hashes) > maxProofHashes {
		return nil, invalidf("%d hashes, at most %d are allowed", len(hashes), maxProofHashes)
	}
	out := make([]tlog.Hash, len(hashes))
	for i, hash := range hashes {
		if len(hash) != tlog.HashSize {
			return nil, invalidf("hash %d has %d bytes, not %d", i, len(hash), tlog.HashSize)
		}
		out[i] = tlog.Hash(hash)
	}
	return out, nil
}

// invalidf makes the error of this package.
func invalidf(format string, args ...any) error {
	return &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf(format, args...)}
}
