package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/makiuchi-d/gozxing"
	zxing "github.com/makiuchi-d/gozxing/qrcode"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/credential"
	"github.com/zhenglian/zhenglian/gateway/credential/credentialtest"
	"github.com/zhenglian/zhenglian/gateway/print"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/web"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// paperCode is the check code on the paper of the tests.
const paperCode = "K7QXM2RTWHABCDEFGHJKLMNPQRST"

// paper is a certificate as its holder has it on paper, and what the gateway
// serves of it.
type paper struct {
	bureau
	credential credential.Issued
	sealed     []byte
	link       string // on the paper
}

// newPaper issues a certificate with items, of which the check code shows some.
func newPaper(t *testing.T) *paper {
	t.Helper()
	c := prooftest.New()
	p := &paper{bureau: bureau{Consortium: c, ledger: c.Certificate(), claims: service.Valid}}
	p.issue(t, []credential.Item{
		{Name: "姓名", Value: "张三丰", ByCode: credential.Masked},
		{Name: "公民身份号码", Value: "EXAMPLE19900101001X", ByCode: credential.Masked},
		{Name: "住址", Value: "示例市样板路1号"},
		{Name: "许可范围", Value: "样例经营", ByCode: credential.Whole},
	})
	return p
}

// issue signs a credential of these items and puts its digest on the ledger.
func (p *paper) issue(t *testing.T, items []credential.Item) {
	t.Helper()
	content := &p.ledger.Content
	lists := "https://zheng.example/v1/status-lists/" + string(p.ledger.Issuer)
	var err error
	p.credential, err = credentialtest.NewIssuer(p.Consortium, p.ledger.Issuer).Issue(credential.Claims{
		Ref: content.Ref, CertID: content.CertID, TypeCode: content.TypeCode, TypeNameZh: content.TypeNameZh, TypeNameEn: content.TypeNameEn,
		IssuedAt: content.IssuedAt, Validity: content.Validity,
		Status: credential.Status{Index: content.StatusIndex, Revocation: lists + "/revocation/0", Suspension: lists + "/suspension/0"},
	}, items)
	if err != nil {
		t.Fatal(err)
	}
	if content.ContentDigest, err = credential.Digest(p.credential.Credential); err != nil {
		t.Fatal(err)
	}
	content.CheckCodeHash = domain.CheckCodeHash(content.Ref, paperCode)
	p.seal(t, p.credential.ByCode)
}

func (p *paper) seal(t *testing.T, text string) {
	t.Helper()
	var err error
	if p.sealed, err = credential.Seal(p.ledger.Content.Ref, paperCode, text); err != nil {
		t.Fatal(err)
	}
}

// serve answers what a gateway answers, with the page's whole policy.
func (p *paper) serve(t *testing.T) string {
	t.Helper()
	page := web.New(func(_ context.Context, ref string) service.Verification {
		v := verification(p.claims)
		v.Ref, v.AsOf = ref, prooftest.Epoch
		if v.Certificate != nil {
			certificate := p.ledger
			v.Certificate = &certificate
		}
		return v
	}, web.Options{OperatorZh: "公安局", OperatorEn: "Public Security Bureau", Clock: func() time.Time { return prooftest.Epoch }})
	mux := http.NewServeMux()
	mux.Handle(web.Prefix, page)
	mux.Handle(web.FilePath+"/", page)
	reference := "/v1/verify/" + p.ledger.Content.Ref
	for path, answer := range map[string]func(*http.Request) []byte{
		"/v1/trust":           func(*http.Request) []byte { return p.TrustFile() },
		reference + "/proof":  func(r *http.Request) []byte { return p.prove(r.URL.Query().Get("nonce")) },
		reference + "/sealed": func(*http.Request) []byte { return p.sealed },
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == p.failing {
				http.Error(w, "{}", http.StatusServiceUnavailable)
				return
			}
			w.Header().Set("Content-Type", "application/octet-stream")
			_, _ = w.Write(answer(r))
		})
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	p.link = server.URL + web.Prefix + p.ledger.Content.Ref + "#" + paperCode
	return server.URL
}

// at sets the browser's clock to that of the departments.
func (tb *tab) at(now time.Time) {
	tb.t.Helper()
	tb.call("Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": fmt.Sprintf(`{
		const offset = %d - Date.now(), real = Date;
		globalThis.Date = class extends real {
			constructor(...args) { if (args.length) super(...args); else super(real.now() + offset); }
			static now() { return real.now() + offset; }
		};
	}`, now.UnixMilli())})
}

const (
	waitOpened   = `document.querySelector("#code-result dl, #code-result p:only-child") !== null && !/正在|Opening/.test(document.getElementById("code-result").textContent)`
	waitVerified = `document.querySelector("#browser-result .answer, #browser-result p:only-child") !== null && !document.getElementById("browser-result").hasAttribute("aria-busy")`
	waitChecked  = `document.querySelector("#file-result .answer, #file-result p:only-child") !== null && !document.getElementById("file-result").hasAttribute("aria-busy")`
)

// says fails the test unless the element says all of want and nothing of never.
func (tb *tab) says(id string, want, never []string) {
	tb.t.Helper()
	got := tb.text(id)
	for _, w := range want {
		if !strings.Contains(got, w) {
			tb.t.Errorf("#%s does not say %q:\n%s", id, w, got)
		}
	}
	for _, w := range never {
		if strings.Contains(got, w) {
			tb.t.Errorf("#%s says %q:\n%s", id, w, got)
		}
	}
}

// accessible runs axe-core on what the page shows now.
func (tb *tab) accessible() {
	tb.t.Helper()
	tb.eval(string(axe(tb.t)) + `; 0`)
	data, err := json.Marshal(tb.eval(`(async () => {` + runAxe + ` return report; })()`))
	if err != nil {
		tb.t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(data, &r); err != nil {
		tb.t.Fatal(err)
	}
	r.check(tb.t)
}

// TestByCode opens what the check code shows, verifies it and compares it with the
// paper, in both languages. The code leaves the browser by no way.
func TestByCode(t *testing.T) {
	for lang, words := range map[string]struct{ unsigned, signed, agrees, part, fails, items string }{
		"zh": {"签名还没有验证", "由颁发机构签名", "✓ 相符", "✓ 显示的部分相符", "✗ 不符", "照面信息由颁发机构签名，并与账本相符: 通过"},
		"en": {"not verified yet", "The issuer signed this", "✓ agrees", "✓ what is shown agrees", "✗ does not agree", "The issuer signed the items, and they agree with the ledger: passed"},
	} {
		t.Run(lang, func(t *testing.T) {
			p, tb := newPaper(t), newTab(t)
			p.serve(t)
			tb.at(prooftest.Epoch.Add(time.Second))
			tb.open(strings.Replace(p.link, "#", "?lang="+lang+"#", 1))
			tb.until(waitOpened)
			shown := []string{"张**", "E*****************X", "样例经营"}
			secret := []string{"张三", "19900101", "样板路"}
			tb.says("code-result", append(shown, words.unsigned), append(secret, words.signed))

			tb.eval(`document.querySelector("#paper-tools details").open = true`)
			for i, typed := range []struct{ text, want string }{
				{p.ledger.Content.CertID, words.agrees}, {"张 三丰", words.part}, {"example19900101001x", words.part}, {"样例经营", words.agrees},
			} {
				for _, change := range []struct{ text, want string }{{typed.text, typed.want}, {typed.text[:len(typed.text)-1] + "9", words.fails}, {"", ""}, {typed.text, typed.want}} {
					tb.eval(fmt.Sprintf(`{ const input = document.getElementById("typed-%d"); input.value = %q; input.dispatchEvent(new Event("change")); }`, i, change.text))
					if got := fmt.Sprint(tb.eval(fmt.Sprintf(`document.querySelector("[for=typed-%d] ~ output").textContent`, i))); got != change.want && !strings.HasPrefix(got, change.want+"，") && !strings.HasPrefix(got, change.want+";") {
						t.Errorf("%q typed for item %d: %q, want %q", change.text, i, got, change.want)
					}
				}
			}

			tb.eval(`document.getElementById("check").click()`)
			tb.until(waitVerified)
			tb.says("browser-result", []string{words.items}, nil)
			tb.says("code-result", append(shown, words.signed), append(secret, words.unsigned))
			tb.shoot("by-code-" + lang)
			tb.accessible()
			tb.quiet()
			tb.never(paperCode, paperCode[:8], "张", "EXAMPLE", "POST ")
			if len(tb.asked) < 5 {
				t.Errorf("%d requests seen", len(tb.asked))
			}
		})
	}
}

// TestByCodeDistrusts gives the page what it must not show as the issuer's.
func TestByCodeDistrusts(t *testing.T) {
	p, tb := newPaper(t), newTab(t)
	p.serve(t)
	tb.at(prooftest.Epoch.Add(time.Second))
	good, honest := p.sealed, p.ledger
	for _, tt := range []struct {
		name, code string
		change     func()
		shown      string // of what the code opens; "" when it opens nothing
		items      string // outcome of the check of items; "" when there is none
		says       string
	}{
		{name: "another code", code: "L" + paperCode[1:], says: "没有打开任何内容"},
		{name: "a code of the old length", code: paperCode[:10], says: "没有打开任何内容"},
		{name: "a changed byte", code: paperCode, change: func() { p.sealed = slices.Clone(good); p.sealed[99] ^= 1 }, says: "没有打开任何内容"},
		{name: "nothing is sealed", code: paperCode, change: func() { p.sealed = nil }, says: "没有打开任何内容"},
		{name: "it fails", code: paperCode, change: func() { p.failing = "/v1/verify/" + prooftest.Ref + "/sealed" }, says: "现在取不到"},
		{name: "small letters and hyphens", code: "k7qx-m2rt wHAB-CDEF-GHJK-LMNP-QRST", shown: "张**", items: "通过"},
		{
			name: "items of another credential", code: paperCode, shown: "李*", items: "未通过",
			change: func() {
				p.issue(t, []credential.Item{{Name: "姓名", Value: "李四", ByCode: credential.Masked}})
				p.ledger = honest
			},
		},
		{
			name: "items that nobody signed", code: paperCode, shown: "王五", items: "未通过",
			change: func() {
				p.seal(t, strings.Split(p.credential.ByCode, "~")[0]+"~WyJBQUVDQXdRRkJnY0lDUW9MREEwT0R3Iix7Im5hbWUiOiJcdTU5ZDNcdTU0MGQiLCJ2YWx1ZSI6Ilx1NzM4Ylx1NGU5NCJ9XQ~")
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tb.again(t)
			p.sealed, p.ledger, p.failing = good, honest, ""
			if tt.change != nil {
				tt.change()
			}
			tb.open(p.link[:strings.IndexByte(p.link, '#')] + "?lang=zh")
			tb.eval(fmt.Sprintf(`document.getElementById("code").value = %q; document.querySelector("#code-form button").click()`, tt.code))
			tb.until(waitOpened)
			if tt.shown == "" {
				tb.says("code-result", []string{tt.says}, []string{"张", "签名"})
			} else {
				tb.says("code-result", []string{tt.shown, "签名还没有验证"}, nil)
			}
			p.failing = ""
			tb.eval(`document.getElementById("check").click()`)
			tb.until(waitVerified)
			got := tb.text("browser-result")
			if asked := strings.Contains(got, "照面信息由颁发机构签名"); asked != (tt.items != "") || asked && !strings.Contains(got, "并与账本相符: "+tt.items) {
				t.Errorf("the items are checked: %v, want %q:\n%s", asked, tt.items, got)
			}
			if tt.items == "未通过" {
				tb.says("code-result", []string{"照面信息不可信"}, []string{tt.shown})
			}
			tb.never(tt.code)
		})
	}
	tb.again(t)
}

// TestCredentialInTheBrowser checks the file that a holder hands over: nothing of
// it is sent but the reference.
func TestCredentialInTheBrowser(t *testing.T) {
	p, tb := newPaper(t), newTab(t)
	p.serve(t)
	tb.at(prooftest.Epoch.Add(time.Second))
	some, err := credential.Present(p.credential.Credential, []string{"姓名", "住址"})
	if err != nil {
		t.Fatal(err)
	}
	honest := p.ledger
	for _, tt := range []struct {
		name, file string
		ledger     domain.Certificate
		says       []string
		never      []string
	}{
		{"some items", some + "\n", honest, []string{"证明成立：证照有效", "张三丰", "样板路", "没有出示的项数\n2", "并与账本相符: 通过"}, []string{"EXAMPLE"}},
		{"revoked", some, p.Changed(honest, domain.CertificateRevoked, prooftest.Epoch.AddDate(0, 0, -1)), []string{"证明成立：证照已被撤销", "张三丰"}, nil},
		{"changed", strings.Replace(some, "~", "~WyJB~", 1), honest, []string{"证明不成立"}, []string{"张三丰"}},
		{"of another content", some, p.Certificate(), []string{"证明不成立", "照面信息不可信", "another content"}, []string{"张三丰"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tb.again(t)
			p.ledger, p.claims = tt.ledger, service.Verdict(tt.ledger.StatusAt(prooftest.Epoch))
			tb.open(p.link[:strings.IndexByte(p.link, '#')] + "?lang=zh")
			tb.eval(choose("file-input", []byte(tt.file)) + `document.querySelector("#file-form button").click();`)
			tb.until(waitChecked)
			tb.says("file-result", tt.says, tt.never)
			tb.never("POST ", "张", "eyJ")
			tb.quiet()
		})
	}
	tb.again(t)
}

// TestKeyboardOnly goes through the page with the Tab key: everything is reached
// once, in the order in which it stands, and is seen to have the focus; then a code
// is typed, opened and verified without a pointer.
func TestKeyboardOnly(t *testing.T) {
	p, tb := newPaper(t), newTab(t)
	p.serve(t)
	tb.at(prooftest.Epoch.Add(time.Second))
	tb.open(p.link[:strings.IndexByte(p.link, '#')] + "?lang=zh")
	const controls = `[...document.querySelectorAll("a[href], button, input:not([type=hidden]), summary")].filter((e) => e.checkVisibility())`
	count := int(tb.eval(controls + `.length`).(float64))
	if count < 12 {
		t.Fatalf("%d controls on the page", count)
	}
	focused := func() int { return int(tb.eval(controls + `.indexOf(document.activeElement)`).(float64)) }
	visited := []int{}
	for range 3 * count {
		tb.press("Tab")
		at := focused()
		if at < 0 { // the browser's own controls come next
			break
		}
		if len(visited) > 0 && visited[len(visited)-1] == at {
			continue // a date has parts
		}
		visited = append(visited, at)
		if seen := tb.eval(`(() => { const s = getComputedStyle(document.activeElement); return s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2 || document.activeElement.type === "file"; })()`); seen != true {
			t.Errorf("control %d is not seen to have the focus: %v", at, tb.eval(`document.activeElement.outerHTML`))
		}
	}
	want := make([]int, count)
	for i := range want {
		want[i] = i
	}
	if !slices.Equal(visited, want) {
		t.Errorf("Tab reaches controls %v of %d", visited, count)
	}

	reach := func(selector string) {
		t.Helper()
		for range 3 * count {
			if tb.eval(fmt.Sprintf(`document.activeElement === document.querySelector(%q)`, selector)) == true {
				return
			}
			tb.press("Tab")
		}
		t.Fatalf("%s is not reached", selector)
	}
	reach("#code")
	tb.write(paperCode)
	tb.press("Enter")
	tb.until(waitOpened)
	tb.says("code-result", []string{"张**"}, nil)
	reach("#paper-tools summary")
	tb.press("Enter")
	reach("#typed-1")
	tb.write("张三丰")
	tb.press("Tab")
	tb.says("typed", []string{"✓ 显示的部分相符"}, nil)
	reach("#check")
	tb.press(" ")
	tb.until(waitVerified)
	tb.says("browser-result", []string{"证明成立：证照有效"}, nil)
	tb.quiet()
	tb.never(paperCode)
}

// TestZoom shows every page at 400 %, in a window of 1280 × 1024: nothing may need
// scrolling sideways.
func TestZoom(t *testing.T) {
	tb := newTab(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, web.FilePath+"/") {
			pages(verification(service.Valid)).ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		q := r.URL.Query()
		_, _ = io.WriteString(w, renderPage(q.Get("name"), q.Get("lang"), q.Get("size")))
	}))
	defer server.Close()
	tb.size(320, 256, 4)
	for _, name := range allPages() {
		for _, how := range []string{"lang=zh&size=normal", "lang=en&size=large"} {
			tb.open(server.URL + "/?name=" + name + "&" + how)
			tb.eval(`for (const d of document.querySelectorAll("details")) d.open = true`)
			if wide := tb.eval(`document.documentElement.scrollWidth`).(float64); wide > 320 {
				t.Errorf("%s %s: %v px wide in 320", name, how, wide)
			}
		}
	}
	tb.shoot("zoom")
}

// TestPrintedPage prints the page of each verdict: what is known is on it, what
// needs a screen is not.
func TestPrintedPage(t *testing.T) {
	tb := newTab(t)
	for verdict, byLanguage := range words {
		server := httptest.NewServer(pages(verification(verdict)))
		for lang, want := range byLanguage {
			tb.open(server.URL + web.Prefix + ref + "?lang=" + lang)
			text := pdfText(t, tb.print("printed-"+string(verdict)+"-"+lang))
			if !strings.Contains(text, want) || !strings.Contains(text, ref[:8]) {
				t.Errorf("%s/%s does not say %q:\n%s", verdict, lang, want, text)
			}
			for _, control := range []string{"大字版", "Larger text", "English", "中文", "在本浏览器中核验", "Verify in this browser", "核验这份文件"} {
				if strings.Contains(text, control) {
					t.Errorf("%s/%s prints %q", verdict, lang, control)
				}
			}
		}
		server.Close()
	}
}

func pdfText(t *testing.T, file string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "pdftotext", "-layout", file, "-").Output()
	if err != nil {
		t.Fatalf("pdftotext: %v; install it with: apt-get install -y poppler-utils", err)
	}
	return string(out)
}

// TestFromPaperToPage prints a certificate, scans the code from a picture of the
// paper and opens what was scanned.
func TestFromPaperToPage(t *testing.T) {
	p, tb := newPaper(t), newTab(t)
	p.serve(t)
	tb.at(prooftest.Epoch.Add(time.Second))
	printer, err := print.New("")
	if err != nil {
		t.Fatal(err)
	}
	content := p.ledger.Content
	pdf, err := printer.PDF(print.Certificate{
		TypeNameZh: content.TypeNameZh, TypeNameEn: content.TypeNameEn, CertID: content.CertID, Ref: content.Ref, IssuerZh: "示例市公安局", IssuerEn: "Public Security Bureau",
		IssuerUSCC: content.IssuerUSCC, IssuedAt: content.IssuedAt, Validity: content.Validity, Items: []credential.Item{{Name: "姓名", Value: "张三丰"}},
		Link: p.link, CheckCode: paperCode, PrintedAt: prooftest.Epoch,
	})
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	file := filepath.Join(folder, "paper.pdf")
	if err := os.WriteFile(file, pdf, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "pdftoppm", "-png", "-singlefile", "-r", "200", file, filepath.Join(folder, "paper")).CombinedOutput(); err != nil {
		t.Fatalf("pdftoppm: %v\n%s", err, out)
	}
	picture, err := os.ReadFile(filepath.Join(folder, "paper.png"))
	if err != nil {
		t.Fatal(err)
	}
	img, _, err := image.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	bitmap, err := gozxing.NewBinaryBitmapFromImage(img)
	if err != nil {
		t.Fatal(err)
	}
	scanned, err := zxing.NewQRCodeReader().Decode(bitmap, map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_TRY_HARDER: true})
	if err != nil {
		t.Fatalf("scan the paper: %v", err)
	}
	if scanned.GetText() != p.link {
		t.Fatalf("scanned %q, want %q", scanned.GetText(), p.link)
	}
	tb.open(scanned.GetText())
	tb.until(waitOpened)
	tb.says("code-result", []string{"张**"}, nil)
	tb.quiet()
	tb.never(paperCode)
}
