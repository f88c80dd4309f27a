package sqlindex

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

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
		uses := newUses()
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
			if _, err := s.access.ExecContext(ctx, idx, at, string(r.Direction), r.Result == domain.ResultOK, r.CallID, r.GrantID,
				r.CatalogCode, string(r.Provider), string(r.Consumer), r.Purpose, r.ServiceItem, r.CaseRef, r.SubjectRef, e.LeafHash, record); err != nil {
				return fmt.Errorf("entry %d: %w", e.Index, err)
			}
			chunk, ok := times[idx/chunkSize]
			if !ok {
				chunk = span{at, at}
			}
			times[idx/chunkSize] = span{min(chunk.earliest, at), max(chunk.latest, at)}
			uses.add(r, at)
		}
		for chunk, t := range times {
			if _, err := s.times.ExecContext(ctx, chunk, t.earliest, t.latest); err != nil {
				return err
			}
		}
		if err := uses.store(ctx, s); err != nil {
			return err
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
	items, err := x.readEntries(ctx, `SELECT a.idx, a.leaf_hash, a.record FROM (`+keys+`) k CROSS JOIN access a ON a.idx = k.idx ORDER BY k.idx DESC`, args...)
	if err != nil {
		return index.AccessEntries{}, fmt.Errorf("trace access records: %w", err)
	}
	if len(items) <= page.Limit {
		return index.AccessEntries{Items: items}, nil
	}
	items = items[:page.Limit]
	return index.AccessEntries{Items: items, Next: encodeCursor(listTrace, strconv.FormatUint(items[page.Limit-1].Index, 10))}, nil
}

// readEntries reads log entries: their index, leaf hash and record.
func (x *Index) readEntries(ctx context.Context, query string, args ...any) ([]index.AccessEntry, error) {
	rows, err := x.often.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var items []index.AccessEntry
	for rows.Next() {
		var e index.AccessEntry
		var record sql.RawBytes // parsed before the next row
		if err := rows.Scan(&e.Index, &e.LeafHash, &record); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(record, &e.Record); err != nil {
			return nil, fmt.Errorf("record %d: %w", e.Index, err)
		}
		items = append(items, e)
	}
	return items, rows.Err()
}

// Entries implements [index.Index].
func (x *Index) Entries(ctx context.Context, from uint64, limit int) ([]index.AccessEntry, error) {
	if limit < 1 || limit > 1000 {
		return nil, &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf("limit %d is not between 1 and 1000", limit)}
	}
	first, err := column("index", from)
	if err != nil {
		return nil, err
	}
	items, err := x.readEntries(ctx, `SELECT idx, leaf_hash, record FROM access WHERE idx >= ? ORDER BY idx LIMIT ?`, first, limit)
	if err != nil {
		return nil, fmt.Errorf("read access records from %d on: %w", from, err)
	}
	return items, nil
}

const findCalls = `SELECT a.idx, a.leaf_hash, a.record FROM (
	SELECT (SELECT idx FROM access INDEXED BY access_call WHERE call_id = j.value AND direction = ?2 ORDER BY idx DESC LIMIT 1) AS newest FROM json_each(?1) j) k
	CROSS JOIN access a ON a.idx = k.newest`

// FindCalls implements [index.Index].
func (x *Index) FindCalls(ctx context.Context, callIDs []string, direction domain.Direction) ([]index.AccessEntry, error) {
	if len(callIDs) < 1 || len(callIDs) > 1000 {
		return nil, &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf("%d calls are not between 1 and 1000", len(callIDs))}
	}
	ids := slices.Compact(slices.Sorted(slices.Values(callIDs)))
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	items, err := x.readEntries(ctx, findCalls, string(list), string(direction))
	if err != nil {
		return nil, fmt.Errorf("find access records of calls: %w", err)
	}
	return items, nil
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
	return windowOf(ctx, x.readers, earliest, latest)
}

// windowOf is window of a span in microseconds.
func windowOf(ctx context.Context, q querier, from, to int64) (w entries, err error) {
	err = q.QueryRowContext(ctx, `SELECT coalesce(min(chunk), 0) * ?1, coalesce(max(chunk) + 1, 0) * ?1 FROM access_times WHERE latest >= ?2 AND earliest < ?3`,
		chunkSize, from, to).Scan(&w.from, &w.to)
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
