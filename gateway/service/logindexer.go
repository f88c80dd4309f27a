package service

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/accesslog"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/proof"
)

const (
	logPollEvery = 200 * time.Millisecond

	// logBatch is how many entries one transaction of the index takes. The log
	// hands out 256 at a time; a transaction for each takes the index about half
	// as long again.
	logBatch = 1024
)

// LogIndexer keeps the index of access records at the size of the department's
// log.
type LogIndexer struct {
	log    accesslog.Log
	index  index.Index
	logger *slog.Logger
	every  time.Duration
}

// NewLogIndexer returns a log indexer that has not started; see
// [LogIndexer.Run].
func NewLogIndexer(log accesslog.Log, ix index.Index, logger *slog.Logger) *LogIndexer {
	return &LogIndexer{log: log, index: ix, logger: logger, every: logPollEvery}
}

// Run follows the log's checkpoint until ctx ends and then answers ctx's error.
// An entry that is missing or unreadable stops it at that entry, with an error
// in the log at each attempt: skipping it would hide a gap in the evidence.
func (x *LogIndexer) Run(ctx context.Context) error {
	pauses := newBackoff()
	for {
		wait := x.every
		if err := x.catchUp(ctx); err != nil && ctx.Err() == nil {
			wait = pauses.NextBackOff()
			x.logger.Error("access log cannot be indexed", "error", err, "retryIn", wait)
		} else {
			pauses.Reset()
		}
		if !pause(ctx, wait) {
			return ctx.Err()
		}
	}
}

// catchUp applies what the log has and the index has not.
func (x *LogIndexer) catchUp(ctx context.Context) error {
	checkpoint, err := x.log.Checkpoint(ctx)
	if err != nil {
		return fmt.Errorf("read checkpoint: %w", err)
	}
	next, err := x.index.NextAccess(ctx)
	if err != nil {
		return fmt.Errorf("read number of indexed access records: %w", err)
	}
	if next > checkpoint.Size {
		return fmt.Errorf("%d access records are indexed and the log has %d: entries were lost, or the index belongs to another log", next, checkpoint.Size)
	}
	for next < checkpoint.Size {
		// What could be read is indexed even if what follows could not.
		entries, readErr := x.read(ctx, next, min(next+logBatch, checkpoint.Size))
		if err := x.index.ApplyAccess(ctx, entries); err != nil {
			return fmt.Errorf("index access records from %d on: %w", next, err)
		}
		if readErr != nil {
			return readErr
		}
		next += uint64(len(entries))
	}
	return nil
}

// read answers the entries with from ≤ index < to, up to the first that cannot be
// read.
func (x *LogIndexer) read(ctx context.Context, from, to uint64) ([]index.AccessEntry, error) {
	entries := make([]index.AccessEntry, 0, to-from)
	for from < to {
		raw, err := x.log.Entries(ctx, from, to)
		if err != nil {
			return entries, fmt.Errorf("read log entries from %d on: %w", from, err)
		}
		if len(raw) == 0 {
			return entries, fmt.Errorf("log entry %d is missing", from)
		}
		for _, data := range raw {
			e, err := accessEntry(from, data)
			if err != nil {
				return entries, err
			}
			entries = append(entries, e)
			from++
		}
	}
	return entries, nil
}

// accessEntry reads a leaf of the log.
func accessEntry(number uint64, data []byte) (index.AccessEntry, error) {
	leaf := proof.LeafHash(data)
	e := index.AccessEntry{Index: number, LeafHash: leaf[:]}
	if err := domain.ParseCanonical(data, &e.Record); err != nil {
		return index.AccessEntry{}, fmt.Errorf("log entry %d is unreadable: %v", number, err) //nolint:errorlint // no caller's mistake: drops the kind
	}
	return e, nil
}
