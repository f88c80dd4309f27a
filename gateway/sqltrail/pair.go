package sqltrail

import (
	"cmp"
	"context"
	"database/sql"
	"slices"

	"github.com/zhenglian/zhenglian/gateway/trail"
)

// States of a call, as stored. They are the columns of pair_days in order.
const (
	stateBoth = iota
	stateProviderOnly
	stateConsumerOnly
	stateContradicting
)

var states = [...]trail.CallState{trail.CallBoth, trail.CallProviderOnly, trail.CallConsumerOnly, trail.CallContradicting}

// callKey is what the two sides of a call have in common.
type callKey struct {
	id                 int64 // digest
	provider, consumer string
}

func keyOf(e entry) callKey {
	return callKey{e.call, string(e.record.Provider), string(e.record.Consumer)}
}

// said is what the record of a side says that is compared; n is its row, null
// without one.
type said struct {
	n         sql.Null[int64]
	at, facts int64
	refused   bool // the next record is compared in its place; see [Store.findRefusals]
}

type call struct {
	provider, consumer said
	repeated           bool
}

func (c *call) side(side int64) *said {
	if side == sideConsumer {
		return &c.consumer
	}
	return &c.provider
}

// hear adds what a side says.
func (c *call) hear(side int64, words said) {
	to := c.side(side)
	if to.n.Valid && !to.refused {
		c.repeated = true
		return
	}
	*to = words
}

func (c call) state() int64 {
	switch {
	case c.repeated:
		return stateContradicting
	case !c.consumer.n.Valid:
		return stateProviderOnly
	case !c.provider.n.Valid:
		return stateConsumerOnly
	case c.provider.facts != c.consumer.facts || trail.Apart(c.provider.at, c.consumer.at):
		return stateContradicting
	}
	return stateBoth
}

func (c call) at() int64 {
	if c.provider.n.Valid {
		return c.provider.at
	}
	return c.consumer.at
}

type pairDay struct{ provider, consumer, day string }

// tally is how the counts of a day change, by state.
type tally map[pairDay]*[len(states)]int64

func (t tally) add(k callKey, day string, state, n int64) {
	p := pairDay{k.provider, k.consumer, day}
	if t[p] == nil {
		t[p] = new([len(states)]int64)
	}
	t[p][state] += n
}

// pair pairs the rows, whose numbers begin with n, with what other logs say of the
// same calls.
func (s *Store) pair(ctx context.Context, tx writing, rows []entry, n int64) error {
	changes := tally{}
	calls, err := s.findCalls(ctx, tx, rows, changes)
	if err != nil {
		return err
	}
	if err := s.findRefusals(ctx, tx, rows, calls); err != nil {
		return err
	}
	for i, e := range rows {
		k := keyOf(e)
		c := calls[k]
		if c == nil {
			c = &call{}
			calls[k] = c
		}
		c.hear(e.side, said{sql.Null[int64]{V: n + int64(i), Valid: true}, e.at, e.facts, trail.Refused(e.record.Result)})
	}
	if err := s.storeCalls(ctx, tx, calls, changes); err != nil {
		return err
	}
	return s.storePairDays(ctx, tx, changes)
}

// findCalls answers what is stored of the rows' calls and takes it off the counts.
func (s *Store) findCalls(ctx context.Context, tx writing, rows []entry, changes tally) (map[callKey]*call, error) {
	calls := make(map[callKey]*call, len(rows))
	wanted := make(map[callKey]bool, len(rows))
	ids := make([]int64, len(rows))
	for i, e := range rows {
		ids[i] = e.call
		wanted[keyOf(e)] = true
	}
	slices.Sort(ids) // along the index
	stmt := tx.StmtContext(ctx, s.write.findCalls)
	for some := range slices.Chunk(slices.Compact(ids), chunk) {
		args := make([]any, chunk)
		for i := range args {
			args[i] = some[min(i, len(some)-1)]
		}
		found, err := stmt.QueryContext(ctx, args...)
		if err != nil {
			return nil, err
		}
		err = each(found, func(scan func(...any) error) error {
			var k callKey
			var c call
			var state int64
			var day string
			var repeated int64
			err := scan(&k.id, &k.provider, &k.consumer, &state, &day, &repeated,
				&c.provider.n, &c.provider.at, &c.provider.facts, &c.consumer.n, &c.consumer.at, &c.consumer.facts)
			if err != nil || !wanted[k] { // others can use the same identifier
				return err
			}
			c.repeated = repeated != 0
			calls[k] = &c
			changes.add(k, day, state, -1)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return calls, nil
}

// findRefusals finds out which of the stored records that the rows follow are
// refusals. It is seldom that a side says something again.
func (s *Store) findRefusals(ctx context.Context, tx writing, rows []entry, calls map[callKey]*call) error {
	followed := make(map[int64]*said)
	var numbers []any
	for _, e := range rows {
		if c := calls[keyOf(e)]; c != nil {
			if words := c.side(e.side); words.n.Valid && followed[words.n.V] == nil {
				followed[words.n.V] = words
				numbers = append(numbers, words.n.V)
			}
		}
	}
	for some := range slices.Chunk(numbers, chunk) {
		found, err := tx.QueryContext(ctx, s.text(`SELECT n, result FROM access WHERE n IN `+marks(len(some))), some...)
		if err != nil {
			return err
		}
		err = each(found, func(scan func(...any) error) error {
			var n int64
			var result string
			err := scan(&n, &result)
			if err == nil {
				followed[n].refused = trail.Refused(result)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// storeCalls stores calls and counts them.
func (s *Store) storeCalls(ctx context.Context, tx writing, calls map[callKey]*call, changes tally) error {
	keys := make([]callKey, 0, len(calls))
	for k := range calls {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b callKey) int {
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.provider, b.provider), cmp.Compare(a.consumer, b.consumer))
	})
	args := make([]any, 0, len(keys)*callColumns)
	for _, k := range keys {
		c := calls[k]
		state, day := c.state(), trail.Day(timeOf(c.at()))
		repeated := int64(0)
		if c.repeated {
			repeated = 1
		}
		args = append(args, k.id, k.provider, k.consumer, state, day, c.at(), repeated,
			c.provider.n, c.provider.at, c.provider.facts, c.consumer.n, c.consumer.at, c.consumer.facts)
		changes.add(k, day, state, 1)
	}
	return s.write.call.insert(ctx, tx, args)
}

func (s *Store) storePairDays(ctx context.Context, tx writing, changes tally) error {
	var args []any
	for p, n := range changes {
		if *n != [len(states)]int64{} {
			args = append(args, p.provider, p.consumer, p.day, n[stateBoth], n[stateProviderOnly], n[stateConsumerOnly], n[stateContradicting])
		}
	}
	return s.write.pairDay.insert(ctx, tx, args)
}
