package telemetry

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/cache"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/memcache"
)

// fakeLedger answers what its fields say, after calling a peer.
type fakeLedger struct {
	ledger.Ledger
	conn *grpc.ClientConn
	err  error
}

const (
	txID      = "cbe1a2f35d1c8c5fd2fa8b9c9d4c4d0a3a3d0ab7b7f2d1c7c4c5a6e5f4d3c2b1"
	unknownID = "0be1a2f35d1c8c5fd2fa8b9c9d4c4d0a3a3d0ab7b7f2d1c7c4c5a6e5f4d3c2b1"
)

func (l *fakeLedger) Submit(ctx context.Context, _ ledger.Request) (ledger.Receipt, error) {
	if l.conn != nil {
		if err := l.conn.Invoke(ctx, "/gateway.Gateway/Endorse", &emptypb.Empty{}, &emptypb.Empty{}); err != nil {
			return ledger.Receipt{}, err
		}
	}
	if l.err != nil {
		return ledger.Receipt{}, l.err
	}
	return ledger.Receipt{Position: domain.Position{TxID: txID}}, nil
}

// peer is a peer's gateway service that takes any call; it answers what headers
// came.
func peer(t *testing.T, options []grpc.DialOption) (*grpc.ClientConn, *[]string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var traceparents []string
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if md := headers(stream.Context(), "traceparent"); md != "" {
			traceparents = append(traceparents, md)
		}
		if method, _ := grpc.MethodFromServerStream(stream); strings.HasSuffix(method, "Evaluate") {
			return status.Error(codes.Unavailable, "away")
		}
		if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
			return err
		}
		return stream.SendMsg(&emptypb.Empty{})
	}))
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient(listener.Addr().String(), append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, &traceparents
}

// TestTraceToTransaction follows a request through the ledger to a peer and
// through the cache: one trace, and the transaction's ID in it.
func TestTraceToTransaction(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	w, err := New(t.Context(), Options{Department: "police", Exporter: exporter})
	if err != nil {
		t.Fatal(err)
	}
	conn, traceparents := peer(t, w.DialOptions("police"))
	memory, err := memcache.New(memcache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	ctx := trace.ContextWithRemoteSpanContext(t.Context(), Traceparent(caller))
	request := new(Request)
	ctx = context.WithValue(ctx, RequestKey{}, request)
	ctx, span := w.Tracer().Start(ctx, "POST /v1/certificates")
	if _, err := w.Ledger(&fakeLedger{conn: conn}).Submit(ctx, ledger.Request{Role: domain.RoleOperator, Transaction: "certificate:Issue"}); err != nil {
		t.Fatal(err)
	}
	watched := w.Cache(memory, "redis")
	watched.Put(ctx, "k", cache.Entry{Value: []byte("v")}, time.Minute)
	watched.Get(ctx, "k")
	watched.Get(ctx, "other")
	span.End()
	if got := request.TxID(); got != txID {
		t.Errorf("the request knows transaction %q", got)
	}
	if err := w.provider.ForceFlush(t.Context()); err != nil {
		t.Fatal(err)
	}
	spans := exporter.GetSpans()
	byName := make(map[string]tracetest.SpanStub)
	for _, s := range spans {
		byName[s.Name] = s
		if got := s.SpanContext.TraceID().String(); got != "4bf92f3577b34da6a3ce929d0e0e4736" {
			t.Errorf("span %q is of trace %s", s.Name, got)
		}
	}
	parent := func(name, want string) {
		t.Helper()
		s, ok := byName[name]
		if !ok || s.Parent.SpanID() != byName[want].SpanContext.SpanID() {
			t.Errorf("span %q (there: %v) is not below %q", name, ok, want)
		}
	}
	parent("submit certificate:Issue", "POST /v1/certificates")
	parent("gateway.Gateway/Endorse", "submit certificate:Issue")
	parent("cache get", "POST /v1/certificates")
	has := func(name string, want attribute.KeyValue) {
		t.Helper()
		for _, a := range byName[name].Attributes {
			if a == want {
				return
			}
		}
		t.Errorf("span %q lacks %v: %v", name, want, byName[name].Attributes)
	}
	has("submit certificate:Issue", attribute.String("zhenglian.tx_id", txID))
	has("submit certificate:Issue", attribute.String("zhenglian.outcome", "committed"))
	has("cache put", attribute.String("db.system.name", "redis"))
	if len(*traceparents) != 1 || !strings.HasPrefix((*traceparents)[0], "00-4bf92f3577b34da6a3ce929d0e0e4736-") {
		t.Errorf("the peer was told %q", *traceparents)
	}
	if err := w.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestWithoutTraces makes none, and counts all the same.
func TestWithoutTraces(t *testing.T) {
	w, err := New(t.Context(), Options{Department: "police"})
	if err != nil {
		t.Fatal(err)
	}
	if w.Tracer() != nil {
		t.Error("there is a tracer")
	}
	conn, traceparents := peer(t, w.DialOptions("civil"))
	request := new(Request)
	ctx := context.WithValue(t.Context(), RequestKey{}, request)
	for want, tt := range map[string]struct {
		err error
		id  domain.TxID
	}{
		OutcomeCommitted:   {nil, txID},
		OutcomeRefused:     {&domain.Error{Kind: domain.WrongState, Msg: "x"}, txID},
		OutcomeConflict:    {&domain.Error{Kind: domain.Conflict, Msg: "x"}, txID},
		OutcomeBusy:        {&ledger.BusyError{}, txID},
		OutcomeUnavailable: {&ledger.UnavailableError{Err: errors.New("x")}, txID},
		OutcomeCancelled:   {context.Canceled, txID},
		OutcomeFailed:      {errors.New("x"), txID},
		OutcomeUnknown:     {&ledger.OutcomeUnknownError{TxID: unknownID, Err: errors.New("x")}, unknownID},
	} {
		_, err := w.Ledger(&fakeLedger{conn: conn, err: tt.err}).Submit(ctx, ledger.Request{Role: domain.RoleOperator, Transaction: "certificate:Issue"})
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: the error became %v", want, err)
		}
		if want == OutcomeUnknown && request.TxID() != unknownID {
			t.Errorf("a transaction whose outcome is unknown: the request knows %q", request.TxID())
		}
		if want == OutcomeCommitted && request.TxID() != txID {
			t.Errorf("committed: the request knows %q", request.TxID())
		}
	}
	if got := testutil.CollectAndCount(w.writes); got != 8 {
		t.Errorf("%d outcomes are counted, want 8", got)
	}
	_ = conn.Invoke(ctx, "/gateway.Gateway/Evaluate", &emptypb.Empty{}, &emptypb.Empty{})
	_ = conn.Invoke(ctx, "/other.Service/Secret", &emptypb.Empty{}, &emptypb.Empty{})
	if got := testutil.CollectAndCount(w.calls, "zhenglian_peer_call_duration_seconds"); got != 2 { // endorse OK, evaluate Unavailable
		t.Errorf("%d kinds of calls are timed, want 2", got)
	}
	if len(*traceparents) != 0 {
		t.Errorf("peers were told of traces that nobody makes: %q", *traceparents)
	}
	memory, err := memcache.New(memcache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.Cache(memory, "memory").Get(ctx, "none")
	if got := testutil.ToFloat64(w.cacheReads.WithLabelValues("miss")); got != 1 {
		t.Errorf("%v misses, want 1", got)
	}
	if err := w.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTraceparent(t *testing.T) {
	for header, want := range map[string]string{
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":   "4bf92f3577b34da6a3ce929d0e0e4736",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00":   "4bf92f3577b34da6a3ce929d0e0e4736",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01":   "",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01":   "",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01":   "",
		"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":   "",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7":      "",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x": "",
		"": "",
	} {
		got := Traceparent(header)
		if got.IsValid() != (want != "") || want != "" && got.TraceID().String() != want {
			t.Errorf("%q: %v", header, got)
		}
	}
}

// TestExport sends spans to a collector, by the path that OTLP has where the URL
// names none.
func TestExport(t *testing.T) {
	for path, want := range map[string]string{"": "/v1/traces", "/own/v1/traces": "/own/v1/traces"} {
		paths := make(chan string, 10)
		collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { paths <- r.URL.Path }))
		w, err := New(t.Context(), Options{Department: "police", Endpoint: collector.URL + path, Sample: 1})
		if err != nil {
			t.Fatal(err)
		}
		_, span := w.Tracer().Start(t.Context(), "x")
		span.End()
		if err := w.Close(t.Context()); err != nil {
			t.Error(err)
		}
		collector.Close()
		if got := <-paths; got != want {
			t.Errorf("%q: sent to %s, want %s", path, got, want)
		}
	}
}

func TestCheckEndpoint(t *testing.T) {
	for endpoint, ok := range map[string]bool{
		"http://127.0.0.1:4318": true, "https://collector.example/v1/traces": true,
		"127.0.0.1:4318": false, "grpc://x": false, "http://": false, "http://me:pw@x": false, "http://x?y=1": false,
	} {
		if err := CheckEndpoint(endpoint); (err == nil) != ok {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
}
