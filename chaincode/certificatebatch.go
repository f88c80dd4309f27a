package chaincode

import (
	"fmt"

	"github.com/zhenglian/zhenglian/domain"
)

// row finds where the certificate with this reference or identifier stands; nil
// when there is none.
func (t *transaction) row(kind domain.RecordKind, id string) (*domain.BatchRow, error) {
	if id == "" {
		return nil, nil //nolint:nilnil // as load answers what is not recorded
	}
	return load[domain.BatchRow](t, kind, id)
}

// wantBatch names the batch to which a reference or an identifier leads, "" to
// none: the next message to the peer asks for it, too.
func (t *transaction) wantBatch(kind domain.RecordKind, id string) error {
	at, err := t.row(kind, id)
	if err != nil || at == nil {
		return err
	}
	t.want(domain.KindIssuingBatch, at.Batch)
	t.want(domain.KindBatchStatus, at.Batch)
	return nil
}

// batch reads an issuing batch, nil when there is none.
func (t *transaction) batch(id string) (*domain.Batch, error) {
	if b, known := t.batches[id]; known {
		return b, nil
	}
	t.want(domain.KindBatchStatus, id)
	issued, err := load[domain.IssuingBatch](t, domain.KindIssuingBatch, id)
	if err != nil || issued == nil {
		return nil, err
	}
	status, err := load[domain.BatchStatus](t, domain.KindBatchStatus, id)
	if err != nil {
		return nil, err
	}
	if status == nil {
		return nil, fmt.Errorf("internal: the ledger is inconsistent: batch %s has no status", id)
	}
	b := &domain.Batch{Issued: *issued, Status: *status}
	if err := b.Check(id); err != nil {
		return nil, err
	}
	if t.batches == nil {
		t.batches = make(map[string]*domain.Batch)
	}
	t.batches[id] = b
	return b, nil
}

// standing reads the batch in which the certificate with a reference or an
// identifier stands; nil when there is no such certificate. What leads to a batch
// that is not there is no answer that there is none.
func (t *transaction) standing(kind domain.RecordKind, id string) (*domain.Batch, int, error) {
	at, err := t.row(kind, id)
	if err != nil || at == nil {
		return nil, 0, err
	}
	b, err := t.batch(at.Batch)
	if err == nil && b == nil {
		err = fmt.Errorf("internal: the ledger is inconsistent: %s leads to no batch", domain.KeyOf(kind, id))
	}
	return b, at.Row, err
}

// certificate reads a certificate, without its digest; nil when it is not recorded.
func (t *transaction) certificate(ref string) (*domain.Certificate, error) {
	b, row, err := t.standing(domain.KindCertificate, ref)
	if err != nil || b == nil {
		return nil, err
	}
	return t.certificateIn(b, row, ref)
}

// certificateWith reads the certificate that bears an identifier; nil when there is
// none.
func (t *transaction) certificateWith(certID string) (*domain.Certificate, error) {
	b, row, err := t.standing(domain.KindCertificateID, certID)
	if err != nil || b == nil {
		return nil, err
	}
	if _, err := b.IssuedID(row, certID); err != nil {
		return nil, err
	}
	return t.certificateIn(b, row, "")
}

func (t *transaction) certificateIn(b *domain.Batch, row int, ref string) (*domain.Certificate, error) {
	c, err := b.Certificate(row, ref)
	if err != nil {
		return nil, err
	}
	if t.rows == nil {
		t.rows = make(map[string]domain.BatchRow)
	}
	t.rows[c.Content.Ref] = domain.BatchRow{Batch: b.Issued.ID(), Row: row}
	return &c, nil
}

// statusPlaces reads which of the caller's status indexes are taken, of those that
// stand with this one; nil when none is.
func (t *transaction) statusPlaces(index int) (*domain.StatusPlaces, error) {
	number := index / domain.StatusPlacesLength
	if p, known := t.places[number]; known {
		return p, nil
	}
	p, err := load[domain.StatusPlaces](t, domain.KindStatusPlaces, domain.StatusPlacesID(t.who.Department, index))
	if err != nil {
		return nil, err
	}
	if t.places == nil {
		t.places = make(map[int]*domain.StatusPlaces)
	}
	t.places[number] = p
	return p, nil
}

// recorded answers the canonical bytes of a record, nil when there is none: those
// that are stored, or those of the record that is told from others.
func (t *transaction) recorded(kind domain.RecordKind, id string) ([]byte, error) {
	switch kind { //nolint:exhaustive // all others are stored
	case domain.KindCertificate:
		c, err := t.certificate(id)
		if err != nil || c == nil {
			return nil, err
		}
		sealed, err := c.Sealed()
		if err != nil {
			return nil, err
		}
		return domain.Canonical(sealed)
	case domain.KindCertificateID:
		b, row, err := t.standing(kind, id)
		if err != nil || b == nil {
			return nil, err
		}
		issued, err := b.IssuedID(row, id)
		if err != nil {
			return nil, err
		}
		return domain.Canonical(issued)
	}
	return t.read(kind, id)
}
