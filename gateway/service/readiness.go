package service

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

const (
	// readyFor is how long a passed check speaks for the present. Probes come
	// about once a second from several sides; each must not cost a query.
	readyFor = 2 * time.Second

	// readyLag is how many blocks the index may be behind: about a second of
	// full load.
	readyLag = 10

	// readyWait bounds one check. It may outlast a probe; the next one joins it.
	readyWait = 10 * time.Second
)

// readinessProbe is a department code that is not in use: the query must go
// through the chaincode and the state database, not find anything.
const readinessProbe = "readyz"

// NotReadyError says why the gateway is not ready. Reason is fit for anyone to
// read; Err, nil when Reason says all, may name hosts.
type NotReadyError struct {
	Reason string
	Err    error
}

func (e *NotReadyError) Error() string {
	if e.Err == nil {
		return e.Reason
	}
	return e.Reason + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *NotReadyError) Unwrap() error { return e.Err }

// Readiness says whether the gateway can serve: it can query the ledger, its index
// keeps up, and it can store writes. It is safe for concurrent use.
type Readiness struct {
	// Writes answers why no write can be stored now; nil: nobody is asked. Set it
	// before the first use only.
	Writes func() error

	ledger ledger.Ledger
	index  index.Index
	quorum int
	clock  func() time.Time

	checks singleflight.Group // probes at one time share a check

	mu     sync.Mutex
	passed time.Time
	signed bool // a quorum of departments signed for this process once
}

// NewReadiness returns a check that reads the time from clock. quorum is how many
// departments must sign what the ledger takes.
func NewReadiness(l ledger.Ledger, ix index.Index, quorum int, clock func() time.Time) *Readiness {
	return &Readiness{ledger: l, index: ix, quorum: quorum, clock: clock}
}

// Check answers nil when a real query was answered and the index found close to
// the departments' head within the last 2 s and writes can be stored, and otherwise a [*NotReadyError] or
// ctx's error.
//
// Until a quorum of departments has signed a read together, that is the query:
// a peer that has just started answers alone for some seconds before it knows
// the others, and every write fails meanwhile.
func (r *Readiness) Check(ctx context.Context) error {
	r.mu.Lock()
	age := r.clock().Sub(r.passed)
	fresh := !r.passed.IsZero() && age >= 0 && age < readyFor
	r.mu.Unlock()
	if r.Writes != nil {
		if err := r.Writes(); err != nil {
			return &NotReadyError{"no write can be stored", err}
		}
	}
	if fresh {
		return nil
	}
	result := r.checks.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyWait)
		defer cancel()
		return nil, r.check(ctx)
	})
	select {
	case checked := <-result:
		return checked.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Readiness) check(ctx context.Context) error {
	now := r.clock()
	if err := r.query(ctx); err != nil {
		return err
	}
	head, _, err := agreedHead(r.ledger.Heights(ctx))
	if err != nil {
		return &NotReadyError{"too few departments say how many blocks they have", err}
	}
	next, err := r.index.NextBlock(ctx)
	if err != nil {
		return &NotReadyError{"the index cannot be read", err}
	}
	if next+readyLag < head {
		return &NotReadyError{Reason: fmt.Sprintf("the index has %d of %d blocks", next, head)}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.passed = now
	return nil
}

// query asks the chaincode: all departments that a write needs, or, once they
// have answered, one peer.
func (r *Readiness) query(ctx context.Context) error {
	nonce, err := randomHex(rand.Reader)
	if err != nil {
		return err
	}
	args := domain.AttestArgs{Kind: domain.KindDepartment, ID: readinessProbe, Nonce: nonce}
	argument, err := domain.Canonical(args)
	if err != nil {
		return err
	}
	r.mu.Lock()
	signed := r.signed
	r.mu.Unlock()
	reason := "the ledger does not answer a query"
	if signed {
		_, err = r.ledger.Evaluate(ctx, domain.RoleGateway, "evidence:Attest", argument)
	} else {
		reason = fmt.Sprintf("%d departments have not signed a read together yet", r.quorum)
		if _, err = r.ledger.SignedRead(ctx, args, r.quorum); err == nil {
			r.mu.Lock()
			r.signed = true
			r.mu.Unlock()
		}
	}
	// A contract that refuses has answered: before its department is registered
	// a gateway can do nothing else, and registering goes through gateways.
	if refusal := (*domain.Error)(nil); err == nil || errors.As(err, &refusal) {
		return nil
	}
	return &NotReadyError{reason, err}
}
