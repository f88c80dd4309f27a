package rediscache

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/zhenglian/zhenglian/gateway/cache"
	"github.com/zhenglian/zhenglian/gateway/cache/cachetest"
)

var secret = []byte("a secret for tests only")

// server is a Redis server of this test's own.
type server struct {
	url    string
	cmd    *exec.Cmd
	client *redis.Client // for looking and for doing harm
}

func startRedis(t testing.TB) *server {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatalf("these tests need a real Redis: apt-get install -y --no-install-recommends redis-server (make test does it): %v", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	s := &server{url: "redis://127.0.0.1:" + port + "/0"}
	s.run(t, program, port)
	options, err := redis.ParseURL(s.url)
	if err != nil {
		t.Fatal(err)
	}
	s.client = redis.NewClient(options)
	t.Cleanup(func() { _ = s.client.Close() })
	s.await(t)
	return s
}

func (s *server) run(t testing.TB, program, port string) {
	t.Helper()
	s.cmd = exec.Command(program, "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", t.TempDir(), "--loglevel", "warning")
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd := s.cmd
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // a stopped process too
		_ = cmd.Wait()
	})
}

// restart starts the server again, empty, where it was.
func (s *server) restart(t *testing.T) {
	t.Helper()
	_, port, err := net.SplitHostPort(s.client.Options().Addr)
	if err != nil {
		t.Fatal(err)
	}
	s.run(t, s.cmd.Path, port)
	s.await(t)
}

func (s *server) await(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for s.client.Ping(ctx).Err() != nil {
		if ctx.Err() != nil {
			t.Fatal("redis-server does not start to answer")
		}
	}
}

func (s *server) signal(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	if signal == syscall.SIGSTOP || signal == syscall.SIGKILL {
		var status syscall.WaitStatus // returns when the signal has taken effect
		if _, err := syscall.Wait4(s.cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// open opens a cache that waits long, so that a busy machine fails no test;
// tests of the timeout set it.
func open(t testing.TB, s *server, change ...func(*Options)) *Cache {
	t.Helper()
	o := Options{URL: s.url, Secret: secret, Timeout: 10 * time.Second}
	for _, f := range change {
		f(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}

func usual(o *Options) { o.Timeout = 0 }

// TestClientIsNotHeardOnStderr checks that what the Redis client has to say goes
// into the gateway's log.
func TestClientIsNotHeardOnStderr(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil { // so that nothing listens there
		t.Fatal(err)
	}
	var log bytes.Buffer
	c, err := New(Options{URL: "redis://" + address, Secret: secret, Logger: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	c.Get(t.Context(), "key")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), `"msg":"redis client","message":"redis: `) {
		t.Errorf("the log does not hold what the client says of a failed connection: %s", log.String())
	}
}

func TestConformance(t *testing.T) {
	s := startRedis(t)
	cachetest.Run(t, func(t *testing.T) cache.Cache {
		if err := s.client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		return open(t, s)
	})
}

// Without Redis the contract holds but for entries: there are none.
func TestWithoutRedis(t *testing.T) {
	c := open(t, &server{url: "redis://127.0.0.1:1/0"})
	c.Put(t.Context(), "key", cache.Entry{}, time.Minute)
	c.Drop(t.Context(), "key")
	cachetest.WantMiss(t, c, "key")
	for i := range 4 {
		if ok, wait, _ := c.Allow(t.Context(), "key", 0.001, 3); ok != (i < 3) || ok != (wait == 0) {
			t.Errorf("call %d of a burst of 3 = %v, %v", i, ok, wait)
		}
	}
}

var valid = cache.Entry{Value: []byte(`{"verdict":"valid"}`), Height: 17}

// stored answers the name and bytes of the one entry in Redis.
func (s *server) stored(t *testing.T) (string, []byte) {
	t.Helper()
	names, err := s.client.Keys(t.Context(), "*").Result()
	if err != nil || len(names) != 1 {
		t.Fatalf("redis holds %v, %v, want one entry", names, err)
	}
	raw, err := s.client.Get(t.Context(), names[0]).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return names[0], raw
}

// Whatever is put in place of an entry, it is never taken for one that the
// gateway did not write.
func TestPoisoned(t *testing.T) {
	s := startRedis(t)
	c := open(t, s)
	ctx := t.Context()
	c.Put(ctx, "cert a", valid, time.Minute)
	name, raw := s.stored(t)
	if bytes.Contains([]byte(name), []byte("cert")) {
		t.Errorf("the name %q tells the key", name)
	}
	set := func(value []byte) {
		t.Helper()
		if err := s.client.Set(ctx, name, value, time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("every byte changed", func(t *testing.T) {
		for i := range raw {
			for _, bit := range []byte{1, 0x80} {
				bad := bytes.Clone(raw)
				bad[i] ^= bit
				set(bad)
				cachetest.WantMiss(t, c, "cert a")
			}
		}
	})
	t.Run("every length", func(t *testing.T) {
		for i := range raw {
			set(raw[:i])
			cachetest.WantMiss(t, c, "cert a")
		}
		set(append(bytes.Clone(raw), 0))
		cachetest.WantMiss(t, c, "cert a")
	})
	t.Run("random", func(t *testing.T) {
		for i := range 10_000 {
			bad := make([]byte, i%200)
			_, _ = rand.Read(bad)
			if len(bad) > 0 {
				bad[0] = version
			}
			set(bad)
			cachetest.WantMiss(t, c, "cert a")
		}
	})
	t.Run("plain value", func(t *testing.T) {
		set(valid.Value)
		cachetest.WantMiss(t, c, "cert a")
	})
	t.Run("huge", func(t *testing.T) {
		set(bytes.Repeat([]byte{version}, 50<<20))
		cachetest.WantMiss(t, c, "cert a")
	})
	t.Run("another type", func(t *testing.T) {
		if err := s.client.Del(ctx, name).Err(); err != nil {
			t.Fatal(err)
		}
		if err := s.client.LPush(ctx, name, "x").Err(); err != nil {
			t.Fatal(err)
		}
		cachetest.WantMiss(t, c, "cert a")
		c.Put(ctx, "cert a", valid, time.Minute) // and it does not stay in the way
		cachetest.WantEntry(t, c, "cert a", valid)
	})
	t.Run("another entry's bytes", func(t *testing.T) {
		c.Put(ctx, "cert b", cache.Entry{Value: []byte("b")}, time.Minute)
		if err := s.client.Copy(ctx, name, c.name("entry", "cert b"), 0, true).Err(); err != nil {
			t.Fatal(err)
		}
		cachetest.WantMiss(t, c, "cert b")
	})
	t.Run("another secret", func(t *testing.T) {
		other := open(t, s, func(o *Options) { o.Secret = []byte("the secret of another gateway") })
		cachetest.WantMiss(t, other, "cert a")
		other.nameKey = c.nameKey // even under the same name
		cachetest.WantMiss(t, other, "cert a")
	})
	t.Run("kept beyond its time", func(t *testing.T) {
		c.Put(ctx, "cert a", valid, 20*time.Millisecond)
		old := c.seal("cert a", valid, time.Now().Add(-time.Millisecond))
		set(old)
		cachetest.WantMiss(t, c, "cert a")
	})
	t.Run("untouched", func(t *testing.T) { // or all of the above says nothing
		set(raw)
		cachetest.WantEntry(t, c, "cert a", valid)
	})
}

func TestShared(t *testing.T) {
	s := startRedis(t)
	a, b := open(t, s), open(t, s)
	ctx := t.Context()
	a.Put(ctx, "key", valid, time.Minute)
	cachetest.WantEntry(t, b, "key", valid)
	b.Drop(ctx, "key")
	cachetest.WantMiss(t, a, "key")
	for i := range 6 {
		c := []*Cache{a, b}[i%2]
		if ok, _, _ := c.Allow(ctx, "key", 0.01, 5); ok != (i < 5) {
			t.Errorf("call %d of a shared burst of 5 = %v", i, ok)
		}
	}
}

func TestPoisonedLimit(t *testing.T) {
	s := startRedis(t)
	c := open(t, s)
	ctx := t.Context()
	for _, value := range []string{"", "x", "nan", "inf", "-inf", "-1", "1e300", "99999999999999999999", "0x10", strings.Repeat("9", 1000)} {
		if err := s.client.Set(ctx, c.name("limit", "key"), value, 0).Err(); err != nil {
			t.Fatal(err)
		}
		// Let through or made to wait, but never for longer than a full burst takes.
		if ok, wait, _ := c.Allow(ctx, "key", 2, 4); !ok && (wait <= 0 || wait > 2*time.Second) {
			t.Errorf("Allow over %.20q = %v, %v", value, ok, wait)
		}
	}
	if err := s.client.Del(ctx, c.name("limit", "key")).Err(); err != nil {
		t.Fatal(err)
	}
	if err := s.client.LPush(ctx, c.name("limit", "key"), "x").Err(); err != nil {
		t.Fatal(err)
	}
	if ok, _, _ := c.Allow(ctx, "key", 2, 4); !ok {
		t.Error("Allow over a list refused the first call instead of counting here")
	}
}

// within fails the test when f takes longer than a call may.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	begin := time.Now()
	f()
	if took := time.Since(begin); took > 200*time.Millisecond {
		t.Errorf("%s took %v", what, took)
	}
}

// awaitEntry waits until c uses Redis again.
func awaitEntry(t *testing.T, c *Cache, key string, want cache.Entry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		c.Put(ctx, key, want, time.Minute)
		if _, ok := c.Get(ctx, key); ok {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatal("the cache does not come back to a Redis that answers again")
		}
	}
}

func TestFrozen(t *testing.T) {
	s := startRedis(t)
	log := &logBuffer{}
	c := open(t, s, usual, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(log, nil)) })
	ctx := t.Context()
	awaitEntry(t, c, "cert a", valid)
	awaitEntry(t, c, "cert b", valid)
	s.signal(t, syscall.SIGSTOP)
	within(t, "the first Get", func() { cachetest.WantMiss(t, c, "cert a") })
	within(t, "100 more calls of each kind, after one that failed,", func() {
		for range 100 {
			cachetest.WantMiss(t, c, "cert a")
			c.Put(ctx, "cert c", valid, time.Minute)
			if ok, _, _ := c.Allow(ctx, "key", 1, 1000); !ok {
				t.Error("Allow refused")
			}
		}
	})
	within(t, "Drop", func() { c.Drop(ctx, "cert a") }) // revoked while Redis is frozen
	fresh := open(t, s, usual)
	within(t, "Drop, the first call of a replica,", func() { fresh.Drop(ctx, "cert a") })
	within(t, "Allow", func() { fresh.Allow(ctx, "key", 1, 1) })

	s.signal(t, syscall.SIGCONT)
	s.await(t)
	awaitEntry(t, c, "cert c", valid)
	cachetest.WantMiss(t, c, "cert a") // what was dropped in vain is gone before anything is read
	if got := log.String(); strings.Count(got, "does not answer") != 1 || strings.Count(got, "answers again") != 1 {
		t.Errorf("the log says:\n%s\nwant one line when it stopped and one when it came back", got)
	}
}

// The drop of a killed Redis cannot be in any buffer: it has to be made up for.
func TestDropWhileDown(t *testing.T) {
	s := startRedis(t)
	c := open(t, s)
	ctx := t.Context()
	c.Put(ctx, "cert a", valid, time.Minute)
	name, raw := s.stored(t)
	s.signal(t, syscall.SIGKILL)
	within(t, "Get", func() { cachetest.WantMiss(t, c, "cert a") })
	within(t, "Drop", func() { c.Drop(ctx, "cert a", "cert b") })
	within(t, "Put", func() { c.Put(ctx, "cert b", valid, time.Minute) })
	within(t, "Allow", func() {
		if ok, _, _ := c.Allow(ctx, "key", 1, 1); !ok {
			t.Error("Allow refused")
		}
	})
	s.restart(t)
	// As if it came back with what it held: another replica's snapshot, say.
	if err := s.client.Set(ctx, name, raw, time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if got, ok := c.Get(ctx, "cert a"); ok {
			t.Fatalf("Get %d after the drop = %s", i, got.Value)
		}
	}
	awaitEntry(t, c, "cert c", valid)
	cachetest.WantMiss(t, c, "cert a")
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) != 0 {
		t.Errorf("%d keys are still to be dropped", len(c.pending))
	}
}

func TestTooManyPendingDrops(t *testing.T) {
	s := startRedis(t)
	c := open(t, s)
	ctx := t.Context()
	c.Put(ctx, "key", valid, time.Minute)
	s.signal(t, syscall.SIGSTOP)
	c.timeout = 10 * time.Millisecond
	keys := make([]string, maxPending+1)
	for i := range keys {
		keys[i] = fmt.Sprint(i)
	}
	c.Drop(ctx, keys...)
	s.signal(t, syscall.SIGCONT)
	c.timeout = 10 * time.Second
	s.await(t)
	c.restUntil.Store(0)
	cachetest.WantMiss(t, c, "key") // which of the entries were dropped is forgotten: none is read
	c.mu.Lock()
	if len(c.pending) != 0 || time.Until(c.avoidUntil) < maxTTL-time.Minute {
		t.Errorf("%d keys are remembered, no entry is read until %v", len(c.pending), c.avoidUntil)
	}
	c.avoidUntil = time.Time{}
	c.mu.Unlock()
	cachetest.WantEntry(t, c, "key", valid)
}

func TestFlushedAndRestarted(t *testing.T) {
	s := startRedis(t)
	c := open(t, s)
	ctx := t.Context()
	c.Put(ctx, "key", valid, time.Minute)
	c.Allow(ctx, "key", 1, 1)
	if err := s.client.FlushAll(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	if err := s.client.ScriptFlush(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	cachetest.WantMiss(t, c, "key")
	if ok, _, _ := c.Allow(ctx, "key", 1, 1); !ok {
		t.Error("Allow after a flush refused")
	}
	c.Put(ctx, "key", valid, time.Minute)
	cachetest.WantEntry(t, c, "key", valid)
	s.signal(t, syscall.SIGKILL)
	cachetest.WantMiss(t, c, "key")
	s.restart(t)
	awaitEntry(t, c, "key", valid)
}

// TestFull leaves Redis no memory for anything new: it still gives and drops what
// it has, limits are counted in this process, and it is not left alone for it.
func TestFull(t *testing.T) {
	s := startRedis(t)
	c := open(t, s)
	ctx := t.Context()
	c.Put(ctx, "old", valid, time.Minute)
	if err := s.client.ConfigSet(ctx, "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	c.Put(ctx, "new", valid, time.Minute)
	cachetest.WantMiss(t, c, "new")
	cachetest.WantEntry(t, c, "old", valid)
	for i := range 3 {
		if ok, _, _ := c.Allow(ctx, "limit", 0.01, 2); ok != (i < 2) {
			t.Errorf("call %d of a burst of 2 = %v", i, ok)
		}
	}
	c.Drop(ctx, "old")
	cachetest.WantMiss(t, c, "old")
	if err := s.client.ConfigSet(ctx, "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	c.Put(ctx, "new", valid, time.Minute)
	cachetest.WantEntry(t, c, "new", valid)
}

// A burst of calls while Redis is frozen: none takes longer than its time.
func TestFrozenManyCallers(t *testing.T) {
	s := startRedis(t)
	c := open(t, s, usual)
	awaitEntry(t, c, "key", valid)
	s.signal(t, syscall.SIGSTOP)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			within(t, "a call beside 49 others", func() {
				c.Get(t.Context(), "key")
			})
		})
	}
	wg.Wait()
}

func TestTTL(t *testing.T) {
	s := startRedis(t)
	c := open(t, s)
	c.Put(t.Context(), "key", valid, 48*time.Hour)
	name, _ := s.stored(t)
	ttl, err := s.client.PTTL(t.Context(), name).Result()
	if err != nil || ttl <= 0 || ttl > maxTTL {
		t.Errorf("an entry for two days is kept for %v, %v, want at most %v", ttl, err, maxTTL)
	}
	shortest, longest := maxTTL, time.Duration(0)
	for range 50 {
		c.Put(t.Context(), "key", valid, maxTTL)
		ttl, err := s.client.PTTL(t.Context(), name).Result()
		if err != nil || ttl < maxTTL*8/10 {
			t.Fatalf("an entry for %v is kept for %v, %v", maxTTL, ttl, err)
		}
		shortest, longest = min(shortest, ttl), max(longest, ttl)
	}
	if longest-shortest < maxTTL/100 {
		t.Errorf("entries all end within %v: they are to be read anew at different times", longest-shortest)
	}
	c.Put(t.Context(), "key", cache.Entry{Value: make([]byte, maxValue+1)}, time.Minute)
	cachetest.WantMiss(t, c, "key")
	c.Put(t.Context(), "key", cache.Entry{Value: make([]byte, maxValue)}, time.Minute)
	cachetest.WantEntry(t, c, "key", cache.Entry{Value: make([]byte, maxValue)})
}

func TestNewRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		o    Options
		want string
	}{
		"no URL":                {Options{Secret: secret}, "of the form"},
		"not a URL":             {Options{URL: "127.0.0.1:6379", Secret: secret}, "of the form"},
		"plain to elsewhere":    {Options{URL: "redis://:hunter2@redis.example:6379/0", Secret: secret}, "TLS"},
		"no password elsewhere": {Options{URL: "rediss://redis.example:6379/0", Secret: secret}, "password"},
		"any address":           {Options{URL: "redis://0.0.0.0:6379", Secret: secret}, "TLS"},
		"no secret":             {Options{URL: "redis://127.0.0.1:6379"}, "secret"},
		"short secret":          {Options{URL: "redis://127.0.0.1:6379", Secret: make([]byte, 15)}, "secret"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(test.o)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("New = %v, want an error with %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
	for _, url := range []string{"rediss://user:password@redis.example:6379/0", "redis://localhost:6379", "redis://[::1]:6379/1", "unix:///run/redis.sock"} {
		c, err := New(Options{URL: url, Secret: secret})
		if err != nil {
			t.Errorf("New(%s): %v", url, err)
			continue
		}
		if err := errors.Join(c.Close(), c.Close()); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func BenchmarkGet(b *testing.B) {
	c := open(b, startRedis(b))
	c.Put(b.Context(), "key", cache.Entry{Value: make([]byte, 1000)}, time.Hour)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, ok := c.Get(b.Context(), "key"); !ok {
				b.Error("miss")
			}
		}
	})
}

func BenchmarkAllow(b *testing.B) {
	c := open(b, startRedis(b))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Allow(b.Context(), "key", 1000, 10)
		}
	})
}
