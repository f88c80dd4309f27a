package outbox

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// The bounds of what callers are told to wait.
const (
	leastRetry = time.Second
	mostRetry  = 30 * time.Second
)

// places bound how many writes are in hand at one time. Who finds none may line up:
// places that come free are given out in that order. It is safe for concurrent use.
type places struct {
	most  int
	clock func() time.Time

	mu    sync.Mutex
	start time.Time     // what since is counted from
	held  int           // more than most only by what may not wait
	since time.Duration // sum over those held of when they were given out
	usual time.Duration // that a place was held lately; 0: none was given back yet
	line  []*place
	turns uint64 // that were asked for
}

// place is a place, or a turn in the line for one.
type place struct {
	given chan struct{} // closed when it is held
	turn  uint64        // its number in the line
	at    time.Time     // when it was given out
	left  bool
}

func newPlaces(most int, clock func() time.Time) *places {
	return &places{most: most, clock: clock, start: clock()}
}

// take answers a place, nil if there is none or others wait for one.
func (p *places) take() *place {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held >= p.most {
		return nil
	}
	return p.give(&place{given: make(chan struct{})})
}

// force answers a place even when there is none.
func (p *places) force() *place {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.give(&place{given: make(chan struct{})})
}

// lineUp answers a place, or a turn for one.
func (p *places) lineUp() *place {
	p.mu.Lock()
	defer p.mu.Unlock()
	turn := &place{given: make(chan struct{}), turn: p.turns}
	if p.held < p.most {
		return p.give(turn)
	}
	p.turns++
	p.line = append(p.line, turn)
	return turn
}

func (p *places) give(to *place) *place {
	to.at = p.clock()
	p.held++
	p.since += to.at.Sub(p.start)
	close(to.given)
	return to
}

// has reports whether the place is held, not waited for.
func (p *place) has() bool {
	select {
	case <-p.given:
		return true
	default:
		return false
	}
}

// leave gives a place back, or a turn up, unless that was done before.
func (p *places) leave(from *place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if from.left {
		return
	}
	from.left = true
	if i, waits := p.ahead(from); waits {
		p.line = slices.Delete(p.line, i, i+1)
		return
	}
	held := p.clock().Sub(from.at)
	if p.usual == 0 {
		p.usual = held
	}
	p.usual += (held - p.usual) / 8 // a moving mean
	p.held--
	p.since -= from.at.Sub(p.start)
	for p.held < p.most && len(p.line) > 0 {
		next := p.line[0]
		p.line[0] = nil // keeps no turn in memory
		p.line = p.line[1:]
		p.give(next)
	}
}

// ahead answers how many wait before turn, if it waits.
func (p *places) ahead(turn *place) (n int, waits bool) {
	if turn.has() {
		return 0, false
	}
	return slices.BinarySearchFunc(p.line, turn.turn, func(other *place, number uint64) int { return cmp.Compare(other.turn, number) })
}

// count answers how many places are held, and how many turns wait for one.
func (p *places) count() (held, waiting int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held, len(p.line)
}

// wait answers about how long a write takes from now on that has this turn, or that
// comes last if turn is nil; 0 of one that does not wait. All places come free once in
// the time that one is held: as long as they were lately, or, while little moves, as
// long as those that are held have been.
func (p *places) wait(turn *place) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	ahead := len(p.line)
	if turn != nil {
		var waits bool
		if ahead, waits = p.ahead(turn); !waits {
			return 0
		}
	}
	held := p.usual
	if p.held > 0 {
		held = max(held, p.clock().Sub(p.start)-p.since/time.Duration(p.held))
	}
	rounds := float64(ahead+1)/float64(p.most) + 1 // until it has a place, and in it
	return min(max(time.Duration(rounds*float64(held)), leastRetry), mostRetry).Round(time.Second)
}
