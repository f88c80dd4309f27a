package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/test/consortium"
)

// TestMain lets the test program be the child that the benchmark starts.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-child") {
		if err := run(context.Background(), os.Args[1:], os.Stdout, os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestLookups runs the arm of verifications over generated certificates for a
// moment: the certificates are what the index takes for ones, and every verdict is
// right.
func TestLookups(t *testing.T) {
	b := &bench{
		net: &consortium.Consortium{State: t.TempDir()}, progress: t.Output(),
		set: settings{Window: 100 * time.Millisecond, Cycles: 1, Clients: 2, Certificates: 1010},
	}
	figures, err := b.lookups(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range figures {
		for _, s := range f.Samples {
			if s.Count == 0 || s.Failed != 0 {
				t.Errorf("%s: %+v", f.Name, s)
			}
		}
	}
}

// TestBare checks that the bare server returns the bytes it was given.
func TestBare(t *testing.T) {
	dir := t.TempDir()
	const head, body = "HTTP/1.1 200 OK\r\nX-Request-Id: 17\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n", `{"verdict":"x"}`
	if err := os.WriteFile(filepath.Join(dir, recordedFile), []byte(head+body), 0o600); err != nil {
		t.Fatal(err)
	}
	server, err := start(t.Context(), serveBare, "-dir", dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.stop(); err != nil {
			t.Error(err)
		}
	}()
	res, err := http.Get(server.url + verifyPath("any"))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	c, err := dial(t.Context(), server.url)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll([]*connection{c})
	status, _, got, err := c.get(verifyPath("any"), "")
	if err != nil || status != http.StatusOK || string(got) != body || res.Header.Get("X-Request-Id") != "17" || res.Header.Get("Content-Type") != "application/json" {
		t.Errorf("status %d, %s, %v, %v", status, got, res.Header, err)
	}
}

// TestPeople checks that people who ask tell apart what they were answered.
func TestPeople(t *testing.T) {
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "0")
		if r.URL.Path != "/asked" {
			w.WriteHeader(http.StatusNotFound)
		} else if asked.Add(1)%4 == 0 {
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	defer server.Close()
	people, err := start(t.Context(), childPeople, "-url", server.URL, "-path", "/asked", "-rate", "2000")
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); asked.Load() < 400 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if err := people.stop(); err != nil {
		t.Fatal(err)
	}
	var got answers
	if err := json.Unmarshal([]byte(people.said), &got); err != nil {
		t.Fatalf("%q: %v", people.said, err)
	}
	if r := got.Answered / got.Later; r < 2.9 || r > 3.1 || got.Wrong != 0 {
		t.Errorf("people were answered %+v, want three times as often as told to come again", got)
	}
}
