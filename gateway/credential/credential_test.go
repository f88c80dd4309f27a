package credential_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/credential"
	"github.com/zhenglian/zhenglian/gateway/credential/credentialtest"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// at is within the validity of the fixture's credential.
var at = prooftest.Epoch

// items are those of the fixture. Nobody is called so.
var items = []credential.Item{
	{Name: "姓名", Value: "样例甲"},
	{Name: "证件号码", Value: "EXAMPLE-0001"},
	{Name: "地址", Value: "示例市样板路 1 号 <&> \"引号\" 𠮷"},
	{Name: "许可范围", Value: "样例"},
}

type fixture struct {
	consortium *prooftest.Consortium
	identity   *prooftest.Identity // the issuing key of civil
	issuer     *credential.Issuer
	verifier   *credential.Verifier
	claims     credential.Claims
}

func newFixture(t testing.TB) fixture {
	t.Helper()
	c := prooftest.New()
	verifier, err := credential.NewVerifier(c.Anchors())
	if err != nil {
		t.Fatal(err)
	}
	d := c.Department("civil")
	id, err := domain.CertificateID{TypeCode: d.USCC + "001", IssuerCode: d.USCC, Serial: "0001", Version: "001"}.Compose()
	if err != nil {
		t.Fatal(err)
	}
	issued := at.AddDate(0, 0, -10).Truncate(time.Second)
	return fixture{
		consortium: c, identity: d.Authority.Issue("issuing", credential.IssuingUnit),
		issuer: credentialtest.NewIssuer(c, "civil"), verifier: verifier,
		claims: credential.Claims{
			Channel: c.Channel, Issuer: "civil", IssuerUSCC: d.USCC, Ref: prooftest.Ref, CertID: id, TypeCode: d.USCC + "001",
			TypeNameZh: "示例许可证", TypeNameEn: "Sample permit", IssuedAt: issued,
			Validity: domain.Period{From: issued, To: issued.AddDate(2, 0, 0)},
			Status: credential.Status{
				Index:      42,
				Revocation: "https://zheng.example/v1/status-lists/civil/revocation/0",
				Suspension: "https://zheng.example/v1/status-lists/civil/suspension/0",
			},
		},
	}
}

func (f fixture) issue(t testing.TB) string {
	t.Helper()
	issued, err := f.issuer.Issue(f.claims, items)
	if err != nil {
		t.Fatal(err)
	}
	return issued.Credential
}

// payload returns the payload of a fresh credential.
func (f fixture) payload(t testing.TB) map[string]any {
	t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(strings.Split(strings.Split(f.issue(t), "~")[0], ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var payload map[string]any
	if err := json.Unmarshal(data, &payload); err != nil {
		t.Fatal(err)
	}
	return payload
}

func present(t *testing.T, text string, names ...string) string {
	t.Helper()
	shown, err := credential.Present(text, names)
	if err != nil {
		t.Fatal(err)
	}
	return shown
}

// disclosureOf writes a disclosure of any value.
func disclosureOf(elements ...any) string {
	data, err := json.Marshal(elements)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

func digest(disclosure string) string {
	sum := sha256.Sum256([]byte(disclosure))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// sign signs any header and payload with low S, or high.
func sign(key *ecdsa.PrivateKey, header, payload []byte, high bool) string {
	text := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		panic(err)
	}
	n := key.Params().N
	if isHigh := s.Cmp(new(big.Int).Rsh(n, 1)) > 0; isHigh != high {
		s.Sub(n, s)
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature[:])
}

func TestIssueAndVerify(t *testing.T) {
	f := newFixture(t)
	text := f.issue(t)
	sum := sha256.Sum256([]byte(strings.SplitN(text, "~", 2)[0]))
	want := &credential.Verified{Claims: f.claims, Items: items, Digest: hex.EncodeToString(sum[:])}
	got, err := f.verifier.Verify(text, at)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if again := f.issue(t); again == text {
		t.Error("two credentials of the same items are the same: no salt")
	}
	for _, item := range items {
		if none := present(t, text); strings.Contains(decoded(t, none), item.Value) {
			t.Errorf("without disclosures the credential tells %s", item.Name)
		}
	}
}

// decoded is a credential with all its parts decoded.
func decoded(t *testing.T, text string) string {
	t.Helper()
	var b strings.Builder
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == '.' || r == '~' }) {
		data, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(data)
	}
	return b.String()
}

func TestIssueFillsIn(t *testing.T) {
	f := newFixture(t)
	claims := f.claims
	claims.Channel, claims.Issuer, claims.IssuerUSCC = "", "", ""
	issued, err := f.issuer.Issue(claims, items)
	if err != nil {
		t.Fatal(err)
	}
	v, err := f.verifier.Verify(issued.Credential, at)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f.claims, v.Claims); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRevokedIssuingKey(t *testing.T) {
	f := newFixture(t)
	text := f.issue(t)
	d := f.consortium.Department("civil")
	stranger := prooftest.NewAuthority("stranger", "CivilMSP")
	for _, tt := range []struct {
		name    string
		crl     string
		refused bool
	}{
		{"before the issue", d.Authority.CRL(map[*prooftest.Identity]time.Time{f.identity: f.claims.IssuedAt.Add(-time.Second)}, nil), true},
		{"at the issue", d.Authority.CRL(map[*prooftest.Identity]time.Time{f.identity: f.claims.IssuedAt}, nil), true},
		{"after the issue", d.Authority.CRL(map[*prooftest.Identity]time.Time{f.identity: f.claims.IssuedAt.Add(time.Second)}, nil), false},
		{"another key", d.Authority.CRL(map[*prooftest.Identity]time.Time{d.Peer: f.claims.IssuedAt}, nil), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			anchors, err := f.consortium.Anchors().WithCRL(tt.crl)
			if err != nil {
				t.Fatal(err)
			}
			verifier, err := credential.NewVerifier(anchors)
			if err != nil {
				t.Fatal(err)
			}
			_, err = verifier.Verify(text, at)
			var refusal *credential.RefusalError
			if refused := errors.As(err, &refusal) && refusal.Rule == credential.RuleCertificate; refused != tt.refused || !refused && err != nil {
				t.Errorf("error = %v, refused %v wanted", err, tt.refused)
			}
		})
	}
	anchors := f.consortium.Anchors()
	for i := range anchors.Departments {
		anchors.Departments[i].CRLs = []string{stranger.CRL(nil, nil)}
	}
	if _, err := credential.NewVerifier(anchors); err == nil {
		t.Error("a stranger's revocation list is accepted")
	}
}

func TestPresent(t *testing.T) {
	f := newFixture(t)
	text := f.issue(t)
	for mask := range 1 << len(items) {
		var names []string
		var want []credential.Item
		for i, item := range items {
			if mask&(1<<i) != 0 {
				names = append(names, item.Name)
				want = append(want, item)
			}
		}
		slices.Reverse(names) // the face has its own order
		shown := present(t, text, names...)
		v, err := f.verifier.Verify(shown, at)
		if err != nil {
			t.Fatalf("%v: %v", names, err)
		}
		if diff := cmp.Diff(want, v.Items, cmp.Transformer("nil", func(s []credential.Item) string {
			data, _ := json.Marshal(append([]credential.Item{}, s...))
			return string(data)
		})); diff != "" {
			t.Errorf("%v (-want +got):\n%s", names, diff)
		}
		if v.Withheld != len(items)-len(want) {
			t.Errorf("%v: %d withheld", names, v.Withheld)
		}
		whole, err := credential.Digest(text)
		if err != nil {
			t.Fatal(err)
		}
		if part, err := credential.Digest(shown); err != nil || part != whole || part != v.Digest {
			t.Errorf("%v: the digest changed: %s, %v", names, part, err)
		}
	}
	few := present(t, text, "姓名")
	if _, err := credential.Present(few, []string{"地址"}); domain.KindOf(err) != domain.NotFound {
		t.Errorf("Present of what is withheld: %v", err)
	}
}

func TestIssueRefuses(t *testing.T) {
	f := newFixture(t)
	many := make([]credential.Item, credential.MaxItems+1)
	for i := range many {
		many[i] = credential.Item{Name: strings.Repeat("项", i+1), Value: "值"}
	}
	secret := "秘密"
	tests := []struct {
		name   string
		change func(*credential.Claims)
		items  []credential.Item
		want   string
	}{
		{"no items", nil, []credential.Item{}, "items: 0 entries"},
		{"many items", nil, many, "items: 61 entries"},
		{"no name", nil, []credential.Item{{Name: "", Value: secret}}, "items[0].name"},
		{"long name", nil, []credential.Item{{Name: strings.Repeat("名", credential.MaxName+1), Value: secret}}, "items[0].name"},
		{"long value", nil, []credential.Item{{Name: secret, Value: strings.Repeat("值", credential.MaxValue+1)}}, "items[0].value"},
		{"line break", nil, []credential.Item{{Name: "n", Value: secret + "\n"}}, "items[0].value"},
		{"reversed text", nil, []credential.Item{{Name: "n", Value: secret + "\u202e"}}, "items[0].value"},
		{"not UTF-8", nil, []credential.Item{{Name: "n", Value: secret + "\xff"}}, "items[0].value"},
		{"name twice", nil, []credential.Item{{Name: secret, Value: "1"}, {Name: secret, Value: "2"}}, "items[1].name: repeats"},
		{"other channel", func(c *credential.Claims) { c.Channel = "other" }, nil, "issuer"},
		{"other issuer", func(c *credential.Claims) { c.Issuer = "police" }, nil, "issuer"},
		{"other code", func(c *credential.Claims) { c.IssuerUSCC = f.consortium.Department("police").USCC }, nil, "issuer"},
		{"ref", func(c *credential.Claims) { c.Ref = strings.ToUpper(c.Ref) }, nil, "ref"},
		{"identifier", func(c *credential.Claims) { c.CertID += "1" }, nil, "certId"},
		{"type", func(c *credential.Claims) { c.TypeCode = c.IssuerUSCC + "002" }, nil, "certId: names another type"},
		{"type name", func(c *credential.Claims) { c.TypeNameZh = "" }, nil, "typeNameZh"},
		{"validity", func(c *credential.Claims) { c.Validity.To = c.Validity.From }, nil, "validity.to"},
		{"fraction of a second", func(c *credential.Claims) { c.Validity.To = c.Validity.To.Add(1) }, nil, "whole seconds"},
		{"status index", func(c *credential.Claims) { c.Status.Index = -1 }, nil, "index"},
		{"status list", func(c *credential.Claims) { c.Status.Suspension = "javascript:alert(1)" }, nil, "address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			claims := f.claims
			if tt.change != nil {
				tt.change(&claims)
			}
			if tt.items == nil {
				tt.items = items
			}
			_, err := f.issuer.Issue(claims, tt.items)
			if domain.KindOf(err) != domain.Invalid || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error = %v, want invalid: %s", err, tt.want)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error quotes an item: %v", err)
			}
		})
	}
	claims := f.claims
	claims.IssuedAt = prooftest.NotBefore.Add(-time.Second)
	if _, err := f.issuer.Issue(claims, items); err == nil || domain.KindOf(err) != "" {
		t.Errorf("an issue before the key was certified: %v", err)
	}
}

func TestNewIssuerRefuses(t *testing.T) {
	c := prooftest.New()
	civil, police := c.Department("civil").Authority, c.Department("police").Authority
	pem := func(i *prooftest.Identity) [2][]byte { cert, key := credentialtest.PEM(i); return [2][]byte{cert, key} }
	good, other := pem(civil.Issue("issuing", credential.IssuingUnit)), pem(civil.Issue("second", credential.IssuingUnit))
	for name, tt := range map[string]struct {
		department domain.DepartmentCode
		pem        [2][]byte
	}{
		"unknown department":     {"nobody", good},
		"key of another":         {"civil", [2][]byte{good[0], other[1]}},
		"no certificate":         {"civil", [2][]byte{good[1], good[1]}},
		"two certificates":       {"civil", [2][]byte{append(good[0][:len(good[0]):len(good[0])], other[0]...), good[1]}},
		"no key":                 {"civil", [2][]byte{good[0], []byte("x")}},
		"of another department":  {"police", good},
		"an operator's":          {"civil", pem(civil.Issue("operator", "client"))},
		"issuing and more":       {"civil", pem(civil.Issue("both", credential.IssuingUnit, "peer"))},
		"of another's authority": {"civil", pem(police.Issue("issuing", credential.IssuingUnit))},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := credential.NewIssuer(c.Anchors(), tt.department, tt.pem[0], tt.pem[1])
			if err == nil {
				t.Fatal("accepted")
			}
			if strings.Contains(err.Error(), "PRIVATE") {
				t.Errorf("the error quotes the key: %v", err)
			}
		})
	}
}

// forgery is a credential under construction, every part of which can be wrong.
type forgery struct {
	identity    *prooftest.Identity
	header      map[string]any
	payload     map[string]any
	disclosures []string
	high        bool
	jwt         func(string) string // after signing
	text        func(string) string
}

// set lists digests of disclosures.
func (f *forgery) set(disclosures ...string) {
	var places []any
	for _, d := range disclosures {
		places = append(places, map[string]any{"...": digest(d)})
	}
	f.disclosures, f.payload["items"] = disclosures, places
}

func (f *forgery) write(t testing.TB) string {
	t.Helper()
	header, err := json.Marshal(f.header)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(f.payload)
	if err != nil {
		t.Fatal(err)
	}
	jwt := sign(f.identity.Key, header, payload, f.high)
	if f.jwt != nil {
		jwt = f.jwt(jwt)
	}
	text := jwt + "~"
	for _, d := range f.disclosures {
		text += d + "~"
	}
	if f.text != nil {
		text = f.text(text)
	}
	return text
}

const salt = "AAECAwQFBgcICQoLDA0ODw"

func (f fixture) forge(t testing.TB) *forgery {
	t.Helper()
	forged := &forgery{
		identity: f.identity, payload: f.payload(t),
		header: map[string]any{"alg": "ES256", "typ": credential.Type, "x5c": []any{base64.StdEncoding.EncodeToString(f.identity.Cert.Raw)}},
	}
	var texts []string
	for i, item := range items {
		texts = append(texts, disclosureOf(salt[:len(salt)-1]+string("AQgw"[i]), item))
	}
	forged.set(texts...)
	return forged
}

// as has the forgery signed by another identity.
func (f *forgery) as(i *prooftest.Identity) {
	f.identity = i
	f.header["x5c"] = []any{base64.StdEncoding.EncodeToString(i.Cert.Raw)}
}

func TestVerifyRefuses(t *testing.T) {
	f := newFixture(t)
	authority := f.consortium.Department("civil").Authority
	issueAs := func(name string, change func(*x509.Certificate)) *prooftest.Identity {
		return authority.IssueAs(name, func(c *x509.Certificate) {
			c.Subject = pkix.Name{CommonName: name, OrganizationalUnit: []string{credential.IssuingUnit}}
			change(c)
		})
	}
	plain := disclosureOf(salt, credential.Item{Name: "n", Value: "v"})
	type change = func(*forgery)
	payload := func(name string, value any) change { return func(f *forgery) { f.payload[name] = value } }
	header := func(name string, value any) change { return func(f *forgery) { f.header[name] = value } }
	text := func(edit func(string) string) change { return func(f *forgery) { f.text = edit } }
	discloses := func(d ...string) change { return func(f *forgery) { f.set(d...) } }
	item := func(value any) change { return discloses(disclosureOf(salt, value)) }
	tests := []struct {
		name   string
		change change
		at     time.Time
		want   credential.Rule
	}{
		{"long", text(func(s string) string { return s + strings.Repeat("A", credential.MaxBytes) }), at, credential.RuleSize},
		{"many disclosures", text(func(s string) string { return s + strings.Repeat("W10~", 300) }), at, credential.RuleSize},
		{"nothing", text(func(string) string { return "" }), at, credential.RuleForm},
		{"a JWT", text(func(s string) string { return strings.Split(s, "~")[0] }), at, credential.RuleForm},
		{"two sections", func(f *forgery) { f.jwt = func(s string) string { return s[:strings.LastIndexByte(s, '.')] } }, at, credential.RuleForm},
		{"four sections", func(f *forgery) { f.jwt = func(s string) string { return s + ".A" } }, at, credential.RuleForm},
		{"key binding", text(func(s string) string { return s + "eyJ9.e30.AA" }), at, credential.RuleKeyBinding},
		{"trailing line break", text(func(s string) string { return s + "\n" }), at, credential.RuleKeyBinding},
		{"trailing ~", text(func(s string) string { return s + "~" }), at, credential.RuleJSON},
		{"line break within", text(func(s string) string { return s[:9] + "\n" + s[9:] }), at, credential.RuleEncoding},
		{"padding", func(f *forgery) { f.jwt = func(s string) string { return s + "==" } }, at, credential.RuleEncoding},
		{"padding bits", func(f *forgery) { f.jwt = nextSpelling }, at, credential.RuleEncoding},
		{"other alphabet", text(func(s string) string { return "+" + s[1:] }), at, credential.RuleEncoding},
		{"high S", func(f *forgery) { f.high = true }, at, credential.RuleSignature},
		{"changed payload", func(f *forgery) { f.jwt = respell(1, `"Sample permit"`, `"Sample licence"`) }, at, credential.RuleSignature},
		{"short signature", func(f *forgery) {
			f.jwt = func(s string) string { return s[:strings.LastIndexByte(s, '.')+1] + strings.Repeat("AAAA", 21) }
		}, at, credential.RuleSignature},
		{"another's key", func(f *forgery) {
			f.identity = &prooftest.Identity{Key: authority.Issue("second", credential.IssuingUnit).Key}
		}, at, credential.RuleSignature},

		{"alg none", header("alg", "none"), at, credential.RuleAlgorithm},
		{"alg HS256", header("alg", "HS256"), at, credential.RuleAlgorithm},
		{"alg ES384", header("alg", "ES384"), at, credential.RuleAlgorithm},
		{"no alg", func(f *forgery) { delete(f.header, "alg") }, at, credential.RuleAlgorithm},
		{"typ JWT", header("typ", "JWT"), at, credential.RuleType},
		{"typ vc+sd-jwt", header("typ", "vc+sd-jwt"), at, credential.RuleType},
		{"jwk", header("jwk", map[string]any{"kty": "EC"}), at, credential.RuleHeader},
		{"kid", header("kid", "1"), at, credential.RuleHeader},
		{"crit", header("crit", []string{"b64"}), at, credential.RuleHeader},
		{"case of a header", header("X5C", []string{}), at, credential.RuleHeader},
		{"no x5c", func(f *forgery) { delete(f.header, "x5c") }, at, credential.RuleHeader},
		{"empty x5c", header("x5c", []string{}), at, credential.RuleCertificate},
		{"chain", func(f *forgery) {
			f.header["x5c"] = append(f.header["x5c"].([]any), base64.StdEncoding.EncodeToString(authority.Cert.Raw))
		}, at, credential.RuleCertificate},
		{"x5c in base64url", header("x5c", []string{"_-8="}), at, credential.RuleCertificate},
		{"x5c of nothing", header("x5c", []string{"AAAA"}), at, credential.RuleCertificate},
		{"bytes behind the certificate", func(f *forgery) {
			f.header["x5c"] = []any{base64.StdEncoding.EncodeToString(append(slices.Clone(f.identity.Cert.Raw), 0))}
		}, at, credential.RuleCertificate},
		{"an operator's key", func(f *forgery) { f.as(authority.Issue("operator", "client")) }, at, credential.RuleCertificate},
		{"a peer's key", func(f *forgery) { f.as(authority.Issue("p", "peer", credential.IssuingUnit)) }, at, credential.RuleCertificate},
		{"the authority's key", func(f *forgery) { f.as(authority) }, at, credential.RuleCertificate},
		{"an authority below", func(f *forgery) {
			f.as(issueAs("ca", func(c *x509.Certificate) { c.IsCA = true; c.KeyUsage |= x509.KeyUsageCertSign }))
		}, at, credential.RuleCertificate},
		{"not for signing", func(f *forgery) {
			f.as(issueAs("usage", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }))
		}, at, credential.RuleCertificate},
		{"certified after the issue", func(f *forgery) {
			f.as(issueAs("late", func(c *x509.Certificate) { c.NotBefore = at }))
		}, at, credential.RuleCertificate},
		{"certified until before the issue", func(f *forgery) {
			f.as(issueAs("past", func(c *x509.Certificate) { c.NotAfter = prooftest.NotBefore.AddDate(0, 0, 1) }))
		}, at, credential.RuleCertificate},
		{"another department's key", func(f *forgery) {
			f.as(prooftest.New().Department("police").Authority.Issue("issuing", credential.IssuingUnit))
		}, at, credential.RuleIssuer},
		{"a stranger's key", func(f *forgery) {
			f.as(prooftest.NewAuthority("stranger", "CivilMSP").Issue("issuing", credential.IssuingUnit))
		}, at, credential.RuleIssuer},
		{"unknown issuer", payload("iss", "nobody"), at, credential.RuleIssuer},
		{"another issuer", payload("iss", "police"), at, credential.RuleIssuer},
		{"another channel", payload("channel", "other"), at, credential.RuleIssuer},

		{"vct", payload("vct", "zhenglian-certificate/2"), at, credential.RuleType},
		{"hash algorithm", payload("_sd_alg", "sha-512"), at, credential.RuleHash},
		{"case of the hash algorithm", payload("_sd_alg", "SHA-256"), at, credential.RuleHash},
		{"unknown claim", payload("aud", "x"), at, credential.RuleJSON},
		{"missing claim", func(f *forgery) { delete(f.payload, "exp") }, at, credential.RuleJSON},
		{"case of a claim", func(f *forgery) { delete(f.payload, "exp"); f.payload["EXP"] = 1 }, at, credential.RuleJSON},
		{"type of a claim", payload("iat", "1"), at, credential.RuleJSON},
		{"null", payload("typeNameEn", nil), at, credential.RuleJSON},
		{"plain item", payload("items", []any{map[string]any{"name": "n", "value": "v"}}), at, credential.RuleJSON},
		{"more than a digest", payload("items", []any{map[string]any{"...": digest(plain), "x": 1}}), at, credential.RuleJSON},
		{"_sd", payload("_sd", []any{digest(plain)}), at, credential.RuleJSON},
		{"deep", payload("iss", deep(20)), at, credential.RuleJSON},
		{"name twice in the payload", func(f *forgery) { f.jwt = f.resigned(1, `{`, `{"exp":1,`) }, at, credential.RuleJSON},
		{"name twice in the header", func(f *forgery) { f.jwt = f.resigned(0, `{`, `{"alg":"none",`) }, at, credential.RuleJSON},
		{"not UTF-8", func(f *forgery) { f.jwt = f.resigned(1, "Sample", "S\xffmple") }, at, credential.RuleJSON},
		{"reference", payload("ref", strings.ToUpper(prooftest.Ref)), at, credential.RuleClaims},
		{"identifier", payload("certId", "1.2.156.3005.2"), at, credential.RuleClaims},
		{"validity ends before it begins", payload("exp", 1), at, credential.RuleClaims},
		{"status without suspension", func(f *forgery) {
			status := f.payload["status"].(map[string]any)
			status["bitstring_status_list"] = status["bitstring_status_list"].([]any)[:1]
		}, at, credential.RuleClaims},
		{"status with two indices", func(f *forgery) {
			f.payload["status"].(map[string]any)["bitstring_status_list"].([]any)[1].(map[string]any)["statusListIndex"] = "43"
		}, at, credential.RuleClaims},
		{"index with a zero before it", func(f *forgery) {
			f.payload["status"].(map[string]any)["bitstring_status_list"].([]any)[1].(map[string]any)["statusListIndex"] = "042"
		}, at, credential.RuleJSON},
		{"no items", payload("items", []any{}), at, credential.RuleClaims},
		{"short digest", payload("items", []any{map[string]any{"...": "AAAA"}}), at, credential.RuleDigest},
		{"digest twice", func(f *forgery) {
			f.set(f.disclosures[0], f.disclosures[1], f.disclosures[0])
			f.disclosures = f.disclosures[:2]
		}, at, credential.RuleDuplicate},
		{"disclosure twice", func(f *forgery) { f.disclosures = slices.Insert(f.disclosures, 1, f.disclosures[0]) }, at, credential.RuleTwice},
		{"disclosure again later", func(f *forgery) { f.disclosures = append(f.disclosures, f.disclosures[0]) }, at, credential.RuleTwice},
		{"foreign disclosure", func(f *forgery) { f.disclosures = append(f.disclosures, plain) }, at, credential.RuleUnreferenced},
		{"changed disclosure", func(f *forgery) {
			f.disclosures[0] = disclosureOf(salt, credential.Item{Name: items[0].Name, Value: "样例乙"})
		}, at, credential.RuleUnreferenced},
		{"other order", func(f *forgery) { slices.Reverse(f.disclosures) }, at, credential.RuleOrder},
		{"disclosure of nothing", discloses("W10"), at, credential.RuleDisclosure},
		{"disclosure of an object", discloses("e30"), at, credential.RuleDisclosure},
		{"disclosure of text", discloses("InNhbHQi"), at, credential.RuleDisclosure},
		{"salt a number", discloses(disclosureOf(1, items[0])), at, credential.RuleDisclosure},
		{"name a number", discloses(disclosureOf(salt, 1, items[0])), at, credential.RuleDisclosure},
		{"named disclosure", discloses(disclosureOf(salt, "n", items[0])), at, credential.RuleDisclosure},
		{"disclosure called _sd", discloses(disclosureOf(salt, "_sd", items[0])), at, credential.RuleReserved},
		{"disclosure called ...", discloses(disclosureOf(salt, "...", items[0])), at, credential.RuleReserved},
		{"disclosure no JSON", discloses("AAAA"), at, credential.RuleJSON},
		{"two values in a disclosure", discloses("W10gW10"), at, credential.RuleJSON},
		{"no salt", discloses(disclosureOf("", items[0])), at, credential.RuleSalt},
		{"short salt", discloses(disclosureOf(salt[:20], items[0])), at, credential.RuleSalt},
		{"item of text", item("v"), at, credential.RuleItem},
		{"item with more", item(map[string]any{"name": "n", "value": "v", "x": 1}), at, credential.RuleItem},
		{"item with less", item(map[string]any{"name": "n"}), at, credential.RuleItem},
		{"item with digests", item(map[string]any{"name": "n", "value": "v", "_sd": []string{}}), at, credential.RuleItem},
		{"case of an item", item(map[string]any{"Name": "n", "value": "v"}), at, credential.RuleItem},
		{"item with a number", item(map[string]any{"name": "n", "value": 1}), at, credential.RuleItem},
		{"item with a line break", item(map[string]any{"name": "n", "value": "v\nw"}), at, credential.RuleItem},
		{"item without a name", item(credential.Item{Value: "v"}), at, credential.RuleItem},
		{"two items with one name", discloses(plain, disclosureOf(salt, credential.Item{Name: "n", Value: "w"})), at, credential.RuleItem},

		{"before the validity", nil, f.claims.Validity.From.Add(-1), credential.RuleNotYetValid},
		{"at its end", nil, f.claims.Validity.To, credential.RuleExpired},
	}
	seen := make(map[credential.Rule]bool)
	forgeries := make(map[string]string) // whose fault does not depend on the time
	for _, tt := range tests {
		seen[tt.want] = true
		t.Run(tt.name, func(t *testing.T) {
			forged := f.forge(t)
			if tt.change != nil {
				tt.change(forged)
			}
			text := forged.write(t)
			if tt.change != nil {
				forgeries[tt.name] = text
			}
			v, err := f.verifier.Verify(text, tt.at)
			var refusal *credential.RefusalError
			if !errors.As(err, &refusal) {
				t.Fatalf("error = %v, %+v, want a refusal", err, v)
			}
			if refusal.Rule != tt.want || v != nil {
				t.Errorf("error = %v, want rule %s", err, tt.want)
			}
			if domain.KindOf(err) != domain.Invalid || strings.ContainsAny(refusal.Msg, "\r\n") || refusal.Msg == "" {
				t.Errorf("error = %q of kind %s", err, domain.KindOf(err))
			}
			for _, item := range items {
				if strings.Contains(err.Error(), item.Value) {
					t.Errorf("the refusal quotes an item: %v", err)
				}
			}
		})
	}
	for _, rule := range credential.Rules {
		// Certificates have no claims disclosed in objects; see TestReveal.
		if !seen[rule] && rule != credential.RuleNameTaken {
			t.Errorf("no case breaks rule %s", rule)
		}
	}
	for _, when := range []time.Time{{}, f.claims.Validity.From, f.claims.Validity.To.Add(-1)} {
		if _, err := f.verifier.Verify(f.forge(t).write(t), when); err != nil {
			t.Fatalf("the forgery without a fault is refused, so nothing was tested: %v", err)
		}
	}
	if _, err := f.verifier.Verify(f.issue(t), time.Time{}); err != nil {
		t.Error(err)
	}
	t.Run("the second verifier", func(t *testing.T) {
		for name, got := range f.second(t, forgeries) {
			if got.Outcome != "fail" || got.Credential != nil || got.Reason == "" {
				t.Errorf("%s: it says %q: %s", name, got.Outcome, got.Reason)
			}
		}
	})
}

// nextSpelling changes the bits that pad the last character.
func nextSpelling(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, s[len(s)-1])
	return s[:len(s)-1] + string(alphabet[last+1])
}

// respell replaces text within a section of a JWT.
func respell(section int, old, with string) func(string) string {
	return func(jwt string) string {
		parts := strings.Split(jwt, ".")
		data, err := base64.RawURLEncoding.DecodeString(parts[section])
		if err != nil || !strings.Contains(string(data), old) {
			panic("respell: " + old + " is not there")
		}
		parts[section] = base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(data), old, with, 1)))
		return strings.Join(parts, ".")
	}
}

// resigned is respell and a new signature.
func (f *forgery) resigned(section int, old, with string) func(string) string {
	return func(jwt string) string {
		parts := strings.Split(respell(section, old, with)(jwt), ".")
		header, _ := base64.RawURLEncoding.DecodeString(parts[0])
		payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
		return sign(f.identity.Key, header, payload, false)
	}
}

func deep(n int) any {
	var v any = "x"
	for range n {
		v = []any{v}
	}
	return v
}

// TestEveryByteCounts changes one bit at a time.
func TestEveryByteCounts(t *testing.T) {
	f := newFixture(t)
	text := []byte(f.issue(t))
	step := 1
	if testing.Short() {
		step = 7
	}
	for i := 0; i < len(text)*8; i += step {
		text[i/8] ^= 1 << (i % 8)
		if v, err := f.verifier.Verify(string(text), at); err == nil {
			t.Fatalf("accepted with bit %d of byte %d changed: %+v", i%8, i/8, v)
		}
		text[i/8] ^= 1 << (i % 8)
	}
	for n := range text {
		if v, err := f.verifier.Verify(string(text[:n]), at); err == nil && len(v.Items) == len(items) {
			t.Fatalf("accepted whole when cut after %d bytes", n)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	f := newFixture(b)
	text := f.issue(b)
	for b.Loop() {
		if _, err := f.verifier.Verify(text, at); err != nil {
			b.Fatal(err)
		}
	}
}
