package chaincode

import (
	"github.com/hyperledger/fabric-contract-api-go/v2/contractapi"

	"github.com/zhenglian/zhenglian/domain"
)

// sharing holds the transactions about requests 共享申请 and grants 授权.
type sharing struct{ contractapi.Contract }

// Request asks for items of a published resource; see [domain.RequestShare].
func (*sharing) Request(t *transaction, arg string) (string, error) {
	args, err := parse[domain.ShareRequestContent](arg)
	if err != nil {
		return "", err
	}
	who, _, tx, err := t.begin()
	if err != nil {
		return "", err
	}
	existing, err := load[domain.ShareRequest](t, domain.KindRequest, args.ID)
	if err != nil {
		return "", err
	}
	entry, err := load[domain.CatalogEntry](t, domain.KindCatalogEntry, args.CatalogCode)
	if err != nil {
		return "", err
	}
	request, event, err := domain.RequestShare(existing, who, tx, entry, args)
	if err != nil {
		return "", err
	}
	return t.putRequest(request, event)
}

// Answer records the provider's answer and, if it agrees, the grant; see
// [domain.AnswerShare].
func (*sharing) Answer(t *transaction, arg string) (string, error) {
	args, err := parse[domain.AnswerArgs](arg)
	if err != nil {
		return "", err
	}
	who, _, tx, err := t.begin()
	if err != nil {
		return "", err
	}
	existing, err := load[domain.ShareRequest](t, domain.KindRequest, args.ID)
	if err != nil {
		return "", err
	}
	var version *domain.CatalogVersion
	if existing != nil {
		id := domain.VersionID(existing.Content.CatalogCode, existing.CatalogVersion)
		if version, err = load[domain.CatalogVersion](t, domain.KindCatalogVersion, id); err != nil {
			return "", err
		}
	}
	request, event, grant, err := domain.AnswerShare(existing, who, tx, version, args)
	if err != nil {
		return "", err
	}
	if grant != nil {
		if err := t.put(domain.KindGrant, grant.ID, grant); err != nil {
			return "", err
		}
	}
	return t.putRequest(request, event)
}

func (t *transaction) putRequest(request domain.ShareRequest, event domain.RequestEvent) (string, error) {
	id := request.Content.ID
	if err := t.put(domain.KindRequest, id, request); err != nil {
		return "", err
	}
	if err := t.put(domain.KindRequestEvent, domain.EventID(id, event.Seq), event); err != nil {
		return "", err
	}
	return answer(request)
}

// GetGrant answers a grant.
func (*sharing) GetGrant(t *transaction, arg string) (string, error) {
	args, err := parse[domain.IDArgs](arg)
	if err != nil {
		return "", err
	}
	return get[domain.Grant](t, domain.KindGrant, args.ID)
}
