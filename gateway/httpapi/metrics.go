package httpapi

import (
	"context"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/service"
)

// metrics count requests by route template, method and status: labels with few
// values, none of which names a record or a person.
type metrics struct {
	requests *prometheus.HistogramVec
	handler  http.Handler

	// known are the series of requests, found without putting labels together. Who
	// adds one, which happens a few hundred times at most, replaces the map.
	known  atomic.Pointer[map[requestLabels]prometheus.Observer]
	adding sync.Mutex
}

type requestLabels struct {
	route, method string
	status        int
}

func newMetrics(cfg *Config) *metrics {
	m := &metrics{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "zhenglian_http_request_duration_seconds",
			Help:    "Time from the first byte of a request to the end of its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"route", "method", "status"}),
	}
	m.known.Store(&map[requestLabels]prometheus.Observer{})
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		m.requests,
		&progress{read: cfg.Gauges, watched: cfg.Watched, alarms: cfg.Alarms, clock: cfg.Clock},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	registry.MustRegister(cfg.Collectors...)
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{DisableCompression: true})
	return m
}

func (m *metrics) observe(route, httpMethod string, status int, took time.Duration) {
	labels := requestLabels{route, method(httpMethod), status}
	series, ok := (*m.known.Load())[labels]
	if !ok {
		series = m.add(labels)
	}
	series.Observe(took.Seconds())
}

func (m *metrics) add(labels requestLabels) prometheus.Observer {
	m.adding.Lock()
	defer m.adding.Unlock()
	series := m.requests.WithLabelValues(labels.route, labels.method, strconv.Itoa(labels.status))
	known := maps.Clone(*m.known.Load())
	known[labels] = series
	m.known.Store(&known)
	return series
}

// maxOpenAlarms bounds the alarms that a scrape counts.
const maxOpenAlarms = 200

// gaugesWithin bounds how long a scrape waits for the gauges.
const gaugesWithin = time.Second

var (
	indexBlocksDesc  = prometheus.NewDesc("zhenglian_index_next_block", "Number of the block that the index waits for.", nil, nil)
	logSizeDesc      = prometheus.NewDesc("zhenglian_access_log_size", "Entries of the department's access log.", nil, nil)
	anchoredSizeDesc = prometheus.NewDesc("zhenglian_access_log_anchored_size", "Entries of the access log that the last anchor covers.", nil, nil)
	backlogDesc      = prometheus.NewDesc("zhenglian_access_log_backlog_seconds", "Age of the oldest entry of the access log that no anchor covers.", nil, nil)
	problemsDesc     = prometheus.NewDesc("zhenglian_watched_logs_with_problems", "Other departments' logs that do not verify now.", nil, nil)
	heardDesc        = prometheus.NewDesc("zhenglian_index_heard_age_seconds", "Time since enough departments last said how far the ledger is; above 10 the gateway answers that it cannot check.", nil, nil)
	heightDesc       = prometheus.NewDesc("zhenglian_ledger_height", "Blocks that a department's peer has. A department that does not answer has no sample.", []string{"department"}, nil)
	openAlarmsDesc   = prometheus.NewDesc("zhenglian_alarms_open", "Alarms on the ledger that are not dealt with; at most 200 are counted.", nil, nil)
)

// progress reads all gauges at one moment, so that they can be compared.
type progress struct {
	read    func(context.Context) Gauges
	watched func() []service.WatchedLog
	alarms  Alarms
	clock   func() time.Time
}

func (p *progress) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{indexBlocksDesc, logSizeDesc, anchoredSizeDesc, backlogDesc, heardDesc, heightDesc, problemsDesc, openAlarmsDesc} {
		ch <- d
	}
}

func (p *progress) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), gaugesWithin)
	defer cancel()
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	g := p.read(ctx)
	gauge(indexBlocksDesc, float64(g.IndexBlocks))
	gauge(logSizeDesc, float64(g.LogSize))
	gauge(anchoredSizeDesc, float64(g.AnchoredSize))
	gauge(backlogDesc, g.Backlog.Seconds())
	if !g.Heard.IsZero() {
		gauge(heardDesc, p.clock().Sub(g.Heard).Seconds())
	}
	for _, h := range g.Heights {
		if h.Err == nil {
			ch <- prometheus.MustNewConstMetric(heightDesc, prometheus.GaugeValue, float64(h.Height), string(h.Department))
		}
	}
	problems := 0
	for _, w := range p.watched() {
		if w.Problem != "" {
			problems++
		}
	}
	gauge(problemsDesc, float64(problems))
	// Without an answer there is no sample: 0 would be a lie.
	if open, err := p.alarms.List(ctx, index.Filter{State: string(domain.AlarmOpen)}, index.Page{Limit: maxOpenAlarms}); err == nil {
		gauge(openAlarmsDesc, float64(len(open.Items)))
	}
}
