package domain

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// An access record is written and read in its canonical form several times by
// every gateway that it passes, thousands of times a second. Encoding by
// reflection, and encoding once more after decoding to see whether the bytes were
// canonical, was a third of what a record cost. Both are written out here for the
// records that there are; whatever is out of the ordinary takes the general way,
// which alone decides what is canonical.

// canonicalRecord is more bytes than most records have in canonical form.
const canonicalRecord = 1024

// appendCanonical appends the canonical form of r, or answers false when that
// takes the general way: text with escapes, times that are not UTC, no items.
func (r AccessRecord) appendCanonical(b []byte) ([]byte, bool) {
	w := canonicalWriter{b: b, ok: r.Items != nil}
	w.text(`{"schema":"`, r.Schema)
	w.text(`","direction":"`, string(r.Direction))
	w.text(`","callId":"`, r.CallID)
	w.text(`","grantId":"`, r.GrantID)
	w.number(`","grantSeq":`, int64(r.GrantSeq))
	w.text(`,"catalogCode":"`, r.CatalogCode)
	w.number(`","catalogVersion":`, int64(r.CatalogVersion))
	w.b = append(w.b, `,"items":[`...)
	for i, item := range r.Items {
		before := `","`
		if i == 0 {
			before = `"`
		}
		w.text(before, item)
	}
	if len(r.Items) > 0 {
		w.b = append(w.b, '"')
	}
	w.text(`],"provider":"`, string(r.Provider))
	w.text(`","consumer":"`, string(r.Consumer))
	w.text(`","purpose":"`, r.Purpose)
	w.text(`","legalBasis":"`, r.LegalBasis)
	w.text(`","serviceItem":"`, r.ServiceItem)
	w.text(`","caseRef":"`, r.CaseRef)
	w.text(`","system":"`, r.System)
	w.text(`","operator":"`, r.Operator)
	w.text(`","operatorRole":"`, r.OperatorRole)
	w.text(`","subjectRef":"`, r.SubjectRef)
	w.number(`","recordCount":`, r.RecordCount)
	w.text(`,"requestDigest":"`, r.RequestDigest)
	w.text(`","responseDigest":"`, r.ResponseDigest)
	w.text(`","channel":"`, r.Channel)
	w.time(`","at":"`, r.At)
	w.time(`","respondedAt":"`, r.RespondedAt)
	w.text(`","result":"`, r.Result)
	w.time(`","loggedAt":"`, r.LoggedAt)
	return append(w.b, `"}`...), w.ok
}

// parseCanonical sets r to the record whose canonical form is data, or answers
// false when the general way must decide; r is then undefined.
func (r *AccessRecord) parseCanonical(data []byte) bool {
	p := canonicalReader{rest: string(data), ok: true} // the record's texts are parts of this one
	r.Schema = p.text(`{"schema":"`)
	r.Direction = Direction(p.text(`,"direction":"`))
	r.CallID = p.text(`,"callId":"`)
	r.GrantID = p.text(`,"grantId":"`)
	r.GrantSeq = int(p.number(`,"grantSeq":`))
	r.CatalogCode = p.text(`,"catalogCode":"`)
	r.CatalogVersion = int(p.number(`,"catalogVersion":`))
	r.Items = []string{}
	p.expect(`,"items":[`)
	for p.ok && p.rest[0] != ']' { // expect leaves something
		before := `,"`
		if len(r.Items) == 0 {
			before = `"`
		}
		r.Items = append(r.Items, p.text(before))
	}
	r.Provider = DepartmentCode(p.text(`],"provider":"`))
	r.Consumer = DepartmentCode(p.text(`,"consumer":"`))
	r.Purpose = p.text(`,"purpose":"`)
	r.LegalBasis = p.text(`,"legalBasis":"`)
	r.ServiceItem = p.text(`,"serviceItem":"`)
	r.CaseRef = p.text(`,"caseRef":"`)
	r.System = p.text(`,"system":"`)
	r.Operator = p.text(`,"operator":"`)
	r.OperatorRole = p.text(`,"operatorRole":"`)
	r.SubjectRef = p.text(`,"subjectRef":"`)
	r.RecordCount = p.number(`,"recordCount":`)
	r.RequestDigest = p.text(`,"requestDigest":"`)
	r.ResponseDigest = p.text(`,"responseDigest":"`)
	r.Channel = p.text(`,"channel":"`)
	r.At = p.time(`,"at":"`)
	r.RespondedAt = p.time(`,"respondedAt":"`)
	r.Result = p.text(`,"result":"`)
	r.LoggedAt = p.time(`,"loggedAt":"`)
	return p.ok && p.rest == "}"
}

// canonicalWriter appends members of a JSON object, each after the text before its
// value. ok is false once a value needs the general way.
type canonicalWriter struct {
	b  []byte
	ok bool
}

// newCanonicalWriter makes room for size bytes at once.
func newCanonicalWriter(size int) canonicalWriter {
	return canonicalWriter{b: make([]byte, 0, size), ok: true}
}

func (w *canonicalWriter) text(before, s string) {
	w.b = append(append(w.b, before...), s...)
	w.ok = w.ok && plainText(s)
}

func (w *canonicalWriter) number(before string, n int64) {
	w.b = strconv.AppendInt(append(w.b, before...), n, 10)
}

func (w *canonicalWriter) time(before string, t time.Time) {
	w.b = t.AppendFormat(append(w.b, before...), time.RFC3339Nano)
	w.ok = w.ok && t.Location() == time.UTC && t.Year() >= 0 && t.Year() <= 9999
}

// canonicalReader reads what a canonicalWriter wrote. Something is left to be read
// as long as ok is true; once it is false, what is read means nothing.
type canonicalReader struct {
	rest string
	ok   bool
}

// expect reads the text before a value.
func (p *canonicalReader) expect(before string) {
	rest, found := strings.CutPrefix(p.rest, before)
	p.ok = p.ok && found && rest != ""
	if p.ok {
		p.rest = rest
	}
}

// until reads up to the first of one of ends, which it leaves.
func (p *canonicalReader) until(ends string) string {
	i := strings.IndexAny(p.rest, ends)
	if !p.ok || i < 0 {
		p.ok = false
		return ""
	}
	value := p.rest[:i]
	p.rest = p.rest[i:]
	return value
}

// quoted reads up to a quotation mark and past it.
func (p *canonicalReader) quoted(before string) string {
	p.expect(before)
	i := strings.IndexByte(p.rest, '"')
	if !p.ok || i < 0 || i+1 == len(p.rest) {
		p.ok = false
		return ""
	}
	value := p.rest[:i]
	p.rest = p.rest[i+1:]
	return value
}

func (p *canonicalReader) text(before string) string {
	s := p.quoted(before)
	p.ok = p.ok && plainText(s)
	return s
}

func (p *canonicalReader) number(before string) int64 {
	p.expect(before)
	digits := p.until(",")
	n, err := strconv.ParseInt(digits, 10, strconv.IntSize)
	p.ok = p.ok && err == nil && strconv.FormatInt(n, 10) == digits // no sign or zero that is not needed
	return n
}

func (p *canonicalReader) time(before string) time.Time {
	s := p.quoted(before)
	t, err := time.Parse(time.RFC3339Nano, s)
	var again [len(time.RFC3339Nano)]byte
	p.ok = p.ok && err == nil && t.Location() == time.UTC && string(t.AppendFormat(again[:0], time.RFC3339Nano)) == s
	return t
}

// plainText reports whether s stands in JSON as it is, and alone in that form.
func plainText(s string) bool {
	ascii := true
	for i := range len(s) {
		c := s[i]
		if c < ' ' || c == '"' || c == '\\' {
			return false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	return ascii || utf8.ValidString(s) && withoutSeparators(s)
}

// withoutSeparators reports whether s holds neither of the two characters that are
// escaped in JSON besides quotation marks, backslashes and control characters.
func withoutSeparators(s string) bool {
	return !strings.Contains(s, "\u2028") && !strings.Contains(s, "\u2029")
}
