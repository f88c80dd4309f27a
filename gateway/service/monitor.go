package service

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

const (
	// monitorBatch is how many log entries are judged at a time.
	monitorBatch = 1000

	// monitorBatches is how many batches are judged before alarms are raised.
	monitorBatches = 10

	// monitorRaises is how many alarms are raised at once: each waits for a
	// transaction, and all must be on the ledger within seconds.
	monitorRaises = 8

	// monitorKeeps bounds what the monitor remembers of grants and of alarms. What
	// it forgets it finds in the index again.
	monitorKeeps = 10_000
)

// DefaultUnusualRules are the rules that run where the configuration names none;
// docs/monitoring-use.md says how their bounds were found.
func DefaultUnusualRules() []domain.UnusualRule {
	return []domain.UnusualRule{
		{ID: domain.UnusualRate, Bound: 2, Least: 20},
		{ID: domain.UnusualHours, Bound: 0.01, Least: 100},
		{ID: domain.UnusualVolume, Bound: 5, Least: 100},
		{ID: domain.UnusualPurpose, Least: 100},
		{ID: domain.UnusualRefusals, Bound: 20},
	}
}

// MonitorOptions are what a [Monitor] needs.
type MonitorOptions struct {
	Department domain.DepartmentCode // whose log is judged
	Rules      []domain.UnusualRule
	Index      index.Index
	Raise      func(ctx context.Context, args domain.RaiseAlarmArgs) error // records an alarm; one that is already there is no error
	Every      time.Duration                                               // how often the index is asked for new records
	Logger     *slog.Logger
	Clock      func() time.Time
}

// Monitor judges each record of the department's log once, as soon as the index
// has it, and raises one alarm per grant, rule and hour. After a restart it goes
// on where it was; a record that it then judges again makes the same alarm, which
// is on the ledger once.
type Monitor struct {
	MonitorOptions

	next    uint64 // the first log entry not judged
	stored  uint64 // what the index holds of next
	grants  map[grantKey]*grantState
	raised  map[string]bool        // alarms known to be on the ledger, by id
	pending map[string]*unusualUse // alarms to be raised, by id
}

// grantKey names what has a history.
type grantKey struct {
	grant     string
	direction domain.Direction
}

// grantState is the history of a grant as of a minute, with the calls of that
// minute that were judged.
type grantState struct {
	minute  time.Time
	history domain.GrantHistory
}

// unusualUse is an alarm in the making.
type unusualUse struct {
	domain.RaiseAlarmArgs
	grantKey
	at time.Time // of the last call found unusual
}

// NewMonitor returns a monitor that has not started; see [Monitor.Run].
func NewMonitor(o MonitorOptions) *Monitor {
	return &Monitor{MonitorOptions: o, grants: map[grantKey]*grantState{}, raised: map[string]bool{}, pending: map[string]*unusualUse{}}
}

// Run judges until ctx ends and then answers ctx's error. What fails is tried
// again for ever.
func (m *Monitor) Run(ctx context.Context) error {
	pauses := newBackoff()
	started := false
	for {
		wait := m.Every
		err := error(nil)
		if !started {
			m.stored, err = m.Index.Judged(ctx)
			m.next, started = m.stored, err == nil
		}
		if err == nil {
			err = m.step(ctx)
		}
		if err != nil && ctx.Err() == nil {
			wait = pauses.NextBackOff()
			m.Logger.Error("use cannot be watched", "error", err, "retryIn", wait)
		} else {
			pauses.Reset()
		}
		if !pause(ctx, wait) {
			return ctx.Err()
		}
	}
}

// step judges records that are new and raises what they gave rise to.
func (m *Monitor) step(ctx context.Context) error {
	for range monitorBatches {
		entries, err := m.Index.Entries(ctx, m.next, monitorBatch)
		if err != nil {
			return err
		}
		if err := m.judge(ctx, entries); err != nil {
			return err
		}
		m.next += uint64(len(entries))
		if len(entries) < monitorBatch {
			break
		}
	}
	if err := m.raise(ctx); err != nil {
		return err
	}
	if m.next == m.stored {
		return nil
	}
	// Only now: what was not raised is judged again after a restart.
	if err := m.Index.SetJudged(ctx, m.next); err != nil {
		return err
	}
	m.stored = m.next
	return nil
}

// judge judges log entries. It reads one history for each grant and minute among
// them, so that a burst of calls costs little more than one.
func (m *Monitor) judge(ctx context.Context, entries []index.AccessEntry) error {
	// A record that is older than any history was judged before the index was
	// built anew.
	oldest := m.Clock().Add(-domain.HistoryHours * time.Hour)
	entries = slices.DeleteFunc(entries, func(e index.AccessEntry) bool { return e.Record.LoggedAt.Before(oldest) })
	slices.SortStableFunc(entries, func(a, b index.AccessEntry) int {
		return cmp.Or(cmp.Compare(a.Record.GrantID, b.Record.GrantID), cmp.Compare(a.Record.Direction, b.Record.Direction),
			a.Record.At.Truncate(time.Minute).Compare(b.Record.At.Truncate(time.Minute)))
	})
	if len(m.grants) > monitorKeeps {
		clear(m.grants)
	}
	// States change when all histories are read: what failed is judged again.
	fresh := map[grantKey]*grantState{}
	var states []*grantState
	for _, e := range entries {
		s, err := m.state(ctx, e.Record, fresh)
		if err != nil {
			return err
		}
		states = append(states, s)
	}
	for i, e := range entries {
		m.judgeOne(e, states[i])
	}
	for k, s := range fresh {
		m.grants[k] = s
	}
	return nil
}

// state answers the history of a record's grant as of the record's minute.
func (m *Monitor) state(ctx context.Context, r domain.AccessRecord, fresh map[grantKey]*grantState) (*grantState, error) {
	key, minute := grantKey{r.GrantID, r.Direction}, r.At.Truncate(time.Minute)
	for _, s := range []*grantState{fresh[key], m.grants[key]} {
		if s != nil && s.minute.Equal(minute) {
			return s, nil
		}
	}
	h, err := m.Index.GrantHistory(ctx, r.GrantID, r.Direction, minute)
	if err != nil {
		return nil, err
	}
	fresh[key] = &grantState{minute, h}
	return fresh[key], nil
}

// judgeOne notes what is unusual about a record and adds it to the history.
func (m *Monitor) judgeOne(e index.AccessEntry, s *grantState) {
	r := e.Record
	for _, u := range domain.CheckUnusual(m.Rules, s.history, r, r.At) {
		m.note(e, u)
	}
	if r.Result == domain.ResultOK {
		s.history.LastHour++
	} else {
		s.history.Refused++
	}
}

// note makes an alarm or adds to one that is about to be raised.
func (m *Monitor) note(e index.AccessEntry, u domain.Unusual) {
	r := e.Record
	subject := r.GrantID + "/" + u.Rule + "/" + r.At.UTC().Format("2006-01-02T15Z")
	id := domain.AlarmID(domain.AlarmUnusualUse, r.Consumer, subject)
	if m.raised[id] {
		return
	}
	a := m.pending[id]
	if a == nil {
		a = &unusualUse{grantKey: grantKey{r.GrantID, r.Direction}, RaiseAlarmArgs: domain.RaiseAlarmArgs{
			Kind: domain.AlarmUnusualUse, About: r.Consumer, Subject: subject, Rule: u.Rule,
		}}
		m.pending[id] = a
	}
	a.Figures, a.at = u.Figures, r.At // the last call saw the most
	if len(a.Records) < domain.MaxAlarmRecords {
		a.Records = append(a.Records, domain.RecordRef{Department: m.Department, Index: e.Index})
	}
}

// raise records what is pending. What fails stays pending.
func (m *Monitor) raise(ctx context.Context) error {
	if len(m.raised) > monitorKeeps {
		clear(m.raised)
	}
	ids := slices.Sorted(maps.Keys(m.pending))
	done := make([]bool, len(ids))
	group := new(errgroup.Group)
	group.SetLimit(monitorRaises)
	for i, id := range ids {
		a := m.pending[id]
		group.Go(func() error {
			err := m.raiseOne(ctx, id, a)
			if domain.KindOf(err) == domain.Invalid { // and so it will be next time
				m.Logger.Error("alarm is refused", "rule", a.Rule, "grant", a.grant, "figures", a.Figures, "error", err)
				err = nil
			}
			if err != nil {
				return fmt.Errorf("raise alarm %s: %w", id, err)
			}
			done[i] = true
			return nil
		})
	}
	err := group.Wait()
	for i, id := range ids {
		if done[i] {
			m.raised[id] = true
			delete(m.pending, id)
		}
	}
	return err
}

// raiseOne records an alarm that the index does not have.
func (m *Monitor) raiseOne(ctx context.Context, id string, a *unusualUse) error {
	if _, err := m.Index.Get(ctx, domain.KindAlarm, id); err == nil || domain.KindOf(err) != domain.NotFound {
		return err
	}
	args, err := a.RaiseAlarmArgs, error(nil)
	switch a.Rule { // a rule on a number of calls names them all, not only those beyond its bound
	case domain.UnusualRate:
		args.Records, err = m.records(ctx, a, time.Hour, true)
	case domain.UnusualRefusals:
		args.Records, err = m.records(ctx, a, 5*time.Minute, false)
	}
	if err != nil {
		return err
	}
	if err := m.Raise(ctx, args); err != nil {
		return err
	}
	m.Logger.Warn("unusual use", "rule", a.Rule, "grant", a.grant, "about", a.About, "figures", a.Figures, "alarm", id)
	return nil
}

// records names the last calls of a grant in the span before an alarm, those that
// released data or those that did not.
func (m *Monitor) records(ctx context.Context, a *unusualUse, span time.Duration, ok bool) ([]domain.RecordRef, error) {
	filter := index.AccessFilter{GrantID: a.grant, From: a.at.Add(-span), To: a.at.Add(time.Microsecond)}
	trace, err := m.Index.Trace(ctx, filter, index.Page{Limit: 2 * domain.MaxAlarmRecords})
	if err != nil {
		return nil, err
	}
	var refs []domain.RecordRef
	for _, e := range trace.Items {
		if e.Record.Direction == a.direction && (e.Record.Result == domain.ResultOK) == ok && len(refs) < domain.MaxAlarmRecords {
			refs = append(refs, domain.RecordRef{Department: m.Department, Index: e.Index})
		}
	}
	return refs, nil
}
