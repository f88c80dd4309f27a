package service

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

// placeDraws is how many draws in a row must find no free place for a list to count
// as full.
const placeDraws = 16

// places draws places in a department's status lists: at random, so that a place
// says nothing about when a certificate was issued, and one list after the other, so
// that many certificates hide one another in each. Certificates that are issued
// together stand together, as they bear one date.
type places struct {
	mu   sync.Mutex
	list map[domain.DepartmentCode]int // that is being filled, as far as this process has seen
}

// draw answers n different status indexes of the issuer that the index knows to be
// free, many of them from one record of taken places. The ledger has the last word.
func (p *places) draw(ctx context.Context, random io.Reader, ix index.Index, issuer domain.DepartmentCode, n int) ([]int, error) {
	const records = domain.StatusListLength / domain.StatusPlacesLength // of one list; a power of two: each is equally likely
	p.mu.Lock()
	list := p.list[issuer]
	p.mu.Unlock()
	drawn := make(map[int]bool)
	out := make([]int, 0, n)
	for full := 0; len(out) < n; {
		var b [4]byte
		if _, err := io.ReadFull(random, b[:]); err != nil {
			return nil, fmt.Errorf("draw random bits: %w", err)
		}
		bits := int(binary.BigEndian.Uint32(b[:]))
		first := (list*records + bits%records) * domain.StatusPlacesLength
		free, err := freePlaces(ctx, ix, issuer, first)
		if err != nil {
			return nil, err
		}
		if len(free) > 0 && !drawn[first] {
			drawn[first], full = true, 0
			start := bits / records % len(free)
			for i := range min(len(free), n-len(out)) {
				out = append(out, free[(start+i)%len(free)])
			}
			continue
		}
		if full++; full < placeDraws {
			continue
		}
		if list++; list > domain.MaxStatusIndex/domain.StatusListLength {
			return nil, fmt.Errorf("all status lists of department %s are full", issuer)
		}
		full = 0
		p.mu.Lock()
		if p.list == nil {
			p.list = make(map[domain.DepartmentCode]int)
		}
		p.list[issuer] = max(p.list[issuer], list)
		p.mu.Unlock()
	}
	return out, nil
}

// freePlaces are those that the index knows to be free of the places that one
// record of taken ones covers, the first of which is first.
func freePlaces(ctx context.Context, ix index.Index, issuer domain.DepartmentCode, first int) ([]int, error) {
	taken, err := find[domain.StatusPlaces](ctx, ix, domain.KindStatusPlaces, domain.StatusPlacesID(issuer, first))
	if err != nil {
		return nil, fmt.Errorf("look for a free place in the status lists: %w", err)
	}
	var free []int
	for place := first; place < first+domain.StatusPlacesLength; place++ {
		if !taken.Has(place) {
			free = append(free, place)
		}
	}
	return free, nil
}
