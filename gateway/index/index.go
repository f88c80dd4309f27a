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
	Value []byte // canonical JSON as written, or as told from what is written
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
	Department   domain.DepartmentCode // catalog: provider; request and grant: provider or consumer; certificate and authorisation: issuer; anchor: owner; alarm: about
	Provider     domain.DepartmentCode // catalog, request and grant
	Consumer     domain.DepartmentCode // request and grant
	State        string                // stored state or status
	ShareType    domain.ShareType      // catalog
	Text         string                // words of the catalog entry; see [Index.List]
	GrantID      string                // requests and grants
	Overdue      *time.Time            // a time limit that runs had passed at that moment
	ChangedSince time.Time             // the last write's transaction time is not before it
}

// InboxFilter says whose inbox it is and narrows it.
type InboxFilter struct {
	Department  domain.DepartmentCode
	Lead        bool        // whether the department is the lead
	Role        domain.Role // "": any
	Now         time.Time   // read with OverdueOnly
	OverdueOnly bool        // only what was due at Now
}

// InboxRecord is a record and the one thing it waits for that the department can
// do. A record that waits for two things comes twice.
type InboxRecord struct {
	Record Record
	Task   domain.Task
}

// InboxRecords is one page of an inbox.
type InboxRecords struct {
	Items []InboxRecord
	Next  string
}

// Tally are the counts that indicators are made of. Each follows from the current
// ledger records alone; beside it stands how to count it from them.
type Tally struct {
	Blocks uint64 // the number of blocks the counts are of

	Requests            int64 // request records
	Agreed              int64 // of them, decision "agree", or no decision and a grantId: granted with the check
	PartlyAgreed        int64 // of them, decision "partly"
	Refused             int64 // of them, decision "refuse"
	RefusedWithoutBasis int64 // of the refused, those whose legalBasis is empty
	AnsweredInTime      int64 // requests with an answeredAt and answeredLate false
	AnsweredLate        int64 // requests with an answeredAt and answeredLate true
	AnsweredIn          int64 // sum of answeredIn, in working days, over requests with an answeredAt

	// Overdue counts, by event, the clocks of catalog entries (review, update)
	// and requests (clock) with stoppedAt null and dueAt ≤ now. Events without
	// any are missing.
	Overdue map[domain.DeadlineEvent]int64

	Published  int64 // catalog entries in state published, change_pending or offline_pending: the version in force is public
	Compliant  int64 // of them, those whose content [domain.CatalogContent.Validate] accepts
	WithSystem int64 // of them, those whose systemRef is not ""

	GrantsActive int64 // grants in state active with period.from ≤ now < period.to
	GrantsUnused int64 // of them, those that no anchor of any department counts an access record of
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

	// Certificates have no writes of their own: they are told from the current
	// [domain.IssuingBatch] and [domain.BatchStatus], and change with the writes of the
	// status that say so; see [domain.BatchStatus.Changes]. What the ledger holds under
	// references and identifiers is no record here.

	// A block has its writes as the keys hold them, or as records: what is answered are
	// records, told as [domain.TellCatalog] tells them. A name of the catalog is no record:
	// Get answers, under its ID, the code that its key holds, and no list has it.

	// Get answers the current record.
	Get(ctx context.Context, kind domain.RecordKind, id string) (Record, error)
	// History answers every write of the record, oldest first.
	History(ctx context.Context, kind domain.RecordKind, id string, page Page) (Records, error)
	// List answers current records of a kind: in order of ID; with ChangedSince
	// in order of their last change, so that who asks on misses nothing; else with
	// Overdue the longest overdue first; with Text in the order in which they were
	// first recorded.
	//
	// Text matches catalog entries that have all its words in name, abstract, item
	// names, classification, system, duty or code: a Chinese word of one character
	// or more anywhere, another word from its beginning, whatever case and width.
	// A text without a letter or digit matches nothing.
	//
	// A page with Text, ShareType, Overdue or ChangedSince may be shorter than its limit, even
	// empty, although more follow: only an empty Next ends the list.
	List(ctx context.Context, kind domain.RecordKind, filter Filter, page Page) (Records, error)
	// ListEvents answers the current records of a kind that belong to one record,
	// those with the IDs "{of}~1", "{of}~2", …, in order of the number: the events
	// of a request, grant or alarm, the versions of an entry,
	// calendar or rule, a department's anchors.
	ListEvents(ctx context.Context, kind domain.RecordKind, of string, page Page) (Records, error)
	// StatusIndexes answers, in ascending order, the status indexes from ≤ index < to
	// of an issuer's certificates whose stored status is one of states.
	StatusIndexes(ctx context.Context, issuer domain.DepartmentCode, states []domain.CertificateStatus, from, to int) ([]int, error)
	// Inbox answers what waits for a department's action, in order of the due
	// time, none last, then of kind and ID.
	Inbox(ctx context.Context, filter InboxFilter, page Page) (InboxRecords, error)
	// Tally counts what indicators are made of, as of now.
	Tally(ctx context.Context, now time.Time) (Tally, error)

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
	// Entries answers up to limit, 1 to 1000, consecutive log entries from the
	// index from on, oldest first; none when no more are applied.
	Entries(ctx context.Context, from uint64, limit int) ([]AccessEntry, error)
	// FindCalls answers of each of 1 to 1000 calls the newest access record in a
	// direction, in any order; calls without one are left out.
	FindCalls(ctx context.Context, callIDs []string, direction domain.Direction) ([]AccessEntry, error)
	// GrantUse counts the access records with result "ok" of a grant and
	// direction: in all, at or after the moment day, and at or after minute.
	GrantUse(ctx context.Context, grantID string, direction domain.Direction, day, minute time.Time) (total, today, lastMinute int64, err error)
	// GrantHistory answers what the access records of a grant and direction say of
	// its past as of at; see [domain.GrantHistory].
	GrantHistory(ctx context.Context, grantID string, direction domain.Direction, at time.Time) (domain.GrantHistory, error)
	// GrantCounts counts records per grant with from ≤ index < to, sorted by grant.
	GrantCounts(ctx context.Context, from, to uint64) ([]domain.GrantCount, error)
	// Judged is the number of log entries that were judged for unusual use, 0 at
	// first; SetJudged stores it.
	Judged(ctx context.Context) (uint64, error)
	SetJudged(ctx context.Context, n uint64) error

	Close() error
}
