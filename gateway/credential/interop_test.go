package credential_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/gateway/credential"
	"github.com/zhenglian/zhenglian/gateway/statuslist"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// interop has @sd-jwt/core do a job, see interop/interop.mjs.
func interop(t *testing.T, job map[string]any) (answer struct {
	Payload    map[string]any `json:"payload"`
	Header     map[string]any `json:"header"`
	Credential string         `json:"credential"`
	Refused    string         `json:"refused"`
}) {
	t.Helper()
	node(t, job, &answer, "interop/interop.mjs")
	return answer
}

// node gives a job to a program for Node.js and reads its answer.
func node(t *testing.T, job, answer any, program ...string) {
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
	cmd := exec.CommandContext(t.Context(), "node", program...)
	cmd.Stdin = bytes.NewReader(input)
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, log.Bytes())
	}
	if err := json.Unmarshal(out, answer); err != nil {
		t.Fatalf("node answered %q: %v", out, err)
	}
}

// secondVerdict is what proof/js says of a credential.
type secondVerdict struct {
	Outcome, Reason string
	Credential      *struct {
		Issuer, Ref, CertID, TypeNameZh, TypeNameEn string
		Items, ByCode                               []credential.Item
		Withheld                                    int
		Digest                                      string
	}
}

// second asks the verifier in proof/js, in the build that browsers get, about
// credentials by name.
func (f fixture) second(t *testing.T, credentials map[string]string) map[string]secondVerdict {
	t.Helper()
	module, err := os.ReadFile(filepath.Join("..", "web", "verifier", "zhenglian-proof.js"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "verifier.mjs") // Node takes .js for another kind of module
	if err := os.WriteFile(file, module, 0o600); err != nil {
		t.Fatal(err)
	}
	encoded := make(map[string][]byte) // not all of them are UTF-8
	for name, text := range credentials {
		encoded[name] = []byte(text)
	}
	var answers map[string]secondVerdict
	node(t, map[string]any{"trust": f.consortium.TrustFile(), "credentials": encoded}, &answers, "interop/second.mjs", file)
	if len(answers) != len(credentials) {
		t.Fatalf("%d answers about %d credentials", len(answers), len(credentials))
	}
	return answers
}

// TestSecondVerifier compares what the two verifiers read, and that the second
// refuses a flipped bit of every byte too.
func TestSecondVerifier(t *testing.T) {
	f := newFixture(t)
	issued, err := f.issuer.Issue(f.claims, byCode)
	if err != nil {
		t.Fatal(err)
	}
	credentials := map[string]string{
		"whole": issued.Credential, "by code": issued.ByCode, "few": present(t, issued.Credential, "姓名"), "none": present(t, issued.Credential),
		"hostile text": f.issue(t),
	}
	for name, got := range f.second(t, credentials) {
		want, err := f.verifier.Verify(credentials[name], time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if got.Outcome != "pass" || got.Credential == nil {
			t.Fatalf("%s: it says %q: %s", name, got.Outcome, got.Reason)
		}
		c := *got.Credential
		if c.Issuer != string(want.Issuer) || c.Ref != want.Ref || c.CertID != want.CertID || c.TypeNameZh != want.TypeNameZh || c.TypeNameEn != want.TypeNameEn ||
			c.Withheld != want.Withheld || c.Digest != want.Digest {
			t.Errorf("%s: it reads %+v, want %+v", name, c, want)
		}
		for _, pair := range [][2][]credential.Item{{want.Items, c.Items}, {want.ByCode, c.ByCode}} {
			if !slices.Equal(pair[0], pair[1]) {
				t.Errorf("%s: it reads items %v, want %v", name, pair[1], pair[0])
			}
		}
	}
	flipped := make(map[string]string)
	for i := range len(issued.ByCode) {
		bad := []byte(issued.ByCode)
		bad[i] ^= 1 << (i % 8)
		flipped[strconv.Itoa(i)] = string(bad)
	}
	for i, got := range f.second(t, flipped) {
		if got.Outcome != "fail" {
			t.Errorf("byte %s changed: it says %q: %s", i, got.Outcome, got.Reason)
		}
	}
}

// TestSignedStatusList has another implementation check what an issuer signs, and
// read the bits.
func TestSignedStatusList(t *testing.T) {
	f := newFixture(t)
	encoded, err := statuslist.Encode([]int{0, 9, 131071})
	if err != nil {
		t.Fatal(err)
	}
	document := fmt.Sprintf(`{"credentialSubject":{"encodedList":%q},"validUntil":"2026-03-02T08:00:00Z"}`, encoded)
	signed, err := f.issuer.SignStatusList([]byte(document), at)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(text string) (answer struct {
		Header  map[string]any  `json:"header"`
		Payload json.RawMessage `json:"payload"`
		Ones    []int           `json:"ones"`
		Length  int             `json:"length"`
		Refused string          `json:"refused"`
	}) {
		node(t, map[string]any{"op": "list", "list": text, "root": base64.StdEncoding.EncodeToString(f.consortium.Department("civil").Authority.Cert.Raw)}, &answer, "interop/interop.mjs")
		return answer
	}
	got := ask(signed)
	want := map[string]any{"alg": "ES256", "typ": "vc+jwt", "cty": "vc", "x5c": []any{base64.StdEncoding.EncodeToString(f.identity.Cert.Raw)}}
	if diff := cmp.Diff(want, got.Header); diff != "" || got.Refused != "" {
		t.Errorf("refused %q, header (-want +got):\n%s", got.Refused, diff)
	}
	if string(got.Payload) != document || got.Length != 131072 || !slices.Equal(got.Ones, []int{0, 9, 131071}) {
		t.Errorf("they read %d bits, ones at %v, of %.60s", got.Length, got.Ones, got.Payload)
	}
	other := strings.Replace(signed, strings.Split(signed, ".")[1][:8], "eyJ4Ijox", 1)
	if got := ask(other); got.Refused == "" {
		t.Error("another payload is accepted")
	}
	if _, err := f.issuer.SignStatusList([]byte(document), prooftest.NotBefore.Add(-time.Second)); err == nil {
		t.Error("signed before the key was certified")
	}
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
