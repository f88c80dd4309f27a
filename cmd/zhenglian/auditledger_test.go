package main

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/gateway/ledgeraudit"
)

// recordedLedger unpacks the recorded ledger of package ledgeraudit into a folder
// of block files, and answers its bytes and the hash of its first block.
func recordedLedger(t *testing.T, folder string) ([]byte, string) {
	t.Helper()
	packed, err := os.Open("../../gateway/ledgeraudit/testdata/ledger.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close() //nolint:errcheck // only read
	r, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	writeBlocks(t, folder, data)
	files, err := ledgeraudit.OpenFiles(os.DirFS(folder))
	if err != nil {
		t.Fatal(err)
	}
	first, err := files.Block(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return data, hex.EncodeToString(ledgeraudit.Hash(first))
}

func writeBlocks(t *testing.T, folder string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "blockfile_000000"), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAuditLedgerFiles(t *testing.T) {
	dir := t.TempDir()
	whole, genesis := recordedLedger(t, filepath.Join(dir, "whole"))
	const trust = "../../gateway/ledgeraudit/testdata/consortium.json"
	audit := func(progress string, files ...string) (code int, stdout, stderr string) {
		args := []string{"audit", "ledger", "--trust", trust, "--genesis-hash", genesis, "--progress", filepath.Join(dir, progress)}
		for _, f := range files {
			department, folder, _ := strings.Cut(f, "=")
			args = append(args, "--files", department+"="+filepath.Join(dir, folder))
		}
		var out, errOut bytes.Buffer
		code = run(t.Context(), args, strings.NewReader(""), &out, &errOut)
		return code, out.String(), errOut.String()
	}

	// A part of the ledger first, then the rest.
	writeBlocks(t, filepath.Join(dir, "part"), whole[:len(whole)/2])
	code, out, errOut := audit("progress.json", "bigdata=part")
	if code != exitOK || !strings.Contains(out, "The ledger is in order") || !strings.Contains(out, "left out") {
		t.Fatalf("part: exit code %d\n%s%s", code, out, errOut)
	}
	var state ledgeraudit.State
	readProgress := func() {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dir, "progress.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &state); err != nil {
			t.Fatal(err)
		}
	}
	readProgress()
	part := state.Next
	code, out, errOut = audit("progress.json", "bigdata=whole", "police=part")
	readProgress()
	if code != exitOK || part < 5 || state.Next <= part {
		t.Fatalf("whole after %d blocks: exit code %d\n%s%s", part, code, out, errOut)
	}
	for _, want := range []string{"block 38 sets number 1, signed by administrators of [BigdataMSP CivilMSP PoliceMSP]", "bigdata        height 50", "police         height"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}

	// A peer that changed a transaction in its own copy.
	forged := bytes.Clone(whole)
	forged[len(forged)-9000] ^= 1
	writeBlocks(t, filepath.Join(dir, "forged"), forged)
	code, out, errOut = audit("forged.json", "civil=forged")
	if code != exitProofRefused || !strings.Contains(out, "The ledger is NOT in order") || !strings.Contains(errOut, "FINDING block") {
		t.Errorf("forged: exit code %d\n%s%s", code, out, errOut)
	}
	// What was found stays found.
	if code, out, _ = audit("forged.json", "civil=forged"); code != exitProofRefused || !strings.Contains(out, "FINDING") {
		t.Errorf("forged again: exit code %d\n%s", code, out)
	}

	genesis = strings.Repeat("0", 64)
	if code, _, errOut = audit("other.json", "bigdata=whole"); code != exitProofRefused || !strings.Contains(errOut, "not the block that was pinned") {
		t.Errorf("another first block: exit code %d, %s", code, errOut)
	}
	if code, _, errOut = audit("progress.json", "bigdata=whole"); code != exitUsage || !strings.Contains(errOut, "another ledger") {
		t.Errorf("another ledger's progress: exit code %d, %s", code, errOut)
	}
	genesis = "00"
	if code, _, errOut = audit("other.json", "bigdata=whole"); code != exitCannotDecide || !strings.Contains(errOut, "64 hexadecimal digits") {
		t.Errorf("no hash: exit code %d, %s", code, errOut)
	}
}

func TestAuditLedgerJSON(t *testing.T) {
	dir := t.TempDir()
	_, genesis := recordedLedger(t, filepath.Join(dir, "whole"))
	var out, errOut bytes.Buffer
	code := run(t.Context(), []string{
		"audit", "ledger", "--json", "--trust", "../../gateway/ledgeraudit/testdata/consortium.json", "--genesis-hash", genesis,
		"--progress", filepath.Join(dir, "progress.json"), "--files", "bigdata=" + filepath.Join(dir, "whole"),
	}, strings.NewReader(""), &out, &errOut)
	var report ledgerReport
	if err := json.Unmarshal(out.Bytes(), &report); err != nil || code != exitOK {
		t.Fatalf("exit code %d, %v: %s%s", code, err, out.String(), errOut.String())
	}
	if report.Overall != "in_order" || report.Height != 50 || report.State.Next != 50 || report.State.Transactions != 79 || len(report.State.Changes) != 2 {
		t.Errorf("report %+v", report)
	}
}
