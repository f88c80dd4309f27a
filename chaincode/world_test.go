package chaincode_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

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
	signer    note.Signer
	verifier  string
	leaves    []tlog.Hash // stored hashes of the department's log
	records   int64
}

// newWorld returns a world without any department registered.
func newWorld(t testing.TB) *world {
	t.Helper()
	cc, err := chaincode.New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{TB: t, ledger: chaincodetest.NewLedger("zhenglian"), chaincode: cc, people: map[string]chaincodetest.Identity{}}
	for _, d := range departments {
		for _, r := range domain.Roles {
			w.people[string(d.Code)+" "+string(r)] = chaincodetest.NewIdentity(t, string(d.MSPID), map[string]string{
				"zhenglian.role": string(r), "zhenglian.department": string(d.Code),
			})
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

// founded returns a world with all departments registered.
func founded(t testing.TB) *world {
	w := newWorld(t)
	for _, d := range departments {
		w.must("bigdata admin", "governance:RegisterDepartment", d)
	}
	return w
}

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
		Creator: creator, TxID: fmt.Sprintf("%064x", w.proposals), Time: noon.Add(time.Duration(w.proposals) * time.Second),
		Function: function, Args: []string{canonical(w.TB, arg)},
	}
}

// run simulates a proposal twice and checks what holds for every transaction.
func (w *world) run(p chaincodetest.Proposal) chaincodetest.Result {
	w.Helper()
	first, second := w.ledger.Simulate(w.chaincode, p), w.ledger.Simulate(w.chaincode, p)
	if diff := cmp.Diff(first, second); diff != "" {
		w.Errorf("%s: two runs differ:\n%s", p.Function, diff)
	}
	for _, v := range first.Violations {
		w.Errorf("%s: %s", p.Function, v)
	}
	if !first.OK() && len(first.Writes) != 0 {
		w.Errorf("%s: a refused transaction writes %d keys", p.Function, len(first.Writes))
	}
	for _, write := range first.Writes {
		if _, _, ok := domain.ParseKey(write.Key); !ok {
			w.Errorf("%s: writes the unknown key %q", p.Function, write.Key)
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

func writtenKeys(r chaincodetest.Result) []string {
	var keys []string
	for _, write := range r.Writes {
		keys = append(keys, write.Key)
	}
	return keys
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
		Classification: "环境与资源保护", Format: "database",
		Items: []domain.CatalogItem{
			{Name: "库名", Type: "C", Level: 1, ShareType: domain.Conditional},
			{Name: "库水位（米）", Type: "N", Level: 2, ShareType: domain.Conditional},
		},
		ShareType: domain.Conditional, ShareCondition: "仅用于防汛调度", LegalBasis: []string{"中华人民共和国防洪法"},
		ShareMode: "platform_table", UpdateCycle: "daily", SystemRef: "水情信息系统", RegionCode: "370100", PersonalData: "none",
	}
}

func request() domain.ShareRequestContent {
	return domain.ShareRequestContent{
		ID: id, CatalogCode: code, Items: []string{"库名"}, Purpose: "防汛会商", UseBasis: "防汛条例",
		ServiceItem: "A-1", ShareMode: "platform_table", Period: domain.Period{From: noon, To: noon.AddDate(1, 0, 0)},
		Quota: domain.Quota{Total: 100, PerDay: 10}, LetterDigest: domain.Digest(nil), SecurityMeasures: "专网访问",
	}
}

func certificateContent(t testing.TB) domain.CertificateContent {
	t.Helper()
	const typeCode = "11100000MB0143028R001"
	return domain.CertificateContent{
		Ref: id, CertID: certID, TypeCode: typeCode, TypeNameZh: "营业执照", TypeNameEn: "Business Licence",
		IssuerUSCC: departments[1].USCC, HolderKind: domain.HolderOrganisation, HolderRef: domain.HolderCommitment(id, "salted"),
		IssuedAt: noon.Add(-time.Hour), Validity: domain.Period{From: noon.Add(-time.Hour), To: noon.AddDate(1, 0, 0)},
		ContentDigest: domain.Digest(nil), CheckCodeHash: domain.CheckCodeHash(id, "2345678ABC"),
	}
}

func revocation() domain.RevokeArgs {
	return domain.RevokeArgs{Ref: id, Act: domain.StatusAct{
		DocumentNo: "撤决〔2026〕1号", LegalBasis: "行政许可法第六十九条", ReasonCode: "issued_wrongly", EffectiveAt: noon,
	}}
}

// published brings the sample entry to the state published.
func (w *world) published() {
	w.Helper()
	w.must("police operator", "catalog:Register", domain.RegisterCatalogArgs{Content: content()})
	w.must("bigdata reviewer", "catalog:Review", domain.ReviewCatalogArgs{Code: code, Decision: domain.Approve})
	w.must("police operator", "catalog:Publish", domain.CodeArgs{Code: code})
}

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
	text := fmt.Sprintf("%s\n%d\n%s\n", origin, w.records, base64.StdEncoding.EncodeToString(root[:]))
	signed, err := note.Sign(&note.Note{Text: text}, w.signer)
	if err != nil {
		w.Fatal(err)
	}
	args := domain.AnchorArgs{Checkpoint: string(signed), Counts: []domain.GrantCount{{GrantID: id, Count: w.records - old}}}
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
