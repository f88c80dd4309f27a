// Package sqlindex is the gateway's read model in a SQLite file: an
// [index.Index].
//
// # Durability
//
// The file runs in WAL mode with synchronous=NORMAL. A killed process loses
// nothing. A power failure can lose the last transactions, never part of one:
// what was read and how far stand in the same transaction, so the index merely
// continues from an earlier block or log entry. Nothing is acknowledged on the
// strength of this file.
//
// # Schema
//
// The files of migrations/ are applied in order and counted in PRAGMA
// user_version. A migration library was tried and left out: with a file that can
// be deleted and rebuilt there is nothing to migrate down, and the libraries
// raise versions of modules that this module has to hold back.
//
// The tables blocks, transactions and writes are what the ledger says, as its keys
// hold it, the tables access… what the log says, and all others are derived from writes. A migration
// that changes a derived table empties them all and sets progress.stale; [Open]
// then derives them anew, without the ledger.
package sqlindex

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"

	_ "modernc.org/sqlite" // driver "sqlite"
)

//go:embed migrations/*.sql
var migrations embed.FS

// remedy ends the errors that only a new file can cure.
const remedy = "stop the gateway and delete this file with its -wal and -shm; it is rebuilt from the ledger and the log"

// Option changes how [Open] reads blocks.
type Option func(*Index)

// WithChaincode makes records only of writes of the chaincode called name.
// Without it every valid transaction's writes count: keys of other chaincodes on
// the channel could then pass for records.
func WithChaincode(name string) Option {
	return func(x *Index) { x.chaincode = name }
}

// Index is a read model in a SQLite file. It is safe for concurrent use: writes
// go through one connection, reads through a pool and do not wait for writes.
type Index struct {
	file      string
	chaincode string // "" means any
	maxFew    int    // [maxFew]; tests try both sides of it on few entries

	writer  *sql.DB // one connection
	readers *sql.DB
	often   *queries // of readers
	insert  statements
	batches batches
	events  events

	mu      sync.Mutex    // held while applying
	next    uint64        // number of blocks applied; guarded by nextMu
	grown   chan struct{} // closed and replaced when next grows; guarded by nextMu
	nextMu  sync.Mutex
	closing sync.Once
}

var _ index.Index = (*Index)(nil)

// Open opens the index in file and creates it, with its folder, when it is not
// there. It fails on a file that is no index or was written by a later version.
func Open(ctx context.Context, file string, options ...Option) (*Index, error) {
	x := &Index{file: file, maxFew: maxFew, grown: make(chan struct{})}
	for _, option := range options {
		option(x)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, fmt.Errorf("create folder of the index: %w", err)
	}
	// SQLite would create the file readable by everyone; it and its WAL take over this mode.
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("open index %s: %w", file, err)
	}
	if err := x.open(ctx); err != nil {
		_ = x.Close() // the first error is the one to report
		return nil, fmt.Errorf("open index %s: %w", file, err)
	}
	return x, nil
}

func (x *Index) open(ctx context.Context) error {
	var err error
	if x.writer, err = sql.Open("sqlite", dataSource(x.file, "journal_mode(WAL)", "synchronous(NORMAL)", "wal_autocheckpoint(8000)", "cache_size(-64000)")+"&_txlock=immediate"); err != nil {
		return err
	}
	x.writer.SetMaxOpenConns(1)
	if err := migrate(ctx, x.writer); err != nil {
		return err
	}
	if x.readers, err = sql.Open("sqlite", dataSource(x.file, "query_only(1)")); err != nil {
		return err
	}
	readers := max(4, runtime.GOMAXPROCS(0))
	x.readers.SetMaxOpenConns(readers)
	x.readers.SetMaxIdleConns(readers)
	x.often = newQueries(x.readers)
	if x.insert, err = prepare(ctx, x.writer); err != nil {
		return err
	}
	if err := x.derive(ctx); err != nil {
		return fmt.Errorf("derive the records anew: %w", err)
	}
	next, _, err := progress(ctx, x.readers)
	if err != nil {
		return err
	}
	x.next = next
	return nil
}

// dataSource names file to the driver. The path is escaped: it may hold "?" or "%".
func dataSource(file string, pragmas ...string) string {
	query := url.Values{"_pragma": append([]string{"busy_timeout(10000)", "temp_store(MEMORY)", "cache_size(-16000)"}, pragmas...)}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: file}).EscapedPath(), RawQuery: query.Encode()}).String()
}

// migrate brings the file to the newest schema, one transaction per step.
func migrate(ctx context.Context, db *sql.DB) error {
	names, err := fs.Glob(migrations, "migrations/*.sql") // sorted
	if err != nil {
		return err
	}
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return fmt.Errorf("%w; if it is not an index of this program or is damaged, %s", err, remedy)
	}
	if version > len(names) {
		return fmt.Errorf("has schema %d and this program knows %d: run the newer program, or %s", version, len(names), remedy)
	}
	for i, name := range names[version:] {
		step, err := migrations.ReadFile(name)
		if err != nil {
			return err
		}
		err = inTransaction(ctx, db, func(tx *sql.Tx) error {
			// The version counts in the same transaction: a killed migration leaves no half.
			_, err := tx.ExecContext(ctx, fmt.Sprintf("%s\nPRAGMA user_version = %d;", step, version+i+1))
			return err
		})
		if err != nil {
			return fmt.Errorf("apply %s: %w", name, err)
		}
	}
	return nil
}

// statements are prepared once: a block or a batch runs them thousands of times.
type statements struct {
	block, places                              *sql.Stmt
	times, use, minute, item                   *sql.Stmt
	forget, forgetTask, recorded               *sql.Stmt
	request, forgetRequest, grant, forgetGrant *sql.Stmt
	count, forgetNone, clock, forgetClock      *sql.Stmt
	forgetEntry, unsearch                      *sql.Stmt
	lived, forgetLives, forgetBatchTask        *sql.Stmt
	transactions, writes, history, records     manyRows
	lives, tasks, entries, search, access      manyRows
	names                                      manyRows
	current, currentValue                      lookup
}

// texts pairs each statement with its text.
func (s *statements) texts() []statementText {
	return slices.Concat([]statementText{
		{&s.block, `INSERT INTO blocks (number, hash, body) VALUES (?, ?, ?)`},
		{&s.places, `INSERT INTO access_places (term, run, places) VALUES (?, ?, ?)
			ON CONFLICT (term, run) DO UPDATE SET places = CAST(places || excluded.places AS BLOB)`},
		{&s.times, `INSERT INTO access_times (chunk, earliest, latest) VALUES (?, ?, ?)
			ON CONFLICT (chunk) DO UPDATE SET earliest = min(earliest, excluded.earliest), latest = max(latest, excluded.latest)`},
		{&s.use, `INSERT INTO grant_use (grant_id, direction, hour, uses, data, largest) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (grant_id, direction, hour) DO UPDATE SET uses = uses + excluded.uses, data = data + excluded.data, largest = max(largest, excluded.largest)`},
		{&s.minute, `INSERT INTO grant_minute (grant_id, direction, minute, uses, refused) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (grant_id, direction, minute) DO UPDATE SET uses = uses + excluded.uses, refused = refused + excluded.refused`},
		{&s.item, `INSERT INTO grant_item (grant_id, direction, service_item, earliest) VALUES (?, ?, ?, ?)
			ON CONFLICT (grant_id, direction, service_item) DO UPDATE SET earliest = excluded.earliest WHERE excluded.earliest < earliest`},
		{&s.recorded, `SELECT r.write, w.value FROM records r JOIN writes w ON w.n = r.write WHERE r.kind = ? AND r.id = ?`},
		{&s.forget, `DELETE FROM records WHERE kind = ? AND id = ?`},
		{&s.forgetTask, `DELETE FROM tasks WHERE audience = ? AND role = ? AND due = ? AND kind = ? AND id = ? AND seq = ?`},
		{&s.request, `INSERT OR REPLACE INTO requests (id, decision, without_basis, answered, late, answered_in) VALUES (?, ?, ?, ?, ?, ?)`},
		{&s.forgetRequest, `DELETE FROM requests WHERE id = ?`},
		{&s.grant, `INSERT OR REPLACE INTO grants (id, starts, ends) VALUES (?, ?, ?)`},
		{&s.forgetGrant, `DELETE FROM grants WHERE id = ?`},
		{&s.count, `INSERT INTO grant_anchored (grant_id, count) VALUES (?, ?) ON CONFLICT (grant_id) DO UPDATE SET count = count + excluded.count`},
		{&s.forgetNone, `DELETE FROM grant_anchored WHERE grant_id = ? AND count = 0`},
		{&s.clock, `INSERT INTO clocks (due, event, count) VALUES (?, ?, ?) ON CONFLICT (due, event) DO UPDATE SET count = count + excluded.count`},
		{&s.forgetClock, `DELETE FROM clocks WHERE due = ? AND event = ? AND count = 0`},
		{&s.forgetEntry, `DELETE FROM entries WHERE doc = ?`},
		{&s.unsearch, `INSERT INTO search (search, rowid, tokens) VALUES ('delete', ?, ?)`},
		{&s.lived, `SELECT tx_id, changed, write FROM lives WHERE batch = ? ORDER BY life`},
		{&s.forgetLives, `DELETE FROM lives WHERE batch = ?`},
		{&s.forgetBatchTask, `DELETE FROM tasks WHERE audience IN (SELECT department FROM lives WHERE batch = ?1) AND role = ?2 AND due = ?3
			AND kind = ?4 AND id = ?1`},
	},
		s.transactions.texts(`INSERT INTO transactions (block, seq, tx_id, body, first_write, write_count)`, 6, ``),
		s.writes.texts(`INSERT INTO writes (n, block, tx, key, deleted, counts, event, value)`, writeColumns, ``),
		s.names.texts(`INSERT INTO names (number, write)`, 2, ``),
		s.history.texts(`INSERT OR IGNORE INTO history (key, n)`, 2, ``),
		s.records.texts(`INSERT OR REPLACE INTO records (kind, id, write, doc, department, consumer, state, share_type, grant_id, changed, due, part_of, part)`, 13, ``),
		s.lives.texts(`INSERT INTO lives (batch, life, department, state, changed, tx_id, write, issued, status, certificates)`, 10, ``),
		s.tasks.texts(`INSERT OR REPLACE INTO tasks (audience, role, due, kind, id, seq, parties, transaction_name)`, 8, ``),
		s.access.texts(`INSERT INTO access (idx, at, direction, ok, call_id, grant_id, case_ref, subject_ref, record)`, accessColumns, ``),
		s.entries.texts(`INSERT OR REPLACE INTO entries (doc, code, text, public)`, 4, ``),
		s.search.texts(`INSERT INTO search (rowid, tokens)`, 2, ``),
		s.current.texts(`SELECT id, write, doc, 0, NULL FROM records WHERE kind = ? AND id IN`),
		s.currentValue.texts(`SELECT r.id, r.write, r.doc, w.event, w.value FROM records r JOIN writes w ON w.n = r.write WHERE r.kind = ? AND r.id IN`),
	)
}

type statementText struct {
	to  **sql.Stmt
	sql string
}

func prepare(ctx context.Context, db *sql.DB) (statements, error) {
	var s statements
	for _, t := range s.texts() {
		var err error
		if *t.to, err = db.PrepareContext(ctx, t.sql); err != nil {
			return statements{}, err
		}
	}
	return s, nil
}

// in is s within a transaction.
func (s statements) in(ctx context.Context, tx *sql.Tx) statements {
	for _, t := range s.texts() {
		*t.to = tx.StmtContext(ctx, *t.to)
	}
	return s
}

// querier is what [sql.DB] and [sql.Tx] have in common.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func progress(ctx context.Context, q querier) (nextBlock, nextAccess uint64, err error) {
	err = q.QueryRowContext(ctx, `SELECT next_block, next_access FROM progress`).Scan(&nextBlock, &nextAccess)
	return nextBlock, nextAccess, err
}

// inTransaction runs f and commits, or rolls back when f fails.
func inTransaction(ctx context.Context, db *sql.DB, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		if back := tx.Rollback(); back != nil && !errors.Is(back, sql.ErrTxDone) {
			return errors.Join(err, back)
		}
		return err
	}
	return tx.Commit()
}

// Close closes the file. Calls that wait in [Index.WaitBlock] go on waiting for
// their contexts.
func (x *Index) Close() error {
	var err error
	x.closing.Do(func() {
		for _, db := range []*sql.DB{x.readers, x.writer} { // the last one out removes the WAL
			if db != nil {
				err = errors.Join(err, db.Close())
			}
		}
	})
	return err
}

// checkPage refuses a page outside the port's bounds.
func checkPage(page index.Page) error {
	if page.Limit < 1 || page.Limit > 200 {
		return &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf("limit %d is not between 1 and 200", page.Limit)}
	}
	return nil
}
