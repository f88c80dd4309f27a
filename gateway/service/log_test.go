package service_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/zhenglian/zhenglian/gateway/accesslog"
	"github.com/zhenglian/zhenglian/gateway/accesslog/accesslogtest"
)

// testLog is the shared fake with what a department could do to its own log: it
// keeps the key outside the tree, so that the tree can be put back or rewritten
// under the same key, and faults can come and go.
type testLog struct {
	signer note.Signer
	vkey   string

	mu    sync.Mutex
	tree  *accesslogtest.Log
	fault func() (apply bool, err error) // of every append, when set
}

var _ accesslog.Log = (*testLog)(nil)

func newTestLog(t testing.TB, origin string) *testLog {
	t.Helper()
	l := &testLog{tree: accesslogtest.NewNamed(origin)}
	l.newKey(t, origin)
	return l
}

// newKey gives the log another key.
func (l *testLog) newKey(t testing.TB, origin string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	if l.signer, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	l.vkey = vkey
}

func (l *testLog) current() (*accesslogtest.Log, func() (bool, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tree, l.fault
}

func (l *testLog) setFault(fault func() (apply bool, err error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = fault
}

func (l *testLog) Append(ctx context.Context, entries [][]byte) ([]accesslog.Receipt, error) {
	tree, fault := l.current()
	apply, err := true, error(nil)
	if fault != nil {
		apply, err = fault()
	}
	if !apply {
		return nil, err
	}
	receipts, failed := tree.Append(ctx, entries)
	if err != nil {
		return nil, err
	}
	return receipts, failed
}

func (l *testLog) Checkpoint(ctx context.Context) (accesslog.Checkpoint, error) {
	tree, _ := l.current()
	c, err := tree.Checkpoint(ctx)
	if err != nil {
		return c, err
	}
	c.Note, err = l.Sign(fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root)))
	return c, err
}

func (l *testLog) Entries(ctx context.Context, from, to uint64) ([][]byte, error) {
	tree, _ := l.current()
	return tree.Entries(ctx, from, to)
}

func (l *testLog) InclusionProof(ctx context.Context, index, size uint64) ([][]byte, error) {
	tree, _ := l.current()
	return tree.InclusionProof(ctx, index, size)
}

func (l *testLog) ConsistencyProof(ctx context.Context, from, to uint64) ([][]byte, error) {
	tree, _ := l.current()
	return tree.ConsistencyProof(ctx, from, to)
}

func (l *testLog) Sign(text string) ([]byte, error) {
	return note.Sign(&note.Note{Text: text}, l.signer)
}
func (l *testLog) Origin() string              { return l.signer.Name() }
func (l *testLog) VerifierKey() string         { return l.vkey }
func (l *testLog) Close(context.Context) error { return nil }

// all answers every entry.
func (l *testLog) all(t testing.TB) [][]byte {
	t.Helper()
	tree, _ := l.current()
	c, err := tree.Checkpoint(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	for uint64(len(out)) < c.Size {
		part, err := tree.Entries(context.Background(), uint64(len(out)), c.Size)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, part...)
	}
	return out
}

func (l *testLog) size(t testing.TB) uint64 { return uint64(len(l.all(t))) }

// putBack leaves the first size entries, as a restored backup would.
func (l *testLog) putBack(t testing.TB, size int) {
	t.Helper()
	tree := accesslogtest.NewNamed(l.Origin())
	if _, err := tree.Append(context.Background(), l.all(t)[:size]); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tree = tree
}
