package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
)

// The sample's records, written for this project.
var (
	//go:embed sample/catalog.json
	sampleCatalogFile []byte
	//go:embed sample/sharing.json
	sampleSharingFile []byte
	//go:embed sample/certificate.json
	sampleCertificateFile []byte
)

const (
	// accessBatch is how many access records one call logs.
	accessBatch = 125
	// proofReserve is how long a kept proof file must still speak for.
	proofReserve = time.Hour
)

type sampleEntry struct {
	Department domain.DepartmentCode `json:"department"`
	Content    domain.CatalogContent `json:"content"` // without provider code
}

type sampleSharing struct {
	Consumer         domain.DepartmentCode `json:"consumer"`
	Provider         domain.DepartmentCode `json:"provider"`
	CatalogCode      string                `json:"catalogCode"`
	Items            []string              `json:"items"`
	Purpose          string                `json:"purpose"`
	UseBasis         string                `json:"useBasis"`
	ServiceItem      string                `json:"serviceItem"`
	ShareMode        string                `json:"shareMode"`
	Quota            domain.Quota          `json:"quota"`
	SecurityMeasures string                `json:"securityMeasures"`
	Letter           string                `json:"letter"`
	Reason           string                `json:"reason"`
	Calls            int                   `json:"calls"` // each is logged by both sides
	ConsumerSystem   string                `json:"consumerSystem"`
	ProviderSystem   string                `json:"providerSystem"`
}

type sampleIssue struct {
	Issuer         domain.DepartmentCode `json:"issuer"`
	TypeNumber     string                `json:"typeNumber"`
	TypeNameZh     string                `json:"typeNameZh"`
	TypeNameEn     string                `json:"typeNameEn"`
	HolderKind     string                `json:"holderKind"`
	ServiceItem    string                `json:"serviceItem"`
	ValidDays      int                   `json:"validDays"`
	LostCodeBasis  string                `json:"lostCodeBasis"` // for the revocation of a certificate whose check code was lost
	LostCodeReason string                `json:"lostCodeReason"`
}

// embedded decodes an embedded file strictly; the tests read all of them.
func embedded[T any](data []byte) T {
	var v T
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		panic(fmt.Sprintf("embedded sample: %v", err))
	}
	return v
}

func sampleEntries() []sampleEntry { return embedded[[]sampleEntry](sampleCatalogFile) }
func sampleShare() sampleSharing   { return embedded[sampleSharing](sampleSharingFile) }
func sampleCertificateOf() sampleIssue {
	return embedded[sampleIssue](sampleCertificateFile)
}

// issuer is the department that issues the certificate: the lead where the one
// that the sample means is no member.
func (r *sampleRun) issuer() *sampleDepartment {
	if d := r.departments[sampleCertificateOf().Issuer]; d != nil {
		return d
	}
	return r.departments[r.lead]
}

// parties are the two sides of the sample's share; ok is false where one of them
// is no member, and said then says so.
func (r *sampleRun) parties() (consumer, provider *sampleDepartment, said string, ok bool) {
	s := sampleShare()
	consumer, provider = r.departments[s.Consumer], r.departments[s.Provider]
	if consumer == nil || provider == nil {
		return nil, nil, fmt.Sprintf("skipped: %s and %s are not both members", s.Consumer, s.Provider), false
	}
	return consumer, provider, "", true
}

// steps does what is not done yet. Each step asks the ledger what is there, so
// that a run killed anywhere goes on without doing anything twice.
func (r *sampleRun) steps(ctx context.Context) error {
	if err := r.begin(); err != nil {
		return err
	}
	steps := []struct {
		what string
		do   func(context.Context) (string, error)
	}{
		{"departments", r.registerDepartments},
		{"access logs", r.registerLogs},
		{"catalog entries", r.publishCatalog},
		{"share request", r.share},
		{"access records", r.logAccesses},
		{"certificate", r.issue},
		{"proof", r.proveOffline},
	}
	for i, step := range steps {
		begun := time.Now()
		said, err := step.do(ctx)
		if err != nil {
			return fmt.Errorf("sample, %s: %w", step.what, err)
		}
		fmt.Fprintf(r.out, "[%d/%d] %-16s %-58s %6.1f s\n", i+1, len(steps), step.what, said, time.Since(begun).Seconds())
	}
	now := time.Now().UTC().Truncate(time.Second)
	r.state.CompletedAt = &now
	if err := r.save(); err != nil {
		return err
	}
	fmt.Fprintf(r.out, "The sample is loaded: %.1f s.\n", time.Since(r.start).Seconds())
	return nil
}

// settle repeats a write that depends on what another department has just
// written: peers commit a block within moments of one another, and until then
// one of them may still refuse.
func (r *sampleRun) settle(ctx context.Context, write func() error) error {
	const settling = 20 * time.Second
	deadline := time.Now().Add(min(settling, r.patience))
	for {
		err := write()
		if err == nil || time.Now().After(deadline) ||
			!refusedAs(err, api.ProblemCodeNotFound, api.ProblemCodeConflict, api.ProblemCodeInvalid, api.ProblemCodeForbidden) {
			return err
		}
		if sleepErr := sleep(ctx, 200*time.Millisecond); sleepErr != nil {
			return err
		}
	}
}

// post submits data once the others are ready for it; that the record exists is
// as good as having written it.
func (r *sampleRun) post(ctx context.Context, client *gatewayClient, value any, send func(ctx context.Context, body io.Reader) (*http.Response, error), out any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	err = r.settle(ctx, func() error {
		_, err := client.write(ctx, func(ctx context.Context) (*http.Response, error) {
			return send(ctx, bytes.NewReader(data))
		}, repeatable, out)
		return err
	})
	if refusedAs(err, api.ProblemCodeExists) {
		return nil
	}
	return err
}

// each runs do for every department at once.
func (r *sampleRun) each(ctx context.Context, do func(context.Context, *sampleDepartment) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for code, d := range r.departments {
		group.Go(func() error {
			if err := do(ctx, d); err != nil {
				return fmt.Errorf("%s: %w", code, err)
			}
			return nil
		})
	}
	return group.Wait()
}

func (r *sampleRun) registerDepartments(ctx context.Context) (string, error) {
	admin := r.departments[r.lead].byRole[domain.RoleAdmin]
	register := func(ctx context.Context, d *sampleDepartment) error {
		err := r.post(ctx, admin, api.RegisterDepartment{
			Code: string(d.Code), MSPID: string(d.MSPID), NameZh: d.NameZh, NameEn: d.NameEn, USCC: d.USCC, Lead: d.Code == r.lead,
		}, func(ctx context.Context, body io.Reader) (*http.Response, error) {
			return admin.RegisterDepartmentWithBody(ctx, jsonType, body)
		}, nil)
		return err
	}
	// The first department ever is the lead; it then registers the others.
	if err := register(ctx, r.departments[r.lead]); err != nil {
		return "", fmt.Errorf("%s: %w", r.lead, err)
	}
	err := r.each(ctx, func(ctx context.Context, d *sampleDepartment) error {
		if d.Code == r.lead {
			return nil
		}
		return register(ctx, d)
	})
	return fmt.Sprintf("%d registered by %s", len(r.departments), r.departments[r.lead].NameZh), err
}

func (r *sampleRun) registerLogs(ctx context.Context) (string, error) {
	err := r.each(ctx, func(ctx context.Context, d *sampleDepartment) error {
		admin := d.byRole[domain.RoleAdmin]
		err := r.post(ctx, admin, api.RegisterLog{Origin: d.LogOrigin, VerifierKey: d.LogKey},
			func(ctx context.Context, body io.Reader) (*http.Response, error) {
				return admin.RegisterLogWithBody(ctx, jsonType, body)
			}, nil)
		return err
	})
	return fmt.Sprintf("%d registered, each by its own department", len(r.departments)), err
}

func (r *sampleRun) publishCatalog(ctx context.Context) (string, error) {
	entries := slices.DeleteFunc(sampleEntries(), func(e sampleEntry) bool { return r.departments[e.Department] == nil })
	group, ctx := errgroup.WithContext(ctx)
	for _, e := range entries {
		e.Content.ProviderUSCC = r.departments[e.Department].USCC
		group.Go(func() error {
			if err := r.publish(ctx, e); err != nil {
				return fmt.Errorf("%s %s: %w", e.Content.Code, e.Content.Name, err)
			}
			return nil
		})
	}
	return fmt.Sprintf("%d registered, reviewed and published", len(entries)), group.Wait()
}

// publish takes one entry through its states: registered by its provider's
// operator, reviewed by the lead's reviewer, published by the operator.
func (r *sampleRun) publish(ctx context.Context, e sampleEntry) error {
	operator := r.departments[e.Department].byRole[domain.RoleOperator]
	reviewer := r.departments[r.lead].byRole[domain.RoleReviewer]
	code := e.Content.Code
	read := func() (domain.CatalogState, error) {
		var entry written[domain.CatalogEntry]
		err := operator.read(ctx, func(ctx context.Context) (*http.Response, error) { return operator.GetCatalogEntry(ctx, code) }, &entry)
		if refusedAs(err, api.ProblemCodeNotFound) {
			return "", nil
		}
		return entry.Record.State, err
	}
	state, err := read()
	for err == nil && state != domain.CatalogPublished {
		before := state
		var entry written[domain.CatalogEntry]
		switch state {
		case "", domain.CatalogRegRejected:
			err = r.post(ctx, operator, e.Content, func(ctx context.Context, body io.Reader) (*http.Response, error) {
				return operator.RegisterCatalogEntryWithBody(ctx, jsonType, body)
			}, &entry)
		case domain.CatalogRegPending:
			err = r.post(ctx, reviewer, api.ReviewCatalogEntry{Decision: api.ReviewDecision(domain.Approve), Opinion: "要素齐全，依据明确，同意注册"},
				func(ctx context.Context, body io.Reader) (*http.Response, error) {
					return reviewer.ReviewCatalogEntryWithBody(ctx, code, jsonType, body)
				}, &entry)
		case domain.CatalogRegistered:
			err = r.post(ctx, operator, nil, func(ctx context.Context, _ io.Reader) (*http.Response, error) {
				return operator.PublishCatalogEntry(ctx, code)
			}, &entry)
		case domain.CatalogPublished: // ends the loop
		default:
			return fmt.Errorf("is in state %s", state)
		}
		if state = entry.Record.State; err == nil && state == "" {
			// Written by an earlier run, or learned late: ask for the state.
			err = r.await(ctx, "the gateway knows the entry's state", func() (bool, error) {
				var err error
				state, err = read()
				return state != before && state != "", err
			})
		}
	}
	return err
}

func (r *sampleRun) share(ctx context.Context) (string, error) {
	s := sampleShare()
	consumer, provider, said, ok := r.parties()
	if !ok {
		return said, nil
	}
	operator, reviewer := consumer.byRole[domain.RoleOperator], provider.byRole[domain.RoleReviewer]
	id := r.state.id("request")
	said = fmt.Sprintf("%s 向 %s, agreed and granted", consumer.NameZh, provider.NameZh)
	if found, err := r.grant(ctx, operator, id); err != nil || found != nil {
		return said, err
	}
	err := r.post(ctx, operator, domain.ShareRequestContent{
		ID: id, CatalogCode: s.CatalogCode, Items: s.Items, Purpose: s.Purpose, UseBasis: s.UseBasis,
		ServiceItem: s.ServiceItem, ShareMode: s.ShareMode,
		Period:       domain.Period{From: r.state.CreatedAt, To: r.state.CreatedAt.AddDate(1, 0, 0)},
		Quota:        s.Quota,
		LetterDigest: domain.Digest([]byte(s.Letter)), SecurityMeasures: s.SecurityMeasures,
	}, func(ctx context.Context, body io.Reader) (*http.Response, error) {
		return operator.RequestShareWithBody(ctx, jsonType, body)
	}, nil)
	if err != nil {
		return "", fmt.Errorf("request: %w", err)
	}
	err = r.post(ctx, reviewer, api.AnswerRequest{Decision: api.AnswerDecision(domain.Agree), Reason: s.Reason},
		func(ctx context.Context, body io.Reader) (*http.Response, error) {
			return reviewer.AnswerRequestWithBody(ctx, id, jsonType, body)
		}, nil)
	if err != nil {
		// An earlier run may have answered: then the grant is there.
		if found, readErr := r.grant(ctx, operator, id); readErr != nil || found == nil {
			return "", fmt.Errorf("answer: %w", err)
		}
	}
	return said, nil
}

// grant reads a grant as one gateway knows it, nil when it does not.
func (r *sampleRun) grant(ctx context.Context, client *gatewayClient, id string) (*domain.Grant, error) {
	var found written[domain.Grant]
	err := client.read(ctx, func(ctx context.Context) (*http.Response, error) { return client.GetGrant(ctx, id) }, &found)
	if refusedAs(err, api.ProblemCodeNotFound) {
		return nil, nil
	}
	return &found.Record, err
}

// logAccesses logs every call at the provider and at the consumer and waits until
// both logs are anchored that far.
func (r *sampleRun) logAccesses(ctx context.Context) (string, error) {
	s := sampleShare()
	consumer, provider, said, ok := r.parties()
	if !ok {
		return said, nil
	}
	resumed := r.state.Logging
	if !resumed {
		r.state.Logging = true
		if err := r.save(); err != nil {
			return "", err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, side := range []domain.Direction{domain.DirectionProvider, domain.DirectionConsumer} {
		d := provider
		if side == domain.DirectionConsumer {
			d = consumer
		}
		group.Go(func() error {
			if err := r.logSide(ctx, s, side, d, resumed); err != nil {
				return fmt.Errorf("%s: %w", d.Code, err)
			}
			return nil
		})
	}
	return fmt.Sprintf("%d logged by both sides and anchored", 2*s.Calls), group.Wait()
}

func (r *sampleRun) logSide(ctx context.Context, s sampleSharing, side domain.Direction, d *sampleDepartment, resumed bool) error {
	operator := d.byRole[domain.RoleOperator]
	var grant *domain.Grant
	err := r.await(ctx, "the gateway knows the grant", func() (bool, error) {
		var err error
		grant, err = r.grant(ctx, operator, r.state.id("request"))
		return grant != nil, err
	})
	if err != nil {
		return err
	}
	logged := make(map[string]uint64)
	if resumed {
		if logged, err = r.loggedCalls(ctx, d, grant.ID); err != nil {
			return err
		}
	}
	var size uint64 // of the log, with all records in it
	for _, index := range logged {
		size = max(size, index+1)
	}
	var batch []api.AccessInput
	for i := range s.Calls {
		record := r.access(s, side, grant, i)
		if _, ok := logged[record.CallID]; !ok {
			batch = append(batch, record)
		}
		if len(batch) == accessBatch || i == s.Calls-1 && len(batch) > 0 {
			var receipts api.AccessReceipts
			if err := r.record(ctx, operator, batch, &receipts); err != nil {
				return err
			}
			for _, receipt := range receipts.Receipts {
				size = max(size, uint64(receipt.Index)+1)
			}
			batch = batch[:0]
		}
	}
	return r.await(ctx, "the access log is anchored", func() (bool, error) {
		var logs list[domain.LogRegistration]
		err := operator.read(ctx, func(ctx context.Context) (*http.Response, error) {
			return operator.ListLogs(ctx, &api.ListLogsParams{Limit: pointer(200)})
		}, &logs)
		for _, l := range logs.Items {
			if l.Record.Owner == d.Code && l.Record.Size >= size {
				return true, err
			}
		}
		return false, err
	})
}

// record logs a batch. It is sent once: a log takes the same record twice, so
// after a lost answer only a new run, which asks what is there, may go on.
func (r *sampleRun) record(ctx context.Context, operator *gatewayClient, batch []api.AccessInput, receipts *api.AccessReceipts) error {
	_, data, err := operator.try(ctx, func(ctx context.Context) (*http.Response, error) {
		return operator.RecordAccess(ctx, api.RecordAccess{Records: batch})
	}, onceOnly)
	if err != nil {
		return err
	}
	if err := decodeAnswer(data, receipts); err != nil {
		return err
	}
	if len(receipts.Receipts) != len(batch) {
		return fmt.Errorf("%d receipts for %d records", len(receipts.Receipts), len(batch))
	}
	return nil
}

// access is call number i as one side sees it.
func (r *sampleRun) access(s sampleSharing, side domain.Direction, grant *domain.Grant, i int) api.AccessInput {
	name := func(what string) string { return fmt.Sprintf("%s %d", what, i) }
	system, operatorRole := s.ConsumerSystem, "登记员"
	if side == domain.DirectionProvider {
		system, operatorRole = s.ProviderSystem, "接口服务"
	}
	return api.AccessInput{
		Direction: api.Direction(side), CallID: r.state.id(name("call")),
		GrantID: grant.ID, CatalogCode: grant.CatalogCode, CatalogVersion: grant.CatalogVersion, Items: grant.Items,
		Provider: string(grant.Provider), Consumer: string(grant.Consumer),
		Purpose: grant.Purpose, ServiceItem: grant.ServiceItem,
		CaseRef: "case-" + r.state.id(name("case")), System: system,
		Operator: fmt.Sprintf("%s-op-%02d", s.Consumer, i%12+1), OperatorRole: operatorRole,
		SubjectRef:    r.state.digest(name("subject")),
		RecordCount:   1,
		RequestDigest: r.state.digest(name("asked")), ResponseDigest: r.state.digest(name("answered")),
		// Right after the grant: the same on both sides and in every run.
		At:     grant.TxTime.UTC().Truncate(time.Millisecond).Add(time.Duration(i) * time.Millisecond),
		Result: domain.ResultOK,
	}
}

// loggedCalls answers the calls that an earlier run logged, with their index. It
// asks until the answer stands still: what the log has just taken appears in the
// trace with a delay.
func (r *sampleRun) loggedCalls(ctx context.Context, d *sampleDepartment, grantID string) (map[string]uint64, error) {
	auditor := d.byRole[domain.RoleAuditor]
	read := func() (map[string]uint64, error) {
		found := make(map[string]uint64)
		params := api.TraceAccessParams{GrantID: pointer(grantID), Limit: pointer(200)}
		for {
			var page api.AccessEntryList
			err := auditor.read(ctx, func(ctx context.Context) (*http.Response, error) { return auditor.TraceAccess(ctx, &params) }, &page)
			if err != nil {
				return nil, err
			}
			for _, entry := range page.Items {
				found[entry.Record.CallID] = uint64(entry.Index)
			}
			if page.Next == "" {
				return found, nil
			}
			params.Cursor = pointer(page.Next)
		}
	}
	found, err := read()
	for still := 0; err == nil && still < 6 && len(found) < sampleShare().Calls; still++ {
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			return nil, err
		}
		var again map[string]uint64
		if again, err = read(); len(again) != len(found) {
			still = 0
		}
		found = again
	}
	return found, err
}

// issue issues the certificate, unless it is there.
func (r *sampleRun) issue(ctx context.Context) (string, error) {
	c, d := sampleCertificateOf(), r.issuer()
	said := fmt.Sprintf("%s, issued by %s", c.TypeNameZh, d.NameZh)
	if r.state.Certificate != nil {
		v, err := r.verification(ctx)
		if err != nil || v.Verdict != api.Verdict("not_found") {
			return said, err
		}
		r.state.Certificate = nil // its transaction did not make it
	}
	// Hexadecimal digits in upper case are serial characters; 16 of them.
	serial := strings.ToUpper(r.state.id("serial")[:16])
	earlier, err := r.issuedBefore(ctx, serial)
	if err != nil {
		return "", err
	}
	for _, lost := range earlier {
		if lost.Status == domain.CertificateValid {
			if err := r.revokeLost(ctx, c, lost); err != nil {
				return "", fmt.Errorf("revoke %s, whose check code was lost when an earlier run was killed: %w", lost.Content.Ref, err)
			}
		}
	}
	operator := d.byRole[domain.RoleOperator]
	from := beginningOfDay(r.state.CreatedAt)
	request := api.IssueCertificate{
		TypeCode: d.USCC + c.TypeNumber, TypeNameZh: c.TypeNameZh, TypeNameEn: c.TypeNameEn,
		HolderKind: api.HolderKind(c.HolderKind), HolderSaltedRef: r.state.digest("holder"),
		Validity:    api.Period{From: from, To: from.AddDate(0, 0, c.ValidDays)},
		ServiceItem: c.ServiceItem, Serial: fmt.Sprintf("%s%02d", serial, len(earlier)+1),
		ContentDigest: r.state.digest("certificate content"),
	}
	var issued struct {
		written[domain.Certificate]
		Link string `json:"link"`
	}
	// Sent once: it cannot be told apart from a second certificate.
	done, err := operator.write(ctx, func(ctx context.Context) (*http.Response, error) {
		return operator.IssueCertificate(ctx, request)
	}, onceOnly, &issued)
	certificate := &sampleCertificate{Ref: issued.Record.Content.Ref, Link: issued.Link, TxID: done.TxID}
	if done.late != nil {
		certificate = &sampleCertificate{Ref: done.late.Ref, Link: done.late.Link, TxID: domain.TxID(done.late.TransactionID)}
	}
	if err != nil && done.late == nil {
		return "", err
	}
	if certificate.Ref == "" || certificate.Link == "" {
		return "", fmt.Errorf("the gateway's answer has no reference or link")
	}
	r.state.Certificate = certificate
	if saveErr := r.save(); saveErr != nil {
		return "", saveErr
	}
	return said, err
}

// issuedBefore lists the certificates that earlier runs of this sample issued.
func (r *sampleRun) issuedBefore(ctx context.Context, serial string) ([]domain.Certificate, error) {
	d := r.issuer()
	operator := d.byRole[domain.RoleOperator]
	params := api.ListCertificatesParams{Department: pointer(string(d.Code)), Limit: pointer(200)}
	var found []domain.Certificate
	for {
		var page list[domain.Certificate]
		err := operator.read(ctx, func(ctx context.Context) (*http.Response, error) { return operator.ListCertificates(ctx, &params) }, &page)
		if err != nil {
			return nil, err
		}
		for _, item := range page.Items {
			if strings.Contains(item.Record.Content.CertID, "."+serial) {
				found = append(found, item.Record)
			}
		}
		if page.Next == "" {
			return found, nil
		}
		params.Cursor = pointer(page.Next)
	}
}

func (r *sampleRun) revokeLost(ctx context.Context, c sampleIssue, lost domain.Certificate) error {
	reviewer := r.issuer().byRole[domain.RoleReviewer]
	err := r.post(ctx, reviewer, api.StatusAct{
		DocumentNo: "sample-" + r.state.id("revoke " + lost.Content.Ref)[:12], LegalBasis: c.LostCodeBasis,
		ReasonCode: c.LostCodeReason, EffectiveAt: time.Now().UTC().Truncate(time.Second),
	}, func(ctx context.Context, body io.Reader) (*http.Response, error) {
		return reviewer.RevokeCertificateWithBody(ctx, lost.Content.Ref, jsonType, body)
	}, nil)
	return err
}

// beginningOfDay is 00:00 in Beijing of t's day there.
func beginningOfDay(t time.Time) time.Time {
	beijing := time.FixedZone("", 8*60*60)
	year, month, day := t.In(beijing).Date()
	return time.Date(year, month, day, 0, 0, 0, 0, beijing).UTC()
}

func (r *sampleRun) proveOffline(ctx context.Context) (string, error) {
	if err := r.fetchProof(ctx); err != nil {
		return "", err
	}
	verdict := r.kept(time.Now())
	return fmt.Sprintf("signed by %d of %d departments, verified offline: %s", len(verdict.Signers), len(r.departments), verdict.Overall), nil
}

// kept judges the proof file on disk against the consortium's trust file.
func (r *sampleRun) kept(at time.Time) proof.Verdict {
	data, err := os.ReadFile(r.proofPath())
	if err != nil {
		return proof.Verdict{Reason: err.Error()}
	}
	return proof.Verify(data, r.anchors, proof.Options{At: at})
}

// fetchProof fetches the proof and the trust file and verifies the proof, unless
// those on disk still hold for a while.
func (r *sampleRun) fetchProof(ctx context.Context) error {
	if trust, err := os.ReadFile(r.trustPath()); err == nil && bytes.Equal(trust, r.trust) && decided(r.kept(time.Now().Add(proofReserve))) {
		return nil
	}
	client, ref := r.issuer().byRole[domain.RoleOperator], r.state.Certificate.Ref
	var trust []byte
	if err := client.read(ctx, func(ctx context.Context) (*http.Response, error) { return client.GetTrust(ctx) }, &trust); err != nil {
		return fmt.Errorf("trust file: %w", err)
	}
	if !bytes.Equal(trust, r.trust) {
		return fmt.Errorf("the gateway publishes other trust anchors than %s", r.path("trust", "consortium.json"))
	}
	var bundle []byte
	var verdict proof.Verdict
	err := r.settle(ctx, func() error {
		err := client.read(ctx, func(ctx context.Context) (*http.Response, error) { return client.GetCertificateProof(ctx, ref) }, &bundle)
		if err != nil {
			return err
		}
		verdict = proof.Verify(bundle, r.anchors, proof.Options{At: time.Now()})
		return nil
	})
	if err != nil {
		return fmt.Errorf("proof file: %w", err)
	}
	if !decided(verdict) {
		return &exitError{exitProofRefused, fmt.Errorf("the gateway's proof does not hold: %s", verdict.Reason)}
	}
	if err := replaceFile(r.proofPath(), bundle, 0o644); err != nil {
		return err
	}
	return replaceFile(r.trustPath(), trust, 0o644)
}

// decided reports whether a verdict says that the certificate is on the ledger,
// whatever became of it since.
func decided(v proof.Verdict) bool {
	switch v.Overall {
	case proof.Valid, proof.Revoked, proof.Expired, proof.NotYetValid:
		return true
	case proof.Recorded, proof.NotFound, proof.BadProof, proof.CannotCheck: // do not say so
	}
	return false
}

// list is one page of records as gateways answer it.
type list[T any] struct {
	Items []written[T] `json:"items"`
	Next  string       `json:"next"`
}

func pointer[T any](v T) *T { return &v }
