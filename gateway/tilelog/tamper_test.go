package tilelog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/accesslog/accesslogtest"
)

// closedLog makes a log of n entries in dir: "entry 0", "entry 1", …
func closedLog(t *testing.T, dir, key string, n int) {
	t.Helper()
	l, err := Open(t.Context(), options(dir, key))
	if err != nil {
		t.Fatal(err)
	}
	appendN(t, l, 0, n)
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// flip changes one bit of a file: in a bundle of equal entries, of the text of the
// one in the middle.
func flip(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		path := filepath.Join(dir, name)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2+5] ^= 1
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// What is changed left of the tree's right edge shows when it is read, whether it
// was changed while the log was closed or while it is open.
func TestTamperedFiles(t *testing.T) {
	const size = 256*256 + 300 // tile/1/000 is full, tile/1/001.p/1 the edge
	const index = 256 + 128    // in bundle and tile 1
	key, base := newKey(t, origin), filepath.Join(t.TempDir(), "base")
	closedLog(t, base, key, size)
	all := []string{"Entries", "EntryBundle", "InclusionProof", "ConsistencyProof", "Tile"}
	for name, test := range map[string]struct {
		damage   func(*testing.T, string)
		file     string   // that the errors name
		problem  string   // that they say
		shown    []string // calls that fail
		unharmed []string // calls that answer what is right
	}{
		"entry changed": {
			flip("tile/entries/001"), "tile/entries/001", "entry 384 does not have the hash that the tree holds",
			[]string{"Entries", "EntryBundle"}, []string{"InclusionProof", "ConsistencyProof", "Tile"},
		},
		"bundle dropped": {
			remove("tile/entries/001"), "tile/entries/001", "the bundle is missing",
			[]string{"Entries", "EntryBundle"}, []string{"InclusionProof", "ConsistencyProof", "Tile"},
		},
		"bundle cut": {
			write("tile/entries/001", "\x00\x01x"), "tile/entries/001", "the bundle holds 1 entries",
			[]string{"Entries", "EntryBundle"}, []string{"InclusionProof", "ConsistencyProof", "Tile"},
		},
		"tile changed": {
			flip("tile/0/001"), "tile/0/001", "does not have the hash that the tile above it holds", all, nil,
		},
		"tile dropped":           {remove("tile/0/001"), "tile/0/001", "the tile is missing", all, nil},
		"tile cut":               {write("tile/0/001", strings.Repeat("x", 32)), "tile/0/001", "the tile has 32 bytes, want 8192", all, nil},
		"tile above it changed":  {flip("tile/1/000"), "tile/1/000", "does not have the hash that the tile above it holds", all, nil},
		"tile above it dropped":  {remove("tile/1/000"), "tile/1/000", "the tile is missing", all, nil},
		"nothing, to compare to": {func(*testing.T, string) {}, "", "", nil, all},
	} {
		for _, open := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, open %t", name, open), func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "log")
				copyLog(t, base, dir)
				var l *Log
				if open {
					l = openDir(t, dir, key)
				}
				detach(t, dir)
				test.damage(t, dir)
				if !open {
					l = openDir(t, dir, key)
				}
				calls := map[string]func() error{
					"Entries":          func() error { _, err := l.Entries(t.Context(), index, index+5); return err },
					"EntryBundle":      func() error { _, err := l.EntryBundle(t.Context(), 1, 0); return err },
					"InclusionProof":   func() error { _, err := l.InclusionProof(t.Context(), index, size); return err },
					"ConsistencyProof": func() error { _, err := l.ConsistencyProof(t.Context(), index-1, size); return err },
					"Tile":             func() error { _, err := l.Tile(t.Context(), 0, 1, 0); return err },
				}
				for _, call := range test.shown {
					var damage *DamageError
					if err := calls[call](); !errors.As(err, &damage) || !slices.Equal(damage.Files, []string{test.file}) || !strings.Contains(err.Error(), test.problem) {
						t.Errorf("%s = %v, want it to name %s: %s", call, err, test.file, test.problem)
					}
				}
				for _, call := range test.unharmed {
					if err := calls[call](); err != nil {
						t.Errorf("%s = %v", call, err)
					}
				}
				appendN(t, l, size, 1) // the log goes on; what is damaged is for an operator to restore
			})
		}
	}
}

// A tile that was read and verified before is read from the disk again for others,
// who want to know what it holds now: full or not, and of any level. The log's own
// proofs go on from what it verified.
func TestTamperedAfterReading(t *testing.T) {
	const size = 256*256 + 300
	key, base := newKey(t, origin), filepath.Join(t.TempDir(), "base")
	closedLog(t, base, key, size)
	for _, test := range []struct {
		file         string
		level, index uint64
		width        uint8
	}{
		{"tile/0/001", 0, 1, 0},
		{"tile/1/000", 1, 0, 0},
		{"tile/0/257.p/44", 0, 257, 44},
		{"tile/1/001.p/1", 1, 1, 1},
		{"tile/2/000.p/1", 2, 0, 1},
	} {
		for name, damage := range map[string]func(string) func(*testing.T, string){"changed": flipped, "dropped": remove} {
			t.Run(test.file+" "+name, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "log")
				copyLog(t, base, dir)
				l := openDir(t, dir, key)
				whole, err := l.Tile(t.Context(), test.level, test.index, test.width)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := l.InclusionProof(t.Context(), 300, size); err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(dir, test.file)
				before, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				detachFile(t, path)
				damage(test.file)(t, dir)
				var damaged *DamageError
				_, err = l.Tile(t.Context(), test.level, test.index, test.width)
				if !errors.As(err, &damaged) || !slices.Equal(damaged.Files, []string{test.file}) {
					t.Errorf("Tile = %v, want it to name %s alone", err, test.file)
				}
				if _, err := l.InclusionProof(t.Context(), size-1, size); err != nil {
					t.Errorf("the log's own proof does not go on from what was verified: %v", err)
				}
				if err := os.WriteFile(path, before, 0o600); err != nil {
					t.Fatal(err)
				}
				if got, err := l.Tile(t.Context(), test.level, test.index, test.width); err != nil || !bytes.Equal(got, whole) {
					t.Errorf("Tile that was put right: %v", err)
				}
			})
		}
	}
}

// flipped changes one bit of a file of any length.
func flipped(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		path := filepath.Join(dir, name)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[0] ^= 1
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// detach gives dir files of its own where copyLog made hard links.
func detach(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"tile/entries/001", "tile/0/001", "tile/1/000"} {
		detachFile(t, filepath.Join(dir, name))
	}
}

func detachFile(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// forkLog makes a log under the same key whose entries from index keep on differ.
func forkLog(t *testing.T, dir, key string, keep, n int) {
	t.Helper()
	l, err := Open(t.Context(), options(dir, key))
	if err != nil {
		t.Fatal(err)
	}
	appendN(t, l, 0, keep)
	for i := keep; i < n; i++ {
		if _, err := l.Append(t.Context(), [][]byte{fmt.Appendf(nil, "other entry %d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// The checkpoint of another history, validly signed, does not go with the tiles.
func TestForkedCheckpoint(t *testing.T) {
	for _, n := range []int{3, 5} { // shorter, and as long as, the log
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			key, dir, fork := newKey(t, origin), filepath.Join(t.TempDir(), "log"), filepath.Join(t.TempDir(), "fork")
			closedLog(t, dir, key, 5)
			forkLog(t, fork, key, 2, n)
			forked, err := os.ReadFile(filepath.Join(fork, "checkpoint"))
			if err != nil {
				t.Fatal(err)
			}
			l, err := Open(t.Context(), options(dir, key))
			if err != nil {
				t.Fatal(err)
			}
			write("checkpoint", string(forked))(t, dir)
			var damage *DamageError
			if _, err := l.InclusionProof(t.Context(), 2, 3); !errors.As(err, &damage) {
				t.Errorf("InclusionProof with a forked checkpoint = %v, want a DamageError", err)
			}
			if _, err := l.Entries(t.Context(), 0, 3); !errors.As(err, &damage) {
				t.Errorf("Entries with a forked checkpoint = %v, want a DamageError", err)
			}
			if err := l.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, err = Open(t.Context(), options(dir, key))
			if !errors.As(err, &damage) || !slices.Equal(damage.Files, []string{"checkpoint"}) {
				t.Errorf("Open with a forked checkpoint = %v, want it to name the checkpoint", err)
			}
		})
	}
}

// A folder put back whole, or a whole history with other entries, cannot be told
// from the log by what lies in it: the log opens. Only whoever remembers a tree
// head sees it, as the ledger and the watchers do: see TestAnchoring.
func TestWholeLogExchanged(t *testing.T) {
	key := newKey(t, origin)
	for name, exchange := range map[string]func(*testing.T, string){
		"rolled back": func(t *testing.T, dir string) { closedLog(t, dir, key, 3) },
		"forked":      func(t *testing.T, dir string) { forkLog(t, dir, key, 3, 8) },
	} {
		t.Run(name, func(t *testing.T) {
			dir, other := filepath.Join(t.TempDir(), "log"), filepath.Join(t.TempDir(), "log")
			closedLog(t, dir, key, 5)
			remembered, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
			if err != nil {
				t.Fatal(err)
			}
			exchange(t, other)
			l := openDir(t, other, key)
			before, err := l.parseCheckpoint(remembered)
			if err != nil {
				t.Fatal(err)
			}
			accesslogtest.Check(t, l)
			cp, err := l.Checkpoint(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			proof, err := l.ConsistencyProof(t.Context(), before.Size, cp.Size)
			if cp.Size < before.Size {
				if domain.KindOf(err) != domain.Invalid {
					t.Errorf("ConsistencyProof to a smaller size = %v, want invalid", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var tree tlog.TreeProof
			for _, h := range proof {
				tree = append(tree, tlog.Hash(h))
			}
			if err := tlog.CheckTree(tree, int64(cp.Size), tlog.Hash(cp.Root), int64(before.Size), tlog.Hash(before.Hash)); err == nil {
				t.Error("the other history passes for a continuation")
			}
			if bytes.Equal(cp.Root, before.Hash) {
				t.Error("the roots are equal")
			}
		})
	}
}
