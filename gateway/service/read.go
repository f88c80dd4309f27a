package service

import (
	"context"
	"fmt"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

const (
	defaultLimit = 50
	maxLimit     = 200
)

// bounded answers page with a limit of 0 put at 50, and refuses a limit outside
// 1 to 200.
func bounded(page index.Page) (index.Page, error) {
	if page.Limit == 0 {
		page.Limit = defaultLimit
	}
	if page.Limit < 1 || page.Limit > maxLimit {
		return page, &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf("limit is %d; it must be 1 to %d", page.Limit, maxLimit)}
	}
	return page, nil
}

// get answers the current record of a kind from the index.
func get[T any](ctx context.Context, ix index.Index, kind domain.RecordKind, id string) (Written[T], error) {
	r, err := ix.Get(ctx, kind, id)
	if err != nil {
		return Written[T]{}, fmt.Errorf("read %s %s: %w", kind, id, err)
	}
	return decoded[T](r)
}

// find is [get] for a record that may be missing: then it answers nil.
func find[T any](ctx context.Context, ix index.Index, kind domain.RecordKind, id string) (*T, error) {
	r, err := get[T](ctx, ix, kind, id)
	if domain.KindOf(err) == domain.NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &r.Value, nil
}

// list answers one page of current records of a kind.
func list[T any](ctx context.Context, ix index.Index, kind domain.RecordKind, filter index.Filter, page index.Page) (Listed[T], error) {
	page, err := bounded(page)
	if err != nil {
		return Listed[T]{}, err
	}
	records, err := ix.List(ctx, kind, filter, page)
	if err != nil {
		return Listed[T]{}, fmt.Errorf("list %s records: %w", kind, err)
	}
	return listed[T](records)
}

// listAll answers every record of a kind that a consortium has few of.
func listAll[T any](ctx context.Context, ix index.Index, kind domain.RecordKind) (Listed[T], error) {
	var all Listed[T]
	page := index.Page{Limit: maxLimit}
	for {
		part, err := list[T](ctx, ix, kind, index.Filter{}, page)
		if err != nil {
			return Listed[T]{}, err
		}
		all.Items = append(all.Items, part.Items...)
		if part.Next == "" {
			return all, nil
		}
		page.After = part.Next
	}
}

// events answers one page of the events of a record, oldest first.
func events[E any](ctx context.Context, ix index.Index, kind, eventKind domain.RecordKind, id string, page index.Page) (Listed[E], error) {
	page, err := bounded(page)
	if err != nil {
		return Listed[E]{}, err
	}
	if _, err := ix.Get(ctx, kind, id); err != nil {
		return Listed[E]{}, fmt.Errorf("read %s %s: %w", kind, id, err)
	}
	records, err := ix.ListEvents(ctx, eventKind, id, page)
	if err != nil {
		return Listed[E]{}, fmt.Errorf("list events of %s %s: %w", kind, id, err)
	}
	return listed[E](records)
}

// history answers one page of the writes of a record, oldest first.
func history[T any](ctx context.Context, ix index.Index, kind domain.RecordKind, id string, page index.Page) (Listed[T], error) {
	page, err := bounded(page)
	if err != nil {
		return Listed[T]{}, err
	}
	records, err := ix.History(ctx, kind, id, page)
	if err != nil {
		return Listed[T]{}, fmt.Errorf("list the history of %s %s: %w", kind, id, err)
	}
	return listed[T](records)
}

func listed[T any](records index.Records) (Listed[T], error) {
	out := Listed[T]{Items: make([]Written[T], 0, len(records.Items)), Next: records.Next}
	for _, r := range records.Items {
		w, err := decoded[T](r)
		if err != nil {
			return Listed[T]{}, err
		}
		out.Items = append(out.Items, w)
	}
	return out, nil
}

// decoded reads a record as the chaincode wrote it. A record that does not read
// back is a fault of the index or of a newer chaincode, never the caller's: its
// error has no kind.
func decoded[T any](r index.Record) (Written[T], error) {
	w := Written[T]{Position: r.Position}
	if err := domain.ParseCanonical(r.Value, &w.Value); err != nil {
		return Written[T]{}, fmt.Errorf("indexed %s %s of block %d is unreadable: %v", r.Kind, r.ID, r.Block, err) //nolint:errorlint // drops the kind
	}
	return w, nil
}
