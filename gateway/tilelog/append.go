package tilelog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/tessera"
	"golang.org/x/mod/sumdb/note"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/accesslog"
)

// maxEntry is the longest entry in bytes: bundles hold lengths in 16 bits.
const maxEntry = 1<<16 - 1

// ErrClosed is the error of appending to a closed log.
var ErrClosed = errors.New("the access log is closed")

// appendCall is one Append on its way to the writing goroutine.
type appendCall struct {
	ctx     context.Context
	entries []*tessera.Entry
	leaves  [][]byte   // their hashes: the entries are the integrating goroutine's in the end
	first   uint64     // index of the first entry, once they are durable
	done    chan error // buffered: the writer never waits for the caller
}

// Append implements [accesslog.Log]. When ctx ends while the entries are being
// written they may be stored or not. After a failed write it returns the error
// of that write from then on.
func (l *Log) Append(ctx context.Context, entries [][]byte) ([]accesslog.Receipt, error) {
	for i, e := range entries {
		if len(e) == 0 || len(e) > maxEntry {
			return nil, &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf("entry %d has %d bytes, allowed are 1 to %d", i, len(e), maxEntry)}
		}
	}
	if err := l.Failed(); err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		return nil, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("append %d records: %w", len(entries), err)
	}
	select {
	case <-l.closing:
		return nil, ErrClosed
	default:
	}
	if err := l.queue.enter(len(entries)); err != nil {
		return nil, err
	}
	call := &appendCall{ctx: ctx, done: make(chan error, 1)}
	for _, e := range entries { // hashed here, not by the one goroutine that writes
		entry := tessera.NewEntry(append([]byte(nil), e...))
		call.entries, call.leaves = append(call.entries, entry), append(call.leaves, entry.LeafHash())
	}
	l.appends <- call // never blocks: see queue
	select {
	case err := <-call.done:
		return call.receipts(err)
	case <-ctx.Done():
		return nil, fmt.Errorf("append %d records: %w", len(entries), ctx.Err())
	case <-l.written:
		// The writer may have answered before it ended; it leaves nothing behind unanswered otherwise.
		select {
		case err := <-call.done:
			return call.receipts(err)
		default:
			return nil, ErrClosed
		}
	}
}

func (c *appendCall) receipts(err error) ([]accesslog.Receipt, error) {
	if err != nil {
		return nil, err
	}
	receipts := make([]accesslog.Receipt, len(c.leaves))
	for i, leaf := range c.leaves {
		receipts[i] = accesslog.Receipt{Index: c.first + uint64(i), LeafHash: leaf}
	}
	return receipts, nil
}

// write takes appends from the queue, puts as many together as fit one group, and
// writes group after group until the log closes.
func (l *Log) write() {
	defer close(l.written)
	defer l.backlog.end()
	var held *appendCall // the one that did not fit
	for {
		first := held
		held = nil
		if first == nil {
			select {
			case first = <-l.appends:
			case <-l.closing:
				select {
				case first = <-l.appends: // accepted before the log closed
				default:
					return
				}
			}
		}
		group, size := []*appendCall{first}, len(first.entries)
	fill:
		for size < groupSize {
			select {
			case next := <-l.appends:
				if size+len(next.entries) > groupSize {
					held = next
					break fill
				}
				group, size = append(group, next), size+len(next.entries)
			default:
				break fill
			}
		}
		l.writeGroup(group)
	}
}

// writeGroup makes the entries of a group durable and answers its callers.
func (l *Log) writeGroup(group []*appendCall) {
	begin := time.Now()
	l.backlog.awaitRoom()
	var live []*appendCall
	var entries []*tessera.Entry
	for _, call := range group {
		if err := call.ctx.Err(); err != nil { // nobody waits for it any more
			call.done <- fmt.Errorf("append %d records: %w", len(call.entries), err)
			continue
		}
		call.first = l.next + uint64(len(entries))
		live, entries = append(live, call), append(entries, call.entries...)
	}
	err := l.Failed()
	if err == nil && len(entries) > 0 {
		if err = l.journal.append(l.next, entries, l.integrated.Load()); err != nil {
			err = l.fail(fmt.Errorf("write to the journal of access log %s: %w", l.origin, err))
		} else {
			l.next += uint64(len(entries))
			l.backlog.add(entries)
			l.queue.wrote(len(entries), time.Since(begin))
		}
	}
	for _, call := range group {
		l.queue.leave(len(call.entries))
	}
	for _, call := range live {
		call.done <- err
	}
}

// integrate adds to the tree what the journal has, until the log has closed and
// nothing is left, or a write fails.
func (l *Log) integrate() {
	defer close(l.complete)
	for {
		entries := l.backlog.take(groupSize)
		if len(entries) == 0 {
			return
		}
		if err := l.sequence(context.Background(), entries); err != nil {
			_ = l.fail(err)
			l.backlog.end() // nobody waits for room any more
			return
		}
	}
}

// sequence adds entries, at most groupSize, to the tree and returns when they are
// durable there, each at the index that it was acknowledged with.
func (l *Log) sequence(ctx context.Context, entries []*tessera.Entry) error {
	for len(entries) > 0 {
		// One batch of Tessera's, and the next when it is done: see Order.
		var futures []tessera.IndexFuture
		for begin := time.Now(); len(futures) < len(entries) && (len(futures) == 0 || time.Since(begin) < batchAge/2); {
			futures = append(futures, l.add(ctx, entries[len(futures)]))
		}
		for _, future := range futures {
			at, err := future()
			if err != nil {
				return fmt.Errorf("write to access log %s: %w", l.origin, err)
			}
			if want := l.integrated.Load(); at.Index != want {
				return fmt.Errorf("write to access log %s: entry %d was acknowledged and is entry %d of the tree", l.origin, want, at.Index)
			}
			l.integrated.Add(1)
		}
		entries = entries[len(futures):]
	}
	return nil
}

// fail makes err the answer to all that follows.
func (l *Log) fail(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = fmt.Errorf("%w; the log takes no more records until the gateway is restarted", err)
	}
	return l.failed
}

// Failed answers the failed write that ended the log, or nil. A gateway whose
// log has failed should stop.
func (l *Log) Failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// Sign implements [accesslog.Log]. It refuses a text that could pass for a
// checkpoint of the log: only the tree itself may be signed as such.
func (l *Log) Sign(text string) ([]byte, error) {
	var cp log.Checkpoint
	if _, err := cp.Unmarshal([]byte(text)); err == nil && strings.TrimSpace(cp.Origin) == l.origin {
		return nil, &domain.Error{Kind: domain.Invalid, Msg: "the text reads as a checkpoint of the log"}
	}
	signed, err := note.Sign(&note.Note{Text: text}, l.signer)
	if err != nil {
		return nil, fmt.Errorf("sign with the key of %s: %w", l.origin, err)
	}
	return signed, nil
}
