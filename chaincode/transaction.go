package chaincode

import (
	"fmt"
	"time"

	"github.com/hyperledger/fabric-chaincode-go/v2/pkg/cid"
	"github.com/hyperledger/fabric-contract-api-go/v2/contractapi"

	"github.com/zhenglian/zhenglian/domain"
)

// The certificate attributes that a department's CA gives its people.
const (
	roleAttribute       = "zhenglian.role"
	departmentAttribute = "zhenglian.department"
)

// transaction is the context of one transaction: who asks, when, what it read
// and what it will write.
type transaction struct {
	contractapi.TransactionContext
	name    string // as in [Transactions]
	who     domain.Caller
	tx      domain.Tx
	dept    *domain.Department // the caller's, nil when it is not registered
	members *domain.Members    // nil before the first department is registered

	state   map[string][]byte // what was read; nil for a key without a record
	wanted  []string
	writes  []write
	written map[string]bool // keys in writes

	batches map[string]*domain.Batch     // that were read, by id
	places  map[int]*domain.StatusPlaces // of the caller's department that were read, by number

	tellers map[string]domain.CatalogTeller // of the events that were read, by id

	policies map[string][]byte // by the departments that the policy names
}

// argument is a validated argument of a transaction.
type argument interface{ Validate() error }

// parse decodes the argument of a transaction strictly and validates it.
func parse[A argument](arg string) (A, error) {
	var args A
	if err := domain.ParseCanonical([]byte(arg), &args); err != nil {
		return args, err
	}
	return args, args.Validate()
}

// submit is the course of a transaction that writes, given what it does with its
// valid argument. run returns the record to answer.
func submit[A argument](t *transaction, arg string, run func(A) (any, error)) (string, error) {
	args, err := parse[A](arg)
	if err != nil {
		return "", err
	}
	return t.once(arg, func() (any, error) { return run(args) })
}

// submitContent is [submit] for transactions whose rule validates the argument
// itself, to report what is wrong with it together with what is wrong by the
// ledger's records.
func submitContent[A any](t *transaction, arg string, run func(A) (any, error)) (string, error) {
	var args A
	if err := domain.ParseCanonical([]byte(arg), &args); err != nil {
		return "", err
	}
	return t.once(arg, func() (any, error) { return run(args) })
}

// once finds out who asks and answers a repeated operation with its first
// result. Otherwise it runs the transaction, remembers the operation and sends
// the writes.
func (t *transaction) once(arg string, run func() (any, error)) (string, error) {
	if err := t.begin(); err != nil {
		return "", err
	}
	if result, found, err := t.repeated(arg); found || err != nil {
		return result, err
	}
	if err := t.expected(); err != nil {
		return "", err
	}
	record, err := run()
	if err != nil {
		return "", err
	}
	result, err := answer(record)
	if err != nil {
		return "", err
	}
	if err := t.remember(arg, result); err != nil {
		return "", err
	}
	return result, t.send()
}

// begin finds out who asks, when, and for which department, and asks for
// everything that does not depend on the argument with the same message.
func (t *transaction) begin() (err error) {
	t.name = string(t.GetStub().GetArgs()[0])
	if t.who, err = t.identity(); err != nil {
		return err
	}
	if t.tx, err = t.clock(); err != nil {
		return err
	}
	t.want(domain.KindMembers, domain.MembersID)
	if operation := t.operation(); operation != "" {
		t.want(domain.KindOperation, domain.OperationID(t.who.Department, operation))
	}
	t.wantDeadlines()
	if t.dept, err = load[domain.Department](t, domain.KindDepartment, string(t.who.Department)); err != nil {
		return err
	}
	t.members, err = load[domain.Members](t, domain.KindMembers, domain.MembersID)
	return err
}

// call is what the rules may know of the transaction. It refuses whoever is not
// a member of the consortium. running are the time limits of the records that
// the transaction changes; nil ones do not count.
func (t *transaction) call(running ...*domain.Clock) (domain.Call, error) {
	if err := domain.CheckMember(t.dept, t.who); err != nil {
		return domain.Call{}, err
	}
	if t.members == nil {
		return domain.Call{}, fmt.Errorf("internal: the list of members is not recorded")
	}
	deadlines, err := t.deadlines(running)
	if err != nil {
		return domain.Call{}, err
	}
	return domain.Call{Who: t.who, Dept: *t.dept, Lead: t.members.Lead, Tx: t.tx, Deadlines: deadlines}, nil
}

// clock is the transaction's identifier and time. Its time is the client's to
// the millisecond; peers refuse one that is off by more than their window.
func (t *transaction) clock() (domain.Tx, error) {
	stub := t.GetStub()
	stamp, err := stub.GetTxTimestamp()
	if err != nil {
		return domain.Tx{}, fmt.Errorf("internal: read the transaction time: %w", err)
	}
	if err := stamp.CheckValid(); err != nil {
		return domain.Tx{}, &domain.Error{Kind: domain.Invalid, Msg: "the transaction has no valid time"}
	}
	return domain.Tx{
		ID:      domain.TxID(stub.GetTxID()),
		Time:    stamp.AsTime().Truncate(time.Millisecond),
		Channel: stub.GetChannelID(),
	}, nil
}

// identity is who the client certificate says is asking. It is a member of the
// consortium only if [domain.CheckMember] says so.
func (t *transaction) identity() (domain.Caller, error) {
	// Read here and not from the context, which drops the error.
	client, err := cid.New(t.GetStub())
	if err != nil {
		return domain.Caller{}, forbidden("the caller's certificate cannot be read")
	}
	mspID, err := client.GetMSPID()
	if err != nil {
		return domain.Caller{}, forbidden("the caller's MSP cannot be read")
	}
	role, found, err := client.GetAttributeValue(roleAttribute)
	if err != nil || !found || role == "" {
		return domain.Caller{}, forbidden("the caller's certificate has no attribute " + roleAttribute)
	}
	department, found, err := client.GetAttributeValue(departmentAttribute)
	if err != nil || !found || department == "" {
		return domain.Caller{}, forbidden("the caller's certificate has no attribute " + departmentAttribute)
	}
	return domain.Caller{
		Department: domain.DepartmentCode(department),
		MSPID:      domain.MSPID(mspID),
		Role:       domain.Role(role),
	}, nil
}

func forbidden(msg string) error { return &domain.Error{Kind: domain.Forbidden, Msg: msg} }

// answer is the return value of a transaction: the canonical form of record.
func answer(record any) (string, error) {
	data, err := domain.Canonical(record)
	return string(data), err
}

// get answers a stored record to any role of any registered department.
func get[T any, A argument](t *transaction, arg string, kind domain.RecordKind, id func(A) string) (string, error) {
	args, err := parse[A](arg)
	if err != nil {
		return "", err
	}
	who, err := t.identity()
	if err != nil {
		return "", err
	}
	t.want(kind, id(args))
	dept, err := load[domain.Department](t, domain.KindDepartment, string(who.Department))
	if err != nil {
		return "", err
	}
	if err := domain.CheckMember(dept, who); err != nil {
		return "", err
	}
	value, err := t.recorded(kind, id(args))
	if err != nil {
		return "", err
	}
	if value == nil {
		return "", &domain.Error{Kind: domain.NotFound, Msg: fmt.Sprintf("%s %s is not recorded", kind, id(args))}
	}
	record, err := decode[T](value, domain.KeyOf(kind, id(args)))
	if err != nil {
		return "", err
	}
	return answer(record)
}
