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
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/makiuchi-d/gozxing"
	zxing "github.com/makiuchi-d/gozxing/qrcode"
	"golang.org/x/net/html"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/qrcode"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/web"
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

func verification(verdict service.Verdict) service.Verification {
	beijing := time.FixedZone("", 8*60*60)
	v := service.Verification{
		Verdict: verdict, Ref: ref, Height: 43,
		AsOf: time.Date(2026, 11, 21, 22, 5, 6, 0, beijing),
	}
	switch verdict {
	case service.CannotCheck:
		v.Reason = service.ReasonIndexBehind
		return v
	case service.NotFound:
		return v
	case service.Valid, service.Revoked, service.Expired, service.NotYetValid: // tell of a certificate
	}
	v.Position = domain.Position{Block: 17}
	v.Issuer = &domain.Department{Code: "police", NameZh: "公安局", NameEn: "Public Security Bureau"}
	v.Certificate = &domain.Certificate{
		Issuer: "police",
		Content: domain.CertificateContent{
			Ref:        ref,
			CertID:     "1.2.156.3005.2.11100000000013338W011.11430000006122244L.20230000403.001.U",
			TypeNameZh: "中华人民共和国居住证",
			TypeNameEn: "Residence permit of the People’s Republic of China",
			IssuerUSCC: "11430000006122244L",
			HolderKind: "person",
			IssuedAt:   time.Date(2026, 11, 1, 9, 0, 0, 0, beijing),
			Validity: domain.Period{
				From: time.Date(2026, 11, 1, 0, 0, 0, 0, beijing),
				To:   time.Date(2027, 11, 1, 0, 0, 0, 0, beijing),
			},
		},
		Status:      domain.CertificateValid,
		StatusSince: time.Date(2026, 11, 1, 9, 0, 0, 0, beijing),
	}
	if verdict == service.Revoked {
		v.Certificate.Status = domain.CertificateRevoked
		v.Certificate.StatusSince = time.Date(2026, 11, 20, 11, 0, 0, 0, beijing)
		v.Certificate.StatusAct = &domain.StatusAct{
			DocumentNo:  "公撤决字〔2026〕第12号",
			LegalBasis:  "《中华人民共和国行政许可法》第六十九条第一款第四项",
			EffectiveAt: time.Date(2026, 11, 20, 0, 0, 0, 0, beijing),
		}
	}
	return v
}

// words are the headings that the tests expect, by verdict and language.
var words = map[service.Verdict]map[string]string{
	service.Valid:       {"zh": "有效", "en": "Valid"},
	service.Revoked:     {"zh": "已撤销", "en": "Revoked"},
	service.Expired:     {"zh": "已失效", "en": "Expired"},
	service.NotYetValid: {"zh": "未到生效日", "en": "Not yet valid"},
	service.NotFound:    {"zh": "未找到", "en": "Not found"},
	service.CannotCheck: {"zh": "无法核验", "en": "Cannot check"},
}

func pages(v service.Verification) http.Handler {
	return web.New(func(context.Context, string) service.Verification { return v },
		web.Options{OperatorZh: "公安局", OperatorEn: "Public Security Bureau"})
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

// TestVerdictPages opens each verdict in each language as a phone would.
func TestVerdictPages(t *testing.T) {
	for verdict, byLanguage := range words {
		for lang, want := range byLanguage {
			t.Run(string(verdict)+"/"+lang, func(t *testing.T) {
				var others visitor
				page := pages(verification(verdict))
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if !strings.HasPrefix(r.URL.Path, web.Prefix) {
						others.note(r.URL.Path)
					}
					page.ServeHTTP(w, r)
				}))
				defer server.Close()
				url := server.URL + web.Prefix + ref + "?lang=" + lang
				img, dom, console := screenshot(t, url, string(verdict)+"-"+lang, 390, 1600)
				if got := heading(t, dom); got != want {
					t.Errorf("heading %q, want %q", got, want)
				}
				if console != "" {
					t.Errorf("console messages:\n%s", console)
				}
				if paths := others.seen(); len(paths) != 0 {
					t.Errorf("the page asked for %v", paths)
				}
				if size := img.Bounds().Size(); size.Y < 1000 {
					t.Errorf("screenshot of %v", size)
				}
			})
		}
	}
}

var harness = template.Must(template.New("").Parse(`<!DOCTYPE html><html><head><meta charset="utf-8"><style>
body { margin: 0; background: #ccc } iframe { border: 0; display: inline-block; vertical-align: top; margin: 0 4px 4px 0; background: #fff }</style></head><body>
{{range .Frames}}<iframe id="{{.Name}}" width="{{$.Width}}" height="{{$.Height}}" srcdoc="{{.Page}}"></iframe>{{end}}
<pre id="report"></pre><script>
addEventListener("load", () => {
	const report = {};
	for (const frame of document.querySelectorAll("iframe")) {
		const root = frame.contentDocument.documentElement;
		const small = [...frame.contentDocument.querySelectorAll("nav a, .button")]
			.filter(a => a.getBoundingClientRect().height < 44 || a.getBoundingClientRect().width < 44).map(a => a.textContent);
		report[frame.id] = { viewport: root.clientWidth, content: root.scrollWidth, height: root.scrollHeight, small,
			font: parseFloat(getComputedStyle(frame.contentDocument.body).fontSize) };
	}
	document.getElementById("report").textContent = JSON.stringify(report);
});
</script></body></html>`))

type frame struct{ Name, Page string }

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
			for _, verdict := range []service.Verdict{service.Valid, service.Revoked, service.Expired, service.NotYetValid, service.NotFound, service.CannotCheck, "malformed"} {
				for _, lang := range []string{"zh", "en"} {
					target := web.Prefix + ref + "?lang=" + lang + "&size=" + size
					v := verification(verdict)
					if verdict == "malformed" {
						target = web.Prefix + "x?lang=" + lang + "&size=" + size
					}
					w := httptest.NewRecorder()
					pages(v).ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
					frames = append(frames, frame{string(verdict) + "-" + lang, w.Body.String()})
				}
			}
			var sheet bytes.Buffer
			err := harness.Execute(&sheet, struct {
				Width, Height int
				Frames        []frame
			}{320, 1900, frames})
			if err != nil {
				t.Fatal(err)
			}
			mux := http.NewServeMux() // other paths: the icon that a browser asks for
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
				screenshot(t, server.URL, "narrow-"+size, 324*7, 1910*2)
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
		answer := httptest.NewRecorder()
		pages(v).ServeHTTP(answer, r)
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		policy := answer.Header().Get("Content-Security-Policy")
		w.Header().Set("Content-Security-Policy", strings.Replace(policy, "frame-ancestors 'none'", "frame-ancestors 'self'", 1))
		w.WriteHeader(answer.Code)
		_, _ = io.Copy(w, answer.Body)
		asked.note("page")
	})
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		for i := range corpus {
			fmt.Fprintf(w, `<iframe src="%s%s?text=%d"></iframe>`, web.Prefix, ref, i)
		}
	})
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
