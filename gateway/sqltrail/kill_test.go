package sqltrail

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"reflect"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/trail"
	"github.com/zhenglian/zhenglian/gateway/trail/trailtest"
)

// feedEnv makes the test binary a process that applies a history to the trail at
// that place and says after each batch how many entries are in.
const feedEnv = "ZHENGLIAN_TEST_FEED_TRAIL"

const (
	killEntries = 30_000
	killBatch   = 97
)

// killHistory are the logs that the processes apply.
var killHistory = sync.OnceValue(func() []trailtest.Log { return trailtest.History(killEntries) })

func feedProcess(ctx context.Context, where string) error {
	s, err := Open(ctx, where)
	if err != nil {
		return err
	}
	if err := feed(ctx, s, func(size uint64) { fmt.Fprintln(os.Stdout, size) }); err != nil {
		return err
	}
	return s.Close()
}

// feed applies the rest of the history in batches, each log's in turn.
func feed(ctx context.Context, s trail.Store, applied func(size uint64)) error {
	total := uint64(0)
	for _, l := range killHistory() {
		p, err := s.Progress(ctx, l.Department)
		if err != nil {
			return err
		}
		for from := p.Size; from < uint64(len(l.Entries)); from += killBatch {
			to := min(from+killBatch, uint64(len(l.Entries)))
			if err := s.Apply(ctx, l.Department, l.Entries[from:to], trailtest.At(to, uint64(len(l.Entries)))); err != nil {
				return err
			}
			applied(total + to)
		}
		total += uint64(len(l.Entries))
	}
	return nil
}

// A process that applies batches is killed at random moments. What it said is in
// stays in, of no batch is there a part, and in the end the trail is the one that
// a process that was left alone makes.
func TestKill(t *testing.T) {
	everyDatabase(t, func(t *testing.T, database func(testing.TB) string) {
		where := database(t)
		const kills = 10
		var acknowledged uint64
		for range kills {
			acknowledged = max(acknowledged, feedAndKill(t, where, acknowledged))
			checkWhole(t, where, acknowledged)
		}
		if acknowledged == 0 || acknowledged == killEntries {
			t.Fatalf("%d entries are in after %d kills: the processes were not killed at work", acknowledged, kills)
		}
		t.Logf("%d of %d entries were in after %d kills", acknowledged, killEntries, kills)

		killed, fresh := open(t, where), open(t, database(t))
		for _, s := range []*Store{killed, fresh} {
			if err := feed(t.Context(), s, func(uint64) {}); err != nil {
				t.Fatal(err)
			}
		}
		want, got := trailtest.Dump(t, fresh), trailtest.Dump(t, killed)
		if !reflect.DeepEqual(want, got) { // cmp is slow on so much
			t.Errorf("the killed trail differs from one left alone (-alone +killed):\n%s", cmp.Diff(want, got))
		}
	})
}

// feedAndKill runs a process and kills it; it answers the last size it told.
func feedAndKill(t *testing.T, where string, before uint64) uint64 {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), feedEnv+"="+where)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var kill *time.Timer
	told := before
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if kill == nil {
			kill = time.AfterFunc(rand.N(60*time.Millisecond), func() { _ = cmd.Process.Kill() })
		}
		n, err := strconv.ParseUint(lines.Text(), 10, 64)
		if err != nil || n < told {
			t.Errorf("the process said %q after %d entries were in", lines.Text(), told)
		}
		told = max(told, n)
	}
	if err := cmd.Wait(); kill == nil && told < killEntries {
		t.Fatalf("the process ended before its first step: %v", err)
	}
	return told
}

// checkWhole checks that the trail holds whole batches: as many entries as it
// says, and of each log a multiple of the batch or all.
func checkWhole(t *testing.T, where string, acknowledged uint64) {
	t.Helper()
	s, err := Open(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	logs, err := s.Logs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sum := uint64(0)
	whole := map[domain.DepartmentCode]uint64{}
	for _, l := range killHistory() {
		whole[l.Department] = uint64(len(l.Entries))
	}
	for _, l := range logs {
		sum += l.Progress.Size
		if l.Progress.Size%killBatch != 0 && l.Progress.Size != whole[l.Department] {
			t.Errorf("%d entries of the log of %s are in: a part of a batch", l.Progress.Size, l.Department)
		}
		totals, err := s.Totals(t.Context(), trail.Filter{Writer: l.Department})
		if err != nil || uint64(totals.Records) != l.Progress.Size { //nolint:gosec // not negative
			t.Errorf("the log of %s has %d records, %v, and progress %d", l.Department, totals.Records, err, l.Progress.Size)
		}
	}
	if sum < acknowledged {
		t.Errorf("%d entries are in after %d were acknowledged", sum, acknowledged)
	}
}
