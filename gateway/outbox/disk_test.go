package outbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// submitTold submits each write that a line of the input names and says what came of
// it, and whether the outbox can store more.
func submitTold(b *Outbox) {
	fmt.Println("open")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		name := lines.Text()
		_, err := b.Submit(context.Background(), ledger.Request{Role: role, Transaction: createTx, Argument: []byte(name), Operation: fmt.Sprintf("%032s", name)})
		var unavailable *ledger.UnavailableError
		said := "another error"
		switch {
		case err == nil:
			said = "done"
		case errors.As(err, &unavailable):
			said = "refused"
		}
		switch {
		case b.Failed() != nil:
			said += ", failed"
		case b.Ready() != nil:
			said += ", not ready"
		}
		fmt.Println(said)
	}
}

// told is such a process.
type told struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func startTold(t *testing.T, dir, socket string) *told {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), dirEnv+"="+dir, socketEnv+"="+socket, pointEnv+"=told")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &told{cmd, in, bufio.NewScanner(out)}
	if said := p.said(t); said != "open" {
		t.Fatalf("the process said %q", said)
	}
	return p
}

func (p *told) said(t *testing.T) string {
	t.Helper()
	if !p.out.Scan() {
		t.Fatalf("the process says nothing any more: %v", p.out.Err())
	}
	return p.out.Text()
}

func (p *told) submit(t *testing.T, name string) string {
	t.Helper()
	if _, err := fmt.Fprintln(p.in, name); err != nil {
		t.Fatal(err)
	}
	return p.said(t)
}

func (p *told) end(t *testing.T) {
	t.Helper()
	if err := errors.Join(p.in.Close(), p.cmd.Wait()); err != nil {
		t.Fatal(err)
	}
}

// inject has a system call of the process on the outbox's log of changes answer an
// error, until what it answers is called.
func (p *told) inject(t *testing.T, dir, call, fault string) (end func()) {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Fatalf("%v; install the Debian package strace", err)
	}
	cmd := exec.CommandContext(t.Context(), "strace", "-f", "-p", strconv.Itoa(p.cmd.Process.Pid), "-o", filepath.Join(dir, "trace"),
		"-P", filepath.Join(dir, "outbox.sqlite-wal"), "-e", "trace="+call, "-e", "inject="+call+":error="+fault)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stderr).ReadString('\n'); !strings.Contains(line, "attached") {
		t.Fatalf("strace does not work here (it needs the permission to trace, CAP_SYS_PTRACE in containers): %s %v", line, err)
	}
	return func() {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil { // it lets the process go
			t.Fatal(err)
		}
		var interrupted *exec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &interrupted) {
			t.Fatal(err)
		}
		if trace, err := os.ReadFile(filepath.Join(dir, "trace")); err != nil || !strings.Contains(string(trace), "(INJECTED)") {
			t.Fatalf("nothing was injected: %s, %v", trace, err)
		}
	}
}

// TestDiskFails has the disk refuse what a write needs, in a process of its own. What
// is not durable is refused and not handed over. A full disk is over when there is
// room; an error of the disk itself ends the outbox, and the next process goes on.
func TestDiskFails(t *testing.T) {
	for _, tt := range []struct {
		call, fault, said string
		passes            bool
	}{
		{"pwrite64", "ENOSPC", "refused, not ready", true},
		{"pwrite64", "EIO", "refused, failed", false},
		{"fsync,fdatasync", "EIO", "refused, failed", false},
	} {
		t.Run(tt.call+" "+tt.fault, func(t *testing.T) {
			chain, dir := newChain(), t.TempDir()
			socket := serve(t, dir, chain)

			p := startTold(t, dir, socket)
			if said := p.submit(t, "1"); said != "done" {
				t.Fatalf("before the fault: %s", said)
			}
			end := p.inject(t, dir, tt.call, tt.fault)
			for range 2 {
				if said := p.submit(t, "2"); said != tt.said {
					t.Errorf("said %q, want %q", said, tt.said)
				}
			}
			end()
			if n := effects(t, chain, "2"); n != 0 {
				t.Errorf("%d effects of what was not stored", n)
			}
			if !tt.passes {
				if said := p.submit(t, "2"); said != tt.said {
					t.Errorf("after the fault: %q, want %q: what a failed disk kept is not known", said, tt.said)
				}
				p.end(t)
				p = startTold(t, dir, socket)
			}
			for _, name := range []string{"2", "3"} {
				if said := p.submit(t, name); said != "done" {
					t.Errorf("after the fault %s: %q", name, said)
				}
			}
			p.end(t)
			for _, name := range []string{"1", "2", "3"} {
				if n := effects(t, chain, name); n != 1 {
					t.Errorf("%s: %d effects, want 1", name, n)
				}
			}
		})
	}
}

// TestNoRoomForSigned accepts a write for whose signed transaction there is no room
// later: it is not handed over before it is stored, and goes on by itself then.
func TestNoRoomForSigned(t *testing.T) {
	b, chain, l, _ := newOutbox(t)
	b.store.db.SetMaxOpenConns(1) // the limit is one of a connection
	pages := func(n string) {
		t.Helper()
		if _, err := b.store.db.Exec("PRAGMA max_page_count = " + n); err != nil {
			t.Fatal(err)
		}
	}
	down, again := make(chan struct{}), make(chan struct{}, 1)
	l.SetFault(func(op string) (bool, error) {
		select {
		case <-down:
		default:
			return false, &ledger.UnavailableError{Err: errors.New("no peer")}
		}
		if strings.HasPrefix(op, "endorse ") {
			select {
			case again <- struct{}{}:
			default:
			}
		}
		return true, nil
	})
	name := strings.Repeat("x", 100_000)
	var unknown *ledger.OutcomeUnknownError
	if _, err := b.Submit(t.Context(), ledger.Request{Role: role, Transaction: createTx, Argument: []byte(name), Operation: id(1)}); !errors.As(err, &unknown) {
		t.Fatalf("Submit = %v, want an unknown outcome", err)
	}
	pages("1") // no more than there are
	close(down)
	for range 3 {
		<-again
	}
	if b.Failed() != nil {
		t.Errorf("without room: %v", b.Failed())
	}
	if n := effects(t, chain, name); n != 0 {
		t.Errorf("%d effects of what is not stored", n)
	}
	pages("1000000")
	await(t, b, id(1), ledger.Committed)
	if n := effects(t, chain, name); n != 1 || b.Ready() != nil {
		t.Errorf("%d effects, want 1; ready %v", n, b.Ready())
	}
}
