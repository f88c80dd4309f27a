package indextest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

// Epoch is the time of the first transaction and access record made here.
var Epoch = time.Date(2026, 3, 2, 1, 0, 0, 0, time.UTC)

var (
	departments = []domain.DepartmentCode{"bigdata", "civil", "market", "police"}
	mspIDs      = []domain.MSPID{"BigdataMSP", "CivilMSP", "MarketMSP", "PoliceMSP"}
)

// Chain makes blocks that follow one another. The zero value starts at block 0.
type Chain struct {
	blocks []domain.Block
}

// Add appends a block of transactions. It sets the block's number and hashes
// and, where they are empty, the transactions' IDs, times, chaincode
// "zhenglian", creator, endorsers and validation code "VALID".
func (c *Chain) Add(transactions ...domain.Transaction) domain.Block {
	b := domain.Block{Number: uint64(len(c.blocks)), Signers: mspIDs[:3], Transactions: transactions}
	if n := len(c.blocks); n > 0 {
		b.PreviousHash = c.blocks[n-1].Hash
	}
	b.DataHash = digest("data %d", b.Number)
	b.Hash = digest("%s %s", b.PreviousHash, b.DataHash)
	for i := range b.Transactions {
		t := &b.Transactions[i]
		if t.ID == "" {
			t.ID = domain.TxID(digest("transaction %d of block %d", i, b.Number))
		}
		if t.Type == "" {
			t.Type = "endorser"
		}
		if t.Time.IsZero() {
			t.Time = Epoch.Add(time.Duration(b.Number) * time.Second)
		}
		if t.Chaincode == "" && t.Type == "endorser" {
			t.Chaincode = "zhenglian"
		}
		if t.Creator == "" {
			t.Creator = mspIDs[i%len(mspIDs)]
		}
		if t.Endorsers == nil {
			t.Endorsers = mspIDs[1:]
		}
		if t.ValidationCode == "" {
			t.ValidationCode = "VALID"
		}
	}
	c.blocks = append(c.blocks, b)
	return b
}

// Blocks answers all blocks so far.
func (c *Chain) Blocks() []domain.Block { return c.blocks }

// Put is a transaction that writes records under keys: key, record, key, record, …
// A record of type []byte is written as it is, nil is a deletion, every other
// one in canonical form.
func Put(keysAndRecords ...any) domain.Transaction {
	var t domain.Transaction
	for i := 0; i < len(keysAndRecords); i += 2 {
		w := domain.Write{Key: keysAndRecords[i].(string)}
		switch r := keysAndRecords[i+1].(type) {
		case nil:
			w.Delete = true
		case []byte:
			w.Value = r
		default:
			value, err := domain.Canonical(r)
			if err != nil {
				panic(err) // a record type of this program that JSON cannot hold
			}
			w.Value = value
		}
		t.Writes = append(t.Writes, w)
	}
	return t
}

// Blocks answers a chain of n blocks with about perBlock transactions each: new
// and changed records of every kind, records deleted and written again, invalid
// transactions, foreign keys and values that are no JSON. Equal arguments give
// equal blocks.
func Blocks(n, perBlock int) []domain.Block { return RandomBlocks(0, n, perBlock) }

// RandomBlocks is [Blocks] with other choices for each seed.
func RandomBlocks(seed uint64, n, perBlock int) []domain.Block {
	g := generator{rand.New(rand.NewPCG(seed, 1))} //nolint:gosec // samples, not secrets
	var c Chain
	c.Add(domain.Transaction{Type: "config"})
	for number := 1; number < n; number++ {
		var transactions []domain.Transaction
		for i := range perBlock {
			transactions = append(transactions, g.transaction(number*perBlock+i))
		}
		c.Add(transactions...)
	}
	return c.Blocks()
}

// generator makes transactions on a small number of records, so that most are
// written many times.
type generator struct{ *rand.Rand }

func pick[T any](g generator, list ...T) T { return list[g.IntN(len(list))] }

// transaction makes the ith transaction of a chain.
func (g generator) transaction(i int) domain.Transaction {
	t := Put(g.writes(i)...)
	switch g.IntN(20) {
	case 0:
		t.ValidationCode = "MVCC_READ_CONFLICT"
	case 1:
		t.Writes = append(t.Writes, domain.Write{Key: "unknown~key", Value: []byte{0xff, 0}}, domain.Write{Key: "nokey", Value: []byte{}})
	case 2:
		at := g.IntN(len(t.Writes))
		t.Writes[at].Value = []byte(`{"provider":["not a department"],"owner":1`)
	case 3:
		for _, w := range t.Writes {
			t.Writes = append(t.Writes, domain.Write{Key: w.Key, Delete: true})
		}
		if g.IntN(2) == 0 { // written again by the same transaction
			t.Writes = append(t.Writes, t.Writes[0])
		}
	}
	t.Contract, t.Name, t.Arguments = "catalog", "Register", []string{fmt.Sprintf(`{"n":%d}`, i)}
	return t
}

func (g generator) writes(i int) []any {
	provider, consumer := pick(g, departments...), pick(g, departments...)
	record := g.IntN(120)
	switch g.IntN(10) {
	case 0:
		return []any{"dept~" + string(provider), domain.Department{Code: provider, MSPID: mspIDs[i%4], NameZh: "部门"}, "members~all", domain.Members{Lead: provider}}
	case 1, 2, 3:
		return g.entry(provider, record, 1+g.IntN(12))
	case 4, 5:
		return g.request(provider, consumer, record, 1+g.IntN(12))
	case 6:
		ref := digest("certificate %d", record)[:32]
		typeCode := fmt.Sprintf("type-%d", g.IntN(9))
		return append(
			g.certificates(provider, record, i),
			"cert~"+ref, domain.Certificate{Content: domain.CertificateContent{Ref: ref}},
			"certid~"+domain.IssuedIDKey(fmt.Sprintf("1.2.156.3005.2.%d", i)), ref,
			"certbit~"+domain.StatusPlacesID(provider, i), domain.StatusPlaces{Issuer: provider, Number: i / domain.StatusPlacesLength},
			"issuer~"+domain.AuthorisationID(provider, typeCode), domain.Authorisation{Issuer: provider, TypeCode: typeCode, State: pick(g, domain.AuthorisationActive, domain.AuthorisationEnded)},
		)
	case 7:
		size := uint64(1 + g.IntN(30))
		counts := []domain.GrantCount{{GrantID: digest("request %d", record)[:32], Count: int64(1 + g.IntN(9))}, {GrantID: digest("request %d", g.IntN(120))[:32], Count: 1}}
		return []any{
			"log~" + string(provider), domain.LogRegistration{Owner: provider, Size: size},
			"anchor~" + domain.AnchorID(provider, size), domain.Anchor{Owner: provider, Size: size, Counts: counts},
		}
	}
	if g.IntN(2) == 0 {
		return g.alarm(provider, record)
	}
	event, year, version := pick(g, domain.DeadlineEvents...), 2024+g.IntN(3), 1+g.IntN(12)
	return []any{
		fmt.Sprintf("cal~%d", year), domain.Calendar{Year: year, Version: version},
		"calv~" + domain.VersionID(fmt.Sprint(year), version), domain.Calendar{Year: year, Version: version},
		"rule~" + string(event), domain.DeadlineRule{Event: event, Version: version},
		"rulev~" + domain.VersionID(string(event), version), domain.DeadlineRule{Event: event, Version: version},
		"op~" + domain.OperationID(provider, digest("operation %d", i)[:32]), domain.Operation{Operation: digest("operation %d", i)[:32]},
	}
}

func (g generator) alarm(about domain.DepartmentCode, n int) []any {
	id, seq := digest("alarm %d", n)[:32], 1+g.IntN(2)
	a := domain.Alarm{ID: id, Kind: pick(g, domain.AlarmKinds...), About: about, Seq: seq, State: pick(g, domain.AlarmOpen, domain.AlarmClosed)}
	return []any{"alarm~" + id, a, "alarme~" + domain.EventID(id, seq), domain.AlarmEvent{AlarmID: id, Seq: seq, State: a.State}}
}

// clock is a time limit that runs, has stopped, or is none.
func (g generator) clock(event domain.DeadlineEvent) *domain.Clock {
	if g.IntN(4) == 0 {
		return nil
	}
	c := &domain.Clock{Event: event, DueAt: Epoch.AddDate(0, 0, g.IntN(30))}
	if g.IntN(4) == 0 {
		c.StoppedAt = &Epoch
	}
	return c
}

func (g generator) entry(provider domain.DepartmentCode, n, seq int) []any {
	content := CatalogContent(n)
	code := content.Code
	if g.IntN(3) == 0 {
		content.Name, content.SystemRef = fmt.Sprintf("变更后的 ＮＡＭＥ %d", seq), ""
	}
	e := domain.CatalogEntry{
		Provider: provider, Reviewer: pick(g, domain.SideLead, domain.SidePeer), Version: seq, Seq: seq, Content: content,
		State: pick(g, domain.CatalogDraft, domain.CatalogRegPending, domain.CatalogRegistered, domain.CatalogPublished, domain.CatalogChangePending, domain.CatalogOffline),
	}
	e.Review, e.Update = g.clock(domain.DeadlineCatalogReview), g.clock(domain.DeadlineCatalogUpdate)
	return []any{
		"cat~" + code, e,
		"catv~" + domain.VersionID(code, seq), domain.CatalogVersion{Provider: provider, Version: seq, Content: content},
		"cate~" + digest("transaction %d %d", n, seq) + "~" + string(provider), domain.CatalogEvent{Provider: provider, Entries: []domain.CatalogStep{{Code: code, Seq: seq, State: e.State}}},
		domain.KeyOf(domain.KindCatalogName, domain.CatalogNameID(provider, content.Name)), code,
	}
}

func (g generator) request(provider, consumer domain.DepartmentCode, n, seq int) []any {
	id := digest("request %d", n)[:32]
	r := domain.ShareRequest{
		Content: domain.ShareRequestContent{ID: id, CatalogCode: CatalogContent(n).Code}, Provider: provider, Consumer: consumer, Seq: seq,
		Checker: pick(g, domain.SideLead, domain.SidePeer), Mediator: pick(g, domain.SideLead, domain.SidePeer),
		State:    pick(g, domain.RequestSubmitted, domain.RequestReturned, domain.RequestAccepted, domain.RequestRefused, domain.RequestAgreed, domain.RequestDisputed, domain.RequestActive),
		Decision: pick(g, "", domain.Agree, domain.Partly, domain.Refuse), LegalBasis: pick(g, nil, []string{"依据"}), GrantID: pick(g, "", id),
	}
	r.Clock = g.clock(domain.DeadlineRequestAnswer)
	if r.Decision != "" {
		r.AnsweredAt, r.AnsweredIn, r.AnsweredLate = &Epoch, g.IntN(20), g.IntN(3) == 0
	}
	if g.IntN(3) == 0 {
		r.Extension = &domain.Extension{Days: 3}
	}
	grant := domain.Grant{
		ID: id, RequestID: id, Provider: provider, Consumer: consumer, State: pick(g, domain.GrantActive, domain.GrantActive, domain.GrantSuspended),
		Period: domain.Period{From: Epoch.AddDate(0, 0, -g.IntN(3)), To: Epoch.AddDate(0, 0, g.IntN(9))},
	}
	return []any{
		"req~" + id, r, "reqe~" + domain.EventID(id, seq), domain.RequestEvent{RequestID: id, Seq: seq, State: r.State},
		"grant~" + id, grant, "grante~" + domain.EventID(id, seq), domain.GrantEvent{GrantID: id, Seq: seq, State: grant.State},
	}
}

// Access answers n access records from the index from on. Equal arguments give
// equal records, and a later batch continues an earlier one.
func Access(from uint64, n int) []index.AccessEntry {
	entries := make([]index.AccessEntry, 0, n)
	for i := from; i < from+uint64(n); i++ {
		provider := departments[0]
		consumer := departments[1+i%3]
		if i%5 == 0 {
			provider, consumer = consumer, provider
		}
		r := domain.AccessRecord{
			Schema: "zhenglian/access-record/1", Direction: []domain.Direction{domain.DirectionProvider, domain.DirectionConsumer}[i%2],
			CallID: digest("call %d", i)[:32], GrantID: digest("grant %d", i%40)[:32], CatalogCode: fmt.Sprintf("3%02d/%06d", i%20, i%20), CatalogVersion: 1,
			Items: []string{"统一社会信用代码", "企业名称"}, Provider: provider, Consumer: consumer, Purpose: fmt.Sprintf("办理事项 %d", i%6),
			ServiceItem: fmt.Sprintf("item-%d", i%9), System: "approval", Operator: "op-1", OperatorRole: "window", RecordCount: 1,
			RequestDigest: digest("request %d", i), ResponseDigest: digest("response %d", i),
			// Every seventh call is logged late: the order of the log is not the order of calls.
			At: Epoch.Add(time.Duration(i)*time.Second - time.Duration(i%7/6)*time.Hour), LoggedAt: Epoch.Add(time.Duration(i) * time.Second), Result: "ok",
		}
		if i%3 == 0 {
			r.CaseRef = fmt.Sprintf("case-%d", i/30)
		}
		if i%4 == 0 {
			r.SubjectRef = digest("subject %d", i/40)
		}
		if i%11 == 0 {
			r.Result = "outside_period"
		}
		entries = append(entries, index.AccessEntry{Index: i, LeafHash: leafHash(r), Record: r})
	}
	return entries
}

// leafHash is the RFC 6962 hash of a record.
func leafHash(r domain.AccessRecord) []byte {
	entry, err := domain.Canonical(r)
	if err != nil {
		panic(err) // a record of this package's own making
	}
	leaf := sha256.Sum256(append([]byte{0}, entry...))
	return leaf[:]
}

func digest(format string, args ...any) string {
	sum := sha256.Sum256(fmt.Appendf(nil, format, args...))
	return hex.EncodeToString(sum[:])
}
