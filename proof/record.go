package proof

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
)

// A recordReader reads the records of one kind.
type recordReader struct {
	schema string // the only one that this release knows
	// read reads a record and reports whether it is the one with the id.
	read func(data []byte, id string) (record domain.Record, named bool, err error)
}

// recordReaders has a reader for every [domain.RecordKind].
var recordReaders = map[domain.RecordKind]recordReader{
	domain.KindDepartment:       reader(domain.SchemaDepartment, func(r *domain.Department) string { return string(r.Code) }),
	domain.KindMembers:          reader(domain.SchemaMembers, func(*domain.Members) string { return domain.MembersID }),
	domain.KindCalendar:         reader(domain.SchemaCalendar, func(r *domain.Calendar) string { return strconv.Itoa(r.Year) }),
	domain.KindCalendarVersion:  reader(domain.SchemaCalendar, func(r *domain.Calendar) string { return domain.VersionID(strconv.Itoa(r.Year), r.Version) }),
	domain.KindRule:             reader(domain.SchemaRule, func(r *domain.DeadlineRule) string { return string(r.Event) }),
	domain.KindRuleVersion:      reader(domain.SchemaRule, func(r *domain.DeadlineRule) string { return domain.VersionID(string(r.Event), r.Version) }),
	domain.KindCatalogEntry:     reader(domain.SchemaCatalogEntry, func(r *domain.CatalogEntry) string { return r.Content.Code }),
	domain.KindCatalogVersion:   reader(domain.SchemaCatalogVersion, func(r *domain.CatalogVersion) string { return domain.VersionID(r.Content.Code, r.Version) }),
	domain.KindCatalogEvent:     reader(domain.SchemaCatalogEvent, func(r *domain.CatalogEvent) string { return domain.EventID(r.Code, r.Seq) }),
	domain.KindCatalogName:      matcher(domain.SchemaCatalogName, catalogNameID),
	domain.KindRequest:          reader(domain.SchemaRequest, func(r *domain.ShareRequest) string { return r.Content.ID }),
	domain.KindRequestEvent:     reader(domain.SchemaRequestEvent, func(r *domain.RequestEvent) string { return domain.EventID(r.RequestID, r.Seq) }),
	domain.KindGrant:            reader(domain.SchemaGrant, func(r *domain.Grant) string { return r.ID }),
	domain.KindGrantEvent:       reader(domain.SchemaGrantEvent, func(r *domain.GrantEvent) string { return domain.EventID(r.GrantID, r.Seq) }),
	domain.KindOperation:        reader(domain.SchemaOperation, func(r *domain.Operation) string { return domain.OperationID(r.Department, r.Operation) }),
	domain.KindLog:              reader(domain.SchemaLog, func(r *domain.LogRegistration) string { return string(r.Owner) }),
	domain.KindAnchor:           reader(domain.SchemaAnchor, func(r *domain.Anchor) string { return domain.AnchorID(r.Owner, r.Size) }),
	domain.KindAlarm:            reader(domain.SchemaAlarm, func(r *domain.Alarm) string { return r.ID }),
	domain.KindAlarmEvent:       reader(domain.SchemaAlarmEvent, func(r *domain.AlarmEvent) string { return domain.EventID(r.AlarmID, r.Seq) }),
	domain.KindCertificate:      reader(domain.SchemaCertificate, func(r *domain.Certificate) string { return r.Content.Ref }),
	domain.KindCertificateEvent: reader(domain.SchemaCertificateEvent, func(r *domain.CertificateEvent) string { return domain.EventID(r.Ref, r.Seq) }),
	domain.KindCertificateID:    reader(domain.SchemaCertificateID, func(r *domain.IssuedID) string { return r.CertID }),
}

// reader makes the reader of the record type T, which tells its own id.
func reader[T any, P recordOf[T]](schema string, id func(P) string) recordReader {
	return matcher(schema, func(r P, asked string) bool { return id(r) == asked })
}

// matcher makes the reader of the record type T.
func matcher[T any, P recordOf[T]](schema string, named func(r P, id string) bool) recordReader {
	return recordReader{schema: schema, read: func(data []byte, id string) (domain.Record, bool, error) {
		record := P(new(T))
		if err := domain.ParseCanonical(data, record); err != nil {
			return nil, false, err
		}
		return record, named(record, id), nil
	}}
}

type recordOf[T any] interface {
	*T
	domain.Record
}

var digestShape = regexp.MustCompile(`^[0-9a-f]{64}$`)

// catalogNameID reports whether a name record may have an id. The record says
// whose name it is, not the name, so any digest will do.
func catalogNameID(r *domain.CatalogName, id string) bool {
	provider, digest, _ := strings.Cut(id, "~")
	return provider == string(r.Provider) && digestShape.MatchString(digest)
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
	record, named, err := recordReaders[s.Kind].read([]byte(s.Record), s.ID)
	if err != nil {
		return err
	}
	if !named {
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
