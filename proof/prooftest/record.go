package prooftest

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

// The certificate of this package and the nonce with which it is asked for.
const (
	Ref       = "5f1d3c9a7be24806b1c0d2e4f6a89713"
	Nonce     = "00112233445566778899aabbccddeeff"
	CheckCode = "K7QXM2RTWH"
)

// SuccessorRef is the reference of what replaces the certificate of this package.
const SuccessorRef = "0c7b61d2f3a84e95b0d1c2e3f4a5b6c7"

// Certificate returns a certificate that was issued ten days before Epoch and is
// in force for two years.
func (c *Consortium) Certificate() domain.Certificate {
	issued := Epoch.AddDate(0, 0, -10).Truncate(time.Second)
	issuer := c.Departments[len(c.Departments)-1]
	cert := domain.Certificate{
		Meta: meta(domain.SchemaCertificate, issuer, domain.RoleReviewer, issued),
		Content: domain.CertificateContent{
			Ref:           Ref,
			TypeCode:      issuer.USCC + "001",
			TypeNameZh:    "示例许可证",
			TypeNameEn:    "Sample permit",
			IssuerUSCC:    issuer.USCC,
			HolderKind:    "organisation",
			HolderRef:     hash("holder"),
			IssuedAt:      issued,
			Validity:      domain.Period{From: issued, To: issued.AddDate(2, 0, 0)},
			ServiceItem:   "11000000000000000000000000000000",
			ContentDigest: hash("content"),
			CheckCodeHash: domain.CheckCodeHash(Ref, CheckCode),
			StatusIndex:   131_071,
		},
		Issuer:      issuer.Code,
		Status:      domain.CertificateValid,
		StatusSince: issued,
		Changes:     []domain.StatusChange{{Status: domain.CertificateValid, Since: issued, RecordedAt: issued}},
		Seq:         2,
	}
	id, err := domain.CertificateID{TypeCode: cert.Content.TypeCode, IssuerCode: issuer.USCC, Serial: "0001", Version: "001"}.Compose()
	must(err)
	cert.Content.CertID = id
	return cert
}

// Proposed returns the certificate as an operator proposed it, before anybody
// decided.
func (c *Consortium) Proposed() domain.Certificate {
	cert := c.Certificate()
	cert.Meta = meta(domain.SchemaCertificate, c.Department(cert.Issuer), domain.RoleOperator, cert.Content.IssuedAt)
	cert.Status, cert.Changes, cert.Seq = domain.CertificateProposed, []domain.StatusChange{}, 1
	return cert
}

// Revoked returns the certificate as revoked one day before Epoch.
func (c *Consortium) Revoked() domain.Certificate {
	return c.Changed(c.Certificate(), domain.CertificateRevoked, Epoch.AddDate(0, 0, -1))
}

// Changed returns the certificate after a change of its status that took effect,
// and was recorded, at a time.
func (c *Consortium) Changed(cert domain.Certificate, status domain.CertificateStatus, at time.Time) domain.Certificate {
	at = at.Truncate(time.Second)
	change := domain.StatusChange{Status: status, Since: at, RecordedAt: at}
	switch status { //nolint:exhaustive // every other status needs an act
	case domain.CertificateRejected:
	case domain.CertificateSuperseded:
		change.Successor = SuccessorRef
	default:
		change.Act = &domain.StatusAct{DocumentNo: "示决〔2026〕1号", LegalBasis: "示例法第一条", ReasonCode: "issued_in_error", EffectiveAt: at}
	}
	cert.Meta = meta(domain.SchemaCertificate, c.Department(cert.Issuer), domain.RoleReviewer, at)
	cert.Status, cert.StatusSince, cert.StatusAct, cert.Successor = status, at, change.Act, change.Successor
	cert.Changes = append(slices.Clone(cert.Changes), change)
	cert.Seq++
	return cert
}

// AttestCertificate returns the signed read of a certificate at Epoch, with the
// status given.
func (c *Consortium) AttestCertificate(cert domain.Certificate, status domain.CertificateStatus) *Read {
	return c.Attest(c.Statement(domain.KindCertificate, cert.Content.Ref, Nonce, Seal(&cert, &cert.Meta), string(status)))
}

// AttestDepartment returns the signed read of a record without a status.
func (c *Consortium) AttestDepartment() *Read {
	d := c.Departments[0]
	record := domain.Department{
		Meta:   meta(domain.SchemaDepartment, d, domain.RoleAdmin, Epoch.AddDate(0, -1, 0)),
		Code:   d.Code,
		MSPID:  d.MSPID,
		NameZh: d.NameZh,
		NameEn: d.NameEn,
		USCC:   d.USCC,
		Lead:   true,
	}
	return c.Attest(c.Statement(domain.KindDepartment, string(d.Code), Nonce, Seal(&record, &record.Meta), ""))
}

// AttestNothing returns the signed read of a certificate that does not exist.
func (c *Consortium) AttestNothing() *Read {
	return c.Attest(c.Statement(domain.KindCertificate, Ref, Nonce, nil, ""))
}

// AttestRequest returns the signed read of a share request whose answer is due at
// a time, with the status given.
func (c *Consortium) AttestRequest(state domain.RequestState, due time.Time, status domain.RequestState) *Read {
	record := domain.ShareRequest{
		Meta: meta(domain.SchemaRequest, c.Departments[0], domain.RoleReviewer, Epoch.AddDate(0, 0, -20)), Consumer: "civil", Provider: "police",
		State: state, Clock: &domain.Clock{Calendars: []domain.CalendarRef{}, StartedAt: Epoch.AddDate(0, 0, -20), DueAt: due},
	}
	record.Content.ID = Ref
	return c.Attest(c.Statement(domain.KindRequest, Ref, Nonce, Seal(&record, &record.Meta), string(status)))
}

// AttestGrant returns the signed read of a grant that runs for a month around
// Epoch, with the status given.
func (c *Consortium) AttestGrant(state, status domain.GrantState) *Read {
	record := domain.Grant{
		Meta: meta(domain.SchemaGrant, c.Departments[0], domain.RoleReviewer, Epoch.AddDate(0, 0, -15)), ID: Ref, RequestID: Ref,
		Items: []string{}, Provider: "police", Consumer: "civil", State: state,
		Period: domain.Period{From: Epoch.AddDate(0, 0, -15), To: Epoch.AddDate(0, 0, 15)},
	}
	return c.Attest(c.Statement(domain.KindGrant, Ref, Nonce, Seal(&record, &record.Meta), string(status)))
}

// Seal fills the digest of a record, which must be a pointer, and returns its
// stored bytes. m points to the record's own opening.
func Seal(record any, m *domain.Meta) []byte {
	m.Digest = ""
	m.Digest = domain.Digest(canonical(record))
	return canonical(record)
}

func meta(schema string, d *Department, role domain.Role, at time.Time) domain.Meta {
	return domain.Meta{Schema: schema, Department: d.Code, Role: role, TxID: domain.TxID(hash("tx " + schema)), TxTime: at.Truncate(time.Millisecond)}
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
