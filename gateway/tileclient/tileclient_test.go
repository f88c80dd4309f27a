package tileclient_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/accesslog/accesslogtest"
	"github.com/zhenglian/zhenglian/gateway/remotelog"
	"github.com/zhenglian/zhenglian/gateway/remotelog/remotelogtest"
	"github.com/zhenglian/zhenglian/gateway/tileclient"
	"github.com/zhenglian/zhenglian/gateway/tilelog"
)

const (
	prefix = "/v1/logs/police/"
	origin = "zhenglian.example/log/police"
)

// folder is a real log and a web server of its folder as it is.
func folder(t *testing.T) (*tilelog.Log, string, *tileclient.Client) {
	t.Helper()
	key, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "log")
	l, err := tilelog.Open(t.Context(), tilelog.Options{
		Dir: dir, Origin: origin, Key: key, CheckpointInterval: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.StripPrefix(prefix, http.FileServer(http.Dir(dir))))
	t.Cleanup(func() {
		server.Close()
		if err := l.Close(context.Background()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return l, dir, open(t, server.URL, "")
}

func open(t *testing.T, url, token string) *tileclient.Client {
	t.Helper()
	c, err := tileclient.New(url, token, "police", nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConformance(t *testing.T) {
	remotelogtest.Run(t, func(t *testing.T) (accesslogtest.TiledLog, remotelog.Log) {
		l, _, c := folder(t)
		return l, c
	})
}

// A full tile and bundle stand in for narrower ones that are gone, as C2SP
// tlog-tiles asks.
func TestPartialFallsBackToFull(t *testing.T) {
	l, dir, c := folder(t)
	var entries [][]byte
	for range 256 {
		entries = append(entries, []byte("entry"))
	}
	if _, err := l.Append(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
	accesslogtest.AwaitSize(t, l, 256)
	tile, err := c.Tile(t.Context(), 0, 0, 7)
	if err != nil || len(tile) != 7*32 {
		t.Errorf("tile has %d bytes, %v, want 7 hashes", len(tile), err)
	}
	bundle, err := c.EntryBundle(t.Context(), 0, 7)
	if err != nil || len(bundle) != 7*(2+len("entry")) {
		t.Errorf("bundle has %d bytes, %v, want 7 entries", len(bundle), err)
	}
	if err := os.Remove(filepath.Join(dir, "tile", "0", "000")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Tile(t.Context(), 0, 0, 7); domain.KindOf(err) != domain.NotFound || !strings.Contains(err.Error(), "tile/0/000.p/7") {
		t.Errorf("got %v, want not_found of the tile asked for", err)
	}
}

func TestHostileServer(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	answers := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body)) // the client may have gone
		}
	}
	checkpoint := func(c *tileclient.Client) error { _, err := c.Checkpoint(t.Context()); return err }
	tile := func(c *tileclient.Client) error { _, err := c.Tile(t.Context(), 0, 0, 2); return err }
	bundle := func(c *tileclient.Client) error { _, err := c.EntryBundle(t.Context(), 0, 2); return err }
	whole := strings.Repeat("\x00\x01x", 2)
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		read    func(*tileclient.Client) error
		want    string // "form", "unreachable" or "not_found"
	}{
		{"long checkpoint", answers(200, strings.Repeat("x", 4097)), checkpoint, "form"},
		{"short tile", answers(200, strings.Repeat("x", 63)), tile, "form"},
		{"long tile", answers(200, strings.Repeat("x", 65)), tile, "form"},
		{"endless tile", answers(200, strings.Repeat("x", 1<<20)), tile, "form"},
		{"bundle cut in an entry", answers(200, whole[:5]), bundle, "form"},
		{"bundle cut in a length", answers(200, whole[:4]), bundle, "form"},
		{"bundle with an entry less", answers(200, whole[:3]), bundle, "form"},
		{"bundle with an entry more", answers(200, whole+"\x00\x01x"), bundle, "form"},
		{"gone", answers(410, ""), tile, "not_found"},
		{"error", answers(500, ""), tile, "unreachable"},
		{"forbidden", answers(403, ""), bundle, "unreachable"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) }, tile, "unreachable"},
		{"cut off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "64")
			_, _ = w.Write([]byte("x"))
		}, tile, "unreachable"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(test.handler)
			defer server.Close()
			err := test.read(open(t, server.URL, ""))
			var form *remotelog.FormError
			var unreachable *remotelog.UnreachableError
			got := ""
			switch {
			case errors.As(err, &form):
				got = "form"
			case errors.As(err, &unreachable):
				got = "unreachable"
			case domain.KindOf(err) == domain.NotFound:
				got = "not_found"
			}
			if got != test.want {
				t.Errorf("got %q (%v), want %q", got, err, test.want)
			}
		})
	}
}

func TestBusyServer(t *testing.T) {
	for header, want := range map[string]time.Duration{"7": 7 * time.Second, "100000": time.Minute, "": 0, "-1": 0, "Wed, 21 Oct 2026 07:28:00 GMT": 0} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", header)
			w.WriteHeader(http.StatusTooManyRequests)
		}))
		_, err := open(t, server.URL, "").Checkpoint(t.Context())
		server.Close()
		var unreachable *remotelog.UnreachableError
		if !errors.As(err, &unreachable) || unreachable.RetryAfter != want || unreachable.Status != http.StatusTooManyRequests {
			t.Errorf("Retry-After %q: got %v, want a wait of %v", header, err, want)
		}
	}
}

// A server that does not answer ends with the caller's patience, as ctx's error.
func TestSilentServer(t *testing.T) {
	asked := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if _, err := open(t, server.URL, "").Checkpoint(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	server.Close()
	_, err := open(t, server.URL, "").Checkpoint(t.Context())
	var unreachable *remotelog.UnreachableError
	if !errors.As(err, &unreachable) {
		t.Errorf("got %v of a server that is gone", err)
	}
}

func TestToken(t *testing.T) {
	seen := map[string]string{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen[r.URL.Path] = r.Header.Get("Authorization")
		_, _ = w.Write(binary.BigEndian.AppendUint16(nil, 0))
	}))
	defer server.Close()
	c := open(t, server.URL+"/", "zl_secret")
	if _, err := c.EntryBundle(t.Context(), 1234, 1); err != nil {
		t.Error(err)
	}
	if _, err := c.Checkpoint(t.Context()); err != nil {
		t.Error(err)
	}
	if got := seen["/v1/logs/police/tile/entries/x001/234.p/1"]; got != "Bearer zl_secret" {
		t.Errorf("bundle was asked for with %q; asked for were %v", got, seen)
	}
	if got, ok := seen["/v1/logs/police/checkpoint"]; !ok || got != "Bearer zl_secret" {
		t.Errorf("checkpoint was asked for with %q", got)
	}
}

func TestAddress(t *testing.T) {
	for _, bad := range []string{"", "police", "ftp://h", "http://", "http://h/x", "http://h/?a=b", "http://a:b@h", "http://h/#x"} {
		if _, err := tileclient.New(bad, "", "police", nil); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
