package web

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
)

// AuditPath is the path of the page for auditors; its files lie under it.
const AuditPath = "/audit"

//go:embed audit
var auditFiles embed.FS

// auditPolicy lets the page run its own script, which may ask its own gateway and
// nobody else, and may write text only: no markup reaches the document.
const auditPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// Audit serves the page on which auditors trace the use of data. The page itself
// holds no data and is the same for everybody: its script asks the gateway's
// interface with the token that the auditor pastes into it, and keeps the token in
// memory only. It is safe for concurrent use.
type Audit struct {
	pages map[string][]byte // by language
	files map[string]auditFile
}

type auditFile struct {
	media string
	body  []byte
}

// NewAudit returns the page. It panics if an embedded file is damaged, which the
// tests rule out.
func NewAudit() *Audit {
	a := &Audit{pages: make(map[string][]byte), files: make(map[string]auditFile)}
	texts := make(map[string]text)
	for _, lang := range languages {
		words := mustText(auditFiles, "audit/"+lang+".json")
		texts[lang] = words
		page := template.Must(template.New("").Funcs(template.FuncMap{"t": words.say}).Parse(string(mustFile("audit.html"))))
		var body bytes.Buffer
		if err := page.Execute(&body, nil); err != nil {
			panic(fmt.Sprintf("web: %v", err))
		}
		a.pages[lang] = body.Bytes()
	}
	words, err := json.Marshal(texts)
	if err != nil {
		panic(fmt.Sprintf("web: %v", err))
	}
	script := append(append([]byte("const TEXT = "), words...), ";\n"...)
	a.files[AuditPath+"/audit.js"] = auditFile{"text/javascript; charset=utf-8", append(script, mustFile("audit.js")...)}
	a.files[AuditPath+"/audit.css"] = auditFile{"text/css; charset=utf-8", mustFile("audit.css")}
	return a
}

func mustFile(name string) []byte {
	data, err := auditFiles.ReadFile("audit/" + name)
	if err != nil {
		panic(fmt.Sprintf("web: %v", err))
	}
	return data
}

// ServeHTTP answers GET and HEAD of /audit?lang=zh|en and of its two files.
func (a *Audit) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy", auditPolicy)
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Robots-Tag", "noindex")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	file, ok := a.files[r.URL.Path]
	if r.URL.Path == AuditPath {
		lang := negotiate(r.URL.Query().Get("lang"), r.Header.Get("Accept-Language"))
		file, ok = auditFile{"text/html; charset=utf-8", a.pages[lang]}, true
		header.Set("Content-Language", map[string]string{"zh": "zh-CN", "en": "en"}[lang])
		header.Set("Vary", "Accept-Language")
	}
	if !ok {
		http.NotFound(w, r)
		return
	}
	header.Set("Content-Type", file.media)
	header.Set("Content-Length", strconv.Itoa(len(file.body)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		_, _ = w.Write(file.body) // the client went away: nobody is left to tell
	}
}
