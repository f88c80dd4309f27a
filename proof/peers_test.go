package proof_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// TestVerifierJudgesKnownPeersAnew checks that a verifier which has read the
// signers' certificates once believes them no more than one that has not: it
// reaches the same verdict on changed files and under a policy, and goes on
// accepting the file as it was.
func TestVerifierJudgesKnownPeersAnew(t *testing.T) {
	c := prooftest.New()
	file := c.AttestCertificate(c.Certificate(), domain.CertificateValid).File()
	known, err := proof.NewVerifier(c.Anchors())
	if err != nil {
		t.Fatal(err)
	}
	tell := func(v proof.Verdict) string { return fmt.Sprintln(v.Overall, v.Reason, v.Checks, v.Signers) }
	accepted := tell(known.Verify(file, proof.Options{}))
	for i := 0; i < len(file); i += 37 {
		changed := bytes.Clone(file)
		changed[i] ^= 1
		fresh, err := proof.NewVerifier(c.Anchors())
		if err != nil {
			t.Fatal(err)
		}
		got := known.Verify(changed, proof.Options{})
		if want := fresh.Verify(changed, proof.Options{}); tell(got) != tell(want) || got.Overall == proof.Valid {
			t.Fatalf("byte %d: %s, and one that knows no peer says %s", i, tell(got), tell(want))
		}
	}
	for _, opts := range []proof.Options{{At: time.Now().AddDate(50, 0, 0)}, {Nonce: "00"}, {Policy: proof.Policy{Departments: []domain.DepartmentCode{"nobody"}}}} {
		if got, want := known.Verify(file, opts), proof.Verify(file, c.Anchors(), opts); tell(got) != tell(want) || got.Overall == proof.Valid {
			t.Errorf("%+v: %s, want %s", opts, tell(got), tell(want))
		}
	}
	if again := tell(known.Verify(file, proof.Options{})); again != accepted {
		t.Errorf("at last %s, at first %s", again, accepted)
	}
}
