package chaincode_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/chaincode/chaincodetest"
	"github.com/zhenglian/zhenglian/domain"
)

const (
	typeCode = "11100000MB0143028R001"
	typeZh   = "营业执照"
	typeEn   = "Business Licence"
)

// What follows are the sample certificates of police and the steps of their life.

func authorisation() domain.AuthoriseArgs {
	return domain.AuthoriseArgs{
		Issuer: "police", TypeCode: typeCode, TypeNameZh: typeZh, TypeNameEn: typeEn, Basis: "市场主体登记管理条例",
		Period: domain.Period{From: noon.AddDate(-1, 0, 0), To: noon.AddDate(5, 0, 0)},
	}
}

func certificateContent(testing.TB) domain.CertificateContent {
	return domain.CertificateContent{
		Ref: id, CertID: certID, TypeCode: typeCode, TypeNameZh: typeZh, TypeNameEn: typeEn,
		IssuerUSCC: departments[1].USCC, HolderKind: domain.HolderOrganisation, HolderRef: domain.HolderCommitment(id, "salted"),
		IssuedAt: noon.Add(-time.Hour), Validity: domain.Period{From: noon.Add(-time.Hour), To: noon.AddDate(1, 0, 0)},
		ContentDigest: domain.Digest(nil), CheckCodeHash: domain.CheckCodeHash(id, "2345678ABC"), StatusIndex: 17,
	}
}

// certificateContents are n contents of different certificates, none of them
// certificateContent.
func certificateContents(t testing.TB, n int) []domain.CertificateContent {
	t.Helper()
	var list []domain.CertificateContent
	for i := range n {
		c := certificateContent(t)
		c.Ref, c.StatusIndex, c.CertID = fmt.Sprintf("%012x%020x", i/domain.MaxBatchRows, 1000+i), 1000+i, composed(t, fmt.Sprintf("20270%03d", i), "001")
		list = append(list, c)
	}
	return list
}

func composed(t testing.TB, serial, version string) string {
	t.Helper()
	id, err := domain.CertificateID{TypeCode: typeCode, IssuerCode: departments[1].USCC, Serial: serial, Version: version}.Compose()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// successor is the content that replaces certificateContent.
func successor(t testing.TB) domain.CertificateContent {
	c := certificateContent(t)
	c.Ref, c.CertID, c.Replaces, c.StatusIndex = otherID, composed(t, "20260001", "002"), id, 18
	return c
}

func refsOf(contents []domain.CertificateContent) []string {
	var refs []string
	for _, c := range contents {
		refs = append(refs, c.Ref)
	}
	return refs
}

func proposal(event domain.StatusEvent, effective time.Time) domain.ProposeArgs {
	return domain.ProposeArgs{Ref: id, Event: event, Act: domain.StatusAct{
		DocumentNo: "撤决〔2026〕1号", LegalBasis: "行政许可法第六十九条", ReasonCode: "issued_wrongly", EffectiveAt: effective.Truncate(time.Millisecond),
	}}
}

func approvalOf(ref string) domain.DecideArgs {
	return domain.DecideArgs{Ref: ref, Decision: domain.ApproveCertificate}
}

func rejectionOf(ref string) domain.DecideArgs {
	return domain.DecideArgs{Ref: ref, Decision: domain.RejectCertificate, Opinion: "材料不全"}
}

// now is the time of the last proposal.
func (w *world) now() time.Time {
	return noon.Add(w.passed + time.Duration(w.proposals)*time.Second)
}

func (w *world) authorised() {
	w.Helper()
	w.must("bigdata admin", "certificate:Authorise", authorisation())
}

func (w *world) proposed() {
	w.Helper()
	w.authorised()
	w.must("police operator", "certificate:Issue", domain.IssueArgs{Content: certificateContent(w.TB)})
}

func (w *world) issued() {
	w.Helper()
	w.proposed()
	w.must("police reviewer", "certificate:Decide", approvalOf(id))
}

func (w *world) proposedSuccessor() {
	w.Helper()
	w.issued()
	w.must("police operator", "certificate:Issue", domain.IssueArgs{Content: successor(w.TB)})
}

// change proposes and approves a change of the sample certificate.
func (w *world) change(event domain.StatusEvent) {
	w.Helper()
	w.must("police operator", "certificate:Propose", proposal(event, w.now()))
	w.must("police reviewer", "certificate:Decide", approvalOf(id))
}

func certificateCases() []transactionCase {
	issue := func(w *world) any { return domain.IssueArgs{Content: certificateContent(w.TB)} }
	batch := func(w *world) any { return domain.IssueBatchArgs{Contents: certificateContents(w.TB, 3)} }
	propose := func(w *world) any { return proposal(domain.SuspendCertificate, w.now()) }
	first := fmt.Sprintf("%012x", 0)
	created, decided := createdBatch(first), []string{"put certs~" + first}
	for i := range 3 {
		certID, err := domain.CertificateID{TypeCode: typeCode, IssuerCode: departments[1].USCC, Serial: fmt.Sprintf("20270%03d", i), Version: "001"}.Compose()
		if err != nil {
			panic(err)
		}
		created = append(created, "put "+keyOf(certID))
	}
	created = append(created, "create certbit~police~15 by police+1")
	key := "issuer~police~" + typeCode
	notLead := []string{"police admin", "bigdata operator", "bigdata reviewer", "bigdata gateway"}
	others := []string{"civil operator", "bigdata operator", "police reviewer", "police admin", "police gateway"}
	deciders := []string{"civil reviewer", "bigdata reviewer", "police operator", "police admin"}
	return []transactionCase{
		{"certificate:Authorise", nil, always(authorisation()), "bigdata admin", notLead, []string{"put " + key}, domain.Exists},
		{
			"certificate:EndAuthorisation", (*world).authorised,
			always(domain.EndAuthorisationArgs{Issuer: "police", TypeCode: typeCode, Reason: "职责划转"}), "bigdata admin", notLead,
			[]string{"put " + key}, domain.WrongState,
		},
		{
			"certificate:GetAuthorisation", (*world).authorised,
			always(domain.AuthorisationArgs{Issuer: "police", TypeCode: typeCode}), "civil auditor", nil, nil, "",
		},
		{
			"certificate:Issue", (*world).authorised, issue, "police operator", []string{"police reviewer", "police admin", "police gateway"},
			append(createdBatch(domain.BatchOf(id)), "put "+keyOf(certID), "create certbit~police~0 by police+1"), domain.Exists,
		},
		{
			"certificate:IssueBatch", (*world).authorised, batch, "police operator", []string{"police reviewer", "police admin", "police gateway"},
			created, domain.Exists,
		},
		{"certificate:Propose", (*world).issued, propose, "police operator", others, []string{statusOf(id)}, domain.Exists},
		{
			"certificate:Decide", (*world).proposedSuccessor, always(approvalOf(otherID)), "police reviewer", deciders,
			[]string{statusOf(otherID), statusOf(id)}, domain.WrongState,
		},
		{
			"certificate:DecideBatch",
			func(w *world) {
				w.authorised()
				w.must("police operator", "certificate:IssueBatch", batch(w))
			},
			func(w *world) any {
				return domain.DecideBatchArgs{Refs: refsOf(certificateContents(w.TB, 3)), Decision: domain.ApproveCertificate}
			},
			"police reviewer", deciders, decided, domain.WrongState,
		},
		{"certificate:Get", (*world).issued, always(domain.RefArgs{Ref: id}), "civil gateway", nil, nil, ""},
	}
}

// keyOf is the key under which an identifier is taken.
func keyOf(certID string) string {
	return domain.KeyOf(domain.KindCertificateID, domain.IssuedIDKey(certID))
}

// statusOf is a change of what became of the batch of a certificate.
func statusOf(ref string) string { return "put certs~" + domain.BatchOf(ref) }

// createdBatch are the records of a new batch of police.
func createdBatch(id string) []string {
	return []string{"create certb~" + id + " by police+1", "create certs~" + id + " by police+1"}
}

// recorded is the record that the ledger tells under a name.
func recorded[T any](w *world, kind domain.RecordKind, id string) T {
	w.Helper()
	s := decode[domain.Statement](w.TB, w.must("civil gateway", "evidence:Attest", domain.AttestArgs{Kind: kind, ID: id, Nonce: otherID}).Payload)
	if !s.Found {
		w.Fatalf("%s %s is not recorded", kind, id)
	}
	return decode[T](w.TB, []byte(s.Record))
}

// TestIdentifierIsIssuedOnce checks the keys by which the ledger knows an
// identifier and a place in the status lists.
func TestIdentifierIsIssuedOnce(t *testing.T) {
	w := founded(t)
	w.authorised()
	args, sameID, sameIndex := domain.IssueArgs{Content: certificateContent(t)}, domain.IssueArgs{Content: certificateContent(t)}, domain.IssueArgs{Content: certificateContent(t)}
	sameID.Content.Ref, sameID.Content.StatusIndex = otherID, 18
	sameIndex.Content.Ref, sameIndex.Content.CertID = otherID, composed(t, "20260002", "001")

	// At the same time: each reads the key that the other writes, so that the
	// peers let only the first of them commit.
	first := w.run(w.proposal("police operator", "certificate:Issue", args))
	for _, tc := range []struct {
		key, change string
		other       domain.IssueArgs
	}{
		{keyOf(certID), "put " + keyOf(certID), sameID},
		{"certbit~police~0", "create certbit~police~0 by police+1", sameIndex},
	} {
		for _, r := range []chaincodetest.Result{first, w.run(w.proposal("police operator", "certificate:Issue", tc.other))} {
			if !r.OK() || !slices.Contains(r.Reads, tc.key) || !slices.Contains(changes(t, r), tc.change) {
				t.Errorf("%q reads %q and writes %q, both should have %s", r.Message, r.Reads, changes(t, r), tc.key)
			}
		}
	}
	w.ledger.Commit(first)

	const taken = certID + " is already issued as " + id
	w.refused("police operator", "certificate:Issue", sameID, domain.Exists, taken)
	w.refused("police operator", "certificate:Issue", sameIndex, domain.Exists, "status index 17 of department police is taken")
	w.must("police reviewer", "certificate:Decide", approvalOf(id))
	w.change(domain.RevokeCertificate)
	w.refused("police operator", "certificate:Issue", sameID, domain.Exists, taken)
	bound := recorded[domain.IssuedID](w, domain.KindCertificateID, certID)
	if bound.CertID != certID || bound.Ref != id || bound.Department != "police" || !domain.DigestHolds(&bound) {
		t.Errorf("identifier %+v", bound)
	}
	// Another department has status lists of its own.
	own := authorisation()
	own.Issuer = "civil"
	w.must("bigdata admin", "certificate:Authorise", own)
	foreign := certificateContent(t)
	foreign.Ref, foreign.IssuerUSCC = otherID, departments[2].USCC
	foreign.CertID, _ = domain.CertificateID{TypeCode: typeCode, IssuerCode: departments[2].USCC, Serial: "1", Version: "001"}.Compose()
	r := w.must("civil operator", "certificate:Issue", domain.IssueArgs{Content: foreign})
	if !slices.Contains(changes(t, r), "create certbit~civil~0 by civil+1") {
		t.Errorf("changes %q", changes(t, r))
	}
}

// TestRefusedIssueFreesTheIdentifier checks that the number can be proposed again,
// and that the place in the status lists cannot.
func TestRefusedIssueFreesTheIdentifier(t *testing.T) {
	w := founded(t)
	w.proposed()
	r := w.must("police reviewer", "certificate:Decide", rejectionOf(id))
	if diff := cmp.Diff([]string{"delete " + keyOf(certID), statusOf(id)}, changes(t, r)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if c := decode[domain.Certificate](t, r.Payload); c.Status != domain.CertificateRejected || c.Opinion != "材料不全" {
		t.Errorf("certificate %+v", c)
	}
	again := certificateContent(t)
	again.Ref = otherID
	w.refused("police operator", "certificate:Issue", domain.IssueArgs{Content: again}, domain.Exists, "status index 17 of department police is taken")
	again.StatusIndex = 18
	w.must("police operator", "certificate:Issue", domain.IssueArgs{Content: again})
	w.must("police reviewer", "certificate:Decide", approvalOf(otherID))
	if bound := recorded[domain.IssuedID](w, domain.KindCertificateID, certID); bound.Ref != otherID {
		t.Errorf("identifier %+v", bound)
	}
	again.Ref = id
	w.refused("police operator", "certificate:Issue", domain.IssueArgs{Content: again}, domain.Exists, "certificate "+id+" is recorded already")
}

// TestReplacementOnTheLedger checks that both certificates change in one
// transaction, and that two who decide on them at the same time conflict.
func TestReplacementOnTheLedger(t *testing.T) {
	w := founded(t)
	w.proposedSuccessor()
	// While the successor waits, the predecessor may be suspended, and then the
	// successor cannot be issued.
	replace := w.run(w.proposal("police reviewer", "certificate:Decide", approvalOf(otherID)))
	w.must("police operator", "certificate:Propose", proposal(domain.SuspendCertificate, w.now()))
	w.refused("police reviewer", "certificate:Decide", approvalOf(otherID), domain.WrongState, "certificate "+id+" is valid; a proposed change of it waits")
	suspend := w.run(w.proposal("police reviewer", "certificate:Decide", approvalOf(id)))
	for _, r := range []chaincodetest.Result{replace, suspend} {
		if !r.OK() || !slices.Contains(r.Reads, "certs~"+domain.BatchOf(id)) || !slices.Contains(changes(t, r), statusOf(id)) {
			t.Errorf("%q reads %q and writes %q", r.Message, r.Reads, changes(t, r))
		}
	}
	// One decision on both of them is a decision on none.
	both := domain.DecideBatchArgs{Refs: []string{id, otherID}, Decision: domain.ApproveCertificate}
	w.refused("police reviewer", "certificate:DecideBatch", both, domain.WrongState, "refs[1]: certificate "+id+" is valid; a proposed change of it waits")
	w.ledger.Commit(suspend)
	w.refused("police reviewer", "certificate:Decide", approvalOf(otherID), domain.WrongState, "certificate "+id+" is suspended; certificate:Decide needs valid")
	w.change(domain.RestoreCertificate)
	r := w.must("police reviewer", "certificate:DecideBatch", domain.DecideBatchArgs{Refs: []string{otherID}, Decision: domain.ApproveCertificate})
	if diff := cmp.Diff([]string{statusOf(otherID), statusOf(id)}, changes(t, r)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	old, next := recorded[domain.Certificate](w, domain.KindCertificate, id), recorded[domain.Certificate](w, domain.KindCertificate, otherID)
	if old.Status != domain.CertificateSuperseded || old.Successor != otherID || next.Status != domain.CertificateValid || next.Content.Replaces != id || old.TxID != next.TxID {
		t.Errorf("old %+v, next %+v", old, next)
	}
	if len(old.Changes) != 4 || !domain.DigestHolds(&old) || !domain.DigestHolds(&next) {
		t.Errorf("changes %+v", old.Changes)
	}
	third := successor(t)
	third.Ref, third.CertID, third.Replaces, third.StatusIndex = strings.Repeat("3", 32), composed(t, "20260001", "003"), otherID, 19
	w.must("police operator", "certificate:Issue", domain.IssueArgs{Content: third})
}

// TestAuthorisationAtTheTimeOfEachStep checks that an authorisation counts when the
// issue is proposed and when it is decided.
func TestAuthorisationAtTheTimeOfEachStep(t *testing.T) {
	w := founded(t)
	const rule = "not authorised to issue"
	args := domain.IssueArgs{Content: certificateContent(t)}
	w.refused("police operator", "certificate:Issue", args, domain.Invalid, "content.typeCode: the department is "+rule)
	w.proposed()
	end := domain.EndAuthorisationArgs{Issuer: "police", TypeCode: typeCode, Reason: "职责划转"}
	w.must("bigdata admin", "certificate:EndAuthorisation", end)
	w.refused("police reviewer", "certificate:Decide", approvalOf(id), domain.Forbidden, rule)
	w.refused("police reviewer", "certificate:DecideBatch", domain.DecideBatchArgs{Refs: []string{id}, Decision: domain.ApproveCertificate}, domain.Forbidden, "refs[0]: department police is "+rule)
	w.must("bigdata admin", "certificate:Authorise", authorisation())
	w.must("police reviewer", "certificate:Decide", approvalOf(id))
	w.must("bigdata admin", "certificate:EndAuthorisation", end)
	w.change(domain.SuspendCertificate) // what is issued needs none
	if a := decode[domain.Authorisation](t, w.must("civil auditor", "certificate:GetAuthorisation", domain.AuthorisationArgs{Issuer: "police", TypeCode: typeCode}).Payload); a.Seq != 4 || a.State != domain.AuthorisationEnded {
		t.Errorf("authorisation %+v", a)
	}
	unknown := authorisation()
	unknown.Issuer = "market"
	w.refused("bigdata admin", "certificate:Authorise", unknown, domain.NotFound, "department market is not registered")
	s := decode[domain.Statement](t, w.must("civil gateway", "evidence:Attest", domain.AttestArgs{Kind: domain.KindIssuer, ID: "police~" + typeCode, Nonce: otherID}).Payload)
	if !s.Found || s.Status != "ended" {
		t.Errorf("statement %+v", s)
	}
}

func TestCertificateBatches(t *testing.T) {
	w := founded(t)
	w.authorised()
	contents := certificateContents(t, domain.MaxBatch+1)
	for _, bad := range []domain.IssueBatchArgs{{Contents: contents}, {}} {
		w.refused("police operator", "certificate:IssueBatch", bad, domain.Invalid, "contents: ")
	}
	contents = contents[:domain.MaxBatch]
	spoilt := slices.Clone(contents)
	spoilt[3].TypeNameZh, spoilt[7].HolderRef = "执照", "张三"
	w.refused("police operator", "certificate:IssueBatch", domain.IssueBatchArgs{Contents: spoilt}, domain.Invalid,
		"contents[7].holderRef: must be 64 lower-case hexadecimal digits (SHA-256); contents[3].typeNameZh: not the name in the register of issuers")

	r := w.must("police operator", "certificate:IssueBatch", domain.IssueBatchArgs{Contents: contents})
	// A message to read what every transaction needs, then as few as a thousand keys each
	// take to read the rest, and a thousand writes and policies each to write: for each certificate its identifier, for each batch of fifty its content
	// and status, and the taken places of the status lists. What all certificates need is
	// read once.
	const batches, places = domain.MaxBatch / domain.MaxBatchRows, (1000%64 + domain.MaxBatch + 63) / 64
	const policies = 2*batches + places
	const writes = domain.MaxBatch + policies
	const messages = 1 + (domain.MaxBatch+batches+places+1+999)/1000 + (writes+policies+999)/1000
	if len(r.Writes) != writes || len(r.Policies) != policies || r.Messages != messages || len(r.Reads) != domain.MaxBatch+batches+places+3 {
		t.Errorf("%d writes, %d policies, %d messages, %d reads", len(r.Writes), len(r.Policies), r.Messages, len(r.Reads))
	}
	checkBatchResult(t, w, r, contents, domain.CertificateProposed)
	all := domain.DecideBatchArgs{Refs: refsOf(contents), Decision: domain.ApproveCertificate}
	r = w.must("police reviewer", "certificate:DecideBatch", all)
	if len(r.Writes) != batches || len(r.Policies) != 0 || r.Messages != 4 || len(r.Reads) != 2*batches+3 {
		t.Errorf("%d writes, %d policies, %d messages, %d reads", len(r.Writes), len(r.Policies), r.Messages, len(r.Reads))
	}
	checkBatchResult(t, w, r, contents, domain.CertificateValid)

	// A refusal of all names the first and counts the rest; nothing is written.
	r = w.run(w.proposal("police reviewer", "certificate:DecideBatch", all))
	err := parseError(t, r.Message)
	if domain.StateOf(err) != "valid" || !strings.HasSuffix(r.Message, fmt.Sprintf("; %d more findings", domain.MaxBatch-domain.MaxFindings)) || len(r.Message) > maxMessage {
		t.Errorf("a message of %d bytes: %q", len(r.Message), r.Message[len(r.Message)-40:])
	}
	r = w.run(w.proposal("police operator", "certificate:IssueBatch", domain.IssueBatchArgs{Contents: contents}))
	if domain.KindOf(parseError(t, r.Message)) != domain.Exists || !strings.HasPrefix(r.Message, "exists: contents[0]: certificate "+contents[0].Ref+" is recorded already; ") || len(r.Message) > maxMessage {
		t.Errorf("a message of %d bytes: %q", len(r.Message), r.Message[:100])
	}
	// One that is not recorded, and one that waits for nothing.
	w.must("police operator", "certificate:Issue", domain.IssueArgs{Content: certificateContent(t)})
	before := w.ledger.State("certs~" + domain.BatchOf(id))
	mixed := domain.DecideBatchArgs{Refs: []string{id, otherID, contents[0].Ref}, Decision: domain.RejectCertificate, Opinion: "材料不全"}
	w.refused("police reviewer", "certificate:DecideBatch", mixed, domain.NotFound,
		"refs[1]: certificate "+otherID+" is not recorded; refs[2]: certificate "+contents[0].Ref+" is valid; certificate:Decide needs proposed")
	if string(w.ledger.State("certs~"+domain.BatchOf(id))) != string(before) {
		t.Error("a refused batch changed a certificate")
	}
	// A batch may decide on different things: an issue and a suspension.
	w.must("police operator", "certificate:Propose", domain.ProposeArgs{Ref: contents[0].Ref, Event: domain.SuspendCertificate, Act: proposal("", w.now()).Act})
	r = w.must("police reviewer", "certificate:DecideBatch", domain.DecideBatchArgs{Refs: []string{id, contents[0].Ref}, Decision: domain.ApproveCertificate})
	if got := decode[domain.CertificateBatchResult](t, r.Payload); got.Status != "" {
		t.Errorf("result %+v", got)
	}
}

func checkBatchResult(t *testing.T, w *world, r chaincodetest.Result, contents []domain.CertificateContent, status domain.CertificateStatus) {
	t.Helper()
	want := domain.CertificateBatchResult{Count: len(contents), Status: status}
	for i, content := range contents {
		if i%domain.MaxBatchRows == 0 {
			want.Batches = append(want.Batches, domain.BatchOf(content.Ref))
		}
		c := recorded[domain.Certificate](w, domain.KindCertificate, content.Ref)
		if c.Content != content || c.Status != status || !domain.DigestHolds(&c) {
			t.Errorf("certificate %+v", c)
		}
	}
	if diff := cmp.Diff(want, decode[domain.CertificateBatchResult](t, r.Payload)); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
}

// TestObjectionOnTheLedger checks that an objection to one certificate of a batch
// is told with that one alone, and that departments sign it.
func TestObjectionOnTheLedger(t *testing.T) {
	w := founded(t)
	w.authorised()
	contents := certificateContents(t, 3)
	w.must("police operator", "certificate:IssueBatch", domain.IssueBatchArgs{Contents: contents})
	w.must("police reviewer", "certificate:DecideBatch", domain.DecideBatchArgs{Refs: refsOf(contents), Decision: domain.ApproveCertificate})
	step := func(event domain.StatusEvent) {
		t.Helper()
		w.must("police operator", "certificate:Propose", domain.ProposeArgs{Ref: contents[1].Ref, Event: event, Act: proposal("", w.now()).Act})
		w.must("police reviewer", "certificate:Decide", approvalOf(contents[1].Ref))
	}
	open := func() (open []bool) {
		t.Helper()
		for _, content := range contents {
			c := recorded[domain.Certificate](w, domain.KindCertificate, content.Ref)
			if c.Status != domain.CertificateValid || !domain.DigestHolds(&c) {
				t.Errorf("certificate %+v", c)
			}
			open = append(open, c.OpenObjection != nil)
		}
		return open
	}
	step(domain.ObjectCertificate)
	if got := open(); !slices.Equal(got, []bool{false, true, false}) {
		t.Errorf("objections %v", got)
	}
	step(domain.SettleCertificate)
	if got := open(); !slices.Equal(got, []bool{false, false, false}) {
		t.Errorf("objections %v", got)
	}
}

// TestForgedLeadsAreNoAnswer checks what departments could do without the issuer,
// because what an identifier leads to needs no endorsement of its own: whoever follows
// it gets an error, and never the answer of another certificate.
func TestForgedLeadsAreNoAnswer(t *testing.T) {
	const inconsistent = "the ledger is inconsistent"
	w := founded(t)
	w.authorised()
	contents := certificateContents(t, 3)
	w.must("police operator", "certificate:IssueBatch", domain.IssueBatchArgs{Contents: contents})
	w.must("police operator", "certificate:Issue", domain.IssueArgs{Content: certificateContent(t)})
	ref, batch := contents[1].Ref, domain.BatchOf(contents[0].Ref)
	key, ask := keyOf(contents[1].CertID), domain.AttestArgs{Kind: domain.KindCertificateID, ID: contents[1].CertID, Nonce: otherID}
	again := certificateContent(t)
	again.Ref, again.CertID, again.StatusIndex = otherID, contents[1].CertID, 5
	honest := w.ledger.State(key)
	for _, forged := range []string{`"` + contents[2].Ref + `"`, `"` + batch + `"`, `"` + id + `"`, `"` + otherID + `"`, `"x"`, `{}`, `x`} {
		w.ledger.Set(key, []byte(forged))
		w.fails("civil gateway", "evidence:Attest", ask, "")
		w.fails("police operator", "certificate:Issue", domain.IssueArgs{Content: again}, "")
	}
	// Of a refused identifier, brought back.
	w.ledger.Set(key, honest)
	w.must("police reviewer", "certificate:DecideBatch", domain.DecideBatchArgs{Refs: []string{ref}, Decision: domain.RejectCertificate, Opinion: "材料不全"})
	w.ledger.Set(key, honest)
	w.fails("civil gateway", "evidence:Attest", ask, inconsistent)
	// Nothing under a reference's own key counts.
	w.ledger.Set("cert~"+otherID, w.ledger.State("certb~"+batch))
	if s := decode[domain.Statement](t, w.must("civil gateway", "evidence:Attest", domain.AttestArgs{Kind: domain.KindCertificate, ID: otherID, Nonce: otherID}).Payload); s.Found {
		t.Errorf("statement %+v", s)
	}
	// A batch whose two records do not belong together.
	status := w.ledger.State("certs~" + batch)
	w.ledger.Set("certs~"+batch, w.ledger.State("certs~"+domain.BatchOf(id)))
	w.fails("civil gateway", "certificate:Get", domain.RefArgs{Ref: ref}, inconsistent)
	w.ledger.Set("certs~"+batch, nil)
	w.fails("civil gateway", "certificate:Get", domain.RefArgs{Ref: ref}, inconsistent)
	w.ledger.Set("certs~"+batch, status)
	w.must("civil gateway", "certificate:Get", domain.RefArgs{Ref: ref})
}

// TestNotFoundBesideOthers checks that a reference which names a recorded batch, but
// none of its certificates, is not found, and cannot be issued besides.
func TestNotFoundBesideOthers(t *testing.T) {
	w := founded(t)
	w.issued()
	beside := domain.BatchOf(id) + otherID[domain.BatchPart:]
	s := decode[domain.Statement](t, w.must("civil gateway", "evidence:Attest", domain.AttestArgs{Kind: domain.KindCertificate, ID: beside, Nonce: otherID}).Payload)
	if s.Found || s.Record != "" {
		t.Errorf("statement %+v", s)
	}
	w.refused("civil gateway", "certificate:Get", domain.RefArgs{Ref: beside}, domain.NotFound, beside)
	w.refused("police reviewer", "certificate:Decide", approvalOf(beside), domain.NotFound, beside)
	c := certificateContent(t)
	c.Ref, c.CertID, c.StatusIndex = beside, composed(t, "20260002", "001"), 5
	w.refused("police operator", "certificate:Issue", domain.IssueArgs{Content: c}, domain.Exists, "certificate "+beside+" is recorded already")
}

// fails checks that a transaction is not refused but cannot be run.
func (w *world) fails(who, name string, args any, want string) {
	w.Helper()
	if r := w.run(w.proposal(who, name, args)); r.OK() || !strings.HasPrefix(r.Message, "internal: ") || !strings.Contains(r.Message, want) {
		w.Errorf("%s answered %q %s", name, r.Message, r.Payload)
	}
}
