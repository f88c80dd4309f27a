package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
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
	//go:embed sample/rules.json
	sampleRulesFile []byte
	//go:embed sample/calendars.json
	sampleCalendarsFile []byte
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

// sampleRequest is a share request and how far the sample takes it: as far as
// there is something to say.
type sampleRequest struct {
	Name             string                `json:"name"` // "" is the one that is used
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
	Opinion          string                `json:"opinion"`      // of the check
	Extension        *sampleExtension      `json:"extension"`    // null: none is asked for
	Answer           *sampleAnswer         `json:"answer"`       // null: the provider has not answered, or the check grants
	Delivery         string                `json:"delivery"`     // the delivery note, of which the digest is recorded
	Confirmation     string                `json:"confirmation"` // of the consumer
	Calls            int                   `json:"calls"`        // each is logged by both sides
	ConsumerSystem   string                `json:"consumerSystem"`
	ProviderSystem   string                `json:"providerSystem"`
}

type sampleExtension struct {
	Days    int    `json:"days"`
	Reason  string `json:"reason"`
	Opinion string `json:"opinion"` // of who consents
}

type sampleAnswer struct {
	Decision   domain.AnswerDecision `json:"decision"`
	Reason     string                `json:"reason"`
	LegalBasis []string              `json:"legalBasis"`
}

type sampleIssue struct {
	Issuer         domain.DepartmentCode `json:"issuer"`
	TypeNumber     string                `json:"typeNumber"`
	TypeNameZh     string                `json:"typeNameZh"`
	TypeNameEn     string                `json:"typeNameEn"`
	HolderKind     string                `json:"holderKind"`
	ServiceItem    string                `json:"serviceItem"`
	ValidDays      int                   `json:"validDays"`
	Items          []api.FaceItem        `json:"items"`          // of a holder that there is not
	AuthorityBasis string                `json:"authorityBasis"` // why the issuer may issue the type
	LostCodeBasis  string                `json:"lostCodeBasis"`  // for the revocation of a certificate whose check code was lost
	LostCodeReason string                `json:"lostCodeReason"`
}

// embedded decodes an embedded file strictly; the tests read all of them.
func embedded[T any](data []byte) T {
	var v T
	if err := decodeStrictly(data, &v); err != nil {
		panic(fmt.Sprintf("embedded sample: %v", err))
	}
	return v
}

// decodeStrictly decodes one JSON value whose every name is known.
func decodeStrictly(data []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("bytes follow the JSON value")
	}
	return nil
}

func sampleEntries() []sampleEntry      { return embedded[[]sampleEntry](sampleCatalogFile) }
func sampleRequests() []sampleRequest   { return embedded[[]sampleRequest](sampleSharingFile) }
func sampleRules() []domain.SetRuleArgs { return embedded[[]domain.SetRuleArgs](sampleRulesFile) }
func sampleCalendars() []domain.SetCalendarArgs {
	return embedded[[]domain.SetCalendarArgs](sampleCalendarsFile)
}

// sampleShare is the request that is used: the first.
func sampleShare() sampleRequest { return sampleRequests()[0] }

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

// parties are the two sides of a share; ok is false where one of them is no
// member, and said then says so.
func (r *sampleRun) parties(s sampleRequest) (consumer, provider *sampleDepartment, said string, ok bool) {
	consumer, provider = r.departments[s.Consumer], r.departments[s.Provider]
	if consumer == nil || provider == nil {
		return nil, nil, fmt.Sprintf("skipped: %s and %s are not both members", s.Consumer, s.Provider), false
	}
	return consumer, provider, "", true
}

// codes are the departments in order of their codes.
func (r *sampleRun) codes() []domain.DepartmentCode {
	return slices.Sorted(maps.Keys(r.departments))
}

// reviewerFor is the reviewer of the department that decides for a side: the
// lead, or the first other department that is no party.
func (r *sampleRun) reviewerFor(side domain.Side, parties ...domain.DepartmentCode) (*gatewayClient, error) {
	if side == domain.SideLead {
		return r.departments[r.lead].byRole[domain.RoleReviewer], nil
	}
	for _, code := range r.codes() {
		if code != r.lead && !slices.Contains(parties, code) {
			return r.departments[code].byRole[domain.RoleReviewer], nil
		}
	}
	return nil, fmt.Errorf("no department is left to decide what concerns %v", parties)
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
		{"time limits", r.setDeadlines},
		{"access logs", r.registerLogs},
		{"catalog entries", r.publishCatalog},
		{"share requests", r.share},
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
	err := r.settle(ctx, func() error {
		_, err := client.write(ctx, posting(value, send), repeatable, out)
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
			return admin.RegisterDepartmentWithBody(ctx, &api.RegisterDepartmentParams{}, jsonType, body)
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
				return admin.RegisterLogWithBody(ctx, &api.RegisterLogParams{}, jsonType, body)
			}, nil)
		return err
	})
	return fmt.Sprintf("%d registered, each by its own department", len(r.departments)), err
}

// setDeadlines sets, as the lead, the rules and calendars that are not set yet:
// the years whose notice is known, and with weekends only the years that time
// limits reach besides.
func (r *sampleRun) setDeadlines(ctx context.Context) (string, error) {
	admin := r.departments[r.lead].byRole[domain.RoleAdmin]
	rules, err := listAll[domain.DeadlineRule](ctx, admin, listRules(admin))
	if err != nil {
		return "", err
	}
	for _, args := range sampleRules() {
		if slices.ContainsFunc(rules, func(k domain.DeadlineRule) bool { return k.Event == args.Event }) {
			continue
		}
		if err := r.setOnce(ctx, func() error { _, err := setRule(ctx, admin, args); return err }); err != nil {
			return "", fmt.Errorf("rule %s: %w", args.Event, err)
		}
	}
	calendars, err := listAll[domain.Calendar](ctx, admin, listCalendars(admin))
	if err != nil {
		return "", err
	}
	wanted := neededCalendars(r.state.CreatedAt)
	provisional := 0
	for _, args := range wanted {
		if args.Provisional {
			provisional++
		}
		if slices.ContainsFunc(calendars, func(k domain.Calendar) bool { return k.Year == args.Year }) {
			continue
		}
		if err := r.setOnce(ctx, func() error { _, err := setCalendar(ctx, admin, args); return err }); err != nil {
			return "", fmt.Errorf("calendar of %d: %w", args.Year, err)
		}
	}
	return fmt.Sprintf("%d rules (示例值), %d calendars, %d of them 暂定", len(sampleRules()), len(wanted), provisional), nil
}

// setOnce repeats a write until the departments have settled; that it is set
// already is as good.
func (r *sampleRun) setOnce(ctx context.Context, set func() error) error {
	if err := r.settle(ctx, set); !refusedAs(err, api.ProblemCodeExists) {
		return err
	}
	return nil
}

// neededCalendars are the embedded years, and this and the next year with
// weekends only where they are not among them.
func neededCalendars(now time.Time) []domain.SetCalendarArgs {
	out := sampleCalendars()
	for year := beijingYear(now); year <= beijingYear(now)+1; year++ {
		if !slices.ContainsFunc(out, func(c domain.SetCalendarArgs) bool { return c.Year == year }) {
			out = append(out, domain.SetCalendarArgs{
				Year: year, DaysOff: []string{}, Workdays: []string{}, Source: provisionalSource, Provisional: true,
			})
		}
	}
	return out
}

// publishCatalog takes every department's entries through registration, review
// and publication, each step in one transaction for a department. What the lead
// itself provides is reviewed by another department.
func (r *sampleRun) publishCatalog(ctx context.Context) (string, error) {
	rows := make(map[domain.DepartmentCode][]*entryRow)
	count := 0
	for _, e := range sampleEntries() {
		if d := r.departments[e.Department]; d != nil {
			e.Content.ProviderUSCC = d.USCC
			rows[e.Department] = append(rows[e.Department], &entryRow{content: e.Content})
			count++
		}
	}
	err := r.each(ctx, func(ctx context.Context, d *sampleDepartment) error { return r.publish(ctx, d, rows[d.Code]) })
	return fmt.Sprintf("%d registered, reviewed and published", count), err
}

func (r *sampleRun) publish(ctx context.Context, d *sampleDepartment, rows []*entryRow) error {
	side := domain.SideLead
	if d.Code == r.lead {
		side = domain.SidePeer
	}
	reviewer, err := r.reviewerFor(side, d.Code)
	if err != nil {
		return err
	}
	work := &catalogWork{
		operator: &writer{gatewayClient: d.byRole[domain.RoleOperator]}, reviewer: &writer{gatewayClient: reviewer}, opinion: "要素齐全，依据明确，同意",
		done: func(string, []*entryRow, domain.Position) error { return nil },
	}
	return r.settle(ctx, func() error {
		for _, row := range rows {
			row.findings = nil
		}
		if err := work.run(ctx, rows); err != nil {
			return err
		}
		for _, row := range rows {
			if len(row.findings) > 0 {
				f := row.findings[0]
				return fmt.Errorf("%s %s: %w", row.content.Code, row.content.Name,
					&problemError{status: http.StatusBadRequest, problem: api.Problem{Code: api.ProblemCodeInvalid, Detail: f.Field + ": " + f.En}})
			}
			if row.state != domain.CatalogPublished {
				// Set aside because a gateway knew an earlier state of it.
				return fmt.Errorf("%s: %w", row.content.Code,
					&problemError{status: http.StatusConflict, problem: api.Problem{Code: api.ProblemCodeConflict, Detail: "the entry is " + string(row.state) + ", not published"}})
			}
		}
		return nil
	})
}

// share takes every request as far as the sample says.
func (r *sampleRun) share(ctx context.Context) (string, error) {
	var said []string
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range sampleRequests() {
		if _, _, _, ok := r.parties(s); !ok {
			continue
		}
		said = append(said, sampleOutcome(s))
		group.Go(func() error {
			if err := r.request(ctx, s); err != nil {
				return fmt.Errorf("%s of %s: %w", s.Consumer, s.CatalogCode, err)
			}
			return nil
		})
	}
	if len(said) == 0 {
		_, _, skipped, _ := r.parties(sampleShare())
		return skipped, nil
	}
	return strings.Join(said, ", "), group.Wait()
}

// sampleOutcome is how far the sample takes a request.
func sampleOutcome(s sampleRequest) string {
	switch {
	case s.Confirmation != "":
		return "使用中"
	case s.Answer != nil && s.Answer.Decision == domain.Refuse:
		return "不同意"
	}
	return "待答复"
}

// request moves one request step by step. Each step follows from what the
// consumer's gateway knows, so that a run killed anywhere goes on.
func (r *sampleRun) request(ctx context.Context, s sampleRequest) error {
	for {
		before, err := r.readRequest(ctx, s)
		if err != nil {
			return err
		}
		step, err := r.nextStep(s, before)
		if err != nil || step == nil {
			return err
		}
		moved := func() (bool, error) {
			now, err := r.readRequest(ctx, s)
			return err == nil && now != nil && (before == nil || now.Seq > before.Seq), err
		}
		err = r.settle(ctx, func() error {
			err := step(ctx)
			if err == nil {
				return nil
			}
			// An earlier run, or an attempt whose answer was lost, may have done it.
			if done, readErr := moved(); readErr == nil && done {
				return nil
			}
			return err
		})
		if err != nil {
			return err
		}
		if err := r.await(ctx, "the gateway knows the request's state", moved); err != nil {
			return err
		}
	}
}

// readRequest reads a request as the consumer's gateway knows it, nil when it
// does not.
func (r *sampleRun) readRequest(ctx context.Context, s sampleRequest) (*domain.ShareRequest, error) {
	client, id := r.departments[s.Consumer].byRole[domain.RoleOperator], r.requestID(s)
	var found written[domain.ShareRequest]
	err := client.read(ctx, func(ctx context.Context) (*http.Response, error) { return client.GetRequest(ctx, id) }, &found)
	if refusedAs(err, api.ProblemCodeNotFound) {
		return nil, nil
	}
	return &found.Record, err
}

func (r *sampleRun) requestID(s sampleRequest) string {
	return r.state.id(strings.TrimSpace("request " + s.Name))
}

// nextStep is what the sample does with a request in its present state, nil for
// nothing more. A state that somebody else brought about is left alone.
func (r *sampleRun) nextStep(s sampleRequest, now *domain.ShareRequest) (func(context.Context) error, error) {
	consumer, provider := r.departments[s.Consumer], r.departments[s.Provider]
	if now == nil {
		return r.ask(s), nil
	}
	id := now.Content.ID
	switch now.State {
	case domain.RequestSubmitted:
		checker, err := r.reviewerFor(now.Checker, now.Consumer, now.Provider)
		return act(checker, api.AcceptRequest{Decision: api.CheckDecision(domain.AcceptRequest), Reason: s.Opinion}, func(ctx context.Context, body io.Reader) (*http.Response, error) {
			return checker.AcceptRequestWithBody(ctx, id, &api.AcceptRequestParams{}, jsonType, body)
		}), err
	case domain.RequestAccepted, domain.RequestExtended:
		reviewer := provider.byRole[domain.RoleReviewer]
		switch {
		case now.Extension != nil:
			mediator, err := r.reviewerFor(now.Mediator, now.Consumer, now.Provider)
			return act(mediator, api.DecideExtension{Decision: api.ExtensionDecision(domain.GrantExtension), Reason: s.Extension.Opinion}, func(ctx context.Context, body io.Reader) (*http.Response, error) {
				return mediator.DecideExtensionWithBody(ctx, id, &api.DecideExtensionParams{}, jsonType, body)
			}), err
		case s.Extension != nil && now.State == domain.RequestAccepted && now.Clock != nil && now.Clock.ExtendMax >= s.Extension.Days:
			return act(reviewer, api.ExtendRequest{Days: s.Extension.Days, Reason: s.Extension.Reason}, func(ctx context.Context, body io.Reader) (*http.Response, error) {
				return reviewer.ExtendRequestWithBody(ctx, id, &api.ExtendRequestParams{}, jsonType, body)
			}), nil
		case s.Answer == nil:
			return nil, nil
		}
		return act(reviewer, api.AnswerRequest{Decision: api.AnswerDecision(s.Answer.Decision), Reason: s.Answer.Reason, LegalBasis: s.Answer.LegalBasis}, func(ctx context.Context, body io.Reader) (*http.Response, error) {
			return reviewer.AnswerRequestWithBody(ctx, id, &api.AnswerRequestParams{}, jsonType, body)
		}), nil
	case domain.RequestAgreed:
		operator := provider.byRole[domain.RoleOperator]
		return act(operator, api.DeliverRequest{DeliveryDigest: domain.Digest([]byte(s.Delivery))}, func(ctx context.Context, body io.Reader) (*http.Response, error) {
			return operator.DeliverRequestWithBody(ctx, id, &api.DeliverRequestParams{}, jsonType, body)
		}), nil
	case domain.RequestDelivered:
		operator := consumer.byRole[domain.RoleOperator]
		return act(operator, api.ConfirmRequest{Decision: api.ConfirmDecision(domain.ConfirmDelivery), Reason: s.Confirmation}, func(ctx context.Context, body io.Reader) (*http.Response, error) {
			return operator.ConfirmRequestWithBody(ctx, id, &api.ConfirmRequestParams{}, jsonType, body)
		}), nil
	case domain.RequestReturned, domain.RequestPartlyAgreed, domain.RequestRefused, domain.RequestDisputed, domain.RequestMediated,
		domain.RequestActive, domain.RequestClosed, domain.RequestWithdrawn, domain.RequestOverdue:
	}
	return nil, nil
}

// ask makes the request.
func (r *sampleRun) ask(s sampleRequest) func(context.Context) error {
	operator := r.departments[s.Consumer].byRole[domain.RoleOperator]
	return act(operator, domain.ShareRequestContent{
		ID: r.requestID(s), CatalogCode: s.CatalogCode, Items: s.Items, Purpose: s.Purpose, UseBasis: s.UseBasis,
		ServiceItem: s.ServiceItem, ShareMode: s.ShareMode,
		Period:       domain.Period{From: r.state.CreatedAt, To: r.state.CreatedAt.AddDate(1, 0, 0)},
		Quota:        s.Quota,
		LetterDigest: domain.Digest([]byte(s.Letter)), SecurityMeasures: s.SecurityMeasures,
	}, func(ctx context.Context, body io.Reader) (*http.Response, error) {
		return operator.RequestShareWithBody(ctx, &api.RequestShareParams{}, jsonType, body)
	})
}

// act is one write.
func act(client *gatewayClient, value any, send func(ctx context.Context, body io.Reader) (*http.Response, error)) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := client.write(ctx, posting(value, send), repeatable, nil)
		return err
	}
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
	consumer, provider, said, ok := r.parties(s)
	if !ok {
		return said, nil
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, side := range []domain.Direction{domain.DirectionProvider, domain.DirectionConsumer} {
		d := provider
		if side == domain.DirectionConsumer {
			d = consumer
		}
		group.Go(func() error {
			if err := r.logSide(ctx, s, side, d); err != nil {
				return fmt.Errorf("%s: %w", d.Code, err)
			}
			return nil
		})
	}
	return fmt.Sprintf("%d logged by both sides and anchored", 2*s.Calls), group.Wait()
}

func (r *sampleRun) logSide(ctx context.Context, s sampleRequest, side domain.Direction, d *sampleDepartment) error {
	operator := d.byRole[domain.RoleOperator]
	var grant *domain.Grant
	err := r.await(ctx, "the gateway knows the grant", func() (bool, error) {
		var err error
		grant, err = r.grant(ctx, operator, r.requestID(s))
		return grant != nil, err
	})
	if err != nil {
		return err
	}
	var size uint64 // of the log, with all records in it
	var batch []api.AccessInput
	for i := range s.Calls {
		batch = append(batch, r.access(s, side, grant, i))
		if len(batch) == accessBatch || i == s.Calls-1 {
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

// record logs a batch. Of a call that is logged already the log answers the first
// receipt.
func (r *sampleRun) record(ctx context.Context, operator *gatewayClient, batch []api.AccessInput, receipts *api.AccessReceipts) error {
	_, data, err := operator.try(ctx, func(ctx context.Context) (*http.Response, error) {
		return operator.RecordAccess(ctx, &api.RecordAccessParams{}, api.RecordAccess{Records: batch})
	}, repeatable)
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
func (r *sampleRun) access(s sampleRequest, side domain.Direction, grant *domain.Grant, i int) api.AccessInput {
	name := func(what string) string { return fmt.Sprintf("%s %d", what, i) }
	system, operatorRole := s.ConsumerSystem, "登记员"
	if side == domain.DirectionProvider {
		system, operatorRole = s.ProviderSystem, "接口服务"
	}
	// Right after the grant: the same on both sides and in every run.
	at := grant.GrantedAt.UTC().Truncate(time.Millisecond).Add(time.Duration(i) * time.Millisecond)
	return api.AccessInput{
		Direction: api.Direction(side), CallID: r.state.id(name("call")),
		GrantID: grant.ID, CatalogCode: grant.CatalogCode, CatalogVersion: grant.CatalogVersion, Items: grant.Items,
		Provider: string(grant.Provider), Consumer: string(grant.Consumer),
		Purpose: grant.Purpose, LegalBasis: s.UseBasis, ServiceItem: grant.ServiceItem,
		CaseRef: "case-" + r.state.id(name("case")), System: system,
		Operator: fmt.Sprintf("%s-op-%02d", s.Consumer, i%12+1), OperatorRole: operatorRole,
		SubjectRef:    r.state.digest(name("subject")),
		RecordCount:   1,
		RequestDigest: r.state.digest(name("asked")), ResponseDigest: r.state.digest(name("answered")),
		Channel: domain.ChannelAPI, At: at, RespondedAt: at, Result: domain.ResultOK,
	}
}

// issue issues the certificate, unless it is there.
func (r *sampleRun) issue(ctx context.Context) (string, error) {
	c, d := sampleCertificateOf(), r.issuer()
	said := fmt.Sprintf("%s, issued by %s", c.TypeNameZh, d.NameZh)
	if r.state.Certificate != nil {
		there, err := r.approve(ctx, r.state.Certificate.Ref)
		if err != nil || there {
			return said, err
		}
		r.state.Certificate = nil // its transaction did not make it
	}
	if err := r.authorise(ctx, c); err != nil {
		return "", fmt.Errorf("authorise the issuer: %w", err)
	}
	// Hexadecimal digits in upper case are serial characters. With 17 of them and
	// two more digits no serial has the length of a person's number, which the
	// ledger refuses.
	serial := strings.ToUpper(r.state.id("serial")[:17])
	earlier, err := r.issuedBefore(ctx, serial)
	if err != nil {
		return "", err
	}
	for _, lost := range earlier {
		if err := r.endLost(ctx, c, lost); err != nil {
			return "", fmt.Errorf("end %s, whose check code was lost when an earlier run was killed: %w", lost.Content.Ref, err)
		}
	}
	operator := d.byRole[domain.RoleOperator]
	from := beginningOfDay(r.state.CreatedAt)
	request := api.IssueCertificate{
		TypeCode: d.USCC + c.TypeNumber, TypeNameZh: c.TypeNameZh, TypeNameEn: c.TypeNameEn,
		HolderKind: api.HolderKind(c.HolderKind), HolderSaltedRef: r.state.digest("holder"),
		Validity:    api.Period{From: from, To: from.AddDate(0, 0, c.ValidDays)},
		ServiceItem: c.ServiceItem, Serial: fmt.Sprintf("%s%02d", serial, len(earlier)+1),
		Items: c.Items,
	}
	var issued struct {
		written[domain.Certificate]
		Link string `json:"link"`
	}
	// Sent once: it cannot be told apart from a second certificate.
	done, err := operator.write(ctx, func(ctx context.Context) (*http.Response, error) {
		return operator.IssueCertificate(ctx, &api.IssueCertificateParams{}, request)
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
	if err != nil {
		return "", err
	}
	there, err := r.approve(ctx, certificate.Ref)
	if err == nil && !there {
		err = fmt.Errorf("the ledger does not hold certificate %s, which it has just issued", certificate.Ref)
	}
	return said, err
}

// authorise has the lead put on record that the issuer may issue this type.
func (r *sampleRun) authorise(ctx context.Context, c sampleIssue) error {
	admin, d := r.departments[r.lead].byRole[domain.RoleAdmin], r.issuer()
	params := api.ListIssuersParams{Department: pointer(string(d.Code)), Limit: pointer(200)}
	var known list[domain.Authorisation]
	if err := admin.read(ctx, func(ctx context.Context) (*http.Response, error) { return admin.ListIssuers(ctx, &params) }, &known); err != nil {
		return err
	}
	code := d.USCC + c.TypeNumber
	if slices.ContainsFunc(known.Items, func(w written[domain.Authorisation]) bool { return w.Record.TypeCode == code }) {
		return nil
	}
	from := beginningOfDay(r.state.CreatedAt)
	return r.post(ctx, admin, api.AuthoriseIssuer{
		Issuer: string(d.Code), TypeCode: code, TypeNameZh: c.TypeNameZh, TypeNameEn: c.TypeNameEn,
		Basis: c.AuthorityBasis, Period: api.Period{From: from, To: from.AddDate(10, 0, 0)},
	}, func(ctx context.Context, body io.Reader) (*http.Response, error) {
		return admin.AuthoriseIssuerWithBody(ctx, &api.AuthoriseIssuerParams{}, jsonType, body)
	}, nil)
}

// approve has the reviewer decide what is proposed of a certificate. It reports
// whether the certificate is on the ledger.
func (r *sampleRun) approve(ctx context.Context, ref string) (bool, error) {
	reviewer := r.issuer().byRole[domain.RoleReviewer]
	var there written[domain.Certificate]
	err := reviewer.read(ctx, func(ctx context.Context) (*http.Response, error) { return reviewer.GetCertificate(ctx, ref) }, &there)
	switch {
	case refusedAs(err, api.ProblemCodeNotFound):
		return false, nil
	case err != nil:
		return false, err
	case there.Record.Status != domain.CertificateProposed && there.Record.Pending == nil:
		return true, nil
	}
	return true, r.decide(ctx, ref, "approve", "")
}

func (r *sampleRun) decide(ctx context.Context, ref string, decision api.CertificateDecision, opinion string) error {
	reviewer := r.issuer().byRole[domain.RoleReviewer]
	return r.post(ctx, reviewer, api.DecideCertificate{Decision: decision, Opinion: opinion}, func(ctx context.Context, body io.Reader) (*http.Response, error) {
		return reviewer.DecideCertificateWithBody(ctx, ref, &api.DecideCertificateParams{}, jsonType, body)
	}, nil)
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

// endLost refuses a certificate that is proposed, and revokes one that is valid.
func (r *sampleRun) endLost(ctx context.Context, c sampleIssue, lost domain.Certificate) error {
	ref := lost.Content.Ref
	switch {
	case lost.Status == domain.CertificateProposed:
		return r.decide(ctx, ref, "reject", c.LostCodeBasis)
	case lost.Status != domain.CertificateValid:
		return nil
	case lost.Pending == nil:
		operator := r.issuer().byRole[domain.RoleOperator]
		err := r.post(ctx, operator, api.ProposeCertificateChange{Event: "revoke", Act: api.StatusAct{
			DocumentNo: "sample-" + r.state.id("revoke " + ref)[:12], LegalBasis: c.LostCodeBasis,
			ReasonCode: c.LostCodeReason, EffectiveAt: time.Now().UTC().Truncate(time.Second),
		}}, func(ctx context.Context, body io.Reader) (*http.Response, error) {
			return operator.ProposeCertificateChangeWithBody(ctx, ref, &api.ProposeCertificateChangeParams{}, jsonType, body)
		}, nil)
		if err != nil {
			return err
		}
	}
	_, err := r.approve(ctx, ref)
	return err
}

// beijing is the time zone of days and years.
var beijing = time.FixedZone("", 8*60*60)

func beijingYear(t time.Time) int { return t.In(beijing).Year() }

// beginningOfDay is 00:00 in Beijing of t's day there.
func beginningOfDay(t time.Time) time.Time {
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
		err := client.read(ctx, func(ctx context.Context) (*http.Response, error) { return client.GetCertificateProof(ctx, ref, nil) }, &bundle)
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
