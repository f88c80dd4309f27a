package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"
)

// ReloadEvery is how often files are looked at. A change is in force well within
// the five seconds that are promised, and a file may be replaced by renaming or
// written in place.
const ReloadEvery = time.Second

// maxFile bounds a file, in bytes. No file of an identity is large.
const maxFile = 4 << 20

// Live is what some files say, kept up to date while it runs. The files are read
// whole each time: they are small, and neither time nor size of a file tell every
// change. When they say something that cannot be used, the last good value stays
// in force and [Live.Stale] says so. It is safe for concurrent use.
type Live[T any] struct {
	what   string // for the log
	files  []string
	parse  func(contents [][]byte) (T, error)
	every  time.Duration
	logger *slog.Logger

	value atomic.Pointer[T]
	stale atomic.Bool

	read   [][]byte // what value was made of
	failed string   // the last failure told
}

// NewLive reads files and returns what parse makes of their contents, in the order
// of files. parse may keep what it is given. It fails when the files cannot be
// read or parsed. what names them in the log; see [Live.Run].
func NewLive[T any](what string, files []string, parse func(contents [][]byte) (T, error), logger *slog.Logger) (*Live[T], error) {
	l := &Live[T]{what: what, files: files, parse: parse, every: ReloadEvery, logger: logger}
	if _, err := l.reload(); err != nil {
		return nil, err
	}
	return l, nil
}

// Get answers what the files said when they were last good.
func (l *Live[T]) Get() T { return *l.value.Load() }

// Stale reports whether the files now say something that cannot be used. A nil
// one has no files.
func (l *Live[T]) Stale() bool { return l != nil && l.stale.Load() }

// Run keeps the value up to date until ctx ends, and then answers ctx's error.
func (l *Live[T]) Run(ctx context.Context) error {
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		changed, err := l.reload()
		l.stale.Store(err != nil)
		switch {
		case err != nil && err.Error() != l.failed:
			l.failed = err.Error()
			l.logger.Error(l.what+" cannot be read again: what was in force stays", "error", err)
		case err == nil && l.failed != "":
			l.failed = ""
			l.logger.Info(l.what + " can be read again")
		}
		if changed {
			l.logger.Info(l.what + " changed and is in force")
		}
	}
}

// reload reads the files and replaces the value if they changed.
func (l *Live[T]) reload() (changed bool, err error) {
	contents := make([][]byte, len(l.files))
	for i, file := range l.files {
		if contents[i], err = readSmall(file); err != nil {
			return false, fmt.Errorf("read %s: %w", l.what, err)
		}
	}
	if l.read != nil && slices.EqualFunc(contents, l.read, bytes.Equal) {
		return false, nil
	}
	value, err := l.parse(contents)
	if err != nil {
		return false, err
	}
	l.value.Store(&value)
	l.read = contents
	return true, nil
}

func readSmall(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) == 0:
		return nil, errors.New(file + " is empty")
	case len(data) > maxFile:
		return nil, fmt.Errorf("%s is larger than %d bytes", file, maxFile)
	}
	return data, nil
}
