package network

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The connection of a package keeps its address and gets the peer's present certificate.
func TestRenewConnections(t *testing.T) {
	l, def := rendered(t)
	dept := def.Departments[1]
	if err := renewConnections(l, dept); err != nil {
		t.Fatalf("before anything is built: %v", err)
	}
	built := l.Department(dept.Code, "peer", "data", "externalbuilder", "builds", "zhenglian_1.0-00", "release", "chaincode", "server", "connection.json")
	if err := writeJSON(built, map[string]any{"address": "127.0.0.1:1", "dial_timeout": "10s", "client_key": "old", "client_cert": "old", "root_cert": "old"}); err != nil {
		t.Fatal(err)
	}
	if err := renewConnections(l, dept); err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	data, err := os.ReadFile(built)
	if err == nil {
		err = json.Unmarshal(data, &got)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got["address"] != "127.0.0.1:1" || got["dial_timeout"] != "10s" {
		t.Errorf("the connection goes elsewhere: %v", got)
	}
	key, err := os.ReadFile(l.Department(dept.Code, "peer", "tls", "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	if got["client_key"] != string(key) || !strings.Contains(got["client_cert"], "CERTIFICATE") || !strings.Contains(got["root_cert"], "CERTIFICATE") {
		t.Errorf("the connection has old certificates: %v", got)
	}
	info, err := os.Stat(built)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its key is for others to read: %v, %v", info.Mode(), err)
	}
}

func TestDueAndRetired(t *testing.T) {
	l, def := rendered(t) // certificates that end in an hour
	dept := def.Departments[1]
	path := l.Department(dept.Code, "peer", "tls", "server.pem")
	for before, want := range map[time.Duration]bool{0: false, 30 * time.Minute: false, 2 * time.Hour: true} {
		r := &rotation{operation: &operation{Consortium: &Consortium{Layout: l}}, dept: dept, before: time.Now().Add(before), result: &RotateResult{}}
		due, err := r.due(path)
		if err != nil || due != want {
			t.Errorf("due within %s: %t, %v; want %t", before, due, err, want)
		}
		if kept := map[bool]int{true: 0, false: 1}[want]; r.result.Kept != kept {
			t.Errorf("%d kept, want %d", r.result.Kept, kept)
		}
	}
	r := &rotation{operation: &operation{Consortium: &Consortium{Layout: l}}, dept: dept, result: &RotateResult{Retired: l.Department(dept.Code, "retired")}}
	if err := r.retire("peer-tls", path); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(r.result.Retired, "peer-tls-*.pem"))
	if err != nil || len(files) != 1 {
		t.Fatalf("retired %v, %v", files, err)
	}
	if data, err := os.ReadFile(files[0]); err != nil || strings.Contains(string(data), "PRIVATE KEY") {
		t.Errorf("a key is kept: %v", err)
	}
}

func TestListed(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCRLSign | x509.KeyUsageCertSign, SubjectKeyId: []byte{1},
	}
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(crlExpiry),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: time.Now()}},
	}, ca, key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list})
	for serial, want := range map[int64]bool{7: true, 8: false} {
		if got := listed(text, &x509.Certificate{SerialNumber: big.NewInt(serial)}); got != want {
			t.Errorf("listed(%d) = %t", serial, got)
		}
	}
	for _, text := range []string{"", "nonsense", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"} {
		if n := len(revoked([]byte(text))); n != 0 {
			t.Errorf("%q revokes %d", text, n)
		}
	}
}

// A revocation list is published with the trust anchors and with the MSP.
func TestRevocationListIsTrusted(t *testing.T) {
	l, def := rendered(t)
	if err := writeFile(l.crl("police"), []byte("the list"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := l.saveState(State{Definition: def.Digest(), Versions: []string{"0.9", def.Chaincode.Version}}); err != nil {
		t.Fatal(err)
	}
	anchors, err := Anchors(l, def)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range anchors.Departments {
		if has := len(d.CRLs) == 1 && d.CRLs[0] == "the list"; has != (d.Code == "police") {
			t.Errorf("%s: lists %q", d.Code, d.CRLs)
		}
	}
	if got := strings.Join(anchors.Versions, " "); got != def.Chaincode.Version+" 0.9" {
		t.Errorf("trusted versions %q", got)
	}
}

func TestRevokeRefuses(t *testing.T) {
	l, _ := rendered(t)
	c := &Consortium{Layout: l, DefinitionPath: "consortium.yaml", Progress: NewProgress(io.Discard)}
	for name, tc := range map[string]struct {
		r     Revocation
		words string
	}{
		"nothing": {Revocation{Department: "police"}, "either --identity or --certificate"},
		"both":    {Revocation{Department: "police", Identity: "admin", Certificate: "x"}, "either --identity or --certificate"},
		"orderer": {Revocation{Department: "police", Identity: "orderer"}, "rotate it"},
		"TLS":     {Revocation{Department: "police", Identity: "peer-tls"}, "cannot be replaced"},
		"not up":  {Revocation{Department: "police", Identity: "operator"}, "make up"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.Revoke(t.Context(), tc.r)
			wantProblem(t, err, tc.words)
		})
	}
}

// The certificate to revoke is noted once, so that an interrupted run revokes that one.
func TestMarkRevoked(t *testing.T) {
	l, def := rendered(t)
	o := &operation{Consortium: &Consortium{Layout: l}, def: def}
	dept := def.Departments[1]
	path, err := o.markRevoked(dept, "operator")
	if err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := identityNamed("operator")
	other, _ := selfSigned(t)
	if err := writeFile(l.Department(dept.Code, id.Cert), other, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := o.markRevoked(dept, "operator"); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(path); err != nil || string(again) != string(first) {
		t.Error("a second run marks another certificate")
	}
}
