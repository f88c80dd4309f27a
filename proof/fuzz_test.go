package proof_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// FuzzVerify checks that no file makes the verifier panic, and that a file that
// it accepts, or merely reads, is the only spelling of what it says.
func FuzzVerify(f *testing.F) {
	files, err := filepath.Glob(filepath.Join(vectorDir, "*.zlproof"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	c := prooftest.New()
	anchors := c.Anchors()
	f.Fuzz(func(t *testing.T, data []byte) {
		v := proof.Verify(data, anchors, proof.Options{At: prooftest.Epoch})
		if strings.ContainsAny(v.Reason, "\r\n") || v.Reason == "" {
			t.Errorf("reason %q is not one line", v.Reason)
		}
		bundle, err := proof.ParseBundle(data)
		if err != nil {
			if domain.KindOf(err) != domain.Invalid {
				t.Errorf("error %v has kind %q", err, domain.KindOf(err))
			}
			if holds(v) {
				t.Errorf("accepted, although it cannot be read: %v", err)
			}
			return
		}
		again, err := proof.Encode(bundle)
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("a second spelling of a bundle was read (%v)", err)
		}
	})
}

// FuzzReadMessages puts hostile bytes behind the JSON and base64 that keep the
// fuzzer from the protobuf readers.
func FuzzReadMessages(f *testing.F) {
	c := prooftest.New()
	anchors := c.Anchors()
	read := validRead(c)
	endorsements := read.Endorsements()
	f.Add(read.ProposalBytes(), read.ResponseBytes(), endorsements[0].Endorser, endorsements[0].Signature)
	f.Add([]byte{0x0a, 0x80, 0x00}, []byte{0x12, 0xff, 0xff, 0xff, 0xff, 0x0f}, []byte{0x0a, 0x00}, []byte{0x30, 0x80})
	want := map[string]bool{string(read.ProposalBytes()) + string(read.ResponseBytes()): true}
	f.Fuzz(func(t *testing.T, proposal, response, endorser, signature []byte) {
		all := append([]proof.RawEndorsement{{Endorser: endorser, Signature: signature}}, endorsements[1:]...)
		file, err := proof.Encode(proof.NewBundle(proposal, response, all))
		if err != nil {
			return // too large
		}
		if v := proof.Verify(file, anchors, proof.Options{}); holds(v) && !want[string(proposal)+string(response)] {
			t.Errorf("accepted a forgery as %s", v.Overall)
		}
	})
}

func FuzzParseAnchors(f *testing.F) {
	files, err := filepath.Glob(filepath.Join(trustDir, "*.json"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		anchors, err := proof.ParseAnchors(data)
		if err != nil {
			if domain.KindOf(err) != domain.Invalid {
				t.Errorf("error %v has kind %q", err, domain.KindOf(err))
			}
			return
		}
		again, err := domain.Canonical(anchors)
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("a second spelling of a trust file was read (%v)", err)
		}
	})
}

func FuzzOpenCheckpoint(f *testing.F) {
	signer, key := logKey(f, "police", testOrigin)
	root := proof.LeafHash(nil)
	signed := signNote(f, checkpointText(testOrigin, 17, root[:]), signer)
	f.Add(signed)
	f.Add([]byte(testOrigin + "\n0\n\n\n— x AAAA\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := proof.OpenCheckpoint(data, testOrigin, key)
		if err == nil && !bytes.Equal(data, signed) {
			t.Errorf("accepted a forgery: %q", data)
		}
	})
}
