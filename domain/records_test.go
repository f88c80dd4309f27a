package domain

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCatalogContentValidate(t *testing.T) {
	item := func(s ShareType) CatalogItem { return CatalogItem{Name: "库名", Type: "C", Level: 1, ShareType: s} }
	checkInvalid(t, someContent, []invalidCase[CatalogContent]{
		{"unconditional without basis", func(c *CatalogContent) {
			c.ShareType, c.ShareCondition, c.LegalBasis = Unconditional, "", nil
			c.Items = []CatalogItem{item(Unconditional)}
		}, ""},
		{"a document without items", func(c *CatalogContent) { c.Items, c.Format, c.ShareMode = nil, "file", "platform_file" }, ""},
		{"a file by mail", func(c *CatalogContent) { c.Format, c.ShareMode = "spreadsheet", "mail" }, ""},
		{"an interface", func(c *CatalogContent) { c.Format, c.ShareMode = "api", "platform_api" }, ""},
		{"longest name", func(c *CatalogContent) { c.Name = strings.Repeat("名", MaxName) }, ""},
		{"longest abstract", func(c *CatalogContent) { c.Abstract = strings.Repeat("摘", MaxAbstract) }, ""},
		{"no duty", func(c *CatalogContent) { c.DutyRef = "" }, ""},

		{"conditional without condition", func(c *CatalogContent) { c.ShareCondition = "" }, "shareCondition: required"},
		{"condition on an unconditional resource", func(c *CatalogContent) {
			c.ShareType = Unconditional
		}, "shareCondition: only a conditional resource has a condition"},
		{"conditional without basis", func(c *CatalogContent) { c.LegalBasis = nil }, "legalBasis: required unless the resource and all its items are unconditional"},
		{"not shared without basis", func(c *CatalogContent) {
			c.ShareType, c.ShareCondition, c.LegalBasis = NotShared, "", nil
			c.Items = []CatalogItem{item(NotShared)}
		}, "legalBasis: required unless the resource and all its items are unconditional"},
		{"restricted item without basis", func(c *CatalogContent) {
			c.ShareType, c.ShareCondition, c.LegalBasis = Unconditional, "", nil
		}, "legalBasis: required unless the resource and all its items are unconditional"},
		{"empty basis", func(c *CatalogContent) { c.LegalBasis = []string{""} }, "legalBasis[0]: required"},
		{"repeated basis", func(c *CatalogContent) { c.LegalBasis = []string{"甲", "甲"} }, "legalBasis[1]: repeats an earlier entry"},
		{"many bases", func(c *CatalogContent) { c.LegalBasis = make([]string, MaxBases+1) }, "legalBasis: more than 20 entries"},
		{"item looser than the entry", func(c *CatalogContent) { c.Items = []CatalogItem{item(Unconditional)} }, "items[0].shareType: looser than the resource's"},
		{"bad USCC", func(c *CatalogContent) { c.ProviderUSCC = "11370000004504927B" }, "providerUscc: " + usccRule},
		{"region of five digits", func(c *CatalogContent) { c.RegionCode = "37010" }, "regionCode: must be the 6 digits of an administrative division (GB/T 2260)"},
		{"region with a letter", func(c *CatalogContent) { c.RegionCode = "3701O0" }, "regionCode: must be the 6 digits of an administrative division (GB/T 2260)"},
		{"structured without items", func(c *CatalogContent) { c.Items = nil }, "items: required for the formats spreadsheet, database and api"},
		{"no system", func(c *CatalogContent) { c.SystemRef = "" }, "systemRef: required"},
		{"system name as name", func(c *CatalogContent) { c.Name = c.SystemRef }, "name: is the name of the information system, not of a resource"},
		{"bad code", func(c *CatalogContent) { c.Code = "X" }, "code: " + catalogCodeRule},
		{"no name", func(c *CatalogContent) { c.Name = "" }, "name: required"},
		{"no abstract", func(c *CatalogContent) { c.Abstract = "" }, "abstract: required"},
		{"long name", func(c *CatalogContent) { c.Name = strings.Repeat("名", MaxName+1) }, "name: longer than 200 characters"},
		{"long abstract", func(c *CatalogContent) { c.Abstract = strings.Repeat("摘", MaxAbstract+1) }, "abstract: longer than 2000 characters"},
		{"table as interface", func(c *CatalogContent) { c.ShareMode = "platform_api" }, "shareMode: not one of platform_table"},
		{"interface as table", func(c *CatalogContent) { c.Format = "api" }, "shareMode: not one of platform_api"},
		{"file as table", func(c *CatalogContent) { c.Format = "file" }, "shareMode: not one of platform_file, mail, medium"},
		{"unknown format", func(c *CatalogContent) { c.Format = "pdf" }, "format: not one of file, spreadsheet, database, image, stream, self_describing, api"},
		{"unknown cycle", func(c *CatalogContent) { c.UpdateCycle = "hourly" }, "updateCycle: not one of irregular, realtime, daily, weekly, monthly, quarterly, half_yearly, yearly, other"},
		{"unknown share type", func(c *CatalogContent) { c.ShareType = 0 }, "shareType: not one of 1, 2, 3; shareCondition: only a conditional resource has a condition"},
		{"unknown personal data", func(c *CatalogContent) { c.PersonalData = "" }, "personalData: not one of none, general, sensitive"},
		{"item faults", func(c *CatalogContent) {
			c.Items = []CatalogItem{{Type: "Z", Level: 5, ShareType: 4}}
		}, "items[0].type: not one of C, N, Y, D, T, L, M, G, B, I, F; items[0].level: must be 1 to 4; items[0].shareType: not one of 1, 2, 3; items.name[0]: required"},
		{"repeated item", func(c *CatalogContent) { c.Items = append(c.Items, c.Items[0]) }, "items.name[3]: repeats an earlier entry"},
		{"many items", func(c *CatalogContent) { c.Items = make([]CatalogItem, MaxItems+1) }, "items: more than 500 entries"},
		{"a person's number", func(c *CatalogContent) { c.Abstract = "联系电话13800000000" }, "abstract: personal-number rule: contains what looks like a resident ID number or a mobile telephone number"},
	})
}

func TestRegisterCatalog(t *testing.T) {
	who := as(policeDept, RoleOperator)
	e, v, err := RegisterCatalog(nil, who, policeDept, someTx, RegisterCatalogArgs{someContent()})
	if err != nil {
		t.Fatal(err)
	}
	if e.Version != 1 || v.Version != 1 || e.Provider != "police" || e.Schema != SchemaCatalogEntry || v.Schema != SchemaCatalogVersion {
		t.Errorf("entry %+v, version %+v", e, v)
	}
	if e.Department != "police" || e.Role != RoleOperator || e.TxID != someTx.ID || !e.TxTime.Equal(noon) {
		t.Errorf("meta %+v", e.Meta)
	}
	if !DigestHolds(&e) || !DigestHolds(&v) {
		t.Error("a digest does not hold")
	}
	e.Opinion = "changed"
	if DigestHolds(&e) {
		t.Error("the digest holds for a changed record")
	}

	again, v2, err := RegisterCatalog(someEntry(CatalogRegRejected), who, policeDept, someTx, RegisterCatalogArgs{someContent()})
	if err != nil || again.Version != 2 || v2.Version != 2 {
		t.Errorf("after a return: version %d and %d, %v, want 2", again.Version, v2.Version, err)
	}
	_, _, err = RegisterCatalog(nil, as(civilDept, RoleOperator), civilDept, someTx, RegisterCatalogArgs{someContent()})
	wantKind(t, err, Invalid, "content.providerUscc: not the code of department civil")
	_, _, err = RegisterCatalog(nil, who, policeDept, someTx, RegisterCatalogArgs{})
	wantKind(t, err, Invalid, "content.code: ")
}

func TestShareRequestContentValidate(t *testing.T) {
	checkInvalid(t, someRequestContent, []invalidCase[ShareRequestContent]{
		{"id", func(c *ShareRequestContent) { c.ID = "1" }, "id: " + hex32Rule},
		{"no items", func(c *ShareRequestContent) { c.Items = nil }, "items: required"},
		{"repeated items", func(c *ShareRequestContent) { c.Items = []string{"库名", "库名"} }, "items[1]: repeats an earlier entry"},
		{"no purpose", func(c *ShareRequestContent) { c.Purpose = "" }, "purpose: required"},
		{"a person in the purpose", func(c *ShareRequestContent) { c.Purpose = "核验999999199001011234" }, "purpose: personal-number rule: contains what looks like a resident ID number or a mobile telephone number"},
		{"service item", func(c *ShareRequestContent) { c.ServiceItem = "" }, "serviceItem: " + serviceItemRule},
		{"a phone as service item", func(c *ShareRequestContent) { c.ServiceItem = "13800000000" }, "serviceItem: personal-number rule: contains what looks like a resident ID number or a mobile telephone number"},
		{"mode", func(c *ShareRequestContent) { c.ShareMode = "fax" }, "shareMode: not one of platform_table, platform_file, platform_api, mail, medium"},
		{"period", func(c *ShareRequestContent) { c.Period.To = c.Period.From }, "period.to: not after from"},
		{"no period", func(c *ShareRequestContent) { c.Period = Period{} }, "period.from: required; period.to: required"},
		{"quota", func(c *ShareRequestContent) { c.Quota = Quota{} }, "quota.total: must be at least 1; quota.perDay: must be at least 1"},
		{"daily quota", func(c *ShareRequestContent) { c.Quota = Quota{5, 6} }, "quota.perDay: more than the total"},
		{"letter", func(c *ShareRequestContent) { c.LetterDigest = "" }, "letterDigest: " + hex64Rule},
		{"measures", func(c *ShareRequestContent) { c.SecurityMeasures, c.UseBasis = "", "" }, "useBasis: required; securityMeasures: required"},
	})
}

func TestAnswerArgsValidate(t *testing.T) {
	part := func(a *AnswerArgs) {
		a.Decision, a.Reason, a.Items = Partly, "理由", []string{"库名"}
		a.Period, a.Quota = someRequestContent().Period, someRequestContent().Quota
	}
	checkInvalid(t, func() AnswerArgs { return AnswerArgs{ID: someID, Decision: Agree} }, []invalidCase[AnswerArgs]{
		{"agree with a word", func(a *AnswerArgs) { a.Reason = "同意" }, ""},
		{"partly", part, ""},
		{
			"partly without all", func(a *AnswerArgs) { a.Decision = Partly },
			"reason: required; items: required for a partial agreement; period.from: required; period.to: required; quota.total: must be at least 1; quota.perDay: must be at least 1",
		},
		{
			"agree with items", func(a *AnswerArgs) { part(a); a.Decision = Agree },
			"items: only for a partial agreement; period: only for a partial agreement; quota: only for a partial agreement",
		},
		{"refuse without basis", func(a *AnswerArgs) { a.Decision = Refuse }, "reason: required; legalBasis: required for a refusal"},
		{"refuse", func(a *AnswerArgs) { a.Decision, a.Reason, a.LegalBasis = Refuse, "理由", []string{"依据"} }, ""},
		{"decision", func(a *AnswerArgs) { a.Decision, a.Reason = "", "x" }, "decision: not one of agree, partly, refuse"},
		{"id", func(a *AnswerArgs) { a.ID = "" }, "id: " + hex32Rule},
	})
}

func TestRequestShare(t *testing.T) {
	who := as(civilDept, RoleOperator)
	r, e, err := RequestShare(nil, who, someTx, someEntry(CatalogPublished), someRequestContent())
	if err != nil {
		t.Fatal(err)
	}
	if r.Consumer != "civil" || r.Provider != "police" || r.Seq != 1 || r.CatalogVersion != 1 || !r.SubmittedAt.Equal(noon) || r.GrantID != "" {
		t.Errorf("request %+v", r)
	}
	if e.RequestID != someID || e.Seq != 1 || e.State != RequestSubmitted || !DigestHolds(&r) || !DigestHolds(&e) {
		t.Errorf("event %+v", e)
	}
	for _, tc := range []struct {
		name   string
		entry  func(*CatalogEntry)
		args   func(*ShareRequestContent)
		reason string
	}{
		{"unpublished", func(e *CatalogEntry) { e.State = CatalogRegistered }, nil, "catalogCode: the entry is registered"},
		{"not shared", func(e *CatalogEntry) { e.Content.ShareType = NotShared }, nil, "catalogCode: the resource is not shared"},
		{"unknown item", nil, func(c *ShareRequestContent) { c.Items[1] = "姓名" }, "items[1]: not an item of the resource"},
		{"item not shared", nil, func(c *ShareRequestContent) { c.Items[1] = "汛限水位（米）" }, "items[1]: the item is not shared"},
		{"mode", nil, func(c *ShareRequestContent) { c.ShareMode = "mail" }, "shareMode: the resource is shared by platform_table"},
		{"past", nil, func(c *ShareRequestContent) { c.Period = Period{noon.AddDate(-1, 0, 0), noon} }, "period.to: already past"},
		{"a document by a part", func(e *CatalogEntry) { e.Content.Items = nil }, nil, "items[0]: not an item of the resource"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			entry, args := someEntry(CatalogPublished), someRequestContent()
			if tc.entry != nil {
				tc.entry(entry)
			}
			if tc.args != nil {
				tc.args(&args)
			}
			_, _, err := RequestShare(nil, who, someTx, entry, args)
			wantKind(t, err, Invalid, tc.reason)
		})
	}
	t.Run("a document as a whole", func(t *testing.T) {
		entry, args := someEntry(CatalogPublished), someRequestContent()
		entry.Content.Items = nil
		args.Items = []string{entry.Content.Name}
		if _, _, err := RequestShare(nil, who, someTx, entry, args); err != nil {
			t.Error(err)
		}
	})
	_, _, err = RequestShare(nil, who, someTx, nil, someRequestContent())
	wantKind(t, err, NotFound, "catalog entry "+someCode)
	_, _, err = RequestShare(nil, who, someTx, someEntry(CatalogPublished), ShareRequestContent{})
	wantKind(t, err, Invalid, "id: ")
}

func TestAnswerShare(t *testing.T) {
	who := as(policeDept, RoleReviewer)
	r, e, g, err := AnswerShare(someRequest(RequestSubmitted), who, later(time.Hour), someVersion(), AnswerArgs{ID: someID, Decision: Agree})
	if err != nil {
		t.Fatal(err)
	}
	want := someGrant()
	want.ConditionsDigest = Digest([]byte("仅用于防汛调度"))
	want.Meta = g.Meta
	if diff := cmp.Diff(&want, g); diff != "" {
		t.Errorf("grant (-want +got):\n%s", diff)
	}
	if r.GrantID != someID || r.Seq != 2 || e.Seq != 2 || e.Event != "agree" || e.State != RequestAgreed {
		t.Errorf("request %+v, event %+v", r, e)
	}
	if !DigestHolds(&r) || !DigestHolds(&e) || !DigestHolds(g) {
		t.Error("a digest does not hold")
	}
	if !r.SubmittedAt.Equal(noon) || r.LegalBasis == nil {
		t.Errorf("request %+v", r)
	}

	asked := someRequestContent()
	partly := AnswerArgs{ID: someID, Decision: Partly, Reason: "理由", Items: []string{"库名"}, Period: asked.Period, Quota: Quota{10, 1}}
	_, _, g, err = AnswerShare(someRequest(RequestSubmitted), who, someTx, someVersion(), partly)
	if err != nil || !slices.Equal(g.Items, partly.Items) || g.Quota != partly.Quota {
		t.Errorf("partial grant %+v, %v", g, err)
	}
	for _, tc := range []struct {
		name   string
		change func(*AnswerArgs)
		reason string
	}{
		{"items not asked for", func(a *AnswerArgs) { a.Items = []string{"姓名"} }, "items[0]: was not asked for"},
		{"longer", func(a *AnswerArgs) { a.Period.To = a.Period.To.Add(time.Second) }, "period: outside the period asked for"},
		{"earlier", func(a *AnswerArgs) { a.Period.From = a.Period.From.Add(-time.Second) }, "period: outside the period asked for"},
		{"more calls", func(a *AnswerArgs) { a.Quota = Quota{1001, 1} }, "quota: more than was asked for"},
		{"all of it", func(a *AnswerArgs) { a.Items, a.Quota = asked.Items, asked.Quota }, "decision: nothing is left out"},
		{"past", func(a *AnswerArgs) { a.Period.To = noon.Add(time.Minute) }, "period.to: already past"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := partly
			tc.change(&args)
			_, _, _, err := AnswerShare(someRequest(RequestSubmitted), who, later(time.Hour), someVersion(), args)
			wantKind(t, err, Invalid, tc.reason)
		})
	}
	_, _, _, err = AnswerShare(someRequest(RequestSubmitted), who, someTx, nil, AnswerArgs{ID: someID, Decision: Agree})
	wantKind(t, err, NotFound, "version 1 of catalog entry "+someCode)
	_, _, _, err = AnswerShare(someRequest(RequestSubmitted), who, someTx, someVersion(), AnswerArgs{})
	wantKind(t, err, Invalid, "id: ")
}

func TestGrantStatusAt(t *testing.T) {
	g := someGrant()
	for _, tc := range []struct {
		at   time.Time
		want GrantState
	}{
		{g.Period.From.Add(-1), GrantPending},
		{g.Period.From, GrantActive},
		{g.Period.To.Add(-1), GrantActive},
		{g.Period.To, GrantExpired},
	} {
		if got := g.StatusAt(tc.at); got != tc.want {
			t.Errorf("StatusAt(%s) = %s, want %s", tc.at, got, tc.want)
		}
		if got, want := g.Period.Contains(tc.at), tc.want == GrantActive; got != want {
			t.Errorf("Contains(%s) = %v", tc.at, got)
		}
	}
	g.State = "suspended"
	if got := g.StatusAt(noon); got != "suspended" {
		t.Errorf("a stored state other than active is %s", got)
	}
}

func TestCertificateContentValidate(t *testing.T) {
	valid := func() CertificateContent { return someCertificateContent(t) }
	checkInvalid(t, valid, []invalidCase[CertificateContent]{
		{"no service item", func(c *CertificateContent) { c.ServiceItem = "" }, ""},
		{"ref", func(c *CertificateContent) { c.Ref = "" }, "ref: " + hex32Rule},
		{
			"identifier", func(c *CertificateContent) { c.CertID = c.CertID[:len(c.CertID)-1] + "*" },
			"certId: certificate identifier: wrong check character (ISO 7064 MOD 37,36)",
		},
		{"other type", func(c *CertificateContent) { c.TypeCode = "11100000MB0143028R002" }, "certId: names another type than typeCode"},
		{"other issuer", func(c *CertificateContent) { c.IssuerUSCC = civilDept.USCC }, "certId: names another issuer than issuerUscc"},
		{"type code", func(c *CertificateContent) { c.TypeCode = "1" }, "certId: names another type than typeCode; typeCode: " + typeCodeRule},
		{"names", func(c *CertificateContent) { c.TypeNameZh, c.TypeNameEn = "", "" }, "typeNameZh: required; typeNameEn: required"},
		{"holder kind", func(c *CertificateContent) { c.HolderKind = "dog" }, "holderKind: not one of person, organisation"},
		{"a holder in the clear", func(c *CertificateContent) { c.HolderRef = "999999199001011234" }, "holderRef: " + hex64Rule},
		{"issued", func(c *CertificateContent) { c.IssuedAt = time.Time{} }, "issuedAt: required"},
		{"validity", func(c *CertificateContent) { c.Validity.To = c.Validity.From }, "validity.to: not after from"},
		{"service item", func(c *CertificateContent) { c.ServiceItem = "a b" }, "serviceItem: " + serviceItemRule},
		{"digests", func(c *CertificateContent) { c.ContentDigest, c.CheckCodeHash = "", "2345" }, "contentDigest: " + hex64Rule + "; checkCodeHash: " + hex64Rule},
	})
}

func TestRevokeArgsValidate(t *testing.T) {
	checkInvalid(t, someRevocation, []invalidCase[RevokeArgs]{
		{"ref", func(a *RevokeArgs) { a.Ref = "" }, "ref: " + hex32Rule},
		{
			"act", func(a *RevokeArgs) { a.Act = StatusAct{} },
			"act.documentNo: required; act.legalBasis: required; act.reasonCode: must be 1 to 40 characters of a-z 0-9 _, a letter first; act.effectiveAt: required",
		},
	})
}

func TestCertificateLife(t *testing.T) {
	c, e, _, err := IssueCertificate(nil, nil, as(policeDept, RoleOperator), policeDept, someTx, IssueArgs{someCertificateContent(t)})
	if err != nil {
		t.Fatal(err)
	}
	if c.Issuer != "police" || c.StatusAct != nil || c.Seq != 1 || e.Seq != 1 || e.Event != "issue" || !DigestHolds(&c) || !DigestHolds(&e) {
		t.Errorf("certificate %+v, event %+v", c, e)
	}
	args := someRevocation()
	args.Act.EffectiveAt = noon.Add(time.Hour)
	revoked, e, err := RevokeCertificate(&c, as(policeDept, RoleReviewer), later(2*time.Hour), args)
	if err != nil {
		t.Fatal(err)
	}
	if revoked.Seq != 2 || e.Seq != 2 || revoked.StatusAct.DocumentNo != args.Act.DocumentNo || e.Act == nil || !DigestHolds(&revoked) || !DigestHolds(&e) {
		t.Errorf("certificate %+v, event %+v", revoked, e)
	}
	if c.Status != CertificateValid {
		t.Error("the rule changed its argument")
	}
	from, to := c.Content.Validity.From, c.Content.Validity.To
	for _, tc := range []struct {
		name string
		c    Certificate
		at   time.Time
		want CertificateStatus
	}{
		{"before validity", c, from.Add(-1), CertificateNotYetValid},
		{"first moment", c, from, CertificateValid},
		{"last moment", c, to.Add(-1), CertificateValid},
		{"after validity", c, to, CertificateExpired},
		{"before revocation", revoked, args.Act.EffectiveAt.Add(-1), CertificateValid},
		{"at revocation", revoked, args.Act.EffectiveAt, CertificateRevoked},
		{"revoked and past", revoked, to, CertificateRevoked},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.c.StatusAt(tc.at); got != tc.want {
				t.Errorf("StatusAt = %s, want %s", got, tc.want)
			}
		})
	}
}

func TestCertificateRefusals(t *testing.T) {
	operator, reviewer := as(policeDept, RoleOperator), as(policeDept, RoleReviewer)
	content := someCertificateContent(t)
	_, _, _, err := IssueCertificate(nil, nil, as(civilDept, RoleOperator), civilDept, someTx, IssueArgs{content})
	wantKind(t, err, Invalid, "content.issuerUscc: not the code of department civil")
	content.IssuedAt = noon.Add(time.Millisecond)
	_, _, _, err = IssueCertificate(nil, nil, operator, policeDept, someTx, IssueArgs{content})
	wantKind(t, err, Invalid, "content.issuedAt: after the transaction's time")
	content.IssuedAt = noon.Add(time.Millisecond - 1)
	if _, _, _, err := IssueCertificate(nil, nil, operator, policeDept, someTx, IssueArgs{content}); err != nil {
		t.Errorf("within the transaction's millisecond: %v", err)
	}
	_, _, _, err = IssueCertificate(nil, nil, operator, policeDept, someTx, IssueArgs{})
	wantKind(t, err, Invalid, "content.ref: ")

	args := someRevocation()
	args.Act.EffectiveAt = noon.Add(time.Second)
	_, _, err = RevokeCertificate(certificateIn(t, "valid"), reviewer, someTx, args)
	wantKind(t, err, Invalid, "act.effectiveAt: after the transaction's time")
	args.Act.EffectiveAt = noon.Add(-2 * time.Hour)
	_, _, err = RevokeCertificate(certificateIn(t, "valid"), reviewer, someTx, args)
	wantKind(t, err, Invalid, "act.effectiveAt: before the certificate was issued")
	_, _, err = RevokeCertificate(certificateIn(t, "valid"), reviewer, someTx, RevokeArgs{})
	wantKind(t, err, Invalid, "ref: ")
}

// TestIdentifierIsIssuedOnce checks what a client meets that repeats an issue
// under a fresh reference because it never saw the first answer.
func TestIdentifierIsIssuedOnce(t *testing.T) {
	operator := as(policeDept, RoleOperator)
	first, _, id, err := IssueCertificate(nil, nil, operator, policeDept, someTx, IssueArgs{someCertificateContent(t)})
	if err != nil {
		t.Fatal(err)
	}
	want := IssuedID{Meta: first.Meta, CertID: first.Content.CertID, Ref: someID}
	want.Schema, want.Digest = SchemaCertificateID, id.Digest
	if diff := cmp.Diff(want, id); diff != "" || !DigestHolds(&id) {
		t.Errorf("identifier (-want +got):\n%s", diff)
	}

	again := someCertificateContent(t)
	again.Ref = otherID
	_, _, _, err = IssueCertificate(nil, &id, operator, policeDept, later(time.Hour), IssueArgs{again})
	wantKind(t, err, Exists, "certificate id "+id.CertID+" is already issued as "+someID)
	// Nobody but the issuer learns the reference.
	_, _, _, err = IssueCertificate(nil, &id, as(policeDept, RoleReviewer), policeDept, someTx, IssueArgs{again})
	wantKind(t, err, Forbidden, "role operator")
	_, _, _, err = IssueCertificate(nil, &id, as(civilDept, RoleOperator), civilDept, someTx, IssueArgs{again})
	wantKind(t, err, Invalid, "not the code of department civil")
}

// verifierKey is the text of a note verifier key; the key bytes are made up.
func verifierKey(name string) string {
	key := append([]byte{1}, make([]byte, 32)...)
	sum := sha256.Sum256(append([]byte(name+"\n"), key...))
	return name + "+" + hex.EncodeToString(sum[:4]) + "+" + base64.StdEncoding.EncodeToString(key)
}

func someLogArgs() RegisterLogArgs { return logArgsOf(policeDept.Code) }

func logArgsOf(department DepartmentCode) RegisterLogArgs {
	origin := "zhenglian.example/log/" + string(department)
	return RegisterLogArgs{Origin: origin, VerifierKey: verifierKey(origin)}
}

func logIn(state string) *LogRegistration {
	if state == Absent {
		return nil
	}
	a := someLogArgs()
	return &LogRegistration{Meta: Meta{TxTime: noon}, Owner: policeDept.Code, Origin: a.Origin, VerifierKey: a.VerifierKey}
}

// headOf stands for a checkpoint that holds and has the given size.
func headOf(size uint64) func(LogRegistration, AnchorArgs) (TreeHead, error) {
	return func(LogRegistration, AnchorArgs) (TreeHead, error) {
		return TreeHead{Size: size, Root: "cm9vdA=="}, nil
	}
}

func TestRegisterLogArgsValidate(t *testing.T) {
	const rule = "verifierKey: not an Ed25519 note verifier key whose name is the origin"
	checkInvalid(t, someLogArgs, []invalidCase[RegisterLogArgs]{
		{
			"origin with space", func(a *RegisterLogArgs) { a.Origin = "a b"; a.VerifierKey = verifierKey("a b") },
			"origin: must be 1 to 200 characters of A-Z a-z 0-9 . _ ~ / : -, a letter or digit first",
		},
		{"key of another name", func(a *RegisterLogArgs) { a.VerifierKey = verifierKey("other") }, rule},
		{"no key", func(a *RegisterLogArgs) { a.VerifierKey = "" }, rule},
		{"key hash", func(a *RegisterLogArgs) { a.VerifierKey = strings.Replace(a.VerifierKey, "+", "+0", 1) }, rule},
		{"short key", func(a *RegisterLogArgs) { a.VerifierKey = a.Origin + "+00000000+AQ==" }, rule},
		{"upper-case key hash", func(a *RegisterLogArgs) {
			name, rest := a.Origin+"+", a.VerifierKey[len(a.Origin)+1:]
			a.VerifierKey = name + strings.ToUpper(rest[:8]) + rest[8:]
		}, rule},
	})
}

func TestAnchorArgsValidate(t *testing.T) {
	hash := base64.StdEncoding.EncodeToString(make([]byte, 32))
	checkInvalid(t, func() AnchorArgs {
		return AnchorArgs{Checkpoint: "x\n", Proof: []string{hash}, Counts: []GrantCount{{someID, 1}, {otherID, 2}}}
	}, []invalidCase[AnchorArgs]{
		{"no checkpoint", func(a *AnchorArgs) { a.Checkpoint = "" }, "checkpoint: required"},
		{"long checkpoint", func(a *AnchorArgs) { a.Checkpoint = strings.Repeat("x", 4097) }, "checkpoint: longer than 4096 bytes"},
		{"hash", func(a *AnchorArgs) { a.Proof = []string{"AAAA"} }, "proof: every entry must be 32 bytes of standard base64"},
		{"padding bits", func(a *AnchorArgs) { a.Proof = []string{strings.Replace(hash, "A=", "B=", 1)} }, "proof: every entry must be 32 bytes of standard base64"},
		{"newline", func(a *AnchorArgs) { a.Proof = []string{hash[:4] + "\n" + hash[4:]} }, "proof: every entry must be 32 bytes of standard base64"},
		{"many hashes", func(a *AnchorArgs) { a.Proof = make([]string, 65) }, "proof: more than 64 hashes"},
		{"grant", func(a *AnchorArgs) { a.Counts = []GrantCount{{"x", 1}} }, "counts[0].grantId: " + hex32Rule},
		{"no records", func(a *AnchorArgs) { a.Counts[0].Count = 0 }, "counts[0].count: must be at least 1"},
		{"unsorted", func(a *AnchorArgs) { a.Counts[0].GrantID = otherID }, "counts[1].grantId: not sorted, or repeated"},
		{"many counts", func(a *AnchorArgs) { a.Counts = make([]GrantCount, MaxCounts+1) }, "counts: more than 5000 entries"},
	})
}

func TestAnchorLog(t *testing.T) {
	who := as(policeDept, RoleGateway)
	args := AnchorArgs{Checkpoint: "note", Counts: []GrantCount{{someID, 3}, {otherID, 2}}}
	l, a, err := AnchorLog(logIn(stateRegistered), who, someTx, args, headOf(5))
	if err != nil {
		t.Fatal(err)
	}
	if l.Size != 5 || l.Root != "cm9vdA==" || a.Size != 5 || a.PreviousSize != 0 || a.Owner != "police" || a.Checkpoint != "note" || !DigestHolds(&l) || !DigestHolds(&a) {
		t.Errorf("log %+v, anchor %+v", l, a)
	}
	hash := base64.StdEncoding.EncodeToString(make([]byte, 32))
	second := AnchorArgs{Checkpoint: "note", Proof: []string{hash}}
	l2, a2, err := AnchorLog(&l, who, someTx, second, headOf(6))
	if err != nil || a2.PreviousSize != 5 || a2.Counts == nil || l2.Size != 6 {
		t.Errorf("second anchor %+v, %v", a2, err)
	}
	for _, size := range []uint64{0, 4, 5} {
		_, _, err = AnchorLog(&l, who, someTx, second, headOf(size))
		wantKind(t, err, Invalid, "is not above the anchored size 5")
	}
	_, _, err = AnchorLog(logIn(stateRegistered), who, someTx, args, headOf(4))
	wantKind(t, err, Invalid, "counts: more records than the log grew by")
	_, _, err = AnchorLog(logIn(stateRegistered), who, someTx, AnchorArgs{Checkpoint: "n", Counts: []GrantCount{{someID, 1 << 62}, {otherID, 1 << 62}}}, headOf(4))
	wantKind(t, err, Invalid, "counts: more records than the log grew by")
	_, _, err = AnchorLog(logIn(stateRegistered), who, someTx, second, headOf(4))
	wantKind(t, err, Invalid, "proof: must be empty for the first anchor")
	_, _, err = AnchorLog(logIn(stateRegistered), who, someTx, AnchorArgs{}, headOf(4))
	wantKind(t, err, Invalid, "checkpoint: required")
	broken := errors.New("broken")
	_, _, err = AnchorLog(logIn(stateRegistered), who, someTx, args, func(LogRegistration, AnchorArgs) (TreeHead, error) { return TreeHead{}, broken })
	if !errors.Is(err, broken) {
		t.Errorf("err = %v, want that of the check", err)
	}
	_, err = RegisterLog(nil, as(policeDept, RoleAdmin), someTx, RegisterLogArgs{})
	wantKind(t, err, Invalid, "origin: ")
}

func TestAccessRecordValidate(t *testing.T) {
	checkInvalid(t, someAccessRecord, []invalidCase[AccessRecord]{
		{"logged", func(r *AccessRecord) { r.LoggedAt = r.At.Add(time.Second) }, ""},
		{"clock a little ahead", func(r *AccessRecord) { r.LoggedAt = r.At.Add(-ClockTolerance) }, ""},
		{"no case, no subject", func(r *AccessRecord) { r.CaseRef, r.SubjectRef = "", "" }, ""},
		{"refused without response", func(r *AccessRecord) { r.Result, r.ResponseDigest, r.RecordCount = "refused_quota", "", 0 }, ""},
		{"schema", func(r *AccessRecord) { r.Schema = "" }, "schema: not one of zhenglian/access-record/1"},
		{"direction", func(r *AccessRecord) { r.Direction = "" }, "direction: not one of provider, consumer"},
		{"call", func(r *AccessRecord) { r.CallID = "short" }, "callId: must be 16 to 64 characters of A-Z a-z 0-9 -"},
		{"grant", func(r *AccessRecord) { r.GrantID = "" }, "grantId: " + hex32Rule},
		{"catalog", func(r *AccessRecord) { r.CatalogCode, r.CatalogVersion = "", 0 }, "catalogCode: " + catalogCodeRule + "; catalogVersion: must be at least 1"},
		{"no items", func(r *AccessRecord) { r.Items = nil }, "items: required"},
		{"parties", func(r *AccessRecord) { r.Provider, r.Consumer = "", "" }, "provider: not a department code; consumer: not a department code"},
		{"who", func(r *AccessRecord) { r.System, r.Operator, r.OperatorRole = "", "", "" }, "system: required; operator: required; operatorRole: required"},
		{"a phone as operator", func(r *AccessRecord) { r.Operator = "13800000000" }, "operator: personal-number rule: contains what looks like a resident ID number or a mobile telephone number"},
		{"a person as case", func(r *AccessRecord) { r.CaseRef = "999999199001011234" }, "caseRef: personal-number rule: contains what looks like a resident ID number or a mobile telephone number"},
		{"subject in the clear", func(r *AccessRecord) { r.SubjectRef = "999999199001011234" }, "subjectRef: must be 32 to 128 lower-case hexadecimal digits"},
		{"count", func(r *AccessRecord) { r.RecordCount = -1 }, "recordCount: must not be negative"},
		{"digests", func(r *AccessRecord) { r.RequestDigest, r.ResponseDigest = "", "" }, "requestDigest: " + hex64Rule + "; responseDigest: " + hex64Rule},
		{"time", func(r *AccessRecord) { r.At = time.Time{} }, "at: required"},
		{"future", func(r *AccessRecord) { r.LoggedAt = r.At.Add(-ClockTolerance - 1) }, "at: later than the log's clock"},
		{"result", func(r *AccessRecord) { r.Result = "OK" }, "result: must be ok or a code of 1 to 40 characters of a-z 0-9 _, a letter first"},
		{"too long", func(r *AccessRecord) {
			r.Items = nil
			for i := range MaxItems {
				r.Items = append(r.Items, strings.Repeat("项", MaxName-3)+string(rune('一'+i)))
			}
		}, "record: longer than 65535 bytes"},
	})
	r := someAccessRecord()
	if r.Writer() != "police" {
		t.Errorf("Writer() = %s", r.Writer())
	}
	r.Direction = DirectionConsumer
	if r.Writer() != "civil" {
		t.Errorf("Writer() = %s", r.Writer())
	}
}

func TestAdmit(t *testing.T) {
	for _, tc := range []struct {
		name         string
		change       func(*AccessRecord)
		total, today int64
		want         string // part of the message; "" if admitted
	}{
		{"good", nil, 0, 0, ""},
		{"the consumer's side", func(r *AccessRecord) { r.Direction = DirectionConsumer }, 0, 0, ""},
		{"last call", nil, 999, 9, ""},
		{"other grant", func(r *AccessRecord) { r.GrantID = otherID }, 0, 0, "grantId: names another grant"},
		{"other provider", func(r *AccessRecord) { r.Provider = "market" }, 0, 0, "provider: is not the grant's"},
		{"other consumer", func(r *AccessRecord) { r.Consumer = "market" }, 0, 0, "consumer: is not the grant's"},
		{"too early", func(r *AccessRecord) { r.At = noon.Add(-1) }, 0, 0, "at: the grant is pending at that time"},
		{"before the grant was recorded", func(r *AccessRecord) { r.At = noon.Add(time.Minute - 1) }, 0, 0, "at: is before the grant was recorded"},
		{"too late", func(r *AccessRecord) { r.At = noon.AddDate(1, 0, 0) }, 0, 0, "at: the grant is expired at that time"},
		{"other resource", func(r *AccessRecord) { r.CatalogCode = "307003/000018" }, 0, 0, "catalogCode: not the catalog version of the grant"},
		{"other version", func(r *AccessRecord) { r.CatalogVersion = 2 }, 0, 0, "catalogCode: not the catalog version of the grant"},
		{"other item", func(r *AccessRecord) { r.Items = []string{"库名", "汛限水位（米）"} }, 0, 0, "items[1]: not in the grant"},
		{"other purpose", func(r *AccessRecord) { r.Purpose = "其他" }, 0, 0, "purpose: not the purpose of the grant"},
		{"other service item", func(r *AccessRecord) { r.ServiceItem = "B" }, 0, 0, "serviceItem: not the service item of the grant"},
		{"total", nil, 1000, 0, "quota.total: used up"},
		{"day", nil, 10, 10, "quota.perDay: used up for that day"},
		{"a refusal after the end", func(r *AccessRecord) { r.Result, r.At = "refused_expired", noon.AddDate(2, 0, 0) }, 1000, 10, ""},
		{"a refusal of another's grant", func(r *AccessRecord) { r.Result, r.Consumer = "refused", "market" }, 0, 0, "consumer: is not the grant's"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := someAccessRecord()
			if tc.change != nil {
				tc.change(&r)
			}
			g := someGrant()
			g.TxTime = noon.Add(time.Minute) // recorded after its period began
			err := Admit(g, r, tc.total, tc.today)
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantKind(t, err, Forbidden, tc.want)
		})
	}
}

func TestKeys(t *testing.T) {
	for _, tc := range []struct {
		kind RecordKind
		id   string
		key  string
	}{
		{KindDepartment, "police", "dept~police"},
		{KindCatalogEntry, someCode, "cat~" + someCode},
		{KindCatalogVersion, VersionID(someCode, 2), "catv~" + someCode + "~2"},
		{KindRequest, someID, "req~" + someID},
		{KindRequestEvent, EventID(someID, 3), "reqe~" + someID + "~3"},
		{KindGrant, someID, "grant~" + someID},
		{KindLog, "police", "log~police"},
		{KindAnchor, AnchorID("police", 17), "anchor~police~17"},
		{KindCertificate, someID, "cert~" + someID},
		{KindCertificateEvent, EventID(someID, 1), "certe~" + someID + "~1"},
		{KindCertificateID, someCertificateContent(t).CertID, "certid~" + someCertificateContent(t).CertID},
	} {
		if got := KeyOf(tc.kind, tc.id); got != tc.key {
			t.Errorf("KeyOf(%s, %s) = %s, want %s", tc.kind, tc.id, got, tc.key)
		}
		kind, id, ok := ParseKey(tc.key)
		if !ok || kind != tc.kind || id != tc.id {
			t.Errorf("ParseKey(%s) = %s, %s, %v", tc.key, kind, id, ok)
		}
	}
	if len(keyPrefixes) != len(RecordKinds) {
		t.Errorf("%d prefixes for %d kinds", len(keyPrefixes), len(RecordKinds))
	}
	for _, key := range []string{"", "police", "dept~", "other~police", "~police", "\x00dept~police"} {
		if kind, id, ok := ParseKey(key); ok {
			t.Errorf("ParseKey(%q) = %s, %s", key, kind, id)
		}
	}
	if got := KeyOf("other", "x"); got != "" {
		t.Errorf("KeyOf of an unknown kind = %q", got)
	}
}

func TestAttest(t *testing.T) {
	tx := later(time.Hour)
	canonical := func(v any) []byte {
		data, err := Canonical(v)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	grant := someGrant()
	expired := someGrant()
	expired.Period.To = noon.Add(time.Minute)
	for _, tc := range []struct {
		name   string
		kind   RecordKind
		record []byte
		status string
	}{
		{"missing", KindCertificate, nil, ""},
		{"department", KindDepartment, canonical(policeDept), ""},
		{"catalog", KindCatalogEntry, canonical(someEntry(CatalogPublished)), "published"},
		{"request", KindRequest, canonical(someRequest(RequestSubmitted)), "submitted"},
		{"grant", KindGrant, canonical(grant), "active"},
		{"expired grant", KindGrant, canonical(expired), "expired"},
		{"certificate", KindCertificate, canonical(certificateIn(t, "valid")), "valid"},
		{"revoked certificate", KindCertificate, canonical(certificateIn(t, "revoked")), "revoked"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Attest(tc.record, tx, AttestArgs{tc.kind, someID, otherID})
			if err != nil {
				t.Fatal(err)
			}
			want := Statement{
				Schema: SchemaStatement, Channel: "zhenglian", Kind: tc.kind, ID: someID, Nonce: otherID,
				Found: tc.record != nil, Status: tc.status, AsOf: tx.Time, ValidUntil: tx.Time.Add(StatementLife), Record: string(tc.record),
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("statement (-want +got):\n%s", diff)
			}
		})
	}
	_, err := Attest(nil, tx, AttestArgs{})
	wantKind(t, err, Invalid, "kind: ")
	for _, kind := range []RecordKind{KindCatalogEntry, KindRequest, KindGrant, KindCertificate} {
		if _, err := Attest([]byte("{}"), tx, AttestArgs{kind, someID, otherID}); err == nil {
			t.Errorf("Attest of a damaged %s succeeds", kind)
		}
	}
}

func TestParseCanonical(t *testing.T) {
	for _, tc := range []struct{ name, json, want string }{
		{"canonical", `{"code":"307003/000017"}`, ""},
		{"space", `{"code": "307003/000017"}`, "not in canonical form"},
		{"other case", `{"Code":"307003/000017"}`, "not in canonical form"},
		{"escape", `{"code":"307003\/000017"}`, "not in canonical form"},
		{"repeated name", `{"code":"1","code":"307003/000017"}`, "not in canonical form"},
		{"missing name", `{}`, "not in canonical form"},
		{"unknown name", `{"code":"307003/000017","x":1}`, "not the expected JSON object: unknown field x"},
		{"odd unknown name", `{"13800000000":1}`, "not the expected JSON object: a field or value is not as expected"},
		{"wrong type", `{"code":13800000000}`, `not the expected JSON object: field "code" does not take a JSON number`},
		{"syntax", `{"code":13800000000x`, "not the expected JSON object: syntax error at byte 20"},
		{"ends early", `{"code":"3`, "not the expected JSON object: it ends early"},
		{"bytes after", `{"code":"307003/000017"}{}`, "bytes follow"},
		{"newline after", "{\"code\":\"307003/000017\"}\n", "not in canonical form"},
		{"null", `null`, "not in canonical form"},
		{"empty", ``, "not the expected JSON object"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var a CodeArgs
			err := ParseCanonical([]byte(tc.json), &a)
			if tc.want == "" {
				if err != nil || a.Code != someCode {
					t.Errorf("got %+v, %v", a, err)
				}
				return
			}
			wantKind(t, err, Invalid, tc.want)
		})
	}
	var p Period
	wantKind(t, ParseCanonical([]byte(`{"from":"yesterday","to":""}`), &p), Invalid, "not the expected JSON object: a time is not in the form 2006-01-02T15:04:05Z")
	if _, err := Canonical(Period{From: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}); err == nil {
		t.Error("a year of five digits has a canonical form")
	}
}

func TestKindOf(t *testing.T) {
	if got := KindOf(errors.New("other")); got != "" {
		t.Errorf("KindOf(other) = %q", got)
	}
	if _, ok := ParseError("other: text"); ok {
		t.Error("ParseError takes an unknown kind")
	}
}

// fuzzRecord checks that what ParseCanonical accepts has exactly these bytes.
func fuzzRecord[T any](t *testing.T, data []byte) {
	var v T
	if ParseCanonical(data, &v) != nil {
		return
	}
	again, err := Canonical(v)
	if err != nil {
		t.Fatalf("%T: %v", v, err)
	}
	if string(again) != string(data) {
		t.Fatalf("%T: %q became %q", v, data, again)
	}
	var w T
	if err := ParseCanonical(again, &w); err != nil {
		t.Fatalf("%T: %v", v, err)
	}
	if diff := cmp.Diff(v, w); diff != "" {
		t.Fatalf("%T (-first +second):\n%s", v, diff)
	}
}

func FuzzCanonicalRecords(f *testing.F) {
	cert := Certificate{Content: someCertificateContent(f), StatusAct: &StatusAct{EffectiveAt: noon}}
	for _, v := range []any{
		policeDept, *someEntry(CatalogPublished), *someVersion(), *someRequest(RequestSubmitted),
		RequestEvent{},
		someGrant(),
		*logIn(stateRegistered),
		Anchor{Counts: []GrantCount{{someID, 1}}},
		cert,
		CertificateEvent{},
		IssuedID{},
		Statement{},
		someAccessRecord(),
	} {
		data, err := Canonical(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzRecord[Department](t, data)
		fuzzRecord[CatalogEntry](t, data)
		fuzzRecord[CatalogVersion](t, data)
		fuzzRecord[ShareRequest](t, data)
		fuzzRecord[RequestEvent](t, data)
		fuzzRecord[Grant](t, data)
		fuzzRecord[LogRegistration](t, data)
		fuzzRecord[Anchor](t, data)
		fuzzRecord[Certificate](t, data)
		fuzzRecord[CertificateEvent](t, data)
		fuzzRecord[IssuedID](t, data)
		fuzzRecord[Statement](t, data)
		fuzzRecord[AccessRecord](t, data)
	})
}

// FuzzText checks that no text makes validation panic and that what it accepts
// survives the canonical form.
func FuzzText(f *testing.F) {
	f.Add("库水位（米）")
	f.Add("13800000000")
	f.Add("\xff\u2028")
	f.Fuzz(func(t *testing.T, s string) {
		c := someContent()
		c.Name, c.Abstract, c.Code, c.LegalBasis[0], c.Items[0].Name = s, s, s, s, s
		_ = c.Validate()
		c = someContent()
		c.Abstract = s
		if c.Validate() != nil {
			return
		}
		data, err := Canonical(c)
		if err != nil {
			t.Fatal(err)
		}
		var again CatalogContent
		if err := ParseCanonical(data, &again); err != nil || again.Abstract != s {
			t.Fatalf("%q became %q, %v", s, again.Abstract, err)
		}
	})
}
