package credential

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	josejson "github.com/go-jose/go-jose/v4/json"
)

// This file is RFC 9901 as such: any payload, disclosures of claims and of array
// elements, recursive ones, decoys. What is special to certificates is elsewhere.

const (
	keySD      = "_sd"
	keyHash    = "_sd_alg"
	keyElement = "..."

	hashName = "sha-256" // as in the IANA registry of named information hash algorithms

	// maxDepth bounds the nesting of JSON, of disclosures within disclosures too:
	// without it a small text takes a large stack.
	maxDepth = 16

	// maxDisclosures is more than a certificate can have, and bounds what is
	// computed for hostile ones.
	maxDisclosures = 256
)

// sdJWT is a parsed SD-JWT of which nothing is verified yet.
type sdJWT struct {
	jwt         string
	header      []byte
	payload     []byte
	signature   []byte
	disclosures []disclosure
}

// disclosure is one salted claim or array element.
type disclosure struct {
	text   string // as in the SD-JWT
	digest string
	salt   string
	named  bool // a claim of an object
	name   string
	value  any
	raw    json.RawMessage // of value
}

// parse takes an SD-JWT apart.
func parse(text string) (*sdJWT, error) {
	if len(text) > MaxBytes {
		return nil, refuse(RuleSize, "%d bytes, at most %d are allowed", len(text), MaxBytes)
	}
	parts := strings.Split(text, "~")
	if len(parts) < 2 {
		return nil, refuse(RuleForm, "no ~ follows the signed part")
	}
	if parts[len(parts)-1] != "" {
		return nil, refuse(RuleKeyBinding, "something follows the last ~")
	}
	parts = parts[:len(parts)-1]
	if len(parts)-1 > maxDisclosures {
		return nil, refuse(RuleSize, "%d disclosures, at most %d are allowed", len(parts)-1, maxDisclosures)
	}
	s := &sdJWT{jwt: parts[0]}
	sections := strings.Split(s.jwt, ".")
	if len(sections) != 3 {
		return nil, refuse(RuleForm, "the signed part has %d sections, not 3", len(sections))
	}
	for i, to := range []*[]byte{&s.header, &s.payload, &s.signature} {
		var err error
		if *to, err = decode(sections[i]); err != nil {
			return nil, err
		}
	}
	for _, text := range parts[1:] {
		d, err := parseDisclosure(text)
		if err != nil {
			return nil, err
		}
		s.disclosures = append(s.disclosures, d)
	}
	return s, nil
}

func parseDisclosure(text string) (disclosure, error) {
	data, err := decode(text)
	if err != nil {
		return disclosure{}, err
	}
	value, err := parseJSON(data)
	if err != nil {
		return disclosure{}, err
	}
	elements, ok := value.([]any)
	if !ok || len(elements) != 2 && len(elements) != 3 {
		return disclosure{}, refuse(RuleDisclosure, "a disclosure is no array of 2 or 3 elements")
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil || len(raw) != len(elements) {
		return disclosure{}, refuse(RuleJSON, "a disclosure is not JSON")
	}
	d := disclosure{text: text, digest: digestOf(text), value: elements[len(elements)-1], raw: raw[len(raw)-1]}
	if d.salt, ok = elements[0].(string); !ok {
		return disclosure{}, refuse(RuleDisclosure, "a disclosure has no salt")
	}
	if d.named = len(elements) == 3; d.named {
		if d.name, ok = elements[1].(string); !ok {
			return disclosure{}, refuse(RuleDisclosure, "a disclosure has no name")
		}
		if d.name == keySD || d.name == keyElement {
			return disclosure{}, refuse(RuleReserved, "a disclosure has a reserved name")
		}
	}
	return d, nil
}

// digestOf is the digest of a disclosure: of its text, not of what that encodes.
func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// decode reads base64url in its one spelling. The decoder of the standard library
// skips line breaks, and takes any bits for those that pad.
func decode(text string) ([]byte, error) {
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || base64.RawURLEncoding.EncodeToString(data) != text {
		return nil, refuse(RuleEncoding, "a part is not base64url in its one spelling")
	}
	return data, nil
}

// parseJSON reads one JSON value of bounded depth in which no object has a name
// twice.
func parseJSON(data []byte) (any, error) {
	if !utf8.Valid(data) {
		return nil, refuse(RuleJSON, "not UTF-8")
	}
	depth, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return nil, refuse(RuleJSON, "nested deeper than %d", maxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	var value any
	// Unlike the standard library, this one refuses duplicate names.
	if err := josejson.Unmarshal(data, &value); err != nil {
		return nil, refuse(RuleJSON, "not JSON, or an object with a name twice")
	}
	return value, nil
}

// parseExactly reads into v a JSON value that has exactly v's members, each
// spelled as v's tags spell it, in any order.
func parseExactly(data []byte, v any) error {
	is, err := parseJSON(data)
	if err != nil {
		return err
	}
	// The standard library ignores unknown members and the case of names, and
	// keeps what is not there: writing v again shows all of that.
	if err := json.Unmarshal(data, v); err != nil {
		return refuse(RuleJSON, "a member has another type than it must have")
	}
	var again any
	written, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(written, &again)
	}
	if err != nil || !reflect.DeepEqual(is, again) {
		return refuse(RuleJSON, "a member is missing, unknown or misspelt")
	}
	return nil
}

// reveal answers the payload with the disclosed claims and elements in their
// places and every digest removed: the processed payload of RFC 9901, section
// 7.1. What was verified of the payload must not depend on it.
func (s *sdJWT) reveal() (map[string]any, error) {
	value, err := parseJSON(s.payload)
	if err != nil {
		return nil, err
	}
	payload, ok := value.(map[string]any)
	if !ok {
		return nil, refuse(RuleJSON, "the payload is no object")
	}
	if name, ok := payload[keyHash]; ok && name != hashName {
		return nil, refuse(RuleHash, "the digests are not made with "+hashName)
	}
	delete(payload, keyHash)
	r := revealing{by: make(map[string]*disclosure), seen: make(map[string]bool)}
	for i := range s.disclosures {
		d := &s.disclosures[i]
		if r.by[d.digest] != nil {
			return nil, refuse(RuleTwice, "a disclosure is there twice")
		}
		r.by[d.digest] = d
	}
	revealed, err := r.value(payload, 0)
	if err != nil {
		return nil, err
	}
	for digest := range r.by {
		if !r.seen[digest] {
			return nil, refuse(RuleUnreferenced, "a disclosure belongs to no digest")
		}
	}
	return revealed.(map[string]any), nil
}

type revealing struct {
	by   map[string]*disclosure // by digest
	seen map[string]bool        // digests, of disclosures and others
}

// find answers the disclosure of a digest, nil if it is not disclosed or a decoy.
func (r *revealing) find(digest any) (*disclosure, error) {
	text, ok := digest.(string)
	if !ok {
		return nil, refuse(RuleDigest, "a digest is no text")
	}
	if r.seen[text] {
		return nil, refuse(RuleDuplicate, "a digest is there twice")
	}
	r.seen[text] = true
	return r.by[text], nil
}

func (r *revealing) value(v any, depth int) (any, error) {
	if depth > maxDepth {
		return nil, refuse(RuleJSON, "disclosures are nested deeper than %d", maxDepth)
	}
	switch v := v.(type) {
	case map[string]any:
		return r.object(v, depth)
	case []any:
		return r.array(v, depth)
	}
	return v, nil
}

func (r *revealing) object(o map[string]any, depth int) (any, error) {
	if _, ok := o[keyElement]; ok {
		return nil, refuse(RuleReserved, "an object that is no array element has a claim called "+keyElement)
	}
	if _, ok := o[keyHash]; ok {
		return nil, refuse(RuleReserved, "an inner object has a claim called "+keyHash)
	}
	digests, hasDigests := o[keySD]
	delete(o, keySD)
	names := make([]string, 0, len(o))
	for name := range o {
		names = append(names, name)
	}
	slices.Sort(names) // which of several refusals comes first must not vary
	for _, name := range names {
		revealed, err := r.value(o[name], depth+1)
		if err != nil {
			return nil, err
		}
		o[name] = revealed
	}
	if !hasDigests {
		return o, nil
	}
	list, ok := digests.([]any)
	if !ok {
		return nil, refuse(RuleDigest, keySD+" is no array")
	}
	for _, digest := range list {
		d, err := r.find(digest)
		if err != nil {
			return nil, err
		}
		if d == nil {
			continue
		}
		if !d.named {
			return nil, refuse(RuleDisclosure, "a claim's disclosure has no name")
		}
		if _, ok := o[d.name]; ok {
			return nil, refuse(RuleNameTaken, "a disclosed claim is there already")
		}
		if o[d.name], err = r.value(d.value, depth+1); err != nil {
			return nil, err
		}
	}
	return o, nil
}

func (r *revealing) array(list []any, depth int) (any, error) {
	revealed := make([]any, 0, len(list))
	for _, element := range list {
		placeholder, ok := element.(map[string]any)
		if digest, has := placeholder[keyElement]; ok && has {
			if len(placeholder) != 1 {
				return nil, refuse(RuleReserved, "an array element has more than its digest")
			}
			d, err := r.find(digest)
			if err != nil {
				return nil, err
			}
			if d == nil {
				continue
			}
			if d.named {
				return nil, refuse(RuleDisclosure, "an array element's disclosure has a name")
			}
			element = d.value
		}
		value, err := r.value(element, depth+1)
		if err != nil {
			return nil, err
		}
		revealed = append(revealed, value)
	}
	return revealed, nil
}

// marshal writes v as JSON without escaping what HTML would.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
