package sqltrail

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/zhenglian/zhenglian/domain"

	_ "modernc.org/sqlite" // driver "sqlite"
)

// dialect is what differs between the databases. All statements are written once,
// with "?" for arguments and none in a literal.
type dialect struct {
	migrations string // folder
	numbered   bool   // arguments are $1, $2, …
	indexedBy  bool   // a query may name its index
	hasVersion string // counts the tables called trail_version
	lock       string // makes a migration the only one; "" where a transaction does
	// copyRows inserts rows, given one after the other, faster than statements;
	// nil where nothing is faster.
	copyRows func(ctx context.Context, tx writing, table string, columns []string, args []any) error
}

var (
	sqlite = dialect{
		migrations: "migrations/sqlite", indexedBy: true,
		hasVersion: `SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'trail_version'`,
	}
	postgres = dialect{
		migrations: "migrations/postgres", numbered: true,
		hasVersion: `SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'trail_version'`,
		lock:       `SELECT pg_advisory_xact_lock(7450489173)`, // any number that others do not use
		copyRows:   copyRows,
	}
)

func copyRows(ctx context.Context, tx writing, table string, columns []string, args []any) error {
	return tx.conn.Raw(func(driver any) error {
		_, err := driver.(*stdlib.Conn).Conn().CopyFrom(ctx, pgx.Identifier{table}, columns,
			pgx.CopyFromSlice(len(args)/len(columns), func(i int) ([]any, error) { return args[i*len(columns) : (i+1)*len(columns)], nil }))
		return err
	})
}

// text is query as the database wants it.
func (d dialect) text(query string) string {
	if !d.numbered {
		return query
	}
	var b strings.Builder
	n := 0
	for part := range strings.SplitSeq(query, "?") {
		if n > 0 {
			b.WriteString("$" + strconv.Itoa(n))
		}
		b.WriteString(part)
		n++
	}
	return b.String()
}

// databases are two ways to one database: one connection that writes, and a pool
// that reads and does not wait for it.
type databases struct {
	dialect
	writer, readers *sql.DB
}

// connect opens the database that where names.
func connect(where string) (databases, error) {
	scheme, _, found := strings.Cut(where, "://")
	switch {
	case found && (scheme == "postgres" || scheme == "postgresql"):
		return connectPostgres(where)
	case found && scheme != "sqlite":
		return databases{}, &domain.Error{Kind: domain.Invalid, Msg: "trail: want the path of a file, sqlite:PATH or postgres://…, not " + scheme + "://…"}
	}
	file := strings.TrimPrefix(strings.TrimPrefix(where, "sqlite:"), "//")
	if file == "" {
		return databases{}, &domain.Error{Kind: domain.Invalid, Msg: "trail: names no file"}
	}
	return connectSQLite(file)
}

func connectPostgres(where string) (databases, error) {
	config, err := pgx.ParseConfig(where) // whose errors hide the password
	if err != nil {
		return databases{}, &domain.Error{Kind: domain.Invalid, Msg: "trail: " + err.Error()}
	}
	// A page is cheap along one index only; a plan made for any value at all may miss it.
	config.RuntimeParams["plan_cache_mode"] = "force_custom_plan"
	read := config.Copy()
	read.RuntimeParams["default_transaction_read_only"] = "on"
	return pools(postgres, stdlib.OpenDB(*config), stdlib.OpenDB(*read)), nil
}

func connectSQLite(file string) (databases, error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return databases{}, fmt.Errorf("create folder of the trail: %w", err)
	}
	// SQLite would create the file readable by everyone; it and its WAL take over this mode.
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return databases{}, err
	}
	if err := f.Close(); err != nil {
		return databases{}, err
	}
	writer, err := sql.Open("sqlite", dataSource(file, "journal_mode(WAL)", "synchronous(NORMAL)", "wal_autocheckpoint(16000)", "cache_size(-256000)")+"&_txlock=immediate")
	if err != nil {
		return databases{}, err
	}
	readers, err := sql.Open("sqlite", dataSource(file, "query_only(1)", "cache_size(-32000)"))
	if err != nil {
		_ = writer.Close() // has no connection yet
		return databases{}, err
	}
	return pools(sqlite, writer, readers), nil
}

// dataSource names file to the driver. The path is escaped: it may hold "?" or "%".
func dataSource(file string, pragmas ...string) string {
	query := url.Values{"_pragma": append([]string{"busy_timeout(10000)", "temp_store(MEMORY)"}, pragmas...)}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: file}).EscapedPath(), RawQuery: query.Encode()}).String()
}

func pools(d dialect, writer, readers *sql.DB) databases {
	writer.SetMaxOpenConns(1)
	n := max(4, runtime.GOMAXPROCS(0))
	readers.SetMaxOpenConns(n)
	readers.SetMaxIdleConns(n)
	return databases{d, writer, readers}
}

// query reads rows in a read-only connection.
func (d databases) query(ctx context.Context, query string, args []any, row func(scan func(...any) error) error) error {
	for _, arg := range args {
		if text, ok := arg.(string); ok {
			if err := checkText("filter", text); err != nil {
				return err
			}
		}
	}
	rows, err := d.readers.QueryContext(ctx, d.text(query), args...)
	if err != nil {
		return err
	}
	return each(rows, row)
}

// each calls row for every row and closes rows.
func each(rows *sql.Rows, row func(scan func(...any) error) error) error {
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
