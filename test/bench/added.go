package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The writes of [bench.added]: enough for a median that two of them do not move.
const (
	addedWarmUp = 10
	addedWrites = 60
)

// added tells what the gateway adds to a write that has nothing to wait for but the
// ledger: its caller's latency less the time that the gateway waited for peers, one
// write at a time. Latencies of two clients cannot be compared for that: when the
// orderers cut the next block is chance, and a hundred times as much.
func (b *bench) added(ctx context.Context) ([]figure, error) {
	s, err := b.measure(ctx, arm{"gateway.added", func(ctx context.Context) (sample, error) {
		var added []time.Duration
		began := time.Now()
		for i := range addedWarmUp + addedWrites {
			before, err := b.waitedForPeers(ctx)
			if err != nil {
				return sample{}, err
			}
			sent := time.Now()
			if _, err := b.submitREST(ctx); err != nil {
				return sample{}, err
			}
			took := time.Since(sent)
			after, err := b.waitedForPeers(ctx)
			if err != nil {
				return sample{}, err
			}
			if i >= addedWarmUp {
				added = append(added, took-(after-before))
			}
		}
		slices.Sort(added)
		return sample{Count: len(added), Seconds: time.Since(began).Seconds(), P50: quantile(added, 0.5), P95: quantile(added, 0.95), P99: quantile(added, 0.99)}, nil
	}})
	if err != nil {
		return nil, err
	}
	return []figure{{Name: "gateway.added_p50", Value: s.P50.Seconds() * 1e3, Unit: "ms", Goal: "≤ 2", Samples: []sample{s}}}, nil
}

// waitedForPeers is how long the gateway has waited for peers to endorse, to take a
// transaction and to say what became of it, by its own count.
func (b *bench) waitedForPeers(ctx context.Context) (time.Duration, error) {
	sum := 0.0
	for _, call := range []string{"endorse", "submit", "commit_status"} {
		s, err := b.metric(ctx, `zhenglian_peer_call_duration_seconds_sum{call="`+call+`"`)
		if err != nil {
			return 0, err
		}
		sum += s
	}
	return time.Duration(sum * float64(time.Second)), nil
}

// metric adds up the gateway's metrics whose names and labels begin so.
func (b *bench) metric(ctx context.Context, prefix string) (float64, error) {
	res, err := b.net.Gateway(department).Do(ctx, "", "GET", "/metrics", nil)
	if err != nil {
		return 0, err
	}
	if res.Status != http.StatusOK {
		return 0, fmt.Errorf("metrics: status %d", res.Status)
	}
	sum := 0.0
	for line := range strings.Lines(string(res.Body)) {
		if !strings.HasPrefix(line, prefix) {
			continue
		}
		fields := strings.Fields(line)
		n, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			return 0, fmt.Errorf("metrics: %w", err)
		}
		sum += n
	}
	return sum, nil
}
