package network

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary play one of the consortium's programs.
func TestMain(m *testing.M) {
	if os.Getenv("ZHENGLIAN_TEST_PROGRAM") != "" {
		fmt.Println("started")
		select {} // until a signal
	}
	os.Exit(m.Run())
}

// wantProblem requires a diagnosis on one line that contains every word.
func wantProblem(t *testing.T, err error, words ...string) {
	t.Helper()
	var p *Problem
	if !errors.As(err, &p) {
		t.Fatalf("error = %v, want a Problem", err)
	}
	if p.Cause == "" || p.Remedy == "" || strings.Contains(err.Error(), "\n") {
		t.Errorf("not a cause and a remedy on one line: %q", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error = %q, want it to contain %q", err, w)
		}
	}
}

func TestPortInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).Port
	def := defaultDefinition(t)
	def.Departments = def.Departments[1:2]
	freePorts(t, def)
	def.Departments[0].Ports.OrdererAdmin = port

	err = checkPorts(def, nil, true)
	wantProblem(t, err, fmt.Sprintf("port %d", port), "orderer-police", "ordererAdmin", fmt.Sprintf("(pid %d)", os.Getpid()), "stop it")
	if err := checkPorts(def, []process{{Name: "orderer-police"}}, true); err != nil {
		t.Errorf("the port of a running process of ours is refused: %v", err)
	}
	def.Departments[0].Ports.OrdererAdmin, def.Departments[0].Ports.Gateway = def.Departments[0].Ports.Gateway, port
	if err := checkPorts(def, nil, false); err != nil {
		t.Errorf("a gateway's port matters without gateways: %v", err)
	}
	wantProblem(t, checkPorts(def, nil, true), "gateway-police")
}

// freePorts replaces the ports of the definition, which a running consortium may have,
// by free ones.
func freePorts(t *testing.T, def *Definition) {
	t.Helper()
	for i := range def.Departments {
		p := &def.Departments[i].Ports
		for _, port := range []*int{&p.Gateway, &p.Peer, &p.PeerChaincode, &p.PeerOperations, &p.CA, &p.Orderer, &p.OrdererCluster, &p.OrdererAdmin, &p.OrdererOperations, &p.Chaincode} {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { ln.Close() })
			*port = ln.Addr().(*net.TCPAddr).Port
			ln.Close()
		}
	}
}

func TestFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	if err := checkFreeSpace(dir, 1); err != nil {
		t.Errorf("one byte is too much: %v", err)
	}
	wantProblem(t, checkFreeSpace(dir, 1<<62), "GB are needed", "--state")
}

// fakeGo puts a go command that answers with the script first in PATH.
func fakeGo(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go"), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
}

func TestBuildTools(t *testing.T) {
	repo := repository(".")
	if repo == "" {
		t.Fatal("the repository is not found from its own folder")
	}
	plain, cgo := []program{{name: "peer"}}, []program{{name: "fabric-ca-server", cgo: true}}
	t.Run("nothing to build", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if err := checkBuildTools(t.Context(), repo, nil); err != nil {
			t.Errorf("tools are asked for: %v", err)
		}
	})
	t.Run("no go", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		wantProblem(t, checkBuildTools(t.Context(), repo, plain), "no go command", "install Go 1.26")
	})
	t.Run("old go", func(t *testing.T) {
		fakeGo(t, "echo go1.24.9")
		wantProblem(t, checkBuildTools(t.Context(), repo, plain), "Go 1.24.9 is installed", "install Go 1.26")
	})
	t.Run("go that refuses the module", func(t *testing.T) {
		fakeGo(t, "echo 'go: go.mod requires go >= 1.26.0 (running go 1.24.9; GOTOOLCHAIN=local)' >&2; exit 1")
		wantProblem(t, checkBuildTools(t.Context(), repo, plain), "requires go >= 1.26.0", "install Go 1.26")
	})
	t.Run("no compiler", func(t *testing.T) {
		fakeGo(t, `[ "$2" = CC ] && echo no-such-compiler || echo go1.26.8`)
		wantProblem(t, checkBuildTools(t.Context(), repo, cgo), "no C compiler (no-such-compiler)", "apt-get install gcc")
		if err := checkBuildTools(t.Context(), repo, plain); err != nil {
			t.Errorf("a compiler is asked for without need: %v", err)
		}
	})
	t.Run("no source tree", func(t *testing.T) {
		wantProblem(t, checkBuildTools(t.Context(), "", plain), "peer missing", "--bin")
	})
}

func TestEditedDefinition(t *testing.T) {
	l := Layout{State: t.TempDir()}
	def := defaultDefinition(t)
	if _, err := checkDefinition(l, def, "consortium.yaml"); err != nil {
		t.Fatalf("first up: %v", err)
	}
	if err := l.saveState(State{Definition: def.Digest()}); err != nil {
		t.Fatal(err)
	}
	if _, err := checkDefinition(l, def, "consortium.yaml"); err != nil {
		t.Fatalf("unchanged definition: %v", err)
	}
	def.Departments[2].Ports.Gateway++
	_, err := checkDefinition(l, def, "consortium.yaml")
	wantProblem(t, err, "consortium.yaml was edited after the first up", "restore it", "make reset")
}

func TestForeignFolder(t *testing.T) {
	l := Layout{State: t.TempDir()}
	if err := os.Mkdir(filepath.Join(l.State, "departments"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := checkDefinition(l, defaultDefinition(t), "consortium.yaml")
	wantProblem(t, err, "not made by this program")

	c := &Consortium{Layout: l, Progress: NewProgress(t.Output())}
	wantProblem(t, c.Reset(t.Context()), "not made by this program")
	if !exists(filepath.Join(l.State, "departments")) {
		t.Error("reset deleted a foreign folder")
	}
}

func TestOutdated(t *testing.T) {
	repo, bin := t.TempDir(), t.TempDir()
	source := filepath.Join(repo, "domain", "rule.go")
	if err := os.MkdirAll(filepath.Dir(source), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(source, []byte("package domain"), 0o644); err != nil {
		t.Fatal(err)
	}
	l := Layout{Bin: bin}
	missing, err := outdated(l, repo, true)
	if err != nil || len(missing) != len(programs) {
		t.Fatalf("outdated = %d programs, %v; want all %d", len(missing), err, len(programs))
	}
	for _, p := range programs {
		if err := os.WriteFile(l.Program(p.name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if stale, err := outdated(l, repo, true); err != nil || len(stale) != 0 {
		t.Errorf("outdated = %v, %v; want none", stale, err)
	}
	later := time.Now().Add(time.Minute)
	if err := os.Chtimes(source, later, later); err != nil {
		t.Fatal(err)
	}
	stale, err := outdated(l, repo, true)
	if err != nil || len(stale) != 2 {
		t.Errorf("after a change in domain: outdated = %v, %v; want our two programs", stale, err)
	}
	if stale, err := outdated(l, repo, false); err != nil || len(stale) != 1 {
		t.Errorf("without gateways: outdated = %v, %v; want the chaincode only", stale, err)
	}
}

// startAs runs the test binary under another name in a folder, and returns when it runs.
func startAs(t *testing.T, name, dir string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.Link(self, path); err != nil {
		data, err := os.ReadFile(self)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "ZHENGLIAN_TEST_PROGRAM=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Process.Wait(); close(ended) }() // reap, so that /proc forgets it
	t.Cleanup(func() { cmd.Process.Kill(); <-ended })
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatalf("%s did not start: %v", name, err)
	}
	return cmd
}

func TestProcesses(t *testing.T) {
	l := Layout{State: filepath.Join(t.TempDir(), "state")}
	if found, err := l.processes(); err != nil || len(found) != 0 {
		t.Fatalf("without a state folder: %v, %v", found, err)
	}
	peer := startAs(t, "peer", l.Department("police", "peer"))
	startAs(t, "process-compose", l.Run())
	editor := startAs(t, "editor", l.Department("police", "peer"))                           // not a program of ours
	other := startAs(t, "peer", filepath.Join(t.TempDir(), "departments", "police", "peer")) // not in our folder

	found, err := l.processes()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]int{}
	for _, p := range found {
		byName[p.Name] = p.PID
	}
	if len(found) != 2 || byName["peer-police"] != peer.Process.Pid || byName[supervisorName] == 0 {
		t.Errorf("processes = %+v, want the peer and the supervisor", found)
	}
	n, err := l.stopProcesses(t.Context(), 5*time.Second)
	if err != nil || n != 2 {
		t.Errorf("stopProcesses = %d, %v; want 2", n, err)
	}
	for _, cmd := range []*exec.Cmd{editor, other} {
		if !exists(filepath.Join("/proc", fmt.Sprint(cmd.Process.Pid))) {
			t.Errorf("%s was stopped and is not ours", cmd.Path)
		}
	}
}
