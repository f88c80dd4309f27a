package proof_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"slices"
	"testing"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// BenchmarkVerify is to be read beside BenchmarkSignatures, below which no
// verifier can go.
func BenchmarkVerify(b *testing.B) {
	c := prooftest.New()
	anchors := c.Anchors()
	file := c.AttestCertificate(c.Certificate(), domain.CertificateValid).File()
	b.ReportAllocs()
	for b.Loop() {
		if v := proof.Verify(file, anchors, proof.Options{}); v.Overall != proof.Valid {
			b.Fatal(v.Reason)
		}
	}
	b.ReportMetric(float64(len(file)), "bytes")
}

// BenchmarkSignatures checks what a bundle of four departments holds: four
// endorsements and four certificates.
func BenchmarkSignatures(b *testing.B) {
	c := prooftest.New()
	read := c.AttestCertificate(c.Certificate(), domain.CertificateValid)
	type signed struct {
		key       *ecdsa.PublicKey
		digest    [32]byte
		signature []byte
	}
	var all []signed
	response := read.ResponseBytes()
	for i, e := range read.Endorsements() {
		peer := read.Signers[i]
		authority := c.Departments[i].Authority
		if authority.MSPID != peer.MSPID {
			b.Fatal("signers and departments are not in the same order")
		}
		all = append(all,
			signed{&peer.Key.PublicKey, sha256.Sum256(slices.Concat(response, e.Endorser)), e.Signature},
			signed{&authority.Key.PublicKey, sha256.Sum256(peer.Cert.RawTBSCertificate), peer.Cert.Signature},
		)
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, s := range all {
			if !ecdsa.VerifyASN1(s.key, s.digest[:], s.signature) {
				b.Fatal("a signature does not hold")
			}
		}
	}
}
