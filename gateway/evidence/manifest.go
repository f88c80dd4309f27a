package evidence

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/trail"
)

// Format is the format written by this release.
const Format = "zhenglian-evidence/1"

const formatPrefix = "zhenglian-evidence/"

// The files of a folder.
const (
	manifestFile = "manifest.json"
	traceFile    = "trace.csv"
	logsFolder   = "logs"
	anchorFile   = "anchor.zlproof"
	entriesFile  = "entries"
)

// The bounds of a manifest.
const (
	maxManifestBytes = 1 << 20
	maxLogs          = 32 // as many as a trust file may have departments
	maxHashes        = 64 // of one compact range
)

// Manifest says what a folder holds.
type Manifest struct {
	Format string `json:"format"`
	Filter Filter `json:"filter"` // which records trace.csv has
	Logs   []Log  `json:"logs"`   // sorted by department, each once
	Digest string `json:"digest"` // SHA-256 of this object with digest "", against damage; the anchors' signatures are against forgery
}

// Log is what a folder holds of one department's log.
type Log struct {
	Department domain.DepartmentCode `json:"department"`
	From       uint64                `json:"from"` // index of the first entry
	To         uint64                `json:"to"`   // index after the last entry
	AnchorSize uint64                `json:"anchorSize"`
	// The hashes of the full subtrees that make up the log before the range and
	// between it and the anchored size, left to right, standard base64.
	Before []string `json:"before"`
	After  []string `json:"after"`
}

func (l Log) file(name string) string { return path.Join(logsFolder, string(l.Department), name) }

// Filter is a [trail.Filter] as a manifest writes it.
type Filter struct {
	CatalogCode string                `json:"catalogCode"`
	GrantID     string                `json:"grantId"`
	Department  domain.DepartmentCode `json:"department"`
	Writer      domain.DepartmentCode `json:"writer"`
	Counterpart domain.DepartmentCode `json:"counterpart"`
	Purpose     string                `json:"purpose"`
	ServiceItem string                `json:"serviceItem"`
	CaseRef     string                `json:"caseRef"`
	SubjectRef  string                `json:"subjectRef"`
	Operator    string                `json:"operator"`
	Result      string                `json:"result"`
	CallID      string                `json:"callId"`
	From        *time.Time            `json:"from"` // null: no bound
	To          *time.Time            `json:"to"`
}

// filterOf writes a filter.
func filterOf(f trail.Filter) Filter {
	bound := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC()
		return &t
	}
	return Filter{
		CatalogCode: f.CatalogCode, GrantID: f.GrantID, Department: f.Department, Writer: f.Writer, Counterpart: f.Counterpart,
		Purpose: f.Purpose, ServiceItem: f.ServiceItem, CaseRef: f.CaseRef, SubjectRef: f.SubjectRef,
		Operator: f.Operator, Result: f.Result, CallID: f.CallID, From: bound(f.From), To: bound(f.To),
	}
}

// Filter reads a filter.
func (f Filter) filter() trail.Filter {
	bound := func(t *time.Time) time.Time {
		if t == nil {
			return time.Time{}
		}
		return *t
	}
	return trail.Filter{
		CatalogCode: f.CatalogCode, GrantID: f.GrantID, Department: f.Department, Writer: f.Writer, Counterpart: f.Counterpart,
		Purpose: f.Purpose, ServiceItem: f.ServiceItem, CaseRef: f.CaseRef, SubjectRef: f.SubjectRef,
		Operator: f.Operator, Result: f.Result, CallID: f.CallID, From: bound(f.From), To: bound(f.To),
	}
}

// encode seals and writes the manifest.
func (m Manifest) encode() ([]byte, error) {
	m.Digest = ""
	open, err := domain.Canonical(m)
	if err != nil {
		return nil, err
	}
	m.Digest = domain.Digest(open)
	return domain.Canonical(m)
}

// parseManifest reads a manifest in its canonical form and checks every field.
func parseManifest(data []byte) (Manifest, error) {
	if len(data) > maxManifestBytes {
		return Manifest{}, refuse(manifestFile, "longer than %d bytes", maxManifestBytes)
	}
	var m Manifest
	if err := domain.ParseCanonical(data, &m); err != nil {
		if unknownFormat(data) {
			return Manifest{}, &CannotCheckError{Reason: "the folder is in a format that this release does not know"}
		}
		return Manifest{}, refuse(manifestFile, "%v", err)
	}
	switch again, err := m.encode(); {
	case m.Format != Format && strings.HasPrefix(m.Format, formatPrefix):
		return Manifest{}, &CannotCheckError{Reason: "the folder is in a format that this release does not know"}
	case m.Format != Format:
		return Manifest{}, refuse(manifestFile, "the format is not %q", Format)
	case err != nil || string(again) != string(data):
		return Manifest{}, refuse(manifestFile, "it does not match its digest")
	case len(m.Logs) == 0 || len(m.Logs) > maxLogs:
		return Manifest{}, refuse(manifestFile, "%d logs, 1 to %d are allowed", len(m.Logs), maxLogs)
	}
	for i, l := range m.Logs {
		switch {
		case i > 0 && l.Department <= m.Logs[i-1].Department:
			return Manifest{}, refuse(manifestFile, "the logs are not sorted by department, each once")
		case l.From >= l.To || l.To > l.AnchorSize:
			return Manifest{}, refuse(manifestFile, "log of %s: the range from %d to %d is empty or beyond the anchor of size %d", l.Department, l.From, l.To, l.AnchorSize)
		case len(l.Before) > maxHashes || len(l.After) > maxHashes:
			return Manifest{}, refuse(manifestFile, "log of %s: more than %d hashes", l.Department, maxHashes)
		}
	}
	return m, nil
}

func unknownFormat(data []byte) bool {
	var named struct {
		Format string `json:"format"`
	}
	err := json.Unmarshal(data, &named)
	return err == nil && strings.HasPrefix(named.Format, formatPrefix) && named.Format != Format
}

// RefusedError says that a folder does not prove what it claims.
type RefusedError struct {
	File   string // in the folder
	Reason string
}

func (e *RefusedError) Error() string { return e.File + ": " + e.Reason }

func refuse(file, format string, args ...any) error {
	return &RefusedError{File: file, Reason: fmt.Sprintf(format, args...)}
}

// CannotCheckError says that nothing can be decided about a folder.
type CannotCheckError struct{ Reason string }

func (e *CannotCheckError) Error() string { return e.Reason }

func encodeHashes(hashes [][]byte) []string {
	out := make([]string, len(hashes))
	for i, h := range hashes {
		out[i] = base64.StdEncoding.EncodeToString(h)
	}
	return out
}

// decodeHashes undoes [encodeHashes]. It refuses a second spelling of a hash.
func decodeHashes(texts []string) ([][]byte, error) {
	out := make([][]byte, len(texts))
	for i, text := range texts {
		h, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil || len(h) != 32 || base64.StdEncoding.EncodeToString(h) != text {
			return nil, fmt.Errorf("hash %d is not 32 bytes of standard base64", i)
		}
		out[i] = h
	}
	return out, nil
}
