package domain

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// storedEntryTexts are what keys of entries hold, canonical and not.
func storedEntryTexts(t fataler) []string {
	var texts []string
	content := someContent()
	add := func(c CatalogContent) {
		texts = append(texts, string(canonicalOf(t, StoredCatalogEntry{TxID: "1", Provider: "police", Content: c})))
	}
	add(content)
	add(CatalogContent{})
	content.Items, content.LegalBasis, content.RelatedCodes = []CatalogItem{}, []string{}, []string{"a", "", "婚姻"}
	add(content)
	content.Items = []CatalogItem{{Name: "婚姻", Sensitive: true, Level: 4, ShareType: 1}, {Name: "b"}}
	add(content)
	content.Abstract = "a\u2028\"<&>\\\t"
	add(content)
	content.Abstract, content.Level = "", 12
	add(content)
	plain := texts[0]
	for _, change := range [][2]string{
		{`"txId":"1"`, `"txId":1`}, {`"txId"`, `"TxId"`}, {`{"txId"`, `{ "txId"`}, {`"provider"`, `"x":1,"provider"`}, {`"level":`, `"level":-`}, {`"level":`, `"level":0`},
		{`"level":1`, `"level":1.0`}, {`"level":1`, `"level":1e0`}, {`"sensitive":false`, `"sensitive":null`}, {`"items":[`, `"items":[,`}, {`"items":[{`, `"items":[[{`},
		{`"shareMode":"`, `"shareMode":"\xff`}, {`"shareMode":"`, "\"shareMode\":\"\n"}, {`"shareMode":"`, `"shareMode":"\u0041`}, {`}}`, `}} `}, {`}}`, `}}x`}, {`}}`, `}`}, {`}}`, `},"content":{}}`},
	} {
		texts = append(texts, strings.Replace(plain, change[0], change[1], 1))
	}
	for n := range len(plain) {
		texts = append(texts, plain[:n])
	}
	return texts
}

// What is read the short way is what the general way reads, and most is.
func TestReadStoredEntry(t *testing.T) {
	short := 0
	for _, text := range storedEntryTexts(t) {
		if checkStoredEntry(t, []byte(text)) {
			short++
		}
	}
	if short < 3 {
		t.Errorf("%d values are read the short way", short)
	}
}

func FuzzReadStoredEntry(f *testing.F) {
	for _, text := range storedEntryTexts(f) {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, value []byte) { checkStoredEntry(t, value) })
}

func checkStoredEntry(t *testing.T, value []byte) (short bool) {
	t.Helper()
	got, short := ReadStoredEntry(value)
	var want StoredCatalogEntry
	if err := json.Unmarshal(value, &want); short && (err != nil || !cmp.Equal(want, got)) {
		t.Errorf("%q: %v (-general +short):\n%s", value, err, cmp.Diff(want, got))
	}
	name, ok := readStoredName(value)
	var wantName StoredCatalogName
	if err := json.Unmarshal(value, &wantName); ok != (err == nil && wantName.Code != "") || ok && name != wantName {
		t.Errorf("%q as a name: %v, %v, want %v, %v", value, name, ok, wantName, err)
	}
	return short
}

func TestReadStoredName(t *testing.T) {
	for _, text := range []string{`{"txId":"1","code":"a"}`, `{"txId":"1","code":""}`, `{"code":"a","txId":"1"}`, `{"txId":"1","code":"\u0041"}`, `{"txId":"1","code":"a"} `, `{"txId":"1","code":"a"`, `{}`} {
		checkStoredEntry(t, []byte(text))
	}
}

// An event tells of an entry what the entry told by it says, and what is told stays.
func TestWrittenEvent(t *testing.T) {
	event := CatalogEvent{
		Meta: Meta{Department: "police", Role: RoleOperator, TxID: "1", TxTime: someTx.Time}, Provider: "police", Reviewer: SideLead, Event: "submit", Review: &Clock{Event: DeadlineCatalogReview},
		Entries: []CatalogStep{{Code: "a", Seq: 1, State: CatalogRegPending, Version: 1, LastVersion: 1}, {Code: "b", Seq: 3, State: CatalogPublished, Version: 2, LastVersion: 2, Update: &Clock{}}},
	}
	writes := []Write{{Key: "cate~1~police", Value: canonicalOf(t, event.Stored())}}
	for _, step := range event.Entries {
		content := someContent()
		content.Code = step.Code
		writes = append(writes, Write{Key: "cat~" + step.Code, Value: canonicalOf(t, StoredCatalogEntry{TxID: "1", Provider: "police", Content: content})})
	}
	e, ok := ReadCatalogEvent(writes[0])
	if !ok {
		t.Fatal("the event is not read")
	}
	told := slices.Clone(writes)
	TellCatalog(told)
	for i, w := range writes[1:] {
		if key, ok := EventOfWrite(w); !ok || key != e.Key() {
			t.Errorf("%s is told by %v, %v", w.Key, key, ok)
		}
		var want CatalogEntry
		if err := json.Unmarshal(told[1+i].Value, &want); err != nil || bytes.Equal(told[1+i].Value, w.Value) {
			t.Fatalf("%s is not told, %v", w.Key, err)
		}
		want.Content, want.Digest, want.ContentDigest = CatalogContent{}, "", ""
		if got, ok := e.Entry(event.Entries[i].Code); !ok || !cmp.Equal(want, got) {
			t.Errorf("Entry: %v (-told +got):\n%s", ok, cmp.Diff(want, got))
		}
	}
	if _, ok := e.Entry("c"); ok {
		t.Error("an entry is told that the event does not name")
	}
	again := slices.Clone(told)
	TellCatalog(again)
	if diff := cmp.Diff(told, again); diff != "" {
		t.Errorf("records told once more (-once +twice):\n%s", diff)
	}
	for _, w := range []Write{told[0], writes[1], {Key: writes[0].Key, Delete: true}, {Key: "cate~2~police", Value: writes[0].Value}, {Key: "cate~1~police"}} {
		if _, ok := ReadCatalogEvent(w); ok {
			t.Errorf("%s %.60q is read as an event", w.Key, w.Value)
		}
	}
}
