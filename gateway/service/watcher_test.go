package service_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/accesslog"
	"github.com/zhenglian/zhenglian/gateway/accesslog/accesslogtest"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/remotelog"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/tileclient"
	"github.com/zhenglian/zhenglian/gateway/tilelog"
	"github.com/zhenglian/zhenglian/proof"
)

const (
	watchedOrigin = "zhenglian.example/log/police"
	patience      = 60 * time.Millisecond
)

// anchorBook is an index that knows one log and its anchors.
type anchorBook struct {
	index.Index
	mu      sync.Mutex
	records map[string][]byte
}

func (b *anchorBook) Get(_ context.Context, kind domain.RecordKind, id string) (index.Record, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	value, ok := b.records[string(kind)+" "+id]
	if !ok {
		return index.Record{}, &domain.Error{Kind: domain.NotFound, Msg: id}
	}
	return index.Record{Kind: kind, ID: id, Value: value}, nil
}

func (b *anchorBook) put(t *testing.T, kind domain.RecordKind, id string, v any) {
	t.Helper()
	data, err := domain.Canonical(v)
	if err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.records[string(kind)+" "+id] = data
}

// watchedFolder is the real log of a department, served from its files.
type watchedFolder struct {
	t    *testing.T
	key  string
	dir  string
	log  *tilelog.Log
	book *anchorBook
	last domain.LogRegistration

	handler atomic.Pointer[http.Handler]
	server  *httptest.Server
	fetched sync.Map // path → *atomic.Int64

	mu     sync.Mutex
	alarms []domain.RaiseAlarmArgs
}

func newWatchedFolder(t *testing.T) *watchedFolder {
	t.Helper()
	key, vkey, err := note.GenerateKey(rand.Reader, watchedOrigin)
	if err != nil {
		t.Fatal(err)
	}
	f := &watchedFolder{t: t, key: key, dir: filepath.Join(t.TempDir(), "log"), book: &anchorBook{records: make(map[string][]byte)}}
	f.last = domain.LogRegistration{Owner: "police", Origin: watchedOrigin, VerifierKey: vkey}
	f.book.put(t, domain.KindLog, "police", f.last)
	f.log = f.open(f.dir, f.key)
	t.Cleanup(func() { _ = f.log.Close(context.Background()) })
	f.serve(f.dir)
	f.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := f.fetched.LoadOrStore(strings.TrimPrefix(r.URL.Path, "/v1/logs/police/"), new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		(*f.handler.Load()).ServeHTTP(w, r)
	}))
	t.Cleanup(f.server.Close)
	return f
}

func (f *watchedFolder) open(dir, key string) *tilelog.Log {
	f.t.Helper()
	l, err := tilelog.Open(f.t.Context(), tilelog.Options{
		Dir: dir, Origin: watchedOrigin, Key: key, CheckpointInterval: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return l
}

// serve shows the files of a folder.
func (f *watchedFolder) serve(dir string) {
	f.handle(http.StripPrefix("/v1/logs/police", http.FileServer(http.Dir(dir))))
}

func (f *watchedFolder) handle(h http.Handler) { f.handler.Store(&h) }

func (f *watchedFolder) fetches(path string) int64 {
	if n, ok := f.fetched.Load(path); ok {
		return n.(*atomic.Int64).Load()
	}
	return 0
}

// grow appends entries of a text until the log has size.
func grow(t *testing.T, l *tilelog.Log, size int, text string) {
	t.Helper()
	c, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var entries [][]byte
	for i := int(c.Size); i < size; i++ {
		entries = append(entries, fmt.Appendf(nil, "%s %d", text, i))
	}
	if _, err := l.Append(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
	accesslogtest.AwaitSize(t, l, uint64(size))
}

// anchor grows the log to size and puts it on the ledger.
func (f *watchedFolder) anchor(size int) {
	f.t.Helper()
	grow(f.t, f.log, size, "entry")
	f.anchorAfter(f.last.Size)
}

// anchorAfter anchors the log as following an anchor of size previous.
func (f *watchedFolder) anchorAfter(previous uint64) {
	f.t.Helper()
	c, err := f.log.Checkpoint(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	f.last.Size, f.last.Root = c.Size, base64.StdEncoding.EncodeToString(c.Root)
	f.book.put(f.t, domain.KindAnchor, domain.AnchorID("police", c.Size), domain.Anchor{
		Owner: "police", Origin: watchedOrigin, Size: c.Size, Root: f.last.Root, PreviousSize: previous,
		Checkpoint: string(c.Note), Counts: []domain.GrantCount{},
	})
	f.book.put(f.t, domain.KindLog, "police", f.last)
}

// copied is the folder of the log as it is now, elsewhere.
func (f *watchedFolder) copied() string {
	f.t.Helper()
	dir := filepath.Join(f.t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(f.dir)); err != nil {
		f.t.Fatal(err)
	}
	return dir
}

// raise keeps what the watcher reports, as the chaincode would take it.
func (f *watchedFolder) raise(_ context.Context, args domain.RaiseAlarmArgs) error {
	if err := args.Validate(); err != nil {
		f.t.Errorf("the alarm would be refused: %v", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.alarms = append(f.alarms, args)
	return nil
}

func (f *watchedFolder) raised() []domain.RaiseAlarmArgs {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]domain.RaiseAlarmArgs{}, f.alarms...)
}

func (f *watchedFolder) options() service.WatcherOptions {
	f.t.Helper()
	c, err := tileclient.New(f.server.URL, "", "police", nil)
	if err != nil {
		f.t.Fatal(err)
	}
	return service.WatcherOptions{
		Own: "civil", Index: f.book, Logs: map[domain.DepartmentCode]remotelog.Log{"police": c}, Raise: f.raise,
		Every: 5 * time.Millisecond, Patience: patience, Logger: slog.New(slog.DiscardHandler), Clock: time.Now,
	}
}

// watch runs a watcher and answers how to end it.
func (f *watchedFolder) watch(o service.WatcherOptions) (*service.Watcher, func()) {
	w := service.NewWatcher(o)
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.Run(ctx) // ends with ctx
	}()
	end := func() {
		cancel()
		<-done
	}
	f.t.Cleanup(end)
	return w, end
}

func (f *watchedFolder) awaitVerified(w *service.Watcher) {
	f.t.Helper()
	await(f.t, "the log to be verified", func() bool {
		s := w.Status()[0]
		return s.VerifiedSize == f.last.Size && s.Problem == ""
	})
}

func (f *watchedFolder) awaitAlarm() domain.RaiseAlarmArgs {
	f.t.Helper()
	await(f.t, "an alarm", func() bool { return len(f.raised()) > 0 })
	return f.raised()[0]
}

func flipByte(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.Remove(path); err != nil { // a file of the log is read only
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// forked answers the folder of a log of size that has the first keep entries of
// the watched one and others after them, signed with its key.
func (f *watchedFolder) forked(keep, size int) string { return f.forkedBy(f.key, keep, size) }

func (f *watchedFolder) forkedBy(key string, keep, size int) string {
	f.t.Helper()
	dir := filepath.Join(f.t.TempDir(), "fork")
	l := f.open(dir, key)
	if keep > 0 {
		grow(f.t, l, keep, "entry")
	}
	grow(f.t, l, size, "other")
	if err := l.Close(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	return dir
}

// TestWatcherFaults does to real files what a department could do to its log, and
// what a disk could, before and after the watcher has seen them in order.
func TestWatcherFaults(t *testing.T) {
	const size = 600 // two full tiles of the lowest level and a part
	file := func(elem ...string) func(*watchedFolder) string {
		return func(f *watchedFolder) string { return filepath.Join(append([]string{f.dir}, elem...)...) }
	}
	change := func(path func(*watchedFolder) string) func(*watchedFolder) {
		return func(f *watchedFolder) { flipByte(f.t, path(f)) }
	}
	drop := func(path func(*watchedFolder) string) func(*watchedFolder) {
		return func(f *watchedFolder) {
			if err := os.Remove(path(f)); err != nil {
				f.t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct {
		name    string
		do      func(*watchedFolder)
		kind    domain.AlarmKind
		rule    string // "" is the kind
		subject string
		figures string
	}{
		{"changed tile", change(file("tile", "0", "001")), domain.AlarmChangedEntry, "", "tile/0/001", ""},
		{"changed tile above", change(file("tile", "1", "000.p", "2")), domain.AlarmChangedEntry, "", "edge/600", "right edge"},
		{"changed right edge", change(file("tile", "0", "002.p", "88")), domain.AlarmChangedEntry, "", "edge/600", "right edge"},
		{"cut tile", func(f *watchedFolder) {
			path := file("tile", "0", "000")(f)
			drop(file("tile", "0", "000"))(f)
			if err := os.WriteFile(path, make([]byte, 31), 0o600); err != nil {
				f.t.Fatal(err)
			}
		}, domain.AlarmChangedEntry, "", "tile/0/000", "31 bytes"},
		{"dropped tile", drop(file("tile", "0", "001")), domain.AlarmMissingTile, "", "tile/0/001", ""},
		{"dropped right edge", drop(file("tile", "0", "002.p", "88")), domain.AlarmMissingTile, "", "tile/0/002", ""},
		{"tile that fails", func(f *watchedFolder) {
			files := http.StripPrefix("/v1/logs/police", http.FileServer(http.Dir(f.dir)))
			f.handle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/tile/0/001") {
					http.Error(w, "damaged", http.StatusInternalServerError)
					return
				}
				files.ServeHTTP(w, r)
			}))
		}, domain.AlarmMissingTile, "", "tile/0/001", "fails"},
		{"dropped checkpoint", drop(file("checkpoint")), domain.AlarmMissingTile, "checkpoint", "checkpoint/", "no checkpoint"},
		{"checkpoint of another key", func(f *watchedFolder) {
			key, _, err := note.GenerateKey(rand.Reader, watchedOrigin)
			if err != nil {
				f.t.Fatal(err)
			}
			f.serve(f.forkedBy(key, 0, size))
		}, domain.AlarmChangedEntry, "checkpoint", "checkpoint/", "registered key"},
		{"rolled back", func(f *watchedFolder) { f.serve(f.forked(300, 300)) }, domain.AlarmRollback, "", "anchor/600", "tree of 300 entries and the ledger anchors 600"},
		{"forked, same size", func(f *watchedFolder) { f.serve(f.forked(300, size)) }, domain.AlarmFork, "", "anchor/600", "tree of 600 entries"},
		{"forked, grown", func(f *watchedFolder) { f.serve(f.forked(300, 700)) }, domain.AlarmFork, "", "anchor/600", "tree of 700 entries whose first"},
		{"forked, tiles of the old tree", func(f *watchedFolder) {
			fork := filepath.Join(f.forked(300, 700), "checkpoint")
			files := http.StripPrefix("/v1/logs/police", http.FileServer(http.Dir(f.dir)))
			grow(f.t, f.log, 700, "entry")
			f.handle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/checkpoint") {
					http.ServeFile(w, r, fork)
					return
				}
				files.ServeHTTP(w, r)
			}))
		}, domain.AlarmChangedEntry, "", "edge/600", "right edge"},
		{"anchor without its predecessor", func(f *watchedFolder) {
			grow(f.t, f.log, 800, "entry")
			f.anchorAfter(700)
		}, domain.AlarmChangedEntry, "anchor_order", "anchor/800", "names one of size 700"},
		{"anchor that passes over another", func(f *watchedFolder) {
			grow(f.t, f.log, 800, "entry")
			f.anchorAfter(300)
		}, domain.AlarmChangedEntry, "anchor_order", "anchor/800", "size 600 was anchored before"},
		{"anchor after itself", func(f *watchedFolder) {
			grow(f.t, f.log, 800, "entry")
			f.anchorAfter(900)
		}, domain.AlarmChangedEntry, "anchor_order", "anchor/800", "follows one of size 900"},
	} {
		for _, first := range []bool{true, false} {
			if first && strings.HasSuffix(tt.name, "passes over another") {
				continue // whoever did not see the other cannot know
			}
			t.Run(fmt.Sprintf("%s, seen before %t", tt.name, !first), func(t *testing.T) {
				t.Parallel()
				f := newWatchedFolder(t)
				f.anchor(300)
				f.anchor(size)
				var w *service.Watcher
				if first {
					tt.do(f)
					w, _ = f.watch(f.options())
				} else {
					w, _ = f.watch(f.options())
					f.awaitVerified(w)
					tt.do(f)
				}
				got := f.awaitAlarm()
				rule, subject := tt.rule, tt.subject
				if rule == "" {
					rule = string(tt.kind)
				}
				if subject == "checkpoint/" { // names what was verified before
					subject += map[bool]string{true: "0", false: "600"}[first]
				}
				if got.Kind != tt.kind || got.Rule != rule || got.Subject != subject || got.About != "police" || !strings.Contains(got.Figures, tt.figures) {
					t.Errorf("alarm is %+v, want %s, rule %s, about %s: %q", got, tt.kind, rule, subject, tt.figures)
				}
				_, err := proof.OpenCheckpoint([]byte(got.Evidence), watchedOrigin, f.last.VerifierKey)
				if proves := tt.kind == domain.AlarmFork || tt.kind == domain.AlarmRollback; proves != (err == nil) || !proves && got.Evidence != "" {
					t.Errorf("evidence is %q, %v", got.Evidence, err)
				}
				await(t, "the status to say so", func() bool { return w.Status()[0].Problem != "" })
				if s := w.Status()[0]; s.Since.IsZero() || s.Department != "police" {
					t.Errorf("status is %+v", s)
				}
			})
		}
	}
}

// serveLog shows the log as its own gateway does, which reads the tiles it serves
// with checks of its own and says 500 of those that are damaged.
func (f *watchedFolder) serveLog() {
	f.handle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/v1/logs/police/")
		var level, index uint64
		var width uint8
		data, err := []byte(nil), error(nil)
		if n, _ := fmt.Sscanf(name, "tile/%d/%d.p/%d", &level, &index, &width); n >= 2 { // 2: of full width
			data, err = f.log.Tile(r.Context(), level, index, width)
		} else {
			var c accesslog.Checkpoint
			c, err = f.log.Checkpoint(r.Context())
			data = c.Note
		}
		switch {
		case err == nil:
			_, _ = w.Write(data) // a broken connection shows at the client
		case domain.KindOf(err) == domain.NotFound:
			http.NotFound(w, r)
		default:
			http.Error(w, "damaged", http.StatusInternalServerError)
		}
	}))
}

// A gateway keeps verified tiles in memory. What is changed on its disk afterwards
// is found all the same, in tiles of every level and width.
func TestWatcherBehindAGateway(t *testing.T) {
	for file, subject := range map[string]string{
		"tile/0/001":      "tile/0/001",
		"tile/0/002.p/88": "tile/0/002",
		"tile/1/000.p/2":  "tile/1/000",
	} {
		for name, damage := range map[string]func(*testing.T, string){
			"changed": flipByte,
			"dropped": func(t *testing.T, path string) {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			},
		} {
			t.Run(file+" "+name, func(t *testing.T) {
				t.Parallel()
				f := newWatchedFolder(t)
				f.serveLog()
				f.anchor(600)
				if _, err := f.log.InclusionProof(t.Context(), 300, 600); err != nil { // has the log keep the tiles
					t.Fatal(err)
				}
				w, _ := f.watch(f.options())
				f.awaitVerified(w)
				damage(t, filepath.Join(f.dir, file))
				if got := f.awaitAlarm(); got.Kind != domain.AlarmMissingTile || got.Subject != subject {
					t.Errorf("alarm is %+v, want a missing %s", got, subject)
				}
			})
		}
	}
}

// A fault that lasts is reported although the log goes on being anchored meanwhile,
// more often than the watcher is patient: once, by what it was when first seen.
func TestWatcherFaultOfALivelyLog(t *testing.T) {
	for name, test := range map[string]struct {
		checkpoint bool // of the copy is shown
		kind       domain.AlarmKind
		subject    string
	}{
		"no checkpoint": {false, domain.AlarmMissingTile, "checkpoint/300"},
		"rolled back":   {true, domain.AlarmRollback, "anchor/30"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newWatchedFolder(t)
			f.anchor(300)
			before := f.copied()
			if !test.checkpoint {
				if err := os.Remove(filepath.Join(before, "checkpoint")); err != nil {
					t.Fatal(err)
				}
			}
			o := f.options()
			o.Patience = 500 * time.Millisecond // an anchor takes about 100
			w, _ := f.watch(o)
			f.awaitVerified(w)
			f.serve(before)
			for size := 301; len(f.raised()) == 0; size++ {
				if size == 400 {
					t.Fatal("no alarm while the log was anchored 99 times")
				}
				f.anchor(size)
			}
			if got := f.raised(); len(got) != 1 || got[0].Kind != test.kind || !strings.HasPrefix(got[0].Subject, test.subject) {
				t.Errorf("alarms are %+v, want %s about %s", got, test.kind, test.subject)
			}
		})
	}
}

// A log that shows one tree to others and anchors another is found out as soon as
// an anchor covers what it showed.
func TestWatcherSplitView(t *testing.T) {
	f := newWatchedFolder(t)
	f.anchor(300)
	fork := f.forked(300, 400) // extends the anchor
	w, end := f.watch(f.kept(t))
	f.awaitVerified(w)
	f.serve(fork)
	await(t, "the forked checkpoint to be seen", func() bool {
		data, err := os.ReadFile(f.kept(t).File)
		return err == nil && strings.Contains(string(data), `\n400\n`)
	})
	end()
	if got := f.raised(); len(got) != 0 {
		t.Fatalf("alarm before there is a contradiction: %+v", got)
	}
	f.anchor(500)
	f.serve(f.dir)
	f.watch(f.kept(t)) // remembers over a restart
	got := f.awaitAlarm()
	want, err := os.ReadFile(filepath.Join(fork, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	if got.Kind != domain.AlarmFork || got.Subject != "anchor/500" || got.Evidence != string(want) {
		t.Errorf("alarm is %+v, want a fork with the checkpoint that was shown", got)
	}
}

// kept are options with a file of the folder.
func (f *watchedFolder) kept(t *testing.T) service.WatcherOptions {
	t.Helper()
	o := f.options()
	o.File = filepath.Join(filepath.Dir(f.dir), "watched.json")
	return o
}

// Signed trees must not shrink, anchored or not.
func TestWatcherUnanchoredRollback(t *testing.T) {
	f := newWatchedFolder(t)
	f.anchor(300)
	before := f.copied()
	w, _ := f.watch(f.kept(t))
	grow(t, f.log, 400, "entry")
	await(t, "the larger tree to be seen", func() bool {
		data, err := os.ReadFile(f.kept(t).File)
		return err == nil && strings.Contains(string(data), `\n400\n`)
	})
	f.awaitVerified(w)
	f.serve(before)
	if got := f.awaitAlarm(); got.Kind != domain.AlarmRollback || !strings.Contains(got.Figures, "400 entries, and later one of 300") {
		t.Errorf("alarm is %+v, want a rollback", got)
	}
}

// An honest log is grown, anchored, restarted, cut off and watched by watchers that
// come and go: there is never an alarm, and in the end all is verified.
func TestWatcherHonestRun(t *testing.T) {
	f := newWatchedFolder(t)
	o := f.kept(t)
	other := f.options() // one that keeps nothing
	w, end := f.watch(o)
	w2, _ := f.watch(other)
	size := 0
	for round := range 12 {
		size += []int{1, 255, 256, 1, 700, 13}[round%6]
		f.anchor(size)
		switch round % 4 {
		case 1: // the watcher restarts
			end()
			w, end = f.watch(o)
		case 2: // the log restarts
			f.handle(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
			if err := f.log.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			f.log = f.open(f.dir, f.key)
			f.serve(f.dir)
		case 3: // more than is anchored
			size += 300
			grow(t, f.log, size, "entry")
		}
	}
	f.anchor(size + 1)
	f.awaitVerified(w)
	f.awaitVerified(w2)
	// Every tile has been fetched again in order since.
	rounds := f.fetches("tile/0/000")
	await(t, "the first tile to be fetched again", func() bool { return f.fetches("tile/0/000") > rounds })
	if got := f.raised(); len(got) != 0 {
		t.Errorf("false alarms: %+v", got)
	}
}

// What was verified before a restart is not fetched again at once.
func TestWatcherResumes(t *testing.T) {
	f := newWatchedFolder(t)
	f.anchor(1000)
	o := f.kept(t)
	w, end := f.watch(o)
	f.awaitVerified(w)
	end()
	before := f.fetches("tile/0/002")
	o.Every = time.Minute // one look
	w, end = f.watch(o)
	f.awaitVerified(w)
	end()
	if got := f.fetches("tile/0/002"); got != before {
		t.Errorf("a verified tile was fetched %d times more", got-before)
	}

	for name, content := range map[string]string{
		"no file":                   "{",
		"another ledger":            `{"police": {"anchor": 1000, "root": "AAAA", "swept": 1000, "checkpoint": "x"}}`,
		"an anchor that is not":     `{"police": {"anchor": 999, "root": "AAAA", "swept": 999, "checkpoint": ""}}`,
		"more swept than there was": `{"police": {"anchor": 1000, "root": "` + f.last.Root + `", "swept": 9000, "checkpoint": ""}}`,
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(o.File, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			before := f.fetches("tile/0/002")
			w, end := f.watch(o)
			f.awaitVerified(w)
			end()
			if f.fetches("tile/0/002") == before {
				t.Error("what the file says is believed")
			}
		})
	}
	if got := f.raised(); len(got) != 0 {
		t.Errorf("false alarms: %+v", got)
	}
}

// A log that does not answer is a problem that shows, and an alarm only when it
// keeps anchored entries from being seen for long.
func TestWatcherUnreachable(t *testing.T) {
	silent := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	busy := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) })
	t.Run("verified before", func(t *testing.T) {
		t.Parallel()
		f := newWatchedFolder(t)
		f.anchor(300)
		o := f.options()
		o.Silence = time.Millisecond
		w, _ := f.watch(o)
		f.awaitVerified(w)
		f.handle(busy)
		seen := f.fetches("checkpoint")
		await(t, "some more looks", func() bool { return f.fetches("checkpoint") > seen+20 })
		if s := w.Status()[0]; !strings.Contains(s.Problem, "not reachable") || s.VerifiedSize != 300 {
			t.Errorf("status is %+v", s)
		}
		f.serve(f.dir)
		f.awaitVerified(w)
		if got := f.raised(); len(got) != 0 {
			t.Errorf("false alarms: %+v", got)
		}
	})
	t.Run("for a while", func(t *testing.T) {
		t.Parallel()
		f := newWatchedFolder(t)
		f.anchor(300)
		f.handle(busy)
		w, _ := f.watch(f.options()) // with a long silence
		await(t, "some looks", func() bool { return f.fetches("checkpoint") > 20 })
		if s := w.Status()[0]; !strings.Contains(s.Problem, "not reachable") || s.AnchoredSize != 300 {
			t.Errorf("status is %+v", s)
		}
		f.serve(f.dir)
		f.awaitVerified(w)
		if got := f.raised(); len(got) != 0 {
			t.Errorf("false alarms: %+v", got)
		}
	})
	t.Run("for too long", func(t *testing.T) {
		t.Parallel()
		f := newWatchedFolder(t)
		f.anchor(300)
		f.handle(busy)
		o := f.options()
		o.Silence = 100 * time.Millisecond
		f.watch(o)
		if got := f.awaitAlarm(); got.Kind != domain.AlarmMissingTile || got.Rule != "unreachable" || got.Subject != "unreachable/0" {
			t.Errorf("alarm is %+v", got)
		}
	})
	t.Run("silent server", func(t *testing.T) {
		t.Parallel()
		f := newWatchedFolder(t)
		f.anchor(300)
		f.handle(silent)
		_, end := f.watch(f.options())
		await(t, "a request", func() bool { return f.fetches("checkpoint") > 0 })
		begin := time.Now()
		end()
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("ending took %v", took)
		}
		if got := f.raised(); len(got) != 0 {
			t.Errorf("false alarms: %+v", got)
		}
	})
}

func TestWatcherBacklog(t *testing.T) {
	f := newWatchedFolder(t)
	f.anchor(300)
	grow(t, f.log, 301, "entry")
	var heard atomic.Bool
	o := f.options()
	o.Silence = 50 * time.Millisecond
	o.Heard = func() time.Time {
		if heard.Load() {
			return time.Now()
		}
		return time.Now().Add(-time.Hour)
	}
	w, _ := f.watch(o)
	f.awaitVerified(w)
	seen := f.fetches("checkpoint")
	await(t, "some more looks", func() bool { return f.fetches("checkpoint") > seen+30 })
	if got := f.raised(); len(got) != 0 {
		t.Fatalf("alarm while the ledger is not heard: %+v", got)
	}
	heard.Store(true)
	if got := f.awaitAlarm(); got.Kind != domain.AlarmBacklog || got.Subject != "anchor/300" {
		t.Errorf("alarm is %+v", got)
	}
	f.anchor(301)
	f.awaitVerified(w)
}

// An alarm that the ledger does not take is raised again, one that it has is not,
// and all watchers raise the same one.
func TestWatcherRaises(t *testing.T) {
	f := newWatchedFolder(t)
	f.anchor(300)
	f.serve(f.forked(100, 300))
	var tries atomic.Int64
	o := f.options()
	o.Raise = func(ctx context.Context, args domain.RaiseAlarmArgs) error {
		switch tries.Add(1) {
		case 1:
			return errors.New("no orderer")
		case 2:
			_ = f.raise(ctx, args) // by another watcher, a moment ago
			return &domain.Error{Kind: domain.Exists, Msg: "there is one"}
		}
		return f.raise(ctx, args)
	}
	f.watch(o)
	f.awaitAlarm()
	seen := f.fetches("checkpoint")
	await(t, "some more looks", func() bool { return f.fetches("checkpoint") > seen+20 })
	if got := tries.Load(); got != 2 {
		t.Errorf("raised %d times, want 2", got)
	}
	second := f.options()
	second.Own = "market"
	f.watch(second)
	await(t, "the other watcher's alarm", func() bool { return len(f.raised()) == 2 })
	got := f.raised()
	if a, b := got[0], got[1]; domain.AlarmID(a.Kind, a.About, a.Subject) != domain.AlarmID(b.Kind, b.About, b.Subject) {
		t.Errorf("two watchers raise two alarms: %+v", got)
	}
}

// A watcher does not watch its own log, and one without others waits for its end.
func TestWatcherAlone(t *testing.T) {
	f := newWatchedFolder(t)
	o := f.options()
	o.Own = "police"
	w, end := f.watch(o)
	if got := w.Status(); len(got) != 0 {
		t.Errorf("watched are %+v", got)
	}
	end()
}

// A log without an anchor cannot be judged.
func TestWatcherBeforeTheFirstAnchor(t *testing.T) {
	f := newWatchedFolder(t)
	var logs bytes.Buffer
	o := f.options()
	o.Logger = slog.New(slog.NewTextHandler(&logs, nil))
	w, end := f.watch(o)
	grow(t, f.log, 10, "entry")
	if s := w.Status()[0]; s.Problem != "" || s.VerifiedSize != 0 {
		t.Errorf("status is %+v", s)
	}
	f.anchor(20)
	f.awaitVerified(w)
	end()
	if strings.Contains(logs.String(), "alarm") {
		t.Errorf("log says %s", &logs)
	}
}
