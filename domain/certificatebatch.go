package domain

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// MaxBatchRows is how many certificates one issuing batch 发证批次 holds: a later
// change of one of them writes what the ledger remembers of all.
const MaxBatchRows = 50

// BatchPart is how many digits of a certificate's reference, the first ones, name the
// issuing batch in which the certificate stands: what finds it needs no record of its
// own. The others, 80 bits, are the certificate's alone; all are random.
const BatchPart = 12

// BatchOf is the id of the issuing batch in which the certificate with a reference
// stands, if there is one.
func BatchOf(ref string) string { return ref[:min(BatchPart, len(ref))] }

// SharedContent is what certificates have in common that are issued together.
type SharedContent struct {
	TypeCode    string    `json:"typeCode"`
	TypeNameZh  string    `json:"typeNameZh"`
	TypeNameEn  string    `json:"typeNameEn"`
	IssuerUSCC  string    `json:"issuerUscc"`
	HolderKind  string    `json:"holderKind"`
	IssuedAt    time.Time `json:"issuedAt"`
	Validity    Period    `json:"validity"`
	ServiceItem string    `json:"serviceItem"`
}

// CertificateRow is what a certificate of a batch has of its own. CertID stands
// for an identifier that is not the one composed of type, issuer, serial and
// version; none that is issued is.
type CertificateRow struct {
	Ref           string `json:"ref"` // without its first [BatchPart] digits
	CertID        string `json:"certId,omitempty"`
	Serial        string `json:"serial,omitempty"`
	Version       string `json:"version,omitempty"` // "" for the first
	HolderRef     string `json:"holderRef"`
	ContentDigest string `json:"contentDigest"`
	CheckCodeHash string `json:"checkCodeHash"`
	Replaces      string `json:"replaces,omitempty"`
	StatusIndex   int    `json:"statusIndex"`
}

// BatchContent are the contents of certificates, told once where they are equal.
type BatchContent struct {
	ID string `json:"id"` // the first [BatchPart] digits of their references
	SharedContent
	Certificates []CertificateRow `json:"certificates"`
}

// IssuingBatch is what one proposal put on the ledger of the certificates of a
// batch. It never changes; what becomes of them is the batch's [BatchStatus].
type IssuingBatch struct {
	Meta
	Issuer  DepartmentCode `json:"issuer"`
	Content BatchContent   `json:"content"`
}

// BatchStatus is what became of the certificates of an issuing batch.
type BatchStatus struct {
	Meta
	Issuer DepartmentCode    `json:"issuer"`
	Batch  string            `json:"batch"` // id of the [IssuingBatch]
	Lives  []CertificateLife `json:"lives"` // the different ones, in the order in which their first certificates stand in the batch
	Of     []int             `json:"of"`    // by certificate, the index of its life; empty when all share the only one
}

// CertificateLife is what became of a certificate since its proposal. Role, TxID
// and TxTime are those of the last transaction that changed it.
type CertificateLife struct {
	Role    Role            `json:"role"`
	TxID    TxID            `json:"txId"`
	TxTime  time.Time       `json:"txTime"`
	Changes []StatusChange  `json:"changes"`
	Pending *StatusProposal `json:"pending,omitempty"`
	Opinion string          `json:"opinion"`
	Seq     int             `json:"seq"`

	OpenObjection *Objection `json:"openObjection,omitempty"`
}

// StatusPlaces says which of [StatusPlacesLength] consecutive status indexes of an
// issuer are taken. None is ever freed: a content that was signed, and then not
// issued, names its index too.
type StatusPlaces struct {
	Meta
	Issuer DepartmentCode `json:"issuer"`
	Number int            `json:"number"` // of the first index, divided by [StatusPlacesLength]
	Taken  string         `json:"taken"`  // a bit for each index, the first one highest, hexadecimal
}

// StatusPlacesLength is how many status indexes one record of taken ones covers: many
// for the certificates of a batch, few for issues at the same time.
const StatusPlacesLength = 64

// Has reports whether a status index is taken; nil is the record of none.
func (p *StatusPlaces) Has(index int) bool {
	bits := p.bits()
	at := index % StatusPlacesLength
	return bits[at/8]&(0x80>>(at%8)) != 0
}

func (p *StatusPlaces) bits() (bits [StatusPlacesLength / 8]byte) {
	if p != nil {
		_, _ = hex.Decode(bits[:], []byte(p.Taken)[:min(len(p.Taken), 2*len(bits))])
	}
	return bits
}

// take is the record with one more index taken.
func (p *StatusPlaces) take(issuer DepartmentCode, index int) *StatusPlaces {
	bits := p.bits()
	at := index % StatusPlacesLength
	bits[at/8] |= 0x80 >> (at % 8)
	return &StatusPlaces{Issuer: issuer, Number: index / StatusPlacesLength, Taken: hex.EncodeToString(bits[:])}
}

// TakePlaces are the records of the status indexes that an issuer takes, in
// ascending order; known are those that the ledger holds, by number.
func TakePlaces(known map[int]*StatusPlaces, indexes []int, issuer DepartmentCode, call Call) ([]*StatusPlaces, error) {
	taken := make(map[int]*StatusPlaces)
	var numbers []int
	for _, index := range indexes {
		number := index / StatusPlacesLength
		p, ok := taken[number]
		if !ok {
			p = known[number]
			numbers = append(numbers, number)
		}
		taken[number] = p.take(issuer, index)
	}
	slices.Sort(numbers)
	list := make([]*StatusPlaces, len(numbers))
	for i, number := range numbers {
		list[i] = taken[number]
		if err := seal(list[i], SchemaStatusPlaces, call.Who, call.Tx); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Shared is what the certificate may have in common with others.
func (c CertificateContent) Shared() SharedContent {
	return SharedContent{c.TypeCode, c.TypeNameZh, c.TypeNameEn, c.IssuerUSCC, c.HolderKind, c.IssuedAt, c.Validity, c.ServiceItem}
}

// row is the rest of the certificate.
func (c CertificateContent) row() CertificateRow {
	r := CertificateRow{
		Ref: c.Ref[len(BatchOf(c.Ref)):], CertID: c.CertID, HolderRef: c.HolderRef, ContentDigest: c.ContentDigest, CheckCodeHash: c.CheckCodeHash,
		Replaces: c.Replaces, StatusIndex: c.StatusIndex,
	}
	parts := strings.Split(c.CertID, ".")
	if len(parts) < 3 {
		return r
	}
	short := r
	short.CertID, short.Serial, short.Version = "", parts[len(parts)-3], parts[len(parts)-2]
	if short.Version == firstVersion {
		short.Version = ""
	}
	if short.Serial == "" || short.certID(c.Shared()) != c.CertID {
		return r
	}
	return short
}

// certID is the certificate's identifier.
func (r CertificateRow) certID(s SharedContent) string {
	if r.CertID != "" || r.Serial == "" {
		return r.CertID
	}
	version := r.Version
	if version == "" {
		version = firstVersion
	}
	check, _ := checkCharacter(s.TypeCode + s.IssuerUSCC + r.Serial + version)
	return strings.Join([]string{CertificateOIDRoot, s.TypeCode, s.IssuerUSCC, r.Serial, version, string([]byte{check})}, ".")
}

// Content is the content of a certificate of the batch, 0 ≤ row < len(Certificates).
func (b *BatchContent) Content(row int) CertificateContent {
	r := &b.Certificates[row]
	return CertificateContent{
		Ref: b.ID + r.Ref, CertID: r.certID(b.SharedContent),
		TypeCode: b.TypeCode, TypeNameZh: b.TypeNameZh, TypeNameEn: b.TypeNameEn, IssuerUSCC: b.IssuerUSCC, HolderKind: b.HolderKind,
		HolderRef: r.HolderRef, IssuedAt: b.IssuedAt, Validity: b.Validity, ServiceItem: b.ServiceItem,
		ContentDigest: r.ContentDigest, CheckCodeHash: r.CheckCodeHash, Replaces: r.Replaces, StatusIndex: r.StatusIndex,
	}
}

// ID is the id of the batch.
func (b *IssuingBatch) ID() string { return b.Content.ID }

// Refs are the references of the certificates of the batch, in order of rows.
func (b *IssuingBatch) Refs() []string {
	refs := make([]string, len(b.Content.Certificates))
	for i, r := range b.Content.Certificates {
		refs[i] = b.Content.ID + r.Ref
	}
	return refs
}

// MarshalJSON writes the contents with what neighbours have in common told once.
func (a IssueBatchArgs) MarshalJSON() ([]byte, error) {
	wire := issueBatchWire{Batches: []BatchContent{}}
	for i, c := range a.Contents {
		if i == 0 || c.Shared() != a.Contents[i-1].Shared() || BatchOf(c.Ref) != BatchOf(a.Contents[i-1].Ref) {
			wire.Batches = append(wire.Batches, BatchContent{ID: BatchOf(c.Ref), SharedContent: c.Shared()})
		}
		last := &wire.Batches[len(wire.Batches)-1]
		last.Certificates = append(last.Certificates, c.row())
	}
	return Canonical(wire)
}

// UnmarshalJSON reads what [IssueBatchArgs.MarshalJSON] writes.
func (a *IssueBatchArgs) UnmarshalJSON(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var wire issueBatchWire
	if err := dec.Decode(&wire); err != nil {
		return err
	}
	a.Contents = nil
	for i := range wire.Batches {
		for row := range wire.Batches[i].Certificates {
			a.Contents = append(a.Contents, wire.Batches[i].Content(row))
		}
	}
	return nil
}

// issueBatchWire is the JSON of [IssueBatchArgs].
type issueBatchWire struct {
	Batches []BatchContent `json:"batches"`
}

// Batch is an issuing batch with what became of it.
type Batch struct {
	Issued IssuingBatch
	Status BatchStatus
}

// NewBatches are the batches of new certificates, of one issuer, as their references
// name them, in the order of the first of each; see [IssueBatchArgs].
func NewBatches(changes []CertificateChange, call Call) ([]Batch, error) {
	var batches []Batch
	open := make(map[string]int) // by id
	for _, change := range changes {
		content := change.Certificate.Content
		id := BatchOf(content.Ref)
		at, ok := open[id]
		if !ok {
			at = len(batches)
			open[id] = at
			batches = append(batches, Batch{
				IssuingBatch{Issuer: change.Certificate.Issuer, Content: BatchContent{ID: id, SharedContent: content.Shared()}},
				BatchStatus{Issuer: change.Certificate.Issuer, Batch: id, Lives: []CertificateLife{change.Certificate.life()}, Of: []int{}},
			})
		}
		b := &batches[at].Issued.Content
		if b.SharedContent != content.Shared() || len(b.Certificates) == MaxBatchRows {
			return nil, fmt.Errorf("internal: certificate %s does not fit its batch", content.Ref)
		}
		b.Certificates = append(b.Certificates, content.row())
	}
	for i := range batches {
		if err := seal(&batches[i].Issued, SchemaIssuingBatch, call.Who, call.Tx); err != nil {
			return nil, err
		}
		if err := seal(&batches[i].Status, SchemaBatchStatus, call.Who, call.Tx); err != nil {
			return nil, err
		}
	}
	return batches, nil
}

// Size is the number of certificates of the batch.
func (b *Batch) Size() int { return len(b.Issued.Content.Certificates) }

// Check reports whether the two records are of one batch and fit each other.
func (b *Batch) Check(id string) error {
	n := b.Size()
	fits := b.Issued.ID() == id && b.Status.Batch == id && b.Status.Issuer == b.Issued.Issuer && n <= MaxBatchRows
	switch {
	case len(b.Status.Of) == 0:
		fits = fits && len(b.Status.Lives) == 1
	default:
		fits = fits && len(b.Status.Of) == n && !slices.ContainsFunc(b.Status.Of, func(i int) bool { return i < 0 || i >= len(b.Status.Lives) })
	}
	if !fits {
		return inconsistent("batch " + id)
	}
	return nil
}

// inconsistent is an error that is no refusal: nothing that is asked for is wrong.
func inconsistent(what string) error {
	return fmt.Errorf("internal: the ledger is inconsistent: %s", what)
}

// maxStatusBytes is how many bytes the status of a batch may have before a
// certificate of it is suspended once more. Only suspensions can follow one another
// without end: with them bounded, all that may still come to the certificates of a batch
// fits into a transaction, above all what ends them.
const maxStatusBytes = 512 << 10

// RoomFor refuses a change for which the batch has recorded too much already.
func (b *Batch) RoomFor(event StatusEvent) error {
	if event != SuspendCertificate {
		return nil
	}
	data, err := Canonical(&b.Status)
	if err == nil && len(data) > maxStatusBytes {
		err = refuse(Invalid, "event: too much is recorded of the certificates of its issuing batch for another suspension")
	}
	return err
}

// Row is where the certificate with a reference stands.
func (b *Batch) Row(ref string) (row int, found bool) {
	own, of := strings.CutPrefix(ref, b.Issued.ID())
	row = slices.IndexFunc(b.Issued.Content.Certificates, func(r CertificateRow) bool { return r.Ref == own })
	return row, of && row >= 0
}

// Certificate is the record of the certificate in a row, 0 ≤ row < Size, without its
// digest; see [Certificate.Sealed].
func (b *Batch) Certificate(row int) Certificate {
	life := b.Status.life(row)
	c := Certificate{
		Meta:   Meta{SchemaCertificate, b.Issued.Issuer, life.Role, life.TxID, life.TxTime, ""},
		Issuer: b.Issued.Issuer, Content: b.Issued.Content.Content(row),
		Status: CertificateProposed, StatusSince: life.TxTime,
		Changes: life.Changes, Pending: life.Pending, Opinion: life.Opinion, Seq: life.Seq, OpenObjection: life.OpenObjection,
	}
	if n := len(c.Changes); n > 0 {
		c.repeat(c.Changes[n-1])
	}
	return c
}

// IssuedID is the record of the identifier certID of the certificate with a
// reference. What led to that needs no endorsement of the issuer's, so it is an error
// and no answer when the certificate does not bear the identifier.
func (b *Batch) IssuedID(ref, certID string) (IssuedID, error) {
	row, found := b.Row(ref)
	if !found || b.Issued.Content.Content(row).CertID != certID || b.Certificate(row).Status == CertificateRejected {
		return IssuedID{}, inconsistent("identifier " + certID + " is not where it should be")
	}
	id := IssuedID{CertID: certID, Ref: ref}
	m := b.Issued.Meta
	return id, seal(&id, SchemaCertificateID, Caller{Department: m.Department, Role: m.Role}, Tx{ID: m.TxID, Time: m.TxTime})
}

// Life is which of the lives the certificate in a row has.
func (s *BatchStatus) Life(row int) int {
	if len(s.Of) == 0 {
		return 0
	}
	return s.Of[row]
}

func (s *BatchStatus) life(row int) *CertificateLife { return &s.Lives[s.Life(row)] }

// Changed are the rows, of a batch with size certificates, that the transaction
// changed which wrote the record.
func (s *BatchStatus) Changed(size int) []int {
	var rows []int
	for row := range size {
		if s.Changes(row) {
			rows = append(rows, row)
		}
	}
	return rows
}

// Changes reports whether the transaction that wrote the record changed the
// certificate in a row.
func (s *BatchStatus) Changes(row int) bool { return s.life(row).TxID == s.TxID }

// life is what became of the certificate.
func (c *Certificate) life() CertificateLife {
	return CertificateLife{c.Role, c.TxID, c.TxTime, c.Changes, c.Pending, c.Opinion, c.Seq, c.OpenObjection}
}

// Changed is what became of the batch with certificates changed, by reference.
func (b *Batch) Changed(certificates map[string]Certificate, call Call) (BatchStatus, error) {
	s := BatchStatus{Issuer: b.Status.Issuer, Batch: b.Status.Batch, Of: make([]int, b.Size())}
	known := make(map[string]int) // lives by their canonical bytes
	for row := range s.Of {
		life := *b.Status.life(row)
		if c, ok := certificates[b.Issued.Content.ID+b.Issued.Content.Certificates[row].Ref]; ok {
			life = c.life()
		}
		text, err := Canonical(life)
		if err != nil {
			return BatchStatus{}, err
		}
		at, ok := known[string(text)]
		if !ok {
			at = len(s.Lives)
			known[string(text)] = at
			s.Lives = append(s.Lives, life)
		}
		s.Of[row] = at
	}
	if len(s.Lives) == 1 {
		s.Of = []int{}
	}
	return s, seal(&s, SchemaBatchStatus, call.Who, call.Tx)
}

// Sealed is the record with its digest.
func (c Certificate) Sealed() (Certificate, error) {
	c.Digest = ""
	data, err := Canonical(&c)
	if err != nil {
		return Certificate{}, err
	}
	c.Digest = Digest(data)
	return c, nil
}
