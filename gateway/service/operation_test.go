package service_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/service"
)

// writers is how many answer one request at once.
const writers = 50

// answer answers a request with every other writer of a kind: half of them
// agree, the others refuse.
func answer(id string, i int) domain.AnswerArgs {
	if i%2 == 0 {
		return domain.AnswerArgs{ID: id, Decision: domain.Agree}
	}
	return domain.AnswerArgs{ID: id, Decision: domain.Refuse, Reason: "涉密", LegalBasis: []string{"保守国家秘密法第9条"}}
}

// effects counts the valid transactions that wrote a key.
func (w *world) effects(key string) int {
	w.t.Helper()
	n := 0
	last := w.chain.Height() - 1
	done := errors.New("done")
	err := w.ledger.Blocks(w.t.Context(), 0, func(b domain.Block) error {
		for _, tx := range b.Transactions {
			for _, write := range tx.Writes {
				if tx.Valid() && write.Key == key {
					n++
				}
			}
		}
		if b.Number == last {
			return done
		}
		return nil
	})
	if !errors.Is(err, done) {
		w.t.Fatal(err)
	}
	return n
}

// race has writers answer a request at the same moment, all endorsed on one
// state, each with the operation that it is given.
func (w *world) race(id string, operation func(i int) string, args func(i int) domain.AnswerArgs) ([]service.Written[domain.ShareRequest], []error) {
	w.t.Helper()
	w.accepted(id, domain.Quota{Total: 1, PerDay: 1})
	police := w.sharing("police")
	answers := make([]service.Written[domain.ShareRequest], writers)
	errs := make([]error, writers)
	w.chain.Race(writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			caller := policeReviewer
			caller.Operation = operation(i)
			answers[i], errs[i] = police.Answer(w.t.Context(), caller, args(i))
		})
	}
	wg.Wait()
	return answers, errs
}

// TestConcurrentWriters has different operations answer one request: one has an
// effect, and every other learns the state that stands in its way.
func TestConcurrentWriters(t *testing.T) {
	w := newWorld(t)
	id := grantID(1)
	answers, errs := w.race(id, func(i int) string { return grantID(1000 + i) }, func(i int) domain.AnswerArgs { return answer(id, i) })
	stored, err := w.sharing("police").GetRequest(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	won := 0
	for i, err := range errs {
		if err == nil {
			won++
			if diff := cmp.Diff(stored, answers[i]); diff != "" {
				t.Errorf("the winner's answer is not what is recorded (-recorded +answered):\n%s", diff)
			}
			continue
		}
		wantKind(t, err, domain.WrongState, id)
		if got := domain.StateOf(err); got != string(stored.Value.State) {
			t.Errorf("writer %d is told the state %q, it is %q", i, got, stored.Value.State)
		}
	}
	if won != 1 {
		t.Errorf("%d writers won, want 1", won)
	}
	if n := w.effects(domain.KeyOf(domain.KindRequest, id)); n != 3 { // request, accept, answer
		t.Errorf("the request was written %d times, want 3", n)
	}
}

// TestConcurrentRepetitions has one operation answer a request many times at
// once: one effect, and the same answer for all.
func TestConcurrentRepetitions(t *testing.T) {
	w := newWorld(t)
	id := grantID(1)
	answers, errs := w.race(id, func(int) string { return grantID(1000) }, func(int) domain.AnswerArgs { return answer(id, 0) })
	for i := range answers {
		if errs[i] != nil {
			t.Errorf("repetition %d: %v", i, errs[i])
		}
		if diff := cmp.Diff(answers[0], answers[i]); diff != "" {
			t.Errorf("repetition %d answers otherwise (-first +this):\n%s", i, diff)
		}
	}
	if n := w.effects(domain.KeyOf(domain.KindRequest, id)); n != 3 {
		t.Errorf("the request was written %d times, want 3", n)
	}
	if n := w.effects(domain.KeyOf(domain.KindGrantEvent, domain.EventID(id, 1))); n != 1 {
		t.Errorf("%d grants, want 1", n)
	}
}

// TestOperation repeats writes of each kind of answer.
func TestOperation(t *testing.T) {
	w := newWorld(t)
	w.publish()
	ctx := t.Context()
	caller := func(c service.Caller, n int) service.Caller { c.Operation = grantID(n); return c }
	asked := shareRequest("", domain.Quota{Total: 1, PerDay: 1})
	for _, tt := range []struct {
		name string
		call func() (any, error)
	}{
		{"one record", func() (any, error) {
			return w.catalog("police").Register(ctx, caller(policeOperator, 1), domain.RegisterCatalogArgs{Content: contents(1)[0]})
		}},
		{"a batch", func() (any, error) {
			return w.catalog("police").RegisterBatch(ctx, caller(policeOperator, 2), domain.RegisterBatchArgs{Contents: contents(3)[1:]})
		}},
		{"a request whose ID the service chooses", func() (any, error) {
			return w.sharing("civil").Request(ctx, caller(civilOperator, 3), asked)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			first, err := tt.call()
			if err != nil {
				t.Fatal(err)
			}
			again, err := tt.call()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(first, again); diff != "" {
				t.Errorf("the repetition answers otherwise (-first +again):\n%s", diff)
			}
		})
	}
	_, err := w.catalog("police").Publish(ctx, caller(policeOperator, 1), entryCode)
	wantKind(t, err, domain.Invalid, "operation "+grantID(1))
	// Another department's operation of the same name is another one.
	if _, err := w.sharing("market").Request(ctx, service.Caller{Department: "market", Role: domain.RoleOperator, Operation: grantID(3)}, asked); err != nil {
		t.Errorf("another department's: %v", err)
	}
	// Without an operation each is a request of its own.
	a, err := w.sharing("civil").Request(ctx, civilOperator, asked)
	if err != nil {
		t.Fatal(err)
	}
	b, err := w.sharing("civil").Request(ctx, civilOperator, asked)
	if err != nil || a.Value.Content.ID == b.Value.Content.ID {
		t.Errorf("two requests have the ID %s, %v", a.Value.Content.ID, err)
	}
}

// TestOperationThoughIndexLags checks that a write is answered though the index does not
// have it, and that a repetition is not told of its own transaction, which wrote nothing:
// it learns where the first one stands once the index knows.
func TestOperationThoughIndexLags(t *testing.T) {
	w := newWorld(t)
	caller := policeOperator
	caller.Operation = grantID(1)
	register := func(ix index.Index) (service.Written[domain.CatalogEntry], error) {
		return service.NewCatalog(w.ledger, ix).Register(t.Context(), caller, domain.RegisterCatalogArgs{Content: content()})
	}
	behind := ahead{newIndex(t)} // empty
	first, err := register(behind)
	if err != nil || first.Block == 0 || first.Value.State != domain.CatalogRegPending {
		t.Fatalf("Register answers %+v, %v", first, err)
	}
	var unknown *ledger.OutcomeUnknownError
	if again, err := register(behind); !errors.As(err, &unknown) || unknown.Operation != caller.Operation || unknown.TxID != "" {
		t.Errorf("the repetition answers %+v, %v, want an unknown outcome of the operation", again, err)
	}
	broken := errors.New("disk I/O error")
	if _, err := register(&faultyIndex{Index: w.index, err: broken}); !errors.As(err, &unknown) || !errors.Is(err, broken) {
		t.Errorf("with an index that fails: %v, want an unknown outcome", err)
	}
	if again, err := register(w.index); err != nil || again.Position != first.Position {
		t.Errorf("when the index knows: %+v, %v, want %+v", again.Position, err, first.Position)
	}
}

// ahead is an index that says it has every block.
type ahead struct{ index.Index }

func (ahead) WaitBlock(context.Context, uint64) error { return nil }

// TestIndexFailures lets the index fail at each of its reads in turn: every use
// case that reads says so.
func TestIndexFailures(t *testing.T) {
	w := newWorld(t)
	w.grant(grantID(1), domain.Quota{Total: 1, PerDay: 1})
	related := contents(1)[0]
	w.publishContent(related)
	changed := content()
	changed.UpdateCycle, changed.RelatedCodes = "weekly", []string{related.Code}
	if _, err := w.catalog("police").Change(t.Context(), policeOperator, domain.ChangeCatalogArgs{Content: changed}); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for _, tt := range []struct {
		name  string
		reads int // at least
		call  func(ix index.Index) error
	}{
		{"validate", 4, func(ix index.Index) error { return service.NewCatalog(w.ledger, ix).Validate(ctx, changed) }},
		{"catalog history", 4, func(ix index.Index) error {
			return failure(service.NewCatalog(w.ledger, ix).History(ctx, entryCode, index.Page{}))
		}},
		{"the end of a catalog history", 2, func(ix index.Index) error {
			page, err := service.NewCatalog(w.ledger, w.index).History(ctx, entryCode, index.Page{Limit: 4})
			if err != nil {
				return err
			}
			return failure(service.NewCatalog(w.ledger, ix).History(ctx, entryCode, index.Page{After: page.Next}))
		}},
		{"request history", 2, func(ix index.Index) error {
			return failure(service.NewSharing(w.ledger, ix).RequestHistory(ctx, grantID(1), index.Page{}))
		}},
		{"calendars", 1, func(ix index.Index) error { return failure(service.NewGovernance(w.ledger, ix).ListCalendars(ctx)) }},
		{"inbox", 3, func(ix index.Index) error {
			return failure(service.NewOverview(ix, w.clock.Now).Inbox(ctx, policeOperator, index.InboxFilter{}, index.Page{}))
		}},
		{"indicators", 1, func(ix index.Index) error { return failure(service.NewOverview(ix, w.clock.Now).Indicators(ctx)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			broken := errors.New("disk I/O error")
			good := 0
			for ; good < 20; good++ {
				err := tt.call(&faultyIndex{Index: w.index, err: broken, good: good})
				if err == nil {
					break
				}
				if !errors.Is(err, broken) || domain.KindOf(err) != "" {
					t.Errorf("after %d good reads: %v, want it to wrap %v", good, err, broken)
				}
			}
			if good < tt.reads || good == 20 {
				t.Errorf("%d reads, want at least %d and an end", good, tt.reads)
			}
		})
	}
}

// pendingWrites knows one write.
type pendingWrites struct{ known ledger.Operation }

func (o pendingWrites) Operation(_ context.Context, id string) (ledger.Operation, error) {
	if id != o.known.ID {
		return ledger.Operation{}, &domain.Error{Kind: domain.NotFound, Msg: "operation " + id + " is not known here"}
	}
	return o.known, nil
}

// TestOperations asks for what is on its way, for what the ledger remembers, and for
// what is neither.
func TestOperations(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	pending := ledger.Operation{ID: grantID(1), Transaction: "catalog:Register", State: ledger.Pending}
	operations := service.NewOperations(pendingWrites{pending}, w.index)
	if got, err := operations.Get(ctx, policeOperator, grantID(1)); err != nil || !cmp.Equal(got, pending) {
		t.Errorf("on its way: %+v, %v", got, err)
	}
	caller := policeOperator
	caller.Operation = grantID(2)
	written, err := w.catalog("police").Register(ctx, caller, domain.RegisterCatalogArgs{Content: content()})
	if err != nil {
		t.Fatal(err)
	}
	got, err := operations.Get(ctx, policeOperator, grantID(2))
	if err != nil || got.State != ledger.Committed || got.TxID != written.TxID || got.Receipt.Position != written.Position || got.Transaction != "catalog:Register" {
		t.Errorf("on the ledger: %+v, %v", got, err)
	}
	var entry domain.CatalogEntry
	if err := domain.ParseCanonical(got.Receipt.Result, &entry); err != nil || !cmp.Equal(entry, written.Value) {
		t.Errorf("its record is %s, %v", got.Receipt.Result, err)
	}
	// A transaction of the gateway's that repeated it, and wrote nothing.
	repeated := ledger.Operation{ID: grantID(2), State: ledger.Committed, TxID: "a", Receipt: ledger.Receipt{Position: domain.Position{Block: 99, TxID: "a"}}}
	got, err = service.NewOperations(pendingWrites{repeated}, w.index).Get(ctx, policeOperator, grantID(2))
	if err != nil || got.TxID != written.TxID || got.Receipt.Position != written.Position {
		t.Errorf("repeated: %+v, %v, want where it took effect, %+v", got, err, written.Position)
	}
	repeated.ID = grantID(4) // the index does not have it yet
	got, err = service.NewOperations(pendingWrites{repeated}, w.index).Get(ctx, policeOperator, grantID(4))
	if want := (ledger.Operation{ID: grantID(4), State: ledger.Pending}); err != nil || !cmp.Equal(got, want) {
		t.Errorf("committed a moment ago: %+v, %v, want %+v", got, err, want)
	}
	reused := ledger.Operation{ID: grantID(2), Transaction: "catalog:Register", State: ledger.Rejected, Refusal: domain.OperationReused(grantID(2))}
	got, err = service.NewOperations(pendingWrites{reused}, w.index).Get(ctx, policeOperator, grantID(2))
	if err != nil || !cmp.Equal(got, reused) {
		t.Errorf("another request under a key that was used: %+v, %v", got, err)
	}
	_, err = operations.Get(ctx, policeOperator, grantID(3))
	wantKind(t, err, domain.NotFound, "")
	_, err = operations.Get(ctx, civilOperator, grantID(2)) // another department's
	wantKind(t, err, domain.NotFound, "")
}
