package service

import (
	"context"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/gateway/accesslog"
)

// anchorPoll is how often the last anchor is looked at while somebody waits.
const anchorPoll = 20 * time.Millisecond

// anchorWatch tells all who wait when the log's anchor moves. One look serves
// them all.
type anchorWatch struct {
	anchored func() (accesslog.Anchored, bool)
	bound    time.Duration // nobody waits longer

	mu    sync.Mutex
	moved chan struct{} // closed when the anchor has moved; nil when nobody looks
}

func (w *anchorWatch) size() uint64 {
	a, _ := w.anchored() // the zero value before the first
	return a.Size
}

// await waits until the log is anchored up to size, at most the bound, and
// answers the size that is anchored.
func (w *anchorWatch) await(ctx context.Context, size uint64) uint64 {
	ctx, cancel := context.WithTimeout(ctx, w.bound)
	defer cancel()
	for {
		moved := w.watch()
		if anchored := w.size(); anchored >= size {
			return anchored
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return w.size()
		}
	}
}

// watch answers a channel that is closed once the anchor moves, or the bound has
// passed without.
func (w *anchorWatch) watch() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.moved == nil {
		w.moved = make(chan struct{})
		go w.look(w.size())
	}
	return w.moved
}

func (w *anchorWatch) look(from uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), w.bound)
	defer cancel()
	for w.size() == from {
		if !pause(ctx, anchorPoll) {
			break
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.moved)
	w.moved = nil
}

// awaitAnchor waits for the anchor that covers the receipts which must be
// anchored, all of them or those that must names, and writes its size into all
// that it covers.
func (a *Access) awaitAnchor(ctx context.Context, receipts []AccessReceipt, all bool, must []bool) error {
	var size uint64
	for i, r := range receipts {
		if all || must[i] {
			size = max(size, r.Index+1)
		}
	}
	if size == 0 {
		return nil
	}
	anchored := a.anchors.await(ctx, size)
	for i := range receipts {
		if receipts[i].Index < anchored {
			receipts[i].AnchoredSize = anchored
		}
	}
	if anchored < size {
		return &NotAnchoredError{Receipts: receipts}
	}
	return nil
}
