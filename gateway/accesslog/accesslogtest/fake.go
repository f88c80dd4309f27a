// Package accesslogtest holds an access log in memory for tests, and says in
// tests what an [accesslog.Log] must do.
package accesslogtest

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/accesslog"
)

// Origin is the origin of the logs that [New] makes.
const Origin = "zhenglian.example/log/police"

// Log is an access log in memory. Its checkpoint follows every append at once,
// unless [Log.Hold] holds it. It is safe for concurrent use.
type Log struct {
	// Fault, when set, is asked before every append of n entries and says
	// whether they are stored and what the caller is told: stored and an error
	// means that the answer was lost; an [*accesslog.BusyError] goes with nothing
	// stored. Set it before the log is used.
	Fault func(n int) (apply bool, err error)

	signer      note.Signer
	verifierKey string

	mu      sync.Mutex
	entries [][]byte
	hashes  []tlog.Hash // as tlog.StoredHashes orders them
	held    bool
	size    int64 // of the published checkpoint
	closed  bool
}

var (
	_ accesslog.Log   = (*Log)(nil)
	_ accesslog.Tiles = (*Log)(nil)
)

// New returns an empty log under [Origin] with a new key.
func New() *Log { return NewNamed(Origin) }

// NewNamed returns an empty log with a new key. It panics when origin is no
// name for a key.
func NewNamed(origin string) *Log {
	key, verifierKey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		panic(err)
	}
	signer, err := note.NewSigner(key)
	if err != nil {
		panic(err)
	}
	return &Log{signer: signer, verifierKey: verifierKey}
}

// Hold keeps the checkpoint where it is while hold is true.
func (l *Log) Hold(hold bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = hold
	l.publish()
}

func (l *Log) publish() {
	if !l.held {
		l.size = int64(len(l.entries))
	}
}

// Append implements [accesslog.Log].
func (l *Log) Append(ctx context.Context, entries [][]byte) ([]accesslog.Receipt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errors.New("the access log is closed")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for i, e := range entries {
		if len(e) == 0 || len(e) >= 1<<16 {
			return nil, invalid("entry %d has %d bytes", i, len(e))
		}
	}
	apply, fault := true, error(nil)
	if l.Fault != nil && len(entries) > 0 {
		apply, fault = l.Fault(len(entries))
	}
	if !apply {
		if fault == nil {
			fault = errors.New("the append was dropped")
		}
		return nil, fault
	}
	var receipts []accesslog.Receipt
	for _, e := range entries {
		index := int64(len(l.entries))
		stored, err := tlog.StoredHashes(index, e, reader(l.hashes))
		if err != nil {
			return nil, err
		}
		l.hashes = append(l.hashes, stored...)
		l.entries = append(l.entries, slices.Clone(e))
		leaf := tlog.RecordHash(e)
		receipts = append(receipts, accesslog.Receipt{Index: uint64(index), LeafHash: leaf[:]})
	}
	l.publish()
	if fault != nil {
		return nil, fault
	}
	return receipts, nil
}

// reader reads the hashes of a tree.
func reader(hashes []tlog.Hash) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			if index < 0 || index >= int64(len(hashes)) {
				return nil, fmt.Errorf("there is no stored hash %d", index)
			}
			out[i] = hashes[index]
		}
		return out, nil
	})
}

// Checkpoint implements [accesslog.Log].
func (l *Log) Checkpoint(ctx context.Context) (accesslog.Checkpoint, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return accesslog.Checkpoint{}, err
	}
	root, err := tlog.TreeHash(l.size, reader(l.hashes))
	if err != nil {
		return accesslog.Checkpoint{}, err
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", l.Origin(), l.size, root)
	signed, err := note.Sign(&note.Note{Text: text}, l.signer)
	if err != nil {
		return accesslog.Checkpoint{}, err
	}
	return accesslog.Checkpoint{Origin: l.Origin(), Size: uint64(l.size), Root: root[:], Note: signed}, nil
}

// Entries implements [accesslog.Log]. It answers at most 256 at once, so that
// callers have to ask again.
func (l *Log) Entries(ctx context.Context, from, to uint64) ([][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if from >= to || to > uint64(l.size) {
		return nil, invalid("there are no entries %d to %d at size %d", from, to, l.size)
	}
	var out [][]byte
	for _, e := range l.entries[from:min(to, from+256)] {
		out = append(out, slices.Clone(e))
	}
	return out, nil
}

// InclusionProof implements [accesslog.Log].
func (l *Log) InclusionProof(ctx context.Context, index, size uint64) ([][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if index >= size || size > uint64(l.size) {
		return nil, invalid("there is no inclusion proof of %d in %d at size %d", index, size, l.size)
	}
	proof, err := tlog.ProveRecord(int64(size), int64(index), reader(l.hashes))
	if err != nil {
		return nil, err
	}
	return bytesOf(proof), nil
}

// ConsistencyProof implements [accesslog.Log].
func (l *Log) ConsistencyProof(ctx context.Context, from, to uint64) ([][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if from == 0 || from > to || to > uint64(l.size) {
		return nil, invalid("there is no consistency proof from %d to %d at size %d", from, to, l.size)
	}
	proof, err := tlog.ProveTree(int64(to), int64(from), reader(l.hashes))
	if err != nil {
		return nil, err
	}
	return bytesOf(proof), nil
}

// Tile implements [accesslog.Tiles].
func (l *Log) Tile(ctx context.Context, level, index uint64, width uint8) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.covered(ctx, level, index, width)
	if err != nil {
		return nil, err
	}
	return tlog.ReadTileData(tlog.Tile{H: tileHeight, L: int(level), N: int64(index), W: n}, reader(l.hashes))
}

// EntryBundle implements [accesslog.Tiles].
func (l *Log) EntryBundle(ctx context.Context, index uint64, width uint8) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.covered(ctx, 0, index, width)
	if err != nil {
		return nil, err
	}
	var bundle []byte
	for _, e := range l.entries[index<<tileHeight:][:n] {
		bundle = append(binary.BigEndian.AppendUint16(bundle, uint16(len(e))), e...)
	}
	return bundle, nil
}

const tileHeight = 8

// covered answers the number of hashes that a tile of width has, when the
// published tree has them.
func (l *Log) covered(ctx context.Context, level, index uint64, width uint8) (int, error) {
	n := int(width)
	if n == 0 {
		n = 1 << tileHeight
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if last := uint64(l.size) >> min(level*tileHeight, 63); level >= 8 || index >= 1<<32 || index<<tileHeight+uint64(n) > last {
		return 0, &domain.Error{Kind: domain.NotFound, Msg: fmt.Sprintf("tile %d of level %d with width %d is not in the tree of size %d", index, level, n, l.size)}
	}
	return n, nil
}

func bytesOf(hashes []tlog.Hash) [][]byte {
	out := make([][]byte, len(hashes))
	for i, h := range hashes {
		out[i] = h[:]
	}
	return out
}

// Sign implements [accesslog.Log].
func (l *Log) Sign(text string) ([]byte, error) {
	if lines := strings.Split(text, "\n"); len(lines) > 3 && lines[0] == l.Origin() {
		if _, err := tlog.ParseHash(lines[2]); err == nil {
			return nil, invalid("the text reads as a checkpoint of the log")
		}
	}
	return note.Sign(&note.Note{Text: text}, l.signer)
}

// Origin implements [accesslog.Log].
func (l *Log) Origin() string { return l.signer.Name() }

// VerifierKey implements [accesslog.Log].
func (l *Log) VerifierKey() string { return l.verifierKey }

// Close implements [accesslog.Log].
func (l *Log) Close(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return nil
}

func invalid(format string, args ...any) error {
	return &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf(format, args...)}
}
