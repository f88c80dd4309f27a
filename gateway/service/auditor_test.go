package service_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/evidence/evidencetest"
	"github.com/zhenglian/zhenglian/gateway/remotelog"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/sqlindex"
	"github.com/zhenglian/zhenglian/gateway/sqltrail"
	"github.com/zhenglian/zhenglian/gateway/trail"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

var anAuditor = service.Caller{Department: "bigdata", Role: domain.RoleAuditor}

// audit is an auditor of a world's logs that are served by real servers, with the
// alarms that it raised.
type audit struct {
	*service.Auditor
	t     *testing.T
	world *evidencetest.World
	store trail.Store
	opts  service.AuditorOptions

	mu     sync.Mutex
	now    time.Time
	alarms []domain.RaiseAlarmArgs
	deaf   error // of Raise
}

func newAudit(t *testing.T, w *evidencetest.World, change func(*service.AuditorOptions)) *audit {
	t.Helper()
	store, err := sqltrail.Open(t.Context(), filepath.Join(t.TempDir(), "trail.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	a := &audit{t: t, world: w, store: store, now: prooftest.Epoch}
	logs := make(map[domain.DepartmentCode]remotelog.Log)
	for code, l := range w.Logs {
		logs[code] = l.Remote(t)
	}
	a.opts = service.AuditorOptions{
		Trail: store, Anchors: w, Trust: w.Consortium.Anchors(), Logs: logs, Raise: a.raise, Grace: 24 * time.Hour,
		Every: 10 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		Clock: func() time.Time { a.mu.Lock(); defer a.mu.Unlock(); return a.now },
	}
	if change != nil {
		change(&a.opts)
	}
	a.restart()
	return a
}

// restart forgets everything but the trail.
func (a *audit) restart() { a.Auditor = service.NewAuditor(a.opts) }

func (a *audit) raise(_ context.Context, args domain.RaiseAlarmArgs) error {
	if err := args.Validate(); err != nil {
		a.t.Errorf("the ledger would refuse the alarm %+v: %v", args, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.deaf != nil {
		return a.deaf
	}
	a.alarms = append(a.alarms, args)
	return nil
}

func (a *audit) wait(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now = a.now.Add(d)
}

func (a *audit) pull() {
	a.t.Helper()
	if err := a.Pull(a.t.Context(), nil); err != nil {
		a.t.Fatal(err)
	}
}

func (a *audit) progress(code domain.DepartmentCode) trail.Progress {
	a.t.Helper()
	p, err := a.store.Progress(a.t.Context(), code)
	if err != nil {
		a.t.Fatal(err)
	}
	return p
}

func (a *audit) findings() []trail.Finding {
	a.t.Helper()
	found, err := a.Findings(a.t.Context(), anAuditor, trail.FindingFilter{}, trail.Page{Limit: 200})
	if err != nil {
		a.t.Fatal(err)
	}
	return found.Items
}

// records answers all access records that match.
func (a *audit) records(filter trail.Filter) []trail.Entry {
	a.t.Helper()
	var all []trail.Entry
	err := a.store.Export(a.t.Context(), filter, func(e trail.Entry) error { all = append(all, e); return nil })
	if err != nil {
		a.t.Fatal(err)
	}
	return all
}

func provided(from, n int) []domain.AccessRecord {
	return evidencetest.Records(domain.DirectionProvider, "police", "civil", from, n)
}

func consumed(from, n int) []domain.AccessRecord {
	return evidencetest.Records(domain.DirectionConsumer, "police", "civil", from, n)
}

// auditWorld answers logs of the police, with anchors at 300, 301 and 700, and of
// civil affairs, with one at 700; ten entries of the police's are not anchored.
func auditWorld(t *testing.T) *evidencetest.World {
	t.Helper()
	w := evidencetest.New(t, "police", "civil")
	for _, part := range []struct{ from, n int }{{0, 300}, {300, 1}, {301, 399}} {
		w.Logs["police"].Append(t, provided(part.from, part.n)...)
		w.Logs["police"].Anchor(t)
	}
	w.Logs["police"].Append(t, provided(700, 10)...)
	w.Logs["civil"].Append(t, consumed(0, 700)...)
	w.Logs["civil"].Anchor(t)
	return w
}

func TestAuditorPulls(t *testing.T) {
	w := auditWorld(t)
	a := newAudit(t, w, nil)
	var told []service.PullProgress
	if err := a.Pull(t.Context(), func(p service.PullProgress) { told = append(told, p) }); err != nil {
		t.Fatal(err)
	}
	if len(told) < 4 || told[len(told)-1].Size != 700 {
		t.Errorf("progress was %+v", told)
	}
	for _, code := range []domain.DepartmentCode{"police", "civil"} {
		if p := a.progress(code); p.Size != 700 || p.Anchored != 700 || !p.Seen.Equal(prooftest.Epoch) {
			t.Errorf("%s: progress is %+v", code, p)
		}
	}
	for _, e := range a.records(trail.Filter{Writer: "police"}) {
		want := uint64(300)
		switch {
		case e.Index >= 301:
			want = 700
		case e.Index == 300:
			want = 301
		}
		if e.AnchorSize != want || !bytes.Equal(canonicalOf(t, e.Record), canonicalOf(t, evidencetest.Record(domain.DirectionProvider, "police", "civil", int(e.Index)))) {
			t.Fatalf("entry %d is %+v, want anchor %d", e.Index, e, want)
		}
	}

	// What comes later is pulled from where the trail is, by another process too.
	w.Logs["police"].Anchor(t)
	a.restart()
	a.wait(time.Minute)
	a.pull()
	if p := a.progress("police"); p.Size != 710 || p.Anchored != 710 {
		t.Errorf("progress is %+v", p)
	}
	if p := a.progress("civil"); p.Size != 700 || !p.Seen.Equal(prooftest.Epoch.Add(time.Minute)) {
		t.Errorf("progress of the log without news is %+v", p)
	}
	if found := a.findings(); len(found) > 0 || len(a.alarms) > 0 {
		t.Errorf("findings are %+v, alarms %+v", found, a.alarms)
	}
}

func canonicalOf(t *testing.T, v any) []byte {
	t.Helper()
	data, err := domain.Canonical(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// brokenTrail fails to store after some batches.
type brokenTrail struct {
	trail.Store
	good int
}

func (b *brokenTrail) Apply(ctx context.Context, department domain.DepartmentCode, entries []trail.Entry, progress trail.Progress) error {
	if b.good--; b.good < 0 {
		return errors.New("disk full")
	}
	return b.Store.Apply(ctx, department, entries, progress)
}

// A pull that ends in the middle of an anchor goes on there, and the counts of
// that anchor are checked all the same.
// TestAuditorEmptyLog pulls a log that has no entries and so no checkpoint either:
// nothing is wrong with it.
func TestAuditorEmptyLog(t *testing.T) {
	a := newAudit(t, evidencetest.New(t, "police", "civil"), nil)
	a.pull()
	if found := a.findings(); len(found) > 0 || len(a.alarms) > 0 {
		t.Errorf("findings are %+v, alarms %+v", found, a.alarms)
	}
}

func TestAuditorResumes(t *testing.T) {
	w := evidencetest.New(t, "police")
	w.Logs["police"].Append(t, provided(0, 10)...)
	w.Logs["police"].Anchor(t)
	w.Logs["police"].Append(t, provided(10, 4990)...)
	w.Logs["police"].Anchor(t)
	broken := &brokenTrail{good: 1}
	a := newAudit(t, w, func(o *service.AuditorOptions) { broken.Store, o.Trail = o.Trail, broken })
	if err := a.Pull(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "log of police: disk full") {
		t.Fatalf("got %v", err)
	}
	if p := a.progress("police"); p.Size == 0 || p.Size == 5000 || p.Anchored != 5000 {
		t.Fatalf("progress is %+v", p)
	}
	broken.good = 100
	a.restart()
	a.pull()
	if p := a.progress("police"); p.Size != 5000 || len(a.records(trail.Filter{})) != 5000 {
		t.Errorf("progress is %+v", p)
	}
	if found := a.findings(); len(found) > 0 {
		t.Errorf("findings are %+v", found)
	}
}

// edit changes a file of a log.
func edit(t *testing.T, l *evidencetest.Log, name string, change func([]byte) []byte) {
	t.Helper()
	path := filepath.Join(l.Dir, name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil { // not through a link to it
		t.Fatal(err)
	}
	if data = change(data); data != nil {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func flipAt(at int) func([]byte) []byte {
	return func(data []byte) []byte {
		data = bytes.Clone(data)
		data[at] ^= 1
		return data
	}
}

func dropped([]byte) []byte { return nil }

// TestAuditorFindsTampering changes the police's files, log or anchors and expects
// each fault to be named and to stop nothing but that log, or nothing at all.
func TestAuditorFindsTampering(t *testing.T) {
	reanchor := func(change func([]domain.Anchor) []domain.Anchor) func(*testing.T, *evidencetest.World) {
		return func(_ *testing.T, w *evidencetest.World) {
			w.SetAnchors("police", change(w.Anchors("police"))...)
		}
	}
	file := func(name string, change func([]byte) []byte) func(*testing.T, *evidencetest.World) {
		return func(t *testing.T, w *evidencetest.World) { edit(t, w.Logs["police"], name, change) }
	}
	for name, test := range map[string]struct {
		tamper  func(*testing.T, *evidencetest.World)
		kind    trail.FindingKind
		place   uint64
		alarm   domain.AlarmKind
		subject string
		size    uint64 // entries in the trail
	}{
		"entry changed":  {file("tile/entries/001", flipAt(100)), "changed_entry", 256, "changed_entry", "entry/256", 256},
		"bundle dropped": {file("tile/entries/001", dropped), "missing_tile", 256, "missing_tile", "tile/entries/001", 256},
		"bundle cut":     {file("tile/entries/000", func(b []byte) []byte { return b[:len(b)-1] }), "changed_entry", 0, "changed_entry", "tile/entries/000", 0},
		"tile dropped":   {file("tile/0/001", dropped), "missing_tile", 256, "missing_tile", "tile/0/001", 0},
		"tile changed":   {file("tile/0/001", flipAt(1000)), "changed_entry", 256, "changed_entry", "tile/0/001", 0},
		"tile cut":       {file("tile/0/000", func(b []byte) []byte { return b[:32] }), "changed_entry", 0, "changed_entry", "tile/0/000", 0},
		"edge changed":   {file("tile/1/000.p/2", flipAt(3)), "changed_entry", 709, "changed_entry", "edge/700", 0},
		"checkpoint dropped": {
			func(t *testing.T, w *evidencetest.World) { w.Logs["police"].Show(t.TempDir()) }, "missing_tile", 0, "missing_tile", "checkpoint/0", 0,
		},
		"checkpoint of no log": {
			file("checkpoint", flipAt(60)), "changed_entry", 0, "changed_entry", "checkpoint/0", 0,
		},
		"rolled back": {func(t *testing.T, w *evidencetest.World) {
			other := w.Logs["police"].Other(t)
			other.Append(t, provided(0, 500)...)
			w.Logs["police"].Show(other.Dir)
		}, "rollback", 700, "rollback", "anchor/700", 0},
		"rolled back and grown on": {func(t *testing.T, w *evidencetest.World) {
			other := w.Logs["police"].Other(t)
			other.Append(t, provided(0, 500)...)
			other.Append(t, provided(9000, 300)...)
			w.Logs["police"].Show(other.Dir)
		}, "fork", 700, "fork", "anchor/700", 0},
		"forked": {func(t *testing.T, w *evidencetest.World) {
			other := w.Logs["police"].Other(t)
			other.Append(t, provided(9000, 710)...)
			w.Logs["police"].Show(other.Dir)
		}, "fork", 700, "fork", "anchor/700", 0},
		"anchors out of order": {reanchor(func(a []domain.Anchor) []domain.Anchor {
			return []domain.Anchor{a[1], a[0], a[2]}
		}), "out_of_order", 301, "changed_entry", "anchor/301/out_of_order", 0},
		"anchor withheld": {reanchor(func(a []domain.Anchor) []domain.Anchor {
			return []domain.Anchor{a[0], a[2]}
		}), "out_of_order", 700, "changed_entry", "anchor/700/out_of_order", 0},
		"first anchor withheld": {reanchor(func(a []domain.Anchor) []domain.Anchor { return a[1:] }), "out_of_order", 301, "changed_entry", "anchor/301/out_of_order", 0},
		"anchor dated back": {reanchor(func(a []domain.Anchor) []domain.Anchor {
			a[2].TxTime = a[0].TxTime
			return a
		}), "out_of_order", 700, "changed_entry", "anchor/700/out_of_order", 0},
		"anchor with another root": {reanchor(func(a []domain.Anchor) []domain.Anchor {
			a[2].Root = base64.StdEncoding.EncodeToString(make([]byte, 32))
			return a
		}), "bad_anchor", 700, "changed_entry", "anchor/700/bad_anchor", 0},
		"anchor of another log": {func(_ *testing.T, w *evidencetest.World) {
			w.SetAnchors("police", w.Anchors("civil")...)
		}, "bad_anchor", 700, "changed_entry", "anchor/700/bad_anchor", 0},
		"anchor that nobody signs": {reanchor(func(a []domain.Anchor) []domain.Anchor {
			a[2].Counts = nil // what Confirm of the test does not know
			return a
		}), "bad_anchor", 700, "changed_entry", "anchor/700/bad_anchor", 0},
		"too many counted": {reanchor(func(a []domain.Anchor) []domain.Anchor {
			a[1].Counts[0].Count++
			return a
		}), "wrong_counts", 301, "changed_entry", "anchor/301/wrong_counts", 700},
		"a grant not counted": {reanchor(func(a []domain.Anchor) []domain.Anchor {
			a[1].Counts = a[1].Counts[:0]
			return a
		}), "wrong_counts", 301, "changed_entry", "anchor/301/wrong_counts", 700},
		"entry that is no record": {func(t *testing.T, w *evidencetest.World) {
			w.Logs["police"].AppendRaw(t, []byte("{}"))
			w.Logs["police"].Anchor(t)
		}, "invalid_record", 710, "changed_entry", "entry/710/invalid_record", 711},
		"record of another log": {func(t *testing.T, w *evidencetest.World) {
			w.Logs["police"].Append(t, consumed(1, 1)...)
			w.SetAnchors("police", w.Anchors("police")[:2]...)
			anchor := w.Logs["police"].Anchor(t)
			anchor.Counts[0].Count--
			w.SetAnchors("police", append(w.Anchors("police")[:2], anchor)...)
		}, "invalid_record", 710, "changed_entry", "entry/710/invalid_record", 711},
		"nothing, to compare to": {func(*testing.T, *evidencetest.World) {}, "", 0, "", "", 700},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := auditWorld(t)
			test.tamper(t, w)
			a := newAudit(t, w, func(o *service.AuditorOptions) {
				o.Confirm = func(_ context.Context, anchor domain.Anchor) error {
					if anchor.Counts == nil {
						return &service.UnconfirmedError{Reason: "the departments sign another"}
					}
					return nil
				}
			})
			a.pull()
			if p := a.progress("civil"); p.Size != 700 {
				t.Errorf("the other log was pulled to %d", p.Size)
			}
			if p := a.progress("police"); p.Size != test.size {
				t.Errorf("the log was pulled to %d, want %d", p.Size, test.size)
			}
			found := a.findings()
			if test.kind == "" {
				if len(found) > 0 || len(a.alarms) > 0 {
					t.Errorf("findings are %+v, alarms %+v", found, a.alarms)
				}
				return
			}
			if len(found) != 1 || found[0].Department != "police" || found[0].Kind != test.kind || found[0].Place != test.place {
				t.Fatalf("findings are %+v, want %s at %d", found, test.kind, test.place)
			}
			if len(a.alarms) != 1 || a.alarms[0].Kind != test.alarm || a.alarms[0].Subject != test.subject || a.alarms[0].About != "police" {
				t.Fatalf("alarms are %+v, want %s %s", a.alarms, test.alarm, test.subject)
			}
			if test.alarm == "fork" || test.alarm == "rollback" {
				d := w.Department("police")
				if _, err := proof.OpenCheckpoint([]byte(a.alarms[0].Evidence), d.LogOrigin, d.LogKey); err != nil {
					t.Errorf("the evidence is no checkpoint of the log: %v", err)
				}
			}
			a.pull() // says nothing twice
			if len(a.alarms) != 1 {
				t.Errorf("alarms are %+v", a.alarms)
			}
		})
	}
}

// A department that puts its files back is pulled on; what was pulled before a
// fork or rollback is remembered.
func TestAuditorRemembers(t *testing.T) {
	w := auditWorld(t)
	a := newAudit(t, w, nil)
	a.pull()
	police := w.Logs["police"]
	other := police.Other(t)
	other.Append(t, provided(0, 699)...)
	police.Show(other.Dir)
	a.restart()
	a.wait(time.Hour)
	a.pull()
	if found := a.findings(); len(found) != 1 || found[0].Kind != "rollback" {
		t.Errorf("findings are %+v", found)
	}
	if p := a.progress("police"); !p.Seen.Equal(prooftest.Epoch) {
		t.Errorf("a rolled back log counts as seen in order at %v", p.Seen)
	}
	police.Show(police.Dir)
	police.Anchor(t)
	a.pull()
	if p := a.progress("police"); p.Size != 710 || !p.Seen.Equal(prooftest.Epoch.Add(time.Hour)) {
		t.Errorf("progress is %+v", p)
	}
}

// What is missing for a moment is no alarm, and a ledger that cannot be reached
// loses none.
func TestAuditorPatience(t *testing.T) {
	w := auditWorld(t)
	path := filepath.Join(w.Logs["police"].Dir, "tile/0/001")
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	a := newAudit(t, w, func(o *service.AuditorOptions) { o.Patience = 30 * time.Second })
	a.pull()
	a.wait(29 * time.Second)
	a.pull()
	if len(a.alarms) != 0 || len(a.findings()) != 1 {
		t.Fatalf("alarms are %+v, findings %+v", a.alarms, a.findings())
	}
	a.wait(time.Second)
	a.deaf = errors.New("no ledger")
	if err := a.Pull(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "no ledger") {
		t.Errorf("got %v", err)
	}
	a.deaf = nil
	a.pull()
	if len(a.alarms) != 1 {
		t.Errorf("alarms are %+v", a.alarms)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	a.pull()
	if p := a.progress("police"); p.Size != 700 {
		t.Errorf("progress is %+v", p)
	}
}

// A log that does not answer is no finding.
func TestAuditorUnreachable(t *testing.T) {
	w := auditWorld(t)
	a := newAudit(t, w, func(o *service.AuditorOptions) {
		o.Logs["police"] = unreachable{o.Logs["police"]}
		o.Logs["market"] = o.Logs["civil"]
		o.Trust.Departments = slices.DeleteFunc(slices.Clone(o.Trust.Departments), func(d proof.Department) bool { return d.Code == "market" })
	})
	err := a.Pull(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "log of market: the trust anchors have no log key of market") ||
		!strings.Contains(err.Error(), "log of police: ") || strings.Contains(err.Error(), "civil") {
		t.Errorf("got %v", err)
	}
	if found := a.findings(); len(found) > 0 || len(a.alarms) > 0 {
		t.Errorf("findings are %+v, alarms %+v", found, a.alarms)
	}
	if p := a.progress("civil"); p.Size != 700 {
		t.Errorf("the other log was pulled to %d", p.Size)
	}
}

type unreachable struct{ remotelog.Log }

func (unreachable) EntryBundle(context.Context, uint64, uint8) ([]byte, error) {
	return nil, &remotelog.UnreachableError{Err: errors.New("connection refused")}
}

func TestAuditorProves(t *testing.T) {
	w := auditWorld(t)
	w.Logs["police"].AppendRaw(t, []byte("{}"))
	w.Logs["police"].Anchor(t)
	a := newAudit(t, w, nil)
	a.pull()
	for _, index := range []uint64{0, 299, 300, 301, 699, 705} {
		e, err := a.Entry(t.Context(), anAuditor, "police", index)
		if err != nil || e.Index != index || e.Record.CallID != provided(int(index), 1)[0].CallID {
			t.Fatalf("Entry(%d) = %+v, %v", index, e, err)
		}
		text, err := a.Proof(t.Context(), anAuditor, "police", index)
		if err != nil {
			t.Fatalf("Proof(%d): %v", index, err)
		}
		// Checked as a tool of C2SP tlog-proof would.
		head, note, _ := strings.Cut(string(text), "\n\n")
		lines := strings.Split(head, "\n")
		if lines[0] != "c2sp.org/tlog-proof@v1" || lines[1] != fmt.Sprintf("index %d", index) {
			t.Fatalf("the proof begins %q", lines[:2])
		}
		var path [][]byte
		for _, line := range lines[2:] {
			h, err := base64.StdEncoding.DecodeString(line)
			if err != nil {
				t.Fatal(err)
			}
			path = append(path, h)
		}
		d := w.Department("police")
		checkpoint, err := proof.OpenCheckpoint([]byte(note), d.LogOrigin, d.LogKey)
		if err != nil {
			t.Fatal(err)
		}
		if checkpoint.Size != e.AnchorSize {
			t.Errorf("the proof is against size %d, the entry's anchor has %d", checkpoint.Size, e.AnchorSize)
		}
		if err := proof.VerifyInclusion([32]byte(e.LeafHash), index, checkpoint.Size, checkpoint.Root, path); err != nil {
			t.Error(err)
		}
	}
	for what, ask := range map[string]func() error{
		"beyond":       func() error { _, err := a.Entry(t.Context(), anAuditor, "police", 711); return err },
		"no record":    func() error { _, err := a.Proof(t.Context(), anAuditor, "police", 710); return err },
		"no such log":  func() error { _, err := a.Proof(t.Context(), anAuditor, "market", 0); return err },
		"never pulled": func() error { _, err := a.Entry(t.Context(), anAuditor, "nobody", 0); return err },
	} {
		if err := ask(); domain.KindOf(err) != domain.NotFound {
			t.Errorf("%s: got %v, want not_found", what, err)
		}
	}
	edit(t, w.Logs["police"], "tile/entries/001", flipAt(100))
	if _, err := a.Proof(t.Context(), anAuditor, "police", 256); err == nil || domain.KindOf(err) == domain.NotFound {
		t.Errorf("a changed entry: got %v", err)
	}
}

func TestAuditorIsForAuditors(t *testing.T) {
	a := newAudit(t, evidencetest.New(t), nil)
	for _, role := range domain.Roles {
		who := service.Caller{Department: "police", Role: role}
		for what, ask := range map[string]func() error{
			"Trace":  func() error { _, err := a.Trace(t.Context(), who, trail.Filter{}, trail.Page{}); return err },
			"Totals": func() error { _, err := a.Totals(t.Context(), who, trail.Filter{}); return err },
			"Reconcile": func() error {
				_, err := a.Reconcile(t.Context(), who, trail.ReconcileFilter{}, trail.Page{})
				return err
			},
			"Discrepancies": func() error {
				_, err := a.Discrepancies(t.Context(), who, trail.ReconcileFilter{}, trail.Page{})
				return err
			},
			"Logs":     func() error { _, err := a.Logs(t.Context(), who); return err },
			"Findings": func() error { _, err := a.Findings(t.Context(), who, trail.FindingFilter{}, trail.Page{}); return err },
			"Entry":    func() error { _, err := a.Entry(t.Context(), who, "police", 0); return err },
			"Proof":    func() error { _, err := a.Proof(t.Context(), who, "police", 0); return err },
		} {
			err := ask()
			if forbidden := domain.KindOf(err) == domain.Forbidden; forbidden == (role == domain.RoleAuditor) {
				t.Errorf("%s by %s: %v", what, role, err)
			}
		}
	}
}

func shortGrace(o *service.AuditorOptions) { o.Grace = 10 * time.Minute }

func TestAuditorRaisesDiscrepancies(t *testing.T) {
	w := evidencetest.New(t, "police", "civil")
	at := prooftest.Epoch.Add(-time.Hour)
	shift := func(records []domain.AccessRecord, to time.Time) []domain.AccessRecord {
		for i := range records {
			records[i].At, records[i].RespondedAt, records[i].LoggedAt = to, to, to
		}
		return records
	}
	differs := shift(consumed(1, 1), at)
	differs[0].RecordCount = 2
	refused := shift(provided(150, 1), at)
	refused[0].Result = "refused_quota"
	w.Logs["police"].Append(t, shift(provided(0, 2), at)...)                                  // 0 agrees, 1 differs
	w.Logs["police"].Append(t, shift(provided(100, 1), at)...)                                // the consumer says nothing
	w.Logs["police"].Append(t, shift(provided(200, 1), prooftest.Epoch.Add(-time.Minute))...) // has still time
	w.Logs["police"].Append(t, refused...)                                                    // released nothing
	w.Logs["civil"].Append(t, shift(consumed(0, 1), at)...)
	w.Logs["civil"].Append(t, differs...)
	w.Logs["civil"].Append(t, shift(consumed(300, 1), at)...) // the provider says nothing
	w.Logs["police"].Anchor(t)
	w.Logs["civil"].Anchor(t)
	a := newAudit(t, w, shortGrace)
	a.pull()
	type alarm struct {
		kind  domain.AlarmKind
		about domain.DepartmentCode
		call  string
		of    []domain.RecordRef
	}
	got := func() []alarm {
		var out []alarm
		for _, args := range a.alarms {
			out = append(out, alarm{args.Kind, args.About, args.Subject, args.Records})
		}
		slices.SortFunc(out, func(x, y alarm) int { return strings.Compare(x.call, y.call) })
		return out
	}
	want := []alarm{
		{"contradiction", "police", provided(1, 1)[0].CallID, []domain.RecordRef{{Department: "police", Index: 1}, {Department: "civil", Index: 1}}},
		{"one_sided", "civil", provided(100, 1)[0].CallID, []domain.RecordRef{{Department: "police", Index: 2}}},
		{"one_sided", "police", consumed(300, 1)[0].CallID, []domain.RecordRef{{Department: "civil", Index: 2}}},
	}
	if fmt.Sprint(got()) != fmt.Sprint(want) {
		t.Fatalf("alarms are %v, want %v", got(), want)
	}
	if !strings.Contains(a.alarms[0].Figures+a.alarms[1].Figures+a.alarms[2].Figures, "recordCount") {
		t.Errorf("no alarm names the field: %+v", a.alarms)
	}
	for range 2 { // once, also after a restart
		a.wait(4 * time.Minute)
		a.pull()
		a.restart()
	}
	if len(a.alarms) != 3 {
		t.Errorf("alarms are %v", got())
	}
	a.wait(10 * time.Minute)
	a.pull()
	if len(a.alarms) != 4 {
		t.Errorf("after the time of grace the alarms are %v", got())
	}
}

// A call that a log refused and then let through is one call. Until its release may
// be read, nobody is accused of a contradiction.
func TestAuditorRefusedFirst(t *testing.T) {
	w := evidencetest.New(t, "police", "civil")
	police, civil := w.Logs["police"], w.Logs["civil"]
	refused := consumed(1, 2)
	for i := range refused {
		refused[i].Result, refused[i].RecordCount, refused[i].ResponseDigest = "refused_backlog", 0, ""
	}
	police.Append(t, provided(1, 2)...)
	police.Anchor(t)
	civil.Append(t, refused...)
	civil.Anchor(t)
	a := newAudit(t, w, func(o *service.AuditorOptions) { o.Grace = 2 * time.Hour })
	a.pull()
	if len(a.alarms) != 0 {
		t.Fatalf("alarms before the time of grace: %+v", a.alarms)
	}
	civil.Append(t, consumed(1, 1)...) // the first of the two follows
	civil.Anchor(t)
	a.wait(3 * time.Hour)
	a.pull()
	if len(a.alarms) != 1 || a.alarms[0].Kind != domain.AlarmContradiction || a.alarms[0].Subject != provided(2, 1)[0].CallID {
		t.Errorf("alarms are %+v, want one about the call that was never released", a.alarms)
	}
}

// When departments disagree on everything, the first few calls say so; the other
// alarms follow. A log that is not read says nothing of who keeps silent.
func TestAuditorBoundsDiscrepancies(t *testing.T) {
	w := evidencetest.New(t, "police", "civil")
	w.Logs["police"].Append(t, provided(0, 50)...)
	w.Logs["police"].Anchor(t)
	a := newAudit(t, w, shortGrace)
	a.pull()
	if len(a.alarms) != 0 {
		t.Fatalf("alarms are %+v although the other log was never read", a.alarms)
	}
	w.Logs["civil"].Append(t, consumed(1000, 1)...)
	w.Logs["civil"].Anchor(t)
	for _, want := range []int{20, 40, 51, 51} {
		a.wait(time.Hour)
		a.pull()
		if len(a.alarms) != want {
			t.Fatalf("%d alarms, want %d", len(a.alarms), want)
		}
	}
}

func TestAuditorRuns(t *testing.T) {
	w := auditWorld(t)
	a := newAudit(t, w, nil)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	for want := uint64(700); want <= 710; want += 10 {
		for deadline := time.Now().Add(20 * time.Second); a.progress("police").Size != want; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not pulled to %d", want)
			}
		}
		w.Logs["police"].Anchor(t)
	}
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v", err)
	}
}

func TestIndexAnchors(t *testing.T) {
	ix, err := sqlindex.Open(t.Context(), filepath.Join(t.TempDir(), "index.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	defer ix.Close()
	block := uint64(0)
	add := func(code domain.DepartmentCode, from, to int) {
		var writes []domain.Write
		for size := from; size <= to; size++ {
			a := domain.Anchor{
				Meta:  domain.Meta{Schema: domain.SchemaAnchor, Department: code, Role: domain.RoleGateway, TxID: domain.TxID(strings.Repeat("ab", 32)), TxTime: prooftest.Epoch},
				Owner: code, Size: uint64(size), PreviousSize: uint64(size - 1), Counts: []domain.GrantCount{},
			}
			writes = append(writes, domain.Write{Key: domain.KeyOf(domain.KindAnchor, domain.AnchorID(code, a.Size)), Value: prooftest.Seal(&a, &a.Meta)})
		}
		err := ix.ApplyBlock(t.Context(), domain.Block{Number: block, Transactions: []domain.Transaction{{
			ID: domain.TxID(domain.Digest([]byte{byte(block)})), Time: prooftest.Epoch, ValidationCode: "VALID", Writes: writes,
		}}})
		if err != nil {
			t.Fatal(err)
		}
		block++
	}
	source := service.IndexAnchors(ix)
	read := func(code domain.DepartmentCode, after uint64) (out []uint64) {
		for {
			page, err := source.After(t.Context(), code, after)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				return out
			}
			for _, a := range page {
				out = append(out, a.Size)
			}
			after = out[len(out)-1]
		}
	}
	add("police", 1, 450)
	add("civil", 1, 3)
	for _, test := range []struct {
		after, want int
	}{{0, 450}, {0, 450}, {450, 0}, {449, 1}, {201, 249}, {200, 250}, {5, 445}} {
		if got := read("police", uint64(test.after)); len(got) != test.want || len(got) > 0 && got[0] != uint64(test.after)+1 || !slices.IsSorted(got) {
			t.Errorf("after %d there are %d anchors, want %d", test.after, len(got), test.want)
		}
	}
	add("police", 451, 452)
	if got := read("police", 450); len(got) != 2 {
		t.Errorf("the new anchors are %v", got)
	}
	if got := read("market", 0); len(got) != 0 {
		t.Errorf("anchors of nobody: %v", got)
	}
	if a, err := source.Get(t.Context(), "civil", 2); err != nil || a.Size != 2 || a.Owner != "civil" {
		t.Errorf("Get = %+v, %v", a, err)
	}
	if _, err := source.Get(t.Context(), "civil", 4); domain.KindOf(err) != domain.NotFound {
		t.Errorf("Get of no anchor = %v", err)
	}
}
