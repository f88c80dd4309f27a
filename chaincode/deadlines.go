package chaincode

import (
	"strconv"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

// starts lists the transactions that count working days, each with the time
// limits that it may start.
var starts = map[string][]domain.DeadlineEvent{
	"catalog:Register":        {domain.DeadlineCatalogReview},
	"catalog:RegisterBatch":   {domain.DeadlineCatalogReview},
	"catalog:Submit":          {domain.DeadlineCatalogReview},
	"catalog:Publish":         {domain.DeadlineCatalogReview},
	"catalog:PublishBatch":    {domain.DeadlineCatalogReview},
	"catalog:Change":          {domain.DeadlineCatalogReview},
	"catalog:Retire":          {domain.DeadlineCatalogReview},
	"catalog:Review":          {},
	"catalog:ReviewBatch":     {},
	"catalog:RequireUpdate":   {domain.DeadlineCatalogUpdate},
	"sharing:Request":         {domain.DeadlineRequestCheck},
	"sharing:Accept":          {domain.DeadlineRequestAnswer, domain.DeadlineRequestDelivery},
	"sharing:Supplement":      {},
	"sharing:Answer":          {domain.DeadlineRequestDelivery, domain.DeadlineRequestDispute},
	"sharing:Extend":          {},
	"sharing:DecideExtension": {},
	"sharing:Dispute":         {domain.DeadlineMediation},
	"sharing:Mediate":         {domain.DeadlineRequestAnswer},
	"sharing:Deliver":         {domain.DeadlineRequestConfirm},
	"sharing:Confirm":         {domain.DeadlineRequestDelivery},
}

// yearsAhead is how far a time limit reaches: 250 working days and as many by
// extension end in the second year after this one at the latest.
const yearsAhead = 2

// wantDeadlines asks for what [transaction.deadlines] needs without knowing the
// records.
func (t *transaction) wantDeadlines() {
	events, counts := starts[t.name]
	if !counts {
		return
	}
	for _, event := range events {
		t.want(domain.KindRule, string(event))
	}
	this := yearOf(t.tx.Time)
	for year := this; year <= this+yearsAhead; year++ {
		t.want(domain.KindCalendar, strconv.Itoa(year))
	}
}

// deadlines are the rules that the transaction may need and the calendars from
// the start of the earliest running time limit on. What is not recorded is left
// out: the rules of package domain say so when they miss it.
func (t *transaction) deadlines(running []*domain.Clock) (d domain.Deadlines, err error) {
	events, counts := starts[t.name]
	if !counts {
		return d, nil
	}
	for _, event := range events {
		rule, err := load[domain.DeadlineRule](t, domain.KindRule, string(event))
		if err != nil {
			return d, err
		}
		if rule != nil {
			d.Rules = append(d.Rules, *rule)
		}
	}
	this := yearOf(t.tx.Time)
	var years []string
	for year := firstYear(this, running); year <= this+yearsAhead; year++ {
		years = append(years, strconv.Itoa(year))
	}
	calendars, err := loadAll[domain.Calendar](t, domain.KindCalendar, years)
	if err != nil {
		return d, err
	}
	for _, c := range calendars {
		if c != nil {
			d.Calendars = append(d.Calendars, *c)
		}
	}
	return d, nil
}

// firstYear is the earliest year in which a running time limit started.
func firstYear(this int, running []*domain.Clock) int {
	first := this
	for _, c := range running {
		if c != nil {
			first = min(first, yearOf(c.StartedAt))
		}
	}
	return first
}

// yearOf is the year of t in Asia/Shanghai, whose days time limits count.
func yearOf(t time.Time) int { return t.UTC().Add(8 * time.Hour).Year() }
