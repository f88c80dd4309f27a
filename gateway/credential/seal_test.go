package credential_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/credential"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// longCode is a check code of the length that gateways draw.
const longCode = "K7QXM2RTWHK7QXM2RTWHK7QXM2RT"

// byCode are the fixture's items with what the check code shows of them.
var byCode = []credential.Item{
	{Name: "姓名", Value: "样例甲", ByCode: credential.Masked},
	{Name: "证件号码", Value: "EXAMPLE-0001", ByCode: credential.Masked},
	{Name: "地址", Value: "示例市样板路 1 号"},
	{Name: "许可范围", Value: "样例", ByCode: credential.Whole},
}

func TestMask(t *testing.T) {
	for value, want := range map[string]string{
		"张三": "张*", "欧阳样例": "欧***", "张": "*", "A": "*", "Li Si": "L****", "11010119900101001X": "1****************X",
		"12345": "1****", "123456": "1****6", "EXAMPLE-0001": "E**********1", "示例市样板路1号": "示*******", "𠮷野": "𠮷*", "": "",
	} {
		if got := credential.Mask(value); got != want {
			t.Errorf("Mask(%q) = %q, want %q", value, got, want)
		}
	}
}

// TestByCode issues a credential and presents what the check code shows: signed by
// the issuer, under the digest of the whole credential, and nothing else.
func TestByCode(t *testing.T) {
	f := newFixture(t)
	issued, err := f.issuer.Issue(f.claims, byCode)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := f.verifier.Verify(issued.ByCode, at)
	if err != nil {
		t.Fatal(err)
	}
	want := []credential.Item{{Name: "姓名", Value: "样**"}, {Name: "证件号码", Value: "E**********1"}, {Name: "许可范围", Value: "样例"}}
	if diff := cmp.Diff(want, shown.ByCode); diff != "" {
		t.Errorf("shown by code (-want +got):\n%s", diff)
	}
	if len(shown.Items) != 0 || shown.Withheld != len(byCode) {
		t.Errorf("%d items shown, %d withheld", len(shown.Items), shown.Withheld)
	}
	whole, err := f.verifier.Verify(issued.Credential, at)
	if err != nil {
		t.Fatal(err)
	}
	if whole.Digest != shown.Digest || len(whole.Items) != len(byCode) || len(whole.ByCode) != 0 {
		t.Errorf("the holder's: %+v", whole)
	}
	if strings.Contains(issued.ByCode, strings.Split(issued.Credential, "~")[1]) {
		t.Error("the check code shows a whole item that is to be masked")
	}
	// Both lists are in one order.
	disclosed := strings.SplitAfter(issued.ByCode, "~")
	disclosed[1], disclosed[2] = disclosed[2], disclosed[1]
	var refusal *credential.RefusalError
	if _, err := f.verifier.Verify(strings.Join(disclosed, ""), at); !errors.As(err, &refusal) || refusal.Rule != credential.RuleOrder {
		t.Errorf("in another order: %v", err)
	}
	for i := range []byte(issued.ByCode) {
		bad := []byte(issued.ByCode)
		bad[i] ^= 1
		if _, err := f.verifier.Verify(string(bad), at); err == nil {
			t.Fatalf("accepted with byte %d changed", i)
		}
	}

	hidden, err := f.issuer.Issue(f.claims, items)
	if err != nil || hidden.ByCode != "" {
		t.Errorf("nothing is to be shown: %q, %v", hidden.ByCode, err)
	}
	if _, err := f.issuer.Issue(f.claims, []credential.Item{{Name: "姓名", Value: "样例甲", ByCode: "some"}}); domain.KindOf(err) != domain.Invalid || !strings.Contains(err.Error(), "items[0].byCode") {
		t.Errorf("another way to show: %v", err)
	}
}

// TestSeal seals and opens, and changes everything that takes part.
func TestSeal(t *testing.T) {
	const ref = prooftest.Ref
	for _, text := range []string{"a~", strings.Repeat("x", credential.SealedBlock), strings.Repeat("x", credential.SealedBlock+1)} {
		sealed, err := credential.Seal(ref, longCode, text)
		if err != nil {
			t.Fatal(err)
		}
		if size := len(sealed) - credential.SealedOverhead; size%credential.SealedBlock != 0 || size >= len(text)+credential.SealedBlock {
			t.Errorf("%d bytes are sealed in %d", len(text), size)
		}
		if got, err := credential.Unseal(ref, longCode, sealed); err != nil || got != text {
			t.Errorf("opened: %d bytes, %v", len(got), err)
		}
		again, err := credential.Seal(ref, longCode, text)
		if err != nil || string(again) == string(sealed) {
			t.Errorf("sealed twice alike, %v", err)
		}
		for i := range sealed {
			bad := []byte(string(sealed))
			bad[i] ^= 1 << (i % 8)
			if _, err := credential.Unseal(ref, longCode, bad); err == nil {
				t.Fatalf("opened with byte %d changed", i)
			}
		}
		for _, n := range []int{0, 11, 27, 28, len(sealed) - 1} {
			if _, err := credential.Unseal(ref, longCode, sealed[:n]); err == nil {
				t.Errorf("opened %d bytes of it", n)
			}
		}
		if _, err := credential.Unseal(strings.Repeat("0", 32), longCode, sealed); err == nil {
			t.Error("opened under another reference")
		}
		if _, err := credential.Unseal(ref, "L"+longCode[1:], sealed); err == nil {
			t.Error("opened with another code")
		}
	}
	if _, err := credential.Seal(ref, prooftest.CheckCode, "a~"); domain.KindOf(err) != domain.Invalid || !strings.Contains(err.Error(), "checkCode") {
		t.Errorf("a code that can be guessed: %v", err)
	}
	if _, err := credential.Seal(ref, longCode, strings.Repeat("x", 4*credential.SealedBlock+1)); domain.KindOf(err) != domain.Invalid || !strings.Contains(err.Error(), "items") {
		t.Errorf("too much: %v", err)
	}
}
