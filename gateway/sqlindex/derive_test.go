package sqlindex

import (
	"database/sql"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/index/indextest"
)

// oldFile makes a file of the first schema that has read what x has.
func oldFile(t *testing.T, x *Index) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "old.sqlite")
	db, err := sql.Open("sqlite", dataSource(file))
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1) // an attached file belongs to its connection
	defer db.Close()
	first, err := migrations.ReadFile("migrations/0001_index.sql")
	if err != nil {
		t.Fatal(err)
	}
	statements := []string{string(first), `PRAGMA user_version = 1`, `ATTACH '` + x.file + `' AS new`, `DELETE FROM progress`,
		`INSERT INTO grant_use SELECT grant_id, direction, hour, uses FROM new.grant_use`,
		`INSERT INTO progress SELECT one, next_block, next_access FROM new.progress`,
		`INSERT INTO records SELECT kind, id, write, department, consumer, state, grant_id, 'old' FROM new.records`}
	statements = append(statements, `INSERT INTO access SELECT idx, at, direction, ok, call_id, grant_id, '', '', '', '', '', case_ref, subject_ref, x'', record FROM new.access`)
	statements = append(statements, `INSERT INTO transactions SELECT block, seq, tx_id, body FROM new.transactions`,
		`INSERT INTO writes SELECT n, block, tx, key, deleted, value, CASE WHEN counts THEN 'kind' ELSE '' END, key FROM new.writes`)
	for _, table := range []string{"blocks", "access_times"} {
		statements = append(statements, fmt.Sprintf(`INSERT INTO %s SELECT * FROM new.%[1]s`, table))
	}
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%.60s: %v", s, err)
		}
	}
	return file
}

// fileOf9 makes a file of the schema before names had a table, that has read what x has.
func fileOf9(t *testing.T, x *Index) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "9.sqlite")
	db, err := sql.Open("sqlite", dataSource(file))
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1) // an attached file belongs to its connection
	defer db.Close()
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	var statements []string
	for _, name := range names[:9] {
		migration, err := migrations.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		statements = append(statements, string(migration))
	}
	statements = append(statements, `PRAGMA user_version = 9`, `ATTACH '`+x.file+`' AS new`, `DELETE FROM progress`, `INSERT INTO progress SELECT * FROM new.progress`,
		`INSERT INTO writes SELECT n, block, tx, key, deleted, counts, event, n, value FROM new.writes`, `INSERT INTO search (rowid, tokens) VALUES (1, 'old')`)
	for _, d := range dumped {
		switch d.table {
		case "progress", "writes", "search_terms", "names":
		default:
			statements = append(statements, fmt.Sprintf(`INSERT INTO %s SELECT * FROM new.%[1]s`, d.table))
		}
	}
	for table, column := range map[string]string{ // other rows than the blocks give
		"entries": "doc", "history": "key", "records": "id", "lives": "batch", "tasks": "id", "clocks": "event", "requests": "id", "grants": "id", "grant_anchored": "grant_id",
	} {
		statements = append(statements, fmt.Sprintf(`UPDATE %s SET %s = iif(typeof(%[2]s) = 'integer', %[2]s + 1000000, %[2]s || ' of old')`, table, column))
	}
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%.60s: %v", s, err)
		}
	}
	return file
}

// staleFile is a copy of x as a migration leaves it that empties what is derived from
// the writes.
func staleFile(t *testing.T, x *Index) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "stale.sqlite")
	if _, err := x.writer.ExecContext(t.Context(), `VACUUM INTO ?`, file); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", dataSource(file))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	statements := []string{`UPDATE progress SET stale = 1`, `INSERT INTO search (search) VALUES ('delete-all')`}
	for _, table := range []string{"history", "names", "records", "lives", "entries", "tasks", "clocks", "requests", "grants", "grant_anchored"} {
		statements = append(statements, `DELETE FROM `+table)
	}
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	return file
}

// A file of an older schema becomes the index that reading all blocks anew builds, and
// so does one whose records are to be derived anew.
func TestMigration(t *testing.T) {
	t.Parallel()
	blocks := indextest.Blocks(60, 30) // more writes than are derived at a time
	fresh := openTemp(t)
	if err := feed(t.Context(), fresh, blocks[:50], 300, func() {}); err != nil {
		t.Fatal(err)
	}
	if got := query(t, fresh.readers, `SELECT count(*) > ? FROM writes`, deriveBatch); got[0] != "1" {
		t.Fatalf("the chain is too short to need several batches")
	}
	migrated, later, derived := openFile(t, oldFile(t, fresh)), openFile(t, fileOf9(t, fresh)), openFile(t, staleFile(t, fresh))
	if next, err := derived.NextBlock(t.Context()); err != nil || next != 50 {
		t.Errorf("the index whose records are derived anew has %d blocks, %v", next, err)
	}
	for _, fed := range []int{50, 60} { // at once, and after further blocks
		var want []string
		for _, x := range []*Index{fresh, migrated, later, derived} {
			if err := feed(t.Context(), x, blocks[:fed], 300, func() {}); err != nil {
				t.Fatal(err)
			}
			if want == nil {
				want = dumpFull(t, x)
			}
			if diff := cmp.Diff(want, dump(t, x)); diff != "" {
				t.Errorf("at block %d a migrated index differs (-fresh +migrated):\n%s", fed, diff)
			}
		}
	}
}

// The index that grew block by block, over many restarts, is the one that a
// rebuild from block 0 gives, and its search index is sound.
func TestRebuildEqualsGrown(t *testing.T) {
	t.Parallel()
	seeds := uint64(5)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		blocks := indextest.RandomBlocks(seed, 28, 25)
		file := filepath.Join(t.TempDir(), "grown.sqlite")
		for end := 1; end <= len(blocks); end += 9 {
			x, err := Open(t.Context(), file)
			if err != nil {
				t.Fatal(err)
			}
			if err := feed(t.Context(), x, blocks[:end], end*10, func() {}); err != nil {
				t.Fatal(err)
			}
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
		}
		grown, rebuilt := openFile(t, file), openTemp(t)
		if err := grown.SetJudged(t.Context(), 1); err != nil { // is no part of what blocks and log give
			t.Fatal(err)
		}
		var digests []string
		for _, x := range []*Index{grown, rebuilt} {
			if err := feed(t.Context(), x, blocks, len(blocks)*10, func() {}); err != nil {
				t.Fatal(err)
			}
			digest, err := x.Digest(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			digests = append(digests, digest)
			if _, err := x.writer.ExecContext(t.Context(), `INSERT INTO search (search) VALUES ('integrity-check')`); err != nil {
				t.Errorf("seed %d: the search index is damaged: %v", seed, err)
			}
			checkTokens(t, x)
		}
		if digests[0] != digests[1] || len(digests[0]) != 64 {
			t.Errorf("seed %d: digests %v (-rebuilt +grown):\n%s", seed, digests, cmp.Diff(dumpFull(t, rebuilt), dump(t, grown)))
		}
	}
}

// checkTokens compares the search index with the tokens of all entries.
func checkTokens(t *testing.T, x *Index) {
	t.Helper()
	var want []string
	for _, row := range query(t, x.readers, `SELECT e.doc, e.text, r.department, r.state, r.share_type FROM entries e JOIN records r ON r.kind = 'catalog' AND r.doc = e.doc WHERE e.text <> ''`) {
		columns := strings.Split(row, "|")
		shareType, err := strconv.Atoi(columns[4])
		if err != nil {
			t.Fatal(err)
		}
		for _, token := range tokensOf(columns[1], facetsOf(columns[2], columns[3], domain.ShareType(shareType))) {
			want = append(want, token+"|"+columns[0])
		}
	}
	got := query(t, x.readers, `SELECT term, doc FROM search_terms`)
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" || len(got) < 1000 {
		t.Errorf("of %d tokens of entries, search has %d (-want +got):\n%.2000s", len(want), len(got), diff)
	}
}

// Every list walks an index of its order: none scans records or sorts more than
// the keys of one page.
func TestListPlans(t *testing.T) {
	t.Parallel()
	x := openTemp(t)
	moment := indextest.Epoch
	sorts := map[string]int{}
	for _, kind := range []domain.RecordKind{domain.KindCatalogEntry, domain.KindRequest} {
		for i := range 1 << 8 {
			var f index.Filter
			for bit, set := range []func(){
				func() { f.Department = "civil" }, func() { f.Provider = "civil" }, func() { f.Consumer = "police" }, func() { f.State = "published" },
				func() { f.ShareType = domain.Conditional }, func() { f.GrantID = "1" }, func() { f.Overdue = &moment }, func() { f.ChangedSince = moment },
			} {
				if i>>bit&1 == 1 {
					set()
				}
			}
			w := newWalk(kind, f)
			for _, from := range []*position{nil, {5, "x"}} {
				for _, l := range w.legs {
					one := w
					one.legs = []leg{l}
					one.tries = conditions{}
					text, args := one.query(from, 50)
					plan := query(t, x.readers, "EXPLAIN QUERY PLAN "+text, args...)
					checkPlan(t, fmt.Sprintf("List(%s, %+v)", kind, f), plan)
					sorts[l.index]++
				}
			}
		}
	}
	for _, index := range query(t, x.readers, `SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'records' AND sql IS NOT NULL`) {
		if sorts[index] == 0 && index != "records_part" {
			t.Errorf("no list walks the index %s", index)
		}
	}
}

// checkPlan refuses a plan whose innermost query scans or sorts.
func checkPlan(t *testing.T, what string, plan []string) {
	t.Helper()
	searched := false
	for _, line := range plan {
		searched = searched || strings.Contains(line, "SEARCH records USING")
		if strings.Contains(line, "SCAN records") || strings.Contains(line, "SCAN tasks") {
			t.Errorf("%s scans:\n%s", what, strings.Join(plan, "\n"))
		}
		if !searched && strings.Contains(line, "TEMP B-TREE") {
			t.Errorf("%s sorts what it walks:\n%s", what, strings.Join(plan, "\n"))
		}
	}
}

func TestInboxPlans(t *testing.T) {
	x := openTemp(t)
	for _, f := range []index.InboxFilter{{Department: "civil"}, {Department: "civil", Lead: true, Role: domain.RoleReviewer}, {Department: "civil", OverdueOnly: true, Now: indextest.Epoch}} {
		for _, after := range []*taskKey{nil, {1, "catalog", "x", 0}} {
			text, args := inboxQuery(f, after, 50)
			plan := strings.Join(query(t, x.readers, "EXPLAIN QUERY PLAN "+text, args...), "\n")
			legs := strings.Count(plan, "SEARCH tasks USING")
			want := map[bool]int{false: 2, true: 3}[f.Lead]
			if f.Role == "" {
				want *= len(everyRole)
			}
			if legs != want || strings.Contains(plan, "SCAN tasks") {
				t.Errorf("Inbox(%+v) does not walk %d ranges of an index:\n%s", f, want, plan)
			}
		}
	}
}

// A list whose filters no index knows together ends its pages early instead of
// walking without end, and its next pages find what is left.
func TestShortPages(t *testing.T) {
	t.Parallel()
	x := openTemp(t)
	var c indextest.Chain
	const entries = 2*maxWalk + 10
	for from := 0; from < entries; from += 1000 {
		var records []any
		for n := from; n < min(entries, from+1000); n++ {
			e := domain.CatalogEntry{Provider: "civil", Content: domain.CatalogContent{Name: "口信、信人"}}
			if n == entries-1 {
				e.State, e.Content.Name, e.Content.ShareType = domain.CatalogPublished, "口信人", domain.Conditional
			}
			records = append(records, fmt.Sprintf("cat~%06d", n), e)
		}
		if err := x.ApplyBlock(t.Context(), c.Add(indextest.Put(records...))); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []index.Filter{
		{State: string(domain.CatalogPublished), ChangedSince: indextest.Epoch},
		{Text: "口信人"},
		{ShareType: domain.Conditional},
	} {
		var found, pages int
		for page := (index.Page{Limit: 10}); ; pages++ {
			got, err := x.List(t.Context(), domain.KindCatalogEntry, f, page)
			if err != nil {
				t.Fatal(err)
			}
			found += len(got.Items)
			if page.After = got.Next; got.Next == "" {
				break
			}
		}
		if found != 1 || pages != 2 {
			t.Errorf("List(%+v) found %d records on %d pages before the last, want 1 on 2", f, found, pages)
		}
	}
}

// A search answers the same whether its filters leave few entries, which are
// looked at, or many.
func TestSearchOfFewAndMany(t *testing.T) {
	t.Parallel()
	x := openTemp(t)
	if err := indextest.FillCatalog(t.Context(), x, 600); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, text := range []string{"登记", "证", "regis", "个体工商户", "事项核对使用", "统全市", "k0000", "企业 license", strings.Repeat("全市企业", 20), "系统 " + strings.Repeat("a", 30)} {
		for i := range 1 << 4 {
			f := index.Filter{Text: text}
			for bit, set := range []func(){
				func() { f.Provider = "dept00" }, func() { f.State = string(domain.CatalogPublished) }, func() { f.ShareType = domain.Conditional },
				func() { f.ChangedSince = indextest.Epoch.Add(time.Second) },
			} {
				if i>>bit&1 == 1 {
					set()
				}
			}
			var lists [2][]string
			for way, most := range []int{-1, 600} {
				x.maxFew = most
				for page := (index.Page{Limit: 7}); ; {
					got, err := x.List(t.Context(), domain.KindCatalogEntry, f, page)
					if err != nil {
						t.Fatal(err)
					}
					for _, r := range got.Items {
						lists[way] = append(lists[way], r.ID)
					}
					if page.After = got.Next; got.Next == "" {
						break
					}
				}
			}
			found += len(lists[0])
			if diff := cmp.Diff(lists[0], lists[1]); diff != "" {
				t.Errorf("List(%+v) (-many +few):\n%s", f, diff)
			}
		}
	}
	if found < 1000 {
		t.Errorf("the searches found %d entries in all: too few to tell", found)
	}
}
