package chaincode

import (
	"github.com/hyperledger/fabric-contract-api-go/v2/contractapi"

	"github.com/zhenglian/zhenglian/domain"
)

// sharing holds the transactions about requests 共享申请 and grants 授权.
type sharing struct{ contractapi.Contract }

// Request asks for items of a published resource; see [domain.RequestShare].
func (*sharing) Request(t *transaction, arg string) (string, error) {
	return submit(t, arg, func(args domain.ShareRequestContent) (any, error) {
		t.want(domain.KindCatalogEntry, args.CatalogCode)
		existing, err := load[domain.ShareRequest](t, domain.KindRequest, args.ID)
		if err != nil {
			return nil, err
		}
		entry, err := t.entry(args.CatalogCode)
		if err != nil {
			return nil, err
		}
		call, err := t.call()
		if err != nil {
			return nil, err
		}
		change, err := domain.RequestShare(existing, entry, call, args)
		if err != nil {
			return nil, err
		}
		return change.Request, t.putSharing(change)
	})
}

// Accept records the check of a request; see [domain.AcceptShare].
func (*sharing) Accept(t *transaction, arg string) (string, error) {
	return changeAgreed(t, arg, func(a domain.AcceptArgs) string { return a.ID }, domain.AcceptShare)
}

// Supplement corrects a returned request; see [domain.SupplementShare].
func (*sharing) Supplement(t *transaction, arg string) (string, error) {
	return changeAgreed(t, arg, func(a domain.SupplementArgs) string { return a.Content.ID }, domain.SupplementShare)
}

// Answer records the provider's answer; see [domain.AnswerShare].
func (*sharing) Answer(t *transaction, arg string) (string, error) {
	return changeAgreed(t, arg, func(a domain.AnswerArgs) string { return a.ID }, domain.AnswerShare)
}

// Extend asks for more time to answer; see [domain.ExtendShare].
func (*sharing) Extend(t *transaction, arg string) (string, error) {
	return changeRequest(t, arg, func(a domain.ExtendArgs) string { return a.ID }, domain.ExtendShare)
}

// DecideExtension decides on an extension; see [domain.DecideExtension].
func (*sharing) DecideExtension(t *transaction, arg string) (string, error) {
	return changeRequest(t, arg, func(a domain.DecideExtensionArgs) string { return a.ID }, domain.DecideExtension)
}

// Dispute disputes a refusal or silence; see [domain.DisputeShare].
func (*sharing) Dispute(t *transaction, arg string) (string, error) {
	return changeRequest(t, arg, func(a domain.DisputeArgs) string { return a.ID }, domain.DisputeShare)
}

// Mediate decides a dispute; see [domain.MediateShare].
func (*sharing) Mediate(t *transaction, arg string) (string, error) {
	return changeRequest(t, arg, func(a domain.MediateArgs) string { return a.ID }, domain.MediateShare)
}

// Deliver records a delivery; see [domain.DeliverShare].
func (*sharing) Deliver(t *transaction, arg string) (string, error) {
	return changeRequest(t, arg, func(a domain.DeliverArgs) string { return a.ID }, domain.DeliverShare)
}

// Confirm records what the consumer says of a delivery; see
// [domain.ConfirmShare].
func (*sharing) Confirm(t *transaction, arg string) (string, error) {
	return changeRequest(t, arg, func(a domain.ConfirmArgs) string { return a.ID }, domain.ConfirmShare)
}

// Withdraw takes a request back; see [domain.WithdrawShare].
func (*sharing) Withdraw(t *transaction, arg string) (string, error) {
	return changeRequest(t, arg, byReason, domain.WithdrawShare)
}

// Close closes a request; see [domain.CloseShare].
func (*sharing) Close(t *transaction, arg string) (string, error) {
	return changeRequest(t, arg, byReason, domain.CloseShare)
}

// MarkOverdue records that a time limit has passed; see
// [domain.MarkShareOverdue].
func (*sharing) MarkOverdue(t *transaction, arg string) (string, error) {
	return changeRequest(t, arg, byID, domain.MarkShareOverdue)
}

// Get answers a request.
func (*sharing) Get(t *transaction, arg string) (string, error) {
	return get[domain.ShareRequest](t, arg, domain.KindRequest, byID)
}

// Suspend stops the use of a grant; see [domain.SuspendGrant].
func (*sharing) Suspend(t *transaction, arg string) (string, error) {
	return changeGrant(t, arg, domain.SuspendGrant)
}

// Resume ends a suspension; see [domain.ResumeGrant].
func (*sharing) Resume(t *transaction, arg string) (string, error) {
	return changeGrant(t, arg, domain.ResumeGrant)
}

// Revoke ends a grant; see [domain.RevokeGrant].
func (*sharing) Revoke(t *transaction, arg string) (string, error) {
	return changeGrant(t, arg, domain.RevokeGrant)
}

// GetGrant answers a grant.
func (*sharing) GetGrant(t *transaction, arg string) (string, error) {
	return get[domain.Grant](t, arg, domain.KindGrant, byID)
}

func byID(a domain.IDArgs) string         { return a.ID }
func byReason(a domain.ReasonArgs) string { return a.ID }

// changeRequest runs a rule on a request.
func changeRequest[A argument](t *transaction, arg string, id func(A) string, rule func(*domain.ShareRequest, domain.Call, A) (domain.SharingChange, error)) (string, error) {
	return submit(t, arg, func(args A) (any, error) {
		existing, call, err := t.request(id(args))
		if err != nil {
			return nil, err
		}
		change, err := rule(existing, call, args)
		if err != nil {
			return nil, err
		}
		return change.Request, t.putSharing(change)
	})
}

// changeAgreed runs a rule on a request that needs the catalog version asked for.
func changeAgreed[A argument](t *transaction, arg string, id func(A) string, rule func(*domain.ShareRequest, *domain.CatalogVersion, domain.Call, A) (domain.SharingChange, error)) (string, error) {
	return changeRequest(t, arg, id, func(existing *domain.ShareRequest, call domain.Call, args A) (domain.SharingChange, error) {
		var version *domain.CatalogVersion
		if existing != nil {
			var err error
			if version, err = t.catalogVersion(existing.Content.CatalogCode, existing.CatalogVersion); err != nil {
				return domain.SharingChange{}, err
			}
		}
		return rule(existing, version, call, args)
	})
}

// catalogVersion reads a version of a catalog entry, which the entry itself holds
// while it is in force; nil when there is none.
func (t *transaction) catalogVersion(code string, version int) (*domain.CatalogVersion, error) {
	id := domain.VersionID(code, version)
	t.want(domain.KindCatalogVersion, id)
	entry, err := t.entry(code)
	if err != nil {
		return nil, err
	}
	if entry != nil && entry.Version == version {
		inForce := entry.InForce()
		return &inForce, nil
	}
	return load[domain.CatalogVersion](t, domain.KindCatalogVersion, id)
}

// request reads a request, nil when there is none.
func (t *transaction) request(id string) (*domain.ShareRequest, domain.Call, error) {
	existing, err := load[domain.ShareRequest](t, domain.KindRequest, id)
	if err != nil {
		return nil, domain.Call{}, err
	}
	var running *domain.Clock
	if existing != nil {
		running = existing.Clock
	}
	call, err := t.call(running)
	return existing, call, err
}

// putSharing writes a change of a request and the grant that it makes. A request
// belongs to nobody alone, its parties and the lead write it in turn, and the
// silence of one must be recordable without it: the channel's majority endorses
// it. A grant needs the provider or the lead, who answer for it.
func (t *transaction) putSharing(change domain.SharingChange) error {
	id := change.Request.Content.ID
	if err := t.put(domain.KindRequest, id, change.Request); err != nil {
		return err
	}
	if err := t.put(domain.KindRequestEvent, domain.EventID(id, change.Event.Seq), change.Event); err != nil {
		return err
	}
	if change.Grant == nil {
		return nil
	}
	return t.putGrant(domain.GrantChange{Grant: *change.Grant, Event: *change.GrantEvent})
}

// changeGrant runs a rule on a grant.
func changeGrant(t *transaction, arg string, rule func(*domain.Grant, domain.Call, domain.ReasonArgs) (domain.GrantChange, error)) (string, error) {
	return submit(t, arg, func(args domain.ReasonArgs) (any, error) {
		existing, err := load[domain.Grant](t, domain.KindGrant, args.ID)
		if err != nil {
			return nil, err
		}
		call, err := t.call()
		if err != nil {
			return nil, err
		}
		change, err := rule(existing, call, args)
		if err != nil {
			return nil, err
		}
		return change.Grant, t.putGrant(change)
	})
}

// putGrant writes a change of a grant.
func (t *transaction) putGrant(change domain.GrantChange) error {
	grant, event := change.Grant, change.Event
	policy, err := t.endorsedBy(grant.Provider, t.members.Lead)
	if err != nil {
		return err
	}
	if event.Seq == 1 {
		err = t.create(domain.KindGrant, grant.ID, grant, policy)
	} else {
		err = t.put(domain.KindGrant, grant.ID, grant)
	}
	if err != nil {
		return err
	}
	return t.create(domain.KindGrantEvent, domain.EventID(grant.ID, event.Seq), event, policy)
}
