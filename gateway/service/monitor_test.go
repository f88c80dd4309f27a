package service_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/sqlindex"
)

// raisedAlarms takes alarms in place of a ledger.
type raisedAlarms struct {
	mu     sync.Mutex
	alarms []domain.RaiseAlarmArgs
	err    error // answered instead, while it is set
	failed int
}

func (r *raisedAlarms) raise(_ context.Context, args domain.RaiseAlarmArgs) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		r.failed++
		return r.err
	}
	r.alarms = append(r.alarms, args)
	return nil
}

func (r *raisedAlarms) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *raisedAlarms) failures() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *raisedAlarms) list() []domain.RaiseAlarmArgs {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.alarms)
}

// subjects lists the rule and the hour of each alarm, sorted.
func (r *raisedAlarms) subjects() []string {
	var out []string
	for _, a := range r.list() {
		_, rest, _ := strings.Cut(a.Subject, "/")
		out = append(out, rest)
	}
	slices.Sort(out)
	return out
}

// watched is an index of a log of uses, and what judges them.
type watched struct {
	*sqlindex.Index
	t         testing.TB
	next      uint64
	histories int // that were read
	alarms    raisedAlarms
}

// monday is a working day at 09:00 in Beijing.
var monday = time.Date(2026, 3, 2, 1, 0, 0, 0, time.UTC)

func newWatched(t testing.TB) *watched {
	t.Helper()
	ix, err := sqlindex.Open(t.Context(), filepath.Join(t.TempDir(), "index.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{Index: ix, t: t}
	t.Cleanup(func() {
		if err := ix.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *watched) GrantHistory(ctx context.Context, grantID string, direction domain.Direction, at time.Time) (domain.GrantHistory, error) {
	w.histories++
	return w.Index.GrantHistory(ctx, grantID, direction, at)
}

// log logs n calls of a grant, from a time on at equal distances.
func (w *watched) log(grant string, n int, from time.Time, every time.Duration, change func(*domain.AccessRecord)) {
	w.t.Helper()
	var entries []index.AccessEntry
	for i := range n {
		r := domain.AccessRecord{
			GrantID: grantName(grant), Direction: domain.DirectionProvider, CallID: fmt.Sprintf("%s-%d", grant, i), Provider: "bigdata", Consumer: "civil",
			ServiceItem: "item-1", RecordCount: 1, At: from.Add(time.Duration(i) * every), Result: domain.ResultOK,
		}
		change(&r)
		r.LoggedAt = r.At
		entries = append(entries, index.AccessEntry{Index: w.next, LeafHash: make([]byte, 32), Record: r})
		w.next++
	}
	for batch := range slices.Chunk(entries, 1000) {
		if err := w.ApplyAccess(w.t.Context(), batch); err != nil {
			w.t.Fatal(err)
		}
	}
}

func asUsual(*domain.AccessRecord) {}

// usual logs ten days of one call each two minutes from 09:00 to 17:00, which end
// before monday, and takes them for judged.
func (w *watched) usual(grant string) {
	w.t.Helper()
	for day := range 10 {
		w.log(grant, 240, monday.AddDate(0, 0, day-10), 2*time.Minute, asUsual)
	}
	if err := w.SetJudged(w.t.Context(), w.next); err != nil {
		w.t.Fatal(err)
	}
}

// start starts a monitor and answers what ends it.
func (w *watched) start(department domain.DepartmentCode) (stop func()) {
	m := service.NewMonitor(service.MonitorOptions{
		Department: department, Rules: service.DefaultUnusualRules(), Index: w, Raise: w.alarms.raise, Every: time.Millisecond,
		Logger: slog.New(slog.DiscardHandler), Clock: func() time.Time { return monday.AddDate(0, 0, 1) },
	})
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	return func() { cancel(); <-done }
}

// judge runs a monitor until everything is judged.
func (w *watched) judge() {
	w.t.Helper()
	stop := w.start("bigdata")
	defer stop()
	awaitJudged(w.t, w.Index, int(w.next))
}

// TestMonitorRules checks that each rule speaks of what it is for, and none of
// what is usual.
func TestMonitorRules(t *testing.T) {
	evening := monday.Add(14 * time.Hour) // 23:00 in Beijing
	for name, test := range map[string]struct {
		n      int
		from   time.Time
		every  time.Duration
		change func(*domain.AccessRecord)
		want   []string
	}{
		"as usual":              {30, monday, 2 * time.Minute, asUsual, nil},
		"rate":                  {61, monday, 30 * time.Second, asUsual, []string{"rate/2026-03-02T01Z"}},
		"just below the rate":   {60, monday, 30 * time.Second, asUsual, nil},
		"hours":                 {1, evening, 0, asUsual, []string{"hours/2026-03-02T15Z"}},
		"an hour early":         {1, monday.Add(-time.Hour), 0, asUsual, nil},
		"volume":                {1, monday, 0, func(r *domain.AccessRecord) { r.RecordCount = 6 }, []string{"volume/2026-03-02T01Z"}},
		"purpose":               {1, monday, 0, func(r *domain.AccessRecord) { r.ServiceItem = "item-2" }, []string{"purpose/2026-03-02T01Z"}},
		"refusals":              {20, monday, 10 * time.Second, func(r *domain.AccessRecord) { r.Result = "quota_per_day" }, []string{"refusals/2026-03-02T01Z"}},
		"refusals now and then": {60, monday, time.Minute, func(r *domain.AccessRecord) { r.Result = "quota_per_day" }, nil},
		"two hours, two rules": {300, monday.Add(59 * time.Minute), time.Second, func(r *domain.AccessRecord) { r.ServiceItem = "item-2" },
			[]string{"purpose/2026-03-02T01Z", "rate/2026-03-02T02Z"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWatched(t)
			w.usual("g")
			first := w.next
			w.log("g", test.n, test.from, test.every, test.change)
			w.judge()
			if diff := cmp.Diff(test.want, w.alarms.subjects()); diff != "" {
				t.Errorf("alarms (-want +got):\n%s", diff)
			}
			for _, a := range w.alarms.list() {
				if err := a.Validate(); err != nil {
					t.Errorf("the ledger would refuse %+v: %v", a, err)
				}
				if a.Kind != domain.AlarmUnusualUse || a.About != "civil" || !strings.HasPrefix(a.Subject, grantName("g")+"/"+a.Rule) || a.Figures == "" {
					t.Errorf("alarm = %+v", a)
				}
				if len(a.Records) != min(domain.MaxAlarmRecords, len(a.Records)) || len(a.Records) == 0 {
					t.Errorf("the alarm of %s names %d records", a.Rule, len(a.Records))
				}
				for _, r := range a.Records {
					if r.Department != "bigdata" || r.Index < first || r.Index >= w.next {
						t.Errorf("the alarm of %s names %+v, which is not among the calls", a.Rule, r)
					}
				}
			}
		})
	}
}

// TestMonitorBurst checks that a burst costs one history for each minute and one
// alarm, however many calls it has.
func TestMonitorBurst(t *testing.T) {
	w := newWatched(t)
	w.usual("g")
	w.log("g", 10_000, monday, 10*time.Millisecond, asUsual) // 100 seconds
	started := time.Now()                                    //nolint:forbidigo // measures
	w.judge()
	took := time.Since(started) //nolint:forbidigo // measures
	t.Logf("10,000 records judged in %v: %v a record", took, took/10_000)
	if w.histories != 2 {
		t.Errorf("%d histories were read for 2 minutes", w.histories)
	}
	alarms := w.alarms.list()
	if len(alarms) != 1 || len(alarms[0].Records) != domain.MaxAlarmRecords {
		t.Fatalf("alarms = %+v, want one with %d records", alarms, domain.MaxAlarmRecords)
	}
}

// TestMonitorResumes checks that what one monitor judged is not judged again, and
// that a record judged again makes an alarm that is there.
func TestMonitorResumes(t *testing.T) {
	w := newWatched(t)
	w.usual("g")
	w.log("g", 1, monday, 0, func(r *domain.AccessRecord) { r.RecordCount = 100 })
	w.judge()
	w.log("g", 1, monday.Add(time.Hour), 0, func(r *domain.AccessRecord) { r.RecordCount = 1000 })
	w.judge()
	want := []string{"volume/2026-03-02T01Z", "volume/2026-03-02T02Z"}
	if diff := cmp.Diff(want, w.alarms.subjects()); diff != "" {
		t.Fatalf("alarms (-want +got):\n%s", diff)
	}

	// The ledger has the first alarm; an index that was built anew judges both.
	a := w.alarms.list()[0]
	id := domain.AlarmID(a.Kind, a.About, a.Subject)
	value, err := domain.Canonical(domain.Alarm{ID: id, State: domain.AlarmOpen})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.ApplyBlock(t.Context(), domain.Block{Transactions: []domain.Transaction{{
		ID: "t", ValidationCode: "VALID", Writes: []domain.Write{{Key: domain.KeyOf(domain.KindAlarm, id), Value: value}},
	}}}); err != nil {
		t.Fatal(err)
	}
	if err := w.SetJudged(t.Context(), w.next-2); err != nil {
		t.Fatal(err)
	}
	w.judge()
	if diff := cmp.Diff(append(want, want[1]), w.alarms.subjects()); diff != "" {
		t.Errorf("alarms after judging again (-want +got):\n%s", diff)
	}
}

// TestMonitorKeepsAlarms checks that an alarm that cannot be raised is raised
// later, also by the next monitor, and that one the ledger refuses holds up none.
func TestMonitorKeepsAlarms(t *testing.T) {
	w := newWatched(t)
	w.usual("g")
	w.alarms.fail(errors.New("no peer answers"))
	from := w.next
	w.log("g", 1, monday, 0, func(r *domain.AccessRecord) { r.RecordCount = 100 })
	stop := w.start("bigdata")
	await(t, "an attempt", func() bool { return w.alarms.failures() > 0 })
	stop()
	if judged, err := w.Judged(t.Context()); err != nil || judged != from {
		t.Errorf("Judged = %d, %v before the alarm is raised, want %d", judged, err, from)
	}
	w.alarms.fail(nil)
	w.judge()
	if got := w.alarms.subjects(); !slices.Equal(got, []string{"volume/2026-03-02T01Z"}) {
		t.Errorf("alarms = %q", got)
	}

	w.alarms.fail(&domain.Error{Kind: domain.Invalid, Msg: "figures: too long"})
	w.log("g", 1, monday.Add(time.Hour), 0, func(r *domain.AccessRecord) { r.RecordCount = 1000 })
	w.judge()
}

// TestMonitorSkipsTheOld checks that an index built anew does not bring up alarms
// of long ago.
func TestMonitorSkipsTheOld(t *testing.T) {
	w := newWatched(t)
	w.log("g", 1000, monday.AddDate(0, -1, 0), time.Minute, asUsual)
	w.log("g", 1, monday.AddDate(0, -1, 1), 0, func(r *domain.AccessRecord) { r.RecordCount = 1000 })
	w.judge()
	if got := w.alarms.list(); len(got) > 0 || w.histories > 0 {
		t.Errorf("%d histories read, alarms %+v", w.histories, got)
	}
}

// BenchmarkMonitor judges a burst of 10,000 calls of one grant, and of 100.
func BenchmarkMonitor(b *testing.B) {
	for _, grants := range []int{1, 100} {
		b.Run(fmt.Sprintf("grants=%d", grants), func(b *testing.B) {
			w := newWatched(b)
			i := 0
			w.log("g", 10_000, monday, time.Millisecond, func(r *domain.AccessRecord) {
				r.GrantID = grantName(fmt.Sprint(i % grants))
				i++
			})
			b.ResetTimer()
			for range b.N {
				if err := w.SetJudged(b.Context(), 0); err != nil {
					b.Fatal(err)
				}
				w.judge()
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/10_000, "µs/record")
		})
	}
}
