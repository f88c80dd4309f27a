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

	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/queryresult"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Ledger is a channel with one chaincode and no peers. The zero value is not
// usable; see [NewLedger].
type Ledger struct {
	channel string
	state   map[string][]byte
}

// NewLedger returns an empty ledger.
func NewLedger(channel string) *Ledger {
	return &Ledger{channel: channel, state: map[string][]byte{}}
}

// Proposal is one call of a chaincode.
type Proposal struct {
	Creator  Identity
	TxID     string
	Time     time.Time
	Function string
	Args     []string
	Panic    bool // the ledger panics when the transaction reads it
}

// Write is one key that a transaction puts.
type Write struct {
	Key   string
	Value []byte
}

// Result is what a transaction answered and what it would change.
type Result struct {
	Status  int32 // 200, or 500 for a refusal
	Message string
	Payload []byte
	Writes  []Write  // in the order put
	Reads   []string // keys and ranges, in the order read
	// Violations are breaches of what chaincode may rely on: a key put twice, or
	// read after it was put.
	Violations []string
}

// OK reports whether peers would endorse the result.
func (r Result) OK() bool { return r.Status < shim.ERRORTHRESHOLD }

// Simulate runs the proposal and changes nothing.
func (l *Ledger) Simulate(chaincode shim.Chaincode, p Proposal) Result {
	stub := &stub{ledger: l, proposal: p}
	response := chaincode.Invoke(stub)
	return Result{
		Status: response.GetStatus(), Message: response.GetMessage(), Payload: response.GetPayload(),
		Writes: stub.writes, Reads: stub.reads, Violations: stub.violations,
	}
}

// Commit applies the writes of a result.
func (l *Ledger) Commit(r Result) {
	for _, w := range r.Writes {
		l.state[w.Key] = w.Value
	}
}

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
	reads      []string
	violations []string
}

var _ shim.ChaincodeStubInterface = (*stub)(nil)

func (s *stub) GetArgs() [][]byte {
	var args [][]byte
	for _, a := range s.GetStringArgs() {
		args = append(args, []byte(a))
	}
	return args
}

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

func (s *stub) put(key string) bool {
	return slices.ContainsFunc(s.writes, func(w Write) bool { return w.Key == key })
}

func (s *stub) GetState(key string) ([]byte, error) {
	if s.proposal.Panic {
		panic("chaincodetest: panic on demand")
	}
	if s.put(key) {
		s.violations = append(s.violations, "read after write: "+key)
	}
	s.reads = append(s.reads, key)
	return slices.Clone(s.ledger.state[key]), nil
}

func (s *stub) PutState(key string, value []byte) error {
	if key == "" || strings.HasPrefix(key, "\x00") {
		return fmt.Errorf("key %q is not a simple key", key)
	}
	if s.put(key) {
		s.violations = append(s.violations, "second write: "+key)
	}
	s.writes = append(s.writes, Write{key, slices.Clone(value)})
	return nil
}

func (s *stub) GetStateByRange(from, to string) (shim.StateQueryIteratorInterface, error) {
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
// for phantoms, history differs between peers, private data and events are not
// used. A call is a mistake.

func missing(method string) string {
	return "chaincodetest: " + method + " is not for this chaincode"
}

func (*stub) GetArgsSlice() ([]byte, error) { panic(missing("GetArgsSlice")) }
func (*stub) InvokeChaincode(string, [][]byte, string) *peer.Response {
	panic(missing("InvokeChaincode"))
}
func (*stub) GetMultipleStates(...string) ([][]byte, error) { panic(missing("GetMultipleStates")) }
func (*stub) DelState(string) error                         { panic(missing("DelState")) }
func (*stub) SetStateValidationParameter(string, []byte) error {
	panic(missing("SetStateValidationParameter"))
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
func (*stub) GetTransient() (map[string][]byte, error)         { panic(missing("GetTransient")) }
func (*stub) GetBinding() ([]byte, error)                      { panic(missing("GetBinding")) }
func (*stub) GetDecorations() map[string][]byte                { panic(missing("GetDecorations")) }
func (*stub) GetSignedProposal() (*peer.SignedProposal, error) { panic(missing("GetSignedProposal")) }
func (*stub) SetEvent(string, []byte) error                    { panic(missing("SetEvent")) }
func (*stub) StartWriteBatch()                                 { panic(missing("StartWriteBatch")) }
func (*stub) FinishWriteBatch() error                          { panic(missing("FinishWriteBatch")) }
