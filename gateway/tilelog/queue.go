package tilelog

import (
	"sync"
	"time"

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
