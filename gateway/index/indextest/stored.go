package indextest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

// storedBlocks are blocks as the ledger has them: entries are registered in batches,
// among them what can be read by no short way, and decided on by events of their own
// and of several; names are freed and taken by others; some writes say nothing.
func storedBlocks() []domain.Block {
	var c Chain
	var contents []domain.CatalogContent
	for n := range 40 {
		content := CatalogContent(n)
		switch n {
		case 1, 21:
			content.Name += ` "quoted" \ <&>` + "\u2028"
		case 2:
			content.Level, content.LegalBasis = 12, nil
		case 3:
			content.Items = nil
		}
		contents = append(contents, content)
	}
	batch := func(i int) domain.Transaction {
		return StoredBatch(departments[1+i], Epoch.Add(time.Duration(i)*time.Minute), contents[20*i:20*i+20]...)
	}
	c.Add(batch(0), domain.Transaction{Type: "config"})
	again := batch(0)
	again.ValidationCode = "DUPLICATE_TXID"
	c.Add(again, batch(1))
	c.Add(decision("civil", time.Hour, domain.CatalogRegistered, domain.CatalogPublished, contents[:7]))
	c.Add(decision("civil", 2*time.Hour, domain.CatalogPublished, domain.CatalogPublished, contents[:1]), decision("market", 2*time.Hour, domain.CatalogOffline, domain.CatalogRegRejected, contents[20:25]))
	name := domain.KeyOf(domain.KindCatalogName, domain.CatalogNameID("civil", contents[5].Name))
	c.Add(Put(name, nil))
	c.Add(Put(name, "x", "cat~x", domain.StoredCatalogEntry{TxID: "none", Content: contents[5]}))
	return c.Blocks()
}

// decision is a transaction that leaves entries in one of two states, in turn.
func decision(provider domain.DepartmentCode, after time.Duration, even, odd domain.CatalogState, contents []domain.CatalogContent) domain.Transaction {
	t := StoredBatch(provider, Epoch.Add(after), contents...)
	id := domain.TxID(digest("decision on %s after %s", provider, after))
	event := domain.CatalogEvent{
		Meta:     domain.Meta{Department: "bigdata", Role: domain.RoleReviewer, TxID: id, TxTime: Epoch.Add(after)},
		Provider: provider, Reviewer: domain.SideLead, Event: "approve",
	}
	var writes []any
	for i, c := range contents {
		c.Abstract += fmt.Sprint(after)
		event.Entries = append(event.Entries, domain.CatalogStep{Code: c.Code, Seq: 2, State: []domain.CatalogState{even, odd}[i%2], Version: 1, LastVersion: 1, Opinion: "同意"})
		writes = append(writes, "cat~"+c.Code, domain.StoredCatalogEntry{TxID: id, Provider: provider, Content: c})
	}
	decided := Put(append(writes, domain.KeyOf(domain.KindCatalogEvent, domain.CatalogEventID(id, provider)), event.Stored())...)
	t.ID, t.Writes = id, decided.Writes
	return t
}

// A name is found under its ID with the code that has it, whoever had it before, and no
// list or history has it.
func testNames(t *testing.T, x index.Index) {
	id := func(name string) string { return domain.CatalogNameID("civil", name) }
	key := func(name string) string { return domain.KeyOf(domain.KindCatalogName, id(name)) }
	var c Chain
	registered := StoredBatch("civil", Epoch, CatalogContent(0), CatalogContent(1))
	refused := Put(key("丙"), "other")
	refused.ValidationCode = "MVCC_READ_CONFLICT"
	apply(t, x, c.Add(registered, Put(key("甲 a"), "1", key("乙"), "2", "catn~police~甲a", "3", key("$+<℃>="), []byte("\xff")), refused),
		c.Add(Put(key("乙"), nil), Put(key("甲a"), nil, key("丁"), "4"), Put(key("甲Ａ"), "5"), Put(key("丁"), nil)))
	get := func(name string) (index.Record, error) { return x.Get(t.Context(), domain.KindCatalogName, id(name)) }
	for name, want := range map[string]string{"甲a": `"5"`, "$+<℃>=": "\xff", CatalogContent(1).Name: `"` + CatalogContent(1).Code + `"`} {
		if got, err := get(name); err != nil || string(got.Value) != want || got.Kind != domain.KindCatalogName || got.ID != id(name) {
			t.Errorf("Get(%q) = %+v, %v, want %s", name, got, err, want)
		}
	}
	if got, err := get(CatalogContent(0).Name); err != nil || got.TxID != registered.ID || got.Block != 0 {
		t.Errorf("Get = %+v, %v, want the position of the registration", got, err)
	}
	for _, name := range []string{"乙", "丙", "丁", "甲", ""} {
		_, err := get(name)
		wantKind(t, "Get of "+name, err, domain.NotFound)
	}
	if got := list(t, x, domain.KindCatalogName, index.Filter{}, 200); len(got) != 0 {
		t.Errorf("List = %v, want none", got)
	}
	if got := history(t, x, domain.KindCatalogName, id("甲a"), 1); len(got) != 0 {
		t.Errorf("History = %v, want none", got)
	}
}

// An index of what the ledger stores answers what one of the records would.
func testStored(t *testing.T, x index.Index) {
	blocks := storedBlocks()
	apply(t, x, blocks...)
	for i := range blocks {
		blocks[i].Transactions = slices.Clone(blocks[i].Transactions)
		for j := range blocks[i].Transactions {
			tx := &blocks[i].Transactions[j]
			tx.Writes = slices.Clone(tx.Writes)
			domain.TellCatalog(tx.Writes)
		}
	}
	histories := make(map[string][]index.Record)
	for _, want := range blocks {
		got, err := x.Block(t.Context(), want.Number)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" || err != nil {
			t.Errorf("Block(%d): %v (-want +got):\n%.3000s", want.Number, err, diff)
		}
		for _, tx := range want.Transactions {
			if got, err := x.Transaction(t.Context(), tx.ID); tx.ID != "" && tx.Valid() && (err != nil || !cmp.Equal(tx, got.Transaction, cmpopts.EquateEmpty())) {
				t.Errorf("Transaction(%s) differs from that of its block: %v", tx.ID, err)
			}
			for _, w := range tx.Writes {
				if kind, id, ok := domain.ParseKey(w.Key); ok && tx.Valid() {
					histories[w.Key] = append(histories[w.Key], index.Record{Kind: kind, ID: id, Value: w.Value, Position: domain.Position{Block: want.Number, TxID: tx.ID}})
				}
			}
		}
	}
	m := newModel(blocks)
	told := 0
	for key, want := range histories {
		kind, id, _ := domain.ParseKey(key)
		if diff := cmp.Diff(want, history(t, x, kind, id, 1)); diff != "" && kind != domain.KindCatalogName {
			t.Errorf("History(%s) (-want +got):\n%s", key, diff)
		}
		got, err := x.Get(t.Context(), kind, id)
		now := m.records[kind][id]
		if now == nil {
			wantKind(t, "Get of what was deleted", err, domain.NotFound)
			continue
		}
		if diff := cmp.Diff(now.Record, got); diff != "" || err != nil {
			t.Errorf("Get(%s): %v (-want +got):\n%s", key, err, diff)
		}
		if e := parse[domain.CatalogEntry](got.Value); kind == domain.KindCatalogEntry && domain.DigestHolds(&e) {
			told++
		}
	}
	if told < 35 {
		t.Errorf("%d entries are told: too few to tell", told)
	}
	late := Epoch.AddDate(0, 0, 12)
	for _, f := range []index.Filter{
		{}, {Provider: "civil"}, {State: "reg_pending"}, {State: "published", Department: "civil"}, {ShareType: domain.Conditional}, {Overdue: &late},
		{ChangedSince: Epoch.Add(time.Minute)}, {Text: "登记"}, {Text: "登记", Provider: "market"}, {Text: "quoted"}, {Text: "2h0m0s"}, {Text: "1h0m0s"},
	} {
		wantIDs(t, fmt.Sprintf("List(%+v)", f), recordIDs(list(t, x, domain.KindCatalogEntry, f, 7)), m.list(domain.KindCatalogEntry, f))
	}
	for _, department := range []domain.DepartmentCode{"bigdata", "civil", "market"} {
		f := index.InboxFilter{Department: department, Lead: department == "bigdata", Now: late}
		got, err := x.Inbox(t.Context(), f, index.Page{Limit: 200})
		if err != nil {
			t.Fatal(err)
		}
		wantIDs(t, "Inbox of "+string(department), inboxLines(t, got.Items), m.inbox(f))
	}
	if got, err := x.Tally(t.Context(), late); err != nil || !cmp.Equal(m.tally(late), got) {
		t.Errorf("Tally: %v (-want +got):\n%s", err, cmp.Diff(m.tally(late), got))
	}
}
