package domain

import (
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
)

// keyPrefixes are the parts of a state key before its first "~".
var keyPrefixes = [...]struct {
	kind   RecordKind
	prefix string
}{
	{KindDepartment, "dept"},
	{KindMembers, "members"},
	{KindCalendar, "cal"},
	{KindCalendarVersion, "calv"},
	{KindRule, "rule"},
	{KindRuleVersion, "rulev"},
	{KindCatalogEntry, "cat"},
	{KindCatalogVersion, "catv"},
	{KindCatalogEvent, "cate"},
	{KindCatalogName, "catn"},
	{KindRequest, "req"},
	{KindRequestEvent, "reqe"},
	{KindGrant, "grant"},
	{KindGrantEvent, "grante"},
	{KindOperation, "op"},
	{KindLog, "log"},
	{KindAnchor, "anchor"},
	{KindAlarm, "alarm"},
	{KindAlarmEvent, "alarme"},
	{KindIssuer, "issuer"},
	{KindCertificate, "cert"},
	{KindCertificateID, "certid"},
	{KindIssuingBatch, "certb"},
	{KindBatchStatus, "certs"},
	{KindStatusPlaces, "certbit"},
}

// KeyOf returns the state key of a record, or "" for an unknown kind. id is the
// part of the key after its first "~"; see [VersionID], [EventID] and
// [AnchorID] for those made of two parts.
func KeyOf(kind RecordKind, id string) string {
	for _, p := range keyPrefixes {
		if p.kind == kind {
			return p.prefix + "~" + id
		}
	}
	return ""
}

// ParseKey splits a state key into the record's kind and its id. It reports
// false for a key that [KeyOf] does not make.
func ParseKey(key string) (kind RecordKind, id string, ok bool) {
	prefix, id, found := strings.Cut(key, "~")
	if !found || id == "" {
		return "", "", false
	}
	for _, p := range keyPrefixes {
		if p.prefix == prefix {
			return p.kind, id, true
		}
	}
	return "", "", false
}

// VersionID is the id of a version of a catalog entry, of a calendar (by year) or
// of a deadline rule (by event).
func VersionID(of string, version int) string { return of + "~" + strconv.Itoa(version) }

// CatalogEventID is the id of what a transaction did to entries of a provider.
func CatalogEventID(tx TxID, provider DepartmentCode) string {
	return string(tx) + "~" + string(provider)
}

// EventID is the id of the event seq of a request, a grant or an alarm.
func EventID(id string, seq int) string { return id + "~" + strconv.Itoa(seq) }

// AnchorID is the id of the anchor of a department's log at size.
func AnchorID(department DepartmentCode, size uint64) string {
	return string(department) + "~" + strconv.FormatUint(size, 10)
}

// AuthorisationID is the id of a department's authorisation to issue certificates
// of a type.
func AuthorisationID(issuer DepartmentCode, typeCode string) string {
	return string(issuer) + "~" + typeCode
}

// StatusPlacesID is the id of the record that says whether a place in a
// department's status lists is taken.
func StatusPlacesID(issuer DepartmentCode, index int) string {
	return string(issuer) + "~" + strconv.Itoa(index/StatusPlacesLength)
}

// IssuedIDKey is the id under which an identifier of a certificate is taken: 128 bits
// of its SHA-256, in base64url. An issuer who found two identifiers of its own with the
// same ones could issue only one of them.
func IssuedIDKey(certID string) string {
	sum := sha256.Sum256([]byte(certID))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// MembersID is the id of the one [Members] record.
const MembersID = "all"

// CatalogNameID is the id under which a provider's resource name is taken. It holds the
// [PlainName] and no digest: one that is short costs the ledger as much, and two names
// could share it. Whatever the name, the id is UTF-8 and has one "~"; of a name that
// content may have, the plain name has 1 to [MaxName] characters, none of them a control
// character.
func CatalogNameID(provider DepartmentCode, name string) string {
	return string(provider) + "~" + PlainName(name)
}

// OperationID is the id of a department's operation.
func OperationID(department DepartmentCode, operation string) string {
	return string(department) + "~" + operation
}
