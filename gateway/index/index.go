// Package index is the gateway's port to its read model: the ledger's records
// and the department's access records, in a form that lists, searches and
// traces. It is rebuilt from block 0 and from the log; it is never an authority.
package index

import (
	"context"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

// Record is a ledger record with the position that proves it.
type Record struct {
	Kind  domain.RecordKind
	ID    string // the state key after its first "~"
	Value []byte // canonical JSON as written
	domain.Position
}

// Page bounds a list. Limit is 1 to 200. After is the opaque cursor of the last
// page's Next, "" for the first page.
type Page struct {
	Limit int
	After string
}

// Records is one page of records.
type Records struct {
	Items []Record
	Next  string // cursor of the next page; "" on the last
}

// Filter narrows a list of records; zero fields do not filter.
type Filter struct {
	Department domain.DepartmentCode // catalog: provider; request and grant: provider or consumer; certificate: issuer; anchor: owner
	State      string                // stored state or status
	Text       string                // substring of the catalog entry's name or abstract
	GrantID    string                // requests and grants
}

// AccessEntry is one record of this department's access log.
type AccessEntry struct {
	Index    uint64 // leaf index in the log
	LeafHash []byte // RFC 6962 leaf hash
	Record   domain.AccessRecord
}

// AccessFilter narrows a trace; zero fields do not filter.
type AccessFilter struct {
	CatalogCode string
	GrantID     string
	Department  domain.DepartmentCode // provider or consumer
	Purpose     string
	ServiceItem string
	CaseRef     string
	SubjectRef  string
	CallID      string
	From, To    time.Time
}

// AccessEntries is one page of a trace, newest first.
type AccessEntries struct {
	Items []AccessEntry
	Next  string
}

// TransactionRecord is one transaction of the chain with its block.
type TransactionRecord struct {
	Block       uint64
	Transaction domain.Transaction
}

// Index is the read model of one department's gateway. All methods are safe for
// concurrent use. A record or block that is not there is a [*domain.Error] of
// kind not_found; a bad cursor is one of kind invalid.
type Index interface {
	// ApplyBlock stores a block's transactions and the writes of its valid ones
	// together with the next block number, all or nothing. Blocks come in order;
	// applying one that is already there does nothing, a gap is an error.
	ApplyBlock(ctx context.Context, b domain.Block) error
	// NextBlock is the number of blocks applied.
	NextBlock(ctx context.Context) (uint64, error)
	// WaitBlock returns when NextBlock exceeds number, or with ctx's error.
	WaitBlock(ctx context.Context, number uint64) error

	// Get answers the current record.
	Get(ctx context.Context, kind domain.RecordKind, id string) (Record, error)
	// History answers every write of the record, oldest first.
	History(ctx context.Context, kind domain.RecordKind, id string, page Page) (Records, error)
	// List answers current records of a kind, in order of ID.
	List(ctx context.Context, kind domain.RecordKind, filter Filter, page Page) (Records, error)

	// Block and Blocks answer decoded blocks; Blocks newest first.
	Block(ctx context.Context, number uint64) (domain.Block, error)
	Blocks(ctx context.Context, page Page) ([]domain.Block, string, error)
	// Transaction answers one transaction by its ID.
	Transaction(ctx context.Context, id domain.TxID) (TransactionRecord, error)

	// ApplyAccess stores consecutive log entries, the first of which must have
	// the index NextAccess, together with the new NextAccess, all or nothing.
	ApplyAccess(ctx context.Context, entries []AccessEntry) error
	// NextAccess is the number of log entries applied.
	NextAccess(ctx context.Context) (uint64, error)
	// Trace answers access records, newest first.
	Trace(ctx context.Context, filter AccessFilter, page Page) (AccessEntries, error)
	// GrantUse counts the access records with result "ok" of a grant and
	// direction: in all, and at or after since.
	GrantUse(ctx context.Context, grantID string, direction domain.Direction, since time.Time) (total, recent int64, err error)
	// GrantCounts counts records per grant with from ≤ index < to, sorted by grant.
	GrantCounts(ctx context.Context, from, to uint64) ([]domain.GrantCount, error)

	Close() error
}
