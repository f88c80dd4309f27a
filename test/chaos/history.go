package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"
)

// outcome is what the client of an operation knows of it in the end.
type outcome string

const (
	open      outcome = "open"      // no answer that says what became of it
	committed outcome = "committed" // acknowledged
	rejected  outcome = "rejected"  // refused, so without effect
)

// claim is what one answer says of what its request did.
type claim string

const (
	claimsDone    claim = "done"
	claimsNothing claim = "nothing" // it says that this request changed nothing
	claimsUnknown claim = "unknown" // no answer, or one that leaves it open
)

// attempt is one request of an operation and its answer.
type attempt struct {
	Begun  time.Time `json:"begun"`
	Ended  time.Time `json:"ended"`
	Status int       `json:"status"` // 0: no answer
	Claim  claim     `json:"claim"`
	Detail string    `json:"detail,omitempty"`
}

// operation is one write that a client wants done once. It asks again under the
// same key until an answer says what became of it.
type operation struct {
	Kind       string    `json:"kind"` // catalog, certificate, grant, access or probe
	Action     string    `json:"action"`
	Object     string    `json:"object"` // what it changes; operations on one object are checked together
	Department string    `json:"department"`
	Role       string    `json:"role"`
	Key        string    `json:"key"` // Idempotency-Key; of an access record its call ID
	Attempts   []attempt `json:"attempts"`
	Outcome    outcome   `json:"outcome"`
	Block      uint64    `json:"block,omitempty"`
	TxID       string    `json:"txId,omitempty"`
	Index      uint64    `json:"index,omitempty"` // of an access record in its log
	Leaf       string    `json:"leaf,omitempty"`  // hash of its leaf, as the receipt says
}

func (o *operation) begun() time.Time { return o.Attempts[0].Begun }
func (o *operation) ended() time.Time { return o.Attempts[len(o.Attempts)-1].Ended }

// String names the operation in a finding.
func (o *operation) String() string {
	return fmt.Sprintf("%s %s of %s by %s, key %s", o.Kind, o.Action, o.Object, o.Department, o.Key)
}

// read is one answered read of an object that promises to be linearizable: it
// named the latest block that any client knew of.
type read struct {
	Object string    `json:"object"`
	State  string    `json:"state"`
	Begun  time.Time `json:"begun"`
	Ended  time.Time `json:"ended"`
}

// verification is one public verification, which promises to be right within
// limits of time.
type verification struct {
	Ref     string    `json:"ref"`
	Gateway string    `json:"gateway"`
	Begun   time.Time `json:"begun"`
	Ended   time.Time `json:"ended"`
	Verdict string    `json:"verdict"` // "" without an answer
	Retried bool      `json:"retried"` // another gateway gave the answer
	Detail  string    `json:"detail,omitempty"`
}

// answered reports whether somebody who scanned a code was told something.
func (v verification) answered() bool { return v.Verdict != "" && v.Verdict != "cannot_check" }

// history is everything that clients did and saw. It is safe for concurrent use.
type history struct {
	mu            sync.Mutex
	operations    []*operation
	reads         []read
	verifications []verification
}

func (h *history) add(o *operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.operations = append(h.operations, o)
}

func (h *history) addRead(r read) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reads = append(h.reads, r)
}

func (h *history) addVerification(v verification) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.verifications = append(h.verifications, v)
}

// snapshot answers what is recorded so far. Operations are recorded when they
// end, so nobody changes those answered.
func (h *history) snapshot() ([]*operation, []read, []verification) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.operations[:len(h.operations):len(h.operations)], h.reads[:len(h.reads):len(h.reads)], h.verifications[:len(h.verifications):len(h.verifications)]
}

// historyFile is where a history is kept beside the state of its consortium.
const historyFile = "history.json"

// savedHistory is the form of the file.
type savedHistory struct {
	Operations    []*operation   `json:"operations"`
	Reads         []read         `json:"reads"`
	Verifications []verification `json:"verifications"`
}

// save writes everything, for a look at a finding or another check.
func (h *history) save(path string) error {
	operations, reads, verifications := h.snapshot()
	data, err := json.Marshal(savedHistory{operations, reads, verifications})
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// load takes up what was saved.
func (h *history) load(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var saved savedHistory
	if err := json.Unmarshal(data, &saved); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	h.operations, h.reads, h.verifications = saved.Operations, saved.Reads, saved.Verifications
	return nil
}
