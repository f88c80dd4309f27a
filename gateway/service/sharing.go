package service

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// Sharing asks for data, checks, answers, delivers and disputes, and finds
// requests and grants. It is safe for concurrent use.
type Sharing struct {
	ledger ledger.Ledger
	index  index.Index
}

// NewSharing returns the use cases of share requests and grants.
func NewSharing(l ledger.Ledger, ix index.Index) *Sharing { return &Sharing{ledger: l, index: ix} }

// change runs a transaction on a request.
func (s *Sharing) change(ctx context.Context, caller Caller, transaction, what string, args argument) (Written[domain.ShareRequest], error) {
	return write[domain.ShareRequest](ctx, s.ledger, s.index, caller, transaction, what, args)
}

// Request asks for items of a published entry for the caller's department. With
// an empty ID the service draws one, or derives it from the caller's operation,
// so that asking again under one operation asks for the same.
func (s *Sharing) Request(ctx context.Context, caller Caller, content domain.ShareRequestContent) (Written[domain.ShareRequest], error) {
	if content.ID == "" {
		id, err := newRequestID(caller)
		if err != nil {
			return Written[domain.ShareRequest]{}, err
		}
		content.ID = id
	}
	content.Period = inUTC(content.Period)
	return s.change(ctx, caller, "sharing:Request", "request data", content)
}

// newRequestID answers an ID for a request. One operation has one argument, so
// its request always has the same ID.
func newRequestID(caller Caller) (string, error) {
	if caller.Operation == "" {
		return randomHex(rand.Reader)
	}
	return domain.Digest([]byte("zhenglian/request-id/1\n" + string(caller.Department) + "\n" + caller.Operation))[:32], nil
}

// Accept accepts a request or returns it for supplement. What is shared
// unconditionally is granted by it.
func (s *Sharing) Accept(ctx context.Context, caller Caller, args domain.AcceptArgs) (Written[domain.ShareRequest], error) {
	return s.change(ctx, caller, "sharing:Accept", "check share requests", args)
}

// Supplement submits a returned request anew.
func (s *Sharing) Supplement(ctx context.Context, caller Caller, args domain.SupplementArgs) (Written[domain.ShareRequest], error) {
	args.Content.Period = inUTC(args.Content.Period)
	return s.change(ctx, caller, "sharing:Supplement", "supplement share requests", args)
}

// Answer agrees to, partly agrees to or refuses a request for the caller's
// department's data.
func (s *Sharing) Answer(ctx context.Context, caller Caller, args domain.AnswerArgs) (Written[domain.ShareRequest], error) {
	args.Period = inUTC(args.Period)
	return s.change(ctx, caller, "sharing:Answer", "answer share requests", args)
}

// Extend asks for more time to answer, or takes it where nobody need consent.
func (s *Sharing) Extend(ctx context.Context, caller Caller, args domain.ExtendArgs) (Written[domain.ShareRequest], error) {
	return s.change(ctx, caller, "sharing:Extend", "extend the time to answer", args)
}

// DecideExtension grants or denies an extension.
func (s *Sharing) DecideExtension(ctx context.Context, caller Caller, args domain.DecideExtensionArgs) (Written[domain.ShareRequest], error) {
	return s.change(ctx, caller, "sharing:DecideExtension", "decide extensions", args)
}

// Dispute disputes a refusal, or the silence of a provider.
func (s *Sharing) Dispute(ctx context.Context, caller Caller, args domain.DisputeArgs) (Written[domain.ShareRequest], error) {
	return s.change(ctx, caller, "sharing:Dispute", "dispute answers", args)
}

// Mediate decides a dispute.
func (s *Sharing) Mediate(ctx context.Context, caller Caller, args domain.MediateArgs) (Written[domain.ShareRequest], error) {
	return s.change(ctx, caller, "sharing:Mediate", "mediate disputes", args)
}

// Deliver records that the provider has delivered.
func (s *Sharing) Deliver(ctx context.Context, caller Caller, args domain.DeliverArgs) (Written[domain.ShareRequest], error) {
	return s.change(ctx, caller, "sharing:Deliver", "deliver data", args)
}

// Confirm confirms or rejects a delivery.
func (s *Sharing) Confirm(ctx context.Context, caller Caller, args domain.ConfirmArgs) (Written[domain.ShareRequest], error) {
	return s.change(ctx, caller, "sharing:Confirm", "confirm deliveries", args)
}

// Withdraw takes back a request that is not answered.
func (s *Sharing) Withdraw(ctx context.Context, caller Caller, args domain.ReasonArgs) (Written[domain.ShareRequest], error) {
	return s.change(ctx, caller, "sharing:Withdraw", "withdraw share requests", args)
}

// Close closes a request whose use has ended, or whose refusal is accepted.
func (s *Sharing) Close(ctx context.Context, caller Caller, args domain.ReasonArgs) (Written[domain.ShareRequest], error) {
	return s.change(ctx, caller, "sharing:Close", "close share requests", args)
}

// MarkOverdue records that the time limit of a request has passed.
func (s *Sharing) MarkOverdue(ctx context.Context, caller Caller, id string) (Written[domain.ShareRequest], error) {
	return s.change(ctx, caller, "sharing:MarkOverdue", "record overdue share requests", domain.IDArgs{ID: id})
}

// GetRequest answers the request with this ID, from the index.
func (s *Sharing) GetRequest(ctx context.Context, id string) (Written[domain.ShareRequest], error) {
	return get[domain.ShareRequest](ctx, s.index, domain.KindRequest, id)
}

// ListRequests answers requests in order of ID, from the index.
func (s *Sharing) ListRequests(ctx context.Context, filter index.Filter, page index.Page) (Listed[domain.ShareRequest], error) {
	return list[domain.ShareRequest](ctx, s.index, domain.KindRequest, filter, page)
}

// RequestHistory answers every step of a request, oldest first, from the index.
func (s *Sharing) RequestHistory(ctx context.Context, id string, page index.Page) (Listed[domain.RequestEvent], error) {
	return events[domain.RequestEvent](ctx, s.index, domain.KindRequest, domain.KindRequestEvent, id, page)
}

// inUTC spells a period as the ledger does.
func inUTC(p domain.Period) domain.Period {
	return domain.Period{From: p.From.UTC(), To: p.To.UTC()}
}

// randomHex answers 128 bits of random as 32 lower-case hexadecimal digits.
func randomHex(random io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("draw random bits: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}
