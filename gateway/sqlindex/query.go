package sqlindex

import (
	"slices"
	"strings"
)

// conditions are joined by AND. Their text is ours, never a caller's; callers'
// values are arguments.
type conditions struct {
	sql  []string
	args []any
}

func (c *conditions) add(sql string, args ...any) {
	c.sql = append(c.sql, sql)
	c.args = append(c.args, args...)
}

// with answers c and one more condition, without changing c.
func (c conditions) with(sql string, args ...any) conditions {
	return conditions{
		sql:  append(c.sql[:len(c.sql):len(c.sql)], sql),
		args: append(c.args[:len(c.args):len(c.args)], args...),
	}
}

// and answers the conditions of both.
func (c conditions) and(d conditions) conditions {
	return conditions{slices.Concat(c.sql, d.sql), slices.Concat(c.args, d.args)}
}

// keyQuery selects the keys of one page. "Provider or consumer" has a leg for
// each: either comes from its own index in the order wanted and stops at the
// limit, where an OR would have to read and sort every match.
type keyQuery struct {
	table string
	keys  string // columns
	order string // of the page, as after ORDER BY
	limit int
	legs  []string
	args  []any
}

// leg adds the rows for which where holds; indexedBy names the index to walk, ""
// leaves the choice to SQLite.
func (q *keyQuery) leg(indexedBy string, where conditions) {
	from := q.table
	if indexedBy != "" {
		from += " INDEXED BY " + indexedBy
	}
	q.legs = append(q.legs, "SELECT "+q.keys+" FROM "+from+" WHERE "+strings.Join(where.sql, " AND ")+" ORDER BY "+q.order+" LIMIT ?")
	q.args = append(append(q.args, where.args...), q.limit)
}

func (q *keyQuery) build() (sql string, args []any) {
	if len(q.legs) == 1 {
		return q.legs[0], q.args
	}
	return "SELECT * FROM (" + strings.Join(q.legs, ") UNION SELECT * FROM (") + ") ORDER BY " + q.order + " LIMIT ?", append(q.args, q.limit)
}
