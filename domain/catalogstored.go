package domain

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"
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

// CatalogTeller tells the entries of one event. It is safe for concurrent use.
type CatalogTeller struct {
	event StoredCatalogEvent
	group map[string]int // in event.Steps, by code
}

// Tell prepares to tell the event's entries.
func (e StoredCatalogEvent) Tell() CatalogTeller {
	n := 0
	for _, s := range e.Steps {
		n += len(s.Codes)
	}
	t := CatalogTeller{event: e, group: make(map[string]int, n)}
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
// entries and events hold by the records that this tells. A value from which none is
// told stays as it is.
func TellCatalog(writes []Write) {
	events := make(map[CatalogEventKey]*WrittenEvent)
	for i, w := range writes {
		if e, ok := ReadCatalogEvent(w); ok {
			if value, ok := e.Tell(w.Key, w.Value); ok {
				writes[i].Value, events[e.Key()] = value, e
			}
		}
	}
	if len(events) == 0 {
		return
	}
	for i, w := range writes {
		key, ok := EventOfWrite(w)
		if e := events[key]; ok && e != nil {
			if value, ok := e.Tell(w.Key, w.Value); ok {
				writes[i].Value = value
			}
		}
	}
}

// CatalogEventKey names an event.
type CatalogEventKey struct {
	TxID     TxID
	Provider DepartmentCode
}

// EventOfWrite is the event that tells what the key of an entry holds; ok is false when
// none does.
func EventOfWrite(w Write) (event CatalogEventKey, ok bool) {
	if kind, _, _ := ParseKey(w.Key); kind != KindCatalogEntry || w.Delete {
		return CatalogEventKey{}, false
	}
	var stored struct {
		TxID     TxID            `json:"txId"`
		Provider DepartmentCode  `json:"provider"`
		Content  json.RawMessage `json:"content"`
	}
	ok = json.Unmarshal(w.Value, &stored) == nil && stored.Content != nil
	return CatalogEventKey{stored.TxID, stored.Provider}, ok
}

// WrittenEvent is an event as one has it who reads what transactions wrote. It tells
// on bytes: gateways do it for every entry that the channel's departments write. It
// is safe for concurrent use.
type WrittenEvent struct {
	CatalogTeller

	mu     sync.Mutex
	shells map[int]*shell // by the number of the step; guarded by mu
}

// ReadCatalogEvent reads an event that a transaction wrote; ok is false when the write
// is none.
func ReadCatalogEvent(w Write) (e *WrittenEvent, ok bool) {
	kind, id, _ := ParseKey(w.Key)
	if kind != KindCatalogEvent || w.Delete {
		return nil, false
	}
	var stored StoredCatalogEvent
	if json.Unmarshal(w.Value, &stored) != nil || stored.Steps == nil || stored.id() != id {
		return nil, false
	}
	return &WrittenEvent{CatalogTeller: stored.Tell(), shells: make(map[int]*shell)}, true
}

// Key names the event.
func (e *WrittenEvent) Key() CatalogEventKey {
	return CatalogEventKey{e.event.TxID, e.event.Provider}
}

// Tell is the canonical form of the record under its own key, or under that of an entry
// that holds value; ok is false when the event does not tell it. Whether it is the event
// that tells it, [EventOfWrite] says.
func (e *WrittenEvent) Tell(key string, value []byte) (record []byte, ok bool) {
	kind, id, _ := ParseKey(key)
	switch kind { //nolint:exhaustive // no other kind is told so
	case KindCatalogEntry:
		return e.tellEntry(id, value)
	case KindCatalogEvent:
		return e.tellItself()
	}
	return nil, false
}

func (e *WrittenEvent) tellItself() ([]byte, bool) {
	record, err := e.event.Record()
	if err != nil {
		return nil, false
	}
	data, err := Canonical(record)
	return data, err == nil
}

// Entry is the entry under a code that the event tells, without content and digests;
// ok is false when it tells none.
func (e *WrittenEvent) Entry(code string) (entry CatalogEntry, ok bool) {
	if s := e.shellOf(code); s != nil {
		return s.like, true
	}
	return CatalogEntry{}, false
}

func (e *WrittenEvent) tellEntry(code string, value []byte) ([]byte, bool) {
	var stored struct {
		Content json.RawMessage `json:"content"`
	}
	s := e.shellOf(code)
	if s == nil || json.Unmarshal(value, &stored) != nil || stored.Content == nil {
		return nil, false
	}
	return s.entry(stored.Content), true
}

// shellOf is the shell of an entry, nil when the event does not tell it.
func (e *WrittenEvent) shellOf(code string) *shell {
	group, found := e.group[code]
	if !found {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s, made := e.shells[group]
	if !made {
		var err error
		if s, err = e.shell(group); err != nil {
			s = nil
		}
		e.shells[group] = s
	}
	return s
}

// shell is the canonical form of an entry, cut where entries of one step differ: at
// digest, content and contentDigest.
type shell struct {
	meta, head, tail []byte
	like             CatalogEntry // such an entry, without content and digests
}

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
	return &shell{meta, head, tail, entry}, nil
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
