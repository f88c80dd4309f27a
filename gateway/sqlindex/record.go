package sqlindex

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

const selectRecord = `SELECT r.kind, r.id, w.value, w.block, t.tx_id, w.n FROM `

// rowsQuerier is what [sql.DB] and [sql.Tx] have in common.
type rowsQuerier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// readRecords reads what [selectRecord] selects, and beside each record the
// number of its write.
func readRecords(ctx context.Context, q rowsQuerier, query string, args ...any) (items []index.Record, numbers []int64, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r index.Record
		var n int64
		if err := rows.Scan((*string)(&r.Kind), &r.ID, &r.Value, &r.Block, (*string)(&r.TxID), &n); err != nil {
			return nil, nil, err
		}
		items, numbers = append(items, r), append(numbers, n)
	}
	return items, numbers, rows.Err()
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
	items, _, err := readRecords(ctx, x.often, selectRecord+`records r JOIN writes w ON w.n = r.write
		JOIN transactions t ON t.block = w.block AND t.seq = w.tx WHERE r.kind = ? AND r.id = ?`, string(kind), id)
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
	return readRecords(ctx, x.readers, `SELECT w.kind, w.id, w.value, w.block, t.tx_id, w.n FROM writes w INDEXED BY writes_record
		JOIN transactions t ON t.block = w.block AND t.seq = w.tx
		WHERE w.kind = ? AND w.kind <> '' AND w.id = ? AND w.n > ? ORDER BY w.n LIMIT ?`, string(kind), id, after, limit)
}
