package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger/ledgertest"
	"github.com/zhenglian/zhenglian/gateway/requestlog"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// promised is within how many seconds a change of tokens, keys and roles is in
// force.
const promised = 5 * time.Second

// inForce waits until something is the case, and fails if that takes longer than
// promised.
func inForce(t *testing.T, what string, is func() bool) {
	t.Helper()
	start := time.Now()
	await(t, what, is)
	if took := time.Since(start); took > promised {
		t.Errorf("%s took %s, more than %s", what, took, promised)
	}
}

// freePort answers an address on which nobody listens.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func swapFile(t *testing.T, file string, data []byte) {
	t.Helper()
	writeTestFile(t, file+".new", data)
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// client answers a client with a certificate of the department's authority.
func certificateClient(server *x509.Certificate, id *prooftest.Identity) *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(server)
	config := &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}
	if id != nil {
		config.Certificates = []tls.Certificate{{Certificate: [][]byte{id.Cert.Raw}, PrivateKey: id.Key}}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}}
}

// TestIdentitiesChange runs a gateway through a change of its access tokens and
// of the revocation list of its client certificates, and then checks the log of
// all its requests by the command line.
func TestIdentitiesChange(t *testing.T) {
	chain := ledgertest.NewChain(contracts(t))
	chain.SetClock(func() time.Time { return time.Now().UTC().Truncate(time.Millisecond) })
	f := newGatewayFolder(t, "bigdata", nil)
	authority := prooftest.New().Department("bigdata").Authority
	holder := func(role string) *prooftest.Identity {
		return authority.IssueAs(role+" of a system", func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{
				Id:    asn1.ObjectIdentifier{1, 2, 3, 4, 5, 6, 7, 8, 1},
				Value: []byte(`{"attrs":{"zhenglian.department":"bigdata","zhenglian.role":"` + role + `"}}`),
			}}
		})
	}
	admin, operator, service := holder("admin"), holder("operator"), holder("gateway")
	server := authority.IssueAs("server", func(c *x509.Certificate) { c.DNSNames = []string{"localhost"} })
	writeIdentity(t, filepath.Join(f.dir, "server"), server)
	crl := filepath.Join(f.dir, "revoked.pem")
	writeTestFile(t, crl, []byte(authority.CRL(nil, nil)))
	secure := freePort(t)
	f.config["mtls"] = map[string]any{"listen": secure, "certificate": "server/cert.pem", "key": "server/key.pem", "crls": []string{"revoked.pem"}}
	f.config["requests"] = map[string]any{"anchorEvery": "1s"}
	f.write("gateway.json", f.config)
	g := startGateway(t, f, chain.Ledger("bigdata"), nil)
	await(t, "the gateway is ready", func() bool { return g.call("GET", "/readyz", "", nil, nil) == http.StatusOK })

	withCertificate := func(id *prooftest.Identity, header ...string) int {
		client := certificateClient(authority.Cert, id)
		defer client.CloseIdleConnections()
		r, err := http.NewRequest(http.MethodGet, "https://"+secure+"/v1/inbox?limit=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		res, err := client.Do(r)
		if err != nil {
			return 0
		}
		defer func() { _ = res.Body.Close() }()
		return res.StatusCode
	}
	var trust proof.Anchors
	g.must(http.StatusOK, "GET", "/v1/trust", "", nil, &trust)
	var registered api.BlockTransaction
	own := trust.Departments[slices.IndexFunc(trust.Departments, func(d proof.Department) bool { return d.Code == "bigdata" })]
	g.must(http.StatusCreated, "POST", "/v1/departments", domain.RoleAdmin, api.RegisterDepartment{
		Code: string(own.Code), MSPID: string(own.MSPID), NameZh: own.NameZh, NameEn: own.NameEn, USCC: own.USCC, Lead: true,
	}, &registered)

	for name, tt := range map[string]struct {
		got, want int
	}{
		"administrator":            {withCertificate(admin), http.StatusOK},
		"operator":                 {withCertificate(operator), http.StatusOK},
		"the service itself":       {withCertificate(service), http.StatusUnauthorized},
		"certificate and token":    {withCertificate(operator, "Authorization", "Bearer zl_operator"), http.StatusUnauthorized},
		"no certificate":           {withCertificate(nil, "Authorization", "Bearer zl_operator"), 0}, // no handshake
		"of another authority":     {withCertificate(prooftest.New().Department("civil").Authority.Issue("x")), 0},
		"token on the plain port":  {g.call("GET", "/v1/inbox", domain.RoleOperator, nil, nil), http.StatusOK},
		"no token":                 {g.call("GET", "/v1/inbox", "", nil, nil), http.StatusUnauthorized},
		"token that was not given": {g.call("GET", "/v1/inbox", "canary", nil, nil), http.StatusUnauthorized},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: status %d, want %d", name, tt.got, tt.want)
		}
	}

	swapFile(t, crl, []byte(authority.CRL(map[*prooftest.Identity]time.Time{operator: time.Now()}, nil)))
	inForce(t, "the operator's certificate is refused", func() bool { return withCertificate(operator) == http.StatusUnauthorized })
	if got := withCertificate(admin); got != http.StatusOK {
		t.Errorf("the administrator's certificate: status %d", got)
	}

	sum := sha256.Sum256([]byte("zl_reviewer"))
	swapFile(t, filepath.Join(f.dir, "tokens.json"), []byte(`{"format":"zhenglian-tokens/1","tokens":[{"role":"auditor","sha256":"`+hex.EncodeToString(sum[:])+`"}]}`))
	inForce(t, "the operator's token is refused", func() bool {
		return g.call("GET", "/v1/inbox", domain.RoleOperator, nil, nil) == http.StatusUnauthorized
	})
	if got := g.call("GET", "/v1/audit/logs", domain.RoleReviewer, nil, nil); got == http.StatusUnauthorized || got == http.StatusForbidden {
		t.Errorf("the token with another role now: status %d", got)
	}
	// A file that cannot be used changes nothing, and is seen.
	swapFile(t, filepath.Join(f.dir, "tokens.json"), []byte("{"))
	inForce(t, "a bad file is seen", func() bool { return strings.Contains(g.metrics(), "\nzhenglian_identity_files_stale 1\n") })
	if got := g.call("GET", "/v1/audit/logs", domain.RoleReviewer, nil, nil); got == http.StatusUnauthorized {
		t.Error("a bad file took a token out of force")
	}

	token := filepath.Join(t.TempDir(), "token")
	writeTestFile(t, token, []byte("zl_reviewer\n"))
	folder := filepath.Join(f.dir, "data", requestsFolder)
	var out, errs bytes.Buffer
	await(t, "the log is anchored", func() bool {
		out.Reset()
		errs.Reset()
		code := run(t.Context(), []string{"audit", "requests", "--file", folder, "--department", "bigdata", "--gateway", g.url, "--token-file", token}, nil, &out, &errs)
		return code == exitOK && strings.Contains(out.String(), "anchors are on the ledger, and no line is missing")
	})
	auditTruncated(t, folder, token, g.url)
	if err := g.end(); err != nil {
		t.Fatal(err)
	}
	files, err := requestlog.Files(folder)
	if err != nil {
		t.Fatal(err)
	}
	report, err := requestlog.Verify(files)
	if err != nil || report.Requests < 20 || report.Refused < 5 || len(report.Anchors) == 0 || report.Unclosed != 0 {
		t.Fatalf("report %+v, %v", report, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"via":"mtls"`, `"via":"token"`, `"reason":"revoked"`, `"reason":"role"`, `"reason":"ambiguous"`, `"reason":"unknown_token"`, `"reason":"missing"`,
		`"method":"POST","route":"/v1/departments","status":201`, `"txId":"`, `"code":"unauthenticated"`,
	} {
		if !bytes.Contains(data, []byte(want)) {
			t.Errorf("no line has %s", want)
		}
	}
	for _, secret := range []string{"zl_", "canary", "limit=1", "Bearer", "of a system"} {
		if bytes.Contains(data, []byte(secret)) {
			t.Errorf("the log holds %q", secret)
		}
	}

	// Whoever changes a line is found out.
	changed := filepath.Join(t.TempDir(), filepath.Base(files[0]))
	writeTestFile(t, changed, bytes.Replace(data, []byte(`"status":401`), []byte(`"status":200`), 1))
	if code := run(t.Context(), []string{"audit", "requests", "--file", changed}, nil, io.Discard, &errs); code != exitProofRefused || !strings.Contains(errs.String(), "a line was changed") {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
}

// auditTruncated cuts lines off a copy of the log so that its chain holds: the anchors
// on the ledger tell of them.
func auditTruncated(t *testing.T, folder, token, url string) {
	t.Helper()
	files, err := requestlog.Files(folder)
	if err != nil {
		t.Fatal(err)
	}
	var report requestlog.Report
	await(t, "a line after the first is anchored", func() bool {
		report, err = requestlog.Verify(files)
		return err == nil && report.First.Seq == 1 && report.Anchors[len(report.Anchors)-1].Seq > 1
	})
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	short := filepath.Join(t.TempDir(), filepath.Base(files[0]))
	writeTestFile(t, short, bytes.Join(bytes.SplitAfter(data, []byte("\n"))[:report.Anchors[len(report.Anchors)-1].Seq-1], nil)) // without the line that was anchored last
	for _, tt := range []struct {
		more []string
		code int
		says string
	}{
		{nil, exitProofRefused, " anchors a line that is not in these files"},
		{[]string{"--replica", folder}, exitOK, "no line is missing"},
		{[]string{"--from-block", "1000000"}, exitOK, "no line is missing"},
	} {
		var stdout, stderr bytes.Buffer
		args := append([]string{"audit", "requests", "--file", short, "--department", "bigdata", "--gateway", url, "--token-file", token}, tt.more...)
		if code := run(t.Context(), args, nil, &stdout, &stderr); code != tt.code || !strings.Contains(stdout.String(), tt.says) {
			t.Errorf("truncated, %q: exit code %d, want %d: %s%s", tt.more, code, tt.code, stdout.String(), stderr.String())
		}
	}
}

// metrics answers what Prometheus would scrape.
func (g *runningGateway) metrics() string {
	g.t.Helper()
	res, err := http.Get(g.url + "/metrics")
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return string(data)
}

// TestOperatorsSeeWhatThereIs holds the dashboard and the alert rules to the
// metrics of a running gateway: each metric they name is one, and each of ours is
// described in the document.
func TestOperatorsSeeWhatThereIs(t *testing.T) {
	chain := ledgertest.NewChain(contracts(t))
	f := newGatewayFolder(t, "bigdata", chain)
	g := startGateway(t, f, chain.Ledger("bigdata"), nil)
	await(t, "the gateway is ready", func() bool { return g.call("GET", "/readyz", "", nil, nil) == http.StatusOK })
	g.call("POST", "/v1/departments", domain.RoleAdmin, api.RegisterDepartment{
		Code: "bigdata", MSPID: "BigdataMSP", NameZh: "大数据局", NameEn: "Big Data Bureau", USCC: "11100000000013338W", Lead: true,
	}, nil)
	g.call("GET", "/v1/inbox", "canary", nil, nil) // a refusal is counted
	shown := g.metrics()
	if err := g.end(); err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\b(?:zhenglian|go|process)_[a-z0-9_]+\b`)
	exists := make(map[string]bool)
	for line := range strings.Lines(shown) {
		if name := names.FindString(line); name != "" && !strings.HasPrefix(line, "#") && strings.HasPrefix(line, name) {
			exists[name] = true
		}
	}
	// A test has no peer over gRPC, so that nothing was called there; the name is
	// that of the collector in gateway/telemetry, which is tested there.
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		exists["zhenglian_peer_call_duration_seconds"+suffix] = true
	}
	document, err := os.ReadFile("../../docs/ops/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"grafana-gateway.json", "alerts.yaml", "observability.md"} {
		data, err := os.ReadFile("../../docs/ops/" + file)
		if err != nil {
			t.Fatal(err)
		}
		used := names.FindAllString(string(data), -1)
		if len(used) < 5 {
			t.Errorf("%s names %d metrics", file, len(used))
		}
		for _, name := range used {
			if !exists[name] && !(file == "observability.md" && exists[name+"_bucket"]) {
				t.Errorf("%s names %s, which no gateway has", file, name)
			}
		}
	}
	for name := range exists {
		base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		if strings.HasPrefix(name, "zhenglian_") && !bytes.Contains(document, []byte("`"+base+"`")) {
			t.Errorf("docs/ops/observability.md does not describe %s", base)
		}
	}
}
