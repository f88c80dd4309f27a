package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// TestVerifyScripts runs the scripts in testdata/script/verify. Beside the
// standard commands they have
//
//	exits CODE [<FILE] ARGUMENT...
//
// which runs zhenglian with the arguments, FILE as standard input, and requires
// that exit code.
func TestVerifyScripts(t *testing.T) {
	const dir = "testdata/script/verify"
	scripts, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts in %s: %v", dir, err)
	}
	testscript.Run(t, testscript.Params{
		Dir:   dir,
		Setup: writeProofs,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 2 {
					ts.Fatalf("usage: exits CODE [<FILE] ARGUMENT...")
				}
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				args = args[1:]
				stdin := ""
				if file, ok := strings.CutPrefix(args[0], "<"); ok {
					stdin, args = ts.ReadFile(file), args[1:]
				}
				// The command runs in this process, whose directory is another.
				for i, arg := range args {
					if strings.HasSuffix(arg, ".zlproof") || strings.HasSuffix(arg, ".json") || strings.HasSuffix(arg, ".pem") {
						args[i] = ts.MkAbs(arg)
					}
				}
				if got := run(t.Context(), args, strings.NewReader(stdin), ts.Stdout(), ts.Stderr()); got != want {
					ts.Fatalf("exit code %d, want %d", got, want)
				}
			},
		},
	})
}

// writeProofs writes the files that the scripts name.
func writeProofs(e *testscript.Env) error {
	c := prooftest.New()
	police := c.Department("police")
	valid := c.AttestCertificate(c.Certificate(), domain.CertificateValid)
	few := c.AttestCertificate(c.Certificate(), domain.CertificateValid)
	few.Signers = few.Signers[:2]
	hostile := c.Certificate()
	hostile.Content.TypeNameZh = "证\x1b[2J\u202e照"
	short := c.Certificate()
	short.Content.Validity.To = prooftest.Epoch.Truncate(time.Second).Add(2 * time.Hour)
	for name, data := range map[string][]byte{
		"consortium.json":    c.TrustFile(),
		"valid.zlproof":      valid.File(),
		"revoked.zlproof":    c.AttestCertificate(c.Revoked(), domain.CertificateRevoked).File(),
		"department.zlproof": c.AttestDepartment().File(),
		"nothing.zlproof":    c.AttestNothing().File(),
		"few.zlproof":        few.File(),
		"hostile.zlproof":    c.AttestCertificate(hostile, domain.CertificateValid).File(),
		"short.zlproof":      c.AttestCertificate(short, domain.CertificateValid).File(),
		"later.zlproof":      bytes.Replace(valid.File(), []byte("zhenglian-proof/1"), []byte("zhenglian-proof/9"), 1),
		"edited.zlproof":     bytes.Replace(valid.File(), []byte(`"format"`), []byte(`"Format"`), 1),
		"large.zlproof":      bytes.Repeat([]byte(" "), 2*proof.MaxBundleBytes),
		"broken.json":        append(c.TrustFile(), '\n'),
		"suspended.zlproof":  changed(c, domain.CertificateSuspended),
		"withdrawn.zlproof":  changed(c, domain.CertificateWithdrawn),
		"cancelled.zlproof":  changed(c, domain.CertificateCancelled),
		"superseded.zlproof": changed(c, domain.CertificateSuperseded),
		"proposed.zlproof":   c.AttestCertificate(c.Proposed(), domain.CertificateProposed).File(),
		"police.pem":         []byte(police.Authority.CRL(map[*prooftest.Identity]time.Time{police.Peer: prooftest.Epoch.Add(-time.Hour)}, nil)),
		"police-later.pem":   []byte(police.Authority.CRL(map[*prooftest.Identity]time.Time{police.Peer: prooftest.Epoch.Add(time.Hour)}, nil)),
		"stranger.pem":       []byte(prooftest.NewAuthority("stranger", "PoliceMSP").CRL(nil, nil)),
	} {
		if err := os.WriteFile(filepath.Join(e.WorkDir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// changed is the proof of the certificate after a change of its status.
func changed(c *prooftest.Consortium, status domain.CertificateStatus) []byte {
	return c.AttestCertificate(c.Changed(c.Certificate(), status, prooftest.Epoch.AddDate(0, 0, -1)), status).File()
}

func TestHeadlines(t *testing.T) {
	for _, overall := range proof.Overalls {
		if h := headlines[overall]; h.zh == "" || h.en == "" {
			t.Errorf("no words for %q", overall)
		}
	}
}
