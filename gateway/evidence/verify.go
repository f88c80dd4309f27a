package evidence

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/trail"
	"github.com/zhenglian/zhenglian/proof"
)

// Report is what a folder proves.
type Report struct {
	Filter trail.Filter
	Logs   []ProvenLog
	Rows   int // of trace.csv
}

// ProvenLog is a range of a log that is whole and anchored.
type ProvenLog struct {
	Department domain.DepartmentCode
	From, To   uint64
	Anchor     domain.Anchor
	AsOf       time.Time               // when the departments signed that the ledger holds the anchor
	Signers    []domain.DepartmentCode // sorted
	// Foreign are the indexes of entries that are no valid access record of the
	// department, at most the first hundred. They are on no trace.
	Foreign []uint64
}

// maxForeign bounds [ProvenLog.Foreign].
const maxForeign = 100

// Verify checks a folder against trust anchors and answers what it proves. It
// trusts nothing in the folder and reads no clock and no network. A folder that
// does not hold is a [*RefusedError], one that this release cannot judge a
// [*CannotCheckError]; any other error says that a file could not be read.
func Verify(folder fs.FS, anchors *proof.Anchors) (*Report, error) {
	data, err := readFile(folder, manifestFile, maxManifestBytes)
	if err != nil {
		return nil, err
	}
	manifest, err := parseManifest(data)
	if err != nil {
		return nil, err
	}
	for _, l := range manifest.Logs { // before a name becomes part of a path
		if _, err := logOf(anchors, l.Department); err != nil {
			return nil, err
		}
	}
	if err := checkFiles(folder, manifest); err != nil {
		return nil, err
	}
	report := &Report{Filter: manifest.Filter.filter()}
	rows := &rows{filter: report.Filter}
	for _, l := range manifest.Logs {
		proven, err := verifyLog(folder, anchors, l, rows)
		if err != nil {
			return nil, err
		}
		report.Logs = append(report.Logs, proven)
	}
	report.Rows = len(rows.sorted())
	return report, compareTrace(folder, rows)
}

// checkFiles requires that the folder has the files of the manifest and no other,
// so that nothing in it is unproven.
func checkFiles(folder fs.FS, manifest Manifest) error {
	want := []string{manifestFile, traceFile}
	for _, l := range manifest.Logs {
		want = append(want, l.file(anchorFile), l.file(entriesFile))
	}
	found := make(map[string]bool)
	err := fs.WalkDir(folder, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return nil
		case !entry.Type().IsRegular() || !slices.Contains(want, name):
			return refuse(name, "the manifest does not name this file")
		}
		found[name] = true
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range want {
		if !found[name] {
			return refuse(name, "the file is missing")
		}
	}
	return nil
}

// readFile reads a small file, at most one byte more than it may have.
func readFile(folder fs.FS, name string, most int64) ([]byte, error) {
	file, err := folder.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refuse(name, "the file is missing")
	}
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read
	return io.ReadAll(io.LimitReader(file, most+1))
}

// verifyLog checks one log of a folder and adds its records to rows.
func verifyLog(folder fs.FS, anchors *proof.Anchors, l Log, rows *rows) (ProvenLog, error) {
	bundle, err := readFile(folder, l.file(anchorFile), proof.MaxBundleBytes)
	if err != nil {
		return ProvenLog{}, err
	}
	proven, root, err := openAnchor(bundle, anchors, l.Department, l.file(anchorFile))
	if err != nil {
		return ProvenLog{}, err
	}
	if proven.Anchor.Size != l.AnchorSize {
		return ProvenLog{}, refuse(l.file(anchorFile), "the anchor is of size %d; the manifest says %d", proven.Anchor.Size, l.AnchorSize)
	}
	proven.From, proven.To = l.From, l.To
	file, err := folder.Open(l.file(entriesFile))
	if err != nil {
		return ProvenLog{}, err
	}
	defer file.Close() //nolint:errcheck // only read
	got, err := rangeRoot(bufio.NewReaderSize(file, 1<<16), l, func(index uint64, entry []byte) {
		if !rows.add(l.Department, index, l.AnchorSize, entry) && len(proven.Foreign) < maxForeign {
			proven.Foreign = append(proven.Foreign, index)
		}
	})
	if err != nil {
		return ProvenLog{}, err
	}
	if !bytes.Equal(got, root[:]) {
		return ProvenLog{}, refuse(l.file(entriesFile), "the entries from %d to %d do not give the root that the ledger anchors: one was changed, dropped, added or moved", l.From, l.To)
	}
	return proven, nil
}

// logOf answers the department of the trust file that a log belongs to.
func logOf(anchors *proof.Anchors, department domain.DepartmentCode) (proof.Department, error) {
	i := slices.IndexFunc(anchors.Departments, func(d proof.Department) bool { return d.Code == department })
	if i < 0 || anchors.Departments[i].LogKey == "" {
		return proof.Department{}, &CannotCheckError{Reason: fmt.Sprintf("the trust file has no log key of %q", department)}
	}
	return anchors.Departments[i], nil
}

// openAnchor checks a signed read of an anchor of a department's log, and the
// anchor itself, and answers the root that it anchors.
func openAnchor(unverifiedBundle []byte, anchors *proof.Anchors, department domain.DepartmentCode, name string) (ProvenLog, [32]byte, error) {
	fail := func(err error) (ProvenLog, [32]byte, error) { return ProvenLog{}, [32]byte{}, err }
	verdict := proof.Verify(unverifiedBundle, anchors, proof.Options{})
	switch s := verdict.Statement; {
	case verdict.Overall == proof.CannotCheck:
		return fail(&CannotCheckError{Reason: name + ": " + verdict.Reason})
	case verdict.Overall == proof.BadProof:
		return fail(refuse(name, "%s", verdict.Reason))
	case s.Kind != domain.KindAnchor || !s.Found:
		return fail(refuse(name, "it is no proof of an anchor"))
	}
	proven := ProvenLog{Department: department, AsOf: verdict.Statement.AsOf, Signers: verdict.Signers}
	if err := domain.ParseCanonical([]byte(verdict.Statement.Record), &proven.Anchor); err != nil {
		return fail(refuse(name, "%v", err))
	}
	anchor := proven.Anchor
	if anchor.Owner != department {
		return fail(refuse(name, "it is an anchor of the log of %s", anchor.Owner))
	}
	d, err := logOf(anchors, department)
	if err != nil {
		return fail(err)
	}
	checkpoint, err := proof.OpenCheckpoint([]byte(anchor.Checkpoint), d.LogOrigin, d.LogKey)
	if err != nil {
		return fail(refuse(name, "%v", err))
	}
	if checkpoint.Size != anchor.Size || base64.StdEncoding.EncodeToString(checkpoint.Root[:]) != anchor.Root {
		return fail(refuse(name, "the anchor does not say what its checkpoint says"))
	}
	return proven, checkpoint.Root, nil
}

// rangeRoot computes the root of the log from the entries of the range and the
// hashes beside it.
func rangeRoot(entries *bufio.Reader, l Log, visit func(index uint64, entry []byte)) ([]byte, error) {
	before, err := decodeHashes(l.Before)
	if err != nil {
		return nil, refuse(manifestFile, "log of %s: before: %v", l.Department, err)
	}
	after, err := decodeHashes(l.After)
	if err != nil {
		return nil, refuse(manifestFile, "log of %s: after: %v", l.Department, err)
	}
	whole, err := ranges.NewRange(0, l.From, before)
	if err != nil {
		return nil, refuse(manifestFile, "log of %s: before: %v", l.Department, err)
	}
	rest, err := ranges.NewRange(l.To, l.AnchorSize, after)
	if err != nil {
		return nil, refuse(manifestFile, "log of %s: after: %v", l.Department, err)
	}
	for index := l.From; index < l.To; index++ {
		entry, err := readEntry(entries)
		if err != nil {
			return nil, refuse(l.file(entriesFile), "entry %d: %v", index, err)
		}
		leaf := proof.LeafHash(entry)
		if err := whole.Append(leaf[:], nil); err != nil {
			return nil, err
		}
		visit(index, entry)
	}
	if _, err := entries.ReadByte(); err != io.EOF {
		return nil, refuse(l.file(entriesFile), "bytes follow the last entry")
	}
	if err := whole.AppendRange(rest, nil); err != nil {
		return nil, err
	}
	return whole.GetRootHash(nil)
}

// readEntry reads an entry after its length.
func readEntry(r *bufio.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, errors.New("the file ends before it")
	}
	entry := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(r, entry); err != nil {
		return nil, errors.New("the file ends within it")
	}
	return entry, nil
}

// appendEntry writes an entry after its length, which is below 64 KiB.
func appendEntry(b, entry []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(entry))), entry...)
}

// ReadRecord reads an entry of a department's log as an access record. It fails
// for what is no valid one or belongs to another department's log.
func ReadRecord(department domain.DepartmentCode, entry []byte) (domain.AccessRecord, error) {
	var record domain.AccessRecord
	if err := domain.ParseCanonical(entry, &record); err != nil {
		return domain.AccessRecord{}, err
	}
	if err := record.Validate(); err != nil {
		return domain.AccessRecord{}, err
	}
	if record.LoggedAt.IsZero() {
		return domain.AccessRecord{}, errors.New("loggedAt: required")
	}
	if record.Writer() != department {
		return domain.AccessRecord{}, fmt.Errorf("the record belongs to the log of %s", record.Writer())
	}
	return record, nil
}

// rows collects the lines of trace.csv.
type rows struct {
	filter trail.Filter
	lines  []line
}

// line is a line of trace.csv with what it is sorted by.
type line struct {
	at         int64
	department domain.DepartmentCode
	index      uint64
	text       string
}

// add takes an entry and reports whether it is an access record.
func (r *rows) add(department domain.DepartmentCode, index, anchorSize uint64, entry []byte) bool {
	record, err := ReadRecord(department, entry)
	if err != nil {
		return false
	}
	leaf := proof.LeafHash(entry)
	e := trail.Entry{Department: department, Index: index, LeafHash: leaf[:], Record: record, AnchorSize: anchorSize}
	if r.filter.Matches(e) {
		r.lines = append(r.lines, line{record.At.UnixMilli(), department, index, csvLine(CSVRow(e))})
	}
	return true
}

// sorted answers the lines by time, department and index.
func (r *rows) sorted() []line {
	slices.SortFunc(r.lines, func(a, b line) int {
		switch {
		case a.at != b.at:
			return int(max(-1, min(1, a.at-b.at)))
		case a.department != b.department:
			return strings.Compare(string(a.department), string(b.department))
		}
		return int(max(-1, min(1, int64(a.index)-int64(b.index))))
	})
	return r.lines
}

// reader reads trace.csv as it must be.
func (r *rows) reader() io.Reader {
	parts := make([]io.Reader, 0, len(r.lines)+1)
	parts = append(parts, strings.NewReader(byteOrderMark+csvLine(CSVHeader())))
	for _, l := range r.sorted() {
		parts = append(parts, strings.NewReader(l.text))
	}
	return io.MultiReader(parts...)
}

func csvLine(cells []string) string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write(cells) // a strings.Builder takes everything
	w.Flush()
	return b.String()
}

// compareTrace requires that trace.csv is what follows from the entries.
func compareTrace(folder fs.FS, rows *rows) error {
	file, err := folder.Open(traceFile)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // only read
	got, want := bufio.NewReaderSize(file, 1<<16), bufio.NewReaderSize(rows.reader(), 1<<16)
	for number := 1; ; number++ {
		theirs, theirErr := got.ReadBytes('\n')
		if theirErr != nil && theirErr != io.EOF {
			return theirErr
		}
		ours, _ := want.ReadBytes('\n') // from memory
		if !bytes.Equal(theirs, ours) {
			return refuse(path.Base(traceFile), "line %d is not what the entries and the filter give", number)
		}
		if theirErr == io.EOF {
			return nil
		}
	}
}
