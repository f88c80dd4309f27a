package domain

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// What the key of an entry holds is read by every gateway, a thousand times for a batch,
// and written by every chaincode, with the content once more in each of two digests.
// Doing so by reflection was a tenth of what an entry cost gateways and much of what it
// cost chaincodes. Both are written out here for the entries that there are; whatever is
// out of the ordinary takes the general way, which alone decides what it says and what is
// canonical.

// ReadStoredEntry reads what the key of an entry holds; ok is false when it takes the
// general way to read it, if it can be read at all.
func ReadStoredEntry(value []byte) (e StoredCatalogEntry, ok bool) {
	text := string(value) // what is read are parts of it
	p := canonicalReader{rest: text, ok: withoutEscapes(text)}
	e.TxID = TxID(p.quoted(`{"txId":"`))
	e.Provider = DepartmentCode(p.quoted(`,"provider":"`))
	e.Content = p.content(`,"content":{`)
	return e, p.ok && p.rest == "}"
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

// parseCanonical sets a to the argument whose canonical form is data, or answers false
// when the general way must decide; a is then undefined.
func (a *RegisterBatchArgs) parseCanonical(data []byte) bool {
	text := string(data) // what is read are parts of it
	p := canonicalReader{rest: text, ok: withoutEscapes(text) && withoutSeparators(text)}
	p.expect(`{"contents":[`)
	a.Contents = []CatalogContent{}
	for p.ok && p.rest[0] != ']' {
		before := `,{`
		if len(a.Contents) == 0 {
			before = `{`
		}
		a.Contents = append(a.Contents, p.content(before))
	}
	p.expect(`],"draft":`)
	a.Draft = p.rest == "true}"
	return p.ok && (a.Draft || p.rest == "false}")
}

// storedEntry writes what the key of an entry holds.
func (w *canonicalWriter) storedEntry(e StoredCatalogEntry) {
	w.text(`{"txId":"`, string(e.TxID))
	w.text(`","provider":"`, string(e.Provider))
	w.content(`","content":`, e.Content)
	w.b = append(w.b, '}')
}

func (w *canonicalWriter) entry(e CatalogEntry) {
	w.text(`{"schema":"`, e.Schema)
	w.text(`","department":"`, string(e.Department))
	w.text(`","role":"`, string(e.Role))
	w.text(`","txId":"`, string(e.TxID))
	w.time(`","txTime":"`, e.TxTime)
	w.text(`","digest":"`, e.Digest)
	w.text(`","provider":"`, string(e.Provider))
	w.text(`","reviewer":"`, string(e.Reviewer))
	w.number(`","version":`, int64(e.Version))
	w.text(`,"state":"`, string(e.State))
	w.content(`","content":`, e.Content)
	w.text(`,"contentDigest":"`, e.ContentDigest)
	w.number(`","seq":`, int64(e.Seq))
	w.text(`,"event":"`, e.Event)
	w.number(`","lastVersion":`, int64(e.LastVersion))
	w.number(`,"recordedVersion":`, int64(e.RecordedVersion))
	w.number(`,"pending":`, int64(e.Pending))
	w.text(`,"opinion":"`, e.Opinion)
	w.text(`","reason":"`, e.Reason)
	w.clock(`","review":`, e.Review)
	w.clock(`,"update":`, e.Update)
	w.b = append(w.b, '}')
}

func (w *canonicalWriter) content(before string, c CatalogContent) {
	w.ok = w.ok && c.Items != nil && c.LegalBasis != nil && c.RelatedCodes != nil
	w.b = append(w.b, before...)
	w.text(`{"code":"`, c.Code)
	w.text(`","name":"`, c.Name)
	w.text(`","abstract":"`, c.Abstract)
	w.text(`","providerUscc":"`, c.ProviderUSCC)
	w.text(`","providerOffice":"`, c.ProviderOffice)
	w.text(`","classification":"`, c.Classification)
	w.text(`","format":"`, c.Format)
	w.text(`","formatType":"`, c.FormatType)
	w.b = append(w.b, `","items":[`...)
	for i, item := range c.Items {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.text(`{"name":"`, item.Name)
		w.text(`","type":"`, item.Type)
		w.number(`","level":`, int64(item.Level))
		w.b = strconv.AppendBool(append(w.b, `,"sensitive":`...), item.Sensitive)
		w.number(`,"shareType":`, int64(item.ShareType))
		w.b = append(w.b, '}')
	}
	w.number(`],"shareType":`, int64(c.ShareType))
	w.text(`,"shareCondition":"`, c.ShareCondition)
	w.texts(`","legalBasis":[`, c.LegalBasis)
	w.text(`],"shareMode":"`, c.ShareMode)
	w.number(`","openType":`, int64(c.OpenType))
	w.text(`,"openCondition":"`, c.OpenCondition)
	w.text(`","updateCycle":"`, c.UpdateCycle)
	w.texts(`","relatedCodes":[`, c.RelatedCodes)
	w.text(`],"dutyRef":"`, c.DutyRef)
	w.text(`","systemRef":"`, c.SystemRef)
	w.text(`","regionCode":"`, c.RegionCode)
	w.number(`","level":`, int64(c.Level))
	w.text(`,"personalData":"`, c.PersonalData)
	w.b = append(w.b, `"}`...)
}

func (w *canonicalWriter) texts(before string, list []string) {
	w.b = append(w.b, before...)
	for i, s := range list {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.text(`"`, s)
		w.b = append(w.b, '"')
	}
}

// clock writes a time limit, which goes the general way.
func (w *canonicalWriter) clock(before string, c *Clock) {
	data, err := canonical(c)
	w.b, w.ok = append(append(w.b, before...), data...), w.ok && err == nil
}
