package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/cache"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

const (
	// contactEvery is how often the departments are asked how far they are. No
	// blocks for a while may mean that nothing was written or that this gateway
	// is cut off; only asking tells the two apart. On a machine with four departments
	// a question costs everybody 2 ms of processor time.
	contactEvery = time.Second

	// contactWait bounds how long a contact waits for the departments to answer,
	// and then for the index to have what they have.
	contactWait = 2 * time.Second

	// FreshFor is how old the last contact with the ledger may be for the index
	// to speak for the present.
	FreshFor = 10 * time.Second
)

// Indexer keeps the index at the head of the ledger: it applies blocks as they
// come, forgets cached answers that a block made untrue, and knows when it last
// was certain to have everything.
type Indexer struct {
	ledger ledger.Reader
	index  index.Index
	cache  cache.Cache
	log    *slog.Logger
	clock  func() time.Time
	every  time.Duration

	heard  atomic.Pointer[time.Time]
	behind int // consecutive contacts that found the index ahead; used by watch only
}

// NewIndexer returns an indexer that has not started; see [Indexer.Run].
func NewIndexer(l ledger.Reader, ix index.Index, c cache.Cache, log *slog.Logger) *Indexer {
	return &Indexer{ledger: l, index: ix, cache: c, log: log, clock: time.Now, every: contactEvery} //nolint:forbidigo // the clock that tests replace
}

// Run follows the ledger until ctx ends, reconnecting for ever, and then answers
// ctx's error.
func (x *Indexer) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { x.follow(ctx) })
	wg.Go(func() { x.watch(ctx) })
	wg.Wait()
	return ctx.Err()
}

// LastHeard answers the last moment at which enough departments were asked for
// their heights and the index came to have as many blocks. It is the zero time
// before the first.
func (x *Indexer) LastHeard() time.Time {
	if t := x.heard.Load(); t != nil {
		return *t
	}
	return time.Time{}
}

// fresh reports whether an index that was last known to be current at heard
// speaks for now.
func fresh(heard, now time.Time) bool {
	return !heard.IsZero() && now.Sub(heard) <= FreshFor
}

// follow applies blocks for ever.
func (x *Indexer) follow(ctx context.Context) {
	pauses := newBackoff()
	for ctx.Err() == nil {
		applied, err := x.stream(ctx)
		if ctx.Err() != nil {
			return
		}
		if applied > 0 {
			pauses.Reset()
		}
		wait := pauses.NextBackOff()
		x.log.Warn("block stream broke", "error", err, "applied", applied, "retryIn", wait)
		if !pause(ctx, wait) {
			return
		}
	}
}

// stream applies blocks until the stream breaks, and says how many.
func (x *Indexer) stream(ctx context.Context) (applied int, err error) {
	from, err := x.index.NextBlock(ctx)
	if err != nil {
		return 0, fmt.Errorf("read next block number: %w", err)
	}
	last := ""
	if from > 0 {
		b, err := x.index.Block(ctx, from-1)
		if err != nil {
			return 0, fmt.Errorf("read indexed block %d: %w", from-1, err)
		}
		last = b.Hash
	}
	err = x.ledger.Blocks(ctx, from, func(b domain.Block) error {
		// An index left over from another ledger would mix two histories.
		if b.Number > 0 && b.PreviousHash != last {
			return fmt.Errorf("block %d does not follow indexed block %d: the index belongs to another ledger; delete it to rebuild it from block 0", b.Number, b.Number-1)
		}
		if err := x.index.ApplyBlock(ctx, b); err != nil {
			return fmt.Errorf("apply block %d: %w", b.Number, err)
		}
		keys, err := x.staleKeys(ctx, b)
		if err != nil {
			return fmt.Errorf("find what block %d makes stale: %w", b.Number, err)
		}
		if len(keys) > 0 {
			x.cache.Drop(ctx, keys...)
		}
		last = b.Hash
		applied++
		return nil
	})
	if err == nil {
		err = errors.New("the stream ended")
	}
	return applied, err
}

// staleKeys answers the cache keys of the certificates of the batches whose status
// an indexed block wrote.
func (x *Indexer) staleKeys(ctx context.Context, b domain.Block) ([]string, error) {
	var keys []string
	for _, t := range b.Transactions {
		if !t.Valid() {
			continue
		}
		for _, w := range t.Writes {
			kind, id, _ := domain.ParseKey(w.Key)
			if kind != domain.KindBatchStatus {
				continue
			}
			issued, err := find[domain.IssuingBatch](ctx, x.index, domain.KindIssuingBatch, id)
			if err != nil {
				return nil, err
			}
			if issued == nil {
				continue // it is no certificate's status
			}
			for _, ref := range issued.Refs() {
				keys = append(keys, certificateCacheKey(ref))
			}
		}
	}
	return keys, nil
}

// watch asks for the departments' heights for ever.
func (x *Indexer) watch(ctx context.Context) {
	for {
		if err := x.contact(ctx); err != nil && ctx.Err() == nil {
			x.log.Warn("index is not known to be current", "error", err, "lastHeard", x.LastHeard())
		}
		if !pause(ctx, x.every) {
			return
		}
	}
}

// contact asks for the heights once and, when the index gets there in good time,
// remembers the moment of asking.
func (x *Indexer) contact(ctx context.Context) error {
	before, err := x.index.NextBlock(ctx)
	if err != nil {
		return fmt.Errorf("read next block number: %w", err)
	}
	asked := x.clock()
	head, highest, err := x.askHeights(ctx)
	if err != nil {
		return err
	}
	if highest < before {
		// One such contact is a peer that is still catching up after a restart.
		if x.behind++; x.behind >= 3 {
			return fmt.Errorf("the index has %d blocks and no department has more than %d: the index belongs to another ledger; delete it to rebuild it from block 0", before, highest)
		}
		return fmt.Errorf("no reachable department has all %d indexed blocks", before)
	}
	x.behind = 0
	if head > 0 {
		ctx, cancel := context.WithTimeout(ctx, contactWait)
		defer cancel()
		if err := x.index.WaitBlock(ctx, head-1); err != nil {
			return fmt.Errorf("wait for block %d of the departments' %d: %w", head-1, head, err)
		}
	}
	x.heard.Store(&asked)
	return nil
}

// askHeights asks within a time of its own, so that a department that does not
// answer cannot use up the index's.
func (x *Indexer) askHeights(ctx context.Context) (head, highest uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, contactWait)
	defer cancel()
	return agreedHead(x.ledger.Heights(ctx))
}

// agreedHead answers the height that the index must have reached to be current,
// and the greatest height seen.
//
// It needs the answers of so many departments that one of them took part in
// whatever block a majority could have made without the rest: one department
// cut off by itself must not believe that nothing happens. Of more answers it
// passes over the greatest, as many as the channel tolerates liars, so that one
// peer that claims a great height cannot make every gateway look behind.
func agreedHead(heights []ledger.DepartmentHeight) (head, highest uint64, err error) {
	var known []uint64
	var unreachable []error
	for _, h := range heights {
		if h.Err != nil {
			unreachable = append(unreachable, fmt.Errorf("%s: %w", h.Department, h.Err))
			continue
		}
		known = append(known, h.Height)
	}
	n := len(heights)
	majority, liars := n/2+1, max(n-1, 0)/3
	needed := n - majority + 1
	if len(known) < max(needed, 1) {
		return 0, 0, fmt.Errorf("%d of %d departments answer, %d needed: %w", len(known), n, max(needed, 1), errors.Join(unreachable...))
	}
	slices.Sort(known)
	slices.Reverse(known)
	passedOver := min(len(known)-needed, liars)
	return known[passedOver], known[0], nil
}
