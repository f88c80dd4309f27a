package main

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger/ledgertest"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// TestImportSignedAtHome imports through a gateway that has no key of the operator's:
// with a token and with the certificate alone. A row that the ledger refuses is named,
// and nothing is signed against trust anchors that are not the gateway's.
func TestImportSignedAtHome(t *testing.T) {
	chain := ledgertest.NewChain(contracts(t))
	chain.SetClock(func() time.Time { return time.Now().UTC().Truncate(time.Millisecond) })
	f := newGatewayFolder(t, "bigdata", nil)
	authority := prooftest.New().Department("bigdata").Authority
	operator := authority.IssueAs("an operator at home", func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{
			Id: asn1.ObjectIdentifier{1, 2, 3, 4, 5, 6, 7, 8, 1}, Value: []byte(`{"attrs":{"zhenglian.department":"bigdata","zhenglian.role":"operator"}}`),
		}}
	})
	home := t.TempDir()
	writeIdentity(t, home, operator)
	writeIdentity(t, filepath.Join(f.dir, "server"), authority.IssueAs("server", func(c *x509.Certificate) { c.DNSNames = []string{"localhost"} }))
	writeTestFile(t, filepath.Join(f.dir, "operator.pem"), operator.PEM())
	writeTestFile(t, filepath.Join(home, "roots.pem"), authority.PEM())
	writeTestFile(t, filepath.Join(home, "token"), []byte("zl_operator\n"))
	writeTestFile(t, filepath.Join(home, "admin"), []byte("zl_admin\n"))
	secure := freePort(t)
	f.config["mtls"] = map[string]any{"listen": secure, "certificate": "server/cert.pem", "key": "server/key.pem"}
	f.write("gateway.json", f.config)
	f.write(ownFile, map[string]any{"signing": map[string]any{"certificates": []string{"operator.pem"}, "roles": []string{"operator"}}})
	g := startGateway(t, f, chain.Ledger("bigdata"), nil)
	await(t, "the gateway is ready", func() bool { return g.call("GET", "/readyz", "", nil, nil) == http.StatusOK })

	var trust json.RawMessage
	g.must(http.StatusOK, "GET", "/v1/trust", "", nil, &trust)
	writeTestFile(t, filepath.Join(home, "consortium.json"), trust)
	anchors, err := proof.ParseAnchors(trust)
	if err != nil {
		t.Fatal(err)
	}
	own := anchors.Departments[0]
	g.must(http.StatusCreated, "POST", "/v1/departments", domain.RoleAdmin, api.RegisterDepartment{
		Code: string(own.Code), MSPID: string(own.MSPID), NameZh: own.NameZh, NameEn: own.NameEn, USCC: own.USCC, Lead: true,
	}, nil)
	runCommand(t, exitOK, "rule", "import", filepath.Join("sample", "rules.json"), "--gateway", g.url, "--token-file", filepath.Join(home, "admin"))
	for _, calendar := range neededCalendars(time.Now()) {
		g.must(http.StatusCreated, "POST", "/v1/calendars", domain.RoleAdmin, calendar, nil)
	}

	rows := nationalHeader + "\n"
	for i := range 5 {
		changes := map[string]string{"信息资源提供方代码": own.USCC, colCode: fmt.Sprintf("307003/%06d", i), colName: fmt.Sprintf("资源 %d", i)}
		if i == 3 {
			changes["信息资源提供方代码"] = policeUSCC
		}
		rows += nationalRow(changes)
	}
	file := filepath.Join(home, "c.csv")
	writeTestFile(t, file, []byte(rows))
	args := func(report string, more ...string) []string {
		return append([]string{
			"catalog", "import", file, "--report", filepath.Join(home, report), "--batch", "2", "--allow-errors",
			"--cert", filepath.Join(home, "cert.pem"), "--key", filepath.Join(home, "key.pem"),
		}, more...)
	}
	byToken := []string{"--gateway", g.url, "--token-file", filepath.Join(home, "token")}
	pinned := []string{"--trust", filepath.Join(home, "consortium.json")}

	// Without the key the gateway cannot, and the command cannot either.
	if _, errs := runCommand(t, exitUsage, args("1.csv", byToken...)...); !strings.Contains(errs, "give all three") {
		t.Errorf("without trust anchors: %s", errs)
	}
	foreign := prooftest.New()
	for i, d := range foreign.Departments {
		other := prooftest.NewDepartment("false-"+d.Code, d.MSPID, d.NameZh, d.NameEn, d.USCC[:17])
		other.Code = d.Code
		foreign.Departments[i] = other
	}
	writeTestFile(t, filepath.Join(home, "foreign.json"), foreign.TrustFile())
	height := chain.Height()
	_, errs := runCommand(t, exitFailed, args("2.csv", append(byToken, "--trust", filepath.Join(home, "foreign.json"))...)...)
	if !strings.Contains(errs, "nothing was signed") || chain.Height() != height {
		t.Errorf("against another consortium's trust anchors, %d blocks: %s", chain.Height()-height, errs)
	}

	out, _ := runCommand(t, exitOK, args("3.csv", append(byToken, pinned...)...)...)
	report, err := os.ReadFile(filepath.Join(home, "3.csv"))
	if err != nil || !strings.Contains(out, "4 imported, 0 there already, 1 with errors, 0 left") || !strings.Contains(string(report), "4,307003/000003,providerUscc,") {
		t.Errorf("signed, with a token: %s; report %s, %v", out, report, err)
	}
	_, port, _ := strings.Cut(secure, ":")
	file = filepath.Join(home, "more.csv")
	writeTestFile(t, file, []byte(nationalHeader+"\n"+nationalRow(map[string]string{"信息资源提供方代码": own.USCC, colCode: "307003/000009", colName: "资源 9"})))
	out, _ = runCommand(t, exitOK, args("4.csv", append(pinned, "--gateway", "https://localhost:"+port, "--roots", filepath.Join(home, "roots.pem"))...)...)
	if !strings.Contains(out, "1 imported, 0 there already, 0 with errors, 0 left") {
		t.Errorf("signed, with the certificate alone: %s", out)
	}
	if err := g.end(); err != nil {
		t.Error(err)
	}
}
