package evidence

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/trail"
)

// A filter that a manifest cannot say would select other rows when it is
// verified.
func TestFilterIsWhole(t *testing.T) {
	var f trail.Filter
	v := reflect.ValueOf(&f).Elem()
	for i := range v.NumField() {
		switch field := v.Field(i); field.Interface().(type) {
		case time.Time:
			field.Set(reflect.ValueOf(time.Date(2026, 1, 1+i, 0, 0, 0, 0, time.UTC)))
		default:
			field.SetString(strings.Repeat("x", i+1))
		}
	}
	written := filterOf(f)
	if back := written.filter(); back != f {
		t.Errorf("%+v comes back as %+v", f, back)
	}
	if got := (Filter{}).filter(); got != (trail.Filter{}) {
		t.Errorf("no filter comes back as %+v", got)
	}
}

// A trace in CSV has a column for every field of a record.
func TestColumnsAreWhole(t *testing.T) {
	header := CSVHeader()
	r := reflect.TypeFor[domain.AccessRecord]()
	for i := range r.NumField() {
		name := r.Field(i).Tag.Get("json")
		found := name == "schema"
		for _, column := range header {
			found = found || column == name
		}
		if !found {
			t.Errorf("no column %s", name)
		}
	}
	row := CSVRow(trail.Entry{Record: domain.AccessRecord{Purpose: "=1+1", CaseRef: "@x", System: "正常"}})
	for i, name := range header {
		if name == "purpose" && row[i] != "'=1+1" || name == "caseRef" && row[i] != "'@x" || name == "system" && row[i] != "正常" {
			t.Errorf("%s is %q", name, row[i])
		}
	}
}
