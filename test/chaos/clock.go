package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// clocks are programs that believe in another time. A Go program asks the kernel
// by itself, so a library between it and libc changes nothing, and a time
// namespace shifts the clocks that count from the start only. So the programs are
// built with a time package whose Now adds what the environment says.
type clocks struct{ folder string }

// off is by how much a skewed clock is wrong: peers refuse proposals that are
// more than a few minutes away from their own time.
const off = "600"

// skewable builds a program with the other clock. It is cached like any other build.
func skewable(program string) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error { return w.clocks.build(ctx, program) }
}

// skewedFrom are the programs that there are with another clock: their modules and
// packages.
var skewedFrom = map[string][2]string{
	"zhenglian": {".", "./cmd/zhenglian"},
	"peer":      {filepath.Join("network", "tools"), "github.com/hyperledger/fabric/cmd/peer"},
}

func (c *clocks) build(ctx context.Context, program string) error {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	original := filepath.Join(strings.TrimSpace(string(out)), "src", "time", "time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		return err
	}
	const asks = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(source), asks) != 1 {
		return fmt.Errorf("%s does not ask for the time as expected: adapt this program to the new Go", original)
	}
	skewed := strings.Replace(string(source), asks, asks+"\tsec += skew\n", 1) + `
var skew = func() (seconds int64) {
	text, _ := syscall.Getenv("ZHENGLIAN_CLOCK_SKEW")
	for _, digit := range []byte(text) {
		if digit != '-' {
			seconds = 10*seconds + int64(digit-'0')
		}
	}
	if len(text) > 0 && text[0] == '-' {
		seconds = -seconds
	}
	return seconds
}()
`
	skewed = strings.Replace(skewed, "import (\n", "import (\n\t\"syscall\"\n", 1)
	folder := filepath.Join(c.folder, "skewed")
	file := filepath.Join(folder, "time.go")
	overlay := filepath.Join(folder, "overlay.json")
	err = errors.Join(os.MkdirAll(folder, 0o700), os.WriteFile(file, []byte(skewed), 0o600),
		os.WriteFile(overlay, fmt.Appendf(nil, `{"Replace": {%q: %q}}`, original, file), 0o600))
	if err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-o", filepath.Join(folder, program), skewedFrom[program][1])
	build.Dir, build.Env = skewedFrom[program][0], append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s with another clock: %w: %s", program, err, out)
	}
	return nil
}

// skew starts a process anew with a clock that is wrong.
func skew(kind string) func(context.Context, *world, string) (func(context.Context) error, error) {
	return func(_ context.Context, w *world, target string) (func(context.Context) error, error) {
		mark := filepath.Join(w.clocks.folder, "skew-"+kind+"-"+target)
		if err := os.WriteFile(mark, []byte(off), 0o600); err != nil {
			return nil, err
		}
		undo := func(context.Context) error {
			err := os.Remove(mark)
			pids, listing := w.net.Processes(target, kind)
			if len(pids) == 0 { // it ends by itself: the supervisor starts it anew
				return errors.Join(err, listing)
			}
			return errors.Join(err, w.net.Kill(target, kind))
		}
		return undo, w.net.Kill(target, kind)
	}
}
