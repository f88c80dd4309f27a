package indextest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
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
// and changed records of every kind, invalid transactions, foreign keys and
// values that are no JSON. Equal arguments give equal blocks.
func Blocks(n, perBlock int) []domain.Block {
	var c Chain
	c.Add(domain.Transaction{Type: "config"})
	for number := 1; number < n; number++ {
		var transactions []domain.Transaction
		for i := range perBlock {
			transactions = append(transactions, transaction(number*perBlock+i))
		}
		c.Add(transactions...)
	}
	return c.Blocks()
}

func transaction(i int) domain.Transaction {
	provider, consumer := departments[i%4], departments[(i/4)%4]
	code := fmt.Sprintf("3%02d%03d/%06d", i%7, i%11, i%500)
	id := digest("request %d", i%300)[:32]
	ref := digest("certificate %d", i/2)[:32]
	var t domain.Transaction
	switch i % 10 {
	case 0:
		t = Put("dept~"+string(provider), domain.Department{Code: provider, MSPID: mspIDs[i%4], NameZh: "部门"})
	case 1, 2:
		entry := domain.CatalogEntry{
			Provider: provider, Version: 1 + i/500, State: []domain.CatalogState{domain.CatalogRegPending, domain.CatalogRegistered, domain.CatalogPublished}[i%3],
			Content: domain.CatalogContent{Code: code, Name: fmt.Sprintf("企业登记信息 %d", i%500), Abstract: "Registration of enterprises"},
		}
		t = Put("cat~"+code, entry, fmt.Sprintf("catv~%s~%d", code, entry.Version), domain.CatalogVersion{Provider: provider, Version: entry.Version, Content: entry.Content})
	case 3:
		t = Put("req~"+id, domain.ShareRequest{Content: domain.ShareRequestContent{ID: id, CatalogCode: code}, Provider: provider, Consumer: consumer, State: domain.RequestAgreed, GrantID: id},
			fmt.Sprintf("reqe~%s~%d", id, i), domain.RequestEvent{RequestID: id, Seq: i, State: domain.RequestAgreed},
			"grant~"+id, domain.Grant{ID: id, RequestID: id, CatalogCode: code, Provider: provider, Consumer: consumer, State: domain.GrantActive})
	case 4, 5:
		t = Put("cert~"+ref, domain.Certificate{Issuer: provider, Status: []domain.CertificateStatus{domain.CertificateValid, domain.CertificateRevoked}[i%2], Seq: 1 + i%2, Content: domain.CertificateContent{Ref: ref}},
			fmt.Sprintf("certe~%s~%d", ref, 1+i%2), domain.CertificateEvent{Ref: ref, Seq: 1 + i%2, Status: domain.CertificateValid},
			fmt.Sprintf("certid~1.2.156.3005.2.%d", i), domain.IssuedID{CertID: fmt.Sprintf("1.2.156.3005.2.%d", i), Ref: ref})
	case 6:
		t = Put("log~"+string(provider), domain.LogRegistration{Owner: provider, Size: uint64(i)},
			fmt.Sprintf("anchor~%s~%d", provider, i), domain.Anchor{Owner: provider, Size: uint64(i)})
	case 7:
		t = Put("cat~"+code, []byte(`{"provider":["not a department"]`), "unknown~key", []byte{0xff, 0}, "nokey", []byte{})
	case 8:
		t = Put("cert~"+ref, nil)
	case 9:
		t = Put("cat~"+code, domain.CatalogEntry{Provider: provider, State: "never"})
		t.ValidationCode = "MVCC_READ_CONFLICT"
	}
	t.Contract, t.Name, t.Arguments = "catalog", "Register", []string{fmt.Sprintf(`{"n":%d}`, i)}
	return t
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
		leaf := sha256.Sum256([]byte(r.CallID))
		entries = append(entries, index.AccessEntry{Index: i, LeafHash: leaf[:], Record: r})
	}
	return entries
}

func digest(format string, args ...any) string {
	sum := sha256.Sum256(fmt.Appendf(nil, format, args...))
	return hex.EncodeToString(sum[:])
}
