package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/evidence"
	"github.com/zhenglian/zhenglian/gateway/remotelog"
	"github.com/zhenglian/zhenglian/gateway/trail"
	"github.com/zhenglian/zhenglian/proof"
)

// The kinds of finding that are no kind of alarm. Each goes to the ledger as an
// alarm of kind changed_entry under a rule of the same name.
const (
	FindingOutOfOrder    trail.FindingKind = "out_of_order"   // anchors do not follow one another
	FindingBadAnchor     trail.FindingKind = "bad_anchor"     // an anchor is not signed, or not what the departments sign
	FindingWrongCounts   trail.FindingKind = "wrong_counts"   // an anchor counts other records than the log has
	FindingInvalidRecord trail.FindingKind = "invalid_record" // an entry is no access record of the department
)

// UnconfirmedError says that the departments do not sign what a source of
// anchors told.
type UnconfirmedError struct{ Reason string }

func (e *UnconfirmedError) Error() string { return "the anchor is not confirmed: " + e.Reason }

// AuditorOptions are what an auditor works with.
type AuditorOptions struct {
	Trail   trail.Store
	Anchors AnchorSource
	Trust   *proof.Anchors // names the logs' origins and keys
	Logs    map[domain.DepartmentCode]remotelog.Log

	// Confirm has the departments sign an anchor; an [*UnconfirmedError] says that
	// they do not. It is asked for the newest anchor of each step, or with
	// ConfirmAll for every one. Nil: the source of anchors is trusted.
	Confirm    func(context.Context, domain.Anchor) error
	ConfirmAll bool

	// Raise puts an alarm on the ledger; one that is there already is no error.
	// Nil: findings stay in the trail.
	Raise    func(context.Context, domain.RaiseAlarmArgs) error
	Patience time.Duration // how long a part of a log may be missing before that is an alarm
	Grace    time.Duration // how long the other side of a call may take to log and anchor it before that is an alarm

	Every  time.Duration // pause between two pulls of [Auditor.Run]
	Logger *slog.Logger
	Clock  func() time.Time
}

// Auditor pulls the access logs of all departments, checks them against the
// ledger's anchors, keeps their records in a trail and answers from there. What is
// wrong with a log is a finding in the trail; it stops the pull of that log where
// it is, never that of the others.
type Auditor struct {
	opts AuditorOptions

	pulling sync.Mutex // one pull at a time
	mu      sync.Mutex
	alarms  map[domain.DepartmentCode]*raised
	paired  pairAlarms
}

// NewAuditor returns an auditor that has not started; see [Auditor.Run].
func NewAuditor(opts AuditorOptions) *Auditor {
	return &Auditor{opts: opts, alarms: make(map[domain.DepartmentCode]*raised)}
}

// Run pulls again and again until ctx ends, and then answers ctx's error.
func (a *Auditor) Run(ctx context.Context) error {
	for {
		if err := a.Pull(ctx, nil); err != nil && ctx.Err() == nil {
			a.opts.Logger.Warn("pulling access logs failed", "error", err)
		}
		if !pause(ctx, a.opts.Every) {
			return ctx.Err()
		}
	}
}

// PullProgress is how far the pull of one log is.
type PullProgress struct {
	Department domain.DepartmentCode
	Size       uint64 // entries in the trail
	Anchored   uint64 // entries that the anchors known so far cover
}

// Pull brings the trail to the newest anchors of all logs. progress, if not nil,
// hears of every step; its calls take turns. Findings are no error; an error says
// which logs could not be asked, or that the trail could not be written. The
// next pull goes on where this one ended.
func (a *Auditor) Pull(ctx context.Context, progress func(PullProgress)) error {
	a.pulling.Lock()
	defer a.pulling.Unlock()
	var mu sync.Mutex
	told := func(p PullProgress) {
		if progress != nil {
			mu.Lock()
			defer mu.Unlock()
			progress(p)
		}
	}
	var group errgroup.Group
	failed := make(chan error, len(a.opts.Logs))
	for department, log := range a.opts.Logs {
		group.Go(func() error {
			if err := a.pullLog(ctx, department, log, told); err != nil {
				failed <- fmt.Errorf("log of %s: %w", department, err)
			}
			return nil
		})
	}
	_ = group.Wait() // failures are in the channel
	close(failed)
	var errs []error
	for err := range failed {
		errs = append(errs, err)
	}
	slices.SortFunc(errs, func(x, y error) int { return compareText(x.Error(), y.Error()) })
	if a.opts.Raise != nil && ctx.Err() == nil {
		if err := a.raiseDiscrepancies(ctx); err != nil {
			errs = append(errs, fmt.Errorf("reconcile: %w", err))
		}
	}
	return errors.Join(errs...)
}

// pullLog pulls one log and makes findings of what is wrong with it.
func (a *Auditor) pullLog(ctx context.Context, department domain.DepartmentCode, log remotelog.Log, told func(PullProgress)) error {
	p, err := a.newPull(ctx, department, log, told)
	if err != nil {
		return err
	}
	err = p.run(ctx)
	var fault *finding
	if errors.As(err, &fault) {
		err = p.report(ctx, fault)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.alarms[department] = p.alarms
	return err
}

// Trace answers access records of all logs, for auditors.
func (a *Auditor) Trace(ctx context.Context, caller Caller, filter trail.Filter, page trail.Page) (trail.Entries, error) {
	if err := traceAccess.allow(caller, "trace access records"); err != nil {
		return trail.Entries{}, err
	}
	return a.opts.Trail.Trace(ctx, filter, boundedTrail(page))
}

// Totals counts what Trace would answer, for auditors.
func (a *Auditor) Totals(ctx context.Context, caller Caller, filter trail.Filter) (trail.Totals, error) {
	if err := traceAccess.allow(caller, "count access records"); err != nil {
		return trail.Totals{}, err
	}
	return a.opts.Trail.Totals(ctx, filter)
}

// Reconcile counts calls by pair of departments and day, for auditors. Without
// Settled in the filter, calls are settled that are older than the grace time.
func (a *Auditor) Reconcile(ctx context.Context, caller Caller, filter trail.ReconcileFilter, page trail.Page) (trail.Reconciliation, error) {
	if err := traceAccess.allow(caller, "reconcile access records"); err != nil {
		return trail.Reconciliation{}, err
	}
	return a.opts.Trail.Reconcile(ctx, a.settled(filter), boundedTrail(page))
}

// Discrepancies answers the calls that only one side logged, or both differently,
// for auditors; see [Auditor.Reconcile].
func (a *Auditor) Discrepancies(ctx context.Context, caller Caller, filter trail.ReconcileFilter, page trail.Page) (trail.Discrepancies, error) {
	if err := traceAccess.allow(caller, "reconcile access records"); err != nil {
		return trail.Discrepancies{}, err
	}
	return a.opts.Trail.Discrepancies(ctx, a.settled(filter), boundedTrail(page))
}

func (a *Auditor) settled(filter trail.ReconcileFilter) trail.ReconcileFilter {
	if filter.Settled.IsZero() {
		filter.Settled = a.opts.Clock().Add(-a.opts.Grace)
	}
	return filter
}

// Logs answers how far each log was pulled, for auditors.
func (a *Auditor) Logs(ctx context.Context, caller Caller) ([]trail.Log, error) {
	if err := traceAccess.allow(caller, "see the pulled logs"); err != nil {
		return nil, err
	}
	return a.opts.Trail.Logs(ctx)
}

// Findings answers what was found wrong with logs, for auditors.
func (a *Auditor) Findings(ctx context.Context, caller Caller, filter trail.FindingFilter, page trail.Page) (trail.Findings, error) {
	if err := traceAccess.allow(caller, "see findings about logs"); err != nil {
		return trail.Findings{}, err
	}
	return a.opts.Trail.ListFindings(ctx, filter, boundedTrail(page))
}

// boundedTrail answers page with a limit of 0 put at 50; the trail refuses a
// wrong one.
func boundedTrail(page trail.Page) trail.Page {
	if page.Limit == 0 {
		page.Limit = defaultLimit
	}
	return page
}

// Entry answers an entry that was pulled, read anew from its log and checked, for
// auditors.
func (a *Auditor) Entry(ctx context.Context, caller Caller, department domain.DepartmentCode, index uint64) (trail.Entry, error) {
	if err := traceAccess.allow(caller, "read access records"); err != nil {
		return trail.Entry{}, err
	}
	entry, _, err := a.entry(ctx, department, index)
	return entry, err
}

// Proof answers the C2SP tlog-proof@v1 text which shows that a pulled entry is in
// its log at the smallest anchor that covers it, for auditors. It has just been
// verified.
func (a *Auditor) Proof(ctx context.Context, caller Caller, department domain.DepartmentCode, index uint64) ([]byte, error) {
	if err := traceAccess.allow(caller, "prove access records"); err != nil {
		return nil, err
	}
	fail := func(err error) ([]byte, error) {
		return nil, fmt.Errorf("prove entry %d of the log of %s: %w", index, department, err)
	}
	entry, tree, err := a.entry(ctx, department, index)
	if err != nil {
		return nil, err
	}
	anchor, err := a.opts.Anchors.Get(ctx, department, entry.AnchorSize)
	if err != nil {
		return fail(err)
	}
	key, err := logKey(a.opts.Trust, department)
	if err != nil {
		return fail(err)
	}
	checkpoint, err := openAnchor(anchor, key)
	if err != nil {
		return fail(err)
	}
	path, err := tree.Path(ctx, index, checkpoint.Size)
	if err == nil {
		err = proof.VerifyInclusion([32]byte(entry.LeafHash), index, checkpoint.Size, checkpoint.Root, path)
	}
	if err != nil {
		return fail(errors.New(err.Error())) // what the log shows wrong is not the caller's mistake: the kind is dropped
	}
	return proofText(index, path, []byte(anchor.Checkpoint)), nil
}

// entry reads a pulled entry and the tree that it is in.
func (a *Auditor) entry(ctx context.Context, department domain.DepartmentCode, index uint64) (trail.Entry, *evidence.Tree, error) {
	missing := func(format string, args ...any) (trail.Entry, *evidence.Tree, error) {
		return trail.Entry{}, nil, &domain.Error{Kind: domain.NotFound, Msg: fmt.Sprintf(format, args...)}
	}
	fail := func(err error) (trail.Entry, *evidence.Tree, error) {
		return trail.Entry{}, nil, fmt.Errorf("read entry %d of the log of %s: %w", index, department, err)
	}
	log, ok := a.opts.Logs[department]
	if !ok {
		return missing("this auditor reads no log of %s", department)
	}
	progress, err := a.opts.Trail.Progress(ctx, department)
	if err != nil {
		return fail(err)
	}
	if index >= progress.Size {
		return missing("of the log of %s, %d entries were pulled, numbered from 0", department, progress.Size)
	}
	tree := evidence.OpenTree(log, progress.Anchored, [32]byte(progress.Root))
	raw, err := tree.Entries(ctx, index, index+1)
	if err != nil {
		return fail(err)
	}
	record, err := evidence.ReadRecord(department, raw[0])
	if err != nil {
		return missing("entry %d of the log of %s is no access record", index, department)
	}
	page := trail.Page{Limit: maxLimit}
	for {
		found, err := a.opts.Trail.Trace(ctx, trail.Filter{CallID: record.CallID, Writer: department}, page)
		if err != nil {
			return fail(err)
		}
		for _, e := range found.Items {
			if e.Index == index {
				return e, tree, nil
			}
		}
		if found.Next == "" {
			return fail(errors.New("the trail does not have it: it was not written by this auditor alone"))
		}
		page.After = found.Next
	}
}
