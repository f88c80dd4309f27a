package sqltrail

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/zhenglian/zhenglian/gateway/trail"
)

// AddFinding implements [trail.Store].
func (s *Store) AddFinding(ctx context.Context, f trail.Finding) error {
	fail := func(err error) error { return fmt.Errorf("store a finding: %w", err) }
	place, err := column("place", f.Place)
	if err != nil {
		return fail(err)
	}
	for _, name := range []struct{ field, value string }{{"department", string(f.Department)}, {"kind", string(f.Kind)}, {"text", f.Text}} {
		if err := checkName(name.field, name.value); err != nil {
			return fail(err)
		}
	}
	err = s.transaction(ctx, func(tx writing) error {
		_, err := tx.ExecContext(ctx, s.text(`INSERT INTO findings (department, kind, place, body, first_seen, last_seen) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (department, kind, place) DO UPDATE SET body = excluded.body, last_seen = excluded.last_seen`),
			string(f.Department), string(f.Kind), place, f.Text, f.FirstSeen.UnixMilli(), f.LastSeen.UnixMilli())
		return err
	})
	if err != nil {
		return fail(err)
	}
	return nil
}

// ListFindings implements [trail.Store].
func (s *Store) ListFindings(ctx context.Context, filter trail.FindingFilter, page trail.Page) (trail.Findings, error) {
	fail := func(err error) (trail.Findings, error) { return trail.Findings{}, fmt.Errorf("list findings: %w", err) }
	list, after, err := s.open("findings", filter, page, 3)
	if err != nil {
		return fail(err)
	}
	var where conditions
	if filter.Department != "" {
		where.add(`department = ?`, string(filter.Department))
	}
	if filter.Kind != "" {
		where.add(`kind = ?`, string(filter.Kind))
	}
	if !filter.SeenSince.IsZero() {
		where.add(`last_seen >= ?`, filter.SeenSince.UnixMilli())
	}
	if after != nil {
		place, err := strconv.ParseInt(after[2], 10, 64)
		if err != nil {
			return fail(badCursor())
		}
		where.add(`(department, kind, place) > (?, ?, ?)`, after[0], after[1], place)
	}
	var out trail.Findings
	query := fmt.Sprintf(`SELECT department, kind, place, body, first_seen, last_seen FROM findings WHERE %s ORDER BY department, kind, place LIMIT %d`, where, page.Limit+1)
	err = s.query(ctx, query, where.args, func(scan func(...any) error) error {
		var f trail.Finding
		var first, last int64
		err := scan(&f.Department, &f.Kind, &f.Place, &f.Text, &first, &last)
		f.FirstSeen, f.LastSeen = timeOf(first), timeOf(last)
		out.Items = append(out.Items, f)
		return err
	})
	if err != nil {
		return fail(err)
	}
	if len(out.Items) > page.Limit {
		out.Items = out.Items[:page.Limit]
		last := out.Items[page.Limit-1]
		out.Next = encodeCursor(list, strings.Join([]string{string(last.Department), string(last.Kind), strconv.FormatUint(last.Place, 10)}, "\x00"))
	}
	return out, nil
}
