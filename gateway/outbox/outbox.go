// Package outbox makes every write of a gateway happen exactly once, whatever
// becomes of the process in between: a [ledger.Ledger] over an adapter whose submit
// has two halves.
//
// # States
//
// A transaction is endorsed and signed, stored, and only then handed over. From
// there on only the ledger says what became of it: its bytes are handed over again
// until it does, also by the next process. A transaction that lost a race has
// changed nothing and is proposed anew under the same operation.
//
//	            endorse            store            order
//	received ───────────▶ signed ─────────▶ stored ───────▶ committed | rejected
//	    ▲                                      │ lost a race
//	    └──────────────────────────────────────┘
//
// A process that ends before the transaction is stored has handed over nothing.
// What the caller has been promised an outcome of is stored before the promise:
// either signed, or, while the ledger cannot endorse or has no room, the request itself.
//
// # What is in hand
//
// A write is in hand while it is endorsed or handed over, and only so many are at one
// time: all that the gateway asks of the network. Beyond them a write with an operation
// is stored and waits, in the order of coming, and one without is refused. A write whose
// attempt came to nothing lines up anew: what cannot go on does not hold up what can.
//
// # What is kept
//
// The role, the transaction and its argument as the ledger is to have them, and the
// signed bytes, in a file that only the gateway's user may read; never what a
// caller gets besides, such as a certificate's check code. They go when the outcome
// is known. The outcome stays for a while where the caller did not wait for it.
package outbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// The bounds of what may be on its way at one time, in hand or not; beyond them a write
// is refused, before anything is endorsed.
const (
	maxEntries = 10_000
	maxBytes   = 256 << 20
)

// DefaultInHand is how many writes are in hand at one time. When four gateways have as
// many each, a network that commits 37 a second beside much else has committed the last
// one after 7 s, and after 12 s when the orderers change their leader meanwhile: within
// the 15 s that callers wait. A second each, they are as many as one gateway can have
// committed by an idle network; and 50 callers that wait for a write each never meet it.
const DefaultInHand = 64

// Options are those of [Open]. The zero value of each is a default.
type Options struct {
	Clock  func() time.Time
	Keep   time.Duration // how long an outcome stays; 7 days
	InHand int           // writes in hand at one time; [DefaultInHand]
	Logger *slog.Logger  // nothing is logged
	pauses pauses
}

// pauses are the times between two attempts at one write. Tests shorten them.
type pauses struct{ first, longest time.Duration }

// Outbox is a [ledger.Ledger]. Create it with [Open]. It is safe for concurrent use.
type Outbox struct {
	ledger.Adapter
	store  *store
	clock  func() time.Time
	log    *slog.Logger
	pauses pauses
	ctx    context.Context // of the work that goes on without a caller
	stop   context.CancelFunc
	work   sync.WaitGroup
	places *places

	mu      sync.Mutex
	live    map[string]*entry // by ID: what is not settled yet, or not stored as settled
	bytes   int
	refused uint64 // for want of room
	closed  bool
}

var _ ledger.Ledger = (*Outbox)(nil)

// entry is one write on its way.
type entry struct {
	row
	bytes int           // it counts for
	told  bool          // somebody was told that its outcome is not known
	place *place        // or its turn for one
	kept  chan struct{} // closed once it is stored
	done  chan struct{}

	// These hold once done is closed.
	receipt ledger.Receipt
	err     error
}

// Open opens the outbox in file, creates it when it is not there, and takes up what
// an earlier process left. It fails on a file that is no outbox or was written by a
// later version.
func Open(ctx context.Context, file string, adapter ledger.Adapter, o Options) (*Outbox, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Keep == 0 {
		o.Keep = 7 * 24 * time.Hour
	}
	if o.InHand == 0 {
		o.InHand = DefaultInHand
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.pauses == (pauses{}) {
		o.pauses = pauses{100 * time.Millisecond, 2 * time.Second}
	}
	store, left, err := openStore(ctx, file, func() time.Time { return o.Clock().Add(-o.Keep) })
	if err != nil {
		return nil, fmt.Errorf("open outbox %s: %w", file, err)
	}
	b := &Outbox{
		Adapter: adapter, store: store, clock: o.Clock, log: o.Logger, pauses: o.pauses,
		places: newPlaces(o.InHand, o.Clock), live: make(map[string]*entry),
	}
	b.ctx, b.stop = context.WithCancel(context.WithoutCancel(ctx))
	if len(left) > 0 {
		b.log.Info("taking up writes of an earlier process", "number", len(left))
	}
	taken := make([]*entry, 0, len(left))
	for _, r := range left { // all of them before the first is worked on, and may leave
		e := b.enter(r, b.places.lineUp())
		e.told = true
		close(e.kept)
		taken = append(taken, e)
	}
	for _, e := range taken {
		b.work.Go(func() { b.settle(b.ctx, e, e.tx.ID != "") })
	}
	return b, nil
}

// Close stops the work and closes the file. What is on its way goes on when the
// outbox is opened again.
func (b *Outbox) Close() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.stop()
	b.work.Wait()
	return b.store.close()
}

// Failed answers why the outbox can store nothing any more, nil while it can.
func (b *Outbox) Failed() error { return b.store.failed() }

// Ready answers why the outbox can store nothing now, nil while it can. When the disk
// is full, every write is refused as unavailable until there is room again.
func (b *Outbox) Ready() error { return b.store.ready() }

// Pending answers how many writes are on their way, in hand or waiting.
func (b *Outbox) Pending() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.live)
}

// InHand answers how many writes are in hand, and how many that were accepted wait
// until they are.
func (b *Outbox) InHand() (inHand, waiting int) { return b.places.count() }

// Refused answers how many writes were refused for want of room.
func (b *Outbox) Refused() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refused
}

// Submit implements [ledger.Ledger]. With an operation it accepts the write when
// the ledger cannot endorse it now, when as many as may be are in hand, or when the
// caller's wait is bounded (see [ledger.WithWait]): then the write goes on without the
// caller, whom an [*ledger.OutcomeUnknownError] tells so. What there is no room for is
// refused with a [*ledger.BusyError].
func (b *Outbox) Submit(ctx context.Context, request ledger.Request) (ledger.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return ledger.Receipt{}, fmt.Errorf("submit %s: %w", request.Transaction, err)
	}
	r := row{id: request.Operation, request: request, accepted: b.clock()}
	for {
		e, first, err := b.begin(r)
		if err != nil {
			return ledger.Receipt{}, err
		}
		if !first {
			receipt, err, gone := b.join(ctx, e, r)
			if gone {
				continue // whoever began it gave up before it was stored
			}
			return receipt, err
		}
		return b.run(ctx, e)
	}
}

// Hand is Submit for a transaction that the caller signed with a key of its own, under
// r's operation. What becomes of it stays in the outbox as for a caller that does not
// wait. A lost race is final: a new proposal needs a new signature.
func (b *Outbox) Hand(ctx context.Context, r ledger.Request, tx ledger.Transaction) (ledger.Receipt, error) {
	if r.Operation == "" {
		return ledger.Receipt{}, fmt.Errorf("submit %s: a transaction that was signed elsewhere needs an operation", r.Transaction)
	}
	signed := row{id: r.Operation, request: r, tx: tx, offline: true, accepted: b.clock()}
	for {
		e, first, err := b.begin(signed)
		if err != nil {
			return ledger.Receipt{}, err
		}
		if first {
			ctx, _ := b.waiting(ctx, e)
			return b.accept(ctx, e)
		}
		if receipt, err, gone := b.join(ctx, e, signed); !gone {
			return receipt, err
		}
	}
}

// errAbandoned ends a write that was given up before anything was stored.
var errAbandoned = errors.New("abandoned")

// begin enters a write, or answers the one that is under way as the same operation.
// A write without an operation is entered once it is signed.
func (b *Outbox) begin(r row) (e *entry, first bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.live[r.id]; r.id != "" && e != nil {
		return e, false, nil
	}
	if b.closed {
		return nil, false, &ledger.UnavailableError{Err: errors.New("the gateway is shutting down")}
	}
	var p *place
	switch {
	case anchors(r.request):
		p = b.places.force()
	case len(b.live) >= maxEntries || b.bytes+2*len(r.request.Argument) > maxBytes:
	case r.id != "":
		p = b.places.lineUp()
	default:
		p = b.places.take()
	}
	if p == nil {
		b.refused++
		return nil, false, &ledger.BusyError{Writes: len(b.live), RetryAfter: b.places.wait(nil)}
	}
	return b.enter(r, p), true, nil
}

// anchors reports whether r is one of the gateway's own writes. One of each is under way
// at a time, and while anchors stay away nothing is released.
func anchors(r ledger.Request) bool {
	return r.Role == domain.RoleGateway && (r.Transaction == "access:Anchor" || r.Transaction == "evidence:Attest")
}

func (b *Outbox) enter(r row, p *place) *entry {
	// The signed bytes hold the argument, and what was written is about as much.
	e := &entry{row: r, bytes: 2 * len(r.request.Argument), told: r.offline, place: p, kept: make(chan struct{}), done: make(chan struct{})}
	b.bytes += e.bytes
	if e.id != "" {
		b.live[e.id] = e
	}
	return e
}

// abandon ends a write of which nothing is stored.
func (b *Outbox) abandon(e *entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leave(e, ledger.Receipt{}, errAbandoned)
}

// leave ends a write for those who wait for it.
func (b *Outbox) leave(e *entry, receipt ledger.Receipt, err error) {
	b.places.leave(e.place) // before anybody who waits can come again
	b.bytes -= e.bytes
	delete(b.live, e.id)
	e.receipt, e.err = receipt, err
	close(e.done)
}

// join waits for a write that somebody else began. It answers gone when the caller
// has to submit its own: the first was given up, or was another request and came to
// nothing.
func (b *Outbox) join(ctx context.Context, e *entry, r row) (receipt ledger.Receipt, err error, gone bool) { //nolint:revive // gone says more than err
	ctx, waits := b.waiting(ctx, e)
	if waits { // for its turn: it is promised an outcome only once it is stored
		select {
		case <-e.kept:
		case <-e.done:
		case <-ctx.Done():
		case <-b.ctx.Done():
		}
	}
	receipt, err = b.await(ctx, e)
	var unknown *ledger.OutcomeUnknownError
	first, second := e.request, r.request
	switch {
	case first.Role == second.Role && first.Transaction == second.Transaction && bytes.Equal(first.Argument, second.Argument):
		return receipt, err, errors.Is(err, errAbandoned)
	case errors.As(err, &unknown):
		return ledger.Receipt{}, fmt.Errorf("submit %s: %w", second.Transaction, &ledger.UnderWayError{First: first, Unknown: unknown}), false
	case err == nil: // as the ledger would say that remembers the first
		return ledger.Receipt{}, fmt.Errorf("submit %s: %w", second.Transaction, domain.OperationReused(r.id)), false
	}
	return ledger.Receipt{}, nil, true
}

// run is a write that the caller waits for from its beginning.
func (b *Outbox) run(ctx context.Context, e *entry) (ledger.Receipt, error) {
	ctx, _ = b.waiting(ctx, e)
	if _, bounded := ledger.WaitOf(ctx); bounded && e.request.Operation != "" {
		return b.accept(ctx, e)
	}
	tx, err := b.Endorse(ctx, e.request)
	var unavailable *ledger.UnavailableError
	switch {
	case errors.As(err, &unavailable) && e.request.Operation != "":
		b.log.WarnContext(ctx, "write accepted while the ledger cannot endorse it", "operation", e.id, "transaction", e.request.Transaction, "error", err)
		return b.accept(ledger.WithWait(ctx, 0), e)
	case err != nil:
		b.abandon(e)
		return ledger.Receipt{}, err
	}
	b.sign(e, tx)
	if err := b.store.put(e.row); err != nil {
		b.abandon(e)
		return ledger.Receipt{}, notStored(e, err)
	}
	return b.proceed(ctx, e)
}

// waiting reports whether a write waits for its turn. Then a caller that did not ask to
// wait does not wait for it.
func (b *Outbox) waiting(ctx context.Context, e *entry) (context.Context, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.place.has() {
		return ctx, false
	}
	if _, bounded := ledger.WaitOf(ctx); !bounded {
		ctx = ledger.WithWait(ctx, 0)
	}
	return ctx, true
}

// accept stores a write before it is endorsed.
func (b *Outbox) accept(ctx context.Context, e *entry) (ledger.Receipt, error) {
	if err := b.store.put(e.row); err != nil {
		b.abandon(e)
		return ledger.Receipt{}, notStored(e, err)
	}
	return b.proceed(ctx, e)
}

// notStored says that nothing was handed over.
func notStored(e *entry, err error) error {
	return fmt.Errorf("submit %s: %w", e.request.Transaction, &ledger.UnavailableError{Err: fmt.Errorf("store the write: %w", err)})
}

// proceed lets a stored write go on by itself and waits for it.
func (b *Outbox) proceed(ctx context.Context, e *entry) (ledger.Receipt, error) {
	close(e.kept)
	working := context.WithoutCancel(ctx)
	b.mu.Lock()
	if !b.closed { // else the next process goes on
		b.work.Go(func() {
			working, cancel := context.WithCancel(working)
			defer cancel()
			defer context.AfterFunc(b.ctx, cancel)()
			b.settle(working, e, false)
		})
	}
	b.mu.Unlock()
	return b.await(ctx, e)
}

// await waits for the outcome of a write for as long as the caller likes.
func (b *Outbox) await(ctx context.Context, e *entry) (ledger.Receipt, error) {
	if d, bounded := ledger.WaitOf(ctx); bounded && e.request.Operation != "" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	select {
	case <-e.done:
	case <-ctx.Done():
	case <-b.ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-e.done: // meanwhile
		return e.receipt, e.err
	default:
	}
	e.told = true
	return ledger.Receipt{}, fmt.Errorf("submit %s: %w", e.request.Transaction, &ledger.OutcomeUnknownError{
		Operation: e.id, TxID: e.tx.ID, RetryAfter: b.places.wait(e.place), Err: errors.Join(ctx.Err(), b.ctx.Err()),
	})
}

// sign gives a write its transaction.
func (b *Outbox) sign(e *entry, tx ledger.Transaction) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.tx = tx
	if e.id == "" { // the first transaction names it
		e.id = string(tx.ID[:32])
		b.live[e.id] = e
	}
}

// settle works on a stored write until its outcome is known or ctx ends.
func (b *Outbox) settle(ctx context.Context, e *entry, sent bool) {
	pause := b.pauses.first
	conflicts := 0
	defer func() { b.places.leave(e.place) }()
	for {
		select {
		case <-e.place.given:
		case <-b.ctx.Done():
		}
		if b.ctx.Err() != nil {
			return // places that come free at the end are not for beginning anything
		}
		receipt, err := b.attempt(ctx, e, sent)
		var unknown *ledger.OutcomeUnknownError
		var unavailable *ledger.UnavailableError
		lost := false
		switch {
		case ctx.Err() != nil:
			return // the next process goes on
		case b.store.failed() != nil:
			return // as long as nothing can be stored, nothing can be promised
		case errors.As(err, &unknown):
			sent = true
		case errors.As(err, &unavailable):
		case domain.KindOf(err) == domain.Conflict && conflicts < ledger.Retries && !e.offline:
			conflicts++
			b.sign(e, ledger.Transaction{})
			sent, lost = false, true
		default:
			if b.end(e, receipt, err) || b.store.failed() != nil {
				return
			}
			sent, err = e.tx.ID != "", b.store.ready() // the outcome has to be learned again
		}
		b.log.WarnContext(ctx, "write is not settled, trying again", "operation", e.id, "transaction", e.request.Transaction, "error", err)
		if !lost {
			b.places.leave(e.place)
		}
		if !wait(ctx, pause) {
			return
		}
		if !lost {
			b.mu.Lock()
			e.place = b.places.lineUp()
			b.mu.Unlock()
		}
		pause = min(2*pause, b.pauses.longest)
	}
}

// attempt endorses a write that is not signed, and orders it.
func (b *Outbox) attempt(ctx context.Context, e *entry, sent bool) (ledger.Receipt, error) {
	if e.tx.ID == "" {
		tx, err := b.Endorse(ctx, e.request)
		if err != nil {
			return ledger.Receipt{}, err
		}
		b.sign(e, tx)
		if err := b.store.put(e.row); err != nil {
			b.sign(e, ledger.Transaction{}) // what is not stored is not handed over
			return ledger.Receipt{}, notStored(e, err)
		}
	}
	receipt, err := b.Order(ctx, e.tx, sent)
	if err != nil {
		return ledger.Receipt{}, fmt.Errorf("submit %s: %w", e.request.Transaction, err)
	}
	return receipt, nil
}

// end stores the outcome of a write if anybody was told to ask for it, forgets the
// write otherwise, and tells those who wait. It answers whether it could.
func (b *Outbox) end(e *entry, receipt ledger.Receipt, err error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !e.told {
		b.store.forget(e.id)
		b.leave(e, receipt, err)
		return true
	}
	settled := e.row
	settled.settle(b.clock(), receipt, err)
	b.mu.Unlock()
	stored := b.store.put(settled)
	b.mu.Lock()
	if stored != nil {
		return false
	}
	b.log.Info("write settled", "operation", e.id, "transaction", e.request.Transaction, "txId", settled.tx.ID, "state", settled.state, "error", err)
	b.leave(e, receipt, err)
	return true
}

// UnderWay answers the request that is on its way as an operation, and how far it is.
func (b *Outbox) UnderWay(id string) (ledger.Request, ledger.Operation, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.live[id]
	if e == nil {
		return ledger.Request{}, ledger.Operation{}, false
	}
	return e.request, b.now(e), true
}

// now answers how far a write on its way is.
func (b *Outbox) now(e *entry) ledger.Operation {
	o := e.operationNow()
	o.RetryAfter = b.places.wait(e.place)
	return o
}

// Operation answers what became of a write whose caller did not wait; it is refused
// as not found once it is forgotten, or when the caller got the outcome at once.
func (b *Outbox) Operation(ctx context.Context, id string) (ledger.Operation, error) {
	b.mu.Lock()
	e := b.live[id]
	if e != nil {
		defer b.mu.Unlock()
		return b.now(e), nil
	}
	b.mu.Unlock()
	r, err := b.store.get(ctx, id)
	if err != nil {
		return ledger.Operation{}, fmt.Errorf("read operation %s: %w", id, err)
	}
	return r.operationNow(), nil
}

// wait waits for about d and reports whether ctx let it.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d/2 + rand.N(d/2+1)) //nolint:gosec // not a secret
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
