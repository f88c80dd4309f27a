package chaincode

import (
	"regexp"

	"github.com/zhenglian/zhenglian/domain"
)

// operationShape is what the second argument of a transaction must look like, unless
// it is empty before a third.
var operationShape = regexp.MustCompile(`^[0-9a-f]{32}$`)

// operation is the operation that the transaction belongs to, "" for none.
func (t *transaction) operation() string {
	if args := t.GetStub().GetArgs(); len(args) >= 3 {
		return string(args[2])
	}
	return ""
}

// expected refuses the transaction when a record that the caller named is not at
// the write that it was decided by.
func (t *transaction) expected() error {
	args := t.GetStub().GetArgs()
	if len(args) < 4 {
		return nil
	}
	key, id, err := domain.ParseExpected(string(args[3]))
	if err != nil {
		return err
	}
	if err := domain.CheckMember(t.dept, t.who); err != nil {
		return err
	}
	var stored []byte
	if kind, of, ok := domain.ParseKey(key); ok {
		if stored, err = t.recorded(kind, of); err != nil {
			return err
		}
	}
	return domain.CheckExpected(key, id, stored)
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
		return "", false, domain.OperationReused(operation)
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
