package chaincode

import (
	"errors"
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

// transaction is the context of one transaction: who asks, when, and the state.
type transaction struct {
	contractapi.TransactionContext
	written []string
}

// argument is a validated argument of a transaction.
type argument interface{ Validate() error }

// parse decodes the argument of a transaction strictly and validates it.
func parse[T argument](arg string) (T, error) {
	var args T
	if err := domain.ParseCanonical([]byte(arg), &args); err != nil {
		return args, err
	}
	return args, args.Validate()
}

// tx is what the rules may know of the transaction. Its time is the client's
// to the millisecond; peers refuse one that is off by more than their window.
func (t *transaction) tx() (domain.Tx, error) {
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
// consortium only if [transaction.caller] says so.
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

// caller is the asking person or service of a registered department, with that
// department.
func (t *transaction) caller() (domain.Caller, domain.Department, error) {
	who, err := t.identity()
	if err != nil {
		return domain.Caller{}, domain.Department{}, err
	}
	dept, err := load[domain.Department](t, domain.KindDepartment, string(who.Department))
	if err != nil {
		return domain.Caller{}, domain.Department{}, err
	}
	if err := domain.CheckMember(dept, who); err != nil {
		return domain.Caller{}, domain.Department{}, err
	}
	return who, *dept, nil
}

// begin is what every submitting transaction starts with.
func (t *transaction) begin() (domain.Caller, domain.Department, domain.Tx, error) {
	who, dept, err := t.caller()
	if err != nil {
		return who, dept, domain.Tx{}, err
	}
	tx, err := t.tx()
	return who, dept, tx, err
}

func forbidden(msg string) error { return &domain.Error{Kind: domain.Forbidden, Msg: msg} }

// read returns the stored bytes of a record, nil when there is none.
func (t *transaction) read(kind domain.RecordKind, id string) ([]byte, error) {
	key := domain.KeyOf(kind, id)
	value, err := t.GetStub().GetState(key)
	if err != nil {
		return nil, fmt.Errorf("internal: read %s: %w", key, err)
	}
	if len(value) == 0 {
		return nil, nil
	}
	return value, nil
}

// load returns a record, nil when there is none.
func load[T any](t *transaction, kind domain.RecordKind, id string) (*T, error) {
	value, err := t.read(kind, id)
	if err != nil || value == nil {
		return nil, err
	}
	return decode[T](value, domain.KeyOf(kind, id))
}

func decode[T any](value []byte, key string) (*T, error) {
	record := new(T)
	if err := domain.ParseCanonical(value, record); err != nil {
		// Not the caller's fault: it must not look like a refusal.
		return nil, fmt.Errorf("internal: %s does not hold the expected record", key)
	}
	return record, nil
}

// put writes a record. The ledger never shows a transaction its own writes, so a
// second write of one key is a mistake of the transaction.
func (t *transaction) put(kind domain.RecordKind, id string, record any) error {
	key := domain.KeyOf(kind, id)
	for _, k := range t.written {
		if k == key {
			return errors.New("internal: " + key + " is written twice")
		}
	}
	t.written = append(t.written, key)
	value, err := domain.Canonical(record)
	if err != nil {
		return err
	}
	if err := t.GetStub().PutState(key, value); err != nil {
		return fmt.Errorf("internal: write %s: %w", key, err)
	}
	return nil
}

// answer is the return value of a transaction: the canonical form of record.
func answer(record any) (string, error) {
	data, err := domain.Canonical(record)
	return string(data), err
}

// get answers a stored record to any role of any registered department.
func get[T any](t *transaction, kind domain.RecordKind, id string) (string, error) {
	if _, _, err := t.caller(); err != nil {
		return "", err
	}
	record, err := load[T](t, kind, id)
	if err != nil {
		return "", err
	}
	if record == nil {
		return "", &domain.Error{Kind: domain.NotFound, Msg: fmt.Sprintf("%s %s is not recorded", kind, id)}
	}
	return answer(record)
}
