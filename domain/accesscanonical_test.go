package domain

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// checkSameCanonical holds the written-out form of an access record against the
// general one, in both directions, for data that may be none.
func checkSameCanonical(t *testing.T, data []byte) {
	t.Helper()
	var want, got AccessRecord
	wantErr, gotErr := parseCanonical(data, &want), ParseCanonical(data, &got)
	if (wantErr == nil) != (gotErr == nil) || wantErr != nil && wantErr.Error() != gotErr.Error() {
		t.Fatalf("%s: error %v, want %v", data, gotErr, wantErr)
	}
	if wantErr != nil {
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", data, diff)
	}
	again, err := Canonical(got)
	if err != nil || !bytes.Equal(again, data) {
		t.Fatalf("encoded again: %s, %v; want %s", again, err, data)
	}
}

// accessRecords are records that take the short way, and some that must not.
func accessRecords(t testing.TB) map[string][]byte {
	records := make(map[string][]byte)
	for name, change := range map[string]func(*AccessRecord){
		"as it is":       func(*AccessRecord) {},
		"empty":          func(r *AccessRecord) { *r = AccessRecord{} },
		"no items":       func(r *AccessRecord) { r.Items = []string{} },
		"many items":     func(r *AccessRecord) { r.Items = []string{"", "户号", "]"} },
		"quoted":         func(r *AccessRecord) { r.Purpose = `so "called"` },
		"control":        func(r *AccessRecord) { r.Operator = "a\tb\x00\x7f" },
		"separator":      func(r *AccessRecord) { r.LegalBasis = "a\u2028b" },
		"HTML":           func(r *AccessRecord) { r.System = "<a&b>" },
		"not UTF-8":      func(r *AccessRecord) { r.CaseRef = "a\xffb" },
		"negative":       func(r *AccessRecord) { r.RecordCount, r.GrantSeq = -1<<63, -1 },
		"fractions":      func(r *AccessRecord) { r.At = time.Date(2026, 3, 1, 8, 0, 0, 120_000_001, time.UTC) },
		"not UTC":        func(r *AccessRecord) { r.At = r.At.In(time.FixedZone("", 8*3600)) },
		"zone of no use": func(r *AccessRecord) { r.At = r.At.In(time.FixedZone("", 0)) },
	} {
		r := someAccessRecord()
		change(&r)
		want, wantErr := canonical(r)
		got, err := Canonical(r)
		if !bytes.Equal(want, got) || (err == nil) != (wantErr == nil) {
			t.Errorf("%s: %s, %v; want %s, %v", name, got, err, want, wantErr)
		}
		records[name] = want
	}
	return records
}

func TestAccessRecordCanonical(t *testing.T) {
	for name, data := range accessRecords(t) {
		t.Run(name, func(t *testing.T) {
			checkSameCanonical(t, data)
			for i := range data {
				checkSameCanonical(t, data[:i])
				for _, c := range []byte(` "\0-x,]}`) {
					checkSameCanonical(t, append(append(bytes.Clone(data[:i]), c), data[i:]...))
					checkSameCanonical(t, append(append(bytes.Clone(data[:i]), c), data[i+1:]...))
				}
			}
		})
	}
	var r AccessRecord
	if data, err := Canonical(someAccessRecord()); err != nil || !r.parseCanonical(data) {
		t.Errorf("an ordinary record takes the general way: %v", err)
	}
	late := someAccessRecord()
	late.At = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)
	if _, err := Canonical(late); err == nil || !strings.Contains(err.Error(), "year") {
		t.Errorf("year 10000: %v", err)
	}
}

func FuzzAccessRecordCanonical(f *testing.F) {
	for _, data := range accessRecords(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkSameCanonical(t, data) })
}

func BenchmarkAccessRecordCanonical(b *testing.B) {
	data, err := Canonical(someAccessRecord())
	if err != nil {
		b.Fatal(err)
	}
	var r AccessRecord
	b.Run("parse", func(b *testing.B) {
		for b.Loop() {
			r = AccessRecord{}
			if err := ParseCanonical(data, &r); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			if _, err := Canonical(r); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("validate", func(b *testing.B) {
		for b.Loop() {
			if err := r.Validate(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
