package domain

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
)

// usccAlphabet is the character set of GB 32100: no I, O, S, V, Z.
const usccAlphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY"

// ValidUSCC reports whether s is a unified social credit code 统一社会信用代码:
// 18 characters whose last is the check character of GB 32100.
func ValidUSCC(s string) bool {
	if len(s) != 18 {
		return false
	}
	sum, weight := 0, 1
	for i := range 17 {
		v := strings.IndexByte(usccAlphabet, s[i])
		if v < 0 {
			return false
		}
		sum += v * weight
		weight = weight * 3 % 31
	}
	return s[17] == usccAlphabet[(31-sum%31)%31]
}

// CertificateOIDRoot opens every certificate identifier of this consortium.
const CertificateOIDRoot = "1.2.156.3005.2"

// CertificateID is an electronic certificate identifier 电子证照标识 in its
// parts, without the OID root and the check character.
type CertificateID struct {
	TypeCode   string // 证照类型代码: USCC of the defining authority, then 3 digits
	IssuerCode string // 颁发机构代码: USCC, or the 6 digits of a region
	Serial     string // 流水号: 1 to 64 characters of 0-9 A-Z
	Version    string // 版本号: 3 digits
}

var (
	typeNumberShape = regexp.MustCompile(`^[0-9]{3}$`)
	serialShape     = regexp.MustCompile(`^[0-9A-Z]{1,64}$`)
	checkShape      = regexp.MustCompile(`^[0-9A-Z]$`)
	oidRootShape    = regexp.MustCompile(`^[0-2](\.[0-9]{1,9})+\.`)
)

func (c CertificateID) check(f *findings) {
	if len(c.TypeCode) != 21 || !typeNumberShape.MatchString(c.TypeCode[18:]) {
		f.add("typeCode", typeCodeRule)
	} else {
		f.typedUSCC("typeCode", c.TypeCode[:18])
	}
	switch {
	case len(c.IssuerCode) == 18:
		f.typedUSCC("issuerCode", c.IssuerCode)
	case !regionShape.MatchString(c.IssuerCode):
		f.add("issuerCode", "neither a unified social credit code nor a region code")
	}
	f.match("serial", c.Serial, serialShape, "must be 1 to 64 characters of 0-9 A-Z")
	// Some kinds of certificate are numbered with their holder's ID number, which
	// must not go on the ledger. Only a whole serial counts: eleven digits between
	// letters are chance.
	if (len(c.Serial) == 18 || len(c.Serial) == 11) && LooksPersonal(c.Serial) {
		f.add("serial", personalRule)
	}
	f.match("version", c.Version, typeNumberShape, "must be 3 digits")
}

// typedUSCC says what exactly is wrong with 18 bytes that somebody typed as a
// unified social credit code.
func (f *findings) typedUSCC(field, s string) {
	unknown := func(r rune) bool { return !strings.ContainsRune(usccAlphabet, r) }
	switch {
	case ValidUSCC(s):
	case !strings.ContainsFunc(s, unknown):
		f.add(field, "wrong check character of the unified social credit code (GB 32100)")
	case strings.ContainsAny(s, "abcdefghijklmnopqrstuvwxyz"):
		f.add(field, "has lower-case letters, a unified social credit code has capitals only")
	case strings.ContainsAny(s, "IOSVZ"):
		f.add(field, "has I, O, S, V or Z, which no unified social credit code has")
	default:
		f.add(field, usccRule)
	}
}

const typeCodeRule = "must be the defining authority's unified social credit code and 3 digits"

func validTypeCode(s string) bool {
	return len(s) == 21 && ValidUSCC(s[:18]) && typeNumberShape.MatchString(s[18:])
}

// Compose returns the identifier with OID root and check character, or an
// [*Error] of kind [Invalid] if a part does not have its shape.
func (c CertificateID) Compose() (string, error) {
	var f findings
	c.check(&f)
	if err := f.err(); err != nil {
		return "", err
	}
	check, _ := checkCharacter(c.TypeCode + c.IssuerCode + c.Serial + c.Version)
	return strings.Join([]string{CertificateOIDRoot, c.TypeCode, c.IssuerCode, c.Serial, c.Version, string(check)}, "."), nil
}

// ParseCertificateID splits an identifier and checks its parts and its check
// character. Its error is an [*Error] of kind [Invalid] that names the rule it
// breaks, for somebody who mistyped it.
func ParseCertificateID(s string) (CertificateID, error) {
	rest, ok := strings.CutPrefix(s, CertificateOIDRoot+".")
	parts := strings.Split(rest, ".")
	switch {
	case ok && len(parts) != 5:
		return CertificateID{}, refuse(Invalid, "certificate identifier: must have 5 parts after "+CertificateOIDRoot+": type, issuer, serial, version and check character")
	case !ok && oidRootShape.MatchString(s):
		return CertificateID{}, refuse(Invalid, "certificate identifier: has another OID root than "+CertificateOIDRoot)
	case !ok:
		return CertificateID{}, refuse(Invalid, "certificate identifier: must be "+CertificateOIDRoot+".TYPE.ISSUER.SERIAL.VERSION.CHECK")
	case !checkShape.MatchString(parts[4]):
		return CertificateID{}, refuse(Invalid, "certificate identifier: the check character must be one of 0-9 A-Z")
	}
	c := CertificateID{TypeCode: parts[0], IssuerCode: parts[1], Serial: parts[2], Version: parts[3]}
	again, err := c.Compose()
	if err != nil {
		return CertificateID{}, err
	}
	if again != s {
		return CertificateID{}, refuse(Invalid, "certificate identifier: wrong check character (ISO 7064 MOD 37,36)")
	}
	return c, nil
}

// checkCharacter returns the ISO 7064 MOD 37,36 check character of s, false if
// s holds anything but 0-9 A-Z.
func checkCharacter(s string) (byte, bool) {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	p := 36
	for i := range len(s) {
		v := strings.IndexByte(alphabet, s[i])
		if v < 0 {
			return 0, false
		}
		p = (p + v) % 36
		if p == 0 {
			p = 36
		}
		p = p * 2 % 37
	}
	return alphabet[(37-p)%36], true
}

// CheckCodeHash is what the ledger holds of the check code 查验码 of the
// certificate ref: the hexadecimal SHA-256 of "zhenglian/check-code/1", the
// reference and the code, separated by newlines. The reference acts as the
// salt, so equal codes of two certificates have unlike hashes.
func CheckCodeHash(ref, code string) string {
	sum := sha256.Sum256([]byte("zhenglian/check-code/1\n" + ref + "\n" + code))
	return hex.EncodeToString(sum[:])
}

// HolderCommitment is what the ledger holds of the holder 持证主体 of the
// certificate ref: the hexadecimal SHA-256 of "zhenglian/holder/1", the
// reference and the issuer's own salted reference to the holder, separated by
// newlines. saltedReference must already be keyed or salted with at least 128
// secret random bits: an ID number alone can be guessed.
func HolderCommitment(ref, saltedReference string) string {
	sum := sha256.Sum256([]byte("zhenglian/holder/1\n" + ref + "\n" + saltedReference))
	return hex.EncodeToString(sum[:])
}
