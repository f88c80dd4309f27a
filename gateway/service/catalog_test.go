package service_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/interchange"
	"github.com/zhenglian/zhenglian/gateway/service"
)

// TestCatalog leads one entry through every state but those of a return.
func TestCatalog(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	catalog := w.catalog("police")

	draft, err := catalog.Register(ctx, policeOperator, domain.RegisterCatalogArgs{Content: content(), Draft: true})
	if err != nil {
		t.Fatal(err)
	}
	if draft.Value.State != domain.CatalogDraft || draft.Value.Provider != "police" || draft.Value.TxID != draft.TxID {
		t.Errorf("registered %+v", draft)
	}
	_, err = catalog.Publish(ctx, policeOperator, entryCode)
	wantKind(t, err, domain.WrongState, "")
	if got := domain.StateOf(err); got != string(domain.CatalogDraft) {
		t.Errorf("the refusal names the state %q, want draft", got)
	}
	submitted, err := catalog.Submit(ctx, policeOperator, entryCode)
	if err != nil || submitted.Value.Review == nil {
		t.Fatalf("Submit answers %+v, %v", submitted.Value, err)
	}
	w.approve(entryCode)
	if _, err := catalog.Publish(ctx, policeOperator, entryCode); err != nil {
		t.Fatal(err)
	}
	w.approve(entryCode)
	if _, err := catalog.RequireUpdate(ctx, policeOperator, domain.RequireUpdateArgs{Code: entryCode, Reason: "职责划转"}); err != nil {
		t.Fatal(err)
	}
	changed := content()
	changed.UpdateCycle = "weekly"
	if _, err := catalog.Change(ctx, policeOperator, domain.ChangeCatalogArgs{Content: changed}); err != nil {
		t.Fatal(err)
	}
	w.approve(entryCode)
	if _, err := catalog.Retire(ctx, policeOperator, domain.RetireCatalogArgs{Code: entryCode, Way: domain.TakeOffline, Reason: "系统停用"}); err != nil {
		t.Fatal(err)
	}
	w.approve(entryCode)
	retired, err := catalog.Retire(ctx, policeOperator, domain.RetireCatalogArgs{Code: entryCode, Way: domain.Withdraw, Reason: "系统停用"})
	if err != nil {
		t.Fatal(err)
	}

	got, err := catalog.Get(ctx, entryCode) // reads its own write
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(retired, got); diff != "" {
		t.Errorf("Get differs from what Retire answered (-retired +got):\n%s", diff)
	}
	_, err = catalog.Get(ctx, "307003/000018")
	wantKind(t, err, domain.NotFound, "")
	_, err = catalog.Register(ctx, policeOperator, domain.RegisterCatalogArgs{})
	wantKind(t, err, domain.Invalid, "content.name")
}

// TestCatalogReviewedByPeer has what the lead itself provides reviewed by any
// other department, and by no other one's.
func TestCatalogReviewedByPeer(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	own := content()
	own.ProviderUSCC = usccs["bigdata"]
	if _, err := w.catalog("bigdata").Register(ctx, leadOperator, domain.RegisterCatalogArgs{Content: own}); err != nil {
		t.Fatal(err)
	}
	review := domain.ReviewCatalogArgs{Code: entryCode, Decision: domain.Approve}
	_, err := w.catalog("bigdata").Review(ctx, leadReviewer, review)
	wantKind(t, err, domain.Forbidden, "")
	reviewed, err := w.catalog("market").Review(ctx, marketReviewer, review)
	if err != nil || reviewed.Value.State != domain.CatalogRegistered {
		t.Errorf("a peer's review answers %+v, %v", reviewed.Value, err)
	}
	w2 := newWorld(t)
	if _, err := w2.catalog("police").Register(ctx, policeOperator, domain.RegisterCatalogArgs{Content: content()}); err != nil {
		t.Fatal(err)
	}
	_, err = w2.catalog("market").Review(ctx, marketReviewer, review)
	wantKind(t, err, domain.Forbidden, "")
}

func TestCatalogBatches(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	police := w.catalog("police")
	all := contents(5)
	var codes []string
	for _, c := range all {
		codes = append(codes, c.Code)
	}
	registered, err := police.RegisterBatch(ctx, policeOperator, domain.RegisterBatchArgs{Contents: all})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(codes, registered.Value.Codes); diff != "" || registered.Value.State != domain.CatalogRegPending || len(registered.Value.Digest) != 64 {
		t.Errorf("RegisterBatch answers %+v", registered)
	}
	for _, code := range codes {
		e, err := police.Get(ctx, code)
		if err != nil || e.TxID != registered.TxID {
			t.Errorf("%s: %+v, %v; want it written by %s", code, e.Position, err, registered.TxID)
		}
	}
	lead := w.catalog("bigdata")
	reviewed, err := lead.ReviewBatch(ctx, leadReviewer, domain.ReviewBatchArgs{Codes: codes, Decision: domain.Approve})
	if err != nil || reviewed.Value.State != domain.CatalogRegistered {
		t.Errorf("ReviewBatch answers %+v, %v", reviewed, err)
	}
	published, err := police.PublishBatch(ctx, policeOperator, domain.CodesArgs{Codes: codes})
	if err != nil || published.Value.State != domain.CatalogPubPending {
		t.Errorf("PublishBatch answers %+v, %v", published, err)
	}

	// One entry that cannot be keeps all others from it.
	mixed := append(contents(7)[5:], content())
	mixed[2].Name = all[0].Name + "。" // the same but for punctuation
	_, err = police.RegisterBatch(ctx, policeOperator, domain.RegisterBatchArgs{Contents: mixed})
	wantKind(t, err, domain.Invalid, "contents[2].name")
	if _, err := police.Get(ctx, mixed[0].Code); domain.KindOf(err) != domain.NotFound {
		t.Errorf("an entry of a refused batch: %v, want not_found", err)
	}
	_, err = lead.ReviewBatch(ctx, leadReviewer, domain.ReviewBatchArgs{Codes: []string{codes[0], mixed[0].Code}, Decision: domain.Approve})
	wantKind(t, err, domain.NotFound, mixed[0].Code)
	if e, err := police.Get(ctx, codes[0]); err != nil || e.Value.State != domain.CatalogPubPending {
		t.Errorf("an entry of a refused review is %s, %v", e.Value.State, err)
	}
	_, err = police.RegisterBatch(ctx, policeOperator, domain.RegisterBatchArgs{})
	wantKind(t, err, domain.Invalid, "contents")
}

func TestCatalogMarkOverdue(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	catalog := w.catalog("police")
	if _, err := catalog.Register(ctx, policeOperator, domain.RegisterCatalogArgs{Content: content()}); err != nil {
		t.Fatal(err)
	}
	_, err := w.catalog("civil").MarkOverdue(ctx, civilOperator, entryCode)
	wantKind(t, err, domain.Invalid, "time limit")
	w.clock.Advance(3 * day)
	marked, err := w.catalog("civil").MarkOverdue(ctx, civilOperator, entryCode)
	if err != nil || marked.Value.Review.OverdueAt == nil {
		t.Fatalf("MarkOverdue answers %+v, %v", marked.Value, err)
	}
	_, err = w.catalog("civil").MarkOverdue(ctx, civilOperator, entryCode)
	wantKind(t, err, domain.Invalid, "")
}

func TestCatalogValidate(t *testing.T) {
	w := newWorld(t)
	w.publish()
	ctx := t.Context()
	catalog := w.catalog("civil") // anyone may try
	height := w.chain.Height()
	for _, tt := range []struct {
		name   string
		change func(c *domain.CatalogContent)
		kind   domain.Kind
		parts  []string
	}{
		{"published already", func(*domain.CatalogContent) {}, "", nil},
		{"another code", func(c *domain.CatalogContent) { c.Code, c.Name = "307003/000018", "居住证信息" }, "", nil},
		{"related to a recorded one", func(c *domain.CatalogContent) {
			c.Code, c.Name, c.RelatedCodes = "307003/000018", "居住证信息", []string{entryCode}
		}, "", nil},
		{"everything at once", func(c *domain.CatalogContent) {
			c.Code, c.Name, c.RelatedCodes, c.SystemRef = "307003/000018", "户籍 信息", []string{"307003/009999"}, ""
		}, domain.Invalid, []string{"content.name: ", "content.relatedCodes[0]: not recorded", "content.systemRef: required"}},
		{"nobody's provider code", func(c *domain.CatalogContent) { c.ProviderUSCC = "11100000MB03271699" }, domain.Invalid, []string{"content.providerUscc"}},
		{"another department's code", func(c *domain.CatalogContent) { c.ProviderUSCC, c.Name = usccs["civil"], "婚姻登记" }, domain.Exists, []string{"another department"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := content()
			tt.change(&c)
			err := catalog.Validate(ctx, c)
			if tt.kind == "" && err != nil {
				t.Errorf("Validate = %v, want nothing to refuse", err)
			}
			for _, part := range tt.parts {
				wantKind(t, err, tt.kind, part)
			}
		})
	}
	if got := w.chain.Height(); got != height {
		t.Errorf("%d blocks were written", got-height)
	}
}

func TestCatalogHistory(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	catalog := w.catalog("police")
	if _, err := catalog.Register(ctx, policeOperator, domain.RegisterCatalogArgs{Content: content(), Draft: true}); err != nil {
		t.Fatal(err)
	}
	again := content()
	again.Abstract = "常住人口的登记信息"
	w.publishContent(again)
	// A change is compared with the version in force, also after another change
	// was returned.
	for _, cycle := range []string{"weekly", "monthly"} {
		changed := again
		changed.UpdateCycle = cycle
		if _, err := catalog.Change(ctx, policeOperator, domain.ChangeCatalogArgs{Content: changed}); err != nil {
			t.Fatal(err)
		}
		review := domain.ReviewCatalogArgs{Code: entryCode, Decision: domain.Return, Opinion: "周期过长"}
		if _, err := w.catalog("bigdata").Review(ctx, leadReviewer, review); err != nil {
			t.Fatal(err)
		}
	}
	type step struct {
		Event   string
		Version int
		Changes []domain.FieldChange
	}
	want := []step{
		{"draft", 1, nil},
		{"submit", 2, []domain.FieldChange{{Field: "abstract", Before: `"常住人口登记信息"`, After: `"常住人口的登记信息"`}}},
		{"approve", 2, nil}, {"publish", 2, nil}, {"approve", 2, nil},
		{"change", 2, []domain.FieldChange{{Field: "updateCycle", Before: `"daily"`, After: `"weekly"`}}},
		{"return", 2, nil},
		{"change", 2, []domain.FieldChange{{Field: "updateCycle", Before: `"daily"`, After: `"monthly"`}}},
		{"return", 2, nil},
	}
	for _, limit := range []int{0, 1, 3} { // a page knows the step before its first
		var got []step
		page := index.Page{Limit: limit}
		for {
			h, err := catalog.History(ctx, entryCode, page)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range h.Items {
				got = append(got, step{s.Entry.Value.Event, s.Entry.Value.Version, s.Changes})
				if s.Entry.TxID != s.Entry.Value.TxID {
					t.Errorf("step %d stands at %s, was written by %s", s.Entry.Value.Seq, s.Entry.TxID, s.Entry.Value.TxID)
				}
			}
			if page.After = h.Next; page.After == "" {
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("in pages of %d (-want +got):\n%s", limit, diff)
		}
	}
	v, err := catalog.Version(ctx, entryCode, 4)
	if err != nil || v.Value.Content.UpdateCycle != "monthly" {
		t.Errorf("Version 4 is %+v, %v", v.Value, err)
	}
	_, err = catalog.Version(ctx, entryCode, 5)
	wantKind(t, err, domain.NotFound, "")
	_, err = catalog.History(ctx, "307003/000018", index.Page{})
	wantKind(t, err, domain.NotFound, "")
}

func TestCatalogList(t *testing.T) {
	w := newWorld(t)
	catalog := w.catalog("police")
	if _, err := catalog.RegisterBatch(t.Context(), policeOperator, domain.RegisterBatchArgs{Contents: contents(5)}); err != nil {
		t.Fatal(err)
	}
	var codes []string
	page := index.Page{Limit: 2}
	for {
		l, err := catalog.List(t.Context(), index.Filter{Department: "police", Text: "户籍"}, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range l.Items {
			codes = append(codes, e.Value.Content.Code)
		}
		if page.After = l.Next; page.After == "" {
			break
		}
	}
	if want := []string{"307003/000100", "307003/000101", "307003/000102", "307003/000103", "307003/000104"}; !cmp.Equal(codes, want) {
		t.Errorf("codes are %v, want %v", codes, want)
	}
	for _, limit := range []int{-1, 201} {
		_, err := catalog.List(t.Context(), index.Filter{}, index.Page{Limit: limit})
		wantKind(t, err, domain.Invalid, "limit")
		_, err = catalog.History(t.Context(), entryCode, index.Page{Limit: limit})
		wantKind(t, err, domain.Invalid, "limit")
	}
	_, err := catalog.List(t.Context(), index.Filter{}, index.Page{After: "nonsense"})
	wantKind(t, err, domain.Invalid, "")
}

// TestCatalogExport reads back what it exports.
func TestCatalogExport(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	catalog := w.catalog("police")
	catalog.PublicURL = "http://127.0.0.1:8082/"
	const entries = 203 // more than a page
	all := contents(entries)
	for _, part := range [][]domain.CatalogContent{all[:200], all[200:]} {
		if _, err := catalog.RegisterBatch(ctx, policeOperator, domain.RegisterBatchArgs{Contents: part}); err != nil {
			t.Fatal(err)
		}
	}
	for _, format := range []interchange.Format{interchange.CSV, interchange.DCATAP} {
		t.Run(string(format), func(t *testing.T) {
			var file bytes.Buffer
			if err := catalog.Export(ctx, string(format), &file, index.Filter{}); err != nil {
				t.Fatal(err)
			}
			if format == interchange.DCATAP {
				for _, part := range []string{`"http://127.0.0.1:8082/v1/catalog/entries/`, "部门police", "部门bigdata"} {
					if !strings.Contains(file.String(), part) {
						t.Errorf("the file does not say %s", part)
					}
				}
			}
			reader, err := interchange.NewReader(&file, format, "", interchange.Defaults{})
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for row, err := range reader.Rows() {
				if err != nil || len(row.Findings) > 0 {
					t.Fatalf("row %d: %v, %v", row.Number, err, row.Findings)
				}
				stored, err := catalog.Get(ctx, all[n].Code)
				if err != nil {
					t.Fatal(err)
				}
				got, err := domain.Canonical(row.Content)
				if err != nil {
					t.Fatal(err)
				}
				if domain.Digest(got) != stored.Value.ContentDigest {
					t.Fatalf("row %d reads back as %s, recorded is %+v", row.Number, got, stored.Value.Content)
				}
				n++
			}
			if n != entries {
				t.Errorf("%d entries, want %d", n, entries)
			}
		})
	}
	var none bytes.Buffer
	for _, format := range []string{"", "xml", "dcat-us"} {
		wantKind(t, catalog.Export(ctx, format, &none, index.Filter{}), domain.Invalid, "format")
	}
	if none.Len() != 0 {
		t.Errorf("%d bytes were written for a format that is not", none.Len())
	}
	broken := errors.New("connection reset")
	for _, format := range []string{"csv", "dcat-ap"} {
		if err := catalog.Export(ctx, format, failing{broken}, index.Filter{}); !errors.Is(err, broken) {
			t.Errorf("%s to a broken writer: %v, want %v", format, err, broken)
		}
		if err := catalog.Export(ctx, format, &none, index.Filter{State: "nonsense", Department: "police"}); err != nil {
			t.Errorf("%s of nothing: %v", format, err)
		}
	}
	// A failure of the index ends the file with the error.
	faulty := &faultyIndex{Index: w.index, err: broken}
	for _, format := range []string{"csv", "dcat-ap"} {
		if err := service.NewCatalog(w.ledger, faulty).Export(ctx, format, &none, index.Filter{}); !errors.Is(err, broken) {
			t.Errorf("%s from a broken index: %v, want %v", format, err, broken)
		}
	}
}

// failing is a writer that fails.
type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
