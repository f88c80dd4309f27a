package sqlindex

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
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
	at     time.Time // of the transaction
}

// deriver brings the derived tables up to date with writes, in their order, in
// one transaction. Its finish must be called after the last write.
type deriver struct {
	s       statements
	entries map[string]*entryChange // by code
	records map[recordKey]recordRow // that were written, as they are in the end
	lives   map[string][]lifeRow    // of the batches whose status was written, by id; none: deleted
}

type recordKey struct {
	kind domain.RecordKind
	id   string
}

// recordRow is a row of records without its key.
type recordRow struct {
	write
	facts
}

func newDeriver(s statements) *deriver {
	return &deriver{s: s, entries: map[string]*entryChange{}, records: map[recordKey]recordRow{}, lives: map[string][]lifeRow{}}
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
	entry     *domain.CatalogEntry
}

func factsOf(kind domain.RecordKind, id string, value []byte) facts {
	switch kind {
	case domain.KindCatalogEntry:
		return entryFacts(value)
	case domain.KindRequest:
		return requestFacts(value)
	case domain.KindGrant:
		return grantFacts(id, value)
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
		domain.KindCatalogEvent, domain.KindCatalogName, domain.KindOperation, domain.KindIssuingBatch, domain.KindBatchStatus, domain.KindStatusPlaces: // are asked for by their keys alone
	case domain.KindCertificate, domain.KindCertificateID: // are told from others
	}
	return facts{}
}

func decode[T any](value []byte) (*T, bool) {
	var v T
	return &v, json.Unmarshal(value, &v) == nil
}

func entryFacts(value []byte) facts {
	e, ok := decode[domain.CatalogEntry](value)
	if !ok {
		return facts{}
	}
	return facts{
		department: string(e.Provider), state: string(e.State), shareType: e.Content.ShareType,
		clocks: running(e.Review, e.Update), tasks: e.Tasks(), entry: e,
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

// apply notes a write, and brings the tables that have one row for it up to date.
func (d *deriver) apply(ctx context.Context, w write) error {
	if w.kind == domain.KindAnchor { // what it counted before, if anything, counts no more
		if err := d.uncount(ctx, w.id); err != nil {
			return err
		}
	}
	var f facts
	if !w.delete {
		f = factsOf(w.kind, w.id, w.value)
	}
	if w.kind == domain.KindCatalogEntry {
		if err := d.noteEntry(ctx, w, f.entry); err != nil {
			return err
		}
	}
	if w.kind == domain.KindBatchStatus {
		if err := d.applyStatus(ctx, w); err != nil {
			return err
		}
	}
	if w.delete {
		return d.forget(ctx, w)
	}
	d.records[recordKey{w.kind, w.id}] = recordRow{w, f}
	switch w.kind { //nolint:exhaustive // the other kinds have no table of their own
	case domain.KindRequest:
		return d.putRequest(ctx, w.id, f.request)
	case domain.KindGrant:
		return d.putGrant(ctx, w.id, f.grant)
	case domain.KindAnchor:
		return d.count(ctx, f.anchor, 1)
	}
	return nil
}

// putRecords writes the records and what they wait for once for all writes of a
// block, in order of their keys: neighbours of a table and of its indexes are then
// written together.
func (d *deriver) putRecords(ctx context.Context) error {
	keys := slices.SortedFunc(maps.Keys(d.records), func(a, b recordKey) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.id, b.id))
	})
	var records, tasks, clocks []any
	for _, key := range keys {
		r := d.records[key]
		if d.mayWait(key) {
			if err := d.forgetWaits(ctx, key); err != nil {
				return err
			}
		}
		of, part := partOf(key.kind, key.id)
		records = append(records, string(key.kind), key.id, r.n, r.department, r.consumer, r.state, int64(r.shareType), r.grantID,
			r.at.UnixMicro(), r.due(), of, part)
		tasks, clocks = r.waits(key, tasks, clocks)
	}
	clear(d.records)
	if err := d.s.records.insert(ctx, records); err != nil {
		return err
	}
	if err := d.s.tasks.insert(ctx, tasks); err != nil {
		return err
	}
	return d.s.clocks.insert(ctx, clocks)
}

// mayWait reports whether tasks and clocks of a record may be stored. Most catalog
// entries of a batch are new and have none.
func (d *deriver) mayWait(key recordKey) bool {
	switch key.kind { //nolint:exhaustive // nothing else waits
	case domain.KindRequest:
		return true
	case domain.KindCatalogEntry:
		return d.entries[key.id].before.doc != 0
	}
	return false
}

func (d *deriver) forgetWaits(ctx context.Context, key recordKey) error {
	for _, forget := range []*sql.Stmt{d.s.forgetTasks, d.s.forgetClocks} {
		if _, err := forget.ExecContext(ctx, string(key.kind), key.id); err != nil {
			return err
		}
	}
	return nil
}

func (d *deriver) forget(ctx context.Context, w write) error {
	key := recordKey{w.kind, w.id}
	delete(d.records, key)
	if d.mayWait(key) {
		if err := d.forgetWaits(ctx, key); err != nil {
			return err
		}
	}
	if _, err := d.s.forget.ExecContext(ctx, string(w.kind), w.id); err != nil {
		return err
	}
	var err error
	switch w.kind { //nolint:exhaustive // the other kinds have no table of their own
	case domain.KindRequest:
		_, err = d.s.forgetRequest.ExecContext(ctx, w.id)
	case domain.KindGrant:
		_, err = d.s.forgetGrant.ExecContext(ctx, w.id)
	}
	return err
}

// The audiences of tasks that name no department.
const (
	audienceLead = "@lead"
	audiencePeer = "@peer"
)

// never is the due time of what has none: it comes last.
const never = math.MaxInt64

// waits adds the rows of what the record key waits for.
func (f facts) waits(key recordKey, tasks, clocks []any) (moreTasks, moreClocks []any) {
	for i, t := range f.tasks {
		audience, parties := string(t.Department), ""
		switch t.Side { //nolint:exhaustive // tasks have these sides or a department
		case domain.SideLead:
			audience = audienceLead
		case domain.SidePeer:
			audience = audiencePeer
			for _, p := range t.Parties {
				parties += " " + string(p)
			}
			parties += " "
		}
		due := int64(never)
		if t.DueAt != nil {
			due = t.DueAt.UnixMicro()
		}
		tasks = append(tasks, string(key.kind), key.id, i, audience, parties, string(t.Role), t.Transaction, due)
	}
	for i, c := range f.clocks {
		clocks = append(clocks, string(key.kind), key.id, i, string(c.Event), c.DueAt.UnixMicro())
	}
	return tasks, clocks
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

// uncount takes the counts of the anchor that is recorded under id, if any.
func (d *deriver) uncount(ctx context.Context, id string) error {
	if r, ok := d.records[recordKey{domain.KindAnchor, id}]; ok { // written by the same block
		return d.count(ctx, r.anchor, -1)
	}
	var value []byte
	err := d.s.anchor.QueryRowContext(ctx, string(domain.KindAnchor), id).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return d.count(ctx, factsOf(domain.KindAnchor, id, value).anchor, -1)
}

// count adds an anchor's counts, times sign.
func (d *deriver) count(ctx context.Context, a *domain.Anchor, sign int64) error {
	if a == nil {
		return nil
	}
	for _, c := range a.Counts {
		if _, err := d.s.count.ExecContext(ctx, c.GrantID, sign*c.Count); err != nil {
			return err
		}
		if _, err := d.s.forgetNone.ExecContext(ctx, c.GrantID); err != nil {
			return err
		}
	}
	return nil
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
		d := newDeriver(x.insert.in(ctx, tx))
		for after := int64(0); ; {
			writes, err := writesAfter(ctx, tx, after)
			if err != nil {
				return err
			}
			if len(writes) == 0 {
				_, err := tx.ExecContext(ctx, `UPDATE progress SET stale = 0`)
				return err
			}
			for _, w := range writes {
				if err := d.apply(ctx, w); err != nil {
					return err
				}
				after = w.n
			}
			if err := d.finish(ctx); err != nil {
				return err
			}
		}
	})
}

// writesAfter reads the writes to records that follow number after.
func writesAfter(ctx context.Context, tx *sql.Tx, after int64) ([]write, error) {
	rows, err := tx.QueryContext(ctx, `SELECT w.n, w.kind, w.id, w.deleted, w.value, t.body FROM writes w
		JOIN transactions t ON t.block = w.block AND t.seq = w.tx WHERE w.n > ? AND w.kind <> '' ORDER BY w.n LIMIT ?`, after, deriveBatch)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var writes []write
	for rows.Next() {
		var w write
		var body []byte
		if err := rows.Scan(&w.n, (*string)(&w.kind), &w.id, &w.delete, &w.value, &body); err != nil {
			return nil, err
		}
		var t struct {
			Time time.Time `json:"time"`
		}
		if err := json.Unmarshal(body, &t); err != nil {
			return nil, err
		}
		w.at = t.Time
		writes = append(writes, w)
	}
	return writes, rows.Err()
}
