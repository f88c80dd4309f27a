package service_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/service"
)

func TestCatalog(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	catalog := service.NewCatalog(w.ledger, w.index)
	lead := service.NewCatalog(w.chain.Ledger("bigdata"), w.index)

	registered, err := catalog.Register(ctx, policeOperator, content())
	if err != nil {
		t.Fatal(err)
	}
	if registered.Value.State != domain.CatalogRegPending || registered.Value.Provider != "police" || registered.Value.TxID != registered.TxID {
		t.Errorf("registered %+v", registered)
	}
	if _, err := catalog.Publish(ctx, policeOperator, entryCode); domain.KindOf(err) == "" {
		t.Errorf("publishing before review: error is %v, want a refusal", err)
	}
	if _, err := lead.Review(ctx, leadReviewer, domain.ReviewCatalogArgs{Code: entryCode, Decision: domain.Approve}); err != nil {
		t.Fatal(err)
	}
	published, err := catalog.Publish(ctx, policeOperator, entryCode)
	if err != nil {
		t.Fatal(err)
	}

	got, err := catalog.Get(ctx, entryCode) // reads its own write
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(published, got); diff != "" {
		t.Errorf("Get differs from what Publish answered (-published +got):\n%s", diff)
	}
	history, err := catalog.History(ctx, entryCode, index.Page{})
	if err != nil {
		t.Fatal(err)
	}
	var states []domain.CatalogState
	for _, h := range history.Items {
		states = append(states, h.Value.State)
	}
	if want := []domain.CatalogState{domain.CatalogRegPending, domain.CatalogRegistered, domain.CatalogPublished}; !cmp.Equal(states, want) {
		t.Errorf("history is %v, want %v", states, want)
	}
	_, err = catalog.Get(ctx, "307003/000018")
	wantKind(t, err, domain.NotFound, "")
	if _, err := catalog.Register(ctx, policeOperator, domain.CatalogContent{}); domain.KindOf(err) != domain.Invalid {
		t.Errorf("empty content: error is %v, want invalid", err)
	}
}

func TestCatalogList(t *testing.T) {
	w := newWorld(t)
	catalog := service.NewCatalog(w.ledger, w.index)
	for i := range 5 {
		c := content()
		c.Code = fmt.Sprintf("307003/00010%d", i)
		if _, err := catalog.Register(t.Context(), policeOperator, c); err != nil {
			t.Fatal(err)
		}
	}
	var codes []string
	page := index.Page{Limit: 2}
	for pages := 1; ; pages++ {
		l, err := catalog.List(t.Context(), index.Filter{Department: "police", Text: "户籍"}, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range l.Items {
			codes = append(codes, e.Value.Content.Code)
		}
		if page.After = l.Next; page.After == "" {
			if pages != 3 {
				t.Errorf("%d pages, want 3", pages)
			}
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
