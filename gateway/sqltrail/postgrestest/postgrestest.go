// Package postgrestest runs a PostgreSQL server for tests: a cluster of its own
// in a temporary folder, reached through a Unix socket in that folder.
package postgrestest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"
)

// Server is a running server.
type Server struct {
	folder    string
	cmd       *exec.Cmd
	stop      io.Closer
	databases atomic.Int64
}

// guard runs the server until its own standard input ends: that of a test that
// was killed ends too, and leaves no server behind.
const guard = `"$@" & pid=$!; cat >/dev/null; kill -INT $pid; wait $pid`

// Start makes a cluster and runs its server. It needs the programs of Debian's
// package postgresql. PostgreSQL refuses to run as root; it then runs as nobody.
func Start(ctx context.Context) (*Server, error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "postgres")
	if err != nil {
		return nil, err
	}
	s := &Server{folder: folder}
	if err := s.start(ctx, bin); err != nil {
		_ = s.Stop() // the first error is the one to report
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	return s, nil
}

func (s *Server) start(ctx context.Context, bin string) error {
	as, err := s.unprivileged()
	if err != nil {
		return err
	}
	data := filepath.Join(s.folder, "data")
	create := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync") //nolint:gosec // found above
	create.SysProcAttr, create.Dir = as, s.folder
	if out, err := create.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	log, err := os.Create(filepath.Join(s.folder, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	// Without ctx: it ends when it is told to, or with this process.
	s.cmd = exec.Command("/bin/sh", "-c", guard, "sh", filepath.Join(bin, "postgres"), "-D", data, "-k", s.folder, //nolint:gosec // found above
		"-c", "listen_addresses=", "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_wal_size=2GB")
	s.cmd.SysProcAttr, s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = as, s.folder, log, log
	if s.stop, err = s.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		return err
	}
	return s.await(ctx)
}

// unprivileged gives the folder to the user that the server runs as.
func (s *Server) unprivileged() (*syscall.SysProcAttr, error) {
	// Its own process group: an interrupt on a terminal must not stop it before its test has ended.
	as := &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() != 0 {
		return as, nil
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		return nil, err
	}
	uid, err1 := strconv.ParseUint(nobody.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(nobody.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return as, os.Chown(s.folder, int(uid), int(gid)) //nolint:gosec // 32 bits
}

// await waits until the server answers.
func (s *Server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	db, err := sql.Open("pgx", s.url("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := db.PingContext(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			log, _ := os.ReadFile(filepath.Join(s.folder, "log")) // there may be none
			return fmt.Errorf("it does not answer: %w: %s", err, log)
		}
	}
}

func (s *Server) url(database string) string {
	return (&url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/" + database, RawQuery: url.Values{"host": {s.folder}}.Encode()}).String()
}

// Database creates an empty database and answers its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	db, err := sql.Open("pgx", s.url("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	name := fmt.Sprintf("test%d", s.databases.Add(1))
	if _, err := db.ExecContext(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatalf("create a database: %v", err)
	}
	return s.url(name)
}

// Stop stops the server and removes its folder.
func (s *Server) Stop() error {
	var err error
	if s.cmd != nil {
		_ = s.stop.Close() // what the guard waits for
		err = s.cmd.Wait()
	}
	return errors.Join(err, os.RemoveAll(s.folder))
}

// programs answers the folder of the server's programs. Debian keeps them off the
// path.
func programs() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path), nil
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errors.New("PostgreSQL's initdb not found: install Debian's package postgresql (apt-get install -y postgresql)")
	}
	return filepath.Dir(slices.Max(found)), nil
}
