package service

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/credential"
	"github.com/zhenglian/zhenglian/proof"
)

// MaxFile is the size of the largest file that [Verifier.CheckFile] reads.
const MaxFile = credential.MaxBytes

// What only a file can turn out to be; the other verdicts are those on a
// certificate.
const (
	BadProof Verdict = "bad_proof" // 不成立: refused
	Recorded Verdict = "recorded"  // 有记录: a proven record of another kind
)

// Checked is what a file proves that somebody was given.
type Checked struct {
	Verdict Verdict
	Reason  string // one line of English; quotes nothing of a file that is refused

	// Of a proof file.
	Checks    []proof.Check
	Signers   []proof.Department
	Statement *domain.Statement // nil unless departments signed it

	// Of a credential.
	Items    []credential.Item // those disclosed, in the order of the face
	Withheld int               // how many more there may be

	Certificate *domain.Certificate // that the file speaks about; nil unless it is one
	Issuer      *proof.Department   // of it
	Now         *Verification       // what this gateway knows of it; nil with Certificate
}

// CheckFile checks a proof file or a credential against the trust anchors of this
// gateway. It keeps nothing of it. A credential says nothing of its certificate's
// status: its verdict is what this gateway knows now.
func (v *Verifier) CheckFile(ctx context.Context, unverifiedFile []byte) Checked {
	if trimmed := bytes.TrimSpace(unverifiedFile); bytes.HasPrefix(trimmed, []byte("ey")) && bytes.ContainsRune(trimmed, '~') {
		return v.checkCredential(ctx, string(trimmed))
	}
	verdict := v.check(unverifiedFile, proof.Options{At: v.clock().UTC()})
	out := Checked{Verdict: Verdict(verdict.Overall), Reason: verdict.Reason, Checks: verdict.Checks, Statement: verdict.Statement}
	if verdict.Overall == proof.CannotCheck {
		out.Verdict = CannotCheck
	}
	for _, code := range verdict.Signers {
		if d := v.department(code); d != nil {
			out.Signers = append(out.Signers, *d)
		}
	}
	if s := verdict.Statement; s != nil && s.Kind == domain.KindCertificate && s.Found {
		var certificate domain.Certificate
		if domain.ParseCanonical([]byte(s.Record), &certificate) == nil { // proof.Verify has read it
			v.about(ctx, &out, &certificate)
		}
	}
	return out
}

// about fills in what the file speaks about.
func (v *Verifier) about(ctx context.Context, out *Checked, certificate *domain.Certificate) {
	now := v.Verify(ctx, certificate.Content.Ref)
	out.Certificate, out.Issuer, out.Now = certificate, v.department(certificate.Issuer), &now
}

func (v *Verifier) department(code domain.DepartmentCode) *proof.Department {
	for i := range v.anchors.Departments {
		if v.anchors.Departments[i].Code == code {
			return &v.anchors.Departments[i]
		}
	}
	return nil
}

// checkCredential checks a credential, and that the ledger holds its digest.
func (v *Verifier) checkCredential(ctx context.Context, unverifiedText string) Checked {
	verifier, err := credential.NewVerifier(v.anchors)
	if err != nil {
		return Checked{Verdict: CannotCheck, Reason: "the trust anchors are unusable"}
	}
	verified, err := verifier.Verify(unverifiedText, time.Time{}) // the ledger says whether it is valid now
	if verified == nil {
		var refusal *credential.RefusalError
		if errors.As(err, &refusal) {
			return Checked{Verdict: BadProof, Reason: "credential refused: " + refusal.Msg}
		}
		return Checked{Verdict: CannotCheck, Reason: "the credential cannot be read"}
	}
	now := v.Verify(ctx, verified.Ref)
	switch {
	case !now.Verdict.Issued():
		return Checked{Verdict: now.Verdict, Reason: "the issuer's signature holds; of its certificate nothing is known now"}
	case now.Certificate.Content.ContentDigest != verified.Digest:
		return Checked{Verdict: BadProof, Reason: "the ledger holds another content under the reference of this credential"}
	}
	out := Checked{Verdict: now.Verdict, Reason: "the issuer's signature holds and the ledger holds the credential's digest", Items: verified.Items, Withheld: verified.Withheld}
	v.about(ctx, &out, now.Certificate)
	return out
}
