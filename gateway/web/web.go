// Package web holds the gateway's pages: the public one that answers a scanned
// certificate link, the one that checks a file somebody was given, and the one on
// which auditors trace the use of data.
//
// The public pages are HTML without cookies or anything from another address, and
// say all they know without scripts. One script is there for readers who want to
// verify in their own browser what the departments signed. A page says what is
// known and no more: a certificate that cannot be checked is never shown as valid,
// nor as invalid.
package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
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

// FilePath is the path of the page that checks a file. The pages' script and the
// program that verifies in the browser lie under it.
const FilePath = "/verify"

// malformed is this package's own answer to a link that names no reference; the
// verification service is not asked. noFile is its answer to one who has not given
// a file yet.
const (
	malformed service.Verdict = "malformed"
	noFile    service.Verdict = "file"
)

// maxHistory is how many changes of status a page lists.
const maxHistory = 20

//go:embed page.html
var pageSource string

//go:embed page.css
var styleSource string

//go:embed page.js
var scriptSource []byte

// verifierSource is the build of proof/js for browsers, which "npm run
// build:gateway" there writes.
//
//go:embed verifier/zhenglian-proof.js
var verifierSource []byte

// Options adapt the pages to the gateway that serves them. The zero value works.
type Options struct {
	OperatorZh string           // department that runs the gateway, as shown on the page; "" shows none
	OperatorEn string           // the same in English
	RetryAfter time.Duration    // what a page that cannot check asks clients to wait; 0 means 5 s
	Clock      func() time.Time // what days are past; nil: the system's
}

// Pages serves the certificate page, and the page and files under [FilePath]. It is
// safe for concurrent use.
type Pages struct {
	verify  func(ctx context.Context, ref string) service.Verification
	options Options
	policy  string // Content-Security-Policy
	pages   map[string]*template.Template
	texts   map[string]text
	files   map[string][]byte // scripts, by path
}

// New returns the pages over verify, which is called once per request with a
// reference of 32 lower-case hexadecimal digits and must not block for long. It
// panics if an embedded file is damaged, which the tests rule out.
func New(verify func(ctx context.Context, ref string) service.Verification, options Options) *Pages {
	if options.RetryAfter <= 0 {
		options.RetryAfter = 5 * time.Second
	}
	if options.Clock == nil {
		options.Clock = time.Now
	}
	sum := sha256.Sum256([]byte(styleSource))
	p := &Pages{
		verify:  verify,
		options: options,
		// The script may ask this gateway and nobody else, and write text only.
		policy: "default-src 'none'; script-src 'self'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; " +
			"img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; " +
			"require-trusted-types-for 'script'; trusted-types 'none'",
		pages: make(map[string]*template.Template),
		texts: make(map[string]text),
	}
	spoken := make(map[string]text)
	for _, lang := range languages {
		words := mustText(textFiles, "text/"+lang+".json")
		funcs := template.FuncMap{"t": words.say}
		p.texts[lang] = words
		p.pages[lang] = template.Must(template.New("").Funcs(funcs).Parse(pageSource))
		spoken[lang] = words.spoken()
	}
	texts, err := json.Marshal(spoken)
	if err != nil {
		panic(fmt.Sprintf("web: %v", err))
	}
	p.files = map[string][]byte{
		FilePath + "/page.js":            slices.Concat([]byte("const TEXT = "), texts, []byte(";\n"), scriptSource),
		FilePath + "/zhenglian-proof.js": verifierSource,
	}
	return p
}

// ServeHTTP answers GET and HEAD of /v/{ref}?lang=zh|en&size=large&at=day, of
// /verify and of the files under it. The status of a certificate's page is 200 for
// a certificate that was issued whatever its verdict, 404 for one that is not known,
// 400 for a malformed reference or day and 503 when nothing can be said.
func (p *Pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	p.protect(header)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	if file, ok := p.files[r.URL.Path]; ok {
		header.Set("Content-Type", "text/javascript; charset=utf-8")
		header.Set("Content-Length", strconv.Itoa(len(file)))
		w.WriteHeader(http.StatusOK)
		if r.Method == http.MethodGet {
			_, _ = w.Write(file) // the client went away: nobody is left to tell
		}
		return
	}
	how := p.shown(r)
	if r.URL.Path == FilePath {
		p.render(w, r, "checked", http.StatusOK, how, p.fileView(service.Checked{Verdict: noFile}, how))
		return
	}

	v := service.Verification{Verdict: malformed}
	rest, ok := strings.CutPrefix(r.URL.Path, Prefix)
	if ref, err := service.ParseRef(rest); ok && err == nil {
		v = sound(p.verify(r.Context(), ref), ref)
	}
	page := p.view(v, how)
	status := statusOf(v.Verdict)
	if page.Then != nil && page.Then.Bad && status == http.StatusOK {
		status = http.StatusBadRequest
	}
	if status == http.StatusServiceUnavailable {
		seconds := int64((p.options.RetryAfter + time.Second - 1) / time.Second)
		header.Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	p.render(w, r, "page", status, how, page)
}

// ServeChecked answers with the page that says what was found of a file that
// somebody sent. It shows nothing of a file that is refused.
func (p *Pages) ServeChecked(w http.ResponseWriter, r *http.Request, checked service.Checked) {
	p.protect(w.Header())
	how := p.shown(r)
	p.render(w, r, "checked", http.StatusOK, how, p.fileView(checked, how))
}

func (p *Pages) protect(header http.Header) {
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy", p.policy)
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Vary", "Accept-Language")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Robots-Tag", "noindex")
}

// shown is how a reader wants a page.
type shown struct {
	lang  string
	large bool
	at    string // the moment asked about; "" for the present alone
}

func (p *Pages) shown(r *http.Request) shown {
	query := r.URL.Query()
	return shown{
		lang:  negotiate(query.Get("lang"), r.Header.Get("Accept-Language")),
		large: query.Get("size") == "large",
		at:    query.Get("at"),
	}
}

// link is the query that shows the same page.
func (s shown) link() string {
	q := url.Values{"lang": {s.lang}}
	if s.large {
		q.Set("size", "large")
	}
	if s.at != "" {
		q.Set("at", s.at)
	}
	return "?" + q.Encode()
}

func (p *Pages) render(w http.ResponseWriter, r *http.Request, name string, status int, how shown, page any) {
	var body bytes.Buffer
	if err := p.pages[how.lang].ExecuteTemplate(&body, name, page); err != nil {
		// Not reachable with the embedded files; an empty page would read as an answer.
		http.Error(w, "无法核验 cannot check", http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Language", p.texts[how.lang]["lang"])
	header.Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body.Bytes()) // the client went away: nobody is left to tell
	}
}

// stored is the status that the record must have for a verdict on the present.
var stored = map[service.Verdict]domain.CertificateStatus{
	service.Valid:       domain.CertificateValid,
	service.Expired:     domain.CertificateValid,
	service.NotYetValid: domain.CertificateValid,
	service.Suspended:   domain.CertificateSuspended,
	service.Revoked:     domain.CertificateRevoked,
	service.Withdrawn:   domain.CertificateWithdrawn,
	service.Cancelled:   domain.CertificateCancelled,
	service.Superseded:  domain.CertificateSuperseded,
}

// sound turns an answer that contradicts itself into "cannot check": a verdict
// about a certificate must come with that certificate, in the status that it says.
func sound(v service.Verification, ref string) service.Verification {
	cannot := service.Verification{
		Verdict: service.CannotCheck, Reason: service.ReasonInternal,
		Ref: ref, AsOf: v.AsOf, Height: v.Height,
	}
	switch {
	case v.Verdict.Issued():
		if v.Certificate == nil || v.Certificate.Content.Ref != ref || v.Certificate.Status != stored[v.Verdict] {
			return cannot
		}
	case v.Verdict == service.NotFound:
		v.Certificate = nil
	case v.Verdict == service.CannotCheck:
		cannot.Reason = v.Reason
		return cannot
	default:
		return cannot
	}
	v.Ref = ref
	return v
}

func statusOf(v service.Verdict) int {
	switch {
	case v.Issued():
		return http.StatusOK
	case v == service.NotFound:
		return http.StatusNotFound
	case v == malformed:
		return http.StatusBadRequest
	}
	return http.StatusServiceUnavailable // it cannot be checked, as whatever is unknown here
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
	Objection   *act  // that is open against it; nil when none is
	Act         *act  // behind what the certificate is now; nil while nothing happened to it
	History     []act // newest first; empty while nothing happened
	Older       int   // changes that History leaves out
}

// act is a change of status and the decision behind it, in words.
type act struct {
	Kind, DocumentNo, LegalBasis, Effective, Recorded string
}

// then is what was the case at an earlier moment, in words.
type then struct {
	Bad             bool // the moment asked about is none, or is in the future
	At, Word, Means string
}

// frame is what all public pages show.
type frame struct {
	Verdict      string
	Word         string
	Means        string
	Large        bool
	Style        template.HTML
	LanguageLink string
	SizeLink     string
	FileAction   string
	AsOf         string
	Facts        *facts
}

// view is what the certificate page shows.
type view struct {
	frame
	Reason        string
	Do            string
	SameLink      string
	ProofLink     string
	SuccessorLink string
	Then          *then
	FirstDay      string // that can be asked about, as 2026-01-31
	Today         string
	ThenDay       string // that was asked about; "" for none
	Ref           string
	Block         uint64
	Height        uint64
	Operator      string
}

func (p *Pages) frame(verdict service.Verdict, how shown) frame {
	words := p.texts[how.lang]
	other := how
	other.lang = words["other_lang"]
	sized := how
	sized.large = !how.large
	action := shown{lang: how.lang, large: how.large}
	return frame{
		Verdict:      string(verdict),
		Large:        how.large,
		Style:        template.HTML("<style>" + styleSource + "</style>"), //nolint:gosec // our own embedded file, covered by the policy's hash
		LanguageLink: other.link(),
		SizeLink:     sized.link(),
		FileAction:   FilePath + action.link(),
	}
}

func (p *Pages) view(v service.Verification, how shown) view {
	words := p.texts[how.lang]
	verdict := string(v.Verdict)
	out := view{
		frame:    p.frame(v.Verdict, how),
		Do:       words["do_"+verdict],
		SameLink: how.link(),
		Ref:      v.Ref,
		Height:   v.Height,
		Operator: p.options.OperatorZh,
	}
	out.Word, out.Means = words["word_"+verdict], words["means_"+verdict]
	if how.lang == "en" {
		out.Operator = p.options.OperatorEn
	}
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
	c := v.Certificate
	out.ProofLink = "/v1/verify/" + v.Ref + "/proof"
	out.Block = v.Position.Block
	out.Facts = certificateFacts(*c, words, how.lang)
	if v.Issuer != nil {
		out.Facts.nameIssuer(v.Issuer.NameZh, v.Issuer.NameEn, how.lang)
	}
	if ref, err := service.ParseRef(c.Successor); err == nil && v.Verdict == service.Superseded {
		out.SuccessorLink = Prefix + ref + shown{lang: how.lang, large: how.large}.link()
	}
	if strings.Contains(out.Means, "%s") { // names the moment since when
		out.Means = fmt.Sprintf(out.Means, words.since(v.Verdict, *c))
	}
	p.askThen(&out, v, how)
	return out
}

// since says since when the certificate is what the verdict says, or from when it
// will be valid.
func (words text) since(verdict service.Verdict, c domain.Certificate) string {
	switch verdict {
	case service.Expired:
		return words.instant(c.Content.Validity.To)
	case service.NotYetValid:
		return words.instant(c.Content.Validity.From)
	case service.Valid, service.Suspended, service.Revoked, service.Withdrawn, service.Cancelled, service.Superseded, service.NotFound, service.CannotCheck:
	}
	return words.moment(c.StatusSince, "minute")
}

// askThen fills in the answer about an earlier moment, if one was asked about. The
// page's verdict stays that of the present: who is sent a link must not take one for
// the other.
func (p *Pages) askThen(out *view, v service.Verification, how shown) {
	words, now := p.texts[how.lang], p.options.Clock()
	out.FirstDay, out.Today = v.Certificate.Content.IssuedAt.In(beijing).Format(time.DateOnly), now.In(beijing).Format(time.DateOnly)
	if how.at == "" {
		return
	}
	at, err := service.ParseMoment(how.at, now)
	if err != nil {
		out.Then = &then{Bad: true}
		return
	}
	out.ThenDay = at.In(beijing).Format(time.DateOnly)
	m := v.Then(at)
	answer := &then{At: words.moment(at, "minute"), Word: words["word_"+string(m.Verdict)]}
	switch {
	case m.Verdict == service.Valid, m.Verdict == service.Expired, m.Verdict == service.NotYetValid:
		answer.Means = words["then_"+string(m.Verdict)]
	case m.Change != nil:
		answer.Means = fmt.Sprintf(words["then_since"], words.moment(m.Change.Since, "minute"))
	}
	out.Then = answer
}

func certificateFacts(c domain.Certificate, words text, lang string) *facts {
	content := c.Content
	f := &facts{
		IssuerUSCC: content.IssuerUSCC,
		Issued:     words.moment(content.IssuedAt, "date"),
		Validity:   words.validity(content.Validity),
		Holder:     words["holder_unknown"],
		CertID:     content.CertID,
	}
	switch content.HolderKind {
	case domain.HolderPerson, domain.HolderOrganisation:
		f.Holder = words["holder_"+content.HolderKind]
	}
	f.Type, f.TypeOther = bilingual(content.TypeNameZh, content.TypeNameEn, lang)
	if o := c.OpenObjection; o != nil {
		f.Objection = &act{
			DocumentNo: o.Act.DocumentNo, LegalBasis: o.Act.LegalBasis,
			Effective: words.moment(o.Act.EffectiveAt, "minute"), Recorded: words.moment(o.RecordedAt, "minute"),
		}
	}
	if len(c.Changes) < 2 { // the issue alone
		return f
	}
	for i := len(c.Changes) - 1; i >= 0; i-- {
		if len(f.History) == maxHistory {
			f.Older = i + 1
			break
		}
		f.History = append(f.History, words.act(c.Changes[i], i == 0))
	}
	f.Act = &f.History[0]
	return f
}

// act puts a change of status into words.
func (words text) act(change domain.StatusChange, first bool) act {
	kind := words["act_"+string(change.Status)]
	if change.Status == domain.CertificateValid && !first {
		kind = words["act_restored"]
	}
	a := act{Kind: kind, Effective: words.moment(change.Since, "minute"), Recorded: words.moment(change.RecordedAt, "minute")}
	if change.Act != nil {
		a.DocumentNo, a.LegalBasis = change.Act.DocumentNo, change.Act.LegalBasis
	}
	return a
}

func (f *facts) nameIssuer(zh, en, lang string) {
	first, second := bilingual(zh, en, lang)
	if first != nil {
		f.Issuer = *first
	}
	f.IssuerOther = second
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
