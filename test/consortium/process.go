package consortium

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Kinds of a department's processes.
const (
	CA        = "ca"
	Orderer   = "orderer"
	Peer      = "peer"
	Chaincode = "chaincode"
	GatewayOf = "gateway"
)

// Processes answers the IDs of a department's processes of one kind. Every
// process runs in a folder of its own below the state, which tells them apart
// from everything else on the machine.
func (c *Consortium) Processes(department, kind string) ([]int, error) {
	return c.ProcessesIn(filepath.Join(c.State, "departments", department, kind))
}

// ProcessesIn answers the IDs of the processes that run in a folder.
func (c *Consortium) ProcessesIn(folder string) ([]int, error) {
	return c.processes(func(cwd string) bool { return cwd == folder })
}

// AllProcesses answers the IDs of every process that runs below the state, the
// supervisor included.
func (c *Consortium) AllProcesses() ([]int, error) {
	return c.processes(func(cwd string) bool {
		return cwd == c.State || strings.HasPrefix(cwd, c.State+string(filepath.Separator))
	})
}

func (c *Consortium) processes(match func(cwd string) bool) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		cwd, err := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		if err == nil && match(cwd) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// Kill ends a department's process of one kind with SIGKILL. The supervisor
// starts it again.
func (c *Consortium) Kill(department, kind string) error {
	return c.Signal(department, kind, syscall.SIGKILL)
}

// Signal sends a signal to a department's process of one kind.
func (c *Consortium) Signal(department, kind string, signal syscall.Signal) error {
	pids, err := c.Processes(department, kind)
	if err != nil {
		return err
	}
	sent := false
	for _, pid := range pids {
		switch err := syscall.Kill(pid, signal); {
		case err == nil:
			sent = true
		case !errors.Is(err, syscall.ESRCH): // a probe of the supervisor's, which runs in the same folder, has ended
			return fmt.Errorf("signal the %s of %s: %w", kind, department, err)
		}
	}
	if !sent {
		return fmt.Errorf("no %s of %s is running", kind, department)
	}
	return nil
}
