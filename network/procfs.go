package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a running process of this consortium, found in /proc.
type process struct {
	PID     int
	Name    string // such as "peer-police", or "supervisor"
	Program string // base name of its executable
	Stale   bool   // its executable was replaced since it started
}

// supervisorName stands for process-compose among the processes.
const supervisorName = "supervisor"

// processes lists the running processes that belong to the state folder, whoever is
// their parent now. A process belongs to it if it runs in one of its folders and is one
// of our programs: this holds after the supervisor was killed and for reused process
// IDs, where a file of recorded IDs would not.
func (l Layout) processes() ([]process, error) {
	state, err := filepath.EvalSymlinks(l.State)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		// Processes end while we look and others are not ours to read: skip both.
		cwd, err := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		if err != nil {
			continue
		}
		rel, err := filepath.Rel(state, strings.TrimSuffix(cwd, " (deleted)"))
		if err != nil || strings.HasPrefix(rel, "..") {
			continue
		}
		exe, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		if err != nil {
			continue
		}
		program, stale := strings.CutSuffix(filepath.Base(exe), " (deleted)")
		p := process{PID: pid, Program: program, Stale: stale}
		if rel == "run" && program == "process-compose" {
			p.Name = supervisorName
		} else if parts := strings.Split(rel, string(filepath.Separator)); len(parts) == 3 && parts[0] == "departments" &&
			slices.Contains(nodePrograms[parts[2]], program) {
			p.Name = parts[2] + "-" + parts[1]
		} else {
			continue
		}
		found = append(found, p)
	}
	return found, nil
}

// nodePrograms says which program runs in which folder of a department.
var nodePrograms = map[string][]string{
	"ca":      {"fabric-ca-server"},
	"orderer": {"orderer"},
	"peer":    {"peer"},
	"gateway": {"zhenglian"},

	chaincodeKinds[0]: {"zhenglian-chaincode"},
	chaincodeKinds[1]: {"zhenglian-chaincode"},
}

// stopProcesses ends the processes of the state folder: politely, and after patience by
// force. It returns how many there were, and an error if one is still there.
func (l Layout) stopProcesses(ctx context.Context, patience time.Duration) (int, error) {
	first, err := l.processes()
	if err != nil || len(first) == 0 {
		return 0, err
	}
	signal := syscall.SIGTERM
	// The supervisor first, or it would restart the others.
	slices.SortFunc(first, func(a, b process) int {
		return strings.Compare(boolKey(a.Name != supervisorName), boolKey(b.Name != supervisorName))
	})
	deadline := time.Now().Add(patience)
	remaining := first
	for round := 0; ; round++ {
		if round%10 == 0 {
			for _, p := range remaining {
				if err := syscall.Kill(p.PID, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
					return len(first), fmt.Errorf("stop %s (pid %d): %w", p.Name, p.PID, err)
				}
			}
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return len(first), err
		}
		remaining, err = l.processes()
		if err != nil {
			return len(first), err
		}
		if len(remaining) == 0 {
			return len(first), nil
		}
		if time.Now().After(deadline) {
			if signal == syscall.SIGKILL {
				return len(first), fmt.Errorf("%s (pid %d) does not end even when killed", remaining[0].Name, remaining[0].PID)
			}
			signal, deadline, round = syscall.SIGKILL, time.Now().Add(5*time.Second), -1
		}
	}
}

func boolKey(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// sleep waits unless ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// socket is a listening TCP socket in the kernel's table.
type socket struct {
	port  int
	inode string
}

// listeningSockets reads the kernel's table of listening TCP sockets. Looking is better
// than connecting, which would leave an error about a broken TLS handshake in a node's
// log.
func listeningSockets() ([]socket, error) {
	var found []socket
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if errors.Is(err, os.ErrNotExist) {
			continue // no IPv6 here
		}
		if err != nil {
			return nil, fmt.Errorf("read the socket table: %w", err)
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			if len(fields) < 10 || fields[3] != "0A" { // TCP_LISTEN
				continue
			}
			_, hexPort, _ := strings.Cut(fields[1], ":")
			port, err := strconv.ParseInt(hexPort, 16, 32)
			if err != nil {
				continue
			}
			found = append(found, socket{port: int(port), inode: fields[9]})
		}
		err = lines.Err()
		_ = f.Close() // only read
		if err != nil {
			return nil, fmt.Errorf("read the socket table: %w", err)
		}
	}
	return found, nil
}

// listeningPorts is the set of TCP ports that something listens on.
func listeningPorts() (map[int]bool, error) {
	sockets, err := listeningSockets()
	if err != nil {
		return nil, err
	}
	ports := make(map[int]bool, len(sockets))
	for _, s := range sockets {
		ports[s.port] = true
	}
	return ports, nil
}

// portHolder describes the process that listens on the TCP port, as far as /proc shows
// it to this user.
func portHolder(port int) (name string, known bool) {
	sockets, err := listeningSockets()
	if err != nil {
		return "another process", false
	}
	inodes := map[string]bool{}
	for _, s := range sockets {
		if s.port == port {
			inodes["socket:["+s.inode+"]"] = true
		}
	}
	if len(inodes) == 0 {
		return "another process", false
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is constant
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || !inodes[target] {
			continue
		}
		pid := strings.Split(link, "/")[2]
		if _, err := os.Readlink(filepath.Join("/proc", pid, "exe")); err != nil {
			continue // killed: its memory is gone, its sockets go next
		}
		comm, err := os.ReadFile(filepath.Join("/proc", pid, "comm"))
		if err != nil {
			continue
		}
		return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(comm)), pid), true
	}
	return "a process of another user", false
}

// portFree reports whether the address can be bound now. Its error is about the address,
// not about someone else who has the port.
func portFree(host string, port int) (bool, error) {
	ln, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, ln.Close()
}
