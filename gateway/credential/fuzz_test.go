package credential_test

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/credential"
)

// FuzzVerify checks that no text makes the reader panic or work long, and that
// what it accepts is a presentation of what was issued.
func FuzzVerify(f *testing.F) {
	fx := newFixture(f)
	whole := fx.issue(f)
	issued, err := credential.Digest(whole)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(strings.Split(whole, "~")[0] + "~")
	f.Add(fx.forge(f).write(f))
	f.Add("e30.e30.AA~WyJzYWx0IiwibmFtZSIsIl9zZCJd~")
	f.Add("eyJhbGciOiJub25lIn0.e30.~")
	f.Fuzz(func(t *testing.T, text string) {
		begin := time.Now()
		v, err := fx.verifier.Verify(text, at)
		if took := time.Since(begin); took > 2*time.Second { // 100 ms on a machine that does nothing else
			t.Errorf("%d bytes took %v", len(text), took)
		}
		if err == nil && v.Digest != issued && !strings.HasPrefix(text, strings.Split(whole, "~")[0]) {
			// The fixture's other credential is signed anew each time.
			if d, err := credential.Digest(text); err != nil || d != v.Digest {
				t.Errorf("accepted under another digest: %v", err)
			}
		}
		var refusal *credential.RefusalError
		if err != nil && (!errors.As(err, &refusal) || domain.KindOf(err) != domain.Invalid) {
			t.Errorf("error %v is no refusal", err)
		}
		for _, names := range [][]string{nil, {"姓名"}} {
			shown, err := credential.Present(text, names)
			if err != nil {
				continue
			}
			again, err := credential.Present(shown, names)
			if err != nil || again != shown {
				t.Errorf("a presentation presented is another: %v", err)
			}
		}
	})
}

// TestBombs checks that small texts made to cost much cost little.
func TestBombs(t *testing.T) {
	f := newFixture(t)
	signed := strings.Split(f.issue(t), "~")[0] + "~"
	for name, text := range map[string]string{
		"brackets":         strings.Repeat("W1tb", credential.MaxBytes/4-2) + ".e30.AA~",
		"tildes":           strings.Repeat("~", credential.MaxBytes),
		"points":           strings.Repeat(".", credential.MaxBytes-1) + "~",
		"disclosures":      signed + strings.Repeat("WyIiLCIiXQ~", 200),
		"large disclosure": signed + strings.Repeat("WyJBQUFB", credential.MaxBytes/8-500) + "~",
		"deep disclosure":  signed + strings.Repeat("W1tbW1tb", 20_000) + "~",
		"numbers":          signed + disclosureOf(salt, []byte(strings.Repeat("9", 100_000))) + "~",
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			begin := time.Now()
			if v, err := f.verifier.Verify(text, at); err == nil {
				t.Fatalf("accepted: %+v", v)
			}
			took := time.Since(begin)
			runtime.ReadMemStats(&after)
			if took > time.Second {
				t.Errorf("took %v", took)
			}
			if grew := after.TotalAlloc - before.TotalAlloc; grew > 64<<20 {
				t.Errorf("allocated %d MB", grew>>20)
			}
		})
	}
}
