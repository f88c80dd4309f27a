// Package cache is the gateway's port to what may be forgotten at any time:
// answers already given and counters of rate limits. It is never an authority:
// losing it makes answers slower, and an entry is used only with the block
// height that it was read at.
package cache

import (
	"context"
	"math/rand/v2"
	"time"
)

// Entry is a cached answer.
type Entry struct {
	Value  []byte
	Height uint64 // number of blocks the answer was read at
}

// Cache holds small values for a short time. All methods are safe for
// concurrent use, return within 200 ms, and treat every failure as a miss.
type Cache interface {
	// Get answers the entry under key, false when there is none or it cannot be
	// read or fails its authentication.
	Get(ctx context.Context, key string) (Entry, bool)
	// Put stores an entry for at most ttl, and up to a tenth less: see [Spread].
	Put(ctx context.Context, key string, e Entry, ttl time.Duration)
	// Drop forgets keys, here and, where the cache is shared, for all replicas.
	Drop(ctx context.Context, keys ...string)
	// Allow counts one call against the limit of key (burst calls at once,
	// refilled at perSecond) and says whether it may go on and, if not, after
	// how long to try again, and how many more may follow at once. On failure it
	// falls back to a local count.
	Allow(ctx context.Context, key string, perSecond float64, burst int) (ok bool, retryAfter time.Duration, left int)
	Close() error
}

// Spread answers ttl or up to a tenth less, drawn anew each time: what was put
// together, after a start or a block, does not have to be read anew together.
func Spread(ttl time.Duration) time.Duration {
	if ttl < 10 {
		return ttl
	}
	return ttl - rand.N(ttl/10) //nolint:gosec // not a secret
}
