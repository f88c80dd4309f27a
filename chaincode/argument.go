package chaincode

import (
	"bytes"
	"slices"

	"github.com/hyperledger/fabric-chaincode-go/v2/shim"

	"github.com/zhenglian/zhenglian/domain"
)

// argued is a stub whose argument travelled beside the transaction.
type argued struct {
	shim.ChaincodeStubInterface
	args [][]byte
}

// withArgument puts the argument that travelled beside the transaction, if one did,
// where the transaction holds its digest. A department that was sent another one
// must not endorse.
func withArgument(stub shim.ChaincodeStubInterface) (shim.ChaincodeStubInterface, *domain.Error) {
	beside, err := stub.GetTransient()
	if err != nil {
		return stub, &domain.Error{Kind: domain.Invalid, Msg: "the transient data cannot be read"}
	}
	argument, found := beside[domain.TransientArgument]
	if !found {
		return stub, nil
	}
	args := slices.Clone(stub.GetArgs())
	if len(args) < 2 || !bytes.Equal(args[1], domain.ArgumentReference(argument)) {
		return stub, &domain.Error{Kind: domain.Invalid, Msg: "the argument beside the transaction is not the one that it names"}
	}
	args[1] = argument
	return argued{stub, args}, nil
}

// GetArgs implements [shim.ChaincodeStubInterface].
func (a argued) GetArgs() [][]byte { return a.args }

// GetStringArgs implements [shim.ChaincodeStubInterface].
func (a argued) GetStringArgs() []string {
	texts := make([]string, len(a.args))
	for i, arg := range a.args {
		texts[i] = string(arg)
	}
	return texts
}

// GetFunctionAndParameters implements [shim.ChaincodeStubInterface].
func (a argued) GetFunctionAndParameters() (function string, parameters []string) {
	texts := a.GetStringArgs()
	return texts[0], texts[1:]
}
