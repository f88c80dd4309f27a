package service_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
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

// port is what a use case that writes is called with.
type port struct {
	ctx context.Context
	l   ledger.Ledger
	ix  index.Index
	c   service.Caller
}

func (p port) governance() *service.Governance { return service.NewGovernance(p.l, p.ix) }
func (p port) catalog() *service.Catalog       { return service.NewCatalog(p.l, p.ix) }
func (p port) sharing() *service.Sharing       { return service.NewSharing(p.l, p.ix) }
func (p port) alarms() *service.Alarms         { return service.NewAlarms(p.l, p.ix) }

func (p port) certificates() *service.Certificates {
	c := service.NewCertificates(p.l, p.ix, "http://x")
	c.Clock = func() time.Time { return ledgertest.Start }
	return c
}

// failure is the error of a use case.
func failure[T any](_ T, err error) error { return err }

var (
	admins    = []domain.Role{domain.RoleAdmin}
	operators = []domain.Role{domain.RoleOperator}
	reviewers = []domain.Role{domain.RoleReviewer}
	either    = []domain.Role{domain.RoleOperator, domain.RoleReviewer}
	watchers  = []domain.Role{domain.RoleGateway, domain.RoleAuditor}
	anybody   = []domain.Role{domain.RoleOperator, domain.RoleReviewer, domain.RoleGateway}
)

// writes are all use cases that write, each with the roles that may.
var writes = []struct {
	transaction string
	roles       []domain.Role
	call        func(p port) error
}{
	{"governance:RegisterDepartment", admins, func(p port) error {
		return failure(p.governance().RegisterDepartment(p.ctx, p.c, domain.RegisterDepartmentArgs{
			Code: "health", MSPID: "HealthMSP", NameZh: "卫健委", NameEn: "Health", USCC: "11100000MB03271699",
		}))
	}},
	{"governance:SetCalendar", admins, func(p port) error {
		return failure(p.governance().SetCalendar(p.ctx, p.c, calendar()))
	}},
	{"governance:SetRule", admins, func(p port) error {
		return failure(p.governance().SetRule(p.ctx, p.c, deadlineRule(domain.DeadlineMediation)))
	}},
	{"access:RegisterLog", admins, func(p port) error {
		return failure(p.governance().RegisterLog(p.ctx, p.c, domain.RegisterLogArgs{Origin: origin(p.c.Department), VerifierKey: logKey(p.c.Department)}))
	}},
	{"access:RaiseAlarm", watchers, func(p port) error {
		return failure(p.alarms().Raise(p.ctx, p.c, unusualUse("g/1")))
	}},
	{"access:CloseAlarm", reviewers, func(p port) error {
		return failure(p.alarms().Close(p.ctx, p.c, domain.CloseAlarmArgs{ID: grantID(1), Finding: "查实"}))
	}},
	{"catalog:Register", operators, func(p port) error {
		return failure(p.catalog().Register(p.ctx, p.c, domain.RegisterCatalogArgs{Content: content()}))
	}},
	{"catalog:RegisterBatch", operators, func(p port) error {
		return failure(p.catalog().RegisterBatch(p.ctx, p.c, domain.RegisterBatchArgs{Contents: contents(2)}))
	}},
	{"catalog:Submit", operators, func(p port) error { return failure(p.catalog().Submit(p.ctx, p.c, entryCode)) }},
	{"catalog:Review", reviewers, func(p port) error {
		return failure(p.catalog().Review(p.ctx, p.c, domain.ReviewCatalogArgs{Code: entryCode, Decision: domain.Approve}))
	}},
	{"catalog:ReviewBatch", reviewers, func(p port) error {
		return failure(p.catalog().ReviewBatch(p.ctx, p.c, domain.ReviewBatchArgs{Codes: []string{entryCode}, Decision: domain.Approve}))
	}},
	{"catalog:Publish", operators, func(p port) error { return failure(p.catalog().Publish(p.ctx, p.c, entryCode)) }},
	{"catalog:PublishBatch", operators, func(p port) error {
		return failure(p.catalog().PublishBatch(p.ctx, p.c, domain.CodesArgs{Codes: []string{entryCode}}))
	}},
	{"catalog:Change", operators, func(p port) error {
		return failure(p.catalog().Change(p.ctx, p.c, domain.ChangeCatalogArgs{Content: content()}))
	}},
	{"catalog:Retire", operators, func(p port) error {
		return failure(p.catalog().Retire(p.ctx, p.c, domain.RetireCatalogArgs{Code: entryCode, Way: domain.TakeOffline, Reason: "系统停用"}))
	}},
	{"catalog:RequireUpdate", either, func(p port) error {
		return failure(p.catalog().RequireUpdate(p.ctx, p.c, domain.RequireUpdateArgs{Code: entryCode, Reason: "职责划转"}))
	}},
	{"catalog:MarkOverdue", anybody, func(p port) error { return failure(p.catalog().MarkOverdue(p.ctx, p.c, entryCode)) }},
	{"sharing:Request", operators, func(p port) error {
		return failure(p.sharing().Request(p.ctx, p.c, shareRequest("", domain.Quota{Total: 1, PerDay: 1})))
	}},
	{"sharing:Accept", reviewers, func(p port) error {
		return failure(p.sharing().Accept(p.ctx, p.c, domain.AcceptArgs{ID: grantID(1), Decision: domain.AcceptRequest}))
	}},
	{"sharing:Supplement", operators, func(p port) error {
		return failure(p.sharing().Supplement(p.ctx, p.c, domain.SupplementArgs{Content: shareRequest(grantID(1), domain.Quota{Total: 1, PerDay: 1})}))
	}},
	{"sharing:Answer", reviewers, func(p port) error {
		return failure(p.sharing().Answer(p.ctx, p.c, domain.AnswerArgs{ID: grantID(1), Decision: domain.Agree}))
	}},
	{"sharing:Extend", reviewers, func(p port) error {
		return failure(p.sharing().Extend(p.ctx, p.c, domain.ExtendArgs{ID: grantID(1), Days: 5, Reason: "数据量大"}))
	}},
	{"sharing:DecideExtension", reviewers, func(p port) error {
		return failure(p.sharing().DecideExtension(p.ctx, p.c, domain.DecideExtensionArgs{ID: grantID(1), Decision: domain.GrantExtension}))
	}},
	{"sharing:Dispute", operators, func(p port) error {
		return failure(p.sharing().Dispute(p.ctx, p.c, domain.DisputeArgs{ID: grantID(1), Reason: "依据不成立"}))
	}},
	{"sharing:Mediate", reviewers, func(p port) error {
		return failure(p.sharing().Mediate(p.ctx, p.c, domain.MediateArgs{ID: grantID(1), Decision: domain.Remand, Reason: "应当共享"}))
	}},
	{"sharing:Deliver", operators, func(p port) error {
		return failure(p.sharing().Deliver(p.ctx, p.c, domain.DeliverArgs{ID: grantID(1), DeliveryDigest: strings.Repeat("e", 64)}))
	}},
	{"sharing:Confirm", operators, func(p port) error {
		return failure(p.sharing().Confirm(p.ctx, p.c, domain.ConfirmArgs{ID: grantID(1), Decision: domain.ConfirmDelivery}))
	}},
	{"sharing:Withdraw", operators, func(p port) error { return failure(p.sharing().Withdraw(p.ctx, p.c, because(grantID(1)))) }},
	{"sharing:Close", operators, func(p port) error { return failure(p.sharing().Close(p.ctx, p.c, because(grantID(1)))) }},
	{"sharing:MarkOverdue", anybody, func(p port) error { return failure(p.sharing().MarkOverdue(p.ctx, p.c, grantID(1))) }},
	{"sharing:Suspend", reviewers, func(p port) error { return failure(p.sharing().Suspend(p.ctx, p.c, because(grantID(1)))) }},
	{"sharing:Resume", reviewers, func(p port) error { return failure(p.sharing().Resume(p.ctx, p.c, because(grantID(1)))) }},
	{"sharing:Revoke", reviewers, func(p port) error { return failure(p.sharing().Revoke(p.ctx, p.c, because(grantID(1)))) }},
	{"certificate:Issue", operators, func(p port) error { return failure(p.certificates().Issue(p.ctx, p.c, issueRequest())) }},
	{"certificate:IssueBatch", operators, func(p port) error {
		return failure(p.certificates().IssueBatch(p.ctx, p.c, []service.IssueRequest{issueRequest()}))
	}},
	{"certificate:Propose", operators, func(p port) error {
		return failure(p.certificates().Propose(p.ctx, p.c, proposal(grantID(2), domain.RevokeCertificate, ledgertest.Start)))
	}},
	{"certificate:Decide", reviewers, func(p port) error {
		return failure(p.certificates().Decide(p.ctx, p.c, approval(grantID(2))))
	}},
	{"certificate:DecideBatch", reviewers, func(p port) error {
		return failure(p.certificates().DecideBatch(p.ctx, p.c, domain.DecideBatchArgs{Refs: []string{grantID(2)}, Decision: domain.ApproveCertificate}))
	}},
	{"certificate:Authorise", admins, func(p port) error {
		return failure(p.certificates().Authorise(p.ctx, p.c, domain.AuthoriseArgs{
			Issuer: "police", TypeCode: issueRequest().TypeCode, TypeNameZh: "证", TypeNameEn: "Certificate", Basis: "法",
			Period: domain.Period{From: ledgertest.Start, To: ledgertest.Start.AddDate(1, 0, 0)},
		}))
	}},
	{"certificate:EndAuthorisation", admins, func(p port) error {
		return failure(p.certificates().EndAuthorisation(p.ctx, p.c, domain.EndAuthorisationArgs{Issuer: "police", TypeCode: issueRequest().TypeCode, Reason: "职责划转"}))
	}},
}

// because names a request or grant, with a reason for what is done to it.
func because(id string) domain.ReasonArgs { return domain.ReasonArgs{ID: id, Reason: "业务调整"} }

// logKey answers a verifier key for a department's log, whose private half nobody
// has.
func logKey(code domain.DepartmentCode) string {
	_, vkey, err := note.GenerateKey(rand.Reader, origin(code))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return vkey
}

var policeKey = logKey("police")

func grantID(n int) string { return fmt.Sprintf("%032x", n) }

// submits counts what reaches the ledger.
type submits struct {
	ledger.Ledger
	transactions []string
	operations   []string
	err          func() error // what every submit fails with, when set
}

func (s *submits) Submit(ctx context.Context, r ledger.Request) (ledger.Receipt, error) {
	s.transactions = append(s.transactions, r.Transaction+" as "+string(r.Role))
	s.operations = append(s.operations, r.Operation)
	if s.err != nil {
		if err := s.err(); err != nil {
			return ledger.Receipt{}, err
		}
	}
	return s.Ledger.Submit(ctx, r)
}

// TestWritesCoverTheMachines keeps the table above complete and its roles those
// of the state machines; a batch has the roles of what it does many times.
func TestWritesCoverTheMachines(t *testing.T) {
	want := map[string]map[domain.Role]bool{}
	for _, m := range domain.Machines() {
		for _, transition := range m.Transitions {
			if transition.Transaction == "access:Anchor" {
				continue // the anchorer's, without a caller
			}
			if want[transition.Transaction] == nil {
				want[transition.Transaction] = map[domain.Role]bool{}
			}
			want[transition.Transaction][transition.Role] = true
		}
	}
	for _, name := range []string{"Register", "Review", "Publish"} {
		want["catalog:"+name+"Batch"] = want["catalog:"+name]
	}
	for _, name := range []string{"Issue", "Decide"} {
		want["certificate:"+name+"Batch"] = want["certificate:"+name]
	}
	got := map[string]map[domain.Role]bool{}
	for _, w := range writes {
		got[w.transaction] = map[domain.Role]bool{}
		for _, role := range w.roles {
			got[w.transaction][role] = true
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cases (-machines +table):\n%s", diff)
	}
}

// TestDuties checks the sentences that say who may do what.
func TestDuties(t *testing.T) {
	for transaction, want := range map[string]string{
		"catalog:Register":      "catalog:Register is for role operator of any department or the owner",
		"catalog:RegisterBatch": "catalog:RegisterBatch is for role operator of any department or the owner",
		"catalog:Review":        "catalog:Review is for role reviewer of the lead or any other department in the lead's own matters",
		"catalog:RequireUpdate": "catalog:RequireUpdate is for role operator of the owner, or for role reviewer of the lead",
		"catalog:MarkOverdue":   "catalog:MarkOverdue is for role operator or role reviewer or role gateway of any department",
		"sharing:Suspend":       "sharing:Suspend is for role reviewer of the provider or the lead",
	} {
		if got := service.Rule(transaction); got != want {
			t.Errorf("rule %q, want %q", got, want)
		}
	}
}

// TestRoleMatrix calls every write with every role: a wrong one is refused with
// the rule, and nothing reaches the ledger.
func TestRoleMatrix(t *testing.T) {
	w := newWorld(t)
	for _, write := range writes {
		for _, role := range append([]domain.Role{""}, domain.Roles...) {
			t.Run(write.transaction+" as "+string(role), func(t *testing.T) {
				spy := &submits{Ledger: w.ledger, err: func() error { return errors.New("stop here") }}
				err := write.call(port{t.Context(), spy, w.index, service.Caller{Department: "police", Role: role}})
				if slices.Contains(write.roles, role) {
					if got, want := spy.transactions, []string{write.transaction + " as " + string(role)}; !cmp.Equal(got, want) {
						t.Errorf("submitted %q, want %q (error %v)", got, want, err)
					}
					return
				}
				wantKind(t, err, domain.Forbidden, "role "+string(role)+" may not ")
				wantKind(t, err, domain.Forbidden, "rule: "+write.transaction+" is for role "+string(write.roles[0]))
				if len(spy.transactions) != 0 {
					t.Errorf("submitted %q", spy.transactions)
				}
			})
		}
	}
}

// rehearsal is a ledger on which nothing comes to pass: a submit is evaluated.
type rehearsal struct{ ledger.Ledger }

func (r rehearsal) Submit(ctx context.Context, q ledger.Request) (ledger.Receipt, error) {
	result, err := r.Evaluate(ctx, q.Role, q.Transaction, q.Argument)
	return ledger.Receipt{Result: result}, err
}

// TestDepartmentMatrix calls every write with every role of every department, on
// a published entry and an accepted request, and compares what the real rules say
// with the rows of the state machines.
func TestDepartmentMatrix(t *testing.T) {
	w := newWorld(t)
	w.accepted(grantID(1), domain.Quota{Total: 1, PerDay: 1}) // civil asks the police
	state := map[domain.RecordKind]string{
		domain.KindDepartment: "", domain.KindCalendar: "registered", domain.KindRule: "registered",
		domain.KindCatalogEntry: string(domain.CatalogPublished), domain.KindRequest: string(domain.RequestAccepted),
		domain.KindGrant: "", domain.KindLog: "", domain.KindCertificate: "", domain.KindIssuer: string(domain.AuthorisationActive),
	}
	sides := map[domain.DepartmentCode][]domain.Side{
		"bigdata": {domain.SideAny, domain.SideLead}, "police": {domain.SideAny, domain.SideOwner, domain.SideProvider},
		"civil": {domain.SideAny, domain.SideConsumer}, "market": {domain.SideAny},
	}
	// sharing:Request names a new request and RegisterBatch new entries.
	absent := map[string]bool{"sharing:Request": true, "catalog:RegisterBatch": true}
	cells := 0
	for _, write := range writes {
		transaction := strings.TrimSuffix(write.transaction, "Batch")
		var machine domain.Machine
		for _, m := range domain.Machines() {
			if m.Kind != domain.KindGrant || machine.Kind == "" {
				if slices.ContainsFunc(m.Transitions, func(row domain.Transition) bool { return row.Transaction == transaction }) {
					machine = m
				}
			}
		}
		from := state[machine.Kind]
		if absent[write.transaction] {
			from = domain.Absent
		}
		for code, acts := range sides {
			holds := slices.Clone(acts)
			if transaction == "sharing:Request" && code != "police" {
				holds = append(holds, domain.SideConsumer) // whoever is not the provider may become it
			}
			for _, role := range domain.Roles {
				cells++
				var admitted, sideHolds bool
				for _, row := range machine.Transitions {
					if row.Transaction != transaction || row.Role != role || !slices.Contains(holds, row.Side) {
						continue
					}
					admitted = admitted || row.From == from
					sideHolds = sideHolds || row.From != domain.Absent
				}
				err := write.call(port{t.Context(), rehearsal{w.chain.Ledger(code)}, w.index, service.Caller{Department: code, Role: role}})
				kind := domain.KindOf(err)
				name := write.transaction + " by " + string(role) + " of " + string(code)
				switch {
				case err != nil && kind == "":
					t.Errorf("%s: %v, which is no refusal", name, err)
				case !slices.Contains(write.roles, role):
					if kind != domain.Forbidden {
						t.Errorf("%s: %v, want forbidden", name, err)
					}
				case admitted: // whatever else its argument is refused for
					if kind == domain.Forbidden || kind == domain.WrongState {
						t.Errorf("%s: %v, want it admitted", name, err)
					}
				case from == domain.Absent:
					if kind != domain.Forbidden && kind != domain.NotFound {
						t.Errorf("%s: %v, want forbidden or not_found", name, err)
					}
				case sideHolds:
					if got := domain.StateOf(err); kind != domain.WrongState && kind != domain.Exists || kind == domain.WrongState && got != from {
						t.Errorf("%s: %v, want wrong_state naming %s", name, err, from)
					}
				case kind != domain.Forbidden && kind != domain.Exists:
					t.Errorf("%s: %v, want forbidden", name, err)
				}
			}
		}
	}
	if want := len(writes) * 4 * len(domain.Roles); cells != want {
		t.Errorf("%d cells, want %d", cells, want)
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
			err := write.call(port{t.Context(), spy, w.index, service.Caller{Department: "police", Role: write.roles[0]}})
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

// TestOperationReachesTheLedger checks that every write carries the caller's
// operation.
func TestOperationReachesTheLedger(t *testing.T) {
	w := newWorld(t)
	for _, write := range writes {
		t.Run(write.transaction, func(t *testing.T) {
			spy := &submits{Ledger: w.ledger, err: func() error { return errors.New("stop here") }}
			caller := service.Caller{Department: "police", Role: write.roles[0], Operation: grantID(77)}
			if err := write.call(port{t.Context(), spy, w.index, caller}); err == nil {
				t.Error("no error")
			}
			if want := []string{grantID(77)}; !cmp.Equal(spy.operations, want) {
				t.Errorf("operations %q, want %q", spy.operations, want)
			}
		})
	}
}

// TestRefusalsAreNotRetried checks that only a lost race is tried again: a
// refusal stays one.
func TestRefusalsAreNotRetried(t *testing.T) {
	w := newWorld(t)
	for _, kind := range domain.Kinds {
		spy := &submits{Ledger: w.ledger, err: func() error { return &domain.Error{Kind: kind, Msg: "request x is closed; no"} }}
		_, err := service.NewSharing(spy, w.index).Close(t.Context(), policeOperator, because(grantID(1)))
		wantKind(t, err, kind, "")
		if len(spy.transactions) != 1 {
			t.Errorf("%s: %d attempts, want 1", kind, len(spy.transactions))
		}
	}
}

// TestUnreadableResult checks that a committed write is never told as a failure.
func TestUnreadableResult(t *testing.T) {
	chain := ledgertest.NewChain(func(ledgertest.Call) ([]byte, []domain.Write, error) {
		return []byte("not a record"), nil, nil
	})
	ix := newIndex(t)
	_, err := service.NewCatalog(chain.Ledger("police"), ix).Register(t.Context(), policeOperator, domain.RegisterCatalogArgs{Content: content()})
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
	written, err := service.NewCatalog(w.ledger, lagging{w.index}).Register(t.Context(), policeOperator, domain.RegisterCatalogArgs{Content: content()})
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
