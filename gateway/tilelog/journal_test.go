package tilelog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/transparency-dev/tessera"

	"github.com/zhenglian/zhenglian/gateway/accesslog/accesslogtest"
)

func someEntries(from, n, size int) (all []*tessera.Entry, data [][]byte) {
	for i := range n {
		e := bytes.Repeat(fmt.Appendf(nil, "%07d ", from+i), size/8+1)
		all, data = append(all, tessera.NewEntry(e)), append(data, e)
	}
	return all, data
}

// stateDir answers a folder with the one in it that holds the journal.
func stateDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, ".state"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Whatever the tree has when the process ends, the journal holds the rest.
func TestJournal(t *testing.T) {
	const group, groups = 40, 200 // of 4 KiB: the files are left many times
	for lag := range 5 {
		dir := stateDir(t)
		j, found, err := openJournal(dir, 0)
		if err != nil || len(found) > 0 {
			t.Fatalf("a new journal holds %d entries, %v", len(found), err)
		}
		for n := range groups {
			first, integrated := n*group, max(0, n-lag*lag)*group
			entries, _ := someEntries(first, group, 4096)
			if err := j.append(uint64(first), entries, uint64(integrated)); err != nil {
				t.Fatal(err)
			}
			if n%17 != 0 && n != groups-1 {
				continue
			}
			for _, size := range []int{integrated, (integrated + first) / 2, first, first + group/2, first + group} {
				again, got, err := openJournal(dir, uint64(size))
				if err != nil {
					t.Fatalf("group %d, tree of %d: %v", n, size, err)
				}
				if err := again.close(); err != nil {
					t.Fatal(err)
				}
				_, want := someEntries(size, first+group-size, 4096)
				if !slices.EqualFunc(want, got, bytes.Equal) {
					t.Fatalf("group %d, tree of %d: the journal holds %d entries, or others than the %d expected", n, size, len(got), len(want))
				}
			}
		}
		if err := j.close(); err != nil {
			t.Fatal(err)
		}
		for i, name := range journalNames {
			info, err := os.Stat(filepath.Join(dir, name))
			if most := int64((lag*lag + 2) * group * 4200); err != nil || info.Size() > journalFull+most {
				t.Errorf("lag %d: file %d has %d bytes, %v", lag, i, info.Size(), err)
			}
		}
	}
}

// A frame that was cut off anywhere, or of which anything is missing, is not there; those
// before it are.
func TestTornJournal(t *testing.T) {
	dir := stateDir(t)
	j, _, err := openJournal(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends []int64
	for n := range 3 {
		entries, _ := someEntries(n*2, 2, 30)
		if err := j.append(uint64(n*2), entries, 0); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, j.end)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, journalNames[0])
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	held := func(data []byte) int {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		j, entries, err := openJournal(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.close(); err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	for at := range whole {
		want := 0
		for _, end := range ends {
			if int64(at) >= end {
				want += 2
			}
		}
		if got := held(whole[:at]); got != want {
			t.Errorf("cut after %d bytes: %d entries, want %d", at, got, want)
		}
		changed := bytes.Clone(whole)
		changed[at] ^= 0x40
		if got := held(changed); got != want {
			t.Errorf("byte %d changed: %d entries, want %d", at, got, want)
		}
	}
}

// What was acknowledged and is in no tile is there after the process was killed.
func TestReplay(t *testing.T) {
	dir, key := t.TempDir(), newKey(t, origin)
	l, err := Open(t.Context(), options(dir, key))
	if err != nil {
		t.Fatal(err)
	}
	all := appendN(t, l, 0, 300)
	accesslogtest.AwaitSize(t, l, 300)
	l.add = func(context.Context, *tessera.Entry) tessera.IndexFuture {
		return func() (tessera.Index, error) { return tessera.Index{}, errors.New("as good as killed") }
	}
	all = append(all, appendN(t, l, 300, 5000)...)
	awaitFailed(t, l)
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	l = openDir(t, dir, key)
	if cp, err := l.Checkpoint(t.Context()); err != nil || cp.Size != 5300 {
		t.Errorf("size on opening = %d, %v, want 5300", cp.Size, err)
	}
	all = append(all, appendN(t, l, 5300, 10)...)
	accesslogtest.AwaitSize(t, l, 5310)
	if got := accesslogtest.Check(t, l); !slices.EqualFunc(all, got, bytes.Equal) {
		t.Errorf("the log holds %d entries, or others than the %d expected", len(got), len(all))
	}
}

// An entry that comes to lie elsewhere than it was acknowledged ends the log.
func TestOtherPlaceThanAcknowledged(t *testing.T) {
	l := openDir(t, t.TempDir(), newKey(t, origin))
	l.add = func(context.Context, *tessera.Entry) tessera.IndexFuture {
		return func() (tessera.Index, error) { return tessera.Index{Index: 1}, nil }
	}
	appendN(t, l, 0, 1)
	awaitFailed(t, l)
}

// A journal that goes on beyond the tree's end is of another tree.
func TestJournalOfAnotherTree(t *testing.T) {
	dir := stateDir(t)
	j, _, err := openJournal(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	entries, _ := someEntries(7, 1, 10)
	if err := errors.Join(j.append(7, entries, 7), j.close()); err != nil {
		t.Fatal(err)
	}
	var damage *DamageError
	if _, _, err := openJournal(dir, 6); !errors.As(err, &damage) {
		t.Errorf("openJournal = %v, want a DamageError", err)
	}
}
