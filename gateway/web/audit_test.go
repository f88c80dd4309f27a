package web

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func auditPages(t *testing.T) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, lang := range languages {
		res, body := get(t, NewAudit(), AuditPath+"?lang="+lang, "")
		if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Fatalf("%s: %d, %v", lang, res.StatusCode, res.Header)
		}
		out[lang] = body
	}
	return out
}

// TestAuditPageLoadsItsOwnFilesOnly checks that the page has no script or style in
// line, nothing from elsewhere and a policy that says so, and that it is small.
func TestAuditPageLoadsItsOwnFilesOnly(t *testing.T) {
	for lang, body := range auditPages(t) {
		size := len(body)
		doc := parse(t, body)
		for n := range doc.root.Descendants() {
			for _, a := range n.Attr {
				if a.Key == "style" || strings.HasPrefix(a.Key, "on") {
					t.Errorf("%s: <%s> has attribute %s", lang, n.Data, a.Key)
				}
				if (a.Key == "href" || a.Key == "src") && !slices.Contains([]string{"#main", "data:,", "/audit/audit.css", "/audit/audit.js"}, a.Val) {
					t.Errorf("%s: <%s %s=%q> leaves the page", lang, n.Data, a.Key, a.Val)
				}
				if a.Key == "action" || a.Key == "formaction" || a.Key == "method" {
					t.Errorf("%s: <%s> has attribute %s: the token must not leave by a form", lang, n.Data, a.Key)
				}
			}
		}
		for _, s := range append(doc.elements("script"), doc.elements("style")...) {
			if s.FirstChild != nil {
				t.Errorf("%s: <%s> in line", lang, s.Data)
			}
		}
		for path, media := range map[string]string{"/audit/audit.css": "text/css; charset=utf-8", "/audit/audit.js": "text/javascript; charset=utf-8"} {
			res, file := get(t, NewAudit(), path, "")
			if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != media || res.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s: %d, %v", path, res.StatusCode, res.Header)
			}
			if regexp.MustCompile(`https?://|@import|url\(`).MatchString(file) {
				t.Errorf("%s names another address", path)
			}
			size += len(file)
		}
		if size > 60<<10 {
			t.Errorf("%s: page, script and style have %d bytes, more than 60 KiB", lang, size)
		}
	}
	res, _ := get(t, NewAudit(), AuditPath, "")
	policy := res.Header.Get("Content-Security-Policy")
	for _, want := range []string{
		"default-src 'none'", "script-src 'self';", "style-src 'self';", "connect-src 'self';", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'",
	} {
		if !strings.Contains(policy, want) {
			t.Errorf("policy %q lacks %q", policy, want)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Errorf("policy %q", policy)
	}
}

// TestAuditScriptStoresNothing: the token is in memory only, and what is shown is
// text.
func TestAuditScriptStoresNothing(t *testing.T) {
	script := string(mustFile("audit.js"))
	for _, forbidden := range []string{
		"localStorage", "sessionStorage", "indexedDB", "document.cookie", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write",
		"eval(", "new Function", "history.", "location.", "postMessage", "WebSocket", "XMLHttpRequest", "sendBeacon", "console.",
	} {
		if strings.Contains(script, forbidden) {
			t.Errorf("the script has %q", forbidden)
		}
	}
	if !strings.Contains(script, `let token = "";`) || !strings.Contains(script, `addEventListener("pagehide", leave)`) {
		t.Error("the token is not where this test looks for it")
	}
}

func TestAuditTexts(t *testing.T) {
	zh, en := mustText(auditFiles, "audit/zh.json"), mustText(auditFiles, "audit/en.json")
	places := regexp.MustCompile(`\{\d\}`)
	for key := range zh {
		a, b := places.FindAllString(zh[key], -1), places.FindAllString(en[key], -1)
		slices.Sort(a)
		slices.Sort(b)
		if zh[key] == "" || en[key] == "" || !slices.Equal(a, b) {
			t.Errorf("text %q: %q and %q", key, zh[key], en[key])
		}
	}
	if len(zh) != len(en) || len(zh) < 100 {
		t.Errorf("%d and %d texts", len(zh), len(en))
	}
	used := 0
	for file, pattern := range map[string]string{"audit.html": `\bt "([a-z_]+)"`, "audit.js": `\bt\("([a-z_]+)"[,)]`} {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(mustFile(file)), -1) {
			used++
			if zh[m[1]] == "" {
				t.Errorf("%s uses %q, which has no text", file, m[1])
			}
		}
	}
	if used < 100 {
		t.Errorf("only %d uses were found", used)
	}
	// What the script shows comes with the script, in both languages.
	_, script := get(t, NewAudit(), "/audit/audit.js", "")
	first, _, _ := strings.Cut(strings.TrimPrefix(script, "const TEXT = "), ";\n")
	var got map[string]text
	if err := json.Unmarshal([]byte(first), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]text{"zh": zh, "en": en}, got); diff != "" {
		t.Errorf("texts of the script (-want +got):\n%s", diff)
	}
}

// TestAuditStructure checks what a screen reader relies on in the page as it is
// served: one main heading, no level skipped, every control named, no id twice.
func TestAuditStructure(t *testing.T) {
	for lang, body := range auditPages(t) {
		doc := parse(t, body)
		if want := map[string]string{"zh": "zh-CN", "en": "en"}[lang]; attr(doc.elements("html")[0], "lang") != want {
			t.Errorf("%s: lang %q", lang, attr(doc.elements("html")[0], "lang"))
		}
		if len(doc.elements("main")) != 1 || len(doc.elements("h1")) != 1 || len(doc.elements("h3")) != 0 {
			t.Errorf("%s: headings or main", lang)
		}
		ids := make(map[string]bool)
		for n := range doc.root.Descendants() {
			if id := attr(n, "id"); id != "" {
				if ids[id] {
					t.Errorf("%s: id %q twice", lang, id)
				}
				ids[id] = true
			}
		}
		labels := make(map[string]bool)
		for _, l := range doc.elements("label") {
			if words(l) == "" || !ids[attr(l, "for")] {
				t.Errorf("%s: label %q for %q", lang, words(l), attr(l, "for"))
			}
			labels[attr(l, "for")] = true
		}
		for _, control := range append(doc.elements("input"), doc.elements("select")...) {
			if !labels[attr(control, "id")] {
				t.Errorf("%s: control %q has no label", lang, attr(control, "id"))
			}
		}
		for _, b := range doc.elements("button") {
			if words(b) == "" || attr(b, "type") == "" {
				t.Errorf("%s: button %q without name or type", lang, attr(b, "id"))
			}
		}
		for n := range doc.root.Descendants() {
			for _, ref := range []string{attr(n, "aria-labelledby"), attr(n, "aria-describedby")} {
				if ref != "" && !ids[ref] {
					t.Errorf("%s: %q does not exist", lang, ref)
				}
			}
		}
	}
}

func TestAuditContrast(t *testing.T) {
	style := string(mustFile("audit.css"))
	colours := make(map[string]string)
	for _, m := range regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6});`).FindAllStringSubmatch(style, -1) {
		colours[m[1]] = m[2]
	}
	for _, p := range [][2]string{
		{"ink", "paper"}, {"soft", "paper"}, {"ink", "panel"}, {"soft", "panel"}, {"link", "paper"}, {"on", "link"},
		{"good", "paper"}, {"bad", "paper"}, {"open", "paper"}, {"bad", "panel"}, {"good", "good-panel"}, {"bad", "bad-panel"}, {"open", "open-panel"},
	} {
		a, b := colours[p[0]], colours[p[1]]
		if a == "" || b == "" {
			t.Errorf("colour %v is missing", p)
			continue
		}
		if got := contrast(t, a, b); got < 7 {
			t.Errorf("%s on %s: %.2f to 1, less than 7", p[0], p[1], got)
		}
	}
}

func TestAuditMethodsAndPaths(t *testing.T) {
	for _, tt := range []struct {
		method, target string
		status         int
	}{
		{"GET", "/audit", 200},
		{"HEAD", "/audit/audit.js", 200},
		{"POST", "/audit", 405},
		{"GET", "/audit/", 404},
		{"GET", "/audit/zh.json", 404},
		{"GET", "/audit/../audit.go", 404},
	} {
		w := httptest.NewRecorder()
		NewAudit().ServeHTTP(w, httptest.NewRequest(tt.method, tt.target, nil))
		if w.Code != tt.status || w.Header().Get("Content-Security-Policy") != auditPolicy {
			t.Errorf("%s %s: status %d, want %d", tt.method, tt.target, w.Code, tt.status)
		}
		if tt.method == http.MethodHead && w.Body.Len() != 0 {
			t.Error("HEAD has a body")
		}
	}
}
