package service

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/accesslog"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// MaxAccessRecords is the largest batch that [Access.Record] takes.
const MaxAccessRecords = 1000

// RecordOptions are what a caller may ask of [Access.Record].
type RecordOptions struct {
	// Anchored asks for an answer only once an anchor covers every record.
	Anchored bool
}

// BusyError says that too much waits to be logged or indexed. Nothing was
// logged; the same records may be presented again.
type BusyError struct{ RetryAfter time.Duration }

func (e *BusyError) Error() string {
	return fmt.Sprintf("too many access records wait, nothing was logged; try again in %s", e.RetryAfter)
}

// BacklogError says that the log's anchors are too far behind, so that nothing
// is released. What was wanted was logged with the result "refused_backlog".
type BacklogError struct{ Lag, MaxLag time.Duration }

func (e *BacklogError) Error() string {
	return fmt.Sprintf("evidence backlog: the oldest access record that no anchor covers is %s old, allowed are %s; nothing is released until the log is anchored", e.Lag.Round(time.Second), e.MaxLag)
}

// NotAnchoredError says that records are durable, and that no anchor covered them
// in time. Presented again, they are answered once they are anchored.
type NotAnchoredError struct{ Receipts []AccessReceipt } // of the whole batch

func (e *NotAnchoredError) Error() string {
	var indexes []string
	for i, r := range e.Receipts {
		if i == namedRefusals {
			indexes = append(indexes, fmt.Sprintf("and %d more", len(e.Receipts)-i))
			break
		}
		indexes = append(indexes, strconv.FormatUint(r.Index, 10))
	}
	return fmt.Sprintf("durable at index %s of the log and not anchored yet; present the same records again to learn of the anchor", strings.Join(indexes, ", "))
}

// Record logs 1 to [MaxAccessRecords] uses of shared data and answers a receipt
// for each, in order, under one signature, once all are durable. It sets each record's schema, the
// step of the grant that it was decided on, and the time of logging.
//
// A call is logged once for each direction: a record that was logged before with
// the same content is answered with the first receipt, and one with other
// content refused.
//
// All or none: the grant, the form and the quota of every record are checked
// first, and a [*RefusedError] names each that is refused. What a refused access
// wanted is itself logged, with the rule as its result ("refused_quota"), if it
// has the form of a record and names its grant's parties. Under a
// [*BacklogError] that is so for every release. With a [*BusyError] nothing was
// logged.
//
// With [RecordOptions].Anchored, and always for releases of data of grade 3 or 4,
// it waits for the anchor that covers the record, and a [*NotAnchoredError] says
// that none came in time.
//
// Any other error after the append began does not say that nothing was logged;
// present the same records again.
func (a *Access) Record(ctx context.Context, caller Caller, options RecordOptions, records []domain.AccessRecord) (AccessReceipts, error) {
	if err := recordAccess.allow(caller, "log access records"); err != nil {
		return AccessReceipts{}, err
	}
	if len(records) < 1 || len(records) > MaxAccessRecords {
		return AccessReceipts{}, &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf("%d access records; there must be 1 to %d", len(records), MaxAccessRecords)}
	}
	now := a.clock().UTC().Truncate(time.Millisecond)
	records = dated(records, now)
	if err := a.validate(records); err != nil {
		return AccessReceipts{}, err
	}
	if err := a.catchUp(ctx); err != nil {
		return AccessReceipts{}, err
	}
	b, err := a.claim(ctx, records, now)
	if err != nil {
		return AccessReceipts{}, err
	}
	mustAnchor, err := a.decide(ctx, b)
	if err != nil {
		a.calls.release(b)
		return AccessReceipts{}, err
	}
	if err := a.logFresh(ctx, b); err != nil {
		return AccessReceipts{}, err
	}
	answer, err := a.promise(b)
	if err != nil {
		return AccessReceipts{}, err
	}
	if err := a.awaitAnchor(ctx, answer.Receipts, options.Anchored, mustAnchor); err != nil {
		return AccessReceipts{}, err
	}
	return answer, nil
}

// dated answers a copy of records with what the log sets. Which step of its grant
// a record is decided on is not known yet; 1 stands for it.
func dated(records []domain.AccessRecord, now time.Time) []domain.AccessRecord {
	records = slices.Clone(records)
	for i := range records {
		r := &records[i]
		r.Schema, r.GrantSeq, r.LoggedAt = domain.SchemaAccessRecord, 1, now
		r.At, r.RespondedAt = r.At.UTC(), r.RespondedAt.UTC()
	}
	return records
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

// catchUp waits, once in this process' life, for the index to have what the log
// holds: entries of an earlier process are in no tally and are no known calls.
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

// decide admits or refuses the fresh records of b, and answers which of all must
// be anchored before they are acknowledged. When one is refused it logs the
// refusals.
func (a *Access) decide(ctx context.Context, b *batch) (mustAnchor []bool, err error) {
	if err := a.grants(ctx, b); err != nil {
		return nil, err
	}
	if lag := a.backlog(); lag > a.maxLag && b.releases() {
		return nil, a.refuseReleases(ctx, b, &BacklogError{Lag: lag, MaxLag: a.maxLag})
	}
	if mustAnchor, err = a.mustAnchor(ctx, b); err != nil {
		return nil, err
	}
	refusals, err := a.admit(ctx, b)
	if err != nil {
		return nil, err
	}
	if len(refusals) > 0 {
		return nil, a.refuse(ctx, b, refusals)
	}
	return mustAnchor, nil
}

// releases reports whether b has a fresh record of a release.
func (b *batch) releases() bool {
	return slices.ContainsFunc(b.fresh, func(i int) bool { return b.records[i].Result == domain.ResultOK })
}

// mustAnchor answers for each record whether it releases data of a grade that
// asks for it.
func (a *Access) mustAnchor(ctx context.Context, b *batch) ([]bool, error) {
	must := make([]bool, len(b.records))
	for i, r := range b.records {
		if r.Result != domain.ResultOK {
			continue
		}
		code, version := r.CatalogCode, r.CatalogVersion
		if b.calls[i].by == b { // not admitted yet: the grant says what it may be of
			grant := b.grants[r.GrantID]
			if grant == nil {
				continue // will be refused
			}
			code, version = grant.CatalogCode, grant.CatalogVersion
		}
		grade, err := a.grades.of(ctx, code, version, r.Items)
		if err != nil {
			return nil, err
		}
		must[i] = grade >= gradeAnchored
	}
	return must, nil
}

// logFresh logs the fresh records of b and ends b. Once begun, an append goes on
// when its caller leaves, so that the outcome of a call is learned.
func (a *Access) logFresh(ctx context.Context, b *batch) error {
	if len(b.fresh) == 0 {
		a.calls.release(b)
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- a.store(context.WithoutCancel(ctx), b) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("log %d access records: %w", len(b.fresh), ctx.Err())
	}
}

// store appends the fresh records of b and settles what they use.
func (a *Access) store(ctx context.Context, b *batch) error {
	fresh := make([]domain.AccessRecord, len(b.fresh))
	for j, i := range b.fresh {
		fresh[j] = b.records[i]
	}
	receipts, err := a.append(ctx, fresh)
	var busy *BusyError
	switch {
	case err == nil:
		a.settle(b.uses, func(j int, u *use) { u.index = receipts[j].Index })
		a.calls.logged(b, receipts)
	case errors.As(err, &busy): // nothing was stored
		a.settle(b.uses, func(_ int, u *use) { u.drop() })
		a.calls.release(b)
	default: // some may be
		until := b.now.Add(unsureFor)
		a.settle(b.uses, func(_ int, u *use) { u.until = until })
		a.calls.unsure(b, until)
	}
	return err
}

// append makes records durable, all or an error. A full queue is a [*BusyError].
func (a *Access) append(ctx context.Context, records []domain.AccessRecord) ([]accesslog.Receipt, error) {
	entries := make([][]byte, len(records))
	for i, r := range records {
		var err error
		if entries[i], err = domain.Canonical(r); err != nil {
			return nil, fmt.Errorf("encode access record %d: %w", i, err)
		}
	}
	receipts, err := a.log.Append(ctx, entries)
	var busy *accesslog.BusyError
	if errors.As(err, &busy) {
		return nil, &BusyError{RetryAfter: busy.RetryAfter}
	}
	if err != nil {
		return nil, fmt.Errorf("log %d access records: %w", len(records), err)
	}
	if len(receipts) != len(records) {
		return nil, fmt.Errorf("log %d access records: the log answers %d receipts", len(records), len(receipts))
	}
	return receipts, nil
}

// promise makes a receipt for each record and signs them all at once: a signature
// takes as long as all else that is done for a record.
func (a *Access) promise(b *batch) (AccessReceipts, error) {
	answer := AccessReceipts{Receipts: make([]AccessReceipt, len(b.records))}
	for i, k := range b.calls {
		answer.Receipts[i] = AccessReceipt{CallID: b.records[i].CallID, Index: k.receipt.Index, LeafHash: k.receipt.LeafHash}
	}
	var err error
	if answer.Promise, err = a.log.Sign(ReceiptText(a.log.Origin(), answer.Receipts)); err != nil {
		return AccessReceipts{}, fmt.Errorf("sign the receipts of %d log entries, which are durable: %w", len(b.records), err)
	}
	return answer, nil
}

// ReceiptText answers the text that an access log signs to promise that entries are
// durable, each at its index, and will be there in every later checkpoint: two lines
// and one for each entry, each ended by a newline. The first is no log's origin, so
// that a promise can never pass for a checkpoint.
//
//	zhenglian/access-receipt/2
//	<origin of the log>
//	<index, decimal> <RFC 6962 leaf hash, standard base64>
func ReceiptText(origin string, receipts []AccessReceipt) string {
	text := []byte("zhenglian/access-receipt/2\n" + origin + "\n")
	for _, r := range receipts {
		text = append(strconv.AppendUint(text, r.Index, 10), ' ')
		text = append(base64.StdEncoding.AppendEncode(text, r.LeafHash), '\n')
	}
	return string(text)
}

// refuse logs refusals and answers them as an error.
func (a *Access) refuse(ctx context.Context, b *batch, refusals []refusal) error {
	var refused RefusedError
	var traces []domain.AccessRecord
	for _, f := range refusals {
		refused.Refusals = append(refused.Refusals, Refusal{Record: f.record, Err: f.err})
		r := b.records[f.record]
		if grant := b.grants[r.GrantID]; grant != nil {
			r.Result = refusalResult(*grant, r, f.used)
			traces = append(traces, r)
		}
	}
	return a.logRefusals(ctx, b, traces, &refused)
}

// refuseReleases logs that nothing is released for a reason that lies in no
// record.
func (a *Access) refuseReleases(ctx context.Context, b *batch, reason error) error {
	var traces []domain.AccessRecord
	for _, i := range b.fresh {
		if r := b.records[i]; r.Result == domain.ResultOK && b.grants[r.GrantID] != nil {
			r.Result = refusedBacklog
			traces = append(traces, r)
		}
	}
	return a.logRefusals(ctx, b, traces, reason)
}

// logRefusals appends the traces that can be records, and answers reason, joined
// with what went wrong in logging them.
func (a *Access) logRefusals(ctx context.Context, b *batch, traces []domain.AccessRecord, reason error) error {
	traces = slices.DeleteFunc(traces, func(r domain.AccessRecord) bool {
		return r.Validate() != nil || domain.Admit(*b.grants[r.GrantID], r, domain.Used{}) != nil
	})
	if len(traces) == 0 {
		return reason
	}
	if _, err := a.append(ctx, traces); err != nil {
		return errors.Join(reason, fmt.Errorf("log the refusals: %w", err))
	}
	return reason
}
