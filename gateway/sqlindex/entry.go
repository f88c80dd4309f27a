package sqlindex

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
)

// entryRow is a catalog entry as search and counts see it.
type entryRow struct {
	doc                              int64 // 0: there is none
	text, facets                     string
	published, compliant, withSystem bool
}

// entryChange is what becomes of an entry between two states of the index.
type entryChange struct{ before, after entryRow }

// noteEntry notes a write to a catalog entry; e is nil when it deletes the entry
// or cannot be read. Search is brought up to date once per block, in order of
// doc: FTS5 writes out all that it holds in memory whenever a smaller rowid
// follows a greater one.
func (d *deriver) noteEntry(ctx context.Context, w write, e *domain.CatalogEntry) error {
	c := d.entries[w.id]
	if c == nil {
		c = &entryChange{}
		err := d.s.findEntry.QueryRowContext(ctx, w.id).Scan(&c.before.doc, &c.before.text, &c.before.facets)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		c.after.doc = c.before.doc
		d.entries[w.id] = c
	}
	doc := c.after.doc
	if doc == 0 {
		doc = w.n
	}
	switch {
	case w.delete:
		c.after = entryRow{}
	case e == nil:
		c.after = entryRow{doc: doc}
	default:
		c.after = entryRowOf(*e)
		c.after.doc = doc
	}
	return nil
}

func entryRowOf(e domain.CatalogEntry) entryRow {
	row := entryRow{
		text: searched(e.Content), facets: facetsOf(string(e.Provider), string(e.State), e.Content.ShareType),
		withSystem: e.Content.SystemRef != "",
	}
	switch e.State { //nolint:exhaustive // in all other states nothing is public
	case domain.CatalogPublished, domain.CatalogChangePending, domain.CatalogOfflinePending:
		row.published = true
		row.compliant = e.Content.Validate() == nil // is counted of what is public alone, and costs as much as all the rest
	}
	return row
}

// facetsOf are the filters of search as tokens, each between spaces.
func facetsOf(provider, state string, shareType domain.ShareType) string {
	tokens := []string{"", facet("p", provider), facet("s", state), facet("t", strconv.Itoa(int(shareType))), ""}
	return strings.Join(tokens, " ")
}

// finish writes the records, and brings the tables of search up to date with the
// entries noted.
func (d *deriver) finish(ctx context.Context) error {
	if err := d.putRecords(ctx); err != nil {
		return err
	}
	if err := d.putLives(ctx); err != nil {
		return err
	}
	type step struct {
		doc      int64
		from, to entryRow
		code     string
	}
	var steps []step
	for code, c := range d.entries {
		if c.before.doc == c.after.doc {
			steps = append(steps, step{c.before.doc, c.before, c.after, code})
			continue
		}
		steps = append(steps, step{c.before.doc, c.before, entryRow{}, code}, step{c.after.doc, entryRow{}, c.after, code})
	}
	clear(d.entries)
	steps = slices.DeleteFunc(steps, func(s step) bool { return s.doc == 0 })
	slices.SortFunc(steps, func(a, b step) int { return cmp.Compare(a.doc, b.doc) })
	// All of one table, then all of the other: a statement on entries also has
	// FTS5 write out what it holds.
	var rows []any
	for _, s := range steps {
		if s.to.doc != 0 {
			rows = append(rows, s.doc, s.code, s.to.text, s.to.facets, s.to.published, s.to.compliant, s.to.withSystem)
		} else if _, err := d.s.forgetEntry.ExecContext(ctx, s.doc); err != nil {
			return err
		}
	}
	if err := d.s.entries.insert(ctx, rows); err != nil {
		return err
	}
	for _, s := range steps {
		if err := d.putTokens(ctx, s.doc, s.from, s.to); err != nil {
			return err
		}
	}
	return nil
}

func (d *deriver) putTokens(ctx context.Context, doc int64, from, to entryRow) error {
	gone, come := difference(from, to)
	if len(gone) > 0 {
		if _, err := d.s.unsearch.ExecContext(ctx, doc, strings.Join(gone, " ")); err != nil {
			return err
		}
	}
	if len(come) > 0 {
		if _, err := d.s.search.ExecContext(ctx, doc, strings.Join(come, " ")); err != nil {
			return err
		}
	}
	return nil
}

// difference lists the tokens that an entry loses and gains. Most changes are of
// the state alone and touch two tokens of hundreds.
func difference(from, to entryRow) (gone, come []string) {
	if from.doc == 0 {
		return nil, tokensOf(to.text, to.facets)
	}
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
