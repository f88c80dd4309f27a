package sqlindex

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/zhenglian/zhenglian/domain"
)

// The keys of catalog entries hold less than their records; see [domain.TellCatalog].
// The index keeps what the keys hold, half as much, and tells the records when they are
// read.

// toldWrite is a write whose record is told by the event with the number event; the
// value itself is the record when that is 0.
type toldWrite struct {
	key   string
	event int64
}

// events keeps events that were read: a write has one number for ever. It is safe for
// concurrent use.
type events struct {
	mu   sync.Mutex
	kept map[int64]*domain.WrittenEvent
}

// mostEvents bounds the events that are kept. One of a batch holds its thousand codes.
const mostEvents = 64

// tellAll replaces values by the records that they tell.
func (x *Index) tellAll(ctx context.Context, q rowsQuerier, writes []toldWrite, values []*[]byte) error {
	var numbers []int64
	for _, w := range writes {
		if w.event != 0 && !slices.Contains(numbers, w.event) {
			numbers = append(numbers, w.event)
		}
	}
	found, err := x.eventsOf(ctx, q, numbers)
	if err != nil {
		return err
	}
	for i, w := range writes {
		if w.event == 0 {
			continue
		}
		if *values[i], err = tell(found[w.event], w.key, *values[i]); err != nil {
			return err
		}
	}
	return nil
}

func tell(e *domain.WrittenEvent, key string, value []byte) ([]byte, error) {
	record, ok := e.Tell(key, value)
	if !ok {
		return nil, fmt.Errorf("event %v does not tell %q", e.Key(), key)
	}
	return record, nil
}

// eventsOf reads the events with the numbers of their writes.
func (x *Index) eventsOf(ctx context.Context, q rowsQuerier, numbers []int64) (map[int64]*domain.WrittenEvent, error) {
	found := make(map[int64]*domain.WrittenEvent, len(numbers))
	var args []any
	x.events.mu.Lock()
	for _, n := range numbers {
		if e := x.events.kept[n]; e != nil {
			found[n] = e
		} else {
			args = append(args, n)
		}
	}
	x.events.mu.Unlock()
	if len(args) == 0 {
		return found, nil
	}
	rows, err := q.QueryContext(ctx, `SELECT n, key, value FROM writes WHERE n IN (?`+strings.Repeat(`, ?`, len(args)-1)+`)`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var n int64
		var w domain.Write
		if err := rows.Scan(&n, &w.Key, &w.Value); err != nil {
			return nil, err
		}
		e, ok := domain.ReadCatalogEvent(w)
		if !ok {
			return nil, fmt.Errorf("write %d holds no catalog event", n)
		}
		found[n] = e
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for _, n := range args {
		if found[n.(int64)] == nil {
			return nil, fmt.Errorf("write %d is not in the index", n)
		}
	}
	x.keepEvents(found)
	return found, nil
}

// findIn is [Index.eventsOf] within a transaction.
func (x *Index) findIn(tx *sql.Tx) findEvents {
	return func(ctx context.Context, numbers []int64) (map[int64]*domain.WrittenEvent, error) {
		return x.eventsOf(ctx, tx, numbers)
	}
}

func (x *Index) keepEvents(found map[int64]*domain.WrittenEvent) {
	x.events.mu.Lock()
	defer x.events.mu.Unlock()
	for n, e := range found {
		if x.events.kept == nil || len(x.events.kept) >= mostEvents {
			x.events.kept = make(map[int64]*domain.WrittenEvent)
		}
		x.events.kept[n] = e
	}
}

// transactionEvents are the catalog events that a transaction wrote.
type transactionEvents map[domain.CatalogEventKey]numberedEvent

type numberedEvent struct {
	n int64
	*domain.WrittenEvent
}

// eventsIn reads the events among the writes of a transaction, the first of which has
// the number first.
func eventsIn(writes []domain.Write, first int64) transactionEvents {
	var events transactionEvents
	for i, w := range writes {
		if e, ok := domain.ReadCatalogEvent(w); ok {
			if events == nil {
				events = transactionEvents{}
			}
			events[e.Key()] = numberedEvent{first + int64(i), e}
		}
	}
	return events
}

// of answers the number of the event that tells what a write holds, 0 when none does,
// and of an entry what is derived from.
func (t transactionEvents) of(kind domain.RecordKind, id string, w domain.Write) (event int64, entry *domain.CatalogEntry) {
	switch {
	case w.Delete:
		return 0, nil
	case kind == domain.KindCatalogEntry:
		if len(t) > 0 {
			if event, entry = t.ofEntry(id, w); event != 0 {
				return event, entry
			}
		}
		return 0, readEntry(id, w.Value, nil)
	case len(t) == 0:
	case kind == domain.KindCatalogEvent:
		if e, ok := domain.ReadCatalogEvent(w); ok {
			return t[e.Key()].n, nil
		}
	}
	return 0, nil
}

func (t transactionEvents) ofEntry(code string, w domain.Write) (event int64, entry *domain.CatalogEntry) {
	stored, plain := domain.ReadStoredEntry(w.Value)
	key := domain.CatalogEventKey{TxID: stored.TxID, Provider: stored.Provider}
	if !plain {
		var ok bool
		if key, ok = domain.EventOfWrite(w); !ok {
			return 0, nil
		}
	}
	e, found := t[key]
	if !found {
		return 0, nil
	}
	told, ok := e.Entry(code)
	if !ok {
		return 0, nil
	}
	if !plain {
		return e.n, readEntry(code, w.Value, e.WrittenEvent)
	}
	told.Content = stored.Content
	return e.n, &told
}

// readEntry reads an entry that e tells, or that is told; nil when it cannot be read.
func readEntry(code string, value []byte, e *domain.WrittenEvent) *domain.CatalogEntry {
	if e == nil {
		if entry, ok := decode[domain.CatalogEntry](value); ok {
			return entry
		}
		return nil
	}
	if stored, plain := domain.ReadStoredEntry(value); plain {
		if entry, ok := e.Entry(code); ok {
			entry.Content = stored.Content
			return &entry
		}
	}
	if record, ok := e.Tell(domain.KeyOf(domain.KindCatalogEntry, code), value); ok {
		return readEntry(code, record, nil)
	}
	return nil
}
