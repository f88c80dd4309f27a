package service_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/outbox"
	"github.com/zhenglian/zhenglian/gateway/service"
)

func TestIssue(t *testing.T) {
	w := newWorld(t)
	certificates := w.certificates()
	random := make([]byte, 48)
	for i := range random[4:] {
		random[4+i] = byte(i * 11)
	}
	copy(random, []byte{0xff, 0xff, 0x01, 0x02}) // the place: mod 131072
	certificates.Random = bytes.NewReader(random)
	issued, err := certificates.Issue(t.Context(), policeOperator, issueRequest())
	if err != nil {
		t.Fatal(err)
	}
	const ref = "000b16212c37424d58636e79848f9aa5"
	const code = "JV8KW9LXAMYBNZCP2DQ3ER4FS5GT" // by hand: 176 mod 32 is 16, the alphabet's J, and so on
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
	if content.StatusIndex != 0x40a0 {
		t.Errorf("place %#x in the status lists", content.StatusIndex)
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
	listed, err := certificates.List(t.Context(), index.Filter{Department: "police", State: "proposed"}, index.Page{})
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

// TestIssueRepeatedUnderWay repeats issues whose first request is still on its way:
// the caller learns of the same operation, and is given no check code of a
// certificate that will not be. Another request under the operation is refused.
func TestIssueRepeatedUnderWay(t *testing.T) {
	w := newWorld(t)
	w.ledger.SetFault(func(op string) (bool, error) {
		return !strings.HasPrefix(op, "endorse "), &ledger.UnavailableError{Err: errors.New("no peer")}
	})
	writes, err := outbox.Open(t.Context(), filepath.Join(t.TempDir(), "outbox.sqlite"), w.ledger, outbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := writes.Close(); err != nil {
			t.Error(err)
		}
	})
	certificates := service.NewCertificates(writes, w.index, "http://x")
	caller := policeOperator
	one := func(r service.IssueRequest) (handout string, err error) {
		caller.Operation = grantID(1)
		issued, err := certificates.Issue(ledger.WithWait(t.Context(), 0), caller, r)
		return issued.CheckCode, err
	}
	many := func(r service.IssueRequest) (handout string, err error) {
		caller.Operation = grantID(2)
		all := batch(3)
		all[1].HolderSaltedRef = r.HolderSaltedRef
		issued, err := certificates.IssueBatch(ledger.WithWait(t.Context(), 0), caller, all)
		for _, item := range issued.Items {
			handout += item.CheckCode
		}
		return handout, err
	}
	another := issueRequest()
	another.HolderSaltedRef = strings.Repeat("ab", 32)
	for name, issue := range map[string]func(service.IssueRequest) (string, error){"one": one, "many": many} {
		var unknown *ledger.OutcomeUnknownError
		if handout, err := issue(issueRequest()); !errors.As(err, &unknown) || handout == "" {
			t.Fatalf("%s: first: %q, %v; want an unknown outcome and a handout", name, handout, err)
		}
		if handout, err := issue(issueRequest()); !errors.As(err, &unknown) || unknown.Operation != caller.Operation || handout != "" {
			t.Errorf("%s: again: %q, %v; want an unknown outcome of operation %s and no handout", name, handout, err, caller.Operation)
		}
		_, err := issue(another)
		if errors.As(err, &unknown) || domain.KindOf(err) != domain.Conflict {
			t.Errorf("%s: another request: %v, want kind %s", name, err, domain.Conflict)
		}
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
		if len(issued.CheckCode) != 28 || strings.Trim(issued.CheckCode, "23456789ABCDEFGHJKLMNPQRSTUVWXYZ") != "" {
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

// TestTwoPersons: what the operator proposes has no effect before the reviewer of
// the same department decides.
func TestTwoPersons(t *testing.T) {
	w := newWorld(t)
	v, certificates := w.verifier(), w.certificates()
	verdict := func(ref string) service.Verdict { return v.Verify(t.Context(), ref).Verdict }
	ref := w.propose(issueRequest()).Value.Content.Ref
	if got := verdict(ref); got != service.NotFound {
		t.Errorf("a proposed certificate is %s to the public", got)
	}
	market := service.NewCertificates(w.chain.Ledger("market"), w.index, "http://x")
	_, err := market.Decide(t.Context(), marketReviewer, approval(ref))
	wantKind(t, err, domain.Forbidden, "")
	_, err = certificates.Decide(t.Context(), policeOperator, approval(ref))
	wantKind(t, err, domain.Forbidden, "certificate:Decide is for role reviewer of the owner")
	if _, err := certificates.Decide(t.Context(), policeReviewer, approval(ref)); err != nil {
		t.Fatal(err)
	}
	if got := verdict(ref); got != service.Valid {
		t.Errorf("after the approval: %s", got)
	}
	_, err = certificates.Propose(t.Context(), policeReviewer, proposal(ref, domain.RevokeCertificate, w.clock.Now()))
	wantKind(t, err, domain.Forbidden, "certificate:Propose is for role operator of the owner")
	proposed, err := certificates.Propose(t.Context(), policeOperator, proposal(ref, domain.RevokeCertificate, w.clock.Now()))
	if err != nil || proposed.Value.Pending == nil {
		t.Fatalf("proposed %+v, %v", proposed.Value.Pending, err)
	}
	if got := verdict(ref); got != service.Valid {
		t.Errorf("a proposed revocation makes it %s", got)
	}
	if _, err := certificates.Decide(t.Context(), policeReviewer, domain.DecideArgs{Ref: ref, Decision: domain.RejectCertificate, Opinion: "证据不足"}); err != nil {
		t.Fatal(err)
	}
	if got := verdict(ref); got != service.Valid {
		t.Errorf("a rejected revocation makes it %s", got)
	}
	w.revoke(ref)
	if got := verdict(ref); got != service.Revoked {
		t.Errorf("an approved revocation makes it %s", got)
	}
	_, err = certificates.Propose(t.Context(), policeOperator, proposal(ref, domain.RevokeCertificate, w.clock.Now()))
	wantKind(t, err, domain.WrongState, "is revoked") // a second time
}

func TestRejectedIssueIsNotFound(t *testing.T) {
	w := newWorld(t)
	ref := w.propose(issueRequest()).Value.Content.Ref
	if _, err := w.certificates().Decide(t.Context(), policeReviewer, domain.DecideArgs{Ref: ref, Decision: domain.RejectCertificate, Opinion: "材料不全"}); err != nil {
		t.Fatal(err)
	}
	got := w.verifier().Verify(t.Context(), ref)
	if got.Verdict != service.NotFound || got.Certificate != nil || got.Issuer != nil {
		t.Errorf("a rejected certificate is %+v to the public", got)
	}
	w.issue(issueRequest()) // its identifier is free again
}

func TestReplace(t *testing.T) {
	w := newWorld(t)
	old := w.issue(issueRequest()).Value.Content
	r := issueRequest()
	r.Serial, r.Replaces = "", old.Ref
	successor := w.issue(r).Value.Content
	id, err := domain.ParseCertificateID(successor.CertID)
	if err != nil || id.Version != "002" || id.Serial != issueRequest().Serial || successor.Replaces != old.Ref {
		t.Errorf("the successor is %+v of %s, %v", id, successor.Replaces, err)
	}
	v := w.verifier()
	got := v.Verify(t.Context(), old.Ref)
	if got.Verdict != service.Superseded || got.Certificate.Successor != successor.Ref {
		t.Errorf("the predecessor is %s by %s, want superseded by %s", got.Verdict, got.Certificate.Successor, successor.Ref)
	}
	if got := v.Verify(t.Context(), successor.Ref); got.Verdict != service.Valid {
		t.Errorf("the successor is %s", got.Verdict)
	}
	for name, change := range map[string]func(*service.IssueRequest){
		"no reference": func(r *service.IssueRequest) { r.Replaces = "x" },
		"unknown":      func(r *service.IssueRequest) { r.Replaces = grantID(7) },
		"of a type":    func(r *service.IssueRequest) { r.Replaces, r.Serial = old.Ref, "2026000009" },
	} {
		r := issueRequest()
		change(&r)
		_, err := w.certificates().Issue(t.Context(), policeOperator, r)
		wantKind(t, err, domain.Invalid, "")
		if err == nil {
			t.Errorf("%s: issued", name)
		}
	}
}

// TestReferencesNameTheirBatch checks that certificates issued together share the first
// digits of their references as far as they can stand in one batch, and no others do.
func TestReferencesNameTheirBatch(t *testing.T) {
	w := newWorld(t)
	certificates := w.certificates()
	requests := batch(domain.MaxBatchRows + 20)
	for i := range 5 {
		requests[2*i].ValidTo = requests[2*i].ValidTo.AddDate(1, 0, 0)
	}
	issued, err := certificates.IssueBatch(t.Context(), policeOperator, requests)
	if err != nil {
		t.Fatal(err)
	}
	sizes, own := map[string]int{}, map[string]bool{}
	for i, item := range issued.Items {
		sizes[domain.BatchOf(item.Ref)]++
		own[item.Ref[domain.BatchPart:]] = true
		longer := i < 10 && i%2 == 0
		if same := domain.BatchOf(item.Ref) == domain.BatchOf(issued.Items[0].Ref); same != longer {
			t.Errorf("certificate %d stands in the first one's batch: %v", i, same)
		}
	}
	if got := slices.Sorted(maps.Values(sizes)); !slices.Equal(got, []int{5, 15, domain.MaxBatchRows}) || len(own) != len(requests) {
		t.Errorf("batches of %v, %d references", got, len(own))
	}
}

func batch(n int) []service.IssueRequest {
	all := make([]service.IssueRequest, n)
	for i := range all {
		all[i] = issueRequest()
		all[i].Serial = fmt.Sprintf("2026B%05d", i)
	}
	return all
}

func TestIssueBatch(t *testing.T) {
	w := newWorld(t)
	certificates := w.certificates()
	before := w.chain.Height()
	issued, err := certificates.IssueBatch(t.Context(), policeOperator, batch(domain.MaxBatch))
	if err != nil {
		t.Fatal(err)
	}
	if got := w.chain.Height() - before; got != 1 || len(issued.Items) != domain.MaxBatch {
		t.Fatalf("%d certificates in %d blocks", len(issued.Items), got)
	}
	var refs []string
	places := make(map[int]bool)
	for i, item := range issued.Items {
		got, err := certificates.Get(t.Context(), item.Ref)
		if err != nil {
			t.Fatal(err)
		}
		c := got.Value.Content
		if c.CertID != item.CertID || c.CheckCodeHash != domain.CheckCodeHash(item.Ref, item.CheckCode) || item.Link != "http://127.0.0.1:8082/v/"+item.Ref+"#"+item.CheckCode || got.Position != issued.Position {
			t.Errorf("certificate %d: %+v of %+v", i, item, c)
		}
		if id, err := domain.ParseCertificateID(c.CertID); err != nil || id.Serial != batch(i + 1)[i].Serial {
			t.Errorf("certificate %d is in the place of %s, %v", i, c.CertID, err)
		}
		if places[c.StatusIndex] || c.StatusIndex >= domain.StatusListLength {
			t.Errorf("certificate %d has place %d", i, c.StatusIndex)
		}
		places[c.StatusIndex] = true
		refs = append(refs, item.Ref)
	}
	decided, err := certificates.DecideBatch(t.Context(), policeReviewer, domain.DecideBatchArgs{Refs: refs, Decision: domain.ApproveCertificate})
	if err != nil || decided.Value.Status != domain.CertificateValid {
		t.Fatalf("decided %s, %v", decided.Value.Status, err)
	}
	if got := w.chain.Height() - before; got != 2 {
		t.Errorf("%d blocks, want 2", got)
	}
	if got := w.verifier().Verify(t.Context(), refs[77]); got.Verdict != service.Valid {
		t.Errorf("%+v", got)
	}
}

// TestIssueBatchNamesWhatIsWrong also checks that nothing is issued.
func TestIssueBatchNamesWhatIsWrong(t *testing.T) {
	w := newWorld(t)
	certificates := w.certificates()
	w.issue(issueRequest())
	before := w.chain.Height()
	for name, tt := range map[string]struct {
		change func([]service.IssueRequest) []service.IssueRequest
		kind   domain.Kind
		part   string
	}{
		"none":     {func([]service.IssueRequest) []service.IssueRequest { return nil }, domain.Invalid, "certificates: must be 1 to 1000"},
		"too many": {func([]service.IssueRequest) []service.IssueRequest { return batch(domain.MaxBatch + 1) }, domain.Invalid, "certificates: must be 1 to 1000"},
		"of the request": {func(all []service.IssueRequest) []service.IssueRequest {
			all[3].HolderSaltedRef = "1234"
			return all
		}, domain.Invalid, "certificates[3]: holderSaltedRef: "},
		"of the content": {func(all []service.IssueRequest) []service.IssueRequest {
			all[2].HolderKind = "dog"
			return all
		}, domain.Invalid, "certificates[2].holderKind: "},
		"of the ledger": {func(all []service.IssueRequest) []service.IssueRequest {
			all[1].Serial = issueRequest().Serial
			return all
		}, domain.Exists, "certificates[1]: certificate id "},
		"not authorised": {func(all []service.IssueRequest) []service.IssueRequest {
			all[4].TypeCode = "11100000000013338W032"
			return all
		}, domain.Invalid, "certificates[4].typeCode: "},
	} {
		t.Run(name, func(t *testing.T) {
			issued, err := certificates.IssueBatch(t.Context(), policeOperator, tt.change(batch(5)))
			wantKind(t, err, tt.kind, tt.part)
			if len(issued.Items) != 0 {
				t.Errorf("a refusal answers %d certificates", len(issued.Items))
			}
		})
	}
	if got := w.chain.Height(); got != before {
		t.Errorf("%d blocks were written", got-before)
	}
}

// takenPlaces is an index in which places of status lists are taken, those of a
// record all or none.
type takenPlaces struct {
	index.Index
	taken func(id string) bool
}

func (p takenPlaces) Get(ctx context.Context, kind domain.RecordKind, id string) (index.Record, error) {
	if kind == domain.KindStatusPlaces && p.taken(id) {
		value, err := domain.Canonical(domain.StatusPlaces{Taken: strings.Repeat("f", domain.StatusPlacesLength/4)})
		return index.Record{Value: value}, err
	}
	return p.Index.Get(ctx, kind, id)
}

// TestPlaces: a full list is followed by the next one, in this process for good.
func TestPlaces(t *testing.T) {
	w := newWorld(t)
	tries := 0
	ix := takenPlaces{w.index, func(id string) bool {
		tries++
		var number int
		_, err := fmt.Sscanf(id, "police~%d", &number)
		return err != nil || number*domain.StatusPlacesLength < 2*domain.StatusListLength
	}}
	certificates := service.NewCertificates(w.ledger, ix, "http://x")
	certificates.Clock = w.clock.Now
	for i, want := range []int{33, 1} { // two lists of 16 draws each, and the one that is free
		r := issueRequest()
		r.Serial = fmt.Sprintf("2026C%05d", i)
		tries = 0
		issued, err := certificates.Issue(t.Context(), policeOperator, r)
		if err != nil {
			t.Fatal(err)
		}
		if got := issued.Value.Content.StatusIndex / domain.StatusListLength; got != 2 || tries != want {
			t.Errorf("certificate %d is in list %d after %d tries, want 2 after %d", i, got, tries, want)
		}
	}
}

// TestPlaceTakenMeanwhile issues through a gateway that has not heard of the
// certificate with the place that it draws.
func TestPlaceTakenMeanwhile(t *testing.T) {
	w := newWorld(t)
	behind := takenPlaces{w.index, func(string) bool { return false }}
	free := &freePlaces{behind}
	random := func() io.Reader { // places 5, 5, then others
		return io.MultiReader(bytes.NewReader([]byte{0, 0, 0, 5}), rand.Reader)
	}
	first := service.NewCertificates(w.ledger, w.index, "http://x")
	first.Clock, first.Random = w.clock.Now, random()
	if _, err := first.Issue(t.Context(), policeOperator, issueRequest()); err != nil {
		t.Fatal(err)
	}
	second := service.NewCertificates(w.ledger, free, "http://x")
	second.Clock, second.Random = w.clock.Now, random()
	r := issueRequest()
	r.Serial = "2026000002"
	issued, err := second.Issue(t.Context(), policeOperator, r)
	if err != nil {
		t.Fatal(err)
	}
	if got := issued.Value.Content.StatusIndex; got == 5 {
		t.Errorf("two certificates have place %d", got)
	}
}

// freePlaces is an index that knows of no place that is taken.
type freePlaces struct{ index.Index }

func (f *freePlaces) Get(ctx context.Context, kind domain.RecordKind, id string) (index.Record, error) {
	if kind == domain.KindStatusPlaces {
		return index.Record{}, &domain.Error{Kind: domain.NotFound, Msg: "not indexed yet"}
	}
	return f.Index.Get(ctx, kind, id)
}

func TestAuthorisations(t *testing.T) {
	w := newWorld(t)
	lead := service.NewCertificates(w.chain.Ledger("bigdata"), w.index, "http://x")
	all, err := lead.Authorisations(t.Context(), index.Filter{Department: "police"}, index.Page{})
	if err != nil || len(all.Items) != 1 || all.Items[0].Value.State != domain.AuthorisationActive {
		t.Fatalf("%+v, %v", all, err)
	}
	_, err = w.certificates().Authorise(t.Context(), policeAdmin, domain.AuthoriseArgs{
		Issuer: "police", TypeCode: "11100000000013338W032", TypeNameZh: "证", TypeNameEn: "Certificate", Basis: "法",
		Period: domain.Period{From: w.clock.Now(), To: w.clock.Now().Add(day)},
	})
	wantKind(t, err, domain.Forbidden, "") // not the lead's
	if _, err := lead.EndAuthorisation(t.Context(), leadAdmin, domain.EndAuthorisationArgs{Issuer: "police", TypeCode: issueRequest().TypeCode, Reason: "职责划转"}); err != nil {
		t.Fatal(err)
	}
	_, err = w.certificates().Issue(t.Context(), policeOperator, issueRequest())
	wantKind(t, err, domain.Invalid, "typeCode: ")
	if ended, err := lead.Authorisations(t.Context(), index.Filter{State: "ended"}, index.Page{}); err != nil || len(ended.Items) != 1 {
		t.Errorf("%d ended, %v", len(ended.Items), err)
	}
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
	soon, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = behind.Issue(soon, caller, issueRequest())
	wantKind(t, err, domain.Exists, "operation "+caller.Operation+" was run before")
	late := service.NewCertificates(w.ledger, &lateIndex{Index: w.index}, "http://x")
	late.Clock = w.clock.Now
	_, err = late.Issue(t.Context(), caller, issueRequest())
	wantKind(t, err, domain.Exists, issued.Value.Content.Ref)

	// Accepted before it was known to be a repetition, it is told so as an operation.
	reused := ledger.Operation{ID: caller.Operation, Transaction: "certificate:Issue", State: ledger.Rejected, Refusal: domain.OperationReused(caller.Operation)}
	o, err := service.NewOperations(pendingWrites{reused}, w.index).Get(t.Context(), policeOperator, reused.ID)
	if err != nil || o.State != ledger.Rejected || o.Refusal.Kind != domain.Exists || !strings.Contains(o.Refusal.Msg, issued.Value.Content.Ref) {
		t.Errorf("repeated, and accepted: %+v, %v, want that %s exists", o, err, issued.Value.Content.Ref)
	}
	reused.ID = grantID(9) // the index does not have it yet
	if o, err := service.NewOperations(pendingWrites{reused}, w.index).Get(t.Context(), policeOperator, reused.ID); err != nil || o.State != ledger.Pending || o.Refusal != nil {
		t.Errorf("repeated a moment ago: %+v, %v, want pending", o, err)
	}
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

// lateIndex knows an operation when it is asked a second time.
type lateIndex struct {
	index.Index
	asked int
}

func (l *lateIndex) Get(ctx context.Context, kind domain.RecordKind, id string) (index.Record, error) {
	if kind == domain.KindOperation {
		if l.asked++; l.asked == 1 {
			return index.Record{}, &domain.Error{Kind: domain.NotFound, Msg: "not indexed yet"}
		}
	}
	return l.Index.Get(ctx, kind, id)
}

// departmentsOnly is an index that lags behind all but the departments.
type departmentsOnly struct{ index.Index }

func (d departmentsOnly) Get(ctx context.Context, kind domain.RecordKind, id string) (index.Record, error) {
	if kind != domain.KindDepartment {
		return index.Record{}, &domain.Error{Kind: domain.NotFound, Msg: "not indexed yet"}
	}
	return d.Index.Get(ctx, kind, id)
}
