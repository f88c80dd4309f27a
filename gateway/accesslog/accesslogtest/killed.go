package accesslogtest

import (
	"bufio"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"
)

// Killed runs the test binary with env besides its own environment, and kills it at a
// random moment within a span after its first line. Each whole line that it said goes
// to heard, without its end. Which process the binary becomes is its TestMain's affair.
func Killed(t *testing.T, within time.Duration, env []string, heard func(line string)) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var kill *time.Timer
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		if err != nil { // what stands before it was cut by the kill
			break
		}
		if kill == nil {
			kill = time.AfterFunc(rand.N(within), func() { _ = cmd.Process.Kill() }) //nolint:gosec // no secret
		}
		heard(line[:len(line)-1])
	}
	if err := cmd.Wait(); kill == nil {
		t.Fatalf("the process ended before it said anything: %v", err)
	}
}
