package evidence_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/evidence"
	"github.com/zhenglian/zhenglian/gateway/evidence/evidencetest"
	"github.com/zhenglian/zhenglian/gateway/trail"
)

// newWorld answers a consortium of which the police has given and the civil
// affairs bureau has used, each with a log over several bundles and anchors.
func newWorld(t *testing.T) *evidencetest.World {
	t.Helper()
	w := evidencetest.New(t, "police", "civil")
	police, civil := w.Logs["police"], w.Logs["civil"]
	police.Append(t, evidencetest.Records(domain.DirectionProvider, "police", "civil", 0, 300)...)
	police.Anchor(t)
	police.AppendRaw(t, []byte("no access record\n"))
	police.Append(t, evidencetest.Records(domain.DirectionProvider, "police", "market", 300, 400)...)
	police.Anchor(t)
	police.Append(t, evidencetest.Records(domain.DirectionProvider, "police", "civil", 700, 10)...) // not anchored
	civil.Append(t, evidencetest.Records(domain.DirectionConsumer, "police", "civil", 0, 300)...)
	civil.Anchor(t)
	return w
}

// source is a log's range under its newest anchor.
func source(t *testing.T, w *evidencetest.World, code domain.DepartmentCode, from, to uint64) evidence.Source {
	t.Helper()
	anchors := w.Anchors(code)
	return evidence.Source{
		Department: code, Anchor: w.Bundle(anchors[len(anchors)-1]), From: from, To: to, Log: w.Logs[code].Remote(t),
	}
}

// writeFolder writes a folder of both logs.
func writeFolder(t *testing.T, w *evidencetest.World) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "evidence")
	_, err := evidence.Write(t.Context(), folder, evidence.Options{
		Anchors: w.Consortium.Anchors(), Filter: trail.Filter{Counterpart: "civil"},
		Sources: []evidence.Source{source(t, w, "police", 257, 600), source(t, w, "civil", 0, 0)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

func TestWriteAndVerify(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		name     string
		filter   trail.Filter
		from, to uint64 // of the police's log
		rows     int
		foreign  []uint64
	}{
		{"all", trail.Filter{}, 0, 0, 1000, []uint64{300}},
		{"all of one log", trail.Filter{Writer: "police"}, 0, 701, 700, []uint64{300}},
		{"one consumer", trail.Filter{Counterpart: "market"}, 0, 0, 400, []uint64{300}},
		{"a time", trail.Filter{From: evidencetest.Record(domain.DirectionProvider, "police", "civil", 10).At, To: evidencetest.Record(domain.DirectionProvider, "police", "civil", 20).At}, 0, 0, 20, []uint64{300}},
		{"a range", trail.Filter{Writer: "police"}, 256, 300, 44, nil},
		{"one entry", trail.Filter{Writer: "police"}, 700, 701, 1, nil},
		{"nobody", trail.Filter{CaseRef: "none"}, 3, 512, 0, []uint64{300}},
	} {
		t.Run(test.name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "some", "evidence")
			var told uint64
			wrote, err := evidence.Write(t.Context(), folder, evidence.Options{
				Anchors: w.Consortium.Anchors(), Filter: test.filter,
				Sources:  []evidence.Source{source(t, w, "police", test.from, test.to), source(t, w, "civil", 0, 0)},
				Progress: func(_ domain.DepartmentCode, written, _ uint64) { told += written },
			})
			if err != nil {
				t.Fatal(err)
			}
			if told == 0 {
				t.Error("there was no progress")
			}
			report, err := evidence.Verify(os.DirFS(folder), w.Consortium.Anchors())
			if err != nil {
				t.Fatal(err)
			}
			if report.Rows != test.rows || wrote.Rows != test.rows || report.Filter != test.filter {
				t.Errorf("%d rows, written %d, of %+v, want %d", report.Rows, wrote.Rows, report.Filter, test.rows)
			}
			if len(report.Logs) != 2 || report.Logs[0].Department != "civil" || report.Logs[1].Anchor.Size != 701 || len(report.Logs[0].Signers) < 3 {
				t.Fatalf("logs are %+v", report.Logs)
			}
			if !slices.Equal(report.Logs[1].Foreign, test.foreign) {
				t.Errorf("foreign entries are %v, want %v", report.Logs[1].Foreign, test.foreign)
			}
			lines := readCSV(t, filepath.Join(folder, "trace.csv"))
			if len(lines) != test.rows+1 || lines[0][0] != "log" || lines[0][1] != "index" {
				t.Errorf("trace.csv has %d lines, the first %v", len(lines), lines[0])
			}
		})
	}
}

func readCSV(t *testing.T, path string) [][]string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff")))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// mustRefuse requires that a folder is not accepted, and by an answer that says
// so and is no mere failure to read.
func mustRefuse(t *testing.T, w *evidencetest.World, folder, what string) {
	t.Helper()
	_, err := evidence.Verify(os.DirFS(folder), w.Consortium.Anchors())
	var refused *evidence.RefusedError
	var unknown *evidence.CannotCheckError
	if !errors.As(err, &refused) && !errors.As(err, &unknown) {
		t.Errorf("%s: answers %v, want a refusal", what, err)
	}
}

// files answers the files of a folder.
func files(t *testing.T, folder string) []string {
	t.Helper()
	var out []string
	err := fs.WalkDir(os.DirFS(folder), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestTamper changes every file of a folder in every way and expects each folder
// to be refused.
func TestTamper(t *testing.T) {
	w := newWorld(t)
	folder := writeFolder(t, w)
	all := files(t, folder)
	if want := []string{"logs/civil/anchor.zlproof", "logs/civil/entries", "logs/police/anchor.zlproof", "logs/police/entries", "manifest.json", "trace.csv"}; !slices.Equal(all, want) {
		t.Fatalf("the folder has %v, want %v", all, want)
	}
	put := func(t *testing.T, path string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range all {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(folder, name)
			original, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			defer put(t, path, original)
			step := max(1, len(original)/60)
			for at := 0; at < len(original); at += step {
				changed := bytes.Clone(original)
				changed[at] ^= 1
				put(t, path, changed)
				mustRefuse(t, w, folder, fmt.Sprintf("bit of byte %d flipped", at))
			}
			for what, changed := range map[string][]byte{
				"last byte dropped":  original[:len(original)-1],
				"second half":        original[len(original)/2:],
				"first half":         original[:len(original)/2],
				"empty":              {},
				"a byte more":        append(bytes.Clone(original), 'x'),
				"a newline more":     append(bytes.Clone(original), '\n'),
				"the same once more": append(bytes.Clone(original), original...),
			} {
				put(t, path, changed)
				mustRefuse(t, w, folder, what)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			mustRefuse(t, w, folder, "dropped")
			for _, other := range all {
				if other == name {
					continue
				}
				data, err := os.ReadFile(filepath.Join(folder, other))
				if err != nil {
					t.Fatal(err)
				}
				put(t, path, data)
				mustRefuse(t, w, folder, "replaced by "+other)
			}
		})
	}
	t.Run("files of the logs swapped", func(t *testing.T) {
		for _, name := range []string{"anchor.zlproof", "entries"} {
			swap(t, filepath.Join(folder, "logs", "police", name), filepath.Join(folder, "logs", "civil", name))
			mustRefuse(t, w, folder, name)
			swap(t, filepath.Join(folder, "logs", "police", name), filepath.Join(folder, "logs", "civil", name))
		}
	})
	t.Run("a file more", func(t *testing.T) {
		for _, name := range []string{"more.csv", "logs/police/more", "logs/market/entries"} {
			path := filepath.Join(folder, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			put(t, path, []byte("x"))
			mustRefuse(t, w, folder, name)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	})
	if _, err := evidence.Verify(os.DirFS(folder), w.Consortium.Anchors()); err != nil {
		t.Errorf("the folder that was put back does not verify: %v", err)
	}
}

func swap(t *testing.T, a, b string) {
	t.Helper()
	for _, move := range [][2]string{{a, a + ".x"}, {b, a}, {a + ".x", b}} {
		if err := os.Rename(move[0], move[1]); err != nil {
			t.Fatal(err)
		}
	}
}

// A forger computes the manifest's digest anew. What the folder claims must
// contradict the anchors all the same.
func TestForgedManifest(t *testing.T) {
	w := newWorld(t)
	folder := writeFolder(t, w)
	path := filepath.Join(folder, "manifest.json")
	original, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	entriesPath := filepath.Join(folder, "logs", "police", "entries")
	entries, err := os.ReadFile(entriesPath)
	if err != nil {
		t.Fatal(err)
	}
	first := 2 + int(entries[0])<<8 + int(entries[1]) // bytes of the first entry
	police := 1
	for name, test := range map[string]struct {
		manifest func(*evidence.Manifest)
		entries  []byte
	}{
		"later beginning, first entry dropped": {func(m *evidence.Manifest) { m.Logs[police].From++ }, entries[first:]},
		"range moved":                          {func(m *evidence.Manifest) { m.Logs[police].From--; m.Logs[police].To-- }, entries},
		"earlier end":                          {func(m *evidence.Manifest) { m.Logs[police].To-- }, entries},
		"other anchor":                         {func(m *evidence.Manifest) { m.Logs[police].AnchorSize = 300; m.Logs[police].To = 300 }, entries},
		"anchor of another size":               {func(m *evidence.Manifest) { m.Logs[police].AnchorSize = 700 }, entries},
		"hash before changed": {func(m *evidence.Manifest) {
			m.Logs[police].Before[0] = m.Logs[police].After[0]
		}, entries},
		"hash after dropped": {func(m *evidence.Manifest) { m.Logs[police].After = m.Logs[police].After[1:] }, entries},
		"hash after doubled": {func(m *evidence.Manifest) {
			m.Logs[police].After = append(m.Logs[police].After, m.Logs[police].After[0])
		}, entries},
		"hash is no hash":     {func(m *evidence.Manifest) { m.Logs[police].After[0] = "AAAA" }, entries},
		"too many hashes":     {func(m *evidence.Manifest) { m.Logs[police].After = make([]string, 65) }, entries},
		"filter wider":        {func(m *evidence.Manifest) { m.Filter = evidence.Filter{} }, entries},
		"filter narrower":     {func(m *evidence.Manifest) { m.Filter.CaseRef = "case-1" }, entries},
		"log dropped":         {func(m *evidence.Manifest) { m.Logs = m.Logs[:1] }, entries},
		"log twice":           {func(m *evidence.Manifest) { m.Logs[police] = m.Logs[0] }, entries},
		"no logs":             {func(m *evidence.Manifest) { m.Logs = []evidence.Log{} }, entries},
		"log of nobody":       {func(m *evidence.Manifest) { m.Logs[police].Department = "police2" }, entries},
		"log elsewhere":       {func(m *evidence.Manifest) { m.Logs[police].Department = "../police" }, entries},
		"empty range":         {func(m *evidence.Manifest) { m.Logs[police].To = m.Logs[police].From }, nil},
		"range beyond anchor": {func(m *evidence.Manifest) { m.Logs[police].To = 1 << 60 }, entries},
		"anchor beyond sizes": {func(m *evidence.Manifest) { m.Logs[police].AnchorSize = 1<<64 - 1 }, entries},
		"later format":        {func(m *evidence.Manifest) { m.Format = "zhenglian-evidence/2" }, entries},
		"other format":        {func(m *evidence.Manifest) { m.Format = "zhenglian" }, entries},
	} {
		t.Run(name, func(t *testing.T) {
			var m evidence.Manifest
			if err := json.Unmarshal(original, &m); err != nil {
				t.Fatal(err)
			}
			test.manifest(&m)
			m.Digest = ""
			open, err := domain.Canonical(m)
			if err != nil {
				t.Fatal(err)
			}
			m.Digest = domain.Digest(open)
			sealed, err := domain.Canonical(m)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(os.WriteFile(path, sealed, 0o600), os.WriteFile(entriesPath, test.entries, 0o600)); err != nil {
				t.Fatal(err)
			}
			mustRefuse(t, w, folder, name)
		})
	}
}

func TestWriteRefuses(t *testing.T) {
	w := newWorld(t)
	fork := w.Logs["police"].Other(t)
	fork.Append(t, evidencetest.Records(domain.DirectionProvider, "police", "civil", 5000, 800)...)
	shown := source(t, w, "police", 0, 0)
	shown.Log = fork.Remote(t)
	early := source(t, w, "police", 0, 0)
	early.Anchor = w.Bundle(w.Anchors("civil")[0])
	few := source(t, w, "police", 0, 0)
	few.Anchor = bytes.Replace(few.Anchor, []byte(`"proposal":"`), []byte(`"proposal":"A`), 1)
	for name, s := range map[string]evidence.Source{
		"forked log":           shown,
		"another log's anchor": early,
		"broken anchor":        few,
		"beyond the anchor":    source(t, w, "police", 0, 702),
		"empty range":          source(t, w, "police", 5, 5),
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			_, err := evidence.Write(t.Context(), filepath.Join(parent, "evidence"), evidence.Options{Anchors: w.Consortium.Anchors(), Sources: []evidence.Source{s}})
			if err == nil {
				t.Fatal("a folder was written")
			}
			left, err := os.ReadDir(parent)
			if err != nil || len(left) != 0 {
				t.Errorf("there remain %v, %v", left, err)
			}
		})
	}
	t.Run("folder exists", func(t *testing.T) {
		_, err := evidence.Write(t.Context(), t.TempDir(), evidence.Options{Anchors: w.Consortium.Anchors(), Sources: []evidence.Source{source(t, w, "police", 0, 0)}})
		if err == nil || !strings.Contains(err.Error(), "exists already") {
			t.Errorf("got %v", err)
		}
	})
}
