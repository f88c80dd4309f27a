package tilelog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/mod/sumdb/tlog"
)

// cachedTiles is how many verified tiles are kept, 16 KiB each with the hashes in
// between: all above the lowest level of a log of 60 million records.
const cachedTiles = 1024

// DamageError says that files of the log are not what was written.
type DamageError struct {
	Files   []string // in the log's folder; of several, one at least is wrong
	Problem string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("%s: %s; restore the folder from a backup", strings.Join(e.Files, " or "), e.Problem)
}

// hashes reads the hashes of the tree of size with root, from tiles that are
// checked against the root on the way. Its indexes are those of
// [tlog.StoredHashIndex]. Size must not be 0.
func (l *Log) hashes(ctx context.Context, size uint64, root []byte) tlog.HashReader {
	return l.hashesAnew(ctx, size, root, func(tlog.Tile) bool { return false })
}

// hashesAnew is [Log.hashes] that reads those tiles from the disk which anew names,
// however lately they were verified.
//
// It is what [tlog.TileHashReader] is, for one who asks again and again: that one
// computes all hashes anew each time, some 1,700 for a proof among ten million
// entries, and this one those of tiles that it does not know.
func (l *Log) hashesAnew(ctx context.Context, size uint64, root []byte, anew func(tlog.Tile) bool) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		r := &treeReader{ctx: ctx, log: l, anew: anew, size: size, root: tlog.Hash(root), read: make(map[tlog.Tile]*nodes)}
		if err := r.checkEdge(); err != nil {
			return nil, err
		}
		hashes := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			var err error
			if hashes[i], err = r.hash(x); err != nil {
				return nil, err
			}
		}
		return hashes, nil
	})
}

// nodes are the hashes of the subtrees within a tile that are full: by height, of
// the 256 hashes that the tile holds and so on up to the one over them all.
type nodes [layout.TileHeight + 1][]tlog.Hash

// expand computes the nodes of a tile.
func expand(data []byte) *nodes {
	var n nodes
	n[0] = make([]tlog.Hash, 0, len(data)/tlog.HashSize)
	for h := range slices.Chunk(data, tlog.HashSize) {
		n[0] = append(n[0], tlog.Hash(h))
	}
	for height := range layout.TileHeight {
		below := n[height]
		n[height+1] = make([]tlog.Hash, 0, len(below)/2)
		for i := 0; i+1 < len(below); i += 2 {
			n[height+1] = append(n[height+1], tlog.NodeHash(below[i], below[i+1]))
		}
	}
	return &n
}

// edge is the right edge of a tree: its tiles that are not full, which have no tile
// above them to be checked against. They have been checked against the root.
type edge struct {
	size  uint64
	root  tlog.Hash
	tiles map[tlog.Tile]*nodes
}

// treeReader answers one question to the tree.
type treeReader struct {
	ctx  context.Context //nolint:containedctx // tlog's interface has no other way
	log  *Log
	anew func(tlog.Tile) bool
	size uint64
	root tlog.Hash
	read map[tlog.Tile]*nodes // and checked
}

// tile is tile number n of a level, in the width that the tree has it.
func (r *treeReader) tile(level int, n uint64) tlog.Tile {
	width := min(r.size>>(level*layout.TileHeight)-n*layout.TileWidth, layout.TileWidth)
	return tlog.Tile{H: layout.TileHeight, L: level, N: int64(n), W: int(width)} //nolint:gosec // at most the size
}

// checkEdge checks that the tiles along the right edge give the root. Together with
// a full tile's hash in the tile above it, this is all that there is to be checked.
func (r *treeReader) checkEdge() error {
	var tiles []tlog.Tile // the highest first
	for level := 0; r.size>>(level*layout.TileHeight) > 0; level++ {
		if width := r.size >> (level * layout.TileHeight); width%layout.TileWidth > 0 {
			tiles = slices.Insert(tiles, 0, r.tile(level, width/layout.TileWidth))
		}
	}
	if known := r.log.edge.Load(); known != nil && known.size == r.size && known.root == r.root {
		maps.Copy(r.read, known.tiles)
	}
	var files []string
	for _, t := range tiles {
		if r.read[t] != nil && !r.anew(t) {
			continue
		}
		data, err := r.readFile(t)
		if err != nil {
			return err
		}
		r.read[t], files = expand(data), append(files, tilePath(t))
	}
	if len(files) == 0 {
		return nil
	}
	// The root is that of the full subtrees that make up the tree, the smallest last.
	var root tlog.Hash
	for height := range 64 {
		if r.size>>height&1 == 0 {
			continue
		}
		level, n := height/layout.TileHeight, r.size>>height-1
		within := height % layout.TileHeight
		t := r.tile(level, n>>(layout.TileHeight-within))
		h := r.read[t][within][n%(layout.TileWidth>>within)]
		if r.size&(1<<height-1) == 0 {
			root = h
		} else {
			root = tlog.NodeHash(h, root)
		}
	}
	if root != r.root {
		return &DamageError{Files: files, Problem: fmt.Sprintf("the tiles do not have the root of the tree of %d records", r.size)}
	}
	r.log.edge.Store(&edge{r.size, r.root, maps.Clone(r.read)})
	return nil
}

// hash answers the hash of [tlog.StoredHashIndex] x.
func (r *treeReader) hash(x int64) (tlog.Hash, error) {
	height, n := tlog.SplitStoredHashIndex(x)
	if x < 0 || uint64(n+1)<<height > r.size { //nolint:gosec // not negative
		return tlog.Hash{}, fmt.Errorf("hash %d of height %d is not in the tree of %d records", n, height, r.size)
	}
	level, within := height/layout.TileHeight, height%layout.TileHeight
	number := uint64(n) //nolint:gosec // not negative
	tile, err := r.nodes(r.tile(level, number>>(layout.TileHeight-within)))
	if err != nil {
		return tlog.Hash{}, err
	}
	return tile[within][number%(layout.TileWidth>>within)], nil
}

// nodes answers a tile that was checked against the one above it, up to the edge.
func (r *treeReader) nodes(t tlog.Tile) (*nodes, error) {
	if known := r.read[t]; known != nil { // as all of the edge
		return known, nil
	}
	above, err := r.nodes(r.tile(t.L+1, uint64(t.N)/layout.TileWidth)) //nolint:gosec // not negative
	if err != nil {
		return nil, err
	}
	n, known := r.log.tiles.Get(t)
	if !known || r.anew(t) {
		data, err := r.readFile(t)
		if err != nil {
			return nil, err
		}
		n, known = expand(data), false
	}
	if n[layout.TileHeight][0] != above[0][t.N%layout.TileWidth] {
		return nil, &DamageError{Files: []string{tilePath(t)}, Problem: "the tile does not have the hash that the tile above it holds"}
	}
	// The tiles of the lowest level are many, and seldom asked for twice.
	if !known && t.L > 0 {
		r.log.tiles.Add(t, n)
	}
	r.read[t] = n
	return n, nil
}

// readFile reads a tile. When the tree has grown since, the narrow one may be gone; a
// wider one begins with it.
func (r *treeReader) readFile(t tlog.Tile) ([]byte, error) {
	data, err := r.log.reader.ReadTile(r.ctx, uint64(t.L), uint64(t.N), uint8(t.W%layout.TileWidth)) //nolint:gosec // not negative
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &DamageError{Files: []string{tilePath(t)}, Problem: "the tile is missing"}
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", tilePath(t), err)
	}
	if len(data) < t.W*tlog.HashSize {
		return nil, &DamageError{Files: []string{tilePath(t)}, Problem: fmt.Sprintf("the tile has %d bytes, want %d", len(data), t.W*tlog.HashSize)}
	}
	return data[:t.W*tlog.HashSize], nil
}

func tilePath(t tlog.Tile) string {
	return layout.TilePath(uint64(t.L), uint64(t.N), uint8(t.W%layout.TileWidth))
}

// entries reads the entries with from ≤ index < to of the tree of size, which
// must lie in one bundle, and checks them against the tree.
func (l *Log) entries(ctx context.Context, hashes tlog.HashReader, size, from, to uint64) ([][]byte, error) {
	number := from / layout.EntryBundleWidth
	width := layout.PartialTileSize(0, number, size)
	path := layout.EntriesPath(number, width)
	raw, err := l.reader.ReadEntryBundle(ctx, number, width)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &DamageError{Files: []string{path}, Problem: "the bundle is missing"}
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	var bundle api.EntryBundle
	if err := bundle.UnmarshalText(raw); err != nil {
		return nil, &DamageError{Files: []string{path}, Problem: "the bundle cannot be read: " + err.Error()}
	}
	start := number * layout.EntryBundleWidth
	if uint64(len(bundle.Entries)) < to-start {
		return nil, &DamageError{Files: []string{path}, Problem: fmt.Sprintf("the bundle holds %d entries, want %d", len(bundle.Entries), to-start)}
	}
	entries := bundle.Entries[from-start : to-start]
	indexes := make([]int64, len(entries))
	for i := range indexes {
		indexes[i] = tlog.StoredHashIndex(0, int64(from)+int64(i))
	}
	want, err := hashes.ReadHashes(indexes)
	if err != nil {
		return nil, err
	}
	for i, e := range entries {
		if tlog.RecordHash(e) != want[i] {
			return nil, &DamageError{Files: []string{path}, Problem: fmt.Sprintf("entry %d does not have the hash that the tree holds", from+uint64(i))}
		}
	}
	return entries, nil
}
