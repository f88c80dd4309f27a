package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"
)

// report is what a run found.
type report struct {
	At         time.Time     `json:"at"`
	Settings   settings      `json:"settings"`
	Took       time.Duration `json:"tookNs"`
	Operations int           `json:"operations"`
	Reads      int           `json:"linearizableReads"`
	Verified   int           `json:"verifications"`
	Shed       int64         `json:"notBegun"` // requests that the load did not begin: too many were under way
	Blocks     uint64        `json:"blocks"`
	Faults     []passedFault `json:"faults"`
	Findings   []finding     `json:"findings"`
	// LeftOut are the faults that the machine could not cause or had no time for, and why.
	LeftOut map[string]string `json:"leftOut,omitempty"`
	Growth  []growth          `json:"growth,omitempty"` // of a soak
}

func (r *runner) report() report {
	operations, reads, verifications := r.history.snapshot()
	rep := report{
		At: time.Now().UTC().Truncate(time.Second), Settings: r.set, Took: time.Since(r.began),
		Operations: len(operations), Reads: len(reads), Verified: len(verifications), Shed: r.load.shed.Load(),
		Blocks: r.world.observer.chain.upTo, Faults: r.passed, Findings: r.findings, LeftOut: r.leftOut,
	}
	if r.usage != nil {
		rep.Growth = r.usage.growth()
	}
	return rep
}

func (r report) write(path string) error {
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// count is how many of the findings break a promise.
func count(findings []finding, p promise) (n int) {
	for _, f := range findings {
		if f.Promise == p {
			n++
		}
	}
	return n
}

// table prints one line for each kind of fault, the worst of its runs.
func (r report) table(out io.Writer) {
	fmt.Fprintf(out, "\nseed %d, %d operations, %d linearizable reads, %d verifications, %d blocks, %s\n\n",
		r.Settings.Seed, r.Operations, r.Reads, r.Verified, r.Blocks, r.Took.Round(time.Second))
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "fault\ttimes\twrites\trefused\tstall s\terrors\tburst s\town burst s\tlost\tduplicated\tfalse failures\tother\tverified %\tp95 ms\twell after s")
	var names []string
	for _, p := range r.Faults {
		if !slices.Contains(names, p.Name) {
			names = append(names, p.Name)
		}
	}
	for _, name := range names {
		var worst measured
		worst.Available = 1
		var all []finding
		times := 0
		for _, p := range r.Faults {
			if p.Name != name {
				continue
			}
			times++
			all = append(all, p.Findings...)
			worst.Writes += p.Writes
			worst.Refused += p.Refused
			worst.Errors += p.Errors
			worst.Stall, worst.Burst, worst.BurstOwn = max(worst.Stall, p.Stall), max(worst.Burst, p.Burst), max(worst.BurstOwn, p.BurstOwn)
			worst.Available, worst.VerifyP95 = min(worst.Available, p.Available), max(worst.VerifyP95, p.VerifyP95)
			worst.Recovered = max(worst.Recovered, p.Recovered)
		}
		counted := count(all, lost) + count(all, duplicated) + count(all, falseFailure)
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%.1f\t%d\t%.1f\t%.1f\t%d\t%d\t%d\t%d\t%.2f\t%d\t%.1f\n", name, times, worst.Writes, worst.Refused, worst.Stall.Seconds(),
			worst.Errors, worst.Burst.Seconds(), worst.BurstOwn.Seconds(), count(all, lost), count(all, duplicated), count(all, falseFailure), len(all)-counted,
			100*worst.Available, worst.VerifyP95.Milliseconds(), worst.Recovered.Seconds())
	}
	_ = t.Flush() // to standard output; nobody could be told
	for _, name := range slices.Sorted(maps.Keys(r.LeftOut)) {
		fmt.Fprintf(out, "\nLEFT OUT: %s: %s\n", name, r.LeftOut[name])
	}
	for _, f := range r.Findings {
		fmt.Fprintf(out, "\n%s: %s\n", f.Promise, f.Detail)
	}
	for _, g := range r.Growth {
		fmt.Fprintf(out, "%s\n", g)
	}
}
