package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/zhenglian/zhenglian/gateway/sqltrail"
	"github.com/zhenglian/zhenglian/gateway/tilelog"
	"github.com/zhenglian/zhenglian/gateway/tilelog/tilelogtest"
	"github.com/zhenglian/zhenglian/gateway/trail/trailtest"
)

const (
	// proofSamples is how many inclusion proofs are made, each of another entry.
	proofSamples = 5000

	// smallTrail is the size of the trail that a large one is compared with.
	smallTrail = 10_000

	// traceTimes is how often each question is asked of a trail.
	traceTimes = 10
)

// inFolder calls f with a temporary folder.
func inFolder(f func(dir string) error) (err error) {
	dir, err := os.MkdirTemp("", "zhenglian-bench-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return f(dir)
}

// proofs measures how long the inclusion proof of an entry takes to be made from
// the tiles of a large log, on the machine that the network idles on.
func (b *bench) proofs(ctx context.Context) ([]figure, error) {
	var latencies []time.Duration
	err := inFolder(func(dir string) (err error) {
		const origin = "zhenglian.example/log/bench"
		key, _, err := note.GenerateKey(rand.Reader, origin)
		if err != nil {
			return err
		}
		if err := tilelogtest.Fill(ctx, dir, key, b.set.Leaves); err != nil {
			return err
		}
		l, err := tilelog.Open(ctx, tilelog.Options{Dir: dir, Origin: origin, Key: key})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, l.Close(ctx)) }()
		for range proofSamples {
			index := mrand.Uint64N(b.set.Leaves) //nolint:gosec // any place does
			began := time.Now()
			if _, err := l.InclusionProof(ctx, index, b.set.Leaves); err != nil {
				return err
			}
			latencies = append(latencies, time.Since(began))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(latencies)
	return []figure{{
		Name: "access.proof_p99", Value: milliseconds(quantile(latencies, 0.99)), Unit: "ms", Goal: "≤ 1 at 10,000,000 leaves",
		Samples: []sample{{Arm: fmt.Sprintf("%d leaves", b.set.Leaves), Count: len(latencies), Seconds: sum(latencies).Seconds(), P50: quantile(latencies, 0.5), P99: quantile(latencies, 0.99)}},
	}}, nil
}

func sum(latencies []time.Duration) (total time.Duration) {
	for _, l := range latencies {
		total += l
	}
	return total
}

// traces measures pages of 100 of the auditor's trail, small and large.
func (b *bench) traces(ctx context.Context) ([]figure, error) {
	var samples []sample
	for _, entries := range []int{smallTrail, b.set.Traced} {
		s, err := traceLatencies(ctx, entries)
		if err != nil {
			return nil, err
		}
		samples = append(samples, s)
	}
	return []figure{
		{Name: "access.trace_p99", Value: milliseconds(samples[1].P99), Unit: "ms", Goal: "≤ 50 of 1,000,000 entries", Samples: samples},
		{
			Name: "access.trace_growth", Value: float64(samples[1].P99) / float64(samples[0].P99), Unit: fmt.Sprintf("× for %d × the entries", b.set.Traced/smallTrail),
			Goal: "≤ 2 for 100 ×",
		},
	}, nil
}

func traceLatencies(ctx context.Context, entries int) (s sample, err error) {
	err = inFolder(func(dir string) (err error) {
		store, err := sqltrail.Open(ctx, filepath.Join(dir, "trail.sqlite"))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, store.Close()) }()
		if _, err := trailtest.Fill(ctx, store, entries, 10_000); err != nil {
			return err
		}
		// As deep as the small trail goes, so that both answer the same questions.
		questions, err := trailtest.Measure(ctx, store, traceTimes, smallTrail/2)
		if err != nil {
			return err
		}
		s = sample{Arm: fmt.Sprintf("%d entries", entries), P50: trailtest.Quantile(questions, 0.5), P99: trailtest.Quantile(questions, 0.99)}
		for _, q := range questions {
			s.Count += len(q.Latency)
			s.Seconds += sum(q.Latency).Seconds()
		}
		return nil
	})
	return s, err
}
