//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/test/consortium"
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

// write registers a catalog entry and answers how long it took to commit.
func write(ctx context.Context, department string) (time.Duration, error) {
	started := time.Now()
	err := net.Gateway(department).Call(ctx, "operator", "POST", "/v1/catalog/entries", contentOf(department), 201, nil)
	return time.Since(started), err
}

// TestOneDepartmentDown kills a department's peer and orderer, keeps both down,
// and checks that the other three gateways go on registering, granting and
// verifying.
func TestOneDepartmentDown(t *testing.T) {
	// A stopped process is as dead to the others as a killed one, and the
	// supervisor does not start it again while the test runs; it is killed first
	// so that its connections break.
	for _, kind := range []string{consortium.Peer, consortium.Orderer} {
		must(t, net.Kill("market", kind))
	}
	stop := hold(t, "market", consortium.Peer, consortium.Orderer)
	defer stop()

	for _, department := range []string{"bigdata", "police", "civil"} {
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		took, err := write(ctx, department)
		cancel()
		if err != nil {
			t.Errorf("%s cannot register: %v", department, err)
		}
		t.Logf("%s registered in %s", department, took.Round(time.Millisecond))
	}
	f := &flow{code: newCode(), requestID: randomHex(t, 16)}
	for _, s := range []func(*testing.T, *flow){register, review, publish, request, accept, answer, issue, approve} {
		s(t, f)
		if t.Failed() {
			return
		}
	}
	for _, department := range []string{"bigdata", "police", "civil"} {
		g := net.Gateway(department)
		await(t, department+" verifies", 15*time.Second, func() (bool, string) {
			status, html := page(t, g.URL+"/v/"+f.ref, "zh-CN")
			return status == 200 && strings.Contains(html, "有效"), fmt.Sprint(status)
		})
		res, err := g.Do(t.Context(), "", "GET", "/v1/verify/"+f.ref+"/proof", nil)
		must(t, err)
		if res.Status != 200 {
			t.Errorf("%s gives no proof: status %d: %s", department, res.Status, res.Body)
		}
	}
	stop()
	await(t, "the department catches up", 60*time.Second, func() (bool, string) { return equalHeights(t) })
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

// TestLeaderKilled kills the leading orderer while writes go on and measures the
// longest time in which none was committed.
func TestLeaderKilled(t *testing.T) {
	// Consenter 1 leads until the first view change; which department leads now is
	// not told by the orderers, so each one is killed in turn: one of them leads.
	worst := time.Duration(0)
	for _, department := range []string{"bigdata", "police", "civil", "market"} {
		stall, writes := stallWhile(t, func() { must(t, net.Kill(department, consortium.Orderer)) })
		t.Logf("orderer of %s killed: %d writes, longest stall %s", department, writes, stall.Round(time.Millisecond))
		worst = max(worst, stall)
		await(t, "heights are equal again", 60*time.Second, func() (bool, string) { return equalHeights(t) })
	}
	if worst >= 10*time.Second {
		t.Errorf("writes stalled for %s, want less than 10 s", worst)
	}
}

// stallWhile writes from two gateways without pause, runs fault, and answers the
// longest gap between commits after it. Every write must end well.
func stallWhile(t *testing.T, fault func()) (time.Duration, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	commits := make(chan time.Time, 10_000)
	var stop atomic.Bool
	var wg sync.WaitGroup
	for _, department := range []string{"civil", "bigdata"} {
		for range 2 {
			wg.Go(func() {
				for !stop.Load() {
					if _, err := write(ctx, department); err != nil {
						t.Errorf("%s: %v", department, err)
						return
					}
					commits <- time.Now()
				}
			})
		}
	}
	<-commits // writes flow
	fault()
	last, stall, n := time.Now(), time.Duration(0), 0
	after := time.After(20 * time.Second)
	for done := false; !done; {
		select {
		case at := <-commits:
			stall, last, n = max(stall, at.Sub(last)), at, n+1
		case <-after:
			done = true
		case <-ctx.Done():
			t.Fatal("no commits any more")
		}
	}
	stall = max(stall, time.Since(last))
	stop.Store(true)
	wg.Wait()
	return stall, n
}

// TestPowerCut kills every process at once, the supervisor included, and brings
// everything back with all data.
func TestPowerCut(t *testing.T) {
	f := &flow{}
	issue(t, f)
	approve(t, f)
	before := height(t)
	pids, err := net.AllProcesses()
	must(t, err)
	if len(pids) < 20 {
		t.Fatalf("found %d processes of the consortium, want at least 20", len(pids))
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
	started := time.Now()
	must(t, net.Up(t.Context()))
	t.Logf("%d processes killed; back after %s", len(pids), time.Since(started).Round(time.Millisecond))
	if after := height(t); after < before {
		t.Errorf("height %d before, %d after", before, after)
	}
	// A peer that was killed before it had stored the last block fetches it from
	// the orderers. Until then the departments disagree about the certificate and
	// the page says that it cannot check; it must never say anything else.
	await(t, "the certificate is found after the power cut", 60*time.Second, func() (bool, string) {
		status, html := page(t, f.link, "zh-CN")
		if status != http.StatusServiceUnavailable && (status != http.StatusOK || !strings.Contains(html, "有效")) {
			t.Fatalf("the certificate after the power cut: status %d", status)
		}
		return status == http.StatusOK, fmt.Sprintf("status %d", status)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if _, err := write(ctx, "police"); err != nil {
		t.Errorf("a write after the power cut: %v", err)
	}
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

// TestRedisFrozen freezes and thaws the shared cache: pages stay right and quick
// enough.
func TestRedisFrozen(t *testing.T) {
	f := &flow{}
	issue(t, f)
	approve(t, f)
	before := redisKeys(t)
	if status, html := page(t, f.link, "zh-CN"); status != http.StatusOK || !strings.Contains(html, "有效") {
		t.Fatalf("before: status %d", status)
	}
	// Without this the test would pass on a gateway that never asks Redis.
	if after := redisKeys(t); after <= before {
		t.Errorf("Redis held %d keys before a page was served and %d after: the gateway does not use it", before, after)
	}
	must(t, redis.Freeze())
	defer func() { must(t, redis.Thaw()) }()
	for range 5 {
		started := time.Now()
		status, html := page(t, f.link, "zh-CN")
		if status != http.StatusOK || !strings.Contains(html, "有效") {
			t.Errorf("with the cache frozen: status %d", status)
		}
		if took := time.Since(started); took > 2*time.Second {
			t.Errorf("with the cache frozen the page took %s", took)
		}
	}
}

// redisKeys counts the keys in the shared cache.
func redisKeys(t *testing.T) int64 {
	t.Helper()
	options, err := goredis.ParseURL(redis.URL)
	must(t, err)
	client := goredis.NewClient(options)
	defer client.Close()
	n, err := client.DBSize(t.Context()).Result()
	must(t, err)
	return n
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
