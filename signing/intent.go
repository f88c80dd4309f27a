package signing

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
)

// Intent is what a request means to have written.
type Intent struct {
	Transaction string // "contract:Name"
	Expect      string // see [domain.Expectation]; "" without a condition

	rule     transactionRule
	argument map[string]any
}

// transactionRule is the extension x-transaction of a write in the contract: which
// transaction it is, and how its argument follows from the request.
type transactionRule struct {
	Name     string            `json:"name"`
	Body     string            `json:"body"`     // the body stands under this name; "": its fields are the argument's
	Renamed  map[string]string `json:"renamed"`  // fields of the argument that have another name in the request
	Chosen   []string          `json:"chosen"`   // what the request does not say of these is the gateway's to choose
	Withheld []string          `json:"withheld"` // these are not in the argument
}

// write is one write of the contract.
type write struct {
	method, path string
	rule         transactionRule
}

// writes are those of the contract.
var writes = sync.OnceValues(func() ([]write, error) {
	doc, err := api.GetSpec()
	if err != nil {
		return nil, fmt.Errorf("read the contract: %w", err)
	}
	var out []write
	for _, path := range doc.Paths.InMatchingOrder() {
		for method, o := range doc.Paths.Value(path).Operations() {
			extension, ok := o.Extensions["x-transaction"]
			if !ok {
				continue
			}
			w := write{method: method, path: path}
			data, err := json.Marshal(extension)
			if err == nil {
				err = json.Unmarshal(data, &w.rule)
			}
			if err != nil {
				return nil, fmt.Errorf("read the contract: x-transaction of %s: %w", path, err)
			}
			out = append(out, w)
		}
	}
	return out, nil
})

// conditioned are the kinds of records that paths under …/actions/ change, by what
// comes before the parameter that names them.
var conditioned = map[string]domain.RecordKind{
	"/v1/catalog/entries/": domain.KindCatalogEntry,
	"/v1/requests/":        domain.KindRequest,
	"/v1/grants/":          domain.KindGrant,
	"/v1/alarms/":          domain.KindAlarm,
	"/v1/certificates/":    domain.KindCertificate,
}

// IntentOf answers what a request means to have written: target is its path as it is
// sent, with its query, body its JSON or nil, ifMatch its If-Match or "". A request
// that is no write of the contract is an error.
func IntentOf(method, target string, body []byte, ifMatch string) (*Intent, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("%q is no path: %w", target, err)
	}
	all, err := writes()
	if err != nil {
		return nil, err
	}
	for _, w := range all {
		if params, ok := match(w.path, u.EscapedPath()); ok && w.method == method {
			return w.intent(params, u.Query(), body, ifMatch)
		}
	}
	return nil, fmt.Errorf("%s %s writes nothing that could be signed", method, u.EscapedPath())
}

// match answers the parameters of an escaped path that has the form of template.
func match(template, path string) (map[string]string, bool) {
	want, got := strings.Split(template, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return nil, false
	}
	params := make(map[string]string)
	for i, part := range want {
		name, isParam := strings.CutPrefix(part, "{")
		if !isParam {
			if part != got[i] {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(got[i])
		if err != nil {
			return nil, false
		}
		params[strings.TrimSuffix(name, "}")] = value
	}
	return params, true
}

func (w write) intent(params map[string]string, query url.Values, body []byte, ifMatch string) (*Intent, error) {
	i := &Intent{Transaction: w.rule.Name, rule: w.rule, argument: make(map[string]any)}
	var content map[string]any
	if len(body) > 0 {
		if err := decode(body, &content); err != nil {
			return nil, fmt.Errorf("read the body: %w", err)
		}
	}
	if w.rule.Body != "" { // which repeats what the path says
		i.argument[w.rule.Body] = content
	} else {
		for name, value := range content {
			i.argument[i.named(name)] = value
		}
		for name, value := range params {
			i.argument[i.named(name)] = value
		}
	}
	for name, values := range query {
		var value any = values[0]
		if b, err := strconv.ParseBool(values[0]); err == nil {
			value = b
		}
		i.argument[i.named(name)] = value
	}
	if ifMatch == "" || ifMatch == "*" {
		return i, nil
	}
	for prefix, kind := range conditioned {
		name, ok := strings.CutPrefix(w.path, prefix+"{")
		if !ok {
			continue
		}
		name, _, _ = strings.Cut(name, "}")
		i.Expect = domain.Expectation{Kind: kind, ID: params[name], TxID: domain.TxID(strings.Trim(ifMatch, `"`))}.String()
		return i, nil
	}
	return nil, fmt.Errorf("%s %s takes no If-Match", w.method, w.path)
}

func (i *Intent) named(name string) string { return cmp.Or(i.rule.Renamed[name], name) }

// CheckArgument checks that the argument of a transaction says what the request said:
// each of its fields, and none besides but empty ones and those that are the gateway's
// to choose.
func (i *Intent) CheckArgument(argument []byte) error {
	got, err := i.read(argument)
	if err != nil {
		return err
	}
	return i.compare("", i.argument, got)
}

// read answers an argument as plain JSON.
func (i *Intent) read(argument []byte) (map[string]any, error) {
	var got map[string]any
	if i.Transaction != "certificate:IssueBatch" {
		return got, decode(argument, &got)
	}
	// In its argument neighbours share what they have in common.
	var batch domain.IssueBatchArgs
	if err := domain.ParseCanonical(argument, &batch); err != nil {
		return nil, err
	}
	plain, err := json.Marshal(map[string]any{"contents": batch.Contents})
	if err != nil {
		return nil, err
	}
	return got, decode(plain, &got)
}

func decode(data []byte, into *map[string]any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if dec.More() {
		return errors.New("more than one JSON value")
	}
	return nil
}

// compare holds what an argument says at a place against what was meant.
func (i *Intent) compare(at string, want, got any) error {
	switch want := want.(type) {
	case map[string]any:
		fields, ok := got.(map[string]any)
		if !ok {
			return differs(at)
		}
		return i.compareFields(at, want, fields)
	case []any:
		items, ok := got.([]any)
		if !ok || len(items) != len(want) {
			if len(want) == 0 && empty(got) {
				return nil
			}
			return differs(at)
		}
		for n := range want {
			if err := i.compare(fmt.Sprintf("%s[%d]", at, n), want[n], items[n]); err != nil {
				return err
			}
		}
		return nil
	}
	if want == got || empty(want) && empty(got) || sameMoment(want, got) {
		return nil
	}
	return differs(at)
}

func (i *Intent) compareFields(at string, want, got map[string]any) error {
	for name := range got {
		if _, said := want[name]; !said && !empty(got[name]) && !slices.Contains(i.rule.Chosen, name) {
			return fmt.Errorf("%s was not asked for", strings.TrimPrefix(at+"."+name, "."))
		}
	}
	for name := range want {
		place := strings.TrimPrefix(at+"."+name, ".")
		value, there := got[name]
		switch {
		case slices.Contains(i.rule.Withheld, name):
			if there {
				return fmt.Errorf("%s was to be withheld", place)
			}
		case !there && empty(want[name]):
		default:
			if err := i.compare(place, want[name], value); err != nil {
				return err
			}
		}
	}
	return nil
}

func differs(at string) error { return fmt.Errorf("%s is not what was asked for", at) }

// zeroTime is how a time that was not given stands in an argument.
const zeroTime = "0001-01-01T00:00:00Z"

// empty reports whether a value says nothing.
func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == "" || v == zeroTime
	case bool:
		return !v
	case json.Number:
		return v == "0"
	case []any:
		return len(v) == 0
	case map[string]any:
		for _, inner := range v {
			if !empty(inner) {
				return false
			}
		}
		return true
	}
	return false
}

// sameMoment reports whether two values are one time in two zones.
func sameMoment(a, b any) bool {
	first, ok := a.(string)
	second, also := b.(string)
	if !ok || !also {
		return false
	}
	x, err := time.Parse(time.RFC3339, first)
	if err != nil {
		return false
	}
	y, err := time.Parse(time.RFC3339, second)
	return err == nil && x.Equal(y)
}
