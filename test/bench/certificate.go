package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/test/consortium"
)

// certificateArms are the issue of certificates one by one and in batches of the
// greatest size. Each takes two transactions, as the law's two persons do: the
// operator's proposal and the reviewer's decision.
func (b *bench) certificateArms() (single, batch arm) {
	issue := func(ctx context.Context, propose, decide string, proposal, decision any) (string, error) {
		if _, err := submitThrough(ctx, b.fabric, propose, proposal); err != nil {
			return "", err
		}
		return submitThrough(ctx, b.reviewer, decide, decision)
	}
	single = arm{"certificate.single", b.transactions(b.set.Clients, func(ctx context.Context) (string, error) {
		c, err := b.certificate()
		if err != nil {
			return "", err
		}
		return issue(ctx, "certificate:Issue", "certificate:Decide", domain.IssueArgs{Content: c}, domain.DecideArgs{Ref: c.Ref, Decision: domain.ApproveCertificate})
	})}
	batch = arm{"certificate.batch", func(ctx context.Context) (sample, error) {
		s, err := b.transactions(batchClients, func(ctx context.Context) (string, error) {
			args := domain.IssueBatchArgs{Contents: make([]domain.CertificateContent, domain.MaxBatch)}
			refs := make([]string, domain.MaxBatch)
			for i := range args.Contents {
				c, err := b.certificate()
				if err != nil {
					return "", err
				}
				args.Contents[i], refs[i] = c, c.Ref
			}
			return issue(ctx, "certificate:IssueBatch", "certificate:DecideBatch", args, domain.DecideBatchArgs{Refs: refs, Decision: domain.ApproveCertificate})
		})(ctx)
		s.Count *= domain.MaxBatch
		return s, err
	}}
	return single, batch
}

// certificate is the sample's certificate once more, under another reference and
// serial.
func (b *bench) certificate() (domain.CertificateContent, error) {
	c := b.issued
	n := b.sequence.Add(1)
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return c, err
	}
	c.Ref = hex.EncodeToString(random)
	id, err := domain.ParseCertificateID(c.CertID)
	if err != nil {
		return c, err
	}
	id.Serial = fmt.Sprintf("BENCH%012d", n)
	c.StatusIndex = int(n % domain.MaxStatusIndex)
	c.CertID, err = id.Compose()
	return c, err
}

// submitThrough runs a transaction with the identity of a connection and answers
// its ID once it is committed.
func submitThrough(ctx context.Context, f *consortium.Fabric, transaction string, args any) (string, error) {
	argument, err := domain.Canonical(args)
	if err != nil {
		return "", err
	}
	return submitArguments(ctx, f, transaction, argument)
}
