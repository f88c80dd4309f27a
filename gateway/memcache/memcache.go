// Package memcache is the gateway's cache in its own process: a [cache.Cache]
// that forgets what was not used for longest. It also counts for package
// rediscache while Redis does not answer.
package memcache

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"

	"github.com/zhenglian/zhenglian/gateway/cache"
)

// Options bound the cache. A zero field means the value named.
type Options struct {
	MaxEntries int              // entries kept; 16,384
	MaxBytes   int              // sum of their keys and values in bytes; 64 MiB
	MaxLimits  int              // keys whose rate is counted; 65,536. A key forgotten starts anew with its whole burst
	Now        func() time.Time // time.Now
}

// Cache is a cache in memory. It is safe for concurrent use.
type Cache struct {
	maxBytes int
	now      func() time.Time

	mu      sync.Mutex
	entries *simplelru.LRU[string, entry]
	bytes   int

	limitMu sync.Mutex
	limits  *simplelru.LRU[string, *rate.Limiter]
}

var _ cache.Cache = (*Cache)(nil)

type entry struct {
	cache.Entry
	expires time.Time
}

// New returns an empty cache. It fails when a bound is negative.
func New(o Options) (*Cache, error) {
	for _, b := range []struct {
		name    string
		value   *int
		usually int
	}{{"MaxEntries", &o.MaxEntries, 16_384}, {"MaxBytes", &o.MaxBytes, 64 << 20}, {"MaxLimits", &o.MaxLimits, 65_536}} {
		if *b.value < 0 {
			return nil, fmt.Errorf("memory cache: %s is %d", b.name, *b.value)
		}
		if *b.value == 0 {
			*b.value = b.usually
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Cache{maxBytes: o.MaxBytes, now: o.Now}
	var err error
	if c.entries, err = simplelru.NewLRU(o.MaxEntries, func(key string, e entry) { c.bytes -= size(key, e.Entry) }); err != nil {
		return nil, err
	}
	c.limits, err = simplelru.NewLRU[string, *rate.Limiter](o.MaxLimits, nil)
	return c, err
}

func size(key string, e cache.Entry) int { return len(key) + len(e.Value) }

// Get implements [cache.Cache].
func (c *Cache) Get(ctx context.Context, key string) (cache.Entry, bool) {
	if ctx.Err() != nil {
		return cache.Entry{}, false
	}
	c.mu.Lock()
	e, ok := c.entries.Get(key)
	if ok && !c.now().Before(e.expires) {
		c.entries.Remove(key)
		ok = false
	}
	c.mu.Unlock()
	if !ok {
		return cache.Entry{}, false
	}
	e.Value = bytes.Clone(e.Value) // the caller may write into it
	return e.Entry, true
}

// Put implements [cache.Cache]. An entry larger than an eighth of MaxBytes is
// not kept.
func (c *Cache) Put(_ context.Context, key string, e cache.Entry, ttl time.Duration) {
	e.Value = bytes.Clone(e.Value)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Remove(key) // an old value must not outlive the attempt to replace it
	if ttl <= 0 || size(key, e) > c.maxBytes/8 {
		return
	}
	c.bytes += size(key, e)
	c.entries.Add(key, entry{e, c.now().Add(cache.Spread(ttl))})
	for c.bytes > c.maxBytes {
		c.entries.RemoveOldest()
	}
}

// Drop implements [cache.Cache].
func (c *Cache) Drop(_ context.Context, keys ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range keys {
		c.entries.Remove(key)
	}
}

// never is the answer to "how long" when a limit lets nothing through.
const never = time.Minute

// Allow implements [cache.Cache].
func (c *Cache) Allow(_ context.Context, key string, perSecond float64, burst int) (ok bool, retryAfter time.Duration, left int) {
	if !(perSecond > 0) || math.IsInf(perSecond, 1) || burst < 1 {
		return false, never, 0
	}
	now := c.now()
	c.limitMu.Lock()
	defer c.limitMu.Unlock()
	limit, known := c.limits.Get(key)
	if !known {
		limit = rate.NewLimiter(rate.Limit(perSecond), burst)
		c.limits.Add(key, limit)
	}
	if limit.Limit() != rate.Limit(perSecond) {
		limit.SetLimitAt(now, rate.Limit(perSecond))
	}
	if limit.Burst() != burst {
		limit.SetBurstAt(now, burst)
	}
	r := limit.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
		return false, wait, 0
	}
	return true, 0, max(int(limit.TokensAt(now)), 0)
}

// Close implements [cache.Cache]. It forgets everything.
func (c *Cache) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Purge()
	return nil
}
