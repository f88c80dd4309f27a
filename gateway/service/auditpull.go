package service

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/evidence"
	"github.com/zhenglian/zhenglian/gateway/remotelog"
	"github.com/zhenglian/zhenglian/gateway/trail"
	"github.com/zhenglian/zhenglian/proof"
)

// pullBatch is how many entries are read, checked and stored at one time.
const pullBatch = 2048

// maxFigures bounds what an alarm says, in characters.
const maxFigures = 500

// finding is something wrong with a log, as an error.
type finding struct {
	kind  trail.FindingKind
	place uint64
	text  string
	alarm domain.RaiseAlarmArgs // without department; figures "" stand for the text
}

func (f *finding) Error() string { return string(f.kind) + ": " + f.text }

// raised is what is known of the alarms about one log.
type raised struct {
	since map[string]time.Time // by subject: since when a part was missing, as of the last pull
	done  map[string]bool      // by alarm identifier
	said  map[findingKey]bool  // findings that were written to the program's log
}

// pull is the pull of one log.
type pull struct {
	*Auditor
	department domain.DepartmentCode
	log        remotelog.Log
	key        proof.Department
	told       func(PullProgress)

	progress trail.Progress
	note     []byte         // the log's checkpoint
	tree     *evidence.Tree // of the checkpoint
	last     domain.Anchor  // the last one checked; the zero value before the first
	missing  map[string]time.Time
	alarms   *raised
}

func (a *Auditor) newPull(ctx context.Context, department domain.DepartmentCode, log remotelog.Log, told func(PullProgress)) (*pull, error) {
	key, err := logKey(a.opts.Trust, department)
	if err != nil {
		return nil, err
	}
	progress, err := a.opts.Trail.Progress(ctx, department)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	alarms := &raised{since: make(map[string]time.Time), done: make(map[string]bool), said: make(map[findingKey]bool)}
	missing := make(map[string]time.Time)
	if before := a.alarms[department]; before != nil {
		missing, alarms.done, alarms.said = before.since, before.done, before.said
	}
	return &pull{Auditor: a, department: department, log: log, key: key, told: told, progress: progress, missing: missing, alarms: alarms}, nil
}

// logKey answers the department of the trust anchors, with its log's key.
func logKey(trust *proof.Anchors, department domain.DepartmentCode) (proof.Department, error) {
	i := slices.IndexFunc(trust.Departments, func(d proof.Department) bool { return d.Code == department })
	if i < 0 || trust.Departments[i].LogKey == "" {
		return proof.Department{}, fmt.Errorf("the trust anchors have no log key of %s", department)
	}
	return trust.Departments[i], nil
}

// openAnchor checks that an anchor is what the log signed.
func openAnchor(anchor domain.Anchor, key proof.Department) (proof.Checkpoint, error) {
	checkpoint, err := proof.OpenCheckpoint([]byte(anchor.Checkpoint), key.LogOrigin, key.LogKey)
	switch {
	case err != nil:
		return checkpoint, err
	case anchor.Owner != key.Code:
		return checkpoint, fmt.Errorf("it is an anchor of the log of %s", anchor.Owner)
	case checkpoint.Size != anchor.Size || base64.StdEncoding.EncodeToString(checkpoint.Root[:]) != anchor.Root:
		return checkpoint, errors.New("it does not say what its checkpoint says")
	}
	return checkpoint, nil
}

// run pulls the log up to its newest anchor. What is wrong is a [*finding].
func (p *pull) run(ctx context.Context) error {
	anchors, err := p.anchors(ctx)
	if err != nil {
		return err
	}
	if p.progress.Anchored == 0 && len(anchors) == 0 {
		return nil // a log without entries owes nothing, not even a checkpoint
	}
	if err := p.readCheckpoint(ctx); err != nil {
		return err
	}
	if err := p.checkKnown(ctx); err != nil {
		return err
	}
	for len(anchors) > 0 {
		if err := p.apply(ctx, anchors); err != nil {
			return err
		}
		if anchors, err = p.anchors(ctx); err != nil {
			return err
		}
	}
	p.progress.Seen = p.opts.Clock()
	return p.opts.Trail.Apply(ctx, p.department, nil, p.progress)
}

// anchors answers the next anchors that the trail does not have.
func (p *pull) anchors(ctx context.Context) ([]domain.Anchor, error) {
	anchors, err := p.opts.Anchors.After(ctx, p.department, p.progress.Size)
	if err != nil {
		return nil, fmt.Errorf("read the anchors: %w", err)
	}
	return anchors, nil
}

// readCheckpoint reads what the log says of itself now.
func (p *pull) readCheckpoint(ctx context.Context) error {
	note, err := p.log.Checkpoint(ctx)
	var form *remotelog.FormError
	switch {
	case domain.KindOf(err) == domain.NotFound, statusOf(err) == statusFailed:
		return p.noCheckpoint(domain.AlarmMissingTile, "the log has no checkpoint")
	case errors.As(err, &form):
		return p.noCheckpoint(domain.AlarmChangedEntry, form.Problem)
	case err != nil:
		return fmt.Errorf("read the checkpoint: %w", err)
	}
	checkpoint, err := proof.OpenCheckpoint(note, p.key.LogOrigin, p.key.LogKey)
	if err != nil {
		return p.noCheckpoint(domain.AlarmChangedEntry, err.Error())
	}
	p.note, p.tree = note, evidence.OpenTree(p.log, checkpoint.Size, checkpoint.Root)
	return nil
}

// noCheckpoint is a finding about a log that shows no checkpoint of its own. It is
// the watcher's alarm, too.
func (p *pull) noCheckpoint(kind domain.AlarmKind, text string) error {
	subject := checkpointSubject(p.progress.Anchored)
	return &finding{
		kind: trail.FindingKind(kind), place: p.progress.Anchored, text: subject + ": " + text,
		alarm: domain.RaiseAlarmArgs{Kind: kind, Subject: subject, Rule: ruleCheckpoint},
	}
}

// checkKnown checks that the log still holds what was pulled before.
func (p *pull) checkKnown(ctx context.Context) error {
	if p.progress.Anchored == 0 {
		return nil
	}
	return p.checkHead(ctx, p.progress.Anchored, [32]byte(p.progress.Root))
}

// checkHead checks that the log shows a tree that begins with the anchored one.
func (p *pull) checkHead(ctx context.Context, size uint64, root [32]byte) error {
	if size > p.tree.Size() { // it may have grown since
		if err := p.readCheckpoint(ctx); err != nil {
			return err
		}
	}
	subject := "anchor/" + strconv.FormatUint(size, 10)
	if size > p.tree.Size() {
		return p.contradiction(domain.AlarmRollback, subject, size, fmt.Sprintf("the ledger anchors %d entries and the log shows %d", size, p.tree.Size()))
	}
	got, err := p.tree.Root(ctx, size)
	if err != nil {
		return p.fault(err)
	}
	if got != root {
		return p.contradiction(domain.AlarmFork, subject, size, fmt.Sprintf("the log shows a tree of %d entries that does not begin with the anchored one of %d", p.tree.Size(), size))
	}
	return nil
}

// contradiction is a finding that the log's own signature proves.
func (p *pull) contradiction(kind domain.AlarmKind, subject string, size uint64, text string) error {
	return &finding{
		kind: trail.FindingKind(kind), place: size, text: text,
		alarm: domain.RaiseAlarmArgs{Kind: kind, Subject: subject, Rule: string(kind), Evidence: string(p.note)},
	}
}

// fault makes a finding of what is wrong with a part of the log, and leaves any
// other error what it is.
func (p *pull) fault(err error) error {
	var f *evidence.Fault
	if !errors.As(err, &f) {
		return err
	}
	subject := f.Subject
	if p.tree != nil && subject == evidence.EdgeSubject(p.tree.Size()) {
		// The head that was asked about grows; the anchor is the same for all.
		subject = evidence.EdgeSubject(max(p.last.Size, p.progress.Anchored))
	}
	alarm := domain.RaiseAlarmArgs{Kind: f.Kind, Subject: subject, Rule: string(f.Kind)}
	if strings.HasPrefix(subject, "entry/") {
		alarm.Records = []domain.RecordRef{{Department: p.department, Index: f.Place}}
	}
	return &finding{kind: trail.FindingKind(f.Kind), place: f.Place, text: subject + ": " + f.Text, alarm: alarm}
}

// anchorFinding is a finding about an anchor of the ledger. The alarm repeats none
// of its identifiers, which can look like somebody's number.
func anchorFinding(kind trail.FindingKind, size uint64, format string, args ...any) *finding {
	at := "anchor/" + strconv.FormatUint(size, 10)
	return &finding{
		kind: kind, place: size, text: fmt.Sprintf(format, args...),
		alarm: domain.RaiseAlarmArgs{
			Kind: domain.AlarmChangedEntry, Subject: at + "/" + string(kind), Rule: string(kind), Figures: at + ": " + anchorFigures[kind],
		},
	}
}

// anchorFigures say what is wrong with an anchor.
var anchorFigures = map[trail.FindingKind]string{
	FindingOutOfOrder:  "it does not follow the anchor before it",
	FindingBadAnchor:   "it is not signed, or not what the departments sign",
	FindingWrongCounts: "it counts other records than the log has since the anchor before",
}

// apply checks a sequence of anchors and stores the entries that they cover.
func (p *pull) apply(ctx context.Context, anchors []domain.Anchor) error {
	roots, err := p.checkAnchors(ctx, anchors)
	if err != nil {
		return err
	}
	newest := anchors[len(anchors)-1]
	p.last = newest
	for i, anchor := range slices.Backward(anchors) { // so that the largest anchor which the log contradicts is the one named
		if err := p.checkHead(ctx, anchor.Size, roots[i]); err != nil {
			return err
		}
	}
	if newest.Size > p.progress.Anchored { // it is less when an earlier pull ended between anchors
		p.progress.Anchored, p.progress.Root = newest.Size, roots[len(roots)-1][:]
	}
	p.told(PullProgress{Department: p.department, Size: p.progress.Size, Anchored: newest.Size})

	// Of an anchor that was applied in part, the entries are counted once more.
	covered := &coverage{pull: p, anchors: anchors}
	for next := min(p.progress.Size, anchors[0].PreviousSize); next < newest.Size; {
		raw, err := p.tree.Entries(ctx, next, min(newest.Size, next+pullBatch))
		entries, findings := covered.read(next, raw)
		next += uint64(len(raw))
		if err := p.store(ctx, entries, findings); err != nil {
			return err
		}
		if err != nil {
			return p.fault(err)
		}
	}
	return nil
}

// checkAnchors checks that anchors follow what is known and one another, that the
// log signed them and that the departments confirm them, and answers their roots.
func (p *pull) checkAnchors(ctx context.Context, anchors []domain.Anchor) ([][32]byte, error) {
	roots := make([][32]byte, len(anchors))
	before := p.last
	for i, anchor := range anchors {
		if i > 0 {
			before = anchors[i-1]
		}
		if problem := p.order(before, anchor); problem != "" {
			return nil, anchorFinding(FindingOutOfOrder, anchor.Size, "the anchor of size %d %s", anchor.Size, problem)
		}
		checkpoint, err := openAnchor(anchor, p.key)
		if err != nil {
			return nil, anchorFinding(FindingBadAnchor, anchor.Size, "the anchor of size %d: %v", anchor.Size, err)
		}
		roots[i] = checkpoint.Root
		if p.opts.Confirm == nil || !p.opts.ConfirmAll && i < len(anchors)-1 {
			continue
		}
		err = p.opts.Confirm(ctx, anchor)
		var unconfirmed *UnconfirmedError
		if errors.As(err, &unconfirmed) {
			return nil, anchorFinding(FindingBadAnchor, anchor.Size, "the anchor of size %d: %v", anchor.Size, err)
		}
		if err != nil {
			return nil, fmt.Errorf("confirm the anchor of size %d: %w", anchor.Size, err)
		}
	}
	return roots, nil
}

// order says how an anchor does not follow the one before, "" when it does. After
// a start the one before is not at hand; then it must follow what was pulled.
func (p *pull) order(before, anchor domain.Anchor) string {
	switch {
	case anchor.PreviousSize >= anchor.Size:
		return fmt.Sprintf("says that the one before it was of size %d", anchor.PreviousSize)
	case before.Size > 0 && anchor.PreviousSize != before.Size:
		return fmt.Sprintf("follows one of size %d; the one before it is of size %d", anchor.PreviousSize, before.Size)
	case before.Size > 0 && anchor.TxTime.Before(before.TxTime):
		return "is older than the one before it"
	case before.Size > 0:
		return ""
	case anchor.Size <= p.progress.Size || anchor.PreviousSize > p.progress.Size,
		p.progress.Size == p.progress.Anchored && anchor.PreviousSize != p.progress.Size:
		return fmt.Sprintf("follows one of size %d; entries up to %d were pulled under the one of size %d", anchor.PreviousSize, p.progress.Size, p.progress.Anchored)
	}
	return ""
}

// store reports findings and then stores entries, of which those stored before
// are left out: findings that could not be reported are found again.
func (p *pull) store(ctx context.Context, entries []trail.Entry, findings []*finding) error {
	for _, f := range findings {
		if err := p.report(ctx, f); err != nil {
			return err
		}
	}
	for len(entries) > 0 && entries[0].Index < p.progress.Size {
		entries = entries[1:]
	}
	if len(entries) == 0 {
		return nil
	}
	progress := p.progress
	progress.Size += uint64(len(entries)) // seen in order only when all of it was
	if err := p.opts.Trail.Apply(ctx, p.department, entries, progress); err != nil {
		return err
	}
	p.progress = progress
	p.told(PullProgress{Department: p.department, Size: progress.Size, Anchored: progress.Anchored})
	return nil
}

// report stores a finding in the trail and raises its alarm once.
func (p *pull) report(ctx context.Context, f *finding) error {
	now := p.opts.Clock()
	err := p.opts.Trail.AddFinding(ctx, trail.Finding{
		Department: p.department, Kind: f.kind, Place: f.place, Text: f.text, FirstSeen: now, LastSeen: now,
	})
	if err != nil {
		return err
	}
	if key := (findingKey{f.kind, p.department, f.place}); !p.alarms.said[key] {
		p.alarms.said[key] = true
		p.opts.Logger.Warn("finding about an access log", "department", p.department, "kind", f.kind, "finding", f.text)
	}
	if p.opts.Raise == nil {
		return nil
	}
	args := f.alarm
	args.About = p.department
	if args.Figures == "" {
		args.Figures = cut(f.text, maxFigures)
	}
	if args.Records == nil {
		args.Records = []domain.RecordRef{}
	}
	if args.Kind == domain.AlarmMissingTile { // a restart is no attack
		since, ok := p.missing[args.Subject]
		if !ok {
			since = now
		}
		p.alarms.since[args.Subject] = since
		if now.Sub(since) < p.opts.Patience {
			return nil
		}
	}
	id := domain.AlarmID(args.Kind, args.About, args.Subject)
	if p.alarms.done[id] {
		return nil
	}
	switch err := p.opts.Raise(ctx, args); {
	case domain.KindOf(err) == domain.Invalid: // and stays so: the pull goes on with the finding alone
		p.opts.Logger.Error("the ledger refuses an alarm", "kind", args.Kind, "department", p.department, "error", err)
	case err != nil:
		return fmt.Errorf("raise alarm %s about the log of %s: %w", args.Kind, p.department, err)
	}
	p.alarms.done[id] = true
	return nil
}

// cut answers at most the first n characters of s.
func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n])
}

func compareText(a, b string) int { return strings.Compare(a, b) }

// coverage reads entries under the anchors that cover them.
type coverage struct {
	*pull
	anchors []domain.Anchor  // those not ended yet
	counts  map[string]int64 // by grant, since the last anchor ended
}

// read makes trail entries of consecutive entries from index on, with what is
// wrong with them and with the anchors that they complete.
func (c *coverage) read(index uint64, raw [][]byte) ([]trail.Entry, []*finding) {
	entries := make([]trail.Entry, 0, len(raw))
	var findings []*finding
	for i, data := range raw {
		leaf := proof.LeafHash(data)
		e := trail.Entry{Department: c.department, Index: index + uint64(i), LeafHash: leaf[:], AnchorSize: c.anchors[0].Size}
		record, err := evidence.ReadRecord(c.department, data)
		if err != nil {
			findings = append(findings, invalidRecord(c.department, e.Index, err))
		} else {
			e.Record = record
			if c.counts == nil {
				c.counts = make(map[string]int64)
			}
			c.counts[record.GrantID]++
		}
		entries = append(entries, e)
		if e.Index+1 == e.AnchorSize {
			if f := c.end(); f != nil {
				findings = append(findings, f)
			}
		}
	}
	return entries, findings
}

func invalidRecord(department domain.DepartmentCode, index uint64, err error) *finding {
	return &finding{
		kind: FindingInvalidRecord, place: index, text: fmt.Sprintf("entry %d is no access record of the department: %v", index, err),
		alarm: domain.RaiseAlarmArgs{
			Kind: domain.AlarmChangedEntry, Subject: "entry/" + strconv.FormatUint(index, 10) + "/" + string(FindingInvalidRecord),
			Rule: string(FindingInvalidRecord), Figures: "the entry is no access record of the department",
			Records: []domain.RecordRef{{Department: department, Index: index}},
		},
	}
}

// end compares the counts of the anchor that ends with the entries read.
func (c *coverage) end() *finding {
	anchor, counts := c.anchors[0], c.counts
	c.anchors, c.counts = c.anchors[1:], nil
	for _, want := range anchor.Counts {
		if got := counts[want.GrantID]; got != want.Count {
			return anchorFinding(FindingWrongCounts, anchor.Size, "the anchor of size %d counts %d records of grant %s; the log has %d since the anchor before", anchor.Size, want.Count, want.GrantID, got)
		}
		delete(counts, want.GrantID)
	}
	// An anchor with as many counts as it may have leaves grants out.
	if len(counts) > 0 && len(anchor.Counts) < domain.MaxCounts {
		grant := slices.Min(slices.Collect(maps.Keys(counts)))
		return anchorFinding(FindingWrongCounts, anchor.Size, "the anchor of size %d counts no records of grant %s; the log has %d since the anchor before", anchor.Size, grant, counts[grant])
	}
	return nil
}
