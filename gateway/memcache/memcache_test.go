package memcache_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/gateway/cache"
	"github.com/zhenglian/zhenglian/gateway/cache/cachetest"
	"github.com/zhenglian/zhenglian/gateway/memcache"
)

func open(t testing.TB, o memcache.Options) *memcache.Cache {
	t.Helper()
	c, err := memcache.New(o)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return c
}

func TestConformance(t *testing.T) {
	cachetest.Run(t, func(t *testing.T) cache.Cache { return open(t, memcache.Options{}) })
}

func count(t *testing.T, c cache.Cache, keys int) int {
	t.Helper()
	n := 0
	for i := range keys {
		if _, ok := c.Get(t.Context(), fmt.Sprint("key ", i)); ok {
			n++
		}
	}
	return n
}

func TestBounds(t *testing.T) {
	ctx := t.Context()
	t.Run("entries", func(t *testing.T) {
		c := open(t, memcache.Options{MaxEntries: 10})
		for i := range 100 {
			c.Put(ctx, fmt.Sprint("key ", i), cache.Entry{}, time.Hour)
			c.Get(ctx, "key 0") // used, so it stays
		}
		if n := count(t, c, 100); n != 10 {
			t.Errorf("%d entries are kept, want 10", n)
		}
		if _, ok := c.Get(ctx, "key 0"); !ok {
			t.Error("the entry used most was forgotten")
		}
	})
	t.Run("bytes", func(t *testing.T) {
		c := open(t, memcache.Options{MaxBytes: 10_000})
		for i := range 100 {
			c.Put(ctx, fmt.Sprint("key ", i), cache.Entry{Value: make([]byte, 993)}, time.Hour)
			c.Put(ctx, fmt.Sprint("key ", i), cache.Entry{Value: make([]byte, 994)}, time.Hour) // counts once
		}
		if n := count(t, c, 100); n != 10 {
			t.Errorf("%d entries of 1000 bytes are kept in 10,000", n)
		}
		c.Put(ctx, "key 99", cache.Entry{Value: make([]byte, 5000)}, time.Hour)
		if n := count(t, c, 100); n != 9 {
			t.Errorf("%d entries are kept after a too large one replaced one of them, want 9", n)
		}
	})
	t.Run("limits", func(t *testing.T) {
		c := open(t, memcache.Options{MaxLimits: 10})
		for i := range 100 {
			c.Allow(ctx, fmt.Sprint(i), 0.001, 1)
		}
		if ok, _, _ := c.Allow(ctx, "99", 0.001, 1); ok {
			t.Error("a key just counted was forgotten")
		}
		if ok, _, _ := c.Allow(ctx, "0", 0.001, 1); !ok {
			t.Error("the limits are not bounded")
		}
	})
	if _, err := memcache.New(memcache.Options{MaxEntries: -1}); err == nil {
		t.Error("New with a negative bound succeeded")
	}
}

func TestClock(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := open(t, memcache.Options{Now: func() time.Time { return now }})
	const n = 1000
	for i := range n {
		c.Put(t.Context(), fmt.Sprint(i), cache.Entry{Height: 3}, time.Minute)
	}
	left := func() (left int) {
		for i := range n {
			if _, ok := c.Get(t.Context(), fmt.Sprint(i)); ok {
				left++
			}
		}
		return left
	}
	now = now.Add(54 * time.Second)
	if got := left(); got != n {
		t.Errorf("%d of %d entries are left before their time", got, n)
	}
	now = now.Add(3 * time.Second)
	if got := left(); got < n/4 || got > 3*n/4 {
		t.Errorf("%d of %d entries that were put together are left in the midst of their last tenth, want about half", got, n)
	}
	now = now.Add(3 * time.Second)
	if got := left(); got != 0 {
		t.Errorf("%d entries are there after their time", got)
	}

	for range 5 {
		if ok, _, _ := c.Allow(t.Context(), "key", 2, 5); !ok {
			t.Fatal("a call within the burst was refused")
		}
	}
	if ok, wait, _ := c.Allow(t.Context(), "key", 2, 5); ok || wait != 500*time.Millisecond {
		t.Errorf("Allow = %v, %v, want to wait 500 ms", ok, wait)
	}
	now = now.Add(500 * time.Millisecond) // a refused call costs nothing
	if ok, _, _ := c.Allow(t.Context(), "key", 2, 5); !ok {
		t.Error("the call was refused after the wait that was asked for")
	}
	now = now.Add(time.Hour) // never more than the burst
	for i := range 6 {
		if ok, _, _ := c.Allow(t.Context(), "key", 2, 5); ok != (i < 5) {
			t.Errorf("call %d after an hour: %v", i, ok)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	c := open(b, memcache.Options{})
	c.Put(b.Context(), "key", cache.Entry{Value: make([]byte, 1000)}, time.Hour)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, ok := c.Get(b.Context(), "key"); !ok {
				b.Error("miss")
			}
		}
	})
}
