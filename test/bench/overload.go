package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/zhenglian/zhenglian/gateway/httpapi"
	"github.com/zhenglian/zhenglian/test/consortium"
)

const (
	// The department's calls beside the overload: few enough that the machine has
	// room for them.
	departmentReads  = 100 // a second
	departmentWrites = 8

	// writeConnections are few enough that each is used within the 5 s for which a gateway
	// waits for the first request on a connection.
	writeConnections = 32

	// publicConnections is how many people ask at one time.
	publicConnections = 512
)

// overload offers a gateway three times the public requests that it takes in, and
// watches what that does to the department's own calls. People ask from a
// process of their own.
func (b *bench) overload(ctx context.Context) (_ []figure, err error) {
	// The benchmark's gateways have no limits to speak of; this one gets its own back.
	admitted := int(httpapi.DefaultPublicRate().PerSecond)
	own := filepath.Join(b.net.State, "departments", department, consortium.GatewayOf, "own.json")
	limits := fmt.Sprintf(`{"limits":{"publicPerSecond":%d,"publicBurst":%d}}`, admitted, admitted/10)
	if err := os.WriteFile(own, []byte(limits), 0o600); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.Remove(own), b.restartGateway(context.WithoutCancel(ctx))) }()
	first, err := shareProcessors(-20)
	if err != nil {
		return nil, err
	}
	defer func() {
		_, shareErr := shareProcessors(0)
		err = errors.Join(err, shareErr)
	}()
	if err := b.restartGateway(ctx); err != nil {
		return nil, err
	}
	var reads, writes [2][]sample // alone, beside the overload
	// The department does not live on the gateway's host either. Where its client may
	// not come first, it is the client that waits, up to 30 ms, for all that is busy.
	starved := !first
	for _, i := range []int{0, 1, 1, 0} {
		name := []string{"alone", "overload"}[i]
		var write sample
		read, err := b.measure(ctx, arm{"gateway." + name, func(ctx context.Context) (read sample, err error) {
			if i == 0 {
				read, write, err = b.departmentCalls(ctx)
				return read, err
			}
			people, err := start(ctx, childPeople, "-url", b.net.Gateway(department).URL, "-path", verifyPath(b.refs[0]), "-rate", strconv.Itoa(3*admitted))
			if err != nil {
				return sample{}, err
			}
			read, write, err = b.departmentCalls(ctx)
			if err := errors.Join(err, people.stop()); err != nil {
				return sample{}, err
			}
			var asked answers
			if err := json.Unmarshal([]byte(people.said), &asked); err != nil {
				return sample{}, fmt.Errorf("what people were answered: %w", err)
			}
			fmt.Fprintf(b.progress, "bench: of the public %.0f a second were answered, %.0f told to come again, %.0f went wrong\n", asked.Answered, asked.Later, asked.Wrong)
			if asked.Wrong > 0 {
				return sample{}, fmt.Errorf("%.0f public requests a second went wrong", asked.Wrong)
			}
			// What the machine has no time to ask is no overload.
			starved = starved || asked.Answered+asked.Later < 0.9*float64(3*admitted)
			return read, nil
		}})
		if err != nil {
			return nil, err
		}
		write.Arm = read.Arm
		reads[i], writes[i] = append(reads[i], read), append(writes[i], write)
	}
	goal := fmt.Sprintf("≤ 2: 95th percentile beside 3 × %d public requests a second, over that without", admitted)
	read, write := slower("gateway.overload_read_p95", goal, reads), slower("gateway.overload_write_p95", goal, writes)
	read.Noisy, write.Noisy = read.Noisy || starved, write.Noisy || starved
	return []figure{read, write}, nil
}

// slower makes a figure of how much later the 95th percentile of the second samples
// is.
func slower(name, goal string, samples [2][]sample) figure {
	f := figure{Name: name, Unit: "ratio", Goal: goal}
	var ratios []float64
	for i, first := range samples[0] {
		second := samples[1][i]
		ratios = append(ratios, float64(second.P95)/float64(first.P95))
		f.Samples = append(f.Samples, first, second)
		f.Noisy = f.Noisy || differ(first.Before, second.Before)
	}
	slices.Sort(ratios)
	f.Ratio, f.Worst = median(ratios), ratios[len(ratios)-1]
	return f
}

// answers is what people were told, each a second.
type answers struct {
	Answered, Later, Wrong float64
}

// people asks for a path at a rate until ctx ends, and says what the answers were.
func people(ctx context.Context, base, path string, rate int) (answers, error) {
	all, err := connections(ctx, base, publicConnections)
	if err != nil {
		return answers{}, err
	}
	defer closeAll(all)
	var ok, later, wrong atomic.Int64
	began := time.Now()
	_, _, err = openLoop(ctx, all, rate, 0, time.Hour, func(c *connection, _ int) error {
		status, _, _, err := c.get(path, "")
		switch {
		case err != nil:
			return err
		case status == http.StatusOK:
			ok.Add(1)
		case status == http.StatusTooManyRequests:
			later.Add(1)
		default:
			wrong.Add(1)
		}
		return nil
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		return answers{}, err
	}
	took := time.Since(began).Seconds()
	return answers{Answered: float64(ok.Load()) / took, Later: float64(later.Load()) / took, Wrong: float64(wrong.Load()) / took}, nil
}

// overloadSpan is how long a department's calls are watched: of fewer reads than these the
// 95th percentile is chance.
func (b *bench) overloadSpan() span {
	return span{b.set.WarmUp, max(b.set.Window, 15*time.Second)}
}

// departmentCalls reads and writes at fixed rates, each call at its time.
func (b *bench) departmentCalls(ctx context.Context) (read, write sample, err error) {
	all, err := connections(ctx, b.net.Gateway(department).URL, lookupConnections+writeConnections)
	if err != nil {
		return read, write, err
	}
	defer closeAll(all)
	span := b.overloadSpan()
	watch := func(over []*connection, rate int, call func(*connection) error) (sample, error) {
		var first atomic.Pointer[error]
		latencies, failed, err := openLoop(ctx, over, rate, span.warmUp, span.window, func(c *connection, _ int) error {
			err := call(c)
			if err != nil {
				first.CompareAndSwap(nil, &err)
			}
			return err
		})
		if err == nil && failed > 0 { // what is refused at once is not fast
			err = fmt.Errorf("%d of a department's calls failed: %w", failed, *first.Load())
		}
		if err != nil {
			return sample{}, err
		}
		return sample{
			Count: len(latencies), Seconds: span.window.Seconds(), P50: quantile(latencies, 0.5), P95: quantile(latencies, 0.95), P99: quantile(latencies, 0.99),
		}, nil
	}
	var wg sync.WaitGroup
	var readErr, writeErr error
	wg.Go(func() {
		read, readErr = watch(all[:lookupConnections], departmentReads, func(c *connection) error {
			path := "/v1/grants/" + b.grant.ID
			status, _, body, err := c.get(path, b.operator)
			if err == nil && status != http.StatusOK {
				err = fmt.Errorf("GET %s: status %d: %.1000s", path, status, body)
			}
			return err
		})
	})
	wg.Go(func() {
		write, writeErr = watch(all[lookupConnections:], departmentWrites, func(c *connection) error {
			_, err := b.submitOver(c)
			return err
		})
	})
	wg.Wait()
	return read, write, errors.Join(readErr, writeErr)
}

// restartGateway has the department's gateway read its settings again.
func (b *bench) restartGateway(ctx context.Context) error {
	b.callers.close() // they would break in the middle of a write
	if err := b.net.Signal(department, consortium.GatewayOf, syscall.SIGKILL); err != nil {
		return err
	}
	return retry(ctx, func() error {
		return b.net.Gateway(department).Call(ctx, "", "GET", "/readyz", nil, http.StatusOK, nil)
	})
}
