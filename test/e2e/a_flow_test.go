//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	_ "image/png"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/statuslist"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/test/consortium"
)

// TestSample checks what "make up" runs after the network is ready, and that a
// second run changes nothing.
func TestSample(t *testing.T) {
	for _, want := range []string{net.Gateway("bigdata").URL, net.Gateway("police").URL + "/v/", "zhenglian verify"} {
		if !strings.Contains(string(sampleOutput), want) {
			t.Errorf("sample printed no %q:\n%s", want, sampleOutput)
		}
	}
	before := height(t)
	started := time.Now()
	_, err := net.Run(t.Context(), "zhenglian", "sample", "--state", net.State)
	must(t, err)
	if wrote := transactionsFrom(t, before); len(wrote) > 0 {
		t.Errorf("a second run wrote %q", wrote)
	}
	t.Logf("second run took %s", time.Since(started).Round(time.Millisecond))

	await(t, "the lead's gateway has the sample's 12 catalog entries", 15*time.Second, func() (bool, string) {
		var list struct {
			Items []consortium.Written[domain.CatalogEntry] `json:"items"`
		}
		err := net.Gateway("bigdata").Call(t.Context(), "auditor", "GET", "/v1/catalog/entries?limit=200&state=published", nil, 200, &list)
		return err == nil && len(list.Items) >= 12, fmt.Sprint(err, len(list.Items)) // more when -reuse is given
	})
}

func height(t *testing.T) uint64 {
	t.Helper()
	var chain struct {
		Height uint64 `json:"height"`
	}
	must(t, net.Gateway("bigdata").Call(t.Context(), "auditor", "GET", "/v1/chain", nil, 200, &chain))
	return chain.Height
}

// transactionsFrom names the transactions from block number on, but for those that
// gateways submit from time to time by themselves.
func transactionsFrom(t *testing.T, number uint64) []string {
	t.Helper()
	var names []string
	for end := height(t); number < end; number++ {
		var block domain.Block
		await(t, "the index has the block", 15*time.Second, func() (bool, string) {
			err := net.Gateway("bigdata").Call(t.Context(), "auditor", "GET", fmt.Sprintf("/v1/chain/blocks/%d", number), nil, 200, &block)
			return err == nil, fmt.Sprint(err)
		})
		for _, tx := range block.Transactions {
			if name := tx.Contract + ":" + tx.Name; name != "access:Anchor" && name != "evidence:Attest" {
				names = append(names, name)
			}
		}
	}
	return names
}

// flow carries what one step leaves for the next.
type flow struct {
	code      string
	requestID string
	grant     domain.Grant
	records   []domain.AccessRecord
	index     int64
	ref, link string
	proofFile string
	issuing   map[string]any // the body that the certificate was issued with
	place     int            // its bit in the status lists
}

// TestFlow follows one resource and one certificate through everything the
// system does, on the real network.
func TestFlow(t *testing.T) {
	f := &flow{
		code:      "306001/" + fmt.Sprintf("%06d", time.Now().Unix()%1_000_000),
		requestID: randomHex(t, 16),
	}
	steps := []struct {
		name string
		run  func(*testing.T, *flow)
	}{
		{"register", register},
		{"review", review},
		{"publish", publish},
		{"request", request},
		{"accept", accept},
		{"answer", answer},
		{"deliver", deliver},
		{"access", access},
		{"anchor", anchor},
		{"audit row", auditRow},
		{"proofs of records", proveRecords},
		{"certificate", issue},
		{"two persons", approve},
		{"qr", scan},
		{"page valid", pageValid},
		{"proof", fetchProof},
		{"verify offline", verifyOffline},
		{"verify refuses", verifyRefuses},
		{"check a file", checkFile},
		{"suspend and restore", suspend},
		{"replace", replace},
		{"batch", batch},
		{"revoke", revoke},
		{"page revoked", pageRevoked},
		{"status list", statusLists},
		{"chain", chain},
	}
	for _, s := range steps {
		if !t.Run(s.name, func(t *testing.T) { s.run(t, f) }) {
			t.Fatalf("step %q failed; the later ones need it", s.name)
		}
	}
}

func content(code string) domain.CatalogContent {
	return domain.CatalogContent{
		Code: code, Name: "居住登记核验信息 " + code, Abstract: "用于核验居住登记状态的结果信息。",
		ProviderUSCC: "11990000A0000002XT", Classification: "公共安全", Format: "api",
		Items: []domain.CatalogItem{
			{Name: "登记状态", Type: "C", Level: 2, ShareType: domain.Conditional},
			{Name: "登记日期", Type: "D", Level: 2, ShareType: domain.Conditional},
		},
		ShareType: domain.Conditional, ShareCondition: "仅用于婚姻登记办理时核验",
		LegalBasis: []string{"《政务数据共享条例》（国务院令第809号）"}, ShareMode: "platform_api",
		OpenType: domain.NotOpen, UpdateCycle: "daily", RelatedCodes: []string{},
		DutyRef: "居住登记管理", SystemRef: "居住登记系统", RegionCode: "370200", Level: 2, PersonalData: "general",
	}
}

func register(t *testing.T, f *flow) {
	body := content(f.code)
	police := net.Gateway("police")
	for _, c := range []struct {
		name, department, role string
		want                   int
	}{
		{"no token", "police", "", 401},
		{"auditor may not write", "police", "auditor", 403},
		{"reviewer may not register", "police", "reviewer", 403},
		{"another department may not register under the provider's code", "civil", "operator", 400},
	} {
		res, err := net.Gateway(c.department).Do(t.Context(), c.role, "POST", "/v1/catalog/entries", body)
		must(t, err)
		if res.Status != c.want && (c.want != 400 || res.Status != 403) {
			t.Errorf("%s: status %d, want %d: %s", c.name, res.Status, c.want, res.Body)
		}
		if ct := res.Header.Get("Content-Type"); !strings.HasPrefix(ct, "application/problem+json") {
			t.Errorf("%s: content type %q, want a problem document", c.name, ct)
		}
	}
	var w consortium.Written[domain.CatalogEntry]
	must(t, police.Call(t.Context(), "operator", "POST", "/v1/catalog/entries", body, 201, &w))
	if w.Record.State != domain.CatalogRegPending || w.Record.Provider != "police" || w.Block == 0 {
		t.Fatalf("registered %+v", w)
	}
	res, err := police.Do(t.Context(), "operator", "POST", "/v1/catalog/entries", body)
	must(t, err)
	if res.Status != 409 {
		t.Errorf("registered twice: status %d, want 409: %s", res.Status, res.Body)
	}
}

func entryPath(code string) string { return "/v1/catalog/entries/" + url.PathEscape(code) }

func urlQuery(s string) string { return url.QueryEscape(s) }

func review(t *testing.T, f *flow) {
	body := map[string]any{"decision": "approve", "opinion": "符合编制要求"}
	path := entryPath(f.code) + "/actions/review"
	res, err := net.Gateway("police").Do(t.Context(), "reviewer", "POST", path, body)
	must(t, err)
	if res.Status != 403 {
		t.Errorf("the provider reviewed its own entry: status %d: %s", res.Status, res.Body)
	}
	var w consortium.Written[domain.CatalogEntry]
	awaitSeen(t, "bigdata", entryPath(f.code))
	must(t, net.Gateway("bigdata").Call(t.Context(), "reviewer", "POST", path, body, 200, &w))
	if w.Record.State != domain.CatalogRegistered {
		t.Fatalf("after review: %s", w.Record.State)
	}
}

// awaitSeen waits until another department's gateway has indexed a record.
func awaitSeen(t *testing.T, department, path string) {
	t.Helper()
	await(t, department+" sees "+path, 15*time.Second, func() (bool, string) {
		res, err := net.Gateway(department).Do(t.Context(), "auditor", "GET", path, nil)
		if err != nil {
			return false, err.Error()
		}
		return res.Status == 200, fmt.Sprintf("status %d: %s", res.Status, res.Body)
	})
}

// awaitState waits until a department's gateway has an entry in a state: each
// peer commits a block in its own time.
func awaitState(t *testing.T, department, code string, state domain.CatalogState) {
	t.Helper()
	await(t, fmt.Sprintf("%s sees the entry %s", department, state), 15*time.Second, func() (bool, string) {
		var w consortium.Written[domain.CatalogEntry]
		err := net.Gateway(department).Call(t.Context(), "operator", "GET", entryPath(code), nil, 200, &w)
		return err == nil && w.Record.State == state, fmt.Sprint(err, w.Record.State)
	})
}

func publish(t *testing.T, f *flow) {
	awaitState(t, "police", f.code, domain.CatalogRegistered)
	var w consortium.Written[domain.CatalogEntry]
	must(t, net.Gateway("police").Call(t.Context(), "operator", "POST", entryPath(f.code)+"/actions/publish", nil, 200, &w))
	if w.Record.State != domain.CatalogPubPending || w.Record.Review == nil || !w.Record.Review.DueAt.After(time.Now()) {
		t.Fatalf("after publish: %s, clock %+v", w.Record.State, w.Record.Review)
	}
	awaitState(t, "bigdata", f.code, domain.CatalogPubPending)
	body := map[string]any{"decision": "approve", "opinion": "同意发布"}
	must(t, net.Gateway("bigdata").Call(t.Context(), "reviewer", "POST", entryPath(f.code)+"/actions/review", body, 200, &w))
	if w.Record.State != domain.CatalogPublished {
		t.Fatalf("after the review of the publication: %s", w.Record.State)
	}
	awaitState(t, "civil", f.code, domain.CatalogPublished)
}

func request(t *testing.T, f *flow) {
	from := time.Now().UTC().Truncate(time.Second).Add(-time.Minute)
	body := domain.ShareRequestContent{
		ID: f.requestID, CatalogCode: f.code, Items: []string{"登记状态"}, Purpose: "婚姻登记核验",
		UseBasis: "《婚姻登记条例》", ServiceItem: "000512001000", ShareMode: "platform_api",
		Period: domain.Period{From: from, To: from.AddDate(1, 0, 0)}, Quota: domain.Quota{Total: 100_000, PerDay: 100_000, PerMinute: 100_000},
		LetterDigest: domain.Digest([]byte("application letter")), SecurityMeasures: "专线传输，结果不落地",
	}
	var w consortium.Written[domain.ShareRequest]
	must(t, net.Gateway("civil").Call(t.Context(), "operator", "POST", "/v1/requests", body, 201, &w))
	if w.Record.State != domain.RequestSubmitted || w.Record.Consumer != "civil" || w.Record.Provider != "police" {
		t.Fatalf("requested %+v", w.Record)
	}
}

// awaitRequest waits until a department's gateway has the request in a state.
func awaitRequest(t *testing.T, department, id string, state domain.RequestState) {
	t.Helper()
	await(t, fmt.Sprintf("%s sees the request %s", department, state), 15*time.Second, func() (bool, string) {
		var w consortium.Written[domain.ShareRequest]
		err := net.Gateway(department).Call(t.Context(), "operator", "GET", "/v1/requests/"+id, nil, 200, &w)
		return err == nil && w.Record.State == state, fmt.Sprint(err, w.Record.State)
	})
}

// act runs an action on a request as soon as the department's gateway sees the
// state it needs, and checks the state after it.
func act(t *testing.T, department, role, id string, from domain.RequestState, action string, body any, to domain.RequestState) domain.ShareRequest {
	t.Helper()
	awaitRequest(t, department, id, from)
	var w consortium.Written[domain.ShareRequest]
	must(t, net.Gateway(department).Call(t.Context(), role, "POST", "/v1/requests/"+id+"/actions/"+action, body, 200, &w))
	if w.Record.State != to {
		t.Fatalf("after %s: %s, want %s", action, w.Record.State, to)
	}
	return w.Record
}

func accept(t *testing.T, f *flow) {
	path := "/v1/requests/" + f.requestID
	awaitSeen(t, "police", path)
	body := map[string]any{"decision": "accept", "reason": ""}
	res, err := net.Gateway("police").Do(t.Context(), "reviewer", "POST", path+"/actions/accept", body)
	must(t, err)
	if res.Status != 403 {
		t.Errorf("the provider checked a request for its own data: status %d: %s", res.Status, res.Body)
	}
	r := act(t, "bigdata", "reviewer", f.requestID, domain.RequestSubmitted, "accept", body, domain.RequestAccepted)
	if r.Clock == nil || r.Clock.Event != domain.DeadlineRequestAnswer || r.Clock.LegalBasis == "" {
		t.Errorf("the provider's time limit is %+v", r.Clock)
	}
}

func deliver(t *testing.T, f *flow) {
	note := map[string]any{"deliveryDigest": domain.Digest([]byte("delivery note"))}
	act(t, "police", "operator", f.requestID, domain.RequestAgreed, "deliver", note, domain.RequestDelivered)
	act(t, "civil", "operator", f.requestID, domain.RequestDelivered, "confirm", map[string]any{"decision": "confirm", "reason": ""}, domain.RequestActive)
}

func answer(t *testing.T, f *flow) {
	path := "/v1/requests/" + f.requestID
	body := map[string]any{"decision": "agree", "reason": "符合共享条件"}
	awaitRequest(t, "police", f.requestID, domain.RequestAccepted)
	res, err := net.Gateway("civil").Do(t.Context(), "reviewer", "POST", path+"/actions/answer", body)
	must(t, err)
	if res.Status != 403 {
		t.Errorf("the consumer answered its own request: status %d: %s", res.Status, res.Body)
	}
	var w consortium.Written[domain.ShareRequest]
	must(t, net.Gateway("police").Call(t.Context(), "reviewer", "POST", path+"/actions/answer", body, 200, &w))
	if w.Record.State != domain.RequestAgreed || w.Record.GrantID == "" {
		t.Fatalf("answered %+v", w.Record)
	}
	awaitSeen(t, "civil", "/v1/grants/"+w.Record.GrantID)
	var g consortium.Written[domain.Grant]
	must(t, net.Gateway("civil").Call(t.Context(), "operator", "GET", "/v1/grants/"+w.Record.GrantID, nil, 200, &g))
	f.grant = g.Record
}

func accessRecord(g domain.Grant, direction domain.Direction, call string, at time.Time) domain.AccessRecord {
	return domain.AccessRecord{
		Direction: direction, CallID: call, GrantID: g.ID, CatalogCode: g.CatalogCode, CatalogVersion: g.CatalogVersion,
		Items: g.Items, Provider: g.Provider, Consumer: g.Consumer, Purpose: g.Purpose, ServiceItem: g.ServiceItem,
		System: "marriage-registration", Operator: "op-7f3a", OperatorRole: "clerk", RecordCount: 1,
		RequestDigest: domain.Digest([]byte("request " + call)), ResponseDigest: domain.Digest([]byte("response " + call)),
		LegalBasis: "《婚姻登记条例》", Channel: domain.ChannelAPI,
		At: at.UTC().Truncate(time.Millisecond), RespondedAt: at.UTC().Truncate(time.Millisecond), Result: "ok",
	}
}

// inputs is what a client sends of access records: what the gateway fills in is
// left out.
func inputs(t *testing.T, records ...domain.AccessRecord) map[string]any {
	t.Helper()
	list := make([]map[string]any, len(records))
	for i, r := range records {
		data, err := json.Marshal(r)
		must(t, err)
		must(t, json.Unmarshal(data, &list[i]))
		delete(list[i], "schema")
		delete(list[i], "loggedAt")
		delete(list[i], "grantSeq")
	}
	return map[string]any{"records": list}
}

type receipts struct {
	Receipts []struct {
		CallID   string `json:"callId"`
		Index    int64  `json:"index"`
		LeafHash string `json:"leafHash"`
	} `json:"receipts"`
	Promise string `json:"promise"`
}

func access(t *testing.T, f *flow) {
	police := net.Gateway("police")
	call := "call-" + randomHex(t, 8)
	r := accessRecord(f.grant, domain.DirectionProvider, call, time.Now())

	outside := r
	outside.CallID, outside.Items = "call-"+randomHex(t, 8), []string{"登记日期"}
	res, err := police.Do(t.Context(), "operator", "POST", "/v1/access-records", inputs(t, outside))
	must(t, err)
	if res.Status != 403 && res.Status != 400 {
		t.Errorf("an access outside the grant: status %d: %s", res.Status, res.Body)
	}

	var got receipts
	must(t, police.Call(t.Context(), "operator", "POST", "/v1/access-records", inputs(t, r), 201, &got))
	if len(got.Receipts) != 1 || got.Receipts[0].CallID != call || got.Promise == "" {
		t.Fatalf("receipts %+v", got)
	}
	f.index, f.records = got.Receipts[0].Index, []domain.AccessRecord{r, outside}
}

func anchor(t *testing.T, f *flow) {
	var list struct {
		Items []consortium.Written[domain.Anchor] `json:"items"`
	}
	await(t, "the record is anchored", 30*time.Second, func() (bool, string) {
		err := net.Gateway("bigdata").Call(t.Context(), "auditor", "GET", "/v1/anchors?department=police&limit=200", nil, 200, &list)
		for _, a := range list.Items {
			if a.Record.Size > uint64(f.index) {
				return true, ""
			}
		}
		return false, fmt.Sprintf("%d anchors, error %v", len(list.Items), err)
	})

	var trust proof.Anchors
	must(t, net.Gateway("market").Call(t.Context(), "", "GET", "/v1/trust", nil, 200, &trust))
	key := ""
	for _, d := range trust.Departments {
		if d.Code == "police" {
			key = d.LogKey
		}
	}
	for _, a := range list.Items {
		cp, err := proof.OpenCheckpoint([]byte(a.Record.Checkpoint), a.Record.Origin, key)
		must(t, err)
		if cp.Size != a.Record.Size || base64.StdEncoding.EncodeToString(cp.Root[:]) != a.Record.Root {
			t.Errorf("anchor %d does not hold its checkpoint", a.Record.Size)
		}
	}
}

func auditRow(t *testing.T, f *flow) {
	police := net.Gateway("police")
	var page struct {
		Items []struct {
			Index  int64               `json:"index"`
			Record domain.AccessRecord `json:"record"`
		} `json:"items"`
	}
	path := "/v1/audit/trace?callId=" + f.records[0].CallID
	await(t, "the audit row", 15*time.Second, func() (bool, string) {
		err := police.Call(t.Context(), "auditor", "GET", path, nil, 200, &page)
		return err == nil && len(page.Items) == 1, fmt.Sprint(err, len(page.Items))
	})
	if row := page.Items[0]; row.Index != f.index || row.Record.GrantID != f.grant.ID || row.Record.Purpose != f.grant.Purpose {
		t.Errorf("audit row %+v", row)
	}
	must(t, police.Call(t.Context(), "auditor", "GET", "/v1/audit/trace?callId="+f.records[1].CallID, nil, 200, &page))
	if len(page.Items) != 1 || !strings.HasPrefix(page.Items[0].Record.Result, "refused_") {
		t.Errorf("the refused access left %+v, want one record that says so", page.Items)
	}
	res, err := police.Do(t.Context(), "operator", "GET", path, nil)
	must(t, err)
	if res.Status != 403 {
		t.Errorf("an operator read the audit trace: status %d", res.Status)
	}
	res, err = police.Do(t.Context(), "auditor", "GET", fmt.Sprintf("/v1/access-records/police/%d/proof", f.index), nil)
	must(t, err)
	if res.Status != 200 || !strings.HasPrefix(string(res.Body), "c2sp.org/tlog-proof@v1\n") {
		t.Errorf("inclusion proof: status %d: %.200s", res.Status, res.Body)
	}
}

// proveRecords fetches proofs of other kinds of records than certificates.
func proveRecords(t *testing.T, f *flow) {
	market := net.Gateway("market")
	var trust proof.Anchors
	must(t, market.Call(t.Context(), "", "GET", "/v1/trust", nil, 200, &trust))
	var logs struct {
		Items []consortium.Written[domain.LogRegistration] `json:"items"`
	}
	must(t, market.Call(t.Context(), "auditor", "GET", "/v1/logs", nil, 200, &logs))
	anchored := ""
	for _, l := range logs.Items {
		if l.Record.Owner == "police" {
			anchored = fmt.Sprintf("police~%d", l.Record.Size)
		}
	}
	for _, c := range []struct {
		kind domain.RecordKind
		id   string
		want []proof.Overall
	}{
		{domain.KindCatalogEntry, f.code, []proof.Overall{proof.Recorded}},
		{domain.KindRequest, f.requestID, []proof.Overall{proof.Recorded}},
		{domain.KindGrant, f.grant.ID, []proof.Overall{proof.Recorded, proof.Valid}},
		{domain.KindAnchor, anchored, []proof.Overall{proof.Recorded}},
	} {
		res, err := market.Do(t.Context(), "auditor", "GET", "/v1/proofs/"+string(c.kind)+"/"+url.PathEscape(c.id), nil)
		must(t, err)
		v := proof.Verify(res.Body, &trust, proof.Options{At: time.Now()})
		if res.Status != 200 || !slices.Contains(c.want, v.Overall) || v.Statement == nil || v.Statement.ID != c.id || !v.Statement.Found {
			t.Errorf("%s %s: status %d, verdict %q (%s): %.300s", c.kind, c.id, res.Status, v.Overall, v.Reason, res.Body)
		}
	}
}

func issue(t *testing.T, f *flow) {
	now := time.Now().UTC().Truncate(time.Second)
	body := map[string]any{
		"typeCode": "11100000000013338W011", "typeNameZh": "居住证", "typeNameEn": "Residence permit",
		"holderKind": "person", "holderSaltedRef": domain.Digest([]byte("salt and holder")), "serial": strings.ToUpper(randomHex(t, 6)),
		"validity": domain.Period{From: now.Add(-time.Hour), To: now.AddDate(1, 0, 0)}, "serviceItem": "000512001000",
		"contentDigest": domain.Digest([]byte("certificate content")),
	}
	// The lead lets the police issue the type, unless it does already.
	authorisation := map[string]any{
		"issuer": "police", "typeCode": body["typeCode"], "typeNameZh": body["typeNameZh"], "typeNameEn": body["typeNameEn"],
		"basis": "《居住证暂行条例》", "period": domain.Period{From: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2056, 1, 1, 0, 0, 0, 0, time.UTC)},
	}
	res, err := net.Gateway("bigdata").Do(t.Context(), "admin", "POST", "/v1/issuers", authorisation)
	must(t, err)
	if res.Status != 201 && res.Status != 409 {
		t.Fatalf("authorise the police: status %d: %s", res.Status, res.Body)
	}
	await(t, "the police's gateway knows what it may issue", 15*time.Second, func() (bool, string) {
		res, err := net.Gateway("police").Do(t.Context(), "auditor", "GET", "/v1/issuers?department=police", nil)
		return err == nil && strings.Contains(string(res.Body), body["typeCode"].(string)), fmt.Sprint(err)
	})
	res, err = net.Gateway("police").Do(t.Context(), "auditor", "POST", "/v1/certificates", body)
	must(t, err)
	if res.Status != 403 {
		t.Errorf("an auditor issued a certificate: status %d", res.Status)
	}
	var w struct {
		consortium.Written[domain.Certificate]
		Link      string `json:"link"`
		CheckCode string `json:"checkCode"`
	}
	must(t, net.Gateway("police").Call(t.Context(), "operator", "POST", "/v1/certificates", body, 201, &w))
	f.ref, f.link, f.issuing, f.place = w.Record.Content.Ref, w.Link, body, w.Record.Content.StatusIndex
	if w.Record.Status != domain.CertificateProposed {
		t.Errorf("after the issue it is %s", w.Record.Status)
	}
	if !strings.HasPrefix(f.link, net.Gateway("police").URL+"/v/"+f.ref+"#") {
		t.Errorf("link %q", f.link)
	}
	// The same identifier again, as after a lost answer: refused, naming the first.
	res, err = net.Gateway("police").Do(t.Context(), "operator", "POST", "/v1/certificates", body)
	must(t, err)
	if res.Status != 409 || !strings.Contains(string(res.Body), f.ref) {
		t.Errorf("the same serial again: status %d, want 409 naming %s: %s", res.Status, f.ref, res.Body)
	}
}

// approve has the reviewer issue what the operator proposed; until then nobody
// finds it.
func approve(t *testing.T, f *flow) {
	if status, _ := page(t, f.link, "zh-CN"); status != 404 {
		t.Errorf("page of a proposed certificate: status %d, want 404", status)
	}
	path, body := "/v1/certificates/"+f.ref+"/actions/decide", map[string]any{"decision": "approve"}
	for _, who := range []struct{ department, role string }{{"police", "operator"}, {"civil", "reviewer"}} {
		res, err := net.Gateway(who.department).Do(t.Context(), who.role, "POST", path, body)
		must(t, err)
		if res.Status != 403 {
			t.Errorf("%s of %s decided: status %d: %s", who.role, who.department, res.Status, res.Body)
		}
	}
	var w consortium.Written[domain.Certificate]
	must(t, net.Gateway("police").Call(t.Context(), "reviewer", "POST", path, body, 200, &w))
	if w.Record.Status != domain.CertificateValid {
		t.Errorf("after the decision it is %s", w.Record.Status)
	}
}

// change has the operator propose a change of a certificate's status and the
// reviewer decide.
func change(t *testing.T, ref, event, documentNo string) domain.Certificate {
	t.Helper()
	police := net.Gateway("police")
	var w consortium.Written[domain.Certificate]
	must(t, police.Call(t.Context(), "auditor", "GET", "/v1/certificates/"+ref, nil, 200, &w))
	act := domain.StatusAct{
		DocumentNo: documentNo, LegalBasis: "《中华人民共和国行政许可法》第六十九条", ReasonCode: "issued_in_error", EffectiveAt: w.Record.StatusSince,
	}
	must(t, police.Call(t.Context(), "operator", "POST", "/v1/certificates/"+ref+"/actions/propose", map[string]any{"event": event, "act": act}, 200, nil))
	must(t, police.Call(t.Context(), "reviewer", "POST", "/v1/certificates/"+ref+"/actions/decide", map[string]any{"decision": "approve"}, 200, &w))
	return w.Record
}

// verdict is what a department's gateway says of a certificate.
func verdict(t *testing.T, department, ref string) string {
	t.Helper()
	var v struct {
		Verdict string `json:"verdict"`
	}
	must(t, net.Gateway(department).Call(t.Context(), "", "GET", "/v1/verify/"+ref, nil, 200, &v))
	return v.Verdict
}

func suspend(t *testing.T, f *flow) {
	change(t, f.ref, "suspend", "扣字〔2026〕1号")
	if status, html := page(t, f.link, "zh-CN"); status != 200 || !strings.Contains(html, "暂扣中") || !strings.Contains(html, "扣字〔2026〕1号") {
		t.Errorf("status %d:\n%.2000s", status, html)
	}
	awaitBits(t, f.place, false, true)
	change(t, f.ref, "restore", "还字〔2026〕1号")
	if got := verdict(t, "police", f.ref); got != "valid" {
		t.Errorf("after it was given back it is %s", got)
	}
	awaitBits(t, f.place, false, false)
}

// replace issues the next version of another certificate.
func replace(t *testing.T, f *flow) {
	police := net.Gateway("police")
	first := maps.Clone(f.issuing)
	first["serial"] = first["serial"].(string) + "R"
	issue := func(body map[string]any) domain.Certificate {
		var w consortium.Written[domain.Certificate]
		must(t, police.Call(t.Context(), "operator", "POST", "/v1/certificates", body, 201, &w))
		must(t, police.Call(t.Context(), "reviewer", "POST", "/v1/certificates/"+w.Record.Content.Ref+"/actions/decide", map[string]any{"decision": "approve"}, 200, &w))
		return w.Record
	}
	old := issue(first)
	second := maps.Clone(first)
	delete(second, "serial")
	second["replaces"] = old.Content.Ref
	successor := issue(second)
	if got := verdict(t, "police", old.Content.Ref); got != "superseded" {
		t.Errorf("the predecessor is %s", got)
	}
	_, html := page(t, police.URL+"/v/"+old.Content.Ref, "zh-CN")
	if !strings.Contains(html, "/v/"+successor.Content.Ref+"?lang=zh") {
		t.Errorf("the page does not link to the successor:\n%.2000s", html)
	}
	if got := verdict(t, "police", successor.Content.Ref); got != "valid" {
		t.Errorf("the successor is %s", got)
	}
}

// batch issues many certificates in two transactions.
func batch(t *testing.T, f *flow) {
	police := net.Gateway("police")
	const n = 200
	var all []map[string]any
	for i := range n {
		one := maps.Clone(f.issuing)
		one["serial"] = fmt.Sprintf("%sB%03d", one["serial"], i)
		all = append(all, one)
	}
	var issued struct {
		Items []struct {
			Ref  string `json:"ref"`
			Link string `json:"link"`
		} `json:"items"`
		Block uint64 `json:"block"`
	}
	began := time.Now()
	must(t, police.Call(t.Context(), "operator", "POST", "/v1/certificates/batch", map[string]any{"certificates": all}, 201, &issued))
	var refs []string
	for _, item := range issued.Items {
		refs = append(refs, item.Ref)
	}
	if len(refs) != n {
		t.Fatalf("%d certificates", len(refs))
	}
	must(t, police.Call(t.Context(), "reviewer", "POST", "/v1/certificates/decisions", map[string]any{"refs": refs, "decision": "approve"}, 200, nil))
	t.Logf("%d certificates proposed and decided on in %s", n, time.Since(began).Round(time.Millisecond))
	if got := verdict(t, "police", refs[n-1]); got != "valid" {
		t.Errorf("the last one is %s", got)
	}
	var refused struct {
		Detail string `json:"detail"`
	}
	must(t, police.Call(t.Context(), "operator", "POST", "/v1/certificates/batch", map[string]any{"certificates": all[:3]}, 409, &refused))
	if !strings.Contains(refused.Detail, "certificates[0]") {
		t.Errorf("the refusal names no certificate: %s", refused.Detail)
	}
}

// checkFile asks a gateway about the proof file, as one who was given it.
func checkFile(t *testing.T, f *flow) {
	data, err := os.ReadFile(f.proofFile)
	must(t, err)
	check := func(data []byte) (out struct {
		Verdict string `json:"verdict"`
		Now     struct {
			Verdict string `json:"verdict"`
		} `json:"now"`
	}) {
		res, err := http.Post(net.Gateway("bigdata").URL+"/v1/verify", "application/octet-stream", bytes.NewReader(data))
		must(t, err)
		defer res.Body.Close()
		must(t, json.NewDecoder(res.Body).Decode(&out))
		return out
	}
	if got := check(data); got.Verdict != "valid" || got.Now.Verdict != "valid" {
		t.Errorf("the proof file is %+v", got)
	}
	data[len(data)/2] ^= 1
	if got := check(data); got.Verdict != "bad_proof" {
		t.Errorf("a changed proof file is %+v", got)
	}
	// With a nonce the departments sign anew.
	nonce := randomHex(t, 16)
	res, err := net.Gateway("civil").Do(t.Context(), "", "GET", "/v1/verify/"+f.ref+"/proof?nonce="+nonce, nil)
	must(t, err)
	trust, err := os.ReadFile(trustFile())
	must(t, err)
	anchors, err := proof.ParseAnchors(trust)
	must(t, err)
	if v := proof.Verify(res.Body, anchors, proof.Options{At: time.Now(), Nonce: nonce}); v.Overall != proof.Valid {
		t.Errorf("the proof with a nonce: %q: %s", v.Overall, v.Reason)
	}
}

// awaitBits waits until the police's status lists say of the certificate at a place
// what they should: one is served for a second.
func awaitBits(t *testing.T, place int, revoked, suspended bool) {
	t.Helper()
	bit := func(purpose string) bool {
		var list struct {
			Subject struct {
				Encoded string `json:"encodedList"`
			} `json:"credentialSubject"`
		}
		path := fmt.Sprintf("/v1/status-lists/police/%s/%d", purpose, place/domain.StatusListLength)
		must(t, net.Gateway("police").Call(t.Context(), "", "GET", path, nil, 200, &list))
		bits, err := statuslist.Decode(list.Subject.Encoded)
		must(t, err)
		return bits.At(place % domain.StatusListLength)
	}
	await(t, fmt.Sprintf("status lists that say revoked %v, suspended %v", revoked, suspended), 5*time.Second, func() (bool, string) {
		gotRevoked, gotSuspended := bit("revocation"), bit("suspension")
		return gotRevoked == revoked && gotSuspended == suspended, fmt.Sprint(gotRevoked, gotSuspended)
	})
}

func statusLists(t *testing.T, f *flow) { awaitBits(t, f.place, true, false) }

func scan(t *testing.T, f *flow) {
	res, err := net.Gateway("police").Do(t.Context(), "", "GET", "/v1/certificates/"+f.ref+"/qr.png", nil)
	must(t, err)
	if res.Status != 200 {
		t.Fatalf("status %d: %s", res.Status, res.Body)
	}
	img, _, err := image.Decode(bytes.NewReader(res.Body))
	must(t, err)
	bitmap, err := gozxing.NewBinaryBitmapFromImage(img)
	must(t, err)
	got, err := qrcode.NewQRCodeReader().Decode(bitmap, nil)
	must(t, err)
	if want := net.Gateway("police").URL + "/v/" + f.ref; got.GetText() != want {
		t.Errorf("the QR code says %q, want %q", got.GetText(), want)
	}
}

// page reads the public page as a browser without JavaScript would.
func page(t *testing.T, link, language string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", strings.SplitN(link, "#", 2)[0], nil)
	must(t, err)
	req.Header.Set("Accept-Language", language)
	res, err := http.DefaultClient.Do(req)
	must(t, err)
	defer res.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(res.Body)
	must(t, err)
	return res.StatusCode, b.String()
}

func pageValid(t *testing.T, f *flow) {
	status, html := page(t, f.link, "zh-CN")
	if status != 200 || !strings.Contains(html, "有效") || !strings.Contains(html, "居住证") || !strings.Contains(html, "公安局") {
		t.Errorf("zh: status %d:\n%.2000s", status, html)
	}
	status, html = page(t, f.link, "en")
	if status != 200 || !strings.Contains(html, "Residence permit") {
		t.Errorf("en: status %d", status)
	}
	// Any department's gateway answers, not the issuer's alone.
	other := net.Gateway("market").URL + "/v/" + f.ref
	await(t, "another department's page", 15*time.Second, func() (bool, string) {
		status, html := page(t, other, "zh-CN")
		return status == 200 && strings.Contains(html, "有效"), fmt.Sprint(status)
	})
	if status, _ := page(t, net.Gateway("market").URL+"/v/"+strings.Repeat("0", 32), "zh-CN"); status != 404 {
		t.Errorf("an unknown reference: status %d, want 404", status)
	}
}

func fetchProof(t *testing.T, f *flow) {
	res, err := net.Gateway("civil").Do(t.Context(), "", "GET", "/v1/verify/"+f.ref+"/proof", nil)
	must(t, err)
	if res.Status != 200 {
		t.Fatalf("status %d: %s", res.Status, res.Body)
	}
	f.proofFile = filepath.Join(net.State, "flow.zlproof")
	must(t, os.WriteFile(f.proofFile, res.Body, 0o600))
	trust, err := net.Gateway("market").Do(t.Context(), "", "GET", "/v1/trust", nil)
	must(t, err)
	must(t, os.WriteFile(trustFile(), trust.Body, 0o600))
	t.Logf("proof of %d bytes", len(res.Body))
}

func trustFile() string { return filepath.Join(net.State, "flow-consortium.json") }

// verify runs the offline verifier where it can have no network: in a network
// namespace with no interface when that is allowed, as is for root.
func verify(t *testing.T, args ...string) (int, string) {
	t.Helper()
	argv := append([]string{filepath.Join(net.Root, "bin", "zhenglian"), "verify"}, args...)
	if os.Getuid() == 0 {
		argv = append([]string{"unshare", "--net"}, argv...)
	}
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func verifyOffline(t *testing.T, f *flow) {
	code, out := verify(t, f.proofFile, "--trust", trustFile())
	if code != 0 || !strings.Contains(out, "有效") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	code, out = verify(t, f.proofFile, "--trust", trustFile(), "--json")
	var v proof.Verdict
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != 0 || v.Overall != proof.Valid || len(v.Signers) < 3 {
		t.Errorf("exit %d, %v:\n%s", code, err, out)
	}
}

func verifyRefuses(t *testing.T, f *flow) {
	data, err := os.ReadFile(f.proofFile)
	must(t, err)
	trustData, err := os.ReadFile(trustFile())
	must(t, err)
	anchors, err := proof.ParseAnchors(trustData)
	must(t, err)
	now := proof.Options{At: time.Now()}
	if v := proof.Verify(data, anchors, now); v.Overall != proof.Valid {
		t.Fatalf("before any change: %+v", v)
	}
	accepted := func(name string, data []byte, anchors *proof.Anchors) {
		if v := proof.Verify(data, anchors, now); v.Overall != proof.BadProof && v.Overall != proof.CannotCheck {
			t.Errorf("%s: accepted as %q", name, v.Overall)
		}
	}
	for i := range data {
		changed := bytes.Clone(data)
		changed[i] ^= 1
		accepted(fmt.Sprintf("byte %d changed", i), changed, anchors)
	}
	for i := 0; i < len(data); i += 7 {
		accepted(fmt.Sprintf("cut after %d bytes", i), data[:i], anchors)
	}
	var b proof.Bundle
	must(t, json.Unmarshal(data, &b))
	b.Read.Endorsements = b.Read.Endorsements[:2]
	few, err := proof.Encode(b)
	must(t, err)
	accepted("two departments", few, anchors)
	other := *anchors
	other.Channel = "another"
	accepted("another channel", data, &other)

	changed := filepath.Join(t.TempDir(), "changed.zlproof")
	data[len(data)/2] ^= 1
	must(t, os.WriteFile(changed, data, 0o600))
	if code, out := verify(t, changed, "--trust", trustFile()); code != 3 {
		t.Errorf("a changed file: exit %d, want 3:\n%s", code, out)
	}
}

func revoke(t *testing.T, f *flow) {
	path := "/v1/certificates/" + f.ref + "/actions/propose"
	act := map[string]any{"event": "revoke", "act": domain.StatusAct{
		DocumentNo: "撤字〔2026〕1号", LegalBasis: "《中华人民共和国行政许可法》第六十九条", ReasonCode: "issued_in_error", EffectiveAt: time.Now().UTC().Add(-time.Minute),
	}}
	res, err := net.Gateway("civil").Do(t.Context(), "operator", "POST", path, act)
	must(t, err)
	if res.Status != 403 {
		t.Errorf("another department proposed: status %d: %s", res.Status, res.Body)
	}
	if c := change(t, f.ref, "revoke", "撤字〔2026〕1号"); c.Status != domain.CertificateRevoked {
		t.Fatalf("after the decision: %s", c.Status)
	}
}

func pageRevoked(t *testing.T, f *flow) {
	status, html := page(t, f.link, "zh-CN")
	if status != 200 || !strings.Contains(html, "已撤销") || !strings.Contains(html, "撤字〔2026〕1号") {
		t.Errorf("status %d:\n%.2000s", status, html)
	}
	other := net.Gateway("market").URL + "/v/" + f.ref
	await(t, "another department's page says revoked", 10*time.Second, func() (bool, string) {
		_, html := page(t, other, "zh-CN")
		return strings.Contains(html, "已撤销"), "still valid"
	})
	res, err := net.Gateway("market").Do(t.Context(), "", "GET", "/v1/verify/"+f.ref+"/proof", nil)
	must(t, err)
	file := filepath.Join(t.TempDir(), "revoked.zlproof")
	must(t, os.WriteFile(file, res.Body, 0o600))
	if code, out := verify(t, file, "--trust", trustFile()); code != 0 || !strings.Contains(out, "撤销") {
		t.Errorf("the proof of the revoked certificate: exit %d:\n%s", code, out)
	}
}

func chain(t *testing.T, f *flow) {
	var info struct {
		Height      uint64 `json:"height"`
		Departments []struct {
			Department string `json:"department"`
			Height     uint64 `json:"height"`
		} `json:"departments"`
	}
	bigdata := net.Gateway("bigdata")
	await(t, "equal heights on four peers", 15*time.Second, func() (bool, string) {
		must(t, bigdata.Call(t.Context(), "auditor", "GET", "/v1/chain", nil, 200, &info))
		equal := len(info.Departments) == 4
		for _, d := range info.Departments {
			equal = equal && d.Height == info.Departments[0].Height
		}
		return equal, fmt.Sprintf("%+v", info)
	})
	var cert consortium.Written[domain.Certificate]
	must(t, bigdata.Call(t.Context(), "auditor", "GET", "/v1/certificates/"+f.ref, nil, 200, &cert))
	var tx struct {
		Block       uint64             `json:"block"`
		Transaction domain.Transaction `json:"transaction"`
	}
	must(t, bigdata.Call(t.Context(), "auditor", "GET", "/v1/chain/transactions/"+cert.TxID, nil, 200, &tx))
	if x := tx.Transaction; x.Contract != "certificate" || x.Name != "Decide" || x.ValidationCode != "VALID" ||
		len(x.Endorsers) < 3 || len(x.Writes) == 0 || len(x.Arguments) != 1 {
		t.Errorf("transaction %+v", x)
	}
	var block domain.Block
	must(t, bigdata.Call(t.Context(), "auditor", "GET", fmt.Sprintf("/v1/chain/blocks/%d", tx.Block), nil, 200, &block))
	if len(block.Signers) < 3 || block.Number != tx.Block {
		t.Errorf("block %d signed by %v, want at least 3 departments", block.Number, block.Signers)
	}
	if out, err := net.Run(context.WithoutCancel(t.Context()), "zhenglian-network", "status", "--state", net.State); err != nil {
		t.Errorf("status: %v", err)
	} else {
		t.Logf("%s", out)
	}
}
