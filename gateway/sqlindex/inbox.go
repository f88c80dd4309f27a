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
	if after != nil && after.kind == string(domain.KindCertificate) {
		// The task is that of a batch, of which more certificates may wait.
		common.add(`(due, kind, id) >= (?, ?, ?)`, after.due, after.kind, domain.BatchOf(after.id))
	} else if after != nil {
		common.add(`(due, kind, id, seq) > (?, ?, ?, ?)`, after.due, after.kind, after.id, after.seq)
	}
	q := keyQuery{table: "tasks", keys: "due, kind, id, seq, audience, parties, role, transaction_name", order: "due, kind, id, seq", limit: limit}
	for _, role := range roles {
		leg := func(audience string) conditions {
			return common.with(`audience = ?`, audience).with(`role = ?`, string(role))
		}
		q.leg("", leg(string(f.Department)))
		if f.Lead {
			q.leg("", leg(audienceLead))
		}
		q.leg("", leg(audiencePeer).with(`instr(parties, ?) = 0`, " "+string(f.Department)+" "))
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
	out, last, err := x.inbox(ctx, filter, after, page.Limit)
	if err != nil {
		return index.InboxRecords{}, fmt.Errorf("read the inbox of %s from the index: %w", filter.Department, err)
	}
	if last != nil {
		out.Next = encodeCursor(listInbox, last.String())
	}
	return out, nil
}

// inbox reads a page from a place on, and the place after which the next page starts,
// nil on the last.
func (x *Index) inbox(ctx context.Context, filter index.InboxFilter, after *taskKey, limit int) (index.InboxRecords, *taskKey, error) {
	// Batches are read in the state of the index in which they wait.
	tx, err := x.readers.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return index.InboxRecords{}, nil, err
	}
	defer tx.Rollback() //nolint:errcheck // ends a transaction that wrote nothing
	// Of every task but the first something is left: of that, the page before may have
	// had the batch's last certificate.
	tasks, err := x.readTasks(ctx, tx, filter, after, limit+2)
	if err != nil {
		return index.InboxRecords{}, nil, err
	}
	var out index.InboxRecords
	var last *taskKey
	for _, t := range tasks {
		items := []index.InboxRecord{t.InboxRecord}
		if t.Record.Kind == domain.KindCertificate {
			if items, err = x.waiting(ctx, tx, t.InboxRecord); err != nil {
				return index.InboxRecords{}, nil, err
			}
		}
		for _, item := range items {
			key := t.taskKey
			key.id = item.Record.ID
			if after != nil && key.kind == after.kind && key.due == after.due && item.Record.Kind == domain.KindCertificate && key.id <= after.id {
				continue
			}
			if len(out.Items) == limit {
				return out, last, nil
			}
			out.Items, last = append(out.Items, item), &key
		}
	}
	return out, nil, nil
}

// waiting are the certificates of a batch that wait, in order of reference, each with
// the batch's task.
func (x *Index) waiting(ctx context.Context, tx *sql.Tx, task index.InboxRecord) ([]index.InboxRecord, error) {
	b, err := x.batch(ctx, tx, task.Record.ID)
	if err != nil || b == nil {
		return nil, err
	}
	var out []index.InboxRecord
	for _, row := range b.sortedRows() {
		if b.Certificate(row).Task() == nil {
			continue
		}
		r, err := b.record(row)
		if err != nil {
			return nil, err
		}
		out = append(out, index.InboxRecord{Record: r, Task: task.Task})
	}
	return out, nil
}

// placedTask is a task with its place in an inbox. One of kind certificate has the id
// of a batch and no value.
type placedTask struct {
	taskKey
	index.InboxRecord
	event int64 // the write that tells the record; 0: none
}

func (x *Index) readTasks(ctx context.Context, tx *sql.Tx, filter index.InboxFilter, after *taskKey, limit int) ([]placedTask, error) {
	keys, args := inboxQuery(filter, after, limit)
	rows, err := tx.QueryContext(ctx, `SELECT k.due, k.kind, k.id, k.seq, k.audience, k.parties, k.role, k.transaction_name, w.value, coalesce(w.block, 0), coalesce(t.tx_id, ''), coalesce(w.event, 0)
		FROM (`+keys+`) k LEFT JOIN records r ON r.kind = k.kind AND r.id = k.id
		LEFT JOIN writes w ON w.n = r.write LEFT JOIN transactions t ON t.block = w.block AND t.seq = w.tx ORDER BY k.due, k.kind, k.id, k.seq`, args...) //nolint:gosec // keys is put together from constants
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var tasks []placedTask
	for rows.Next() {
		var t placedTask
		if err := t.scan(rows); err != nil {
			return nil, err
		}
		tasks = append(tasks, t)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}
	told, values := make([]toldWrite, len(tasks)), make([]*[]byte, len(tasks))
	for i := range tasks {
		r := &tasks[i].Record
		told[i], values[i] = toldWrite{domain.KeyOf(r.Kind, r.ID), tasks[i].event}, &r.Value
	}
	return tasks, x.tellAll(ctx, tx, told, values)
}

func (p *placedTask) scan(rows *sql.Rows) error {
	var audience, parties string
	k, r, t := &p.taskKey, &p.Record, &p.Task
	if err := rows.Scan(&k.due, &k.kind, &k.id, &k.seq, &audience, &parties, (*string)(&t.Role), &t.Transaction,
		&r.Value, &r.Block, (*string)(&r.TxID), &p.event); err != nil {
		return err
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
	return nil
}
