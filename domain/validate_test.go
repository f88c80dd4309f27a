package domain

import (
	"strings"
	"testing"
	"time"
	"unicode"
)

func TestTextRules(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"plain", "库水位（米）：1.5", ""},
		{"longest", strings.Repeat("库", 10), ""},
		{"too long", strings.Repeat("库", 11), "field: longer than 10 characters"},
		{"empty", "", "field: required"},
		{"invalid UTF-8", "\xff", "field: not valid UTF-8"},
		{"newline", "a\nb", "field: contains a control or invisible formatting character"},
		{"zero-width space", "a\u200bb", "field: contains a control or invisible formatting character"},
		{"right-to-left override", "a\u202eb", "field: contains a control or invisible formatting character"},
		{"line separator", "a\u2028b", "field: contains a control or invisible formatting character"},
		{"space around", " a", "field: starts or ends with space"},
		{"wide space around", "a\u3000", "field: starts or ends with space"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var f findings
			f.required("field", tc.text, 10)
			if got := strings.Join(f.list, "; "); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// The numbers are made up: no region 999999 exists, and no mobile network 10000000.
func TestLooksPersonal(t *testing.T) {
	for _, tc := range []struct {
		text string
		want bool
	}{
		{"身份证999999199001011234持有人", true},
		{"99999919900101123X", true},
		{"99999919900101123x。", true},
		{"９９９９９９１９９００１０１１２３４", true}, // full width
		{"电话13800000000转", true},
		{"tel13800000000", true},
		{"138-0000-0000", true},
		{"138 0000 0000", true},
		{"+86 13800000000", true},
		{"8613800000000", true},
		{"999999199013011234", false},  // no month 13
		{"9999991990010112345", false}, // longer number
		{"113800000000", false},        // longer number
		{"12800000000", false},         // not a mobile network
		{"", false},
		{"11370000004504927A", false},               // USCC
		{"113700000045030270", false},               // USCC of digits only
		{"999999199001010022", false},               // USCC of digits only, no resident ID number
		{"99999919900101069X", true},                // right as a USCC and as a resident ID number
		{"单位113700000045046442信息", false},           // within text
		{"13800000000a13800000000b13800000", false}, // 32 hexadecimal digits
		{Digest([]byte("x")), false},                // SHA-256
		{"37080001202411010001", false},             // certificate serial
		{"1.2.156.3005.2.11100000000013338W011.11430000006122244L.20230000403.001.U", false}, // certificate id: every part is checked on its own
		{"2021-06-22 18:26:40", false},
		{"国发〔2016〕51号 第13条 2019-2020年度", false},
		{"010-12345678", false},
	} {
		if got := LooksPersonal(tc.text); got != tc.want {
			t.Errorf("LooksPersonal(%q) = %v, want %v", tc.text, got, tc.want)
		}
	}
}

func TestFindingsAreReportedTogetherAndBounded(t *testing.T) {
	err := CatalogContent{}.Validate()
	for _, field := range []string{"code: ", "; name: required", "; abstract: required", "; systemRef: required", "; personalData: "} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("message lacks %q: %v", field, err)
		}
	}
	c := someContent()
	c.Items = make([]CatalogItem, MaxItems)
	err = c.Validate()
	if got := strings.Count(err.Error(), "; "); got != MaxFindings {
		t.Errorf("%d separators, want %d", got, MaxFindings)
	}
	if !strings.HasSuffix(err.Error(), "more findings") {
		t.Errorf("message does not end with the number left out")
	}
}

func TestFindingsDoNotRepeatValues(t *testing.T) {
	c := someContent()
	c.Name = "13800000000"
	c.Items[0].Name = "999999199001011234"
	err := c.Validate()
	if KindOf(err) != Invalid {
		t.Fatalf("Validate() = %v", err)
	}
	if strings.Contains(err.Error(), "138") || strings.Contains(err.Error(), "1990") {
		t.Errorf("message repeats the value: %v", err)
	}
}

func TestTimes(t *testing.T) {
	for _, tc := range []struct {
		name string
		t    time.Time
		want string
	}{
		{"utc", noon, ""},
		{"missing", time.Time{}, "t: required"},
		{"local", noon.In(time.FixedZone("CST", 8*3600)), "t: must be in UTC"},
		{"antique", time.Date(1899, 1, 1, 0, 0, 0, 0, time.UTC), "t: year outside 1900 to 9999"},
		{"remote", time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), "t: year outside 1900 to 9999"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var f findings
			f.time("t", tc.t)
			if got := strings.Join(f.list, "; "); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestValidateArguments(t *testing.T) {
	t.Run("RegisterDepartment", func(t *testing.T) {
		checkInvalid(t, func() RegisterDepartmentArgs {
			return RegisterDepartmentArgs{Code: "police", MSPID: "PoliceMSP", NameZh: "公安局", NameEn: "Police", USCC: policeDept.USCC}
		}, []invalidCase[RegisterDepartmentArgs]{
			{"code", func(a *RegisterDepartmentArgs) { a.Code = "Police" }, "code: must be 2 to 20 characters of a-z 0-9, a letter first"},
			{"msp", func(a *RegisterDepartmentArgs) { a.MSPID = "a b" }, "mspId: must be 1 to 64 characters of A-Z a-z 0-9 . -, a letter first"},
			{"names", func(a *RegisterDepartmentArgs) { a.NameZh, a.NameEn = "", "" }, "nameZh: required; nameEn: required"},
			{"uscc", func(a *RegisterDepartmentArgs) { a.USCC = "11370000004504927B" }, "uscc: " + usccRule},
		})
	})
	t.Run("Review", func(t *testing.T) {
		checkInvalid(t, func() ReviewCatalogArgs { return ReviewCatalogArgs{Code: someCode, Decision: Approve} }, []invalidCase[ReviewCatalogArgs]{
			{"return with opinion", func(a *ReviewCatalogArgs) { a.Decision, a.Opinion = Return, "缺少依据" }, ""},
			{"return without opinion", func(a *ReviewCatalogArgs) { a.Decision = Return }, "opinion: required"},
			{"decision", func(a *ReviewCatalogArgs) { a.Decision = "maybe" }, "decision: not one of approve, return"},
			{"code", func(a *ReviewCatalogArgs) { a.Code = "" }, "code: " + catalogCodeRule},
		})
	})
	t.Run("Code", func(t *testing.T) {
		checkInvalid(t, func() CodeArgs { return CodeArgs{someCode} }, []invalidCase[CodeArgs]{
			{"short", func(a *CodeArgs) { a.Code = "30700/000017" }, "code: " + catalogCodeRule},
			{"class 0", func(a *CodeArgs) { a.Code = "007003/000017" }, "code: " + catalogCodeRule},
			{"no sequence", func(a *CodeArgs) { a.Code = "307003" }, "code: " + catalogCodeRule},
			{"short sequence", func(a *CodeArgs) { a.Code = "307003/017" }, "code: " + catalogCodeRule},
			{"separator of keys", func(a *CodeArgs) { a.Code = "307003/0000~17" }, "code: " + catalogCodeRule},
			{"detail digits", func(a *CodeArgs) { a.Code = "30700301010203/0017" }, ""},
		})
	})
	t.Run("ID", func(t *testing.T) {
		checkInvalid(t, func() IDArgs { return IDArgs{someID} }, []invalidCase[IDArgs]{
			{"upper case", func(a *IDArgs) { a.ID = strings.ToUpper(a.ID) }, "id: " + hex32Rule},
			{"newline", func(a *IDArgs) { a.ID += "\n" }, "id: " + hex32Rule},
		})
	})
	t.Run("Ref", func(t *testing.T) {
		checkInvalid(t, func() RefArgs { return RefArgs{someID} }, []invalidCase[RefArgs]{
			{"short", func(a *RefArgs) { a.Ref = a.Ref[1:] }, "ref: " + hex32Rule},
		})
	})
	t.Run("Attest", func(t *testing.T) {
		checkInvalid(t, func() AttestArgs { return AttestArgs{KindAnchor, "police~17", someID} }, []invalidCase[AttestArgs]{
			{"every kind", func(a *AttestArgs) { a.Kind = KindStatusPlaces }, ""},
			{"catalog code", func(a *AttestArgs) { a.Kind, a.ID = KindCatalogEntry, someCode }, ""},
			{"kind", func(a *AttestArgs) { a.Kind = "" }, "kind: not one of department, members, calendar, calendar_version, rule, rule_version, catalog, catalog_version, catalog_event, request, request_event, grant, grant_event, operation, log, anchor, alarm, alarm_event, issuer, certificate, certificate_id, issuing_batch, batch_status, status_places"},
			{"id", func(a *AttestArgs) { a.ID = "a b" }, "id: must be 1 to 128 characters of A-Z a-z 0-9 . _ / ~ -"},
			{"nonce", func(a *AttestArgs) { a.Nonce = "" }, "nonce: " + hex32Rule},
		})
	})
}

func TestInvisibleCharacters(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune+1; r++ {
		if want := unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp); isInvisible(r) != want {
			t.Errorf("%U: %v, want %v", r, !want, want)
		}
	}
}

func TestHexShape(t *testing.T) {
	for s, want := range map[string]bool{
		strings.Repeat("0f", 16): true, strings.Repeat("9a", 16): true, "": false, strings.Repeat("0", 31): false, strings.Repeat("0", 33): false,
		strings.Repeat("0", 31) + "g": false, strings.Repeat("0", 31) + "F": false, strings.Repeat("0", 31) + "/": false, strings.Repeat("0", 31) + ":": false,
	} {
		if got := hex32Shape.MatchString(s); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}
