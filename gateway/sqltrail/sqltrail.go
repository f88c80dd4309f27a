// Package sqltrail keeps the trail in a SQL database: a [trail.Store] in a SQLite
// file or in PostgreSQL, with the same statements.
//
// # Durability
//
// Entries and progress stand in the same transaction. A killed process loses
// nothing; a power failure can lose the last transactions of a SQLite file (WAL
// mode, synchronous=NORMAL), never part of one, and the auditor pulls on from
// where the trail then is.
//
// # Schema
//
// The files of migrations/ are applied in order and counted in the table
// trail_version. A database with a later schema is refused.
package sqltrail

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/trail"
)

//go:embed migrations/*/*.sql
var migrations embed.FS

// Store is a trail in a database. It is safe for concurrent use, also of several
// processes: one writes at a time, and readers do not wait.
type Store struct {
	databases
	digestKey []byte

	write statements

	mu      sync.Mutex // held while writing
	closing sync.Once
	closed  error
}

var _ trail.Store = (*Store)(nil)

// Open opens the trail at where: the path of a SQLite file, also as sqlite:PATH,
// which it creates with its folder, or the postgres:// URL of a database that the
// trail has for its own. It fails on a schema that a later version wrote.
func Open(ctx context.Context, where string) (*Store, error) {
	d, err := connect(where)
	if err != nil {
		return nil, fmt.Errorf("open trail: %w", err)
	}
	s := &Store{databases: d}
	err = s.transaction(ctx, func(tx writing) error { return s.migrate(ctx, tx) })
	if err == nil {
		err = s.readers.QueryRowContext(ctx, `SELECT digest_key FROM store`).Scan(&s.digestKey)
	}
	if err == nil {
		s.write, err = s.prepare(ctx)
	}
	if err != nil {
		_ = s.Close() // the first error is the one to report
		return nil, fmt.Errorf("open trail: %w", err)
	}
	return s, nil
}

// migrate brings the database to the newest schema. All steps and the version are
// one transaction: a killed migration leaves nothing.
func (s *Store) migrate(ctx context.Context, tx writing) error {
	names, err := fs.Glob(migrations, s.migrations+"/*.sql") // sorted
	if err != nil {
		return err
	}
	if s.lock != "" {
		if _, err := tx.ExecContext(ctx, s.lock); err != nil {
			return err
		}
	}
	version, err := s.version(ctx, tx)
	if err != nil {
		return err
	}
	if version > len(names) {
		return fmt.Errorf("it has schema %d and this program knows %d: run the newer program", version, len(names))
	}
	for _, name := range names[version:] {
		if err := s.step(ctx, tx, name); err != nil {
			return fmt.Errorf("apply %s: %w", filepath.Base(name), err)
		}
	}
	if version == 0 {
		key := make([]byte, 32)
		_, _ = rand.Read(key) // never fails
		if _, err := tx.ExecContext(ctx, s.text(`INSERT INTO store (digest_key, next_n) VALUES (?, 1)`), key); err != nil {
			return err
		}
	}
	_, err = tx.ExecContext(ctx, s.text(`UPDATE trail_version SET version = ?`), len(names))
	return err
}

// version answers the schema's version, 0 for an empty database.
func (s *Store) version(ctx context.Context, tx writing) (int, error) {
	var version int
	if err := tx.QueryRowContext(ctx, s.hasVersion).Scan(&version); err != nil {
		return 0, err
	}
	if version == 0 {
		if _, err := tx.ExecContext(ctx, `CREATE TABLE trail_version (version INTEGER NOT NULL)`); err != nil {
			return 0, err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO trail_version (version) VALUES (0)`)
		return 0, err
	}
	err := tx.QueryRowContext(ctx, `SELECT version FROM trail_version`).Scan(&version)
	return version, err
}

func (s *Store) step(ctx context.Context, tx writing, name string) error {
	text, err := migrations.ReadFile(name)
	if err != nil {
		return err
	}
	for statement := range strings.SplitSeq(string(text), ";\n") {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// writing is a transaction and the connection that it runs on.
type writing struct {
	*sql.Tx
	conn *sql.Conn
}

// transaction runs f and commits, or rolls back when f fails. Calls take turns.
func (s *Store) transaction(ctx context.Context, f func(writing) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	conn, err := s.writer.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // goes back to the pool; the transaction has ended
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(writing{tx, conn}); err != nil {
		if back := tx.Rollback(); back != nil && !errors.Is(back, sql.ErrTxDone) {
			return errors.Join(err, back)
		}
		return err
	}
	return tx.Commit()
}

// Close closes the database.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.closed = errors.Join(s.readers.Close(), s.writer.Close()) // the last one out removes SQLite's WAL
	})
	return s.closed
}

// digest is a number for a text, the same wherever the text stands in this
// database. Without the database's key nobody can make two texts with one number.
func (s *Store) digest(text []byte) int64 {
	h := sha256.New()
	h.Write(s.digestKey)
	h.Write(text)
	var sum [sha256.Size]byte
	return int64(binary.BigEndian.Uint64(h.Sum(sum[:0])) & math.MaxInt64) //nolint:gosec // masked
}

// digestOr is the digest of a text, null for none.
func (s *Store) digestOr(text string) any {
	if text == "" {
		return nil
	}
	return s.digest([]byte(text))
}

// column is a number as databases store it: 63 bits.
func column(what string, n uint64) (int64, error) {
	if n > math.MaxInt64 {
		return 0, invalid("%s: %d is out of range", what, n)
	}
	return int64(n), nil
}

func timeOf(milliseconds int64) time.Time { return time.UnixMilli(milliseconds).UTC() }

func invalid(format string, args ...any) error {
	return &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf(format, args...)}
}
