package sqlindex

import (
	"context"
	"database/sql"
	"sync"
)

// mostPrepared bounds the queries that are kept prepared. Those of one text each are
// fewer; a list that is put together for its filter may have many.
const mostPrepared = 64

// queries runs queries that come thousands of times a second: parsing one costs
// several times what it costs to answer it. It is safe for concurrent use.
type queries struct {
	db *sql.DB

	mu       sync.RWMutex
	prepared map[string]*sql.Stmt
}

func newQueries(db *sql.DB) *queries {
	return &queries{db: db, prepared: make(map[string]*sql.Stmt)}
}

// QueryContext is [sql.DB.QueryContext].
func (q *queries) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	stmt, err := q.statement(ctx, query)
	switch {
	case err != nil:
		return nil, err
	case stmt == nil:
		return q.db.QueryContext(ctx, query, args...)
	}
	return stmt.QueryContext(ctx, args...)
}

// statement answers the prepared query, nil when enough others are.
func (q *queries) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	q.mu.RLock()
	stmt, full := q.prepared[query], len(q.prepared) >= mostPrepared
	q.mu.RUnlock()
	if stmt != nil || full {
		return stmt, nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if stmt = q.prepared[query]; stmt != nil {
		return stmt, nil
	}
	stmt, err := q.db.PrepareContext(ctx, query) // closed with the database
	if err == nil {
		q.prepared[query] = stmt
	}
	return stmt, err
}
