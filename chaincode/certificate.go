package chaincode

import (
	"github.com/hyperledger/fabric-contract-api-go/v2/contractapi"

	"github.com/zhenglian/zhenglian/domain"
)

// certificate holds the transactions about electronic certificates 电子证照.
type certificate struct{ contractapi.Contract }

// Issue records a certificate; see [domain.IssueCertificate].
func (*certificate) Issue(t *transaction, arg string) (string, error) {
	args, err := parse[domain.IssueArgs](arg)
	if err != nil {
		return "", err
	}
	who, dept, tx, err := t.begin()
	if err != nil {
		return "", err
	}
	existing, err := load[domain.Certificate](t, domain.KindCertificate, args.Content.Ref)
	if err != nil {
		return "", err
	}
	issued, err := load[domain.IssuedID](t, domain.KindCertificateID, args.Content.CertID)
	if err != nil {
		return "", err
	}
	c, event, id, err := domain.IssueCertificate(existing, issued, who, dept, tx, args)
	if err != nil {
		return "", err
	}
	if err := t.put(domain.KindCertificateID, id.CertID, id); err != nil {
		return "", err
	}
	return t.putCertificate(c, event)
}

// Revoke records a revocation 撤销; see [domain.RevokeCertificate].
func (*certificate) Revoke(t *transaction, arg string) (string, error) {
	args, err := parse[domain.RevokeArgs](arg)
	if err != nil {
		return "", err
	}
	who, _, tx, err := t.begin()
	if err != nil {
		return "", err
	}
	existing, err := load[domain.Certificate](t, domain.KindCertificate, args.Ref)
	if err != nil {
		return "", err
	}
	c, event, err := domain.RevokeCertificate(existing, who, tx, args)
	if err != nil {
		return "", err
	}
	return t.putCertificate(c, event)
}

func (t *transaction) putCertificate(c domain.Certificate, event domain.CertificateEvent) (string, error) {
	ref := c.Content.Ref
	if err := t.put(domain.KindCertificate, ref, c); err != nil {
		return "", err
	}
	if err := t.put(domain.KindCertificateEvent, domain.EventID(ref, event.Seq), event); err != nil {
		return "", err
	}
	return answer(c)
}

// Get answers a certificate.
func (*certificate) Get(t *transaction, arg string) (string, error) {
	args, err := parse[domain.RefArgs](arg)
	if err != nil {
		return "", err
	}
	return get[domain.Certificate](t, domain.KindCertificate, args.Ref)
}
