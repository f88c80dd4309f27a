package tilelog

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	// faultEnv makes the test binary append groups of these sizes, one after the
	// other, and end: "1,300".
	faultEnv = "ZHENGLIAN_TEST_LOG_APPENDS"
	// fullEnv, when set, makes TestFaults try every point instead of a part.
	fullEnv = "ZHENGLIAN_TEST_FAULTS_FULL"
)

// faultCalls are the system calls through which the log reaches the disk.
var faultCalls = []string{"openat", "mkdirat", "pwrite64", "write", "fsync", "close", "renameat", "linkat"}

// faultProcess opens the log, appends one group after the other, says of each
// what was acknowledged, and closes it. After a failed append it says so and
// tries once more: that must be refused.
func faultProcess(ctx context.Context, dir string) error {
	l, err := Open(ctx, options(dir, os.Getenv(keyEnv)))
	if err != nil {
		return err
	}
	for call, size := range strings.Split(os.Getenv(faultEnv), ",") {
		n, err := strconv.Atoi(size)
		if err != nil {
			return err
		}
		entries := make([][]byte, n)
		for i := range entries {
			entries[i] = fmt.Appendf(nil, "call%d-entry%d", call, i)
		}
		receipts, err := l.Append(ctx, entries)
		if err != nil {
			fmt.Println("failed")
			receipts, err = l.Append(ctx, entries)
		}
		if err != nil {
			return errors.Join(err, l.Close(ctx))
		}
		var lines strings.Builder
		for i, r := range receipts {
			fmt.Fprintf(&lines, "entry %d %x %s\n", r.Index, r.LeafHash, entries[i])
		}
		if _, err := os.Stdout.WriteString(lines.String()); err != nil {
			return err
		}
		for len(receipts) > 0 && l.integrated.Load() <= receipts[n-1].Index && l.Failed() == nil {
			time.Sleep(time.Millisecond) // so that the calls for one append come before those for the next
		}
	}
	return l.Close(ctx)
}

// faultSite is a system call on a file of the log, at a stage of the process.
type faultSite struct {
	call  string
	file  string // below the folder above the log, without a final number, as temporary files have
	stage int    // how many appends were acknowledged before
	nth   int    // of its like in that stage
}

func (s faultSite) String() string {
	return fmt.Sprintf("%s %q, stage %d, number %d", s.call, s.file, s.stage, s.nth)
}

// acknowledging says whether no append that waits for the call may be acknowledged
// when it fails. The tree is written later, from what the journal holds.
func (s faultSite) acknowledging() bool { return s.call == "pwrite64" }

// tracedCall is one call that strace saw on a file of the log.
type tracedCall struct {
	site     faultSite
	when     int  // which call of that name it was of its thread: strace counts by thread
	first    bool // no other thread came to that number before
	injected bool
	acks     int // acknowledgements that came after it
}

var (
	traceLine = regexp.MustCompile(`^(\d+) +(\w+)\(`)
	temporary = regexp.MustCompile(`[0-9]+$`)
)

// parseTrace reads what strace wrote, of calls on files in dir.
func parseTrace(t *testing.T, trace, dir string) []*tracedCall {
	t.Helper()
	raw, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	type thread struct{ id, call string }
	type numbered struct {
		call string
		when int
	}
	count, seen, reached := map[thread]int{}, map[faultSite]int{}, map[numbered]bool{}
	open := map[thread]*tracedCall{} // calls whose end is in a later line
	var calls []*tracedCall
	stage := 0
	for line := range strings.Lines(string(raw)) {
		if id, rest, ok := strings.Cut(line, " "); ok && strings.Contains(rest, "resumed>") {
			name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(rest), "<... "), " ")
			if call := open[thread{id, name}]; call != nil && strings.Contains(rest, "(INJECTED)") {
				call.injected = true
			}
			continue
		}
		m := traceLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		key := thread{m[1], m[2]}
		count[key]++
		at := numbered{m[2], count[key]}
		first := !reached[at]
		reached[at] = true
		if m[2] == "write" && strings.Contains(line, "entry ") && strings.Contains(line, "<pipe:") {
			stage++
			for _, call := range calls {
				call.acks++
			}
		}
		path := strings.LastIndex(line, dir)
		if path < 0 {
			continue
		}
		file := line[path+len(dir):]
		file = file[:strings.IndexAny(file+"\"", "\">")]
		site := faultSite{call: m[2], file: temporary.ReplaceAllString(strings.TrimPrefix(file, "/"), ""), stage: stage}
		seen[site]++
		site.nth = seen[site]
		call := &tracedCall{site: site, when: count[key], first: first, injected: strings.Contains(line, "(INJECTED)")}
		open[key] = call
		calls = append(calls, call)
	}
	return calls
}

// faultScenario is a log and what is appended to it.
type faultScenario struct {
	name    string
	key     string
	base    string // folder of the log before; "" for none
	size    uint64 // of base
	root    tlog.Hash
	appends string
}

// run runs the appending process on a copy of the base, under strace with the
// extra arguments, and answers the folder, the trace, and the process's journal.
func (s faultScenario) run(t *testing.T, extra ...string) (dir string, calls []*tracedCall, journal string) {
	t.Helper()
	work := passingDir(t)
	dir, trace := filepath.Join(work, "log"), filepath.Join(work, "trace")
	if s.base != "" {
		copyLog(t, s.base, dir)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args := append([]string{"-f", "-y", "-qq", "-o", trace, "-e", "trace=" + strings.Join(faultCalls, ","), "-e", "signal=none"}, extra...)
	cmd := exec.CommandContext(ctx, "strace", append(args, os.Args[0])...)
	cmd.Env = append(os.Environ(), dirEnv+"="+dir, keyEnv+"="+s.key, faultEnv+"="+s.appends,
		"GOMAXPROCS=16") // with one to spare a goroutine seldom changes its thread, by which strace counts
	cmd.WaitDelay = time.Second
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run() // what the process answered to the fault is its own affair
	if ctx.Err() != nil {
		t.Fatalf("with %v the process did not end: %v\n%s", extra, err, stderr.String())
	}
	if _, err := os.Stat(trace); err != nil || strings.Contains(stderr.String(), "strace: ") {
		t.Fatalf("strace does not work here (it needs the permission to trace, CAP_SYS_PTRACE in containers): %s", stderr.String())
	}
	return dir, parseTrace(t, trace, work), out.String()
}

// passingDir answers a folder that is removed at the end of the test, even when a
// closed log's last look at its checkpoint still makes a lock file in it.
func passingDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tilelog") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		err := os.RemoveAll(dir)
		for range 100 {
			if err == nil {
				return
			}
			<-ticker.C
			err = os.RemoveAll(dir)
		}
		t.Errorf("remove the test's folder: %v", err)
	})
	return dir
}

// copyLog copies a log by hard links: its files are replaced, never changed, but for
// the journal. Lock files are made anew.
func copyLog(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		if strings.HasSuffix(path, "lock") {
			return nil
		}
		if strings.HasPrefix(filepath.Base(path), "journal-") {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(target, data, 0o600)
		}
		return os.Link(path, target)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// check checks what a fault left behind: the published tree as it lies there, and
// after opening the log anew that all that was promised is there, that indexes
// go on without a gap, and that appending goes on.
func (s faultScenario) check(t *testing.T, dir, journal string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, "checkpoint")); err == nil {
		checkFolder(t, dir, s.key)
	}
	l, err := Open(t.Context(), options(dir, s.key))
	if err != nil {
		t.Fatalf("Open after the fault: %v", err)
	}
	receipts, err := l.Append(t.Context(), [][]byte{[]byte("after")})
	if err != nil {
		t.Fatalf("Append after the fault: %v", err)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatalf("Close after the fault: %v", err)
	}
	if size := checkFolder(t, dir, s.key); size != receipts[0].Index+1 {
		t.Fatalf("the log has size %d and its last index is %d", size, receipts[0].Index)
	}
	l = openDir(t, dir, s.key)
	if s.size > 0 && rootAt(t, l, s.size) != s.root {
		t.Fatal("the log does not begin with the entries that it had")
	}
	next := s.size
	for line := range strings.Lines(journal) {
		if line == "failed\n" {
			next = 1 << 63 // nothing may follow
			continue
		}
		var index uint64
		var leaf, text string
		if _, err := fmt.Sscanf(line, "entry %d %s %s\n", &index, &leaf, &text); err != nil {
			t.Fatalf("the process said %q", line)
		}
		if index != next {
			t.Fatalf("index %d was acknowledged, want %d", index, next)
		}
		next++
		entries, err := l.Entries(t.Context(), index, index+1)
		if err != nil || string(entries[0]) != text || tlog.RecordHash(entries[0]).String() != hashText(t, leaf) {
			t.Fatalf("entry %d is %q, %v; %q with leaf hash %s was acknowledged", index, entries, err, text, leaf)
		}
	}
	if next != 1<<63 && receipts[0].Index < next {
		t.Fatalf("index %d was given twice", receipts[0].Index)
	}
}

func hashText(t *testing.T, leaf string) string {
	t.Helper()
	var h tlog.Hash
	if n, err := fmt.Sscanf(leaf, "%x", new([]byte)); n != 1 || err != nil || len(leaf) != 2*len(h) {
		t.Fatalf("leaf hash %q: %v", leaf, err)
	}
	for i := range h {
		b, err := strconv.ParseUint(leaf[2*i:2*i+2], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		h[i] = byte(b)
	}
	return h.String()
}

// checkFolder lets Tessera's own checker compare every entry, tile and the
// checkpoint, and answers the size.
func checkFolder(t *testing.T, dir, key string) uint64 {
	t.Helper()
	verifierKey, err := VerifierKey(key)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(verifierKey)
	if err != nil {
		t.Fatal(err)
	}
	files := &client.FileFetcher{Root: dir}
	cp, _, _, err := client.FetchCheckpoint(t.Context(), files.ReadCheckpoint, verifier, origin)
	if err != nil {
		t.Fatalf("the checkpoint: %v", err)
	}
	if cp.Size == 0 {
		return 0
	}
	leaves := func(bundle []byte) ([][]byte, error) {
		var b api.EntryBundle
		if err := b.UnmarshalText(bundle); err != nil {
			return nil, err
		}
		var hashes [][]byte
		for _, e := range b.Entries {
			h := tlog.RecordHash(e)
			hashes = append(hashes, h[:])
		}
		return hashes, nil
	}
	if err := fsck.New(origin, verifier, files, leaves, fsck.Opts{N: 1}).Check(t.Context()); err != nil {
		t.Fatalf("fsck of the tree of size %d: %v", cp.Size, err)
	}
	return cp.Size
}

// faultPlan is what one kind of fault has hit, and has still to hit, in a
// scenario. It is used by several tests at a time.
type faultPlan struct {
	scenario faultScenario
	fault    string // as strace's inject takes it

	mu      sync.Mutex
	when    map[faultSite][]int // seen so far: threads differ from run to run
	sure    map[faultSite][]int // those that no other thread came to before
	missing map[faultSite]bool
	hit     map[faultSite]bool
}

// learn notes which call of its thread each site was.
func (p *faultPlan) learn(calls []*tracedCall) {
	for _, call := range calls {
		p.when[call.site] = append(p.when[call.site], call.when)
		if call.first {
			p.sure[call.site] = append(p.sure[call.site], call.when)
		}
	}
}

// aim answers the call number that shall hit site.
func (p *faultPlan) aim(site faultSite) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := p.sure[site]
	if len(seen) == 0 {
		seen = p.when[site]
	}
	return seen[rand.IntN(len(seen))] //nolint:gosec // which of them is no secret
}

// took notes what a run with the fault at call number when has hit.
func (p *faultPlan) took(name string, when int, calls []*tracedCall) (hit []*tracedCall) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.learn(calls)
	for _, call := range calls {
		if call.site.call != name || call.when != when {
			continue
		}
		if p.fault == faultKill && len(hit) > 0 {
			break // the first one killed all threads
		}
		if p.fault == faultKill || call.injected {
			hit = append(hit, call)
			p.hit[call.site] = true
			delete(p.missing, call.site)
		}
	}
	return hit
}

// try lets the fault happen at site, or at what takes its place in this run, and
// checks what it left.
func (p *faultPlan) try(t *testing.T, site faultSite) {
	when := p.aim(site)
	dir, calls, journal := p.scenario.run(t, "-e", fmt.Sprintf("inject=%s:%s:when=%d", site.call, p.fault, when))
	for _, call := range p.took(site.call, when, calls) {
		if p.fault == faultError && call.site.acknowledging() && call.acks > 0 {
			t.Errorf("%d appends were acknowledged after the fault in %s", call.acks, call.site)
		}
	}
	p.scenario.check(t, dir, journal)
}

const (
	faultError = "error=EIO"
	faultKill  = "signal=SIGKILL"
)

// Every system call through which the log reaches the disk fails with EIO, or is
// the last one of the process, in turn: while a new log begins, and while one
// grows over the edge of a bundle, and of 256. What was acknowledged stays, nothing is
// acknowledged after a failed write, and the log goes on by itself.
func TestFaults(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Fatalf("%v; install the Debian package strace", err)
	}
	full := os.Getenv(fullEnv) != ""
	key := newKey(t, origin)
	scenarios := []faultScenario{
		{name: "a new log", key: key, appends: "1,3"},
		{name: "over the edge of a bundle", key: key, size: 250, appends: "300"},
		{name: "over the edge of 256 bundles", key: key, size: 256*256 - 10, appends: "20"},
	}
	for i := range scenarios[1:] {
		s := &scenarios[i+1]
		s.base = filepath.Join(t.TempDir(), "base")
		closedLog(t, s.base, key, int(s.size))
		root, err := os.ReadFile(filepath.Join(s.base, ".state", "treeState"))
		if err != nil {
			t.Fatal(err)
		}
		var state treeState
		if err := json.Unmarshal(root, &state); err != nil {
			t.Fatal(err)
		}
		s.root = tlog.Hash(state.Root)
	}
	points, runs := 0, 0
	for _, scenario := range scenarios {
		for _, fault := range []string{faultError, faultKill} {
			plan := &faultPlan{scenario: scenario, fault: fault, when: map[faultSite][]int{}, sure: map[faultSite][]int{}, missing: map[faultSite]bool{}, hit: map[faultSite]bool{}}
			const undisturbed = 3
			for range undisturbed {
				dir, calls, journal := scenario.run(t)
				scenario.check(t, dir, journal)
				plan.learn(calls)
			}
			for site, seen := range plan.when {
				if len(seen) == undisturbed { // others hang on the race with the publishing of checkpoints
					plan.missing[site] = true
				}
			}
			all := len(plan.missing)
			passes, most := 1, 8
			if full {
				passes, most = 40, all
			}
			for pass := 0; pass < passes && len(plan.missing) > 0; pass++ {
				sites := slices.SortedFunc(maps.Keys(plan.missing), func(a, b faultSite) int { return cmp.Compare(a.String(), b.String()) })
				rand.Shuffle(len(sites), func(i, k int) { sites[i], sites[k] = sites[k], sites[i] })
				sites = sites[:min(most, len(sites))]
				runs += len(sites)
				t.Run(fmt.Sprintf("%s %s %d", scenario.name, fault, pass), func(t *testing.T) {
					for _, site := range sites {
						t.Run(site.String(), func(t *testing.T) {
							t.Parallel()
							plan.try(t, site)
						})
					}
				})
			}
			points += len(plan.hit)
			t.Logf("%s, %s: %d points hit, %d of the %d of an undisturbed run missing", scenario.name, fault, len(plan.hit), len(plan.missing), all)
			if full && len(plan.missing) > all/10 { // the publishing of checkpoints changes its thread often
				t.Errorf("never hit: %v", slices.Collect(maps.Keys(plan.missing)))
			}
		}
	}
	t.Logf("%d points hit in %d runs", points, runs)
	if points < 20 || full && points < 100 {
		t.Errorf("only %d points were hit: the test does not tell", points)
	}
}
