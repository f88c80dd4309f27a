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
	Ref           string `json:"ref"`
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
	SharedContent
	Certificates []CertificateRow `json:"certificates"`
}

// IssuingBatch is what one proposal put on the ledger of the certificates of a
// batch. It never changes; what becomes of them is the batch's [BatchStatus]. Its
// id is the reference of its first certificate.
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

// BatchRow says where a certificate stands: it is what the ledger holds under a
// reference and under an identifier. It says nothing by itself, and needs no
// endorsement of the issuer's: whoever follows it looks there for the name that it
// was found under; see [Batch.Certificate].
type BatchRow struct {
	Batch string `json:"batch"`
	Row   int    `json:"row"`
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

// shared is what the certificate may have in common with others.
func (c CertificateContent) shared() SharedContent {
	return SharedContent{c.TypeCode, c.TypeNameZh, c.TypeNameEn, c.IssuerUSCC, c.HolderKind, c.IssuedAt, c.Validity, c.ServiceItem}
}

// row is the rest of the certificate.
func (c CertificateContent) row() CertificateRow {
	r := CertificateRow{
		Ref: c.Ref, CertID: c.CertID, HolderRef: c.HolderRef, ContentDigest: c.ContentDigest, CheckCodeHash: c.CheckCodeHash,
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
	if short.Serial == "" || short.certID(c.shared()) != c.CertID {
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
		Ref: r.Ref, CertID: r.certID(b.SharedContent),
		TypeCode: b.TypeCode, TypeNameZh: b.TypeNameZh, TypeNameEn: b.TypeNameEn, IssuerUSCC: b.IssuerUSCC, HolderKind: b.HolderKind,
		HolderRef: r.HolderRef, IssuedAt: b.IssuedAt, Validity: b.Validity, ServiceItem: b.ServiceItem,
		ContentDigest: r.ContentDigest, CheckCodeHash: r.CheckCodeHash, Replaces: r.Replaces, StatusIndex: r.StatusIndex,
	}
}

// ref is the reference of the first certificate, by which the batch is named.
func (b *BatchContent) ref() string {
	if len(b.Certificates) == 0 {
		return ""
	}
	return b.Certificates[0].Ref
}

// ID is the id of the batch.
func (b *IssuingBatch) ID() string { return b.Content.ref() }

// Refs are the references of the certificates of the batch, in order of rows.
func (b *IssuingBatch) Refs() []string {
	refs := make([]string, len(b.Content.Certificates))
	for i, r := range b.Content.Certificates {
		refs[i] = r.Ref
	}
	return refs
}

// MarshalJSON writes the contents with what neighbours have in common told once.
func (a IssueBatchArgs) MarshalJSON() ([]byte, error) {
	wire := issueBatchWire{Batches: []BatchContent{}}
	for i, c := range a.Contents {
		if i == 0 || c.shared() != a.Contents[i-1].shared() {
			wire.Batches = append(wire.Batches, BatchContent{SharedContent: c.shared()})
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

// NewBatches are the batches of new certificates, of one issuer, in the order of
// the first of each, with at most [MaxBatchRows] each.
func NewBatches(changes []CertificateChange, call Call) ([]Batch, error) {
	var batches []Batch
	open := make(map[SharedContent]int) // the batch that takes more
	for _, change := range changes {
		content := change.Certificate.Content
		shared := content.shared()
		at, ok := open[shared]
		if !ok || len(batches[at].Issued.Content.Certificates) == MaxBatchRows {
			at = len(batches)
			open[shared] = at
			batches = append(batches, Batch{
				IssuingBatch{Issuer: change.Certificate.Issuer, Content: BatchContent{SharedContent: shared}},
				BatchStatus{Issuer: change.Certificate.Issuer, Batch: content.Ref, Lives: []CertificateLife{change.Certificate.life()}, Of: []int{}},
			})
		}
		b := &batches[at].Issued.Content
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
	fits := b.Issued.ID() == id && b.Status.Batch == id && b.Status.Issuer == b.Issued.Issuer
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

// Certificate is the record of the certificate in a row, without its digest; see
// [Certificate.Sealed]. ref is the reference that led to the row, "" for any: a row
// that does not bear it is an error and no answer, because whoever wrote what led
// here is not known.
func (b *Batch) Certificate(row int, ref string) (Certificate, error) {
	if row < 0 || row >= b.Size() || (ref != "" && b.Issued.Content.Certificates[row].Ref != ref) {
		return Certificate{}, inconsistent("certificate " + ref + " is not where it should be")
	}
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
	return c, nil
}

// IssuedID is the record of the identifier certID of the certificate in a row.
func (b *Batch) IssuedID(row int, certID string) (IssuedID, error) {
	c, err := b.Certificate(row, "")
	if err != nil || c.Content.CertID != certID || c.Status == CertificateRejected {
		return IssuedID{}, inconsistent("identifier " + certID + " is not where it should be")
	}
	id := IssuedID{CertID: certID, Ref: c.Content.Ref}
	m := b.Issued.Meta
	return id, seal(&id, SchemaCertificateID, Caller{Department: m.Department, Role: m.Role}, Tx{ID: m.TxID, Time: m.TxTime})
}

// life is that of the certificate in a row.
func (s *BatchStatus) life(row int) *CertificateLife {
	if len(s.Of) == 0 {
		return &s.Lives[0]
	}
	return &s.Lives[s.Of[row]]
}

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

// Changed is what became of the batch with certificates changed, by row.
func (b *Batch) Changed(certificates map[int]Certificate, call Call) (BatchStatus, error) {
	s := BatchStatus{Issuer: b.Status.Issuer, Batch: b.Status.Batch, Of: make([]int, b.Size())}
	known := make(map[string]int) // lives by their canonical bytes
	for row := range s.Of {
		life := *b.Status.life(row)
		if c, ok := certificates[row]; ok {
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
