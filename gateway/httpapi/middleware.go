package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/netip"
	"regexp"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/identity"
	"github.com/zhenglian/zhenglian/gateway/requestlog"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/telemetry"
)

const (
	// readDeadline and writeDeadline bound a use case. A write may have to wait
	// for a change of the ordering leader; what is not known then is answered as
	// unknown.
	readDeadline  = 10 * time.Second
	writeDeadline = 40 * time.Second

	// keyedDeadline is that of a write whose caller can ask for its outcome: callers wait
	// for 15 s, and one that gives up asks again for what is on its way.
	keyedDeadline = 10 * time.Second

	// exportDeadline bounds an export, which is sent while it is read.
	exportDeadline = 60 * time.Second

	maxBody      = 1 << 20
	maxBatchBody = 8 << 20 // of access records, or of catalog entries

	// maxFormOverhead is what a form has around its file.
	maxFormOverhead = 4 << 10

	jsonMedia = "application/json"

	// These bound what decoding a body costs. The contract nests 5 deep and its
	// longest string has 10,000 characters; 1,000 records of 22 fields with 100
	// items each have fewer than 150,000 values.
	maxDepth  = 16
	maxFields = 100
	maxLength = 64 << 10 // of one string or number, in bytes
	maxValues = 250_000
)

// traceparent is the W3C header of which the trace id is taken over, so that a
// caller finds its own requests in this gateway's log.
var traceparent = regexp.MustCompile(`^00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$`)

const zeroTrace = "00000000000000000000000000000000"

func traceID(r *http.Request) string {
	if given := r.Header["Traceparent"]; len(given) > 0 {
		if m := traceparent.FindStringSubmatch(given[0]); m != nil && m[1] != zeroTrace {
			return m[1]
		}
	}
	// It names a request and keeps no secret.
	var id [16]byte
	binary.BigEndian.PutUint64(id[:8], rand.Uint64()) //nolint:gosec // see above
	binary.BigEndian.PutUint64(id[8:], rand.Uint64()) //nolint:gosec // see above
	var digits [2 * len(id)]byte
	hex.Encode(digits[:], id[:])
	return string(digits[:])
}

// viaCertificate is how a caller is known who presented a client certificate.
const viaCertificate = "mtls"

// servedBy is the header that names the departments on whose word a gateway
// answers whose own peer does not deliver.
const servedBy = "Served-By"

func (s *server) tellSource(c *gin.Context) {
	if s.ServedBy == nil {
		return
	}
	var names []string
	for _, department := range s.ServedBy() {
		names = append(names, string(department))
	}
	if len(names) > 0 {
		c.Header(servedBy, strings.Join(names, ", "))
	}
}

// trace names the request, bounds its time, and counts and logs its end.
func (s *server) trace(c *gin.Context) {
	start := time.Now()
	way := &passage{op: s.operations[operationKey(c.Request.Method, c.FullPath())]}
	limit := readDeadline
	if way.op != nil {
		limit = way.op.deadline
		if h := c.Request.Header; way.op.keyed && h.Get(idempotencyKey) != "" && h.Get("Prefer") == "" {
			limit = keyedDeadline
		}
	}
	way.deadline = start.Add(limit)
	span := s.beginSpan(c, way)
	c.Request = c.Request.WithContext(way)
	defer way.end()
	way.requestID[0] = way.trace
	c.Writer.Header()["X-Request-Id"] = way.requestID[:]
	s.tellSource(c)

	whole := false
	defer func() {
		if !whole {
			way.code = "broken_off" // the client sees the connection end
		}
		if way.leave != nil {
			way.leave()
		}
		end := time.Now()
		took, status := end.Sub(start), c.Writer.Status()
		s.metrics.observe(routeOf(c), c.Request.Method, status, took)
		if span != nil {
			endSpan(c, span, status, way.caller.Role)
		}
		s.logRequest(c, way, status, end, took)
	}()
	c.Next()
	whole = true
}

// beginSpan gives the request its trace ID and, where traces are made, its span. It
// answers nil where they are not.
func (s *server) beginSpan(c *gin.Context, way *passage) oteltrace.Span {
	way.outer = c.Request.Context()
	if s.Tracer == nil {
		way.trace = traceID(c.Request)
		return nil
	}
	ctx := oteltrace.ContextWithRemoteSpanContext(way.outer, telemetry.Traceparent(c.GetHeader("Traceparent")))
	ctx, span := s.Tracer.Start(ctx, method(c.Request.Method)+" "+routeOf(c), oteltrace.WithSpanKind(oteltrace.SpanKindServer))
	way.outer, way.trace = ctx, span.SpanContext().TraceID().String()
	return span
}

func endSpan(c *gin.Context, span oteltrace.Span, status int, role domain.Role) {
	span.SetAttributes(
		attribute.String("http.request.method", method(c.Request.Method)), attribute.String("http.route", routeOf(c)),
		attribute.Int("http.response.status_code", status), attribute.String("zhenglian.role", string(role)))
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, "")
	}
	span.End()
}

// logRequest writes the request's line in the log of requests, and in the
// gateway's own log if it is worth it there.
func (s *server) logRequest(c *gin.Context, way *passage, status int, end time.Time, took time.Duration) {
	address := ""
	if way.known {
		address = remote(c.Request).String() // a department's system; citizens' addresses are not kept
	}
	if s.Requests != nil {
		s.Requests(requestlog.Entry{
			Time: end, Level: requestlog.LevelOf(status), Msg: requestlog.MsgRequest, TraceID: way.trace, Method: method(c.Request.Method), Route: routeOf(c),
			Status: status, TookUs: took.Microseconds(), Department: way.caller.Department, Role: way.caller.Role, Via: way.via, Credential: way.credential,
			Address: address, Code: way.code, Reason: string(way.reason), TxID: way.noted.TxID(),
		})
	}
	level := slog.LevelDebug
	if c.Request.Method != http.MethodGet || status >= http.StatusInternalServerError {
		level = slog.LevelInfo
	}
	ctx := c.Request.Context()
	if !s.Log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("traceId", way.trace), slog.String("method", method(c.Request.Method)), slog.String("route", routeOf(c)),
		slog.Int("status", status), slog.Duration("took", took),
	}
	if way.known {
		attrs = append(attrs, slog.String("role", string(way.caller.Role)), slog.String("address", address))
	}
	s.Log.LogAttrs(ctx, level, "request", attrs...)
}

// method answers m if it is one that HTTP defines: anything else is the client's
// own text and does not belong in a log or a label.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}

// recovery turns a panic into an internal error.
func (s *server) recovery(c *gin.Context) {
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares so
				panic(p) // the way to break off an answer, not a failure
			}
			s.fail(c, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	c.Next()
}

// securityHeader is one field of every answer. Its values are shared by all of
// them: who wants another one sets it anew.
type securityHeader struct {
	name   string // as [http.CanonicalHeaderKey] has it
	values []string
}

// securityHeaders are right for every answer but the pages, which set their own.
func securityHeaders(publicURL string) []securityHeader {
	headers := []securityHeader{
		{"Cache-Control", []string{"no-store"}},
		{"Content-Security-Policy", []string{"default-src 'none'; frame-ancestors 'none'"}},
		{"Cross-Origin-Opener-Policy", []string{"same-origin"}},
		{"Cross-Origin-Resource-Policy", []string{"same-origin"}},
		{"Referrer-Policy", []string{"no-referrer"}},
		{"X-Content-Type-Options", []string{"nosniff"}},
		{"X-Frame-Options", []string{"DENY"}},
	}
	if strings.HasPrefix(publicURL, "https://") {
		headers = append(headers, securityHeader{"Strict-Transport-Security", []string{"max-age=31536000"}})
	}
	return headers
}

func (s *server) secure(c *gin.Context) {
	h := c.Writer.Header()
	for _, f := range s.headers {
		h[f.name] = f.values
	}
}

// identify lets a request pass that has the right to its path and is within its
// limit. A request with a valid credential counts against its identity, also on a
// public path; any other against its address, so that guessing tokens is limited
// as well, and enters the pool of the public then. Public tiles count by address and
// have a pool, both apart from all else: whoever crowds a gateway with questions does
// not keep watchers from its evidence, nor the other way round.
func (s *server) identify(c *gin.Context) {
	way := passageOf(c)
	op := way.op
	if op != nil && op.unlimited {
		return
	}
	if op != nil && op.tiles {
		_ = s.addressWithin(c, "tiles") && s.enter(c, &s.tiles)
		return
	}
	counted := false
	caller, err := s.caller(c, func() bool {
		counted = true
		return s.addressWithin(c, "address")
	})
	if c.IsAborted() {
		return
	}
	if err == nil {
		way.caller, way.known = caller, true
		s.within(c, "caller", string(caller.Department)+":"+string(caller.Role))
		return
	}
	if !counted && !s.addressWithin(c, "address") {
		return
	}
	if !s.enter(c, &s.public) {
		return
	}
	var refused *identity.Refusal
	if err == errMissing { //nolint:errorlint // itself: most of the public's requests come by here
		refused = errMissing
	} else if errors.As(err, &refused) && refused.Reason != identity.Missing {
		way.reason = refused.Reason
		if s.Refused != nil {
			s.Refused(string(refused.Reason))
		}
	}
	if op == nil || op.public {
		return
	}
	switch {
	case refused == nil:
		s.fail(c, &refusal{code: api.ProblemCodeUnavailable, detail: "who calls cannot be checked now", retryAfter: retryAfter * time.Second, err: err})
	case refused.Reason == identity.Missing:
		way.reason = refused.Reason
		s.fail(c, &refusal{code: api.ProblemCodeUnauthenticated, detail: "this path needs the header Authorization: Bearer TOKEN"})
	case c.Request.TLS != nil && len(c.Request.TLS.PeerCertificates) > 0:
		s.fail(c, &refusal{code: api.ProblemCodeUnauthenticated, detail: "this gateway does not accept the client certificate"})
	default:
		// What is wrong with a token is for the department's own log.
		s.fail(c, &refusal{code: api.ProblemCodeUnauthenticated, detail: "this gateway does not know the access token"})
	}
}

// errMissing is the refusal of a request without a credential.
var errMissing = &identity.Refusal{Reason: identity.Missing}

// caller answers who sent the request: the holder of the connection's client
// certificate, of an access token, or of a token of the OpenID provider. A token
// of a provider that was not seen before is verified, which costs time, only
// after count has let it.
func (s *server) caller(c *gin.Context, count func() bool) (service.Caller, error) {
	way := passageOf(c)
	token, given := bearer(c.Request)
	as := func(via string, credential []byte, role domain.Role, err error) (service.Caller, error) {
		if err != nil {
			return service.Caller{}, err
		}
		sum := sha256.Sum256(credential)
		way.via, way.credential = via, hex.EncodeToString(sum[:8])
		return service.Caller{Department: s.Department, Role: role}, nil
	}
	switch {
	case s.ClientCertificate != nil && c.Request.TLS != nil && len(c.Request.TLS.PeerCertificates) > 0:
		if given {
			return service.Caller{}, &identity.Refusal{Reason: identity.Ambiguous}
		}
		cert := c.Request.TLS.PeerCertificates[0]
		role, err := s.ClientCertificate(cert)
		return as(viaCertificate, cert.Raw, role, err)
	case !given:
		return service.Caller{}, errMissing
	}
	if caller, known := s.Tokens.Caller(token); known {
		_, _ = as("token", []byte(token), caller.Role, nil)
		return caller, nil
	}
	if s.OIDC == nil || strings.Count(token, ".") != 2 {
		return service.Caller{}, &identity.Refusal{Reason: identity.UnknownToken}
	}
	if role, known := s.OIDC.Known(token); known {
		return as("oidc", []byte(token), role, nil)
	}
	if !count() {
		return service.Caller{}, &identity.Refusal{Reason: identity.UnknownToken}
	}
	role, err := s.OIDC.Role(token)
	return as("oidc", []byte(token), role, err)
}

// bearer answers the token of the Authorization header (RFC 6750).
func bearer(r *http.Request) (string, bool) {
	values := r.Header["Authorization"]
	if len(values) == 0 {
		return "", false
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	token = strings.TrimSpace(token)
	return token, ok && strings.EqualFold(scheme, "Bearer") && token != ""
}

// remote answers the address of the peer. Headers that claim another one are
// never read: nothing here trusts a proxy.
func remote(r *http.Request) netip.Addr {
	if a, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return a.Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// appendNetwork appends what stands for one subscriber: an IPv4 address, or the /64
// that one IPv6 subscriber chooses from freely.
func appendNetwork(to []byte, a netip.Addr) []byte {
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.AppendTo(to)
		}
	}
	return a.AppendTo(to)
}

// limitBody reads the body of an operation that has one, whole and within
// bounds, and replaces it by what was read.
func (s *server) limitBody(c *gin.Context) {
	way := passageOf(c)
	op := way.op
	if op == nil || op.media == "" {
		return
	}
	if media, _, err := mime.ParseMediaType(c.GetHeader("Content-Type")); err != nil || media != op.media {
		s.fail(c, &refusal{code: api.ProblemCodeUnsupportedMediaType, detail: "the body must be sent with Content-Type: " + op.media})
		return
	}
	tooLarge := &refusal{code: api.ProblemCodeTooLarge, detail: fmt.Sprintf("the body may have %d bytes", op.maxBody)}
	if c.Request.ContentLength > op.maxBody {
		s.fail(c, tooLarge)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, op.maxBody))
	var exceeded *http.MaxBytesError
	switch {
	case errors.As(err, &exceeded):
		s.fail(c, tooLarge)
		return
	case err != nil:
		s.fail(c, &refusal{code: api.ProblemCodeInvalid, detail: "the body ended early or took too long"})
		return
	}
	if op.media == jsonMedia {
		way.bodyHolds = op.quick != nil && op.quick.accepts(body)
		if detail := ""; !way.bodyHolds {
			if detail = bodyFault(body); detail != "" {
				s.fail(c, &refusal{code: api.ProblemCodeInvalid, detail: detail})
				return
			}
		}
	}
	c.Request.Body = io.NopCloser(bytes.NewReader(body))
	c.Request.ContentLength = int64(len(body))
}

// bodyFault answers why body is not worth holding against the contract, "" if it
// is. Bombs are found first, in passes that allocate nothing.
func bodyFault(body []byte) string {
	if len(bytes.TrimSpace(body)) == 0 {
		return "the body is empty; it must be a JSON object"
	}
	if !utf8.Valid(body) {
		return "the body is not UTF-8"
	}
	if fault := bombFault(body); fault != "" {
		return fault
	}
	if !json.Valid(body) {
		return "the body is not one well-formed JSON value"
	}
	return nameFault(body)
}

// nameFault looks at the names of the objects in body, which is valid JSON. A
// name must not come twice in an object: parsers differ in which of them counts.
// (A json.Decoder takes four times as long to say so, which a batch of 1,000
// records feels.)
func nameFault(body []byte) string {
	type level struct {
		object bool
		value  bool // the next string is a value, not a name
		names  [][]byte
	}
	levels := make([]level, 1, maxDepth+1)
	top := 0
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '{', '[':
			if top++; top == len(levels) {
				levels = append(levels, level{})
			}
			l := &levels[top]
			l.object, l.value, l.names = body[i] == '{', false, l.names[:0]
		case '}', ']':
			top--
		case ',':
			levels[top].value = false
		case ':':
			levels[top].value = true
		case '"':
			end := i + 1
			for body[end] != '"' {
				if body[end] == '\\' {
					end++
				}
				end++
			}
			l := &levels[top]
			if l.object && !l.value {
				name := plainName(body[i : end+1])
				for _, other := range l.names {
					if bytes.Equal(name, other) {
						return "the body names a field twice in one object"
					}
				}
				if l.names = append(l.names, name); len(l.names) > maxFields {
					return fmt.Sprintf("the body has an object of more than %d fields", maxFields)
				}
			}
			i = end
		}
	}
	return ""
}

// plainName answers what a JSON string says.
func plainName(quoted []byte) []byte {
	plain := quoted[1 : len(quoted)-1]
	if !bytes.ContainsRune(plain, '\\') {
		return plain
	}
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		return plain // not reachable: the body is valid
	}
	return []byte(s)
}

// bombFault looks at brackets, commas and quotes only, to keep from the decoder
// what would cost it much memory or time.
func bombFault(body []byte) string {
	depth, values, length := 0, 1, 0
	inString, escaped := false, false
	for _, b := range body {
		if length++; length > maxLength {
			return fmt.Sprintf("the body has a value of more than %d bytes", maxLength)
		}
		switch {
		case inString && escaped:
			escaped = false
		case inString && b == '\\':
			escaped = true
		case b == '"':
			inString = !inString
			length = 0
		case inString:
		case b == ' ' || b == '\t' || b == '\r' || b == '\n' || b == ':':
			length = 0
		case b == '{' || b == '[':
			if depth++; depth > maxDepth {
				return fmt.Sprintf("the body is nested deeper than %d levels", maxDepth)
			}
			values++
			length = 0
		case b == '}' || b == ']':
			depth--
			length = 0
		case b == ',':
			length = 0
			if values++; values > maxValues {
				return fmt.Sprintf("the body has more than %d values", maxValues)
			}
		}
	}
	return ""
}
