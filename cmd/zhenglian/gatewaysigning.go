package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zhenglian/zhenglian/gateway/service"
)

// signingGauges are the gauges of what waits for its caller's signature, which show 0
// where nobody signs with a key of their own: signing is nil there.
func signingGauges(signing *service.Signing) []prometheus.Collector {
	gauge := func(name, help string, read func(n int, oldest time.Time) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			if signing == nil {
				return 0
			}
			return read(signing.Waiting())
		})
	}
	return []prometheus.Collector{
		gauge("zhenglian_signing_waiting", "Writes that wait for a signature of their caller.", func(n int, _ time.Time) float64 { return float64(n) }),
		gauge("zhenglian_signing_oldest_seconds", "Time since the first of them was asked for; 0 for none.", func(n int, oldest time.Time) float64 {
			if n == 0 {
				return 0
			}
			return time.Since(oldest).Seconds()
		}),
	}
}
