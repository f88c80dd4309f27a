package service_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/service"
)

// waits is an inbox item without where it stands.
type waits struct {
	Kind        domain.RecordKind
	ID, Title   string
	State       string
	Transaction string
	Overdue     bool
}

func (w *world) inbox(caller service.Caller, filter index.InboxFilter) []waits {
	w.t.Helper()
	var out []waits
	page := index.Page{Limit: 1} // the pages must fit together
	var due time.Time
	for {
		items, err := w.overview().Inbox(w.t.Context(), caller, filter, page)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, i := range items.Items {
			out = append(out, waits{i.Kind, i.ID, i.Title, i.State, i.Task.Transaction, i.Overdue})
			if i.Task.DueAt != nil {
				if i.Task.DueAt.Before(due) {
					w.t.Errorf("%s %s is due before the item above it", i.Kind, i.ID)
				}
				due = *i.Task.DueAt
			}
			if i.TxID == "" || i.Block == 0 {
				w.t.Errorf("%s %s has no position", i.Kind, i.ID)
			}
		}
		if page.After = items.Next; page.After == "" {
			return out
		}
	}
}

func TestInbox(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.accepted(grantID(1), domain.Quota{Total: 1, PerDay: 1})
	if _, err := w.catalog("police").RegisterBatch(ctx, policeOperator, domain.RegisterBatchArgs{Contents: contents(1)}); err != nil {
		t.Fatal(err)
	}
	drafted := contents(2)[1]
	if _, err := w.catalog("police").Register(ctx, policeOperator, domain.RegisterCatalogArgs{Content: drafted, Draft: true}); err != nil {
		t.Fatal(err)
	}
	own := content()
	own.Code, own.ProviderUSCC = "307003/000200", usccs["bigdata"]
	if _, err := w.catalog("bigdata").Register(ctx, leadOperator, domain.RegisterCatalogArgs{Content: own}); err != nil {
		t.Fatal(err)
	}
	toAnswer := waits{domain.KindRequest, grantID(1), "户籍信息", "accepted", "sharing:Answer", false}
	toReview := waits{domain.KindCatalogEntry, contents(1)[0].Code, contents(1)[0].Name, "reg_pending", "catalog:Review", false}
	peerReview := waits{domain.KindCatalogEntry, own.Code, own.Name, "reg_pending", "catalog:Review", false}
	toSubmit := waits{domain.KindCatalogEntry, drafted.Code, drafted.Name, "draft", "catalog:Submit", false}
	for _, tt := range []struct {
		name   string
		caller service.Caller
		filter index.InboxFilter
		want   []waits
	}{
		{"the provider", policeOperator, index.InboxFilter{}, []waits{peerReview, toAnswer, toSubmit}},
		{"its operators", policeAuditor, index.InboxFilter{Role: domain.RoleOperator}, []waits{toSubmit}},
		{"its reviewers", policeOperator, index.InboxFilter{Role: domain.RoleReviewer}, []waits{peerReview, toAnswer}},
		{"the lead", leadReviewer, index.InboxFilter{}, []waits{toReview}},
		{"another department", marketReviewer, index.InboxFilter{}, []waits{peerReview}},
		{"who and when are not for the caller to say", marketReviewer, index.InboxFilter{Department: "police", Lead: true, Now: w.clock.Now().Add(90 * day)}, []waits{peerReview}},
		{"nothing is overdue", policeOperator, index.InboxFilter{OverdueOnly: true}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, w.inbox(tt.caller, tt.filter)); diff != "" {
				t.Errorf("inbox (-want +got):\n%s", diff)
			}
		})
	}
	w.clock.Advance(4 * day)
	peerReview.Overdue = true
	if diff := cmp.Diff([]waits{peerReview}, w.inbox(policeOperator, index.InboxFilter{OverdueOnly: true})); diff != "" {
		t.Errorf("overdue after four days (-want +got):\n%s", diff)
	}

	_, err := w.overview().Inbox(ctx, service.Caller{Department: "police", Role: "visitor"}, index.InboxFilter{}, index.Page{})
	wantKind(t, err, domain.Forbidden, "rule: the inbox is for any role")
	_, err = w.overview().Inbox(ctx, policeOperator, index.InboxFilter{Role: "visitor"}, index.Page{})
	wantKind(t, err, domain.Invalid, "role")
	_, err = w.overview().Inbox(ctx, policeOperator, index.InboxFilter{}, index.Page{Limit: 201})
	wantKind(t, err, domain.Invalid, "limit")
}

// figures are the indicators' figures by code.
func (w *world) figures() map[string][2]int64 {
	w.t.Helper()
	all, err := w.overview().Indicators(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if all.Height != w.chain.Height() || !all.AsOf.Equal(w.clock.Now()) {
		w.t.Errorf("counted at %d blocks and %v, want %d and %v", all.Height, all.AsOf, w.chain.Height(), w.clock.Now())
	}
	out := make(map[string][2]int64)
	for _, i := range all.Items {
		out[i.Code] = [2]int64{i.Numerator, i.Denominator}
		for what, text := range map[string]string{
			"nameZh": i.NameZh, "nameEn": i.NameEn, "definition": i.Definition, "query": i.Query, "records": i.Records,
		} {
			if text == "" {
				w.t.Errorf("%s has no %s", i.Code, what)
			}
		}
		switch {
		case i.Unit == service.UnitCount:
			if i.Value == nil || *i.Value != float64(i.Numerator) {
				w.t.Errorf("%s is %v, want %d", i.Code, i.Value, i.Numerator)
			}
		case i.Denominator == 0:
			if i.Value != nil {
				w.t.Errorf("%s is %v of nothing", i.Code, *i.Value)
			}
		case i.Value == nil || *i.Value != float64(i.Numerator)/float64(i.Denominator):
			w.t.Errorf("%s is %v, want %d/%d", i.Code, i.Value, i.Numerator, i.Denominator)
		}
	}
	return out
}

func TestIndicators(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	want := map[string][2]int64{
		"demand_satisfied": {}, "answered_in_time": {}, "answer_workdays": {}, "requests_overdue": {}, "entries_overdue": {},
		"refused_without_basis": {}, "catalog_compliant": {}, "system_linked": {}, "grants_unused": {},
	}
	if diff := cmp.Diff(want, w.figures()); diff != "" {
		t.Errorf("before anything happened (-want +got):\n%s", diff)
	}

	// Of three requests one is agreed to on the day, one refused two working days
	// later, one not answered in time. An entry waits for its review.
	w.grant(grantID(1), domain.Quota{Total: 1, PerDay: 1})
	w.accepted(grantID(2), domain.Quota{Total: 1, PerDay: 1})
	w.accepted(grantID(3), domain.Quota{Total: 1, PerDay: 1})
	if _, err := w.catalog("police").RegisterBatch(ctx, policeOperator, domain.RegisterBatchArgs{Contents: contents(1)}); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(2 * day)
	if _, err := w.sharing("police").Answer(ctx, policeReviewer, answer(grantID(2), 1)); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(13 * day)
	want["demand_satisfied"] = [2]int64{1, 2}
	want["answered_in_time"] = [2]int64{2, 2}
	want["answer_workdays"] = [2]int64{2, 2}
	want["requests_overdue"] = [2]int64{1, 3}
	want["entries_overdue"] = [2]int64{1, 0}
	want["refused_without_basis"] = [2]int64{0, 1}
	want["catalog_compliant"] = [2]int64{1, 1}
	want["system_linked"] = [2]int64{1, 1}
	want["grants_unused"] = [2]int64{1, 1}
	if diff := cmp.Diff(want, w.figures()); diff != "" {
		t.Errorf("after three requests (-want +got):\n%s", diff)
	}

	all, err := w.overview().Indicators(ctx)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all.Items, func(i service.Indicator) bool { return i.Code == "answer_workdays" })
	if i < 0 || *all.Items[i].Value != 1 || all.Items[i].Unit != service.UnitWorkdays || all.Items[i].NameZh != "平均答复工作日" {
		t.Errorf("answer_workdays is %+v", all.Items)
	}
}
