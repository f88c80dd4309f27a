// Package ledgertest holds an in-memory ledger for tests and the suite that
// every [ledger.Ledger] must pass.
//
// A [Chain] runs transactions through a handler that the test supplies, so that
// a test may plug in a few lines or the real contracts. It keeps state, blocks
// and departments; [Chain.Ledger] is one department's view of it, with faults
// before and after the commit. Its signed reads carry real signatures by the
// departments' keys of [prooftest], so that they can be verified.
package ledgertest

import (
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// Call is one transaction as a handler sees it.
type Call struct {
	Caller      domain.Caller
	Transaction string // "contract:Name"
	Argument    []byte
	Operation   string // "" for none
	Tx          domain.Tx
	State       State // committed state; valid during the call only
}

// State reads the committed state of a chain.
type State struct{ values map[string][]byte }

// Get returns the value of key, nil when there is none.
func (s State) Get(key string) []byte { return slices.Clone(s.values[key]) }

// Keys returns the keys that begin with prefix, sorted.
func (s State) Keys(prefix string) []string {
	var keys []string
	for k := range s.values {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// Handler runs one transaction. The chain applies writes only when the
// transaction was submitted and err is nil; a handler with a state of its own
// must cope with being evaluated. A refusal is a [*domain.Error]. The chain is
// locked meanwhile: a handler must not call it.
type Handler func(call Call) (result []byte, writes []domain.Write, err error)

// Once returns handler with the promise that [ledger.Ledger] gives for
// operations, for handlers that do not keep it themselves: it remembers what an
// operation did in the state, as the contracts do.
func Once(handler Handler) Handler {
	return func(call Call) ([]byte, []domain.Write, error) {
		if call.Operation == "" {
			return handler(call)
		}
		key := domain.KeyOf(domain.KindOperation, domain.OperationID(call.Caller.Department, call.Operation))
		done := domain.Operation{
			Operation: call.Operation, Transaction: call.Transaction, ArgumentDigest: domain.Digest(call.Argument),
		}
		if stored := call.State.Get(key); stored != nil {
			var first domain.Operation
			if err := domain.ParseCanonical(stored, &first); err != nil {
				return nil, nil, err
			}
			if first.Transaction != done.Transaction || first.ArgumentDigest != done.ArgumentDigest {
				return nil, nil, &domain.Error{Kind: domain.Invalid, Msg: "operation " + call.Operation + ": used for another transaction"}
			}
			return []byte(first.Result), nil, nil
		}
		result, writes, err := handler(call)
		if err != nil {
			return nil, nil, err
		}
		done.Result = string(result)
		value, err := domain.Canonical(done)
		if err != nil {
			return nil, nil, err
		}
		return result, append(writes, domain.Write{Key: key, Value: value}), nil
	}
}

// Department is a member of the chain.
type Department struct {
	Code  domain.DepartmentCode
	MSPID domain.MSPID
}

// Departments are the four of the default consortium, in the order of its
// configuration.
var Departments = []Department{
	{"bigdata", "BigdataMSP"},
	{"police", "PoliceMSP"},
	{"civil", "CivilMSP"},
	{"market", "MarketMSP"},
}

// Names that every chain of this package uses.
const (
	Channel   = "zhenglian"
	Chaincode = "zhenglian"
	Version   = "1.0"
)

// Start is the time of a chain's genesis block.
var Start = time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC)

// Chain is an in-memory channel. Create it with [NewChain]. It is safe for
// concurrent use.
type Chain struct {
	departments []Department
	keys        map[domain.MSPID]*prooftest.Department
	handler     Handler
	clock       func() time.Time

	mu     sync.Mutex
	state  map[string][]byte
	blocks []domain.Block
	codes  map[domain.TxID]position
	down   map[domain.DepartmentCode]error
	txs    uint64
	race   *race
	grown  chan struct{} // closed and replaced when a block is appended
}

type position struct {
	code  string
	block uint64
}

// NewChain returns a chain of the given departments, [Departments] when none are
// given, that holds a genesis block. Its clock starts at [Start] and moves on by
// a second per transaction; [Chain.SetClock] replaces it.
func NewChain(handler Handler, departments ...Department) *Chain {
	if len(departments) == 0 {
		departments = Departments
	}
	c := &Chain{
		departments: slices.Clone(departments),
		keys:        make(map[domain.MSPID]*prooftest.Department),
		handler:     handler,
		state:       make(map[string][]byte),
		codes:       make(map[domain.TxID]position),
		down:        make(map[domain.DepartmentCode]error),
		grown:       make(chan struct{}),
	}
	c.clock = func() time.Time { return Start.Add(time.Duration(c.txs) * time.Second) }
	for _, d := range departments {
		c.keys[d.MSPID] = prooftest.NewDepartment(d.Code, d.MSPID, "", "", "11990000000000001")
	}
	c.append(domain.Transaction{
		Type: "config", Creator: departments[0].MSPID, Time: Start, ValidationCode: "VALID",
		Arguments: []string{}, Writes: []domain.Write{}, Endorsers: []domain.MSPID{},
	})
	return c
}

// SetClock makes the chain take transaction times from clock.
func (c *Chain) SetClock(clock func() time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock = clock
}

// SetDown makes a department's peer unreachable with err, or reachable again
// with nil.
func (c *Chain) SetDown(code domain.DepartmentCode, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		delete(c.down, code)
		return
	}
	c.down[code] = err
}

// CARoot returns the PEM certificate of the authority that issues the
// department's identities.
func (c *Chain) CARoot(mspID domain.MSPID) string {
	if d := c.keys[mspID]; d != nil {
		return string(d.Authority.PEM())
	}
	return ""
}

// State returns a copy of the committed state.
func (c *Chain) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	values := make(map[string][]byte, len(c.state))
	for k, v := range c.state {
		values[k] = slices.Clone(v)
	}
	return State{values}
}

// Height returns the number of blocks.
func (c *Chain) Height() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return uint64(len(c.blocks))
}

// Append adds a block with the given transactions, for cases that submitting
// cannot make: invalid transactions, several in a block, other chaincodes. The
// writes of valid ones to [Chaincode] change the state.
func (c *Chain) Append(transactions ...domain.Transaction) domain.Block {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.append(transactions...)
}

func (c *Chain) append(transactions ...domain.Transaction) domain.Block {
	b := domain.Block{Number: uint64(len(c.blocks)), Signers: []domain.MSPID{}, Transactions: transactions}
	data := sha256.New()
	for _, t := range transactions {
		fmt.Fprintf(data, "%s %s %s:%s %q;", t.ID, t.Creator, t.Contract, t.Name, t.Arguments)
		if t.ID != "" {
			if _, ok := c.codes[t.ID]; !ok { // the first occurrence counts, as on Fabric
				c.codes[t.ID] = position{t.ValidationCode, b.Number}
			}
		}
		if !t.Valid() || t.Chaincode != Chaincode {
			continue
		}
		for _, w := range t.Writes {
			if w.Delete {
				delete(c.state, w.Key)
			} else {
				c.state[w.Key] = slices.Clone(w.Value)
			}
		}
	}
	previous := []byte{}
	if b.Number > 0 {
		b.PreviousHash = c.blocks[b.Number-1].Hash
		previous, _ = hex.DecodeString(b.PreviousHash)
		for _, d := range c.departments[:len(c.departments)*2/3+1] {
			b.Signers = append(b.Signers, d.MSPID)
		}
		slices.Sort(b.Signers)
	}
	dataHash := data.Sum(nil)
	header, err := asn1.Marshal(struct {
		Number             *big.Int
		Previous, DataHash []byte
	}{new(big.Int).SetUint64(b.Number), previous, dataHash})
	if err != nil {
		panic(err) // the structure above always marshals
	}
	b.DataHash = hex.EncodeToString(dataHash)
	b.Hash = domain.Digest(header)
	c.blocks = append(c.blocks, b)
	close(c.grown)
	c.grown = make(chan struct{})
	return b
}

// next returns the transaction that runs now.
func (c *Chain) next() domain.Tx {
	c.txs++
	return domain.Tx{
		ID:      domain.TxID(domain.Digest(fmt.Appendf(nil, "transaction %d", c.txs))),
		Time:    c.clock().UTC().Truncate(time.Millisecond),
		Channel: Channel,
	}
}

// proposal is what a department asks the chain to run.
type proposal struct {
	caller      domain.Caller
	transaction string
	argument    []byte
	operation   string
}

// run has the handler run a transaction, without applying its writes.
func (c *Chain) run(p proposal, tx domain.Tx) ([]byte, []domain.Write, error) {
	return c.handler(Call{
		Caller: p.caller, Transaction: p.transaction, Argument: slices.Clone(p.argument), Operation: p.operation,
		Tx: tx, State: State{c.state},
	})
}

// race is a number of submits that run on one state.
type race struct {
	left    int
	written map[string]bool // by those that committed since
	all     chan struct{}   // closed when all have run
}

// Race makes the next n submits run on the same state before any of them
// commits, as transactions do that are endorsed at the same time. Of those that
// write the same key the first to commit wins; the others are a conflict, as
// Fabric's MVCC check has it. n submits must come, or those that came wait.
func (c *Chain) Race(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.race = &race{left: n, written: make(map[string]bool), all: make(chan struct{})}
}

// join makes the calling submit, which has run, wait for the others of a race.
// The chain is locked before and after. It returns nil when there is no race.
func (c *Chain) join() *race {
	r := c.race
	if r == nil {
		return nil
	}
	if r.left--; r.left == 0 {
		c.race = nil
		close(r.all)
		return r
	}
	c.mu.Unlock()
	<-r.all
	c.mu.Lock()
	return r
}

// lost reports whether another submit of the race has written a key of writes,
// and remembers them otherwise.
func (r *race) lost(writes []domain.Write) bool {
	if r == nil {
		return false
	}
	if slices.ContainsFunc(writes, func(w domain.Write) bool { return r.written[w.Key] }) {
		return true
	}
	for _, w := range writes {
		r.written[w.Key] = true
	}
	return false
}

// commit runs a transaction and appends the block that holds it.
func (c *Chain) commit(p proposal) ([]byte, domain.Position, error) {
	tx := c.next()
	result, writes, err := c.run(p, tx)
	race := c.join()
	if err != nil {
		return nil, domain.Position{}, err
	}
	if writes == nil {
		writes = []domain.Write{}
	}
	arguments := []string{string(p.argument)}
	if p.operation != "" {
		arguments = append(arguments, p.operation)
	}
	code := "VALID"
	if race.lost(writes) {
		code = "MVCC_READ_CONFLICT"
	}
	contract, name, _ := strings.Cut(p.transaction, ":")
	b := c.append(domain.Transaction{
		ID: tx.ID, Type: "endorser", Creator: p.caller.MSPID, Time: tx.Time, Chaincode: Chaincode,
		Contract: contract, Name: name, Arguments: arguments, Writes: writes,
		Endorsers: c.quorum(), ValidationCode: code,
	})
	if code != "VALID" {
		return nil, domain.Position{}, &domain.Error{Kind: domain.Conflict, Msg: "transaction " + string(tx.ID) + " is " + code}
	}
	return result, domain.Position{Block: b.Number, TxID: tx.ID}, nil
}

// quorum returns a majority of the departments, sorted.
func (c *Chain) quorum() []domain.MSPID {
	ids := []domain.MSPID{}
	for _, d := range c.departments[:len(c.departments)/2+1] {
		ids = append(ids, d.MSPID)
	}
	slices.Sort(ids)
	return ids
}
