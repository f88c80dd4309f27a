package sqlindex

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

// A list walks one index that gives its order and most of its filters. Filters
// that the index does not know are tried on each record walked, and then a page
// ends after maxWalk records, full or not: no request costs more than that.
const maxWalk = 4000

// order is the order of a list. Every record has a position in it: a number, and
// then its id.
type order struct {
	name  string
	table string
	keys  string // selects the position from table
	by    string // orders by the position
	after string // restricts to what follows a position
}

var (
	byID      = order{"id", "records", "0 AS pos, id", "id", "id > ?"}
	byChange  = order{"changed", "records", "changed AS pos, id", "changed, id", "(changed, id) > (?, ?)"}
	byDue     = order{"due", "records", "due AS pos, id", "due, id", "(due, id) > (?, ?)"}
	byWriting = order{"search", "search", "rowid AS pos, '' AS id", "rowid", "rowid > ?"}
)

func orderOf(f index.Filter) order {
	switch {
	case f.Text != "":
		return byWriting
	case !f.ChangedSince.IsZero():
		return byChange
	case f.Overdue != nil:
		return byDue
	}
	return byID
}

// position is a place in a list.
type position struct {
	pos int64
	id  string
}

// walk is how a list is read.
type walk struct {
	order
	kind  domain.RecordKind
	legs  []leg      // of the records walked; none: the list is empty
	tries conditions // what the index does not know, on records r and, in a search, entries e
	few   *few       // of a search with filters
	since int64      // where a list of changes begins, microseconds since 1970
}

// few is another way to read a search: to look at every entry that its filters
// leave. FTS5 reads the list of a common token from beginning to end, which is
// far more than that when the filters leave only few.
type few struct {
	leg
	tries conditions // all words, and what else the walk tries
}

// maxFew is how many entries the filters of a search may leave to be looked at.
const maxFew = 400

// leg is one of the walks that a list is merged from.
type leg struct {
	index string // "" leaves it to SQLite, which then has only one
	where conditions
}

// List implements [index.Index].
func (x *Index) List(ctx context.Context, kind domain.RecordKind, filter index.Filter, page index.Page) (index.Records, error) {
	if err := checkPage(page); err != nil {
		return index.Records{}, err
	}
	w := newWalk(kind, filter)
	read := func(from *position) (index.Records, *position, error) { return x.walk(ctx, w, from, page.Limit) }
	if kind == domain.KindCertificate {
		read = func(from *position) (index.Records, *position, error) {
			return x.certificates(ctx, filter, from, page.Limit)
		}
	}
	name := "list\x00" + string(kind) + "\x00" + w.name
	from, err := decodePosition(name, page.After)
	if err != nil {
		return index.Records{}, err
	}
	out, last, err := read(from)
	if err != nil {
		return index.Records{}, fmt.Errorf("list %s records from the index: %w", kind, err)
	}
	if last != nil {
		out.Next = encodeCursor(name, last.String())
	}
	return out, nil
}

func (p position) String() string { return strconv.FormatInt(p.pos, 10) + "\x00" + p.id }

// decodePosition answers the position that a cursor holds, nil for "".
func decodePosition(list, cursor string) (*position, error) {
	text, ok, err := decodeCursor(list, cursor)
	if err != nil || !ok {
		return nil, err
	}
	number, id, found := strings.Cut(text, "\x00")
	pos, err := strconv.ParseInt(number, 10, 64)
	if err != nil || !found {
		return nil, badCursor()
	}
	return &position{pos, id}, nil
}

// newWalk decides how to read a list.
func newWalk(kind domain.RecordKind, f index.Filter) walk {
	w := walk{order: orderOf(f), kind: kind}
	switch w.order {
	case byWriting:
		w.search(f)
		w.tryTimes(f)
		if w.few != nil {
			w.few.tries = w.few.tries.and(w.tries)
		}
		return w
	case byChange:
		w.legs = []leg{{"", of(kind)}} // sorted
		switch kind {                  //nolint:exhaustive // of the others there are no lists of changes
		case domain.KindCatalogEntry, domain.KindRequest, domain.KindGrant:
			w.legs = []leg{{"records_changed", of(kind).with(`kind IN ('catalog', 'request', 'grant')`)}} // word by word as in the index
		}
		w.since = f.ChangedSince.UnixMicro()
	case byDue:
		w.legs = []leg{{"records_due", of(kind).with(`due IS NOT NULL AND due <= ?`, f.Overdue.UnixMicro())}}
	default:
		if f.GrantID == "" {
			w.legs = legsOf(kind, f) // which know all filters but one
			w.tryShareType(f)
			return w
		}
		w.legs = []leg{{"records_grant", of(kind).with(`grant_id <> '' AND grant_id = ?`, f.GrantID)}}
	}
	w.try(f)
	w.tryTimes(f)
	return w
}

func of(kind domain.RecordKind) (c conditions) {
	c.add(`kind = ?`, string(kind))
	return c
}

// parties are the departments of a record that a filter asks for.
type parties struct{ department, consumer domain.DepartmentCode }

// partiesOf answers the alternatives that a filter allows for a kind.
func partiesOf(kind domain.RecordKind, f index.Filter) []parties {
	shared := kind == domain.KindRequest || kind == domain.KindGrant
	if f.Provider != "" && !shared && kind != domain.KindCatalogEntry && kind != domain.KindCatalogVersion {
		return nil // the department of other kinds provides nothing
	}
	p := parties{f.Provider, f.Consumer}
	if f.Department == "" {
		return []parties{p}
	}
	var either []parties
	if p.department == "" || p.department == f.Department {
		either = append(either, parties{f.Department, p.consumer})
	}
	if p.consumer == "" || p.consumer == f.Department {
		either = append(either, parties{p.department, f.Department})
	}
	return either
}

// legsOf chooses for each alternative the index of exactly its filters, but for the
// share type: it is one of three, so that trying it passes over few records for each
// that is found.
func legsOf(kind domain.RecordKind, f index.Filter) []leg {
	var legs []leg
	for _, p := range partiesOf(kind, f) {
		if p.consumer != "" && f.ShareType != 0 {
			continue // nothing has both
		}
		l := leg{where: of(kind)}
		for _, c := range []struct {
			set           bool
			index, filter string
			value         any
		}{
			{p.department != "", "_department", `department <> '' AND department = ?`, string(p.department)},
			{p.consumer != "", "_consumer", `consumer <> '' AND consumer = ?`, string(p.consumer)},
			{f.State != "", "_state", `state <> '' AND state = ?`, f.State},
		} {
			if c.set {
				l.index += c.index
				l.where.add(c.filter, c.value)
			}
		}
		if l.index != "" {
			l.index = "records" + l.index
		}
		legs = append(legs, l)
	}
	return legs
}

// try has all filters but those of time tried on each record.
func (w *walk) try(f index.Filter) {
	var either []string
	var args []any
	for _, p := range partiesOf(w.kind, f) {
		both := `1`
		if p.department != "" {
			both, args = both+` AND r.department = ?`, append(args, string(p.department))
		}
		if p.consumer != "" {
			both, args = both+` AND r.consumer = ?`, append(args, string(p.consumer))
		}
		either = append(either, both)
	}
	if len(either) == 0 {
		w.legs = nil
		return
	}
	w.tries.add(`(`+strings.Join(either, ` OR `)+`)`, args...)
	if f.State != "" {
		w.tries.add(`r.state = ?`, f.State)
	}
	w.tryShareType(f)
	if f.GrantID != "" {
		w.tries.add(`r.grant_id <> '' AND r.grant_id = ?`, f.GrantID)
	}
}

func (w *walk) tryShareType(f index.Filter) {
	if f.ShareType != 0 {
		w.tries.add(`r.share_type = ?`, int64(f.ShareType))
	}
}

func (w *walk) tryTimes(f index.Filter) {
	if w.order != byChange && !f.ChangedSince.IsZero() {
		w.tries.add(`r.changed >= ?`, f.ChangedSince.UnixMicro())
	}
	if w.order != byDue && f.Overdue != nil {
		w.tries.add(`coalesce(r.due <= ?, 0)`, f.Overdue.UnixMicro())
	}
}

// search makes w the walk of a search, with no leg when nothing can match.
func (w *walk) search(f index.Filter) {
	q, ok := parseQuery(f.Text)
	parties := partiesOf(w.kind, f)
	if !ok || len(parties) == 0 || w.kind != domain.KindCatalogEntry || f.GrantID != "" || parties[0].consumer != "" {
		return // no entry has any of these
	}
	filters := []struct{ name, value string }{{"p", string(parties[0].department)}, {"s", f.State}, {"t", ""}}
	if f.ShareType != 0 {
		filters[2].value = strconv.Itoa(int(f.ShareType))
	}
	for _, filter := range filters {
		if filter.value == "" {
			continue
		}
		token := facet(filter.name, filter.value)
		if token == "" {
			return
		}
		q.tokens = append(q.tokens, token)
	}
	var where conditions
	where.add(`search MATCH ?`, q.match())
	w.legs = []leg{{"", where}}
	for _, part := range q.unsure {
		w.tries.add(`instr(e.text, ?) > 0`, part)
	}
	f.Consumer, f.Text = "", ""
	if legs := legsOf(w.kind, f); legs[0].index != "" {
		w.few = &few{leg: legs[0]}
		for _, part := range q.parts {
			w.few.tries.add(`instr(e.text, ?) > 0`, part)
		}
		if f.ShareType != 0 {
			w.few.tries.add(`r.share_type = ?`, int64(f.ShareType))
		}
	}
}

// found is a record walked.
type found struct {
	position
	record string // its id
	holds  bool   // whether what was tried holds
}

// query selects up to limit records of the walk, in order.
func (w walk) query(from *position, limit int) (string, []any) {
	q := keyQuery{table: w.table, keys: w.keys, order: w.by, limit: limit}
	for _, l := range w.legs {
		where := l.where
		switch {
		case from == nil && w.order == byChange:
			where = where.with(`changed >= ?`, w.since)
		case from == nil:
		case w.order == byID:
			where = where.with(w.after, from.id)
		case w.order == byWriting:
			where = where.with(w.after, from.pos)
		default:
			where = where.with(w.after, from.pos, from.id)
		}
		q.leg(l.index, where)
	}
	keys, args := q.build()
	const order = ` ORDER BY k.pos, k.id`
	switch {
	case w.order == byWriting:
		return `SELECT k.pos, k.id, r.id, ` + w.holds() + ` FROM (` + keys + `) k CROSS JOIN entries e ON e.doc = k.pos JOIN records r ON r.kind = ? AND r.id = e.code` + order,
			slices.Concat(w.tries.args, args, []any{string(w.kind)})
	case len(w.tries.sql) > 0:
		return `SELECT k.pos, k.id, k.id, ` + w.holds() + ` FROM (` + keys + `) k CROSS JOIN records r ON r.kind = ? AND r.id = k.id` + order,
			slices.Concat(w.tries.args, args, []any{string(w.kind)})
	}
	return `SELECT k.pos, k.id, k.id, 1 FROM (` + keys + `) k` + order, args
}

// holds is the expression of what is tried.
func (w walk) holds() string { return strings.Join(append([]string{`1`}, w.tries.sql...), ` AND `) }

// query selects, in order of writing, up to limit of the entries that the filters
// leave and that are found.
func (f few) query(from *position, limit int) (string, []any) {
	where := f.where.and(f.tries)
	if from != nil {
		where = where.with(`e.doc > ?`, from.pos)
	}
	return `SELECT e.doc, '', r.id, 1 FROM records r INDEXED BY ` + f.index + ` CROSS JOIN entries e ON e.doc = r.doc
		WHERE ` + strings.Join(where.sql, ` AND `) + ` ORDER BY e.doc LIMIT ?`, append(where.args, limit)
}

// left counts the entries that the filters leave, to one more than most.
func (f few) left(ctx context.Context, tx *sql.Tx, most int) (n int, err error) {
	query := `SELECT count(*) FROM (SELECT 1 FROM records INDEXED BY ` + f.index + ` WHERE ` + strings.Join(f.where.sql, ` AND `) + ` LIMIT ?)`
	err = tx.QueryRowContext(ctx, query, append(f.where.args, most+1)...).Scan(&n) //nolint:gosec // query is put together from constants
	return n, err
}

// walk reads a page from a position on, and the position after which the next
// page starts, nil on the last.
func (x *Index) walk(ctx context.Context, w walk, from *position, limit int) (index.Records, *position, error) {
	if len(w.legs) == 0 {
		return index.Records{}, nil, nil
	}
	// Records are walked and read in one state of the index.
	tx, err := x.readers.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return index.Records{}, nil, err
	}
	defer tx.Rollback() //nolint:errcheck // ends a transaction that wrote nothing
	read := w.query
	if w.few != nil {
		n, err := w.few.left(ctx, tx, x.maxFew)
		if err != nil {
			return index.Records{}, nil, err
		}
		if n <= x.maxFew {
			read = w.few.query
		}
	}
	var page []found
	var next *position
	for walked, batch := 0, limit+1; ; batch *= 4 {
		batch = min(batch, maxWalk-walked)
		query, args := read(from, batch)
		some, err := readFound(ctx, tx, query, args)
		if err != nil {
			return index.Records{}, nil, err
		}
		for _, f := range some {
			if !f.holds {
				continue
			}
			if len(page) == limit {
				next = &page[limit-1].position
				break
			}
			page = append(page, f)
		}
		if walked += len(some); next != nil || len(some) < batch {
			break
		}
		from = &some[len(some)-1].position
		if walked >= maxWalk {
			next = from
			break
		}
	}
	out, err := x.fetch(ctx, tx, w.kind, page)
	return out, next, err
}

func readFound(ctx context.Context, tx *sql.Tx, query string, args []any) ([]found, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []found
	for rows.Next() {
		var f found
		if err := rows.Scan(&f.pos, &f.id, &f.record, &f.holds); err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, rows.Err()
}

// fetch reads the records found, in their order.
func (x *Index) fetch(ctx context.Context, tx *sql.Tx, kind domain.RecordKind, page []found) (index.Records, error) {
	if len(page) == 0 {
		return index.Records{}, nil
	}
	args := []any{string(kind)}
	place := make(map[string]int, len(page))
	for i, f := range page {
		args = append(args, f.record)
		place[f.record] = i
	}
	items, _, err := x.readRecords(ctx, tx, selectRecord+`records r JOIN writes w ON w.n = r.write JOIN transactions t ON t.block = w.block AND t.seq = w.tx
		WHERE r.kind = ? AND r.id IN (?`+strings.Repeat(`, ?`, len(page)-1)+`)`, args...)
	if err != nil {
		return index.Records{}, err
	}
	slices.SortFunc(items, func(a, b index.Record) int { return place[a.ID] - place[b.ID] })
	return index.Records{Items: items}, nil
}

// ListEvents implements [index.Index].
func (x *Index) ListEvents(ctx context.Context, kind domain.RecordKind, of string, page index.Page) (index.Records, error) {
	if err := checkPage(page); err != nil {
		return index.Records{}, err
	}
	list := "events\x00" + string(kind) + "\x00" + of
	after, err := decodeNumberCursor(list, page.After, -1)
	if err != nil {
		return index.Records{}, err
	}
	items, numbers, err := x.readRecords(ctx, x.readers, `SELECT w.key, w.value, w.block, t.tx_id, w.event, k.part FROM (
		SELECT id, write, part FROM records INDEXED BY records_part WHERE kind = ? AND part_of <> '' AND part_of = ? AND part > ? ORDER BY part LIMIT ?) k
		JOIN writes w ON w.n = k.write JOIN transactions t ON t.block = w.block AND t.seq = w.tx ORDER BY k.part`, string(kind), of, after, page.Limit+1)
	if err != nil {
		return index.Records{}, fmt.Errorf("list %s records of %q from the index: %w", kind, of, err)
	}
	out := index.Records{Items: items}
	if len(items) > page.Limit {
		out.Items = items[:page.Limit]
		out.Next = encodeCursor(list, strconv.FormatInt(numbers[page.Limit-1], 10))
	}
	return out, nil
}
