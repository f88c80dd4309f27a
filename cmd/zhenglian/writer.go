package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/signing"
)

// writer writes through a gateway, with the key that the gateway has of its role, or
// with one of its own. It is safe for concurrent use.
type writer struct {
	*gatewayClient
	signer *signing.Signer // nil: the gateway signs
}

// newWriter returns a writer for the flags of a call: with a certificate it signs.
func newWriter(c *callCmd) (*writer, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	w := &writer{gatewayClient: client}
	if c.Cert == "" && c.Key == "" {
		return w, nil
	}
	w.signer, err = c.signer(client.sendAny)
	return w, err
}

// post makes a write of the contract with args as its body, once under key, and returns
// where it is on the ledger. A refusal is a [*problemError], whoever signs.
func (w *writer) post(ctx context.Context, target string, args any, key string) (domain.Position, error) {
	body, err := domain.Canonical(args)
	if err != nil {
		return domain.Position{}, err
	}
	r := signing.Request{Method: http.MethodPost, Target: target, Header: make(http.Header), Body: body}
	if w.signer != nil {
		at, err := w.sign(ctx, r, key)
		if err == nil {
			w.wrote(at.Block)
		}
		return at, err
	}
	r.Header.Set("Idempotency-Key", key)
	done, err := w.write(ctx, w.sending(r), repeatable, nil)
	return done.Position, err
}

// sign is post with the writer's own key.
func (w *writer) sign(ctx context.Context, r signing.Request, key string) (domain.Position, error) {
	out, err := w.signer.Write(ctx, r, key)
	var refused *signing.RefusedError
	switch {
	case errors.As(err, &refused):
		return domain.Position{}, &problemError{status: refused.Problem.Status, problem: refused.Problem}
	case err != nil:
		return domain.Position{}, err
	case out.Answer != nil: // it was done before
		var at domain.Position
		if err := json.Unmarshal(out.Answer, &at); err != nil {
			return at, fmt.Errorf("read the gateway's answer: %w", err)
		}
		return at, nil
	case out.Operation.State == api.OperationStateCommitted:
		return domain.Position{Block: uint64(out.Operation.Block), TxID: domain.TxID(out.Operation.TransactionID)}, nil //nolint:gosec // a number of blocks
	}
	return w.outcome(ctx, "/v1/operations/"+out.Operation.ID)
}
