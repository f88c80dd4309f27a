package identity

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/zhenglian/zhenglian/domain"
)

const (
	// DefaultKeysEvery is how often the provider's keys are read again, so that one
	// that it no longer publishes is refused within the five seconds promised.
	DefaultKeysEvery = 4 * time.Second

	// DefaultKeysLife is how long the last keys are used while the provider does
	// not answer.
	DefaultKeysLife = time.Hour

	providerWait = 3 * time.Second
	maxDocument  = 1 << 20 // of the provider's, in bytes
	maxToken     = 8 << 10 // of a caller's, in bytes
	maxKeys      = 64
	leeway       = 30 * time.Second // between the provider's clock and this one
	maxKnown     = 4096             // tokens whose verdict is remembered
)

// algorithms are what a token may be signed with: asymmetric ones only, so that
// nobody can sign with a public key as a secret, and "none" is none of them.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// ProviderOptions say whose tokens are accepted.
type ProviderOptions struct {
	Department      domain.DepartmentCode // the gateway's own
	Issuer          string                // URL, as in the tokens; https, or http on this machine
	Audience        string                // one of the token's audiences must be this
	DepartmentClaim string                // must be the department's code; "" for "zhenglian_department"
	RoleClaim       string                // must be one role; "" for "zhenglian_role"
	RootsPEM        []byte                // authorities of the provider's server certificate; nil: the system's
	KeysEvery       time.Duration         // 0: [DefaultKeysEvery]
	KeysLife        time.Duration         // 0: [DefaultKeysLife]
	Logger          *slog.Logger
	Clock           func() time.Time // nil: the system's
}

// Provider knows the holders of tokens (JWT) that an OpenID provider signed: one
// issuer, one audience, keys that the provider publishes now. Its keys are fetched
// by [Provider.Run] alone, never because of what a caller sent. It is safe for
// concurrent use.
type Provider struct {
	o      ProviderOptions
	client *http.Client

	keys  atomic.Pointer[keySet]
	mu    sync.Mutex
	known map[[sha256.Size]byte]knownToken
}

type keySet struct {
	set  jose.JSONWebKeySet
	text [sha256.Size]byte // of what was published
	read atomic.Int64      // Unix ms: when it was last seen
}

// knownToken is a verdict, good while the keys are the same ones.
type knownToken struct {
	role  domain.Role
	from  time.Time
	until time.Time
	keys  *keySet
}

// NewProvider returns a provider that knows nobody until it runs; see
// [Provider.Run]. It fails when the options say too little.
func NewProvider(o ProviderOptions) (*Provider, error) {
	if err := checkURL(o.Issuer); err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	if o.Audience == "" || o.Department == "" {
		return nil, errors.New("audience and department must be named")
	}
	if o.DepartmentClaim == "" {
		o.DepartmentClaim = "zhenglian_department"
	}
	if o.RoleClaim == "" {
		o.RoleClaim = "zhenglian_role"
	}
	if o.KeysEvery == 0 {
		o.KeysEvery = DefaultKeysEvery
	}
	if o.KeysLife == 0 {
		o.KeysLife = DefaultKeysLife
	}
	if o.Clock == nil {
		o.Clock = time.Now //nolint:forbidigo // the clock that tests replace
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, MaxIdleConns: 2, IdleConnTimeout: time.Minute}
	if o.RootsPEM != nil {
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(o.RootsPEM) {
			return nil, errors.New("roots: no certificate")
		}
	}
	return &Provider{o: o, known: make(map[[sha256.Size]byte]knownToken), client: &http.Client{
		Transport: transport, Timeout: providerWait,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// checkURL refuses what keys must not be fetched from.
func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("is not https:// and a host")
	}
	ip := net.ParseIP(u.Hostname())
	local := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if u.Scheme != "https" && (u.Scheme != "http" || !local) {
		return errors.New("is not https://; keys that come in the open are anybody's")
	}
	return nil
}

// Run keeps the provider's keys up to date until ctx ends, and then answers ctx's
// error. While the provider does not answer the last keys are used, for as long
// as the options say.
func (p *Provider) Run(ctx context.Context) error {
	failed := ""
	for {
		changed, err := p.refresh(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil && err.Error() != failed:
			failed = err.Error()
			p.o.Logger.Error("the identity provider's keys cannot be read", "error", err)
		case err == nil && failed != "":
			failed = ""
			p.o.Logger.Info("the identity provider's keys can be read again")
		}
		if changed {
			p.o.Logger.Info("the identity provider's keys are in force", "keys", len(p.keys.Load().set.Keys))
		}
		timer := time.NewTimer(p.o.KeysEvery)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// refresh reads the provider's description and keys.
func (p *Provider) refresh(ctx context.Context) (changed bool, err error) {
	var description struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	data, err := p.get(ctx, strings.TrimSuffix(p.o.Issuer, "/")+"/.well-known/openid-configuration")
	if err == nil {
		err = json.Unmarshal(data, &description)
	}
	if err != nil {
		return false, fmt.Errorf("read the description: %w", err)
	}
	if description.Issuer != p.o.Issuer {
		return false, fmt.Errorf("the description is of issuer %q, not %q", description.Issuer, p.o.Issuer)
	}
	if err := checkURL(description.Keys); err != nil {
		return false, fmt.Errorf("jwks_uri: %w", err)
	}
	if data, err = p.get(ctx, description.Keys); err != nil {
		return false, fmt.Errorf("read the keys: %w", err)
	}
	text := sha256.Sum256(data)
	if now := p.keys.Load(); now != nil && now.text == text {
		now.read.Store(p.o.Clock().UnixMilli())
		return false, nil
	}
	set := &keySet{text: text}
	if err := json.Unmarshal(data, &set.set); err != nil {
		return false, fmt.Errorf("read the keys: %w", err)
	}
	set.set.Keys = slices.DeleteFunc(set.set.Keys, func(k jose.JSONWebKey) bool {
		return k.KeyID == "" || !k.IsPublic() || !k.Valid() || k.Use != "" && k.Use != "sig"
	})
	if n := len(set.set.Keys); n == 0 || n > maxKeys {
		return false, fmt.Errorf("the provider publishes %d keys that sign and are named, 1 to %d are usable", n, maxKeys)
	}
	set.read.Store(p.o.Clock().UnixMilli())
	p.keys.Store(set)
	return true, nil
}

func (p *Provider) get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := p.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // read only
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", url, response.Status)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxDocument+1))
	if err == nil && len(data) > maxDocument {
		err = fmt.Errorf("%s answered more than %d bytes", url, maxDocument)
	}
	return data, err
}

// current answers the keys that may be used now, nil when there are none.
func (p *Provider) current() *keySet {
	keys := p.keys.Load()
	if keys == nil || p.o.Clock().Sub(time.UnixMilli(keys.read.Load())) > p.o.KeysLife {
		return nil
	}
	return keys
}

// Known answers the role of a token that was verified before and still holds. It
// costs next to nothing; what it does not know may be good all the same.
func (p *Provider) Known(token string) (domain.Role, bool) {
	sum := sha256.Sum256([]byte(token))
	p.mu.Lock()
	known, ok := p.known[sum]
	p.mu.Unlock()
	now := p.o.Clock()
	if !ok || known.keys != p.current() || !now.Before(known.until) || now.Before(known.from) {
		return "", false
	}
	return known.role, true
}

// Role answers the role of the token's holder. A token that is not accepted is a
// [*Refusal]; without the provider's keys it answers [ErrUnavailable].
func (p *Provider) Role(token string) (domain.Role, error) {
	keys := p.current()
	if keys == nil {
		return "", ErrUnavailable
	}
	var claims jwt.Claims
	var rest map[string]any
	if err := verifyToken(keys, token, &claims, &rest); err != nil {
		return "", err
	}
	now := p.o.Clock()
	if claims.Expiry == nil {
		return "", refuse(Expired, errors.New("the token has no end"))
	}
	err := claims.ValidateWithLeeway(jwt.Expected{Issuer: p.o.Issuer, AnyAudience: jwt.Audience{p.o.Audience}, Time: now}, leeway)
	switch {
	case err == nil:
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return "", refuse(WrongIssuer, err)
	case errors.Is(err, jwt.ErrInvalidAudience):
		return "", refuse(WrongAudience, err)
	case errors.Is(err, jwt.ErrExpired):
		return "", refuse(Expired, err)
	case errors.Is(err, jwt.ErrNotValidYet), errors.Is(err, jwt.ErrIssuedInTheFuture):
		return "", refuse(NotYetValid, err)
	default:
		return "", refuse(Malformed, err)
	}
	// A list of one role is refused as well: roles exclude one another, and a
	// provider that can name several will.
	department, _ := rest[p.o.DepartmentClaim].(string)
	named, _ := rest[p.o.RoleClaim].(string)
	role, err := caller(p.o.Department, department, named)
	if err != nil {
		return "", err
	}
	known := knownToken{role: role, until: claims.Expiry.Time().Add(leeway), keys: keys}
	if claims.NotBefore != nil {
		known.from = claims.NotBefore.Time().Add(-leeway)
	}
	p.remember(token, known)
	return role, nil
}

// verifyToken checks the signature and reads the claims.
func verifyToken(keys *keySet, token string, into ...any) error {
	if len(token) > maxToken || strings.Count(token, ".") != 2 {
		return refuse(Malformed, nil)
	}
	var unexpected *jose.ErrUnexpectedSignatureAlgorithm
	signed, err := jwt.ParseSigned(token, algorithms)
	switch {
	case errors.As(err, &unexpected):
		return refuse(Algorithm, nil)
	case err != nil:
		return refuse(Malformed, nil)
	case len(signed.Headers) != 1:
		return refuse(Malformed, nil)
	}
	header := signed.Headers[0]
	candidates := keys.set.Key(header.KeyID)
	if header.KeyID == "" || len(candidates) != 1 {
		return refuse(UnknownKey, nil)
	}
	key := candidates[0]
	if key.Algorithm != "" && key.Algorithm != header.Algorithm {
		return refuse(Algorithm, nil)
	}
	// The header's own "jwk", if there is one, is never looked at.
	if err := signed.Claims(key.Key, into...); err != nil {
		return refuse(Signature, nil)
	}
	return nil
}

// remember keeps a verdict. When too many are kept all are forgotten: they are
// found again.
func (p *Provider) remember(token string, known knownToken) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) >= maxKnown {
		clear(p.known)
	}
	p.known[sha256.Sum256([]byte(token))] = known
}
