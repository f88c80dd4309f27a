package chaincode

import (
	"regexp"

	"github.com/zhenglian/zhenglian/domain"
)

// operationShape is what the second argument of a transaction must look like.
var operationShape = regexp.MustCompile(`^[0-9a-f]{32}$`)

// operation is the operation that the transaction belongs to, "" for none.
func (t *transaction) operation() string {
	if args := t.GetStub().GetArgs(); len(args) == 3 {
		return string(args[2])
	}
	return ""
}

// repeated answers the result of an operation that the caller's department has
// run before. It refuses an operation that did something else.
func (t *transaction) repeated(arg string) (result string, found bool, err error) {
	operation := t.operation()
	if operation == "" || t.dept == nil {
		return "", false, nil
	}
	if err := domain.CheckMember(t.dept, t.who); err != nil {
		return "", false, err
	}
	done, err := load[domain.Operation](t, domain.KindOperation, domain.OperationID(t.who.Department, operation))
	if err != nil || done == nil {
		return "", false, err
	}
	if done.Transaction != t.name || done.ArgumentDigest != domain.Digest([]byte(arg)) {
		return "", false, &domain.Error{Kind: domain.Invalid, Msg: "operation " + operation + ": used for another transaction"}
	}
	return done.Result, true, nil
}

// remember records what the operation did, if the transaction belongs to one.
func (t *transaction) remember(arg, result string) error {
	operation := t.operation()
	if operation == "" {
		return nil
	}
	done := domain.Operation{
		Meta: domain.Meta{
			Schema: domain.SchemaOperation, Department: t.who.Department, Role: t.who.Role, TxID: t.tx.ID, TxTime: t.tx.Time,
		},
		Operation: operation, Transaction: t.name, ArgumentDigest: domain.Digest([]byte(arg)), Result: result,
	}
	data, err := domain.Canonical(done)
	if err != nil {
		return err
	}
	done.Digest = domain.Digest(data)
	return t.put(domain.KindOperation, domain.OperationID(t.who.Department, operation), done)
}
