package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/evidence"
)

// auditExportCmd is "zhenglian audit export".
type auditExportCmd struct {
	logFlags
	traceFlags
	Out   string   `required:"" placeholder:"FOLDER" help:"Folder to write; it must not exist."`
	Range []string `sep:"none" placeholder:"DEPARTMENT=FROM:TO" help:"Only the entries of a log with FROM ≤ index < TO; the whole log up to its newest anchor if not given."`
}

// Help is shown by --help below the flags.
func (*auditExportCmd) Help() string {
	return `The folder holds every entry of the ranges, what shows that they are complete up to an anchor that the departments sign, and
trace.csv with the records that the filters select. Verify it with: zhenglian verify FOLDER --trust consortium.json

Example: zhenglian audit export --state .zhenglian --grant 0123456789abcdef0123456789abcdef --out evidence`
}

// Run writes an evidence folder.
func (c *auditExportCmd) Run(e *env) error {
	sources, err := c.sources()
	if err != nil {
		return err
	}
	ranges, err := c.ranges(sources)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	opts := evidence.Options{Anchors: sources.trust, Filter: c.filter()}
	for _, department := range sources.departments {
		size, err := sources.anchors.newest(e.ctx, department)
		if err != nil {
			return err
		}
		if size == 0 {
			fmt.Fprintf(e.stderr, "%s: nothing is anchored yet; left out\n", department)
			continue
		}
		bundle, _, err := sources.anchors.signed(e.ctx, department, size)
		if err != nil {
			return fmt.Errorf("log of %s: %w", department, err)
		}
		r := ranges[department]
		opts.Sources = append(opts.Sources, evidence.Source{Department: department, Anchor: bundle, From: r.from, To: r.to, Log: sources.logs[department]})
	}
	if len(opts.Sources) == 0 {
		return errors.New("no log has an anchor yet: there is nothing to export")
	}
	told := time.Now()
	opts.Progress = func(department domain.DepartmentCode, written, total uint64) {
		if now := time.Now(); written == total || now.Sub(told) >= pullEvery {
			told = now
			fmt.Fprintf(e.stderr, "%s: %d of %d entries (%d %%)\n", department, written, total, 100*written/total)
		}
	}
	report, err := evidence.Write(e.ctx, c.Out, opts)
	var fault *evidence.Fault
	if errors.As(err, &fault) {
		return &exitError{exitProofRefused, err}
	}
	if err != nil {
		return err
	}
	return writeFolderReport(e.stdout, c.Out, report, sources.trust)
}

// indexRange is a range of entries; to 0 means the end.
type indexRange struct{ from, to uint64 }

func (c *auditExportCmd) ranges(sources *auditSources) (map[domain.DepartmentCode]indexRange, error) {
	out := make(map[domain.DepartmentCode]indexRange)
	for _, text := range c.Range {
		department, bounds, _ := strings.Cut(text, "=")
		low, high, ok := strings.Cut(bounds, ":")
		from, err := strconv.ParseUint(low, 10, 63)
		to, err2 := strconv.ParseUint(high, 10, 63)
		if !ok || err != nil || err2 != nil || from >= to {
			return nil, fmt.Errorf("--range %s: must be DEPARTMENT=FROM:TO with FROM below TO", text)
		}
		if sources.logs[domain.DepartmentCode(department)] == nil {
			return nil, fmt.Errorf("--range %s: no --log of that department", text)
		}
		out[domain.DepartmentCode(department)] = indexRange{from, to}
	}
	return out, nil
}
