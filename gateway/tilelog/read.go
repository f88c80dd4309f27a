package tilelog

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/accesslog"
)

// published answers the checkpoint and refuses what lies beyond it: nobody could
// check it yet.
func (l *Log) published(ctx context.Context, what string, size uint64) (accesslog.Checkpoint, error) {
	cp, err := l.Checkpoint(ctx)
	if err == nil && size > cp.Size {
		err = &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf("%s %d is beyond the checkpoint of size %d", what, size, cp.Size)}
	}
	return cp, err
}

// Entries implements [accesslog.Log]. It answers the entries of one bundle, up
// to 256, checked against the tree: a changed entry is a [*DamageError].
func (l *Log) Entries(ctx context.Context, from, to uint64) ([][]byte, error) {
	if from >= to {
		return nil, &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf("the range from %d to %d is empty", from, to)}
	}
	cp, err := l.published(ctx, "the range's end", to)
	if err != nil {
		return nil, err
	}
	end := min(to, (from/layout.EntryBundleWidth+1)*layout.EntryBundleWidth)
	entries, err := l.entries(ctx, l.hashes(ctx, cp.Size, cp.Root), cp.Size, from, end)
	if err != nil {
		return nil, fmt.Errorf("read entries of %s: %w", l.origin, err)
	}
	return entries, nil
}

// InclusionProof implements [accesslog.Log]. The proof is made of hashes that
// were checked against the checkpoint.
func (l *Log) InclusionProof(ctx context.Context, index, size uint64) ([][]byte, error) {
	if index >= size {
		return nil, &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf("index %d is not in a tree of size %d", index, size)}
	}
	cp, err := l.published(ctx, "size", size)
	if err != nil {
		return nil, err
	}
	proof, err := tlog.ProveRecord(int64(size), int64(index), l.hashes(ctx, cp.Size, cp.Root))
	if err != nil {
		return nil, fmt.Errorf("prove entry %d of %s: %w", index, l.origin, err)
	}
	return bytesOf(proof), nil
}

// ConsistencyProof implements [accesslog.Log]. Between equal sizes the proof is
// empty. Its hashes were checked against the checkpoint.
func (l *Log) ConsistencyProof(ctx context.Context, from, to uint64) ([][]byte, error) {
	if from == 0 || from > to {
		return nil, &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf("there is no consistency proof from size %d to %d", from, to)}
	}
	cp, err := l.published(ctx, "size", to)
	if err != nil {
		return nil, err
	}
	proof, err := tlog.ProveTree(int64(to), int64(from), l.hashes(ctx, cp.Size, cp.Root))
	if err != nil {
		return nil, fmt.Errorf("prove consistency of %s from %d to %d: %w", l.origin, from, to, err)
	}
	return bytesOf(proof), nil
}

func bytesOf(hashes []tlog.Hash) [][]byte {
	out := make([][]byte, len(hashes))
	for i, h := range hashes {
		out[i] = h[:]
	}
	return out
}

// covered answers the checkpoint, and how many hashes of tile index of level the
// width asks for, when the checkpoint covers them.
func (l *Log) covered(ctx context.Context, what string, level, index uint64, width uint8) (accesslog.Checkpoint, uint64, error) {
	cp, err := l.Checkpoint(ctx)
	if err != nil {
		return cp, 0, err
	}
	n := uint64(width)
	if width == 0 {
		n = layout.TileWidth
	}
	nodes := uint64(0) // of that level in the tree
	if level < 64/layout.TileHeight {
		nodes = cp.Size >> (level * layout.TileHeight)
	}
	if nodes < n || index > (nodes-n)/layout.TileWidth {
		return cp, 0, &domain.Error{Kind: domain.NotFound, Msg: fmt.Sprintf("%s of width %d is not in the tree of size %d", what, n, cp.Size)}
	}
	return cp, n, nil
}

// Tile implements [accesslog.Tiles]. It reads the tile's file each time: those who
// ask again and again want to know what the disk holds, not what it once held.
func (l *Log) Tile(ctx context.Context, level, index uint64, width uint8) ([]byte, error) {
	cp, n, err := l.covered(ctx, fmt.Sprintf("tile %d of level %d", index, level), level, index, width)
	if err != nil {
		return nil, err
	}
	indexes := make([]int64, n)
	for i := range indexes {
		indexes[i] = tlog.StoredHashIndex(int(level*layout.TileHeight), int64(index*layout.TileWidth)+int64(i))
	}
	asked := func(t tlog.Tile) bool { return uint64(t.L) == level && uint64(t.N) == index }
	hashes, err := l.hashesAnew(ctx, cp.Size, cp.Root, asked).ReadHashes(indexes)
	if err != nil {
		return nil, fmt.Errorf("read tile of %s: %w", l.origin, err)
	}
	tile := make([]byte, 0, n*tlog.HashSize)
	for _, h := range hashes {
		tile = append(tile, h[:]...)
	}
	return tile, nil
}

// EntryBundle implements [accesslog.Tiles].
func (l *Log) EntryBundle(ctx context.Context, index uint64, width uint8) ([]byte, error) {
	cp, n, err := l.covered(ctx, fmt.Sprintf("entry bundle %d", index), 0, index, width)
	if err != nil {
		return nil, err
	}
	start := index * layout.EntryBundleWidth
	entries, err := l.entries(ctx, l.hashes(ctx, cp.Size, cp.Root), cp.Size, start, start+n)
	if err != nil {
		return nil, fmt.Errorf("read entry bundle of %s: %w", l.origin, err)
	}
	var bundle []byte
	for _, e := range entries {
		bundle = binary.BigEndian.AppendUint16(bundle, uint16(len(e)))
		bundle = append(bundle, e...)
	}
	return bundle, nil
}
