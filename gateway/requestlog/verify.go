package requestlog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

// Report is what a log says of itself once its chain holds.
type Report struct {
	First, Last Place // the first and the last line
	Head        string
	Requests    uint64
	Refused     uint64 // of them with a status of 400 to 499
	Failed      uint64 // of them with a status from 500 on
	Starts      int
	Torn        int // places where a killed process left part of a line
	Unclosed    int // bytes after the last line that are no line; the next start closes them
	Anchors     []CheckedAnchor
}

// Place is one line.
type Place struct {
	Seq  uint64
	Time time.Time
}

// CheckedAnchor is an anchor whose hash is that of the line it names. Whether it
// is on the ledger is for others to check.
type CheckedAnchor struct {
	Anchor
	LineTime time.Time // of the line that it anchors
	Known    bool      // the line is in the files; otherwise only its hash is told
}

// BrokenError says where a log is not what was written.
type BrokenError struct {
	File    string
	Line    int // from 1 on
	Problem string
}

func (e *BrokenError) Error() string {
	return fmt.Sprintf("%s, line %d: %s", e.File, e.Line, e.Problem)
}

// Verify checks the chain through files, which must be consecutive files of one
// log and are put in order by their names. It trusts nothing in them. A
// [*BrokenError] says where the chain does not hold.
func Verify(files []string) (Report, error) {
	if len(files) == 0 {
		return Report{}, errors.New("there is no file to verify")
	}
	v := newVerifier()
	files = sortedFiles(files)
	for i, file := range files {
		data, err := readBounded(file)
		if err != nil {
			return Report{}, err
		}
		if err := v.check(file, data, i == len(files)-1); err != nil {
			return Report{}, err
		}
	}
	if err := v.anchors(files); err != nil {
		return Report{}, err
	}
	return v.end(files[0])
}

func newVerifier() *verifier { return &verifier{head: noHead} }

// end answers what was found; first is the name of the first file.
func (v *verifier) end(first string) (Report, error) {
	if !v.begun {
		return Report{}, &BrokenError{File: first, Line: 1, Problem: "there is no line"}
	}
	v.report.Head = v.head
	return v.report, nil
}

type verifier struct {
	report Report
	head   string
	begun  bool // a line was seen
	places []anchorPlace
}

type anchorPlace struct {
	file string
	line int
	seq  uint64 // of the line that tells the anchor
}

// check checks what one file holds. last says that no file follows, so that it
// may end in part of a line.
func (v *verifier) check(name string, data []byte, last bool) error {
	broken := func(line int, format string, args ...any) error {
		return &BrokenError{File: name, Line: line, Problem: fmt.Sprintf(format, args...)}
	}
	unread := -1 // where the bytes begin that are no line
	number := 0
	for start := 0; start < len(data); {
		number++
		length := bytes.IndexByte(data[start:], '\n')
		if length < 0 {
			if unread < 0 {
				unread = start
			}
			break
		}
		raw := data[start : start+length]
		var e Entry
		switch fault := domain.ParseCanonical(raw, &e); {
		case fault != nil:
			if unread < 0 {
				unread = start
			}
		case unread >= 0:
			torn := data[unread : start-1]
			if e.Msg != MsgTorn || e.Torn == nil || *e.Torn != int64(len(torn)) || e.Prev != hashOf(torn) || v.begun && e.Closes != v.head {
				return broken(number, "the %d bytes before this line are no line, and it does not say so: they were changed", len(torn))
			}
			unread = -1
			v.report.Torn++
			if err := v.take(e, raw, name, number); err != nil {
				return err
			}
		case !v.begun:
			// The first line that is there says where the chain begins.
			if e.Seq == 1 && e.Prev != noHead && e.Msg != MsgTorn {
				return broken(number, "it is line 1 and names a line before it")
			}
			if err := v.take(e, raw, name, number); err != nil {
				return err
			}
		case e.Prev != v.head:
			return broken(number, "it does not carry the hash of the line before: a line was changed, left out or put in")
		default:
			if err := v.take(e, raw, name, number); err != nil {
				return err
			}
		}
		start += length + 1
	}
	if unread >= 0 {
		if !last {
			return broken(number, "the file ends in %d bytes that are no line, and another file follows", len(data)-unread)
		}
		v.report.Unclosed = len(data) - unread
	}
	return nil
}

// take counts a line that follows the one before it.
func (v *verifier) take(e Entry, raw []byte, file string, number int) error {
	r := &v.report
	if !v.begun {
		v.begun, r.First = true, Place{e.Seq, e.Time}
	} else if e.Seq != r.Last.Seq+1 {
		return &BrokenError{File: file, Line: number, Problem: fmt.Sprintf("it is number %d and follows number %d", e.Seq, r.Last.Seq)}
	}
	r.Last, v.head = Place{e.Seq, e.Time}, hashOf(raw)
	switch e.Msg {
	case MsgRequest:
		r.Requests++
		switch {
		case e.Status >= 500:
			r.Failed++
		case e.Status >= 400:
			r.Refused++
		}
	case MsgStarted:
		r.Starts++
	case MsgTorn:
	case MsgAnchored:
		if e.Anchor == nil || len(e.Anchor.Head) != len(noHead) {
			return &BrokenError{File: file, Line: number, Problem: "it is about an anchor and names none"}
		}
		r.Anchors = append(r.Anchors, CheckedAnchor{Anchor: *e.Anchor})
		v.places = append(v.places, anchorPlace{file, number, e.Seq})
	default:
		return &BrokenError{File: file, Line: number, Problem: fmt.Sprintf("it is about %q, which this program does not know", e.Msg)}
	}
	return nil
}

// anchors compares the anchors with the lines they name, in a second pass: a line
// is far before what tells of its anchor.
func (v *verifier) anchors(files []string) error {
	wanted := make(map[uint64][]int)
	for i, a := range v.report.Anchors {
		p := v.places[i]
		if a.Seq >= p.seq {
			return &BrokenError{File: p.file, Line: p.line, Problem: "it anchors a line that comes after it"}
		}
		wanted[a.Seq] = append(wanted[a.Seq], i)
	}
	if len(wanted) == 0 {
		return nil
	}
	for _, file := range files {
		data, err := readBounded(file)
		if err != nil {
			return err
		}
		for raw := range bytes.Lines(data) {
			raw = bytes.TrimSuffix(raw, []byte("\n"))
			var e Entry
			if domain.ParseCanonical(raw, &e) != nil {
				continue
			}
			for _, i := range wanted[e.Seq] {
				a, p := &v.report.Anchors[i], v.places[i]
				if hashOf(raw) != a.Head {
					return &BrokenError{File: p.file, Line: p.line, Problem: fmt.Sprintf("it says that line number %d was anchored with another hash than it has", a.Seq)}
				}
				a.Known, a.LineTime = true, e.Time
			}
		}
	}
	return nil
}

// Holds answers which of the nonces are those of lines in the files: with them those
// lines can be anchored.
func Holds(files []string, nonces []string) (map[string]bool, error) {
	held := make(map[string]bool, len(nonces))
	for _, n := range nonces {
		held[n] = false
	}
	for _, file := range files {
		data, err := readBounded(file)
		if err != nil {
			return nil, err
		}
		for raw := range bytes.Lines(data) {
			n := Nonce(hashOf(bytes.TrimSuffix(raw, []byte("\n"))))
			if _, asked := held[n]; asked {
				held[n] = true
			}
		}
	}
	return held, nil
}

func readBounded(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > LargestMaxBytes+LargestMaxBytes/4 {
		return nil, fmt.Errorf("%s is larger than a file of this log", filepath.Base(file))
	}
	return os.ReadFile(file)
}
