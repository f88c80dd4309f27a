// Package cachetest says in tests what a [cache.Cache] must do.
package cachetest

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/gateway/cache"
)

// Run runs the conformance suite. open answers an empty cache, shared with
// nobody else, and sees to its being closed.
func Run(t *testing.T, open func(t *testing.T) cache.Cache) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, cache.Cache)
	}{
		{"put and get", testPutGet},
		{"expiry", testExpiry},
		{"drop", testDrop},
		{"callers keep their bytes", testBytes},
		{"allow", testAllow},
		{"allow with odd limits", testOddLimits},
		{"concurrent use", testConcurrent},
		{"cancelled", testCancelled},
		{"close", testClose},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// WantEntry fails the test unless c holds want under key.
func WantEntry(t testing.TB, c cache.Cache, key string, want cache.Entry) {
	t.Helper()
	got, ok := c.Get(t.Context(), key)
	if !ok {
		t.Errorf("Get(%.40q) found nothing", key)
		return
	}
	if got.Height != want.Height || !bytes.Equal(got.Value, want.Value) {
		t.Errorf("Get(%.40q) = %d bytes at height %d, want %d bytes at height %d", key, len(got.Value), got.Height, len(want.Value), want.Height)
	}
}

// WantMiss fails the test if c holds something under key.
func WantMiss(t testing.TB, c cache.Cache, key string) {
	t.Helper()
	if got, ok := c.Get(t.Context(), key); ok {
		t.Errorf("Get(%.40q) = %.40q at height %d, want nothing", key, got.Value, got.Height)
	}
}

func await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func testPutGet(t *testing.T, c cache.Cache) {
	ctx := t.Context()
	WantMiss(t, c, "key")
	entries := map[string]cache.Entry{
		"key": {Value: []byte("value"), Height: 17}, "": {Value: []byte("under no key"), Height: 1}, "key:2": {Value: nil, Height: 0},
		"bytes": {Value: []byte{0, 0xff, '\r', '\n'}, Height: 1<<64 - 1}, "large": {Value: bytes.Repeat([]byte("x"), 100_000), Height: 3},
		"有效\x00 *?[": {Value: []byte("odd key"), Height: 4}, strings.Repeat("long", 1000): {Value: []byte("long key"), Height: 5},
	}
	for key, e := range entries {
		c.Put(ctx, key, e, time.Minute)
	}
	for key, e := range entries {
		WantEntry(t, c, key, e)
	}
	c.Put(ctx, "key", cache.Entry{Value: []byte("newer"), Height: 18}, time.Minute)
	WantEntry(t, c, "key", cache.Entry{Value: []byte("newer"), Height: 18})
	WantMiss(t, c, "KEY")
}

func testExpiry(t *testing.T, c cache.Cache) {
	ctx := t.Context()
	long, short := cache.Entry{Value: []byte("long")}, cache.Entry{Value: []byte("short")}
	c.Put(ctx, "long", long, time.Hour)
	c.Put(ctx, "short", short, 30*time.Millisecond)
	await(t, "an entry of 30 ms to go", func() bool { _, ok := c.Get(ctx, "short"); return !ok })
	WantEntry(t, c, "long", long)
	for _, ttl := range []time.Duration{0, -time.Second, math.MinInt64} {
		c.Put(ctx, "long", long, time.Hour)
		c.Put(ctx, "long", short, ttl)
		WantMiss(t, c, "long") // neither the new one nor the old one
	}
	c.Put(ctx, "for ever", long, math.MaxInt64)
	WantEntry(t, c, "for ever", long)
}

func testDrop(t *testing.T, c cache.Cache) {
	ctx := t.Context()
	for i := range 5 {
		c.Put(ctx, fmt.Sprint(i), cache.Entry{Height: uint64(i)}, time.Minute)
	}
	c.Drop(ctx)
	c.Drop(ctx, "1", "3", "not there")
	for i := range 5 {
		if i == 1 || i == 3 {
			WantMiss(t, c, fmt.Sprint(i))
		} else {
			WantEntry(t, c, fmt.Sprint(i), cache.Entry{Height: uint64(i)})
		}
	}
	c.Put(ctx, "1", cache.Entry{Height: 9}, time.Minute)
	WantEntry(t, c, "1", cache.Entry{Height: 9})
	many := make([]string, 3000)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	c.Drop(ctx, many...)
	WantMiss(t, c, "0")
}

func testBytes(t *testing.T, c cache.Cache) {
	value := []byte("value")
	c.Put(t.Context(), "key", cache.Entry{Value: value}, time.Minute)
	clear(value)
	WantEntry(t, c, "key", cache.Entry{Value: []byte("value")})
	if got, ok := c.Get(t.Context(), "key"); ok {
		clear(got.Value)
	}
	WantEntry(t, c, "key", cache.Entry{Value: []byte("value")})
}

func testAllow(t *testing.T, c cache.Cache) {
	ctx := t.Context()
	allow := func(key string) (bool, time.Duration) {
		ok, wait, _ := c.Allow(ctx, key, 1, 3)
		return ok, wait
	}
	for i := range 3 {
		// The bucket may have been refilled by a call meanwhile, not by more.
		if ok, wait, left := c.Allow(ctx, "a", 1, 3); !ok || wait != 0 || left < 2-i || left > min(3-i, 2) {
			t.Fatalf("call %d of a burst of 3 = %v, %v, %d left", i, ok, wait, left)
		}
	}
	ok, wait, left := c.Allow(ctx, "a", 1, 3)
	if ok || wait <= 0 || wait > time.Second || left != 0 {
		t.Fatalf("call beyond the burst = %v, %v, %d left, want a wait of up to 1 s", ok, wait, left)
	}
	if ok, _ := allow("b"); !ok {
		t.Error("another key was refused with it")
	}
	begin := time.Now()
	await(t, "the limit to let a call through", func() bool { ok, _ := allow("a"); return ok })
	if took := time.Since(begin); took < wait/2 {
		t.Errorf("a call was let through %v after the cache said to wait %v", took, wait)
	}
	if _, ok := c.Get(ctx, "a"); ok {
		t.Error("a limit is to be read as an entry")
	}
}

func testOddLimits(t *testing.T, c cache.Cache) {
	ctx := t.Context()
	for name, limit := range map[string]struct {
		perSecond float64
		burst     int
	}{"no rate": {0, 5}, "negative rate": {-1, 5}, "no burst": {5, 0}, "negative burst": {5, -1}, "not a number": {math.NaN(), 5}, "endless": {math.Inf(1), 5}} {
		if ok, wait, _ := c.Allow(ctx, name, limit.perSecond, limit.burst); ok || wait <= 0 {
			t.Errorf("Allow with %s = %v, %v, want a refusal", name, ok, wait)
		}
	}
	for range 100 { // slower than one a day, faster than one a microsecond
		if ok, _, _ := c.Allow(ctx, "slow", 1e-6, 100); !ok {
			t.Fatal("a call within a slow limit's burst was refused")
		}
	}
	if ok, wait, _ := c.Allow(ctx, "slow", 1e-6, 100); ok || wait < time.Hour {
		t.Errorf("beyond a slow limit's burst = %v, %v", ok, wait)
	}
	if ok, _, _ := c.Allow(ctx, "fast", 1e9, 1); !ok {
		t.Error("the first call of a fast limit was refused")
	}
}

func testConcurrent(t *testing.T, c cache.Cache) {
	ctx := t.Context()
	var wg sync.WaitGroup
	var mu sync.Mutex
	allowed := 0
	for w := range 8 {
		wg.Go(func() {
			for i := range 100 {
				key := fmt.Sprint(i % 10)
				want := cache.Entry{Value: []byte(key), Height: uint64(i % 10)}
				c.Put(ctx, key, want, time.Minute)
				if got, ok := c.Get(ctx, key); ok {
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("Get (-want +got):\n%s", diff)
					}
				}
				if i%7 == w {
					c.Drop(ctx, key)
				}
				if ok, _, _ := c.Allow(ctx, "shared", 0.001, 50); ok {
					mu.Lock()
					allowed++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if allowed != 50 {
		t.Errorf("%d of 800 calls were let through a burst of 50", allowed)
	}
}

func testCancelled(t *testing.T, c cache.Cache) {
	c.Put(t.Context(), "key", cache.Entry{Height: 1}, time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, ok := c.Get(ctx, "key"); ok {
		t.Error("Get with an ended context found something")
	}
	c.Put(ctx, "other", cache.Entry{}, time.Minute) // must only return
	c.Drop(ctx, "key")                              // a record changed: the caller's haste is no reason to keep it
	WantMiss(t, c, "key")
	if ok, _, _ := c.Allow(ctx, "key", 1, 1); !ok {
		t.Error("Allow with an ended context refused the first call")
	}
}

func testClose(t *testing.T, c cache.Cache) {
	c.Put(t.Context(), "key", cache.Entry{}, time.Minute)
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	WantMiss(t, c, "key")
}
