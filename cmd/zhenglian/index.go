package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/fabricledger"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/sqlindex"
	"github.com/zhenglian/zhenglian/gateway/tilelog"
)

// indexFile is the name of the index in a gateway's data folder.
const indexFile = "index.sqlite"

// indexCmd groups the commands that work with a gateway's index.
type indexCmd struct {
	Rebuild indexRebuildCmd `cmd:"" help:"Build the index anew from block 0 and from the access log, while the gateway is stopped."`
}

// indexRebuildCmd is "zhenglian index rebuild".
type indexRebuildCmd struct {
	Config     string `xor:"which" required:"" placeholder:"FILE" help:"Configuration file, gateway.json."`
	Department string `xor:"which" required:"" placeholder:"CODE" help:"The gateway of this department of the consortium on this machine."`
	State      string `default:".zhenglian" placeholder:"FOLDER" help:"With --department: state folder of the consortium."`
	Check      bool   `help:"Keep the index: build a second one, compare the two and remove it."`
}

// Run rebuilds or checks the index.
func (c *indexRebuildCmd) Run(e *env) error {
	file, err := gatewayFile(c.Config, c.Department, c.State)
	if err != nil {
		return err
	}
	setup, err := loadGateway(file, "")
	if err != nil {
		return &exitError{exitUsage, err}
	}
	logger := slog.New(slog.DiscardHandler)
	chain, err := fabricledger.New(setup.fabric, logger)
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("%s: %w", file, err)}
	}
	defer func() { _ = chain.Close() }() // at the end of the process; nothing is left to save
	return rebuildIndex(e, setup, chain, logger, c.Check)
}

// rebuildIndex builds the index of a gateway that does not run, and puts it in
// the place of the old one, or compares it with the old one when check is set.
func rebuildIndex(e *env, setup *gatewaySetup, chain ledger.Reader, logger *slog.Logger, check bool) (err error) {
	// The log's lock is held by whoever holds the index.
	log, err := tilelog.Open(e.ctx, tilelog.Options{
		Dir: filepath.Join(setup.Data, "log"), Origin: setup.Log.Origin, Key: setup.logKey, Logger: logger,
	})
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), closeWithin)
		defer cancel()
		err = errors.Join(err, log.Close(closing))
	}()
	b := &indexBuild{env: e, setup: setup, chain: chain, log: log, logger: logger}
	if b.height, err = ownHeight(e.ctx, chain, setup.Department); err != nil {
		return err
	}
	live, fresh := filepath.Join(setup.Data, indexFile), filepath.Join(setup.Data, indexFile+".rebuild")
	defer func() { err = errors.Join(err, removeIndex(fresh)) }() // a finished one has been renamed
	if err := removeIndex(fresh); err != nil {
		return err
	}
	start := time.Now()
	digest, err := b.build(fresh, "blocks")
	if err != nil {
		return err
	}
	took := time.Since(start).Round(100 * time.Millisecond)
	if !check {
		if err := removeIndex(live); err != nil {
			return err
		}
		if err := os.Rename(fresh, live); err != nil {
			return fmt.Errorf("put the new index in place: %w", err)
		}
		fmt.Fprintf(e.stdout, "%s: rebuilt from %d blocks and the access log in %s\ndigest %s\n", live, b.height, took, digest)
		return nil
	}
	if _, err := os.Stat(live); err != nil {
		return fmt.Errorf("there is no index to compare with: %w", err)
	}
	// What the stopped gateway had not read yet is no difference.
	old, err := b.build(live, "blocks of the index in use")
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "in use   %s\nrebuilt  %s (%d blocks, %s)\n", old, digest, b.height, took)
	if old != digest {
		return fmt.Errorf("%s differs from what the ledger and the access log say; rebuild it without --check", live)
	}
	fmt.Fprintln(e.stdout, "the index in use is equal to one built from block 0")
	return nil
}

// indexBuild builds indexes of one gateway up to one height.
type indexBuild struct {
	env    *env
	setup  *gatewaySetup
	chain  ledger.Reader
	log    *tilelog.Log
	logger *slog.Logger
	height uint64 // of the department's own peer when the build began
}

var errReached = errors.New("the height is reached")

// build brings the index in file to the height and to the log's size, and
// answers its digest.
func (b *indexBuild) build(file, what string) (digest string, err error) {
	ctx := b.env.ctx
	ix, err := sqlindex.Open(ctx, file, sqlindex.WithChaincode(b.setup.Chaincode))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, ix.Close()) }()
	next, err := ix.NextBlock(ctx)
	if err != nil {
		return "", err
	}
	if next > b.height {
		return "", fmt.Errorf("%s has %d blocks and the department's peer has %d: it belongs to another ledger, or the peer is behind", file, next, b.height)
	}
	if next < b.height {
		shown := newProgress(b.env.stderr, int(b.height-next), what) //nolint:gosec // no chain has as many blocks
		err = b.chain.Blocks(ctx, next, func(block domain.Block) error {
			if err := ix.ApplyBlock(ctx, block); err != nil {
				return err
			}
			shown.add()
			if block.Number+1 >= b.height {
				return errReached
			}
			return nil
		})
		shown.finish()
		if !errors.Is(err, errReached) {
			return "", fmt.Errorf("read blocks: %w", errors.Join(err, ctx.Err()))
		}
	}
	if err := b.indexLog(ctx, ix); err != nil {
		return "", err
	}
	return ix.Digest(ctx)
}

// indexLog applies the access log.
func (b *indexBuild) indexLog(ctx context.Context, ix *sqlindex.Index) error {
	checkpoint, err := b.log.Checkpoint(ctx)
	if err != nil {
		return err
	}
	failures := &lastRecord{}
	group, running := errgroup.WithContext(ctx)
	running, stop := context.WithCancel(running)
	defer stop()
	group.Go(func() error {
		_ = service.NewLogIndexer(b.log, ix, slog.New(failures)).Run(running) // ends when it is stopped
		return nil
	})
	group.Go(func() error {
		defer stop()
		for {
			next, err := ix.NextAccess(ctx)
			switch {
			case err != nil:
				return err
			case next == checkpoint.Size:
				return nil
			case failures.text() != "":
				return errors.New(failures.text())
			}
			if err := sleep(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
	})
	return group.Wait()
}

// ownHeight is the number of blocks that the department's own peer has.
func ownHeight(ctx context.Context, chain ledger.Reader, own domain.DepartmentCode) (uint64, error) {
	for _, h := range chain.Heights(ctx) {
		if h.Department == own {
			if h.Err != nil {
				return 0, fmt.Errorf("the department's own peer: %w", h.Err)
			}
			return h.Height, nil
		}
	}
	return 0, fmt.Errorf("the configuration names no peer of %s", own)
}

// removeIndex removes an index with what SQLite keeps beside it.
func removeIndex(file string) error {
	var errs []error
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(file + suffix); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
