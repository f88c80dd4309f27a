package sqlindex

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

// Hours and minutes are counted from 1970, times in microseconds.
const (
	hour   = int64(time.Hour / time.Microsecond)
	minute = int64(time.Minute / time.Microsecond)
)

// floor is how many whole units lie between 1970 and a time; division rounds
// towards 1970, also for what was before.
func floor(at, unit int64) int64 {
	n := at / unit
	if at%unit < 0 {
		n--
	}
	return n
}

// uses are what a batch of access records adds to the counts of its grants.
type uses struct {
	hours   map[useKey]*hourUse
	minutes map[useKey]*minuteUse
	items   map[itemKey]int64 // earliest call
}

// useKey names a grant, a direction and an hour or a minute.
type useKey struct {
	grant, direction string
	time             int64
}

type itemKey struct{ grant, direction, item string }

type hourUse struct{ uses, data, largest int64 }

type minuteUse struct{ uses, refused int64 }

func newUses() uses {
	return uses{map[useKey]*hourUse{}, map[useKey]*minuteUse{}, map[itemKey]int64{}}
}

// add counts a record of the time at.
func (u uses) add(r domain.AccessRecord, at int64) {
	key := useKey{r.GrantID, string(r.Direction), floor(at, minute)}
	m := u.minutes[key]
	if m == nil {
		m = &minuteUse{}
		u.minutes[key] = m
	}
	if r.Result != domain.ResultOK {
		m.refused++
		return
	}
	m.uses++
	key.time = floor(at, hour)
	h := u.hours[key]
	if h == nil {
		h = &hourUse{}
		u.hours[key] = h
	}
	data := min(max(r.RecordCount, 0), domain.MaxCountedData)
	h.uses, h.data, h.largest = h.uses+1, h.data+data, max(h.largest, data)
	item := itemKey{key.grant, key.direction, r.ServiceItem}
	if earliest, ok := u.items[item]; !ok || at < earliest {
		u.items[item] = at
	}
}

func (u uses) store(ctx context.Context, s statements) error {
	for k, h := range u.hours {
		if _, err := s.use.ExecContext(ctx, k.grant, k.direction, k.time, h.uses, h.data, h.largest); err != nil {
			return err
		}
	}
	for k, m := range u.minutes {
		if _, err := s.minute.ExecContext(ctx, k.grant, k.direction, k.time, m.uses, m.refused); err != nil {
			return err
		}
	}
	for k, earliest := range u.items {
		if _, err := s.item.ExecContext(ctx, k.grant, k.direction, k.item, earliest); err != nil {
			return err
		}
	}
	return nil
}

// GrantUse implements [index.Index].
func (x *Index) GrantUse(ctx context.Context, grantID string, direction domain.Direction, day, lastMinute time.Time) (total, today, recent int64, err error) {
	// The counts are of one state of the index.
	tx, err := x.readers.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err == nil {
		defer tx.Rollback() //nolint:errcheck // ends a transaction that wrote nothing
		err = tx.QueryRowContext(ctx, `SELECT coalesce(sum(uses), 0) FROM grant_use WHERE grant_id = ? AND direction = ?`, grantID, string(direction)).Scan(&total)
	}
	if err == nil {
		today, err = usesSince(ctx, tx, grantID, direction, day.UnixMicro())
	}
	if err == nil {
		recent, err = usesSince(ctx, tx, grantID, direction, lastMinute.UnixMicro())
	}
	if err != nil {
		return 0, 0, 0, fmt.Errorf("count uses of grant %s: %w", grantID, err)
	}
	return total, today, recent, nil
}

// usesSince counts whole hours, the whole minutes of the hour that from cuts, and
// record by record what of the minute that it cuts comes after.
func usesSince(ctx context.Context, tx *sql.Tx, grantID string, direction domain.Direction, from int64) (n int64, err error) {
	minutes := floor(from+minute-1, minute)
	hours := floor(minutes+59, 60)
	err = tx.QueryRowContext(ctx, `SELECT (SELECT coalesce(sum(uses), 0) FROM grant_use WHERE grant_id = ?1 AND direction = ?2 AND hour >= ?3) +
		(SELECT coalesce(sum(uses), 0) FROM grant_minute WHERE grant_id = ?1 AND direction = ?2 AND minute >= ?4 AND minute < ?3 * 60)`,
		grantID, string(direction), hours, minutes).Scan(&n)
	if err != nil || from == minutes*minute {
		return n, err
	}
	w, err := windowOf(ctx, tx, from, minutes*minute)
	if err != nil {
		return 0, err
	}
	var cut int64
	err = tx.QueryRowContext(ctx, `SELECT count(*) FROM access NOT INDEXED WHERE grant_id = ? AND idx >= ? AND idx < ? AND at >= ? AND at < ? AND direction = ? AND ok`,
		grantID, w.from, w.to, from, minutes*minute, string(direction)).Scan(&cut)
	return n + cut, err
}

// beijingHours is the offset of Asia/Shanghai from UTC.
const beijingHours = 8

// GrantHistory implements [index.Index].
func (x *Index) GrantHistory(ctx context.Context, grantID string, direction domain.Direction, at time.Time) (domain.GrantHistory, error) {
	h, err := x.grantHistory(ctx, grantID, string(direction), floor(at.UnixMicro(), minute))
	if err != nil {
		return domain.GrantHistory{}, fmt.Errorf("read history of grant %s: %w", grantID, err)
	}
	return h, nil
}

func (x *Index) grantHistory(ctx context.Context, grantID, direction string, minutes int64) (h domain.GrantHistory, err error) {
	tx, err := x.readers.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return h, err
	}
	defer tx.Rollback() //nolint:errcheck // ends a transaction that wrote nothing
	if err := readHours(ctx, tx, &h, grantID, direction, floor(minutes, 60)); err != nil {
		return h, err
	}
	if err := readItems(ctx, tx, &h, grantID, direction, minutes*minute); err != nil {
		return h, err
	}
	err = tx.QueryRowContext(ctx, `SELECT coalesce(sum(uses), 0), coalesce(sum(refused) FILTER (WHERE minute >= ?3 - 4), 0)
		FROM grant_minute WHERE grant_id = ?1 AND direction = ?2 AND minute >= ?3 - 59 AND minute < ?3`, grantID, direction, minutes).Scan(&h.LastHour, &h.Refused)
	return h, err
}

// readHours reads what the hours before the hour before say.
func readHours(ctx context.Context, tx *sql.Tx, h *domain.GrantHistory, grantID, direction string, before int64) error {
	rows, err := tx.QueryContext(ctx, `SELECT hour, uses, data, largest FROM grant_use
		WHERE grant_id = ? AND direction = ? AND hour >= ? AND hour < ? ORDER BY hour`, grantID, direction, before-domain.HistoryHours, before)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var at int64
		var u hourUse
		if err := rows.Scan(&at, &u.uses, &u.data, &u.largest); err != nil {
			return err
		}
		if h.Hours == 0 {
			h.Hours = before - at
		}
		h.Calls += u.uses
		h.Busiest = max(h.Busiest, u.uses)
		h.DataRecords += u.data
		h.Largest = max(h.Largest, u.largest)
		ofDay := at + beijingHours
		h.ByHour[ofDay-24*floor(ofDay, 24)] += u.uses
	}
	return rows.Err()
}

func readItems(ctx context.Context, tx *sql.Tx, h *domain.GrantHistory, grantID, direction string, before int64) error {
	rows, err := tx.QueryContext(ctx, `SELECT service_item FROM grant_item WHERE grant_id = ? AND direction = ? AND earliest < ? ORDER BY service_item`,
		grantID, direction, before)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var item string
		if err := rows.Scan(&item); err != nil {
			return err
		}
		h.ServiceItems = append(h.ServiceItems, item)
	}
	return rows.Err()
}

// Judged implements [index.Index].
func (x *Index) Judged(ctx context.Context) (uint64, error) {
	var n uint64
	if err := x.readers.QueryRowContext(ctx, `SELECT judged FROM progress`).Scan(&n); err != nil {
		return 0, fmt.Errorf("read how many access records were judged: %w", err)
	}
	return n, nil
}

// SetJudged implements [index.Index].
func (x *Index) SetJudged(ctx context.Context, n uint64) error {
	judged, err := column("judged", n)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, err := x.writer.ExecContext(ctx, `UPDATE progress SET judged = ?`, judged); err != nil {
		return fmt.Errorf("store how many access records were judged: %w", err)
	}
	return nil
}
