package requestlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

const (
	// DefaultMaxBytes is the size at which a file is left.
	DefaultMaxBytes = 16 << 20
	// LargestMaxBytes bounds the size of a file: the last one is read at the
	// start, each one by whoever checks them.
	LargestMaxBytes = 256 << 20

	// syncEvery is how often lines are forced to the disk.
	syncEvery = time.Second

	// gatherFor is how long a line may wait for others, so that a busy log is
	// hashed and written a batch at a time: one wake-up and one call of the system
	// for all of them instead of one each.
	gatherFor = 10 * time.Millisecond
	// queueLength is how many lines may wait; a request after that waits too.
	queueLength = 4096
	// batchBytes is about how much is written at once.
	batchBytes = 64 << 10
)

// Log writes lines. It is safe for concurrent use.
type Log struct {
	dir      string
	maxBytes int64
	clock    func() time.Time

	adding  sync.Mutex
	room    *sync.Cond // of adding: lines were taken, or over is set
	waiting []Entry
	taken   []Entry       // what waiting was before, to be used again
	over    bool          // nothing is taken any more
	first   chan struct{} // holds one when a line waits
	full    chan struct{} // holds one when queueLength lines wait

	stop   chan struct{} // closed by Close
	ended  chan struct{} // closed when nothing is written any more
	closes sync.Once

	mu     sync.Mutex
	file   *os.File
	number int   // of the file
	size   int64 // of the file
	dirty  bool  // something was written and not forced to the disk
	seq    uint64
	head   string
	buffer []byte // of write
	err    error  // that ended it
}

// Options are the settings of a log.
type Options struct {
	Dir        string // made if it is not there
	Department domain.DepartmentCode
	MaxBytes   int64            // 0: [DefaultMaxBytes]
	Clock      func() time.Time // nil: the system's
}

// Open continues the log in o.Dir, or begins it. It closes what a killed process
// left of a line. The caller must [Log.Close] it. No two processes may write to
// one folder; a gateway's data folder has a lock of its own.
func Open(o Options) (*Log, error) {
	l := &Log{
		dir: o.Dir, maxBytes: o.MaxBytes, clock: o.Clock, head: noHead,
		first: make(chan struct{}, 1), full: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{}),
	}
	l.room = sync.NewCond(&l.adding)
	if l.maxBytes == 0 {
		l.maxBytes = DefaultMaxBytes
	}
	if l.clock == nil {
		l.clock = time.Now //nolint:forbidigo // the clock that tests replace
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the log of requests: %w", err)
	}
	if err := l.recover(o.Department); err != nil {
		return nil, fmt.Errorf("open the log of requests: %w", err)
	}
	go l.run()
	return l, nil
}

var fileShape = regexp.MustCompile(`^requests-([0-9]{8})\.jsonl$`)

func fileName(number int) string { return fmt.Sprintf("requests-%08d.jsonl", number) }

// Files answers the files of a folder, in the order of their lines.
func Files(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if fileShape.MatchString(e.Name()) {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files, nil // ReadDir sorts, and the numbers have a fixed width
}

// recover finds the end of the chain and opens the last file there.
func (l *Log) recover(department domain.DepartmentCode) error {
	files, err := Files(l.dir)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		if err := l.next(); err != nil {
			return err
		}
		return l.write([]Entry{l.started(department)})
	}
	last := files[len(files)-1]
	if _, err := fmt.Sscanf(filepath.Base(last), "requests-%08d.jsonl", &l.number); err != nil {
		return fmt.Errorf("%s: %w", last, err)
	}
	data, err := os.ReadFile(last)
	if err != nil {
		return err
	}
	end, whole := lastLine(data)
	if whole != nil {
		l.seq, l.head = whole.entry.Seq, whole.hash
	} else if err := l.headOf(files[:len(files)-1]); err != nil {
		return err
	}
	if l.file, err = os.OpenFile(last, os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return err
	}
	l.size = int64(len(data))
	if torn := data[end:]; len(torn) > 0 {
		if err := l.closeTorn(torn); err != nil {
			return errors.Join(err, l.file.Close())
		}
	}
	if err := l.write([]Entry{l.started(department)}); err != nil {
		return errors.Join(err, l.file.Close())
	}
	return nil
}

// headOf takes the end of the chain from the last of files. Without one the log
// ended before its first line.
func (l *Log) headOf(files []string) error {
	if len(files) == 0 {
		return nil
	}
	file := files[len(files)-1]
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	end, whole := lastLine(data)
	if whole == nil || end != len(data) {
		// It was complete and on the disk before the next one was begun.
		return fmt.Errorf("%s does not end with a line of the log: it was changed", file)
	}
	l.seq, l.head = whole.entry.Seq, whole.hash
	return nil
}

type line struct {
	entry Entry
	hash  string
}

// lastLine answers the last line of data and where it ends; nil and 0 when there
// is none.
func lastLine(data []byte) (end int, last *line) {
	for end = bytes.LastIndexByte(data, '\n') + 1; end > 0; {
		start := bytes.LastIndexByte(data[:end-1], '\n') + 1
		raw := data[start : end-1]
		var e Entry
		if domain.ParseCanonical(raw, &e) == nil {
			return end, &line{e, hashOf(raw)}
		}
		end = start
	}
	return 0, nil
}

func (l *Log) started(department domain.DepartmentCode) Entry {
	return Entry{Level: "INFO", Msg: MsgStarted, Department: department}
}

// closeTorn ends what is left of a line, and says so in the next one, which
// hashes those bytes as they are.
func (l *Log) closeTorn(torn []byte) error {
	text := bytes.TrimSuffix(torn, []byte("\n"))
	if len(text) == len(torn) {
		closing := []byte("\n")
		var e Entry
		if domain.ParseCanonical(text[bytes.LastIndexByte(text, '\n')+1:], &e) == nil {
			// Only its newline is missing. It must not come to look like a line now.
			closing = []byte("#\n")
			text = append(bytes.Clone(text), '#')
		}
		n, err := l.file.Write(closing)
		if err != nil {
			return err
		}
		l.size += int64(n)
	}
	length, closes := int64(len(text)), l.head
	l.head = hashOf(text)
	return l.write([]Entry{{Level: "WARN", Msg: MsgTorn, Torn: &length, Closes: closes}})
}

// next leaves the file and begins the one after it. The old one is on the disk
// before the new one is there.
func (l *Log) next() error {
	if l.file != nil {
		if err := l.sync(); err != nil {
			return err
		}
		if err := l.file.Close(); err != nil {
			return err
		}
		l.file = nil
	}
	l.number++
	f, err := os.OpenFile(filepath.Join(l.dir, fileName(l.number)), os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	l.file, l.size = f, 0
	dir, err := os.Open(l.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (l *Log) sync() error {
	if !l.dirty {
		return nil
	}
	l.dirty = false
	return l.file.Sync()
}

// write numbers, chains and writes entries, which it changes.
func (l *Log) write(entries []Entry) error {
	batch := l.buffer[:0]
	defer func() { l.buffer = batch }()
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		l.dirty = true
		n, err := l.file.Write(batch)
		l.size += int64(n)
		batch = batch[:0]
		return err
	}
	for i := range entries {
		e := &entries[i]
		if e.Time.IsZero() {
			e.Time = l.clock()
		}
		e.Time = e.Time.UTC().Truncate(time.Millisecond)
		e.Seq, e.Prev = l.seq+1, l.head
		before := len(batch)
		var err error
		if batch, err = appendLine(batch, e); err != nil {
			return err
		}
		raw := batch[before:]
		if size := l.size + int64(before); size > 0 && size+int64(len(raw)) >= l.maxBytes {
			raw = bytes.Clone(raw)
			batch = batch[:before]
			if err := flush(); err != nil {
				return err
			}
			if err := l.next(); err != nil {
				return err
			}
			batch = append(batch, raw...)
		}
		batch = append(batch, '\n')
		l.seq, l.head = e.Seq, hashOf(raw)
		if len(batch) >= batchBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// run writes what waits until the log is closed or a write fails.
func (l *Log) run() {
	defer close(l.ended)
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		var err error
		stopped := false
		select {
		case <-l.first:
			l.gather()
			err = l.locked(func() error { return l.write(l.take(false)) })
		case <-tick.C:
			err = l.locked(l.sync)
		case <-l.stop:
			stopped = true
			err = l.locked(func() error { return errors.Join(l.write(l.take(true)), l.sync()) })
		}
		if err != nil {
			_ = l.locked(func() error { l.err = fmt.Errorf("write the log of requests: %w", err); return nil })
		}
		if stopped || err != nil {
			l.take(true)
			return
		}
	}
}

// gather lets lines come together.
func (l *Log) gather() {
	timer := time.NewTimer(gatherFor)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.full:
	case <-l.stop:
	}
}

// take answers the lines that wait, until the next call. The last call ends the
// log to those who add.
func (l *Log) take(last bool) []Entry {
	l.adding.Lock()
	defer l.adding.Unlock()
	l.over = l.over || last
	l.waiting, l.taken = l.taken[:0], l.waiting
	l.room.Broadcast()
	return l.taken
}

func (l *Log) locked(f func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return f()
}

// Add writes a line. It returns before the line is written, and waits only while
// very many do. A log that has failed or was closed takes nothing; see
// [Log.Failed].
func (l *Log) Add(e Entry) {
	l.adding.Lock()
	defer l.adding.Unlock()
	for len(l.waiting) >= queueLength && !l.over {
		l.room.Wait()
	}
	if l.over {
		return
	}
	if e.Time.IsZero() {
		e.Time = l.clock()
	}
	switch l.waiting = append(l.waiting, e); len(l.waiting) {
	case 1:
		signal(l.first)
	case queueLength:
		signal(l.full)
	}
}

// signal puts a token into c, which may hold one already.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Failed answers the failed write that ended the log, nil while it goes on. What
// cannot be logged must not be served: the gateway ends with it.
func (l *Log) Failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Head answers number and hash of the last line, which is on the disk by then.
func (l *Log) Head() (seq uint64, head string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return 0, "", l.err
	}
	if l.file == nil {
		return 0, "", os.ErrClosed
	}
	return l.seq, l.head, l.sync()
}

// Lines answers how many lines the log has.
func (l *Log) Lines() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seq
}

// Close writes what waits and ends the log.
func (l *Log) Close(ctx context.Context) error {
	l.closes.Do(func() { close(l.stop) })
	select {
	case <-l.ended:
	case <-ctx.Done():
		return fmt.Errorf("close the log of requests: %w", ctx.Err())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := errors.Join(l.err, l.file.Close())
	l.file = nil
	return err
}

// sortedFiles answers files in the order of their lines, whatever folders they
// are in.
func sortedFiles(files []string) []string {
	sorted := slices.Clone(files)
	slices.SortFunc(sorted, func(a, b string) int {
		return bytes.Compare([]byte(filepath.Base(a)), []byte(filepath.Base(b)))
	})
	return sorted
}
