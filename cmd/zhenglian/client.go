package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
)

const (
	// maxAnswer bounds what a gateway's answer may weigh in memory.
	maxAnswer = 32 << 20
	// answerTimeout is longer than a gateway waits for a commit, so that the
	// gateway, which knows the transaction, is the one to give up.
	answerTimeout = 90 * time.Second
	// longestPause bounds one wait, whatever Retry-After says.
	longestPause = 30 * time.Second
)

// gatewayClient calls one gateway with one access token. It waits where the
// gateway asks it to and never reports a write as failed whose outcome is not
// known. It is safe for concurrent use.
type gatewayClient struct {
	*api.Client
	url      string
	patience time.Duration                                          // how long one call may be tried
	pause    func(ctx context.Context, d time.Duration) (err error) // sleeps; tests replace it
	latest   *latestBlock                                           // nil: every answer may be of any block
}

// latestBlock is the last block that some client wrote into. Clients that share
// one see one another's writes, although each asks another department's gateway.
type latestBlock struct{ number atomic.Uint64 }

func (l *latestBlock) note(number uint64) {
	for {
		known := l.number.Load()
		if known >= number || l.number.CompareAndSwap(known, number) {
			return
		}
	}
}

// after asks the gateway to answer from no earlier block. It does nothing on nil
// and before the first write.
func (l *latestBlock) after(r *http.Request) {
	if l == nil {
		return
	}
	if number := l.number.Load(); number > 0 {
		r.Header.Set("Min-Block", strconv.FormatUint(number, 10))
	}
}

// newGatewayClient returns a client of the gateway at url. An empty token is for
// the public paths only.
func newGatewayClient(url, token string, patience time.Duration) (*gatewayClient, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64
	httpClient := &http.Client{
		Transport: transport,
		Timeout:   answerTimeout,
		// A gateway never redirects, and a token must not follow where one leads.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	c := &gatewayClient{url: url, patience: patience, pause: sleep}
	client, err := api.NewClient(strings.TrimSuffix(url, "/"), api.WithHTTPClient(httpClient),
		api.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
			if token != "" {
				r.Header.Set("Authorization", "Bearer "+token)
				c.latest.after(r)
			}
			return nil
		}))
	if err != nil {
		return nil, fmt.Errorf("gateway %s: %w", url, err)
	}
	c.Client = client
	return c, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// problemError is a gateway's refusal.
type problemError struct {
	status  int
	problem api.Problem
}

func (e *problemError) Error() string {
	if e.problem.Detail == "" {
		return fmt.Sprintf("the gateway answered status %d", e.status)
	}
	return fmt.Sprintf("%s: %s", e.problem.Code, e.problem.Detail)
}

// refusedAs reports whether err is a gateway's refusal with one of codes.
func refusedAs(err error, codes ...api.ProblemCode) bool {
	var p *problemError
	if !errors.As(err, &p) {
		return false
	}
	for _, code := range codes {
		if p.problem.Code == code {
			return true
		}
	}
	return false
}

// unknownError says that a write was accepted and that its outcome could not be
// learned in time. It may be done yet.
type unknownError struct{ operation string }

func (e *unknownError) Error() string {
	return fmt.Sprintf("the outcome of %s is not known; run the same command again later, it repeats nothing", e.operation)
}

// repetition says what to do with a request that got no answer.
type repetition bool

const (
	repeatable repetition = true
	onceOnly   repetition = false // it might be carried out twice
)

// sender makes one HTTP request.
type sender func(ctx context.Context) (*http.Response, error)

// posting sends value as the body, anew in each attempt.
func posting(value any, send func(ctx context.Context, body io.Reader) (*http.Response, error)) sender {
	data, err := domain.Canonical(value)
	return func(ctx context.Context) (*http.Response, error) {
		if err != nil {
			return nil, err
		}
		return send(ctx, bytes.NewReader(data))
	}
}

// recorded is what a write brought about. Late is set when the outcome was
// learned afterwards: then the answer's record is not filled in.
type recorded struct {
	domain.Position
	late *api.OutcomeUnknown
}

// read makes a request that changes nothing and decodes its answer into out,
// which may be a *[]byte for the raw bytes.
func (c *gatewayClient) read(ctx context.Context, send sender, out any) error {
	_, data, err := c.try(ctx, send, repeatable)
	if err != nil {
		return err
	}
	return decodeAnswer(data, out)
}

// write makes a request that submits one transaction, and returns when it is
// known to be on the ledger. out is filled with the answer unless it came late.
//
// A repeatable request that got no answer is sent again: it must be one that the
// ledger refuses as "exists" the second time.
func (c *gatewayClient) write(ctx context.Context, send sender, again repetition, out any) (recorded, error) {
	status, data, err := c.try(ctx, send, again)
	if err != nil {
		return recorded{}, err
	}
	if status == http.StatusAccepted {
		var unknown api.OutcomeUnknown
		if err := decodeAnswer(data, &unknown); err != nil {
			return recorded{}, err
		}
		position, err := c.outcome(ctx, unknown.Operation)
		if err != nil {
			return recorded{late: &unknown}, err
		}
		c.wrote(position.Block)
		return recorded{late: &unknown, Position: position}, nil
	}
	var position domain.Position
	if err := json.Unmarshal(data, &position); err != nil {
		return recorded{}, fmt.Errorf("read the gateway's answer: %w", err)
	}
	c.wrote(position.Block)
	return recorded{Position: position}, decodeAnswer(data, out)
}

func (c *gatewayClient) wrote(block uint64) {
	if c.latest != nil {
		c.latest.note(block)
	}
}

// outcome waits until the gateway knows what became of the operation at path. A
// rejected one is the refusal that the write would have been answered with.
func (c *gatewayClient) outcome(ctx context.Context, path string) (domain.Position, error) {
	unknown := &unknownError{path}
	id := strings.TrimPrefix(path, "/v1/operations/")
	waited := time.Duration(0)
	for {
		var found api.Operation
		err := c.read(ctx, func(ctx context.Context) (*http.Response, error) { return c.GetOperation(ctx, id) }, &found)
		switch {
		case err != nil && !refusedAs(err, api.ProblemCodeNotFound):
			return domain.Position{}, fmt.Errorf("%w (%w)", unknown, err)
		case found.State == api.OperationStateCommitted:
			return domain.Position{Block: uint64(found.Block), TxID: domain.TxID(found.TransactionID)}, nil //nolint:gosec // a number of blocks
		case found.State == api.OperationStateRejected && found.Problem != nil:
			return domain.Position{}, &problemError{status: found.Problem.Status, problem: *found.Problem}
		case waited >= c.patience:
			return domain.Position{}, unknown
		}
		const step = 500 * time.Millisecond
		if err := c.pause(ctx, step); err != nil {
			return domain.Position{}, fmt.Errorf("%w (%w)", unknown, err)
		}
		waited += step
	}
}

// try sends until the gateway gives an answer that stands, and returns its
// status and body. It tries again while the gateway is busy (429), away (503)
// or, for a repeatable request, not reached, until patience is used up.
func (c *gatewayClient) try(ctx context.Context, send sender, again repetition) (int, []byte, error) {
	waited := time.Duration(0)
	for attempt := 0; ; attempt++ {
		status, data, wait, err := c.once(ctx, send)
		unanswered := status == 0
		if err == nil || wait < 0 || ctx.Err() != nil || unanswered && again == onceOnly {
			if ctx.Err() != nil && err != nil {
				err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
			}
			return status, data, err
		}
		if wait == 0 { // the gateway did not say
			wait = min(250*time.Millisecond<<min(attempt, 6), 5*time.Second)
		}
		wait = min(wait, longestPause)
		if waited += wait; waited > c.patience {
			return status, data, fmt.Errorf("%s: gave up after %s: %w", c.url, c.patience, err)
		}
		if err := c.pause(ctx, wait); err != nil {
			return 0, nil, err
		}
	}
}

// once sends one time. With an error, wait says how long to wait before another
// attempt: 0 when the gateway did not say, negative when it is of no use.
func (c *gatewayClient) once(ctx context.Context, send sender) (status int, data []byte, wait time.Duration, err error) {
	res, err := send(ctx)
	if err != nil {
		return 0, nil, 0, err
	}
	defer res.Body.Close()
	data, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return 0, nil, 0, fmt.Errorf("read the gateway's answer: %w", err)
	}
	if len(data) > maxAnswer {
		return 0, nil, -1, fmt.Errorf("the gateway's answer is longer than %d bytes", maxAnswer)
	}
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		return res.StatusCode, data, 0, nil
	}
	refusal := &problemError{status: res.StatusCode}
	if media, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); media == "application/problem+json" {
		if err := json.Unmarshal(data, &refusal.problem); err != nil {
			return 0, nil, -1, fmt.Errorf("status %d with an unreadable problem document: %w", res.StatusCode, err)
		}
	}
	if res.StatusCode != http.StatusTooManyRequests && res.StatusCode != http.StatusServiceUnavailable {
		return res.StatusCode, nil, -1, refusal
	}
	if seconds, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && seconds > 0 {
		wait = time.Duration(seconds) * time.Second
	}
	return res.StatusCode, nil, wait, refusal
}

func decodeAnswer(data []byte, out any) error {
	switch out := out.(type) {
	case nil:
		return nil
	case *[]byte:
		*out = data
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("read the gateway's answer: %w", err)
	}
	return nil
}

const jsonType = "application/json"
