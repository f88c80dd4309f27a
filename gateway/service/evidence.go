package service

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/cache"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/proof"
)

const (
	// proofFor is how long a proof is served after it was made: half of what it
	// speaks for, so that whoever downloads it has the other half.
	proofFor = domain.StatementLife / 2

	// proofWait bounds one signed read with its checks.
	proofWait = 15 * time.Second

	// maxSigning is how many signed reads may be under way: anyone may ask for
	// proofs, and the departments' peers have writes to sign, too.
	maxSigning = 16

	// agreeWait is about how long peers and index may take to show the same
	// record.
	agreeWait = 3 * time.Second
)

// proven is a proof file with what it proves.
type proven struct {
	bundle  []byte
	verdict proof.Verdict
}

// Proof answers a proof file that speaks for the present about a record of the
// ledger, or about there being none, with the verdict that any verifier will
// reach on it. Every answer has just passed [proof.Verify] with the gateway's
// own trust anchors; one that does not pass, or that differs from the index, is
// an error and is never handed out.
//
// A kind or ID that cannot exist is a [*domain.Error] of kind invalid; too few
// departments, or too many proofs at one time, are a [*ledger.UnavailableError].
func (v *Verifier) Proof(ctx context.Context, kind, id string) ([]byte, proof.Verdict, error) {
	nonce, err := randomHex(rand.Reader)
	if err != nil {
		return nil, proof.Verdict{}, err
	}
	return v.proof(ctx, kind+"/"+id, domain.AttestArgs{Kind: domain.RecordKind(kind), ID: id, Nonce: nonce}, v.prove)
}

// FreshProof is [Verifier.Proof] for an asker who wants the departments to sign
// now: the answer carries the asker's nonce of 32 lower-case hexadecimal digits.
func (v *Verifier) FreshProof(ctx context.Context, kind, id, nonce string) ([]byte, proof.Verdict, error) {
	args := domain.AttestArgs{Kind: domain.RecordKind(kind), ID: id, Nonce: nonce}
	return v.proof(ctx, kind+"/"+id+"/"+nonce, args, v.proveAnew)
}

// proof has prove work once for all who ask under one key at one time.
func (v *Verifier) proof(ctx context.Context, key string, args domain.AttestArgs, prove func(context.Context, domain.AttestArgs) (proven, error)) ([]byte, proof.Verdict, error) {
	if err := args.Validate(); err != nil {
		return nil, proof.Verdict{}, err
	}
	result := v.proofs.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), proofWait)
		defer cancel()
		return prove(ctx, args)
	})
	select {
	case r := <-result:
		if r.Err != nil {
			return nil, proof.Verdict{}, fmt.Errorf("prove %s %s: %w", args.Kind, args.ID, r.Err)
		}
		p := r.Val.(proven)
		return bytes.Clone(p.bundle), p.verdict, nil
	case <-ctx.Done():
		return nil, proof.Verdict{}, fmt.Errorf("prove %s %s: %w", args.Kind, args.ID, ctx.Err())
	}
}

func (v *Verifier) prove(ctx context.Context, args domain.AttestArgs) (proven, error) {
	if args.Kind == domain.KindCertificateID {
		return v.sign(ctx, args) // the index has certificates by reference alone
	}
	indexed, version, err := v.indexed(ctx, args)
	if err != nil {
		return proven{}, err
	}
	// The version of the record is part of the key, so that a write makes the
	// cached proof of the version before unreachable. An index that may be behind
	// does not know of the write: then only the departments can say.
	if e, ok := v.cache.Get(ctx, proofCacheKey(args, version)); ok && fresh(v.heard(), v.clock()) {
		p, err := v.checked(e.Value, args, "")
		if err == nil && p.verdict.Statement.Record == indexed && v.clock().Before(p.verdict.Statement.AsOf.Add(proofFor)) {
			return p, nil
		}
	}
	return v.proveAnew(ctx, args)
}

// proveAnew has the departments sign until what they sign is what the index
// holds. The two differ for a moment after a write, because peers and index hear
// of a block at different times. If they go on differing one of them is behind,
// and a proof of a state that may be past is worse than none.
func (v *Verifier) proveAnew(ctx context.Context, args domain.AttestArgs) (proven, error) {
	select {
	case v.signing <- struct{}{}:
		defer func() { <-v.signing }()
	default:
		return proven{}, &ledger.UnavailableError{Err: fmt.Errorf("%d proofs are being signed already", maxSigning)}
	}
	for wait := 50 * time.Millisecond; ; wait *= 2 {
		p, err := v.sign(ctx, args)
		if err != nil {
			return proven{}, err
		}
		indexed, version, err := v.indexed(ctx, args)
		if err != nil {
			return proven{}, err
		}
		if indexed == p.verdict.Statement.Record {
			v.keep(ctx, proofCacheKey(args, version), p)
			return p, nil
		}
		if wait > agreeWait/2 || !pause(ctx, wait) {
			return proven{}, &ledger.UnavailableError{Err: errors.New("the record that the departments sign is not the one in this gateway's index")}
		}
	}
}

// sign asks the departments once and checks what they sign.
func (v *Verifier) sign(ctx context.Context, args domain.AttestArgs) (proven, error) {
	read, err := v.ledger.SignedRead(ctx, args, v.anchors.Quorum)
	if err != nil {
		return proven{}, err
	}
	endorsements := make([]proof.RawEndorsement, len(read.Endorsements))
	for i, e := range read.Endorsements {
		endorsements[i] = proof.RawEndorsement{Endorser: e.Endorser, Signature: e.Signature}
	}
	bundle, err := proof.Encode(proof.NewBundle(read.Proposal, read.Response, endorsements))
	if err != nil {
		return proven{}, err
	}
	return v.checked(bundle, args, args.Nonce)
}

// keep puts a proof into the cache for half its life.
func (v *Verifier) keep(ctx context.Context, key string, p proven) {
	height, err := v.index.NextBlock(ctx)
	ttl := p.verdict.Statement.AsOf.Add(proofFor).Sub(v.clock())
	if err == nil && ttl > 0 {
		v.cache.Put(ctx, key, cache.Entry{Value: p.bundle, Height: height}, ttl)
	}
}

func proofCacheKey(args domain.AttestArgs, version domain.TxID) string {
	return fmt.Sprintf("proof/%s/%s/%s", args.Kind, args.ID, version)
}

// indexed answers the record's bytes and the transaction that wrote them, both
// "" when there is no record.
func (v *Verifier) indexed(ctx context.Context, args domain.AttestArgs) (string, domain.TxID, error) {
	r, err := v.index.Get(ctx, args.Kind, args.ID)
	switch {
	case domain.KindOf(err) == domain.NotFound:
		return "", "", nil
	case err != nil:
		return "", "", fmt.Errorf("read the index: %w", err)
	}
	return string(r.Value), r.TxID, nil
}

// checked verifies a proof as its reader will.
func (v *Verifier) checked(unverifiedBundle []byte, args domain.AttestArgs, nonce string) (proven, error) {
	verdict := v.check(unverifiedBundle, proof.Options{At: v.clock().UTC(), Nonce: nonce})
	for _, q := range []proof.Question{proof.Integrity, proof.Quorum, proof.Scope, proof.Freshness} {
		i := slices.IndexFunc(verdict.Checks, func(c proof.Check) bool { return c.Question == q })
		if i < 0 || verdict.Checks[i].Outcome != proof.Pass {
			return proven{}, fmt.Errorf("the proof does not verify: %s: %s", q, verdict.Reason)
		}
	}
	switch s := verdict.Statement; {
	case verdict.Overall == proof.CannotCheck || verdict.Overall == proof.BadProof:
		return proven{}, fmt.Errorf("the proof does not verify: %s", verdict.Reason)
	case s == nil || s.Kind != args.Kind || s.ID != args.ID:
		return proven{}, errors.New("the proof speaks about another record")
	}
	return proven{bundle: unverifiedBundle, verdict: verdict}, nil
}
