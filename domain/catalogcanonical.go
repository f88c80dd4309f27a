package domain

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// What the keys of entries and names hold is read by every gateway, a thousand times for
// a batch. Decoding it by reflection was a tenth of what an entry cost them. The forms
// in which the chaincode writes it are read here; whatever is out of the ordinary takes
// the general way, which alone decides what it says.

// ReadStoredEntry reads what the key of an entry holds; ok is false when it takes the
// general way to read it, if it can be read at all.
func ReadStoredEntry(value []byte) (e StoredCatalogEntry, ok bool) {
	p := newStoredReader(value)
	e.TxID = TxID(p.quoted(`{"txId":"`))
	e.Provider = DepartmentCode(p.quoted(`,"provider":"`))
	e.Content = p.content(`,"content":{`)
	return e, p.ok && p.rest == "}"
}

// readStoredName reads what the key of a name holds; ok is false when that is no name.
func readStoredName(value []byte) (n StoredCatalogName, ok bool) {
	p := newStoredReader(value)
	n.TxID = TxID(p.quoted(`{"txId":"`))
	if n.Code = p.quoted(`,"code":"`); !p.ok || p.rest != "}" {
		n = StoredCatalogName{}
		p.ok = json.Unmarshal(value, &n) == nil
	}
	return n, p.ok && n.Code != ""
}

// newStoredReader reads a value without escapes.
func newStoredReader(value []byte) canonicalReader {
	text := string(value) // what is read are parts of it
	return canonicalReader{rest: text, ok: withoutEscapes(text)}
}

// withoutEscapes reports whether every string in a JSON text says what stands in it.
func withoutEscapes(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '\\' {
			return false
		}
	}
	return utf8.ValidString(text)
}

func (p *canonicalReader) content(before string) (c CatalogContent) {
	p.expect(before)
	c.Code = p.quoted(`"code":"`)
	c.Name = p.quoted(`,"name":"`)
	c.Abstract = p.quoted(`,"abstract":"`)
	c.ProviderUSCC = p.quoted(`,"providerUscc":"`)
	c.ProviderOffice = p.quoted(`,"providerOffice":"`)
	c.Classification = p.quoted(`,"classification":"`)
	c.Format = p.quoted(`,"format":"`)
	c.FormatType = p.quoted(`,"formatType":"`)
	p.expect(`,"items":[`)
	c.Items = []CatalogItem{}
	for p.ok && p.rest[0] != ']' {
		if len(c.Items) > 0 {
			p.expect(`,`)
		}
		c.Items = append(c.Items, p.item())
	}
	p.expect(`]`)
	c.ShareType = ShareType(p.small(`,"shareType":`))
	c.ShareCondition = p.quoted(`,"shareCondition":"`)
	c.LegalBasis = p.texts(`,"legalBasis":[`)
	c.ShareMode = p.quoted(`,"shareMode":"`)
	c.OpenType = OpenType(p.small(`,"openType":`))
	c.OpenCondition = p.quoted(`,"openCondition":"`)
	c.UpdateCycle = p.quoted(`,"updateCycle":"`)
	c.RelatedCodes = p.texts(`,"relatedCodes":[`)
	c.DutyRef = p.quoted(`,"dutyRef":"`)
	c.SystemRef = p.quoted(`,"systemRef":"`)
	c.RegionCode = p.quoted(`,"regionCode":"`)
	c.Level = p.small(`,"level":`)
	c.PersonalData = p.quoted(`,"personalData":"`)
	p.expect(`}`)
	return c
}

func (p *canonicalReader) item() (i CatalogItem) {
	i.Name = p.quoted(`{"name":"`)
	i.Type = p.quoted(`,"type":"`)
	i.Level = p.small(`,"level":`)
	p.expect(`,"sensitive":`)
	if i.Sensitive = strings.HasPrefix(p.rest, `true`); i.Sensitive {
		p.expect(`true`)
	} else {
		p.expect(`false`)
	}
	i.ShareType = ShareType(p.small(`,"shareType":`))
	p.expect(`}`)
	return i
}

// small reads a number of one digit.
func (p *canonicalReader) small(before string) int {
	p.expect(before)
	if !p.ok || len(p.rest) < 2 || p.rest[0] < '0' || p.rest[0] > '9' {
		p.ok = false
		return 0
	}
	n := int(p.rest[0] - '0')
	p.rest = p.rest[1:]
	return n
}

// texts reads a list of strings.
func (p *canonicalReader) texts(before string) []string {
	p.expect(before)
	list := []string{}
	for p.ok && p.rest[0] != ']' {
		if len(list) > 0 {
			p.expect(`,`)
		}
		list = append(list, p.quoted(`"`))
	}
	p.expect(`]`)
	return list
}
