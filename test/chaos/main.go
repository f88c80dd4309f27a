// Command chaos checks what the consortium promises while parts of it fail. It
// runs the real network under load, causes faults by a schedule that a seed
// decides, and compares after each what clients were told with what the ledger,
// the access logs and the indexes say. See docs/faults.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/zhenglian/zhenglian/test/consortium"
)

const (
	// readyWithin is the promise after a power cut; every other fault is over
	// sooner.
	readyWithin = 180 * time.Second

	// baseline is how long the load runs before the first fault.
	baseline = 10 * time.Second

	// before and afterwards are how long it runs before each fault and after it has
	// passed.
	before     = 2 * time.Second
	afterwards = 5 * time.Second
)

// settings of one run, printed with its report.
type settings struct {
	Seed    uint64        `json:"seed"`
	Minutes float64       `json:"minutes"` // 0: each fault once
	Writes  float64       `json:"writesPerSecond"`
	Reads   float64       `json:"readsPerSecond"`
	Faults  []string      `json:"faults"`
	Every   time.Duration `json:"everyNs"`   // a fault begins at most so often; 0: after the checks of the one before
	Longest time.Duration `json:"longestNs"` // no fault lasts longer; 0: as long as it is drawn
	Within  time.Duration `json:"withinNs"`  // no fault begins later; 0: each has its turn
	Skip    bool          `json:"skip"`      // a fault that this machine cannot cause is left out
	Soak    bool          `json:"soak"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.SetOutput(stderr)
	seed := flags.Uint64("seed", 0, "decides the schedule; 0: drawn and printed")
	minutes := flags.Float64("minutes", 0, "go on causing faults for so long; 0: each one once")
	names := flags.String("faults", "", "comma-separated; all when empty; \"list\" prints them")
	writes := flags.Float64("writes", 20, "writes per second; fewer when the machine does not keep up")
	reads := flags.Float64("reads", 200, "reads per second")
	every := flags.Duration("every", 0, "begin a fault at most so often")
	longest := flags.Duration("longest", 0, "no fault lasts longer than so")
	within := flags.Duration("within", 0, "begin no fault after so long, and say which ones had no turn")
	skip := flags.Bool("skip", false, "leave out the faults that this machine cannot cause, and say so, instead of giving up")
	soak := flags.Bool("soak", false, "watch memory, goroutines and descriptors of every process, and check once at the end")
	state := flags.String("state", ".zhenglian-chaos", "state folder of the consortium, deleted first")
	offset := flags.Int("offset", 22000, "how far the consortium's ports lie above the default ones")
	out := flags.String("report", filepath.Join(".zhenglian", "chaos", "report.json"), "where the report goes")
	keep := flags.Bool("keep", false, "leave the state after a run that found nothing")
	again := flags.Bool("again", false, "cause nothing: check once more the state and the history that a run left")
	if err := flags.Parse(args); err != nil {
		return err
	}
	set := settings{Seed: *seed, Minutes: *minutes, Writes: *writes, Reads: *reads, Every: *every, Longest: *longest, Within: *within, Skip: *skip, Soak: *soak, Faults: strings.Split(*names, ",")}
	if *names == "" || *names == "list" {
		set.Faults = nil
		for _, f := range faults {
			set.Faults = append(set.Faults, f.name)
		}
	}
	if *names == "list" {
		fmt.Fprintln(stdout, strings.Join(set.Faults, "\n"))
		return nil
	}
	if set.Seed == 0 {
		set.Seed = rand.Uint64()
	}
	random := rand.New(rand.NewPCG(set.Seed, 0))
	count := len(set.Faults)
	if set.Minutes > 0 {
		count = int(set.Minutes*60) + 1 // more than there is time for
	}
	events, err := schedule(random, set.Faults, members, count, set.Longest)
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "chaos: seed %d\n", set.Seed)
	root, err := filepath.Abs(".")
	if err != nil {
		return err
	}
	r := &runner{set: set, random: random, out: stderr, world: &world{}, known: map[finding]bool{}}
	if *again {
		events = nil
	}
	if err := r.start(ctx, root, filepath.Join(root, *state), *offset, *again); err != nil {
		return errors.Join(err, r.stop(context.WithoutCancel(ctx), false))
	}
	var runErr error
	if *again {
		runErr = r.check(ctx, &r.findings, true)
	} else {
		runErr = r.run(ctx, events)
	}
	rep := r.report()
	writeErr := rep.write(*out)
	if (len(rep.Findings) > 0 || runErr != nil || *keep) && !*again {
		writeErr = errors.Join(writeErr, r.history.save(filepath.Join(root, *state, historyFile)))
		fmt.Fprintf(stderr, "chaos: the state stays under %s\n", *state)
	}
	stopErr := r.stop(context.WithoutCancel(ctx), runErr == nil && len(rep.Findings) == 0 && !*keep && !*again)
	rep.table(stdout)
	fmt.Fprintln(stdout, "\nreport:", *out)
	if len(rep.Findings) > 0 {
		err = fmt.Errorf("%d promises were broken", len(rep.Findings))
	}
	return errors.Join(err, runErr, writeErr, stopErr)
}

// runner is one run.
type runner struct {
	set    settings
	random *rand.Rand
	out    io.Writer
	began  time.Time

	world   *world
	history *history
	load    *load

	stopLoad func()            // pauses it
	leftOut  map[string]string // why, by fault
	passed   []passedFault
	findings []finding
	known    map[finding]bool
	usage    *usage // nil but for a soak
}

// passedFault is a fault that came and went.
type passedFault struct {
	Name   string        `json:"name"`
	Target string        `json:"target"`
	Begun  time.Time     `json:"begun"`
	Hold   time.Duration `json:"holdNs"`
	measured
	Findings []finding `json:"findings,omitempty"`
}

func (r *runner) say(format string, args ...any) {
	fmt.Fprintf(r.out, "chaos: %6.1f s  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

// start starts a consortium and what its load needs, or takes over the one that a run
// left, and its history.
func (r *runner) start(ctx context.Context, root, state string, offset int, again bool) (err error) {
	r.began = time.Now()
	w := r.world
	bin := filepath.Join(root, "bin")
	folder := state + ".bin"
	w.clocks = &clocks{folder: folder}
	wrapping, err := r.prepare(ctx)
	if err != nil {
		return err
	}
	if wrapping {
		if err := wrap(w, bin, folder); err != nil {
			return err
		}
		bin = folder
	}
	if w.redis, err = consortium.StartRedis(ctx, 6379+offset); err != nil {
		return err
	}
	w.net, err = consortium.Start(ctx, consortium.Options{
		Root: root, Bin: bin, State: state, PortOffset: offset, Redis: w.redis.URL, Reuse: again, Output: r.out,
		// What is tested is what fails, not the limits on one address.
		Settings: map[string]any{"limits": map[string]any{"addressPerSecond": 1e6, "addressBurst": 1_000_000, "identityPerSecond": 1e6, "identityBurst": 1_000_000}},
	})
	if err != nil {
		return err
	}
	r.say("consortium ready after %s", w.net.Started.Round(time.Second))
	if w.observer, err = newObserver(w.net); err != nil {
		return err
	}
	r.history = &history{}
	r.load = newLoad(&clients{net: w.net, history: r.history}, r.random)
	if again {
		if err := r.history.load(filepath.Join(state, historyFile)); err != nil {
			return err
		}
		r.load.resume()
		return nil
	}
	// The sample sets time limits and working days.
	if _, err := w.net.Run(ctx, "zhenglian", "sample", "--state", state); err != nil {
		return err
	}
	return r.load.prepare(ctx, r.set.Writes)
}

// prepare sets up what the faults of this run need, and says whether processes must
// start by scripts for that. A fault that this machine cannot cause is left out when the
// settings say so.
func (r *runner) prepare(ctx context.Context) (wrapping bool, err error) {
	r.leftOut = map[string]string{}
	for _, name := range r.set.Faults {
		f := faults[slices.IndexFunc(faults, func(f fault) bool { return f.name == name })]
		if f.setUp == nil {
			continue
		}
		err := f.setUp(ctx, r.world)
		var lacking *lackingError
		switch {
		case err == nil:
			wrapping = true
		case r.set.Skip && errors.As(err, &lacking):
			r.leftOut[name] = err.Error()
			r.say("LEFT OUT: %s: %v", name, err)
		default:
			return false, fmt.Errorf("prepare %s: %w", name, err)
		}
	}
	return wrapping, nil
}

// stop ends what start began.
func (r *runner) stop(ctx context.Context, remove bool) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	var errs []error
	w := r.world
	for _, f := range w.leftover { // of a fault that was not caused to its end
		errs = append(errs, f(ctx))
	}
	if w.observer != nil {
		errs = append(errs, w.observer.close())
	}
	if w.net != nil {
		if remove {
			errs = append(errs, w.net.Reset(ctx))
		} else {
			errs = append(errs, w.net.Down(ctx))
		}
	}
	if w.redis != nil {
		w.redis.Stop()
	}
	if w.isolator != nil {
		errs = append(errs, w.isolator.close(ctx))
	}
	return errors.Join(errs...)
}

// run runs the load and the events until time or events are over, and checks
// everything at the end.
func (r *runner) run(ctx context.Context, events []event) error {
	if err := r.calibrate(ctx); err != nil {
		return err
	}
	if err := r.check(ctx, &r.findings, false); err != nil {
		return err
	}
	if r.set.Soak {
		r.usage = newUsage(r.world.net)
		if err := r.usage.rest(ctx); err != nil {
			return err
		}
		sampling, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() { r.usage.run(sampling) })
		defer wg.Wait()
		defer cancel()
	}
	until := time.Now().Add(time.Duration(r.set.Minutes * float64(time.Minute)))
	for _, e := range events {
		if r.set.Minutes > 0 && time.Now().Add(e.hold).After(until) {
			break
		}
		if r.leaves(e) {
			continue
		}
		next := time.Now().Add(r.set.Every)
		if err := r.one(ctx, e); err != nil {
			return fmt.Errorf("%s of %s: %w", e.fault.name, e.target, err)
		}
		r.resumeLoad(ctx)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Until(next)):
		}
	}
	r.pauseLoad()
	if r.usage != nil {
		r.findings = append(r.findings, leaks(r.usage.growth())...)
		kept, err := r.usage.unload(ctx)
		if err != nil {
			return err
		}
		r.findings = append(r.findings, kept...)
	}
	return r.check(ctx, &r.findings, true)
}

// leaves says whether an event is left out, because the machine cannot cause its fault
// or the time is over.
func (r *runner) leaves(e event) bool {
	if r.leftOut[e.fault.name] == "" && r.set.Within > 0 && time.Since(r.began) > r.set.Within {
		r.leftOut[e.fault.name] = fmt.Sprintf("it had no turn within %s", r.set.Within)
		r.say("LEFT OUT: %s: %s", e.fault.name, r.leftOut[e.fault.name])
	}
	return r.leftOut[e.fault.name] != ""
}

func (r *runner) resumeLoad(ctx context.Context) {
	if r.stopLoad != nil {
		return
	}
	running, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.load.run(running, ctx, r.set.Writes, r.set.Reads)
	}()
	r.stopLoad = func() { cancel(); <-ended }
}

// pauseLoad begins no further request and waits until those under way have ended,
// each with an answer or after its time.
func (r *runner) pauseLoad() {
	if r.stopLoad != nil {
		r.stopLoad()
		r.stopLoad = nil
		r.load.drain()
	}
}

// calibrate lowers the rates until the machine keeps up: what is to be seen are
// faults, not a queue.
func (r *runner) calibrate(ctx context.Context) error {
	for {
		r.resumeLoad(ctx)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(baseline):
		}
		waiting := float64(r.load.inFlight.Load())
		r.pauseLoad()
		if waiting <= 4*r.set.Writes+4 || r.set.Writes < 2 {
			r.say("load: %.1f writes/s and %.0f reads/s", r.set.Writes, r.set.Reads)
			return ctx.Err()
		}
		r.set.Writes, r.set.Reads = r.set.Writes/2, r.set.Reads/2
	}
}

// one causes one fault, waits until everything is well again, and checks.
func (r *runner) one(ctx context.Context, e event) error {
	w := r.world
	r.resumeLoad(ctx)
	target := e.target
	if e.fault.draws != nil {
		// The latest block says who leads.
		height, err := w.observer.height(ctx, members[0])
		if err != nil {
			return err
		}
		if err := w.observer.blocks(ctx, members[0], height, w.observer.lead); err != nil {
			return err
		}
		drawn := e.fault.draws(w)
		target = drawn[e.draw%uint64(len(drawn))]
	}
	if err := wait(ctx, before); err != nil { // the load flows
		return err
	}
	p := passedFault{Name: e.fault.name, Target: target, Begun: time.Now(), Hold: e.hold}
	undo, err := e.fault.inject(ctx, w, target)
	if err != nil {
		return err
	}
	err = wait(ctx, e.hold)
	undone := time.Now()
	if undoErr := undo(context.WithoutCancel(ctx)); undoErr != nil || err != nil {
		return errors.Join(err, undoErr)
	}
	if err := errors.Join(w.observer.ready(ctx, readyWithin), w.observer.caughtUp(ctx, readyWithin), w.observer.follow(ctx, readyWithin)); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.Findings = append(p.Findings, found(neverReady, "%v", err))
	}
	recovered := time.Since(undone)
	if err := wait(ctx, afterwards); err != nil {
		return err
	}
	until := time.Now()
	if !r.set.Soak {
		r.pauseLoad()
		if err := r.check(ctx, &p.Findings, false); err != nil {
			return err
		}
	}
	operations, _, verifications := r.history.snapshot()
	var struck []string
	if e.fault.strikes != nil {
		struck = e.fault.strikes(target)
	}
	p.measured = measure(operations, verifications, r.load.failed.during(p.Begun, until), p.Begun, undone, until, struck)
	p.Recovered = recovered
	r.passed = append(r.passed, p)
	r.findings = append(r.findings, p.Findings...)
	r.say("%-18s %-8s for %4.1f s: stall %4.1f s, error burst %4.1f s, verified %6.2f %%, well after %4.1f s, %d findings",
		p.Name, p.Target, p.Hold.Seconds(), p.Stall.Seconds(), p.Burst.Seconds(), 100*p.Available, p.Recovered.Seconds(), len(p.Findings))
	for _, f := range p.Findings {
		r.say("    %s: %s", f.Promise, f.Detail)
	}
	for _, f := range w.leftover {
		if err := f(ctx); err != nil {
			return err
		}
	}
	if len(w.leftover) > 0 {
		w.leftover = nil
		return errors.Join(w.observer.ready(ctx, readyWithin), w.observer.caughtUp(ctx, readyWithin), w.observer.follow(ctx, readyWithin))
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// check compares everything with everything while nothing is under way. The
// indexes are compared with new ones when all is set: their gateways must stop
// for that.
func (r *runner) check(ctx context.Context, findings *[]finding, all bool) error {
	w := r.world
	var present []finding
	// Each check looks at the whole history: what an earlier one found is known.
	defer func() {
		for _, f := range present {
			if !r.known[f] {
				r.known[f] = true
				*findings = append(*findings, f)
			}
		}
	}()
	// A new write by every department: promise H.
	for _, department := range members {
		if o := r.load.register(ctx, department, kindProbe); o.Outcome != committed {
			present = append(present, found(writesNoMore, "%s: %s", o, o.Attempts[len(o.Attempts)-1].Detail))
		}
	}
	height, err := w.observer.level(ctx, readyWithin)
	if err != nil {
		return err
	}
	differ, err := w.observer.observe(ctx, height)
	if err != nil {
		return err
	}
	present = append(present, differ...)
	operations, reads, verifications := r.history.snapshot()
	logs, err := w.observer.logs(ctx, r.load.clients, operations)
	if err != nil {
		return err
	}
	present = append(present, checkWrites(operations, w.observer.chain, logs)...)
	granted := map[string]state{}
	for _, g := range r.load.contended {
		granted[g.ID] = state{status: "active"}
	}
	present = append(present, checkLinearizable(operations, reads, granted)...)
	present = append(present, checkVerdicts(operations, verifications)...)
	if !all {
		return nil
	}
	for _, department := range members {
		differ, err := w.observer.checkIndex(ctx, department)
		if err != nil {
			return err
		}
		present = append(present, differ...)
	}
	return w.observer.ready(ctx, readyWithin)
}
