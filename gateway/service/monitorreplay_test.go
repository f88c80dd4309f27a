package service_test

import (
	"context"
	"encoding/csv"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/sqlindex"
)

// useLog is a real access log read as the uses of grants. A resource of a web
// server is what stands first in its paths, and who may use it has one grant for
// all; a service of X-Road has a grant for each client.
type useLog struct {
	file string
	days int // the last of them are judged
	tail int // how many
	read func(columns func(string) string) (domain.AccessRecord, error)
}

// dealtDays is over how many days a log of one day is dealt, each client to one
// of them: the day's pattern stays, and no day repeats another.
const dealtDays = 14

var useLogs = []useLog{
	{"nasa_http_19950801.csv", dealtDays, 4, func(c func(string) string) (domain.AccessRecord, error) { return webUse(c, dealtDays, firstPart) }},
	{"sec_edgar_20170630.csv", dealtDays, 4, func(c func(string) string) (domain.AccessRecord, error) { return webUse(c, dealtDays, kindOfFile) }},
	{"web_apache_201505.csv", 3, 1, func(c func(string) string) (domain.AccessRecord, error) { return webUse(c, 1, firstPart) }},
	{"xroad_playground_2023.csv", 3, 1, xroadUse},
	{"xroad_ee_dev_2017.csv", 30, 10, xroadUse},
}

func firstPart(path string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return first
}

func kindOfFile(path string) string { return filepath.Ext(path) }

// webUse reads a row of an HTTP log. A kilobyte counts as a data record, the
// method as what the call was for, and a client's error as a refusal.
func webUse(c func(string) string, days int, resource func(string) string) (domain.AccessRecord, error) {
	at, err := time.Parse(time.RFC3339, c("ts"))
	if err != nil {
		return domain.AccessRecord{}, err
	}
	bytes, _ := strconv.ParseInt(c("bytes"), 10, 64) // "" or "-" where nothing was sent
	client := fnv.New32a()
	client.Write([]byte(c("client_id")))
	r := domain.AccessRecord{
		GrantID: grantName(resource(c("service"))), Direction: domain.DirectionProvider, ServiceItem: c("method"),
		At: at.AddDate(0, 0, int(client.Sum32()%uint32(days))), RecordCount: (bytes + 1023) / 1024, Result: domain.ResultOK,
	}
	if status := c("status"); !strings.HasPrefix(status, "2") && !strings.HasPrefix(status, "3") {
		r.Result = "status_" + status
	}
	return r, nil
}

// xroadUse reads a row of X-Road's operational log. Its times are rounded to the
// hour; the calls of an hour are spread over it in their order.
func xroadUse(c func(string) string) (domain.AccessRecord, error) {
	milliseconds, err := strconv.ParseInt(c("requestInTs"), 10, 64)
	if err != nil {
		return domain.AccessRecord{}, err
	}
	bytes, _ := strconv.ParseInt(c("responseSize"), 10, 64)
	r := domain.AccessRecord{
		GrantID:   grantName(c("clientMemberCode") + c("clientSubsystemCode") + c("serviceMemberCode") + c("serviceSubsystemCode") + c("serviceCode")),
		Direction: domain.DirectionProvider, ServiceItem: c("serviceCode"), At: time.UnixMilli(milliseconds).UTC(), RecordCount: (bytes + 1023) / 1024, Result: domain.ResultOK,
	}
	if c("securityServerType") == "Client" {
		r.Direction = domain.DirectionConsumer
	}
	if succeeded := strings.ToLower(c("succeeded")); succeeded != "true" && succeeded != "t" {
		r.Result = "failed"
	}
	return r, nil
}

func grantName(of string) string { return domain.Digest([]byte(of))[:32] }

// uses reads the whole log, in order of time.
func (l useLog) uses(t testing.TB) []domain.AccessRecord {
	t.Helper()
	file, err := os.Open(filepath.Join("..", "..", "..", "shared", "data", "access_logs", l.file))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	in := csv.NewReader(file)
	in.LazyQuotes = true
	rows, err := in.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	column := map[string]int{}
	for i, name := range rows[0] {
		column[name] = i
	}
	var all []domain.AccessRecord
	for i, row := range rows[1:] {
		r, err := l.read(func(name string) string { return row[column[name]] })
		if err != nil {
			t.Fatalf("%s, row %d: %v", l.file, i+1, err)
		}
		r.Schema, r.CallID, r.Provider, r.Consumer = domain.SchemaAccessRecord, fmt.Sprintf("call-%012d", i), "bigdata", "civil"
		r.Items, r.LoggedAt = []string{"item"}, r.At
		all = append(all, r)
	}
	slices.SortStableFunc(all, func(a, b domain.AccessRecord) int { return a.At.Compare(b.At) })
	return all
}

// replay is an index that has a log's records, and when judging begins.
type replay struct {
	*sqlindex.Index
	uses  []domain.AccessRecord
	begin time.Time
}

func newReplay(t testing.TB, l useLog) replay {
	t.Helper()
	ix, err := sqlindex.Open(t.Context(), filepath.Join(t.TempDir(), "index.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ix.Close(); err != nil {
			t.Error(err)
		}
	})
	r := replay{Index: ix, uses: l.uses(t)}
	var entries []index.AccessEntry
	for i, use := range r.uses {
		entries = append(entries, index.AccessEntry{Index: uint64(i), LeafHash: make([]byte, 32), Record: use})
	}
	for batch := range slices.Chunk(entries, 1000) {
		if err := ix.ApplyAccess(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	last := r.uses[len(r.uses)-1].At
	r.begin = last.AddDate(0, 0, -l.tail)
	return r
}

// watch runs a monitor over what comes after begin and answers the alarms it
// raised.
func (r replay) watch(t testing.TB, rules []domain.UnusualRule) []domain.RaiseAlarmArgs {
	t.Helper()
	if err := r.SetJudged(t.Context(), uint64(len(r.uses)-len(r.judged()))); err != nil {
		t.Fatal(err)
	}
	var alarms raisedAlarms
	last := r.uses[len(r.uses)-1].At
	m := service.NewMonitor(service.MonitorOptions{
		Department: "bigdata", Rules: rules, Index: r.Index, Raise: alarms.raise, Every: time.Millisecond,
		Logger: slog.New(slog.DiscardHandler), Clock: func() time.Time { return last },
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	awaitJudged(t, r.Index, len(r.uses))
	cancel()
	<-done
	return alarms.list()
}

// judged are the uses from begin on.
func (r replay) judged() []domain.AccessRecord {
	first, _ := slices.BinarySearchFunc(r.uses, r.begin, func(u domain.AccessRecord, at time.Time) int { return u.At.Compare(at) })
	return r.uses[first:]
}

// awaitJudged waits until so many entries were judged and their alarms raised.
func awaitJudged(t testing.TB, ix index.Index, n int) {
	t.Helper()
	for deadline := time.After(time.Minute); ; {
		judged, err := ix.Judged(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if judged == uint64(n) {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%d of %d entries are judged", judged, n)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// misuse is a way to misuse a grant: the calls that somebody adds from a time on.
type misuse struct {
	name, rule string
	found      float64 // share that must be found
	calls      func(model domain.AccessRecord, h domain.GrantHistory, usedHours int) []domain.AccessRecord
}

func spread(model domain.AccessRecord, n int, over time.Duration, change func(*domain.AccessRecord)) []domain.AccessRecord {
	calls := make([]domain.AccessRecord, n)
	for i := range calls {
		calls[i] = model
		calls[i].Result, calls[i].RecordCount = domain.ResultOK, 1
		calls[i].At = model.At.Add(over * time.Duration(i) / time.Duration(n))
		change(&calls[i])
	}
	return calls
}

var misuses = []misuse{
	{"ten times the calls of a mean hour", domain.UnusualRate, 0.8, func(r domain.AccessRecord, h domain.GrantHistory, usedHours int) []domain.AccessRecord {
		return spread(r, 10*int(h.Calls)/usedHours, time.Hour, func(*domain.AccessRecord) {})
	}},
	{"a call in the night", domain.UnusualHours, 0.9, func(r domain.AccessRecord, h domain.GrantHistory, _ int) []domain.AccessRecord {
		for hour := range 24 {
			if at := r.At.Truncate(24 * time.Hour).Add(time.Duration(hour) * time.Hour); at.After(r.At) && h.ByHour[(at.Hour()+7)%24]+h.ByHour[(at.Hour()+8)%24]+h.ByHour[(at.Hour()+9)%24] == 0 {
				r.At = at
				return spread(r, 1, 0, func(*domain.AccessRecord) {})
			}
		}
		return nil // used day and night
	}},
	{"a call that releases ten times the largest", domain.UnusualVolume, 1, func(r domain.AccessRecord, h domain.GrantHistory, _ int) []domain.AccessRecord {
		return spread(r, 1, 0, func(r *domain.AccessRecord) { r.RecordCount = 10 * max(h.Largest, 1) })
	}},
	{"a call that releases 100 times the mean", domain.UnusualVolume, 0.15, func(r domain.AccessRecord, h domain.GrantHistory, _ int) []domain.AccessRecord {
		return spread(r, 1, 0, func(r *domain.AccessRecord) { r.RecordCount = 100 * max(h.DataRecords/h.Calls, 1) })
	}},
	{"a service item that is new", domain.UnusualPurpose, 1, func(r domain.AccessRecord, _ domain.GrantHistory, _ int) []domain.AccessRecord {
		return spread(r, 1, 0, func(r *domain.AccessRecord) { r.ServiceItem = "other-item" })
	}},
	{"thirty refused calls in five minutes", domain.UnusualRefusals, 1, func(r domain.AccessRecord, _ domain.GrantHistory, _ int) []domain.AccessRecord {
		return spread(r, 30, 5*time.Minute, func(r *domain.AccessRecord) { r.Result = "quota_total" })
	}},
}

// inject adds a misuse 30 times, each to the real log alone, at the times and to
// the grants of uses chosen at random, and says how often it is found. A grant
// has had 100 calls.
func (r replay) inject(t testing.TB, rules []domain.UnusualRule, m misuse) (added, found int) {
	t.Helper()
	random := rand.New(rand.NewPCG(7, 7)) //nolint:gosec // samples, not secrets
	judged := r.judged()
	for tries := 0; added < 30 && tries < 3000; tries++ {
		model := judged[random.IntN(len(judged))]
		h, err := r.GrantHistory(t.Context(), model.GrantID, model.Direction, model.At)
		if err != nil {
			t.Fatal(err)
		}
		if h.Calls < 100 {
			continue
		}
		calls := m.calls(model, h, r.usedHours(model))
		if len(calls) == 0 {
			continue
		}
		added++
		if r.finds(t, rules, m.rule, calls) {
			found++
		}
	}
	return added, found
}

// usedHours counts the hours before a use in which its grant was used.
func (r replay) usedHours(model domain.AccessRecord) int {
	hours := map[time.Time]bool{}
	for _, u := range r.uses {
		if u.GrantID == model.GrantID && u.Direction == model.Direction && u.Result == domain.ResultOK && u.At.Before(model.At.Truncate(time.Hour)) {
			hours[u.At.Truncate(time.Hour)] = true
		}
	}
	return len(hours)
}

// finds judges calls as the monitor would if they were in the log.
func (r replay) finds(t testing.TB, rules []domain.UnusualRule, rule string, calls []domain.AccessRecord) bool {
	t.Helper()
	for i, c := range calls {
		h, err := r.GrantHistory(t.Context(), c.GrantID, c.Direction, c.At)
		if err != nil {
			t.Fatal(err)
		}
		for _, before := range calls[:i] {
			switch ago := c.At.Sub(before.At); {
			case before.Result == domain.ResultOK && ago < time.Hour-time.Minute:
				h.LastHour++
			case before.Result != domain.ResultOK && ago < 4*time.Minute:
				h.Refused++
			}
		}
		for _, u := range domain.CheckUnusual(rules, h, c, c.At) {
			if u.Rule == rule {
				return true
			}
		}
	}
	return false
}

// TestUnusualUseOnRealLogs replays real access logs under the default rules and
// bounds how often they speak on what nobody misused, and how often they miss
// what was added. docs/monitoring-use.md holds the table that it logs.
func TestUnusualUseOnRealLogs(t *testing.T) {
	rules := service.DefaultUnusualRules()
	calls, alarms := 0, 0
	type score struct{ added, found int }
	total := map[string]score{}
	for _, l := range useLogs {
		r := newReplay(t, l)
		raised := r.watch(t, rules)
		byRule := map[string]int{}
		for _, a := range raised {
			if err := a.Validate(); err != nil {
				t.Errorf("%s: the ledger would refuse the alarm %+v: %v", l.file, a, err)
			}
			byRule[a.Rule]++
			t.Logf("%s: %s: %s", l.file, a.Subject, a.Figures)
		}
		days := r.uses[len(r.uses)-1].At.Sub(r.begin).Hours() / 24
		grantDays := map[string]bool{}
		for _, u := range r.judged() {
			grantDays[u.GrantID+u.At.Format(time.DateOnly)] = true
		}
		calls, alarms = calls+len(r.judged()), alarms+len(raised)
		t.Logf("%s: %d uses judged after %d, %d alarms %v: %.2f per 1000 uses, %.2f a day, %.3f per grant and day", l.file, len(r.judged()), len(r.uses)-len(r.judged()),
			len(raised), byRule, 1000*float64(len(raised))/float64(len(r.judged())), float64(len(raised))/days, float64(len(raised))/float64(len(grantDays)))
		for _, m := range misuses {
			added, found := r.inject(t, rules, m)
			t.Logf("%s: %s: %d of %d found", l.file, m.name, found, added)
			total[m.name] = score{total[m.name].added + added, total[m.name].found + found}
		}
	}
	if rate := 1000 * float64(alarms) / float64(calls); rate > 2 || calls < 10_000 {
		t.Errorf("%d alarms on %d real uses: %.2f per 1000, want at most 2", alarms, calls, rate)
	}
	for _, m := range misuses {
		s := total[m.name]
		t.Logf("in all: %s: %d of %d found", m.name, s.found, s.added)
		if share := float64(s.found) / float64(s.added); s.added < 30 || share < m.found {
			t.Errorf("%s: %d of %d found, want %.0f %%", m.name, s.found, s.added, 100*m.found)
		}
	}
}
