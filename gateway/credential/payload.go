package credential

import (
	"encoding/base64"
	"slices"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

// header is the protected header of a credential's JWT, all of it.
type header struct {
	Algorithm string   `json:"alg"`
	Type      string   `json:"typ"`
	X5C       []string `json:"x5c"` // DER in base64, the leaf alone
}

// payload is the payload of a credential's JWT, all of it.
type payload struct {
	Issuer     domain.DepartmentCode `json:"iss"`
	VCT        string                `json:"vct"`
	IssuedAt   int64                 `json:"iat"` // seconds since 1970
	NotBefore  int64                 `json:"nbf"`
	Expires    int64                 `json:"exp"` // the first second after
	Channel    string                `json:"channel"`
	Ref        string                `json:"ref"`
	CertID     string                `json:"certId"`
	TypeCode   string                `json:"typeCode"`
	TypeNameZh string                `json:"typeNameZh"`
	TypeNameEn string                `json:"typeNameEn"`
	IssuerUSCC string                `json:"issuerUscc"`
	Status     statusClaim           `json:"status"`
	Hash       string                `json:"_sd_alg"`
	Items      []placeholder         `json:"items"`
	ByCode     []placeholder         `json:"byCode,omitempty"` // what the check code shows
}

// placeholder stands for a face item, or for none.
type placeholder struct {
	Digest string `json:"..."`
}

// statusClaim holds entries of W3C's Bitstring Status List: the one for revocation
// and the one for suspension.
type statusClaim struct {
	Lists []statusEntry `json:"bitstring_status_list"`
}

type statusEntry struct {
	Type    string `json:"type"`
	Purpose string `json:"statusPurpose"`
	Index   int    `json:"statusListIndex,string"`
	List    string `json:"statusListCredential"`
}

const (
	entryType         = "BitstringStatusListEntry"
	purposeRevocation = "revocation"
	purposeSuspension = "suspension"
)

func newPayload(c Claims) payload {
	return payload{
		Issuer: c.Issuer, VCT: VCT, IssuedAt: c.IssuedAt.Unix(), NotBefore: c.Validity.From.Unix(), Expires: c.Validity.To.Unix(),
		Channel: c.Channel, Ref: c.Ref, CertID: c.CertID, TypeCode: c.TypeCode, TypeNameZh: c.TypeNameZh,
		TypeNameEn: c.TypeNameEn, IssuerUSCC: c.IssuerUSCC,
		Status: statusClaim{Lists: []statusEntry{
			{Type: entryType, Purpose: purposeRevocation, Index: c.Status.Index, List: c.Status.Revocation},
			{Type: entryType, Purpose: purposeSuspension, Index: c.Status.Index, List: c.Status.Suspension},
		}},
		Hash: hashName,
	}
}

// claims reads the claims back. It refuses a payload that newPayload cannot make.
func (p payload) claims() (Claims, error) {
	if p.VCT != VCT {
		return Claims{}, refuse(RuleType, "vct is not %s", VCT)
	}
	if p.Hash != hashName {
		return Claims{}, refuse(RuleHash, "the digests are not made with "+hashName)
	}
	if len(p.Status.Lists) != 2 {
		return Claims{}, refuse(RuleClaims, "status has not two lists")
	}
	revocation, suspension := p.Status.Lists[0], p.Status.Lists[1]
	c := Claims{
		Channel: p.Channel, Issuer: p.Issuer, IssuerUSCC: p.IssuerUSCC, Ref: p.Ref, CertID: p.CertID, TypeCode: p.TypeCode,
		TypeNameZh: p.TypeNameZh, TypeNameEn: p.TypeNameEn, IssuedAt: time.Unix(p.IssuedAt, 0).UTC(),
		Validity: domain.Period{From: time.Unix(p.NotBefore, 0).UTC(), To: time.Unix(p.Expires, 0).UTC()},
		Status:   Status{Index: revocation.Index, Revocation: revocation.List, Suspension: suspension.List},
	}
	for i, purpose := range []string{purposeRevocation, purposeSuspension} {
		if e := p.Status.Lists[i]; e.Type != entryType || e.Purpose != purpose || e.Index != c.Status.Index {
			return Claims{}, refuse(RuleClaims, "status is not one entry for revocation and one for suspension, with one index")
		}
	}
	if err := c.check(); err != nil {
		return Claims{}, refuse(RuleClaims, "a claim has not its shape")
	}
	if len(p.Items) == 0 || len(p.Items) > MaxItems || len(p.ByCode) > MaxItems {
		return Claims{}, refuse(RuleClaims, "%d items, 1 to %d are allowed", max(len(p.Items), len(p.ByCode)), MaxItems)
	}
	for _, item := range slices.Concat(p.Items, p.ByCode) {
		if sum, err := decode(item.Digest); err != nil || len(sum) != 32 {
			return Claims{}, refuse(RuleDigest, "a digest is not 256 bits in base64url")
		}
	}
	return c, nil
}

// saltBytes is how much chance hides an item: 128 bits. Nobody who knows the
// digest and guesses the value can tell whether the guess is right.
const saltBytes = 16

// saltText is a salt with the least chance, in base64url.
var saltText = base64.RawURLEncoding.EncodedLen(saltBytes)

// item reads a face item from its disclosure.
func (d *disclosure) item() (Item, error) {
	if d.named {
		return Item{}, refuse(RuleDisclosure, "an array element's disclosure has a name")
	}
	if salt, err := decode(d.salt); err != nil || len(salt) < saltBytes || len(d.salt) < saltText {
		return Item{}, refuse(RuleSalt, "a salt is not %d bytes or more in base64url", saltBytes)
	}
	var item Item
	if err := parseExactly(d.raw, &item); err != nil {
		return Item{}, refuse(RuleItem, "an item has not exactly a name and a value")
	}
	if !isText(item.Name, MaxName) || !isText(item.Value, MaxValue) {
		return Item{}, refuse(RuleItem, "an item's name or value has not its shape")
	}
	return item, nil
}

// disclose writes the disclosure of an item under a salt.
func disclose(salt string, item Item) (string, error) {
	data, err := marshal([]any{salt, item})
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(data), nil
}

// items reads what is disclosed, which must be in the order of the digests: face
// items, then what the check code shows.
func (s *sdJWT) items(face, byCode []placeholder) (items, shown []Item, err error) {
	// The rules of RFC 9901; what it answers is looked at in the disclosures, where
	// the exact spelling is.
	if _, err := s.reveal(); err != nil {
		return nil, nil, err
	}
	items = []Item{}
	rest := s.disclosures
	for _, list := range []struct {
		places []placeholder
		into   *[]Item
	}{{face, &items}, {byCode, &shown}} {
		names := make(map[string]bool)
		for _, place := range list.places {
			if len(rest) == 0 || rest[0].digest != place.Digest {
				continue
			}
			item, err := rest[0].item()
			if err != nil {
				return nil, nil, err
			}
			if names[item.Name] {
				return nil, nil, refuse(RuleItem, "two items have one name")
			}
			names[item.Name] = true
			*list.into, rest = append(*list.into, item), rest[1:]
		}
	}
	if len(rest) > 0 {
		return nil, nil, refuse(RuleOrder, "the disclosures are not in the order of their digests")
	}
	return items, shown, nil
}
