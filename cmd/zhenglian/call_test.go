package main

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/gateway/ledger/ledgertest"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// TestCall writes through a gateway that has no key of the caller's role, over a
// connection with the caller's certificate and with a token.
func TestCall(t *testing.T) {
	chain := ledgertest.NewChain(contracts(t))
	chain.SetClock(func() time.Time { return time.Now().UTC().Truncate(time.Millisecond) })
	f := newGatewayFolder(t, "bigdata", nil)
	authority := prooftest.New().Department("bigdata").Authority
	admin := authority.IssueAs("an administrator at home", func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{
			Id: asn1.ObjectIdentifier{1, 2, 3, 4, 5, 6, 7, 8, 1}, Value: []byte(`{"attrs":{"zhenglian.department":"bigdata","zhenglian.role":"admin"}}`),
		}}
	})
	server := authority.IssueAs("server", func(c *x509.Certificate) { c.DNSNames = []string{"localhost"} })
	home := t.TempDir()
	writeIdentity(t, filepath.Join(home, "admin"), admin)
	writeIdentity(t, filepath.Join(f.dir, "server"), server)
	writeTestFile(t, filepath.Join(f.dir, "admin.pem"), admin.PEM())
	writeTestFile(t, filepath.Join(home, "roots.pem"), authority.PEM())
	secure := freePort(t)
	f.config["mtls"] = map[string]any{"listen": secure, "certificate": "server/cert.pem", "key": "server/key.pem"}
	f.write("gateway.json", f.config)
	f.write(ownFile, map[string]any{"signing": map[string]any{"certificates": []string{"admin.pem"}, "roles": []string{"admin"}}})
	g := startGateway(t, f, chain.Ledger("bigdata"), nil)
	await(t, "the gateway is ready", func() bool { return g.call("GET", "/readyz", "", nil, nil) == http.StatusOK })

	var trust json.RawMessage
	g.must(http.StatusOK, "GET", "/v1/trust", "", nil, &trust)
	writeTestFile(t, filepath.Join(home, "consortium.json"), trust)
	token := filepath.Join(home, "token")
	writeTestFile(t, token, []byte("zl_admin\n"))
	_, port, _ := strings.Cut(secure, ":")
	call := func(want int, body string, args ...string) (out, errs string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), append([]string{"call"}, args...), strings.NewReader(body), &stdout, &stderr); code != want {
			t.Fatalf("%v: exit code %d, want %d\n%s%s", args, code, want, &stdout, &stderr)
		}
		return stdout.String(), stderr.String()
	}
	signs := []string{"--cert", filepath.Join(home, "admin", "cert.pem"), "--key", filepath.Join(home, "admin", "key.pem"), "--trust", filepath.Join(home, "consortium.json"), "--data", "-"}
	var own struct {
		Departments []struct{ Code, MSPID, NameZh, NameEn, USCC string }
	}
	if err := json.Unmarshal(trust, &own); err != nil {
		t.Fatal(err)
	}
	department := ""
	for _, d := range own.Departments {
		if d.Code == "bigdata" {
			data, err := json.Marshal(api.RegisterDepartment{Code: d.Code, MSPID: d.MSPID, NameZh: d.NameZh, NameEn: d.NameEn, USCC: d.USCC, Lead: true})
			if err != nil {
				t.Fatal(err)
			}
			department = string(data)
		}
	}

	out, errs := call(exitOK, department, append([]string{"POST", "/v1/departments", "--gateway", "https://localhost:" + port, "--roots", filepath.Join(home, "roots.pem")}, signs...)...)
	if !strings.Contains(out, `"state":"committed"`) || !strings.Contains(errs, "--once ") {
		t.Errorf("signed: %s%s", out, errs)
	}
	once := append([]string{"POST", "/v1/calendars", "--gateway", g.url, "--token-file", token, "--once", "calendar"}, signs...)
	const calendar = `{"year":2031,"daysOff":["2031-01-01"],"workdays":[],"source":"测试日历"}`
	if out, _ := call(exitOK, calendar, once...); !strings.Contains(out, `"state":"committed"`) {
		t.Errorf("signed with a token: %s", out)
	}
	if out, _ := call(exitOK, calendar, once...); !strings.Contains(out, `"record"`) || strings.Contains(out, `"state":"committed"`) {
		t.Errorf("called again: %s", out)
	}
	if out, _ := call(exitOK, "", "GET", "/v1/departments", "--gateway", g.url, "--token-file", token); !strings.Contains(out, `"bigdata"`) {
		t.Errorf("read: %s", out)
	}
	if _, errs := call(exitFailed, calendar, "POST", "/v1/calendars", "--gateway", g.url, "--token-file", token, "--data", "-"); !strings.Contains(errs, "exists: ") {
		t.Errorf("the same calendar, not signed here: %s", errs)
	}
	if _, errs := call(exitUsage, calendar, append([]string{"POST", "/v1/calendars", "--gateway", g.url, "--token-file", token}, signs[:2]...)...); !strings.Contains(errs, "give all three") {
		t.Errorf("without a key: %s", errs)
	}
	if err := g.end(); err != nil {
		t.Fatal(err)
	}
}

// TestSigningConfiguration names what is wrong with the certificates of those who sign
// elsewhere.
func TestSigningConfiguration(t *testing.T) {
	f := newGatewayFolder(t, "bigdata", nil)
	f.write("gateway.json", f.config)
	writeTestFile(t, filepath.Join(f.dir, "none.pem"), []byte("no certificate"))
	for name, tt := range map[string]struct {
		signing map[string]any
		want    string
	}{
		"no file":        {map[string]any{"certificates": []string{"missing.pem"}}, "signing.certificates"},
		"no certificate": {map[string]any{"certificates": []string{"none.pem"}}, "is no certificate in PEM"},
		"no list":        {map[string]any{"crls": []string{"none.pem"}}, "revocation list 0"},
		"other field":    {map[string]any{"keys": []string{}}, "keys"},
	} {
		f.write(ownFile, map[string]any{"signing": tt.signing})
		if _, err := loadGateway(filepath.Join(f.dir, "gateway.json"), ""); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q in it", name, err, tt.want)
		}
	}
	f.write(ownFile, map[string]any{"signing": map[string]any{"roles": []string{"operator", "gateway"}}})
	setup, err := loadGateway(filepath.Join(f.dir, "gateway.json"), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, there := setup.fabric.Identities["operator"]; there || len(setup.fabric.Identities) != 4 {
		t.Errorf("identities of %d roles, the operator's among them: %v", len(setup.fabric.Identities), there)
	}
}
