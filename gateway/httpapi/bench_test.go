package httpapi

import (
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/domain"
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
