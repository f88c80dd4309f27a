package requestlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

const (
	// DefaultAnchorEvery is how often the log's head goes to the ledger.
	DefaultAnchorEvery = 5 * time.Minute

	// anchorWait bounds one submit, anchorRetry the pause after one that failed.
	anchorWait  = 20 * time.Second
	anchorRetry = 30 * time.Second
)

// Submitter is the part of [ledger.Ledger] that anchors need.
type Submitter interface {
	Submit(ctx context.Context, r ledger.Request) (ledger.Receipt, error)
}

// Anchorer has the ledger remember the head of a log: it submits evidence:Attest,
// which writes no record, with the beginning of the hash as its nonce. The
// transaction stays in a block of the channel, under the department's own
// signature and the consortium's time, and every department has a copy.
type Anchorer struct {
	department domain.DepartmentCode
	log        *Log
	ledger     Submitter
	every      time.Duration
	logger     *slog.Logger
	clock      func() time.Time

	seq atomic.Uint64 // of the last line that is anchored
	at  atomic.Int64  // when that was, Unix milliseconds; 0 before the first
}

// NewAnchorer returns an anchorer of department's log that has not started; see
// [Anchorer.Run].
func NewAnchorer(department domain.DepartmentCode, log *Log, l Submitter, every time.Duration, logger *slog.Logger) *Anchorer {
	return &Anchorer{department: department, log: log, ledger: l, every: every, logger: logger, clock: time.Now} //nolint:forbidigo // the clock that tests replace
}

// Run anchors the head when it begins and then again and again, as long as there
// are new lines, until ctx ends. It answers ctx's error then.
func (a *Anchorer) Run(ctx context.Context) error {
	for {
		wait := a.every
		if err := a.step(ctx); err != nil && ctx.Err() == nil {
			wait = min(a.every, anchorRetry)
			a.logger.Error("the head of the log of requests was not anchored", "error", err, "retryIn", wait)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// Anchored answers the number of the last line that is anchored and when that
// was; the zero time before this process anchored one.
func (a *Anchorer) Anchored() (seq uint64, at time.Time) {
	if ms := a.at.Load(); ms != 0 {
		at = time.UnixMilli(ms)
	}
	return a.seq.Load(), at
}

// step anchors the head once, if there are lines besides the one that tells of
// the anchor before.
func (a *Anchorer) step(ctx context.Context) error {
	seq, head, err := a.log.Head()
	if err != nil {
		return err
	}
	if last := a.seq.Load(); last != 0 && seq <= last+1 {
		return nil
	}
	argument, err := domain.Canonical(domain.AttestArgs{Kind: domain.KindLog, ID: string(a.department), Nonce: Nonce(head)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, anchorWait)
	defer cancel()
	receipt, err := a.ledger.Submit(ctx, ledger.Request{Role: domain.RoleGateway, Transaction: "evidence:Attest", Argument: argument})
	var unknown *ledger.OutcomeUnknownError
	switch {
	case errors.As(err, &unknown):
		// It may be there. Whoever checks can look; the next one is soon.
		a.log.Add(Entry{Level: "WARN", Msg: MsgAnchored, Anchor: &Anchor{Seq: seq, Head: head, TxID: unknown.TxID}})
		return err
	case err != nil:
		return fmt.Errorf("anchor line %d: %w", seq, err)
	}
	a.log.Add(Entry{Level: "INFO", Msg: MsgAnchored, Anchor: &Anchor{Seq: seq, Head: head, TxID: receipt.TxID, Block: receipt.Block}})
	a.seq.Store(seq)
	a.at.Store(a.clock().UnixMilli())
	return nil
}
