package network

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
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

// warnFreeBytes is the disk space below which somebody should look: what is left above
// minFreeBytes is the time there is to do something.
const warnFreeBytes = 3 * minFreeBytes

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
	state, err := checkDefinition(c.Layout, def, c.DefinitionPath)
	def.setSlot(state.Slot)
	verdict("definition", err, fmt.Sprintf("%s, %d departments, quorum %d", c.DefinitionPath, len(def.Departments), def.Quorum()))

	repo := c.sourceTree()
	stale, err := outdated(c.Layout, repo, c.Gateways)
	if err == nil {
		err = checkBuildTools(ctx, repo, stale)
	}
	verdict("programs", err, fmt.Sprintf("%d of %d to build", len(stale), len(programs)))
	add("versions", "ok", "%s", versions(c.Layout))
	if err := checkFreeSpace(c.Layout.State, warnFreeBytes); err != nil && checkFreeSpace(c.Layout.State, minFreeBytes) == nil {
		add("disk", "warn", "%v", err)
	} else {
		verdict("disk", checkFreeSpace(c.Layout.State, minFreeBytes), "enough space")
	}
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
		for _, p := range st.Processes {
			if p.Restarts > 0 {
				add("processes", "warn", "%s was restarted %d times, last %s ago; see %s", p.Name, p.Restarts, since(p.Seconds), c.Layout.Log(p.Name))
			}
		}
	default:
		for _, p := range st.Processes {
			if !p.Running {
				add("processes", "fail", "%s is down; see %s", p.Name, c.Layout.Log(p.Name))
			}
		}
	}
	for _, p := range running {
		if p.Stale && p.Name != supervisorName {
			add("versions", "warn", "%s runs a program that was rebuilt since; make up replaces it", p.Name)
		}
	}
	findHeights(st, add)
	findOrderers(st, add)
	if len(st.Gateways) > 0 {
		limit := time.Minute // the gateways' own
		if def.Evidence != nil {
			limit = time.Duration(def.Evidence.MaxLag)
		}
		highest := highest(st.Heights)
		all := c.vitals(ctx, def)
		findClocks(all, add)
		findGateways(all, limit, time.Duration(def.AnchorInterval), highest, add)
	}
	c.findApprovals(ctx, st, add)
	return findings, nil
}

// vitals asks every gateway how it is.
func (c *Consortium) vitals(ctx context.Context, def *Definition) []vitals {
	all := make([]vitals, len(def.Departments))
	client := &http.Client{Timeout: 4 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	var group errgroup.Group
	for i, dept := range def.Departments {
		group.Go(func() error {
			base := "http://" + net.JoinHostPort(dept.Listen, strconv.Itoa(dept.Ports.Gateway))
			all[i] = readVitals(ctx, client, base, time.Now)
			all[i].Department = dept.Code
			return nil
		})
	}
	_ = group.Wait() // the answers carry the failures
	return all
}

// findApprovals names departments that do not endorse, because they never approved the
// chaincode that the channel has.
func (c *Consortium) findApprovals(ctx context.Context, st *Status, add func(check, result, format string, args ...any)) {
	if st.Chaincode == nil {
		return
	}
	def, err := c.Definition()
	if err != nil {
		add("chaincode", "fail", "%v", err)
		return
	}
	_, packageID, err := loadPackage(c.Layout, def.Chaincode)
	if err != nil {
		add("chaincode", "fail", "%v", err)
		return
	}
	admins, err := connectAdministrators(c.Layout, def)
	if err != nil {
		add("chaincode", "fail", "%v", err)
		return
	}
	defer admins.close()
	fine := st.Chaincode.Version == def.Chaincode.Version
	if !fine {
		add("chaincode", "fail", "the channel has version %s and the definition says %s; run zhenglian-network upgrade", st.Chaincode.Version, def.Chaincode.Version)
	}
	for _, h := range st.Heights {
		if h.Error != "" {
			continue // reported with the heights
		}
		approved, err := admins.approved(ctx, h.Department, st.Chaincode.Sequence)
		switch {
		case err != nil:
			fine = false
			add("chaincode", "warn", "%s has not approved sequence %d, so its peer endorses nothing; run zhenglian-network upgrade", h.Department, st.Chaincode.Sequence)
		case approved.PackageID != packageID:
			fine = false
			add("chaincode", "warn", "%s runs the package %s and the others %s", h.Department, shortID(approved.PackageID), shortID(packageID))
		}
	}
	if fine {
		add("chaincode", "ok", "%s %s, sequence %d, the same package everywhere", st.Chaincode.Name, st.Chaincode.Version, st.Chaincode.Sequence)
	}
}

func findCertificates(st *Status, add func(check, result, format string, args ...any)) {
	if len(st.Certificates) == 0 {
		return
	}
	for _, cert := range st.Certificates {
		code, _, _ := strings.Cut(strings.TrimPrefix(filepath.ToSlash(cert.File), "departments/"), "/")
		result, ends := "warn", fmt.Sprintf("ends in %d days", cert.DaysLeft)
		switch {
		case cert.DaysLeft < 0:
			result, ends = "fail", "has ended"
		case cert.DaysLeft < certificateFailDays:
			result = "fail"
		case cert.DaysLeft >= certificateWarnDays:
			continue
		}
		add("certificates", result, "%s %s; run zhenglian-network rotate --department %s", cert.File, ends, code)
	}
	if first := st.Certificates[0]; first.DaysLeft >= certificateWarnDays {
		add("certificates", "ok", "%d, the first ends in %d days (%s)", len(st.Certificates), first.DaysLeft, first.File)
	}
}

func findHeights(st *Status, add func(check, result, format string, args ...any)) {
	highest := highest(st.Heights)
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

// findOrderers names the orderers that have fewer blocks than a peer: peers get their
// blocks from the others then, and nobody notices until one more of them fails.
func findOrderers(st *Status, add func(check, result, format string, args ...any)) {
	if st.OrderersKeep {
		add("orderers", "ok", "%d, none is behind", len(st.Orderers))
		return
	}
	highest := highest(st.Heights)
	for _, o := range st.Orderers {
		if p := st.process("orderer-" + o.Department); p != nil && !p.Running {
			continue // reported among the processes
		}
		switch {
		case o.Error != "":
			add("orderers", "fail", "orderer-%s does not answer: %s", o.Department, o.Error)
		case o.Height < highest:
			add("orderers", "fail", "orderer-%s has %d of %d blocks; if it does not catch up within a minute, restart it", o.Department, o.Height, highest)
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

// PrintFindings writes the findings for people.
func PrintFindings(out io.Writer, findings []Finding) {
	for _, f := range findings {
		fmt.Fprintf(out, "%-5s %-13s %s\n", f.Result, f.Check, f.Detail)
	}
}

// Worst is the result of the finding that matters most: fail, warn or ok.
func Worst(findings []Finding) string {
	worst := "ok"
	for _, f := range findings {
		if f.Result == "fail" {
			return "fail"
		}
		if f.Result == "warn" {
			worst = "warn"
		}
	}
	return worst
}
