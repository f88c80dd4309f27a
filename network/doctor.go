package network

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Finding is the outcome of one check.
type Finding struct {
	Check  string `json:"check"`
	Result string `json:"result"` // ok, warn or fail
	Detail string `json:"detail"`
}

// Certificates that end sooner than this many days are worth a warning: Fabric itself
// warns only a week ahead.
const (
	certificateWarnDays = 30
	certificateFailDays = 7
)

// Doctor runs every check that up would, and those that only time can fail. It changes
// nothing.
func (c *Consortium) Doctor(ctx context.Context) ([]Finding, error) {
	var findings []Finding
	add := func(check, result, format string, args ...any) {
		findings = append(findings, Finding{check, result, fmt.Sprintf(format, args...)})
	}
	verdict := func(check string, err error, fine string) {
		if err != nil {
			add(check, "fail", "%v", err)
			return
		}
		add(check, "ok", "%s", fine)
	}
	def, err := LoadDefinition(c.DefinitionPath)
	if err != nil {
		add("definition", "fail", "%v", err)
		return findings, nil
	}
	_, err = checkDefinition(c.Layout, def, c.DefinitionPath)
	verdict("definition", err, fmt.Sprintf("%s, %d departments, quorum %d", c.DefinitionPath, len(def.Departments), def.Quorum()))

	repo := c.sourceTree()
	stale, err := outdated(c.Layout, repo, c.Gateways)
	if err == nil {
		err = checkBuildTools(ctx, repo, stale)
	}
	verdict("programs", err, fmt.Sprintf("%d of %d to build", len(stale), len(programs)))
	add("versions", "ok", "%s", versions(c.Layout))
	verdict("disk", checkFreeSpace(c.Layout.State, minFreeBytes), "enough space")
	verdict("address", checkAddress(), "a non-loopback IPv4 address")
	running, err := c.Layout.processes()
	if err == nil {
		err = checkPorts(def, running, c.Gateways)
	}
	verdict("ports", err, "free or held by this consortium")
	checkClock(add)

	st, err := c.Status(ctx)
	if err != nil {
		add("status", "fail", "%v", err)
		return findings, nil
	}
	findCertificates(st, add)
	switch st.State {
	case "down":
		add("processes", "warn", "down; make up starts them")
		return findings, nil
	case "running":
		add("processes", "ok", "%d running", len(st.Processes))
	default:
		for _, p := range st.Processes {
			if !p.Running {
				add("processes", "fail", "%s is down; see %s", p.Name, c.Layout.Log(p.Name))
			}
		}
	}
	findHeights(st, add)
	return findings, nil
}

func findCertificates(st *Status, add func(check, result, format string, args ...any)) {
	if len(st.Certificates) == 0 {
		return
	}
	first := st.Certificates[0]
	result := "ok"
	switch {
	case first.DaysLeft < certificateFailDays:
		result = "fail"
	case first.DaysLeft < certificateWarnDays:
		result = "warn"
	}
	add("certificates", result, "%d, the first ends in %d days (%s)", len(st.Certificates), first.DaysLeft, first.File)
}

func findHeights(st *Status, add func(check, result, format string, args ...any)) {
	var highest uint64
	for _, h := range st.Heights {
		highest = max(highest, h.Height)
	}
	if st.HeightsEqual {
		add("heights", "ok", "%d on all %d peers", highest, len(st.Heights))
		return
	}
	for _, h := range st.Heights {
		if p := st.process("peer-" + h.Department); p != nil && !p.Running {
			continue // reported among the processes
		}
		switch {
		case h.Error != "":
			add("heights", "fail", "peer-%s does not answer: %s", h.Department, h.Error)
		case h.Height < highest:
			add("heights", "warn", "peer-%s is %d blocks behind", h.Department, highest-h.Height)
		case h.Hash != st.Heights[0].Hash:
			add("heights", "fail", "peer-%s has another block at height %d", h.Department, h.Height)
		}
	}
}

// checkClock asks the kernel whether the clock is kept in time. Peers refuse proposals
// that are two minutes off.
func checkClock(add func(check, result, format string, args ...any)) {
	const timeError = 5 // TIME_ERROR of adjtimex(2): not synchronised
	var tx unix.Timex
	state, err := unix.Adjtimex(&tx)
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOSYS):
		add("clock", "warn", "the kernel does not say whether the clock is synchronised")
	case err != nil:
		add("clock", "warn", "%v", err)
	case state == timeError:
		add("clock", "warn", "%s, not synchronised; run an NTP client", time.Now().UTC().Format(time.RFC3339))
	default:
		add("clock", "ok", "%s, synchronised", time.Now().UTC().Format(time.RFC3339))
	}
}

// versions tells from the programs themselves what they were built from.
func versions(l Layout) string {
	text := runtime.Version()
	for _, p := range []struct{ program, module, title string }{
		{"peer", "github.com/hyperledger/fabric", "Fabric"},
		{"fabric-ca-server", "github.com/hyperledger/fabric-ca", "Fabric CA"},
		{"process-compose", "github.com/f1bonacc1/process-compose", "process-compose"},
	} {
		info, err := buildinfo.ReadFile(l.Program(p.program))
		if err != nil {
			text += ", " + p.title + " not built"
			continue
		}
		version := info.Main.Version
		for _, dep := range info.Deps {
			if dep.Path == p.module {
				version = dep.Version
			}
		}
		text += ", " + p.title + " " + version
	}
	return text
}

// PrintFindings writes the findings for people and reports whether none failed.
func PrintFindings(out io.Writer, findings []Finding) bool {
	healthy := true
	for _, f := range findings {
		fmt.Fprintf(out, "%-5s %-13s %s\n", f.Result, f.Check, f.Detail)
		healthy = healthy && f.Result != "fail"
	}
	return healthy
}
