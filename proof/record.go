package proof

import (
	"strings"

	"github.com/zhenglian/zhenglian/domain"
)

// A recordReader reads the records of one kind.
type recordReader struct {
	schema string // the only one that this release knows
	read   func(data []byte) (record domain.Record, id string, err error)
}

// recordReaders has a reader for every [domain.RecordKind].
var recordReaders = map[domain.RecordKind]recordReader{
	domain.KindDepartment:       reader(domain.SchemaDepartment, func(r *domain.Department) string { return string(r.Code) }),
	domain.KindCatalogEntry:     reader(domain.SchemaCatalogEntry, func(r *domain.CatalogEntry) string { return r.Content.Code }),
	domain.KindCatalogVersion:   reader(domain.SchemaCatalogVersion, func(r *domain.CatalogVersion) string { return domain.VersionID(r.Content.Code, r.Version) }),
	domain.KindRequest:          reader(domain.SchemaRequest, func(r *domain.ShareRequest) string { return r.Content.ID }),
	domain.KindRequestEvent:     reader(domain.SchemaRequestEvent, func(r *domain.RequestEvent) string { return domain.EventID(r.RequestID, r.Seq) }),
	domain.KindGrant:            reader(domain.SchemaGrant, func(r *domain.Grant) string { return r.ID }),
	domain.KindLog:              reader(domain.SchemaLog, func(r *domain.LogRegistration) string { return string(r.Owner) }),
	domain.KindAnchor:           reader(domain.SchemaAnchor, func(r *domain.Anchor) string { return domain.AnchorID(r.Owner, r.Size) }),
	domain.KindCertificate:      reader(domain.SchemaCertificate, func(r *domain.Certificate) string { return r.Content.Ref }),
	domain.KindCertificateEvent: reader(domain.SchemaCertificateEvent, func(r *domain.CertificateEvent) string { return domain.EventID(r.Ref, r.Seq) }),
	domain.KindCertificateID:    reader(domain.SchemaCertificateID, func(r *domain.IssuedID) string { return r.CertID }),
}

// reader makes the reader of the record type T.
func reader[T any, P interface {
	*T
	domain.Record
}](schema string, id func(P) string) recordReader {
	return recordReader{schema: schema, read: func(data []byte) (domain.Record, string, error) {
		record := P(new(T))
		if err := domain.ParseCanonical(data, record); err != nil {
			return nil, "", err
		}
		return record, id(record), nil
	}}
}

// knowsRecord reports whether this release can read the record in the statement.
func knowsRecord(s *domain.Statement) bool {
	rest, ok := strings.CutPrefix(s.Record, `{"schema":"`)
	schema, _, _ := strings.Cut(rest, `"`)
	return ok && schema == recordReaders[s.Kind].schema
}

// checkRecord checks that the record in the statement is whole and the one that
// was asked for, and that the status stated follows from it. Requires
// knowsRecord(s).
func checkRecord(s *domain.Statement) error {
	record, id, err := recordReaders[s.Kind].read([]byte(s.Record))
	if err != nil {
		return err
	}
	if id != s.ID {
		return invalidf("the record is not the one asked for")
	}
	if !domain.DigestHolds(record) {
		return invalidf("the record does not match its digest")
	}
	status, err := domain.StatementStatus(s.Kind, []byte(s.Record), s.AsOf)
	if err != nil {
		return err
	}
	if status != s.Status {
		return invalidf("the status stated does not follow from the record")
	}
	return nil
}
