package service

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/sync/errgroup"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/evidence"
	"github.com/zhenglian/zhenglian/gateway/remotelog"
	"github.com/zhenglian/zhenglian/proof"
)

const (
	// maxCatchUp is how many anchors a watcher that comes late checks one by one.
	// The tree of the newest holds the entries of them all; the order of the
	// older ones is the chaincode's and the auditor's to check.
	maxCatchUp = 10_000

	// sweepTiles is how many new tiles one look fetches; what was found is kept
	// after every sweepGroup of them, of which fetchAtOnce are asked for at a time.
	sweepTiles  = 512
	sweepGroup  = 64
	fetchAtOnce = 4

	// Every recheckLooks looks without a fault, recheckTiles tiles that were
	// verified before are fetched again, the whole log in turn.
	recheckLooks = 4
	recheckTiles = 8
)

// ruleCheckpoint is the rule of an alarm about a log without a checkpoint of its own.
const ruleCheckpoint = "checkpoint"

// faultError is something wrong with a log.
type faultError struct {
	kind     domain.AlarmKind
	rule     string // "" means the kind
	subject  string
	lasting  string // what the subject is about where that names a size which grows; "" where it does not
	figures  string
	evidence string        // signed checkpoint, for a fork or rollback
	wait     time.Duration // how long it must last to be an alarm; negative: it never is
	cause    error         // for the operator, not for the ledger; may be nil
}

func (f *faultError) Error() string {
	if f.cause != nil {
		return fmt.Sprintf("%s: %v", f.figures, f.cause)
	}
	return f.figures
}

// key tells faults apart. One that lasts while the log goes on being anchored is
// the same from look to look.
func (f *faultError) key() string {
	return string(f.kind) + " " + cmp.Or(f.lasting, f.subject)
}

// pendingFault is a fault that was seen and may pass.
type pendingFault struct {
	subject string // when it was first seen
	since   time.Time
	looks   int
	raised  bool
}

// watchedLog watches one log. All but status belongs to one goroutine.
type watchedLog struct {
	*Watcher
	department domain.DepartmentCode
	remote     remotelog.Log
	head       proof.Checkpoint // of tree
	tree       *evidence.Tree   // that the last checkpoint signs

	progress  watchProgress
	confirmed bool // progress was held against this ledger
	anchored  uint64
	ahead     aheadSince
	pending   map[string]*pendingFault // until a look without a fault
	looks     int                      // without a fault
	recheckAt uint64                   // number of the next tile to fetch again

	status atomic.Pointer[WatchedLog]
}

// aheadSince is since when a log holds more than its last anchor.
type aheadSince struct {
	anchor uint64
	since  time.Time
}

func newWatchedLog(w *Watcher, department domain.DepartmentCode, remote remotelog.Log, kept watchProgress) *watchedLog {
	l := &watchedLog{Watcher: w, department: department, remote: remote, progress: kept, pending: make(map[string]*pendingFault)}
	l.status.Store(&WatchedLog{Department: department})
	return l
}

// step looks at the log once and deals with what it finds.
func (l *watchedLog) step(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, lookWait)
	defer cancel()
	err := l.look(bounded)
	if ctx.Err() != nil {
		return
	}
	if bounded.Err() != nil && err != nil {
		err = l.unreachable(err) // too slow to say what is wrong with it
	}
	if err := l.keep(l.department, l.progress); err != nil {
		l.Logger.Warn("progress of the watch is not kept", "error", err)
	}
	var fault *faultError
	if errors.As(err, &fault) {
		l.deal(ctx, fault)
	} else if err == nil {
		clear(l.pending)
	}
	l.publish(err)
}

// publish makes Status answer what the look found.
func (l *watchedLog) publish(err error) {
	before := l.status.Load()
	now := WatchedLog{Department: l.department, VerifiedSize: min(l.progress.Swept, l.progress.Anchor), AnchoredSize: l.anchored}
	if err != nil {
		now.Problem, now.Since = err.Error(), before.Since
		if before.Problem == "" {
			now.Since = l.Clock()
		}
	}
	if now.Problem != before.Problem {
		l.Logger.Info("watched log", "log", l.department, "problem", now.Problem, "verifiedSize", now.VerifiedSize)
	}
	l.status.Store(&now)
}

// deal raises the alarm of a fault that has lasted long enough. It is tried again
// with every look until the ledger has it.
func (l *watchedLog) deal(ctx context.Context, fault *faultError) {
	now := l.Clock()
	p := l.pending[fault.key()]
	if p == nil {
		p = &pendingFault{subject: fault.subject, since: now}
		l.pending[fault.key()] = p
	}
	p.looks++
	if p.raised || fault.wait < 0 || now.Sub(p.since) < fault.wait || fault.wait > 0 && p.looks < 2 {
		return
	}
	args := domain.RaiseAlarmArgs{
		Kind: fault.kind, About: l.department, Subject: p.subject, Rule: fault.rule,
		Figures: fault.figures, Records: []domain.RecordRef{}, Evidence: fault.evidence,
	}
	if args.Rule == "" {
		args.Rule = string(fault.kind)
	}
	ctx, cancel := context.WithTimeout(ctx, lookWait)
	defer cancel()
	if err := l.Raise(ctx, args); err != nil && domain.KindOf(err) != domain.Exists {
		l.Logger.Error("alarm not recorded", "log", l.department, "kind", fault.kind, "subject", p.subject, "figures", fault.figures, "error", err)
		return
	}
	p.raised = true
	l.Logger.Error("alarm", "log", l.department, "kind", fault.kind, "subject", p.subject, "figures", fault.figures)
}

// look holds the log against the ledger's anchors. What is wrong with the log is a
// [*faultError]; any other error is this gateway's own.
func (l *watchedLog) look(ctx context.Context) error {
	registration, err := l.registration(ctx)
	if err != nil || registration.Size == 0 {
		return err // without an anchor there is nothing to hold it against
	}
	l.anchored = registration.Size
	if err := l.confirm(ctx, registration.Size); err != nil {
		return err
	}
	heads, err := l.newAnchors(ctx, registration)
	if err != nil {
		return err
	}
	checkpoint, note, err := l.checkpoint(ctx, registration)
	if err != nil {
		return err
	}
	if err := l.against(checkpoint, note, registration); err != nil {
		return err
	}
	l.remember(checkpoint, note, registration)
	if l.tree == nil || l.head != checkpoint {
		l.head, l.tree = checkpoint, evidence.OpenTree(l.remote, checkpoint.Size, checkpoint.Root)
	}
	if err := l.checkHeads(ctx, heads, checkpoint, note, registration); err != nil {
		return err
	}
	if err := l.checkSeen(ctx, checkpoint, note, registration); err != nil {
		return err
	}
	l.advance(registration)
	if err := l.sweep(ctx); err != nil {
		return err
	}
	if err := l.recheck(ctx); err != nil {
		return err
	}
	return l.checkAhead(checkpoint, registration)
}

// registration reads the log's registration with its last anchor, a zero one when
// there is none.
func (l *watchedLog) registration(ctx context.Context) (domain.LogRegistration, error) {
	var registration domain.LogRegistration
	record, err := l.Index.Get(ctx, domain.KindLog, string(l.department))
	if domain.KindOf(err) == domain.NotFound {
		return registration, nil
	}
	if err == nil {
		err = domain.ParseCanonical(record.Value, &registration)
	}
	if err != nil {
		return registration, fmt.Errorf("read the registration of the log of %s: %w", l.department, err)
	}
	return registration, nil
}

// anchor reads an anchor of the log.
func (l *watchedLog) anchor(ctx context.Context, size uint64) (domain.Anchor, error) {
	var anchor domain.Anchor
	record, err := l.Index.Get(ctx, domain.KindAnchor, domain.AnchorID(l.department, size))
	if err == nil {
		err = domain.ParseCanonical(record.Value, &anchor)
	}
	if err != nil {
		return anchor, fmt.Errorf("read the anchor of %s at size %d: %w", l.department, size, err)
	}
	return anchor, nil
}

// confirm forgets, once, a progress that was kept of another ledger. An index that
// is still behind the progress says nothing yet.
func (l *watchedLog) confirm(ctx context.Context, anchored uint64) error {
	if l.confirmed || anchored < l.progress.Anchor {
		return nil
	}
	if l.progress.Anchor > 0 {
		anchor, err := l.anchor(ctx, l.progress.Anchor)
		if err != nil && domain.KindOf(err) != domain.NotFound {
			return err
		}
		if err != nil || anchor.Root != l.progress.Root || l.progress.Swept > l.progress.Anchor {
			l.Logger.Warn("the kept progress is of another ledger: the watch begins anew", "log", l.department)
			l.progress = watchProgress{}
		}
	}
	l.confirmed = true
	return nil
}

// treeHead is an anchored size and root.
type treeHead struct {
	size uint64
	root [sha256.Size]byte
}

// newAnchors answers the anchors that were not checked yet, newest first, and
// checks that each follows the one it names.
func (l *watchedLog) newAnchors(ctx context.Context, registration domain.LogRegistration) ([]treeHead, error) {
	var heads []treeHead
	for size := registration.Size; size > l.progress.Anchor && len(heads) < maxCatchUp; {
		anchor, err := l.anchor(ctx, size)
		if domain.KindOf(err) == domain.NotFound && len(heads) > 0 {
			return nil, l.outOfOrder(registration, fmt.Sprintf("the anchor of size %d names one of size %d before it, which the ledger does not have", heads[len(heads)-1].size, size))
		}
		if err != nil {
			return nil, err
		}
		checkpoint, err := proof.OpenCheckpoint([]byte(anchor.Checkpoint), registration.Origin, registration.VerifierKey)
		if err != nil {
			return nil, l.outOfOrder(registration, fmt.Sprintf("the anchor of size %d holds no checkpoint signed by the log", size))
		}
		if anchor.Size != size || checkpoint.Size != size || base64.StdEncoding.EncodeToString(checkpoint.Root[:]) != anchor.Root {
			return nil, l.outOfOrder(registration, fmt.Sprintf("the anchor of size %d holds a checkpoint of size %d or another root", size, checkpoint.Size))
		}
		if anchor.PreviousSize >= size {
			return nil, l.outOfOrder(registration, fmt.Sprintf("the anchor of size %d follows one of size %d", size, anchor.PreviousSize))
		}
		if anchor.PreviousSize < l.progress.Anchor {
			return nil, l.outOfOrder(registration, fmt.Sprintf("the anchor of size %d follows one of size %d, and size %d was anchored before", size, anchor.PreviousSize, l.progress.Anchor))
		}
		heads = append(heads, treeHead{size, checkpoint.Root})
		size = anchor.PreviousSize
	}
	return heads, nil
}

// outOfOrder says that the anchors themselves contradict one another. The chaincode
// lets no such anchor in: whoever made it got round the chaincode, or this index
// is not the ledger.
func (l *watchedLog) outOfOrder(registration domain.LogRegistration, figures string) error {
	return &faultError{kind: domain.AlarmChangedEntry, rule: "anchor_order", subject: anchorSubject(registration.Size), lasting: "anchor", figures: figures, wait: l.Patience}
}

func anchorSubject(size uint64) string { return fmt.Sprintf("anchor/%d", size) }

// checkpointSubject is the subject of a checkpoint that a log does not show, or
// that is none of its own, after size anchored entries were verified.
func checkpointSubject(size uint64) string { return fmt.Sprintf("checkpoint/%d", size) }

// checkpoint fetches the log's checkpoint and checks its signature.
func (l *watchedLog) checkpoint(ctx context.Context, registration domain.LogRegistration) (proof.Checkpoint, string, error) {
	note, err := l.remote.Checkpoint(ctx)
	var form *remotelog.FormError
	switch {
	case err == nil:
		checkpoint, err := proof.OpenCheckpoint(note, registration.Origin, registration.VerifierKey)
		if err == nil {
			return checkpoint, string(note), nil
		}
		return checkpoint, "", l.noCheckpoint(domain.AlarmChangedEntry, registration, "the log shows a checkpoint that is not signed with its registered key, or not in form")
	case errors.As(err, &form):
		return proof.Checkpoint{}, "", l.noCheckpoint(domain.AlarmChangedEntry, registration, "the log shows something else than a checkpoint")
	case domain.KindOf(err) == domain.NotFound, statusOf(err) == statusFailed:
		return proof.Checkpoint{}, "", l.noCheckpoint(domain.AlarmMissingTile, registration, "the log answers and shows no checkpoint")
	default:
		return proof.Checkpoint{}, "", l.unreachable(err)
	}
}

func (l *watchedLog) noCheckpoint(kind domain.AlarmKind, registration domain.LogRegistration, figures string) error {
	return &faultError{
		kind: kind, rule: ruleCheckpoint, subject: checkpointSubject(l.progress.Anchor),
		figures: fmt.Sprintf("%s; the ledger anchors %d entries", figures, registration.Size), wait: l.Patience,
	}
}

// statusFailed is the HTTP status with which a log says that it cannot give what
// it should have, as that of a gateway whose files are damaged.
const statusFailed = 500

// statusOf answers the HTTP status that an unreachable log answered, 0 for none.
func statusOf(err error) int {
	var unreachable *remotelog.UnreachableError
	if errors.As(err, &unreachable) {
		return unreachable.Status
	}
	return 0
}

// unreachable is the fault of a log that does not answer. Whoever has nothing
// unseen on the ledger may be away for as long as it likes.
func (l *watchedLog) unreachable(err error) error {
	verified := min(l.progress.Swept, l.progress.Anchor)
	wait := l.Silence
	if verified >= l.anchored {
		wait = -1
	}
	return &faultError{
		kind: domain.AlarmMissingTile, rule: "unreachable", subject: fmt.Sprintf("unreachable/%d", verified), wait: wait, cause: err,
		figures: fmt.Sprintf("the log is not reachable; of %d anchored entries %d were verified before", l.anchored, verified),
	}
}

// against holds the checkpoint against the last anchor without asking for tiles.
func (l *watchedLog) against(checkpoint proof.Checkpoint, note string, registration domain.LogRegistration) error {
	switch {
	case checkpoint.Size < registration.Size:
		return &faultError{
			kind: domain.AlarmRollback, subject: anchorSubject(registration.Size), lasting: "anchor", evidence: note, wait: l.Patience,
			figures: fmt.Sprintf("the log signs a tree of %d entries and the ledger anchors %d", checkpoint.Size, registration.Size),
		}
	case checkpoint.Size == registration.Size && base64.StdEncoding.EncodeToString(checkpoint.Root[:]) != registration.Root:
		return l.fork(note, registration.Size, fmt.Sprintf("the log signs a tree of %d entries with the root %s, and the ledger anchors another", checkpoint.Size, shortHash(checkpoint.Root)))
	}
	return nil
}

// fork is a fault that its evidence proves: it needs no patience.
func (l *watchedLog) fork(note string, anchor uint64, figures string) error {
	return &faultError{kind: domain.AlarmFork, subject: anchorSubject(anchor), evidence: note, figures: figures}
}

// shortHash is enough of a hash to find it again, and short enough to hold no
// number that could be a person's.
func shortHash(h [sha256.Size]byte) string { return fmt.Sprintf("%x…", h[:4]) }

// checkHeads computes the root of each new anchor from the tree that the
// checkpoint signs, and when there is none that of the last: the log may have
// another tree today.
func (l *watchedLog) checkHeads(ctx context.Context, heads []treeHead, checkpoint proof.Checkpoint, note string, registration domain.LogRegistration) error {
	if len(heads) == 0 {
		root, err := base64.StdEncoding.DecodeString(registration.Root)
		if err != nil || len(root) != sha256.Size {
			return fmt.Errorf("the anchored root of %s cannot be read", l.department)
		}
		heads = []treeHead{{registration.Size, [sha256.Size]byte(root)}}
	}
	for i := range heads { // oldest first
		head := heads[len(heads)-1-i]
		root, err := l.root(ctx, head.size)
		if err != nil {
			return err
		}
		if root != head.root {
			return l.fork(note, registration.Size, fmt.Sprintf("the log signs a tree of %d entries whose first %d have the root %s, and the ledger anchors another", checkpoint.Size, head.size, shortHash(root)))
		}
	}
	return nil
}

// checkSeen holds the tree against the last checkpoint that no anchor covered when
// it was seen: a log that shows one tree and anchors another is found out then.
func (l *watchedLog) checkSeen(ctx context.Context, checkpoint proof.Checkpoint, note string, registration domain.LogRegistration) error {
	if seen, ok := l.seen(registration); ok {
		if seen.Size > checkpoint.Size {
			return &faultError{
				kind: domain.AlarmRollback, subject: anchorSubject(registration.Size), lasting: "anchor", evidence: note, wait: l.Patience,
				figures: fmt.Sprintf("the log signed a tree of %d entries, and later one of %d", seen.Size, checkpoint.Size),
			}
		}
		root, err := l.root(ctx, seen.Size)
		if err != nil {
			return err
		}
		if root != seen.Root {
			return l.fork(l.progress.Checkpoint, registration.Size, fmt.Sprintf("the log signed a tree of %d entries with the root %s, and now one of %d entries that has another there", seen.Size, shortHash(seen.Root), checkpoint.Size))
		}
	}
	l.progress.Checkpoint = ""
	l.remember(checkpoint, note, registration)
	return nil
}

// seen answers the checkpoint that was remembered, false for none.
func (l *watchedLog) seen(registration domain.LogRegistration) (proof.Checkpoint, bool) {
	if l.progress.Checkpoint == "" {
		return proof.Checkpoint{}, false
	}
	seen, err := proof.OpenCheckpoint([]byte(l.progress.Checkpoint), registration.Origin, registration.VerifierKey)
	return seen, err == nil // an error: what was kept is of another log
}

// remember keeps a checkpoint that no anchor covers, unless there is one already.
func (l *watchedLog) remember(checkpoint proof.Checkpoint, note string, registration domain.LogRegistration) {
	if l.progress.Checkpoint == "" && checkpoint.Size > registration.Size {
		l.progress.Checkpoint = note
	}
}

// advance remembers that all anchors up to the last one were checked.
func (l *watchedLog) advance(registration domain.LogRegistration) {
	if registration.Size > l.progress.Anchor {
		l.progress.Anchor, l.progress.Root = registration.Size, registration.Root
	}
}

// sweep fetches the tiles of anchored entries that were not fetched yet, as many
// as fit one look.
func (l *watchedLog) sweep(ctx context.Context) error {
	to := min(l.progress.Anchor, l.head.Size)
	for range sweepTiles / sweepGroup {
		if l.progress.Swept >= to {
			return nil
		}
		first := l.progress.Swept / layout.TileWidth
		last := min(first+sweepGroup-1, (to-1)/layout.TileWidth)
		if err := l.checkTiles(ctx, l.tree, first, last); err != nil {
			return err
		}
		l.progress.Swept = min((last+1)*layout.TileWidth, to)
	}
	return nil
}

// recheck now and then fetches tiles again that were found in order before.
func (l *watchedLog) recheck(ctx context.Context) error {
	l.looks++
	if l.looks%recheckLooks != 0 || l.progress.Swept == 0 {
		return nil
	}
	tiles := (min(l.progress.Swept, l.head.Size)-1)/layout.TileWidth + 1
	first := l.recheckAt % tiles
	last := min(first+recheckTiles, tiles) - 1
	fresh := evidence.OpenTree(l.remote, l.head.Size, l.head.Root) // it remembers no tile
	if err := l.checkTiles(ctx, fresh, first, last); err != nil {
		l.looks-- // the same ones again with the next look
		return err
	}
	l.recheckAt = last + 1
	return nil
}

// checkTiles fetches the tiles first to last of the lowest level, and with them
// those above, and names one that is not what the tree holds.
func (l *watchedLog) checkTiles(all context.Context, tree *evidence.Tree, first, last uint64) error {
	group, ctx := errgroup.WithContext(all)
	group.SetLimit(fetchAtOnce)
	for n := first; n <= last; n++ {
		group.Go(func() error {
			leaf := n * layout.TileWidth // one is enough: a tile is checked as a whole
			_, err := tree.Range(ctx, leaf, leaf+1)
			return err
		})
	}
	return l.faultOf(all, group.Wait())
}

// root answers the root of the first size entries of the log's tree.
func (l *watchedLog) root(ctx context.Context, size uint64) ([sha256.Size]byte, error) {
	root, err := l.tree.Root(ctx, size)
	return root, l.faultOf(ctx, err)
}

// faultOf makes the watcher's fault of what a tree finds. The log did answer, a
// moment ago, with its checkpoint.
func (l *watchedLog) faultOf(ctx context.Context, err error) error {
	var found, edge *evidence.Fault
	var unreachable *remotelog.UnreachableError
	switch {
	case errors.As(err, &found):
		// A tile is held against the one above it: that one must be right.
		if _, err := evidence.OpenTree(l.remote, l.head.Size, l.head.Root).Root(ctx, l.head.Size); errors.As(err, &edge) {
			found = edge
		}
		fault := &faultError{kind: found.Kind, subject: found.Subject, figures: found.Error(), wait: l.Patience}
		if found.Subject == evidence.EdgeSubject(l.head.Size) {
			fault.subject, fault.lasting = evidence.EdgeSubject(l.anchored), "edge" // the log goes on, and each watcher sees another size
		}
		return fault
	case errors.As(err, &unreachable):
		return l.unreachable(err)
	default:
		return err
	}
}

// checkAhead finds a log that goes on without anchoring. An index that does not
// hear from the ledger says nothing about that.
func (l *watchedLog) checkAhead(checkpoint proof.Checkpoint, registration domain.LogRegistration) error {
	now := l.Clock()
	heard := l.Heard == nil || fresh(l.Heard(), now)
	if checkpoint.Size <= registration.Size || !heard || l.ahead.anchor != registration.Size {
		l.ahead = aheadSince{registration.Size, now}
		return nil
	}
	if now.Sub(l.ahead.since) < l.Silence {
		return nil
	}
	return &faultError{
		kind: domain.AlarmBacklog, subject: anchorSubject(registration.Size),
		figures: fmt.Sprintf("the log has %d entries and has anchored none beyond %d for %s", checkpoint.Size, registration.Size, l.Silence),
	}
}
