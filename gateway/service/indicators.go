package service

import (
	"context"
	"fmt"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

// Unit is what an indicator is measured in.
type Unit string

// The units.
const (
	UnitRatio    Unit = "ratio"    // Numerator / Denominator, 0 to 1
	UnitWorkdays Unit = "workdays" // Numerator / Denominator, in working days
	UnitCount    Unit = "count"    // Numerator
)

// Indicator is one figure by which sharing is judged, with all that is needed to
// compute it again.
type Indicator struct {
	Code        string // stable, for example "demand_satisfied"
	NameZh      string
	NameEn      string
	Unit        Unit
	Value       *float64 // nil: nothing to count yet
	Numerator   int64
	Denominator int64  // of a count: those it is counted among; 0 when it has none
	Definition  string // what it says
	Query       string // how to recompute it from ledger records
	Records     string // path of the records that it counts
}

// Indicators are all indicators at one moment.
type Indicators struct {
	Items  []Indicator
	AsOf   time.Time
	Height uint64 // number of blocks they were counted at
}

// measures are the indicators and how each follows from a tally.
var measures = []struct {
	indicator Indicator
	count     func(index.Tally) (numerator, denominator int64)
}{
	{
		Indicator{
			Code: "demand_satisfied", NameZh: "共享需求满足率", NameEn: "share requests satisfied", Unit: UnitRatio,
			Definition: "Share requests agreed to, wholly or in part, among those decided.",
			Query:      "over request records: (decision agree or partly, or decision empty and grantId not empty) / (the same, or decision refuse)",
			Records:    "/v1/requests",
		},
		func(t index.Tally) (int64, int64) {
			satisfied := t.Agreed + t.PartlyAgreed
			return satisfied, satisfied + t.Refused
		},
	},
	{
		Indicator{
			Code: "answered_in_time", NameZh: "按时答复率", NameEn: "answers given in time", Unit: UnitRatio,
			Definition: "Provider's answers within their time limit among all answers.",
			Query:      "over request records with answeredAt: answeredLate false / all",
			Records:    "/v1/requests",
		},
		func(t index.Tally) (int64, int64) { return t.AnsweredInTime, t.AnsweredInTime + t.AnsweredLate },
	},
	{
		Indicator{
			Code: "answer_workdays", NameZh: "平均答复工作日", NameEn: "mean working days to answer", Unit: UnitWorkdays,
			Definition: "Working days from acceptance to answer, on average.",
			Query:      "over request records with answeredAt: sum of answeredIn / number",
			Records:    "/v1/requests",
		},
		func(t index.Tally) (int64, int64) { return t.AnsweredIn, t.AnsweredInTime + t.AnsweredLate },
	},
	{
		Indicator{
			Code: "requests_overdue", NameZh: "当前逾期数（共享申请）", NameEn: "share requests overdue now", Unit: UnitCount,
			Definition: "Share requests whose time limit runs and has passed.",
			Query:      "number of request records whose clock has stoppedAt null and dueAt not after asOf",
			Records:    "/v1/requests?overdue=true",
		},
		func(t index.Tally) (int64, int64) {
			requests, _ := overdue(t)
			return requests, t.Requests
		},
	},
	{
		Indicator{
			Code: "entries_overdue", NameZh: "当前逾期数（目录审核与更新）", NameEn: "catalog reviews and updates overdue now", Unit: UnitCount,
			Definition: "Reviews and updates of catalog entries whose time limit runs and has passed.",
			Query:      "number of clocks review and update of catalog records with stoppedAt null and dueAt not after asOf",
			Records:    "/v1/catalog/entries?overdue=true",
		},
		func(t index.Tally) (int64, int64) {
			_, entries := overdue(t)
			return entries, 0
		},
	},
	{
		Indicator{
			Code: "refused_without_basis", NameZh: "拒绝无依据数", NameEn: "refusals without legal basis", Unit: UnitCount,
			Definition: "Refused share requests without a legal basis. The rules refuse them, so it must be 0.",
			Query:      "number of request records with decision refuse and an empty legalBasis",
			Records:    "/v1/requests?state=refused",
		},
		func(t index.Tally) (int64, int64) { return t.RefusedWithoutBasis, t.Refused },
	},
	{
		Indicator{
			Code: "catalog_compliant", NameZh: "目录合规率", NameEn: "catalog entries that keep the rules", Unit: UnitRatio,
			Definition: "Public catalog entries whose content the rules of today accept.",
			Query:      "over catalog records in state published, change_pending or offline_pending: content that POST /v1/catalog/validate finds nothing wrong with by itself / all",
			Records:    "/v1/catalog/entries",
		},
		func(t index.Tally) (int64, int64) { return t.Compliant, t.Published },
	},
	{
		Indicator{
			Code: "system_linked", NameZh: "系统关联率", NameEn: "catalog entries linked to a system", Unit: UnitRatio,
			Definition: "Public catalog entries that name the information system they come from.",
			Query:      "over catalog records in state published, change_pending or offline_pending: systemRef not empty / all",
			Records:    "/v1/catalog/entries",
		},
		func(t index.Tally) (int64, int64) { return t.WithSystem, t.Published },
	},
	{
		Indicator{
			Code: "grants_unused", NameZh: "已授权未使用数", NameEn: "grants never used", Unit: UnitCount,
			Definition: "Grants in force that no department has logged an access under.",
			Query:      "number of grant records in state active with period.from <= asOf < period.to whose id is in counts of no anchor record",
			Records:    "/v1/grants?state=active",
		},
		func(t index.Tally) (int64, int64) { return t.GrantsUnused, t.GrantsActive },
	},
}

// overdue answers how many clocks of requests and of catalog entries are overdue.
func overdue(t index.Tally) (requests, entries int64) {
	for event, n := range t.Overdue {
		switch event {
		case domain.DeadlineCatalogReview, domain.DeadlineCatalogUpdate:
			entries += n
		case domain.DeadlineRequestCheck, domain.DeadlineRequestAnswer, domain.DeadlineRequestDelivery,
			domain.DeadlineRequestConfirm, domain.DeadlineRequestDispute, domain.DeadlineMediation:
			requests += n
		}
	}
	return requests, entries
}

// Indicators answers every indicator as of now, from the index.
func (o *Overview) Indicators(ctx context.Context) (Indicators, error) {
	now := o.clock().UTC().Truncate(time.Millisecond)
	tally, err := o.index.Tally(ctx, now)
	if err != nil {
		return Indicators{}, fmt.Errorf("count for the indicators: %w", err)
	}
	out := Indicators{Items: make([]Indicator, len(measures)), AsOf: now, Height: tally.Blocks}
	for i, m := range measures {
		item := m.indicator
		item.Numerator, item.Denominator = m.count(tally)
		item.Value = value(item)
		out.Items[i] = item
	}
	return out, nil
}

// value computes an indicator's value.
func value(i Indicator) *float64 {
	v := float64(i.Numerator)
	if i.Unit != UnitCount {
		if i.Denominator == 0 {
			return nil
		}
		v /= float64(i.Denominator)
	}
	return &v
}
