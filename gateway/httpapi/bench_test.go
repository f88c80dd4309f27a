package httpapi

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/memcache"
	"github.com/zhenglian/zhenglian/gateway/requestlog"
	"github.com/zhenglian/zhenglian/gateway/service"
)

// The cost of the HTTP side alone: everything behind it answers at once.
func BenchmarkRequest(b *testing.B) {
	for name, s := range map[string]struct {
		method string
		sample
	}{
		"verify":   {"GET", samples["GET /v1/verify/{ref}"]},
		"register": {"POST", samples["POST /v1/catalog/entries"]},
		"access-1000": {"POST", sample{
			target: "/v1/access-records", role: domain.RoleOperator,
			body: `{"records":[` + strings.Repeat(sampleAccess+",", 999) + sampleAccess + `]}`,
		}},
	} {
		b.Run(name, func(b *testing.B) {
			g := new(gateway)
			g.reset()
			cfg := g.config(io.Discard)
			cfg.Limiter = unlimited{}
			h, err := New(cfg)
			if err != nil {
				b.Fatal(err)
			}
			g.verdict = service.Valid
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, s.request(s.method))
				if w.Code >= 300 {
					b.Fatalf("status %d: %s", w.Code, w.Body)
				}
			}
		})
	}
}

// BenchmarkServed asks for a verification over one connection that stays open, and
// asks a bare Gin handler for the same bytes, in turn: what the gateway adds to
// them is the difference.
func BenchmarkServed(b *testing.B) {
	g := new(gateway)
	g.reset()
	g.verdict = service.Valid
	cfg := g.config(io.Discard)
	cfg.Log = slog.New(slog.DiscardHandler)
	limiter, err := memcache.New(memcache.Options{})
	if err != nil {
		b.Fatal(err)
	}
	log, err := requestlog.Open(requestlog.Options{Dir: b.TempDir(), Department: "police"})
	if err != nil {
		b.Fatal(err)
	}
	cfg.Limiter, cfg.Requests = limiter, log.Add
	cfg.AddressRate, cfg.PublicRate = Rate{1e6, 1_000_000}, Rate{1e6, 1_000_000}
	h, err := New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	path, _, _ := strings.Cut(samples["GET /v1/verify/{ref}"].target, "?")
	recorded := httptest.NewRecorder()
	h.ServeHTTP(recorded, httptest.NewRequest("GET", path, nil))
	bare := gin.New()
	bare.GET("/v1/verify/:ref", func(c *gin.Context) {
		for name, values := range recorded.Header() {
			c.Writer.Header()[name] = values
		}
		c.Data(recorded.Code, recorded.Header().Get("Content-Type"), recorded.Body.Bytes())
	})
	var servers []*httptest.Server
	for _, handler := range []http.Handler{h, bare} {
		server := httptest.NewServer(handler)
		defer server.Close()
		servers = append(servers, server)
	}
	var took [2]time.Duration
	for b.Loop() {
		for i, server := range servers {
			start := time.Now()
			res, err := server.Client().Get(server.URL + path)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
				b.Fatal(res.Status, err)
			}
			_ = res.Body.Close()
			took[i] += time.Since(start)
		}
	}
	b.ReportMetric(float64(took[0].Nanoseconds())/float64(b.N), "gateway-ns")
	b.ReportMetric(float64(took[1].Nanoseconds())/float64(b.N), "bare-ns")
	if err := log.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
}
