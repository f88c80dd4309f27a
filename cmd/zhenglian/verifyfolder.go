package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/evidence"
	"github.com/zhenglian/zhenglian/proof"
)

// folderVerdict is what "zhenglian verify FOLDER --json" prints.
type folderVerdict struct {
	Overall string       `json:"overall"` // complete, bad_proof, cannot_check
	Reason  string       `json:"reason"`
	Logs    []logVerdict `json:"logs"`
	Rows    int          `json:"rows"` // of trace.csv
}

// logVerdict is what a folder proves about one log.
type logVerdict struct {
	Department domain.DepartmentCode   `json:"department"`
	From       uint64                  `json:"from"`
	To         uint64                  `json:"to"`
	AnchorSize uint64                  `json:"anchorSize"`
	AnchoredAt string                  `json:"anchoredAt"`
	AsOf       string                  `json:"asOf"`
	Signers    []domain.DepartmentCode `json:"signers"`
	Foreign    []uint64                `json:"foreign"` // entries that are no access records
}

// verifyFolder checks an evidence folder.
func (c *verifyCmd) verifyFolder(e *env, anchors *proof.Anchors) error {
	if c.Nonce != "" || c.CheckCode != "" || !c.At.IsZero() || !c.StatusAt.IsZero() || c.Departments != 0 || len(c.Require) > 0 || c.Issuer != "any" {
		return &exitError{exitUsage, errors.New("of the flags, --trust, --crl and --json alone are for evidence folders; the others are for proof files")}
	}
	root, err := os.OpenRoot(c.File) // a link in the folder leads nowhere
	if err != nil {
		return fmt.Errorf("evidence folder: %w", err)
	}
	defer root.Close() //nolint:errcheck // only read
	report, failed := evidence.Verify(root.FS(), anchors)
	var refused *evidence.RefusedError
	var unknown *evidence.CannotCheckError
	verdict := folderVerdict{Overall: "complete", Logs: []logVerdict{}}
	switch {
	case errors.As(failed, &refused):
		verdict.Overall, verdict.Reason = string(proof.BadProof), printable(refused.Error())
		failed = &exitError{exitProofRefused, fmt.Errorf("evidence refused: %s", verdict.Reason)}
	case errors.As(failed, &unknown):
		verdict.Overall, verdict.Reason = "cannot_check", printable(unknown.Error())
		failed = &exitError{exitCannotDecide, fmt.Errorf("cannot check: %s", verdict.Reason)}
	case failed != nil:
		return fmt.Errorf("evidence folder: %w", failed)
	default:
		verdict.Rows = report.Rows
		for _, l := range report.Logs {
			verdict.Logs = append(verdict.Logs, logVerdict{
				l.Department, l.From, l.To, l.Anchor.Size, timeText(l.Anchor.TxTime), timeText(l.AsOf), l.Signers, slices.Concat([]uint64{}, l.Foreign),
			})
		}
	}
	if c.JSON {
		return errors.Join(writeJSON(e.stdout, verdict), failed)
	}
	if failed != nil {
		headline := headlines[proof.BadProof]
		if unknown != nil {
			headline = headlines[proof.CannotCheck]
		}
		fmt.Fprintf(e.stdout, "%s\n%s\n\nreason     %s\n", headline.zh, headline.en, verdict.Reason)
		return failed
	}
	return writeFolderReport(e.stdout, c.File, report, anchors)
}

// writeFolderReport says what a folder proves.
func writeFolderReport(w io.Writer, folder string, report *evidence.Report, anchors *proof.Anchors) error {
	var b strings.Builder
	b.WriteString("证明成立：所列日志区间完整，记录未被改动\nThe evidence holds: the ranges are complete, nothing in them was changed\n\n")
	names := &verifyReport{anchors: anchors}
	for _, l := range report.Logs {
		fmt.Fprintf(&b, "log        %s\n", printable(names.department(l.Department)))
		fmt.Fprintf(&b, "entries    %d to %d: all %d of them, of the %d that the ledger anchored at %s\n", l.From, l.To-1, l.To-l.From, l.Anchor.Size, timeText(l.Anchor.TxTime))
		fmt.Fprintf(&b, "signed by  %d of %d departments, %d required, at %s\n", len(l.Signers), len(anchors.Departments), anchors.Quorum, timeText(l.AsOf))
		if len(l.Foreign) > 0 {
			fmt.Fprintf(&b, "FOREIGN    entries that are no access records: %s\n", strings.Trim(fmt.Sprint(l.Foreign), "[]"))
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "trace.csv  %d records: every one of these entries that the filters select\n", report.Rows)
	fmt.Fprintf(&b, "folder     %s\n", printable(folder))
	_, err := io.WriteString(w, b.String())
	return err
}
