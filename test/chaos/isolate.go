package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// isolator cuts departments off from one another on one machine. Each
// department's processes run in a control group of their own. Packets are marked
// with the sender's group as they leave and dropped by the receiver's group as
// they arrive, so that any pair can be cut in either direction, connections that
// are open included. See docs/adr/0031.
type isolator struct {
	table       string   // of the packet filter
	group       string   // the control groups' parent
	departments []string // a department's mark is its place here, from 1
}

const groups = "/sys/fs/cgroup"

// isolate prepares isolation: it must come before the consortium starts, because
// a socket belongs to the group of the process that made it.
func isolate(ctx context.Context, w *world) error {
	if w.isolator != nil {
		return nil
	}
	if os.Geteuid() != 0 {
		return lacking("partitions need root")
	}
	if _, err := exec.LookPath("nft"); err != nil {
		if os.Getenv("CI") != "" {
			return errors.New("partitions need nft: run make test-setup")
		}
		return lacking("partitions need nft (Debian: apt-get install nftables)")
	}
	hierarchy := groups
	if _, err := os.Stat(filepath.Join(hierarchy, "cgroup.controllers")); err != nil {
		hierarchy = filepath.Join(groups, "unified") // beside version 1
	}
	if _, err := os.Stat(filepath.Join(hierarchy, "cgroup.procs")); err != nil {
		return lacking("partitions need control groups of version 2: %v", err)
	}
	name := fmt.Sprintf("zhenglian-chaos-%d", os.Getpid())
	i := &isolator{table: strings.ReplaceAll(name, "-", "_"), group: filepath.Join(hierarchy, name), departments: members}
	var marks strings.Builder
	for n, department := range i.departments {
		if err := os.MkdirAll(filepath.Join(i.group, department), 0o755); err != nil {
			return errors.Join(lacking("partitions need to make control groups: %v", err), i.removeGroups())
		}
		fmt.Fprintf(&marks, "socket cgroupv2 level 2 %q meta mark set %d\n", name+"/"+department, n+1)
	}
	rules := fmt.Sprintf("table inet %s {\nchain out { type filter hook output priority 0;\n%s}\nchain in { type filter hook input priority 0; }\n}", i.table, marks.String())
	if err := i.nft(ctx, rules); err != nil {
		return errors.Join(lacking("partitions need a packet filter that knows control groups: %v", err), i.removeGroups())
	}
	if err := i.probe(ctx, hierarchy); err != nil {
		return errors.Join(lacking("partitions do not work here: %v", err), i.close(ctx))
	}
	w.isolator = i
	return nil
}

// probe cuts this process off from itself. Where the groups that are seen here are a
// part of a machine's, the packet filter takes every rule and none holds.
func (i *isolator) probe(ctx context.Context, hierarchy string) (err error) {
	membership, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	own := hierarchy
	for line := range strings.Lines(string(membership)) {
		if path, of2 := strings.CutPrefix(line, "0::"); of2 {
			own = filepath.Join(hierarchy, strings.TrimSpace(path))
		}
	}
	enter := func(group string) error {
		return os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte("0"), 0) // 0: whoever writes
	}
	defer func() { err = errors.Join(err, enter(own)) }()
	here, there := i.departments[0], i.departments[1]
	if err := enter(filepath.Join(i.group, here)); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, listener.Close()) }()
	if err := enter(filepath.Join(i.group, there)); err != nil {
		return err
	}
	connect := func() error {
		conn, err := (&net.Dialer{Timeout: seconds}).DialContext(ctx, "tcp", listener.Addr().String())
		if err == nil {
			err = conn.Close()
		}
		return err
	}
	if err := connect(); err != nil {
		return err
	}
	if err := i.cut(ctx, i.between(here), ""); err != nil {
		return err
	}
	if connect() == nil {
		return errors.New("what is cut off is reached")
	}
	if err := i.cut(ctx, nil, ""); err != nil {
		return err
	}
	return connect()
}

func (i *isolator) nft(ctx context.Context, rules string) error {
	// The command looks for groups below /sys/fs/cgroup alone; where version 1 has
	// that place, it is given a view of its own.
	cmd := exec.CommandContext(ctx, "unshare", "-m", "sh", "-c", "mount -t cgroup2 cgroup2 "+groups+" && exec nft -f -")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("packet filter: %w: %s", err, out)
	}
	return nil
}

// link is one direction between two departments.
type link struct{ from, to string }

// cut drops what is sent over the links, all of it or the share named.
func (i *isolator) cut(ctx context.Context, links []link, share string) error {
	rules := fmt.Sprintf("flush chain inet %s in\n", i.table)
	for _, l := range links {
		rules += fmt.Sprintf("add rule inet %s in meta mark %d socket cgroupv2 level 2 %q %s drop\n",
			i.table, slices.Index(i.departments, l.from)+1, filepath.Base(i.group)+"/"+l.to, share)
	}
	return i.nft(ctx, rules)
}

// close removes the rules and the groups. The consortium must be down.
func (i *isolator) close(ctx context.Context) error {
	return errors.Join(i.nft(ctx, "delete table inet "+i.table), i.removeGroups())
}

func (i *isolator) removeGroups() error {
	var errs []error
	for _, group := range append(slices.Clone(i.departments), "") {
		if err := os.Remove(filepath.Join(i.group, group)); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// between lists the links in both directions between the departments of a side
// and the others.
func (i *isolator) between(side ...string) (links []link) {
	for _, a := range side {
		for _, b := range i.departments {
			if !slices.Contains(side, b) {
				links = append(links, link{a, b}, link{b, a})
			}
		}
	}
	return links
}

func (i *isolator) apply(ctx context.Context, links []link, share string) (func(context.Context) error, error) {
	return func(ctx context.Context) error { return i.cut(ctx, nil, "") }, i.cut(ctx, links, share)
}

func partitionOne(ctx context.Context, w *world, target string) (func(context.Context) error, error) {
	return w.isolator.apply(ctx, w.isolator.between(target), "")
}

func partitionHalves(ctx context.Context, w *world, target string) (func(context.Context) error, error) {
	all := w.isolator.departments
	other := all[(slices.Index(all, target)+1)%len(all)]
	return w.isolator.apply(ctx, w.isolator.between(target, other), "")
}

// partitionOneWay has nobody hear the target, who hears everybody.
func partitionOneWay(ctx context.Context, w *world, target string) (func(context.Context) error, error) {
	links := slices.DeleteFunc(w.isolator.between(target), func(l link) bool { return l.from != target })
	return w.isolator.apply(ctx, links, "")
}

// partitionFlapping cuts the target off and lets it back in every five seconds.
func partitionFlapping(ctx context.Context, w *world, target string) (func(context.Context) error, error) {
	flapping, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() {
		links := w.isolator.between(target)
		for {
			if err := w.isolator.cut(flapping, links, ""); flapping.Err() != nil || err != nil {
				ended <- err
				return
			}
			if links == nil {
				links = w.isolator.between(target)
			} else {
				links = nil
			}
			select {
			case <-flapping.Done():
				ended <- nil
				return
			case <-time.After(5 * seconds):
			}
		}
	}()
	return func(ctx context.Context) error {
		stop()
		<-ended // a command that was cut short is no failure
		return w.isolator.cut(ctx, nil, "")
	}, nil
}

// packetLoss loses one packet of twenty between the target and the others.
func packetLoss(ctx context.Context, w *world, target string) (func(context.Context) error, error) {
	return w.isolator.apply(ctx, w.isolator.between(target), "numgen random mod 20 0")
}

// wrapped are the programs of a department's processes.
var wrapped = []string{"peer", "orderer", "zhenglian", "zhenglian-chaincode"}

// wrap makes a folder of the programs in bin in which those of the departments
// start by a script: it puts each process into its department's control group,
// or starts it with another clock. A program that runs elsewhere, such as a
// command of the administration, is not touched.
func wrap(w *world, bin, folder string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	built, err := filepath.Glob(filepath.Join(bin, "*"))
	if err != nil || len(built) == 0 {
		return fmt.Errorf("no programs in %s: run make build", bin)
	}
	for _, program := range built {
		name := filepath.Base(program)
		if err := os.Remove(filepath.Join(folder, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err // of an earlier run
		}
		if !slices.Contains(wrapped, name) {
			if err := os.Symlink(program, filepath.Join(folder, name)); err != nil {
				return err
			}
			continue
		}
		group := "/nonexistent"
		if w.isolator != nil {
			group = w.isolator.group
		}
		script := fmt.Sprintf(`#!/bin/sh
# The folder of a process tells its department and kind.
kind=${PWD##*/} department=${PWD%%/*} department=${department##*/}
case $PWD in */departments/*/*)
	[ -d '%[1]s' ] && echo $$ >"%[1]s/$department/cgroup.procs"
	if [ -f '%[2]s'/skew-"$kind-$department" ]; then
		ZHENGLIAN_CLOCK_SKEW=$(cat '%[2]s'/skew-"$kind-$department")
		export ZHENGLIAN_CLOCK_SKEW
		exec '%[2]s/skewed/%[3]s' "$@"
	fi
esac
exec '%[4]s' "$@"
`, group, folder, name, program)
		if err := os.WriteFile(filepath.Join(folder, name), []byte(script), 0o700); err != nil {
			return err
		}
	}
	return nil
}
