package interchange

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
)

// openJSON finds the array of data sets, under key in the object that the file
// is, or the file itself when key is "", and reads it element by element.
func (r *Reader) openJSON(file io.Reader, key string, row func(object) Row) error {
	buffered := bufio.NewReader(file)
	if head, _ := buffered.Peek(3); bytes.Equal(head, []byte("\ufeff")) { // a short file has no mark
		_, _ = buffered.Discard(3)
	}
	dec := json.NewDecoder(buffered)
	dec.UseNumber()
	depth, err := findArray(dec, key)
	if err != nil {
		return err
	}
	r.next = func() (Row, error) {
		if !dec.More() {
			return Row{}, finishJSON(dec, depth)
		}
		var element any
		if err := dec.Decode(&element); err != nil {
			return Row{}, jsonFault(err)
		}
		o, ok := element.(map[string]any)
		if !ok {
			return Row{Findings: []domain.Finding{shape(wholeRow, "不是数据集对象", "is not a data set object")}}, nil
		}
		return row(o), nil
	}
	return nil
}

// findArray reads up to the array's first element, and says how many brackets
// are open.
func findArray(dec *json.Decoder, key string) (depth int, err error) {
	first, err := dec.Token()
	if err != nil {
		return 0, jsonFault(err)
	}
	if key == "" {
		if first != json.Delim('[') {
			return 0, errors.New("the file is not a JSON array of data sets")
		}
		return 1, nil
	}
	if first != json.Delim('{') {
		return 0, errors.New("the file is not a JSON object")
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return 0, jsonFault(err)
		}
		if name != key {
			var skipped json.RawMessage
			if err := dec.Decode(&skipped); err != nil {
				return 0, jsonFault(err)
			}
			continue
		}
		open, err := dec.Token()
		if err != nil {
			return 0, jsonFault(err)
		}
		if open != json.Delim('[') {
			return 0, fmt.Errorf("%q is not an array of data sets", key)
		}
		return 2, nil
	}
	return 0, fmt.Errorf("the file has no %q", key)
}

// finishJSON reads what follows the array: a file that was cut off must not pass
// for a whole one.
func finishJSON(dec *json.Decoder, depth int) error {
	for depth > 0 {
		token, err := dec.Token()
		if err != nil {
			return jsonFault(err)
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("text follows the JSON value")
	}
	return io.EOF
}

func jsonFault(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the file ends early")
	}
	return fmt.Errorf("not JSON: %w", err)
}

// object is a JSON object as JSON-LD and its relatives write them: a value may
// be itself, an object that carries it, or a list of such.
type object map[string]any

// text is the first text under a name, "" if there is none.
func (o object) text(name string) string {
	if all := texts(o[name]); len(all) > 0 {
		return all[0]
	}
	return ""
}

// objects are all objects under a name.
func (o object) objects(name string) []object {
	switch v := o[name].(type) {
	case map[string]any:
		return []object{v}
	case []any:
		var out []object
		for _, each := range v {
			if m, ok := each.(map[string]any); ok {
				out = append(out, m)
			}
		}
		return out
	}
	return nil
}

// object is the first object under a name, empty if there is none.
func (o object) object(name string) object {
	if all := o.objects(name); len(all) > 0 {
		return all[0]
	}
	return object{}
}

// texts reads a string, a number, a JSON-LD value object or reference, or a list
// of these.
func texts(v any) []string {
	switch v := v.(type) {
	case string:
		if v != "" {
			return []string{v}
		}
	case json.Number:
		return []string{v.String()}
	case map[string]any:
		for _, name := range []string{"@value", "@id"} {
			if s, ok := v[name]; ok {
				return texts(s)
			}
		}
	case []any:
		var out []string
		for _, each := range v {
			out = append(out, texts(each)...)
		}
		return out
	}
	return nil
}

// plain is text on one line with single spaces, as files written by people and
// programs of other places often do not have it.
func plain(s string) string { return strings.Join(strings.Fields(s), " ") }

// lastSegment is what follows the last "/" or "#" of an IRI.
func lastSegment(iri string) string {
	return iri[strings.LastIndexAny(iri, "/#")+1:]
}
