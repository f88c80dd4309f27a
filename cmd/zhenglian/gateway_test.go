package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/chaincode"
	"github.com/zhenglian/zhenglian/chaincode/chaincodetest"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/ledger/ledgertest"
	"github.com/zhenglian/zhenglian/gateway/tilelog"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// gatewayFolder is a department's gateway folder as the network renders it.
type gatewayFolder struct {
	t      *testing.T
	dir    string
	config map[string]any
}

func writeTestFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func writeIdentity(t *testing.T, dir string, id *prooftest.Identity) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(id.Key)
	if err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, filepath.Join(dir, "cert.pem"), id.PEM())
	writeTestFile(t, filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
}

// newGatewayFolder writes the folder of the department's gateway. Its tokens are
// "zl_" and a role. The departments' authorities are those of chain, if given.
func newGatewayFolder(t *testing.T, code domain.DepartmentCode, chain *ledgertest.Chain) *gatewayFolder {
	t.Helper()
	state := t.TempDir()
	f := &gatewayFolder{t: t, dir: filepath.Join(state, "departments", string(code), "gateway")}
	consortium := prooftest.New()
	own := consortium.Department(code)
	anchors := consortium.Anchors()
	if chain != nil {
		for i := range anchors.Departments {
			anchors.Departments[i].CARoots = []string{chain.CARoot(anchors.Departments[i].MSPID)}
		}
	}
	trust, err := domain.Canonical(anchors)
	if err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, filepath.Join(state, "trust", "consortium.json"), trust)

	var users []any
	var tokens []any
	for _, role := range domain.Roles {
		if role == domain.RoleGateway {
			continue
		}
		writeIdentity(t, filepath.Join(f.dir, "..", "users", string(role)), own.Authority.Issue(string(role), "client"))
		users = append(users, map[string]any{"role": role, "certificate": "../users/" + string(role) + "/cert.pem", "key": "../users/" + string(role) + "/key.pem"})
		sum := sha256.Sum256([]byte("zl_" + string(role)))
		tokens = append(tokens, map[string]any{"role": role, "sha256": hex.EncodeToString(sum[:])})
	}
	writeIdentity(t, filepath.Join(f.dir, "identity"), own.Client)
	f.write("tokens.json", map[string]any{"format": "zhenglian-tokens/1", "tokens": tokens})
	logKey, _, err := note.GenerateKey(prooftest.NewStream("log "+string(code)), own.LogOrigin)
	if err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, filepath.Join(f.dir, "log.key"), []byte(logKey+"\n"))

	peers := []any{}
	for _, d := range append([]*prooftest.Department{own}, consortium.Departments...) {
		if d == own && len(peers) > 0 {
			continue
		}
		writeTestFile(t, filepath.Join(f.dir, "tls", string(d.Code)+".pem"), d.Authority.PEM())
		peers = append(peers, map[string]any{"department": d.Code, "mspId": d.MSPID, "endpoint": "127.0.0.1:1", "tlsRoots": "tls/" + string(d.Code) + ".pem", "serverName": "localhost"})
	}
	f.config = map[string]any{
		"format": "zhenglian-gateway/1", "department": code, "channel": "zhenglian", "chaincode": "zhenglian",
		"listen": "127.0.0.1:0", "publicUrl": "http://127.0.0.1:8082", "trust": "../../../trust/consortium.json",
		"peers":   peers,
		"service": map[string]any{"mspId": own.MSPID, "certificate": "identity/cert.pem", "key": "identity/key.pem"},
		"users":   users, "tokens": "tokens.json", "data": "data",
		"log":            map[string]any{"origin": own.LogOrigin, "key": "log.key"},
		"anchorInterval": "100ms", "redis": "",
	}
	f.write("gateway.json", f.config)
	return f
}

func (f *gatewayFolder) write(name string, v any) {
	f.t.Helper()
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		f.t.Fatal(err)
	}
	writeTestFile(f.t, filepath.Join(f.dir, name), data)
}

func (f *gatewayFolder) file() string  { return filepath.Join(f.dir, "gateway.json") }
func (f *gatewayFolder) state() string { return filepath.Join(f.dir, "..", "..", "..") }

func TestGatewayCheckConfig(t *testing.T) {
	f := newGatewayFolder(t, "police", nil)
	for _, args := range [][]string{
		{"gateway", "--config", f.file(), "--check-config"},
		{"gateway", "--department", "police", "--state", f.state(), "--check-config"},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), args, nil, &stdout, &stderr); code != exitOK {
			t.Fatalf("%v: exit code %d: %s", args, code, &stderr)
		}
		if !strings.Contains(stdout.String(), "is in order") {
			t.Errorf("%v: says %q", args, &stdout)
		}
	}
	if _, err := os.Stat(filepath.Join(f.dir, "data")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("checking made the data folder: %v", err)
	}
}

func TestGatewayUsage(t *testing.T) {
	for _, args := range [][]string{
		{"gateway"},
		{"gateway", "--config", "a", "--department", "police"},
		{"gateway", "--department", "../police"},
		{"gateway", "--department", "nobody", "--state", t.TempDir()},
		{"gateway", "--config", filepath.Join(t.TempDir(), "none.json")},
	} {
		var stderr bytes.Buffer
		if code := run(t.Context(), args, nil, io.Discard, &stderr); code != exitUsage || stderr.Len() == 0 {
			t.Errorf("%v: exit code %d: %s", args, code, &stderr)
		}
	}
}

// set changes the value at path, for example "peers.0.endpoint"; nil removes it.
func set(v any, path string, value any) {
	name, rest, deeper := strings.Cut(path, ".")
	switch v := v.(type) {
	case map[string]any:
		switch {
		case deeper:
			set(v[name], rest, value)
		case value == nil:
			delete(v, name)
		default:
			v[name] = value
		}
	case []any:
		var i int
		if _, err := fmt.Sscan(name, &i); err != nil {
			panic(err)
		}
		if deeper {
			set(v[i], rest, value)
		} else {
			v[i] = value
		}
	default:
		panic("no such path: " + path)
	}
}

func TestGatewayConfigIsRefused(t *testing.T) {
	tests := []struct {
		name  string
		path  string
		value any
		want  string // in the error, beside the file's name
	}{
		{"unknown key", "listenn", "x", `"listenn"`},
		{"unknown key, deep", "log.more", "x", `"more"`},
		{"other format", "format", "zhenglian-gateway/2", "field format"},
		{"wrong type", "peers", "x", "peers"},
		{"no department", "department", nil, "field department: is missing"},
		{"bad department", "department", "Police!", "field department"},
		{"foreign department", "department", "harbour", `the trust anchors do not name "harbour"`},
		{"other channel", "channel", "other", "field channel"},
		{"other chaincode", "chaincode", "other", "field chaincode"},
		{"no channel", "channel", nil, "field channel"},
		{"no port", "listen", "127.0.0.1", "field listen"},
		{"port is no number", "listen", "127.0.0.1:http", "field listen"},
		{"port too high", "listen", "127.0.0.1:70000", "field listen"},
		{"public URL with a path", "publicUrl", "http://h/x", "field publicUrl"},
		{"public URL with a fragment", "publicUrl", "http://h/#", "field publicUrl"},
		{"public URL of another scheme", "publicUrl", "ftp://h", "field publicUrl"},
		{"public URL with a password", "publicUrl", "http://a:b@h", "field publicUrl"},
		{"no trust file", "trust", "none.json", "field trust"},
		{"trust file is something else", "trust", "tokens.json", "field trust"},
		{"no peers", "peers", []any{}, "field peers"},
		{"first peer is another's", "peers.0.department", "civil", "field peers[0].department"},
		{"peer twice", "peers.2.department", "police", "field peers[2].department"},
		{"peer without port", "peers.1.endpoint", "localhost", "field peers[1].endpoint"},
		{"peer without roots", "peers.1.tlsRoots", "tls/none.pem", "field peers[1].tlsRoots"},
		{"peer without MSP", "peers.1.mspId", "", "field peers[1].mspId"},
		{"other MSP", "service.mspId", "CivilMSP", "field service.mspId"},
		{"no certificate", "service.certificate", "none.pem", "field service.certificate"},
		{"no key", "service.key", "", "field service.key: is missing"},
		{"unknown role", "users.0.role", "king", "field users[0].role"},
		{"gateway is no user", "users.0.role", "gateway", "field users[0].role"},
		{"role twice", "users.0.role", "operator", `"operator" has an identity already`},
		{"role without identity", "users", []any{}, `role "admin" has no identity`},
		{"user's key is a folder", "users.1.key", "../users", "field users[1].key"},
		{"no tokens", "tokens", "none.json", "field tokens"},
		{"tokens are something else", "tokens", "log.key", "field tokens"},
		{"no data folder", "data", nil, "field data"},
		{"no log key", "log.key", "none.key", "field log.key"},
		{"log key is something else", "log.key", "tokens.json", "field log.key"},
		{"other origin", "log.origin", "elsewhere.example/log", "field log.origin"},
		{"no interval", "anchorInterval", nil, "field anchorInterval"},
		{"interval without unit", "anchorInterval", "2", "field anchorInterval"},
		{"interval too short", "anchorInterval", "1ms", "field anchorInterval"},
		{"redis is no URL", "redis", "secret@localhost:6379", "field redis"},
		{"redis on another machine in the open", "redis", "redis://:secret@cache.example:6379/0", "field redis"},
		{"negative limit", "limits", map[string]any{"addressBurst": -1}, "field limits.address"},
		{"negative public limit", "limits", map[string]any{"publicPerSecond": -1}, "field limits.public"},
		{"unknown limit", "limits", map[string]any{"burst": 1}, `"burst"`},
		{"lag without unit", "evidence", map[string]any{"maxLag": "60"}, "field evidence.maxLag"},
		{"lag too long", "evidence", map[string]any{"maxLag": "2h"}, "field evidence.maxLag"},
		{"watches itself", "gateways", []any{map[string]any{"department": "police", "url": "http://h"}}, "field gateways[0].department"},
		{"watches a stranger", "gateways", []any{map[string]any{"department": "harbour", "url": "http://h"}}, `the trust anchors do not name "harbour"`},
		{"watches one twice", "gateways", []any{map[string]any{"department": "civil", "url": "http://h"}, map[string]any{"department": "civil", "url": "http://h"}}, "field gateways[1].department"},
		{"watches nowhere", "gateways", []any{map[string]any{"department": "civil"}}, "field gateways[0].url: is missing"},
		{"watched URL with a path", "gateways", []any{map[string]any{"department": "civil", "url": "http://h/x"}}, "field gateways[0].url"},
		{"watched URL with a password", "gateways", []any{map[string]any{"department": "civil", "url": "ftp://h"}}, "field gateways[0].url"},
		{"watch without unit", "watch", map[string]any{"every": "1"}, "field watch.every"},
		{"watch without patience", "watch", map[string]any{"patience": "0s"}, "field watch.patience"},
		{"watch with little silence", "watch", map[string]any{"silence": "1ms"}, "field watch.silence"},
		{"unknown watch", "watch", map[string]any{"often": "1s"}, `"often"`},
		{"unknown rule", "monitor", map[string]any{"rules": []any{map[string]any{"id": "mood"}}}, "field monitor.rules[0]"},
		{"negative bound", "monitor", map[string]any{"rules": []any{map[string]any{"id": "rate", "bound": -1}}}, "field monitor.rules[0]"},
		{"rule twice", "monitor", map[string]any{"rules": []any{map[string]any{"id": "rate"}, map[string]any{"id": "rate"}}}, "field monitor.rules[1].id"},
		{"audit without trail", "audit", audit(map[string]any{"trail": ""}), "field audit.trail: is missing"},
		{"audit in another database", "audit", audit(map[string]any{"trail": "mysql://a:secret@h/x"}), "field audit.trail"},
		{"audit without logs", "audit", audit(map[string]any{"logs": []any{}}), "field audit.logs"},
		{"audit without token", "audit", audit(map[string]any{"logs": []any{map[string]any{"department": "civil", "url": "http://h"}}}), "field audit.logs[0].tokenFile: is missing"},
		{"audit token is no token", "audit", audit(map[string]any{"logs": []any{map[string]any{"department": "civil", "url": "http://h", "tokenFile": "tokens.json"}}}), "field audit.logs[0].tokenFile"},
		{"audit of a log twice", "audit", audit(map[string]any{"logs": []any{
			map[string]any{"department": "civil", "url": "http://h", "tokenFile": "log.key"}, map[string]any{"department": "civil", "url": "http://h", "tokenFile": "log.key"},
		}}), "field audit.logs[1].department"},
		{"audit never pulls", "audit", audit(map[string]any{"every": "2h"}), "field audit.every"},
		{"audit without grace", "audit", audit(map[string]any{"grace": "1ms"}), "field audit.grace"},
		{"PEM is something else", "service.certificate", "tokens.json", "gateway"},
		{"key of another", "service.key", "../users/admin/key.pem", "gateway"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newGatewayFolder(t, "police", nil)
			set(f.config, tt.path, tt.value)
			f.write("gateway.json", f.config)
			var stderr bytes.Buffer
			code := run(t.Context(), []string{"gateway", "--config", f.file(), "--check-config"}, nil, io.Discard, &stderr)
			if code != exitUsage {
				t.Errorf("exit code %d, want %d", code, exitUsage)
			}
			if got := stderr.String(); !strings.Contains(got, tt.want) || !strings.Contains(got, f.file()) {
				t.Errorf("says %q, want the file and %q", got, tt.want)
			}
			if got := stderr.String(); strings.Contains(got, "secret") || strings.Contains(got, "PRIVATE") {
				t.Errorf("says a secret: %q", got)
			}
		})
	}
	t.Run("all at once", func(t *testing.T) {
		f := newGatewayFolder(t, "police", nil)
		set(f.config, "listen", "x")
		set(f.config, "tokens", "none.json")
		f.write("gateway.json", f.config)
		_, err := loadGateway(f.file(), "")
		if err == nil || !strings.Contains(err.Error(), "field listen") || !strings.Contains(err.Error(), "field tokens") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("trailing bytes", func(t *testing.T) {
		f := newGatewayFolder(t, "police", nil)
		data, err := os.ReadFile(f.file())
		if err != nil {
			t.Fatal(err)
		}
		writeTestFile(t, f.file(), append(data, "{}"...))
		if _, err := loadGateway(f.file(), ""); err == nil || !strings.Contains(err.Error(), "bytes follow") {
			t.Errorf("got %v", err)
		}
	})
}

// audit is a configuration of the auditor with some fields changed.
func audit(changes map[string]any) map[string]any {
	out := map[string]any{
		"trail": "data/trail.db", "logs": []any{map[string]any{"department": "civil", "url": "http://h", "tokenFile": "log.key"}},
	}
	maps.Copy(out, changes)
	return out
}

func TestGatewayEvidenceSettings(t *testing.T) {
	f := newGatewayFolder(t, "police", nil)
	s, err := loadGateway(f.file(), "")
	if err != nil {
		t.Fatal(err)
	}
	if s.maxLag != time.Minute || len(s.monitor) == 0 || s.audit != nil || len(s.watch.logs) != 0 || s.watch.every != 0 {
		t.Errorf("without settings: lag %v, %d rules, audit %v, watch %+v", s.maxLag, len(s.monitor), s.audit, s.watch)
	}
	f.config["evidence"] = map[string]any{"maxLag": "5s"}
	f.config["gateways"] = []any{map[string]any{"department": "civil", "url": "http://h:1/"}}
	f.config["watch"] = map[string]any{"every": "2s", "patience": "5s", "silence": "1h"}
	f.config["monitor"] = map[string]any{"rules": []any{}}
	f.config["audit"] = audit(map[string]any{"trail": "postgres://h/x", "every": "1s"})
	f.write("gateway.json", f.config)
	if s, err = loadGateway(f.file(), ""); err != nil {
		t.Fatal(err)
	}
	if s.maxLag != 5*time.Second || len(s.monitor) != 0 || s.watch.logs["civil"] == nil || s.watch.every != 2*time.Second || s.watch.patience != 5*time.Second || s.watch.silence != time.Hour {
		t.Errorf("with settings: lag %v, %d rules, watch %+v", s.maxLag, len(s.monitor), s.watch)
	}
	if a := s.audit; a == nil || a.trail != "postgres://h/x" || a.every != time.Second || a.grace != defaultAuditGrace || a.logs["civil"] == nil {
		t.Errorf("audit is %+v", a)
	}
	f.config["audit"] = audit(nil)
	f.write("gateway.json", f.config)
	if s, err = loadGateway(f.file(), ""); err != nil || s.audit.trail != filepath.Join(f.dir, "data", "trail.db") {
		t.Errorf("trail is at %+v, %v", s.audit, err)
	}
}

func TestGatewayLimits(t *testing.T) {
	f := newGatewayFolder(t, "police", nil)
	f.config["limits"] = map[string]any{"addressPerSecond": 7.5, "identityBurst": 9}
	f.write("gateway.json", f.config)
	s, err := loadGateway(f.file(), "rediss://:secret@cache:6379/1")
	if err != nil {
		t.Fatal(err)
	}
	if s.address.PerSecond != 7.5 || s.address.Burst == 0 || s.identity.Burst != 9 || s.identity.PerSecond == 0 {
		t.Errorf("limits are %+v and %+v", s.address, s.identity)
	}
	if s.Redis != "rediss://:secret@cache:6379/1" {
		t.Errorf("--redis does not count: %q", s.Redis)
	}
}

func TestGatewayOwnSettings(t *testing.T) {
	f := newGatewayFolder(t, "police", nil)
	f.config["limits"] = map[string]any{"addressPerSecond": 7.5, "identityBurst": 9}
	f.write("gateway.json", f.config)
	f.write("own.json", map[string]any{
		"limits": map[string]any{"addressPerSecond": 3, "writesInHand": 5}, "requests": map[string]any{"anchorEvery": "7s"},
	})
	s, err := loadGateway(f.file(), "")
	if err != nil {
		t.Fatal(err)
	}
	if s.address.PerSecond != 3 || s.identity.Burst != 9 || s.writesInHand != 5 || s.identities.anchorEvery != 7*time.Second {
		t.Errorf("limits are %+v, %+v and %d writes in hand, the log of requests is anchored every %s", s.address, s.identity, s.writesInHand, s.identities.anchorEvery)
	}
	for name, c := range map[string]struct {
		own  map[string]any
		want string
	}{
		"what the consortium decides": {map[string]any{"channel": "mine"}, `own.json: json: unknown field "channel"`},
		"a bad value":                 {map[string]any{"requests": map[string]any{"anchorEvery": "1ms"}}, "gateway.json with own.json: field requests.anchorEvery"},
		"writes out of bounds":        {map[string]any{"limits": map[string]any{"writesInHand": -1}}, "field limits.writesInHand: -1 is not between 0 and 10000"},
		"a queue out of bounds":       {map[string]any{"limits": map[string]any{"recordsWaiting": 1_000_001}}, "field limits.recordsWaiting: 1000001 is not between 0 and 1000000"},
	} {
		f.write("own.json", c.own)
		if _, err := loadGateway(f.file(), ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestGatewayPortInUse(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	f := newGatewayFolder(t, "police", nil)
	f.config["listen"] = other.Addr().String()
	f.write("gateway.json", f.config)
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"gateway", "--config", f.file()}, nil, io.Discard, &stderr); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	if got := stderr.String(); !strings.Contains(got, "field listen") || !strings.Contains(got, other.Addr().String()) {
		t.Errorf("says %q", got)
	}
}

// contracts answers a handler that runs the real chaincode.
func contracts(t *testing.T) ledgertest.Handler {
	t.Helper()
	cc, err := chaincode.New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	identities := make(map[domain.Caller]chaincodetest.Identity)
	return func(call ledgertest.Call) ([]byte, []domain.Write, error) {
		mu.Lock()
		id, ok := identities[call.Caller]
		if !ok {
			id = chaincodetest.NewIdentity(t, string(call.Caller.MSPID), map[string]string{
				"zhenglian.role": string(call.Caller.Role), "zhenglian.department": string(call.Caller.Department),
			})
			identities[call.Caller] = id
		}
		mu.Unlock()
		state := chaincodetest.NewLedger(call.Tx.Channel)
		for _, k := range call.State.Keys("") {
			state.Set(k, call.State.Get(k))
		}
		r := state.Simulate(cc, chaincodetest.Proposal{
			Creator: id, TxID: string(call.Tx.ID), Time: call.Tx.Time, Function: call.Transaction, Args: call.Arguments(),
		})
		if !r.OK() {
			if e, ok := domain.ParseError(r.Message); ok {
				return nil, nil, e
			}
			return nil, nil, errors.New(r.Message)
		}
		writes := []domain.Write{}
		for _, w := range r.Writes {
			writes = append(writes, domain.Write{Key: w.Key, Value: w.Value, Delete: w.Delete})
		}
		return r.Payload, writes, nil
	}
}

// runningGateway is a gateway that runs in this process.
type runningGateway struct {
	t    *testing.T
	url  string
	stop context.CancelFunc
	done chan error
	log  *bytes.Buffer // read it after done
}

func startGateway(t *testing.T, f *gatewayFolder, chain ledger.Adapter, listener net.Listener) *runningGateway {
	t.Helper()
	setup, err := loadGateway(f.file(), "")
	if err != nil {
		t.Fatal(err)
	}
	if listener == nil {
		if listener, err = net.Listen("tcp", setup.Listen); err != nil {
			t.Fatal(err)
		}
	}
	logBuffer := new(bytes.Buffer)
	logger := slog.New(slog.NewJSONHandler(logBuffer, nil))
	shared, err := openCache(setup, logger)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	g := &runningGateway{t: t, url: "http://" + listener.Addr().String(), stop: stop, done: make(chan error, 1), log: logBuffer}
	go func() {
		g.done <- runGateway(ctx, setup, chain, shared, listener, logger)
	}()
	t.Cleanup(func() { stop() })
	return g
}

// end stops the gateway and answers what its run answered.
func (g *runningGateway) end() error {
	g.t.Helper()
	g.stop()
	select {
	case err := <-g.done:
		return err
	case <-time.After(20 * time.Second):
		g.t.Fatal("the gateway does not end")
		return nil
	}
}

// call sends a request and decodes the answer into out, unless nil.
func (g *runningGateway) call(method, path string, role domain.Role, body, out any) int {
	g.t.Helper()
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			g.t.Fatal(err)
		}
		reader = bytes.NewReader(data)
	}
	r, err := http.NewRequest(method, g.url+path, reader)
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if role != "" {
		r.Header.Set("Authorization", "Bearer zl_"+string(role))
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			g.t.Fatalf("%s %s: status %d: %v: %s", method, path, res.StatusCode, err, data)
		}
	}
	if res.StatusCode >= 400 {
		g.t.Logf("%s %s: status %d: %s", method, path, res.StatusCode, data)
	}
	return res.StatusCode
}

// await waits until condition holds.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (g *runningGateway) must(want int, method, path string, role domain.Role, body, out any) {
	g.t.Helper()
	if got := g.call(method, path, role, body, out); got != want {
		g.t.Fatalf("%s %s: status %d, want %d", method, path, got, want)
	}
}

// TestGatewayFlow runs a whole gateway on the real contracts, an in-memory ledger
// and a real log and index: what it writes is anchored, read back and proven.
func TestGatewayFlow(t *testing.T) {
	chain := ledgertest.NewChain(contracts(t))
	chain.SetClock(func() time.Time { return time.Now().UTC().Truncate(time.Millisecond) })
	f := newGatewayFolder(t, "bigdata", chain)
	l := chain.Ledger("bigdata")
	g := startGateway(t, f, l, nil)
	await(t, "the gateway is ready", func() bool { return g.call("GET", "/readyz", "", nil, nil) == http.StatusOK })

	var trust proof.Anchors
	g.must(http.StatusOK, "GET", "/v1/trust", "", nil, &trust)
	own := trust.Departments[0]
	g.must(http.StatusCreated, "POST", "/v1/departments", domain.RoleAdmin, api.RegisterDepartment{
		Code: string(own.Code), MSPID: string(own.MSPID), NameZh: own.NameZh, NameEn: own.NameEn, USCC: own.USCC, Lead: true,
	}, nil)
	g.must(http.StatusCreated, "POST", "/v1/logs", domain.RoleAdmin, api.RegisterLog{Origin: own.LogOrigin, VerifierKey: own.LogKey}, nil)

	now := time.Now().UTC().Truncate(time.Second)
	const typeCode = "11100000000013338W032"
	g.must(http.StatusCreated, "POST", "/v1/issuers", domain.RoleAdmin, api.AuthoriseIssuer{
		Issuer: string(own.Code), TypeCode: typeCode, TypeNameZh: "示例证照", TypeNameEn: "Sample", Basis: "示例法第一条",
		Period: api.Period{From: now.Add(-time.Hour), To: now.AddDate(10, 0, 0)},
	}, nil)
	var issued api.IssuedCertificate
	g.must(http.StatusCreated, "POST", "/v1/certificates", domain.RoleOperator, api.IssueCertificate{
		TypeCode: typeCode, TypeNameZh: "示例证照", TypeNameEn: "Sample", HolderKind: api.HolderKindPerson,
		HolderSaltedRef: strings.Repeat("ab", 32), ContentDigest: strings.Repeat("cd", 32), Serial: "202600001", ServiceItem: "000100001000",
		Validity: api.Period{From: now.Add(-time.Hour), To: now.AddDate(1, 0, 0)},
	}, &issued)
	ref := issued.Record.Content.Ref
	if got := g.call("GET", "/v/"+ref, "", nil, nil); got != http.StatusNotFound {
		t.Errorf("page of a proposed certificate: status %d", got)
	}
	g.must(http.StatusOK, "POST", "/v1/certificates/"+ref+"/actions/decide", domain.RoleReviewer, api.DecideCertificate{Decision: api.CertificateDecisionApprove}, nil)

	var v api.Verification
	await(t, "the certificate verifies", func() bool {
		g.must(http.StatusOK, "GET", "/v1/verify/"+ref, "", nil, &v)
		return v.Verdict == api.VerdictValid
	})
	var bundle json.RawMessage
	g.must(http.StatusOK, "GET", "/v1/verify/"+ref+"/proof", "", nil, &bundle)
	if verdict := proof.Verify(bundle, &trust, proof.Options{}); verdict.Overall != proof.Valid {
		t.Errorf("the proof is %q: %s", verdict.Overall, verdict.Reason)
	}
	if got := g.call("GET", "/v/"+ref, "", nil, nil); got != http.StatusOK {
		t.Errorf("page: status %d", got)
	}
	var info api.ChainInfo
	g.must(http.StatusOK, "GET", "/v1/chain", domain.RoleAuditor, nil, &info)
	if len(info.Departments) != 4 || uint64(info.Height) != chain.Height() {
		t.Errorf("chain is %+v", info)
	}
	// A role beyond its duty is refused with the rule.
	var refused api.Problem
	g.must(http.StatusForbidden, "POST", "/v1/certificates/"+ref+"/actions/decide", domain.RoleOperator, api.DecideCertificate{Decision: api.CertificateDecisionApprove}, &refused)
	if !strings.Contains(refused.Detail, "reviewer") {
		t.Errorf("the refusal does not name the rule: %s", refused.Detail)
	}

	// With every peer gone, what is known is still said, and not ready is too.
	for _, d := range ledgertest.Departments {
		chain.SetDown(d.Code, errors.New("down"))
	}
	l.SetFault(func(op string) (bool, error) {
		if strings.HasPrefix(op, "endorse ") {
			return false, &ledger.UnavailableError{Err: errors.New("down")}
		}
		return true, nil
	})
	await(t, "the gateway says that it is not ready", func() bool {
		return g.call("GET", "/readyz", "", nil, nil) == http.StatusServiceUnavailable
	})
	g.must(http.StatusOK, "GET", "/livez", "", nil, nil)
	g.must(http.StatusOK, "GET", "/v1/certificates/"+ref, domain.RoleAuditor, nil, nil)
	g.must(http.StatusServiceUnavailable, "POST", "/v1/logs", domain.RoleAdmin, api.RegisterLog{Origin: own.LogOrigin, VerifierKey: own.LogKey}, nil)
	for _, d := range ledgertest.Departments {
		chain.SetDown(d.Code, nil)
	}
	l.SetFault(nil)
	await(t, "the gateway is ready again", func() bool { return g.call("GET", "/readyz", "", nil, nil) == http.StatusOK })

	start := time.Now()
	if err := g.end(); err != nil {
		t.Errorf("a shutdown that was asked for answers %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the shutdown took %v", took)
	}
	if strings.Contains(g.log.String(), "zl_") || strings.Contains(g.log.String(), issued.CheckCode) {
		t.Error("the log holds a secret")
	}

	// It resumes with all data.
	g = startGateway(t, f, chain.Ledger("bigdata"), nil)
	g.must(http.StatusOK, "GET", "/v1/certificates/"+ref, domain.RoleAuditor, nil, nil)
	if err := g.end(); err != nil {
		t.Errorf("second run: %v", err)
	}
}

// A gateway that finds no ledger listens all the same and says why it is not
// ready.
func TestGatewayStartsWithoutLedger(t *testing.T) {
	chain := ledgertest.NewChain(contracts(t))
	for _, d := range ledgertest.Departments {
		chain.SetDown(d.Code, errors.New("down"))
	}
	g := startGateway(t, newGatewayFolder(t, "police", chain), chain.Ledger("police"), nil)
	await(t, "the gateway lives", func() bool { return g.call("GET", "/livez", "", nil, nil) == http.StatusOK })
	var p api.Problem
	g.must(http.StatusServiceUnavailable, "GET", "/readyz", "", nil, &p)
	if !strings.HasPrefix(p.Detail, "not ready: ") {
		t.Errorf("the reason is %q", p.Detail)
	}
	var v api.Verification
	g.must(http.StatusOK, "GET", "/v1/verify/"+strings.Repeat("0", 32), "", nil, &v)
	if v.Verdict != api.VerdictCannotCheck {
		t.Errorf("the verdict is %q", v.Verdict)
	}
	for _, d := range ledgertest.Departments {
		chain.SetDown(d.Code, nil)
	}
	await(t, "the gateway is ready", func() bool { return g.call("GET", "/readyz", "", nil, nil) == http.StatusOK })
	if err := g.end(); err != nil {
		t.Error(err)
	}
}

// brokenListener fails after a while, as if the socket were taken away.
type brokenListener struct {
	net.Listener
	broken chan struct{}
}

func (l *brokenListener) Accept() (net.Conn, error) {
	<-l.broken
	return nil, errors.New("socket is gone")
}

func TestGatewayEndsWithAPart(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener := &brokenListener{Listener: inner, broken: make(chan struct{})}
	chain := ledgertest.NewChain(contracts(t))
	f := newGatewayFolder(t, "police", chain)
	g := startGateway(t, f, chain.Ledger("police"), listener)
	close(listener.broken)
	select {
	case err := <-g.done:
		if err == nil || !strings.Contains(err.Error(), "HTTP server ended") || !strings.Contains(err.Error(), "socket is gone") {
			t.Errorf("got %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the gateway goes on without its server")
	}
}

// A gateway that is told to stop before it serves stops as if it had served.
func TestGatewayStopsWhileStarting(t *testing.T) {
	chain := ledgertest.NewChain(contracts(t))
	g := startGateway(t, newGatewayFolder(t, "police", chain), chain.Ledger("police"), nil)
	if err := g.end(); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestGatewayDataIsTaken(t *testing.T) {
	chain := ledgertest.NewChain(contracts(t))
	f := newGatewayFolder(t, "police", chain)
	first := startGateway(t, f, chain.Ledger("police"), nil)
	await(t, "the gateway lives", func() bool { return first.call("GET", "/livez", "", nil, nil) == http.StatusOK })
	second := startGateway(t, f, chain.Ledger("police"), nil)
	select {
	case err := <-second.done:
		if err == nil || !strings.Contains(err.Error(), "in use") {
			t.Errorf("got %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("two gateways run on one log")
	}
	if err := first.end(); err != nil {
		t.Error(err)
	}
}

// writeLog writes a department's access log of n records before its gateway runs.
func (f *gatewayFolder) writeLog(owner, other domain.DepartmentCode, n int) {
	f.t.Helper()
	key, err := os.ReadFile(filepath.Join(f.dir, "log.key"))
	if err != nil {
		f.t.Fatal(err)
	}
	origin := f.config["log"].(map[string]any)["origin"].(string)
	log, err := tilelog.Open(f.t.Context(), tilelog.Options{
		Dir: filepath.Join(f.dir, "data", "log"), Origin: origin, Key: strings.TrimSpace(string(key)), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	var entries [][]byte
	for i := range n {
		r := domain.AccessRecord{
			Schema: domain.SchemaAccessRecord, Direction: domain.DirectionProvider, CallID: fmt.Sprintf("call-%s-%011x", owner, i),
			GrantID: strings.Repeat("ab", 16), GrantSeq: 1, CatalogCode: "307010000/000001", CatalogVersion: 1, Items: []string{"姓名"},
			Provider: owner, Consumer: other, Purpose: "核验", LegalBasis: "示例法第一条", ServiceItem: "000100001000", System: "示例系统",
			Operator: "op-1", OperatorRole: "窗口", RequestDigest: strings.Repeat("cd", 32), ResponseDigest: strings.Repeat("ef", 32),
			RecordCount: 1, Channel: domain.ChannelAPI, At: now, RespondedAt: now, Result: domain.ResultOK, LoggedAt: now,
		}
		if err := r.Validate(); err != nil {
			f.t.Fatal(err)
		}
		data, err := domain.Canonical(r)
		if err != nil {
			f.t.Fatal(err)
		}
		entries = append(entries, data)
	}
	if _, err := log.Append(f.t.Context(), entries); err != nil {
		f.t.Fatal(err)
	}
	if err := log.Close(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

// TestGatewaysWatchOneAnother runs the gateways of two departments, each of which
// watches the other's log, the first reading both for auditors. A tile that one of
// them loses is an alarm on the ledger, raised by the other.
func TestGatewaysWatchOneAnother(t *testing.T) {
	const records = 300 // a full tile and a part
	chain := ledgertest.NewChain(contracts(t))
	chain.SetClock(func() time.Time { return time.Now().UTC().Truncate(time.Millisecond) })
	codes := []domain.DepartmentCode{"bigdata", "police"}
	folders := make(map[domain.DepartmentCode]*gatewayFolder)
	listeners := make(map[domain.DepartmentCode]net.Listener)
	for i, code := range codes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[code] = l
		folders[code] = newGatewayFolder(t, code, chain)
		folders[code].writeLog(code, codes[1-i], records)
	}
	url := func(code domain.DepartmentCode) string { return "http://" + listeners[code].Addr().String() }
	var audited []any
	for i, code := range codes {
		f := folders[code]
		f.config["gateways"] = []any{map[string]any{"department": codes[1-i], "url": url(codes[1-i])}}
		f.config["watch"] = map[string]any{"every": "50ms", "patience": "200ms"}
		// The test has one address for all: nobody may be turned away for that.
		f.config["limits"] = map[string]any{"addressPerSecond": 1e5, "addressBurst": 100000}
		writeTestFile(t, filepath.Join(folders["bigdata"].dir, "audit", string(code)), []byte("zl_auditor\n"))
		audited = append(audited, map[string]any{"department": code, "url": url(code), "tokenFile": "audit/" + string(code)})
	}
	folders["bigdata"].config["audit"] = map[string]any{"trail": "data/trail.db", "logs": audited, "every": "100ms"}
	running := make(map[domain.DepartmentCode]*runningGateway)
	for _, code := range codes {
		folders[code].write("gateway.json", folders[code].config)
		running[code] = startGateway(t, folders[code], chain.Ledger(code), listeners[code])
	}
	lead := running["bigdata"]
	await(t, "the gateways are ready", func() bool {
		return lead.call("GET", "/readyz", "", nil, nil) == http.StatusOK && running["police"].call("GET", "/readyz", "", nil, nil) == http.StatusOK
	})
	var trust proof.Anchors
	lead.must(http.StatusOK, "GET", "/v1/trust", "", nil, &trust)
	for i, code := range codes {
		for _, d := range trust.Departments {
			if d.Code != code {
				continue
			}
			lead.must(http.StatusCreated, "POST", "/v1/departments", domain.RoleAdmin, api.RegisterDepartment{
				Code: string(d.Code), MSPID: string(d.MSPID), NameZh: d.NameZh, NameEn: d.NameEn, USCC: d.USCC, Lead: i == 0,
			}, nil)
			running[code].must(http.StatusCreated, "POST", "/v1/logs", domain.RoleAdmin, api.RegisterLog{Origin: d.LogOrigin, VerifierKey: d.LogKey}, nil)
		}
	}

	logOf := func(g *runningGateway, code domain.DepartmentCode) api.AuditLog {
		var logs api.AuditLogs
		if g.call("GET", "/v1/audit/logs", domain.RoleAuditor, nil, &logs) != http.StatusOK {
			return api.AuditLog{}
		}
		for _, l := range logs.Items {
			if l.Department == string(code) {
				return l
			}
		}
		return api.AuditLog{}
	}
	verified := func(g *runningGateway, code domain.DepartmentCode) func() bool {
		return func() bool {
			l := logOf(g, code)
			return l.AnchoredSize == records && l.Watched != nil && l.Watched.Size == records && l.Watched.Problem == ""
		}
	}
	await(t, "bigdata has verified the log of police", verified(lead, "police"))
	await(t, "police has verified the log of bigdata", verified(running["police"], "bigdata"))
	await(t, "bigdata reads both logs for auditors", func() bool {
		a, b := logOf(lead, "bigdata").Audited, logOf(lead, "police").Audited
		return a != nil && b != nil && a.Size == records && b.Size == records
	})
	var alarms api.AlarmList
	lead.must(http.StatusOK, "GET", "/v1/alarms", domain.RoleAuditor, nil, &alarms)
	for _, a := range alarms.Items {
		t.Errorf("alarm about honest logs: %+v", a.Record)
	}

	if err := os.Remove(filepath.Join(folders["police"].dir, "data", "log", "tile", "0", "000")); err != nil {
		t.Fatal(err)
	}
	await(t, "the lost tile is an alarm on the ledger", func() bool {
		lead.must(http.StatusOK, "GET", "/v1/alarms?department=police", domain.RoleAuditor, nil, &alarms)
		for _, a := range alarms.Items {
			if a.Record.Kind == "missing_tile" && a.Record.Subject == "tile/0/000" && a.Record.Department == "bigdata" {
				return true
			}
		}
		return false
	})
	for _, code := range codes {
		if err := running[code].end(); err != nil {
			t.Errorf("%s: %v", code, err)
		}
	}
}
