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

	// unsureFor is how long a failed append may take to show in the log after all.
	// Until then and until the index has seen the log, its uses count.
	unsureFor = 30 * time.Second

	// maxUnindexed bounds the records that the index has not seen yet. Beyond it
	// nothing is logged: an index that far behind has stopped.
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
	indexed counts
	own     []*use // not known to be in the index
	pending counts // of own
}

// counts are uses in all, by day (see dayOf) and by minute, both in Unix seconds.
type counts struct {
	total   int64
	days    map[int64]int64
	minutes map[int64]int64
}

func (c *counts) add(s slot, n int64) {
	if c.days == nil {
		c.days, c.minutes = make(map[int64]int64), make(map[int64]int64)
	}
	c.total += n
	c.days[s.day] += n
	c.minutes[s.minute] += n
}

// slot is the day and the minute in which a use counts, in Unix seconds: those of
// the call.
type slot struct{ day, minute int64 }

func slotOf(at time.Time) slot {
	return slot{dayOf(at).Unix(), at.Truncate(time.Minute).Unix()}
}

// use is one use that this process appended or is about to.
type use struct {
	tally   *tally
	slot    slot
	index   uint64    // in the log, or unknownIndex
	until   time.Time // with unknownIndex and not zero: see [calls.cleared]
	dropped bool      // counts no more
}

// drop takes back a use that was not appended.
func (u *use) drop() {
	u.dropped = true
	u.tally.pending.add(u.slot, -1)
}

// used answers the uses in all, and in the day and minute of a slot.
func (t *tally) used(s slot) domain.Used {
	return domain.Used{
		Total:      t.indexed.total + t.pending.total,
		Today:      t.indexed.days[s.day] + t.pending.days[s.day],
		LastMinute: t.indexed.minutes[s.minute] + t.pending.minutes[s.minute],
	}
}

// reserve counts a use that is about to be appended.
func (t *tally) reserve(s slot) *use {
	u := &use{tally: t, slot: s, index: unknownIndex}
	t.own = append(t.own, u)
	t.pending.add(s, 1)
	return u
}

// demand is what one batch releases under a grant in one direction.
type demand struct {
	perMinute int64
	slots     map[slot]int64
	days      map[int64]int64
}

// crowded answers the minutes in which the grant's frequency might be reached.
// In a day with fewer uses than one minute may have there is none.
func (t *tally) crowded(d demand) []int64 {
	var minutes []int64
	for s := range d.slots {
		if t.used(s).Today+d.days[s.day] > d.perMinute {
			minutes = append(minutes, s.minute)
		}
	}
	return minutes
}

// prepare sees to it that the tally can be used at now for a demand.
func (t *tally) prepare(ctx context.Context, ix index.Index, key tallyKey, now, cleared time.Time, d demand) error {
	for {
		minutes := t.crowded(d)
		if t.fresh(now, d, minutes) {
			return nil
		}
		if err := t.read(ctx, ix, key, now, cleared, d, minutes); err != nil {
			return err
		}
	}
}

// fresh reports whether the tally can be used at now for the days of a demand and
// for minutes.
func (t *tally) fresh(now time.Time, d demand, minutes []int64) bool {
	if age := now.Sub(t.readAt); t.readAt.IsZero() || age < 0 || age > tallyFor {
		return false
	}
	for day := range d.days {
		if _, ok := t.indexed.days[day]; !ok {
			return false
		}
	}
	for _, minute := range minutes {
		if _, ok := t.indexed.minutes[minute]; !ok {
			return false
		}
	}
	return true
}

// read counts the index again, for the days of a demand and for minutes, and
// forgets own uses that it has.
func (t *tally) read(ctx context.Context, ix index.Index, key tallyKey, now, cleared time.Time, d demand, minutes []int64) error {
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
		if indexed, err = countUses(ctx, ix, key, d, minutes); err != nil {
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
	t.readAt, t.indexed = now, indexed
	t.own = slices.DeleteFunc(t.own, func(u *use) bool {
		if u.index == unknownIndex {
			return u.dropped || !u.until.IsZero() && cleared.After(u.until)
		}
		return u.index < asOf
	})
	t.pending = counts{}
	for _, u := range t.own {
		t.pending.add(u.slot, 1)
	}
	return nil
}

// countUses asks the index for the uses in all, on each day of a demand and in
// each of minutes. The index counts from a moment on, so a day and a minute are
// differences.
func countUses(ctx context.Context, ix index.Index, key tallyKey, d demand, minutes []int64) (counts, error) {
	c := counts{days: make(map[int64]int64, len(d.days)), minutes: make(map[int64]int64, len(minutes))}
	between := func(start int64, length time.Duration) (int64, error) {
		from := time.Unix(start, 0).UTC()
		total, sinceStart, sinceEnd, err := ix.GrantUse(ctx, key.grant, key.direction, from, from.Add(length))
		c.total = total
		return sinceStart - sinceEnd, err
	}
	var err error
	for day := range d.days {
		if c.days[day], err = between(day, 24*time.Hour); err != nil {
			return counts{}, err
		}
	}
	for _, minute := range minutes {
		if c.minutes[minute], err = between(minute, time.Minute); err != nil {
			return counts{}, err
		}
	}
	return c, nil
}

// admit checks every fresh record of b against its grant and reserves the uses of
// all if none is refused. The quota counts what the batch itself uses, too.
func (a *Access) admit(ctx context.Context, b *batch) ([]refusal, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.refresh(ctx, b); err != nil {
		return nil, err
	}
	var refusals []refusal
	batchUse := make(map[tallyKey]*counts)
	for _, i := range b.fresh {
		r := b.records[i]
		grant := b.grants[r.GrantID]
		if grant == nil {
			err := &domain.Error{Kind: domain.Forbidden, Msg: fmt.Sprintf("there is no grant %s", r.GrantID)}
			refusals = append(refusals, refusal{record: i, err: err})
			continue
		}
		var used domain.Used
		key, s := tallyKey{r.GrantID, r.Direction}, slotOf(r.At)
		releases := r.Result == domain.ResultOK
		if releases {
			if batchUse[key] == nil {
				batchUse[key] = new(counts)
			}
			used = a.tallies[key].used(s)
			used.Total += batchUse[key].total
			used.Today += batchUse[key].days[s.day]
			used.LastMinute += batchUse[key].minutes[s.minute]
		}
		if err := domain.Admit(*grant, r, used); err != nil {
			refusals = append(refusals, refusal{i, asRefusal(err), used})
		} else if releases {
			batchUse[key].add(s, 1)
		}
	}
	if len(refusals) > 0 {
		return refusals, nil
	}
	b.uses = make([]*use, len(b.fresh))
	for j, i := range b.fresh {
		if r := b.records[i]; r.Result == domain.ResultOK {
			b.uses[j] = a.tallies[tallyKey{r.GrantID, r.Direction}].reserve(slotOf(r.At))
		}
	}
	return nil, nil
}

// refresh prepares the tallies that the batch needs. Requires a.mu.
func (a *Access) refresh(ctx context.Context, b *batch) error {
	demands := make(map[tallyKey]demand)
	for _, i := range b.fresh {
		r := b.records[i]
		grant := b.grants[r.GrantID]
		if r.Result != domain.ResultOK || grant == nil {
			continue
		}
		key, s := tallyKey{r.GrantID, r.Direction}, slotOf(r.At)
		if _, ok := demands[key]; !ok {
			demands[key] = demand{grant.Quota.PerMinute, make(map[slot]int64), make(map[int64]int64)}
		}
		demands[key].slots[s]++
		demands[key].days[s.day]++
	}
	cleared := a.calls.clearedAt()
	for key, d := range demands {
		t := a.tallies[key]
		if t == nil {
			t = new(tally)
			a.tallies[key] = t
		}
		if err := t.prepare(ctx, a.index, key, b.now, cleared, d); err != nil {
			return err
		}
	}
	return nil
}

// settle says what became of the reserved uses of a batch.
func (a *Access) settle(uses []*use, say func(j int, u *use)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for j, u := range uses {
		if u != nil {
			say(j, u)
		}
	}
}
