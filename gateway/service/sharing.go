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

// Sharing asks for data, answers, and finds requests and grants. It is safe for
// concurrent use.
type Sharing struct {
	ledger ledger.Ledger
	index  index.Index
}

// NewSharing returns the use cases of share requests and grants.
func NewSharing(l ledger.Ledger, ix index.Index) *Sharing { return &Sharing{ledger: l, index: ix} }

// Request asks for items of a published entry for the caller's department. With
// an empty ID the service draws one; a caller that wants to be able to ask again
// after an unknown outcome chooses its own.
func (s *Sharing) Request(ctx context.Context, caller Caller, content domain.ShareRequestContent) (Written[domain.ShareRequest], error) {
	if content.ID == "" {
		id, err := randomHex(rand.Reader)
		if err != nil {
			return Written[domain.ShareRequest]{}, err
		}
		content.ID = id
	}
	content.Period = inUTC(content.Period)
	return write[domain.ShareRequest](ctx, s.ledger, s.index, caller, "sharing:Request", "request data", content)
}

// Answer agrees to, partly agrees to or refuses a request for the caller's
// department's data.
func (s *Sharing) Answer(ctx context.Context, caller Caller, args domain.AnswerArgs) (Written[domain.ShareRequest], error) {
	args.Period = inUTC(args.Period)
	return write[domain.ShareRequest](ctx, s.ledger, s.index, caller, "sharing:Answer", "answer share requests", args)
}

// GetRequest answers the request with this ID, from the index.
func (s *Sharing) GetRequest(ctx context.Context, id string) (Written[domain.ShareRequest], error) {
	return get[domain.ShareRequest](ctx, s.index, domain.KindRequest, id)
}

// ListRequests answers requests in order of ID, from the index.
func (s *Sharing) ListRequests(ctx context.Context, filter index.Filter, page index.Page) (Listed[domain.ShareRequest], error) {
	return list[domain.ShareRequest](ctx, s.index, domain.KindRequest, filter, page)
}

// GetGrant answers the grant with this ID, from the index.
func (s *Sharing) GetGrant(ctx context.Context, id string) (Written[domain.Grant], error) {
	return get[domain.Grant](ctx, s.index, domain.KindGrant, id)
}

// ListGrants answers grants in order of ID, from the index.
func (s *Sharing) ListGrants(ctx context.Context, filter index.Filter, page index.Page) (Listed[domain.Grant], error) {
	return list[domain.Grant](ctx, s.index, domain.KindGrant, filter, page)
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
