package sqlindex

import (
	"bufio"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// dumped are the tables, with the order of their rows. Not listed are those in
// which FTS5 keeps what it knows, which depend on when it tidied up; search_terms
// shows what they say. Of progress it is what the blocks and the log give: how
// far the records were judged is not.
var dumped = []struct{ table, columns, order string }{
	{"progress", "next_block, next_access, stale", "one"},
	{"blocks", "number, hash, json_remove(CAST(body AS TEXT), '$.signers')", "number"}, // copies of a block have different signatures, each enough
	{"transactions", "*", "block, seq"},
	{"writes", "*", "n"},
	{"history", "*", "key, n"},
	{"names", "*", "number, write"},
	{"records", "*", "kind, id"},
	{"lives", "*", "batch, life"},
	{"entries", "*", "doc"},
	{"search_terms", "*", "term, doc"},
	{"tasks", "*", "audience, role, due, kind, id, seq"},
	{"clocks", "*", "due, event"},
	{"requests", "*", "id"},
	{"grants", "*", "id"},
	{"grant_anchored", "*", "grant_id"},
	{"access", "*", "idx"},
	{"access_places", "*", "term, run"},
	{"access_times", "*", "chunk"},
	{"grant_use", "*", "grant_id, direction, hour"},
	{"grant_minute", "*", "grant_id, direction, minute"},
	{"grant_item", "*", "grant_id, direction, service_item"},
}

// Digest is the SHA-256, in hexadecimal, of what [Index.Dump] writes: two indexes
// of the same blocks and log entries have the same one, however each was built.
func (x *Index) Digest(ctx context.Context) (string, error) {
	hash := sha256.New()
	if err := x.Dump(ctx, hash); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// Dump writes every row of every table, one a line, from one state of the index:
// the table and the columns as Go literals.
func (x *Index) Dump(ctx context.Context, w io.Writer) error {
	tx, err := x.readers.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("dump the index: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // ends a transaction that wrote nothing
	out := bufio.NewWriter(w)
	for _, t := range dumped {
		if err := dumpTable(ctx, tx, out, t.table, t.columns, t.order); err != nil {
			return fmt.Errorf("dump table %s of the index: %w", t.table, err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("dump the index: %w", err)
	}
	return nil
}

func dumpTable(ctx context.Context, tx *sql.Tx, out *bufio.Writer, table, columns, order string) error {
	rows, err := tx.QueryContext(ctx, `SELECT `+columns+` FROM `+table+` ORDER BY `+order) //nolint:gosec // all are constants
	if err != nil {
		return err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	values, targets := make([]any, len(names)), make([]any, len(names))
	for i := range values {
		targets[i] = &values[i]
	}
	line := strings.Repeat("|%#v", len(names)) + "\n"
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		for i, v := range values {
			if b, ok := v.([]byte); ok {
				values[i] = string(b)
			}
		}
		if _, err := fmt.Fprintf(out, table+line, values...); err != nil {
			return err
		}
	}
	return rows.Err()
}
