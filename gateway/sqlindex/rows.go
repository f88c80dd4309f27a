package sqlindex

import (
	"context"
	"database/sql"
	"strings"
)

// mostRows is how many rows one statement writes where there are as many: enough to
// make what a statement costs by itself small.
const mostRows = 64

// manyRows is an insertion, prepared for one row and for mostRows.
type manyRows struct {
	one, many *sql.Stmt
	columns   int
}

// texts are the statements of m. insert ends before VALUES; after follows the rows.
func (m *manyRows) texts(insert string, columns int, after string) []statementText {
	m.columns = columns
	row := "(?" + strings.Repeat(", ?", columns-1) + ")"
	insert += " VALUES " + row
	return []statementText{{&m.one, insert + after}, {&m.many, insert + strings.Repeat(", "+row, mostRows-1) + after}}
}

// insert inserts rows; args are theirs, one row after the other.
func (m manyRows) insert(ctx context.Context, args []any) error {
	for len(args) > 0 {
		stmt, n := m.one, m.columns
		if len(args) >= mostRows*m.columns {
			stmt, n = m.many, mostRows*m.columns
		}
		if _, err := stmt.ExecContext(ctx, args[:n]...); err != nil {
			return err
		}
		args = args[n:]
	}
	return nil
}
