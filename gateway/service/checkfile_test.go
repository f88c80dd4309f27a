package service_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/credential"
	"github.com/zhenglian/zhenglian/gateway/credential/credentialtest"
	"github.com/zhenglian/zhenglian/gateway/print"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

func TestCheckProofFile(t *testing.T) {
	w := newWorld(t)
	v := w.verifier()
	ref := w.issue(issueRequest()).Value.Content.Ref
	valid, _, err := v.Proof(t.Context(), string(domain.KindCertificate), ref)
	if err != nil {
		t.Fatal(err)
	}
	got := v.CheckFile(t.Context(), valid)
	if got.Verdict != service.Valid || len(got.Signers) < 3 || got.Statement == nil || got.Certificate.Content.Ref != ref ||
		got.Issuer.Code != "police" || got.Now == nil || got.Now.Verdict != service.Valid || len(got.Checks) != 5 {
		t.Errorf("%+v", got)
	}

	w.revoke(ref) // the file goes on to say what it says; now is said besides
	if got := v.CheckFile(t.Context(), valid); got.Verdict != service.Valid || got.Now.Verdict != service.Revoked {
		t.Errorf("%s, now %+v", got.Verdict, got.Now)
	}
	department, _, err := v.Proof(t.Context(), string(domain.KindDepartment), "police")
	if err != nil {
		t.Fatal(err)
	}
	if got := v.CheckFile(t.Context(), department); got.Verdict != service.Recorded || got.Certificate != nil || got.Now != nil {
		t.Errorf("%+v", got)
	}
	w.clock.Advance(25 * time.Hour)
	if got := v.CheckFile(t.Context(), valid); got.Verdict != service.CannotCheck || got.Reason == "" {
		t.Errorf("a proof of yesterday is %+v", got)
	}
	w.clock.Advance(-25 * time.Hour)

	for name, file := range map[string][]byte{
		"empty": nil, "text": []byte("hello"), "changed": bytes.Replace(valid, []byte(`"signature":"`), []byte(`"signature":"A`), 1),
		"large": bytes.Repeat([]byte("x"), service.MaxFile+1), "like a credential": []byte("ey~"),
	} {
		if got := v.CheckFile(t.Context(), file); got.Verdict != service.BadProof || got.Statement != nil || got.Certificate != nil || got.Reason == "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestFreshProof asks with a nonce: the departments sign anew each time.
func TestFreshProof(t *testing.T) {
	w := newWorld(t)
	v := w.verifier()
	ref := w.issue(issueRequest()).Value.Content.Ref
	for _, nonce := range []string{strings.Repeat("0a", 16), strings.Repeat("0b", 16)} {
		bundle, verdict, err := v.FreshProof(t.Context(), string(domain.KindCertificate), ref, nonce)
		if err != nil || verdict.Overall != proof.Valid || verdict.Statement.Nonce != nonce {
			t.Fatalf("%+v, %v", verdict, err)
		}
		if got := proof.Verify(bundle, w.anchors, proof.Options{At: w.clock.Now(), Nonce: nonce}); got.Overall != proof.Valid {
			t.Errorf("the bundle is %q: %s", got.Overall, got.Reason)
		}
	}
	for _, nonce := range []string{"", "0a", strings.Repeat("0A", 16)} {
		_, _, err := v.FreshProof(t.Context(), string(domain.KindCertificate), ref, nonce)
		wantKind(t, err, domain.Invalid, "nonce")
	}
}

// issuingWorld is a world whose anchors are those of a consortium with issuing keys,
// and its use cases with the police's.
func issuingWorld(t *testing.T) (*world, *service.Certificates, *credentialtest.Store, *service.Verifier) {
	t.Helper()
	w := newWorld(t)
	consortium := prooftest.New()
	for _, d := range consortium.Departments {
		d.USCC = usccs[d.Code]
	}
	anchors := consortium.Anchors()
	reader, err := credential.NewVerifier(anchors)
	if err != nil {
		t.Fatal(err)
	}
	store := new(credentialtest.Store)
	certificates := w.certificates()
	certificates.Issuing = &service.Issuing{
		Issuer: credentialtest.NewIssuer(consortium, "police"), Store: store, Reader: reader, Prove: w.verifier().Proof,
	}
	return w, certificates, store, service.NewVerification(w.ledger, w.index, w.cache, anchors, w.clock.Now, w.clock.Now)
}

func withItems() service.IssueRequest {
	r := issueRequest()
	r.ContentDigest = ""
	r.Items = []credential.Item{{Name: "姓名", Value: "张三", ByCode: credential.Masked}, {Name: "居住地址", Value: "某市某区某路1号"}}
	return r
}

func TestIssueCredential(t *testing.T) {
	w, certificates, store, v := issuingWorld(t)
	issued, err := certificates.Issue(t.Context(), policeOperator, withItems())
	if err != nil {
		t.Fatal(err)
	}
	content := issued.Value.Content
	digest, err := credential.Digest(issued.Credential)
	if err != nil || digest != content.ContentDigest {
		t.Errorf("the ledger holds %s, the credential's digest is %s, %v", content.ContentDigest, digest, err)
	}
	verified, err := certificates.Issuing.Reader.Verify(issued.Credential, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	lists := "http://127.0.0.1:8082/v1/status-lists/police/"
	if s := verified.Status; s.Index != content.StatusIndex%domain.StatusListLength || s.Revocation != lists+"revocation/0" || s.Suspension != lists+"suspension/0" {
		t.Errorf("status %+v of place %d", s, content.StatusIndex)
	}
	kept, err := store.Get(t.Context(), content.Ref)
	if err != nil || kept.Credential != issued.Credential || kept.CheckCode != issued.CheckCode {
		t.Errorf("kept %+v, %v", kept, err)
	}

	// It says nothing of itself that the ledger has not confirmed.
	if got := v.CheckFile(t.Context(), []byte(issued.Credential)); got.Verdict != service.NotFound || len(got.Items) != 0 {
		t.Errorf("the credential of a proposed certificate is %+v", got)
	}
	if _, err := certificates.Decide(t.Context(), policeReviewer, approval(content.Ref)); err != nil {
		t.Fatal(err)
	}
	one, err := credential.Present(issued.Credential, []string{"姓名"})
	if err != nil {
		t.Fatal(err)
	}
	got := v.CheckFile(t.Context(), []byte(one+"\n"))
	if got.Verdict != service.Valid || len(got.Items) != 1 || got.Items[0].Value != "张三" || got.Withheld != 1 || got.Certificate == nil {
		t.Errorf("%+v", got)
	}
	w.revoke(content.Ref)
	if got := v.CheckFile(t.Context(), []byte(one)); got.Verdict != service.Revoked {
		t.Errorf("the credential of a revoked certificate is %+v", got)
	}
	if got := v.CheckFile(t.Context(), []byte(strings.Replace(one, "~", "A~", 1))); got.Verdict != service.BadProof || len(got.Items) != 0 || got.Certificate != nil {
		t.Errorf("a changed credential is %+v", got)
	}
}

// TestCredentialIsForgottenWithItsRefusal: what the ledger refuses is kept nowhere.
func TestCredentialIsForgottenWithItsRefusal(t *testing.T) {
	_, certificates, store, _ := issuingWorld(t)
	r := withItems()
	r.TypeCode = "11100000000013338W032" // not authorised
	_, err := certificates.Issue(t.Context(), policeOperator, r)
	wantKind(t, err, domain.Invalid, "typeCode")
	requests := []service.IssueRequest{withItems(), withItems()}
	_, err = certificates.IssueBatch(t.Context(), policeOperator, requests) // one serial twice
	wantKind(t, err, domain.Invalid, "certificates[1].certId")
	if store.Len() != 0 {
		t.Errorf("%d credentials are kept of certificates that were refused", store.Len())
	}
	requests[1].Serial = "2026000077"
	issued, err := certificates.IssueBatch(t.Context(), policeOperator, requests)
	if err != nil || store.Len() != 2 || issued.Items[1].Credential == "" {
		t.Errorf("%d kept, %v", store.Len(), err)
	}
}

func TestItemsRefused(t *testing.T) {
	w, certificates, _, _ := issuingWorld(t)
	both := withItems()
	both.ContentDigest = strings.Repeat("b", 64)
	_, err := certificates.Issue(t.Context(), policeOperator, both)
	wantKind(t, err, domain.Invalid, "contentDigest")
	twice := withItems()
	twice.Items = append(twice.Items, twice.Items[0])
	_, err = certificates.Issue(t.Context(), policeOperator, twice)
	wantKind(t, err, domain.Invalid, "items[2].name")
	_, err = w.certificates().Issue(t.Context(), policeOperator, withItems())
	wantKind(t, err, domain.Invalid, "no issuing key")
}

// printer keeps what it was given to print.
type printer struct {
	got print.Certificate
	err error
}

func (p *printer) PDF(c print.Certificate) ([]byte, error) {
	p.got = c
	return []byte("%PDF-"), p.err
}

func TestPrint(t *testing.T) {
	w, certificates, store, _ := issuingWorld(t)
	paper := new(printer)
	certificates.Issuing.Printer = paper
	issued, err := certificates.Issue(t.Context(), policeOperator, withItems())
	if err != nil {
		t.Fatal(err)
	}
	ref := issued.Value.Content.Ref
	_, err = certificates.Print(t.Context(), policeOperator, ref)
	wantKind(t, err, domain.WrongState, "is proposed; ")
	if _, err := certificates.Decide(t.Context(), policeReviewer, approval(ref)); err != nil {
		t.Fatal(err)
	}
	data, err := certificates.Print(t.Context(), policeOperator, ref)
	if err != nil || string(data) != "%PDF-" {
		t.Fatalf("%q, %v", data, err)
	}
	c := paper.got
	if c.Link != issued.Link || c.CheckCode != issued.CheckCode || len(c.Items) != 2 || c.Items[1].Value != "某市某区某路1号" || c.IssuerZh != "部门police" ||
		c.CertID != issued.Value.Content.CertID || c.Ref != ref || !c.PrintedAt.Equal(w.clock.Now()) {
		t.Errorf("printed %+v", c)
	}
	if v := proof.Verify(c.Proof, w.anchors, proof.Options{At: w.clock.Now()}); v.Overall != proof.Valid || v.Statement.ID != ref {
		t.Errorf("the proof that is attached is %q: %s", v.Overall, v.Reason)
	}

	for name, tt := range map[string]struct {
		caller service.Caller
		ref    string
		kind   domain.Kind
	}{
		"reviewer":           {policeReviewer, ref, domain.Forbidden},
		"auditor":            {policeAuditor, ref, domain.Forbidden},
		"another department": {civilOperator, ref, domain.Forbidden},
		"unknown":            {policeOperator, grantID(3), domain.NotFound},
		"issued without items": {policeOperator, func() string {
			r := issueRequest()
			r.Serial = "2026000055"
			return w.issue(r).Value.Content.Ref
		}(), domain.NotFound},
	} {
		_, err := certificates.Print(t.Context(), tt.caller, tt.ref)
		if domain.KindOf(err) != tt.kind {
			t.Errorf("%s: %v, want %s", name, err, tt.kind)
		}
	}
	if _, err = w.certificates().Print(t.Context(), policeOperator, ref); domain.KindOf(err) != domain.NotFound {
		t.Errorf("without an issuing key: %v", err)
	}
	paper.err = print.ErrNoFont
	_, err = certificates.Print(t.Context(), policeOperator, ref)
	wantKind(t, err, domain.WrongState, "font")
	paper.err = nil

	kept, err := store.Get(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	other, err := certificates.Issue(t.Context(), policeOperator, func() service.IssueRequest { r := withItems(); r.Serial = "2026000056"; return r }())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"another certificate's": other.Credential, "changed": strings.Replace(kept.Credential, "~", "A~", 1)} {
		if err := store.Delete(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		if err := store.Put(t.Context(), credential.Record{Ref: ref, Credential: text, CheckCode: kept.CheckCode}); err != nil {
			t.Fatal(err)
		}
		if _, err := certificates.Print(t.Context(), policeOperator, ref); err == nil || domain.KindOf(err) != "" {
			t.Errorf("%s credential in the store: %v, want a fault", name, err)
		}
	}
	w.revoke(ref)
	_, err = certificates.Print(t.Context(), policeOperator, ref)
	wantKind(t, err, domain.WrongState, "is revoked; ")
}
