// Package indextest says in tests what an [index.Index] must do, and makes the
// chains and access records to try it with.
package indextest

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

// Run runs the conformance suite. open answers an empty index and sees to its
// being closed.
func Run(t *testing.T, open func(t *testing.T) index.Index) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, index.Index)
	}{
		{"empty", testEmpty},
		{"blocks come in order", testOrder},
		{"blocks read back", testBlocks},
		{"records", testRecords},
		{"records told", testStored},
		{"names", testNames},
		{"filters", testFilters},
		{"filters together", testFilterCombinations},
		{"words", testWords},
		{"search follows changes", testSearchFollowsChanges},
		{"inbox", testInbox},
		{"tally", testTally},
		{"status indexes", testStatusIndexes},
		{"certificates", testCertificates},
		{"events", testEvents},
		{"pages", testPages},
		{"pages while the index grows", testPagesGrow},
		{"bad pages", testBadPages},
		{"unreadable values", testUnreadable},
		{"deletion", testDeletion},
		{"wait for a block", testWait},
		{"access comes in order", testAccessOrder},
		{"trace", testTrace},
		{"entries and calls", testEntriesAndCalls},
		{"grant use", testGrantUse},
		{"grant history", testGrantHistory},
		{"judged", testJudged},
		{"grant counts", testGrantCounts},
		{"cancelled", testCancelled},
		{"concurrent use", testConcurrent},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, open(t))
		})
	}
}

func apply(t *testing.T, x index.Index, blocks ...domain.Block) {
	t.Helper()
	for _, b := range blocks {
		if err := x.ApplyBlock(t.Context(), b); err != nil {
			t.Fatalf("ApplyBlock(%d): %v", b.Number, err)
		}
	}
}

func wantKind(t *testing.T, what string, err error, want domain.Kind) {
	t.Helper()
	if got := domain.KindOf(err); got != want || err == nil {
		t.Errorf("%s: error = %v, want one of kind %s", what, err, want)
	}
}

func wantNumber(t *testing.T, what string, f func(context.Context) (uint64, error), want uint64) {
	t.Helper()
	if got, err := f(t.Context()); err != nil || got != want {
		t.Errorf("%s = %d, %v, want %d", what, got, err, want)
	}
}

func testEmpty(t *testing.T, x index.Index) {
	ctx := t.Context()
	wantNumber(t, "NextBlock", x.NextBlock, 0)
	wantNumber(t, "NextAccess", x.NextAccess, 0)
	_, err := x.Get(ctx, domain.KindCatalogEntry, "307/000001")
	wantKind(t, "Get", err, domain.NotFound)
	_, err = x.Block(ctx, 0)
	wantKind(t, "Block", err, domain.NotFound)
	_, err = x.Transaction(ctx, "00")
	wantKind(t, "Transaction", err, domain.NotFound)
	_, err = x.Transaction(ctx, "")
	wantKind(t, "Transaction of no ID", err, domain.NotFound)
	page := index.Page{Limit: 10}
	if got, err := x.List(ctx, domain.KindCatalogEntry, index.Filter{}, page); err != nil || len(got.Items) != 0 || got.Next != "" {
		t.Errorf("List = %v, %v, want an empty page", got, err)
	}
	if got, err := x.History(ctx, domain.KindCatalogEntry, "x", page); err != nil || len(got.Items) != 0 || got.Next != "" {
		t.Errorf("History = %v, %v, want an empty page", got, err)
	}
	if got, next, err := x.Blocks(ctx, page); err != nil || len(got) != 0 || next != "" {
		t.Errorf("Blocks = %v, %q, %v, want an empty page", got, next, err)
	}
	if got, err := x.Trace(ctx, index.AccessFilter{}, page); err != nil || len(got.Items) != 0 || got.Next != "" {
		t.Errorf("Trace = %v, %v, want an empty page", got, err)
	}
	if got, err := x.GrantCounts(ctx, 0, 0); err != nil || len(got) != 0 {
		t.Errorf("GrantCounts = %v, %v, want none", got, err)
	}
	if total, today, minute, err := x.GrantUse(ctx, "g", domain.DirectionProvider, Epoch, Epoch); err != nil || total != 0 || today != 0 || minute != 0 {
		t.Errorf("GrantUse = %d, %d, %d, %v, want 0", total, today, minute, err)
	}
	if got, err := x.GrantHistory(ctx, "g", domain.DirectionProvider, Epoch); err != nil || !cmp.Equal(got, domain.GrantHistory{}) {
		t.Errorf("GrantHistory = %+v, %v, want none", got, err)
	}
	if got, err := x.Entries(ctx, 0, 1000); err != nil || len(got) != 0 {
		t.Errorf("Entries = %v, %v, want none", got, err)
	}
	if got, err := x.FindCalls(ctx, []string{"c"}, domain.DirectionProvider); err != nil || len(got) != 0 {
		t.Errorf("FindCalls = %v, %v, want none", got, err)
	}
	wantNumber(t, "Judged", x.Judged, 0)
}

func testOrder(t *testing.T, x index.Index) {
	blocks := Blocks(4, 10)
	if err := x.ApplyBlock(t.Context(), blocks[1]); err == nil {
		t.Error("ApplyBlock(1) on an empty index succeeded")
	}
	wantNumber(t, "NextBlock after a gap", x.NextBlock, 0)
	apply(t, x, blocks[0], blocks[1])
	if err := x.ApplyBlock(t.Context(), blocks[3]); err == nil {
		t.Error("ApplyBlock(3) after block 1 succeeded")
	}
	before := list(t, x, domain.KindCatalogEntry, index.Filter{}, 200)
	apply(t, x, blocks[1], blocks[0]) // once more: nothing changes
	if diff := cmp.Diff(before, list(t, x, domain.KindCatalogEntry, index.Filter{}, 200)); diff != "" {
		t.Errorf("applying blocks again changed the records (-before +after):\n%s", diff)
	}
	wantNumber(t, "NextBlock", x.NextBlock, 2)
	apply(t, x, blocks[2], blocks[3])
	wantNumber(t, "NextBlock", x.NextBlock, 4)
}

func testBlocks(t *testing.T, x index.Index) {
	blocks := Blocks(6, 5)
	apply(t, x, blocks...)
	for _, want := range blocks {
		got, err := x.Block(t.Context(), want.Number)
		if err != nil {
			t.Fatalf("Block(%d): %v", want.Number, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("Block(%d) (-want +got):\n%s", want.Number, diff)
		}
		for _, tx := range want.Transactions {
			if tx.Type == "config" {
				continue
			}
			got, err := x.Transaction(t.Context(), tx.ID)
			if err != nil {
				t.Fatalf("Transaction(%s): %v", tx.ID, err)
			}
			if diff := cmp.Diff(index.TransactionRecord{Block: want.Number, Transaction: tx}, got, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("Transaction(%s) (-want +got):\n%s", tx.ID, diff)
			}
		}
	}
	_, err := x.Block(t.Context(), 6)
	wantKind(t, "Block(6)", err, domain.NotFound)
	_, err = x.Block(t.Context(), 1<<63)
	wantKind(t, "Block(1<<63)", err, domain.NotFound)

	slices.Reverse(blocks)
	for _, limit := range []int{1, 4, 200} {
		var got []domain.Block
		for page := (index.Page{Limit: limit}); ; {
			some, next, err := x.Blocks(t.Context(), page)
			if err != nil {
				t.Fatalf("Blocks: %v", err)
			}
			if len(some) == 0 || len(some) > limit {
				t.Fatalf("a page of %d blocks has %d", limit, len(some))
			}
			got = append(got, some...)
			if page.After = next; next == "" {
				break
			}
		}
		if diff := cmp.Diff(blocks, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("Blocks, %d at a time (-want +got):\n%s", limit, diff)
		}
	}
}

func testRecords(t *testing.T, x index.Index) {
	var c Chain
	v1, v2 := []byte(`{"provider":"civil","state":"reg_pending"}`), []byte(`{"provider":"civil","state":"published"}`)
	a := c.Add(Put("cat~307/000001", v1), Put("cat~307/000002", v1, "catv~307/000001~1", v1))
	lost := Put("cat~307/000001", []byte(`{"state":"lost"}`))
	lost.ValidationCode = "MVCC_READ_CONFLICT"
	b := c.Add(lost, Put("cat~307/000001", v2), Put("dog~1", v1, "cat", v1, "cat~", v1, "~", v1, "", v1))
	apply(t, x, a, b)

	want := index.Record{Kind: domain.KindCatalogEntry, ID: "307/000001", Value: v2, Position: domain.Position{Block: 1, TxID: b.Transactions[1].ID}}
	got, err := x.Get(t.Context(), domain.KindCatalogEntry, "307/000001")
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Get (-want +got):\n%s", diff)
	}
	first := index.Record{Kind: domain.KindCatalogEntry, ID: "307/000001", Value: v1, Position: domain.Position{TxID: a.Transactions[0].ID}}
	if diff := cmp.Diff([]index.Record{first, want}, history(t, x, domain.KindCatalogEntry, "307/000001", 1)); diff != "" {
		t.Errorf("History (-want +got):\n%s", diff)
	}
	version, err := x.Get(t.Context(), domain.KindCatalogVersion, "307/000001~1")
	if err != nil || version.ID != "307/000001~1" {
		t.Errorf("Get(catalog_version) = %v, %v", version, err)
	}
	for _, kind := range domain.RecordKinds {
		count := map[domain.RecordKind]int{domain.KindCatalogEntry: 2, domain.KindCatalogVersion: 1}[kind]
		if got := list(t, x, kind, index.Filter{}, 200); len(got) != count {
			t.Errorf("List(%s) = %d records, want %d", kind, len(got), count)
		}
	}
	_, err = x.Get(t.Context(), domain.KindIssuer, "307/000001")
	wantKind(t, "Get of another kind", err, domain.NotFound)
}

func testFilters(t *testing.T, x index.Index) {
	var c Chain
	period := domain.Period{From: Epoch, To: Epoch.Add(time.Hour)}
	entry := func(provider domain.DepartmentCode, state domain.CatalogState, name, abstract string) domain.CatalogEntry {
		return domain.CatalogEntry{Provider: provider, State: state, Content: domain.CatalogContent{Name: name, Abstract: abstract}}
	}
	apply(t, x, c.Add(Put(
		"cat~a", entry("civil", domain.CatalogPublished, "婚姻登记信息", "Marriage REGISTER"),
		"cat~b", entry("civil", domain.CatalogRegPending, "低保对象信息", "50% of 100_000"),
		"cat~c", entry("police", domain.CatalogPublished, "户籍信息", "Household register"),
		"req~1", domain.ShareRequest{Provider: "civil", Consumer: "police", State: domain.RequestAgreed, GrantID: "1"},
		"req~2", domain.ShareRequest{Provider: "market", Consumer: "civil", State: domain.RequestSubmitted},
		"req~3", domain.ShareRequest{Provider: "civil", Consumer: "civil", State: domain.RequestRefused},
		"grant~1", domain.Grant{ID: "1", Provider: "civil", Consumer: "police", State: domain.GrantActive, Period: period},
		"issuer~police~t1", domain.Authorisation{Issuer: "police", TypeCode: "t1", State: domain.AuthorisationActive},
		"issuer~police~t2", domain.Authorisation{Issuer: "police", TypeCode: "t2", State: domain.AuthorisationEnded},
		"issuer~civil~t1", domain.Authorisation{Issuer: "civil", TypeCode: "t1", State: domain.AuthorisationEnded},
		"anchor~police~5", domain.Anchor{Owner: "police", Size: 5},
		"anchor~civil~7", domain.Anchor{Owner: "civil", Size: 7},
		"dept~civil", domain.Department{Code: "civil"},
		"log~civil", domain.LogRegistration{Owner: "civil"},
		"alarm~f", domain.Alarm{About: "civil", State: domain.AlarmOpen},
		"alarm~g", domain.Alarm{About: "civil", State: domain.AlarmClosed},
	), PutBatch("1", "police", Certificate("1", "aaaaaaaaaaaax", domain.CertificateValid, 0), Certificate("1", "aaaaaaaaaaaay", domain.CertificateRevoked, 1))))
	for _, test := range []struct {
		name   string
		kind   domain.RecordKind
		filter index.Filter
		want   string // IDs
	}{
		{"all", domain.KindCatalogEntry, index.Filter{}, "a b c"},
		{"provider", domain.KindCatalogEntry, index.Filter{Department: "civil"}, "a b"},
		{"state", domain.KindCatalogEntry, index.Filter{State: "published"}, "a c"},
		{"provider and state", domain.KindCatalogEntry, index.Filter{Department: "civil", State: "published"}, "a"},
		{"text in the name", domain.KindCatalogEntry, index.Filter{Text: "登记"}, "a"},
		{"text in the abstract, either case", domain.KindCatalogEntry, index.Filter{Text: "rEgisteR"}, "a c"},
		{"text without a word", domain.KindCatalogEntry, index.Filter{Text: "%"}, ""},
		{"text of another kind", domain.KindRequest, index.Filter{Text: "civil"}, ""},
		{"text is no SQL", domain.KindCatalogEntry, index.Filter{Text: "' OR 1=1 --"}, ""},
		{"all three", domain.KindCatalogEntry, index.Filter{Department: "police", State: "published", Text: "户籍"}, "c"},
		{"unknown department", domain.KindCatalogEntry, index.Filter{Department: "nobody"}, ""},
		{"request: provider or consumer", domain.KindRequest, index.Filter{Department: "civil"}, "1 2 3"},
		{"request: consumer", domain.KindRequest, index.Filter{Department: "police"}, "1"},
		{"request: either side and state", domain.KindRequest, index.Filter{Department: "civil", State: "submitted"}, "2"},
		{"request: grant", domain.KindRequest, index.Filter{GrantID: "1"}, "1"},
		{"grant: grant", domain.KindGrant, index.Filter{GrantID: "1"}, "1"},
		{"grant: consumer", domain.KindGrant, index.Filter{Department: "police", State: "active"}, "1"},
		{"certificate: issuer", domain.KindCertificate, index.Filter{Department: "police"}, "aaaaaaaaaaaax aaaaaaaaaaaay"},
		{"certificate: state", domain.KindCertificate, index.Filter{State: "revoked"}, "aaaaaaaaaaaay"},
		{"authorisation: issuer", domain.KindIssuer, index.Filter{Department: "police"}, "police~t1 police~t2"},
		{"authorisation: issuer and state", domain.KindIssuer, index.Filter{Department: "police", State: "ended"}, "police~t2"},
		{"anchor: owner", domain.KindAnchor, index.Filter{Department: "police"}, "police~5"},
		{"anchor: all, in order of ID", domain.KindAnchor, index.Filter{}, "civil~7 police~5"},
		{"alarm: about", domain.KindAlarm, index.Filter{Department: "civil"}, "f g"},
		{"alarm: state", domain.KindAlarm, index.Filter{Department: "civil", State: "open"}, "f"},
		{"department", domain.KindDepartment, index.Filter{}, "civil"},
		{"log", domain.KindLog, index.Filter{}, "civil"},
		{"grant filter on a kind without", domain.KindCatalogEntry, index.Filter{GrantID: "1"}, ""},
		{"unknown kind", "nothing", index.Filter{}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, limit := range []int{1, 200} {
				if got := ids(list(t, x, test.kind, test.filter, limit)); got != test.want {
					t.Errorf("List, %d at a time = %q, want %q", limit, got, test.want)
				}
			}
		})
	}
}

func testStatusIndexes(t *testing.T, x index.Index) {
	var c Chain
	apply(t, x, c.Add(
		PutBatch("1", "police",
			Certificate("1", "aaaaaaaaaaaaa", domain.CertificateValid, 5),
			Certificate("1", "aaaaaaaaaaaab", domain.CertificateRevoked, 131072),
			Certificate("1", "aaaaaaaaaaaac", domain.CertificateSuspended, 7)),
		PutBatch("2", "police", Certificate("2", "d", domain.CertificateRevoked, 0)),
		PutBatch("3", "civil", Certificate("3", "e", domain.CertificateRevoked, 9)),
		PutBatch("4", "police", Certificate("4", "f", domain.CertificateWithdrawn, 131071)),
	), c.Add(
		PutBatch("5", "police",
			Certificate("5", "aaaaaaaaaaaaa", domain.CertificateSuspended, 5),
			Certificate("1", "aaaaaaaaaaaab", domain.CertificateRevoked, 131072),
			Certificate("5", "aaaaaaaaaaaac", domain.CertificateValid, 7)),
	))
	ended := []domain.CertificateStatus{domain.CertificateRevoked, domain.CertificateWithdrawn}
	for _, test := range []struct {
		name     string
		issuer   domain.DepartmentCode
		states   []domain.CertificateStatus
		from, to int
		want     string
	}{
		{"one list", "police", ended, 0, 131072, "[0 131071]"},
		{"the next", "police", ended, 131072, 262144, "[131072]"},
		{"bounds", "police", ended, 1, 131071, "[]"},
		{"the state of now", "police", []domain.CertificateStatus{domain.CertificateSuspended}, 0, 131072, "[5]"},
		{"another issuer", "civil", ended, 0, 131072, "[9]"},
		{"unknown issuer", "nobody", ended, 0, 131072, "[]"},
		{"no states", "police", nil, 0, 131072, "[]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := x.StatusIndexes(t.Context(), test.issuer, test.states, test.from, test.to)
			if err != nil || fmt.Sprint(got) != test.want {
				t.Errorf("StatusIndexes = %v, %v, want %s", got, err, test.want)
			}
		})
	}
}

func testPages(t *testing.T, x index.Index) {
	apply(t, x, Blocks(30, 40)...)
	for _, kind := range append(written(), domain.KindCertificate) {
		all := list(t, x, kind, index.Filter{}, 200)
		if len(all) == 0 {
			t.Fatalf("the chain has no %s", kind)
		}
		if !slices.IsSortedFunc(all, func(a, b index.Record) int { return strings.Compare(a.ID, b.ID) }) {
			t.Errorf("List(%s) is not in order of ID", kind)
		}
		for _, limit := range []int{1, 7} {
			if diff := cmp.Diff(all, list(t, x, kind, index.Filter{}, limit)); diff != "" {
				t.Errorf("List(%s), %d at a time, differs from one page (-page +pages):\n%s", kind, limit, diff)
			}
		}
		h := history(t, x, kind, all[0].ID, 200)
		if diff := cmp.Diff(h, history(t, x, kind, all[0].ID, 1)); diff != "" {
			t.Errorf("History(%s %s), one at a time, differs (-page +pages):\n%s", kind, all[0].ID, diff)
		}
	}
}

func testPagesGrow(t *testing.T, x index.Index) {
	var c Chain
	v := []byte(`{}`)
	apply(t, x, c.Add(Put("cal~b", v), Put("cal~d", v), Put("cal~f", v)))
	page, err := x.List(t.Context(), domain.KindCalendar, index.Filter{}, index.Page{Limit: 2})
	if err != nil || ids(page.Items) != "b d" {
		t.Fatalf("first page = %v, %v", page, err)
	}
	histories, err := x.History(t.Context(), domain.KindCalendar, "b", index.Page{Limit: 1})
	if err != nil || histories.Next != "" {
		t.Fatalf("History = %v, %v, want one item", histories, err)
	}
	apply(t, x, c.Add(Put("cal~a", v), Put("cal~e", v), Put("cal~b", v)))
	page, err = x.List(t.Context(), domain.KindCalendar, index.Filter{}, index.Page{Limit: 2, After: page.Next})
	if err != nil || ids(page.Items) != "e f" || page.Next != "" {
		t.Errorf("second page = %v, %v, want e and f", page, err)
	}
	newest, next, err := x.Blocks(t.Context(), index.Page{Limit: 1})
	if err != nil || newest[0].Number != 1 {
		t.Fatalf("Blocks = %v, %v", newest, err)
	}
	apply(t, x, c.Add())
	if rest, _, err := x.Blocks(t.Context(), index.Page{Limit: 5, After: next}); err != nil || len(rest) != 1 || rest[0].Number != 0 {
		t.Errorf("Blocks after block 1 = %v, %v, want block 0", rest, err)
	}
	if err := x.ApplyAccess(t.Context(), Access(0, 10)); err != nil {
		t.Fatal(err)
	}
	trace, err := x.Trace(t.Context(), index.AccessFilter{}, index.Page{Limit: 4})
	if err != nil || len(trace.Items) != 4 || trace.Items[3].Index != 6 {
		t.Fatalf("Trace = %v, %v", trace, err)
	}
	if err := x.ApplyAccess(t.Context(), Access(10, 5)); err != nil {
		t.Fatal(err)
	}
	trace, err = x.Trace(t.Context(), index.AccessFilter{}, index.Page{Limit: 4, After: trace.Next})
	if err != nil || len(trace.Items) != 4 || trace.Items[0].Index != 5 {
		t.Errorf("Trace after index 6 = %v, %v, want 5 to 2", trace, err)
	}
}

func testBadPages(t *testing.T, x index.Index) {
	var c Chain
	v := []byte(`{}`)
	now := Epoch.AddDate(1, 0, 0)
	entry := domain.CatalogEntry{Provider: "civil", State: domain.CatalogDraft, Content: domain.CatalogContent{Name: "登记"}, Update: &domain.Clock{DueAt: Epoch}}
	apply(t, x, c.Add(Put("cal~a", v), Put("cal~b", v), Put("cal~a", v), Put("cat~c", entry, "cat~d", entry, "catv~c~1", v, "catv~c~2", v)), c.Add())
	if err := x.ApplyAccess(t.Context(), Access(0, 3)); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	calls := map[string]func(index.Page) (string, error){
		"List": func(p index.Page) (string, error) {
			r, err := x.List(ctx, domain.KindCalendar, index.Filter{}, p)
			return r.Next, err
		},
		"History": func(p index.Page) (string, error) {
			r, err := x.History(ctx, domain.KindCalendar, "a", p)
			return r.Next, err
		},
		"List by words": func(p index.Page) (string, error) {
			r, err := x.List(ctx, domain.KindCatalogEntry, index.Filter{Text: "登记"}, p)
			return r.Next, err
		},
		"List of the overdue": func(p index.Page) (string, error) {
			r, err := x.List(ctx, domain.KindCatalogEntry, index.Filter{Overdue: &now}, p)
			return r.Next, err
		},
		"List of changes": func(p index.Page) (string, error) {
			r, err := x.List(ctx, domain.KindCatalogEntry, index.Filter{ChangedSince: Epoch}, p)
			return r.Next, err
		},
		"ListEvents": func(p index.Page) (string, error) {
			r, err := x.ListEvents(ctx, domain.KindCatalogVersion, "c", p)
			return r.Next, err
		},
		"Inbox": func(p index.Page) (string, error) {
			r, err := x.Inbox(ctx, index.InboxFilter{Department: "civil"}, p)
			return r.Next, err
		},
		"Blocks": func(p index.Page) (string, error) {
			_, next, err := x.Blocks(ctx, p)
			return next, err
		},
		"Trace": func(p index.Page) (string, error) {
			r, err := x.Trace(ctx, index.AccessFilter{}, p)
			return r.Next, err
		},
	}
	cursors := map[string]string{}
	for name, call := range calls {
		next, err := call(index.Page{Limit: 1})
		if err != nil || next == "" {
			t.Fatalf("%s: next = %q, %v, want a cursor", name, next, err)
		}
		cursors[name] = next
	}
	for name, call := range calls {
		for _, limit := range []int{-1, 0, 201} {
			_, err := call(index.Page{Limit: limit})
			wantKind(t, fmt.Sprintf("%s, limit %d", name, limit), err, domain.Invalid)
		}
		good := cursors[name]
		bad := []string{
			" ", "%", "\x00", "A", "AAAA", good + "A", good + "=", good[1:], "' OR 1=1", strings.Repeat("A", 10000),
			base64.RawURLEncoding.EncodeToString([]byte("-1")), base64.RawURLEncoding.EncodeToString(nil) + "=",
		}
		for other, cursor := range cursors {
			if other != name {
				bad = append(bad, cursor)
			}
		}
		for _, cursor := range bad {
			_, err := call(index.Page{Limit: 1, After: cursor})
			wantKind(t, fmt.Sprintf("%s, cursor %.40q", name, cursor), err, domain.Invalid)
		}
	}
}

func testUnreadable(t *testing.T, x index.Index) {
	values := map[string][]byte{
		"none": nil, "empty": {}, "zeros": make([]byte, 100), "cut": []byte(`{"provider":"civil","state":`),
		"array": []byte(`[1,2]`), "text": []byte(`"civil"`), "null": []byte(`null`),
		"types": []byte(`{"provider":{"a":1},"state":7,"content":"x","grantId":[]}`), "deep": []byte(strings.Repeat(`{"content":`, 20000)),
		"not UTF-8": []byte("{\"provider\":\"\xff\xfe\"}"), "nul": []byte(`{"content":{"name":"\u0000'\"%_"}}`), "long": []byte(`{"state":"` + strings.Repeat("x", 1<<20) + `"}`),
	}
	var c Chain
	for _, kind := range written() {
		for name, value := range values {
			apply(t, x, c.Add(domain.Transaction{Writes: []domain.Write{{Key: domain.KeyOf(kind, name), Value: value}}}))
		}
	}
	for _, kind := range written() {
		if got := list(t, x, kind, index.Filter{}, 200); len(got) != len(values) {
			t.Errorf("List(%s) = %d records, want %d", kind, len(got), len(values))
		}
		for name, value := range values {
			if got, err := x.Get(t.Context(), kind, name); err != nil || string(got.Value) != string(value) {
				t.Errorf("Get(%s %s): %v, or not the value written", kind, name, err)
			}
		}
	}
	if got := ids(list(t, x, domain.KindCatalogEntry, index.Filter{Department: "civil"}, 200)); got != "" {
		t.Errorf("records that cannot be read are listed under a department: %s", got)
	}
}

func testDeletion(t *testing.T, x index.Index) {
	var c Chain
	v := []byte(`{"issuer":"civil"}`)
	apply(t, x, c.Add(Put("cal~a", v)), c.Add(Put("cal~a", nil)))
	_, err := x.Get(t.Context(), domain.KindCalendar, "a")
	wantKind(t, "Get of a deleted record", err, domain.NotFound)
	if got := history(t, x, domain.KindCalendar, "a", 1); len(got) != 2 || got[1].Value != nil {
		t.Errorf("History = %v, want the write and the deletion", got)
	}
	apply(t, x, c.Add(Put("cal~a", v)))
	if _, err := x.Get(t.Context(), domain.KindCalendar, "a"); err != nil {
		t.Errorf("Get of a record written again: %v", err)
	}
}

func testWait(t *testing.T, x index.Index) {
	blocks := Blocks(3, 1)
	apply(t, x, blocks[0])
	if err := x.WaitBlock(t.Context(), 0); err != nil {
		t.Errorf("WaitBlock(0): %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := x.WaitBlock(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("WaitBlock with an ended context = %v", err)
	}
	done := make(chan error)
	for range 3 {
		go func() { done <- x.WaitBlock(t.Context(), 2) }()
	}
	apply(t, x, blocks[1])
	select {
	case err := <-done:
		t.Fatalf("WaitBlock(2) returned %v after block 1", err)
	default:
	}
	apply(t, x, blocks[2])
	for range 3 {
		if err := <-done; err != nil {
			t.Errorf("WaitBlock(2): %v", err)
		}
	}
}

func testAccessOrder(t *testing.T, x index.Index) {
	if err := x.ApplyAccess(t.Context(), nil); err != nil {
		t.Errorf("ApplyAccess of nothing: %v", err)
	}
	if err := x.ApplyAccess(t.Context(), Access(1, 2)); err == nil {
		t.Error("ApplyAccess from index 1 on an empty index succeeded")
	}
	if err := x.ApplyAccess(t.Context(), Access(0, 5)); err != nil {
		t.Fatalf("ApplyAccess: %v", err)
	}
	if err := x.ApplyAccess(t.Context(), Access(0, 5)); err == nil {
		t.Error("ApplyAccess of the same records twice succeeded")
	}
	gap := append(Access(5, 2), Access(8, 1)...)
	if err := x.ApplyAccess(t.Context(), gap); err == nil {
		t.Error("ApplyAccess with a gap succeeded")
	}
	wantNumber(t, "NextAccess", x.NextAccess, 5)
	if got := trace(t, x, index.AccessFilter{}, 200); len(got) != 5 {
		t.Errorf("Trace = %d records, want 5: a refused batch must leave nothing", len(got))
	}
}

func testTrace(t *testing.T, x index.Index) {
	all := Access(0, 2200) // more than an adapter may keep together
	for from := 0; from < len(all); from += 100 {
		if err := x.ApplyAccess(t.Context(), all[from:from+100]); err != nil {
			t.Fatalf("ApplyAccess: %v", err)
		}
	}
	r := all[120].Record // has a case and a subject
	if r.CaseRef == "" || r.SubjectRef == "" {
		t.Fatal("record 120 was to have a case and a subject")
	}
	filters := map[string]index.AccessFilter{
		"all":                 {},
		"catalog":             {CatalogCode: r.CatalogCode},
		"grant":               {GrantID: r.GrantID},
		"provider":            {Department: r.Provider},
		"consumer":            {Department: r.Consumer},
		"purpose":             {Purpose: r.Purpose},
		"service item":        {ServiceItem: r.ServiceItem},
		"case":                {CaseRef: r.CaseRef},
		"subject":             {SubjectRef: r.SubjectRef},
		"call":                {CallID: r.CallID},
		"from":                {From: r.At},
		"to":                  {To: r.At},
		"span":                {From: Epoch.Add(time.Minute), To: Epoch.Add(3 * time.Minute)},
		"span before all":     {To: Epoch.Add(-2 * time.Hour)},
		"span in local time":  {From: r.At.In(time.FixedZone("CST", 8*3600))},
		"department and span": {Department: "civil", From: Epoch.Add(time.Minute), To: Epoch.Add(5 * time.Minute)}, "late span": {From: Epoch.Add(30 * time.Minute), To: Epoch.Add(33 * time.Minute), Department: "police"},
		"grant and provider": {GrantID: r.GrantID, Department: r.Provider},
		"grant and purpose":  {GrantID: r.GrantID, Purpose: r.Purpose},
		"everything":         {CatalogCode: r.CatalogCode, GrantID: r.GrantID, Department: r.Consumer, Purpose: r.Purpose, ServiceItem: r.ServiceItem, CaseRef: r.CaseRef, SubjectRef: r.SubjectRef, CallID: r.CallID, From: r.At, To: r.At.Add(time.Second)},
		"nothing":            {CallID: "' OR 1=1 --"},
	}
	for name, filter := range filters {
		t.Run(name, func(t *testing.T) {
			var want []index.AccessEntry
			for i := len(all) - 1; i >= 0; i-- {
				if matches(all[i].Record, filter) {
					want = append(want, all[i])
				}
			}
			if (len(want) == 0) != (name == "nothing" || name == "span before all") {
				t.Fatalf("the filter matches %d records: the test would not tell", len(want))
			}
			for _, limit := range []int{37, 200} {
				if diff := cmp.Diff(want, trace(t, x, filter, limit)); diff != "" {
					t.Errorf("Trace, %d at a time (-want +got):\n%s", limit, diff)
				}
			}
		})
	}
}

// matches is the plain reading of an access filter.
func matches(r domain.AccessRecord, f index.AccessFilter) bool {
	is := func(want, got string) bool { return want == "" || want == got }
	return is(f.CatalogCode, r.CatalogCode) && is(f.GrantID, r.GrantID) && is(f.Purpose, r.Purpose) && is(f.ServiceItem, r.ServiceItem) &&
		is(f.CaseRef, r.CaseRef) && is(f.SubjectRef, r.SubjectRef) && is(f.CallID, r.CallID) &&
		(is(string(f.Department), string(r.Provider)) || is(string(f.Department), string(r.Consumer))) &&
		(f.From.IsZero() || !r.At.Before(f.From)) && (f.To.IsZero() || r.At.Before(f.To))
}

func testGrantUse(t *testing.T, x index.Index) {
	all := Access(0, 9000) // two and a half hours
	if err := x.ApplyAccess(t.Context(), all[:5000]); err != nil {
		t.Fatal(err)
	}
	if err := x.ApplyAccess(t.Context(), all[5000:]); err != nil {
		t.Fatal(err)
	}
	grants := []string{all[1].Record.GrantID, all[12].Record.GrantID, "none"}
	for _, grant := range grants {
		for _, direction := range []domain.Direction{domain.DirectionProvider, domain.DirectionConsumer} {
			since := map[string]time.Time{
				"always": {}, "whole hour": Epoch.Add(time.Hour), "within an hour": Epoch.Add(80 * time.Minute), "within a minute": Epoch.Add(80*time.Minute + 13*time.Second),
				"a nanosecond later": Epoch.Add(time.Hour + 1), "last minute": Epoch.Add(9000*time.Second - time.Minute), "future": Epoch.Add(24 * time.Hour),
				"before 1970": time.Date(1900, 1, 1, 0, 30, 0, 0, time.UTC),
			}
			count := func(since time.Time) (n int64) {
				for _, e := range all {
					if r := e.Record; r.GrantID == grant && r.Direction == direction && r.Result == "ok" && !r.At.Before(since.Truncate(time.Microsecond)) {
						n++
					}
				}
				return n
			}
			for name, day := range since {
				for minuteName, minute := range since {
					want := [3]int64{count(since["always"]), count(day), count(minute)}
					total, today, recent, err := x.GrantUse(t.Context(), grant, direction, day, minute)
					if got := [3]int64{total, today, recent}; err != nil || got != want {
						t.Errorf("GrantUse(%.6s, %s, %s, %s) = %d, %v, want %d", grant, direction, name, minuteName, got, err, want)
					}
				}
			}
		}
	}
}

func testGrantCounts(t *testing.T, x index.Index) {
	all := Access(0, 300)
	if err := x.ApplyAccess(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	for _, span := range [][2]uint64{{0, 300}, {0, 0}, {300, 300}, {17, 18}, {50, 120}, {299, 300}} {
		counts := map[string]int64{}
		for _, e := range all[span[0]:span[1]] {
			counts[e.Record.GrantID]++
		}
		var want []domain.GrantCount
		for grant, n := range counts {
			want = append(want, domain.GrantCount{GrantID: grant, Count: n})
		}
		slices.SortFunc(want, func(a, b domain.GrantCount) int { return strings.Compare(a.GrantID, b.GrantID) })
		got, err := x.GrantCounts(t.Context(), span[0], span[1])
		if err != nil {
			t.Fatalf("GrantCounts(%v): %v", span, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("GrantCounts(%v) (-want +got):\n%s", span, diff)
		}
	}
	if _, err := x.GrantCounts(t.Context(), 0, 301); err == nil {
		t.Error("GrantCounts beyond the records applied succeeded: an anchor would count too few")
	}
	_, err := x.GrantCounts(t.Context(), 2, 1)
	wantKind(t, "GrantCounts of a range turned round", err, domain.Invalid)
}

func testCancelled(t *testing.T, x index.Index) {
	blocks := Blocks(2, 5)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := x.ApplyBlock(ctx, blocks[0]); !errors.Is(err, context.Canceled) {
		t.Errorf("ApplyBlock with an ended context = %v", err)
	}
	if err := x.ApplyAccess(ctx, Access(0, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("ApplyAccess with an ended context = %v", err)
	}
	if _, err := x.List(ctx, domain.KindGrant, index.Filter{}, index.Page{Limit: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("List with an ended context = %v", err)
	}
	apply(t, x, blocks...)
	wantNumber(t, "NextBlock", x.NextBlock, 2)
}

func testConcurrent(t *testing.T, x index.Index) {
	blocks := Blocks(30, 10)
	apply(t, x, blocks[0])
	errs := make(chan error)
	for range 4 {
		go func() {
			errs <- func() error {
				for n := range uint64(len(blocks)) {
					if err := x.WaitBlock(t.Context(), n); err != nil {
						return err
					}
					b, err := x.Block(t.Context(), n)
					if err != nil {
						return err
					}
					if len(b.Transactions) != len(blocks[n].Transactions) {
						return fmt.Errorf("block %d read with %d of %d transactions", n, len(b.Transactions), len(blocks[n].Transactions))
					}
					if _, err := x.List(t.Context(), domain.KindCatalogEntry, index.Filter{Department: "civil"}, index.Page{Limit: 50}); err != nil {
						return err
					}
				}
				return nil
			}()
		}()
	}
	go func() {
		errs <- func() error {
			for n := range uint64(30) {
				if err := x.ApplyAccess(t.Context(), Access(n*10, 10)); err != nil {
					return err
				}
			}
			return nil
		}()
	}()
	apply(t, x, blocks[1:]...)
	for range 5 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func ids(records []index.Record) string {
	var out []string
	for _, r := range records {
		out = append(out, r.ID)
	}
	return strings.Join(out, " ")
}

// list reads all pages of a list.
func list(t *testing.T, x index.Index, kind domain.RecordKind, filter index.Filter, limit int) []index.Record {
	t.Helper()
	return all(t, limit, func(page index.Page) ([]index.Record, string, error) {
		r, err := x.List(t.Context(), kind, filter, page)
		return r.Items, r.Next, err
	})
}

func history(t *testing.T, x index.Index, kind domain.RecordKind, id string, limit int) []index.Record {
	t.Helper()
	return all(t, limit, func(page index.Page) ([]index.Record, string, error) {
		r, err := x.History(t.Context(), kind, id, page)
		return r.Items, r.Next, err
	})
}

func trace(t *testing.T, x index.Index, filter index.AccessFilter, limit int) []index.AccessEntry {
	t.Helper()
	return all(t, limit, func(page index.Page) ([]index.AccessEntry, string, error) {
		r, err := x.Trace(t.Context(), filter, page)
		return r.Items, r.Next, err
	})
}

func all[T any](t *testing.T, limit int, next func(index.Page) ([]T, string, error)) []T {
	t.Helper()
	var out []T
	for page := (index.Page{Limit: limit}); ; {
		items, cursor, err := next(page)
		if err != nil {
			t.Fatalf("read a page: %v", err)
		}
		if len(items) > limit || (len(items) == 0 && page.After != "") {
			t.Fatalf("a page of %d has %d items", limit, len(items))
		}
		out = append(out, items...)
		if cursor == "" {
			return out
		}
		page.After = cursor
	}
}
