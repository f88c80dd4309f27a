package service

import (
	"time"

	"github.com/zhenglian/zhenglian/gateway/index"
)

// Overview says what waits for a department and how well catalog and sharing go,
// from the index. It is safe for concurrent use.
type Overview struct {
	index index.Index
	clock func() time.Time
}

// NewOverview returns the use cases that look at many records at once.
func NewOverview(ix index.Index, clock func() time.Time) *Overview {
	return &Overview{index: ix, clock: clock}
}
