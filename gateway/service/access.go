package service

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/accesslog"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/proof"
)

var (
	recordAccess = duty{
		rule:  "access records are for role operator or role gateway of the department whose log it is",
		roles: []domain.Role{domain.RoleOperator, domain.RoleGateway},
	}
	traceAccess = duty{
		rule:  "traces are for role auditor",
		roles: []domain.Role{domain.RoleAuditor},
	}
)

// AccessOptions are the parts of an [Access]. All are required.
type AccessOptions struct {
	Department domain.DepartmentCode // whose log it is
	Index      index.Index
	Log        accesslog.Log
	Ledger     ledger.Ledger

	// Heard is when the index was last known to be current; see
	// [Indexer.LastHeard].
	Heard func() time.Time
	// Anchored is the last anchor of the log, false before the first. AnchorEvery
	// is the interval at which a log that grew is anchored.
	Anchored    func() (accesslog.Anchored, bool)
	AnchorEvery time.Duration
	// Backlog is the age of the oldest log entry that no anchor covers, 0 when
	// there is none. While it is above MaxLag nothing is released.
	Backlog func() time.Duration
	MaxLag  time.Duration

	Clock func() time.Time
}

// Access logs uses of shared data and answers for what was logged. It is safe
// for concurrent use; one process may have one for a log.
type Access struct {
	department domain.DepartmentCode
	index      index.Index
	log        accesslog.Log
	heard      func() time.Time
	backlog    func() time.Duration
	maxLag     time.Duration
	clock      func() time.Time

	indexedGrants *indexedGrants
	ledgerGrants  *ledgerGrants
	grades        *grades
	anchors       *anchorWatch
	mostUnindexed int

	caughtUp atomic.Bool // the index had what the log held when this process began
	calls    calls

	mu      sync.Mutex
	tallies map[tallyKey]*tally
}

// NewAccess returns the use cases of a department's access log.
func NewAccess(o AccessOptions) *Access {
	return &Access{
		department: o.Department, index: o.Index, log: o.Log,
		heard: o.Heard, backlog: o.Backlog, maxLag: o.MaxLag, clock: o.Clock,
		indexedGrants: &indexedGrants{index: o.Index},
		ledgerGrants: &ledgerGrants{
			department: o.Department, ledger: o.Ledger, clock: o.Clock, known: make(map[string]ledgerGrant),
		},
		grades:        newGrades(o.Index, o.Ledger),
		anchors:       &anchorWatch{anchored: o.Anchored, bound: anchorWait + o.AnchorEvery},
		mostUnindexed: maxUnindexed,
		calls:         calls{known: make(map[callKey]*call)},
		tallies:       make(map[tallyKey]*tally),
	}
}

// Get answers entry idx of the department's log, read from the log itself. The
// logs of other departments are at their own gateways: not_found here.
func (a *Access) Get(ctx context.Context, department domain.DepartmentCode, idx uint64) (index.AccessEntry, error) {
	if err := a.own(department); err != nil {
		return index.AccessEntry{}, err
	}
	checkpoint, err := a.log.Checkpoint(ctx)
	if err != nil {
		return index.AccessEntry{}, fmt.Errorf("read log entry %d: %w", idx, err)
	}
	if idx >= checkpoint.Size {
		return index.AccessEntry{}, &domain.Error{Kind: domain.NotFound, Msg: fmt.Sprintf("the log of %s has %d entries, numbered from 0", department, checkpoint.Size)}
	}
	return a.entry(ctx, idx)
}

func (a *Access) own(department domain.DepartmentCode) error {
	if department == a.department {
		return nil
	}
	return &domain.Error{Kind: domain.NotFound, Msg: fmt.Sprintf("this gateway holds the access log of %s; ask the gateway of the department whose log it is", a.department)}
}

// entry reads an integrated entry. One that is not there is not "not found": an
// entry below the checkpoint's size is owed.
func (a *Access) entry(ctx context.Context, idx uint64) (index.AccessEntry, error) {
	raw, err := a.log.Entries(ctx, idx, idx+1)
	if err != nil {
		return index.AccessEntry{}, fmt.Errorf("read log entry %d: %w", idx, err)
	}
	if len(raw) != 1 {
		return index.AccessEntry{}, fmt.Errorf("log entry %d is missing", idx)
	}
	return accessEntry(idx, raw[0])
}

// Proof answers the C2SP tlog-proof@v1 text which shows that entry idx is in the
// department's log at the last checkpoint that the ledger anchors. It has just
// been verified. An entry that no anchor covers yet is a conflict: ask again.
func (a *Access) Proof(ctx context.Context, department domain.DepartmentCode, idx uint64) ([]byte, error) {
	if err := a.own(department); err != nil {
		return nil, err
	}
	registration, err := get[domain.LogRegistration](ctx, a.index, domain.KindLog, string(department))
	if err != nil {
		return nil, fmt.Errorf("prove log entry %d: %w", idx, err)
	}
	size := registration.Value.Size
	if idx >= size {
		return nil, &domain.Error{Kind: domain.Conflict, Msg: fmt.Sprintf("log entry %d is not anchored: the last anchor covers %d entries", idx, size)}
	}
	anchor, err := get[domain.Anchor](ctx, a.index, domain.KindAnchor, domain.AnchorID(department, size))
	if err != nil {
		return nil, fmt.Errorf("prove log entry %d: %w", idx, err)
	}
	entry, err := a.entry(ctx, idx)
	if err != nil {
		return nil, fmt.Errorf("prove log entry %d: %w", idx, err)
	}
	path, err := a.log.InclusionProof(ctx, idx, size)
	if err != nil {
		return nil, fmt.Errorf("prove log entry %d: %w", idx, err)
	}
	note := []byte(anchor.Value.Checkpoint)
	checkpoint, err := proof.OpenCheckpoint(note, registration.Value.Origin, registration.Value.VerifierKey)
	if err == nil {
		err = proof.VerifyInclusion([32]byte(entry.LeafHash), idx, checkpoint.Size, checkpoint.Root, path)
	}
	if err != nil {
		// The log on disk does not hold what was anchored: an alarm, and not the
		// caller's mistake, so the kind is dropped.
		return nil, fmt.Errorf("log entry %d does not verify against the anchor of size %d: %v", idx, size, err) //nolint:errorlint // drops the kind
	}
	return proofText(idx, path, note), nil
}

// proofText composes a C2SP tlog-proof@v1.
func proofText(idx uint64, path [][]byte, checkpoint []byte) []byte {
	var b strings.Builder
	b.WriteString("c2sp.org/tlog-proof@v1\nindex " + strconv.FormatUint(idx, 10) + "\n")
	for _, h := range path {
		b.WriteString(base64.StdEncoding.EncodeToString(h) + "\n")
	}
	b.WriteString("\n")
	b.Write(checkpoint)
	return []byte(b.String())
}

// Trace answers who used what, when and why, newest first, for auditors.
func (a *Access) Trace(ctx context.Context, caller Caller, filter index.AccessFilter, page index.Page) (index.AccessEntries, error) {
	if err := traceAccess.allow(caller, "trace access records"); err != nil {
		return index.AccessEntries{}, err
	}
	page, err := bounded(page)
	if err != nil {
		return index.AccessEntries{}, err
	}
	entries, err := a.index.Trace(ctx, filter, page)
	if err != nil {
		return index.AccessEntries{}, fmt.Errorf("trace access records: %w", err)
	}
	return entries, nil
}
