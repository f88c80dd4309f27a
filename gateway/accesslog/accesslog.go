// Package accesslog is the gateway's port to its department's access log: an
// append-only Merkle log (RFC 6962 hashing, C2SP checkpoints) of access records.
package accesslog

import (
	"context"
	"fmt"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

// Receipt says where a durable entry lies.
type Receipt struct {
	Index    uint64
	LeafHash []byte // RFC 6962: SHA-256(0x00 ‖ entry)
}

// Checkpoint is a signed tree head.
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   []byte // 32 bytes
	Note   []byte // the signed note, C2SP tlog-checkpoint
}

// Log is one department's access log. All methods are safe for concurrent use.
type Log interface {
	// Append stores entries (each the canonical form of an access record, less
	// than 64 KiB) and returns when all are durable, with a receipt for each. They
	// lie in the log in the order given, as a rule; the receipts say where. If it
	// fails some may be stored; none was promised. When too many entries wait
	// already it answers a [*BusyError] at once and stores nothing.
	Append(ctx context.Context, entries [][]byte) ([]Receipt, error)
	// Checkpoint answers the latest published checkpoint. A log without entries
	// answers one of size 0.
	Checkpoint(ctx context.Context) (Checkpoint, error)
	// Entries answers the integrated entries with from ≤ index < to, or the
	// first part of them (at least one); to must not exceed the checkpoint's size.
	Entries(ctx context.Context, from, to uint64) ([][]byte, error)
	// InclusionProof answers the RFC 6962 path of index in the tree of size.
	InclusionProof(ctx context.Context, index, size uint64) ([][]byte, error)
	// ConsistencyProof answers the RFC 6962 proof from size from > 0 to size to.
	ConsistencyProof(ctx context.Context, from, to uint64) ([][]byte, error)
	// Sign signs text (lines, the last ended by a newline) as a note with the
	// log's key: receipts are such notes.
	Sign(text string) ([]byte, error)
	// Origin is the log's C2SP origin; VerifierKey the note verifier key text.
	Origin() string
	VerifierKey() string
	Close(ctx context.Context) error
}

// Tiles is a log as C2SP tlog-tiles serves it to others. It answers only what the
// published checkpoint covers; anything else is an error of kind not_found. All
// methods are safe for concurrent use.
type Tiles interface {
	// Checkpoint is that of [Log].
	Checkpoint(ctx context.Context) (Checkpoint, error)
	// Tile answers the first width hashes, 32 bytes each, of tile index of level;
	// width 0 means all 256.
	Tile(ctx context.Context, level, index uint64, width uint8) ([]byte, error)
	// EntryBundle answers the first width entries of bundle index, each after its
	// length in two bytes, high byte first; width 0 means all 256. They are the
	// access records themselves: not for everybody.
	EntryBundle(ctx context.Context, index uint64, width uint8) ([]byte, error)
}

// BusyError says that the log has as many entries waiting as it may. Nothing of
// the append was stored.
type BusyError struct {
	// RetryAfter is about how long the waiting entries take to be written.
	RetryAfter time.Duration
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("the access log has too many records waiting; try again in %s", e.RetryAfter)
}

// Anchored is the last anchor of the log that the ledger accepted.
type Anchored struct {
	Size uint64
	Root []byte
	domain.Position
}
