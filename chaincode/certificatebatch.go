package chaincode

import (
	"fmt"

	"github.com/zhenglian/zhenglian/domain"
)

// wantCertificate names the batch in which the certificate with a reference would
// stand: the next message to the peer asks for it, too.
func (t *transaction) wantCertificate(ref string) {
	t.want(domain.KindIssuingBatch, domain.BatchOf(ref))
	t.want(domain.KindBatchStatus, domain.BatchOf(ref))
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

// certificate reads a certificate, without its digest; nil when it is not recorded.
func (t *transaction) certificate(ref string) (*domain.Certificate, error) {
	if ref == "" {
		return nil, nil //nolint:nilnil // as load answers what is not recorded
	}
	b, err := t.batch(domain.BatchOf(ref))
	if err != nil || b == nil {
		return nil, err
	}
	row, found := b.Row(ref)
	if !found {
		return nil, nil //nolint:nilnil // as load answers what is not recorded
	}
	c := b.Certificate(row)
	return &c, nil
}

// bearer is the reference that the ledger holds under an identifier, "" when it is
// free. It says nothing by itself; see [domain.Batch.IssuedID].
func (t *transaction) bearer(certID string) (string, error) {
	ref, err := load[string](t, domain.KindCertificateID, domain.IssuedIDKey(certID))
	if err != nil || ref == nil {
		return "", err
	}
	return *ref, nil
}

// issuedID reads which certificate bears an identifier; nil when it is free. What
// leads to no certificate that bears it is no answer that it is free.
func (t *transaction) issuedID(certID string) (*domain.IssuedID, error) {
	ref, err := t.bearer(certID)
	if err != nil || ref == "" {
		return nil, err
	}
	b, err := t.batch(domain.BatchOf(ref))
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, fmt.Errorf("internal: the ledger is inconsistent: identifier %s leads to no batch", certID)
	}
	id, err := b.IssuedID(ref, certID)
	if err != nil {
		return nil, err
	}
	return &id, nil
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
		issued, err := t.issuedID(id)
		if err != nil || issued == nil {
			return nil, err
		}
		return domain.Canonical(issued)
	case domain.KindCatalogEntry, domain.KindCatalogEvent:
		return t.recordedCatalog(kind, id)
	}
	return t.read(kind, id)
}
