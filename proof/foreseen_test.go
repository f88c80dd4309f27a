package proof

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

// TestForeseen checks the short way to read a statement against the general one:
// what it accepts is, byte for byte, the canonical form of what it answers, and it
// knows the plain text that records are.
func TestForeseen(t *testing.T) {
	at := time.Date(2026, 11, 22, 8, 0, 0, 123e6, time.UTC)
	question := domain.Statement{
		Schema: domain.SchemaStatement, Channel: "zhenglian", Kind: domain.KindCertificate, ID: "0f", Nonce: "00", Found: true,
		AsOf: at, ValidUntil: at.Add(domain.StatementLife),
	}
	for _, tt := range []struct {
		name, status, record string
		plain                bool
	}{
		{"record", "valid", `{"schema":"zhenglian/certificate/1","名称":"居住证","n":1,"html":"<&>"}`, true},
		{"empty", "", "", true},
		{"backslash", "valid", `{"a":"\\"}`, false},
		{"line break", "valid", "{\n}", false},
		{"separator", "valid", "{\"a\":\"\u2028\"}", false},
		{"status with a quotation mark", `va"lid`, "{}", true},
		{"looks like the rest", "valid", `","asOf":"2026-11-22T08:00:00.123Z","record":"`, true},
		{"delete", "valid", "\x7f", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := question
			want.Status, want.Record = tt.status, tt.record
			payload, err := domain.Canonical(want)
			if err != nil {
				t.Fatal(err)
			}
			got := question
			if ok := foreseen(payload, &got); ok != tt.plain || ok && got != want {
				t.Errorf("foreseen = %t, %+v", ok, got)
			}
			for i := range payload {
				for _, b := range []byte{payload[i] ^ 1, payload[i] ^ 0x80, '"', '\\', ' '} {
					changed := bytes.Clone(payload)
					changed[i] = b
					got := question
					if !foreseen(changed, &got) {
						continue
					}
					if again, err := domain.Canonical(got); err != nil || !bytes.Equal(again, changed) {
						t.Fatalf("byte %d as %q: read as %+v, which is written %s", i, b, got, again)
					}
				}
			}
		})
	}
	for _, payload := range []string{"", "{}", strings.Repeat(`"`, 500)} {
		if got := question; foreseen([]byte(payload), &got) {
			t.Errorf("%q is foreseen", payload)
		}
	}
}
