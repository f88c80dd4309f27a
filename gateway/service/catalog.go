package service

import (
	"context"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// Catalog registers, reviews, publishes and finds catalog entries. It is safe
// for concurrent use.
type Catalog struct {
	ledger ledger.Ledger
	index  index.Index
}

// NewCatalog returns the catalog's use cases.
func NewCatalog(l ledger.Ledger, ix index.Index) *Catalog { return &Catalog{ledger: l, index: ix} }

// Register declares a data resource of the caller's department: a new entry, or
// a new version of one that was returned.
func (c *Catalog) Register(ctx context.Context, caller Caller, content domain.CatalogContent) (Written[domain.CatalogEntry], error) {
	return write[domain.CatalogEntry](ctx, c.ledger, c.index, caller, "catalog:Register", "register catalog entries", domain.RegisterCatalogArgs{Content: content})
}

// Review approves or returns an entry that awaits review.
func (c *Catalog) Review(ctx context.Context, caller Caller, args domain.ReviewCatalogArgs) (Written[domain.CatalogEntry], error) {
	return write[domain.CatalogEntry](ctx, c.ledger, c.index, caller, "catalog:Review", "review catalog entries", args)
}

// Publish makes a registered entry requestable.
func (c *Catalog) Publish(ctx context.Context, caller Caller, code string) (Written[domain.CatalogEntry], error) {
	return write[domain.CatalogEntry](ctx, c.ledger, c.index, caller, "catalog:Publish", "publish catalog entries", domain.CodeArgs{Code: code})
}

// Get answers the current entry with this code, from the index.
func (c *Catalog) Get(ctx context.Context, code string) (Written[domain.CatalogEntry], error) {
	return get[domain.CatalogEntry](ctx, c.index, domain.KindCatalogEntry, code)
}

// List answers current entries in order of code, from the index.
func (c *Catalog) List(ctx context.Context, filter index.Filter, page index.Page) (Listed[domain.CatalogEntry], error) {
	return list[domain.CatalogEntry](ctx, c.index, domain.KindCatalogEntry, filter, page)
}

// History answers every state that the entry was ever in, oldest first.
func (c *Catalog) History(ctx context.Context, code string, page index.Page) (Listed[domain.CatalogEntry], error) {
	return history[domain.CatalogEntry](ctx, c.index, domain.KindCatalogEntry, code, page)
}
