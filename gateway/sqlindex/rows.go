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

// lookup finds rows by a key of two columns, for one value of the first and many of
// the second.
type lookup struct{ one, many *sql.Stmt }

// texts are the statements of l. query ends before the list of values.
func (l *lookup) texts(query string) []statementText {
	return []statementText{{&l.one, query + ` (?)`}, {&l.many, query + ` (?` + strings.Repeat(`, ?`, mostRows-1) + `)`}}
}

// each yields the rows found, in any order.
func (l lookup) each(ctx context.Context, first string, second []string, yield func(*sql.Rows) error) error {
	for len(second) > 0 {
		stmt, n := l.many, min(len(second), mostRows)
		if n < mostRows/8 {
			stmt, n = l.one, 1
		}
		args := append(make([]any, 0, 1+mostRows), first)
		for _, s := range second[:n] {
			args = append(args, s)
		}
		for stmt == l.many && len(args) <= mostRows {
			args = append(args, second[0]) // found once
		}
		if err := eachRow(ctx, stmt, args, yield); err != nil {
			return err
		}
		second = second[n:]
	}
	return nil
}

func eachRow(ctx context.Context, stmt *sql.Stmt, args []any, yield func(*sql.Rows) error) error {
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := yield(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
