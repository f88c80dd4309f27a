package service

import (
	"context"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

// changeGrant runs a transaction on a grant.
func (s *Sharing) changeGrant(ctx context.Context, caller Caller, transaction, what string, args domain.ReasonArgs) (Written[domain.Grant], error) {
	return write[domain.Grant](ctx, s.ledger, s.index, caller, transaction, what, args)
}

// Suspend stops the use of a grant until it is resumed.
func (s *Sharing) Suspend(ctx context.Context, caller Caller, args domain.ReasonArgs) (Written[domain.Grant], error) {
	return s.changeGrant(ctx, caller, "sharing:Suspend", "suspend grants", args)
}

// Resume ends a suspension.
func (s *Sharing) Resume(ctx context.Context, caller Caller, args domain.ReasonArgs) (Written[domain.Grant], error) {
	return s.changeGrant(ctx, caller, "sharing:Resume", "resume grants", args)
}

// Revoke ends a grant for ever.
func (s *Sharing) Revoke(ctx context.Context, caller Caller, args domain.ReasonArgs) (Written[domain.Grant], error) {
	return s.changeGrant(ctx, caller, "sharing:Revoke", "revoke grants", args)
}

// GetGrant answers the grant with this ID, from the index.
func (s *Sharing) GetGrant(ctx context.Context, id string) (Written[domain.Grant], error) {
	return get[domain.Grant](ctx, s.index, domain.KindGrant, id)
}

// ListGrants answers grants in order of ID, from the index.
func (s *Sharing) ListGrants(ctx context.Context, filter index.Filter, page index.Page) (Listed[domain.Grant], error) {
	return list[domain.Grant](ctx, s.index, domain.KindGrant, filter, page)
}

// GrantHistory answers every step of a grant, oldest first, from the index.
func (s *Sharing) GrantHistory(ctx context.Context, id string, page index.Page) (Listed[domain.GrantEvent], error) {
	return events[domain.GrantEvent](ctx, s.index, domain.KindGrant, domain.KindGrantEvent, id, page)
}
