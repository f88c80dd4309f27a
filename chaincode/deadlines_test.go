package chaincode_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

// TestMissingRuleOrCalendar checks that nobody guesses a time limit: the refusal
// names what the lead must set, and once it is set the same transaction runs.
func TestMissingRuleOrCalendar(t *testing.T) {
	w := registered(t)
	args := domain.RegisterCatalogArgs{Content: content()}
	w.refused("police operator", "catalog:Register", args, domain.Invalid, "catalog_review")
	w.must("bigdata admin", "governance:SetRule", rule(domain.DeadlineCatalogReview))
	w.refused("police operator", "catalog:Register", args, domain.Invalid, "2026")
	w.must("bigdata admin", "governance:SetCalendar", calendar(2026))
	e := decode[domain.CatalogEntry](t, w.must("police operator", "catalog:Register", args).Payload)
	// Ten working days after Monday 2 March: until the end of Monday 16 March in
	// Shanghai.
	due := time.Date(2026, 3, 16, 16, 0, 0, 0, time.UTC)
	if c := e.Review; c == nil || !c.DueAt.Equal(due) || c.RuleVersion != 1 || !slices.Equal(c.Calendars, []domain.CalendarRef{{Year: 2026, Version: 1}}) {
		t.Errorf("clock %+v", c)
	}

	// A limit that reaches into a year without calendar.
	late := registered(t)
	late.must("bigdata admin", "governance:SetRule", rule(domain.DeadlineCatalogReview))
	late.must("bigdata admin", "governance:SetCalendar", calendar(2026))
	late.passed = time.Date(2026, 12, 28, 0, 0, 0, 0, time.UTC).Sub(noon)
	late.refused("police operator", "catalog:Register", args, domain.Invalid, "2027")
	late.must("bigdata admin", "governance:SetCalendar", calendar(2027))
	late.must("police operator", "catalog:Register", args)
}

// TestYearOfShanghai checks that the calendar of the day in Shanghai is read: at
// 16:30 UTC on New Year's Eve it is the new year's.
func TestYearOfShanghai(t *testing.T) {
	w := registered(t)
	w.must("bigdata admin", "governance:SetRule", rule(domain.DeadlineCatalogReview))
	w.must("bigdata admin", "governance:SetCalendar", calendar(2027))
	args := domain.RegisterCatalogArgs{Content: content()}
	eve := time.Date(2026, 12, 31, 15, 30, 0, 0, time.UTC)
	p := w.proposal("police operator", "catalog:Register", args)
	p.Time = eve
	if r := w.run(p); slices.Contains(r.Reads, "cal~2029") || !slices.Contains(r.Reads, "cal~2026") {
		t.Errorf("reads %q", r.Reads)
	}
	p.Time = eve.Add(time.Hour)
	r := w.run(p)
	if !r.OK() || slices.Contains(r.Reads, "cal~2026") || !slices.Contains(r.Reads, "cal~2029") {
		t.Errorf("%q reads %q", r.Message, r.Reads)
	}
}

// TestReadsOnlyWhatItNeeds checks that a transaction without time limits reads no
// rule and no calendar, and that one with an old clock reads its year.
func TestReadsOnlyWhatItNeeds(t *testing.T) {
	w := founded(t)
	timed := func(reads []string) bool {
		return slices.ContainsFunc(reads, func(k string) bool { return strings.HasPrefix(k, "rule~") || strings.HasPrefix(k, "cal~") })
	}
	for _, tc := range cases() {
		switch tc.name {
		case "sharing:Withdraw", "sharing:Close", "sharing:Suspend", "certificate:Issue", "certificate:DecideBatch", "access:RegisterLog", "catalog:MarkOverdue":
			w := tc.prepared(t)
			if r := w.run(w.proposal(tc.who, tc.name, tc.arg(w))); !r.OK() || timed(r.Reads) {
				t.Errorf("%s: %q reads %q", tc.name, r.Message, r.Reads)
			}
		}
	}
	w.accepted()
	w.passed += 400 * 24 * time.Hour
	r := w.run(w.proposal("police reviewer", "sharing:Answer", refusal()))
	if !r.OK() || !slices.Contains(r.Reads, "cal~2026") {
		t.Fatalf("%q reads %q", r.Message, r.Reads)
	}
	if got := decode[domain.ShareRequest](t, r.Payload); !got.AnsweredLate || got.AnsweredIn < 250 {
		t.Errorf("answered in %d working days, late: %t", got.AnsweredIn, got.AnsweredLate)
	}
}

// TestTwoDepartmentsInEachReview checks that what the lead itself provides or
// asks for is decided by another department.
func TestTwoDepartmentsInEachReview(t *testing.T) {
	w := founded(t)
	own := content()
	own.ProviderUSCC = departments[0].USCC
	w.must("bigdata operator", "catalog:Register", domain.RegisterCatalogArgs{Content: own})
	w.refused("bigdata reviewer", "catalog:Review", approval(), domain.Forbidden, "peer")
	w.must("police reviewer", "catalog:Review", approval())
	w.must("bigdata operator", "catalog:Publish", domain.CodeArgs{Code: code})
	e := decode[domain.CatalogEntry](t, w.must("civil reviewer", "catalog:Review", approval()).Payload)
	if e.Reviewer != domain.SidePeer || e.State != domain.CatalogPublished {
		t.Errorf("entry %+v", e)
	}

	// Police asks the lead for it: the lead checks, a third department mediates.
	r := w.must("police operator", "sharing:Request", request())
	if got := decode[domain.ShareRequest](t, r.Payload); got.Checker != domain.SideLead || got.Mediator != domain.SidePeer {
		t.Errorf("request %+v", got)
	}
	w.must("bigdata reviewer", "sharing:Accept", domain.AcceptArgs{ID: id, Decision: domain.AcceptRequest})
	w.must("bigdata reviewer", "sharing:Answer", refusal())
	w.must("police operator", "sharing:Dispute", domain.DisputeArgs{ID: id, Reason: "依据不成立"})
	mediation := domain.MediateArgs{ID: id, Decision: domain.Remand, Reason: "应当共享"}
	for _, party := range []string{"bigdata reviewer", "police reviewer"} {
		w.refused(party, "sharing:Mediate", mediation, domain.Forbidden, "")
	}
	w.must("civil reviewer", "sharing:Mediate", mediation)
	// The lead's own grant needs the lead.
	r = w.must("bigdata reviewer", "sharing:Answer", agreement())
	if got := describe(t, r.Policies[0].Value); got != "bigdata+1" {
		t.Errorf("policy %s", got)
	}
}

// TestLeadSuspends checks that the lead may stop a grant, and only the lead may
// end what it did.
func TestLeadSuspends(t *testing.T) {
	w := founded(t)
	w.agreed()
	w.must("bigdata reviewer", "sharing:Suspend", reason())
	w.refused("police reviewer", "sharing:Resume", reason(), domain.Forbidden, "only the lead resumes it")
	w.must("bigdata reviewer", "sharing:Resume", reason())
	g := decode[domain.Grant](t, w.must("bigdata reviewer", "sharing:Revoke", reason()).Payload)
	if g.State != domain.GrantRevoked || g.StoppedBy != "bigdata" || g.Seq != 4 {
		t.Errorf("grant %+v", g)
	}
}

// TestUnconditionalResourceIsGrantedAtOnce checks the way without an answer.
func TestUnconditionalResourceIsGrantedAtOnce(t *testing.T) {
	w := founded(t)
	free := content()
	free.ShareType, free.ShareCondition, free.LegalBasis = domain.Unconditional, "", []string{}
	for i := range free.Items {
		free.Items[i].ShareType = domain.Unconditional
	}
	w.must("police operator", "catalog:Register", domain.RegisterCatalogArgs{Content: free})
	w.must("bigdata reviewer", "catalog:Review", approval())
	w.must("police operator", "catalog:Publish", domain.CodeArgs{Code: code})
	w.must("bigdata reviewer", "catalog:Review", approval())
	w.must("civil operator", "sharing:Request", request())
	r := w.must("bigdata reviewer", "sharing:Accept", domain.AcceptArgs{ID: id, Decision: domain.AcceptRequest})
	if got := decode[domain.ShareRequest](t, r.Payload); got.State != domain.RequestAgreed || got.GrantID != id {
		t.Errorf("request %+v", got)
	}
	if g := decode[domain.Grant](t, w.ledger.State("grant~"+id)); g.State != domain.GrantActive || g.Consumer != "civil" {
		t.Errorf("grant %+v", g)
	}
}
