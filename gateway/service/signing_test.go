package service_test

import (
	"context"
	"crypto/x509"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// emptyOutbox takes over what is handed to it, and knows of nothing.
type emptyOutbox struct{ handed int }

func (*emptyOutbox) Operation(context.Context, string) (ledger.Operation, error) {
	return ledger.Operation{}, &domain.Error{Kind: domain.NotFound, Msg: "no operation"}
}

func (*emptyOutbox) UnderWay(string) (ledger.Request, ledger.Operation, bool) {
	return ledger.Request{}, ledger.Operation{}, false
}

func (o *emptyOutbox) Hand(context.Context, ledger.Request, ledger.Transaction) (ledger.Receipt, error) {
	o.handed++
	return ledger.Receipt{}, nil
}

// TestSigningWaiting follows what waits for signatures: both of them, until the outbox
// has it or it has waited too long.
func TestSigningWaiting(t *testing.T) {
	w := newWorld(t)
	person := prooftest.New().Department("police").Client
	writes := new(emptyOutbox)
	s := service.NewSigning(service.SigningOptions{
		Department: "police", Ledger: w.ledger, Offline: w.ledger, Outbox: writes, Index: w.index, Clock: w.clock.Now,
		Holder: func(*x509.Certificate) (domain.Role, error) { return domain.RoleOperator, nil },
	})
	waiting := func(when string, want int, since time.Time) {
		t.Helper()
		if n, oldest := s.Waiting(); n != want || !oldest.Equal(since) {
			t.Errorf("%s: %d wait since %s, want %d since %s", when, n, oldest, want, since)
		}
	}
	ask := func(operation string, content domain.CatalogContent) {
		t.Helper()
		argument, err := domain.Canonical(domain.RegisterCatalogArgs{Content: content})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Submit(t.Context(), ledger.Request{
			Role: domain.RoleOperator, Transaction: "catalog:Register", Argument: argument, Operation: operation, Certificate: string(person.PEM()),
		})
		if err == nil {
			t.Fatal("a write is done that nobody signed")
		}
	}
	sign := func(operation string, step ledger.Step) {
		t.Helper()
		now, err := s.Operation(t.Context(), operation)
		if err != nil || now.Signing == nil || now.Signing.Step != step {
			t.Fatalf("%s is %+v, %v", operation, now, err)
		}
		_, err = s.Sign(t.Context(), policeOperator, operation, step, person.Sign(now.Signing.Message))
		if err != nil && step == ledger.StepProposal {
			t.Fatal(err)
		}
	}
	const first, second = "00000000000000000000000000000001", "00000000000000000000000000000002"
	waiting("at first", 0, time.Time{})
	entries := contents(2)
	began := w.clock.Now()
	ask(first, entries[0])
	w.clock.Advance(time.Minute)
	ask(second, entries[1])
	waiting("two asked for", 2, began)
	sign(first, ledger.StepProposal)
	waiting("one signature given", 2, began)
	sign(first, ledger.StepTransaction)
	if writes.handed != 1 {
		t.Fatalf("the outbox took %d over", writes.handed)
	}
	waiting("one signed", 1, began.Add(time.Minute))
	w.clock.Advance(10*time.Minute + time.Second)
	waiting("too long", 0, time.Time{})
}
