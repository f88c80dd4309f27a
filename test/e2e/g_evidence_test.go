//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/test/consortium"
)

// TestEvidenceOnce logs one call twice, and another under the same call
// identifier: the first answers the same receipt, the second is refused.
func TestEvidenceOnce(t *testing.T) {
	grant := replayGrant(t)
	police := net.Gateway("police")
	r := accessRecord(grant, domain.DirectionProvider, "call-"+randomHex(t, 8), time.Now())
	var first, again receipts
	must(t, police.Call(t.Context(), "operator", "POST", "/v1/access-records", inputs(t, r), 201, &first))
	must(t, police.Call(t.Context(), "operator", "POST", "/v1/access-records", inputs(t, r), 201, &again))
	if again.Receipts[0].Index != first.Receipts[0].Index || again.Receipts[0].LeafHash != first.Receipts[0].LeafHash {
		t.Errorf("logged as %+v, then as %+v", first.Receipts[0], again.Receipts[0])
	}
	other := r
	other.RecordCount = 7
	res, err := police.Do(t.Context(), "operator", "POST", "/v1/access-records", inputs(t, other))
	must(t, err)
	if res.Status != http.StatusConflict {
		t.Errorf("another use under the same call: status %d: %s", res.Status, res.Body)
	}
}

// TestPreferAnchored waits for the anchor that covers a record.
func TestPreferAnchored(t *testing.T) {
	grant := replayGrant(t)
	r := accessRecord(grant, domain.DirectionProvider, "call-"+randomHex(t, 8), time.Now())
	started := time.Now()
	res, err := net.Gateway("police").DoWith(t.Context(), "operator", "POST", "/v1/access-records", inputs(t, r), http.Header{"Prefer": {"anchored"}})
	must(t, err)
	var got struct {
		Receipts []struct {
			Index        int64  `json:"index"`
			AnchoredSize *int64 `json:"anchoredSize"`
		} `json:"receipts"`
	}
	must(t, json.Unmarshal(res.Body, &got))
	if res.Status != http.StatusCreated || res.Header.Get("Preference-Applied") != "anchored" || len(got.Receipts) != 1 ||
		got.Receipts[0].AnchoredSize == nil || *got.Receipts[0].AnchoredSize <= got.Receipts[0].Index {
		t.Errorf("status %d, %q: %s", res.Status, res.Header.Get("Preference-Applied"), res.Body)
	}
	t.Logf("anchored after %s", time.Since(started).Round(time.Millisecond))
}

// gradedGrant makes a grant of a resource whose data has a grade.
func gradedGrant(t *testing.T, grade int) domain.Grant {
	t.Helper()
	f := &flow{code: "306003/" + fmt.Sprintf("%06d", time.Now().Unix()%1_000_000), requestID: randomHex(t, 16)}
	register := func(t *testing.T, f *flow) {
		body := content(f.code)
		body.Level = grade
		for i := range body.Items {
			body.Items[i].Level = grade
		}
		must(t, net.Gateway("police").Call(t.Context(), "operator", "POST", "/v1/catalog/entries", body, 201, nil))
	}
	for _, step := range []func(*testing.T, *flow){register, review, publish, request, accept, answer} {
		step(t, f)
	}
	if t.Failed() {
		t.FailNow()
	}
	return f.grant
}

// TestGradeWaitsForTheAnchor logs uses of data of grade 3 and of grade 2 without a
// wish of the caller: the first are acknowledged once they are anchored.
func TestGradeWaitsForTheAnchor(t *testing.T) {
	var answer struct {
		Receipts []struct {
			Index        int64  `json:"index"`
			AnchoredSize *int64 `json:"anchoredSize"`
		} `json:"receipts"`
	}
	log := func(grant domain.Grant, result string) {
		t.Helper()
		r := accessRecord(grant, domain.DirectionProvider, "call-"+randomHex(t, 8), time.Now())
		if r.Result = result; result != domain.ResultOK {
			r.RecordCount, r.ResponseDigest = 0, ""
		}
		answer.Receipts = nil
		must(t, net.Gateway("police").Call(t.Context(), "operator", "POST", "/v1/access-records", inputs(t, r), 201, &answer))
	}
	grave, light := gradedGrant(t, 3), replayGrant(t)
	began := time.Now()
	log(grave, domain.ResultOK)
	if got := answer.Receipts[0]; got.AnchoredSize == nil || *got.AnchoredSize <= got.Index {
		t.Errorf("data of grade 3 was released before the record was anchored: %+v", got)
	}
	t.Logf("grade 3: acknowledged after %s", time.Since(began).Round(time.Millisecond))
	log(grave, "timeout") // released nothing
	if got := answer.Receipts[0]; got.AnchoredSize != nil {
		t.Errorf("a call that released nothing waited for its anchor: %+v", got)
	}
	log(light, domain.ResultOK)
	if got := answer.Receipts[0]; got.AnchoredSize != nil {
		t.Errorf("data of grade 2 waited for the anchor: %+v", got)
	}
}

// TestAlarmWithinSeconds has 25 calls refused at once, each for its purpose, and
// waits for the alarm on the ledger as another department's gateway shows it.
func TestAlarmWithinSeconds(t *testing.T) {
	grant := replayGrant(t)
	var calls []domain.AccessRecord
	for range 25 {
		r := accessRecord(grant, domain.DirectionProvider, "call-"+randomHex(t, 8), time.Now())
		r.Purpose = "其他用途"
		calls = append(calls, r)
	}
	res, err := net.Gateway("police").Do(t.Context(), "operator", "POST", "/v1/access-records", inputs(t, calls...))
	must(t, err)
	if res.Status != http.StatusForbidden {
		t.Fatalf("calls for another purpose: status %d: %s", res.Status, res.Body)
	}
	refused := time.Now()
	var alarm domain.Alarm
	await(t, "the alarm about the refused calls", 30*time.Second, func() (bool, string) {
		var list struct {
			Items []consortium.Written[domain.Alarm] `json:"items"`
		}
		if err := net.Gateway("civil").Call(t.Context(), "auditor", "GET", "/v1/alarms?limit=200&state=open&department=civil", nil, 200, &list); err != nil {
			return false, err.Error()
		}
		i := slices.IndexFunc(list.Items, func(a consortium.Written[domain.Alarm]) bool {
			return a.Record.Kind == domain.AlarmUnusualUse && strings.HasPrefix(a.Record.Subject, grant.ID+"/"+domain.UnusualRefusals+"/")
		})
		if i < 0 {
			return false, fmt.Sprintf("%d other alarms", len(list.Items))
		}
		alarm = list.Items[i].Record
		return true, ""
	})
	took := time.Since(refused)
	t.Logf("the alarm was on the ledger %s after the calls were refused: %s", took.Round(time.Millisecond), alarm.Figures)
	if alarm.Department != "police" || alarm.Rule != domain.UnusualRefusals || len(alarm.Records) < 20 {
		t.Errorf("the alarm is %+v", alarm)
	}
	must(t, net.Gateway("bigdata").Call(t.Context(), "reviewer", "POST", "/v1/alarms/"+alarm.ID+"/actions/close", map[string]any{"finding": "演练"}, 200, nil))
}

// TestReleasesStopWithoutAnchors stops two of the four orderers, so that nothing can
// be anchored: once the backlog is as old as it may be, releases are refused, and the
// refusal is logged. When the orderers go on, the same call is released, and is one
// call with a refusal before it.
func TestReleasesStopWithoutAnchors(t *testing.T) {
	grant := replayGrant(t)
	police := net.Gateway("police")
	log := func(r domain.AccessRecord) consortium.Response {
		t.Helper()
		res, err := police.Do(t.Context(), "operator", "POST", "/v1/access-records", inputs(t, r))
		must(t, err)
		return res
	}
	use := func() domain.AccessRecord {
		return accessRecord(grant, domain.DirectionProvider, "call-"+randomHex(t, 8), time.Now())
	}
	if res := log(use()); res.Status != http.StatusCreated {
		t.Fatalf("before: status %d: %s", res.Status, res.Body)
	}
	goOn := sync.OnceFunc(func() {
		for _, department := range []string{"civil", "market"} {
			must(t, net.Signal(department, consortium.Orderer, syscall.SIGCONT))
		}
	})
	defer goOn()
	for _, department := range []string{"civil", "market"} {
		must(t, net.Signal(department, consortium.Orderer, syscall.SIGSTOP))
	}
	stopped := time.Now()
	var refused domain.AccessRecord
	released := 0
	await(t, "releases stop", 2*time.Minute, func() (bool, string) {
		refused = use()
		res := log(refused)
		switch {
		case res.Status == http.StatusCreated:
			released++
			time.Sleep(2 * time.Second)
		case res.Status == http.StatusServiceUnavailable && bytes.Contains(res.Body, []byte("evidence backlog")):
			if res.Header.Get("Retry-After") == "" {
				t.Error("the refusal does not say when to come again")
			}
			return true, ""
		}
		return false, fmt.Sprintf("status %d: %.300s", res.Status, res.Body)
	})
	lasted := time.Since(stopped)
	t.Logf("releases stopped %s after the last anchor could be made; %d were released meanwhile", lasted.Round(time.Second), released)
	if lasted < maxLag/2 || released == 0 { // a record of before that may have been the oldest
		t.Errorf("releases stopped %s after the last anchor could be made, and %d were released before", lasted, released)
	}
	goOn()
	resumed := time.Now()
	await(t, "releases go on", 2*time.Minute, func() (bool, string) {
		res := log(refused)
		return res.Status == http.StatusCreated, fmt.Sprintf("status %d: %.300s", res.Status, res.Body)
	})
	t.Logf("releases went on %s after the orderers did", time.Since(resumed).Round(time.Second))
	var results []string
	await(t, "the refusal and the release are indexed", 15*time.Second, func() (bool, string) {
		var page struct {
			Items []struct {
				Record domain.AccessRecord `json:"record"`
			} `json:"items"`
		}
		must(t, police.Call(t.Context(), "auditor", "GET", "/v1/audit/trace?limit=50&callId="+refused.CallID, nil, 200, &page))
		results = nil
		for _, row := range page.Items {
			results = append(results, row.Record.Result)
		}
		return slices.Contains(results, domain.ResultOK), fmt.Sprint(results)
	})
	if n := len(results); n < 2 || results[0] != domain.ResultOK || slices.Contains(results[1:], domain.ResultOK) || results[n-1] != "refused_backlog" {
		t.Errorf("the call was logged with the results %q, want one release after its refusals", results)
	}
	other := refused
	other.Direction = domain.DirectionConsumer
	// Later than the refusals, which all tell the same time: the trace is newest first.
	other.At, other.RespondedAt = other.At.Add(time.Millisecond), other.RespondedAt.Add(time.Millisecond)
	must(t, net.Gateway("civil").Call(t.Context(), "operator", "POST", "/v1/access-records", inputs(t, other), 201, nil))
	// Newest first: the two that count come before the refusals, however many.
	await(t, "the auditor has both sides", time.Minute, func() (bool, string) {
		var page struct {
			Items []struct {
				Record domain.AccessRecord `json:"record"`
			} `json:"items"`
		}
		must(t, net.Gateway("bigdata").Call(t.Context(), "auditor", "GET", "/v1/audit/trace?limit=50&callId="+refused.CallID, nil, 200, &page))
		released := map[domain.Direction]bool{}
		for _, row := range page.Items {
			released[row.Record.Direction] = released[row.Record.Direction] || row.Record.Result == domain.ResultOK
		}
		return released[domain.DirectionProvider] && released[domain.DirectionConsumer], fmt.Sprintf("%d records, released %v", len(page.Items), released)
	})
	await(t, "the call is no discrepancy", 30*time.Second, func() (bool, string) {
		var found struct {
			Items []struct {
				CallID string   `json:"callId"`
				State  string   `json:"state"`
				Fields []string `json:"fields"`
			} `json:"items"`
		}
		must(t, net.Gateway("bigdata").Call(t.Context(), "auditor", "GET", "/v1/audit/reconciliation/calls?limit=200&provider=police&consumer=civil", nil, 200, &found))
		for _, d := range found.Items {
			if d.CallID == refused.CallID {
				return false, fmt.Sprintf("%+v", d)
			}
		}
		return true, ""
	})
}

// TestRevokedGrantIsRefused revokes a grant through the lead's gateway and uses it
// at the provider's without pause: two seconds later nothing is released.
func TestRevokedGrantIsRefused(t *testing.T) {
	grant := replayGrant(t)
	awaitSeen(t, "bigdata", "/v1/grants/"+grant.ID)
	use := func() int {
		r := accessRecord(grant, domain.DirectionProvider, "call-"+randomHex(t, 8), time.Now())
		res, err := net.Gateway("police").Do(t.Context(), "operator", "POST", "/v1/access-records", inputs(t, r))
		must(t, err)
		return res.Status
	}
	if status := use(); status != http.StatusCreated {
		t.Fatalf("before: status %d", status)
	}
	must(t, net.Gateway("bigdata").Call(t.Context(), "reviewer", "POST", "/v1/grants/"+grant.ID+"/actions/revoke", map[string]any{"reason": "用途不符"}, 200, nil))
	revoked := time.Now()
	last := time.Duration(0)
	for time.Since(revoked) < 4*time.Second {
		began := time.Since(revoked)
		switch status := use(); status {
		case http.StatusCreated:
			last = began
		case http.StatusForbidden:
		default:
			t.Fatalf("status %d", status)
		}
	}
	t.Logf("the last release began %s after the revocation was answered", last.Round(time.Millisecond))
	if last > 2*time.Second {
		t.Errorf("released %s after the revocation, want at most 2 s", last)
	}
}

// TestGatewayKilled kills a department's gateway at random moments while records
// are logged and sent again until they are acknowledged: each call is in the log
// once, at the index that it was promised.
func TestGatewayKilled(t *testing.T) {
	const kills = 8
	grant := replayGrant(t)
	police := net.Gateway("police")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	promised := map[string]int64{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	stop := make(chan struct{})
	run := randomHex(t, 4)
	for client := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				var batch []domain.AccessRecord
				for i := range 25 {
					batch = append(batch, accessRecord(grant, domain.DirectionProvider, fmt.Sprintf("kill-%s-%d-%d-%d", run, client, n, i), time.Now()))
				}
				body := inputs(t, batch...)
				for ctx.Err() == nil {
					var got receipts
					if err := police.Call(ctx, "operator", "POST", "/v1/access-records", body, 201, &got); err != nil {
						time.Sleep(50 * time.Millisecond) // the gateway is down; it comes back by itself
						continue
					}
					mu.Lock()
					for _, r := range got.Receipts {
						promised[r.CallID] = r.Index
					}
					mu.Unlock()
					break
				}
			}
		})
	}
	for range kills {
		time.Sleep(time.Duration(200+rand.IntN(1500)) * time.Millisecond)
		must(t, net.Kill("police", consortium.GatewayOf))
		await(t, "the gateway is back by itself", 60*time.Second, func() (bool, string) {
			res, err := police.Do(ctx, "", "GET", "/readyz", nil)
			return err == nil && res.Status == http.StatusOK, fmt.Sprint(err, res.Status)
		})
	}
	close(stop)
	wg.Wait()
	if ctx.Err() != nil {
		t.Fatal(ctx.Err())
	}
	t.Logf("%d records acknowledged over %d kills", len(promised), kills)
	// The trace reads the index, which has the log's last entries a moment later.
	var last int64
	for _, index := range promised {
		last = max(last, index)
	}
	await(t, "the last record is indexed", 15*time.Second, func() (bool, string) {
		res, err := police.Do(ctx, "auditor", "GET", fmt.Sprintf("/v1/audit/trace?limit=1&grantId=%s", grant.ID), nil)
		var page struct {
			Items []struct {
				Index int64 `json:"index"`
			} `json:"items"`
		}
		if err == nil {
			err = json.Unmarshal(res.Body, &page)
		}
		return err == nil && len(page.Items) == 1 && page.Items[0].Index >= last, fmt.Sprint(err, page)
	})
	seen := map[string]int64{}
	for cursor := ""; ; {
		var page struct {
			Items []struct {
				Index  int64               `json:"index"`
				Record domain.AccessRecord `json:"record"`
			} `json:"items"`
			Next string `json:"next"`
		}
		must(t, police.Call(ctx, "auditor", "GET", "/v1/audit/trace?limit=200&grantId="+grant.ID+after(cursor), nil, 200, &page))
		for _, row := range page.Items {
			if !strings.HasPrefix(row.Record.CallID, "kill-"+run) {
				continue
			}
			if before, twice := seen[row.Record.CallID]; twice {
				t.Errorf("call %s is in the log at %d and %d", row.Record.CallID, before, row.Index)
			}
			seen[row.Record.CallID] = row.Index
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	lost := 0
	for call, index := range promised {
		if at, ok := seen[call]; !ok || at != index {
			lost++
		}
	}
	if lost > 0 || len(seen) != len(promised) {
		t.Errorf("%d of %d acknowledged records are not at their index; the log has %d calls", lost, len(promised), len(seen))
	}
}

// TestTooManyRecordsWait lets few records wait to be written: what does not fit is
// answered 429, says when to come again, and is logged once when it does.
func TestTooManyRecordsWait(t *testing.T) {
	grant := replayGrant(t)
	police := net.Gateway("police")
	own := filepath.Join(net.State, "departments", "police", consortium.GatewayOf, "own.json")
	restart := func() {
		must(t, net.Kill("police", consortium.GatewayOf))
		await(t, "the gateway is back by itself", 60*time.Second, func() (bool, string) {
			res, err := police.Do(t.Context(), "", "GET", "/readyz", nil)
			return err == nil && res.Status == http.StatusOK, fmt.Sprint(err, res.Status)
		})
	}
	must(t, os.WriteFile(own, []byte(`{"limits":{"recordsWaiting":1}}`), 0o600))
	defer func() {
		must(t, os.Remove(own))
		restart()
	}()
	restart()

	const clients, batch = 12, 20
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	refused, promised := 0, map[int64]string{}
	run := randomHex(t, 4)
	for client := range clients {
		wg.Go(func() {
			for n := 0; n < 5 && ctx.Err() == nil; {
				var records []domain.AccessRecord
				for i := range batch {
					records = append(records, accessRecord(grant, domain.DirectionProvider, fmt.Sprintf("wait-%s-%d-%d-%d", run, client, n, i), time.Now()))
				}
				res, err := police.Do(ctx, "operator", "POST", "/v1/access-records", inputs(t, records...))
				mu.Lock()
				switch wait, parseErr := strconv.Atoi(res.Header.Get("Retry-After")); {
				case err != nil:
					t.Error(err)
				case res.Status == http.StatusCreated:
					var got receipts
					if err := json.Unmarshal(res.Body, &got); err != nil {
						t.Error(err)
					}
					for _, r := range got.Receipts {
						promised[r.Index] = r.CallID
					}
					n++
				case res.Status == http.StatusTooManyRequests && parseErr == nil && wait > 0:
					refused++
				default:
					t.Errorf("status %d, Retry-After %q: %.300s", res.Status, res.Header.Get("Retry-After"), res.Body)
				}
				stop := t.Failed()
				mu.Unlock()
				if stop {
					return
				}
				if res.Status == http.StatusTooManyRequests {
					time.Sleep(20 * time.Millisecond) // sooner than it may: the next one is likely refused, too
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d requests of %d were refused before all were logged", refused, refused+clients*5)
	if refused == 0 || len(promised) != clients*5*batch {
		t.Errorf("%d requests were refused, and %d records have indexes of their own, want %d", refused, len(promised), clients*5*batch)
	}
	var log []int64
	for index := range promised {
		log = append(log, index)
	}
	if first, last := slices.Min(log), slices.Max(log); last-first != int64(len(log))-1 {
		t.Errorf("%d records lie at %d to %d of the log: what was refused was logged, too", len(log), first, last)
	}
}

// TestAudit pulls all departments' logs, checks them, asks what is in them,
// exports a part and verifies the export with no network.
func TestAudit(t *testing.T) {
	trailFile := filepath.Join(t.TempDir(), "trail.sqlite")
	started := time.Now()
	out, err := net.Run(t.Context(), "zhenglian", "audit", "pull", "--state", net.State, "--trail", trailFile)
	must(t, err)
	t.Logf("pulled in %s:\n%s", time.Since(started).Round(time.Millisecond), out)
	out, err = net.Run(t.Context(), "zhenglian", "audit", "trace", "--trail", trailFile, "--writer", "police", "--limit", "5", "--json")
	must(t, err)
	if !strings.Contains(string(out), `"police"`) {
		t.Errorf("the trace has no record of police:\n%.1000s", out)
	}
	_, err = net.Run(t.Context(), "zhenglian", "audit", "reconcile", "--trail", trailFile)
	must(t, err)
	folder := filepath.Join(t.TempDir(), "evidence")
	_, err = net.Run(t.Context(), "zhenglian", "audit", "export", "--state", net.State, "--range", "police=0:300", "--out", folder)
	must(t, err)
	trust := filepath.Join(net.State, "trust", "consortium.json")
	out, err = net.Run(t.Context(), "zhenglian", "verify", folder, "--trust", trust)
	must(t, err)
	t.Logf("%s", out)
	tampered := false
	must(t, filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || tampered || entry.IsDir() || !strings.Contains(path, "entries") {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		data[len(data)/2] ^= 1
		tampered = true
		return os.WriteFile(path, data, 0o600)
	}))
	if !tampered {
		t.Fatal("the evidence folder has no file of entries")
	}
	if out, err := net.Run(t.Context(), "zhenglian", "verify", folder, "--trust", trust); err == nil {
		t.Errorf("a changed entry was verified:\n%s", out)
	}
}

// TestTamperedLogIsReported changes a hash tile of a running log on disk: the
// other departments' gateways raise an alarm on the ledger, which the lead closes
// once the tile is back.
func TestTamperedLogIsReported(t *testing.T) {
	// All tiles of a log are looked at again in turn, two a second, whenever they were
	// verified before. This log is a short one.
	grant, lead := replayGrant(t), net.Gateway("bigdata")
	var uses []domain.AccessRecord
	for range 256 { // a full tile
		uses = append(uses, accessRecord(grant, domain.DirectionConsumer, "call-"+randomHex(t, 8), time.Now()))
	}
	var logged receipts
	must(t, net.Gateway("civil").Call(t.Context(), "operator", "POST", "/v1/access-records", inputs(t, uses...), 201, &logged))
	await(t, "the tile is verified", 30*time.Second, func() (bool, string) {
		var list struct {
			Items []struct {
				Department string `json:"department"`
				Watched    struct {
					Size    int64  `json:"size"`
					Problem string `json:"problem"`
				} `json:"watched"`
			} `json:"items"`
		}
		must(t, lead.Call(t.Context(), "auditor", "GET", "/v1/audit/logs", nil, 200, &list))
		for _, l := range list.Items {
			if l.Department == "civil" {
				return l.Watched.Size > logged.Receipts[255].Index && l.Watched.Problem == "", fmt.Sprintf("%+v", l.Watched)
			}
		}
		return false, "the log is not watched"
	})
	tile := filepath.Join(net.State, "departments", "civil", "gateway", "data", "log", "tile", "0", "000")
	whole, err := os.ReadFile(tile)
	must(t, err)
	open := func() []consortium.Written[domain.Alarm] {
		var list struct {
			Items []consortium.Written[domain.Alarm] `json:"items"`
		}
		must(t, lead.Call(t.Context(), "auditor", "GET", "/v1/alarms?limit=200&state=open&department=civil", nil, 200, &list))
		return slices.DeleteFunc(list.Items, func(a consortium.Written[domain.Alarm]) bool {
			return a.Record.Kind != domain.AlarmChangedEntry && a.Record.Kind != domain.AlarmMissingTile
		})
	}
	if before := open(); len(before) != 0 {
		t.Fatalf("alarms before anything was touched: %+v", before)
	}
	broken := bytes.Clone(whole)
	broken[40] ^= 1
	must(t, os.WriteFile(tile, broken, 0o600))
	changed := time.Now()
	restore := sync.OnceFunc(func() { must(t, os.WriteFile(tile, whole, 0o600)) })
	defer restore()
	var raised []consortium.Written[domain.Alarm]
	await(t, "an alarm about the changed tile", time.Minute, func() (bool, string) {
		raised = open()
		return len(raised) > 0, "none"
	})
	alarm := raised[0].Record
	t.Logf("%s about %s %s, raised by %s after %s: %s", alarm.Kind, alarm.About, alarm.Subject, alarm.Department, time.Since(changed).Round(time.Millisecond), alarm.Figures)
	restore()
	if alarm.Department == "civil" || !strings.HasPrefix(alarm.Subject, "tile/") {
		t.Errorf("the alarm is %+v", alarm)
	}
	path := "/v1/alarms/" + alarm.ID
	awaitSeen(t, "civil", path)
	res, err := net.Gateway("civil").Do(t.Context(), "reviewer", "POST", path+"/actions/close", map[string]any{"finding": "自行关闭"})
	must(t, err)
	if res.Status != http.StatusForbidden {
		t.Errorf("the department closed the alarm about itself: status %d: %s", res.Status, res.Body)
	}
	awaitSeen(t, "bigdata", path)
	must(t, lead.Call(t.Context(), "reviewer", "POST", path+"/actions/close", map[string]any{"finding": "已恢复并核对"}, 200, nil))
}
