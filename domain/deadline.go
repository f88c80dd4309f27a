package domain

import (
	"fmt"
	"slices"
	"time"
)

// DeadlineEvent names what starts a time limit 时限.
type DeadlineEvent string

// The events. What the limits are and which law sets them is data: see
// [DeadlineRule].
const (
	DeadlineCatalogReview   DeadlineEvent = "catalog_review"   // the lead reviews what was submitted
	DeadlineCatalogUpdate   DeadlineEvent = "catalog_update"   // the provider updates its entry after a change of duties 职责变化
	DeadlineRequestCheck    DeadlineEvent = "request_check"    // the lead checks a request 合规性审核
	DeadlineRequestAnswer   DeadlineEvent = "request_answer"   // the provider answers a conditional request 答复
	DeadlineRequestDelivery DeadlineEvent = "request_delivery" // the provider delivers what it agreed to 提供
	DeadlineRequestConfirm  DeadlineEvent = "request_confirm"  // the consumer confirms the delivery 确认
	DeadlineRequestDispute  DeadlineEvent = "request_dispute"  // the consumer may dispute a refusal 提出争议
	DeadlineMediation       DeadlineEvent = "mediation"        // the lead decides a dispute 协调
)

// DeadlineEvents lists every DeadlineEvent.
var DeadlineEvents = []DeadlineEvent{
	DeadlineCatalogReview, DeadlineCatalogUpdate, DeadlineRequestCheck, DeadlineRequestAnswer,
	DeadlineRequestDelivery, DeadlineRequestConfirm, DeadlineRequestDispute, DeadlineMediation,
}

// ExtensionConsent says who must consent to an extension 延期.
type ExtensionConsent string

// The consents.
const (
	ExtendByLead ExtensionConsent = "lead" // the lead consents
	ExtendAlone  ExtensionConsent = "none" // the provider extends by itself
)

// DeadlineRule is one time limit with its legal basis, set by the lead.
type DeadlineRule struct {
	Meta
	Event      DeadlineEvent    `json:"event"` // the rule's id
	Version    int              `json:"version"`
	Limit      int              `json:"limit"`      // working days
	ExtendMax  int              `json:"extendMax"`  // working days that one extension may add; 0: none
	ExtendWith ExtensionConsent `json:"extendWith"` // whose consent an extension needs
	LegalBasis string           `json:"legalBasis"` // 依据
}

// SetRuleArgs are the argument of governance:SetRule. Setting an event's rule
// again makes a new version; time limits that run keep theirs.
type SetRuleArgs struct {
	Event      DeadlineEvent    `json:"event"`
	Limit      int              `json:"limit"`     // 1 to 250
	ExtendMax  int              `json:"extendMax"` // 0 to 250
	ExtendWith ExtensionConsent `json:"extendWith"`
	LegalBasis string           `json:"legalBasis"`
}

// Clock is a time limit that runs, or ran last, on a record: computed once with
// the rule and the calendars of that moment and stored. Whether it has passed is
// evaluated when it is read.
type Clock struct {
	Event       DeadlineEvent    `json:"event"`
	RuleVersion int              `json:"ruleVersion"`
	LegalBasis  string           `json:"legalBasis"`
	Calendars   []CalendarRef    `json:"calendars"` // that DueAt was computed with
	Limit       int              `json:"limit"`     // working days, extensions included
	ExtendMax   int              `json:"extendMax"` // working days that may still be added
	ExtendWith  ExtensionConsent `json:"extendWith"`
	StartedAt   time.Time        `json:"startedAt"` // when it started, or started again
	Used        int              `json:"used"`      // working days used up before StartedAt, while stopped before StoppedAt; less than Limit
	DueAt       time.Time        `json:"dueAt"`     // the first moment that is too late
	StoppedAt   *time.Time       `json:"stoppedAt"` // null while it runs
	OverdueAt   *time.Time       `json:"overdueAt"` // when MarkOverdue recorded that DueAt had passed; null before
}

// Overdue reports whether the time limit has passed at t. A stopped one has not.
func (c *Clock) Overdue(t time.Time) bool {
	return c != nil && c.StoppedAt == nil && !t.Before(c.DueAt)
}

// Deadlines are the rules and working days that the ledger holds for a
// transaction.
type Deadlines struct {
	Rules []DeadlineRule // one for each event that the transaction may start
	Workdays
}

// MaxLimit bounds the working days of a time limit and of its extension: about
// a year of them.
const MaxLimit = 250

// Validate reports everything that is wrong with the argument.
func (a SetRuleArgs) Validate() error {
	var f findings
	oneOf(&f, "event", a.Event, DeadlineEvents...)
	if a.Limit < 1 || a.Limit > MaxLimit {
		f.add("limit", fmt.Sprintf("must be 1 to %d working days", MaxLimit))
	}
	if a.ExtendMax < 0 || a.ExtendMax > MaxLimit {
		f.add("extendMax", fmt.Sprintf("must be 0 to %d working days", MaxLimit))
	}
	oneOf(&f, "extendWith", a.ExtendWith, ExtendByLead, ExtendAlone)
	f.required("legalBasis", a.LegalBasis, MaxText)
	return f.err()
}

// SetRule records a deadline rule. existing is the event's rule in force, nil
// when there is none. The result is stored twice: as the event's rule and, for
// ever, as its version.
func SetRule(existing *DeadlineRule, call Call, args SetRuleArgs) (DeadlineRule, error) {
	if err := args.Validate(); err != nil {
		return DeadlineRule{}, err
	}
	what := "deadline rule " + string(args.Event)
	r := DeadlineRule{
		Event: args.Event, Version: 1, Limit: args.Limit, ExtendMax: args.ExtendMax,
		ExtendWith: args.ExtendWith, LegalBasis: args.LegalBasis,
	}
	if err := call.set(KindRule, what, "governance:SetRule", existing != nil); err != nil {
		return DeadlineRule{}, err
	}
	if existing != nil {
		if err := notBefore(what, existing.Meta, call.Tx); err != nil {
			return DeadlineRule{}, err
		}
		same := *existing
		same.Meta, same.Version = r.Meta, r.Version
		if same == r {
			return DeadlineRule{}, refuse(Exists, "%s is recorded already with this content, as version %d", what, existing.Version)
		}
		r.Version = existing.Version + 1
	}
	return r, seal(&r, SchemaRule, call.Who, call.Tx)
}

// Start starts the time limit of an event at a moment. Without a rule for the
// event, or without the calendar of a year it reaches into, it is an [Error] of
// kind [Invalid] that says what the lead must set.
func (d Deadlines) Start(event DeadlineEvent, at time.Time) (*Clock, error) {
	i := slices.IndexFunc(d.Rules, func(r DeadlineRule) bool { return r.Event == event })
	if i < 0 {
		return nil, refuse(Invalid, "the time limit %s is not set: the lead sets it with governance:SetRule", event)
	}
	rule := d.Rules[i]
	return d.date(Clock{
		Event: event, RuleVersion: rule.Version, LegalBasis: rule.LegalBasis,
		Limit: rule.Limit, ExtendMax: rule.ExtendMax, ExtendWith: rule.ExtendWith, StartedAt: at,
	})
}

// date computes when a clock is due, from its start and what is left of its limit.
func (d Deadlines) date(c Clock) (*Clock, error) {
	end, refs, err := d.After(c.StartedAt, c.Limit-c.Used)
	if err != nil {
		return nil, err
	}
	c.DueAt, c.Calendars = end, refs
	return &c, nil
}

// Stop stops a running clock, as a return for supplement 退回补正 does. A working
// day that is over when it stops is used up; the day of the stop is not. One day
// of the limit always stays unused, so that there is something left to resume.
func (d Deadlines) Stop(c *Clock, at time.Time) (*Clock, error) {
	if err := c.running(); err != nil {
		return nil, err
	}
	over, err := d.Between(c.StartedAt, at)
	if err != nil {
		return nil, err
	}
	stopped := *c
	stopped.Used, stopped.StoppedAt = min(c.Used+over, c.Limit-1), &at
	return &stopped, nil
}

// Resume lets a stopped clock run on with the working days that are left, at
// least one. It is due anew, so that it may be marked as overdue again.
func (d Deadlines) Resume(c *Clock, at time.Time) (*Clock, error) {
	if c == nil || c.StoppedAt == nil {
		return nil, refuse(Invalid, "clock: no time limit is stopped")
	}
	resumed := *c
	resumed.StartedAt, resumed.StoppedAt, resumed.OverdueAt = at, nil, nil
	return d.date(resumed)
}

// Extend adds working days to a running clock that is not overdue at that
// moment. What one extension adds the next one may not.
func (d Deadlines) Extend(c *Clock, days int, at time.Time) (*Clock, error) {
	if err := c.running(); err != nil {
		return nil, err
	}
	var f findings
	if c.Overdue(at) {
		f.add("clock", "the time limit passed at "+c.DueAt.Format(time.RFC3339))
	}
	if days < 1 || days > c.ExtendMax {
		f.add("days", fmt.Sprintf("%d working days asked for, at most %d may be added", days, c.ExtendMax))
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	extended := *c
	extended.Limit += days
	extended.ExtendMax -= days
	return d.date(extended)
}

// Mark records that a clock is overdue at a moment. One that is not, is stopped,
// or is marked already is refused.
func (c *Clock) Mark(at time.Time) (*Clock, error) {
	if err := c.running(); err != nil {
		return nil, err
	}
	if c.OverdueAt != nil {
		return nil, refuse(Exists, "clock: that the time limit passed is recorded already")
	}
	if !c.Overdue(at) {
		return nil, refuse(Invalid, "clock: the time limit has not passed, it ends at %s", c.DueAt.Format(time.RFC3339))
	}
	marked := *c
	marked.OverdueAt = &at
	return &marked, nil
}

// running refuses a clock that does not run.
func (c *Clock) running() error {
	if c == nil || c.StoppedAt != nil {
		return refuse(Invalid, "clock: no time limit runs")
	}
	return nil
}
