package service

import (
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

// SetContactEvery changes how often the indexer asks for heights.
func (x *Indexer) SetContactEvery(d time.Duration) { x.every = d }

// Rule answers who may run a transaction, in words.
func Rule(transaction string) string { return duties[transaction].rule }

// SetLookUpFor changes how long the outcome of an anchor is looked for.
func (a *Anchorer) SetLookUpFor(d time.Duration) { a.lookUpFor = d }

// Fresh reports whether the index speaks for now.
func (x *Indexer) Fresh(now time.Time) bool { return fresh(x.LastHeard(), now) }

// SetClock changes what the anchorer takes for now.
func (a *Anchorer) SetClock(clock func() time.Time) { a.clock = clock }

// AnchorCounts answers the counts that an anchor lists.
func AnchorCounts(counts []domain.GrantCount) []domain.GrantCount { return anchorCounts(counts) }
