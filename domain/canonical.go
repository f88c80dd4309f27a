package domain

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// Canonical returns the one byte form that v has on the ledger, in the access
// log and in a proof: JSON with the fields of the Go struct in their declared
// order, no insignificant space, no HTML escaping and no final newline. It holds
// no maps, floating-point numbers or insignificant zero fields beyond those
// marked omitempty, so that equal values have equal bytes on every peer.
func Canonical(v any) ([]byte, error) {
	if data, done := writtenOut(v); done {
		return data, nil
	}
	return canonical(v)
}

// writtenOut is [Canonical] of the values that are encoded by the thousand; done is
// false when v takes the general way. Types that embed these are none of them.
func writtenOut(v any) (data []byte, done bool) {
	var w canonicalWriter
	switch v := v.(type) {
	case AccessRecord:
		return v.appendCanonical(make([]byte, 0, canonicalRecord))
	case CatalogContent:
		w = newCanonicalWriter(canonicalRecord)
		w.content("", v)
	case StoredCatalogEntry:
		w = newCanonicalWriter(canonicalRecord)
		w.storedEntry(v)
	case *CatalogEntry:
		if v != nil {
			w = newCanonicalWriter(2 * canonicalRecord)
			w.entry(*v)
		}
	}
	return w.b, w.ok
}

// canonical is [Canonical] by reflection: the definition.
func canonical(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode canonical form: %w", err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// ParseCanonical decodes data into v and refuses every byte string that
// [Canonical] would not have written for the decoded value: unknown, duplicate,
// reordered or differently spelled names, insignificant space, trailing bytes.
// v must be a non-nil pointer to a zero value. Its error is an [Error] of kind
// [Invalid].
func ParseCanonical(data []byte, v any) error {
	switch v := v.(type) {
	case *AccessRecord:
		if v.parseCanonical(data) {
			return nil
		}
		*v = AccessRecord{}
	case *RegisterBatchArgs:
		if v.parseCanonical(data) {
			return nil
		}
		*v = RegisterBatchArgs{}
	case *StoredCatalogEntry:
		if entry, ok := ReadStoredEntry(data); ok && withoutSeparators(string(data)) {
			*v = entry
			return nil
		}
	}
	return parseCanonical(data, v)
}

// parseCanonical is [ParseCanonical] by reflection: the definition.
func parseCanonical(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return &Error{Kind: Invalid, Msg: "not the expected JSON object: " + decodeFault(err)}
	}
	if _, err := dec.Token(); err != io.EOF {
		return &Error{Kind: Invalid, Msg: "bytes follow the JSON object"}
	}
	again, err := canonical(v)
	if err != nil {
		return &Error{Kind: Invalid, Msg: err.Error()}
	}
	if !bytes.Equal(again, data) {
		return &Error{Kind: Invalid, Msg: "not in canonical form: field order, spelling, spacing, escapes or repeated names differ"}
	}
	return nil
}

// fieldNameShape is what an unknown field must look like to be named in an error.
var fieldNameShape = regexp.MustCompile(`^json: unknown field "([A-Za-z][A-Za-z_]{0,39})"$`)

// decodeFault says what is wrong with a JSON text without repeating any value of
// it, which the decoder's own errors do.
func decodeFault(err error) string {
	var (
		syntax  *json.SyntaxError
		typed   *json.UnmarshalTypeError
		timeErr *time.ParseError
	)
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("syntax error at byte %d", syntax.Offset)
	case errors.As(err, &typed):
		kind, _, _ := strings.Cut(typed.Value, " ")
		return fmt.Sprintf("field %q does not take a JSON %s", typed.Field, kind)
	case errors.As(err, &timeErr):
		return "a time is not in the form 2006-01-02T15:04:05Z"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it ends early"
	}
	if m := fieldNameShape.FindStringSubmatch(err.Error()); m != nil {
		return "unknown field " + m[1]
	}
	return "a field or value is not as expected"
}

// Digest returns the SHA-256 digest of data in lower-case hexadecimal.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
