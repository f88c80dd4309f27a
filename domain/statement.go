package domain

import "time"

// Validate reports everything that is wrong with the argument.
func (a AttestArgs) Validate() error {
	var f findings
	oneOf(&f, "kind", a.Kind, RecordKinds...)
	f.match("id", a.ID, recordIDShape, "must be 1 to 128 characters of A-Z a-z 0-9 . _ / ~ -")
	f.match("nonce", a.Nonce, hex32Shape, hex32Rule)
	return f.err()
}

// StatementStatus is the status at t of the record of a kind with these stored
// bytes: a catalog entry's, request's or alarm's state, a grant's, certificate's or
// authorisation's status at that time, "" for kinds that have none. It fails on
// bytes that are not a record of the kind.
func StatementStatus(kind RecordKind, record []byte, t time.Time) (string, error) {
	switch kind {
	case KindCatalogEntry:
		var e CatalogEntry
		err := ParseCanonical(record, &e)
		return string(e.State), err
	case KindRequest:
		var r ShareRequest
		err := ParseCanonical(record, &r)
		return string(r.StatusAt(t)), err
	case KindGrant:
		var g Grant
		err := ParseCanonical(record, &g)
		return string(g.StatusAt(t)), err
	case KindAlarm:
		var a Alarm
		err := ParseCanonical(record, &a)
		return string(a.State), err
	case KindIssuer:
		var a Authorisation
		err := ParseCanonical(record, &a)
		return string(a.StatusAt(t)), err
	case KindCertificate:
		var c Certificate
		err := ParseCanonical(record, &c)
		return string(c.StatusAt(t)), err
	case KindDepartment, KindMembers, KindCalendar, KindCalendarVersion, KindRule, KindRuleVersion, KindCatalogVersion, KindCatalogEvent, KindCatalogName,
		KindRequestEvent, KindGrantEvent, KindOperation, KindLog, KindAnchor, KindAlarmEvent, KindCertificateID, KindIssuingBatch,
		KindBatchStatus, KindStatusPlaces: // have none
	}
	return "", nil
}

// Attest states what the ledger holds under a name; record is nil when it holds
// nothing. A missing record is an answer, not an error, because departments
// never sign an error.
func Attest(record []byte, tx Tx, args AttestArgs) (Statement, error) {
	if err := args.Validate(); err != nil {
		return Statement{}, err
	}
	s := Statement{
		Schema: SchemaStatement, Channel: tx.Channel, Kind: args.Kind, ID: args.ID, Nonce: args.Nonce,
		Found: record != nil, AsOf: tx.Time, ValidUntil: tx.Time.Add(StatementLife), Record: string(record),
	}
	if record == nil {
		return s, nil
	}
	status, err := StatementStatus(args.Kind, record, tx.Time)
	if err != nil {
		return Statement{}, err
	}
	s.Status = status
	return s, nil
}
