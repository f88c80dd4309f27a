// Package sqlcredential keeps what a department issued in a SQLite file of its
// own: a [credential.Store].
//
// # Personal data
//
// The file is the one place of a gateway with personal data. It is readable by
// the gateway's user alone, nothing but the reference of a certificate can be
// asked for, and what is deleted is overwritten (secure_delete) and taken out of
// the write-ahead log before Delete returns. A backup of the file is as secret as
// the file.
//
// # Durability
//
// The file runs in WAL mode with synchronous=FULL: a credential is the only copy
// that the issuer has, and nothing can make it again.
package sqlcredential

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/credential"

	_ "modernc.org/sqlite" // driver "sqlite"
)

// schemas are the steps from each schema to the next; how many were taken is in
// PRAGMA user_version.
var schemas = []string{
	`CREATE TABLE credentials (
	ref        TEXT PRIMARY KEY,
	credential TEXT NOT NULL,
	check_code TEXT NOT NULL
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;`,
	`ALTER TABLE credentials ADD COLUMN sealed BLOB NOT NULL DEFAULT x'';
PRAGMA user_version = 2;`,
}

// Store is a store in a SQLite file. It is safe for concurrent use.
type Store struct {
	db *sql.DB // one connection: the work is short
}

var _ credential.Store = (*Store)(nil)

// Open opens the store in file and creates it, with its folder, when it is not
// there. It fails on a file that is no store or was written by a later version.
func Open(ctx context.Context, file string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, fmt.Errorf("create folder of the credentials: %w", err)
	}
	// SQLite would create the file readable by everyone; it and its WAL take over this mode.
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open credentials: %w", err)
	}
	// It may be there from a copy that was made with another mode.
	if err := errors.Join(f.Chmod(0o600), f.Close()); err != nil {
		return nil, fmt.Errorf("open credentials %s: %w", file, err)
	}
	query := url.Values{
		"_pragma": {"busy_timeout(10000)", "temp_store(MEMORY)", "journal_mode(WAL)", "synchronous(FULL)", "secure_delete(1)"},
		"_txlock": {"immediate"},
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: file}).EscapedPath(), RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("open credentials %s: %w", file, err)
	}
	db.SetMaxOpenConns(1)
	s := &Store{db: db}
	if err := s.migrate(ctx); err != nil {
		_ = s.Close() // the first error is the one to report
		return nil, fmt.Errorf("open credentials %s: %w", file, err)
	}
	return s, nil
}

// Close closes the file.
func (s *Store) Close() error { return s.db.Close() }

func (s *Store) migrate(ctx context.Context) error {
	return s.transaction(ctx, func(tx *sql.Tx) error {
		var version int
		if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
			return err
		}
		if version > len(schemas) {
			return fmt.Errorf("has schema %d and this program knows %d: run the newer program", version, len(schemas))
		}
		for _, step := range schemas[version:] {
			if _, err := tx.ExecContext(ctx, step); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Store) transaction(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// Put is [credential.Store].
func (s *Store) Put(ctx context.Context, records ...credential.Record) error {
	if len(records) == 0 {
		return ctx.Err()
	}
	err := s.transaction(ctx, func(tx *sql.Tx) error {
		insert, err := tx.PrepareContext(ctx, `INSERT INTO credentials (ref, credential, check_code, sealed) VALUES (?, ?, ?, ?) ON CONFLICT (ref) DO NOTHING`)
		if err != nil {
			return err
		}
		defer func() { _ = insert.Close() }() // ends with the transaction
		for _, r := range records {
			done, err := insert.ExecContext(ctx, r.Ref, r.Credential, r.CheckCode, []byte(r.Sealed))
			if err != nil {
				return err
			}
			n, err := done.RowsAffected()
			if err != nil {
				return err
			}
			if n == 1 {
				continue
			}
			kept, err := get(ctx, tx, r.Ref)
			if err != nil {
				return err
			}
			if kept != r {
				return &domain.Error{Kind: domain.Exists, Msg: "another credential of certificate " + r.Ref + " is kept already"}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep %d credentials: %w", len(records), err)
	}
	return nil
}

// Get is [credential.Store].
func (s *Store) Get(ctx context.Context, ref string) (credential.Record, error) {
	r, err := get(ctx, s.db, ref)
	if err != nil {
		return credential.Record{}, fmt.Errorf("read the credential of certificate %s: %w", ref, err)
	}
	return r, nil
}

func get(ctx context.Context, from interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}, ref string) (credential.Record, error) {
	r := credential.Record{Ref: ref}
	err := from.QueryRowContext(ctx, `SELECT credential, check_code, sealed FROM credentials WHERE ref = ?`, ref).Scan(&r.Credential, &r.CheckCode, &r.Sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return credential.Record{}, &domain.Error{Kind: domain.NotFound, Msg: "no credential of certificate " + ref + " is kept"}
	}
	if err != nil {
		return credential.Record{}, err
	}
	return r, nil
}

// Delete is [credential.Store].
func (s *Store) Delete(ctx context.Context, refs ...string) error {
	deleted := int64(0)
	err := s.transaction(ctx, func(tx *sql.Tx) error {
		for _, ref := range refs {
			done, err := tx.ExecContext(ctx, `DELETE FROM credentials WHERE ref = ?`, ref)
			if err != nil {
				return err
			}
			n, err := done.RowsAffected()
			if err != nil {
				return err
			}
			deleted += n
		}
		return nil
	})
	if err == nil && deleted > 0 {
		// The log still has the pages as they were.
		var busy, pages, moved int
		err = s.db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &moved)
		if err == nil && busy != 0 {
			err = errors.New("another program reads the file, and what was deleted is still in its log")
		}
	}
	if err != nil {
		return fmt.Errorf("delete %d credentials: %w", len(refs), err)
	}
	return nil
}
