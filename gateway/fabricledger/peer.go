package fabricledger

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/gateway"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/zhenglian/zhenglian/domain"
)

const (
	// poolSize is how many connections one peer gets: waiting commits occupy
	// streams, and one HTTP/2 connection serialises its writes.
	poolSize = 2

	// maxMessage is Fabric's own limit on a message, in bytes.
	maxMessage = 100 << 20

	// keepaliveTime must not be below the peers' keepalive.minInterval (10 s in
	// the rendered configuration), or they close the connection.
	keepaliveTime    = 15 * time.Second
	keepaliveTimeout = 5 * time.Second
)

// peer is one department's peer: a pool of connections and the memory of whether
// it answers.
type peer struct {
	department domain.DepartmentCode
	mspID      domain.MSPID
	pool       *pool
	service    gateway.GatewayClient // over pool
	breaker    breaker
	usual      latency // of reads
}

func newPeer(cfg Peer, instrument []grpc.DialOption) (*peer, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(cfg.TLSRoots) {
		return nil, errors.New("no TLS root certificate")
	}
	pool, err := dial(cfg.Endpoint, &tls.Config{RootCAs: roots, ServerName: cfg.ServerName, MinVersion: tls.VersionTLS12}, instrument)
	if err != nil {
		return nil, err
	}
	return &peer{department: cfg.Department, mspID: cfg.MSPID, pool: pool, service: gateway.NewGatewayClient(pool)}, nil
}

func (p *peer) close() error { return p.pool.close() }

// noteCall is note for a call that a peer in order answers within the call's own
// limit. One that lets it pass, while the caller would have waited on, is stuck.
func (p *peer) noteCall(caller, call context.Context, err error) error {
	if err != nil && call.Err() != nil && caller.Err() == nil {
		p.breaker.stuck(time.Now())
		return err
	}
	return p.note(err)
}

// note tells the breaker how a call went and returns err. A peer that answered,
// whatever it said, is in reach.
func (p *peer) note(err error) error {
	switch code := status.Code(err); {
	case err == nil:
		p.breaker.succeeded()
	case code == codes.Unavailable && !p.pool.ready():
		p.breaker.failed(time.Now())
		return &unreachableError{err}
	case code == codes.Unavailable, code == codes.DeadlineExceeded, code == codes.Canceled:
		// Ambiguous: the peer may be stuck or may itself be waiting for others.
	default:
		p.breaker.succeeded()
	}
	return err
}

// unreachableError says that no connection to a peer could be made or kept.
type unreachableError struct{ error }

func (e *unreachableError) Unwrap() error { return e.error }

// each calls f with the peers in the order of configuration, leaving out those
// whose breaker is open, until f returns true. When every breaker is open it
// calls f with all of them: a slow answer is better than none.
func (l *Ledger) each(f func(*peer) (done bool)) {
	for next := l.inReach(); ; {
		p := next(nil)
		if p == nil || f(p) {
			return
		}
	}
}

// inReach answers a function that answers the next peer of [Ledger.each] each
// time it is called, nil after the last. It passes over those that fit, unless
// nil, does not take: they stay for later.
func (l *Ledger) inReach() func(fit func(*peer) bool) *peer {
	left, tried, all := slices.Clone(l.peers), false, false
	return func(fit func(*peer) bool) *peer {
		for {
			for i, p := range left {
				if fit != nil && !fit(p) || !all && !p.breaker.allow(time.Now()) {
					continue
				}
				left = slices.Delete(left, i, i+1)
				tried = true
				return p
			}
			if tried || all || fit != nil {
				return nil
			}
			all = true
		}
	}
}

// latency is how long a peer usually takes: mean and mean deviation, weighted as
// RFC 6298 weighs round trips. It is safe for concurrent use.
type latency struct {
	mu              sync.Mutex
	mean, deviation time.Duration
}

func (l *latency) took(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mean == 0 {
		l.mean, l.deviation = d, d/2
		return
	}
	l.deviation += ((d - l.mean).Abs() - l.deviation) / 4
	l.mean += (d - l.mean) / 8
}

// patience is by when nearly every answer has come, within bounds: below the
// first a second question costs more than it gains.
func (l *latency) patience() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mean == 0 {
		return longestPatience
	}
	return min(max(l.mean+4*l.deviation, shortestPatience), longestPatience)
}

const (
	shortestPatience = 50 * time.Millisecond
	longestPatience  = 500 * time.Millisecond
)

// breaker keeps calls away from a peer that cannot be reached. After each
// failure it stays open twice as long, then lets a single call through. The zero
// value is closed.
type breaker struct {
	mu       sync.Mutex
	failures int
	until    time.Time // open until
}

// allow reports whether to call the peer.
func (b *breaker) allow(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures == 0 {
		return true
	}
	if now.Before(b.until) {
		return false
	}
	b.until = now.Add(b.pause()) // others wait for this call's result
	return true
}

func (b *breaker) failed(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures++
	b.until = now.Add(b.pause())
}

// stuck opens the breaker for the longest pause at once: each trial of a peer
// that does not answer costs somebody the limit of a call.
func (b *breaker) stuck(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures = max(b.failures+1, 4)
	b.until = now.Add(b.pause())
}

func (b *breaker) succeeded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures = 0
}

// pause is 250 ms, 500 ms, 1 s, then 2 s: as long as the connection's own
// back-off, so that a peer that is back is found quickly.
func (b *breaker) pause() time.Duration {
	return min(125*time.Millisecond<<min(b.failures, 10), 2*time.Second)
}

// pool spreads calls over several connections to one endpoint. It implements
// [grpc.ClientConnInterface].
type pool struct {
	conns []*grpc.ClientConn
	next  atomic.Uint64
}

func dial(endpoint string, tlsConfig *tls.Config, instrument []grpc.DialOption) (*pool, error) {
	p := &pool{}
	for range poolSize {
		conn, err := grpc.NewClient(endpoint, append([]grpc.DialOption{
			grpc.WithTransportCredentials(credentials.NewTLS(tlsConfig)),
			grpc.WithNoProxy(),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{
				Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true,
			}),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
				MinConnectTimeout: 2 * time.Second,
			}),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		}, instrument...)...)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("prepare connection: %w", err), p.close())
		}
		p.conns = append(p.conns, conn)
	}
	return p, nil
}

func (p *pool) pick() *grpc.ClientConn {
	return p.conns[p.next.Add(1)%uint64(len(p.conns))]
}

// ready reports whether any connection is up.
func (p *pool) ready() bool {
	for _, c := range p.conns {
		if c.GetState() == connectivity.Ready {
			return true
		}
	}
	return false
}

func (p *pool) close() error {
	var errs []error
	for _, c := range p.conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Invoke implements [grpc.ClientConnInterface].
func (p *pool) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return p.pick().Invoke(ctx, method, args, reply, opts...)
}

// NewStream implements [grpc.ClientConnInterface].
func (p *pool) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return p.pick().NewStream(ctx, desc, method, opts...)
}
