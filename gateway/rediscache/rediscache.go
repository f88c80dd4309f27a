// Package rediscache is a cache that the replicas of one department's gateway
// share in Redis: a [cache.Cache].
//
// # Trust
//
// Redis is never believed. An entry carries the height it was read at and its
// own expiry under an HMAC-SHA256 over both, its key and its value, with a key
// that Redis never sees; what does not verify is a miss. So whoever can write to
// Redis can take entries away, or bring back an entry of ours for the rest of
// its life, and nothing else. Against the latter a reader compares the entry's
// height with what its index says of the record.
//
// # Failure
//
// Every call returns within [Options.Timeout] and treats failure as a miss.
// After one, Redis is left alone for a second, then one call tries again. Keys
// that could not be dropped are remembered: until they are dropped no entry is
// read. Rate limits are counted in this process meanwhile.
package rediscache

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/zhenglian/zhenglian/gateway/cache"
	"github.com/zhenglian/zhenglian/gateway/memcache"
)

const (
	usualTimeout = 100 * time.Millisecond
	rest         = time.Second      // how long Redis is left alone after a failure
	maxTTL       = time.Hour        // so that nothing outlives a loss of the pending keys for longer
	maxValue     = 1 << 20          // bytes; a longer value is not kept
	maxPending   = 100_000          // keys still to be dropped that are remembered
	minSecret    = 16               // bytes
	chunk        = 500              // keys of one DEL: Redis serves nobody else meanwhile
	version      = 1                // first byte of an entry
	header       = 1 + 8 + 8 + 32   // version, height, expiry, MAC
	never        = time.Minute      // how long to wait under a limit that lets nothing through
	longest      = float64(1 << 50) // µs, about 35 years: Lua numbers are exact to 2^53
)

// Options are the settings of the cache.
type Options struct {
	// URL is redis://[user:password@]host:port/db, rediss:// for TLS, or unix://
	// and a path. A host other than this machine needs TLS and a password.
	URL string
	// Secret authenticates entries; at least 16 bytes, the same for all replicas
	// of one gateway and unknown to everyone else.
	Secret []byte
	// Timeout bounds every call; zero means 100 ms, half of
	// what the port allows, so that a busy machine keeps it.
	Timeout time.Duration
	// Logger is told when Redis stops answering and when it answers again, and,
	// for debugging, what the client says (of the cache made last); nil means
	// nobody is.
	Logger *slog.Logger
}

// Cache is a cache in Redis. It is safe for concurrent use.
type Cache struct {
	client  *redis.Client
	local   *memcache.Cache // counts rates while Redis does not answer
	macKey  []byte
	nameKey []byte
	timeout time.Duration
	logger  *slog.Logger

	restUntil atomic.Int64 // Unix ns; 0 while Redis answers

	mu         sync.Mutex
	pending    map[string]uint64 // names that could not be dropped, by the number of the drop
	drops      uint64
	avoidUntil time.Time // no entry may be read before: pending overflowed
}

var _ cache.Cache = (*Cache)(nil)

//go:embed allow.lua
var allowSource string

var allowScript = redis.NewScript(allowSource)

// New returns a cache in the Redis at o.URL. It does not connect: a Redis that
// is down when the gateway starts is like one that fails later.
func New(o Options) (*Cache, error) {
	options, err := redis.ParseURL(o.URL)
	if err != nil {
		return nil, errors.New("redis: the URL is not of the form redis://[user:password@]host:port/db") // err may hold the password
	}
	if err := checkTransport(options); err != nil {
		return nil, err
	}
	if len(o.Secret) < minSecret {
		return nil, fmt.Errorf("redis: the secret has %d bytes, at least %d are needed", len(o.Secret), minSecret)
	}
	c := &Cache{timeout: o.Timeout, logger: o.Logger, pending: map[string]uint64{}}
	if c.timeout == 0 {
		c.timeout = usualTimeout
	}
	if c.logger == nil {
		c.logger = slog.New(slog.DiscardHandler)
	}
	if c.macKey, err = hkdf.Key(sha256.New, o.Secret, nil, "zhenglian/rediscache/1 entry", sha256.Size); err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	if c.nameKey, err = hkdf.Key(sha256.New, o.Secret, nil, "zhenglian/rediscache/1 name", sha256.Size); err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	if c.local, err = memcache.New(memcache.Options{}); err != nil {
		return nil, err
	}
	redis.SetLogger(clientLog{c.logger})
	options.MaxRetries = -1 // a miss is cheaper
	options.DialerRetries = 1
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout, options.PoolTimeout = c.timeout, c.timeout, c.timeout, c.timeout
	options.ContextTimeoutEnabled = true // bounds them all together
	options.DisableIdentity = true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	c.client = redis.NewClient(options)
	return c, nil
}

// clientLog takes what the Redis client has to say, for the whole process. It is
// detail: that Redis does not answer, and does again, the cache says itself.
type clientLog struct{ logger *slog.Logger }

// Printf implements the client's logger.
func (l clientLog) Printf(ctx context.Context, format string, args ...any) {
	l.logger.DebugContext(ctx, "redis client", "message", fmt.Sprintf(format, args...))
}

// checkTransport refuses to send entries and a password over a network in the
// open, and to use a Redis that anyone may write to.
func checkTransport(o *redis.Options) error {
	if o.Network == "unix" {
		return nil
	}
	host, _, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return fmt.Errorf("redis: address: %w", err)
	}
	if ip := net.ParseIP(host); host == "localhost" || (ip != nil && ip.IsLoopback()) {
		return nil
	}
	if o.TLSConfig == nil {
		return fmt.Errorf("redis: %s is another machine: use rediss://, with TLS", host)
	}
	if o.Password == "" {
		return fmt.Errorf("redis: %s is another machine: a password is needed", host)
	}
	return nil
}

// name is what key is called in Redis. It tells a reader of Redis nothing about
// the key.
func (c *Cache) name(purpose, key string) string {
	h := hmac.New(sha256.New, c.nameKey)
	h.Write([]byte(purpose + "\x00" + key))
	return "zhenglian:" + purpose + ":" + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:18])
}

func (c *Cache) mac(key string, head, value []byte) []byte {
	h := hmac.New(sha256.New, c.macKey)
	h.Write(head)
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(key))))
	h.Write([]byte(key))
	h.Write(value)
	return h.Sum(nil)
}

func (c *Cache) seal(key string, e cache.Entry, expires time.Time) []byte {
	b := make([]byte, 0, header+len(e.Value))
	b = append(b, version)
	b = binary.BigEndian.AppendUint64(b, e.Height)
	b = binary.BigEndian.AppendUint64(b, uint64(expires.UnixMilli()))
	b = append(b, c.mac(key, b, e.Value)...)
	return append(b, e.Value...)
}

func (c *Cache) open(key string, unverified []byte, now time.Time) (cache.Entry, bool) {
	if len(unverified) < header || unverified[0] != version {
		return cache.Entry{}, false
	}
	head, mac, value := unverified[:17], unverified[17:header], unverified[header:]
	if !hmac.Equal(mac, c.mac(key, head, value)) {
		return cache.Entry{}, false
	}
	if expires := binary.BigEndian.Uint64(head[9:]); now.UnixMilli() >= int64(expires) {
		return cache.Entry{}, false
	}
	return cache.Entry{Value: value, Height: binary.BigEndian.Uint64(head[1:])}, true
}

// errResting says that Redis is being left alone.
var errResting = errors.New("redis did not answer lately")

// deadline is when a call that begins now has to be over.
func (c *Cache) deadline() time.Time { return time.Now().Add(c.timeout) }

// try runs f against Redis until deadline.
func (c *Cache) try(ctx context.Context, deadline time.Time, f func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	until := c.restUntil.Load()
	if until != 0 {
		now := time.Now()
		// The one that wins the swap tries; the others go without meanwhile.
		if now.UnixNano() < until || !c.restUntil.CompareAndSwap(until, now.Add(2*c.timeout).UnixNano()) {
			return errResting
		}
	}
	limited, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	err := f(limited)
	var answer redis.Error
	switch {
	case err == nil || errors.As(err, &answer): // an error that Redis answers is an answer
		if until != 0 {
			c.restUntil.Store(0)
			c.logger.Info("redis answers again")
		}
	case ctx.Err() != nil: // the caller gave up: that says nothing about Redis
	default:
		if c.restUntil.Swap(time.Now().Add(rest).UnixNano()) == 0 {
			c.logger.Warn("redis does not answer, going on without it", "error", err)
		}
	}
	return err
}

// Get implements [cache.Cache].
func (c *Cache) Get(ctx context.Context, key string) (cache.Entry, bool) {
	deadline := c.deadline()
	if !c.settle(ctx, deadline) {
		return cache.Entry{}, false
	}
	var raw []byte
	err := c.try(ctx, deadline, func(ctx context.Context) (err error) {
		// Not GET: a value put there by someone else may be of any length.
		raw, err = c.client.GetRange(ctx, c.name("entry", key), 0, header+maxValue).Bytes()
		return err
	})
	if err != nil {
		return cache.Entry{}, false
	}
	return c.open(key, raw, time.Now())
}

// Put implements [cache.Cache]. An entry lives for an hour at most, and one with
// a value above 1 MiB is not kept.
func (c *Cache) Put(ctx context.Context, key string, e cache.Entry, ttl time.Duration) {
	ttl = cache.Spread(min(ttl, maxTTL))
	if ttl < time.Millisecond || len(e.Value) > maxValue { // Redis counts in milliseconds
		c.Drop(ctx, key)
		return
	}
	deadline := c.deadline()
	if !c.settle(ctx, deadline) { // a remembered drop must not take this away later
		return
	}
	// A failed Put leaves at worst the entry that was there, which says of itself how old it is.
	_ = c.try(ctx, deadline, func(ctx context.Context) error {
		return c.client.Set(ctx, c.name("entry", key), c.seal(key, e, time.Now().Add(ttl)), ttl).Err()
	})
}

// Drop implements [cache.Cache]. It does not heed the end of ctx: the record
// behind a key changed, and that stays so.
func (c *Cache) Drop(ctx context.Context, keys ...string) {
	if len(keys) == 0 {
		return
	}
	names := make([]string, len(keys))
	for i, key := range keys {
		names[i] = c.name("entry", key)
	}
	if c.delete(context.WithoutCancel(ctx), c.deadline(), names) == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drops++
	for _, name := range names {
		c.pending[name] = c.drops
	}
	if len(c.pending) > maxPending { // then nothing is read until all that may be there has expired
		clear(c.pending)
		c.avoidUntil = time.Now().Add(maxTTL)
	}
}

func (c *Cache) delete(ctx context.Context, deadline time.Time, names []string) error {
	return c.try(ctx, deadline, func(ctx context.Context) error {
		_, err := c.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for len(names) > 0 {
				n := min(len(names), chunk)
				p.Del(ctx, names[:n]...)
				names = names[n:]
			}
			return nil
		})
		return err
	})
}

// settle drops what could not be dropped before and says whether entries may be
// read.
func (c *Cache) settle(ctx context.Context, deadline time.Time) bool {
	c.mu.Lock()
	if time.Now().Before(c.avoidUntil) {
		c.mu.Unlock()
		return false
	}
	if len(c.pending) == 0 {
		c.mu.Unlock()
		return true
	}
	upTo := c.drops
	names := make([]string, 0, len(c.pending))
	for name := range c.pending {
		names = append(names, name)
	}
	c.mu.Unlock()
	if c.delete(ctx, deadline, names) != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		if c.pending[name] <= upTo { // not dropped in vain again meanwhile
			delete(c.pending, name)
		}
	}
	return len(c.pending) == 0
}

// Allow implements [cache.Cache]: the generic cell rate algorithm on Redis'
// clock, so that replicas count together.
func (c *Cache) Allow(ctx context.Context, key string, perSecond float64, burst int) (ok bool, retryAfter time.Duration, left int) {
	if !(perSecond > 0) || math.IsInf(perSecond, 1) || burst < 1 {
		return false, never, 0
	}
	interval := min(1e6/perSecond, longest/float64(burst))
	if interval > 1000 {
		interval = math.Ceil(interval) // whole numbers add up without rounding
	}
	var answer []int64
	err := c.try(ctx, c.deadline(), func(ctx context.Context) (err error) {
		answer, err = allowScript.Run(ctx, c.client, []string{c.name("limit", key)}, interval, burst).Int64Slice()
		return err
	})
	if err != nil || len(answer) != 3 {
		return c.local.Allow(ctx, key, perSecond, burst)
	}
	return answer[0] == 1, time.Duration(answer[1]) * time.Microsecond, int(answer[2])
}

// Close implements [cache.Cache]. It leaves the entries in Redis.
func (c *Cache) Close() error {
	err := c.client.Close()
	if errors.Is(err, redis.ErrClosed) {
		err = nil
	}
	return errors.Join(err, c.local.Close())
}
