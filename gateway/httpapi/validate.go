package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/gin-gonic/gin"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/service"
)

// maxFindings bounds the list in a problem document.
const maxFindings = domain.MaxFindings

// operation is one method of one path of the contract.
type operation struct {
	route     *routers.Route
	public    bool   // needs no token
	unlimited bool   // for probes of the department's own operators
	tiles     bool   // for watchers of the log, which ask often
	lenient   bool   // takes anything: probes, and the pages, which judge their own input
	media     string // of the body that it takes; "" for none
	maxBody   int64  // bytes
	quick     *quickBody
	deadline  time.Duration
	queries   []string
	keyed     bool // takes an Idempotency-Key
	refOnly   bool // takes a reference in its path and nothing else that it needs
}

// routeKey names an operation by its method and its route in gin's form.
type routeKey struct{ method, path string }

func operationKey(method, ginPath string) routeKey { return routeKey{method, ginPath} }

// ginPath answers the form that a path of the contract has as a route: {ref}
// becomes :ref.
func ginPath(path string) string {
	return strings.NewReplacer("{", ":", "}", "").Replace(path)
}

// loadOperations answers the operations of the embedded contract, by route. They
// are read once and not changed.
var loadOperations = sync.OnceValues(readOperations)

func readOperations() (map[routeKey]*operation, error) {
	doc, err := api.GetSpec()
	if err != nil {
		return nil, fmt.Errorf("load the contract: %w", err)
	}
	operations := make(map[routeKey]*operation)
	for path, item := range doc.Paths.Map() {
		for method, o := range item.Operations() {
			op := &operation{
				route:   &routers.Route{Spec: doc, Path: path, PathItem: item, Method: method, Operation: o},
				public:  o.Security != nil && len(*o.Security) == 0,
				maxBody: maxBody, deadline: readDeadline,
			}
			if o.RequestBody != nil {
				for media := range o.RequestBody.Value.Content { // there is one
					op.media = media
				}
				if content := o.RequestBody.Value.Content[jsonMedia]; content != nil {
					op.quick = newQuickBody(content.Schema, 0)
				}
			}
			if method != http.MethodGet {
				op.deadline = writeDeadline
			}
			ops := slices.Contains(o.Tags, "operations")
			op.unlimited = ops && path != "/openapi.json"
			op.tiles = op.public && strings.HasPrefix(path, "/v1/logs/")
			op.lenient = ops || path == "/v/{ref}" || path == "/verify" || strings.HasPrefix(path, "/verify/") || strings.HasPrefix(path, "/audit") || strings.HasPrefix(path, "/docs/")
			switch path {
			case "/v1/access-records", "/v1/catalog/batches/register", "/v1/certificates/batch":
				op.maxBody = maxBatchBody
			case "/v1/verify":
				op.maxBody = service.MaxFile
			case "/verify":
				op.maxBody = service.MaxFile + maxFormOverhead
			case "/v1/catalog/export":
				op.deadline = exportDeadline
			}
			for _, p := range slices.Concat(item.Parameters, o.Parameters) {
				if p.Value.In == openapi3.ParameterInQuery {
					op.queries = append(op.queries, p.Value.Name)
				}
				op.keyed = op.keyed || p.Value.Name == idempotencyKey
			}
			op.refOnly = o.RequestBody == nil && needsOnlyRef(slices.Concat(item.Parameters, o.Parameters))
			operations[operationKey(method, ginPath(path))] = op
		}
	}
	return operations, nil
}

// refPattern is the contract's rule of a reference, which [service.ParseRef] knows.
const refPattern = "^[0-9a-f]{32}$"

// needsOnlyRef reports whether of all parameters only a reference in the path is
// needed, and the others are in the query.
func needsOnlyRef(parameters openapi3.Parameters) bool {
	inPath := 0
	for _, p := range parameters {
		switch {
		case p.Value.In == openapi3.ParameterInPath && p.Value.Schema.Value.Pattern == refPattern:
			inPath++
		case p.Value.In != openapi3.ParameterInQuery || p.Value.Required:
			return false
		}
	}
	return inPath == 1
}

// isRefOnly reports whether a request has a well-formed reference and nothing
// else: most of the public's have. The validator takes a tenth of their time to
// say the same.
func isRefOnly(op *operation, c *gin.Context) bool {
	if !op.refOnly || c.Request.URL.RawQuery != "" || len(c.Params) != 1 {
		return false
	}
	_, err := service.ParseRef(c.Params[0].Value)
	return err == nil
}

var validateOptions = &openapi3filter.Options{
	MultiError:          true,
	AuthenticationFunc:  openapi3filter.NoopAuthenticationFunc, // identify has done it
	SkipSettingDefaults: true,
}

// validate refuses a request that the contract does not allow, naming each field
// and its rule and never repeating a value.
func (s *server) validate(c *gin.Context) {
	way := passageOf(c)
	op := way.op
	if op == nil || op.lenient {
		return
	}
	if way.refOnly = isRefOnly(op, c); way.refOnly {
		return
	}
	params := make(map[string]string, len(c.Params))
	for _, p := range c.Params {
		params[p.Key] = p.Value
	}
	query := c.Request.URL.Query()
	fields := unknownQueries(query, op.queries)
	options := *validateOptions
	options.ExcludeRequestBody = op.media != jsonMedia || way.bodyHolds // files are judged by who reads them
	err := openapi3filter.ValidateRequest(c.Request.Context(), &openapi3filter.RequestValidationInput{
		Request: c.Request, PathParams: params, QueryParams: query, Route: op.route, Options: &options,
	})
	if err != nil {
		fields = append(fields, violations(err)...)
	}
	if len(fields) == 0 {
		return
	}
	detail := "the request breaks the contract"
	if first := fields[0]; len(fields) == 1 {
		detail = first.Field + ": " + first.En
	} else {
		detail += fmt.Sprintf(" in %d places; the first is %s: %s", len(fields), first.Field, first.En)
	}
	if len(fields) > maxFindings {
		fields = fields[:maxFindings]
	}
	s.fail(c, &refusal{code: api.ProblemCodeInvalid, detail: detail, fields: fields})
}

// unknownQueries finds query parameters that the operation does not have: a
// filter with a misspelt name would otherwise silently not filter.
func unknownQueries(query map[string][]string, known []string) []api.FieldFinding {
	var out []api.FieldFinding
	for name, values := range query {
		switch {
		case slices.Contains(known, name):
			if len(values) != 1 {
				out = append(out, finding("query "+name, ruleOnce))
			}
		case len(known) == 0:
			out = append(out, finding("query "+clip(name), ruleUnknownQuery))
		default:
			out = append(out, finding("query "+clip(name), ruleOtherQuery, strings.Join(known, ", ")))
		}
	}
	slices.SortFunc(out, func(a, b api.FieldFinding) int { return strings.Compare(a.Field, b.Field) })
	return out
}

// violations lists what err says, field by field. The types of its parts are the
// validator's; what is of none of them is named without detail.
func violations(err error) []api.FieldFinding { return collect(err, "body") }

func collect(err error, at string) []api.FieldFinding {
	var many openapi3.MultiError
	var request *openapi3filter.RequestError
	var schema *openapi3.SchemaError
	var parse *openapi3filter.ParseError
	switch {
	case asMulti(err, &many):
		var out []api.FieldFinding
		for _, e := range many {
			if out = append(out, collect(e, at)...); len(out) > 10*maxFindings {
				break
			}
		}
		return out
	case errors.As(err, &request):
		if p := request.Parameter; p != nil {
			at = p.In + " " + p.Name
		}
		if request.Err == nil {
			return []api.FieldFinding{finding(at, ruleMissing)}
		}
		return collect(request.Err, at)
	case errors.As(err, &schema):
		if at == "body" {
			path := schema.JSONPointer()
			if name, ok := unknownField(schema); ok {
				path = append(path, name)
			}
			at = pointer(path)
		}
		return []api.FieldFinding{violation(at, schema)}
	case errors.As(err, &parse):
		if at == "body" {
			return []api.FieldFinding{finding("/", ruleMalformed)}
		}
		return []api.FieldFinding{finding(at, ruleMistyped)}
	case errors.Is(err, openapi3filter.ErrInvalidRequired):
		return []api.FieldFinding{finding(at, ruleMissing)}
	case errors.Is(err, openapi3filter.ErrInvalidEmptyValue):
		return []api.FieldFinding{finding(at, ruleEmpty)}
	}
	return []api.FieldFinding{finding(at, ruleContract)}
}

// asMulti reports whether err itself, not something it wraps, is a list: the
// level between must be seen, because it names the parameter.
func asMulti(err error, many *openapi3.MultiError) bool {
	m, ok := err.(openapi3.MultiError) //nolint:errorlint // see above
	*many = m
	return ok
}

// unknownField answers the name of a field that the contract does not have. The
// validator tells it in its message only.
func unknownField(e *openapi3.SchemaError) (name string, ok bool) {
	if e.SchemaField != "properties" {
		return "", false
	}
	_, err := fmt.Sscanf(e.Reason, "property %q is unsupported", &name)
	return name, err == nil
}

// pointer answers a JSON pointer (RFC 6901) to the place in the body.
func pointer(path []string) string {
	if len(path) == 0 {
		return "/"
	}
	var b strings.Builder
	for _, p := range path {
		b.WriteByte('/')
		b.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(clip(p)))
	}
	return b.String()
}

// clip shortens a name that the client chose.
func clip(name string) string {
	const most = 64
	if r := []rune(name); len(r) > most {
		return string(r[:most]) + "…"
	}
	return name
}
