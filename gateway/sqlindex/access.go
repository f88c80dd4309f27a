package sqlindex

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
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
		uses, named := newUses(), places{}
		times := map[int64]span{} // by chunk
		rows := make([]any, 0, len(batch)*accessColumns)
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
			rows = append(rows, idx, at, string(r.Direction), r.Result == domain.ResultOK, r.CallID, r.GrantID, r.CaseRef, r.SubjectRef, record)
			chunk, ok := times[idx/chunkSize]
			if !ok {
				chunk = span{at, at}
			}
			times[idx/chunkSize] = span{min(chunk.earliest, at), max(chunk.latest, at)}
			uses.add(r, at)
			named.add(r, idx)
		}
		if err := s.access.insert(ctx, rows); err != nil {
			return err
		}
		if err := named.store(ctx, s.places); err != nil {
			return err
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

// accessColumns are the columns of a row of access.
const accessColumns = 9

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
// of the span. A trace by call, subject or case walks the index of that; one by what
// many records have in common goes by their places; and any other walks the log.
func (x *Index) Trace(ctx context.Context, filter index.AccessFilter, page index.Page) (index.AccessEntries, error) {
	if err := checkPage(page); err != nil {
		return index.AccessEntries{}, err
	}
	before, err := decodeNumberCursor(listTrace, page.After, math.MaxInt64)
	if err != nil {
		return index.AccessEntries{}, err
	}
	items, err := x.trace(ctx, filter, before, page.Limit+1)
	if err != nil {
		return index.AccessEntries{}, fmt.Errorf("trace access records: %w", err)
	}
	if len(items) <= page.Limit {
		return index.AccessEntries{Items: items}, nil
	}
	items = items[:page.Limit]
	return index.AccessEntries{Items: items, Next: encodeCursor(listTrace, strconv.FormatUint(items[page.Limit-1].Index, 10))}, nil
}

// trace answers the newest n entries before an index that match a filter.
func (x *Index) trace(ctx context.Context, filter index.AccessFilter, before int64, n int) ([]index.AccessEntry, error) {
	window := allEntries
	if !filter.From.IsZero() || !filter.To.IsZero() {
		var err error
		if window, err = x.window(ctx, filter.From, filter.To); err != nil {
			return nil, err
		}
	}
	window.to = min(window.to, before)
	if terms := termsOf(filter); len(terms) > 0 && filter.CallID == "" && filter.SubjectRef == "" && filter.CaseRef == "" {
		return x.placed(ctx, filter, terms, window, n)
	}
	query, args := traceQuery(filter, window)
	return x.matching(ctx, filter, n, query, args...)
}

// traceQuery walks the index that leaves the fewest records, as far as the meaning of
// the fields tells. SQLite has no statistics to choose by, and a trace by case must
// not walk a department's whole log.
func traceQuery(filter index.AccessFilter, window entries) (string, []any) {
	from, conditions := `access a`, timesOf(filter)
	conditions.add(`a.idx >= ? AND a.idx < ?`, window.from, window.to)
	switch {
	case filter.CallID != "":
		from += ` INDEXED BY access_call`
		conditions.add(`a.call_id = ?`, filter.CallID)
	case filter.SubjectRef != "":
		from += ` INDEXED BY access_subject`
		conditions.add(`a.subject_ref <> '' AND a.subject_ref = ?`, filter.SubjectRef)
	case filter.CaseRef != "":
		from += ` INDEXED BY access_case`
		conditions.add(`a.case_ref <> '' AND a.case_ref = ?`, filter.CaseRef)
	}
	return `SELECT a.idx, a.record FROM ` + from + ` WHERE ` + strings.Join(conditions.sql, ` AND `) + ` ORDER BY a.idx DESC`, conditions.args
}

// timesOf are the conditions that a filter's span of time makes.
func timesOf(filter index.AccessFilter) (c conditions) {
	if !filter.From.IsZero() {
		c.add(`a.at >= ?`, filter.From.UnixMicro())
	}
	if !filter.To.IsZero() {
		c.add(`a.at < ?`, filter.To.UnixMicro())
	}
	return c
}

// matches reports whether a record is what a filter asks for, apart from its time.
func matches(r domain.AccessRecord, f index.AccessFilter) bool {
	is := func(wanted, value string) bool { return wanted == "" || wanted == value }
	return is(f.CatalogCode, r.CatalogCode) && is(f.GrantID, r.GrantID) && is(f.Purpose, r.Purpose) && is(f.ServiceItem, r.ServiceItem) &&
		is(f.CaseRef, r.CaseRef) && is(f.SubjectRef, r.SubjectRef) && is(f.CallID, r.CallID) &&
		(is(string(f.Department), string(r.Provider)) || is(string(f.Department), string(r.Consumer)))
}

// matching reads the first n log entries of a query that match a filter: their index
// and record.
func (x *Index) matching(ctx context.Context, filter index.AccessFilter, n int, query string, args ...any) ([]index.AccessEntry, error) {
	rows, err := x.often.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var items []index.AccessEntry
	for len(items) < n && rows.Next() {
		var e index.AccessEntry
		var record sql.RawBytes // parsed before the next row
		if err := rows.Scan(&e.Index, &record); err != nil {
			return nil, err
		}
		if err := domain.ParseCanonical(record, &e.Record); err != nil {
			return nil, fmt.Errorf("record %d: %w", e.Index, err)
		}
		if matches(e.Record, filter) {
			e.LeafHash = leafHash(record)
			items = append(items, e)
		}
	}
	return items, rows.Err()
}

// leafHash is the RFC 6962 hash of a log entry.
func leafHash(entry []byte) []byte {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(entry)
	return h.Sum(nil)
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
	items, err := x.matching(ctx, index.AccessFilter{}, limit, `SELECT idx, record FROM access WHERE idx >= ? ORDER BY idx LIMIT ?`, first, limit)
	if err != nil {
		return nil, fmt.Errorf("read access records from %d on: %w", from, err)
	}
	return items, nil
}

const findCalls = `SELECT a.idx, a.record FROM (
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
	items, err := x.matching(ctx, index.AccessFilter{}, len(ids), findCalls, string(list), string(direction))
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
