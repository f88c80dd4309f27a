package domain

import (
	"flag"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// catalogLedger is what a ledger would hold of a few catalog entries.
type catalogLedger struct {
	entries  map[string]CatalogEntry
	events   map[string][]CatalogEvent
	versions map[string][]CatalogVersion
	bytes    map[string]string // of every version, as first written
	names    map[string]CatalogName
	now      time.Time
	reached  map[CatalogState]int // over all cases
}

// step runs one transaction of anybody and checks what must hold after it.
func (l *catalogLedger) step(t *rapid.T) {
	code := rapid.SampledFrom([]string{someCode, "307003/000018"}).Draw(t, "code")
	var existing *CatalogEntry
	if e, ok := l.entries[code]; ok {
		existing = &e
	}
	dept, role, way := l.caller(t, existing)
	l.now = l.now.Add(time.Duration(rapid.SampledFrom([]int{0, 1, 24, 24 * 9, 24 * 40, -1}).Draw(t, "hours")) * time.Hour)
	call := callOf(dept, role, Tx{ID: someTx.ID, Time: l.now, Channel: someTx.Channel})
	var before []byte
	if existing != nil {
		before, _ = Canonical(existing)
	}
	changes, err := l.run(t, existing, call, way, code)
	if existing != nil {
		if after, _ := Canonical(existing); string(after) != string(before) {
			t.Fatalf("%s changed the entry it was given", way)
		}
	}
	if err != nil {
		if !slices.Contains(Kinds, KindOf(err)) {
			t.Fatalf("%s: %v is of no kind", way, err)
		}
		return
	}
	for _, change := range changes {
		l.put(t, change)
	}
	l.checkNames(t)
}

// catalogWays are the transactions, with what tells apart the moves of one.
var catalogWays = []string{"register", "draft", "batch", "submit", "publish", "change", "offline", "retire", "approve", "return", "require", "overdue"}

// caller draws who does what: anybody anything, or mostly something that the
// entry's state lets them do, so that all states are reached.
func (l *catalogLedger) caller(t *rapid.T, existing *CatalogEntry) (Department, Role, string) {
	dept := rapid.SampledFrom([]Department{policeDept, leadDept, civilDept}).Draw(t, "department")
	role := rapid.SampledFrom(Roles).Draw(t, "role")
	way := rapid.SampledFrom(catalogWays).Draw(t, "way")
	if existing == nil || rapid.IntRange(0, 3).Draw(t, "anybody") == 0 {
		return dept, role, way
	}
	owner, reviewer := policeDept, leadDept
	switch existing.Provider {
	case leadDept.Code:
		owner, reviewer = leadDept, civilDept
	case civilDept.Code:
		owner = civilDept
	}
	likely := map[CatalogState][]string{
		CatalogDraft: {"register", "submit"}, CatalogRegRejected: {"register", "draft", "retire"}, CatalogPubRejected: {"publish", "register", "retire"},
		CatalogRegistered: {"publish", "publish", "retire"}, CatalogPublished: {"change", "change", "offline", "require", "overdue"},
		CatalogOffline: {"publish", "retire"}, CatalogRetired: {"register", "publish"},
	}[existing.State]
	if likely == nil {
		return reviewer, RoleReviewer, rapid.SampledFrom([]string{"approve", "approve", "return", "overdue"}).Draw(t, "likely")
	}
	return owner, RoleOperator, rapid.SampledFrom(likely).Draw(t, "likely")
}

func (l *catalogLedger) run(t *rapid.T, existing *CatalogEntry, call Call, way, code string) ([]CatalogChange, error) {
	c := contentOf(call.Dept)
	c.Code = code
	c.Name = rapid.SampledFrom([]string{"水情信息", "水情 信息", "雨情信息", "汛情信息"}).Draw(t, "name")
	c.Abstract = rapid.SampledFrom([]string{"每日一次。", "每时一次。"}).Draw(t, "abstract")
	one := func(change CatalogChange, err error) ([]CatalogChange, error) { return []CatalogChange{change}, err }
	switch way {
	case "register", "draft":
		return one(RegisterCatalog(existing, l.taken(c, call), nil, call, RegisterCatalogArgs{c, way == "draft"}))
	case "batch":
		other := c
		other.Code, other.Name = "307003/000019", rapid.SampledFrom([]string{"风情信息", "雨情信息"}).Draw(t, "other name")
		var third *CatalogEntry
		if e, ok := l.entries[other.Code]; ok {
			third = &e
		}
		return RegisterCatalogBatch([]*CatalogEntry{existing, third}, []*CatalogName{l.taken(c, call), l.taken(other, call)},
			nil, call, RegisterBatchArgs{Contents: []CatalogContent{c, other}})
	case "submit":
		return one(SubmitCatalog(existing, call, CodeArgs{code}))
	case "publish":
		return one(PublishCatalog(existing, call, CodeArgs{code}))
	case "change":
		return one(ChangeCatalog(existing, l.taken(c, call), nil, call, ChangeCatalogArgs{c}))
	case "offline", "retire":
		return one(RetireCatalog(existing, call, RetireCatalogArgs{code, Retirement(way), "理由"}))
	case "approve", "return":
		var pending *CatalogVersion
		if existing != nil && existing.Pending > 0 {
			pending = &l.versions[code][existing.Pending-1]
		}
		return one(ReviewCatalog(existing, pending, call, ReviewCatalogArgs{code, ReviewDecision(way), "意见"}))
	case "require":
		return one(RequireCatalogUpdate(existing, call, RequireUpdateArgs{code, "机构改革"}))
	}
	return one(MarkCatalogOverdue(existing, call, CodeArgs{code}))
}

func (l *catalogLedger) taken(c CatalogContent, call Call) *CatalogName {
	if n, ok := l.names[CatalogNameID(call.Dept.Code, c.Name)]; ok {
		return &n
	}
	return nil
}

// put writes a change as the chaincode does and checks the record.
func (l *catalogLedger) put(t *rapid.T, change CatalogChange) {
	e := change.Entry
	code := e.Content.Code
	if last, ok := l.entries[code]; ok {
		if e.Provider != last.Provider || e.Reviewer != last.Reviewer || e.Seq != last.Seq+1 || e.LastVersion < last.LastVersion || e.TxTime.Before(last.TxTime) {
			t.Fatalf("from %+v to %+v", last, e)
		}
	}
	if !slices.Contains(allCatalogStates[1:], string(e.State)) {
		t.Fatalf("state %q is not declared", e.State)
	}
	l.reached[e.State]++
	if v := change.Version; v != nil {
		if v.Version != len(l.versions[code])+1 || v.Version != e.LastVersion {
			t.Fatalf("version %d after %d of %s", v.Version, len(l.versions[code]), code)
		}
		l.versions[code] = append(l.versions[code], *v)
		data, _ := Canonical(v)
		l.bytes[VersionID(code, v.Version)] = string(data)
	}
	l.entries[code] = e
	l.events[code] = append(l.events[code], change.Event)
	if change.FreedName != "" {
		if _, ok := l.names[change.FreedName]; !ok {
			t.Fatalf("a name is freed that nobody has")
		}
		delete(l.names, change.FreedName)
	}
	if change.Name != nil {
		id := CatalogNameID(e.Provider, change.Version.Content.Name)
		if _, ok := l.names[id]; ok {
			t.Fatalf("a name is taken twice")
		}
		l.names[id] = *change.Name
	}
	for _, v := range l.versions[code] {
		if data, _ := Canonical(v); l.bytes[VersionID(code, v.Version)] != string(data) {
			t.Fatalf("version %d of %s changed", v.Version, code)
		}
	}
	content, _ := Canonical(e.Content)
	if in := l.versions[code][e.Version-1]; e.ContentDigest != Digest(content) || in.ContentDigest != e.ContentDigest {
		t.Fatalf("the entry's content is not that of version %d", e.Version)
	}
	again, err := ReplayCatalog(l.events[code], l.versions[code])
	if err != nil {
		t.Fatal(err)
	}
	replayed, _ := Canonical(again)
	if stored, _ := Canonical(e); string(stored) != string(replayed) {
		t.Fatalf("stored   %s\nreplayed %s", stored, replayed)
	}
	pending := strings.HasSuffix(string(e.State), "_pending")
	waits := e.State == CatalogChangePending || e.State == CatalogOfflinePending
	switch {
	case (e.Review != nil) != pending:
		t.Fatalf("%s with review clock %v", e.State, e.Review)
	case (e.Pending != 0) != (e.State == CatalogChangePending):
		t.Fatalf("%s with pending version %d", e.State, e.Pending)
	case e.Update != nil && (e.Update.StoppedAt != nil) != waits:
		t.Fatalf("%s with update clock %+v", e.State, e.Update)
	case e.Update != nil && !waits && e.State != CatalogPublished:
		t.Fatalf("%s with update clock %+v", e.State, e.Update)
	}
}

// checkNames compares the names taken with those that entries and pending
// changes bear.
func (l *catalogLedger) checkNames(t *rapid.T) {
	want := map[string]string{}
	for code, e := range l.entries {
		if e.State == CatalogRetired {
			continue
		}
		want[e.nameID()] = code
		if e.Pending > 0 {
			want[CatalogNameID(e.Provider, l.versions[code][e.Pending-1].Content.Name)] = code
		}
	}
	got := map[string]string{}
	for id, n := range l.names {
		got[id] = n.Code
	}
	if !maps.Equal(want, got) {
		t.Fatalf("names taken %v, want %v", got, want)
	}
}

// TestCatalogProperties runs random transactions of random callers: no sequence
// reaches an undeclared state, events and versions give the stored entry, and
// versions never change.
func TestCatalogProperties(t *testing.T) {
	if err := flag.Set("rapid.checks", "10000"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = flag.Set("rapid.checks", "100") }()
	reached := map[CatalogState]int{}
	rapid.Check(t, func(t *rapid.T) {
		l := catalogLedger{
			entries: map[string]CatalogEntry{}, events: map[string][]CatalogEvent{}, versions: map[string][]CatalogVersion{},
			bytes: map[string]string{}, names: map[string]CatalogName{}, now: noon, reached: reached,
		}
		for range rapid.IntRange(1, 14).Draw(t, "steps") {
			l.step(t)
		}
	})
	for _, state := range allCatalogStates[1:] {
		if reached[CatalogState(state)] == 0 {
			t.Errorf("no sequence reached %s", state)
		}
	}
}
