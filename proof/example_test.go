package proof_test

import (
	"fmt"
	"os"

	"github.com/zhenglian/zhenglian/proof"
)

// A verifier needs two files: the proof and the trust file that it pinned.
func ExampleVerify() {
	trust, err := os.ReadFile("testdata/trust/consortium.json")
	if err != nil {
		fmt.Println(err)
		return
	}
	anchors, err := proof.ParseAnchors(trust)
	if err != nil {
		fmt.Println(err)
		return
	}
	unverified, err := os.ReadFile("testdata/vectors/revoked.zlproof")
	if err != nil {
		fmt.Println(err)
		return
	}
	verdict := proof.Verify(unverified, anchors, proof.Options{})
	fmt.Println(verdict.Overall, "as of", verdict.Statement.AsOf)
	fmt.Println("signed by", verdict.Signers)
	for _, check := range verdict.Checks {
		fmt.Printf("%-9s %s: %s\n", check.Question, or(check.Outcome, "-"), check.Reason)
	}
	// Output:
	// revoked as of 2026-03-02 01:30:00.123 +0000 UTC
	// signed by [bigdata civil market police]
	// integrity pass: one proposal, its answer, nothing else
	// quorum    pass: 4 of 4 departments signed, 3 are required
	// scope     pass: a read of certificate on channel zhenglian, nothing written
	// freshness -: not asked; the statement speaks as of 2026-03-02T01:30:00.123Z
	// status    pass: the certificate is revoked
}

func or(outcome, otherwise proof.Outcome) proof.Outcome {
	if outcome == proof.Unknown {
		return otherwise
	}
	return outcome
}
