package tilelog

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"

	"github.com/zhenglian/zhenglian/gateway/accesslog"
	"github.com/zhenglian/zhenglian/gateway/accesslog/accesslogtest"
)

func TestBusy(t *testing.T) {
	o := options(filepath.Join(t.TempDir(), "log"), newKey(t, origin))
	o.MaxWaiting = 10
	l, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(context.Background()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	disk := make(chan struct{})         // the disk hangs until it is closed
	writing := make(chan struct{}, 100) // a group is being written
	l.journal.files[0] = hangingFile{l.journal.files[0], func() {
		writing <- struct{}{}
		<-disk
	}}
	entries := func(call, n int) [][]byte {
		var out [][]byte
		for i := range n {
			out = append(out, fmt.Appendf(nil, "call %d entry %d", call, i))
		}
		return out
	}
	answers := make(chan error)
	begin := func(call, n int) {
		go func() {
			_, err := l.Append(t.Context(), entries(call, n))
			answers <- err
		}()
	}
	begin(0, 30) // larger than the queue, which is empty
	awaitWaiting(t, l, 30)
	var busy *accesslog.BusyError
	if _, err := l.Append(t.Context(), entries(1, 1)); !errors.As(err, &busy) || busy.RetryAfter != time.Second {
		t.Errorf("Append to a full queue = %v, want a BusyError of 1 s", err)
	}
	close(disk)
	if err := <-answers; err != nil {
		t.Errorf("Append larger than the queue: %v", err)
	}
	<-writing

	disk = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	begin(2, 6)
	<-writing // what comes now is for the next group
	go func() {
		_, err := l.Append(ctx, entries(3, 4))
		gone <- err
	}()
	awaitWaiting(t, l, 10)
	if _, err := l.Append(t.Context(), entries(4, 1)); !errors.As(err, &busy) || busy.RetryAfter < leastRetry {
		t.Errorf("Append to a full queue = %v, want a BusyError", err)
	}
	cancel() // its caller does not wait any more; its place is free when the writer has seen it
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the cancelled Append = %v", err)
	}
	close(disk)
	if err := <-answers; err != nil {
		t.Errorf("Append: %v", err)
	}
	awaitWaiting(t, l, 0)
	if receipts, err := l.Append(t.Context(), entries(5, 10)); err != nil || receipts[0].Index != 36 {
		t.Errorf("Append to a queue that is empty again = %v, %v, want index 36: nothing refused or given up was stored", receipts, err)
	}
	accesslogtest.AwaitSize(t, l, 46)
	accesslogtest.Check(t, l)
}

// hangingFile waits before each write.
type hangingFile struct {
	journalFile
	wait func()
}

func (f hangingFile) WriteAt(p []byte, off int64) (int, error) {
	f.wait()
	return f.journalFile.WriteAt(p, off)
}

// While the tree takes nothing, appends are acknowledged up to a bound, and then wait.
func TestBacklog(t *testing.T) {
	dir, key := t.TempDir(), newKey(t, origin)
	l := openDir(t, dir, key)
	tree := make(chan struct{}) // takes nothing until it is closed
	add := l.add
	l.add = func(ctx context.Context, e *tessera.Entry) tessera.IndexFuture {
		<-tree
		return add(ctx, e)
	}
	appendN(t, l, 0, 1) // which the tree is asked to take
	for l.waitingForTree() > 0 {
		runtime.Gosched()
	}
	const call = 1000
	next := 1
	for ; l.waitingForTree() < maxBacklog; next += call {
		appendN(t, l, next, call)
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		appendN(t, l, next, call)
	}()
	awaitWaiting(t, l, call)
	select {
	case <-answered:
		t.Error("an append was acknowledged beyond the bound")
	default:
	}
	close(tree)
	<-answered
	accesslogtest.AwaitSize(t, l, uint64(next+call))
	accesslogtest.Check(t, l)
}

func (l *Log) waitingForTree() int {
	l.backlog.mu.Lock()
	defer l.backlog.mu.Unlock()
	return len(l.backlog.entries)
}

// awaitWaiting waits until n entries wait to be written.
func awaitWaiting(t *testing.T, l *Log, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		l.queue.mu.Lock()
		waiting := l.queue.waiting
		l.queue.mu.Unlock()
		if waiting == n {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("%d entries wait, want %d", waiting, n)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for _, test := range []struct {
		wrote []time.Duration // for 100 entries each
		want  time.Duration
	}{
		{nil, time.Second},
		{[]time.Duration{10 * time.Millisecond}, 100 * time.Millisecond},
		{[]time.Duration{time.Second}, 2 * time.Second},
		{[]time.Duration{time.Second, 9 * time.Second}, 4 * time.Second}, // an eighth of the way to 18 s
		{[]time.Duration{time.Hour}, 30 * time.Second},
	} {
		q := &queue{most: 200}
		if err := q.enter(200); err != nil {
			t.Fatal(err)
		}
		for _, took := range test.wrote {
			q.wrote(100, took)
		}
		var busy *accesslog.BusyError
		if err := q.enter(1); !errors.As(err, &busy) || busy.RetryAfter != test.want {
			t.Errorf("after %v: %v, want %s", test.wrote, err, test.want)
		}
	}
}
