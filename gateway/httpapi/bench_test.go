package httpapi

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
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
	verify := samples["GET /v1/verify/{ref}"]
	now := verify
	now.target, _, _ = strings.Cut(verify.target, "?")
	for _, bench := range []struct {
		name, method string
		sample
		public Rate
		want   int
	}{
		{name: "verify", method: "GET", sample: now},
		{name: "verify-at", method: "GET", sample: verify},
		{name: "refused", method: "GET", sample: now, public: Rate{PerSecond: 1e-3, Burst: 1}, want: http.StatusTooManyRequests},
		{name: "register", method: "POST", sample: samples["POST /v1/catalog/entries"]},
		{name: "access-1000", method: "POST", sample: sample{
			target: "/v1/access-records", role: domain.RoleOperator,
			body: `{"records":[` + strings.Repeat(sampleAccess+",", 999) + sampleAccess + `]}`,
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			g := new(gateway)
			g.reset()
			g.verdict = service.Valid
			cfg := g.config(io.Discard)
			cfg.Limiter, cfg.PublicRate = unlimited{}, Rate{PerSecond: 1e6, Burst: 1_000_000}
			if bench.public != (Rate{}) {
				cfg.PublicRate = bench.public
			}
			h, err := New(cfg)
			if err != nil {
				b.Fatal(err)
			}
			h.ServeHTTP(httptest.NewRecorder(), bench.request(bench.method)) // the first takes the burst
			b.ReportAllocs()
			for b.Loop() {
				r := bench.request(bench.method)
				r.Header.Set("Accept-Language", "zh-CN,zh;q=0.9,en;q=0.8")
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if w.Code >= 300 && w.Code != bench.want {
					b.Fatalf("status %d: %s", w.Code, w.Body)
				}
			}
		})
	}
}

// BenchmarkServed asks for a verification over one connection that stays open, and
// asks a bare Gin handler for the same bytes, in turns. It reports the processor time
// of a request of either, client included: what the gateway adds is the difference.
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
	ask := func(server *httptest.Server) {
		res, err := server.Client().Get(server.URL + path)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
			b.Fatal(res.Status, err)
		}
		_ = res.Body.Close()
	}
	const turn = 500 // so many that lines of the log are written within the turn they belong to
	var took [2]time.Duration
	turns := 0
	for ; b.Loop(); turns++ {
		for i := range servers {
			i ^= turns % 2
			start := processorTime(b)
			for range turn {
				ask(servers[i])
			}
			took[i] += processorTime(b) - start
		}
	}
	b.ReportMetric(float64(took[0].Nanoseconds())/float64(turn*turns), "gateway-cpu-ns")
	b.ReportMetric(float64(took[1].Nanoseconds())/float64(turn*turns), "bare-cpu-ns")
	if err := log.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// processorTime answers what this process has used so far.
func processorTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
