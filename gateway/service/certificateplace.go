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

// placeDraws is how many places drawn in a row must be taken for a list to count
// as full: one in 65,000 draws says so of a list that is half full.
const placeDraws = 16

// places draws places in a department's status lists: at random, so that a place
// says nothing about when a certificate was issued, and one list after the other, so
// that many certificates hide one another in each.
type places struct {
	mu   sync.Mutex
	list map[domain.DepartmentCode]int // that is being filled, as far as this process has seen
}

// draw answers n different status indexes of the issuer that the index knows to be
// free. The ledger has the last word.
func (p *places) draw(ctx context.Context, random io.Reader, ix index.Index, issuer domain.DepartmentCode, n int) ([]int, error) {
	p.mu.Lock()
	list := p.list[issuer]
	p.mu.Unlock()
	drawn := make(map[int]bool, n)
	out := make([]int, 0, n)
	for taken := 0; len(out) < n; {
		var b [4]byte
		if _, err := io.ReadFull(random, b[:]); err != nil {
			return nil, fmt.Errorf("draw random bits: %w", err)
		}
		// The length is a power of two: every place is equally likely.
		place := list*domain.StatusListLength + int(binary.BigEndian.Uint32(b[:])%domain.StatusListLength)
		if !drawn[place] {
			_, err := ix.Get(ctx, domain.KindStatusIndex, domain.StatusIndexID(issuer, place))
			switch {
			case domain.KindOf(err) == domain.NotFound:
				drawn[place], taken = true, 0
				out = append(out, place)
				continue
			case err != nil:
				return nil, fmt.Errorf("look for a free place in the status lists: %w", err)
			}
		}
		if taken++; taken < placeDraws {
			continue
		}
		if list++; list > domain.MaxStatusIndex/domain.StatusListLength {
			return nil, fmt.Errorf("all status lists of department %s are full", issuer)
		}
		taken = 0
		p.mu.Lock()
		if p.list == nil {
			p.list = make(map[domain.DepartmentCode]int)
		}
		p.list[issuer] = max(p.list[issuer], list)
		p.mu.Unlock()
	}
	return out, nil
}
