package service_test

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/evidence/evidencetest"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/trail"
)

// realRows reads a file of the real access logs beside the repository, by column.
func realRows(t *testing.T, name string) []map[string]string {
	t.Helper()
	file, err := os.Open(filepath.Join("..", "..", "..", "shared", "data", "access_logs", name))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) < 2 {
		t.Fatalf("%s has no rows", name)
	}
	var out []map[string]string
	for _, row := range rows[1:] {
		cells := make(map[string]string)
		for i, column := range rows[0] {
			cells[column] = row[i]
		}
		out = append(out, cells)
	}
	return out
}

func number(t *testing.T, text string) int64 {
	t.Helper()
	if text == "" {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// realRecord is a real call: its client, service and size stand as a pseudonym,
// digests and a number of records.
func realRecord(direction domain.Direction, call, client, service, result string, size int64, at time.Time) domain.AccessRecord {
	r := evidencetest.Record(direction, "police", "civil", 0)
	r.CallID, r.Operator, r.Result, r.RecordCount = call, client, result, size
	r.RequestDigest = domain.Digest([]byte(service))
	r.ResponseDigest = domain.Digest([]byte(fmt.Sprintf("%s %s %d", service, result, size)))
	r.At, r.RespondedAt, r.LoggedAt = at.UTC(), at.UTC(), at.UTC()
	return r
}

// totalsOf counts what the input itself says.
func totalsOf(records []domain.AccessRecord) trail.Totals {
	type key struct {
		direction domain.Direction
		result    string
	}
	var all trail.Totals
	results := make(map[key]*trail.ResultTotal)
	for _, r := range records {
		k := key{r.Direction, r.Result}
		if results[k] == nil {
			results[k] = &trail.ResultTotal{Direction: r.Direction, Result: r.Result}
		}
		results[k].Records++
		results[k].DataRecords += r.RecordCount
		all.Records++
		all.DataRecords += r.RecordCount
	}
	for _, total := range slices.SortedFunc(maps.Values(results), func(a, b *trail.ResultTotal) int {
		return cmp.Or(cmp.Compare(a.Direction, b.Direction), cmp.Compare(a.Result, b.Result))
	}) {
		all.ByResult = append(all.ByResult, *total)
	}
	return all
}

// httpRecords are the calls of a web server's log.
func httpRecords(t *testing.T, name string) []domain.AccessRecord {
	t.Helper()
	var out []domain.AccessRecord
	for i, row := range realRows(t, name) {
		at, err := time.Parse(time.RFC3339, row["ts"])
		if err != nil {
			t.Fatal(err)
		}
		result := domain.ResultOK
		if row["status"] != "200" {
			result = "http_" + row["status"]
		}
		call := fmt.Sprintf("%08d-%.20s", i, domain.Digest([]byte(name)))
		out = append(out, realRecord(domain.DirectionProvider, call, row["client_id"], row["method"]+" "+row["service"], result, number(t, row["bytes"]), at))
	}
	return out
}

// xroadRecords are the calls of X-Road security servers, of which the client's and
// the producer's log under one message identifier.
func xroadRecords(t *testing.T, name string) []domain.AccessRecord {
	t.Helper()
	var out []domain.AccessRecord
	for _, row := range realRows(t, name) {
		direction := domain.DirectionConsumer
		if row["securityServerType"] == "Producer" {
			direction = domain.DirectionProvider
		}
		result := "failed"
		if s := row["succeeded"]; s == "True" || s == "t" {
			result = domain.ResultOK
		}
		// Some message identifiers are no identifiers in our form.
		call := domain.Digest([]byte(row["messageId"]))[:32]
		service := row["serviceMemberCode"] + "/" + row["serviceSubsystemCode"] + "/" + row["serviceCode"]
		out = append(out, realRecord(direction, call, row["clientMemberCode"]+"/"+row["clientSubsystemCode"], service, result,
			number(t, row["responseSize"]), time.UnixMilli(number(t, row["requestInTs"]))))
	}
	return out
}

// TestAuditorReplaysRealLogs logs real calls, pulls and verifies them, and expects
// the totals and pairs that the files themselves have.
func TestAuditorReplaysRealLogs(t *testing.T) {
	for _, test := range []struct {
		name    string
		read    func(*testing.T, string) []domain.AccessRecord
		atLeast int
	}{
		{"nasa_http_19950801.csv", httpRecords, 20_000},
		{"sec_edgar_20170630.csv", httpRecords, 6_000},
		{"web_apache_201505.csv", httpRecords, 6_000},
		{"xroad_playground_2023.csv", xroadRecords, 160},
		{"xroad_ee_dev_2017.csv", xroadRecords, 60},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			records := test.read(t, test.name)
			if len(records) < test.atLeast {
				t.Fatalf("only %d rows", len(records))
			}
			w := evidencetest.New(t, "police", "civil")
			for _, side := range []struct {
				code      domain.DepartmentCode
				direction domain.Direction
			}{{"police", domain.DirectionProvider}, {"civil", domain.DirectionConsumer}} {
				var own []domain.AccessRecord
				for _, r := range records {
					if r.Direction == side.direction {
						own = append(own, r)
					}
				}
				for part := range slices.Chunk(own, 7000) { // with an anchor each
					w.Logs[side.code].Append(t, part...)
					w.Logs[side.code].Anchor(t)
				}
			}
			a := newAudit(t, w, func(o *service.AuditorOptions) { o.Raise = nil })
			a.pull()
			if found := a.findings(); len(found) > 0 {
				t.Errorf("findings are %+v", found)
			}
			got, err := a.Totals(t.Context(), anAuditor, trail.Filter{})
			if err != nil {
				t.Fatal(err)
			}
			if want := totalsOf(records); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("totals are %+v, the file's %+v", got, want)
			}
			counted := int64(0)
			for _, code := range []domain.DepartmentCode{"police", "civil"} {
				for _, anchor := range w.Anchors(code) {
					for _, c := range anchor.Counts {
						counted += c.Count
					}
				}
			}
			if counted != int64(len(records)) {
				t.Errorf("the anchors count %d records, the file has %d", counted, len(records))
			}
			comparePairs(t, a, records)
		})
	}
}

// comparePairs reconciles and expects the calls that the input has on both sides,
// on one only, or more than once.
func comparePairs(t *testing.T, a *audit, records []domain.AccessRecord) {
	t.Helper()
	type call struct{ provider, consumer []domain.AccessRecord }
	calls := make(map[string]*call)
	for _, r := range records {
		c := calls[r.CallID]
		if c == nil {
			c = new(call)
			calls[r.CallID] = c
		}
		if r.Direction == domain.DirectionProvider {
			c.provider = append(c.provider, r)
		} else {
			c.consumer = append(c.consumer, r)
		}
	}
	var want trail.PairDay
	for _, c := range calls {
		switch {
		case len(c.provider) > 1 || len(c.consumer) > 1:
			want.Contradicting++
		case len(c.consumer) == 0:
			want.ProviderOnly++
		case len(c.provider) == 0:
			want.ConsumerOnly++
		case len(trail.Contradictions(c.provider[0], c.consumer[0])) > 0:
			want.Contradicting++
		default:
			want.Both++
		}
	}
	var got trail.PairDay
	page := trail.Page{Limit: 200}
	for {
		found, err := a.Reconcile(t.Context(), anAuditor, trail.ReconcileFilter{}, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, day := range found.Items {
			got.Both += day.Both
			got.ProviderOnly += day.ProviderOnly
			got.ConsumerOnly += day.ConsumerOnly
			got.Contradicting += day.Contradicting
			got.Waiting += day.Waiting
		}
		if page.After = found.Next; page.After == "" {
			break
		}
	}
	if got != want {
		t.Errorf("calls are %+v, the file's %+v", got, want)
	}
	t.Logf("%d records, %d calls: %+v", len(records), len(calls), got)
}
