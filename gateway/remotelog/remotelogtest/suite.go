// Package remotelogtest holds the suite that every [remotelog.Log] must pass, and
// a fake without a network.
package remotelogtest

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/accesslog/accesslogtest"
	"github.com/zhenglian/zhenglian/gateway/remotelog"
)

// size crosses a bundle and has a right edge.
const size = 256 + 44

// Run runs the suite. open answers a log of the test and what others see of it; it
// sees to both being closed.
func Run(t *testing.T, open func(t *testing.T) (accesslogtest.TiledLog, remotelog.Log)) {
	source, remote := open(t)
	t.Run("empty", func(t *testing.T) {
		if _, err := remote.Tile(t.Context(), 0, 0, 1); domain.KindOf(err) != domain.NotFound {
			t.Errorf("a tile of an empty log: %v, want not_found", err)
		}
		if _, err := remote.EntryBundle(t.Context(), 0, 1); domain.KindOf(err) != domain.NotFound {
			t.Errorf("a bundle of an empty log: %v, want not_found", err)
		}
	})
	var entries [][]byte
	for i := range size {
		entries = append(entries, fmt.Appendf(nil, "entry %d", i))
	}
	if _, err := source.Append(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
	accesslogtest.AwaitSize(t, source, size)

	t.Run("checkpoint", func(t *testing.T) {
		want, err := source.Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := remote.Checkpoint(t.Context()); err != nil || !bytes.Equal(got, want.Note) {
			t.Errorf("got %q, %v, want %q", got, err, want.Note)
		}
	})
	for _, test := range []struct {
		level, index uint64
		width        uint8
	}{{0, 0, 0}, {0, 1, 44}, {1, 0, 1}, {0, 0, 200}} { // the last is there in full only
		name := fmt.Sprintf("level %d, tile %d, width %d", test.level, test.index, test.width)
		t.Run(name, func(t *testing.T) {
			want, err := source.Tile(t.Context(), test.level, test.index, test.width)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := remote.Tile(t.Context(), test.level, test.index, test.width); err != nil || !bytes.Equal(got, want) {
				t.Errorf("tile has %d bytes, %v, want the log's %d", len(got), err, len(want))
			}
			if test.level > 0 {
				return
			}
			if want, err = source.EntryBundle(t.Context(), test.index, test.width); err != nil {
				t.Fatal(err)
			}
			if got, err := remote.EntryBundle(t.Context(), test.index, test.width); err != nil || !bytes.Equal(got, want) {
				t.Errorf("bundle has %d bytes, %v, want the log's %d", len(got), err, len(want))
			}
		})
	}
	for _, test := range []struct {
		level, index uint64
		width        uint8
	}{{0, 1, 0}, {0, 2, 1}, {1, 0, 0}, {2, 0, 1}, {8, 0, 1}, {1<<64 - 1, 0, 1}, {0, 1<<64 - 1, 0}} {
		if _, err := remote.Tile(t.Context(), test.level, test.index, test.width); domain.KindOf(err) != domain.NotFound {
			t.Errorf("tile %v: %v, want not_found", test, err)
		}
		if test.level > 0 {
			continue
		}
		if _, err := remote.EntryBundle(t.Context(), test.index, test.width); domain.KindOf(err) != domain.NotFound {
			t.Errorf("bundle %v: %v, want not_found", test, err)
		}
	}
}
