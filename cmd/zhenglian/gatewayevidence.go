package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/remotelog"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/sqltrail"
	"github.com/zhenglian/zhenglian/gateway/tileclient"
)

const (
	// defaultMaxLag is how old an unanchored record may be before nothing more is
	// released.
	defaultMaxLag = time.Minute

	monitorEvery = time.Second

	// The auditor's times: how often it pulls, how long a part of a log may be
	// missing, and how long the other side of a call may take, before that is an
	// alarm.
	defaultAuditEvery    = 5 * time.Second
	defaultAuditPatience = 30 * time.Second
	defaultAuditGrace    = 10 * time.Minute

	// watchFile keeps what the watcher has verified, in the data folder.
	watchFile = "watched.json"
)

type gatewayEvidence struct {
	MaxLag string `json:"maxLag"` // age of the oldest unanchored record above which nothing is released, 1s to 1h; "": 1m
}

type gatewayAddress struct {
	Department domain.DepartmentCode `json:"department"`
	URL        string                `json:"url"` // of its gateway, scheme and host
}

// gatewayWatch holds the times of [service.WatcherOptions]; "" keeps a default.
type gatewayWatch struct {
	Every    string `json:"every"`    // 10ms to 1m
	Patience string `json:"patience"` // 10ms to 10m
	Silence  string `json:"silence"`  // 1s to 24h
}

// gatewayMonitor names the rules for unusual use. Without it the default ones
// run; with an empty list none does.
type gatewayMonitor struct {
	Rules []domain.UnusualRule `json:"rules"`
}

type gatewayAudit struct {
	Trail string       `json:"trail"`           // file of the trail, or a postgres:// URL
	Logs  []auditedLog `json:"logs"`            // whose entries are read
	Every string       `json:"every,omitempty"` // between two pulls, 100ms to 1h; "": 5s
	Grace string       `json:"grace,omitempty"` // for the other side of a call, 1s to 24h; "": 10m
}

type auditedLog struct {
	Department domain.DepartmentCode `json:"department"`
	URL        string                `json:"url"`
	TokenFile  string                `json:"tokenFile"` // file with the token of an auditor of that department
}

// watchSetup is what the watcher is made of.
type watchSetup struct {
	logs                     map[domain.DepartmentCode]remotelog.Log
	every, patience, silence time.Duration // zero: the watcher's own
}

// auditSetup is what the auditor is made of.
type auditSetup struct {
	trail        string
	logs         map[domain.DepartmentCode]remotelog.Log
	every, grace time.Duration
}

func (s *gatewaySetup) readEvidence(r *configReader) {
	s.maxLag = defaultMaxLag
	if s.Evidence != nil {
		s.maxLag = r.duration("evidence.maxLag", s.Evidence.MaxLag, defaultMaxLag, time.Second, time.Hour)
	}
}

func (s *gatewaySetup) readWatch(r *configReader) {
	s.watch.logs = make(map[domain.DepartmentCode]remotelog.Log)
	for i, g := range s.Gateways {
		at := fmt.Sprintf("gateways[%d].", i)
		if g.Department == s.Department {
			r.fault(at+"department", "is this gateway's own: it watches the others'")
		}
		if client := s.remote(r, at, g.Department, g.URL, "", s.watch.logs); client != nil {
			s.watch.logs[g.Department] = client
		}
	}
	if s.Watch == nil {
		return
	}
	s.watch.every = r.duration("watch.every", s.Watch.Every, 0, 10*time.Millisecond, time.Minute)
	s.watch.patience = r.duration("watch.patience", s.Watch.Patience, 0, 10*time.Millisecond, 10*time.Minute)
	s.watch.silence = r.duration("watch.silence", s.Watch.Silence, 0, time.Second, 24*time.Hour)
}

// remote answers a reader of a department's log, nil if the configuration is
// wrong. others are those named before.
func (s *gatewaySetup) remote(r *configReader, at string, department domain.DepartmentCode, url, token string, others map[domain.DepartmentCode]remotelog.Log) remotelog.Log {
	known := r.departmentCode(at+"department", department)
	if known && s.anchors != nil && !s.trusted(department) {
		r.fault(at+"department", "the trust anchors do not name %q", department)
		known = false
	}
	if _, twice := others[department]; twice {
		r.fault(at+"department", "%q is named already", department)
	}
	if !r.require(at+"url", url) || !known {
		return nil
	}
	client, err := tileclient.New(url, token, department, nil)
	if err != nil {
		r.fault(at+"url", "%w", err)
		return nil
	}
	return client
}

func (s *gatewaySetup) trusted(department domain.DepartmentCode) bool {
	for _, d := range s.anchors.Departments {
		if d.Code == department {
			return true
		}
	}
	return false
}

func (s *gatewaySetup) readMonitor(r *configReader) {
	if s.Monitor == nil {
		s.monitor = service.DefaultUnusualRules()
		return
	}
	seen := make(map[string]bool)
	for i, rule := range s.Monitor.Rules {
		at := fmt.Sprintf("monitor.rules[%d]", i)
		if err := rule.Validate(); err != nil {
			r.fault(at, "%w", err)
		}
		if seen[rule.ID] {
			r.fault(at+".id", "%q is named already", rule.ID)
		}
		seen[rule.ID] = true
	}
	s.monitor = s.Monitor.Rules
}

func (s *gatewaySetup) readAudit(r *configReader) {
	if s.Audit == nil {
		return
	}
	a := &auditSetup{
		logs:  make(map[domain.DepartmentCode]remotelog.Log),
		every: r.duration("audit.every", s.Audit.Every, defaultAuditEvery, 100*time.Millisecond, time.Hour),
		grace: r.duration("audit.grace", s.Audit.Grace, defaultAuditGrace, time.Second, 24*time.Hour),
	}
	s.audit = a
	if r.require("audit.trail", s.Audit.Trail) {
		a.trail = s.Audit.Trail
		scheme, _, isURL := strings.Cut(a.trail, "://")
		switch {
		case !isURL:
			a.trail = r.path(a.trail)
		case scheme != "postgres" && scheme != "postgresql":
			r.fault("audit.trail", "is neither a file nor a postgres:// URL") // it may hold a password
		}
	}
	if len(s.Audit.Logs) == 0 {
		r.fault("audit.logs", "there are none")
	}
	for i, l := range s.Audit.Logs {
		at := fmt.Sprintf("audit.logs[%d].", i)
		token := strings.TrimSpace(string(r.contents(at+"tokenFile", l.TokenFile)))
		if strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }) {
			r.fault(at+"tokenFile", "%s does not hold one access token", r.path(l.TokenFile))
		}
		if client := s.remote(r, at, l.Department, l.URL, token, a.logs); client != nil {
			a.logs[l.Department] = client
		}
	}
}

// newWatcher watches the logs of the other departments.
func (p *gatewayParts) newWatcher() *service.Watcher {
	watch := p.setup.watch
	for _, d := range p.setup.anchors.Departments {
		if watch.logs[d.Code] == nil && d.Code != p.setup.Department {
			p.logger.Warn("the log of a department is not watched: gateway.json does not say where it is", "log", d.Code)
		}
	}
	return service.NewWatcher(service.WatcherOptions{
		Own: p.setup.Department, Index: p.index, Logs: watch.logs, Raise: p.alarms.Report, Heard: p.indexer.LastHeard,
		File:  filepath.Join(p.setup.Data, watchFile),
		Every: watch.every, Patience: watch.patience, Silence: watch.silence,
		Logger: p.logger, Clock: time.Now,
	})
}

// newMonitor judges the department's own records.
func (p *gatewayParts) newMonitor() *service.Monitor {
	return service.NewMonitor(service.MonitorOptions{
		Department: p.setup.Department, Rules: p.setup.monitor, Index: p.index, Raise: p.alarms.Report,
		Every: monitorEvery, Logger: p.logger, Clock: time.Now,
	})
}

// openAuditor opens the trail and makes the auditor of all logs, if one is
// configured. It answers what closes the trail.
func (p *gatewayParts) openAuditor(ctx context.Context) (func() error, error) {
	audit := p.setup.audit
	if audit == nil {
		return func() error { return nil }, nil
	}
	store, err := sqltrail.Open(ctx, audit.trail)
	if err != nil {
		return nil, err
	}
	p.auditor = service.NewAuditor(service.AuditorOptions{
		Trail: store, Anchors: service.IndexAnchors(p.index), Trust: p.setup.anchors, Logs: audit.logs, Raise: p.alarms.Report,
		Patience: defaultAuditPatience, Grace: audit.grace, Every: audit.every, Logger: p.logger, Clock: time.Now,
	})
	return store.Close, nil
}
