package evidence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/remotelog"
	"github.com/zhenglian/zhenglian/proof"
)

const (
	// cachedTiles is how many verified tiles of a tree are kept, 8 KiB each: all
	// above the lowest level of a log of 30 million records, and the right edge.
	cachedTiles = 512

	// fetches is how many parts of one log are asked for at one time.
	fetches = 4
)

// Fault is something wrong with what a log shows.
type Fault struct {
	Kind domain.AlarmKind
	// Subject is what is wrong, the same for whoever sees it: the path of a tile or
	// bundle in its full width, "entry/" with an index, or [EdgeSubject].
	Subject string
	Place   uint64 // index of the first entry concerned
	Text    string
}

// EdgeSubject is the subject of a tree of which the tiles along the right edge do
// not give the root.
func EdgeSubject(size uint64) string { return "edge/" + strconv.FormatUint(size, 10) }

// Error says what is wrong and where.
func (f *Fault) Error() string { return f.Subject + ": " + f.Text }

// Tree is a log up to one tree head. Whatever it answers was checked against the
// head's root on the way. It is safe for concurrent use.
type Tree struct {
	tiles remotelog.Log
	size  uint64
	root  [32]byte
	known *lru.Cache[tlog.Tile, []byte]
}

// OpenTree returns the tree with size and root, the parts of which are read from
// tiles. Nothing is read yet.
func OpenTree(tiles remotelog.Log, size uint64, root [32]byte) *Tree {
	known, err := lru.New[tlog.Tile, []byte](cachedTiles)
	if err != nil {
		panic(err) // only a size below 1 is refused
	}
	return &Tree{tiles: tiles, size: size, root: root, known: known}
}

// Size is the number of entries of the tree.
func (t *Tree) Size() uint64 { return t.size }

// Root answers the root of the tree of the first size entries, which proves that
// this tree only added to that one when it is the root known before. Requires
// size ≤ Size.
func (t *Tree) Root(ctx context.Context, size uint64) ([32]byte, error) {
	if size == 0 {
		return [32]byte(rfc6962.DefaultHasher.EmptyRoot()), nil
	}
	root, err := tlog.TreeHash(int64(size), t.hashes(ctx))
	return root, err
}

// Path answers the inclusion proof of an entry in the tree of the first size
// entries. Requires index < size ≤ Size.
func (t *Tree) Path(ctx context.Context, index, size uint64) ([][]byte, error) {
	path, err := tlog.ProveRecord(int64(size), int64(index), t.hashes(ctx))
	if err != nil {
		return nil, err
	}
	return bytesOf(path), nil
}

// Range answers the hashes of the full subtrees that make up the entries with
// begin ≤ index < end: a compact range. Requires begin ≤ end ≤ Size.
func (t *Tree) Range(ctx context.Context, begin, end uint64) ([][]byte, error) {
	ids := compact.RangeNodes(begin, end, nil)
	if len(ids) == 0 {
		return nil, nil
	}
	indexes := make([]int64, len(ids))
	for i, id := range ids {
		indexes[i] = tlog.StoredHashIndex(int(id.Level), int64(id.Index))
	}
	hashes, err := t.hashes(ctx).ReadHashes(indexes)
	if err != nil {
		return nil, err
	}
	return bytesOf(hashes), nil
}

// Entries answers the entries with from ≤ index < to. With an error it answers
// those before the first that could not be read or checked. Requires
// from ≤ to ≤ Size; it holds all of them in memory.
func (t *Tree) Entries(ctx context.Context, from, to uint64) ([][]byte, error) {
	if from == to {
		return nil, nil
	}
	first, last := from/layout.EntryBundleWidth, (to-1)/layout.EntryBundleWidth
	bundles := make([][][]byte, last-first+1)
	failures := make([]error, len(bundles))
	group := new(errgroup.Group)
	group.SetLimit(fetches)
	for i := range bundles {
		group.Go(func() error {
			bundles[i], failures[i] = t.bundle(ctx, first+uint64(i))
			return nil
		})
	}
	_ = group.Wait() // each bundle has its own error
	var entries [][]byte
	for i, bundle := range bundles {
		start := (first + uint64(i)) * layout.EntryBundleWidth
		low, high := max(from, start)-start, min(to-start, uint64(len(bundle)))
		if low < high {
			entries = append(entries, bundle[low:high]...)
		}
		if end := min(to-start, layout.EntryBundleWidth); failures[i] != nil && high < end {
			return entries, failures[i]
		}
	}
	return entries, nil
}

// bundle reads a bundle and checks its entries. With an error it answers those
// before the first that is not what the tree holds.
func (t *Tree) bundle(ctx context.Context, number uint64) ([][]byte, error) {
	width := layout.PartialTileSize(0, number, t.size)
	start := number * layout.EntryBundleWidth
	path := layout.EntriesPath(number, 0)
	raw, err := t.tiles.EntryBundle(ctx, number, width)
	if err != nil {
		return nil, faultOf(err, path, start)
	}
	changed := func(format string, args ...any) error {
		return &Fault{Kind: domain.AlarmChangedEntry, Subject: path, Place: start, Text: fmt.Sprintf(format, args...)}
	}
	var bundle api.EntryBundle
	if err := bundle.UnmarshalText(raw); err != nil {
		return nil, changed("the bundle cannot be read: %v", err)
	}
	if want := min(t.size-start, layout.EntryBundleWidth); uint64(len(bundle.Entries)) != want {
		return nil, changed("the bundle holds %d entries, want %d", len(bundle.Entries), want)
	}
	indexes := make([]int64, len(bundle.Entries))
	for i := range indexes {
		indexes[i] = tlog.StoredHashIndex(0, int64(start)+int64(i))
	}
	leaves, err := t.hashes(ctx).ReadHashes(indexes)
	if err != nil {
		return nil, err
	}
	for i, entry := range bundle.Entries {
		if proof.LeafHash(entry) != leaves[i] {
			index := start + uint64(i)
			return bundle.Entries[:i], &Fault{
				Kind: domain.AlarmChangedEntry, Subject: "entry/" + strconv.FormatUint(index, 10), Place: index,
				Text: "the entry in " + path + " does not have the hash that the tree holds",
			}
		}
	}
	return bundle.Entries, nil
}

// faultOf makes the fault of a part that is not there or has no form, and leaves
// what says that the log could not be asked.
func faultOf(err error, path string, place uint64) error {
	var form *remotelog.FormError
	var refused *remotelog.UnreachableError
	switch {
	case domain.KindOf(err) == domain.NotFound:
		return &Fault{Kind: domain.AlarmMissingTile, Subject: path, Place: place, Text: "it is missing"}
	case errors.As(err, &refused) && refused.Status == http.StatusInternalServerError: // what a gateway answers whose own files are damaged
		return &Fault{Kind: domain.AlarmMissingTile, Subject: path, Place: place, Text: "the log fails to give it"}
	case errors.As(err, &form):
		return &Fault{Kind: domain.AlarmChangedEntry, Subject: path, Place: place, Text: form.Problem}
	}
	return fmt.Errorf("read %s: %w", path, err)
}

// hashes reads hashes of the tree; indexes are those of [tlog.StoredHashIndex].
func (t *Tree) hashes(ctx context.Context) tlog.HashReader {
	tree := tlog.Tree{N: int64(t.size), Hash: t.root}
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		if len(indexes) == 0 {
			return nil, nil
		}
		tiles := &tileReader{ctx: ctx, tree: t}
		hashes, err := tlog.TileHashReader(tree, tiles).ReadHashes(indexes)
		if err != nil && tiles.complete {
			err = tiles.damage()
		}
		return hashes, err
	})
}

// tileReader reads tiles for one question to the tree: a [tlog.TileReader].
type tileReader struct {
	ctx  context.Context //nolint:containedctx // tlog's interface has no other way
	tree *Tree

	tiles    []tlog.Tile
	data     [][]byte
	complete bool // all were there; what fails then are the hashes
}

// Height implements [tlog.TileReader].
func (r *tileReader) Height() int { return layout.TileHeight }

// ReadTiles implements [tlog.TileReader].
func (r *tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	r.tiles, r.data = tiles, make([][]byte, len(tiles))
	group, ctx := errgroup.WithContext(r.ctx)
	group.SetLimit(fetches)
	for i, tile := range tiles {
		if data, ok := r.tree.known.Get(tile); ok {
			r.data[i] = data
			continue
		}
		group.Go(func() error {
			data, err := r.tree.tiles.Tile(ctx, uint64(tile.L), uint64(tile.N), uint8(tile.W%layout.TileWidth))
			if err != nil {
				return faultOf(err, tilePath(tile), firstLeaf(tile))
			}
			if len(data) != tile.W*tlog.HashSize {
				return changedTile(tile, fmt.Sprintf("the tile has %d bytes, want %d", len(data), tile.W*tlog.HashSize))
			}
			r.data[i] = data
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	r.complete = true
	return r.data, nil
}

// SaveTiles implements [tlog.TileReader]: it keeps verified tiles, but for the
// full ones of the lowest level, which are many and seldom asked for twice.
func (r *tileReader) SaveTiles(tiles []tlog.Tile, data [][]byte) {
	for i, tile := range tiles {
		if tile.L > 0 || tile.W < layout.TileWidth {
			r.tree.known.Add(tile, data[i])
		}
	}
}

// damage names the right edge when it does not give the root, or else the tile
// that does not have the hash which the tile above it holds.
func (r *tileReader) damage() error {
	read := make(readTiles)
	at := make(map[tlog.Tile][]byte)
	for i, tile := range r.tiles {
		read[tile] = r.data[i]
		at[tlog.Tile{H: tile.H, L: tile.L, N: tile.N}] = r.data[i]
	}
	tree := tlog.Tree{N: int64(r.tree.size), Hash: r.tree.root}
	if _, err := tlog.TileHashReader(tree, read).ReadHashes(nil); err != nil {
		return r.tree.edgeFault()
	}
	for i, tile := range r.tiles {
		above, ok := at[tlog.Tile{H: tile.H, L: tile.L + 1, N: tile.N / layout.TileWidth}]
		if !ok || tile.W < layout.TileWidth {
			continue
		}
		slot := int(tile.N%layout.TileWidth) * tlog.HashSize
		if len(above) < slot+tlog.HashSize || !bytes.Equal(fullTileHash(r.data[i]), above[slot:slot+tlog.HashSize]) {
			return changedTile(tile, "the tile does not have the hash that the tile above it holds")
		}
	}
	return r.tree.edgeFault() // cannot be: one of the two is wrong
}

func (t *Tree) edgeFault() error {
	return &Fault{
		Kind: domain.AlarmChangedEntry, Subject: EdgeSubject(t.size), Place: t.size - 1,
		Text: fmt.Sprintf("the tiles along the right edge do not give the root of the tree of %d entries", t.size),
	}
}

// readTiles are tiles that were read before: a [tlog.TileReader].
type readTiles map[tlog.Tile][]byte

// Height implements [tlog.TileReader].
func (readTiles) Height() int { return layout.TileHeight }

// ReadTiles implements [tlog.TileReader].
func (r readTiles) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, tile := range tiles {
		data[i] = r[tile]
	}
	return data, nil
}

// SaveTiles implements [tlog.TileReader].
func (readTiles) SaveTiles([]tlog.Tile, [][]byte) {}

// fullTileHash is the hash of the subtree over a full tile.
func fullTileHash(data []byte) []byte {
	r := ranges.NewEmptyRange(0)
	for hash := range slices.Chunk(data, tlog.HashSize) {
		_ = r.Append(hash, nil) // fails for a visitor only
	}
	root, _ := r.GetRootHash(nil) // fails only when it does not begin at 0
	return root
}

// ranges computes Merkle trees as RFC 6962 does.
var ranges = compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}

func changedTile(tile tlog.Tile, text string) error {
	return &Fault{Kind: domain.AlarmChangedEntry, Subject: tilePath(tile), Place: firstLeaf(tile), Text: text}
}

// firstLeaf is the index of the first entry under a tile.
func firstLeaf(tile tlog.Tile) uint64 {
	return uint64(tile.N) << ((tile.L + 1) * layout.TileHeight)
}

// tilePath is the path of a tile in its full width.
func tilePath(tile tlog.Tile) string {
	return layout.TilePath(uint64(tile.L), uint64(tile.N), 0)
}

func bytesOf(hashes []tlog.Hash) [][]byte {
	out := make([][]byte, len(hashes))
	for i, h := range hashes {
		out[i] = h[:]
	}
	return out
}
