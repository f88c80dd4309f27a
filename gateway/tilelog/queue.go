package tilelog

import (
	"sync"
	"time"

	"github.com/transparency-dev/tessera"

	"github.com/zhenglian/zhenglian/gateway/accesslog"
)

const (
	leastRetry = 100 * time.Millisecond
	mostRetry  = 30 * time.Second
)

// queue counts the entries between their Append and the end of their group. It
// holds no more than most, but for an append that finds it empty, so that one
// larger than most is possible too. Every append has an entry at least: a channel
// of most appends never is too short.
type queue struct {
	most int

	mu       sync.Mutex
	waiting  int
	perEntry time.Duration // that an entry took lately; 0: none was written yet
}

// enter lets n entries in, or says how long the waiting ones will take.
func (q *queue) enter(n int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting > 0 && q.waiting+n > q.most {
		after := time.Duration(q.waiting) * q.perEntry
		if q.perEntry == 0 {
			after = time.Second
		}
		return &accesslog.BusyError{RetryAfter: min(max(after, leastRetry), mostRetry).Round(time.Millisecond)}
	}
	q.waiting += n
	return nil
}

// leave ends the wait of n entries, written or not.
func (q *queue) leave(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting -= n
}

// wrote says how long n entries took: a moving mean over some eight groups.
func (q *queue) wrote(n int, took time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	each := took / time.Duration(n)
	if q.perEntry == 0 {
		q.perEntry = each
	}
	q.perEntry += (each - q.perEntry) / 8
}

// backlog is the entries that are in the journal and not yet in the tree, in order.
type backlog struct {
	mu      sync.Mutex
	changed *sync.Cond // of mu
	entries []*tessera.Entry
	over    bool // nothing comes any more, or nothing is taken
}

func newBacklog() *backlog {
	b := &backlog{}
	b.changed = sync.NewCond(&b.mu)
	return b
}

// awaitRoom waits while there are too many, so that those who append wait too, and
// more of them are refused.
func (b *backlog) awaitRoom() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.entries) >= maxBacklog && !b.over {
		b.changed.Wait()
	}
}

func (b *backlog) add(entries []*tessera.Entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries = append(b.entries, entries...)
	b.changed.Broadcast()
}

// take waits for entries and answers the first, at most n; none when there are none
// and none come any more.
func (b *backlog) take(n int) []*tessera.Entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.entries) == 0 && !b.over {
		b.changed.Wait()
	}
	n = min(n, len(b.entries))
	taken := b.entries[:n:n]
	if b.entries = b.entries[n:]; len(b.entries) == 0 {
		b.entries = nil // keeps no entry in memory
	}
	b.changed.Broadcast()
	return taken
}

// end says that nothing comes any more, or that nothing is taken any more.
func (b *backlog) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	b.changed.Broadcast()
}
