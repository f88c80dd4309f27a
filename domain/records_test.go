package domain

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

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
		{"logged", func(r *AccessRecord) { r.LoggedAt = r.RespondedAt }, ""},
		{"not logged, no grant seen", func(r *AccessRecord) { r.GrantSeq = 0 }, ""},
		{"clock a little ahead", func(r *AccessRecord) { r.LoggedAt = r.RespondedAt.Add(-ClockTolerance) }, ""},
		{"no case, no subject", func(r *AccessRecord) { r.CaseRef, r.SubjectRef = "", "" }, ""},
		{"refused without response", func(r *AccessRecord) {
			r.Result, r.ResponseDigest, r.RecordCount, r.RespondedAt = "refused_quota", "", 0, time.Time{}
		}, ""},
		{"schema", func(r *AccessRecord) { r.Schema = "" }, "schema: not one of zhenglian/access-record/1"},
		{"direction", func(r *AccessRecord) { r.Direction = "" }, "direction: not one of provider, consumer"},
		{"call", func(r *AccessRecord) { r.CallID = "short" }, "callId: must be 16 to 64 characters of A-Z a-z 0-9 -"},
		{"grant", func(r *AccessRecord) { r.GrantID = "" }, "grantId: " + hex32Rule},
		{"grant's step", func(r *AccessRecord) { r.GrantSeq = -1 }, "grantSeq: must not be negative"},
		{"logged without the grant's step", func(r *AccessRecord) { r.GrantSeq, r.LoggedAt = 0, r.RespondedAt }, "grantSeq: required"},
		{"basis", func(r *AccessRecord) { r.LegalBasis = "" }, "legalBasis: required"},
		{"a person as basis", func(r *AccessRecord) { r.LegalBasis = "申请人13800000000" }, "legalBasis: " + personalRule},
		{"channel", func(r *AccessRecord) { r.Channel = "platform_api" }, "channel: not one of api, table, file"},
		{"no answer", func(r *AccessRecord) { r.RespondedAt = time.Time{} }, "respondedAt: required"},
		{"answered at once", func(r *AccessRecord) { r.RespondedAt = r.At }, ""},
		{"answered before", func(r *AccessRecord) { r.RespondedAt = r.At.Add(-1) }, "respondedAt: before the call came in"},
		{"refused before", func(r *AccessRecord) { r.Result, r.RespondedAt = "refused_quota", r.At.Add(-1) }, "respondedAt: before the call came in"},
		{"answered in local time", func(r *AccessRecord) { r.RespondedAt = r.RespondedAt.In(time.FixedZone("", 8*3600)) }, "respondedAt: must be in UTC"},
		{"answered in the future", func(r *AccessRecord) { r.LoggedAt = r.RespondedAt.Add(-ClockTolerance - 1) }, "respondedAt: later than the log's clock"},
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
		{"future", func(r *AccessRecord) { r.LoggedAt = r.At.Add(-ClockTolerance - 1) }, "at: later than the log's clock; respondedAt: later than the log's clock"},
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

// TestAccessRecordNamesNobody puts a person's numbers into each text of a record,
// in several ways: none of them enters the log.
func TestAccessRecordNamesNobody(t *testing.T) {
	const number = "999999199001011238"
	values := []string{
		number, "13800000000", "call-" + number, "call-13800000000", "a_13800000000", "a_" + number, "申请人" + number, "电话13800000000",
		"+86 138-0000-0000", "１３８００００００００", "x 13800000000 x",
	}
	tried := 0
	for i := range reflect.TypeFor[AccessRecord]().NumField() {
		field := reflect.TypeFor[AccessRecord]().Field(i)
		for _, value := range values {
			r := someAccessRecord()
			r.LoggedAt = r.RespondedAt
			switch at := reflect.ValueOf(&r).Elem().Field(i); at.Interface().(type) {
			case []string:
				at.Set(reflect.ValueOf([]string{value}))
			default:
				if at.Kind() != reflect.String {
					continue
				}
				at.SetString(value)
			}
			tried++
			if name := field.Tag.Get("json"); KindOf(r.Validate()) != Invalid || !strings.Contains(r.Validate().Error(), name) {
				t.Errorf("%s may be %q: %v", name, value, r.Validate())
			}
		}
	}
	if tried != 20*len(values) {
		t.Errorf("%d texts tried", tried/len(values))
	}
	// Numbers that only look like one in a part pass, where other systems number calls.
	for _, id := range []string{"0d4fabcd-abcd-4138-1234-5678a3812345", "999999199001011230", "7a13800000000-000000"} {
		r := someAccessRecord()
		r.CallID = id
		if err := r.Validate(); err != nil {
			t.Errorf("call %q: %v", id, err)
		}
	}
}

func TestAdmit(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*AccessRecord)
		used   Used
		want   string // part of the message; "" if admitted
	}{
		{"good", nil, Used{}, ""},
		{"the consumer's side", func(r *AccessRecord) { r.Direction = DirectionConsumer }, Used{}, ""},
		{"last call", nil, Used{Total: 999, Today: 9, LastMinute: 4}, ""},
		{"other grant", func(r *AccessRecord) { r.GrantID = otherID }, Used{}, "grantId: names another grant"},
		{"other provider", func(r *AccessRecord) { r.Provider = "market" }, Used{}, "provider: is not the grant's"},
		{"other consumer", func(r *AccessRecord) { r.Consumer = "market" }, Used{}, "consumer: is not the grant's"},
		{"too early", func(r *AccessRecord) { r.At = noon.Add(-1) }, Used{}, "at: the grant is pending at that time"},
		{"before the grant was recorded", func(r *AccessRecord) { r.At = noon.Add(time.Minute - 1) }, Used{}, "at: is before the grant was recorded"},
		{"too late", func(r *AccessRecord) { r.At = noon.AddDate(1, 0, 0) }, Used{}, "at: the grant is expired at that time"},
		{"other resource", func(r *AccessRecord) { r.CatalogCode = "307003/000018" }, Used{}, "catalogCode: not the catalog version of the grant"},
		{"other version", func(r *AccessRecord) { r.CatalogVersion = 2 }, Used{}, "catalogCode: not the catalog version of the grant"},
		{"other item", func(r *AccessRecord) { r.Items = []string{"库名", "汛限水位（米）"} }, Used{}, "items[1]: not in the grant"},
		{"other purpose", func(r *AccessRecord) { r.Purpose = "其他" }, Used{}, "purpose: not the purpose of the grant"},
		{"other service item", func(r *AccessRecord) { r.ServiceItem = "B" }, Used{}, "serviceItem: not the service item of the grant"},
		{"total", nil, Used{Total: 1000, Today: 0}, "quota.total: used up"},
		{"day", nil, Used{Total: 10, Today: 10}, "quota.perDay: used up for that day"},
		{"minute", nil, Used{Total: 5, Today: 5, LastMinute: 5}, "quota.perMinute: used up for that minute"},
		{"before the log set the grant's step", func(r *AccessRecord) { r.GrantSeq = 0 }, Used{}, ""},
		{"another step of the grant", func(r *AccessRecord) { r.GrantSeq = 2 }, Used{}, "grantSeq: is not the grant's"},
		{"a refusal by another step of the grant", func(r *AccessRecord) { r.Result, r.GrantSeq = "refused", 2 }, Used{}, "grantSeq: is not the grant's"},
		{"a refusal after the end", func(r *AccessRecord) { r.Result, r.At = "refused_expired", noon.AddDate(2, 0, 0) }, Used{Total: 1000, Today: 10, LastMinute: 5}, ""},
		{"a refusal of another's grant", func(r *AccessRecord) { r.Result, r.Consumer = "refused", "market" }, Used{}, "consumer: is not the grant's"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := someAccessRecord()
			if tc.change != nil {
				tc.change(&r)
			}
			g := someGrant()
			g.GrantedAt = noon.Add(time.Minute) // recorded after its period began
			err := Admit(g, r, tc.used)
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantKind(t, err, Forbidden, tc.want)
		})
	}
	for _, state := range []GrantState{GrantSuspended, GrantRevoked} {
		g := someGrant()
		g.State = state
		wantKind(t, Admit(g, someAccessRecord(), Used{}), Forbidden, "at: the grant is "+string(state)+" at that time")
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
		{KindGrantEvent, EventID(someID, 2), "grante~" + someID + "~2"},
		{KindMembers, MembersID, "members~all"},
		{KindCalendar, "2026", "cal~2026"},
		{KindCalendarVersion, VersionID("2026", 2), "calv~2026~2"},
		{KindRule, string(DeadlineMediation), "rule~mediation"},
		{KindRuleVersion, VersionID(string(DeadlineMediation), 1), "rulev~mediation~1"},
		{KindCatalogEvent, CatalogEventID(someTx.ID, "police"), "cate~" + string(someTx.ID) + "~police"},
		{KindCatalogName, CatalogNameID("police", "库 名"), "catn~police~库名"},
		{KindOperation, OperationID("police", someID), "op~police~" + someID},
		{KindLog, "police", "log~police"},
		{KindAnchor, AnchorID("police", 17), "anchor~police~17"},
		{KindAlarm, someID, "alarm~" + someID},
		{KindAlarmEvent, EventID(someID, 1), "alarme~" + someID + "~1"},
		{KindCertificate, someID, "cert~" + someID},
		{KindIssuer, AuthorisationID("police", someTypeCode), "issuer~police~" + someTypeCode},
		{KindStatusPlaces, StatusPlacesID("police", 2*StatusPlacesLength+17), "certbit~police~2"},
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
	if kinds := append(RecordKinds[:len(RecordKinds):len(RecordKinds)], KindCatalogName); len(keyPrefixes) != len(kinds) {
		t.Errorf("%d prefixes for %d kinds", len(keyPrefixes), len(kinds))
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
	overdue := someRequest(RequestAccepted)
	overdue.Clock.DueAt = tx.Time
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
		{"overdue request", KindRequest, canonical(overdue), "overdue"},
		{"grant", KindGrant, canonical(grant), "active"},
		{"expired grant", KindGrant, canonical(expired), "expired"},
		{"alarm", KindAlarm, canonical(alarmIn(string(AlarmOpen), civilDept.Code)), "open"},
		{"certificate", KindCertificate, canonical(certificateIn(t, "valid")), "valid"},
		{"revoked certificate", KindCertificate, canonical(certificateIn(t, "revoked")), "revoked"},
		{"proposed certificate", KindCertificate, canonical(certificateIn(t, "proposed")), "proposed"},
		{"authorisation", KindIssuer, canonical(authorisationIn("active")), "active"},
		{"status places", KindStatusPlaces, canonical(StatusPlaces{Issuer: "police"}), ""},
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
	for _, kind := range []RecordKind{KindCatalogEntry, KindRequest, KindGrant, KindCertificate, KindIssuer} {
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
	for _, v := range []any{
		policeDept, *someEntry(CatalogPublished), *someVersion(), *someRequest(RequestSubmitted),
		RequestEvent{},
		someGrant(),
		GrantEvent{},
		Calendar{DaysOff: []string{"2026-01-01"}},
		DeadlineRule{Event: DeadlineMediation},
		*logIn(stateRegistered),
		Anchor{Counts: []GrantCount{{someID, 1}}},
		*alarmIn(string(AlarmOpen), civilDept.Code),
		AlarmEvent{},
		someAlarmArgs(),
		*certificateIn(f, "proposed"),
		*certificateIn(f, "suspended+revoke"),
		*certificateIn(f, "superseded"),
		IssuedID{},
		IssueBatchArgs{Contents: []CertificateContent{someCertificateContent(f), someCertificateContent(f)}},
		IssuingBatch{},
		BatchStatus{},
		StatusPlaces{},
		*authorisationIn("ended"),
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
		fuzzRecord[GrantEvent](t, data)
		fuzzRecord[Calendar](t, data)
		fuzzRecord[DeadlineRule](t, data)
		fuzzRecord[LogRegistration](t, data)
		fuzzRecord[Anchor](t, data)
		fuzzRecord[Alarm](t, data)
		fuzzRecord[AlarmEvent](t, data)
		fuzzRecord[RaiseAlarmArgs](t, data)
		fuzzRecord[Certificate](t, data)
		fuzzRecord[IssuedID](t, data)
		fuzzRecord[IssueBatchArgs](t, data)
		fuzzRecord[IssuingBatch](t, data)
		fuzzRecord[BatchStatus](t, data)
		fuzzRecord[StatusPlaces](t, data)
		fuzzRecord[Authorisation](t, data)
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
