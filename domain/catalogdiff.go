package domain

import (
	"reflect"
	"slices"
)

// DiffContent lists what differs between two contents, in the order of the
// fields. Items are told apart by name.
func DiffContent(before, after CatalogContent) []FieldChange {
	var changes []FieldChange
	b, a := reflect.ValueOf(before), reflect.ValueOf(after)
	for i := range b.NumField() {
		field := jsonName(b.Type().Field(i))
		if field == "items" {
			changes = append(changes, diffItems(before.Items, after.Items)...)
			continue
		}
		changes = append(changes, diffValue(field, b.Field(i), a.Field(i))...)
	}
	return changes
}

// diffItems lists the items of before that changed or went, then those that are
// new, and at last another order of those that stay.
func diffItems(before, after []CatalogItem) []FieldChange {
	var changes []FieldChange
	var stayBefore, stayAfter []string
	for _, b := range before {
		at := slices.IndexFunc(after, func(a CatalogItem) bool { return a.Name == b.Name })
		if at < 0 {
			changes = append(changes, FieldChange{Field: itemField(b), Before: jsonText(reflect.ValueOf(b))})
			continue
		}
		stayBefore = append(stayBefore, b.Name)
		bv, av := reflect.ValueOf(b), reflect.ValueOf(after[at])
		for i := range bv.NumField() {
			changes = append(changes, diffValue(itemField(b)+"."+jsonName(bv.Type().Field(i)), bv.Field(i), av.Field(i))...)
		}
	}
	for _, a := range after {
		if slices.ContainsFunc(before, func(b CatalogItem) bool { return b.Name == a.Name }) {
			stayAfter = append(stayAfter, a.Name)
			continue
		}
		changes = append(changes, FieldChange{Field: itemField(a), After: jsonText(reflect.ValueOf(a))})
	}
	if !slices.Equal(stayBefore, stayAfter) {
		changes = append(changes, FieldChange{"items", jsonText(reflect.ValueOf(stayBefore)), jsonText(reflect.ValueOf(stayAfter))})
	}
	return changes
}

func itemField(item CatalogItem) string { return "items[" + item.Name + "]" }

func diffValue(field string, before, after reflect.Value) []FieldChange {
	b, a := jsonText(before), jsonText(after)
	if b == a {
		return nil
	}
	return []FieldChange{{field, b, a}}
}

// jsonName is the name of a struct field in JSON.
func jsonName(field reflect.StructField) string { return field.Tag.Get("json") }

// jsonText is the JSON of a value, an empty list for a nil one.
func jsonText(v reflect.Value) string {
	if v.Kind() == reflect.Slice && v.Len() == 0 {
		return "[]"
	}
	data, _ := Canonical(v.Interface()) // text, numbers and lists of them always have one
	return string(data)
}
