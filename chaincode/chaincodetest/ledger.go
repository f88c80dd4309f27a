// Package chaincodetest runs chaincode in memory, for tests: a state, a stub
// that records what a transaction reads and writes, and client identities with
// real certificates.
package chaincodetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/queryresult"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Ledger is a channel with one chaincode and no peers. The zero value is not
// usable; see [NewLedger].
type Ledger struct {
	channel  string
	state    map[string][]byte
	policies map[string][]byte // validation parameters of keys
}

// NewLedger returns an empty ledger.
func NewLedger(channel string) *Ledger {
	return &Ledger{channel: channel, state: map[string][]byte{}, policies: map[string][]byte{}}
}

// Proposal is one call of a chaincode.
type Proposal struct {
	Creator   Identity
	TxID      string
	Time      time.Time
	Function  string
	Args      []string
	Transient map[string][]byte
	Panic     bool // the ledger panics when the transaction reads it
}

// Write is one key that a transaction puts or deletes.
type Write struct {
	Key    string
	Value  []byte // nil when deleted
	Delete bool
}

// Policy is the validation parameter that a transaction sets on a key: a
// marshaled common.SignaturePolicyEnvelope.
type Policy struct {
	Key   string
	Value []byte
}

// Result is what a transaction answered and what it would change.
type Result struct {
	Status   int32 // 200, or 500 for a refusal
	Message  string
	Payload  []byte
	Writes   []Write  // in the order put; peers sort them by key
	Policies []Policy // in the order set; peers sort them by key
	Reads    []string // keys and ranges, in the order read
	Messages int      // round trips to the peer
	// Violations are breaches of what chaincode may rely on: a key put twice,
	// read after it was put, or given a policy without a value.
	Violations []string
}

// OK reports whether peers would endorse the result.
func (r Result) OK() bool { return r.Status < shim.ERRORTHRESHOLD }

// Simulate runs the proposal and changes nothing.
func (l *Ledger) Simulate(chaincode shim.Chaincode, p Proposal) Result {
	stub := &stub{ledger: l, proposal: p}
	response := chaincode.Invoke(stub)
	stub.finish() // as shim does, whatever the answer
	for _, p := range stub.policies {
		if !slices.ContainsFunc(stub.writes, func(w Write) bool { return w.Key == p.Key && !w.Delete }) {
			stub.violate("policy without a value: " + p.Key)
		}
	}
	return Result{
		Status: response.GetStatus(), Message: response.GetMessage(), Payload: response.GetPayload(),
		Writes: stub.writes, Policies: stub.policies, Reads: stub.reads, Messages: stub.messages, Violations: stub.violations,
	}
}

// Commit applies the writes of a result. A deleted key loses its policy.
func (l *Ledger) Commit(r Result) {
	for _, w := range r.Writes {
		if w.Delete {
			delete(l.state, w.Key)
			delete(l.policies, w.Key)
		} else {
			l.state[w.Key] = w.Value
		}
	}
	for _, p := range r.Policies {
		l.policies[p.Key] = p.Value
	}
}

// Policy returns the validation parameter of a key, nil when it has none.
func (l *Ledger) Policy(key string) []byte { return slices.Clone(l.policies[key]) }

// State returns the value of a key, nil when it has none.
func (l *Ledger) State(key string) []byte { return slices.Clone(l.state[key]) }

// Set puts a value without a transaction.
func (l *Ledger) Set(key string, value []byte) { l.state[key] = slices.Clone(value) }

// Keys returns all keys, sorted.
func (l *Ledger) Keys() []string { return slices.Sorted(maps.Keys(l.state)) }

// stub is one transaction's view of the ledger: it reads what was committed and
// never what it writes itself, as on a peer.
type stub struct {
	ledger     *Ledger
	proposal   Proposal
	writes     []Write
	policies   []Policy
	reads      []string
	messages   int
	violations []string
	written    map[string]bool // keys in writes, of the batch as well
	batch      *batch          // nil outside of a write batch
}

// batch holds what a write batch has not sent yet.
type batch struct {
	writes   []Write
	policies []Policy
}

var _ shim.ChaincodeStubInterface = (*stub)(nil)

func (s *stub) GetArgs() [][]byte {
	var args [][]byte
	for _, a := range s.GetStringArgs() {
		args = append(args, []byte(a))
	}
	return args
}

// GetTransient answers what travels beside the proposal.
func (s *stub) GetTransient() (map[string][]byte, error) { return s.proposal.Transient, nil }

func (s *stub) GetStringArgs() []string {
	if s.proposal.Function == "" && s.proposal.Args == nil {
		return nil
	}
	return append([]string{s.proposal.Function}, s.proposal.Args...)
}

func (s *stub) GetFunctionAndParameters() (string, []string) {
	return s.proposal.Function, s.proposal.Args
}

func (s *stub) GetTxID() string             { return s.proposal.TxID }
func (s *stub) GetChannelID() string        { return s.ledger.channel }
func (s *stub) GetCreator() ([]byte, error) { return s.proposal.Creator.serialized, nil }

func (s *stub) GetTxTimestamp() (*timestamppb.Timestamp, error) {
	return timestamppb.New(s.proposal.Time), nil
}

func (s *stub) violate(what string) { s.violations = append(s.violations, what) }

func (s *stub) GetState(key string) ([]byte, error) {
	s.messages++
	return s.get(key), nil
}

// GetMultipleStates answers keys in their order, nil for one without a value.
func (s *stub) GetMultipleStates(keys ...string) ([][]byte, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	s.messages += messages(len(keys))
	values := make([][]byte, len(keys))
	for i, key := range keys {
		values[i] = s.get(key)
	}
	return values, nil
}

func (s *stub) get(key string) []byte {
	if s.proposal.Panic {
		panic("chaincodetest: panic on demand")
	}
	if s.written[key] {
		s.violate("read after write: " + key)
	}
	s.reads = append(s.reads, key)
	return slices.Clone(s.ledger.state[key])
}

func (s *stub) PutState(key string, value []byte) error {
	return s.write(Write{Key: key, Value: slices.Clone(value)})
}

func (s *stub) DelState(key string) error { return s.write(Write{Key: key, Delete: true}) }

func (s *stub) write(w Write) error {
	if w.Key == "" || strings.HasPrefix(w.Key, "\x00") || !utf8.ValidString(w.Key) {
		return fmt.Errorf("key %q is not a simple key", w.Key)
	}
	if s.written[w.Key] {
		s.violate("second write: " + w.Key)
	}
	if s.written == nil {
		s.written = make(map[string]bool)
	}
	s.written[w.Key] = true
	if s.batch != nil {
		s.batch.writes = append(s.batch.writes, w)
		return nil
	}
	s.messages++
	s.writes = append(s.writes, w)
	return nil
}

func (s *stub) SetStateValidationParameter(key string, policy []byte) error {
	p := Policy{key, slices.Clone(policy)}
	if s.batch != nil {
		s.batch.policies = append(s.batch.policies, p)
		return nil
	}
	s.messages++
	s.policies = append(s.policies, p)
	return nil
}

// StartWriteBatch holds writes and policies back until FinishWriteBatch or the end
// of the transaction. Deliberately unlike shim, which sends a batch in the order
// of a map, the order is kept, so that tests see whether the chaincode's own order
// is stable.
func (s *stub) StartWriteBatch() {
	if s.batch == nil {
		s.batch = &batch{}
	}
}

// batchSize is how many records a peer takes in one message of a batch, or answers.
const batchSize = 1000

// messages is how many messages records take.
func messages(records int) int { return (records + batchSize - 1) / batchSize }

func (s *stub) FinishWriteBatch() error {
	s.finish()
	return nil
}

func (s *stub) finish() {
	if s.batch == nil {
		return
	}
	s.messages += messages(len(s.batch.writes) + len(s.batch.policies))
	s.writes = append(s.writes, s.batch.writes...)
	s.policies = append(s.policies, s.batch.policies...)
	s.batch = nil
}

func (s *stub) GetStateByRange(from, to string) (shim.StateQueryIteratorInterface, error) {
	s.messages++
	s.reads = append(s.reads, from+".."+to)
	var rows rows
	for _, key := range s.ledger.Keys() {
		if key >= from && key < to {
			rows = append(rows, &queryresult.KV{Key: key, Value: s.ledger.State(key)})
		}
	}
	return &rows, nil
}

// rows iterates over the rest of a range.
type rows []*queryresult.KV

func (r *rows) HasNext() bool { return len(*r) > 0 }
func (r *rows) Close() error  { return nil }

func (r *rows) Next() (*queryresult.KV, error) {
	if len(*r) == 0 {
		return nil, fmt.Errorf("no rows left")
	}
	next := (*r)[0]
	*r = (*r)[1:]
	return next, nil
}

// What follows is not for our chaincode: rich and paged queries are not checked
// for phantoms, history differs between peers, a policy is set once and never
// read back, private data and events are not used. A call is a mistake.

func missing(method string) string {
	return "chaincodetest: " + method + " is not for this chaincode"
}

func (*stub) GetArgsSlice() ([]byte, error) { panic(missing("GetArgsSlice")) }
func (*stub) InvokeChaincode(string, [][]byte, string) *peer.Response {
	panic(missing("InvokeChaincode"))
}

func (*stub) GetStateValidationParameter(string) ([]byte, error) {
	panic(missing("GetStateValidationParameter"))
}

func (*stub) GetStateByRangeWithPagination(string, string, int32, string) (shim.StateQueryIteratorInterface, *peer.QueryResponseMetadata, error) {
	panic(missing("GetStateByRangeWithPagination"))
}

func (*stub) GetStateByPartialCompositeKey(string, []string) (shim.StateQueryIteratorInterface, error) {
	panic(missing("GetStateByPartialCompositeKey"))
}

func (*stub) GetStateByPartialCompositeKeyWithPagination(string, []string, int32, string) (shim.StateQueryIteratorInterface, *peer.QueryResponseMetadata, error) {
	panic(missing("GetStateByPartialCompositeKeyWithPagination"))
}

func (*stub) GetAllStatesCompositeKeyWithPagination(int32, string) (shim.StateQueryIteratorInterface, *peer.QueryResponseMetadata, error) {
	panic(missing("GetAllStatesCompositeKeyWithPagination"))
}

func (*stub) CreateCompositeKey(string, []string) (string, error) {
	panic(missing("CreateCompositeKey"))
}

func (*stub) SplitCompositeKey(string) (string, []string, error) { panic(missing("SplitCompositeKey")) }

func (*stub) GetQueryResult(string) (shim.StateQueryIteratorInterface, error) {
	panic(missing("GetQueryResult"))
}

func (*stub) GetQueryResultWithPagination(string, int32, string) (shim.StateQueryIteratorInterface, *peer.QueryResponseMetadata, error) {
	panic(missing("GetQueryResultWithPagination"))
}

func (*stub) GetHistoryForKey(string) (shim.HistoryQueryIteratorInterface, error) {
	panic(missing("GetHistoryForKey"))
}
func (*stub) GetPrivateData(string, string) ([]byte, error) { panic(missing("GetPrivateData")) }
func (*stub) GetMultiplePrivateData(string, ...string) ([][]byte, error) {
	panic(missing("GetMultiplePrivateData"))
}

func (*stub) GetPrivateDataHash(string, string) ([]byte, error) { panic(missing("GetPrivateDataHash")) }
func (*stub) PutPrivateData(string, string, []byte) error       { panic(missing("PutPrivateData")) }
func (*stub) DelPrivateData(string, string) error               { panic(missing("DelPrivateData")) }
func (*stub) PurgePrivateData(string, string) error             { panic(missing("PurgePrivateData")) }

func (*stub) SetPrivateDataValidationParameter(string, string, []byte) error {
	panic(missing("SetPrivateDataValidationParameter"))
}

func (*stub) GetPrivateDataValidationParameter(string, string) ([]byte, error) {
	panic(missing("GetPrivateDataValidationParameter"))
}

func (*stub) GetPrivateDataByRange(string, string, string) (shim.StateQueryIteratorInterface, error) {
	panic(missing("GetPrivateDataByRange"))
}

func (*stub) GetPrivateDataByPartialCompositeKey(string, string, []string) (shim.StateQueryIteratorInterface, error) {
	panic(missing("GetPrivateDataByPartialCompositeKey"))
}

func (*stub) GetPrivateDataQueryResult(string, string) (shim.StateQueryIteratorInterface, error) {
	panic(missing("GetPrivateDataQueryResult"))
}
func (*stub) GetBinding() ([]byte, error)                      { panic(missing("GetBinding")) }
func (*stub) GetDecorations() map[string][]byte                { panic(missing("GetDecorations")) }
func (*stub) GetSignedProposal() (*peer.SignedProposal, error) { panic(missing("GetSignedProposal")) }
func (*stub) SetEvent(string, []byte) error                    { panic(missing("SetEvent")) }
