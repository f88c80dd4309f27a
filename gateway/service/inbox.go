package service

import (
	"context"
	"fmt"
	"slices"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

// inboxDuty admits everyone: what waits for a department is no secret in it.
var inboxDuty = duty{rule: "the inbox is for any role of the department whose it is", roles: domain.Roles}

// InboxItem is one thing that waits for the department.
type InboxItem struct {
	Kind    domain.RecordKind // catalog, request or certificate
	ID      string
	Title   string // the resource's name, or the certificate's type
	State   string // of the record, as stored
	Task    domain.Task
	Overdue bool
	domain.Position
}

// InboxItems is one page of an inbox, in order of the due time, none last.
type InboxItems struct {
	Items []InboxItem
	Next  string // cursor of the next page; "" on the last
}

// Inbox answers what waits for the caller's department. The filter's Role and
// OverdueOnly narrow it; the rest of it follows from the caller and the clock.
func (o *Overview) Inbox(ctx context.Context, caller Caller, filter index.InboxFilter, page index.Page) (InboxItems, error) {
	if err := inboxDuty.allow(caller, "read the inbox"); err != nil {
		return InboxItems{}, err
	}
	if filter.Role != "" && !slices.Contains(domain.Roles, filter.Role) {
		return InboxItems{}, &domain.Error{Kind: domain.Invalid, Msg: "role: not a role"}
	}
	page, err := bounded(page)
	if err != nil {
		return InboxItems{}, err
	}
	members, err := find[domain.Members](ctx, o.index, domain.KindMembers, domain.MembersID)
	if err != nil {
		return InboxItems{}, err
	}
	filter.Department, filter.Now = caller.Department, o.clock()
	filter.Lead = members != nil && members.Lead == caller.Department
	records, err := o.index.Inbox(ctx, filter, page)
	if err != nil {
		return InboxItems{}, fmt.Errorf("read the inbox: %w", err)
	}
	out := InboxItems{Items: make([]InboxItem, len(records.Items)), Next: records.Next}
	names := make(map[string]string)
	for i, r := range records.Items {
		item, err := o.inboxItem(ctx, r.Record, names)
		if err != nil {
			return InboxItems{}, err
		}
		item.Task = r.Task
		item.Overdue = r.Task.DueAt != nil && !filter.Now.Before(*r.Task.DueAt)
		out.Items[i] = item
	}
	return out, nil
}

// inboxItem reads title and state of a record that waits. names holds the names
// of resources by code, as far as they were asked.
func (o *Overview) inboxItem(ctx context.Context, r index.Record, names map[string]string) (InboxItem, error) {
	item := InboxItem{Kind: r.Kind, ID: r.ID, Position: r.Position}
	if r.Kind == domain.KindCatalogEntry {
		entry, err := decoded[domain.CatalogEntry](r)
		item.Title, item.State = entry.Value.Content.Name, string(entry.Value.State)
		return item, err
	}
	if r.Kind == domain.KindCertificate {
		c, err := decoded[domain.Certificate](r)
		item.Title, item.State = c.Value.Content.TypeNameZh, string(c.Value.Status)
		return item, err
	}
	request, err := decoded[domain.ShareRequest](r)
	if err != nil {
		return InboxItem{}, err
	}
	code := request.Value.Content.CatalogCode
	if _, ok := names[code]; !ok {
		entry, err := get[domain.CatalogEntry](ctx, o.index, domain.KindCatalogEntry, code)
		if err != nil {
			return InboxItem{}, err
		}
		names[code] = entry.Value.Content.Name
	}
	item.Title, item.State = names[code], string(request.Value.State)
	return item, nil
}
