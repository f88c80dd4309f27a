package service

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

const (
	// tallyFor is how long a tally goes on from its own counting before it is
	// read from the index again.
	tallyFor = 5 * time.Second

	// unsureFor is how long a use counts whose append failed: it may be in the
	// log, and by then the index says so.
	unsureFor = 30 * time.Second

	// maxUnindexed bounds the uses that the index has not seen yet. Beyond it
	// nothing is admitted: an index that far behind has stopped.
	maxUnindexed = 200_000

	// unknownIndex stands for the place in the log of a use whose append has not
	// ended, or has failed.
	unknownIndex = ^uint64(0)
)

// beijing is the time zone in which a day of a quota begins, for all of China.
var beijing = time.FixedZone("UTC+8", 8*60*60)

// dayOf answers the first moment of t's day.
func dayOf(t time.Time) time.Time {
	y, m, d := t.In(beijing).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, beijing)
}

// tallyKey names what a quota counts: each side of a share logs its own record
// of a call.
type tallyKey struct {
	grant     string
	direction domain.Direction
}

// tally counts the uses of one grant in one direction: those that the index has
// and, from this process' own appends, those that it has not yet. A quota can
// then not be overrun while the index lags, since this process alone appends to
// the log.
type tally struct {
	readAt  time.Time
	asOf    uint64 // the index had at least so many log entries
	indexed counts
	own     []*use // not known to be in the index
	pending counts // of own
}

// counts are uses in all and by day (see dayOf), in Unix seconds.
type counts struct {
	total int64
	days  map[int64]int64
}

func (c *counts) add(day int64) {
	if c.days == nil {
		c.days = make(map[int64]int64)
	}
	c.total++
	c.days[day]++
}

// use is one use that this process appended or is about to.
type use struct {
	day   int64
	index uint64    // in the log, or unknownIndex
	until time.Time // with unknownIndex and not zero: counts until then
}

// used answers the uses in all and on a day.
func (t *tally) used(day int64) (total, today int64) {
	return t.indexed.total + t.pending.total, t.indexed.days[day] + t.pending.days[day]
}

// reserve counts a use that is about to be appended.
func (t *tally) reserve(day int64) *use {
	u := &use{day: day, index: unknownIndex}
	t.own = append(t.own, u)
	t.pending.add(day)
	return u
}

// fresh reports whether the tally can be used at now for days.
func (t *tally) fresh(now time.Time, days []int64) bool {
	if age := now.Sub(t.readAt); t.readAt.IsZero() || age < 0 || age > tallyFor {
		return false
	}
	for _, d := range days {
		if _, ok := t.indexed.days[d]; !ok {
			return false
		}
	}
	return true
}

// read counts the index again, for days, and forgets own uses that it has.
func (t *tally) read(ctx context.Context, ix index.Index, key tallyKey, now time.Time, days []int64) error {
	var indexed counts
	var asOf uint64
	// The number of entries is read before and after, so that a count belongs to
	// it exactly. Under a steady stream it may never do so: then a use may count
	// twice until the next reading, which errs on the side of the quota.
	for range 3 {
		var err error
		if asOf, err = ix.NextAccess(ctx); err != nil {
			return fmt.Errorf("count uses of grant %s: %w", key.grant, err)
		}
		if indexed, err = countUses(ctx, ix, key, days); err != nil {
			return fmt.Errorf("count uses of grant %s: %w", key.grant, err)
		}
		after, err := ix.NextAccess(ctx)
		if err != nil {
			return fmt.Errorf("count uses of grant %s: %w", key.grant, err)
		}
		if after == asOf {
			break
		}
	}
	t.readAt, t.asOf, t.indexed = now, asOf, indexed
	t.own = slices.DeleteFunc(t.own, func(u *use) bool {
		if u.index == unknownIndex {
			return !u.until.IsZero() && now.After(u.until)
		}
		return u.index < asOf
	})
	t.pending = counts{}
	for _, u := range t.own {
		t.pending.add(u.day)
	}
	return nil
}

// countUses asks the index for the uses in all and on each of days. The index
// counts from a moment on, so a day is a difference.
func countUses(ctx context.Context, ix index.Index, key tallyKey, days []int64) (counts, error) {
	c := counts{days: make(map[int64]int64, len(days))}
	for _, day := range days {
		start := time.Unix(day, 0)
		total, from, err := ix.GrantUse(ctx, key.grant, key.direction, start.UTC())
		if err != nil {
			return counts{}, err
		}
		_, after, err := ix.GrantUse(ctx, key.grant, key.direction, start.AddDate(0, 0, 1).UTC())
		if err != nil {
			return counts{}, err
		}
		c.total, c.days[day] = total, from-after
	}
	return c, nil
}
