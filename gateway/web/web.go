// Package web holds the gateway's pages: the public one that answers a scanned
// certificate link, and the one on which auditors trace the use of data.
//
// The public page is one HTML document without scripts, cookies, forms or anything from
// another address. It says what is known and no more: a certificate that cannot
// be checked is never shown as valid, nor as invalid.
package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/language"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/service"
)

// Prefix is the path that certificate links begin with; the reference follows.
const Prefix = "/v/"

// malformed is this package's own answer to a link that names no reference; the
// verification service is not asked.
const malformed service.Verdict = "malformed"

//go:embed page.html
var pageSource string

//go:embed page.css
var styleSource string

// Options adapt the page to the gateway that serves it. The zero value works.
type Options struct {
	OperatorZh string        // department that runs the gateway, as shown on the page; "" shows none
	OperatorEn string        // the same in English
	RetryAfter time.Duration // what a page that cannot check asks clients to wait; 0 means 5 s
}

// Pages serves the certificate page. It is safe for concurrent use.
type Pages struct {
	verify  func(ctx context.Context, ref string) service.Verification
	options Options
	policy  string // Content-Security-Policy
	pages   map[string]*template.Template
	texts   map[string]text
}

// New returns the pages over verify, which is called once per request with a
// reference of 32 lower-case hexadecimal digits and must not block for long. It
// panics if an embedded file is damaged, which the tests rule out.
func New(verify func(ctx context.Context, ref string) service.Verification, options Options) *Pages {
	if options.RetryAfter <= 0 {
		options.RetryAfter = 5 * time.Second
	}
	sum := sha256.Sum256([]byte(styleSource))
	p := &Pages{
		verify:  verify,
		options: options,
		policy: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; " +
			"img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		pages: make(map[string]*template.Template),
		texts: make(map[string]text),
	}
	for _, lang := range languages {
		words := mustText(textFiles, "text/"+lang+".json")
		funcs := template.FuncMap{"t": words.say}
		p.texts[lang] = words
		p.pages[lang] = template.Must(template.New("").Funcs(funcs).Parse(pageSource))
	}
	return p
}

// ServeHTTP answers GET and HEAD of /v/{ref}?lang=zh|en&size=large. Its status is
// 200 for a certificate that is on the ledger whatever its verdict, 404 for one
// that is not, 400 for a malformed reference and 503 when nothing can be said.
func (p *Pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy", p.policy)
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Vary", "Accept-Language")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Robots-Tag", "noindex")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}

	v := service.Verification{Verdict: malformed}
	rest, ok := strings.CutPrefix(r.URL.Path, Prefix)
	if ref, err := service.ParseRef(rest); ok && err == nil {
		v = sound(p.verify(r.Context(), ref), ref)
	}
	query := r.URL.Query()
	lang := negotiate(query.Get("lang"), r.Header.Get("Accept-Language"))
	page := p.view(v, lang, query.Get("size") == "large")

	var body bytes.Buffer
	if err := p.pages[lang].ExecuteTemplate(&body, "page", page); err != nil {
		// Not reachable with the embedded files; an empty page would read as an answer.
		http.Error(w, "无法核验 cannot check", http.StatusInternalServerError)
		return
	}
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Language", p.texts[lang]["lang"])
	header.Set("Content-Length", strconv.Itoa(body.Len()))
	status := statusOf(v.Verdict)
	if status == http.StatusServiceUnavailable {
		seconds := int64((p.options.RetryAfter + time.Second - 1) / time.Second)
		header.Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	w.WriteHeader(status)
	if r.Method == http.MethodGet {
		_, _ = w.Write(body.Bytes()) // the client went away: nobody is left to tell
	}
}

// sound turns an answer that contradicts itself into "cannot check": a verdict
// about a certificate must come with that certificate.
func sound(v service.Verification, ref string) service.Verification {
	cannot := service.Verification{
		Verdict: service.CannotCheck, Reason: service.ReasonInternal,
		Ref: ref, AsOf: v.AsOf, Height: v.Height,
	}
	switch v.Verdict {
	case service.Valid, service.Revoked, service.Expired, service.NotYetValid:
		if v.Certificate == nil || v.Certificate.Content.Ref != ref {
			return cannot
		}
		if v.Verdict == service.Valid && v.Certificate.Status != domain.CertificateValid {
			return cannot
		}
	case service.NotFound:
		v.Certificate = nil
	case service.CannotCheck:
		cannot.Reason = v.Reason
		return cannot
	default:
		return cannot
	}
	v.Ref = ref
	return v
}

func statusOf(v service.Verdict) int {
	switch v {
	case service.Valid, service.Revoked, service.Expired, service.NotYetValid:
		return http.StatusOK
	case service.NotFound:
		return http.StatusNotFound
	case malformed:
		return http.StatusBadRequest
	case service.CannotCheck: // as whatever is unknown here
	}
	return http.StatusServiceUnavailable
}

// negotiate picks "zh" or "en": what the link asks for, else the first language
// of the browser's list that the page has, else Chinese. Only the base language
// counts: a reader of traditional Chinese is better served in Chinese than in
// the English that also is on the list.
func negotiate(asked, accept string) string {
	if slices.Contains(languages, asked) {
		return asked
	}
	tags, _, err := language.ParseAcceptLanguage(accept)
	if err != nil {
		return languages[0]
	}
	for _, tag := range tags {
		// Not exact is a guess: a browser that names no language is given "en".
		if base, sure := tag.Base(); sure == language.Exact && slices.Contains(languages, base.String()) {
			return base.String()
		}
	}
	return languages[0]
}

// phrase is a text with its language, for the lang attribute.
type phrase struct{ Text, Lang string }

// facts are what the ledger says of the certificate, in words.
type facts struct {
	Type        *phrase
	TypeOther   *phrase // the type's name in the other language, nil when there is none
	Issuer      phrase
	IssuerOther *phrase
	IssuerUSCC  string
	Issued      string
	Validity    string
	Holder      string
	CertID      string
	Act         *act
}

// act is the decision behind a revocation, in words.
type act struct {
	DocumentNo, LegalBasis, Effective, Recorded string
}

// view is what the template shows.
type view struct {
	Verdict      string
	Word         string
	Means        string
	Reason       string
	Do           string
	Large        bool
	Style        template.HTML
	LanguageLink string
	SizeLink     string
	SameLink     string
	ProofLink    string
	Facts        *facts
	Ref          string
	AsOf         string
	Block        uint64
	Height       uint64
	Operator     string
}

func (p *Pages) view(v service.Verification, lang string, large bool) view {
	words := p.texts[lang]
	verdict := string(v.Verdict)
	out := view{
		Verdict:  verdict,
		Word:     words["word_"+verdict],
		Means:    words["means_"+verdict],
		Do:       words["do_"+verdict],
		Large:    large,
		Style:    template.HTML("<style>" + styleSource + "</style>"), //nolint:gosec // our own embedded file, covered by the policy's hash
		SameLink: link(lang, large),
		SizeLink: link(lang, !large),
		Ref:      v.Ref,
		Height:   v.Height,
		Operator: p.options.OperatorZh,
	}
	if lang == "en" {
		out.Operator = p.options.OperatorEn
	}
	other := words["other_lang"]
	out.LanguageLink = link(other, large)
	if !v.AsOf.IsZero() {
		out.AsOf = words.moment(v.AsOf, "time")
	}
	if v.Verdict == service.CannotCheck {
		switch v.Reason {
		case service.ReasonIndexBehind, service.ReasonStarting:
			out.Reason = words["reason_"+v.Reason]
		default:
			out.Reason = words["reason_"+service.ReasonInternal]
		}
	}
	if v.Certificate == nil {
		return out
	}
	out.ProofLink = "/v1/verify/" + v.Ref + "/proof"
	out.Block = v.Position.Block
	out.Facts = certificateFacts(v, words, lang)

	c := v.Certificate
	switch v.Verdict {
	case service.Revoked:
		since := c.StatusSince
		if c.StatusAct != nil {
			since = c.StatusAct.EffectiveAt
			out.Facts.Act = &act{
				DocumentNo: c.StatusAct.DocumentNo,
				LegalBasis: c.StatusAct.LegalBasis,
				Effective:  words.moment(since, "minute"),
				Recorded:   words.moment(c.StatusSince, "minute"),
			}
		}
		out.Means = fmt.Sprintf(out.Means, words.moment(since, "minute"))
	case service.Expired:
		out.Means = fmt.Sprintf(out.Means, words.instant(c.Content.Validity.To))
	case service.NotYetValid:
		out.Means = fmt.Sprintf(out.Means, words.instant(c.Content.Validity.From))
	case service.Valid, service.NotFound, service.CannotCheck: // name no moment
	}
	return out
}

func certificateFacts(v service.Verification, words text, lang string) *facts {
	content := v.Certificate.Content
	f := &facts{
		IssuerUSCC: content.IssuerUSCC,
		Issued:     words.moment(content.IssuedAt, "date"),
		Validity:   words.validity(content.Validity),
		Holder:     words["holder_unknown"],
		CertID:     content.CertID,
	}
	switch content.HolderKind {
	case "person", "organisation":
		f.Holder = words["holder_"+content.HolderKind]
	}
	f.Type, f.TypeOther = bilingual(content.TypeNameZh, content.TypeNameEn, lang)
	if v.Issuer != nil {
		first, second := bilingual(v.Issuer.NameZh, v.Issuer.NameEn, lang)
		if first != nil {
			f.Issuer = *first
		}
		f.IssuerOther = second
	}
	return f
}

// bilingual orders a Chinese and an English name by the page's language. The
// Chinese name is the legal one, so it is shown on English pages too.
func bilingual(zh, en, lang string) (first, second *phrase) {
	names := []*phrase{{zh, "zh-CN"}, {en, "en"}}
	if lang == "en" {
		names[0], names[1] = names[1], names[0]
	}
	var present []*phrase
	for _, n := range names {
		if n.Text != "" {
			present = append(present, n)
		}
	}
	switch len(present) {
	case 0:
		return nil, nil
	case 1:
		return present[0], nil
	}
	return present[0], present[1]
}

// link is the query that shows the same page in a language and size.
func link(lang string, large bool) string {
	q := url.Values{"lang": {lang}}
	if large {
		q.Set("size", "large")
	}
	return "?" + q.Encode()
}
