package proof

import (
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Fabric signs protobuf messages, and protobuf has many spellings of one
// message. This file reads the one spelling that Fabric's own encoder writes:
// known fields only, in ascending order, each once unless repeated, in shortest
// form, and none that holds its default. protowire registers no message types,
// so that this package can be linked beside any Fabric SDK or none.

// wireKind is how the value of a field is encoded.
type wireKind int

const (
	wireNumber  wireKind = iota // varint
	wireBytes                   // bytes
	wireText                    // string: valid UTF-8
	wireMessage                 // nested message: present even when empty
)

// wireField says that a message may hold a field.
type wireField struct {
	number   protowire.Number
	kind     wireKind
	repeated bool
}

// wireValue is one field of a message, as read.
type wireValue struct {
	field  protowire.Number
	number uint64
	bytes  []byte
}

// wireFields are the fields of one message, in order.
type wireFields []wireValue

// parseWire reads data as a message with the given fields, which are listed in
// ascending order. The values returned alias data.
func parseWire(message string, data []byte, fields []wireField) (wireFields, error) {
	out := make(wireFields, 0, 4) // as many as most messages have
	var last protowire.Number
	for rest := data; len(rest) > 0; {
		number, wire, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return nil, fmt.Errorf("%s: %w", message, protowire.ParseError(n))
		}
		// A tag, length or number that is longer than need be.
		if n != protowire.SizeTag(number) {
			return nil, fmt.Errorf("%s: not in its shortest form", message)
		}
		rest = rest[n:]
		field, ok := findField(fields, number)
		switch {
		case !ok:
			return nil, fmt.Errorf("%s: field %d is not allowed", message, number)
		case number < last:
			return nil, fmt.Errorf("%s: field %d is out of order", message, number)
		case number == last && !field.repeated:
			return nil, fmt.Errorf("%s: field %d is repeated", message, number)
		}
		last = number
		value := wireValue{field: number}
		shortest := 0
		switch {
		case field.kind == wireNumber && wire == protowire.VarintType:
			value.number, n = protowire.ConsumeVarint(rest)
			shortest = protowire.SizeVarint(value.number)
		case field.kind != wireNumber && wire == protowire.BytesType:
			value.bytes, n = protowire.ConsumeBytes(rest)
			shortest = protowire.SizeBytes(len(value.bytes))
		default:
			return nil, fmt.Errorf("%s: field %d has wire type %d", message, number, wire)
		}
		if n < 0 {
			return nil, fmt.Errorf("%s: field %d: %w", message, number, protowire.ParseError(n))
		}
		if n != shortest {
			return nil, fmt.Errorf("%s: not in its shortest form", message)
		}
		rest = rest[n:]
		if !field.repeated && field.kind != wireMessage && value.number == 0 && len(value.bytes) == 0 {
			return nil, fmt.Errorf("%s: field %d spells out its default", message, number)
		}
		if field.kind == wireText && !utf8.Valid(value.bytes) {
			return nil, fmt.Errorf("%s: field %d is not UTF-8", message, number)
		}
		out = append(out, value)
	}
	return out, nil
}

func findField(fields []wireField, number protowire.Number) (wireField, bool) {
	for _, field := range fields {
		if field.number == number {
			return field, true
		}
	}
	return wireField{}, false
}

// bytes answers a field that is not repeated, nil when absent.
func (f wireFields) bytes(number protowire.Number) []byte {
	for _, value := range f {
		if value.field == number {
			return value.bytes
		}
	}
	return nil
}

// text is [wireFields.bytes] as a string.
func (f wireFields) text(number protowire.Number) string { return string(f.bytes(number)) }

// number answers a number that is not repeated, 0 when absent.
func (f wireFields) number(number protowire.Number) uint64 {
	for _, value := range f {
		if value.field == number {
			return value.number
		}
	}
	return 0
}

// has reports whether a field is present.
func (f wireFields) has(number protowire.Number) bool {
	for _, value := range f {
		if value.field == number {
			return true
		}
	}
	return false
}

// all answers every value of a repeated field, in order.
func (f wireFields) all(number protowire.Number) [][]byte {
	var out [][]byte
	for _, value := range f {
		if value.field == number {
			out = append(out, value.bytes)
		}
	}
	return out
}
