package chaincode

import (
	"github.com/hyperledger/fabric-contract-api-go/v2/contractapi"

	"github.com/zhenglian/zhenglian/domain"
)

// certificate holds the transactions about electronic certificates 电子证照.
type certificate struct{ contractapi.Contract }

// Issue records a certificate; see [domain.IssueCertificate].
func (*certificate) Issue(t *transaction, arg string) (string, error) {
	return submit(t, arg, func(args domain.IssueArgs) (any, error) {
		t.want(domain.KindCertificateID, args.Content.CertID)
		existing, err := load[domain.Certificate](t, domain.KindCertificate, args.Content.Ref)
		if err != nil {
			return nil, err
		}
		issued, err := load[domain.IssuedID](t, domain.KindCertificateID, args.Content.CertID)
		if err != nil {
			return nil, err
		}
		call, err := t.call()
		if err != nil {
			return nil, err
		}
		c, event, id, err := domain.IssueCertificate(existing, issued, call.Who, call.Dept, call.Tx, args)
		if err != nil {
			return nil, err
		}
		own, err := t.endorsedBy(c.Issuer)
		if err != nil {
			return nil, err
		}
		if err := t.create(domain.KindCertificate, c.Content.Ref, c, own); err != nil {
			return nil, err
		}
		if err := t.create(domain.KindCertificateID, id.CertID, id, own); err != nil {
			return nil, err
		}
		return c, t.create(domain.KindCertificateEvent, domain.EventID(c.Content.Ref, event.Seq), event, own)
	})
}

// Revoke records a revocation 撤销; see [domain.RevokeCertificate].
func (*certificate) Revoke(t *transaction, arg string) (string, error) {
	return submit(t, arg, func(args domain.RevokeArgs) (any, error) {
		existing, err := load[domain.Certificate](t, domain.KindCertificate, args.Ref)
		if err != nil {
			return nil, err
		}
		call, err := t.call()
		if err != nil {
			return nil, err
		}
		c, event, err := domain.RevokeCertificate(existing, call.Who, call.Tx, args)
		if err != nil {
			return nil, err
		}
		own, err := t.endorsedBy(c.Issuer)
		if err != nil {
			return nil, err
		}
		if err := t.put(domain.KindCertificate, c.Content.Ref, c); err != nil {
			return nil, err
		}
		return c, t.create(domain.KindCertificateEvent, domain.EventID(c.Content.Ref, event.Seq), event, own)
	})
}

// Get answers a certificate.
func (*certificate) Get(t *transaction, arg string) (string, error) {
	return get[domain.Certificate](t, arg, domain.KindCertificate, func(a domain.RefArgs) string { return a.Ref })
}
