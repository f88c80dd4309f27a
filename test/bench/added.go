package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/zhenglian/zhenglian/domain"
)

// The writes of [bench.added], of each kind: enough for a median that two of them do not
// move.
const (
	addedWarmUp = 10
	addedWrites = 60
)

// added tells what the gateway adds to a write that has nothing to wait for but the
// ledger. Of each write it takes the caller's latency less the time in which peers were
// waited for, by turns through the gateway and past it, one at a time. Latencies alone
// cannot be compared for that: when the orderers cut the next block is chance, and a
// hundred times as much.
func (b *bench) added(ctx context.Context) ([]figure, error) {
	var waited atomic.Int64 // ns, of the client past the gateway
	raw, err := b.net.Fabric(department, "operator", grpc.WithUnaryInterceptor(
		func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
			began := time.Now()
			defer func() { waited.Add(int64(time.Since(began))) }()
			return invoke(ctx, method, request, reply, conn, options...)
		}))
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	kinds := []struct {
		submit func() error
		waited func() (time.Duration, error) // for peers, so far
	}{
		{func() error {
			_, err := submitThrough(ctx, raw, "catalog:Register", domain.RegisterCatalogArgs{Content: b.content()})
			return err
		}, func() (time.Duration, error) { return time.Duration(waited.Load()), nil }},
		{func() error {
			_, err := b.submitREST(ctx)
			return err
		}, func() (time.Duration, error) { return b.waitedForPeers(ctx) }},
	}
	var own [2][]time.Duration
	s, err := b.measure(ctx, arm{"gateway.added", func(ctx context.Context) (sample, error) {
		began := time.Now()
		for n := range addedWarmUp + addedWrites {
			for i, kind := range kinds {
				before, err := kind.waited()
				if err != nil {
					return sample{}, err
				}
				sent := time.Now()
				if err := kind.submit(); err != nil {
					return sample{}, err
				}
				took := time.Since(sent)
				after, err := kind.waited()
				if err != nil {
					return sample{}, err
				}
				if n >= addedWarmUp {
					own[i] = append(own[i], took-(after-before))
				}
			}
		}
		slices.Sort(own[0])
		slices.Sort(own[1])
		return sample{Count: addedWrites, Seconds: time.Since(began).Seconds(), P50: quantile(own[1], 0.5), P95: quantile(own[1], 0.95), P99: quantile(own[1], 0.99)}, nil
	}})
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(b.progress, "bench: besides what peers take, a write past the gateway takes %s and one through it %s\n", quantile(own[0], 0.5), quantile(own[1], 0.5))
	return []figure{{
		Name: "gateway.added_p50", Value: (quantile(own[1], 0.5) - quantile(own[0], 0.5)).Seconds() * 1e3, Unit: "ms", Goal: "≤ 2", Samples: []sample{s},
	}}, nil
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
