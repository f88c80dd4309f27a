package main

import (
	"slices"
	"sync"
	"time"
)

// failures are the moments at which an attempt of a write failed, by gateway.
type failures struct {
	mu sync.Mutex
	at []failure
}

type failure struct {
	department string
	at         time.Time
}

func (f *failures) note(department string, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = append(f.at, failure{department, at})
}

// during answers the failures between two moments.
func (f *failures) during(from, until time.Time) []failure {
	f.mu.Lock()
	defer f.mu.Unlock()
	var in []failure
	for _, x := range f.at {
		if !x.at.Before(from) && !x.at.After(until) {
			in = append(in, x)
		}
	}
	return in
}

// measured is what clients saw of one fault, from its beginning until everything
// was well again.
type measured struct {
	Writes    int           `json:"writes"`     // that were acknowledged
	Refused   int           `json:"refused"`    // but for those of the record that clients contend for
	Stall     time.Duration `json:"stallNs"`    // longest time without an acknowledged write on the ledger
	Burst     time.Duration `json:"burstNs"`    // from the first to the last failed attempt at gateways that the fault leaves alone
	BurstOwn  time.Duration `json:"burstOwnNs"` // at those that it strikes, from its end on
	Errors    int           `json:"errors"`     // failed attempts at gateways that the fault leaves alone
	ErrorsOwn int           `json:"errorsOwn"`
	Verified  int           `json:"verified"`  // verifications asked for
	Available float64       `json:"available"` // share of them that were told a verdict, by one gateway or the next
	FirstTry  float64       `json:"firstTry"`  // share that was told by the first gateway asked
	VerifyP95 time.Duration `json:"verifyP95Ns"`
	Recovered time.Duration `json:"recoveredNs"` // from the end of the fault until every gateway was ready and the peers level
}

// measure looks at what happened from begun, over the fault's end at undone, to
// until. struck are the departments whose gateways the fault strikes.
func measure(operations []*operation, verifications []verification, failed []failure, begun, undone, until time.Time, struck []string) measured {
	var m measured
	acknowledged := []time.Time{begun}
	for _, o := range operations {
		if o.ended().Before(begun) {
			continue
		}
		// A stall that goes on after the end is over with the first write after it.
		if o.Outcome == committed && o.Kind != kindAccess {
			acknowledged = append(acknowledged, o.ended())
		}
		switch {
		case o.ended().After(until):
		case o.Outcome == committed:
			m.Writes++
		case o.Outcome == rejected && o.Kind != kindGrant:
			m.Refused++
		}
	}
	slices.SortFunc(acknowledged, time.Time.Compare)
	if acknowledged[len(acknowledged)-1].Before(until) {
		acknowledged = append(acknowledged, until)
	}
	for i := 1; i < len(acknowledged) && acknowledged[i-1].Before(until); i++ {
		m.Stall = max(m.Stall, acknowledged[i].Sub(acknowledged[i-1]))
	}
	var first, firstOwn time.Time
	for _, f := range failed {
		if slices.Contains(struck, f.department) {
			m.ErrorsOwn++
			if f.at.After(undone) {
				if firstOwn.IsZero() {
					firstOwn = undone
				}
				m.BurstOwn = max(m.BurstOwn, f.at.Sub(firstOwn))
			}
			continue
		}
		m.Errors++
		if first.IsZero() {
			first = f.at
		}
		m.Burst = max(m.Burst, f.at.Sub(first))
	}
	var took []time.Duration
	told, atOnce := 0, 0
	for _, v := range verifications {
		if v.Begun.Before(begun) || v.Begun.After(until) {
			continue
		}
		m.Verified++
		took = append(took, v.Ended.Sub(v.Begun))
		if v.answered() {
			told++
			if !v.Retried {
				atOnce++
			}
		}
	}
	if m.Verified > 0 {
		m.Available, m.FirstTry = float64(told)/float64(m.Verified), float64(atOnce)/float64(m.Verified)
		slices.Sort(took)
		m.VerifyP95 = took[len(took)*95/100]
	}
	return m
}
