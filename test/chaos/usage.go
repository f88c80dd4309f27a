package main

import (
	"context"
	"fmt"
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
