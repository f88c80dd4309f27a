package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/zhenglian/zhenglian/domain"
)

const journalFormat = "zhenglian-import/2"

// journalHead is the first line of a journal: the work it belongs to.
type journalHead struct {
	Format  string `json:"format"`
	File    string `json:"file"` // SHA-256 of the file's bytes
	Gateway string `json:"gateway"`
	Form    string `json:"form"`
	Given   string `json:"given"` // SHA-256 of the defaults, which codes and contents depend on
}

// journalLine says how far the entries of some rows are.
type journalLine struct {
	Step  string              `json:"step"` // the last step, or "exists": the ledger had them before
	Rows  []int               `json:"rows"`
	State domain.CatalogState `json:"state"`
	Block uint64              `json:"block,omitempty"`
	TxID  domain.TxID         `json:"txId,omitempty"`
}

// rowState is how far a row is.
type rowState struct {
	state   domain.CatalogState
	existed bool
}

// journal remembers which rows are done, so that an interrupted import goes on
// where it stopped. It only grows; it is safe for concurrent use.
type journal struct {
	done map[int]rowState // by earlier runs; not changed after opening

	mu   sync.Mutex
	file *os.File
}

// openJournal opens or creates the journal at path for the work that head
// describes, and reads what is done. A line that a crash cut off is dropped.
func openJournal(path string, head journalHead) (*journal, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644) //nolint:gosec // for others to read, as the report
	if err != nil {
		return nil, fmt.Errorf("open import journal: %w", err)
	}
	j := &journal{file: file, done: make(map[int]rowState)}
	if err := j.load(path, head); err != nil {
		_ = file.Close() // only read
		return nil, err
	}
	return j, nil
}

func (j *journal) load(path string, head journalHead) error {
	data, err := io.ReadAll(j.file)
	if err != nil {
		return fmt.Errorf("read import journal: %w", err)
	}
	whole := data[:bytes.LastIndexByte(data, '\n')+1]
	if err := j.file.Truncate(int64(len(whole))); err != nil {
		return fmt.Errorf("cut import journal: %w", err)
	}
	if _, err := j.file.Seek(int64(len(whole)), io.SeekStart); err != nil {
		return fmt.Errorf("read import journal: %w", err)
	}
	if len(whole) == 0 {
		if err := j.append(head); err != nil {
			return err
		}
		return j.sync()
	}
	lines := bufio.NewScanner(bytes.NewReader(whole))
	for number := 1; lines.Scan(); number++ {
		if number == 1 {
			var got journalHead
			if err := json.Unmarshal(lines.Bytes(), &got); err != nil || got != head {
				return fmt.Errorf("%s belongs to another import (other file, form, options or gateway); give another --report, or remove it to begin anew", path)
			}
			continue
		}
		var line journalLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return fmt.Errorf("%s line %d is damaged: %w; remove the file to begin anew: nothing is imported twice", path, number, err)
		}
		for _, row := range line.Rows {
			j.done[row] = rowState{state: line.State, existed: j.done[row].existed || line.Step == "exists"}
		}
	}
	return lines.Err()
}

// note records a step, durably: a batch is worth a wait for the disk.
func (j *journal) note(line journalLine) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.append(line); err != nil {
		return err
	}
	return j.sync()
}

func (j *journal) append(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write import journal: %w", err)
	}
	if _, err := j.file.Write(append(data, '\n')); err != nil {
		return fmt.Errorf("write import journal: %w", err)
	}
	return nil
}

func (j *journal) sync() error {
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("write import journal: %w", err)
	}
	return nil
}

// close makes everything noted durable.
func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return errors.Join(j.sync(), j.file.Close())
}

// writeReport replaces the report at path by what is wrong with which rows: a
// CSV that office software opens, one line for each finding.
func writeReport(path string, rows []*entryRow) error {
	slices.SortFunc(rows, func(a, b *entryRow) int { return a.number - b.number })
	var buf bytes.Buffer
	buf.WriteString("\ufeff") // office software takes CSV without it for another encoding
	w := csv.NewWriter(&buf)
	lines := [][]string{{"row", "code", "field", "rule", "zh", "en"}}
	for _, row := range rows {
		for _, f := range row.findings {
			lines = append(lines, []string{strconv.Itoa(row.number), row.content.Code, f.Field, f.Rule, f.Zh, f.En})
		}
	}
	for _, line := range lines {
		for i := range line {
			line[i] = plainCell(line[i])
		}
	}
	if err := w.WriteAll(lines); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return replaceFile(path, buf.Bytes(), 0o644)
}

// plainCell keeps office software from taking text of the imported file for a
// formula.
func plainCell(s string) string {
	if strings.ContainsAny(s[:min(len(s), 1)], "=+-@\t\r") {
		return "'" + s
	}
	return s
}

// replaceFile writes data to path so that readers, and a crash, find the old or
// the new content and nothing between.
func replaceFile(path string, data []byte, mode os.FileMode) error {
	fail := func(err error) error { return fmt.Errorf("write %s: %w", path, err) }
	temporary, err := os.CreateTemp(filepath.Dir(path), ".zhenglian-*")
	if err != nil {
		return fail(err)
	}
	defer func() { _ = os.Remove(temporary.Name()) }() // gone after the rename
	_, err = temporary.Write(data)
	if err = errors.Join(err, temporary.Chmod(mode), temporary.Sync(), temporary.Close()); err != nil {
		return fail(err)
	}
	if err := os.Rename(temporary.Name(), path); err != nil {
		return fail(err)
	}
	return nil
}
