package service

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

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
)

// readinessProbe is a department code that is not in use: the query must go
// through the chaincode and the state database, not find anything.
const readinessProbe = "readyz"

// Readiness says whether the gateway can serve: it can query the ledger and its
// index keeps up. It is safe for concurrent use.
type Readiness struct {
	ledger ledger.Ledger
	index  index.Index
	clock  func() time.Time

	mu     sync.Mutex // held during a check, so that probes at one time share it
	passed time.Time
}

// NewReadiness returns a check that reads the time from clock.
func NewReadiness(l ledger.Ledger, ix index.Index, clock func() time.Time) *Readiness {
	return &Readiness{ledger: l, index: ix, clock: clock}
}

// Check answers nil when a real query was answered and the index found close to
// the departments' head within the last 2 s.
func (r *Readiness) Check(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock()
	if age := now.Sub(r.passed); !r.passed.IsZero() && age >= 0 && age < readyFor {
		return nil
	}
	if err := r.query(ctx); err != nil {
		return fmt.Errorf("query the ledger: %w", err)
	}
	head, _, err := agreedHead(r.ledger.Heights(ctx))
	if err != nil {
		return fmt.Errorf("ask for the ledger's height: %w", err)
	}
	next, err := r.index.NextBlock(ctx)
	if err != nil {
		return fmt.Errorf("read the index's height: %w", err)
	}
	if next+readyLag < head {
		return fmt.Errorf("the index has %d of %d blocks", next, head)
	}
	r.passed = now
	return nil
}

func (r *Readiness) query(ctx context.Context) error {
	nonce, err := randomHex(rand.Reader)
	if err != nil {
		return err
	}
	argument, err := domain.Canonical(domain.AttestArgs{Kind: domain.KindDepartment, ID: readinessProbe, Nonce: nonce})
	if err != nil {
		return err
	}
	_, err = r.ledger.Evaluate(ctx, domain.RoleGateway, "evidence:Attest", argument)
	// A contract that refuses has answered: before its department is registered
	// a gateway can do nothing else, and registering goes through gateways.
	if refusal := (*domain.Error)(nil); errors.As(err, &refusal) {
		return nil
	}
	return err
}
