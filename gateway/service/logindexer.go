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
	logBatch     = 1000 // entries per index transaction
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
		raw, err := x.log.Entries(ctx, next, min(next+logBatch, checkpoint.Size))
		if err != nil {
			return fmt.Errorf("read log entries from %d on: %w", next, err)
		}
		if len(raw) == 0 {
			return fmt.Errorf("log entry %d is missing", next)
		}
		entries := make([]index.AccessEntry, len(raw))
		for i, data := range raw {
			if entries[i], err = accessEntry(next+uint64(i), data); err != nil {
				return err
			}
		}
		if err := x.index.ApplyAccess(ctx, entries); err != nil {
			return fmt.Errorf("index access records from %d on: %w", next, err)
		}
		next += uint64(len(entries))
	}
	return nil
}

// accessEntry reads a leaf of the log.
func accessEntry(number uint64, data []byte) (index.AccessEntry, error) {
	leaf := proof.LeafHash(data)
	e := index.AccessEntry{Index: number, LeafHash: leaf[:]}
	if err := domain.ParseCanonical(data, &e.Record); err != nil {
		return index.AccessEntry{}, fmt.Errorf("log entry %d is unreadable: %v", number, err)
	}
	return e, nil
}
