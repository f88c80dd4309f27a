package sqltrail

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/trail"
)

// Sides of a call, as stored.
const (
	sideProvider = 1
	sideConsumer = 2
)

// entry is an entry on its way into the database.
type entry struct {
	at                int64
	index, anchorSize int64
	side              int64
	record            domain.AccessRecord
	canonical         []byte
	call, facts       int64
}

// Apply implements [trail.Store].
func (s *Store) Apply(ctx context.Context, department domain.DepartmentCode, entries []trail.Entry, progress trail.Progress) error {
	fail := func(err error) error {
		return fmt.Errorf("apply %d entries of the log of %s to the trail: %w", len(entries), department, err)
	}
	rows, err := s.entries(department, entries) // before others have to wait
	if err != nil {
		return fail(err)
	}
	if err := checkProgress(entries, progress); err != nil {
		return fail(err)
	}
	err = s.transaction(ctx, func(tx writing) error {
		n, err := s.reserve(ctx, tx, len(rows))
		if err != nil {
			return err
		}
		if err := s.advance(ctx, tx, department, entries, progress); err != nil {
			return err
		}
		if err := s.store(ctx, tx, rows, n); err != nil {
			return err
		}
		return s.pair(ctx, tx, rows, n)
	})
	if err != nil {
		return fail(err)
	}
	return nil
}

// entries checks entries against their log and one another and reads from their
// records what columns need.
func (s *Store) entries(department domain.DepartmentCode, entries []trail.Entry) ([]entry, error) {
	if err := checkName("department", string(department)); err != nil {
		return nil, err
	}
	rows := make([]entry, 0, len(entries))
	for i, e := range entries {
		if want := entries[0].Index + uint64(i); e.Index != want || e.Department != department {
			return nil, invalid("entry %d of the log of %s stands where entry %d of the log of %s is expected", e.Index, e.Department, want, department)
		}
		if e.AnchorSize <= e.Index {
			return nil, invalid("entry %d: an anchor of size %d does not cover it", e.Index, e.AnchorSize)
		}
		if e.Record.Schema == "" {
			continue // no access record
		}
		row, err := s.entry(e)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", e.Index, err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (s *Store) entry(e trail.Entry) (entry, error) {
	r := e.Record
	row := entry{at: r.At.UnixMilli(), record: r}
	var err error
	if row.index, err = column("index", e.Index); err != nil {
		return entry{}, err
	}
	if row.anchorSize, err = column("anchor size", e.AnchorSize); err != nil {
		return entry{}, err
	}
	writer := r.Provider
	switch r.Direction {
	case domain.DirectionProvider:
		row.side = sideProvider
	case domain.DirectionConsumer:
		row.side, writer = sideConsumer, r.Consumer
	default:
		return entry{}, invalid("direction: %q is neither provider nor consumer", r.Direction)
	}
	if writer != e.Department {
		return entry{}, invalid("the record belongs to the log of %s", writer)
	}
	for _, name := range []struct{ field, value string }{{"provider", string(r.Provider)}, {"consumer", string(r.Consumer)}, {"result", r.Result}} {
		if err := checkName(name.field, name.value); err != nil {
			return entry{}, err
		}
	}
	if row.canonical, err = domain.Canonical(r); err != nil {
		return entry{}, err
	}
	if !bytes.Equal(e.LeafHash, leafHash(row.canonical)) {
		return entry{}, invalid("the record does not hash to the leaf")
	}
	row.call, row.facts = s.digest([]byte(r.CallID)), s.digest(trail.Facts(r))
	return row, nil
}

// checkName refuses what cannot stand in a column of text.
func checkName(field, name string) error {
	if name == "" {
		return invalid("%s: required", field)
	}
	return checkText(field, name)
}

// checkText refuses what no column of text can hold, so that both databases
// answer alike.
func checkText(field, text string) error {
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return invalid("%s: holds a NUL, or is not UTF-8", field)
	}
	return nil
}

// leafHash is the RFC 6962 hash of an entry.
func leafHash(data []byte) []byte {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(data)
	return h.Sum(nil)
}

func checkProgress(entries []trail.Entry, progress trail.Progress) error {
	switch {
	case progress.Size > progress.Anchored:
		return invalid("progress: size %d is not covered by the anchor of size %d", progress.Size, progress.Anchored)
	case progress.Anchored > 0 && len(progress.Root) != sha256.Size:
		return invalid("progress: the root has %d bytes and not 32", len(progress.Root))
	}
	for _, e := range entries {
		if e.AnchorSize > progress.Anchored {
			return invalid("entry %d: covered by an anchor of size %d, beyond the last one of size %d", e.Index, e.AnchorSize, progress.Anchored)
		}
	}
	return nil
}

// reserve makes this transaction the only writer and answers the first of the
// numbers that its rows get.
func (s *Store) reserve(ctx context.Context, tx writing, rows int) (int64, error) {
	var next int64
	err := tx.QueryRowContext(ctx, s.text(`UPDATE store SET next_n = next_n + ? RETURNING next_n`), int64(rows)).Scan(&next)
	return next - int64(rows), err
}

// advance stores the progress if entries and progress follow what is stored.
func (s *Store) advance(ctx context.Context, tx writing, department domain.DepartmentCode, entries []trail.Entry, progress trail.Progress) error {
	before, err := s.progress(ctx, tx, department)
	if err != nil {
		return err
	}
	if len(entries) > 0 && entries[0].Index != before.Size {
		return invalid("the first entry is %d and entry %d is the next one", entries[0].Index, before.Size)
	}
	if want := before.Size + uint64(len(entries)); progress.Size != want {
		return invalid("progress: size %d and not %d", progress.Size, want)
	}
	if progress.Anchored < before.Anchored {
		return invalid("progress: the last anchor was one of size %d and now is one of size %d", before.Anchored, progress.Anchored)
	}
	size, err := column("size", progress.Size)
	if err != nil {
		return err
	}
	anchored, err := column("anchored", progress.Anchored)
	if err != nil {
		return err
	}
	root := append([]byte{}, progress.Root...) // not null
	_, err = tx.ExecContext(ctx, s.text(`INSERT INTO logs (department, size, anchored, root, seen) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (department) DO UPDATE SET size = excluded.size, anchored = excluded.anchored, root = excluded.root, seen = excluded.seen`),
		string(department), size, anchored, root, progress.Seen.UnixMilli())
	return err
}

// store inserts the rows under the numbers from n on.
func (s *Store) store(ctx context.Context, tx writing, rows []entry, n int64) error {
	args := make([]any, 0, len(rows)*len(accessColumns))
	for i, e := range rows {
		r := e.record
		args = append(args, n+int64(i), e.at, string(r.Writer()), e.index, e.side, string(r.Provider), string(r.Consumer), r.Result, r.RecordCount,
			s.digest([]byte(r.CatalogCode)), s.digest([]byte(r.GrantID)), s.digest([]byte(r.Purpose)), s.digestOr(r.ServiceItem),
			s.digest([]byte(r.Operator)), s.digestOr(r.CaseRef), s.digestOr(r.SubjectRef), e.call, e.anchorSize, e.canonical)
	}
	if s.copyRows != nil {
		return s.copyRows(ctx, tx, "access", accessColumns, args)
	}
	return s.write.access.insert(ctx, tx, args)
}

// Progress implements [trail.Store].
func (s *Store) Progress(ctx context.Context, department domain.DepartmentCode) (trail.Progress, error) {
	p, err := s.progress(ctx, s.readers, department)
	if err != nil {
		return trail.Progress{}, fmt.Errorf("read the trail: %w", err)
	}
	return p, nil
}

// querier is what [sql.DB] and [sql.Tx] have in common.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

const selectLog = `SELECT department, size, anchored, root, seen FROM logs`

func scanLog(scan func(...any) error) (trail.Log, error) {
	var l trail.Log
	var seen int64
	err := scan(&l.Department, &l.Progress.Size, &l.Progress.Anchored, &l.Progress.Root, &seen)
	l.Progress.Seen = timeOf(seen)
	if len(l.Progress.Root) == 0 {
		l.Progress.Root = nil
	}
	return l, err
}

func (s *Store) progress(ctx context.Context, q querier, department domain.DepartmentCode) (trail.Progress, error) {
	l, err := scanLog(q.QueryRowContext(ctx, s.text(selectLog+` WHERE department = ?`), string(department)).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return trail.Progress{}, nil
	}
	return l.Progress, err
}

// Logs implements [trail.Store].
func (s *Store) Logs(ctx context.Context) ([]trail.Log, error) {
	var logs []trail.Log
	err := s.query(ctx, selectLog+` ORDER BY department`, nil, func(scan func(...any) error) error {
		l, err := scanLog(scan)
		logs = append(logs, l)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the trail: %w", err)
	}
	return logs, nil
}
