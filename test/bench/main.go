// Command bench measures Zhenglian on a real consortium of its own.
//
// Absolute figures of a small shared machine vary by a factor of two to three,
// so what counts are ratios: the two arms of a figure run in ABBA order on one
// network in one run, and the median of the ratios pair by pair is reported with
// the worst one. The machine is probed before and after each arm. What an arm
// did is counted on the ledger, not by the client.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/zhenglian/zhenglian/test/consortium"
)

// settings of one run, printed with its figures.
type settings struct {
	Window      time.Duration `json:"windowNs"`
	WarmUp      time.Duration `json:"warmUpNs"`
	Cycles      int           `json:"abbaCycles"`
	Clients     int           `json:"clients"`
	BatchSize   int           `json:"recordsPerRequest"`
	Departments int           `json:"departments"`
	Entries     int           `json:"searchedEntries"`
	Leaves      uint64        `json:"provenLeaves"` // of the log whose proofs are measured
	Traced      int           `json:"tracedEntries"`
	Versions    int           `json:"versions"` // of the key whose history is read
	// Certificates is how many certificates the open loop of verifications knows.
	Certificates int      `json:"verifiedCertificates"`
	Figures      []string `json:"figures,omitempty"` // only those whose names begin so; all when empty
}

// wants reports whether the figures that begin with name are to be taken.
func (s settings) wants(name string) bool {
	return len(s.Figures) == 0 || slices.ContainsFunc(s.Figures, func(f string) bool { return strings.HasPrefix(name, f) })
}

// probe is what the machine could do at one moment.
type probe struct {
	FsyncPerSecond  float64 `json:"fsyncPerSecond"`
	VerifyPerSecond float64 `json:"p256VerifyPerSecond"`
	Load1           float64 `json:"load1"`
}

// sample is one run of one arm.
type sample struct {
	Arm     string        `json:"arm"`
	Count   int           `json:"count"` // counted on the ledger or in checked answers
	Failed  int           `json:"failed"`
	Seconds float64       `json:"seconds"`
	P50     time.Duration `json:"p50Ns"`
	P95     time.Duration `json:"p95Ns,omitempty"`
	P99     time.Duration `json:"p99Ns"`
	// LedgerBytes is by how much the block files of one peer grew for each record.
	LedgerBytes float64 `json:"ledgerBytesPerRecord,omitempty"`
	// Anchored is the 99th percentile of the time from a record to its anchor.
	Anchored time.Duration `json:"anchoredP99Ns,omitempty"`
	// Usage is what each kind of process used meanwhile, warm-up included.
	Usage  map[string]usage `json:"usage"`
	Before probe            `json:"before"`
	After  probe            `json:"after"`
}

func (s sample) rate() float64 { return float64(s.Count) / s.Seconds }

// figure is one line of the report.
type figure struct {
	Name    string   `json:"name"`
	Ratio   float64  `json:"ratio,omitempty"` // median of the pairs' ratios
	Worst   float64  `json:"worst,omitempty"` // least favourable pair
	Value   float64  `json:"value,omitempty"`
	Unit    string   `json:"unit"`
	Goal    string   `json:"goal"`
	Noisy   bool     `json:"noisy"` // a pair's probes differed by more than 20 %
	Samples []sample `json:"samples,omitempty"`
}

type report struct {
	At       time.Time `json:"at"`
	Commit   string    `json:"commit"`
	Settings settings  `json:"settings"`
	Figures  []figure  `json:"figures"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	full := flags.Bool("full", false, "full windows: 60 s each, three ABBA cycles")
	state := flags.String("state", ".zhenglian-bench", "state folder of the benchmark's own consortium, deleted first")
	out := flags.String("report", filepath.Join(".zhenglian", "bench", "report.json"), "where the report goes")
	clients := flags.Int("clients", 50, "concurrent clients")
	versions := flags.Int("versions", 0, "versions of the key whose history is read; 0: as many as the form has")
	offset := flags.Int("offset", 20000, "how far the consortium's ports lie above the default ones")
	var child childOptions
	flags.StringVar(&child.kind, "child", "", "used by the benchmark itself: be one of its servers, or the people who ask")
	flags.StringVar(&child.dir, "dir", "", "of -child: the folder of its files")
	flags.IntVar(&child.certificates, "certificates", 0, "certificates that are looked up; 0: as many as the form has")
	flags.StringVar(&child.url, "url", "", "of -child: the gateway that it asks")
	flags.StringVar(&child.path, "path", "", "of -child: what it asks for")
	flags.IntVar(&child.rate, "rate", 0, "of -child: how often it asks, a second")
	only := flags.String("figures", "", "take only the figures whose names begin with one of these, comma-separated")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if child.kind != "" {
		return be(ctx, child, os.Stdin, stdout)
	}
	set := settings{
		Window: 4 * time.Second, WarmUp: time.Second, Cycles: 1, Clients: *clients, BatchSize: 500, Departments: 4,
		Entries: 100_000, Leaves: 1_000_000, Traced: 100_000, Versions: 500, Certificates: 50_000,
	}
	if *full {
		set.Window, set.WarmUp, set.Cycles = 60*time.Second, 15*time.Second, 3
		set.Leaves, set.Traced, set.Versions, set.Certificates = 10_000_000, 1_000_000, 10_000, 1_000_000
	}
	if child.certificates > 0 {
		set.Certificates = child.certificates
	}
	if *versions > 0 {
		set.Versions = *versions
	}
	if *only != "" {
		set.Figures = strings.Split(*only, ",")
	}
	root, err := filepath.Abs(".")
	if err != nil {
		return err
	}
	rep := report{At: time.Now().UTC().Truncate(time.Second), Commit: commit(ctx), Settings: set}

	fmt.Fprintln(stderr, "bench: starting a consortium of its own")
	bin, err := programs(ctx, root, filepath.Join(root, *state)+".bin")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(bin)) }()
	net, err := consortium.Start(ctx, consortium.Options{
		Root: root, Bin: bin, State: filepath.Join(root, *state), PortOffset: *offset, Output: stderr,
		// What is measured is the gateway, not its limits on one address.
		Settings: map[string]any{"limits": map[string]any{"addressPerSecond": 1e6, "addressBurst": 1_000_000, "identityPerSecond": 1e6, "identityBurst": 1_000_000, "publicPerSecond": 1e6, "publicBurst": 1_000_000}},
	})
	if err != nil {
		return err
	}
	defer func() {
		if stopErr := net.Reset(context.WithoutCancel(ctx)); err == nil {
			err = stopErr
		}
	}()
	rep.Figures = append(rep.Figures, figure{Name: "network.up_cold_s", Value: net.Started.Seconds(), Unit: "s", Goal: "≤ 60 after the builds"})
	started := time.Now()
	if err := net.Up(ctx); err != nil {
		return err
	}
	rep.Figures = append(rep.Figures, figure{Name: "network.up_warm_s", Value: time.Since(started).Seconds(), Unit: "s", Goal: "≤ 15"})

	b, err := newBench(ctx, net, set, stderr)
	if err != nil {
		return err
	}
	defer b.Close()
	measured, err := b.figures(ctx)
	if err != nil {
		return err
	}
	rep.Figures = append(rep.Figures, measured...)
	if err := write(*out, rep); err != nil {
		return err
	}
	table(stdout, rep)
	fmt.Fprintln(stdout, "\nreport:", *out)
	return nil
}

// programs makes a folder of the repository's programs, in which the chaincode has
// the benchmark's own transactions besides.
func programs(ctx context.Context, root, bin string) (string, error) {
	if err := errors.Join(os.RemoveAll(bin), os.MkdirAll(bin, 0o700)); err != nil {
		return "", err
	}
	built, err := filepath.Glob(filepath.Join(root, "bin", "*"))
	if err != nil || len(built) == 0 {
		return "", fmt.Errorf("no programs in %s: run make build", filepath.Join(root, "bin"))
	}
	for _, program := range built {
		if name := filepath.Base(program); name != "zhenglian-chaincode" {
			if err := os.Symlink(program, filepath.Join(bin, name)); err != nil {
				return "", err
			}
		}
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(bin, "zhenglian-chaincode"), "./test/bench/chaincode")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the benchmark's chaincode: %w: %s", err, out)
	}
	return bin, nil
}

// abba runs two arms in ABBA order and answers the samples in pairs.
func (b *bench) abba(ctx context.Context, first, second arm) (pairs [][2]sample, err error) {
	rounds, err := b.rounds(ctx, first, second)
	return pairsOf(rounds, 0, 1), err
}

// rounds runs arms in order and back, once for each cycle: ABBA for two of them,
// ABCCBA for three. Each round has a sample of every arm.
func (b *bench) rounds(ctx context.Context, arms ...arm) ([][]sample, error) {
	var rounds [][]sample
	for round := range 2 * b.set.Cycles {
		samples := make([]sample, len(arms))
		for i := range arms {
			if round%2 == 1 {
				i = len(arms) - 1 - i
			}
			var err error
			if samples[i], err = b.measure(ctx, arms[i]); err != nil {
				return nil, fmt.Errorf("%s: %w", arms[i].name, err)
			}
		}
		rounds = append(rounds, samples)
	}
	return rounds, nil
}

// pairsOf are the samples of two arms, round by round.
func pairsOf(rounds [][]sample, first, second int) (pairs [][2]sample) {
	for _, r := range rounds {
		pairs = append(pairs, [2]sample{r[first], r[second]})
	}
	return pairs
}

// measure runs one arm between two probes of the machine.
func (b *bench) measure(ctx context.Context, a arm) (sample, error) {
	before := probeMachine(b.net.State)
	used, err := b.measureUsage()
	if err != nil {
		return sample{}, err
	}
	s, err := a.run(ctx)
	if err != nil {
		return sample{}, err
	}
	usedAfter, err := b.measureUsage()
	if err != nil {
		return sample{}, err
	}
	s.Usage = since(used, usedAfter)
	s.Arm, s.Before, s.After = a.name, before, probeMachine(b.net.State)
	fmt.Fprintf(b.progress, "bench: %-16s %9.1f/s  p50 %8s  p99 %8s  failed %d  (fsync %.0f/s, verify %.0f/s, load %.1f)\n",
		a.name, s.rate(), s.P50.Round(10*time.Microsecond), s.P99.Round(10*time.Microsecond), s.Failed, before.FsyncPerSecond, before.VerifyPerSecond, before.Load1)
	fmt.Fprintf(b.progress, "bench: %-16s processor time each: %s\n", "", s.perUnit())
	return s, nil
}

// ratio makes a figure of second over first.
func ratio(name, goal string, pairs [][2]sample) figure {
	return ratioOf(name, goal, pairs, sample.rate)
}

// ratioOf makes a figure of what second has of something over first.
func ratioOf(name, goal string, pairs [][2]sample, of func(sample) float64) figure {
	f := figure{Name: name, Unit: "ratio", Goal: goal}
	var ratios []float64
	for _, p := range pairs {
		ratios = append(ratios, of(p[1])/of(p[0]))
		f.Samples = append(f.Samples, p[0], p[1])
		f.Noisy = f.Noisy || differ(p[0].Before, p[1].Before)
	}
	slices.Sort(ratios)
	f.Worst, f.Ratio = ratios[0], median(ratios)
	return f
}

// value makes a figure of one arm's own rate.
func value(name, unit, goal string, samples []sample) figure {
	var rates []float64
	for _, s := range samples {
		rates = append(rates, s.rate())
	}
	slices.Sort(rates)
	return figure{Name: name, Value: median(rates), Unit: unit, Goal: goal, Samples: samples}
}

// median of sorted values.
func median(v []float64) float64 {
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// differ reports whether the machine changed by more than a fifth.
func differ(a, b probe) bool {
	far := func(x, y float64) bool { return max(x, y) > 1.2*min(x, y) }
	return far(a.FsyncPerSecond, b.FsyncPerSecond) || far(a.VerifyPerSecond, b.VerifyPerSecond)
}

func write(path string, rep report) error {
	data, err := json.MarshalIndent(rep, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o600)
}

func table(w io.Writer, rep report) {
	fmt.Fprintf(w, "\n%d departments (peer, SmartBFT orderer, chaincode and gateway each), majority endorsement, on one machine\n", rep.Settings.Departments)
	fmt.Fprintf(w, "window %s, warm-up %s, %d ABBA cycle(s), %d clients, %d records per request\n\n",
		rep.Settings.Window, rep.Settings.WarmUp, rep.Settings.Cycles, rep.Settings.Clients, rep.Settings.BatchSize)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "figure\tmeasured\tworst pair\tgoal\tarms (median per second; p50, p99)")
	for _, f := range rep.Figures {
		measured, worst := fmt.Sprintf("%.1f %s", f.Value, f.Unit), ""
		if f.Unit == "ratio" {
			measured, worst = fmt.Sprintf("%.2f", f.Ratio), fmt.Sprintf("%.2f", f.Worst)
		}
		if f.Noisy {
			measured += " (noisy machine)"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", f.Name, measured, worst, f.Goal, arms(f.Samples))
	}
	if err := t.Flush(); err != nil {
		fmt.Fprintln(w, err)
	}
	costs(w, rep)
}

// costs tells what a unit of each arm cost each kind of process, and how much memory
// the largest process of a kind was seen with.
func costs(w io.Writer, rep report) {
	memory := map[string]int64{}
	var lines []string
	for _, f := range rep.Figures {
		for _, s := range f.Samples {
			for kind, u := range s.Usage {
				memory[kind] = max(memory[kind], u.RSS)
			}
			if line := s.Arm + "\t" + s.perUnit(); s.Count > 0 && len(s.Usage) > 0 && !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, s.Arm+"\t") }) {
				lines = append(lines, line)
			}
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\narm\tprocessor time of each kind of process for one unit, warm-up included")
	for _, line := range lines {
		fmt.Fprintln(t, line)
	}
	fmt.Fprintln(t, "\nprocess\tresident memory of the largest")
	for _, kind := range slices.Sorted(maps.Keys(memory)) {
		fmt.Fprintf(t, "%s\t%d MiB\n", kind, memory[kind]>>20)
	}
	if err := t.Flush(); err != nil {
		fmt.Fprintln(w, err)
	}
}

func arms(samples []sample) string {
	byArm := map[string][]sample{}
	var names []string
	for _, s := range samples {
		if byArm[s.Arm] == nil {
			names = append(names, s.Arm)
		}
		byArm[s.Arm] = append(byArm[s.Arm], s)
	}
	text := ""
	for _, name := range names {
		var rates []float64
		for _, s := range byArm[name] {
			rates = append(rates, s.rate())
		}
		slices.Sort(rates)
		last := byArm[name][len(byArm[name])-1]
		text += fmt.Sprintf("%s %.0f (%s, %s)  ", name, median(rates), last.P50.Round(100*time.Microsecond), last.P99.Round(100*time.Microsecond))
	}
	return text
}
