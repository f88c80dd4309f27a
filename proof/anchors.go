package proof

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"regexp"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/zhenglian/zhenglian/domain"
)

// The bounds of a trust file.
const (
	maxTrustBytes  = 1 << 20
	maxDepartments = 32 // as many as a bundle may hold endorsements
	maxRoots       = 8  // per department: the present authority and past ones
	maxCRLs        = 8  // per department
	maxVersions    = 64
	maxNameRunes   = 100
)

var (
	channelPattern   = regexp.MustCompile(`^[a-z][a-z0-9.-]{0,248}$`)            // Fabric's rule
	chaincodePattern = regexp.MustCompile(`^[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*$`) // Fabric's rule
	versionPattern   = regexp.MustCompile(`^[A-Za-z0-9_.+-]{1,64}$`)             // Fabric's rule
	codePattern      = regexp.MustCompile(`^[a-z][a-z0-9]{1,19}$`)               // see domain.DepartmentCode
	mspIDPattern     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,63}$`)    //
)

// ParseAnchors reads a trust file (consortium.json). It accepts the canonical
// form only, checks every field, and requires that the quorum is a majority of
// the departments.
//
// Its error is a [domain.Error] of kind [domain.Invalid].
func ParseAnchors(data []byte) (*Anchors, error) {
	if len(data) > maxTrustBytes {
		return nil, invalidf("trust file: %d bytes, at most %d are allowed", len(data), maxTrustBytes)
	}
	var anchors Anchors
	if err := domain.ParseCanonical(data, &anchors); err != nil {
		return nil, fmt.Errorf("trust file: %w", err)
	}
	members, err := anchors.members()
	if err != nil {
		return nil, fmt.Errorf("trust file: %w", err)
	}
	for _, member := range members {
		// A root's signature on itself proves nothing; a broken one shows that the
		// file was damaged or is not what was meant.
		for _, root := range member.roots {
			if err := root.CheckSignatureFrom(root); err != nil {
				return nil, invalidf("trust file: department %s: a CA root is not self-signed: %v", member.code, err)
			}
		}
	}
	return &anchors, nil
}

// member is a department of the anchors with its roots read.
type member struct {
	code  domain.DepartmentCode
	mspID domain.MSPID
	roots []*x509.Certificate
	pool  *x509.CertPool

	revoked map[revokedKey]time.Time // when, by the department's revocation lists
}

// members checks every field of the anchors and reads the roots. [Verify] calls
// it too, so that anchors made by hand are held to the same rules.
func (a *Anchors) members() ([]member, error) {
	switch {
	case a.Format != TrustFormat:
		return nil, invalidf("format %q is not %q", a.Format, TrustFormat)
	case !channelPattern.MatchString(a.Channel):
		return nil, invalidf("channel %q is not a channel name", a.Channel)
	case !chaincodePattern.MatchString(a.Chaincode):
		return nil, invalidf("chaincode %q is not a chaincode name", a.Chaincode)
	case len(a.Versions) == 0 || len(a.Versions) > maxVersions:
		return nil, invalidf("%d chaincode versions, 1 to %d are allowed", len(a.Versions), maxVersions)
	case len(a.Departments) == 0 || len(a.Departments) > maxDepartments:
		return nil, invalidf("%d departments, 1 to %d are allowed", len(a.Departments), maxDepartments)
	case a.Quorum < 1 || a.Quorum > len(a.Departments):
		return nil, invalidf("a quorum of %d among %d departments is impossible", a.Quorum, len(a.Departments))
	case 2*a.Quorum <= len(a.Departments):
		// Two disjoint quorums could sign opposite statements.
		return nil, invalidf("a quorum of %d is no majority of %d departments", a.Quorum, len(a.Departments))
	}
	for i, version := range a.Versions {
		if !versionPattern.MatchString(version) {
			return nil, invalidf("chaincode version %q is not a version", version)
		}
		if slices.Contains(a.Versions[:i], version) {
			return nil, invalidf("chaincode version %q is listed twice", version)
		}
	}
	members := make([]member, len(a.Departments))
	for i := range a.Departments {
		if err := a.check(i, members); err != nil {
			return nil, fmt.Errorf("department %q: %w", a.Departments[i].Code, err)
		}
	}
	return members, nil
}

// check fills members[i] from the department at i and compares it with those
// before.
func (a *Anchors) check(i int, members []member) error {
	d := &a.Departments[i]
	switch {
	case !codePattern.MatchString(string(d.Code)):
		return invalidf("not a department code")
	case i > 0 && d.Code <= a.Departments[i-1].Code:
		return invalidf("departments are not sorted by code, each once")
	case !mspIDPattern.MatchString(string(d.MSPID)):
		return invalidf("MSP ID %q is not an MSP ID", d.MSPID)
	case !isName(d.NameZh) || !isName(d.NameEn):
		return invalidf("a name is empty or too long")
	case !domain.ValidUSCC(d.USCC):
		return invalidf("%q is not a unified social credit code", d.USCC)
	case len(d.CARoots) == 0 || len(d.CARoots) > maxRoots:
		return invalidf("%d CA roots, 1 to %d are allowed", len(d.CARoots), maxRoots)
	case len(d.CRLs) > maxCRLs:
		return invalidf("%d revocation lists, at most %d are allowed", len(d.CRLs), maxCRLs)
	case (d.LogOrigin == "") != (d.LogKey == ""):
		return invalidf("a log needs both an origin and a key")
	}
	if d.LogOrigin != "" {
		if _, err := parseVerifierKey(d.LogOrigin, d.LogKey); err != nil {
			return err
		}
	}
	m := member{code: d.Code, mspID: d.MSPID, pool: x509.NewCertPool(), revoked: map[revokedKey]time.Time{}}
	for _, text := range d.CARoots {
		root, err := parseCertificate([]byte(text))
		if err != nil {
			return invalidf("CA root: %v", err)
		}
		if _, err := publicKey(root); err != nil {
			return invalidf("CA root: %v", err)
		}
		if !root.BasicConstraintsValid || !root.IsCA || root.KeyUsage&x509.KeyUsageCertSign == 0 {
			return invalidf("CA root: not a certificate authority")
		}
		for _, other := range m.roots {
			if sameKey(root, other) {
				return invalidf("a CA root is listed twice")
			}
		}
		m.roots = append(m.roots, root)
		m.pool.AddCert(root)
	}
	for _, text := range d.CRLs {
		if err := m.readCRL(text); err != nil {
			return invalidf("%v", err)
		}
	}
	for j, other := range members[:i] {
		if other.mspID == d.MSPID {
			return invalidf("MSP ID %q is that of %q too", d.MSPID, other.code)
		}
		if d.LogOrigin != "" && a.Departments[j].LogOrigin == d.LogOrigin {
			return invalidf("log origin %q is that of %q too", d.LogOrigin, other.code)
		}
		// One authority under two names would count as two departments.
		for _, root := range m.roots {
			for _, theirs := range other.roots {
				if sameKey(root, theirs) {
					return invalidf("shares a CA root with %q", other.code)
				}
			}
		}
	}
	members[i] = m
	return nil
}

func sameKey(a, b *x509.Certificate) bool {
	return bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo)
}

func isName(s string) bool {
	n := utf8.RuneCountInString(s)
	return n > 0 && n <= maxNameRunes && utf8.ValidString(s)
}
