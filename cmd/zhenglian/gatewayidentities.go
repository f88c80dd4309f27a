package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/fabricledger"
	"github.com/zhenglian/zhenglian/gateway/httpapi"
	"github.com/zhenglian/zhenglian/gateway/identity"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/requestlog"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/telemetry"
)

// requestsFolder is the folder of the log of requests in a gateway's data folder.
const requestsFolder = "requests"

// gatewayOIDC names the department's OpenID provider; see identity.ProviderOptions.
type gatewayOIDC struct {
	Issuer          string `json:"issuer"`
	Audience        string `json:"audience"`
	DepartmentClaim string `json:"departmentClaim,omitempty"`
	RoleClaim       string `json:"roleClaim,omitempty"`
	Roots           string `json:"roots,omitempty"`     // PEM file of the authorities of its server certificate; "": the system's
	KeysEvery       string `json:"keysEvery,omitempty"` // how often its keys are read, 1s to 1h; "": 4s
	KeysLife        string `json:"keysLife,omitempty"`  // how long they are used while it does not answer, 10s to 24h; "": 1h
}

// gatewayMTLS is a second port for callers with a client certificate of the
// department's own authority.
type gatewayMTLS struct {
	Listen      string   `json:"listen"`      // host:port
	Certificate string   `json:"certificate"` // PEM file of the server
	Key         string   `json:"key"`         // PEM file of the server
	CRLs        []string `json:"crls,omitempty"`
}

// gatewaySigning says who signs with a key that is not here. Callers with a client
// certificate sign under that one and need not be named.
type gatewaySigning struct {
	Certificates []string      `json:"certificates,omitempty"` // PEM files of one certificate each
	CRLs         []string      `json:"crls,omitempty"`         // besides those of mtls
	Roles        []domain.Role `json:"roles,omitempty"`        // whose keys in users are not even read: they only sign by themselves
}

// gatewayRequests replace the settings of the log of requests.
type gatewayRequests struct {
	MaxBytes    int64  `json:"maxBytes,omitempty"`    // of a file, 64 KiB to 256 MiB; 0: 16 MiB
	AnchorEvery string `json:"anchorEvery,omitempty"` // 1s to 24h; "": 5m
}

// gatewayTraces says where traces go.
type gatewayTraces struct {
	OTLP   string  `json:"otlp"`             // URL of an OTLP/HTTP collector
	Sample float64 `json:"sample,omitempty"` // share of the traces that is kept; 0: all
}

// identitySetup is what identities and observation are made of.
type identitySetup struct {
	provider    *identity.ProviderOptions // nil: none
	anchorEvery time.Duration
	telemetry   *telemetry.Telemetry
}

func (s *gatewaySetup) readObservation(r *configReader) {
	s.identities.anchorEvery = requestlog.DefaultAnchorEvery
	if q := s.Requests; q != nil {
		s.identities.anchorEvery = r.duration("requests.anchorEvery", q.AnchorEvery, requestlog.DefaultAnchorEvery, time.Second, 24*time.Hour)
		if q.MaxBytes != 0 && (q.MaxBytes < 64<<10 || q.MaxBytes > requestlog.LargestMaxBytes) {
			r.fault("requests.maxBytes", "%d is not between %d and %d", q.MaxBytes, 64<<10, requestlog.LargestMaxBytes)
		}
	}
	o := telemetry.Options{Department: s.Department}
	if s.Traces != nil && r.require("traces.otlp", s.Traces.OTLP) {
		o.Endpoint, o.Sample = s.Traces.OTLP, s.Traces.Sample
		if math.IsNaN(o.Sample) || o.Sample < 0 || o.Sample > 1 {
			r.fault("traces.sample", "%v is not between 0 and 1", o.Sample)
		}
	}
	t, err := telemetry.New(context.Background(), o)
	if err != nil {
		r.fault("traces.otlp", "%w", err)
		return
	}
	s.identities.telemetry = t
	s.fabric.Instrument = t.DialOptions
}

func (s *gatewaySetup) readOIDC(r *configReader) {
	if s.OIDC == nil {
		return
	}
	o := identity.ProviderOptions{
		Department: s.Department, Issuer: s.OIDC.Issuer, Audience: s.OIDC.Audience,
		DepartmentClaim: s.OIDC.DepartmentClaim, RoleClaim: s.OIDC.RoleClaim,
		KeysEvery: r.duration("oidc.keysEvery", s.OIDC.KeysEvery, identity.DefaultKeysEvery, time.Second, time.Hour),
		KeysLife:  r.duration("oidc.keysLife", s.OIDC.KeysLife, identity.DefaultKeysLife, 10*time.Second, 24*time.Hour),
	}
	if s.OIDC.Roots != "" {
		o.RootsPEM = r.contents("oidc.roots", s.OIDC.Roots)
	}
	if _, err := identity.NewProvider(o); err != nil {
		r.fault("oidc", "%w", err)
	}
	s.identities.provider = &o
}

func (s *gatewaySetup) readMTLS(r *configReader) {
	if s.MTLS == nil {
		return
	}
	r.hostPort("mtls.listen", s.MTLS.Listen)
	cert, key := r.contents("mtls.certificate", s.MTLS.Certificate), r.contents("mtls.key", s.MTLS.Key)
	if cert != nil && key != nil {
		if _, err := tls.X509KeyPair(cert, key); err != nil {
			r.fault("mtls", "certificate and key: %w", err)
		}
	}
}

// readHolders reads what tells the holders of certificates: revocation lists, and the
// certificates of those who sign elsewhere.
func (s *gatewaySetup) readHolders(r *configReader) {
	contents := make([][]byte, 0, len(s.crls())+len(s.signers()))
	for i, file := range append(s.crls(), s.signers()...) {
		field := "mtls.crls"
		switch {
		case i >= len(s.crls()):
			field = "signing.certificates"
		case s.MTLS == nil || i >= len(s.MTLS.CRLs):
			field = "signing.crls"
		}
		data := r.contents(field, file)
		if data == nil {
			return
		}
		contents = append(contents, data)
	}
	if s.department.Code != "" && (s.MTLS != nil || s.Signing != nil) {
		if _, err := s.holders(contents); err != nil {
			r.fault("mtls, signing", "%w", err)
		}
	}
}

// crls are the files of revocation lists, signers those of certificates of people who
// sign elsewhere.
func (s *gatewaySetup) crls() (files []string) {
	if s.MTLS != nil {
		files = append(files, s.MTLS.CRLs...)
	}
	if s.Signing != nil {
		files = append(files, s.Signing.CRLs...)
	}
	return files
}

func (s *gatewaySetup) signers() []string {
	if s.Signing == nil {
		return nil
	}
	return s.Signing.Certificates
}

// holders answers who knows the holders of certificates, by the trust file's and
// further revocation lists, and the signers among them: contents are those of the
// files crls and signers.
func (s *gatewaySetup) holders(contents [][]byte) (*identity.Signers, error) {
	crls, signers := slices.Clone(contents[:len(s.crls())]), contents[len(s.crls()):]
	for _, text := range s.department.CRLs {
		crls = append(crls, []byte(text))
	}
	known, err := identity.NewCertificates(s.Department, s.department.CARoots, crls)
	if err != nil {
		return nil, err
	}
	return identity.NewSigners(known, signers)
}

// gatewayIdentities keeps up to date who may call, and as whom the gateway acts.
type gatewayIdentities struct {
	setup    *gatewaySetup
	tokens   *identity.Live[*service.Tokens]
	fabric   *identity.Live[struct{}]          // nil: this ledger has no identities to replace
	holders  *identity.Live[*identity.Signers] // of certificates; nil: neither client certificates nor signers
	server   *identity.Live[*tls.Certificate]  // of the port for client certificates; nil: none
	provider *identity.Provider                // nil: none
}

// openIdentities reads the files of identities again and, from then on, whenever
// they change.
func (s *gatewaySetup) openIdentities(chain ledger.Adapter, logger *slog.Logger) (*gatewayIdentities, error) {
	r := &configReader{dir: s.dir}
	g := &gatewayIdentities{setup: s}
	var err error
	g.tokens, err = identity.NewLive("the file of access tokens", []string{r.path(s.Tokens)}, func(contents [][]byte) (*service.Tokens, error) {
		return service.NewTokens(s.Department, contents[0])
	}, logger)
	if err != nil {
		return nil, err
	}
	if fabric, ok := chain.(interface {
		SetIdentities(identities map[domain.Role]fabricledger.Identity) error
	}); ok {
		roles := []domain.Role{domain.RoleGateway}
		files := []string{r.path(s.Service.Certificate), r.path(s.Service.Key)}
		for _, u := range s.users() {
			roles = append(roles, u.Role)
			files = append(files, r.path(u.Certificate), r.path(u.Key))
		}
		g.fabric, err = identity.NewLive("the files of Fabric identities", files, func(contents [][]byte) (struct{}, error) {
			ids := make(map[domain.Role]fabricledger.Identity)
			for i, role := range roles {
				ids[role] = fabricledger.Identity{MSPID: s.Service.MSPID, CertificatePEM: contents[2*i], KeyPEM: contents[2*i+1]}
			}
			return struct{}{}, fabric.SetIdentities(ids)
		}, logger)
		if err != nil {
			return nil, err
		}
	}
	if s.identities.provider != nil {
		o := *s.identities.provider
		o.Logger = logger
		if g.provider, err = identity.NewProvider(o); err != nil {
			return nil, err
		}
	}
	if s.MTLS == nil && s.Signing == nil {
		return g, nil
	}
	var files []string
	for _, file := range append(s.crls(), s.signers()...) {
		files = append(files, r.path(file))
	}
	if g.holders, err = identity.NewLive("the revocation lists and signers", files, s.holders, logger); err != nil || s.MTLS == nil {
		return g, err
	}
	g.server, err = identity.NewLive("the server certificate", []string{r.path(s.MTLS.Certificate), r.path(s.MTLS.Key)}, func(contents [][]byte) (*tls.Certificate, error) {
		pair, err := tls.X509KeyPair(contents[0], contents[1])
		return &pair, err
	}, logger)
	return g, err
}

// run begins what keeps the identities up to date.
func (g *gatewayIdentities) run(part func(name string, run func(context.Context) error)) {
	part("access tokens", g.tokens.Run)
	if g.fabric != nil {
		part("Fabric identities", g.fabric.Run)
	}
	if g.holders != nil {
		part("revocation lists and signers", g.holders.Run)
	}
	if g.server != nil {
		part("server certificate", g.server.Run)
	}
	if g.provider != nil {
		part("identity provider", g.provider.Run)
	}
}

// Caller implements [httpapi.Tokens] by the tokens in force.
func (g *gatewayIdentities) Caller(token string) (service.Caller, bool) {
	return g.tokens.Get().Caller(token)
}

// configure tells the HTTP side who may call.
func (g *gatewayIdentities) configure(c *httpapi.Config) {
	c.Tokens = g
	if g.provider != nil { // a nil one would be a provider to the interface
		c.OIDC = g.provider
	}
	if g.server != nil {
		c.ClientCertificate = g.role
	}
	if g.holders != nil {
		c.Signer = func(role domain.Role, fingerprint string, presented *x509.Certificate) (*x509.Certificate, error) {
			return g.holders.Get().Find(role, fingerprint, presented, time.Now())
		}
	}
}

// role answers the role of the holder of a certificate.
func (g *gatewayIdentities) role(cert *x509.Certificate) (domain.Role, error) {
	return g.holders.Get().Role(cert, time.Now())
}

// listen opens the port for client certificates, nil if there is none.
func (g *gatewayIdentities) listen() (net.Listener, error) {
	if g.server == nil {
		return nil, nil
	}
	plain, err := net.Listen("tcp", g.setup.MTLS.Listen)
	if err != nil {
		return nil, err
	}
	return tls.NewListener(plain, &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		ClientAuth: tls.RequireAndVerifyClientCert,
		ClientCAs:  g.holders.Get().Pool(),
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return g.server.Get(), nil
		},
	}), nil
}

// stale counts the files that now say something that cannot be used.
func (g *gatewayIdentities) stale() (n float64) {
	for _, is := range []func() bool{g.tokens.Stale, g.fabric.Stale, g.holders.Stale, g.server.Stale} {
		if is() {
			n++
		}
	}
	return n
}

// collectors answers the gauges of identities and of the log of requests.
func (p *gatewayParts) collectors() []prometheus.Collector {
	gauge := func(name, help string, read func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read)
	}
	started := time.Now()
	return append(append(p.setup.identities.telemetry.Collectors(), signingGauges(p.signing)...),
		gauge("zhenglian_identity_files_stale", "Sets of identity files that cannot be read again: what they said before is in force.", p.identities.stale),
		gauge("zhenglian_outbox_pending", "Writes on their way to the ledger.", func() float64 { return float64(p.writes.Pending()) }),
		gauge("zhenglian_outbox_in_hand", "Writes that are being endorsed or ordered.", func() float64 { inHand, _ := p.writes.InHand(); return float64(inHand) }),
		gauge("zhenglian_outbox_waiting", "Accepted writes that wait until there is room to have them endorsed or ordered.", func() float64 { _, waiting := p.writes.InHand(); return float64(waiting) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "zhenglian_outbox_refused_total", Help: "Writes that were refused because too many were on their way.",
		}, func() float64 { return float64(p.writes.Refused()) }),
		gauge("zhenglian_request_log_lines", "Lines of the log of requests.", func() float64 { return float64(p.requests.Lines()) }),
		gauge("zhenglian_request_log_anchor_age_seconds", "Time since the head of the log of requests was last anchored, or since the start.", func() float64 {
			_, at := p.requestAnchorer.Anchored()
			if at.IsZero() {
				at = started
			}
			return time.Since(at).Seconds()
		}))
}

// openRequests opens the log of requests. It answers what closes it.
func (p *gatewayParts) openRequests() (func() error, error) {
	o := requestlog.Options{Dir: filepath.Join(p.setup.Data, requestsFolder), Department: p.setup.Department}
	if p.setup.Requests != nil {
		o.MaxBytes = p.setup.Requests.MaxBytes
	}
	var err error
	if p.requests, err = requestlog.Open(o); err != nil {
		return nil, err
	}
	p.requestAnchorer = requestlog.NewAnchorer(p.setup.Department, p.requests, p.chain, p.setup.identities.anchorEvery, p.logger)
	return func() error {
		closing, cancel := context.WithTimeout(context.Background(), closeWithin)
		defer cancel()
		return p.requests.Close(closing)
	}, nil
}

// watchFailure answers the failure that ends a log.
func watchFailure(ctx context.Context, failed func() error) error {
	tick := time.NewTicker(logWatch)
	defer tick.Stop()
	for {
		if err := failed(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
