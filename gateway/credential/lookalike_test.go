package credential_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/credential"
	"github.com/zhenglian/zhenglian/gateway/credential/credentialtest"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// namesakes returns a consortium of the same departments, by all their names and codes,
// with keys of its own: what somebody sets up beside a look-alike site.
func namesakes() *prooftest.Consortium {
	c := prooftest.New()
	for i, d := range c.Departments {
		other := prooftest.NewDepartment("false-"+d.Code, d.MSPID, d.NameZh, d.NameEn, d.USCC[:17])
		other.Code = d.Code
		c.Departments[i] = other
	}
	return c
}

// TestLookAlikes judges what look-alike sites hand out. Whatever addresses stand in it,
// the verifier of the trust file that somebody has pinned refuses all that other keys
// signed, and takes what the consortium's keys signed, from wherever it came.
func TestLookAlikes(t *testing.T) {
	f, fake := newFixture(t), namesakes()
	options := proof.Options{At: at}
	genuine := f.consortium.AttestCertificate(f.consortium.Certificate(), domain.CertificateValid).File()
	forged := fake.AttestCertificate(fake.Certificate(), domain.CertificateValid).File()
	for name, tt := range map[string]struct {
		file    []byte
		anchors *proof.Anchors
		want    proof.Overall
	}{
		"ours, by our trust file":     {genuine, f.consortium.Anchors(), proof.Valid},
		"theirs, by our trust file":   {forged, f.consortium.Anchors(), proof.BadProof},
		"theirs, by their trust file": {forged, fake.Anchors(), proof.Valid}, // so it is refused for its keys alone
		"ours, by their trust file":   {genuine, fake.Anchors(), proof.BadProof},
	} {
		if got := proof.Verify(tt.file, tt.anchors, options); got.Overall != tt.want {
			t.Errorf("%s: %q: %s", name, got.Overall, got.Reason)
		}
	}
	if bytes.Contains(genuine, []byte("://")) {
		t.Error("a proof file names an address")
	}

	const ours = "zheng.example"
	theirs, err := credential.NewVerifier(fake.Anchors())
	if err != nil {
		t.Fatal(err)
	}
	text := f.issue(t)
	header, rest, _ := strings.Cut(text, ".")
	payload, rest, _ := strings.Cut(rest, ".")
	readable, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil || !bytes.Contains(readable, []byte("https://"+ours+"/")) {
		t.Fatalf("the credential does not name the issuer's site: %s, %v", readable, err)
	}
	issued := 0
	for _, host := range []string{
		ours, "zheng.example.", "zheng-example.example", "zheng.example.cn", "zheng.example.other.example", "www.zheng.example", "zhenq.example", "zheng.examp1e",
		"zhéng.example", "xn--zhng-bpa.example", "zhеng.example" /* е of another alphabet */, "zheng.example:8443", "zheng.example:443", "zheng.example@other.example",
		"other.example/zheng.example", "other.example?zheng.example", "other.example#zheng.example", `other.example\zheng.example`, "127.0.0.1", "[::1]", "ZHENG.EXAMPLE",
	} {
		claims := f.claims
		claims.Status.Revocation = "https://" + host + "/v1/status-lists/civil/revocation/0"
		claims.Status.Suspension = "https://" + host + "/v1/status-lists/civil/suspension/0"
		if forged, err := credentialtest.NewIssuer(fake, "civil").Issue(claims, items); err == nil {
			issued++
			if _, err := theirs.Verify(forged.Credential, at); err != nil {
				t.Errorf("%s: the site's own verifier refuses what it issues: %v", host, err)
			}
			if _, err := f.verifier.Verify(forged.Credential, at); err == nil {
				t.Errorf("%s: what other keys signed is taken for the department's", host)
			}
		}
		if host == ours {
			continue
		}
		moved := base64.RawURLEncoding.EncodeToString(bytes.ReplaceAll(readable, []byte(ours), []byte(host)))
		if _, err := f.verifier.Verify(header+"."+moved+"."+rest, at); err == nil {
			t.Errorf("%s: the credential is taken with the site's address in it", host)
		}
	}
	if issued < 15 {
		t.Errorf("the site issued %d credentials", issued)
	}
	if _, err := f.verifier.Verify(text, at); err != nil {
		t.Errorf("the credential itself: %v", err)
	}
}
