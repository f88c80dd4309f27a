package sqlindex

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/gateway/index/indextest"
)

// fileEnv makes the test binary a process that feeds the index in that file and
// says after each step how many blocks are in.
const fileEnv = "ZHENGLIAN_TEST_FEED_INDEX"

const (
	killBlocks = 240
	killAccess = 12000
)

func TestMain(m *testing.M) {
	if file := os.Getenv(fileEnv); file != "" {
		if err := feedProcess(context.Background(), file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func feedProcess(ctx context.Context, file string) error {
	x, err := Open(ctx, file)
	if err != nil {
		return err
	}
	blocks := indextest.Blocks(killBlocks, 10)
	if err := feed(ctx, x, blocks, killAccess, func() {
		next, _ := x.NextBlock(ctx) // cannot fail once open
		fmt.Println(next)
	}); err != nil {
		return err
	}
	return x.Close()
}

// A process that applies blocks is killed at random moments. What it said is in
// stays in, and in the end the index is the one that a replay builds.
func TestKill(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "index.sqlite")
	kills := 20
	if testing.Short() {
		kills = 6
	}
	var acknowledged uint64
	for range kills {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), fileEnv+"="+file)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var kill *time.Timer
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if kill == nil {
				kill = time.AfterFunc(rand.N(20*time.Millisecond), func() { _ = cmd.Process.Kill() })
			}
			n, err := strconv.ParseUint(lines.Text(), 10, 64)
			if err != nil {
				t.Fatalf("the process said %q", lines.Text())
			}
			if n < acknowledged {
				t.Fatalf("the index has %d blocks after %d were acknowledged", n, acknowledged)
			}
			acknowledged = n
		}
		err = cmd.Wait()
		if kill == nil && acknowledged < killBlocks {
			t.Fatalf("the process ended before its first step: %v", err)
		}
	}
	if acknowledged == 0 || acknowledged == killBlocks {
		t.Fatalf("%d blocks are in after %d kills: the processes were not killed at work", acknowledged, kills)
	}
	t.Logf("%d of %d blocks were in after %d kills", acknowledged, killBlocks, kills)

	blocks := indextest.Blocks(killBlocks, 10)
	killed, fresh := openFile(t, file), openTemp(t)
	if n, err := killed.NextBlock(t.Context()); err != nil || n < acknowledged {
		t.Errorf("NextBlock = %d, %v after %d were acknowledged", n, err, acknowledged)
	}
	for _, x := range []*Index{killed, fresh} {
		if err := feed(t.Context(), x, blocks, killAccess, func() {}); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(dump(t, fresh), dump(t, killed)); diff != "" {
		t.Errorf("the killed index differs from a replay (-replay +killed):\n%s", diff)
	}
	for _, check := range []string{"PRAGMA integrity_check", "PRAGMA foreign_key_check"} {
		if got := query(t, killed.readers, check); len(got) > 0 && got[0] != "ok" {
			t.Errorf("%s: %v", check, got)
		}
	}
}
