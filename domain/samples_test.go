package domain

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The departments of the tests. Codes of organisations are public examples with
// correct check characters.
var (
	leadDept   = Department{Code: "bigdata", MSPID: "BigdataMSP", NameZh: "大数据局", NameEn: "Big Data Bureau", USCC: "11370000MB284651XL", Lead: true}
	policeDept = Department{Code: "police", MSPID: "PoliceMSP", NameZh: "公安局", NameEn: "Police", USCC: "11370000004504927A"}
	marketDept = Department{Code: "market", MSPID: "MarketMSP", NameZh: "市场监督管理局", NameEn: "Market Regulation", USCC: "11100000MB0143028R"}
	civilDept  = Department{Code: "civil", MSPID: "CivilMSP", NameZh: "民政局", NameEn: "Civil Affairs", USCC: "11430000006122244L"}
)

var (
	noon   = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	someTx = Tx{ID: TxID(strings.Repeat("ab", 32)), Time: noon, Channel: "zhenglian"}
)

const (
	someCode = "307003/000017"
	someID   = "00112233445566778899aabbccddeeff"
	otherID  = "ffeeddccbbaa99887766554433221100"

	someTypeCode = "11100000MB0143028R001"
)

var someDigest = Digest([]byte("x"))

func as(d Department, r Role) Caller { return Caller{Department: d.Code, MSPID: d.MSPID, Role: r} }

func later(d time.Duration) Tx {
	tx := someTx
	tx.Time = tx.Time.Add(d)
	return tx
}

func someContent() CatalogContent {
	return CatalogContent{
		Code: someCode, Name: "大中型水库水情信息", Abstract: "库名、库水位（米）、蓄水量（万立方米）等。",
		ProviderUSCC: policeDept.USCC, Classification: "环境与资源保护", Format: "database",
		FormatType: "dm",
		Items: []CatalogItem{
			{Name: "库名", Type: "C", Level: 1, ShareType: Conditional},
			{Name: "库水位（米）", Type: "N", Level: 2, ShareType: Conditional},
			{Name: "汛限水位（米）", Type: "N", Level: 3, Sensitive: true, ShareType: NotShared},
		},
		ShareType: Conditional, ShareCondition: "仅用于防汛调度", LegalBasis: []string{"中华人民共和国防洪法"},
		ShareMode: "platform_table", OpenType: NotOpen, UpdateCycle: "daily", RelatedCodes: []string{},
		DutyRef: "水情监测", SystemRef: "水情信息系统", RegionCode: "370100", Level: 3, PersonalData: "none",
	}
}

func someEntry(state CatalogState) *CatalogEntry {
	return &CatalogEntry{
		Meta: Meta{TxTime: noon}, Provider: policeDept.Code, Reviewer: SideLead, Version: 1, State: state,
		Content: someContent(), Seq: 1, LastVersion: 1,
	}
}

func someRequestContent() ShareRequestContent {
	return ShareRequestContent{
		ID: someID, CatalogCode: someCode, Items: []string{"库名", "库水位（米）"},
		Purpose: "防汛会商", UseBasis: "防汛条例", ServiceItem: "11370000MB28465-01", ShareMode: "platform_table",
		Period: Period{From: noon, To: noon.AddDate(1, 0, 0)}, Quota: Quota{Total: 1000, PerDay: 10, PerMinute: 5},
		LetterDigest: someDigest, SecurityMeasures: "专网访问，专人负责",
	}
}

// someRequest is a request of civil for what police provides, in a state, with the
// clock and the answer that a request in that state has.
func someRequest(state RequestState) *ShareRequest {
	r := &ShareRequest{
		Meta: Meta{TxTime: noon}, Content: someRequestContent(), CatalogVersion: 1,
		Consumer: civilDept.Code, Provider: policeDept.Code, Checker: SideLead, Mediator: SideLead,
		State: state, Seq: 1, SubmittedAt: noon, LegalBasis: []string{},
	}
	event, timed := map[RequestState]DeadlineEvent{
		RequestSubmitted: DeadlineRequestCheck, RequestReturned: DeadlineRequestCheck,
		RequestAccepted: DeadlineRequestAnswer, RequestExtended: DeadlineRequestAnswer, RequestMediated: DeadlineRequestAnswer,
		RequestAgreed: DeadlineRequestDelivery, RequestPartlyAgreed: DeadlineRequestDelivery,
		RequestRefused: DeadlineRequestDispute, RequestDisputed: DeadlineMediation, RequestDelivered: DeadlineRequestConfirm,
	}[state]
	if timed {
		clock, err := someDeadlines().Start(event, noon)
		if err != nil {
			panic(err)
		}
		if state == RequestReturned {
			clock.StoppedAt = &clock.StartedAt
		}
		r.Clock = clock
	}
	if state == RequestRefused || state == RequestDisputed {
		r.Decision, r.AnsweredAt, r.LegalBasis = Refuse, &r.SubmittedAt, []string{"条例"}
	}
	return r
}

// someDeadlines are rules of ten working days for every event, which the lead may
// extend by five, and calendars for 2026 to 2028 without holidays.
func someDeadlines() Deadlines {
	var d Deadlines
	for _, event := range DeadlineEvents {
		d.Rules = append(d.Rules, DeadlineRule{
			Event: event, Version: 3, Limit: 10, ExtendMax: 5, ExtendWith: ExtendByLead, LegalBasis: "依据",
		})
	}
	for year := 2026; year <= 2028; year++ {
		d.Calendars = append(d.Calendars, Calendar{Year: year, Version: year - 2025})
	}
	return d
}

// callOf is a transaction of a role of a department.
func callOf(d Department, r Role, tx Tx) Call {
	return Call{Who: as(d, r), Dept: d, Lead: leadDept.Code, Tx: tx, Deadlines: someDeadlines()}
}

func someVersion() *CatalogVersion {
	return &CatalogVersion{Provider: policeDept.Code, Version: 1, Content: someContent()}
}

func someCertificateContent(t testing.TB) CertificateContent {
	t.Helper()
	c := CertificateContent{
		Ref: someID, TypeCode: someTypeCode, TypeNameZh: "营业执照", TypeNameEn: "Business Licence",
		IssuerUSCC: policeDept.USCC, HolderKind: HolderOrganisation, HolderRef: someDigest,
		IssuedAt: noon.Add(-time.Hour), Validity: Period{From: noon.Add(-time.Hour), To: noon.AddDate(5, 0, 0)},
		ServiceItem: "A-1", ContentDigest: someDigest, CheckCodeHash: CheckCodeHash(someID, "2345678ABC"),
		StatusIndex: 17,
	}
	id, err := CertificateID{c.TypeCode, c.IssuerUSCC, "20260001", "001"}.Compose()
	if err != nil {
		t.Fatal(err)
	}
	c.CertID = id
	return c
}

func someAccessRecord() AccessRecord {
	return AccessRecord{
		Schema: SchemaAccessRecord, Direction: DirectionProvider, CallID: "call-0123456789abcdef", GrantID: someID, GrantSeq: 1,
		CatalogCode: someCode, CatalogVersion: 1, Items: []string{"库名"}, Provider: policeDept.Code, Consumer: civilDept.Code,
		Purpose: "防汛会商", LegalBasis: "防汛条例", ServiceItem: "11370000MB28465-01", CaseRef: "case-17", System: "会商系统",
		Operator: "op-7f3a", OperatorRole: "值班员", SubjectRef: strings.Repeat("0a", 32), RecordCount: 3,
		RequestDigest: someDigest, ResponseDigest: someDigest, Channel: ChannelAPI,
		At: noon.Add(time.Hour), RespondedAt: noon.Add(time.Hour + 40*time.Millisecond), Result: ResultOK,
	}
}

func someGrant() Grant {
	c := someRequestContent()
	return Grant{
		ID: c.ID, RequestID: c.ID, CatalogCode: c.CatalogCode, CatalogVersion: 1, Items: c.Items,
		Provider: policeDept.Code, Consumer: civilDept.Code, Purpose: c.Purpose, ServiceItem: c.ServiceItem,
		ShareMode: c.ShareMode, Period: c.Period, Quota: c.Quota, GrantedAt: noon, State: GrantActive, Seq: 1,
	}
}

// validator is what every argument type is.
type validator interface{ Validate() error }

// invalidCase changes one thing of a valid value and names the finding.
type invalidCase[T validator] struct {
	name   string
	change func(*T)
	want   string // the whole message; "" if still valid
}

// checkInvalid runs cases against fresh valid values.
func checkInvalid[T validator](t *testing.T, valid func() T, cases []invalidCase[T]) {
	t.Helper()
	if err := valid().Validate(); err != nil {
		t.Fatalf("the valid value: %v", err)
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			v := valid()
			tc.change(&v)
			err := v.Validate()
			if tc.want == "" {
				if err != nil {
					t.Errorf("Validate() = %v, want nil", err)
				}
				return
			}
			if KindOf(err) != Invalid {
				t.Fatalf("Validate() = %v, want kind invalid", err)
			}
			if diff := cmp.Diff("invalid: "+tc.want, err.Error()); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

// wantKind fails unless err is an Error of kind with msg in its text.
func wantKind(t *testing.T, err error, kind Kind, msg string) {
	t.Helper()
	if KindOf(err) != kind || err == nil || !strings.Contains(err.Error(), msg) {
		t.Errorf("error = %v, want %s: …%s…", err, kind, msg)
	}
}
