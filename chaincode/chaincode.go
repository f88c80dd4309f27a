// Package chaincode is the ledger's chaincode: transactions that authorise the
// caller, call a rule of package domain and put the records it returns.
//
// # Contracts
//
// The contracts are governance, catalog, sharing, access, certificate and
// evidence; a transaction is named "contract:Transaction", spelled exactly as
// in [Transactions]. Every transaction takes one argument, a canonical JSON
// object (see [domain.Canonical]), and returns the canonical JSON of a record.
// A refusal is the text of a [domain.Error]. A long argument travels beside the
// transaction: see [domain.InlineArgument].
//
// A transaction that writes may take a second argument: the operation, 32
// lower-case hexadecimal digits. A department's operation runs once; whoever of
// the department asks again gets the first answer and changes nothing.
//
// # Endorsement
//
// The channel asks for a majority of the departments. A department's own records
// change only with its own peer in that majority, a grant only with the
// provider's or the lead's: see putCatalog, putGrant, putCertificate and
// keyPolicy.
//
// # Determinism
//
// Departments endorse what their own processes computed, so equal input must
// give equal bytes: time is the transaction's, identifiers come from arguments,
// nothing is kept between transactions, no key is read after it is written or
// written twice. What a transaction decides on it has read, so that of two that
// decide on the same record at the same time the peers let one commit.
package chaincode

import (
	"fmt"
	"log/slog"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-contract-api-go/v2/contractapi"
	"github.com/hyperledger/fabric-contract-api-go/v2/metadata"
	"github.com/hyperledger/fabric-contract-api-go/v2/serializer"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/zhenglian/zhenglian/domain"
)

// Name and Version are those of the chaincode definition on the channel.
const (
	Name    = "zhenglian"
	Version = "1.0"
)

// maxArgument and maxBatchArgument bound an argument, in bytes, before it is
// parsed. A batch of 1000 entries of 2 KB, as data portals publish them, takes
// 2 MB; 4 MB leaves room for tables of a hundred columns. Much more would not
// fit: a change stands twice in its transaction, as entry and as version, and a
// block holds 10 MB.
const (
	maxArgument      = 1 << 20
	maxBatchArgument = 4 << 20
)

// transactionInfo is what is known of a transaction before it runs.
type transactionInfo struct {
	name  string
	reads bool // writes nothing
	batch bool // takes many records at once
}

// limit is how long the argument may be, in bytes.
func (t transactionInfo) limit() int {
	if t.batch {
		return maxBatchArgument
	}
	return maxArgument
}

// transactions lists every transaction, in order of name.
var transactions = []transactionInfo{
	{name: "access:Anchor"},
	{name: "access:CloseAlarm"},
	{name: "access:GetAlarm", reads: true},
	{name: "access:RaiseAlarm"},
	{name: "access:RegisterLog"},
	{name: "catalog:Change"},
	{name: "catalog:Get", reads: true},
	{name: "catalog:MarkOverdue"},
	{name: "catalog:Publish"},
	{name: "catalog:PublishBatch", batch: true},
	{name: "catalog:Register"},
	{name: "catalog:RegisterBatch", batch: true},
	{name: "catalog:RequireUpdate"},
	{name: "catalog:Retire"},
	{name: "catalog:Review"},
	{name: "catalog:ReviewBatch", batch: true},
	{name: "catalog:Submit"},
	{name: "certificate:Authorise"},
	{name: "certificate:Decide"},
	{name: "certificate:DecideBatch", batch: true},
	{name: "certificate:EndAuthorisation"},
	{name: "certificate:Get", reads: true},
	{name: "certificate:GetAuthorisation", reads: true},
	{name: "certificate:Issue"},
	{name: "certificate:IssueBatch", batch: true},
	{name: "certificate:Propose"},
	{name: "evidence:Attest", reads: true},
	{name: "governance:GetCalendar", reads: true},
	{name: "governance:GetRule", reads: true},
	{name: "governance:RegisterDepartment"},
	{name: "governance:SetCalendar"},
	{name: "governance:SetRule"},
	{name: "sharing:Accept"},
	{name: "sharing:Answer"},
	{name: "sharing:Close"},
	{name: "sharing:Confirm"},
	{name: "sharing:DecideExtension"},
	{name: "sharing:Deliver"},
	{name: "sharing:Dispute"},
	{name: "sharing:Extend"},
	{name: "sharing:Get", reads: true},
	{name: "sharing:GetGrant", reads: true},
	{name: "sharing:MarkOverdue"},
	{name: "sharing:Mediate"},
	{name: "sharing:Request"},
	{name: "sharing:Resume"},
	{name: "sharing:Revoke"},
	{name: "sharing:Supplement"},
	{name: "sharing:Suspend"},
	{name: "sharing:Withdraw"},
}

// Transactions returns the name of every transaction, sorted.
func Transactions() []string {
	names := make([]string, len(transactions))
	for i, info := range transactions {
		names[i] = info.name
	}
	return names
}

// ReadOnly reports whether a transaction writes nothing, so that it is evaluated
// and not submitted. It takes no operation.
func ReadOnly(transaction string) bool {
	info, known := infoOf(transaction)
	return known && info.reads
}

func infoOf(name string) (transactionInfo, bool) {
	at, known := slices.BinarySearchFunc(transactions, name, func(t transactionInfo, name string) int {
		return strings.Compare(t.name, name)
	})
	if !known {
		return transactionInfo{}, false
	}
	return transactions[at], true
}

// New returns the chaincode. It is safe for concurrent use. What it logs about
// itself goes to logger; arguments and records are never logged.
func New(logger *slog.Logger) (shim.Chaincode, error) {
	contracts, err := contractapi.NewChaincode(
		&governance{named("governance")},
		&catalog{named("catalog")},
		&sharing{named("sharing")},
		&access{named("access")},
		&certificate{named("certificate")},
		&evidence{named("evidence")},
	)
	if err != nil {
		return nil, fmt.Errorf("assemble contracts: %w", err)
	}
	contracts.TransactionSerializer = asItIs{}
	return &guarded{contracts: contracts, logger: logger}, nil
}

// asItIs hands on arguments and answers, all of which are strings. contract-api's own
// serializer makes JSON of each and reads it again, to hold it against a schema that
// says that it is a string: a fifth of what an entry of a batch costs.
type asItIs struct{}

var _ serializer.TransactionSerializer = asItIs{}

// FromString implements [serializer.TransactionSerializer].
func (asItIs) FromString(arg string, _ reflect.Type, _ *metadata.ParameterMetadata, _ *metadata.ComponentMetadata) (reflect.Value, error) {
	return reflect.ValueOf(arg), nil
}

// ToString implements [serializer.TransactionSerializer].
func (asItIs) ToString(answer reflect.Value, _ reflect.Type, _ *metadata.ReturnMetadata, _ *metadata.ComponentMetadata) (string, error) {
	return answer.String(), nil
}

func named(name string) contractapi.Contract {
	return contractapi.Contract{Name: name, TransactionContextHandler: new(transaction)}
}

// guarded stands before the contracts. contract-api reaches a transaction under
// a second, lower-case name and past its own argument checks, ignores surplus
// arguments, takes a default contract and adds a system contract: here a
// transaction has one name, one argument and perhaps an operation.
type guarded struct {
	contracts shim.Chaincode
	logger    *slog.Logger
}

// Init is not called: the chaincode definition requires no initialisation.
func (g *guarded) Init(shim.ChaincodeStubInterface) *peer.Response {
	return refusal(&domain.Error{Kind: domain.Invalid, Msg: "the chaincode needs no initialisation"})
}

// Invoke runs one transaction. A panic fails the transaction, not the process
// that serves all others.
func (g *guarded) Invoke(stub shim.ChaincodeStubInterface) (response *peer.Response) {
	defer func() {
		if r := recover(); r != nil {
			g.logger.Error("transaction panicked", "txId", stub.GetTxID(), "panic", r, "stack", string(debug.Stack()))
			response = shim.Error("internal: the transaction failed unexpectedly; see the chaincode's log")
		}
	}()
	stub, refused := withArgument(stub)
	if refused == nil {
		refused = check(stub.GetArgs())
	}
	if refused != nil {
		return refusal(refused)
	}
	response = g.contracts.Invoke(stub)
	// A protobuf string: anything else would break the stream to the peer.
	response.Message = strings.ToValidUTF8(response.Message, "\ufffd")
	return response
}

// check refuses a call that no contract may see.
func check(args [][]byte) *domain.Error {
	invalid := func(format string, values ...any) *domain.Error {
		return &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf(format, values...)}
	}
	if len(args) == 0 {
		return invalid("no such transaction; names are contract:Transaction, case matters")
	}
	info, known := infoOf(string(args[0]))
	switch {
	case !known:
		return invalid("no such transaction; names are contract:Transaction, case matters")
	case len(args) < 2 || len(args) > 4:
		return invalid("%s takes one argument and, if it writes, an operation and an expectation", info.name)
	case len(args[1]) > info.limit():
		return invalid("%s: the argument is longer than %d bytes", info.name, info.limit())
	case len(args) > 2 && info.reads:
		return invalid("operation: %s writes nothing and takes none", info.name)
	case len(args) > 2 && !operationShape.Match(args[2]) && (len(args) == 3 || len(args[2]) > 0):
		return invalid("operation: must be 32 lower-case hexadecimal digits")
	}
	if len(args) == 4 {
		if _, _, err := domain.ParseExpected(string(args[3])); err != nil {
			return invalid("expectation: must be a state key, = and a transaction")
		}
	}
	return nil
}

func refusal(err *domain.Error) *peer.Response { return shim.Error(err.Error()) }
