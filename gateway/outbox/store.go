package outbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"

	"modernc.org/sqlite" // driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// schema is the number of the schema in PRAGMA user_version.
const schema = 2

const create = `
CREATE TABLE writes (
	id          TEXT PRIMARY KEY,
	operation   TEXT NOT NULL,
	role        TEXT NOT NULL,
	name        TEXT NOT NULL,
	argument    BLOB NOT NULL,
	expect      BLOB NOT NULL,
	tx_id       TEXT NOT NULL,
	signed      BLOB NOT NULL,
	state       TEXT NOT NULL,
	block       INTEGER NOT NULL,
	result      BLOB NOT NULL,
	kind        TEXT NOT NULL,
	message     TEXT NOT NULL,
	accepted_at INTEGER NOT NULL,
	settled_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;`

// steps[n] leads from schema n to the next.
var steps = [schema]string{create, `
ALTER TABLE writes ADD COLUMN offline INTEGER NOT NULL DEFAULT 0;
PRAGMA user_version = 2;`}

// touch writes a page and changes nothing.
var touch = fmt.Sprintf("PRAGMA user_version = %d", schema)

// What is done for every write.
const (
	insert = "INSERT OR REPLACE INTO writes (" + columns + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	remove = "DELETE FROM writes WHERE id = ?"
)

const columns = `id, operation, role, name, argument, expect, tx_id, signed, state, block, result, kind, message, accepted_at, settled_at, offline`

// row is a write as it is stored.
type row struct {
	id       string
	request  ledger.Request
	tx       ledger.Transaction // no ID: not signed yet
	offline  bool               // the caller signed it, with a key of its own
	accepted time.Time

	state   ledger.State // "" as pending
	receipt ledger.Receipt
	refusal *domain.Error
	settled time.Time
}

// settle records the outcome and drops what was needed to get there.
func (r *row) settle(now time.Time, receipt ledger.Receipt, err error) {
	r.request.Argument, r.tx.Bytes, r.settled = nil, nil, now
	if err == nil {
		r.state, r.receipt, r.tx.ID = ledger.Committed, receipt, receipt.TxID
		return
	}
	r.state = ledger.Rejected
	_ = errors.As(err, &r.refusal) // nil: the log says why
}

// operationNow answers what is known of the write.
func (r *row) operationNow() ledger.Operation {
	state := r.state
	if state == "" {
		state = ledger.Pending
	}
	return ledger.Operation{
		ID: r.id, Transaction: r.request.Transaction, State: state, TxID: r.tx.ID, Receipt: r.receipt, Refusal: r.refusal,
		Accepted: r.accepted, Settled: r.settled,
	}
}

const (
	// lazily is how long what need not be durable waits for something that must.
	lazily = 200 * time.Millisecond

	// inCommit bounds the changes of one commit, and so of one fsync.
	inCommit = 512

	// sweepEvery is how often outcomes that have been kept long enough go.
	sweepEvery = time.Hour

	// roomEvery is how often a full disk is tried again.
	roomEvery = time.Second
)

// change is one thing to do to the file.
type change struct {
	statement *sql.Stmt
	arguments []any
	done      chan error // nil: nobody waits
}

// store keeps writes in a SQLite file. One goroutine changes it and puts whatever
// came in meanwhile into one commit: all of them share its fsync.
type store struct {
	db      *sql.DB
	insert  *sql.Stmt // parsed once, as the next two are
	remove  *sql.Stmt
	touch   *sql.Stmt
	changes chan change
	quit    chan struct{}
	ended   chan struct{}
	failure atomic.Pointer[error] // of the last commit there will be
	full    atomic.Pointer[error] // of the latest one, for which there was no room
	oldest  func() time.Time      // outcomes from before go
}

// openStore answers the store in file and the writes in it that are not settled.
func openStore(ctx context.Context, file string, oldest func() time.Time) (*store, []row, error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, nil, err
	}
	// SQLite would create the file readable by everyone; it and its WAL take over this mode.
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, err
	}
	if err := errors.Join(f.Chmod(0o600), f.Close()); err != nil {
		return nil, nil, err
	}
	query := url.Values{
		"_pragma": {"busy_timeout(10000)", "temp_store(MEMORY)", "journal_mode(WAL)", "synchronous(FULL)"},
		"_txlock": {"immediate"},
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: file}).EscapedPath(), RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, nil, err
	}
	s := &store{db: db, changes: make(chan change, inCommit), quit: make(chan struct{}), ended: make(chan struct{}), oldest: oldest}
	left, err := s.begin(ctx)
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	for statement, text := range map[**sql.Stmt]string{&s.insert: insert, &s.remove: remove, &s.touch: touch} {
		if *statement, err = db.PrepareContext(ctx, text); err != nil {
			return nil, nil, errors.Join(err, db.Close())
		}
	}
	go s.run()
	return s, left, nil
}

func (s *store) begin(ctx context.Context) ([]row, error) {
	var version int
	if err := s.db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return nil, err
	}
	switch {
	case version > schema:
		return nil, fmt.Errorf("has schema %d and this program knows %d: run the newer program", version, schema)
	case version < schema:
		if _, err := s.db.ExecContext(ctx, "BEGIN IMMEDIATE;"+strings.Join(steps[version:], "")+"COMMIT"); err != nil {
			return nil, err
		}
	}
	if err := s.sweep(ctx); err != nil {
		return nil, err
	}
	rows, err := s.db.QueryContext(ctx, "SELECT "+columns+" FROM writes WHERE state = ? ORDER BY accepted_at", ledger.Pending)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // Err says what went wrong
	var left []row
	for rows.Next() {
		r, err := scan(rows.Scan)
		if err != nil {
			return nil, err
		}
		left = append(left, r)
	}
	return left, rows.Err()
}

// sweep removes outcomes that have been kept long enough.
func (s *store) sweep(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, "DELETE FROM writes WHERE settled_at BETWEEN 1 AND ?", s.oldest().UnixMilli())
	return err
}

func scan(into func(...any) error) (row, error) {
	var r row
	var kind, message string
	var expect []byte
	var accepted, settled int64
	err := into(&r.id, &r.request.Operation, &r.request.Role, &r.request.Transaction, &r.request.Argument, &expect, &r.tx.ID, &r.tx.Bytes, &r.state,
		&r.receipt.Block, &r.receipt.Result, &kind, &message, &accepted, &settled, &r.offline)
	if err != nil {
		return row{}, err
	}
	if len(expect) > 0 {
		if err := json.Unmarshal(expect, &r.request.Expect); err != nil {
			return row{}, fmt.Errorf("read expectation of write %s: %w", r.id, err)
		}
	}
	r.accepted = time.UnixMilli(accepted).UTC()
	if settled != 0 {
		r.settled = time.UnixMilli(settled).UTC()
	}
	if r.state == ledger.Committed {
		r.receipt.TxID = r.tx.ID
	}
	if kind != "" {
		r.refusal = &domain.Error{Kind: domain.Kind(kind), Msg: message}
	}
	return r, nil
}

// put stores a write, in place of what is stored of it, and answers when it is
// durable.
func (s *store) put(r row) error {
	var kind, message string
	if r.refusal != nil {
		kind, message = string(r.refusal.Kind), r.refusal.Msg
	}
	var settled int64
	if !r.settled.IsZero() {
		settled = r.settled.UnixMilli()
	}
	var expect []byte
	if r.request.Expect != nil {
		var err error
		if expect, err = json.Marshal(r.request.Expect); err != nil {
			return err
		}
	}
	done := make(chan error, 1)
	s.send(change{
		statement: s.insert,
		arguments: []any{
			r.id, r.request.Operation, r.request.Role, r.request.Transaction, blob(r.request.Argument), blob(expect), r.tx.ID, blob(r.tx.Bytes), r.operationNow().State,
			r.receipt.Block, blob(r.receipt.Result), kind, message, r.accepted.UnixMilli(), settled, r.offline,
		},
		done: done,
	})
	select {
	case err := <-done:
		return err
	case <-s.ended:
	}
	select {
	case err := <-done:
		return err
	default:
		return errors.Join(errors.New("the outbox is closed"), s.failed())
	}
}

// blob is b as a value that is never null.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// forget removes a write, before long.
func (s *store) forget(id string) {
	s.send(change{statement: s.remove, arguments: []any{id}})
}

func (s *store) send(c change) {
	select {
	case s.changes <- c:
	case <-s.ended:
	}
}

func (s *store) get(ctx context.Context, id string) (row, error) {
	r, err := scan(s.db.QueryRowContext(ctx, "SELECT "+columns+" FROM writes WHERE id = ?", id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return row{}, &domain.Error{Kind: domain.NotFound, Msg: "operation " + id + " is not known here"}
	}
	return r, err
}

// failed answers why nothing can be stored any more. What a failed fsync left
// behind cannot be known, so the first failure is the last commit. A full disk is no
// such failure: SQLite has taken back what it wrote of the commit.
func (s *store) failed() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// ready answers why nothing can be stored now.
func (s *store) ready() error {
	if err := s.full.Load(); err != nil {
		return *err
	}
	return s.failed()
}

func noRoom(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_FULL
}

// run commits changes until it is told to quit, or a commit fails.
func (s *store) run() {
	defer close(s.ended)
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	room := time.NewTicker(roomEvery)
	defer room.Stop()
	var kept []change // for which there was no room, and that nobody waits for
	for {
		batch := kept
		var again <-chan time.Time
		if s.full.Load() != nil {
			again = room.C
		}
		var due, quit bool
		select {
		case c := <-s.changes:
			batch = append(batch, s.gather(c)...)
		case <-s.quit:
			if quit = len(s.changes) == 0; !quit {
				batch = append(batch, s.gather(<-s.changes)...)
			}
		case <-again:
			batch = append(batch, change{statement: s.touch})
		case <-sweep.C:
			due = true
		}
		kept = nil
		err := s.commit(batch)
		if err == nil && due {
			err = s.sweep(context.Background())
		}
		full := noRoom(err)
		switch {
		case err == nil:
			s.full.Store(nil)
		case full:
			err = fmt.Errorf("outbox: %w", err)
			s.full.Store(&err)
		default:
			err = fmt.Errorf("outbox: %w", err)
			s.failure.Store(&err)
		}
		for _, c := range batch {
			switch {
			case c.done != nil:
				c.done <- err
			case full && c.statement != s.touch:
				kept = append(kept, c)
			}
		}
		if quit || err != nil && !full {
			return
		}
	}
}

// gather answers the changes of the next commit: first and what has come
// meanwhile. When nobody waits for them it gives others a chance to join.
func (s *store) gather(first change) []change {
	batch := []change{first}
	urgent := first.done != nil
	late := time.NewTimer(lazily)
	defer late.Stop()
	for len(batch) < inCommit {
		if urgent && len(s.changes) == 0 {
			return batch
		}
		select {
		case c := <-s.changes:
			batch = append(batch, c)
			urgent = urgent || c.done != nil
		case <-late.C:
			return batch
		case <-s.quit:
			return batch
		}
	}
	return batch
}

func (s *store) commit(batch []change) error {
	if len(batch) == 0 {
		return nil
	}
	// Not the callers' contexts: others' changes are in it.
	tx, err := s.db.Begin() //nolint:noctx // see above
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit
	for _, c := range batch {
		if _, err := tx.Stmt(c.statement).Exec(c.arguments...); err != nil { //nolint:noctx // see above
			return err
		}
	}
	return tx.Commit()
}

// close commits what is left and closes the file.
func (s *store) close() error {
	close(s.quit)
	<-s.ended
	return errors.Join(s.failed(), s.db.Close())
}
