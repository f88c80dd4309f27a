package identity

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// logged is a log that tests read.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

// await waits until something is the case.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 5 s: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestLive checks that a change is in force whichever way a file is written, that
// a bad file changes nothing and is told once, and that the same bytes are not
// read as a change.
func TestLive(t *testing.T) {
	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	put(t, a, "1")
	put(t, b, "x")
	parsed := 0
	log := new(logged)
	l, err := NewLive("the pair", []string{a, b}, func(contents [][]byte) (string, error) {
		parsed++
		if contents[0][0] == '!' {
			return "", errors.New("bad pair")
		}
		return string(contents[0]) + string(contents[1]), nil
	}, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	l.every = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	if got := l.Get(); got != "1x" {
		t.Fatalf("Get = %q", got)
	}

	put(t, b, "y") // in place, same size
	await(t, "written in place", func() bool { return l.Get() == "1y" })
	swap := func(file, text string) {
		t.Helper()
		put(t, file+".new", text)
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	swap(a, "2")
	await(t, "renamed", func() bool { return l.Get() == "2y" })

	swap(a, "!")
	await(t, "told of a bad file", func() bool { return l.Stale() && log.count("bad pair") == 1 })
	if got := l.Get(); got != "2y" {
		t.Errorf("after a bad file Get = %q", got)
	}
	if err := os.Remove(b); err != nil {
		t.Fatal(err)
	}
	await(t, "told of a file that is gone", func() bool { return log.count("no such file") == 1 })
	swap(a, "3")
	swap(b, "z")
	await(t, "good again", func() bool { return l.Get() == "3z" && !l.Stale() })

	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run ended with %v", err)
	}
	before := parsed
	if changed, err := l.reload(); changed || err != nil || parsed != before {
		t.Errorf("the same bytes: changed %v, error %v, parsed %d times", changed, err, parsed-before)
	}
	if n := log.count("bad pair"); n != 1 {
		t.Errorf("a bad file was told %d times", n)
	}
}

func TestNewLiveRefuses(t *testing.T) {
	dir := t.TempDir()
	empty, large := filepath.Join(dir, "empty"), filepath.Join(dir, "large")
	put(t, empty, "")
	put(t, large, strings.Repeat("x", maxFile+1))
	for name, file := range map[string]string{"empty": empty, "large": large, "absent": filepath.Join(dir, "none")} {
		_, err := NewLive("it", []string{file}, func([][]byte) (int, error) { return 0, nil }, slog.New(slog.DiscardHandler))
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
