package sqlindex

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/index/indextest"
)

func openTemp(t testing.TB, options ...Option) *Index {
	t.Helper()
	return openFile(t, filepath.Join(t.TempDir(), "index.sqlite"), options...)
}

func openFile(t testing.TB, file string, options ...Option) *Index {
	t.Helper()
	x, err := Open(t.Context(), file, options...)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return x
}

func TestConformance(t *testing.T) {
	t.Parallel()
	indextest.Run(t, func(t *testing.T) index.Index { return openTemp(t) })
}

// dump is every row of every table, each row as text or as its digest.
func dump(t *testing.T, x *Index) []string {
	t.Helper()
	var out bytes.Buffer
	if err := x.Dump(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for i, line := range lines {
		if len(line) > 300 {
			lines[i] = fmt.Sprintf("%s… %x", line[:120], sha256.Sum256([]byte(line)))
		}
	}
	return lines
}

// dumpFull is dump of an index that has something in every table, or the
// comparison would not tell.
func dumpFull(t *testing.T, x *Index) []string {
	t.Helper()
	lines := dump(t, x)
	tables := map[string]bool{}
	for _, line := range lines {
		tables[line[:strings.IndexByte(line, '|')]] = true
	}
	for _, d := range dumped {
		if !tables[d.table] {
			t.Fatalf("table %s is empty", d.table)
		}
	}
	return lines
}

func query(t testing.TB, db *sql.DB, statement string, args ...any) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), statement, args...)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for rows.Next() {
		values := make([]any, len(names))
		for i := range values {
			values[i] = new(any)
		}
		if err := rows.Scan(values...); err != nil {
			t.Fatal(err)
		}
		var texts []string
		for _, v := range values {
			texts = append(texts, fmt.Sprint(*v.(*any)))
		}
		out = append(out, strings.Join(texts, "|"))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// feed brings the index to the end of blocks and access records.
func feed(ctx context.Context, x *Index, blocks []domain.Block, access int, done func()) error {
	for {
		next, err := x.NextBlock(ctx)
		if err != nil {
			return err
		}
		nextAccess, err := x.NextAccess(ctx)
		if err != nil {
			return err
		}
		if next == uint64(len(blocks)) && nextAccess == uint64(access) {
			return nil
		}
		if next < uint64(len(blocks)) {
			if err := x.ApplyBlock(ctx, blocks[next]); err != nil {
				return err
			}
		}
		if n := min(50, access-int(nextAccess)); n > 0 {
			if err := x.ApplyAccess(ctx, indextest.Access(nextAccess, n)); err != nil {
				return err
			}
		}
		done()
	}
}

func TestRebuildIsDeterministic(t *testing.T) {
	t.Parallel()
	blocks := indextest.Blocks(40, 30)
	a, b := openTemp(t), openTemp(t)
	for _, x := range []*Index{a, b} {
		if err := feed(t.Context(), x, blocks, 2000, func() {}); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(dumpFull(t, a), dumpFull(t, b)); diff != "" {
		t.Errorf("two indexes of the same blocks differ:\n%s", diff)
	}
}

// TestDigestOfAnotherCopy feeds blocks as two peers have them: which orderers'
// signatures a copy has differs.
func TestDigestOfAnotherCopy(t *testing.T) {
	t.Parallel()
	var digests []string
	for _, signers := range [][]domain.MSPID{{"BigdataMSP", "CivilMSP", "PoliceMSP"}, {"CivilMSP", "MarketMSP", "PoliceMSP"}} {
		x := openTemp(t)
		blocks := indextest.Blocks(3, 5)
		for i := range blocks {
			blocks[i].Signers = signers
		}
		if err := feed(t.Context(), x, blocks, 2000, func() {}); err != nil {
			t.Fatal(err)
		}
		digest, err := x.Digest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, digest)
	}
	if digests[0] != digests[1] {
		t.Errorf("digests %v", digests)
	}
}

func TestReopen(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "a folder", "50%? #index.sqlite")
	blocks := indextest.Blocks(5, 10)
	x, err := Open(t.Context(), file)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	if err := feed(t.Context(), x, blocks[:3], 100, func() {}); err != nil {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	if err := x.Close(); err != nil {
		t.Errorf("Close again: %v", err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatalf("the index is not in the file named: %v", err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the file = %v, want 0600", info.Mode())
	}
	if err := filepath.WalkDir(filepath.Dir(file), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && path != file {
			t.Errorf("Close left %s behind", path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}

	x = openFile(t, file)
	if err := x.WaitBlock(t.Context(), 2); err != nil {
		t.Errorf("WaitBlock(2): %v", err)
	}
	if err := feed(t.Context(), x, blocks, 300, func() {}); err != nil {
		t.Fatal(err)
	}
	fresh := openTemp(t)
	if err := feed(t.Context(), fresh, blocks, 300, func() {}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(dump(t, fresh), dump(t, x)); diff != "" {
		t.Errorf("an index closed on the way differs (-fresh +reopened):\n%s", diff)
	}
}

func TestAnotherChain(t *testing.T) {
	x := openTemp(t)
	blocks := indextest.Blocks(3, 1)
	for _, b := range blocks {
		if err := x.ApplyBlock(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	known, next := blocks[1], domain.Block{Number: 3, Hash: "aa", PreviousHash: "bb"}
	known.Hash = "aa"
	for _, b := range []domain.Block{known, next} {
		err := x.ApplyBlock(t.Context(), b)
		if domain.KindOf(err) != domain.Conflict || !strings.Contains(err.Error(), "delete this file") {
			t.Errorf("ApplyBlock(%d) of another chain = %v, want a conflict that says what to do", b.Number, err)
		}
	}
	if n, err := x.NextBlock(t.Context()); err != nil || n != 3 {
		t.Errorf("NextBlock = %d, %v, want 3", n, err)
	}
}

func TestWithChaincode(t *testing.T) {
	var c indextest.Chain
	own, other := indextest.Put("cal~a", []byte(`{}`)), indextest.Put("cal~b", []byte(`{}`))
	other.Chaincode = "another"
	x := openTemp(t, WithChaincode("zhenglian"))
	if err := x.ApplyBlock(t.Context(), c.Add(own, other)); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Get(t.Context(), domain.KindCalendar, "a"); err != nil {
		t.Errorf("Get of the chaincode's own record: %v", err)
	}
	if _, err := x.Get(t.Context(), domain.KindCalendar, "b"); domain.KindOf(err) != domain.NotFound {
		t.Errorf("Get of another chaincode's write = %v, want not_found", err)
	}
}

func TestDuplicateTransactionID(t *testing.T) {
	var c indextest.Chain
	first := indextest.Put("cal~a", []byte(`{}`))
	first.ID = "same"
	again := first
	again.ValidationCode = "DUPLICATE_TXID"
	x := openTemp(t)
	for _, b := range []domain.Block{c.Add(first), c.Add(again)} {
		if err := x.ApplyBlock(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	got, err := x.Transaction(t.Context(), "same")
	if err != nil || got.Block != 0 || !got.Transaction.Valid() {
		t.Errorf("Transaction = %+v, %v, want the valid one of block 0", got, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(t *testing.T, file string)
		want    string
	}{
		"not a database": {func(t *testing.T, file string) {
			if err := os.WriteFile(file, []byte(strings.Repeat("this is a text ", 100)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "delete this file"},
		"a later schema": {func(t *testing.T, file string) {
			x := openFile(t, file)
			if _, err := x.writer.ExecContext(t.Context(), `PRAGMA user_version = 99`); err != nil {
				t.Fatal(err)
			}
		}, "schema 99"},
		"a folder": {func(t *testing.T, file string) {
			if err := os.Mkdir(file, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "is a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "index.sqlite")
			test.prepare(t, file)
			x, err := Open(t.Context(), file)
			if err == nil {
				t.Fatalf("Open succeeded, Close: %v", x.Close())
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), file) {
				t.Errorf("Open = %q, want it to name the file and %q", err, test.want)
			}
		})
	}
}

// What cannot be stored whole leaves no part of it.
func TestFailedWriteLeavesNothing(t *testing.T) {
	x := openTemp(t)
	blocks := indextest.Blocks(3, 20)
	if err := feed(t.Context(), x, blocks[:2], 100, func() {}); err != nil {
		t.Fatal(err)
	}
	before := dump(t, x)
	for _, table := range []string{"records", "writes", "grant_use", "access"} {
		if _, err := x.writer.ExecContext(t.Context(), fmt.Sprintf(
			`CREATE TRIGGER full_%s BEFORE INSERT ON %[1]s BEGIN SELECT RAISE(ABORT, 'disk full'); END`, table)); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.ApplyBlock(t.Context(), blocks[2]); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("ApplyBlock = %v, want the failure", err)
	}
	if err := x.ApplyAccess(t.Context(), indextest.Access(100, 10)); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("ApplyAccess = %v, want the failure", err)
	}
	if n, err := x.NextBlock(t.Context()); err != nil || n != 2 {
		t.Errorf("NextBlock = %d, %v, want 2", n, err)
	}
	if diff := cmp.Diff(before, dump(t, x)); diff != "" {
		t.Errorf("failed writes left something (-before +after):\n%s", diff)
	}
}

func TestWaitBlockSurvivesClose(t *testing.T) {
	x, err := Open(t.Context(), filepath.Join(t.TempDir(), "index.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := x.WaitBlock(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("WaitBlock on a closed index = %v", err)
	}
	if err := x.ApplyBlock(t.Context(), domain.Block{}); err == nil {
		t.Error("ApplyBlock on a closed index succeeded")
	}
}

// Every trace walks an index that gives the order wanted: none scans the whole
// log or sorts what it found, whatever the log's size.
func TestTracePlans(t *testing.T) {
	t.Parallel()
	x := openTemp(t)
	plan := func(query0 string, args []any) string {
		return strings.Join(query(t, x.readers, "EXPLAIN QUERY PLAN "+query0, args...), "\n")
	}
	for want, filter := range map[string]index.AccessFilter{
		"INTEGER PRIMARY KEY": {},
		"access_call":         {CallID: "x", GrantID: "y", Purpose: "z"},
		"access_subject":      {SubjectRef: "x", Department: "civil"},
		"access_case":         {CaseRef: "x", CatalogCode: "y", From: indextest.Epoch},
	} {
		got := plan(traceQuery(filter, allEntries))
		if !strings.Contains(got, want) || strings.Contains(got, "SCAN a") || strings.Contains(got, "TEMP B-TREE") {
			t.Errorf("the plan does not use %s alone:\n%s", want, got)
		}
	}
	terms := termsOf(index.AccessFilter{GrantID: "x", CatalogCode: "x", Department: "x", Purpose: "x", ServiceItem: "x"})
	for n := 1; n <= len(terms); n++ {
		got := plan(candidatesQuery(terms[:n], allEntries))
		if strings.Count(got, "USING PRIMARY KEY (term=? AND run") != n || strings.Contains(got, "SCAN") || strings.Contains(got, "TEMP B-TREE") {
			t.Errorf("the plan for %d terms does not walk their places:\n%s", n, got)
		}
	}
}

// Two names of one number are told apart by their keys.
func TestNamesOfOneNumber(t *testing.T) {
	t.Parallel()
	x := openTemp(t)
	var c indextest.Chain
	one, other := domain.CatalogNameID("civil", "甲"), domain.CatalogNameID("civil", "乙")
	for i, id := range []string{one, other} {
		if err := x.ApplyBlock(t.Context(), c.Add(indextest.Put(domain.KeyOf(domain.KindCatalogName, id), strconv.Itoa(i)))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := x.writer.ExecContext(t.Context(), `UPDATE names SET number = ?`, nameNumber(one)); err != nil {
		t.Fatal(err)
	}
	if got, err := x.Get(t.Context(), domain.KindCatalogName, one); err != nil || string(got.Value) != `"0"` {
		t.Errorf("Get = %s, %v, want the name asked for", got.Value, err)
	}
}
