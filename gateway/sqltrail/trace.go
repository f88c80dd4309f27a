package sqltrail

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/trail"
)

// A trace walks the index of one field of its filter and tries the other fields
// on each entry walked. It ends after maxWalk entries, full or not: no page costs
// more than that.
const maxWalk = 2000

// probe is how many entries of each field are looked at to choose the one to
// walk.
const probe = 200

// position is a place in a trace.
type position struct {
	at    int64
	log   string
	index int64
}

func (p position) String() string {
	return strconv.FormatInt(p.at, 10) + " " + strconv.FormatInt(p.index, 10) + " " + p.log
}

// decodePosition answers the position that a cursor holds, nil for "".
func decodePosition(list, cursor string) (*position, error) {
	text, err := decodeCursor(list, cursor)
	if err != nil || text == "" {
		return nil, err
	}
	var p position
	if n, err := fmt.Sscanf(text, "%d %d %s", &p.at, &p.index, &p.log); n != 3 || err != nil {
		return nil, badCursor()
	}
	return &p, nil
}

// order is one of the two orders of a trace.
type order struct {
	by, after, last string
}

var (
	newestFirst = order{by: `at DESC, log DESC, idx DESC`, after: `(at, log, idx) < (?, ?, ?)`, last: `min(at)`}
	oldestFirst = order{by: `at, log, idx`, after: `(at, log, idx) > (?, ?, ?)`, last: `max(at)`}
)

// Trace implements [trail.Store].
func (s *Store) Trace(ctx context.Context, filter trail.Filter, page trail.Page) (trail.Entries, error) {
	fail := func(err error) (trail.Entries, error) {
		return trail.Entries{}, fmt.Errorf("trace access records: %w", err)
	}
	if err := checkPage(page); err != nil {
		return fail(err)
	}
	name, err := listName("trace", struct {
		trail.Filter
		OldestFirst bool
	}{filter, page.OldestFirst})
	if err != nil {
		return fail(err)
	}
	from, err := decodePosition(name, page.After)
	if err != nil {
		return fail(err)
	}
	w := walk{order: newestFirst, span: spanOf(filter)}
	if page.OldestFirst {
		w.order = oldestFirst
	}
	items, next, err := s.trace(ctx, w, s.criteria(filter), from, page.Limit)
	if err != nil {
		return fail(err)
	}
	out := trail.Entries{Items: items}
	if next != nil {
		out.Next = encodeCursor(name, next.String())
	}
	return out, nil
}

// Export implements [trail.Store].
func (s *Store) Export(ctx context.Context, filter trail.Filter, yield func(trail.Entry) error) error {
	const limit = 1000
	w := walk{order: oldestFirst, span: spanOf(filter)}
	criteria := s.criteria(filter)
	for from := (*position)(nil); ; {
		items, next, err := s.trace(ctx, w, criteria, from, limit)
		if err != nil {
			return fmt.Errorf("export access records: %w", err)
		}
		for _, e := range items {
			if err := yield(e); err != nil {
				return err
			}
		}
		if next == nil {
			return nil
		}
		from = next
	}
}

// walk is how a trace is read.
type walk struct {
	order
	span
	legs  []leg
	tries conditions // on the entries walked
}

// rest is the walk's span without the end that a position replaces: of two
// conditions on one end of a stretch SQLite may take the one that is farther, and
// read everything between them.
func (w walk) rest(from *position) span {
	t := w.span
	switch {
	case from == nil:
	case w.order == newestFirst && from.at < t.to:
		t.to = math.MaxInt64
	case w.order == oldestFirst && from.at >= t.from:
		t.from = math.MinInt64
	}
	return t
}

// trace reads a page from a position on, and the position after which the next
// page starts, nil on the last.
func (s *Store) trace(ctx context.Context, w walk, criteria []criterion, from *position, limit int) ([]trail.Entry, *position, error) {
	w, err := s.choose(ctx, w, criteria, from)
	if err != nil {
		return nil, nil, err
	}
	var page []trail.Entry
	var places []position
	for walked, batch := 0, limit+1; ; batch *= 4 {
		batch = min(batch, max(limit+1, maxWalk)-walked)
		some, err := s.read(ctx, w, from, batch)
		if err != nil {
			return nil, nil, err
		}
		for _, f := range some {
			if f.entry == nil {
				continue
			}
			if len(page) == limit {
				return page, &places[limit-1], nil
			}
			page, places = append(page, *f.entry), append(places, f.position)
		}
		if len(some) < batch {
			return page, nil, nil
		}
		from = &some[len(some)-1].position
		if walked += len(some); walked >= maxWalk {
			return page, from, nil
		}
	}
}

// choose makes the field with the fewest entries next to the position the one
// that w walks, and has w try the others.
func (s *Store) choose(ctx context.Context, w walk, criteria []criterion, from *position) (walk, error) {
	best := 0
	for i, fewest, reach := 0, int64(probe), int64(0); i < len(criteria) && len(criteria) > 1; i++ {
		w.legs = criteria[i].legs
		keys, args := s.keys(w, from, probe)
		var n, last int64
		query := `SELECT count(*), coalesce(` + w.last + `, 0) FROM (` + keys + `) k`
		if err := s.query(ctx, query, args, func(scan func(...any) error) error { return scan(&n, &last) }); err != nil {
			return walk{}, err
		}
		farther := last > reach
		if w.order == newestFirst {
			farther = last < reach
		}
		if i == 0 || n < fewest || n == fewest && farther {
			best, fewest, reach = i, n, last
		}
		if n <= probe/10 {
			break // none can be much better
		}
	}
	w.legs, w.tries = everything.legs, conditions{}
	for i, c := range criteria {
		if i == best {
			w.legs = c.legs
			continue
		}
		w.tries.sql, w.tries.args = append(w.tries.sql, c.holds.sql...), append(w.tries.args, c.holds.args...)
	}
	return w, nil
}

// keys selects the places of up to limit entries of the walk, in order. Each leg
// stops at the limit; an OR would have to read and sort every match. The limit
// is part of the text: PostgreSQL plans a query of few rows otherwise than one
// of any number.
func (s *Store) keys(w walk, from *position, limit int) (string, []any) {
	var legs []string
	var args []any
	for _, l := range w.legs {
		table := `access`
		if s.indexedBy {
			table += ` INDEXED BY ` + l.index
		}
		where := w.rest(from).in(l.where)
		if from != nil {
			where = where.with(w.after, from.at, from.log, from.index)
		}
		legs = append(legs, fmt.Sprintf(`SELECT n, at, log, idx FROM %s WHERE %s ORDER BY %s LIMIT %d`, table, where, w.by, limit))
		args = append(args, where.args...)
	}
	if len(legs) == 1 {
		return legs[0], args
	}
	for i := range legs {
		legs[i] = fmt.Sprintf(`SELECT * FROM (%s) leg%d`, legs[i], i)
	}
	return fmt.Sprintf(`SELECT * FROM (%s) legs ORDER BY %s LIMIT %d`, strings.Join(legs, ` UNION `), w.by, limit), args
}

// found is an entry walked, nil when what was tried does not hold.
type found struct {
	position
	entry *trail.Entry
}

func (s *Store) read(ctx context.Context, w walk, from *position, limit int) ([]found, error) {
	keys, args := s.keys(w, from, limit)
	record := `a.record`
	if len(w.tries.sql) > 0 {
		record = `CASE WHEN ` + w.tries.String() + ` THEN a.record END`
		args = slices.Concat(w.tries.args, args)
	}
	by := `k.at DESC, k.log DESC, k.idx DESC`
	if w.order == oldestFirst {
		by = `k.at, k.log, k.idx`
	}
	out := make([]found, 0, limit)
	query := `SELECT k.at, k.log, k.idx, a.anchor_size, ` + record + ` FROM (` + keys + `) k JOIN access a ON a.n = k.n ORDER BY ` + by
	err := s.query(ctx, query, args, func(scan func(...any) error) error {
		var f found
		var anchor int64
		var canonical []byte
		if err := scan(&f.at, &f.log, &f.index, &anchor, &canonical); err != nil {
			return err
		}
		if canonical != nil {
			e, err := entryOf(f.log, f.index, anchor, canonical)
			if err != nil {
				return err
			}
			f.entry = &e
		}
		out = append(out, f)
		return nil
	})
	return out, err
}

// entryOf makes an entry of what is stored.
func entryOf(log string, index, anchor int64, canonical []byte) (trail.Entry, error) {
	e := trail.Entry{
		Department: domain.DepartmentCode(log), Index: uint64(index), AnchorSize: uint64(anchor), //nolint:gosec // stored from numbers of this type
		LeafHash: leafHash(canonical),
	}
	if err := domain.ParseCanonical(canonical, &e.Record); err != nil {
		return trail.Entry{}, fmt.Errorf("stored entry %d of the log of %s: %w", index, log, err)
	}
	return e, nil
}

// Totals implements [trail.Store].
func (s *Store) Totals(ctx context.Context, filter trail.Filter) (trail.Totals, error) {
	where := spanOf(filter).in(conditions{})
	for _, c := range s.criteria(filter) {
		where.sql, where.args = append(where.sql, c.holds.sql...), append(where.args, c.holds.args...)
	}
	var totals trail.Totals
	// In halves: the sum of a hostile log's counts would be out of range.
	query := `SELECT side, result, count(*), CAST(sum(record_count >> 32) AS BIGINT), CAST(sum(record_count & 4294967295) AS BIGINT)
		FROM access WHERE ` + where.String() + ` GROUP BY side, result ORDER BY side DESC, result`
	err := s.query(ctx, query, where.args, func(scan func(...any) error) error {
		r := trail.ResultTotal{Direction: domain.DirectionProvider}
		var side, high, low int64
		if err := scan(&side, &r.Result, &r.Records, &high, &low); err != nil {
			return err
		}
		if side == sideConsumer {
			r.Direction = domain.DirectionConsumer
		}
		r.DataRecords = join(high, low)
		totals.ByResult = append(totals.ByResult, r)
		totals.Records += r.Records
		totals.DataRecords = plus(totals.DataRecords, r.DataRecords)
		return nil
	})
	if err != nil {
		return trail.Totals{}, fmt.Errorf("count access records: %w", err)
	}
	return totals, nil
}

// join is high·2³² + low, up to the largest number.
func join(high, low int64) int64 {
	if high > math.MaxInt64>>32 {
		return math.MaxInt64
	}
	return plus(high<<32, low)
}

// plus adds two numbers that are not negative, up to the largest.
func plus(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
