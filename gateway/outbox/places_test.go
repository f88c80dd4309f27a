package outbox

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/ledger/ledgertest"
)

// gated is an adapter that notes what it is asked, and asks back before it does it.
type gated struct {
	ledger.Adapter
	endorse func(ledger.Request) error // nil: as usual
	order   func(context.Context) error

	mu       sync.Mutex
	endorsed []string // arguments, in order
	working  int
	most     int // that ever worked at one time
}

func (g *gated) begin(endorsing *ledger.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if endorsing != nil {
		g.endorsed = append(g.endorsed, string(endorsing.Argument))
	}
	g.working++
	g.most = max(g.most, g.working)
}

func (g *gated) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.working--
}

func (g *gated) seen() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.endorsed)
}

func (g *gated) Endorse(ctx context.Context, r ledger.Request) (ledger.Transaction, error) {
	g.begin(&r)
	defer g.end()
	if g.endorse != nil {
		if err := g.endorse(r); err != nil {
			return ledger.Transaction{}, err
		}
	}
	return g.Adapter.Endorse(ctx, r)
}

func (g *gated) Order(ctx context.Context, tx ledger.Transaction, sent bool) (ledger.Receipt, error) {
	g.begin(nil)
	defer g.end()
	if g.order != nil {
		if err := g.order(ctx); err != nil {
			return ledger.Receipt{}, err
		}
	}
	return g.Adapter.Order(ctx, tx, sent)
}

// TestManyAreTakenUp leaves many writes to the next process, in which the first are
// settled while the last are still being read.
func TestManyAreTakenUp(t *testing.T) {
	const many = 4000
	b, chain, l, file := newOutbox(t)
	l.SetFault(func(op string) (bool, error) {
		if strings.HasPrefix(op, "endorse ") {
			return false, &ledger.UnavailableError{Err: errors.New("no peer")}
		}
		return true, nil
	})
	var submitting sync.WaitGroup
	for i := range many {
		submitting.Go(func() {
			var unknown *ledger.OutcomeUnknownError
			if _, err := b.Submit(ledger.WithWait(t.Context(), 0), creation("many"+id(i), id(i))); !errors.As(err, &unknown) {
				t.Errorf("Submit = %v, want an unknown outcome", err)
			}
		})
	}
	submitting.Wait()
	closeNow(t, b)
	l.SetFault(nil)
	b = open(t, file, l)
	b.work.Wait()
	if n := b.Pending(); n != 0 {
		t.Errorf("%d writes stay open", n)
	}
	for i := 0; i < many; i += many / 50 {
		await(t, b, id(i), ledger.Committed)
		if n := effects(t, chain, "many"+id(i)); n != 1 {
			t.Errorf("write %d has %d effects, want 1", i, n)
		}
	}
}

// openNarrow opens an outbox that has so many writes in hand at one time.
func openNarrow(t *testing.T, file string, adapter ledger.Adapter, inHand int) *Outbox {
	t.Helper()
	o := quick
	o.InHand = inHand
	b, err := Open(t.Context(), file, adapter, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.stop(); b.work.Wait() })
	return b
}

func newNarrow(t *testing.T, inHand int) (*Outbox, *ledgertest.Chain, *gated, string) {
	t.Helper()
	chain := newChain()
	g := &gated{Adapter: chain.Ledger(department)}
	file := filepath.Join(t.TempDir(), "outbox.sqlite")
	return openNarrow(t, file, g, inHand), chain, g, file
}

func creation(name, operation string) ledger.Request {
	return ledger.Request{Role: role, Transaction: createTx, Argument: []byte(name), Operation: operation}
}

// untilClosed holds what asks until held is closed, or sent to, or it gives up.
func untilClosed(held chan struct{}) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-held:
			return nil
		case <-ctx.Done():
			return &ledger.OutcomeUnknownError{Err: ctx.Err()}
		}
	}
}

// brief ends what waits for what a broken outbox does not do.
func brief(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// until waits until a condition holds.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for ctx := brief(t); !holds(); {
		select {
		case <-ctx.Done():
			t.Fatalf("%s does not come about", what)
		case <-time.After(time.Millisecond):
		}
	}
}

// awaitInHand waits until so many writes are in hand, and wait.
func awaitInHand(t *testing.T, b *Outbox, inHand, waiting int) {
	t.Helper()
	until(t, fmt.Sprintf("%d writes in hand and %d waiting", inHand, waiting), func() bool {
		gotInHand, gotWaiting := b.InHand()
		return gotInHand == inHand && gotWaiting == waiting
	})
}

// TestBeyondTheBound has as many writes in hand as may be, which the orderers keep:
// what comes then costs the network nothing.
func TestBeyondTheBound(t *testing.T) {
	b, chain, g, _ := newNarrow(t, 2)
	held := make(chan struct{})
	g.order = untilClosed(held)
	ctx := brief(t)
	var wg sync.WaitGroup
	for i, operation := range []string{"", id(1)} {
		wg.Go(func() {
			if _, err := b.Submit(ctx, creation(fmt.Sprint("first", i), operation)); err != nil {
				t.Error(err)
			}
		})
	}
	awaitInHand(t, b, 2, 0)
	until(t, "the signature of both", func() bool { return b.Pending() == 2 && len(g.seen()) == 2 })

	var unknown *ledger.OutcomeUnknownError
	for range 3 { // a repetition joins, and takes no turn of its own
		_, err := b.Submit(ctx, creation("second", id(2)))
		if !errors.As(err, &unknown) || unknown.Operation != id(2) || unknown.TxID != "" || unknown.RetryAfter < time.Second {
			t.Fatalf("with an operation: %v, want an unknown outcome with a time to ask again", err)
		}
		awaitInHand(t, b, 2, 1)
	}
	if r, err := b.store.get(t.Context(), id(2)); err != nil || r.operationNow().State != ledger.Pending {
		t.Errorf("promised, and stored as %+v, %v", r, err)
	}
	if o, err := b.Operation(t.Context(), id(2)); err != nil || o.State != ledger.Pending || o.RetryAfter < time.Second {
		t.Errorf("operation is %+v, %v, want pending with a time to ask again", o, err)
	}
	if o, err := b.Operation(t.Context(), id(1)); err != nil || o.RetryAfter != 0 {
		t.Errorf("operation in hand is %+v, %v, want no wait", o, err)
	}
	if _, err := b.Submit(ctx, creation("another", id(2))); domain.KindOf(err) != domain.Conflict {
		t.Errorf("another request under the operation: %v, want kind %s", err, domain.Conflict)
	}
	var busy *ledger.BusyError
	var unavailable *ledger.UnavailableError
	if _, err := b.Submit(ctx, creation("third", "")); !errors.As(err, &busy) || !errors.As(err, &unavailable) || busy.RetryAfter < time.Second {
		t.Errorf("without an operation: %v, want a BusyError with a time to come again", err)
	}
	if got := g.seen(); len(got) != 2 || b.Refused() != 1 || b.Pending() != 3 {
		t.Errorf("proposed %q, %d refused, %d pending; want two, 1, 3", got, b.Refused(), b.Pending())
	}
	wg.Go(func() { // the gateway's own anchors never wait
		if _, err := b.Submit(ctx, ledger.Request{Role: domain.RoleGateway, Transaction: "evidence:Attest", Argument: []byte("head")}); err != nil {
			t.Error(err)
		}
	})
	awaitInHand(t, b, 3, 1)
	wg.Go(func() { // who asks to wait does so
		if _, err := b.Submit(ledger.WithWait(ctx, time.Minute), creation("fourth", id(4))); err != nil {
			t.Error(err)
		}
	})
	awaitInHand(t, b, 3, 2)

	close(held)
	wg.Wait()
	await(t, b, id(2), ledger.Committed)
	awaitInHand(t, b, 0, 0)
	for _, name := range []string{"first0", "first1", "second", "fourth"} {
		if n := effects(t, chain, name); n != 1 {
			t.Errorf("%s: %d effects, want 1", name, n)
		}
	}
	for _, name := range []string{"third", "another"} {
		if n := effects(t, chain, name); n != 0 {
			t.Errorf("%s: %d effects, want none", name, n)
		}
	}
	if _, err := b.Submit(ctx, creation("third", "")); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
}

// TestOrderOfComing has writes wait, of callers that asked not to wait and of callers
// that did not: they are taken up as they came, also by the next process.
func TestOrderOfComing(t *testing.T) {
	b, _, g, file := newNarrow(t, 1)
	held, want := make(chan struct{}), []string{"0"}
	g.order = untilClosed(held)
	const n = 40
	for i := range n {
		ctx := brief(t)
		if i%2 == 0 {
			ctx = ledger.WithWait(ctx, 0)
		}
		var unknown *ledger.OutcomeUnknownError
		if _, err := b.Submit(ctx, creation(fmt.Sprint(i), id(i))); !errors.As(err, &unknown) {
			t.Fatalf("write %d: %v, want an unknown outcome", i, err)
		}
		want = append(want, fmt.Sprint(i))
		until(t, "the first proposal", func() bool { return len(g.seen()) > 0 })
	}
	want = want[1:]
	awaitInHand(t, b, 1, n-1)
	for range n / 2 {
		held <- struct{}{}
	}
	awaitInHand(t, b, 1, n/2-1)
	until(t, "the signature of the next", func() bool {
		o, err := b.Operation(t.Context(), id(n/2))
		return err == nil && o.TxID != ""
	})
	if diff := cmp.Diff(want[:n/2+1], g.seen()); diff != "" {
		t.Errorf("proposed (-want +got):\n%s", diff)
	}
	closeNow(t, b) // the process ends, and begins nothing else
	if got := g.seen(); len(got) != n/2+1 {
		t.Errorf("proposed %q while the process ended", got[n/2+1:])
	}

	next := &gated{Adapter: g.Adapter}
	b = openNarrow(t, file, next, 1)
	for i := range n {
		await(t, b, id(i), ledger.Committed)
	}
	if diff := cmp.Diff(want[n/2+1:], next.seen()); diff != "" || next.most != 1 {
		t.Errorf("the next process proposed, %d at a time (-want +got):\n%s", next.most, diff)
	}
	awaitInHand(t, b, 0, 0)
}

// TestLostRaceKeepsItsPlace has another write wait while one has to be proposed anew.
func TestLostRaceKeepsItsPlace(t *testing.T) {
	b, _, g, _ := newNarrow(t, 1)
	held := make(chan struct{})
	lost := false
	g.order = func(ctx context.Context) error {
		if err := untilClosed(held)(ctx); err != nil || lost {
			return err
		}
		lost = true // there is one place: nobody else is here
		return &domain.Error{Kind: domain.Conflict, Msg: "MVCC_READ_CONFLICT"}
	}
	for i, name := range []string{"a", "b"} {
		var unknown *ledger.OutcomeUnknownError
		if _, err := b.Submit(ledger.WithWait(brief(t), 0), creation(name, id(i))); !errors.As(err, &unknown) {
			t.Fatal(err)
		}
	}
	close(held)
	await(t, b, id(1), ledger.Committed)
	if diff := cmp.Diff([]string{"a", "a", "b"}, g.seen()); diff != "" {
		t.Errorf("proposed (-want +got):\n%s", diff)
	}
}

// TestAnotherJoins has another request join the first one under its operation, as each
// issue of certificates is another one: once the first is done, the second must not be
// accepted to be refused later.
func TestAnotherJoins(t *testing.T) {
	b, _, g, _ := newNarrow(t, 1)
	held := make(chan struct{})
	g.order = untilClosed(held)
	var unknown *ledger.OutcomeUnknownError
	if _, err := b.Submit(ledger.WithWait(brief(t), 0), creation("first", id(1))); !errors.As(err, &unknown) {
		t.Fatal(err)
	}
	b.mu.Lock()
	first := b.live[id(1)]
	b.mu.Unlock()
	joined := make(chan error)
	go func() {
		_, err, gone := b.join(brief(t), first, row{id: id(1), request: creation("another", id(1))})
		if gone {
			t.Error("has to be submitted by itself")
		}
		joined <- err
	}()
	close(held)
	if err := <-joined; !domain.IsOperationReused(err) {
		t.Errorf("another request under the operation: %v, want that it was used", err)
	}
}

// TestBoundHolds sends many writes at once, of which some lose a race.
func TestBoundHolds(t *testing.T) {
	b, chain, g, _ := newNarrow(t, 3)
	const n = 60
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			_, err := b.Submit(t.Context(), creation(fmt.Sprint(i/2), id(i)))
			var unknown *ledger.OutcomeUnknownError
			if err != nil && !errors.As(err, &unknown) && domain.KindOf(err) != domain.Exists {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	awaitInHand(t, b, 0, 0)
	for i := range n / 2 {
		if got := effects(t, chain, fmt.Sprint(i)); got != 1 {
			t.Errorf("%d: %d effects, want 1", i, got)
		}
	}
	if g.most > 3 {
		t.Errorf("%d at work at one time, want 3 at most", g.most)
	}
}

// TestPlacesComeFree ends a write in each way, where there is one place.
func TestPlacesComeFree(t *testing.T) {
	b, _, g, _ := newNarrow(t, 1)
	conflict := &domain.Error{Kind: domain.Conflict, Msg: "MVCC_READ_CONFLICT"}
	fails := errors.New("fails")
	for i, tt := range []struct {
		name      string
		operation bool
		endorse   func(cancel func()) error
		order     func(cancel func()) error
	}{
		{name: "committed"},
		{name: "committed, with an operation", operation: true},
		{name: "refused", endorse: func(func()) error { return &domain.Error{Kind: domain.Exists, Msg: "x"} }},
		{name: "cannot be endorsed", endorse: func(func()) error { return &ledger.UnavailableError{Err: fails} }},
		{name: "not endorsed", operation: true, endorse: func(func()) error { return fails }},
		{name: "cancelled while it was endorsed", operation: true, endorse: func(cancel func()) error { cancel(); return context.Canceled }},
		{name: "left alone while it was ordered", order: func(cancel func()) error { cancel(); return nil }},
		{name: "left alone while it was ordered, with an operation", operation: true, order: func(cancel func()) error { cancel(); return nil }},
		{name: "found invalid", order: func(func()) error { return fails }},
		{name: "lost each race", operation: true, order: func(func()) error { return conflict }},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		g.endorse, g.order = nil, nil
		if tt.endorse != nil {
			g.endorse = func(ledger.Request) error { return tt.endorse(cancel) }
		}
		if tt.order != nil {
			g.order = func(context.Context) error { return tt.order(cancel) }
		}
		r := creation(tt.name, "")
		if tt.operation {
			r.Operation = id(i)
		}
		_, err := b.Submit(ctx, r)
		var busy *ledger.BusyError
		if errors.As(err, &busy) {
			t.Errorf("%s: the place of the one before is not free: %v", tt.name, err)
		}
		if tt.endorse == nil && tt.order == nil && err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		cancel()
		if ctx.Err() != nil && tt.order != nil { // it goes on by itself
			awaitInHand(t, b, 0, 0)
		} else if inHand, waiting := b.InHand(); inHand != 0 || waiting != 0 {
			t.Errorf("%s: %d in hand and %d waiting once it is answered", tt.name, inHand, waiting)
		}
	}
	until(t, "the end of each", func() bool { return b.Pending() == 0 })
	g.endorse, g.order = nil, nil

	r, tx := handed(t, g.Adapter.(*ledgertest.Ledger), id(90), "handed over")
	if _, err := b.Hand(t.Context(), r, tx); err != nil {
		t.Error(err)
	}
	if err := b.store.db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Submit(t.Context(), creation("not stored", id(91))); err == nil {
		t.Error("submitted without being stored")
	}
	awaitInHand(t, b, 0, 0)
}

// TestStuckWritesLineUpAnew has a write that cannot be endorsed where there is one place.
func TestStuckWritesLineUpAnew(t *testing.T) {
	b, chain, g, _ := newNarrow(t, 1)
	var up sync.Mutex
	down := true
	g.endorse = func(r ledger.Request) error {
		up.Lock()
		defer up.Unlock()
		if down && string(r.Argument) == "stuck" {
			return &ledger.UnavailableError{Err: errors.New("no peer")}
		}
		return nil
	}
	for i, name := range []string{"stuck", "a", "b", "c"} {
		var unknown *ledger.OutcomeUnknownError
		if _, err := b.Submit(t.Context(), creation(name, id(i))); err != nil && !errors.As(err, &unknown) {
			t.Fatal(err)
		}
	}
	until(t, "the end of the others", func() bool { return b.Pending() == 1 })
	await(t, b, id(0), ledger.Pending)
	up.Lock()
	down = false
	up.Unlock()
	await(t, b, id(0), ledger.Committed)
	for _, name := range []string{"stuck", "a", "b", "c"} {
		if n := effects(t, chain, name); n != 1 {
			t.Errorf("%s: %d effects, want 1", name, n)
		}
	}
}

// TestWait tells callers how long their write will take.
func TestWait(t *testing.T) {
	now := time.Unix(0, 0)
	p := newPlaces(10, func() time.Time { return now })
	after := func(d time.Duration) { now = now.Add(d) }
	if got := p.wait(nil); got != leastRetry {
		t.Errorf("of an idle gateway: %s, want %s", got, leastRetry)
	}
	take := func(n int) (taken []*place) {
		for range n {
			taken = append(taken, p.lineUp())
		}
		return taken
	}
	give := func(all []*place) {
		for _, one := range all {
			p.leave(one)
		}
	}
	for range 100 { // each place is held for 4 s
		all := take(10)
		after(4 * time.Second)
		give(all)
	}
	after(time.Hour) // that it was idle does not matter
	all := take(10)
	line := take(40)
	for i, tt := range []struct {
		turn *place
		want time.Duration
	}{
		{all[0], 0},
		{line[0], 4 * time.Second},   // 4.4
		{line[9], 8 * time.Second},   // a round until it has a place, and one in it
		{line[39], 20 * time.Second}, // four and one
		{nil, 20 * time.Second},
	} {
		if got := p.wait(tt.turn); got != tt.want {
			t.Errorf("turn %d: %s, want %s", i, got, tt.want)
		}
	}
	p.leave(line[5])
	if got := p.wait(line[5]); got != 0 {
		t.Errorf("of a turn that was given up: %s", got)
	}
	after(8 * time.Second) // nothing moves: twice as long as lately
	if got, want := p.wait(line[10]), 16*time.Second; got != want {
		t.Errorf("while little moves: %s, want %s", got, want)
	}
	after(time.Hour)
	if got := p.wait(line[0]); got != mostRetry {
		t.Errorf("while nothing moves: %s, want %s", got, mostRetry)
	}
	p.leave(all[0])
	p.leave(all[0])
	if held, waiting := p.count(); held != 10 || waiting != 38 || !line[0].has() || line[1].has() {
		t.Errorf("%d held, %d waiting; the next in line has one: %v", held, waiting, line[0].has())
	}
}
