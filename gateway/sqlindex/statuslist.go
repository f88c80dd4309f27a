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
	args := []any{string(domain.KindCertificate), string(issuer)}
	for _, s := range states {
		args = append(args, string(s))
	}
	found, err := x.standings(ctx, `SELECT batch, part FROM records INDEXED BY records_department_state
		WHERE kind = ? AND department = ? AND department <> '' AND state <> '' AND state IN (?`+strings.Repeat(", ?", len(states)-1)+`) ORDER BY batch`, args)
	if err != nil {
		return nil, fmt.Errorf("read status indexes: %w", err)
	}
	var places []int
	for _, at := range found {
		b, err := x.issuingBatch(ctx, at.batch.Int64)
		if err != nil {
			return nil, fmt.Errorf("read status indexes: %w", err)
		}
		if place := b.Content.Certificates[at.row].StatusIndex; from <= place && place < to {
			places = append(places, place)
		}
	}
	slices.Sort(places)
	return places, nil
}

func (x *Index) standings(ctx context.Context, query string, args []any) ([]standing, error) {
	rows, err := x.readers.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []standing
	for rows.Next() {
		var at standing
		if err := rows.Scan(&at.batch, &at.row); err != nil {
			return nil, err
		}
		found = append(found, at)
	}
	return found, rows.Err()
}
