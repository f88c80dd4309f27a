//go:build e2e

// Package e2e tests the whole system on a real consortium of four departments
// with state and ports of its own. The tests run in the order of the files'
// names and share one network, as users do. Those that start a consortium
// besides come after them, beside one another.
package e2e

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/test/consortium"
)

// net is the consortium that all tests share, redis the cache that its gateways
// share.
var (
	net   *consortium.Consortium
	redis *consortium.Redis

	sampleOutput []byte // what "zhenglian sample" printed
)

var (
	keep  = flag.Bool("keep", false, "leave the consortium running after the tests")
	reuse = flag.Bool("reuse", false, "use the consortium that an earlier run with -keep left")
)

// portOffset keeps the tests' consortium off the ports of "make up".
const portOffset = 10000

// redisPort is where the gateways' cache listens.
const redisPort = 6379 + portOffset

// maxLag is how old an unanchored access record may be: less than a consortium's own
// minute, which the test of it would wait for.
const maxLag = 15 * time.Second

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	root, err := filepath.Abs("../..")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	redis, err = consortium.StartRedis(ctx, redisPort)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer redis.Stop()
	net, err = consortium.Start(ctx, consortium.Options{
		Root: root, State: filepath.Join(root, ".zhenglian-e2e"), PortOffset: portOffset,
		Redis: redis.URL, Reuse: *reuse, Output: os.Stderr, Causal: true,
		Settings: map[string]any{"evidence": map[string]any{"maxLag": maxLag.String()}},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	fmt.Fprintf(os.Stderr, "e2e: consortium ready after %s\n", net.Started.Round(time.Second))
	// The sample sets the time limits and working days that every other test needs.
	if sampleOutput, err = net.Run(ctx, "zhenglian", "sample", "--state", net.State); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	code := m.Run()
	if *keep {
		fmt.Fprintln(os.Stderr, "e2e: left running under", net.State)
		return code
	}
	stop, cancelStop := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancelStop()
	// After a failure the state stays: its logs say why.
	end, name := net.Down, "down"
	if code == 0 {
		end, name = net.Reset, "reset"
	}
	if err := end(stop); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: %s: %v\n", name, err)
		return 1
	}
	return code
}

// randomHex answers n random bytes in hexadecimal.
func randomHex(t *testing.T, n int) string {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

// await calls condition until it is true, and fails the test when it still is
// not after limit. The pause between calls keeps two cores free for the network.
func await(t *testing.T, what string, limit time.Duration, condition func() (bool, string)) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		ok, state := condition()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %s", what, limit, state)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
