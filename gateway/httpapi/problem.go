package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/service"
)

// ProblemType begins the type of every problem document; the code follows.
const ProblemType = "https://zhenglian.example/problems/"

const (
	problemMedia = "application/problem+json"

	internalDetail    = "the gateway failed; its log names the cause under this trace id"
	unavailableDetail = "the ledger cannot be reached or too few departments answer; nothing was written"
	lateDetail        = "the answer took too long; a write may have been recorded all the same"
	rejectedDetail    = "the write was not taken; the gateway's log says why"
	fullDetail        = "as many writes as may be wait for the ledger already; nothing was written; the Retry-After header says when to try again, and with an Idempotency-Key a write may wait here"
	busyDetail        = "too many access records wait to be written; none of these was logged; the Retry-After header says when to send them again"

	// pollAfter and retryAfter are what clients are asked to wait, in seconds.
	pollAfter  = 2
	retryAfter = 3
)

// problems gives each code its status and title. They never vary with the case.
var problems = map[api.ProblemCode]struct {
	status         int
	title, titleZh string
}{
	api.ProblemCodeInvalid:              {http.StatusBadRequest, "The request is invalid", "请求不符合要求"},
	api.ProblemCodeUnauthenticated:      {http.StatusUnauthorized, "An access token is needed", "需要访问令牌"},
	api.ProblemCodeForbidden:            {http.StatusForbidden, "The caller may not do this", "无权进行此操作"},
	api.ProblemCodeNotFound:             {http.StatusNotFound, "Not found", "未找到"},
	api.ProblemCodeMethodNotAllowed:     {http.StatusMethodNotAllowed, "Method not allowed", "不支持此方法"},
	api.ProblemCodeExists:               {http.StatusConflict, "Already recorded", "已有记录"},
	api.ProblemCodeConflict:             {http.StatusConflict, "Another change won", "与另一项变更冲突"},
	api.ProblemCodePreconditionFailed:   {http.StatusPreconditionFailed, "The record has changed", "记录已被更新"},
	api.ProblemCodeTooLarge:             {http.StatusRequestEntityTooLarge, "The body is too large", "请求体过大"},
	api.ProblemCodeUnsupportedMediaType: {http.StatusUnsupportedMediaType, "The body is not of the right kind", "请求体类型不符"},
	api.ProblemCodeRateLimited:          {http.StatusTooManyRequests, "Too many requests", "请求过多"},
	api.ProblemCodeInternal:             {http.StatusInternalServerError, "Internal error", "网关内部故障"},
	api.ProblemCodeUnavailable:          {http.StatusServiceUnavailable, "Temporarily unavailable", "暂时不可用"},
}

// codeOf answers the problem code of a kind of failure, "" of none. A record in
// the wrong state is a conflict; the problem then names the state.
func codeOf(k domain.Kind) api.ProblemCode {
	switch k {
	case domain.Invalid:
		return api.ProblemCodeInvalid
	case domain.Forbidden:
		return api.ProblemCodeForbidden
	case domain.NotFound:
		return api.ProblemCodeNotFound
	case domain.Exists:
		return api.ProblemCodeExists
	case domain.Conflict, domain.WrongState:
		return api.ProblemCodeConflict
	case domain.Changed:
		return api.ProblemCodePreconditionFailed
	}
	return ""
}

// refusal is a failure that HTTP itself gives rise to. Its detail goes to the
// client.
type refusal struct {
	code       api.ProblemCode
	kind       domain.Kind // of the rule that refuses; "" for what HTTP itself gives rise to
	detail     string
	state      string      // of the record, where it stands in the way; "" otherwise
	current    domain.TxID // that wrote the record, where the client expected another; "" otherwise
	fields     []api.FieldFinding
	retryAfter time.Duration // 0: no Retry-After
	err        error         // for the log only; nil when detail says all

	rendered map[lang]rendition // nil: the document is rendered for each request
}

// rendition is a problem document but for the trace ID, which stands between.
type rendition struct{ before, after string }

// tooMany answers the refusal of one request too many. A flood is answered with
// nothing else, so that its document is rendered once.
func tooMany(detail string) *refusal {
	r := &refusal{code: api.ProblemCodeRateLimited, detail: detail, rendered: make(map[lang]rendition)}
	for _, l := range []lang{english, chinese} {
		document, err := json.Marshal(problemOf(r, l, zeroTrace))
		before, after, ok := strings.Cut(string(document), zeroTrace)
		if err != nil || !ok {
			panic("a problem document does not name its trace") // not reachable with the types of package api
		}
		r.rendered[l] = rendition{before, after}
	}
	return r
}

// until answers r for a client that may come again after wait.
func (r *refusal) until(wait time.Duration) *refusal {
	told := *r
	told.retryAfter = max(wait, time.Second)
	return &told
}

func (r *refusal) Error() string {
	if r.err != nil {
		return string(r.code) + ": " + r.detail + ": " + r.err.Error()
	}
	return string(r.code) + ": " + r.detail
}

func (r *refusal) Unwrap() error { return r.err }

// unreadable is the refusal of what the generated code could not bind. It is the
// second line behind the validation and does not repeat the text it got, which
// may hold the value.
func unreadable(err error) error {
	return &refusal{code: api.ProblemCodeInvalid, detail: "the request cannot be read as the contract says", err: err}
}

// refusalOf turns any error into the refusal that the client is told. What is
// not known to be fit for a client becomes a fixed text.
func refusalOf(err error) *refusal {
	var r *refusal
	if errors.As(err, &r) {
		return r
	}
	if r := evidenceRefusal(err); r != nil {
		return r
	}
	var e *domain.Error
	if errors.As(err, &e) {
		if code := codeOf(e.Kind); code != "" {
			out := &refusal{code: code, kind: e.Kind, detail: e.Msg, state: domain.StateOf(e), fields: findings(e)}
			if e.Kind == domain.Changed {
				out.state, out.current = domain.CurrentOf(e)
			}
			if refused := (*service.RefusedError)(nil); errors.As(err, &refused) {
				out.fields = refusedRecords(refused)
			}
			if _, joined := err.(interface{ Unwrap() []error }); joined {
				out.err = err // the refusal stands, and something went wrong beside it
			}
			return out
		}
	}
	var full *ledger.BusyError
	if errors.As(err, &full) {
		return &refusal{code: api.ProblemCodeRateLimited, detail: fullDetail, retryAfter: max(full.RetryAfter, time.Second)}
	}
	var unavailable *ledger.UnavailableError
	if errors.As(err, &unavailable) {
		return &refusal{code: api.ProblemCodeUnavailable, detail: unavailableDetail, retryAfter: retryAfter * time.Second, err: err}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return &refusal{code: api.ProblemCodeUnavailable, detail: lateDetail, retryAfter: retryAfter * time.Second, err: err}
	}
	return &refusal{code: api.ProblemCodeInternal, detail: internalDetail, err: err}
}

// evidenceRefusal answers how the evidence of accesses stands in the way, nil if
// it does not.
func evidenceRefusal(err error) *refusal {
	var busy *service.BusyError
	if errors.As(err, &busy) {
		return &refusal{code: api.ProblemCodeRateLimited, detail: busyDetail, retryAfter: max(busy.RetryAfter, time.Second)}
	}
	var backlog *service.BacklogError
	if errors.As(err, &backlog) {
		return &refusal{code: api.ProblemCodeUnavailable, detail: backlog.Error(), retryAfter: retryAfter * time.Second, err: err}
	}
	var unsigned *service.UnsignedError
	if errors.As(err, &unsigned) {
		return &refusal{code: api.ProblemCodeRateLimited, detail: unsigned.Error(), retryAfter: unsigned.RetryAfter}
	}
	var pending *service.NotAnchoredError
	if errors.As(err, &pending) {
		return notAnchored(pending, err)
	}
	return nil
}

// notAnchored says which records are durable and not anchored: to send them again
// is right, and logs nothing twice.
func notAnchored(pending *service.NotAnchoredError, err error) *refusal {
	r := &refusal{code: api.ProblemCodeUnavailable, detail: pending.Error(), retryAfter: retryAfter * time.Second, err: err}
	for i, receipt := range pending.Receipts[:min(maxFindings, len(pending.Receipts))] {
		r.fields = append(r.fields, finding("/records/"+strconv.Itoa(i), ruleNotAnchored, receipt.Index))
	}
	return r
}

// findings lists what an invalid error found, as much of it as a problem document
// names. What is of no field and no known rule is in the detail alone.
func findings(e *domain.Error) []api.FieldFinding {
	var fields []api.FieldFinding
	for _, f := range domain.Findings(e) {
		if len(fields) == maxFindings {
			break
		}
		if f.Field == "" && f.Rule == domain.RuleOther {
			continue
		}
		fields = append(fields, api.FieldFinding{Field: bodyField(f.Field), Rule: f.Rule, Zh: f.Zh, En: f.En})
	}
	return fields
}

// bodyField turns the name of a field in an argument, as in
// "contents[3].items[0].level", into a JSON pointer into the body. The argument
// of one entry or request wraps what the body is.
func bodyField(field string) string {
	field = strings.TrimPrefix(field, "content.")
	return "/" + strings.NewReplacer("].", "/", "]", "", "[", "/", ".", "/").Replace(field)
}

// otherThanPath refuses a body that names another record than the path does.
func otherThanPath(field string) error {
	f := finding(field, ruleOtherThanPath)
	return &refusal{code: api.ProblemCodeInvalid, detail: f.Field + ": " + f.En, fields: []api.FieldFinding{f}}
}

// refusedRecords lists the refused records of a batch of access records: what
// was found in each, or, where there is nothing to find, what kind of refusal it
// is.
func refusedRecords(refused *service.RefusedError) []api.FieldFinding {
	var fields []api.FieldFinding
	for _, r := range refused.Refusals {
		at := "/records/" + strconv.Itoa(r.Record)
		found := findings(r.Err)
		if found == nil {
			found = []api.FieldFinding{{Field: "/", Rule: string(r.Err.Kind), Zh: kindsZh[r.Err.Kind], En: r.Err.Msg}}
		}
		for _, f := range found {
			if f.Field = strings.TrimSuffix(at+f.Field, "/"); len(fields) < maxFindings {
				fields = append(fields, f)
			}
		}
	}
	return fields
}

// kindsZh says each kind of failure in Chinese.
var kindsZh = map[domain.Kind]string{
	domain.Invalid:    "不符合要求",
	domain.Forbidden:  "无权进行此操作",
	domain.NotFound:   "所指的记录不存在",
	domain.Exists:     "已有记录",
	domain.Conflict:   "与另一项变更冲突",
	domain.WrongState: "当前状态不允许此操作",
	domain.Changed:    "记录已不是所依据的版本",
}

// fail writes the one answer to err and ends the request.
func (s *server) fail(c *gin.Context, err error) {
	c.Abort()
	if c.Writer.Written() {
		// Part of another answer is on its way; the client must see it cut short.
		s.Log.WarnContext(c.Request.Context(), "answer broken off", "traceId", traceOf(c), "route", routeOf(c), "error", redact(err.Error()))
		panic(http.ErrAbortHandler)
	}
	header := c.Writer.Header()
	r, plain := err.(*refusal) //nolint:errorlint // itself, as it is in a flood; all else is looked at below
	if !plain || r.err != nil {
		if body, headers, ok := outcomeUnknown(err); ok {
			s.Log.WarnContext(c.Request.Context(), "outcome unknown", "traceId", traceOf(c), "route", routeOf(c), "txId", body.TransactionID, "error", redact(err.Error()))
			header.Set("Location", headers.Location)
			header.Set("Retry-After", strconv.Itoa(headers.RetryAfter))
			s.write(c, http.StatusAccepted, "application/json", body)
			return
		}
		r = refusalOf(err)
	}
	way := passageOf(c)
	way.code = string(r.code)
	if r.err != nil {
		s.Log.ErrorContext(c.Request.Context(), "request failed", "traceId", traceOf(c), "route", routeOf(c), "code", r.code, "error", redact(r.err.Error()))
	}
	if r.code == api.ProblemCodeUnauthenticated {
		header.Set("WWW-Authenticate", `Bearer realm="zhenglian"`)
	}
	if r.current != "" {
		header.Set("ETag", entityTag(r.current))
	}
	status, wait, l := problems[r.code].status, r.retryAfter, languageOf(c)
	if wait == 0 && (status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests) {
		wait = retryAfter * time.Second
	}
	if wait > 0 {
		header.Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(wait.Seconds())))))
	}
	header.Set("Content-Language", string(l))
	header.Add("Vary", "Accept-Language")
	if known, ok := r.rendered[l]; ok {
		c.Data(status, problemMedia, []byte(known.before+way.trace+known.after))
		return
	}
	s.write(c, status, problemMedia, problemOf(r, l, way.trace))
}

func (s *server) write(c *gin.Context, status int, media string, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		// Not reachable with the types of package api.
		s.Log.ErrorContext(c.Request.Context(), "render answer", "traceId", traceOf(c), "error", err.Error())
		status, data = http.StatusInternalServerError, nil
	}
	c.Data(status, media, data)
}

// secrets are the forms that must not reach the log by way of an error's text:
// access tokens, and the 128-bit references of certificates, requests and
// grants. Transaction IDs have 64 digits and stay.
var secrets = regexp.MustCompile(`zl_[A-Za-z0-9_-]+|\b[0-9a-f]{32}\b|(?i)bearer\s+\S+`)

// redact answers text without secrets.
func redact(text string) string {
	return secrets.ReplaceAllString(text, "…")
}
