package sqlindex

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

// A certificate has no write of its own: it is told from two records, its issuing
// batch and what became of that. Its row in the table records names the write of
// both, and what is asked for is put together when it is read.

// isTold reports whether records of the kind are told from others: what the ledger
// holds under their keys leads there, and is no record.
func isTold(kind domain.RecordKind) bool {
	return kind == domain.KindCertificate || kind == domain.KindCertificateID
}

// applyBatch notes the certificates that a status changes. A status that does not
// fit its batch changes none.
func (d *deriver) applyBatch(ctx context.Context, w write) error {
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
	for _, row := range b.Status.Changed(b.Size()) {
		c, err := b.Certificate(row, "")
		if err != nil {
			return err
		}
		at := write{w.n, domain.KindCertificate, c.Content.Ref, false, nil, w.at}
		d.records[recordKey{at.kind, at.id}] = recordRow{at, facts{
			department: string(c.Issuer), state: string(c.Status), tasks: c.Tasks(),
			standing: standing{sql.NullInt64{Int64: n, Valid: true}, row}, waited: c.Seq > 1,
		}}
	}
	return nil
}

// issuingBatch answers the current issuing batch with an id, and the number of its
// write; nil when there is none.
func (d *deriver) issuingBatch(ctx context.Context, id string) (n int64, b *domain.IssuingBatch, err error) {
	var value []byte
	if r, ok := d.records[recordKey{domain.KindIssuingBatch, id}]; ok { // written by the same block
		n, value = r.n, r.value
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

func (x *Index) issuingBatch(ctx context.Context, n int64) (*domain.IssuingBatch, error) {
	x.batches.mu.Lock()
	b := x.batches.kept[n]
	x.batches.mu.Unlock()
	if b != nil {
		return b, nil
	}
	rows, err := x.often.QueryContext(ctx, `SELECT value FROM writes WHERE n = ?`, n)
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

// standing is where a record stands that is told from others.
type standing struct {
	batch sql.NullInt64 // number of the write of the issuing batch; none for a record that is written
	row   int
}

// in puts the batch together of which value is the status.
func (x *Index) in(ctx context.Context, at standing, value []byte) (*domain.Batch, error) {
	issued, err := x.issuingBatch(ctx, at.batch.Int64)
	if err != nil {
		return nil, err
	}
	status, ok := decode[domain.BatchStatus](value)
	if !ok {
		return nil, errors.New("the status of an issuing batch is unreadable")
	}
	b := &domain.Batch{Issued: *issued, Status: *status}
	return b, b.Check(b.Issued.ID())
}

// tell makes the certificate of a record that holds the status of its batch. Others
// stay as they are.
func (x *Index) tell(ctx context.Context, r *index.Record, at standing) error {
	if !at.batch.Valid {
		return nil
	}
	b, err := x.in(ctx, at, r.Value)
	if err != nil {
		return err
	}
	c, err := b.Certificate(at.row, r.ID)
	if err == nil {
		c, err = c.Sealed()
	}
	if err == nil {
		r.Value, err = domain.Canonical(c)
	}
	return err
}

// maxStatuses is how many writes of a status a history reads at a time.
const maxStatuses = 100

// certificateHistory is the history of a certificate: of the writes of its batch's
// status those that changed it.
func (x *Index) certificateHistory(ctx context.Context, ref string, after int64, limit int) (items []index.Record, numbers []int64, err error) {
	for {
		some, at, places, err := readRows(ctx, x.readers, `SELECT r.kind, r.id, w.value, w.block, t.tx_id, w.n, r.batch, r.part
			FROM records r JOIN writes b ON b.n = r.batch JOIN writes w INDEXED BY writes_record ON w.kind = ? AND w.kind <> '' AND w.id = b.id AND w.n > ?
			JOIN transactions t ON t.block = w.block AND t.seq = w.tx
			WHERE r.kind = ? AND r.id = ? ORDER BY w.n LIMIT ?`, string(domain.KindBatchStatus), after, string(domain.KindCertificate), ref, maxStatuses)
		if err != nil {
			return nil, nil, err
		}
		for i, r := range some {
			after = at[i]
			b, err := x.in(ctx, places[i], r.Value)
			if err != nil || !b.Status.Changes(places[i].row) {
				continue // it says nothing of this certificate
			}
			if err := x.tell(ctx, &r, places[i]); err != nil {
				return nil, nil, err
			}
			if items, numbers = append(items, r), append(numbers, at[i]); len(items) == limit {
				return items, numbers, nil
			}
		}
		if len(some) < maxStatuses {
			return items, numbers, nil
		}
	}
}
