package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
)

// catalogCmd groups the commands that work with the catalog.
type catalogCmd struct {
	Import catalogImportCmd `cmd:"" help:"Register the catalog entries of a CSV file. Run again to resume; nothing is imported twice."`
}

// catalogImportCmd is "zhenglian catalog import".
type catalogImportCmd struct {
	File        string        `arg:"" type:"existingfile" help:"CSV file, in the form of docs/catalog-csv.md or as open-data portals export it."`
	Gateway     string        `required:"" placeholder:"URL" help:"The provider department's gateway, for example http://127.0.0.1:8082."`
	TokenFile   string        `required:"" type:"existingfile" help:"File with the access token: the token alone, or a JSON object of tokens by role."`
	Role        string        `default:"operator" help:"Whose token to take from a JSON token file."`
	Report      string        `required:"" placeholder:"FILE" help:"CSV file to write what is wrong with which row to. The journal is kept beside it."`
	Map         string        `placeholder:"FORM" enum:",national,guangxi,beijing,tianjin" default:"" help:"Form of the file: national, guangxi, beijing or tianjin. Told from the header when absent."`
	Concurrency int           `default:"8" help:"How many entries are registered at a time."`
	AllowErrors bool          `help:"Exit 0 even if rows have errors."`
	Patience    time.Duration `default:"2m" help:"How long one entry may wait for a busy or unreachable gateway."`

	ProviderUSCC string `placeholder:"CODE" help:"For portal files: unified social credit code of the provider department."`
	Region       string `placeholder:"CODE" help:"For portal files: administrative division, 6 digits."`
	SystemRef    string `placeholder:"NAME" help:"For portal files: information system that holds the data."`
	ClassCode    string `placeholder:"DIGITS" help:"For portal files: class, item, category and detail digits of the resource codes, for example 307003."`
	Abstract     string `placeholder:"TEXT" help:"For portal files: abstract of resources that have none."`
	UpdateCycle  string `default:"other" help:"For portal files: update cycle of resources that have none."`
	PersonalData string `default:"none" help:"For portal files: none, general or sensitive."`
}

// Run imports the file.
func (c *catalogImportCmd) Run(e *env) error {
	if c.Concurrency < 1 || c.Concurrency > 256 {
		return &exitError{exitUsage, errors.New("--concurrency must be 1 to 256")}
	}
	data, err := os.ReadFile(c.File)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	form, rows, err := readCatalog(data, c.Map, portalDefaults{
		providerUSCC: c.ProviderUSCC, regionCode: c.Region, systemRef: c.SystemRef, classCode: c.ClassCode,
		abstract: c.Abstract, updateCycle: c.UpdateCycle, personalData: c.PersonalData,
	})
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("%s: %w", c.File, err)}
	}
	token, err := readToken(c.TokenFile, c.Role)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	client, err := newGatewayClient(c.Gateway, token, c.Patience)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if err := os.MkdirAll(filepath.Dir(c.Report), 0o755); err != nil { //nolint:gosec // for others to read
		return &exitError{exitUsage, fmt.Errorf("make the report's folder: %w", err)}
	}
	journalPath := c.Report + ".journal"
	log, err := openJournal(journalPath, journalHead{
		Format: journalFormat, File: domain.Digest(data), Gateway: client.url, Form: form.name,
	})
	if err != nil {
		return err
	}
	run := &importRun{
		client: client, journal: log, rows: rows,
		progress: newProgress(e.stderr, len(rows), "catalog entries"),
	}
	start := time.Now()
	fmt.Fprintf(e.stderr, "%s: %d rows in the %s form, to %s\n", filepath.Base(c.File), len(rows), form.name, client.url)
	failure := run.all(e.ctx, c.Concurrency)
	run.progress.finish()
	failure = errors.Join(failure, log.close(), writeReport(c.Report, rows))

	failed := failedRows(rows)
	fmt.Fprintf(e.stdout, "%d rows: %d imported, %d there already, %d with errors, %d left; %s\n",
		len(rows), run.imported, run.existed, failed, len(rows)-run.imported-run.existed-failed, time.Since(start).Round(100*time.Millisecond))
	if failed > 0 {
		fmt.Fprintf(e.stdout, "errors by row: %s\n", c.Report)
	}
	if failure != nil {
		fmt.Fprintf(e.stdout, "to resume, run the same command again (journal: %s)\n", journalPath)
		var unknown *unknownError
		if e.ctx.Err() != nil {
			return &exitError{exitInterrupted, errors.New("interrupted")}
		} else if errors.As(failure, &unknown) {
			return &exitError{exitUnknown, failure}
		}
		return failure
	}
	if failed > 0 && !c.AllowErrors {
		return &exitError{exitFailed, fmt.Errorf("%d of %d rows have errors, see %s", failed, len(rows), c.Report)}
	}
	return nil
}

// importRun is one run of an import.
type importRun struct {
	client   *gatewayClient
	journal  *journal
	rows     []catalogRow // each row is touched by one worker only
	progress *progress

	mu       sync.Mutex
	imported int // on the ledger through this import, earlier runs included
	existed  int
}

// all imports every row that is not done yet. A row that the ledger refuses gets
// findings; the error is one that stops the import.
func (r *importRun) all(whole context.Context, concurrency int) error {
	group, ctx := errgroup.WithContext(whole)
	group.SetLimit(concurrency)
	for i := range r.rows {
		if ctx.Err() != nil {
			break
		}
		row := &r.rows[i]
		if line, ok := r.journal.done[row.number]; ok && line.Code == row.content.Code {
			row.findings = nil
			r.count(line.Outcome)
			continue
		}
		if len(row.findings) > 0 {
			r.progress.add()
			continue
		}
		group.Go(func() error {
			line, err := r.register(ctx, row)
			if err != nil || line == nil {
				if err == nil {
					r.progress.add()
				}
				return err
			}
			if err := r.journal.note(*line); err != nil {
				return err
			}
			r.count(line.Outcome)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return whole.Err()
}

func (r *importRun) count(outcome string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if outcome == "imported" {
		r.imported++
	} else {
		r.existed++
	}
	r.progress.add()
}

// register registers one row's entry. It answers nil when the row has an error
// of its own, which it then carries.
func (r *importRun) register(ctx context.Context, row *catalogRow) (*journalLine, error) {
	data, err := domain.Canonical(row.content)
	if err != nil {
		return nil, err
	}
	send := func(ctx context.Context) (*http.Response, error) {
		return r.client.RegisterCatalogEntryWithBody(ctx, jsonType, bytes.NewReader(data))
	}
	const attempts = 5 // of a write that lost a race
	for attempt := 1; ; attempt++ {
		done, err := r.client.write(ctx, send, repeatable, nil)
		if err == nil {
			return &journalLine{Row: row.number, Code: row.content.Code, Outcome: "imported", Block: done.Block, TxID: done.TxID}, nil
		}
		var refused *problemError
		var rejected *rejectedError
		switch {
		case errors.As(err, &rejected), refusedAs(err, api.ProblemCodeConflict):
			if attempt < attempts {
				if err := r.client.pause(ctx, time.Duration(attempt)*100*time.Millisecond); err != nil {
					return nil, err
				}
				continue
			}
			row.findings = append(row.findings, finding{field: "row", rule: "lost against other transactions", text: err.Error()})
			return nil, nil
		case refusedAs(err, api.ProblemCodeExists):
			return r.existing(ctx, row)
		case refusedAs(err, api.ProblemCodeInvalid):
			errors.As(err, &refused)
			row.findings = append(row.findings, problemFindings(refused.problem)...)
			return nil, nil
		}
		// Everything else stops the import: a token without the right, or a
		// gateway that stays away, is wrong for every row.
		return nil, fmt.Errorf("row %d, %s: %w", row.number, row.content.Code, err)
	}
}

// existing decides what it means that the row's code is on the ledger: this very
// resource, or another one.
func (r *importRun) existing(ctx context.Context, row *catalogRow) (*journalLine, error) {
	var there written[domain.CatalogEntry]
	err := r.client.read(ctx, func(ctx context.Context) (*http.Response, error) {
		return r.client.GetCatalogEntry(ctx, row.content.Code)
	}, &there)
	if err != nil && !refusedAs(err, api.ProblemCodeNotFound) { // not found: the index has not caught up
		return nil, fmt.Errorf("row %d, %s: %w", row.number, row.content.Code, err)
	}
	if err == nil && there.Record.Content.Name != row.content.Name {
		row.findings = append(row.findings, finding{field: "code", rule: "the ledger holds another resource under this code"})
		return nil, nil
	}
	return &journalLine{Row: row.number, Code: row.content.Code, Outcome: "exists", Block: there.Block, TxID: there.TxID}, nil
}

// written is a record as gateways answer it.
type written[T any] struct {
	Record T `json:"record"`
	domain.Position
}

func problemFindings(p api.Problem) []finding {
	var out []finding
	for _, e := range p.Errors {
		out = append(out, finding{field: strings.TrimPrefix(e.Field, "/"), rule: e.Rule, text: p.Detail})
	}
	if len(out) == 0 {
		out = []finding{{field: "row", rule: string(p.Code), text: p.Detail}}
	}
	return out
}

// readToken reads an access token: the file's only line, or the role's entry of
// a JSON object.
func readToken(path, role string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	text := strings.TrimSpace(string(data))
	if strings.HasPrefix(text, "{") {
		var tokens map[string]string
		if err := json.Unmarshal(data, &tokens); err != nil {
			return "", fmt.Errorf("%s: not a JSON object of tokens by role", path)
		}
		if tokens[role] == "" {
			return "", fmt.Errorf("%s: no token for the role %q", path, role)
		}
		return tokens[role], nil
	}
	if text == "" || strings.ContainsAny(text, " \t\r\n") {
		return "", fmt.Errorf("%s: not an access token", path)
	}
	return text, nil
}

// progress shows how far a command is: a bar on a terminal, else a line now and
// then. It is safe for concurrent use.
type progress struct {
	mu     sync.Mutex
	bar    *progressbar.ProgressBar // nil without terminal
	out    io.Writer
	what   string
	total  int
	done   int
	shown  time.Time
	period time.Duration
}

func newProgress(out io.Writer, total int, what string) *progress {
	p := &progress{out: out, what: what, total: total, shown: time.Now(), period: 5 * time.Second}
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		p.bar = progressbar.NewOptions(total,
			progressbar.OptionSetWriter(out), progressbar.OptionSetDescription(what),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetPredictTime(true),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetWidth(30))
	}
	return p
}

func (p *progress) add() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	if p.bar != nil {
		_ = p.bar.Add(1) // drawing only
		return
	}
	if now := time.Now(); p.done == p.total || now.Sub(p.shown) >= p.period {
		p.shown = now
		fmt.Fprintf(p.out, "%s: %d of %d\n", p.what, p.done, p.total)
	}
}

func (p *progress) finish() {
	if p.bar != nil {
		_ = p.bar.Exit() // leaves the bar as it is, on a line of its own
		fmt.Fprintln(p.out)
	}
}
