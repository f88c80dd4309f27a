package sqlindex

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

// selectRecord selects a write w of transaction t as a record; the number beside it is
// up to who asks.
const selectRecord = `SELECT w.key, w.value, w.block, t.tx_id, w.event, w.n FROM `

// rowsQuerier is what [sql.DB] and [sql.Tx] have in common.
type rowsQuerier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// readRecords reads what [selectRecord] selects, and beside each record the
// number of its write.
func (x *Index) readRecords(ctx context.Context, q rowsQuerier, query string, args ...any) (items []index.Record, numbers []int64, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	var told []toldWrite
	for rows.Next() {
		var r index.Record
		var w toldWrite
		var n int64
		if err := rows.Scan(&w.key, &r.Value, &r.Block, (*string)(&r.TxID), &w.event, &n); err != nil {
			return nil, nil, err
		}
		r.Kind, r.ID, _ = domain.ParseKey(w.key)
		items, numbers, told = append(items, r), append(numbers, n), append(told, w)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, nil, err
	}
	values := make([]*[]byte, len(items))
	for i := range items {
		values[i] = &items[i].Value
	}
	return items, numbers, x.tellAll(ctx, q, told, values)
}

// Get implements [index.Index].
func (x *Index) Get(ctx context.Context, kind domain.RecordKind, id string) (index.Record, error) {
	r, found, err := x.get(ctx, kind, id)
	if err != nil {
		return index.Record{}, fmt.Errorf("read %s %q from the index: %w", kind, id, err)
	}
	if !found {
		return index.Record{}, &domain.Error{Kind: domain.NotFound, Msg: fmt.Sprintf("there is no %s %q", kind, id)}
	}
	return r, nil
}

func (x *Index) get(ctx context.Context, kind domain.RecordKind, id string) (r index.Record, found bool, err error) {
	if kind == domain.KindCertificate {
		return x.certificate(ctx, id)
	}
	query, args := selectRecord+`records r JOIN writes w ON w.n = r.write JOIN transactions t ON t.block = w.block AND t.seq = w.tx
		WHERE r.kind = ? AND r.id = ?`, []any{string(kind), id}
	if kind == domain.KindCatalogName {
		query, args = selectRecord+`writes w JOIN transactions t ON t.block = w.block AND t.seq = w.tx
			WHERE w.n = (SELECT max(w.n) FROM names m CROSS JOIN writes w ON w.n = m.write WHERE m.number = ? AND w.key = ?) AND NOT w.deleted`,
			[]any{nameNumber(id), domain.KeyOf(kind, id)}
	}
	items, _, err := x.readRecords(ctx, x.often, query, args...)
	if err != nil || len(items) == 0 {
		return index.Record{}, false, err
	}
	return items[0], true, nil
}

// History implements [index.Index]. A deletion is an item without value.
func (x *Index) History(ctx context.Context, kind domain.RecordKind, id string, page index.Page) (index.Records, error) {
	if err := checkPage(page); err != nil {
		return index.Records{}, err
	}
	list := "history\x00" + string(kind) + "\x00" + id
	after, err := decodeNumberCursor(list, page.After, 0)
	if err != nil {
		return index.Records{}, err
	}
	items, numbers, err := x.history(ctx, kind, id, after, page.Limit+1)
	if err != nil {
		return index.Records{}, fmt.Errorf("read history of %s %q from the index: %w", kind, id, err)
	}
	out := index.Records{Items: items}
	if len(items) > page.Limit {
		out.Items = items[:page.Limit]
		out.Next = encodeCursor(list, strconv.FormatInt(numbers[page.Limit-1], 10))
	}
	return out, nil
}

func (x *Index) history(ctx context.Context, kind domain.RecordKind, id string, after int64, limit int) (items []index.Record, numbers []int64, err error) {
	if kind == domain.KindCertificate {
		return x.certificateHistory(ctx, id, after, limit)
	}
	return x.writtenRecords(ctx, kind, id, after, limit)
}

// writtenRecords is the history of a record that has writes of its own. What was
// written once stands in records alone.
func (x *Index) writtenRecords(ctx context.Context, kind domain.RecordKind, id string, after int64, limit int) (items []index.Record, numbers []int64, err error) {
	key := domain.KeyOf(kind, id)
	return x.readRecords(ctx, x.readers, selectRecord+`(SELECT n FROM history WHERE key = ?1 AND n > ?2
			UNION SELECT write FROM records WHERE kind = ?3 AND id = ?4 AND write > ?2 ORDER BY n LIMIT ?5) h
		CROSS JOIN writes w ON w.n = h.n JOIN transactions t ON t.block = w.block AND t.seq = w.tx ORDER BY h.n`, key, after, string(kind), id, limit)
}
