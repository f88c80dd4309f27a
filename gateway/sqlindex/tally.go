package sqlindex

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

// Tally implements [index.Index].
func (x *Index) Tally(ctx context.Context, now time.Time) (index.Tally, error) {
	// All counts are of one state of the index.
	tx, err := x.readers.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return index.Tally{}, fmt.Errorf("count records of the index: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // ends a transaction that wrote nothing
	t, err := tally(ctx, tx, now.UnixMicro())
	if err != nil {
		return index.Tally{}, fmt.Errorf("count records of the index: %w", err)
	}
	return t, nil
}

func tally(ctx context.Context, tx *sql.Tx, now int64) (index.Tally, error) {
	t := index.Tally{Overdue: map[domain.DeadlineEvent]int64{}}
	for _, q := range []struct {
		sql  string
		args []any
		to   []any
	}{
		{`SELECT next_block FROM progress`, nil, []any{&t.Blocks}},
		{`SELECT count(*), count(*) FILTER (WHERE decision = ?), count(*) FILTER (WHERE decision = ?), count(*) FILTER (WHERE decision = ?),
			count(*) FILTER (WHERE without_basis), count(*) FILTER (WHERE answered AND NOT late), count(*) FILTER (WHERE answered AND late),
			coalesce(sum(answered_in) FILTER (WHERE answered), 0) FROM requests`,
			[]any{string(domain.Agree), string(domain.Partly), string(domain.Refuse)},
			[]any{&t.Requests, &t.Agreed, &t.PartlyAgreed, &t.Refused, &t.RefusedWithoutBasis, &t.AnsweredInTime, &t.AnsweredLate, &t.AnsweredIn}},
		{`SELECT count(*), count(*) FILTER (WHERE public & 2), count(*) FILTER (WHERE public & 4) FROM entries INDEXED BY entries_public WHERE public <> 0`,
			nil, []any{&t.Published, &t.Compliant, &t.WithSystem}},
		{`SELECT count(*), count(*) FILTER (WHERE a.grant_id IS NULL) FROM grants g LEFT JOIN grant_anchored a ON a.grant_id = g.id
			WHERE g.starts <= ?1 AND g.ends > ?1`, []any{now}, []any{&t.GrantsActive, &t.GrantsUnused}},
	} {
		if err := tx.QueryRowContext(ctx, q.sql, q.args...).Scan(q.to...); err != nil {
			return index.Tally{}, err
		}
	}
	rows, err := tx.QueryContext(ctx, `SELECT event, sum(count) FROM clocks WHERE due <= ? GROUP BY event`, now)
	if err != nil {
		return index.Tally{}, err
	}
	defer rows.Close()
	for rows.Next() {
		var event domain.DeadlineEvent
		var n int64
		if err := rows.Scan((*string)(&event), &n); err != nil {
			return index.Tally{}, err
		}
		t.Overdue[event] = n
	}
	return t, rows.Err()
}
