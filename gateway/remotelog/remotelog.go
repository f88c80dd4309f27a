// Package remotelog is the gateway's port to another department's access log, as
// C2SP tlog-tiles serves it. What it answers is unverified: the reader holds it
// against a checkpoint and the ledger's anchors.
package remotelog

import (
	"context"
	"fmt"
	"time"
)

// Log is the access log of another department. All methods are safe for
// concurrent use. Their errors are
//
//   - a [*domain.Error] of kind not_found: the log says that it does not have it;
//   - a [*FormError]: what came is not what C2SP tlog-tiles describes;
//   - an [*UnreachableError]: nothing of use came, and another time may help;
//   - ctx's error.
//
// [*domain.Error]: github.com/zhenglian/zhenglian/domain.Error
type Log interface {
	// Checkpoint answers the latest signed note, at most [MaxCheckpoint] bytes.
	Checkpoint(ctx context.Context) ([]byte, error)
	// Tile answers the first width hashes, 32 bytes each, of tile index of level;
	// width 0 means all 256. A tile that is there in a greater width only will do.
	Tile(ctx context.Context, level, index uint64, width uint8) ([]byte, error)
	// EntryBundle answers the first width entries of bundle index, each after its
	// length in two bytes, high byte first; width 0 means all 256. A bundle that is
	// there in a greater width only will do.
	EntryBundle(ctx context.Context, index uint64, width uint8) ([]byte, error)
}

// MaxCheckpoint bounds a checkpoint in bytes.
const MaxCheckpoint = 4096

// FormError says that a log answered something else than it must.
type FormError struct {
	What    string // for example "tile/0/x001/234"
	Problem string
}

func (e *FormError) Error() string { return fmt.Sprintf("%s: %s", e.What, e.Problem) }

// UnreachableError says that a log did not answer, or not to the question.
type UnreachableError struct {
	Err        error
	Status     int           // HTTP status of the answer; 0: none came
	RetryAfter time.Duration // that the log asked for; 0: it did not
}

func (e *UnreachableError) Error() string { return fmt.Sprintf("the log is not reachable: %v", e.Err) }

// Unwrap answers the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }
