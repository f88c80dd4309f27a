package consortium

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// Redis is a real Redis server on loopback that keeps nothing on disk.
type Redis struct {
	URL     string
	port    int
	process *exec.Cmd
}

// StartRedis starts a server on a port and returns when it accepts connections.
func StartRedis(ctx context.Context, port int) (*Redis, error) {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, fmt.Errorf("redis-server: %w", err)
	}
	if err := l.Close(); err != nil {
		return nil, err
	}
	r := &Redis{URL: fmt.Sprintf("redis://127.0.0.1:%d/0", port), port: port}
	return r, r.Start(ctx)
}

// Start starts the server again after [Redis.Stop], empty.
func (r *Redis) Start(ctx context.Context) error {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return errors.New("redis-server is missing: run make test-setup, or install it (Debian: apt-get install redis-server)")
	}
	r.process = exec.Command(path, "--bind", "127.0.0.1", "--port", strconv.Itoa(r.port), "--save", "", "--appendonly", "no")
	if err := r.process.Start(); err != nil {
		return err
	}
	for {
		conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", r.port), time.Second)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			r.Stop()
			return fmt.Errorf("redis-server does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Freeze stops the server's process without ending it; Thaw lets it go on.
func (r *Redis) Freeze() error { return r.process.Process.Signal(syscall.SIGSTOP) }

// Thaw is the opposite of Freeze.
func (r *Redis) Thaw() error { return r.process.Process.Signal(syscall.SIGCONT) }

// Stop kills the server and waits for its end.
func (r *Redis) Stop() {
	_ = r.process.Process.Kill() // it may have ended already
	_ = r.process.Wait()         // killed: its exit status says nothing
}
