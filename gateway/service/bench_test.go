package service_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/memcache"
	"github.com/zhenglian/zhenglian/gateway/service"
)

func BenchmarkVerify(b *testing.B) {
	w := newWorld(b)
	ref := w.issue(issueRequest()).Value.Content.Ref
	shared, err := memcache.New(memcache.Options{Now: w.clock.Now})
	if err != nil {
		b.Fatal(err)
	}
	for name, later := range map[string]time.Duration{"cached": 0, "read again": 6 * time.Second} {
		b.Run(name, func(b *testing.B) {
			v := service.NewVerification(w.ledger, w.index, shared, w.anchors, w.clock.Now, w.clock.Now)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					w.clock.Advance(later)
					if got := v.Verify(b.Context(), ref); got.Verdict != service.Valid {
						b.Errorf("%+v", got)
					}
				}
			})
		})
	}
}

func BenchmarkProofCached(b *testing.B) {
	w := newWorld(b)
	ref := w.issue(issueRequest()).Value.Content.Ref
	v := w.verifier()
	for b.Loop() {
		if _, _, err := v.Proof(b.Context(), string(domain.KindCertificate), ref); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	for _, size := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			d := newDesk(b)
			d.follow()
			g := d.grant(grantID(1), domain.Quota{Total: 1 << 40, PerDay: 1 << 40})
			for b.Loop() {
				d.clock.Advance(10 * time.Millisecond)
				if _, err := d.record(d.uses(g, size)...); err != nil { // new calls: a repeated one is not logged again
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(size*b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
