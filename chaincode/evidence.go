package chaincode

import (
	"fmt"

	"github.com/hyperledger/fabric-contract-api-go/v2/contractapi"

	"github.com/zhenglian/zhenglian/domain"
)

// evidence holds the read that departments sign for a proof.
type evidence struct{ contractapi.Contract }

// Attest states what the ledger holds under a name; see [domain.Attest]. Whoever
// may read the channel may ask: it is the peers' signatures that count. It writes
// nothing, and a record that is not there is an answer.
func (*evidence) Attest(t *transaction, arg string) (string, error) {
	args, err := parse[domain.AttestArgs](arg)
	if err != nil {
		return "", err
	}
	tx, err := t.clock()
	if err != nil {
		return "", err
	}
	record, err := t.recorded(args.Kind, args.ID)
	if err != nil {
		return "", err
	}
	statement, err := domain.Attest(record, tx, args)
	if err != nil {
		// The argument is valid, so it is the stored record that is not.
		return "", fmt.Errorf("internal: attest %s: stored record cannot be read", domain.KeyOf(args.Kind, args.ID))
	}
	return answer(statement)
}
