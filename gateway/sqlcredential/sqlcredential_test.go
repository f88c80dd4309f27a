package sqlcredential

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/gateway/credential"
	"github.com/zhenglian/zhenglian/gateway/credential/credentialtest"
)

// fileEnv makes the test binary a process that puts records into the store in
// that file and says which are in.
const fileEnv = "ZHENGLIAN_TEST_FEED_CREDENTIALS"

func TestMain(m *testing.M) {
	if file := os.Getenv(fileEnv); file != "" {
		if err := feed(context.Background(), file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func feed(ctx context.Context, file string) error {
	s, err := Open(ctx, file)
	if err != nil {
		return err
	}
	for n := 0; ; n += 2 {
		if err := s.Put(ctx, credentialtest.Record(n), credentialtest.Record(n+1)); err != nil {
			return err
		}
		fmt.Println(n + 1)
	}
}

func open(t *testing.T, file string) *Store {
	t.Helper()
	s, err := Open(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestStore(t *testing.T) {
	credentialtest.Run(t, func(t *testing.T) credential.Store {
		return open(t, filepath.Join(t.TempDir(), "a folder?", "credentials.sqlite"))
	})
}

func TestFileIsPrivate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "data", "credentials.sqlite")
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o644); err != nil { // as a copy might be
		t.Fatal(err)
	}
	s := open(t, file)
	if err := s.Put(t.Context(), credentialtest.Record(1)); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(file + "*")
	if err != nil || len(files) < 2 {
		t.Fatalf("files %v, %v: want the database and its log", files, err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", filepath.Base(f), info.Mode())
		}
	}
}

// TestDeletedIsGone looks for deleted records in the bytes of the files.
func TestDeletedIsGone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials.sqlite")
	s := open(t, file)
	const secret = "U0VDUkVU"
	var refs []string
	for n := range 60 {
		r := credentialtest.Record(n)
		if n%2 == 0 {
			// Long ones go to overflow pages.
			r.Credential += strings.Repeat(secret, 1+n*40)
			refs = append(refs, r.Ref)
		}
		if err := s.Put(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	found := func() bool {
		files, err := filepath.Glob(file + "*")
		if err != nil || len(files) == 0 {
			t.Fatalf("no files: %v", err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(data, []byte(secret)) {
				return true
			}
		}
		return false
	}
	if !found() {
		t.Fatal("the files do not hold what was put: the test looks in the wrong place")
	}
	if err := s.Delete(t.Context(), refs...); err != nil {
		t.Fatal(err)
	}
	if found() {
		t.Error("the files still hold what was deleted")
	}
}

func TestReopen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials.sqlite")
	for n := range 3 {
		s, err := Open(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		for before := range n {
			if got, err := s.Get(t.Context(), credentialtest.Record(before).Ref); err != nil || got != credentialtest.Record(before) {
				t.Fatalf("record %d: %v, %v", before, got, err)
			}
		}
		if err := s.Put(t.Context(), credentialtest.Record(n)); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	folder := t.TempDir()
	text, later := filepath.Join(folder, "text"), filepath.Join(folder, "later.sqlite")
	if err := os.WriteFile(text, []byte(strings.Repeat("no database\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", later)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{"text": text, "a later schema": later, "a folder": folder, "below a file": filepath.Join(text, "x")} {
		if s, err := Open(t.Context(), file); err == nil {
			_ = s.Close()
			t.Errorf("%s: opened", name)
		}
	}
}

// TestKill checks that what was put outlasts a kill at any moment, and that no
// batch is there in part.
func TestKill(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials.sqlite")
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), fileEnv+"="+file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := -1
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if last, err = strconv.Atoi(lines.Text()); err != nil {
			t.Fatal(err)
		}
		if last >= 51 {
			break
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if last < 51 {
		t.Fatalf("the process ended after %d", last)
	}
	s := open(t, file)
	for n := range last + 1 {
		if got, err := s.Get(t.Context(), credentialtest.Record(n).Ref); err != nil || got != credentialtest.Record(n) {
			t.Errorf("record %d was promised: %v, %v", n, got, err)
		}
	}
	for n := last + 1; n < last+200; n += 2 {
		_, first := s.Get(t.Context(), credentialtest.Record(n).Ref)
		_, second := s.Get(t.Context(), credentialtest.Record(n+1).Ref)
		if (first == nil) != (second == nil) {
			t.Errorf("of records %d and %d one is there", n, n+1)
		}
	}
}

// TestOpenOfTheFirstSchema opens a file from before there was anything sealed.
func TestOpenOfTheFirstSchema(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials.sqlite")
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	old := credentialtest.Record(1)
	old.Sealed = ""
	_, err = db.Exec(`CREATE TABLE credentials (ref TEXT PRIMARY KEY, credential TEXT NOT NULL, check_code TEXT NOT NULL) STRICT, WITHOUT ROWID;
		PRAGMA user_version = 1; INSERT INTO credentials VALUES (?, ?, ?)`, old.Ref, old.Credential, old.CheckCode)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s := open(t, file)
		for _, want := range []credential.Record{old, credentialtest.Record(2)} {
			if err := s.Put(t.Context(), want); err != nil {
				t.Fatal(err)
			}
			if got, err := s.Get(t.Context(), want.Ref); err != nil || got != want {
				t.Errorf("%v, %v, want %v", got, err, want)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
