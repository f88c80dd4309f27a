package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/remotelog"
)

const (
	watchEvery    = time.Second
	watchPatience = 3 * time.Second
	watchSilence  = 15 * time.Minute

	// lookWait bounds one look at a log. What it found until then is kept.
	lookWait = time.Minute
)

// WatcherOptions are what a [Watcher] works with. Zero durations mean the
// defaults.
type WatcherOptions struct {
	Own   domain.DepartmentCode
	Index index.Index
	Logs  map[domain.DepartmentCode]remotelog.Log // of the other departments
	// Raise records an alarm on the ledger. An alarm that is there already is no
	// error.
	Raise func(context.Context, domain.RaiseAlarmArgs) error
	// Heard answers when the index last had all that the ledger has; nil means
	// that it always has.
	Heard func() time.Time
	// File keeps how far each log was verified over a restart; "" keeps nothing.
	// Losing it costs time only: what it says is held against the ledger.
	File string

	Every    time.Duration // how often each log is looked at; 1 s
	Patience time.Duration // how long a fault must last that a restart or a cache explains; 3 s
	Silence  time.Duration // how long a log may grow without an anchor, or keep anchored entries from being read; 15 min

	Logger *slog.Logger
	Clock  func() time.Time
}

// Watcher watches the access logs of the other departments: it holds what they
// show against what the ledger anchors, and raises an alarm when the two differ.
//
// It fetches the log's signed checkpoint and, through tiles that are checked
// against it, computes the root of every new anchor. A checkpoint that is smaller
// than an anchor is a rollback; one whose tree has another root at an anchored
// size is a fork; tiles that are not to be had, or that do not have the hashes
// which the tree holds, are named one by one. Each tile of the lowest level is
// fetched when it is new, and again from time to time.
//
// After a fault that a restart, a cache or a repair may explain, the watcher waits
// for its patience. A log that does not answer is no fault by itself: only when it
// has anchored entries that this watcher has not seen for as long as its silence.
type Watcher struct {
	WatcherOptions
	logs []*watchedLog

	mu   sync.Mutex
	kept map[domain.DepartmentCode]watchProgress // contents of File
}

// WatchedLog is what a watcher knows about one log.
type WatchedLog struct {
	Department   domain.DepartmentCode
	VerifiedSize uint64    // entries whose hashes were fetched and give the anchored root
	AnchoredSize uint64    // on the ledger, as of the last look
	Problem      string    // "" when the last look found none
	Since        time.Time // of the problem; zero without one
}

// watchProgress is what is kept of a log. It is no proof of anything: a reader
// without it begins anew.
type watchProgress struct {
	Anchor     uint64 `json:"anchor"`     // largest anchor whose root was checked
	Root       string `json:"root"`       // its root, standard base64
	Swept      uint64 `json:"swept"`      // entries below it whose tiles were checked
	Checkpoint string `json:"checkpoint"` // last signed note that no anchor covers yet; "" for none
}

// NewWatcher returns a watcher that has not started; see [Watcher.Run].
func NewWatcher(o WatcherOptions) *Watcher {
	if o.Every == 0 {
		o.Every = watchEvery
	}
	if o.Patience == 0 {
		o.Patience = watchPatience
	}
	if o.Silence == 0 {
		o.Silence = watchSilence
	}
	w := &Watcher{WatcherOptions: o, kept: make(map[domain.DepartmentCode]watchProgress)}
	if err := w.load(); err != nil {
		o.Logger.Warn("the watch of other logs begins anew", "error", err)
	}
	for department, remote := range o.Logs {
		if department == o.Own {
			continue
		}
		w.logs = append(w.logs, newWatchedLog(w, department, remote, w.kept[department]))
	}
	slices.SortFunc(w.logs, func(a, b *watchedLog) int { return strings.Compare(string(a.department), string(b.department)) })
	return w
}

// Run watches until ctx ends, and then answers ctx's error.
func (w *Watcher) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, l := range w.logs { // side by side: a slow log holds up no other
		wg.Go(func() {
			for {
				l.step(ctx)
				if !pause(ctx, w.Every) {
					return
				}
			}
		})
	}
	wg.Wait()
	<-ctx.Done() // also when there is nobody to watch
	return ctx.Err()
}

// Status answers what is known about each log, by department.
func (w *Watcher) Status() []WatchedLog {
	out := make([]WatchedLog, len(w.logs))
	for i, l := range w.logs {
		out[i] = *l.status.Load()
	}
	return out
}

func (w *Watcher) load() error {
	if w.File == "" {
		return nil
	}
	data, err := os.ReadFile(w.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the progress of the watch: %w", err)
	}
	kept := make(map[domain.DepartmentCode]watchProgress)
	if err := json.Unmarshal(data, &kept); err != nil {
		return fmt.Errorf("read the progress of the watch, %s: %w", w.File, err)
	}
	w.kept = kept
	return nil
}

// keep writes the progress of a log, if it changed. The file is replaced as a
// whole and not synced: an older one will do.
func (w *Watcher) keep(department domain.DepartmentCode, p watchProgress) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.File == "" || w.kept[department] == p {
		return nil
	}
	w.kept[department] = p
	data, err := json.MarshalIndent(w.kept, "", "  ")
	if err != nil {
		return fmt.Errorf("keep the progress of the watch: %w", err)
	}
	next := filepath.Join(filepath.Dir(w.File), "."+filepath.Base(w.File)+".next")
	if err := os.WriteFile(next, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("keep the progress of the watch: %w", err)
	}
	if err := os.Rename(next, w.File); err != nil {
		return fmt.Errorf("keep the progress of the watch: %w", err)
	}
	return nil
}
