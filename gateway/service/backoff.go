package service

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// newBackoff answers growing pauses between attempts of a loop that never gives
// up: from 200 ms to 10 s, jittered so that gateways do not come back in step.
func newBackoff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = 200 * time.Millisecond
	b.MaxInterval = 10 * time.Second
	return b
}

// pause waits for d and reports false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
