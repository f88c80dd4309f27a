package service

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// Catalog registers, reviews, publishes, changes, retires and finds catalog
// entries. It is safe for concurrent use.
type Catalog struct {
	// PublicURL is what the identifiers in an export begin with, for example
	// "https://zheng.example". Set it before the first use only.
	PublicURL string

	ledger ledger.Ledger
	index  index.Index
}

// NewCatalog returns the catalog's use cases.
func NewCatalog(l ledger.Ledger, ix index.Index) *Catalog { return &Catalog{ledger: l, index: ix} }

// change runs a transaction on one entry.
func (c *Catalog) change(ctx context.Context, caller Caller, transaction, what string, args argument) (Written[domain.CatalogEntry], error) {
	return write[domain.CatalogEntry](ctx, c.ledger, c.index, caller, transaction, what, args)
}

// changeMany runs a transaction on many entries, all or none.
func (c *Catalog) changeMany(ctx context.Context, caller Caller, transaction, what string, args argument) (Written[domain.BatchResult], error) {
	return write[domain.BatchResult](ctx, c.ledger, c.index, caller, transaction, what, args)
}

// Register declares a data resource of the caller's department: a new entry, or
// new content for its own draft or for one that was rejected.
func (c *Catalog) Register(ctx context.Context, caller Caller, args domain.RegisterCatalogArgs) (Written[domain.CatalogEntry], error) {
	return c.change(ctx, caller, "catalog:Register", "register catalog entries", args)
}

// RegisterBatch declares many resources of the caller's department, all or none.
func (c *Catalog) RegisterBatch(ctx context.Context, caller Caller, args domain.RegisterBatchArgs) (Written[domain.BatchResult], error) {
	return c.changeMany(ctx, caller, "catalog:RegisterBatch", "register catalog entries", args)
}

// Submit submits a draft for the review of its registration.
func (c *Catalog) Submit(ctx context.Context, caller Caller, code string) (Written[domain.CatalogEntry], error) {
	return c.change(ctx, caller, "catalog:Submit", "submit catalog entries", domain.CodeArgs{Code: code})
}

// Review approves or returns an entry that awaits review.
func (c *Catalog) Review(ctx context.Context, caller Caller, args domain.ReviewCatalogArgs) (Written[domain.CatalogEntry], error) {
	return c.change(ctx, caller, "catalog:Review", "review catalog entries", args)
}

// ReviewBatch gives one decision on many entries, all or none.
func (c *Catalog) ReviewBatch(ctx context.Context, caller Caller, args domain.ReviewBatchArgs) (Written[domain.BatchResult], error) {
	return c.changeMany(ctx, caller, "catalog:ReviewBatch", "review catalog entries", args)
}

// Publish submits an entry for the review of its publication.
func (c *Catalog) Publish(ctx context.Context, caller Caller, code string) (Written[domain.CatalogEntry], error) {
	return c.change(ctx, caller, "catalog:Publish", "publish catalog entries", domain.CodeArgs{Code: code})
}

// PublishBatch submits many entries for the review of their publication, all or
// none.
func (c *Catalog) PublishBatch(ctx context.Context, caller Caller, args domain.CodesArgs) (Written[domain.BatchResult], error) {
	return c.changeMany(ctx, caller, "catalog:PublishBatch", "publish catalog entries", args)
}

// Change submits new content for a published entry.
func (c *Catalog) Change(ctx context.Context, caller Caller, args domain.ChangeCatalogArgs) (Written[domain.CatalogEntry], error) {
	return c.change(ctx, caller, "catalog:Change", "change catalog entries", args)
}

// Retire takes an entry offline after review, or withdraws it.
func (c *Catalog) Retire(ctx context.Context, caller Caller, args domain.RetireCatalogArgs) (Written[domain.CatalogEntry], error) {
	return c.change(ctx, caller, "catalog:Retire", "retire catalog entries", args)
}

// RequireUpdate starts the time limit within which an entry must follow a change
// of duties.
func (c *Catalog) RequireUpdate(ctx context.Context, caller Caller, args domain.RequireUpdateArgs) (Written[domain.CatalogEntry], error) {
	return c.change(ctx, caller, "catalog:RequireUpdate", "require updates of catalog entries", args)
}

// MarkOverdue records that the review or the update of an entry is overdue.
func (c *Catalog) MarkOverdue(ctx context.Context, caller Caller, code string) (Written[domain.CatalogEntry], error) {
	return c.change(ctx, caller, "catalog:MarkOverdue", "record overdue catalog entries", domain.CodeArgs{Code: code})
}

// Validate answers what registering the content would be refused for, as far as
// the content and the index tell, and writes nothing. The provider is the
// department with the content's code. Its error is that of
// [domain.RegisterCatalog], nil when there is nothing to refuse.
func (c *Catalog) Validate(ctx context.Context, content domain.CatalogContent) error {
	provider, err := c.department(ctx, content.ProviderUSCC)
	if err != nil {
		return err
	}
	existing, err := find[domain.CatalogEntry](ctx, c.index, domain.KindCatalogEntry, content.Code)
	if err != nil {
		return err
	}
	if provider.Code == "" || existing != nil && existing.Provider == provider.Code {
		existing = nil // nobody's, or in which state it is does not make the content wrong
	}
	name, err := find[string](ctx, c.index, domain.KindCatalogName, domain.CatalogNameID(provider.Code, content.Name))
	if err != nil {
		return err
	}
	taken := ""
	if name != nil {
		taken = *name
	}
	missing, err := c.missing(ctx, content.RelatedCodes)
	if err != nil {
		return err
	}
	// A draft starts no time limit, so the rule needs neither calendar nor clock.
	call := domain.Call{Who: domain.Caller{Department: provider.Code, MSPID: provider.MSPID, Role: domain.RoleOperator}, Dept: provider}
	_, err = domain.RegisterCatalog(existing, taken, missing, call, domain.RegisterCatalogArgs{Content: content, Draft: true})
	return err
}

// department answers the department with a unified social credit code, the zero
// one when there is none.
func (c *Catalog) department(ctx context.Context, uscc string) (domain.Department, error) {
	all, err := listAll[domain.Department](ctx, c.index, domain.KindDepartment)
	if err != nil {
		return domain.Department{}, err
	}
	for _, d := range all.Items {
		if d.Value.USCC == uscc {
			return d.Value, nil
		}
	}
	return domain.Department{}, nil
}

// missing answers which of codes are not recorded.
func (c *Catalog) missing(ctx context.Context, codes []string) ([]string, error) {
	var missing []string
	for _, code := range codes[:min(len(codes), domain.MaxItems)] {
		entry, err := find[domain.CatalogEntry](ctx, c.index, domain.KindCatalogEntry, code)
		if err != nil {
			return nil, err
		}
		if entry == nil {
			missing = append(missing, code)
		}
	}
	return missing, nil
}

// Get answers the current entry with this code, from the index.
func (c *Catalog) Get(ctx context.Context, code string) (Written[domain.CatalogEntry], error) {
	return get[domain.CatalogEntry](ctx, c.index, domain.KindCatalogEntry, code)
}

// List answers current entries in order of code, from the index.
func (c *Catalog) List(ctx context.Context, filter index.Filter, page index.Page) (Listed[domain.CatalogEntry], error) {
	return list[domain.CatalogEntry](ctx, c.index, domain.KindCatalogEntry, filter, page)
}

// Version answers version n of the entry's content, from the index: the entry
// itself holds the one in force.
func (c *Catalog) Version(ctx context.Context, code string, n int) (Written[domain.CatalogVersion], error) {
	entry, err := get[domain.CatalogEntry](ctx, c.index, domain.KindCatalogEntry, code)
	if err != nil {
		return Written[domain.CatalogVersion]{}, err
	}
	if entry.Value.Version == n {
		return Written[domain.CatalogVersion]{Value: entry.Value.InForce(), Position: entry.Position}, nil
	}
	return get[domain.CatalogVersion](ctx, c.index, domain.KindCatalogVersion, domain.VersionID(code, n))
}

// CatalogStep is one step of a catalog entry.
type CatalogStep struct {
	Entry   Written[domain.CatalogEntry] // after the step
	Changes []domain.FieldChange         // nil unless the step made a version that another came before
}

// CatalogHistory is one page of the steps of a catalog entry, oldest first.
type CatalogHistory struct {
	Items []CatalogStep
	Next  string // cursor of the next page; "" on the last
}

// History answers every step of the entry, oldest first. A step that made a
// version tells what is different from the version that it is to replace.
func (c *Catalog) History(ctx context.Context, code string, page index.Page) (CatalogHistory, error) {
	page, err := bounded(page)
	if err != nil {
		return CatalogHistory{}, err
	}
	before, page, err := afterStep(page)
	if err != nil {
		return CatalogHistory{}, err
	}
	if _, err := get[domain.CatalogEntry](ctx, c.index, domain.KindCatalogEntry, code); err != nil {
		return CatalogHistory{}, err
	}
	steps, err := history[domain.CatalogEntry](ctx, c.index, domain.KindCatalogEntry, code, page)
	if err != nil {
		return CatalogHistory{}, err
	}
	out := CatalogHistory{Items: make([]CatalogStep, len(steps.Items)), Next: steps.Next}
	for i := range steps.Items {
		step := CatalogStep{Entry: steps.Items[i]}
		entry := step.Entry.Value
		if before.Version > 0 && entry.LastVersion > before.LastVersion {
			if step.Changes, err = c.changes(ctx, code, before.Version, entry.LastVersion); err != nil {
				return CatalogHistory{}, fmt.Errorf("compare versions of catalog entry %s: %w", code, err)
			}
		}
		before = versionsOf{entry.Version, entry.LastVersion}
		out.Items[i] = step
	}
	if out.Next != "" {
		out.Next = fmt.Sprintf("%d.%d.%s", before.Version, before.LastVersion, out.Next)
	}
	return out, nil
}

// versionsOf are the versions of an entry after a step: the zero value before the
// first. A page's cursor carries those of its last step, for the step after it.
type versionsOf struct{ Version, LastVersion int }

func afterStep(page index.Page) (versionsOf, index.Page, error) {
	var before versionsOf
	if page.After == "" {
		return before, page, nil
	}
	parts := strings.SplitN(page.After, ".", 3)
	if len(parts) == 3 {
		var errs [2]error
		before.Version, errs[0] = strconv.Atoi(parts[0])
		before.LastVersion, errs[1] = strconv.Atoi(parts[1])
		page.After = parts[2]
		if errors.Join(errs[:]...) == nil && before.Version > 0 && before.LastVersion >= before.Version {
			return before, page, nil
		}
	}
	return before, page, &domain.Error{Kind: domain.Invalid, Msg: "the cursor is not one that this list gave"}
}

// changes answers what differs between two versions of an entry.
func (c *Catalog) changes(ctx context.Context, code string, from, to int) ([]domain.FieldChange, error) {
	before, err := c.Version(ctx, code, from)
	if err != nil {
		return nil, err
	}
	after, err := c.Version(ctx, code, to)
	if err != nil {
		return nil, err
	}
	return domain.DiffContent(before.Value.Content, after.Value.Content), nil
}
