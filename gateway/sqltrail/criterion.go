package sqltrail

import (
	"math"
	"slices"
	"strings"

	"github.com/zhenglian/zhenglian/gateway/trail"
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
	return conditions{append(slices.Clip(c.sql), sql), append(slices.Clip(c.args), args...)}
}

func (c conditions) String() string {
	return strings.Join(append([]string{`1 = 1`}, c.sql...), ` AND `)
}

// leg is a stretch of one index in which entries stand in the order of a trace.
type leg struct {
	index string
	where conditions
}

// criterion is one field of a filter: legs that together have all its entries and
// no other, and the condition, on access, that says the same.
type criterion struct {
	legs  []leg
	holds conditions
}

// everything is the criterion of a filter without any.
var everything = criterion{legs: []leg{{index: "access_at"}}}

// criteria are the fields of f, those first that are likely to have few entries.
func (s *Store) criteria(f trail.Filter) []criterion {
	var cs []criterion
	for _, field := range []struct{ value, column, index string }{
		{f.CallID, "call_id", "access_call"},
		{f.CaseRef, "case_ref", "access_case"},
		{f.SubjectRef, "subject", "access_subject"},
		{f.Operator, "operator", "access_operator"},
		{f.GrantID, "grant_id", "access_grant"},
		{f.CatalogCode, "resource", "access_resource"},
		{f.ServiceItem, "service_item", "access_service"},
		{f.Purpose, "purpose", "access_purpose"},
	} {
		if field.value != "" {
			var is conditions
			is.add(field.column+` = ?`, s.digest([]byte(field.value)))
			cs = append(cs, criterion{[]leg{{field.index, is}}, is})
		}
	}
	if f.Result != "" {
		var is conditions
		is.add(`result = ?`, f.Result)
		cs = append(cs, criterion{[]leg{{"access_result", is}}, is})
	}
	if f.Writer != "" {
		cs = append(cs, parties(provides(string(f.Writer), sideProvider), consumes(string(f.Writer), sideConsumer)))
	}
	if f.Counterpart != "" {
		cs = append(cs, parties(provides(string(f.Counterpart), sideConsumer), consumes(string(f.Counterpart), sideProvider)))
	}
	if f.Department != "" {
		d := string(f.Department)
		cs = append(cs, parties(provides(d, sideProvider), provides(d, sideConsumer), consumes(d, sideProvider), consumes(d, sideConsumer)))
	}
	return cs
}

// provides are the entries of one side that name d as the provider.
func provides(d string, side int64) (l leg) {
	l.index = "access_provider"
	l.where.add(`provider = ? AND side = ?`, d, side)
	return l
}

// consumes are the entries of one side that name d as the consumer.
func consumes(d string, side int64) (l leg) {
	l.index = "access_consumer"
	l.where.add(`consumer = ? AND side = ?`, d, side)
	return l
}

// parties is the criterion of any of the legs.
func parties(legs ...leg) criterion {
	c := criterion{legs: legs}
	var either []string
	for _, l := range legs {
		either = append(either, `(`+l.where.String()+`)`)
		c.holds.args = append(c.holds.args, l.where.args...)
	}
	c.holds.sql = []string{`(` + strings.Join(either, ` OR `) + `)`}
	return c
}

// span is the filter's span of time: from ≤ at < to.
type span struct{ from, to int64 }

func spanOf(f trail.Filter) span {
	t := span{math.MinInt64, math.MaxInt64}
	if !f.From.IsZero() {
		t.from = f.From.UnixMilli()
	}
	if !f.To.IsZero() {
		t.to = f.To.UnixMilli()
	}
	return t
}

// in adds the span to c.
func (t span) in(c conditions) conditions {
	if t.from != math.MinInt64 {
		c = c.with(`at >= ?`, t.from)
	}
	if t.to != math.MaxInt64 {
		c = c.with(`at < ?`, t.to)
	}
	return c
}
