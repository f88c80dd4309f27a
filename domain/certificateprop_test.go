package domain

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// certificateLedger is what a ledger would hold of the certificates of a few
// departments.
type certificateLedger struct {
	certificates map[string]Certificate
	ids          map[string]string        // references by identifier
	places       map[string]*StatusPlaces // by id
	batches      map[string]Batch         // that hold the same as certificates
	issuers      map[string]Authorisation
	steps        map[string][]statusStep // what happened to each certificate, as told here
	transactions int                     // tried so far
	now          time.Time
	reached      map[CertificateStatus]int // over all cases
}

// statusStep is a status that a certificate got, in the words of the test.
type statusStep struct {
	from   time.Time
	status CertificateStatus
}

var certificateRefs = []string{someID, BatchOf(someID) + "22223333444455556666", "11112222333344445555666677778888"} // two of one batch

// step runs one transaction of anybody and checks what must hold after it.
func (l *certificateLedger) step(t *rapid.T) {
	ref := rapid.SampledFrom(certificateRefs).Draw(t, "ref")
	var existing *Certificate
	if c, ok := l.certificates[ref]; ok {
		existing = &c
	}
	dept, role, way := l.caller(t, existing)
	l.now = l.now.Add(time.Duration(rapid.SampledFrom([]int{0, 1, 24, 24 * 40, -1}).Draw(t, "hours")) * time.Hour)
	call := callOf(dept, role, Tx{ID: TxID(fmt.Sprintf("%064x", l.transactions)), Time: l.now, Channel: someTx.Channel})
	l.transactions++
	before, _ := Canonical(existing)
	changes, err := l.run(t, ref, existing, call, way)
	if after, _ := Canonical(existing); string(after) != string(before) {
		t.Fatalf("%s changed the certificate it was given", way)
	}
	if err != nil {
		if !slices.Contains(Kinds, KindOf(err)) {
			t.Fatalf("%s: %v is of no kind", way, err)
		}
		return
	}
	for _, change := range changes {
		l.put(t, change, call)
	}
	l.keep(t, changes, call)
}

// keep writes the changes into batches, as the chaincode does, and checks that
// these hold every certificate as it is.
func (l *certificateLedger) keep(t *rapid.T, changes []CertificateChange, call Call) {
	var created []CertificateChange
	changed := map[string]map[string]Certificate{}
	touched := map[string]bool{}
	change := func(c Certificate) {
		touched[c.Content.Ref] = true
		id := BatchOf(c.Content.Ref)
		if changed[id] == nil {
			changed[id] = map[string]Certificate{}
		}
		changed[id][c.Content.Ref] = c
	}
	for _, c := range changes {
		if c.New {
			created = append(created, c)
			touched[c.Certificate.Content.Ref] = true
			continue
		}
		if change(c.Certificate); c.Predecessor != nil {
			change(*c.Predecessor)
		}
	}
	batches, err := NewBatches(created, call)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range batches {
		l.batches[b.Issued.ID()] = b
	}
	for id, rows := range changed {
		b := l.batches[id]
		if b.Status, err = b.Changed(rows, call); err != nil {
			t.Fatal(err)
		}
		l.batches[id] = b
	}
	for ref, want := range l.certificates {
		b := l.batches[BatchOf(ref)]
		row, found := b.Row(ref)
		if !found {
			t.Fatalf("the batch has no certificate %s", ref)
		}
		got, err := b.Certificate(row).Sealed()
		if diff := cmp.Diff(want, got); diff != "" || err != nil || b.Check(BatchOf(ref)) != nil {
			t.Fatalf("the batch holds another certificate, %v %v (-want +got):\n%s", err, b.Check(BatchOf(ref)), diff)
		}
		if now := b.Status.TxID == call.Tx.ID && slices.Contains(b.Status.Changed(b.Size()), row); now != touched[ref] {
			t.Fatalf("%s counts as changed: %v", ref, now)
		}
		if id, err := b.IssuedID(ref, want.Content.CertID); (err != nil) != (want.Status == CertificateRejected) || (err == nil && (id.Ref != ref || !DigestHolds(&id))) {
			t.Fatalf("identifier %+v, %v", id, err)
		}
	}
}

// certificateWays are the transactions, with what tells apart the moves of one.
var certificateWays = []string{
	"issue", "replace", "batch", "suspend", "restore", "revoke", "withdraw", "cancel", "object", "settle", "approve", "reject", "authorise", "end",
}

// caller draws who does what: anybody anything, or mostly something that the
// certificate's status lets them do, so that all statuses are reached.
func (l *certificateLedger) caller(t *rapid.T, existing *Certificate) (Department, Role, string) {
	dept := rapid.SampledFrom([]Department{policeDept, civilDept, leadDept}).Draw(t, "department")
	role := rapid.SampledFrom(Roles).Draw(t, "role")
	way := rapid.SampledFrom(certificateWays).Draw(t, "way")
	if rapid.IntRange(0, 4).Draw(t, "anybody") == 0 {
		return dept, role, way
	}
	likely := func(role Role, ways ...string) (Department, Role, string) {
		owner := policeDept
		if existing != nil && existing.Issuer == civilDept.Code {
			owner = civilDept
		}
		return owner, role, rapid.SampledFrom(ways).Draw(t, "likely")
	}
	switch {
	case existing == nil:
		return likely(RoleOperator, "issue", "replace", "replace", "batch")
	case existing.Status == CertificateProposed || existing.Pending != nil:
		return likely(RoleReviewer, "approve", "approve", "reject")
	case existing.Status == CertificateValid:
		return likely(RoleOperator, "suspend", "suspend", "revoke", "withdraw", "cancel", "object", "settle")
	case existing.Status == CertificateSuspended:
		return likely(RoleOperator, "restore", "restore", "revoke", "withdraw", "object", "settle")
	}
	return dept, role, way
}

func (l *certificateLedger) run(t *rapid.T, ref string, existing *Certificate, call Call, way string) ([]CertificateChange, error) {
	one := func(change CertificateChange, err error) ([]CertificateChange, error) {
		return []CertificateChange{change}, err
	}
	back := time.Duration(rapid.IntRange(-1, 48).Draw(t, "effective")) * time.Hour
	switch way {
	case "issue", "replace":
		c := l.content(t, ref, call, way == "replace")
		return one(IssueCertificate(l.known(c, call), call, IssueArgs{c}))
	case "batch":
		other := rapid.SampledFrom(certificateRefs).Draw(t, "other")
		contents := []CertificateContent{l.content(t, ref, call, false), l.content(t, other, call, true)}
		changes, err := IssueCertificateBatch([]IssueRecords{l.known(contents[0], call), l.known(contents[1], call)}, call, IssueBatchArgs{contents})
		for i := range changes {
			changes[i], err = changes[i].sealed()
		}
		return changes, err
	case "approve", "reject":
		known := DecideRecords{Existing: existing}
		if existing != nil {
			known.Authorisation = l.authorisation(existing.Issuer)
			if old, ok := l.certificates[existing.Content.Replaces]; ok {
				known.Predecessor = &old
			}
		}
		return one(DecideCertificate(known, call, DecideArgs{ref, CertificateDecision(way), "意见"}))
	case "authorise", "end":
		return nil, l.authorise(t, call, way)
	}
	args := someProposal()
	args.Ref, args.Event, args.Act.EffectiveAt = ref, StatusEvent(way), l.now.Add(-back)
	return one(ProposeStatus(existing, call, args))
}

// content draws what a department might issue under a reference.
func (l *certificateLedger) content(t *rapid.T, ref string, call Call, replaces bool) CertificateContent {
	serial := rapid.SampledFrom([]string{"20260001", "20260002"}).Draw(t, "serial")
	id, err := CertificateID{someTypeCode, call.Dept.USCC, serial, "001"}.Compose()
	if err != nil {
		t.Fatal(err)
	}
	days := rapid.SampledFrom([]int{0, 1, 60}).Draw(t, "starts")
	c := CertificateContent{
		Ref: ref, CertID: id, TypeCode: someTypeCode, TypeNameZh: "营业执照", TypeNameEn: "Business Licence", IssuerUSCC: call.Dept.USCC,
		HolderKind: HolderPerson, HolderRef: someDigest, IssuedAt: l.now, Validity: Period{From: l.now.AddDate(0, 0, days), To: l.now.AddDate(0, 0, 100)},
		ContentDigest: someDigest, CheckCodeHash: someDigest, StatusIndex: rapid.IntRange(0, 3).Draw(t, "index"),
	}
	if replaces {
		c.Replaces = rapid.SampledFrom(certificateRefs).Draw(t, "replaces")
		if next, err := nextVersion(l.certificates[c.Replaces].Content.CertID); err == nil {
			c.CertID = next
		}
	}
	return c
}

func (l *certificateLedger) known(c CertificateContent, call Call) IssueRecords {
	known := IssueRecords{Authorisation: l.authorisation(call.Dept.Code)}
	_, known.Existing = l.batches[BatchOf(c.Ref)]
	if ref, ok := l.ids[c.CertID]; ok {
		known.Issued = &IssuedID{CertID: c.CertID, Ref: ref}
	}
	known.IndexTaken = l.places[StatusPlacesID(call.Dept.Code, c.StatusIndex)].Has(c.StatusIndex)
	if r, ok := l.certificates[c.Replaces]; ok {
		known.Predecessor = &r
	}
	return known
}

func (l *certificateLedger) authorisation(issuer DepartmentCode) *Authorisation {
	if a, ok := l.issuers[AuthorisationID(issuer, someTypeCode)]; ok {
		return &a
	}
	return nil
}

func (l *certificateLedger) authorise(t *rapid.T, call Call, way string) error {
	issuer := rapid.SampledFrom([]Department{policeDept, civilDept}).Draw(t, "issuer")
	existing := l.authorisation(issuer.Code)
	var a Authorisation
	var err error
	if way == "end" {
		a, err = EndAuthorisation(existing, call, EndAuthorisationArgs{issuer.Code, someTypeCode, "职责划转"})
	} else {
		args := someAuthorisationArgs()
		args.Issuer = issuer.Code
		a, err = Authorise(existing, &issuer, call, args)
	}
	if err == nil {
		l.issuers[AuthorisationID(issuer.Code, someTypeCode)] = a
	}
	return err
}

// put writes a change as the chaincode does and checks the records.
func (l *certificateLedger) put(t *rapid.T, change CertificateChange, call Call) {
	c := change.Certificate
	last, existed := l.certificates[c.Content.Ref]
	if existed == change.New {
		t.Fatalf("a change of %+v is new: %v", last, change.New)
	}
	if change.New {
		id, index := c.Content.CertID, c.Content.StatusIndex
		if _, taken := l.ids[id]; taken {
			t.Fatalf("identifier %s is issued twice", id)
		}
		key := StatusPlacesID(c.Issuer, index)
		if l.places[key].Has(index) {
			t.Fatalf("status index %d is taken twice", index)
		}
		taken, err := TakePlaces(map[int]*StatusPlaces{index / StatusPlacesLength: l.places[key]}, []int{index}, c.Issuer, call)
		if err != nil || len(taken) != 1 {
			t.Fatal(taken, err)
		}
		l.ids[id], l.places[key] = c.Content.Ref, taken[0]
	}
	if change.FreedID != "" {
		if c.Status != CertificateRejected || l.ids[change.FreedID] != c.Content.Ref {
			t.Fatalf("%s frees %s", c.Status, change.FreedID)
		}
		delete(l.ids, change.FreedID)
	}
	l.store(t, c, call)
	if old := change.Predecessor; old != nil {
		if old.Content.Ref != c.Content.Replaces || old.Successor != c.Content.Ref || old.Status != CertificateSuperseded || c.Status != CertificateValid {
			t.Fatalf("%+v supersedes %+v", c, old)
		}
		l.store(t, *old, call)
	}
}

// store writes one certificate and compares it with the one before.
func (l *certificateLedger) store(t *rapid.T, c Certificate, call Call) {
	ref := c.Content.Ref
	last, existed := l.certificates[ref]
	if !existed {
		last = Certificate{Issuer: c.Issuer, Content: c.Content}
	}
	if c.Issuer != last.Issuer || c.Content != last.Content || c.Seq != last.Seq+1 || c.TxTime.Before(last.TxTime) || c.Department != c.Issuer || !DigestHolds(&c) {
		t.Fatalf("from %+v to %+v", last, c)
	}
	if !slices.Contains(certificateStates[1:9], string(c.Status)) {
		t.Fatalf("status %q is not declared", c.Status)
	}
	if c.Status != last.Status && c.Status != CertificateProposed {
		from := call.Tx.Time
		if last.Pending != nil {
			from = last.Pending.Act.EffectiveAt
		}
		l.steps[ref] = append(l.steps[ref], statusStep{from, c.Status})
		if call.Who.Role != RoleReviewer {
			t.Fatalf("%s made it %s", call.Who.Role, c.Status)
		}
		if a := l.authorisation(c.Issuer); last.Status == CertificateProposed && c.Status == CertificateValid && (a == nil || a.StatusAt(call.Tx.Time) != AuthorisationActive) {
			t.Fatalf("issued without authorisation: %+v", a)
		}
	}
	if n := len(last.Changes); len(c.Changes) < n || fmt.Sprint(c.Changes[:n]) != fmt.Sprint(last.Changes) || len(c.Changes) > n+1 {
		t.Fatalf("changes %+v after %+v", c.Changes, last.Changes)
	}
	for i := 1; i < len(c.Changes); i++ {
		if before, after := c.Changes[i-1], c.Changes[i]; after.Since.Before(before.Since) || after.RecordedAt.Before(before.RecordedAt) || after.RecordedAt.Before(after.Since) {
			t.Fatalf("change %+v after %+v", after, before)
		}
	}
	ofObjection := c.Pending != nil && (c.Pending.Event == ObjectCertificate || c.Pending.Event == SettleCertificate)
	if c.Pending != nil && !ofObjection && c.Status != CertificateValid && c.Status != CertificateSuspended {
		t.Fatalf("%s with %+v pending", c.Status, c.Pending)
	}
	if opened, was := c.OpenObjection != nil, last.OpenObjection != nil; opened != was && (c.Status != last.Status || call.Who.Role != RoleReviewer || last.Pending == nil) {
		t.Fatalf("%s by %s opened or settled an objection: %+v", c.Status, call.Who.Role, last.Pending)
	}
	l.certificates[ref] = c
	l.reached[c.Status]++
	l.replay(t, c)
}

// replay compares the status at many times with what the steps make of it.
func (l *certificateLedger) replay(t *rapid.T, c Certificate) {
	steps := l.steps[c.Content.Ref]
	if len(steps) != len(c.Changes) {
		t.Fatalf("%d changes after %d steps", len(c.Changes), len(steps))
	}
	times := []time.Time{c.Content.Validity.From, c.Content.Validity.To, l.now, noon}
	for _, s := range steps {
		times = append(times, s.from)
	}
	for _, each := range times {
		for _, at := range []time.Time{each.Add(-1), each, each.Add(1)} {
			want := CertificateNotYetValid
			for _, s := range steps {
				if !s.from.After(at) {
					want = s.status
				}
			}
			switch {
			case c.Status == CertificateProposed || c.Status == CertificateRejected:
				want = c.Status
			case want == CertificateValid && at.Before(c.Content.Validity.From):
				want = CertificateNotYetValid
			case want == CertificateValid && !c.Content.Validity.To.After(at):
				want = CertificateExpired
			}
			if got := c.StatusAt(at); got != want {
				t.Fatalf("at %s it is %s, want %s: %+v", at, got, want, c.Changes)
			}
			l.reached[c.StatusAt(at)]++
		}
	}
}

// TestCertificateProperties runs random transactions of random callers: no
// sequence reaches an undeclared status, no identifier or status index is issued
// twice, nothing is issued without authorisation, the history only grows, and the
// status at any time is what the history makes of it.
func TestCertificateProperties(t *testing.T) {
	if err := flag.Set("rapid.checks", "10000"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = flag.Set("rapid.checks", "100") }()
	reached := map[CertificateStatus]int{}
	rapid.Check(t, func(t *rapid.T) {
		l := certificateLedger{
			certificates: map[string]Certificate{}, ids: map[string]string{}, places: map[string]*StatusPlaces{}, batches: map[string]Batch{},
			issuers: map[string]Authorisation{}, steps: map[string][]statusStep{}, now: noon, reached: reached,
		}
		for _, d := range []Department{policeDept, civilDept} {
			a := *authorisationIn("active")
			a.Issuer = d.Code
			l.issuers[AuthorisationID(d.Code, someTypeCode)] = a
		}
		for range rapid.IntRange(1, 16).Draw(t, "steps") {
			l.step(t)
		}
	})
	for _, status := range append([]string{"not_yet_valid", "expired"}, certificateStates[1:9]...) {
		if reached[CertificateStatus(status)] == 0 {
			t.Errorf("no sequence reached %s", status)
		}
	}
	t.Logf("reached %v", reached)
}
