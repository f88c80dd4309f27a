package proof

import (
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

// A recordReader reads the records of one kind.
type recordReader struct {
	schema string // the only one that this release knows
	// read reads a record and reports whether it is the one with the id.
	read func(data []byte, id string) (record domain.Record, named bool, err error)
}

// recordReaders has a reader for each of [domain.RecordKinds].
var recordReaders = map[domain.RecordKind]recordReader{
	domain.KindDepartment:      reader(domain.SchemaDepartment, func(r *domain.Department) string { return string(r.Code) }),
	domain.KindMembers:         reader(domain.SchemaMembers, func(*domain.Members) string { return domain.MembersID }),
	domain.KindCalendar:        reader(domain.SchemaCalendar, func(r *domain.Calendar) string { return strconv.Itoa(r.Year) }),
	domain.KindCalendarVersion: reader(domain.SchemaCalendar, func(r *domain.Calendar) string { return domain.VersionID(strconv.Itoa(r.Year), r.Version) }),
	domain.KindRule:            reader(domain.SchemaRule, func(r *domain.DeadlineRule) string { return string(r.Event) }),
	domain.KindRuleVersion:     reader(domain.SchemaRule, func(r *domain.DeadlineRule) string { return domain.VersionID(string(r.Event), r.Version) }),
	domain.KindCatalogEntry:    reader(domain.SchemaCatalogEntry, func(r *domain.CatalogEntry) string { return r.Content.Code }),
	domain.KindCatalogVersion:  reader(domain.SchemaCatalogVersion, func(r *domain.CatalogVersion) string { return domain.VersionID(r.Content.Code, r.Version) }),
	domain.KindCatalogEvent:    reader(domain.SchemaCatalogEvent, func(r *domain.CatalogEvent) string { return domain.CatalogEventID(r.TxID, r.Provider) }),
	domain.KindRequest:         reader(domain.SchemaRequest, func(r *domain.ShareRequest) string { return r.Content.ID }),
	domain.KindRequestEvent:    reader(domain.SchemaRequestEvent, func(r *domain.RequestEvent) string { return domain.EventID(r.RequestID, r.Seq) }),
	domain.KindGrant:           reader(domain.SchemaGrant, func(r *domain.Grant) string { return r.ID }),
	domain.KindGrantEvent:      reader(domain.SchemaGrantEvent, func(r *domain.GrantEvent) string { return domain.EventID(r.GrantID, r.Seq) }),
	domain.KindOperation:       reader(domain.SchemaOperation, func(r *domain.Operation) string { return domain.OperationID(r.Department, r.Operation) }),
	domain.KindLog:             reader(domain.SchemaLog, func(r *domain.LogRegistration) string { return string(r.Owner) }),
	domain.KindAnchor:          reader(domain.SchemaAnchor, func(r *domain.Anchor) string { return domain.AnchorID(r.Owner, r.Size) }),
	domain.KindAlarm:           reader(domain.SchemaAlarm, func(r *domain.Alarm) string { return r.ID }),
	domain.KindAlarmEvent:      reader(domain.SchemaAlarmEvent, func(r *domain.AlarmEvent) string { return domain.EventID(r.AlarmID, r.Seq) }),
	domain.KindIssuer:          reader(domain.SchemaAuthorisation, func(r *domain.Authorisation) string { return domain.AuthorisationID(r.Issuer, r.TypeCode) }),
	domain.KindCertificate:     reader(domain.SchemaCertificate, func(r *domain.Certificate) string { return r.Content.Ref }),
	domain.KindCertificateID:   reader(domain.SchemaCertificateID, func(r *domain.IssuedID) string { return r.CertID }),
	domain.KindIssuingBatch:    reader(domain.SchemaIssuingBatch, func(r *domain.IssuingBatch) string { return r.ID() }),
	domain.KindBatchStatus:     reader(domain.SchemaBatchStatus, func(r *domain.BatchStatus) string { return r.Batch }),
	domain.KindStatusPlaces:    reader(domain.SchemaStatusPlaces, statusPlacesID),
}

// reader makes the reader of the record type T, which tells its own id.
func reader[T any, P recordOf[T]](schema string, id func(P) string) recordReader {
	return recordReader{schema: schema, read: func(data []byte, asked string) (domain.Record, bool, error) {
		record := P(new(T))
		if err := domain.ParseCanonical(data, record); err != nil {
			return nil, false, err
		}
		if !timesAreUTC(reflect.ValueOf(record)) {
			return nil, false, invalidf("a time is not in UTC")
		}
		return record, id(record) == asked, nil
	}}
}

// timesAreUTC reports whether every time in a value that JSON was read into was
// written in UTC. [domain.ParseCanonical] keeps the zone that a time names, so
// that one instant would have as many spellings as there are zones.
func timesAreUTC(v reflect.Value) bool {
	switch v.Kind() { //nolint:exhaustive // the rest holds no time
	case reflect.Pointer:
		return v.IsNil() || timesAreUTC(v.Elem())
	case reflect.Slice:
		for i := range v.Len() {
			if !timesAreUTC(v.Index(i)) {
				return false
			}
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			_, offset := v.Interface().(time.Time).Zone()
			return offset == 0
		}
		for i := range v.NumField() {
			if !timesAreUTC(v.Field(i)) {
				return false
			}
		}
	}
	return true
}

// openingOf answers what every record opens with.
func openingOf(record domain.Record) domain.Meta {
	opening, _ := reflect.ValueOf(record).Elem().FieldByName("Meta").Interface().(domain.Meta)
	return opening
}

type recordOf[T any] interface {
	*T
	domain.Record
}

// statusPlacesID is the id of a record of taken status indexes.
func statusPlacesID(r *domain.StatusPlaces) string {
	return string(r.Issuer) + "~" + strconv.Itoa(r.Number)
}

// knowsRecord reports whether this release can read the record in the statement.
func knowsRecord(s *domain.Statement) bool {
	rest, ok := strings.CutPrefix(s.Record, `{"schema":"`)
	schema, _, _ := strings.Cut(rest, `"`)
	return ok && schema == recordReaders[s.Kind].schema
}

// checkRecord checks that the record in the statement is whole and the one that
// was asked for, and that the status stated follows from it. It answers the
// record. Requires knowsRecord(s).
func checkRecord(s *domain.Statement) (domain.Record, error) {
	record, named, err := recordReaders[s.Kind].read([]byte(s.Record), s.ID)
	if err != nil {
		return nil, err
	}
	if !named {
		return nil, invalidf("the record is not the one asked for")
	}
	if !digestHolds(s.Record, openingOf(record).Digest) {
		return nil, invalidf("the record does not match its digest")
	}
	status, err := statusAt(s, record, s.AsOf)
	if err != nil {
		return nil, err
	}
	if status != s.Status {
		return nil, invalidf("the status stated does not follow from the record")
	}
	return record, nil
}

// digestHolds is [domain.DigestHolds] for the canonical text of a record.
func digestHolds(text, digest string) bool {
	// Meta opens the record, so the first match is the digest itself.
	return digest == domain.Digest([]byte(strings.Replace(text, `"digest":"`+digest+`"`, `"digest":""`, 1)))
}

// statusAt is [domain.StatementStatus] for the record in a statement, which was
// read: certificates, the most of what is verified, are not read again.
func statusAt(s *domain.Statement, record domain.Record, t time.Time) (string, error) {
	if certificate, ok := record.(*domain.Certificate); ok {
		return string(certificate.StatusAt(t)), nil
	}
	return domain.StatementStatus(s.Kind, []byte(s.Record), t)
}
