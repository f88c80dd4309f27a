package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

// minFreeBytes is the disk space below which nothing is started: nodes that run out of
// it stop in the middle of a block.
const minFreeBytes = 3 << 30

// checkFreeSpace looks at the file system that holds, or will hold, the folder.
func checkFreeSpace(dir string, need uint64) error {
	for !exists(dir) && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return fmt.Errorf("measure the free space at %s: %w", dir, err)
	}
	free := st.Bavail * uint64(st.Bsize)
	if free < need {
		return problem("free some space or choose another folder with --state",
			"%.1f GB are free at %s and %.1f GB are needed", float64(free)/(1<<30), dir, float64(need)/(1<<30))
	}
	return nil
}

// errHolderUnknown marks a port in use whose holder cannot be seen: it belongs to another
// user, or to a process that was killed and that the kernel has not taken apart yet: it may
// hold its sockets for some milliseconds more, and is in no list of ours any longer.
var errHolderUnknown = errors.New("the holder of the port is unknown")

// checkPorts requires every port of the processes that are not running to be free.
func checkPorts(def *Definition, running []process, gateways bool) error {
	up := map[string]bool{}
	for _, p := range running {
		up[p.Name] = true
	}
	for _, dept := range def.Departments {
		for _, lis := range dept.Listeners() {
			if up[lis.Process] || (lis.Use == "gateway" && !gateways) {
				continue
			}
			free, err := portFree(lis.Host, lis.Port)
			if err != nil {
				return &Problem{
					Cause:  fmt.Sprintf("%s cannot listen at %s: %v", lis.Process, lis.Host, err),
					Remedy: fmt.Sprintf("correct departments[%s].listen", dept.Code), Err: err,
				}
			}
			if free {
				continue
			}
			holder, known := portHolder(lis.Port)
			inUse := problem(fmt.Sprintf("stop it, or give departments[%s].ports.%s another value before the first up", dept.Code, lis.Use),
				"port %d, needed by %s (%s), is in use by %s", lis.Port, lis.Process, lis.Use, holder)
			if !known {
				inUse.Err = errHolderUnknown
			}
			return inUse
		}
	}
	return nil
}

// checkBuildTools requires what building the programs needs: the Go release that go.mod
// asks for and, for Fabric CA with its SQLite, a C compiler.
func checkBuildTools(ctx context.Context, repo string, stale []program) error {
	if len(stale) == 0 {
		return nil
	}
	names := make([]string, len(stale))
	cgo := false
	for i, p := range stale {
		names[i] = p.name
		cgo = cgo || p.cgo
	}
	if repo == "" {
		return problem("run from the source tree, or install the programs and name their folder with --bin",
			"%s missing and there is no source tree to build from", strings.Join(names, ", "))
	}
	if err := checkGo(ctx, repo); err != nil {
		return err
	}
	if cgo {
		return checkCompiler(ctx, repo)
	}
	return nil
}

func checkGo(ctx context.Context, repo string) error {
	data, err := os.ReadFile(filepath.Join(repo, "go.mod"))
	if err != nil {
		return err
	}
	mod, err := modfile.ParseLax("go.mod", data, nil)
	if err != nil {
		return err
	}
	need := mod.Go.Version
	remedy := "install Go " + need + " or newer from https://go.dev/dl and put it first in PATH"
	cmd := exec.CommandContext(ctx, "go", "env", "GOVERSION")
	cmd.Dir = repo
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return &Problem{Cause: "there is no go command in PATH", Remedy: remedy, Err: err}
	}
	if err != nil {
		return &Problem{Cause: "the go command does not work here: " + lastLine(out), Remedy: remedy, Err: err}
	}
	have := strings.TrimSpace(string(out))
	if semver.Compare("v"+strings.TrimPrefix(have, "go"), "v"+need) < 0 {
		return problem(remedy, "Go %s is installed and %s is needed", strings.TrimPrefix(have, "go"), need)
	}
	return nil
}

func checkCompiler(ctx context.Context, repo string) error {
	cmd := exec.CommandContext(ctx, "go", "env", "CC")
	cmd.Dir = repo
	out, err := cmd.Output()
	compiler := "gcc"
	if fields := strings.Fields(string(out)); err == nil && len(fields) > 0 {
		compiler = fields[0]
	}
	if _, err := exec.LookPath(compiler); err != nil {
		return &Problem{
			Cause:  "there is no C compiler (" + compiler + "), which Fabric CA's SQLite needs",
			Remedy: "install one: apt-get install gcc libc6-dev", Err: err,
		}
	}
	return nil
}

// checkAddress requires an IPv4 address beside loopback: Fabric's peer refuses to start
// on a host without one, even when it listens on loopback only.
func checkAddress() error {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("list network addresses: %w", err)
	}
	if slices.ContainsFunc(addrs, func(a net.Addr) bool {
		ip, ok := a.(*net.IPNet)
		return ok && !ip.IP.IsLoopback() && ip.IP.To4() != nil
	}) {
		return nil
	}
	return problem("add one, for example: ip address add 192.0.2.1/32 dev lo",
		"this host has no IPv4 address beside loopback, and Fabric's peer does not start without one")
}

// checkDefinition refuses a definition that says something else than the one with which
// the consortium was made: keys and the genesis block would not follow.
func checkDefinition(l Layout, def *Definition, path string) (State, error) {
	state, err := l.LoadState()
	if errors.Is(err, fs.ErrNotExist) {
		if exists(filepath.Join(l.State, "departments")) {
			return State{}, problem("choose another folder with --state, or remove it",
				"%s has departments but no state.json, so it was not made by this program", l.State)
		}
		return State{}, nil
	}
	if err != nil {
		return State{}, err
	}
	if state.Definition != def.Digest() {
		restore := fmt.Sprintf("restore it (cp %s %s) or delete the consortium with make reset", l.DefinitionCopy(), path)
		if before, err := LoadDefinition(l.DefinitionCopy()); err == nil {
			if c := before.changeTo(def); c.command != "" {
				return state, problem(fmt.Sprintf("run zhenglian-network %s, or restore it (cp %s %s)", c.command, l.DefinitionCopy(), path),
					"%s was edited: %s", path, c.what)
			}
		}
		return state, problem(restore, "%s was edited after the first up", path)
	}
	return state, nil
}
