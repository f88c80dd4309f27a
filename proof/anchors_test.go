package proof_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

func TestParseAnchors(t *testing.T) {
	c := prooftest.New()
	got, err := proof.ParseAnchors(c.TrustFile())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c.Anchors(), got); diff != "" {
		t.Errorf("anchors (-want +got):\n%s", diff)
	}
	one := c.Anchors()
	one.Departments, one.Quorum = one.Departments[:1], 1
	one.Departments[0].LogOrigin, one.Departments[0].LogKey = "", ""
	data, err := domain.Canonical(one)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := proof.ParseAnchors(data); err != nil {
		t.Errorf("one department without a log: %v", err)
	}
}

func TestParseAnchorsRefuses(t *testing.T) {
	c := prooftest.New()
	police := c.Department("police")
	notAuthority := police.Peer.PEM()
	authority := func(change func(*x509.Certificate)) string {
		return string(police.Authority.IssueAs("sub", change).PEM())
	}
	for name, change := range map[string]func(a *proof.Anchors){
		"format":              func(a *proof.Anchors) { a.Format = "zhenglian-trust/2" },
		"no channel":          func(a *proof.Anchors) { a.Channel = "" },
		"channel in capitals": func(a *proof.Anchors) { a.Channel = "Zhenglian" },
		"no chaincode":        func(a *proof.Anchors) { a.Chaincode = "" },
		"chaincode name":      func(a *proof.Anchors) { a.Chaincode = "zheng lian" },
		"no versions":         func(a *proof.Anchors) { a.Versions = nil },
		"empty version":       func(a *proof.Anchors) { a.Versions = []string{""} },
		"repeated version":    func(a *proof.Anchors) { a.Versions = []string{"1.0", "1.0"} },
		"quorum 0":            func(a *proof.Anchors) { a.Quorum = 0 },
		"negative quorum":     func(a *proof.Anchors) { a.Quorum = -1 },
		"quorum above n":      func(a *proof.Anchors) { a.Quorum = 5 },
		"half is no majority": func(a *proof.Anchors) { a.Quorum = 2 },
		"no departments":      func(a *proof.Anchors) { a.Departments = nil },
		"unsorted":            func(a *proof.Anchors) { slices.Reverse(a.Departments) },
		"department twice":    func(a *proof.Anchors) { a.Departments[1].Code = a.Departments[0].Code },
		"MSP twice":           func(a *proof.Anchors) { a.Departments[1].MSPID = a.Departments[0].MSPID },
		"log twice": func(a *proof.Anchors) {
			a.Departments[1].LogOrigin, a.Departments[1].LogKey = a.Departments[0].LogOrigin, a.Departments[0].LogKey
		},
		"code":              func(a *proof.Anchors) { a.Departments[0].Code = "Big Data" },
		"MSP ID":            func(a *proof.Anchors) { a.Departments[0].MSPID = "Bigdata MSP" },
		"no Chinese name":   func(a *proof.Anchors) { a.Departments[0].NameZh = "" },
		"long English name": func(a *proof.Anchors) { a.Departments[0].NameEn = strings.Repeat("x", 101) },
		"credit code":       func(a *proof.Anchors) { a.Departments[0].USCC = "119900000000000010" },
		"no roots":          func(a *proof.Anchors) { a.Departments[0].CARoots = nil },
		"empty root":        func(a *proof.Anchors) { a.Departments[0].CARoots = []string{""} },
		"root twice":        func(a *proof.Anchors) { r := &a.Departments[0].CARoots; *r = append(*r, (*r)[0]) },
		"shared root": func(a *proof.Anchors) {
			a.Departments[1].CARoots = append(a.Departments[1].CARoots, a.Departments[0].CARoots[0])
		},
		"two roots in one":      func(a *proof.Anchors) { a.Departments[0].CARoots[0] += a.Departments[1].CARoots[0] },
		"root with blank lines": func(a *proof.Anchors) { a.Departments[0].CARoots[0] += "\n" },
		"root with CRLF":        func(a *proof.Anchors) { r := a.Departments[0].CARoots; r[0] = strings.ReplaceAll(r[0], "\n", "\r\n") },
		"root of another type": func(a *proof.Anchors) {
			r := a.Departments[0].CARoots
			r[0] = strings.ReplaceAll(r[0], "CERTIFICATE", "TRUSTED CERTIFICATE")
		},
		"root is a peer": func(a *proof.Anchors) { a.Departments[3].CARoots = []string{string(notAuthority)} },
		"root not self-signed": func(a *proof.Anchors) {
			a.Departments[3].CARoots = []string{authority(func(cert *x509.Certificate) { cert.IsCA, cert.KeyUsage = true, x509.KeyUsageCertSign })}
		},
		"root may not sign": func(a *proof.Anchors) {
			a.Departments[3].CARoots = []string{authority(func(cert *x509.Certificate) { cert.IsCA = true })}
		},
		"log without key":    func(a *proof.Anchors) { a.Departments[0].LogKey = "" },
		"key without log":    func(a *proof.Anchors) { a.Departments[0].LogOrigin = "" },
		"key of another log": func(a *proof.Anchors) { a.Departments[0].LogKey = a.Departments[1].LogKey },
		"log key":            func(a *proof.Anchors) { a.Departments[0].LogKey = a.Departments[0].LogOrigin + "+00000000+AAAA" },
	} {
		t.Run(name, func(t *testing.T) {
			anchors := c.Anchors()
			change(anchors)
			data, err := domain.Canonical(anchors)
			if err != nil {
				t.Fatal(err)
			}
			_, err = proof.ParseAnchors(data)
			wantInvalid(t, name, err)
			if name == "root not self-signed" {
				return // a matter of the file, not of what a proof means
			}
			// Anchors that were made by hand are held to the same rules.
			if v := proof.Verify(validRead(c).File(), anchors, proof.Options{}); v.Overall != proof.CannotCheck {
				t.Errorf("Verify under these anchors: %q: %s", v.Overall, v.Reason)
			}
		})
	}
	data := c.TrustFile()
	for name, bad := range map[string][]byte{
		"empty":           nil,
		"trailing":        append(slices.Clone(data), '\n'),
		"indented":        bytes.Replace(data, []byte(`,"channel"`), []byte(`, "channel"`), 1),
		"capital key":     bytes.Replace(data, []byte(`"channel"`), []byte(`"Channel"`), 1),
		"unknown key":     bytes.Replace(data, []byte(`"channel"`), []byte(`"x":1,"channel"`), 1),
		"repeated key":    bytes.Replace(data, []byte(`"channel"`), []byte(`"channel":"zhenglian","channel"`), 1),
		"fraction quorum": bytes.Replace(data, []byte(`"quorum":3`), []byte(`"quorum":3.0`), 1),
		"too large":       bytes.Repeat([]byte(" "), 1<<20+1),
	} {
		_, err := proof.ParseAnchors(bad)
		wantInvalid(t, name, err)
	}
}

func TestNewBundle(t *testing.T) {
	c := prooftest.New()
	read := validRead(c)
	want := read.Bundle()
	endorsements := read.Endorsements()
	slices.Reverse(endorsements)
	got := proof.NewBundle(read.ProposalBytes(), read.ResponseBytes(), endorsements)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("bundle (-want +got):\n%s", diff)
	}
	if first := endorsements[0].Endorser; !bytes.Contains(first, []byte("PoliceMSP")) {
		t.Error("NewBundle changed its argument")
	}
	data, err := proof.Encode(got)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := proof.ParseBundle(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, parsed); diff != "" {
		t.Errorf("parsed (-want +got):\n%s", diff)
	}
	if proof.NewBundle(nil, nil, []proof.RawEndorsement{{Endorser: []byte("x")}}).Read.Endorsements[0].Endorser != "eA" {
		t.Error("an endorser that cannot be read is not carried as it is")
	}
	got.Read.Proposal = strings.Repeat("A", proof.MaxBundleBytes)
	_, err = proof.Encode(got)
	wantInvalid(t, "too large", err)
}

// kindRecord is a record of a kind, as the ledger stores it.
type kindRecord struct {
	kind  domain.RecordKind
	id    string
	bytes []byte
}

// recordsOfEveryKind are one record of each kind, some twice.
func recordsOfEveryKind(c *prooftest.Consortium) []kindRecord {
	at := prooftest.Epoch
	meta := domain.Meta{Department: "police", Role: domain.RoleOperator, TxTime: at}
	named := func(schema string) domain.Meta { m := meta; m.Schema = schema; return m }
	id := strings.Repeat("a1", 16)
	var records []kindRecord
	add := func(kind domain.RecordKind, id string, value any, m *domain.Meta) {
		records = append(records, kindRecord{kind, id, prooftest.Seal(value, m)})
	}
	department := domain.Department{Meta: named(domain.SchemaDepartment), Code: "police"}
	add(domain.KindDepartment, "police", &department, &department.Meta)
	members := domain.Members{Meta: named(domain.SchemaMembers), Lead: "police"}
	add(domain.KindMembers, "all", &members, &members.Meta)
	calendar := domain.Calendar{Meta: named(domain.SchemaCalendar), Year: 2026, Version: 3}
	add(domain.KindCalendar, "2026", &calendar, &calendar.Meta)
	add(domain.KindCalendarVersion, "2026~3", &calendar, &calendar.Meta)
	rule := domain.DeadlineRule{Meta: named(domain.SchemaRule), Event: domain.DeadlineMediation, Version: 2}
	add(domain.KindRule, "mediation", &rule, &rule.Meta)
	add(domain.KindRuleVersion, "mediation~2", &rule, &rule.Meta)
	entry := domain.CatalogEntry{Meta: named(domain.SchemaCatalogEntry), State: domain.CatalogPublished}
	entry.Content.Code = "307011/000001"
	add(domain.KindCatalogEntry, "307011/000001", &entry, &entry.Meta)
	version := domain.CatalogVersion{Meta: named(domain.SchemaCatalogVersion), Version: 2}
	version.Content.Code = "307011/000001"
	add(domain.KindCatalogVersion, "307011/000001~2", &version, &version.Meta)
	step := domain.CatalogEvent{Meta: named(domain.SchemaCatalogEvent), Provider: "police", Entries: []domain.CatalogStep{{Code: "307011/000001", Seq: 4}}}
	add(domain.KindCatalogEvent, domain.CatalogEventID(step.TxID, "police"), &step, &step.Meta)
	request := domain.ShareRequest{Meta: named(domain.SchemaRequest), State: domain.RequestAgreed}
	request.Content.ID = id
	add(domain.KindRequest, id, &request, &request.Meta)
	event := domain.RequestEvent{Meta: named(domain.SchemaRequestEvent), RequestID: id, Seq: 1}
	add(domain.KindRequestEvent, id+"~1", &event, &event.Meta)
	grant := domain.Grant{Meta: named(domain.SchemaGrant), ID: id, State: domain.GrantActive, Period: domain.Period{From: at.AddDate(0, -1, 0), To: at.AddDate(0, 1, 0)}}
	add(domain.KindGrant, id, &grant, &grant.Meta)
	grantEvent := domain.GrantEvent{Meta: named(domain.SchemaGrantEvent), GrantID: id, Seq: 2}
	add(domain.KindGrantEvent, id+"~2", &grantEvent, &grantEvent.Meta)
	operation := domain.Operation{Meta: named(domain.SchemaOperation), Operation: id}
	add(domain.KindOperation, "police~"+id, &operation, &operation.Meta)
	log := domain.LogRegistration{Meta: named(domain.SchemaLog), Owner: "police"}
	add(domain.KindLog, "police", &log, &log.Meta)
	anchor := domain.Anchor{Meta: named(domain.SchemaAnchor), Owner: "police", Size: 17}
	add(domain.KindAnchor, "police~17", &anchor, &anchor.Meta)
	alarm := domain.Alarm{Meta: named(domain.SchemaAlarm), ID: id, State: domain.AlarmOpen, Records: []domain.RecordRef{{Department: "police", Index: 1 << 60}}}
	add(domain.KindAlarm, id, &alarm, &alarm.Meta)
	alarmEvent := domain.AlarmEvent{Meta: named(domain.SchemaAlarmEvent), AlarmID: id, Seq: 1}
	add(domain.KindAlarmEvent, id+"~1", &alarmEvent, &alarmEvent.Meta)
	authorisation := domain.Authorisation{Meta: named(domain.SchemaAuthorisation), Issuer: "police", TypeCode: "11100000MB0143028R001"}
	add(domain.KindIssuer, "police~11100000MB0143028R001", &authorisation, &authorisation.Meta)
	cert := c.Certificate()
	add(domain.KindCertificate, prooftest.Ref, &cert, &cert.Meta)
	issuedID := domain.IssuedID{Meta: named(domain.SchemaCertificateID), CertID: cert.Content.CertID, Ref: prooftest.Ref}
	add(domain.KindCertificateID, cert.Content.CertID, &issuedID, &issuedID.Meta)
	issued := domain.IssuingBatch{Meta: named(domain.SchemaIssuingBatch), Issuer: "police", Content: domain.BatchContent{ID: domain.BatchOf(prooftest.Ref), Certificates: []domain.CertificateRow{{Ref: prooftest.Ref[domain.BatchPart:]}}}}
	add(domain.KindIssuingBatch, issued.ID(), &issued, &issued.Meta)
	batchStatus := domain.BatchStatus{Meta: named(domain.SchemaBatchStatus), Issuer: "police", Batch: issued.ID(), Lives: []domain.CertificateLife{{Changes: []domain.StatusChange{}}}, Of: []int{}}
	add(domain.KindBatchStatus, issued.ID(), &batchStatus, &batchStatus.Meta)
	statusPlaces := domain.StatusPlaces{Meta: named(domain.SchemaStatusPlaces), Issuer: "police", Number: 17, Taken: "0000000000000001"}
	add(domain.KindStatusPlaces, "police~17", &statusPlaces, &statusPlaces.Meta)
	return records
}

// TestEveryKind checks that a record of each kind can be proven.
func TestEveryKind(t *testing.T) {
	c := prooftest.New()
	anchors := c.Anchors()
	at := prooftest.Epoch
	var kinds []domain.RecordKind
	for _, r := range recordsOfEveryKind(c) {
		kinds = append(kinds, r.kind)
		t.Run(string(r.kind), func(t *testing.T) {
			status, err := domain.StatementStatus(r.kind, r.bytes, at)
			if err != nil {
				t.Fatal(err)
			}
			want := proof.Recorded
			if r.kind == domain.KindCertificate {
				want = proof.Valid
			}
			v := proof.Verify(c.Attest(c.Statement(r.kind, r.id, prooftest.Nonce, r.bytes, status)).File(), anchors, proof.Options{})
			if v.Overall != want {
				t.Errorf("got %q, want %q: %s", v.Overall, want, v.Reason)
			}
			// The same record under another name.
			v = proof.Verify(c.Attest(c.Statement(r.kind, r.id+"0", prooftest.Nonce, r.bytes, status)).File(), anchors, proof.Options{})
			if v.Overall != proof.BadProof {
				t.Errorf("under another name: %q", v.Overall)
			}
			// The same record with a status that it does not have.
			v = proof.Verify(c.Attest(c.Statement(r.kind, r.id, prooftest.Nonce, r.bytes, "suspended")).File(), anchors, proof.Options{})
			if v.Overall != proof.BadProof {
				t.Errorf("with another status: %q", v.Overall)
			}
		})
	}
	if diff := cmp.Diff(domain.RecordKinds, kinds); diff != "" {
		t.Errorf("kinds tried (-want +got):\n%s", diff)
	}
}

// TestReasonsQuoteNothing checks that a forged bundle cannot speak through the
// reasons for refusing it, which people read.
func TestReasonsQuoteNothing(t *testing.T) {
	c := prooftest.New()
	const planted = "VALID-ask-nobody"
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	san, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte("http://[" + planted)}})
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: prooftest.Epoch,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: san}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if der == nil {
		t.Fatal(err)
	}
	if _, err := x509.ParseCertificate(der); err == nil || !strings.Contains(err.Error(), planted) {
		t.Fatalf("the certificate reads as %v, so the case tries nothing", err)
	}
	identity := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "PoliceMSP")
	identity = protowire.AppendBytes(protowire.AppendTag(identity, 2, protowire.BytesType), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	forged := func([]byte) []byte { return identity }

	creator, endorser, namespace := validRead(c), validRead(c), validRead(c)
	creator.Edit = map[prooftest.Message]func([]byte) []byte{prooftest.Creator: forged}
	endorser.Edit = map[prooftest.Message]func([]byte) []byte{prooftest.Endorser: forged}
	namespace.Namespaces = []prooftest.Namespace{{Name: planted}, {Name: planted}}
	bundle := validRead(c).Bundle()
	bundle.Format = planted
	format, err := proof.Encode(bundle)
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string][]byte{
		"creator": creator.File(), "endorser": endorser.File(), "namespace": namespace.File(), "format": format,
	} {
		v := proof.Verify(file, c.Anchors(), proof.Options{})
		if v.Overall != proof.BadProof || strings.Contains(fmt.Sprint(v), planted) {
			t.Errorf("%s: %q: %s", name, v.Overall, v.Reason)
		}
	}
}

// TestVerdictQuestions checks that a verdict always answers every question.
func TestVerdictQuestions(t *testing.T) {
	c := prooftest.New()
	want := []proof.Question{proof.Integrity, proof.Quorum, proof.Scope, proof.Freshness, proof.Status}
	for name, v := range map[string]proof.Verdict{
		"no anchors": proof.Verify(nil, nil, proof.Options{}),
		"garbage":    proof.Verify([]byte("x"), c.Anchors(), proof.Options{}),
		"valid":      proof.Verify(validRead(c).File(), c.Anchors(), proof.Options{At: prooftest.Epoch}),
	} {
		var got []proof.Question
		for _, check := range v.Checks {
			got = append(got, check.Question)
			if check.Reason == "" {
				t.Errorf("%s: no reason for %s", name, check.Question)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: questions (-want +got):\n%s", name, diff)
		}
	}
	if got := fmt.Sprintf("%q %q", proof.CannotCheck, proof.Unknown); got != `"" ""` {
		t.Errorf("zero values: %s", got)
	}
}
