package service

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/accesslog"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/proof"
)

// MaxAccessRecords is the largest batch that [Access.Record] takes.
const MaxAccessRecords = 1000

var (
	recordAccess = duty{
		rule:  "access records are for role operator or role gateway of the department whose log it is",
		roles: []domain.Role{domain.RoleOperator, domain.RoleGateway},
	}
	traceAccess = duty{
		rule:  "traces are for role auditor",
		roles: []domain.Role{domain.RoleAuditor},
	}
)

// Access logs uses of shared data and answers for what was logged. It is safe
// for concurrent use; one process may have one for a log.
type Access struct {
	department domain.DepartmentCode
	index      index.Index
	log        accesslog.Log
	clock      func() time.Time

	caughtUp atomic.Bool // the index had what the log held when this process began

	mu      sync.Mutex
	tallies map[tallyKey]*tally
}

// NewAccess returns the use cases of department's access log.
func NewAccess(department domain.DepartmentCode, ix index.Index, log accesslog.Log, clock func() time.Time) *Access {
	return &Access{department: department, index: ix, log: log, clock: clock, tallies: make(map[tallyKey]*tally)}
}

// Record logs 1 to [MaxAccessRecords] uses of shared data and answers a receipt
// for each, in order, once all are durable. It sets each record's schema and
// time of logging.
//
// All or none: the grant, the form and the quota of every record are checked
// first, and a [*RefusedError] names each that is refused. What a refused access
// wanted is itself logged, with the rule as its result ("refused_quota"), if it
// has the form of a record and names its grant's parties.
//
// An error after the append began does not say that nothing was logged; see
// [accesslog.Log.Append].
func (a *Access) Record(ctx context.Context, caller Caller, records []domain.AccessRecord) ([]AccessReceipt, error) {
	if err := recordAccess.allow(caller, "log access records"); err != nil {
		return nil, err
	}
	if len(records) < 1 || len(records) > MaxAccessRecords {
		return nil, &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf("%d access records; there must be 1 to %d", len(records), MaxAccessRecords)}
	}
	now := a.clock().UTC().Truncate(time.Millisecond)
	records = slices.Clone(records)
	for i := range records {
		records[i].Schema = domain.SchemaAccessRecord
		records[i].LoggedAt = now
		records[i].At = records[i].At.UTC()
	}
	if err := a.validate(records); err != nil {
		return nil, err
	}
	grants, err := a.grants(ctx, records)
	if err != nil {
		return nil, err
	}
	uses, refused, err := a.admit(ctx, records, grants, now)
	if err != nil {
		return nil, err
	}
	if refused != nil {
		return nil, a.logRefusals(ctx, records, grants, refused)
	}
	receipts, err := a.append(ctx, records)
	a.settle(uses, receipts, now)
	if err != nil {
		return nil, err
	}
	return a.promise(records, receipts)
}

// validate checks the form of every record and that this department writes it.
func (a *Access) validate(records []domain.AccessRecord) error {
	var refused RefusedError
	for i, r := range records {
		err := r.Validate()
		if err == nil && r.Writer() != a.department {
			err = &domain.Error{Kind: domain.Forbidden, Msg: fmt.Sprintf("direction: the %s of the record is %s, and this log is %s's", r.Direction, r.Writer(), a.department)}
		}
		if err != nil {
			refused.Refusals = append(refused.Refusals, Refusal{Record: i, Err: asRefusal(err)})
		}
	}
	if len(refused.Refusals) > 0 {
		return &refused
	}
	return nil
}

func asRefusal(err error) *domain.Error {
	var e *domain.Error
	if errors.As(err, &e) {
		return e
	}
	return &domain.Error{Kind: domain.Invalid, Msg: err.Error()}
}

// grants answers the grants that records name; one that the index does not know
// is nil.
func (a *Access) grants(ctx context.Context, records []domain.AccessRecord) (map[string]*domain.Grant, error) {
	grants := make(map[string]*domain.Grant)
	for _, r := range records {
		if _, ok := grants[r.GrantID]; ok {
			continue
		}
		g, err := get[domain.Grant](ctx, a.index, domain.KindGrant, r.GrantID)
		switch {
		case domain.KindOf(err) == domain.NotFound:
			grants[r.GrantID] = nil
		case err != nil:
			return nil, err
		default:
			grants[r.GrantID] = &g.Value
		}
	}
	return grants, nil
}

// admit checks every record against its grant and counts the uses of all if none
// is refused. The quota counts what the batch itself uses, too.
func (a *Access) admit(ctx context.Context, records []domain.AccessRecord, grants map[string]*domain.Grant, now time.Time) ([]*use, *RefusedError, error) {
	days := make(map[tallyKey][]int64)
	for _, r := range records {
		key, day := tallyKey{r.GrantID, r.Direction}, dayOf(r.At).Unix()
		if r.Result == domain.ResultOK && grants[r.GrantID] != nil && !slices.Contains(days[key], day) {
			days[key] = append(days[key], day)
		}
	}

	if err := a.catchUp(ctx); err != nil {
		return nil, nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.refresh(ctx, days, now); err != nil {
		return nil, nil, err
	}
	var refused RefusedError
	batch := make(map[tallyKey]*counts)
	for i, r := range records {
		grant := grants[r.GrantID]
		if grant == nil {
			err := &domain.Error{Kind: domain.Forbidden, Msg: fmt.Sprintf("there is no grant %s", r.GrantID)}
			refused.Refusals = append(refused.Refusals, Refusal{Record: i, Err: err})
			continue
		}
		var total, today int64
		key, day := tallyKey{r.GrantID, r.Direction}, dayOf(r.At).Unix()
		if r.Result == domain.ResultOK {
			if batch[key] == nil {
				batch[key] = new(counts)
			}
			total, today = a.tallies[key].used(day)
			total, today = total+batch[key].total, today+batch[key].days[day]
		}
		if err := domain.Admit(*grant, r, total, today); err != nil {
			refused.Refusals = append(refused.Refusals, Refusal{Record: i, Err: asRefusal(err)})
			continue
		}
		if r.Result == domain.ResultOK {
			batch[key].add(day)
		}
	}
	if len(refused.Refusals) > 0 {
		return nil, &refused, nil
	}
	uses := make([]*use, len(records))
	for i, r := range records {
		if r.Result == domain.ResultOK {
			uses[i] = a.tallies[tallyKey{r.GrantID, r.Direction}].reserve(dayOf(r.At).Unix())
		}
	}
	return uses, nil, nil
}

// catchUp waits, once in this process' life, for the index to have what the log
// holds: entries of an earlier process are in no tally.
func (a *Access) catchUp(ctx context.Context) error {
	if a.caughtUp.Load() {
		return nil
	}
	checkpoint, err := a.log.Checkpoint(ctx)
	if err != nil {
		return fmt.Errorf("read the access log's checkpoint: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, ownWriteWait)
	defer cancel()
	if next, err := awaitAccess(ctx, a.index, checkpoint.Size); err != nil {
		return &ledger.UnavailableError{Err: fmt.Errorf("%d of %d access records are indexed; quotas cannot be checked yet: %w", next, checkpoint.Size, err)}
	}
	a.caughtUp.Store(true)
	return nil
}

// refresh reads the tallies that the batch needs again where they are old.
// Requires a.mu.
func (a *Access) refresh(ctx context.Context, days map[tallyKey][]int64, now time.Time) error {
	unindexed := 0
	for key, days := range days {
		t := a.tallies[key]
		if t == nil {
			t = new(tally)
			a.tallies[key] = t
		}
		if !t.fresh(now, days) {
			if err := t.read(ctx, a.index, key, now, days); err != nil {
				return err
			}
		}
		unindexed += len(t.own)
	}
	if unindexed > maxUnindexed {
		return &ledger.UnavailableError{Err: fmt.Errorf("%d access records are logged and not indexed yet; nothing is released until they are", unindexed)}
	}
	return nil
}

// settle says where the reserved uses came to lie in the log. Without receipts
// the append failed and may have stored some: they count for a while.
func (a *Access) settle(uses []*use, receipts []accesslog.Receipt, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, u := range uses {
		switch {
		case u == nil:
		case receipts == nil:
			u.until = now.Add(unsureFor)
		default:
			u.index = receipts[i].Index
		}
	}
}

// append makes records durable, all or an error.
func (a *Access) append(ctx context.Context, records []domain.AccessRecord) ([]accesslog.Receipt, error) {
	entries := make([][]byte, len(records))
	for i, r := range records {
		var err error
		if entries[i], err = domain.Canonical(r); err != nil {
			return nil, fmt.Errorf("encode access record %d: %w", i, err)
		}
	}
	receipts, err := a.log.Append(ctx, entries)
	if err != nil {
		return nil, fmt.Errorf("log %d access records: %w", len(records), err)
	}
	if len(receipts) != len(records) {
		return nil, fmt.Errorf("log %d access records: the log answers %d receipts", len(records), len(receipts))
	}
	return receipts, nil
}

// promise signs a receipt for each record.
func (a *Access) promise(records []domain.AccessRecord, receipts []accesslog.Receipt) ([]AccessReceipt, error) {
	out := make([]AccessReceipt, len(records))
	for i, r := range receipts {
		note, err := a.log.Sign(ReceiptText(a.log.Origin(), r.Index, r.LeafHash))
		if err != nil {
			return nil, fmt.Errorf("sign the receipt of log entry %d, which is durable: %w", r.Index, err)
		}
		out[i] = AccessReceipt{CallID: records[i].CallID, Index: r.Index, LeafHash: r.LeafHash, Promise: note}
	}
	return out, nil
}

// ReceiptText answers the text that an access log signs to promise that an entry
// is durable at index and will be there in every later checkpoint: four lines,
// each ended by a newline. The first is no log's origin, so that a receipt can
// never pass for a checkpoint.
//
//	zhenglian/access-receipt/1
//	<origin of the log>
//	<index, decimal>
//	<RFC 6962 leaf hash, standard base64>
func ReceiptText(origin string, index uint64, leafHash []byte) string {
	return fmt.Sprintf("zhenglian/access-receipt/1\n%s\n%d\n%s\n", origin, index, base64.StdEncoding.EncodeToString(leafHash))
}

// logRefusals appends a record of every refusal that can be one, and answers
// refused, joined with what went wrong in logging it.
func (a *Access) logRefusals(ctx context.Context, records []domain.AccessRecord, grants map[string]*domain.Grant, refused *RefusedError) error {
	var traces []domain.AccessRecord
	for _, f := range refused.Refusals {
		r, grant := records[f.Record], grants[records[f.Record].GrantID]
		if grant == nil {
			continue
		}
		r.Result = refusalResult(*grant, r)
		if r.Validate() == nil && domain.Admit(*grant, r, 0, 0) == nil {
			traces = append(traces, r)
		}
	}
	if len(traces) == 0 {
		return refused
	}
	if _, err := a.append(ctx, traces); err != nil {
		return errors.Join(refused, fmt.Errorf("log the refusals: %w", err))
	}
	return refused
}

// Get answers entry idx of the department's log, read from the log itself. The
// logs of other departments are at their own gateways: not_found here.
func (a *Access) Get(ctx context.Context, department domain.DepartmentCode, idx uint64) (index.AccessEntry, error) {
	if err := a.own(department); err != nil {
		return index.AccessEntry{}, err
	}
	checkpoint, err := a.log.Checkpoint(ctx)
	if err != nil {
		return index.AccessEntry{}, fmt.Errorf("read log entry %d: %w", idx, err)
	}
	if idx >= checkpoint.Size {
		return index.AccessEntry{}, &domain.Error{Kind: domain.NotFound, Msg: fmt.Sprintf("the log of %s has %d entries, numbered from 0", department, checkpoint.Size)}
	}
	return a.entry(ctx, idx)
}

func (a *Access) own(department domain.DepartmentCode) error {
	if department == a.department {
		return nil
	}
	return &domain.Error{Kind: domain.NotFound, Msg: fmt.Sprintf("this gateway holds the access log of %s; ask the gateway of the department whose log it is", a.department)}
}

// entry reads an integrated entry. One that is not there is not "not found": an
// entry below the checkpoint's size is owed.
func (a *Access) entry(ctx context.Context, idx uint64) (index.AccessEntry, error) {
	raw, err := a.log.Entries(ctx, idx, idx+1)
	if err != nil {
		return index.AccessEntry{}, fmt.Errorf("read log entry %d: %w", idx, err)
	}
	if len(raw) != 1 {
		return index.AccessEntry{}, fmt.Errorf("log entry %d is missing", idx)
	}
	return accessEntry(idx, raw[0])
}

// Proof answers the C2SP tlog-proof@v1 text which shows that entry idx is in the
// department's log at the last checkpoint that the ledger anchors. It has just
// been verified. An entry that no anchor covers yet is a conflict: ask again.
func (a *Access) Proof(ctx context.Context, department domain.DepartmentCode, idx uint64) ([]byte, error) {
	if err := a.own(department); err != nil {
		return nil, err
	}
	registration, err := get[domain.LogRegistration](ctx, a.index, domain.KindLog, string(department))
	if err != nil {
		return nil, fmt.Errorf("prove log entry %d: %w", idx, err)
	}
	size := registration.Value.Size
	if idx >= size {
		return nil, &domain.Error{Kind: domain.Conflict, Msg: fmt.Sprintf("log entry %d is not anchored: the last anchor covers %d entries", idx, size)}
	}
	anchor, err := get[domain.Anchor](ctx, a.index, domain.KindAnchor, domain.AnchorID(department, size))
	if err != nil {
		return nil, fmt.Errorf("prove log entry %d: %w", idx, err)
	}
	entry, err := a.entry(ctx, idx)
	if err != nil {
		return nil, fmt.Errorf("prove log entry %d: %w", idx, err)
	}
	path, err := a.log.InclusionProof(ctx, idx, size)
	if err != nil {
		return nil, fmt.Errorf("prove log entry %d: %w", idx, err)
	}
	note := []byte(anchor.Value.Checkpoint)
	checkpoint, err := proof.OpenCheckpoint(note, registration.Value.Origin, registration.Value.VerifierKey)
	if err == nil {
		err = proof.VerifyInclusion([32]byte(entry.LeafHash), idx, checkpoint.Size, checkpoint.Root, path)
	}
	if err != nil {
		// The log on disk does not hold what was anchored: an alarm, and not the
		// caller's mistake, so the kind is dropped.
		return nil, fmt.Errorf("log entry %d does not verify against the anchor of size %d: %v", idx, size, err) //nolint:errorlint // drops the kind
	}
	return proofText(idx, path, note), nil
}

// proofText composes a C2SP tlog-proof@v1.
func proofText(idx uint64, path [][]byte, checkpoint []byte) []byte {
	var b strings.Builder
	b.WriteString("c2sp.org/tlog-proof@v1\nindex " + strconv.FormatUint(idx, 10) + "\n")
	for _, h := range path {
		b.WriteString(base64.StdEncoding.EncodeToString(h) + "\n")
	}
	b.WriteString("\n")
	b.Write(checkpoint)
	return []byte(b.String())
}

// Trace answers who used what, when and why, newest first, for auditors.
func (a *Access) Trace(ctx context.Context, caller Caller, filter index.AccessFilter, page index.Page) (index.AccessEntries, error) {
	if err := traceAccess.allow(caller, "trace access records"); err != nil {
		return index.AccessEntries{}, err
	}
	page, err := bounded(page)
	if err != nil {
		return index.AccessEntries{}, err
	}
	entries, err := a.index.Trace(ctx, filter, page)
	if err != nil {
		return index.AccessEntries{}, fmt.Errorf("trace access records: %w", err)
	}
	return entries, nil
}
