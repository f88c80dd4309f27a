package service_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/credential"
)

// TestSealed follows what the check code shows from the issue on: before the
// reviewer's approval and of anything else the answer looks the same and no code
// opens it.
func TestSealed(t *testing.T) {
	w, certificates, store, _ := issuingWorld(t)
	issued, err := certificates.Issue(t.Context(), policeOperator, withItems())
	if err != nil {
		t.Fatal(err)
	}
	ref, code := issued.Value.Content.Ref, issued.CheckCode
	if len(code) != 28 || !strings.HasSuffix(issued.Link, "/v/"+ref+"#"+code) {
		t.Errorf("check code of %d characters", len(code))
	}
	sealed := func(ref string) []byte {
		t.Helper()
		got, err := certificates.Sealed(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		if want := credential.SealedBlock + credential.SealedOverhead; len(got) != want {
			t.Errorf("%d bytes, want %d whatever is sealed", len(got), want)
		}
		return got
	}
	closed := func(why, ref string) {
		t.Helper()
		got := sealed(ref)
		if _, err := credential.Unseal(ref, code, got); err == nil {
			t.Errorf("%s: it opens", why)
		}
		if string(got) != string(sealed(ref)) {
			t.Errorf("%s: asked twice it answers otherwise, which what is sealed does not", why)
		}
	}
	closed("not approved yet", ref)
	closed("unknown", strings.Repeat("0", 32))
	if _, err := certificates.Decide(t.Context(), policeReviewer, approval(ref)); err != nil {
		t.Fatal(err)
	}
	open := func() *credential.Verified {
		t.Helper()
		text, err := credential.Unseal(ref, code, sealed(ref))
		if err != nil {
			t.Fatal(err)
		}
		shown, err := certificates.Issuing.Reader.Verify(text, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		return shown
	}
	shown := open()
	if diff := cmp.Diff([]credential.Item{{Name: "姓名", Value: "张*"}}, shown.ByCode); diff != "" || shown.Digest != issued.Value.Content.ContentDigest {
		t.Errorf("shown of digest %s (-want +got):\n%s", shown.Digest, diff)
	}
	w.revoke(ref) // the reader must still see whose it was
	open()
	if err := store.Delete(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	closed("forgotten", ref)
	if _, err := certificates.Sealed(t.Context(), "x"); domain.KindOf(err) != domain.Invalid {
		t.Errorf("no reference: %v", err)
	}
	certificates.Issuing = nil
	closed("no issuing key here", ref)
	if _, err := certificates.SignStatusList("police", []byte("{}")); domain.KindOf(err) != domain.NotFound {
		t.Errorf("signed without a key: %v", err)
	}
}
