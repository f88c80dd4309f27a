package service

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/accesslog"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/proof"
)

// pruneEvery is how often calls that the index has by now are forgotten.
const pruneEvery = 200 * time.Millisecond

// callKey names a record: each side of a share logs its own of a call.
type callKey struct {
	id        string
	direction domain.Direction
}

func keyOf(r domain.AccessRecord) callKey { return callKey{r.CallID, r.Direction} }

// call is what is known of a record that was presented: a batch has it in
// flight, it is logged, or its append failed and nobody knows yet.
type call struct {
	by *batch // that has it in flight; nil otherwise

	logged   bool
	receipt  accesslog.Receipt
	loggedAt time.Time // of the record in the log
	grantSeq int       // the same

	until time.Time // not in flight and not logged: may be in the log, see [calls.cleared]
}

func (c *call) settle(r accesslog.Receipt, loggedAt time.Time, grantSeq int) {
	c.by, c.logged, c.receipt, c.loggedAt, c.grantSeq = nil, true, r, loggedAt, grantSeq
}

// holds reports whether r is the record that was logged, but for what the log
// itself sets.
func (c *call) holds(r domain.AccessRecord) (bool, error) {
	r.LoggedAt, r.GrantSeq = c.loggedAt, c.grantSeq
	entry, err := domain.Canonical(r)
	if err != nil {
		return false, fmt.Errorf("encode access record: %w", err)
	}
	leaf := proof.LeafHash(entry)
	return bytes.Equal(leaf[:], c.receipt.LeafHash), nil
}

// calls knows the records of this process that the index may not have yet.
type calls struct {
	mu       sync.Mutex
	known    map[callKey]*call
	prunedAt time.Time

	// cleared is the last moment of which the index is known to have all that the
	// log had. A failed append that ended well before it is in the index or nowhere.
	cleared time.Time
}

// batch is what one [Access.Record] logs.
type batch struct {
	now     time.Time
	records []domain.AccessRecord
	calls   []*call                  // of each record; two equal ones share theirs
	fresh   []int                    // the places of the records that are to be logged
	grants  map[string]*domain.Grant // that these name; nil where there is none
	uses    []*use                   // of each fresh record; nil where it releases nothing
	done    chan struct{}            // closed when none of the calls is in flight by it
}

func newBatch(records []domain.AccessRecord, now time.Time) *batch {
	return &batch{now: now, records: records, calls: make([]*call, len(records)), done: make(chan struct{})}
}

// take claims the calls of b that nobody knows. When another batch has one of
// them in flight it claims none and answers that batch's end.
func (c *calls) take(b *batch) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range b.records {
		if k := c.known[keyOf(r)]; k != nil && k.by != nil {
			return k.by.done
		}
	}
	for i, r := range b.records {
		k := c.known[keyOf(r)]
		if k == nil || k.by == nil && !k.logged && c.cleared.After(k.until) {
			k = &call{by: b}
			c.known[keyOf(r)] = k
			b.fresh = append(b.fresh, i)
		}
		b.calls[i] = k
	}
	return nil
}

// release ends b: what it still has in flight was not logged.
func (c *calls) release(b *batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, k := range b.calls {
		if k != nil && k.by == b {
			delete(c.known, keyOf(b.records[i]))
		}
	}
	close(b.done)
}

// logged says where the fresh calls of b lie and ends b.
func (c *calls) logged(b *batch, receipts []accesslog.Receipt) {
	c.mu.Lock()
	for j, i := range b.fresh {
		b.calls[i].settle(receipts[j], b.now, b.records[i].GrantSeq)
	}
	c.mu.Unlock()
	c.release(b)
}

// unsure says that the fresh calls of b may be in the log or not, and ends b.
func (c *calls) unsure(b *batch, until time.Time) {
	c.mu.Lock()
	for _, i := range b.fresh {
		b.calls[i].by, b.calls[i].until = nil, until
	}
	c.mu.Unlock()
	c.release(b)
}

// due reports whether it is time to prune before n more calls come.
func (c *calls) due(now time.Time, n, most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	age := now.Sub(c.prunedAt)
	return age < 0 || age >= pruneEvery || len(c.known)+n > most
}

// prune forgets the calls that an index with indexed log entries has. It answers
// how many are left, and whether some wait to be cleared.
func (c *calls) prune(indexed uint64, now time.Time) (left int, uncleared bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.prunedAt = now
	maps.DeleteFunc(c.known, func(_ callKey, k *call) bool {
		switch {
		case k.logged:
			return k.receipt.Index < indexed
		case k.by == nil:
			uncleared = uncleared || now.After(k.until)
			return c.cleared.After(k.until)
		}
		return false
	})
	return len(c.known), uncleared
}

func (c *calls) clear(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cleared = now
}

func (c *calls) clearedAt() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cleared
}

// claim answers a batch whose calls nobody else has in flight, and of which those
// that were logged before are known. It must be ended.
func (a *Access) claim(ctx context.Context, records []domain.AccessRecord, now time.Time) (*batch, error) {
	if err := a.prune(ctx, len(records), now); err != nil {
		return nil, err
	}
	b := newBatch(records, now)
	for wait := a.calls.take(b); wait != nil; wait = a.calls.take(b) {
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a call that is being logged: %w", ctx.Err())
		}
	}
	err := a.lookUp(ctx, b)
	if err == nil {
		err = checkRepeats(b)
	}
	if err != nil {
		a.calls.release(b)
		return nil, err
	}
	return b, nil
}

// prune bounds what is logged and not indexed. An index that far behind has
// stopped: nothing more is logged until it goes on.
func (a *Access) prune(ctx context.Context, n int, now time.Time) error {
	if !a.calls.due(now, n, a.mostUnindexed) {
		return nil
	}
	indexed, err := a.index.NextAccess(ctx)
	if err != nil {
		return fmt.Errorf("read number of indexed access records: %w", err)
	}
	left, uncleared := a.calls.prune(indexed, now)
	if left+n > a.mostUnindexed {
		return &BusyError{RetryAfter: time.Second}
	}
	if !uncleared {
		return nil
	}
	checkpoint, err := a.log.Checkpoint(ctx)
	if err != nil {
		return fmt.Errorf("read the access log's checkpoint: %w", err)
	}
	if indexed >= checkpoint.Size {
		a.calls.clear(now)
	}
	return nil
}

// lookUp finds the calls of b in the index that this process does not know.
func (a *Access) lookUp(ctx context.Context, b *batch) error {
	found := make(map[callKey]index.AccessEntry)
	for direction, ids := range a.calls.unknown(b) {
		entries, err := a.index.FindCalls(ctx, ids, direction)
		if err != nil {
			return fmt.Errorf("look for calls that are logged: %w", err)
		}
		for _, e := range entries {
			if newest, ok := found[keyOf(e.Record)]; !ok || e.Index > newest.Index {
				found[keyOf(e.Record)] = e
			}
		}
	}
	return a.calls.resolve(b, found)
}

// unknown answers the calls of b that are not known to be logged.
func (c *calls) unknown(b *batch) map[domain.Direction][]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := make(map[domain.Direction][]string)
	for i, k := range b.calls {
		if !k.logged {
			r := b.records[i]
			ids[r.Direction] = append(ids[r.Direction], r.CallID)
		}
	}
	return ids
}

// resolve takes from what b is to log the calls that were found. One that may be
// in the log and is not found yet cannot be answered: logged again it could be
// there twice.
func (c *calls) resolve(b *batch, found map[callKey]index.AccessEntry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	fresh := b.fresh
	b.fresh = nil
	for i, k := range b.calls {
		mine := len(fresh) > 0 && fresh[0] == i
		if mine {
			fresh = fresh[1:]
		}
		e, ok := found[keyOf(b.records[i])]
		switch {
		case k.logged: // by this process, or found at an earlier place of the batch
		case ok && !(b.records[i].Result == domain.ResultOK && ownRefusal(e.Record.Result)):
			// The index has it: nobody needs to be told by this process.
			if c.known[keyOf(b.records[i])] == k {
				delete(c.known, keyOf(b.records[i]))
			}
			k.settle(accesslog.Receipt{Index: e.Index, LeafHash: e.LeafHash}, e.Record.LoggedAt, e.Record.GrantSeq)
		case mine:
			b.fresh = append(b.fresh, i)
		case k.by == nil:
			return &BusyError{RetryAfter: max(k.until.Sub(b.now), time.Second)}
		}
	}
	return nil
}

// checkRepeats refuses records whose call is known with other content.
func checkRepeats(b *batch) error {
	if len(b.fresh) == len(b.records) {
		return nil
	}
	first := make(map[*call]int, len(b.fresh))
	for _, i := range b.fresh {
		first[b.calls[i]] = i
	}
	var refused RefusedError
	for i, r := range b.records {
		k := b.calls[i]
		place, fresh := first[k]
		if fresh && place == i {
			continue
		}
		same, where := false, fmt.Sprintf("is record %d of the batch too", place)
		var err error
		if fresh {
			same, err = equalRecords(r, b.records[place])
		} else {
			same, err = k.holds(r)
			where = fmt.Sprintf("is logged at index %d", k.receipt.Index)
		}
		if err != nil {
			return err
		}
		if !same {
			refused.Refusals = append(refused.Refusals, Refusal{Record: i, Err: &domain.Error{
				Kind: domain.Exists, Msg: fmt.Sprintf("call %s %s, with other content", r.CallID, where),
			}})
		}
	}
	if len(refused.Refusals) > 0 {
		return &refused
	}
	return nil
}

func equalRecords(a, b domain.AccessRecord) (bool, error) {
	x, err := domain.Canonical(a)
	if err != nil {
		return false, fmt.Errorf("encode access record: %w", err)
	}
	y, err := domain.Canonical(b)
	if err != nil {
		return false, fmt.Errorf("encode access record: %w", err)
	}
	return bytes.Equal(x, y), nil
}
