package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/requestlog"
)

// auditRequestsCmd is "zhenglian audit requests".
type auditRequestsCmd struct {
	File       []string      `type:"path" placeholder:"FILE|FOLDER" help:"File of the log, or the folder with all of them; repeat for several files."`
	Department string        `placeholder:"CODE" help:"With --gateway: whose gateway the log is of."`
	Gateway    string        `placeholder:"URL" help:"Look the anchors up on the ledger through this gateway; one of another department's is better."`
	TokenFile  string        `type:"existingfile" placeholder:"FILE" help:"Access token for that gateway."`
	MaxLag     time.Duration `default:"15m" help:"Longest time between a line and the transaction that anchors it."`
	Patience   time.Duration `default:"30s" help:"How long one look-up may wait for the gateway."`
}

// Help is shown by --help below the flags.
func (*auditRequestsCmd) Help() string {
	return `Each line carries the hash of the one before, so that no line can be changed, left out or put in unnoticed. The beginning of the hash of
some lines is the nonce of a transaction evidence:Attest, which every department has in its copy of the ledger: with --gateway each of
them is looked up. Exit codes: 0 the chain holds; 3 it does not, or an anchor is not on the ledger; 1 something could not be read.

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
		return nil
	}
	last := report.Anchors[len(report.Anchors)-1]
	fmt.Fprintf(e.stdout, "%d anchors, the last of line %d in transaction %s\n", len(report.Anchors), last.Seq, last.TxID)
	if c.Gateway == "" {
		fmt.Fprintln(e.stdout, "NOTE the anchors were not looked up on the ledger: no --gateway")
		return nil
	}
	return c.lookUp(e, report)
}

// files answers the files that the flag names.
func (c *auditRequestsCmd) files() ([]string, error) {
	if len(c.File) == 0 {
		return nil, errors.New("--file is missing")
	}
	if c.Gateway != "" && c.Department == "" {
		return nil, errors.New("--gateway needs --department: an anchor counts if that department submitted it")
	}
	var files []string
	for _, name := range c.File {
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

// lookUp compares the anchors with the ledger.
func (c *auditRequestsCmd) lookUp(e *env, report requestlog.Report) error {
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
	if wrong > 0 {
		return &exitError{exitProofRefused, fmt.Errorf("%d of %d anchors do not hold", wrong, len(report.Anchors))}
	}
	fmt.Fprintf(e.stdout, "%d anchors are on the ledger\n", found)
	return nil
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
