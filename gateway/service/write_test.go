package service_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/ledger/ledgertest"
	"github.com/zhenglian/zhenglian/gateway/service"
)

// writes are all use cases that write, each with the one role that may.
var writes = []struct {
	transaction string
	role        domain.Role
	call        func(ctx context.Context, l ledger.Ledger, ix index.Index, c service.Caller) error
}{
	{"governance:RegisterDepartment", domain.RoleAdmin, func(ctx context.Context, l ledger.Ledger, ix index.Index, c service.Caller) error {
		_, err := service.NewGovernance(l, ix).RegisterDepartment(ctx, c, domain.RegisterDepartmentArgs{
			Code: "health", MSPID: "HealthMSP", NameZh: "卫健委", NameEn: "Health", USCC: "11100000MB03271699",
		})
		return err
	}},
	{"catalog:Register", domain.RoleOperator, func(ctx context.Context, l ledger.Ledger, ix index.Index, c service.Caller) error {
		_, err := service.NewCatalog(l, ix).Register(ctx, c, content())
		return err
	}},
	{"catalog:Review", domain.RoleReviewer, func(ctx context.Context, l ledger.Ledger, ix index.Index, c service.Caller) error {
		_, err := service.NewCatalog(l, ix).Review(ctx, c, domain.ReviewCatalogArgs{Code: entryCode, Decision: domain.Approve})
		return err
	}},
	{"catalog:Publish", domain.RoleOperator, func(ctx context.Context, l ledger.Ledger, ix index.Index, c service.Caller) error {
		_, err := service.NewCatalog(l, ix).Publish(ctx, c, entryCode)
		return err
	}},
	{"sharing:Request", domain.RoleOperator, func(ctx context.Context, l ledger.Ledger, ix index.Index, c service.Caller) error {
		_, err := service.NewSharing(l, ix).Request(ctx, c, shareRequest("", domain.Quota{Total: 1, PerDay: 1}))
		return err
	}},
	{"sharing:Answer", domain.RoleReviewer, func(ctx context.Context, l ledger.Ledger, ix index.Index, c service.Caller) error {
		_, err := service.NewSharing(l, ix).Answer(ctx, c, domain.AnswerArgs{ID: grantID(1), Decision: domain.Agree})
		return err
	}},
	{"access:RegisterLog", domain.RoleAdmin, func(ctx context.Context, l ledger.Ledger, ix index.Index, c service.Caller) error {
		_, err := service.NewGovernance(l, ix).RegisterLog(ctx, c, domain.RegisterLogArgs{
			Origin: origin("police"), VerifierKey: policeKey,
		})
		return err
	}},
	{"certificate:Issue", domain.RoleOperator, func(ctx context.Context, l ledger.Ledger, ix index.Index, c service.Caller) error {
		certificates := service.NewCertificates(l, ix, "http://x")
		certificates.Clock = func() time.Time { return ledgertest.Start }
		_, err := certificates.Issue(ctx, c, issueRequest())
		return err
	}},
	{"certificate:Revoke", domain.RoleReviewer, func(ctx context.Context, l ledger.Ledger, ix index.Index, c service.Caller) error {
		_, err := service.NewCertificates(l, ix, "http://x").Revoke(ctx, c, revokeArgs(grantID(2), ledgertest.Start))
		return err
	}},
}

// policeKey is a verifier key whose private half nobody has.
var policeKey = func() string {
	_, vkey, err := note.GenerateKey(rand.Reader, origin("police"))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return vkey
}()

func grantID(n int) string { return fmt.Sprintf("%032x", n) }

// submits counts what reaches the ledger.
type submits struct {
	ledger.Ledger
	transactions []string
	err          func() error // what every submit fails with, when set
}

func (s *submits) Submit(ctx context.Context, role domain.Role, transaction string, argument []byte) (ledger.Receipt, error) {
	s.transactions = append(s.transactions, transaction+" as "+string(role))
	if s.err != nil {
		if err := s.err(); err != nil {
			return ledger.Receipt{}, err
		}
	}
	return s.Ledger.Submit(ctx, role, transaction, argument)
}

// TestWritesCoverTheMachines keeps the table below complete.
func TestWritesCoverTheMachines(t *testing.T) {
	covered := map[string]bool{"access:Anchor": true} // the anchorer's, without a caller
	for _, w := range writes {
		covered[w.transaction] = true
	}
	for _, m := range domain.Machines() {
		for _, transition := range m.Transitions {
			if !covered[transition.Transaction] {
				t.Errorf("no case for %s", transition.Transaction)
			}
			if _, ok := service.Duties[transition.Transaction]; !ok {
				t.Errorf("no duty for %s", transition.Transaction)
			}
		}
	}
}

// TestRoleMatrix calls every write with every role: a wrong one is refused with
// the rule, and nothing reaches the ledger.
func TestRoleMatrix(t *testing.T) {
	w := newWorld(t)
	for _, write := range writes {
		for _, role := range domain.Roles {
			t.Run(write.transaction+" as "+string(role), func(t *testing.T) {
				spy := &submits{Ledger: w.ledger, err: func() error { return errors.New("stop here") }}
				err := write.call(t.Context(), spy, w.index, service.Caller{Department: "police", Role: role})
				if role == write.role {
					if got, want := spy.transactions, []string{write.transaction + " as " + string(role)}; !cmp.Equal(got, want) {
						t.Errorf("submitted %q, want %q (error %v)", got, want, err)
					}
					return
				}
				wantKind(t, err, domain.Forbidden, "role "+string(role)+" may not ")
				wantKind(t, err, domain.Forbidden, "rule: "+write.transaction+" is for role "+string(write.role))
				if len(spy.transactions) != 0 {
					t.Errorf("submitted %q", spy.transactions)
				}
			})
		}
	}
}

// TestUnknownOutcome checks that every write passes an unknown outcome on as it
// is, without a second attempt.
func TestUnknownOutcome(t *testing.T) {
	w := newWorld(t)
	for _, write := range writes {
		t.Run(write.transaction, func(t *testing.T) {
			want := &ledger.OutcomeUnknownError{TxID: "ab12", Err: context.DeadlineExceeded}
			spy := &submits{Ledger: w.ledger, err: func() error { return want }}
			err := write.call(t.Context(), spy, w.index, service.Caller{Department: "police", Role: write.role})
			var got *ledger.OutcomeUnknownError
			if !errors.As(err, &got) || got != want {
				t.Errorf("error is %v, want it to wrap %v", err, want)
			}
			if len(spy.transactions) != 1 {
				t.Errorf("submitted %q, want one attempt", spy.transactions)
			}
		})
	}
}

func TestConflictIsRetried(t *testing.T) {
	for _, tt := range []struct {
		name      string
		conflicts int
		attempts  int
		kind      domain.Kind
	}{
		{"none", 0, 1, ""},
		{"lost once", 1, 2, ""},
		{"lost always", 9, 3, domain.Conflict},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			left := tt.conflicts
			spy := &submits{Ledger: w.ledger, err: func() error {
				if left--; left >= 0 {
					return &domain.Error{Kind: domain.Conflict, Msg: "MVCC_READ_CONFLICT"}
				}
				return nil
			}}
			_, err := service.NewCatalog(spy, w.index).Register(t.Context(), policeOperator, content())
			if domain.KindOf(err) != tt.kind || (tt.kind == "") != (err == nil) {
				t.Errorf("error is %v, want kind %q", err, tt.kind)
			}
			if len(spy.transactions) != tt.attempts {
				t.Errorf("%d attempts, want %d", len(spy.transactions), tt.attempts)
			}
		})
	}
}

// TestUnreadableResult checks that a committed write is never told as a failure.
func TestUnreadableResult(t *testing.T) {
	chain := ledgertest.NewChain(func(ledgertest.Call) ([]byte, []domain.Write, error) {
		return []byte("not a record"), nil, nil
	})
	ix := newIndex(t)
	_, err := service.NewCatalog(chain.Ledger("police"), ix).Register(t.Context(), policeOperator, content())
	var unknown *ledger.OutcomeUnknownError
	if !errors.As(err, &unknown) || unknown.TxID == "" {
		t.Errorf("error is %v, want an OutcomeUnknownError with the transaction", err)
	}
	if domain.KindOf(err) != "" {
		t.Errorf("error %v has kind %s, as if the write had been refused", err, domain.KindOf(err))
	}
}

// lagging is an index that never reaches a block.
type lagging struct{ index.Index }

func (lagging) WaitBlock(ctx context.Context, _ uint64) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestWriteAnswersThoughIndexLags(t *testing.T) {
	t.Parallel() // waits
	w := newWorld(t)
	begin := time.Now()
	written, err := service.NewCatalog(w.ledger, lagging{w.index}).Register(t.Context(), policeOperator, content())
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if written.Block == 0 || written.TxID == "" || written.Value.Content.Code != entryCode {
		t.Errorf("written is %+v", written)
	}
}

// TestForeignDepartment checks that the ledger refuses what the service cannot
// tell from the role: another department's record.
func TestForeignDepartment(t *testing.T) {
	w := newWorld(t)
	w.publish()
	market := service.NewCatalog(w.chain.Ledger("market"), w.index)
	caller := service.Caller{Department: "market", Role: domain.RoleOperator}
	_, err := market.Publish(t.Context(), caller, entryCode)
	wantKind(t, err, domain.Forbidden, "")
	_, err = market.Review(t.Context(), service.Caller{Department: "market", Role: domain.RoleReviewer},
		domain.ReviewCatalogArgs{Code: entryCode, Decision: domain.Approve})
	wantKind(t, err, domain.Forbidden, "")
}
