package proof_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// recordedDir holds what a real network of four departments signed, with its trust
// file: NAME.zlproof is the proof of a record of kind NAME, certificate-STATUS of a
// certificate with that status, no-certificate of one that there is not.
// access-record.json is a leaf of a department's access log, access-record.tlog-proof its C2SP proof
// and access-record-anchor.zlproof the anchor of the checkpoint in that. In the
// folder revocation is besides the list that Fabric CA wrote when the certificate
// of market's peer was revoked, and what was signed before and after. To replace
// all but that folder, see TestRecord in test/proofdiff.
const recordedDir = "testdata/recorded"

// TestRecordedAccessRecord follows an access record from its bytes to the anchor
// that the departments signed.
func TestRecordedAccessRecord(t *testing.T) {
	anchors, err := proof.ParseAnchors(recordedFile("consortium.json"))
	if err != nil {
		t.Fatal(err)
	}
	head, note, ok := strings.Cut(string(recordedFile("access-record.tlog-proof")), "\n\n")
	lines := strings.Split(head, "\n")
	if !ok || len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" {
		t.Fatalf("no tlog-proof: %s", head)
	}
	var index uint64
	if _, err := fmt.Sscanf(lines[1], "index %d", &index); err != nil {
		t.Fatal(err)
	}
	var path [][]byte
	for _, line := range lines[2:] {
		hash, err := base64.StdEncoding.DecodeString(line)
		if err != nil {
			t.Fatal(err)
		}
		path = append(path, hash)
	}
	v := proof.Verify(recordedFile("access-record-anchor.zlproof"), anchors, proof.Options{})
	if v.Overall != proof.Recorded {
		t.Fatalf("the anchor: %s: %s", v.Overall, v.Reason)
	}
	var anchor domain.Anchor
	if err := domain.ParseCanonical([]byte(v.Statement.Record), &anchor); err != nil || anchor.Checkpoint != note {
		t.Fatalf("the anchor holds another checkpoint than the proof, or %v", err)
	}
	owner := slices.IndexFunc(anchors.Departments, func(d proof.Department) bool { return d.Code == anchor.Owner })
	checkpoint, err := proof.OpenCheckpoint([]byte(note), anchors.Departments[owner].LogOrigin, anchors.Departments[owner].LogKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf := recordedFile("access-record.json")
	if err := proof.VerifyInclusion(proof.LeafHash(leaf), index, checkpoint.Size, checkpoint.Root, path); err != nil {
		t.Error(err)
	}
	leaf[len(leaf)/2] ^= 1
	if err := proof.VerifyInclusion(proof.LeafHash(leaf), index, checkpoint.Size, checkpoint.Root, path); err == nil {
		t.Error("a changed record is in the log")
	}
}

// recordedFile reads a file of the recorded network.
func recordedFile(name string) []byte {
	data, err := os.ReadFile(filepath.Join(recordedDir, name))
	if err != nil {
		panic(err)
	}
	return data
}

// recordedProof returns the bytes of a recorded proof.
func recordedProof(name string) func([]byte) []byte {
	return func([]byte) []byte { return recordedFile(name + ".zlproof") }
}

// recordedChange returns the bytes of a recorded proof after a change.
func recordedChange(name string, change func(*proof.Bundle)) func([]byte) []byte {
	return func([]byte) []byte {
		var bundle proof.Bundle
		if err := json.Unmarshal(recordedFile(name+".zlproof"), &bundle); err != nil {
			panic(err)
		}
		change(&bundle)
		data, err := proof.Encode(bundle)
		if err != nil {
			panic(err)
		}
		return data
	}
}

// flip changes one bit of what base64url text holds.
func flip(text *string, at int) {
	raw, err := base64.RawURLEncoding.DecodeString(*text)
	if err != nil {
		panic(err)
	}
	raw[at] ^= 1
	*text = base64.RawURLEncoding.EncodeToString(raw)
}

// withRecordedCRL makes the anchors those of the network with the revocation, and
// gives market the list of its authority.
func withRecordedCRL(_ *prooftest.Consortium, a *proof.Anchors) {
	*a = proof.Anchors{}
	if err := json.Unmarshal(recordedFile("revocation/consortium.json"), a); err != nil {
		panic(err)
	}
	i := slices.IndexFunc(a.Departments, func(d proof.Department) bool { return d.Code == "market" })
	a.Departments[i].CRLs = []string{string(recordedFile("revocation/crl.pem"))}
}

// recordedPositive are the recorded proofs.
func recordedPositive() []recipe {
	files, err := filepath.Glob(filepath.Join(recordedDir, "*.zlproof"))
	if err != nil || len(files) < 9 {
		panic(fmt.Sprint("recorded proofs are missing: ", files, err))
	}
	var out []recipe
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".zlproof")
		r := recipe{name: "recorded-" + name, comment: "signed by a real network: " + strings.ReplaceAll(name, "-", " "), expect: "recorded", recorded: true, file: recordedProof(name)}
		if status, ok := strings.CutPrefix(name, "certificate-"); ok {
			r.expect = status
		} else if name == "no-certificate" {
			r.expect = "not_found"
		}
		out = append(out, r)
	}
	return append(out, recipe{
		name: "recorded-signer-revoked-since", comment: "signed before Fabric CA revoked one of the signers", expect: "recorded",
		file: recordedProof("revocation/before"), trust: withRecordedCRL,
	})
}

var recordedNegative = []recipe{
	{
		name: "recorded-revoked-signer", comment: "signed after Fabric CA had revoked one of the signers", expect: "bad_proof", question: proof.Quorum,
		file: recordedProof("revocation/after"), trust: withRecordedCRL,
	},
	{
		name: "recorded-other-consortium", comment: "a real network's proof under another consortium's anchors", expect: "bad_proof", question: proof.Quorum,
		file: recordedProof("department"),
	},
	{
		name: "recorded-flipped-record", comment: "one bit of a grant's record", expect: "bad_proof", question: proof.Quorum,
		recorded: true, file: recordedChange("grant", func(b *proof.Bundle) {
			flip(&b.Read.Response, len(b.Read.Response)/2)
		}),
	},
	{
		name: "recorded-flipped-certificate", comment: "one bit of a signer's certificate", expect: "bad_proof", question: proof.Quorum,
		recorded: true, file: recordedChange("anchor", func(b *proof.Bundle) {
			flip(&b.Read.Endorsements[1].Endorser, len(b.Read.Endorsements[1].Endorser)/2)
		}),
	},
	{
		name: "recorded-two-signers", comment: "two of four signatures", expect: "bad_proof", question: proof.Quorum,
		recorded: true, file: recordedChange("calendar", func(b *proof.Bundle) {
			b.Read.Endorsements = b.Read.Endorsements[:2]
		}),
	},
	{
		name: "recorded-signatures-of-another", comment: "the signatures of another proof", expect: "bad_proof", question: proof.Quorum,
		recorded: true, file: recordedChange("department", func(b *proof.Bundle) {
			var other proof.Bundle
			if err := json.Unmarshal(recordedFile("rule.zlproof"), &other); err != nil {
				panic(err)
			}
			b.Read.Endorsements = other.Read.Endorsements
		}),
	},
	{
		name: "recorded-other-question", comment: "the answer to one question under another", expect: "bad_proof", question: proof.Integrity,
		recorded: true, file: recordedChange("request", func(b *proof.Bundle) {
			var other proof.Bundle
			if err := json.Unmarshal(recordedFile("log.zlproof"), &other); err != nil {
				panic(err)
			}
			b.Read.Proposal = other.Read.Proposal
		}),
	},
	{
		name: "recorded-cut", comment: "a real network's proof without its last byte", expect: "bad_proof", question: proof.Integrity,
		recorded: true, file: func([]byte) []byte { data := recordedFile("log.zlproof"); return data[:len(data)-1] },
	},
}
