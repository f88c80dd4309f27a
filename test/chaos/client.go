package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/zhenglian/zhenglian/test/consortium"
)

const (
	kindCatalog     = "catalog"
	kindCertificate = "certificate"
	kindGrant       = "grant"
	kindAccess      = "access"
	kindProbe       = "probe"
)

const (
	// attemptFor is how long a client waits for one answer. A gateway may take
	// longer, so some answers are lost that would have come.
	attemptFor = 15 * time.Second

	// verifyFor is how long somebody waits for a verdict before trying elsewhere.
	verifyFor = 2 * time.Second

	// settleFor is how long a client asks again before it gives up: then the
	// operation has no end that it could learn.
	settleFor = 3 * time.Minute
)

// clients send requests to the gateways and record what they are told.
type clients struct {
	net     *consortium.Consortium
	history *history
	latest  atomic.Uint64 // the latest block that any answer named
	failed  failures
}

// request is what one operation sends.
type request struct {
	path string
	body any
}

// answer is what of an answer matters here.
type answer struct {
	Block  uint64 `json:"block"`
	TxID   string `json:"txId"`
	Ref    string `json:"ref"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
	State  string `json:"state"`
	Status int    `json:"status"` // of a problem

	Operation     string  `json:"operation"` // of a 202, the path to ask for the outcome
	TransactionID string  `json:"transactionId"`
	Problem       *answer `json:"problem"` // of an operation that was rejected

	Record struct {
		State   string `json:"state"`
		Status  string `json:"status"`
		Content struct {
			Ref string `json:"ref"`
		} `json:"content"`
	} `json:"record"`
	Receipts []struct {
		Index    uint64 `json:"index"`
		LeafHash string `json:"leafHash"`
	} `json:"receipts"`
}

var refPattern = regexp.MustCompile(`[0-9a-f]{32}`)

// perform runs an operation: it asks again, for the outcome of what was accepted and
// else under the same key, until an answer says what became of it, and records it. It
// answers the last answer.
func (c *clients) perform(ctx context.Context, o *operation, r request) answer {
	header := http.Header{}
	if o.Kind != kindAccess {
		header.Set("Idempotency-Key", o.Key)
	}
	var last answer
	o.Outcome = open
	pause := 250 * time.Millisecond
	accepted := "" // where to ask for the outcome
	for begun := time.Now(); ; {
		var a attempt
		var reply answer
		var after time.Duration
		if accepted == "" || rand.N(4) == 0 { // some clients do not ask, and send it again
			if a, reply, after = c.attempt(ctx, o, r, header); a.Status == http.StatusAccepted {
				accepted = reply.Operation
			}
		} else {
			var known bool
			a, reply, after, known = c.ask(ctx, o, accepted)
			if !known || a.Status >= 400 { // what was refused and may succeed has to be sent again
				accepted = ""
			}
		}
		o.Attempts = append(o.Attempts, a)
		if reply.Ref != "" && last.Ref == "" {
			last.Ref = reply.Ref // a certificate's is told once
		}
		switch {
		case a.Claim == claimsDone:
			o.Outcome, o.Block, o.TxID = committed, reply.Block, reply.TxID
			if len(reply.Receipts) == 1 {
				leaf, _ := base64.StdEncoding.DecodeString(reply.Receipts[0].LeafHash)
				o.Index, o.Leaf = reply.Receipts[0].Index, hex.EncodeToString(leaf)
			}
			ref := last.Ref
			last = reply
			last.Ref = ref
			if last.Ref == "" {
				last.Ref = reply.Record.Content.Ref
			}
		case a.Status == http.StatusConflict && o.Action == "issue" && len(o.Attempts) > 1 && reply.Code == "exists":
			// Link and check code are told once: this names what the lost answer told.
			// Beside the reference it names the operation.
			_, own, _ := strings.Cut(strings.TrimPrefix(operationKey(o), "op~"), "~")
			if ref := refPattern.FindString(strings.ReplaceAll(reply.Detail, own, "")); ref != "" {
				o.Outcome, last.Ref = committed, ref
			}
		case a.Status == http.StatusConflict && reply.State == "" && reply.Code == "conflict":
			// Another change won; under the same key it may be tried again.
		case a.Status >= 400 && a.Status < 500 && a.Status != http.StatusTooManyRequests:
			o.Outcome = rejected
		}
		if o.Outcome != open || ctx.Err() != nil || time.Since(begun) > settleFor {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(max(after, pause/2) + rand.N(pause/2)):
		}
		pause = min(2*pause, 5*time.Second)
	}
	if last.Ref != "" && o.Action == "issue" {
		o.Object = last.Ref
	}
	c.history.add(o)
	return last
}

// attempt sends the request. It answers how long the gateway asks to wait before the
// next attempt.
func (c *clients) attempt(ctx context.Context, o *operation, r request, header http.Header) (attempt, answer, time.Duration) {
	a, reply, res, readable := c.send(ctx, o, http.MethodPost, r.path, r.body, header)
	if readable {
		a.claim(o.Kind, reply)
	}
	return a, reply, retryAfter(res)
}

// ask asks for the outcome of what was accepted, and answers it as if the request had
// been answered with it. With known false the gateway does not know of it: it has to be
// sent again.
func (c *clients) ask(ctx context.Context, o *operation, path string) (a attempt, reply answer, after time.Duration, known bool) {
	a, reply, res, _ := c.send(ctx, o, http.MethodGet, path, nil, nil)
	after, known = retryAfter(res), true
	switch {
	case a.Status == http.StatusOK && reply.State == "pending":
		a.Status = http.StatusAccepted
	case a.Status == http.StatusOK && reply.State == "committed":
		reply.TxID, reply.State = reply.TransactionID, ""
		a.claim(o.Kind, reply)
	case a.Status == http.StatusOK && reply.State == "rejected" && reply.Problem != nil:
		reply = *reply.Problem
		a.Status = reply.Status
		a.claim(o.Kind, reply)
	default: // says nothing of the write, so it must not be read as an answer to it
		known = a.Status != http.StatusNotFound
		a.Detail = fmt.Sprintf("asked for the outcome: %d %s", a.Status, a.Detail)
		a.Status, reply = 0, answer{}
	}
	return a, reply, after, known
}

func (c *clients) send(ctx context.Context, o *operation, method, path string, body any, header http.Header) (a attempt, reply answer, res consortium.Response, readable bool) {
	limited, cancel := context.WithTimeout(ctx, attemptFor)
	defer cancel()
	a = attempt{Begun: time.Now(), Claim: claimsUnknown}
	res, err := c.net.Gateway(o.Department).DoWith(limited, o.Role, method, path, body, header)
	unreadable := err
	if err == nil {
		unreadable = json.Unmarshal(res.Body, &reply)
	}
	if unreadable == nil {
		c.learn(reply.Block) // first: a read that begins after the end must ask for this block
	}
	a.Ended = time.Now()
	if err != nil {
		a.Detail = err.Error()
		c.failed.note(o.Department, a.Ended)
		return a, reply, res, false
	}
	if res.Status >= 500 || res.Status == http.StatusTooManyRequests {
		c.failed.note(o.Department, a.Ended)
	}
	a.Status = res.Status
	if unreadable != nil {
		a.Detail = unreadable.Error()
		return a, answer{}, res, false
	}
	a.Detail = fmt.Sprintf("%d %s: %.300s", res.Status, reply.Code, reply.Detail)
	return a, reply, res, true
}

// claim notes what the answer to a request says that this did.
func (a *attempt) claim(kind string, reply answer) {
	switch {
	case a.Status == http.StatusOK || a.Status == http.StatusCreated:
		a.Claim, a.Detail = claimsDone, ""
	case reply.Code == "exists", reply.Code == "conflict" && strings.Contains(reply.Detail, "under way"): // by an earlier request
	case a.Status >= 400 && a.Status < 500, a.Status == http.StatusServiceUnavailable && kind != kindAccess:
		a.Claim = claimsNothing // a 503 of access records may be durable and not anchored
	}
}

func retryAfter(res consortium.Response) time.Duration {
	seconds, err := strconv.Atoi(res.Header.Get("Retry-After"))
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// learn keeps the latest block that an answer named.
func (c *clients) learn(block uint64) {
	for known := c.latest.Load(); known < block && !c.latest.CompareAndSwap(known, block); known = c.latest.Load() {
	}
}

// read reads an object with the demand that the answer know of every block that
// any client knows of when it begins, which makes it linearizable.
func (c *clients) read(ctx context.Context, department, object, path string) {
	limited, cancel := context.WithTimeout(ctx, attemptFor)
	defer cancel()
	r := read{Object: object, Begun: time.Now()}
	header := http.Header{"Min-Block": {strconv.FormatUint(c.latest.Load(), 10)}}
	res, err := c.net.Gateway(department).DoWith(limited, "auditor", http.MethodGet, path, nil, header)
	var reply answer
	if err != nil || res.Status != http.StatusOK || json.Unmarshal(res.Body, &reply) != nil {
		return // no answer constrains nothing
	}
	c.learn(reply.Block)
	r.Ended = time.Now()                               // not before others ask for what it saw
	r.State = reply.Record.State + reply.Record.Status // a record has one of them
	c.history.addRead(r)
}

// verify asks a gateway for a verdict, and another one when it has none in time.
func (c *clients) verify(ctx context.Context, ref string, gateways []string) {
	v := verification{Ref: ref, Begun: time.Now()}
	for i, gateway := range gateways[:2] {
		v.Gateway, v.Retried = gateway, i > 0
		if v.Verdict, v.Detail = c.verdict(ctx, ref, gateway); v.answered() {
			break
		}
	}
	v.Ended = time.Now()
	if ctx.Err() == nil {
		c.history.addVerification(v)
	}
}

func (c *clients) verdict(ctx context.Context, ref, gateway string) (verdict, detail string) {
	limited, cancel := context.WithTimeout(ctx, verifyFor)
	defer cancel()
	res, err := c.net.Gateway(gateway).Do(limited, "", http.MethodGet, "/v1/verify/"+ref, nil)
	if err != nil {
		return "", err.Error()
	}
	var out struct {
		Verdict string `json:"verdict"`
		Reason  string `json:"reason"`
	}
	if res.Status != http.StatusOK {
		return "", fmt.Sprint("status ", res.Status)
	}
	if err := json.Unmarshal(res.Body, &out); err != nil {
		return "", err.Error()
	}
	return out.Verdict, out.Reason
}

// operationKey is the key of the ledger's record that an operation is done, as
// docs/adr/0017 has it: the checker derives it by itself.
func operationKey(o *operation) string {
	h := sha256.New()
	for _, part := range []string{o.Department, o.Role, o.Key} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write([]byte(part))
	}
	return "op~" + o.Department + "~" + hex.EncodeToString(h.Sum(nil)[:16])
}

// get reads what must be there.
func (c *clients) get(ctx context.Context, department, role, path string, out any) error {
	limited, cancel := context.WithTimeout(ctx, attemptFor)
	defer cancel()
	return c.net.Gateway(department).Call(limited, role, http.MethodGet, path, nil, http.StatusOK, out)
}

// require performs an operation that the run needs.
func (c *clients) require(ctx context.Context, o *operation, r request) (answer, error) {
	reply := c.perform(ctx, o, r)
	if o.Outcome != committed {
		return reply, errors.New(o.String() + ": " + o.Attempts[len(o.Attempts)-1].Detail)
	}
	return reply, nil
}
