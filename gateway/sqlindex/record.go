package sqlindex

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

// columns are what lists filter records by.
type columns struct {
	department, consumer, state, grantID, text string
}

// columnsOf reads the filter columns out of a record. It reads what it needs and
// no more, so that a record of a later schema is still listed; a record that
// cannot be read has none, which must not stop the index.
func columnsOf(kind domain.RecordKind, id string, value []byte) columns {
	var r struct {
		Code       string `json:"code"`
		Provider   string `json:"provider"`
		Consumer   string `json:"consumer"`
		Issuer     string `json:"issuer"`
		Owner      string `json:"owner"`
		State      string `json:"state"`
		Status     string `json:"status"`
		GrantID    string `json:"grantId"`
		CatContent struct {
			Name     string `json:"name"`
			Abstract string `json:"abstract"`
		} `json:"content"`
	}
	if json.Unmarshal(value, &r) != nil {
		return columns{}
	}
	switch kind {
	case domain.KindCatalogEntry, domain.KindCatalogVersion:
		return columns{department: r.Provider, state: r.State, text: strings.ToLower(r.CatContent.Name + "\n" + r.CatContent.Abstract)}
	case domain.KindRequest:
		return columns{department: r.Provider, consumer: r.Consumer, state: r.State, grantID: r.GrantID}
	case domain.KindRequestEvent:
		return columns{state: r.State}
	case domain.KindGrant:
		return columns{department: r.Provider, consumer: r.Consumer, state: r.State, grantID: id}
	case domain.KindLog, domain.KindAnchor:
		return columns{department: r.Owner}
	case domain.KindCertificate:
		return columns{department: r.Issuer, state: r.Status}
	case domain.KindCertificateEvent:
		return columns{state: r.Status}
	case domain.KindDepartment:
		return columns{department: r.Code}
	case domain.KindCertificateID: // is asked for by its key alone
	}
	return columns{}
}

const selectRecord = `SELECT w.kind, w.id, w.value, w.block, t.tx_id, w.n FROM `

// readRecords reads what [selectRecord] selects, and beside each record the
// number of its write.
func (x *Index) readRecords(ctx context.Context, query string, args ...any) (items []index.Record, numbers []int64, err error) {
	rows, err := x.readers.QueryContext(ctx, query, args...)
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
	items, _, err := x.readRecords(ctx, selectRecord+`records r JOIN writes w ON w.n = r.write
		JOIN transactions t ON t.block = w.block AND t.seq = w.tx WHERE r.kind = ? AND r.id = ?`, string(kind), id)
	if err != nil {
		return index.Record{}, fmt.Errorf("read %s %q from the index: %w", kind, id, err)
	}
	if len(items) == 0 {
		return index.Record{}, &domain.Error{Kind: domain.NotFound, Msg: fmt.Sprintf("there is no %s %q", kind, id)}
	}
	return items[0], nil
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
	items, numbers, err := x.readRecords(ctx, selectRecord+`writes w INDEXED BY writes_record
		JOIN transactions t ON t.block = w.block AND t.seq = w.tx
		WHERE w.kind = ? AND w.kind <> '' AND w.id = ? AND w.n > ? ORDER BY w.n LIMIT ?`, string(kind), id, after, page.Limit+1)
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

// List implements [index.Index]. Text is compared without regard to the case of
// Latin letters.
func (x *Index) List(ctx context.Context, kind domain.RecordKind, filter index.Filter, page index.Page) (index.Records, error) {
	if err := checkPage(page); err != nil {
		return index.Records{}, err
	}
	list := "list\x00" + string(kind)
	after, _, err := decodeCursor(list, page.After)
	if err != nil {
		return index.Records{}, err
	}
	var where conditions
	where.add(`kind = ?`, string(kind))
	where.add(`id > ?`, after)
	if filter.State != "" {
		where.add(`state <> '' AND state = ?`, filter.State)
	}
	if filter.GrantID != "" {
		where.add(`grant_id <> '' AND grant_id = ?`, filter.GrantID)
	}
	if filter.Text != "" {
		where.add(`instr(text, ?) > 0`, strings.ToLower(filter.Text))
	}
	q := keyQuery{table: "records", key: "id", order: "ASC", limit: page.Limit + 1}
	if filter.Department == "" {
		q.leg("", where)
	} else {
		q.leg("", where.with(`department <> '' AND department = ?`, string(filter.Department)))
		q.leg("", where.with(`consumer <> '' AND consumer = ?`, string(filter.Department)))
	}
	keys, args := q.build()
	items, _, err := x.readRecords(ctx, selectRecord+`(`+keys+`) k CROSS JOIN records r ON r.kind = ? AND r.id = k.id
		JOIN writes w ON w.n = r.write JOIN transactions t ON t.block = w.block AND t.seq = w.tx ORDER BY k.id`, append(args, string(kind))...)
	if err != nil {
		return index.Records{}, fmt.Errorf("list %s records from the index: %w", kind, err)
	}
	out := index.Records{Items: items}
	if len(items) > page.Limit {
		out.Items = items[:page.Limit]
		out.Next = encodeCursor(list, out.Items[page.Limit-1].ID)
	}
	return out, nil
}
