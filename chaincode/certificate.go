package chaincode

import (
	"fmt"
	"strings"

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
		return change.Certificate, t.putCertificate(change)
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
		return t.putCertificates(changes)
	})
}

// Propose proposes a change of a certificate's status; see [domain.ProposeStatus].
func (*certificate) Propose(t *transaction, arg string) (string, error) {
	return submit(t, arg, func(args domain.ProposeArgs) (any, error) {
		existing, err := load[domain.Certificate](t, domain.KindCertificate, args.Ref)
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
		return change.Certificate, t.putCertificate(change)
	})
}

// Decide records a reviewer's decision; see [domain.DecideCertificate].
func (*certificate) Decide(t *transaction, arg string) (string, error) {
	return submit(t, arg, func(args domain.DecideArgs) (any, error) {
		known, call, err := t.deciding([]string{args.Ref})
		if err != nil {
			return nil, err
		}
		change, err := domain.DecideCertificate(known[0], call, args)
		if err != nil {
			return nil, err
		}
		return change.Certificate, t.putCertificate(change)
	})
}

// DecideBatch records one decision on many certificates; see
// [domain.DecideCertificate]. A refusal names every certificate that stands in the
// way.
func (*certificate) DecideBatch(t *transaction, arg string) (string, error) {
	return submit(t, arg, func(args domain.DecideBatchArgs) (any, error) {
		known, call, err := t.deciding(args.Refs)
		if err != nil {
			return nil, err
		}
		changes := make([]domain.CertificateChange, len(args.Refs))
		var found domain.Refusals
		for i, ref := range args.Refs {
			one := domain.DecideArgs{Ref: ref, Decision: args.Decision, Opinion: args.Opinion}
			if changes[i], err = domain.DecideCertificate(known[i], call, one); err != nil && !found.Add(fmt.Sprintf("refs[%d]", i), err) {
				return nil, err
			}
		}
		if err := found.Err(); err != nil {
			return nil, err
		}
		return t.putCertificates(changes)
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
// message. The contents are not validated yet; see [transaction.registered].
func (t *transaction) issuing(contents ...domain.CertificateContent) ([]domain.IssueRecords, domain.Call, error) {
	for _, c := range contents {
		t.want(domain.KindCertificate, c.Ref)
		t.want(domain.KindCertificateID, c.CertID)
		t.want(domain.KindStatusIndex, domain.StatusIndexID(t.who.Department, c.StatusIndex))
		t.want(domain.KindIssuer, domain.AuthorisationID(t.who.Department, c.TypeCode))
		if c.Replaces != "" {
			t.want(domain.KindCertificate, c.Replaces)
		}
	}
	known := make([]domain.IssueRecords, len(contents))
	var authorised authorisations
	for i, c := range contents {
		var err error
		one := &known[i]
		if one.Existing, err = load[domain.Certificate](t, domain.KindCertificate, c.Ref); err != nil {
			return nil, domain.Call{}, err
		}
		if one.Issued, err = load[domain.IssuedID](t, domain.KindCertificateID, c.CertID); err != nil {
			return nil, domain.Call{}, err
		}
		if one.Indexed, err = load[domain.StatusIndex](t, domain.KindStatusIndex, domain.StatusIndexID(t.who.Department, c.StatusIndex)); err != nil {
			return nil, domain.Call{}, err
		}
		if one.Authorisation, err = authorised.load(t, t.who.Department, c.TypeCode); err != nil {
			return nil, domain.Call{}, err
		}
		if c.Replaces == "" {
			continue
		}
		if one.Predecessor, err = load[domain.Certificate](t, domain.KindCertificate, c.Replaces); err != nil {
			return nil, domain.Call{}, err
		}
	}
	call, err := t.call()
	return known, call, err
}

// deciding reads what the ledger holds about certificates to decide on: they
// themselves with one message, then, with another, the authorisations for those
// that wait to be issued and what these replace.
func (t *transaction) deciding(refs []string) ([]domain.DecideRecords, domain.Call, error) {
	list, err := loadAll[domain.Certificate](t, domain.KindCertificate, refs)
	if err != nil {
		return nil, domain.Call{}, err
	}
	for _, c := range list {
		if c == nil || c.Status != domain.CertificateProposed {
			continue
		}
		t.want(domain.KindIssuer, domain.AuthorisationID(c.Issuer, c.Content.TypeCode))
		if c.Content.Replaces != "" {
			t.want(domain.KindCertificate, c.Content.Replaces)
		}
	}
	known := make([]domain.DecideRecords, len(list))
	var authorised authorisations
	for i, c := range list {
		known[i].Existing = c
		if c == nil || c.Status != domain.CertificateProposed {
			continue
		}
		if known[i].Authorisation, err = authorised.load(t, c.Issuer, c.Content.TypeCode); err != nil {
			return nil, domain.Call{}, err
		}
		if c.Content.Replaces == "" {
			continue
		}
		if known[i].Predecessor, err = load[domain.Certificate](t, domain.KindCertificate, c.Content.Replaces); err != nil {
			return nil, domain.Call{}, err
		}
	}
	call, err := t.call()
	return known, call, err
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

// putCertificate writes a change of a certificate. All its records are the
// issuer's own: none of them changes without its peer.
func (t *transaction) putCertificate(change domain.CertificateChange) error {
	c := change.Certificate
	if change.Index == nil {
		if err := t.put(domain.KindCertificate, c.Content.Ref, c); err != nil {
			return err
		}
		if change.FreedID != "" {
			return t.free(domain.KindCertificateID, change.FreedID)
		}
		if old := change.Predecessor; old != nil {
			return t.put(domain.KindCertificate, old.Content.Ref, old)
		}
		return nil
	}
	own, err := t.endorsedBy(c.Issuer)
	if err != nil {
		return err
	}
	if err := t.create(domain.KindCertificate, c.Content.Ref, c, own); err != nil {
		return err
	}
	if err := t.create(domain.KindCertificateID, change.ID.CertID, change.ID, own); err != nil {
		return err
	}
	return t.create(domain.KindStatusIndex, domain.StatusIndexID(c.Issuer, change.Index.Index), change.Index, own)
}

// putCertificates writes changes of different certificates and sums them up.
func (t *transaction) putCertificates(changes []domain.CertificateChange) (any, error) {
	result := domain.CertificateBatchResult{Status: changes[0].Certificate.Status}
	var digests []string
	for _, change := range changes {
		if err := t.putCertificate(change); err != nil {
			return nil, err
		}
		if change.Certificate.Status != result.Status {
			result.Status = ""
		}
		result.Refs = append(result.Refs, change.Certificate.Content.Ref)
		digests = append(digests, change.Certificate.Digest)
	}
	result.Digest = domain.Digest([]byte(strings.Join(digests, "\n")))
	return result, nil
}
