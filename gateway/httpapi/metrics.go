package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics count requests by route template, method and status: labels with few
// values, none of which names a record or a person.
type metrics struct {
	requests *prometheus.HistogramVec
	handler  http.Handler
}

func newMetrics(gauges func(context.Context) Gauges) *metrics {
	m := &metrics{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "zhenglian_http_request_duration_seconds",
			Help:    "Time from the first byte of a request to the end of its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"route", "method", "status"}),
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		m.requests,
		&progress{read: gauges},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{DisableCompression: true})
	return m
}

func (m *metrics) observe(route, httpMethod string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, method(httpMethod), strconv.Itoa(status)).Observe(took.Seconds())
}

// gaugesWithin bounds how long a scrape waits for the gauges.
const gaugesWithin = time.Second

var (
	indexBlocksDesc  = prometheus.NewDesc("zhenglian_index_next_block", "Number of the block that the index waits for.", nil, nil)
	logSizeDesc      = prometheus.NewDesc("zhenglian_access_log_size", "Entries of the department's access log.", nil, nil)
	anchoredSizeDesc = prometheus.NewDesc("zhenglian_access_log_anchored_size", "Entries of the access log that the last anchor covers.", nil, nil)
)

// progress reads all gauges at one moment, so that they can be compared.
type progress struct {
	read func(context.Context) Gauges
}

func (p *progress) Describe(ch chan<- *prometheus.Desc) {
	ch <- indexBlocksDesc
	ch <- logSizeDesc
	ch <- anchoredSizeDesc
}

func (p *progress) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), gaugesWithin)
	defer cancel()
	g := p.read(ctx)
	ch <- prometheus.MustNewConstMetric(indexBlocksDesc, prometheus.GaugeValue, float64(g.IndexBlocks))
	ch <- prometheus.MustNewConstMetric(logSizeDesc, prometheus.GaugeValue, float64(g.LogSize))
	ch <- prometheus.MustNewConstMetric(anchoredSizeDesc, prometheus.GaugeValue, float64(g.AnchoredSize))
}
