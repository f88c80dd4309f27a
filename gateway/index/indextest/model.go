package indextest

import (
	"cmp"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

// model is what an index must answer, found the plain way: it looks at every
// record for every question.
type model struct {
	blocks  uint64
	records map[domain.RecordKind]map[string]*modelRecord
	lives   map[string]map[domain.TxID]*modelRecord // by batch, a certificate of each life
}

type modelRecord struct {
	index.Record
	changed time.Time
	first   int // the number of the write that first recorded it since it was last absent
}

func newModel(blocks []domain.Block) *model {
	m := &model{uint64(len(blocks)), map[domain.RecordKind]map[string]*modelRecord{}, map[string]map[domain.TxID]*modelRecord{}}
	n := 0
	for _, b := range blocks {
		for _, t := range b.Transactions {
			for _, w := range t.Writes {
				n++
				kind, id, ok := domain.ParseKey(w.Key)
				if !ok || !t.Valid() || isTold(kind) {
					continue
				}
				m.write(kind, id, w, t, b.Number, n)
				if kind == domain.KindBatchStatus {
					m.tell(id, w, t, b.Number, n)
				}
			}
		}
	}
	return m
}

// isTold reports whether what the ledger holds under a key of the kind is no record.
func isTold(kind domain.RecordKind) bool {
	return kind == domain.KindCertificate || kind == domain.KindCertificateID
}

// tell records the certificates of a batch as its status tells them. Those that the
// status did not change keep their position: it is that of the transaction which they
// name.
func (m *model) tell(id string, w domain.Write, t domain.Transaction, block uint64, n int) {
	var b domain.Batch
	if !w.Delete {
		issued := m.records[domain.KindIssuingBatch][id]
		if issued == nil {
			return
		}
		b = domain.Batch{Issued: parse[domain.IssuingBatch](issued.Value), Status: parse[domain.BatchStatus](w.Value)}
		if b.Check(id) != nil {
			return
		}
	}
	certificates := m.records[domain.KindCertificate]
	maps.DeleteFunc(certificates, func(ref string, _ *modelRecord) bool { return domain.BatchOf(ref) == id })
	lives := map[domain.TxID]*modelRecord{}
	for row := range b.Size() {
		c, err := b.Certificate(row).Sealed()
		if err != nil {
			panic(err) // of a batch that holds
		}
		value, err := domain.Canonical(c)
		if err != nil {
			panic(err)
		}
		m.write(domain.KindCertificate, c.Content.Ref, domain.Write{Value: value}, t, block, n)
		told := m.records[domain.KindCertificate][c.Content.Ref]
		if old := m.lives[id][c.TxID]; old != nil && !b.Status.Changes(row) {
			told.Position, told.changed = old.Position, old.changed
		}
		lives[c.TxID] = told
	}
	m.lives[id] = lives
}

func (m *model) write(kind domain.RecordKind, id string, w domain.Write, t domain.Transaction, block uint64, n int) {
	if m.records[kind] == nil {
		m.records[kind] = map[string]*modelRecord{}
	}
	if w.Delete {
		delete(m.records[kind], id)
		return
	}
	if old := m.records[kind][id]; old != nil {
		n = old.first
	}
	m.records[kind][id] = &modelRecord{
		index.Record{Kind: kind, ID: id, Value: w.Value, Position: domain.Position{Block: block, TxID: t.ID}}, t.Time, n,
	}
}

// parse reads a record; one that cannot be read is its type's zero.
func parse[T any](value []byte) T {
	var v, zero T
	if json.Unmarshal(value, &v) != nil {
		return zero
	}
	return v
}

// list answers the IDs of a list.
func (m *model) list(kind domain.RecordKind, f index.Filter) []string {
	var found []*modelRecord
	for _, r := range m.records[kind] {
		if r.matches(f) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b *modelRecord) int {
		byID := strings.Compare(a.ID, b.ID)
		switch {
		case f.Text != "":
			return a.first - b.first
		case !f.ChangedSince.IsZero():
			return cmp.Or(a.changed.Compare(b.changed), byID)
		case f.Overdue != nil:
			return cmp.Or(a.due().Compare(*b.due()), byID)
		}
		return byID
	})
	var ids []string
	for _, r := range found {
		ids = append(ids, r.ID)
	}
	return ids
}

func (r *modelRecord) matches(f index.Filter) bool {
	var provider, consumer, owner domain.DepartmentCode
	var state, grant string
	var shareType domain.ShareType
	var text bool
	switch r.Kind {
	case domain.KindCatalogEntry:
		e := parse[domain.CatalogEntry](r.Value)
		provider, state, shareType, text = e.Provider, string(e.State), e.Content.ShareType, hasWords(e.Content, f.Text)
	case domain.KindRequest:
		q := parse[domain.ShareRequest](r.Value)
		provider, consumer, state, grant = q.Provider, q.Consumer, string(q.State), q.GrantID
	case domain.KindGrant:
		g := parse[domain.Grant](r.Value)
		provider, consumer, state, grant = g.Provider, g.Consumer, string(g.State), g.ID
	case domain.KindCertificate:
		c := parse[domain.Certificate](r.Value)
		owner, state = c.Issuer, string(c.Status)
	case domain.KindIssuer:
		a := parse[domain.Authorisation](r.Value)
		owner, state = a.Issuer, string(a.State)
	case domain.KindAlarm:
		a := parse[domain.Alarm](r.Value)
		owner, state = a.About, string(a.State)
	}
	due := r.due()
	return (f.Department == "" || f.Department == provider || f.Department == consumer || f.Department == owner) &&
		(f.Provider == "" || f.Provider == provider) && (f.Consumer == "" || f.Consumer == consumer) &&
		(f.State == "" || f.State == state) && (f.ShareType == 0 || f.ShareType == shareType) && (f.GrantID == "" || f.GrantID == grant) &&
		(f.Text == "" || text) && (f.ChangedSince.IsZero() || !r.changed.Before(f.ChangedSince)) &&
		(f.Overdue == nil || (due != nil && !f.Overdue.Before(*due)))
}

var modelWords = regexp.MustCompile(`\p{Han}+|[a-z0-9]+`)

// hasWords searches as the port says, in texts of ASCII and Chinese alone.
func hasWords(c domain.CatalogContent, query string) bool {
	texts := []string{c.Name, c.Abstract, c.Classification, c.SystemRef, c.DutyRef, c.Code}
	for _, item := range c.Items {
		texts = append(texts, item.Name)
	}
	fold := strings.NewReplacer("Ｎ", "n", "Ａ", "a", "Ｍ", "m", "Ｅ", "e")
	words := modelWords.FindAllString(strings.ToLower(fold.Replace(query)), -1)
	for _, word := range words {
		if !slices.ContainsFunc(texts, func(text string) bool {
			return slices.ContainsFunc(modelWords.FindAllString(strings.ToLower(fold.Replace(text)), -1), func(w string) bool {
				return strings.HasPrefix(w, word) || (word > "~" && strings.Contains(w, word))
			})
		}) {
			return false
		}
	}
	return len(words) > 0
}

func (r *modelRecord) clocks() []*domain.Clock {
	var clocks []*domain.Clock
	switch r.Kind {
	case domain.KindCatalogEntry:
		e := parse[domain.CatalogEntry](r.Value)
		clocks = []*domain.Clock{e.Review, e.Update}
	case domain.KindRequest:
		clocks = []*domain.Clock{parse[domain.ShareRequest](r.Value).Clock}
	}
	return slices.DeleteFunc(clocks, func(c *domain.Clock) bool { return c == nil || c.StoppedAt != nil })
}

func (r *modelRecord) due() *time.Time {
	var due *time.Time
	for _, c := range r.clocks() {
		if due == nil || c.DueAt.Before(*due) {
			due = &c.DueAt
		}
	}
	return due
}

// tasksOf are what a record waits for.
func tasksOf(r index.Record) []domain.Task {
	switch r.Kind { //nolint:exhaustive // no other kind waits
	case domain.KindRequest:
		return parse[domain.ShareRequest](r.Value).Tasks()
	case domain.KindCertificate:
		return parse[domain.Certificate](r.Value).Tasks()
	}
	return parse[domain.CatalogEntry](r.Value).Tasks()
}

// inbox answers "kind id transaction" of every task.
func (m *model) inbox(f index.InboxFilter) []string {
	type task struct {
		domain.Task
		*modelRecord
		seq int
	}
	var found []task
	for _, r := range slices.Concat(slices.Collect(maps.Values(m.records[domain.KindCatalogEntry])), slices.Collect(maps.Values(m.records[domain.KindRequest])),
		slices.Collect(maps.Values(m.records[domain.KindCertificate]))) {
		for i, t := range tasksOf(r.Record) {
			overdue := t.DueAt != nil && !f.Now.Before(*t.DueAt)
			if t.Waits(f.Department, f.Lead) && (f.Role == "" || f.Role == t.Role) && (!f.OverdueOnly || overdue) {
				found = append(found, task{t, r, i})
			}
		}
	}
	never := time.Unix(1<<40, 0)
	slices.SortFunc(found, func(a, b task) int {
		return cmp.Or(cmp.Or(a.DueAt, &never).Compare(*cmp.Or(b.DueAt, &never)), strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.ID, b.ID), a.seq-b.seq)
	})
	var out []string
	for _, t := range found {
		out = append(out, string(t.Kind)+" "+t.ID+" "+t.Transaction)
	}
	return out
}

// events answers the IDs of the parts of a record.
func (m *model) events(kind domain.RecordKind, of string) []string {
	numbers := map[int]string{}
	for id := range m.records[kind] {
		at := strings.LastIndexByte(id, '~')
		if n, err := strconv.Atoi(id[at+1:]); err == nil && id[:max(at, 0)] == of {
			numbers[n] = id
		}
	}
	var ids []string
	for _, n := range slices.Sorted(maps.Keys(numbers)) {
		ids = append(ids, numbers[n])
	}
	return ids
}

// tally counts as the comments of [index.Tally] say.
func (m *model) tally(now time.Time) index.Tally {
	t := index.Tally{Blocks: m.blocks, Overdue: map[domain.DeadlineEvent]int64{}}
	one := func(n *int64, when bool) {
		if when {
			*n++
		}
	}
	used := map[string]bool{}
	for _, r := range m.records[domain.KindAnchor] {
		for _, c := range parse[domain.Anchor](r.Value).Counts {
			used[c.GrantID] = true
		}
	}
	for _, r := range m.records[domain.KindRequest] {
		if !json.Valid(r.Value) {
			continue
		}
		q := parse[domain.ShareRequest](r.Value)
		refused, answered := q.Decision == domain.Refuse, q.AnsweredAt != nil
		one(&t.Requests, true)
		one(&t.Agreed, q.Decision == domain.Agree || (q.Decision == "" && q.GrantID != ""))
		one(&t.PartlyAgreed, q.Decision == domain.Partly)
		one(&t.Refused, refused)
		one(&t.RefusedWithoutBasis, refused && len(q.LegalBasis) == 0)
		one(&t.AnsweredInTime, answered && !q.AnsweredLate)
		one(&t.AnsweredLate, answered && q.AnsweredLate)
		if answered {
			t.AnsweredIn += int64(q.AnsweredIn)
		}
	}
	for _, r := range m.records[domain.KindCatalogEntry] {
		e := parse[domain.CatalogEntry](r.Value)
		public := slices.Contains([]domain.CatalogState{domain.CatalogPublished, domain.CatalogChangePending, domain.CatalogOfflinePending}, e.State)
		one(&t.Published, public)
		one(&t.Compliant, public && e.Content.Validate() == nil)
		one(&t.WithSystem, public && e.Content.SystemRef != "")
	}
	for _, r := range m.records[domain.KindGrant] {
		g := parse[domain.Grant](r.Value)
		active := g.StatusAt(now) == domain.GrantActive
		one(&t.GrantsActive, active)
		one(&t.GrantsUnused, active && !used[r.ID])
	}
	for _, kind := range []domain.RecordKind{domain.KindCatalogEntry, domain.KindRequest} {
		for _, r := range m.records[kind] {
			for _, c := range r.clocks() {
				if c.Overdue(now) {
					t.Overdue[c.Event]++
				}
			}
		}
	}
	return t
}
