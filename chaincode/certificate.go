package chaincode

import (
	"fmt"

	"github.com/hyperledger/fabric-contract-api-go/v2/contractapi"

	"github.com/zhenglian/zhenglian/domain"
)

// certificate holds the transactions about electronic certificates 电子证照.
type certificate struct{ contractapi.Contract }

// Authorise lets a department issue a type of certificate; see
// [domain.Authorise].
func (*certificate) Authorise(t *transaction, arg string) (string, error) {
	return submit(t, arg, func(args domain.AuthoriseArgs) (any, error) {
		t.want(domain.KindDepartment, string(args.Issuer))
		existing, call, err := t.authorisation(args.Issuer, args.TypeCode)
		if err != nil {
			return nil, err
		}
		issuer, err := load[domain.Department](t, domain.KindDepartment, string(args.Issuer))
		if err != nil {
			return nil, err
		}
		a, err := domain.Authorise(existing, issuer, call, args)
		if err != nil {
			return nil, err
		}
		return a, t.put(domain.KindIssuer, domain.AuthorisationID(a.Issuer, a.TypeCode), a)
	})
}

// EndAuthorisation ends an authorisation; see [domain.EndAuthorisation].
func (*certificate) EndAuthorisation(t *transaction, arg string) (string, error) {
	return submit(t, arg, func(args domain.EndAuthorisationArgs) (any, error) {
		existing, call, err := t.authorisation(args.Issuer, args.TypeCode)
		if err != nil {
			return nil, err
		}
		a, err := domain.EndAuthorisation(existing, call, args)
		if err != nil {
			return nil, err
		}
		return a, t.put(domain.KindIssuer, domain.AuthorisationID(a.Issuer, a.TypeCode), a)
	})
}

// GetAuthorisation answers an authorisation.
func (*certificate) GetAuthorisation(t *transaction, arg string) (string, error) {
	return get[domain.Authorisation](t, arg, domain.KindIssuer, func(a domain.AuthorisationArgs) string {
		return domain.AuthorisationID(a.Issuer, a.TypeCode)
	})
}

// Issue proposes a certificate; see [domain.IssueCertificate].
func (*certificate) Issue(t *transaction, arg string) (string, error) {
	return submitContent(t, arg, func(args domain.IssueArgs) (any, error) {
		known, call, err := t.issuing(args.Content)
		if err != nil {
			return nil, err
		}
		change, err := domain.IssueCertificate(known[0], call, args)
		if err != nil {
			return nil, err
		}
		return t.putCertificate(call, change)
	})
}

// IssueBatch proposes many certificates; see [domain.IssueCertificateBatch].
func (*certificate) IssueBatch(t *transaction, arg string) (string, error) {
	return submitContent(t, arg, func(args domain.IssueBatchArgs) (any, error) {
		if len(args.Contents) > domain.MaxBatch {
			return nil, args.Validate()
		}
		known, call, err := t.issuing(args.Contents...)
		if err != nil {
			return nil, err
		}
		changes, err := domain.IssueCertificateBatch(known, call, args)
		if err != nil {
			return nil, err
		}
		return t.putMany(call, changes)
	})
}

// Propose proposes a change of a certificate's status; see [domain.ProposeStatus].
func (*certificate) Propose(t *transaction, arg string) (string, error) {
	return submit(t, arg, func(args domain.ProposeArgs) (any, error) {
		existing, err := t.certificate(args.Ref)
		if err != nil {
			return nil, err
		}
		call, err := t.call()
		if err != nil {
			return nil, err
		}
		change, err := domain.ProposeStatus(existing, call, args)
		if err != nil {
			return nil, err
		}
		if err := t.batches[domain.BatchOf(args.Ref)].RoomFor(args.Event); err != nil {
			return nil, err
		}
		return t.putCertificate(call, change)
	})
}

// Decide records a reviewer's decision; see [domain.DecideCertificate].
func (*certificate) Decide(t *transaction, arg string) (string, error) {
	return submit(t, arg, func(args domain.DecideArgs) (any, error) {
		known := []domain.DecideRecords{{Ref: args.Ref}}
		call, err := t.deciding(known)
		if err != nil {
			return nil, err
		}
		change, err := domain.DecideCertificate(known[0], call, args)
		if err != nil {
			return nil, err
		}
		return t.putCertificate(call, change)
	})
}

// DecideBatch records one decision on many certificates; see
// [domain.DecideCertificateBatch].
func (*certificate) DecideBatch(t *transaction, arg string) (string, error) {
	return submit(t, arg, func(args domain.DecideBatchArgs) (any, error) {
		known := make([]domain.DecideRecords, len(args.Refs))
		for i, ref := range args.Refs {
			known[i] = domain.DecideRecords{At: fmt.Sprintf("refs[%d]", i), Ref: ref}
		}
		call, err := t.deciding(known)
		if err != nil {
			return nil, err
		}
		changes, err := domain.DecideCertificateBatch(known, call, args)
		if err != nil {
			return nil, err
		}
		return t.putMany(call, changes)
	})
}

// Get answers a certificate.
func (*certificate) Get(t *transaction, arg string) (string, error) {
	return get[domain.Certificate](t, arg, domain.KindCertificate, func(a domain.RefArgs) string { return a.Ref })
}

// authorisation reads an authorisation, nil when there is none.
func (t *transaction) authorisation(issuer domain.DepartmentCode, typeCode string) (*domain.Authorisation, domain.Call, error) {
	existing, err := load[domain.Authorisation](t, domain.KindIssuer, domain.AuthorisationID(issuer, typeCode))
	if err != nil {
		return nil, domain.Call{}, err
	}
	call, err := t.call()
	return existing, call, err
}

// issuing reads what the ledger holds about certificates to issue, with one
// message, and with others what they replace and what has their identifiers
// already. The contents are not validated yet; see [transaction.registered].
func (t *transaction) issuing(contents ...domain.CertificateContent) ([]domain.IssueRecords, domain.Call, error) {
	fail := func(err error) ([]domain.IssueRecords, domain.Call, error) { return nil, domain.Call{}, err }
	for _, c := range contents {
		t.want(domain.KindIssuingBatch, domain.BatchOf(c.Ref))
		t.want(domain.KindCertificateID, domain.IssuedIDKey(c.CertID))
		t.want(domain.KindStatusPlaces, domain.StatusPlacesID(t.who.Department, c.StatusIndex))
		t.want(domain.KindIssuer, domain.AuthorisationID(t.who.Department, c.TypeCode))
		if c.Replaces != "" {
			t.wantCertificate(c.Replaces)
		}
	}
	known := make([]domain.IssueRecords, len(contents))
	bearers := make([]string, len(contents))
	recorded := make(map[string]bool) // batches
	var authorised authorisations
	for i, c := range contents {
		one := &known[i]
		id := domain.BatchOf(c.Ref)
		if _, known := recorded[id]; !known {
			b, err := load[domain.IssuingBatch](t, domain.KindIssuingBatch, id)
			if err != nil {
				return fail(err)
			}
			recorded[id] = b != nil
		}
		one.Existing = recorded[id]
		var err error
		if one.Authorisation, err = authorised.load(t, t.who.Department, c.TypeCode); err != nil {
			return fail(err)
		}
		places, err := t.statusPlaces(c.StatusIndex)
		if err != nil {
			return fail(err)
		}
		one.IndexTaken = places.Has(c.StatusIndex)
		if bearers[i], err = t.bearer(c.CertID); err != nil {
			return fail(err)
		}
		if bearers[i] != "" {
			t.wantCertificate(bearers[i])
		}
	}
	for i, c := range contents {
		var err error
		if bearers[i] != "" {
			if known[i].Issued, err = t.issuedID(c.CertID); err != nil {
				return fail(err)
			}
		}
		if known[i].Predecessor, err = t.certificate(c.Replaces); err != nil {
			return fail(err)
		}
	}
	call, err := t.call()
	return known, call, err
}

// deciding reads what the ledger holds about certificates to decide on: they
// themselves, then the authorisations for those that wait to be issued and what
// these replace.
func (t *transaction) deciding(known []domain.DecideRecords) (domain.Call, error) {
	for _, one := range known {
		t.wantCertificate(one.Ref)
	}
	var issues []int // those that wait to be issued
	for i := range known {
		var err error
		if known[i].Existing, err = t.certificate(known[i].Ref); err != nil {
			return domain.Call{}, err
		}
		c := known[i].Existing
		if c == nil || c.Status != domain.CertificateProposed {
			continue
		}
		issues = append(issues, i)
		t.want(domain.KindIssuer, domain.AuthorisationID(c.Issuer, c.Content.TypeCode))
		if c.Content.Replaces != "" {
			t.wantCertificate(c.Content.Replaces)
		}
	}
	var authorised authorisations
	for _, i := range issues {
		var err error
		c := known[i].Existing
		if known[i].Authorisation, err = authorised.load(t, c.Issuer, c.Content.TypeCode); err != nil {
			return domain.Call{}, err
		}
		if known[i].Predecessor, err = t.certificate(known[i].Existing.Content.Replaces); err != nil {
			return domain.Call{}, err
		}
	}
	return t.call()
}

// putCertificates writes changes of different certificates, each batch once, and
// answers the ids of the batches. Batches and taken places in status lists are the
// issuer's own: none changes without its peer. What an identifier leads to says nothing
// by itself and costs no endorsement of its own; see [domain.IssuedID].
func (t *transaction) putCertificates(call domain.Call, changes ...domain.CertificateChange) ([]string, error) {
	var created []domain.CertificateChange
	var ids []string                                          // of changed batches
	changed := make(map[string]map[string]domain.Certificate) // by batch and reference
	change := func(c domain.Certificate) {
		id := domain.BatchOf(c.Content.Ref)
		if changed[id] == nil {
			changed[id] = make(map[string]domain.Certificate)
			ids = append(ids, id)
		}
		changed[id][c.Content.Ref] = c
	}
	for _, c := range changes {
		if c.New {
			created = append(created, c)
			continue
		}
		if change(c.Certificate); c.Predecessor != nil {
			change(*c.Predecessor)
		}
		if c.FreedID != "" {
			if err := t.free(domain.KindCertificateID, domain.IssuedIDKey(c.FreedID)); err != nil {
				return nil, err
			}
		}
	}
	for _, id := range ids {
		status, err := t.batches[id].Changed(changed[id], call)
		if err != nil {
			return nil, err
		}
		if err := t.put(domain.KindBatchStatus, id, status); err != nil {
			return nil, err
		}
	}
	if len(created) == 0 {
		return ids, nil
	}
	return t.createBatches(call, created)
}

// createBatches writes new certificates and answers the ids of their batches.
func (t *transaction) createBatches(call domain.Call, changes []domain.CertificateChange) ([]string, error) {
	own, err := t.endorsedBy(call.Dept.Code)
	if err != nil {
		return nil, err
	}
	batches, err := domain.NewBatches(changes, call)
	if err != nil {
		return nil, err
	}
	var ids []string
	var indexes []int
	for _, b := range batches {
		id := b.Issued.ID()
		ids = append(ids, id)
		if err := t.create(domain.KindIssuingBatch, id, b.Issued, own); err != nil {
			return nil, err
		}
		if err := t.create(domain.KindBatchStatus, id, b.Status, own); err != nil {
			return nil, err
		}
		for row := range b.Size() {
			c := b.Issued.Content.Content(row)
			if err := t.put(domain.KindCertificateID, domain.IssuedIDKey(c.CertID), c.Ref); err != nil {
				return nil, err
			}
			indexes = append(indexes, c.StatusIndex)
		}
	}
	places, err := domain.TakePlaces(t.places, indexes, call.Dept.Code, call)
	if err != nil {
		return nil, err
	}
	for _, p := range places {
		var policy []byte // as before
		if t.places[p.Number] == nil {
			policy = own
		}
		if err := t.create(domain.KindStatusPlaces, domain.StatusPlacesID(p.Issuer, p.Number*domain.StatusPlacesLength), p, policy); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// putCertificate writes the change of one certificate and answers its record.
func (t *transaction) putCertificate(call domain.Call, change domain.CertificateChange) (any, error) {
	_, err := t.putCertificates(call, change)
	return change.Certificate, err
}

// putMany writes changes of different certificates and sums them up.
func (t *transaction) putMany(call domain.Call, changes []domain.CertificateChange) (any, error) {
	ids, err := t.putCertificates(call, changes...)
	result := domain.CertificateBatchResult{Batches: ids, Count: len(changes), Status: changes[0].Certificate.Status}
	for _, change := range changes {
		if change.Certificate.Status != result.Status {
			result.Status = ""
		}
	}
	return result, err
}

// authorisations are those that a batch has parsed, by id: all of its certificates
// are mostly of one type.
type authorisations map[string]*domain.Authorisation

func (a *authorisations) load(t *transaction, issuer domain.DepartmentCode, typeCode string) (*domain.Authorisation, error) {
	id := domain.AuthorisationID(issuer, typeCode)
	if known, ok := (*a)[id]; ok {
		return known, nil
	}
	record, err := load[domain.Authorisation](t, domain.KindIssuer, id)
	if err != nil {
		return nil, err
	}
	if *a == nil {
		*a = make(authorisations)
	}
	(*a)[id] = record
	return record, nil
}
