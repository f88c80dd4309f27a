package requestlog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

var testStart = time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)

func open(t testing.TB, dir string, maxBytes int64) *Log {
	t.Helper()
	now := testStart
	l, err := Open(Options{Dir: dir, Department: "police", MaxBytes: maxBytes, Clock: func() time.Time { now = now.Add(time.Millisecond); return now }})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func shut(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func request(n int) Entry {
	status := 200 + 100*(n%4)
	return Entry{
		Level: LevelOf(status), Msg: MsgRequest, TraceID: fmt.Sprintf("%032x", n+1), Method: "GET", Route: "/v1/catalog/entries/:code", Status: status,
		TookUs: int64(100 + n), Department: "police", Role: domain.RoleOperator, Via: "token", Credential: "0123456789abcdef", Address: "127.0.0.1",
	}
}

func filesOf(t testing.TB, dir string) []string {
	t.Helper()
	files, err := Files(dir)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func verified(t testing.TB, dir string) Report {
	t.Helper()
	report, err := Verify(filesOf(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// TestChainThroughFilesAndStarts writes through several files and restarts, from
// many goroutines, and finds every line once.
func TestChainThroughFilesAndStarts(t *testing.T) {
	dir := t.TempDir()
	const starts, each = 3, 200
	for range starts {
		l := open(t, dir, 8<<10)
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for i := range each / 4 {
					l.Add(request(g*each + i))
				}
			})
		}
		wg.Wait()
		shut(t, l)
	}
	report := verified(t, dir)
	if report.Requests != starts*each || report.Starts != starts || report.Last.Seq != starts*(each+1) || report.First.Seq != 1 {
		t.Errorf("report = %+v", report)
	}
	files := filesOf(t, dir)
	if len(files) < 10 {
		t.Errorf("%d files, want many", len(files))
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 8<<10 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has %d bytes, mode %s", file, info.Size(), info.Mode())
		}
	}
	// A part of the files is checked from where it begins; a hole is found.
	if part, err := Verify(files[3:]); err != nil || part.First.Seq == 1 || part.Head != report.Head {
		t.Errorf("of the later files: %+v, %v", part, err)
	}
	if _, err := Verify(append(files[:3:3], files[4:]...)); !isBroken(err) {
		t.Errorf("without one file: %v", err)
	}
}

func isBroken(err error) bool {
	var broken *BrokenError
	return errors.As(err, &broken)
}

// TestTornAtEveryByte cuts the log at every length. The next start goes on from
// there, changes no byte, and what it writes verifies.
func TestTornAtEveryByte(t *testing.T) {
	whole := t.TempDir()
	l := open(t, whole, 0)
	for range 2 {
		l.Add(Entry{Level: "INFO", Msg: MsgRequest, Status: 200})
	}
	shut(t, l)
	data, err := os.ReadFile(filesOf(t, whole)[0])
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(data) + 1 {
		tails := []string{""}
		if cut%20 == 0 {
			tails = append(tails, "\x00\x00\x00", "\x00\n\x00\n") // a power cut may leave zeros
		}
		for _, tail := range tails {
			dir := t.TempDir()
			file := filepath.Join(dir, fileName(1))
			torn := append(bytes.Clone(data[:cut]), tail...)
			if err := os.WriteFile(file, torn, 0o600); err != nil {
				t.Fatal(err)
			}
			l := open(t, dir, 0)
			l.Add(request(9))
			shut(t, l)
			got, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(got, torn) {
				t.Fatalf("cut at %d, %q: bytes were rewritten", cut, tail)
			}
			lines := bytes.Count(data[:cut], []byte("\n"))
			wantTorn := 0
			if cut+len(tail) > 0 && (tail != "" || data[cut-1] != '\n') {
				wantTorn = 1
			}
			report := verified(t, dir)
			if report.Torn != wantTorn || report.Last.Seq != uint64(lines+wantTorn+2) || report.Unclosed != 0 {
				t.Fatalf("cut at %d, %q: report = %+v, want %d torn", cut, tail, report, wantTorn)
			}
		}
	}
}

// TestTornBesideRotation ends in a file without a line, after a full one.
func TestTornBesideRotation(t *testing.T) {
	for _, torn := range []string{"", "{\"time\":\"2026"} {
		dir := t.TempDir()
		l := open(t, dir, 0)
		l.Add(request(1))
		shut(t, l)
		if err := os.WriteFile(filepath.Join(dir, fileName(2)), []byte(torn), 0o600); err != nil {
			t.Fatal(err)
		}
		l = open(t, dir, 0)
		l.Add(request(2))
		shut(t, l)
		report := verified(t, dir)
		if report.Requests != 2 || report.Starts != 2 || (report.Torn == 1) != (torn != "") {
			t.Errorf("%q: report = %+v", torn, report)
		}
	}
}

// TestKilled kills a process that writes, again and again: everything up to the
// kill is there but for the last moments, and the chain holds.
func TestKilled(t *testing.T) {
	if dir := os.Getenv("REQUESTLOG_WRITE"); dir != "" {
		l := open(t, dir, 64<<10)
		before := l.Lines()
		for n := 0; ; n++ {
			l.Add(request(n))
			if n == 1000 {
				for l.Lines() < before+1000 {
					time.Sleep(time.Millisecond)
				}
				fmt.Println("written")
			}
		}
	}
	dir := t.TempDir()
	const kills = 5
	for range kills {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$") //nolint:gosec // this test itself
		cmd.Env = append(os.Environ(), "REQUESTLOG_WRITE="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if told, err := bufio.NewReader(out).ReadString('\n'); told != "written\n" {
			t.Fatalf("the writer said %q: %v", told, err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
	}
	shut(t, open(t, dir, 64<<10))
	report := verified(t, dir)
	if report.Starts != kills+1 || report.Requests < kills*990 {
		t.Errorf("report = %+v", report)
	}
}

// TestEveryChangeIsFound flips every bit of all lines but the last, cuts out,
// repeats and swaps lines.
func TestEveryChangeIsFound(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, 0)
	for n := range 4 {
		l.Add(request(n))
	}
	shut(t, l)
	data, err := os.ReadFile(filesOf(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	verify := func(changed []byte) (Report, error) {
		v := newVerifier()
		if err := v.check("it", changed, true); err != nil {
			return Report{}, err
		}
		return v.end("it")
	}
	if report, err := verify(data); err != nil || report.Requests != 4 {
		t.Fatalf("unchanged: %+v, %v", report, err)
	}
	last := bytes.LastIndexByte(data[:len(data)-1], '\n') + 1
	for i := range last - 1 { // after the last newline but one there may be part of a line
		for bit := range 8 {
			changed := bytes.Clone(data)
			changed[i] ^= 1 << bit
			if _, err := verify(changed); !isBroken(err) {
				t.Fatalf("bit %d of byte %d: %v", bit, i, err)
			}
		}
	}
	lines := bytes.SplitAfter(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
	lines[len(lines)-1] = append(lines[len(lines)-1], '\n')
	for name, changed := range map[string][][]byte{
		"first left out":  lines[1:],
		"middle left out": {lines[0], lines[1], lines[3], lines[4]},
		"repeated":        {lines[0], lines[1], lines[1], lines[2], lines[3], lines[4]},
		"swapped":         {lines[0], lines[2], lines[1], lines[3], lines[4]},
		"empty line":      {lines[0], lines[1], []byte("\n"), lines[2]},
		"empty":           {},
	} {
		report, err := verify(bytes.Join(changed, nil))
		if name == "first left out" {
			// It is a part of the log, and says where it begins.
			if err != nil || report.First.Seq != 2 {
				t.Errorf("%s: %+v, %v", name, report, err)
			}
			continue
		}
		if !isBroken(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if report, err := verify(data[:len(data)-1]); err != nil || report.Unclosed != len(data)-1-last {
		t.Errorf("without the last newline: %+v, %v", report, err)
	}
}

// TestDiskFull ends the log when a line cannot be written.
func TestDiskFull(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full on this machine:", err)
	}
	l := open(t, t.TempDir(), 0)
	l.mu.Lock()
	_ = l.file.Close()
	l.file = full
	l.mu.Unlock()
	for range queueLength + 10 { // more than may wait: nobody is held up for ever
		l.Add(request(1))
	}
	<-l.ended
	if l.Failed() == nil {
		t.Error("the log did not fail")
	}
	if _, _, err := l.Head(); err == nil {
		t.Error("a failed log has a head to anchor")
	}
}

// submitted is a ledger that remembers what was submitted.
type submitted struct {
	arguments []domain.AttestArgs
	err       error
}

func (s *submitted) Submit(_ context.Context, r ledger.Request) (ledger.Receipt, error) {
	var args domain.AttestArgs
	if err := domain.ParseCanonical(r.Argument, &args); err != nil {
		return ledger.Receipt{}, err
	}
	if r.Role != domain.RoleGateway || r.Transaction != "evidence:Attest" || r.Operation != "" {
		return ledger.Receipt{}, fmt.Errorf("submitted %s as %s, operation %q", r.Transaction, r.Role, r.Operation)
	}
	s.arguments = append(s.arguments, args)
	return ledger.Receipt{Position: domain.Position{Block: uint64(len(s.arguments)), TxID: domain.TxID(strings.Repeat("ab", 32))}}, s.err
}

// TestAnchor anchors heads, once each, and finds an anchor that names another
// line than was written.
func TestAnchor(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, 1<<20)
	chain := new(submitted)
	a := NewAnchorer("police", l, chain, time.Hour, slog.New(slog.DiscardHandler))
	step := func(want int) {
		t.Helper()
		err := a.step(t.Context())
		if (err != nil) != (chain.err != nil) || len(chain.arguments) != want {
			t.Fatalf("step: %v, %d submitted, want %d", err, len(chain.arguments), want)
		}
	}
	awaitLines := func(want uint64) {
		t.Helper()
		for deadline := time.Now().Add(5 * time.Second); l.Lines() < want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d lines, want %d", l.Lines(), want)
			}
		}
	}
	step(1) // the start is a line
	awaitLines(2)
	step(1) // nothing but the line that tells of the anchor
	l.Add(request(1))
	awaitLines(3)
	chain.err = &ledger.OutcomeUnknownError{TxID: domain.TxID(strings.Repeat("cd", 32)), Err: errors.New("late")}
	step(2)
	awaitLines(4)
	chain.err = errors.New("no orderer")
	step(3)
	chain.err = nil
	step(4)
	awaitLines(5)
	if seq, at := a.Anchored(); seq != 4 || at.IsZero() {
		t.Errorf("Anchored = %d, %v", seq, at)
	}
	shut(t, l)

	report := verified(t, dir)
	if len(report.Anchors) != 3 {
		t.Fatalf("anchors = %+v", report.Anchors)
	}
	for i, want := range []struct{ seq, block, argument uint64 }{{1, 1, 0}, {3, 0, 1}, {4, 4, 3}} {
		got := report.Anchors[i]
		args := chain.arguments[want.argument]
		if got.Seq != want.seq || got.Block != want.block || !got.Known || args.Nonce != Nonce(got.Head) || args.Kind != domain.KindLog || args.ID != "police" {
			t.Errorf("anchor %d = %+v of %+v", i, got, args)
		}
	}

	// A log that was written anew, with the old anchors.
	other := t.TempDir()
	l = open(t, other, 1<<20)
	l.Add(request(5))
	forged := report.Anchors[0].Anchor
	forged.Head = strings.Repeat("0", 64)
	l.Add(Entry{Level: "INFO", Msg: MsgAnchored, Anchor: &forged})
	shut(t, l)
	if _, err := Verify(filesOf(t, other)); !isBroken(err) {
		t.Errorf("an anchor of another line: %v", err)
	}
}

func TestAnchorerRuns(t *testing.T) {
	l := open(t, t.TempDir(), 0)
	defer shut(t, l)
	chain := &submitted{err: errors.New("no orderer")}
	a := NewAnchorer("police", l, chain, time.Millisecond, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := a.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Run = %v", err)
	}
	if len(chain.arguments) < 2 {
		t.Errorf("tried %d times, want again and again", len(chain.arguments))
	}
}

// TestLineIsCanonical compares the fast way to write a line with the slow one.
func TestLineIsCanonical(t *testing.T) {
	odd := request(3)
	odd.Route, odd.Code, odd.Credential = "/a\"b", "<&>\u2028中", "\x00\x7f"
	full := request(2)
	full.Seq, full.Prev, full.Code, full.Reason, full.TxID, full.Time = 7, noHead, "unauthenticated", "expired", "ab", testStart.Add(120*time.Millisecond)
	negative := request(1)
	negative.TookUs, negative.Status = -5, -1
	length := int64(0)
	for i, e := range []Entry{{}, request(1), full, odd, negative, {Msg: MsgTorn, Torn: &length, Closes: noHead}, {Msg: MsgAnchored, Anchor: &Anchor{Seq: 1, Head: noHead, TxID: "ab"}}} {
		want, err := domain.Canonical(e)
		if err != nil {
			t.Fatal(err)
		}
		got, err := appendLine([]byte("before"), &e)
		if err != nil || string(got) != "before"+string(want) {
			t.Errorf("entry %d: %s, %v, want %s", i, got, err, want)
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	l := open(b, b.TempDir(), 0)
	e := request(1)
	b.ReportAllocs()
	for b.Loop() {
		l.Add(e)
	}
	shut(b, l)
}
