// Package credential is the certificate itself, as its issuer signs it and its
// holder shows it: an SD-JWT (RFC 9901) whose face items 照面信息项 are disclosed
// one by one. The ledger knows of it nothing but a digest.
//
// # Form
//
// A credential is text: the issuer-signed JWT, then one disclosure for each item
// shown, each followed by "~". The JWT has the type dc+sd-jwt, is signed with
// ES256 and carries the certificate of the department's issuing key in its x5c
// header, nothing else. Its payload names the certificate ([Claims]) and holds,
// in the order of the face, one SHA-256 digest for each item; the item itself, with a
// salt of 128 random bits, is in its disclosure. Behind the items, in the same
// form, stand what the issuer shows to those who have the check code 查验码: items
// whole or masked, such as 张*. Key binding is not used: what binds a certificate
// to the person who shows it is that person's identity document.
//
// # Trust
//
// A [Verifier] trusts the CA roots of the departments in the trust anchors and
// nothing else. It accepts a credential if the issuing key was certified by the CA
// of the department that the payload names, for issuing and no other duty, and
// was in force and not revoked on the day of issue, and if every disclosure shown
// belongs to the signed digests. The day of issue is the issuer's own word, and the
// certificate's status is not in a credential: compare [Verified.Digest] with the
// content digest of a ledger record that is proven, which settles both. A
// credential that the ledger does not know is not one to rely on.
//
// # One spelling
//
// Whatever a Verifier accepts is the only spelling of what it says: base64url
// without padding bits or line breaks, a signature with low S, disclosures once
// each and in the order of the face, no member that the form does not have.
//
// # Compatibility
//
// What the form does not have is refused, so a later form needs another
// [VCT]. Credentials of this one stay verifiable.
package credential

import (
	"fmt"
	"net/url"
	"time"
	"unicode/utf8"

	"github.com/zhenglian/zhenglian/domain"
)

const (
	// Type is the typ header of a credential's JWT, its media type without
	// "application/".
	Type = "dc+sd-jwt"

	// ListType is the typ header of a signed status list.
	ListType = "vc+jwt"

	// VCT names the form of a credential's payload.
	VCT = "zhenglian-certificate/1"

	// IssuingUnit is the organisational unit in the subject of an issuing key's
	// certificate. It is the unit of no Fabric role, so the key can sign
	// credentials and nothing on the ledger.
	IssuingUnit = "issuing"
)

// The bounds of a credential.
const (
	MaxItems = 60      // face items
	MaxName  = 100     // characters of an item's name
	MaxValue = 1000    // characters of an item's value
	MaxBytes = 1 << 19 // of the whole text

	maxURL = 500 // bytes of a status list's address
)

// Item is a face item 照面信息项 of a certificate.
type Item struct {
	Name  string `json:"name"`
	Value string `json:"value"`

	// ByCode is what those see of it who have the check code. It is the issuer's
	// choice when the credential is made, and "" in whatever is read.
	ByCode Showing `json:"-"`
}

// Showing says how much of a face item is shown.
type Showing string

// The ways to show an item.
const (
	Hidden Showing = ""
	Masked Showing = "masked" // see Mask
	Whole  Showing = "whole"
)

// Mask answers value with all but its first character hidden, and of a number of
// six digits or letters and more its last one shown as well: 张*, 1****************X.
// It keeps the length, so that a reader can compare with a paper in the hand.
func Mask(value string) string {
	runes := []rune(value)
	number := len(runes) >= 6
	for _, r := range runes {
		number = number && (r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r == '-')
	}
	for i := range runes {
		if i > 0 && !(number && i == len(runes)-1) || len(runes) == 1 {
			runes[i] = '*'
		}
	}
	return string(runes)
}

// shownByCode answers the items that those see who have the check code.
func shownByCode(items []Item) []Item {
	var shown []Item
	for _, item := range items {
		switch item.ByCode {
		case Hidden:
		case Masked:
			shown = append(shown, Item{Name: item.Name, Value: Mask(item.Value)})
		case Whole:
			shown = append(shown, Item{Name: item.Name, Value: item.Value})
		}
	}
	return shown
}

// CheckItems reports the first thing that is wrong with the face items of a
// certificate. There must be 1 to [MaxItems], with names that differ. Its error is a [domain.Error] of
// kind [domain.Invalid] that quotes no item.
func CheckItems(items []Item) error {
	if len(items) == 0 || len(items) > MaxItems {
		return invalidf("items: %d entries, 1 to %d are allowed", len(items), MaxItems)
	}
	names := make(map[string]bool, len(items))
	for i, item := range items {
		switch {
		case !isText(item.Name, MaxName):
			return invalidf("items[%d].name: must be 1 to %d printable characters", i, MaxName)
		case !isText(item.Value, MaxValue):
			return invalidf("items[%d].value: must be 1 to %d printable characters", i, MaxValue)
		case names[item.Name]:
			return invalidf("items[%d].name: repeats an earlier name", i)
		case item.ByCode != Hidden && item.ByCode != Masked && item.ByCode != Whole:
			return invalidf("items[%d].byCode: must be %s or %s, or left out", i, Masked, Whole)
		}
		names[item.Name] = true
	}
	return nil
}

// isText reports whether s is 1 to most characters and none of them a control
// character, with which a page or a printer could be misled.
func isText(s string, most int) bool {
	if s == "" || !utf8.ValidString(s) || utf8.RuneCountInString(s) > most {
		return false
	}
	for _, r := range s {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || isBidi(r) {
			return false
		}
	}
	return true
}

// isBidi reports whether r changes the direction or place of what follows: shown
// or printed, a text with it does not say what it reads.
func isBidi(r rune) bool {
	return r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x200e || r == 0x200f || r == 0x061c ||
		r == 0x2028 || r == 0x2029 || r == 0xfeff
}

// Status says which bit of the issuer's status lists is the certificate's.
type Status struct {
	Index      int    // position in the list
	Revocation string // address of the list of revoked certificates, http or https
	Suspension string // address of the list of suspended ones
}

// Claims are what a credential says openly. Times are whole seconds.
type Claims struct {
	Channel    string // of the ledger
	Issuer     domain.DepartmentCode
	IssuerUSCC string
	Ref        string // of the certificate on the ledger
	CertID     string // 电子证照标识
	TypeCode   string // 证照类型代码
	TypeNameZh string
	TypeNameEn string
	IssuedAt   time.Time
	Validity   domain.Period
	Status     Status
}

// check reports the first thing that is wrong with the claims.
func (c Claims) check() error {
	id, err := domain.ParseCertificateID(c.CertID)
	switch {
	case err != nil:
		return fmt.Errorf("certId: %w", err)
	case id.TypeCode != c.TypeCode || id.IssuerCode != c.IssuerUSCC:
		return invalidf("certId: names another type or issuer")
	case !isHex(c.Ref, 32):
		return invalidf("ref: must be 32 lower-case hexadecimal digits")
	case c.Channel == "" || c.Issuer == "":
		return invalidf("channel and issuer are required")
	case !isText(c.TypeNameZh, domain.MaxName) || !isText(c.TypeNameEn, domain.MaxName):
		return invalidf("typeNameZh and typeNameEn: must be 1 to %d printable characters", domain.MaxName)
	case !isSecond(c.IssuedAt) || !isSecond(c.Validity.From) || !isSecond(c.Validity.To):
		return invalidf("issuedAt and validity: must be whole seconds")
	case !c.Validity.From.Before(c.Validity.To):
		return invalidf("validity.to: not after from")
	case c.Status.Index < 0:
		return invalidf("status: the index is negative")
	case !isWeb(c.Status.Revocation) || !isWeb(c.Status.Suspension):
		return invalidf("status: a list has no http or https address")
	}
	return nil
}

// isSecond reports whether t is a time that a NumericDate holds exactly.
func isSecond(t time.Time) bool {
	return !t.IsZero() && t.Unix() > 0 && t.Year() < 10000 && t.Equal(t.Truncate(time.Second))
}

func isWeb(s string) bool {
	u, err := url.Parse(s)
	return err == nil && len(s) <= maxURL && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil &&
		u.Fragment == "" && u.String() == s
}

// isHex reports whether s is n lower-case hexadecimal digits.
func isHex(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func invalidf(format string, args ...any) error {
	return &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf(format, args...)}
}
