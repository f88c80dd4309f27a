package sqlindex

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
)

// entryRow is a catalog entry as search and counts see it.
type entryRow struct {
	doc          int64 // 0: there is none
	text, facets string
	public       int64 // see the table entries
}

// entryRow is the record as search sees it. An entry that cannot be read has no words.
func (r recordRow) entryRow() entryRow {
	if r.entry == nil {
		return entryRow{doc: r.doc}
	}
	e := *r.entry
	row := entryRow{doc: r.doc, text: searched(e.Content), facets: facetsOf(string(e.Provider), string(e.State), e.Content.ShareType)}
	switch e.State { //nolint:exhaustive // in all other states nothing is public
	case domain.CatalogPublished, domain.CatalogChangePending, domain.CatalogOfflinePending:
		row.public = 1
		if e.Content.Validate() == nil { // is counted of what is public alone, and costs as much as all the rest
			row.public += 2
		}
		if e.Content.SystemRef != "" {
			row.public += 4
		}
	}
	return row
}

// facetsOf are the filters of search as tokens, each between spaces.
func facetsOf(provider, state string, shareType domain.ShareType) string {
	tokens := []string{"", facet("p", provider), facet("s", state), facet("t", strconv.Itoa(int(shareType))), ""}
	return strings.Join(tokens, " ")
}

// putEntries brings the tables of search up to date, in order of doc: FTS5 writes out
// all that it holds in memory whenever a smaller rowid follows a greater one.
func (d *deriver) putEntries(ctx context.Context, keys []recordKey) error {
	type step struct {
		from, to entryRow
		code     string
	}
	doc := func(s step) int64 { return cmp.Or(s.from.doc, s.to.doc) }
	steps := make([]step, 0, len(keys)+1)
	for _, key := range keys {
		c := d.records[key]
		if key.kind != domain.KindCatalogEntry {
			continue
		}
		from, to := c.before.entryRow(), c.now.entryRow()
		if from.doc != 0 && to.doc != 0 && from.doc != to.doc { // deleted, and recorded anew
			steps = append(steps, step{from, entryRow{}, key.id}, step{entryRow{}, to, key.id})
		} else if from.doc != 0 || to.doc != 0 {
			steps = append(steps, step{from, to, key.id})
		}
	}
	slices.SortFunc(steps, func(a, b step) int { return cmp.Compare(doc(a), doc(b)) })
	// All of one table, then all of the other: a statement on entries also has
	// FTS5 write out what it holds.
	rows := make([]any, 0, entryColumns*len(steps))
	for _, s := range steps {
		if s.to.doc != 0 {
			rows = append(rows, s.to.doc, s.code, s.to.text, s.to.public)
		} else if _, err := d.s.forgetEntry.ExecContext(ctx, s.from.doc); err != nil {
			return err
		}
	}
	if err := d.s.entries.insert(ctx, rows); err != nil {
		return err
	}
	rows = rows[:0]
	for _, s := range steps {
		var gone, come []string
		if s.from.doc == 0 {
			come = d.tokens.tokens(s.to.text, s.to.facets)
		} else {
			gone, come = difference(s.from, s.to)
		}
		if len(gone) > 0 {
			if err := d.s.search.insert(ctx, rows); err != nil { // come first
				return err
			}
			rows = rows[:0]
			if _, err := d.s.unsearch.ExecContext(ctx, s.from.doc, strings.Join(gone, " ")); err != nil {
				return err
			}
		}
		if len(come) > 0 {
			rows = append(rows, s.to.doc, strings.Join(come, " "))
		}
	}
	return d.s.search.insert(ctx, rows)
}

// entryColumns is the number of columns of the table entries.
const entryColumns = 4

// difference lists the tokens that an entry loses and gains. Most changes are of
// the state alone and touch two tokens of hundreds.
func difference(from, to entryRow) (gone, come []string) {
	before, after := strings.Fields(from.facets), strings.Fields(to.facets)
	if from.text != to.text {
		before, after = tokensOf(from.text, from.facets), tokensOf(to.text, to.facets)
	}
	kept := make(map[string]bool, len(before))
	for _, t := range before {
		kept[t] = true
	}
	for _, t := range after {
		if !kept[t] {
			come = append(come, t)
		}
		delete(kept, t)
	}
	for _, t := range before {
		if kept[t] {
			gone = append(gone, t)
		}
	}
	return gone, come
}
