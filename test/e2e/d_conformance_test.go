//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestPackagesOnTheNetwork runs the tests of other packages that need a running
// network: the ledger port's conformance suite on Fabric, and the verifier on
// reads that real peers signed. Elsewhere they are skipped.
func TestPackagesOnTheNetwork(t *testing.T) {
	for _, c := range []struct{ name, pkg, test string }{
		{"ledger port", "./gateway/fabricledger", "TestConformanceOnNetwork"},
		{"verifier", "./test/proofdiff", "TestRealPeers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "go", "test", "-tags", "e2e", "-count=1", "-v", "-run", "^"+c.test+"$", c.pkg)
			cmd.Dir = net.Root
			cmd.Env = append(os.Environ(), "ZHENGLIAN_STATE="+net.State)
			out, err := cmd.CombinedOutput()
			t.Logf("%s", out)
			if err != nil {
				t.Error(err)
			}
			// A test that was renamed or skipped ends well, too.
			if text := string(out); !strings.Contains(text, "--- PASS: "+c.test+" ") || strings.Contains(text, "--- SKIP: ") {
				t.Errorf("%s did not run in full", c.test)
			}
		})
	}
}
