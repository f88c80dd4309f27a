//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyperledger/fabric-gateway/pkg/client"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/test/consortium"
)

// published registers, reviews and publishes content and answers its code.
func published(t *testing.T, c domain.CatalogContent) string {
	t.Helper()
	f := &flow{code: c.Code}
	must(t, net.Gateway("police").Call(t.Context(), "operator", "POST", "/v1/catalog/entries", c, 201, nil))
	review(t, f)
	publish(t, f)
	return c.Code
}

// TestChangeOfEntry changes a published entry: the version in force stays until
// the change is approved, and the history says what changed.
func TestChangeOfEntry(t *testing.T) {
	c := content(newCode())
	published(t, c)
	changed := c
	changed.Items = slices.Clone(c.Items)
	changed.Items[1].Level, changed.Level = 3, 3
	var w consortium.Written[domain.CatalogEntry]
	must(t, net.Gateway("police").Call(t.Context(), "operator", "POST", entryPath(c.Code)+"/actions/change", changed, 200, &w))
	if w.Record.State != domain.CatalogChangePending || w.Record.Version != 1 || w.Record.Content.Level != 2 {
		t.Fatalf("while the change is pending: %+v", w.Record)
	}
	awaitState(t, "bigdata", c.Code, domain.CatalogChangePending)
	must(t, net.Gateway("bigdata").Call(t.Context(), "reviewer", "POST", entryPath(c.Code)+"/actions/review",
		map[string]any{"decision": "approve", "opinion": ""}, 200, &w))
	if w.Record.State != domain.CatalogPublished || w.Record.Version != 2 || w.Record.Content.Level != 3 {
		t.Fatalf("after the change: %+v", w.Record)
	}
	var history struct {
		Items []struct {
			Entry   consortium.Written[domain.CatalogEntry] `json:"entry"`
			Changes []domain.FieldChange                    `json:"changes"`
		} `json:"items"`
	}
	must(t, net.Gateway("bigdata").Call(t.Context(), "auditor", "GET", entryPath(c.Code)+"/history?limit=200", nil, 200, &history))
	var fields []string
	for _, step := range history.Items {
		if step.Entry.Record.Event == "change" {
			for _, change := range step.Changes {
				fields = append(fields, change.Field+" "+change.Before+" "+change.After)
			}
		}
	}
	if want := []string{"items[登记日期].level 2 3", "level 2 3"}; !slices.Equal(fields, want) {
		t.Errorf("the history says %q, want %q", fields, want)
	}
}

// TestRequestsOnTheNetwork takes requests down the roads that the flow does not
// take: returned and supplemented, refused, disputed and remanded, extended.
func TestRequestsOnTheNetwork(t *testing.T) {
	code := published(t, content(newCode()))
	f := &flow{code: code, requestID: randomHex(t, 16)}
	request(t, f)
	id := f.requestID
	act(t, "bigdata", "reviewer", id, domain.RequestSubmitted, "accept", map[string]any{"decision": "return", "reason": "申请函件缺少签章"}, domain.RequestReturned)
	var w consortium.Written[domain.ShareRequest]
	awaitRequest(t, "civil", id, domain.RequestReturned)
	must(t, net.Gateway("civil").Call(t.Context(), "operator", "GET", "/v1/requests/"+id, nil, 200, &w))
	if w.Record.Clock == nil || w.Record.Clock.StoppedAt == nil {
		t.Errorf("the clock of a returned request runs: %+v", w.Record.Clock)
	}
	content := w.Record.Content
	content.LetterDigest = domain.Digest([]byte("signed letter"))
	act(t, "civil", "operator", id, domain.RequestReturned, "supplement", content, domain.RequestSubmitted)
	act(t, "bigdata", "reviewer", id, domain.RequestSubmitted, "accept", map[string]any{"decision": "accept", "reason": ""}, domain.RequestAccepted)
	asked := act(t, "police", "reviewer", id, domain.RequestAccepted, "extend", map[string]any{"days": 3, "reason": "需要核对口径"}, domain.RequestAccepted)
	if asked.Extension == nil {
		t.Fatal("no extension is asked for")
	}
	await(t, "bigdata sees the extension", 15*time.Second, func() (bool, string) {
		err := net.Gateway("bigdata").Call(t.Context(), "reviewer", "GET", "/v1/requests/"+id, nil, 200, &w)
		return err == nil && w.Record.Extension != nil, fmt.Sprint(err)
	})
	extended := act(t, "bigdata", "reviewer", id, domain.RequestAccepted, "decide-extension", map[string]any{"decision": "grant", "reason": ""}, domain.RequestExtended)
	if !extended.Clock.DueAt.After(asked.Clock.DueAt) {
		t.Errorf("extended from %s to %s", asked.Clock.DueAt, extended.Clock.DueAt)
	}
	refuse := map[string]any{"decision": "refuse", "reason": "不属于职责范围", "legalBasis": []string{"《政务数据共享条例》"}}
	act(t, "police", "reviewer", id, domain.RequestExtended, "answer", refuse, domain.RequestRefused)
	act(t, "civil", "operator", id, domain.RequestRefused, "dispute", map[string]any{"reason": "属于法定职责"}, domain.RequestDisputed)
	act(t, "bigdata", "reviewer", id, domain.RequestDisputed, "mediate", map[string]any{"decision": "remand", "reason": "应当共享"}, domain.RequestMediated)
	act(t, "police", "reviewer", id, domain.RequestMediated, "answer", map[string]any{"decision": "agree", "reason": ""}, domain.RequestAgreed)
	awaitSeen(t, "civil", "/v1/grants/"+id)

	var events struct {
		Items []consortium.Written[domain.RequestEvent] `json:"items"`
	}
	awaitRequest(t, "civil", id, domain.RequestAgreed)
	must(t, net.Gateway("civil").Call(t.Context(), "auditor", "GET", "/v1/requests/"+id+"/history?limit=200", nil, 200, &events))
	var names []string
	var list []domain.RequestEvent
	for _, e := range events.Items {
		names, list = append(names, e.Record.Event), append(list, e.Record)
	}
	want := []string{"submit", "return", "supplement", "accept", "ask_extension", "extend", "refuse", "dispute", "remand", "agree"}
	if !slices.Equal(names, want) {
		t.Errorf("history %q, want %q", names, want)
	}
	replayed, err := domain.ReplayRequest(list)
	must(t, err)
	must(t, net.Gateway("civil").Call(t.Context(), "auditor", "GET", "/v1/requests/"+id, nil, 200, &w))
	a, _ := json.Marshal(replayed) //nolint:errchkjson // plain structs
	b, _ := json.Marshal(w.Record) //nolint:errchkjson // plain structs
	if !bytes.Equal(a, b) {
		t.Errorf("replayed %s\nstored   %s", a, b)
	}

	// The grant: suspended by the lead, which only the lead undoes.
	var g consortium.Written[domain.Grant]
	grants := "/v1/grants/" + id + "/actions/"
	awaitSeen(t, "bigdata", "/v1/grants/"+id)
	must(t, net.Gateway("bigdata").Call(t.Context(), "reviewer", "POST", grants+"suspend", map[string]any{"reason": "用途核查"}, 200, &g))
	if g.Record.State != domain.GrantSuspended {
		t.Fatalf("suspended: %s", g.Record.State)
	}
	await(t, "police sees the suspension", 2*time.Second, func() (bool, string) {
		err := net.Gateway("police").Call(t.Context(), "operator", "GET", "/v1/grants/"+id, nil, 200, &g)
		return err == nil && g.Record.State == domain.GrantSuspended, fmt.Sprint(err, g.Record.State)
	})
	res, err := net.Gateway("police").Do(t.Context(), "operator", "POST", "/v1/access-records",
		inputs(t, accessRecord(g.Record, domain.DirectionProvider, "call-"+randomHex(t, 8), time.Now())))
	must(t, err)
	if res.Status != http.StatusForbidden || !strings.Contains(string(res.Body), "suspended") {
		t.Errorf("a use of a suspended grant: status %d: %s", res.Status, res.Body)
	}
	res, err = net.Gateway("police").Do(t.Context(), "reviewer", "POST", grants+"resume", map[string]any{"reason": "已核查"})
	must(t, err)
	if res.Status != http.StatusForbidden {
		t.Errorf("the provider resumed what the lead suspended: status %d: %s", res.Status, res.Body)
	}
	must(t, net.Gateway("bigdata").Call(t.Context(), "reviewer", "POST", grants+"resume", map[string]any{"reason": "已核查"}, 200, &g))
	awaitGrant(t, "police", id, domain.GrantActive)
	must(t, net.Gateway("police").Call(t.Context(), "reviewer", "POST", grants+"revoke", map[string]any{"reason": "使用结束"}, 200, &g))
	if g.Record.State != domain.GrantRevoked {
		t.Errorf("revoked: %s", g.Record.State)
	}
}

func awaitGrant(t *testing.T, department, id string, state domain.GrantState) {
	t.Helper()
	await(t, fmt.Sprintf("%s sees the grant %s", department, state), 15*time.Second, func() (bool, string) {
		var g consortium.Written[domain.Grant]
		err := net.Gateway(department).Call(t.Context(), "operator", "GET", "/v1/grants/"+id, nil, 200, &g)
		return err == nil && g.Record.State == state, fmt.Sprint(err, g.Record.State)
	})
}

// TestFiftyWriters has fifty callers answer one request at the same time: one
// answer counts, and every other caller learns the state that it left.
func TestFiftyWriters(t *testing.T) {
	f := &flow{code: published(t, content(newCode())), requestID: randomHex(t, 16)}
	request(t, f)
	accept(t, f)
	awaitRequest(t, "police", f.requestID, domain.RequestAccepted)
	const writers = 50
	statuses, bodies := make([]int, writers), make([]string, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			body := map[string]any{"decision": "agree", "reason": fmt.Sprintf("写入者 %d", i)}
			res, err := net.Gateway("police").DoWith(t.Context(), "reviewer", "POST", "/v1/requests/"+f.requestID+"/actions/answer", body,
				http.Header{"Idempotency-Key": {fmt.Sprintf("writer-%d-%s", i, f.requestID)}})
			if err != nil {
				t.Error(err)
				return
			}
			statuses[i], bodies[i] = res.Status, string(res.Body)
		})
	}
	wg.Wait()
	won := 0
	for i, status := range statuses {
		switch {
		case status == http.StatusOK:
			won++
		case status != http.StatusConflict || !strings.Contains(bodies[i], `"conflict"`):
			t.Errorf("writer %d: status %d: %s", i, status, bodies[i])
		}
	}
	if won != 1 {
		t.Errorf("%d of %d writers were told that they had answered, want 1", won, writers)
	}
	var events struct {
		Items []consortium.Written[domain.RequestEvent] `json:"items"`
	}
	must(t, net.Gateway("police").Call(t.Context(), "auditor", "GET", "/v1/requests/"+f.requestID+"/history?limit=200", nil, 200, &events))
	if len(events.Items) != 3 { // submit, accept, agree
		t.Errorf("the request has %d events, want 3", len(events.Items))
	}

	// The same operation asked for by fifty callers is one effect and one answer.
	c := content(newCode())
	var mu sync.Mutex
	answers := map[string]int{}
	for range writers {
		wg.Go(func() {
			res, err := net.Gateway("police").DoWith(t.Context(), "operator", "POST", "/v1/catalog/entries", c,
				http.Header{"Idempotency-Key": {"register-" + c.Code}})
			if err != nil {
				t.Error(err)
				return
			}
			var w consortium.Written[json.RawMessage]
			if err := json.Unmarshal(res.Body, &w); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			answers[fmt.Sprintf("%d %s", res.Status, w.Record)]++
		})
	}
	wg.Wait()
	if len(answers) != 1 {
		t.Errorf("one operation was answered in %d ways: %v", len(answers), answers)
	}
}

// TestOwnRecordsNeedTheOwner has a change of a department's entry endorsed by
// everybody but the department: the peers must find it invalid. An honest change
// goes through while another department's peer is down.
func TestOwnRecordsNeedTheOwner(t *testing.T) {
	c := content(newCode())
	must(t, net.Gateway("police").Call(t.Context(), "operator", "POST", "/v1/catalog/entries", c, 201, nil))
	awaitState(t, "bigdata", c.Code, domain.CatalogRegPending)
	lead, err := net.Fabric("bigdata", "reviewer")
	must(t, err)
	defer lead.Close()
	argument, err := domain.Canonical(domain.ReviewCatalogArgs{Code: c.Code, Decision: domain.Approve})
	must(t, err)
	submit := func(orgs ...string) error {
		proposal, err := lead.Contract.NewProposal("catalog:Review", client.WithBytesArguments(argument), client.WithEndorsingOrganizations(orgs...))
		must(t, err)
		endorsed, err := proposal.EndorseWithContext(t.Context())
		must(t, err)
		commit, err := endorsed.SubmitWithContext(t.Context())
		must(t, err)
		status, err := commit.StatusWithContext(t.Context())
		must(t, err)
		if !status.Successful {
			return &invalidError{status.Code}
		}
		return nil
	}
	err = submit("BigdataMSP", "CivilMSP", "MarketMSP")
	var invalid *invalidError
	if !errors.As(err, &invalid) || invalid.code != peer.TxValidationCode_ENDORSEMENT_POLICY_FAILURE {
		t.Fatalf("endorsed by three others: %v, want ENDORSEMENT_POLICY_FAILURE", err)
	}
	var w consortium.Written[domain.CatalogEntry]
	must(t, net.Gateway("police").Call(t.Context(), "operator", "GET", entryPath(c.Code), nil, 200, &w))
	if w.Record.State != domain.CatalogRegPending {
		t.Fatalf("the invalid change took effect: %s", w.Record.State)
	}

	must(t, net.Kill("market", consortium.Peer))
	stop := hold(t, "market", consortium.Peer)
	defer stop()
	body := map[string]any{"decision": "approve", "opinion": ""}
	must(t, net.Gateway("bigdata").Call(t.Context(), "reviewer", "POST", entryPath(c.Code)+"/actions/review", body, 200, &w))
	if w.Record.State != domain.CatalogRegistered {
		t.Errorf("with one other department down: %s", w.Record.State)
	}
	stop()
	await(t, "the department catches up", 60*time.Second, func() (bool, string) { return equalHeights(t) })
}

type invalidError struct{ code peer.TxValidationCode }

func (e *invalidError) Error() string { return e.code.String() }

// TestSearchInboxIndicators asks the read model what departments ask it.
func TestSearchInboxIndicators(t *testing.T) {
	c := content(newCode())
	c.Name = "殡葬服务机构核验信息 " + c.Code
	must(t, net.Gateway("police").Call(t.Context(), "operator", "POST", "/v1/catalog/entries", c, 201, nil))
	awaitState(t, "bigdata", c.Code, domain.CatalogRegPending)
	var found struct {
		Items []consortium.Written[domain.CatalogEntry] `json:"items"`
	}
	for _, query := range []string{"text=" + urlQuery("殡葬"), "text=" + urlQuery("殡葬服务机构") + "&state=reg_pending", "provider=police&text=" + urlQuery(c.Code)} {
		must(t, net.Gateway("bigdata").Call(t.Context(), "auditor", "GET", "/v1/catalog/entries?limit=50&"+query, nil, 200, &found))
		if !slices.ContainsFunc(found.Items, func(w consortium.Written[domain.CatalogEntry]) bool { return w.Record.Content.Code == c.Code }) {
			t.Errorf("%s does not find the entry among %d", query, len(found.Items))
		}
	}
	seen := false
	var last time.Time
	for cursor := ""; ; {
		var inbox struct {
			Items []struct {
				ID   string `json:"id"`
				Task struct {
					Transaction string     `json:"transaction"`
					DueAt       *time.Time `json:"dueAt"`
				} `json:"task"`
			} `json:"items"`
			Next string `json:"next"`
		}
		must(t, net.Gateway("bigdata").Call(t.Context(), "reviewer", "GET", "/v1/inbox?limit=200"+after(cursor), nil, 200, &inbox))
		for _, item := range inbox.Items {
			if due := item.Task.DueAt; due != nil {
				if due.Before(last) {
					t.Errorf("the inbox is not in order of due times: %s after %s", due, last)
				}
				last = *due
			}
			seen = seen || item.ID == c.Code && item.Task.Transaction == "catalog:Review"
		}
		if cursor = inbox.Next; cursor == "" {
			break
		}
	}
	if !seen {
		t.Errorf("the lead's inbox lacks the review of %s", c.Code)
	}
	var indicators struct {
		Items []struct {
			Code    string   `json:"code"`
			Value   *float64 `json:"value"`
			Query   string   `json:"query"`
			Records string   `json:"records"`
		} `json:"items"`
	}
	must(t, net.Gateway("market").Call(t.Context(), "auditor", "GET", "/v1/indicators", nil, 200, &indicators))
	if len(indicators.Items) < 7 {
		t.Errorf("%d indicators, want at least 7", len(indicators.Items))
	}
	for _, i := range indicators.Items {
		if i.Code == "" || i.Query == "" || i.Records == "" {
			t.Errorf("indicator %+v does not say how to recompute it", i)
		}
	}
}

// TestIndexRebuild compares a stopped gateway's index with one rebuilt from block 0.
func TestIndexRebuild(t *testing.T) {
	must(t, net.Kill("police", consortium.GatewayOf))
	stop := hold(t, "police", consortium.GatewayOf)
	defer func() { // the tests after this one need the gateway
		stop()
		await(t, "the gateway is back", 60*time.Second, func() (bool, string) {
			res, err := net.Gateway("police").Do(context.Background(), "", "GET", "/readyz", nil)
			return err == nil && res.Status == http.StatusOK, fmt.Sprint(err, res.Status)
		})
	}()
	out, err := net.Run(t.Context(), "zhenglian", "index", "rebuild", "--check", "--config",
		filepath.Join(net.State, "departments", "police", "gateway", "gateway.json"))
	must(t, err)
	t.Logf("%s", out)
	if !strings.Contains(string(out), "equal") {
		t.Errorf("the rebuilt index was not found equal:\n%s", out)
	}
}
