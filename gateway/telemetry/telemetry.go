// Package telemetry watches a running gateway: counters and durations for
// Prometheus, and traces for OpenTelemetry from a request through the peers and
// the cache to the transaction it wrote.
//
// It stands around the ports ([Ledger], [Cache]) and the connections
// ([Telemetry.DialOptions]), so that what it watches knows nothing of it. Labels
// and attributes are names of routes, transactions, departments and outcomes, and
// the transaction's ID in a trace: nothing else that callers chose.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"

	"github.com/zhenglian/zhenglian/domain"
)

// Options say where traces go.
type Options struct {
	Department domain.DepartmentCode
	Endpoint   string  // URL of an OTLP/HTTP collector, http://host:port[/path]; "" makes no traces, at no cost
	Sample     float64 // share of traces that is kept, by trace ID; 0 keeps all

	Exporter sdktrace.SpanExporter // instead of Endpoint, for tests
}

// Telemetry is what a gateway is watched with. It is safe for concurrent use.
type Telemetry struct {
	provider *sdktrace.TracerProvider // nil: no traces
	tracer   trace.Tracer             // nil: no traces

	writes     *prometheus.HistogramVec
	calls      *prometheus.HistogramVec
	cacheReads *prometheus.CounterVec
	refusals   *prometheus.CounterVec
}

// New returns the telemetry of a gateway. It connects to no collector yet; one
// that does not answer costs nothing but the traces.
func New(ctx context.Context, o Options) (*Telemetry, error) {
	t := &Telemetry{
		writes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "zhenglian_write_duration_seconds",
			Help:    "Time from the proposal of a transaction to its outcome, by transaction and outcome.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120},
		}, []string{"transaction", "outcome"}),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "zhenglian_peer_call_duration_seconds",
			Help:    "Duration of calls to the peers' gateway services: endorse, submit, commit_status and evaluate, by department and gRPC code.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"call", "department", "code"}),
		cacheReads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "zhenglian_cache_reads_total",
			Help: "Look-ups in the cache, by result: hit or miss. What fails is a miss.",
		}, []string{"result"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "zhenglian_identity_refusals_total",
			Help: "Requests whose credential was refused, by reason.",
		}, []string{"reason"}),
	}
	for _, result := range []string{"hit", "miss"} {
		t.cacheReads.WithLabelValues(result) // so that a rate has a beginning
	}
	exporter := o.Exporter
	if exporter == nil && o.Endpoint != "" {
		if err := CheckEndpoint(o.Endpoint); err != nil {
			return nil, err
		}
		endpoint := o.Endpoint
		if u, err := url.Parse(endpoint); err == nil && strings.Trim(u.Path, "/") == "" {
			endpoint = strings.TrimSuffix(endpoint, "/") + "/v1/traces"
		}
		made, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint))
		if err != nil {
			return nil, fmt.Errorf("prepare the export of traces: %w", err)
		}
		exporter = made
	}
	if exporter == nil {
		return t, nil
	}
	kept := sdktrace.AlwaysSample()
	if o.Sample > 0 {
		kept = sdktrace.TraceIDRatioBased(o.Sample)
	}
	t.provider = sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		// Whoever calls may say "do not keep it", not "keep it": that would let
		// anyone fill the collector.
		sdktrace.WithSampler(sdktrace.ParentBased(kept, sdktrace.WithRemoteParentSampled(kept))),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "zhenglian-gateway"), attribute.String("zhenglian.department", string(o.Department)))),
	)
	t.tracer = t.provider.Tracer("github.com/zhenglian/zhenglian/gateway")
	return t, nil
}

// CheckEndpoint refuses what is not the URL of a collector.
func CheckEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("the endpoint of traces is not http:// or https:// and a host")
	}
	return nil
}

// Tracer answers what makes spans, nil when no traces are made.
func (t *Telemetry) Tracer() trace.Tracer { return t.tracer }

// DialOptions watch the connections to one department's peer.
func (t *Telemetry) DialOptions(department domain.DepartmentCode) []grpc.DialOption {
	options := []grpc.DialOption{grpc.WithChainUnaryInterceptor(t.callTimer(department))}
	if t.provider != nil {
		options = append(options, grpc.WithStatsHandler(otelgrpc.NewClientHandler(
			otelgrpc.WithTracerProvider(t.provider), otelgrpc.WithPropagators(propagation.TraceContext{}))))
	}
	return options
}

// Collectors answers what Prometheus scrapes.
func (t *Telemetry) Collectors() []prometheus.Collector {
	return []prometheus.Collector{t.writes, t.calls, t.cacheReads, t.refusals}
}

// Refused counts a credential that was refused.
func (t *Telemetry) Refused(reason string) { t.refusals.WithLabelValues(reason).Inc() }

// Close sends the traces that wait.
func (t *Telemetry) Close(ctx context.Context) error {
	if t.provider == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// Traceparent answers the span that a W3C traceparent header names, the zero span
// context for one that names none.
func Traceparent(header string) trace.SpanContext {
	parts := strings.Split(header, "-")
	if len(parts) != 4 || parts[0] != "00" || len(parts[3]) != 2 {
		return trace.SpanContext{}
	}
	id, err1 := trace.TraceIDFromHex(parts[1])
	span, err2 := trace.SpanIDFromHex(parts[2])
	if err1 != nil || err2 != nil {
		return trace.SpanContext{}
	}
	var flags trace.TraceFlags
	if parts[3] == "01" {
		flags = trace.FlagsSampled
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: flags, Remote: true})
}

// RequestKey is the key under which the context of a request holds its [*Request],
// in which [Ledger] notes transactions.
type RequestKey struct{}

// Request gathers what is learned about a request on its way.
type Request struct{ txID atomic.Value }

// TxID answers the last transaction that was submitted for the request, "" for
// none.
func (r *Request) TxID() domain.TxID {
	id, _ := r.txID.Load().(domain.TxID)
	return id
}

// Note notes a transaction in the request of ctx that does not go through [Ledger].
func Note(ctx context.Context, id domain.TxID) {
	if r, ok := ctx.Value(RequestKey{}).(*Request); ok && id != "" {
		r.txID.Store(id)
	}
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetAttributes(attribute.String("zhenglian.tx_id", string(id)))
	}
}
