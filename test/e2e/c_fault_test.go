//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

var sequence atomic.Int64

// newCode answers an information resource code that nobody used yet.
func newCode() string {
	return fmt.Sprintf("306003/%09d", time.Now().Unix()%100_000*1000+sequence.Add(1))
}

// contentOf is a small catalog entry of any department.
func contentOf(department string) domain.CatalogContent {
	c := content(newCode())
	c.ProviderUSCC = map[string]string{
		"bigdata": "11990000A000000113", "police": "11990000A0000002XT", "civil": "11990000A00000038T", "market": "11990000A00000046M",
	}[department]
	return c
}

// hold keeps a department's processes from running: each one that the
// supervisor starts is killed at once, until the function answered is called.
func hold(t *testing.T, department string, kinds ...string) (release func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				for _, kind := range kinds {
					_ = net.Kill(department, kind) // most of the time there is none
				}
			}
		}
	})
	return sync.OnceFunc(func() { cancel(); wg.Wait() })
}

func equalHeights(t *testing.T) (bool, string) {
	t.Helper()
	var info struct {
		Departments []struct {
			Department string  `json:"department"`
			Height     *uint64 `json:"height"`
		} `json:"departments"`
	}
	if err := net.Gateway("bigdata").Call(t.Context(), "auditor", "GET", "/v1/chain", nil, 200, &info); err != nil {
		return false, err.Error()
	}
	equal := len(info.Departments) == 4
	state := ""
	for _, d := range info.Departments {
		if d.Height == nil {
			return false, d.Department + " does not answer"
		}
		state += fmt.Sprintf("%s %d ", d.Department, *d.Height)
		equal = equal && *d.Height == *info.Departments[0].Height
	}
	return equal, state
}

// TestUpAgain runs "up" on a running consortium: it changes nothing and is quick.
func TestUpAgain(t *testing.T) {
	before, err := net.AllProcesses()
	must(t, err)
	started := time.Now()
	must(t, net.Up(t.Context()))
	t.Logf("up on a running consortium took %s", time.Since(started).Round(time.Millisecond))
	after, err := net.AllProcesses()
	must(t, err)
	if fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("processes %v before, %v after", before, after)
	}
}

// TestDownAndUp stops everything, checks that nothing is left, and resumes.
func TestDownAndUp(t *testing.T) {
	before := height(t)
	must(t, net.Down(t.Context()))
	pids, err := net.AllProcesses()
	must(t, err)
	if len(pids) != 0 {
		t.Errorf("%d processes are left after down", len(pids))
	}
	started := time.Now()
	must(t, net.Up(t.Context()))
	t.Logf("resumed in %s", time.Since(started).Round(time.Millisecond))
	if after := height(t); after < before {
		t.Errorf("height %d before down, %d after up", before, after)
	}
}

// TestBadStart checks that what a user can get wrong before a start is answered
// with one line that names the cause and the remedy, and changes nothing.
func TestBadStart(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	definition := net.State + ".yaml"
	good, err := os.ReadFile(definition)
	must(t, err)
	for _, c := range []struct {
		name       string
		definition string
		state      string
		want       string
	}{
		{"port in use", string(good), state, "18081"},
		{"unknown key", string(good) + "\nlaed: police\n", state, "laed"},
		{"unknown lead", strings.Replace(string(good), "lead: bigdata", "lead: nobody", 1), state, "lead"},
		{"edited after the first up", strings.Replace(string(good), "Civil Affairs Bureau", "Civil Bureau", 1), net.State, "reset"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "consortium.yaml")
			must(t, os.WriteFile(file, []byte(c.definition), 0o600))
			cmd := exec.CommandContext(t.Context(), filepath.Join(net.Root, "bin", "zhenglian-network"), "up", "--state", c.state, "--definition", file)
			cmd.Dir = net.Root
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatalf("up succeeded:\n%s", out)
			}
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			if last := lines[len(lines)-1]; !strings.Contains(last, c.want) {
				t.Errorf("last line %q, want it to name %q", last, c.want)
			}
			if c.state == state {
				if _, err := os.Stat(filepath.Join(state, "departments")); err == nil {
					t.Error("a refused start left a state behind")
				}
			}
		})
	}
	if _, err := os.Stat(filepath.Join(net.State, "departments")); err != nil {
		t.Errorf("the running consortium's state: %v", err)
	}
}
