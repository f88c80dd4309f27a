package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/zhenglian/zhenglian/test/consortium"
)

// fault is one kind of failure that the program can cause.
type fault struct {
	name string
	// hold is how long it lasts at least and at most; where both are zero it is
	// over at once.
	hold [2]time.Duration
	// inject causes it and answers how it is undone. target is the department that
	// it is drawn for.
	inject func(ctx context.Context, w *world, target string) (undo func(context.Context) error, err error)
	// draws says of which departments the target is one; nil: of all.
	draws func(w *world) []string
	// strikes says what becomes unavailable by the nature of the fault, so that
	// errors there say nothing of the others: nil where nothing does.
	strikes func(target string) []string
	// setUp prepares the machine once, before the consortium starts. It answers a
	// *lackingError where the machine cannot cause the fault.
	setUp func(ctx context.Context, w *world) error
}

// world is what faults act on.
type world struct {
	net      *consortium.Consortium
	redis    *consortium.Redis
	observer *observer
	isolator *isolator // nil: no fault of this run needs one
	clocks   *clocks
	leftover []func(context.Context) error // to be done after the checks that follow a fault
}

const seconds = time.Second

var (
	briefly = [2]time.Duration{5 * seconds, 20 * seconds}
	long    = [2]time.Duration{20 * seconds, 40 * seconds}
)

func itself(target string) []string { return []string{target} }

// faults are all of them, in the order of the report.
var faults = []fault{
	{name: "follower-kill", hold: briefly, draws: followers, inject: keepDown(consortium.Orderer)},
	{name: "follower-freeze", hold: briefly, draws: followers, inject: freeze(consortium.Orderer)},
	{name: "leader-kill", hold: briefly, draws: leader, inject: keepDown(consortium.Orderer)},
	{name: "leader-freeze", hold: long, draws: leader, inject: freeze(consortium.Orderer)},
	{name: "peer-kill", hold: briefly, inject: keepDown(consortium.Peer), strikes: itself},
	{name: "peer-restart", inject: kill(consortium.Peer), strikes: itself},
	{name: "peer-freeze", hold: briefly, inject: freeze(consortium.Peer), strikes: itself},
	{name: "department-down", hold: long, inject: keepDown(consortium.Peer, consortium.Orderer), strikes: itself},
	{name: "two-orderers", hold: long, inject: twoOrderers},
	{name: "orderers-forget", hold: long, inject: orderersForget},
	{name: "chaincode-kill", inject: kill(consortium.Chaincode), strikes: itself},
	{name: "chaincode-freeze", hold: briefly, inject: freeze(consortium.Chaincode), strikes: itself},
	{name: "gateway-kill", inject: kill(consortium.GatewayOf), strikes: itself},
	{name: "gateway-freeze", hold: briefly, inject: freeze(consortium.GatewayOf), strikes: itself},
	{name: "redis-kill", hold: briefly, inject: redisDown},
	{name: "redis-flush", inject: redisFlush},
	{name: "redis-freeze", hold: briefly, inject: redisFreeze},
	{name: "redis-full", hold: briefly, inject: redisFull},
	{name: "redis-poison", hold: briefly, inject: redisPoison},
	{name: "power-cut", inject: powerCut},
	{name: "all-freeze", hold: briefly, inject: freezeAll},
	{name: "partition-one", hold: long, setUp: isolate, inject: partitionOne, strikes: itself},
	{name: "partition-halves", hold: long, setUp: isolate, inject: partitionHalves},
	{name: "partition-one-way", hold: long, setUp: isolate, inject: partitionOneWay, strikes: itself},
	{name: "partition-flapping", hold: long, setUp: isolate, inject: partitionFlapping, strikes: itself},
	{name: "packet-loss", hold: long, setUp: isolate, inject: packetLoss, strikes: itself},
	{name: "disk-full-peer", hold: briefly, setUp: mountable, inject: fillDisk(consortium.Peer), strikes: itself},
	{name: "disk-full-orderer", hold: briefly, setUp: mountable, inject: fillDisk(consortium.Orderer)},
	{name: "disk-full-gateway", hold: briefly, setUp: mountable, inject: fillDisk(consortium.GatewayOf), strikes: itself},
	{name: "clock-gateway", hold: briefly, setUp: skewable("zhenglian"), inject: skew(consortium.GatewayOf), strikes: itself},
	{name: "clock-peer", hold: briefly, setUp: skewable("peer"), inject: skew(consortium.Peer), strikes: itself},
}

// lackingError says what a machine does not have that a fault takes.
type lackingError struct{ what string }

func (e *lackingError) Error() string { return e.what }

func lacking(format string, args ...any) error {
	return &lackingError{fmt.Sprintf(format, args...)}
}

// event is one fault of a schedule.
type event struct {
	fault  *fault
	target string // "" where it is drawn when its time comes: who leads is not known before
	hold   time.Duration
	draw   uint64 // decides what is drawn later
}

// schedule draws events by the seed: each fault once before any comes again.
// None lasts longer than longest, unless that is 0.
func schedule(random *rand.Rand, names, departments []string, count int, longest time.Duration) ([]event, error) {
	var chosen []*fault
	for _, name := range names {
		i := slices.IndexFunc(faults, func(f fault) bool { return f.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no fault %q", name)
		}
		chosen = append(chosen, &faults[i])
	}
	if len(chosen) == 0 {
		return nil, errors.New("no fault is chosen")
	}
	var events []event
	for len(events) < count {
		for _, i := range random.Perm(len(chosen)) {
			f := chosen[i]
			e := event{fault: f, hold: f.hold[0], draw: random.Uint64()}
			if spread := f.hold[1] - f.hold[0]; spread > 0 {
				e.hold = f.hold[0] + time.Duration(random.Int64N(int64(spread))).Round(seconds/10)
			}
			if longest > 0 {
				e.hold = min(e.hold, longest)
			}
			if f.draws == nil {
				e.target = departments[random.IntN(len(departments))]
			}
			if events = append(events, e); len(events) == count {
				break
			}
		}
	}
	return events, nil
}

// leader answers the department whose orderer leads. It leads from one view to
// the next; consenters are numbered in the order of the definition.
func leader(w *world) []string {
	return []string{members[w.observer.view%uint64(len(members))]}
}

func followers(w *world) []string {
	return slices.DeleteFunc(w.net.Departments(), func(d string) bool { return d == leader(w)[0] })
}

func nothingToUndo(context.Context) error { return nil }

// kill ends a process; the supervisor starts it again.
func kill(kind string) func(context.Context, *world, string) (func(context.Context) error, error) {
	return func(_ context.Context, w *world, target string) (func(context.Context) error, error) {
		return nothingToUndo, w.net.Kill(target, kind)
	}
}

// keepDown kills processes and leaves them dead until it is undone.
func keepDown(kinds ...string) func(context.Context, *world, string) (func(context.Context) error, error) {
	return func(ctx context.Context, w *world, target string) (func(context.Context) error, error) {
		for _, kind := range kinds {
			if err := errors.Join(w.net.Kill(target, kind), w.net.Halt(ctx, kind+"-"+target)); err != nil {
				return nil, err
			}
		}
		return func(ctx context.Context) error {
			var errs []error
			for _, kind := range kinds {
				errs = append(errs, w.net.Resume(ctx, kind+"-"+target))
			}
			return errors.Join(errs...)
		}, nil
	}
}

// freeze stops a process without ending it: its connections stay and nobody
// answers on them.
func freeze(kind string) func(context.Context, *world, string) (func(context.Context) error, error) {
	return func(_ context.Context, w *world, target string) (func(context.Context) error, error) {
		pids, err := w.net.Processes(target, kind)
		if err != nil || len(pids) == 0 {
			return nil, fmt.Errorf("no %s of %s runs: %w", kind, target, err)
		}
		return freezing(pids)
	}
}

func freezing(pids []int) (func(context.Context) error, error) {
	signal := func(s syscall.Signal) error {
		var errs []error
		for _, pid := range pids {
			// A supervisor may have killed what did not answer its probe.
			if err := syscall.Kill(pid, s); !errors.Is(err, syscall.ESRCH) {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}
	return func(context.Context) error { return signal(syscall.SIGCONT) }, signal(syscall.SIGSTOP)
}

// freezeAll stops every process at once, the supervisor included, as a machine that is
// moved to another host stands still.
func freezeAll(_ context.Context, w *world, _ string) (func(context.Context) error, error) {
	pids, err := w.net.AllProcesses()
	if err != nil {
		return nil, err
	}
	return freezing(pids)
}

func twoOrderers(ctx context.Context, w *world, target string) (func(context.Context) error, error) {
	departments := w.net.Departments()
	other := departments[(slices.Index(departments, target)+1)%len(departments)]
	first, err := keepDown(consortium.Orderer)(ctx, w, target)
	if err != nil {
		return nil, err
	}
	second, err := keepDown(consortium.Orderer)(ctx, w, other)
	if err != nil {
		return first, err
	}
	return func(ctx context.Context) error { return errors.Join(first(ctx), second(ctx)) }, nil
}

// orderersForget has two orderers take transactions that they cannot order, because
// the other two are down, and lose them all: an orderer keeps in memory what was
// handed to it.
func orderersForget(ctx context.Context, w *world, target string) (func(context.Context) error, error) {
	resume, err := twoOrderers(ctx, w, target)
	if err != nil {
		return resume, err
	}
	var remembering []string
	for _, department := range w.net.Departments() {
		pids, err := w.net.Processes(department, consortium.Orderer)
		if err != nil {
			return resume, err
		}
		if len(pids) > 0 {
			remembering = append(remembering, department)
		}
	}
	return func(ctx context.Context) error {
		var errs []error
		for _, department := range remembering { // the supervisor starts them again
			errs = append(errs, w.net.Kill(department, consortium.Orderer))
		}
		return errors.Join(append(errs, resume(ctx))...)
	}, nil
}

// powerCut kills every process at once, the supervisor included. What brings them
// back is what an operator's machine runs when it boots.
func powerCut(_ context.Context, w *world, _ string) (func(context.Context) error, error) {
	pids, err := w.net.AllProcesses()
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return nil, err
		}
	}
	return w.net.Up, nil
}

func redisDown(_ context.Context, w *world, _ string) (func(context.Context) error, error) {
	w.redis.Stop()
	return w.redis.Start, nil
}

func redisFreeze(_ context.Context, w *world, _ string) (func(context.Context) error, error) {
	return func(context.Context) error { return w.redis.Thaw() }, w.redis.Freeze()
}

func withRedis(w *world, f func(*goredis.Client) error) error {
	options, err := goredis.ParseURL(w.redis.URL)
	if err != nil {
		return err
	}
	client := goredis.NewClient(options)
	return errors.Join(f(client), client.Close())
}

func redisFlush(ctx context.Context, w *world, _ string) (func(context.Context) error, error) {
	return nothingToUndo, withRedis(w, func(c *goredis.Client) error { return c.FlushAll(ctx).Err() })
}

// redisFull leaves the server no memory for anything new.
func redisFull(ctx context.Context, w *world, _ string) (func(context.Context) error, error) {
	limit := func(ctx context.Context, bytes string) error {
		return withRedis(w, func(c *goredis.Client) error { return c.ConfigSet(ctx, "maxmemory", bytes).Err() })
	}
	return func(ctx context.Context) error { return limit(ctx, "0") }, limit(ctx, "1")
}

// redisPoison overwrites every entry with that of another key, over and over:
// genuine bytes in the wrong place.
func redisPoison(ctx context.Context, w *world, _ string) (func(context.Context) error, error) {
	poisoning, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() {
		ended <- withRedis(w, func(c *goredis.Client) error {
			for poisoning.Err() == nil {
				keys, err := c.Keys(poisoning, "zhenglian:entry:*").Result()
				if err != nil && poisoning.Err() == nil {
					return err
				}
				for i, key := range keys {
					value, err := c.Get(poisoning, keys[(i+1)%len(keys)]).Bytes()
					if err == nil { // it may have expired
						_ = c.Set(poisoning, key, value, 0).Err() // the next round comes
					}
				}
				select {
				case <-poisoning.Done():
				case <-time.After(20 * time.Millisecond):
				}
			}
			return nil
		})
	}()
	return func(ctx context.Context) error {
		stop()
		err := <-ended
		return errors.Join(err, withRedis(w, func(c *goredis.Client) error { return c.FlushAll(ctx).Err() }))
	}, nil
}
