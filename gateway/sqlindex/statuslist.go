package sqlindex

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
)

// StatusIndexes implements [index.Index]. The status index stands in the issuing
// batch alone: few certificates have one of the states asked for, and reading those
// costs less than a column that every issue would have to write.
func (x *Index) StatusIndexes(ctx context.Context, issuer domain.DepartmentCode, states []domain.CertificateStatus, from, to int) ([]int, error) {
	if len(states) == 0 {
		return nil, nil
	}
	args := []any{string(issuer)}
	for _, s := range states {
		args = append(args, string(s))
	}
	found, err := x.readLives(ctx, `SELECT issued, certificates FROM lives INDEXED BY lives_department_state
		WHERE department = ? AND state IN (?`+strings.Repeat(", ?", len(states)-1)+`) ORDER BY issued`, args)
	if err != nil {
		return nil, fmt.Errorf("read status indexes: %w", err)
	}
	var places []int
	for _, l := range found {
		b, err := x.issuingBatch(ctx, x.often, l.issued)
		if err != nil {
			return nil, fmt.Errorf("read status indexes: %w", err)
		}
		for _, row := range l.certificates {
			if place := b.Content.Certificates[row].StatusIndex; from <= place && place < to {
				places = append(places, place)
			}
		}
	}
	slices.Sort(places)
	return places, nil
}

func (x *Index) readLives(ctx context.Context, query string, args []any) ([]lifeRow, error) {
	rows, err := x.readers.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []lifeRow
	for rows.Next() {
		var l lifeRow
		if err := rows.Scan(&l.issued, &l.certificates); err != nil {
			return nil, err
		}
		found = append(found, l)
	}
	return found, rows.Err()
}
