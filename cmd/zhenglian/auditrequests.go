package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/requestlog"
)

// auditRequestsCmd is "zhenglian audit requests".
type auditRequestsCmd struct {
	File       []string      `type:"path" placeholder:"FILE|FOLDER" help:"File of the log, or the folder with all of them; repeat for several files."`
	Replica    []string      `type:"path" placeholder:"FILE|FOLDER" help:"Log of another gateway of the same department: it is not checked, and anchors of its lines are not missed in the other one."`
	Department string        `placeholder:"CODE" help:"With --gateway: whose gateway the log is of."`
	Gateway    string        `placeholder:"URL" help:"Look the anchors up on the ledger through this gateway; one of another department's is better."`
	TokenFile  string        `type:"existingfile" placeholder:"FILE" help:"Access token for that gateway."`
	MaxLag     time.Duration `default:"15m" help:"Longest time between a line and the transaction that anchors it."`
	FromBlock  uint64        `default:"0" placeholder:"N" help:"Read the chain from this block on for anchors whose lines are missing; from its beginning if not given."`
	Patience   time.Duration `default:"30s" help:"How long one look-up may wait for the gateway."`
}

// Help is shown by --help below the flags.
func (*auditRequestsCmd) Help() string {
	return `Each line carries the hash of the one before, so that no line can be changed, left out or put in unnoticed. The beginning of the hash of
some lines is the nonce of a transaction evidence:Attest, which every department has in its copy of the ledger: with --gateway each of
them is looked up, and the blocks are read for anchors of lines that are not there any more. Exit codes: 0 the chain holds; 3 it does not,
an anchor is not on the ledger, or lines are missing that are anchored; 1 something could not be read.

Example: zhenglian audit requests --file data/requests --department police --gateway http://127.0.0.1:8083 --token-file civil.token`
}

// Run verifies.
func (c *auditRequestsCmd) Run(e *env) error {
	files, err := c.files()
	if err != nil {
		return &exitError{exitUsage, err}
	}
	report, err := requestlog.Verify(files)
	var broken *requestlog.BrokenError
	switch {
	case errors.As(err, &broken):
		return &exitError{exitProofRefused, fmt.Errorf("the chain does not hold: %w", err)}
	case err != nil:
		return err
	}
	fmt.Fprintf(e.stdout, "%d lines (%d to %d) in %d files hold together, from %s to %s\n",
		report.Last.Seq-report.First.Seq+1, report.First.Seq, report.Last.Seq, len(files),
		report.First.Time.Format(time.RFC3339), report.Last.Time.Format(time.RFC3339))
	fmt.Fprintf(e.stdout, "%d requests, %d refused, %d failed; %d starts, %d torn places\n", report.Requests, report.Refused, report.Failed, report.Starts, report.Torn)
	if report.First.Seq > 1 {
		fmt.Fprintf(e.stdout, "NOTE lines 1 to %d are not in these files\n", report.First.Seq-1)
	}
	if report.Unclosed > 0 {
		fmt.Fprintf(e.stdout, "NOTE the last %d bytes are no line yet: the gateway is writing, or was killed and has not started since\n", report.Unclosed)
	}
	fmt.Fprintf(e.stdout, "head %s\n", report.Head)
	if len(report.Anchors) == 0 {
		fmt.Fprintln(e.stdout, "NOTE no line is anchored: whoever has the file could have written all of it anew")
	} else {
		last := report.Anchors[len(report.Anchors)-1]
		fmt.Fprintf(e.stdout, "%d anchors, the last of line %d in transaction %s\n", len(report.Anchors), last.Seq, last.TxID)
	}
	if c.Gateway == "" {
		fmt.Fprintln(e.stdout, "NOTE the anchors were not looked up on the ledger: no --gateway")
		return nil
	}
	return c.lookUp(e, report, files)
}

// files answers the files that the flag names.
func (c *auditRequestsCmd) files() ([]string, error) {
	if len(c.File) == 0 {
		return nil, errors.New("--file is missing")
	}
	if c.Gateway != "" && c.Department == "" {
		return nil, errors.New("--gateway needs --department: an anchor counts if that department submitted it")
	}
	return logFiles(c.File)
}

// logFiles answers the files of logs of requests that names, of files and folders,
// stand for.
func logFiles(names []string) (files []string, err error) {
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			files = append(files, name)
			continue
		}
		found, err := requestlog.Files(name)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("%s has no file of a log of requests", name)
		}
		files = append(files, found...)
	}
	return files, nil
}

// lookUp compares the anchors with the ledger, and the ledger's with the lines.
func (c *auditRequestsCmd) lookUp(e *env, report requestlog.Report, files []string) error {
	token := ""
	if c.TokenFile != "" {
		data, err := os.ReadFile(c.TokenFile)
		if err != nil {
			return err
		}
		token = strings.TrimSpace(string(data))
	}
	client, err := newGatewayClient(c.Gateway, token, c.Patience)
	if err != nil {
		return err
	}
	mspID, err := mspOf(e.ctx, client, domain.DepartmentCode(c.Department))
	if err != nil {
		return err
	}
	found, wrong := 0, 0
	for _, a := range report.Anchors {
		var t api.BlockTransaction
		err := client.read(e.ctx, func(ctx context.Context) (*http.Response, error) { return client.GetTransaction(ctx, string(a.TxID)) }, &t)
		if err != nil && !refusedAs(err, api.ProblemCodeNotFound) {
			return fmt.Errorf("transaction %s: %w", a.TxID, err)
		}
		if err != nil && a.Block == 0 {
			fmt.Fprintf(e.stdout, "NOTE line %d: transaction %s did not come to be\n", a.Seq, a.TxID)
			continue
		}
		fault := "is not on the ledger"
		if err == nil {
			fault = c.fault(a, t.Transaction, mspID)
		}
		if fault == "" {
			found++
			continue
		}
		wrong++
		fmt.Fprintf(e.stdout, "FINDING line %d: transaction %s %s\n", a.Seq, a.TxID, fault)
	}
	missing, err := c.missing(e.ctx, client, mspID, report, files)
	if err != nil {
		return err
	}
	for _, t := range missing {
		fmt.Fprintf(e.stdout, "FINDING transaction %s of %s anchors a line that is not in these files: lines were cut off or written anew\n",
			t.ID, t.Time.Format(time.RFC3339))
	}
	if wrong > 0 {
		return &exitError{exitProofRefused, fmt.Errorf("%d of %d anchors do not hold, and the lines of %d are missing", wrong, len(report.Anchors), len(missing))}
	}
	if len(missing) > 0 {
		return &exitError{exitProofRefused, fmt.Errorf("the lines of %d anchors are missing", len(missing))}
	}
	fmt.Fprintf(e.stdout, "%d anchors are on the ledger, and no line is missing that is anchored there\n", found)
	return nil
}

// blocksAtOnce is how many blocks are asked for in one request.
const blocksAtOnce = 50

// missing answers the anchors on the ledger, oldest first, whose lines neither the
// files nor those of replicas hold. Where the log begins before the files do, anchors
// of the time before are not missed.
func (c *auditRequestsCmd) missing(ctx context.Context, client *gatewayClient, mspID domain.MSPID, report requestlog.Report, files []string) ([]api.Transaction, error) {
	replicas, err := logFiles(c.Replica)
	if err != nil {
		return nil, err
	}
	anchored, err := c.anchored(ctx, client, mspID)
	if err != nil {
		return nil, err
	}
	held, err := requestlog.Holds(append(slices.Clone(files), replicas...), slices.Collect(maps.Keys(anchored)))
	if err != nil {
		return nil, err
	}
	var missing []api.Transaction
	for nonce, t := range anchored {
		earlier := report.First.Seq > 1 && t.Time.Before(report.First.Time.Add(c.MaxLag))
		if !held[nonce] && !earlier {
			missing = append(missing, t)
		}
	}
	slices.SortFunc(missing, func(a, b api.Transaction) int { return a.Time.Compare(b.Time) })
	return missing, nil
}

// anchored reads the chain backwards for the transactions with which the department
// anchored lines of a log of requests, by their nonces. Where it stops is a block's
// number: times are those of whoever sent a transaction.
func (c *auditRequestsCmd) anchored(ctx context.Context, client *gatewayClient, mspID domain.MSPID) (map[string]api.Transaction, error) {
	found := make(map[string]api.Transaction)
	limit := blocksAtOnce
	params := &api.ListBlocksParams{Limit: &limit}
	for {
		var page api.BlockList
		if err := client.read(ctx, func(ctx context.Context) (*http.Response, error) { return client.ListBlocks(ctx, params) }, &page); err != nil {
			return nil, fmt.Errorf("read the chain: %w", err)
		}
		for _, b := range page.Items {
			if uint64(b.Number) < c.FromBlock { //nolint:gosec // a number of blocks
				return found, nil
			}
			for _, t := range b.Transactions {
				var args domain.AttestArgs
				if anchorsLog(t, mspID, &args) && args.Kind == domain.KindLog && args.ID == c.Department {
					found[args.Nonce] = t
				}
			}
		}
		if page.Next == "" {
			return found, nil
		}
		next := page.Next
		params.Cursor = &next
	}
}

// anchorsLog reads the argument of a valid evidence:Attest of the department, and
// reports whether t is one.
func anchorsLog(t api.Transaction, mspID domain.MSPID, args *domain.AttestArgs) bool {
	return t.ValidationCode == "VALID" && t.Creator == string(mspID) && t.Contract == "evidence" && t.Name == "Attest" &&
		len(t.Arguments) > 0 && json.Unmarshal([]byte(t.Arguments[0]), args) == nil
}

// mspOf answers under which MSP ID a department submits.
func mspOf(ctx context.Context, client *gatewayClient, code domain.DepartmentCode) (domain.MSPID, error) {
	var departments struct {
		Items []struct {
			Record domain.Department `json:"record"`
		} `json:"items"`
	}
	limit := 200
	err := client.read(ctx, func(ctx context.Context) (*http.Response, error) {
		return client.ListDepartments(ctx, &api.ListDepartmentsParams{Limit: &limit})
	}, &departments)
	if err != nil {
		return "", err
	}
	for _, d := range departments.Items {
		if d.Record.Code == code {
			return d.Record.MSPID, nil
		}
	}
	return "", fmt.Errorf("the ledger has no department %q", code)
}

// fault answers why a transaction does not anchor what a says, "" if it does.
func (c *auditRequestsCmd) fault(a requestlog.CheckedAnchor, t api.Transaction, mspID domain.MSPID) string {
	var args domain.AttestArgs
	switch {
	case t.ValidationCode != "VALID":
		return "is " + t.ValidationCode
	case t.Creator != string(mspID):
		return "was submitted by " + printable(t.Creator)
	case t.Contract != "evidence" || t.Name != "Attest" || len(t.Arguments) == 0 || json.Unmarshal([]byte(t.Arguments[0]), &args) != nil:
		return "is no evidence:Attest"
	case args.Nonce != requestlog.Nonce(a.Head):
		return "carries another hash: lines were changed after it"
	case a.Known && t.Time.Sub(a.LineTime).Abs() > c.MaxLag:
		return fmt.Sprintf("is %s away from its line", t.Time.Sub(a.LineTime).Round(time.Second))
	}
	return ""
}
