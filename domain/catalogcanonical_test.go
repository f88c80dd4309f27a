package domain

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

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
	return short
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

// checkSameForm holds what is written out against the general way, in both directions.
func checkSameForm[T any](t *testing.T, data []byte) {
	t.Helper()
	var want, got T
	wantErr, gotErr := parseCanonical(data, &want), ParseCanonical(data, &got)
	if (wantErr == nil) != (gotErr == nil) || wantErr != nil && wantErr.Error() != gotErr.Error() {
		t.Fatalf("%T %q: error %v, want %v", want, data, gotErr, wantErr)
	}
	if wantErr != nil {
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", data, diff)
	}
	for _, v := range []any{got, &got} {
		if again, err := Canonical(v); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%T encoded again: %s, %v; want %s", v, again, err, data)
		}
	}
}

func checkSameForms(t *testing.T, data []byte) {
	t.Helper()
	checkSameForm[RegisterBatchArgs](t, data)
	checkSameForm[StoredCatalogEntry](t, data)
	checkSameForm[CatalogContent](t, data)
	checkSameForm[CatalogEntry](t, data)
}

// catalogForms are values that are written out, and some that must take the general way.
func catalogForms(t testing.TB) map[string][]byte {
	forms := make(map[string][]byte)
	for name, change := range map[string]func(*CatalogContent){
		"as it is": func(*CatalogContent) {},
		"empty":    func(c *CatalogContent) { *c = CatalogContent{} },
		"no items": func(c *CatalogContent) { c.Items = nil },
		"no bases": func(c *CatalogContent) { c.LegalBasis = nil },
		"no codes": func(c *CatalogContent) { c.RelatedCodes = nil },
		"empty lists": func(c *CatalogContent) {
			c.Items, c.LegalBasis, c.RelatedCodes = []CatalogItem{}, []string{}, []string{}
		},
		"lists": func(c *CatalogContent) {
			c.Items = append(c.Items, CatalogItem{Name: "]", Sensitive: true, Level: 3, ShareType: NotShared}, CatalogItem{Name: "户号"})
			c.LegalBasis, c.RelatedCodes = []string{"", "]", "条例"}, []string{"a", "b"}
		},
		"quoted":    func(c *CatalogContent) { c.Abstract = `so "called" \ and so` },
		"control":   func(c *CatalogContent) { c.DutyRef = "a\tb\x00\x7f" },
		"separator": func(c *CatalogContent) { c.Name = "a\u2028b" },
		"dash":      func(c *CatalogContent) { c.Name = "a\u2027\u202a—“水”𠮷" },
		"HTML":      func(c *CatalogContent) { c.SystemRef = "<a&b>" },
		"not UTF-8": func(c *CatalogContent) { c.ShareCondition = "a\xffb" },
		"numbers":   func(c *CatalogContent) { c.Level, c.ShareType, c.OpenType = 12, -1, 0 },
		"in items":  func(c *CatalogContent) { c.Items[0].Type, c.Items[1].Level = "N（\u2029）", -1<<63 },
	} {
		content := someContent()
		content.Items = append(content.Items, content.Items...)
		change(&content)
		entry := *someEntry(CatalogPublished)
		entry.Content, entry.Opinion = content, content.Abstract
		late := entry
		late.TxTime, late.Update, late.Review = entry.TxTime.In(time.FixedZone("", 3600)), nil, &Clock{LegalBasis: content.Name, StoppedAt: &entry.TxTime}
		for form, v := range map[string]any{
			"content": content, "stored": StoredCatalogEntry{TxID: "1", Provider: DepartmentCode(content.Name), Content: content}, "entry": &entry, "late": &late,
			"batch": RegisterBatchArgs{Contents: []CatalogContent{someContent(), content}}, "draft": RegisterBatchArgs{Contents: []CatalogContent{content}, Draft: true},
			"none": RegisterBatchArgs{Contents: []CatalogContent{}}, "null": RegisterBatchArgs{}, "nobody": (*CatalogEntry)(nil),
		} {
			want, wantErr := canonical(v)
			got, err := Canonical(v)
			if !bytes.Equal(want, got) || (err == nil) != (wantErr == nil) {
				t.Errorf("%s, %s: %s, %v; want %s, %v", name, form, got, err, want, wantErr)
			}
			forms[name+" "+form] = want
		}
	}
	return forms
}

// What is written out has the form that the general way gives, and nothing else is read.
func TestCatalogCanonical(t *testing.T) {
	for name, data := range catalogForms(t) {
		t.Run(name, func(t *testing.T) {
			checkSameForms(t, data)
			for _, escaped := range []string{`\u2028`, `\u2029`, `\t`, `\"`} {
				raw, err := strconv.Unquote(`"` + escaped + `"`)
				if err != nil {
					t.Fatal(err)
				}
				checkSameForms(t, bytes.ReplaceAll(data, []byte(escaped), []byte(raw)))
			}
			for i := 0; i < len(data); i += 1 + len(data)/20 {
				checkSameForms(t, data[:i])
				for _, c := range []byte(` "\0-x,]}`) {
					checkSameForms(t, append(append(bytes.Clone(data[:i]), c), data[i:]...))
					checkSameForms(t, append(append(bytes.Clone(data[:i]), c), data[i+1:]...))
				}
			}
		})
	}
	content, entry := someContent(), someEntry(CatalogPublished)
	for _, v := range []any{content, StoredCatalogEntry{Content: content}, entry} {
		if _, ok := writtenOut(v); !ok {
			t.Errorf("an ordinary %T takes the general way", v)
		}
	}
	var args RegisterBatchArgs
	if !args.parseCanonical(canonicalOf(t, RegisterBatchArgs{Contents: []CatalogContent{content, content}, Draft: true})) {
		t.Error("an ordinary batch takes the general way")
	}
}

func FuzzCatalogCanonical(f *testing.F) {
	for _, data := range catalogForms(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkSameForms(t, data) })
}
