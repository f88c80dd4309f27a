package tilelog

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"k8s.io/klog/v2"

	"github.com/zhenglian/zhenglian/gateway/accesslog/accesslogtest"
)

// The test binary becomes a process that appends to the log in dirEnv with the
// key in keyEnv and tells what was acknowledged, one line each:
//
//	entry INDEX TEXT
//	checkpoint SIZE ROOT
const (
	dirEnv = "ZHENGLIAN_TEST_LOG_DIR"
	keyEnv = "ZHENGLIAN_TEST_LOG_KEY"
	runEnv = "ZHENGLIAN_TEST_LOG_RUN"
)

func TestMain(m *testing.M) {
	setLogger.Do(func() { klog.SetSlogLogger(slog.New(slog.DiscardHandler)) })
	if dir := os.Getenv(dirEnv); dir != "" {
		run := appendProcess
		if os.Getenv(faultEnv) != "" {
			run = faultProcess
		}
		if err := run(context.Background(), dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// appendProcess appends from several goroutines until it is killed.
func appendProcess(ctx context.Context, dir string) error {
	l, err := Open(ctx, options(dir, os.Getenv(keyEnv)))
	if err != nil {
		return err
	}
	failed := make(chan error)
	var mu sync.Mutex // one write of whole lines at a time
	say := func(text string) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = io.WriteString(os.Stdout, text)
	}
	for writer := range 4 {
		go func() {
			for call := 0; ; call++ {
				var entries [][]byte
				for i := range 1 + (call*7+writer)%90 {
					entries = append(entries, fmt.Appendf(nil, "run%s-writer%d-call%d-entry%d", os.Getenv(runEnv), writer, call, i))
				}
				receipts, err := l.Append(ctx, entries)
				if err != nil {
					failed <- err
					return
				}
				var lines strings.Builder
				for i, r := range receipts {
					fmt.Fprintf(&lines, "entry %d %s\n", r.Index, entries[i])
				}
				cp, err := l.Checkpoint(ctx)
				if err != nil {
					failed <- err
					return
				}
				fmt.Fprintf(&lines, "checkpoint %d %x\n", cp.Size, cp.Root)
				say(lines.String())
			}
		}()
	}
	return <-failed
}

// A process that appends is killed at random moments. Every entry that it
// acknowledged keeps its index, and every tree that it published is a beginning
// of the tree in the end.
func TestKill(t *testing.T) {
	dir, key := filepath.Join(t.TempDir(), "log"), newKey(t, origin)
	const kills = 50
	acknowledged := map[uint64]string{}
	published := map[uint64]string{}
	for run := range kills {
		env := []string{dirEnv + "=" + dir, keyEnv + "=" + key, fmt.Sprintf("%s=%d", runEnv, run)}
		accesslogtest.Killed(t, 120*time.Millisecond, env, func(line string) {
			var number uint64
			var text string
			if _, err := fmt.Sscanf(line, "entry %d %s", &number, &text); err == nil {
				if other, ok := acknowledged[number]; ok {
					t.Fatalf("index %d was given to %s and to %s", number, other, text)
				}
				acknowledged[number] = text
			} else if _, err := fmt.Sscanf(line, "checkpoint %d %s", &number, &text); err == nil {
				published[number] = text
			} else {
				t.Fatalf("the process said %q", line)
			}
		})
		checkFolder(t, dir, key)
	}

	l := openDir(t, dir, key)
	promised := len(acknowledged)
	all := accesslogtest.Check(t, l)
	seen := map[string]bool{}
	for i, e := range all {
		if seen[string(e)] {
			t.Errorf("entry %s is there twice", e)
		}
		seen[string(e)] = true
		if want, ok := acknowledged[uint64(i)]; ok && want != string(e) {
			t.Errorf("entry %d is %s and %s was acknowledged", i, e, want)
		}
		delete(acknowledged, uint64(i))
	}
	for number, text := range acknowledged {
		t.Errorf("entry %d, %s, was acknowledged and is lost", number, text)
	}
	size := uint64(len(all))
	root := rootAt(t, l, size)
	for old, text := range published {
		oldRoot, err := hex.DecodeString(text)
		if err != nil || len(oldRoot) != tlog.HashSize {
			t.Fatalf("root %q of size %d", text, old)
		}
		if old == 0 || old == size {
			continue
		}
		proof, err := l.ConsistencyProof(t.Context(), old, size)
		if err != nil {
			t.Fatalf("ConsistencyProof(%d, %d): %v", old, size, err)
		}
		var tree tlog.TreeProof
		for _, h := range proof {
			tree = append(tree, tlog.Hash(h))
		}
		if err := tlog.CheckTree(tree, int64(size), root, int64(old), tlog.Hash(oldRoot)); err != nil {
			t.Errorf("the tree of size %d that was published is no beginning of the tree of size %d: %v", old, size, err)
		}
	}
	t.Logf("%d entries, %d of them acknowledged, and %d published trees after %d kills", size, promised, len(published), kills)
	if len(published) < 2 {
		t.Error("hardly anything was published: the test does not tell")
	}
}

// Another process cannot open a log that is open.
func TestOpenInTwoProcesses(t *testing.T) {
	dir, key := t.TempDir(), newKey(t, origin)
	openDir(t, dir, key)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), dirEnv+"="+dir, keyEnv+"="+key)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another gateway has it open") {
		t.Errorf("a second process ended with %v and said %q", err, out)
	}
}
