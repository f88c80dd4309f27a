package evidence

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/remotelog"
	"github.com/zhenglian/zhenglian/gateway/trail"
	"github.com/zhenglian/zhenglian/proof"
)

// Source is a log to be written into a folder.
type Source struct {
	Department domain.DepartmentCode
	Anchor     []byte // zhenglian-proof/1: the signed read of the anchor that the folder goes by
	From, To   uint64 // range of entries; To 0: up to the anchored size
	Log        remotelog.Log
}

// Options say what to write.
type Options struct {
	Anchors  *proof.Anchors
	Filter   trail.Filter // of trace.csv
	Sources  []Source
	Progress func(department domain.DepartmentCode, written, total uint64) // may be nil
}

// batch is how many entries are read at one time.
const batch = 2048

// Write reads the logs, checks them and writes a folder, which must not exist
// yet. It verifies the folder before it gets its name, so that what stands under
// the name is whole. What a log shows wrong is a [*Fault].
func Write(ctx context.Context, folder string, opts Options) (*Report, error) {
	if _, err := os.Lstat(folder); err == nil {
		return nil, fmt.Errorf("%s exists already; name another folder", folder)
	}
	parent := filepath.Dir(folder)
	if err := os.MkdirAll(parent, 0o755); err != nil { //nolint:gosec // as the caller's umask says
		return nil, err
	}
	unfinished, err := os.MkdirTemp(parent, ".evidence-")
	if err != nil {
		return nil, err
	}
	report, err := writeInto(ctx, unfinished, opts)
	if err == nil {
		err = os.Rename(unfinished, folder)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(unfinished))
	}
	return report, nil
}

func writeInto(ctx context.Context, folder string, opts Options) (*Report, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // files were closed before
	rows := &rows{filter: opts.Filter}
	manifest := Manifest{Format: Format, Filter: filterOf(opts.Filter)}
	sources := slices.SortedFunc(slices.Values(opts.Sources), func(a, b Source) int {
		return strings.Compare(string(a.Department), string(b.Department))
	})
	for _, source := range sources {
		l, err := writeLog(ctx, root, opts, source, rows)
		if err != nil {
			return nil, fmt.Errorf("log of %s: %w", source.Department, err)
		}
		manifest.Logs = append(manifest.Logs, l)
	}
	if err := write(root, traceFile, rows.reader()); err != nil {
		return nil, err
	}
	data, err := manifest.encode()
	if err != nil {
		return nil, err
	}
	if err := root.WriteFile(manifestFile, data, 0o644); err != nil { //nolint:gosec // as the caller's umask says
		return nil, err
	}
	report, err := Verify(root.FS(), opts.Anchors)
	if err != nil {
		return nil, fmt.Errorf("what was written does not verify: %w", err)
	}
	return report, nil
}

// writeLog writes the files of one log.
func writeLog(ctx context.Context, root *os.Root, opts Options, source Source, rows *rows) (Log, error) {
	proven, head, err := openAnchor(source.Anchor, opts.Anchors, source.Department, anchorFile)
	if err != nil {
		return Log{}, err
	}
	l := Log{Department: source.Department, From: source.From, To: source.To, AnchorSize: proven.Anchor.Size}
	if l.To == 0 {
		l.To = l.AnchorSize
	}
	if l.From >= l.To || l.To > l.AnchorSize {
		return Log{}, &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf("the range from %d to %d is empty or beyond the anchored size %d", l.From, l.To, l.AnchorSize)}
	}
	tree := OpenTree(source.Log, l.AnchorSize, head)
	for _, part := range []struct {
		begin, end uint64
		out        *[]string
	}{{0, l.From, &l.Before}, {l.To, l.AnchorSize, &l.After}} {
		hashes, err := tree.Range(ctx, part.begin, part.end)
		if err != nil {
			return Log{}, err
		}
		*part.out = encodeHashes(hashes)
	}
	if err := root.MkdirAll(filepath.Dir(l.file(anchorFile)), 0o755); err != nil { //nolint:gosec // as the caller's umask says
		return Log{}, err
	}
	if err := root.WriteFile(l.file(anchorFile), source.Anchor, 0o644); err != nil { //nolint:gosec // likewise
		return Log{}, err
	}
	return l, writeEntries(ctx, root, opts, tree, l, rows)
}

func writeEntries(ctx context.Context, root *os.Root, opts Options, tree *Tree, l Log, rows *rows) error {
	r, w := io.Pipe()
	go func() {
		buffered := bufio.NewWriterSize(w, 1<<16)
		err := copyEntries(ctx, buffered, opts, tree, l, rows)
		_ = w.CloseWithError(errors.Join(err, buffered.Flush())) // never fails
	}()
	err := write(root, l.file(entriesFile), r)
	_ = r.CloseWithError(err) // ends the other side when the file could not be written
	return err
}

func copyEntries(ctx context.Context, w io.Writer, opts Options, tree *Tree, l Log, rows *rows) error {
	for next := l.From; next < l.To; {
		entries, err := tree.Entries(ctx, next, min(l.To, next+batch))
		if err != nil {
			return err
		}
		var out []byte
		for _, entry := range entries {
			rows.add(l.Department, next, l.AnchorSize, entry)
			out = appendEntry(out, entry)
			next++
		}
		if _, err := w.Write(out); err != nil {
			return err
		}
		if opts.Progress != nil {
			opts.Progress(l.Department, next-l.From, l.To-l.From)
		}
	}
	return nil
}

func write(root *os.Root, name string, from io.Reader) error {
	file, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, from)
	return errors.Join(err, file.Close())
}
