package main

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/cache"
	"github.com/zhenglian/zhenglian/gateway/fabricledger"
	"github.com/zhenglian/zhenglian/gateway/httpapi"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/memcache"
	"github.com/zhenglian/zhenglian/gateway/outbox"
	"github.com/zhenglian/zhenglian/gateway/rediscache"
	"github.com/zhenglian/zhenglian/gateway/requestlog"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/sqlindex"
	"github.com/zhenglian/zhenglian/gateway/tilelog"
	"github.com/zhenglian/zhenglian/gateway/web"
)

const (
	// drainWithin and closeWithin bound the two parts of a shutdown, 5 s in all:
	// answering what is under way, and closing the log.
	drainWithin = 3500 * time.Millisecond
	closeWithin = 1500 * time.Millisecond

	// outboxFile is the name of the outbox in a gateway's data folder.
	outboxFile = "outbox.sqlite"

	// logWatch is how often the access log is asked whether it has failed.
	logWatch = time.Second
)

type gatewayCmd struct {
	Config      string `xor:"which" required:"" placeholder:"FILE" help:"Configuration file, gateway.json."`
	Department  string `xor:"which" required:"" placeholder:"CODE" help:"Run the gateway of this department of the consortium on this machine."`
	State       string `default:".zhenglian" placeholder:"FOLDER" help:"With --department: state folder of the consortium."`
	Redis       string `placeholder:"URL" help:"Share the cache through this Redis, redis:// or rediss://; overrides the configuration."`
	CheckConfig bool   `help:"Read the configuration and every file it names, say what is wrong, and end."`
}

// gatewayFile is the configuration file that the flags name.
func gatewayFile(config, department, state string) (string, error) {
	if config != "" {
		return config, nil
	}
	if !departmentPattern.MatchString(department) {
		return "", &exitError{exitUsage, fmt.Errorf("%q is not a department code", department)}
	}
	return filepath.Join(state, "departments", department, "gateway", "gateway.json"), nil
}

// Run runs the gateway until it is told to stop or a part of it fails.
func (c *gatewayCmd) Run(e *env) error {
	file, err := gatewayFile(c.Config, c.Department, c.State)
	if err != nil {
		return err
	}
	setup, err := loadGateway(file, c.Redis)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	logger := slog.New(slog.NewJSONHandler(e.stderr, nil)).With("department", setup.Department)
	chain, err := fabricledger.New(setup.fabric, logger)
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("%s: %w", file, err)}
	}
	defer func() { _ = chain.Close() }() // at the end of the process; nothing is left to save
	shared, err := openCache(setup, logger)
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("%s: field redis: %w", file, err)}
	}
	defer func() { _ = shared.Close() }() // what is in it may be forgotten
	if c.CheckConfig {
		fmt.Fprintf(e.stdout, "%s is in order: gateway of %s at %s, %d peers\n", file, setup.Department, setup.PublicURL, len(setup.Peers))
		return nil
	}
	// The port comes first: it is what a second gateway on this machine lacks,
	// and the clearest way to say so.
	listener, err := net.Listen("tcp", setup.Listen)
	if err != nil {
		return fmt.Errorf("%s: field listen: %w", file, err)
	}
	return runGateway(e.ctx, setup, chain, shared, listener, logger)
}

// runGateway serves on listener until ctx ends or a part fails. It answers nil
// after a shutdown that ctx asked for. It closes listener, and what it opens.
func runGateway(ctx context.Context, setup *gatewaySetup, adapter ledger.Adapter, shared cache.Cache, listener net.Listener, logger *slog.Logger) (err error) {
	defer func() { _ = listener.Close() }() // the server has closed it already unless it was never reached
	watch := setup.identities.telemetry
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
		defer cancel()
		_ = watch.Close(closing) // traces that cannot be sent are lost, nothing else
	}()
	identities, err := setup.openIdentities(adapter, logger)
	if err != nil {
		return err
	}
	system := "memory"
	if setup.Redis != "" {
		system = "redis"
	}
	shared = watch.Cache(shared, system)
	defer func() {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			err = nil // told to stop while it was opening its data
		}
	}()

	ix, err := sqlindex.Open(ctx, filepath.Join(setup.Data, indexFile), sqlindex.WithChaincode(setup.Chaincode))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ix.Close()) }()
	log, err := tilelog.Open(ctx, tilelog.Options{
		Dir: filepath.Join(setup.Data, "log"), Origin: setup.Log.Origin, Key: setup.logKey, Logger: logger,
		MaxWaiting: setup.recordsWaiting,
	})
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
		defer cancel()
		err = errors.Join(err, log.Close(closing))
	}()

	writes, err := outbox.Open(ctx, filepath.Join(setup.Data, outboxFile), adapter, outbox.Options{InHand: setup.writesInHand, Logger: logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, writes.Close()) }()
	chain := watch.Ledger(writes)
	told := service.NewTold(ix, time.Now)
	var signing *service.Signing
	if offline, ok := adapter.(ledger.Offline); ok && identities.holders != nil {
		signing = service.NewSigning(service.SigningOptions{
			Department: setup.Department, Ledger: chain, Offline: offline, Outbox: writes, Index: told, Holder: identities.role, Clock: time.Now,
		})
		chain = signing
	}

	// The parts end after the requests under way, some of which wait for the index.
	parts, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()

	logIndexer := service.NewLogIndexer(log, ix, logger)
	p := &gatewayParts{
		setup: setup, identities: identities, chain: chain, writes: writes, signing: signing, index: told, log: log, cache: shared, logger: logger,
		indexer:  service.NewIndexer(chain, ix, shared, logger),
		anchorer: service.NewAnchorer(setup.Department, chain, ix, log, setup.interval, logger),
		alarms:   service.NewAlarms(chain, told),
	}
	if fabric, ok := adapter.(interface {
		ServedBy() []domain.DepartmentCode
	}); ok {
		p.servedBy = fabric.ServedBy
	}
	p.watcher = p.newWatcher()
	closeTrail, err := p.openAuditor(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeTrail()) }()
	closeIssuing, err := p.openIssuing(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeIssuing()) }()
	closeRequests, err := p.openRequests()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeRequests()) }()
	secure, err := identities.listen()
	if err != nil {
		return fmt.Errorf("field mtls.listen: %w", err)
	}
	if secure != nil {
		defer func() { _ = secure.Close() }() // as with listener
	}
	handler, err := p.newHandler() //nolint:contextcheck // requests bring their own
	if err != nil {
		return err
	}
	server := httpapi.NewServer(handler, logger)

	group, running := errgroup.WithContext(parts)
	part := func(name string, run func(context.Context) error) {
		group.Go(func() error {
			if err := run(running); running.Err() == nil {
				// It ended by itself: without it the gateway would go on and say
				// less than the truth. The supervisor starts a new one.
				return fmt.Errorf("%s ended: %w", name, errors.Join(err, errors.New("unexpectedly")))
			}
			return nil
		})
	}
	part("indexer", p.indexer.Run)
	part("log indexer", logIndexer.Run)
	part("anchorer", p.anchorer.Run)
	part("watcher", p.watcher.Run)
	if len(setup.monitor) > 0 {
		part("monitor", p.newMonitor().Run)
	}
	if p.auditor != nil {
		part("auditor", p.auditor.Run)
	}
	part("access log", func(ctx context.Context) error { return watchFailure(ctx, log.Failed) })
	part("outbox", func(ctx context.Context) error { return watchFailure(ctx, writes.Failed) })
	part("log of requests", func(ctx context.Context) error { return watchFailure(ctx, p.requests.Failed) })
	part("anchorer of the log of requests", p.requestAnchorer.Run)
	identities.run(part)
	for _, l := range []net.Listener{listener, secure} {
		if l == nil {
			continue
		}
		group.Go(func() error {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("HTTP server ended: %w", err)
			}
			return nil
		})
	}
	group.Go(func() error {
		select {
		case <-ctx.Done():
		case <-running.Done():
		}
		logger.Info("shutting down")
		draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainWithin)
		defer cancel()
		if err := server.Shutdown(draining); err != nil {
			logger.Warn("requests were cut off", "error", err)
			_ = server.Close()
		}
		stop()
		return nil
	})
	logger.Info("gateway runs", "listen", listener.Addr().String(), "publicUrl", setup.PublicURL, "sharedCache", setup.Redis != "")
	return group.Wait()
}

// gatewayParts are what a running gateway is made of.
type gatewayParts struct {
	setup   *gatewaySetup
	chain   ledger.Ledger
	writes  *outbox.Outbox   // under chain
	signing *service.Signing // of chain, what waits for signatures; nil: nobody signs elsewhere
	index   *service.Told
	log     *tilelog.Log
	cache   cache.Cache
	logger  *slog.Logger

	indexer  *service.Indexer
	anchorer *service.Anchorer
	alarms   *service.Alarms
	watcher  *service.Watcher
	auditor  *service.Auditor // nil: this gateway reads its own log only
	issuing  *service.Issuing // nil: it has no issuing key

	identities      *gatewayIdentities
	servedBy        func() []domain.DepartmentCode // whose word the index is on; nil: there is one source only
	requests        *requestlog.Log
	requestAnchorer *requestlog.Anchorer
}

// newHandler ties the use cases to their ports and the HTTP side to them.
func (p *gatewayParts) newHandler() (http.Handler, error) {
	setup := p.setup
	catalog := service.NewCatalog(p.chain, p.index)
	catalog.PublicURL = setup.PublicURL
	certificates := service.NewCertificates(p.chain, p.index, setup.PublicURL)
	certificates.Issuing = p.issuing
	verifier := service.NewVerification(p.chain, p.index, p.cache, setup.anchors, time.Now, p.indexer.LastHeard)
	if p.issuing != nil {
		p.issuing.Prove = verifier.Proof
	}
	cursorKey, err := sharedSecret(setup, "cursors")
	if err != nil {
		return nil, err
	}
	readiness := service.NewReadiness(p.chain, p.index.Index, setup.anchors.Quorum, time.Now)
	readiness.Writes = p.writes.Ready
	config := httpapi.Config{
		Department: setup.Department,
		PublicURL:  setup.PublicURL,
		Trust:      setup.trust,
		Governance: service.NewGovernance(p.chain, p.index),
		Catalog:    catalog,
		Sharing:    service.NewSharing(p.chain, p.index),
		Overview:   service.NewOverview(p.index, time.Now),
		Access: service.NewAccess(service.AccessOptions{
			Department: setup.Department, Index: p.index, Log: p.log, Ledger: p.chain, Heard: p.indexer.LastHeard,
			Anchored: p.anchorer.Anchored, AnchorEvery: setup.interval, Backlog: p.anchorer.Backlog, MaxLag: setup.maxLag, Clock: time.Now,
		}),
		Tiles:        p.log,
		Alarms:       p.alarms,
		Watched:      p.watcher.Status,
		Certificates: certificates,
		Verification: verifier,
		Chain:        service.NewChain(p.chain, p.index, setup.Channel),
		Blocks:       p.index,
		ServedBy:     p.servedBy,
		Operations:   service.NewOperations(p.writes, p.index),
		CursorKey:    cursorKey,
		Readiness:    readiness,
		Limiter:      p.cache,
		Pages:        web.New(verifier.Verify, web.Options{OperatorZh: setup.department.NameZh, OperatorEn: setup.department.NameEn}),
		AuditPage:    web.NewAudit(),
		Gauges:       p.gauges,
		AddressRate:  setup.address,
		IdentityRate: setup.identity,
		PublicRate:   setup.public,
		Log:          p.logger,
	}
	p.identities.configure(&config)
	if p.signing != nil { // a nil one would be one to the interface
		config.Signing, config.Operations = p.signing, service.NewOperations(p.signing, p.index)
	}
	config.Requests, config.Refused = p.requests.Add, setup.identities.telemetry.Refused
	config.Collectors, config.Tracer = p.collectors(), setup.identities.telemetry.Tracer()
	if p.auditor != nil { // a nil one would be an auditor to the interface
		config.Auditor = p.auditor
	}
	return httpapi.New(config)
}

// gauges reads the gateway's progress; what cannot be read is 0.
func (p *gatewayParts) gauges(ctx context.Context) httpapi.Gauges {
	g := httpapi.Gauges{Backlog: p.anchorer.Backlog(), Heard: p.indexer.LastHeard(), Heights: p.chain.Heights(ctx)}
	if n, err := p.index.Index.NextBlock(ctx); err == nil {
		g.IndexBlocks = n
	}
	if cp, err := p.log.Checkpoint(ctx); err == nil {
		g.LogSize = cp.Size
	}
	if a, ok := p.anchorer.Anchored(); ok {
		g.AnchoredSize = a.Size
	}
	return g
}

// openCache answers the cache in Redis when one is configured, and otherwise one
// in this process. Neither connects yet.
func openCache(setup *gatewaySetup, logger *slog.Logger) (cache.Cache, error) {
	if setup.Redis == "" {
		return memcache.New(memcache.Options{})
	}
	secret, err := sharedSecret(setup, "shared cache")
	if err != nil {
		return nil, err
	}
	return rediscache.New(rediscache.Options{URL: setup.Redis, Secret: secret, Logger: logger})
}

// sharedSecret answers a secret that all replicas of a gateway have. The log key is
// the one that they share already.
func sharedSecret(setup *gatewaySetup, use string) ([]byte, error) {
	secret, err := hkdf.Key(sha256.New, []byte(setup.logKey), nil, "zhenglian/gateway/1 "+use, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the secret for %s: %w", use, err)
	}
	return secret, nil
}
