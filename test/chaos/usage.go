package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/test/consortium"
)

// usage watches what processes hold while faults come and go: what only grows
// is lost.
type usage struct {
	net *consortium.Consortium

	// What the gateway that holds most of each holds when nobody asks anything.
	atRest held

	mu      sync.Mutex
	samples map[string][]held // by process
}

// sampled is how often.
const sampled = 10 * time.Second

// held is what a process holds at one moment.
type held struct {
	at          time.Time
	pid         int
	resident    int // bytes
	descriptors int
	threads     int
	goroutines  int // of a gateway; 0 of others
}

func newUsage(net *consortium.Consortium) *usage {
	return &usage{net: net, samples: map[string][]held{}}
}

// run samples until ctx ends.
func (u *usage) run(ctx context.Context) {
	tick := time.NewTicker(sampled)
	defer tick.Stop()
	for {
		u.sample(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// sample looks at every process of every department that runs: a fault may have
// ended some of them.
func (u *usage) sample(ctx context.Context) {
	for _, department := range u.net.Departments() {
		for _, kind := range []string{consortium.Orderer, consortium.Peer, consortium.Chaincode, consortium.GatewayOf} {
			pids, err := u.net.Processes(department, kind)
			if err != nil || len(pids) == 0 {
				continue
			}
			h, err := look(pids[0])
			if err != nil {
				continue
			}
			if kind == consortium.GatewayOf {
				if h.goroutines = u.goroutines(ctx, department); h.goroutines == 0 {
					continue // it does not answer
				}
			}
			u.mu.Lock()
			u.samples[kind+"-"+department] = append(u.samples[kind+"-"+department], h)
			u.mu.Unlock()
		}
	}
}

func look(pid int) (held, error) {
	h := held{at: time.Now(), pid: pid}
	home := filepath.Join("/proc", strconv.Itoa(pid))
	status, err := os.ReadFile(filepath.Join(home, "status"))
	if err != nil {
		return h, err
	}
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		n, _ := strconv.Atoi(fields[1]) // the two lines read hold numbers
		switch fields[0] {
		case "VmRSS:":
			h.resident = n << 10
		case "Threads:":
			h.threads = n
		}
	}
	descriptors, err := os.ReadDir(filepath.Join(home, "fd"))
	h.descriptors = len(descriptors)
	return h, err
}

// goroutines asks a gateway's metrics.
func (u *usage) goroutines(ctx context.Context, department string) int {
	ctx, cancel := context.WithTimeout(ctx, sampled/4)
	defer cancel()
	res, err := u.net.Gateway(department).Do(ctx, "", "GET", "/metrics", nil)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(res.Body)) {
		if value, ok := strings.CutPrefix(line, "go_goroutines "); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(value)) // as Prometheus writes it
			return n
		}
	}
	return 0
}

// idle looks at the gateways when nobody is connected to them.
func (u *usage) idle(ctx context.Context) (map[string]held, error) {
	u.net.CloseIdleConnections()
	all := map[string]held{}
	for _, department := range u.net.Departments() {
		pids, err := u.net.Processes(department, consortium.GatewayOf)
		if err != nil || len(pids) == 0 {
			return nil, fmt.Errorf("no gateway of %s: %w", department, err)
		}
		h, err := look(pids[0])
		if err != nil {
			return nil, err
		}
		if h.goroutines = u.goroutines(ctx, department); h.goroutines == 0 {
			return nil, fmt.Errorf("the gateway of %s does not tell its goroutines", department)
		}
		all[department] = h
	}
	return all, nil
}

// rest remembers what gateways hold before the load.
func (u *usage) rest(ctx context.Context) error {
	all, err := u.idle(ctx)
	for _, h := range all {
		u.atRest.descriptors, u.atRest.goroutines = max(u.atRest.descriptors, h.descriptors), max(u.atRest.goroutines, h.goroutines)
	}
	return err
}

// What gateways may hold after a load beyond what they held before it: files of a larger
// database, and connections to one another that end later.
const (
	moreDescriptors = 24
	moreGoroutines  = 48
	unloadedWithin  = 3 * time.Minute // a gateway ends an idle connection after two
)

// unload waits until gateways hold no more than before the load, and answers what does not
// go. While there is a load, what they hold goes up and down with the clients that are
// connected, for minutes after a fault.
func (u *usage) unload(ctx context.Context) (findings []finding, err error) {
	ctx, cancel := context.WithTimeout(ctx, unloadedWithin)
	defer cancel()
	tick := time.NewTicker(sampled / 5)
	defer tick.Stop()
	for {
		all, err := u.idle(ctx)
		if ctx.Err() != nil && len(findings) > 0 {
			return findings, nil
		}
		if err != nil {
			return nil, err
		}
		findings = u.kept(all)
		if len(findings) == 0 {
			return nil, nil
		}
		select {
		case <-ctx.Done():
			return findings, nil
		case <-tick.C:
		}
	}
}

// kept answers what gateways at rest hold too much.
func (u *usage) kept(all map[string]held) (findings []finding) {
	for _, department := range slices.Sorted(maps.Keys(all)) {
		h := all[department]
		if h.descriptors > u.atRest.descriptors+moreDescriptors {
			findings = append(findings, found(grows, "gateway-%s: descriptors: %d before the load, %d after it", department, u.atRest.descriptors, h.descriptors))
		}
		if h.goroutines > u.atRest.goroutines+moreGoroutines {
			findings = append(findings, found(grows, "gateway-%s: goroutines: %d before the load, %d after it", department, u.atRest.goroutines, h.goroutines))
		}
	}
	return findings
}

// shortest life that says anything.
const shortest = 4 * time.Minute

// growth is how much more a process that was not started anew held in the last
// quarter of its life than in the second one; the first warms up.
type growth struct {
	Process     string  `json:"process"`
	Samples     int     `json:"samples"`
	Resident    [2]int  `json:"residentBytes"`
	Descriptors [2]int  `json:"descriptors"`
	Threads     [2]int  `json:"threads"`
	Goroutines  [2]int  `json:"goroutines"`
	Hours       float64 `json:"hours"`
}

func (g growth) String() string {
	return fmt.Sprintf("%-18s %3d samples, %4.2f h: %3d → %3d MB, descriptors %d → %d, threads %d → %d, goroutines %d → %d", g.Process, g.Samples, g.Hours,
		g.Resident[0]>>20, g.Resident[1]>>20, g.Descriptors[0], g.Descriptors[1], g.Threads[0], g.Threads[1], g.Goroutines[0], g.Goroutines[1])
}

func (u *usage) growth() []growth {
	u.mu.Lock()
	defer u.mu.Unlock()
	var all []growth
	for process, samples := range u.samples {
		// Each start begins a new life; the longest says most.
		var longest, life []held
		for _, h := range samples {
			if len(life) > 0 && life[0].pid != h.pid {
				life = nil
			}
			if life = append(life, h); len(life) > len(longest) {
				longest = slices.Clone(life)
			}
		}
		if len(longest) < int(shortest/sampled) {
			continue
		}
		quarter := len(longest) / 4
		second, last := longest[quarter:2*quarter], longest[len(longest)-quarter:]
		pair := func(of func(held) int) [2]int { return [2]int{median(second, of), median(last, of)} }
		all = append(all, growth{
			Process: process, Samples: len(longest), Hours: longest[len(longest)-1].at.Sub(longest[0].at).Hours(),
			Resident: pair(func(h held) int { return h.resident }), Descriptors: pair(func(h held) int { return h.descriptors }),
			Threads: pair(func(h held) int { return h.threads }), Goroutines: pair(func(h held) int { return h.goroutines }),
		})
	}
	slices.SortFunc(all, func(a, b growth) int { return strings.Compare(a.Process, b.Process) })
	return all
}

// leaks finds what grew by more than its noise: what a process holds goes up and
// down with the load and its garbage.
func leaks(all []growth) (findings []finding) {
	for _, g := range all {
		for _, held := range []struct {
			of    string
			pair  [2]int
			noise int
		}{{"memory in bytes", g.Resident, 48 << 20}, {"descriptors", g.Descriptors, 24}, {"threads", g.Threads, 12}, {"goroutines", g.Goroutines, 48}} {
			// Of a gateway most of these are its clients': see [usage.unload].
			if strings.HasPrefix(g.Process, consortium.GatewayOf) && (held.of == "descriptors" || held.of == "goroutines") {
				continue
			}
			if before, after := held.pair[0], held.pair[1]; after > before+before/4+held.noise {
				findings = append(findings, found(grows, "%s: %s: %d, later %d", g.Process, held.of, before, after))
			}
		}
	}
	return findings
}

func median(samples []held, of func(held) int) int {
	values := make([]int, len(samples))
	for i, h := range samples {
		values[i] = of(h)
	}
	slices.Sort(values)
	return values[len(values)/2]
}
