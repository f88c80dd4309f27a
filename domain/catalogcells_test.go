package domain

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// allCatalogStates are the states of an entry, by their names on the ledger.
var allCatalogStates = []string{
	"", "draft", "reg_pending", "registered", "reg_rejected", "pub_pending", "pub_rejected", "published",
	"change_pending", "offline_pending", "offline", "retired",
}

// overdueEntry is an entry of a provider in a state, whose time limits are over
// an hour later; nil for no state.
func overdueEntry(provider Department, state string) *CatalogEntry {
	if state == "" {
		return nil
	}
	e := someEntry(CatalogState(state))
	e.Provider, e.Content.ProviderUSCC = provider.Code, provider.USCC
	if provider.Lead {
		e.Reviewer = SidePeer
	}
	running := &Clock{Event: DeadlineCatalogReview, Limit: 5, StartedAt: noon, DueAt: noon.Add(time.Minute)}
	switch {
	case e.State == CatalogPublished:
		e.Update = running
	case strings.HasSuffix(state, "_pending"):
		e.Review = running
	}
	if e.State == CatalogChangePending {
		e.Pending, e.LastVersion = 2, 2
	}
	return e
}

// catalogCells are the outcomes of a transaction for callers of its roles, one
// line a state and one column a department: for an entry of police, police
// itself, the lead and civil; for an entry of the lead, the lead itself and
// civil. A cell is the state that follows, or why it is refused. The line * is
// for the states that are not named.
type catalogCells struct {
	name  string
	roles []Role
	event string // recorded
	cells string
	run   func(existing *CatalogEntry, provider Department, call Call) (CatalogChange, error)
}

var catalogGrid = []catalogCells{
	{
		"register",
		[]Role{RoleOperator},
		"submit", `
		-            reg_pending reg_pending reg_pending reg_pending reg_pending
		draft        reg_pending exists exists reg_pending exists
		reg_rejected reg_pending exists exists reg_pending exists
		pub_rejected reg_pending exists exists reg_pending exists
		*            wrong_state exists exists wrong_state exists`,
		func(e *CatalogEntry, _ Department, call Call) (CatalogChange, error) {
			return RegisterCatalog(e, "", nil, call, RegisterCatalogArgs{Content: contentOf(call.Dept)})
		},
	},
	{
		"register a draft",
		[]Role{RoleOperator},
		"draft", `
		-            draft draft draft draft draft
		draft        draft exists exists draft exists
		reg_rejected draft exists exists draft exists
		*            wrong_state exists exists wrong_state exists`,
		func(e *CatalogEntry, _ Department, call Call) (CatalogChange, error) {
			return RegisterCatalog(e, "", nil, call, RegisterCatalogArgs{Content: contentOf(call.Dept), Draft: true})
		},
	},
	{
		"submit",
		[]Role{RoleOperator},
		"submit", `
		-     not_found not_found not_found not_found not_found
		draft reg_pending forbidden forbidden reg_pending forbidden
		*     wrong_state forbidden forbidden wrong_state forbidden`,
		func(e *CatalogEntry, _ Department, call Call) (CatalogChange, error) {
			return SubmitCatalog(e, call, CodeArgs{someCode})
		},
	},
	{
		"publish",
		[]Role{RoleOperator},
		"publish", `
		-            not_found not_found not_found not_found not_found
		registered   pub_pending forbidden forbidden pub_pending forbidden
		pub_rejected pub_pending forbidden forbidden pub_pending forbidden
		offline      pub_pending forbidden forbidden pub_pending forbidden
		*            wrong_state forbidden forbidden wrong_state forbidden`,
		func(e *CatalogEntry, _ Department, call Call) (CatalogChange, error) {
			return PublishCatalog(e, call, CodeArgs{someCode})
		},
	},
	{
		"change",
		[]Role{RoleOperator},
		"change", `
		-         not_found not_found not_found not_found not_found
		published change_pending forbidden forbidden change_pending forbidden
		*         wrong_state forbidden forbidden wrong_state forbidden`,
		func(e *CatalogEntry, _ Department, call Call) (CatalogChange, error) {
			c := contentOf(call.Dept)
			c.Abstract = "换了说法。"
			return ChangeCatalog(e, "", nil, call, ChangeCatalogArgs{c})
		},
	},
	{
		"take offline",
		[]Role{RoleOperator},
		"offline", `
		-         not_found not_found not_found not_found not_found
		published offline_pending forbidden forbidden offline_pending forbidden
		*         wrong_state forbidden forbidden wrong_state forbidden`,
		func(e *CatalogEntry, _ Department, call Call) (CatalogChange, error) {
			return RetireCatalog(e, call, RetireCatalogArgs{someCode, TakeOffline, "系统停用"})
		},
	},
	{
		"retire",
		[]Role{RoleOperator},
		"retire", `
		-            not_found not_found not_found not_found not_found
		draft        retired forbidden forbidden retired forbidden
		reg_rejected retired forbidden forbidden retired forbidden
		registered   retired forbidden forbidden retired forbidden
		pub_rejected retired forbidden forbidden retired forbidden
		offline      retired forbidden forbidden retired forbidden
		*            wrong_state forbidden forbidden wrong_state forbidden`,
		func(e *CatalogEntry, _ Department, call Call) (CatalogChange, error) {
			return RetireCatalog(e, call, RetireCatalogArgs{someCode, Withdraw, "重复编目"})
		},
	},
	{
		"approve",
		[]Role{RoleReviewer},
		"approve", `
		-               not_found not_found not_found not_found not_found
		reg_pending     forbidden registered forbidden forbidden registered
		pub_pending     forbidden published forbidden forbidden published
		change_pending  forbidden published forbidden forbidden published
		offline_pending forbidden offline forbidden forbidden offline
		*               forbidden wrong_state forbidden forbidden wrong_state`,
		reviewAs(Approve),
	},
	{
		"return",
		[]Role{RoleReviewer},
		"return", `
		-               not_found not_found not_found not_found not_found
		reg_pending     forbidden reg_rejected forbidden forbidden reg_rejected
		pub_pending     forbidden pub_rejected forbidden forbidden pub_rejected
		change_pending  forbidden published forbidden forbidden published
		offline_pending forbidden published forbidden forbidden published
		*               forbidden wrong_state forbidden forbidden wrong_state`,
		reviewAs(Return),
	},
	{
		"report a change of duties",
		[]Role{RoleOperator},
		"require_update", `
		-         not_found not_found not_found not_found not_found
		published published forbidden forbidden published forbidden
		*         wrong_state forbidden forbidden wrong_state forbidden`,
		requireUpdateOf,
	},
	{
		"find a change of duties",
		[]Role{RoleReviewer},
		"require_update", `
		-         not_found not_found not_found not_found not_found
		published forbidden published forbidden published forbidden
		*         forbidden wrong_state forbidden wrong_state forbidden`,
		requireUpdateOf,
	},
	{
		"mark as overdue",
		[]Role{RoleOperator, RoleReviewer, RoleGateway},
		"mark_overdue", `
		-               not_found not_found not_found not_found not_found
		reg_pending     reg_pending reg_pending reg_pending reg_pending reg_pending
		pub_pending     pub_pending pub_pending pub_pending pub_pending pub_pending
		change_pending  change_pending change_pending change_pending change_pending change_pending
		offline_pending offline_pending offline_pending offline_pending offline_pending offline_pending
		published       published published published published published
		*               wrong_state wrong_state wrong_state wrong_state wrong_state`,
		func(e *CatalogEntry, _ Department, call Call) (CatalogChange, error) {
			return MarkCatalogOverdue(e, call, CodeArgs{someCode})
		},
	},
}

func contentOf(d Department) CatalogContent {
	c := someContent()
	c.ProviderUSCC = d.USCC
	return c
}

func reviewAs(decision ReviewDecision) func(*CatalogEntry, Department, Call) (CatalogChange, error) {
	return func(e *CatalogEntry, provider Department, call Call) (CatalogChange, error) {
		pending := &CatalogVersion{Provider: provider.Code, Version: 2, Content: contentOf(provider)}
		return ReviewCatalog(e, pending, call, ReviewCatalogArgs{someCode, decision, "意见"})
	}
}

func requireUpdateOf(e *CatalogEntry, _ Department, call Call) (CatalogChange, error) {
	if e != nil {
		e.Update = nil
	}
	return RequireCatalogUpdate(e, call, RequireUpdateArgs{someCode, "机构改革"})
}

// cellsOf reads the cells of a state.
func (g catalogCells) cellsOf(t *testing.T, state string) []string {
	t.Helper()
	if state == "" {
		state = "-"
	}
	var rest []string
	for _, line := range strings.Split(strings.TrimSpace(g.cells), "\n") {
		words := strings.Fields(line)
		if len(words) != 6 {
			t.Fatalf("the grid of %s has a line of %d words", g.name, len(words))
		}
		switch words[0] {
		case state:
			return words[1:]
		case "*":
			rest = words[1:]
		}
	}
	return rest
}

func TestCatalogCells(t *testing.T) {
	columns := []struct{ provider, caller Department }{
		{policeDept, policeDept}, {policeDept, leadDept}, {policeDept, civilDept}, {leadDept, leadDept}, {leadDept, civilDept},
	}
	tx := later(time.Hour)
	cells := 0
	for _, g := range catalogGrid {
		for _, state := range allCatalogStates {
			for i, want := range g.cellsOf(t, state) {
				for _, role := range append([]Role{""}, Roles...) {
					col := columns[i]
					name := fmt.Sprintf("%s/%s of %s/%s %s", g.name, state, col.provider.Code, col.caller.Code, role)
					before := overdueEntry(col.provider, state)
					change, err := g.run(before, col.provider, callOf(col.caller, role, tx))
					cells++
					cell := want
					if !slices.Contains(g.roles, role) {
						// The two ways to require an update have a role each.
						if strings.HasSuffix(g.name, "change of duties") && (role == RoleOperator || role == RoleReviewer) {
							continue
						}
						cell = "forbidden"
					}
					if !slices.Contains(allCatalogStates, cell) {
						if string(KindOf(err)) != cell {
							t.Errorf("%s: got %v, want %s", name, err, cell)
						}
						if cell == "wrong_state" && StateOf(err) != state {
							t.Errorf("%s: the refusal names state %q: %v", name, StateOf(err), err)
						}
						continue
					}
					if err != nil || string(change.Entry.State) != cell {
						t.Errorf("%s: got %s, %v, want %s", name, change.Entry.State, err, cell)
						continue
					}
					checkCatalogChange(t, name, before, change, g.event)
				}
			}
		}
	}
	if want := len(catalogGrid) * len(allCatalogStates) * len(columns) * (len(Roles) + 1); cells != want {
		t.Errorf("%d cells, want %d", cells, want)
	}
}

// checkCatalogChange checks what holds for every change.
func checkCatalogChange(t *testing.T, name string, before *CatalogEntry, c CatalogChange, event string) {
	t.Helper()
	seq := 1
	if before != nil {
		seq = before.Seq + 1
	}
	events, err := CatalogEvents(callBehind(c.Entry), c)
	if err != nil || len(events) != 1 || len(events[0].Entries) != 1 {
		t.Fatalf("%s: events %+v: %v", name, events, err)
	}
	e := events[0]
	if step := e.Entries[0]; e.Event != event || c.Entry.Event != event || step.Seq != seq || c.Entry.Seq != seq || step.Code != someCode || step.State != c.Entry.State {
		t.Errorf("%s: event %+v", name, e)
	}
	if !DigestHolds(&c.Entry) || !DigestHolds(&e) {
		t.Errorf("%s: a digest does not hold", name)
	}
	for _, v := range c.Versions {
		if !DigestHolds(&v) {
			t.Errorf("%s: the digest of version %d does not hold", name, v.Version)
		}
	}
	pending := strings.HasSuffix(string(c.Entry.State), "_pending")
	if (c.Entry.Review != nil) != pending {
		t.Errorf("%s: %s with review clock %+v", name, c.Entry.State, c.Entry.Review)
	}
	if (c.Entry.Pending != 0) != (c.Entry.State == CatalogChangePending) {
		t.Errorf("%s: %s with pending version %d", name, c.Entry.State, c.Entry.Pending)
	}
}
