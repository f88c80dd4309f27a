package sqlindex

import (
	"context"
	"fmt"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
)

// StatusIndexes implements [index.Index]. The status index stands in the record
// alone: few certificates have one of the states asked for, and reading those costs
// less than a column that every issue would have to write.
func (x *Index) StatusIndexes(ctx context.Context, issuer domain.DepartmentCode, states []domain.CertificateStatus, from, to int) ([]int, error) {
	if len(states) == 0 {
		return nil, nil
	}
	args := []any{string(domain.KindCertificate), string(issuer)}
	for _, s := range states {
		args = append(args, string(s))
	}
	rows, err := x.readers.QueryContext(ctx, `SELECT place FROM (
			SELECT CAST(w.value AS TEXT) ->> '$.content.statusIndex' AS place
			FROM records r INDEXED BY records_department_state JOIN writes w ON w.n = r.write
			WHERE r.kind = ? AND r.department = ? AND r.department <> '' AND r.state <> '' AND r.state IN (?`+strings.Repeat(", ?", len(states)-1)+`))
		WHERE place >= ? AND place < ? ORDER BY place`, append(args, from, to)...)
	if err != nil {
		return nil, fmt.Errorf("read status indexes: %w", err)
	}
	defer rows.Close()
	var places []int
	for rows.Next() {
		var place int
		if err := rows.Scan(&place); err != nil {
			return nil, fmt.Errorf("read status indexes: %w", err)
		}
		places = append(places, place)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read status indexes: %w", err)
	}
	return places, nil
}
