package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/zhenglian/zhenglian/test/consortium"
)

// clockTick is the unit of processor times in /proc (USER_HZ, 100 per second on
// every Linux that Go runs on).
const clockTick = 10 * time.Millisecond

// usage is what the processes of one kind used: processor time since they
// started, and resident memory of the largest.
type usage struct {
	CPU time.Duration `json:"cpuNs"`
	RSS int64         `json:"rssBytes"`
}

// processKinds are the programs of a department; "client" is this program, which
// runs on the same cores.
var processKinds = []string{consortium.Orderer, consortium.Peer, consortium.Chaincode, consortium.GatewayOf}

// measureUsage sums up what each kind of process has used so far.
func (b *bench) measureUsage() (map[string]usage, error) {
	used := make(map[string]usage)
	add := func(kind string, pid int) error {
		u, err := usageOf(pid)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			return nil // a probe of the supervisor's, which has ended
		}
		if err != nil {
			return err
		}
		u.CPU += used[kind].CPU
		u.RSS = max(u.RSS, used[kind].RSS)
		used[kind] = u
		return nil
	}
	for _, department := range b.net.Departments() {
		for _, kind := range processKinds {
			pids, err := b.net.Processes(department, kind)
			if err != nil {
				return nil, err
			}
			for _, pid := range pids {
				if err := add(kind, pid); err != nil {
					return nil, err
				}
			}
		}
	}
	for name, pid := range b.alone {
		if err := add(name, pid); err != nil {
			return nil, err
		}
	}
	return used, add("client", os.Getpid())
}

// since answers what was used between two measurements.
func since(before, after map[string]usage) map[string]usage {
	d := maps.Clone(after)
	for kind, u := range d {
		u.CPU -= before[kind].CPU
		d[kind] = u
	}
	return d
}

// usageOf reads a process's processor times, of its threads together, and its
// resident memory (proc(5)).
func usageOf(pid int) (usage, error) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return usage{}, err
	}
	// The program's name, in parentheses, may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 22 {
		return usage{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	number := func(i int) int64 {
		n, parseErr := strconv.ParseInt(fields[i], 10, 64)
		if parseErr != nil && err == nil {
			err = fmt.Errorf("/proc/%d/stat: %w", pid, parseErr)
		}
		return n
	}
	u := usage{
		CPU: time.Duration(number(11)+number(12)) * clockTick,
		RSS: number(21) * int64(os.Getpagesize()),
	}
	return u, err
}

// perUnit tells what one counted unit of a sample cost each kind of process.
func (s sample) perUnit() string {
	if s.Count == 0 {
		return ""
	}
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(s.Usage)) {
		parts = append(parts, fmt.Sprintf("%s %s", kind, (s.Usage[kind].CPU/time.Duration(s.Count)).Round(time.Microsecond)))
	}
	return strings.Join(parts, ", ")
}
