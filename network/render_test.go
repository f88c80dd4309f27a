package network

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"golang.org/x/mod/sumdb/note"
)

// rendered is a state folder as it is after enrolment and rendering, with throw-away
// certificates in place of those of the certificate authorities.
func rendered(t *testing.T) (Layout, *Definition) {
	t.Helper()
	dir := t.TempDir()
	l := Layout{State: filepath.Join(dir, "state"), Bin: filepath.Join(dir, "bin")}
	def := defaultDefinition(t)
	certPEM, keyPEM := selfSigned(t)
	put := func(path string, data []byte, mode fs.FileMode) {
		t.Helper()
		if err := writeFile(path, data, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, dept := range def.Departments {
		if err := renderCA(l, def, dept); err != nil {
			t.Fatal(err)
		}
		put(l.Department(dept.Code, "ca", "ca-cert.pem"), certPEM, 0o644)
		put(l.Department(dept.Code, "ca", "tlsca", "ca-cert.pem"), certPEM, 0o644)
		for _, id := range identities() {
			put(l.Department(dept.Code, id.Cert), certPEM, 0o644)
			put(l.Department(dept.Code, id.Key), keyPEM, 0o600)
		}
		if err := assembleMSPs(l, def, dept); err != nil {
			t.Fatal(err)
		}
	}
	_, packageID, err := loadPackage(l, def.Chaincode)
	if err != nil {
		t.Fatal(err)
	}
	for _, dept := range def.Departments {
		if err := renderDepartment(l, def, dept, packageID); err != nil {
			t.Fatal(err)
		}
	}
	if err := renderSupervision(l, def, func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if err := writeTrust(l, def); err != nil {
		t.Fatal(err)
	}
	return l, def
}

func selfSigned(t *testing.T) (certPEM, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

// configFiles are the rendered files that tell a program where to listen.
func configFiles(t *testing.T, l Layout) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(l.State, func(path string, d fs.DirEntry, err error) error {
		if ext := filepath.Ext(path); err == nil && !d.IsDir() && (ext == ".yaml" || ext == ".json") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 30 {
		t.Fatalf("found %d configuration files, expected more", len(files))
	}
	return files
}

func TestEveryListenAddressIsLoopback(t *testing.T) {
	l, def := rendered(t)
	ports := map[int]bool{} // that some file mentions
	addresses := 0
	for _, path := range configFiles(t, l) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var tree any
		if err := yaml.Unmarshal(data, &tree); err != nil { // JSON is YAML
			t.Fatalf("%s: %v", path, err)
		}
		walk(tree, "", func(key, value string) {
			if port, err := strconv.Atoi(value); err == nil {
				ports[port] = true
			}
			host, port, err := net.SplitHostPort(value)
			isAddress := err == nil && net.ParseIP(host) != nil
			if p, err := strconv.Atoi(port); isAddress && err == nil {
				ports[p] = true
			}
			bare := strings.EqualFold(key, "listenaddress") || key == "listen" || key == "address" || key == "host"
			if !isAddress && !bare {
				return
			}
			if !isAddress {
				host = value
			}
			addresses++
			if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
				t.Errorf("%s: %s = %q is not a loopback address", path, key, value)
			}
		})
	}
	for _, dept := range def.Departments {
		for _, lis := range dept.Listeners() {
			if !ports[lis.Port] {
				t.Errorf("no configuration mentions port %d (%s of %s): its program listens at a default", lis.Port, lis.Use, dept.Code)
			}
		}
	}
	if addresses < 10*len(def.Departments) {
		t.Errorf("found %d addresses, expected more", addresses)
	}
}

// walk visits every scalar with the key it stands under.
func walk(node any, key string, visit func(key, value string)) {
	switch n := node.(type) {
	case map[string]any:
		for k, v := range n {
			walk(v, k, visit)
		}
	case []any:
		for _, v := range n {
			walk(v, key, visit)
		}
	case string:
		visit(key, n)
	case int:
		visit(key, strconv.Itoa(n))
	}
}

func TestSecretsAreForTheirOwnerOnly(t *testing.T) {
	l, _ := rendered(t)
	secret := 0
	err := filepath.WalkDir(l.State, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.IsDir() {
			if info.Mode().Perm() != 0o700 {
				t.Errorf("folder %s has mode %o", path, info.Mode().Perm())
			}
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text := string(data)
		if strings.Contains(text, "PRIVATE KEY") || strings.Contains(text, `"zl_`) || strings.Contains(text, "pass:") || filepath.Base(path) == "secrets.json" {
			secret++
			if info.Mode().Perm() != 0o600 {
				t.Errorf("secret file %s has mode %o", path, info.Mode().Perm())
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if secret < 40 {
		t.Errorf("found %d secret files, expected more", secret)
	}
}

func TestRenderTwiceChangesNothing(t *testing.T) {
	l, def := rendered(t)
	before := contents(t, l.State)
	for _, dept := range def.Departments {
		if err := renderCA(l, def, dept); err != nil {
			t.Fatal(err)
		}
		_, packageID, err := loadPackage(l, def.Chaincode)
		if err != nil {
			t.Fatal(err)
		}
		if err := renderDepartment(l, def, dept, packageID); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(before, contents(t, l.State)); diff != "" {
		t.Errorf("rendering again changed (-before +after):\n%s", diff)
	}
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestGatewayConfiguration(t *testing.T) {
	l, def := rendered(t)
	for _, dept := range def.Departments {
		home := l.Department(dept.Code, "gateway")
		var config gatewayConfig
		readJSON(t, filepath.Join(home, "gateway.json"), &config)
		if len(config.Peers) != len(def.Departments) || config.Peers[0].Department != dept.Code {
			t.Errorf("%s: peers are %v, want its own first and all of them", dept.Code, config.Peers)
		}
		paths := []string{config.Trust, config.Tokens, config.Data, config.Log.Key, config.Service.Certificate, config.Service.Key,
			config.Issuing.Certificate, config.Issuing.Key}
		for _, p := range config.Peers {
			paths = append(paths, p.TLSRoots)
		}
		var roles []string
		for _, u := range config.Users {
			roles = append(roles, u.Role)
			paths = append(paths, u.Certificate, u.Key)
		}
		if diff := cmp.Diff(Roles, roles); diff != "" {
			t.Errorf("%s: roles (-want +got):\n%s", dept.Code, diff)
		}
		for _, path := range paths {
			if !exists(filepath.Join(home, path)) {
				t.Errorf("%s: gateway.json names %s, which does not exist", dept.Code, path)
			}
		}
		key, err := os.ReadFile(filepath.Join(home, config.Log.Key))
		if err != nil {
			t.Fatal(err)
		}
		signer, err := note.NewSigner(strings.TrimSpace(string(key)))
		if err != nil {
			t.Fatalf("%s: log key: %v", dept.Code, err)
		}
		if signer.Name() != config.Log.Origin || config.Log.Origin != "zhenglian.example/log/"+dept.Code {
			t.Errorf("%s: log key is named %s and the origin is %s", dept.Code, signer.Name(), config.Log.Origin)
		}
	}
}

// The issuing key must be of no use on the channel: none of the units by which an MSP
// knows a duty, and no role.
func TestIssuingKeyIsForNothingElse(t *testing.T) {
	found := false
	for _, id := range identities() {
		if id.Name != "issuing" {
			continue
		}
		found = true
		if id.Type != "issuing" || id.Role != "" || id.CA != enrolmentCA {
			t.Errorf("the issuing key is enrolled as %+v", id)
		}
	}
	if !found {
		t.Error("no issuing key is enrolled")
	}
	l, def := rendered(t)
	dept := def.Departments[0]
	msp, err := os.ReadFile(l.Department(dept.Code, "msp", "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(msp), "issuing") {
		t.Error("the MSP knows the issuing unit")
	}
}

// Every gateway is told where the others are, and the lead's reads all logs with
// the tokens of their auditors.
func TestGatewaysWatchOneAnother(t *testing.T) {
	l, def := rendered(t)
	for _, dept := range def.Departments {
		home := l.Department(dept.Code, "gateway")
		var config gatewayConfig
		readJSON(t, filepath.Join(home, "gateway.json"), &config)
		var want []gatewayAt
		for _, other := range def.Departments {
			if other.Code != dept.Code {
				want = append(want, gatewayAt{Department: other.Code, URL: other.URL()})
			}
		}
		if diff := cmp.Diff(want, config.Gateways); diff != "" {
			t.Errorf("%s: gateways (-want +got):\n%s", dept.Code, diff)
		}
		if dept.Code != def.Lead {
			if config.Audit != nil || exists(filepath.Join(home, "audit")) {
				t.Errorf("%s: has the tokens of others, and is not the lead", dept.Code)
			}
			continue
		}
		if config.Audit == nil || len(config.Audit.Logs) != len(def.Departments) || filepath.Dir(config.Audit.Trail) != config.Data {
			t.Fatalf("%s: audit is %+v, want the logs of all and a trail in the data folder", dept.Code, config.Audit)
		}
		for i, log := range config.Audit.Logs {
			other := def.Departments[i]
			var plain map[string]string
			readJSON(t, filepath.Join(l.State, "tokens", other.Code+".json"), &plain)
			path := filepath.Join(home, log.TokenFile)
			token, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if log.Department != other.Code || log.URL != other.URL() || string(token) != plain["auditor"]+"\n" || info.Mode().Perm() != 0o600 {
				t.Errorf("log of %s: %+v with a token file of mode %o", other.Code, log, info.Mode().Perm())
			}
		}
	}
}

func TestTokensAreStoredHashed(t *testing.T) {
	l, def := rendered(t)
	seen := map[string]bool{}
	for _, dept := range def.Departments {
		var plain map[string]string
		readJSON(t, filepath.Join(l.State, "tokens", dept.Code+".json"), &plain)
		var stored struct {
			Format string
			Tokens []struct{ Role, SHA256 string }
		}
		readJSON(t, l.Department(dept.Code, "gateway", "tokens.json"), &stored)
		if stored.Format != "zhenglian-tokens/1" || len(stored.Tokens) != len(Roles) {
			t.Fatalf("%s: tokens.json is %+v", dept.Code, stored)
		}
		for _, s := range stored.Tokens {
			token := plain[s.Role]
			if len(token) != len("zl_")+43 || !strings.HasPrefix(token, "zl_") {
				t.Errorf("%s: token of %s does not hold 32 bytes", dept.Code, s.Role)
			}
			if seen[token] {
				t.Errorf("%s: token of %s is used twice", dept.Code, s.Role)
			}
			seen[token] = true
			if sum := sha256.Sum256([]byte(token)); hex.EncodeToString(sum[:]) != s.SHA256 {
				t.Errorf("%s: stored hash of %s does not match its token", dept.Code, s.Role)
			}
		}
	}
}

func TestTrustAnchors(t *testing.T) {
	l, def := rendered(t)
	anchors, err := Anchors(l, def)
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, d := range anchors.Departments {
		codes = append(codes, string(d.Code))
		verifier, err := note.NewVerifier(d.LogKey)
		if err != nil {
			t.Errorf("%s: log key: %v", d.Code, err)
		} else if verifier.Name() != d.LogOrigin {
			t.Errorf("%s: log key is named %s and the origin is %s", d.Code, verifier.Name(), d.LogOrigin)
		}
		if len(d.CARoots) != 1 || !strings.HasPrefix(d.CARoots[0], "-----BEGIN CERTIFICATE-----") {
			t.Errorf("%s: CA roots are %v", d.Code, d.CARoots)
		}
	}
	if diff := cmp.Diff([]string{"bigdata", "civil", "market", "police"}, codes); diff != "" {
		t.Errorf("departments (-want +got):\n%s", diff)
	}
	if anchors.Quorum != 3 || anchors.Channel != "zhenglian" || anchors.Chaincode != "zhenglian" {
		t.Errorf("anchors = %+v", anchors)
	}
}

func TestSupervisionCoversEveryProcess(t *testing.T) {
	l, def := rendered(t)
	data, err := os.ReadFile(l.composeFile())
	if err != nil {
		t.Fatal(err)
	}
	var file composeFile
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if got, want := len(file.Processes), len(nodeKinds)*len(def.Departments); got != want {
		t.Errorf("%d processes, want %d", got, want)
	}
	for name, p := range file.Processes {
		kind, code, _ := strings.Cut(name, "-")
		if p.Availability.Restart != "always" || p.Readiness == nil || p.LogLocation != l.Log(name) {
			t.Errorf("%s is not restarted, probed and logged: %+v", name, p)
		}
		if p.WorkingDir != l.Department(code, kind) {
			t.Errorf("%s runs in %s: processes are recognised by their folder", name, p.WorkingDir)
		}
		for other := range p.DependsOn {
			if _, ok := file.Processes[other]; !ok {
				t.Errorf("%s waits for %s, which does not exist", name, other)
			}
		}
	}
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
