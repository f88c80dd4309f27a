package sqlindex

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

// taskKey is the place of a task in an inbox.
type taskKey struct {
	due      int64
	kind, id string
	seq      int
}

const listInbox = "inbox"

func (k taskKey) String() string {
	return fmt.Sprintf("%d\x00%s\x00%d\x00%s", k.due, k.kind, k.seq, k.id)
}

func decodeTaskKey(list, cursor string) (*taskKey, error) {
	text, ok, err := decodeCursor(list, cursor)
	if err != nil || !ok {
		return nil, err
	}
	parts := strings.SplitN(text, "\x00", 4)
	if len(parts) != 4 {
		return nil, badCursor()
	}
	k := taskKey{kind: parts[1], id: parts[3]}
	if _, err := fmt.Sscanf(parts[0]+" "+parts[2], "%d %d", &k.due, &k.seq); err != nil {
		return nil, badCursor()
	}
	return &k, nil
}

// everyRole is whom tasks may be for.
var everyRole = []domain.Role{domain.RoleAdmin, domain.RoleOperator, domain.RoleReviewer, domain.RoleAuditor, domain.RoleGateway}

// inboxQuery selects the tasks of one page. A department's own, the lead's and
// the peers' of each role come from their index in the order wanted.
func inboxQuery(f index.InboxFilter, after *taskKey, limit int) (string, []any) {
	roles := everyRole
	if f.Role != "" {
		roles = []domain.Role{f.Role}
	}
	var common conditions
	if f.OverdueOnly {
		common.add(`due <= ?`, f.Now.UnixMicro())
	}
	if after != nil {
		common.add(`(due, kind, id, seq) > (?, ?, ?, ?)`, after.due, after.kind, after.id, after.seq)
	}
	q := keyQuery{table: "tasks", keys: "due, kind, id, seq", order: "due, kind, id, seq", limit: limit}
	for _, role := range roles {
		leg := func(audience string) conditions {
			return common.with(`audience = ?`, audience).with(`role = ?`, string(role))
		}
		q.leg("tasks_role", leg(string(f.Department)))
		if f.Lead {
			q.leg("tasks_role", leg(audienceLead))
		}
		q.leg("tasks_role", leg(audiencePeer).with(`instr(parties, ?) = 0`, " "+string(f.Department)+" "))
	}
	return q.build()
}

// Inbox implements [index.Index].
func (x *Index) Inbox(ctx context.Context, filter index.InboxFilter, page index.Page) (index.InboxRecords, error) {
	if err := checkPage(page); err != nil {
		return index.InboxRecords{}, err
	}
	if strings.HasPrefix(string(filter.Department), "@") || filter.Department == "" {
		return index.InboxRecords{}, nil // no department has such a code
	}
	after, err := decodeTaskKey(listInbox, page.After)
	if err != nil {
		return index.InboxRecords{}, err
	}
	keys, args := inboxQuery(filter, after, page.Limit+1)
	rows, err := x.readers.QueryContext(ctx, `SELECT a.due, a.kind, a.id, a.seq, a.audience, a.parties, a.role, a.transaction_name, w.value, w.block, t.tx_id, r.batch, r.part
		FROM (`+keys+`) k CROSS JOIN tasks a ON a.kind = k.kind AND a.id = k.id AND a.seq = k.seq JOIN records r ON r.kind = a.kind AND r.id = a.id
		JOIN writes w ON w.n = r.write JOIN transactions t ON t.block = w.block AND t.seq = w.tx ORDER BY k.due, k.kind, k.id, k.seq`, args...) //nolint:gosec // keys is put together from constants
	if err != nil {
		return index.InboxRecords{}, fmt.Errorf("read the inbox of %s from the index: %w", filter.Department, err)
	}
	defer rows.Close()
	var out index.InboxRecords
	var places []standing
	var last taskKey
	for rows.Next() {
		if len(out.Items) == page.Limit {
			out.Next = encodeCursor(listInbox, last.String())
			break
		}
		var item index.InboxRecord
		var at standing
		if last, at, err = scanTask(rows, &item); err != nil {
			return index.InboxRecords{}, fmt.Errorf("read the inbox of %s from the index: %w", filter.Department, err)
		}
		out.Items, places = append(out.Items, item), append(places, at)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return index.InboxRecords{}, fmt.Errorf("read the inbox of %s from the index: %w", filter.Department, err)
	}
	for i := range out.Items {
		if err := x.tell(ctx, &out.Items[i].Record, places[i]); err != nil {
			return index.InboxRecords{}, fmt.Errorf("read the inbox of %s from the index: %w", filter.Department, err)
		}
	}
	return out, nil
}

func scanTask(rows *sql.Rows, item *index.InboxRecord) (taskKey, standing, error) {
	var k taskKey
	var at standing
	var audience, parties string
	r, t := &item.Record, &item.Task
	if err := rows.Scan(&k.due, &k.kind, &k.id, &k.seq, &audience, &parties, (*string)(&t.Role), &t.Transaction,
		&r.Value, &r.Block, (*string)(&r.TxID), &at.batch, &at.row); err != nil {
		return taskKey{}, at, err
	}
	r.Kind, r.ID = domain.RecordKind(k.kind), k.id
	switch audience {
	case audienceLead:
		t.Side = domain.SideLead
	case audiencePeer:
		t.Side = domain.SidePeer
	default:
		t.Department = domain.DepartmentCode(audience)
	}
	for _, p := range strings.Fields(parties) {
		t.Parties = append(t.Parties, domain.DepartmentCode(p))
	}
	if k.due != never {
		due := time.UnixMicro(k.due).UTC()
		t.DueAt = &due
	}
	return k, at, nil
}
