package httpapi

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/service"
)

// GetOperation answers what became of a write. A rejected one is told as the
// problem that the caller would have been answered with.
func (s *server) GetOperation(ctx context.Context, r api.GetOperationRequestObject) (api.GetOperationResponseObject, error) {
	c := ctx.(*gin.Context)
	ctx, caller := inbound(ctx)
	o, err := s.Operations.Get(ctx, caller, r.ID)
	if err != nil {
		return nil, err
	}
	return api.GetOperation200JSONResponse(operationTold(c, caller, o)), nil
}

// operationTold is an operation as its caller is told.
func operationTold(c *gin.Context, caller service.Caller, o ledger.Operation) api.Operation {
	out := api.Operation{
		ID: o.ID, State: api.OperationState(o.State), Transaction: o.Transaction, TransactionID: string(o.TxID), AcceptedAt: o.Accepted,
	}
	if !o.Settled.IsZero() {
		out.SettledAt = &o.Settled
	}
	switch o.State {
	case ledger.ToSign:
		if o.Signing != nil && o.Signing.Role == caller.Role {
			out.Signing = signingOf(o.Signing)
		}
	case ledger.Pending:
		c.Header("Retry-After", strconv.Itoa(askAfter(o.RetryAfter)))
	case ledger.Committed:
		out.Block, out.Record = int64(o.Receipt.Block), o.Receipt.Result //nolint:gosec // a number of blocks
	case ledger.Rejected:
		refused := &refusal{code: api.ProblemCodeInternal, detail: rejectedDetail}
		if o.Refusal != nil {
			refused = refusalOf(o.Refusal)
		}
		p := problemOf(refused, languageOf(c), traceOf(c))
		out.Problem = &p
	}
	return out
}

// outcomeUnknown answers what the client is told of a write whose outcome could
// not be learned. It comes before every other reading of err, which may hold a
// cause that looks like a failure.
func outcomeUnknown(err error) (body api.OutcomeUnknown, headers api.OutcomeUnknownResponseHeaders, ok bool) {
	var u *ledger.OutcomeUnknownError
	if !errors.As(err, &u) {
		return body, headers, false
	}
	operation := "/v1/operations/" + u.Operation
	if u.Operation == "" {
		operation = "/v1/chain/transactions/" + string(u.TxID)
	}
	return api.OutcomeUnknown{TransactionID: string(u.TxID), Operation: operation, Signing: signingOf(u.Signing)},
		api.OutcomeUnknownResponseHeaders{Location: operation, RetryAfter: askAfter(u.RetryAfter)}, true
}

// askAfter answers in how many seconds a client should ask for an outcome that may be
// known after wait.
func askAfter(wait time.Duration) int { return max(pollAfter, int(math.Ceil(wait.Seconds()))) }

// preference reads the Prefer header (RFC 7240) of a write that is named by an
// Idempotency-Key: without one, a caller that loses the answer could not ask for the
// outcome.
func (s *server) preference(c *gin.Context) {
	way := passageOf(c)
	if way.op == nil || !way.op.keyed {
		return
	}
	var wait time.Duration
	var async, bounded, offline bool
	var fingerprint string
	for _, value := range c.Request.Header.Values("Prefer") {
		for p := range strings.SplitSeq(value, ",") {
			name, setting, _ := strings.Cut(strings.TrimSpace(p), "=")
			switch seconds, err := strconv.ParseUint(strings.Trim(setting, `"`), 10, 16); {
			case strings.EqualFold(name, signOffline):
				offline, fingerprint = true, strings.Trim(setting, `"`)
			case strings.EqualFold(name, "respond-async"):
				async = true
			case strings.EqualFold(name, "wait") && err == nil:
				wait, bounded = time.Duration(seconds)*time.Second, true //nolint:gosec // 16 bits
			}
		}
	}
	if offline {
		s.signsItself(c, fingerprint)
		return
	}
	if way.caller.Operation == "" || !async && !bounded {
		return
	}
	c.Request = c.Request.WithContext(ledger.WithWait(c.Request.Context(), wait))
	applied := "respond-async"
	if bounded {
		applied = "wait=" + strconv.Itoa(int(wait/time.Second))
	}
	c.Header("Preference-Applied", applied)
}
