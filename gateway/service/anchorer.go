package service

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/accesslog"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

const (
	// anchorWait bounds the submit of one anchor, long enough for a change of the
	// ordering leader; stepWait bounds what comes before it.
	anchorWait = 20 * time.Second
	stepWait   = 10 * time.Second

	// lookUpWait bounds how long the outcome of an anchor is looked for before
	// the next one is tried.
	lookUpWait = 10 * time.Second

	// backlogEvery is how often at least the oldest unanchored entry is looked for.
	backlogEvery = 500 * time.Millisecond

	// statusWait bounds one look-up of a transaction whose outcome is unknown.
	statusWait = 2 * time.Second
)

// errNotRegistered says that the log has no registration on the ledger yet.
var errNotRegistered = errors.New("the access log is not registered on the ledger (access:RegisterLog)")

// Anchorer writes the department's access log checkpoints to the ledger, one at
// a time. Every attempt starts from what the ledger holds, never from memory, so
// it may be killed at any moment.
type Anchorer struct {
	department domain.DepartmentCode
	ledger     ledger.Ledger
	index      index.Index
	log        accesslog.Log
	interval   time.Duration
	logger     *slog.Logger
	lookUpFor  time.Duration
	clock      func() time.Time

	anchored atomic.Pointer[accesslog.Anchored]
	waiting  atomic.Pointer[waitingEntry]
}

// waitingEntry is the oldest entry that no anchor covers.
type waitingEntry struct {
	index uint64
	since time.Time
}

// NewAnchorer returns an anchorer of department's log that has not started; see
// [Anchorer.Run]. It looks at the log every interval.
func NewAnchorer(department domain.DepartmentCode, l ledger.Ledger, ix index.Index, log accesslog.Log, interval time.Duration, logger *slog.Logger) *Anchorer {
	return &Anchorer{department: department, ledger: l, index: ix, log: log, interval: interval, logger: logger, lookUpFor: lookUpWait, clock: time.Now} //nolint:forbidigo // the clock that tests replace
}

// Anchored answers the last anchor this anchorer has seen on the ledger, false
// before the first. Its position is zero until this anchorer wrote one itself.
func (a *Anchorer) Anchored() (accesslog.Anchored, bool) {
	if p := a.anchored.Load(); p != nil {
		return *p, true
	}
	return accesslog.Anchored{}, false
}

// Backlog answers how old the oldest entry is that the published log holds and no
// anchor covers, 0 when there is none.
func (a *Anchorer) Backlog() time.Duration {
	w := a.waiting.Load()
	if w == nil {
		return 0
	}
	return max(a.clock().Sub(w.since), 0)
}

// Run anchors the log whenever it grew, every interval, or as soon as the last
// anchor is there when that takes longer, until ctx ends; then it answers ctx's error.
func (a *Anchorer) Run(ctx context.Context) error {
	// Beside the anchoring: that may hang while the log grows.
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		a.watchBacklog(ctx)
	}()
	defer func() { <-watching }()
	pauses := newBackoff()
	waiting := false
	for {
		due := a.clock().Add(a.interval)
		wait := a.interval
		switch err := a.step(ctx); {
		case err == nil:
			pauses.Reset()
			waiting = false
			wait = due.Sub(a.clock())
		case ctx.Err() != nil:
		case errors.Is(err, errNotRegistered):
			if !waiting {
				a.logger.Info("anchoring waits", "reason", err)
			}
			waiting = true
		default:
			wait = max(a.interval, pauses.NextBackOff())
			a.logger.Error("anchoring failed", "error", err, "retryIn", wait)
		}
		if !pause(ctx, wait) {
			return ctx.Err()
		}
	}
}

// watchBacklog keeps what [Anchorer.Backlog] answers, until ctx ends.
func (a *Anchorer) watchBacklog(ctx context.Context) {
	for {
		if err := a.observe(ctx); err != nil && ctx.Err() == nil {
			a.logger.Warn("the age of the oldest unanchored entry is not known", "error", err)
		}
		if !pause(ctx, min(a.interval, backlogEvery)) {
			return
		}
	}
}

// observe looks once for the oldest entry that waits. When it cannot tell, what it
// knew stays: then the backlog grows, and nothing is released on a guess.
func (a *Anchorer) observe(ctx context.Context) error {
	checkpoint, err := a.log.Checkpoint(ctx)
	if err != nil {
		return fmt.Errorf("read checkpoint: %w", err)
	}
	anchored, err := a.anchoredSize(ctx)
	if err != nil {
		return err
	}
	if checkpoint.Size <= anchored {
		a.waiting.Store(nil)
		return nil
	}
	if w := a.waiting.Load(); w != nil && w.index == anchored {
		return nil
	}
	a.waiting.Store(&waitingEntry{index: anchored, since: a.loggedAt(ctx, anchored)})
	return nil
}

// anchoredSize answers how many entries the last known anchor covers.
func (a *Anchorer) anchoredSize(ctx context.Context) (uint64, error) {
	if last, ok := a.Anchored(); ok {
		return last.Size, nil
	}
	var registration domain.LogRegistration
	record, err := a.index.Get(ctx, domain.KindLog, string(a.department))
	if domain.KindOf(err) == domain.NotFound {
		return 0, nil
	}
	if err == nil {
		err = domain.ParseCanonical(record.Value, &registration)
	}
	if err != nil {
		return 0, fmt.Errorf("read log registration: %w", err)
	}
	return registration.Size, nil
}

// loggedAt answers when an entry was logged, as it says itself; now when it cannot
// be read.
func (a *Anchorer) loggedAt(ctx context.Context, number uint64) time.Time {
	var record domain.AccessRecord
	entries, err := a.log.Entries(ctx, number, number+1)
	if err == nil {
		err = domain.ParseCanonical(entries[0], &record)
	}
	if err != nil || record.LoggedAt.IsZero() {
		a.logger.Warn("the oldest unanchored entry does not say when it was logged", "index", number, "error", err)
		return a.clock()
	}
	return record.LoggedAt
}

// step anchors the log once, if it grew.
func (a *Anchorer) step(ctx context.Context) error {
	next, err := a.prepare(ctx)
	if err != nil || next == nil {
		return err
	}
	written, err := a.submit(ctx, next.args)
	if err != nil {
		err = fmt.Errorf("anchor size %d after %d: %w", next.checkpoint.Size, next.previous, err)
		var unknown *ledger.OutcomeUnknownError
		if errors.As(err, &unknown) {
			a.lookUp(ctx, unknown.TxID)
		}
		return err
	}
	a.anchored.Store(&accesslog.Anchored{Size: next.checkpoint.Size, Root: next.checkpoint.Root, Position: written.Position})
	a.logger.Info("anchored", "size", next.checkpoint.Size, "block", written.Block, "txId", written.TxID)
	return nil
}

// nextAnchor is an anchor that is ready to be submitted.
type nextAnchor struct {
	checkpoint accesslog.Checkpoint
	previous   uint64 // the size that the ledger anchors
	args       domain.AnchorArgs
}

// prepare answers the next anchor, nil when the ledger anchors the whole log.
func (a *Anchorer) prepare(ctx context.Context) (*nextAnchor, error) {
	ctx, cancel := context.WithTimeout(ctx, stepWait)
	defer cancel()
	checkpoint, err := a.log.Checkpoint(ctx)
	if err != nil {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	if last, ok := a.Anchored(); ok && last.Size == checkpoint.Size && bytes.Equal(last.Root, checkpoint.Root) {
		return nil, nil // spares an idle gateway the question; nobody else anchors this log
	}
	registration, err := a.registration(ctx)
	if err != nil {
		return nil, err
	}
	if checkpoint.Size == 0 && registration.Size == 0 {
		return nil, nil
	}
	consistency, err := a.consistency(ctx, registration, checkpoint)
	if err != nil {
		return nil, err
	}
	if registration.Size == checkpoint.Size {
		a.anchored.Store(&accesslog.Anchored{Size: checkpoint.Size, Root: checkpoint.Root})
		return nil, nil
	}
	if next, err := awaitAccess(ctx, a.index, checkpoint.Size); err != nil {
		return nil, fmt.Errorf("index has %d of %d access records: %w", next, checkpoint.Size, err)
	}
	counts, err := a.index.GrantCounts(ctx, registration.Size, checkpoint.Size)
	if err != nil {
		return nil, fmt.Errorf("count records of log entries %d to %d: %w", registration.Size, checkpoint.Size, err)
	}
	return &nextAnchor{
		checkpoint: checkpoint,
		previous:   registration.Size,
		args:       domain.AnchorArgs{Checkpoint: string(checkpoint.Note), Proof: consistency, Counts: anchorCounts(counts)},
	}, nil
}

// anchorCounts answers the counts that an anchor lists, sorted by grant: all of
// them, or the greatest [domain.MaxCounts], of equal ones those of the smaller
// grants. The records of the others are then what the sizes leave.
func anchorCounts(counts []domain.GrantCount) []domain.GrantCount {
	if counts == nil {
		return []domain.GrantCount{} // a list is [] on the ledger, never null
	}
	if len(counts) <= domain.MaxCounts {
		return counts
	}
	listed := slices.Clone(counts)
	slices.SortStableFunc(listed, func(x, y domain.GrantCount) int { return cmp.Compare(y.Count, x.Count) })
	listed = listed[:domain.MaxCounts]
	slices.SortFunc(listed, func(x, y domain.GrantCount) int { return cmp.Compare(x.GrantID, y.GrantID) })
	return listed
}

func (a *Anchorer) submit(ctx context.Context, args domain.AnchorArgs) (Written[domain.Anchor], error) {
	ctx, cancel := context.WithTimeout(ctx, anchorWait)
	defer cancel()
	return submit[domain.Anchor](ctx, a.ledger, a.index, Caller{Department: a.department, Role: domain.RoleGateway}, "access:Anchor", args)
}

// registration reads the log's registration, with the last anchored tree head,
// from the ledger itself: the index may lag behind the last anchor.
func (a *Anchorer) registration(ctx context.Context) (domain.LogRegistration, error) {
	var registration domain.LogRegistration
	nonce, err := randomHex(rand.Reader)
	if err != nil {
		return registration, err
	}
	argument, err := domain.Canonical(domain.AttestArgs{Kind: domain.KindLog, ID: string(a.department), Nonce: nonce})
	if err != nil {
		return registration, fmt.Errorf("read log registration: %w", err)
	}
	result, err := a.ledger.Evaluate(ctx, domain.RoleGateway, "evidence:Attest", argument)
	if err != nil {
		return registration, fmt.Errorf("read log registration: %w", err)
	}
	var statement domain.Statement
	if err := domain.ParseCanonical(result, &statement); err != nil {
		return registration, fmt.Errorf("read log registration: %w", err)
	}
	if !statement.Found {
		return registration, errNotRegistered
	}
	if err := domain.ParseCanonical([]byte(statement.Record), &registration); err != nil {
		return registration, fmt.Errorf("read log registration: %w", err)
	}
	if registration.Origin != a.log.Origin() || registration.VerifierKey != a.log.VerifierKey() {
		return registration, fmt.Errorf("the ledger registers log %s with key %s; this gateway holds %s with key %s",
			registration.Origin, registration.VerifierKey, a.log.Origin(), a.log.VerifierKey())
	}
	return registration, nil
}

// consistency answers the proof that checkpoint extends the last anchored tree,
// in standard base64. It fails when it does not: then the log on disk is not the
// log that was anchored, and nothing but an operator can help.
func (a *Anchorer) consistency(ctx context.Context, registration domain.LogRegistration, checkpoint accesslog.Checkpoint) ([]string, error) {
	out := []string{}
	switch {
	case registration.Size == 0:
		return out, nil
	case registration.Size > checkpoint.Size:
		return nil, fmt.Errorf("the ledger anchors %d entries and the log holds %d: entries were lost; restore the log", registration.Size, checkpoint.Size)
	case registration.Size == checkpoint.Size:
		if registration.Root != base64.StdEncoding.EncodeToString(checkpoint.Root) {
			return nil, fmt.Errorf("the ledger and the log have different entries at size %d: the log was rewritten; restore it", checkpoint.Size)
		}
		return out, nil
	}
	hashes, err := a.log.ConsistencyProof(ctx, registration.Size, checkpoint.Size)
	if err != nil {
		return nil, fmt.Errorf("prove that size %d extends %d: %w", checkpoint.Size, registration.Size, err)
	}
	for _, h := range hashes {
		out = append(out, base64.StdEncoding.EncodeToString(h))
	}
	return out, nil
}

// lookUp waits for the outcome of a transaction, but not for ever: the next step
// reads what became of it from the ledger in any case. Should the transaction
// commit later still, it and the next anchor extend the same tree head: the
// chaincode accepts the first and refuses the other, so none counts twice.
func (a *Anchorer) lookUp(ctx context.Context, id domain.TxID) {
	ctx, cancel := context.WithTimeout(ctx, a.lookUpFor)
	defer cancel()
	for ctx.Err() == nil {
		code, block, err := a.statusOf(ctx, id)
		if err == nil && code != "" {
			a.logger.Info("outcome of anchor learned", "txId", id, "code", code, "block", block)
			return
		}
		if !pause(ctx, a.interval) {
			break
		}
	}
	a.logger.Warn("outcome of anchor stays unknown", "txId", id)
}

func (a *Anchorer) statusOf(ctx context.Context, id domain.TxID) (string, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, statusWait)
	defer cancel()
	return a.ledger.Status(ctx, id)
}

// awaitAccess waits until the index has the first size entries of the log, and
// answers how many it has.
func awaitAccess(ctx context.Context, ix index.Index, size uint64) (uint64, error) {
	for {
		next, err := ix.NextAccess(ctx)
		if err != nil || next >= size {
			return next, err
		}
		if !pause(ctx, 20*time.Millisecond) {
			return next, ctx.Err()
		}
	}
}
