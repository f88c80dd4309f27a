package domain

import (
	"flag"
	"maps"
	"reflect"
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
	contents map[string]string // digests of every version, as first seen
	names    map[string]string // the codes of the entries that have them
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
	events, err := CatalogEvents(call, changes...)
	if err != nil {
		t.Fatal(err)
	}
	for _, event := range events {
		for _, step := range event.Entries {
			l.events[step.Code] = append(l.events[step.Code], event)
		}
	}
	if len(events) == 1 {
		writes, want := catalogWrites(t, changes, events[0])
		if TellCatalog(writes); !slices.EqualFunc(want, writes, func(a, b Write) bool { return a.Key == b.Key && string(a.Value) == string(b.Value) }) {
			t.Fatalf("%s: records differ from what the keys tell", way)
		}
	}
	for _, change := range changes {
		l.put(t, change)
		if entry, err := events[0].Stored().Tell().Entry(change.Entry.Stored()); err != nil || !reflect.DeepEqual(entry, change.Entry) {
			t.Fatalf("%s: %+v told as %+v: %v", way, change.Entry, entry, err)
		}
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
		return RegisterCatalogBatch([]*CatalogEntry{existing, third}, []string{l.taken(c, call), l.taken(other, call)},
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
			pending = recordedVersion(l.versions[code], existing.Pending)
		}
		return one(ReviewCatalog(existing, pending, call, ReviewCatalogArgs{code, ReviewDecision(way), "意见"}))
	case "require":
		return one(RequireCatalogUpdate(existing, call, RequireUpdateArgs{code, "机构改革"}))
	}
	return one(MarkCatalogOverdue(existing, call, CodeArgs{code}))
}

func (l *catalogLedger) taken(c CatalogContent, call Call) string {
	return l.names[CatalogNameID(call.Dept.Code, c.Name)]
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
	for _, v := range change.Versions {
		if recordedVersion(l.versions[code], v.Version) != nil {
			t.Fatalf("version %d of %s is recorded twice", v.Version, code)
		}
		l.versions[code] = append(l.versions[code], v)
	}
	for _, v := range append(slices.Clone(change.Versions), e.InForce()) {
		if l.contents[VersionID(code, v.Version)] == "" {
			l.contents[VersionID(code, v.Version)] = v.ContentDigest
		}
	}
	l.entries[code] = e
	if change.FreedName != "" {
		if _, ok := l.names[change.FreedName]; !ok {
			t.Fatalf("a name is freed that nobody has")
		}
		delete(l.names, change.FreedName)
	}
	if change.TakenName != "" {
		if _, ok := l.names[change.TakenName]; ok {
			t.Fatalf("a name is taken twice")
		}
		l.names[change.TakenName] = code
	}
	l.checkVersions(t, e)
	again, err := ReplayCatalog(code, l.events[code], append(slices.Clone(l.versions[code]), e.InForce()))
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

// newest is the last version of the entry, which a change that waits has not put
// into force.
func (l *catalogLedger) newest(e CatalogEntry) CatalogVersion {
	if v := recordedVersion(l.versions[e.Content.Code], e.LastVersion); v != nil {
		return *v
	}
	return e.InForce()
}

// checkVersions checks that every version there ever was is recorded, or is the
// one that the entry holds, with the content that it first had.
func (l *catalogLedger) checkVersions(t *rapid.T, e CatalogEntry) {
	code := e.Content.Code
	for n := 1; n <= e.LastVersion; n++ {
		v := recordedVersion(l.versions[code], n)
		if (v != nil) != (n <= e.RecordedVersion) {
			t.Fatalf("version %d of %s with %d recorded: %v", n, code, e.RecordedVersion, v)
		}
		if n == e.Version {
			inForce := e.InForce()
			v = &inForce
		}
		if v == nil {
			t.Fatalf("version %d of %s is nowhere", n, code)
		}
		content, _ := Canonical(v.Content)
		if v.Version != n || v.ContentDigest != Digest(content) || v.ContentDigest != l.contents[VersionID(code, n)] {
			t.Fatalf("version %d of %s changed", n, code)
		}
	}
	if len(l.versions[code]) != e.RecordedVersion {
		t.Fatalf("%d versions of %s are recorded, %d by the entry", len(l.versions[code]), code, e.RecordedVersion)
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
			want[CatalogNameID(e.Provider, l.newest(e).Content.Name)] = code
		}
	}
	if !maps.Equal(want, l.names) {
		t.Fatalf("names taken %v, want %v", l.names, want)
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
			contents: map[string]string{}, names: map[string]string{}, now: noon, reached: reached,
		}
		for range rapid.IntRange(1, 14).Draw(t, "steps") {
			l.step(t)
		}
	})
	if testing.Short() { // rapid runs a fifth of the sequences then, which may miss a rare state
		return
	}
	for _, state := range allCatalogStates[1:] {
		if reached[CatalogState(state)] == 0 {
			t.Errorf("no sequence reached %s", state)
		}
	}
}
