package telemetry

import (
	"context"
	"errors"
	"path"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/cache"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// The outcomes of a write, as counted.
const (
	OutcomeCommitted   = "committed"
	OutcomeRefused     = "refused"     // by a rule of a contract; nothing changed
	OutcomeConflict    = "conflict"    // another transaction was first; nothing changed
	OutcomeUnknown     = "unknown"     // submitted, and not known what became of it
	OutcomeUnavailable = "unavailable" // nothing was ordered
	OutcomeBusy        = "busy"        // refused for want of room
	OutcomeCancelled   = "cancelled"   // the caller went away; nothing was ordered
	OutcomeFailed      = "failed"
)

// OutcomeOf answers the outcome of a submit.
func OutcomeOf(err error) string {
	var unknown *ledger.OutcomeUnknownError
	var unavailable *ledger.UnavailableError
	var busy *ledger.BusyError
	switch {
	case err == nil:
		return OutcomeCommitted
	case errors.As(err, &unknown):
		return OutcomeUnknown
	case domain.KindOf(err) == domain.Conflict:
		return OutcomeConflict
	case domain.KindOf(err) != "":
		return OutcomeRefused
	case errors.As(err, &busy):
		return OutcomeBusy
	case errors.As(err, &unavailable):
		return OutcomeUnavailable
	case errors.Is(err, context.Canceled):
		return OutcomeCancelled
	}
	return OutcomeFailed
}

// Ledger returns l, watched.
func (t *Telemetry) Ledger(l ledger.Ledger) ledger.Ledger { return &watchedLedger{l, t} }

type watchedLedger struct {
	ledger.Ledger
	t *Telemetry
}

func (w *watchedLedger) Submit(ctx context.Context, r ledger.Request) (ledger.Receipt, error) {
	ctx, end := w.t.span(ctx, "submit "+r.Transaction, attribute.String("zhenglian.role", string(r.Role)))
	start := time.Now()
	receipt, err := w.Ledger.Submit(ctx, r)
	outcome := OutcomeOf(err)
	w.t.writes.WithLabelValues(r.Transaction, outcome).Observe(time.Since(start).Seconds())
	id := receipt.TxID
	var unknown *ledger.OutcomeUnknownError
	if errors.As(err, &unknown) {
		id = unknown.TxID
	}
	if id != "" {
		Note(ctx, id)
	}
	end(outcome, err != nil)
	return receipt, err
}

func (w *watchedLedger) Evaluate(ctx context.Context, role domain.Role, transaction string, argument []byte) ([]byte, error) {
	ctx, end := w.t.span(ctx, "evaluate "+transaction, attribute.String("zhenglian.role", string(role)))
	result, err := w.Ledger.Evaluate(ctx, role, transaction, argument)
	end(OutcomeOf(err), err != nil)
	return result, err
}

func (w *watchedLedger) SignedRead(ctx context.Context, args domain.AttestArgs, quorum int) (ledger.SignedRead, error) {
	ctx, end := w.t.span(ctx, "signed read", attribute.String("zhenglian.kind", string(args.Kind)))
	read, err := w.Ledger.SignedRead(ctx, args, quorum)
	end(OutcomeOf(err), err != nil)
	return read, err
}

// span begins a span and answers what ends it with an outcome.
func (t *Telemetry) span(ctx context.Context, name string, attributes ...attribute.KeyValue) (context.Context, func(outcome string, failed bool)) {
	if t.tracer == nil {
		return ctx, func(string, bool) {}
	}
	ctx, span := t.tracer.Start(ctx, name, trace.WithAttributes(attributes...))
	return ctx, func(outcome string, failed bool) {
		span.SetAttributes(attribute.String("zhenglian.outcome", outcome))
		if failed {
			span.SetStatus(codes.Error, outcome) // the error's text may name records
		}
		span.End()
	}
}

// Cache returns c, watched. system names it in traces: "redis" or "memory".
func (t *Telemetry) Cache(c cache.Cache, system string) cache.Cache {
	return &watchedCache{c, t, attribute.String("db.system.name", system)}
}

type watchedCache struct {
	cache.Cache
	t      *Telemetry
	system attribute.KeyValue
}

func (w *watchedCache) Get(ctx context.Context, key string) (cache.Entry, bool) {
	ctx, end := w.t.span(ctx, "cache get", w.system)
	e, ok := w.Cache.Get(ctx, key)
	result := "miss"
	if ok {
		result = "hit"
	}
	w.t.cacheReads.WithLabelValues(result).Inc()
	end(result, false)
	return e, ok
}

func (w *watchedCache) Put(ctx context.Context, key string, e cache.Entry, ttl time.Duration) {
	ctx, end := w.t.span(ctx, "cache put", w.system)
	w.Cache.Put(ctx, key, e, ttl)
	end("done", false)
}

func (w *watchedCache) Drop(ctx context.Context, keys ...string) {
	ctx, end := w.t.span(ctx, "cache drop", w.system)
	w.Cache.Drop(ctx, keys...)
	end("done", false)
}

func (w *watchedCache) Allow(ctx context.Context, key string, perSecond float64, burst int) (ok bool, retryAfter time.Duration, left int) {
	if w.t.tracer == nil {
		return w.Cache.Allow(ctx, key, perSecond, burst)
	}
	ctx, end := w.t.span(ctx, "cache allow", w.system)
	ok, retryAfter, left = w.Cache.Allow(ctx, key, perSecond, burst)
	end("done", false)
	return ok, retryAfter, left
}

// peerCalls are the calls that are timed, by the last part of their gRPC name.
var peerCalls = map[string]string{"Endorse": "endorse", "Submit": "submit", "CommitStatus": "commit_status", "Evaluate": "evaluate"}

func (t *Telemetry) callTimer(department domain.DepartmentCode) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		start := time.Now()
		err := invoker(ctx, method, req, reply, cc, opts...)
		if call, ok := peerCalls[path.Base(method)]; ok {
			t.calls.WithLabelValues(call, string(department), status.Code(err).String()).Observe(time.Since(start).Seconds())
		}
		return err
	}
}
