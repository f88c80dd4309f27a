package browser

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/web"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// bureau is a gateway of the consortium of package prooftest, and what it does
// wrong.
type bureau struct {
	*prooftest.Consortium
	ledger domain.Certificate // what the departments sign
	claims service.Verdict    // what the page says

	tamper  func(bundle []byte) []byte
	nonce   string // signed in place of the asker's
	record  string // attested in place of the certificate asked for
	failing string // a path that fails
}

// serve answers the page, with the clock of [prooftest.Epoch] in the browser, a
// script of the test's own that uses the page as a person would, and everything
// that the page may ask for. asked are all requests but those for the page.
func (b *bureau) serve(t *testing.T, driver string) (server *httptest.Server, asked *visitor) {
	t.Helper()
	page := web.New(func(context.Context, string) service.Verification {
		v := verification(b.claims)
		v.Ref, v.AsOf = prooftest.Ref, prooftest.Epoch
		if v.Certificate != nil {
			shown := b.ledger
			if b.claims == service.Valid { // whatever the ledger says
				shown = b.Certificate()
			}
			v.Certificate = &shown
		}
		return v
	}, web.Options{Clock: func() time.Time { return prooftest.Epoch }})
	asked = new(visitor)
	mux := http.NewServeMux()
	mux.HandleFunc(web.Prefix, func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		page.ServeHTTP(answer, r)
		for name, values := range answer.Header() {
			if name != "Content-Length" {
				w.Header()[name] = values
			}
		}
		_, _ = io.WriteString(w, strings.Replace(answer.Body.String(), `<script src="/verify/page.js" defer>`,
			`<script src="/clock.js"></script><script src="/driver.js" defer></script><script src="/verify/page.js" defer>`, 1))
	})
	serveScript := func(path, text string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
			_, _ = io.WriteString(w, text)
		})
	}
	serveScript("/clock.js", fmt.Sprintf(`"use strict";
const offset = %d - Date.now();
const real = Date;
globalThis.Date = class extends real {
	constructor(...args) { if (args.length) super(...args); else super(real.now() + offset); }
	static now() { return real.now() + offset; }
};`, prooftest.Epoch.Add(time.Second).UnixMilli()))
	serveScript("/driver.js", driver)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		asked.note(r.Method + " " + r.URL.RequestURI())
		switch {
		case r.URL.Path == b.failing:
			http.Error(w, "{}", http.StatusServiceUnavailable)
		case strings.HasPrefix(r.URL.Path, web.FilePath+"/"):
			page.ServeHTTP(w, r)
		case r.URL.Path == "/v1/trust":
			_, _ = w.Write(b.TrustFile())
		case r.URL.Path == "/v1/verify/"+prooftest.Ref+"/proof":
			_, _ = w.Write(b.prove(r.URL.Query().Get("nonce")))
		default:
			http.NotFound(w, r)
		}
	})
	server = httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server, asked
}

// prove has the departments sign what they hold.
func (b *bureau) prove(nonce string) []byte {
	if b.nonce != "" {
		nonce = b.nonce
	}
	record, ref := b.ledger, b.ledger.Content.Ref
	if b.record != "" {
		ref, record.Content.Ref = b.record, b.record
		record.Content.CheckCodeHash = domain.CheckCodeHash(ref, prooftest.CheckCode)
	}
	s := b.Statement(domain.KindCertificate, ref, nonce, prooftest.Seal(&record, &record.Meta), string(record.StatusAt(prooftest.Epoch)))
	bundle := b.Attest(s).File()
	if b.tamper != nil {
		bundle = b.tamper(bundle)
	}
	return bundle
}

// drive is a driver that does something and waits until an element has the text of
// an answer: a list of checks, or a paragraph that says it cannot.
func drive(place, do string) string {
	return fmt.Sprintf(`"use strict";
addEventListener("load", async () => {
	const place = document.getElementById(%q);
	%s
	while (place.hasAttribute("aria-busy") || place.childElementCount === 0) await new Promise((r) => setTimeout(r, 20));
	await new Promise((r) => setTimeout(r, 50));
	document.documentElement.dataset.driven = "yes";
});`, place, do)
}

const press = `document.getElementById("check").click();`

// choose puts bytes into a file input.
func choose(input string, data []byte) string {
	return fmt.Sprintf(`{
		const files = new DataTransfer();
		files.items.add(new File([Uint8Array.from(atob(%q), (c) => c.charCodeAt(0))], "file"));
		document.getElementById(%q).files = files.files;
	}`, base64.StdEncoding.EncodeToString(data), input)
}

// visit opens the page and answers what it shows.
func visit(t *testing.T, server *httptest.Server, query, name string, flags ...string) seen {
	t.Helper()
	_, dom, console := screenshot(t, server.URL+web.Prefix+prooftest.Ref+query, name, 390, 3400, append(flags, "--virtual-time-budget=20000")...)
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
		t.Fatalf("the page was not driven to its end:\n%.3000s", text(s.byID("result")))
	}
	return s
}

// certificatesOf answers the certificate of package prooftest as it is when it was
// issued and after each change of its status.
func certificatesOf(c *prooftest.Consortium) map[service.Verdict]domain.Certificate {
	out := map[service.Verdict]domain.Certificate{service.Valid: c.Certificate()}
	for verdict, status := range statuses {
		out[verdict] = c.Changed(c.Certificate(), status, prooftest.Epoch.AddDate(0, 0, -1))
	}
	return out
}

// TestVerifyInTheBrowser has the browser verify each verdict, in both languages,
// with a code that is right.
func TestVerifyInTheBrowser(t *testing.T) {
	c := prooftest.New()
	for verdict, certificate := range certificatesOf(c) {
		for lang, says := range map[string][]string{
			"zh": {"与本页显示的结果一致", "有足够多的部门签名: 通过", "查验码与证照相符: 通过", "示例市公安局", "2026年3月2日", "示例许可证", "信任文件的指纹"},
			"en": {"This agrees with what the page shows", "Enough departments signed it: passed", "Public Security Bureau", "2 March 2026", "Sample permit"},
		} {
			t.Run(string(verdict)+"/"+lang, func(t *testing.T) {
				b := &bureau{Consortium: c, ledger: certificate, claims: verdict}
				server, asked := b.serve(t, drive("browser-result", press))
				page := visit(t, server, "?lang="+lang+"#"+prooftest.CheckCode, "browser-"+string(verdict)+"-"+lang)
				page.says("browser-result", says...)
				answer := page.all(func(n *html.Node) bool { class, _ := get(n, "class"); return strings.HasPrefix(class, "answer ") })
				if len(answer) != 1 {
					t.Fatalf("%d answers", len(answer))
				}
				if class, _ := get(answer[0], "class"); class != "answer "+string(verdict) {
					t.Errorf("the answer is %q", class)
				}
				if alerts := page.all(func(n *html.Node) bool { role, _ := get(n, "role"); return role == "alert" }); len(alerts) != 0 {
					t.Errorf("%d warnings", len(alerts))
				}
				for _, request := range asked.seen() {
					if strings.Contains(request, prooftest.CheckCode) || strings.HasPrefix(request, "POST") {
						t.Errorf("the browser sent %s", request)
					}
				}
			})
		}
	}
}

// TestBrowserDistrustsTheGateway lets the gateway lie, tamper, replay and fail.
func TestBrowserDistrustsTheGateway(t *testing.T) {
	c := prooftest.New()
	revoked := c.Revoked()
	other := prooftest.New() // of the same names, with keys of its own
	for i, d := range other.Departments {
		other.Departments[i] = prooftest.NewDepartment("other"+d.Code, d.MSPID, d.NameZh, d.NameEn, "1199000000000000"+fmt.Sprint(i+5))
	}
	flip := func(bundle []byte) []byte {
		i := strings.Index(string(bundle), `"signature":"`) + 30
		bundle[i] = "AB"[(bundle[i]&1)^1]
		return bundle
	}
	tests := map[string]struct {
		bureau bureau
		query  string
		driver string
		class  string   // of the answer; "" for none
		says   []string // on the page
		never  []string
	}{
		"it says valid of what is revoked": {
			bureau: bureau{ledger: revoked, claims: service.Valid}, driver: press, class: "answer revoked",
			says: []string{"不一致", "证明成立：证照已被撤销"},
		},
		"it changes a signature": {
			bureau: bureau{ledger: revoked, claims: service.Revoked, tamper: flip}, driver: press, class: "answer bad_proof",
			says: []string{"证明不成立", "不一致"}, never: []string{"示例许可证"},
		},
		"it replays an old proof": {
			bureau: bureau{ledger: c.Certificate(), claims: service.Valid, nonce: prooftest.Nonce}, driver: press, class: "answer bad_proof",
			says: []string{"证明不成立"},
		},
		"it proves another certificate": {
			bureau: bureau{ledger: c.Certificate(), claims: service.Valid, record: strings.Repeat("a", 32)}, driver: press, class: "answer bad_proof",
			says: []string{"证明不成立", "another record"},
		},
		"it answers no proof": {
			bureau: bureau{ledger: c.Certificate(), claims: service.Valid, failing: "/v1/verify/" + prooftest.Ref + "/proof"}, driver: press,
			says: []string{"现在取不到证明。这不表示证照无效"},
		},
		"it answers no trust file": {
			bureau: bureau{ledger: c.Certificate(), claims: service.Valid, failing: "/v1/trust"}, driver: press, says: []string{"信任文件读取失败"},
		},
		"it answers no program": {
			bureau: bureau{ledger: c.Certificate(), claims: service.Valid, failing: "/verify/zhenglian-proof.js"}, driver: press, says: []string{"核验程序载入失败"},
		},
		"the proof is of another consortium than the reader trusts": {
			bureau: bureau{ledger: c.Certificate(), claims: service.Valid}, driver: choose("trust", other.TrustFile()) + press, class: "answer bad_proof",
			says: []string{"证明不成立", "您选择的信任文件"},
		},
		"the reader's trust file is none": {
			bureau: bureau{ledger: c.Certificate(), claims: service.Valid}, driver: choose("trust", []byte("x")) + press, class: "answer cannot_check",
			says: []string{"无法判定"},
		},
		"the code is of another paper": {
			bureau: bureau{ledger: c.Certificate(), claims: service.Valid}, query: "#2222222222", driver: press, class: "answer valid",
			says: []string{"查验码不符", "查验码与证照相符: 未通过"},
		},
		"the code is typed, with spaces and small letters": {
			bureau: bureau{ledger: c.Certificate(), claims: service.Valid}, driver: `document.getElementById("code").value = " k7qx m2rt-wh ";` + press, class: "answer valid",
			says: []string{"查验码与证照相符: 通过"},
		},
		"no code is given": {
			bureau: bureau{ledger: c.Certificate(), claims: service.Valid}, driver: press, class: "answer valid", never: []string{"查验码与证照相符"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.bureau.Consortium = c
			server, asked := tt.bureau.serve(t, drive("browser-result", tt.driver))
			page := visit(t, server, "?lang=zh"+tt.query, "distrust-"+strings.ReplaceAll(name, " ", "-"))
			page.says("browser-result", tt.says...)
			for _, w := range tt.never {
				if got := text(page.byID("browser-result")); strings.Contains(got, w) {
					t.Errorf("the page says %q: %s", w, got)
				}
			}
			var class string
			for _, n := range page.all(func(n *html.Node) bool { class, _ := get(n, "class"); return strings.HasPrefix(class, "answer ") }) {
				class, _ = get(n, "class")
			}
			if class != tt.class {
				t.Errorf("the answer is %q, want %q", class, tt.class)
			}
			for _, request := range asked.seen() {
				if strings.HasPrefix(request, "POST") || strings.Contains(request, "2222222222") {
					t.Errorf("the browser sent %s", request)
				}
			}
		})
	}
}

// TestFileInTheBrowser checks files that somebody was given; none is sent.
func TestFileInTheBrowser(t *testing.T) {
	c := prooftest.New()
	b := &bureau{Consortium: c, ledger: c.Certificate(), claims: service.Valid}
	submit := `document.querySelector("#file-form button").click();`
	for name, tt := range map[string]struct {
		file []byte
		says []string
	}{
		"valid":        {b.prove(prooftest.Nonce), []string{"证明成立：证照有效", "示例许可证"}},
		"revoked":      {c.AttestCertificate(c.Revoked(), domain.CertificateRevoked).File(), []string{"证明成立：证照已被撤销"}},
		"nothing":      {c.AttestNothing().File(), []string{"证明成立：账本上没有这个编号的证照"}},
		"a department": {c.AttestDepartment().File(), []string{"证明成立：账本上有这条记录", "department bigdata"}},
		"no proof":     {[]byte("hello"), []string{"证明不成立"}},
		"a later form": {[]byte(`{"format":"zhenglian-proof/9"}`), []string{"无法判定"}},
		"too large":    {make([]byte, 256<<10+1), []string{"大于 256 KiB"}},
		"a credential": {[]byte("eyJhbGciOiJFUzI1NiJ9.e30.AAAA~WyJhIl0~"), []string{"证明不成立"}},
	} {
		t.Run(name, func(t *testing.T) {
			server, asked := b.serve(t, drive("file-result", choose("file-input", tt.file)+submit))
			page := visit(t, server, "?lang=zh", "file-"+strings.ReplaceAll(name, " ", "-"))
			page.says("file-result", tt.says...)
			for _, request := range asked.seen() {
				if strings.HasPrefix(request, "POST") {
					t.Errorf("the browser sent %s", request)
				}
			}
		})
	}
}

// missing says that a test cannot run here; where everything must run, it fails.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// axe is the accessibility checker's script.
func axe(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		missing(t, fmt.Sprintf("no axe-core here (%v): the pages are not checked for accessibility; install it with: cd test/browser && npm ci", err))
	}
	return data
}

// report is what axe-core found on one page.
type report struct {
	Violations []struct {
		ID, Help string
		Nodes    []string
	}
	Passes int
}

func (r report) check(t *testing.T) {
	t.Helper()
	if r.Passes < 15 {
		t.Errorf("only %d rules were met", r.Passes)
	}
	for _, v := range r.Violations {
		t.Errorf("%s: %s: %s", v.ID, v.Help, v.Nodes)
	}
}

// runAxe is the part of a script that checks the document it runs in.
const runAxe = `
	const found = await axe.run(document, { resultTypes: ["violations"] });
	const report = { violations: found.violations.map((v) => ({ id: v.id, help: v.help, nodes: v.nodes.map((n) => n.html) })), passes: found.passes.length };`

// TestAccessibility runs axe-core on every page, in both languages and sizes: no
// rule may be violated. One browser opens them one after the other.
func TestAccessibility(t *testing.T) {
	script := axe(t)
	var targets []string
	for _, name := range allPages() {
		targets = append(targets, "/page?name="+name+"&lang=zh&size=normal", "/page?name="+name+"&lang=en&size=large")
	}
	list, err := json.Marshal(targets)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/verify/", pages(verification(service.Valid)))
	mux.HandleFunc("/axe.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		_, _ = w.Write(script)
	})
	mux.HandleFunc("/page", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		q := r.URL.Query()
		// Without the page's policy, which keeps the checker out as well.
		_, _ = io.WriteString(w, strings.Replace(renderPage(q.Get("name"), q.Get("lang"), q.Get("size")), "</body>",
			`<script src="/axe.js"></script><script type="module">`+runAxe+`parent.postMessage(report, "*");</script></body>`, 1))
	})
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `<!DOCTYPE html><html><body><pre id="axe" hidden></pre><script type="module">
			const reports = {};
			for (const target of %s) {
				const frame = document.createElement("iframe");
				frame.width = 390, frame.height = 3000, frame.src = target;
				const answer = new Promise((resolve) => addEventListener("message", (e) => resolve(e.data), { once: true }));
				document.body.append(frame);
				reports[target] = await answer;
				frame.remove();
			}
			document.getElementById("axe").textContent = JSON.stringify(reports);
			document.documentElement.dataset.driven = "yes";
		</script></body></html>`, list)
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	var reports map[string]report
	readReport(t, server.URL, &reports)
	if len(reports) != len(targets) {
		t.Fatalf("%d pages checked, want %d", len(reports), len(targets))
	}
	for target, r := range reports {
		t.Run(target, func(t *testing.T) { r.check(t) })
	}
}

// readReport opens a page whose script writes a report, and reads that.
func readReport(t *testing.T, target string, into any) {
	t.Helper()
	dom, _ := browse(t, target, "--dump-dom", "--window-size=420,3100", "--virtual-time-budget=600000")
	root, err := html.Parse(strings.NewReader(dom))
	if err != nil {
		t.Fatal(err)
	}
	s := seen{root, t}
	if s.attribute("html", "data-driven") != "yes" {
		t.Fatalf("the checker did not end:\n%.2000s", dom)
	}
	if err := json.Unmarshal([]byte(s.byID("axe").FirstChild.Data), into); err != nil {
		t.Fatal(err)
	}
}

// TestAccessibilityOfTheAnswer checks what the script adds to a page, warning
// included.
func TestAccessibilityOfTheAnswer(t *testing.T) {
	script := axe(t)
	c := prooftest.New()
	b := &bureau{Consortium: c, ledger: c.Revoked(), claims: service.Valid}
	server, _ := b.serve(t, `"use strict";
addEventListener("load", async () => {
	const place = document.getElementById("browser-result");
	document.getElementById("check").click();
	while (place.hasAttribute("aria-busy") || place.childElementCount === 0) await new Promise((r) => setTimeout(r, 20));`+runAxe+`
	const pre = document.createElement("pre");
	pre.id = "axe", pre.hidden = true, pre.textContent = JSON.stringify(report);
	document.body.append(pre);
	document.documentElement.dataset.driven = "yes";
});`)
	inner := server.Config.Handler
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/axe.js":
			w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
			_, _ = w.Write(script)
		case strings.HasPrefix(r.URL.Path, web.Prefix): // without its policy, as above
			answer := httptest.NewRecorder()
			inner.ServeHTTP(answer, r)
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, strings.Replace(answer.Body.String(), "<script ", `<script src="/axe.js"></script><script `, 1))
		default:
			inner.ServeHTTP(w, r)
		}
	})
	var r report
	readReport(t, server.URL+web.Prefix+prooftest.Ref+"?lang=zh#2222222222", &r)
	r.check(t)
}
