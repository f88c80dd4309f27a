package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/interchange"
)

// settling is how long a department may take to know what another one has just
// written: peers commit a block within moments of one another.
const settling = 20 * time.Second

// entryRow is a catalog entry on its way through its states.
type entryRow struct {
	number   int // of the file's row; 0 without file
	content  domain.CatalogContent
	state    domain.CatalogState // as far as is known; "" before the ledger has it
	existed  bool                // the ledger had it before
	findings []domain.Finding    // why it goes no further
}

// catalogWork takes entries through their states, many in one transaction. It is
// safe for concurrent use on different rows.
type catalogWork struct {
	operator *writer // of the provider department
	reviewer *writer // of the department that reviews; nil: registration is all
	opinion  string  // of the reviewer
	done     func(step string, rows []*entryRow, at domain.Position) error
}

// catalogStep is one transaction of the way.
type catalogStep struct {
	name string
	from []domain.CatalogState
	to   domain.CatalogState
	path string
	args func(w *catalogWork, rows []*entryRow) any
}

// catalogSteps is the whole way; the first is the registration.
var catalogSteps = []catalogStep{
	{"register", []domain.CatalogState{"", domain.CatalogDraft, domain.CatalogRegRejected}, domain.CatalogRegPending, "/v1/catalog/batches/register", (*catalogWork).registration},
	{"review", []domain.CatalogState{domain.CatalogRegPending}, domain.CatalogRegistered, "/v1/catalog/batches/review", (*catalogWork).review},
	{"publish", []domain.CatalogState{domain.CatalogRegistered}, domain.CatalogPubPending, "/v1/catalog/batches/publish", (*catalogWork).publication},
	{"review publication", []domain.CatalogState{domain.CatalogPubPending}, domain.CatalogPublished, "/v1/catalog/batches/review", (*catalogWork).review},
}

// steps are those that this work takes.
func (w *catalogWork) steps() []catalogStep {
	if w.reviewer == nil {
		return catalogSteps[:1]
	}
	return catalogSteps
}

// finished reports whether no step of this work takes the row further.
func (w *catalogWork) finished(row *entryRow) bool {
	return !slices.ContainsFunc(w.steps(), func(s catalogStep) bool { return slices.Contains(s.from, row.state) })
}

// run takes rows, at most [domain.MaxBatch], as far as they go. A row that the
// ledger refuses gets findings; the error is one that is wrong for every row.
func (w *catalogWork) run(ctx context.Context, rows []*entryRow) error {
	for _, step := range w.steps() {
		todo := make([]*entryRow, 0, len(rows))
		for _, row := range rows {
			if len(row.findings) == 0 && slices.Contains(step.from, row.state) {
				todo = append(todo, row)
			}
		}
		if err := w.take(ctx, step, todo, time.Now().Add(settling)); err != nil {
			return err
		}
	}
	return nil
}

// take takes one step with all rows that can take it. A transaction is all or
// nothing: when it is refused, rows that are to blame are set aside, and where
// nobody is named the batch is halved.
func (w *catalogWork) take(ctx context.Context, step catalogStep, rows []*entryRow, until time.Time) error {
	for len(rows) > 0 {
		at, err := w.submit(ctx, step, rows)
		if err == nil {
			for _, row := range rows {
				row.state = step.to
			}
			return w.done(step.name, rows, at)
		}
		refused := refusalOf(err)
		if refused == nil {
			// A token without the right, or a gateway that stays away, is wrong for
			// every row.
			return fmt.Errorf("%s %s: %w", step.name, described(rows), err)
		}
		rest, err := w.blame(ctx, step, rows, refused)
		if err != nil {
			return err
		}
		switch {
		case len(rest) < len(rows):
			rows = rest
		case step.name != catalogSteps[0].name && refused.problem.Code != api.ProblemCodeInvalid && time.Now().Before(until):
			if err := w.operator.pause(ctx, 200*time.Millisecond); err != nil {
				return err
			}
		case len(rows) == 1:
			rows[0].findings = append(rows[0].findings, problemFindings(refused.problem)...)
			return nil
		default:
			half := len(rows) / 2
			if err := w.take(ctx, step, rows[:half], until); err != nil {
				return err
			}
			rows = rows[half:]
		}
	}
	return nil
}

// submit sends one transaction, again while it loses against others.
func (w *catalogWork) submit(ctx context.Context, step catalogStep, rows []*entryRow) (domain.Position, error) {
	key, err := newOperationKey()
	if err != nil {
		return domain.Position{}, err
	}
	by := w.operator
	if strings.HasPrefix(step.name, "review") {
		by = w.reviewer
	}
	args := step.args(w, rows)
	const attempts = 5
	for attempt := 1; ; attempt++ {
		at, err := by.post(ctx, step.path, args, key)
		p := refusalOf(err)
		lost := p != nil && p.problem.Code == api.ProblemCodeConflict && p.problem.State == ""
		if err == nil || !lost || attempt == attempts {
			return at, err
		}
		if err := by.pause(ctx, time.Duration(attempt)*100*time.Millisecond); err != nil {
			return domain.Position{}, err
		}
	}
}

func (w *catalogWork) registration(rows []*entryRow) any {
	args := domain.RegisterBatchArgs{}
	for _, row := range rows {
		args.Contents = append(args.Contents, row.content)
	}
	return args
}

func (w *catalogWork) review(rows []*entryRow) any {
	return domain.ReviewBatchArgs{Codes: codesOf(rows), Decision: domain.Approve, Opinion: w.opinion}
}

func (w *catalogWork) publication(rows []*entryRow) any {
	return domain.CodesArgs{Codes: codesOf(rows)}
}

func codesOf(rows []*entryRow) []string {
	codes := make([]string, len(rows))
	for i, row := range rows {
		codes[i] = row.content.Code
	}
	return codes
}

// described names rows in an error.
func described(rows []*entryRow) string {
	if len(rows) == 1 {
		return rows[0].content.Code
	}
	return fmt.Sprintf("%d entries from %s on", len(rows), rows[0].content.Code)
}

// newOperationKey makes the key under which the ledger runs an operation once.
func newOperationKey() (string, error) {
	var bits [16]byte
	if _, err := rand.Read(bits[:]); err != nil {
		return "", fmt.Errorf("draw random bits: %w", err)
	}
	return hex.EncodeToString(bits[:]), nil
}

// refusalOf is the gateway's refusal of what was sent, nil for an error that
// says nothing about it.
func refusalOf(err error) *problemError {
	if refusedAs(err, api.ProblemCodeInvalid, api.ProblemCodeExists, api.ProblemCodeConflict, api.ProblemCodeNotFound, api.ProblemCodeTooLarge) {
		var p *problemError
		errors.As(err, &p)
		return p
	}
	return nil
}

// blame sets aside the rows that a refused batch names or that are not in the
// state to take the step, and answers the rest.
func (w *catalogWork) blame(ctx context.Context, step catalogStep, rows []*entryRow, refused *problemError) ([]*entryRow, error) {
	first := step.name == catalogSteps[0].name
	if code := refused.problem.Code; code == api.ProblemCodeInvalid {
		for _, f := range problemFindings(refused.problem) {
			if i, field, ok := batchField(f.Field); ok && i < len(rows) {
				f.Field = field
				rows[i].findings = append(rows[i].findings, f)
			}
		}
	} else if code != api.ProblemCodeTooLarge { // which is no row's fault
		for _, row := range rows {
			if err := w.learn(ctx, row); err != nil {
				return nil, err
			}
			row.existed = row.existed || first && row.state != ""
		}
		if first {
			if err := w.noteExisting(rows); err != nil {
				return nil, err
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(rows), func(row *entryRow) bool {
		return len(row.findings) > 0 || !slices.Contains(step.from, row.state)
	}), nil
}

// noteExisting notes the rows whose entries the ledger had already.
func (w *catalogWork) noteExisting(rows []*entryRow) error {
	for _, row := range rows {
		if row.existed && len(row.findings) == 0 {
			if err := w.done("exists", []*entryRow{row}, domain.Position{}); err != nil {
				return err
			}
		}
	}
	return nil
}

// learn asks the ledger for the state of a row's entry: this very resource, or
// another one under its code.
func (w *catalogWork) learn(ctx context.Context, row *entryRow) error {
	var there written[domain.CatalogEntry]
	err := w.operator.read(ctx, func(ctx context.Context) (*http.Response, error) {
		return w.operator.GetCatalogEntry(ctx, row.content.Code)
	}, &there)
	switch {
	case refusedAs(err, api.ProblemCodeNotFound):
		return nil // or the index has not caught up
	case err != nil:
		return fmt.Errorf("%s: %w", row.content.Code, err)
	case there.Record.Content.Name != row.content.Name || there.Record.Content.ProviderUSCC != row.content.ProviderUSCC:
		row.findings = append(row.findings, domain.Finding{
			Field: "code", Rule: "other_resource",
			Zh: "账本上该代码属于另一资源", En: "the ledger holds another resource under this code",
		})
	default:
		row.state = there.Record.State
	}
	return nil
}

// written is a record as gateways answer it.
type written[T any] struct {
	Record T `json:"record"`
	domain.Position
}

// problemFindings are the findings of a problem document, at least one.
func problemFindings(p api.Problem) []domain.Finding {
	var out []domain.Finding
	for _, f := range p.Fields {
		out = append(out, domain.Finding{Field: fieldOf(f.Field), Rule: f.Rule, Zh: f.Zh, En: f.En})
	}
	if len(out) == 0 {
		out = []domain.Finding{{Field: "row", Rule: string(p.Code), Zh: p.Detail, En: p.Detail}}
	}
	return out
}

// fieldOf is a JSON pointer in the form of findings: "/items/3/level" is
// "items[3].level".
func fieldOf(pointer string) string {
	var b strings.Builder
	for _, part := range strings.Split(strings.TrimPrefix(pointer, "/"), "/") {
		if _, err := strconv.Atoi(part); err == nil && b.Len() > 0 {
			b.WriteString("[" + part + "]")
			continue
		}
		if b.Len() > 0 {
			b.WriteString(".")
		}
		b.WriteString(part)
	}
	return b.String()
}

var batchFieldShape = regexp.MustCompile(`^(?:contents|codes)\[([0-9]+)\](?:\.(.+))?$`)

// batchField splits the field of a batch into the entry's number and its field.
func batchField(field string) (int, string, bool) {
	m := batchFieldShape.FindStringSubmatch(field)
	if m == nil {
		return 0, "", false
	}
	i, err := strconv.Atoi(m[1])
	if m[2] == "" {
		m[2] = "code"
	}
	return i, m[2], err == nil
}

// onlyRelated reports whether all that is wrong with a row is that entries it is
// related to are not recorded: they may be in a later batch.
func onlyRelated(row *entryRow) bool {
	return len(row.findings) > 0 && !slices.ContainsFunc(row.findings, func(f domain.Finding) bool {
		return !strings.HasPrefix(f.Field, "relatedCodes[")
	})
}

// rowOf is a row of a file on its way.
func rowOf(row interchange.Row) *entryRow {
	return &entryRow{number: row.Number, content: row.Content, findings: row.Findings}
}
