package service

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/interchange"
)

// Export writes the entries that filter admits, in order of code, to w: as
// [interchange.DCATAP] or [interchange.CSV]. It holds a page of them at a time.
// Before it writes anything it refuses an unknown format as invalid; what an
// error leaves in w later is not whole.
func (c *Catalog) Export(ctx context.Context, format string, w io.Writer, filter index.Filter) error {
	var err error
	switch interchange.Format(format) {
	case interchange.CSV:
		err = interchange.WriteCSV(w, c.contents(ctx, filter))
	case interchange.DCATAP:
		var meta interchange.CatalogMeta
		if meta, err = c.exportMeta(ctx); err == nil {
			err = interchange.WriteDCAT(w, meta, c.contents(ctx, filter))
		}
	case interchange.DCATUS, interchange.RiikEE: // read only
		return &domain.Error{Kind: domain.Invalid, Msg: "format: can be read, not written"}
	default:
		return &domain.Error{Kind: domain.Invalid, Msg: "format: not one of " + string(interchange.DCATAP) + ", " + string(interchange.CSV)}
	}
	if err != nil {
		return fmt.Errorf("export the catalog: %w", err)
	}
	return nil
}

// contents answers the content of every entry that filter admits. An error ends
// it.
func (c *Catalog) contents(ctx context.Context, filter index.Filter) iter.Seq2[domain.CatalogContent, error] {
	return func(yield func(domain.CatalogContent, error) bool) {
		page := index.Page{Limit: maxLimit}
		for {
			part, err := c.List(ctx, filter, page)
			if err != nil {
				yield(domain.CatalogContent{}, err)
				return
			}
			for _, e := range part.Items {
				if !yield(e.Value.Content, nil) {
					return
				}
			}
			if page.After = part.Next; page.After == "" {
				return
			}
		}
	}
}

// exportMeta describes the catalog: the lead keeps it, each department publishes
// its own entries.
func (c *Catalog) exportMeta(ctx context.Context) (interchange.CatalogMeta, error) {
	departments, err := listAll[domain.Department](ctx, c.index, domain.KindDepartment)
	if err != nil {
		return interchange.CatalogMeta{}, err
	}
	address := strings.TrimSuffix(c.PublicURL, "/") + "/v1/catalog"
	meta := interchange.CatalogMeta{
		ID: address, EntryAddress: address + "/entries/",
		Title: "政务数据共享目录", Description: "政务信息资源目录，由各提供部门登记、主管部门审核",
		Publishers: make(map[string]string, len(departments.Items)),
	}
	for _, d := range departments.Items {
		meta.Publishers[d.Value.USCC] = d.Value.NameZh
		if d.Value.Lead {
			meta.PublisherID = d.Value.USCC
		}
	}
	return meta, nil
}
