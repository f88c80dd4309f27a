package credential_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/gateway/credential"
)

// interop has @sd-jwt/core do a job, see interop/interop.mjs.
func interop(t *testing.T, job map[string]any) (answer struct {
	Payload    map[string]any `json:"payload"`
	Header     map[string]any `json:"header"`
	Credential string         `json:"credential"`
	Refused    string         `json:"refused"`
}) {
	t.Helper()
	_, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat("interop/node_modules/@sd-jwt/core")
	}
	if err != nil {
		const what = "Node.js and its packages are not there: run scripts/test-setup.sh"
		if os.Getenv("CI") != "" {
			t.Fatal(what)
		}
		t.Skip(what)
	}
	input, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", "interop/interop.mjs")
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node: %v", err)
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatalf("node answered %q: %v", out, err)
	}
	return answer
}

func jwk(t *testing.T, key any) json.RawMessage {
	t.Helper()
	data, err := jose.JSONWebKey{Key: key}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestInteropTheyVerify checks that another implementation reads our credentials
// as we do, whole and in part.
func TestInteropTheyVerify(t *testing.T) {
	f := newFixture(t)
	whole := f.issue(t)
	few := present(t, whole, "地址", "姓名")
	none := present(t, whole)
	for name, text := range map[string]string{"whole": whole, "few": few, "none": none} {
		t.Run(name, func(t *testing.T) {
			want, err := f.verifier.Verify(text, at)
			if err != nil {
				t.Fatal(err)
			}
			got := interop(t, map[string]any{"op": "verify", "credential": text, "key": jwk(t, &f.identity.Key.PublicKey), "at": at.Unix()})
			if got.Refused != "" {
				t.Fatalf("refused: %s", got.Refused)
			}
			items := []any{}
			for _, item := range want.Items {
				items = append(items, map[string]any{"name": item.Name, "value": item.Value})
			}
			if diff := cmp.Diff(items, got.Payload["items"]); diff != "" {
				t.Errorf("items (-ours +theirs):\n%s", diff)
			}
			if got.Payload["ref"] != want.Ref || got.Payload["certId"] != want.CertID || got.Header["typ"] != credential.Type {
				t.Errorf("they read %v %v", got.Header, got.Payload)
			}
		})
	}
	t.Run("they refuse another key", func(t *testing.T) {
		got := interop(t, map[string]any{"op": "verify", "credential": whole, "key": jwk(t, &f.consortium.Department("civil").Peer.Key.PublicKey), "at": at.Unix()})
		if got.Refused == "" {
			t.Error("accepted")
		}
	})
}

// TestInteropTheyPresent checks that we read what a holder's wallet makes of our
// credential.
func TestInteropTheyPresent(t *testing.T) {
	f := newFixture(t)
	whole := f.issue(t)
	got := interop(t, map[string]any{"op": "present", "credential": whole, "frame": map[string]any{"items": map[string]any{"2": true, "0": true}}})
	if got.Refused != "" {
		t.Fatal(got.Refused)
	}
	v, err := f.verifier.Verify(got.Credential, at)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]credential.Item{items[0], items[2]}, v.Items); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
	if got.Credential != present(t, whole, items[0].Name, items[2].Name) {
		t.Error("Present shows the same items otherwise")
	}
}

// TestInteropTheyIssue checks that we verify what another implementation signs
// with the issuing key.
func TestInteropTheyIssue(t *testing.T) {
	f := newFixture(t)
	payload := f.payload(t)
	var indices []int
	var list []any
	for i, item := range items {
		indices = append(indices, i)
		list = append(list, map[string]any{"name": item.Name, "value": item.Value})
	}
	payload["items"] = list
	delete(payload, "_sd_alg")
	job := map[string]any{
		"op": "issue", "payload": payload, "frame": map[string]any{"items": map[string]any{"_sd": indices}},
		"type":   credential.Type,
		"header": map[string]any{"x5c": []string{base64.StdEncoding.EncodeToString(f.identity.Cert.Raw)}},
		"key":    jwk(t, f.identity.Key),
	}
	got := interop(t, job)
	if got.Refused != "" {
		t.Fatal(got.Refused)
	}
	v, err := f.verifier.Verify(got.Credential, at)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(items, v.Items); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(f.claims, v.Claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	// A decoy looks like an item that is withheld.
	job["frame"] = map[string]any{"items": map[string]any{"_sd": indices, "_sd_decoy": 3}}
	if got = interop(t, job); got.Refused != "" {
		t.Fatal(got.Refused)
	}
	v, err = f.verifier.Verify(inOrder(t, got.Credential), at)
	if err != nil {
		t.Fatal(err)
	}
	if v.Withheld != 3 || len(v.Items) != len(items) {
		t.Errorf("%d items and %d withheld, want %d and the 3 decoys", len(v.Items), v.Withheld, len(items))
	}
}

// inOrder puts the disclosures of a credential in the order of their digests, in
// which other implementations need not write them.
func inOrder(t *testing.T, text string) string {
	t.Helper()
	parts := strings.Split(strings.TrimSuffix(text, "~"), "~")
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(parts[0], ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	ordered := parts[0] + "~"
	var p struct {
		Items []map[string]string `json:"items"`
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		t.Fatal(err)
	}
	for _, item := range p.Items {
		for _, text := range parts[1:] {
			if digest(text) == item["..."] {
				ordered += text + "~"
			}
		}
	}
	return ordered
}
