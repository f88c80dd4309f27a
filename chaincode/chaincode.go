// Package chaincode is the ledger's chaincode: transactions that authorise the
// caller, call a rule of package domain and put the records it returns.
//
// # Contracts
//
// The contracts are governance, catalog, sharing, access, certificate and
// evidence; a transaction is named "contract:Transaction", spelled exactly as
// in [Transactions]. Every transaction takes one argument, a canonical JSON
// object (see [domain.Canonical]), and returns the canonical JSON of a record.
// A refusal is the text of a [domain.Error].
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
	"runtime/debug"
	"slices"
	"strings"

	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-contract-api-go/v2/contractapi"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/zhenglian/zhenglian/domain"
)

// Name and Version are those of the chaincode definition on the channel.
const (
	Name    = "zhenglian"
	Version = "1.0"
)

// maxArgument bounds an argument, in bytes, before it is parsed.
const maxArgument = 1 << 20

// Transactions returns the name of every transaction, sorted.
func Transactions() []string {
	return []string{
		"access:Anchor",
		"access:RegisterLog",
		"catalog:Get",
		"catalog:Publish",
		"catalog:Register",
		"catalog:Review",
		"certificate:Get",
		"certificate:Issue",
		"certificate:Revoke",
		"evidence:Attest",
		"governance:RegisterDepartment",
		"sharing:Answer",
		"sharing:GetGrant",
		"sharing:Request",
	}
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
	return &guarded{contracts: contracts, logger: logger}, nil
}

func named(name string) contractapi.Contract {
	return contractapi.Contract{Name: name, TransactionContextHandler: new(transaction)}
}

// guarded stands before the contracts. contract-api reaches a transaction under
// a second, lower-case name and past its own argument checks, ignores surplus
// arguments, takes a default contract and adds a system contract: here a
// transaction has one name and one argument.
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
	args := stub.GetArgs()
	if len(args) == 0 || !slices.Contains(Transactions(), string(args[0])) {
		return refusal(&domain.Error{Kind: domain.Invalid, Msg: "no such transaction; names are contract:Transaction, case matters"})
	}
	if len(args) != 2 {
		return refusal(&domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf("%s takes exactly one argument", args[0])})
	}
	if len(args[1]) > maxArgument {
		return refusal(&domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf("%s: the argument is longer than %d bytes", args[0], maxArgument)})
	}
	response = g.contracts.Invoke(stub)
	// A protobuf string: anything else would break the stream to the peer.
	response.Message = strings.ToValidUTF8(response.Message, "\ufffd")
	return response
}

func refusal(err *domain.Error) *peer.Response { return shim.Error(err.Error()) }
