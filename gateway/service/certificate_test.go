package service_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/service"
)

func TestIssue(t *testing.T) {
	w := newWorld(t)
	certificates := w.certificates()
	random := make([]byte, 26)
	for i := range random {
		random[i] = byte(i * 11)
	}
	certificates.Random = bytes.NewReader(random)
	issued, err := certificates.Issue(t.Context(), policeOperator, issueRequest())
	if err != nil {
		t.Fatal(err)
	}
	const ref = "000b16212c37424d58636e79848f9aa5"
	const code = "JV8KW9LXAM" // by hand: 176 mod 32 is 16, the alphabet's J, and so on
	content := issued.Value.Content
	if content.Ref != ref || issued.CheckCode != code {
		t.Errorf("reference %s and check code %s, want %s and %s", content.Ref, issued.CheckCode, ref, code)
	}
	if want := "http://127.0.0.1:8082/v/" + ref + "#" + code; issued.Link != want {
		t.Errorf("link is %s, want %s", issued.Link, want)
	}
	if content.IssuerUSCC != usccs["police"] || issued.Value.Issuer != "police" || !content.IssuedAt.Equal(w.clock.Now()) {
		t.Errorf("content is %+v", content)
	}
	if content.CheckCodeHash != domain.CheckCodeHash(ref, code) {
		t.Error("the check code's hash is not that of the check code")
	}
	if content.HolderRef == issueRequest().HolderSaltedRef || content.HolderRef != domain.HolderCommitment(ref, issueRequest().HolderSaltedRef) {
		t.Error("the holder is not committed to under this reference")
	}
	id, err := domain.ParseCertificateID(content.CertID)
	if err != nil || id.Serial != issueRequest().Serial || id.IssuerCode != usccs["police"] {
		t.Errorf("identifier %s reads as %+v, %v", content.CertID, id, err)
	}
	got, err := certificates.Get(t.Context(), ref)
	if err != nil || got.Position != issued.Position {
		t.Errorf("Get answers %+v, %v", got.Position, err)
	}
	listed, err := certificates.List(t.Context(), index.Filter{Department: "police", State: "valid"}, index.Page{})
	if err != nil || len(listed.Items) != 1 {
		t.Errorf("List answers %d, %v", len(listed.Items), err)
	}
}

// TestIssueRepeated repeats an issue whose answer the caller never saw.
func TestIssueRepeated(t *testing.T) {
	w := newWorld(t)
	first := w.issue(issueRequest())
	_, err := w.certificates().Issue(t.Context(), policeOperator, issueRequest())
	if domain.KindOf(err) != domain.Exists || !strings.Contains(err.Error(), "already issued as "+first.Value.Content.Ref) {
		t.Errorf("Issue of the same serial: %v", err)
	}
}

// TestCheckCodes draws many, to see that each has its shape and none repeats.
func TestCheckCodes(t *testing.T) {
	w := newWorld(t)
	seen := make(map[string]bool)
	for i := range 50 {
		r := issueRequest()
		r.Serial = fmt.Sprintf("20260001%02d", i)
		issued := w.issue(r)
		if len(issued.CheckCode) != 10 || strings.Trim(issued.CheckCode, "23456789ABCDEFGHJKLMNPQRSTUVWXYZ") != "" {
			t.Errorf("check code %q", issued.CheckCode)
		}
		if seen[issued.CheckCode] || seen[issued.Value.Content.Ref] {
			t.Error("a check code or reference repeats")
		}
		seen[issued.CheckCode], seen[issued.Value.Content.Ref] = true, true
	}
}

func TestIssueRefuses(t *testing.T) {
	w := newWorld(t)
	for name, tt := range map[string]struct {
		change func(*service.IssueRequest)
		part   string
	}{
		"holder reference missing":     {func(r *service.IssueRequest) { r.HolderSaltedRef = "" }, "holderSaltedRef"},
		"holder reference is a number": {func(r *service.IssueRequest) { r.HolderSaltedRef = "1234" }, "holderSaltedRef"},
		"holder reference upper case":  {func(r *service.IssueRequest) { r.HolderSaltedRef = strings.Repeat("AB", 32) }, "holderSaltedRef"},
		"serial missing":               {func(r *service.IssueRequest) { r.Serial = "" }, "serial"},
		"type code":                    {func(r *service.IssueRequest) { r.TypeCode = "1" }, "typeCode"},
		"holder kind":                  {func(r *service.IssueRequest) { r.HolderKind = "dog" }, "holderKind"},
		"digest":                       {func(r *service.IssueRequest) { r.ContentDigest = "" }, "contentDigest"},
		"period ends before it begins": {func(r *service.IssueRequest) { r.ValidTo = r.ValidFrom }, "validity"},
	} {
		t.Run(name, func(t *testing.T) {
			r := issueRequest()
			tt.change(&r)
			spy := &submits{Ledger: w.ledger}
			certificates := service.NewCertificates(spy, w.index, "http://x")
			_, err := certificates.Issue(t.Context(), policeOperator, r)
			wantKind(t, err, domain.Invalid, tt.part)
			if len(spy.transactions) != 0 {
				t.Errorf("submitted %q", spy.transactions)
			}
		})
	}
}

// TestIssueOutcomeUnknown checks that link and check code survive: if the
// transaction did commit, nothing else could restore them.
func TestIssueOutcomeUnknown(t *testing.T) {
	w := newWorld(t)
	w.ledger.SetFault(func(op string) (bool, error) {
		if op == "submit certificate:Issue" {
			return true, &ledger.OutcomeUnknownError{Err: context.DeadlineExceeded}
		}
		return true, nil
	})
	issued, err := w.certificates().Issue(t.Context(), policeOperator, issueRequest())
	var unknown *ledger.OutcomeUnknownError
	if !errors.As(err, &unknown) {
		t.Fatalf("error is %v, want an OutcomeUnknownError", err)
	}
	w.indexed()
	ref := issued.Value.Content.Ref
	if _, err := w.certificates().Get(t.Context(), ref); err != nil {
		t.Errorf("the certificate that did commit is not found under the answered reference: %v", err)
	}
	if !strings.HasSuffix(issued.Link, "/v/"+ref+"#"+issued.CheckCode) || issued.CheckCode == "" {
		t.Errorf("link is %q", issued.Link)
	}
}

func TestIssueWithoutRandom(t *testing.T) {
	w := newWorld(t)
	certificates := w.certificates()
	certificates.Random = iotest.ErrReader(errors.New("no entropy"))
	if _, err := certificates.Issue(t.Context(), policeOperator, issueRequest()); err == nil || !strings.Contains(err.Error(), "no entropy") {
		t.Errorf("error is %v", err)
	}
}

func TestRevoke(t *testing.T) {
	w := newWorld(t)
	ref := w.issue(issueRequest()).Value.Content.Ref
	// Another department's reviewer may not.
	market := service.NewCertificates(w.chain.Ledger("market"), w.index, "http://x")
	_, err := market.Revoke(t.Context(), service.Caller{Department: "market", Role: domain.RoleReviewer}, revokeArgs(ref, w.clock.Now()))
	wantKind(t, err, domain.Forbidden, "")
	w.revoke(ref)
	got, err := w.certificates().Get(t.Context(), ref)
	if err != nil || got.Value.Status != domain.CertificateRevoked {
		t.Errorf("Get answers status %s, %v", got.Value.Status, err)
	}
	_, err = w.certificates().Revoke(t.Context(), policeReviewer, revokeArgs(ref, w.clock.Now()))
	wantKind(t, err, domain.WrongState, "is revoked") // a second time
}

// TestIssueOperation checks that one operation issues one certificate, and says
// which when it is asked again: the check code was told once.
func TestIssueOperation(t *testing.T) {
	w := newWorld(t)
	caller := policeOperator
	caller.Operation = grantID(1)
	issued, err := w.certificates().Issue(t.Context(), caller, issueRequest())
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.certificates().Issue(t.Context(), caller, issueRequest())
	wantKind(t, err, domain.Exists, issued.Value.Content.Ref)
	if again.Link != "" || again.CheckCode != "" {
		t.Errorf("a refusal answers the link %q", again.Link)
	}
	behind := service.NewCertificates(w.ledger, departmentsOnly{w.index}, "http://x")
	behind.Clock = w.clock.Now
	_, err = behind.Issue(t.Context(), caller, issueRequest())
	wantKind(t, err, domain.Invalid, "operation "+caller.Operation)
	if _, err := w.catalog("police").Register(t.Context(), service.Caller{Department: "police", Role: domain.RoleOperator, Operation: grantID(2)},
		domain.RegisterCatalogArgs{Content: content()}); err != nil {
		t.Fatal(err)
	}
	caller.Operation = grantID(2) // of another transaction
	_, err = w.certificates().Issue(t.Context(), caller, issueRequest())
	wantKind(t, err, domain.Invalid, "operation "+caller.Operation)
	certificates, err := w.certificates().List(t.Context(), index.Filter{}, index.Page{})
	if err != nil || len(certificates.Items) != 1 {
		t.Errorf("%d certificates, %v, want 1", len(certificates.Items), err)
	}
}

// departmentsOnly is an index that lags behind all but the departments.
type departmentsOnly struct{ index.Index }

func (d departmentsOnly) Get(ctx context.Context, kind domain.RecordKind, id string) (index.Record, error) {
	if kind != domain.KindDepartment {
		return index.Record{}, &domain.Error{Kind: domain.NotFound, Msg: "not indexed yet"}
	}
	return d.Index.Get(ctx, kind, id)
}
