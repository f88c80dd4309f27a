package ledgertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// Fault decides what befalls one operation. op is "submit contract:Name" (each
// attempt of a submit, and the handing over of a transaction that was endorsed
// before), "endorse contract:Name", "evaluate contract:Name", "signedread", "status", "blocks" or "heights". With
// a nil error the operation runs as usual. Otherwise the caller gets the error:
// after the operation took effect if apply is true, in its place if not. Only a
// submit has an effect. Return a [*ledger.OutcomeUnknownError] without TxID to
// have the transaction's filled in.
type Fault func(op string) (apply bool, err error)

// Ledger is one department's view of a [Chain]. It implements [ledger.Ledger]
// and, for what makes one of it, [ledger.Adapter].
type Ledger struct {
	chain      *Chain
	department Department

	mu    sync.Mutex
	fault Fault
}

var (
	_ ledger.Ledger  = (*Ledger)(nil)
	_ ledger.Adapter = (*Ledger)(nil)
)

// Ledger returns the department's view of the chain. It panics if the
// department is not a member.
func (c *Chain) Ledger(code domain.DepartmentCode) *Ledger {
	for _, d := range c.departments {
		if d.Code == code {
			return &Ledger{chain: c, department: d}
		}
	}
	panic(fmt.Sprintf("department %q is not on the chain", code))
}

// SetFault makes fault decide over each operation from now on; nil ends it.
func (l *Ledger) SetFault(fault Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = fault
}

func (l *Ledger) strike(op string) (apply bool, err error) {
	l.mu.Lock()
	fault := l.fault
	l.mu.Unlock()
	if fault == nil {
		return true, nil
	}
	return fault(op)
}

func (l *Ledger) caller(role domain.Role) domain.Caller {
	return domain.Caller{Department: l.department.Code, MSPID: l.department.MSPID, Role: role}
}

// Submit implements [ledger.Ledger].
func (l *Ledger) Submit(ctx context.Context, r ledger.Request) (ledger.Receipt, error) {
	var receipt ledger.Receipt
	err := ledger.Retry(ctx, func() (err error) {
		receipt, err = l.submit(ctx, proposal{l.caller(r.Role), r.Transaction, r.Argument, r.Operation, r.Expect})
		return err
	})
	if err != nil {
		return ledger.Receipt{}, fmt.Errorf("submit %s: %w", r.Transaction, err)
	}
	return receipt, nil
}

func (l *Ledger) submit(ctx context.Context, p proposal) (ledger.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return ledger.Receipt{}, err
	}
	apply, fault := l.strike("submit " + p.Transaction)

	l.chain.mu.Lock()
	defer l.chain.mu.Unlock()
	if fault != nil && !apply {
		return ledger.Receipt{}, withTxID(fault, l.chain.next().ID)
	}
	e, err := l.chain.endorse(p)
	if err != nil {
		return ledger.Receipt{}, err
	}
	position, err := l.chain.order(e)
	if err == nil {
		err = withTxID(fault, position.TxID)
	}
	return ledger.Receipt{Position: position, Result: e.Result, Wrote: len(e.Writes) > 0}, err
}

// withTxID fills in the transaction of a fault that leaves it open.
func withTxID(fault error, id domain.TxID) error {
	var unknown *ledger.OutcomeUnknownError
	if errors.As(fault, &unknown) && unknown.TxID == "" {
		return &ledger.OutcomeUnknownError{TxID: id, Err: unknown.Err}
	}
	return fault
}

// Endorse implements [ledger.Adapter].
func (l *Ledger) Endorse(ctx context.Context, r ledger.Request) (ledger.Transaction, error) {
	if err := ctx.Err(); err != nil {
		return ledger.Transaction{}, fmt.Errorf("submit %s: %w", r.Transaction, err)
	}
	if _, err := l.strike("endorse " + r.Transaction); err != nil {
		return ledger.Transaction{}, err
	}
	l.chain.mu.Lock()
	defer l.chain.mu.Unlock()
	e, err := l.chain.endorse(proposal{l.caller(r.Role), r.Transaction, r.Argument, r.Operation, r.Expect})
	if err != nil {
		return ledger.Transaction{}, fmt.Errorf("submit %s: %w", r.Transaction, err)
	}
	data, err := json.Marshal(e)
	return ledger.Transaction{ID: e.Tx.ID, Bytes: data}, err
}

// Order implements [ledger.Adapter].
func (l *Ledger) Order(ctx context.Context, tx ledger.Transaction, _ bool) (ledger.Receipt, error) {
	var e endorsed
	if err := json.Unmarshal(tx.Bytes, &e); err != nil {
		return ledger.Receipt{}, err
	}
	apply, fault := l.strike("submit " + e.Proposal.Transaction)
	if err := ctx.Err(); err != nil && fault == nil {
		apply, fault = false, &ledger.OutcomeUnknownError{Err: err}
	}
	l.chain.mu.Lock()
	defer l.chain.mu.Unlock()
	if fault != nil && !apply {
		return ledger.Receipt{}, withTxID(fault, tx.ID)
	}
	position, err := l.chain.order(e)
	if err == nil {
		err = withTxID(fault, tx.ID)
	}
	if err != nil {
		return ledger.Receipt{}, err
	}
	return ledger.Receipt{Position: position, Result: e.Result, Wrote: len(e.Writes) > 0}, nil
}

// Evaluate implements [ledger.Reader].
func (l *Ledger) Evaluate(ctx context.Context, role domain.Role, transaction string, argument []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("evaluate %s: %w", transaction, err)
	}
	if _, err := l.strike("evaluate " + transaction); err != nil {
		return nil, err
	}
	l.chain.mu.Lock()
	defer l.chain.mu.Unlock()
	result, _, err := l.chain.run(proposal{Caller: l.caller(role), Transaction: transaction, Argument: argument}, l.chain.next())
	if err != nil {
		return nil, fmt.Errorf("evaluate %s: %w", transaction, err)
	}
	return result, nil
}

// SignedRead implements [ledger.Reader]. Every department that is not down
// signs.
func (l *Ledger) SignedRead(ctx context.Context, args domain.AttestArgs, quorum int) (ledger.SignedRead, error) {
	if err := ctx.Err(); err != nil {
		return ledger.SignedRead{}, fmt.Errorf("signed read of %s %s: %w", args.Kind, args.ID, err)
	}
	if _, err := l.strike("signedread"); err != nil {
		return ledger.SignedRead{}, err
	}
	l.chain.mu.Lock()
	defer l.chain.mu.Unlock()
	var signers []Department
	for _, d := range l.chain.departments {
		if l.chain.down[d.Code] == nil {
			signers = append(signers, d)
		}
	}
	if len(signers) < quorum {
		return ledger.SignedRead{}, &ledger.UnavailableError{Err: fmt.Errorf("%d departments answer, %d must sign", len(signers), quorum)}
	}
	read, err := l.chain.attest(l.caller(domain.RoleGateway), args, signers)
	if err != nil {
		return ledger.SignedRead{}, fmt.Errorf("signed read of %s %s: %w", args.Kind, args.ID, err)
	}
	return read, nil
}

// Status implements [ledger.Reader].
func (l *Ledger) Status(ctx context.Context, id domain.TxID) (string, uint64, error) {
	if err := ctx.Err(); err != nil {
		return "", 0, fmt.Errorf("status of transaction %s: %w", id, err)
	}
	if _, err := l.strike("status"); err != nil {
		return "", 0, err
	}
	l.chain.mu.Lock()
	defer l.chain.mu.Unlock()
	p := l.chain.codes[id]
	return p.code, p.block, nil
}

// Blocks implements [ledger.Reader].
func (l *Ledger) Blocks(ctx context.Context, from uint64, yield func(domain.Block) error) error {
	if _, err := l.strike("blocks"); err != nil {
		return err
	}
	for n := from; ; n++ {
		b, err := l.chain.block(ctx, n)
		if err != nil {
			return err
		}
		if err := yield(b); err != nil {
			return err
		}
	}
}

// block waits for block n.
func (c *Chain) block(ctx context.Context, n uint64) (domain.Block, error) {
	for {
		if err := ctx.Err(); err != nil {
			return domain.Block{}, err
		}
		c.mu.Lock()
		if n < uint64(len(c.blocks)) {
			defer c.mu.Unlock()
			return c.blocks[n], nil
		}
		grown := c.grown
		c.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-grown:
		}
	}
}

// Heights implements [ledger.Reader].
func (l *Ledger) Heights(context.Context) []ledger.DepartmentHeight {
	_, fault := l.strike("heights")
	l.chain.mu.Lock()
	defer l.chain.mu.Unlock()
	var heights []ledger.DepartmentHeight
	for _, d := range l.chain.departments {
		h := ledger.DepartmentHeight{Department: d.Code, Height: uint64(len(l.chain.blocks)), Err: fault}
		if err := l.chain.down[d.Code]; err != nil && fault == nil {
			h.Err = err
		}
		if h.Err != nil {
			h.Height = 0
		}
		heights = append(heights, h)
	}
	return heights
}
