package proof_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// holds reports whether a verdict says that a proof holds.
func holds(v proof.Verdict) bool {
	return v.Overall != proof.BadProof && v.Overall != proof.CannotCheck
}

// smallest returns the smallest bundle that holds, and its anchors.
func smallest(t testing.TB) ([]byte, *proof.Anchors) {
	t.Helper()
	c := prooftest.New()
	read := validRead(c)
	read.Signers = read.Signers[:c.Quorum]
	file, anchors := read.File(), c.Anchors()
	if v := proof.Verify(file, anchors, proof.Options{}); v.Overall != proof.Valid {
		t.Fatalf("the original is refused: %s", v.Reason)
	}
	return file, anchors
}

// stride is how many variants a test moves on by: each is tried, or in short
// mode, which is for the race detector, one in sixty-one.
func stride() int {
	if testing.Short() {
		return 61 // coprime to 8, so that every bit has its turn
	}
	return 1
}

// refuseAll checks that none of the n variants that tamper makes is accepted.
func refuseAll(t *testing.T, anchors *proof.Anchors, n int, tamper func(i int) (string, []byte)) {
	t.Helper()
	var next, refused atomic.Int64
	var wait sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				name, file := tamper(i)
				if v := proof.Verify(file, anchors, proof.Options{}); holds(v) {
					t.Errorf("%s: accepted as %s", name, v.Overall)
				} else {
					refused.Add(1)
				}
			}
		})
	}
	wait.Wait()
	if n == 0 {
		t.Error("nothing was tried")
	}
	t.Logf("%d of %d refused", refused.Load(), n)
}

func TestTamperBits(t *testing.T) {
	file, anchors := smallest(t)
	step := stride()
	refuseAll(t, anchors, len(file)*8/step, func(i int) (string, []byte) {
		i *= step
		bad := slices.Clone(file)
		bad[i/8] ^= 1 << (i % 8)
		return fmt.Sprintf("bit %d of byte %d flipped", i%8, i/8), bad
	})
}

func TestTamperBytes(t *testing.T) {
	file, anchors := smallest(t)
	values := []byte{0x00, '"', 'A', 0xff}
	step := stride()
	refuseAll(t, anchors, len(file)*len(values)/step, func(i int) (string, []byte) {
		i *= step
		at, value := i/len(values), values[i%len(values)]
		bad := slices.Clone(file)
		if bad[at] == value {
			value ^= 0x01
		}
		bad[at] = value
		return fmt.Sprintf("byte %d set to %#02x", at, value), bad
	})
}

func TestTamperLength(t *testing.T) {
	file, anchors := smallest(t)
	for name, tamper := range map[string]func(i int) []byte{
		"cut":      func(i int) []byte { return file[:i] },
		"deleted":  func(i int) []byte { return slices.Delete(slices.Clone(file), i, i+1) },
		"repeated": func(i int) []byte { return slices.Insert(slices.Clone(file), i, file[i]) },
		"zero":     func(i int) []byte { return slices.Insert(slices.Clone(file), i+1, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			step := stride()
			refuseAll(t, anchors, len(file)/step, func(i int) (string, []byte) {
				i *= step
				return fmt.Sprintf("%s at byte %d", name, i), tamper(i)
			})
		})
	}
}

// TestTamperDecoded flips every bit of what the base64 of a bundle holds, so
// that the fault is never found by base64 or JSON.
func TestTamperDecoded(t *testing.T) {
	file, anchors := smallest(t)
	bundle, err := proof.ParseBundle(file)
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]func(*proof.Bundle) *string{
		"proposal": func(b *proof.Bundle) *string { return &b.Read.Proposal },
		"response": func(b *proof.Bundle) *string { return &b.Read.Response },
	}
	for i := range bundle.Read.Endorsements {
		parts[fmt.Sprint("endorser ", i)] = func(b *proof.Bundle) *string { return &b.Read.Endorsements[i].Endorser }
		parts[fmt.Sprint("signature ", i)] = func(b *proof.Bundle) *string { return &b.Read.Endorsements[i].Signature }
	}
	for name, part := range parts {
		t.Run(name, func(t *testing.T) {
			raw, err := base64.RawURLEncoding.DecodeString(*part(&bundle))
			if err != nil {
				t.Fatal(err)
			}
			step := stride()
			refuseAll(t, anchors, len(raw)*8/step, func(i int) (string, []byte) {
				i *= step
				bad := slices.Clone(raw)
				bad[i/8] ^= 1 << (i % 8)
				changed := bundle
				changed.Read.Endorsements = slices.Clone(bundle.Read.Endorsements)
				*part(&changed) = base64.RawURLEncoding.EncodeToString(bad)
				encoded, err := proof.Encode(changed)
				if err != nil {
					t.Error(err)
				}
				return fmt.Sprintf("bit %d of byte %d flipped", i%8, i/8), encoded
			})
		})
	}
}

// TestTamperFields removes, repeats, renames and moves each field of the file.
func TestTamperFields(t *testing.T) {
	file, anchors := smallest(t)
	var bad []string
	text := string(file)
	for _, key := range []string{"format", "read", "proposal", "response", "endorsements", "endorser", "signature"} {
		quoted := `"` + key + `"`
		if !strings.Contains(text, quoted) {
			t.Fatalf("no %s in the bundle", key)
		}
		for _, name := range []string{strings.ToUpper(key), strings.ToUpper(key[:1]) + key[1:], key + " ", "x" + key, "ſ" + key[1:]} {
			bad = append(bad, strings.Replace(text, quoted, `"`+name+`"`, 1))
		}
		// The same key before itself, with a value of each type.
		for _, value := range []string{`null`, `""`, `"x"`, `1`, `{}`, `[]`, `true`} {
			bad = append(bad, strings.Replace(text, quoted, quoted+":"+value+","+quoted, 1))
			bad = append(bad, strings.Replace(text, quoted, `"`+strings.ToUpper(key)+`":`+value+`,`+quoted, 1))
		}
		bad = append(bad, strings.Replace(text, quoted+":", quoted+" :", 1), strings.Replace(text, quoted+":", quoted+": ", 1))
	}
	bundle, err := proof.ParseBundle(file)
	if err != nil {
		t.Fatal(err)
	}
	r := bundle.Read
	endorsements, err := domain.Canonical(r.Endorsements)
	if err != nil {
		t.Fatal(err)
	}
	bad = append(bad,
		fmt.Sprintf(`{"read":{"proposal":%q,"response":%q,"endorsements":%s},"format":"zhenglian-proof/1"}`, r.Proposal, r.Response, endorsements),
		fmt.Sprintf(`{"format":"zhenglian-proof/1","read":{"response":%q,"proposal":%q,"endorsements":%s}}`, r.Response, r.Proposal, endorsements),
		fmt.Sprintf(`{"format":"zhenglian-proof/1","read":{"proposal":%q,"response":%q}}`, r.Proposal, r.Response),
		fmt.Sprintf(`{"format":"zhenglian-proof/1","read":{"proposal":%q,"response":%q,"endorsements":null}}`, r.Proposal, r.Response),
		fmt.Sprintf(`{"format":"zhenglian-proof/1","read":{"proposal":%q,"endorsements":%s}}`, r.Proposal, endorsements),
		fmt.Sprintf(`{"format":"zhenglian-proof/1","read":{"response":%q,"endorsements":%s}}`, r.Response, endorsements),
		`{"format":"zhenglian-proof/1"}`, `{}`, `[]`, `"zhenglian-proof/1"`, `[`+text+`]`, text+text, text+" ", text+"null",
		fmt.Sprintf(`{"format":"zhenglian-proof/1","read":{"proposal":%q,"response":%q,"endorsements":%s}}`, r.Response, r.Proposal, endorsements),
	)
	for i := range r.Endorsements {
		for name, change := range map[string]func(e []proof.Endorsement) []proof.Endorsement{
			"removed":  func(e []proof.Endorsement) []proof.Endorsement { return slices.Delete(e, i, i+1) },
			"repeated": func(e []proof.Endorsement) []proof.Endorsement { return slices.Insert(e, i, e[i]) },
			"moved": func(e []proof.Endorsement) []proof.Endorsement {
				return append(slices.Delete(e, i, i+1), r.Endorsements[(i+1)%len(e)])
			},
			"crossed": func(e []proof.Endorsement) []proof.Endorsement {
				e[i].Endorser, e[i].Signature = e[i].Signature, e[i].Endorser
				return e
			},
			"unsigned": func(e []proof.Endorsement) []proof.Endorsement { e[i].Signature = ""; return e },
		} {
			changed := bundle
			changed.Read.Endorsements = change(slices.Clone(r.Endorsements))
			encoded, err := proof.Encode(changed)
			if err != nil {
				t.Fatal(name, err)
			}
			bad = append(bad, string(encoded))
		}
	}
	refuseAll(t, anchors, len(bad), func(i int) (string, []byte) {
		if bad[i] == text {
			t.Errorf("variant %d is the original", i)
		}
		return fmt.Sprintf("variant %d %.120s", i, bad[i]), []byte(bad[i])
	})
}

// TestTransplant takes each part of one bundle that holds into another.
func TestTransplant(t *testing.T) {
	c := prooftest.New()
	anchors := c.Anchors()
	bundles := map[string]proof.Bundle{
		"valid":   validRead(c).Bundle(),
		"revoked": c.AttestCertificate(c.Revoked(), domain.CertificateRevoked).Bundle(),
		"nothing": c.AttestNothing().Bundle(),
		"other":   c.AttestDepartment().Bundle(),
	}
	tried := 0
	for to, original := range bundles {
		for from, donor := range bundles {
			if from == to {
				continue
			}
			for name, change := range map[string]func(*proof.Bundle){
				"proposal":     func(b *proof.Bundle) { b.Read.Proposal = donor.Read.Proposal },
				"response":     func(b *proof.Bundle) { b.Read.Response = donor.Read.Response },
				"endorsements": func(b *proof.Bundle) { b.Read.Endorsements = donor.Read.Endorsements },
				"question":     func(b *proof.Bundle) { b.Read.Proposal, b.Read.Response = donor.Read.Proposal, donor.Read.Response },
				"signature":    func(b *proof.Bundle) { b.Read.Endorsements[0] = donor.Read.Endorsements[0] },
			} {
				changed := original
				changed.Read.Endorsements = slices.Clone(original.Read.Endorsements)
				change(&changed)
				if changed.Read.Proposal == original.Read.Proposal && changed.Read.Response == original.Read.Response && name != "endorsements" && name != "signature" {
					continue // the two bundles ask the same
				}
				encoded, err := proof.Encode(changed)
				if err != nil {
					t.Fatal(err)
				}
				if v := proof.Verify(encoded, anchors, proof.Options{}); holds(v) {
					t.Errorf("%s of %s in %s: accepted", name, from, to)
				}
				tried++
			}
		}
	}
	if tried < 40 {
		t.Errorf("tried %d transplants", tried)
	}
}

// TestLimits checks that size is judged before anything else.
func TestLimits(t *testing.T) {
	_, anchors := smallest(t)
	for name, file := range map[string][]byte{
		"too large":       bytes.Repeat([]byte("a"), proof.MaxBundleBytes+1),
		"deep":            []byte(strings.Repeat("[", proof.MaxBundleBytes)),
		"large format":    []byte(`{"format":"zhenglian-proof/2","x":"` + strings.Repeat("a", proof.MaxBundleBytes) + `"}`),
		"large, in limit": []byte(`{"format":"zhenglian-proof/1","read":{"proposal":"` + strings.Repeat("A", proof.MaxBundleBytes-100) + `","response":"AA","endorsements":[]}}`),
	} {
		if v := proof.Verify(file, anchors, proof.Options{}); v.Overall != proof.BadProof {
			t.Errorf("%s: %q: %s", name, v.Overall, v.Reason)
		}
	}
	if v := proof.Verify(nil, nil, proof.Options{}); v.Overall != proof.CannotCheck {
		t.Errorf("without anchors: %q", v.Overall)
	}
	if v := proof.Verify(nil, &proof.Anchors{}, proof.Options{}); v.Overall != proof.CannotCheck {
		t.Errorf("with empty anchors: %q", v.Overall)
	}
}
