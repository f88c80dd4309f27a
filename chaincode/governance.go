package chaincode

import (
	"fmt"

	"github.com/hyperledger/fabric-contract-api-go/v2/contractapi"

	"github.com/zhenglian/zhenglian/domain"
)

// governance holds the transactions about the consortium itself.
type governance struct{ contractapi.Contract }

// RegisterDepartment adds a department; see [domain.RegisterDepartment].
func (*governance) RegisterDepartment(t *transaction, arg string) (string, error) {
	args, err := parse[domain.RegisterDepartmentArgs](arg)
	if err != nil {
		return "", err
	}
	who, err := t.identity()
	if err != nil {
		return "", err
	}
	tx, err := t.tx()
	if err != nil {
		return "", err
	}
	registered, err := t.departments()
	if err != nil {
		return "", err
	}
	d, err := domain.RegisterDepartment(registered, who, tx, args)
	if err != nil {
		return "", err
	}
	if err := t.put(domain.KindDepartment, string(d.Code), d); err != nil {
		return "", err
	}
	return answer(d)
}

// departments reads all departments, in order of code. A range read is checked
// for phantoms at commit, so of two departments that found the consortium at
// the same time one fails.
func (t *transaction) departments() (_ []domain.Department, err error) {
	first := domain.KeyOf(domain.KindDepartment, "")
	rows, err := t.GetStub().GetStateByRange(first, first+"\x7f")
	if err != nil {
		return nil, fmt.Errorf("internal: read departments: %w", err)
	}
	defer func() {
		if closeErr := rows.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("internal: read departments: %w", closeErr)
		}
	}()
	var list []domain.Department
	for rows.HasNext() {
		row, err := rows.Next()
		if err != nil {
			return nil, fmt.Errorf("internal: read departments: %w", err)
		}
		d, err := decode[domain.Department](row.GetValue(), row.GetKey())
		if err != nil {
			return nil, err
		}
		list = append(list, *d)
	}
	return list, nil
}
