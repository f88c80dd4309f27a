package domain

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// What one transaction does to catalog entries it does to many at once, so their keys
// hold only what is each one's own, and the key of the event what they share. The
// records are told from both: [StoredCatalogEvent.Tell] for one who decides on them,
// [TellCatalog] for one who reads what a transaction wrote.

// StoredCatalogEntry is what the key of a [CatalogEntry] holds.
type StoredCatalogEntry struct {
	TxID     TxID           `json:"txId"` // with the provider: the entry's last event
	Provider DepartmentCode `json:"provider"`
	Content  CatalogContent `json:"content"` // in force
}

// StoredCatalogName is what the key of a [CatalogName] holds.
type StoredCatalogName struct {
	TxID TxID   `json:"txId"`
	Code string `json:"code"`
}

// StoredCatalogEvent is what the key of a [CatalogEvent] holds.
type StoredCatalogEvent struct {
	Department DepartmentCode      `json:"department"`
	Role       Role                `json:"role"`
	TxID       TxID                `json:"txId"`
	TxTime     time.Time           `json:"txTime"`
	Provider   DepartmentCode      `json:"provider"`
	Reviewer   Side                `json:"reviewer"`
	Event      string              `json:"event"`
	Review     *Clock              `json:"review"`
	Steps      []StoredCatalogStep `json:"steps"`
}

// StoredCatalogStep is a [CatalogStep] that neighbours in an event share.
type StoredCatalogStep struct {
	Codes []string    `json:"codes"`
	Step  CatalogStep `json:"step"` // of each, without its code
}

// Stored is what the entry's key holds.
func (e CatalogEntry) Stored() StoredCatalogEntry {
	return StoredCatalogEntry{TxID: e.TxID, Provider: e.Provider, Content: e.Content}
}

// Stored is what the event's key holds.
func (e CatalogEvent) Stored() StoredCatalogEvent {
	stored := StoredCatalogEvent{
		Department: e.Department, Role: e.Role, TxID: e.TxID, TxTime: e.TxTime,
		Provider: e.Provider, Reviewer: e.Reviewer, Event: e.Event, Review: e.Review, Steps: []StoredCatalogStep{},
	}
	for _, step := range e.Entries {
		code := step.Code
		step.Code = ""
		if last := len(stored.Steps) - 1; last >= 0 && reflect.DeepEqual(stored.Steps[last].Step, step) {
			stored.Steps[last].Codes = append(stored.Steps[last].Codes, code)
			continue
		}
		stored.Steps = append(stored.Steps, StoredCatalogStep{Codes: []string{code}, Step: step})
	}
	return stored
}

// Record is the event as departments sign it.
func (e StoredCatalogEvent) Record() (CatalogEvent, error) {
	record := CatalogEvent{Provider: e.Provider, Reviewer: e.Reviewer, Event: e.Event, Review: e.Review, Entries: []CatalogStep{}}
	for _, s := range e.Steps {
		for _, code := range s.Codes {
			step := s.Step
			step.Code = code
			record.Entries = append(record.Entries, step)
		}
	}
	return record, seal(&record, SchemaCatalogEvent, e.who(), e.tx())
}

func (e StoredCatalogEvent) who() Caller { return Caller{Department: e.Department, Role: e.Role} }
func (e StoredCatalogEvent) tx() Tx      { return Tx{ID: e.TxID, Time: e.TxTime} }

// id is the id of the event.
func (e StoredCatalogEvent) id() string { return CatalogEventID(e.TxID, e.Provider) }

// Name is the name that the event took, as departments sign it.
func (e StoredCatalogEvent) Name(stored StoredCatalogName) (CatalogName, error) {
	name := CatalogName{Provider: e.Provider, Code: stored.Code}
	return name, seal(&name, SchemaCatalogName, e.who(), e.tx())
}

// CatalogTeller tells the entries of one event. It is safe for concurrent use.
type CatalogTeller struct {
	event StoredCatalogEvent
	group map[string]int // in event.Steps, by code
}

// Tell prepares to tell the event's entries.
func (e StoredCatalogEvent) Tell() CatalogTeller {
	t := CatalogTeller{event: e, group: make(map[string]int)}
	for i, s := range e.Steps {
		for _, code := range s.Codes {
			t.group[code] = i
		}
	}
	return t
}

// Event is the event whose entries are told.
func (t CatalogTeller) Event() StoredCatalogEvent { return t.event }

// Entry is an entry as departments sign it. It fails on one whose last event is
// another one.
func (t CatalogTeller) Entry(stored StoredCatalogEntry) (CatalogEntry, error) {
	group, found := t.group[stored.Content.Code]
	if !found || stored.TxID != t.event.TxID || stored.Provider != t.event.Provider {
		return CatalogEntry{}, fmt.Errorf("internal: the ledger is inconsistent: event %s is not the last of catalog entry %s", t.event.id(), stored.Content.Code)
	}
	data, err := Canonical(stored.Content)
	if err != nil {
		return CatalogEntry{}, err
	}
	step := t.event.Steps[group].Step
	step.Code = stored.Content.Code
	inForce := &CatalogVersion{Version: step.Version, Content: stored.Content, ContentDigest: Digest(data)}
	return applyCatalog(nil, catalogEvent{step, t.event.Event, t.event.Provider, t.event.Reviewer, t.event.Review}, inForce, t.event.who(), t.event.tx())
}

// TellCatalog replaces, in the writes of one transaction, what the keys of catalog
// entries, their names and events hold by the records that this tells. A value from
// which none is told stays as it is.
func TellCatalog(writes []Write) {
	events := make(map[string]*told)
	for i, w := range writes {
		if kind, id, ok := ParseKey(w.Key); ok && kind == KindCatalogEvent && !w.Delete {
			var stored StoredCatalogEvent
			if json.Unmarshal(w.Value, &stored) != nil || stored.id() != id {
				continue
			}
			record, err := stored.Record()
			if err != nil {
				continue
			}
			if value, err := Canonical(record); err == nil {
				writes[i].Value = value
				events[id] = &told{CatalogTeller: stored.Tell(), shells: make(map[int]*shell)}
			}
		}
	}
	for i, w := range writes {
		kind, id, ok := ParseKey(w.Key)
		if !ok || w.Delete {
			continue
		}
		switch kind { //nolint:exhaustive // no other kind is told so
		case KindCatalogEntry:
			if value, ok := tellEntry(events, id, w.Value); ok {
				writes[i].Value = value
			}
		case KindCatalogName:
			if value, ok := tellName(events, id, w.Value); ok {
				writes[i].Value = value
			}
		}
	}
}

// told is an event with its entries' shells, by the number of the step.
type told struct {
	CatalogTeller
	shells map[int]*shell
}

func tellName(events map[string]*told, id string, value []byte) ([]byte, bool) {
	var stored StoredCatalogName
	provider, _, _ := strings.Cut(id, "~")
	if json.Unmarshal(value, &stored) != nil || stored.Code == "" {
		return nil, false
	}
	t := events[CatalogEventID(stored.TxID, DepartmentCode(provider))]
	if t == nil {
		return nil, false
	}
	name, err := t.event.Name(stored)
	if err != nil {
		return nil, false
	}
	data, err := Canonical(name)
	return data, err == nil
}

// tellEntry is [CatalogTeller.Entry] on bytes: gateways do it for every entry that
// the channel's departments write.
func tellEntry(events map[string]*told, code string, value []byte) ([]byte, bool) {
	var stored struct {
		TxID     TxID            `json:"txId"`
		Provider DepartmentCode  `json:"provider"`
		Content  json.RawMessage `json:"content"`
	}
	if json.Unmarshal(value, &stored) != nil || stored.Content == nil {
		return nil, false
	}
	t := events[CatalogEventID(stored.TxID, stored.Provider)]
	if t == nil {
		return nil, false
	}
	group, found := t.group[code]
	if !found {
		return nil, false
	}
	s := t.shells[group]
	if s == nil {
		var err error
		if s, err = t.shell(group); err != nil {
			return nil, false
		}
		t.shells[group] = s
	}
	return s.entry(stored.Content), true
}

// shell is the canonical form of an entry, cut where entries of one step differ: at
// digest, content and contentDigest.
type shell struct{ meta, head, tail []byte }

const (
	digestField        = `"digest":"`
	contentDigestField = `,"contentDigest":"`
)

// shell cuts the entries of a step.
func (t CatalogTeller) shell(group int) (*shell, error) {
	step := t.event.Steps[group].Step
	entry, err := applyCatalog(nil, catalogEvent{step, t.event.Event, t.event.Provider, t.event.Reviewer, t.event.Review},
		&CatalogVersion{Version: step.Version}, t.event.who(), t.event.tx())
	if err != nil {
		return nil, err
	}
	entry.Digest = ""
	data, err := Canonical(entry)
	if err != nil {
		return nil, err
	}
	content, err := Canonical(CatalogContent{})
	if err != nil {
		return nil, err
	}
	// None of the cuts can stand in a text, where quotes are escaped, and all come
	// before the fields that others fill in.
	meta, rest, one := bytes.Cut(data, []byte(digestField))
	head, tail, two := bytes.Cut(rest, append(content, contentDigestField...))
	if !one || !two {
		return nil, errors.New("internal: a catalog entry has another form")
	}
	return &shell{meta, head, tail}, nil
}

// entry puts content into the shell.
func (s *shell) entry(content []byte) []byte {
	sum := sha256.Sum256(content)
	size := len(s.meta) + len(digestField) + len(s.head) + len(content) + len(contentDigestField) + len(s.tail) + 4*len(sum)
	at := len(s.meta) + len(digestField)
	data := append(make([]byte, 0, size), s.meta...)
	data = append(data, digestField...)
	data = append(data, s.head...)
	data = append(data, content...)
	data = append(data, contentDigestField...)
	data = hex.AppendEncode(data, sum[:])
	data = append(data, s.tail...)
	sum = sha256.Sum256(data)
	data = data[:len(data)+2*len(sum)]
	copy(data[at+2*len(sum):], data[at:])
	hex.Encode(data[at:], sum[:])
	return data
}
