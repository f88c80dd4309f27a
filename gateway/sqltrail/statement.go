package sqltrail

import (
	"context"
	"database/sql"
	"strings"
)

// chunk is how many rows one statement writes or looks up: enough to make the
// cost of a statement small.
const chunk = 64

// manyRows is a statement for rows, prepared for one row and for a chunk of them.
type manyRows struct {
	one, many *sql.Stmt
	columns   int
}

// statements are prepared once: a batch runs them hundreds of times.
type statements struct {
	access, call, pairDay manyRows
	findCalls             *sql.Stmt
}

// accessColumns are the columns of access, in the order in which rows give them.
var accessColumns = []string{
	"n", "at", "log", "idx", "side", "provider", "consumer", "result", "record_count", "resource", "grant_id",
	"purpose", "service_item", "operator", "case_ref", "subject", "call_id", "anchor_size", "record",
}

const (
	upsertCall = `INSERT INTO calls (call_id, provider, consumer, state, day, at, repeated,
		provider_n, provider_at, provider_facts, consumer_n, consumer_at, consumer_facts) VALUES `
	callColumns = 13
	onCall      = ` ON CONFLICT (call_id, provider, consumer) DO UPDATE SET state = excluded.state, day = excluded.day,
		at = excluded.at, repeated = excluded.repeated,
		provider_n = excluded.provider_n, provider_at = excluded.provider_at, provider_facts = excluded.provider_facts,
		consumer_n = excluded.consumer_n, consumer_at = excluded.consumer_at, consumer_facts = excluded.consumer_facts`

	upsertPairDay  = `INSERT INTO pair_days (provider, consumer, day, in_both, provider_only, consumer_only, contradicting) VALUES `
	pairDayColumns = 7
	onPairDay      = ` ON CONFLICT (provider, consumer, day) DO UPDATE SET in_both = pair_days.in_both + excluded.in_both,
		provider_only = pair_days.provider_only + excluded.provider_only, consumer_only = pair_days.consumer_only + excluded.consumer_only,
		contradicting = pair_days.contradicting + excluded.contradicting`

	findCalls = `SELECT call_id, provider, consumer, state, day, repeated, provider_n, provider_at, provider_facts, consumer_n, consumer_at, consumer_facts
		FROM calls WHERE call_id IN `
)

func (d databases) prepare(ctx context.Context) (statements, error) {
	var s statements
	for _, t := range []struct {
		to            *manyRows
		insert, after string
		columns       int
	}{
		{&s.access, `INSERT INTO access (` + strings.Join(accessColumns, `, `) + `) VALUES `, "", len(accessColumns)},
		{&s.call, upsertCall, onCall, callColumns},
		{&s.pairDay, upsertPairDay, onPairDay, pairDayColumns},
	} {
		t.to.columns = t.columns
		var err error
		if t.to.one, err = d.writer.PrepareContext(ctx, d.text(t.insert+marks(t.columns)+t.after)); err != nil {
			return statements{}, err
		}
		many := t.insert + strings.Repeat(marks(t.columns)+", ", chunk-1) + marks(t.columns) + t.after
		if t.to.many, err = d.writer.PrepareContext(ctx, d.text(many)); err != nil {
			return statements{}, err
		}
	}
	var err error
	s.findCalls, err = d.writer.PrepareContext(ctx, d.text(findCalls+marks(chunk)))
	return s, err
}

// marks is a list of n arguments: "(?, ?)" for two.
func marks(n int) string { return "(?" + strings.Repeat(", ?", n-1) + ")" }

// insert runs m for all rows; args are theirs, one after the other.
func (m manyRows) insert(ctx context.Context, tx writing, args []any) error {
	many, one := tx.StmtContext(ctx, m.many), tx.StmtContext(ctx, m.one)
	for len(args) > 0 {
		stmt, n := one, m.columns
		if len(args) >= m.columns*chunk {
			stmt, n = many, m.columns*chunk
		}
		if _, err := stmt.ExecContext(ctx, args[:n]...); err != nil {
			return err
		}
		args = args[n:]
	}
	return nil
}
