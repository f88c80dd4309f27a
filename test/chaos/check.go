package main

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// promise is one of the things that hold whatever fails.
type promise string

const (
	lost           promise = "A lost"                 // an acknowledged write is not there
	duplicated     promise = "B duplicated"           // one key has two effects
	falseFailure   promise = "B false failure"        // an answer said "nothing happened", and it did
	unended        promise = "C without an end"       // an operation whose end nobody learns
	diverged       promise = "D departments differ"   // blocks, validation codes or state
	indexDiffers   promise = "E index differs"        // from one that is built anew
	unanchored     promise = "F not anchored"         // a receipt without an included record
	notLinear      promise = "G not linearizable"     // no order of the operations explains the answers
	wrongVerdict   promise = "G wrong verdict"        // older than a verification may be
	writesNoMore   promise = "H no new write"         // the consortium did not come back
	neverReady     promise = "H not ready in time"    // or not within the limit
	grows          promise = "soak: grows"            // a process holds ever more
	checkerFailure promise = "the check did not work" // so it says nothing
)

// finding is a promise that was broken.
type finding struct {
	Promise promise `json:"promise"`
	Detail  string  `json:"detail"`
}

func found(p promise, format string, args ...any) finding {
	return finding{p, fmt.Sprintf(format, args...)}
}

// effect is a committed transaction that recorded an operation as done.
type effect struct {
	Block uint64
	TxID  string
	Time  time.Time // the proposal's
}

// ledgerFacts is what the blocks say.
type ledgerFacts struct {
	effects map[string][]effect // by the key of the operation's record
	upTo    uint64              // blocks read
}

// logged is one record of an access log.
type logged struct {
	Index    uint64
	Leaf     string
	Included bool // an anchor covers it, and its inclusion proof holds
}

// logFacts is what the access logs say, by call ID.
type logFacts map[string][]logged

// checkWrites compares what clients were told with what the ledger and the logs
// say: promises A, B, C and F.
func checkWrites(operations []*operation, chain ledgerFacts, log logFacts) []finding {
	var findings []finding
	for _, o := range operations {
		var times []effect
		if o.Kind == kindAccess {
			findings = append(findings, checkAccess(o, log[o.Key])...)
		} else {
			times = chain.effects[operationKey(o)]
			findings = append(findings, checkEffects(o, times)...)
		}
		if o.Outcome == open {
			findings = append(findings, found(unended, "%s: %s after the last of %d attempts", o, o.Attempts[len(o.Attempts)-1].Detail, len(o.Attempts)))
		}
	}
	return findings
}

func checkEffects(o *operation, effects []effect) (findings []finding) {
	switch {
	case len(effects) > 1:
		findings = append(findings, found(duplicated, "%s took effect %d times: %+v", o, len(effects), effects))
	case len(effects) == 0 && o.Outcome == committed:
		findings = append(findings, found(lost, "%s was acknowledged in block %d, transaction %s", o, o.Block, o.TxID))
	case len(effects) == 1 && o.Outcome == committed && o.TxID != "" && effects[0].TxID != o.TxID:
		findings = append(findings, found(lost, "%s was acknowledged as transaction %s and took effect as %s", o, o.TxID, effects[0].TxID))
	case len(effects) == 1 && o.Outcome == rejected:
		findings = append(findings, found(falseFailure, "%s was refused (%s) and took effect in block %d", o, o.Attempts[len(o.Attempts)-1].Detail, effects[0].Block))
	}
	// An answer speaks of what its own request proposed. The proposal's time tells
	// which one that was: clients and gateways share this machine's clock.
	for _, e := range effects {
		for _, a := range o.Attempts {
			if a.Claim == claimsNothing && o.Outcome != rejected && e.Time.After(a.Begun) && e.Time.Before(a.Ended) {
				findings = append(findings, found(falseFailure, "%s: an answer %d (%s) said that nothing was written, and its transaction %s is in block %d", o, a.Status, a.Detail, e.TxID, e.Block))
			}
		}
	}
	return findings
}

func checkAccess(o *operation, records []logged) (findings []finding) {
	switch {
	case len(records) > 1:
		findings = append(findings, found(duplicated, "%s is in the log %d times", o, len(records)))
	case len(records) == 0 && o.Outcome == committed:
		findings = append(findings, found(lost, "%s has a receipt for index %d and is not in the log", o, o.Index))
	case len(records) == 1 && o.Outcome == committed && (records[0].Index != o.Index || records[0].Leaf != o.Leaf):
		findings = append(findings, found(lost, "%s has a receipt for index %d and leaf %s; the log has it at %d with leaf %s", o, o.Index, o.Leaf, records[0].Index, records[0].Leaf))
	case len(records) == 1 && o.Outcome == committed && !records[0].Included:
		findings = append(findings, found(unanchored, "%s at index %d", o, o.Index))
	case len(records) == 1 && o.Outcome == rejected:
		findings = append(findings, found(falseFailure, "%s was refused and is in the log at %d", o, records[0].Index))
	}
	return findings
}

// state is what the model knows of one certificate or grant.
type state struct {
	status  string
	pending bool // a change is proposed
}

// step is an input of the model: an operation's action, or a read of a state.
type step struct {
	action string // "" for a read
	status string // that a read saw
	open   bool   // nobody knows whether it happened
}

// transitions are the acts by the state that they need and the state they leave.
var transitions = map[string]struct{ from, to state }{
	"issue":   {state{"", false}, state{"proposed", false}},
	"approve": {state{"proposed", false}, state{"valid", false}},
	"propose": {state{"valid", false}, state{"valid", true}},
	"revoke":  {state{"valid", true}, state{"revoked", false}},
	"suspend": {state{"active", false}, state{"suspended", false}},
	"resume":  {state{"suspended", false}, state{"active", false}},
}

// register is the sequential model of one object. An operation whose answer was
// lost stays open to the end of the history: it happens at some time, or, put
// where it is not allowed, never.
func register(initial state) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return initial },
		Step: func(s, input, _ any) (bool, any) {
			now, in := s.(state), input.(step)
			if in.action == "" {
				return now.status == in.status, now
			}
			t := transitions[in.action]
			if now == t.from {
				return true, t.to
			}
			return in.open, now
		},
		DescribeOperation: func(input, _ any) string { return fmt.Sprintf("%+v", input) },
	}
}

// linearizableWithin bounds the search of one object's history.
const linearizableWithin = 20 * time.Second

// checkLinearizable looks for an order of each object's operations that explains
// all answers: promise G. initial is what objects are that the history does not
// create.
func checkLinearizable(operations []*operation, reads []read, initial map[string]state) []finding {
	histories := map[string][]porcupine.Operation{}
	for _, o := range operations {
		if _, known := transitions[o.Action]; !known || o.Outcome == rejected {
			continue
		}
		returned := o.ended().UnixNano()
		if o.Outcome == open {
			returned = math.MaxInt64
		}
		histories[o.Object] = append(histories[o.Object], porcupine.Operation{
			Input: step{action: o.Action, open: o.Outcome == open}, Call: o.begun().UnixNano(), Return: returned,
		})
	}
	for _, r := range reads {
		histories[r.Object] = append(histories[r.Object], porcupine.Operation{Input: step{status: r.State}, Call: r.Begun.UnixNano(), Return: r.Ended.UnixNano()})
	}
	var findings []finding
	for object, h := range histories {
		switch porcupine.CheckOperationsTimeout(register(initial[object]), h, linearizableWithin) {
		case porcupine.Ok:
		case porcupine.Illegal:
			findings = append(findings, found(notLinear, "the %d operations on %s: %s", len(h), object, describe(h)))
		case porcupine.Unknown:
			findings = append(findings, found(checkerFailure, "the %d operations on %s were not ordered within %s", len(h), object, linearizableWithin))
		}
	}
	return findings
}

func describe(h []porcupine.Operation) (text string) {
	h = slices.Clone(h)
	slices.SortFunc(h, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	for _, o := range h {
		in := o.Input.(step)
		word := in.action
		if word == "" {
			word = "read " + in.status
		}
		end := "open"
		if o.Return != math.MaxInt64 {
			end = time.Duration(o.Return - o.Call).Round(time.Millisecond).String()
		}
		text += fmt.Sprintf("\n\t%s +%s %s", time.Unix(0, o.Call).UTC().Format("15:04:05.000"), end, word)
	}
	return text
}

// verdictFor is how long after an acknowledged change a gateway may still answer
// with what was before: the index speaks for the present for 10 s, and an answer
// is kept for 5 s at the same height.
const verdictFor = 15 * time.Second

// checkVerdicts looks for verdicts that no moment near the answer explains. Each
// certificate of the load is approved and revoked once.
func checkVerdicts(operations []*operation, verifications []verification) []finding {
	acts := map[string]map[string]*operation{}
	for _, o := range operations {
		if o.Kind == kindCertificate && o.Outcome != rejected {
			if acts[o.Object] == nil {
				acts[o.Object] = map[string]*operation{}
			}
			acts[o.Object][o.Action] = o
		}
	}
	var findings []finding
	for _, v := range verifications {
		approve, revoke := acts[v.Ref]["approve"], acts[v.Ref]["revoke"]
		done := func(o *operation) bool {
			return o != nil && o.Outcome == committed && o.ended().Before(v.Begun.Add(-verdictFor))
		}
		begun := func(o *operation) bool { return o != nil && o.begun().Before(v.Ended) }
		wrong := ""
		switch v.Verdict {
		case "valid":
			if done(revoke) {
				wrong = "it was revoked"
			} else if !begun(approve) {
				wrong = "nobody had approved it"
			}
		case "revoked":
			if !begun(revoke) {
				wrong = "nobody had revoked it"
			}
		case "not_found":
			if done(approve) {
				wrong = "it was approved"
			}
		case "", "cannot_check":
		default:
			wrong = "nobody ever made it so"
		}
		if wrong != "" {
			findings = append(findings, found(wrongVerdict, "%s of %s by %s at %s: %s", v.Verdict, v.Ref, v.Gateway, v.Begun.UTC().Format(time.RFC3339Nano), wrong))
		}
	}
	return findings
}
