package chaincode_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/protobuf/proto"

	"github.com/zhenglian/zhenglian/chaincode"
	"github.com/zhenglian/zhenglian/chaincode/chaincodetest"
	"github.com/zhenglian/zhenglian/domain"
)

// The departments of the tests, the lead first.
var departments = []domain.RegisterDepartmentArgs{
	{Code: "bigdata", MSPID: "BigdataMSP", NameZh: "大数据局", NameEn: "Big Data Bureau", USCC: "11370000MB284651XL", Lead: true},
	{Code: "police", MSPID: "PoliceMSP", NameZh: "公安局", NameEn: "Police", USCC: "11370000004504927A"},
	{Code: "civil", MSPID: "CivilMSP", NameZh: "民政局", NameEn: "Civil Affairs", USCC: "11430000006122244L"},
}

const (
	code    = "307003/000017"
	id      = "00112233445566778899aabbccddeeff"
	otherID = "ffeeddccbbaa99887766554433221100"
	origin  = "zhenglian.example/log/police"

	// certID is that of certificateContent.
	certID = "1.2.156.3005.2.11100000MB0143028R001.11370000004504927A.20260001.001.B"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 123456789, time.UTC)

// world is a ledger with the chaincode and people of three departments.
type world struct {
	testing.TB
	ledger    *chaincodetest.Ledger
	chaincode shim.Chaincode
	people    map[string]chaincodetest.Identity // "police operator"
	proposals int
	passed    time.Duration // beyond a second for each proposal
	signer    note.Signer
	verifier  string
	leaves    []tlog.Hash // stored hashes of the department's log
	records   int64
}

// newWorld returns a world without any department registered.
func newWorld(t testing.TB) *world {
	t.Helper()
	cc, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{TB: t, ledger: chaincodetest.NewLedger("zhenglian"), chaincode: cc, people: map[string]chaincodetest.Identity{}}
	for _, d := range departments {
		for _, r := range domain.Roles {
			w.people[string(d.Code)+" "+string(r)] = person(t, d, r)
		}
	}
	secret, verifier, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	if w.signer, err = note.NewSigner(secret); err != nil {
		t.Fatal(err)
	}
	w.verifier = verifier
	return w
}

// shared is the chaincode of all worlds: it keeps nothing between transactions,
// and one takes time to assemble.
var shared = sync.OnceValues(func() (shim.Chaincode, error) { return chaincode.New(slog.New(slog.DiscardHandler)) })

// certificates are those of the departments' people, made once: keys take time.
var certificates sync.Map

func person(t testing.TB, d domain.RegisterDepartmentArgs, r domain.Role) chaincodetest.Identity {
	t.Helper()
	name := string(d.Code) + " " + string(r)
	if known, ok := certificates.Load(name); ok {
		return known.(chaincodetest.Identity)
	}
	made, _ := certificates.LoadOrStore(name, chaincodetest.NewIdentity(t, string(d.MSPID), map[string]string{
		"zhenglian.role": string(r), "zhenglian.department": string(d.Code),
	}))
	return made.(chaincodetest.Identity)
}

// registered returns a world with all departments registered, and neither rules
// nor calendars.
func registered(t testing.TB) *world {
	w := newWorld(t)
	for _, d := range departments {
		w.must("bigdata admin", "governance:RegisterDepartment", d)
	}
	return w
}

// founded returns a world in which the lead has set every rule, ten working days
// each, and the calendars of three years.
func founded(t testing.TB) *world {
	w := registered(t)
	for _, event := range domain.DeadlineEvents {
		w.must("bigdata admin", "governance:SetRule", rule(event))
	}
	for year := 2026; year <= 2028; year++ {
		w.must("bigdata admin", "governance:SetCalendar", calendar(year))
	}
	return w
}

func rule(event domain.DeadlineEvent) domain.SetRuleArgs {
	return domain.SetRuleArgs{Event: event, Limit: 10, ExtendMax: 5, ExtendWith: domain.ExtendByLead, LegalBasis: "政务数据共享条例"}
}

func calendar(year int) domain.SetCalendarArgs {
	return domain.SetCalendarArgs{
		Year: year, DaysOff: []string{fmt.Sprintf("%d-01-01", year), fmt.Sprintf("%d-10-01", year)}, Workdays: []string{},
		Source: "国办发明电", Provisional: year > 2026,
	}
}

// overdue lets more days pass than any rule allows.
func (w *world) overdue() { w.passed += 30 * 24 * time.Hour }

func canonical(t testing.TB, v any) string {
	t.Helper()
	if s, ok := v.(string); ok {
		return s
	}
	data, err := domain.Canonical(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func (w *world) proposal(who, function string, arg any) chaincodetest.Proposal {
	w.Helper()
	creator, known := w.people[who]
	if !known {
		w.Fatalf("no person %q", who)
	}
	w.proposals++
	return chaincodetest.Proposal{
		Creator: creator, TxID: fmt.Sprintf("%064x", w.proposals), Time: noon.Add(w.passed + time.Duration(w.proposals)*time.Second),
		Function: function, Args: []string{canonical(w.TB, arg)},
	}
}

// run simulates a proposal twice and checks what holds for every transaction.
func (w *world) run(p chaincodetest.Proposal) chaincodetest.Result {
	w.Helper()
	first, second := w.ledger.Simulate(w.chaincode, p), w.ledger.Simulate(w.chaincode, p)
	if !reflect.DeepEqual(first, second) {
		w.Errorf("%s: two runs differ:\n%s", p.Function, cmp.Diff(first, second))
	}
	for _, v := range first.Violations {
		w.Errorf("%s: %s", p.Function, v)
	}
	if !first.OK() && len(first.Writes)+len(first.Policies) != 0 {
		w.Errorf("%s: a refused transaction writes %d keys and %d policies", p.Function, len(first.Writes), len(first.Policies))
	}
	for _, policy := range first.Policies {
		if w.ledger.State(policy.Key) != nil {
			w.Errorf("%s: sets the policy of %s, which is not new", p.Function, policy.Key)
		}
	}
	for _, write := range first.Writes {
		if write.Delete {
			continue
		}
		kind, _, ok := domain.ParseKey(write.Key)
		if !ok {
			w.Errorf("%s: writes the unknown key %q", p.Function, write.Key)
		}
		if kind == domain.KindCertificate || kind == domain.KindCertificateID || kind == domain.KindCatalogName {
			continue // they lead to the record that does
		}
		if !bytes.Contains(write.Value, []byte(`"txId":"`+p.TxID+`"`)) {
			w.Errorf("%s: the record under %s does not name its transaction", p.Function, write.Key)
		}
	}
	return first
}

// must runs a transaction that is allowed and commits it.
func (w *world) must(who, function string, arg any) chaincodetest.Result {
	w.Helper()
	r := w.run(w.proposal(who, function, arg))
	if !r.OK() {
		w.Fatalf("%s by %s: %s", function, who, r.Message)
	}
	w.ledger.Commit(r)
	return r
}

// refused runs a transaction that must be refused with kind and a message that
// contains msg.
func (w *world) refused(who, function string, arg any, kind domain.Kind, msg string) {
	w.Helper()
	r := w.run(w.proposal(who, function, arg))
	if r.OK() {
		w.Errorf("%s by %s was allowed", function, who)
		return
	}
	e, known := domain.ParseError(r.Message)
	if !known || e.Kind != kind || !strings.Contains(e.Msg, msg) {
		w.Errorf("%s by %s: %q, want %s: …%s…", function, who, r.Message, kind, msg)
	}
}

// changes lists what a result writes in the order put: "put cat~x", "create cat~x
// by police+1" with who must endorse later changes, "delete catn~x". The number
// of the transaction, in keys of catalog events, is "tx".
func changes(t testing.TB, r chaincodetest.Result) []string {
	t.Helper()
	policies := make(map[string]string)
	for _, p := range r.Policies {
		policies[p.Key] = describe(t, p.Value)
	}
	var list []string
	for _, w := range r.Writes {
		key := eventKey.ReplaceAllString(w.Key, "cate~tx~")
		switch by, created := policies[w.Key]; {
		case w.Delete:
			list = append(list, "delete "+key)
		case created:
			list = append(list, "create "+key+" by "+by)
		default:
			list = append(list, "put "+key)
		}
	}
	return list
}

var eventKey = regexp.MustCompile(`^cate~[^~]+~`)

// describe spells a policy: "police+1" is police's peer and that of one other,
// "bigdata+1|police+1" one of two such.
func describe(t testing.TB, policy []byte) string {
	t.Helper()
	var envelope common.SignaturePolicyEnvelope
	if err := proto.Unmarshal(policy, &envelope); err != nil {
		t.Fatal(err)
	}
	if envelope.GetVersion() != 0 {
		t.Errorf("policy of version %d, peers know 0", envelope.GetVersion())
	}
	name := func(rule *common.SignaturePolicy) string {
		var role msp.MSPRole
		if err := proto.Unmarshal(envelope.GetIdentities()[rule.GetSignedBy()].GetPrincipal(), &role); err != nil {
			t.Fatal(err)
		}
		if role.GetRole() != msp.MSPRole_PEER {
			t.Errorf("policy asks for a %s", role.GetRole())
		}
		return strings.ToLower(strings.TrimSuffix(role.GetMspIdentifier(), "MSP"))
	}
	var alternatives []string
	for _, rule := range envelope.GetRule().GetNOutOf().GetRules() {
		parts := rule.GetNOutOf().GetRules()
		alternatives = append(alternatives, fmt.Sprintf("%s+%d", name(parts[0]), parts[1].GetNOutOf().GetN()))
	}
	return strings.Join(alternatives, "|")
}

// decode reads a returned record.
func decode[T any](t testing.TB, data []byte) T {
	t.Helper()
	var v T
	if err := domain.ParseCanonical(data, &v); err != nil {
		t.Fatalf("%q: %v", data, err)
	}
	return v
}

func content() domain.CatalogContent {
	return domain.CatalogContent{
		Code: code, Name: "大中型水库水情信息", Abstract: "库名、库水位（米）等。", ProviderUSCC: departments[1].USCC,
		Classification: "环境与资源保护", Format: "database", FormatType: "dm",
		Items: []domain.CatalogItem{
			{Name: "库名", Type: "C", Level: 1, ShareType: domain.Conditional},
			{Name: "库水位（米）", Type: "N", Level: 2, ShareType: domain.Conditional},
		},
		ShareType: domain.Conditional, ShareCondition: "仅用于防汛调度", LegalBasis: []string{"中华人民共和国防洪法"},
		ShareMode: "platform_table", OpenType: domain.NotOpen, UpdateCycle: "daily", RelatedCodes: []string{},
		DutyRef: "水情监测", SystemRef: "水情信息系统", RegionCode: "370100", Level: 2, PersonalData: "none",
	}
}

// changed is content with another name.
func changed() domain.CatalogContent {
	c := content()
	c.Name = "水库水情日报"
	return c
}

// several are n contents of different codes and names.
func several(n int) []domain.CatalogContent {
	var list []domain.CatalogContent
	for i := range n {
		c := content()
		c.Code, c.Name = fmt.Sprintf("307003/%06d", 100+i), fmt.Sprintf("水情信息第%d部分", i)
		list = append(list, c)
	}
	return list
}

func codesOf(contents []domain.CatalogContent) []string {
	var codes []string
	for _, c := range contents {
		codes = append(codes, c.Code)
	}
	return codes
}

// entry is a catalog entry that is recorded.
func (w *world) entry(code string) domain.CatalogEntry {
	w.Helper()
	return decode[domain.CatalogEntry](w, w.run(w.proposal("police operator", "catalog:Get", domain.CodeArgs{Code: code})).Payload)
}

// nameKey is the key under which police has a name.
func nameKey(name string) string {
	return domain.KeyOf(domain.KindCatalogName, domain.CatalogNameID("police", name))
}

func request() domain.ShareRequestContent {
	return domain.ShareRequestContent{
		ID: id, CatalogCode: code, Items: []string{"库名"}, Purpose: "防汛会商", UseBasis: "防汛条例",
		ServiceItem: "A-1", ShareMode: "platform_table", Period: domain.Period{From: noon, To: noon.AddDate(1, 0, 0)},
		Quota: domain.Quota{Total: 100, PerDay: 10, PerMinute: 5}, LetterDigest: domain.Digest(nil), SecurityMeasures: "专网访问",
	}
}

// What follows brings the sample records to their states, each from the one
// before.

func (w *world) submitted() {
	w.Helper()
	w.must("police operator", "catalog:Register", domain.RegisterCatalogArgs{Content: content()})
}

func (w *world) drafted() {
	w.Helper()
	w.must("police operator", "catalog:Register", domain.RegisterCatalogArgs{Content: content(), Draft: true})
}

func (w *world) approved() {
	w.Helper()
	w.submitted()
	w.must("bigdata reviewer", "catalog:Review", approval())
}

func (w *world) published() {
	w.Helper()
	w.approved()
	w.must("police operator", "catalog:Publish", domain.CodeArgs{Code: code})
	w.must("bigdata reviewer", "catalog:Review", approval())
}

func (w *world) changing() {
	w.Helper()
	w.published()
	w.must("police operator", "catalog:Change", domain.ChangeCatalogArgs{Content: changed()})
}

func (w *world) asked() {
	w.Helper()
	w.published()
	w.must("civil operator", "sharing:Request", request())
}

func (w *world) accepted() {
	w.Helper()
	w.asked()
	w.must("bigdata reviewer", "sharing:Accept", domain.AcceptArgs{ID: id, Decision: domain.AcceptRequest})
}

func (w *world) denied() {
	w.Helper()
	w.accepted()
	w.must("police reviewer", "sharing:Answer", refusal())
}

func (w *world) disputed() {
	w.Helper()
	w.denied()
	w.must("civil operator", "sharing:Dispute", domain.DisputeArgs{ID: id, Reason: "依据不成立"})
}

func (w *world) agreed() {
	w.Helper()
	w.accepted()
	w.must("police reviewer", "sharing:Answer", agreement())
}

func (w *world) delivered() {
	w.Helper()
	w.agreed()
	w.must("police operator", "sharing:Deliver", domain.DeliverArgs{ID: id, DeliveryDigest: domain.Digest(nil)})
}

func (w *world) suspended() {
	w.Helper()
	w.agreed()
	w.must("police reviewer", "sharing:Suspend", reason())
}

func (w *world) active() {
	w.Helper()
	w.delivered()
	w.must("civil operator", "sharing:Confirm", domain.ConfirmArgs{ID: id, Decision: domain.ConfirmDelivery})
}

func approval() domain.ReviewCatalogArgs {
	return domain.ReviewCatalogArgs{Code: code, Decision: domain.Approve}
}

func agreement() domain.AnswerArgs {
	return domain.AnswerArgs{ID: id, Decision: domain.Agree, LegalBasis: []string{}, Items: []string{}}
}

func refusal() domain.AnswerArgs {
	return domain.AnswerArgs{ID: id, Decision: domain.Refuse, Reason: "涉及在办案件", LegalBasis: []string{"中华人民共和国数据安全法"}, Items: []string{}}
}

func reason() domain.ReasonArgs { return domain.ReasonArgs{ID: id, Reason: "用途变更"} }

// grow appends n records to the department's log.
func (w *world) grow(n int64) {
	w.Helper()
	for range n {
		hashes, err := tlog.StoredHashes(w.records, fmt.Appendf(nil, "record %d", w.records), w.reader())
		if err != nil {
			w.Fatal(err)
		}
		w.leaves = append(w.leaves, hashes...)
		w.records++
	}
}

func (w *world) reader() tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range indexes {
			out = append(out, w.leaves[i])
		}
		return out, nil
	})
}

// anchor is the argument that anchors the log at its present size; old is the
// size anchored before.
func (w *world) anchor(old int64) domain.AnchorArgs {
	w.Helper()
	root, err := tlog.TreeHash(w.records, w.reader())
	if err != nil {
		w.Fatal(err)
	}
	args := domain.AnchorArgs{Checkpoint: w.checkpoint(w.records, root), Counts: []domain.GrantCount{{GrantID: id, Count: w.records - old}}}
	if old > 0 {
		proof, err := tlog.ProveTree(w.records, old, w.reader())
		if err != nil {
			w.Fatal(err)
		}
		for _, h := range proof {
			args.Proof = append(args.Proof, base64.StdEncoding.EncodeToString(h[:]))
		}
	}
	return args
}

// checkpoint is what the log signs of a size and root.
func (w *world) checkpoint(size int64, root tlog.Hash) string {
	w.Helper()
	text := fmt.Sprintf("%s\n%d\n%s\n", origin, size, base64.StdEncoding.EncodeToString(root[:]))
	signed, err := note.Sign(&note.Note{Text: text}, w.signer)
	if err != nil {
		w.Fatal(err)
	}
	return string(signed)
}

// anchored brings the log to seven records and anchors it there.
func (w *world) anchored() {
	w.Helper()
	w.must("police admin", "access:RegisterLog", domain.RegisterLogArgs{Origin: origin, VerifierKey: w.verifier})
	w.grow(7)
	w.must("police gateway", "access:Anchor", w.anchor(0))
}

// fork is the alarm that the log signed another tree of the anchored size.
func (w *world) fork() domain.RaiseAlarmArgs {
	w.Helper()
	return domain.RaiseAlarmArgs{
		Kind: domain.AlarmFork, About: "police", Subject: "7", Rule: "fork", Figures: "size 7, two roots",
		Records: []domain.RecordRef{{Department: "police", Index: 3}}, Evidence: w.checkpoint(7, tlog.Hash{1}),
	}
}

// unusual is an alarm without evidence.
func unusual() domain.RaiseAlarmArgs {
	return domain.RaiseAlarmArgs{
		Kind: domain.AlarmUnusualUse, About: "civil", Subject: id + ":2026-03-02", Rule: "rate", Figures: "近1小时1200次，平均40次，界限10倍",
		Records: []domain.RecordRef{{Department: "civil", Index: 3}},
	}
}

// alarmID is that of what unusual raises.
var alarmID = domain.AlarmID(unusual().Kind, unusual().About, unusual().Subject)

func (w *world) alarmed() {
	w.Helper()
	w.must("police gateway", "access:RaiseAlarm", unusual())
}

func closing() domain.CloseAlarmArgs {
	return domain.CloseAlarmArgs{ID: alarmID, Finding: "批量核验任务，已核实"}
}

// maxMessage bounds the text of a refusal, in bytes: fifty findings.
const maxMessage = 1 << 14
