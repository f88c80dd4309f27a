package domain

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fataler is what tests and properties have in common.
type fataler interface {
	Helper()
	Fatal(args ...any)
}

// catalogWrites are the writes of changes that are one event, in the order of peers,
// and the same with the records in them.
func catalogWrites(t fataler, changes []CatalogChange, event CatalogEvent) (stored, told []Write) {
	t.Helper()
	add := func(kind RecordKind, id string, value, record any) {
		key := KeyOf(kind, id)
		stored = append(stored, Write{Key: key, Value: canonicalOf(t, value)})
		told = append(told, Write{Key: key, Value: canonicalOf(t, record)})
	}
	add(KindCatalogEvent, CatalogEventID(event.TxID, event.Provider), event.Stored(), event)
	for _, c := range changes {
		add(KindCatalogEntry, c.Entry.Content.Code, c.Entry.Stored(), c.Entry)
		if c.TakenName != "" {
			add(KindCatalogName, c.TakenName, c.Entry.Content.Code, c.Entry.Content.Code) // is told by nothing
		}
	}
	return stored, told
}

func canonicalOf(t fataler, v any) []byte {
	t.Helper()
	data, err := Canonical(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestTellCatalog tells a batch, and leaves alone what no event tells.
func TestTellCatalog(t *testing.T) {
	call := callBehind(CatalogEntry{})
	call.Who, call.Tx = Caller{Department: "police", Role: RoleOperator}, someTx
	var changes []CatalogChange
	for i, text := range []string{`水情`, `"digest":"`, `"content":{"code":""`, "a\u2028<&>\\"} {
		content := someContent()
		content.Code, content.Name, content.Abstract = content.Code[:len(content.Code)-1]+string(rune('1'+i)), content.Name+text, text
		event := catalogEvent{CatalogStep{Code: content.Code, Seq: 1, State: CatalogDraft, Version: 1, LastVersion: 1}, "draft", "police", SideLead, nil}
		if i == 3 {
			event.Reason = text // so that it has a step of its own
		}
		version, err := newVersion(call, 1, content)
		if err != nil {
			t.Fatal(err)
		}
		change, err := recordCatalog(nil, call, event, version)
		if err != nil {
			t.Fatal(err)
		}
		changes = append(changes, change.takeName(nil, content))
	}
	events, err := CatalogEvents(call, changes...)
	if err != nil || len(events) != 1 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	stored := events[0].Stored()
	if len(stored.Steps) != 2 || len(stored.Steps[0].Codes) != 3 {
		t.Errorf("steps %+v", stored.Steps)
	}
	writes, want := catalogWrites(t, changes, events[0])
	told := slices.Clone(writes)
	slices.Reverse(told) // the order does not matter
	TellCatalog(told)
	slices.Reverse(told)
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("writes (-made +told):\n%s", diff)
	}

	alone := slices.Clone(writes[1:]) // without the event
	TellCatalog(alone)
	if diff := cmp.Diff(writes[1:], alone); diff != "" {
		t.Errorf("without its event something is told:\n%s", diff)
	}
	for _, value := range []string{``, `{}`, `[]`, `{"txId":"` + string(stored.TxID) + `","provider":"police"}`, `{"txId":1}`} {
		odd := slices.Clone(writes)
		odd[1].Value = []byte(value)
		TellCatalog(odd)
		if string(odd[1].Value) != value {
			t.Errorf("%s holds %q and is told as %q", odd[1].Key, value, odd[1].Value)
		}
	}
	for name, change := range map[string]func(*StoredCatalogEntry){
		"another transaction": func(e *StoredCatalogEntry) { e.TxID = "other" },
		"another provider":    func(e *StoredCatalogEntry) { e.Provider = "civil" },
		"another code":        func(e *StoredCatalogEntry) { e.Content.Code = "307003/999999" },
	} {
		entry := changes[0].Entry.Stored()
		change(&entry)
		if got, err := stored.Tell().Entry(entry); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// FuzzTellCatalog tells whatever an entry's and an event's key may hold: what is told
// is JSON.
func FuzzTellCatalog(f *testing.F) {
	f.Add([]byte(`{"txId":"1","provider":"police","content":{"code":"a"}}`), []byte(`{"txId":"1","provider":"police","steps":[{"codes":["a"],"step":{"code":""}}]}`))
	f.Fuzz(func(t *testing.T, entry, event []byte) {
		writes := []Write{{Key: "cat~a", Value: entry}, {Key: "cate~1~police", Value: event}}
		TellCatalog(writes)
		for i, before := range [][]byte{entry, event} {
			if string(writes[i].Value) != string(before) && !json.Valid(writes[i].Value) {
				t.Errorf("%q", writes[i].Value)
			}
		}
	})
}
