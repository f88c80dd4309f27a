package browser

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/gateway/web"
)

const auditToken = "zl_audit-0123456789"

// gatewayAnswers are what a gateway under test answers to the page for auditors.
type gatewayAnswers struct {
	logs    api.AuditLogs
	alarms  api.AlarmList
	rows    []api.TraceRow
	failing string // a path that fails
}

func traceRow(i int, result string) api.TraceRow {
	at := time.Date(2026, 11, 21, 2, 15, 30, 0, time.UTC).Add(-time.Duration(i) * 7 * time.Minute)
	department := []string{"police", "civil"}[i%2]
	row := api.TraceRow{
		Department: department, Index: int64(1200 - i), LeafHash: []byte(strings.Repeat("h", 32)),
		Links: api.TraceLinks{Record: fmt.Sprintf("/v1/access-records/%s/%d", department, 1200-i)},
		Record: api.AccessRecord{
			Schema: "zhenglian/access-record/1", Direction: []api.Direction{api.DirectionProvider, api.DirectionConsumer}[i%2], CallID: fmt.Sprintf("call-%016d", i/2),
			GrantID: ref, GrantSeq: 1, CatalogCode: "307003/000017", CatalogVersion: 2, Items: []string{"户号", "住址"}, Provider: "police", Consumer: "civil",
			Purpose: "婚姻登记核验", LegalBasis: "《婚姻登记条例》第七条", ServiceItem: "11330000-marriage", CaseRef: "case-7f3a", SubjectRef: strings.Repeat("ab", 16),
			System: "婚姻登记系统", Operator: "op-42", OperatorRole: "经办", RecordCount: 1, RequestDigest: strings.Repeat("1f", 32), ResponseDigest: strings.Repeat("2e", 32),
			Channel: "api", At: at, RespondedAt: at.Add(80 * time.Millisecond), Result: result, LoggedAt: at.Add(90 * time.Millisecond),
		},
	}
	if i > 1 {
		size := int64(1216)
		row.AnchoredSize = &size
		row.Links.Proof = row.Links.Record + "/proof"
		row.Links.Anchor = fmt.Sprintf("/v1/proofs/anchor/%s~%d", department, size)
	}
	return row
}

func sound() gatewayAnswers {
	seen := time.Date(2026, 11, 21, 2, 20, 0, 0, time.UTC)
	g := gatewayAnswers{
		logs: api.AuditLogs{Scope: api.AuditScopeAll, Items: []api.AuditLog{
			{Department: "civil", AnchoredSize: 1216, Audited: &api.AuditedLog{Size: 1216, Seen: seen}, Watched: &api.WatchedLog{Size: 1216}, Findings: []api.LogFinding{}},
			{Department: "market", AnchoredSize: 0, Audited: &api.AuditedLog{Size: 0, Seen: seen}, Findings: []api.LogFinding{}},
			{Department: "police", AnchoredSize: 1216, Audited: &api.AuditedLog{Size: 1216, Seen: seen}, Findings: []api.LogFinding{}},
		}},
		alarms: api.AlarmList{Items: []api.WrittenAlarm{}},
	}
	for i := range 6 {
		g.rows = append(g.rows, traceRow(i, []string{"ok", "ok", "ok", "refused_quota"}[i%4]))
	}
	return g
}

func unsound() gatewayAnswers {
	g := sound()
	seen := time.Date(2026, 11, 21, 1, 5, 0, 0, time.UTC)
	g.logs.Items[0].Findings = []api.LogFinding{
		{Kind: "changed_entry", Place: 731, Text: "entry 731 does not have the hash that the anchored tree holds", FirstSeen: seen, LastSeen: seen.Add(time.Hour)},
		{Kind: "missing_tile", Place: 1024, Text: "tile/entries/004 is not to be had", FirstSeen: seen, LastSeen: seen.Add(time.Hour)},
	}
	g.logs.Items[0].Audited.Size = 512
	g.logs.Items[1].Watched = &api.WatchedLog{Size: 0, Problem: "the log does not answer", Since: &seen}
	g.alarms.Items = []api.WrittenAlarm{{Record: api.Alarm{
		ID: ref, Kind: api.AlarmKindFork, About: "civil", Subject: "1216/9f2c", Rule: "fork", Figures: "size 1216: two signed roots", Records: []api.RecordRef{},
		Proven: true, State: api.AlarmStateOpen, Department: "police", TxTime: seen,
	}}}
	return g
}

// serve answers the page as the gateway does, and for it. A script of the test's
// own, driver, uses the page as a person would.
func (g gatewayAnswers) serve(t *testing.T, driver string) (*httptest.Server, *visitor) {
	t.Helper()
	asked := new(visitor)
	page := web.NewAudit()
	mux := http.NewServeMux()
	mux.HandleFunc("/audit", func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		page.ServeHTTP(answer, r)
		for name, values := range answer.Header() {
			if name != "Content-Length" {
				w.Header()[name] = values
			}
		}
		_, _ = io.WriteString(w, strings.Replace(answer.Body.String(), "</body>", `<script src="/driver.js" defer></script></body>`, 1))
	})
	mux.Handle("/audit/", page)
	mux.HandleFunc("/driver.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		_, _ = io.WriteString(w, driver)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		asked.note(r.URL.RequestURI())
		problem := func(status int, code api.ProblemCode, detail string) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(api.Problem{Title: "x", Status: status, Code: code, Detail: detail, TraceID: ref})
		}
		if r.Header.Get("Authorization") != "Bearer "+auditToken {
			problem(http.StatusUnauthorized, api.ProblemCodeUnauthenticated, "unknown")
			return
		}
		if r.URL.Path == g.failing {
			problem(http.StatusServiceUnavailable, api.ProblemCodeUnavailable, "the trail cannot be read")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/v1/audit/logs":
			_ = json.NewEncoder(w).Encode(g.logs)
		case "/v1/alarms":
			_ = json.NewEncoder(w).Encode(g.alarms)
		case "/v1/audit/totals":
			_ = json.NewEncoder(w).Encode(api.AuditTotals{Records: 2400, DataRecords: 1800, ByResult: []api.ResultTotal{
				{Direction: "consumer", Result: "ok", Records: 900, DataRecords: 900}, {Direction: "provider", Result: "ok", Records: 900, DataRecords: 900},
				{Direction: "provider", Result: "refused_quota", Records: 600},
			}})
		case "/v1/audit/trace":
			trace := api.Trace{Scope: g.logs.Scope, Items: append([]api.TraceRow{}, g.rows...)}
			if r.URL.Query().Get("order") == "oldest" {
				slices.Reverse(trace.Items)
			}
			_ = json.NewEncoder(w).Encode(trace)
		default:
			http.NotFound(w, r)
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server, asked
}

// enterAs is the beginning of a driver: it pastes a token and waits until the
// page has shown its trace or an error.
func enterAs(token string, then string) string {
	return fmt.Sprintf(`"use strict";
const until = async (done) => { while (!done()) await new Promise((r) => setTimeout(r, 20)); };
const settled = () => until(() => !document.getElementById("error").hidden || document.getElementById("rows").childElementCount > 0);
const press = (id) => document.getElementById(id).click();
addEventListener("load", async () => {
	const token = document.getElementById("token");
	token.value = %q;
	document.querySelector("#enter button").click();
	await settled();
	await new Promise((r) => setTimeout(r, 200));
	scrollTo(0, 0);
	%s
	document.documentElement.dataset.driven = "yes";
});`, token, then)
}

// seen is what a browser shows of a page.
type seen struct {
	root *html.Node
	t    *testing.T
}

func look(t *testing.T, server *httptest.Server, query, name string, width, height int) seen {
	t.Helper()
	_, dom, console := screenshot(t, server.URL+"/audit"+query, name, width, height, "--virtual-time-budget=20000") // of the page's own timers
	for message := range strings.Lines(console) {
		if !strings.Contains(message, "Failed to load resource") { // the answers that tests let fail
			t.Errorf("console message: %s", message)
		}
	}
	root, err := html.Parse(strings.NewReader(dom))
	if err != nil {
		t.Fatal(err)
	}
	s := seen{root, t}
	if s.attribute("html", "data-driven") != "yes" {
		t.Fatalf("the page was not driven to its end:\n%.3000s", dom)
	}
	return s
}

func (s seen) all(match func(*html.Node) bool) []*html.Node {
	var out []*html.Node
	for n := range s.root.Descendants() {
		if n.Type == html.ElementNode && match(n) {
			out = append(out, n)
		}
	}
	return out
}

func get(n *html.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

func (s seen) attribute(element, name string) string {
	for _, n := range s.all(func(n *html.Node) bool { return n.Data == element }) {
		v, _ := get(n, name)
		return v
	}
	return ""
}

func (s seen) byID(id string) *html.Node {
	s.t.Helper()
	found := s.all(func(n *html.Node) bool { v, _ := get(n, "id"); return v == id })
	if len(found) != 1 {
		s.t.Fatalf("%d elements %q", len(found), id)
	}
	return found[0]
}

// text is what is written in n and not hidden.
func text(n *html.Node) string {
	var b strings.Builder
	var walk func(*html.Node)
	walk = func(n *html.Node) {
		if _, hidden := get(n, "hidden"); hidden || n.Data == "script" || n.Data == "noscript" || n.Data == "style" {
			return
		}
		if n.Type == html.TextNode {
			b.WriteString(n.Data + " ")
		}
		for c := range n.ChildNodes() {
			walk(c)
		}
	}
	walk(n)
	return strings.Join(strings.Fields(b.String()), " ")
}

func (s seen) says(id string, want ...string) {
	s.t.Helper()
	got := text(s.byID(id))
	for _, w := range want {
		if !strings.Contains(got, w) {
			s.t.Errorf("#%s does not say %q: %s", id, w, got)
		}
	}
}

// inRed checks that words stand in an element of the class of what is wrong.
func (s seen) inRed(words string) {
	s.t.Helper()
	for _, n := range s.all(func(n *html.Node) bool { c, _ := get(n, "class"); return slices.Contains(strings.Fields(c), "bad") }) {
		if strings.Contains(text(n), words) {
			return
		}
	}
	s.t.Errorf("%q is not in red", words)
}

// structure holds the page, as it is after its script ran, to what a screen
// reader and a keyboard need.
func (s seen) structure() {
	s.t.Helper()
	ids := make(map[string]bool)
	for _, n := range s.all(func(*html.Node) bool { return true }) {
		if id, ok := get(n, "id"); ok {
			if ids[id] {
				s.t.Errorf("id %q twice", id)
			}
			ids[id] = true
		}
		if tab, ok := get(n, "tabindex"); ok && tab != "-1" && tab != "0" {
			s.t.Errorf("<%s> changes the order of the keyboard", n.Data)
		}
		switch n.Data {
		case "button":
			label, _ := get(n, "aria-label")
			if text(n) == "" && label == "" {
				if _, hidden := get(n, "hidden"); !hidden {
					s.t.Error("a button has no name")
				}
			}
		case "th":
			if scope, _ := get(n, "scope"); scope != "col" && scope != "row" {
				s.t.Errorf("header %q has no scope", text(n))
			}
		case "table":
			if first := n.FirstChild; first == nil || first.Data != "caption" || text(first) == "" {
				s.t.Error("a table has no caption")
			}
		case "style", "iframe", "img", "object":
			s.t.Errorf("the page has <%s>", n.Data)
		}
	}
}

func TestAuditPageOfSoundLogs(t *testing.T) {
	for lang, want := range map[string][]string{
		"zh": {"全部 3 个日志已核验至最近一次锚定，未发现问题", "已核验：全部 1,216 条", "没有未处置的告警", "全部匹配：2,400 条访问记录", "2026-11-21 10:15:30", "婚姻登记核验", "尚未锚定", "已锚定（规模 1,216）"},
		"en": {"All 3 logs are verified up to their last anchor; nothing was found", "Verified: all 1,216 entries", "No open alarms", "All matches: 2,400 access records", "2026-11-21 10:15:30", "婚姻登记核验", "not anchored yet", "anchored (size 1,216)"},
	} {
		t.Run(lang, func(t *testing.T) {
			server, asked := sound().serve(t, enterAs(auditToken, ""))
			s := look(t, server, "?lang="+lang, "audit-sound-"+lang, 1440, 1900)
			s.says("work", want...)
			s.structure()
			if class, _ := get(s.byID("verdict"), "class"); class != "message good" {
				t.Errorf("class of the verdict %q", class)
			}
			s.inRed(map[string]string{"zh": "拒绝：额度已用完", "en": "refused: quota used up"}[lang])
			s.says("rows", "refused_quota")
			if rows := s.all(func(n *html.Node) bool { return n.Data == "tr" && n.Parent.Parent.Parent == s.byID("rows") }); len(rows) != 7 {
				t.Errorf("%d rows, want a head and 6", len(rows))
			}
			if shown := text(s.root); strings.Contains(shown, auditToken) || strings.Contains(strings.Join(asked.seen(), " "), auditToken) {
				t.Error("the token is shown or in an address")
			}
			if value, _ := get(s.byID("token"), "value"); value != "" {
				t.Error("the token is still in its field")
			}
		})
	}
}

func TestAuditPageOfLogsWithFindings(t *testing.T) {
	for lang, want := range map[string][]string{
		"zh": {"3 个日志中有 2 个发现问题", "记录被改动：entry 731", "数据块缺失", "当前核验不通过：the log does not answer", "账本上未处置的告警：1 项", "日志分叉", "账本已核实该证据"},
		"en": {"2 of 3 logs have findings", "Changed entry: entry 731", "Missing tile", "Does not verify now: the log does not answer", "Open alarms on the ledger: 1", "Fork", "The ledger verified the evidence"},
	} {
		t.Run(lang, func(t *testing.T) {
			server, _ := unsound().serve(t, enterAs(auditToken, ""))
			s := look(t, server, "?lang="+lang, "audit-unsound-"+lang, 1440, 1900)
			s.says("work", want...)
			for _, words := range want {
				s.inRed(words)
			}
			s.structure()
			if role, _ := get(s.byID("verdict"), "role"); role != "alert" {
				t.Error("the verdict is not announced")
			}
		})
	}
}

// What cannot be told is said so, in red, and is never an empty page.
func TestAuditPageWhenPartsFail(t *testing.T) {
	for path, want := range map[string]string{
		"/v1/audit/logs": "The state of the logs cannot be told now.", "/v1/alarms": "The alarms cannot be told now.", "/v1/audit/trace": "The trace cannot be told now.",
	} {
		t.Run(path, func(t *testing.T) {
			g := sound()
			g.failing = path
			server, _ := g.serve(t, enterAs(auditToken, ""))
			s := look(t, server, "?lang=en", "audit-failing"+strings.ReplaceAll(path, "/", "-"), 1440, 1200)
			s.says("work", want, "the trail cannot be read")
			s.inRed(want)
		})
	}
	t.Run("token", func(t *testing.T) {
		server, asked := sound().serve(t, enterAs("zl_guess", ""))
		s := look(t, server, "?lang=en", "audit-refused", 1440, 700)
		s.says("error", "does not know the access token")
		if text(s.byID("work")) != "" || len(asked.seen()) != 1 {
			t.Errorf("shown %q, asked %v", text(s.byID("work")), asked.seen())
		}
	})
	t.Run("no matches", func(t *testing.T) {
		g := unsound()
		g.rows = nil
		server, _ := g.serve(t, enterAs(auditToken, ""))
		s := look(t, server, "?lang=en", "audit-empty", 1440, 1200)
		s.says("rows", "No record matches. That says something only about logs that are fully verified above.")
		s.inRed("2 of 3 logs have findings")
	})
}

// A person filters, turns the order, changes the language, downloads, and leaves.
func TestAuditPageIsUsed(t *testing.T) {
	server, asked := sound().serve(t, enterAs(auditToken, `
	const saved = [];
	const click = HTMLAnchorElement.prototype.click;
	HTMLAnchorElement.prototype.click = function () { saved.push(this.download); };
	document.getElementById("department").value = " civil ";
	document.getElementById("from").value = "2026-11-01T00:00";
	document.getElementById("order").value = "oldest";
	document.querySelector("#filters button").click();
	await until(() => document.querySelector("#rows tbody tr time, #rows tbody .time").textContent.includes("09:40:30"));
	press("csv");
	press("language");
	document.querySelector("#rows .files button").click();
	await until(() => saved.length > 0);
	await new Promise((r) => setTimeout(r, 200));
	HTMLAnchorElement.prototype.click = click;
	document.documentElement.dataset.saved = saved.join(" ");
	document.documentElement.dataset.lang = document.documentElement.lang;
	document.documentElement.dataset.title = document.title;
	press("leave");
	`))
	s := look(t, server, "?lang=zh", "audit-left", 1440, 700)
	all := strings.Join(asked.seen(), "\n")
	for _, want := range []string{
		"/v1/audit/trace?limit=50\n", "department=civil", "from=2026-11-01T00%3A00%3A00%2B08%3A00", "order=oldest", "/v1/audit/totals?department=civil&from=2026-11-01T00%3A00%3A00%2B08%3A00",
		"/v1/access-records/civil/1195/proof",
	} {
		if !strings.Contains(all+"\n", want) {
			t.Errorf("the page did not ask for %s:\n%s", want, all)
		}
	}
	if got := s.attribute("html", "data-saved"); !strings.HasPrefix(got, "trace-20") || !strings.Contains(got, ".csv") {
		t.Errorf("saved %q", got)
	}
	if s.attribute("html", "data-lang") != "en" || s.attribute("html", "data-title") != "Access audit" {
		t.Error("the language did not change")
	}
	if text(s.byID("work")) != "" || text(s.byID("rows")) != "" || s.byID("rows").FirstChild != nil {
		t.Error("data is still there after the token was forgotten")
	}
	s.says("enter", "Access token of an auditor")
}

// TestAuditPageOnANarrowScreen: nothing needs scrolling sideways.
func TestAuditPageOnANarrowScreen(t *testing.T) {
	server, _ := unsound().serve(t, enterAs(auditToken, `
	document.documentElement.dataset.width = document.documentElement.scrollWidth + " " + innerWidth;
	document.documentElement.dataset.small = [...document.querySelectorAll("button, input, select, summary")].filter((e) => e.offsetParent && e.getBoundingClientRect().height < 24).map((e) => e.textContent || e.id).join(" ");
	`))
	s := look(t, server, "?lang=en", "audit-narrow", 500, 4000)
	var content, window int
	if _, err := fmt.Sscan(s.attribute("html", "data-width"), &content, &window); err != nil || content > window || window == 0 {
		t.Errorf("content is %d px wide in %d px: %v", content, window, err)
	}
	if small := s.attribute("html", "data-small"); small != "" {
		t.Errorf("controls smaller than 24 px: %s", small)
	}
}

// Text from a log is text: whatever a department writes into its records runs
// nowhere and asks for nothing.
func TestAuditPageOfHostileText(t *testing.T) {
	const hostile = `"><img src=/ran onerror="new Image().src='/ran'"><script>new Image().src='/ran'</script>`
	g := unsound()
	for i := range g.rows {
		r := &g.rows[i].Record
		for _, field := range []*string{&r.Purpose, &r.LegalBasis, &r.ServiceItem, &r.CaseRef, &r.System, &r.Operator, &r.OperatorRole, &r.Result, &r.CallID, &r.CatalogCode} {
			*field = hostile
		}
		r.Items = []string{hostile}
	}
	g.logs.Items[0].Findings[0].Text = hostile
	g.alarms.Items[0].Record.Figures = hostile
	server, asked := g.serve(t, enterAs(auditToken, ""))
	s := look(t, server, "?lang=en", "audit-hostile", 1440, 1900)
	s.says("rows", hostile)
	s.structure()
	for _, path := range asked.seen() {
		if !strings.HasPrefix(path, "/v1/") {
			t.Errorf("the page asked for %s", path)
		}
	}
	if len(s.all(func(n *html.Node) bool { return n.Data == "script" })) != 2 {
		t.Error("a script came from a record")
	}
}
