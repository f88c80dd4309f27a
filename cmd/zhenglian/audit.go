package main

import (
	"context"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/evidence"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/sqltrail"
	"github.com/zhenglian/zhenglian/gateway/trail"
)

// auditCmd groups what an auditor does with the departments' access logs and with
// the ledger.
type auditCmd struct {
	Pull      auditPullCmd      `cmd:"" help:"Pull the access logs, check them against the ledger's anchors and keep their records in a trail."`
	Trace     auditTraceCmd     `cmd:"" help:"Show from the trail who used which data, when, why and under which grant."`
	Reconcile auditReconcileCmd `cmd:"" help:"Compare from the trail what both sides of each call logged."`
	Export    auditExportCmd    `cmd:"" help:"Write an evidence folder that anyone can verify offline."`
	Ledger    auditLedgerCmd    `cmd:"" help:"Check the whole ledger, block by block, and compare the departments' copies."`
	Requests  auditRequestsCmd  `cmd:"" help:"Check the hash chain of a gateway's log of requests, and its anchors on the ledger."`
}

// trailFlags say where the trail is.
type trailFlags struct {
	Trail string `default:"trail.sqlite" aliases:"index" placeholder:"FILE|postgres://…" help:"The trail: an SQLite file, or the URL of a PostgreSQL database of its own."`
}

func (f *trailFlags) open(ctx context.Context) (*sqltrail.Store, error) {
	return sqltrail.Open(ctx, f.Trail)
}

// auditPullCmd is "zhenglian audit pull".
type auditPullCmd struct {
	logFlags
	trailFlags
	AllAnchors bool `help:"Have the departments sign every anchor, not the newest of each log alone; slow."`
}

// Help is shown by --help below the flags.
func (*auditPullCmd) Help() string {
	return `Every entry is checked against the log's tiles, every tile and every anchor against the newest anchor, and that one against the
signatures of the departments. What is wrong is named, kept in the trail as a finding, and ends the pull of that log alone; run the
command again to go on. Exit codes: 0 all logs are in order; 3 something was found; 1 a log or the gateway did not answer.

Example: zhenglian audit pull --trust consortium.json --log police=http://127.0.0.1:8082,token-file=police.token`
}

// pullEvery is how often progress is told where there is no terminal.
const pullEvery = 5 * time.Second

// Run pulls.
func (c *auditPullCmd) Run(e *env) (err error) {
	sources, err := c.sources()
	if err != nil {
		return err
	}
	store, err := c.open(e.ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	start := time.Now()
	auditor := service.NewAuditor(service.AuditorOptions{
		Trail: store, Anchors: sources.anchors, Trust: sources.trust, Logs: sources.logs,
		Confirm: sources.anchors.confirm, ConfirmAll: c.AllAnchors,
		Logger: slog.New(slog.DiscardHandler), Clock: func() time.Time { return time.Now().UTC() },
	})
	told := start
	failed := auditor.Pull(e.ctx, func(p service.PullProgress) {
		if now := time.Now(); p.Size == p.Anchored || now.Sub(told) >= pullEvery {
			told = now
			fmt.Fprintf(e.stderr, "%s: %d of %d entries (%d %%)\n", p.Department, p.Size, p.Anchored, 100*p.Size/max(p.Anchored, 1))
		}
	})
	logs, err := store.Logs(e.ctx)
	if err != nil {
		return errors.Join(failed, err)
	}
	for _, l := range logs {
		fmt.Fprintf(e.stdout, "%s: %d entries, verified up to the anchor of size %d\n", l.Department, l.Progress.Size, l.Progress.Anchored)
	}
	found, err := findingsSince(e.ctx, store, start)
	if err != nil {
		return errors.Join(failed, err)
	}
	for _, f := range found {
		fmt.Fprintf(e.stdout, "FINDING %s %s at %d: %s\n", f.Department, f.Kind, f.Place, printable(f.Text))
	}
	switch {
	case len(found) > 0:
		return &exitError{exitProofRefused, errors.Join(fmt.Errorf("%d findings: see above", len(found)), failed)}
	case failed != nil:
		return failed
	}
	fmt.Fprintf(e.stdout, "all logs that were read are in order (%s)\n", time.Since(start).Round(time.Millisecond))
	return nil
}

// findingsSince answers what was found at or after a time.
func findingsSince(ctx context.Context, store trail.Store, since time.Time) ([]trail.Finding, error) {
	var all []trail.Finding
	page := trail.Page{Limit: maxTrailPage}
	for {
		found, err := store.ListFindings(ctx, trail.FindingFilter{SeenSince: since.Truncate(time.Millisecond)}, page)
		if err != nil {
			return nil, err
		}
		all = append(all, found.Items...)
		if found.Next == "" {
			return all, nil
		}
		page.After = found.Next
	}
}

// maxTrailPage is the longest page of a trail.
const maxTrailPage = 200

// traceFlags narrow a trace.
type traceFlags struct {
	Catalog     string    `placeholder:"CODE" help:"Data resource."`
	Grant       string    `placeholder:"ID" help:"Grant."`
	Department  string    `placeholder:"CODE" help:"Provider or consumer."`
	Writer      string    `placeholder:"CODE" help:"Whose log."`
	Counterpart string    `placeholder:"CODE" help:"The other side than the writer."`
	Purpose     string    `placeholder:"TEXT" help:"Purpose, in full."`
	ServiceItem string    `placeholder:"CODE" help:"Service item."`
	Case        string    `placeholder:"REF" help:"Case number."`
	Subject     string    `placeholder:"REF" help:"Salted reference of the person or company."`
	Operator    string    `placeholder:"REF" help:"Pseudonym of the operator."`
	Result      string    `placeholder:"CODE" help:"ok, or a refusal or failure code."`
	Call        string    `placeholder:"ID" help:"Call."`
	From        time.Time `placeholder:"TIME" help:"Calls at this time (RFC 3339) or later."`
	To          time.Time `placeholder:"TIME" help:"Calls before this time."`
}

func (f *traceFlags) filter() trail.Filter {
	return trail.Filter{
		CatalogCode: f.Catalog, GrantID: f.Grant, Department: domain.DepartmentCode(f.Department), Writer: domain.DepartmentCode(f.Writer),
		Counterpart: domain.DepartmentCode(f.Counterpart), Purpose: f.Purpose, ServiceItem: f.ServiceItem, CaseRef: f.Case,
		SubjectRef: f.Subject, Operator: f.Operator, Result: f.Result, CallID: f.Call, From: f.From, To: f.To,
	}
}

// auditTraceCmd is "zhenglian audit trace".
type auditTraceCmd struct {
	trailFlags
	traceFlags
	Order string `enum:"newest,oldest" default:"newest" help:"Which first: ${enum}."`
	Limit int    `default:"50" help:"How many records."`
	After string `placeholder:"CURSOR" help:"Go on where the list ended that gave this cursor."`
	JSON  bool   `name:"json" xor:"form" help:"Print JSON."`
	CSV   bool   `name:"csv" xor:"form" help:"Print everything as CSV, oldest first, whatever the limit."`
}

// traceRow is a row of a trace with what proves it.
type traceRow struct {
	Log        domain.DepartmentCode `json:"log"`
	Index      uint64                `json:"index"`
	LeafHash   string                `json:"leafHash"` // hexadecimal
	AnchorSize uint64                `json:"anchorSize"`
	// Paths at the gateway of the department whose log it is.
	Inclusion string              `json:"inclusion"` // C2SP tlog-proof
	Anchor    string              `json:"anchor"`    // zhenglian-proof/1
	Record    domain.AccessRecord `json:"record"`
}

func newTraceRow(e trail.Entry) traceRow {
	return traceRow{
		Log: e.Department, Index: e.Index, LeafHash: hex.EncodeToString(e.LeafHash), AnchorSize: e.AnchorSize,
		Inclusion: fmt.Sprintf("/v1/access-records/%s/%d/proof", e.Department, e.Index),
		Anchor:    "/v1/proofs/" + string(domain.KindAnchor) + "/" + domain.AnchorID(e.Department, e.AnchorSize),
		Record:    e.Record,
	}
}

// Run prints a trace.
func (c *auditTraceCmd) Run(e *env) (err error) {
	if c.Limit < 1 {
		return &exitError{exitUsage, errors.New("--limit must be at least 1")}
	}
	store, err := c.open(e.ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if c.CSV {
		return writeTraceCSV(e, store, c.filter())
	}
	rows, next, err := c.rows(e.ctx, store)
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(e.stdout, struct {
			Items []traceRow `json:"items"`
			Next  string     `json:"next"`
		}{rows, next})
	}
	table := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "TIME\tLOG\tINDEX\tANCHOR\tUSE\tRESOURCE\tITEMS\tGRANT\tCASE\tOPERATOR\tRESULT\tPURPOSE")
	for _, row := range rows {
		r := row.Record
		cells := []string{
			r.At.Local().Format("2006-01-02 15:04:05"), string(row.Log), strconv.FormatUint(row.Index, 10), strconv.FormatUint(row.AnchorSize, 10),
			string(r.Provider) + ">" + string(r.Consumer), r.CatalogCode, strconv.Itoa(len(r.Items)), r.GrantID, r.CaseRef, r.Operator, r.Result, r.Purpose,
		}
		for i := range cells {
			cells[i] = printable(cells[i])
		}
		fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if next != "" {
		fmt.Fprintf(e.stderr, "there are more: --after %s\n", next)
	}
	return nil
}

// rows reads as many rows as were asked for.
func (c *auditTraceCmd) rows(ctx context.Context, store trail.Store) ([]traceRow, string, error) {
	rows := []traceRow{}
	page := trail.Page{After: c.After, OldestFirst: c.Order == "oldest"}
	for {
		page.Limit = min(maxTrailPage, c.Limit-len(rows))
		found, err := store.Trace(ctx, c.filter(), page)
		if err != nil {
			return nil, "", err
		}
		for _, e := range found.Items {
			rows = append(rows, newTraceRow(e))
		}
		if found.Next == "" || len(rows) == c.Limit {
			return rows, found.Next, nil
		}
		page.After = found.Next
	}
}

func writeTraceCSV(e *env, store trail.Store, filter trail.Filter) error {
	w := csv.NewWriter(e.stdout)
	if err := w.Write(evidence.CSVHeader()); err != nil {
		return err
	}
	if err := store.Export(e.ctx, filter, func(entry trail.Entry) error { return w.Write(evidence.CSVRow(entry)) }); err != nil {
		return err
	}
	w.Flush()
	return w.Error()
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// auditReconcileCmd is "zhenglian audit reconcile".
type auditReconcileCmd struct {
	trailFlags
	Provider string        `placeholder:"CODE" help:"Provider."`
	Consumer string        `placeholder:"CODE" help:"Consumer."`
	FromDay  string        `placeholder:"DAY" help:"First day, 2006-01-02."`
	ToDay    string        `placeholder:"DAY" help:"Last day."`
	Grace    time.Duration `default:"15m" help:"How long the other side has to log and anchor a call before it counts as missing."`
	Calls    bool          `help:"List the calls that only one side logged, or both differently, instead of counting."`
	JSON     bool          `name:"json" help:"Print JSON."`
}

// Run reconciles.
func (c *auditReconcileCmd) Run(e *env) (err error) {
	store, err := c.open(e.ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	filter := trail.ReconcileFilter{
		Provider: domain.DepartmentCode(c.Provider), Consumer: domain.DepartmentCode(c.Consumer), FromDay: c.FromDay, ToDay: c.ToDay,
	}
	if filter.Settled, err = c.settled(e.ctx, store); err != nil {
		return err
	}
	if c.Calls {
		return c.calls(e, store, filter)
	}
	days := []pairDay{}
	page := trail.Page{Limit: maxTrailPage}
	for {
		found, err := store.Reconcile(e.ctx, filter, page)
		if err != nil {
			return err
		}
		for _, d := range found.Items {
			days = append(days, pairDay(d))
		}
		if page.After = found.Next; page.After == "" {
			break
		}
	}
	if c.JSON {
		return writeJSON(e.stdout, days)
	}
	table := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PROVIDER\tCONSUMER\tDAY\tBOTH\tPROVIDER ONLY\tCONSUMER ONLY\tCONTRADICTING\tWAITING")
	for _, d := range days {
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\n", d.Provider, d.Consumer, d.Day, d.Both, d.ProviderOnly, d.ConsumerOnly, d.Contradicting, d.Waiting)
	}
	return table.Flush()
}

// pairDay is a [trail.PairDay] as JSON.
type pairDay struct {
	Provider      domain.DepartmentCode `json:"provider"`
	Consumer      domain.DepartmentCode `json:"consumer"`
	Day           string                `json:"day"`
	Both          int64                 `json:"both"`
	ProviderOnly  int64                 `json:"providerOnly"`
	ConsumerOnly  int64                 `json:"consumerOnly"`
	Contradicting int64                 `json:"contradicting"`
	Waiting       int64                 `json:"waiting"`
}

// settled is the time before which a call must be in the logs of both sides: of
// what happened since the last pull, a log cannot tell.
func (c *auditReconcileCmd) settled(ctx context.Context, store trail.Store) (time.Time, error) {
	logs, err := store.Logs(ctx)
	if err != nil {
		return time.Time{}, err
	}
	known := time.Now().UTC()
	for _, l := range logs {
		if l.Progress.Seen.Before(known) {
			known = l.Progress.Seen
		}
	}
	return known.Add(-c.Grace), nil
}

// discrepancy is a call that the logs do not agree on, as JSON.
type discrepancy struct {
	CallID   string                `json:"callId"`
	Provider domain.DepartmentCode `json:"provider"`
	Consumer domain.DepartmentCode `json:"consumer"`
	Day      string                `json:"day"`
	State    trail.CallState       `json:"state"`
	Fields   []string              `json:"fields"`
	Rows     []traceRow            `json:"rows"` // the provider's record, then the consumer's, where there are
}

func (c *auditReconcileCmd) calls(e *env, store trail.Store, filter trail.ReconcileFilter) error {
	calls := []discrepancy{}
	page := trail.Page{Limit: maxTrailPage}
	for {
		found, err := store.Discrepancies(e.ctx, filter, page)
		if err != nil {
			return err
		}
		for _, d := range found.Items {
			call := discrepancy{d.CallID, d.Provider, d.Consumer, d.Day, d.State, slices.Concat([]string{}, d.Fields), []traceRow{}}
			for _, entry := range []*trail.Entry{d.ProviderEntry, d.ConsumerEntry} {
				if entry != nil {
					call.Rows = append(call.Rows, newTraceRow(*entry))
				}
			}
			calls = append(calls, call)
		}
		if page.After = found.Next; page.After == "" {
			break
		}
	}
	if c.JSON {
		return writeJSON(e.stdout, calls)
	}
	table := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "DAY\tPROVIDER\tCONSUMER\tCALL\tSTATE\tRECORDS\tFIELDS")
	for _, call := range calls {
		var records []string
		for _, row := range call.Rows {
			records = append(records, fmt.Sprintf("%s/%d", row.Log, row.Index))
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", call.Day, call.Provider, call.Consumer, printable(call.CallID), call.State, strings.Join(records, " "), strings.Join(call.Fields, " "))
	}
	return table.Flush()
}
