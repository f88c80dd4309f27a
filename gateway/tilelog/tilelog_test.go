package tilelog

import (
	"context"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/zhenglian/zhenglian/gateway/accesslog"
	"github.com/zhenglian/zhenglian/gateway/accesslog/accesslogtest"
)

const origin = "zhenglian.example/log/police"

func newKey(t testing.TB, name string) string {
	t.Helper()
	key, _, err := note.GenerateKey(cryptorand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func options(dir, key string) Options {
	return Options{Dir: dir, Origin: origin, Key: key, CheckpointInterval: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)}
}

// openDir opens a log and closes it at the end of the test.
func openDir(t testing.TB, dir, key string) *Log {
	t.Helper()
	l, err := Open(t.Context(), options(dir, key))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { // after the test's context has ended
		if err := l.Close(context.Background()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return l
}

func appendN(t testing.TB, l *Log, from, n int) [][]byte {
	t.Helper()
	var entries [][]byte
	for i := range n {
		entries = append(entries, fmt.Appendf(nil, "entry %d", from+i))
	}
	receipts, err := l.Append(t.Context(), entries)
	if err != nil {
		t.Fatalf("Append: %v", err)
	}
	if receipts[0].Index != uint64(from) {
		t.Fatalf("first index = %d, want %d", receipts[0].Index, from)
	}
	return entries
}

func TestConformance(t *testing.T) {
	accesslogtest.Run(t, func(t *testing.T) accesslog.Log { return openDir(t, t.TempDir(), newKey(t, origin)) })
}

func TestTiles(t *testing.T) {
	accesslogtest.RunTiles(t, func(t *testing.T) accesslogtest.TiledLog { return openDir(t, t.TempDir(), newKey(t, origin)) })
}

func TestReopen(t *testing.T) {
	dir, key := filepath.Join(t.TempDir(), "new", "log"), newKey(t, origin)
	var all [][]byte
	for round := range 4 {
		l, err := Open(t.Context(), options(dir, key+"\n")) // a key file ends with a newline
		if err != nil {
			t.Fatalf("Open, round %d: %v", round, err)
		}
		if cp, err := l.Checkpoint(t.Context()); err != nil || cp.Size != uint64(len(all)) {
			t.Errorf("size on opening = %d, %v, want %d", cp.Size, err, len(all))
		}
		all = append(all, appendN(t, l, len(all), 200)...)
		if err := l.Close(t.Context()); err != nil {
			t.Fatalf("Close: %v", err)
		}
		if _, err := l.Append(t.Context(), [][]byte{{1}}); !errors.Is(err, ErrClosed) {
			t.Errorf("Append after Close = %v, want ErrClosed", err)
		}
	}
	l := openDir(t, dir, key)
	if diff := cmp.Diff(all, accesslogtest.Check(t, l)); diff != "" {
		t.Errorf("entries after reopening (-want +got):\n%s", diff)
	}
}

func TestOpenRefuses(t *testing.T) {
	key := newKey(t, origin)
	for name, test := range map[string]struct {
		damage func(t *testing.T, dir string)
		change func(*Options)
		want   string
	}{
		"another key":              {change: func(o *Options) { o.Key = newKey(t, origin) }, want: "does not verify with the configured key"},
		"another origin":           {change: func(o *Options) { o.Key = newKey(t, "other.example"); o.Origin = "other.example" }, want: "does not verify with the configured key"},
		"key under another name":   {change: func(o *Options) { o.Origin = "other.example" }, want: "must be equal"},
		"no key":                   {change: func(o *Options) { o.Key = "" }, want: "not a private key"},
		"a verifier key":           {change: func(o *Options) { o.Key = openedVerifierKey(t, key) }, want: "not a private key"},
		"checkpoint gone":          {damage: remove("checkpoint"), want: "no checkpoint"},
		"checkpoint damaged":       {damage: write("checkpoint", "x"), want: "does not verify"},
		"tree state gone":          {damage: remove(".state/treeState"), want: "is a mixture"},
		"tree state damaged":       {damage: write(".state/treeState", "{"), want: "tree state cannot be read"},
		"tree state rolled back":   {damage: write(".state/treeState", `{"size":3,"root":"`+strings.Repeat("AAAA", 10)+`AAA="}`), want: "is a mixture"},
		"tree state without root":  {damage: write(".state/treeState", `{"size":300,"root":"AAAA"}`), want: "a root of 3 bytes"},
		"tree state of other tree": {damage: write(".state/treeState", `{"size":300,"root":"`+strings.Repeat("AAAA", 10)+`AAA="}`), want: "tile/1/000.p/1 or tile/0/001.p/44: the tiles do not have the root"},
		"tile gone":                {damage: remove("tile/1/000.p/1"), want: "tile/1/000.p/1: the tile is missing"},
		"tile damaged":             {damage: write("tile/0/001.p/44", strings.Repeat("x", 44*32)), want: "tile/0/001.p/44: the tiles do not have the root"},
		"tile cut":                 {damage: write("tile/0/001.p/44", "x"), want: "tile/0/001.p/44: the tile has 1 bytes"},
		"last bundle gone":         {damage: remove("tile/entries/001.p/44"), want: "tile/entries/001.p/44: the bundle is missing"},
		"last bundle damaged":      {damage: write("tile/entries/001.p/44", strings.Repeat("\x00\x01x", 44)), want: "tile/entries/001.p/44: entry 256 does not have the hash"},
		"last bundle short":        {damage: write("tile/entries/001.p/44", "\x00\x01x"), want: "tile/entries/001.p/44: the bundle holds 1 entries"},
		"last bundle cut":          {damage: write("tile/entries/001.p/44", "\x00"), want: "tile/entries/001.p/44: the bundle cannot be read"},
		"folder is a file": {change: func(o *Options) {
			o.Dir = filepath.Join(t.TempDir(), "file")
			write("file", "")(t, filepath.Dir(o.Dir))
		}, want: "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l, err := Open(t.Context(), options(dir, key))
			if err != nil {
				t.Fatalf("Open: %v", err)
			}
			appendN(t, l, 0, 300)
			if err := l.Close(t.Context()); err != nil {
				t.Fatalf("Close: %v", err)
			}
			o := options(dir, key)
			if test.damage != nil {
				test.damage(t, dir)
			}
			if test.change != nil {
				test.change(&o)
			}
			l, err = Open(t.Context(), o)
			if err == nil {
				t.Fatalf("Open succeeded, Close: %v", l.Close(t.Context()))
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), o.Dir) {
				t.Errorf("Open = %q, want it to name the folder and %q", err, test.want)
			}
			if strings.Contains(err.Error(), key) || strings.Contains(err.Error(), "PRIVATE+KEY+zh") {
				t.Errorf("the error tells the key: %v", err)
			}
			if test.damage == nil { // nothing was changed and the lock is free again
				openDir(t, dir, key)
			}
		})
	}
}

// rootAt answers the root of the first size entries, from the log's tiles.
func rootAt(t *testing.T, l *Log, size uint64) tlog.Hash {
	t.Helper()
	cp, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	root, err := tlog.TreeHash(int64(size), l.hashes(t.Context(), cp.Size, cp.Root))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func openedVerifierKey(t *testing.T, key string) string {
	t.Helper()
	_, _, verifierKey, err := parseKey(key, origin)
	if err != nil {
		t.Fatal(err)
	}
	return verifierKey
}

func remove(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func write(name, text string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenTwice(t *testing.T) {
	dir, key := t.TempDir(), newKey(t, origin)
	l := openDir(t, dir, key)
	var locked *LockedError
	if _, err := Open(t.Context(), options(dir, key)); !errors.As(err, &locked) {
		t.Errorf("Open of an open log = %v, want a LockedError", err)
	}
	appendN(t, l, 0, 1) // the first one goes on
}

// After a failed write the log must not promise anything more, even when the
// next write would go well.
func TestFailedWriteIsFinal(t *testing.T) {
	dir, key := t.TempDir(), newKey(t, origin)
	l, err := Open(t.Context(), options(dir, key))
	if err != nil {
		t.Fatal(err)
	}
	kept := appendN(t, l, 0, 10)
	accesslogtest.AwaitSize(t, l, 10)
	// A file where a folder must be: every write of a tile fails, for root too.
	tiles, aside := filepath.Join(dir, "tile"), filepath.Join(dir, "aside")
	if err := os.Rename(tiles, aside); err != nil {
		t.Fatal(err)
	}
	write("tile", "")(t, dir)
	kept = append(kept, appendN(t, l, 10, 1)...) // durable before any tile is written
	awaitFailed(t, l)
	if err := os.Remove(tiles); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(aside, tiles); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), [][]byte{{2}}); err == nil || !strings.Contains(err.Error(), "restarted") {
		t.Errorf("Append after a failed write = %v, want a refusal", err)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Errorf("Close of a failed log: %v", err)
	}
	l = openDir(t, dir, key)
	appendN(t, l, 11, 1)
	accesslogtest.AwaitSize(t, l, 12)
	if diff := cmp.Diff(kept, accesslogtest.Check(t, l)[:11]); diff != "" {
		t.Errorf("entries after the failure (-want +got):\n%s", diff)
	}
}

// awaitFailed waits until the log has failed.
func awaitFailed(t *testing.T, l *Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for l.Failed() == nil {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatal("the log has not failed")
		}
	}
}

// A process killed in the middle of a batch leaves tiles of a tree that never
// was. Proofs must come from the tree that is.
func TestLeftoverTiles(t *testing.T) {
	dir, key := t.TempDir(), newKey(t, origin)
	l, err := Open(t.Context(), options(dir, key))
	if err != nil {
		t.Fatal(err)
	}
	appendN(t, l, 0, 10)
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tile/0/000.p/15", "tile/0/000", "tile/entries/000.p/15", "tile/entries/000"} {
		write(name, strings.Repeat("leftover", 15*4))(t, dir)
	}
	l = openDir(t, dir, key)
	appendN(t, l, 10, 20)
	accesslogtest.AwaitSize(t, l, 30)
	all := accesslogtest.Check(t, l)
	if got := string(all[14]); got != "entry 14" {
		t.Errorf("entry 14 = %q", got)
	}
	root := rootAt(t, l, 15)
	fresh := accesslogtest.New()
	if _, err := fresh.Append(t.Context(), all[:15]); err != nil {
		t.Fatal(err)
	}
	want, err := fresh.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Root, root[:]); diff != "" {
		t.Errorf("root of size 15 comes from the leftover tile:\n%s", diff)
	}
}

func TestAppendLargerThanAGroup(t *testing.T) {
	l := openDir(t, t.TempDir(), newKey(t, origin))
	appendN(t, l, 0, 2*groupSize+7)
	accesslogtest.AwaitSize(t, l, 2*groupSize+7)
	accesslogtest.Check(t, l)
}

// The hashes of any tree are those that tlog computes from all entries, whatever was
// read before.
func TestHashes(t *testing.T) {
	const all = 256*256 + 256 + 44
	l := openDir(t, t.TempDir(), newKey(t, origin))
	appendN(t, l, 0, all)
	accesslogtest.AwaitSize(t, l, all)
	var stored []tlog.Hash
	reference := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var hashes []tlog.Hash
		for _, x := range indexes {
			hashes = append(hashes, stored[x])
		}
		return hashes, nil
	})
	for i := range int64(all) {
		hashes, err := tlog.StoredHashes(i, fmt.Appendf(nil, "entry %d", i), reference)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
	}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // not for secrets
	for _, size := range []int64{1, 2, 3, 255, 256, 257, 511, 512, 600, 256*256 - 1, 256 * 256, 256*256 + 1, 256*256 + 255, 256*256 + 256, all} {
		root, err := tlog.TreeHash(size, reference)
		if err != nil {
			t.Fatal(err)
		}
		hashes := l.hashes(t.Context(), uint64(size), root[:])
		end := tlog.StoredHashIndex(0, size)
		indexes := []int64{0, end - 1}
		for range 50 {
			indexes = append(indexes, random.Int64N(end))
		}
		want, err := reference(indexes)
		if err != nil {
			t.Fatal(err)
		}
		got, err := hashes.ReadHashes(indexes)
		if err != nil {
			t.Fatalf("size %d: %v", size, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("size %d: hashes %v (-want +got):\n%s", size, indexes, diff)
		}
		if _, err := hashes.ReadHashes([]int64{end}); err == nil {
			t.Errorf("size %d: answers a hash beyond the tree", size)
		}
		other := root
		other[0] ^= 1
		var damage *DamageError
		if _, err := l.hashes(t.Context(), uint64(size), other[:]).ReadHashes(indexes); !errors.As(err, &damage) {
			t.Errorf("size %d: another root gives %v, want a DamageError", size, err)
		}
	}
}
