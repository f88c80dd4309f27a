package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/protobuf/proto"

	"github.com/zhenglian/zhenglian/proof"
)

// offlineTimes is how often a proof is verified.
const offlineTimes = 1000

// signature is one that a verifier cannot do without.
type signature struct {
	key    *ecdsa.PublicKey
	digest [sha256.Size]byte
	der    []byte
}

// offline verifies a proof of the network without it, and in turn checks the
// signatures in it alone: those of the departments' peers, and those of the
// authorities on the peers' certificates.
func (b *bench) offline(ctx context.Context) ([]figure, error) {
	trust, err := b.trust(ctx)
	if err != nil {
		return nil, err
	}
	res, err := b.net.Gateway(department).Do(ctx, "", "GET", verifyPath(b.refs[0])+"/proof", nil)
	if err != nil {
		return nil, err
	}
	verifier, err := proof.NewVerifier(trust)
	if err != nil {
		return nil, err
	}
	signatures, err := signaturesIn(res.Body, trust)
	if err != nil {
		return nil, err
	}
	var verifying, checking []time.Duration
	for range offlineTimes {
		start := time.Now()
		if v := verifier.Verify(res.Body, proof.Options{At: start}); v.Overall != proof.Valid {
			return nil, fmt.Errorf("the proof is %s: %s", v.Overall, v.Reason)
		}
		between := time.Now()
		for _, s := range signatures {
			if !ecdsa.VerifyASN1(s.key, s.digest[:], s.der) {
				return nil, errors.New("a signature does not hold")
			}
		}
		verifying, checking = append(verifying, between.Sub(start)), append(checking, time.Since(between))
	}
	slices.Sort(verifying)
	slices.Sort(checking)
	// Half of the runs take longer than the median because of what else the machine
	// does, which says nothing of either.
	low := func(sorted []time.Duration) float64 { return milliseconds(quantile(sorted, 0.1)) }
	return []figure{
		{Name: "verify.offline_ms", Value: milliseconds(quantile(verifying, 0.5)), Unit: "ms", Goal: fmt.Sprintf("≤ 2, of %d departments", len(signatures)/2)},
		{Name: "verify.offline_vs_signatures", Ratio: low(verifying) / low(checking), Worst: milliseconds(quantile(verifying, 0.5)) / milliseconds(quantile(checking, 0.5)), Unit: "ratio", Goal: "≤ 1.2; worst: of the medians"},
	}, nil
}

// signaturesIn answers the signatures that a proof rests on.
func signaturesIn(file []byte, trust *proof.Anchors) ([]signature, error) {
	bundle, err := proof.ParseBundle(file)
	if err != nil {
		return nil, err
	}
	response, err := base64.RawURLEncoding.DecodeString(bundle.Read.Response)
	if err != nil {
		return nil, err
	}
	var all []signature
	for _, e := range bundle.Read.Endorsements {
		endorser, err := base64.RawURLEncoding.DecodeString(e.Endorser)
		if err != nil {
			return nil, err
		}
		der, err := base64.RawURLEncoding.DecodeString(e.Signature)
		if err != nil {
			return nil, err
		}
		var identity msp.SerializedIdentity
		if err := proto.Unmarshal(endorser, &identity); err != nil {
			return nil, err
		}
		cert, err := certificateIn(identity.GetIdBytes())
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(trust.Departments, func(d proof.Department) bool { return string(d.MSPID) == identity.GetMspid() })
		if at < 0 {
			return nil, fmt.Errorf("the trust file does not know %s", identity.GetMspid())
		}
		root, err := certificateIn([]byte(trust.Departments[at].CARoots[0]))
		if err != nil {
			return nil, err
		}
		peerKey, ok1 := cert.PublicKey.(*ecdsa.PublicKey)
		rootKey, ok2 := root.PublicKey.(*ecdsa.PublicKey)
		if !ok1 || !ok2 {
			return nil, errors.New("a key is of another kind")
		}
		all = append(all,
			signature{peerKey, sha256.Sum256(slices.Concat(response, endorser)), der},
			signature{rootKey, sha256.Sum256(cert.RawTBSCertificate), cert.Signature})
	}
	return all, nil
}

func certificateIn(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("a certificate is no PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}
