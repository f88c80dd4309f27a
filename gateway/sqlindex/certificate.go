package sqlindex

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

// A certificate has no write and no row of its own: it is told from two writes, of
// its issuing batch and of what became of that. The first digits of its reference name
// both. A row of the table lives stands for all certificates of a batch to which the
// same happened, mostly for the whole batch.

// isTold reports whether records of the kind are told from others: what the ledger
// holds under their keys is no record.
func isTold(kind domain.RecordKind) bool {
	return kind == domain.KindCertificate || kind == domain.KindCertificateID
}

// lifeRow is a row of the table lives without its batch.
type lifeRow struct {
	department, state string
	changed           int64
	txID              domain.TxID
	write             int64
	issued, status    int64
	certificates      []byte
	task              *domain.Task
}

// applyStatus notes the lives of a batch's certificates. A status that does not fit its
// batch says nothing.
func (d *deriver) applyStatus(ctx context.Context, w write) error {
	if w.delete {
		d.lives[w.id] = nil
		return nil
	}
	status, ok := decode[domain.BatchStatus](w.value)
	if !ok {
		return nil
	}
	n, issued, err := d.issuingBatch(ctx, w.id)
	if err != nil || issued == nil {
		return err
	}
	b := domain.Batch{Issued: *issued, Status: *status}
	if b.Check(w.id) != nil {
		return nil //nolint:nilerr // it says nothing of any certificate
	}
	lives := make([]lifeRow, len(status.Lives))
	for row := range b.Size() {
		l := &lives[b.Status.Life(row)]
		if l.certificates = append(l.certificates, byte(row)); len(l.certificates) > 1 {
			continue
		}
		c := b.Certificate(row)
		*l = lifeRow{string(c.Issuer), string(c.Status), w.at.UnixMicro(), c.TxID, w.n, n, w.n, l.certificates, c.Task()}
	}
	if err := d.dateLives(ctx, w.id, status.TxID, lives); err != nil {
		return err
	}
	d.lives[w.id] = lives
	return nil
}

// dateLives gives the lives of a batch that its status did not change, by transaction
// tx, the writes that did.
func (d *deriver) dateLives(ctx context.Context, batch string, tx domain.TxID, lives []lifeRow) error {
	if !slices.ContainsFunc(lives, func(l lifeRow) bool { return l.txID != tx }) {
		return nil
	}
	before, known := d.lives[batch] // by the same block
	if !known {
		rows, err := d.s.lived.QueryContext(ctx, batch)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var l lifeRow
			if err := rows.Scan((*string)(&l.txID), &l.changed, &l.write); err != nil {
				return err
			}
			before = append(before, l)
		}
		if err := rows.Err(); err != nil {
			return err
		}
	}
	for i := range lives {
		l := &lives[i]
		if l.txID == tx {
			continue
		}
		if at := slices.IndexFunc(before, func(b lifeRow) bool { return b.txID == l.txID }); at >= 0 {
			l.changed, l.write = before[at].changed, before[at].write
		}
	}
	return nil
}

// putLives writes the lives of the batches whose status was written, and what they
// wait for.
func (d *deriver) putLives(ctx context.Context) error {
	var rows, tasks []any
	for _, batch := range slices.Sorted(maps.Keys(d.lives)) {
		// A certificate waits for its issuer's reviewer alone, for any time. The lives that are there name the issuer.
		if _, err := d.s.forgetBatchTask.ExecContext(ctx, batch, string(domain.RoleReviewer), int64(never), string(domain.KindCertificate)); err != nil {
			return err
		}
		if _, err := d.s.forgetLives.ExecContext(ctx, batch); err != nil {
			return err
		}
		waits := false
		for i, l := range d.lives[batch] {
			rows = append(rows, batch, i, l.department, l.state, l.changed, string(l.txID), l.write, l.issued, l.status, l.certificates)
			if l.task != nil && !waits {
				waits = true
				tasks = taskRow(recordKey{domain.KindCertificate, batch}, 0, *l.task).appendTo(tasks)
			}
		}
	}
	clear(d.lives)
	if err := d.s.lives.insert(ctx, rows); err != nil {
		return err
	}
	return d.s.tasks.insert(ctx, tasks)
}

// issuingBatch answers the current issuing batch with an id, and the number of its
// write; nil when there is none.
func (d *deriver) issuingBatch(ctx context.Context, id string) (n int64, b *domain.IssuingBatch, err error) {
	var value []byte
	if r := d.records[recordKey{domain.KindIssuingBatch, id}]; r != nil && r.written { // by the same block
		n, value = r.now.n, r.now.value
	} else {
		err := d.s.recorded.QueryRowContext(ctx, string(domain.KindIssuingBatch), id).Scan(&n, &value)
		if errors.Is(err, sql.ErrNoRows) {
			return 0, nil, nil
		}
		if err != nil {
			return 0, nil, err
		}
	}
	b, ok := decode[domain.IssuingBatch](value)
	if !ok {
		return 0, nil, nil
	}
	return n, b, nil
}

// batches keeps issuing batches that were read: they never change, and a write has
// one number for ever. It is safe for concurrent use.
type batches struct {
	mu   sync.Mutex
	kept map[int64]*domain.IssuingBatch
}

// mostBatches bounds the batches that are kept.
const mostBatches = 256

func (x *Index) issuingBatch(ctx context.Context, q rowsQuerier, n int64) (*domain.IssuingBatch, error) {
	x.batches.mu.Lock()
	b := x.batches.kept[n]
	x.batches.mu.Unlock()
	if b != nil {
		return b, nil
	}
	rows, err := q.QueryContext(ctx, `SELECT value FROM writes WHERE n = ?`, n)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var value []byte
	for rows.Next() {
		if err := rows.Scan(&value); err != nil {
			return nil, err
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	b, ok := decode[domain.IssuingBatch](value)
	if !ok {
		return nil, fmt.Errorf("write %d holds no issuing batch", n)
	}
	x.batches.mu.Lock()
	defer x.batches.mu.Unlock()
	if x.batches.kept == nil || len(x.batches.kept) >= mostBatches {
		x.batches.kept = make(map[int64]*domain.IssuingBatch)
	}
	x.batches.kept[n] = b
	return b, nil
}

// toldBatch is a batch with where each of its lives is from.
type toldBatch struct {
	domain.Batch
	lives []toldLife
}

type toldLife struct {
	domain.Position
	changed int64
}

// batch reads the batch with an id, nil when no certificates of one are known.
func (x *Index) batch(ctx context.Context, q rowsQuerier, id string) (*toldBatch, error) {
	rows, err := q.QueryContext(ctx, `SELECT l.issued, l.changed, w.block, t.tx_id, CASE l.life WHEN 0 THEN s.value END
		FROM lives l JOIN writes w ON w.n = l.write JOIN transactions t ON t.block = w.block AND t.seq = w.tx JOIN writes s ON s.n = l.status
		WHERE l.batch = ? ORDER BY l.life`, id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var issued int64
	var status []byte
	var lives []toldLife
	for rows.Next() {
		var l toldLife
		var value []byte
		if err := rows.Scan(&issued, &l.changed, &l.Block, (*string)(&l.TxID), &value); err != nil {
			return nil, err
		}
		if lives = append(lives, l); len(lives) == 1 {
			status = value
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || len(lives) == 0 {
		return nil, err
	}
	b, err := x.in(ctx, q, issued, status)
	if err != nil {
		return nil, err
	}
	return &toldBatch{*b, lives}, nil
}

// in puts the batch together of which status is the status and issued the number of
// the write of the rest.
func (x *Index) in(ctx context.Context, q rowsQuerier, issued int64, status []byte) (*domain.Batch, error) {
	i, err := x.issuingBatch(ctx, q, issued)
	if err != nil {
		return nil, err
	}
	s, ok := decode[domain.BatchStatus](status)
	if !ok {
		return nil, errors.New("the status of an issuing batch is unreadable")
	}
	b := &domain.Batch{Issued: *i, Status: *s}
	return b, b.Check(b.Issued.ID())
}

// record is the record of the certificate in a row.
func (b *toldBatch) record(row int) (index.Record, error) {
	return told(&b.Batch, row, b.lives[b.Status.Life(row)].Position)
}

// told is the record of a certificate that the write at a position tells.
func told(b *domain.Batch, row int, at domain.Position) (index.Record, error) {
	c, err := b.Certificate(row).Sealed()
	if err != nil {
		return index.Record{}, err
	}
	value, err := domain.Canonical(c)
	return index.Record{Kind: domain.KindCertificate, ID: c.Content.Ref, Value: value, Position: at}, err
}

// certificate reads a certificate; found is false when there is none.
func (x *Index) certificate(ctx context.Context, ref string) (r index.Record, found bool, err error) {
	b, err := x.batch(ctx, x.often, domain.BatchOf(ref))
	if err != nil || b == nil {
		return index.Record{}, false, err
	}
	row, found := b.Row(ref)
	if !found {
		return index.Record{}, false, nil
	}
	r, err = b.record(row)
	return r, true, err
}

// sortedRows are the rows of the batch in order of their references.
func (b *toldBatch) sortedRows() []int {
	refs := b.Issued.Refs()
	rows := make([]int, len(refs))
	for row := range rows {
		rows[row] = row
	}
	slices.SortFunc(rows, func(a, b int) int { return cmp.Compare(refs[a], refs[b]) })
	return rows
}

// fewBatches is how many batches a list of certificates looks for at a time.
const fewBatches = 16

// certificates reads a page of a list of certificates from a position on, and the
// position after which the next page starts, nil on the last.
func (x *Index) certificates(ctx context.Context, f index.Filter, from *position, limit int) (index.Records, *position, error) {
	if f.Provider != "" || f.Consumer != "" || f.ShareType != 0 || f.GrantID != "" || f.Overdue != nil || f.Text != "" {
		return index.Records{}, nil, nil // no certificate has any of these
	}
	tx, err := x.readers.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return index.Records{}, nil, err
	}
	defer tx.Rollback() //nolint:errcheck // ends a transaction that wrote nothing
	var where conditions
	byChange := !f.ChangedSince.IsZero()
	keys, after := `0 AS pos, batch`, `batch > ?`
	if byChange {
		keys, after = `changed AS pos, batch`, `(changed, batch) > (?, ?)`
		where.add(`changed >= ?`, f.ChangedSince.UnixMicro())
	}
	if f.Department != "" {
		where.add(`department = ?`, string(f.Department))
	}
	if f.State != "" {
		where.add(`state = ?`, f.State)
	}
	where.add(`1`)
	var out index.Records
	var last *position
	// The batch of the last page's last certificate may have more.
	at := func(p position) []any {
		if byChange {
			return []any{p.pos, p.id}
		}
		return []any{p.id}
	}
	var batches []position
	if from != nil {
		batches = []position{{from.pos, domain.BatchOf(from.id)}}
	}
	for whole := true; ; {
		for _, p := range batches {
			b, err := x.batch(ctx, tx, p.id)
			if err != nil {
				return index.Records{}, nil, err
			}
			for _, row := range b.sortedMatching(f, p, byChange) {
				ref := b.Issued.Content.Content(row).Ref
				if from != nil && p.pos == from.pos && ref <= from.id {
					continue
				}
				if len(out.Items) == limit {
					return out, last, nil
				}
				r, err := b.record(row)
				if err != nil {
					return index.Records{}, nil, err
				}
				out.Items, last = append(out.Items, r), &position{p.pos, ref}
			}
		}
		if !whole {
			return out, nil, nil
		}
		next := where
		if len(batches) > 0 {
			next = where.with(after, at(batches[len(batches)-1])...)
		}
		if batches, err = readBatches(ctx, tx, `SELECT DISTINCT `+keys+` FROM lives WHERE `+strings.Join(next.sql, ` AND `)+` ORDER BY pos, batch LIMIT ?`, append(next.args, fewBatches)); err != nil {
			return index.Records{}, nil, err
		}
		whole = len(batches) == fewBatches
	}
}

// sortedMatching are the rows of the batch that a filter leaves at a position of its
// list, in order of reference; none of no batch.
func (b *toldBatch) sortedMatching(f index.Filter, p position, byChange bool) []int {
	if b == nil {
		return nil
	}
	return slices.DeleteFunc(b.sortedRows(), func(row int) bool {
		c := b.Certificate(row)
		return (f.Department != "" && c.Issuer != f.Department) || (f.State != "" && string(c.Status) != f.State) ||
			(byChange && b.lives[b.Status.Life(row)].changed != p.pos)
	})
}

func readBatches(ctx context.Context, tx *sql.Tx, query string, args []any) ([]position, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []position
	for rows.Next() {
		var p position
		if err := rows.Scan(&p.pos, &p.id); err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, rows.Err()
}

// maxStatuses is how many writes of a status a history reads at a time.
const maxStatuses = 100

// certificateHistory is the history of a certificate: of the writes of its batch's
// status those that changed it.
func (x *Index) certificateHistory(ctx context.Context, ref string, after int64, limit int) (items []index.Record, numbers []int64, err error) {
	now, err := x.batch(ctx, x.readers, domain.BatchOf(ref))
	if err != nil || now == nil {
		return nil, nil, err
	}
	row, found := now.Row(ref)
	if !found {
		return nil, nil, nil
	}
	for {
		some, at, err := x.writtenRecords(ctx, domain.KindBatchStatus, now.Issued.ID(), after, maxStatuses)
		if err != nil {
			return nil, nil, err
		}
		for i, r := range some {
			after = at[i]
			status, ok := decode[domain.BatchStatus](r.Value)
			if !ok {
				continue
			}
			b := domain.Batch{Issued: now.Issued, Status: *status}
			if b.Check(b.Issued.ID()) != nil || !b.Status.Changes(row) {
				continue // it says nothing of this certificate
			}
			item, err := told(&b, row, r.Position)
			if err != nil {
				return nil, nil, err
			}
			if items, numbers = append(items, item), append(numbers, at[i]); len(items) == limit {
				return items, numbers, nil
			}
		}
		if len(some) < maxStatuses {
			return items, numbers, nil
		}
	}
}
