package tilelog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/mod/sumdb/tlog"
)

// cachedTiles is how many verified tiles are kept, 8 KiB each: all above the
// lowest level of a log of 60 million records, and the right edge.
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
	tree := tlog.Tree{N: int64(size), Hash: tlog.Hash(root)}
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		tiles := &tileReader{ctx: ctx, log: l}
		hashes, err := tlog.TileHashReader(tree, tiles).ReadHashes(indexes)
		if err != nil && tiles.complete {
			err = tiles.damage(tree)
		}
		return hashes, err
	})
}

// tileReader reads tiles for one question to the tree: a [tlog.TileReader].
type tileReader struct {
	ctx context.Context //nolint:containedctx // tlog's interface has no other way
	log *Log

	tiles    []tlog.Tile
	data     [][]byte
	complete bool // all were there; what fails then are the hashes
}

func (r *tileReader) Height() int { return layout.TileHeight }

// ReadTiles reads tiles in the width that the tree has them. When the tree has
// grown since, the narrow tile may be gone; a wider one begins with it.
func (r *tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	r.tiles = tiles
	for _, t := range tiles {
		if data, ok := r.log.tiles.Get(t); ok {
			r.data = append(r.data, data)
			continue
		}
		data, err := r.log.reader.ReadTile(r.ctx, uint64(t.L), uint64(t.N), uint8(t.W%layout.TileWidth))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &DamageError{Files: []string{tilePath(t)}, Problem: "the tile is missing"}
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", tilePath(t), err)
		}
		if len(data) < t.W*tlog.HashSize {
			return nil, &DamageError{Files: []string{tilePath(t)}, Problem: fmt.Sprintf("the tile has %d bytes, want %d", len(data), t.W*tlog.HashSize)}
		}
		r.data = append(r.data, data[:t.W*tlog.HashSize])
	}
	r.complete = true
	return r.data, nil
}

// SaveTiles keeps verified tiles, but for the full ones of the lowest level: they
// are many, and seldom asked for twice.
func (r *tileReader) SaveTiles(tiles []tlog.Tile, data [][]byte) {
	for i, t := range tiles {
		if t.L > 0 || t.W < layout.TileWidth {
			r.log.tiles.Add(t, data[i])
		}
	}
}

// damage names the tile that does not have the hash which the tile above it
// holds, or else those along the right edge.
func (r *tileReader) damage(tree tlog.Tree) *DamageError {
	at := map[tlog.Tile][]byte{}
	for i, t := range r.tiles {
		at[tlog.Tile{H: t.H, L: t.L, N: t.N}] = r.data[i]
	}
	var edge []string
	for i, t := range r.tiles {
		above, ok := at[tlog.Tile{H: t.H, L: t.L + 1, N: t.N / layout.TileWidth}]
		if !ok || t.W < layout.TileWidth {
			edge = append(edge, tilePath(t))
			continue
		}
		at := t.N % layout.TileWidth * tlog.HashSize
		want := above[at : at+tlog.HashSize]
		if got, err := fullTileHash(t, r.data[i]); err != nil || !bytes.Equal(got[:], want) {
			return &DamageError{Files: []string{tilePath(t)}, Problem: "the tile does not have the hash that the tile above it holds"}
		}
	}
	return &DamageError{Files: edge, Problem: fmt.Sprintf("the tiles do not have the root of the tree of %d records", tree.N)}
}

// fullTileHash computes the root of a full tile from its two halves, which are
// the largest trees that [tlog.HashFromTile] takes.
func fullTileHash(t tlog.Tile, data []byte) (tlog.Hash, error) {
	half := t.L*t.H + t.H - 1 // level
	left, err := tlog.HashFromTile(t, data, tlog.StoredHashIndex(half, 2*t.N))
	if err != nil {
		return left, err
	}
	right, err := tlog.HashFromTile(t, data, tlog.StoredHashIndex(half, 2*t.N+1))
	return tlog.NodeHash(left, right), err
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
