package tilelog

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/transparency-dev/tessera"
)

const (
	// journalFull is the size in bytes at which a file of the journal is left for
	// the other one.
	journalFull = 1 << 20

	frameHead = sha256.Size + 8 + 4 // digest, index of the first entry, length of the rest
)

// journalNames are the journal's files, in the log's folder.
var journalNames = [2]string{".state/journal-a", ".state/journal-b"}

// journalFile is a file of the journal, whose writes are on the disk when they end.
type journalFile interface {
	io.WriterAt
	io.Closer
}

// journal keeps entries from their acknowledgement until they are in the tree: one
// write instead of the dozen of a tree's edge, each with what makes it durable.
//
// It is two files, written in turn. A file holds frames, one for each group:
//
//	SHA-256 of all that follows ‖ index of the first entry, 8 bytes ‖
//	length of the rest, 4 bytes ‖ each entry after its length in 2 bytes
//
// numbers with the high byte first. A file is written over from its beginning once
// the tree has all its entries. So its frames follow one another up to the first that
// is torn or has a smaller index: what was there before. Within its old length a
// write changes no metadata.
type journal struct {
	files   [2]journalFile
	past    [2]uint64 // index after the last entry of each
	current int
	end     int64 // of the current file's frames
	frame   []byte
}

// openJournal opens the journal of the log in dir, whose tree has size entries, or
// begins it, and answers the entries that it holds besides. They must be in the
// tree before the journal is written to.
func openJournal(dir string, size uint64) (_ *journal, entries [][]byte, err error) {
	j := &journal{}
	defer func() {
		if err != nil {
			_ = j.close() // the error that matters is err
		}
	}()
	var runs []run
	begun := false
	for i, name := range journalNames {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|syscall.O_DSYNC, 0o600)
		if err != nil {
			return nil, nil, err
		}
		j.files[i] = f
		data, err := io.ReadAll(f)
		if err != nil {
			return nil, nil, err
		}
		begun = begun || len(data) == 0
		runs = append(runs, readRun(data))
	}
	if begun { // a frame in a file whose name is lost is lost too
		if err := syncDir(filepath.Join(dir, filepath.Dir(journalNames[0]))); err != nil {
			return nil, nil, err
		}
	}
	slices.SortFunc(runs, func(a, b run) int { return cmp.Compare(a.first, b.first) })
	for _, r := range runs {
		next := size + uint64(len(entries))
		if r.past() <= next {
			continue
		}
		if r.first > next {
			return nil, nil, &DamageError{Files: journalNames[:], Problem: fmt.Sprintf("the journal goes on with entry %d and the tree ends before entry %d", r.first, next)}
		}
		entries = append(entries, r.entries[next-r.first:]...)
	}
	return j, entries, nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// run is consecutive entries.
type run struct {
	first   uint64
	entries [][]byte
}

func (r run) past() uint64 { return r.first + uint64(len(r.entries)) }

// readRun reads the frames that follow one another from the beginning of data on.
func readRun(data []byte) run {
	var r run
	for len(data) >= frameHead {
		length := int64(binary.BigEndian.Uint32(data[frameHead-4:]))
		if length > int64(len(data)-frameHead) {
			break
		}
		frame := data[:frameHead+length]
		if sha256.Sum256(frame[sha256.Size:]) != [sha256.Size]byte(frame) {
			break
		}
		first := binary.BigEndian.Uint64(frame[sha256.Size:])
		if len(r.entries) == 0 {
			r.first = first
		} else if first != r.past() {
			break
		}
		for rest := frame[frameHead:]; len(rest) > 2; {
			n := min(2+int(binary.BigEndian.Uint16(rest)), len(rest))
			r.entries = append(r.entries, rest[2:n])
			rest = rest[n:]
		}
		data = data[len(frame):]
	}
	return r
}

// append writes a frame and returns when it is durable. The tree has all entries
// before integrated by then.
func (j *journal) append(first uint64, entries []*tessera.Entry, integrated uint64) error {
	if other := 1 - j.current; j.end >= journalFull && j.past[other] <= integrated {
		j.current, j.end = other, 0
	}
	frame := append(j.frame[:0], make([]byte, frameHead)...)
	for _, e := range entries {
		frame = binary.BigEndian.AppendUint16(frame, uint16(len(e.Data()))) //nolint:gosec // at most maxEntry
		frame = append(frame, e.Data()...)
	}
	j.frame = frame
	binary.BigEndian.PutUint64(frame[sha256.Size:], first)
	binary.BigEndian.PutUint32(frame[frameHead-4:], uint32(len(frame)-frameHead)) //nolint:gosec // a group
	digest := sha256.Sum256(frame[sha256.Size:])
	copy(frame, digest[:])
	if _, err := j.files[j.current].WriteAt(frame, j.end); err != nil {
		return err
	}
	j.end += int64(len(frame))
	j.past[j.current] = first + uint64(len(entries))
	return nil
}

func (j *journal) close() error {
	var errs []error
	for _, f := range j.files {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
