package indextest

import (
	"fmt"
	"math/bits"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

// modelled is an index and its model, both of a chain of many records that were
// changed, deleted and written again.
func modelled(t *testing.T, x index.Index) *model {
	t.Helper()
	blocks := RandomBlocks(7, 25, 60)
	apply(t, x, blocks...)
	return newModel(blocks)
}

func wantIDs(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s (-want +got):\n%s", what, cmp.Diff(want, got))
	}
}

func recordIDs(records []index.Record) []string {
	var out []string
	for _, r := range records {
		out = append(out, r.ID)
	}
	return out
}

// Every combination of up to four filters answers what looking at every record
// does.
func testFilterCombinations(t *testing.T, x index.Index) {
	m := modelled(t, x)
	late := Epoch.AddDate(0, 0, 12)
	id := digest("request %d", 3)[:32]
	found := map[domain.RecordKind]int{}
	for _, kind := range []domain.RecordKind{domain.KindCatalogEntry, domain.KindRequest, domain.KindGrant, domain.KindCertificate, domain.KindAlarm} {
		for i := range 1 << 9 {
			if bits.OnesCount(uint(i)) > 4 {
				continue
			}
			var f index.Filter
			for bit, set := range []func(){
				func() { f.Department = "civil" },
				func() { f.Provider = "civil" },
				func() { f.Consumer = "police" },
				func() {
					f.State = map[domain.RecordKind]string{domain.KindCatalogEntry: "published", domain.KindRequest: "accepted", domain.KindAlarm: "open"}[kind]
				},
				func() { f.ShareType = domain.Conditional },
				func() { f.Text = "登记" },
				func() { f.GrantID = id },
				func() { f.Overdue = &late },
				func() { f.ChangedSince = Epoch.Add(20e9) },
			} {
				if i>>bit&1 == 1 {
					set()
				}
			}
			want := m.list(kind, f)
			found[kind] += len(want)
			wantIDs(t, fmt.Sprintf("List(%s, %+v)", kind, f), recordIDs(list(t, x, kind, f, 200)), want)
			if len(want) > 1 && i%3 == 0 {
				wantIDs(t, fmt.Sprintf("List(%s, %+v) in pages", kind, f), recordIDs(list(t, x, kind, f, 1+len(want)/3)), want)
			}
		}
	}
	for kind, n := range found {
		if n < 100 {
			t.Errorf("the filters found %d %s records in all: too few to tell", n, kind)
		}
	}
}

// Words are found wherever the port says, in Chinese and English.
func testWords(t *testing.T, x index.Index) {
	m := modelled(t, x)
	for _, text := range []string{
		"登记", "婚", "信息", "婚姻登记", "个体工商户", "统一社会信用代码", "记登", "统全市", "register", "REG", "r", "egister", "ＮＡＭＥ", "series k0",
		"k00003", "000003", "301", "/", "登记 register", "登记register", "登记，register", "火星", "信息系统归集", "变更后的 name", "、", "t", "s=published",
		"s published", "p=civil", `"`, `登记"`, "登记*", "登记 AND 火星", "登记 OR 信息", "NEAR(登记 信息)", "' OR 1=1 --", "\x00", "\xff登记",
	} {
		want := m.list(domain.KindCatalogEntry, index.Filter{Text: text})
		wantIDs(t, fmt.Sprintf("List of text %q", text), recordIDs(list(t, x, domain.KindCatalogEntry, index.Filter{Text: text}, 200)), want)
	}
	var c Chain
	c.blocks = RandomBlocks(7, 25, 60)
	long := "supercalifragilisticexpialidocious"
	apply(t, x, c.Add(Put("cat~x", domain.CatalogEntry{Content: domain.CatalogContent{
		Name: "Ｌｏｎｇ " + long, Abstract: "Überprüfung É 한국 ひらがな", Classification: "分类词", SystemRef: "某系统甲乙", DutyRef: "职责丙丁", Code: "399999/000001",
		Items: []domain.CatalogItem{{Name: "字段戊"}},
	}})))
	for text, want := range map[string]string{
		"ｌＯＮＧ " + long: "x", long + "x": "", long[:25]: "x", long[:24] + "z": "", "ÜBER": "x", "é": "x", "한국": "x", "がな": "x", "甲乙": "x",
		"职责丙丁": "x", "戊": "x", "399999": "x", "399999/000001": "x", "99999": "", "甲乙 丙丁 戊 long": "x", "甲丙": "",
	} {
		if got := ids(list(t, x, domain.KindCatalogEntry, index.Filter{Text: text}, 200)); got != want {
			t.Errorf("List of text %q = %q, want %q", text, got, want)
		}
	}
}

// An entry is found by what it says now and by nothing it said before.
func testSearchFollowsChanges(t *testing.T, x index.Index) {
	var c Chain
	put := func(name string, state domain.CatalogState) {
		apply(t, x, c.Add(Put("cat~a", domain.CatalogEntry{Provider: "civil", State: state, Content: domain.CatalogContent{Name: name}})))
	}
	want := func(text, state, ids string) {
		t.Helper()
		if got := recordIDs(list(t, x, domain.KindCatalogEntry, index.Filter{Text: text, State: state}, 10)); fmt.Sprint(got) != ids {
			t.Errorf("block %d: List of %q in state %q = %v, want %s", len(c.blocks), text, state, got, ids)
		}
	}
	put("婚姻登记", domain.CatalogRegPending)
	want("婚姻", "reg_pending", "[a]")
	put("婚姻登记", domain.CatalogRegistered)
	want("婚姻", "reg_pending", "[]")
	want("婚姻", "registered", "[a]")
	put("离婚登记", domain.CatalogRegistered)
	want("婚姻", "", "[]")
	want("登记", "registered", "[a]")
	apply(t, x, c.Add(Put("cat~a", []byte(`{`))))
	want("登记", "", "[]")
	put("结婚登记", domain.CatalogRegistered)
	want("结婚", "registered", "[a]")
	apply(t, x, c.Add(Put("cat~a", nil)))
	want("登记", "", "[]")
	apply(t, x, c.Add(Put("cat~b", domain.CatalogEntry{Content: domain.CatalogContent{Name: "出生登记"}})))
	put("婚姻登记", domain.CatalogPublished)
	want("登记", "", "[b a]") // a was recorded anew
}

func testInbox(t *testing.T, x index.Index) {
	m := modelled(t, x)
	now, count := Epoch.AddDate(0, 0, 10), 0
	for _, department := range []domain.DepartmentCode{"bigdata", "civil", "nobody"} {
		for _, lead := range []bool{false, true} {
			for _, role := range []domain.Role{"", domain.RoleOperator, domain.RoleReviewer, domain.RoleAdmin} {
				for _, overdue := range []bool{false, true} {
					f := index.InboxFilter{Department: department, Lead: lead, Role: role, Now: now, OverdueOnly: overdue}
					want := m.inbox(f)
					count += len(want)
					for _, limit := range []int{200, 7} {
						got := all(t, limit, func(page index.Page) ([]string, string, error) {
							r, err := x.Inbox(t.Context(), f, page)
							return inboxLines(t, r.Items), r.Next, err
						})
						wantIDs(t, fmt.Sprintf("Inbox(%+v), %d at a time", f, limit), got, want)
					}
				}
			}
		}
	}
	if count < 100 {
		t.Errorf("the inboxes hold %d tasks in all: too few to tell", count)
	}
	for _, department := range []domain.DepartmentCode{"", "@lead", "@peer"} {
		if got, err := x.Inbox(t.Context(), index.InboxFilter{Department: department}, index.Page{Limit: 9}); err != nil || len(got.Items) != 0 {
			t.Errorf("Inbox of department %q = %v, %v, want none", department, got, err)
		}
	}
}

// inboxLines also compares each item's task with the record's own.
func inboxLines(t *testing.T, items []index.InboxRecord) []string {
	t.Helper()
	var out []string
	for _, item := range items {
		tasks := tasksOf(item.Record)
		if !slices.ContainsFunc(tasks, func(want domain.Task) bool { return sameTask(want, item.Task) }) {
			t.Errorf("the task of %s %s = %+v, want one of %+v", item.Record.Kind, item.Record.ID, item.Task, tasks)
		}
		out = append(out, string(item.Record.Kind)+" "+item.Record.ID+" "+item.Task.Transaction)
	}
	return out
}

// sameTask compares tasks; parties count only where peers do.
func sameTask(want, got domain.Task) bool {
	if want.Side != domain.SidePeer {
		want.Parties = nil
	}
	return cmp.Equal(want, got)
}

func testTally(t *testing.T, x index.Index) {
	m := modelled(t, x)
	for _, days := range []int{0, 1, 5, 40} {
		now := Epoch.AddDate(0, 0, days)
		got, err := x.Tally(t.Context(), now)
		if err != nil {
			t.Fatal(err)
		}
		want := m.tally(now)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Tally after %d days (-want +got):\n%s", days, diff)
		}
		if days == 5 && (want.RefusedWithoutBasis*want.AnsweredLate*want.Compliant*want.GrantsUnused == 0 || len(want.Overdue) != 3 || want.GrantsUnused == want.GrantsActive) {
			t.Errorf("the chain has too little to count: %+v", want)
		}
	}
}

func testEvents(t *testing.T, x index.Index) {
	m := modelled(t, x)
	longest := 0
	for _, kind := range []domain.RecordKind{
		domain.KindCatalogVersion, domain.KindRequestEvent, domain.KindGrantEvent, domain.KindAlarmEvent,
		domain.KindCalendarVersion, domain.KindRuleVersion, domain.KindAnchor,
	} {
		ofs := []string{"nothing", "", "2025", string(domain.DeadlineMediation), "civil", digest("request %d", 1)[:32], digest("certificate %d", 1)[:32]}
		for n := range 20 {
			ofs = append(ofs, CatalogContent(n).Code, digest("request %d", n)[:32], digest("alarm %d", n)[:32])
		}
		for _, of := range ofs {
			want := m.events(kind, of)
			longest = max(longest, len(want))
			for _, limit := range []int{200, 2} {
				got := all(t, limit, func(page index.Page) ([]string, string, error) {
					r, err := x.ListEvents(t.Context(), kind, of, page)
					return recordIDs(r.Items), r.Next, err
				})
				wantIDs(t, fmt.Sprintf("ListEvents(%s, %s), %d at a time", kind, of, limit), got, want)
			}
		}
	}
	if longest < 11 {
		t.Errorf("the longest list of events has %d: the order of 2 and 10 is not tried", longest)
	}
}
