package sqlindex

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

const (
	// placeRun is how many log entries share a row of access_places: a place is a byte.
	placeRun = 256

	// placePage is how many runs a trace looks at before it reads records, and
	// placeRecords how many it reads at a time.
	placePage    = 16
	placeRecords = 256
)

// term is a value of a field that few records of a run have of their own.
type term struct {
	field byte
	value string
}

// The fields of terms. A department is named as provider or consumer.
const (
	termGrant       = 'g'
	termCatalog     = 'c'
	termDepartment  = 'd'
	termPurpose     = 'p'
	termServiceItem = 's'
)

// number is the term as access_places holds it. Two terms that have the same one
// cost a trace time, nothing else: it looks at the records.
func (t term) number() int64 {
	sum := sha256.Sum256(append([]byte{t.field}, t.value...))
	return int64(binary.BigEndian.Uint64(sum[:]) & math.MaxInt64) //nolint:gosec // masked
}

// termsOf are the terms of a filter, the ones of fewest records first.
func termsOf(f index.AccessFilter) []term {
	all := []term{
		{termGrant, f.GrantID}, {termCatalog, f.CatalogCode}, {termServiceItem, f.ServiceItem}, {termPurpose, f.Purpose}, {termDepartment, string(f.Department)},
	}
	return slices.DeleteFunc(all, func(t term) bool { return t.value == "" })
}

// places are where a batch of records names terms, by run.
type places map[placeKey][]byte

type placeKey struct {
	term
	run int64
}

func (p places) add(r domain.AccessRecord, idx int64) {
	of := [...]term{
		{termGrant, r.GrantID}, {termCatalog, r.CatalogCode}, {termServiceItem, r.ServiceItem}, {termPurpose, r.Purpose},
		{termDepartment, string(r.Provider)}, {termDepartment, string(r.Consumer)},
	}
	n := len(of)
	if r.Provider == r.Consumer {
		n--
	}
	for _, t := range of[:n] {
		k := placeKey{t, idx / placeRun}
		p[k] = append(p[k], byte(idx%placeRun)) //nolint:gosec // below 256
	}
}

// store adds the places to those of earlier batches, in order of their rows.
func (p places) store(ctx context.Context, insert *sql.Stmt) error {
	type row struct {
		term, run int64
		places    []byte
	}
	rows := make([]row, 0, len(p))
	numbers := make(map[term]int64)
	for k, places := range p {
		number, ok := numbers[k.term]
		if !ok {
			number = k.number()
			numbers[k.term] = number
		}
		rows = append(rows, row{number, k.run, places})
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Or(cmp.Compare(a.term, b.term), cmp.Compare(a.run, b.run)) })
	for _, r := range rows {
		if _, err := insert.ExecContext(ctx, r.term, r.run, r.places); err != nil {
			return err
		}
	}
	return nil
}

// placed reads the records at which all terms of a filter meet, newest first, until
// there are n of them.
func (x *Index) placed(ctx context.Context, filter index.AccessFilter, terms []term, window entries, n int) ([]index.AccessEntry, error) {
	var found []index.AccessEntry
	for window.from < window.to {
		page, rest, err := x.candidates(ctx, terms, window)
		if err != nil {
			return nil, err
		}
		for some := range slices.Chunk(page, placeRecords) {
			list, err := json.Marshal(some)
			if err != nil {
				return nil, err
			}
			// In the order of the list: sorting would read all of them first.
			within := timesOf(filter)
			records, err := x.matching(ctx, filter, n-len(found), `SELECT a.idx, a.record FROM json_each(?) j CROSS JOIN access a ON a.idx = j.value WHERE `+
				strings.Join(append(within.sql, "true"), ` AND `), append([]any{string(list)}, within.args...)...)
			if err != nil {
				return nil, err
			}
			if found = append(found, records...); len(found) == n {
				return found, nil
			}
		}
		window.to = rest
	}
	return found, nil
}

// candidates answers the entries of a window at which terms meet, newest first, of so
// many runs as make a page; before rest nothing was looked at.
func (x *Index) candidates(ctx context.Context, terms []term, window entries) (page []int64, rest int64, err error) {
	query, args := candidatesQuery(terms, window)
	rows, err := x.often.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	var run int64
	lists := make([]sql.RawBytes, len(terms))
	targets := []any{&run}
	for i := range lists {
		targets = append(targets, &lists[i])
	}
	n := 0
	for ; rows.Next(); n++ {
		if err := rows.Scan(targets...); err != nil {
			return nil, 0, err
		}
		for i := len(lists[0]) - 1; i >= 0; i-- {
			idx := run*placeRun + int64(lists[0][i])
			if window.from <= idx && idx < window.to && inAll(lists[1:], lists[0][i]) {
				page = append(page, idx)
			}
		}
	}
	rest = run * placeRun
	if n < placePage {
		rest = window.from
	}
	return page, rest, rows.Err()
}

// candidatesQuery selects the places of terms in the last runs of a window that have
// them all.
func candidatesQuery(terms []term, window entries) (string, []any) {
	columns, from := []string{"t0.run", "t0.places"}, "access_places t0"
	var args []any
	for i, t := range terms[1:] {
		name := fmt.Sprintf("t%d", i+1)
		columns = append(columns, name+".places")
		from += " CROSS JOIN access_places " + name + " ON " + name + ".term = ? AND " + name + ".run = t0.run"
		args = append(args, t.number())
	}
	args = append(args, terms[0].number(), window.from/placeRun, (window.to-1)/placeRun, placePage)
	return `SELECT ` + strings.Join(columns, ", ") + ` FROM ` + from + ` WHERE t0.term = ? AND t0.run >= ? AND t0.run <= ? ORDER BY t0.run DESC LIMIT ?`, args
}

func inAll(lists []sql.RawBytes, place byte) bool {
	for _, list := range lists {
		if bytes.IndexByte(list, place) < 0 {
			return false
		}
	}
	return true
}
