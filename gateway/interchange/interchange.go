// Package interchange converts catalog content to and from the files that
// catalogs are exchanged in: CSV with the national column names, the exports of
// open-data portals, DCAT-AP 3 as JSON-LD and DCAT-US 1.1. It converts and does
// nothing else: no network, no files, no ledger.
//
// Reading is row by row: a row becomes content that the ledger's rules admit, or
// findings that name field and rule. Writing is row by row too, so that neither
// side holds a whole catalog in memory. What is written reads back as equal
// content, in CSV and in DCAT-AP.
package interchange

import (
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
)

// Format is a kind of file.
type Format string

// The formats.
const (
	CSV    Format = "csv"     // national columns, or a portal's export: see [Forms]
	DCATAP Format = "dcat-ap" // DCAT-AP 3 as JSON-LD, compacted with the usual prefixes
	DCATUS Format = "dcat-us" // DCAT-US 1.1, data.json
	RiikEE Format = "riik-ee" // data sets of the Estonian portal opendata.riik.ee, a JSON array
)

// Formats lists every Format that can be read. [CSV] and [DCATAP] are written as
// well.
var Formats = []Format{CSV, DCATAP, DCATUS, RiikEE}

// FormatOf tells the format from a file's name, "" if the name does not say.
func FormatOf(name string) Format {
	name = strings.ToLower(name)
	for _, known := range []struct {
		suffix string
		format Format
	}{
		{".csv", CSV}, {".jsonld", DCATAP}, {"data.json", DCATUS},
	} {
		if strings.HasSuffix(name, known.suffix) {
			return known.format
		}
	}
	return ""
}

// Defaults are given once for a whole file, for what the file does not say.
// Files in the national form and our own DCAT-AP exports need none.
type Defaults struct {
	ProviderUSCC string
	RegionCode   string
	SystemRef    string
	DutyRef      string
	ClassCode    string // the digits of the codes before "/"
	Abstract     string
	UpdateCycle  string           // "" is other
	PersonalData string           // "" is none
	ShareType    domain.ShareType // 0: what is open to everybody is shared unconditionally
	Condition    string           // of conditional resources, for sharing and opening
	LegalBasis   []string         // of resources that are not shared unconditionally
	Level        int              // 0: what is open to everybody is of grade 1
}

// Row is one row of a file.
type Row struct {
	Number   int // the first row is 1
	Content  domain.CatalogContent
	Findings []domain.Finding // why it cannot be imported; empty: it can
}

// Reader reads a catalog file row by row.
type Reader struct {
	form     string
	next     func() (Row, error) // io.EOF after the last row
	defaults Defaults
	names    map[string]int // row that first had a provider and plain name
	codes    map[string]int
}

// NewReader reads the head of a file. form names the form of a CSV file, "" tells
// it from the header. It fails for a file that cannot be read at all, and where
// the file needs defaults that are not given.
func NewReader(r io.Reader, format Format, form string, d Defaults) (*Reader, error) {
	if form != "" && format != CSV {
		return nil, fmt.Errorf("a form is for CSV files, this one is read as %s", format)
	}
	if d.UpdateCycle == "" {
		d.UpdateCycle = "other"
	}
	if d.PersonalData == "" {
		d.PersonalData = "none"
	}
	out := &Reader{form: string(format), defaults: d, names: make(map[string]int), codes: make(map[string]int)}
	var err error
	switch format {
	case CSV:
		err = out.openCSV(r, form)
	case DCATAP:
		err = out.openJSON(r, "dcat:dataset", out.dcatRow)
	case DCATUS:
		if err = d.check(string(format)); err == nil {
			err = out.openJSON(r, "dataset", out.dcatUSRow)
		}
	case RiikEE:
		if err = d.check(string(format)); err == nil {
			err = out.openJSON(r, "", out.riikRow)
		}
	default:
		err = fmt.Errorf("no format is called %q", format)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Form is the form that the file was recognised as: a format's name, or for CSV
// one of [Forms].
func (r *Reader) Form() string { return r.form }

// Rows answers the rows in order, once. An error ends them: past it nothing can
// be told apart any more. Content without findings is what [domain.CatalogContent.Validate]
// admits, and no two such rows have the same code or, for one provider, the same name.
func (r *Reader) Rows() iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for number := 1; ; number++ {
			row, err := r.next()
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(Row{Number: number}, fmt.Errorf("row %d: %w", number, err))
				return
			}
			row.Number = number
			r.finish(&row)
			if !yield(row, nil) {
				return
			}
		}
	}
}

// wholeRow is the field of a finding about a row that cannot be read.
const wholeRow = "row"

// finish adds what the ledger's own rules say, and what repeats an earlier row.
func (r *Reader) finish(row *Row) {
	if slices.ContainsFunc(row.Findings, func(f domain.Finding) bool { return f.Field == wholeRow }) {
		return
	}
	c := &row.Content
	row.Findings = append(row.Findings, contentFindings(*c, row.Findings)...)
	name := domain.CatalogNameID("", c.ProviderUSCC+"\n"+domain.PlainName(c.Name))
	firstName, sameName := r.names[name]
	firstCode, sameCode := r.codes[c.Code]
	switch {
	case sameName && c.Name != "":
		row.Findings = append(row.Findings, repeats("name", firstName))
	case sameCode && c.Code != "":
		row.Findings = append(row.Findings, repeats("code", firstCode))
	default:
		r.names[name], r.codes[c.Code] = row.Number, row.Number
	}
}

// check reports defaults that a file without national fields cannot do without.
func (d Defaults) check(form string) error {
	var missing []string
	for _, f := range []struct{ what, value string }{
		{"provider USCC", d.ProviderUSCC},
		{"region", d.RegionCode},
		{"system", d.SystemRef},
		{"class code", d.ClassCode},
	} {
		if f.value == "" {
			missing = append(missing, f.what)
		}
	}
	if len(missing) > 0 {
		return &MissingDefaultsError{Form: form, Missing: missing}
	}
	return nil
}

// MissingDefaultsError says what must be given for a whole file.
type MissingDefaultsError struct {
	Form    string
	Missing []string
}

func (e *MissingDefaultsError) Error() string {
	return fmt.Sprintf("a file of the %s form does not say, so give: %s", e.Form, strings.Join(e.Missing, ", "))
}
