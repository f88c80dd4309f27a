package httpapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/identity"
	"github.com/zhenglian/zhenglian/gateway/requestlog"
)

// fakeOIDC knows "known.a.b", takes "good.a.b" after a look, and fails on others.
type fakeOIDC struct{ looks int }

func (o *fakeOIDC) Known(token string) (domain.Role, bool) {
	return domain.RoleReviewer, token == "known.a.b"
}

func (o *fakeOIDC) Role(token string) (domain.Role, error) {
	o.looks++
	switch token {
	case "good.a.b":
		return domain.RoleReviewer, nil
	case "away.a.b":
		return "", identity.ErrUnavailable
	}
	return "", &identity.Refusal{Reason: identity.Expired}
}

// limits refuses the keys that begin with what is set, and remembers all.
type limits struct {
	refuse string
	keys   []string
}

func (l *limits) Allow(_ context.Context, key string, _ float64, _ int) (ok bool, retryAfter time.Duration, left int) {
	l.keys = append(l.keys, key)
	return l.refuse == "" || !strings.HasPrefix(key, l.refuse), time.Second, 0
}

// TestWhoCalls presents each kind of credential on a path that needs one and on a
// public one, and reads what the log of requests keeps of it.
func TestWhoCalls(t *testing.T) {
	cert := &x509.Certificate{Raw: []byte("certificate")}
	for _, tt := range []struct {
		name   string
		path   string
		bearer string
		cert   bool
		refuse string // limiter

		status      int
		via, reason string
		role        domain.Role
		keys        string // that were counted
		looks       int
	}{
		{name: "nothing", path: "/v1/inbox", status: 401, reason: "missing", keys: "address"},
		{name: "nothing, public", path: "/v1/trust", status: 200, keys: "address"},
		{name: "token", path: "/v1/inbox", bearer: "zl_operator", status: 200, via: "token", role: domain.RoleOperator, keys: "caller"},
		{name: "unknown token", path: "/v1/inbox", bearer: "zl_x", status: 401, reason: "unknown_token", keys: "address"},
		{name: "unknown token, public", path: "/v1/trust", bearer: "zl_x", status: 200, reason: "unknown_token", keys: "address"},
		{name: "provider's, known", path: "/v1/inbox", bearer: "known.a.b", status: 200, via: "oidc", role: domain.RoleReviewer, keys: "caller"},
		{name: "provider's, new", path: "/v1/inbox", bearer: "good.a.b", status: 200, via: "oidc", role: domain.RoleReviewer, keys: "address caller", looks: 1},
		{name: "provider's, expired", path: "/v1/inbox", bearer: "old.a.b", status: 401, reason: "expired", keys: "address", looks: 1},
		{name: "provider's, guessed too often", path: "/v1/inbox", bearer: "old.a.b", refuse: "http:address", status: 429, keys: "address"},
		{name: "provider away", path: "/v1/inbox", bearer: "away.a.b", status: 503, keys: "address", looks: 1},
		{name: "provider away, public", path: "/v1/trust", bearer: "away.a.b", status: 200, keys: "address", looks: 1},
		{name: "certificate", path: "/v1/inbox", cert: true, status: 200, via: "mtls", role: domain.RoleAuditor, keys: "caller"},
		{name: "certificate and token", path: "/v1/inbox", cert: true, bearer: "zl_operator", status: 401, reason: "ambiguous", keys: "address"},
		{name: "over its limit", path: "/v1/inbox", bearer: "zl_operator", refuse: "http:caller", status: 429, via: "token", role: domain.RoleOperator, keys: "caller"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := new(gateway)
			g.reset()
			cfg := g.config(io.Discard)
			provider, limiter := new(fakeOIDC), &limits{refuse: tt.refuse}
			var lines []requestlog.Entry
			refused := 0
			cfg.OIDC, cfg.Limiter = provider, limiter
			cfg.ClientCertificate = func(*x509.Certificate) (domain.Role, error) { return domain.RoleAuditor, nil }
			cfg.Requests = func(e requestlog.Entry) { lines = append(lines, e) }
			cfg.Refused = func(string) { refused++ }
			h, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest(http.MethodGet, tt.path, nil)
			if tt.bearer != "" {
				r.Header.Set("Authorization", "Bearer "+tt.bearer)
			}
			if tt.cert {
				r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.status {
				t.Errorf("status %d, want %d: %s", w.Code, tt.status, w.Body)
			}
			for _, told := range []string{"expired", "ambiguous", "unknown_token"} {
				if strings.Contains(w.Body.String(), told) {
					t.Errorf("the caller reads %q", told)
				}
			}
			var kinds []string
			for _, k := range limiter.keys {
				kinds = append(kinds, strings.Split(k, ":")[1])
			}
			if got := strings.Join(kinds, " "); got != tt.keys || provider.looks != tt.looks {
				t.Errorf("counted %q, looked %d times, want %q, %d", got, provider.looks, tt.keys, tt.looks)
			}
			if len(lines) != 1 {
				t.Fatalf("%d lines", len(lines))
			}
			e := lines[0]
			if e.Via != tt.via || e.Role != tt.role || e.Reason != tt.reason || e.Status != tt.status || e.Route != tt.path || e.TraceID != w.Header().Get("X-Request-Id") {
				t.Errorf("line %+v", e)
			}
			if known := tt.via != ""; (e.Address != "") != known || (len(e.Credential) == 16) != known || (e.Department == "police") != known {
				t.Errorf("who called: %+v", e)
			}
			if counted := tt.reason != "" && tt.reason != "missing"; (refused == 1) != counted {
				t.Errorf("counted as refused %d times", refused)
			}
		})
	}
}

// TestBrokenOffIsLogged has a line for an answer that is cut short.
func TestBrokenOffIsLogged(t *testing.T) {
	g := new(gateway)
	g.reset()
	cfg := g.config(io.Discard)
	var lines []requestlog.Entry
	cfg.Requests = func(e requestlog.Entry) { lines = append(lines, e) }
	cfg.Pages = panics{cfg.Pages}
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() { _ = recover() }()
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/v/"+testRef, nil))
	}()
	if len(lines) != 1 || lines[0].Code != "broken_off" || lines[0].Route != "/v/:ref" {
		t.Errorf("lines %+v", lines)
	}
}

// panics breaks off every page.
type panics struct{ Pages }

func (panics) ServeHTTP(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// TestTraceOfRequest continues the caller's trace, and names its ID either way.
func TestTraceOfRequest(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	g := new(gateway)
	g.reset()
	cfg := g.config(io.Discard)
	cfg.Tracer = provider.Tracer("test")
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, parent := range []string{"", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"} {
		exporter.Reset()
		r := httptest.NewRequest(http.MethodGet, "/v1/verify/"+testRef, bytes.NewReader(nil))
		r.Header.Set("Traceparent", parent)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		spans := exporter.GetSpans()
		if len(spans) != 1 || spans[0].Name != "GET /v1/verify/:ref" {
			t.Fatalf("spans %v", spans)
		}
		id := spans[0].SpanContext.TraceID().String()
		if id != w.Header().Get("X-Request-Id") || parent != "" && !strings.Contains(parent, id) {
			t.Errorf("trace %s, X-Request-Id %s, caller's %s", id, w.Header().Get("X-Request-Id"), parent)
		}
		for _, a := range spans[0].Attributes {
			if strings.Contains(a.Value.String(), testRef) {
				t.Errorf("the span names a certificate: %v", a)
			}
		}
	}
}
