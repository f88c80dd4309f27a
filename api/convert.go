package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
)

// Convert answers v as a T by way of JSON: the types of this package and those
// of a record have fields of the same JSON names. A field that T does not know
// is an error, so that nothing is lost silently; an absent list becomes an empty
// one, because no list of the contract is null.
func Convert[T any](v any) (T, error) {
	var out T
	data, err := json.Marshal(v)
	if err != nil {
		return out, fmt.Errorf("convert %T to %T: %w", v, out, err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&out); err != nil {
		return out, fmt.Errorf("convert %T to %T: %w", v, out, err)
	}
	fillLists(reflect.ValueOf(&out).Elem())
	return out, nil
}

// fillLists replaces nil slices in v by empty ones.
func fillLists(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			fillLists(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fillLists(v.Field(i))
			}
		}
	case reflect.Slice:
		if v.IsNil() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		}
		if k := v.Type().Elem().Kind(); k == reflect.Struct || k == reflect.Slice || k == reflect.Pointer {
			for i := range v.Len() {
				fillLists(v.Index(i))
			}
		}
	}
}
