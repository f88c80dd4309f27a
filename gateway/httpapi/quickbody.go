package httpapi

import (
	"bytes"
	"math"
	"reflect"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
)

// quickBody is a schema of the contract, made ready to hold a body against in one
// pass that allocates next to nothing. It knows what most bodies are made of and
// says yes or "not known": whatever it does not accept is judged in the general way,
// by [bodyFault] and the contract's own validator, which also say what is wrong.
// A batch of access records passes in a tenth of the time.
type quickBody struct {
	kind byte // '{', '[', '"', '0' or 't' of true and false

	least, most uint64   // characters or items
	oneOf       []string // of a string; nil: any
	shape       *regexp.Regexp
	time        bool // of a string: a time in UTC

	minimum, maximum float64 // of an integer

	items *quickBody // of an array

	members  map[string]quickMember // of an object
	required uint64                 // bits of members
}

// quickMember is a member of an object; bit tells it from the others.
type quickMember struct {
	bit  uint64
	body *quickBody
}

// quickDepth and quickDigits are what a quickBody knows at most: objects and lists
// within one another, and digits of a number.
const (
	quickDepth  = 8
	quickDigits = 15
)

// quickTime is the shape of a time in UTC. [time.Time.UnmarshalText] also takes hours
// of one digit and fractions after a comma.
var quickTime = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z$`)

// newQuickBody answers the quickBody of a schema, nil for one that says more than it
// knows.
func newQuickBody(ref *openapi3.SchemaRef, depth int) *quickBody {
	if ref == nil || ref.Value == nil || depth == quickDepth {
		return nil
	}
	s := *ref.Value
	q := &quickBody{least: 0, most: math.MaxUint64, minimum: math.Inf(-1), maximum: math.Inf(1)}
	// What is understood is taken out; if anything is left, it is not.
	switch {
	case s.Type.Is(openapi3.TypeObject):
		q.kind = '{'
		if s.AdditionalProperties.Has == nil || *s.AdditionalProperties.Has || len(s.Properties) > 64 {
			return nil
		}
		q.members = make(map[string]quickMember, len(s.Properties))
		for name, property := range s.Properties {
			m := quickMember{1 << len(q.members), newQuickBody(property, depth+1)}
			if m.body == nil {
				return nil
			}
			q.members[name] = m
		}
		for _, name := range s.Required {
			q.required |= q.members[name].bit
		}
		s.AdditionalProperties, s.Properties, s.Required = openapi3.AdditionalProperties{}, nil, nil
	case s.Type.Is(openapi3.TypeArray):
		q.kind = '['
		if q.items = newQuickBody(s.Items, depth+1); q.items == nil {
			return nil
		}
		q.least = s.MinItems
		if s.MaxItems != nil {
			q.most = *s.MaxItems
		}
		s.Items, s.MinItems, s.MaxItems = nil, 0, nil
	case s.Type.Is(openapi3.TypeString):
		if !q.text(&s) {
			return nil
		}
	case s.Type.Is(openapi3.TypeInteger) && (s.Format == "" || s.Format == "int64"):
		q.kind = '0'
		if s.Min != nil {
			q.minimum = *s.Min
		}
		if s.Max != nil {
			q.maximum = *s.Max
		}
		s.Min, s.Max, s.Format = nil, nil, ""
	case s.Type.Is(openapi3.TypeBoolean):
		q.kind = 't'
	default:
		return nil
	}
	s.Type, s.Extensions, s.Origin, s.Title, s.Description, s.Example = nil, nil, nil, "", "", nil
	if !reflect.DeepEqual(s, openapi3.Schema{}) {
		return nil
	}
	return q
}

// text takes what it knows of a string out of s, and reports whether it knows the
// rest's meaning.
func (q *quickBody) text(s *openapi3.Schema) bool {
	q.kind = '"'
	q.least, s.MinLength = s.MinLength, 0
	if s.MaxLength != nil {
		q.most, s.MaxLength = *s.MaxLength, nil
	}
	for _, value := range s.Enum {
		text, ok := value.(string)
		if !ok {
			return false
		}
		q.oneOf = append(q.oneOf, text)
	}
	var err error
	if s.Pattern != "" {
		q.shape, err = regexp.Compile(s.Pattern)
	}
	if s.Format == "date-time" {
		q.time, s.Format = true, ""
	}
	s.Enum, s.Pattern = nil, ""
	return err == nil
}

// accepts reports whether body certainly is one JSON value of the schema, and none
// that [bodyFault] refuses.
func (q *quickBody) accepts(body []byte) bool {
	r := quickReader{body: body}
	r.space()
	held := r.value(q)
	r.space()
	return held && len(r.body) == 0
}

// quickReader reads a body. Its methods answer false where something else stands than
// is known.
type quickReader struct {
	body   []byte // what is left
	values int    // read so far, as [bombFault] counts them or more
}

// space skips insignificant space.
func (r *quickReader) space() {
	for i, c := range r.body {
		if c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			r.body = r.body[i:]
			return
		}
	}
	r.body = nil
}

// take reads c and the space around it.
func (r *quickReader) take(c byte) bool {
	r.space()
	rest, found := bytes.CutPrefix(r.body, []byte{c})
	r.body = rest
	return found
}

func (r *quickReader) value(q *quickBody) bool {
	if r.values++; r.values > maxValues {
		return false
	}
	switch q.kind {
	case '{':
		r.values++
		return r.object(q)
	case '[':
		r.values++
		return r.array(q)
	case '"':
		text, ok := r.text()
		return ok && q.holds(text)
	case 't':
		return r.word("true") || r.word("false")
	}
	return r.integer(q)
}

// word reads a word; what may follow it is for the next to read.
func (r *quickReader) word(word string) bool {
	rest, found := bytes.CutPrefix(r.body, []byte(word))
	r.body = rest
	return found
}

func (r *quickReader) object(q *quickBody) bool {
	var seen uint64
	if !r.take('{') {
		return false
	}
	for more := !r.take('}'); more; {
		r.space()
		name, ok := r.text()
		m := q.members[string(name)]
		if !ok || m.bit == 0 || seen&m.bit != 0 || !r.take(':') {
			return false
		}
		seen |= m.bit
		r.space()
		if !r.value(m.body) {
			return false
		}
		more = r.take(',')
		if !more && !r.take('}') {
			return false
		}
	}
	return seen&q.required == q.required
}

func (r *quickReader) array(q *quickBody) bool {
	n := uint64(0)
	if !r.take('[') {
		return false
	}
	for more := !r.take(']'); more; n++ {
		r.space()
		if !r.value(q.items) {
			return false
		}
		more = r.take(',')
		if !more && !r.take(']') {
			return false
		}
	}
	return q.least <= n && n <= q.most
}

// text reads a string that stands for itself, without escapes.
func (r *quickReader) text() ([]byte, bool) {
	if len(r.body) == 0 || r.body[0] != '"' {
		return nil, false
	}
	ascii := true
	for i, c := range r.body[1:] {
		switch {
		case c == '"':
			text := r.body[1 : i+1]
			r.body = r.body[i+2:]
			return text, len(text) < maxLength && (ascii || utf8.Valid(text))
		case c == '\\' || c < ' ':
			return nil, false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	return nil, false
}

// holds reports whether text is of the schema.
func (q *quickBody) holds(text []byte) bool {
	if n := uint64(utf8.RuneCount(text)); n < q.least || n > q.most {
		return false
	}
	if q.time {
		return quickTime.Match(text) && new(time.Time).UnmarshalText(text) == nil
	}
	if q.oneOf != nil {
		known := false
		for _, one := range q.oneOf {
			known = known || string(text) == one
		}
		if !known {
			return false
		}
	}
	return q.shape == nil || q.shape.Match(text)
}

func (r *quickReader) integer(q *quickBody) bool {
	end := bytes.IndexFunc(r.body, func(c rune) bool { return !strings.ContainsRune("-0123456789", c) })
	if end < 1 {
		return false
	}
	digits := bytes.TrimPrefix(r.body[:end], []byte("-"))
	if len(digits) == 0 || len(digits) > quickDigits || len(digits) > 1 && digits[0] == '0' {
		return false
	}
	n := 0.0 // exact: so few digits fit
	for _, c := range digits {
		if c == '-' {
			return false
		}
		n = 10*n + float64(c-'0')
	}
	if len(digits) < end {
		n = -n
	}
	next := r.body[end]
	r.body = r.body[end:]
	return next != '.' && next != 'e' && next != 'E' && q.minimum <= n && n <= q.maximum
}
