//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/signing"
	"github.com/zhenglian/zhenglian/test/consortium"
)

// enrolAtHome enrols a person at a department's Fabric CA as the runbook says, and
// answers the folder with cert.pem and key.pem.
func enrolAtHome(t *testing.T, department, role, name string) string {
	t.Helper()
	ca := filepath.Join(net.State, "departments", department, "ca")
	config, err := os.ReadFile(filepath.Join(ca, "fabric-ca-server-config.yaml"))
	must(t, err)
	port := regexp.MustCompile(`(?m)^port: ([0-9]+)`).FindSubmatch(config)
	if port == nil {
		t.Fatal("the CA's configuration names no port")
	}
	secretsFile, err := os.ReadFile(filepath.Join(ca, "secrets.json"))
	must(t, err)
	var secrets map[string]string
	must(t, json.Unmarshal(secretsFile, &secrets))
	client := func(folder, user string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(net.Root, "bin", "fabric-ca-client"), append(args,
			"--home", folder, "--mspdir", "msp", "--caname", "ca", "--tls.certfiles", filepath.Join(ca, "ca-cert.pem"))...)
		cmd.Env = append(os.Environ(), "FABRIC_CA_CLIENT_URL=https://"+user+"127.0.0.1:"+string(port[1]))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("fabric-ca-client %s: %v\n%s", args[0], err, out)
		}
	}
	secret := randomHex(t, 16)
	registrar, home := t.TempDir(), t.TempDir()
	client(registrar, "ca-registrar:"+secrets["ca-registrar"]+"@", "enroll")
	client(registrar, "", "register", "--id.name", name, "--id.secret", secret, "--id.type", "client",
		"--id.attrs", "zhenglian.department="+department+":ecert,zhenglian.role="+role+":ecert")
	client(home, name+":"+secret+"@", "enroll")
	keys, err := filepath.Glob(filepath.Join(home, "msp", "keystore", "*"))
	must(t, err)
	if len(keys) != 1 {
		t.Fatalf("%d keys", len(keys))
	}
	must(t, os.Rename(keys[0], filepath.Join(home, "key.pem")))
	must(t, os.Rename(filepath.Join(home, "msp", "signcerts", "cert.pem"), filepath.Join(home, "cert.pem")))
	return home
}

// signerAt answers the signer with the key in a folder.
func signerAt(t *testing.T, home string, send signing.Send) *signing.Signer {
	t.Helper()
	read := func(file string) []byte {
		t.Helper()
		data, err := os.ReadFile(file)
		must(t, err)
		return data
	}
	anchors, err := proof.ParseAnchors(read(filepath.Join(net.State, "trust", "consortium.json")))
	must(t, err)
	s, err := signing.NewSigner(send, anchors, read(filepath.Join(home, "cert.pem")), read(filepath.Join(home, "key.pem")), time.Now)
	must(t, err)
	return s
}

// TestSignedAtHome has an operator write whose key is in no gateway, through a gateway
// that dies on the way and one that lies.
func TestSignedAtHome(t *testing.T) {
	home := enrolAtHome(t, "police", "operator", "home-"+randomHex(t, 4))
	gateway := filepath.Join(net.State, "departments", "police", consortium.GatewayOf)
	own := filepath.Join(gateway, "own.json")
	restart := func() {
		t.Helper()
		must(t, net.Kill("police", consortium.GatewayOf))
		await(t, "the gateway is back by itself", time.Minute, func() (bool, string) {
			res, err := net.Gateway("police").Do(t.Context(), "", "GET", "/readyz", nil)
			return err == nil && res.Status == http.StatusOK, fmt.Sprint(err, res.Status)
		})
	}
	cert, err := os.ReadFile(filepath.Join(home, "cert.pem"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(gateway, "home.pem"), cert, 0o600))
	must(t, os.WriteFile(own, []byte(`{"signing":{"certificates":["home.pem"],"roles":["operator"]}}`), 0o600))
	defer func() {
		must(t, os.Remove(own))
		restart()
	}()
	restart()
	token, err := net.TokenFile("police", "operator")
	must(t, err)
	call := func(url, key, path string, body any) (operation, error) {
		t.Helper()
		data, err := json.Marshal(body)
		must(t, err)
		file := filepath.Join(t.TempDir(), "body.json")
		must(t, os.WriteFile(file, data, 0o600))
		out, err := net.Run(t.Context(), "zhenglian", "call", "POST", path, "--gateway", url, "--token-file", token, "--cert", filepath.Join(home, "cert.pem"),
			"--key", filepath.Join(home, "key.pem"), "--trust", filepath.Join(net.State, "trust", "consortium.json"), "--data", file, "--once", key)
		var o operation
		if err == nil {
			must(t, json.Unmarshal(out, &o))
		}
		return o, err
	}
	at := net.Gateway("police").URL

	t.Run("the gateway has no key", func(t *testing.T) {
		res, err := net.Gateway("police").Do(t.Context(), "operator", "POST", "/v1/catalog/entries", contentOf("police"))
		must(t, err)
		if res.Status != http.StatusForbidden || !strings.Contains(string(res.Body), "sign-offline") {
			t.Errorf("status %d: %s", res.Status, res.Body)
		}
	})
	t.Run("short argument", func(t *testing.T) {
		entry := contentOf("police")
		o, err := call(at, "short-"+entry.Code, "/v1/catalog/entries", entry)
		must(t, err)
		if o.State != "committed" || !strings.Contains(string(o.Record), entry.Code) || steps(t, "police", entry.Code) != 1 {
			t.Errorf("%+v", o)
		}
	})
	t.Run("argument beside the transaction", func(t *testing.T) {
		batch := domain.RegisterBatchArgs{}
		for range 12 {
			batch.Contents = append(batch.Contents, contentOf("police"))
		}
		o, err := call(at, "batch-"+batch.Contents[0].Code, "/v1/catalog/batches/register", batch)
		must(t, err)
		if o.State != "committed" || steps(t, "police", batch.Contents[11].Code) != 1 {
			t.Errorf("%+v", o)
		}
	})
	t.Run("killed between the steps", func(t *testing.T) {
		entry := contentOf("police")
		header := http.Header{"Idempotency-Key": {"killed-" + entry.Code}, "Prefer": {"sign-offline"}}
		res, err := net.Gateway("police").DoWith(t.Context(), "operator", "POST", "/v1/catalog/entries", entry, header)
		must(t, err)
		if res.Status != http.StatusAccepted || !bytes.Contains(res.Body, []byte(`"signing"`)) {
			t.Fatalf("status %d: %s", res.Status, res.Body)
		}
		restart()
		forgotten, err := net.Gateway("police").Do(t.Context(), "operator", "GET", res.Header.Get("Location"), nil)
		must(t, err)
		if forgotten.Status != http.StatusNotFound {
			t.Errorf("what waited for a signature is still there: status %d: %s", forgotten.Status, forgotten.Body)
		}
		first, err := call(at, "killed-"+entry.Code, "/v1/catalog/entries", entry)
		must(t, err)
		if first.State != "committed" {
			t.Fatalf("%+v", first)
		}
		restart()
		if _, err := call(at, "killed-"+entry.Code, "/v1/catalog/entries", entry); err != nil {
			t.Error(err)
		}
		if n := steps(t, "police", entry.Code); n != 1 {
			t.Errorf("written %d times", n)
		}
	})
	t.Run("killed while it hands over", func(t *testing.T) {
		for range 3 {
			entry := contentOf("police")
			body, err := json.Marshal(entry)
			must(t, err)
			killing := false
			s := signerAt(t, home, func(ctx context.Context, r signing.Request) (int, []byte, error) {
				if killing && bytes.Contains(r.Body, []byte(`"transaction"`)) {
					killing = false
					go func() { _ = net.Kill("police", consortium.GatewayOf) }() // before, while or after it answers
				}
				var content any
				if r.Body != nil {
					content = json.RawMessage(r.Body)
				}
				res, err := net.Gateway("police").DoWith(ctx, "operator", r.Method, r.Target, content, r.Header)
				if err == nil && res.Status >= 300 {
					err = fmt.Errorf("status %d: %s", res.Status, res.Body)
				}
				return res.Status, res.Body, err
			})
			killing = true
			request := signing.Request{Method: http.MethodPost, Target: "/v1/catalog/entries", Body: body}
			_, _ = s.Write(t.Context(), request, "kill-"+entry.Code)
			await(t, "the write is done when it is asked for again", time.Minute, func() (bool, string) {
				out, err := s.Write(t.Context(), request, "kill-"+entry.Code)
				if err != nil {
					return false, err.Error() // its gateway is starting
				}
				return out.Answer != nil || out.Operation.State == api.OperationStateCommitted, fmt.Sprintf("%+v", out.Operation)
			})
			if n := steps(t, "police", entry.Code); n != 1 {
				t.Errorf("written %d times", n)
			}
		}
	})
	t.Run("a gateway that lies", func(t *testing.T) {
		target, err := url.Parse(at)
		must(t, err)
		proxy := httputil.NewSingleHostReverseProxy(target)
		proxy.ModifyResponse = func(res *http.Response) error {
			data, err := io.ReadAll(res.Body)
			if err != nil {
				return err
			}
			var told struct {
				Operation     string         `json:"operation"`
				TransactionID string         `json:"transactionId"`
				Signing       map[string]any `json:"signing"`
			}
			if json.Unmarshal(data, &told) == nil && told.Signing != nil {
				var message []byte
				must(t, json.Unmarshal(fmt.Appendf(nil, "%q", told.Signing["message"]), &message))
				changed := bytes.Replace(message, []byte("catalog:Register"), []byte("catalog:Withdraw"), 1)
				if bytes.Equal(changed, message) {
					t.Error("the proposal does not name its transaction")
				}
				told.Signing["message"] = changed
				if data, err = json.Marshal(told); err != nil {
					return err
				}
			}
			res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
			res.Header.Set("Content-Length", fmt.Sprint(len(data)))
			return nil
		}
		liar := httptest.NewServer(proxy)
		defer liar.Close()
		entry := contentOf("police")
		_, err = call(liar.URL, "liar-"+entry.Code, "/v1/catalog/entries", entry)
		if err == nil || !strings.Contains(err.Error(), "nothing was signed") {
			t.Errorf("got %v", err)
		}
		res, err := net.Gateway("police").Do(t.Context(), "auditor", "GET", entryPath(entry.Code), nil)
		must(t, err)
		if res.Status != http.StatusNotFound {
			t.Errorf("the entry is there: status %d", res.Status)
		}
	})
}
