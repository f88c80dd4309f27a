// Package trail is an auditor's port to the access records of all departments:
// what was pulled from their logs and verified, in one place that can be asked
// who used which data. It is a copy and no authority; each entry names the log,
// index and anchor that prove it.
//
// Times count to the millisecond. Days are days in Asia/Shanghai, written
// "2006-01-02".
package trail

import (
	"context"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

// Progress is how far a log has been applied.
type Progress struct {
	Size     uint64    // number of entries applied
	Anchored uint64    // size of the last anchor that the applied entries were verified against; not below Size
	Root     []byte    // the root at Anchored: 32 bytes, none while Anchored is 0
	Seen     time.Time // when the log was last seen in order
}

// Log is a log of which something was applied.
type Log struct {
	Department domain.DepartmentCode
	Progress   Progress
}

// Entry is one entry of a department's log.
type Entry struct {
	Department domain.DepartmentCode // whose log
	Index      uint64
	LeafHash   []byte // RFC 6962 hash of the record's canonical bytes
	// Record is the access record. The zero value stands for an entry that is no
	// valid access record of the department, of which the auditor has made a
	// [Finding]: it counts in [Progress] and is on no list.
	Record     domain.AccessRecord
	AnchorSize uint64 // size of the smallest anchor that covers the entry
}

// Filter narrows a trace; zero fields do not filter.
type Filter struct {
	CatalogCode string
	GrantID     string
	Department  domain.DepartmentCode // provider or consumer
	Writer      domain.DepartmentCode // whose log
	Counterpart domain.DepartmentCode // the other party than the writer
	Purpose     string
	ServiceItem string
	CaseRef     string
	SubjectRef  string
	Operator    string
	Result      string
	CallID      string
	From, To    time.Time // of the call; To is not part of the span
}

// Matches says whether e is one of the entries that f asks for.
func (f Filter) Matches(e Entry) bool {
	r := e.Record
	writer, other := r.Provider, r.Consumer
	if r.Direction == domain.DirectionConsumer {
		writer, other = other, writer
	}
	at := r.At.UnixMilli()
	return matches(f.CatalogCode, r.CatalogCode) && matches(f.GrantID, r.GrantID) &&
		(matches(f.Department, r.Provider) || matches(f.Department, r.Consumer)) &&
		matches(f.Writer, writer) && matches(f.Counterpart, other) &&
		matches(f.Purpose, r.Purpose) && matches(f.ServiceItem, r.ServiceItem) && matches(f.CaseRef, r.CaseRef) &&
		matches(f.SubjectRef, r.SubjectRef) && matches(f.Operator, r.Operator) && matches(f.Result, r.Result) && matches(f.CallID, r.CallID) &&
		(f.From.IsZero() || at >= f.From.UnixMilli()) && (f.To.IsZero() || at < f.To.UnixMilli())
}

func matches[T ~string](want, got T) bool { return want == "" || want == got }

// Page bounds a list. Limit is 1 to 200. After is the opaque cursor of the last
// page's Next, "" for the first page; it belongs to the list, filter and order
// that gave it. OldestFirst is read by [Store.Trace] only.
type Page struct {
	Limit       int
	After       string
	OldestFirst bool
}

// Entries is one page of a trace.
type Entries struct {
	Items []Entry
	Next  string // cursor of the next page; "" on the last
}

// Totals counts entries.
type Totals struct {
	Records     int64 // access records
	DataRecords int64 // sum of their RecordCount, at most the largest int64
	ByResult    []ResultTotal
}

// ResultTotal counts the entries of one direction and result. A call that both
// sides logged counts once in each direction.
type ResultTotal struct {
	Direction   domain.Direction
	Result      string
	Records     int64
	DataRecords int64
}

// FindingKind says what is wrong with a log: one of the kinds of alarm, or
// another lower-case word.
type FindingKind string

// Finding is something that an auditor found wrong with a log. Department, kind
// and place identify it.
type Finding struct {
	Department domain.DepartmentCode // whose log
	Kind       FindingKind
	Place      uint64 // index of the entry or size of the tree
	Text       string
	FirstSeen  time.Time
	LastSeen   time.Time
}

// FindingFilter narrows a list of findings; zero fields do not filter.
type FindingFilter struct {
	Department domain.DepartmentCode
	Kind       FindingKind
	SeenSince  time.Time // seen last at that time or later
}

// Findings is one page of findings.
type Findings struct {
	Items []Finding
	Next  string
}

// Store holds the trail. All methods are safe for concurrent use. A bad page,
// cursor or entry is a [*domain.Error] of kind invalid.
type Store interface {
	// Logs answers the logs of which something was applied, by department.
	Logs(ctx context.Context) ([]Log, error)
	// Progress answers how far a department's log was applied; zero for one of
	// which nothing was.
	Progress(ctx context.Context, department domain.DepartmentCode) (Progress, error)
	// Apply stores consecutive entries of a log, the first of which must have the
	// index Progress.Size, together with the new progress, all or nothing.
	// Without entries it stores the progress. It refuses a gap, a repetition, an
	// entry of another log or that hashes to another leaf, and progress that goes
	// back. It does not validate records; whoever applies has done so.
	Apply(ctx context.Context, department domain.DepartmentCode, entries []Entry, progress Progress) error

	// Trace answers access records by time of the call, then department, then
	// index, newest first unless the page says otherwise.
	//
	// A page of a filter with several fields may be shorter than its limit, even
	// empty, although more follow: only an empty Next ends the list.
	Trace(ctx context.Context, filter Filter, page Page) (Entries, error)
	// Totals counts what Trace would answer, results in order of direction and
	// name.
	Totals(ctx context.Context, filter Filter) (Totals, error)
	// Export calls yield with everything that Trace would answer, oldest first,
	// until yield fails, whose error it then returns. Of entries applied meanwhile
	// some may be among it.
	Export(ctx context.Context, filter Filter, yield func(Entry) error) error

	// Reconcile counts calls by pair of departments and day, in this order.
	Reconcile(ctx context.Context, filter ReconcileFilter, page Page) (Reconciliation, error)
	// Discrepancies answers the calls that Reconcile counts as one-sided or
	// contradicting, by provider, consumer and time of the call.
	Discrepancies(ctx context.Context, filter ReconcileFilter, page Page) (Discrepancies, error)

	// AddFinding stores a finding. For one that is known it renews Text and
	// LastSeen and keeps FirstSeen.
	AddFinding(ctx context.Context, finding Finding) error
	// ListFindings answers findings by department, kind and place.
	ListFindings(ctx context.Context, filter FindingFilter, page Page) (Findings, error)

	Close() error
}
