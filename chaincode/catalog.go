package chaincode

import (
	"github.com/hyperledger/fabric-contract-api-go/v2/contractapi"

	"github.com/zhenglian/zhenglian/domain"
)

// catalog holds the transactions about catalog entries 目录条目.
type catalog struct{ contractapi.Contract }

// Register records a resource; see [domain.RegisterCatalog].
func (*catalog) Register(t *transaction, arg string) (string, error) {
	args, err := parse[domain.RegisterCatalogArgs](arg)
	if err != nil {
		return "", err
	}
	who, dept, tx, err := t.begin()
	if err != nil {
		return "", err
	}
	code := args.Content.Code
	existing, err := load[domain.CatalogEntry](t, domain.KindCatalogEntry, code)
	if err != nil {
		return "", err
	}
	entry, version, err := domain.RegisterCatalog(existing, who, dept, tx, args)
	if err != nil {
		return "", err
	}
	if err := t.put(domain.KindCatalogEntry, code, entry); err != nil {
		return "", err
	}
	if err := t.put(domain.KindCatalogVersion, domain.VersionID(code, version.Version), version); err != nil {
		return "", err
	}
	return answer(entry)
}

// Review records the lead's decision; see [domain.ReviewCatalog].
func (*catalog) Review(t *transaction, arg string) (string, error) {
	args, err := parse[domain.ReviewCatalogArgs](arg)
	if err != nil {
		return "", err
	}
	who, dept, tx, err := t.begin()
	if err != nil {
		return "", err
	}
	existing, err := load[domain.CatalogEntry](t, domain.KindCatalogEntry, args.Code)
	if err != nil {
		return "", err
	}
	entry, err := domain.ReviewCatalog(existing, who, dept, tx, args)
	if err != nil {
		return "", err
	}
	if err := t.put(domain.KindCatalogEntry, args.Code, entry); err != nil {
		return "", err
	}
	return answer(entry)
}

// Publish offers an approved entry; see [domain.PublishCatalog].
func (*catalog) Publish(t *transaction, arg string) (string, error) {
	args, err := parse[domain.CodeArgs](arg)
	if err != nil {
		return "", err
	}
	who, _, tx, err := t.begin()
	if err != nil {
		return "", err
	}
	existing, err := load[domain.CatalogEntry](t, domain.KindCatalogEntry, args.Code)
	if err != nil {
		return "", err
	}
	entry, err := domain.PublishCatalog(existing, who, tx, args)
	if err != nil {
		return "", err
	}
	if err := t.put(domain.KindCatalogEntry, args.Code, entry); err != nil {
		return "", err
	}
	return answer(entry)
}

// Get answers an entry.
func (*catalog) Get(t *transaction, arg string) (string, error) {
	args, err := parse[domain.CodeArgs](arg)
	if err != nil {
		return "", err
	}
	return get[domain.CatalogEntry](t, domain.KindCatalogEntry, args.Code)
}
