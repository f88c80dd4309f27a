// Package tilelogtest makes large access logs for measurements.
package tilelogtest

import (
	"context"
	"fmt"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

// group is how many entries become durable at a time: more than a log's own groups,
// whose writes are no part of what is measured.
const group = 1 << 16

// Fill writes a log of short entries into an empty folder, with the signer key text
// that the log is opened with later. Ten million entries take about 1 GB and two
// minutes.
func Fill(ctx context.Context, dir, key string, entries uint64) error {
	signer, err := note.NewSigner(key)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx) // ends Tessera's goroutines
	defer cancel()
	driver, err := posix.New(ctx, posix.Config{Path: dir})
	if err != nil {
		return err
	}
	appender, shutdown, _, err := tessera.NewAppender(ctx, driver, tessera.NewAppendOptions().
		WithCheckpointSigner(signer).WithCheckpointInterval(time.Second).
		WithBatching(group, time.Second).WithPushback(2*group))
	if err != nil {
		return err
	}
	for from := uint64(0); from < entries; from += group {
		var futures []tessera.IndexFuture
		for i := from; i < min(from+group, entries); i++ {
			futures = append(futures, appender.Add(ctx, tessera.NewEntry(fmt.Appendf(nil, "entry %d", i))))
		}
		for _, future := range futures {
			if _, err := future(); err != nil {
				return fmt.Errorf("fill the log in %s: %w", dir, err)
			}
		}
	}
	return shutdown(ctx)
}
