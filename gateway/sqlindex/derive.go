package sqlindex

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

// write is a write of a valid transaction to a record.
type write struct {
	n      int64 // its number in the table writes
	kind   domain.RecordKind
	id     string
	delete bool
	value  []byte
	at     time.Time            // of the transaction
	entry  *domain.CatalogEntry // of a catalog entry that can be read
}

// deriver brings the derived tables up to date with writes, in their order, in
// one transaction.
type deriver struct {
	s       statements
	events  findEvents
	records map[recordKey]*recordChange // that the writes change
	tokens  tokenizer
	lives   map[string][]lifeRow // of the batches whose status was written, by id; none: deleted
}

// findEvents answers events by the numbers of their writes.
type findEvents func(ctx context.Context, numbers []int64) (map[int64]*domain.WrittenEvent, error)

type recordKey struct {
	kind domain.RecordKind
	id   string
}

// recordChange is what becomes of a record between two states of the index.
type recordChange struct {
	before, now recordRow
	written     bool    // now is of a write derived from
	history     []int64 // the numbers of writes that its history has from now on
}

// recordRow is a record with what is derived from it; without n there is none.
type recordRow struct {
	write
	doc int64 // of a catalog entry: the number of the write that first recorded it
	facts
}

func newDeriver(s statements, events findEvents) *deriver {
	return &deriver{s: s, events: events, records: map[recordKey]*recordChange{}, lives: map[string][]lifeRow{}}
}

// derive brings the tables up to date with writes.
func (d *deriver) derive(ctx context.Context, writes []write) error {
	writes, err := d.putNames(ctx, writes)
	if err != nil {
		return err
	}
	if err := d.load(ctx, writes); err != nil {
		return err
	}
	for _, w := range writes {
		if err := d.apply(ctx, w); err != nil {
			return fmt.Errorf("write %d, to %s %q: %w", w.n, w.kind, w.id, err)
		}
	}
	return d.finish(ctx)
}

// putNames notes the writes to names, in order of their table, and answers the others.
func (d *deriver) putNames(ctx context.Context, writes []write) (others []write, err error) {
	type name struct{ number, n int64 }
	var names []name
	others = writes[:0]
	for _, w := range writes {
		if w.kind == domain.KindCatalogName {
			names = append(names, name{nameNumber(w.id), w.n})
		} else {
			others = append(others, w)
		}
	}
	slices.SortFunc(names, func(a, b name) int { return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.n, b.n)) })
	rows := make([]any, 0, 2*len(names))
	for _, name := range names {
		rows = append(rows, name.number, name.n)
	}
	return others, d.s.names.insert(ctx, rows)
}

// nameNumber is the number by which a name is found: of the names of a provider, which
// stand together, the first bits are the same. The rest is as good as random, and short:
// a batch of names touches every page of its provider's.
func nameNumber(id string) int64 {
	const ofProvider, ofName = 18, 44
	provider, _, _ := strings.Cut(id, "~")
	of := func(s string) uint64 {
		sum := sha256.Sum256([]byte(s))
		return binary.BigEndian.Uint64(sum[:])
	}
	return int64(of(provider)>>(64-ofProvider)<<ofName | of(id)>>(64-ofName)) //nolint:gosec // 62 bits
}

// load reads what is recorded under the keys of writes. The values matter of what
// takes rows in tables that do not name their record.
func (d *deriver) load(ctx context.Context, writes []write) error {
	ids := make(map[domain.RecordKind][]string)
	changes := make([]recordChange, len(writes)) // at once
	for i, w := range writes {
		key := recordKey{w.kind, w.id}
		if d.records[key] == nil {
			d.records[key] = &changes[i]
			ids[w.kind] = append(ids[w.kind], w.id)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(ids)) {
		find := d.s.current
		switch kind { //nolint:exhaustive // of the others the values do not matter
		case domain.KindCatalogEntry, domain.KindRequest, domain.KindAnchor:
			find = d.s.currentValue
		}
		told := make(map[int64][]*recordRow) // by the event that tells them
		if err := find.each(ctx, string(kind), ids[kind], func(rows *sql.Rows) error {
			var r recordRow
			var event int64
			if err := rows.Scan(&r.id, &r.n, &r.doc, &event, &r.value); err != nil {
				return err
			}
			r.kind = kind
			before := &d.records[recordKey{kind, r.id}].before
			*before = r
			told[event] = append(told[event], before)
			return nil
		}); err != nil {
			return err
		}
		if err := d.loadFacts(ctx, told); err != nil {
			return err
		}
		for _, id := range ids[kind] {
			c := d.records[recordKey{kind, id}]
			c.now = c.before
		}
	}
	return nil
}

// loadFacts reads what was derived from records, by the number of the event that tells
// them.
func (d *deriver) loadFacts(ctx context.Context, told map[int64][]*recordRow) error {
	numbers := slices.DeleteFunc(slices.Sorted(maps.Keys(told)), func(n int64) bool { return n == 0 })
	events, err := d.events(ctx, numbers)
	if err != nil {
		return err
	}
	for event, rows := range told {
		for _, r := range rows {
			if r.kind == domain.KindCatalogEntry {
				r.entry = readEntry(r.id, r.value, events[event])
			}
			r.facts = factsOf(r.write)
		}
	}
	return nil
}

// facts are what is derived from one record. A record that cannot be read has
// none, which must not stop the index.
type facts struct {
	department, consumer, state, grantID string

	shareType domain.ShareType
	clocks    []*domain.Clock // that run
	tasks     []domain.Task
	request   *domain.ShareRequest
	grant     *domain.Grant
	anchor    *domain.Anchor
}

func factsOf(w write) facts {
	value := w.value
	switch w.kind {
	case domain.KindCatalogEntry:
		return entryFacts(w.entry)
	case domain.KindRequest:
		return requestFacts(value)
	case domain.KindGrant:
		return grantFacts(w.id, value)
	case domain.KindAnchor:
		if a, ok := decode[domain.Anchor](value); ok {
			return facts{department: string(a.Owner), anchor: a}
		}
	case domain.KindCatalogVersion:
		if v, ok := decode[struct {
			Provider string `json:"provider"`
		}](value); ok {
			return facts{department: v.Provider}
		}
	case domain.KindLog:
		if l, ok := decode[domain.LogRegistration](value); ok {
			return facts{department: string(l.Owner)}
		}
	case domain.KindAlarm:
		if a, ok := decode[struct {
			About string `json:"about"`
			State string `json:"state"`
		}](value); ok {
			return facts{department: a.About, state: a.State}
		}
	case domain.KindIssuer:
		if a, ok := decode[struct {
			Issuer string `json:"issuer"`
			State  string `json:"state"`
		}](value); ok {
			return facts{department: a.Issuer, state: a.State}
		}
	case domain.KindDepartment:
		if d, ok := decode[domain.Department](value); ok {
			return facts{department: string(d.Code)}
		}
	case domain.KindRequestEvent, domain.KindGrantEvent, domain.KindAlarmEvent:
		if e, ok := decode[struct {
			State  string `json:"state"`
			Status string `json:"status"`
		}](value); ok {
			return facts{state: e.State + e.Status} // an event has one of them
		}
	case domain.KindMembers, domain.KindCalendar, domain.KindCalendarVersion, domain.KindRule, domain.KindRuleVersion,
		domain.KindCatalogEvent, domain.KindOperation, domain.KindIssuingBatch, domain.KindBatchStatus, domain.KindStatusPlaces: // are asked for by their keys alone
	case domain.KindCertificate, domain.KindCertificateID: // are told from others
	case domain.KindCatalogName: // has no record
	}
	return facts{}
}

func decode[T any](value []byte) (*T, bool) {
	var v T
	return &v, json.Unmarshal(value, &v) == nil
}

func entryFacts(e *domain.CatalogEntry) facts {
	if e == nil {
		return facts{}
	}
	return facts{
		department: string(e.Provider), state: string(e.State), shareType: e.Content.ShareType,
		clocks: running(e.Review, e.Update), tasks: e.Tasks(),
	}
}

func requestFacts(value []byte) facts {
	r, ok := decode[domain.ShareRequest](value)
	if !ok {
		return facts{}
	}
	return facts{
		department: string(r.Provider), consumer: string(r.Consumer), state: string(r.State), grantID: r.GrantID,
		clocks: running(r.Clock), tasks: r.Tasks(), request: r,
	}
}

func grantFacts(id string, value []byte) facts {
	g, ok := decode[domain.Grant](value)
	if !ok {
		return facts{}
	}
	return facts{department: string(g.Provider), consumer: string(g.Consumer), state: string(g.State), grantID: id, grant: g}
}

func running(clocks ...*domain.Clock) []*domain.Clock {
	return slices.DeleteFunc(clocks, func(c *domain.Clock) bool { return c == nil || c.StoppedAt != nil })
}

// due is when the first of the clocks is overdue; nil when none runs.
func (f facts) due() any {
	var due any
	earliest := int64(math.MaxInt64)
	for _, c := range f.clocks {
		earliest = min(earliest, c.DueAt.UnixMicro())
		due = earliest
	}
	return due
}

// partOf splits the id of a record that is the nth part of another one; of is ""
// for every other record.
func partOf(kind domain.RecordKind, id string) (of string, n int64) {
	switch kind {
	case domain.KindCatalogVersion, domain.KindRequestEvent, domain.KindGrantEvent, domain.KindAlarmEvent,
		domain.KindCalendarVersion, domain.KindRuleVersion, domain.KindAnchor:
	default:
		return "", 0
	}
	at := strings.LastIndexByte(id, '~')
	if at < 1 {
		return "", 0
	}
	n, err := strconv.ParseInt(id[at+1:], 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != id[at+1:] {
		return "", 0
	}
	return id[:at], n
}

// apply notes a write.
func (d *deriver) apply(ctx context.Context, w write) error {
	c := d.records[recordKey{w.kind, w.id}]
	if c.now.n != 0 {
		c.history = append(c.history, c.now.n, w.n)
	} else if w.delete {
		c.history = append(c.history, w.n)
	}
	c.written = true
	doc := c.now.doc
	c.now = recordRow{}
	if !w.delete {
		c.now = recordRow{write: w, facts: factsOf(w)}
		if w.kind == domain.KindCatalogEntry {
			c.now.doc = cmp.Or(doc, w.n)
		}
	}
	if w.kind == domain.KindBatchStatus {
		return d.applyStatus(ctx, w)
	}
	return nil
}

// finish writes what became of the records, in order of their keys: neighbours of a
// table and of its indexes are then written together.
func (d *deriver) finish(ctx context.Context) error {
	keys := slices.SortedFunc(maps.Keys(d.records), func(a, b recordKey) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.id, b.id))
	})
	for _, put := range []func(context.Context, []recordKey) error{d.putRecords, d.putTasks, d.putClocks, d.putOthers, d.putEntries} {
		if err := put(ctx, keys); err != nil {
			return err
		}
	}
	clear(d.records)
	return d.putLives(ctx)
}

func (d *deriver) putRecords(ctx context.Context, keys []recordKey) error {
	records, history := make([]any, 0, recordColumns*len(keys)), []any(nil)
	for _, key := range keys {
		c := d.records[key]
		for _, n := range c.history {
			history = append(history, domain.KeyOf(key.kind, key.id), n)
		}
		r := c.now
		if r.n == 0 {
			if _, err := d.s.forget.ExecContext(ctx, string(key.kind), key.id); err != nil {
				return err
			}
			continue
		}
		of, part := partOf(key.kind, key.id)
		records = append(records, string(key.kind), key.id, r.n, r.doc, r.department, r.consumer, r.state, int64(r.shareType), r.grantID,
			r.at.UnixMicro(), r.due(), of, part)
	}
	if err := d.s.history.insert(ctx, history); err != nil {
		return err
	}
	return d.s.records.insert(ctx, records)
}

// recordColumns is the number of columns of the table records.
const recordColumns = 13

// The audiences of tasks that name no department.
const (
	audienceLead = "@lead"
	audiencePeer = "@peer"
)

// never is the due time of what has none: it comes last.
const never = math.MaxInt64

// taskOf is a row of the table tasks.
type taskOf struct {
	audience, role   string
	due              int64
	key              recordKey
	seq              int
	parties, perform string
}

func taskRow(key recordKey, seq int, t domain.Task) taskOf {
	row := taskOf{audience: string(t.Department), role: string(t.Role), due: never, key: key, seq: seq, perform: t.Transaction}
	switch t.Side { //nolint:exhaustive // tasks have these sides or a department
	case domain.SideLead:
		row.audience = audienceLead
	case domain.SidePeer:
		row.audience = audiencePeer
		for _, p := range t.Parties {
			row.parties += " " + string(p)
		}
		row.parties += " "
	}
	if t.DueAt != nil {
		row.due = t.DueAt.UnixMicro()
	}
	return row
}

func (t taskOf) appendTo(args []any) []any {
	return append(args, t.audience, t.role, t.due, string(t.key.kind), t.key.id, t.seq, t.parties, t.perform)
}

// taskRows are the tasks of the record under key.
func (f facts) taskRows(key recordKey) []taskOf {
	var rows []taskOf
	for i, t := range f.tasks {
		rows = append(rows, taskRow(key, i, t))
	}
	return rows
}

func (d *deriver) putTasks(ctx context.Context, keys []recordKey) error {
	var args []any
	for _, key := range keys {
		c := d.records[key]
		gone, come := c.before.taskRows(key), c.now.taskRows(key)
		if slices.Equal(gone, come) {
			continue
		}
		for _, t := range gone {
			if _, err := d.s.forgetTask.ExecContext(ctx, t.audience, t.role, t.due, string(key.kind), key.id, t.seq); err != nil {
				return err
			}
		}
		for _, t := range come {
			args = t.appendTo(args)
		}
	}
	return d.s.tasks.insert(ctx, args)
}

// putClocks counts the time limits that run.
func (d *deriver) putClocks(ctx context.Context, keys []recordKey) error {
	type clock struct {
		due   int64
		event domain.DeadlineEvent
	}
	counts := make(map[clock]int64)
	for _, key := range keys {
		c := d.records[key]
		for _, run := range c.before.clocks {
			counts[clock{run.DueAt.UnixMicro(), run.Event}]--
		}
		for _, run := range c.now.clocks {
			counts[clock{run.DueAt.UnixMicro(), run.Event}]++
		}
	}
	for c, n := range counts {
		if n == 0 {
			continue
		}
		if _, err := d.s.clock.ExecContext(ctx, c.due, string(c.event), n); err != nil {
			return err
		}
		if _, err := d.s.forgetClock.ExecContext(ctx, c.due, string(c.event)); err != nil {
			return err
		}
	}
	return nil
}

// putOthers brings the tables up to date that are of one kind.
func (d *deriver) putOthers(ctx context.Context, keys []recordKey) error {
	anchored := make(map[string]int64) // by grant
	for _, key := range keys {
		c := d.records[key]
		var err error
		switch key.kind { //nolint:exhaustive // the other kinds have no table of their own
		case domain.KindRequest:
			err = d.putRequest(ctx, key.id, c.now.request)
		case domain.KindGrant:
			err = d.putGrant(ctx, key.id, c.now.grant)
		case domain.KindAnchor:
			count(c.before.anchor, anchored, -1)
			count(c.now.anchor, anchored, 1)
		}
		if err != nil {
			return err
		}
	}
	for grant, n := range anchored {
		if n == 0 {
			continue
		}
		if _, err := d.s.count.ExecContext(ctx, grant, n); err != nil {
			return err
		}
		if _, err := d.s.forgetNone.ExecContext(ctx, grant); err != nil {
			return err
		}
	}
	return nil
}

func (d *deriver) putRequest(ctx context.Context, id string, r *domain.ShareRequest) error {
	if r == nil {
		_, err := d.s.forgetRequest.ExecContext(ctx, id)
		return err
	}
	decision := r.Decision
	if decision == "" && r.GrantID != "" {
		decision = domain.Agree // granted with the check
	}
	_, err := d.s.request.ExecContext(ctx, id, string(decision), decision == domain.Refuse && len(r.LegalBasis) == 0,
		r.AnsweredAt != nil, r.AnsweredLate, r.AnsweredIn)
	return err
}

func (d *deriver) putGrant(ctx context.Context, id string, g *domain.Grant) error {
	if g == nil || g.State != domain.GrantActive {
		_, err := d.s.forgetGrant.ExecContext(ctx, id)
		return err
	}
	_, err := d.s.grant.ExecContext(ctx, id, g.Period.From.UnixMicro(), g.Period.To.UnixMicro())
	return err
}

// count adds an anchor's counts, times sign.
func count(a *domain.Anchor, counts map[string]int64, sign int64) {
	if a == nil {
		return
	}
	for _, c := range a.Counts {
		counts[c.GrantID] += sign * c.Count
	}
}

// deriveBatch is how many writes are derived anew at a time.
const deriveBatch = 1000

// derive derives all tables anew from the writes if a migration asked for it.
func (x *Index) derive(ctx context.Context) error {
	return inTransaction(ctx, x.writer, func(tx *sql.Tx) error {
		var stale bool
		if err := tx.QueryRowContext(ctx, `SELECT stale FROM progress`).Scan(&stale); err != nil || !stale {
			return err
		}
		events := x.findIn(tx)
		d := newDeriver(x.insert.in(ctx, tx), events)
		for after := int64(0); ; {
			writes, last, err := writesAfter(ctx, tx, events, after)
			if err != nil {
				return err
			}
			if last == after {
				_, err := tx.ExecContext(ctx, `UPDATE progress SET stale = 0`)
				return err
			}
			if err := d.derive(ctx, writes); err != nil {
				return err
			}
			after = last
		}
	})
}

// writesAfter reads writes to records and names that follow number after, and the
// number of the last one read.
func writesAfter(ctx context.Context, tx *sql.Tx, events findEvents, after int64) (writes []write, last int64, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT w.n, w.key, w.deleted, w.value, w.event, t.body FROM writes w
		JOIN transactions t ON t.block = w.block AND t.seq = w.tx WHERE w.n > ? AND w.counts ORDER BY w.n LIMIT ?`, after, deriveBatch)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	last = after
	var told []int64
	for rows.Next() {
		var w write
		var key string
		var body []byte
		var event int64
		if err := rows.Scan(&last, &key, &w.delete, &w.value, &event, &body); err != nil {
			return nil, 0, err
		}
		w.n = last
		w.kind, w.id, _ = domain.ParseKey(key)
		var t struct {
			Time time.Time `json:"time"`
		}
		if err := json.Unmarshal(body, &t); err != nil {
			return nil, 0, err
		}
		w.at = t.Time
		writes, told = append(writes, w), append(told, event)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, 0, err
	}
	numbers := slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(told))), func(n int64) bool { return n == 0 })
	found, err := events(ctx, numbers)
	if err != nil {
		return nil, 0, err
	}
	for i := range writes {
		if w := &writes[i]; w.kind == domain.KindCatalogEntry && !w.delete {
			w.entry = readEntry(w.id, w.value, found[told[i]])
		}
	}
	return writes, last, nil
}
