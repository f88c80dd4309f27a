package chaincode

import (
	"fmt"

	"github.com/zhenglian/zhenglian/domain"
)

// entry reads a catalog entry, nil when there is none.
func (t *transaction) entry(code string) (*domain.CatalogEntry, error) {
	entries, err := t.entries([]string{code})
	if err != nil {
		return nil, err
	}
	return entries[0], nil
}

// entries reads catalog entries in the order of their codes, nil where there is none,
// with one message for what their keys hold and one for their events.
func (t *transaction) entries(codes []string) ([]*domain.CatalogEntry, error) {
	stored, err := loadAll[domain.StoredCatalogEntry](t, domain.KindCatalogEntry, codes)
	if err != nil {
		return nil, err
	}
	for _, s := range stored {
		if s != nil {
			t.want(domain.KindCatalogEvent, domain.CatalogEventID(s.TxID, s.Provider))
		}
	}
	entries := make([]*domain.CatalogEntry, len(codes))
	for i, s := range stored {
		if s == nil {
			continue
		}
		if s.Content.Code != codes[i] {
			return nil, fmt.Errorf("internal: the ledger is inconsistent: %s is recorded as %s", s.Content.Code, codes[i])
		}
		teller, err := t.teller(domain.CatalogEventID(s.TxID, s.Provider))
		if err != nil {
			return nil, err
		}
		if teller == nil {
			return nil, fmt.Errorf("internal: the ledger is inconsistent: catalog entry %s has no event", codes[i])
		}
		entry, err := teller.Entry(*s)
		if err != nil {
			return nil, err
		}
		entries[i] = &entry
	}
	return entries, nil
}

// teller reads a catalog event, nil when there is none.
func (t *transaction) teller(id string) (*domain.CatalogTeller, error) {
	if teller, known := t.tellers[id]; known {
		return &teller, nil
	}
	event, err := load[domain.StoredCatalogEvent](t, domain.KindCatalogEvent, id)
	if err != nil || event == nil {
		return nil, err
	}
	if t.tellers == nil {
		t.tellers = make(map[string]domain.CatalogTeller)
	}
	teller := event.Tell()
	t.tellers[id] = teller
	return &teller, nil
}

// recordedCatalog answers the canonical bytes of a catalog entry or an event, nil when
// there is none.
func (t *transaction) recordedCatalog(kind domain.RecordKind, id string) ([]byte, error) {
	if kind == domain.KindCatalogEntry {
		entry, err := t.entry(id)
		if err != nil || entry == nil {
			return nil, err
		}
		return domain.Canonical(entry)
	}
	teller, err := t.teller(id)
	if err != nil || teller == nil {
		return nil, err
	}
	record, err := teller.Event().Record()
	if err != nil {
		return nil, err
	}
	return domain.Canonical(record)
}
