package sqlindex

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

const resultOK = "ok"

// ApplyAccess implements [index.Index].
func (x *Index) ApplyAccess(ctx context.Context, batch []index.AccessEntry) error {
	if len(batch) == 0 {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	err := inTransaction(ctx, x.writer, func(tx *sql.Tx) error {
		_, next, err := progress(ctx, tx)
		if err != nil {
			return err
		}
		s := x.insert.in(ctx, tx)
		type bucket struct {
			grant, direction string
			hour             int64
		}
		uses := map[bucket]int64{}
		times := map[int64]span{} // by chunk
		for i, e := range batch {
			if want := next + uint64(i); e.Index != want {
				return fmt.Errorf("entry has index %d and %d is the next one", e.Index, want)
			}
			idx, err := column("index", e.Index)
			if err != nil {
				return err
			}
			r := e.Record
			at := r.At.UnixMicro()
			record, err := domain.Canonical(r)
			if err != nil {
				return fmt.Errorf("entry %d: %w", e.Index, err)
			}
			if _, err := s.access.ExecContext(ctx, idx, at, string(r.Direction), r.Result == resultOK, r.CallID, r.GrantID,
				r.CatalogCode, string(r.Provider), string(r.Consumer), r.Purpose, r.ServiceItem, r.CaseRef, r.SubjectRef, e.LeafHash, record); err != nil {
				return fmt.Errorf("entry %d: %w", e.Index, err)
			}
			chunk, ok := times[idx/chunkSize]
			if !ok {
				chunk = span{at, at}
			}
			times[idx/chunkSize] = span{min(chunk.earliest, at), max(chunk.latest, at)}
			if r.Result == resultOK {
				uses[bucket{r.GrantID, string(r.Direction), hourOf(at)}]++
			}
		}
		for chunk, t := range times {
			if _, err := s.times.ExecContext(ctx, chunk, t.earliest, t.latest); err != nil {
				return err
			}
		}
		use := s.use
		for b, n := range uses {
			if _, err := use.ExecContext(ctx, b.grant, b.direction, b.hour, n); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `UPDATE progress SET next_access = ?`, int64(next)+int64(len(batch)))
		return err
	})
	if err != nil {
		return fmt.Errorf("apply %d access records to the index: %w", len(batch), err)
	}
	return nil
}

// span is a closed span of times in microseconds since 1970.
type span struct{ earliest, latest int64 }

// chunkSize is how many log entries share a row of access_times.
const chunkSize = 1024

const hour = int64(time.Hour / time.Microsecond)

// hourOf is the number of whole hours from 1970 to a time in microseconds.
func hourOf(at int64) int64 {
	h := at / hour
	if at%hour < 0 { // before 1970 division rounds up
		h--
	}
	return h
}

// NextAccess implements [index.Index].
func (x *Index) NextAccess(ctx context.Context) (uint64, error) {
	_, next, err := progress(ctx, x.readers)
	if err != nil {
		return 0, fmt.Errorf("read the index: %w", err)
	}
	return next, nil
}

const listTrace = "trace"

// Trace implements [index.Index]. Times count to the microsecond; To is not part
// of the span. A trace walks the index of what it names, in the part of the log
// that holds the span of time.
func (x *Index) Trace(ctx context.Context, filter index.AccessFilter, page index.Page) (index.AccessEntries, error) {
	if err := checkPage(page); err != nil {
		return index.AccessEntries{}, err
	}
	before, err := decodeNumberCursor(listTrace, page.After, math.MaxInt64)
	if err != nil {
		return index.AccessEntries{}, err
	}
	window := allEntries
	if !filter.From.IsZero() || !filter.To.IsZero() {
		if window, err = x.window(ctx, filter.From, filter.To); err != nil {
			return index.AccessEntries{}, fmt.Errorf("trace access records: %w", err)
		}
	}
	keys, args := traceQuery(filter, entries{window.from, min(window.to, before)}, page.Limit+1)
	rows, err := x.readers.QueryContext(ctx, `SELECT a.idx, a.leaf_hash, a.record FROM (`+keys+`) k CROSS JOIN access a ON a.idx = k.idx ORDER BY k.idx DESC`, args...) //nolint:gosec // keys is put together from constants
	if err != nil {
		return index.AccessEntries{}, fmt.Errorf("trace access records: %w", err)
	}
	defer rows.Close()
	var out index.AccessEntries
	for rows.Next() {
		if len(out.Items) == page.Limit {
			out.Next = encodeCursor(listTrace, strconv.FormatUint(out.Items[page.Limit-1].Index, 10))
			break
		}
		var e index.AccessEntry
		var record []byte
		if err := rows.Scan(&e.Index, &e.LeafHash, &record); err != nil {
			return index.AccessEntries{}, fmt.Errorf("trace access records: %w", err)
		}
		if err := json.Unmarshal(record, &e.Record); err != nil {
			return index.AccessEntries{}, fmt.Errorf("trace access record %d: %w", e.Index, err)
		}
		out.Items = append(out.Items, e)
	}
	if err := rows.Err(); err != nil {
		return index.AccessEntries{}, fmt.Errorf("trace access records: %w", err)
	}
	return out, nil
}

// entries is a range of log entries, from ≤ idx < to.
type entries struct{ from, to int64 }

var allEntries = entries{0, math.MaxInt64}

// window answers the part of the log that holds every record of a span of time,
// and other records.
func (x *Index) window(ctx context.Context, from, to time.Time) (entries, error) {
	earliest, latest := int64(math.MinInt64), int64(math.MaxInt64)
	if !from.IsZero() {
		earliest = from.UnixMicro()
	}
	if !to.IsZero() {
		latest = to.UnixMicro()
	}
	var w entries
	err := x.readers.QueryRowContext(ctx, `SELECT coalesce(min(chunk), 0) * ?1, coalesce(max(chunk) + 1, 0) * ?1 FROM access_times WHERE latest >= ?2 AND earliest < ?3`,
		chunkSize, earliest, latest).Scan(&w.from, &w.to)
	return w, err
}

// traceQuery chooses the index to walk: the one that leaves the fewest records,
// as far as the meaning of the fields tells. SQLite has no statistics to choose
// by, and a trace by case must not walk a department's whole log.
func traceQuery(filter index.AccessFilter, window entries, limit int) (string, []any) {
	var where conditions
	where.add(`idx >= ? AND idx < ?`, window.from, window.to)
	walk := ""
	for _, f := range []struct{ value, sql, index string }{
		{filter.CallID, `call_id = ?`, "access_call"},
		{filter.SubjectRef, `subject_ref <> '' AND subject_ref = ?`, "access_subject"},
		{filter.CaseRef, `case_ref <> '' AND case_ref = ?`, "access_case"},
		{filter.GrantID, `grant_id = ?`, "access_grant"},
		{filter.CatalogCode, `catalog_code = ?`, "access_catalog"},
		{filter.ServiceItem, `service_item = ?`, "access_service_item"},
		{filter.Purpose, `purpose = ?`, "access_purpose"},
	} {
		if f.value == "" {
			continue
		}
		where.add(f.sql, f.value)
		if walk == "" {
			walk = f.index
		}
	}
	if !filter.From.IsZero() {
		where.add(`at >= ?`, filter.From.UnixMicro())
	}
	if !filter.To.IsZero() {
		where.add(`at < ?`, filter.To.UnixMicro())
	}
	q := keyQuery{table: "access", keys: "idx", order: "idx DESC", limit: limit}
	department := string(filter.Department)
	switch {
	case department == "":
		q.leg(walk, where)
	case walk == "":
		q.leg("access_provider", where.with(`provider = ?`, department))
		q.leg("access_consumer", where.with(`consumer = ?`, department))
	default:
		q.leg(walk, where.with(`(provider = ? OR consumer = ?)`, department, department))
	}
	return q.build()
}

// GrantUse implements [index.Index].
func (x *Index) GrantUse(ctx context.Context, grantID string, direction domain.Direction, since time.Time) (total, recent int64, err error) {
	from := since.UnixMicro()
	whole := hourOf(from + hour - 1) // the first hour that lies after since entirely
	cut, err := x.window(ctx, since, time.UnixMicro(whole*hour))
	if err != nil {
		return 0, 0, fmt.Errorf("count uses of grant %s: %w", grantID, err)
	}
	if from == whole*hour {
		cut = entries{} // since cuts no hour in two
	}
	// One statement sees one state. What of the cut hour lies after since is counted record by record.
	err = x.readers.QueryRowContext(ctx, `SELECT coalesce(sum(uses), 0), coalesce(sum(uses) FILTER (WHERE hour >= ?1), 0) + (
		SELECT count(*) FROM access INDEXED BY access_grant WHERE grant_id = ?4 AND idx >= ?6 AND idx < ?7 AND at >= ?2 AND at < ?1 * ?3 AND direction = ?5 AND ok)
		FROM grant_use WHERE grant_id = ?4 AND direction = ?5`, whole, from, hour, grantID, string(direction), cut.from, cut.to).Scan(&total, &recent)
	if err != nil {
		return 0, 0, fmt.Errorf("count uses of grant %s: %w", grantID, err)
	}
	return total, recent, nil
}

// GrantCounts implements [index.Index]. It fails while the index has not applied
// every record of the range: a count too small would be anchored for ever.
func (x *Index) GrantCounts(ctx context.Context, from, to uint64) ([]domain.GrantCount, error) {
	if from > to {
		return nil, &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf("the range from %d to %d is none", from, to)}
	}
	next, err := x.NextAccess(ctx)
	if err != nil {
		return nil, err
	}
	if to > next {
		return nil, fmt.Errorf("count access records to %d: the index has applied %d", to, next)
	}
	// Without NOT INDEXED the order of grants would tempt SQLite to walk the whole grant index.
	rows, err := x.readers.QueryContext(ctx, `SELECT grant_id, count(*) FROM access NOT INDEXED WHERE idx >= ? AND idx < ? GROUP BY grant_id ORDER BY grant_id`,
		int64(from), int64(to)) // both ≤ next, which fits
	if err != nil {
		return nil, fmt.Errorf("count access records per grant: %w", err)
	}
	defer rows.Close()
	var counts []domain.GrantCount
	for rows.Next() {
		var c domain.GrantCount
		if err := rows.Scan(&c.GrantID, &c.Count); err != nil {
			return nil, fmt.Errorf("count access records per grant: %w", err)
		}
		counts = append(counts, c)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("count access records per grant: %w", err)
	}
	return counts, nil
}
