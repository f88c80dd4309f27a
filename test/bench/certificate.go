package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/hyperledger/fabric-gateway/pkg/client"

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
		one := []domain.CertificateContent{c}
		b.places(one)
		c = one[0]
		return issue(ctx, "certificate:Issue", "certificate:Decide", domain.IssueArgs{Content: c}, domain.DecideArgs{Ref: c.Ref, Decision: domain.ApproveCertificate})
	})}
	batch = arm{"certificate.batch", func(ctx context.Context) (sample, error) {
		s, err := b.transactions(batchClients, func(ctx context.Context) (string, error) {
			args := domain.IssueBatchArgs{Contents: make([]domain.CertificateContent, domain.MaxBatch)}
			decision := domain.DecideBatchArgs{Decision: domain.ApproveCertificate}
			batch := ""
			for i := range args.Contents {
				c, err := b.certificate()
				if err != nil {
					return "", err
				}
				if i%domain.MaxBatchRows == 0 {
					batch = domain.BatchOf(c.Ref)
				}
				c.Ref = batch + c.Ref[domain.BatchPart:]
				args.Contents[i], decision.Refs = c, append(decision.Refs, c.Ref)
			}
			b.places(args.Contents)
			return issue(ctx, "certificate:IssueBatch", "certificate:DecideBatch", args, decision)
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
	c.CertID, err = id.Compose()
	return c, err
}

// places gives the certificates of a transaction places in the status lists as an
// issuer does: together, and away from those of other transactions, which would
// otherwise wait for one another.
func (b *bench) places(contents []domain.CertificateContent) {
	n := (len(contents) + domain.StatusPlacesLength - 1) / domain.StatusPlacesLength
	first := (int(b.sequence.Add(int64(n))) - n) % (domain.MaxStatusIndex / domain.StatusPlacesLength)
	for i := range contents {
		contents[i].StatusIndex = first*domain.StatusPlacesLength + i
	}
}

// submitThrough runs a transaction with the identity of a connection and answers
// its ID once it is committed. As from the gateway, a long argument travels beside it.
func submitThrough(ctx context.Context, f *consortium.Fabric, transaction string, args any) (string, error) {
	argument, err := domain.Canonical(args)
	if err != nil {
		return "", err
	}
	if len(argument) <= domain.InlineArgument {
		return submitArguments(ctx, f, transaction, argument)
	}
	return submitProposal(ctx, f, transaction, client.WithBytesArguments(domain.ArgumentReference(argument)),
		client.WithTransient(map[string][]byte{domain.TransientArgument: argument}))
}
