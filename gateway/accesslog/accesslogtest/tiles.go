package accesslogtest

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/accesslog"
)

// TiledLog is a log that can be served as tiles.
type TiledLog interface {
	accesslog.Log
	accesslog.Tiles
}

// RunTiles runs the conformance suite of [accesslog.Tiles]. open answers an empty
// log and sees to its being closed.
func RunTiles(t *testing.T, open func(t *testing.T) TiledLog) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, TiledLog)
	}{
		{"tiles", testTiles},
		{"tiles not there", testTilesNotThere},
		{"empty", testTilesEmpty},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// The sizes cross a bundle, and 256 bundles with a tile of level 1 that is full.
const tiledSize = 256*256 + 300

func testTiles(t *testing.T, l TiledLog) {
	var all [][]byte
	var want reference
	for len(all) < tiledSize {
		entries := entriesFrom(len(all), min(3000, tiledSize-len(all)))
		mustAppend(t, l, entries)
		for _, e := range entries {
			want.add(e)
		}
		all = append(all, entries...)
	}
	AwaitSize(t, l, tiledSize)
	for _, test := range []struct {
		level, index uint64
		width        uint8
	}{
		{0, 0, 0},
		{0, 0, 1},   // a width that no tree may have had
		{0, 255, 0}, // the last of the first level 1 tile
		{0, 256, 255},
		{0, 257, 44}, // the right edge
		{0, 257, 43},
		{1, 0, 0},
		{1, 0, 17},
		{1, 1, 1},
		{2, 0, 1},
	} {
		width := int(test.width)
		if width == 0 {
			width = 256
		}
		got, err := l.Tile(t.Context(), test.level, test.index, test.width)
		if err != nil {
			t.Errorf("Tile(%v): %v", test, err)
			continue
		}
		span := 1 << (8 * test.level) // leaves under one hash
		var hashes []byte
		for i := range width {
			first := (int(test.index)*256 + i) * span
			sub := reference{leaves: want.leaves[first : first+span]}
			hashes = append(hashes, sub.root(uint64(span))...)
		}
		if !bytes.Equal(got, hashes) {
			t.Errorf("Tile(%v) has other hashes than the entries", test)
		}
		if test.level > 0 {
			continue
		}
		bundle, err := l.EntryBundle(t.Context(), test.index, test.width)
		if err != nil {
			t.Errorf("EntryBundle(%d, %d): %v", test.index, test.width, err)
			continue
		}
		if entries := all[test.index*256:][:width]; !slices.EqualFunc(entries, parseBundle(t, bundle), bytes.Equal) {
			t.Errorf("EntryBundle(%d, %d) has other entries than were appended", test.index, test.width)
		}
	}
}

// parseBundle reads a bundle as C2SP tlog-tiles writes it.
func parseBundle(t *testing.T, bundle []byte) [][]byte {
	t.Helper()
	var entries [][]byte
	for len(bundle) > 0 {
		if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
			t.Fatalf("the bundle is cut after %d entries", len(entries))
		}
		n := 2 + int(binary.BigEndian.Uint16(bundle))
		entries, bundle = append(entries, bundle[2:n]), bundle[n:]
	}
	return entries
}

func testTilesNotThere(t *testing.T, l TiledLog) {
	mustAppend(t, l, entriesFrom(0, 300))
	AwaitSize(t, l, 300)
	for _, test := range []struct {
		level, index uint64
		width        uint8
	}{
		{0, 1, 0},
		{0, 1, 45},
		{0, 2, 1},
		{0, 1 << 56, 1},
		{0, 1<<64 - 1, 0},
		{1, 0, 0},
		{1, 0, 2},
		{1, 1, 1},
		{2, 0, 1},
		{8, 0, 1},
		{1 << 61, 0, 1}, // times eight it is 0
		{1<<64 - 1, 0, 1},
	} {
		if _, err := l.Tile(t.Context(), test.level, test.index, test.width); domain.KindOf(err) != domain.NotFound {
			t.Errorf("Tile(%v) = %v, want not_found", test, err)
		}
		if test.level > 0 {
			continue
		}
		if _, err := l.EntryBundle(t.Context(), test.index, test.width); domain.KindOf(err) != domain.NotFound {
			t.Errorf("EntryBundle(%d, %d) = %v, want not_found", test.index, test.width, err)
		}
	}
	tile, err := l.Tile(t.Context(), 1, 0, 1)
	if err != nil || len(tile) != tlog.HashSize {
		t.Errorf("Tile(1, 0, 1) = %d bytes, %v", len(tile), err)
	}
}

func testTilesEmpty(t *testing.T, l TiledLog) {
	if _, err := l.Tile(t.Context(), 0, 0, 1); domain.KindOf(err) != domain.NotFound {
		t.Errorf("Tile of an empty log = %v, want not_found", err)
	}
	if _, err := l.EntryBundle(t.Context(), 0, 1); domain.KindOf(err) != domain.NotFound {
		t.Errorf("EntryBundle of an empty log = %v, want not_found", err)
	}
}
