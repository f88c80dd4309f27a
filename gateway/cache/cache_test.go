package cache_test

import (
	"math"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/gateway/cache"
)

func TestSpread(t *testing.T) {
	for _, ttl := range []time.Duration{math.MinInt64, -1, 0, 9} {
		if got := cache.Spread(ttl); got != ttl {
			t.Errorf("Spread(%d) = %d", ttl, got)
		}
	}
	for _, ttl := range []time.Duration{10, time.Second, math.MaxInt64} {
		for range 100 {
			if got := cache.Spread(ttl); got > ttl || got <= ttl-ttl/10-1 {
				t.Errorf("Spread(%d) = %d", ttl, got)
			}
		}
	}
}
