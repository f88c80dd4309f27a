// Package tilelog is a department's access log in a folder of tiles: an
// [accesslog.Log] on transparency-dev/tessera, in the C2SP layouts tlog-tiles
// and tlog-checkpoint. A web server can serve the folder as it is, except .state
// and gateway.lock, to those who may see the department's access records: the
// entry bundles hold them.
//
// # Durability
//
// [Log.Append] answers when its entries are in the log's journal, written with
// O_DSYNC: they survive the process and the machine, and their indexes are settled.
// Some tenths of a second later they are in the tree, of which Tessera writes all
// that changes: with POSIX storage (read in v1.0.4) every entry bundle and hash tile
// of a batch, then the tree state that makes them part of the tree, are written with
// O_SYNC to a temporary file, renamed, and their folders synced. A batch cut off
// before its tree state is overwritten by the next one. Until the tree state says
// that it has them the journal keeps the entries, and [Open] puts into the tree what a
// process that was killed left there.
//
// After a failed write nobody knows what the disk holds (a failed fsync is not
// reported twice). The log then refuses every further append with the first
// error until it is opened anew: see [Log.Failed]. A failed write of a checkpoint
// is not among these: no acknowledgement depends on it, and Tessera writes the
// whole file anew until it succeeds.
//
// # Reading
//
// Whatever is read is checked against the root in the signed checkpoint on the
// way: an entry against its hash, a tile against the one above it. A file that
// was changed, cut or removed is a [*DamageError] that names it, on opening when
// it lies on the tree's right edge, else when it is read. A folder put back whole
// from an older copy, or with another history under the same key, is a log like
// any other: only those see it who remember a tree head, namely the ledger, which
// refuses its anchors, and the watchers of the other departments.
//
// # Load
//
// The entries that wait to be written are bounded: beyond [Options].MaxWaiting an
// append is refused at once, with nothing stored.
//
// # Order
//
// One goroutine gives indexes to the entries of several appends as one group, in the
// order given, and another adds them to the tree in that order. Tessera flushes a
// batch when it is full or when its timer fires, and two batches could overtake one
// another. So the entries are added in parts that are a batch each, one when the other
// is done, and no part takes longer to add than half of the timer's time. Should an
// entry come to lie elsewhere all the same, the log fails at once.
package tilelog

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
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
	"sync/atomic"
	"syscall"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"k8s.io/klog/v2"

	"github.com/zhenglian/zhenglian/gateway/accesslog"
)

const (
	groupSize  = 2048            // most entries of one group
	maxWaiting = 8192            // entries that may wait when Options do not say
	maxBacklog = 4 * groupSize   // entries in the journal that the tree does not have, beyond which appends wait
	gcInterval = 5 * time.Second // of partial tiles; Tessera removes at most 100 bundles' worth each time

	// batchAge is how long Tessera waits for more of a batch that is not full. All
	// that comes meanwhile is the next one: a tree's edge is written ten times a second
	// at most while there are fewer entries than fill a batch.
	batchAge = 100 * time.Millisecond
)

// Options are the settings of a log.
type Options struct {
	// Dir is the log's folder. It is created when it is not there.
	Dir string
	// Origin is the log's name in its checkpoints. It must be the name in Key.
	Origin string
	// Key is the private key in the text form of golang.org/x/mod/sumdb/note,
	// Ed25519.
	Key string
	// CheckpointInterval is how often a grown tree is signed and published; the
	// zero value means 200 ms: whoever waits for an anchor waits for it first.
	// Tessera takes no less than 100 ms.
	CheckpointInterval time.Duration
	// MaxWaiting is how many entries may wait to be written before Append answers
	// [*accesslog.BusyError]; the zero value means 8192.
	MaxWaiting int
	// Logger takes what Tessera has to say. Tessera knows but one logger for the
	// whole process: the first one given to [Open] counts. Without one it writes
	// to standard error in its own form.
	Logger *slog.Logger
}

// setLogger guards Tessera's logger, which must not change while it is in use.
var setLogger sync.Once

// Log is an access log in a folder. It is safe for concurrent use by one process;
// a second one is refused.
type Log struct {
	dir         string
	origin      string
	signer      note.Signer
	verifier    note.Verifier
	verifierKey string

	lock     *os.File
	add      tessera.AddFn
	reader   tessera.LogReader
	shutdown func(context.Context) error
	stop     context.CancelFunc // of Tessera's goroutines

	queue      *queue
	appends    chan *appendCall
	closing    chan struct{} // closed by Close: no append may begin
	written    chan struct{} // closed when the writing goroutine has ended
	journal    *journal      // of the writing goroutine
	next       uint64        // the index of the next entry; the same
	backlog    *backlog
	integrated atomic.Uint64 // entries that the tree has
	complete   chan struct{} // closed when the integrating goroutine has ended
	once       sync.Once
	closed     error

	latest atomic.Pointer[accesslog.Checkpoint] // the last that was read and verified
	tiles  *lru.Cache[tlog.Tile, *nodes]        // full ones above the lowest level that were verified
	edge   atomic.Pointer[edge]                 // of the tree that was read last

	mu     sync.Mutex
	failed error
}

var (
	_ accesslog.Log   = (*Log)(nil)
	_ accesslog.Tiles = (*Log)(nil)
)

// LockedError says that another process, or this one, has the log open.
type LockedError struct{ Dir string }

func (e *LockedError) Error() string {
	return fmt.Sprintf("the access log in %s is in use: another gateway has it open; stop that one first", e.Dir)
}

// Open opens the log in o.Dir or begins one there. It refuses a folder whose
// checkpoint another key signed or does not match the tiles: a log that went on
// from there could never be anchored.
func Open(ctx context.Context, o Options) (*Log, error) {
	l, err := open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("open access log %s: %w", o.Dir, err)
	}
	return l, nil
}

func open(ctx context.Context, o Options) (_ *Log, err error) {
	if o.MaxWaiting == 0 {
		o.MaxWaiting = maxWaiting
	}
	l := &Log{
		dir: o.Dir, origin: o.Origin,
		queue: &queue{most: o.MaxWaiting}, appends: make(chan *appendCall, o.MaxWaiting),
		closing: make(chan struct{}), written: make(chan struct{}), backlog: newBacklog(), complete: make(chan struct{}),
	}
	if l.tiles, err = lru.New[tlog.Tile, *nodes](cachedTiles); err != nil {
		return nil, err
	}
	if l.signer, l.verifier, l.verifierKey, err = parseKey(o.Key, o.Origin); err != nil {
		return nil, err
	}
	if o.CheckpointInterval == 0 {
		o.CheckpointInterval = 200 * time.Millisecond
	}
	if o.Logger != nil {
		setLogger.Do(func() { klog.SetSlogLogger(o.Logger) })
	}
	if err := makeDir(filepath.Clean(o.Dir)); err != nil {
		return nil, err
	}
	if l.lock, err = lock(o.Dir); err != nil {
		return nil, err
	}
	// Tessera's goroutines outlive ctx, which is for opening only.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	defer func() {
		if err != nil {
			stop()
			_ = unlock(l.lock) // the error that matters is err
		}
	}()
	stored, err := l.checkStored()
	if err != nil {
		return nil, err
	}
	driver, err := posix.New(ctx, posix.Config{Path: o.Dir})
	if err != nil {
		return nil, err
	}
	appender, shutdown, reader, err := tessera.NewAppender(background, driver, tessera.NewAppendOptions().
		WithCheckpointSigner(l.signer).
		WithCheckpointInterval(o.CheckpointInterval).
		WithCheckpointRepublishInterval(0). // the same tree signed again says nothing new
		WithBatching(groupSize, batchAge).
		WithPushback(2*groupSize). // never reached: one batch at a time
		WithGarbageCollectionInterval(gcInterval))
	if err != nil {
		return nil, err
	}
	l.add, l.reader, l.shutdown = appender.Add, reader, shutdown
	if err := l.checkTree(ctx, stored); err != nil {
		return nil, err
	}
	if err := l.replay(ctx, stored.Size); err != nil {
		return nil, err
	}
	go l.write()     //nolint:contextcheck // it outlives this call and ends with Close
	go l.integrate() //nolint:contextcheck // the same
	return l, nil
}

// replay puts into the tree of size entries what the journal holds besides, and
// waits for a checkpoint that covers it: whoever opens the log may rely on that.
func (l *Log) replay(ctx context.Context, size uint64) (err error) {
	var entries [][]byte
	if l.journal, entries, err = openJournal(l.dir, size); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = l.journal.close() // the error that matters is err
		}
	}()
	l.integrated.Store(size)
	for part := range slices.Chunk(entries, groupSize) {
		batch := make([]*tessera.Entry, len(part))
		for i, e := range part {
			batch[i] = tessera.NewEntry(e)
		}
		if err := l.sequence(ctx, batch); err != nil {
			return err
		}
	}
	l.next = size + uint64(len(entries))
	return l.awaitCheckpoint(ctx, l.next)
}

// makeDir creates dir where it is missing, durably: a record in a folder whose
// own name is lost is lost too.
func makeDir(dir string) error {
	err := os.Mkdir(dir, 0o755) //nolint:gosec // as Tessera makes those within; the folder above decides who enters
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeDir(filepath.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o755) //nolint:gosec // the same
	}
	if errors.Is(err, fs.ErrExist) {
		return nil // what else may bear that name shows when it is used
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// lock takes the folder for this process. The lock ends with the process,
// however it ends.
func lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "gateway.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	// flock, not fcntl: it also keeps out a second Open in this process.
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, &LockedError{Dir: dir}
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	return f, nil
}

// unlock gives the folder free at once: closing alone would leave it locked while
// a process that is being started still holds a copy of the file.
func unlock(f *os.File) error {
	return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
}

// parseKey reads the signer key text and derives the verifier key text.
func parseKey(key, origin string) (note.Signer, note.Verifier, string, error) {
	key = strings.TrimSpace(key)
	signer, err := note.NewSigner(key)
	if err != nil {
		return nil, nil, "", errors.New("the log's key is not a private key in note form (PRIVATE+KEY+name+hash+data)") // never the key's text
	}
	if signer.Name() != origin {
		return nil, nil, "", fmt.Errorf("the log's key is named %q and the log's origin is %q: they must be equal", signer.Name(), origin)
	}
	verifierKey, err := VerifierKey(key)
	if err != nil {
		return nil, nil, "", err
	}
	verifier, err := note.NewVerifier(verifierKey)
	return signer, verifier, verifierKey, err
}

// VerifierKey answers the verifier key of an Ed25519 signer key, both in the text
// form of golang.org/x/mod/sumdb/note, which has no way from one to the other.
func VerifierKey(signerKey string) (string, error) {
	parts := strings.SplitN(signerKey, "+", 5) // PRIVATE+KEY+name+hash+data
	if len(parts) != 5 {
		return "", errors.New("the log's key is not a private key in note form (PRIVATE+KEY+name+hash+data)")
	}
	data, err := base64.StdEncoding.DecodeString(parts[4]) // an algorithm byte, 1 for Ed25519, and the seed
	if err != nil || len(data) != 1+ed25519.SeedSize || data[0] != 1 {
		return "", errors.New("the log's key is not an Ed25519 key")
	}
	return note.NewEd25519VerifierKey(parts[2], ed25519.NewKeyFromSeed(data[1:]).Public().(ed25519.PublicKey))
}

// treeState is the state of the tree as Tessera keeps it, unsigned.
type treeState struct {
	Size uint64 `json:"size"`
	Root []byte `json:"root"`
}

// checkStored checks the signature over what an earlier process left, before
// anything is written, and answers the tree. A new log is one of size 0.
func (l *Log) checkStored() (treeState, error) {
	var stored treeState
	// Tessera has no call for the root of a tree that no checkpoint covers yet.
	state, err := os.ReadFile(filepath.Join(l.dir, ".state", "treeState"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return treeState{}, err
	default:
		if err := json.Unmarshal(state, &stored); err != nil {
			return treeState{}, fmt.Errorf("its tree state cannot be read: %w; restore the folder from a backup", err)
		}
	}
	raw, err := os.ReadFile(filepath.Join(l.dir, "checkpoint"))
	if errors.Is(err, fs.ErrNotExist) {
		if stored.Size > 0 {
			return treeState{}, fmt.Errorf("it holds %d records and no checkpoint; restore the folder from a backup", stored.Size)
		}
		return stored, nil
	}
	if err != nil {
		return treeState{}, err
	}
	cp, err := l.parseCheckpoint(raw)
	if err != nil {
		return treeState{}, fmt.Errorf("its checkpoint does not verify with the configured key %s (%w): configure the key and origin that this log began with, or another folder", l.verifierKey, err)
	}
	if cp.Size > stored.Size {
		return treeState{}, fmt.Errorf("its checkpoint speaks of %d records and the tree has %d: the folder is a mixture; restore it from a backup", cp.Size, stored.Size)
	}
	if stored.Size > 0 && len(stored.Root) != tlog.HashSize {
		return treeState{}, fmt.Errorf("its tree state has a root of %d bytes; restore the folder from a backup", len(stored.Root))
	}
	return stored, nil
}

// checkTree checks that the tiles along the tree's right edge hash to the stored
// root, that the published tree is a beginning of it, and that the entries which
// the next append writes again are those of the tree: what a torn or mixed folder
// shows at once. What lies further left shows when it is read.
func (l *Log) checkTree(ctx context.Context, stored treeState) error {
	if stored.Size == 0 {
		return nil
	}
	cp, err := l.Checkpoint(ctx)
	if err != nil {
		return err
	}
	hashes := l.hashes(ctx, stored.Size, stored.Root)
	if _, err := hashes.ReadHashes(nil); err != nil {
		return err
	}
	root, err := tlog.TreeHash(int64(cp.Size), hashes)
	if err != nil {
		return err
	}
	if !bytes.Equal(root[:], cp.Root) {
		return &DamageError{Files: []string{layout.CheckpointPath}, Problem: fmt.Sprintf("its root is not that of the first %d records", cp.Size)}
	}
	if n := stored.Size / layout.EntryBundleWidth * layout.EntryBundleWidth; n < stored.Size {
		_, err = l.entries(ctx, hashes, stored.Size, n, stored.Size)
	}
	return err
}

// awaitCheckpoint waits until a checkpoint of at least size is published: what a
// killed process left unpublished, and the first one of a new log.
func (l *Log) awaitCheckpoint(ctx context.Context, size uint64) error {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		cp, err := l.Checkpoint(ctx)
		switch {
		case err == nil && cp.Size >= size:
			return nil
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the first checkpoint: %w", ctx.Err())
		}
	}
}

// Origin implements [accesslog.Log].
func (l *Log) Origin() string { return l.origin }

// VerifierKey implements [accesslog.Log].
func (l *Log) VerifierKey() string { return l.verifierKey }

// Checkpoint implements [accesslog.Log]. A signature that was verified once is
// not verified again.
func (l *Log) Checkpoint(ctx context.Context) (accesslog.Checkpoint, error) {
	raw, err := l.reader.ReadCheckpoint(ctx)
	if err != nil {
		return accesslog.Checkpoint{}, fmt.Errorf("read checkpoint of %s: %w", l.origin, err)
	}
	latest := l.latest.Load()
	if latest == nil || !bytes.Equal(latest.Note, raw) {
		cp, err := l.parseCheckpoint(raw)
		if err != nil {
			return accesslog.Checkpoint{}, fmt.Errorf("read checkpoint of %s: %w", l.origin, err)
		}
		latest = &accesslog.Checkpoint{Origin: cp.Origin, Size: cp.Size, Root: cp.Hash, Note: raw}
		l.latest.Store(latest)
	}
	return accesslog.Checkpoint{Origin: latest.Origin, Size: latest.Size, Root: bytes.Clone(latest.Root), Note: bytes.Clone(latest.Note)}, nil
}

func (l *Log) parseCheckpoint(raw []byte) (*log.Checkpoint, error) {
	cp, _, _, err := log.ParseCheckpoint(raw, l.origin, l.verifier)
	if err != nil {
		return nil, err
	}
	if len(cp.Hash) != rfc6962.DefaultHasher.Size() {
		return nil, fmt.Errorf("the root hash has %d bytes", len(cp.Hash))
	}
	return cp, nil
}

// Close ends the log: it refuses new appends, waits for those under way and for
// a checkpoint that covers them, and gives the folder free. When ctx ends first
// nothing acknowledged is lost, only not yet in a checkpoint; if something is still
// being written then, the folder is free when the process ends.
func (l *Log) Close(ctx context.Context) error {
	l.once.Do(func() {
		close(l.closing)
		select {
		case <-l.complete:
		case <-ctx.Done():
			l.closed = fmt.Errorf("close access log %s: %w", l.origin, ctx.Err())
			l.stop()
			return
		}
		if err := l.shutdown(ctx); err != nil && l.Failed() == nil { // a failed log publishes no more
			l.closed = fmt.Errorf("publish the last checkpoint of %s: %w", l.origin, err)
		}
		l.stop()
		l.closed = errors.Join(l.closed, l.journal.close(), unlock(l.lock))
	})
	return l.closed
}
