package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/interchange"
)

// catalogCmd groups the commands that work with the catalog.
type catalogCmd struct {
	Import catalogImportCmd `cmd:"" help:"Register the catalog entries of a file, many in one transaction. Run again to resume; nothing is imported twice."`
	Export catalogExportCmd `cmd:"" help:"Write the catalog as a gateway knows it to a file."`
}

// catalogImportCmd is "zhenglian catalog import".
type catalogImportCmd struct {
	File        string        `arg:"" type:"existingfile" help:"File of entries: CSV, DCAT-AP or DCAT-US; see docs/catalog-csv.md and docs/interchange.md."`
	Gateway     string        `required:"" placeholder:"URL" help:"The provider department's gateway, for example http://127.0.0.1:8082."`
	TokenFile   string        `type:"existingfile" placeholder:"FILE" help:"File with the access token: the token alone, or a JSON object of tokens by role. Without it --cert says who calls."`
	Role        string        `default:"operator" help:"Whose token to take from a JSON token file."`
	Report      string        `required:"" placeholder:"FILE" help:"CSV file to write what is wrong with which row to. The journal is kept beside it."`
	Format      string        `placeholder:"FORMAT" enum:",csv,dcat-ap,dcat-us,riik-ee" default:"" help:"csv, dcat-ap, dcat-us or riik-ee. Told from the file's name (.csv, .jsonld, data.json) when absent."`
	Map         string        `placeholder:"FORM" enum:",national,guangxi,beijing,tianjin,taiwan" default:"" help:"Form of a CSV file: national, guangxi, beijing, tianjin or taiwan. Told from the header when absent."`
	Batch       int           `default:"100" help:"How many entries go into one transaction, 1 to 1000."`
	Concurrency int           `default:"4" help:"How many transactions are under way at a time."`
	AllowErrors bool          `help:"Exit 0 even if rows have errors."`
	Patience    time.Duration `default:"2m" help:"How long one transaction may wait for a busy or unreachable gateway."`

	ReviewerGateway   string `placeholder:"URL" help:"Go on through review and publication, decided at this gateway: the lead's, or another department's for the lead's own entries."`
	ReviewerTokenFile string `type:"existingfile" placeholder:"FILE" help:"File with the reviewer's access token."`
	Opinion           string `default:"批量审核通过" help:"The reviewer's opinion."`

	Cert         string `type:"existingfile" placeholder:"FILE" help:"The caller's certificate, PEM. What is written is signed with its key, here."`
	Key          string `type:"existingfile" placeholder:"FILE" help:"Its key, PEM, which does not leave this program."`
	ReviewerCert string `type:"existingfile" placeholder:"FILE" help:"The reviewer's certificate, PEM, to sign reviews with its key."`
	ReviewerKey  string `type:"existingfile" placeholder:"FILE" help:"Its key, PEM."`
	Trust        string `type:"existingfile" placeholder:"FILE" help:"Trust anchors, consortium.json, to check what is to be signed against."`
	Roots        string `type:"existingfile" placeholder:"FILE" help:"Authorities of the gateways' server certificates, PEM; otherwise the system's."`

	ProviderUSCC string   `placeholder:"CODE" help:"For files of others: unified social credit code of the provider department."`
	Region       string   `placeholder:"CODE" help:"For files of others: administrative division, 6 digits."`
	SystemRef    string   `placeholder:"NAME" help:"For files of others: information system that holds the data."`
	DutyRef      string   `placeholder:"NAME" help:"For files of others: duty that the data comes from."`
	ClassCode    string   `placeholder:"DIGITS" help:"For files of others: class, item, category and detail digits of the resource codes, for example 307003."`
	Abstract     string   `placeholder:"TEXT" help:"For files of others: abstract of resources that have none."`
	UpdateCycle  string   `default:"other" help:"For files of others: update cycle of resources that have none."`
	PersonalData string   `default:"none" help:"For files of others: none, general or sensitive."`
	ShareType    int      `placeholder:"1|2|3" help:"For files of others: share type of all resources; otherwise it follows from how open they are."`
	Condition    string   `placeholder:"TEXT" help:"For files of others: condition of conditional resources that state none."`
	LegalBasis   []string `sep:"none" placeholder:"TEXT" help:"For files of others: legal basis of resources that are not shared unconditionally; may be given several times."`
	Level        int      `placeholder:"1-4" help:"For files of others: grade of all resources; otherwise what is open to everybody is of grade 1."`
}

func (c *catalogImportCmd) defaults() interchange.Defaults {
	return interchange.Defaults{
		ProviderUSCC: c.ProviderUSCC, RegionCode: c.Region, SystemRef: c.SystemRef, DutyRef: c.DutyRef, ClassCode: c.ClassCode,
		Abstract: c.Abstract, UpdateCycle: c.UpdateCycle, PersonalData: c.PersonalData, ShareType: domain.ShareType(c.ShareType),
		Condition: c.Condition, LegalBasis: c.LegalBasis, Level: c.Level,
	}
}

// rows opens the file and answers its rows one by one, and the form it has.
func (c *catalogImportCmd) rows(file *os.File) (*interchange.Reader, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	format := interchange.Format(c.Format)
	if format == "" {
		if format = interchange.FormatOf(c.File); format == "" {
			return nil, errors.New("the file's name does not tell its format; give --format")
		}
	}
	reader, err := interchange.NewReader(file, format, c.Map, c.defaults())
	var missing *interchange.MissingDefaultsError
	if errors.As(err, &missing) {
		flags := map[string]string{"provider USCC": "--provider-uscc", "region": "--region", "system": "--system-ref", "class code": "--class-code"}
		for i, what := range missing.Missing {
			missing.Missing[i] = flags[what]
		}
	}
	return reader, err
}

// Run imports the file.
func (c *catalogImportCmd) Run(e *env) error {
	usage := func(err error) error { return &exitError{exitUsage, err} }
	switch {
	case c.Concurrency < 1 || c.Concurrency > 64:
		return usage(errors.New("--concurrency must be 1 to 64"))
	case c.Batch < 1 || c.Batch > domain.MaxBatch:
		return usage(fmt.Errorf("--batch must be 1 to %d", domain.MaxBatch))
	case c.TokenFile == "" && c.Cert == "":
		return usage(errors.New("give --token-file, or --cert with --key and --trust"))
	case (c.ReviewerGateway == "") != (c.ReviewerTokenFile == "" && c.ReviewerCert == ""):
		return usage(errors.New("--reviewer-gateway and --reviewer-token-file or --reviewer-cert belong together"))
	case c.ShareType < 0 || c.ShareType > 3:
		return usage(errors.New("--share-type must be 1, 2 or 3"))
	}
	file, err := os.Open(c.File)
	if err != nil {
		return usage(err)
	}
	defer func() { _ = file.Close() }() // only read
	digest := sha256.New()
	if _, err := io.Copy(digest, file); err != nil {
		return usage(err)
	}
	// The whole file is read once before anything is sent: one that breaks off
	// in the middle is not imported by half.
	form, total, err := c.count(file)
	if err != nil {
		return usage(fmt.Errorf("%s: %w", c.File, err))
	}
	work, err := c.work()
	if err != nil {
		return usage(err)
	}
	given, err := json.Marshal(c.defaults())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(c.Report), 0o755); err != nil { //nolint:gosec // for others to read
		return usage(fmt.Errorf("make the report's folder: %w", err))
	}
	journalPath := c.Report + ".journal"
	log, err := openJournal(journalPath, journalHead{
		Format: journalFormat, File: hex.EncodeToString(digest.Sum(nil)), Gateway: work.operator.url, Form: form, Given: domain.Digest(given),
	})
	if err != nil {
		return err
	}
	run := &importRun{work: work, journal: log, batch: c.Batch, progress: newProgress(e.stderr, total, "catalog entries")}
	work.done = run.note
	start := time.Now()
	fmt.Fprintf(e.stderr, "%s: %d rows in the %s form, to %s\n", filepath.Base(c.File), total, form, work.operator.url)
	failure := run.file(e.ctx, func() (*interchange.Reader, error) { return c.rows(file) }, c.Concurrency)
	run.progress.finish()
	failure = errors.Join(failure, log.close(), writeReport(c.Report, run.failed))

	failed := len(run.failed)
	fmt.Fprintf(e.stdout, "%d rows: %d imported, %d there already, %d with errors, %d left; %s\n",
		total, run.imported, run.existed, failed, total-run.imported-run.existed-failed, time.Since(start).Round(100*time.Millisecond))
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
		return &exitError{exitFailed, fmt.Errorf("%d of %d rows have errors, see %s", failed, total, c.Report)}
	}
	return nil
}

// count reads the whole file.
func (c *catalogImportCmd) count(file *os.File) (form string, rows int, err error) {
	reader, err := c.rows(file)
	if err != nil {
		return "", 0, err
	}
	for _, err := range reader.Rows() {
		if err != nil {
			return "", 0, err
		}
		rows++
	}
	if rows == 0 {
		return "", 0, errors.New("the file has no rows")
	}
	return reader.Form(), rows, nil
}

// work opens the gateways.
func (c *catalogImportCmd) work() (*catalogWork, error) {
	operator, err := newWriter(&callCmd{
		Gateway: c.Gateway, TokenFile: c.TokenFile, Role: c.Role, Cert: c.Cert, Key: c.Key, Trust: c.Trust, Roots: c.Roots, Patience: c.Patience,
	})
	w := &catalogWork{operator: operator, opinion: c.Opinion}
	if err != nil || c.ReviewerGateway == "" {
		return w, err
	}
	w.reviewer, err = newWriter(&callCmd{
		Gateway: c.ReviewerGateway, TokenFile: c.ReviewerTokenFile, Role: string(domain.RoleReviewer), Cert: c.ReviewerCert, Key: c.ReviewerKey,
		Trust: c.Trust, Roots: c.Roots, Patience: c.Patience,
	})
	if err != nil {
		return nil, err
	}
	// A reviewer's gateway may be a block behind the operator's.
	w.operator.latest = new(latestBlock)
	w.reviewer.latest = w.operator.latest
	return w, nil
}

// importRun is one run of an import.
type importRun struct {
	work     *catalogWork
	journal  *journal
	batch    int
	progress *progress

	mu       sync.Mutex
	imported int // on the ledger through this import, earlier runs included
	existed  int
	failed   []*entryRow // rows with findings
	waiting  []*entryRow // rows related to entries that are not recorded yet
}

// file imports every row that is not done yet. The error is one that stops the
// import.
func (r *importRun) file(whole context.Context, open func() (*interchange.Reader, error), concurrency int) error {
	reader, err := open()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(whole)
	group.SetLimit(concurrency)
	var batch []*entryRow
	send := func() {
		rows := batch
		batch = nil
		group.Go(func() error { return r.rows(ctx, rows, true) })
	}
	for read, err := range reader.Rows() {
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, group.Wait(), whole.Err())
		}
		row := rowOf(read)
		if before, ok := r.journal.done[row.number]; ok && len(row.findings) == 0 {
			row.state, row.existed = before.state, before.existed
		}
		if len(row.findings) > 0 || row.state != "" && r.work.finished(row) {
			r.settle(row)
			continue
		}
		if batch = append(batch, row); len(batch) == r.batch {
			send()
		}
	}
	if len(batch) > 0 {
		send()
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := r.related(whole); err != nil {
		return err
	}
	return whole.Err()
}

// rows takes a batch as far as it goes. Rows that only lack entries they are
// related to are kept for later when later is set.
func (r *importRun) rows(ctx context.Context, rows []*entryRow, later bool) error {
	err := r.work.run(ctx, rows)
	for _, row := range rows {
		switch {
		case later && onlyRelated(row):
			r.mu.Lock()
			r.waiting = append(r.waiting, row)
			r.mu.Unlock()
		case err == nil || len(row.findings) > 0 || row.state != "" && r.work.finished(row):
			r.settle(row)
		}
	}
	return err
}

// related tries the rows again that waited for others of the file, as long as
// some of them get further.
func (r *importRun) related(ctx context.Context) error {
	for before := len(r.waiting) + 1; len(r.waiting) > 0; {
		again, last := r.waiting, len(r.waiting) == before
		before, r.waiting = len(r.waiting), nil
		slices.SortFunc(again, func(a, b *entryRow) int { return a.number - b.number })
		for rows := range slices.Chunk(again, r.batch) {
			if !last {
				for _, row := range rows {
					row.findings = nil
				}
			}
			if err := r.rows(ctx, rows, !last); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle counts a row that goes no further.
func (r *importRun) settle(row *entryRow) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case len(row.findings) > 0:
		r.failed = append(r.failed, row)
	case row.existed:
		r.existed++
	default:
		r.imported++
	}
	r.progress.add()
}

// note writes a step to the journal.
func (r *importRun) note(step string, rows []*entryRow, at domain.Position) error {
	line := journalLine{Step: step, State: rows[0].state, Block: at.Block, TxID: at.TxID}
	for _, row := range rows {
		line.Rows = append(line.Rows, row.number)
	}
	return r.journal.note(line)
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
		fmt.Fprintf(p.out, "%s: %d of %d (%d %%)\n", p.what, p.done, p.total, 100*p.done/max(p.total, 1))
	}
}

func (p *progress) finish() {
	if p.bar != nil {
		_ = p.bar.Exit() // leaves the bar as it is, on a line of its own
		fmt.Fprintln(p.out)
	}
}
