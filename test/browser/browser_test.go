package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html/template"
	"image"
	_ "image/png" // screenshots
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/makiuchi-d/gozxing"
	zxing "github.com/makiuchi-d/gozxing/qrcode"
	"golang.org/x/net/html"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/credential"
	"github.com/zhenglian/zhenglian/gateway/qrcode"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/web"
	"github.com/zhenglian/zhenglian/proof"
)

const ref = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"

const install = "install it with: apt-get install -y --no-install-recommends chromium fonts-wqy-zenhei"

// chromium is the browser's program; a missing browser fails the test, because a
// skipped one would look like a page that was seen.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("no Chromium on the PATH; " + install)
	return ""
}

// browse opens url with extra flags and answers what Chromium wrote to its
// standard output, and its console messages.
func browse(t *testing.T, url string, flags ...string) (stdout, console string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	args := []string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--disable-default-apps", "--disable-extensions", "--disable-dev-shm-usage",
		"--hide-scrollbars", "--force-device-scale-factor=1", "--enable-logging=stderr",
		"--user-data-dir=" + t.TempDir(),
	}
	args = append(append(args, flags...), url)
	cmd := exec.CommandContext(ctx, chromium(t), args...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		t.Fatalf("chromium %s: %v\n%s", url, err, log.String())
	}
	var messages []string
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "CONSOLE") {
			messages = append(messages, line)
		}
	}
	return out.String(), strings.Join(messages, "")
}

// screenshot opens url in a window of width × height and returns the picture,
// and the document and the console messages as [browse] does. With
// ZHENGLIAN_SCREENSHOTS=folder the pictures are kept there, for people.
func screenshot(t *testing.T, url, name string, width, height int, flags ...string) (img image.Image, dom, console string) {
	t.Helper()
	folder := os.Getenv("ZHENGLIAN_SCREENSHOTS")
	if folder == "" {
		folder = t.TempDir()
	}
	path, err := filepath.Abs(filepath.Join(folder, name+".png"))
	if err != nil {
		t.Fatal(err)
	}
	flags = append([]string{"--dump-dom", "--screenshot=" + path, fmt.Sprintf("--window-size=%d,%d", width, height)}, flags...)
	dom, console = browse(t, url, flags...)
	file, err := os.Open(path)
	if err != nil {
		t.Fatalf("no screenshot: %v", err)
	}
	defer file.Close()
	img, _, err = image.Decode(file)
	if err != nil {
		t.Fatalf("screenshot %s: %v", name, err)
	}
	return img, dom, console
}

const successor = "00ff00ff00ff00ff00ff00ff00ff00ff"

// statuses are what the record says of itself, by verdict.
var statuses = map[service.Verdict]domain.CertificateStatus{
	service.Suspended: domain.CertificateSuspended, service.Revoked: domain.CertificateRevoked, service.Withdrawn: domain.CertificateWithdrawn,
	service.Cancelled: domain.CertificateCancelled, service.Superseded: domain.CertificateSuperseded,
}

func verification(verdict service.Verdict) service.Verification {
	beijing := time.FixedZone("", 8*60*60)
	issued := time.Date(2026, 11, 1, 9, 0, 0, 0, beijing)
	v := service.Verification{
		Verdict: verdict, Ref: ref, Height: 43,
		AsOf: time.Date(2026, 11, 21, 22, 5, 6, 0, beijing),
	}
	if verdict == service.CannotCheck {
		v.Reason = service.ReasonIndexBehind
	}
	if !verdict.Issued() {
		return v
	}
	v.Position = domain.Position{Block: 17}
	v.Issuer = &domain.Department{Code: "police", NameZh: "公安局", NameEn: "Public Security Bureau"}
	c := &domain.Certificate{
		Issuer: "police",
		Content: domain.CertificateContent{
			Ref:        ref,
			CertID:     "1.2.156.3005.2.11100000000013338W011.11430000006122244L.20230000403.001.U",
			TypeNameZh: "中华人民共和国居住证",
			TypeNameEn: "Residence permit of the People’s Republic of China",
			IssuerUSCC: "11430000006122244L",
			HolderKind: "person",
			IssuedAt:   issued,
			Validity: domain.Period{
				From: time.Date(2026, 11, 1, 0, 0, 0, 0, beijing),
				To:   time.Date(2027, 11, 1, 0, 0, 0, 0, beijing),
			},
		},
		Status:      domain.CertificateValid,
		StatusSince: issued,
		Changes:     []domain.StatusChange{{Status: domain.CertificateValid, Since: issued, RecordedAt: issued}},
	}
	v.Certificate = c
	status, changed := statuses[verdict]
	if !changed {
		return v
	}
	change := domain.StatusChange{
		Status: status, Since: time.Date(2026, 11, 20, 0, 0, 0, 0, beijing), RecordedAt: time.Date(2026, 11, 20, 11, 0, 0, 0, beijing),
	}
	if verdict == service.Superseded {
		change.Successor = successor
	} else {
		change.Act = &domain.StatusAct{
			DocumentNo: "公撤决字〔2026〕第12号", LegalBasis: "《中华人民共和国行政许可法》第六十九条第一款第四项", EffectiveAt: change.Since,
		}
	}
	if verdict == service.Revoked { // after it was suspended and given back
		suspended := time.Date(2026, 11, 5, 0, 0, 0, 0, beijing)
		for n, status := range []domain.CertificateStatus{domain.CertificateSuspended, domain.CertificateValid} {
			at := suspended.AddDate(0, 0, 7*n)
			c.Changes = append(c.Changes, domain.StatusChange{
				Status: status, Since: at, RecordedAt: at.Add(10 * time.Hour), Act: &domain.StatusAct{DocumentNo: fmt.Sprintf("公扣字〔2026〕第%d号", n+3)},
			})
		}
	}
	c.Changes = append(c.Changes, change)
	c.Status, c.StatusSince, c.StatusAct, c.Successor = status, change.Since, change.Act, change.Successor
	return v
}

// words are the headings that the tests expect, by verdict and language.
var words = map[service.Verdict]map[string]string{
	service.Valid:       {"zh": "有效", "en": "Valid"},
	service.Suspended:   {"zh": "暂扣中", "en": "Suspended"},
	service.Revoked:     {"zh": "已撤销", "en": "Revoked"},
	service.Withdrawn:   {"zh": "已吊销", "en": "Withdrawn"},
	service.Cancelled:   {"zh": "已注销", "en": "Cancelled"},
	service.Superseded:  {"zh": "已被替代", "en": "Superseded"},
	service.Expired:     {"zh": "已失效", "en": "Expired"},
	service.NotYetValid: {"zh": "未到生效日", "en": "Not yet valid"},
	service.NotFound:    {"zh": "未找到", "en": "Not found"},
	service.CannotCheck: {"zh": "无法核验", "en": "Cannot check"},
}

func pages(v service.Verification) *web.Pages {
	return web.New(func(context.Context, string) service.Verification { return v },
		web.Options{OperatorZh: "公安局", OperatorEn: "Public Security Bureau", Clock: func() time.Time { return v.AsOf }})
}

// visitor notes what a browser asks of the server besides the pages.
type visitor struct {
	mu    sync.Mutex
	paths []string
}

func (v *visitor) note(path string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.paths = append(v.paths, path)
}

func (v *visitor) seen() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]string(nil), v.paths...)
}

// sealedPath is where the page finds what the check code shows.
const sealedPath = "/v1/verify/" + ref + "/sealed"

func heading(t *testing.T, dom string) string {
	t.Helper()
	root, err := html.Parse(strings.NewReader(dom))
	if err != nil {
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && n.Data == "h1" && n.FirstChild != nil {
			return n.FirstChild.Data
		}
	}
	return ""
}

// TestVerdictPages opens each verdict in each language as a phone would. The page
// asks for its own script and, of a certificate, for what the check code shows; for
// nothing else.
func TestVerdictPages(t *testing.T) {
	tb := newTab(t)
	for verdict, byLanguage := range words {
		page := pages(verification(verdict))
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == sealedPath {
				_, _ = w.Write(make([]byte, credential.SealedBlock+credential.SealedOverhead))
				return
			}
			page.ServeHTTP(w, r)
		}))
		for lang, want := range byLanguage {
			t.Run(string(verdict)+"/"+lang, func(t *testing.T) {
				tb.again(t)
				address := server.URL + web.Prefix + ref + "?lang=" + lang
				tb.open(address + "#7KQ2M9XW4B")
				if verdict.Issued() {
					tb.until(waitOpened)
				}
				if got := tb.eval(`document.querySelector("h1").innerText`); got != want {
					t.Errorf("heading %q, want %q", got, want)
				}
				wanted := []string{"GET " + address, "GET " + server.URL + "/verify/page.js"}
				if verdict.Issued() {
					wanted = append(wanted, "GET "+server.URL+sealedPath)
				}
				if !slices.Equal(tb.asked, wanted) {
					t.Errorf("the page asked for %q, want %q", tb.asked, wanted)
				}
				if offered := tb.eval(`document.getElementById("check")?.checkVisibility() ?? false`); offered != verdict.Issued() {
					t.Errorf("offers to verify in the browser: %v", offered)
				}
				if large := tb.eval(`document.querySelector("nav a:last-child").href`); large != address+"&size=large#7KQ2M9XW4B" {
					t.Errorf("the link to large type is %v", large)
				}
				tb.shoot(string(verdict) + "-" + lang)
				tb.quiet()
			})
		}
		server.Close()
	}
	tb.again(t)
}

// TestPagesWithoutScripts opens each verdict in each language in a frame that runs
// no scripts.
func TestPagesWithoutScripts(t *testing.T) {
	var asked visitor
	mux := http.NewServeMux()
	mux.HandleFunc(web.Prefix, func(w http.ResponseWriter, r *http.Request) {
		framed(pages(verification(service.Verdict(r.URL.Query().Get("verdict")))), w, r)
	})
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!DOCTYPE html><body style="margin:0">`)
		for verdict, byLanguage := range words {
			for lang := range byLanguage {
				fmt.Fprintf(w, `<iframe id="%s-%s" sandbox="allow-same-origin" style="border:0" width="390" height="2500" src="%s%s?lang=%s&verdict=%s"></iframe>`,
					verdict, lang, web.Prefix, ref, lang, verdict)
			}
		}
		fmt.Fprint(w, `<pre id="report" hidden></pre><script>addEventListener("load", () => {
			const report = {};
			for (const frame of document.querySelectorAll("iframe")) report[frame.id] = frame.contentDocument.documentElement.outerHTML;
			document.getElementById("report").textContent = JSON.stringify(report);
		});</script>`)
	})
	mux.HandleFunc("/", func(_ http.ResponseWriter, r *http.Request) { asked.note(r.URL.Path) })
	server := httptest.NewServer(mux)
	defer server.Close()
	_, dom, _ := screenshot(t, server.URL, "no-scripts", 394*5, 2510*4)
	m := regexp.MustCompile(`(?s)<pre id="report" hidden="">(.*?)</pre>`).FindStringSubmatch(dom)
	if m == nil {
		t.Fatal("the harness wrote no report")
	}
	var report map[string]string
	if err := json.Unmarshal([]byte(html.UnescapeString(m[1])), &report); err != nil {
		t.Fatal(err)
	}
	if len(report) != 2*len(words) {
		t.Fatalf("%d pages shown, want %d", len(report), 2*len(words))
	}
	for verdict, byLanguage := range words {
		for lang, want := range byLanguage {
			shown := report[string(verdict)+"-"+lang]
			if got := heading(t, shown); got != want {
				t.Errorf("%s/%s: heading %q, want %q", verdict, lang, got, want)
			}
			if !strings.Contains(shown, `action="/verify?lang=`+lang+`"`) {
				t.Errorf("%s/%s: no form to send a file by", verdict, lang)
			}
			if hidden := strings.Contains(shown, `<div id="browser" hidden="">`); hidden != verdict.Issued() {
				t.Errorf("%s/%s: hides what needs scripts: %v", verdict, lang, hidden)
			}
		}
	}
	for _, path := range asked.seen() {
		if path != "/favicon.ico" && path != "/verify/page.js" { // fetched ahead, not run
			t.Errorf("a page asked for %s", path)
		}
	}
}

// framed answers a page that a test may show in a frame; the rest of its policy is
// in force.
func framed(page http.Handler, w http.ResponseWriter, r *http.Request) {
	answer := httptest.NewRecorder()
	page.ServeHTTP(answer, r)
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	policy := answer.Header().Get("Content-Security-Policy")
	w.Header().Set("Content-Security-Policy", strings.Replace(policy, "frame-ancestors 'none'", "frame-ancestors 'self'", 1))
	w.WriteHeader(answer.Code)
	_, _ = io.Copy(w, answer.Body)
}

var harness = template.Must(template.New("").Parse(`<!DOCTYPE html><html><head><meta charset="utf-8"><style>
body { margin: 0; background: #ccc } iframe { border: 0; display: inline-block; vertical-align: top; margin: 0 4px 4px 0; background: #fff }</style></head><body>
{{range .Frames}}<iframe id="{{.Name}}" width="{{$.Width}}" height="{{$.Height}}" srcdoc="{{.Page}}"></iframe>{{end}}
<pre id="report"></pre><script>
addEventListener("load", () => {
	const report = {};
	for (const frame of document.querySelectorAll("iframe")) {
		const root = frame.contentDocument.documentElement;
		const small = [...frame.contentDocument.querySelectorAll("nav a, .button, input:not([type=hidden])")]
			.filter(a => a.getClientRects().length > 0)
			.filter(a => a.getBoundingClientRect().height < 44 || a.getBoundingClientRect().width < 44).map(a => a.textContent || a.id);
		report[frame.id] = { viewport: root.clientWidth, content: root.scrollWidth, height: root.scrollHeight, small,
			font: parseFloat(getComputedStyle(frame.contentDocument.body).fontSize) };
	}
	document.getElementById("report").textContent = JSON.stringify(report);
});
</script></body></html>`))

type frame struct{ Name, Page string }

// allPages names every page that there is: the verdicts on a certificate, the
// answer to a link that is none, and the page about a file.
func allPages() []string {
	all := []string{"malformed", "objection", "file", "file-valid", "file-refused"}
	for verdict := range words {
		all = append(all, string(verdict))
	}
	slices.Sort(all)
	return all
}

// renderPage answers one of [allPages], asked about an earlier day as well where it
// can be.
func renderPage(name, lang, size string) string {
	w := httptest.NewRecorder()
	query := "?lang=" + lang + "&size=" + size
	v := verification(service.Verdict(name))
	switch name {
	case "malformed":
		pages(verification(service.Valid)).ServeHTTP(w, httptest.NewRequest(http.MethodGet, web.Prefix+"x"+query, nil))
	case "objection":
		now := verification(service.Valid)
		now.Certificate.OpenObjection = &domain.Objection{Act: domain.StatusAct{DocumentNo: "公异字〔2026〕第3号", EffectiveAt: now.AsOf}, RecordedAt: now.AsOf}
		pages(now).ServeHTTP(w, httptest.NewRequest(http.MethodGet, web.Prefix+ref+query, nil))
	case "file":
		pages(v).ServeHTTP(w, httptest.NewRequest(http.MethodGet, web.FilePath+query, nil))
	case "file-valid", "file-refused":
		now := verification(service.Valid)
		checked := service.Checked{Verdict: service.BadProof, Reason: "2 of 4 departments signed, 3 are required"}
		outcome := proof.Fail
		if name == "file-valid" {
			outcome = proof.Pass
			checked = service.Checked{
				Verdict: service.Valid, Signers: []proof.Department{{NameZh: "公安局", NameEn: "Public Security Bureau"}, {NameZh: "民政局", NameEn: "Civil Affairs Bureau"}},
				Certificate: now.Certificate, Issuer: &proof.Department{NameZh: "公安局", NameEn: "Public Security Bureau"}, Now: &now,
				Statement: &domain.Statement{Kind: domain.KindCertificate, ID: ref, Found: true, AsOf: now.AsOf},
				Items:     []credential.Item{{Name: "姓名", Value: "李四"}, {Name: "居住地址", Value: "某省某市某区某路某号某小区某栋某单元某室"}}, Withheld: 2,
			}
		}
		for _, q := range []proof.Question{proof.Integrity, proof.Quorum, proof.Scope, proof.Freshness, proof.Status} {
			checked.Checks = append(checked.Checks, proof.Check{Question: q, Outcome: outcome})
		}
		pages(now).ServeChecked(w, httptest.NewRequest(http.MethodPost, web.FilePath+query, nil), checked)
	default:
		pages(v).ServeHTTP(w, httptest.NewRequest(http.MethodGet, web.Prefix+ref+query+"&at=2026-11-10", nil))
	}
	return w.Body.String()
}

type layout struct {
	Viewport, Content, Height int
	Font                      float64
	Small                     []string
}

// TestNarrowAndLarge lays every page out in a viewport of 320 px, in both text
// sizes: nothing may need scrolling sideways and no control may be small.
func TestNarrowAndLarge(t *testing.T) {
	for _, size := range []string{"normal", "large"} {
		t.Run(size, func(t *testing.T) {
			var frames []frame
			for _, verdict := range allPages() {
				for _, lang := range []string{"zh", "en"} {
					frames = append(frames, frame{verdict + "-" + lang, renderPage(verdict, lang, size)})
				}
			}
			var sheet bytes.Buffer
			err := harness.Execute(&sheet, struct {
				Width, Height int
				Frames        []frame
			}{320, 3200, frames})
			if err != nil {
				t.Fatal(err)
			}
			mux := http.NewServeMux() // other paths: the icon that a browser asks for
			mux.Handle("/verify/", pages(verification(service.Valid)))
			mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				_, _ = w.Write(sheet.Bytes())
			})
			server := httptest.NewServer(mux)
			defer server.Close()

			dom, _ := browse(t, server.URL, "--dump-dom")
			m := regexp.MustCompile(`(?s)<pre id="report">(.*?)</pre>`).FindStringSubmatch(dom)
			if m == nil {
				t.Fatal("the harness wrote no report")
			}
			var report map[string]layout
			if err := json.Unmarshal([]byte(html.UnescapeString(m[1])), &report); err != nil {
				t.Fatalf("report: %v\n%.200s", err, m[1])
			}
			if len(report) != len(frames) {
				t.Fatalf("%d pages laid out, want %d", len(report), len(frames))
			}
			minimum := map[string]float64{"normal": 18, "large": 24}[size]
			for name, got := range report {
				if got.Viewport != 320 || got.Content > got.Viewport {
					t.Errorf("%s: content %d px wide in a viewport of %d px", name, got.Content, got.Viewport)
				}
				if got.Height < 400 || got.Font < minimum {
					t.Errorf("%s: height %d px, text %.0f px", name, got.Height, got.Font)
				}
				if len(got.Small) != 0 {
					t.Errorf("%s: controls smaller than 44 px: %v", name, got.Small)
				}
			}
			if os.Getenv("ZHENGLIAN_SCREENSHOTS") != "" {
				screenshot(t, server.URL, "narrow-"+size, 324*8, 3210*4)
			}
		})
	}
}

// TestHostileTextDoesNothing renders pages of certificates with hostile text in
// every field. The policy's frame-ancestors alone is left out, so that one
// browser can show all of them; the rest of it is in force.
func TestHostileTextDoesNothing(t *testing.T) {
	const run = `new(Image).src='/ran'`
	var corpus []string
	for _, s := range []string{
		`<script>` + run + `</script>`, `</bdi><script>` + run + `</script>`, `"><img src=/ran onerror=` + run + `>`,
		`<svg onload=` + run + `>`, `<iframe src="javascript:` + run + `"></iframe>`, `</style><script>` + run + `</script>`,
		`</title><script>` + run + `</script>`, `<form action=/ran><input name=id autofocus onfocus=` + run + `>`,
		`<base href=/ran/>`, `<meta http-equiv=refresh content="0;url=/ran">`, `{{.Verdict}}`, `<!--`, `--><script>` + run + `</script>`,
		`<math><mtext></table><mglyph><style><img src=/ran onerror=` + run + `>`, `&lt;script&gt;` + run, `<ScRiPt>` + run + `</sCrIpT>`,
		"\u202e<script>" + run + "</script>\u202c", `" onmouseover="` + run, `' autofocus onfocus='` + run,
		`<details open ontoggle=` + run + `>`, `<link rel=stylesheet href=/ran>`, `<style>@import "/ran";</style>`,
		`<object data=/ran></object>`, `<embed src=/ran>`, `<video src=/ran onerror=` + run + `>`, `<body onload=` + run + `>`,
		`＜script＞` + run + `＜/script＞`, `<h1>有效</h1>`, `=cmd|'/c calc'!A1`, strings.Repeat("长", 400), strings.Repeat("x", 400),
		`<link rel=preload as=image href=/ran>`, `<input autofocus onfocus=` + run + `>`, `<audio src=/ran>`,
	} {
		corpus = append(corpus, s, "居住证"+s, s+"居住证", strings.ToUpper(s), "javascript:"+s, `">`+s)
	}
	if len(corpus) < 200 {
		t.Fatalf("corpus of %d texts", len(corpus))
	}

	var asked visitor
	mux := http.NewServeMux()
	mux.HandleFunc(web.Prefix, func(w http.ResponseWriter, r *http.Request) {
		var i int
		if _, err := fmt.Sscanf(r.URL.Query().Get("text"), "%d", &i); err != nil || i >= len(corpus) {
			http.NotFound(w, r)
			return
		}
		v := verification(service.Revoked)
		c := &v.Certificate.Content
		c.TypeNameZh, c.TypeNameEn, c.CertID, c.IssuerUSCC = corpus[i], corpus[i], corpus[i], corpus[i]
		v.Certificate.StatusAct.DocumentNo, v.Certificate.StatusAct.LegalBasis = corpus[i], corpus[i]
		v.Issuer.NameZh, v.Issuer.NameEn = corpus[i], corpus[i]
		framed(pages(v), w, r)
		asked.note("page")
	})
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		for i := range corpus {
			fmt.Fprintf(w, `<iframe src="%s%s?text=%d"></iframe>`, web.Prefix, ref, i)
		}
	})
	mux.Handle("/verify/page.js", pages(verification(service.Valid)))
	mux.HandleFunc("/", func(_ http.ResponseWriter, r *http.Request) { asked.note(r.URL.Path) })
	server := httptest.NewServer(mux)
	defer server.Close()

	_, console := browse(t, server.URL, "--dump-dom")
	shown := 0
	for _, path := range asked.seen() {
		switch path {
		case "page":
			shown++
		case "/favicon.ico": // of the frame set, which is the test's own page
		default:
			t.Errorf("a page asked for %s", path)
		}
	}
	if shown != len(corpus) {
		t.Errorf("%d pages shown, want %d", shown, len(corpus))
	}
	if console != "" {
		t.Errorf("console messages:\n%.2000s", console)
	}
}

// TestQRCodesOnAPage takes a picture of a page with both forms of the QR code
// and reads the link back from it.
func TestQRCodesOnAPage(t *testing.T) {
	const link = "https://verify.zhenglian.example/v/" + ref + "#7KQ2M9XW4B"
	png, err := qrcode.PNG(link, 6)
	if err != nil {
		t.Fatal(err)
	}
	svg, err := qrcode.SVG(link)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/qr.png", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		_, _ = w.Write(png)
	})
	mux.HandleFunc("/qr.svg", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/svg+xml")
		_, _ = w.Write(svg)
	})
	mux.HandleFunc("/{file}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `<body style="background:#ddd"><p>证照 certificate</p><img src="/qr.%s" width="330" height="330"></body>`, r.PathValue("file"))
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	for _, form := range []string{"png", "svg"} {
		t.Run(form, func(t *testing.T) {
			img, _, _ := screenshot(t, server.URL+"/"+form, "qr-"+form, 500, 500)
			bitmap, err := gozxing.NewBinaryBitmapFromImage(img)
			if err != nil {
				t.Fatal(err)
			}
			result, err := zxing.NewQRCodeReader().Decode(bitmap, map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_TRY_HARDER: true})
			if err != nil {
				t.Fatalf("decode the screenshot: %v", err)
			}
			if got := result.GetText(); got != link {
				t.Errorf("decoded %q, want %q", got, link)
			}
		})
	}
}
