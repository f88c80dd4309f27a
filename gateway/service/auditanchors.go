package service

import (
	"context"
	"fmt"
	"sync"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

// AnchorSource says what the ledger anchors of the departments' logs.
type AnchorSource interface {
	// After answers the next anchors of more than size entries, smallest first;
	// none when there is no such anchor.
	After(ctx context.Context, department domain.DepartmentCode, size uint64) ([]domain.Anchor, error)
	// Get answers the anchor of a size; an error of kind not_found when there is
	// none.
	Get(ctx context.Context, department domain.DepartmentCode, size uint64) (domain.Anchor, error)
}

// IndexAnchors answers the anchors from an index.
func IndexAnchors(ix index.Index) AnchorSource {
	return &indexAnchors{index: ix, places: make(map[domain.DepartmentCode]anchorPlace)}
}

// indexAnchors remembers where it was in each list, because whoever asks on asks
// for what comes next.
type indexAnchors struct {
	index index.Index

	mu     sync.Mutex
	places map[domain.DepartmentCode]anchorPlace
}

// anchorPlace is a cursor behind which all anchors of more than size entries are.
type anchorPlace struct {
	after string
	size  uint64
}

// After implements [AnchorSource].
func (s *indexAnchors) After(ctx context.Context, department domain.DepartmentCode, size uint64) ([]domain.Anchor, error) {
	s.mu.Lock()
	place := s.places[department]
	s.mu.Unlock()
	if place.size > size {
		place = anchorPlace{}
	}
	for {
		records, err := s.index.ListEvents(ctx, domain.KindAnchor, string(department), index.Page{Limit: maxLimit, After: place.after})
		if err != nil {
			return nil, fmt.Errorf("list the anchors of the log of %s: %w", department, err)
		}
		page, err := listed[domain.Anchor](records)
		if err != nil {
			return nil, err
		}
		var found []domain.Anchor
		for _, a := range page.Items {
			if a.Value.Size > size {
				found = append(found, a.Value)
			}
		}
		if len(found) > 0 || page.Next == "" {
			s.mu.Lock()
			s.places[department] = place
			s.mu.Unlock()
			return found, nil
		}
		place = anchorPlace{after: page.Next, size: page.Items[len(page.Items)-1].Value.Size}
	}
}

// Get implements [AnchorSource].
func (s *indexAnchors) Get(ctx context.Context, department domain.DepartmentCode, size uint64) (domain.Anchor, error) {
	a, err := get[domain.Anchor](ctx, s.index, domain.KindAnchor, domain.AnchorID(department, size))
	return a.Value, err
}
