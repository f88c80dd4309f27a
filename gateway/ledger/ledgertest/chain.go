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
	Expect      *domain.Expectation
	Tx          domain.Tx
	State       State // committed state; valid during the call only
}

// Arguments are those of the transaction as a chaincode gets them.
func (c Call) Arguments() []string {
	arguments := []string{string(c.Argument)}
	if c.Operation != "" || c.Expect != nil {
		arguments = append(arguments, c.Operation)
	}
	if c.Expect != nil {
		arguments = append(arguments, c.Expect.String())
	}
	return arguments
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
				return nil, nil, domain.OperationReused(call.Operation)
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

	mu      sync.Mutex
	state   map[string][]byte
	writes  map[string]int // how often each key was written
	blocks  []domain.Block
	codes   map[domain.TxID]position
	down    map[domain.DepartmentCode]error
	txs     uint64
	race    *race
	waiting map[domain.TxID]*waiting // for signatures
	grown   chan struct{}            // closed and replaced when a block is appended
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
		writes:      make(map[string]int),
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
	b := domain.Block{Number: uint64(len(c.blocks)), Signers: []domain.MSPID{}, Transactions: slices.Clone(transactions)}
	data := sha256.New()
	for i, t := range transactions {
		b.Transactions[i].Writes = slices.Clone(t.Writes)
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
			c.writes[w.Key]++
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
	Caller      domain.Caller
	Transaction string
	Argument    []byte
	Operation   string
	Expect      *domain.Expectation
}

// endorsed is a transaction that has run and is not ordered.
type endorsed struct {
	Proposal proposal
	Tx       domain.Tx
	Result   []byte
	Writes   []domain.Write
	Seen     map[string]int // how often each key of Writes had been written before
}

// run has the handler run a transaction, without applying its writes.
func (c *Chain) run(p proposal, tx domain.Tx) ([]byte, []domain.Write, error) {
	call := p.call()
	call.Tx, call.State = tx, State{c.state}
	return c.handler(call)
}

func (p proposal) call() Call {
	return Call{Caller: p.Caller, Transaction: p.Transaction, Argument: slices.Clone(p.Argument), Operation: p.Operation, Expect: p.Expect}
}

// race is a number of submits that run on one state.
type race struct {
	left int
	all  chan struct{} // closed when all have run
}

// Race makes the next n submits run on the same state before any of them
// commits, as transactions do that are endorsed at the same time. Of those that
// write the same key the first to commit wins; the others are a conflict, as
// Fabric's MVCC check has it, and run again. n submits must come, or those that
// came wait.
func (c *Chain) Race(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.race = &race{left: n, all: make(chan struct{})}
}

// join makes the calling submit, which has run, wait for the others of a race.
// The chain is locked before and after.
func (c *Chain) join() {
	r := c.race
	if r == nil {
		return
	}
	if r.left--; r.left == 0 {
		c.race = nil
		close(r.all)
		return
	}
	c.mu.Unlock()
	<-r.all
	c.mu.Lock()
}

// endorse runs a transaction and notes what its writes replace.
func (c *Chain) endorse(p proposal) (endorsed, error) { return c.endorseAs(p, c.next()) }

func (c *Chain) endorseAs(p proposal, tx domain.Tx) (endorsed, error) {
	e := endorsed{Proposal: p, Tx: tx, Seen: make(map[string]int)}
	var err error
	e.Result, e.Writes, err = c.run(p, e.Tx)
	for _, w := range e.Writes {
		e.Seen[w.Key] = c.writes[w.Key]
	}
	c.join()
	if e.Writes == nil {
		e.Writes = []domain.Write{}
	}
	return e, err
}

// order appends the block that holds a transaction, once, and answers what
// became of it.
func (c *Chain) order(e endorsed) (domain.Position, error) {
	known, again := c.codes[e.Tx.ID]
	if !again {
		known.code = "VALID"
		for key, seen := range e.Seen {
			if c.writes[key] != seen {
				known.code = "MVCC_READ_CONFLICT"
			}
		}
		contract, name, _ := strings.Cut(e.Proposal.Transaction, ":")
		known.block = c.append(domain.Transaction{
			ID: e.Tx.ID, Type: "endorser", Creator: e.Proposal.Caller.MSPID, Time: e.Tx.Time, Chaincode: Chaincode,
			Contract: contract, Name: name, Arguments: e.Proposal.call().Arguments(), Writes: e.Writes,
			Endorsers: c.quorum(), ValidationCode: known.code,
		}).Number
	}
	if known.code != "VALID" {
		return domain.Position{}, &domain.Error{Kind: domain.Conflict, Msg: "transaction " + string(e.Tx.ID) + " is " + known.code}
	}
	return domain.Position{Block: known.block, TxID: e.Tx.ID}, nil
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
