package service

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/trail"
)

// maxPairAlarms bounds the alarms about calls that one pull raises: when two
// departments disagree on everything, the first few say so.
const maxPairAlarms = 20

// pairChecks is how often the calls are gone through within the grace time.
const pairChecks = 10

// pairAlarms is what is known of the alarms about calls.
type pairAlarms struct {
	checked time.Time
	done    map[findingKey]bool // nil before the trail was read
}

// findingKey identifies a finding.
type findingKey struct {
	kind       trail.FindingKind
	department domain.DepartmentCode
	place      uint64
}

// raiseDiscrepancies raises an alarm for each release that only one side logged and
// each call on which the sides differ, once, and at most a few at one time.
func (a *Auditor) raiseDiscrepancies(ctx context.Context) error {
	now := a.opts.Clock()
	if !a.paired.checked.IsZero() && now.Sub(a.paired.checked) < a.opts.Grace/pairChecks {
		return nil
	}
	if a.paired.done == nil {
		if err := a.readPairAlarms(ctx); err != nil {
			return err
		}
	}
	seen, err := a.seen(ctx)
	if err != nil {
		return err
	}
	page := trail.Page{Limit: maxLimit}
	for left := maxPairAlarms; ; {
		found, err := a.opts.Trail.Discrepancies(ctx, trail.ReconcileFilter{Settled: now.Add(-a.opts.Grace)}, page)
		if err != nil {
			return err
		}
		for _, d := range found.Items {
			if left == 0 {
				return nil // the others are for the next pull
			}
			raised, err := a.raisePair(ctx, d, seen)
			if err != nil {
				return err
			}
			if raised {
				left--
			}
		}
		if found.Next == "" {
			a.paired.checked = now
			return nil
		}
		page.After = found.Next
	}
}

// readPairAlarms reads from the trail which alarms were raised: a finding is
// stored when its alarm was.
func (a *Auditor) readPairAlarms(ctx context.Context) error {
	done := make(map[findingKey]bool)
	for _, kind := range []domain.AlarmKind{domain.AlarmOneSided, domain.AlarmContradiction} {
		page := trail.Page{Limit: maxLimit}
		for {
			found, err := a.opts.Trail.ListFindings(ctx, trail.FindingFilter{Kind: trail.FindingKind(kind)}, page)
			if err != nil {
				return err
			}
			for _, f := range found.Items {
				done[findingKey{f.Kind, f.Department, f.Place}] = true
			}
			if found.Next == "" {
				break
			}
			page.After = found.Next
		}
	}
	a.paired.done = done
	return nil
}

// seen answers when each log was last seen in order.
func (a *Auditor) seen(ctx context.Context) (map[domain.DepartmentCode]time.Time, error) {
	logs, err := a.opts.Trail.Logs(ctx)
	if err != nil {
		return nil, err
	}
	seen := make(map[domain.DepartmentCode]time.Time)
	for _, l := range logs {
		seen[l.Department] = l.Progress.Seen
	}
	return seen, nil
}

// mayFollow reports whether a side that only refused a call may yet have logged it
// as released: it was not read for as long as the time of grace since.
func (a *Auditor) mayFollow(d trail.Discrepancy, seen map[domain.DepartmentCode]time.Time) bool {
	for _, e := range []*trail.Entry{d.ProviderEntry, d.ConsumerEntry} {
		if e != nil && trail.Refused(e.Record.Result) && seen[e.Department].Before(e.Record.At.Add(a.opts.Grace)) {
			return true
		}
	}
	return false
}

// raisePair raises the alarm about a call, unless it was raised or the log of the
// side that is missing was not read far enough to tell. It reports whether it did.
func (a *Auditor) raisePair(ctx context.Context, d trail.Discrepancy, seen map[domain.DepartmentCode]time.Time) (bool, error) {
	entry, about, kind := d.ProviderEntry, d.Provider, domain.AlarmContradiction
	switch {
	case d.State == trail.CallProviderOnly:
		about, kind = d.Consumer, domain.AlarmOneSided
	case d.State == trail.CallConsumerOnly:
		entry, kind = d.ConsumerEntry, domain.AlarmOneSided
	case entry == nil:
		entry, about = d.ConsumerEntry, d.Consumer
	}
	if entry == nil {
		return false, fmt.Errorf("the trail answers a discrepancy without a record: %s", d.State)
	}
	if kind == domain.AlarmOneSided && entry.Record.Result != domain.ResultOK {
		return false, nil // released nothing; the other side need not have heard of it
	}
	key := findingKey{trail.FindingKind(kind), entry.Department, entry.Index}
	if a.paired.done[key] || kind == domain.AlarmOneSided && seen[about].Before(entry.Record.At.Add(a.opts.Grace)) || a.mayFollow(d, seen) {
		return false, nil
	}
	text := fmt.Sprintf("%s logged the call as entry %d and %s did not", entry.Department, entry.Index, about)
	if kind == domain.AlarmContradiction {
		text = fmt.Sprintf("%s and %s logged the call with other values of: %s", d.Provider, d.Consumer, strings.Join(d.Fields, ", "))
	}
	args := domain.RaiseAlarmArgs{Kind: kind, About: about, Subject: d.CallID, Rule: string(kind), Figures: text, Records: []domain.RecordRef{}}
	for _, e := range []*trail.Entry{d.ProviderEntry, d.ConsumerEntry} {
		if e != nil {
			args.Records = append(args.Records, domain.RecordRef{Department: e.Department, Index: e.Index})
		}
	}
	if err := a.opts.Raise(ctx, args); err != nil && domain.KindOf(err) != domain.Invalid {
		return false, fmt.Errorf("raise alarm %s about %s: %w", kind, about, err)
	}
	now := a.opts.Clock()
	err := a.opts.Trail.AddFinding(ctx, trail.Finding{
		Department: entry.Department, Kind: key.kind, Place: entry.Index, Text: text, FirstSeen: now, LastSeen: now,
	})
	if err != nil {
		return false, err
	}
	a.paired.done[key] = true
	return true, nil
}
