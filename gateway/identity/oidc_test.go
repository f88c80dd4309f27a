package identity

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/zhenglian/zhenglian/domain"
)

const testAudience = "https://gateway.police.example"

// openProvider is a certified OpenID provider in a process of its own; see
// provider/provider.mjs.
type openProvider struct {
	t      *testing.T
	stdin  io.WriteCloser
	stdout *bufio.Reader
	issuer string
}

// missing skips the test where a developer lacks a tool, and fails it in CI, which
// installs all of them.
func missing(t *testing.T, what ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(what...)
	}
	t.Skip(what...)
}

func startProvider(t *testing.T, key jose.JSONWebKey) *openProvider {
	t.Helper()
	if _, err := os.Stat("provider/node_modules/oidc-provider"); err != nil {
		missing(t, "no OpenID provider to test with: run scripts/test-setup.sh:", err)
	}
	clients, _ := json.Marshal([]string{"police:operator", "police:reviewer", "police:admin", "police:auditor", "police:gateway", "police:operator,admin", "police:root", "civil:operator"})
	cmd := exec.CommandContext(t.Context(), "node", "provider/provider.mjs", string(clients)) //nolint:gosec // the test's own
	cmd.Stderr = io.Discard                                                                   // it warns of plain HTTP on loopback
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		missing(t, "no Node.js to run the OpenID provider with: run scripts/test-setup.sh:", err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	p := &openProvider{t: t, stdin: stdin, stdout: bufio.NewReader(stdout)}
	p.use(key)
	return p
}

// use has the provider sign with key, and publish no other.
func (p *openProvider) use(key jose.JSONWebKey) {
	p.t.Helper()
	command, err := json.Marshal(map[string]any{"keys": []jose.JSONWebKey{key}})
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.stdin.Write(append(command, '\n')); err != nil {
		p.t.Fatal(err)
	}
	for {
		line, err := p.stdout.ReadString('\n')
		if err != nil {
			p.t.Fatal(err)
		}
		if issuer, ok := strings.CutPrefix(line, "issuer "); ok { // it also gives advice
			p.issuer = strings.TrimSpace(issuer)
			return
		}
	}
}

// token asks the provider for a client's token.
func (p *openProvider) token(client, audience string) string {
	p.t.Helper()
	request, err := http.NewRequest(http.MethodPost, p.issuer+"/token", strings.NewReader(url.Values{"grant_type": {"client_credentials"}, "resource": {audience}}.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(url.QueryEscape(client), "secret")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct {
		Token string `json:"access_token"`
		Error string `json:"error_description"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Token == "" {
		p.t.Fatalf("token of %s: status %d, %s, %v", client, response.StatusCode, answer.Error, err)
	}
	return answer.Token
}

func newECKey(t *testing.T, kid string) jose.JSONWebKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return jose.JSONWebKey{Key: key, KeyID: kid, Algorithm: "ES256", Use: "sig"}
}

func newProvider(t *testing.T, issuer string, change func(*ProviderOptions)) *Provider {
	t.Helper()
	o := ProviderOptions{Department: "police", Issuer: issuer, Audience: testAudience, KeysEvery: 10 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&o)
	}
	p, err := NewProvider(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func run(t *testing.T, p *Provider) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
	})
}

// reason answers why a token was refused, "" if it was not.
func reason(t *testing.T, p *Provider, token string) Reason {
	t.Helper()
	_, err := p.Role(token)
	var refused *Refusal
	if err != nil && !errors.As(err, &refused) {
		t.Fatalf("Role: %v", err)
	}
	if refused == nil {
		return ""
	}
	return refused.Reason
}

// TestRealProvider accepts what a certified provider signs, by the claims it
// carries, and refuses within seconds what it signed with a key that it has
// replaced.
func TestRealProvider(t *testing.T) {
	first := newECKey(t, "first")
	op := startProvider(t, first)
	p := newProvider(t, op.issuer, nil)
	if _, err := p.Role(op.token("police:operator", testAudience)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("before the keys are known: %v", err)
	}
	run(t, p)
	await(t, "the keys are known", func() bool { return p.current() != nil })

	for _, tt := range []struct {
		client, audience string
		role             domain.Role
		reason           Reason
	}{
		{client: "police:operator", audience: testAudience, role: domain.RoleOperator},
		{client: "police:reviewer", audience: testAudience, role: domain.RoleReviewer},
		{client: "police:admin", audience: testAudience, role: domain.RoleAdmin},
		{client: "police:auditor", audience: testAudience, role: domain.RoleAuditor},
		{client: "police:gateway", audience: testAudience, reason: WrongRole},
		{client: "police:root", audience: testAudience, reason: WrongRole},
		{client: "police:operator,admin", audience: testAudience, reason: WrongRole}, // roles exclude one another
		{client: "civil:operator", audience: testAudience, reason: WrongDepartment},
		{client: "police:operator", audience: "https://gateway.civil.example", reason: WrongAudience},
	} {
		t.Run(tt.client+" for "+tt.audience, func(t *testing.T) {
			token := op.token(tt.client, tt.audience)
			role, _ := p.Role(token)
			if got := reason(t, p, token); role != tt.role || got != tt.reason {
				t.Errorf("role %q, refused %q, want %q, %q", role, got, tt.role, tt.reason)
			}
			if role, known := p.Known(token); role != tt.role || known != (tt.reason == "") {
				t.Errorf("Known = %q, %v", role, known)
			}
		})
	}

	old := op.token("police:operator", testAudience)
	op.use(newECKey(t, "second"))
	fresh := op.token("police:operator", testAudience)
	await(t, "the new key is in force", func() bool { return reason(t, p, fresh) == "" })
	if got := reason(t, p, old); got != UnknownKey {
		t.Errorf("signed with the key before: %q", got)
	}
	if _, known := p.Known(old); known {
		t.Error("what was verified with the key before is still known")
	}
}

// TestForgedTokens presents what an attacker, or a careless system, can make.
func TestForgedTokens(t *testing.T) {
	key, other := newECKey(t, "key"), newECKey(t, "other")
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	named := jose.JSONWebKey{Key: rsaKey, KeyID: "rsa", Algorithm: "RS256", Use: "sig"}
	encrypts := jose.JSONWebKey{Key: rsaKey.Public(), KeyID: "enc", Use: "enc"}
	var issuer string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "openid-configuration") {
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": issuer, "jwks_uri": issuer + "/keys"})
			return
		}
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public(), named.Public(), encrypts}})
	}))
	defer server.Close()
	issuer = server.URL
	var now atomic.Int64
	now.Store(time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC).Unix())
	clock := func() time.Time { return time.Unix(now.Load(), 0) }
	p := newProvider(t, issuer, func(o *ProviderOptions) { o.Clock = clock; o.KeysLife = 10 * time.Hour })
	if _, err := p.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}

	good := func() map[string]any {
		return map[string]any{
			"iss": issuer, "aud": testAudience, "sub": "somebody", "exp": clock().Unix() + 60, "iat": clock().Unix(), "nbf": clock().Unix(),
			"zhenglian_department": "police", "zhenglian_role": "operator",
		}
	}
	sign := func(alg jose.SignatureAlgorithm, key any, kid string, claims map[string]any, change func(*jose.SignerOptions)) string {
		t.Helper()
		options := new(jose.SignerOptions).WithType("at+jwt")
		if kid != "" {
			options = options.WithHeader("kid", kid)
		}
		if change != nil {
			change(options)
		}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options)
		if err != nil {
			t.Fatal(err)
		}
		token, err := jwt.Signed(signer).Claims(claims).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	with := func(name string, value any) string {
		claims := good()
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
		return sign(jose.ES256, key.Key, "key", claims, nil)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	der, err := x509.MarshalPKIXPublicKey(&key.Key.(*ecdsa.PrivateKey).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	payload, _ := json.Marshal(good())
	valid := with("jti", "1")
	parts := strings.Split(valid, ".")

	for _, tt := range []struct {
		name, token string
		want        Reason
	}{
		{"good", valid, ""},
		{"good, several audiences", with("aud", []string{"x", testAudience}), ""},
		{"good, within the leeway", with("exp", clock().Unix()-10), ""},
		{"good, RSA", sign(jose.RS256, rsaKey, "rsa", good(), nil), ""},
		{"expired", with("exp", clock().Unix()-31), Expired},
		{"no end", with("exp", nil), Expired},
		{"not yet valid", with("nbf", clock().Unix()+31), NotYetValid},
		{"issued in the future", with("iat", clock().Unix()+31), NotYetValid},
		{"other audience", with("aud", "https://gateway.civil.example"), WrongAudience},
		{"no audience", with("aud", nil), WrongAudience},
		{"other issuer", with("iss", "https://op.example"), WrongIssuer},
		{"no issuer", with("iss", nil), WrongIssuer},
		{"no department", with("zhenglian_department", nil), WrongDepartment},
		{"department in a list", with("zhenglian_department", []string{"police"}), WrongDepartment},
		{"no role", with("zhenglian_role", nil), WrongRole},
		{"role in a list", with("zhenglian_role", []string{"operator"}), WrongRole},
		{"two roles", with("zhenglian_role", "operator admin"), WrongRole},
		{"the service's role", with("zhenglian_role", "gateway"), WrongRole},
		{"unknown key", sign(jose.ES256, other.Key, "other", good(), nil), UnknownKey},
		{"another key under a known name", sign(jose.ES256, other.Key, "key", good(), nil), Signature},
		{"no key named", sign(jose.ES256, key.Key, "", good(), nil), UnknownKey},
		{"a key that encrypts", sign(jose.RS256, rsaKey, "enc", good(), nil), UnknownKey},
		{"its own key in the header", sign(jose.ES256, other.Key, "", good(), func(o *jose.SignerOptions) { o.EmbedJWK = true }), UnknownKey},
		{"its own key under a known name", sign(jose.ES256, jose.JSONWebKey{Key: other.Key, KeyID: "key"}, "", good(), func(o *jose.SignerOptions) { o.EmbedJWK = true }), UnknownKey},
		{"another algorithm than the key's", sign(jose.PS256, rsaKey, "rsa", good(), nil), Algorithm},
		{"none", b64([]byte(`{"alg":"none","kid":"key"}`)) + "." + b64(payload) + ".", Algorithm},
		{"None", b64([]byte(`{"alg":"None","kid":"key"}`)) + "." + b64(payload) + ".", Algorithm},
		{"public key as a secret", sign(jose.HS256, publicPEM, "key", good(), nil), Algorithm},
		{"claims replaced", parts[0] + "." + b64(payload) + "." + parts[2], Signature},
		{"signature left out", parts[0] + "." + parts[1] + ".", Signature},
		{"two parts", parts[0] + "." + parts[1], Malformed},
		{"no base64", parts[0] + "." + parts[1] + ".*", Malformed},
		{"no JSON", b64([]byte("{")) + "." + parts[1] + "." + parts[2], Malformed},
		{"too long", sign(jose.ES256, key.Key, "key", map[string]any{"iss": issuer, "x": strings.Repeat("x", maxToken)}, nil), Malformed},
		{"empty", "", Malformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			role, err := p.Role(tt.token)
			if got := reason(t, p, tt.token); got != tt.want || (role == domain.RoleOperator) != (tt.want == "") {
				t.Errorf("role %q, refused %q (%v), want %q", role, got, err, tt.want)
			}
			if _, known := p.Known(tt.token); known != (tt.want == "") {
				t.Errorf("Known = %v", known)
			}
			if tt.want != "" && (strings.Contains(err.Error(), "somebody") || strings.Contains(err.Error(), "example")) {
				t.Errorf("the refusal repeats claims: %v", err)
			}
		})
	}

	now.Add(91)
	if _, known := p.Known(valid); known {
		t.Error("a token is known after its end")
	}
	now.Add(10 * 3600)
	if _, err := p.Role(with("jti", "2")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("with keys that are too old: %v", err)
	}
}

// TestProviderFails keeps the keys while the provider answers nothing usable.
func TestProviderFails(t *testing.T) {
	key := newECKey(t, "key")
	var answer atomic.Value
	var issuer string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch mode := answer.Load().(string); {
		case mode == "down":
			w.WriteHeader(http.StatusBadGateway)
		case mode == "moved":
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		case mode == "long":
			_, _ = io.WriteString(w, strings.Repeat(" ", maxDocument+1))
		case strings.HasSuffix(r.URL.Path, "openid-configuration"):
			d := map[string]string{"issuer": issuer, "jwks_uri": issuer + "/keys"}
			if mode == "other issuer" {
				d["issuer"] = "https://op.example"
			}
			if mode == "keys elsewhere" {
				d["jwks_uri"] = "http://op.example/keys"
			}
			_ = json.NewEncoder(w).Encode(d)
		case mode == "no keys":
			_, _ = io.WriteString(w, `{"keys":[]}`)
		case mode == "private":
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key}})
		default:
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}})
		}
	}))
	defer server.Close()
	issuer = server.URL
	p := newProvider(t, issuer, nil)
	answer.Store("good")
	if changed, err := p.refresh(t.Context()); !changed || err != nil {
		t.Fatalf("refresh = %v, %v", changed, err)
	}
	before := p.current()
	for _, mode := range []string{"down", "moved", "long", "other issuer", "keys elsewhere", "no keys", "private"} {
		answer.Store(mode)
		if changed, err := p.refresh(t.Context()); changed || err == nil {
			t.Errorf("%s: changed %v, error %v", mode, changed, err)
		}
		if p.current() != before {
			t.Errorf("%s: the keys in force changed", mode)
		}
	}
	answer.Store("good")
	if changed, err := p.refresh(t.Context()); changed || err != nil {
		t.Errorf("the same keys again: changed %v, error %v", changed, err)
	}
}

func TestNewProviderRefuses(t *testing.T) {
	for name, change := range map[string]func(*ProviderOptions){
		"plain http":      func(o *ProviderOptions) { o.Issuer = "http://op.example" },
		"looks local":     func(o *ProviderOptions) { o.Issuer = "http://127.0.0.1.example" },
		"no host":         func(o *ProviderOptions) { o.Issuer = "https://" },
		"with a password": func(o *ProviderOptions) { o.Issuer = "https://me:pw@op.example" },
		"with a query":    func(o *ProviderOptions) { o.Issuer = "https://op.example?x=1" },
		"no audience":     func(o *ProviderOptions) { o.Audience = "" },
		"roots no PEM":    func(o *ProviderOptions) { o.RootsPEM = []byte("x") },
	} {
		o := ProviderOptions{Department: "police", Issuer: "https://op.example", Audience: testAudience}
		change(&o)
		if _, err := NewProvider(o); err == nil || strings.Contains(err.Error(), "pw") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
