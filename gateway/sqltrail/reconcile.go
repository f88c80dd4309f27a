package sqltrail

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/trail"
)

// pairDays are the conditions of a filter on pair_days.
func pairDays(f trail.ReconcileFilter) (c conditions) {
	for _, field := range []struct{ value, condition string }{
		{string(f.Provider), `provider = ?`}, {string(f.Consumer), `consumer = ?`}, {f.FromDay, `day >= ?`}, {f.ToDay, `day <= ?`},
	} {
		if field.value != "" {
			c.add(field.condition, field.value)
		}
	}
	return c
}

// settled is the time, in milliseconds, from which on a one-sided call waits.
func settled(f trail.ReconcileFilter) int64 {
	if f.Settled.IsZero() {
		return math.MaxInt64
	}
	return f.Settled.UnixMilli()
}

// Reconcile implements [trail.Store].
func (s *Store) Reconcile(ctx context.Context, filter trail.ReconcileFilter, page trail.Page) (trail.Reconciliation, error) {
	fail := func(err error) (trail.Reconciliation, error) {
		return trail.Reconciliation{}, fmt.Errorf("reconcile access records: %w", err)
	}
	list, after, err := s.open("reconcile", filter, page, 3)
	if err != nil {
		return fail(err)
	}
	where := pairDays(filter)
	where.add(`in_both + provider_only + consumer_only + contradicting > 0`)
	if after != nil {
		where.add(`(provider, consumer, day) > (?, ?, ?)`, after[0], after[1], after[2])
	}
	const waiting = `(SELECT count(*) FROM calls c WHERE c.provider = p.provider AND c.consumer = p.consumer AND c.day = p.day AND c.at >= ? AND c.state <> 0 AND c.state = `
	query := fmt.Sprintf(`SELECT p.*, %s1), %s2) FROM (SELECT * FROM pair_days WHERE %s ORDER BY provider, consumer, day LIMIT %d) p ORDER BY p.provider, p.consumer, p.day`,
		waiting, waiting, where, page.Limit+1)
	since := settled(filter)
	var out trail.Reconciliation
	err = s.query(ctx, query, slices.Concat([]any{since, since}, where.args), func(scan func(...any) error) error {
		var d trail.PairDay
		var provider, consumer int64
		err := scan(&d.Provider, &d.Consumer, &d.Day, &d.Both, &d.ProviderOnly, &d.ConsumerOnly, &d.Contradicting, &provider, &consumer)
		d.ProviderOnly, d.ConsumerOnly, d.Waiting = d.ProviderOnly-provider, d.ConsumerOnly-consumer, provider+consumer
		out.Items = append(out.Items, d)
		return err
	})
	if err != nil {
		return fail(err)
	}
	if len(out.Items) > page.Limit {
		out.Items = out.Items[:page.Limit]
		last := out.Items[page.Limit-1]
		out.Next = encodeCursor(list, strings.Join([]string{string(last.Provider), string(last.Consumer), last.Day}, "\x00"))
	}
	return out, nil
}

// open checks a page of a list and answers the list's name and the parts of the
// position that it starts after, nil for the first page.
func (s *Store) open(list string, filter any, page trail.Page, parts int) (string, []string, error) {
	if err := checkPage(page); err != nil {
		return "", nil, err
	}
	name, err := listName(list, filter)
	if err != nil {
		return "", nil, err
	}
	text, err := decodeCursor(name, page.After)
	if err != nil || text == "" {
		return name, nil, err
	}
	after := strings.Split(text, "\x00")
	if len(after) != parts {
		return "", nil, badCursor()
	}
	return name, after, nil
}

// openCall is where a discrepancy stands in the list of them, and what is stored
// of it.
type openCall struct {
	provider, consumer, day string
	at, id                  int64
	state, repeated         int64
	providerN, consumerN    *int64
}

func (c openCall) String() string {
	return strings.Join([]string{c.provider, c.consumer, c.day, strconv.FormatInt(c.at, 10), strconv.FormatInt(c.id, 10)}, "\x00")
}

func parseOpenCall(parts []string) (openCall, error) {
	c := openCall{provider: parts[0], consumer: parts[1], day: parts[2]}
	at, err1 := strconv.ParseInt(parts[3], 10, 64)
	id, err2 := strconv.ParseInt(parts[4], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return openCall{}, badCursor()
	}
	c.at, c.id = at, id
	return c, nil
}

// Discrepancies implements [trail.Store].
func (s *Store) Discrepancies(ctx context.Context, filter trail.ReconcileFilter, page trail.Page) (trail.Discrepancies, error) {
	fail := func(err error) (trail.Discrepancies, error) {
		return trail.Discrepancies{}, fmt.Errorf("list discrepancies: %w", err)
	}
	list, parts, err := s.open("discrepancies", filter, page, 5)
	if err != nil {
		return fail(err)
	}
	var after *openCall
	if parts != nil {
		c, err := parseOpenCall(parts)
		if err != nil {
			return fail(err)
		}
		after = &c
	}
	calls, err := s.openCalls(ctx, filter, after, page.Limit+1)
	if err != nil {
		return fail(err)
	}
	var out trail.Discrepancies
	if len(calls) > page.Limit {
		calls = calls[:page.Limit]
		out.Next = encodeCursor(list, calls[page.Limit-1].String())
	}
	if out.Items, err = s.discrepancies(ctx, calls); err != nil {
		return fail(err)
	}
	return out, nil
}

// openCalls answers up to limit calls after one. It goes from pair to pair of the
// departments that have any: each is a stretch of the index.
func (s *Store) openCalls(ctx context.Context, filter trail.ReconcileFilter, after *openCall, limit int) ([]openCall, error) {
	where := pairDays(filter)
	where.add(`provider_only + consumer_only + contradicting > 0`)
	if after != nil {
		where.add(`(provider, consumer) >= (?, ?)`, after.provider, after.consumer)
	}
	var pairs []pairDay
	query := `SELECT provider, consumer FROM pair_days WHERE ` + where.String() + ` GROUP BY provider, consumer ORDER BY provider, consumer`
	err := s.query(ctx, query, where.args, func(scan func(...any) error) error {
		var p pairDay
		err := scan(&p.provider, &p.consumer)
		pairs = append(pairs, p)
		return err
	})
	if err != nil {
		return nil, err
	}
	var calls []openCall
	for _, p := range pairs {
		f := filter
		f.Provider, f.Consumer = domain.DepartmentCode(p.provider), domain.DepartmentCode(p.consumer)
		where := pairDays(f)
		where.add(`state <> 0 AND (state = 3 OR at < ?)`, settled(filter))
		if after != nil && after.provider == p.provider && after.consumer == p.consumer {
			where.add(`(day, at, call_id) > (?, ?, ?)`, after.day, after.at, after.id)
		}
		query := fmt.Sprintf(`SELECT provider, consumer, day, at, call_id, state, repeated, provider_n, consumer_n FROM calls
			WHERE %s ORDER BY provider, consumer, day, at, call_id LIMIT %d`, where, limit-len(calls))
		err := s.query(ctx, query, where.args, func(scan func(...any) error) error {
			var c openCall
			err := scan(&c.provider, &c.consumer, &c.day, &c.at, &c.id, &c.state, &c.repeated, &c.providerN, &c.consumerN)
			calls = append(calls, c)
			return err
		})
		if err != nil {
			return nil, err
		}
		if len(calls) == limit {
			break
		}
	}
	return calls, nil
}

// discrepancies adds to calls what the two sides say.
func (s *Store) discrepancies(ctx context.Context, calls []openCall) ([]trail.Discrepancy, error) {
	var numbers []any
	for _, c := range calls {
		for _, n := range []*int64{c.providerN, c.consumerN} {
			if n != nil {
				numbers = append(numbers, *n)
			}
		}
	}
	entries := map[int64]*trail.Entry{}
	for some := range slices.Chunk(numbers, 200) {
		err := s.query(ctx, `SELECT n, log, idx, anchor_size, record FROM access WHERE n IN `+marks(len(some)), some, func(scan func(...any) error) error {
			var n, index, anchor int64
			var log string
			var canonical []byte
			if err := scan(&n, &log, &index, &anchor, &canonical); err != nil {
				return err
			}
			e, err := entryOf(log, index, anchor, canonical)
			entries[n] = &e
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	var out []trail.Discrepancy
	for _, c := range calls {
		d := trail.Discrepancy{
			Provider: domain.DepartmentCode(c.provider), Consumer: domain.DepartmentCode(c.consumer), Day: c.day, State: states[c.state],
		}
		if c.providerN != nil {
			d.ProviderEntry = entries[*c.providerN]
			d.CallID = d.ProviderEntry.Record.CallID
		}
		if c.consumerN != nil {
			d.ConsumerEntry = entries[*c.consumerN]
			d.CallID = d.ConsumerEntry.Record.CallID
		}
		if d.ProviderEntry != nil && d.ConsumerEntry != nil {
			d.Fields = trail.Contradictions(d.ProviderEntry.Record, d.ConsumerEntry.Record)
		}
		if c.repeated != 0 {
			d.Fields = append(d.Fields, trail.FieldRepeated)
		}
		out = append(out, d)
	}
	return out, nil
}
