package httpapi

import (
	"context"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/zhenglian/zhenglian/gateway/identity"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/telemetry"
)

// passage is a request on its way: the context that use cases are handed, and what
// is learned of the request, most of it for the log of requests. gin's own context
// is reused for other requests, so nothing of it may be handed on.
//
// Its time limit costs nothing until somebody waits for it, which hardly any answer
// to the public does. As a context it is safe for concurrent use; the rest belongs
// to the goroutine that serves the request.
type passage struct {
	outer    context.Context // of the connection, with the request's span where traces are made
	deadline time.Time
	noted    telemetry.Request

	op         *operation // nil: the contract has none
	trace      string
	caller     service.Caller  // the zero caller on public paths
	known      bool            // caller is somebody
	via        string          // how the caller is known: "token", "oidc" or "mtls"
	credential string          // digest of what it presented
	reason     identity.Reason // why it is not known, although the path needs it or it presented something
	code       string          // of the problem that was answered
	bodyHolds  bool            // the body is what the contract says
	refOnly    bool            // the request has a well-formed reference and nothing else
	leave      func()          // leaves the pool of public requests; nil: it is not in it

	// The one value of each of these header fields, and where an answer begins: made
	// with the rest instead of each by itself.
	requestID, rateLimit, length [1]string
	begin                        [64]byte

	mu      sync.Mutex
	bounded context.Context // outer, until deadline; nil: nobody waited yet
	cancel  context.CancelFunc
	over    bool
}

var _ context.Context = (*passage)(nil)

// bound answers the context that ends at the deadline, or with the request.
func (p *passage) bound() context.Context {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bounded == nil {
		p.bounded, p.cancel = context.WithDeadline(p.outer, p.deadline)
		if p.over {
			p.cancel()
		}
	}
	return p.bounded
}

// end ends the context.
func (p *passage) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over = true; p.cancel != nil {
		p.cancel()
	}
}

// Deadline implements [context.Context].
func (p *passage) Deadline() (time.Time, bool) { return p.bound().Deadline() }

// Done implements [context.Context].
func (p *passage) Done() <-chan struct{} { return p.bound().Done() }

// Err implements [context.Context].
func (p *passage) Err() error { return p.bound().Err() }

type passageKey struct{}

// Value implements [context.Context].
func (p *passage) Value(key any) any {
	switch key {
	case passageKey{}:
		return p
	case telemetry.RequestKey{}:
		return &p.noted
	}
	p.mu.Lock()
	ctx := p.bounded // by its value, contexts made of this one find what ends them
	p.mu.Unlock()
	if ctx == nil {
		ctx = p.outer
	}
	return ctx.Value(key)
}

func passageOf(c *gin.Context) *passage {
	ctx := c.Request.Context()
	if p, ok := ctx.(*passage); ok {
		return p
	}
	if p, ok := ctx.Value(passageKey{}).(*passage); ok {
		return p
	}
	return &passage{outer: ctx}
}

// inbound answers the context of the request that ctx, a [*gin.Context], stands
// for, and who sent it: the zero caller on public paths.
func inbound(ctx context.Context) (context.Context, service.Caller) {
	c := ctx.(*gin.Context)
	return c.Request.Context(), passageOf(c).caller
}

func traceOf(c *gin.Context) string { return passageOf(c).trace }

// routeOf answers the route's template, which holds no identifiers.
func routeOf(c *gin.Context) string {
	if route := c.FullPath(); route != "" {
		return route
	}
	return "none"
}
