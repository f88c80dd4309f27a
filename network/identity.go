package network

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
)

// Roles are the duties of people in a department. A certificate carries exactly one.
var Roles = []string{"admin", "auditor", "operator", "reviewer"}

// The two certificate authorities that one Fabric CA server runs: a TLS certificate
// must not pass for an enrolment, so they have different roots.
const (
	enrolmentCA = "ca"
	tlsCA       = "tlsca"
)

// registrar is the identity that revokes. Registries made before Fabric CA was built as
// it is now have one of another name, whose attributes are of no use; the authority adds
// this one at its next start.
const registrar = "ca-registrar"

// identity is one certificate of a department.
type identity struct {
	Name   string // in the registry of its CA
	Type   string // becomes the organisational unit: peer, orderer, client, admin or issuing
	Role   string // certificate attribute zhenglian.role, empty for nodes
	CA     string
	Secret string
	Cert   string // path below the department's folder
	Key    string
}

// identities lists everything a department enrols.
func identities() []identity {
	ids := []identity{
		{Name: "peer", Type: "peer", CA: enrolmentCA, Cert: "peer/msp/signcerts/cert.pem", Key: "peer/msp/keystore/key.pem"},
		{Name: "orderer", Type: "orderer", CA: enrolmentCA, Cert: "orderer/msp/signcerts/cert.pem", Key: "orderer/msp/keystore/key.pem"},
		{Name: "gateway", Type: "client", Role: "gateway", CA: enrolmentCA, Cert: "gateway/identity/cert.pem", Key: "gateway/identity/key.pem"},
		// A unit that no MSP knows: this key signs certificates for citizens, and the
		// channel must refuse it.
		{Name: "issuing", Type: "issuing", CA: enrolmentCA, Cert: "gateway/issuing/cert.pem", Key: "gateway/issuing/key.pem"},
		{Name: "peer-tls", Type: "peer", CA: tlsCA, Cert: "peer/tls/server.pem", Key: "peer/tls/server.key"},
		{Name: "orderer-tls", Type: "orderer", CA: tlsCA, Cert: "orderer/tls/server.pem", Key: "orderer/tls/server.key"},
		{Name: "chaincode-tls", Type: "client", CA: tlsCA, Cert: "chaincode/server.pem", Key: "chaincode/server.key"},
		{Name: "operations-tls", Type: "client", CA: tlsCA, Cert: "operations/client.pem", Key: "operations/client.key"},
	}
	for _, role := range Roles {
		kind := "client"
		if role == "admin" {
			kind = "admin" // so that the channel's Admins policies accept it
		}
		ids = append(ids, identity{
			Name: role, Type: kind, Role: role, CA: enrolmentCA,
			Cert: filepath.Join("users", role, "cert.pem"), Key: filepath.Join("users", role, "key.pem"),
		})
	}
	return ids
}

// secrets are the enrolment secrets of a department's CA server, by identity name. The
// registrar's is among them.
type secrets map[string]string

// loadSecrets reads the department's enrolment secrets, drawing those that are missing.
func (l Layout) loadSecrets(code string) (secrets, error) {
	path := l.Department(code, "ca", "secrets.json")
	s := secrets{}
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the enrolment secrets of %s: %w", code, err)
	}
	names := []string{registrar}
	for _, id := range identities() {
		names = append(names, id.Name)
	}
	for _, name := range names {
		if s[name] == "" {
			s[name] = randomText(24)
		}
	}
	return s, writeJSON(path, s)
}

// randomText returns n random bytes in base64url.
func randomText(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b)
}

// enrol fetches every certificate the department lacks from its CA server, which must
// be running. It returns how many it fetched.
func enrol(ctx context.Context, l Layout, def *Definition, dept Department) (int, error) {
	known, err := l.loadSecrets(dept.Code)
	if err != nil {
		return 0, err
	}
	fetched := 0
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	for _, id := range identities() {
		cert, key := l.Department(dept.Code, id.Cert), l.Department(dept.Code, id.Key)
		if _, err := tls.LoadX509KeyPair(cert, key); err == nil {
			continue // enrolled by an earlier up
		}
		fetched++
		id.Secret = known[id.Name]
		group.Go(func() error {
			if err := enrolOne(ctx, l, dept, id, cert, key); err != nil {
				return fmt.Errorf("enrol %s of %s: %w", id.Name, dept.Code, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return fetched, err
	}
	return fetched, assembleMSPs(l, def, dept)
}

func enrolOne(ctx context.Context, l Layout, dept Department, id identity, cert, key string) error {
	scratch := l.Department(dept.Code, "ca", "enrolling", id.Name)
	if err := os.RemoveAll(scratch); err != nil {
		return err
	}
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(scratch) }() // the next enrolment begins by removing it
	args := []string{
		"enroll", "--home", scratch, "--mspdir", "msp", "--caname", id.CA,
		"--tls.certfiles", l.Department(dept.Code, "ca", "ca-cert.pem"),
		"--csr.names", "C=CN,O=" + dept.Code,
	}
	if id.CA == tlsCA {
		args = append(args, "--enrollment.profile", "tls", "--csr.hosts", strings.Join(tlsHosts(dept), ","))
	}
	cmd := exec.CommandContext(ctx, l.Program("fabric-ca-client"), args...)
	// The secret goes through the environment: a command line is there for everyone to read.
	cmd.Env = append(cleanEnvironment(), fmt.Sprintf("FABRIC_CA_CLIENT_URL=https://%s:%s@%s", id.Name, id.Secret,
		net.JoinHostPort(dept.Host, strconv.Itoa(dept.Ports.CA))))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("fabric-ca-client: %w: %s", err, lastLine(out))
	}
	keys, err := filepath.Glob(filepath.Join(scratch, "msp", "keystore", "*_sk"))
	if err != nil || len(keys) != 1 {
		return fmt.Errorf("fabric-ca-client left %d keys, expected one", len(keys))
	}
	keyPEM, err := os.ReadFile(keys[0])
	if err != nil {
		return err
	}
	certPEM, err := os.ReadFile(filepath.Join(scratch, "msp", "signcerts", "cert.pem"))
	if err != nil {
		return err
	}
	if _, err := tls.X509KeyPair(certPEM, keyPEM); err != nil {
		return fmt.Errorf("fabric-ca-client left a certificate that does not match its key: %w", err)
	}
	if err := writeFile(key, keyPEM, 0o600); err != nil {
		return err
	}
	return writeFile(cert, certPEM, 0o644)
}

// tlsHosts are the names that a department's TLS certificates are valid for.
func tlsHosts(dept Department) []string {
	hosts := []string{"localhost", "127.0.0.1"}
	if dept.Host != "localhost" && dept.Host != "127.0.0.1" {
		hosts = append(hosts, dept.Host)
	}
	return hosts
}

// assembleMSPs adds to the enrolled certificates what Fabric's MSP folders need beside
// them: the roots and the switch that makes roles count.
func assembleMSPs(l Layout, def *Definition, dept Department) error {
	config, err := renderTemplate("msp-config.yaml.tmpl", l, def, dept, nil)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(l.Department(dept.Code, "ca", "ca-cert.pem"))
	if err != nil {
		return err
	}
	tlsRoot, err := os.ReadFile(l.Department(dept.Code, "ca", "tlsca", "ca-cert.pem"))
	if err != nil {
		return err
	}
	var errs []error
	put := func(data []byte, elem ...string) {
		errs = append(errs, writeFile(l.Department(dept.Code, elem...), data, 0o644))
	}
	for _, msp := range []string{"msp", "peer/msp", "orderer/msp"} {
		put(ca, msp, "cacerts", "ca.pem")
		put(tlsRoot, msp, "tlscacerts", "tlsca.pem")
		put(config, msp, "config.yaml")
	}
	put(tlsRoot, "peer", "tls", "ca.pem")
	put(tlsRoot, "orderer", "tls", "ca.pem")
	put(tlsRoot, "operations", "ca.pem")
	put(tlsRoot, "chaincode", "peer-ca.pem")
	return errors.Join(errs...)
}

// lastLine is the last line of a program's output that says something.
func lastLine(out []byte) string {
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	return strings.TrimSpace(string(lines[len(lines)-1]))
}
