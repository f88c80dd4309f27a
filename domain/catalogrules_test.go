package domain

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// catalogLife runs transactions on one entry of police, as a ledger would.
type catalogLife struct {
	t        *testing.T
	entry    *CatalogEntry
	events   []CatalogEvent
	versions []CatalogVersion
	last     CatalogChange
}

// do records a change, or fails.
func (l *catalogLife) do(c CatalogChange, err error) CatalogChange {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
	l.entry, l.last = &c.Entry, c
	events, err := CatalogEvents(callBehind(c.Entry), c)
	if err != nil || len(events) != 1 {
		l.t.Fatalf("%d events: %v", len(events), err)
	}
	l.events = append(l.events, events...)
	l.versions = append(l.versions, c.Versions...)
	again, err := ReplayCatalog(c.Entry.Content.Code, l.events, append(l.versions[:len(l.versions):len(l.versions)], c.Entry.InForce()))
	if diff := cmp.Diff(c.Entry, again); diff != "" || err != nil {
		l.t.Fatalf("replay: %v (-stored +replayed):\n%s", err, diff)
	}
	return c
}

func (l *catalogLife) pending() *CatalogVersion {
	return recordedVersion(l.versions, l.entry.Pending)
}

// recordedVersion is version n of versions, nil if it is not among them.
func recordedVersion(versions []CatalogVersion, n int) *CatalogVersion {
	if at := slices.IndexFunc(versions, func(v CatalogVersion) bool { return v.Version == n }); at >= 0 {
		return &versions[at]
	}
	return nil
}

// callBehind is who wrote an entry, and when.
func callBehind(e CatalogEntry) Call {
	return Call{Who: Caller{Department: e.Department, Role: e.Role}, Tx: Tx{ID: e.TxID, Time: e.TxTime}}
}

// published is the life of an entry until it is published, at noon.
func published(t *testing.T) *catalogLife {
	l := &catalogLife{t: t}
	operator, reviewer := callOf(policeDept, RoleOperator, someTx), callOf(leadDept, RoleReviewer, someTx)
	l.do(RegisterCatalog(nil, "", nil, operator, RegisterCatalogArgs{Content: someContent()}))
	l.do(ReviewCatalog(l.entry, nil, reviewer, ReviewCatalogArgs{someCode, Approve, "同意注册"}))
	l.do(PublishCatalog(l.entry, operator, CodeArgs{someCode}))
	l.do(ReviewCatalog(l.entry, nil, reviewer, ReviewCatalogArgs{someCode, Approve, ""}))
	return l
}

func day(n int) Tx { return later(time.Duration(n) * 24 * time.Hour) }

func TestCatalogDraftAndRegistration(t *testing.T) {
	l := &catalogLife{t: t}
	operator := callOf(policeDept, RoleOperator, someTx)
	c := l.do(RegisterCatalog(nil, "", nil, operator, RegisterCatalogArgs{someContent(), true}))
	if c.Entry.State != CatalogDraft || c.Entry.Version != 1 || c.Entry.Review != nil || c.Entry.Provider != "police" || c.Entry.Reviewer != SideLead {
		t.Errorf("draft %+v", c.Entry)
	}
	if c.TakenName != CatalogNameID("police", someContent().Name) || c.FreedName != "" {
		t.Errorf("taken %q, freed %q", c.TakenName, c.FreedName)
	}
	if c.Entry.Department != "police" || c.Entry.Role != RoleOperator || c.Entry.TxID != someTx.ID || !c.Entry.TxTime.Equal(noon) || c.Entry.Schema != SchemaCatalogEntry {
		t.Errorf("meta %+v", c.Entry.Meta)
	}
	same := someContent()
	same.Name = "大中型水库 水情信息"
	c = l.do(RegisterCatalog(l.entry, someCode, nil, operator, RegisterCatalogArgs{same, true}))
	if c.TakenName != "" || c.FreedName != "" || c.Entry.Version != 2 {
		t.Errorf("a name that differs by a space is taken anew: %+v", c)
	}
	c = l.do(SubmitCatalog(l.entry, operator, CodeArgs{someCode}))
	if c.Entry.State != CatalogRegPending || c.Versions != nil || c.Entry.Review == nil || c.Entry.Review.Event != DeadlineCatalogReview {
		t.Errorf("submitted %+v", c.Entry)
	}
	reviewer := callOf(leadDept, RoleReviewer, day(1))
	c = l.do(ReviewCatalog(l.entry, nil, reviewer, ReviewCatalogArgs{someCode, Return, "缺少依据"}))
	if c.Entry.State != CatalogRegRejected || c.Entry.Opinion != "缺少依据" || c.Entry.Review != nil || c.Entry.Department != leadDept.Code {
		t.Errorf("returned %+v", c.Entry)
	}
	renamed := someContent()
	renamed.Name = "小型水库水情信息"
	c = l.do(RegisterCatalog(l.entry, "", nil, callOf(policeDept, RoleOperator, day(2)), RegisterCatalogArgs{Content: renamed}))
	if c.Entry.State != CatalogRegPending || c.Entry.Version != 3 || c.Entry.Opinion != "" || c.TakenName != CatalogNameID("police", renamed.Name) || c.FreedName != CatalogNameID("police", someContent().Name) {
		t.Errorf("registered again %+v", c)
	}
	// The two drafts are kept; the third version is the entry's own.
	if len(l.versions) != 2 || !DigestHolds(&l.versions[0]) || c.Entry.RecordedVersion != 2 {
		t.Errorf("%d versions", len(l.versions))
	}
	_, err := ReviewCatalog(l.entry, nil, callOf(leadDept, RoleReviewer, day(1)), ReviewCatalogArgs{someCode, Approve, ""})
	wantKind(t, err, Conflict, "was changed at a later time")
}

func TestRegisterCatalogByTheRecords(t *testing.T) {
	call := callOf(policeDept, RoleOperator, someTx)
	c := someContent()
	c.RelatedCodes = []string{"307003/000018", "307003/000019"}
	c.ProviderUSCC = civilDept.USCC
	c.Abstract = ""
	const taken = "307003/000020"
	missing := []string{"307003/000019"}
	const want = "invalid: content.abstract: required; content.providerUscc: not the code of the caller's department; content.name: " +
		nameTakenRule + "; content.relatedCodes[1]: not recorded"
	_, err := RegisterCatalog(nil, taken, missing, call, RegisterCatalogArgs{Content: c})
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	_, err = ChangeCatalog(someEntry(CatalogPublished), taken, missing, call, ChangeCatalogArgs{c})
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestRegisterCatalogBatch(t *testing.T) {
	call := callOf(leadDept, RoleOperator, someTx)
	contents := make([]CatalogContent, 3)
	for i, name := range []string{"甲", "乙", "丙"} {
		contents[i] = contentOf(leadDept)
		contents[i].Name, contents[i].Code = name+"信息", fmt.Sprintf("307003/%06d", 100+i)
	}
	contents[0].RelatedCodes = []string{contents[1].Code}
	none, free := make([]*CatalogEntry, 3), make([]string, 3)
	changes, err := RegisterCatalogBatch(none, free, nil, call, RegisterBatchArgs{Contents: contents})
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range changes {
		if c.Entry.Content.Code != contents[i].Code || c.Entry.State != CatalogRegPending || c.Entry.Reviewer != SidePeer || c.Versions != nil || c.Entry.RecordedVersion != 0 || c.TakenName != CatalogNameID(leadDept.Code, contents[i].Name) {
			t.Errorf("entry %d: %+v", i, c)
		}
	}

	bad := []CatalogContent{contents[0], contents[1], contents[2]}
	bad[1].ShareCondition, bad[2].LegalBasis = "", nil
	_, err = RegisterCatalogBatch(none, []string{"", "", someCode}, []string{contents[1].Code}, call, RegisterBatchArgs{Contents: bad})
	const want = "invalid: contents[1].shareCondition: required; contents[2].legalBasis: required unless the resource and all its items are unconditional; " +
		"contents[0].relatedCodes[0]: not recorded; contents[2].name: " + nameTakenRule
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	foreign := someEntry(CatalogRegRejected)
	_, err = RegisterCatalogBatch([]*CatalogEntry{nil, foreign, nil}, free, nil, call, RegisterBatchArgs{Contents: contents})
	wantKind(t, err, Exists, "catalog entry "+contents[1].Code+" is recorded already, by another department")
	_, err = RegisterCatalogBatch(none[:2], free, nil, call, RegisterBatchArgs{Contents: contents})
	wantKind(t, err, Invalid, "contents: 3 entries with the records of 2 and the names of 3")
	_, err = RegisterCatalogBatch(nil, nil, nil, call, RegisterBatchArgs{})
	wantKind(t, err, Invalid, "contents: required")

	many := RegisterBatchArgs{Contents: make([]CatalogContent, MaxBatch)}
	_, err = RegisterCatalogBatch(make([]*CatalogEntry, MaxBatch), make([]string, MaxBatch), nil, call, many)
	if found := Findings(err); len(found) != MaxFindings+1 || found[MaxFindings].Rule != "more-findings" {
		t.Errorf("%d findings", len(found))
	}
}

func TestCatalogChange(t *testing.T) {
	operator := func(tx Tx) Call { return callOf(policeDept, RoleOperator, tx) }
	reviewer := func(tx Tx) Call { return callOf(leadDept, RoleReviewer, tx) }
	renamed := someContent()
	renamed.Name = "小型水库水情信息"
	oldName, newName := CatalogNameID("police", someContent().Name), CatalogNameID("police", renamed.Name)
	l := published(t)

	_, err := ChangeCatalog(l.entry, "", nil, operator(day(1)), ChangeCatalogArgs{someContent()})
	wantKind(t, err, Invalid, "content: does not differ from the version in force")

	l.do(RequireCatalogUpdate(l.entry, reviewer(day(1)), RequireUpdateArgs{someCode, "机构改革"}))
	if u := l.entry.Update; u == nil || u.Event != DeadlineCatalogUpdate || u.RuleVersion != 3 || l.entry.Reason != "机构改革" || l.entry.State != CatalogPublished {
		t.Errorf("update required %+v", l.entry)
	}
	_, err = RequireCatalogUpdate(l.entry, operator(day(2)), RequireUpdateArgs{someCode, "机构改革"})
	wantKind(t, err, Invalid, "code: an update is required already")

	c := l.do(ChangeCatalog(l.entry, "", nil, operator(day(2)), ChangeCatalogArgs{renamed}))
	if c.Entry.State != CatalogChangePending || c.Entry.Version != 1 || c.Entry.Pending != 2 || c.Entry.Content.Name != someContent().Name ||
		l.pending().Content.Name != renamed.Name || c.TakenName != newName || c.FreedName != "" || c.Entry.Update.StoppedAt == nil {
		t.Errorf("change %+v", c)
	}
	_, err = ReviewCatalog(l.entry, nil, reviewer(day(3)), ReviewCatalogArgs{someCode, Approve, ""})
	wantKind(t, err, NotFound, "version 2 of catalog entry "+someCode)

	c = l.do(ReviewCatalog(l.entry, l.pending(), reviewer(day(3)), ReviewCatalogArgs{someCode, Return, "说明原因"}))
	if c.Entry.State != CatalogPublished || c.Entry.Version != 1 || c.Entry.Pending != 0 || c.FreedName != newName || c.Entry.Update.StoppedAt != nil || c.Entry.Reason == "" {
		t.Errorf("returned %+v", c)
	}
	l.do(ChangeCatalog(l.entry, "", nil, operator(day(4)), ChangeCatalogArgs{renamed}))
	c = l.do(ReviewCatalog(l.entry, l.pending(), reviewer(day(5)), ReviewCatalogArgs{someCode, Approve, ""}))
	if c.Entry.State != CatalogPublished || c.Entry.Version != 3 || c.Entry.LastVersion != 3 || c.FreedName != oldName || c.Entry.Update != nil ||
		c.Entry.Reason != "" || c.Entry.Content.Name != renamed.Name || c.Versions != nil || c.TakenName != "" {
		t.Errorf("approved %+v", c)
	}
}

func TestCatalogRetirement(t *testing.T) {
	operator := func(tx Tx) Call { return callOf(policeDept, RoleOperator, tx) }
	reviewer := func(tx Tx) Call { return callOf(leadDept, RoleReviewer, tx) }
	l := published(t)
	offline := RetireCatalogArgs{someCode, TakeOffline, "系统停用"}
	l.do(RequireCatalogUpdate(l.entry, operator(day(1)), RequireUpdateArgs{someCode, "机构改革"}))
	c := l.do(RetireCatalog(l.entry, operator(day(1)), offline))
	if c.Entry.State != CatalogOfflinePending || c.Entry.Reason != "系统停用" || c.Entry.Update.StoppedAt == nil || c.FreedName != "" {
		t.Errorf("going offline %+v", c)
	}
	c = l.do(ReviewCatalog(l.entry, nil, reviewer(day(2)), ReviewCatalogArgs{someCode, Return, "仍在使用"}))
	if c.Entry.State != CatalogPublished || c.Entry.Reason != "" || c.Entry.Update.StoppedAt != nil {
		t.Errorf("stays online %+v", c.Entry)
	}
	l.do(RetireCatalog(l.entry, operator(day(3)), offline))
	c = l.do(ReviewCatalog(l.entry, nil, reviewer(day(4)), ReviewCatalogArgs{someCode, Approve, ""}))
	if c.Entry.State != CatalogOffline || c.Entry.Reason != "系统停用" || c.Entry.Update != nil || c.FreedName != "" {
		t.Errorf("offline %+v", c)
	}
	c = l.do(PublishCatalog(l.entry, operator(day(5)), CodeArgs{someCode}))
	if c.Entry.Reason != "" {
		t.Errorf("published again for %q", c.Entry.Reason)
	}
	l.do(ReviewCatalog(l.entry, nil, reviewer(day(5)), ReviewCatalogArgs{someCode, Return, "缺少依据"}))
	c = l.do(RetireCatalog(l.entry, operator(day(6)), RetireCatalogArgs{someCode, Withdraw, "重复编目"}))
	if c.Entry.State != CatalogRetired || c.FreedName != CatalogNameID("police", someContent().Name) || c.Entry.Reason != "重复编目" {
		t.Errorf("retired %+v", c)
	}
}

func TestMarkCatalogOverdue(t *testing.T) {
	anybody := func(tx Tx) Call { return callOf(civilDept, RoleGateway, tx) }
	l := &catalogLife{t: t}
	l.do(RegisterCatalog(nil, "", nil, callOf(policeDept, RoleOperator, someTx), RegisterCatalogArgs{Content: someContent()}))
	due := l.entry.Review.DueAt
	before, at := someTx, someTx
	before.Time, at.Time = due.Add(-time.Millisecond), due
	const nothing = "code: no time limit of the entry has passed that is not recorded as overdue already"
	_, err := MarkCatalogOverdue(l.entry, anybody(before), CodeArgs{someCode})
	wantKind(t, err, Invalid, nothing)
	c := l.do(MarkCatalogOverdue(l.entry, anybody(at), CodeArgs{someCode}))
	if c.Entry.Review.OverdueAt == nil || !c.Entry.Review.OverdueAt.Equal(due) || l.events[len(l.events)-1].Review.OverdueAt == nil || c.Entry.Department != "civil" {
		t.Errorf("marked %+v", c.Entry)
	}
	_, err = MarkCatalogOverdue(l.entry, anybody(at), CodeArgs{someCode})
	wantKind(t, err, Invalid, nothing)

	l = published(t)
	l.do(RequireCatalogUpdate(l.entry, callOf(policeDept, RoleOperator, someTx), RequireUpdateArgs{someCode, "机构改革"}))
	at.Time = l.entry.Update.DueAt
	before.Time = at.Time.Add(-time.Millisecond)
	_, err = MarkCatalogOverdue(l.entry, anybody(before), CodeArgs{someCode})
	wantKind(t, err, Invalid, nothing)
	c = l.do(MarkCatalogOverdue(l.entry, anybody(at), CodeArgs{someCode}))
	if c.Entry.Update.OverdueAt == nil || c.Entry.State != CatalogPublished {
		t.Errorf("marked %+v", c.Entry)
	}
}

// Nobody guesses: without rule or calendar a time limit cannot start, and the
// transaction is refused.
func TestCatalogNeedsRulesAndCalendars(t *testing.T) {
	bare := func(d Department, r Role) Call {
		c := callOf(d, r, someTx)
		c.Deadlines = Deadlines{}
		return c
	}
	unset := func(d Department, r Role) Call { // rules, but no calendar
		c := callOf(d, r, day(30))
		c.Deadlines.Calendars = nil
		return c
	}
	operator, reviewer := bare(policeDept, RoleOperator), bare(leadDept, RoleReviewer)
	changed := someContent()
	changed.Abstract = "换了说法。"
	running := &Clock{Event: DeadlineCatalogUpdate, Limit: 20, StartedAt: noon, DueAt: noon.AddDate(0, 1, 0)}
	stopped := *running
	stopped.StoppedAt = &noon
	withUpdate := func(state string, c *Clock) *CatalogEntry {
		e := overdueEntry(policeDept, state)
		e.Update = c
		return e
	}
	pending := &CatalogVersion{Provider: "police", Version: 2, Content: changed}
	offline := RetireCatalogArgs{someCode, TakeOffline, "理由"}
	const review, update = "the time limit catalog_review is not set", "the time limit catalog_update is not set"
	for _, tc := range []struct {
		name string
		want string
		run  func() (CatalogChange, error)
	}{
		{"register", review, func() (CatalogChange, error) {
			return RegisterCatalog(nil, "", nil, operator, RegisterCatalogArgs{Content: someContent()})
		}},
		{"submit", review, func() (CatalogChange, error) {
			return SubmitCatalog(someEntry(CatalogDraft), operator, CodeArgs{someCode})
		}},
		{"change", review, func() (CatalogChange, error) {
			return ChangeCatalog(someEntry(CatalogPublished), "", nil, operator, ChangeCatalogArgs{changed})
		}},
		{"take offline", review, func() (CatalogChange, error) { return RetireCatalog(someEntry(CatalogPublished), operator, offline) }},
		{"require an update", update, func() (CatalogChange, error) {
			return RequireCatalogUpdate(someEntry(CatalogPublished), reviewer, RequireUpdateArgs{someCode, "理由"})
		}},
		{"return a change", "the working days of 2026 are not set", func() (CatalogChange, error) {
			return ReviewCatalog(withUpdate("change_pending", &stopped), pending, unset(leadDept, RoleReviewer), ReviewCatalogArgs{someCode, Return, "理由"})
		}},
		{"keep online", "the working days of 2026 are not set", func() (CatalogChange, error) {
			return ReviewCatalog(withUpdate("offline_pending", &stopped), nil, unset(leadDept, RoleReviewer), ReviewCatalogArgs{someCode, Return, "理由"})
		}},
		{"change while an update is due", "clock: no time limit runs", func() (CatalogChange, error) {
			return ChangeCatalog(withUpdate("published", &stopped), "", nil, callOf(policeDept, RoleOperator, someTx), ChangeCatalogArgs{changed})
		}},
		{"take offline while an update is due", "clock: no time limit runs", func() (CatalogChange, error) {
			return RetireCatalog(withUpdate("published", &stopped), callOf(policeDept, RoleOperator, someTx), offline)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := tc.run()
			wantKind(t, err, Invalid, tc.want)
		})
	}
}

// A time that has no canonical form cannot be recorded.
func TestCatalogNeedsACanonicalTime(t *testing.T) {
	far := someTx
	far.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	_, err := RegisterCatalog(nil, "", nil, callOf(policeDept, RoleOperator, far), RegisterCatalogArgs{someContent(), true})
	if err == nil {
		t.Error("a year of five digits is recorded")
	}
	_, err = RetireCatalog(someEntry(CatalogDraft), callOf(policeDept, RoleOperator, far), RetireCatalogArgs{someCode, Withdraw, "理由"})
	if err == nil {
		t.Error("a year of five digits is recorded")
	}
	e := someEntry(CatalogDraft)
	e.TxTime = far.Time
	if DigestHolds(e) {
		t.Error("the digest of what has no canonical form holds")
	}
}

func TestReplayCatalogRefusesGaps(t *testing.T) {
	l := published(t)
	_, err := ReplayCatalog(someCode, nil, l.versions)
	wantKind(t, err, Invalid, "events: required")
	_, err = ReplayCatalog(someCode, append(l.events[:1:1], l.events[2:]...), []CatalogVersion{l.entry.InForce()})
	wantKind(t, err, Invalid, "events[1]: not event 2 of catalog entry "+someCode)
	_, err = ReplayCatalog(someCode, l.events, nil)
	wantKind(t, err, NotFound, "version 1 of catalog entry "+someCode)
}

func TestCatalogArgumentsAreChecked(t *testing.T) {
	call := callOf(policeDept, RoleOperator, someTx)
	for name, run := range map[string]func() (CatalogChange, error){
		"submit":  func() (CatalogChange, error) { return SubmitCatalog(nil, call, CodeArgs{}) },
		"publish": func() (CatalogChange, error) { return PublishCatalog(nil, call, CodeArgs{}) },
		"review":  func() (CatalogChange, error) { return ReviewCatalog(nil, nil, call, ReviewCatalogArgs{}) },
		"retire":  func() (CatalogChange, error) { return RetireCatalog(nil, call, RetireCatalogArgs{}) },
		"require": func() (CatalogChange, error) { return RequireCatalogUpdate(nil, call, RequireUpdateArgs{}) },
		"overdue": func() (CatalogChange, error) { return MarkCatalogOverdue(nil, call, CodeArgs{}) },
		"change":  func() (CatalogChange, error) { return ChangeCatalog(nil, "", nil, call, ChangeCatalogArgs{}) },
	} {
		_, err := run()
		if KindOf(err) != Invalid || !strings.Contains(err.Error(), "code: "+catalogCodeRule) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCatalogEventsOfOneTransaction(t *testing.T) {
	lead := callOf(leadDept, RoleReviewer, someTx)
	other := someEntry(CatalogRegPending)
	other.Provider, other.Content.Code = civilDept.Code, "307003/000099"
	third := someEntry(CatalogRegPending)
	third.Content.Code, third.Seq = "307003/000098", 7
	var changes []CatalogChange
	for _, e := range []*CatalogEntry{someEntry(CatalogRegPending), other, third} {
		c, err := ReviewCatalog(e, nil, lead, ReviewCatalogArgs{e.Content.Code, Approve, "同意"})
		if err != nil {
			t.Fatal(err)
		}
		changes = append(changes, c)
	}
	events, err := CatalogEvents(lead, changes...)
	if err != nil || len(events) != 2 {
		t.Fatalf("%d events: %v", len(events), err)
	}
	if e := events[0]; e.Provider != "police" || len(e.Entries) != 2 || e.Entries[0].Code != someCode || e.Entries[1].Seq != 8 || e.Event != "approve" || !DigestHolds(&e) {
		t.Errorf("first event %+v", e)
	}
	if e := events[1]; e.Provider != "civil" || len(e.Entries) != 1 || e.Entries[0].Opinion != "同意" {
		t.Errorf("second event %+v", e)
	}
	// Two entries of one provider that did not go through the same thing.
	changes[2].Entry.Event = "return"
	if _, err := CatalogEvents(lead, changes...); err == nil {
		t.Error("one event of two kinds")
	}
}
