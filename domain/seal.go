package domain

import "bytes"

// The schema names that open records. A record whose meaning changes gets a new
// number, so that old records stay readable.
const (
	SchemaDepartment     = "zhenglian/department/1"
	SchemaMembers        = "zhenglian/members/1"
	SchemaCalendar       = "zhenglian/calendar/1"
	SchemaRule           = "zhenglian/deadline-rule/1"
	SchemaCatalogEntry   = "zhenglian/catalog-entry/1"
	SchemaCatalogEvent   = "zhenglian/catalog-event/1"
	SchemaCatalogVersion = "zhenglian/catalog-version/1"
	SchemaRequest        = "zhenglian/share-request/1"
	SchemaRequestEvent   = "zhenglian/request-event/1"
	SchemaGrant          = "zhenglian/grant/1"
	SchemaGrantEvent     = "zhenglian/grant-event/1"
	SchemaOperation      = "zhenglian/operation/1"
	SchemaLog            = "zhenglian/access-log/1"
	SchemaAnchor         = "zhenglian/anchor/1"
	SchemaAlarm          = "zhenglian/alarm/1"
	SchemaAlarmEvent     = "zhenglian/alarm-event/1"
	SchemaAuthorisation  = "zhenglian/authorisation/1"
	SchemaCertificate    = "zhenglian/certificate/1"
	SchemaCertificateID  = "zhenglian/certificate-id/1"
	SchemaIssuingBatch   = "zhenglian/issuing-batch/1"
	SchemaBatchStatus    = "zhenglian/batch-status/1"
	SchemaStatusPlaces   = "zhenglian/status-places/1"
	SchemaAccessRecord   = "zhenglian/access-record/1"
	SchemaStatement      = "zhenglian/statement/1"
)

// Record is a pointer to a ledger record: every type that embeds [Meta].
type Record interface{ meta() *Meta }

func (m *Meta) meta() *Meta { return m }

// seal fills the record's Meta and computes its digest. It comes last, when the
// record's other fields are final.
func seal(r Record, schema string, who Caller, tx Tx) error {
	m := r.meta()
	*m = Meta{Schema: schema, Department: who.Department, Role: who.Role, TxID: tx.ID, TxTime: tx.Time}
	data, err := Canonical(r)
	if err != nil {
		return err
	}
	m.Digest = Digest(data)
	return nil
}

// DigestHolds reports whether the record's digest is that of its own canonical
// bytes with the digest empty.
func DigestHolds(r Record) bool {
	data, err := Canonical(r)
	if err != nil {
		return false
	}
	// Meta opens the record, so the first match is the digest itself.
	digest := r.meta().Digest
	empty := bytes.Replace(data, []byte(`"digest":"`+digest+`"`), []byte(`"digest":""`), 1)
	return digest == Digest(empty)
}

// orEmpty turns a nil list into an empty one, so that a record says [] and
// never null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
