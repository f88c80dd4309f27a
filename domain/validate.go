package domain

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The limits of text, in characters. They admit what Chinese data portals
// publish: resource names of a sentence, abstracts of a paragraph, tables of a
// hundred columns.
const (
	MaxName     = 200  // names of resources, items, departments, certificate types
	MaxText     = 500  // purposes, bases, opinions, measures, references to duties and systems
	MaxAbstract = 2000 // abstracts and share conditions
	MaxItems    = 500  // information items of one resource, request or access record
	MaxBases    = 20   // legal bases of one record
	MaxFindings = 50   // findings that one error names; the rest is counted
)

// findings collects everything that is wrong with one value, so that a person
// who fills in a form learns of it at once.
type findings struct {
	prefix string // of the field names, for example "content."
	list   []string
}

// add reports that field breaks rule, which is in ruleTexts. The rule never
// repeats the value. Rules joined as err joins them, of the parts of a field,
// are reported one by one.
func (f *findings) add(field, rule string) {
	for _, each := range strings.Split(rule, "; ") {
		f.list = append(f.list, f.prefix+field+": "+each)
	}
}

// err is nil when nothing was found. It returns error, not *Error, so that "no
// findings" is the nil interface.
func (f *findings) err() error {
	if len(f.list) == 0 {
		return nil
	}
	list := f.list
	if more := len(list) - MaxFindings; more > 0 {
		list = append(list[:MaxFindings:MaxFindings], strconv.Itoa(more)+" more findings")
	}
	return &Error{Kind: Invalid, Msg: strings.Join(list, "; ")}
}

// text checks optional text for people.
func (f *findings) text(field, s string, limit int) {
	if !utf8.ValidString(s) {
		f.add(field, "not valid UTF-8")
		return
	}
	if utf8.RuneCountInString(s) > limit {
		f.add(field, fmt.Sprintf("longer than %d characters", limit))
	}
	if strings.ContainsFunc(s, isInvisible) {
		f.add(field, "contains a control or invisible formatting character")
	}
	if s != strings.TrimSpace(s) {
		f.add(field, "starts or ends with space")
	}
	if LooksPersonal(s) {
		f.add(field, personalRule)
	}
}

// required checks text for people that must not be empty.
func (f *findings) required(field, s string, limit int) {
	if s == "" {
		f.add(field, "required")
		return
	}
	f.text(field, s, limit)
}

// texts checks a list of required texts without repetition.
func (f *findings) texts(field string, list []string, limit, each int) {
	if len(list) > limit {
		f.add(field, fmt.Sprintf("more than %d entries", limit))
		return
	}
	seen := make(map[string]bool, len(list))
	for i, s := range list {
		at := field + "[" + strconv.Itoa(i) + "]"
		f.required(at, s, each)
		if seen[s] {
			f.add(at, "repeats an earlier entry")
		}
		seen[s] = true
	}
}

// match checks a code against its shape, which rule describes.
func (f *findings) match(field, s string, shape interface{ MatchString(string) bool }, rule string) {
	if !shape.MatchString(s) {
		f.add(field, rule)
	}
}

// oneOf checks a value of a closed list.
func oneOf[T comparable](f *findings, field string, value T, allowed ...T) {
	for _, a := range allowed {
		if value == a {
			return
		}
	}
	var names []string
	for _, a := range allowed {
		names = append(names, fmt.Sprint(a))
	}
	f.add(field, "not one of "+strings.Join(names, ", "))
}

// time checks a required time. Every time on the ledger is UTC, because one
// instant must have one spelling.
func (f *findings) time(field string, t time.Time) {
	_, offset := t.Zone()
	switch {
	case t.IsZero():
		f.add(field, "required")
	case offset != 0:
		f.add(field, "must be in UTC")
	case t.Year() < 1900 || t.Year() > 9999:
		f.add(field, "year outside 1900 to 9999")
	}
}

// period checks a required period.
func (f *findings) period(field string, p Period) {
	f.time(field+".from", p.From)
	f.time(field+".to", p.To)
	if !p.From.IsZero() && !p.To.IsZero() && !p.From.Before(p.To) {
		f.add(field+".to", "not after from")
	}
}

// quota checks a required quota.
func (f *findings) quota(field string, q Quota) {
	if q.Total < 1 {
		f.add(field+".total", "must be at least 1")
	}
	if q.PerDay < 1 {
		f.add(field+".perDay", "must be at least 1")
	}
	if q.PerDay > q.Total {
		f.add(field+".perDay", "more than the total")
	}
	if q.PerMinute < 1 {
		f.add(field+".perMinute", "must be at least 1")
	}
	if q.PerMinute > q.PerDay {
		f.add(field+".perMinute", "more than the daily quota")
	}
}

// isInvisible reports characters that a reader cannot see or that change the
// order in which a page shows its text: they could make one name look like
// another.
func isInvisible(r rune) bool {
	switch { // most text is of these two, and the tables take time
	case r < 0x7f:
		return r < ' '
	case r >= '\u2070' && r < '\ufeff':
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// The shapes of codes, with the rule that a finding names.
//
// An information resource code 信息资源代码 is, without separators, class 类 (one
// digit, not 0), item 项 (two digits), category 目 (three) and detail 细目 (none to
// twenty), then "/" and the sequence code 顺序码 (four to twelve digits).
var (
	hex32Shape       = hexShape(32)
	hex64Shape       = hexShape(64)
	departmentShape  = regexp.MustCompile(`^[a-z][a-z0-9]{1,19}$`)
	mspShape         = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9.-]{0,63}$`)
	catalogCodeShape = regexp.MustCompile(`^[1-9][0-9]{5,25}/[0-9]{4,12}$`)
	regionShape      = regexp.MustCompile(`^[1-8][0-9]{5}$`)
	serviceItemShape = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$`)
	callIDShape      = regexp.MustCompile(`^[A-Za-z0-9-]{16,64}$`)
	resultShape      = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)
	subjectShape     = regexp.MustCompile(`^([0-9a-f]{2}){16,64}$`)
	originShape      = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._~/:-]{0,199}$`)
	recordIDShape    = regexp.MustCompile(`^[0-9A-Za-z._/~-]{1,128}$`)
)

const (
	hex32Rule       = "must be 32 lower-case hexadecimal digits"
	hex64Rule       = "must be 64 lower-case hexadecimal digits (SHA-256)"
	catalogCodeRule = "must be class 1, item 2, category 3 and detail digits, then / and 4 to 12 sequence digits, for example 307003/000017"
	serviceItemRule = "must be 1 to 64 characters of A-Z a-z 0-9 . _ -, a letter or digit first"
	originRule      = "must be 1 to 200 characters of A-Z a-z 0-9 . _ ~ / : -, a letter or digit first"
	personalRule    = "personal-number rule: contains what looks like a resident ID number or a mobile telephone number"
	usccRule        = "not a unified social credit code with a correct check character (GB 32100)"
)

// hexShape is the shape of so many lower-case hexadecimal digits. Every record has
// some, and a regular expression takes ten times as long.
type hexShape int

// MatchString reports whether s has the shape.
func (n hexShape) MatchString(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == int(n)
}

func (f *findings) uscc(field, s string) {
	if !ValidUSCC(s) {
		f.add(field, usccRule)
	}
}

func (f *findings) catalogCode(field, s string) {
	f.match(field, s, catalogCodeShape, catalogCodeRule)
}

// serviceItem checks the code of a service item 事项编码. Its shape would admit a
// person's number.
func (f *findings) serviceItem(field, s string) {
	f.match(field, s, serviceItemShape, serviceItemRule)
	if LooksPersonal(s) {
		f.add(field, personalRule)
	}
}

// impersonal checks a code that somebody else made, of parts of letters and
// digits: none of them may be a person's number as a whole. [LooksPersonal] would
// find one in parts of some UUIDs and serial numbers, too, by chance.
func (f *findings) impersonal(field, s string) {
	for part := range strings.FieldsFuncSeq(s, func(c rune) bool { return !isAlphanumeric(c) }) {
		if (len(part) == 11 || validResidentID(part)) && LooksPersonal(part) {
			f.add(field, personalRule)
			return
		}
	}
}

var (
	// residentIDShape: region, birth date, sequence, check character (GB 11643),
	// not inside a longer number. The birth date keeps credit codes made of
	// digits only apart; the check character is not required, because a number
	// with a typing error is still personal.
	residentIDShape = regexp.MustCompile(`(?:^|[^0-9])[1-9][0-9]{5}(?:18|19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[0-9]{3}[0-9Xx](?:$|[^0-9])`)
	// mobileShape: a mainland mobile number, written together or 3-4-4.
	mobileShape = regexp.MustCompile(`(?:^|[^0-9])(?:\+?86[ -]?)?1[3-9][0-9][ -]?[0-9]{4}[ -]?[0-9]{4}(?:$|[^0-9])`)
	// tokenShape finds what may hold such digits by chance.
	tokenShape = regexp.MustCompile(`[0-9A-Za-z]+`)
)

// LooksPersonal reports whether s contains what looks like an 18-digit resident
// ID number or an 11-digit mobile telephone number: the personal-number rule for
// text that goes on the ledger for ever. Digests, record references and unified
// social credit codes are not looked into; a number that is right as both, as one
// resident ID number in 31 is, is taken for personal.
func LooksPersonal(s string) bool {
	s = strings.Map(halfWidth, s)
	if digits(s) < 11 {
		return false // either number has more; most text has none, and the shapes take time
	}
	s = tokenShape.ReplaceAllStringFunc(s, func(token string) string {
		if hex32Shape.MatchString(token) || hex64Shape.MatchString(token) || ValidUSCC(token) && !validResidentID(token) {
			return "#"
		}
		return token
	})
	return residentIDShape.MatchString(s) || mobileShape.MatchString(s)
}

func isAlphanumeric(r rune) bool {
	return '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z'
}

// digits counts the ASCII digits of s.
func digits(s string) int {
	n := 0
	for i := range len(s) {
		if '0' <= s[i] && s[i] <= '9' {
			n++
		}
	}
	return n
}

// validResidentID reports whether s is 18 characters whose last is the check
// character of GB 11643 (ISO 7064 MOD 11-2).
func validResidentID(s string) bool {
	if len(s) != 18 {
		return false
	}
	sum := 0
	for i := range 17 {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
		sum = (sum + int(s[i]-'0')) * 2 % 11
	}
	return s[17] == "10X98765432"[sum]
}

// halfWidth maps the full-width letters and digits of Chinese text, and its
// wide space, to ASCII.
func halfWidth(r rune) rune {
	switch {
	case r >= '！' && r <= '～':
		return r - '！' + '!'
	case r == '\u3000':
		return ' '
	}
	return r
}
