package statuslist

import (
	"math/rand/v2"
	"strings"
	"testing"
)

func TestEncode(t *testing.T) {
	g := rand.New(rand.NewPCG(1, 2))
	for name, places := range map[string][]int{
		"none":  nil,
		"first": {0},
		"last":  {Size - 1},
		"twice": {7, 8, 8, 7},
		"many": func() (out []int) {
			for range 1000 {
				out = append(out, g.IntN(Size))
			}
			return out
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			encoded, err := Encode(places)
			if err != nil {
				t.Fatal(err)
			}
			again, err := Encode(places)
			if err != nil || again != encoded {
				t.Errorf("encoded twice, the lists differ: %v", err)
			}
			bits, err := Decode(encoded)
			if err != nil {
				t.Fatal(err)
			}
			want := make(map[int]bool)
			for _, p := range places {
				want[p] = true
			}
			for p := range Size {
				if bits.At(p) != want[p] {
					t.Fatalf("bit %d is %t", p, bits.At(p))
				}
			}
			if bits.At(-1) || bits.At(Size) {
				t.Error("a bit outside the list is 1")
			}
		})
	}
}

// TestStandardsExample reads the list in the standard's example 3: it has no bit
// that is 1.
func TestStandardsExample(t *testing.T) {
	bits, err := Decode("uH4sIAAAAAAAAA-3BMQEAAADCoPVPbQwfoAAAAAAAAAAAAAAAAAAAAIC3AYbSVKsAQAAA")
	if err != nil {
		t.Fatal(err)
	}
	for p := range Size {
		if bits.At(p) {
			t.Fatalf("bit %d is 1", p)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	for _, place := range []int{-1, Size} {
		if _, err := Encode([]int{3, place}); err == nil || !strings.Contains(err.Error(), "outside") {
			t.Errorf("place %d: %v", place, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	good, err := Encode([]int{5})
	if err != nil {
		t.Fatal(err)
	}
	for name, encoded := range map[string]string{
		"empty": "", "no multibase": good[1:], "another base": "z" + good[1:], "padding": good + "=",
		"no gzip": "uAAAA", "cut": good[:len(good)-8], "characters": "u+/+/",
		"short": "uH4sIAAAAAAAA_wMAAAAAAAAAAAA", // of no bytes
	} {
		if _, err := Decode(encoded); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
